// See the header.
#include "CudaTestUtils.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Transforms/Utils/Cloning.h"

#include <random>

using namespace dlc;
using namespace dlc::test;

CompiledKernel::CompiledKernel(const std::string &text, llvm::StringRef target,
                               const CudaCodegenOptions &options)
    : context(mlir::MLIRContext::Threading::DISABLED) {
  context.loadDialect<graph::GraphDialect>();
  loadCudaDialects(context);
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) {
    error += d.str();
    return mlir::success();
  });
  auto source = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!source)
    return;
  auto cuda = llvm::cantFail(parseCudaTarget(target));
  CudaCodegenOptions own = options;
  own.warpGroups |= cuda.hasWarpGroups();
  auto emitted =
      emitCudaKernel(*source->getOps<graph::KernelOp>().begin(), cuda, own);
  if (failed(emitted))
    return;
  kernel = std::move(*emitted);
  nest = kernel.nest;
  numLaunches = kernel.launches.size();
  auto built = buildCudaModule(kernel, cuda, llvmContext);
  if (!built) {
    error += llvm::toString(built.takeError());
    return;
  }
  module = std::move(*built);
  // Printing changes the module: the emulator gets its copy from what was
  // there.
  auto copy = llvm::CloneModule(*module);
  original = llvm::CloneModule(*module);
  auto printed = cuda.emitPtx(*copy);
  if (printed)
    ptx = *printed;
  else
    error += llvm::toString(printed.takeError());
}

std::string CompiledKernel::run(std::vector<EmulatedBuffer> buffers,
                                std::vector<int64_t> symbols, int32_t *status,
                                uint64_t seed) {
  if (!error.empty())
    return error;
  EmulatorOptions options;
  options.check = EmulatorCheck::Races;
  options.scheduleSeed = seed;
  auto emulated = EmulatedModule::createFromCopy(*module, options);
  if (!emulated)
    return llvm::toString(emulated.takeError());
  CudaKernelInstance instance = instantiate(kernel, symbols);
  EmulatedKernel steps;
  steps.scratchBytes.assign(instance.scratchBytes.begin(),
                            instance.scratchBytes.end());
  for (const auto &launch : instance.launches)
    steps.launches.push_back({launch.symbol,
                              {{uint32_t(launch.gridBlocks)},
                               {launch.blockThreads},
                               launch.sharedBytes}});
  auto code = (*emulated)->runKernel(steps, buffers, symbols);
  if (!code)
    return llvm::toString(code.takeError());
  if (status)
    *status = *code;
  return {};
}

bool CompiledKernel::plant(
    unsigned number,
    llvm::function_ref<bool(llvm::Instruction &, bool doIt)> edit) {
  for (llvm::Function &function : *module)
    for (llvm::Instruction &instruction : llvm::instructions(function)) {
      if (!edit(instruction, /*doIt=*/false))
        continue;
      if (number-- == 0)
        return edit(instruction, /*doIt=*/true);
    }
  return false;
}

bool CompiledKernel::dropStore(llvm::StringRef function) {
  return plant(0, [&](llvm::Instruction &instruction, bool doIt) {
    auto *store = llvm::dyn_cast<llvm::StoreInst>(&instruction);
    bool isIt = store && store->getPointerAddressSpace() != 3 &&
                store->getFunction()->getName() == function;
    if (isIt && doIt)
      store->eraseFromParent();
    return isIt;
  });
}

void CompiledKernel::restore() { module = llvm::CloneModule(*original); }

bool CompiledKernel::dropBarrier(unsigned number) {
  return plant(number, [](llvm::Instruction &instruction, bool doIt) {
    auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
    if (!call || !call->getCalledFunction()->getName().contains("barrier.cta"))
      return false;
    if (doIt)
      call->eraseFromParent();
    return true;
  });
}

std::vector<float> test::randomFloats(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> distribution(-1, 1);
  std::vector<float> values(count);
  for (float &value : values)
    value = distribution(random);
  return values;
}
