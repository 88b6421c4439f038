// Matrix products: plain, batched, of segments, of quantised weights; and
// convolution.
#include "Operations.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

static const StringRef layouts[] = {"nn", "nt", "tn"};

// x * y with the layout's transpositions; matrices, or with `batched` one more
// axis in front.
static std::string emitProduct(ModelWriter &w, StringRef layout, bool batched,
                               const std::string &x, const std::string &y) {
  if (layout == "nn")
    return w.add("MatMul", {x, y});
  bool left = layout == "tn";
  if (!batched)
    return w.add("Gemm", {x, y}, {{left ? "transA" : "transB", int64_t(1)}});
  std::vector<int64_t> perm{0, 2, 1};
  std::string turned = w.add("Transpose", {left ? x : y}, {{"perm", perm}});
  return w.add("MatMul", {left ? turned : x, left ? y : turned});
}

static std::string productText(StringRef layout) {
  return layout == "nn" ? "a * b" : layout == "nt" ? "a * b'" : "a' * b";
}

// One layout of a product; with `packed` b is packed before, which wants its
// sizes known.
static Operation makeProduct(const Entry &entry, const std::string &layout,
                             bool batched, bool packed) {
  Epilogue epilogue = Epilogue::read(entry);
  OperationBuilder b(entry,
                     (batched ? "batched_matmul_" : "matmul_") + layout +
                         epilogue.suffix() + (packed ? "_packed" : ""),
                     "matmul");
  if (batched)
    b.dim("batch", false, 8);
  Dim &rows = b.op.dims[b.dim("m")];
  rows.special = {{1, 1, 1}};
  // Few rows read b where it lies, more want it copied.
  if (layout == "nn" && !packed && StringRef(b.type.name) != "bf16")
    rows.special.push_back({2, 32, 16});
  b.dim("n", packed, 1024);
  b.dim("k", packed, 1024);
  auto shape = [&](StringRef rows, StringRef columns) {
    std::vector<Extent> extents{b[rows], b[columns]};
    if (batched)
      extents.insert(extents.begin(), b["batch"]);
    return extents;
  };
  b.input("a", b.type, layout == "tn" ? shape("k", "m") : shape("m", "k"));
  b.input("b", b.type, layout == "nt" ? shape("n", "k") : shape("k", "n"));
  epilogue.declare(b, shape("m", "n"));
  b.output("c", b.type, shape("m", "n"));
  b.setAttribute("layout", layout);
  if (packed)
    b.packed = "b";
  return b.take(
      "c = " + epilogue.text(productText(layout)) +
          (packed ? ", b packed before" : ""),
      [layout, batched, epilogue](ModelWriter &w, ArrayRef<Range>) {
        w.finish(epilogue.emit(w, emitProduct(w, layout, batched, "a", "b")),
                 "c");
      });
}

std::vector<Operation> dlc::library::makeMatmul(const Entry &entry) {
  std::vector<Operation> ops;
  bool batched = entry.json.getBool("batched", false);
  bool packed = entry.json.getBool("packed", false);
  if (batched && packed)
    entry.json.fail("packed", "is for single products; expected no 'batched'");
  auto wanted = entry.json.getStrings("layouts", {"nn"}, layouts);
  if (wanted.size() > 1 && entry.json.has("name"))
    entry.json.fail("name", "one name for several layouts; give each layout "
                            "an entry of its own");
  for (const std::string &layout : wanted)
    ops.push_back(makeProduct(entry, layout, batched, packed));
  return ops;
}

