// Injective and broadcast operators: y[p] = x[phi(p)], guarded where phi is
// partial.
#include "OpCommon.h"

#include "dlc/Dialect/Graph/IR/Requirements.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using namespace dlc::graph::detail;

// Most injective rows are one load at an index computed from the domain point.
static LogicalResult
buildLoadKernel(KernelBuilder &kernel,
                function_ref<SmallVector<AffineExpr>(ExprBuilder &)> index) {
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    return b.load(kernel.operand(0), index(b));
  }));
  return success();
}

static LogicalResult verifySameElement(Operation *op) {
  Type element = elementOf(op->getResult(0).getType());
  if (op->getNumOperands() && elementOf(op->getOperand(0).getType()) != element)
    return op->emitOpError("result element type must be the operand's");
  return success();
}

//===----------------------------------------------------------------------===//
// ConstantOp, IotaOp, SizeOp
//===----------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

LogicalResult IotaOp::verify() {
  if (getResult().getType().getRank() != 1)
    return emitOpError("result must have rank 1");
  return success();
}

LogicalResult IotaOp::buildKernel(KernelBuilder &kernel) {
  Type element = elementOf(kernel.resultType(0));
  double start = getStart().convertToDouble(),
         step = getStep().convertToDouble();
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    Value i = b.cast(b.coord(b.d(0)), element);
    return b.add(b.lit(start, element), b.mul(i, b.lit(step, element)));
  }));
  return success();
}

LogicalResult SizeOp::verify() {
  if (getResult().getType().getRank() != 0 || getSize().getDims().size() != 1)
    return emitOpError("takes one size, and its result must have rank 0");
  return success();
}

LogicalResult SizeOp::buildKernel(KernelBuilder &kernel) {
  Type element = elementOf(kernel.resultType(0));
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    return b.cast(b.coord(getSize().getDims().front()), element);
  }));
  return success();
}

//===----------------------------------------------------------------------===//
// TransposeOp, ReshapeOp, BroadcastOp, SliceOp
//===----------------------------------------------------------------------===//

LogicalResult TransposeOp::inferReturnTypes(MLIRContext *,
                                            std::optional<Location> loc,
                                            Adaptor op,
                                            SmallVectorImpl<Type> &results) {
  SmallVector<AffineExpr> dims = getDims(op.getX().getType()), permuted;
  SmallVector<bool> seen(dims.size());
  for (int64_t p : op.getPerm()) {
    if (p < 0 || p >= static_cast<int64_t>(dims.size()) || seen[p])
      return emitOptionalError(
          loc, "perm is not a permutation of the operand's axes");
    seen[p] = true;
    permuted.push_back(dims[p]);
  }
  if (permuted.size() != dims.size())
    return emitOptionalError(loc,
                             "perm is not a permutation of the operand's axes");
  results.push_back(makeTensorType(permuted, elementOf(op.getX().getType())));
  return success();
}
LogicalResult TransposeOp::verify() { return success(); }
LogicalResult TransposeOp::buildKernel(KernelBuilder &kernel) {
  return buildLoadKernel(kernel, [&](ExprBuilder &b) {
    SmallVector<AffineExpr> index(getPerm().size());
    for (auto [i, p] : llvm::enumerate(getPerm()))
      index[p] = b.d(i);
    return index;
  });
}
OpFoldResult TransposeOp::fold(FoldAdaptor) {
  bool identity = llvm::all_of(llvm::enumerate(getPerm()), [](auto p) {
    return static_cast<int64_t>(p.index()) == p.value();
  });
  return identity ? getX() : OpFoldResult();
}

