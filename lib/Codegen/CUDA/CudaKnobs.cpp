// The space of a kernel's schedules: the knobs of the layouts its launches
// have.
#include "dlc/Codegen/CUDA/CudaKnobs.h"

#include "EmitKernel.h"

#include "dlc/Schedule/Schedule.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Blocks that fold one element.
static constexpr int64_t kMostFoldParts = 256;
static constexpr int64_t kMostThreads = 1024;

std::optional<int64_t> CudaKernelEmitter::knob(const char *name) const {
  auto it = knobs.find(name);
  return it == knobs.end() || it->second == 0 ? std::nullopt
                                              : std::optional(it->second);
}

/// From `first` on to `last`, doubling.
static std::vector<int64_t> doubled(int64_t first, int64_t last) {
  std::vector<int64_t> values;
  for (int64_t value = first; value <= last; value *= 2)
    values.push_back(value);
  return values;
}

ScheduleSpace CudaKernelEmitter::space() {
  if (plans.empty())
    analyse();
  ScheduleSpace space;
  // Launches of one kernel share a knob; its default is the first one's.
  auto add = [&](ScheduleSpace::Knob knob, int64_t byRule) {
    if (!space.defaults.emplace(knob.name, byRule).second)
      return;
    if (knob.values.size() > 1 ||
        (knob.values.size() == 1 && knob.values[0] != byRule))
      space.knobs.push_back(std::move(knob));
  };
  auto addAll = [&](const KnobValues &byRule,
                    std::vector<ScheduleSpace::Knob> knobs) {
    for (ScheduleSpace::Knob &knob : knobs)
      add(knob, byRule.at(knob.name));
  };
  auto addShare = [&](const RowShare &share) {
    add({"row_threads", doubled(1, kMostThreads)}, share.threads);
    add({"block_rows", doubled(1, kMostThreads)}, share.blockRows);
  };
  const std::vector<int64_t> threads = doubled(kWarpThreads, kMostThreads);
  if (attention) {
    space.nest = "attention";
    addAll(toKnobs(*attention), attentionKnobs(*attention));
    return space;
  }
  if (rowAxes) {
    space.nest = "row";
    if (auto share = rowShare(plans, rowAxes))
      addShare(*share);
    else
      add({"row_threads", threads}, rowThreads(rowAxes));
    return space;
  }
  space.nest = "map";
  for (Group group : groups) {
    StageOp stage = group.front().stage;
    switch (layoutOf(group)) {
    case Layout::Tiles: {
      Contraction match = *contractionOf(stage);
      space.nest = "contraction";
      addAll(toKnobs(match), contractionKnobs(match));
      break;
    }
    case Layout::Reduce:
      if (space.nest == "map")
        space.nest = "row";
      if (int64_t parts = countFoldParts(stage); parts > 1) {
        add({"fold_threads", threads}, foldThreads(stage));
        add({"fold_parts", doubled(2, kMostFoldParts)}, parts);
      } else if (auto share = foldShare(group)) {
        // Rows of different lengths would not go with the same threads.
        if (groups.size() == 1)
          addShare(*share);
      } else {
        addAll(toKnobs(foldCutOf(stage, true), true), foldKnobs(true));
      }
      break;
    case Layout::Slices:
      addAll(toKnobs(foldCutOf(stage, false), false), foldKnobs(false));
      break;
    case Layout::Turned:
      add({"turn_side", {32, 64}}, turnSide(group, *findTurn(group)));
      break;
    case Layout::Points:
      add({"point_threads", threads}, kPointThreads);
      if (stage.getFoldKind() == FoldKind::none)
        add({"point_elements", doubled(1, 8)}, pointsAThread(group));
      break;
    }
    if (stage.getFoldKind() != FoldKind::none && space.nest == "map")
      space.nest = "generic";
  }
  return space;
}

static bool isPowerOfTwoUpTo(int64_t value, int64_t least, int64_t most) {
  return value >= least && value <= most && llvm::isPowerOf2_64(value);
}

bool CudaKernelEmitter::isLegal(const KnobValues &values, std::string &reason) {
  auto refuse = [&](const Twine &why) {
    reason = why.str();
    return false;
  };
  ScheduleSpace known = space();
  for (auto &[name, value] : values)
    if (!known.defaults.count(name)) {
      std::vector<std::string> names;
      for (auto &[other, byRule] : known.defaults)
        names.push_back(other);
      return refuse("'" + name + "' is no knob of this kernel" +
                    (names.empty() ? std::string()
                                   : "; it has " + llvm::join(names, ", ")));
    }
  auto get = [&](const char *name) -> int64_t {
    auto it = values.find(name);
    return it == values.end() ? 0 : it->second;
  };
  if (rowAxes)
    if (auto share = rowShare(plans, rowAxes))
      return applyKnobs(*share, values, reason);
  for (const char *name : {rowAxes ? "row_threads" : "fold_threads",
                           "fold_threads", "point_threads"})
    if (int64_t wanted = get(name);
        wanted && !isPowerOfTwoUpTo(wanted, kWarpThreads, kMostThreads))
      return refuse(Twine(name) + " is a power of two from 32 to 1024");
  if (int64_t wanted = get("slice_warps");
      wanted && !isPowerOfTwoUpTo(wanted, 1, kMostThreads / kWarpThreads))
    return refuse("slice_warps is a power of two, 32 at most");
  if (int64_t wanted = get("fold_parts");
      wanted && (wanted < 2 || wanted > kMostFoldParts))
    return refuse("fold_parts is 2 to 256");
  if (attention) {
    AttentionPlan plan = *attention;
    return applyKnobs(plan, values, reason);
  }
  if (rowAxes)
    return true;
  for (Group group : groups) {
    StageOp stage = group.front().stage;
    Layout layout = layoutOf(group);
    if (layout == Layout::Tiles) {
      Contraction match = *contractionOf(stage);
      if (!applyKnobs(match, values, reason))
        return false;
    }
    if (layout == Layout::Reduce)
      if (auto share = foldShare(group);
          share && !applyKnobs(*share, values, reason))
        return false;
    if (int64_t side = get("turn_side"); side && layout == Layout::Turned) {
      if (side != 32 && side != 64)
        return refuse("turn_side is 32 or 64");
      if (turnBytes(*findTurn(group), side) > kMostSharedBytes)
        return refuse("tiles are larger than 48 KiB of shared memory");
    }
    bool isAlong = layout == Layout::Reduce;
    if ((isAlong && countFoldParts(stage) == 1 && !foldShare(group)) ||
        layout == Layout::Slices) {
      FoldCut cut = chooseFoldCut(stage, isAlong);
      if (!applyKnobs(cut, stage, values, reason))
        return false;
    }
    int64_t elements = get("point_elements");
    if (layout != Layout::Points || elements <= 1 ||
        stage.getFoldKind() != FoldKind::none || stage.getDomainRank() == 0)
      continue;
    auto inner = constantValue(stage.getDomainDims().back());
    if (elements > 16 || !inner || *inner % elements)
      return refuse("point_elements does not divide the innermost axis");
  }
  return true;
}

