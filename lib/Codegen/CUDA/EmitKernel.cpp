// Chooses how a kernel is laid out over blocks and threads, and emits it.
//
//   points   one launch a stage: one thread per element, grid-stride; a fold is
//            a loop in the thread (which also serves small matrix products)
//   rows     one launch: one block per row. The stages share leading axes (the
//            row); a fold over the whole row is dealt out to the block's
//            threads, what stages pass on stays in registers, shared memory or
//            a scratch buffer
//   reduce   one launch a stage as in points, but a block per element for a
//            fold whose operands lie contiguous along the fold
//   opaque   the loops of an operator that no expression declares
//   tiles    one launch for a matrix product or convolution (Contraction.h)
#include "Contraction.h"
#include "OpaqueKernel.h"
#include "StageEmitter.h"

#include "dlc/Codegen/CUDA/CudaKernel.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

constexpr unsigned kPointThreads = 256;
/// Of shared memory that row buffers of one kernel may take: leaves room for
/// several blocks on a multiprocessor.
constexpr int64_t kRowBufferBytes = 32 << 10;

/// See rowsFillDevice.
constexpr int64_t kEnoughRows = 32;
constexpr int64_t kLongRow = 16 << 10;

/// A stage and where its value goes.
struct StagePlan {
  StageOp stage;
  /// Indices of the results this stage is.
  SmallVector<unsigned> results;
  /// Index of its scratch buffer, if it has one.
  std::optional<unsigned> scratch;
};

class KernelEmitter {
public:
  KernelEmitter(KernelOp kernel, const CudaCodegenOptions &options)
      : kernel(kernel), options(options), context(kernel.getContext()) {}

  FailureOr<CudaKernel> emit();

private:
  std::optional<Contraction> contractionOf(StageOp stage) const;
  unsigned rowRank() const;
  bool rowsFillDevice(unsigned rank) const;
  bool passesRow(StageOp stage, unsigned rank) const;
  bool readsAlongFold(StageOp stage) const;
  std::optional<int64_t> rowElements(StageOp stage, unsigned rank) const;
  unsigned rowThreads(unsigned rank) const;
  void addScratch(StagePlan &plan);
  SmallVector<Type> bufferTypes() const;
  void placeOperands(LaunchBuilder &launch, StageEmitter &emitter);
  Value resultMemory(LaunchBuilder &launch, const StagePlan &plan);
  void storeResults(LaunchBuilder &launch, StageEmitter &emitter,
                    const StagePlan &plan, Scalar element, Value position);

  LogicalResult emitPoints(StagePlan &plan, StringRef symbol);
  LogicalResult emitReduce(StagePlan &plan, StringRef symbol);
  LogicalResult emitContraction(StagePlan &plan, const Contraction &match,
                                StringRef symbol);
  LogicalResult emitStage(StagePlan &plan, StringRef symbol);
  LogicalResult emitRows(unsigned rank);
  LogicalResult emitRowStage(LaunchBuilder &launch, StageEmitter &emitter,
                             StagePlan &plan, ValueRange row);

  KernelOp kernel;
  const CudaCodegenOptions &options;
  MLIRContext *context;
  CudaKernel result;
  SmallVector<StagePlan> plans;
  /// Per scratch buffer.
  SmallVector<Type> scratchTypes;
};

} // namespace

//===----------------------------------------------------------------------===//
// Analysis
//===----------------------------------------------------------------------===//

// The block argument that result `i` of a load's map simply is.
static std::optional<unsigned> plainCoordinate(LoadOp load, unsigned i) {
  auto dim = dyn_cast<AffineDimExpr>(load.getMap().getResult(i));
  if (!dim)
    return std::nullopt;
  auto argument = dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()]);
  return argument ? std::optional<unsigned>(argument.getArgNumber())
                  : std::nullopt;
}

// A strict fold keeps the declared rounding of products, which tiles do not.
std::optional<Contraction> KernelEmitter::contractionOf(StageOp stage) const {
  return options.strict ? std::nullopt : matchContraction(stage);
}

/// The stage reads earlier stages only in its own row: the first `rank` axes.
bool KernelEmitter::passesRow(StageOp stage, unsigned rank) const {
  bool passes = true;
  stage.walk([&](LoadOp load) {
    if (!load.getTensor().getDefiningOp<StageOp>())
      return;
    for (unsigned i = 0; i < rank; ++i)
      if (plainCoordinate(load, i) != i)
        passes = false;
  });
  return passes;
}

