// Opaque operators: which builder makes the code, and what builders are written
// with.
#include "Opaque.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace dlc;

static SmallVector<Type> bufferElements(graph::KernelOp kernel) {
  SmallVector<Type> elements;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      elements.push_back(cast<RankedTensorType>(type).getElementType());
  return elements;
}

OpaquePhase::OpaquePhase(OpaqueKernel &kernel, AffineExpr numTasks)
    : function(*kernel.result.module,
               kernel.result.phases.empty()
                   ? kernel.options.symbol
                   : kernel.options.symbol + "." +
                         std::to_string(kernel.result.phases.size()),
               bufferElements(kernel.kernel), kernel.kernel.getNumSymbols()),
      b(function.builder()), loc(function.loc()), index(b, loc),
      scalar(b, loc, ScalarOptions::get(kernel.target, kernel.options.strict)),
      elements(bufferElements(kernel.kernel)) {
  StringRef body = function.func().getSymName();
  kernel.result.phases.push_back(
      {body.drop_back(StringRef(".impl").size()).str(),
       graph::simplify(numTasks)});
  for (TypeRange types : {TypeRange(kernel.kernel.getArgumentTypes()),
                          TypeRange(kernel.kernel.getResultTypes())})
    for (Type type : types)
      shapes.push_back(graph::getDims(type));
}

Scalar OpaquePhase::load(unsigned i, Value at) {
  return scalar.fromStorage(
      memref::LoadOp::create(b, loc, function.buffer(i), at), elements[i]);
}

void OpaquePhase::store(Scalar value, unsigned i, Value at) {
  memref::StoreOp::create(b, loc, scalar.toStorage(value), function.buffer(i),
                          at);
}

Value OpaquePhase::loadIndex(Value memref, Value at) {
  return arith::IndexCastOp::create(b, loc, b.getIndexType(),
                                    memref::LoadOp::create(b, loc, memref, at));
}

void OpaquePhase::storeIndex(Value value, Value memref, Value at) {
  memref::StoreOp::create(
      b, loc, arith::IndexCastOp::create(b, loc, b.getI64Type(), value), memref,
      at);
}

Value OpaquePhase::both(Value x, Value y) {
  return arith::AndIOp::create(b, loc, x, y);
}

Value OpaquePhase::isTrue(bool value) {
  return arith::ConstantOp::create(b, loc, b.getBoolAttr(value));
}

Value OpaquePhase::select(Value c, Value x, Value y) {
  return arith::SelectOp::create(b, loc, c, x, y);
}

Value OpaquePhase::fold(Value from, Value to, Value initial,
                        function_ref<Value(Value, Value)> body) {
  auto loop = scf::ForOp::create(b, loc, from, to, index.constant(1), initial);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(loop.getBody());
  Value next = body(loop.getInductionVar(), loop.getRegionIterArg(0));
  scf::YieldOp::create(b, loc, next);
  return loop.getResult(0);
}

Value OpaquePhase::when(Value condition, Value otherwise,
                        function_ref<Value()> body) {
  auto branch = scf::IfOp::create(b, loc, otherwise.getType(), condition,
                                  /*addThenBlock=*/true, /*addElseBlock=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(branch.thenBlock());
  Value value = body();
  scf::YieldOp::create(b, loc, value);
  b.setInsertionPointToEnd(branch.elseBlock());
  scf::YieldOp::create(b, loc, otherwise);
  return branch.getResult(0);
}

void OpaquePhase::when(Value condition, function_ref<void()> body) {
  auto branch = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  body();
}

Value OpaquePhase::findFirst(Value from, Value to,
                             function_ref<Value(Value)> stops) {
  Type type = b.getIndexType();
  auto loop = scf::WhileOp::create(b, loc, TypeRange(type), ValueRange(from));
  OpBuilder::InsertionGuard guard(b);
  Value i = b.createBlock(&loop.getBefore(), {}, type, loc)->getArgument(0);
  Value goesOn = when(index.less(i, to), isTrue(false), [&] {
    return arith::XOrIOp::create(b, loc, stops(i), isTrue(true)).getResult();
  });
  scf::ConditionOp::create(b, loc, goesOn, i);
  Value last = b.createBlock(&loop.getAfter(), {}, type, loc)->getArgument(0);
  scf::YieldOp::create(b, loc, index.add(last, 1));
  return loop.getResult(0);
}

FailureOr<CpuKernel> dlc::emitOpaque(graph::KernelOp kernel,
                                     const CpuTarget &target,
                                     const CpuCodegenOptions &options) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = "opaque";
  result.module = ModuleOp::create(kernel.getLoc());
  result.scratchBytes = getAffineConstantExpr(0, kernel.getContext());
  OpaqueKernel job{kernel, target, options, result};
  Operation *op = kernel.getOpaque();
  bool isKnown =
      TypeSwitch<Operation *, bool>(op)
          .Case([&](graph::ArgsortOp o) { return emitArgsort(job, o), true; })
          .Case([&](graph::CompactOp o) { return emitCompact(job, o), true; })
          .Case([&](graph::ScatterOp o) { return emitScatter(job, o), true; })
          .Case([&](graph::NmsOp o) { return emitNms(job, o), true; })
          .Default(false);
  if (!isKnown)
    return op->emitOpError("has no code for CPUs");
  return std::move(result);
}
