// The launches of an attention kernel.
#include "AttentionDecode.h"
#include "EmitKernel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;

// One thread an element of the output: its parts, in order.
LogicalResult CudaKernelEmitter::emitAttentionMerge(const AttentionPlan &plan,
                                                    const std::string &symbol) {
  LaunchBuilder launch = newLaunch(symbol, kPointThreads);
  IndexBuilder &index = launch.index();
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  AttentionRows rows(launch, plan.spec);
  unsigned scratch =
      kernel.getArgumentTypes().size() + kernel.getResultTypes().size();
  Value stats = launch.buffer(scratch), sums = launch.buffer(scratch + 1);
  AffineExpr elements = graph::simplify(plan.allPoints() * plan.allColumns());
  Value i = index.add(index.mul(launch.block(), index.constant(kPointThreads)),
                      launch.thread());
  LogicalResult outcome = success();
  launch.onlyIf(index.less(i, launch.size(elements)), [&] {
    SmallVector<Value> place =
        index.delinearize(i, {index.constant(0), launch.size(plan.allRows()),
                              index.constant(plan.allColumns())});
    AttentionRows::Axes axes(plan.spec.space.extents.size(), index.constant(0));
    Value heads = launch.size(plan.spec.extentOf(plan.spec.group));
    rows.setAxes(axes, plan.spec.outer, place[0]);
    rows.setAxes(axes, plan.spec.rows, index.div(place[1], heads));
    rows.setAxes(axes, plan.spec.group, index.rem(place[1], heads));
    rows.setAxes(axes, plan.spec.columns, place[2]);
    Value row =
        index.add(index.mul(place[0], launch.size(plan.allRows())), place[1]);
    auto [maximum, sum] = mergeStats(launch, rows, plan, stats, row);
    Value subtracted = rows.finite(maximum);
    Value points = launch.size(plan.allPoints());
    Value output = overParts(
        launch, plan, rows.number(0), [&](Value part, Value so) -> Value {
          Value record = index.add(index.mul(part, points), row);
          Value partial = memref::LoadOp::create(
              b, loc, sums,
              index.add(index.mul(record, plan.allColumns()), place[2]));
          if (plan.rounds()) // of weights that are the row's
            return arith::AddFOp::create(b, loc, so, partial);
          Value least =
              memref::LoadOp::create(b, loc, stats, index.mul(record, 2));
          Value factor = rows.expOfNonPositive(
              arith::SubFOp::create(b, loc, least, subtracted));
          return math::FmaOp::create(b, loc, partial, factor, so);
        });
    auto state = rows.state(axes, maximum, sum);
    if (failed(state)) {
      outcome = failure();
      return;
    }
    auto factor = rows.factor(axes, *state);
    if (failed(factor) ||
        failed(rows.store(axes, rows.scaled(output, *factor), *state)))
      outcome = failure();
  });
  launch.finish();
  result.launches.push_back({symbol,
                             graph::simplify(elements.ceilDiv(kPointThreads)),
                             kPointThreads});
  return outcome;
}

LogicalResult CudaKernelEmitter::emitAttention(const AttentionPlan &given) {
  AttentionPlan plan =
      given.usesWarpGroups && options.portable ? portableForm(given) : given;
  result.nest = "attention";
  auto emitStep = [&](AttentionStep step, const std::string &symbol) {
    LaunchBuilder launch =
        newLaunch(symbol, plan.threads, /*residentThreads=*/kAttentionThreads);
    AttentionScratch scratch;
    unsigned next =
        kernel.getArgumentTypes().size() + kernel.getResultTypes().size();
    if (plan.keysPerPart) {
      scratch.stats = launch.buffer(next++);
      scratch.sums = launch.buffer(next++);
    }
    if (plan.keepsScores())
      scratch.scores = launch.buffer(next);
    std::unique_ptr<AttentionTile> tile =
        plan.keyWarps         ? makeDecodeTile(launch, plan)
        : plan.usesWarpGroups ? makeWarpGroupTile(launch, plan)
        : plan.narrow         ? makeTensorTile(launch, plan)
                              : makePlainTile(launch, plan);
    std::string reason;
    if (failed(tile->emit(step, scratch, reason)))
      return failure();
    launch.finish();
    int64_t columnTiles = step == AttentionStep::Stats ? 1 : plan.columnTiles();
    result.launches.push_back(
        {symbol,
         graph::simplify(plan.spec.extentOf(plan.spec.outer) * plan.rowTiles() *
                         plan.parts() * columnTiles),
         plan.threads, plan.sharedBytes});
    return success();
  };
  constexpr int64_t bytes = sizeof(float);
  auto addFloats = [&](AffineExpr count) {
    scratchTypes.push_back(Float32Type::get(context));
    result.scratchBytes.push_back(graph::simplify(count * bytes));
  };
  AffineExpr records = plan.allPoints() * plan.parts();
  if (plan.keysPerPart) {
    addFloats(records * 2);
    addFloats(records * plan.allColumns());
  }
  if (plan.keepsScores())
    addFloats(plan.spec.extentOf(plan.spec.outer) * plan.rows *
              plan.paddedKeys());
  if (!plan.keysPerPart)
    return emitStep(AttentionStep::Whole, options.symbol);
  if (plan.rounds()) {
    if (failed(emitStep(AttentionStep::Stats, options.symbol + "__stats")) ||
        failed(emitStep(AttentionStep::Weighted, options.symbol + "__parts")))
      return failure();
  } else if (failed(
                 emitStep(AttentionStep::Parts, options.symbol + "__parts"))) {
    return failure();
  }
  return emitAttentionMerge(plan, options.symbol + "__merge");
}
