// From a kernel to a task: its key, its space, its operands and what they give,
// and its code under any schedule.
#include "dlc/Tuner/KernelTask.h"

#include "KernelFacts.h"
#include "dlc/Codegen/CPU/AttentionKnobs.h"
#include "dlc/Codegen/CPU/ConstantBits.h"
#include "dlc/Codegen/CPU/ContractionKnobs.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CPU/LoopKnobs.h"
#include "dlc/Codegen/CPU/Nests.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Interpreter/Interpreter.h"
#include "dlc/Schedule/CostQuery.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Target/Common/StaticCycles.h"
#include "dlc/Target/Targets.h"

#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Transforms/Utils/Cloning.h"

#include <cmath>
#include <random>

using namespace mlir;
using namespace dlc;
using namespace dlc::tuner;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

/// What code generation would take it for: an attention, a contraction, or
/// (with neither) loops.
namespace {
struct Classified {
  std::optional<AttentionSpec> attention;
  std::optional<ContractionSpec> contraction;

  Classified() = default;
  Classified(graph::KernelOp kernel, const CpuCodegenOptions &options) {
    std::string why;
    if (!options.strict && bestNest(kernel).nest == "attention")
      if (auto spec = classifyAttention(kernel, why); succeeded(spec)) {
        attention = std::move(*spec);
        return;
      }
    if (auto spec = classifyContraction(kernel, why); succeeded(spec))
      contraction = std::move(*spec);
  }
};
} // namespace

FailureOr<KernelKey> dlc::tuner::makeKernelKey(graph::KernelOp kernel,
                                               const CpuTarget &target,
                                               const CpuCodegenOptions &options,
                                               std::string &reason,
                                               const KernelSizes &sizes) {
  reason = whyNotTuned(kernel, sizes);
  if (!reason.empty())
    return failure();
  KernelKey key;
  key.target = factsOf(target.desc()).toJson();
  ArrayRef<int64_t> symbols = sizes.getFirst();
  key.work = countWork(kernel, symbols).scalarOps;
  Classified classified(kernel, options);
  if (classified.attention) {
    key.nest = "attention";
    key.workload =
        factsOf(*classified.attention, target, options, symbols).toJson();
  } else if (classified.contraction) {
    key.nest = "contraction";
    key.workload =
        factsOf(*classified.contraction, target, options, symbols).toJson();
  } else {
    key.nest = chooseNest(kernel).str();
    key.workload = loopFactsOf(kernel, target, options, symbols).toJson();
  }
  key.workload = withSizes(key.workload, kernel, sizes);
  return key;
}

/// The space refers to what `classified` holds.
static ScheduleSpace spaceOf(graph::KernelOp kernel, const CpuTarget &target,
                             const CpuCodegenOptions &options,
                             const Classified &classified,
                             const KernelSizes &sizes) {
  ArrayRef<int64_t> symbols = sizes.getFirst();
  std::optional<SizeRange> range = getVariantRange(kernel);
  return classified.attention
             ? attentionSpace(*classified.attention, target, symbols, range)
         : classified.contraction
             ? contractionSpace(*classified.contraction, target, options,
                                symbols, range)
             : loopSpace(kernel, target, options.strict, symbols);
}

bool dlc::tuner::isLegalFor(graph::KernelOp kernel, const KnobValues &knobs,
                            const CpuTarget &target,
                            const CpuCodegenOptions &options,
                            std::string &reason, const KernelSizes &sizes) {
  reason = whyNotTuned(kernel, sizes);
  if (!reason.empty())
    return false;
  Classified classified(kernel, options);
  return spaceOf(kernel, target, options, classified, sizes)
      .isLegal(knobs, reason);
}

KnobValues dlc::tuner::representFor(graph::KernelOp kernel,
                                    const KnobValues &knobs,
                                    const CpuTarget &target,
                                    const CpuCodegenOptions &options,
                                    const KernelSizes &sizes) {
  Classified classified(kernel, options);
  return spaceOf(kernel, target, options, classified, sizes).represent(knobs);
}

//===----------------------------------------------------------------------===//
// The task
//===----------------------------------------------------------------------===//

struct KernelTask::State {
  std::string bytecode;
  std::optional<CpuTarget> target;
  CpuCodegenOptions options;
  /// The kernel again, for the space; candidates have contexts of their own.
  std::unique_ptr<MLIRContext> context;
  Block block;
  Classified classified;
};

KernelTask::KernelTask() : state(std::make_unique<State>()) {}
KernelTask::~KernelTask() = default;