LogicalResult ReshapeOp::verify() {
  if (failed(verifySameElement(*this)))
    return failure();
  AffineExpr from = product(getContext(), getDims(getX().getType())),
             to = product(getContext(), getDims(getType()));
  if (simplify(from - to) != 0 && constantValue(from) && constantValue(to))
    return emitOpError("element counts differ: ")
           << getX().getType() << " and " << getType();
  if ((*this)->hasAttr(kSameSizesAttr) &&
      getX().getType().getRank() != getType().getRank())
    return emitOpError("'") << kSameSizesAttr << "' wants equal ranks";
  return success();
}
// Splits the row-major position under the result's dims into the operand's
// digits. Leading and trailing dims that are equal on both sides pass straight
// through, which keeps their maps linear.
LogicalResult ReshapeOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> from = getDims(getX().getType()),
                          to = getDims(getType());
  size_t head = (*this)->hasAttr(kSameSizesAttr) ? from.size() : 0, tail = 0;
  while (head < from.size() && head < to.size() &&
         simplify(from[head] - to[head]) == 0)
    ++head;
  while (tail + head < from.size() && tail + head < to.size() &&
         simplify(from[from.size() - 1 - tail] - to[to.size() - 1 - tail]) == 0)
    ++tail;
  return buildLoadKernel(kernel, [&](ExprBuilder &b) {
    SmallVector<AffineExpr> index(from.size());
    AffineExpr flat = b.c(0);
    for (size_t i = head; i < to.size() - tail; ++i)
      flat = flat * to[i] + b.d(i);
    AffineExpr stride = b.c(1);
    for (size_t i = from.size() - tail; i-- > head;) {
      AffineExpr digit = flat.floorDiv(stride);
      index[i] = constantValue(from[i]) == 1 ? b.c(0)
                 : i == head                 ? digit
                                             : digit % from[i];
      stride = stride * from[i];
    }
    for (size_t i = 0; i < head; ++i)
      index[i] = b.d(i);
    for (size_t i = 0; i < tail; ++i)
      index[from.size() - 1 - i] = b.d(to.size() - 1 - i);
    return index;
  });
}
OpFoldResult ReshapeOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  bool keepsSizes = (*this)->hasAttr(kSameSizesAttr);
  if (auto inner = getX().getDefiningOp<ReshapeOp>();
      inner && (!keepsSizes || inner->hasAttr(kSameSizesAttr))) {
    getXMutable().assign(inner.getX());
    return getResult();
  }
  if (auto dense = dyn_cast_or_null<DenseElementsAttr>(adaptor.getX());
      dense && getType().hasStaticShape())
    return dense.reshape(getType());
  if (auto resource =
          dyn_cast_or_null<DenseResourceElementsAttr>(adaptor.getX());
      resource && getType().hasStaticShape())
    return DenseResourceElementsAttr::get(getType(), resource.getRawHandle());
  return {};
}

LogicalResult BroadcastOp::verify() {
  if (failed(verifySameElement(*this)))
    return failure();
  auto joined = broadcastDims(getDims(getType()), getDims(getX().getType()));
  if (failed(joined) ||
      makeTensorType(*joined, elementOf(getType())) != getType())
    return emitOpError("operand ")
           << getX().getType() << " does not broadcast to " << getType();
  return success();
}
LogicalResult BroadcastOp::buildKernel(KernelBuilder &kernel) {
  return detail::buildElementwiseKernel(
      *this, kernel, [](ExprBuilder &, ValueRange in, Type) { return in[0]; });
}
OpFoldResult BroadcastOp::fold(FoldAdaptor) {
  return getX().getType() == getType() ? getX() : OpFoldResult();
}

LogicalResult SliceOp::verify() {
  size_t rank = cast<RankedTensorType>(getX().getType()).getRank();
  if (getStarts().getDims().size() != rank || getSteps().size() != rank ||
      static_cast<size_t>(getType().getRank()) != rank)
    return emitOpError("starts, steps and result must have the operand's rank ")
           << rank;
  for (auto [n, m, start, step] :
       llvm::zip(getDims(getX().getType()), getDims(getType()),
                 getStarts().getDims(), getSteps())) {
    if (step == 0)
      return emitOpError("a step is 0");
    auto size = constantValue(n), count = constantValue(m),
         first = constantValue(start);
    if (!size || !count || !first || *count == 0)
      continue;
    int64_t last = *first + (*count - 1) * step;
    if (std::min(*first, last) < 0 || std::max(*first, last) >= *size)
      return emitOpError("reads outside its operand: elements ")
             << *first << ".." << last << " of " << *size;
  }
  return verifySameElement(*this);
}
LogicalResult SliceOp::buildKernel(KernelBuilder &kernel) {
  return buildLoadKernel(kernel, [&](ExprBuilder &b) {
    SmallVector<AffineExpr> index;
    for (auto [i, start, step] :
         llvm::enumerate(getStarts().getDims(), getSteps()))
      index.push_back(start + b.d(i) * step);
    return index;
  });
}
OpFoldResult SliceOp::fold(FoldAdaptor) {
  bool whole = getX().getType() == getType() &&
               llvm::all_of(getSteps(), [](int64_t s) { return s == 1; });
  return whole ? getX() : OpFoldResult();
}

//===----------------------------------------------------------------------===//
// PadOp, ConcatOp
//===----------------------------------------------------------------------===//

