// Tiles of a convolution whose image is read where it lies, by an address for
// each of the tile's pixels and each tap. What is padding for the whole tile,
// or known to be so for a pixel of it, is left out. Where a tap is only a few
// steps of k (the image of a network's first convolution), the addresses of a
// tile's pixels are one and its distances, which are immediate offsets.
#include "ContractionFactors.h"
#include "ContractionTileBody.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

/// The least value of a guard along an image's row, over its pixels [from, to)
/// and all taps; negative where that is not known.
static int64_t leastOf(const ContractionSpec &spec, AffineExpr guard,
                       int64_t from, int64_t to) {
  unsigned pixel = spec.rows.back();
  AffineExpr zero = getAffineConstantExpr(0, spec.context());
  llvm::DenseMap<AffineExpr, AffineExpr> zeros;
  int64_t least = 0;
  for (auto [axis, extent] : llvm::enumerate(spec.space.extents)) {
    if (!guard.isFunctionOfDim(axis))
      continue;
    auto coefficient = linearCoefficient(guard, axis);
    auto slope = coefficient ? graph::constantValue(*coefficient)
                             : std::optional<int64_t>();
    auto size = graph::constantValue(extent);
    if (!slope || !size)
      return -1;
    int64_t low = axis == pixel ? from : 0, high = axis == pixel ? to : *size;
    least += *slope * (*slope < 0 ? high - 1 : low);
    zeros[getAffineDimExpr(axis, spec.context())] = zero;
  }
  auto base = graph::constantValue(graph::simplify(guard.replace(zeros)));
  return base ? *base + least : -1;
}

/// How the tile lies in the image: the rows of an lhs that is read indirectly
/// are its pixels, the last of their axes runs along one of its rows.
void TileBody::placeInImage() {
  const ContractionSpec &spec = *p.indirect;
  for (unsigned axis : spec.rows)
    imageExtents.push_back(index.expr(spec.space.extents[axis], {}, symbols()));
  if (spec.rows.empty())
    return;
  auto width = graph::constantValue(spec.space.extents[spec.rows.back()]);
  if (!p.rowStep || !width || *width <= 0)
    return;
  imageWidth = *width;
  startsImageRow = p.rowStep % imageWidth == 0;
  staysInImageRow =
      startsImageRow ? shape.rows <= imageWidth : imageWidth % p.rowStep == 0;
  if (startsImageRow)
    firstPixel = 0;
  // With no padding, the rows of one row of an image need no whole tiles.
  if (spec.rows.size() == 1 && spec.lhs.guards.empty())
    staysInImageRow = true;
  hasShortTaps =
      staysInImageRow && !p.scalar.strict && dlc::hasShortTaps(spec, p.group);
}

bool TileBody::holdsBeside(int64_t from, int64_t to) {
  const ContractionSpec &spec = *p.indirect;
  unsigned pixel = spec.rows.back();
  return llvm::all_of(spec.lhs.guards, [&](auto &guard) {
    return !guard.second.isFunctionOfDim(pixel) ||
           (!guard.first && leastOf(spec, guard.second, from, to) >= 0);
  });
}

TileBody::Accumulators
TileBody::byPlaceInRow(Value firstRow, Accumulators sums,
                       function_ref<Accumulators(Accumulators)> body) {
  int64_t last = imageWidth - shape.rows;
  auto at = [&](std::optional<int64_t> pixel, Accumulators in) {
    firstPixel = pixel;
    isBesideInside = !pixel;
    in = body(std::move(in));
    firstPixel.reset();
    isBesideInside = false;
    return in;
  };
  if (!holdsBeside(shape.rows, last))
    return body(std::move(sums)); // more than the outermost tiles has padding
  Value place = index.rem(firstRow, index.constant(imageWidth));
  std::function<Accumulators(ArrayRef<int64_t>, Accumulators)> outermost;
  outermost = [&](ArrayRef<int64_t> pixels, Accumulators in) {
    if (pixels.empty())
      return at(std::nullopt, std::move(in));
    int64_t pixel = pixels.front();
    if (holdsBeside(pixel, pixel + shape.rows))
      return outermost(pixels.drop_front(), std::move(in));
    Value isThere = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                          place, index.constant(pixel));
    auto branch = scf::IfOp::create(b, loc, ValueRange(in).getTypes(), isThere,
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, loc, at(pixel, in));
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, outermost(pixels.drop_front(), in));
    return Accumulators(branch.getResults());
  };
  return outermost({0, last}, std::move(sums));
}

