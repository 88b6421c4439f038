// Parsing, printing and verifying kernels, stages, loads and calls.
#include "dlc/Dialect/Graph/IR/KernelBuilder.h"
#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Dialect/Graph/IR/NarrowTypes.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IntegerSet.h"
#include "mlir/Interfaces/FunctionImplementation.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/GraphOps.cpp.inc"

//===----------------------------------------------------------------------===//
// KernelOp
//===----------------------------------------------------------------------===//

ParseResult KernelOp::parse(OpAsmParser &parser, OperationState &result) {
  auto buildType = [](Builder &builder, ArrayRef<Type> args,
                      ArrayRef<Type> results,
                      function_interface_impl::VariadicFlag, std::string &) {
    return builder.getFunctionType(args, results);
  };
  return function_interface_impl::parseFunctionOp(
      parser, result, /*allowVariadic=*/false,
      getFunctionTypeAttrName(result.name), buildType,
      getArgAttrsAttrName(result.name), getResAttrsAttrName(result.name));
}

void KernelOp::print(OpAsmPrinter &printer) {
  function_interface_impl::printFunctionOp(
      printer, *this, /*isVariadic=*/false, getFunctionTypeAttrName(),
      getArgAttrsAttrName(), getResAttrsAttrName());
}

std::vector<StageOp> KernelOp::getStages() {
  auto stages = getBody().front().getOps<StageOp>();
  return {stages.begin(), stages.end()};
}

GraphOp KernelOp::getOpaque() {
  auto op = dyn_cast<GraphOp>(getBody().front().front());
  return op && op.getOpClass() == OpClass::opaque ? op : GraphOp();
}

OperandRange KernelOp::getResultValues() {
  return cast<ReturnOp>(getBody().front().getTerminator()).getValues();
}

// The row axes are the same axes of every stage.
static LogicalResult verifyRows(KernelOp kernel, int64_t rows) {
  if (rows < 0)
    return kernel.emitOpError("has a negative number of row axes");
  StageOp first;
  for (StageOp stage : kernel.getStages()) {
    if (stage.getDomainRank() < rows)
      return stage.emitOpError("has ")
             << stage.getDomainRank() << " domain axes, rows are " << rows;
    first = first ? first : stage;
    for (auto [a, b] : llvm::zip(first.getDomainDims().take_front(rows),
                                 stage.getDomainDims().take_front(rows)))
      if (simplify(a - b) != 0)
        return stage.emitOpError("has row axes of other sizes than the first");
  }
  return success();
}

LogicalResult KernelOp::verifyRegions() {
  auto ret = dyn_cast<ReturnOp>(getBody().front().getTerminator());
  if (!ret)
    return emitOpError("must end with graph.return");
  if (ret.getOperandTypes() != TypeRange(getResultTypes()))
    return ret.emitOpError("returns types other than the kernel's results");
  if (GraphOp opaque = getOpaque()) {
    if (opaque->getNextNode() != ret || ret.getValues() != opaque->getResults())
      return opaque->emitOpError("only an opaque operator may stand in a "
                                 "kernel, alone and as its result");
    return success();
  }
  for (Value v : ret.getValues())
    if (!v.getDefiningOp<StageOp>())
      return ret.emitOpError("a kernel returns stages only");
  for (Operation &op : getBody().front().without_terminator())
    if (!isa<StageOp>(op))
      return op.emitOpError("only stages may stand in a kernel");
  if (getRows() && failed(verifyRows(*this, *getRows())))
    return failure();
  unsigned symbols = getNumSymbols();
  WalkResult walk = getBody().walk([&](Operation *op) {
    for (NamedAttribute attr : op->getAttrs()) {
      unsigned used = 0;
      if (auto map = dyn_cast<AffineMapAttr>(attr.getValue()))
        used = map.getValue().getNumSymbols();
      else if (auto set = dyn_cast<IntegerSetAttr>(attr.getValue()))
        used = set.getValue().getNumSymbols();
      if (used > symbols) {
        op->emitOpError("uses ")
            << used << " symbols, the kernel has " << symbols;
        return WalkResult::interrupt();
      }
    }
    return WalkResult::advance();
  });
  return failure(walk.wasInterrupted());
}

