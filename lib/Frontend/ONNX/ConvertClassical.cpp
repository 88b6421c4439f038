//===- ConvertClassical.cpp - features and determinants -------------------===//
//
// TfIdfVectorizer, the two operators of ai.onnx.ml that are plain tensor
// expressions, and Det of small matrices.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include <numeric>

using namespace dlc;
using namespace mlir;

//===----------------------------------------------------------------------===//
// TfIdfVectorizer
//===----------------------------------------------------------------------===//

namespace {
/// The n-grams of one length: `items` holds them one after the other, and the
/// first of them is number `first` of the whole pool.
struct GramPool {
  int64_t length, first;
  ArrayRef<int64_t> items;
  int64_t count() const { return items.size() / length; }
};
} // namespace

/// How often each n-gram of the pool stands in each row of x (rows, size), its
/// items `skip` apart: f32 (rows, count).
static Value countGrams(GraphBuilder &b, Value x, const GramPool &pool,
                        int64_t size, int64_t skip) {
  int64_t places = size - skip * (pool.length - 1);
  SmallVector<int64_t> positions;
  for (int64_t p = 0; p < places; ++p)
    for (int64_t i = 0; i < pool.length; ++i)
      positions.push_back(p + i * skip);
  Type i64 = b.builder.getI64Type();
  // (rows, places, 1, length) against (count, length).
  Value windows =
      b.gather(x, b.constantInts(positions, {places, 1, pool.length}, i64), 1);
  Value grams =
      b.constantInts(pool.items, {pool.count(), pool.length}, b.element(x));
  Value equal = b.reduce(b.emit("graph.eq", {windows, grams}),
                         graph::FoldKind::bit_and, {3});
  Value hits = b.convert(b.squeeze(equal, {3}), b.builder.getF32Type());
  return b.squeeze(b.reduce(hits, graph::FoldKind::add, {1}), {1});
}

static void convertTfIdfVectorizer(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  if (node.hasAttr("pool_strings"))
    refuse("n-grams of strings");
  SmallVector<int64_t> items = node.is("pool_int64s"),
                       starts = node.is("ngram_counts"),
                       columns = node.is("ngram_indexes");
  int64_t shortest = node.i("min_gram_length", 1),
          longest = node.i("max_gram_length", 1),
          skips = node.i("max_skip_count", 0);
  SmallVector<int64_t> dims = b.staticDims(x, "TfIdfVectorizer");
  if (dims.empty() || dims.size() > 2 || columns.empty() || skips < 0 ||
      skips > 64)
    refuseMalformed("wants one or two dims, an n-gram index and a small "
                    "max_skip_count");
  int64_t size = dims.back(), rows = dims.size() == 2 ? dims[0] : 1;
  Value data = b.reshape(x, {rows, size});
  Type f32 = b.builder.getF32Type();

  // Counts of every n-gram in the order of the pool.
  SmallVector<Value> counts;
  int64_t number = 0;
  for (auto [i, start] : llvm::enumerate(starts)) {
    int64_t length = i + 1, end = i + 1 < starts.size()
                                      ? starts[i + 1]
                                      : static_cast<int64_t>(items.size());
    if (start < 0 || end < start || end > static_cast<int64_t>(items.size()))
      refuseMalformed("ngram_counts does not fit the pool");
    GramPool pool{
        length, number,
        ArrayRef(items).slice(start, (end - start) / length * length)};
    number += pool.count();
    if (pool.count() == 0)
      continue;
    Value total = b.broadcast(b.splat(0, f32), {b.c(rows), b.c(pool.count())});
    // A single item has no gaps to stretch.
    int64_t stretches = length == 1 ? 1 : skips + 1;
    for (int64_t skip = 1; skip <= stretches; ++skip)
      if (length >= shortest && length <= longest && skip * (length - 1) < size)
        total = b.add(total, countGrams(b, data, pool, size, skip));
    counts.push_back(total);
  }
  if (number != static_cast<int64_t>(columns.size()) || counts.empty())
    refuseMalformed("ngram_indexes must have one entry an n-gram");
  Value all = b.concat(counts, 1);

  std::string mode = node.s("mode", "TF").str();
  SmallVector<double> weights = node.fs("weights");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF")
    refuseMalformed("unknown mode '" + mode + "'");
  if (mode == "IDF")
    all = b.convert(b.emit("graph.gt", {all, b.splat(0, f32)}), f32);
  if (mode != "TF" && !weights.empty()) {
    if (static_cast<int64_t>(weights.size()) != number)
      refuseMalformed("weights must have one entry an n-gram");
    all = b.mul(all, b.constantFloats(weights, {number}, f32));
  }
  // Columns nothing names are zero: they read one more, empty n-gram.
  int64_t width = *llvm::max_element(columns) + 1;
  if (*llvm::min_element(columns) < 0 || width > 1 << 24)
    refuseMalformed("ngram_indexes is negative or too large");
  SmallVector<int64_t> source(width, number);
  for (auto [gram, column] : llvm::enumerate(columns))
    source[column] = gram;
  Value padded = b.pad(all, {}, {0, 0}, {0, 1});
  Value y = b.gather(
      padded, b.constantInts(source, {width}, b.builder.getI64Type()), 1);
  node.result(dims.size() == 2 ? y : b.reshape(y, {width}));
}

