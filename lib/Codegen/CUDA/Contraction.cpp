// Which stages are products to be tiled, and what each factor depends on.
#include "Contraction.h"
#include "MmaSync.h"

#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/NarrowNumbers.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Fewer rows or columns than this leave most of a tile idle.
static constexpr int64_t kWorthTiling = 16;

//===----------------------------------------------------------------------===//
// Matching
//===----------------------------------------------------------------------===//

/// The coordinates of the stage that a scalar of its body depends on.
static llvm::BitVector coordinatesOf(StageOp stage, Value scalar) {
  llvm::BitVector used(stage.getBlock()->getNumArguments());
  SmallVector<Value> work{scalar};
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value value = work.pop_back_val();
    if (!seen.insert(value).second)
      continue;
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      if (argument.getOwner() == stage.getBlock())
        used.set(argument.getArgNumber());
      continue;
    }
    Operation *op = value.getDefiningOp();
    if (op->getBlock() != stage.getBlock())
      continue; // a tensor of another stage
    if (auto inside = dyn_cast<InsideOp>(op)) {
      for (auto [i, coordinate] : llvm::enumerate(inside.getCoords()))
        if (llvm::any_of(inside.getSet().getConstraints(),
                         [&](AffineExpr e) { return e.isFunctionOfDim(i); }))
          work.push_back(coordinate);
      continue;
    }
    auto load = dyn_cast<LoadOp>(op);
    if (!load) {
      llvm::append_range(work, op->getOperands());
      continue;
    }
    // A load is given all coordinates; its map and guard say which matter.
    for (auto [i, coordinate] : llvm::enumerate(load.getCoords())) {
      bool matters = load.getMap().isFunctionOfDim(i);
      if (load.getGuard())
        for (AffineExpr constraint : load.getGuard()->getConstraints())
          matters |= constraint.isFunctionOfDim(i);
      if (matters)
        work.push_back(coordinate);
    }
    if (load.getOther())
      work.push_back(load.getOther());
  }
  return used;
}

bool Contraction::isExact() const {
  StageOp s = stage;
  return s.getElementType().isInteger();
}

int64_t dlc::countParts(const Contraction &c) {
  StageOp stage = c.stage;
  return c.stepsAPart
             ? llvm::divideCeil(*constantValue(product(stage.getContext(),
                                                       stage.getReduceDims())),
                                c.stepsAPart)
             : 1;
}

AffineExpr dlc::extentOf(StageOp stage, ArrayRef<unsigned> axes) {
  SmallVector<AffineExpr> dims;
  for (unsigned axis : axes)
    dims.push_back(stage.getDomainDims()[axis]);
  return product(stage.getContext(), dims);
}

static bool isZero(Value scalar) {
  while (auto cast = scalar.getDefiningOp<CastOp>())
    scalar = cast.getValue();
  auto literal = scalar.getDefiningOp<LiteralOp>();
  auto number =
      literal ? dyn_cast<IntegerAttr>(literal.getValue()) : IntegerAttr();
  return number && number.getValue().isZero();
}

/// The bytes that a factor of i32 widens, and what it subtracts; null bytes: it
/// does something else.
static std::pair<Value, Value> bytesOf(StageOp stage, Value factor) {
  Value zero;
  if (auto apply = factor.getDefiningOp<ApplyOp>()) {
    if (apply.getFn() != ScalarFn::sub)
      return {};
    factor = apply.getArgs()[0];
    if (!isZero(apply.getArgs()[1]))
      zero = apply.getArgs()[1];
    if (zero &&
        coordinatesOf(stage, zero)
                .find_first_in(stage.getDomainRank(),
                               stage.getBlock()->getNumArguments()) >= 0)
      return {}; // it changes along the fold
  }
  auto cast = factor.getDefiningOp<CastOp>();
  if (!cast || !isByte(cast.getValue().getType()))
    return {};
  return {cast.getValue(), zero};
}

