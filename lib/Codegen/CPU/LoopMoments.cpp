// A sum and the sum of squares about its mean in one pass over a row (the law
// hom(welford)). The row is cut into blocks that stay in the nearest cache. Of
// each, the sum is folded, then the squares about the block's own mean; the two
// are merged into what is known of the blocks before:
//
//   n = na + nb,  S = Sa + Sb,
//   M2 = M2a + M2b + (Sb / nb - Sa / na)^2 * na nb / n
//
// (T. F. Chan, G. H. Golub, R. J. LeVeque, 1979). Nothing is a difference of
// large numbers, so a variance that is small beside the mean is kept. Blocks
// are merged in float64: a row has thousands of them. A row that ends with a
// state that is not finite (NaN, infinities, sums beyond the range) is folded
// again as it is written, so that it gives what the folds give.
#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;

// Bytes that a block reads: half of a small first-level cache.
static constexpr int64_t kBlockBytes = 16 << 10;

//===----------------------------------------------------------------------===//
// The form
//===----------------------------------------------------------------------===//

std::optional<LoopExpr::Moments>
LoopExpr::findMoments(unsigned sumStore, unsigned store,
                      unsigned sumBuffer) const {
  Moments found;
  found.sum = sumStore;
  while (nodes[found.sum].kind == LoopNode::Store)
    found.sum = nodes[found.sum].args[0];
  if (nodes[found.sum].kind != LoopNode::Fold)
    return std::nullopt;
  std::vector<unsigned> all = reachable(store);
  unsigned folds = 0;
  for (unsigned id : all)
    if (nodes[id].kind == LoopNode::Fold &&
        nodes[id].group == nodes[found.sum].group) {
      found.squares = id;
      ++folds;
    }
  if (folds != 1 || found.squares == found.sum)
    return std::nullopt;
  std::vector<unsigned> body = reachable(nodes[found.squares].args[0]);
  auto isLoad = [&](unsigned id) {
    return nodes[id].kind == LoopNode::Load && nodes[id].buffer == sumBuffer;
  };
  auto isMean = [&](unsigned id) {
    const LoopNode &node = nodes[id];
    return node.kind == LoopNode::Apply && node.fn == ScalarFn::div &&
           isLoad(node.args[0]);
  };
  // The mean is that of the point's own sum.
  auto addressOf = [&](unsigned id) {
    IndexPoly address = nodes[id].index;
    for (auto [d, extent] : llvm::enumerate(extents))
      if (extent && graph::constantValue(extent) == 1 && address.coefficient(d))
        address = address.without(d);
    return address;
  };
  for (unsigned id : body) {
    if (isLoad(id)) {
      if (!nodes[id].guards.empty() || !nodes[id].data.empty() ||
          !(addressOf(id) == addressOf(sumStore)))
        return std::nullopt;
      found.loads.push_back(id);
    } else if (isMean(id)) {
      found.means.push_back(id);
    }
  }
  // The sum is read for the mean, the mean to be subtracted, and neither
  // outside of the fold.
  for (unsigned id : all) {
    const LoopNode &node = nodes[id];
    bool isInside = llvm::is_contained(body, id);
    for (auto [i, arg] : llvm::enumerate(node.args)) {
      bool isRight = isLoad(arg)   ? isMean(id) && i == 0
                     : isMean(arg) ? node.kind == LoopNode::Apply &&
                                         node.fn == ScalarFn::sub && i == 1
                                   : true;
      if (!isRight || ((isLoad(arg) || isMean(arg)) && !isInside))
        return std::nullopt;
    }
    if (isLoad(id) && !isInside)
      return std::nullopt;
  }
  return found.means.empty() ? std::nullopt : std::optional(found);
}

//===----------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------===//

/// A whole number of loop steps that read about kBlockBytes.
int64_t LoopEmitter::blockSteps(const LoopNode &sum) const {
  int64_t bytes = 0;
  for (unsigned id : expr.reachable(sum.args[0]))
    if (const LoopNode &node = expr.nodes[id];
        node.kind == LoopNode::Load && node.needs.test(sum.axes.back()))
      bytes += graph::elementBytes(node.type);
  int64_t whole = int64_t(options.width) * options.rowGroups;
  return std::max<int64_t>(
      kBlockBytes / std::max<int64_t>(bytes, 1) / whole * whole, whole);
}

