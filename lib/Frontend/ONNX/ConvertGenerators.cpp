//===- ConvertGenerators.cpp - tensors from parameters --------------------===//
//
// ConstantOfShape, Range, EyeLike: their sizes must be known.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

static void convertConstantOfShape(NodeContext &node) {
  GraphBuilder &b = node.b;
  Dims dims = node.symbolic(0, "input");
  for (AffineExpr size : dims)
    if (std::optional<int64_t> n = graph::constantValue(size); n && *n < 0)
      refuseMalformed("a dim is negative");
  auto value = node.op->getAttrOfType<DenseElementsAttr>("value");
  Value scalar = value ? b.reshape(makeConstant(b, value), ArrayRef<int64_t>{})
                       : b.splat(0, b.builder.getF32Type());
  node.typedResult(b.broadcast(scalar, dims),
                   value ? value.getElementType() : b.element(scalar));
}

/// The only element of a constant operand as a double.
static double readScalar(NodeContext &node, unsigned i, StringRef what) {
  if (isFloat(node.b.element(node.in(i)))) {
    SmallVector<double> values = node.floats(i, what);
    if (values.size() == 1)
      return values[0];
  } else if (SmallVector<int64_t> values = node.ints(i, what);
             values.size() == 1) {
    return static_cast<double>(values[0]);
  }
  refuseMalformed(("'" + what + "' must be one number").str());
}

/// The whole number that an operand is known to be, for floats too: detectors
/// number the cells of their grids by Range(0, Cast<float>(height), 1).
static AffineExpr knownWholeNumber(NodeContext &node, unsigned i) {
  if (std::optional<ShapeValue> known = node.shapeValue(i))
    return known->values.size() == 1 ? known->values[0] : AffineExpr();
  Type element = node.b.element(node.in(i));
  if (!element.isF32() && !element.isF64())
    return {};
  // Float sizes beyond would have been rounded.
  constexpr int64_t exact = 1 << 24;
  if (DenseElementsAttr dense = GraphBuilder::asConstant(node.in(i))) {
    SmallVector<double> values = node.floats(i, "bound");
    if (values.size() != 1 || values[0] != std::trunc(values[0]) ||
        std::abs(values[0]) > exact)
      return {};
    return node.b.c(static_cast<int64_t>(values[0]));
  }
  Operation *cast = node.op->getOperand(i).getDefiningOp();
  if (!cast || cast->getName().getStringRef() != "onnx.Cast")
    return {};
  NodeContext source(node.converter, cast);
  std::optional<ShapeValue> known = source.shapeValue(0);
  if (!known || known->values.size() != 1)
    return {};
  requireAtMost(node, known->values[0], node.b.c(exact),
                "a size is not exact as a float");
  return known->values[0];
}

static void convertRange(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type element = b.element(node.in(0));
  // Symbolic bounds: the numbers of positions, after those of a cache or not.
  AffineExpr start = knownWholeNumber(node, 0),
             limit = knownWholeNumber(node, 1),
             delta = knownWholeNumber(node, 2);
  if (start && limit && delta &&
      !(graph::constantValue(start) && graph::constantValue(limit))) {
    int64_t by = graph::constantValue(delta).value_or(0);
    if (by == 0)
      refuse("a range over symbolic sizes with this step");
    auto [low, high] =
        by > 0 ? std::pair(start, limit) : std::pair(limit, start);
    requireAtMost(node, low, high, "the range is empty");
    int64_t distance = std::abs(by);
    AffineExpr count =
        graph::simplify((high - low + (distance - 1)).floorDiv(b.c(distance)));
    std::optional<int64_t> first = graph::constantValue(start);
    Value numbers =
        b.iota(count, element, static_cast<double>(first.value_or(0)),
               static_cast<double>(by));
    if (!first)
      numbers = b.add(
          numbers, b.convert(b.size(start, b.builder.getI64Type()), element));
    return node.result(numbers);
  }
  double first = readScalar(node, 0, "start"),
         end = readScalar(node, 1, "limit"),
         step = readScalar(node, 2, "delta");
  if (step == 0 || std::isnan(step) || std::isnan(first) || std::isnan(end))
    refuseMalformed("'delta' is 0 or a bound is not a number");
  double count = std::max(0.0, std::ceil((end - first) / step));
  if (count > 1e9)
    refuseMalformed("the range is too long");
  node.result(b.iota(b.c(static_cast<int64_t>(count)), element, first, step));
}

static void convertEyeLike(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  if (b.rank(x) != 2)
    refuseMalformed("wants a matrix");
  Type i64 = b.builder.getI64Type();
  Type element = node.hasAttr("dtype")
                     ? onnxd::getElementType(
                           b.context(), static_cast<int>(node.i("dtype", 1)))
                     : b.element(x);
  Value rows = b.unsqueeze(b.iota(b.dim(x, 0), i64), {1}),
        columns = b.iota(b.dim(x, 1), i64);
  Value hit = b.emit("graph.eq",
                     {b.add(rows, b.splatInt(node.i("k", 0), i64)), columns});
  node.result(b.convert(hit, element));
}

void dlc::addGenerators(ConverterTable &table) {
  table["ConstantOfShape"] = convertConstantOfShape;
  table["Range"] = convertRange;
  table["EyeLike"] = convertEyeLike;
}
