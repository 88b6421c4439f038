// Attention by matrix tiles: what lies between the two products. Scores become
// weights in place, bf16 numbers in pairs of keys.
#include "AttentionTask.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

/// Keys of one tile of weights.
static constexpr int64_t kDepth = 32;

//===----------------------------------------------------------------------===//
// Rounding
//===----------------------------------------------------------------------===//

static Value callNarrowing(OpBuilder &b, Location loc, StringRef name,
                           int64_t lanes, ValueRange numbers) {
  auto type = VectorType::get({lanes}, b.getBF16Type());
  return LLVM::CallIntrinsicOp::create(
             b, loc, type, b.getStringAttr("llvm.x86.avx512bf16." + name),
             numbers)
      .getResult(0);
}

Value AttentionTask::pairedRounded(Scope &scope, Value low, Value high) {
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t lanes = s.lanes;
  // The second operand's numbers come first.
  Value both =
      callNarrowing(b, loc, "cvtne2ps2bf16.512", 2 * lanes, {high, low});
  SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < lanes; ++lane)
    order.append({lane, lanes + lane});
  both = vector::ShuffleOp::create(b, loc, both, both, order);
  return vector::BitCastOp::create(b, loc, vectorType(), both);
}

Value AttentionTask::rounded(Scope &scope, Value numbers) {
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t lanes = s.lanes;
  Value narrow = callNarrowing(b, loc, "cvtneps2bf16.512", lanes, numbers);
  Value bits = arith::ExtUIOp::create(
      b, loc, VectorType::get({lanes}, b.getI32Type()),
      arith::BitcastOp::create(b, loc, VectorType::get({lanes}, b.getI16Type()),
                               narrow));
  bits = arith::ShLIOp::create(b, loc, bits, splatBits(scope, 16));
  return arith::BitcastOp::create(b, loc, vectorType(), bits);
}

/// Whether `value` is that of a fold.
static bool isFold(Value value, graph::StageOp fold) {
  auto load = throughStages(value).getDefiningOp<graph::LoadOp>();
  return load && load.getTensor() == fold.getResult();
}

Value AttentionTask::roundedScore() {
  Value found;
  llvm::SmallDenseSet<Value> seen;
  walkScalars(spec.score, seen, [&](Value scalar) {
    auto cast = scalar.getDefiningOp<graph::CastOp>();
    if (cast && cast.getType().isBF16() && isFold(cast.getValue(), spec.scores))
      found = scalar;
  });
  return found;
}

//===----------------------------------------------------------------------===//
// Maxima
//===----------------------------------------------------------------------===//

LogicalResult AttentionTask::emitTileMaxima(
    Scope &scope, const BlockArguments &a, SmallVectorImpl<Value> &maxima,
    function_ref<LogicalResult(Value from, Value to)> body) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  // The next tile's products go on while this one's scores are made.
  auto emitWithin = [&](Value key) {
    auto branch = scf::IfOp::create(b, scope.loc(), index.less(key, a.to));
    OpBuilder::InsertionGuard inside(b);
    b.setInsertionPointToStart(branch.thenBlock());
    emitTileScores(scope, a, key);
  };
  emitWithin(a.from);
  auto loop =
      scf::ForOp::create(b, scope.loc(), a.from, a.to, index.constant(kDepth),
                         SmallVector<Value>(maxima.begin(), maxima.end()));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value key = loop.getInductionVar(), next = index.add(key, kDepth);
  emitWithin(next);
  maxima.assign(loop.getRegionIterArgs().begin(),
                loop.getRegionIterArgs().end());
  LogicalResult outcome = body(key, index.min(next, a.to));
  scf::YieldOp::create(b, scope.loc(),
                       SmallVector<Value>(maxima.begin(), maxima.end()));
  maxima.assign(loop.getResults().begin(), loop.getResults().end());
  return outcome;
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// Where a part of a block's weights lies: the first one over the scores.
Value AttentionTask::weightArea(Scope &scope, unsigned part) {
  if (part == 0)
    return scope.areas[Scores];
  IndexBuilder &index = scope.index;
  Value blocks =
      index.ceilDiv(sizeOf(scope, keysOfBlock), index.constant(kDepth));
  int64_t block = kDepth / 2 * int64_t(s.blockRows());
  return index.add(scope.areas[Weights],
                   index.mul(blocks, block * (int64_t(part) - 1)));
}

