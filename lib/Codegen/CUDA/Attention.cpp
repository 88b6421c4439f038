// Which kernels are attentions for CUDA, and how they are cut.
#include "Attention.h"
#include "AttentionDecode.h"

#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/Schedule.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Blocks that use a device (an A100 has 108 multiprocessors).
static constexpr int64_t kEnoughBlocks = 2 * 108;
/// Keys that a block is worth starting for.
static constexpr int64_t kLeastKeys = 256;
/// What a schedule may ask for.
static constexpr int64_t kMostParts = 64, kLeastPart = 64;
/// The knob `instruction_rows`: of mma.sync and of wgmma.
static constexpr int64_t kMmaSync = 16, kWgmma = 64;
/// The knob `gated_waits`.
static constexpr int64_t kNo = 1, kYes = 2;

//===----------------------------------------------------------------------===//
// The plan
//===----------------------------------------------------------------------===//

SmallVector<unsigned> AttentionPlan::rowAxes() const {
  SmallVector<unsigned> axes(spec.rows);
  llvm::append_range(axes, spec.group);
  return axes;
}

AffineExpr AttentionPlan::allRows() const {
  return simplify(spec.extentOf(spec.rows) * spec.extentOf(spec.group));
}

AffineExpr AttentionPlan::rowTiles() const {
  return simplify(allRows().ceilDiv(rows));
}

AffineExpr AttentionPlan::parts() const {
  if (!keysPerPart)
    return getAffineConstantExpr(1, spec.context());
  return simplify(spec.extentOf(spec.keys).ceilDiv(keysPerPart));
}

AffineExpr AttentionPlan::allPoints() const {
  return simplify(spec.extentOf(spec.outer) * allRows());
}

int64_t AttentionPlan::allColumns() const {
  return *constantValue(spec.extentOf(spec.columns));
}

AffineExpr AttentionPlan::paddedKeys() const {
  return simplify(spec.extentOf(spec.keys).ceilDiv(keys) * keys);
}

bool AttentionPlan::keepsScores() const {
  constexpr int64_t written = 4 + 4; // and read again
  auto all = constantValue(allRows());
  return keyWarps && rounds() && all &&
         *all * written <= inner * (narrow ? 2 : 4);
}

int64_t AttentionPlan::columnTiles() const {
  return llvm::divideCeil(allColumns(), columns);
}

//===----------------------------------------------------------------------===//
// Planning
//===----------------------------------------------------------------------===//

/// `roundsOnce`: under the law round(softmax) weights are what multiplies
/// takes.
static void findNarrow(AttentionPlan &plan, bool roundsOnce) {
  AttentionSpec &spec = plan.spec;
  Value query = widenedFrom(spec.query.value),
        key = widenedFrom(spec.key.value),
        value = widenedFrom(spec.value.value),
        weight = roundsOnce ? value : widenedFrom(spec.weight);
  if (!query || !key || !value || !weight)
    return;
  Type type = query.getType();
  for (Value other : {key, value, weight})
    if (other.getType() != type)
      return;
  if (roundsOnce)
    spec.weightRounding = {};
  plan.narrow = type;
  plan.narrowQuery = query;
  plan.narrowKey = key;
  plan.narrowValue = value;
}

// Parts of the keys, where rows alone leave most of the device idle.
static void splitKeys(AttentionPlan &plan) {
  auto blocks = constantValue(plan.spec.extentOf(plan.spec.outer) *
                              plan.rowTiles() * plan.columnTiles());
  // Small blocks that wait for memory: several on a multiprocessor.
  int64_t enough = plan.keyWarps ? 2 * kEnoughBlocks : kEnoughBlocks;
  if (!blocks || 2 * *blocks > enough)
    return;
  auto keys = constantValue(plan.spec.extentOf(plan.spec.keys));
  int64_t least = llvm::alignTo(kLeastKeys, plan.keys);
  plan.keysPerPart = least;
  if (!keys)
    return;
  if (plan.keyWarps)
    least = llvm::alignTo(kLeastKeys / 2, plan.keys);
  int64_t wanted = llvm::divideCeil(enough, *blocks);
  plan.keysPerPart = std::max<int64_t>(
      least, llvm::alignTo(llvm::divideCeil(*keys, wanted), plan.keys));
  if (plan.keysPerPart >= *keys)
    plan.keysPerPart = 0;
}

/// By wgmma where rule and device have it, else by mma.sync.
static bool fitNarrowTile(AttentionPlan &plan, int64_t rows = 0,
                          int64_t keys = 0, int64_t instruction = 0) {
  plan.sharedBytes = 0;
  bool mayUse = plan.hasWarpGroups && instruction != kMmaSync;
  plan.usesWarpGroups = mayUse && fitWarpGroupTile(plan, rows, keys);
  if (plan.usesWarpGroups)
    return true;
  return instruction != kWgmma && fitTensorTile(plan, rows, keys);
}

AttentionPlan dlc::portableForm(const AttentionPlan &plan) {
  AttentionPlan form = plan;
  form.usesWarpGroups = false;
  form.sharedBytes = 0;
  for (int64_t keys = 64; keys >= 16; keys -= 16)
    if (plan.keys % keys == 0 && fitTensorTile(form, plan.rows, keys))
      break;
  return form;
}

