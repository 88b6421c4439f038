//===- ConvertSpectral.cpp - Fourier transforms ---------------------------===//
//
// DFT and STFT of known length are products with a constant matrix, summed in
// f64: the sums cancel, and a spectrum's small values would drown in f32.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

/// Longest transform made a matrix.
static constexpr int64_t kMaxLength = 4096;

namespace {
/// Real and imaginary parts, (..., length) each; imaginary may be null (zero).
struct Complex {
  Value real, imaginary;
};
} // namespace

/// cos and sin of 2 pi k t / length over (rows t, columns k).
static std::pair<Value, Value> makeWaves(GraphBuilder &b, int64_t rows,
                                         int64_t columns, int64_t length,
                                         function_ref<double(int64_t)> weight) {
  SmallVector<double> cosines, sines;
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t k = 0; k < columns; ++k) {
      // The angle is reduced exactly first.
      double angle = 2 * M_PI * static_cast<double>(t * k % length) /
                     static_cast<double>(length);
      cosines.push_back(weight(t) * std::cos(angle));
      sines.push_back(weight(t) * std::sin(angle));
    }
  Type f64 = b.builder.getF64Type();
  return {b.constantFloats(cosines, {rows, columns}, f64),
          b.constantFloats(sines, {rows, columns}, f64)};
}

/// x times the matrix, over the last axis.
static Value apply(GraphBuilder &b, Value x, Value matrix) {
  return makeMatMul(b, x, matrix);
}

/// X[k] = sum over t of x[t] e^(-+ 2 pi i k t / length), `bins` of them.
static Complex transform(GraphBuilder &b, Complex x, int64_t length,
                         int64_t bins, bool inverse) {
  int64_t rows = *graph::constantValue(b.dims(x.real).back());
  double scale = inverse ? 1.0 / static_cast<double>(length) : 1.0;
  auto [cosines, sines] =
      makeWaves(b, rows, bins, length, [&](int64_t) { return scale; });
  Complex y;
  y.real = apply(b, x.real, cosines);
  y.imaginary = apply(b, x.real, sines);
  if (!inverse)
    y.imaginary = b.unary("graph.neg", y.imaginary);
  if (!x.imaginary)
    return y;
  Value cross = apply(b, x.imaginary, sines);
  y.real = inverse ? b.sub(y.real, cross) : b.add(y.real, cross);
  y.imaginary = b.add(y.imaginary, apply(b, x.imaginary, cosines));
  return y;
}

/// The real signal whose one-sided spectrum this is: every bin but the first
/// and (for an even length) the last counts twice.
static Value inverseOneSided(GraphBuilder &b, Complex x, int64_t length) {
  int64_t rows = *graph::constantValue(b.dims(x.real).back());
  auto weight = [&](int64_t k) {
    bool once = k == 0 || 2 * k == length;
    return (once ? 1.0 : 2.0) / static_cast<double>(length);
  };
  auto [cosines, sines] = makeWaves(b, rows, length, length, weight);
  Value y = apply(b, x.real, cosines);
  return x.imaginary ? b.sub(y, apply(b, x.imaginary, sines)) : y;
}

/// The last axis cut or filled with zeros to `length`.
static Value fit(GraphBuilder &b, Value x, int64_t length) {
  int64_t last = b.rank(x) - 1;
  std::optional<int64_t> size = graph::constantValue(b.dim(x, last));
  if (!size)
    refuse("a transform over a symbolic dim");
  if (*size >= length)
    return b.sliceAxis(x, last, b.c(0), b.c(length));
  SmallVector<int64_t> low(last + 1, 0), high(last + 1, 0);
  high[last] = length - *size;
  return b.pad(x, {}, low, high);
}

/// One part of (..., 1 or 2), in f64, without that axis.
static Value takePart(GraphBuilder &b, Value x, int64_t part) {
  int64_t last = b.rank(x) - 1;
  return b.convert(b.squeeze(b.sliceAxis(x, last, b.c(part), b.c(1)), {last}),
                   b.builder.getF64Type());
}

static Value joinParts(GraphBuilder &b, Complex y, Type element) {
  int64_t last = b.rank(y.real);
  return b.convert(
      b.concat({b.unsqueeze(y.real, {last}), b.unsqueeze(y.imaginary, {last})},
               last),
      element);
}

