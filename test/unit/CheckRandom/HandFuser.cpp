#include "HandFuser.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using namespace dlc::test;

static TypedAttr splatOf(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue())
                        : DenseElementsAttr();
  return dense && dense.isSplat() ? dense.getSplatValue<TypedAttr>()
                                  : TypedAttr();
}

//===----------------------------------------------------------------------===//
// Inlining one read
//===----------------------------------------------------------------------===//

namespace {
class ReadInliner {
public:
  ReadInliner(LoadOp load, StageOp stage) : load(load), stage(stage), b(load) {
    coordCount = load.getCoords().size();
  }

  void run() {
    for (Operation &op : stage.getBlock()->without_terminator())
      copy(&op);
    Value result = mapping.lookup(stage.getYielded());
    if (load.getGuard()) {
      Value inside = InsideOp::create(b, load.getLoc(), load.getCoords(),
                                      load.getGuardAttr());
      result =
          ApplyOp::create(b, load.getLoc(), result.getType(),
                          ScalarFnAttr::get(b.getContext(), ScalarFn::select),
                          ValueRange{inside, result, load.getOther()});
    }
    load.getResult().replaceAllUsesWith(result);
    load.erase();
  }

private:
  // The coordinates of a copied operation: those of the load, then data; and
  // what each of its own is in them.
  SmallVector<AffineExpr> bind(OperandRange coords,
                               SmallVector<Value> &newCoords) {
    newCoords.assign(load.getCoords().begin(), load.getCoords().end());
    SmallVector<AffineExpr> dims;
    for (Value coord : coords) {
      if (auto arg = dyn_cast<BlockArgument>(coord)) {
        dims.push_back(load.getMap().getResult(arg.getArgNumber()));
        continue;
      }
      dims.push_back(getAffineDimExpr(newCoords.size(), b.getContext()));
      newCoords.push_back(mapping.lookup(coord));
    }
    return dims;
  }
  AffineMapAttr rewrite(AffineMap map, ArrayRef<AffineExpr> dims,
                        unsigned count) {
    SmallVector<AffineExpr> results;
    for (AffineExpr e : map.getResults())
      results.push_back(e.replaceDims(dims));
    return AffineMapAttr::get(
        AffineMap::get(count, 0, results, b.getContext()));
  }
  IntegerSetAttr conjoin(std::optional<IntegerSet> own,
                         ArrayRef<AffineExpr> dims, unsigned count) {
    SmallVector<AffineExpr> constraints;
    SmallVector<bool> equalities;
    if (own)
      for (auto [e, isEquality] :
           llvm::zip(own->getConstraints(), own->getEqFlags())) {
        constraints.push_back(e.replaceDims(dims));
        equalities.push_back(isEquality);
      }
    if (auto outer = load.getGuard()) {
      constraints.append(outer->getConstraints().begin(),
                         outer->getConstraints().end());
      equalities.append(outer->getEqFlags().begin(), outer->getEqFlags().end());
    }
    return IntegerSetAttr::get(
        IntegerSet::get(count, 0, constraints, equalities));
  }

  void copy(Operation *op) {
    SmallVector<Value> coords;
    if (auto inner = dyn_cast<LoadOp>(op)) {
      SmallVector<AffineExpr> dims = bind(inner.getCoords(), coords);
      IntegerSetAttr guard;
      Value other;
      if (inner.getGuard() || load.getGuard()) {
        guard = conjoin(inner.getGuard(), dims, coords.size());
        other = inner.getOther() ? mapping.lookup(inner.getOther())
                                 : filler(inner.getResult().getType());
      }
      mapping.map(inner.getResult(),
                  LoadOp::create(b, op->getLoc(), inner.getResult().getType(),
                                 inner.getTensor(), coords,
                                 rewrite(inner.getMap(), dims, coords.size()),
                                 guard, other)
                      .getResult());
    } else if (auto coord = dyn_cast<CoordOp>(op)) {
      SmallVector<AffineExpr> dims = bind(coord.getCoords(), coords);
      mapping.map(coord.getResult(),
                  CoordOp::create(b, op->getLoc(), b.getI64Type(), coords,
                                  rewrite(coord.getMap(), dims, coords.size()))
                      .getResult());
    } else if (auto inside = dyn_cast<InsideOp>(op)) {
      SmallVector<AffineExpr> dims = bind(inside.getCoords(), coords);
      IntegerSet set = inside.getSet();
      SmallVector<AffineExpr> constraints;
      for (AffineExpr e : set.getConstraints())
        constraints.push_back(e.replaceDims(dims));
      mapping.map(inside.getResult(),
                  InsideOp::create(
                      b, op->getLoc(), coords,
                      IntegerSetAttr::get(IntegerSet::get(
                          coords.size(), 0, constraints, set.getEqFlags())))
                      .getResult());
    } else {
      b.clone(*op, mapping);
    }
  }
  Value filler(Type type) {
    TypedAttr one = isa<FloatType>(type) ? TypedAttr(b.getFloatAttr(type, 1.0))
                                         : TypedAttr(b.getIntegerAttr(type, 1));
    return LiteralOp::create(b, load.getLoc(), type, one);
  }

