// Variants by range: where a symbolic size decides between schedules, a kernel
// becomes up to three, each compiled for a range of the size. The kernel that
// is called stays the one of the largest sizes and lists the others:
//
//   graph.kernel @matmul_0 ... {graph.dispatch = {size = affine_map<()[s0] ->
//   (s0)>,
//       limits = array<i64: 4>, kernels = [@matmul_0_to4]}}
//
// The host program compares the size and runs one of them.
#include "Compilation.h"

#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Program/Passes.h"

using namespace mlir;
using namespace dlc;

// What -dim said of the model's symbols.
static SmallVector<SizeRange> getModelRanges(Compilation &c) {
  SmallVector<SizeRange> ranges;
  func::FuncOp main = c.source.getMain();
  if (auto attr = main->getAttrOfType<ArrayAttr>("graph.ranges"))
    for (auto range : attr.getAsRange<DenseI64ArrayAttr>())
      ranges.push_back({range[0], range[1], range[2]});
  return ranges;
}

namespace {
// What all calls of a kernel have in common.
struct Use {
  SmallVector<SizeRange> symbols;
  SmallVector<bool> constantOperands;
  bool isCalled = false;

  void add(graph::CallOp call, ArrayRef<SizeRange> model) {
    SmallVector<SizeRange> here;
    if (call.getSymbols())
      for (AffineExpr expr : call.getSymbols()->getDims())
        here.push_back(rangeOf(expr, model));
    if (isCalled)
      for (auto [range, other] : llvm::zip_equal(symbols, here))
        range = {std::min(range.low, other.low),
                 std::max(range.high, other.high),
                 std::max(range.typical, other.typical)};
    else
      symbols = std::move(here);
    isCalled = true;
    constantOperands.clear();
    for (Value arg : call.getArgs())
      constantOperands.push_back(
          graph::getViewed(arg).getDefiningOp<graph::ConstantOp>() != nullptr);
  }
};
} // namespace

// A module that was printed after this stage is compiled again.
static void dropVariants(ModuleOp module) {
  SymbolTable symbols(module);
  SmallVector<Operation *> old;
  for (auto kernel : module.getOps<graph::KernelOp>()) {
    auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr);
    if (!dispatch)
      continue;
    if (auto kernels = dispatch.getAs<ArrayAttr>("kernels"))
      for (auto name : kernels.getAsRange<FlatSymbolRefAttr>())
        if (Operation *variant = symbols.lookup(name.getValue()))
          old.push_back(variant);
    kernel->removeAttr(kDispatchAttr);
  }
  for (Operation *variant : old)
    symbols.erase(variant);
  for (auto kernel : module.getOps<graph::KernelOp>())
    clearVariantRange(kernel);
}

static void addVariants(graph::KernelOp kernel, const KernelVariants &plan,
                        SymbolTable &symbols) {
  Builder builder(kernel.getContext());
  SmallVector<int64_t> limits;
  SmallVector<Attribute> names;
  for (const SizeRange &range : ArrayRef(plan.ranges).drop_back()) {
    auto copy = cast<graph::KernelOp>(kernel->clone());
    setVariantRange(copy, range);
    copy.setSymName(
        (kernel.getSymName() + "_to" + std::to_string(range.high)).str());
    names.push_back(
        FlatSymbolRefAttr::get(symbols.insert(copy, kernel->getIterator())));
    limits.push_back(range.high);
  }
  setVariantRange(kernel, plan.ranges.back());
  if (limits.empty())
    return;
  auto size = AffineMap::get(0, kernel.getNumSymbols(), plan.size);
  kernel->setAttr(
      kDispatchAttr,
      builder.getDictionaryAttr(
          {builder.getNamedAttr("size", AffineMapAttr::get(size)),
           builder.getNamedAttr("limits", builder.getDenseI64ArrayAttr(limits)),
           builder.getNamedAttr("kernels", builder.getArrayAttr(names))}));
}

void dlc::makeVariants(Compilation &c) {
  dropVariants(c.getModule());
  if (!c.target || c.cuda)
    return;
  SmallVector<SizeRange> model = getModelRanges(c);
  llvm::StringMap<Use> uses;
  c.getModule().walk(
      [&](graph::CallOp call) { uses[call.getCallee()].add(call, model); });
  SymbolTable symbols(c.getModule());
  for (auto kernel :
       llvm::make_early_inc_range(c.getModule().getOps<graph::KernelOp>())) {
    const Use &use = uses[kernel.getSymName()];
    if (!use.isCalled || use.symbols.empty() || kernel.getOpaque())
      continue;
    CpuCodegenOptions options;
    options.constantOperands = use.constantOperands;
    options.strict = c.options.strict;
    KernelVariants plan = planVariants(kernel, *c.target, options, use.symbols,
                                       c.options.variants);
    if (plan.ranges.empty())
      continue;
    if (c.options.forceVariant >= 0) {
      size_t chosen =
          std::min<size_t>(c.options.forceVariant, plan.ranges.size() - 1);
      plan.ranges = {plan.ranges[chosen]};
    }
    addVariants(kernel, plan, symbols);
  }
}
