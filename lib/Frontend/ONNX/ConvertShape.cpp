//===- ConvertShape.cpp - same elements, other places ---------------------===//
//
// Reshape and its relatives, Transpose, Concat, Split, Slice, Expand, Tile,
// Pad, and the pixel shuffles. Parameters may be expressions of dim symbols
// where the graph dialect has symbolic sizes; elsewhere they must be constant.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

#include <climits>
#include <numeric>

using namespace dlc;
using namespace mlir;

static void convertConstant(NodeContext &node) {
  if (auto value = node.op->getAttrOfType<ElementsAttr>("value"))
    return node.typedResult(makeConstant(node.b, value),
                            value.getElementType());
  Type i64 = node.b.builder.getI64Type(), f32 = node.b.builder.getF32Type();
  if (node.hasAttr("value_int"))
    return node.result(node.b.splatInt(node.i("value_int", 0), i64));
  if (node.hasAttr("value_float"))
    return node.result(node.b.splat(node.f("value_float", 0), f32));
  if (node.hasAttr("value_ints")) {
    SmallVector<int64_t> values = node.is("value_ints");
    return node.result(node.b.constantInts(
        values, {static_cast<int64_t>(values.size())}, i64));
  }
  if (node.hasAttr("value_floats")) {
    SmallVector<double> values = node.fs("value_floats");
    return node.result(node.b.constantFloats(
        values, {static_cast<int64_t>(values.size())}, f32));
  }
  refuse("constants of strings or sparse values");
}

static void convertShapeOp(NodeContext &) { refuse("the shape of a sequence"); }

/// The factors of sizes: a constant and expressions that are no products.
static int64_t factorize(ArrayRef<AffineExpr> sizes,
                         SmallVectorImpl<AffineExpr> &atoms) {
  int64_t constant = 1;
  SmallVector<AffineExpr> pending(sizes);
  while (!pending.empty()) {
    AffineExpr e = pending.pop_back_val();
    auto binary = dyn_cast<AffineBinaryOpExpr>(e);
    if (std::optional<int64_t> value = graph::constantValue(e)) {
      constant *= *value;
    } else if (binary && e.getKind() == AffineExprKind::Mul) {
      pending.push_back(binary.getLHS());
      pending.push_back(binary.getRHS());
    } else {
      atoms.push_back(e);
    }
  }
  return constant;
}

/// The product of `sizes` over the product of `known`. Factors cancel, so that
/// (batch * seq * 4) / (batch * 4) is seq.
static AffineExpr divideSizes(NodeContext &node, ArrayRef<AffineExpr> sizes,
                              ArrayRef<AffineExpr> known,
                              const std::string &operand) {
  SmallVector<AffineExpr> above, below, rest;
  int64_t n = factorize(sizes, above), d = factorize(known, below);
  if (d == 0)
    refuseMalformed(
        "-1 in 'shape' is ambiguous: the other dims hold no element");
  for (AffineExpr atom : below) {
    auto same = llvm::find(above, atom);
    if (same != above.end())
      above.erase(same);
    else
      rest.push_back(atom);
  }
  if (above.empty() && rest.empty() && n % d)
    refuseMalformed("'shape' does not divide the elements of " + operand);
  int64_t common = std::gcd(n, d);
  if (common) {
    n /= common;
    d /= common;
  }
  MLIRContext *context = node.b.context();
  AffineExpr dividend = graph::product(context, above) * n,
             divisor = graph::product(context, rest) * d;
  divisor = graph::simplify(divisor);
  return graph::simplify(graph::constantValue(divisor) == 1
                             ? dividend
                             : dividend.floorDiv(divisor));
}

static void convertReshape(NodeContext &node) {
  Value x = node.in(0);
  Dims wanted = node.symbolic(1, "shape"), from = node.b.dims(x);
  bool allowZero = node.i("allowzero", 0);
  int64_t inferred = -1;
  for (auto [i, size] : llvm::enumerate(wanted)) {
    std::optional<int64_t> value = graph::constantValue(size);
    if (value == 0 && !allowZero) {
      if (i >= from.size())
        refuseMalformed("'shape' copies dim " + std::to_string(i) + " of " +
                        describeType(x.getType()));
      size = from[i];
    } else if (value && *value < 0) {
      if (*value != -1 || inferred >= 0)
        refuseMalformed("'shape' may hold one -1 and no other negative number");
      inferred = i;
    }
  }
  if (inferred >= 0) {
    wanted[inferred] = node.b.c(1);
    wanted[inferred] =
        divideSizes(node, from, wanted, describeType(x.getType()));
  }
  node.result(node.b.reshape(x, wanted));
}

