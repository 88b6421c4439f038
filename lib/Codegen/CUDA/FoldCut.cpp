// The rules of shared folds, and their knobs.
#include "FoldCut.h"

#include "LaunchBuilder.h"

#include "dlc/Codegen/Common/KernelFunction.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Blocks that use a device (an A100 has 108 multiprocessors).
static constexpr int64_t kEnoughBlocks = 108;
/// Bytes of an access, of a line, and of the least piece of one that is worth
/// reading alone.
static constexpr int64_t kAccessBytes = 16, kLineBytes = 128, kPieceBytes = 64;
/// Sums of a thread; elements that it reads at a time.
static constexpr int64_t kMostSums = 64, kRuleSums = 32, kMostReads = 256;
static constexpr int64_t kMostRows = 8, kMostSteps = 8, kMostColumns = 8;
static constexpr int64_t kMostThreads = 1024;
/// Static shared memory.
static constexpr int64_t kMostShared = 48 << 10;

/// The load's place changes with this argument of the stage's block.
static bool changesAlong(LoadOp load, unsigned argument) {
  for (auto [i, coordinate] : llvm::enumerate(load.getCoords())) {
    auto plain = dyn_cast<BlockArgument>(coordinate);
    if ((!plain || plain.getArgNumber() == argument) &&
        load.getMap().isFunctionOfDim(i))
      return true;
  }
  return false;
}

static std::optional<int64_t> extentOf(StageOp stage, unsigned axis) {
  return constantValue(stage.getDomainDims()[axis]);
}

/// Largest power of two up to `most` that divides an extent.
static int64_t dividing(std::optional<int64_t> extent, int64_t most) {
  int64_t divisor = 1;
  while (extent && 2 * divisor <= most && *extent % (2 * divisor) == 0)
    divisor *= 2;
  return divisor;
}

namespace {
/// What a stage's loads say about its cut.
struct FoldLoads {
  SmallVector<LoadOp> streamed; ///< change along fold and columns
  bool areShared = false;       ///< others change along the fold only
  int64_t leastBytes = 4;       ///< of an element of the streamed ones
};
} // namespace

static FoldLoads findLoads(StageOp stage, unsigned columnAxis) {
  FoldLoads found;
  int64_t least = kAccessBytes;
  stage.walk([&](LoadOp load) {
    bool alongFold = false;
    for (unsigned axis = 0; axis < stage.getReduceRank(); ++axis)
      alongFold |= changesAlong(load, stage.getDomainRank() + axis);
    if (!alongFold)
      return;
    int64_t bytes = elementBytes(load.getType());
    if (!changesAlong(load, columnAxis)) {
      found.areShared = true;
      return;
    }
    found.streamed.push_back(load);
    least = std::min(least, bytes);
  });
  if (!found.streamed.empty())
    found.leastBytes = least;
  return found;
}

/// Rows that read the same streamed operands.
static void chooseRows(FoldCut &cut, StageOp stage, const FoldLoads &loads) {
  for (unsigned axis = stage.getDomainRank(); axis-- > 0;) {
    auto extent = extentOf(stage, axis);
    if (axis == cut.columnAxis || !extent || *extent < 2 ||
        loads.streamed.empty() ||
        llvm::any_of(
            loads.streamed,
            [&](LoadOp load) { return changesAlong(load, axis); }))
      continue;
    int64_t rows = std::min(*extent, kMostRows);
    while (*extent % rows)
      --rows;
    if (rows == 1)
      continue;
    cut.rowAxis = axis;
    cut.rows = rows;
    return;
  }
}