/// What tensor cores make of the factors.
static void chooseFactors(Contraction &c, bool allowsTf32) {
  if (c.isExact()) {
    std::tie(c.narrowLeft, c.zeroLeft) = bytesOf(c.stage, c.left);
    std::tie(c.narrowRight, c.zeroRight) = bytesOf(c.stage, c.right);
    if (!c.narrowRight)
      c.narrowLeft = {};
    return;
  }
  auto left = c.left.getDefiningOp<CastOp>(),
       right = c.right.getDefiningOp<CastOp>();
  if (left && right) {
    Type type = left.getValue().getType();
    if (type == right.getValue().getType() && (type.isF16() || type.isBF16())) {
      c.narrowLeft = left.getValue(), c.narrowRight = right.getValue();
      return;
    }
  }
  if (allowsTf32)
    c.narrowLeft = c.left, c.narrowRight = c.right;
}

std::optional<Contraction>
dlc::matchContraction(StageOp stage, const CudaCodegenOptions &options) {
  Type type = stage.getElementType();
  if (stage.getFoldKind() != FoldKind::add ||
      !(type.isF32() || type.isSignlessInteger(32)))
    return std::nullopt;
  auto multiply = stage.getYielded().getDefiningOp<ApplyOp>();
  if (!multiply || multiply.getFn() != ScalarFn::mul)
    return std::nullopt;
  Contraction result;
  result.stage = stage;
  result.left = multiply.getArgs()[0];
  result.right = multiply.getArgs()[1];
  llvm::BitVector left = coordinatesOf(stage, result.left);
  llvm::BitVector right = coordinatesOf(stage, result.right);
  for (unsigned axis = 0; axis < stage.getDomainRank(); ++axis) {
    if (left[axis] == right[axis])
      result.batchAxes.push_back(axis);
    else
      (left[axis] ? result.rowAxes : result.columnAxes).push_back(axis);
  }
  for (ArrayRef<unsigned> axes : {ArrayRef<unsigned>(result.rowAxes),
                                  ArrayRef<unsigned>(result.columnAxes)}) {
    auto extent = constantValue(extentOf(stage, axes));
    if (axes.empty() || (extent && *extent < kWorthTiling))
      return std::nullopt;
  }
  // Factors of f32 may be rounded.
  chooseFactors(result, options.tf32 && !options.strict);
  result.hasWarpGroups = options.warpGroups;
  if (result.isExact() && !result.usesTensorCores())
    return std::nullopt; // no tile on plain units
  chooseCut(result);
  return result;
}

AffineExpr dlc::countTiles(const Contraction &c) {
  StageOp stage = c.stage;
  return simplify(extentOf(stage, c.batchAxes) *
                  extentOf(stage, c.rowAxes).ceilDiv(c.tileRows) *
                  extentOf(stage, c.columnAxes).ceilDiv(c.tileColumns) *
                  countParts(c));
}

