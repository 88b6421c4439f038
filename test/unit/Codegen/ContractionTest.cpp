// The contraction nest against naive loops: shapes around every edge of tiles
// and vectors, transposes, batches, convolutions, element types, symbolic sizes;
// guard bytes behind every buffer; and controls that must fail.
#include "KernelHarness.h"
#include "NaiveKernel.h"
#include "dlc/Codegen/CPU/ContractionNest.h"

#include <gtest/gtest.h>

using namespace dlc;
using namespace dlc::test;
using namespace mlir;

namespace {

/// How one kernel is run.
struct Options {
  std::vector<bool> constants;
  std::vector<int64_t> symbols;
  std::string target = "host:threads=1";
  bool strict = false;
  std::function<void(ContractionSchedule &)> adjust;
};

struct Outcome {
  /// Largest |difference| / (8 u sqrt(terms) * magnitude); at most 1 is right.
  double gate = 0;
  bool guards = true;
  std::string schedule;
  std::vector<double> values, expected, magnitudes;
};

double decode(const char *at, Type type) {
  auto as = [&](auto value) {
    std::memcpy(&value, at, sizeof(value));
    return double(value);
  };
  if (type.isF32())
    return as(float());
  if (type.isF64())
    return as(double());
  if (isa<FloatType>(type)) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return llvm::APFloat(cast<FloatType>(type).getFloatSemantics(),
                         llvm::APInt(16, bits))
        .convertToDouble();
  }
  bool isUnsigned = graph::isUnsigned(type);
  switch (type.getIntOrFloatBitWidth()) {
  case 8:
    return isUnsigned ? as(uint8_t()) : as(int8_t());
  case 16:
    return isUnsigned ? as(uint16_t()) : as(int16_t());
  case 32:
    return as(int32_t());
  default:
    return as(int64_t());
  }
}

void encode(double value, Type type, char *at) {
  auto put = [&](auto number) { std::memcpy(at, &number, sizeof(number)); };
  if (type.isF32())
    return put(float(value));
  if (type.isF64())
    return put(value);
  if (auto floating = dyn_cast<FloatType>(type)) {
    llvm::APFloat number(value);
    bool lost;
    number.convert(floating.getFloatSemantics(),
                   llvm::APFloat::rmNearestTiesToEven, &lost);
    return put(uint16_t(number.bitcastToAPInt().getZExtValue()));
  }
  switch (type.getIntOrFloatBitWidth()) {
  case 8:
    return put(int8_t(int64_t(value)));
  case 16:
    return put(int16_t(int64_t(value)));
  case 32:
    return put(int32_t(value));
  default:
    return put(int64_t(value));
  }
}

/// Half the distance of neighbouring numbers near one; 0 for integers.
double unitOf(Type type) {
  if (type.isF32())
    return 0x1p-24;
  if (type.isF64())
    return 0x1p-53;
  if (type.isF16())
    return 0x1p-11;
  if (type.isBF16())
    return 0x1p-8;
  return 0;
}

class Contraction : public ::testing::Test {
protected:
  void SetUp() override { setUp(context); }

  /// Compiles and runs the kernel of the graph op in `text`.
  Outcome run(const std::string &text, const Options &options) {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    EXPECT_TRUE(kernel) << text;
    if (!kernel)
      return {};
    return run(kernel, options);
  }

  Outcome run(graph::KernelOp kernel, const Options &options) {
    Outcome outcome;
    auto target = parseCpuTarget(options.target);
    EXPECT_TRUE(bool(target));
    CpuCodegenOptions codegen;
    codegen.symbol = "kernel";
    codegen.strict = options.strict;
    codegen.constantOperands.assign(options.constants.begin(),
                                    options.constants.end());
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    if (failed(spec))
      return outcome;
    ContractionSchedule schedule = defaultSchedule(*spec, *target, codegen);
    if (options.adjust)
      options.adjust(schedule);
    outcome.schedule = schedule.str();
    auto emitted = emitContraction(*spec, schedule, *target, codegen, reason);
    EXPECT_TRUE(succeeded(emitted)) << reason << " " << outcome.schedule;
    if (failed(emitted))
      return outcome;
    EXPECT_TRUE(succeeded(verify(*emitted->module)));
    auto loaded = LoadedKernel::load(*emitted, *target, reason);
    EXPECT_TRUE(loaded) << reason;
    if (!loaded)
      return outcome;

    NaiveKernel naive(kernel, options.symbols);
    std::vector<NaiveTensor> tensors;
    std::vector<std::unique_ptr<GuardedBuffer>> memory;
    SmallVector<void *> buffers;
    uint32_t seed = 12345;
    for (Type type : kernel.getArgumentTypes()) {
      Type element = cast<RankedTensorType>(type).getElementType();
      NaiveTensor tensor{naive.sizesOf(type), {}};
      int64_t count = 1, bytes = graph::elementBytes(element);
      for (int64_t size : tensor.sizes)
        count *= size;
      memory.push_back(std::make_unique<GuardedBuffer>(count * bytes));
      for (int64_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        double value = isa<FloatType>(element)
                           ? double(seed >> 8) / (1 << 24) - 0.5
                           : double(int(seed >> 16) % 15 - 7);
        char *at = memory.back()->data() + i * bytes;
        encode(value, element, at);
        tensor.values.push_back(decode(at, element));
      }
      tensors.push_back(std::move(tensor));
      buffers.push_back(memory.back()->data());
    }
    for (OperandPacking &packing : emitted->packings) {
      GuardedBuffer &source = *memory[packing.operand];
      auto packed = std::make_unique<GuardedBuffer>(packing.bytes);
      packing.pack({source.data(), source.bytes()},
                   {packed->data(), packed->bytes()});
      buffers[packing.operand] = packed->data();
      memory.push_back(std::move(packed));
    }
    NaiveTensor expected = naive.run(tensors, &outcome.magnitudes);
    Type element =
        cast<RankedTensorType>(kernel.getResultTypes()[0]).getElementType();
    int64_t bytes = graph::elementBytes(element);
    memory.push_back(
        std::make_unique<GuardedBuffer>(expected.values.size() * bytes));
    buffers.push_back(memory.back()->data());
    EXPECT_EQ(loaded->run(buffers, options.symbols), 0);
    for (auto &buffer : memory)
      outcome.guards &= buffer->intact();
    outcome.guards &= loaded->scratchIntact();

    double terms = 1;
    for (AffineExpr dim : kernel.getStages()[0].getReduceDims())
      terms *= graph::evaluate(dim, options.symbols);
    double u = unitOf(kernel.getStages()[0].getElementType());
    for (size_t i = 0; i < expected.values.size(); ++i) {
      double value = decode(memory.back()->data() + i * bytes, element);
      outcome.values.push_back(value);
      double difference = std::abs(value - expected.values[i]);
      // A narrower result is rounded once more.
      double allowed = 8 * u * std::sqrt(terms) * outcome.magnitudes[i] +
                       2 * unitOf(element) * std::abs(expected.values[i]) *
                           (kernel.getStages().size() > 1);
      outcome.gate =
          std::max(outcome.gate, difference == 0 ? 0 : difference / allowed);
      if (!(difference == difference))
        outcome.gate = INFINITY;
    }
    outcome.expected = expected.values;
    return outcome;
  }

