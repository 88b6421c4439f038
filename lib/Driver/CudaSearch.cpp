// From a kernel for a GPU to a task of the tuner.
#include "dlc/Driver/CudaSearch.h"

#include "CudaCandidate.h"

#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

namespace {
/// A kernel by itself, in a context of its own.
struct OwnKernel {
  std::unique_ptr<MLIRContext> context;
  Block block;
  graph::KernelOp op;

  explicit OwnKernel(StringRef bytecode);
};
} // namespace

OwnKernel::OwnKernel(StringRef bytecode) {
  DialectRegistry registry;
  registry.insert<graph::GraphDialect>();
  context =
      std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  context->loadDialect<graph::GraphDialect>();
  loadCudaDialects(*context);
  ParserConfig config(context.get());
  if (succeeded(readBytecodeFile(llvm::MemoryBufferRef(bytecode, "kernel"),
                                 &block, config)))
    op = dyn_cast<graph::KernelOp>(block.front());
}

struct CudaKernelTask::State {
  explicit State(const CudaTarget &target) : target(target) {}
  Expected<tuner::BuiltKernel> build(StringRef nest,
                                     const KnobValues &knobs) const;

  std::string bytecode;
  CudaTarget target;
  CudaCodegenOptions options;
  std::shared_ptr<CudaRunner> runner;
  CudaRunner::Kernel shared;
  /// For the space; candidates are built from copies of their own.
  std::optional<OwnKernel> kernel;
};

Expected<tuner::BuiltKernel>
CudaKernelTask::State::build(StringRef nest, const KnobValues &knobs) const {
  OwnKernel own(bytecode);
  if (!own.op)
    return llvm::createStringError("the kernel cannot be read back");
  return buildCudaCandidate(own.op, nest, knobs, target, options, "kernel");
}

CudaKernelTask::CudaKernelTask() = default;
CudaKernelTask::~CudaKernelTask() = default;

Expected<std::unique_ptr<CudaKernelTask>>
CudaKernelTask::create(graph::KernelOp kernel, const CudaTarget &target,
                       const CudaCodegenOptions &options,
                       std::shared_ptr<CudaRunner> runner, uint64_t seed,
                       double mostWork) {
  std::string reason, name = kernel.getSymName().str();
  auto fail = [&](const Twine &why) {
    return llvm::createStringError("kernel '" + name +
                                   "' is not tuned: " + why);
  };
  auto key = tuner::makeCudaKey(kernel, target, options, reason);
  if (failed(key))
    return fail(reason);
  if (key->work > mostWork)
    return fail("the interpreter would take too long to check it");
  std::unique_ptr<CudaKernelTask> made(new CudaKernelTask());
  made->state = std::make_unique<State>(target);
  State &state = *made->state;
  state.options = options;
  state.runner = std::move(runner);
  llvm::raw_string_ostream os(state.bytecode);
  if (failed(writeBytecodeToFile(kernel, os)))
    return fail("it has no bytecode form");
  state.kernel.emplace(state.bytecode);
  if (!state.kernel->op)
    return fail("it cannot be read back");

  tuner::Task &task = made->task;
  task.name = name;
  task.workload = key->workload;
  task.target = key->target;
  Expected<tuner::Scorer> scorer =
      tuner::Scorer::create(task.workload, task.target);
  if (!scorer)
    return scorer.takeError();
  task.scorer = std::move(*scorer);
  task.space = cudaScheduleSpace(state.kernel->op, state.options);
  task.build = [&state, &task](const KnobValues &knobs) {
    return state.build(task.space.nest, knobs);
  };
  task.measure = [&state](ArrayRef<const tuner::BuiltKernel *> candidates,
                          const tuner::BuiltKernel &reference,
                          const tuner::RunLimits &limits,
                          tuner::Task::Done done) {
    return state.runner->measure(state.shared, candidates, reference, limits,
                                 done);
  };
  CudaRunner::Kernel &shared = state.shared;
  shared.name = task.scorer.name;
  shared.workload = task.workload;
  shared.target = task.target;
  auto data = describeCudaData(state.kernel->op, seed, shared.oracle);
  if (!data)
    return fail(llvm::toString(data.takeError()));
  shared.data = std::move(*data);
  return made;
}

bool CudaKernelTask::addLibrary(std::string &reason) {
  auto found = findLibraryCall(state->kernel->op, state->options, reason);
  if (failed(found))
    return false;
  StringRef name = getLibraryKnob(found->call.kind);
  int64_t version = state->runner->getLibrary(found->call.kind);
  if (!version) {
    reason = ("the library of such sums (" + name + ") is not there").str();
    return false;
  }
  task.alternatives = {{kLibraryNest.str(), {{name.str(), version}}}};
  task.buildAlternative = [&state = *state](const tuner::Alternative &other) {
    return state.build(other.nest, other.knobs);
  };
  return true;
}
