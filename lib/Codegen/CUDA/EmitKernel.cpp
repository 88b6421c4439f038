// Chooses how a kernel is laid out over blocks and threads, and emits it.
//
// Stages without fold that read the stage before them at their own point are
// computed with it, in registers: a group. A launch computes a group, except
// that of rows, which computes all of them.
//
//   points   one thread per element, or per 16 bytes of them, grid-stride; a
//            fold is a loop in the thread (which also serves small products)
//   turned   as in points, for operands that are contiguous along another axis
//            than the results: tiles go through shared memory
//   rows     one launch: the stages share leading axes (the row); a fold over
//            the whole row is dealt out to the row's threads. Where stages pass
//            on values of the same element only, they stay in registers
//            (RowShare.h); else a row is a block's and they lie in shared
//            memory or a scratch buffer
//   reduce   as in points, but for a fold whose operands lie contiguous along
//            it: as a row that keeps nothing; a block per few elements that
//            share an operand (FoldCut.h); several blocks an element, where
//            elements are few and folds long
//   slices   as in points, but a block per line of elements, whose threads
//            share their folds, for few elements with long folds
//   opaque   the loops of an operator that no expression declares
//   tiles    a matrix product or convolution (Contraction.h)
//   attention  a softmax between two products: no score is stored (Attention.h)
//   library  a product or convolution that a library computes; a schedule has
//   to
//            name it. What else the kernel does is groups as above, before and
//            behind it
#include "EmitKernel.h"
#include "OpaqueKernel.h"

#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Schedule/Schedule.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// See rowsFillDevice.
static constexpr int64_t kEnoughRows = 32;
static constexpr int64_t kLongRow = 16 << 10;
static constexpr int64_t kMuchToFold = 256 << 10;

//===----------------------------------------------------------------------===//
// Analysis
//===----------------------------------------------------------------------===//

std::optional<unsigned> dlc::plainCoordinate(LoadOp load, unsigned i) {
  auto dim = dyn_cast<AffineDimExpr>(load.getMap().getResult(i));
  if (!dim)
    return std::nullopt;
  auto argument = dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()]);
  return argument ? std::optional<unsigned>(argument.getArgNumber())
                  : std::nullopt;
}

/// Lies in memory as it is computed with.
static bool isWhole(Type type) {
  return type.isF32() || type.isF64() || type.isInteger(32) ||
         type.isInteger(64);
}

// A strict fold keeps the declared rounding of products, which tiles do not:
// but for integers, which are not rounded.
std::optional<Contraction>
CudaKernelEmitter::contractionOf(StageOp stage) const {
  auto match = matchContraction(stage, options);
  if (!match || (options.strict && !match->isExact()))
    return std::nullopt;
  std::string reason; // isLegal has looked
  applyKnobs(*match, knobs, reason);
  return match;
}