static std::unique_ptr<MLIRContext> makeContext() {
  DialectRegistry registry;
  registry.insert<graph::GraphDialect>();
  registerCpuDialects(registry);
  auto context =
      std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  context->loadDialect<graph::GraphDialect>();
  loadCpuDialects(*context);
  return context;
}

static graph::KernelOp readKernel(const std::string &bytecode,
                                  MLIRContext &context, Block &block) {
  ParserConfig config(&context);
  if (failed(readBytecodeFile(llvm::MemoryBufferRef(bytecode, "kernel"), &block,
                              config)))
    return {};
  return dyn_cast<graph::KernelOp>(block.front());
}

/// Seconds of a run: what one thread has to do at most, and what caches and
/// memory take: measured, little of it hides behind units that are busy.
static Expected<double> estimateSeconds(llvm::Module &module,
                                        const CpuKernel &code,
                                        const CpuTarget &target,
                                        double traffic) {
  constexpr double taskCycles = 200;
  int64_t threads = target.plannedThreads();
  double cycles = 0;
  for (const CpuPhase &phase : code.phases) {
    std::unique_ptr<llvm::Module> copy = llvm::CloneModule(module);
    int64_t tasks = graph::evaluate(phase.numTasks, {});
    auto task = estimateCycles(target, *copy, phase.symbol, tasks);
    if (!task)
      return task.takeError();
    cycles += double(llvm::divideCeil(tasks, threads)) * (*task + taskCycles);
  }
  double compute = cycles / (target.desc().ghz * 1e9);
  return compute + traffic;
}

/// Runs in a process of its own.
static Expected<BuiltKernel> build(const Task &task, StringRef nest,
                                   const KnobValues &knobs,
                                   const std::string &bytecode,
                                   const CpuTarget &target,
                                   const CpuCodegenOptions &options) {
  auto context = makeContext();
  std::string said;
  ScopedDiagnosticHandler handler(context.get(), [&](Diagnostic &diagnostic) {
    said += said.empty() ? diagnostic.str() : "; " + diagnostic.str();
    return success();
  });
  Block block;
  graph::KernelOp kernel = readKernel(bytecode, *context, block);
  auto fail = [&](const Twine &why) {
    return llvm::createStringError(why + (said.empty() ? "" : ": " + said));
  };
  if (!kernel)
    return fail("the kernel cannot be read back");
  Schedule schedule;
  schedule.nest = nest.str();
  schedule.knobs.insert(knobs.begin(), knobs.end());
  // As the compiler has it where Check admits the law, which it does for what
  // planRows found.
  if (!options.strict && nest == "row" && bestNest(kernel).mergesMoments)
    schedule.laws.push_back(graph::Law::homWelford());
  if (!options.strict && nest == "contraction" && bestNest(kernel).sharesScales)
    schedule.laws.push_back(graph::Law::distributeAdd());
  std::optional<SizeRange> range = getVariantRange(kernel);
  kernel.setScheduleAttr(schedule.toAttr(context.get()));
  if (range)
    setVariantRange(kernel, *range);
  auto code = emitCpuKernel(kernel, target, options);
  if (failed(code))
    return fail("refused");
  if (failed(lowerToLLVM(*code->module)))
    return fail("lowering failed");
  llvm::LLVMContext llvmContext;
  auto module = translateToLLVM(*code->module, llvmContext);
  if (!module)
    return fail("translation to LLVM failed");
  BuiltKernel result;
  if (task.timing == Timing::Static) {
    auto seconds =
        estimateSeconds(*module, *code, target, task.scorer.traffic(knobs));
    if (!seconds)
      return seconds.takeError();
    result.staticSeconds = *seconds;
    return result;
  }
  auto object = target.emitObject(*module);
  if (!object)
    return object.takeError();
  result.object.assign(object->begin(), object->end());
  for (const CpuPhase &phase : code->phases)
    result.phases.push_back(phase.symbol);
  auto launch = [&](const Problem &problem) {
    Launch &l = result.launches.emplace_back();
    for (const CpuPhase &phase : code->phases)
      l.tasks.push_back(graph::evaluate(phase.numTasks, problem.symbols));
    l.scratchBytes = graph::evaluate(code->scratchBytes, problem.symbols);
  };
  launch(task.problem);
  llvm::for_each(task.problem.others, launch);
  for (const OperandPacking &packing : code->packings) {
    std::string &packed = result.packed[packing.operand];
    packed.resize(packing.bytes);
    const std::string &bytes = task.problem.operands[packing.operand];
    packing.pack({bytes.data(), bytes.size()}, {packed.data(), packed.size()});
  }
  return result;
}