void TileBody::setPixel(unsigned r, Value firstRow,
                        SmallVectorImpl<Value> &axes) {
  ArrayRef<unsigned> group = p.indirect->rows;
  ArrayRef<Value> extents = imageExtents;
  Value linear = index.add(firstRow, r);
  if (startsImageRow || staysInImageRow) {
    Value width = index.constant(imageWidth);
    axes[group.back()] = firstPixel
                             ? index.constant((*firstPixel + r) % imageWidth)
                             : index.add(index.rem(firstRow, width), r);
    linear = index.div(firstRow, width);
    if (startsImageRow)
      linear = index.add(linear, int64_t(r / imageWidth));
    group = group.drop_back();
    extents = extents.drop_back();
  }
  for (auto [axis, value] :
       llvm::zip_equal(group, index.delinearize(linear, extents)))
    axes[axis] = value;
}

bool TileBody::isOfWholeTile(AffineExpr guard) {
  bool hasTaps = p.indirect->inner.size() > p.indirect->lhsRun().size();
  return staysInImageRow && hasTaps && passesOverPadding() &&
         !guard.isFunctionOfDim(p.indirect->rows.back());
}

Value dlc::alsoHolds(IndexBuilder &index, Value inside, Value guard,
                     bool isEquality) {
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  Value zero = index.constant(0), holds = index.atLeast(guard, zero);
  if (isEquality)
    holds = arith::AndIOp::create(b, loc, holds, index.atLeast(zero, guard));
  return inside ? Value(arith::AndIOp::create(b, loc, inside, holds)) : holds;
}

Value TileBody::imageAt(ArrayRef<Value> axes, int64_t more) {
  const ContractionSpec &spec = *p.indirect;
  AffineExpr moving = spec.lhs.base;
  for (auto [axis, stride] : llvm::enumerate(spec.lhs.strides)) {
    auto point = IndexBuilder::constantOf(axes[axis]);
    auto distance = graph::constantValue(stride);
    if (point && distance)
      more += *point * *distance;
    else
      moving = moving + getAffineDimExpr(axis, spec.context()) * stride;
  }
  return index.add(index.expr(graph::simplify(moving), axes, symbols()), more);
}

void TileBody::locateRows(Value firstRow, SmallVector<Value> axes) {
  const ContractionSpec &spec = *p.indirect;
  rowOffsets.clear();
  rowMemories.clear();
  isPadding.assign(shape.rows, false);
  unsigned pixel = spec.rows.empty() ? 0 : spec.rows.back();
  auto distance = spec.rows.empty()
                      ? std::optional<int64_t>()
                      : graph::constantValue(spec.lhs.strides[pixel]);
  SmallVector<Value> first = axes; // of row 0, where it is set
  // One address for all rows; outside of the image it is of as many pixels.
  bool hasDistance = hasShortTaps && distance,
       isOneOutside = hasDistance && outsideOf(spec.lhs);
  Value firstMemory = lhs, firstAt;
  if (isOneOutside) {
    firstAt = imageAt(first, 0);
    Value inside;
    for (auto &[isEquality, expr] : spec.lhs.guards)
      if (!expr.isFunctionOfDim(pixel))
        inside = alsoHolds(index, inside, index.expr(expr, first, symbols()),
                           isEquality);
    if (inside) {
      firstMemory =
          arith::SelectOp::create(b, loc, inside, lhs, p.surroundings.front());
      firstAt =
          arith::SelectOp::create(b, loc, inside, firstAt, index.constant(0));
    }
  }
  for (unsigned r = 0; r < shape.rows; ++r) {
    if (!hasShortTaps)
      setPixel(r, firstRow, axes);
    else
      axes[pixel] = index.add(first[pixel], r);
    bool isInside =
        isBesideInside || (hasShortTaps && firstPixel &&
                           holdsBeside(*firstPixel + r, *firstPixel + r + 1));
    Value inside;
    for (auto &[isEquality, expr] : spec.lhs.guards) {
      bool isOfPixel = expr.isFunctionOfDim(pixel);
      if (isOfWholeTile(expr) || (isInside && isOfPixel) ||
          (isOneOutside && !isOfPixel))
        continue;
      Value value = index.expr(expr, axes, symbols());
      if (auto known = IndexBuilder::constantOf(value);
          known && passesOverPadding()) {
        isPadding[r] |= isEquality ? *known != 0 : *known < 0;
        continue;
      }
      inside = alsoHolds(index, inside, value, isEquality);
    }
    Value at = isOneOutside  ? index.add(firstAt, r * *distance)
               : hasDistance ? imageAt(first, r * *distance)
                             : imageAt(axes, 0);
    Value memory = firstMemory;
    if (inside && !isPadding[r]) {
      memory = arith::SelectOp::create(b, loc, inside, memory,
                                       p.surroundings.front());
      at = arith::SelectOp::create(b, loc, inside, at, index.constant(0));
    }
    rowMemories.push_back(memory);
    rowOffsets.push_back(at);
  }
}

