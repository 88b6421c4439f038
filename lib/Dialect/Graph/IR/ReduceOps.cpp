// Reductions, scans and pooling windows.
#include "OpCommon.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using namespace dlc::graph::detail;

//===----------------------------------------------------------------------===//
// ReduceOp
//===----------------------------------------------------------------------===//

LogicalResult ReduceOp::inferReturnTypes(MLIRContext *context,
                                         std::optional<Location> loc,
                                         Adaptor op,
                                         SmallVectorImpl<Type> &results) {
  SmallVector<AffineExpr> dims = getDims(op.getX().getType());
  int64_t last = -1;
  for (int64_t axis : op.getAxes()) {
    if (axis <= last || axis >= static_cast<int64_t>(dims.size()))
      return emitOptionalError(
          loc, "axes must be sorted, distinct and inside rank ", dims.size());
    last = axis;
    dims[axis] = getAffineConstantExpr(1, context);
  }
  bool isArg = op.getKind() >= FoldKind::argmax;
  results.push_back(makeTensorType(dims, isArg
                                             ? IntegerType::get(context, 64)
                                             : elementOf(op.getX().getType())));
  return success();
}

LogicalResult ReduceOp::verify() {
  if (getKind() == FoldKind::none)
    return emitOpError("needs a fold kind");
  if (getKind() >= FoldKind::argmax && getAxes().size() != 1)
    return emitOpError("arg reductions take exactly one axis");
  return success();
}

LogicalResult ReduceOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> dims = getDims(getX().getType()), reduce;
  for (int64_t axis : getAxes())
    reduce.push_back(dims[axis]);
  Type element = elementOf(getX().getType()), result = kernel.resultType(0);
  Type accumulator = accumulatorType(element, getKind());
  Type folded = getKind() >= FoldKind::argmax
                    ? result
                    : Type(makeTensorType(getDims(result), accumulator));
  if (getAxes().empty()) { // nothing to fold: the operand itself
    kernel.finish(kernel.map(result, [&](ExprBuilder &b) {
      SmallVector<AffineExpr> at;
      for (size_t i = 0; i < dims.size(); ++i)
        at.push_back(b.d(i));
      return b.load(kernel.operand(0), at);
    }));
    return success();
  }
  Value stage = kernel.fold(folded, reduce, getKind(), [&](ExprBuilder &b) {
    SmallVector<AffineExpr> index;
    unsigned next = 0;
    for (size_t i = 0; i < dims.size(); ++i)
      index.push_back(llvm::is_contained(getAxes(), static_cast<int64_t>(i))
                          ? b.r(next++)
                          : b.d(i));
    return b.cast(b.load(kernel.operand(0), index), accumulator);
  });
  kernel.finish(roundTo(kernel, stage, result));
  return success();
}

//===----------------------------------------------------------------------===//
// CumSumOp
//===----------------------------------------------------------------------===//

LogicalResult CumSumOp::inferReturnTypes(MLIRContext *, std::optional<Location>,
                                         Adaptor op,
                                         SmallVectorImpl<Type> &results) {
  results.push_back(op.getX().getType());
  return success();
}
LogicalResult CumSumOp::verify() {
  int64_t rank = cast<RankedTensorType>(getX().getType()).getRank();
  if (static_cast<int64_t>(getAxis()) >= rank)
    return emitOpError("axis ") << getAxis() << " is outside rank " << rank;
  return success();
}
// Each element folds the prefix up to it: the elements outside count 0.
// A suffix is a prefix of the axis read backwards.
LogicalResult CumSumOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> dims = getDims(getX().getType());
  unsigned axis = getAxis();
  Type element = elementOf(getX().getType()),
       accumulator = accumulatorType(element, FoldKind::add);
  Value stage = kernel.fold(
      makeTensorType(dims, accumulator), {dims[axis]}, FoldKind::add,
      [&](ExprBuilder &b) {
        AffineExpr last = dims[axis] - 1;
        SmallVector<AffineExpr> index;
        for (size_t i = 0; i < dims.size(); ++i)
          index.push_back(i != axis      ? b.d(i)
                          : getReverse() ? last - b.r(0)
                                         : b.r(0));
        AffineExpr distance =
            (getReverse() ? last - b.d(axis) : b.d(axis)) - b.r(0);
        if (getExclusive())
          distance = distance - 1;
        return b.cast(b.loadGuarded(kernel.operand(0), index, {distance},
                                    b.lit(0.0, element)),
                      accumulator);
      });
  kernel.finish(roundTo(kernel, stage, kernel.resultType(0)));
  return success();
}

//===----------------------------------------------------------------------===//
// PoolOp
//===----------------------------------------------------------------------===//

LogicalResult PoolOp::verify() {
  auto type = cast<RankedTensorType>(getX().getType());
  size_t spatial = getKernel().size();
  if (type.getRank() != static_cast<int64_t>(spatial) + 2 ||
      getType().getRank() != type.getRank())
    return emitOpError("operand and result must have rank 2 + ") << spatial;
  for (ArrayRef<int64_t> list :
       {getStrides(), getDilations(), getPadsLow(), getPadsHigh()})
    if (list.size() != spatial)
      return emitOpError(
          "strides, dilations and pads must have one entry a spatial axis");
  return success();
}