/// Random elements: factors around zero, others (scales, variances) positive,
/// small integers, of `bits` with their sign where code may count on it.
static bool fill(Tensor &tensor, bool isFactor, int8_t bits,
                 std::mt19937_64 &random) {
  Type type = tensor.getElementType();
  char *bytes = tensor.getMutableBytes();
  auto number = [&] {
    double unit = double(random() >> 11) * 0x1p-53;
    return isFactor ? unit - 0.5 : 0.25 + 0.75 * unit;
  };
  int64_t count = tensor.getNumElements();
  auto store = [&](auto make) {
    for (int64_t i = 0; i < count; ++i) {
      auto value = make();
      std::memcpy(bytes + i * int64_t(sizeof value), &value, sizeof value);
    }
    return true;
  };
  if (type.isF32())
    return store([&] { return float(number()); });
  if (type.isF64())
    return store([&] { return number(); });
  if (auto real = dyn_cast<FloatType>(type); real && real.getWidth() <= 16)
    return store([&] {
             llvm::APFloat value(number());
             bool lost;
             value.convert(real.getFloatSemantics(),
                           llvm::APFloat::rmNearestTiesToEven, &lost);
             return uint16_t(value.bitcastToAPInt().getZExtValue());
           }) &&
           real.getWidth() == 16;
  if (!type.isInteger() || type.getIntOrFloatBitWidth() > 64)
    return false;
  unsigned width = type.getIntOrFloatBitWidth();
  uint64_t bound = width == 1 ? 2 : width <= 8 ? 100 : 1000;
  int64_t size = std::max(1u, width / 8);
  uint64_t least = 0;
  if (bits < 8) {
    bound = uint64_t(1) << bits;
    least = graph::isUnsigned(type) ? 0 : -(bound / 2);
  }
  for (int64_t i = 0; i < count; ++i) {
    uint64_t value = least + random() % bound;
    std::memcpy(bytes + i * size, &value, size);
  }
  return true;
}

/// Nothing when an element is no number: a candidate that leaves it out would
/// not be found.
static std::optional<ExpectedResult> makeExpected(const Tensor &tensor) {
  ExpectedResult result;
  result.bytes.assign(tensor.getBytes(), size_t(tensor.getNumBytes()));
  Type type = tensor.getElementType();
  result.kind = type.isF32()    ? ElementKind::F32
                : type.isF64()  ? ElementKind::F64
                : type.isF16()  ? ElementKind::F16
                : type.isBF16() ? ElementKind::BF16
                                : ElementKind::Bytes;
  result.tolerance = interp::getTolerance(type);
  if (auto real = dyn_cast<FloatType>(type)) {
    unsigned width = real.getWidth() / 8;
    for (int64_t i = 0; i < tensor.getNumElements(); ++i) {
      uint64_t bits = 0;
      std::memcpy(&bits, tensor.getBytes() + i * width, width);
      if (llvm::APFloat(real.getFloatSemantics(),
                        llvm::APInt(real.getWidth(), bits))
              .isNaN())
        return std::nullopt;
    }
  }
  return result;
}

/// Random operands of `kernel` at `symbols` and what the interpreter makes of
/// them. Constants are those of `first`, as they are packed once.
static bool makeProblem(graph::KernelOp kernel, ArrayRef<int64_t> symbols,
                        uint64_t seed, Problem &problem, std::string &reason,
                        const Problem *first = nullptr) {
  auto fail = [&](const char *why) {
    reason = why;
    return false;
  };
  problem.symbols = symbols.vec();
  std::mt19937_64 random(seed);
  SmallVector<Tensor> operands;
  std::vector<bool> factors = findFactors(kernel);
  auto bits = kernel->getAttrOfType<DenseI8ArrayAttr>(kConstantBits);
  for (auto [i, type] : llvm::enumerate(kernel.getArgumentTypes())) {
    SmallVector<int64_t> shape;
    for (AffineExpr dim : graph::getDims(type))
      shape.push_back(graph::evaluate(dim, symbols));
    Tensor tensor(cast<RankedTensorType>(type).getElementType(), shape);
    if (first && cast<RankedTensorType>(type).hasStaticShape())
      llvm::copy(first->operands[i], tensor.getMutableBytes());
    else if (!fill(tensor, factors[i], bits ? bits[i] : 8, random))
      return fail("an operand has a type that no random numbers are made of");
    problem.operands.emplace_back(tensor.getBytes(),
                                  size_t(tensor.getNumBytes()));
    operands.push_back(std::move(tensor));
  }
  auto results = interp::Interpreter().runKernel(kernel, operands, symbols);
  if (failed(results))
    return fail("the interpreter fails on it");
  for (const Tensor &tensor : *results) {
    auto expected = makeExpected(tensor);
    if (!expected)
      return fail("random operands give results that are no numbers");
    problem.results.push_back(std::move(*expected));
  }
  return true;
}