std::optional<AttentionPlan>
dlc::planAttention(KernelOp kernel, const CudaCodegenOptions &options) {
  auto schedule = getSchedule(kernel);
  if (!schedule) {
    llvm::consumeError(schedule.takeError());
    return std::nullopt;
  }
  // Check has refused one pass over the keys.
  if (!schedule->nest.empty() && schedule->nest != "attention")
    return std::nullopt;
  std::string reason;
  auto spec = classifyAttention(kernel, reason);
  if (failed(spec) || !hasAttentionNest(*spec, reason) || readsPages(*spec))
    return std::nullopt;
  AttentionPlan plan;
  plan.spec = std::move(*spec);
  plan.hasWarpGroups = options.warpGroups;
  AttentionSpec given = plan.spec;
  findNarrow(plan, llvm::is_contained(schedule->laws, Law::roundSoftmax()));
  if (!fitDecodeTile(plan) && !(plan.narrow && fitNarrowTile(plan))) {
    plan.narrow = {};
    plan.spec = std::move(given);
    if (!fitDecodeTile(plan) && !fitPlainTile(plan))
      return std::nullopt;
  }
  splitKeys(plan);
  return plan;
}

//===----------------------------------------------------------------------===//
// Knobs
//===----------------------------------------------------------------------===//

static int64_t countParts(const AttentionPlan &plan) {
  // Of symbolic keys, as many as they give.
  return graph::constantValue(plan.parts()).value_or(0);
}

KnobValues dlc::toKnobs(const AttentionPlan &plan) {
  KnobValues knobs{{"parts", countParts(plan)}};
  if (plan.keyWarps) {
    knobs["key_warps"] = plan.keyWarps;
    knobs["tile_keys"] = plan.keys / plan.keyWarps;
    if (plan.innerLanes)
      knobs["inner_lanes"] = plan.innerLanes;
    return knobs;
  }
  knobs["tile_rows"] = plan.rows;
  if (plan.narrow)
    knobs["tile_keys"] = plan.keys;
  if (plan.hasWarpGroups && plan.narrow)
    knobs["instruction_rows"] = plan.usesWarpGroups ? kWgmma : kMmaSync;
  if (plan.hasWarpGroups && plan.narrow)
    knobs["gated_waits"] = plan.gatesWaits ? kYes : kNo;
  return knobs;
}

std::vector<ScheduleSpace::Knob>
dlc::attentionKnobs(const AttentionPlan &plan) {
  std::vector<ScheduleSpace::Knob> knobs;
  if (plan.keyWarps) {
    knobs = {{"key_warps", {1, 2, 4, 8}}, {"tile_keys", {8, 16, 32, 48, 64}}};
    if (plan.innerLanes)
      knobs.push_back({"inner_lanes", {4, 8, 16, 32}});
  } else if (plan.narrow && plan.hasWarpGroups) {
    knobs = {{"tile_rows", {16, 32, 64, 128, 192}},
             {"tile_keys", {16, 32, 48, 64, 80, 96, 112, 128, 160, 176, 192}},
             {"instruction_rows", {kMmaSync, kWgmma}},
             {"gated_waits", {kNo, kYes}}};
  } else if (plan.narrow) {
    knobs = {{"tile_rows", {16, 32, 64, 128}},
             {"tile_keys", {16, 32, 48, 64, 96, 128}}};
  } else {
    knobs = {{"tile_rows", {16, 32, 64}}};
  }
  std::vector<int64_t> parts{1};
  if (auto keys = constantValue(plan.spec.extentOf(plan.spec.keys)))
    for (int64_t count = 2; count <= kMostParts && count * kLeastPart <= *keys;
         count *= 2)
      parts.push_back(count);
  if (parts.size() > 1)
    knobs.push_back({"parts", parts});
  return knobs;
}

bool dlc::applyKnobs(AttentionPlan &plan, const KnobValues &knobs,
                     std::string &reason) {
  auto get = [&](const char *name) -> int64_t {
    auto it = knobs.find(name);
    return it == knobs.end() ? 0 : it->second;
  };
  int64_t rows = get("tile_rows"), keys = get("tile_keys"),
          parts = get("parts"), instruction = get("instruction_rows"),
          gated = get("gated_waits"), warps = get("key_warps"),
          lanes = get("inner_lanes");
  if (!rows && !keys && !parts && !instruction && !gated && !warps && !lanes)
    return true;
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  if (rows < 0 || keys < 0 || warps < 0 || lanes < 0 || parts < 0 ||
      parts > kMostParts)
    return refuse("no tile has this size");
  if ((instruction && instruction != kMmaSync && instruction != kWgmma) ||
      gated < 0 || gated > kYes)
    return refuse("no instruction has so many rows");
  plan.gatesWaits = gated != kNo;
  // Rows that nobody has would be computed.
  auto all = constantValue(plan.allRows());
  constexpr int64_t least = 16;
  if (all && rows > least && rows >= 2 * *all)
    return refuse("most of the tile is idle");
  if (!(plan.keyWarps ? !rows && fitDecodeTile(plan, warps, keys, lanes)
        : plan.narrow ? fitNarrowTile(plan, rows, keys, instruction)
                      : !keys && fitPlainTile(plan, rows)))
    return refuse("the tile does not fit registers and shared memory");
  plan.keysPerPart = 0;
  if (!parts) {
    splitKeys(plan);
    return true;
  }
  auto total = constantValue(plan.spec.extentOf(plan.spec.keys));
  if (parts == 1)
    return true;
  if (!total)
    return refuse("symbolic keys have parts by rule");
  plan.keysPerPart = llvm::alignTo(llvm::divideCeil(*total, parts), plan.keys);
  if (plan.keysPerPart >= *total)
    return refuse("more parts than steps of keys");
  return true;
}
