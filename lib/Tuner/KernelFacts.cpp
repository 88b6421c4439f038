// What a record holds of a kernel: sizes, strides and types, without names.
#include "KernelFacts.h"

#include "JsonFields.h"
#include "dlc/Codegen/CPU/AttentionSchedule.h"
#include "dlc/Codegen/CPU/ConstantBits.h"
#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/CPU/LoopKnobs.h"
#include "dlc/Codegen/CPU/LoopOutline.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Record.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::tuner;

std::string dlc::tuner::canonicalText(graph::KernelOp kernel) {
  auto copy = cast<graph::KernelOp>(kernel->clone());
  copy.setSymName("kernel");
  for (NamedAttribute attr : llvm::to_vector(copy->getAttrs()))
    if (StringRef name = attr.getName();
        name != "sym_name" && name != "function_type" && name != "symbols" &&
        name != kConstantBits)
      copy->removeAttr(name);
  SmallVector<std::string> symbols;
  for (unsigned i = 0; i < kernel.getNumSymbols(); ++i)
    symbols.push_back("s" + std::to_string(i));
  SmallVector<StringRef> names(symbols.begin(), symbols.end());
  if (!names.empty())
    copy->setAttr("symbols",
                  Builder(kernel.getContext()).getStrArrayAttr(names));
  std::string text;
  llvm::raw_string_ostream os(text);
  copy->print(os, OpPrintingFlags().useLocalScope().assumeVerified());
  copy->erase();
  return text;
}

std::string dlc::tuner::withSizes(const std::string &workload,
                                  graph::KernelOp kernel,
                                  const KernelSizes &sizes) {
  if (!kernel.getNumSymbols())
    return workload;
  Json json = Json::parse(workload);
  json["symbolic"] = sizes.measured;
  if (std::optional<SizeRange> range = getVariantRange(kernel)) {
    json["range"] = {range->low, range->typical};
    if (range->high != SizeRange().high)
      json["range"].push_back(range->high);
  }
  return json.dump();
}

std::string dlc::tuner::whyNotTuned(graph::KernelOp kernel,
                                    const KernelSizes &sizes) {
  if (kernel.getNumSymbols() != sizes.getFirst().size())
    return "its sizes are symbolic";
  if (kernel.getOpaque())
    return "it is an opaque operator";
  bool readsIndices = false;
  kernel.getBody().walk([&](graph::ToIndexOp) { readsIndices = true; });
  return readsIndices ? "its indices come from data" : "";
}

std::vector<bool> dlc::tuner::findFactors(graph::KernelOp kernel) {
  std::vector<bool> factors(kernel.getArgumentTypes().size(), false);
  auto set = [&](const ContractionOperand &factor) {
    if (factor.plain || factor.guarded)
      factors[factor.operand] = true;
  };
  std::string why;
  if (auto spec = classifyAttention(kernel, why); succeeded(spec)) {
    set(spec->query);
    set(spec->key);
    set(spec->value);
  } else if (auto product = classifyContraction(kernel, why);
             succeeded(product)) {
    set(product->lhs);
    set(product->rhs);
  }
  return factors;
}

TargetFacts dlc::tuner::factsOf(const TargetDesc &desc) {
  TargetFacts facts;
  facts.arch = desc.arch;
  facts.cpu = desc.cpu;
  facts.vectorBytes = desc.vectorBytes;
  facts.vectorRegisters = desc.vectorRegisters;
  facts.l1 = desc.l1Bytes;
  facts.l2 = desc.l2Bytes;
  facts.l3 = desc.l3Bytes;
  facts.ghz = desc.ghz;
  facts.flopsPerCycle = desc.f32FlopsPerCycle;
  facts.readGBs = desc.readGBs;
  return facts;
}

static int64_t bytesOf(Type type) {
  return std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8);
}

/// Points of a group of axes.
template <typename Spec>
static int64_t sizeOf(const Spec &spec, ArrayRef<unsigned> axes,
                      ArrayRef<int64_t> symbols) {
  return std::max<int64_t>(1, graph::evaluate(spec.extentOf(axes), symbols));
}

/// The stride of a group of axes in an operand; -1 where it has none.
template <typename Spec>
static int64_t strideOf(const Spec &spec, const ContractionOperand &operand,
                        ArrayRef<unsigned> axes, ArrayRef<int64_t> symbols) {
  auto expr = operand.plain ? spec.strideOf(operand, axes) : std::nullopt;
  return expr ? graph::evaluate(*expr, symbols) : -1;
}

