#include "HandFuser.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using namespace dlc::test;

static std::string lieInLoad(LoadOp load, Random &random) {
  AffineMap map = load.getMap();
  OpBuilder b(load);
  unsigned choice = random.below(load.getGuard() ? 6 : 3);
  if (choice < 3) {
    if (map.getNumResults() == 0)
      return "";
    SmallVector<AffineExpr> results(map.getResults());
    AffineExpr &e = results[random.below(results.size())];
    if (choice == 0) {
      e = e + (random.chance(2) ? 1 : -1);
    } else if (choice == 1) {
      if (map.getNumDims() < 2)
        return "";
      // Two coordinates change places.
      SmallVector<AffineExpr> dims;
      for (unsigned i = 0; i < map.getNumDims(); ++i)
        dims.push_back(b.getAffineDimExpr(i));
      std::swap(random.pick(dims), random.pick(dims));
      e = e.replaceDims(dims);
    } else {
      std::swap(e, results[random.below(results.size())]);
    }
    load.setMapAttr(AffineMapAttr::get(
        AffineMap::get(map.getNumDims(), 0, results, b.getContext())));
    return "a load's map";
  }
  IntegerSet set = *load.getGuard();
  SmallVector<AffineExpr> constraints(set.getConstraints());
  SmallVector<bool> equalities(set.getEqFlags());
  unsigned i = random.below(constraints.size());
  if (choice == 3 && constraints.size() > 1) {
    constraints.erase(constraints.begin() + i);
    equalities.erase(equalities.begin() + i);
  } else {
    constraints[i] = constraints[i] + (random.chance(2) ? 1 : -1);
  }
  load.setGuardAttr(IntegerSetAttr::get(
      IntegerSet::get(set.getNumDims(), 0, constraints, equalities)));
  return "a load's guard";
}

static std::string lieInStage(StageOp stage, Random &random) {
  if (stage.getFoldKind() == FoldKind::none)
    return "";
  OpBuilder b(stage);
  switch (random.below(3)) {
  case 0:
    stage.setFoldAttr(FoldKindAttr::get(
        b.getContext(),
        stage.getFoldKind() == FoldKind::max ? FoldKind::min : FoldKind::max));
    return "a fold's kind";
  case 1:
    stage.setInitAttr(b.getZeroAttr(stage.getElementType()));
    return "a fold's start";
  default: {
    SmallVector<AffineExpr> dims(stage.getReduceDims());
    AffineExpr &d = random.pick(dims);
    if (*constantValue(d) < 2)
      return "";
    d = d - 1;
    stage.setReduceAttr(DimsAttr::get(b.getContext(), dims));
    return "a fold's domain";
  }
  }
}

static std::string lieInBody(Operation *op, Random &random) {
  OpBuilder b(op);
  if (auto load = dyn_cast<LoadOp>(op))
    return lieInLoad(load, random);
  if (auto stage = dyn_cast<StageOp>(op))
    return lieInStage(stage, random);
  if (auto apply = dyn_cast<ApplyOp>(op)) {
    if (apply.getArgs().size() == 2 && random.chance(2)) {
      Value x = apply.getArgs()[0], y = apply.getArgs()[1];
      op->setOperands({y, x});
      return "operands change places";
    }
    ScalarFn fn = apply.getFn();
    ScalarFn to = fn == ScalarFn::add   ? ScalarFn::sub
                  : fn == ScalarFn::sub ? ScalarFn::add
                  : fn == ScalarFn::max ? ScalarFn::min
                  : fn == ScalarFn::min ? ScalarFn::max
                  : fn == ScalarFn::mul ? ScalarFn::add
                  : fn == ScalarFn::neg ? ScalarFn::abs
                  : fn == ScalarFn::abs ? ScalarFn::neg
                                        : fn;
    if (fn == to)
      return "";
    apply.setFn(to);
    return "a function";
  }
  if (auto literal = dyn_cast<LiteralOp>(op)) {
    if (auto f = dyn_cast<FloatAttr>(literal.getValue()))
      literal.setValueAttr(
          b.getFloatAttr(f.getType(), f.getValueAsDouble() + 1));
    else if (auto i = dyn_cast<IntegerAttr>(literal.getValue()))
      literal.setValueAttr(b.getIntegerAttr(i.getType(), i.getValue() + 1));
    return "a literal";
  }
  if (auto inside = dyn_cast<InsideOp>(op)) {
    IntegerSet set = inside.getSet();
    SmallVector<AffineExpr> constraints(set.getConstraints());
    AffineExpr &e = random.pick(constraints);
    e = e + (random.chance(2) ? 1 : -1);
    inside.setSetAttr(IntegerSetAttr::get(
        IntegerSet::get(set.getNumDims(), 0, constraints, set.getEqFlags())));
    return "a set";
  }
  if (auto outer = dyn_cast<CastOp>(op)) {
    auto inner = outer.getValue().getDefiningOp<CastOp>();
    if (!inner || inner.getValue().getType() != outer.getResult().getType())
      return "";
    outer.getResult().replaceAllUsesWith(inner.getValue());
    return "a rounding is gone";
  }
  return "";
}

