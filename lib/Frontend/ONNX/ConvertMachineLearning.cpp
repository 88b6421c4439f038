//===- ConvertMachineLearning.cpp - numeric operators of ai.onnx.ml -------===//
//
// Scalers, imputers, encoders of numbers and linear models as tensor
// expressions; trees are in ConvertTrees.cpp.
//
//===----------------------------------------------------------------------===//

#include "Scores.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

/// The operand in f32, as most results of the domain are.
static Value readFloats(NodeContext &node, unsigned i = 0) {
  return node.b.convert(node.in(i), node.b.builder.getF32Type());
}

/// A list of the node as f32, of one element or of the last dim's size.
static Value readRow(NodeContext &node, Value x, ArrayRef<double> values,
                     StringRef what) {
  int64_t count = values.size();
  std::optional<int64_t> width =
      graph::constantValue(node.b.dim(x, node.b.rank(x) - 1));
  if (count != 1 && width && *width != count)
    refuseMalformed(("'" + what + "' has " + Twine(count) +
                     " entries for a dim of " + Twine(*width))
                        .str());
  return node.b.constantFloats(values, {count}, node.b.builder.getF32Type());
}

static void convertScaler(NodeContext &node) {
  Value x = readFloats(node);
  SmallVector<double> offset = node.fs("offset"), scale = node.fs("scale");
  if (!offset.empty())
    x = node.b.sub(x, readRow(node, x, offset, "offset"));
  if (!scale.empty())
    x = node.b.mul(x, readRow(node, x, scale, "scale"));
  node.result(x);
}

static void convertNormalizer(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = readFloats(node);
  int64_t axis = b.rank(x) - 1;
  StringRef norm = node.s("norm", "MAX");
  Value size;
  if (norm == "L1")
    size = b.reduce(b.unary("graph.abs", x), FoldKind::add, {axis});
  else if (norm == "L2")
    size = b.unary("graph.sqrt", b.reduce(b.mul(x, x), FoldKind::add, {axis}));
  else if (norm == "MAX")
    size = b.reduce(x, FoldKind::max, {axis});
  else
    refuseMalformed("unknown norm '" + norm.str() + "'");
  // A row of zeros stays.
  Value zero = b.splat(0, b.element(x));
  Value divisor = b.select(b.emit("graph.eq", {size, zero}),
                           b.splat(1, b.element(x)), size);
  node.result(b.div(x, divisor));
}

static void convertImputer(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), missing, value;
  if (isFloat(b.element(x))) {
    double replaced = node.f("replaced_value_float", 0);
    missing = std::isnan(replaced)
                  ? b.emit("graph.isnan", {x})
                  : b.emit("graph.eq", {x, b.splat(replaced, b.element(x))});
    value = b.convert(readRow(node, x, node.fs("imputed_value_floats"),
                              "imputed_value_floats"),
                      b.element(x));
  } else {
    SmallVector<int64_t> values = node.is("imputed_value_int64s");
    missing = b.emit(
        "graph.eq",
        {x, b.splatInt(node.i("replaced_value_int64", 0), b.element(x))});
    value = b.constantInts(values, {static_cast<int64_t>(values.size())},
                           b.element(x));
  }
  node.result(b.select(missing, value, x));
}

static void convertFeatureVectorizer(NodeContext &node) {
  GraphBuilder &b = node.b;
  SmallVector<Value> parts;
  for (unsigned i = 0; i < node.numInputs(); ++i) {
    Value x = readFloats(node, i);
    parts.push_back(b.rank(x) == 1 ? b.unsqueeze(x, {1}) : x);
  }
  node.result(b.concat(parts, b.rank(parts[0]) - 1));
}

static void convertOneHotEncoder(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (node.hasAttr("cats_strings") || !node.hasAttr("cats_int64s"))
    refuse("categories of strings");
  if (!node.i("zeros", 1))
    refuse("zeros of 0: an unknown category would end the run");
  SmallVector<int64_t> categories = node.is("cats_int64s");
  Type i64 = b.builder.getI64Type();
  Value x = b.convert(node.in(0), i64);
  Value all = b.constantInts(categories,
                             {static_cast<int64_t>(categories.size())}, i64);
  Value equal = b.emit("graph.eq", {b.unsqueeze(x, {b.rank(x)}), all});
  node.result(b.convert(equal, b.builder.getF32Type()));
}

