// Maps whose operands are contiguous along another axis than their results, as
// in a transpose: neighbour threads would read far from each other. A block
// loads a tile of such elements along the operand's axis into shared memory and
// computes along the result's, both in accesses of up to 16 bytes.
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Elements of the side of a tile that is not small.
static constexpr int64_t kLargeSide = 64;
/// Shorter axes leave most of a tile empty.
static constexpr int64_t kWorthTurning = 16;

/// The domain axis along which the load is contiguous: its last coordinate is
/// that one, perhaps moved; nothing where another one moves it, too.
static std::optional<unsigned> contiguousAxis(StageOp stage, LoadOp load) {
  unsigned rank = load.getMap().getNumResults();
  if (rank == 0)
    return std::nullopt;
  AffineExpr last = load.getMap().getResult(rank - 1);
  std::optional<unsigned> position;
  for (unsigned i = 0; i < load.getMap().getNumDims(); ++i)
    if (last.isFunctionOfDim(i)) {
      if (position)
        return std::nullopt;
      position = i;
    }
  if (!position)
    return std::nullopt;
  AffineExpr step =
      simplify(last - getAffineDimExpr(*position, stage.getContext()));
  if (step.isFunctionOfDim(*position))
    return std::nullopt;
  auto argument = dyn_cast<BlockArgument>(load.getCoords()[*position]);
  if (!argument || argument.getOwner() != stage.getBlock() ||
      argument.getArgNumber() >= stage.getDomainRank())
    return std::nullopt;
  return argument.getArgNumber();
}

/// All coordinates are those of the stage, not data.
static bool isAtCoordinates(StageOp stage, LoadOp load) {
  return llvm::all_of(load.getCoords(), [&](Value coordinate) {
    auto argument = dyn_cast<BlockArgument>(coordinate);
    return argument && argument.getOwner() == stage.getBlock();
  });
}

std::optional<CudaKernelEmitter::Turn>
CudaKernelEmitter::findTurn(Group group) const {
  StageOp first = group.front().stage;
  if (first.getFoldKind() != FoldKind::none || first.getDomainRank() < 2)
    return std::nullopt;
  unsigned inner = first.getDomainRank() - 1;
  auto isLong = [&](unsigned axis) {
    auto extent = constantValue(first.getDomainDims()[axis]);
    return !extent || *extent >= kWorthTurning;
  };
  if (!isLong(inner))
    return std::nullopt;
  llvm::DenseMap<Value, unsigned> readers;
  SmallVector<std::pair<LoadOp, unsigned>> found;
  for (const StagePlan &plan : group) {
    StageOp stage = plan.stage;
    stage.walk([&](LoadOp load) {
      ++readers[load.getTensor()];
      bool isOwn = llvm::any_of(group, [&](const StagePlan &other) {
        return load.getTensor() == StageOp(other.stage).getResult();
      });
      auto axis = contiguousAxis(stage, load);
      if (isOwn || !axis || *axis == inner || !isLong(*axis) ||
          !isAtCoordinates(stage, load))
        return;
      // Along the innermost axis it moves by whole rows.
      for (auto [i, coordinate] : llvm::enumerate(load.getCoords()))
        if (cast<BlockArgument>(coordinate).getArgNumber() == inner &&
            load.getMap().isFunctionOfDim(i))
          return found.push_back({load, *axis});
    });
  }
  Turn turn;
  constexpr size_t mostTiles = 4; // of shared memory
  for (auto [load, axis] : found)
    if (readers[load.getTensor()] == 1 && turn.loads.size() < mostTiles &&
        (turn.loads.empty() || turn.axis == axis)) {
      turn.axis = axis;
      turn.loads.push_back(load);
    }
  return turn.loads.empty() ? std::nullopt : std::optional(turn);
}

/// Bytes of shared memory of the load's tile: rows are an odd number of words
/// longer than the banks, so that columns are in different ones.
static int64_t pitchOf(LoadOp load, int64_t side) {
  constexpr int64_t wordBytes = 4;
  return side + std::max<int64_t>(1, wordBytes / elementBytes(load.getType()));
}

int64_t CudaKernelEmitter::turnBytes(const Turn &turn, int64_t side) {
  int64_t bytes = 0;
  for (LoadOp load : turn.loads)
    bytes += side * pitchOf(load, side) * elementBytes(load.getType());
  return bytes;
}

// Sides of 64 make accesses of 256 bytes of f32, where tiles are enough for all
// multiprocessors (an A100 has 108).
int64_t CudaKernelEmitter::turnSide(Group group, const Turn &turn) const {
  if (auto wanted = knob("turn_side"))
    return *wanted;
  constexpr int64_t enough = 4 * 108, goodBytes = 36 << 10;
  StageOp first = group.front().stage;
  auto points = constantValue(product(context, first.getDomainDims()));
  bool isLarge = points && *points / (kLargeSide * kLargeSide) >= enough;
  for (unsigned axis : {turn.axis, unsigned(first.getDomainRank() - 1)}) {
    auto extent = constantValue(first.getDomainDims()[axis]);
    isLarge &= extent && *extent >= kLargeSide;
  }
  return isLarge && turnBytes(turn, kLargeSide) <= goodBytes ? kLargeSide
                                                             : kWarpThreads;
}

/// Neighbours that a thread has together, of elements of so many bytes, along
/// an axis of this extent in memory.
static int64_t countTogether(int64_t bytes, ArrayRef<AffineExpr> extents) {
  constexpr int64_t accessBytes = 16, most = 4;
  int64_t count = std::clamp<int64_t>(accessBytes / bytes, 1, most);
  for (AffineExpr expr : extents) {
    auto extent = constantValue(expr);
    while (count > 1 && (!extent || *extent % count))
      count /= 2;
  }
  return count;
}

