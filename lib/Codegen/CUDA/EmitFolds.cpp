// Folds that the threads of a block share: reduce, slices, and parts of folds
// that a second launch adds up.
//
// A thread folds some neighbour elements at once, and its lane's neighbours
// theirs, so that a warp reads whole lines across the fold; the other lanes and
// warps take other steps. Shuffles add up what a warp has of an element, and
// one thread an element adds up the warps'.
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

LogicalResult CudaKernelEmitter::emitFolds(Group group, const FoldCut &cut,
                                           StringRef symbol) {
  StageOp stage = group.front().stage;
  LaunchBuilder launch = newLaunch(symbol, cut.threads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  const int64_t width = cut.lanes * cut.columns;
  ArrayRef<AffineExpr> dims = stage.getDomainDims();

  // The block's first element.
  SmallVector<AffineExpr> grid(dims);
  if (cut.columnAxis)
    grid[*cut.columnAxis] = simplify(dims[*cut.columnAxis].ceilDiv(width));
  if (cut.rowAxis)
    grid[*cut.rowAxis] = simplify(dims[*cut.rowAxis].floorDiv(cut.rows));
  SmallVector<Value> corner =
      index.delinearize(launch.block(), launch.sizes(grid));
  if (cut.columnAxis)
    corner[*cut.columnAxis] = index.mul(corner[*cut.columnAxis], width);
  if (cut.rowAxis)
    corner[*cut.rowAxis] = index.mul(corner[*cut.rowAxis], cut.rows);

  // The thread's elements. Lanes behind the end do what the last ones do.
  Value lanes = index.constant(cut.lanes);
  Value inLine = index.mul(index.rem(launch.thread(), lanes), cut.columns);
  SmallVector<Value> first(corner);
  if (cut.columnAxis) {
    Value &column = first[*cut.columnAxis];
    Value last = index.sub(launch.size(dims[*cut.columnAxis]),
                           index.constant(cut.columns));
    column = index.min(index.add(column, inLine), last);
  }
  SmallVector<SmallVector<Value>> points;
  for (int64_t row = 0; row < cut.rows; ++row)
    for (int64_t column = 0; column < cut.columns; ++column) {
      points.push_back(first);
      if (row)
        points.back()[*cut.rowAxis] = index.add(first[*cut.rowAxis], row);
      if (column)
        points.back()[*cut.columnAxis] =
            index.add(first[*cut.columnAxis], column);
    }
  auto parts =
      emitter.foldParts(stage, points, index.div(launch.thread(), lanes),
                        cut.threads / cut.lanes, cut.steps);
  if (failed(parts))
    return failure();

  // [warp][row][column]
  Type type = parts->front().getType(), stored = getStorageType(type);
  const int64_t elements = width * cut.rows;
  const int64_t warps = cut.threads / kWarpThreads;
  Value memory = launch.shared(stored, warps * elements);
  for (Value &part : *parts)
    for (int64_t offset = kWarpThreads / 2; offset >= cut.lanes; offset /= 2)
      part = emitter.combineParts(
          stage, part, launch.shuffleXor(part, static_cast<unsigned>(offset)));
  Value warp = index.div(launch.thread(), index.constant(kWarpThreads));
  Value lane = index.rem(launch.thread(), index.constant(kWarpThreads));
  launch.onlyIf(index.less(lane, lanes), [&] {
    Value at = index.add(index.mul(warp, elements), inLine);
    for (auto [i, part] : llvm::enumerate(*parts)) {
      Value bits = type.isInteger(1)
                       ? arith::ExtUIOp::create(b, loc, stored, part)
                       : part;
      int64_t row = int64_t(i) / cut.columns, column = int64_t(i) % cut.columns;
      memref::StoreOp::create(b, loc, bits, memory,
                              index.add(at, row * width + column));
    }
  });
  launch.barrier();
  auto load = [&](Value at) -> Value {
    Value bits = memref::LoadOp::create(b, loc, memory, at);
    return type.isInteger(1)
               ? arith::TruncIOp::create(b, loc, type, bits).getResult()
               : bits;
  };
  bool good = true;
  auto finish = [&](Value element) {
    SmallVector<Value> point(corner);
    Value inside;
    if (cut.columnAxis) {
      Value &column = point[*cut.columnAxis];
      column = index.add(column, index.rem(element, index.constant(width)));
      inside = index.less(column, launch.size(dims[*cut.columnAxis]));
    }
    if (cut.rowAxis)
      point[*cut.rowAxis] = index.add(
          point[*cut.rowAxis], index.div(element, index.constant(width)));
    auto add = [&] {
      Value fold = load(element);
      for (int64_t other = 1; other < warps; ++other)
        fold = emitter.combineParts(stage, fold,
                                    load(index.add(element, other * elements)));
      good &= succeeded(storeGroup(launch, emitter, group,
                                   emitter.addStart(stage, fold), point,
                                   emitter.linear(point, dims)));
    };
    if (inside)
      launch.onlyIf(inside, add);
    else
      add();
  };
  launch.loop(launch.thread(), index.constant(elements),
              index.constant(cut.threads), finish);
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(product(context, grid)), cut.threads});
  return success(good);
}

