// Reading a concatenation from a kernel's loads, and which ones fusion leaves
// alone.
#include "dlc/Layout/Concat.h"

#include "dlc/Schedule/StageAxes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::ConcatForm;
using graph::KernelOp;
using graph::StageOp;

static bool isStatic(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.hasStaticShape() && tensor.getNumElements() > 0;
}

std::optional<ConcatForm> layout::readConcat(KernelOp kernel) {
  std::vector<StageOp> stages = kernel.getStages();
  unsigned count = kernel.getArgumentTypes().size();
  if (kernel.getOpaque() || kernel.getNumSymbols() || stages.size() != 1 ||
      stages[0].getFoldKind() != graph::FoldKind::none || count < 2 ||
      kernel.getResultTypes().size() != 1 ||
      !isStatic(kernel.getResultTypes()[0]))
    return std::nullopt;
  auto shape = cast<RankedTensorType>(kernel.getResultTypes()[0]).getShape();
  // The operands' sizes say along which axis they lie.
  ConcatForm form;
  std::optional<unsigned> axis;
  for (Type type : kernel.getArgumentTypes()) {
    if (!isStatic(type) ||
        cast<RankedTensorType>(type).getShape().size() != shape.size())
      return std::nullopt;
    for (auto [i, size] :
         llvm::enumerate(cast<RankedTensorType>(type).getShape()))
      if (size != shape[i]) {
        if (axis && *axis != i)
          return std::nullopt;
        axis = i;
      }
  }
  if (!axis)
    return std::nullopt;
  form.axis = *axis;
  form.offsets.assign(count, -1);
  Block *block = stages[0].getBlock();
  for (Operation &op : block->without_terminator()) {
    if (isa<graph::LiteralOp>(op))
      continue;
    auto load = dyn_cast<graph::LoadOp>(op);
    auto operand =
        load ? dyn_cast<BlockArgument>(load.getTensor()) : BlockArgument();
    if (!operand || form.offsets[operand.getArgNumber()] >= 0)
      return std::nullopt; // work of its own, or an operand twice
    auto axes = axesOf(load);
    if (!axes)
      return std::nullopt;
    for (auto [i, e] : llvm::enumerate(load.getMap().getResults())) {
      AffineExpr index = graph::simplify(e.replaceDims(*axes));
      auto shift = graph::constantValue(
          graph::simplify(getAffineDimExpr(i, kernel.getContext()) - index));
      if (i == *axis) {
        if (!shift || *shift < 0)
          return std::nullopt;
        form.offsets[operand.getArgNumber()] = *shift;
      } else if (shape[i] != 1 && (!shift || *shift != 0)) {
        return std::nullopt;
      }
    }
  }
  if (llvm::is_contained(form.offsets, -1))
    return std::nullopt;
  return form;
}

//===----------------------------------------------------------------------===//
// Before fusion
//===----------------------------------------------------------------------===//

static bool folds(KernelOp kernel) {
  return llvm::any_of(kernel.getStages(), [](StageOp stage) {
    return stage.getFoldKind() != graph::FoldKind::none &&
           llvm::any_of(stage.getReduceDims(), [](AffineExpr size) {
             return graph::constantValue(size) != 1;
           });
  });
}

// Whether `value` is computed by a kernel that folds, or by a chain of
// elementwise kernels from one, which fuses with it; or is itself kept.
static bool comesFromFold(Value value, const SymbolTable &symbols) {
  for (bool isFirst = true;; isFirst = false) {
    auto call = value.getDefiningOp<graph::CallOp>();
    if (!call || (!isFirst && !value.hasOneUse()))
      return false;
    if (isFirst && call->hasAttr(graph::kKeptAttr))
      return true;
    auto kernel = symbols.lookup<KernelOp>(call.getCallee());
    if (!kernel || kernel.getOpaque())
      return false;
    if (folds(kernel))
      return true;
    Value next;
    for (Value arg : call.getArgs())
      if (arg.getType() == value.getType() &&
          arg.getDefiningOp<graph::CallOp>())
        next = arg;
    if (!next)
      return false;
    value = next;
  }
}

unsigned layout::keepConcats(ModuleOp module, bool relays) {
  unsigned count = 0;
  SymbolTable symbols(module);
  for (auto function : module.getOps<func::FuncOp>())
    function.walk([&](graph::CallOp call) {
      auto kernel = symbols.lookup<KernelOp>(call.getCallee());
      auto form = kernel ? readConcat(kernel) : std::nullopt;
      if (!form)
        return;
      auto shape =
          cast<RankedTensorType>(call.getResult(0).getType()).getShape();
      bool willBeLast = relays && form->axis == 1 && shape.size() > 2;
      if (!form->hasWholeParts(shape) && !form->isOfLastAxis(shape) &&
          !willBeLast)
        return;
      int64_t placed = 0, all = 0;
      for (Value arg : call.getArgs()) {
        int64_t elements =
            cast<RankedTensorType>(arg.getType()).getNumElements();
        all += elements;
        placed += comesFromFold(arg, symbols) ? elements : 0;
      }
      if (2 * placed < all)
        return;
      call->setAttr(graph::kKeptAttr, UnitAttr::get(call.getContext()));
      ++count;
    });
  return count;
}
