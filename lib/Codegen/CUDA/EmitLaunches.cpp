// The launches of the layouts: points, reduce, tiles, rows.
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

SmallVector<Type> CudaKernelEmitter::bufferTypes() const {
  SmallVector<Type> types;
  KernelOp op = kernel;
  for (Type type : op.getArgumentTypes())
    types.push_back(cast<RankedTensorType>(type).getElementType());
  for (Type type : op.getResultTypes())
    types.push_back(cast<RankedTensorType>(type).getElementType());
  llvm::append_range(types, scratchTypes);
  return types;
}

void CudaKernelEmitter::placeOperands(LaunchBuilder &launch,
                                      StageEmitter &emitter) {
  for (auto [i, argument] :
       llvm::enumerate(kernel.getBody().front().getArguments()))
    emitter.place(argument, {launch.buffer(i), Scalar(), 0});
}

// The buffer in global memory that holds a stage's tensor; null: none does.
Value CudaKernelEmitter::resultMemory(LaunchBuilder &launch,
                                      const StagePlan &plan) {
  unsigned operands = kernel.getArgumentTypes().size();
  if (!plan.results.empty())
    return launch.buffer(operands + plan.results.front());
  if (plan.scratch)
    return launch.buffer(operands + kernel.getResultTypes().size() +
                         *plan.scratch);
  return {};
}

void CudaKernelEmitter::storeResults(LaunchBuilder &launch,
                                     StageEmitter &emitter,
                                     const StagePlan &plan, Scalar element,
                                     Value position) {
  unsigned operands = kernel.getArgumentTypes().size();
  for (unsigned i : plan.results)
    emitter.store(element, launch.buffer(operands + i), position);
  if (plan.results.empty() && plan.scratch)
    emitter.store(element, resultMemory(launch, plan), position);
}

//===----------------------------------------------------------------------===//
// Layouts
//===----------------------------------------------------------------------===//

void CudaKernelEmitter::placeStages(LaunchBuilder &launch,
                                    StageEmitter &emitter) {
  placeOperands(launch, emitter);
  for (const StagePlan &plan : plans)
    emitter.place(StageOp(plan.stage).getResult(),
                  {resultMemory(launch, plan), Scalar(), 0});
}

/// Stores the first stage's element at a point, then computes and stores those
/// of the other stages there.
LogicalResult CudaKernelEmitter::storeGroup(LaunchBuilder &launch,
                                            StageEmitter &emitter, Group group,
                                            Scalar first, ValueRange point,
                                            Value position) {
  Scalar element = first;
  for (auto [i, plan] : llvm::enumerate(group)) {
    if (i) {
      FailureOr<Scalar> next = emitter.body(plan.stage, point);
      if (failed(next))
        return failure();
      element = *next;
    }
    storeResults(launch, emitter, plan, element, position);
    emitter.place(StageOp(plan.stage).getResult(), {Value(), element, 0});
  }
  return success();
}

LogicalResult CudaKernelEmitter::emitPoints(Group group, StringRef symbol) {
  StageOp stage = group.front().stage;
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), kPointThreads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  AffineExpr points = product(context, stage.getDomainDims());
  Value threads = index.constant(kPointThreads);
  Value from = index.add(index.mul(launch.block(), threads), launch.thread());
  Value step = index.mul(launch.gridBlocks(), threads);
  bool good = true;
  launch.loop(from, launch.size(points), step, [&](Value i) {
    SmallVector<Value> point =
        index.delinearize(i, launch.sizes(stage.getDomainDims()));
    FailureOr<Scalar> element = emitter.element(stage, point);
    good = succeeded(element) &&
           succeeded(storeGroup(launch, emitter, group, *element, point, i));
  });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(points.ceilDiv(kPointThreads)), kPointThreads});
  return success(good);
}

LogicalResult CudaKernelEmitter::emitReduce(Group group, StringRef symbol) {
  StageOp stage = group.front().stage;
  auto folded = constantValue(product(context, stage.getReduceDims()));
  unsigned threads = kWarpThreads;
  while (threads < kPointThreads && (!folded || threads < *folded))
    threads *= 2;
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), threads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  SmallVector<Value> point = launch.index().delinearize(
      launch.block(), launch.sizes(stage.getDomainDims()));
  FailureOr<Scalar> element = emitter.elementByBlock(stage, point);
  if (failed(element))
    return failure();
  bool good = true;
  launch.onlyIf(
      launch.index().less(launch.thread(), launch.index().constant(1)), [&] {
        good = succeeded(storeGroup(launch, emitter, group, *element, point,
                                    launch.block()));
      });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), product(context, stage.getDomainDims()), threads});
  return success(good);
}