/// The stage reads earlier stages only in its own row: the first `rank` axes.
bool CudaKernelEmitter::passesRow(StageOp stage, unsigned rank) const {
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
unsigned CudaKernelEmitter::rowRank() const {
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

// A block a row uses the device only with enough rows: fewer, with long rows or
// much to fold in each (a product), are better spread out.
bool CudaKernelEmitter::rowsFillDevice(unsigned rank) const {
  StageOp first = plans.front().stage;
  auto rows =
      constantValue(product(context, first.getDomainDims().take_front(rank)));
  if (!rows || *rows >= kEnoughRows)
    return true;
  return llvm::all_of(plans, [&](const StagePlan &plan) {
    auto elements = rowElements(plan.stage, rank);
    auto folded =
        constantValue(product(context, StageOp(plan.stage).getReduceDims()));
    return elements && folded && *elements <= kLongRow &&
           *elements * *folded <= kMuchToFold;
  });
}

std::optional<int64_t> CudaKernelEmitter::rowElements(StageOp stage,
                                                      unsigned rank) const {
  return constantValue(
      product(context, stage.getDomainDims().drop_front(rank)));
}

/// Every operand that changes along the innermost reduce axis lies contiguous
/// there, and none along the innermost domain axis: a row reduction, not a
/// matrix product or a window. Folds of less than a warp's threads are a
/// thread's own business.
bool CudaKernelEmitter::readsAlongFold(StageOp stage) const {
  if (stage.getReduceRank() == 0 || stage.getFoldKind() >= FoldKind::argmax)
    return false;
  auto folded = constantValue(product(context, stage.getReduceDims()));
  if (folded && *folded < kWarpThreads)
    return false;
  unsigned inner = stage.getDomainRank() + stage.getReduceRank() - 1;
  bool along = false, across = false;
  stage.walk([&](LoadOp load) {
    unsigned rank = load.getMap().getNumResults();
    for (auto [i, coordinate] : llvm::enumerate(load.getCoords())) {
      auto argument = dyn_cast<BlockArgument>(coordinate);
      if (rank && argument &&
          argument.getArgNumber() + 1 == stage.getDomainRank() &&
          load.getMap().getResult(rank - 1).isFunctionOfDim(i))
        across = true;
    }
    for (unsigned i = 0; i < rank; ++i) {
      auto coordinate = plainCoordinate(load, i);
      if (coordinate == inner)
        (i + 1 == rank ? along : across) = true;
    }
  });
  return along && !across;
}

// Parts of an element's fold, where elements are fewer than multiprocessors (an
// A100 has 108) and folds long: a block each.
int64_t CudaKernelEmitter::countFoldParts(StageOp stage) const {
  constexpr int64_t enough = 2 * 108, leastSteps = 4096;
  auto points = constantValue(product(context, stage.getDomainDims()));
  auto folded = constantValue(product(context, stage.getReduceDims()));
  if (options.strict || !points || *points == 0 || 4 * *points > enough ||
      !folded || *folded < 4 * leastSteps || !readsAlongFold(stage) ||
      !isWhole(stage.getElementType()))
    return 1;
  if (auto wanted = knob("fold_parts"))
    return *wanted;
  return std::min<int64_t>(llvm::divideCeil(enough, *points),
                           *folded / leastSteps);
}

// A thread an element would leave most of the device idle, with much to fold in
// each: products of few rows (a decoder's step).
bool CudaKernelEmitter::isFewLongFolds(StageOp stage) const {
  constexpr int64_t fewPoints = 512 << 10, longFold = 128;
  if (stage.getReduceRank() == 0 || stage.getFoldKind() >= FoldKind::argmax ||
      !isWhole(stage.getElementType()))
    return false;
  auto points = constantValue(product(context, stage.getDomainDims()));
  auto folded = constantValue(product(context, stage.getReduceDims()));
  return points && *points <= fewPoints && folded && *folded >= longFold;
}

// Neighbour elements of one thread are accesses of 16 bytes together, where
// the elements are many enough for all multiprocessors (an A100 has 108).
int64_t CudaKernelEmitter::pointsAThread(Group group) const {
  constexpr int64_t accessBytes = 16, most = 8, enough = 108 * kPointThreads;
  StageOp first = group.front().stage;
  if (first.getFoldKind() != FoldKind::none || first.getDomainRank() == 0)
    return 1;
  if (auto wanted = knob("point_elements"))
    return *wanted;
  int64_t bytes = 1;
  for (const StagePlan &plan : group) {
    StageOp stage = plan.stage;
    bytes = std::max(bytes, elementBytes(stage.getElementType()));
    stage.walk([&](LoadOp load) {
      auto type = cast<RankedTensorType>(load.getTensor().getType());
      bytes = std::max(bytes, elementBytes(type.getElementType()));
    });
  }
  int64_t count = std::min(accessBytes / bytes, most);
  auto inner = constantValue(first.getDomainDims().back());
  auto points = constantValue(product(context, first.getDomainDims()));
  if (count < 2 || !inner || *inner % count != 0 ||
      (points && *points / count < enough))
    return 1;
  return count;
}

// Enough threads for the longest thing a row does, in whole warps.
unsigned CudaKernelEmitter::rowThreads(unsigned rank) const {
  if (auto wanted = knob("row_threads"))
    return unsigned(*wanted);
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

void CudaKernelEmitter::addScratch(StagePlan &plan) {
  StageOp stage = plan.stage;
  plan.scratch = scratchTypes.size();
  scratchTypes.push_back(stage.getElementType());
  result.scratchBytes.push_back(
      simplify(product(context, stage.getDomainDims()) *
               elementBytes(stage.getElementType())));
}

/// A load reads its tensor at the point where its stage stands.
static bool isAtOwnPoint(LoadOp load) {
  if (load.getGuard() || !load.getMap().isIdentity())
    return false;
  for (unsigned i = 0; i < load.getMap().getNumResults(); ++i)
    if (plainCoordinate(load, i) != i)
      return false;
  return true;
}

SmallVector<CudaKernelEmitter::Group> CudaKernelEmitter::formGroups() {
  SmallVector<Group> groups;
  size_t begin = 0;
  for (size_t i = 1; i <= plans.size(); ++i) {
    bool joins = false;
    if (i < plans.size()) {
      StageOp stage = plans[i].stage, first = plans[begin].stage;
      joins = stage.getFoldKind() == FoldKind::none &&
              !(library && library->sum == first) &&
              stage.getDomainDims() == first.getDomainDims();
      stage.walk([&](LoadOp load) {
        auto source = load.getTensor().getDefiningOp<StageOp>();
        for (size_t k = begin; k < i; ++k)
          if (source == plans[k].stage)
            joins &= isAtOwnPoint(load);
      });
    }
    if (joins)
      continue;
    groups.push_back(Group(plans).slice(begin, i - begin));
    begin = i;
  }
  return groups;
}

bool CudaKernelEmitter::isReadOutside(const StagePlan &plan,
                                      Group group) const {
  return llvm::any_of(
      StageOp(plan.stage).getResult().getUsers(), [&](Operation *user) {
        auto reader = user->getParentOfType<StageOp>();
        return llvm::none_of(group, [&](const StagePlan &other) {
          return other.stage == reader;
        });
      });
}

unsigned CudaKernelEmitter::foldThreads(StageOp stage) const {
  if (auto wanted = knob("fold_threads"))
    return unsigned(*wanted);
  auto folded = constantValue(product(context, stage.getReduceDims()));
  unsigned threads = kWarpThreads;
  while (threads < kPointThreads && (!folded || threads < *folded))
    threads *= 2;
  return threads;
}

FoldCut CudaKernelEmitter::foldCutOf(StageOp stage, bool isAlong) const {
  FoldCut cut = chooseFoldCut(stage, isAlong);
  std::string reason; // isLegal has looked
  applyKnobs(cut, stage, knobs, reason);
  return cut;
}

/// Parts of the group's sums that a launch of their own adds up.
int64_t CudaKernelEmitter::partsOf(Group group) const {
  StageOp stage = group.front().stage;
  auto match = contractionOf(stage);
  return match ? countParts(*match) : countFoldParts(stage);
}

CudaKernelEmitter::Layout CudaKernelEmitter::layoutOf(Group group) const {
  StageOp stage = group.front().stage;
  if (contractionOf(stage))
    return Layout::Tiles;
  if (!options.strict && readsAlongFold(stage))
    return Layout::Reduce;
  if (!options.strict && isFewLongFolds(stage))
    return Layout::Slices;
  return findTurn(group) ? Layout::Turned : Layout::Points;
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

void CudaKernelEmitter::analyse() {
  if (!options.strict && !library)
    attention = planAttention(kernel, options);
  for (StageOp stage : kernel.getStages()) {
    StagePlan plan;
    plan.stage = stage;
    for (auto [i, value] : llvm::enumerate(kernel.getResultValues()))
      if (value == stage.getResult())
        plan.results.push_back(i);
    plans.push_back(std::move(plan));
  }
  if (plans.empty())
    return;
  bool hasContraction = llvm::any_of(plans, [&](const StagePlan &plan) {
    return contractionOf(plan.stage).has_value();
  });
  groups = formGroups();
  unsigned rank =
      groups.size() > 1 && !hasContraction && !library ? rowRank() : 0;
  rowAxes = rank > 0 && rowsFillDevice(rank) ? rank : 0;
}

void CudaKernelEmitter::addCall(const StagePlan &plan,
                                const std::string &symbol) {
  int64_t operands = kernel.getArgumentTypes().size(),
          buffers = operands + kernel.getResultTypes().size();
  int64_t place = library->isAlone ? operands
                  : plan.scratch   ? buffers + *plan.scratch
                                   : operands + plan.results.front();
  library->setPlaces(place, buffers + libraryWorkspace);
  CudaLaunch &launch = result.launches.emplace_back();
  launch.symbol = symbol;
  launch.gridBlocks = getAffineConstantExpr(1, context);
  launch.call = library->call;
}

FailureOr<CudaKernel> CudaKernelEmitter::emit() {
  result.symbol = options.symbol;
  result.module = ModuleOp::create(kernel.getLoc());
  auto schedule = getSchedule(kernel);
  if (!schedule)
    return kernel.emitOpError(llvm::toString(schedule.takeError())), failure();
  if (schedule->nest == kLibraryNest) {
    std::string reason;
    auto call = findLibraryCall(kernel, options, reason);
    if (failed(call))
      return kernel.emitOpError("schedule: nest 'library': " + reason),
             failure();
    library = *call;
  }
  analyse();
  if (!library && !readSchedule())
    return failure();
  if (attention) {
    AttentionPlan plan = *attention;
    std::string reason; // readSchedule has looked
    applyKnobs(plan, knobs, reason);
    if (succeeded(emitAttention(plan)))
      return std::move(result);
    // An expression that only stages have code for: stage by stage, as the
    // rules have it.
    knobs.clear();
    scratchTypes.clear();
    result = CudaKernel();
    result.symbol = options.symbol;
    result.module = ModuleOp::create(kernel.getLoc());
  }
  if (plans.empty())
    return kernel.emitOpError("has no stage"), failure();

  if (rowAxes) {
    result.nest = "row";
    auto share = rowShare(plans, rowAxes);
    if (failed(share ? emitSharedRows(plans, *share, rowAxes, options.symbol)
                     : emitRows(rowAxes)))
      return failure();
    return std::move(result);
  }
  if (library && library->needsWorkspace()) {
    libraryWorkspace = scratchTypes.size();
    scratchTypes.push_back(IntegerType::get(context, 8));
    result.scratchBytes.push_back(
        getAffineConstantExpr(kLibraryWorkspaceBytes, context));
  }
  if (library && library->isAlone) {
    addCall(plans.front(), options.symbol);
    result.nest = kLibraryNest;
    return std::move(result);
  }
  for (Group group : groups) {
    for (StagePlan &plan : group)
      if (plan.results.empty() && isReadOutside(plan, group))
        addScratch(plan);
    StagePlan &first = group.front();
    StageOp stage = first.stage;
    first.numParts =
        library && first.stage == library->sum ? 1 : partsOf(group);
    if (first.numParts > 1) {
      first.parts = scratchTypes.size();
      scratchTypes.push_back(stage.getElementType());
      result.scratchBytes.push_back(
          simplify(product(context, stage.getDomainDims()) *
                   (first.numParts * elementBytes(stage.getElementType()))));
    }
  }
  result.nest = "map";
  for (auto [i, group] : llvm::enumerate(groups)) {
    std::string symbol = groups.size() == 1
                             ? options.symbol
                             : options.symbol + "__" + std::to_string(i);
    if (library && group.front().stage == library->sum)
      addCall(group.front(), symbol);
    else if (failed(emitGroup(group, symbol)))
      return failure();
  }
  if (library)
    result.nest = kLibraryNest;
  return std::move(result);
}

FailureOr<CudaKernel> dlc::emitCudaKernel(KernelOp kernel,
                                          const CudaTarget &target,
                                          const CudaCodegenOptions &options) {
  FailureOr<CudaKernel> result =
      kernel.getOpaque() ? emitOpaqueKernel(kernel, options)
                         : CudaKernelEmitter(kernel, options).emit();
  if (failed(result) || failed(replaceMathCalls(*result->module)))
    return failure();
  return result;
}