/// Rows of scores behind the last key, to a whole tile: -inf.
void AttentionTask::fillScoreTail(Scope &scope, Value count, Value end) {
  IndexBuilder &index = scope.index;
  int64_t width = s.blockRows();
  index.forEach(count, end, 1, [&](Value key) {
    for (unsigned v = 0; v < s.vectors; ++v)
      storeVector(
          scope, splat(scope, -INFINITY),
          index.add(index.add(scope.areas[Scores], index.mul(key, width)),
                    int64_t(v) * s.lanes));
  });
}

void AttentionTask::forEachPair(
    Scope &scope, Value end, SmallVectorImpl<Value> &carried,
    function_ref<void(Value pair, unsigned v, Value (&numbers)[2],
                      Value &carried)>
        body) {
  IndexBuilder &index = scope.index;
  int64_t width = s.blockRows();
  auto loop =
      scf::ForOp::create(scope.b(), scope.loc(), index.constant(0),
                         index.div(end, index.constant(2)), index.constant(1),
                         SmallVector<Value>(carried.begin(), carried.end()));
  OpBuilder::InsertionGuard guard(scope.b());
  scope.b().setInsertionPointToStart(loop.getBody());
  Value pair = loop.getInductionVar();
  // All is read before the first is written: weights lie where scores did.
  SmallVector<std::array<Value, 2>> numbers(s.vectors);
  for (unsigned v = 0; v < s.vectors; ++v)
    for (int64_t k : {0, 1})
      numbers[v][k] = loadVector(
          scope,
          index.add(index.add(scope.areas[Scores], index.mul(pair, 2 * width)),
                    k * width + int64_t(v) * s.lanes));
  SmallVector<Value> next(loop.getRegionIterArgs());
  for (unsigned v = 0; v < s.vectors; ++v) {
    Value both[2] = {numbers[v][0], numbers[v][1]}, none;
    body(pair, v, both, next.empty() ? none : next[v]);
  }
  if (!next.empty())
    scf::YieldOp::create(scope.b(), scope.loc(), next);
  carried.assign(loop.getResults().begin(), loop.getResults().end());
}

/// Three bf16 numbers a weight, whose sum is the weight: each takes the eight
/// leading bits of what is left.
void AttentionTask::storeWeightParts(Scope &scope, Value pair, unsigned v,
                                     Value (&numbers)[2]) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t width = s.blockRows();
  for (unsigned part = 0; part < weightParts(); ++part) {
    storeVector(
        scope, paired(scope, numbers[0], numbers[1]),
        index.add(index.add(weightArea(scope, part), index.mul(pair, width)),
                  int64_t(v) * s.lanes));
    if (part + 1 == weightParts())
      break;
    for (Value &number : numbers) {
      Value bits = bitsOf(scope, number);
      Value leading = arith::BitcastOp::create(
          b, loc, vectorType(),
          arith::AndIOp::create(b, loc, bits, splatBits(scope, 0xffff0000)));
      number = arith::SubFOp::create(b, loc, number, leading);
    }
  }
}

/// How e becomes the factor of the product: e / z, where it stands there as it
/// is, and the f32 number that is rounded last, where that gives the factor.
static std::pair<Value, Value> weightChainOf(const AttentionSpec &spec,
                                             ArrayRef<Value> scalars) {
  Value quotient;
  for (Value scalar : scalars) {
    auto apply = scalar.getDefiningOp<graph::ApplyOp>();
    if (apply && apply.getFn() == graph::ScalarFn::div &&
        throughStages(apply.getArgs()[0]) == spec.exponential &&
        isFold(apply.getArgs()[1], spec.sum))
      quotient = scalar;
  }
  Value unrounded;
  if (auto widening = throughStages(spec.weight).getDefiningOp<graph::CastOp>())
    if (auto cast =
            throughStages(widening.getValue()).getDefiningOp<graph::CastOp>();
        cast && cast.getType().isBF16() && cast.getValue().getType().isF32())
      unrounded = cast.getValue();
  return {quotient, unrounded};
}

void AttentionTask::addToRowSums(Scope &scope, Value state,
                                 ArrayRef<Value> factors,
                                 MutableArrayRef<Value> sums) {
  for (unsigned v = 0; v < s.vectors; ++v) {
    Value at = scope.index.add(state, s.blockRows() + int64_t(v) * s.lanes);
    sums[v] = vector::FMAOp::create(scope.b(), scope.loc(),
                                    loadVector(scope, at), factors[v], sums[v]);
    storeVector(scope, sums[v], at);
  }
}

