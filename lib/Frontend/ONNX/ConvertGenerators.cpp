//===- ConvertGenerators.cpp - tensors from parameters --------------------===//
//
// ConstantOfShape, Range, EyeLike: their sizes must be known.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

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

static void convertRange(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type element = b.element(node.in(0));
  // range(0, size, 1) of a symbolic size, as position numbers are made.
  std::optional<ShapeValue> start = node.shapeValue(0),
                            limit = node.shapeValue(1),
                            delta = node.shapeValue(2);
  if (start && limit && delta && !limit->isConstant()) {
    if (graph::constantValue(delta->values[0]) != 1 || !start->isConstant())
      refuse("a range over symbolic sizes with this step");
    int64_t first = *graph::constantValue(start->values[0]);
    return node.result(b.iota(graph::simplify(limit->values[0] - first),
                              element, static_cast<double>(first), 1));
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
