// Runs one kernel on the contraction nest against naive loops: what the tests
// of the nest share.
#ifndef DLC_TEST_UNIT_CODEGEN_CONTRACTIONFIXTURE_H
#define DLC_TEST_UNIT_CODEGEN_CONTRACTIONFIXTURE_H

#include "CrossKernel.h"
#include "KernelHarness.h"
#include "KernelText.h"
#include "NaiveKernel.h"
#include "dlc/Codegen/CPU/ContractionNest.h"

#include <gtest/gtest.h>

namespace dlc::test {

/// How one kernel is run.
struct Options {
  std::vector<bool> constants;
  std::vector<int64_t> symbols;
  std::string target = "host:threads=1";
  bool strict = false;
  std::optional<SizeRange> rows; ///< the variant that is made
  std::optional<ProductForm> form;
  std::function<void(ContractionSchedule &)> adjust;
  /// The value of an operand's element; none: random, bytes of the whole range
  /// where `allBytes`.
  std::function<double(unsigned operand, int64_t element)> value;
  bool allBytes = false;
};

struct Outcome {
  /// Largest |difference| / (8 u sqrt(terms) * magnitude); at most 1 is right.
  double gate = 0;
  bool guards = true;
  std::string schedule;
  std::vector<double> values, expected, magnitudes;
};

inline double decode(const char *at, mlir::Type type) {
  auto as = [&](auto value) {
    std::memcpy(&value, at, sizeof(value));
    return double(value);
  };
  if (type.isF32())
    return as(float());
  if (type.isF64())
    return as(double());
  if (llvm::isa<mlir::FloatType>(type)) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return llvm::APFloat(llvm::cast<mlir::FloatType>(type).getFloatSemantics(),
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

inline void encode(double value, mlir::Type type, char *at) {
  auto put = [&](auto number) { std::memcpy(at, &number, sizeof(number)); };
  if (type.isF32())
    return put(float(value));
  if (type.isF64())
    return put(value);
  if (auto floating = llvm::dyn_cast<mlir::FloatType>(type)) {
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
inline double unitOf(mlir::Type type) {
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
    mlir::OwningOpRef<mlir::ModuleOp> module;
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
    EXPECT_TRUE(mlir::succeeded(spec)) << reason;
    if (mlir::failed(spec))
      return outcome;
    ContractionSchedule schedule =
        options.form ? defaultSchedule(*spec, *target, codegen, options.rows,
                                       *options.form)
                     : defaultSchedule(*spec, *target, codegen, options.rows);
    if (options.adjust)
      options.adjust(schedule);
    outcome.schedule = schedule.str();
    auto emitted = emitContraction(*spec, schedule, *target, codegen, reason);
    EXPECT_TRUE(mlir::succeeded(emitted)) << reason << " " << outcome.schedule;
    if (mlir::failed(emitted))
      return outcome;
    EXPECT_TRUE(mlir::succeeded(mlir::verify(*emitted->module)));
    bool isArm = target->desc().arch == "arm";
    std::unique_ptr<LoadedKernel> loaded;
    if (!isArm) {
      loaded = LoadedKernel::load(*emitted, *target, reason);
      EXPECT_TRUE(loaded) << reason;
      if (!loaded)
        return outcome;
    }

    NaiveKernel naive(kernel, options.symbols);
    std::vector<NaiveTensor> tensors;
    std::vector<std::unique_ptr<GuardedBuffer>> memory;
    llvm::SmallVector<GuardedBuffer *> buffers;
    uint32_t seed = 12345;
    for (auto [operand, type] : llvm::enumerate(kernel.getArgumentTypes())) {
      mlir::Type element =
          llvm::cast<mlir::RankedTensorType>(type).getElementType();
      NaiveTensor tensor{naive.sizesOf(type), {}};
      int64_t count = 1, bytes = graph::elementBytes(element);
      for (int64_t size : tensor.sizes)
        count *= size;
      memory.push_back(std::make_unique<GuardedBuffer>(count * bytes));
      for (int64_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        double value = llvm::isa<mlir::FloatType>(element)
                           ? double(seed >> 8) / (1 << 24) - 0.5
                       : options.allBytes ? double(int8_t(seed >> 16))
                                          : double(int(seed >> 16) % 15 - 7);
        if (options.value)
          value = options.value(operand, i);
        char *at = memory.back()->data() + i * bytes;
        encode(value, element, at);
        tensor.values.push_back(decode(at, element));
      }
      tensors.push_back(std::move(tensor));
      buffers.push_back(memory.back().get());
    }
    for (OperandPacking &packing : emitted->packings) {
      GuardedBuffer &source = *memory[packing.operand];
      auto packed = std::make_unique<GuardedBuffer>(packing.bytes);
      packing.pack({source.data(), source.bytes()},
                   {packed->data(), packed->bytes()});
      buffers[packing.operand] = packed.get();
      memory.push_back(std::move(packed));
    }
    NaiveTensor expected = naive.run(tensors, &outcome.magnitudes);
    mlir::Type element =
        llvm::cast<mlir::RankedTensorType>(kernel.getResultTypes()[0])
            .getElementType();
    int64_t bytes = graph::elementBytes(element);
    memory.push_back(
        std::make_unique<GuardedBuffer>(expected.values.size() * bytes));
    buffers.push_back(memory.back().get());
    if (isArm) {
      EXPECT_EQ(runOnArm(*emitted, *target, buffers, options.symbols), "");
    } else {
      llvm::SmallVector<void *> pointers;
      for (GuardedBuffer *buffer : buffers)
        pointers.push_back(buffer->data());
      EXPECT_EQ(loaded->run(pointers, options.symbols), 0);
      outcome.guards &= loaded->scratchIntact();
    }
    for (auto &buffer : memory)
      outcome.guards &= buffer->intact();
    double terms = 1;
    for (mlir::AffineExpr dim : kernel.getStages()[0].getReduceDims())
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

  mlir::MLIRContext context;
};

inline std::map<char, std::string> mnk(int64_t m, int64_t n, int64_t k) {
  return {{'m', std::to_string(m)},
          {'n', std::to_string(n)},
          {'k', std::to_string(k)}};
}

inline Options constants(bool lhs, bool rhs) {
  Options options;
  options.constants = {lhs, rhs};
  return options;
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_CONTRACTIONFIXTURE_H