// The largest number of leading axes that all stages have in common.
unsigned KernelEmitter::rowRank() const {
  StageOp first = plans.front().stage;
  unsigned rank = first.getDomainRank();
  for (const StagePlan &plan : plans) {
    ArrayRef<AffineExpr> dims = StageOp(plan.stage).getDomainDims();
    unsigned common = 0;
    while (common < std::min<size_t>(rank, dims.size()) &&
           simplify(dims[common] - first.getDomainDims()[common]) == 0)
      ++common;
    rank = common;
  }
  while (rank > 0 && !llvm::all_of(plans, [&](const StagePlan &plan) {
           return passesRow(plan.stage, rank);
         }))
    --rank;
  return rank;
}

// A block a row uses the device only with enough rows: fewer, with long rows,
// are better spread out point by point.
bool KernelEmitter::rowsFillDevice(unsigned rank) const {
  StageOp first = plans.front().stage;
  auto rows =
      constantValue(product(context, first.getDomainDims().take_front(rank)));
  if (!rows || *rows >= kEnoughRows)
    return true;
  return llvm::all_of(plans, [&](const StagePlan &plan) {
    auto elements = rowElements(plan.stage, rank);
    return elements && *elements <= kLongRow;
  });
}

std::optional<int64_t> KernelEmitter::rowElements(StageOp stage,
                                                  unsigned rank) const {
  return constantValue(
      product(context, stage.getDomainDims().drop_front(rank)));
}

/// Every operand that changes along the innermost reduce axis lies contiguous
/// there, and none along the innermost domain axis: a row reduction, not a
/// matrix product.
bool KernelEmitter::readsAlongFold(StageOp stage) const {
  if (stage.getReduceRank() == 0 || stage.getFoldKind() >= FoldKind::argmax)
    return false;
  unsigned inner = stage.getDomainRank() + stage.getReduceRank() - 1;
  bool along = false, across = false;
  stage.walk([&](LoadOp load) {
    unsigned rank = load.getMap().getNumResults();
    for (unsigned i = 0; i < rank; ++i) {
      auto coordinate = plainCoordinate(load, i);
      if (coordinate == inner)
        (i + 1 == rank ? along : across) = true;
      else if (i + 1 == rank && coordinate &&
               *coordinate + 1 == stage.getDomainRank())
        across = true;
    }
  });
  return along && !across;
}

// Enough threads for the longest thing a row does, in whole warps.
unsigned KernelEmitter::rowThreads(unsigned rank) const {
  int64_t longest = 1;
  for (const StagePlan &plan : plans) {
    StageOp stage = plan.stage;
    auto inner = rowElements(stage, rank);
    auto folded = constantValue(product(context, stage.getReduceDims()));
    if (!inner || !folded)
      return kPointThreads;
    longest = std::max(longest, *inner == 1 ? *folded : *inner);
  }
  unsigned threads = kWarpThreads;
  while (threads < kPointThreads && threads < longest)
    threads *= 2;
  return threads;
}

void KernelEmitter::addScratch(StagePlan &plan) {
  StageOp stage = plan.stage;
  plan.scratch = scratchTypes.size();
  scratchTypes.push_back(stage.getElementType());
  result.scratchBytes.push_back(
      simplify(product(context, stage.getDomainDims()) *
               elementBytes(stage.getElementType())));
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

SmallVector<Type> KernelEmitter::bufferTypes() const {
  SmallVector<Type> types;
  KernelOp op = kernel;
  for (Type type : op.getArgumentTypes())
    types.push_back(cast<RankedTensorType>(type).getElementType());
  for (Type type : op.getResultTypes())
    types.push_back(cast<RankedTensorType>(type).getElementType());
  llvm::append_range(types, scratchTypes);
  return types;
}

void KernelEmitter::placeOperands(LaunchBuilder &launch,
                                  StageEmitter &emitter) {
  for (auto [i, argument] :
       llvm::enumerate(kernel.getBody().front().getArguments()))
    emitter.place(argument, {launch.buffer(i), Scalar(), 0});
}

// The buffer in global memory that holds a stage's tensor; null: none does.
Value KernelEmitter::resultMemory(LaunchBuilder &launch,
                                  const StagePlan &plan) {
  unsigned operands = kernel.getArgumentTypes().size();
  if (!plan.results.empty())
    return launch.buffer(operands + plan.results.front());
  if (plan.scratch)
    return launch.buffer(operands + kernel.getResultTypes().size() +
                         *plan.scratch);
  return {};
}

void KernelEmitter::storeResults(LaunchBuilder &launch, StageEmitter &emitter,
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

LogicalResult KernelEmitter::emitPoints(StagePlan &plan, StringRef symbol) {
  StageOp stage = plan.stage;
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), kPointThreads);
  StageEmitter emitter(launch, options.strict);
  placeOperands(launch, emitter);
  for (const StagePlan &other : plans)
    emitter.place(StageOp(other.stage).getResult(),
                  {resultMemory(launch, other), Scalar(), 0});

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
    good = succeeded(element);
    if (good)
      storeResults(launch, emitter, plan, *element, i);
  });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), simplify(points.ceilDiv(kPointThreads)), kPointThreads});
  return success(good);
}