//===----------------------------------------------------------------------===//
// ai.onnx.ml
//===----------------------------------------------------------------------===//

static void convertBinarizer(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Value above =
      b.emit("graph.gt", {x, b.splat(node.f("threshold", 0), b.element(x))});
  node.result(b.convert(above, b.element(x)));
}

/// Columns of the last axis; a vector gives a matrix of one row.
static void convertArrayFeatureExtractor(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), indices = node.in(1);
  Value flat =
      b.reshape(indices, {graph::product(b.context(), b.dims(indices))});
  Value y = b.gather(x, flat, b.rank(x) - 1);
  node.result(b.rank(x) == 1 ? b.unsqueeze(y, {0}) : y);
}

//===----------------------------------------------------------------------===//
// Det
//===----------------------------------------------------------------------===//

/// Determinant over the last two axes by expansion along the first of `rows`.
static Value expand(GraphBuilder &b, Value x, ArrayRef<int64_t> columns,
                    int64_t row) {
  int64_t rank = b.rank(x);
  auto element = [&](int64_t i, int64_t j) {
    Value line = b.sliceAxis(x, rank - 2, b.c(i), b.c(1));
    return b.squeeze(b.sliceAxis(line, rank - 1, b.c(j), b.c(1)),
                     {rank - 2, rank - 1});
  };
  if (columns.size() == 1)
    return element(row, columns[0]);
  Value total;
  for (size_t k = 0; k < columns.size(); ++k) {
    SmallVector<int64_t> rest(columns);
    rest.erase(rest.begin() + k);
    Value term = b.mul(element(row, columns[k]), expand(b, x, rest, row + 1));
    total = !total ? term : k % 2 ? b.sub(total, term) : b.add(total, term);
  }
  return total;
}

static void convertDet(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x);
  if (rank < 2)
    refuseMalformed("wants a matrix");
  std::optional<int64_t> n = graph::constantValue(b.dim(x, rank - 1));
  if (!n || graph::constantValue(b.dim(x, rank - 2)) != n || *n < 1)
    refuse("matrices that are not known to be square");
  if (*n > 4)
    refuse("matrices larger than 4");
  SmallVector<int64_t> columns(*n);
  std::iota(columns.begin(), columns.end(), 0);
  node.result(expand(b, x, columns, 0));
}

void dlc::addClassical(ConverterTable &table) {
  table["TfIdfVectorizer"] = convertTfIdfVectorizer;
  table["ai.onnx.ml.Binarizer"] = convertBinarizer;
  table["ai.onnx.ml.ArrayFeatureExtractor"] = convertArrayFeatureExtractor;
  table["Det"] = convertDet;
}
