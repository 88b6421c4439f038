// Which kernels are attentions for CUDA, and how they are cut.
#include "Attention.h"
#include "AttentionTile.h"

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

int64_t AttentionPlan::columnTiles() const {
  return llvm::divideCeil(allColumns(), columns);
}

//===----------------------------------------------------------------------===//
// Planning
//===----------------------------------------------------------------------===//

/// The 16-bit float that `value` is widened from; null: from none.
static Value widened(Value value) {
  auto cast = throughStages(value).getDefiningOp<CastOp>();
  if (!cast || !cast.getType().isF32())
    return {};
  Type type = cast.getValue().getType();
  return type.isF16() || type.isBF16() ? cast.getValue() : Value();
}

static void findNarrow(AttentionPlan &plan) {
  const AttentionSpec &spec = plan.spec;
  Value query = widened(spec.query.value), key = widened(spec.key.value),
        value = widened(spec.value.value), weight = widened(spec.weight);
  if (!query || !key || !value || !weight)
    return;
  Type type = query.getType();
  for (Value other : {key, value, weight})
    if (other.getType() != type)
      return;
  plan.narrow = type;
  plan.narrowQuery = query;
  plan.narrowKey = key;
  plan.narrowValue = value;
}

// Parts of the keys, where rows alone leave most of the device idle.
static void splitKeys(AttentionPlan &plan) {
  auto blocks = constantValue(plan.spec.extentOf(plan.spec.outer) *
                              plan.rowTiles() * plan.columnTiles());
  if (!blocks || 2 * *blocks > kEnoughBlocks)
    return;
  auto keys = constantValue(plan.spec.extentOf(plan.spec.keys));
  int64_t least = llvm::alignTo(kLeastKeys, plan.keys);
  plan.keysPerPart = least;
  if (!keys)
    return;
  int64_t wanted = llvm::divideCeil(kEnoughBlocks, *blocks);
  plan.keysPerPart = std::max<int64_t>(
      least, llvm::alignTo(llvm::divideCeil(*keys, wanted), plan.keys));
  if (plan.keysPerPart >= *keys)
    plan.keysPerPart = 0;
}

std::optional<AttentionPlan> dlc::planAttention(KernelOp kernel) {
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
  findNarrow(plan);
  if (!(plan.narrow && fitTensorTile(plan))) {
    plan.narrow = {};
    if (!fitPlainTile(plan))
      return std::nullopt;
  }
  splitKeys(plan);
  return plan;
}
