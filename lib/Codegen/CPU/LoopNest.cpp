// The phases of a kernel. Tasks cut the outer axes into runs of rows, and a
// long innermost axis into pieces; what happens in a row is LoopStage's.
//
// A kernel with intermediate stages keeps them a row at a time in the worker's
// scratch, where a row is what all its stages share as leading axes.
#include "dlc/Codegen/CPU/LoopNest.h"

#include "LoopStage.h"
#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

// Scalar operations of one task: some ten microseconds.
static constexpr int64_t defaultGrain = 1 << 17;

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

namespace {
struct PlannedStage {
  LoopExpr expr;
  LoopPlan plan;
};

class KernelEmitter {
public:
  KernelEmitter(graph::KernelOp kernel, const CpuTarget &target,
                const CpuCodegenOptions &options, const LoopSchedule &schedule)
      : kernel(kernel), target(target), options(options), schedule(schedule) {}

  CpuKernel emit();

private:
  void chooseStages();
  void findRowRank();
  bool inlines(StageOp stage);
  std::optional<unsigned> bufferOf(Value value);
  PlannedStage plan(StageOp stage, unsigned buffer, unsigned rowRank);
  void emitPhase(MutableArrayRef<PlannedStage> stages, unsigned rowRank,
                 StringRef symbol);
  bool maskedMemory() {
    return target.desc().arch == "x86" && target.hasFeature("avx512vl") &&
           target.hasFeature("avx512bw");
  }

  graph::KernelOp kernel;
  const CpuTarget &target;
  const CpuCodegenOptions &options;
  const LoopSchedule &schedule;
  CpuKernel result;
  SmallVector<StageOp> kept; ///< intermediate stages that lie in scratch
  SmallVector<Type> bufferTypes;
  unsigned numBuffers = 0; ///< operands and results
  unsigned rowRank = 0;
};
} // namespace

static SmallVector<graph::LoadOp> loadsOf(StageOp stage) {
  SmallVector<graph::LoadOp> loads;
  for (Operation *user : stage.getResult().getUsers())
    if (auto load = dyn_cast<graph::LoadOp>(user))
      loads.push_back(load);
  return loads;
}

/// The map's results are all the axes of the stage that loads, once each: each
/// element of the loaded stage is wanted once.
static bool isPermutation(graph::LoadOp load) {
  auto stage = load->getParentOfType<StageOp>();
  unsigned domainRank = stage.getDomainRank();
  llvm::SmallDenseSet<unsigned> seen;
  AffineMap map = load.getMap();
  for (AffineExpr e : map.getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(e);
    if (!dim) {
      if (graph::constantValue(e) == 0)
        continue;
      return false;
    }
    auto arg = dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()]);
    if (!arg || !seen.insert(arg.getArgNumber()).second)
      return false;
  }
  // Axes that the load does not follow repeat it, unless they are one element.
  for (unsigned i = 0; i < domainRank + stage.getReduceRank(); ++i) {
    AffineExpr extent = i < domainRank ? stage.getDomainDims()[i]
                                       : stage.getReduceDims()[i - domainRank];
    if (!seen.contains(i) && graph::constantValue(extent) != 1)
      return false;
  }
  return true;
}

/// Whether a stage is computed where it is used instead of being kept.
bool KernelEmitter::inlines(StageOp stage) {
  SmallVector<graph::LoadOp> loads = loadsOf(stage);
  if (llvm::any_of(loads, [](graph::LoadOp l) { return l.getGuard(); }))
    return false;
  bool folds = stage.getFoldKind() != graph::FoldKind::none;
  if (loads.size() == 1) {
    // Without a fold in it, a stage may be computed anywhere but in a fold that
    // wants its elements several times.
    bool intoFold = loads[0]->getParentOfType<StageOp>().getReduceRank() > 0;
    if (folds ? !intoFold && isPermutation(loads[0])
              : !intoFold || isPermutation(loads[0]))
      return true;
  }
  // Counting the taps of a window takes less than keeping the counts.
  int64_t steps = 1;
  for (AffineExpr n : stage.getReduceDims())
    steps *= graph::constantValue(n).value_or(1 << 20);
  bool readsMemory = false;
  stage.getBlock()->walk([&](graph::LoadOp) { readsMemory = true; });
  return !readsMemory && steps <= 128;
}

std::optional<unsigned> KernelEmitter::bufferOf(Value value) {
  if (auto arg = dyn_cast<BlockArgument>(value))
    return arg.getArgNumber();
  for (auto [i, v] : llvm::enumerate(kernel.getResultValues()))
    if (v == value)
      return kernel.getArgumentTypes().size() + i;
  for (auto [i, stage] : llvm::enumerate(kept))
    if (stage.getResult() == value)
      return numBuffers + i;
  return std::nullopt;
}

