// The loops of a kernel. Tasks cut the outer axes into runs of rows, and a long
// innermost axis into pieces; a row's innermost axis is cut where guards change
// from true to false, so that most of it runs without tests:
//
//   row   |---- guards tested ----|-------- all hold --------|-- tested --|
//
// A kernel with intermediate stages keeps them a row at a time in the worker's
// scratch, where a row is what all its stages share as leading axes.
#include "dlc/Codegen/CPU/LoopNest.h"

#include "dlc/Codegen/CPU/LoopEmitter.h"
#include "dlc/Codegen/CPU/LoopPlan.h"
#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

// Scalar operations of one task: some ten microseconds.
static constexpr int64_t defaultGrain = 1 << 17;
// Guards are resolved by cutting ranges up to this many nested cuts.
static constexpr unsigned maxCuts = 6;

//===----------------------------------------------------------------------===//
// One stage at one row
//===----------------------------------------------------------------------===//

namespace {
/// Emits the loops of a stage below those of the phase.
class StageLoops {
public:
  StageLoops(OpBuilder &builder, Location loc, const LoopExpr &expr,
             const LoopPlan &plan, LoopEmitter &emitter, bool maskedMemory)
      : b(builder), loc(loc), expr(expr), plan(plan), emitter(emitter),
        index(emitter.indices()), maskedMemory(maskedMemory) {
    emitter.rowAxis = plan.rowAxis;
  }

  /// Loops over `axes`, outermost first, then over [begin, end) of the lane
  /// axis (null: all of it).
  void emit(ArrayRef<unsigned> axes, Value begin, Value end);

private:
  void emitRange(Value begin, Value end);
  bool emitCut(unsigned id, Value begin, Value end);
  void emitLeaf(Value begin, Value end);
  void emitTiles(Value begin, Value end);
  std::optional<unsigned> nextGuard();
  struct Cut {
    Value begin, end; ///< where the guards hold
    bool isExact = true;
    bool isUniform = true; ///< it is all of the range or nothing
  };
  std::optional<Cut> findCut(const LoopNode &node, Value begin, Value end);

  OpBuilder &b;
  Location loc;
  const LoopExpr &expr;
  const LoopPlan &plan;
  LoopEmitter &emitter;
  IndexEmitter &index;
  bool maskedMemory;
  llvm::SmallDenseSet<unsigned> tested; ///< guards left to be tested
};
} // namespace

void StageLoops::emit(ArrayRef<unsigned> axes, Value begin, Value end) {
  LoopEmitter::Scope scope(emitter);
  emitter.hoist(expr.root);
  if (!axes.empty()) {
    unsigned axis = axes.front();
    emitter.loop(index.constant(0), index.emit(expr.extents[axis]), 1, {},
                 [&](Value iv, ValueRange) {
                   emitter.setDim(axis, iv);
                   emit(axes.drop_front(), begin, end);
                   return SmallVector<Value>();
                 });
    emitter.setDim(axis, Value());
    return;
  }
  if (plan.laneDim < 0) {
    emitter.storeRoot();
    return;
  }
  if (!begin) {
    begin = index.constant(0);
    end = index.emit(expr.extents[plan.laneDim]);
  }
  if (plan.tileDim >= 0)
    emitTiles(begin, end);
  else
    emitRange(begin, end);
}

/// The first load, from the root, whose guards are neither known nor given up.
std::optional<unsigned> StageLoops::nextGuard() {
  std::vector<bool> seen(expr.nodes.size());
  std::optional<unsigned> found;
  auto visit = [&](auto &&self, unsigned id) -> void {
    if (found || seen[id])
      return;
    seen[id] = true;
    const LoopNode &node = expr.nodes[id];
    auto fact = emitter.facts.find(id);
    bool isKnown = fact != emitter.facts.end();
    // What the outer loops determine has been evaluated there.
    bool isFixed = llvm::all_of(node.needs.set_bits(), [&](unsigned d) {
      return emitter.getDims()[d] != nullptr;
    });
    if (!node.guards.empty() && !isKnown && !isFixed && !tested.contains(id)) {
      found = id;
      return;
    }
    if (isKnown && !fact->second)
      return self(self, node.args[0]);
    for (unsigned data : node.data)
      self(self, data);
    if (!isKnown)
      for (unsigned arg : node.args)
        self(self, arg);
  };
  visit(visit, expr.root);
  return found;
}

