// CUDA code of a whole model, and @main walked on the host with every kernel
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
                                     bool strict) {
  loadCudaDialects(*source.context);
  std::vector<CudaKernel> kernels;
  std::vector<std::string> names;
  std::vector<dlc::Diagnostic> problems;
  for (auto op : source.module->getOps<graph::KernelOp>()) {
    DiagnosticCollector diagnostics(source.context.get(), "");
    CudaCodegenOptions options;
    options.symbol = (prefix + "_" + op.getSymName()).str();
    options.strict = strict;
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
class Run {
public:
  Run(const CudaModel &model, EmulatedModule *emulated,
      ArrayRef<int64_t> symbols)
      : model(model), emulated(emulated), symbols(symbols) {}

  Expected<SmallVector<Tensor>> main(func::FuncOp function,
                                     ArrayRef<Tensor> inputs);

private:
  SmallVector<int64_t> shapeOf(Type type) {
    return llvm::map_to_vector(graph::getDims(type), [&](AffineExpr e) {
      return graph::evaluate(e, symbols);
    });
  }
  Error call(graph::CallOp op);
  Error view(Operation *op);

  const CudaModel &model;
  EmulatedModule *emulated;
  SmallVector<int64_t> symbols; ///< those the data tell are set on the way
  llvm::DenseMap<Value, Tensor> values;
};
} // namespace

static EmulatedBuffer bufferOf(const Tensor &tensor, char *bytes,
                               const std::string &name, bool writable) {
  return {bytes, static_cast<size_t>(tensor.getNumBytes()), name, writable};
}

Error Run::call(graph::CallOp op) {
  auto kernel = model.kernels.find(op.getCallee());
  if (kernel == model.kernels.end())
    return makeError(ExitCode::Internal,
                     "no CUDA code for kernel '" + op.getCallee() + "'");
  std::vector<EmulatedBuffer> buffers;
  for (auto [i, operand] : llvm::enumerate(op.getArgs())) {
    const Tensor &tensor = values[operand];
    // Kernels only read operands, and the emulator sees to it.
    buffers.push_back(bufferOf(tensor, const_cast<char *>(tensor.getBytes()),
                               "operand " + std::to_string(i),
                               /*writable=*/false));
  }
  for (auto [i, result] : llvm::enumerate(op.getResults())) {
    Tensor tensor(cast<RankedTensorType>(result.getType()).getElementType(),
                  shapeOf(result.getType()));
    buffers.push_back(bufferOf(tensor, tensor.getMutableBytes(),
                               "result " + std::to_string(i),
                               /*writable=*/true));
    values[result] = std::move(tensor);
  }
  SmallVector<int64_t> actual;
  if (op.getSymbols())
    for (AffineExpr e : op.getSymbols()->getDims())
      actual.push_back(graph::evaluate(e, symbols));
  CudaKernelInstance instance = instantiate(kernel->second, actual);
  EmulatedKernel steps;
  steps.scratchBytes.assign(instance.scratchBytes.begin(),
                            instance.scratchBytes.end());
  for (const auto &launch : instance.launches) {
    LaunchShape shape;
    shape.grid.x = static_cast<uint32_t>(launch.gridBlocks);
    shape.block.x = launch.blockThreads;
    steps.launches.push_back({launch.symbol, shape});
  }
  Expected<int32_t> status = emulated->runKernel(steps, buffers, actual);
  if (!status)
    return makeError(ExitCode::Verify, llvm::toString(status.takeError()));
  if (*status)
    return makeError(ExitCode::Rejected,
                     "kernel '" + op.getCallee() +
                         "': an index in the data is out of range");
  return Error::success();
}

// The operand's bytes under another type. A prefix also binds a dim symbol.
Error Run::view(Operation *op) {
  const Tensor &source = values[op->getOperand(0)];
  if (auto prefix = dyn_cast<graph::PrefixOp>(op)) {
    int64_t count = values[prefix.getCount()].getData<int64_t>()[0];
    if (count < 0 || count > source.getShape()[0])
      return makeError(ExitCode::Rejected,
                       "a count in the data is out of range: " + Twine(count));
    symbols[prefix.getSymbol()] = count;
  }
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  Tensor result =
      Tensor::copy(type.getElementType(), shapeOf(type), source.getBytes());
  values[op->getResult(0)] = std::move(result);
  return Error::success();
}

Expected<SmallVector<Tensor>> Run::main(func::FuncOp function,
                                        ArrayRef<Tensor> inputs) {
  for (auto [argument, input] : llvm::zip(function.getArguments(), inputs))
    values[argument] = input;
  for (Operation &op : function.getBody().front()) {
    if (isa<func::ReturnOp>(op))
      return llvm::map_to_vector(op.getOperands(),
                                 [&](Value v) { return values[v]; });
    if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
      FailureOr<Tensor> tensor = Tensor::fromAttr(constant.getValue());
      if (failed(tensor))
        return makeError(ExitCode::Internal, "a constant has no data");
      values[op.getResult(0)] = *tensor;
    } else if (isa<graph::ReshapeOp, graph::PrefixOp, graph::BitcastOp>(op)) {
      if (Error error = view(&op))
        return std::move(error);
    } else if (auto callOp = dyn_cast<graph::CallOp>(op)) {
      if (Error error = call(callOp))
        return std::move(error);
    } else {
      return makeError(ExitCode::Internal, "operation '" +
                                               op.getName().getStringRef() +
                                               "' is not a kernel");
    }
  }
  return makeError(ExitCode::Internal, "@main does not return");
}

Expected<SmallVector<Tensor>> dlc::emulate(ModelSource &source,
                                           CudaModel &model,
                                           ArrayRef<Tensor> inputs,
                                           EmulatorOptions options) {
  DiagnosticCollector diagnostics(source.context.get(), "");
  FailureOr<SmallVector<int64_t>> symbols =
      interp::bindSymbols(source.getMain(), inputs);
  if (failed(symbols))
    return diagnostics.take(ExitCode::Usage, "the inputs do not fit the model");
  std::unique_ptr<EmulatedModule> emulated;
  if (!model.kernels.empty()) {
    auto created = EmulatedModule::createFromCopy(*model.module, options);
    if (!created)
      return created.takeError();
    emulated = std::move(*created);
  }
  return Run(model, emulated.get(), *symbols).main(source.getMain(), inputs);
}
