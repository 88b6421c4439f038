// Rows whose stages hand each other values of the same element only, and folds
// of whole rows: softmax, normalizations. A thread keeps its elements of a row
// in registers from stage to stage, reads each operand once, in 16-byte pieces,
// and waits for the block's other threads only where it folds. Places behind a
// row's end are those of its last piece, computed and neither folded nor
// stored, so that all of a thread's loads are under way together.
#include "EmitKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

//===----------------------------------------------------------------------===//
// Which kernels
//===----------------------------------------------------------------------===//

/// The axes of these that are not 1, as numbers from `first` on.
static SmallVector<unsigned> wideAxes(ArrayRef<AffineExpr> dims,
                                      unsigned first) {
  SmallVector<unsigned> axes;
  for (auto [i, dim] : llvm::enumerate(dims))
    if (constantValue(dim) != 1)
      axes.push_back(first + i);
  return axes;
}

/// The axes along which a stage walks over its row.
static SmallVector<unsigned> walkOf(StageOp stage, unsigned rank) {
  auto own = wideAxes(stage.getDomainDims().drop_front(rank), rank);
  return own.empty() ? wideAxes(stage.getReduceDims(), stage.getDomainRank())
                     : own;
}

static SmallVector<AffineExpr> extentsOf(StageOp stage) {
  SmallVector<AffineExpr> extents(stage.getDomainDims());
  llvm::append_range(extents, stage.getReduceDims());
  return extents;
}

/// The stage of the group that the load reads; null: it reads memory.
static StageOp sourceIn(ArrayRef<StagePlan> group, LoadOp load) {
  for (const StagePlan &plan : group)
    if (load.getTensor() == StageOp(plan.stage).getResult())
      return plan.stage;
  return {};
}

/// Every stage's element of a row that this one reads is the one it stands at.
static bool readsOwnElements(StageOp stage, ArrayRef<StagePlan> group,
                             unsigned rank) {
  SmallVector<unsigned> walk = walkOf(stage, rank);
  bool own = true;
  stage.walk([&](LoadOp load) {
    StageOp source = sourceIn(group, load);
    if (!source)
      return;
    auto axes = wideAxes(source.getDomainDims().drop_front(rank), rank);
    if (axes.empty())
      return;
    if (load.getGuard() || axes.size() != walk.size()) {
      own = false;
      return;
    }
    for (auto [axis, wanted] : llvm::zip_equal(axes, walk))
      own &= plainCoordinate(load, axis) == wanted;
  });
  return own;
}

/// Only places in memory depend on where in the row the stage stands, and each
/// lies as far behind the row's first as the element does.
static bool readsFlat(StageOp stage, unsigned rank) {
  SmallVector<unsigned> walk = walkOf(stage, rank);
  SmallVector<AffineExpr> all = extentsOf(stage);
  auto isWalked = [&](Value coordinate) {
    auto argument = dyn_cast<BlockArgument>(coordinate);
    return !argument || llvm::is_contained(walk, argument.getArgNumber());
  };
  bool flat = true;
  stage.walk([&](Operation *op) {
    auto load = dyn_cast<LoadOp>(op);
    if (isa<CoordOp, InsideOp, ToIndexOp>(op))
      flat = false;
    if (!load || llvm::none_of(load.getCoords(), isWalked))
      return;
    AffineMap map = load.getMap();
    SmallVector<AffineExpr> sizes = getDims(load.getTensor().getType());
    unsigned first = 0; // of the load's axes that change
    auto changes = [&](unsigned axis) {
      return llvm::any_of(llvm::enumerate(load.getCoords()), [&](auto it) {
        return isWalked(it.value()) &&
               map.getResult(axis).isFunctionOfDim(it.index());
      });
    };
    while (first < sizes.size() && !changes(first))
      ++first;
    if (first == sizes.size())
      return; // the coordinates are given, and not looked at
    if (load.getGuard() || sizes.size() - first != walk.size()) {
      flat = false;
      return;
    }
    for (auto [i, axis] : llvm::enumerate(walk))
      flat &= plainCoordinate(load, first + i) == axis &&
              simplify(sizes[first + i] - all[axis]) == 0;
  });
  return flat;
}

