// Prints the speed of the loop nests on one thread: milliseconds, GB/s of
// operands and results, G scalar operations a second. Not a test.
//
//   nest-bench [filter] [target] [-asm]
#include "../../Codegen/KernelHarness.h"

#include "dlc/Codegen/CPU/LoopNest.h"

#include "mlir/IR/BuiltinTypes.h"

#include <cstdio>

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
struct Case {
  const char *name, *op, *attributes;
  std::vector<const char *> types;
  const char *result;
  double operations; ///< for the last column
};
} // namespace

static int64_t bytesOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.getNumElements() * graph::elementBytes(tensor.getElementType());
}

static void run(MLIRContext &context, const Case &c, const CpuTarget &target,
                bool printAsm) {
  std::string arguments, operands, signature;
  for (auto [i, type] : llvm::enumerate(c.types)) {
    std::string comma = i ? ", " : "", n = std::to_string(i);
    arguments += comma + "%a" + n + ": " + type;
    operands += comma + "%a" + n;
    signature += comma + type;
  }
  std::string text =
      "func.func @main(" + arguments + ") {\n %r = \"graph." + c.op + "\"(" +
      operands + ") " +
      (*c.attributes ? "<{" + std::string(c.attributes) + "}>" : "") + " : (" +
      signature + ") -> " + c.result + "\n return\n}\n";
  OwningOpRef<ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, text);
  if (!kernel) {
    std::printf("%-24s does not parse\n", c.name);
    return;
  }
  CpuCodegenOptions options;
  options.symbol = "k";
  auto code = emitLoopNest(kernel, target, options);
  if (failed(code))
    return;
  std::string error;
  if (printAsm) {
    auto assembly = compileModule(*code->module, target, /*assembly=*/true);
    std::printf("%.*s\n", int(assembly->size()), assembly->data());
    code = emitLoopNest(kernel, target, options);
  }
  auto loaded = LoadedKernel::load(*code, target, error);
  if (!loaded) {
    std::printf("%-24s %s\n", c.name, error.c_str());
    return;
  }
  std::vector<std::unique_ptr<GuardedBuffer>> buffers;
  SmallVector<void *> pointers;
  int64_t bytes = 0;
  SmallVector<Type> types(kernel.getArgumentTypes());
  types.append(kernel.getResultTypes().begin(), kernel.getResultTypes().end());
  for (Type type : types) {
    bytes += bytesOf(type);
    buffers.push_back(std::make_unique<GuardedBuffer>(bytesOf(type)));
    pointers.push_back(buffers.back()->data());
    if (cast<RankedTensorType>(type).getElementType().isF32())
      for (int64_t i = 0; i < bytesOf(type) / 4; ++i)
        buffers.back()->as<float>()[i] = (i * 37 % 101) * 0.01f;
    else
      std::memset(pointers.back(), 0, bytesOf(type));
  }
  double best = 1e9, spent = 0;
  for (int i = 0; i < 1000 && spent < 0.15; ++i) {
    auto start = std::chrono::steady_clock::now();
    loaded->run(pointers, {});
    double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    best = std::min(best, seconds);
    spent += seconds;
  }
  std::printf("%-24s %9.4f ms %8.1f GB/s %8.1f Gop/s   compiled in %3.0f ms\n",
              c.name, best * 1e3, bytes / best / 1e9, c.operations / best / 1e9,
              loaded->compileSeconds * 1e3);
}