static void convertLabelEncoder(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  bool fromInts = node.hasAttr("keys_int64s"),
       toInts = node.hasAttr("values_int64s");
  if ((!fromInts && !node.hasAttr("keys_floats")) ||
      (!toInts && !node.hasAttr("values_floats")))
    refuse("keys or values that are not lists of integers or floats");
  Type to = toInts ? Type(b.builder.getI64Type()) : b.builder.getF32Type();
  SmallVector<int64_t> intKeys = node.is("keys_int64s"),
                       intValues = node.is("values_int64s");
  SmallVector<double> keys = node.fs("keys_floats"),
                      values = node.fs("values_floats");
  size_t count = fromInts ? intKeys.size() : keys.size();
  if (count != (toInts ? intValues.size() : values.size()))
    refuseMalformed("as many keys as values are wanted");
  if (count > 1024)
    refuse("more than 1024 keys");
  // From the last to the first: of equal keys the first counts.
  Value y =
      b.broadcast(b.reshape(toInts ? b.splatInt(node.i("default_int64", -1), to)
                                   : b.splat(node.f("default_float", -0.0), to),
                            SmallVector<int64_t>(b.rank(x), 1)),
                  b.dims(x));
  for (size_t k = count; k-- > 0;) {
    Value key = fromInts ? b.splatInt(intKeys[k], b.element(x))
                         : b.splat(keys[k], b.element(x));
    Value value =
        toInts ? b.splatInt(intValues[k], to) : b.splat(values[k], to);
    Value equal = !fromInts && std::isnan(keys[k])
                      ? b.emit("graph.isnan", {x})
                      : b.emit("graph.eq", {x, key});
    y = b.select(equal, value, y);
  }
  node.result(y);
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

Value dlc::transformScores(NodeContext &node, Value scores) {
  GraphBuilder &b = node.b;
  StringRef name = node.s("post_transform", "NONE");
  if (name == "NONE")
    return scores;
  if (name == "LOGISTIC")
    return b.unary("graph.sigmoid", scores);
  if (name == "SOFTMAX")
    return makeSoftmax(b, scores, b.rank(scores) - 1);
  refuse("post_transform " + name.str());
}

Value dlc::readRows(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = readFloats(node);
  if (b.rank(x) == 1)
    x = b.unsqueeze(x, {0});
  if (b.rank(x) != 2)
    refuseMalformed("wants rows of features");
  return x;
}

/// x W^T + b for coefficients (targets, features).
static Value makeScores(NodeContext &node, Value x, int64_t targets) {
  GraphBuilder &b = node.b;
  SmallVector<double> coefficients = node.fs("coefficients"),
                      intercepts = node.fs("intercepts");
  int64_t count = coefficients.size();
  if (targets < 1 || count == 0 || count % targets)
    refuseMalformed("'coefficients' are not rows of one a target");
  Type f32 = b.builder.getF32Type();
  Value y =
      b.einsum("nf", "cf", "nc", x,
               b.constantFloats(coefficients, {targets, count / targets}, f32));
  if (intercepts.empty())
    return y;
  if (static_cast<int64_t>(intercepts.size()) != targets)
    refuseMalformed("'intercepts' must have one entry a target");
  return b.add(y, b.constantFloats(intercepts, {targets}, f32));
}

static void convertLinearRegressor(NodeContext &node) {
  node.result(transformScores(
      node, makeScores(node, readRows(node), node.i("targets", 1))));
}

void dlc::finishClassifier(NodeContext &node, Value scores,
                           ArrayRef<int64_t> labels, double threshold) {
  GraphBuilder &b = node.b;
  Type i64 = b.builder.getI64Type();
  std::optional<int64_t> count = graph::constantValue(b.dim(scores, 1));
  Value winner;
  if (count == 1 && labels.size() == 2) {
    winner = b.convert(
        b.emit("graph.gt", {scores, b.splat(threshold, b.element(scores))}),
        i64);
    StringRef name = node.s("post_transform", "NONE");
    if (name != "NONE" && name != "LOGISTIC")
      refuse("post_transform " + name.str() + " of a single score");
    Value second = transformScores(node, scores);
    scores =
        b.concat({b.sub(b.splat(1, b.element(second)), second), second}, 1);
  } else {
    if (count != static_cast<int64_t>(labels.size()))
      refuseMalformed("as many labels as scores are wanted");
    winner = b.reduce(scores, FoldKind::argmax, {1});
    scores = transformScores(node, scores);
  }
  Value table =
      b.constantInts(labels, {static_cast<int64_t>(labels.size())}, i64);
  node.result(0, b.gather(table, b.squeeze(winner, {1}), 0));
  node.result(1, scores);
}

static void convertLinearClassifier(NodeContext &node) {
  if (!node.hasAttr("classlabels_ints"))
    refuse("labels of strings; write the model with integer labels");
  finishClassifier(
      node, makeScores(node, readRows(node), node.fs("intercepts").size()),
      node.is("classlabels_ints"), /*threshold=*/0);
}

void dlc::addMachineLearning(ConverterTable &table) {
  table["ai.onnx.ml.Scaler"] = convertScaler;
  table["ai.onnx.ml.Normalizer"] = convertNormalizer;
  table["ai.onnx.ml.Imputer"] = convertImputer;
  table["ai.onnx.ml.FeatureVectorizer"] = convertFeatureVectorizer;
  table["ai.onnx.ml.OneHotEncoder"] = convertOneHotEncoder;
  table["ai.onnx.ml.LabelEncoder"] = convertLabelEncoder;
  table["ai.onnx.ml.LinearRegressor"] = convertLinearRegressor;
  table["ai.onnx.ml.LinearClassifier"] = convertLinearClassifier;
}
