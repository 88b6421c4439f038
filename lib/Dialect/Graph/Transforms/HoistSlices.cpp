// graph-hoist-slices: what is computed and never read is not computed.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/Requirements.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <cmath>

namespace dlc::graph {
#define GEN_PASS_DEF_HOISTSLICES
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// Integers below it are exact as f64.
static constexpr double kExact = 9007199254740992.0;

namespace {
/// Along one axis: element i is the tensor's start + i * step.
struct Range {
  AffineExpr start;
  int64_t step = 1;
  AffineExpr size;
  bool isWhole = false;

  bool operator==(const Range &other) const {
    return start == other.start && step == other.step && size == other.size;
  }
};
using Window = SmallVector<Range>;
} // namespace

static bool areEqual(AffineExpr a, AffineExpr b) {
  return a == b || constantValue(simplify(a - b)) == 0;
}

static Range wholeAxis(AffineExpr size) {
  return {getAffineConstantExpr(0, size.getContext()), 1, size, true};
}

static Window wholeOf(Value value) {
  return llvm::map_to_vector(getDims(value.getType()), wholeAxis);
}

static Window windowOf(SliceOp slice) {
  Window window;
  for (auto [start, step, size, dim] :
       llvm::zip(slice.getStarts().getDims(), slice.getSteps(),
                 getDims(slice.getType()), getDims(slice.getX().getType())))
    window.push_back(
        {start, step, size,
         constantValue(start) == 0 && step == 1 && areEqual(size, dim)});
  return window;
}

/// Whether the window leaves out at least half of its tensor, and along no axis
/// only a little: then computing what it leaves out is felt.
static bool isNarrow(const Window &window, ArrayRef<AffineExpr> dims) {
  bool isSmaller = false;
  for (auto [range, dim] : llvm::zip(window, dims)) {
    if (range.isWhole)
      continue;
    auto size = constantValue(range.size), all = constantValue(dim);
    if (!size || *size < 1 || (all && 2 * *size > *all))
      return false;
    isSmaller = true;
  }
  return isSmaller;
}

static Value take(OpBuilder &builder, Location loc, Value x,
                  const Window &window) {
  if (llvm::all_of(window, [](const Range &range) { return range.isWhole; }))
    return x;
  SmallVector<AffineExpr> starts, sizes;
  SmallVector<int64_t> steps;
  for (const Range &range : window) {
    starts.push_back(range.start);
    sizes.push_back(range.size);
    steps.push_back(range.step);
  }
  Type element = cast<RankedTensorType>(x.getType()).getElementType();
  return SliceOp::create(builder, loc, makeTensorType(sizes, element), x,
                         DimsAttr::get(builder.getContext(), starts), steps);
}

//===----------------------------------------------------------------------===//
// What is read of the operands for a window of the result
//===----------------------------------------------------------------------===//

/// Numpy's alignment: axes from the last one, an axis of one element is read
/// for every element of the result's.
static Window throughBroadcast(Value operand, const Window &window) {
  Window out = wholeOf(operand);
  size_t lead = window.size() - out.size();
  for (auto [axis, range] : llvm::enumerate(out))
    if (constantValue(range.size) != 1 && !window[lead + axis].isWhole)
      range = window[lead + axis];
  return out;
}

static std::optional<Window> throughReshape(ReshapeOp op,
                                            const Window &window) {
  if (op->hasAttr(kSameSizesAttr))
    return std::nullopt;
  MLIRContext *context = op.getContext();
  SmallVector<AffineExpr> from = getDims(op.getX().getType()),
                          to = getDims(op.getType());
  Window out = wholeOf(op.getX());
  for (auto [axis, range] : llvm::enumerate(window)) {
    if (range.isWhole)
      continue;
    // The operand's axis with as many elements before it, and the same size.
    AffineExpr before = product(context, ArrayRef(to).take_front(axis));
    auto at = llvm::find_if(llvm::seq<size_t>(0, from.size()), [&](size_t i) {
      return areEqual(from[i], to[axis]) && constantValue(from[i]) != 1 &&
             areEqual(product(context, ArrayRef(from).take_front(i)), before);
    });
    if (at == llvm::seq<size_t>(0, from.size()).end())
      return std::nullopt;
    out[*at] = range;
  }
  return out;
}

static std::optional<SmallVector<Window>>
throughContract(ContractOp op, const Window &window) {
  SmallVector<Range> axes(op.getResultMap().getNumDims());
  for (auto [expr, range] : llvm::zip(op.getResultMap().getResults(), window)) {
    if (range.isWhole)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (!dim)
      return std::nullopt;
    axes[dim.getPosition()] = range;
  }
  SmallVector<Window> out;
  for (auto [operand, map] : {std::pair(op.getLhs(), op.getLhsMap()),
                              {op.getRhs(), op.getRhsMap()}}) {
    Window &own = out.emplace_back(wholeOf(operand));
    bool isNarrower = false;
    for (auto [expr, range] : llvm::zip(map.getResults(), own))
      if (auto dim = dyn_cast<AffineDimExpr>(expr);
          dim && axes[dim.getPosition()].start) {
        range = axes[dim.getPosition()];
        isNarrower = true;
      }
    // Constants are packed as they are.
    if (isNarrower && operand.getDefiningOp<ConstantOp>())
      return std::nullopt;
  }
  return out;
}

/// The windows of `op`'s operands; none when it is no case of this pass.
static std::optional<SmallVector<Window>> operandWindows(Operation *op,
                                                         const Window &window) {
  auto row = dyn_cast<GraphOp>(op);
  if (!row)
    return std::nullopt;
  SmallVector<Window> out;
  if (row.getOpClass() == OpClass::elementwise || isa<BroadcastOp>(op)) {
    for (Value operand : op->getOperands())
      out.push_back(throughBroadcast(operand, window));
    return out;
  }
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Window own = wholeOf(transpose.getX());
    for (auto [axis, from] : llvm::enumerate(transpose.getPerm()))
      own[from] = window[axis];
    out.push_back(own);
    return out;
  }
  if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    auto own = throughReshape(reshape, window);
    if (!own)
      return std::nullopt;
    out.push_back(*own);
    return out;
  }
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    Window own = wholeOf(reduce.getX());
    for (auto [axis, range] : llvm::enumerate(window))
      if (!range.isWhole)
        own[axis] = range;
    out.push_back(own);
    return out;
  }
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    auto axis = static_cast<size_t>(concat.getAxis());
    if (!window[axis].isWhole)
      return std::nullopt;
    for (Value input : concat.getInputs()) {
      Window own = window;
      own[axis] = wholeOf(input)[axis];
      out.push_back(own);
    }
    return out;
  }
  if (auto gather = dyn_cast<GatherOp>(op)) {
    auto axis = static_cast<size_t>(gather.getAxis());
    Window indices = wholeOf(gather.getIndices());
    for (auto [i, range] : llvm::enumerate(window)) {
      bool isIndex = i >= axis && i < axis + indices.size();
      if (!range.isWhole && !isIndex)
        return std::nullopt;
      if (isIndex && !range.isWhole)
        indices[i - axis] = range;
    }
    out.push_back(wholeOf(gather.getX()));
    out.push_back(indices);
    return out;
  }
  if (auto contract = dyn_cast<ContractOp>(op))
    return throughContract(contract, window);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// What every reader of `op` takes of its result: along each axis the range