static void convertFlatten(NodeContext &node) {
  Value x = node.in(0);
  Dims from = node.b.dims(x);
  int64_t axis = node.i("axis", 1), rank = from.size();
  if (axis < -rank || axis > rank)
    refuseMalformed("axis " + std::to_string(axis) + " is outside rank " +
                    std::to_string(rank));
  axis += axis < 0 ? rank : 0;
  node.result(node.b.reshape(
      x, {graph::product(node.b.context(), ArrayRef(from).take_front(axis)),
          graph::product(node.b.context(), ArrayRef(from).drop_front(axis))}));
}

static void convertSqueeze(NodeContext &node) {
  Value x = node.in(0);
  SmallVector<int64_t> axes;
  if (node.has(1))
    axes = normalizeAxes(node.ints(1, "axes"), node.b.rank(x));
  else
    for (auto [i, size] : llvm::enumerate(node.b.dims(x))) {
      if (graph::constantValue(size) == 1)
        axes.push_back(i);
      else // the result's rank may not depend on the run
        requireAtMost(node, node.b.c(2), size,
                      "without 'axes' a dim of 1 is squeezed, and dim " +
                          std::to_string(i) +
                          " is symbolic; for a 1 give it its size with -dim");
    }
  node.result(node.b.squeeze(x, axes));
}

static void convertUnsqueeze(NodeContext &node) {
  Value x = node.in(0);
  SmallVector<int64_t> axes = node.ints(1, "axes");
  node.result(
      node.b.unsqueeze(x, normalizeAxes(axes, node.b.rank(x) + axes.size())));
}

static void convertTranspose(NodeContext &node) {
  Value x = node.in(0);
  SmallVector<int64_t> perm = node.is("perm");
  if (!node.hasAttr("perm"))
    for (int64_t i = node.b.rank(x); i-- > 0;)
      perm.push_back(i);
  node.result(node.b.transpose(x, perm));
}

static void convertConcat(NodeContext &node) {
  SmallVector<Value> values = node.inputs();
  node.result(node.b.concat(
      values, normalizeAxis(node.i("axis", 0), node.b.rank(values[0]))));
}

/// Known integers in known parts, as onnxruntime's optimizer takes sizes out of
/// a shape; false for anything else.
static bool splitKnown(NodeContext &node) {
  std::optional<ShapeValue> x = node.shapeValue(0);
  std::optional<ShapeValue> sizes = node.shapeValue(1);
  if (!x || !sizes || x->dims.size() != 1 || !sizes->isConstant() ||
      sizes->values.size() != node.op->getNumResults())
    return false;
  ArrayRef<AffineExpr> rest = x->values;
  for (auto [i, size] : llvm::enumerate(sizes->values)) {
    int64_t count = *graph::constantValue(size);
    if (count < 0 || count > static_cast<int64_t>(rest.size()))
      return false;
    node.resultEntry(
        i, Entry::known({{count}, x->element, Dims(rest.take_front(count))}));
    rest = rest.drop_front(count);
  }
  return true;
}

static void convertSplit(NodeContext &node) {
  if (splitKnown(node))
    return;
  Value x = node.in(0);
  int64_t axis = normalizeAxis(node.i("axis", 0), node.b.rank(x)),
          parts = node.op->getNumResults();
  Dims sizes;
  if (node.has(1)) {
    sizes = node.symbolic(1, "split");
    if (static_cast<int64_t>(sizes.size()) != parts)
      refuseMalformed("'split' has " + std::to_string(sizes.size()) +
                      " entries for " + std::to_string(parts) + " results");
    AffineExpr total = node.b.c(0);
    for (AffineExpr size : sizes)
      total = total + size;
    if (std::optional<int64_t> rest =
            graph::constantValue(graph::simplify(total - node.b.dim(x, axis)));
        rest && *rest)
      refuseMalformed("'split' does not add up to the dim");
  } else {
    // Equal parts, the last one smaller if they do not divide.
    AffineExpr whole = node.b.dim(x, axis);
    if (node.hasAttr("num_outputs") && node.i("num_outputs", 0) != parts)
      refuseMalformed("num_outputs is " +
                      std::to_string(node.i("num_outputs", 0)) + " for " +
                      std::to_string(parts) + " results");
    if (std::optional<int64_t> size = graph::constantValue(whole)) {
      int64_t each = llvm::divideCeil(*size, parts);
      for (int64_t i = 0; i < parts; ++i)
        sizes.push_back(
            node.b.c(std::max<int64_t>(0, std::min(each, *size - i * each))));
    } else {
      // The run makes sure that something is left for the last one.
      AffineExpr each = graph::simplify(
          whole.isMultipleOf(parts) ? whole.floorDiv(parts)
                                    : (whole + (parts - 1)).floorDiv(parts));
      sizes.assign(parts - 1, each);
      sizes.push_back(graph::simplify(whole - each * (parts - 1)));
    }
  }
  AffineExpr start = node.b.c(0);
  for (auto [i, size] : llvm::enumerate(sizes)) {
    if (std::optional<int64_t> n = graph::constantValue(size); n && *n < 0)
      refuseMalformed("'split' has a negative entry");
    if (!isNonNegative(size))
      requireAtMost(node, node.b.c(0), size, "'split' has a negative entry");
    node.result(i, node.b.sliceAxis(x, axis, start, size));
    start = graph::simplify(start + size);
  }
  requireAtMost(node, start, node.b.dim(x, axis),
                "the sum of 'split' is past the dim");
}