LogicalResult PoolOp::buildKernel(KernelBuilder &kernel) {
  MLIRContext *context = getContext();
  SmallVector<AffineExpr> dims = getDims(getX().getType());
  size_t spatial = getKernel().size();
  SmallVector<AffineExpr> window = constantDims(context, getKernel());
  Type element = elementOf(getType()), result = kernel.resultType(0);
  FoldKind kind = getKind() == PoolKind::max ? FoldKind::max : FoldKind::add;
  Type accumulator = accumulatorType(element, kind);

  // Where tap r of output point d falls, and the constraints for it to be
  // inside.
  auto taps = [&](ExprBuilder &b, SmallVectorImpl<AffineExpr> &index,
                  SmallVectorImpl<AffineExpr> &inside, bool padded) {
    index.assign({b.d(0), b.d(1)});
    for (size_t i = 0; i < spatial; ++i) {
      AffineExpr at = b.d(2 + i) * getStrides()[i] +
                      b.r(i) * getDilations()[i] - getPadsLow()[i];
      AffineExpr low = padded ? b.c(getPadsLow()[i]) : b.c(0),
                 high = padded ? b.c(getPadsHigh()[i]) : b.c(0);
      inside.push_back(at + low);
      inside.push_back(dims[2 + i] - 1 - at + high);
      index.push_back(at);
    }
  };
  // A window that lies wholly inside needs no guard.
  auto needsGuard = [&] {
    for (size_t i = 0; i < spatial; ++i) {
      auto out = constantValue(getDims(result)[2 + i]),
           in = constantValue(dims[2 + i]);
      if (getPadsLow()[i] > 0 || !out || !in ||
          (*out - 1) * getStrides()[i] +
                  (getKernel()[i] - 1) * getDilations()[i] - getPadsLow()[i] >=
              *in)
        return true;
    }
    return false;
  }();
  auto identity = [&](ExprBuilder &b) -> Value {
    if (kind == FoldKind::add)
      return b.lit(0.0, element);
    if (isa<FloatType>(element))
      return b.lit(-INFINITY, element);
    unsigned bits = element.getIntOrFloatBitWidth();
    return b.lit(isUnsigned(element) ? 0.0 : -std::ldexp(1.0, bits - 1),
                 element);
  };
  Value folded = kernel.fold(
      makeTensorType(getDims(result), accumulator), window, kind,
      [&](ExprBuilder &b) {
        SmallVector<AffineExpr> index, inside;
        taps(b, index, inside, /*padded=*/false);
        Value x = needsGuard ? b.loadGuarded(kernel.operand(0), index, inside,
                                             identity(b))
                             : b.load(kernel.operand(0), index);
        x = b.cast(x, accumulator);
        if (getKind() != PoolKind::lp)
          return x;
        Value magnitude = b.apply(ScalarFn::abs, {x});
        return getP().convertToDouble() == 1.0
                   ? magnitude
                   : b.apply(ScalarFn::pow,
                             {magnitude,
                              b.lit(getP().convertToDouble(), accumulator)});
      });
  SmallVector<AffineExpr> resultDims = getDims(result);
  auto pointwise =
      [&](function_ref<Value(ExprBuilder &, Value, ArrayRef<AffineExpr>)>
              body) {
        return kernel.map(result, [&](ExprBuilder &b) {
          SmallVector<AffineExpr> at;
          for (size_t i = 0; i < resultDims.size(); ++i)
            at.push_back(b.d(i));
          return b.cast(body(b, b.load(folded, at), at), element);
        });
      };
  if (getKind() == PoolKind::lp) {
    double p = getP().convertToDouble();
    kernel.finish(pointwise([&](ExprBuilder &b, Value sum,
                                ArrayRef<AffineExpr>) {
      return p == 1.0
                 ? sum
                 : b.apply(ScalarFn::pow, {sum, b.lit(1.0 / p, accumulator)});
    }));
    return success();
  }
  if (getKind() != PoolKind::avg) {
    kernel.finish(roundTo(kernel, folded, result));
    return success();
  }
  int64_t all = 1;
  for (int64_t k : getKernel())
    all *= k;
  if (!needsGuard) {
    kernel.finish(
        pointwise([&](ExprBuilder &b, Value sum, ArrayRef<AffineExpr>) {
          return b.div(sum, b.lit(static_cast<double>(all), accumulator));
        }));
    return success();
  }
  // Taps inside are counted by folding ones; they do not depend on N and C.
  SmallVector<AffineExpr> countDims(resultDims.begin() + 2, resultDims.end());
  Type countType = makeTensorType(countDims, accumulator);
  Value count = kernel.fold(
      countType, window, FoldKind::add, [&](ExprBuilder &b) -> Value {
        Value inside;
        Type i64 = IntegerType::get(context, 64);
        for (size_t i = 0; i < spatial; ++i) {
          AffineExpr at = b.d(i) * getStrides()[i] +
                          b.r(i) * getDilations()[i] - getPadsLow()[i];
          int64_t low = getCountIncludePad() ? getPadsLow()[i] : 0,
                  high = getCountIncludePad() ? getPadsHigh()[i] : 0;
          Value zero = b.lit(0.0, i64);
          Value ok =
              b.bitAnd(b.apply(ScalarFn::ge, {b.coord(at + low), zero}),
                       b.apply(ScalarFn::ge,
                               {b.coord(dims[2 + i] - 1 + high - at), zero}));
          inside = inside ? b.bitAnd(inside, ok) : ok;
        }
        return b.select(inside, b.lit(1.0, accumulator),
                        b.lit(0.0, accumulator));
      });
  kernel.finish(
      pointwise([&](ExprBuilder &b, Value sum, ArrayRef<AffineExpr> at) {
        return b.div(sum, b.load(count, at.drop_front(2)));
      }));
  return success();
}
