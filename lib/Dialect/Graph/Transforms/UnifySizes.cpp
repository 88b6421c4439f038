// graph-unify-sizes: one expression for sizes that must be equal. Maps then
// compare equal that only the requirement makes equal.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/Requirements.h"
#include "dlc/Dialect/Graph/IR/State.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/SetVector.h"

namespace dlc::graph {
#define GEN_PASS_DEF_UNIFYSIZES
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {
/// What takes the place of each symbol of a function.
class Unifier {
public:
  explicit Unifier(func::FuncOp main) : main(main) {}

  bool findEqualities();
  void rewrite();

private:
  AffineExpr apply(AffineExpr expr) const {
    return simplify(expr.replaceSymbols(replacements));
  }
  bool tryReplace(AffineExpr symbol, AffineExpr by);

  func::FuncOp main;
  SmallVector<AffineExpr> replacements;
  llvm::SmallDenseSet<unsigned> ofArguments;
};
} // namespace

bool Unifier::tryReplace(AffineExpr symbol, AffineExpr by) {
  auto s = dyn_cast<AffineSymbolExpr>(symbol);
  bool isKnown = true, hasSymbol = false;
  by.walk([&](AffineExpr e) {
    if (auto other = dyn_cast<AffineSymbolExpr>(e)) {
      hasSymbol = true;
      isKnown &= ofArguments.contains(other.getPosition()) && other != s;
    }
  });
  // A number would change which sizes are symbolic at all.
  if (!s || !ofArguments.contains(s.getPosition()) || !isKnown || !hasSymbol)
    return false;
  for (AffineExpr &each : replacements)
    each = simplify(each.replace(symbol, by));
  return true;
}

bool Unifier::findEqualities() {
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  if (!names)
    return false;
  for (unsigned i = 0; i < names.size(); ++i)
    replacements.push_back(getAffineSymbolExpr(i, main.getContext()));
  for (Type type : main.getArgumentTypes())
    if (auto tensor = dyn_cast<RankedTensorType>(type))
      for (AffineExpr dim : getDims(tensor))
        if (auto s = dyn_cast<AffineSymbolExpr>(dim))
          ofArguments.insert(s.getPosition());
  // The length of state is known as the sizes of inputs are.
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    if (auto state = readStateAttr(main.getArgAttr(i, kStateAttr)))
      ofArguments.insert(state->length);
  bool found = false;
  for (const Requirement &each : getRequirements(main)) {
    if (each.atLeast)
      continue;
    AffineExpr left = apply(each.left), right = apply(each.right);
    if (left != right)
      found |= tryReplace(right, left) || tryReplace(left, right);
  }
  return found;
}

void Unifier::rewrite() {
  MLIRContext *context = main.getContext();
  Block &entry = main.getBody().front();
  AttrTypeReplacer replacer;
  replacer.addReplacement([&](DimsAttr dims) -> Attribute {
    return DimsAttr::get(
        context, llvm::map_to_vector(dims.getDims(),
                                     [&](AffineExpr e) { return apply(e); }));
  });
  OpBuilder builder = OpBuilder::atBlockBegin(&entry);
  auto view = [&](Value value, Type type, Location loc) {
    auto reshape = ReshapeOp::create(builder, loc, type, value);
    reshape->setAttr(kSameSizesAttr, builder.getUnitAttr());
    return reshape;
  };
  llvm::SmallPtrSet<Operation *, 8> views;
  for (BlockArgument argument : entry.getArguments()) {
    Type type = replacer.replace(argument.getType());
    if (type == argument.getType())
      continue;
    ReshapeOp reshape = view(argument, type, argument.getLoc());
    argument.replaceAllUsesExcept(reshape, reshape);
    views.insert(reshape);
  }
  for (Operation &op : entry)
    if (!views.contains(&op))
      op.walk([&](Operation *part) {
        replacer.replaceElementsIn(part, /*replaceAttrs=*/true,
                                   /*replaceLocs=*/false,
                                   /*replaceTypes=*/true);
      });
  Operation *end = entry.getTerminator();
  builder.setInsertionPoint(end);
  for (auto [i, type] : llvm::enumerate(main.getResultTypes()))
    if (Value value = end->getOperand(i); value.getType() != type)
      end->setOperand(i, view(value, type, value.getLoc()));
  // What only said that two sizes are equal says nothing any more.
  for (Operation &op : llvm::make_early_inc_range(entry))
    if (isa<ReshapeOp>(op) &&
        op.getOperand(0).getType() == op.getResult(0).getType()) {
      op.getResult(0).replaceAllUsesWith(op.getOperand(0));
      op.erase();
    }
}

namespace {
struct UnifySizes : graph::impl::UnifySizesBase<UnifySizes> {
  using UnifySizesBase::UnifySizesBase;

  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main || !llvm::hasSingleElement(main.getBody()))
      return;
    Unifier unifier(main);
    if (unifier.findEqualities())
      unifier.rewrite();
  }
};
} // namespace
