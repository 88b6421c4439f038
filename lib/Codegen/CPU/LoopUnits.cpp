// Forming of loop units.
#include "LoopUnits.h"

#include "dlc/Schedule/Moments.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;
using graph::StageOp;

// More in one loop would only crowd the registers.
static constexpr size_t maxOutputs = 8, maxNodes = 256;

LoopBuffers::LoopBuffers(graph::KernelOp kernel, const RowPlan &plan)
    : kernel(kernel), plan(plan), firstResult(kernel.getArgumentTypes().size()),
      firstKept(firstResult + kernel.getResultTypes().size()) {}

std::optional<unsigned> LoopBuffers::find(Value value) const {
  if (auto arg = dyn_cast<BlockArgument>(value))
    return arg.getArgNumber();
  auto outputs = outputsOf(value.getDefiningOp<StageOp>());
  if (outputs.empty())
    return std::nullopt;
  return outputs.front().buffer;
}

SmallVector<LoopOutput, 1> LoopBuffers::outputsOf(StageOp stage) const {
  SmallVector<LoopOutput, 1> outputs;
  Value value = stage.getResult();
  for (auto [i, v] : llvm::enumerate(graph::KernelOp(kernel).getResultValues()))
    if (v == value)
      outputs.push_back({stage, firstResult + unsigned(i)});
  for (auto [i, kept] : llvm::enumerate(plan.kept))
    if (kept == stage)
      outputs.push_back({stage, firstKept + unsigned(i)});
  return outputs;
}

namespace {
class UnitBuilder {
public:
  UnitBuilder(const LoopBuffers &buffers, const CpuTarget &target, bool strict,
              const LoopSchedule &schedule)
      : buffers(buffers), target(target), strict(strict), schedule(schedule) {
    for (auto [i, stage] :
         llvm::enumerate(graph::KernelOp(buffers.kernel).getStages()))
      position[stage] = i;
    if (schedule.mergesMoments && !strict && schedule.nest != "generic")
      pairs = findMoments(buffers.kernel, buffers.plan);
  }

  std::vector<LoopUnit> form();

private:
  LoopUnit plan(LoopSource source);
  LoopUnit absorb(StageOp fold);
  bool isAbsorbable(StageOp stage, StageOp fold);
  bool join(LoopUnit &unit);
  bool mergeMoments(const MomentsPair &pair);

  const LoopBuffers &buffers;
  const CpuTarget &target;
  bool strict;
  const LoopSchedule &schedule;
  DenseMap<Operation *, unsigned> position;
  SmallVector<MomentsPair> pairs;
  std::vector<LoopUnit> units;
};
} // namespace

LoopUnit UnitBuilder::plan(LoopSource source) {
  unsigned rows = buffers.plan.rowRank;
  source.bufferOf = [this](Value v) { return buffers.find(v); };
  source.firstRowBuffer = buffers.firstKept;
  source.rowRank = rows;
  source.strict = strict;
  LoopUnit unit;
  unit.expr = LoopExpr::build(source);
  unit.source = std::move(source);
  if (schedule.nest != "generic") {
    unit.expr.formScan(rows);
    if (!unit.expr.scan)
      unit.expr.splitAxes(rows);
  }
  unit.expr.mergeAxes(rows);
  // The row's axes are the phase's loops.
  SmallVector<unsigned> all = unit.expr.domain;
  llvm::erase_if(unit.expr.domain, [&](unsigned d) { return d < rows; });
  unit.plan = LoopPlan::get(unit.expr, target, strict, schedule);
  unit.expr.domain = all;
  return unit;
}

/// A load reads its tensor at the point where its stage stands.
static bool isAtOwnPoint(graph::LoadOp load, StageOp stage) {
  if (load.getGuard() || !load.getMap().isIdentity())
    return false;
  for (auto [i, coord] : llvm::enumerate(load.getCoords()))
    if (coord != Value(stage.getBlock()->getArgument(i)))
      return false;
  return true;
}

/// A load visits every element of its tensor once, in order, as the loops of
/// `fold` run over domain and reduce axes. Axes of one element do not count.
static bool visitsInOrder(graph::LoadOp load, StageOp fold) {
  if (load.getGuard())
    return false;
  SmallVector<AffineExpr> extents(fold.getDomainDims());
  llvm::append_range(extents, fold.getReduceDims());
  unsigned next = 0;
  auto skipOnes = [&](unsigned to) {
    for (; next < to; ++next)
      if (graph::constantValue(extents[next]) != 1)
        return false;
    return true;
  };
  for (auto [e, size] : llvm::zip(load.getMap().getResults(),
                                  graph::getDims(load.getTensor().getType()))) {
    if (graph::constantValue(size) == 1)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(e);
    auto arg =
        dim ? dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()])
            : BlockArgument();
    if (!arg || arg.getArgNumber() < next || !skipOnes(arg.getArgNumber()) ||
        graph::simplify(extents[next] - size) != 0)
      return false;
    ++next;
  }
  return skipOnes(extents.size());
}

