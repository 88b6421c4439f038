// Loop schedules as points of a space.
#include "dlc/Codegen/CPU/LoopKnobs.h"

#include "dlc/Codegen/CPU/LoopOutline.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/RowPlan.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace dlc;

std::pair<int64_t, int64_t> dlc::elementWidths(graph::KernelOp kernel) {
  int64_t widest = 1, narrowest = 8;
  auto add = [&](Type element) {
    int64_t bytes = graph::elementBytes(element);
    widest = std::max(widest, bytes);
    narrowest = std::min(narrowest, bytes);
  };
  for (Type type : kernel.getArgumentTypes())
    add(cast<RankedTensorType>(type).getElementType());
  for (graph::StageOp stage : kernel.getStages())
    add(stage.getElementType());
  return {widest, narrowest};
}

std::vector<int64_t> dlc::grainsFor(graph::KernelOp kernel,
                                    ArrayRef<int64_t> symbols) {
  double work = 0;
  for (graph::StageOp stage : kernel.getStages()) {
    double points = 1;
    for (ArrayRef<AffineExpr> dims :
         {ArrayRef<AffineExpr>(stage.getDomainDims()),
          ArrayRef<AffineExpr>(stage.getReduceDims())})
      for (AffineExpr dim : dims)
        points *= double(graph::evaluate(dim, symbols));
    stage.getBlock()->walk([&](graph::ApplyOp apply) {
      work += points * double(scalarWeight(apply.getFn()));
    });
    work += points;
  }
  // A grain beyond the whole is the whole: one of them.
  std::vector<int64_t> grains{0};
  for (int64_t grain = 1 << 13; grain <= 1 << 23; grain *= 2) {
    grains.push_back(grain);
    if (double(grain) > work)
      break;
  }
  return grains;
}

namespace {
/// Which points of a space are the same code.
class Meanings {
public:
  Meanings(graph::KernelOp kernel, const CpuTarget &target, bool strict,
           ArrayRef<int64_t> symbols, const ScheduleSpace &space)
      : kernel(kernel), target(target), strict(strict), symbols(symbols),
        mergesMoments(!strict && bestNest(kernel).mergesMoments) {
    for (const ScheduleSpace::Knob &knob : space.knobs)
      if (knob.name == "grain")
        grains = knob.values;
    KnobValues point = space.defaults;
    add(space, point, 0);
  }

  /// The first of the class of `point`; one of no class stands for itself.
  KnobValues find(const KnobValues &point) {
    auto it = first.find(keyOf(point));
    return it == first.end() ? point : it->second;
  }
  /// The first of each class, in the order of the knobs' values.
  const std::vector<KnobValues> &getPoints() const { return points; }

private:
  using Key = std::vector<decltype(std::declval<LoopOutline>().key())>;

  void add(const ScheduleSpace &space, KnobValues &point, size_t knob) {
    std::string reason;
    if (knob == space.knobs.size()) {
      if (space.isLegal(point, reason) &&
          first.try_emplace(keyOf(point), point).second)
        points.push_back(point);
      return;
    }
    for (int64_t value : space.knobs[knob].values) {
      point[space.knobs[knob].name] = value;
      add(space, point, knob + 1);
    }
  }

  Key keyOf(const KnobValues &point) {
    auto get = [&](const char *name) {
      auto it = point.find(name);
      return it == point.end() ? 0 : it->second;
    };
    LoopSchedule schedule;
    schedule.width = unsigned(get("width"));
    schedule.groups = unsigned(get("groups"));
    schedule.across = unsigned(get("across"));
    schedule.grain = get("grain");
    schedule.mergesMoments = mergesMoments;
    auto toKey = [](const KernelOutline &outline) {
      Key key;
      for (const LoopOutline &loop : outline)
        key.push_back(loop.key());
      return key;
    };
    auto grain = llvm::find(grains, schedule.grain);
    if (grain == grains.end())
      return toKey(outlineLoops(kernel, target, strict, schedule, symbols));
    // Loops are the same whatever the grain.
    std::vector<Key> &known =
        keys[{schedule.width, schedule.groups, schedule.across}];
    if (known.empty())
      for (const KernelOutline &outline :
           outlineLoops(kernel, target, strict, schedule, symbols, grains))
        known.push_back(toKey(outline));
    return known[grain - grains.begin()];
  }

  graph::KernelOp kernel;
  CpuTarget target;
  bool strict;
  SmallVector<int64_t> symbols;
  bool mergesMoments;
  std::vector<int64_t> grains;
  std::map<std::tuple<unsigned, unsigned, unsigned>, std::vector<Key>> keys;
  std::map<Key, KnobValues> first;
  std::vector<KnobValues> points;
};
} // namespace

ScheduleSpace dlc::loopSpace(graph::KernelOp kernel, const CpuTarget &target,
                             bool strict, ArrayRef<int64_t> symbols) {
  int64_t vector = target.desc().vectorBytes;
  auto [widest, narrowest] = elementWidths(kernel);
  ScheduleSpace space;
  space.nest = chooseNest(kernel).str();
  space.defaults = {{"width", 0}, {"groups", 0}, {"across", 0}, {"grain", 0}};
  // From half a vector of the widest elements to a vector of the narrowest or
  // two of the widest.
  std::vector<int64_t> widths{0};
  int64_t least = std::max<int64_t>(2, vector / widest / 2),
          most = std::max(vector / widest * 2, vector / narrowest);
  for (int64_t lanes = least; lanes <= most; lanes *= 2)
    widths.push_back(lanes);
  std::vector<int64_t> grains = grainsFor(kernel, symbols);
  switch (loopKindOf(kernel)) {
  case LoopKind::Map:
    space.knobs = mapKnobs(widths, grains);
    break;
  case LoopKind::Row:
    space.knobs = rowKnobs(kernel, widths, grains);
    break;
  case LoopKind::Window:
    space.knobs = windowKnobs(kernel, widths, grains);
    break;
  }
  space.isLegal = [most](const KnobValues &knobs, std::string &reason) {
    auto get = [&](const char *name) {
      auto it = knobs.find(name);
      return it == knobs.end() ? 0 : it->second;
    };
    auto isIn = [](int64_t value, int64_t least, int64_t most) {
      return value == 0 ||
             (value >= least && value <= most && llvm::isPowerOf2_64(value));
    };
    if (!isIn(get("width"), 2, most))
      reason = "such a vector has no use";
    else if (!isIn(get("groups"), 1, 8))
      reason = "groups are 1, 2, 4 or 8 vectors";
    else if (get("across") < 0 || get("across") > kMostAcross)
      reason = "so many points have no registers";
    else if (get("grain") < 0)
      reason = "a task has at least one operation";
    else
      return true;
    return false;
  };
  // Listed when they are first asked for: lookups do not ask.
  auto meanings = std::make_shared<std::optional<Meanings>>();
  auto list = [=, space = space, sizes = symbols.vec()]() -> Meanings & {
    if (!*meanings)
      meanings->emplace(kernel, target, strict, sizes, space);
    return **meanings;
  };
  space.representative = [list](const KnobValues &point) {
    return list().find(point);
  };
  space.distinct = [list]() -> const std::vector<KnobValues> & {
    return list().getPoints();
  };
  return space;
}