/// One axis of Slice: where it starts and how many it takes.
static void sliceAxis(NodeContext &node, AffineExpr size, AffineExpr from,
                      AffineExpr to, int64_t step, AffineExpr &start,
                      AffineExpr &count) {
  GraphBuilder &b = node.b;
  std::optional<int64_t> n = graph::constantValue(size),
                         f = graph::constantValue(from),
                         t = graph::constantValue(to);
  if (n && f && t) {
    auto wrap = [&](int64_t at) { return at < 0 ? at + *n : at; };
    int64_t first = wrap(*f), last = *t < -*n ? -1 : wrap(*t);
    first = step > 0
                ? std::clamp<int64_t>(first, 0, *n)
                : std::clamp<int64_t>(first, 0, std::max<int64_t>(*n - 1, 0));
    last = step > 0 ? std::clamp<int64_t>(last, 0, *n)
                    : std::clamp<int64_t>(last, -1, *n - 1);
    int64_t span = step > 0 ? last - first : first - last;
    int64_t magnitude = step > 0 ? step : -step;
    int64_t taken = span > 0 ? (span + magnitude - 1) / magnitude : 0;
    // An empty slice reads nothing: start anywhere inside.
    start = b.c(taken ? first : 0);
    count = b.c(taken);
    return;
  }
  // Exporters write "to the end" as some number no dim reaches.
  constexpr int64_t endless = 1000000000;
  if (step < 0 && f == -1 && t && *t <= -endless) { // all, backwards
    start = graph::simplify(size - 1);
    count = graph::simplify((size + (-step - 1)).floorDiv(-step));
  } else if (step > 0) {
    // Symbolic: negative constants count from the end, huge ones mean the end.
    // A bound that passes the dim is the end, if that holds for all sizes; the
    // run checks one that may pass it for some.
    auto place = [&](AffineExpr at, std::optional<int64_t> value) {
      if (value && *value < 0) {
        requireAtMost(node, b.c(-*value), size,
                      "the dim is shorter than a bound from its end");
        return size + *value;
      }
      if (!value && !isNonNegative(at)) {
        if (isNonNegative(graph::simplify(-at))) { // from the end, never 0
          requireAtMost(node, b.c(1), graph::simplify(-at),
                        "a bound from the end is 0");
          requireAtMost(node, graph::simplify(-at), size,
                        "the dim is shorter than a bound from its end");
          return size + at;
        }
        requireAtMost(node, b.c(0), at, "a bound is negative");
      }
      bool passes = (value && *value >= endless) ||
                    compareSizes(node, "GreaterOrEqual", at, size) == true;
      return passes ? size : at;
    };
    start = graph::simplify(place(from, f));
    AffineExpr end = graph::simplify(place(to, t));
    count = graph::simplify(end - start);
    requireAtMost(node, end, size, "the end is past the dim");
    if (step > 1) { // nor may the start be past the end
      requireAtMost(node, start, end, "the start is past the end");
      count = graph::simplify((count + (step - 1)).floorDiv(step));
    }
  }
  if (!count)
    refuse("a slice of a symbolic dim with these bounds; give the dim's own "
           "with -dim");
}

