// Every load of the operand, found by walking stages as their code computes
// them: from what a step stores through all that it does not find in memory.
#include "dlc/Check/InPlace.h"

#include "Inline.h"
#include "Values.h"
#include "mlir/IR/IntegerSet.h"

#include <set>

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

// Stages visited, each once for every point at which it is read.
static constexpr unsigned kMostVisits = 1 << 12;

namespace {
class InPlaceCheck {
public:
  InPlaceCheck(KernelOp kernel, const ComputeOrder &order, InPlacePair pair)
      : kernel(kernel), order(order), pair(pair), inliner(index, exprs) {}

  Admission check() {
    if (prepare() && checkSteps())
      if (auto why = inliner.failure())
        refuse(*why);
    if (reason.empty())
      return {};
    return {false, "result " + std::to_string(pair.result) +
                       " in place of operand " + std::to_string(pair.operand) +
                       " of kernel '" + kernel.getSymName().str() +
                       "': " + reason};
  }

private:
  /// A load of the operand that a step does.
  struct Read {
    unsigned stage; ///< the stored stage that it is for
    PolyId address; ///< in the coordinates of that stage
    ContextId context;
  };

  bool refuse(const Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }
  bool prepare();
  bool checkSteps();
  bool checkStoringStep(const ComputeStep &step);
  bool checkEarlierStep(const ComputeStep &step);
  bool collect(unsigned stored, SmallVectorImpl<Read> &reads);
  bool visit(unsigned stored, StageOp stage, ArrayRef<PolyId> at,
             uint32_t level, ContextId context, SmallVectorImpl<Read> &reads);
  SmallVector<PolyId> axesOf(StageOp stage);
  /// Row-major; an axis of one element has one place.
  PolyId addressOf(ArrayRef<PolyId> at, ArrayRef<PolyId> sizes);
  PolyId productOf(ArrayRef<PolyId> sizes) {
    PolyId product = index.constant(1);
    for (PolyId size : sizes)
      product = index.mul(product, size);
    return product;
  }

  KernelOp kernel;
  const ComputeOrder &order;
  InPlacePair pair;
  IndexArena index;
  ExprArena exprs{index};
  Inliner inliner;
  SmallVector<PolyId> symbols;
  uint32_t environment = 0;
  std::vector<StageOp> stages;
  unsigned resultStage = 0;
  SmallVector<PolyId> operandSizes, resultSizes;
  llvm::SmallDenseSet<Operation *> inMemory;
  std::set<std::vector<uint64_t>> seen; ///< of one stored stage
  unsigned visits = 0;
  std::string reason;
};
} // namespace

bool InPlaceCheck::prepare() {
  if (kernel.getOpaque())
    return refuse("an operator without expression");
  stages = kernel.getStages();
  if (pair.operand >= kernel.getArgumentTypes().size() ||
      pair.result >= kernel.getResultTypes().size())
    return refuse("the kernel has no such operand or result");
  symbols = ownSymbols(index, kernel.getNumSymbols());
  SmallVector<TensorId> operands;
  for (auto [i, arg] : llvm::enumerate(kernel.getBody().getArguments()))
    operands.push_back(inliner.leaf(i, arg.getType(), symbols));
  inliner.call(kernel, operands, symbols, &environment);

  auto operand =
      cast<RankedTensorType>(kernel.getArgumentTypes()[pair.operand]);
  auto result = cast<RankedTensorType>(kernel.getResultTypes()[pair.result]);
  operandSizes = inliner.sizes(getDims(operand), symbols);
  resultSizes = inliner.sizes(getDims(result), symbols);
  if (elementBytes(operand.getElementType()) !=
          elementBytes(result.getElementType()) ||
      !index.isZero(index.sub(productOf(operandSizes), productOf(resultSizes))))
    return refuse("they are not of one size");

  Value value = kernel.getResultValues()[pair.result];
  if (llvm::count(kernel.getResultValues(), value) != 1)
    return refuse("the result is stored more than once");
  auto found = llvm::find(stages, value.getDefiningOp<StageOp>());
  if (found == stages.end())
    return refuse("the result is no stage's");
  resultStage = found - stages.begin();
  for (const ComputeStep &step : order.steps)
    for (unsigned stage : step.stages) {
      if (stage >= stages.size())
        return refuse("a step stores a stage that there is not");
      if (!inMemory.insert(stages[stage]).second)
        return refuse("a stage is stored twice");
    }
  if (!inMemory.contains(stages[resultStage]))
    return refuse("no step stores the result");
  // A row is the same axes of every stage.
  for (const ComputeStep &step : order.steps)
    for (unsigned number : step.stages)
      if (order.byRows) {
        SmallVector<PolyId> sizes =
            inliner.sizes(stages[number].getDomainDims(), symbols);
        if (sizes.size() < order.rowRank ||
            resultSizes.size() < order.rowRank ||
            ArrayRef(sizes).take_front(order.rowRank) !=
                ArrayRef(resultSizes).take_front(order.rowRank))
          return refuse("stages have other rows than the result");
      }
  return true;
}