/// Bytes of an element of a factor; `computed` of one that lies nowhere.
static int64_t factorBytes(const ContractionOperand &operand,
                           int64_t computed) {
  return operand.plain || operand.guarded ? bytesOf(operand.element) : computed;
}

ContractionFacts dlc::tuner::factsOf(const ContractionSpec &spec,
                                     const CpuTarget &target,
                                     const CpuCodegenOptions &options,
                                     ArrayRef<int64_t> symbols) {
  ContractionFacts f;
  f.outer = sizeOf(spec, spec.outer, symbols);
  f.rows = sizeOf(spec, spec.rows, symbols);
  f.columns = sizeOf(spec, spec.columns, symbols);
  f.depth = sizeOf(spec, spec.inner, symbols);
  f.accBytes = bytesOf(spec.accumulator);
  auto readFactor = [&](const ContractionOperand &operand,
                        ArrayRef<unsigned> major, int64_t &bytes, int64_t &step,
                        int64_t &depth, bool &isPlain, bool &isConstant) {
    bytes = factorBytes(operand, f.accBytes);
    isPlain = operand.plain;
    isConstant = operand.plain && options.isConstant(operand.operand);
    step = strideOf(spec, operand, major, symbols);
    depth = strideOf(spec, operand, spec.inner, symbols);
  };
  readFactor(spec.lhs, spec.rows, f.lhsBytes, f.lhsRow, f.lhsDepth, f.lhsPlain,
             f.lhsConstant);
  readFactor(spec.rhs, spec.columns, f.rhsBytes, f.rhsColumn, f.rhsDepth,
             f.rhsPlain, f.rhsConstant);
  if (SmallVector<unsigned> run = spec.lhsRun(); !run.empty())
    f.lhsRun = sizeOf(spec, run, symbols);
  f.results = int64_t(spec.results.size());
  f.resultBytes = 0;
  for (unsigned i = 0; i < spec.results.size(); ++i)
    f.resultBytes += bytesOf(spec.resultElement(i));
  graph::KernelOp kernel = spec.kernel;
  for (graph::StageOp stage : kernel.getStages()) {
    if (stage == spec.stage)
      continue;
    stage.getBlock()->walk([&](Operation *op) {
      f.epilogueOps += isa<graph::ApplyOp>(op);
      auto load = dyn_cast<graph::LoadOp>(op);
      f.epilogueLoads += load && isa<BlockArgument>(load.getTensor());
    });
  }
  ContractionSchedule base = baseSchedule(target.desc(), spec.accumulator);
  f.panelColumns = base.panelColumns();
  f.kBlock = base.kBlock;
  f.strict = options.strict;
  f.threads = target.plannedThreads();
  f.kernel = sha256(canonicalText(spec.kernel));
  return f;
}

/// What the nest makes of the loop with most of the work, and where a register
/// tile may lie.
static void addOutline(LoopFacts &f, graph::KernelOp kernel,
                       const CpuTarget &target,
                       const CpuCodegenOptions &options,
                       ArrayRef<int64_t> symbols, bool mergesMoments) {
  LoopSchedule schedule;
  schedule.mergesMoments = mergesMoments && !options.strict;
  auto mainOf = [&] {
    KernelOutline loops =
        outlineLoops(kernel, target, options.strict, schedule, symbols);
    f.loops = int64_t(loops.size());
    return *llvm::max_element(loops, [](auto &a, auto &b) {
      return a.work < b.work; // of equals the first
    });
  };
  LoopOutline own = mainOf();
  f.lanes = own.lanes;
  f.laneExtent = own.laneExtent;
  f.ownWidth = own.width;
  f.ownGroups = own.groups;
  f.ownAcross = own.across;
  f.taskRows = own.rows;
  f.rowCost = own.rowCost;
  f.pieceExtent = own.pieceExtent;
  f.pieceCost = own.pieceCost;
  // The nest may leave out a tile that a schedule may ask for.
  if (own.tileExtent == 0) {
    schedule.across = 2;
    own = mainOf();
  }
  f.tileExtent = own.tileExtent;
  f.tileBegin = own.tileBegin;
  f.tileEnd = own.tileEnd;
  f.tileSteps = own.steps;
}