// Two operands of one type change places.
static std::string swapOperands(Operation *op, Random &random) {
  if (op->getNumOperands() < 2)
    return "";
  unsigned i = random.below(op->getNumOperands()),
           j = random.below(op->getNumOperands());
  Value x = op->getOperand(i), y = op->getOperand(j);
  if (x == y || x.getType() != y.getType())
    return "";
  op->setOperand(i, y);
  op->setOperand(j, x);
  return "operands of '" + op->getName().getStringRef().str() +
         "' change places";
}

// An operand becomes another value of its type that is defined before.
static std::string readAnother(Operation *op, Random &random) {
  if (op->getNumOperands() == 0)
    return "";
  unsigned i = random.below(op->getNumOperands());
  Value old = op->getOperand(i);
  std::vector<Value> others;
  for (BlockArgument arg : op->getBlock()->getArguments())
    if (arg.getType() == old.getType() && arg != old)
      others.push_back(arg);
  for (Operation *before = op->getPrevNode(); before;
       before = before->getPrevNode())
    for (Value v : before->getResults())
      if (v.getType() == old.getType() && v != old)
        others.push_back(v);
  if (others.empty())
    return "";
  op->setOperand(i, random.pick(others));
  return "'" + op->getName().getStringRef().str() + "' reads another value";
}

// An operation stands before what it reads.
static std::string moveUp(Operation *op) {
  for (Value v : op->getOperands())
    if (Operation *def = v.getDefiningOp();
        def && def->getBlock() == op->getBlock() && !isa<ConstantOp>(def) &&
        !op->hasTrait<OpTrait::IsTerminator>()) {
      op->moveBefore(def);
      return "an operation stands before its operand";
    }
  return "";
}

static std::string lieInGraph(Operation *op, Random &random) {
  switch (random.below(6)) {
  case 0:
    return moveUp(op);
  case 1:
    return swapOperands(op, random);
  default:
    return readAnother(op, random);
  }
}

std::string test::plantLie(ModuleOp fused, Random &random) {
  std::vector<Operation *> bodies, others;
  for (auto kernel : fused.getOps<KernelOp>()) {
    if (!kernel.getSymName().starts_with("fused_"))
      continue;
    kernel.walk([&](Operation *op) {
      if (isa<LoadOp, StageOp, ApplyOp, LiteralOp, InsideOp, CastOp>(op))
        bodies.push_back(op);
    });
  }
  for (auto certificate : fused.getOps<CertificateOp>())
    certificate.walk([&](Operation *op) {
      if (isa<CallOp, ReturnOp>(op))
        others.push_back(op);
    });
  auto main = fused.lookupSymbol<func::FuncOp>("main");
  main.walk([&](Operation *op) {
    if (isa<CallOp, func::ReturnOp>(op))
      others.push_back(op);
  });
  if (bodies.empty())
    return "";
  for (int attempt = 0; attempt < 20; ++attempt) {
    std::string lie = random.chance(3) ? lieInGraph(random.pick(others), random)
                                       : lieInBody(random.pick(bodies), random);
    if (!lie.empty())
      return lie;
  }
  return "";
}
