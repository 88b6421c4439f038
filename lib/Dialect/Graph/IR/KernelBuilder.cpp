// Building kernels from operator rows, and giving a kernel its own symbols.
#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// Symbols the function may have while rows are built; maps are renumbered
// afterwards.
static unsigned countSymbols(ArrayRef<AffineExpr> exprs) {
  unsigned n = 0;
  for (AffineExpr e : exprs)
    e.walk([&](AffineExpr x) {
      if (auto s = dyn_cast<AffineSymbolExpr>(x))
        n = std::max(n, s.getPosition() + 1);
    });
  return n;
}

ExprBuilder::ExprBuilder(OpBuilder &builder, Location loc, StageOp stage)
    : builder(builder), loc(loc), domainRank(stage.getDomainRank()),
      reduceRank(stage.getReduceRank()),
      coords(stage.getBlock()->args_begin(), stage.getBlock()->args_end()) {}

AffineExpr ExprBuilder::d(unsigned i) const {
  assert(i < domainRank && "no such domain axis");
  return getAffineDimExpr(i, builder.getContext());
}
AffineExpr ExprBuilder::r(unsigned j) const {
  assert(j < reduceRank && "no such reduce axis");
  return getAffineDimExpr(domainRank + j, builder.getContext());
}
AffineExpr ExprBuilder::c(int64_t value) const {
  return getAffineConstantExpr(value, builder.getContext());
}

AffineExpr ExprBuilder::dataCoord(Value scalar, AffineExpr size) {
  coords.push_back(
      ToIndexOp::create(builder, loc, cast(scalar, builder.getI64Type()),
                        DimsAttr::get(builder.getContext(), {size})));
  return getAffineDimExpr(coords.size() - 1, builder.getContext());
}

Value ExprBuilder::load(Value tensor, ArrayRef<AffineExpr> index) {
  return loadGuarded(tensor, index, {}, Value(), {});
}

Value ExprBuilder::loadGuarded(Value tensor, ArrayRef<AffineExpr> index,
                               ArrayRef<AffineExpr> nonNegative, Value other,
                               ArrayRef<AffineExpr> zero) {
  SmallVector<AffineExpr> simplified =
      llvm::map_to_vector(index, [](AffineExpr e) { return simplify(e); });
  auto map = AffineMap::get(coords.size(), countSymbols(simplified), simplified,
                            builder.getContext());
  IntegerSetAttr guard;
  SmallVector<AffineExpr> constraints;
  SmallVector<bool> equalities;
  for (AffineExpr e : nonNegative) {
    AffineExpr s = simplify(e);
    if (constantValue(s).value_or(-1) >= 0)
      continue;
    constraints.push_back(s);
    equalities.push_back(false);
  }
  for (AffineExpr e : zero) {
    AffineExpr s = simplify(e);
    if (constantValue(s).value_or(1) == 0)
      continue;
    constraints.push_back(s);
    equalities.push_back(true);
  }
  if (!constraints.empty())
    guard = IntegerSetAttr::get(IntegerSet::get(
        coords.size(), countSymbols(constraints), constraints, equalities));
  Type type = cast<RankedTensorType>(tensor.getType()).getElementType();
  return LoadOp::create(builder, loc, type, tensor, coords,
                        AffineMapAttr::get(map), guard,
                        guard ? other : Value());
}

Value ExprBuilder::apply(ScalarFn fn, std::initializer_list<Value> args) {
  return apply(fn, ValueRange(ArrayRef<Value>(args.begin(), args.size())));
}
Value ExprBuilder::apply(ScalarFn fn, ValueRange args) {
  ScalarFnInfo info = getScalarFnInfo(fn);
  assert(args.size() == info.arity && "arity");
  Type type = info.result == ScalarFnInfo::Bool           ? builder.getI1Type()
              : info.result == ScalarFnInfo::SameAsSecond ? args[1].getType()
                                                          : args[0].getType();
  return ApplyOp::create(builder, loc, type,
                         ScalarFnAttr::get(builder.getContext(), fn), args);
}