//===----------------------------------------------------------------------===//
// StageOp and what its body is made of
//===----------------------------------------------------------------------===//

static bool isArgFold(FoldKind kind) { return kind >= FoldKind::argmax; }

LogicalResult StageOp::verify() {
  if (getReduce().has_value() != (getFoldKind() != FoldKind::none))
    return emitOpError("has a fold exactly when it has reduce axes");
  if (getResult().getType().getRank() != static_cast<int64_t>(getDomainRank()))
    return emitOpError("result rank ")
           << getResult().getType().getRank() << " is not the domain's "
           << getDomainRank();
  for (auto [type, dim] :
       llvm::zip(getDims(getResult().getType()), getDomainDims()))
    if (simplify(type - dim) != 0)
      return emitOpError("result dims differ from the domain");
  Block *block = getBlock();
  if (block->getNumArguments() != getDomainRank() + getReduceRank())
    return emitOpError("body takes one coordinate for each domain and reduce "
                       "axis, expected ")
           << getDomainRank() + getReduceRank() << ", got "
           << block->getNumArguments();
  for (BlockArgument arg : block->getArguments())
    if (!arg.getType().isIndex())
      return emitOpError("coordinates have type index");
  auto yield = dyn_cast<YieldOp>(block->getTerminator());
  if (!yield)
    return emitOpError("body must end with graph.yield");
  Type element = getElementType();
  bool isArg = isArgFold(getFoldKind());
  if (isArg ? !element.isInteger(64) : yield.getValue().getType() != element)
    return emitOpError("yields ")
           << yield.getValue().getType() << " for elements of type " << element;
  if (getInit() && (isArg || getInitAttr().getType() != element))
    return emitOpError(
        "init must have the element type of a fold that has one");
  return success();
}

LogicalResult LoadOp::verify() {
  auto type = cast<RankedTensorType>(getTensor().getType());
  AffineMap map = getMap();
  if (static_cast<int64_t>(map.getNumResults()) != type.getRank())
    return emitOpError("map has ")
           << map.getNumResults() << " results for a tensor of rank "
           << type.getRank();
  if (map.getNumDims() != getCoords().size())
    return emitOpError("map takes ")
           << map.getNumDims() << " coordinates, got " << getCoords().size();
  if (getResult().getType() != type.getElementType())
    return emitOpError("result type must be the tensor's element type");
  if (getGuard().has_value() != static_cast<bool>(getOther()))
    return emitOpError("a guard needs its else value and the reverse");
  if (getGuard() && getGuard()->getNumDims() != getCoords().size())
    return emitOpError("guard takes ")
           << getGuard()->getNumDims() << " coordinates, got "
           << getCoords().size();
  if (getOther() && getOther().getType() != getResult().getType())
    return emitOpError("else value must have the result's type");
  return success();
}

LogicalResult ApplyOp::verify() {
  ScalarFnInfo info = getScalarFnInfo(getFn());
  if (getArgs().size() != info.arity)
    return emitOpError() << stringifyScalarFn(getFn()) << " takes "
                         << info.arity << " operands, got " << getArgs().size();
  Type expected =
      info.result == ScalarFnInfo::Bool ? IntegerType::get(getContext(), 1)
      : info.result == ScalarFnInfo::SameAsSecond ? getArgs()[1].getType()
                                                  : getArgs()[0].getType();
  if (getResult().getType() != expected)
    return emitOpError("result type must be ") << expected;
  if (getFn() == ScalarFn::select) {
    if (!getArgs()[0].getType().isInteger(1) ||
        getArgs()[1].getType() != getArgs()[2].getType())
      return emitOpError("select takes an i1 and two values of one type");
  } else if (info.arity == 2 && getFn() != ScalarFn::pow &&
             getArgs()[0].getType() != getArgs()[1].getType()) {
    return emitOpError("operands must have one type");
  }
  return success();
}