static void convertSlice(NodeContext &node) {
  Value x = node.in(0);
  Dims sizes = node.b.dims(x), starts(sizes.size(), node.b.c(0));
  int64_t rank = sizes.size();
  Dims from = node.symbolic(1, "starts"), to = node.symbolic(2, "ends");
  SmallVector<int64_t> axes, amounts(from.size(), 1), steps(rank, 1);
  if (node.has(3))
    axes = node.ints(3, "axes");
  else
    for (size_t i = 0; i < from.size(); ++i)
      axes.push_back(i);
  if (node.has(4))
    amounts = node.ints(4, "steps");
  if (to.size() != from.size() || axes.size() != from.size() ||
      amounts.size() != from.size())
    refuseMalformed("starts, ends, axes and steps differ in length");
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t axis = normalizeAxis(axes[i], rank);
    if (amounts[i] == 0)
      refuseMalformed("a step is 0");
    steps[axis] = std::max<int64_t>(amounts[i], -INT_MAX);
    AffineExpr start, count;
    sliceAxis(node, node.b.dim(x, axis), from[i], to[i], steps[axis], start,
              count);
    starts[axis] = start;
    sizes[axis] = count;
  }
  node.result(node.b.slice(x, starts, sizes, steps));
}

static void convertExpand(NodeContext &node) {
  Value x = node.in(0);
  Dims wanted = node.symbolic(1, "shape"), from = node.b.dims(x);
  // A symbolic size that is not known to be 1 or the wanted one is taken to be
  // the wanted one.
  for (size_t i = 0; i < std::min(wanted.size(), from.size()); ++i) {
    AffineExpr to = wanted[wanted.size() - 1 - i],
               &size = from[from.size() - 1 - i];
    if (!graph::constantValue(size) && graph::constantValue(to) != 1 &&
        node.b.unify(size, to))
      size = to;
  }
  auto joined = graph::broadcastDims(wanted, from);
  if (failed(joined))
    refuseMalformed("'shape' does not broadcast with " +
                    describeType(x.getType()));
  node.result(node.b.broadcast(node.b.ensureDims(x, from), *joined));
}

/// Repeats an axis: a new axis before it, broadcast, and both merged.
static void convertTile(NodeContext &node) {
  Value x = node.in(0);
  Dims repeats = node.symbolic(1, "repeats"), sizes = node.b.dims(x), split,
       wide, merged;
  if (repeats.size() != sizes.size())
    refuseMalformed("'repeats' must have one entry a dim");
  for (auto [size, times] : llvm::zip(sizes, repeats)) {
    if (std::optional<int64_t> n = graph::constantValue(times); n && *n < 0)
      refuseMalformed("a repeat is negative");
    merged.push_back(graph::simplify(size * times));
    if (graph::constantValue(times) != 1) {
      split.push_back(node.b.c(1));
      wide.push_back(times);
    }
    split.push_back(size);
    wide.push_back(size);
  }
  node.result(
      node.b.reshape(node.b.broadcast(node.b.reshape(x, split), wide), merged));
}

/// One axis longer by sizes that only the run tells: constant rows beside x, or
/// rows of x by their numbers.
static Value padSymbolic(NodeContext &node, Value x, int64_t axis,
                         AffineExpr low, AffineExpr high, graph::PadMode mode,
                         Value value) {
  GraphBuilder &b = node.b;
  for (AffineExpr size : {low, high})
    requireAtMost(node, b.c(0), size, "an entry of 'pads' is negative");
  Dims dims = b.dims(x);
  AffineExpr n = dims[axis];
  if (mode == graph::PadMode::constant) {
    SmallVector<Value> parts;
    auto add = [&](AffineExpr size) {
      dims[axis] = size;
      if (graph::constantValue(size) != 0)
        parts.push_back(b.broadcast(
            b.reshape(value, SmallVector<int64_t>(dims.size(), 1)), dims));
    };
    add(low);
    parts.push_back(x);
    add(high);
    return b.concat(parts, axis);
  }
  Type i64 = b.builder.getI64Type();
  requireAtMost(node, b.c(1), n, "an empty axis has no elements to pad with");
  auto number = [&](AffineExpr size) { return makeSizeValue(node, size); };
  Value at = b.sub(b.iota(graph::simplify(n + low + high), i64), number(low));
  if (mode == graph::PadMode::edge) {
    at = b.emit("graph.clip", {at, b.splatInt(0, i64), number(n - 1)});
  } else if (mode == graph::PadMode::wrap) {
    at = b.mod(at, number(n));
  } else { // a triangle wave of period 2 (n - 1), of 1 for a single element
    Value period = number(2 * (n - 1));
    Value phase = b.mod(at, b.max(period, b.splatInt(1, i64)));
    at = b.min(phase, b.max(b.sub(period, phase), b.splatInt(0, i64)));
  }
  return b.gather(x, at, axis);
}

