// Results that leave the model and do not fit the caches are stored past them:
// which are, and that they are right wherever they begin in a cache line.
#include "NestTest.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class StreamTest : public NestTest {
protected:
  /// A target whose last level holds so many bytes.
  static CpuTarget withLastLevel(const std::string &name, int64_t bytes) {
    TargetDesc desc = llvm::cantFail(parseCpuTarget(name)).desc();
    desc.l3Bytes = bytes;
    SmallString<128> path;
    int file = -1;
    if (llvm::sys::fs::createTemporaryFile("stream", "json", file, path))
      std::abort();
    llvm::raw_fd_ostream(file, /*shouldClose=*/true) << desc.toJson();
    CpuTarget target = llvm::cantFail(
        parseCpuTarget(desc.arch + ":device=" + path.str().str()));
    llvm::sys::fs::remove(path);
    return target;
  }

  FailureOr<CpuKernel> emitLeaving(graph::KernelOp kernel,
                                   const CpuTarget &target, bool leaves) {
    CpuCodegenOptions options;
    options.symbol = "k";
    options.leavingResults.assign(1, leaves);
    return emitLoopNest(kernel, target, options);
  }

  /// Stores past the caches; each function with some ends with a fence.
  static unsigned countStreamed(CpuKernel &code) {
    unsigned stores = 0, fences = 0;
    code.module->walk(
        [&](vector::StoreOp store) { stores += store.getNontemporal(); });
    code.module->walk([&](LLVM::CallIntrinsicOp call) {
      fences += call.getIntrin() == "llvm.x86.sse.sfence";
    });
    EXPECT_EQ(stores != 0, fences != 0);
    return stores;
  }

  /// Runs it with the result at several distances from a line's beginning.
  void checkPlaces(CpuKernel &code, const CpuTarget &target, const OpCase &c,
                   ArrayRef<Tensor> inputs, const Tensor &expected,
                   int64_t elementBytes) {
    std::string error;
    auto loaded = LoadedKernel::load(code, target, error);
    ASSERT_TRUE(loaded) << error;
    for (int64_t start : {0, 1, 5, 15}) {
      int64_t bytes = expected.getNumBytes(), offset = start * elementBytes;
      GuardedBuffer memory(bytes + 128);
      std::memset(memory.data(), 0x5a, bytes + 128);
      SmallVector<void *> pointers;
      for (const Tensor &t : inputs)
        pointers.push_back(const_cast<char *>(t.getBytes()));
      pointers.push_back(memory.data() + offset);
      ASSERT_EQ(loaded->run(pointers, c.symbols), 0);
      EXPECT_EQ(
          difference(expected, memory.data() + offset, c.tolerance, false), "")
          << c.op << " at " << offset;
      for (int64_t i = 0; i < bytes + 128; ++i)
        if (i < offset || i >= offset + bytes)
          ASSERT_EQ(memory.data()[i], 0x5a) << "byte " << i;
      EXPECT_TRUE(memory.intact());
    }
  }
};

TEST_F(StreamTest, WhereverTheyBegin) {
  for (const std::string &name : runnableTargets()) {
    if (StringRef(name).starts_with("arm"))
      continue;
    SCOPED_TRACE(name);
    for (auto [element, size] : {std::pair("f32", 4), {"f64", 8}, {"bf16", 2}})
      for (int64_t columns : {3, 16, 37, 64, 300}) {
        std::string n = std::to_string(columns);
        std::string type = "tensor<6x" + n + "x" + element + ">";
        OpCase c{"add",
                 "",
                 {type, "tensor<" + n + "x" + element + ">"},
                 type,
                 {{6, columns}, {columns}},
                 {}};
        graph::KernelOp kernel = build(c);
        SmallVector<Tensor> inputs;
        for (auto [t, shape] : llvm::zip(kernel.getArgumentTypes(), c.shapes))
          inputs.push_back(
              random(cast<RankedTensorType>(t).getElementType(), shape, c));
        auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
        ASSERT_TRUE(succeeded(expected));
        CpuTarget target = withLastLevel(name, 64);
        auto code = emitLeaving(kernel, target, true);
        ASSERT_TRUE(succeeded(code));
        if (columns >= 64)
          EXPECT_GT(countStreamed(*code), 0u) << element << " " << columns;
        checkPlaces(*code, target, c, inputs, expected->front(), size);
      }
  }
}

// The nearest that are not: read by the model, within twice the last level, and
// a target whose fence is another.
TEST_F(StreamTest, WhichAreNot) {
  // 3 x 64 KiB
  std::string type = "tensor<64x256xf32>";
  OpCase c{"add", "", {type, type}, type, {{64, 256}, {64, 256}}, {}};
  graph::KernelOp kernel = build(c);
  auto count = [&](const std::string &name, int64_t lastLevel, bool leaves) {
    auto code = emitLeaving(kernel, withLastLevel(name, lastLevel), leaves);
    return succeeded(code) ? countStreamed(*code) : ~0u;
  };
  EXPECT_GT(count("x86:cpu=x86-64-v4", 96 << 10, true), 0u);
  EXPECT_EQ(count("x86:cpu=x86-64-v4", (96 << 10) + 1, true), 0u);
  EXPECT_EQ(count("x86:cpu=x86-64-v4", 96 << 10, false), 0u);
  EXPECT_GT(count("x86:cpu=x86-64-v2", 96 << 10, true), 0u);
  EXPECT_EQ(count("arm:cpu=neoverse-n1", 96 << 10, true), 0u);
}
} // namespace