FoldCut dlc::chooseFoldCut(StageOp stage, bool isAlong) {
  FoldCut cut;
  // The innermost axis that is one.
  for (unsigned axis = 0; axis < stage.getDomainRank(); ++axis)
    if (extentOf(stage, axis) != 1)
      cut.columnAxis = axis;
  auto folded =
      constantValue(product(stage.getContext(), stage.getReduceDims()));
  auto innermost = constantValue(stage.getReduceDims().back());
  auto points =
      constantValue(product(stage.getContext(), stage.getDomainDims()));
  FoldLoads loads;
  if (cut.columnAxis) {
    loads = findLoads(stage, *cut.columnAxis);
    chooseRows(cut, stage, loads);
  }
  auto columns = cut.columnAxis ? extentOf(stage, *cut.columnAxis)
                                : std::optional<int64_t>(1);
  auto blocks = [&] {
    return points ? *points / (cut.rows * cut.columns * cut.lanes)
                  : kEnoughBlocks;
  };
  if (isAlong) {
    cut.steps = dividing(innermost,
                         std::min(kMostSteps, kAccessBytes / loads.leastBytes));
    // What columns share is read once for some of them.
    if (loads.areShared && points)
      cut.columns = dividing(columns, 4);
    while (cut.columns > 1 && blocks() < 2 * kEnoughBlocks)
      cut.columns /= 2;
    cut.threads = kWarpThreads;
    while (cut.threads < 256 && (!folded || cut.threads * cut.steps < *folded))
      cut.threads *= 2;
    return cut;
  }
  cut.columns = dividing(
      columns, std::min(kMostColumns, kAccessBytes / loads.leastBytes));
  while (cut.columns > 1 && cut.rows * cut.columns > kRuleSums)
    cut.columns /= 2;
  int64_t bytes = cut.columns * loads.leastBytes;
  cut.lanes = std::clamp<int64_t>(kLineBytes / bytes, 1, kWarpThreads);
  while (cut.lanes > 1 &&
         ((blocks() < kEnoughBlocks && cut.lanes * bytes > kPieceBytes) ||
          (columns && cut.lanes * cut.columns >= 2 * *columns)))
    cut.lanes /= 2;
  cut.steps = dividing(innermost, kMostSteps);
  cut.threads = blocks() < 2 * kEnoughBlocks ? 512 : 256;
  if (!folded)
    return cut;
  // Short folds: all of their steps at once.
  while (cut.steps > 4 && cut.threads / cut.lanes * cut.steps > *folded)
    cut.steps /= 2;
  while (cut.threads > kWarpThreads &&
         cut.threads / cut.lanes * cut.steps >= 2 * *folded)
    cut.threads /= 2;
  return cut;
}

//===----------------------------------------------------------------------===//
// Knobs
//===----------------------------------------------------------------------===//

KnobValues dlc::toKnobs(const FoldCut &cut, bool isAlong) {
  KnobValues knobs{{"fold_columns", cut.columns}, {"fold_steps", cut.steps}};
  if (isAlong) {
    knobs["fold_threads"] = cut.threads;
  } else {
    knobs["fold_lanes"] = cut.lanes;
    knobs["slice_warps"] = cut.threads / kWarpThreads;
  }
  return knobs;
}

std::vector<ScheduleSpace::Knob> dlc::foldKnobs(bool isAlong) {
  std::vector<ScheduleSpace::Knob> knobs{{"fold_columns", {1, 2, 4, 8}},
                                         {"fold_steps", {1, 2, 4, 8}}};
  if (isAlong) {
    knobs.push_back({"fold_threads", {32, 64, 128, 256, 512, 1024}});
  } else {
    knobs.push_back({"fold_lanes", {1, 2, 4, 8, 16, 32}});
    knobs.push_back({"slice_warps", {1, 2, 4, 8, 16, 32}});
  }
  return knobs;
}

bool dlc::applyKnobs(FoldCut &cut, StageOp stage, const KnobValues &knobs,
                     std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  auto get = [&](const char *name, int64_t byRule) -> int64_t {
    auto it = knobs.find(name);
    return it == knobs.end() || it->second == 0 ? byRule : it->second;
  };
  cut.columns = get("fold_columns", cut.columns);
  cut.steps = get("fold_steps", cut.steps);
  cut.lanes = get("fold_lanes", cut.lanes);
  int64_t threads =
      get("fold_threads",
          get("slice_warps", cut.threads / kWarpThreads) * kWarpThreads);
  if (threads < kWarpThreads || threads > kMostThreads ||
      !llvm::isPowerOf2_64(threads))
    return refuse("fold_threads is a power of two from 32 to 1024");
  cut.threads = static_cast<unsigned>(threads);
  if (!llvm::isPowerOf2_64(cut.lanes) || cut.lanes > kWarpThreads)
    return refuse("fold_lanes is a power of two, 32 at most");
  auto columns = cut.columnAxis ? extentOf(stage, *cut.columnAxis)
                                : std::optional<int64_t>(1);
  if (cut.columns < 1 ||
      (cut.columns > 1 && (!columns || *columns % cut.columns)))
    return refuse("fold_columns does not divide the innermost axis");
  if (cut.lanes > 1 && columns && cut.lanes * cut.columns >= 2 * *columns)
    return refuse("most of the block is idle");
  auto innermost = constantValue(stage.getReduceDims().back());
  if (cut.steps < 1 ||
      (cut.steps > 1 && (!innermost || *innermost % cut.steps)))
    return refuse("fold_steps does not divide the innermost reduce axis");
  int64_t sums = cut.rows * cut.columns;
  if (sums > kMostSums || sums * cut.steps > 2 * kMostReads ||
      threads * (sums + cut.steps * cut.columns) > 64 << 10)
    return refuse("too many sums for a thread's registers");
  constexpr int64_t mostBytes = 8; // of an element
  if (threads / kWarpThreads * cut.lanes * sums * mostBytes > kMostShared)
    return refuse("sums do not fit 48 KiB of shared memory");
  return true;
}