  LoadOp load;
  StageOp stage;
  OpBuilder b;
  IRMapping mapping;
  unsigned coordCount;
};
} // namespace

//===----------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------===//

namespace {
class Fuser {
public:
  Fuser(ModuleOp module, Random &random)
      : module(module), random(random), symbols(module) {}

  void run() {
    auto main = module.lookupSymbol<func::FuncOp>("main");
    std::vector<Operation *> ops;
    for (Operation &op : main.getBody().front().without_terminator())
      if (isa<CallOp, ReshapeOp>(op))
        ops.push_back(&op);
    for (size_t at = 0; at < ops.size();) {
      size_t length = std::min<size_t>(1 + random.below(7), ops.size() - at);
      if (length > 1)
        fuse(ArrayRef<Operation *>(ops).slice(at, length));
      at += length;
    }
  }

private:
  void fuse(ArrayRef<Operation *> group);
  void addStages(Operation *op, IRMapping &values, OpBuilder &builder);
  void inlineSome(KernelOp kernel);
  void maybeSetRows(KernelOp kernel, CertificateOp certificate);

  ModuleOp module;
  Random &random;
  SymbolTable symbols;
  unsigned number = 0;
};
} // namespace

// The stages of one operation, reading what `values` has for its operands; a
// constant without a value becomes literals.
void Fuser::addStages(Operation *op, IRMapping &values, OpBuilder &builder) {
  KernelOp kernel;
  OwningOpRef<ModuleOp> scratch = ModuleOp::create(op->getLoc());
  if (auto call = dyn_cast<CallOp>(op)) {
    kernel = symbols.lookup<KernelOp>(call.getCallee());
  } else {
    SmallVector<AffineExpr> none;
    kernel = *buildKernelFor(cast<GraphOp>(op), *scratch, "view", none);
  }
  IRMapping mapping;
  llvm::DenseMap<Value, TypedAttr> literals;
  for (auto [arg, operand] :
       llvm::zip(kernel.getBody().getArguments(), op->getOperands())) {
    if (Value v = values.lookupOrNull(operand))
      mapping.map(arg, v);
    else
      literals[arg] = splatOf(operand);
  }
  for (StageOp stage : kernel.getStages()) {
    // Literals first: an operand that is not there cannot be cloned.
    for (auto load :
         llvm::make_early_inc_range(stage.getBlock()->getOps<LoadOp>()))
      if (literals.count(load.getTensor()) && !literals[load.getTensor()])
        llvm_unreachable("a constant that is no splat");
    auto copy = cast<StageOp>(builder.clone(*stage, mapping));
    for (auto load :
         llvm::make_early_inc_range(copy.getBlock()->getOps<LoadOp>())) {
      auto it = literals.find(load.getTensor());
      if (it == literals.end())
        continue;
      OpBuilder b(load);
      Value literal =
          LiteralOp::create(b, load.getLoc(), it->second.getType(), it->second);
      load.getResult().replaceAllUsesWith(literal);
      load.erase();
    }
  }
  for (auto [result, value] :
       llvm::zip(op->getResults(), kernel.getResultValues()))
    values.map(result, mapping.lookup(value));
}

void Fuser::inlineSome(KernelOp kernel) {
  OperandRange results = kernel.getResultValues();
  llvm::SmallPtrSet<Operation *, 8> kept;
  for (Value v : results)
    kept.insert(v.getDefiningOp());
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() != FoldKind::none)
      continue;
    SmallVector<LoadOp> loads;
    for (Operation *user : stage.getResult().getUsers())
      if (auto load = dyn_cast<LoadOp>(user))
        loads.push_back(load);
    for (LoadOp load : loads) {
      size_t size = 0;
      kernel.walk([&](Operation *) { ++size; });
      if (size < 400 && !random.chance(3))
        ReadInliner(load, stage).run();
    }
    if (stage.getResult().use_empty() && !kept.contains(stage))
      stage.erase();
  }
}