bool dlc::liesAlongFold(StageOp stage, Value factor) {
  unsigned inner = stage.getBlock()->getNumArguments() - 1;
  while (auto cast = factor.getDefiningOp<CastOp>())
    factor = cast.getValue();
  auto load = factor.getDefiningOp<LoadOp>();
  if (!load || load.getMap().getNumResults() == 0)
    return false;
  AffineExpr last = load.getMap().getResult(load.getMap().getNumResults() - 1);
  bool along = false, across = false;
  for (auto [i, coordinate] : llvm::enumerate(load.getCoords()))
    if (auto argument = dyn_cast<BlockArgument>(coordinate))
      if (last.isFunctionOfDim(i))
        (argument.getArgNumber() == inner ? along : across) = true;
  // The taps of a window are few: its places are next to each other for longer.
  auto taps = constantValue(stage.getReduceDims().back());
  return along && !(across && taps && *taps < kWorthTiling);
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

/// The load that the factor is, at coordinates of the stage, zero where its
/// guard does not hold; null where it is something else.
static LoadOp plainLoad(StageOp stage, Value factor) {
  auto load = factor.getDefiningOp<LoadOp>();
  if (!load || load.getMap().getNumResults() == 0)
    return {};
  if (Value other = load.getOther()) {
    auto literal = other.getDefiningOp<LiteralOp>();
    if (!literal)
      return {};
    auto number = dyn_cast<FloatAttr>(literal.getValue());
    auto integer = dyn_cast<IntegerAttr>(literal.getValue());
    if (!(number && number.getValue().isPosZero()) &&
        !(integer && integer.getValue().isZero()))
      return {};
  }
  for (Value coordinate : load.getCoords()) {
    auto argument = dyn_cast<BlockArgument>(coordinate);
    if (!argument || argument.getOwner() != stage.getBlock())
      return {};
  }
  return load;
}

/// Whether chunks of the load along these arguments of the stage's block,
/// walked as one, are contiguous, aligned and wholly inside or wholly outside.
static bool hasChunks(StageOp stage, LoadOp load, ArrayRef<unsigned> axes) {
  MLIRContext *context = stage.getContext();
  int64_t chunk = kChunkBytes / elementBytes(load.getType());
  SmallVector<AffineExpr> arguments;
  for (Value coordinate : load.getCoords())
    arguments.push_back(getAffineDimExpr(
        cast<BlockArgument>(coordinate).getArgNumber(), context));
  if (load.getGuard())
    for (AffineExpr constraint : load.getGuard()->getConstraints())
      for (unsigned axis : axes)
        if (constraint.replaceDims(arguments).isFunctionOfDim(axis))
          return false;
  AffineExpr place = getAffineConstantExpr(0, context);
  for (auto [expr, size] : llvm::zip_equal(load.getMap().getResults(),
                                           getDims(load.getTensor().getType())))
    place = simplify(place * size + expr.replaceDims(arguments));
  SmallVector<AffineExpr> extents(stage.getDomainDims());
  llvm::append_range(extents, stage.getReduceDims());
  AffineExpr count = getAffineConstantExpr(1, context);
  for (unsigned axis : axes)
    count = count * extents[axis];
  auto strideOf = [&](unsigned axis) { return linearCoefficient(place, axis); };
  if (!simplify(count).isMultipleOf(chunk) ||
      collapsedStride(axes, strideOf, extents, context) != 1)
    return false;
  // All else steps over whole chunks.
  AffineExpr zero = getAffineConstantExpr(0, context);
  SmallVector<AffineExpr> rest;
  for (unsigned axis = 0; axis < extents.size(); ++axis)
    rest.push_back(llvm::is_contained(axes, axis)
                       ? zero
                       : getAffineDimExpr(axis, context));
  return simplify(place.replaceDims(rest)).isMultipleOf(chunk);
}

/// The plain load that the factor is, where it lies in chunks along the last of
/// these axes, or along several of the last ones, walked as one; null where it
/// need not.
static LoadOp contiguousChunks(StageOp stage, LoadOp load,
                               ArrayRef<unsigned> axes) {
  for (size_t count = 1; load && count <= axes.size(); ++count)
    if (hasChunks(stage, load, axes.take_back(count)))
      return load;
  return {};
}

FactorCopy dlc::copyOf(const Contraction &c, bool isLeft) {
  Value factor = c.usesTensorCores() ? (isLeft ? c.narrowLeft : c.narrowRight)
                                     : (isLeft ? c.left : c.right);
  StageOp stage = c.stage;
  ArrayRef<unsigned> axes = isLeft ? c.rowAxes : c.columnAxes;
  constexpr int64_t transposableBytes = 2, wordBytes = 4;
  int64_t bytes = elementBytes(factor.getType());
  FactorCopy copy;
  copy.alongFold = liesAlongFold(stage, factor);
  copy.transposed =
      c.usesTensorCores() && !copy.alongFold && bytes == transposableBytes;
  copy.load = plainLoad(stage, factor);
  SmallVector<unsigned> walked(axes);
  if (copy.alongFold) {
    walked.clear();
    for (unsigned i = 0; i < stage.getReduceRank(); ++i)
      walked.push_back(stage.getDomainRank() + i);
  }
  // Chunks lie in a panel as they do in the operand.
  bool keepsOrder =
      c.usesTensorCores() ? copy.alongFold || copy.transposed : !copy.alongFold;
  if (keepsOrder)
    copy.contiguous = contiguousChunks(stage, copy.load, walked);
  if (!copy.contiguous && bytes == wordBytes)
    copy.word = copy.load;
  return copy;
}

LogicalResult dlc::emitTile(LaunchBuilder &launch, StageEmitter &emitter,
                            const Contraction &contraction,
                            StoreElements store) {
  if (contraction.usesWarpGroups())
    return emitWarpGroupTile(launch, emitter, contraction, store);
  if (contraction.usesTensorCores())
    return emitTensorTile(launch, emitter, contraction, store);
  return emitPlainTile(launch, emitter, contraction, store);
}