std::vector<Operation> dlc::library::makeGroupedMatmul(const Entry &entry) {
  std::vector<Operation> ops;
  Epilogue epilogue = Epilogue::read(entry);
  bool packed = entry.json.getBool("packed", false);
  static const StringRef own[] = {"nn", "nt"};
  for (const std::string &layout :
       entry.json.getStrings("layouts", {"nt"}, own)) {
    OperationBuilder b(entry,
                       "grouped_matmul_" + layout + epilogue.suffix() +
                           (packed ? "_packed" : ""),
                       "grouped_matmul");
    b.dim("groups", false, 8);
    b.dim("rows", false, 256);
    b.dim("n", packed, 1024);
    b.dim("k", packed, 1024);
    b.input("a", b.type, {b["rows"], b["k"]});
    if (layout == "nt")
      b.input("b", b.type, {b["groups"], b["n"], b["k"]});
    else
      b.input("b", b.type, {b["groups"], b["k"], b["n"]});
    Extent ends = b["groups"];
    ends.offset = 1;
    b.input("offsets", *findType("i64"), {ends});
    Segments segments;
    segments.rows = 1;
    segments.groups = 0;
    segments.offsets = 2;
    segments.kinds = {1, 2, 0};
    for (const std::string &step : epilogue.steps) {
      if (step == "bias") { // a row of its own for each segment
        b.input("bias", b.type, {b["groups"], b["n"]});
        segments.kinds.push_back(2);
      } else if (step == "residual" || step == "multiply") {
        b.input(step, b.type, {b["rows"], b["n"]});
        segments.kinds.push_back(1);
      }
    }
    b.output("c", b.type, {b["rows"], b["n"]});
    segments.kinds.push_back(1);
    b.segments = segments;
    if (packed)
      b.packed = "b";
    b.setAttribute("layout", layout);
    Json steps = Json::array();
    for (const std::string &step : epilogue.steps)
      steps.push_back(step);
    b.setAttribute("epilogue", steps);
    ops.push_back(b.take(
        "rows offsets[g] .. offsets[g + 1] - 1 of c = " +
            epilogue.text(layout == "nt" ? "a * b[g]'" : "a * b[g]") +
            " of the same rows of a" + (packed ? ", b packed before" : ""),
        [layout, epilogue](ModelWriter &w, ArrayRef<Range>) {
          w.finish(epilogue.emit(w, emitProduct(w, layout, false, "a", "b")),
                   "c");
        }));
  }
  return ops;
}

// One row times weights of few bits, as a sum over bytes as they lie: both
// halves of a byte at once, so that nothing is unpacked before. Blocks fill k.
static std::string emitBlockRow(ModelWriter &w, const ElementType &type,
                                int64_t bits, int64_t n, int64_t blocks,
                                int64_t block) {
  const ElementType &f32 = *findType("f32");
  auto wide = [&](const std::string &x) {
    return type.onnx == f32.onnx ? x : w.cast(x, f32);
  };
  std::string zero = w.scalar(1 << (bits - 1), f32);
  int64_t each = 8 / bits; // numbers of a byte
  std::string a =
      wide(w.add("Reshape", {"a", w.integers({blocks, block / each, each})}));
  auto product = [&](const std::string &codes, int64_t part) {
    std::string numbers = w.add("Sub", {w.cast(codes, f32), zero});
    return w.add("Mul", {numbers, w.add("Gather", {a, w.integer(part)},
                                        {{"axis", int64_t(2)}})});
  };
  std::string terms;
  if (bits == 8)
    terms = product("b", 0);
  else
    terms = w.add("Add", {product(w.add("BitwiseAnd", {"b", w.byte(15)}), 0),
                          product(w.add("BitShift", {"b", w.byte(4)},
                                        {{"direction", std::string("RIGHT")}}),
                                  1)});
  std::string scales = w.add("Unsqueeze", {wide("scales"), w.integers({2})});
  std::string sum =
      w.add("ReduceSum", {w.add("Mul", {terms, scales}), w.integers({1, 2})},
            {{"keepdims", int64_t(0)}});
  sum = w.add("Reshape", {sum, w.integers({1, n})});
  return type.onnx == f32.onnx ? sum : w.cast(sum, type);
}

