// The launches of the layouts: points, tiles, rows (EmitFolds.cpp: reduce and
// slices).
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

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

LaunchBuilder CudaKernelEmitter::newLaunch(StringRef symbol,
                                           unsigned blockThreads,
                                           unsigned residentThreads) {
  return LaunchBuilder(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), blockThreads, residentThreads);
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

/// Stores the first stage's elements at a point and its neighbours along the
/// innermost axis, and those of the other stages there. Loads first: stores
/// between them would keep them apart.
LogicalResult CudaKernelEmitter::storeGroup(LaunchBuilder &launch,
                                            StageEmitter &emitter, Group group,
                                            ArrayRef<Scalar> first,
                                            ValueRange point, Value position) {
  IndexBuilder &index = launch.index();
  SmallVector<Scalar> elements;
  for (auto [k, element] : llvm::enumerate(first)) {
    SmallVector<Value> neighbour(point);
    if (k)
      neighbour.back() = index.add(point.back(), static_cast<int64_t>(k));
    if (failed(computeGroup(emitter, group, element, neighbour, elements)))
      return failure();
  }
  for (auto [k, element] : llvm::enumerate(elements))
    storeResults(launch, emitter, group[k % group.size()], element,
                 index.add(position, static_cast<int64_t>(k / group.size())));
  return success();
}

/// Adds the elements of all stages of the group at a point, of which the first
/// stage's is given.
LogicalResult
CudaKernelEmitter::computeGroup(StageEmitter &emitter, Group group,
                                FailureOr<Scalar> first, ValueRange point,
                                SmallVectorImpl<Scalar> &elements) {
  for (auto [i, plan] : llvm::enumerate(group)) {
    FailureOr<Scalar> element = i ? emitter.body(plan.stage, point) : first;
    if (failed(element))
      return failure();
    emitter.place(StageOp(plan.stage).getResult(), {Value(), *element, 0});
    elements.push_back(*element);
  }
  return success();
}

LogicalResult CudaKernelEmitter::emitPoints(Group group, StringRef symbol) {
  StageOp stage = group.front().stage;
  const unsigned blockThreads =
      unsigned(knob("point_threads").value_or(kPointThreads));
  LaunchBuilder launch = newLaunch(symbol, blockThreads);
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  IndexBuilder &index = launch.index();
  int64_t together = pointsAThread(group);
  AffineExpr points =
      product(context, stage.getDomainDims()).floorDiv(together);
  Value threads = index.constant(blockThreads);
  Value from = index.add(index.mul(launch.block(), threads), launch.thread());
  Value step = index.mul(launch.gridBlocks(), threads);
  bool good = true;
  launch.loop(from, launch.size(simplify(points)), step, [&](Value i) {
    Value first = index.mul(i, together);
    SmallVector<Value> point =
        index.delinearize(first, launch.sizes(stage.getDomainDims()));
    // Loads first: stores between them would keep them apart.
    SmallVector<Scalar> elements;
    for (int64_t k = 0; k < together && good; ++k) {
      SmallVector<Value> neighbour(point);
      if (k)
        neighbour.back() = index.add(point.back(), k);
      good = succeeded(computeGroup(emitter, group,
                                    emitter.element(stage, neighbour),
                                    neighbour, elements));
    }
    for (auto [k, element] : llvm::enumerate(elements))
      storeResults(launch, emitter, group[k % group.size()], element,
                   index.add(first, static_cast<int64_t>(k / group.size())));
  });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(points.ceilDiv(blockThreads)), blockThreads});
  return success(good);
}

LogicalResult CudaKernelEmitter::emitContraction(Group group,
                                                 const Contraction &chosen,
                                                 StringRef symbol) {
  Contraction match = chosen;
  if (match.usesWarpGroups() && options.portable)
    match = *portableForm(match);
  std::string tiles =
      match.stepsAPart ? (symbol + "__parts").str() : symbol.str();
  LaunchBuilder launch =
      newLaunch(tiles, match.threads, residentThreads(match));
  StageEmitter emitter(launch, options.strict);
  placeStages(launch, emitter);
  StageOp stage = group.front().stage;
  bool good = true;
  auto storeParts = [&](ArrayRef<Scalar> sums, ValueRange point) {
    IndexBuilder &index = launch.index();
    AffineExpr blocks = countTiles(match);
    Value part =
        index.div(launch.block(),
                  launch.size(simplify(blocks.floorDiv(countParts(match)))));
    Value points = launch.size(product(context, stage.getDomainDims()));
    Value first = index.add(index.mul(part, points),
                            emitter.linear(point, stage.getDomainDims()));
    for (auto [k, sum] : llvm::enumerate(sums))
      emitter.store(sum, partsMemory(launch, group.front()),
                    index.add(first, static_cast<int64_t>(k)));
  };
  auto store = [&](ArrayRef<Scalar> elements, ValueRange point) {
    if (match.stepsAPart)
      return storeParts(elements, point);
    good &= succeeded(storeGroup(launch, emitter, group, elements, point,
                                 emitter.linear(point, stage.getDomainDims())));
  };
  if (failed(emitTile(launch, emitter, match, store)) || !good)
    return failure();
  launch.finish();
  auto shared =
      static_cast<unsigned>(match.usesWarpGroups() ? sharedBytes(match) : 0);
  result.launches.push_back({tiles, countTiles(match), match.threads, shared});
  return match.stepsAPart ? emitPartSums(group, symbol) : success();
}

LogicalResult CudaKernelEmitter::emitGroup(Group group, StringRef symbol) {
  StageOp stage = group.front().stage;
  switch (layoutOf(group)) {
  case Layout::Tiles:
    result.nest = "contraction";
    return emitContraction(group, *contractionOf(stage), symbol);
  case Layout::Reduce:
    if (result.nest == "map")
      result.nest = "row";
    if (group.front().parts)
      return emitFoldParts(group, symbol);
    if (auto share = foldShare(group))
      return emitSharedRows(group, *share, stage.getDomainRank(), symbol);
    return emitFolds(group, foldCutOf(stage, /*isAlong=*/true), symbol);
  default:
    break;
  }
  if (stage.getFoldKind() != FoldKind::none && result.nest == "map")
    result.nest = "generic";
  switch (layoutOf(group)) {
  case Layout::Slices:
    return emitFolds(group, foldCutOf(stage, /*isAlong=*/false), symbol);
  case Layout::Turned:
    return emitTurned(group, *findTurn(group), symbol);
  default:
    return emitPoints(group, symbol);
  }
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
  LaunchBuilder launch = newLaunch(options.symbol, threads);
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