/// Where in [begin, end) all guards of a load hold, whatever the fold axes.
std::optional<StageLoops::Cut> StageLoops::findCut(const LoopNode &node,
                                                   Value begin, Value end) {
  Cut cut;
  cut.begin = begin, cut.end = end;
  Value always;
  SmallVector<Value> dims(emitter.getDims());
  for (const LoopGuard &guard : node.guards) {
    IndexPoly least = guard.expr;
    if (guard.isEquality)
      return std::nullopt;
    for (unsigned d = 0; d < expr.extents.size(); ++d) {
      if (int(d) == plan.laneDim || dims[d] || !least.dependsOnDim(d))
        continue;
      // An axis of a fold (or a data coordinate): take its least value.
      auto coefficient = least.coefficient(d);
      auto c = coefficient ? coefficient->constant() : std::nullopt;
      if (!c || !expr.extents[d])
        return std::nullopt;
      cut.isExact = false;
      least = least.without(d);
      if (*c < 0)
        least = least + (IndexPoly::get(expr.extents[d]) - IndexPoly(1)) * *c;
    }
    auto coefficient = least.coefficient(plan.laneDim);
    auto c = coefficient ? coefficient->constant() : std::nullopt;
    if (!c)
      return std::nullopt;
    Value rest = index.emit(least.without(plan.laneDim), dims);
    if (*c == 0) {
      Value holds = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge,
                                          rest, index.constant(0));
      always =
          always ? Value(arith::AndIOp::create(b, loc, always, holds)) : holds;
      continue;
    }
    cut.isUniform = false;
    Value steps = index.floorDiv(rest, index.constant(std::abs(*c)));
    if (*c > 0) // c v + rest >= 0 from v = ceil(-rest / c) on
      cut.begin = index.max(cut.begin, index.sub(index.constant(0), steps));
    else
      cut.end = index.min(cut.end, index.add(steps, index.constant(1)));
  }
  if (!cut.isUniform) {
    cut.begin = index.min(cut.begin, end);
    cut.end = index.max(cut.end, cut.begin);
  }
  if (always)
    cut.end = arith::SelectOp::create(b, loc, always, cut.end, cut.begin);
  return cut;
}

/// Emits the range in parts, by where the guards of one load hold.
bool StageLoops::emitCut(unsigned id, Value begin, Value end) {
  std::optional<Cut> cut = findCut(expr.nodes[id], begin, end);
  if (!cut)
    return false;
  if (!cut->isExact && !cut->isUniform && maskedMemory && plan.width > 1) {
    // Whole vectors on both sides: the tested ones are masked anyway.
    Value width = index.constant(plan.width);
    auto inVectors = [&](Value v) { return index.divUnsigned(v, width); };
    Value first = index.mul(
        index.ceilDivUnsigned(index.sub(cut->begin, begin), width), width);
    Value isLast =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, cut->end, end);
    Value last = index.add(
        begin, index.mul(inVectors(index.sub(cut->end, begin)), width));
    cut->end = arith::SelectOp::create(b, loc, isLast, end, last);
    cut->begin = index.min(index.add(begin, first), end);
    cut->end = index.max(cut->end, cut->begin);
  }
  emitter.facts[id] = true;
  emitRange(cut->begin, cut->end);
  emitter.facts.erase(id);
  if (cut->isExact)
    emitter.facts[id] = false;
  else
    tested.insert(id);
  if (cut->isUniform) {
    emitRange(cut->end, end);
  } else {
    // The parts before and after share their code.
    emitter.loop(
        index.constant(0), index.constant(2), 1, {},
        [&](Value part, ValueRange) {
          Value isFirst = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::eq, part, index.constant(0));
          Value from =
              arith::SelectOp::create(b, loc, isFirst, begin, cut->end);
          Value to = arith::SelectOp::create(b, loc, isFirst, cut->begin, end);
          emitRange(from, to);
          return SmallVector<Value>();
        });
  }
  emitter.facts.erase(id);
  tested.erase(id);
  return true;
}

void StageLoops::emitRange(Value begin, Value end) {
  auto b0 = constantIndex(begin), e0 = constantIndex(end);
  if (b0 && e0 && *b0 >= *e0)
    return;
  SmallVector<unsigned> givenUp;
  while (emitter.facts.size() + tested.size() < maxCuts) {
    std::optional<unsigned> id = nextGuard();
    if (!id)
      break;
    if (emitCut(*id, begin, end)) {
      for (unsigned g : givenUp)
        tested.erase(g);
      return;
    }
    tested.insert(*id);
    givenUp.push_back(*id);
  }
  emitLeaf(begin, end);
  for (unsigned g : givenUp)
    tested.erase(g);
}