Value ExprBuilder::cast(Value x, Type type, bool saturate) {
  if (x.getType() == type)
    return x;
  return CastOp::create(builder, loc, type, x, saturate);
}

Value ExprBuilder::lit(double value, Type type) {
  TypedAttr attr;
  if (auto f = dyn_cast<FloatType>(type))
    attr = builder.getFloatAttr(f, value);
  else
    attr = IntegerAttr::get(type, APInt(type.getIntOrFloatBitWidth(),
                                        static_cast<int64_t>(value),
                                        /*isSigned=*/true,
                                        /*implicitTrunc=*/true));
  return LiteralOp::create(builder, loc, type, attr);
}

Value ExprBuilder::coord(AffineExpr expr) {
  AffineExpr s = simplify(expr);
  return CoordOp::create(
      builder, loc, builder.getI64Type(), coords,
      AffineMapAttr::get(AffineMap::get(coords.size(), countSymbols({s}), s)));
}

KernelBuilder::KernelBuilder(ModuleOp module, Location loc, StringRef name,
                             TypeRange operands, TypeRange results)
    : builder(OpBuilder::atBlockEnd(module.getBody())), loc(loc) {
  auto type = builder.getFunctionType(operands, results);
  kernel = KernelOp::create(builder, loc, builder.getStringAttr(name),
                            TypeAttr::get(type), /*arg_attrs=*/nullptr,
                            /*res_attrs=*/nullptr, /*symbols=*/nullptr,
                            /*origin=*/nullptr, /*schedule=*/nullptr,
                            /*rows=*/nullptr);
  Block *block = builder.createBlock(&kernel.getBody());
  for (Type t : operands)
    block->addArgument(t, loc);
  builder.setInsertionPointToStart(block);
}

Value KernelBuilder::map(Type type, Body body) {
  return fold(type, {}, FoldKind::none, body);
}

Value KernelBuilder::fold(Type type, ArrayRef<AffineExpr> reduce, FoldKind kind,
                          Body body, TypedAttr init) {
  MLIRContext *context = builder.getContext();
  DimsAttr reduceAttr =
      kind == FoldKind::none ? DimsAttr() : DimsAttr::get(context, reduce);
  FoldKindAttr foldAttr = kind == FoldKind::none
                              ? FoldKindAttr()
                              : FoldKindAttr::get(context, kind);
  auto stage =
      StageOp::create(builder, loc, type, DimsAttr::get(context, getDims(type)),
                      reduceAttr, foldAttr, init);
  OpBuilder::InsertionGuard guard(builder);
  Block *block = builder.createBlock(&stage.getBody());
  for (unsigned i = 0, n = stage.getDomainRank() + stage.getReduceRank(); i < n;
       ++i)
    block->addArgument(builder.getIndexType(), loc);
  ExprBuilder expr(builder, loc, stage);
  Value value = body(expr);
  YieldOp::create(builder, loc, value);
  return stage.getResult();
}

void KernelBuilder::finish(ValueRange results) {
  ReturnOp::create(builder, loc, results);
}

LogicalResult KernelBuilder::finishOpaque(Operation *op) {
  Operation *copy = builder.clone(*op);
  copy->setOperands(kernel.getBody().getArguments());
  copy->setLoc(loc);
  finish(copy->getResults());
  return success();
}

//===----------------------------------------------------------------------===//
// A kernel's own symbols
//===----------------------------------------------------------------------===//

AffineExpr SymbolRenumbering::rewrite(AffineExpr e) {
  SmallVector<AffineExpr> replacement;
  e.walk([&](AffineExpr x) {
    auto s = dyn_cast<AffineSymbolExpr>(x);
    if (!s)
      return;
    unsigned old = s.getPosition();
    auto [it, isNew] = renumbered.try_emplace(old, actual.size());
    if (isNew)
      actual.push_back(x);
    if (old >= replacement.size())
      replacement.resize(old + 1, getAffineConstantExpr(0, context));
    replacement[old] = getAffineSymbolExpr(it->second, context);
  });
  return e.replaceSymbols(replacement);
}

