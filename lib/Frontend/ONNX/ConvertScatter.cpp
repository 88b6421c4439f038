//===- ConvertScatter.cpp - places chosen by index tuples -----------------===//
//
// GatherND, the scatters and MaxUnpool. The dims that indices choose from are
// merged into one, so that a place is one number: its row-major position. Range
// and sign of each index are checked by a gather from 0, 1, 2, ...
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "llvm/ADT/StringSwitch.h"

using namespace dlc;
using namespace mlir;

static Type getI64(GraphBuilder &b) { return b.builder.getI64Type(); }

/// Indices in [-size, size) as numbers in [0, size).
static Value wrapIndices(GraphBuilder &b, Value indices, AffineExpr size) {
  if (!b.element(indices).isInteger(32) && !b.element(indices).isInteger(64))
    indices = b.convert(indices, getI64(b));
  return b.gather(b.iota(size, getI64(b)), indices, 0);
}

/// The coordinate along `axis` of every point of a tensor of this rank.
static Value coordinate(GraphBuilder &b, AffineExpr size, int64_t axis,
                        int64_t rank) {
  Dims along(rank, b.c(1));
  along[axis] = size;
  return b.reshape(b.iota(size, getI64(b)), along);
}

/// One more digit of a row-major position.
static Value addDigit(NodeContext &node, Value position, Value digit,
                      AffineExpr size) {
  if (!position)
    return digit;
  return node.b.add(node.b.mul(position, makeSizeValue(node, size)), digit);
}

/// Positions in the dims [0, batch + depth) of tuples of indices, the last axis
/// of `indices`, whose first `batch` axes run along those of the data.
static Value tuplePositions(NodeContext &node, Value indices,
                            ArrayRef<AffineExpr> dims, int64_t batch) {
  GraphBuilder &b = node.b;
  int64_t last = b.rank(indices) - 1;
  Value position;
  for (auto [i, size] : llvm::enumerate(dims)) {
    int64_t axis = i;
    Value digit =
        axis < batch
            ? coordinate(b, b.dim(indices, axis), axis, last)
            : wrapIndices(b,
                          b.squeeze(b.sliceAxis(indices, last,
                                                b.c(axis - batch), b.c(1)),
                                    {last}),
                          size);
    position = addDigit(node, position, digit, size);
  }
  Dims out = b.dims(indices);
  out.pop_back();
  // A tuple of no indices is the whole tensor.
  return b.broadcast(position ? position : b.splatInt(0, getI64(b)), out);
}

/// The length of the tuples; refuses what does not fit in the data.
static int64_t tupleLength(GraphBuilder &b, Value indices, Value data,
                           int64_t batch) {
  if (b.rank(indices) < 1)
    refuseMalformed("indices have rank 0");
  std::optional<int64_t> depth = graph::constantValue(b.dims(indices).back());
  if (!depth)
    refuse("index tuples of symbolic length");
  if (batch < 0 || batch >= b.rank(indices) || batch + *depth > b.rank(data))
    refuseMalformed("indices " + describeType(indices.getType()) +
                    " do not fit " + describeType(data.getType()));
  return *depth;
}

static void convertGatherND(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), indices = node.in(1);
  int64_t batch = node.i("batch_dims", 0),
          lead = batch + tupleLength(b, indices, x, batch);
  Dims dims = b.dims(x);
  Value at =
      tuplePositions(node, indices, ArrayRef(dims).take_front(lead), batch);
  Dims merged{graph::product(b.context(), ArrayRef(dims).take_front(lead))};
  merged.append(dims.begin() + lead, dims.end());
  node.result(b.gather(b.reshape(x, merged), at, 0));
}

static graph::FoldKind getReduction(NodeContext &node) {
  StringRef name = node.s("reduction", "none");
  auto kind = llvm::StringSwitch<std::optional<graph::FoldKind>>(name)
                  .Case("none", graph::FoldKind::none)
                  .Case("add", graph::FoldKind::add)
                  .Case("mul", graph::FoldKind::mul)
                  .Case("max", graph::FoldKind::max)
                  .Case("min", graph::FoldKind::min)
                  .Default(std::nullopt);
  if (!kind)
    refuseMalformed(("'reduction' is '" + name + "'").str());
  return *kind;
}

/// x with the rows at `positions` of its first `lead` dims, merged, written.
static Value scatter(GraphBuilder &b, Value x, int64_t lead, Value positions,
                     Value updates, graph::FoldKind kind) {
  Dims dims = b.dims(x);
  AffineExpr rows =
                 graph::product(b.context(), ArrayRef(dims).take_front(lead)),
             columns =
                 graph::product(b.context(), ArrayRef(dims).drop_front(lead)),
             count = graph::product(b.context(), b.dims(positions));
  Value table = b.reshape(x, {rows, columns});
  Value result =
      b.emit("graph.scatter",
             {table, b.reshape(positions, {count}),
              b.reshape(updates, {count, columns})},
             {b.attr("kind", graph::FoldKindAttr::get(b.context(), kind))},
             table.getType());
  return b.reshape(result, dims);
}

