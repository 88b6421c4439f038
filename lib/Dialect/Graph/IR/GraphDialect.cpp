// Registration of the graph dialect, its attributes, and the helpers on
// symbolic sizes that the rest of the compiler shares.
#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/Graph/IR/State.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

#include "dlc/Dialect/Graph/IR/GraphDialect.cpp.inc"
#include "dlc/Dialect/Graph/IR/GraphEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dlc/Dialect/Graph/IR/GraphAttrs.cpp.inc"
#include "dlc/Dialect/Graph/IR/GraphInterfaces.cpp.inc"

void GraphDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dlc/Dialect/Graph/IR/GraphAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dlc/Dialect/Graph/IR/GraphOps.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dlc/Dialect/Graph/IR/ControlOps.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dlc/Dialect/Graph/IR/StateOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// #graph.dims
//===----------------------------------------------------------------------===//

// More symbols than any model names; the parser needs their spellings up front.
static constexpr unsigned kMaxParsedSymbols = 256;

Attribute DimsAttr::parse(AsmParser &parser, Type) {
  SmallVector<std::string> names;
  SmallVector<std::pair<StringRef, AffineExpr>> symbols;
  names.reserve(kMaxParsedSymbols);
  for (unsigned i = 0; i < kMaxParsedSymbols; ++i) {
    names.push_back("s" + std::to_string(i));
    symbols.push_back(
        {names.back(), getAffineSymbolExpr(i, parser.getContext())});
  }
  SmallVector<AffineExpr> dims;
  if (parser.parseLess())
    return {};
  if (failed(parser.parseOptionalGreater())) {
    auto parseDim = [&]() {
      return parser.parseAffineExpr(symbols, dims.emplace_back());
    };
    if (parser.parseCommaSeparatedList(parseDim) || parser.parseGreater())
      return {};
  }
  return DimsAttr::get(parser.getContext(), dims);
}

void DimsAttr::print(AsmPrinter &printer) const {
  printer << "<";
  llvm::interleaveComma(getDims(), printer.getStream(),
                        [&](AffineExpr e) { e.print(printer.getStream()); });
  printer << ">";
}

//===----------------------------------------------------------------------===//
// Symbolic sizes
//===----------------------------------------------------------------------===//

AffineExpr graph::simplify(AffineExpr expr) {
  unsigned dims = 0, symbols = 0;
  expr.walk([&](AffineExpr e) {
    if (auto d = dyn_cast<AffineDimExpr>(e))
      dims = std::max(dims, d.getPosition() + 1);
    if (auto s = dyn_cast<AffineSymbolExpr>(e))
      symbols = std::max(symbols, s.getPosition() + 1);
  });
  return simplifyAffineExpr(expr, dims, symbols);
}

std::optional<int64_t> graph::constantValue(AffineExpr expr) {
  if (auto c = dyn_cast<AffineConstantExpr>(expr))
    return c.getValue();
  return std::nullopt;
}

AffineExpr graph::product(MLIRContext *context, ArrayRef<AffineExpr> dims) {
  AffineExpr result = getAffineConstantExpr(1, context);
  for (AffineExpr d : dims)
    result = result * d;
  return simplify(result);
}

SmallVector<AffineExpr> graph::constantDims(MLIRContext *context,
                                            ArrayRef<int64_t> sizes) {
  return llvm::map_to_vector(
      sizes, [&](int64_t n) { return getAffineConstantExpr(n, context); });
}

SmallVector<AffineExpr> graph::getDims(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  if (auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding()))
    return SmallVector<AffineExpr>(dims.getDims());
  assert(tensor.hasStaticShape() &&
         "a dynamic dim needs the #graph.dims encoding");
  return constantDims(type.getContext(), tensor.getShape());
}

RankedTensorType graph::makeTensorType(ArrayRef<AffineExpr> dims,
                                       Type elementType) {
  SmallVector<int64_t> shape;
  SmallVector<AffineExpr> simplified;
  bool isStatic = true;
  for (AffineExpr d : dims) {
    AffineExpr e = simplify(d);
    simplified.push_back(e);
    std::optional<int64_t> n = constantValue(e);
    isStatic &= n.has_value();
    shape.push_back(n.value_or(ShapedType::kDynamic));
  }
  Attribute encoding;
  if (!isStatic)
    encoding = DimsAttr::get(elementType.getContext(), simplified);
  return RankedTensorType::get(shape, elementType, encoding);
}

int64_t graph::evaluate(AffineExpr expr, ArrayRef<int64_t> symbols,
                        ArrayRef<int64_t> dims) {
  auto floorDiv = [](int64_t a, int64_t b) {
    return b == 0 ? 0 : a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
  };
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return cast<AffineConstantExpr>(expr).getValue();
  case AffineExprKind::DimId:
    return dims[cast<AffineDimExpr>(expr).getPosition()];
  case AffineExprKind::SymbolId:
    return symbols[cast<AffineSymbolExpr>(expr).getPosition()];
  default:
    break;
  }
  auto bin = cast<AffineBinaryOpExpr>(expr);
  int64_t a = evaluate(bin.getLHS(), symbols, dims),
          b = evaluate(bin.getRHS(), symbols, dims);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return a + b;
  case AffineExprKind::Mul:
    return a * b;
  case AffineExprKind::FloorDiv:
    return floorDiv(a, b);
  case AffineExprKind::CeilDiv:
    return -floorDiv(-a, b);
  default:
    return a - floorDiv(a, b) * b;
  }
}

FailureOr<SmallVector<AffineExpr>>
graph::broadcastDims(ArrayRef<AffineExpr> a, ArrayRef<AffineExpr> b) {
  if (a.size() < b.size())
    std::swap(a, b);
  SmallVector<AffineExpr> result(a);
  unsigned lead = a.size() - b.size();
  for (auto [i, d] : llvm::enumerate(b)) {
    AffineExpr &out = result[lead + i];
    if (constantValue(out) == 1)
      out = d;
    else if (constantValue(d) != 1 && simplify(d - out) != 0)
      return failure();
  }
  return result;
}

int64_t graph::elementBytes(Type type) {
  if (isa<IntegerType>(type))
    return std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8);
  return llvm::divideCeil(type.getIntOrFloatBitWidth(), 8);
}

bool graph::isUnsigned(Type type) { return type.isUnsignedInteger(); }

ScalarFnInfo graph::getScalarFnInfo(ScalarFn fn) {
  uint32_t value = static_cast<uint32_t>(fn);
  if (fn == ScalarFn::isnan || fn == ScalarFn::isinf)
    return {1, ScalarFnInfo::Bool};
  if (fn == ScalarFn::select)
    return {3, ScalarFnInfo::SameAsSecond};
  if (value < static_cast<uint32_t>(ScalarFn::add))
    return {1, ScalarFnInfo::SameAsFirst};
  if (value < static_cast<uint32_t>(ScalarFn::eq))
    return {2, ScalarFnInfo::SameAsFirst};
  return {2, ScalarFnInfo::Bool};
}