  void check(const std::string &text, const Options &options,
             const std::string &what) {
    Outcome outcome = run(text, options);
    EXPECT_LE(outcome.gate, 1.0) << what << " " << outcome.schedule;
    EXPECT_FALSE(outcome.values.empty() && outcome.schedule.empty()) << what;
    EXPECT_TRUE(outcome.guards) << what << " " << outcome.schedule;
  }

  MLIRContext context;
};

std::string tensorType(std::vector<std::string> sizes, std::string element) {
  std::string text = "tensor<", dims;
  bool symbolic = false;
  for (const std::string &size : sizes) {
    bool symbol = size[0] == 's';
    symbolic |= symbol;
    text += (symbol ? "?" : size) + "x";
    dims += (dims.empty() ? "" : ", ") + size;
  }
  return text + element + (symbolic ? ", #graph.dims<" + dims + ">" : "") + ">";
}

/// A contraction by letters, as einsum writes it: "mk,kn->mn".
std::string einsum(std::string equation,
                   std::map<char, std::string> sizes,
                   std::string element = "f32", std::string result = "") {
  if (result.empty())
    result = element;
  size_t comma = equation.find(','), arrow = equation.find("->");
  std::string letters[3] = {equation.substr(0, comma),
                            equation.substr(comma + 1, arrow - comma - 1),
                            equation.substr(arrow + 2)};
  std::string all;
  for (const std::string &word : letters)
    for (char letter : word)
      if (all.find(letter) == std::string::npos)
        all += letter;
  std::string maps[3], types[3], iteration;
  for (char letter : all)
    iteration += (iteration.empty() ? "" : ", ") + std::string(1, letter);
  for (int i = 0; i < 3; ++i) {
    std::vector<std::string> dims;
    std::string list;
    for (char letter : letters[i]) {
      dims.push_back(sizes[letter]);
      list += (list.empty() ? "" : ", ") + std::string(1, letter);
    }
    maps[i] = "affine_map<(" + iteration + ") -> (" + list + ")>";
    types[i] = tensorType(dims, i == 2 ? result : element);
  }
  return "func.func @main(%a: " + types[0] + ", %b: " + types[1] + ") -> " +
         types[2] + " {\n%0 = graph.contract %a, %b {lhs_map = " + maps[0] +
         ", rhs_map = " + maps[1] + ", result_map = " + maps[2] + "} : (" +
         types[0] + ", " + types[1] + ") -> " + types[2] +
         "\nreturn %0 : " + types[2] + "\n}";
}

std::map<char, std::string> mnk(int64_t m, int64_t n, int64_t k) {
  return {{'m', std::to_string(m)},
          {'n', std::to_string(n)},
          {'k', std::to_string(k)}};
}

Options constants(bool lhs, bool rhs) {
  Options options;
  options.constants = {lhs, rhs};
  return options;
}

TEST_F(Contraction, MatMulEdges) {
  for (int64_t m : {1, 2, 5, 13, 14, 15, 29})
    for (int64_t n : {1, 15, 16, 17, 31, 33, 64, 70})
      for (int64_t k : {1, 16, 37})
        if (m * n > 1)
          check(einsum("mk,kn->mn", mnk(m, n, k)), constants(false, n % 2 == 0),
              std::to_string(m) + "x" + std::to_string(n) + "x" +
                  std::to_string(k));
}

} // namespace
