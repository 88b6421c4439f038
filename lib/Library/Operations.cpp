// What all kinds share: the table of kinds, the builder, steps behind a
// product.
#include "Operations.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

static const StringRef floats[] = {"f32", "f16", "bf16"};
static const StringRef matmulKeys[] = {"layouts", "batched", "packed",
                                       "epilogue"};
static const StringRef groupedKeys[] = {"layouts", "packed", "epilogue"};
static const StringRef quantizedKeys[] = {"weights", "activations", "block",
                                          "zero_points", "epilogue"};
static const StringRef attentionKeys[] = {"phase", "layout", "mask", "scale"};
static const StringRef ropeKeys[] = {"layout", "interleaved"};
static const StringRef normKeys[] = {"epsilon", "residual"};
static const StringRef convKeys[] = {"kernel",    "strides", "pads",
                                     "dilations", "groups",  "epilogue"};
static const StringRef elementwiseKeys[] = {"expression", "inputs", "shape"};

ArrayRef<Kind> dlc::library::getKinds() {
  static const Kind kinds[] = {
      {"matmul", matmulKeys, floats, makeMatmul},
      {"grouped_matmul", groupedKeys, floats, makeGroupedMatmul},
      {"quantized_matmul", quantizedKeys, floats, makeQuantizedMatmul},
      {"attention", attentionKeys, floats, makeAttention},
      {"rope", ropeKeys, floats, makeRope},
      {"softmax", {}, floats, makeSoftmax},
      {"layer_norm", normKeys, floats, makeLayerNorm},
      {"rms_norm", normKeys, floats, makeRmsNorm},
      {"conv", convKeys, floats, makeConv},
      {"elementwise", elementwiseKeys, floats, makeElementwise},
  };
  return kinds;
}

//===----------------------------------------------------------------------===//
// Builder
//===----------------------------------------------------------------------===//

OperationBuilder::OperationBuilder(const Entry &entry, std::string name,
                                   StringRef kind)
    : entry(entry), type(entry.type) {
  op.name = entry.json.getString("name", name) + "_" + type.name;
  op.kind = kind.str();
  op.type = type.name;
}

unsigned OperationBuilder::dim(std::string name, bool mustBeFixed,
                               int64_t typical) {
  Dim dim;
  dim.name = std::move(name);
  dim.mustBeFixed = mustBeFixed;
  dim.range.typical = typical;
  op.dims.push_back(std::move(dim));
  return op.dims.size() - 1;
}

Extent OperationBuilder::operator[](StringRef name) const {
  for (auto [i, dim] : llvm::enumerate(op.dims))
    if (dim.name == name)
      return {static_cast<int>(i), 0, 1, 1};
  llvm_unreachable("a builder names a dim it has");
}

void OperationBuilder::input(std::string name, const ElementType &type,
                             std::vector<Extent> extents) {
  op.tensors.push_back({std::move(name), &type, std::move(extents), false});
}

void OperationBuilder::output(std::string name, const ElementType &type,
                              std::vector<Extent> extents) {
  op.tensors.push_back({std::move(name), &type, std::move(extents), true});
}

Operation OperationBuilder::take(std::string text, Body body) {
  op.text = std::move(text);
  op.attributes = attributes.dump();
  op.segments = segments;
  // One segment: without the ends, and without the axis of the segments.
  std::vector<Tensor> tensors;
  for (auto [i, tensor] : llvm::enumerate(op.tensors)) {
    if (segments && i == segments->offsets)
      continue;
    tensors.push_back(tensor);
    if (segments && segments->kinds[i] == 2)
      tensors.back().extents.erase(tensors.back().extents.begin());
  }
  for (auto [i, tensor] : llvm::enumerate(op.tensors))
    if (!packed.empty() && tensor.name == packed) {
      op.packed = Packed{static_cast<unsigned>(i), tensor};
      tensor.type = findType("u8");
      tensor.extents = {constant(1)}; // its _size function tells how many
    }
  op.makeModel = [name = op.name, tensors, dims = op.dims, packed = packed,
                  body](ArrayRef<Range> ranges, bool packs) {
    ModelWriter writer(name);
    for (const Tensor &tensor : tensors)
      if (packs && tensor.name == packed)
        writer.declareConstant(tensor, ranges);
      else
        writer.declare(tensor, dims, ranges);
    body(writer, ranges);
    return writer.str();
  };
  return std::move(op);
}

//===----------------------------------------------------------------------===//
// Steps behind a product
//===----------------------------------------------------------------------===//

static const StringRef activationNames[] = {"relu", "gelu",    "gelu_tanh",
                                            "silu", "sigmoid", "tanh"};
const ArrayRef<StringRef> dlc::library::activations = activationNames;

std::string dlc::library::emitActivation(ModelWriter &w, StringRef name,
                                         const std::string &value) {
  if (name == "relu")
    return w.add("Relu", {value});
  if (name == "gelu")
    return w.add("Gelu", {value});
  if (name == "gelu_tanh")
    return w.add("Gelu", {value}, {{"approximate", std::string("tanh")}});
  if (name == "silu")
    return w.add("Swish", {value});
  if (name == "sigmoid")
    return w.add("Sigmoid", {value});
  return w.add("Tanh", {value});
}

Epilogue Epilogue::read(const Entry &entry) {
  static const StringRef steps[] = {"bias",      "relu",     "gelu",
                                    "gelu_tanh", "silu",     "sigmoid",
                                    "tanh",      "residual", "multiply"};
  Epilogue epilogue{entry.json.getStrings("epilogue", {}, steps)};
  for (StringRef tensor : {"bias", "residual", "multiply"})
    if (llvm::count(epilogue.steps, tensor) > 1)
      entry.json.fail("epilogue", "'" + tensor.str() + "' is given twice");
  return epilogue;
}

std::string Epilogue::suffix() const {
  std::string text;
  for (const std::string &step : steps)
    text += "_" + step;
  return text;
}

std::string Epilogue::text(std::string inner) const {
  for (const std::string &step : steps)
    inner = step == "bias" || step == "residual" ? inner + " + " + step
            : step == "multiply"                 ? "(" + inner + ") * multiply"
                                                 : step + "(" + inner + ")";
  return inner;
}

void Epilogue::declare(OperationBuilder &b,
                       const std::vector<Extent> &result) const {
  for (const std::string &step : steps) {
    if (step == "bias")
      b.input("bias", b.type, {result.back()});
    else if (step == "residual" || step == "multiply")
      b.input(step, b.type, result);
  }
  Json list = Json::array();
  for (const std::string &step : steps)
    list.push_back(step);
  b.setAttribute("epilogue", list);
}

std::string Epilogue::emit(ModelWriter &w, std::string value) const {
  for (const std::string &step : steps)
    value = step == "bias" || step == "residual" ? w.add("Add", {value, step})
            : step == "multiply" ? w.add("Mul", {value, step})
                                 : emitActivation(w, step, value);
  return value;
}