static bool foldsInOrder(StageOp stage, bool strict) {
  FoldKind kind = stage.getFoldKind();
  return strict && isa<FloatType>(stage.getElementType()) &&
         (kind == FoldKind::add || kind == FoldKind::mul);
}

/// `fold` reads each element of `stage` once, where it stands, and nobody needs
/// them before.
bool UnitBuilder::isAbsorbable(StageOp stage, StageOp fold) {
  if (stage.getFoldKind() != FoldKind::none || foldsInOrder(fold, strict) ||
      buffers.outputsOf(stage).size() != 1)
    return false;
  bool isRead = false;
  for (Operation *user : stage.getResult().getUsers()) {
    auto load = dyn_cast<graph::LoadOp>(user);
    if (!load)
      continue;
    auto reader = load->getParentOfType<StageOp>();
    if (reader == fold) {
      isRead = true;
      if (!visitsInOrder(load, fold))
        return false;
    } else if (position[reader] < position[fold]) {
      return false;
    }
  }
  return isRead;
}

/// The unit of a fold, with the stages that its loop can store on the way.
LoopUnit UnitBuilder::absorb(StageOp fold) {
  LoopSource source;
  source.outputs.append(buffers.outputsOf(fold));
  LoopSource with = source;
  for (const LoopUnit &unit : units) {
    ArrayRef<LoopOutput> outputs = unit.source.outputs;
    if (outputs.size() == 1 && unit.source.absorbed.empty() &&
        isAbsorbable(outputs[0].stage, fold))
      with.absorbed.push_back(outputs[0]);
  }
  if (!with.absorbed.empty()) {
    LoopUnit unit = plan(with);
    // Elsewhere what is stored would not be dense along the lanes.
    if (unit.plan.rowAxis >= 0) {
      llvm::erase_if(units, [&](const LoopUnit &other) {
        return other.source.outputs.size() == 1 &&
               llvm::any_of(with.absorbed, [&](const LoopOutput &output) {
                 return output.stage == other.source.outputs[0].stage;
               });
      });
      return unit;
    }
  }
  return plan(source);
}

/// How a unit's loops read another unit's outputs.
namespace {
enum class Reads { Nothing, OwnPoint, Elsewhere };
} // namespace

static Reads howReads(const LoopUnit &unit, const LoopUnit &other) {
  auto isStoredBy = [&](Value tensor) {
    for (const auto *outputs : {&other.source.outputs, &other.source.absorbed})
      for (const LoopOutput &output : *outputs)
        if (StageOp(output.stage).getResult() == tensor)
          return true;
    return false;
  };
  Reads result = Reads::Nothing;
  llvm::SmallDenseSet<Operation *> seen;
  SmallVector<std::pair<StageOp, bool>> work; // and whether it is an output
  for (const LoopOutput &output : unit.source.outputs)
    work.push_back({output.stage, true});
  for (const LoopOutput &output : unit.source.absorbed)
    work.push_back({output.stage, false});
  while (!work.empty()) {
    auto [stage, isOutput] = work.pop_back_val();
    if (!seen.insert(stage).second)
      continue;
    bool isDirect = isOutput;
    StageOp reader = stage;
    reader.getBlock()->walk([&](graph::LoadOp load) {
      auto source = load.getTensor().getDefiningOp<StageOp>();
      if (!source)
        return;
      if (!isStoredBy(load.getTensor())) {
        if (!unit.source.bufferOf(load.getTensor()))
          work.push_back({source, false});
        return;
      }
      bool isOwn = isDirect && isAtOwnPoint(load, reader) &&
                   source.getDomainRank() == reader.getDomainRank();
      if (!isOwn)
        result = Reads::Elsewhere;
      else if (result == Reads::Nothing)
        result = Reads::OwnPoint;
    });
  }
  return result;
}

