// Rows, kept stages and what is cheaper computed again.
#include "dlc/Schedule/RowPlan.h"

#include "LoadAddress.h"
#include "dlc/Schedule/PrefixFold.h"

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;
using graph::StageOp;

// Computing a value of this weight again takes less than storing and loading
// it.
static constexpr int64_t cheapWeight = 4;
// Fewer rows than this leave cores idle; rows of fewer points do not matter.
static constexpr int64_t enoughRows = 8;
static constexpr int64_t smallRow = 32 << 10;
// Shorter loops leave lanes of a vector idle; most of them, the second.
static constexpr int64_t shortLoop = 16, tinyLoop = 8;
// Folds of so few steps have their lanes elsewhere (LoopPlan).
static constexpr int64_t tinyFold = 4;
// Lanes of a vector, about.
static constexpr int64_t usualLanes = 8;
// Bytes of a row that is made longer than it must be; the second, where that
// only spares a part of the last vector.
static constexpr int64_t longRowBytes = 64 << 10, nearRowBytes = 16 << 10;

int64_t dlc::scalarWeight(ScalarFn fn) {
  switch (fn) {
  case ScalarFn::exp:
  case ScalarFn::log:
  case ScalarFn::log1p:
  case ScalarFn::expm1:
  case ScalarFn::tanh:
  case ScalarFn::erf:
    return 8;
  case ScalarFn::sin:
  case ScalarFn::cos:
  case ScalarFn::pow:
    return 16;
  case ScalarFn::div:
  case ScalarFn::sqrt:
  case ScalarFn::rsqrt:
    return 3;
  default: // names libm knows are called
    return static_cast<uint32_t>(fn) < 24 && static_cast<uint32_t>(fn) > 7 ? 64
                                                                           : 1;
  }
}

namespace {
class Planner {
public:
  explicit Planner(graph::KernelOp kernel)
      : kernel(kernel), context(kernel.getContext()),
        results(kernel.getResultValues().begin(),
                kernel.getResultValues().end()) {}

  RowPlan plan();

private:
  bool containsFold(StageOp stage);
  bool inlines(StageOp stage);
  bool isScalarIn(StageOp stage, StageOp reader);
  int64_t weightOf(StageOp stage);
  void findRowRank();
  void lengthenRows();
  bool foldsAcross(StageOp stage, unsigned rowRank);
  bool isShort(StageOp stage, unsigned rowRank);
  int64_t keptBytes(unsigned rowRank);
  void chooseMode();
  bool isStored(StageOp stage) {
    return results.contains(stage.getResult()) || result.isKept(stage);
  }
  bool readsStoredStages();
  bool sharesOperands();

  graph::KernelOp kernel;
  MLIRContext *context;
  llvm::SmallDenseSet<Value> results;
  RowPlan result;
};
} // namespace

static SmallVector<graph::LoadOp> loadsOf(StageOp stage) {
  SmallVector<graph::LoadOp> loads;
  for (Operation *user : stage.getResult().getUsers())
    if (auto load = dyn_cast<graph::LoadOp>(user))
      loads.push_back(load);
  return loads;
}