std::optional<RowShare> CudaKernelEmitter::rowShare(Group group,
                                                    unsigned rank) const {
  if (options.strict)
    return std::nullopt;
  RowShare share;
  int64_t bytes = 1;
  for (const StagePlan &plan : group) {
    StageOp stage = plan.stage;
    FoldKind kind = stage.getFoldKind();
    auto own = wideAxes(stage.getDomainDims().drop_front(rank), rank);
    bool folds = kind != FoldKind::none;
    if (kind >= FoldKind::argmax || (folds && !own.empty()) ||
        !readsOwnElements(stage, group, rank))
      return std::nullopt;
    SmallVector<unsigned> walk = walkOf(stage, rank);
    if (folds && walk.size() != wideAxes(stage.getReduceDims(), 0).size())
      return std::nullopt;
    if (walk.empty()) {
      if (folds)
        return std::nullopt;
      continue;
    }
    SmallVector<AffineExpr> all = extentsOf(stage), axes;
    for (unsigned axis : walk)
      axes.push_back(simplify(all[axis]));
    if (share.axes.empty())
      share.axes = axes;
    if (share.axes != axes)
      return std::nullopt;
    bool isStored = !plan.results.empty() && !folds;
    if (isStored)
      bytes = std::max(bytes, elementBytes(stage.getElementType()));
    stage.walk([&](LoadOp load) {
      auto type = cast<RankedTensorType>(load.getTensor().getType());
      if (!sourceIn(group, load))
        bytes = std::max(bytes, elementBytes(type.getElementType()));
    });
  }
  if (share.axes.empty())
    return std::nullopt;
  constexpr int64_t accessBytes = 16, most = 8;
  int64_t together = std::min(accessBytes / bytes, most);
  // Then a row's axes are walked as one.
  if (share.axes.size() > 1 && llvm::all_of(group, [&](const StagePlan &plan) {
        return readsFlat(plan.stage, rank);
      }))
    share.axes = {simplify(product(context, share.axes))};
  auto inner = constantValue(share.axes.back());
  while (together > 1 && (!inner || *inner % together != 0))
    together /= 2;
  share.elements = constantValue(product(context, share.axes));
  if (share.elements == 0)
    return std::nullopt;
  StageOp first = group.front().stage;
  share.rows =
      constantValue(product(context, first.getDomainDims().take_front(rank)));
  shareRows(share, together);
  return share;
}

//===----------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------===//

namespace dlc {

class RowEmitter {
public:
  using Group = CudaKernelEmitter::Group;
  RowEmitter(CudaKernelEmitter &owner, Group group, const RowShare &share,
             unsigned rank, StringRef symbol);
  LogicalResult emit();

private:
  /// Where a thread's elements are in one step of a pass.
  struct Step {
    SmallVector<Value> positions; ///< in the row
    SmallVector<SmallVector<Value>> coordinates;
    SmallVector<Value> isInside; ///< of a piece; null: always
  };
  Step stepAt(Value firstPiece, bool isInside);
  SmallVector<Value> pointOf(StageOp stage, ValueRange walked);
  LogicalResult compute(StageOp stage, const Step &step,
                        SmallVectorImpl<Scalar> &elements);
  LogicalResult computeSources(StageOp stage, const Step &step);
  /// `body` with each step, in a loop unless the thread has its row at once.
  SmallVector<Value>
  pass(ValueRange carried,
       llvm::function_ref<SmallVector<Value>(const Step &, ValueRange carried)>
           body);
  LogicalResult emitFold(StagePlan &plan);
  LogicalResult emitElements(StagePlan &plan);
  LogicalResult emitOne(StagePlan &plan);
  void storeOne(StagePlan &plan, Scalar element);
  void onlyIf(ArrayRef<Value> conditions, llvm::function_ref<void()> body);

  CudaKernelEmitter &owner;
  Group group;
  const RowShare &share;
  unsigned rank;
  StringRef symbol;
  LaunchBuilder launch;
  StageEmitter emitter;
  IndexBuilder &index;
  Value lane, row, isRow; ///< a thread of the row; the row; null: it is one
  SmallVector<Value> rowPoint;
  std::optional<Step> whole; ///< where the thread has its row at once
  /// The thread's elements of a stage, where it keeps them.
  llvm::DenseMap<Value, SmallVector<Scalar>> kept;
};

} // namespace dlc

RowEmitter::RowEmitter(CudaKernelEmitter &owner, Group group,
                       const RowShare &share, unsigned rank, StringRef symbol)
    : owner(owner), group(group), share(share), rank(rank), symbol(symbol),
      launch(owner.newLaunch(symbol, unsigned(share.blockThreads()))),
      emitter(launch, owner.options.strict), index(launch.index()) {}

void RowEmitter::onlyIf(ArrayRef<Value> conditions,
                        llvm::function_ref<void()> body) {
  Value all;
  for (Value condition : conditions)
    if (condition)
      all = all ? arith::AndIOp::create(launch.builder(), launch.loc(), all,
                                        condition)
                      .getResult()
                : condition;
  all ? launch.onlyIf(all, body) : body();
}