static bool sharesLoads(const LoopUnit &x, const LoopUnit &y) {
  llvm::SmallDenseSet<unsigned> read;
  for (const LoopNode &node : x.expr.nodes)
    if (node.kind == LoopNode::Load && !node.needs.none())
      read.insert(node.buffer);
  return llvm::any_of(y.expr.nodes, [&](const LoopNode &node) {
    return node.kind == LoopNode::Load && !node.needs.none() &&
           read.contains(node.buffer);
  });
}

/// Both have their lanes along the same axis.
static bool agree(const LoopUnit &x, const LoopUnit &y) {
  return x.expr.splits.empty() && y.expr.splits.empty() && x.plan.tileDim < 0 &&
         y.plan.tileDim < 0 && x.plan.laneDim == y.plan.laneDim &&
         x.plan.scanDim == y.plan.scanDim &&
         (x.plan.rowAxis < 0) == (y.plan.rowAxis < 0) &&
         (x.plan.width > 1) == (y.plan.width > 1);
}

/// Puts `unit` into an earlier one, if their loops can be one and that pays.
bool UnitBuilder::join(LoopUnit &unit) {
  StageOp stage = unit.source.outputs[0].stage;
  for (size_t i = units.size(); i-- > 0;) {
    LoopUnit &other = units[i];
    StageOp first = other.source.outputs[0].stage;
    Reads reads = howReads(unit, other);
    bool fits = reads != Reads::Elsewhere && !other.source.mergesMoments &&
                first.getDomainDims() == stage.getDomainDims() &&
                (reads == Reads::OwnPoint || sharesLoads(unit, other)) &&
                other.source.outputs.size() + unit.source.outputs.size() <=
                    maxOutputs &&
                other.expr.nodes.size() + unit.expr.nodes.size() <= maxNodes &&
                agree(unit, other);
    if (fits) {
      LoopSource source = other.source;
      source.outputs.append(unit.source.outputs);
      source.absorbed.append(unit.source.absorbed);
      LoopUnit joined = plan(source);
      if (agree(joined, other)) {
        other = std::move(joined);
        return true;
      }
    }
    if (reads != Reads::Nothing)
      return false; // it cannot run before the other
  }
  return false;
}

// Merging the moments of blocks takes time too: where the innermost axis is
// shorter than this, and not all of the fold, there would be many.
static constexpr int64_t shortRun = 1024;

/// Puts a sum and the fold of squares that reads it into one unit, where the
/// sum has been put to the front by itself.
bool UnitBuilder::mergeMoments(const MomentsPair &pair) {
  auto sum = llvm::find_if(units, [&](const LoopUnit &unit) {
    return unit.source.outputs.size() == 1 && unit.source.absorbed.empty() &&
           unit.source.outputs[0].stage == pair.sum;
  });
  auto outputs = buffers.outputsOf(pair.stored);
  if (sum == units.end() || outputs.size() != 1 ||
      std::any_of(sum + 1, units.end(), [&](const LoopUnit &unit) {
        return howReads(unit, *sum) != Reads::Nothing;
      }))
    return false;
  LoopSource source = sum->source;
  source.outputs.append(outputs);
  source.mergesMoments = true;
  LoopUnit unit = plan(source);
  if (!unit.expr.moments || unit.plan.rowAxis < 0)
    return false;
  ArrayRef<unsigned> axes = unit.expr.nodes[unit.expr.moments->sum].axes;
  auto run = graph::constantValue(unit.expr.extents[axes.back()]);
  if (int(axes.back()) != unit.plan.rowAxis ||
      (axes.size() > 1 && run && *run < shortRun))
    return false;
  units.erase(sum);
  units.push_back(std::move(unit));
  return true;
}

std::vector<LoopUnit> UnitBuilder::form() {
  for (StageOp stage : graph::KernelOp(buffers.kernel).getStages()) {
    auto outputs = buffers.outputsOf(stage);
    if (outputs.empty())
      continue;
    if (llvm::any_of(pairs, [&](const MomentsPair &pair) {
          return pair.stored == stage && mergeMoments(pair);
        }))
      continue;
    LoopUnit unit;
    if (stage.getFoldKind() != FoldKind::none && schedule.nest != "generic") {
      unit = absorb(stage);
    } else {
      LoopSource source;
      source.outputs.append(outputs);
      unit = plan(source);
    }
    if (schedule.nest == "generic" || !join(unit))
      units.push_back(std::move(unit));
  }
  return std::move(units);
}

std::vector<LoopUnit> dlc::formUnits(const LoopBuffers &buffers,
                                     const CpuTarget &target, bool strict,
                                     const LoopSchedule &schedule) {
  return UnitBuilder(buffers, target, strict, schedule).form();
}