void Fuser::maybeSetRows(KernelOp kernel, CertificateOp certificate) {
  bool isRow = true;
  std::optional<AffineExpr> first;
  for (StageOp stage : kernel.getStages()) {
    if (stage.getDomainRank() == 0 ||
        (first && *first != stage.getDomainDims()[0]))
      return;
    first = stage.getDomainDims()[0];
    for (auto load : stage.getBlock()->getOps<LoadOp>()) {
      if (!load.getTensor().getDefiningOp<StageOp>())
        continue;
      auto dim = dyn_cast<AffineDimExpr>(load.getMap().getResult(0));
      isRow &= dim && load.getCoords()[dim.getPosition()] ==
                          stage.getBlock()->getArgument(0);
    }
  }
  if (!isRow || random.chance(2))
    return;
  OpBuilder b(kernel);
  kernel.setRowsAttr(b.getI64IntegerAttr(1));
  certificate.setRowsAttr(b.getI64IntegerAttr(1));
}

void Fuser::fuse(ArrayRef<Operation *> group) {
  llvm::SmallPtrSet<Operation *, 8> members(group.begin(), group.end());
  llvm::SetVector<Value> operands, absorbed, results;
  for (Operation *op : group) {
    for (Value v : op->getOperands())
      if (!members.contains(v.getDefiningOp())) {
        // A guarded load of an absent tensor has no literal: only pads read
        // their value unguarded, so this holds for all operators made here.
        if (isa<CallOp>(op) && splatOf(v) && !operands.contains(v) &&
            (absorbed.contains(v) || random.chance(2)))
          absorbed.insert(v);
        else
          operands.insert(v);
      }
    for (Value v : op->getResults())
      if (llvm::any_of(v.getUsers(), [&](Operation *user) {
            return !members.contains(user);
          }))
        results.insert(v);
  }
  for (Value v : operands)
    absorbed.remove(v);
  if (results.empty())
    return;
  Location loc = group.front()->getLoc();
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  std::string name = "fused_" + std::to_string(number++);
  SmallVector<Type> operandTypes, resultTypes;
  for (Value v : operands)
    operandTypes.push_back(v.getType());
  for (Value v : results)
    resultTypes.push_back(v.getType());
  auto kernel = KernelOp::create(
      builder, loc, builder.getStringAttr(name),
      TypeAttr::get(builder.getFunctionType(operandTypes, resultTypes)),
      nullptr, nullptr, builder.getStrArrayAttr({}), nullptr, nullptr, nullptr);
  auto certificate =
      CertificateOp::create(builder, loc, name + "_certificate", name, 0,
                            builder.getArrayAttr({}), "exact");
  {
    Block *block = builder.createBlock(&kernel.getBody());
    IRMapping values;
    for (Value v : operands)
      values.map(v, block->addArgument(v.getType(), loc));
    for (Operation *op : group)
      addStages(op, values, builder);
    SmallVector<Value> returned;
    for (Value v : results)
      returned.push_back(values.lookup(v));
    ReturnOp::create(builder, loc, returned);
  }
  {
    Block *block = builder.createBlock(&certificate.getBody());
    IRMapping values;
    for (Value v : operands)
      values.map(v, block->addArgument(v.getType(), loc));
    for (Value v : absorbed)
      builder.clone(*v.getDefiningOp(), values);
    for (Operation *op : group)
      builder.clone(*op, values);
    SmallVector<Value> returned;
    for (Value v : results)
      returned.push_back(values.lookup(v));
    ReturnOp::create(builder, loc, returned);
  }
  inlineSome(kernel);
  maybeSetRows(kernel, certificate);
  OpBuilder b(group.back());
  auto call = CallOp::create(
      b, loc, resultTypes, name,
      SmallVector<Value>(operands.begin(), operands.end()), DimsAttr());
  for (auto [i, r] : llvm::enumerate(call.getResults())) {
    Value v = results[i];
    v.replaceAllUsesWith(r);
  }
  for (Operation *op : llvm::reverse(group))
    op->erase();
}

OwningOpRef<ModuleOp> test::fuseByHand(ModuleOp original, Random &random) {
  OwningOpRef<ModuleOp> fused = original.clone();
  Fuser(*fused, random).run();
  return fused;
}
