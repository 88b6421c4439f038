//===- ConvertCast.cpp - from one element type to another -----------------===//
//
// Cast, CastLike and BitCast. Types without kernels (float8, int4, strings) are
// refused by the builder, which names them.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

Type dlc::getCastTarget(NodeContext &node) {
  return onnxd::getElementType(node.b.context(),
                               static_cast<int>(node.i("to", 0)));
}

static void convertCast(NodeContext &node) {
  Type to = getCastTarget(node);
  if (!to)
    refuseMalformed("'to' is " + std::to_string(node.i("to", 0)) +
                    ", which is no data type");
  // `saturate` speaks of float8 only; integers are as numpy casts them.
  node.result(node.b.convert(node.in(0), to));
}

static void convertCastLike(NodeContext &node) {
  node.result(node.b.convert(node.in(0), node.b.element(node.in(1))));
}

static void convertBitCast(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type to = getCastTarget(node);
  if (!to)
    refuseMalformed("'to' is no data type");
  if (to == b.element(x))
    return node.result(x);
  node.result(
      b.emit("graph.bitcast", {x}, {}, graph::makeTensorType(b.dims(x), to)));
}

void dlc::addCasts(ConverterTable &table) {
  table["Cast"] = convertCast;
  table["CastLike"] = convertCastLike;
  table["BitCast"] = convertBitCast;
}
