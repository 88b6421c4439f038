// CUDA code of a whole model, and @main run on the host with every kernel
// launched on the emulator.
#include "dlc/Driver/CudaModel.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Interpreter/Interpreter.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Transforms/Utils/Cloning.h"

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

Error dlc::formCudaKernels(ModelSource &source) {
  DiagnosticCollector diagnostics(source.context.get(), "");
  PassManager manager(source.context.get());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(graph::createFormKernels());
  if (failed(manager.run(*source.module)))
    return diagnostics.take(ExitCode::Rejected,
                            "a pass failed without saying why");
  WalkResult walk = source.getMain().walk([](graph::GraphOp op) {
    if (op.getOpClass() != graph::OpClass::opaque)
      return WalkResult::advance();
    op->emitError("operator '")
        << op->getName().stripDialect() << "' has no native kernel yet";
    return WalkResult::interrupt();
  });
  if (walk.wasInterrupted())
    return diagnostics.take(ExitCode::Rejected,
                            "an operator has no native kernel yet");
  return Error::success();
}

Expected<CudaModel> dlc::compileCuda(ModelSource &source,
                                     const CudaTarget &target, StringRef prefix,
                                     bool strict, bool tf32, bool portable) {
  loadCudaDialects(*source.context);
  std::vector<CudaKernel> kernels;
  std::vector<std::string> names;
  std::vector<dlc::Diagnostic> problems;
  for (auto op : source.module->getOps<graph::KernelOp>()) {
    DiagnosticCollector diagnostics(source.context.get(), "");
    CudaCodegenOptions options;
    options.symbol = (prefix + "_" + op.getSymName()).str();
    options.strict = strict;
    options.tf32 = tf32;
    options.warpGroups = target.hasWarpGroups();
    options.portable = portable;
    FailureOr<CudaKernel> kernel = emitCudaKernel(op, target, options);
    if (failed(kernel)) {
      CompileError error = toCompileError(
          diagnostics.take(ExitCode::Rejected,
                           "code generation failed without saying why"),
          ExitCode::Rejected);
      for (dlc::Diagnostic problem : error.getDiagnostics()) {
        problem.reason =
            "kernel '" + op.getSymName().str() + "': " + problem.reason;
        problems.push_back(std::move(problem));
      }
      continue;
    }
    kernels.push_back(std::move(*kernel));
    names.push_back(op.getSymName().str());
  }
  if (!problems.empty())
    return llvm::make_error<CompileError>(ExitCode::Rejected,
                                          std::move(problems));
  CudaModel model;
  model.context = std::make_unique<llvm::LLVMContext>();
  if (kernels.empty()) { // a model of constants and views only
    model.module = std::make_unique<llvm::Module>("kernels", *model.context);
    if (Error error = target.prepare(*model.module))
      return std::move(error);
    return std::move(model);
  }
  auto module = buildCudaModule(kernels, target, *model.context);
  if (!module)
    return module.takeError();
  model.module = std::move(*module);
  for (auto [name, kernel] : llvm::zip_equal(names, kernels))
    model.kernels[name] = std::move(kernel);
  return std::move(model);
}

Expected<std::string> dlc::emitPtx(CudaModel &model, const CudaTarget &target) {
  // Printing changes the module, which the emulator may still be given.
  return target.emitPtx(*llvm::CloneModule(*model.module));
}

//===----------------------------------------------------------------------===//
// The emulator
//===----------------------------------------------------------------------===//

namespace {
// Launches kernels on the emulator; the interpreter walks @main around them, as
// the host does around a device.
class Launcher {
public:
  Launcher(const CudaModel &model, EmulatedModule *emulated)
      : model(model), emulated(emulated) {}

  Expected<SmallVector<Tensor>>
  call(graph::CallOp op, ArrayRef<Tensor> operands, ArrayRef<int64_t> symbols);

private:
  const CudaModel &model;
  EmulatedModule *emulated;
};
} // namespace

static EmulatedBuffer bufferOf(const Tensor &tensor, char *bytes,
                               const std::string &name, bool writable) {
  return {bytes, static_cast<size_t>(tensor.getNumBytes()), name, writable};
}