LogicalResult KernelEmitter::emitReduce(StagePlan &plan, StringRef symbol) {
  StageOp stage = plan.stage;
  auto folded = constantValue(product(context, stage.getReduceDims()));
  unsigned threads = kWarpThreads;
  while (threads < kPointThreads && (!folded || threads < *folded))
    threads *= 2;
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), threads);
  StageEmitter emitter(launch, options.strict);
  placeOperands(launch, emitter);
  for (const StagePlan &other : plans)
    emitter.place(StageOp(other.stage).getResult(),
                  {resultMemory(launch, other), Scalar(), 0});
  SmallVector<Value> point = launch.index().delinearize(
      launch.block(), launch.sizes(stage.getDomainDims()));
  FailureOr<Scalar> element = emitter.elementByBlock(stage, point);
  if (failed(element))
    return failure();
  launch.onlyIf(
      launch.index().less(launch.thread(), launch.index().constant(1)),
      [&] { storeResults(launch, emitter, plan, *element, launch.block()); });
  launch.finish();
  result.launches.push_back(
      {symbol.str(), product(context, stage.getDomainDims()), threads});
  return success();
}

LogicalResult KernelEmitter::emitContraction(StagePlan &plan,
                                             const Contraction &match,
                                             StringRef symbol) {
  LaunchBuilder launch(*result.module, symbol, bufferTypes(),
                       kernel.getNumSymbols(), kTileThreads);
  StageEmitter emitter(launch, options.strict);
  placeOperands(launch, emitter);
  for (const StagePlan &other : plans)
    emitter.place(StageOp(other.stage).getResult(),
                  {resultMemory(launch, other), Scalar(), 0});
  StageOp stage = plan.stage;
  auto store = [&](Scalar element, ValueRange point) {
    storeResults(launch, emitter, plan, element,
                 emitter.linear(point, stage.getDomainDims()));
  };
  if (failed(emitTile(launch, emitter, match, store)))
    return failure();
  launch.finish();
  result.launches.push_back({symbol.str(), countTiles(match), kTileThreads});
  return success();
}

LogicalResult KernelEmitter::emitStage(StagePlan &plan, StringRef symbol) {
  if (auto match = contractionOf(plan.stage)) {
    result.nest = "contraction";
    return emitContraction(plan, *match, symbol);
  }
  if (!options.strict && readsAlongFold(plan.stage)) {
    if (result.nest == "map")
      result.nest = "row";
    return emitReduce(plan, symbol);
  }
  if (StageOp(plan.stage).getFoldKind() != FoldKind::none &&
      result.nest == "map")
    result.nest = "generic";
  return emitPoints(plan, symbol);
}

LogicalResult KernelEmitter::emitRowStage(LaunchBuilder &launch,
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

LogicalResult KernelEmitter::emitRows(unsigned rank) {
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

FailureOr<CudaKernel> KernelEmitter::emit() {
  result.symbol = options.symbol;
  result.module = ModuleOp::create(kernel.getLoc());
  for (StageOp stage : kernel.getStages()) {
    StagePlan plan{stage, {}, std::nullopt};
    for (auto [i, value] : llvm::enumerate(kernel.getResultValues()))
      if (value == stage.getResult())
        plan.results.push_back(i);
    plans.push_back(std::move(plan));
  }
  if (plans.empty())
    return kernel.emitOpError("has no stage"), failure();

  bool hasContraction = llvm::any_of(plans, [&](const StagePlan &plan) {
    return contractionOf(plan.stage).has_value();
  });
  unsigned rank = plans.size() > 1 && !hasContraction ? rowRank() : 0;
  if (rank > 0 && rowsFillDevice(rank)) {
    result.nest = "row";
    if (failed(emitRows(rank)))
      return failure();
    return std::move(result);
  }
  for (StagePlan &plan : plans)
    if (plan.results.empty())
      addScratch(plan);
  result.nest = "map";
  for (auto [i, plan] : llvm::enumerate(plans)) {
    std::string symbol = plans.size() == 1
                             ? options.symbol
                             : options.symbol + "__" + std::to_string(i);
    if (failed(emitStage(plan, symbol)))
      return failure();
  }
  return std::move(result);
}

FailureOr<CudaKernel> dlc::emitCudaKernel(KernelOp kernel,
                                          const CudaTarget &target,
                                          const CudaCodegenOptions &options) {
  FailureOr<CudaKernel> result = kernel.getOpaque()
                                     ? emitOpaqueKernel(kernel, options)
                                     : KernelEmitter(kernel, options).emit();
  if (failed(result) || failed(replaceMathCalls(*result->module)))
    return failure();
  return result;
}
