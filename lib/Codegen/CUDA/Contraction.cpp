// The tiled matrix product on the plain f32 units. A factor is any expression,
// so that padding, strides and conversions of a convolution cost a guarded load
// here and no copy of the operand.
#include "ContractionTile.h"

#include "dlc/Schedule/NarrowNumbers.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

/// Steps along the fold between two barriers.
constexpr int64_t kTileDepth = 16;
/// Sums of one thread along rows and columns.
constexpr int64_t kThreadTile = 4;
/// Threads along a row of threads.
constexpr int64_t kThreadColumns = kTileColumns / kThreadTile;
/// Four floats more a row keep rows 16-byte aligned and off each other's banks.
constexpr int64_t kPanelPadding = 4;
/// Fewer rows or columns than this leave most of a tile idle.
constexpr int64_t kWorthTiling = 16;

static_assert(kTileRows / kThreadTile * kThreadColumns == kTileThreads);

} // namespace

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

// Large tiles reuse more of what they load, where there are enough of them for
// every multiprocessor (an A100 has 108).
static void chooseTile(Contraction &c) {
  constexpr int64_t large = 128, enough = 108;
  auto rows = constantValue(extentOf(c.stage, c.rowAxes));
  auto columns = constantValue(extentOf(c.stage, c.columnAxes));
  auto batch = constantValue(extentOf(c.stage, c.batchAxes));
  if (!c.usesTensorCores() || !rows || !columns || *rows < large ||
      *columns < large)
    return;
  if (llvm::divideCeil(*rows, large) * llvm::divideCeil(*columns, large) *
          batch.value_or(1) >=
      enough)
    c.tileRows = c.tileColumns = large;
}

// Parts of the sums, where tiles are too few for every multiprocessor and sums
// are long.
static void chooseParts(Contraction &c) {
  constexpr int64_t enough = 108, leastSteps = 256, mostParts = 16;
  auto tiles = constantValue(countTiles(c));
  auto depth =
      constantValue(product(c.stage.getContext(), c.stage.getReduceDims()));
  if (!tiles || !depth || *tiles == 0 || 2 * *tiles > enough ||
      *depth < 2 * leastSteps)
    return;
  int64_t parts =
      std::min<int64_t>({static_cast<int64_t>(llvm::divideCeil(enough, *tiles)),
                         *depth / leastSteps, mostParts});
  int64_t panel =
      c.usesTensorCores() ? panelDepth(c.narrowLeft.getType()) : kTileDepth;
  c.stepsAPart = llvm::alignTo(llvm::divideCeil(*depth, parts), panel);
}

int64_t dlc::panelDepth(Type element) { return 64 / elementBytes(element); }

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
  chooseTile(result);
  chooseParts(result);
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
// Emission
//===----------------------------------------------------------------------===//

namespace {

class TileEmitter : ContractionTile {
public:
  TileEmitter(LaunchBuilder &launch, StageEmitter &emitter,
              const Contraction &contraction)
      : ContractionTile(launch, emitter, contraction) {}

  LogicalResult emit(llvm::function_ref<void(Scalar, ValueRange)> store);

private:
  void fillPanel(Value panel, Value factor, ArrayRef<unsigned> axes,
                 int64_t extent, Value first, Value depthFirst);
  SmallVector<Value> multiplyPanels(Value rows, Value columns, ValueRange sums);
};

} // namespace