static void convertScatterND(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), indices = node.in(1);
  int64_t depth = tupleLength(b, indices, x, 0);
  Dims dims = b.dims(x);
  Value at = tuplePositions(node, indices, ArrayRef(dims).take_front(depth), 0);
  node.result(scatter(b, x, depth, at, node.in(2), getReduction(node)));
}

/// y = x with y[i with i[axis] = indices[i]] combined with updates[i].
static void convertScatterElements(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), indices = node.in(1);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", 0), rank);
  if (b.rank(indices) != rank)
    refuseMalformed("indices must have the data's rank");
  Value at;
  for (int64_t i = 0; i < rank; ++i)
    at = addDigit(node, at,
                  i == axis ? wrapIndices(b, indices, b.dim(x, i))
                            : coordinate(b, b.dim(indices, i), i, rank),
                  b.dim(x, i));
  node.result(scatter(b, x, rank, b.broadcast(at, b.dims(indices)), node.in(2),
                      getReduction(node)));
}

/// Updates of consecutive places along the axis, from a start a batch.
static void convertTensorScatter(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), updates = node.in(1);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", -2), rank);
  if (axis == 0 || b.rank(updates) != rank)
    refuseMalformed("wants a cache and an update of one rank, and an axis "
                    "behind the batch");
  AffineExpr size = b.dim(x, axis);
  Value place = coordinate(b, b.dim(updates, axis), axis, axis + 1);
  if (Value start = node.maybe(2)) {
    Dims along(axis + 1, b.c(1));
    along[0] = b.dim(start, 0);
    place = b.add(place, b.reshape(b.convert(start, getI64(b)), along));
  }
  if (node.s("mode", "linear") == "circular")
    place = b.mod(place, makeSizeValue(node, size));
  Value at;
  for (int64_t i = 0; i < axis; ++i)
    at = addDigit(node, at, coordinate(b, b.dim(x, i), i, axis + 1),
                  b.dim(x, i));
  at = addDigit(node, at, wrapIndices(b, place, size), size);
  Dims out = b.dims(updates);
  out.truncate(axis + 1);
  node.result(scatter(b, x, axis + 1, b.broadcast(at, out), updates,
                      graph::FoldKind::none));
}

/// Maxima back to where they came from; `output_shape` may add rows of zeros
/// behind.
static void convertMaxUnpool(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  SmallVector<int64_t> kernel = node.is("kernel_shape"), ones(kernel.size(), 1),
                       zeros(2 * kernel.size(), 0),
                       strides = node.is("strides", ones),
                       pads = node.is("pads", zeros);
  size_t spatial = kernel.size();
  if (b.rank(x) != static_cast<int64_t>(spatial) + 2 ||
      strides.size() != spatial || pads.size() != 2 * spatial)
    refuseMalformed("'kernel_shape', 'strides' and 'pads' do not fit " +
                    describeType(x.getType()));
  Dims inferred = b.dims(x);
  for (size_t i = 0; i < spatial; ++i)
    inferred[i + 2] =
        graph::simplify((inferred[i + 2] - 1) * strides[i] -
                        (pads[i] + pads[spatial + i]) + kernel[i]);
  auto type = graph::makeTensorType(inferred, b.element(x));
  node.b.checkType(type);
  Value zero = b.splat(0, b.element(x));
  Value all = b.broadcast(zero, inferred);
  Value result = scatter(b, all, b.rank(x), b.convert(node.in(1), getI64(b)), x,
                         graph::FoldKind::none);
  if (node.has(2)) {
    Dims wanted = node.symbolic(2, "output_shape");
    if (wanted.size() != inferred.size())
      refuseMalformed("'output_shape' has another rank than the operand");
    SmallVector<int64_t> low(wanted.size(), 0), high;
    for (auto [to, from] : llvm::zip(wanted, inferred)) {
      std::optional<int64_t> more =
          graph::constantValue(graph::simplify(to - from));
      if (!more)
        refuse("'output_shape' is symbolic");
      high.push_back(*more);
    }
    result = b.pad(result, zero, low, high);
  }
  node.result(result);
}

void dlc::addScatters(ConverterTable &table) {
  table["GatherND"] = convertGatherND;
  table["ScatterND"] = convertScatterND;
  table["ScatterElements"] = convertScatterElements;
  table["Scatter"] = convertScatterElements;
  table["TensorScatter"] = convertTensorScatter;
  table["MaxUnpool"] = convertMaxUnpool;
}
