//===- ShapeFractions.cpp - sizes that pass through floats ----------------===//
//
// Exporters scale sizes as floats: floor(float(n) * 2.0), ceil(float(n - 1) /
// 1.0), and the scales of Resize as one size over another. Such numbers are
// followed as fractions of sizes beside their tensors. Constants count where
// a product or quotient of any size that fits memory rounds to itself.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

#include "llvm/ADT/APFloat.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

/// Longest list, and largest numerator and denominator of a constant.
static constexpr int64_t kMaxElements = 64, kMaxTerm = 64;

static std::optional<Fractions> readConstant(DenseElementsAttr dense) {
  if (!dense || !isa<FloatType>(dense.getElementType()) ||
      dense.getNumElements() > kMaxElements)
    return std::nullopt;
  MLIRContext *context = dense.getContext();
  Fractions out;
  out.dims.assign(dense.getType().getShape().begin(),
                  dense.getType().getShape().end());
  for (APFloat value : dense.getValues<APFloat>()) {
    bool loses;
    value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
    double number = value.convertToDouble();
    int64_t below = 1;
    while (below < kMaxTerm && number * below != std::floor(number * below))
      below *= 2;
    number *= below;
    if (!(std::abs(number) <= kMaxTerm) || number != std::floor(number))
      return std::nullopt;
    out.above.push_back(
        getAffineConstantExpr(static_cast<int64_t>(number), context));
    out.below.push_back(getAffineConstantExpr(below, context));
  }
  return out;
}

std::optional<Fractions> NodeContext::fractions(unsigned i) {
  if (!has(i) || entry(i).kind != Entry::Tensor)
    return std::nullopt;
  Entry &known = entry(i);
  if (!known.fractions && known.value)
    known.fractions = readConstant(GraphBuilder::asConstant(known.value));
  return known.fractions;
}

/// above / below of one element; null where it is not followed.
using Fraction = std::pair<AffineExpr, AffineExpr>;

static Fraction compute(NodeContext &node, StringRef op, Fraction x,
                        Fraction y) {
  auto [a, b] = x;
  auto [c, d] = y;
  if (op == "Mul")
    return {graph::simplify(a * c), graph::simplify(b * d)};
  if (op == "Div" && graph::constantValue(c) != 0)
    return {graph::simplify(a * d), graph::simplify(b * c)};
  if ((op == "Add" || op == "Sub") && b == d)
    return {graph::simplify(op == "Add" ? a + c : a - c), b};
  return {};
}

/// floor or ceil of a fraction; null where its sign is not known.
static AffineExpr roundToSize(NodeContext &node, Fraction x, bool up) {
  auto [above, below] = x;
  std::optional<int64_t> divisor = graph::constantValue(below);
  if (divisor == 1)
    return above;
  if (!divisor || *divisor < 1 || !requireNonNegative(node, above))
    return {};
  return graph::simplify(
      (up ? above + (*divisor - 1) : above).floorDiv(*divisor));
}

static std::optional<Fractions> combine(NodeContext &node, StringRef op,
                                        const Fractions &x,
                                        const Fractions &y) {
  const Fractions &wide = x.above.size() >= y.above.size() ? x : y;
  for (const Fractions *each : {&x, &y})
    if (each->above.size() != 1 && each->dims != wide.dims)
      return std::nullopt;
  Fractions out;
  out.dims = wide.dims;
  auto at = [](const Fractions &from, size_t i) {
    size_t k = from.above.size() == 1 ? 0 : i;
    return Fraction(from.above[k], from.below[k]);
  };
  for (size_t i = 0; i < wide.above.size(); ++i) {
    auto [above, below] = compute(node, op, at(x, i), at(y, i));
    if (!above)
      return std::nullopt;
    out.above.push_back(above);
    out.below.push_back(below);
  }
  return out;
}

static std::optional<Fractions> evaluate(NodeContext &node, StringRef op) {
  if (op == "Cast") {
    std::optional<ShapeValue> known = node.shapeValue(0);
    Type to = getCastTarget(node);
    if (!known || !isa_and_nonnull<Float32Type, Float64Type>(to) ||
        static_cast<int64_t>(known->values.size()) > kMaxElements)
      return std::nullopt;
    return Fractions{known->dims, known->values,
                     Dims(known->values.size(), node.b.c(1))};
  }
  if (op == "Concat") {
    Fractions out{{0}, {}, {}};
    for (unsigned i = 0; i < node.numInputs(); ++i) {
      std::optional<Fractions> part = node.fractions(i);
      if (!part || part->dims.size() != 1)
        return std::nullopt;
      out.above.append(part->above);
      out.below.append(part->below);
    }
    out.dims[0] = out.above.size();
    return out;
  }
  std::optional<Fractions> x = node.fractions(0);
  if (!x)
    return std::nullopt;
  if (op == "Mul" || op == "Div" || op == "Add" || op == "Sub") {
    std::optional<Fractions> y = node.fractions(1);
    return y ? combine(node, op, *x, *y) : std::nullopt;
  }
  if (op == "Floor" || op == "Ceil") {
    for (auto [above, below] : llvm::zip(x->above, x->below)) {
      above = roundToSize(node, {above, below}, op == "Ceil");
      below = node.b.c(1);
      if (!above)
        return std::nullopt;
    }
    return x;
  }
  // Same elements, other places.
  Type i64 = node.b.builder.getI64Type();
  auto above = evaluateMove(node, op, {x->dims, i64, x->above}),
       below = evaluateMove(node, op, {x->dims, i64, x->below});
  if (!above || !below)
    return std::nullopt;
  return Fractions{above->dims, above->values, below->values};
}

void dlc::noteFractions(NodeContext &node) {
  static const llvm::StringSet<> followed{
      "Cast", "Concat", "Mul",   "Div",     "Add",       "Sub",     "Floor",
      "Ceil", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Identity"};
  StringRef op = node.op->getName().getStringRef();
  if (!op.consume_front("onnx.") || !followed.contains(op) ||
      node.op->getNumResults() != 1)
    return;
  Entry &result = node.converter.lookup(node.op->getResult(0));
  if (result.kind == Entry::Tensor && result.value &&
      isFloat(GraphBuilder::element(result.value)))
    if (std::optional<Fractions> known = evaluate(node, op))
      result.fractions = std::move(known);
}

std::optional<ShapeValue> dlc::truncateFractions(NodeContext &node, Type to) {
  std::optional<Fractions> x = node.fractions(0);
  if (!x)
    return std::nullopt;
  ShapeValue out{x->dims, to, {}};
  for (auto [above, below] : llvm::zip(x->above, x->below)) {
    AffineExpr whole = roundToSize(node, {above, below}, /*up=*/false);
    if (!whole)
      return std::nullopt;
    out.values.push_back(whole);
  }
  return out;
}
