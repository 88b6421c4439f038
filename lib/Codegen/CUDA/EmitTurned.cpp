// Maps whose operands are contiguous along another axis than their results, as
// in a transpose: neighbour threads would read far from each other. A block
// loads a tile of 32 x 32 such elements along the operand's axis into shared
// memory and computes along the result's.
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// Elements of a tile's side: a warp has a row.
static constexpr int64_t kSide = kWarpThreads;
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

  // Tiles along both axes, elements along the others.
  SmallVector<AffineExpr> grid(dims);
  for (unsigned axis : {turn.axis, inner})
    grid[axis] = grid[axis].ceilDiv(kSide);
  SmallVector<Value> tile =
      index.delinearize(launch.block(), launch.sizes(grid));
  for (unsigned axis : {turn.axis, inner})
    tile[axis] = index.mul(tile[axis], kSide);
  Value side = index.constant(kSide);
  Value lane = index.rem(launch.thread(), side);
  Value warp = index.div(launch.thread(), side);
  constexpr int64_t warps = kPointThreads / kSide;

  // For each row of the tile that is the thread's: its point, when inside.
  auto forEach =
      [&](bool alongTurned,
          llvm::function_ref<void(ValueRange point, Value row)> body) {
        for (int64_t begin = 0; begin < kSide; begin += warps) {
          Value row = index.add(warp, begin);
          SmallVector<Value> point(tile);
          point[turn.axis] =
              index.add(point[turn.axis], alongTurned ? lane : row);
          point[inner] = index.add(point[inner], alongTurned ? row : lane);
          Value isInside = arith::AndIOp::create(
              b, loc,
              index.less(point[turn.axis], launch.size(dims[turn.axis])),
              index.less(point[inner], launch.size(dims[inner])));
          launch.onlyIf(isInside, [&] { body(point, row); });
        }
      };

  // A row is an odd number of words longer than the banks: columns of a tile
  // are in different ones.
  SmallVector<Value> tiles;
  SmallVector<int64_t> pitches;
  for (LoadOp load : turn.loads) {
    constexpr int64_t wordBytes = 4;
    int64_t bytes = elementBytes(load.getType());
    pitches.push_back(kSide + std::max<int64_t>(1, wordBytes / bytes));
    tiles.push_back(
        launch.shared(getStorageType(load.getType()), kSide * pitches.back()));
  }
  CudaScalars scalars(b, loc, options.strict);
  bool good = true;
  forEach(/*alongTurned=*/true, [&](ValueRange point, Value row) {
    for (auto [i, load] : llvm::enumerate(turn.loads)) {
      auto stage = load->getParentOfType<StageOp>();
      FailureOr<Scalar> value = emitter.scalar(stage, point, load.getResult());
      good &= succeeded(value);
      if (good)
        emitter.store(*value, tiles[i],
                      index.add(index.mul(row, pitches[i]), lane));
    }
  });
  launch.barrier();
  forEach(/*alongTurned=*/false, [&](ValueRange point, Value row) {
    for (auto [i, load] : llvm::enumerate(turn.loads)) {
      Value at = index.add(index.mul(lane, pitches[i]), row);
      Value stored = memref::LoadOp::create(b, loc, tiles[i], at);
      emitter.place(load.getTensor(),
                    {Value(), scalars.fromStorage(stored, load.getType()), 0});
    }
    SmallVector<Scalar> elements;
    good &= succeeded(computeGroup(emitter, group,
                                   emitter.element(group.front().stage, point),
                                   point, elements));
    Value position = emitter.linear(point, dims);
    for (auto [plan, element] : llvm::zip(group, elements))
      storeResults(launch, emitter, plan, element, position);
  });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(product(context, grid)), kPointThreads});
  return success(good);
}