/// that all agree on, else all of it.
static std::optional<Window> commonWindow(Operation *op) {
  if (op->getNumResults() != 1 || op->use_empty() ||
      !isa<RankedTensorType>(op->getResult(0).getType()))
    return std::nullopt;
  std::optional<Window> common;
  Window whole = wholeOf(op->getResult(0));
  for (Operation *user : op->getUsers()) {
    auto slice = dyn_cast<SliceOp>(user);
    if (!slice || slice->getBlock() != op->getBlock())
      return std::nullopt;
    Window window = windowOf(slice);
    if (!common)
      common = window;
    for (auto [range, other, all] : llvm::zip(*common, window, whole))
      if (!(range == other))
        range = all;
  }
  if (!isNarrow(*common, getDims(op->getResult(0).getType())))
    return std::nullopt;
  return common;
}

/// `slice` of the tensor of which `narrow` is the common window.
static Value takeRest(OpBuilder &builder, SliceOp slice, Value narrow,
                      const Window &common) {
  Window rest = windowOf(slice);
  for (auto [range, taken] : llvm::zip(rest, common))
    if (!taken.isWhole)
      range = wholeAxis(taken.size);
  builder.setInsertionPoint(slice);
  return take(builder, slice.getLoc(), narrow, rest);
}

/// A slice of a slice, as one.
static Value joinSlices(OpBuilder &builder, SliceOp inner,
                        const Window &window) {
  Window joined = windowOf(inner);
  for (auto [range, outer] : llvm::zip(joined, window)) {
    range.start = simplify(range.start + outer.start * range.step);
    range.step *= outer.step;
    range.size = outer.size;
    range.isWhole &= outer.isWhole;
  }
  return take(builder, inner.getLoc(), inner.getX(), joined);
}