Expected<SmallVector<Tensor>> Launcher::call(graph::CallOp op,
                                             ArrayRef<Tensor> operands,
                                             ArrayRef<int64_t> symbols) {
  auto kernel = model.kernels.find(op.getCallee());
  if (kernel == model.kernels.end())
    return makeError(ExitCode::Internal,
                     "no CUDA code for kernel '" + op.getCallee() + "'");
  // Constants lie where the IR keeps them; a device's buffers are aligned.
  constexpr uint64_t alignment = 16;
  SmallVector<Tensor> aligned(operands);
  for (Tensor &tensor : aligned)
    if (reinterpret_cast<uintptr_t>(tensor.getBytes()) % alignment)
      tensor = Tensor::copy(tensor.getElementType(), tensor.getShape(),
                            tensor.getBytes());
  std::vector<EmulatedBuffer> buffers;
  for (auto [i, tensor] : llvm::enumerate(aligned))
    // Kernels only read operands, and the emulator sees to it.
    buffers.push_back(bufferOf(tensor, const_cast<char *>(tensor.getBytes()),
                               "operand " + std::to_string(i),
                               /*writable=*/false));
  SmallVector<Tensor> results;
  for (auto [i, result] : llvm::enumerate(op.getResults())) {
    SmallVector<int64_t> shape = llvm::map_to_vector(
        graph::getDims(result.getType()),
        [&](AffineExpr e) { return graph::evaluate(e, symbols); });
    Tensor tensor(cast<RankedTensorType>(result.getType()).getElementType(),
                  shape);
    buffers.push_back(bufferOf(tensor, tensor.getMutableBytes(),
                               "result " + std::to_string(i),
                               /*writable=*/true));
    results.push_back(std::move(tensor));
  }
  SmallVector<int64_t> actual;
  if (op.getSymbols())
    for (AffineExpr e : op.getSymbols()->getDims())
      actual.push_back(graph::evaluate(e, symbols));
  CudaKernelInstance instance = instantiate(kernel->second, actual);
  EmulatedKernel steps;
  steps.scratchBytes.assign(instance.scratchBytes.begin(),
                            instance.scratchBytes.end());
  for (const CudaLaunch &launch : kernel->second.launches)
    if (launch.call)
      return makeError(ExitCode::Unavailable,
                       "kernel '" + op.getCallee() +
                           "' calls a library, which the emulator of kernels "
                           "has not");
  for (const auto &launch : instance.launches) {
    LaunchShape shape;
    shape.grid.x = static_cast<uint32_t>(launch.gridBlocks);
    shape.block.x = launch.blockThreads;
    shape.sharedBytes = launch.sharedBytes;
    steps.launches.push_back({launch.symbol, shape});
  }
  Expected<int32_t> status = emulated->runKernel(steps, buffers, actual);
  if (!status)
    return makeError(ExitCode::Verify, llvm::toString(status.takeError()));
  if (*status)
    return makeError(ExitCode::Rejected,
                     "kernel '" + op.getCallee() +
                         "': an index in the data is out of range");
  return results;
}

Expected<SmallVector<Tensor>> dlc::emulate(ModelSource &source,
                                           CudaModel &model,
                                           ArrayRef<Tensor> inputs,
                                           EmulatorOptions options) {
  DiagnosticCollector diagnostics(source.context.get(), "");
  if (failed(interp::bindSymbols(source.getMain(), inputs)))
    return diagnostics.take(ExitCode::Usage, "the inputs do not fit the model");
  std::unique_ptr<EmulatedModule> emulated;
  if (!model.kernels.empty()) {
    auto created = EmulatedModule::createFromCopy(*model.module, options);
    if (!created)
      return created.takeError();
    emulated = std::move(*created);
  }
  Launcher launcher(model, emulated.get());
  std::optional<Error> problem;
  interp::Options run;
  run.call = [&](graph::CallOp op, ArrayRef<Tensor> operands,
                 ArrayRef<int64_t> symbols) -> FailureOr<SmallVector<Tensor>> {
    auto results = launcher.call(op, operands, symbols);
    if (results)
      return std::move(*results);
    problem = results.takeError();
    return failure();
  };
  FailureOr<SmallVector<Tensor>> outputs =
      interp::Interpreter(run).run(source.getMain(), inputs);
  if (problem)
    return std::move(*problem);
  if (failed(outputs))
    return diagnostics.take(ExitCode::Rejected,
                            "the model failed without saying why");
  return std::move(*outputs);
}
