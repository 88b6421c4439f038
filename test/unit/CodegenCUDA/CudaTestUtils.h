// Compiles a graph kernel given as text and runs it on the emulator.
#ifndef DLC_TEST_UNIT_CODEGENCUDA_CUDATESTUTILS_H
#define DLC_TEST_UNIT_CODEGENCUDA_CUDATESTUTILS_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Emulator/Emulator.h"

#include "mlir/IR/MLIRContext.h"

#include "gtest/gtest.h"

#include <memory>
#include <string>
#include <vector>

namespace dlc::test {

/// One kernel, compiled; `error` says why when it is not.
class CompiledKernel {
public:
  explicit CompiledKernel(const std::string &text,
                          llvm::StringRef target = "cuda:sm=80",
                          bool strict = false)
      : CompiledKernel(text, target, CudaCodegenOptions{"k", strict}) {}
  CompiledKernel(const std::string &text, llvm::StringRef target,
                 const CudaCodegenOptions &options);

  std::string error;
  std::string nest;
  std::string ptx;
  size_t numLaunches = 0;
  std::vector<CudaKernelInstance::Launch>
  launches(llvm::ArrayRef<int64_t> symbols = {}) const {
    return instantiate(kernel, symbols).launches;
  }
  /// Grid and threads of each launch, for these symbols.
  std::vector<std::pair<uint64_t, unsigned>>
  shapes(std::vector<int64_t> symbols = {}) const {
    std::vector<std::pair<uint64_t, unsigned>> all;
    for (const auto &launch : instantiate(kernel, symbols).launches)
      all.push_back({launch.gridBlocks, launch.blockThreads});
    return all;
  }

  /// Runs all launches with every check of the emulator. Returns the error's
  /// text, empty for success; `status` receives the kernel's data error code.
  std::string run(std::vector<EmulatedBuffer> buffers,
                  std::vector<int64_t> symbols = {}, int32_t *status = nullptr,
                  uint64_t seed = 0);

  /// Removes the barrier of this number, to see whether anybody notices. False
  /// when there are not so many.
  bool dropBarrier(unsigned number);

  /// Calls `edit`, which changes an instruction and says whether it did, until
  /// the instruction of this number among those it takes is changed. False
  /// when there are not so many.
  bool plant(unsigned number,
             llvm::function_ref<bool(llvm::Instruction &, bool doIt)> edit);
  /// The first store of the function that does not go to shared memory is gone;
  /// false: there is none.
  bool dropStore(llvm::StringRef function);
  /// Undoes all that was planted or dropped.
  void restore();

private:
  mlir::MLIRContext context;
  CudaKernel kernel;
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> module, original;
};

template <typename T>
EmulatedBuffer in(std::vector<T> &data, std::string name) {
  return {data.data(), data.size() * sizeof(T), std::move(name), false};
}
template <typename T>
EmulatedBuffer out(std::vector<T> &data, std::string name) {
  return {data.data(), data.size() * sizeof(T), std::move(name), true};
}

/// Numbers between -1 and 1, the same for the same seed.
std::vector<float> randomFloats(size_t count, unsigned seed);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGENCUDA_CUDATESTUTILS_H
