// Folds with lanes along their own last axis: several vectors of partial
// results are carried, and combined at the end.
//
// The state in the loops is, for each fold, the vectors of the groups, then,
// where there is no masked memory, the scalar of the elements left over; an arg
// fold's part has the positions of the same after it.
#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;

static bool isArgFold(FoldKind kind) { return kind >= FoldKind::argmax; }

bool LoopEmitter::takesRow(const LoopNode &node) const {
  if (rowAxis < 0 || lanes.dim >= 0 || node.axes.empty())
    return false;
  bool isSum = node.fold == FoldKind::add || node.fold == FoldKind::mul;
  if (options.scalar.strict && isSum && isa<FloatType>(node.type))
    return false;
  unsigned axis = node.axes.back();
  return int(axis) == rowAxis || expr.extents[axis] == expr.extents[rowAxis];
}

SmallVector<LoopEmitter::Values, 2>
LoopEmitter::foldRow(ArrayRef<unsigned> folds, unsigned level) {
  bool hasScalar = !options.maskedMemory;
  FoldParts parts;
  Values state;
  for (unsigned fold : folds)
    addPart(parts, state, fold, options.rowGroups, options.width, hasScalar);
  {
    Scope scope(*this);
    state = foldRowLoops(parts, level, state);
  }
  SmallVector<Values, 2> results;
  for (const FoldPart &part : parts) {
    const LoopNode &node = expr.nodes[part.fold];
    bool isArg = isArgFold(node.fold);
    ArrayRef<Scalar> own = ArrayRef(state).slice(part.first, part.count);
    unsigned count = isArg ? part.count / 2 : part.count;
    Scalar result = own[0], position = isArg ? own[count] : Scalar();
    auto join = [&](Scalar x, Scalar at) {
      if (isArg)
        argStep(node, result, position, x, at, /*comparePositions=*/true);
      else
        result = scalar.combine(node.fold, result, x);
    };
    for (unsigned g = 1; g < options.rowGroups; ++g)
      join(own[g], isArg ? own[count + g] : Scalar());
    reduceLanes(node, result, isArg ? &position : nullptr);
    if (hasScalar)
      join(own[count - 1], isArg ? own[2 * count - 1] : Scalar());
    if (node.attr)
      join(scalar.literal(node.attr), Scalar());
    results.push_back({isArg ? position : result});
  }
  return results;
}

/// Combines the lanes by halves.
void LoopEmitter::reduceLanes(const LoopNode &node, Scalar &value,
                              Scalar *position) {
  for (int64_t width = options.width; width > 1; width /= 2) {
    auto half = [&](Scalar x, int64_t offset) -> Scalar {
      SmallVector<int64_t> order;
      for (int64_t l = 0; l < width / 2; ++l)
        order.push_back(offset + l);
      auto type =
          VectorType::get({width / 2}, getElementTypeOrSelf(x.value.getType()));
      return {vector::ShuffleOp::create(b, loc, type, x.value, x.value, order),
              x.type};
    };
    Scalar low = half(value, 0), high = half(value, width / 2);
    if (!position) {
      value = scalar.combine(node.fold, low, high);
      continue;
    }
    Scalar at = half(*position, 0), highAt = half(*position, width / 2);
    argStep(node, low, at, high, highAt, /*comparePositions=*/true);
    value = low, *position = at;
  }
  auto first = [&](Scalar x) -> Scalar {
    return {vector::ExtractOp::create(b, loc, x.value, int64_t(0)), x.type};
  };
  value = first(value);
  if (position)
    *position = first(*position);
}

LoopEmitter::Values LoopEmitter::foldRowLoops(const FoldParts &parts,
                                              unsigned level, Values state) {
  const LoopNode &node = expr.nodes[parts.front().fold];
  for (const FoldPart &part : parts)
    hoist(expr.nodes[part.fold].args[0]);
  if (level + 1 == node.axes.size())
    return foldRowInner(parts, state);
  unsigned axis = node.axes[level];
  state = carrySums(
      parts, level, index.constant(0), index.emit(expr.extents[axis]), 1, state,
      [&](Value iv, Values carried) {
        Scope scope(*this);
        dims[axis] = iv;
        return foldLevel(parts, level + 1, carried, [&](Values inner) {
          return foldRowLoops(parts, level + 1, inner);
        });
      });
  dims[axis] = Value();
  return state;
}