static void convertPad(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x);
  Dims pads = node.symbolic(1, "pads");
  SmallVector<int64_t> axes, low(rank, 0), high(rank, 0);
  if (node.has(3)) {
    for (int64_t axis : node.ints(3, "axes"))
      axes.push_back(normalizeAxis(axis, rank));
  } else {
    for (int64_t i = 0; i < rank; ++i)
      axes.push_back(i);
  }
  if (pads.size() != 2 * axes.size())
    refuseMalformed("'pads' must have two entries an axis");
  auto mode = llvm::StringSwitch<std::optional<graph::PadMode>>(
                  node.s("mode", "constant"))
                  .Case("constant", graph::PadMode::constant)
                  .Case("reflect", graph::PadMode::reflect)
                  .Case("edge", graph::PadMode::edge)
                  .Case("wrap", graph::PadMode::wrap)
                  .Default(std::nullopt);
  if (!mode)
    refuseMalformed("unknown mode '" + node.s("mode", "").str() + "'");
  Value value;
  if (*mode == graph::PadMode::constant)
    value = node.has(2) ? node.in(2) : b.splat(0, b.element(x));
  for (auto [i, axis] : llvm::enumerate(axes)) {
    AffineExpr before = pads[i], after = pads[i + axes.size()];
    std::optional<int64_t> first = graph::constantValue(before),
                           last = graph::constantValue(after);
    if (!first || !last) {
      x = padSymbolic(node, x, axis, before, after, *mode, value);
      continue;
    }
    low[axis] = *first;
    high[axis] = *last;
    if (std::abs(low[axis]) > int64_t(1) << 40 ||
        std::abs(high[axis]) > int64_t(1) << 40)
      refuseMalformed("'pads' are too large");
  }
  node.result(b.pad(x, value, low, high, *mode));
}

static void convertDepthToSpace(NodeContext &node) {
  Value x = node.in(0);
  Dims d = node.b.dims(x);
  int64_t block = node.i("blocksize", 1);
  if (d.size() != 4 || block < 1)
    refuseMalformed("wants a tensor of rank 4 and a positive blocksize");
  AffineExpr k = node.b.c(block), channels = d[1].floorDiv(block * block);
  bool columnFirst = node.s("mode", "DCR") == "CRD";
  Value split = columnFirst
                    ? node.b.reshape(x, {d[0], channels, k, k, d[2], d[3]})
                    : node.b.reshape(x, {d[0], k, k, channels, d[2], d[3]});
  Value moved = columnFirst ? node.b.transpose(split, {0, 1, 4, 2, 5, 3})
                            : node.b.transpose(split, {0, 3, 4, 1, 5, 2});
  node.result(
      node.b.reshape(moved, {d[0], channels, d[2] * block, d[3] * block}));
}

static void convertSpaceToDepth(NodeContext &node) {
  Value x = node.in(0);
  Dims d = node.b.dims(x);
  int64_t block = node.i("blocksize", 1);
  if (d.size() != 4 || block < 1)
    refuseMalformed("wants a tensor of rank 4 and a positive blocksize");
  AffineExpr k = node.b.c(block), h = d[2].floorDiv(block),
             w = d[3].floorDiv(block);
  bool columnFirst = node.s("mode", "DCR") == "CRD";
  Value split = node.b.reshape(x, {d[0], d[1], h, k, w, k});
  Value moved = columnFirst ? node.b.transpose(split, {0, 1, 3, 5, 2, 4})
                            : node.b.transpose(split, {0, 3, 5, 1, 2, 4});
  node.result(node.b.reshape(moved, {d[0], d[1] * (block * block), h, w}));
}

void dlc::addShapes(ConverterTable &table) {
  table["Constant"] = convertConstant;
  table["Shape"] = convertShapeOp;
  table["Size"] = convertShapeOp;
  table["Reshape"] = convertReshape;
  table["Flatten"] = convertFlatten;
  table["Squeeze"] = convertSqueeze;
  table["Unsqueeze"] = convertUnsqueeze;
  table["Transpose"] = convertTranspose;
  table["Concat"] = convertConcat;
  table["Split"] = convertSplit;
  table["Slice"] = convertSlice;
  table["Expand"] = convertExpand;
  table["Tile"] = convertTile;
  table["Pad"] = convertPad;
  table["DepthToSpace"] = convertDepthToSpace;
  table["SpaceToDepth"] = convertSpaceToDepth;
}