LoopFacts dlc::tuner::loopFactsOf(graph::KernelOp kernel,
                                  const CpuTarget &target,
                                  const CpuCodegenOptions &options,
                                  ArrayRef<int64_t> symbols) {
  LoopFacts f;
  NestChoice choice = bestNest(kernel);
  f.nest = chooseNest(kernel).str();
  f.weight = 0;
  f.loads = 0;
  auto count = [&](ArrayRef<AffineExpr> dims) {
    int64_t points = 1;
    for (AffineExpr dim : dims)
      points *= graph::evaluate(dim, symbols);
    return points;
  };
  auto last = [&](ArrayRef<AffineExpr> dims) {
    return dims.empty() ? 1 : count(dims.take_back());
  };
  for (graph::StageOp stage : kernel.getStages()) {
    ++f.stages;
    f.points = std::max(f.points, count(stage.getDomainDims()));
    if (stage.getFoldKind() != graph::FoldKind::none) {
      ++f.folds;
      f.folded = std::max(f.folded, count(stage.getReduceDims()));
      f.innerFold = std::max(f.innerFold, last(stage.getReduceDims()));
      f.weight += 1;
    }
    f.innermost = std::max(f.innermost, last(stage.getDomainDims()));
    stage.getBlock()->walk([&](Operation *op) {
      if (auto apply = dyn_cast<graph::ApplyOp>(op)) {
        int64_t weight = scalarWeight(apply.getFn());
        f.weight += weight;
        f.heavy += weight > 4;
      }
      if (auto load = dyn_cast<graph::LoadOp>(op)) {
        ++f.loads;
        f.guards += load.getGuard().has_value();
      }
      f.conversions += isa<graph::CastOp>(op);
    });
  }
  --f.stages; // it began with one
  f.weight = std::max<int64_t>(f.weight, 1);
  f.stridedLoads = choice.stridedLoads;
  f.kept = int64_t(choice.plan.kept.size());
  f.mode = choice.plan.mode;
  f.rows = graph::evaluate(choice.plan.rows, symbols);
  f.rowBytes = graph::evaluate(choice.plan.rowBytes, symbols);
  f.results = int64_t(kernel.getResultTypes().size());
  auto bytes = [&](ArrayRef<Type> types) {
    int64_t sum = 0;
    for (Type type : types)
      sum += count(graph::getDims(type)) *
             graph::elementBytes(cast<RankedTensorType>(type).getElementType());
    return sum;
  };
  f.readBytes = bytes(kernel.getArgumentTypes());
  f.writtenBytes = bytes(kernel.getResultTypes());
  std::tie(f.widestBytes, f.narrowestBytes) = elementWidths(kernel);
  f.window = loopKindOf(kernel) == LoopKind::Window;
  addOutline(f, kernel, target, options, symbols, choice.mergesMoments);
  f.strict = options.strict;
  f.threads = target.plannedThreads();
  f.kernel = sha256(canonicalText(kernel));
  return f;
}

AttentionFacts dlc::tuner::factsOf(const AttentionSpec &spec,
                                   const CpuTarget &target,
                                   const CpuCodegenOptions &options,
                                   ArrayRef<int64_t> symbols) {
  AttentionFacts f;
  f.outer = sizeOf(spec, spec.outer, symbols);
  f.group = sizeOf(spec, spec.group, symbols);
  f.rows = sizeOf(spec, spec.rows, symbols);
  f.keys = sizeOf(spec, spec.keys, symbols);
  f.inner = sizeOf(spec, spec.inner, symbols);
  f.columns = sizeOf(spec, spec.columns, symbols);
  constexpr int64_t computed = 4; // bytes of f32
  f.queryBytes = factorBytes(spec.query, computed);
  f.keyBytes = factorBytes(spec.key, computed);
  f.valueBytes = factorBytes(spec.value, computed);
  f.resultBytes = 0;
  for (graph::StageOp stage : spec.results)
    f.resultBytes += bytesOf(stage.getElementType());
  f.keyStride = strideOf(spec, spec.key, spec.keys, symbols);
  f.valueStride = strideOf(spec, spec.value, spec.keys, symbols);
  f.keyContiguous = strideOf(spec, spec.key, spec.inner, symbols) == 1;
  f.valueContiguous = strideOf(spec, spec.value, spec.columns, symbols) == 1;
  f.cuts = int64_t(spec.cuts.size());
  graph::KernelOp kernel = spec.kernel;
  kernel.getBody().walk([&](graph::ApplyOp) { ++f.scoreOps; });
  f.onePass = !spec.weightRounding;
  f.few = defaultSchedule(spec, target, getVariantRange(kernel)).few;
  f.strict = options.strict;
  f.threads = target.plannedThreads();
  f.kernel = sha256(canonicalText(spec.kernel));
  return f;
}