LoopEmitter::Values LoopEmitter::foldRowInner(const FoldParts &parts,
                                              Values state) {
  const LoopNode &node = expr.nodes[parts.front().fold];
  bool hasScalar = !options.maskedMemory;
  unsigned axis = node.axes.back();
  unsigned all = options.rowGroups + hasScalar;
  int64_t width = options.width, several = width * options.rowGroups;
  Value begin = index.constant(0), extent = index.emit(expr.extents[axis]);
  SmallVector<std::pair<unsigned, unsigned>> decided;
  if (block && block->axis == axis) {
    begin = block->range.begin;
    extent = block->range.end;
  } else if (parts.size() == 1) {
    if (auto range = clipAxis(node, axis, decided)) {
      begin = range->begin;
      extent = index.max(range->end, begin);
      for (auto guard : decided)
        holds.insert(guard);
    }
  }
  // The end of the last whole block of `size` steps.
  auto wholeEnd = [&](int64_t size) {
    Value blocks =
        index.divUnsigned(index.sub(extent, begin), index.constant(size));
    return index.add(begin, index.mul(blocks, index.constant(size)));
  };
  Value blocks = wholeEnd(several);
  // One step on accumulators first .. first + count - 1 of each fold.
  auto step = [&](Values carried, unsigned first, unsigned count) {
    Scope scope(*this);
    for (const FoldPart &part : parts) {
      auto own = carried.begin() + part.first;
      Values some(own + first, own + first + count);
      if (isArgFold(expr.nodes[part.fold].fold))
        some.append(own + all + first, own + all + first + count);
      Values next = foldStep(expr.nodes[part.fold], some);
      for (unsigned i = 0; i < next.size(); ++i) {
        Scalar &to = own[i < count ? first + i : all + first + i - count];
        to = lanes.mask ? scalar.select(lanes.mask, next[i], to) : next[i];
      }
    }
    return carried;
  };
  auto run = [&](Value begin, Value end, int64_t stride, LoopLanes useLanes,
                 LoopGroups useGroups, unsigned first, unsigned count) {
    auto body = [&](Value iv, Values carried) {
      dims[axis] = iv;
      lanes = useLanes, groups = useGroups;
      if (lanes.dim >= 0 && options.maskedMemory && stride == width) {
        lanes.count = index.sub(extent, iv);
        auto type = VectorType::get({width}, b.getI1Type());
        lanes.mask = vector::CreateMaskOp::create(b, loc, type, lanes.count);
      }
      Values next = step(carried, first, count);
      lanes = LoopLanes(), groups = LoopGroups();
      return next;
    };
    state = stride == several // else these are a few steps that are left over
                ? carrySums(parts, node.axes.size() - 1, begin, end, stride,
                            state, body)
                : carry(begin, end, stride, state, body);
    dims[axis] = Value();
  };
  LoopLanes vectors{int(axis), unsigned(width), Value(), Value()};
  LoopGroups groupsAtOnce{int(axis), options.rowGroups, width, false, Value()};
  if (options.rowGroups > 1 || !options.maskedMemory)
    run(begin, blocks, several, vectors, groupsAtOnce, 0, options.rowGroups);
  else
    blocks = begin;
  if (options.maskedMemory) {
    run(blocks, extent, width, vectors, LoopGroups(), 0, 1);
  } else {
    Value vectorEnd = wholeEnd(width);
    if (options.rowGroups > 1)
      run(blocks, vectorEnd, width, vectors, LoopGroups(), 0, 1);
    run(vectorEnd, extent, 1, LoopLanes(), LoopGroups(), options.rowGroups, 1);
  }
  for (auto guard : decided)
    holds.erase(guard);
  return state;
}