// The state is the count, the sum and the sum of squares about the mean, in
// float64.
void LoopEmitter::foldMoments() {
  const LoopExpr::Moments &m = *expr.moments;
  const LoopNode &sum = expr.nodes[m.sum];
  Type type = sum.type, f64 = b.getF64Type();
  Value zero = arith::ConstantOp::create(b, loc, b.getF64FloatAttr(0.0));
  State state = foldMomentsLevel(0, blockSteps(sum), State{zero, zero, zero});
  auto narrow = [&](Value v) -> Value {
    return type == f64 ? v : arith::TruncFOp::create(b, loc, type, v);
  };
  Value s = narrow(state[1]), q = narrow(state[2]);
  // x - x is 0 or NaN.
  Value rest =
      arith::AddFOp::create(b, loc, arith::SubFOp::create(b, loc, s, s),
                            arith::SubFOp::create(b, loc, q, q));
  Value isFinite =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::ORD, rest, rest);
  auto choice = scf::IfOp::create(b, loc, TypeRange{type, type}, isFinite,
                                  /*withElseRegion=*/true);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(choice.thenBlock());
    scf::YieldOp::create(b, loc, ValueRange{s, q});
    b.setInsertionPointToEnd(choice.elseBlock());
    Scalar plain = foldRow({m.sum})[0][0];
    Scope scope(*this);
    for (unsigned load : m.loads)
      memo.back()[load] = {plain};
    Scalar squares = foldRow({m.squares})[0][0];
    scf::YieldOp::create(b, loc, ValueRange{plain.value, squares.value});
  }
  memo.back()[m.sum] = {Scalar{choice.getResult(0), type}};
  memo.back()[m.squares] = {Scalar{choice.getResult(1), type}};
}

LoopEmitter::State LoopEmitter::foldMomentsLevel(unsigned level, int64_t steps,
                                                 State state) {
  const LoopNode &node = expr.nodes[expr.moments->sum];
  bool isLast = level + 1 == node.axes.size();
  unsigned axis = node.axes[level];
  Value extent = index.emit(expr.extents[axis]);
  state = loop(index.constant(0), extent, isLast ? steps : 1, state,
               [&](Value iv, ValueRange carried) {
                 Scope scope(*this);
                 if (isLast) {
                   Value end =
                       index.min(index.add(iv, index.constant(steps)), extent);
                   return mergeBlock({iv, end}, steps, State(carried));
                 }
                 dims[axis] = iv;
                 return foldMomentsLevel(level + 1, steps, State(carried));
               });
  dims[axis] = Value();
  return state;
}

LoopEmitter::State LoopEmitter::mergeBlock(const AxisRange &range,
                                           int64_t steps, State state) {
  const LoopExpr::Moments &m = *expr.moments;
  const LoopNode &node = expr.nodes[m.sum];
  unsigned last = node.axes.size() - 1;
  Type type = node.type, f64 = b.getF64Type();
  auto wide = [&](Scalar x) -> Value {
    return type == f64 ? x.value : arith::ExtFOp::create(b, loc, f64, x.value);
  };
  auto add = [&](Value x, Value y) -> Value {
    return arith::AddFOp::create(b, loc, x, y);
  };
  auto mul = [&](Value x, Value y) -> Value {
    return arith::MulFOp::create(b, loc, x, y);
  };
  auto div = [&](Value x, Value y) -> Value {
    return arith::DivFOp::create(b, loc, x, y);
  };
  block = FoldBlock{range, node.axes.back(), steps};
  Value sum = wide(foldRow({m.sum}, last)[0][0]);
  Value size = index.sub(range.end, range.begin);
  Value count = arith::SIToFPOp::create(
      b, loc, f64, arith::IndexCastOp::create(b, loc, b.getI64Type(), size));
  Value mean = div(sum, count), squares;
  {
    Scope scope(*this);
    Value rounded =
        type == f64 ? mean : arith::TruncFOp::create(b, loc, type, mean);
    for (unsigned id : m.means)
      memo.back()[id] = {Scalar{rounded, type}};
    squares = wide(foldRow({m.squares}, last)[0][0]);
  }
  block.reset();
  Value before = state[0], all = add(before, count);
  // Before the first block there is no mean; its factor is 0.
  Value zero = arith::ConstantOp::create(b, loc, b.getF64FloatAttr(0.0));
  Value isFirst =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, before, zero);
  Value meanBefore =
      arith::SelectOp::create(b, loc, isFirst, mean, div(state[1], before));
  Value apart = arith::SubFOp::create(b, loc, mean, meanBefore);
  Value between = mul(mul(apart, apart), div(mul(before, count), all));
  return {all, add(state[1], sum), add(add(state[2], squares), between)};
}