// Every part-th piece of as many steps as a block has threads.
LogicalResult CudaKernelEmitter::emitFoldParts(Group group, StringRef symbol) {
  StagePlan &plan = group.front();
  StageOp stage = plan.stage;
  const unsigned threads = foldThreads(stage);
  AffineExpr points = product(context, stage.getDomainDims());
  std::string name = (symbol + "__parts").str();
  LaunchBuilder launch = newLaunch(name, threads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  auto extents = launch.sizes(stage.getDomainDims());
  Value element = index.div(launch.block(), index.constant(plan.numParts));
  Value part = index.rem(launch.block(), index.constant(plan.numParts));
  Value first =
      index.add(index.mul(part, index.constant(threads)), launch.thread());
  FailureOr<Scalar> value =
      emitter.foldPart(stage, index.delinearize(element, extents), first,
                       plan.numParts * threads);
  if (failed(value))
    return failure();
  Value whole = launch.reduceBlock(value->value, [&](Value x, Value y) {
    return emitter.combineParts(stage, x, y);
  });
  launch.onlyIf(index.less(launch.thread(), index.constant(1)), [&] {
    emitter.store({whole, stage.getElementType()}, partsMemory(launch, plan),
                  index.add(index.mul(part, launch.size(points)), element));
  });
  launch.finish();
  result.launches.push_back({name, simplify(points * plan.numParts), threads});
  return emitPartSums(group, symbol);
}

Value CudaKernelEmitter::partsMemory(LaunchBuilder &launch,
                                     const StagePlan &plan) {
  return launch.buffer(kernel.getArgumentTypes().size() +
                       kernel.getResultTypes().size() + *plan.parts);
}

// One thread an element: its parts in order, then the rest of the group.
LogicalResult CudaKernelEmitter::emitPartSums(Group group, StringRef symbol) {
  StagePlan &plan = group.front();
  StageOp stage = plan.stage;
  LaunchBuilder launch = newLaunch(symbol, kPointThreads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  Value memory = partsMemory(launch, plan);
  AffineExpr points = product(context, stage.getDomainDims());
  Value total = launch.size(points);
  Value i = index.add(index.mul(launch.block(), index.constant(kPointThreads)),
                      launch.thread());
  bool good = true;
  launch.onlyIf(index.less(i, total), [&] {
    auto partAt = [&](Value at) -> Value {
      return memref::LoadOp::create(b, loc, memory, at);
    };
    Value fold = launch.loop(index.constant(1), index.constant(plan.numParts),
                             index.constant(1), {partAt(i)},
                             [&](Value part, ValueRange so) {
                               Value at = index.add(index.mul(part, total), i);
                               return SmallVector<Value>{emitter.combineParts(
                                   stage, so[0], partAt(at))};
                             })[0];
    SmallVector<Value> point =
        index.delinearize(i, launch.sizes(stage.getDomainDims()));
    good = succeeded(storeGroup(launch, emitter, group,
                                emitter.addStart(stage, fold), point, i));
  });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(points.ceilDiv(kPointThreads)), kPointThreads});
  return success(good);
}