void KernelEmitter::chooseStages() {
  llvm::SmallDenseSet<Value> results(kernel.getResultValues().begin(),
                                     kernel.getResultValues().end());
  for (StageOp stage : kernel.getStages())
    if (!results.contains(stage.getResult()) &&
        !stage.getResult().use_empty() && !inlines(stage))
      kept.push_back(stage);
}

/// How many leading axes all stages share: those along which a stage reads only
/// its own row of the stages before it.
void KernelEmitter::findRowRank() {
  std::vector<StageOp> stages = kernel.getStages();
  auto values = kernel.getResultValues();
  rowRank = std::numeric_limits<unsigned>::max();
  StageOp first;
  auto isKept = [&](Value v) {
    return llvm::is_contained(values, v) || bufferOf(v).has_value();
  };
  for (StageOp stage : stages) {
    if (stage.getResult().use_empty())
      continue;
    // An inlined stage may be read anywhere: its own loads tell too little.
    if (!isKept(stage.getResult())) {
      bool reads = false;
      stage.getBlock()->walk([&](graph::LoadOp load) {
        reads |= load.getTensor().getDefiningOp<StageOp>() != nullptr;
      });
      auto loads = loadsOf(stage);
      bool same = llvm::all_of(loads, [&](graph::LoadOp load) {
        return load.getMap().isIdentity();
      });
      if (reads && !same)
        rowRank = 0;
      continue;
    }
    if (!first)
      first = stage;
    unsigned shared = 0;
    while (shared < std::min(first.getDomainRank(), stage.getDomainRank()) &&
           graph::simplify(first.getDomainDims()[shared] -
                           stage.getDomainDims()[shared]) == 0)
      ++shared;
    rowRank = std::min(rowRank, shared);
  }
  for (StageOp stage : stages)
    stage.getBlock()->walk([&](graph::LoadOp load) {
      auto source = load.getTensor().getDefiningOp<StageOp>();
      if (!source || !isKept(source.getResult()))
        return;
      unsigned same = 0;
      AffineMap map = load.getMap();
      while (same < map.getNumResults()) {
        auto dim = dyn_cast<AffineDimExpr>(map.getResult(same));
        if (!dim ||
            load.getCoords()[dim.getPosition()] !=
                Value(stage.getBlock()->getArgument(same)) ||
            same >= stage.getDomainRank())
          break;
        ++same;
      }
      rowRank = std::min(rowRank, same);
    });
  // Rows of one element would be loops without vectors.
  for (StageOp stage : stages)
    if (isKept(stage.getResult()) && stage.getReduceRank() == 0 &&
        rowRank == stage.getDomainRank() && rowRank > 0)
      --rowRank;
}

PlannedStage KernelEmitter::plan(StageOp stage, unsigned buffer,
                                 unsigned rows) {
  PlannedStage planned;
  planned.expr = LoopExpr::build(
      stage, buffer, [&](Value v) { return bufferOf(v); }, numBuffers, rows);
  if (schedule.nest != "generic")
    planned.expr.splitAxes(rows);
  planned.expr.mergeAxes(rows);
  LoopExpr &expr = planned.expr;
  // The row's axes are the phase's loops.
  SmallVector<unsigned> all = expr.domain;
  llvm::erase_if(expr.domain, [&](unsigned d) { return d < rows; });
  planned.plan = LoopPlan::get(expr, target, options.strict, schedule);
  expr.domain = all;
  return planned;
}

/// ceil(grain / cost), at least 1 for any cost including 0.
static AffineExpr perTask(int64_t grain, AffineExpr cost) {
  if (auto c = graph::constantValue(cost))
    return getAffineConstantExpr(
        std::max<int64_t>(1, grain / std::max<int64_t>(1, *c)),
        cost.getContext());
  return (cost + grain).floorDiv(cost + 1);
}

