//===- ConvertDeclaredSizes.cpp - sizes the model declares ----------------===//
//
// A Reshape whose shape is an input has no result of known size, but the model
// often says what it is: the output that it makes is float[2,3,4]. Then this is
// the size, and the run checks that the data say the same (graph.expect).
//
//===----------------------------------------------------------------------===//

#include "DeclaredSizes.h"

#include "dlc/Dialect/Graph/IR/Control.h"

#include "llvm/ADT/ScopeExit.h"

using namespace dlc;
using namespace mlir;

/// The static dims that the model declares for the first result.
static std::optional<SmallVector<int64_t>> getDeclared(NodeContext &node) {
  auto type = dyn_cast<RankedTensorType>(node.op->getResult(0).getType());
  if (!type || llvm::any_of(type.getShape(),
                            [](int64_t n) { return ShapedType::isDynamic(n); }))
    return std::nullopt;
  return SmallVector<int64_t>(type.getShape());
}

/// A run-time data error unless all elements of `holds` (i1) are true.
static void expectAll(NodeContext &node, Value holds) {
  GraphBuilder &b = node.b;
  Value flat = b.reshape(holds, {graph::product(b.context(), b.dims(holds))});
  Value all = b.reduce(flat, graph::FoldKind::bit_and, {0});
  graph::ExpectOp::create(b.builder, b.loc,
                          b.reshape(all, ArrayRef<int64_t>{}));
}

namespace {
/// The integers of an operand, taken for granted while `convert` runs, and
/// checked when the model runs.
class Assumption {
public:
  Assumption(NodeContext &node, unsigned operand, ArrayRef<int64_t> values)
      : node(node), entry(node.entry(operand)), values(values) {
    GraphBuilder &b = node.b;
    actual = b.convert(node.in(operand), b.builder.getI64Type());
    if (b.rank(actual) > 1 || !b.type(actual).hasStaticShape() ||
        b.type(actual).getNumElements() != static_cast<int64_t>(values.size()))
      refuse("an operand that does not fit the declared result");
    allow(values);
  }

  /// Also these values mean the same, each in its place.
  void allow(ArrayRef<int64_t> others) {
    GraphBuilder &b = node.b;
    Value equal = b.emit("graph.eq", {actual, constant(others)});
    holds = holds ? b.emit("graph.bit_or", {holds, equal}) : equal;
  }

  void convert(NodeConverter converter) {
    expectAll(node, holds);
    Dims known;
    for (int64_t value : values)
      known.push_back(node.b.c(value));
    SmallVector<int64_t> dims(GraphBuilder::type(actual).getShape());
    entry.shape = ShapeValue{dims, node.b.builder.getI64Type(), known};
    // Elsewhere nothing is checked.
    auto restore = llvm::scope_exit([&] { entry.shape.reset(); });
    converter(node);
  }

private:
  Value constant(ArrayRef<int64_t> numbers) {
    return node.b.constantInts(numbers, GraphBuilder::type(actual).getShape(),
                               node.b.builder.getI64Type());
  }

  NodeContext &node;
  Entry &entry;
  SmallVector<int64_t> values;
  Value actual, holds;
};
} // namespace

static NodeConverter knownReshape, knownExpand, knownTile, knownConstant,
    knownOneHot, knownResize, knownRange;

/// True where the operand is a tensor that only the run tells and the result is
/// declared.
static bool isDeclared(NodeContext &node, unsigned operand) {
  return node.has(operand) && !node.shapeValue(operand) &&
         node.entry(operand).kind == Entry::Tensor && getDeclared(node);
}

static SmallVector<int64_t> staticDims(NodeContext &node, Value x) {
  return node.b.staticDims(x, "a result of declared size");
}

static void convertReshape(NodeContext &node) {
  if (!isDeclared(node, 1))
    return knownReshape(node);
  SmallVector<int64_t> wanted = *getDeclared(node),
                       from = staticDims(node, node.in(0));
  Assumption shape(node, 1, wanted);
  shape.allow(SmallVector<int64_t>(wanted.size(), -1));
  SmallVector<int64_t> copied = wanted; // 0 where the dim is the operand's
  for (auto [i, size] : llvm::enumerate(copied))
    if (i < from.size() && from[i] == size && !node.i("allowzero", 0))
      size = 0;
  shape.allow(copied);
  shape.convert(knownReshape);
}