// Weights of few bits in blocks, beside floats: onnxruntime's MatMulNBits.
static Operation makeBlockQuantized(const Entry &entry, int64_t bits) {
  Epilogue epilogue = Epilogue::read(entry);
  int64_t block = entry.json.getInt("block", 32, 16, 256);
  if (block & (block - 1)) {
    entry.json.fail("block", "is " + std::to_string(block) +
                                 "; expected a power of two from 16 to 256");
    block = 32;
  }
  bool zeros = entry.json.getBool("zero_points", false);
  OperationBuilder b(entry,
                     "matmul_w" + std::to_string(bits) + epilogue.suffix(),
                     "quantized_matmul");
  b.op.dims[b.dim("m")].special = {{1, 1, 1}};
  unsigned n = b.dim("n", true, 4096), k = b.dim("k", true, 4096);
  Extent blocks = b["k"];
  blocks.offset = block - 1;
  blocks.divisor = block;
  b.input("a", b.type, {b["m"], b["k"]});
  b.input("b", *findType("u8"),
          {b["n"], blocks, OperationBuilder::constant(block * bits / 8)});
  b.input("scales", b.type, {b["n"], blocks});
  if (zeros) {
    // Bytes that hold a number of `bits` bits a block.
    Extent bytes = b["k"];
    bytes.offset = block * (8 / bits) - 1;
    bytes.divisor = block * (8 / bits);
    b.input("zero_points", *findType("u8"), {b["n"], bytes});
  }
  epilogue.declare(b, {b["m"], b["n"]});
  b.output("c", b.type, {b["m"], b["n"]});
  const ElementType *type = &b.type;
  b.setAttribute("bits", bits);
  b.setAttribute("block", block);
  b.setAttribute("zero_points", zeros);
  return b.take(
      "c = " + epilogue.text("a * w'") + ", w[n, k] = (number of b - " +
          (zeros ? "zero point" : std::to_string(1 << (bits - 1))) +
          ") * scales, blocks of " + std::to_string(block) + " along k" +
          (bits == 4 ? ", low half of a byte first" : ""),
      [=](ModelWriter &w, ArrayRef<Range> ranges) {
        const Range &m = ranges[0];
        if (m.isFixed() && m.min == 1 && !zeros && ranges[k].min % block == 0) {
          w.finish(epilogue.emit(w, emitBlockRow(w, *type, bits, ranges[n].min,
                                                 ranges[k].min / block, block)),
                   "c");
          return;
        }
        std::vector<std::string> inputs{"a", "b", "scales"};
        if (zeros)
          inputs.push_back("zero_points");
        w.finish(epilogue.emit(w, w.add("MatMulNBits", inputs,
                                        {{"N", ranges[n].min},
                                         {"K", ranges[k].min},
                                         {"bits", bits},
                                         {"block_size", block}},
                                        "com.microsoft")),
                 "c");
      });
}

// Bytes times bytes, exactly, then a scale a row and a scale a column.
static Operation makeByteProduct(const Entry &entry) {
  Epilogue epilogue = Epilogue::read(entry);
  OperationBuilder b(entry, "matmul_w8a8" + epilogue.suffix(),
                     "quantized_matmul");
  b.dim("m");
  b.dim("n", false, 1024);
  b.dim("k", false, 1024);
  const ElementType &i8 = *findType("i8"), &f32 = *findType("f32");
  b.input("a", i8, {b["m"], b["k"]});
  b.input("a_scales", f32, {b["m"]});
  b.input("b", i8, {b["n"], b["k"]});
  b.input("b_scales", f32, {b["n"]});
  epilogue.declare(b, {b["m"], b["n"]});
  b.output("c", b.type, {b["m"], b["n"]});
  b.setAttribute("bits", 8);
  b.setAttribute("activations", "i8");
  const ElementType *type = &b.type;
  return b.take(
      "c = " + epilogue.text("(a * b') * a_scales[m] * b_scales[n]"),
      [epilogue, type](ModelWriter &w, ArrayRef<Range>) {
        const ElementType &f32 = *findType("f32");
        std::vector<int64_t> perm{1, 0};
        std::string turned = w.add("Transpose", {"b"}, {{"perm", perm}});
        std::string sum = w.cast(w.add("MatMulInteger", {"a", turned}), f32);
        std::string rows = w.add("Unsqueeze", {"a_scales", w.integers({1})});
        std::string value =
            w.add("Mul", {w.add("Mul", {sum, rows}), "b_scales"});
        if (type->onnx != f32.onnx)
          value = w.cast(value, *type);
        w.finish(epilogue.emit(w, value), "c");
      });
}