LogicalResult PadOp::verify() {
  SmallVector<AffineExpr> from = getDims(getX().getType()),
                          to = getDims(getType());
  if (getLow().size() != from.size() || getHigh().size() != from.size() ||
      to.size() != from.size())
    return emitOpError("pads and result must have the operand's rank");
  for (auto [n, low, high, m] : llvm::zip(from, getLow(), getHigh(), to))
    if (simplify(n + low + high - m) != 0)
      return emitOpError("result dims are not operand dims plus pads");
  if (getMode() == PadMode::constant && !getValue())
    return emitOpError("constant padding needs a value");
  if (getMode() != PadMode::constant)
    for (auto [n, low, high] : llvm::zip(from, getLow(), getHigh()))
      if (constantValue(n) == 0 && (low > 0 || high > 0))
        return emitOpError("an empty axis has no elements to pad with");
  return verifySameElement(*this);
}
// Is a coordinate outside always brought inside by one fold? Pads may be longer
// than the operand, and a symbolic size may turn out to be short.
bool PadOp::foldsOnce(unsigned axis) {
  if (getMode() == PadMode::edge)
    return true;
  std::optional<int64_t> n =
      constantValue(graph::getDims(getX().getType())[axis]);
  int64_t longest = std::max(getLow()[axis], getHigh()[axis]);
  return n && longest <= (getMode() == PadMode::reflect ? *n - 1 : *n);
}
// The coordinate after any number of folds: at mod n, or the triangle wave of
// period 2 (n - 1). A remainder by 0 is 0, which is right for n = 1.
static AffineExpr foldCoordinate(ExprBuilder &b, PadMode mode, AffineExpr at,
                                 AffineExpr n) {
  Value position = b.coord(at);
  if (mode == PadMode::wrap)
    return b.dataCoord(b.apply(ScalarFn::mod, {position, b.coord(n)}), n);
  Value period = b.coord(2 * (n - 1)),
        phase = b.apply(ScalarFn::mod, {position, period});
  return b.dataCoord(b.min(phase, b.sub(period, phase)), n);
}

LogicalResult PadOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> dims = getDims(getX().getType());
  if (getMode() == PadMode::constant) {
    kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
      SmallVector<AffineExpr> index, inside;
      for (auto [i, low, high, n] :
           llvm::enumerate(getLow(), getHigh(), dims)) {
        AffineExpr at = b.d(i) - low;
        index.push_back(at);
        if (low > 0)
          inside.push_back(at);
        if (high > 0)
          inside.push_back(n - 1 - at);
      }
      SmallVector<AffineExpr> zeros(
          cast<RankedTensorType>(getValue().getType()).getRank(), b.c(0));
      Value other = b.load(kernel.operand(1), zeros);
      return b.loadGuarded(kernel.operand(0), index, inside, other);
    }));
    return success();
  }
  // The other modes fold the coordinate back into [0, n). Where one fold is
  // known to be enough it is a chain of guarded loads, innermost case first,
  // whose maps stay linear; else the coordinate is computed as a number.
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) -> Value {
    Value result;
    size_t rank = dims.size();
    SmallVector<unsigned> padded;
    SmallVector<AffineExpr> inner;
    for (size_t i = 0; i < rank; ++i) {
      inner.push_back(b.d(i) - getLow()[i]);
      if (getLow()[i] <= 0 && getHigh()[i] <= 0)
        continue;
      if (foldsOnce(i))
        padded.push_back(i);
      else
        inner.back() = foldCoordinate(b, getMode(), inner.back(), dims[i]);
    }
    // case digits: 0 inside, 1 below, 2 above, for each padded axis
    uint64_t cases = 1;
    for (size_t i = 0; i < padded.size(); ++i)
      cases *= 3;
    for (uint64_t c = 0; c < cases; ++c) {
      SmallVector<AffineExpr> index = inner, guard;
      uint64_t rest = c;
      for (unsigned axis : padded) {
        AffineExpr at = index[axis], n = dims[axis];
        AffineExpr below = at, above = at;
        if (getMode() == PadMode::reflect)
          below = -at, above = 2 * (n - 1) - at;
        else if (getMode() == PadMode::edge)
          below = b.c(0), above = n - 1;
        else
          below = at + n, above = at - n;
        switch (rest % 3) {
        case 0:
          guard.push_back(at), guard.push_back(n - 1 - at);
          break;
        case 1:
          guard.push_back(-1 - at), index[axis] = below;
          break;
        case 2:
          guard.push_back(at - n), index[axis] = above;
          break;
        }
        guard.push_back(n - 1); // an empty operand has no edge to read
        rest /= 3;
      }
      Value other = result ? result : b.lit(0.0, elementOf(getType()));
      result = b.loadGuarded(kernel.operand(0), index, guard, other);
    }
    return result;
  }));
  return success();
}