AffineMap SymbolRenumbering::rewrite(AffineMap map) {
  SmallVector<AffineExpr> results = llvm::map_to_vector(
      map.getResults(), [&](AffineExpr e) { return rewrite(e); });
  return AffineMap::get(map.getNumDims(), actual.size(), results, context);
}

Attribute SymbolRenumbering::rewrite(Attribute attr) {
  if (auto dims = dyn_cast_or_null<DimsAttr>(attr))
    return DimsAttr::get(
        context, llvm::map_to_vector(dims.getDims(),
                                     [&](AffineExpr e) { return rewrite(e); }));
  if (auto map = dyn_cast_or_null<AffineMapAttr>(attr))
    return AffineMapAttr::get(rewrite(map.getValue()));
  if (auto set = dyn_cast_or_null<IntegerSetAttr>(attr)) {
    IntegerSet s = set.getValue();
    SmallVector<AffineExpr> exprs = llvm::map_to_vector(
        s.getConstraints(), [&](AffineExpr e) { return rewrite(e); });
    return IntegerSetAttr::get(
        IntegerSet::get(s.getNumDims(), actual.size(), exprs, s.getEqFlags()));
  }
  return attr;
}

Type SymbolRenumbering::rewrite(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !tensor.getEncoding())
    return type;
  return RankedTensorType::get(tensor.getShape(), tensor.getElementType(),
                               rewrite(tensor.getEncoding()));
}

void SymbolRenumbering::rewrite(KernelOp kernel) {
  auto rewriteTypes = [&](TypeRange types) {
    return llvm::map_to_vector(types, [&](Type t) { return rewrite(t); });
  };
  auto type = kernel.getFunctionType();
  SmallVector<Type> inputs = rewriteTypes(type.getInputs()),
                    results = rewriteTypes(type.getResults());
  kernel.setFunctionTypeAttr(
      TypeAttr::get(FunctionType::get(context, inputs, results)));
  for (BlockArgument arg : kernel.getBody().getArguments())
    arg.setType(rewrite(arg.getType()));
  kernel.getBody().walk([&](Operation *nested) { rewrite(nested); });
}

void SymbolRenumbering::rewrite(Operation *op) {
  for (NamedAttribute attr : llvm::to_vector(op->getAttrs()))
    op->setAttr(attr.getName(), rewrite(attr.getValue()));
  for (Value v : op->getResults())
    v.setType(rewrite(v.getType()));
}

void SymbolRenumbering::nameSymbols(KernelOp kernel) const {
  // Names are the call's business: a kernel only knows how many symbols it has.
  SmallVector<std::string> names;
  for (unsigned i = 0; i < actual.size(); ++i)
    names.push_back("s" + std::to_string(i));
  SmallVector<StringRef> refs(names.begin(), names.end());
  kernel.setSymbolsAttr(OpBuilder(context).getStrArrayAttr(refs));
}

FailureOr<KernelOp>
graph::buildKernelFor(GraphOp op, ModuleOp module, StringRef name,
                      SmallVectorImpl<AffineExpr> &symbolMap) {
  KernelBuilder builder(module, op->getLoc(), name, op->getOperandTypes(),
                        op->getResultTypes());
  KernelOp kernel = builder.getKernel();
  if (failed(op.buildKernel(builder))) {
    kernel.erase();
    return failure();
  }
  SymbolRenumbering symbols(op->getContext());
  symbols.rewrite(kernel);
  symbolMap.assign(symbols.actual.begin(), symbols.actual.end());
  symbols.nameSymbols(kernel);
  return kernel;
}