Expected<std::unique_ptr<KernelTask>>
KernelTask::create(graph::KernelOp kernel, const CpuTarget &target,
                   const CpuCodegenOptions &options, uint64_t seed,
                   double mostWork, Timing timing, const KernelSizes &sizes) {
  initializeCpuBackends();
  std::string reason;
  std::string name = kernel.getSymName().str();
  auto fail = [&](const Twine &why) {
    return llvm::createStringError("kernel '" + name +
                                   "' is not tuned: " + why);
  };
  auto key = makeKernelKey(kernel, target, options, reason, sizes);
  if (failed(key))
    return fail(reason);
  if (timing == Timing::Static && kernel.getNumSymbols())
    return fail("its sizes are symbolic, and times are estimated of static "
                "ones alone");
  if (key->work > mostWork && timing == Timing::Measured)
    return fail("the interpreter would take too long to check it");
  std::unique_ptr<KernelTask> made(new KernelTask());
  State &state = *made->state;
  state.target = target;
  state.options = options;
  state.options.symbol = "kernel";
  llvm::raw_string_ostream os(state.bytecode);
  if (failed(writeBytecodeToFile(kernel, os)))
    return fail("it has no bytecode form");
  state.context = makeContext();
  graph::KernelOp copy =
      readKernel(state.bytecode, *state.context, state.block);
  if (!copy)
    return fail("it cannot be read back");

  Task &task = made->task;
  task.name = name;
  task.workload = key->workload;
  task.target = key->target;
  Expected<Scorer> scorer = Scorer::create(task.workload, task.target);
  if (!scorer)
    return scorer.takeError();
  task.scorer = std::move(*scorer);
  state.classified = Classified(copy, state.options);
  task.space =
      spaceOf(copy, *state.target, state.options, state.classified, sizes);
  task.problem.threads = target.plannedThreads();
  task.timing = timing;
  task.build = [&state, &task](const KnobValues &knobs) {
    return build(task, task.space.nest, knobs, state.bytecode, *state.target,
                 state.options);
  };
  if (timing == Timing::Static)
    return made;
  if (!makeProblem(copy, sizes.getFirst(), seed, task.problem, reason))
    return fail(reason);
  auto add = [&](const KernelSizes::Point &point, bool isScored) {
    Problem problem;
    if (!makeProblem(copy, point, seed, problem, reason, &task.problem))
      return false;
    problem.isScored = isScored;
    task.problem.others.push_back(std::move(problem));
    return true;
  };
  for (const KernelSizes::Point &point :
       ArrayRef(sizes.measured).drop_front(sizes.measured.empty() ? 0 : 1))
    if (!add(point, true))
      return fail(reason);
  for (const KernelSizes::Point &point : sizes.others)
    if (!add(point, false))
      return fail(reason);
  return made;
}

//===----------------------------------------------------------------------===//
// Libraries
//===----------------------------------------------------------------------===//

bool dlc::tuner::isForLibraries(const CpuTarget &target, std::string &reason) {
  Expected<CpuTarget> host = parseCpuTarget("host");
  if (!host) {
    reason = llvm::toString(host.takeError());
    return false;
  }
  if (host->desc().arch == target.desc().arch &&
      host->desc().features == target.desc().features)
    return true;
  reason =
      "the target has other instructions than this machine, all of which a "
      "library uses";
  return false;
}

bool dlc::tuner::isLibraryLegalFor(graph::KernelOp kernel,
                                   const KnobValues &knobs,
                                   const CpuCodegenOptions &options,
                                   std::string &reason) {
  reason = whyNotTuned(kernel);
  if (!reason.empty())
    return false;
  auto spec = classifyContraction(kernel, reason);
  auto pieces = knobs.find("pieces");
  return succeeded(spec) &&
         succeeded(planLibrary(*spec, options,
                               pieces == knobs.end() ? 1 : pieces->second,
                               reason));
}

unsigned KernelTask::addLibrary(int64_t version, std::string &reason) {
  task.alternatives.clear();
  if (!state->classified.contraction) {
    reason = "it is no product";
    return 0;
  }
  for (KnobValues &knobs :
       libraryCandidates(*state->classified.contraction, *state->target,
                         state->options, task.problem.threads, reason)) {
    knobs["onednn"] = version;
    task.alternatives.push_back({kLibraryNest.str(), std::move(knobs)});
  }
  task.buildAlternative = [state = state.get(),
                           &task = task](const Alternative &other) {
    return build(task, other.nest, other.knobs, state->bytecode, *state->target,
                 state->options);
  };
  return task.alternatives.size();
}
