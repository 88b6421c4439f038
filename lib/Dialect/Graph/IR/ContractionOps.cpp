// Contractions: einsum, convolution and transposed convolution, each a left
// fold of products.
#include "OpCommon.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using namespace dlc::graph::detail;

// One fold stage of `product` over `reduce`, then a rounding stage for 16-bit
// results.
static void
finishContraction(KernelBuilder &kernel, ArrayRef<AffineExpr> reduce,
                  function_ref<Value(ExprBuilder &, Type)> product) {
  Type result = kernel.resultType(0),
       accumulator = accumulatorType(elementOf(result));
  Value sum = kernel.fold(
      makeTensorType(getDims(result), accumulator), reduce, FoldKind::add,
      [&](ExprBuilder &b) { return product(b, accumulator); });
  kernel.finish(roundTo(kernel, sum, result));
}

//===----------------------------------------------------------------------===//
// ContractOp
//===----------------------------------------------------------------------===//

SmallVector<AffineExpr> ContractOp::getIterationDims() {
  SmallVector<AffineExpr> extents(getLhsMap().getNumDims());
  auto take = [&](AffineMap map, Type type) {
    for (auto [e, size] : llvm::zip(map.getResults(), graph::getDims(type)))
      if (auto d = dyn_cast<AffineDimExpr>(e))
        if (!extents[d.getPosition()] ||
            constantValue(extents[d.getPosition()]) == 1)
          extents[d.getPosition()] = size;
  };
  take(getLhsMap(), getLhs().getType());
  take(getRhsMap(), getRhs().getType());
  return extents;
}

LogicalResult ContractOp::verify() {
  struct Operand {
    AffineMap map;
    Type type;
    const char *name;
  };
  unsigned axes = getLhsMap().getNumDims();
  SmallVector<Operand, 3> all{{getLhsMap(), getLhs().getType(), "lhs"},
                              {getRhsMap(), getRhs().getType(), "rhs"},
                              {getResultMap(), getType(), "result"}};
  for (const Operand &o : all) {
    if (o.map.getNumDims() != axes ||
        o.map.getNumResults() !=
            static_cast<size_t>(cast<RankedTensorType>(o.type).getRank()))
      return emitOpError() << o.name << " map does not fit " << o.type;
    for (AffineExpr e : o.map.getResults())
      if (!isa<AffineDimExpr>(e) && constantValue(e) != 0)
        return emitOpError() << o.name << " map must be a projection";
  }
  SmallVector<AffineExpr> extents = getIterationDims();
  for (const Operand &o : all)
    for (auto [e, size] :
         llvm::zip(o.map.getResults(), graph::getDims(o.type))) {
      auto d = dyn_cast<AffineDimExpr>(e);
      AffineExpr expected =
          d ? extents[d.getPosition()] : getAffineConstantExpr(1, getContext());
      if (!expected || simplify(expected - size) != 0)
        return emitOpError()
               << o.name
               << " dims do not agree with the other operands: " << o.type;
    }
  return success();
}

LogicalResult ContractOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> extents = getIterationDims(), reduce;
  AffineMap resultMap = getResultMap();
  // Iteration axis -> domain axis (its place in the result) or reduce axis.
  SmallVector<int64_t> domainAxis(extents.size(), -1),
      reduceAxis(extents.size(), -1);
  for (auto [i, e] : llvm::enumerate(resultMap.getResults()))
    if (auto d = dyn_cast<AffineDimExpr>(e))
      domainAxis[d.getPosition()] = i;
  for (size_t a = 0; a < extents.size(); ++a)
    if (domainAxis[a] < 0) {
      reduceAxis[a] = reduce.size();
      reduce.push_back(extents[a]);
    }
  if (reduce.empty()) // an outer product: fold over one step
    reduce.push_back(getAffineConstantExpr(1, getContext()));
  finishContraction(kernel, reduce, [&](ExprBuilder &b, Type accumulator) {
    auto index = [&](AffineMap map) {
      return llvm::map_to_vector(
          map.getResults(), [&](AffineExpr e) -> AffineExpr {
            auto d = dyn_cast<AffineDimExpr>(e);
            if (!d)
              return b.c(0);
            return domainAxis[d.getPosition()] >= 0
                       ? b.d(domainAxis[d.getPosition()])
                       : b.r(reduceAxis[d.getPosition()]);
          });
    };
    Value x = b.load(kernel.operand(0), index(getLhsMap())),
          y = b.load(kernel.operand(1), index(getRhsMap()));
    return b.mul(b.cast(x, accumulator), b.cast(y, accumulator));
  });
  return success();
}

//===----------------------------------------------------------------------===//
// ConvOp
//===----------------------------------------------------------------------===//

LogicalResult ConvOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType()),
       w = cast<RankedTensorType>(getW().getType());
  if (failed(verifySpatial(
          *this, x, w,
          {getStrides(), getDilations(), getPadsLow(), getPadsHigh()})))
    return failure();
  if (static_cast<int64_t>(getGroup()) < 1)
    return emitOpError("group must be positive");
  SmallVector<AffineExpr> xd = graph::getDims(x), wd = graph::getDims(w);
  if (simplify(wd[1] * getGroup() - xd[1]) != 0)
    return emitOpError("x ") << x << " does not have the channels that w " << w
                             << " and group " << getGroup() << " expect";
  if (auto m = constantValue(wd[0]); m && *m % getGroup() != 0)
    return emitOpError("output channels are not a multiple of group");
  return success();
}