/// Positions from a constant on are positions.
static Value shiftIota(OpBuilder &builder, IotaOp iota, const Range &range) {
  auto start = constantValue(range.start), size = constantValue(range.size);
  if (!start || !size || !iota.getType().getElementType().isInteger())
    return {};
  double first = iota.getStart().convertToDouble(),
         step = iota.getStep().convertToDouble();
  if (first != std::trunc(first) || step != std::trunc(step))
    return {};
  double from = first + static_cast<double>(*start) * step,
         by = step * static_cast<double>(range.step);
  if (std::abs(from) + std::abs(by) * static_cast<double>(*size) >= kExact)
    return {};
  auto type = makeTensorType({range.size}, iota.getType().getElementType());
  return IotaOp::create(builder, iota.getLoc(), type,
                        builder.getF64FloatAttr(from),
                        builder.getF64FloatAttr(by));
}

static Value hoist(OpBuilder &builder, Operation *op, const Window &window) {
  builder.setInsertionPoint(op);
  if (auto inner = dyn_cast<SliceOp>(op))
    return joinSlices(builder, inner, window);
  if (auto iota = dyn_cast<IotaOp>(op))
    return shiftIota(builder, iota, window.front());
  auto windows = operandWindows(op, window);
  if (!windows)
    return {};
  SmallVector<Value> operands;
  for (auto [operand, own] : llvm::zip(op->getOperands(), *windows))
    operands.push_back(take(builder, op->getLoc(), operand, own));
  Operation *copy = builder.clone(*op);
  copy->setOperands(operands);
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  copy->getResult(0).setType(
      makeTensorType(llvm::map_to_vector(
                         window, [](const Range &range) { return range.size; }),
                     type.getElementType()));
  return copy->getResult(0);
}

namespace {
struct HoistSlices : graph::impl::HoistSlicesBase<HoistSlices> {
  using HoistSlicesBase::HoistSlicesBase;

  void runOnOperation() override {
    getOperation().walk([&](Block *block) {
      if (block->getParentOp() && isa<KernelOp>(block->getParentOp()))
        return;
      runOnBlock(*block);
    });
  }

private:
  // Readers come before what they read: a window moves up as far as it goes.
  void runOnBlock(Block &block) {
    OpBuilder builder(&getContext());
    for (Operation *op = block.empty() ? nullptr : &block.back(); op;) {
      if (auto window = commonWindow(op))
        if (Value narrow = hoist(builder, op, *window)) {
          ++numHoisted;
          for (Operation *user : llvm::to_vector(op->getUsers())) {
            auto slice = cast<SliceOp>(user);
            slice.getResult().replaceAllUsesWith(
                takeRest(builder, slice, narrow, *window));
            slice.erase();
          }
          // What was put in is looked at next: its slices are of operands.
          Operation *previous = op->getPrevNode();
          op->erase();
          op = previous;
          continue;
        }
      op = op->getPrevNode();
    }
  }
};
} // namespace