bool InPlaceCheck::checkSteps() {
  bool isStored = false;
  for (const ComputeStep &step : order.steps) {
    if (llvm::is_contained(step.stages, resultStage)) {
      isStored = true;
      if (!checkStoringStep(step))
        return false;
      continue;
    }
    if (!isStored) {
      if (order.byRows && !checkEarlierStep(step))
        return false;
      continue;
    }
    SmallVector<Read> reads;
    for (unsigned stage : step.stages)
      if (!collect(stage, reads))
        return false;
    if (!reads.empty())
      return refuse("stage " + Twine(reads[0].stage) +
                    " reads the operand after the result is stored");
  }
  return true;
}

bool InPlaceCheck::checkStoringStep(const ComputeStep &step) {
  if (!step.isPointwise)
    return refuse("the step that stores the result is not pointwise");
  SmallVector<Read> reads;
  for (unsigned stage : step.stages)
    if (!collect(stage, reads))
      return false;
  PolyId own = addressOf(axesOf(stages[resultStage]), resultSizes);
  for (const Read &read : reads) {
    if (read.stage != resultStage)
      return refuse("stage " + Twine(read.stage) +
                    " reads the operand in the step that stores the result");
    if (!index.isZero(
            index.rebuild(index.sub(read.address, own), read.context)))
      return refuse("the operand is read at " + index.str(read.address) +
                    ", the result is stored to " + index.str(own));
  }
  return true;
}

bool InPlaceCheck::checkEarlierStep(const ComputeStep &step) {
  SmallVector<Read> reads;
  for (unsigned stage : step.stages)
    if (!collect(stage, reads))
      return false;
  ArrayRef<PolyId> sizes = resultSizes;
  PolyId rowSize = productOf(sizes.drop_front(order.rowRank));
  for (const Read &read : reads) {
    SmallVector<PolyId> axes = axesOf(stages[read.stage]);
    PolyId row = addressOf(ArrayRef(axes).take_front(order.rowRank),
                           sizes.take_front(order.rowRank));
    PolyId rest = index.rebuild(
        index.sub(read.address, index.mul(row, rowSize)), read.context);
    PolyId left = index.sub(index.sub(rowSize, rest), index.constant(1));
    if (!index.isNonNegative(rest, read.context) ||
        !index.isNonNegative(left, read.context))
      return refuse("stage " + Twine(read.stage) + " reads the operand at " +
                    index.str(read.address) +
                    ", not shown to be in the row it computes");
  }
  return true;
}

SmallVector<PolyId> InPlaceCheck::axesOf(StageOp stage) {
  SmallVector<PolyId> axes;
  for (auto [i, size] :
       llvm::enumerate(inliner.sizes(stage.getDomainDims(), symbols)))
    axes.push_back(index.axis(0, i, size));
  return axes;
}

PolyId InPlaceCheck::addressOf(ArrayRef<PolyId> at, ArrayRef<PolyId> sizes) {
  PolyId address = index.constant(0);
  for (auto [coordinate, size] : llvm::zip_equal(at, sizes))
    address = index.add(index.mul(address, size), index.constantValue(size) == 1
                                                      ? index.constant(0)
                                                      : coordinate);
  return address;
}

bool InPlaceCheck::collect(unsigned stored, SmallVectorImpl<Read> &reads) {
  seen.clear();
  StageOp stage = stages[stored];
  return visit(stored, stage, axesOf(stage), /*level=*/0,
               index.withExtents(index.emptyContext(),
                                 inliner.sizes(stage.getDomainDims(), symbols)),
               reads);
}

bool InPlaceCheck::visit(unsigned stored, StageOp stage, ArrayRef<PolyId> at,
                         uint32_t level, ContextId context,
                         SmallVectorImpl<Read> &reads) {
  std::vector<uint64_t> key = {reinterpret_cast<uintptr_t>(&*stage), level,
                               context};
  key.insert(key.end(), at.begin(), at.end());
  if (!seen.insert(std::move(key)).second)
    return true;
  if (++visits > kMostVisits)
    return refuse("too many places are read");
  SmallVector<PolyId> dims(at),
      extents = inliner.sizes(stage.getReduceDims(), symbols);
  if (!extents.empty())
    ++level;
  for (auto [i, extent] : llvm::enumerate(extents))
    dims.push_back(index.axis(level, i, extent));
  context = index.withExtents(context, extents);
  const Inliner::Frame &frame = inliner.frame(environment, stage, dims, level);
  for (auto load : stage.getBlock()->getOps<LoadOp>()) {
    ContextId within = context;
    if (load.getGuard()) {
      auto guard =
          inliner.guard(*load.getGuard(), load.getCoords(), frame, context);
      if (!guard)
        continue; // nothing is read
      within = index.assume(context, *guard);
    }
    auto argument = dyn_cast<BlockArgument>(load.getTensor());
    StageOp source = load.getTensor().getDefiningOp<StageOp>();
    if (argument ? argument.getArgNumber() != pair.operand
                 : inMemory.contains(source))
      continue;
    SmallVector<PolyId> coords =
        inliner.coordinates(load.getMap(), load.getCoords(), frame, within);
    if (argument)
      reads.push_back({stored, addressOf(coords, operandSizes), within});
    else if (!visit(stored, source, coords, level, within, reads))
      return false;
    if (exprs.overflowed() || inliner.failure())
      return refuse("its indices are too large or too deep");
  }
  return true;
}

Admission check::admitInPlace(KernelOp kernel, const ComputeOrder &order,
                              InPlacePair pair) {
  return InPlaceCheck(kernel, order, pair).check();
}