static void convertDFT(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), axis = node.i("axis", rank - 2);
  if (node.has(2))
    axis = node.ints(2, "axis").front();
  axis = normalizeAxis(axis, rank);
  std::optional<int64_t> parts = graph::constantValue(b.dims(x).back());
  bool inverse = node.i("inverse", 0), oneSided = node.i("onesided", 0);
  if (axis == rank - 1 || !parts || *parts < 1 || *parts > 2)
    refuseMalformed("the operand's last dim must be 1 or 2, and not the axis");
  std::optional<int64_t> size = graph::constantValue(b.dim(x, axis));
  if (!size)
    refuse("a transform over a symbolic dim");
  int64_t length = inverse && oneSided ? 2 * (*size - 1) : *size;
  if (node.has(1))
    length = node.ints(1, "dft_length").front();
  if (length < 1 || length > kMaxLength)
    refuse("a transform of length " + std::to_string(length));
  // The axis goes last while it is transformed.
  SmallVector<int64_t> toLast, back(rank - 1);
  for (int64_t i = 0; i < rank - 1; ++i)
    if (i != axis)
      toLast.push_back(i);
  toLast.push_back(axis);
  for (auto [to, from] : llvm::enumerate(toLast))
    back[from] = to;
  auto part = [&](int64_t i, int64_t wanted) {
    return fit(b, b.transpose(takePart(b, x, i), toLast), wanted);
  };
  int64_t taken = inverse && oneSided ? length / 2 + 1 : length;
  Complex in{part(0, taken), *parts == 2 ? part(1, taken) : Value()};
  Type element = b.element(x);
  if (inverse && oneSided) {
    Value y = b.transpose(inverseOneSided(b, in, length), back);
    return node.result(b.convert(b.unsqueeze(y, {rank - 1}), element));
  }
  Complex y =
      transform(b, in, length, oneSided ? length / 2 + 1 : length, inverse);
  y.real = b.transpose(y.real, back);
  y.imaginary = b.transpose(y.imaginary, back);
  node.result(joinParts(b, y, element));
}

static void convertSTFT(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value signal = node.in(0), window = node.maybe(2);
  Type element = b.element(signal), f64 = b.builder.getF64Type();
  Dims dims = b.dims(signal);
  int64_t step = node.ints(1, "frame_step").front(), length = 0;
  if (node.has(3))
    length = node.ints(3, "frame_length").front();
  else if (window)
    length = graph::constantValue(b.dim(window, 0)).value_or(0);
  if (dims.size() < 2 || step < 1 || length < 1 || length > kMaxLength ||
      graph::constantValue(dims[1]).value_or(length) < length)
    refuseMalformed("frame_step or frame_length does not fit the signal");
  requireAtMost(node, b.c(length), dims[1],
                "the signal is shorter than a frame");
  AffineExpr frames = graph::simplify((dims[1] - length).floorDiv(step) + 1);
  Type i64 = b.builder.getI64Type();
  Value starts = b.iota(frames, i64, 0, static_cast<double>(step));
  Value index = b.add(b.unsqueeze(starts, {1}), b.iota(b.c(length), i64));
  bool isComplex = dims.size() == 3 && graph::constantValue(dims[2]) == 2;
  if (dims.size() == 3 && !isComplex && graph::constantValue(dims[2]) != 1)
    refuseMalformed("the signal's last dim must be 1 or 2");
  auto part = [&](int64_t i) {
    Value x =
        dims.size() == 3 ? takePart(b, signal, i) : b.convert(signal, f64);
    x = b.gather(x, index, 1);
    return window ? b.mul(x, b.convert(window, f64)) : x;
  };
  Complex in{part(0), isComplex ? part(1) : Value()};
  int64_t bins = node.i("onesided", 1) ? length / 2 + 1 : length;
  node.result(joinParts(b, transform(b, in, length, bins, false), element));
}

/// Constant triangles on the mel scale, as the operator's definition has them.
static void convertMelWeightMatrix(NodeContext &node) {
  GraphBuilder &b = node.b;
  int64_t bands = node.ints(0, "num_mel_bins").front(),
          length = node.ints(1, "dft_length").front(),
          rate = node.ints(2, "sample_rate").front();
  double low = node.floats(3, "lower_edge_hertz").front(),
         high = node.floats(4, "upper_edge_hertz").front();
  int64_t rows = length / 2 + 1;
  if (bands < 1 || length < 1 || rate < 1 || bands * rows > 1 << 24)
    refuseMalformed("a parameter is not positive or too large");
  auto toMel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  double lowMel = toMel(low), step = (toMel(high) - lowMel) / (bands + 2);
  SmallVector<int64_t> edges;
  for (int64_t i = 0; i < bands + 2; ++i) {
    double hertz = 700 * (std::pow(10, (i * step + lowMel) / 2595) - 1);
    edges.push_back(static_cast<int64_t>(
        std::floor(static_cast<double>(length + 1) * hertz / rate)));
  }
  SmallVector<double> weights(rows * bands, 0.0);
  auto at = [&](int64_t row, int64_t band) -> double & {
    static double ignored;
    return row >= 0 && row < rows ? weights[row * bands + band] : ignored;
  };
  for (int64_t i = 0; i < bands; ++i) {
    int64_t lower = edges[i], center = edges[i + 1], upper = edges[i + 2];
    if (center == lower)
      at(center, i) = 1;
    else
      for (int64_t j = lower; j <= center; ++j)
        at(j, i) = static_cast<double>(j - lower) / (center - lower);
    for (int64_t j = center; center < upper && j < upper; ++j)
      at(j, i) = static_cast<double>(upper - j) / (upper - center);
  }
  Type element = onnxd::getElementType(
      b.context(), static_cast<int>(node.i("output_datatype", 1)));
  if (!isa<FloatType>(element))
    refuse("a mel matrix of integers");
  node.result(b.constantFloats(weights, {rows, bands}, element));
}

void dlc::addSpectral(ConverterTable &table) {
  table["DFT"] = convertDFT;
  table["STFT"] = convertSTFT;
  table["MelWeightMatrix"] = convertMelWeightMatrix;
}