// Errors are diagnostics.
bool CudaKernelEmitter::readSchedule() {
  auto schedule = getSchedule(kernel);
  if (!schedule) {
    kernel.emitOpError(llvm::toString(schedule.takeError()));
    return false;
  }
  if (schedule->knobs.empty())
    return true;
  KnobValues values(schedule->knobs.begin(), schedule->knobs.end());
  std::string reason;
  if (!isLegal(values, reason)) {
    kernel.emitOpError("schedule: " + reason);
    return false;
  }
  knobs = std::move(values);
  return true;
}

ScheduleSpace dlc::cudaScheduleSpace(KernelOp kernel,
                                     const CudaCodegenOptions &options) {
  if (kernel.getOpaque()) {
    ScheduleSpace space;
    space.nest = "opaque";
    space.isLegal = [](const KnobValues &knobs, std::string &reason) {
      reason = "opaque operators have no knobs";
      return knobs.empty();
    };
    return space;
  }
  auto held = std::make_shared<CudaCodegenOptions>(options);
  auto emitter = std::make_shared<CudaKernelEmitter>(kernel, *held);
  ScheduleSpace space = emitter->space();
  space.isLegal = [held, emitter](const KnobValues &knobs,
                                  std::string &reason) {
    return emitter->isLegal(knobs, reason);
  };
  return space;
}

//===----------------------------------------------------------------------===//
// For cost models
//===----------------------------------------------------------------------===//

static int64_t sizeOf(AffineExpr expr) {
  return constantValue(expr).value_or(1);
}

static int64_t copyCode(const FactorCopy &copy) {
  return copy.contiguous ? 2 : copy.word ? 1 : 0;
}

CudaShape CudaKernelEmitter::shape() {
  CudaShape shape;
  shape.nest = space().nest;
  for (StagePlan &plan : plans) {
    StageOp stage = plan.stage;
    shape.points =
        std::max(shape.points, sizeOf(product(context, stage.getDomainDims())));
    shape.folded =
        std::max(shape.folded, sizeOf(product(context, stage.getReduceDims())));
    if (rowAxes)
      shape.rowElements =
          std::max(shape.rowElements, rowElements(stage, rowAxes).value_or(1));
  }
  if (attention) {
    const AttentionSpec &spec = attention->spec;
    shape.outer = sizeOf(spec.extentOf(spec.outer));
    shape.rows = sizeOf(attention->allRows());
    shape.columns = attention->allColumns();
    shape.depth = sizeOf(spec.extentOf(spec.inner));
    shape.keys = sizeOf(spec.extentOf(spec.keys));
    shape.usesTensorCores = static_cast<bool>(attention->narrow);
    shape.factorBytes = attention->narrow ? 2 : 4;
    shape.rounds = attention->rounds();
    shape.cuts = static_cast<int64_t>(spec.cuts.size());
    return shape;
  }
  shape.launches = rowAxes ? 1 : static_cast<int64_t>(groups.size());
  double most = 0;
  for (Group group : groups) {
    StageOp stage = group.front().stage;
    auto match = contractionOf(stage);
    if (rowAxes || !match)
      continue;
    auto extent = [&](ArrayRef<unsigned> axes) {
      return sizeOf(extentOf(stage, axes));
    };
    int64_t outer = extent(match->batchAxes), rows = extent(match->rowAxes),
            columns = extent(match->columnAxes),
            depth = sizeOf(product(context, stage.getReduceDims()));
    double work =
        double(outer) * double(rows) * double(columns) * double(depth);
    if (work <= most)
      continue;
    most = work;
    shape.outer = outer;
    shape.rows = rows;
    shape.columns = columns;
    shape.depth = depth;
    shape.usesTensorCores = match->usesTensorCores();
    shape.factorBytes =
        shape.usesTensorCores ? elementBytes(match->narrowLeft.getType()) : 4;
    shape.leftCopy = copyCode(copyOf(*match, /*isLeft=*/true));
    shape.rightCopy = copyCode(copyOf(*match, /*isLeft=*/false));
  }
  return shape;
}

CudaShape dlc::cudaShapeOf(KernelOp kernel, const CudaCodegenOptions &options) {
  CudaShape shape;
  shape.nest = "opaque";
  return kernel.getOpaque() ? shape
                            : CudaKernelEmitter(kernel, options).shape();
}