LogicalResult ConvOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> xd = graph::getDims(getX().getType()),
                          wd = graph::getDims(getW().getType());
  SmallVector<AffineExpr> od = graph::getDims(getType());
  size_t spatial = xd.size() - 2;
  SmallVector<AffineExpr> reduce{wd[1]};
  reduce.append(wd.begin() + 2, wd.end());
  AffineExpr perGroup = wd[0].floorDiv(getGroup());
  // A tap can fall outside only where there is padding (or the output is larger
  // than it should be).
  SmallVector<bool> below(spatial), above(spatial);
  for (size_t i = 0; i < spatial; ++i) {
    auto in = constantValue(xd[2 + i]), out = constantValue(od[2 + i]),
         k = constantValue(wd[2 + i]);
    below[i] = getPadsLow()[i] > 0;
    above[i] = in && out && k
                   ? (*out - 1) * getStrides()[i] +
                             (*k - 1) * getDilations()[i] - getPadsLow()[i] >=
                         *in
                   : getPadsHigh()[i] > 0 || getPadsLow()[i] < 0;
  }
  unsigned zeroPoints = 2;
  bool hasX = static_cast<bool>(getXZeroPoint()),
       hasW = static_cast<bool>(getWZeroPoint());
  finishContraction(kernel, reduce, [&](ExprBuilder &b, Type accumulator) {
    AffineExpr group = getGroup() == 1 ? b.c(0) : b.d(1).floorDiv(perGroup);
    SmallVector<AffineExpr> xi{b.d(0), group * wd[1] + b.r(0)},
        wi{b.d(1), b.r(0)}, inside;
    for (size_t i = 0; i < spatial; ++i) {
      AffineExpr at = b.d(2 + i) * getStrides()[i] +
                      b.r(1 + i) * getDilations()[i] - getPadsLow()[i];
      xi.push_back(at);
      wi.push_back(b.r(1 + i));
      if (below[i])
        inside.push_back(at);
      if (above[i])
        inside.push_back(xd[2 + i] - 1 - at);
    }
    unsigned next = zeroPoints;
    Value xz, wz;
    auto scalar = [&](Value zeroPoint, ArrayRef<AffineExpr> at) {
      int64_t rank = cast<RankedTensorType>(zeroPoint.getType()).getRank();
      bool single = rank == 0 ||
                    constantValue(graph::getDims(zeroPoint.getType())[0]) == 1;
      SmallVector<AffineExpr> index(rank, b.c(0));
      if (!single)
        index[0] = at[0];
      return b.load(kernel.operand(next++), index);
    };
    if (hasX)
      xz = scalar(getXZeroPoint(), {b.c(0)});
    if (hasW)
      wz = scalar(getWZeroPoint(), {b.d(1)});
    Type xe = elementOf(getX().getType());
    Value x = b.loadGuarded(kernel.operand(0), xi, inside,
                            hasX ? xz : b.lit(0.0, xe));
    Value w = b.load(kernel.operand(1), wi);
    x = b.cast(x, accumulator), w = b.cast(w, accumulator);
    if (hasX)
      x = b.sub(x, b.cast(xz, accumulator));
    if (hasW)
      w = b.sub(w, b.cast(wz, accumulator));
    return b.mul(x, w);
  });
  return success();
}

//===----------------------------------------------------------------------===//
// ConvTransposeOp
//===----------------------------------------------------------------------===//

LogicalResult ConvTransposeOp::verify() {
  auto x = cast<RankedTensorType>(getX().getType()),
       w = cast<RankedTensorType>(getW().getType());
  if (failed(verifySpatial(*this, x, w,
                           {getStrides(), getDilations(), getPadsLow()})))
    return failure();
  if (simplify(graph::getDims(w)[0] - graph::getDims(x)[1]) != 0)
    return emitOpError("w's first dim must be x's channels");
  return success();
}

// y[n, m, o] = sum over c, k of x[n, c, (o + pad - k * dilation) / stride] *
// w[c, m, k], over the taps where the division is exact and lands inside x.
LogicalResult ConvTransposeOp::buildKernel(KernelBuilder &kernel) {
  SmallVector<AffineExpr> xd = graph::getDims(getX().getType()),
                          wd = graph::getDims(getW().getType());
  size_t spatial = xd.size() - 2;
  AffineExpr channels = xd[1].floorDiv(getGroup());
  SmallVector<AffineExpr> reduce{channels};
  reduce.append(wd.begin() + 2, wd.end());
  finishContraction(kernel, reduce, [&](ExprBuilder &b, Type accumulator) {
    AffineExpr group = getGroup() == 1 ? b.c(0) : b.d(1).floorDiv(wd[1]);
    AffineExpr member = getGroup() == 1 ? b.d(1) : b.d(1) % wd[1];
    AffineExpr channel = group * channels + b.r(0);
    SmallVector<AffineExpr> xi{b.d(0), channel}, wi{channel, member}, inside,
        exact;
    for (size_t i = 0; i < spatial; ++i) {
      AffineExpr scaled =
          b.d(2 + i) + getPadsLow()[i] - b.r(1 + i) * getDilations()[i];
      AffineExpr at = scaled.floorDiv(getStrides()[i]);
      xi.push_back(at);
      wi.push_back(b.r(1 + i));
      inside.push_back(scaled);
      inside.push_back(xd[2 + i] - 1 - at);
      if (getStrides()[i] != 1)
        exact.push_back(scaled % getStrides()[i]);
    }
    Value x = b.loadGuarded(kernel.operand(0), xi, inside,
                            b.lit(0.0, elementOf(getX().getType())), exact);
    Value w = b.load(kernel.operand(1), wi);
    return b.mul(b.cast(x, accumulator), b.cast(w, accumulator));
  });
  return success();
}