LogicalResult InsideOp::verify() {
  if (getSet().getNumDims() != getCoords().size())
    return emitOpError("set takes ")
           << getSet().getNumDims() << " coordinates, got "
           << getCoords().size();
  return success();
}

//===----------------------------------------------------------------------===//
// CallOp
//===----------------------------------------------------------------------===//

LogicalResult CallOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto kernel =
      tables.lookupNearestSymbolFrom<KernelOp>(*this, getCalleeAttr());
  if (!kernel)
    return emitOpError("no kernel '") << getCallee() << "'";
  size_t given = getSymbols() ? getSymbols()->getDims().size() : 0;
  if (given != kernel.getNumSymbols())
    return emitOpError("gives ")
           << given << " symbols, the kernel has " << kernel.getNumSymbols();
  SmallVector<AffineExpr> actual;
  if (getSymbols())
    actual.assign(getSymbols()->getDims().begin(),
                  getSymbols()->getDims().end());
  auto matches = [&](Type formal, Type type) {
    auto f = cast<RankedTensorType>(formal), a = cast<RankedTensorType>(type);
    if (f.getElementType() != a.getElementType() || f.getRank() != a.getRank())
      return false;
    for (auto [x, y] : llvm::zip(getDims(f), getDims(a)))
      if (simplify(x.replaceSymbols(actual) - y) != 0)
        return false;
    return true;
  };
  if (getArgs().size() != kernel.getArgumentTypes().size() ||
      getNumResults() != kernel.getResultTypes().size())
    return emitOpError("operand or result count differs from the kernel's");
  for (auto [formal, type] :
       llvm::zip(kernel.getArgumentTypes(), getArgs().getTypes()))
    if (!matches(formal, type))
      return emitOpError("operand type ")
             << type << " is not the kernel's " << formal;
  for (auto [formal, type] :
       llvm::zip(kernel.getResultTypes(), getResultTypes()))
    if (!matches(formal, type))
      return emitOpError("result type ")
             << type << " is not the kernel's " << formal;
  return success();
}

//===----------------------------------------------------------------------===//
// CertificateOp
//===----------------------------------------------------------------------===//

LogicalResult CertificateOp::verifyRegions() {
  if (!llvm::is_contained({"exact", "reassociation", "precision"},
                          getObligation()))
    return emitOpError("obligation is exact, reassociation or precision, not ")
           << getObligation();
  for (Attribute law : getLaws())
    if (failed(Law::parse(cast<StringAttr>(law).getValue())))
      return emitOpError("no law ") << law;
  if (!isa<ReturnOp>(getBody().front().getTerminator()))
    return emitOpError("must end with graph.return");
  for (Operation &op : getBody().front().without_terminator())
    if (!isa<CallOp, ReshapeOp, ConstantOp>(op))
      return op.emitOpError("is not a member a certificate may have: calls, "
                            "reshapes and constants");
  return success();
}

LogicalResult CertificateOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto kernel =
      tables.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr());
  if (!kernel)
    return emitOpError("no kernel '") << getKernel() << "'";
  Block &block = getBody().front();
  if (block.getArgumentTypes() != TypeRange(kernel.getArgumentTypes()))
    return emitOpError("takes operands other than the kernel's");
  if (block.getTerminator()->getOperandTypes() !=
      TypeRange(kernel.getResultTypes()))
    return emitOpError("returns types other than the kernel's results");
  if (static_cast<int64_t>(kernel.getRows().value_or(0)) !=
      static_cast<int64_t>(getRows()))
    return emitOpError("rows are ")
           << getRows() << ", the kernel's " << kernel.getRows().value_or(0);
  return success();
}