RowEmitter::Step RowEmitter::stepAt(Value firstPiece, bool isInside) {
  Step step;
  Value count = index.div(launch.size(product(owner.context, share.axes)),
                          index.constant(share.together));
  Value last = index.sub(count, index.constant(1));
  auto known = IndexBuilder::constantOf(count),
       first = IndexBuilder::constantOf(firstPiece);
  SmallVector<Value> extents = launch.sizes(share.axes);
  for (int64_t i = 0; i < share.pieces; ++i) {
    Value piece = index.add(index.add(firstPiece, lane), i * share.threads);
    bool isIn = isInside ||
                (known && first && *first + (i + 1) * share.threads <= *known);
    step.isInside.push_back(isIn ? Value() : index.less(piece, count));
    if (!isIn)
      piece = index.min(piece, last);
    Value position = index.mul(piece, share.together);
    SmallVector<Value> walked = index.delinearize(position, extents);
    for (int64_t k = 0; k < share.together; ++k) {
      step.positions.push_back(index.add(position, k));
      step.coordinates.push_back(walked);
      step.coordinates.back().back() = index.add(walked.back(), k);
    }
  }
  return step;
}

/// The stage's coordinates (domain, then reduce) at an element of the row.
SmallVector<Value> RowEmitter::pointOf(StageOp stage, ValueRange walked) {
  SmallVector<Value> point(rowPoint);
  point.resize(extentsOf(stage).size(), index.constant(0));
  // Where axes are walked as one, the last has it all.
  SmallVector<unsigned> walk = walkOf(stage, rank);
  for (auto [axis, coordinate] :
       llvm::zip_equal(ArrayRef(walk).take_back(walked.size()), walked))
    point[axis] = coordinate;
  return point;
}

/// The stage's value at each element of the step.
LogicalResult RowEmitter::compute(StageOp stage, const Step &step,
                                  SmallVectorImpl<Scalar> &elements) {
  if (failed(computeSources(stage, step)))
    return failure();
  for (auto [i, walked] : llvm::enumerate(step.coordinates)) {
    for (auto &[tensor, values] : kept)
      emitter.place(tensor, {Value(), values[i], 0});
    FailureOr<Scalar> element = emitter.body(stage, pointOf(stage, walked));
    if (failed(element))
      return failure();
    elements.push_back(*element);
  }
  return success();
}

/// What the stage reads of other stages' elements at the step's.
LogicalResult RowEmitter::computeSources(StageOp stage, const Step &step) {
  SmallVector<StageOp> sources;
  stage.walk([&](LoadOp load) {
    StageOp source = sourceIn(group, load);
    if (source && source.getFoldKind() == FoldKind::none &&
        !wideAxes(source.getDomainDims().drop_front(rank), rank).empty())
      sources.push_back(source);
  });
  for (StageOp source : sources) {
    if (kept.count(source.getResult()))
      continue;
    SmallVector<Scalar> elements;
    if (failed(compute(source, step, elements)))
      return failure();
    kept[source.getResult()] = std::move(elements);
  }
  return success();
}

SmallVector<Value> RowEmitter::pass(
    ValueRange carried,
    llvm::function_ref<SmallVector<Value>(const Step &, ValueRange)> body) {
  if (whole)
    return body(*whole, carried);
  Value count = index.div(launch.size(product(owner.context, share.axes)),
                          index.constant(share.together));
  Value step = index.constant(share.pieces * share.threads);
  // Steps that are wholly inside, and a last one that may not be.
  Value inside = index.mul(index.div(count, step), step);
  SmallVector<Value> results(carried);
  for (bool isLast : {false, true}) {
    results = launch.loop(isLast ? inside : index.constant(0),
                          isLast ? count : inside, step, results,
                          [&](Value first, ValueRange so) {
                            kept.clear();
                            emitter.forgetLoads();
                            return body(stepAt(first, !isLast), so);
                          });
    kept.clear();
    emitter.forgetLoads();
    if (IndexBuilder::constantOf(count) &&
        IndexBuilder::constantOf(count) == IndexBuilder::constantOf(inside))
      break;
  }
  return results;
}

void RowEmitter::storeOne(StagePlan &plan, Scalar element) {
  emitter.place(StageOp(plan.stage).getResult(),
                {Value(), element, 0, /*isOfRow=*/true});
  if (!plan.results.empty() || plan.scratch)
    onlyIf({index.less(lane, index.constant(1)), isRow},
           [&] { owner.storeResults(launch, emitter, plan, element, row); });
}