static void convertExpand(NodeContext &node) {
  if (!isDeclared(node, 1))
    return knownExpand(node);
  SmallVector<int64_t> wanted = *getDeclared(node),
                       from = staticDims(node, node.in(0));
  int64_t rank = node.b.type(node.in(1)).getNumElements();
  if (rank > static_cast<int64_t>(wanted.size()))
    refuse("'shape' does not fit the declared result");
  SmallVector<int64_t> sizes(ArrayRef(wanted).take_back(rank)), ones = sizes;
  int64_t lead = static_cast<int64_t>(from.size()) - rank;
  for (auto [i, size] : llvm::enumerate(ones))
    if (int64_t at = lead + static_cast<int64_t>(i);
        at >= 0 && from[at] == size)
      size = 1; // the operand's own size
  Assumption shape(node, 1, sizes);
  shape.allow(ones);
  shape.convert(knownExpand);
}

static void convertTile(NodeContext &node) {
  if (!isDeclared(node, 1))
    return knownTile(node);
  SmallVector<int64_t> wanted = *getDeclared(node),
                       from = staticDims(node, node.in(0)), repeats;
  if (from.size() != wanted.size())
    refuse("'repeats' does not fit the declared result");
  for (auto [size, all] : llvm::zip_equal(from, wanted)) {
    if (size == 0 || all % size != 0)
      refuse("'repeats' does not follow from the declared result");
    repeats.push_back(all / size);
  }
  Assumption(node, 1, repeats).convert(knownTile);
}

static void convertConstantOfShape(NodeContext &node) {
  if (!isDeclared(node, 0))
    return knownConstant(node);
  Assumption(node, 0, *getDeclared(node)).convert(knownConstant);
}

static void convertOneHot(NodeContext &node) {
  // A float depth is data to every other operator, so it may be constant here.
  if (!isDeclared(node, 1) || GraphBuilder::asConstant(node.in(1)))
    return knownOneHot(node);
  SmallVector<int64_t> wanted = *getDeclared(node);
  int64_t axis =
      normalizeAxis(node.i("axis", -1), static_cast<int64_t>(wanted.size()));
  Assumption(node, 1, {wanted[axis]}).convert(knownOneHot);
}

static void convertResize(NodeContext &node) {
  if (!isDeclared(node, 3) ||
      node.s("keep_aspect_ratio_policy", "stretch") != "stretch")
    return knownResize(node);
  SmallVector<int64_t> wanted = *getDeclared(node), sizes;
  int64_t rank = static_cast<int64_t>(wanted.size());
  if (node.hasAttr("axes"))
    for (int64_t axis : node.is("axes"))
      sizes.push_back(wanted[normalizeAxis(axis, rank)]);
  else
    sizes = wanted;
  Assumption(node, 3, sizes).convert(knownResize);
}

/// start, start + delta, ...: the declared number of them.
static void convertRange(NodeContext &node) {
  bool isKnown = true;
  for (unsigned i = 0; i < 3; ++i)
    isKnown &= node.shapeValue(i) || GraphBuilder::asConstant(node.in(i));
  std::optional<SmallVector<int64_t>> wanted = getDeclared(node);
  if (isKnown || !wanted)
    return knownRange(node);
  GraphBuilder &b = node.b;
  Type element = b.element(node.in(0));
  Value numbers[3];
  for (unsigned i = 0; i < 3; ++i)
    numbers[i] = b.reshape(node.in(i), ArrayRef<int64_t>{});
  auto [start, limit, delta] = numbers;
  // As many as lie before the limit: the last is, the next is not. (The count
  // itself would be a division by what may be 0.)
  Value forward = b.emit("graph.gt", {delta, b.splat(0, element)});
  auto isBefore = [&](double i) {
    Value at = b.add(start, b.mul(delta, b.splat(i, element)));
    return b.select(forward, b.emit("graph.lt", {at, limit}),
                    b.emit("graph.gt", {at, limit}));
  };
  double count = static_cast<double>((*wanted)[0]);
  Value holds = b.unary("graph.bit_not", isBefore(count));
  holds = b.emit("graph.bit_and",
                 {holds, b.emit("graph.ne", {delta, b.splat(0, element)})});
  if (count > 0)
    holds = b.emit("graph.bit_and", {holds, isBefore(count - 1)});
  expectAll(node, holds);
  Value steps = b.iota(b.c((*wanted)[0]), element);
  node.result(b.add(start, b.mul(steps, delta)));
}

void dlc::addDeclaredSizes(ConverterTable &table) {
  auto replace = [&](StringRef name, NodeConverter &known,
                     NodeConverter converter) {
    known = table.lookup(name);
    table[name] = converter;
  };
  replace("Reshape", knownReshape, convertReshape);
  replace("Expand", knownExpand, convertExpand);
  replace("Tile", knownTile, convertTile);
  replace("ConstantOfShape", knownConstant, convertConstantOfShape);
  replace("OneHot", knownOneHot, convertOneHot);
  replace("Resize", knownResize, convertResize);
  replace("Range", knownRange, convertRange);
}
