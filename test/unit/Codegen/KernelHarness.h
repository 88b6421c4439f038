// Compiles one kernel for this machine, loads it, and runs it on buffers that
// have guard bytes behind them. Shared by the tests and the bench.
#ifndef DLC_TEST_UNIT_CODEGEN_KERNELHARNESS_H
#define DLC_TEST_UNIT_CODEGEN_KERNELHARNESS_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Targets.h"
#include "dlc/runtime.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"

#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"

#include <chrono>
#include <cstring>

namespace dlc::test {

/// A context with the graph dialect and the dialects kernels are built with.
inline void setUp(mlir::MLIRContext &context) {
  context.disableMultithreading();
  context.loadDialect<graph::GraphDialect, mlir::func::FuncDialect>();
  loadCpuDialects(context);
}

/// The kernel of the only graph op in `text`, a func.func body. `module` owns
/// it.
inline graph::KernelOp kernelOf(mlir::MLIRContext &context,
                                mlir::OwningOpRef<mlir::ModuleOp> &module,
                                llvm::StringRef text) {
  module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return {};
  for (graph::KernelOp kernel : module->getOps<graph::KernelOp>())
    return kernel;
  graph::GraphOp op;
  module->walk([&](graph::GraphOp found) { op = found; });
  llvm::SmallVector<mlir::AffineExpr> symbols;
  auto kernel = graph::buildKernelFor(op, *module, "kernel", symbols);
  return mlir::succeeded(kernel) ? *kernel : graph::KernelOp();
}

/// Bytes with guards before and behind; the bytes start on a cache line.
class GuardedBuffer {
public:
  static constexpr size_t guard = 256;
  static constexpr unsigned char pattern = 0xa5;

  explicit GuardedBuffer(size_t bytes) : size(bytes) {
    memory = static_cast<char *>(
        std::aligned_alloc(4096, (allBytes() + 4095) / 4096 * 4096));
    std::memset(memory, pattern, allBytes());
  }
  ~GuardedBuffer() { std::free(memory); }
  GuardedBuffer(const GuardedBuffer &) = delete;

  char *data() { return memory + guard; }
  size_t bytes() const { return size; }
  /// The memory with its guards.
  char *allData() { return memory; }
  size_t allBytes() const { return (size + 3 * guard + 63) / 64 * 64; }
  template <typename T>
  T *as() {
    return reinterpret_cast<T *>(data());
  }
  /// False when anything outside the bytes was written.
  bool intact() const {
    for (size_t i = 0; i < guard; ++i)
      if (static_cast<unsigned char>(memory[i]) != pattern ||
          static_cast<unsigned char>(memory[guard + size + i]) != pattern)
        return false;
    return true;
  }

private:
  size_t size;
  char *memory;
};

/// A loaded kernel.
class LoadedKernel {
public:
  /// Empty `error` on success.
  static std::unique_ptr<LoadedKernel>
  load(CpuKernel &kernel, const CpuTarget &target, std::string &error) {
    auto loaded = std::make_unique<LoadedKernel>();
    auto start = std::chrono::steady_clock::now();
    auto object = compileModule(*kernel.module, target);
    loaded->compileSeconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    if (!object) {
      error = llvm::toString(object.takeError());
      return nullptr;
    }
    auto jit = llvm::orc::LLJITBuilder().create();
    if (!jit) {
      error = llvm::toString(jit.takeError());
      return nullptr;
    }
    loaded->jit = std::move(*jit);
    auto &library = loaded->jit->getMainJITDylib();
    library.addGenerator(llvm::cantFail(
        llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
            loaded->jit->getDataLayout().getGlobalPrefix())));
    llvm::cantFail(loaded->jit->addObjectFile(
        std::make_unique<llvm::SmallVectorMemoryBuffer>(std::move(*object),
                                                        false)));
    for (const CpuPhase &phase : kernel.phases) {
      auto address = loaded->jit->lookup(phase.symbol);
      if (!address) {
        error = llvm::toString(address.takeError());
        return nullptr;
      }
      loaded->phases.push_back({address->toPtr<Task>(), phase.numTasks});
    }
    loaded->scratchBytes = kernel.scratchBytes;
    return loaded;
  }

  /// Runs all tasks on this thread. Returns the status word.
  int run(llvm::ArrayRef<void *> buffers, llvm::ArrayRef<int64_t> symbols) {
    int64_t bytes = graph::evaluate(scratchBytes, symbols);
    if (!scratch || scratch->bytes() != size_t(bytes))
      scratch = std::make_unique<GuardedBuffer>(bytes);
    if (bytes && fillsScratch) // NaN, as float numbers of any width
      std::memset(scratch->data(), 0xff, bytes);
    int32_t status = 0;
    dlc_frame frame{&status, scratch->data(), bytes, buffers.data(),
                    symbols.data()};
    for (auto &[task, count] : phases) {
      int64_t tasks = graph::evaluate(count, symbols);
      for (int64_t i = 0; i < tasks; ++i)
        task(&frame, runsBackwards ? tasks - 1 - i : i, 0);
    }
    return status;
  }
  bool scratchIntact() const { return !scratch || scratch->intact(); }

  double compileSeconds = 0;
  /// Each run finds NaN in its scratch.
  bool fillsScratch = false;
  /// The last task of a phase comes first.
  bool runsBackwards = false;

private:
  using Task = void (*)(const dlc_frame *, int64_t, int64_t);
  std::unique_ptr<llvm::orc::LLJIT> jit;
  llvm::SmallVector<std::pair<Task, mlir::AffineExpr>> phases;
  mlir::AffineExpr scratchBytes;
  std::unique_ptr<GuardedBuffer> scratch;
};

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_KERNELHARNESS_H