LogicalResult RowEmitter::emitFold(StagePlan &plan) {
  StageOp stage = plan.stage;
  OpBuilder &b = launch.builder();
  auto combine = [&](Value x, Value y) {
    return emitter.combineParts(stage, x, y);
  };
  Value identity = emitter.identity(stage);
  bool good = true;
  Value part = pass({identity}, [&](const Step &step, ValueRange carried) {
    SmallVector<Scalar> elements;
    good = succeeded(compute(stage, step, elements));
    if (!good)
      return SmallVector<Value>(carried);
    Value sum = whole ? Value() : carried[0];
    for (int64_t piece = 0; piece < share.pieces; ++piece) {
      Value of;
      for (int64_t k = 0; k < share.together; ++k) {
        Value value = elements[piece * share.together + k].value;
        of = of ? combine(of, value) : value;
      }
      if (Value isInside = step.isInside[piece])
        of = arith::SelectOp::create(b, launch.loc(), isInside, of, identity);
      sum = sum ? combine(sum, of) : of;
    }
    return SmallVector<Value>{sum};
  })[0];
  if (!good)
    return failure();
  Value fold = share.threads > kWarpThreads
                   ? launch.reduceBlock(part, combine)
                   : launch.reduceLanes(part, unsigned(share.threads), combine);
  storeOne(plan, emitter.addStart(stage, fold));
  return success();
}

LogicalResult RowEmitter::emitElements(StagePlan &plan) {
  StageOp stage = plan.stage;
  bool good = true;
  Value start = index.mul(row, launch.size(product(owner.context, share.axes)));
  auto computeAndStore = [&](const Step &step, ValueRange) {
    SmallVector<Scalar> elements;
    good = succeeded(compute(stage, step, elements));
    if (!good)
      return SmallVector<Value>();
    for (int64_t piece = 0; piece < share.pieces; ++piece)
      onlyIf({step.isInside[piece], isRow}, [&] {
        for (int64_t k = piece * share.together, end = k + share.together;
             k < end; ++k)
          owner.storeResults(launch, emitter, plan, elements[k],
                             index.add(start, step.positions[k]));
      });
    if (whole)
      kept[stage.getResult()] = std::move(elements);
    return SmallVector<Value>();
  };
  if (whole || !plan.results.empty() || plan.scratch)
    pass({}, computeAndStore);
  return success(good);
}

LogicalResult RowEmitter::emitOne(StagePlan &plan) {
  FailureOr<Scalar> element = emitter.body(plan.stage, pointOf(plan.stage, {}));
  if (failed(element))
    return failure();
  storeOne(plan, *element);
  return success();
}

LogicalResult RowEmitter::emit() {
  owner.placeStages(launch, emitter);
  emitter.reuseLoads();
  ArrayRef<AffineExpr> rowDims =
      StageOp(group.front().stage).getDomainDims().take_front(rank);
  AffineExpr rows = product(owner.context, rowDims);
  Value threads = index.constant(share.threads);
  lane = launch.thread();
  row = launch.block();
  if (share.blockRows > 1) {
    lane = index.rem(launch.thread(), threads);
    row = index.add(index.mul(row, share.blockRows),
                    index.div(launch.thread(), threads));
    if (!share.rows || *share.rows % share.blockRows) {
      Value count = launch.size(rows);
      isRow = index.less(row, count);
      row = index.min(row, index.sub(count, index.constant(1)));
    }
  }
  rowPoint = index.delinearize(row, launch.sizes(rowDims));
  if (share.keeps)
    whole = stepAt(index.constant(0), /*isInside=*/false);
  for (StagePlan &plan : group) {
    StageOp stage = plan.stage;
    LogicalResult done = stage.getFoldKind() != FoldKind::none ? emitFold(plan)
                         : walkOf(stage, rank).empty() ? emitOne(plan)
                                                       : emitElements(plan);
    if (failed(done))
      return failure();
  }
  launch.finish();
  owner.result.launches.push_back({symbol.str(),
                                   simplify(rows.ceilDiv(share.blockRows)),
                                   unsigned(share.blockThreads())});
  return success();
}

LogicalResult CudaKernelEmitter::emitSharedRows(Group group, RowShare share,
                                                unsigned rank,
                                                StringRef symbol) {
  std::string reason; // readSchedule has looked
  applyKnobs(share, knobs, reason);
  return RowEmitter(*this, group, share, rank, symbol).emit();
}

std::optional<RowShare> CudaKernelEmitter::foldShare(Group group) const {
  StageOp stage = group.front().stage;
  // Elements that share an operand fold together.
  FoldCut cut = chooseFoldCut(stage, /*isAlong=*/true);
  if (countFoldParts(stage) > 1 || cut.columns > 1 || cut.rows > 1)
    return std::nullopt;
  return rowShare(group, stage.getDomainRank());
}