/// Exponentials in place, then weights: [key / 2][query], two keys a lane.
LogicalResult AttentionTask::emitTileWeights(
    Scope &scope, const BlockArguments &a, ArrayRef<Value> subtrahends,
    ArrayRef<Value> maxima, SmallVector<Value> factors, std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t width = s.blockRows();
  VectorMath math(b, loc, scalarOptions.fma);
  Value count = index.sub(a.to, a.from);
  Value end = index.mul(index.ceilDiv(count, index.constant(kDepth)), kDepth);
  fillScoreTail(scope, count, end);
  SmallVector<Value> sums(s.vectors, splat(scope, 0));
  forEachPair(scope, end, sums,
              [&](Value pair, unsigned v, Value(&numbers)[2], Value &sum) {
                for (Value &number : numbers)
                  number = math.expOfNonPositive(
                      arith::SubFOp::create(b, loc, number, subtrahends[v]));
                sum = arith::AddFOp::create(
                    b, loc, sum,
                    arith::AddFOp::create(b, loc, numbers[0], numbers[1]));
                if (!weighsElements())
                  return storeWeightParts(scope, pair, v, numbers);
                for (int64_t k : {0, 1})
                  storeVector(scope, numbers[k],
                              index.add(index.add(scope.areas[Scores],
                                                  index.mul(pair, 2 * width)),
                                        k * width + int64_t(v) * s.lanes));
              });
  Value state = index.add(scope.areas[State], index.mul(a.block, 3 * width));
  addToRowSums(scope, state, factors, sums);
  if (!weighsElements())
    return success();

  llvm::SmallDenseSet<Value> seen;
  SmallVector<Value> scalars;
  walkScalars(spec.weight, seen,
              [&](Value scalar) { scalars.push_back(scalar); });
  auto [quotient, unrounded] = weightChainOf(spec, scalars);
  if (!spec.isPlainReference) // z may be any number then
    quotient = {};
  bool rounds = unrounded && roundsByInstruction && weightParts() == 1;
  WeightChain chain{rounds ? unrounded : spec.weight, quotient, {}};
  struct Row {
    ExprPoint point;
    RowState state;
    Value high, low; ///< 1 / z in two parts
  };
  SmallVector<Row> rows;
  for (unsigned v = 0; v < s.vectors; ++v) {
    Row row;
    row.point = pointOf(scope);
    Value first = index.add(a.firstRow, int64_t(v) * s.lanes);
    row.point.axes[*laneAxis()] = first;
    row.point.lanes = s.lanes;
    row.point.laneAxes = {*laneAxis()};
    row.point.mask = firstLanes(
        scope,
        index.sub(sizeOf(scope, spec.space.extents[*laneAxis()]), first));
    auto now = rowState(scope, row.point, maxima[v], sums[v], reason);
    if (failed(now))
      return failure();
    row.state = *now;
    if (chain.quotient) {
      // As ScalarEmitter::divideByOne does: the float below 1 / z, and what is
      // left. A sum is at least 1, or 0 or NaN, whose quotients are NaN.
      Value one = splat(scope, 1), z = row.state.sum;
      Value nearest = arith::DivFOp::create(b, loc, one, z);
      Value bits = bitsOf(scope, nearest);
      bits = arith::SubIOp::create(b, loc, bits, splatBits(scope, 1));
      row.high = arith::BitcastOp::create(b, loc, vectorType(), bits);
      row.low = arith::MulFOp::create(
          b, loc,
          vector::FMAOp::create(b, loc, arith::NegFOp::create(b, loc, z),
                                row.high, one),
          nearest);
    }
    rows.push_back(std::move(row));
  }
  LogicalResult outcome = success();
  SmallVector<Value> none;
  forEachPair(scope, end, none,
              [&](Value pair, unsigned v, Value(&numbers)[2], Value &) {
                const Row &row = rows[v];
                for (Value &number : numbers) {
                  if (chain.quotient)
                    chain.divided = vector::FMAOp::create(
                        b, loc, number, row.high,
                        arith::MulFOp::create(b, loc, number, row.low));
                  auto weight = weightOf(scope, row.point, number, row.state,
                                         chain, reason);
                  if (failed(weight)) {
                    outcome = failure();
                    return;
                  }
                  number = *weight;
                }
                if (!rounds)
                  return storeWeightParts(scope, pair, v, numbers);
                storeVector(scope, pairedRounded(scope, numbers[0], numbers[1]),
                            index.add(index.add(scope.areas[Scores],
                                                index.mul(pair, width)),
                                      int64_t(v) * s.lanes));
              });
  return outcome;
}