void KernelEmitter::emitPhase(MutableArrayRef<PlannedStage> stages,
                              unsigned rows, StringRef symbol) {
  MLIRContext *context = kernel.getContext();
  PlannedStage &main = stages.back();
  bool isSingle = stages.size() == 1;
  // Which axes the tasks run over, and what one of their points costs.
  SmallVector<unsigned> outer;
  for (unsigned d : main.expr.domain)
    if (isSingle ? !main.plan.isInner(d) : d < rows)
      outer.push_back(d);
  SmallVector<AffineExpr> outerExtents, laneExtent;
  for (unsigned d : outer)
    outerExtents.push_back(main.expr.extents[d]);
  AffineExpr numRows = graph::product(context, outerExtents);
  AffineExpr one = getAffineConstantExpr(1, context), rowCost = one;
  for (PlannedStage &stage : stages) {
    AffineExpr points = one;
    for (unsigned d : stage.expr.domain)
      if (!llvm::is_contained(outer, d))
        points = points * stage.expr.extents[d];
    rowCost = rowCost + points * stage.plan.elementCost;
  }
  int64_t grain = schedule.grain ? schedule.grain : defaultGrain;
  AffineExpr rowsPerTask = perTask(grain, graph::simplify(rowCost));
  AffineExpr rowTasks = graph::simplify(numRows.ceilDiv(rowsPerTask));
  AffineExpr pieceTasks = one, piece = one;
  bool hasPieces = isSingle && main.plan.laneDim >= 0;
  if (hasPieces) {
    // A piece is a whole number of vectors.
    AffineExpr cost = main.plan.elementCost;
    for (unsigned d : main.expr.domain)
      if (main.plan.isInner(d) && int(d) != main.plan.laneDim)
        cost = graph::simplify(cost * main.expr.extents[d]);
    piece = graph::simplify(perTask(grain, cost).ceilDiv(256) * 256);
    pieceTasks =
        graph::simplify(main.expr.extents[main.plan.laneDim].ceilDiv(piece));
  }
  result.phases.push_back(
      {symbol.str(), graph::simplify(rowTasks * pieceTasks)});

  KernelFunctionBuilder function(*result.module, symbol, bufferTypes,
                                 kernel.getNumSymbols(),
                                 /*noalias=*/!options.mayReuseOperand);
  OpBuilder &b = function.builder();
  Location loc = function.loc();
  SmallVector<Value> symbols = function.symbols(), buffers;
  IndexEmitter index(b, loc, symbols);
  for (unsigned i = 0; i < numBuffers; ++i)
    buffers.push_back(function.buffer(i));
  AffineExpr offset = getAffineConstantExpr(0, context);
  for (StageOp stage : kept) {
    Type type = ScalarEmitter::storageType(stage.getElementType());
    buffers.push_back(function.scratchView(type, index.emit(offset)));
    AffineExpr bytes =
        getAffineConstantExpr(type.getIntOrFloatBitWidth() / 8, context);
    for (AffineExpr n : stage.getDomainDims().drop_front(rows))
      bytes = bytes * n;
    offset = offset + bytes.ceilDiv(64) * 64;
  }
  if (!kept.empty())
    result.scratchBytes = graph::simplify(offset);

  Value pieces = index.emit(pieceTasks);
  Value rowTask = index.divUnsigned(function.task(), pieces);
  Value count = index.emit(numRows), step = index.emit(rowsPerTask);
  Value begin = index.mul(rowTask, step);
  Value end = index.min(index.add(begin, step), count);
  Value pieceBegin, pieceEnd;
  if (hasPieces) {
    Value extent = index.emit(main.expr.extents[main.plan.laneDim]);
    Value size = index.emit(piece);
    pieceBegin = index.mul(index.remUnsigned(function.task(), pieces), size);
    pieceEnd = index.min(index.add(pieceBegin, size), extent);
    if (constantIndex(pieces) == 1) { // known to be whole
      pieceBegin = index.constant(0);
      pieceEnd = extent;
    }
  }
  if (graph::constantValue(numRows) == 1) {
    begin = index.constant(0);
    end = index.constant(1);
  }
  LoopEmitterOptions emitterOptions;
  emitterOptions.scalar = ScalarOptions::get(target, options.strict);
  emitterOptions.maskedMemory = maskedMemory();
  auto body = [&](Value row) {
    // The row's number as coordinates, the last axis fastest.
    SmallVector<Value> coords(outer.size());
    Value rest = row;
    for (size_t i = outer.size(); i-- > 0;) {
      if (i == 0) {
        coords[i] = rest;
        break;
      }
      Value extent = index.emit(main.expr.extents[outer[i]]);
      coords[i] = index.remUnsigned(rest, extent);
      rest = index.divUnsigned(rest, extent);
    }
    for (PlannedStage &stage : stages) {
      emitterOptions.width = stage.plan.width;
      emitterOptions.rowGroups = stage.plan.rowGroups;
      LoopEmitter emitter(b, loc, stage.expr, buffers, symbols,
                          function.status(), emitterOptions);
      SmallVector<unsigned> inner;
      for (unsigned d : stage.expr.domain)
        if (!llvm::is_contained(outer, d) &&
            (!stage.plan.isInner(d) ||
             llvm::is_contained(stage.plan.unrolled, d)))
          inner.push_back(d);
      for (auto [d, value] : llvm::zip(outer, coords))
        emitter.setDim(d, value);
      StageLoops loops(b, loc, stage.expr, stage.plan, emitter, maskedMemory(),
                       options.strict);
      loops.emit(inner, pieceBegin, pieceEnd);
    }
  };
  if (constantIndex(begin) && constantIndex(end) == 1) {
    body(index.constant(0));
  } else {
    auto loop = scf::ForOp::create(b, loc, begin, end, index.constant(1));
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(loop.getBody()->getTerminator());
    body(loop.getInductionVar());
  }
  function.finish();
}