int main(int argc, char **argv) {
  std::string filter = argc > 1 ? argv[1] : "";
  std::string name = argc > 2 ? argv[2] : "x86:cpu=host";
  MLIRContext context;
  setUp(context);
  auto target = parseCpuTarget(name);
  if (!target) {
    std::printf("%s\n", llvm::toString(target.takeError()).c_str());
    return 1;
  }
  const double m = 1 << 20;
  const char *big = "tensor<1024x1024xf32>", *half = "tensor<1024x1024xf16>";
  const char *sum0 = "kind = #graph<fold add>, axes = array<i64: 0>";
  const char *sum1 = "kind = #graph<fold add>, axes = array<i64: 1>";
  const char *pool33 =
      "kind = #graph<pool max>, kernel = array<i64: 3, 3>, strides = "
      "array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads_low = array<i64: "
      "1, 1>, pads_high = array<i64: 1, 1>";
  const char *depthwise =
      "strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads_low = "
      "array<i64: 1, 1>, pads_high = array<i64: 1, 1>, group = 144 : i64, "
      "operandSegmentSizes = array<i32: 1, 1, 0, 0>";
  const char *depthwise512 =
      "strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads_low = "
      "array<i64: 1, 1>, pads_high = array<i64: 1, 1>, group = 512 : i64, "
      "operandSegmentSizes = array<i32: 1, 1, 0, 0>";
  const char *depthwise2 =
      "strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads_low = "
      "array<i64: 1, 1>, pads_high = array<i64: 1, 1>, group = 144 : i64, "
      "operandSegmentSizes = array<i32: 1, 1, 0, 0>";
  const char *depthwise5 =
      "strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads_low = "
      "array<i64: 2, 2>, pads_high = array<i64: 2, 2>, group = 240 : i64, "
      "operandSegmentSizes = array<i32: 1, 1, 0, 0>";
  const char *matmul =
      "lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, "
      "k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>";
  std::vector<Case> cases{
      {"add", "add", "", {big, big}, big, m},
      {"add bias", "add", "", {big, "tensor<1024xf32>"}, big, m},
      {"scale channels",
       "mul",
       "",
       {"tensor<64x128x56x56xf32>", "tensor<128x1x1xf32>"},
       "tensor<64x128x56x56xf32>",
       25.7e6},
      {"relu", "relu", "", {big}, big, m},
      {"exp", "exp", "", {big}, big, m},
      {"tanh", "tanh", "", {big}, big, m},
      {"erf", "erf", "", {big}, big, m},
      {"log", "log", "", {big}, big, m},
      {"sigmoid", "sigmoid", "", {big}, big, m},
      {"gelu", "gelu", "", {big}, big, m},
      {"sin", "sin", "", {big}, big, m},
      {"pow", "pow", "", {big, "tensor<f32>"}, big, m},
      {"add f16", "add", "", {half, half}, half, m},
      {"to f16", "convert", "to = f16", {big}, half, m},
      {"transpose", "transpose", "perm = array<i64: 1, 0>", {big}, big, m},
      {"transpose i8",
       "transpose",
       "perm = array<i64: 1, 0>",
       {"tensor<1024x1024xi8>"},
       "tensor<1024x1024xi8>",
       m},
      {"transpose heads",
       "transpose",
       "perm = array<i64: 0, 2, 1, 3>",
       {"tensor<8x128x12x64xf32>"},
       "tensor<8x12x128x64xf32>",
       786432},
      {"transpose keys",
       "transpose",
       "perm = array<i64: 0, 2, 3, 1>",
       {"tensor<8x128x12x64xf32>"},
       "tensor<8x12x64x128xf32>",
       786432},
      {"nchw to nhwc",
       "transpose",
       "perm = array<i64: 0, 2, 3, 1>",
       {"tensor<1x64x56x56xf32>"},
       "tensor<1x56x56x64xf32>",
       200704},
      {"sum rows", "reduce", sum1, {big}, "tensor<1024x1xf32>", m},
      {"sum columns", "reduce", sum0, {big}, "tensor<1x1024xf32>", m},
      {"max rows",
       "reduce",
       "kind = #graph<fold max>, axes = array<i64: 1>",
       {big},
       "tensor<1024x1xf32>",
       m},
      {"argmax rows",
       "reduce",
       "kind = #graph<fold argmax>, axes = array<i64: 1>",
       {big},
       "tensor<1024x1xi64>",
       m},
      {"average images",
       "reduce",
       "kind = #graph<fold add>, axes = array<i64: 2, 3>",
       {"tensor<1x2048x7x7xf32>"},
       "tensor<1x2048x1x1xf32>",
       100352},
      {"max pool 3x3 s2",
       "pool",
       pool33,
       {"tensor<1x64x112x112xf32>"},
       "tensor<1x64x56x56xf32>",
       9 * 200704.0},
      {"depthwise 3x3 c144 @56",
       "conv",
       depthwise,
       {"tensor<1x144x56x56xf32>", "tensor<144x1x3x3xf32>"},
       "tensor<1x144x56x56xf32>",
       18 * 451584.0},
      {"depthwise 3x3 c512 @14",
       "conv",
       depthwise512,
       {"tensor<1x512x14x14xf32>", "tensor<512x1x3x3xf32>"},
       "tensor<1x512x14x14xf32>",
       18 * 100352.0},
      {"depthwise 3x3 s2 @112",
       "conv",
       depthwise2,
       {"tensor<1x144x112x112xf32>", "tensor<144x1x3x3xf32>"},
       "tensor<1x144x56x56xf32>",
       18 * 451584.0},
      {"depthwise 5x5 @12x80",
       "conv",
       depthwise5,
       {"tensor<1x240x12x80xf32>", "tensor<240x1x5x5xf32>"},
       "tensor<1x240x12x80xf32>",
       50 * 230400.0},
      {"concat",
       "concat",
       "axis = 1 : i64",
       {"tensor<1x256x28x28xf32>", "tensor<1x32x28x28xf32>"},
       "tensor<1x288x28x28xf32>",
       225792},
      {"concat last",
       "concat",
       "axis = 1 : i64",
       {"tensor<1024x512xf32>", "tensor<1024x512xf32>"},
       big,
       m},
      {"gather rows",
       "gather",
       "axis = 0 : i64",
       {"tensor<30522x768xf32>", "tensor<512xi64>"},
       "tensor<512x768xf32>",
       393216},
      {"gather last",
       "gather",
       "axis = 1 : i64",
       {"tensor<512x320xf32>", "tensor<640xi64>"},
       "tensor<512x640xf32>",
       327680},
      {"matmul 256",
       "contract",
       matmul,
       {"tensor<256x256xf32>", "tensor<256x256xf32>"},
       "tensor<256x256xf32>",
       2.0 * 256 * 256 * 256},
      {"transposed conv 2x2",
       "conv_transpose",
       "strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads_low = "
       "array<i64: 0, 0>, group = 1 : i64",
       {"tensor<1x24x160x160xf32>", "tensor<24x24x2x2xf32>"},
       "tensor<1x24x320x320xf32>",
       2.0 * 24 * 24 * 320 * 320},
      {"cumsum",
       "cumsum",
       "axis = 1 : i64",
       {"tensor<64x512xf32>"},
       "tensor<64x512xf32>",
       32768},
      {"dequantize",
       "dequantize",
       "",
       {"tensor<1024x1024xui8>", "tensor<f32>", "tensor<ui8>"},
       big,
       m},
      {"quantize",
       "quantize",
       "",
       {big, "tensor<f32>", "tensor<ui8>"},
       "tensor<1024x1024xui8>",
       m},
  };
  // DenseNet's habit.
  Case many{"concat 24",
            "concat",
            "axis = 1 : i64",
            std::vector<const char *>(24, "tensor<1x32x14x14xf32>"),
            "tensor<1x768x14x14xf32>",
            150528};
  cases.push_back(many);
  for (const Case &c : cases)
    if (llvm::StringRef(c.name).contains(filter))
      run(context, c, *target, argc > 3);
  return 0;
}