static int64_t pointsOf(ArrayRef<AffineExpr> dims) {
  int64_t points = 1;
  for (AffineExpr n : dims)
    points *= std::min<int64_t>(graph::constantValue(n).value_or(kTypicalSize),
                                1 << 30);
  return points;
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

/// A load at each point of its stage wants the elements it loads more than
/// once, and not just once in a loop outside of the innermost one.
static bool repeats(graph::LoadOp load) {
  auto stage = load->getParentOfType<StageOp>();
  auto source = load.getTensor().getDefiningOp<StageOp>();
  unsigned innermost = stage.getDomainRank() + stage.getReduceRank();
  bool moves = false;
  for (auto [i, coord] : llvm::enumerate(load.getCoords())) {
    auto arg = dyn_cast<BlockArgument>(coord);
    moves |= !arg || (arg.getArgNumber() + 1 == innermost &&
                      load.getMap().isFunctionOfDim(i));
  }
  return moves &&
         pointsOf(stage.getDomainDims()) * pointsOf(stage.getReduceDims()) >
             pointsOf(source.getDomainDims());
}

/// How many of a load's leading coordinates are those of the stage that loads.
static unsigned sharedPrefix(graph::LoadOp load) {
  auto stage = load->getParentOfType<StageOp>();
  AffineMap map = load.getMap();
  unsigned same = 0;
  for (; same < std::min(map.getNumResults(), stage.getDomainRank()); ++same) {
    auto dim = dyn_cast<AffineDimExpr>(map.getResult(same));
    if (!dim || load.getCoords()[dim.getPosition()] !=
                    Value(stage.getBlock()->getArgument(same)))
      break;
  }
  return same;
}

/// What one point of a stage takes, with the stages that are read into it.
int64_t Planner::weightOf(StageOp stage) {
  int64_t weight = 0;
  for (Operation &op : *stage.getBlock()) {
    if (auto apply = dyn_cast<graph::ApplyOp>(op))
      weight += scalarWeight(apply.getFn());
    if (isa<graph::ToIndexOp>(op))
      weight += kFarWeight;
    auto load = dyn_cast<graph::LoadOp>(op);
    if (!load)
      continue;
    auto source = load.getTensor().getDefiningOp<StageOp>();
    if (source && !isStored(source)) {
      weight += weightOf(source);
      continue;
    }
    // What stands still along the innermost axis is loaded once a row.
    unsigned last = stage.getDomainRank();
    bool moves = last == 0;
    for (auto [i, coord] : llvm::enumerate(load.getCoords()))
      if (auto arg = dyn_cast<BlockArgument>(coord))
        moves |=
            arg.getArgNumber() + 1 == last && load.getMap().isFunctionOfDim(i);
    weight += moves;
  }
  return weight;
}

/// The stage folds, or a stage that is read into it does.
bool Planner::containsFold(StageOp stage) {
  if (stage.getFoldKind() != graph::FoldKind::none)
    return true;
  return stage.getBlock()
      ->walk([&](graph::LoadOp load) {
        auto source = load.getTensor().getDefiningOp<StageOp>();
        return source && !isStored(source) && containsFold(source)
                   ? WalkResult::interrupt()
                   : WalkResult::advance();
      })
      .wasInterrupted();
}

/// Loads of a stage that move by other than 0 or 1 elements along an axis.
static unsigned countStrided(StageOp stage, unsigned axis) {
  unsigned count = 0;
  stage.getBlock()->walk([&](graph::LoadOp load) {
    count += !isDenseAlong(loadAddress(load), axis);
  });
  return count;
}

/// A fold with its lanes along its own axis has one element at a time, and so
/// has the stage it is read into. Whether what that stage computes is better
/// done on vectors, from a row that holds the fold.
bool Planner::isScalarIn(StageOp stage, StageOp reader) {
  if (stage.getReduceRank() == 0)
    return false;
  SmallVector<AffineExpr> extents = axisExtents(stage);
  unsigned rank = stage.getDomainRank();
  auto along = lastWideAxis(extents, rank, extents.size()),
       across = lastWideAxis(extents, 0, rank);
  int64_t steps = pointsOf(stage.getReduceDims());
  if (!along || !across || steps <= tinyFold ||
      countStrided(stage, *along) > countStrided(stage, *across))
    return false;
  int64_t lanes = std::min<int64_t>(pointsOf({extents[*across]}), usualLanes);
  int64_t weight = 0;
  reader.getBlock()->walk(
      [&](graph::ApplyOp apply) { weight += scalarWeight(apply.getFn()); });
  return weight * (lanes - 1) > lanes * (cheapWeight + steps / usualLanes);
}

/// Whether a stage is computed where it is used instead of being kept.
bool Planner::inlines(StageOp stage) {
  SmallVector<graph::LoadOp> loads = loadsOf(stage);
  if (llvm::any_of(loads, [](graph::LoadOp l) { return l.getGuard(); }))
    return false;
  bool folds = containsFold(stage);
  // Without a fold in it, a stage may be computed anywhere but in a fold that
  // wants its elements several times.
  auto bears = [&](graph::LoadOp load) {
    bool intoFold = load->getParentOfType<StageOp>().getReduceRank() > 0;
    return folds ? !intoFold && isPermutation(load)
                 : !intoFold || isPermutation(load);
  };
  if (llvm::all_of(loads, bears)) {
    if (loads.size() == 1)
      return folds ? !isScalarIn(stage, loads[0]->getParentOfType<StageOp>())
                   : !repeats(loads[0]) || weightOf(stage) <= cheapWeight;
    if (!folds) {
      int64_t weight = weightOf(stage);
      // A row of it: the axes that all its readers share are outside.
      unsigned shared = stage.getDomainRank();
      for (graph::LoadOp load : loads)
        shared = std::min(shared, sharedPrefix(load));
      int64_t bytes = pointsOf(stage.getDomainDims().drop_front(shared)) *
                      graph::elementBytes(stage.getElementType());
      if (weight <= cheapWeight || (bytes > kNearBytes && weight <= kFarWeight))
        return true;
    }
  }
  // Counting the taps of a window takes less than keeping the counts.
  bool readsMemory = false;
  stage.getBlock()->walk([&](graph::LoadOp) { readsMemory = true; });
  int64_t steps = 1;
  for (AffineExpr n : stage.getReduceDims())
    steps *= graph::constantValue(n).value_or(1 << 20);
  return !readsMemory && steps <= 128;
}

/// How many leading axes all stages share: those along which a stage reads only
/// its own row of the stages before it, directly or through inlined ones.
void Planner::findRowRank() {
  std::vector<StageOp> stages = kernel.getStages();
  unsigned rowRank = std::numeric_limits<unsigned>::max();
  StageOp first;
  llvm::SmallDenseSet<Operation *> readsRows; // inlined, and read stored ones
  for (StageOp stage : stages) {
    if (stage.getResult().use_empty())
      continue;
    bool reads = false;
    stage.getBlock()->walk([&](graph::LoadOp load) {
      auto source = load.getTensor().getDefiningOp<StageOp>();
      if (!source || !(isStored(source) || readsRows.contains(source)))
        return;
      reads = true;
      rowRank = std::min(rowRank, sharedPrefix(load));
    });
    // A pass over an axis is no loop over rows.
    if (auto prefix = findPrefixFold(stage, /*strict=*/false)) {
      rowRank = std::min(rowRank, prefix->axis);
      if (!isStored(stage))
        for (graph::LoadOp load : loadsOf(stage))
          rowRank = sharedPrefix(load) > prefix->axis ? rowRank : 0;
    }
    if (!isStored(stage)) {
      if (reads)
        readsRows.insert(stage);
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
  result.rowRank = first ? rowRank : 0;
  lengthenRows();
}

/// A fold whose row is one element has its lanes along its own last axis.
/// Whether they are better along the domain, because there the loads are dense
/// or the fold is short.
bool Planner::foldsAcross(StageOp stage, unsigned rowRank) {
  if (stage.getReduceRank() == 0 ||
      pointsOf(stage.getDomainDims().drop_front(rowRank)) > 1)
    return false;
  SmallVector<AffineExpr> extents = axisExtents(stage);
  unsigned rank = stage.getDomainRank();
  auto along = lastWideAxis(extents, rank, extents.size()),
       across = lastWideAxis(extents, 0, rank);
  if (!along || !across)
    return across.has_value();
  return pointsOf(stage.getReduceDims()) <= tinyFold ||
         countStrided(stage, *along) > countStrided(stage, *across);
}

/// Whether lanes are idle in the rows of a stage without a fold, and longer
/// rows stay in the cache or are better all the same.
bool Planner::isShort(StageOp stage, unsigned rowRank) {
  ArrayRef<AffineExpr> domain = stage.getDomainDims();
  int64_t points = pointsOf(domain.drop_front(rowRank));
  if (stage.getReduceRank() != 0)
    return false;
  if (points < shortLoop)
    return points < tinyLoop || keptBytes(rowRank - 1) <= longRowBytes;
  auto idle = [](int64_t n) {
    return (n + shortLoop - 1) / shortLoop * shortLoop - n;
  };
  int64_t longer = pointsOf(domain.drop_front(rowRank - 1));
  return idle(points) * 6 > points &&
         idle(longer) * points < idle(points) * longer &&
         keptBytes(rowRank - 1) <= nearRowBytes;
}

int64_t Planner::keptBytes(unsigned rowRank) {
  int64_t bytes = 0;
  for (StageOp stage : result.kept)
    bytes += pointsOf(stage.getDomainDims().drop_front(rowRank)) *
             graph::elementBytes(stage.getElementType());
  return bytes;
}

/// A row may have more axes than it must: several short rows are one, and folds
/// have their lanes across them.
void Planner::lengthenRows() {
  std::vector<StageOp> stored = kernel.getStages();
  llvm::erase_if(stored, [&](StageOp stage) {
    return !isStored(stage) || stage.getResult().use_empty();
  });
  unsigned &rank = result.rowRank;
  // Rows of one element would be loops without vectors.
  for (StageOp stage : stored)
    if (stage.getReduceRank() == 0 && rank == stage.getDomainRank() && rank > 0)
      --rank;
  auto gains = [&](StageOp stage) {
    return foldsAcross(stage, rank) || isShort(stage, rank);
  };
  while (rank > 0 && llvm::any_of(stored, gains))
    --rank;
}

bool Planner::readsStoredStages() {
  return llvm::any_of(kernel.getStages(), [&](StageOp stage) {
    return isStored(stage) && !loadsOf(stage).empty();
  });
}

/// Two results read the same operand, so that rows read it from the cache.
bool Planner::sharesOperands() {
  llvm::SmallDenseSet<Value> read;
  for (Value v : results) {
    llvm::SmallDenseSet<Value> here;
    SmallVector<StageOp> work{v.getDefiningOp<StageOp>()};
    while (!work.empty())
      work.pop_back_val().getBlock()->walk([&](graph::LoadOp load) {
        if (isa<BlockArgument>(load.getTensor()))
          here.insert(load.getTensor());
        else if (here.insert(load.getTensor()).second)
          work.push_back(load.getTensor().getDefiningOp<StageOp>());
      });
    for (Value tensor : here)
      if (!read.insert(tensor).second)
        return true;
  }
  return false;
}

void Planner::chooseMode() {
  result.mode = RowPlan::Rows;
  bool depends = !result.kept.empty() || readsStoredStages();
  if (!depends && (results.size() < 2 || !sharesOperands())) {
    result.mode = RowPlan::Independent;
    return;
  }
  StageOp first;
  int64_t rowPoints = 0;
  for (StageOp stage : kernel.getStages()) {
    if (!isStored(stage))
      continue;
    first = first ? first : stage;
    int64_t points = pointsOf(stage.getDomainDims().drop_front(result.rowRank));
    if (!findPrefixFold(stage, /*strict=*/false))
      points *= pointsOf(stage.getReduceDims());
    rowPoints = std::max(rowPoints, points);
  }
  result.rows =
      graph::product(context, first.getDomainDims().take_front(result.rowRank));
  auto rows = graph::constantValue(result.rows);
  bool isFew = rows && *rows < enoughRows && rowPoints > smallRow;
  if (isFew)
    result.mode = depends ? RowPlan::Phases : RowPlan::Independent;
}

RowPlan Planner::plan() {
  result.rows = getAffineConstantExpr(1, context);
  result.rowBytes = getAffineConstantExpr(0, context);
  for (StageOp stage : kernel.getStages())
    if (!results.contains(stage.getResult()) &&
        !stage.getResult().use_empty() && !inlines(stage))
      result.kept.push_back(stage);
  findRowRank();
  chooseMode();
  if (result.mode == RowPlan::Phases)
    result.rowRank = 0;
  if (result.mode != RowPlan::Rows)
    result.rows = getAffineConstantExpr(1, context);
  for (StageOp stage : result.kept) {
    AffineExpr bytes = getAffineConstantExpr(
        graph::elementBytes(stage.getElementType()), context);
    for (AffineExpr n : stage.getDomainDims().drop_front(result.rowRank))
      bytes = bytes * n;
    result.rowBytes = result.rowBytes + bytes.ceilDiv(64) * 64;
  }
  result.rowBytes = graph::simplify(result.rowBytes);
  return result;
}

RowPlan dlc::planRows(graph::KernelOp kernel) { return Planner(kernel).plan(); }