/// Every operand element is read at the place the result element is written to,
/// or the operand cannot have the result's size.
static bool allowsInPlace(const PlannedStage &stage, graph::KernelOp kernel) {
  auto sizeOf = [](Type type) -> std::optional<int64_t> {
    int64_t bytes =
        graph::elementBytes(cast<RankedTensorType>(type).getElementType());
    for (AffineExpr n : graph::getDims(type)) {
      auto c = graph::constantValue(n);
      if (!c)
        return std::nullopt;
      bytes *= *c;
    }
    return bytes;
  };
  auto result = sizeOf(kernel.getResultTypes()[0]);
  Type resultElement = stage.expr.resultType;
  for (unsigned id : stage.expr.reachable(stage.expr.root)) {
    const LoopNode &node = stage.expr.nodes[id];
    if (node.kind != LoopNode::Load)
      continue;
    auto operand = sizeOf(kernel.getArgumentTypes()[node.buffer]);
    if (result && operand && *result != *operand)
      continue;
    bool isSame =
        node.index == stage.expr.store &&
        ScalarEmitter::storageType(node.type).getIntOrFloatBitWidth() ==
            ScalarEmitter::storageType(resultElement).getIntOrFloatBitWidth();
    if (!isSame)
      return false;
  }
  return true;
}

CpuKernel KernelEmitter::emit() {
  MLIRContext *context = kernel.getContext();
  result.symbol = options.symbol;
  result.module = ModuleOp::create(kernel.getLoc());
  result.scratchBytes = getAffineConstantExpr(0, context);
  result.nest =
      schedule.nest.empty() ? chooseNest(kernel).str() : schedule.nest;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      bufferTypes.push_back(ScalarEmitter::storageType(
          cast<RankedTensorType>(type).getElementType()));
  numBuffers = bufferTypes.size();
  chooseStages();
  auto values = kernel.getResultValues();
  unsigned firstResult = kernel.getArgumentTypes().size();
  bool readsResults = llvm::any_of(values, [](Value v) {
    return llvm::any_of(
        v.getUsers(), [](Operation *user) { return isa<graph::LoadOp>(user); });
  });
  if (kept.empty() && !readsResults) {
    for (auto [i, v] : llvm::enumerate(values)) {
      SmallVector<PlannedStage, 1> stages{
          plan(v.getDefiningOp<StageOp>(), firstResult + i, 0)};
      std::string symbol = options.symbol;
      if (values.size() > 1)
        symbol += "_" + std::to_string(i);
      result.allowsInPlace =
          values.size() == 1 && allowsInPlace(stages[0], kernel);
      emitPhase(stages, 0, symbol);
    }
    return std::move(result);
  }
  // All stages in one phase, a row at a time.
  findRowRank();
  SmallVector<PlannedStage, 0> stages;
  for (StageOp stage : kernel.getStages()) {
    if (llvm::is_contained(kept, stage))
      stages.push_back(plan(stage, *bufferOf(stage.getResult()), rowRank));
    for (auto [i, v] : llvm::enumerate(values))
      if (v == stage.getResult())
        stages.push_back(plan(stage, firstResult + i, rowRank));
  }
  emitPhase(stages, rowRank, options.symbol);
  return std::move(result);
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

LoopSchedule LoopSchedule::get(graph::KernelOp kernel) {
  LoopSchedule schedule;
  DictionaryAttr attr = kernel.getScheduleAttr();
  if (!attr)
    return schedule;
  if (auto nest = attr.getAs<StringAttr>("nest"))
    schedule.nest = nest.str();
  auto number = [&](StringRef key) -> int64_t {
    auto value = attr.getAs<IntegerAttr>(key);
    return value ? value.getInt() : 0;
  };
  schedule.width = number("width");
  schedule.groups = number("groups");
  schedule.grain = number("grain");
  return schedule;
}

StringRef dlc::chooseNest(graph::KernelOp kernel) {
  for (StageOp stage : kernel.getStages())
    if (stage.getFoldKind() != graph::FoldKind::none)
      return "row";
  return "map";
}

FailureOr<CpuKernel> dlc::emitLoopNest(graph::KernelOp kernel,
                                       const CpuTarget &target,
                                       const CpuCodegenOptions &options,
                                       const LoopSchedule &schedule) {
  if (!schedule.nest.empty() && schedule.nest != "map" &&
      schedule.nest != "row" && schedule.nest != "generic")
    return kernel.emitError("unknown nest '") << schedule.nest << "'";
  return KernelEmitter(kernel, target, options, schedule).emit();
}
