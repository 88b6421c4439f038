// The loop nests on AArch64, under qemu: one case of each kind.
#include "../Codegen/CrossKernel.h"
#include "NestTest.h"

using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class ArmTest : public NestTest {
protected:
  void checkArm(const OpCase &c, const std::string &name = "arm:threads=1") {
    graph::KernelOp kernel = build(c);
    ASSERT_TRUE(kernel);
    auto target = llvm::cantFail(parseCpuTarget(name));
    llvm::SmallVector<Tensor> inputs;
    for (auto [type, shape] : llvm::zip(kernel.getArgumentTypes(), c.shapes))
      inputs.push_back(random(
          llvm::cast<mlir::RankedTensorType>(type).getElementType(), shape, c));
    auto expected = interp::Interpreter().runKernel(kernel, inputs, c.symbols);
    ASSERT_TRUE(mlir::succeeded(expected));
    CpuCodegenOptions options;
    options.symbol = "k";
    auto code = emitLoopNest(kernel, target, options);
    ASSERT_TRUE(mlir::succeeded(code));
    std::vector<std::unique_ptr<GuardedBuffer>> buffers;
    llvm::SmallVector<GuardedBuffer *> pointers;
    for (const Tensor &t : inputs) {
      buffers.push_back(std::make_unique<GuardedBuffer>(t.getNumBytes()));
      std::memcpy(buffers.back()->data(), t.getBytes(), t.getNumBytes());
    }
    for (const Tensor &t : *expected)
      buffers.push_back(std::make_unique<GuardedBuffer>(t.getNumBytes()));
    for (auto &b : buffers)
      pointers.push_back(b.get());
    ASSERT_EQ(runOnArm(*code, target, pointers, c.symbols), "") << c.op;
    for (auto &b : buffers)
      EXPECT_TRUE(b->intact()) << c.op;
    for (auto [i, t] : llvm::enumerate(*expected))
      EXPECT_EQ(
          difference(t, buffers[inputs.size() + i]->data(), c.tolerance, false),
          "")
          << c.op;
  }
};

TEST_F(ArmTest, Kernels) {
  if (!canRunArm())
    GTEST_SKIP() << "needs aarch64-linux-gnu-gcc and qemu-aarch64";
  checkArm({"add",
            "",
            {"tensor<7x33xf32>", "tensor<33xf32>"},
            "tensor<7x33xf32>",
            {{7, 33}, {33}},
            {}});
  OpCase half{
      "mul",        "", {"tensor<45xf16>", "tensor<45xf16>"}, "tensor<45xf16>",
      {{45}, {45}}, {}};
  half.specials = true;
  checkArm(half);
  OpCase brain{"max",
               "",
               {"tensor<45xbf16>", "tensor<45xbf16>"},
               "tensor<45xbf16>",
               {{45}, {45}},
               {}};
  brain.specials = true;
  checkArm(brain);
  checkArm({"gelu", "", {"tensor<77xf32>"}, "tensor<77xf32>", {{77}}, {}});
  checkArm({"sin", "", {"tensor<77xf32>"}, "tensor<77xf32>", {{77}}, {}});
  checkArm({"div",
            "",
            {"tensor<45xi8>", "tensor<45xi8>"},
            "tensor<45xi8>",
            {{45}, {45}},
            {}});
  checkArm({"reduce",
            "kind = #graph<fold add>, axes = array<i64: 1>",
            {"tensor<9x77xf32>"},
            "tensor<9x1xf32>",
            {{9, 77}},
            {},
            1e-5});
  checkArm({"reduce",
            "kind = #graph<fold argmax>, axes = array<i64: 1>",
            {"tensor<9x77xf32>"},
            "tensor<9x1xi64>",
            {{9, 77}},
            {}});
  checkArm({"transpose",
            "perm = array<i64: 1, 0>",
            {"tensor<37x53xf32>"},
            "tensor<53x37xf32>",
            {{37, 53}},
            {}});
  checkArm({"concat",
            "axis = 1 : i64",
            {"tensor<3x7xf32>", "tensor<3x40xf32>"},
            "tensor<3x47xf32>",
            {{3, 7}, {3, 40}},
            {}});
  checkArm({"conv",
            "strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, "
            "pads_low = array<i64: 1, 1>, pads_high = array<i64: 1, 1>, group "
            "= 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>",
            {"tensor<1x4x9x30xf32>", "tensor<4x1x3x3xf32>"},
            "tensor<1x4x5x15xf32>",
            {{1, 4, 9, 30}, {4, 1, 3, 3}},
            {},
            1e-5});
  OpCase gather{"gather",
                "axis = 0 : i64",
                {"tensor<9x20xf32>", "tensor<6xi64>"},
                "tensor<6x20xf32>",
                {{9, 20}, {6}},
                {}};
  gather.low = -9, gather.high = 8;
  checkArm(gather);
  checkArm({"add",
            "",
            {"tensor<?x?xf32, #graph.dims<s0, s1>>",
             "tensor<?xf32, #graph.dims<s1>>"},
            "tensor<?x?xf32, #graph.dims<s0, s1>>",
            {{5, 21}, {21}},
            {5, 21}},
           "arm:cpu=neoverse-v1:threads=2");
}
} // namespace