TileBody::Accumulators TileBody::indirectSteps(Value firstRow, Value rhsOffset,
                                               Accumulators sums) {
  const ContractionSpec &spec = *p.indirect;
  ValueRange outer =
      ValueRange(p.surroundings).drop_front(1 + symbols().size());
  SmallVector<unsigned> run = spec.lhsRun();
  ArrayRef<unsigned> taps = ArrayRef(spec.inner).drop_back(run.size());
  SmallVector<Value> axes(spec.space.extents.size(), index.constant(0));
  for (auto [axis, value] : llvm::zip_equal(spec.outer, outer))
    axes[axis] = value;
  Value length = index.expr(spec.extentOf(run), {}, symbols());
  placeInImage();
  if (staysInImageRow)
    setPixel(0, firstRow, axes);
  // Guards of the whole tile are asked as soon as their taps are known.
  auto isInside = [&](ArrayRef<unsigned> fixed, ArrayRef<unsigned> left) {
    Value inside;
    for (auto &[isEquality, expr] : spec.lhs.guards) {
      AffineExpr guard = expr;
      auto moves = [&](unsigned axis) { return guard.isFunctionOfDim(axis); };
      if (!isOfWholeTile(guard) || llvm::any_of(left, moves) ||
          !(moves(fixed.back()) ||
            (fixed.size() == 1 && llvm::none_of(taps, moves))))
        continue;
      Value value = index.expr(guard, axes, symbols());
      inside = alsoHolds(index, inside, value, isEquality);
    }
    return inside;
  };
  // Whether padding is known pixel by pixel where the taps of an axis are. (Of
  // short taps it is known which pixels have some. They are not written out:
  // they share elements, more of them than there are registers.)
  auto isUnrolled = [&](unsigned axis) {
    constexpr int64_t most = 5;
    auto extent = graph::constantValue(spec.space.extents[axis]);
    return startsImageRow && !hasShortTaps && passesOverPadding() && extent &&
           *extent <= most && llvm::any_of(spec.lhs.guards, [&](auto &guard) {
             return guard.second.isFunctionOfDim(axis) &&
                    guard.second.isFunctionOfDim(spec.rows.back());
           });
  };
  std::function<Accumulators(ArrayRef<unsigned>, Value, Accumulators)> nest;
  auto guarded = [&](ArrayRef<unsigned> left, Value tap, Accumulators in) {
    Value inside = isInside(taps.drop_back(left.size()), left);
    if (!inside)
      return nest(left, tap, std::move(in));
    auto branch = scf::IfOp::create(b, loc, ValueRange(in).getTypes(), inside,
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, loc, nest(left, tap, in));
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, in);
    return Accumulators(branch.getResults());
  };
  nest = [&](ArrayRef<unsigned> left, Value tap, Accumulators in) {
    if (left.empty()) {
      locateRows(firstRow, axes);
      begun = index.mul(tap, length);
      Value at = index.add(rhsOffset, index.mul(begun, p.rhsStep));
      return steps(length, index.constant(0), at, index.constant(1),
                   std::move(in),
                   /*unroll=*/hasShortTaps && p.group == 1 ? 1 : 0);
    }
    unsigned axis = left.front();
    Value extent = index.expr(spec.space.extents[axis], {}, symbols());
    Value from = index.constant(0), to = extent;
    if (pass.first && left.size() == taps.size()) {
      Value unit = index.constant(indirectPassUnit(spec));
      from = index.div(pass.first, unit);
      to = index.add(from, index.div(pass.depth, unit));
    }
    auto turn = [&](Value i, Accumulators inside) {
      axes[axis] = i;
      return guarded(left.drop_front(),
                     index.add(index.mul(tap, extent), index.sub(i, from)),
                     std::move(inside));
    };
    auto last = IndexBuilder::constantOf(to);
    if (IndexBuilder::constantOf(from) == 0 && last && isUnrolled(axis)) {
      for (int64_t i = 0; i < *last; ++i)
        in = turn(index.constant(i), std::move(in));
      return in;
    }
    return loop(from, to, 1, std::move(in), turn);
  };
  auto all = [&](Accumulators in) {
    SmallVector<Value> outside = axes;
    if (hasShortTaps)
      setPixel(0, firstRow, axes);
    in = nest(taps, index.constant(0), std::move(in));
    axes = outside;
    return in;
  };
  return hasShortTaps && !startsImageRow && !spec.lhs.guards.empty()
             ? byPlaceInRow(firstRow, std::move(sums), all)
             : all(std::move(sums));
}