LogicalResult CudaKernelEmitter::emitContraction(Group group,
                                                 const Contraction &match,
                                                 StringRef symbol) {
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), kTileThreads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  StageOp stage = group.front().stage;
  bool good = true;
  auto store = [&](Scalar element, ValueRange point) {
    good &= succeeded(storeGroup(launch, emitter, group, element, point,
                                 emitter.linear(point, stage.getDomainDims())));
  };
  if (failed(emitTile(launch, emitter, match, store)) || !good)
    return failure();
  launch.finish();
  result.launches.push_back({symbol.str(), countTiles(match), kTileThreads});
  return success();
}

LogicalResult CudaKernelEmitter::emitGroup(Group group, StringRef symbol) {
  StageOp stage = group.front().stage;
  if (auto match = contractionOf(stage)) {
    result.nest = "contraction";
    return emitContraction(group, *match, symbol);
  }
  if (!options.strict && readsAlongFold(stage)) {
    if (result.nest == "map")
      result.nest = "row";
    return emitReduce(group, symbol);
  }
  if (stage.getFoldKind() != FoldKind::none && result.nest == "map")
    result.nest = "generic";
  return emitPoints(group, symbol);
}

LogicalResult CudaKernelEmitter::emitRowStage(LaunchBuilder &launch,
                                              StageEmitter &emitter,
                                              StagePlan &plan, ValueRange row) {
  StageOp stage = plan.stage;
  IndexBuilder &index = launch.index();
  unsigned rank = row.size();
  ArrayRef<AffineExpr> innerDims = stage.getDomainDims().drop_front(rank);
  auto elements = rowElements(stage, rank);
  Value rowStart =
      index.mul(launch.block(), launch.size(product(context, innerDims)));
  FoldKind kind = stage.getFoldKind();
  if (elements == 1) {
    // One element a row: every thread has it.
    SmallVector<Value> point(row);
    point.append(innerDims.size(), index.constant(0));
    bool together =
        kind != FoldKind::none && kind < FoldKind::argmax && !options.strict;
    FailureOr<Scalar> element = together ? emitter.elementByBlock(stage, point)
                                         : emitter.element(stage, point);
    if (failed(element))
      return failure();
    emitter.place(stage.getResult(), {Value(), *element, 0});
    if (!plan.results.empty())
      launch.onlyIf(index.less(launch.thread(), index.constant(1)), [&] {
        storeResults(launch, emitter, plan, *element, rowStart);
      });
    return success();
  }

  // Many elements: dealt out to the threads, kept where later stages find them.
  Value kept;
  if (plan.results.empty() && !plan.scratch)
    kept = launch.shared(getStorageType(stage.getElementType()), *elements);
  bool good = true;
  launch.loop(launch.thread(), launch.size(product(context, innerDims)),
              index.constant(launch.blockThreads()), [&](Value i) {
                SmallVector<Value> point(row);
                llvm::append_range(
                    point, index.delinearize(i, launch.sizes(innerDims)));
                FailureOr<Scalar> element = emitter.element(stage, point);
                good = succeeded(element);
                if (!good)
                  return;
                if (kept)
                  emitter.store(*element, kept, i);
                storeResults(launch, emitter, plan, *element,
                             index.add(rowStart, i));
              });
  if (kept)
    emitter.place(stage.getResult(), {kept, Scalar(), rank});
  else
    emitter.place(stage.getResult(), {resultMemory(launch, plan), Scalar(), 0});
  // Later stages may read what other threads wrote; after the last stage nobody
  // reads any more.
  if (stage != StageOp(plans.back().stage))
    launch.barrier();
  return success(good);
}

LogicalResult CudaKernelEmitter::emitRows(unsigned rank) {
  // Row buffers of a known and small size stay in shared memory.
  int64_t sharedLeft = kRowBufferBytes;
  for (StagePlan &plan : plans) {
    auto elements = rowElements(plan.stage, rank);
    if (!plan.results.empty() || elements == 1)
      continue;
    int64_t bytes = elements.value_or(0) *
                    elementBytes(StageOp(plan.stage).getElementType());
    if (elements && bytes <= sharedLeft)
      sharedLeft -= bytes;
    else
      addScratch(plan);
  }
  unsigned threads = rowThreads(rank);
  LaunchBuilder launch(*result.module, options.symbol, bufferTypes(),
                       kernel.getNumSymbols(), threads);
  StageEmitter emitter(launch, options.strict);
  placeOperands(launch, emitter);
  ArrayRef<AffineExpr> rowDims =
      StageOp(plans.front().stage).getDomainDims().take_front(rank);
  SmallVector<Value> row =
      launch.index().delinearize(launch.block(), launch.sizes(rowDims));
  for (StagePlan &plan : plans)
    if (failed(emitRowStage(launch, emitter, plan, row)))
      return failure();
  launch.finish();
  result.launches.push_back(
      {options.symbol, product(context, rowDims), threads});
  return success();
}
