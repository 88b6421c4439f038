// The lanes that rules choose for windows: a padded row of more than one vector
// and no more than two is one vector of twice the lanes.
#include "dlc/Tuner/KernelTask.h"

#include "KernelHarness.h"
#include "KernelText.h"

#include "llvm/Support/JSON.h"

#include <gtest/gtest.h>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

namespace {
struct Choice {
  int64_t width, across;
};

/// Of a max pooling 3 x 3 over 3 x `image` x `image` on `target`.
Choice chooseFor(int64_t image, int64_t pad, const char *target) {
  int64_t out = image + 2 * pad - 2;
  auto type = [](int64_t n) {
    std::string size = std::to_string(n);
    return "tensor<1x3x" + size + "x" + size + "xf32>";
  };
  std::string pads = std::to_string(pad) + ", " + std::to_string(pad);
  std::string text =
      "func.func @main(%a: " + type(image) + ") -> " + type(out) +
      " {\n%0 = graph.pool %a {dilations = array<i64: 1, 1>, kernel = "
      "array<i64: 3, 3>, kind = #graph<pool max>, pads_high = array<i64: " +
      pads + ">, pads_low = array<i64: " + pads +
      ">, strides = array<i64: 1, 1>} : (" + type(image) + ") -> " + type(out) +
      "\nreturn %0 : " + type(out) + "\n}";
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, text);
  std::string reason;
  auto key = makeKernelKey(kernel, llvm::cantFail(parseCpuTarget(target)),
                           CpuCodegenOptions(), reason);
  EXPECT_TRUE(mlir::succeeded(key)) << reason;
  auto workload = llvm::cantFail(llvm::json::parse(key->workload));
  const llvm::json::Object &fields = *workload.getAsObject();
  EXPECT_TRUE(fields.getBoolean("window").value_or(false));
  return {*fields.getInteger("own_width"), *fields.getInteger("own_across")};
}
} // namespace

TEST(WindowWidth, RowsOfTwoVectorsWithPadsAreOne) {
  const char *avx512 = "x86:cpu=x86-64-v4:threads=1";
  for (int64_t image : {17, 28, 32}) {
    Choice choice = chooseFor(image, 1, avx512);
    EXPECT_EQ(choice.width, 32) << image;
    // Half as many points have their accumulators in registers.
    EXPECT_LE(choice.across, 7) << image;
  }
  // A row of a vector is one, and longer ones have vectors inside.
  EXPECT_EQ(chooseFor(16, 1, avx512).width, 16);
  EXPECT_EQ(chooseFor(33, 1, avx512).width, 16);
  EXPECT_EQ(chooseFor(56, 1, avx512).width, 16);
  EXPECT_EQ(chooseFor(56, 1, avx512).across, 8);
  // Without pads nothing is cut.
  EXPECT_EQ(chooseFor(30, 0, avx512).width, 16);
  // Without masks the lanes beyond the row would be elements one by one.
  EXPECT_EQ(chooseFor(7, 1, "x86:cpu=x86-64-v2:threads=1").width, 4);
}