void StageLoops::emitLeaf(Value begin, Value end) {
  unsigned dim = plan.laneDim;
  LoopEmitter::Scope outer(emitter);
  emitter.hoist(expr.root);
  auto run = [&](Value from, Value to, int64_t step, unsigned width,
                 unsigned groups, bool masked) {
    emitter.loop(from, to, step, {}, [&](Value iv, ValueRange) {
      LoopEmitter::Scope scope(emitter);
      emitter.setDim(dim, iv);
      if (width > 1)
        emitter.lanes = {int(dim), width, Value(), Value()};
      if (masked) {
        auto type = VectorType::get({int64_t(width)}, b.getI1Type());
        emitter.lanes.count = index.sub(to, iv);
        emitter.lanes.mask = vector::CreateMaskOp::create(
            b, loc, type, ValueRange{emitter.lanes.count});
      }
      if (groups > 1)
        emitter.groups = {int(dim), groups, int64_t(width), Value()};
      emitter.storeRoot();
      emitter.lanes = LoopLanes(), emitter.groups = LoopGroups();
      return SmallVector<Value>();
    });
    emitter.setDim(dim, Value());
  };
  bool isTested = !tested.empty();
  if (plan.width == 1 || (isTested && !maskedMemory))
    return run(begin, end, 1, 1, 1, false);
  int64_t width = plan.width, block = width * plan.groups;
  // The end of the last whole block of `size` elements.
  auto wholeEnd = [&](int64_t size) {
    Value n = index.sub(end, begin);
    return index.add(begin,
                     index.mul(index.divUnsigned(n, index.constant(size)),
                               index.constant(size)));
  };
  Value from = begin;
  if (!isTested) {
    Value to = wholeEnd(block);
    run(from, to, block, width, plan.groups, false);
    from = to;
  }
  if (maskedMemory)
    return run(from, end, width, width, 1, true);
  if (plan.groups > 1) {
    Value to = wholeEnd(width);
    run(from, to, width, width, 1, false);
    from = to;
  }
  run(from, end, 1, 1, 1, false);
}

/// Square tiles of laneDim and tileDim. Whole ones are one copy of the code;
/// those at the edges are another, masked or, without masks, point by point.
void StageLoops::emitTiles(Value begin, Value end) {
  unsigned lane = plan.laneDim, across = plan.tileDim;
  int64_t width = plan.width;
  Value extent = index.emit(expr.extents[across]), size = index.constant(width);
  Value wholeLanes = index.add(
      begin, index.mul(index.divUnsigned(index.sub(end, begin), size), size));
  auto tile = [&](Value from, Value to, Value height, bool masked) {
    emitter.loop(from, to, width, {}, [&](Value iv, ValueRange) {
      LoopEmitter::Scope scope(emitter);
      emitter.setDim(lane, iv);
      emitter.lanes = {int(lane), unsigned(width), Value(), Value()};
      emitter.groups = {int(across), unsigned(width), 1, Value()};
      if (masked) {
        emitter.lanes.count = index.min(index.sub(to, iv), size);
        emitter.groups.limit = height;
        auto type = VectorType::get({width}, b.getI1Type());
        emitter.lanes.mask = vector::CreateMaskOp::create(
            b, loc, type, ValueRange{emitter.lanes.count});
      }
      emitter.storeRoot();
      emitter.lanes = LoopLanes(), emitter.groups = LoopGroups();
      return SmallVector<Value>();
    });
    emitter.setDim(lane, Value());
  };
  emitter.loop(
      index.constant(0), extent, width, {}, [&](Value row, ValueRange) {
        LoopEmitter::Scope scope(emitter);
        Value height = index.min(index.sub(extent, row), size);
        Value isWhole = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                              height, size);
        Value middle =
            arith::SelectOp::create(b, loc, isWhole, wholeLanes, begin);
        emitter.setDim(across, row);
        tile(begin, middle, height, false);
        if (maskedMemory) {
          tile(middle, end, height, true);
          emitter.setDim(across, Value());
          return SmallVector<Value>();
        }
        Value rowEnd = index.add(row, height);
        emitter.loop(row, rowEnd, 1, {}, [&](Value single, ValueRange) {
          emitter.setDim(across, single);
          emitter.loop(middle, end, 1, {}, [&](Value iv, ValueRange) {
            LoopEmitter::Scope point(emitter);
            emitter.setDim(lane, iv);
            emitter.storeRoot();
            return SmallVector<Value>();
          });
          return SmallVector<Value>();
        });
        emitter.setDim(lane, Value());
        emitter.setDim(across, Value());
        return SmallVector<Value>();
      });
}

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
    if (isSingle ? int(d) != main.plan.laneDim && int(d) != main.plan.tileDim
                 : d < rows)
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
    if (main.plan.tileDim >= 0)
      cost = graph::simplify(cost * main.expr.extents[main.plan.tileDim]);
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
        if (!llvm::is_contained(outer, d) && int(d) != stage.plan.laneDim &&
            int(d) != stage.plan.tileDim)
          inner.push_back(d);
      for (auto [d, value] : llvm::zip(outer, coords))
        emitter.setDim(d, value);
      StageLoops loops(b, loc, stage.expr, stage.plan, emitter, maskedMemory());
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
  SmallVector<PlannedStage> stages;
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
