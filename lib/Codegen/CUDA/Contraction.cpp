// Which stages are products to be tiled, and what each factor depends on.
#include "Contraction.h"
#include "MmaSync.h"

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

std::optional<Contraction> dlc::matchContraction(StageOp stage,
                                                 bool allowsTf32) {
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
  chooseFactors(result, allowsTf32);
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

/// The plain load that the factor is, where chunks along `axis` (an argument of
/// the stage's block) of extent `extent` are contiguous, aligned and wholly
/// inside or wholly outside; null where they need not be.
static LoadOp contiguousChunks(StageOp stage, Value factor, unsigned axis,
                               AffineExpr extent) {
  LoadOp load = plainLoad(stage, factor);
  if (!load)
    return {};
  int64_t chunk = kChunkBytes / elementBytes(factor.getType());
  unsigned last = load.getMap().getNumResults() - 1;
  auto isMultiple = [&](AffineExpr size) {
    auto value = constantValue(size);
    return value && *value % chunk == 0;
  };
  if (!isMultiple(extent) ||
      !isMultiple(getDims(load.getTensor().getType())[last]))
    return {};
  std::optional<unsigned> position;
  for (auto [i, coordinate] : llvm::enumerate(load.getCoords())) {
    if (cast<BlockArgument>(coordinate).getArgNumber() != axis)
      continue;
    if (position)
      return {};
    position = i;
  }
  if (!position || load.getMap().getResult(last) !=
                       getAffineDimExpr(*position, stage.getContext()))
    return {};
  for (unsigned i = 0; i < last; ++i)
    if (load.getMap().getResult(i).isFunctionOfDim(*position))
      return {};
  if (load.getGuard())
    for (AffineExpr constraint : load.getGuard()->getConstraints())
      if (constraint.isFunctionOfDim(*position))
        return {};
  return load;
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
  unsigned axis =
      copy.alongFold ? stage.getBlock()->getNumArguments() - 1 : axes.back();
  AffineExpr size = copy.alongFold ? stage.getReduceDims().back()
                                   : stage.getDomainDims()[axis];
  // Chunks lie in a panel as they do in the operand.
  bool keepsOrder =
      c.usesTensorCores() ? copy.alongFold || copy.transposed : !copy.alongFold;
  if (keepsOrder)
    copy.contiguous = contiguousChunks(stage, factor, axis, size);
  if (!copy.contiguous && bytes == wordBytes)
    copy.word = plainLoad(stage, factor);
  return copy;
}

LogicalResult
dlc::emitTile(LaunchBuilder &launch, StageEmitter &emitter,
              const Contraction &contraction,
              llvm::function_ref<void(Scalar, ValueRange)> store) {
  if (contraction.usesTensorCores())
    return emitTensorTile(launch, emitter, contraction, store);
  return emitPlainTile(launch, emitter, contraction, store);
}
