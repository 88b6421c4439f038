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

// More than 64 MiB together, in rows that end within lines and at their ends.
TEST_F(StreamTest, WhereverTheyBegin) {
  struct Case {
    const char *element;
    int64_t bytes, columns;
  };
  for (const Case &one : {Case{"f32", 4, 37}, Case{"f32", 4, 4096},
                          Case{"f64", 8, 300}, Case{"bf16", 2, 1001}}) {
    int64_t rows = (int64_t(33) << 20) / (one.columns * one.bytes);
    std::string n = std::to_string(one.columns);
    std::string type =
        "tensor<" + std::to_string(rows) + "x" + n + "x" + one.element + ">";
    OpCase c{"add",
             "",
             {type, "tensor<" + n + "x" + one.element + ">"},
             type,
             {{rows, one.columns}, {one.columns}},
             {}};
    graph::KernelOp kernel = build(c);
    SmallVector<Tensor> inputs;
    for (auto [t, shape] : llvm::zip(kernel.getArgumentTypes(), c.shapes))
      inputs.push_back(
          random(cast<RankedTensorType>(t).getElementType(), shape, c));
    auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
    ASSERT_TRUE(succeeded(expected));
    for (const std::string &name : runnableTargets()) {
      if (StringRef(name).starts_with("arm"))
        continue;
      SCOPED_TRACE(name + " " + type);
      CpuTarget target = withLastLevel(name, 64);
      auto code = emitLeaving(kernel, target, true);
      ASSERT_TRUE(succeeded(code));
      EXPECT_GT(countStreamed(*code), 0u);
      checkPlaces(*code, target, c, inputs, expected->front(), one.bytes);
    }
  }
}

// The nearest that are not: read by the model, within twice the last level or
// 64 MiB, and a target whose fence is another.
TEST_F(StreamTest, WhichAreNot) {
  auto count = [&](const std::string &name, int64_t rows, int64_t lastLevel,
                   bool leaves) {
    std::string type = "tensor<" + std::to_string(rows) + "x4096xf32>";
    OpCase c{"neg", "", {type}, type, {{rows, 4096}}, {}}; // rows x 32 KiB
    auto code =
        emitLeaving(build(c), withLastLevel(name, lastLevel << 20), leaves);
    return succeeded(code) ? countStreamed(*code) : ~0u;
  };
  EXPECT_GT(count("x86:cpu=x86-64-v4", 2048, 32, true), 0u);
  EXPECT_EQ(count("x86:cpu=x86-64-v4", 2047, 8, true), 0u);
  EXPECT_EQ(count("x86:cpu=x86-64-v4", 2048, 33, true), 0u);
  EXPECT_EQ(count("x86:cpu=x86-64-v4", 2048, 32, false), 0u);
  EXPECT_GT(count("x86:cpu=x86-64-v2", 2048, 32, true), 0u);
  EXPECT_EQ(count("arm:cpu=neoverse-n1", 2048, 32, true), 0u);
}
} // namespace