LogicalResult ConcatOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> loc,
                                         Adaptor op,
                                         SmallVectorImpl<Type> &results) {
  if (op.getInputs().empty())
    return emitOptionalError(loc, "concat of nothing");
  auto first = cast<RankedTensorType>(op.getInputs()[0].getType());
  int64_t axis = op.getAxis();
  if (axis < 0 || axis >= first.getRank())
    return emitOptionalError(loc, "axis ", axis, " is outside rank ",
                             first.getRank());
  SmallVector<AffineExpr> dims = getDims(first);
  for (Value v : op.getInputs().drop_front()) {
    auto type = cast<RankedTensorType>(v.getType());
    if (type.getRank() != first.getRank() ||
        type.getElementType() != first.getElementType())
      return emitOptionalError(
          loc, "inputs differ in rank or element type: ", first, " and ", type);
    for (auto [i, d] : llvm::enumerate(getDims(type))) {
      if (static_cast<int64_t>(i) == axis)
        dims[i] = dims[i] + d;
      else if (simplify(dims[i] - d) != 0)
        return emitOptionalError(loc, "inputs differ in dim ", i, ": ", first,
                                 " and ", type);
    }
  }
  results.push_back(makeTensorType(dims, first.getElementType()));
  return success();
}
LogicalResult ConcatOp::verify() { return success(); }
LogicalResult ConcatOp::buildKernel(KernelBuilder &kernel) {
  unsigned axis = getAxis();
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    AffineExpr offset = b.c(0);
    Value result = b.lit(0.0, elementOf(getType()));
    for (auto [k, input] : llvm::enumerate(getInputs())) {
      SmallVector<AffineExpr> dims = getDims(input.getType()), index;
      for (size_t i = 0; i < dims.size(); ++i)
        index.push_back(i == axis ? b.d(i) - offset : b.d(i));
      SmallVector<AffineExpr> inside;
      if (k > 0)
        inside.push_back(index[axis]);
      if (k + 1 < getInputs().size())
        inside.push_back(dims[axis] - 1 - index[axis]);
      result = b.loadGuarded(kernel.operand(k), index, inside, result);
      offset = offset + dims[axis];
    }
    return result;
  }));
  return success();
}

//===----------------------------------------------------------------------===//
// GatherOp, GatherElementsOp: coordinates from data
//===----------------------------------------------------------------------===//

LogicalResult GatherOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> loc,
                                         Adaptor op,
                                         SmallVectorImpl<Type> &results) {
  SmallVector<AffineExpr> dims = getDims(op.getX().getType()),
                          index = getDims(op.getIndices().getType());
  int64_t axis = op.getAxis();
  if (axis < 0 || axis >= static_cast<int64_t>(dims.size()))
    return emitOptionalError(loc, "axis ", axis, " is outside rank ",
                             dims.size());
  dims.erase(dims.begin() + axis);
  dims.insert(dims.begin() + axis, index.begin(), index.end());
  results.push_back(makeTensorType(dims, elementOf(op.getX().getType())));
  return success();
}
LogicalResult GatherOp::verify() { return success(); }
LogicalResult GatherOp::buildKernel(KernelBuilder &kernel) {
  size_t axis = getAxis(),
         indexRank = cast<RankedTensorType>(getIndices().getType()).getRank();
  SmallVector<AffineExpr> dims = getDims(getX().getType());
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    SmallVector<AffineExpr> at, index;
    for (size_t i = 0; i < indexRank; ++i)
      at.push_back(b.d(axis + i));
    Value scalar = b.cast(b.load(kernel.operand(1), at),
                          IntegerType::get(getContext(), 64));
    AffineExpr coordinate = b.dataCoord(scalar, dims[axis]);
    for (size_t i = 0; i < dims.size(); ++i)
      index.push_back(i < axis    ? b.d(i)
                      : i == axis ? coordinate
                                  : b.d(i + indexRank - 1));
    return b.load(kernel.operand(0), index);
  }));
  return success();
}

LogicalResult
GatherElementsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc,
                                   Adaptor op, SmallVectorImpl<Type> &results) {
  auto x = cast<RankedTensorType>(op.getX().getType()),
       indices = cast<RankedTensorType>(op.getIndices().getType());
  if (x.getRank() != indices.getRank())
    return emitOptionalError(loc, "indices must have the data's rank");
  results.push_back(makeTensorType(getDims(indices), x.getElementType()));
  return success();
}
LogicalResult GatherElementsOp::verify() { return success(); }
LogicalResult GatherElementsOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> dims = getDims(getX().getType());
  size_t axis = getAxis();
  kernel.finish(kernel.map(kernel.resultType(0), [&](ExprBuilder &b) {
    SmallVector<AffineExpr> at;
    for (size_t i = 0; i < dims.size(); ++i)
      at.push_back(b.d(i));
    Value scalar = b.cast(b.load(kernel.operand(1), at),
                          IntegerType::get(getContext(), 64));
    AffineExpr coordinate = b.dataCoord(scalar, dims[axis]);
    at[axis] = coordinate;
    return b.load(kernel.operand(0), at);
  }));
  return success();
}