// panel[k][i] = factor at (first + i, depthFirst + k), zero outside. Neighbour
// threads read neighbour elements of the operand.
void TileEmitter::fillPanel(Value panel, Value factor, ArrayRef<unsigned> axes,
                            int64_t extent, Value first, Value depthFirst) {
  bool alongFold = liesAlongFold(stage, factor);
  Value inner = index.constant(alongFold ? kTileDepth : extent);
  Value total = count(axes);
  launch.loop(
      launch.thread(), index.constant(extent * kTileDepth),
      index.constant(kTileThreads), [&](Value i) {
        Value outerStep = index.div(i, inner), innerStep = index.rem(i, inner);
        Value k = alongFold ? innerStep : outerStep;
        Value element = alongFold ? outerStep : innerStep;
        Value at = index.add(first, element),
              atDepth = index.add(depthFirst, k);
        auto choice = scf::IfOp::create(b, loc, TypeRange{b.getF32Type()},
                                        isInside(total, at, atDepth),
                                        /*withElseRegion=*/true);
        {
          OpBuilder::InsertionGuard guard(b);
          b.setInsertionPointToStart(choice.thenBlock());
          FailureOr<Scalar> value = factorAt(factor, axes, at, atDepth);
          Value result = failed(value) ? Value() : value->value;
          Value zero = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
          scf::YieldOp::create(b, loc, result ? result : zero);
          b.setInsertionPointToStart(choice.elseBlock());
          scf::YieldOp::create(
              b, loc,
              arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0))
                  .getResult());
        }
        Value place = index.add(
            index.mul(k, index.constant(extent + kPanelPadding)), element);
        memref::StoreOp::create(b, loc, choice.getResult(0), panel, place);
      });
}

// One step along the fold a time: the thread's rows times its columns.
SmallVector<Value> TileEmitter::multiplyPanels(Value rows, Value columns,
                                               ValueRange sums) {
  Value threadColumns = index.constant(kThreadColumns);
  Value threadRow = index.div(launch.thread(), threadColumns);
  Value threadColumn = index.rem(launch.thread(), threadColumns);
  Value side = index.constant(kThreadTile);
  return launch.loop(
      index.constant(0), index.constant(kTileDepth), index.constant(1), sums,
      [&](Value k, ValueRange carried) {
        auto read = [&](Value panel, int64_t extent, Value part) {
          Value first =
              index.add(index.mul(k, index.constant(extent + kPanelPadding)),
                        index.mul(part, side));
          SmallVector<Value> values;
          for (int64_t i = 0; i < kThreadTile; ++i)
            values.push_back(
                memref::LoadOp::create(b, loc, panel, index.add(first, i)));
          return values;
        };
        SmallVector<Value> left = read(rows, kTileRows, threadRow);
        SmallVector<Value> right = read(columns, kTileColumns, threadColumn);
        SmallVector<Value> next;
        for (int64_t i = 0; i < kThreadTile; ++i)
          for (int64_t j = 0; j < kThreadTile; ++j)
            next.push_back(math::FmaOp::create(b, loc, left[i], right[j],
                                               carried[i * kThreadTile + j]));
        return next;
      });
}

LogicalResult
TileEmitter::emit(llvm::function_ref<void(Scalar, ValueRange)> store) {
  begin();
  Type f32 = b.getF32Type();
  Value rows = launch.shared(f32, kTileDepth * (kTileRows + kPanelPadding));
  Value columns =
      launch.shared(f32, kTileDepth * (kTileColumns + kPanelPadding));
  SmallVector<Value> sums = foldPanels(
      c.left, c.right, rows, columns, kTileDepth, kThreadTile * kThreadTile,
      [&](auto &&...args) { fillPanel(args...); },
      [&](auto &&...args) { return multiplyPanels(args...); });
  if (failedInside)
    return failure();

  Value threadColumns = index.constant(kThreadColumns);
  Value side = index.constant(kThreadTile);
  Value row = index.mul(index.div(launch.thread(), threadColumns), side);
  Value column = index.mul(index.rem(launch.thread(), threadColumns), side);
  Value tile = launch.shared(b.getI32Type(), tileWords(kTileRows));
  storeTile(
      tile, kTileRows,
      [&](Value, StoreSum put) {
        for (int64_t i = 0; i < kThreadTile; ++i)
          for (int64_t j = 0; j < kThreadTile; ++j)
            put(index.add(row, i), index.add(column, j),
                sums[i * kThreadTile + j]);
      },
      store);
  return success();
}

LogicalResult
dlc::emitTile(LaunchBuilder &launch, StageEmitter &emitter,
              const Contraction &contraction,
              llvm::function_ref<void(Scalar, ValueRange)> store) {
  if (contraction.usesTensorCores())
    return emitTensorTile(launch, emitter, contraction, store);
  return TileEmitter(launch, emitter, contraction).emit(store);
}
