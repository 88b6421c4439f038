// Windows that move by two elements from lane to lane, as convolutions and
// pools of stride 2 whose lanes lie along the image's row. A tap is every
// second element of two vectors; its neighbour is the others of the same two:
//
//   x[0] x[1] x[2] x[3] ...     tap 0 of lanes 0, 1, ...: x[0] x[2] ...
//                               tap 1:                    x[1] x[3] ...
//
// Where lanes are left empty the two vectors reach further, and more taps are
// in them.
#include "LoopPoint.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "llvm/ADT/ScopeExit.h"

using namespace mlir;
using namespace dlc;

/// The fold that reads `load` at each of its steps, whatever the point: under
/// no set that is decided for some points only.
static const LoopNode *foldOf(const LoopExpr &expr, const LoopNode &load) {
  for (const LoopNode &fold : expr.nodes) {
    if (fold.kind != LoopNode::Fold)
      continue;
    auto reached = expr.reachable(fold.args[0]);
    auto is = [&](auto condition) {
      return llvm::any_of(
          reached, [&](unsigned id) { return condition(expr.nodes[id]); });
    };
    if (is([&](const LoopNode &node) {
          return node.kind == LoopNode::Load && node.buffer == load.buffer &&
                 node.index == load.index;
        }) &&
        !is([](const LoopNode &node) { return node.kind == LoopNode::Inside; }))
      return &fold;
  }
  return nullptr;
}

std::optional<LoopEmitter::PairTaps>
LoopEmitter::pairTaps(const LoopNode &node) const {
  if (!sharesLoads || !node.data.empty() || groups.limit || lanes.dim < 0 ||
      groups.dim == lanes.dim || lanes.width < 2 ||
      (lanes.mask && !options.maskedMemory))
    return std::nullopt;
  auto along = [&](unsigned dim) {
    auto coefficient = node.index.coefficient(dim);
    return coefficient ? coefficient->constant() : std::nullopt;
  };
  if (along(lanes.dim) != 2)
    return std::nullopt;
  const LoopNode *fold = foldOf(expr, node);
  if (!fold)
    return std::nullopt;
  // Elements of two vectors that the lanes of one tap do not reach.
  int64_t more = 1;
  if (lanes.mask)
    if (auto count =
            lanes.count ? IndexBuilder::constantOf(lanes.count) : std::nullopt)
      more = 2 * (int64_t(lanes.width) - *count) + 1;
  for (unsigned axis : fold->axes) {
    auto tap = dims[axis] ? IndexBuilder::constantOf(dims[axis]) : std::nullopt;
    auto taps = graph::constantValue(expr.extents[axis]);
    if (along(axis) != 1 || !tap || !taps)
      continue;
    PairTaps result{axis, *tap, *tap / (more + 1) * (more + 1), 0};
    result.end = std::min(result.first + more + 1, *taps);
    if (result.end - result.first > 1)
      return result;
  }
  return std::nullopt;
}

std::optional<Value> LoopEmitter::loadPair(const LoopNode &node,
                                           unsigned group) {
  auto taps = pairTaps(node);
  if (!taps)
    return std::nullopt;
  Value own = dims[taps->axis];
  auto restore = llvm::scope_exit([&, own] { dims[taps->axis] = own; });
  // What is loaded is what any of the taps reads: all of them have to be read,
  // and where, has to be a matter of masks.
  std::vector<const void *> key = sharedKey(node);
  bool isMasked = lanes.mask != nullptr;
  SmallVector<bool> isGuarded;
  for (int64_t tap = taps->first; tap < taps->end; ++tap) {
    dims[taps->axis] = index.constant(tap);
    SmallVector<LoopGuard, 4> open = openGuards(node, group);
    if (isNever(node, group) || llvm::any_of(open, [&](const LoopGuard &guard) {
          return !isLinear(node, guard);
        }))
      return std::nullopt;
    for (const LoopGuard &guard : open)
      normalForm(guard.expr, group, key);
    isGuarded.push_back(!open.empty());
    isMasked |= !open.empty();
  }
  if (isMasked && (!options.maskedMemory || (lanes.mask && !lanes.count)))
    return std::nullopt;
  dims[taps->axis] = index.constant(taps->first);
  normalForm(node.index, group, key);
  int64_t width = lanes.width;
  Value buffer = buffers[node.buffer];
  auto type = VectorType::get(
      {width}, cast<MemRefType>(buffer.getType()).getElementType());
  auto [it, isNew] = pairs.try_emplace(key);
  if (isNew) {
    Value base =
        at(node, group, -1, [&] { return index.emit(node.index, dims); });
    auto load = [&](int64_t from) -> Value {
      Value address = index.add(base, index.constant(from));
      if (!isMasked)
        return vector::LoadOp::create(b, loc, type, buffer, address);
      Value mask;
      for (int64_t tap = taps->first; tap < taps->end; ++tap) {
        dims[taps->axis] = index.constant(tap);
        Value reads = elementMask(node, group, isGuarded[tap - taps->first],
                                  from - (tap - taps->first));
        mask = mask ? Value(arith::OrIOp::create(b, loc, mask, reads)) : reads;
      }
      Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
      return vector::MaskedLoadOp::create(b, loc, type, buffer, address, mask,
                                          zeros);
    };
    it->second.first = load(0);
    it->second.second = load(width);
  }
  SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < width; ++lane)
    order.push_back(
        std::min(2 * lane + taps->own - taps->first, 2 * width - 1));
  return vector::ShuffleOp::create(b, loc, type, it->second.first,
                                   it->second.second, order);
}