LogicalResult CudaKernelEmitter::emitTurned(Group group, Turn turn,
                                            StringRef symbol) {
  StageOp first = group.front().stage;
  LaunchBuilder launch = newLaunch(symbol, kPointThreads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  unsigned inner = first.getDomainRank() - 1;
  ArrayRef<AffineExpr> dims = first.getDomainDims();
  const int64_t side = turnSide(group, turn);

  // Tiles along both axes, elements along the others.
  SmallVector<AffineExpr> grid(dims);
  for (unsigned axis : {turn.axis, inner})
    grid[axis] = grid[axis].ceilDiv(side);
  SmallVector<Value> tile =
      index.delinearize(launch.block(), launch.sizes(grid));
  for (unsigned axis : {turn.axis, inner})
    tile[axis] = index.mul(tile[axis], side);

  // A thread's elements of the tile, `together` neighbours along `axis` each:
  // their row and first column in the tile, the point, and whether it is in the
  // domain. Points behind the end are those of the last elements.
  struct Piece {
    Value row, column, isInside;
    SmallVector<Value> point;
  };
  auto piecesAlong = [&](unsigned axis, int64_t together) {
    SmallVector<Piece> pieces;
    unsigned other = axis == inner ? turn.axis : inner;
    Value inRow = index.constant(side / together);
    for (int64_t begin = 0; begin < side * side / together;
         begin += kPointThreads) {
      Value number = index.add(launch.thread(), begin);
      Piece piece;
      piece.row = index.div(number, inRow);
      piece.column = index.mul(index.rem(number, inRow), together);
      piece.point = tile;
      Value isInside;
      for (auto [at, offset, count] :
           {std::tuple(axis, piece.column, together),
            std::tuple(other, piece.row, int64_t(1))}) {
        Value extent = launch.size(dims[at]);
        Value place = index.add(tile[at], offset);
        Value holds = index.less(place, extent);
        isInside =
            isInside
                ? arith::AndIOp::create(b, loc, isInside, holds).getResult()
                : holds;
        piece.point[at] =
            index.min(place, index.sub(extent, index.constant(count)));
      }
      piece.isInside = isInside;
      pieces.push_back(std::move(piece));
    }
    return pieces;
  };
  auto neighbour = [&](const Piece &piece, unsigned axis, int64_t k) {
    SmallVector<Value> point(piece.point);
    point[axis] = index.add(point[axis], k);
    return point;
  };

  int64_t loadBytes = 1, storeBytes = 1;
  SmallVector<AffineExpr> loadExtents{dims[turn.axis]};
  SmallVector<Value> tiles;
  for (LoadOp load : turn.loads) {
    loadBytes = std::max(loadBytes, elementBytes(load.getType()));
    loadExtents.push_back(getDims(load.getTensor().getType()).back());
    tiles.push_back(launch.shared(getStorageType(load.getType()),
                                  side * pitchOf(load, side)));
  }
  for (const StagePlan &plan : group)
    storeBytes = std::max(storeBytes,
                          elementBytes(StageOp(plan.stage).getElementType()));

  // All loads are under way before the first value is needed.
  CudaScalars scalars(b, loc, options.strict);
  int64_t together = countTogether(loadBytes, loadExtents);
  auto loaded = piecesAlong(turn.axis, together);
  SmallVector<Scalar> values;
  for (const Piece &piece : loaded)
    for (LoadOp load : turn.loads)
      for (int64_t k = 0; k < together; ++k) {
        FailureOr<Scalar> value =
            emitter.scalar(load->getParentOfType<StageOp>(),
                           neighbour(piece, turn.axis, k), load.getResult());
        if (failed(value))
          return failure();
        values.push_back(*value);
      }
  const Scalar *next = values.begin();
  for (const Piece &piece : loaded)
    for (auto [memory, load] : llvm::zip_equal(tiles, turn.loads)) {
      Value row = index.mul(piece.row, pitchOf(load, side));
      for (int64_t k = 0; k < together; ++k)
        emitter.store(*next++, memory,
                      index.add(index.add(row, piece.column), k));
    }
  launch.barrier();

  together = countTogether(storeBytes, {dims[inner]});
  auto stored = piecesAlong(inner, together);
  SmallVector<Scalar> elements;
  for (const Piece &piece : stored)
    for (int64_t k = 0; k < together; ++k) {
      for (auto [memory, load] : llvm::zip_equal(tiles, turn.loads)) {
        Value row = index.mul(index.add(piece.column, k), pitchOf(load, side));
        Value bits =
            memref::LoadOp::create(b, loc, memory, index.add(row, piece.row));
        emitter.place(load.getTensor(),
                      {Value(), scalars.fromStorage(bits, load.getType()), 0});
      }
      SmallVector<Value> point = neighbour(piece, inner, k);
      if (failed(computeGroup(emitter, group,
                              emitter.element(group.front().stage, point),
                              point, elements)))
        return failure();
    }
  next = elements.begin();
  for (const Piece &piece : stored)
    launch.onlyIf(piece.isInside, [&] {
      Value position = emitter.linear(piece.point, dims);
      for (int64_t k = 0; k < together; ++k)
        for (const StagePlan &plan : group)
          storeResults(launch, emitter, plan, *next++, index.add(position, k));
    });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(product(context, grid)), kPointThreads});
  return success();
}