std::vector<Operation> dlc::library::makeQuantizedMatmul(const Entry &entry) {
  static const StringRef weights[] = {"i4", "i8"}, inputs[] = {"float", "i8"};
  std::string bits = entry.json.getString("weights", "i4", weights);
  bool bytes = entry.json.getString("activations", "float", inputs) == "i8";
  if (!bytes)
    return {makeBlockQuantized(entry, bits == "i4" ? 4 : 8)};
  if (bits != "i8")
    entry.json.fail("weights", "i4 weights go with float activations; expected "
                               "i8 beside activations of i8");
  for (StringRef key : {"block", "zero_points"})
    if (entry.json.has(key))
      entry.json.fail(key, "is for weights beside float activations");
  return {makeByteProduct(entry)};
}

std::vector<Operation> dlc::library::makeConv(const Entry &entry) {
  Epilogue epilogue = Epilogue::read(entry);
  auto kernel = entry.json.getInts("kernel", {3, 3}, 1, 1024);
  auto strides = entry.json.getInts("strides", {1, 1}, 1, 1024);
  auto pads = entry.json.getInts("pads", {0, 0, 0, 0}, 0, 1024);
  auto dilations = entry.json.getInts("dilations", {1, 1}, 1, 1024);
  int64_t groups = entry.json.getInt("groups", 1, 1, 65536);
  // The kernel's sizes are in the name: they are part of the contract.
  OperationBuilder b(entry,
                     "conv_" + std::to_string(kernel[0]) + "x" +
                         std::to_string(kernel[1]) + epilogue.suffix(),
                     "conv");
  b.dim("batch", false, 1);
  b.dim("channels", true, 64);
  b.dim("height", false, 56);
  b.dim("width", false, 56);
  b.dim("filters", true, 64);
  auto size = [&](StringRef name, int axis) {
    int64_t reach = (kernel[axis] - 1) * dilations[axis] + 1;
    Extent extent = b[name];
    extent.offset = pads[axis] + pads[axis + 2] - reach + strides[axis];
    extent.divisor = strides[axis];
    return extent;
  };
  Extent inner = b["channels"];
  inner.divisor = groups;
  std::vector<Extent> result{b["batch"], b["filters"], size("height", 0),
                             size("width", 1)};
  b.input("x", b.type, {b["batch"], b["channels"], b["height"], b["width"]});
  b.input("w", b.type,
          {b["filters"], inner, OperationBuilder::constant(kernel[0]),
           OperationBuilder::constant(kernel[1])});
  // A bias belongs to the filters, which are not the last axis.
  Epilogue rest = epilogue;
  bool hasBias = !rest.steps.empty() && rest.steps.front() == "bias";
  if (hasBias) {
    b.input("bias", b.type, {b["filters"]});
    rest.steps.erase(rest.steps.begin());
  }
  for (const std::string &step : rest.steps)
    if (step == "bias")
      entry.json.fail("epilogue",
                      "the bias of a convolution comes first in the list");
  rest.declare(b, result);
  b.output("y", b.type, result);
  b.op.checkSizes = [groups](ArrayRef<Range> ranges) -> std::string {
    for (unsigned i : {1u, 4u})
      if (ranges[i].min % groups)
        return std::to_string(ranges[i].min) +
               (i == 1 ? " channels" : " filters") + " are no multiple of " +
               std::to_string(groups) + " groups";
    return "";
  };
  b.setAttribute("kernel", kernel);
  b.setAttribute("strides", strides);
  b.setAttribute("pads", pads);
  b.setAttribute("dilations", dilations);
  b.setAttribute("groups", groups);
  Json steps = Json::array();
  for (const std::string &step : epilogue.steps)
    steps.push_back(step);
  b.setAttribute("epilogue", steps);
  return {b.take("y = " + epilogue.text("convolution of x with w"),
                 [=](ModelWriter &w, ArrayRef<Range>) {
                   std::vector<std::string> inputs{"x", "w"};
                   if (hasBias)
                     inputs.push_back("bias");
                   w.finish(rest.emit(w, w.add("Conv", inputs,
                                               {{"kernel_shape", kernel},
                                                {"strides", strides},
                                                {"pads", pads},
                                                {"dilations", dilations},
                                                {"group", groups}})),
                            "y");
                 })};
}
