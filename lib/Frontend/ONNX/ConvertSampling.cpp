//===- ConvertSampling.cpp - images read at computed places ---------------===//
//
// GridSample, RoiAlign and DeformConv read an image at coordinates that the
// data tell: gathers of flattened positions, blended by the distance to each.
// Col2Im is a transposed convolution with a kernel of ones and zeros.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"

using namespace dlc;
using namespace mlir;

/// A size plus a constant, as a scalar.
static Value addToSize(GraphBuilder &b, AffineExpr size, double more,
                       Type element) {
  if (std::optional<int64_t> n = graph::constantValue(size))
    return b.splat(static_cast<double>(*n) + more, element);
  Value scalar = b.size(size, element);
  return more == 0 ? scalar : b.addScalar(scalar, more);
}

namespace {
/// What happens outside the image.
enum class Outside { Zeros, Border, Reflection };

/// An image (n, c, spatial...) flattened to (n, c, positions), read at
/// coordinates given per spatial axis as (n, points) tensors.
struct Sampler {
  GraphBuilder &b;
  Value flat;
  Dims sizes;
  Outside outside;
  bool alignCorners;

  Value number(size_t axis, double more, Type element) {
    return addToSize(b, sizes[axis], more, element);
  }
  double low() const { return alignCorners ? 0.0 : -0.5; }
  /// The number of the last pixel.
  Value last(size_t axis, Type element) { return number(axis, -1, element); }
  Value clamp(Value x, size_t axis) {
    return b.min(b.max(x, b.splat(0, b.element(x))), last(axis, b.element(x)));
  }
  Value reflect(Value x, size_t axis);
  Value fetch(ArrayRef<Value> at);
  Value nearest(ArrayRef<Value> at);
  Value blend(ArrayRef<Value> at, bool cubic);
};
} // namespace

static Sampler makeSampler(GraphBuilder &b, Value image, Outside outside,
                           bool alignCorners) {
  Dims dims = b.dims(image);
  Dims sizes(ArrayRef(dims).drop_front(2));
  for (AffineExpr size : sizes)
    if (graph::constantValue(size) == 0)
      refuse("sampling an image without pixels");
  AffineExpr positions =
      graph::product(b.context(), ArrayRef(dims).drop_front(2));
  return {b, b.reshape(image, {dims[0], dims[1], positions}), sizes, outside,
          alignCorners};
}

/// Mirrors at the borders until inside: a triangle wave of twice the range.
Value Sampler::reflect(Value x, size_t axis) {
  Type element = b.element(x);
  // From `low` to as far behind the last pixel: as many pixels, or one less.
  int64_t less = alignCorners ? 1 : 0;
  if (graph::constantValue(sizes[axis]) == less)
    return b.mulScalar(x, 0);
  Value range = b.mulScalar(number(axis, -less, element), 2);
  Value distance = b.unary("graph.abs", b.addScalar(x, -low()));
  Value phase = b.emit("graph.rem", {distance, range});
  Value folded = b.addScalar(b.min(phase, b.sub(range, phase)), low());
  if (!less || graph::constantValue(sizes[axis]))
    return folded;
  // A single pixel leaves no range.
  return b.select(b.emit("graph.gt", {range, b.splat(0, element)}), folded,
                  b.splat(0, element));
}

/// Pixels at whole coordinates: (n, c, points).
Value Sampler::fetch(ArrayRef<Value> at) {
  Type i64 = b.builder.getI64Type();
  Value flatIndex, valid;
  for (auto [axis, size] : llvm::enumerate(sizes)) {
    Value i = at[axis];
    if (outside == Outside::Zeros) {
      Type element = b.element(i);
      Value ok = b.emit("graph.bit_and",
                        {b.emit("graph.ge", {i, b.splat(0, element)}),
                         b.emit("graph.le", {i, last(axis, element)})});
      valid = valid ? b.emit("graph.bit_and", {valid, ok}) : ok;
    } else if (outside == Outside::Reflection) {
      i = b.unary("graph.trunc", reflect(i, axis));
    }
    Value index = b.convert(clamp(i, axis), i64);
    flatIndex = flatIndex
                    ? b.add(b.mul(flatIndex, addToSize(b, size, 0, i64)), index)
                    : index;
  }
  Dims dims = b.dims(flat);
  dims.back() = b.dim(flatIndex, 1);
  Value index = b.broadcast(b.unsqueeze(flatIndex, {1}), dims);
  Value pixels = b.gatherElements(flat, index, 2);
  if (valid)
    pixels = b.select(b.unsqueeze(valid, {1}), pixels,
                      b.splat(0, b.element(pixels)));
  return pixels;
}

Value Sampler::nearest(ArrayRef<Value> at) {
  SmallVector<Value> whole;
  for (Value x : at)
    whole.push_back(b.unary("graph.round", x));
  return fetch(whole);
}

/// Weighted sum over the 2 (or 4) pixels nearest on every axis.
Value Sampler::blend(ArrayRef<Value> at, bool cubic) {
  size_t axes = at.size();
  int first = cubic ? -1 : 0, count = cubic ? 4 : 2;
  SmallVector<Value> floors;
  std::vector<SmallVector<Value>> weights(axes);
  for (size_t axis = 0; axis < axes; ++axis) {
    Value floor = b.unary("graph.floor", at[axis]);
    Value t = b.sub(at[axis], floor);
    floors.push_back(floor);
    for (int k = first; k < first + count; ++k) {
      Value d = b.unary("graph.abs", b.addScalar(t, -k));
      if (!cubic) {
        weights[axis].push_back(b.sub(b.splat(1, b.element(d)), d));
        continue;
      }
      // Keys' kernel with a = -0.75: the middle taps are within 1, the outer
      // ones between 1 and 2.
      constexpr double a = -0.75;
      auto horner = [&](std::initializer_list<double> coefficients) {
        Value sum;
        for (double c : coefficients)
          sum = sum ? b.addScalar(b.mul(sum, d), c) : b.splat(c, b.element(d));
        return sum;
      };
      weights[axis].push_back(k == 0 || k == 1
                                  ? horner({a + 2, -(a + 3), 0, 1})
                                  : horner({a, -5 * a, 8 * a, -4 * a}));
    }
  }
  Value total;
  size_t taps = 1;
  for (size_t axis = 0; axis < axes; ++axis)
    taps *= count;
  for (size_t tap = 0; tap < taps; ++tap) {
    SmallVector<Value> place;
    Value weight;
    for (size_t axis = 0, rest = tap; axis < axes; ++axis, rest /= count) {
      size_t k = rest % count;
      place.push_back(
          b.addScalar(floors[axis], static_cast<double>(first) + k));
      weight = weight ? b.mul(weight, weights[axis][k]) : weights[axis][k];
    }
    Value part = b.mul(fetch(place), b.unsqueeze(weight, {1}));
    total = total ? b.add(total, part) : part;
  }
  return total;
}

static void convertGridSample(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), grid = node.in(1);
  Type element = b.element(x), wide = wideType(element);
  int64_t spatial = b.rank(x) - 2;
  StringRef mode = node.s("mode", "linear"),
            padding = node.s("padding_mode", "zeros");
  std::optional<Outside> outside =
      llvm::StringSwitch<std::optional<Outside>>(padding)
          .Case("zeros", Outside::Zeros)
          .Case("border", Outside::Border)
          .Case("reflection", Outside::Reflection)
          .Default(std::nullopt);
  if (!outside || (mode != "linear" && mode != "nearest" && mode != "cubic"))
    refuseMalformed("unknown mode '" + mode.str() + "' or padding_mode '" +
                    padding.str() + "'");
  if (!isFloat(element))
    refuse("sampling integers");
  if (spatial < 1 || b.rank(grid) != spatial + 2 ||
      graph::constantValue(b.dims(grid).back()) != spatial)
    refuseMalformed("the grid " + describeType(grid.getType()) +
                    " does not fit " + describeType(x.getType()));
  Sampler sampler =
      makeSampler(b, b.convert(x, wide), *outside, node.i("align_corners", 0));
  Dims gridDims = b.dims(grid);
  AffineExpr points =
      graph::product(b.context(), ArrayRef(gridDims).drop_front().drop_back());
  Value all =
      b.reshape(b.convert(grid, wide), {gridDims[0], points, b.c(spatial)});
  SmallVector<Value> at;
  for (int64_t axis = 0; axis < spatial; ++axis) {
    // The grid's coordinates are in reverse order, each in [-1, 1].
    Value n =
        b.squeeze(b.sliceAxis(all, 2, b.c(spatial - 1 - axis), b.c(1)), {2});
    Value scaled =
        b.mul(b.addScalar(n, 1),
              sampler.number(axis, sampler.alignCorners ? -1 : 0, wide));
    Value place = b.mulScalar(
        sampler.alignCorners ? scaled : b.addScalar(scaled, -1), 0.5);
    if (mode == "nearest")
      place = b.unary("graph.round", place);
    if (*outside == Outside::Border)
      place = sampler.clamp(place, axis);
    else if (*outside == Outside::Reflection)
      place = sampler.reflect(place, axis);
    at.push_back(place);
  }
  Value y;
  if (mode == "nearest") {
    // After a reflection the place may be a half: it is truncated.
    for (Value &place : at)
      place = b.unary("graph.trunc", place);
    y = sampler.fetch(at);
  } else {
    y = sampler.blend(at, mode == "cubic");
  }
  Dims out{b.dim(x, 0), b.dim(x, 1)};
  out.append(gridDims.begin() + 1, gridDims.end() - 1);
  node.result(b.convert(b.reshape(y, out), element));
}

//===----------------------------------------------------------------------===//
// RoiAlign
//===----------------------------------------------------------------------===//

namespace {
/// Bilinear taps along one axis for (rois, points) coordinates: two pixel
/// numbers and their weights, zero outside [-1, size].
struct LinearTaps {
  Value index[2], weight[2];
};
} // namespace

static LinearTaps makeRoiTaps(GraphBuilder &b, Value at, AffineExpr size) {
  Type element = b.element(at), i64 = b.builder.getI64Type();
  Value inside =
      b.emit("graph.bit_and",
             {b.emit("graph.ge", {at, b.splat(-1, element)}),
              b.emit("graph.le", {at, addToSize(b, size, 0, element)})});
  Value last = addToSize(b, size, -1, element);
  Value place = b.min(b.max(at, b.splat(0, element)), last);
  Value low = b.unary("graph.floor", place);
  Value high = b.min(b.addScalar(low, 1), last);
  Value t = b.sub(place, low), zero = b.splat(0, element);
  LinearTaps taps;
  taps.index[0] = b.convert(low, i64);
  taps.index[1] = b.convert(high, i64);
  taps.weight[0] = b.select(inside, b.sub(b.splat(1, element), t), zero);
  taps.weight[1] = b.select(inside, t, zero);
  return taps;
}

static void convertRoiAlign(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), rois = node.in(1), batch = node.in(2);
  Type element = b.element(x), wide = wideType(element),
       i64 = b.builder.getI64Type();
  int64_t samples = node.i("sampling_ratio", 0);
  if (samples < 1)
    refuse("a sampling_ratio that depends on the size of each region");
  if (b.rank(x) != 4 || b.rank(rois) != 2)
    refuseMalformed("wants an image batch and regions (n, 4)");
  Dims image = b.dims(x);
  std::string mode = node.s("mode", "avg").lower();
  bool halfPixel =
      node.s("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  AffineExpr count = b.dim(rois, 0);
  Value scaled = b.addScalar(
      b.mulScalar(b.convert(rois, wide), node.f("spatial_scale", 1)),
      halfPixel ? -0.5 : 0.0);
  // Coordinates of every sample along one axis: (rois, bins * samples).
  auto places = [&](int64_t startColumn, int64_t bins) {
    Value start = b.sliceAxis(scaled, 1, b.c(startColumn), b.c(1));
    Value end = b.sliceAxis(scaled, 1, b.c(startColumn + 2), b.c(1));
    Value extent = b.sub(end, start);
    if (!halfPixel)
      extent = b.max(extent, b.splat(1, wide));
    SmallVector<double> offsets;
    for (int64_t bin = 0; bin < bins; ++bin)
      for (int64_t s = 0; s < samples; ++s)
        offsets.push_back(
            (static_cast<double>(bin) +
             (static_cast<double>(s) + 0.5) / static_cast<double>(samples)) /
            static_cast<double>(bins));
    Value along = b.constantFloats(
        offsets, {1, static_cast<int64_t>(offsets.size())}, wide);
    return b.add(start, b.mul(extent, along));
  };
  int64_t height = node.i("output_height", 1),
          width = node.i("output_width", 1);
  if (height < 1 || width < 1 || height > 4096 || width > 4096 || samples > 64)
    refuseMalformed("output_height, output_width or sampling_ratio is not "
                    "positive or too large");
  LinearTaps rows = makeRoiTaps(b, places(1, height), image[2]);
  LinearTaps columns = makeRoiTaps(b, places(0, width), image[3]);
  // All images side by side: (c, n * h * w).
  Value flat = b.reshape(b.transpose(b.convert(x, wide), {1, 0, 2, 3}),
                         {image[1], image[0] * image[2] * image[3]});
  Value base = b.reshape(
      b.mul(b.convert(batch, i64),
            addToSize(b, graph::simplify(image[2] * image[3]), 0, i64)),
      {count, b.c(1), b.c(1)});
  Value total;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      Value row = b.mul(b.unsqueeze(rows.index[i], {2}),
                        addToSize(b, image[3], 0, i64));
      Value index = b.add(base, b.add(row, b.unsqueeze(columns.index[j], {1})));
      Value weight = b.mul(b.unsqueeze(rows.weight[i], {2}),
                           b.unsqueeze(columns.weight[j], {1}));
      Value part = b.mul(b.gather(flat, index, 1), weight);
      bool isMax = mode == "max";
      total = !total ? part : isMax ? b.max(total, part) : b.add(total, part);
    }
  Value bins = b.reshape(total, {image[1], count, b.c(height), b.c(samples),
                                 b.c(width), b.c(samples)});
  Value pooled = mode == "max" ? b.reduce(bins, graph::FoldKind::max, {3, 5})
                               : makeMean(b, bins, {3, 5});
  Value y = b.transpose(b.squeeze(pooled, {3, 5}), {1, 0, 2, 3});
  node.result(b.convert(y, element));
}

//===----------------------------------------------------------------------===//
// DeformConv, Col2Im
//===----------------------------------------------------------------------===//

static void convertDeformConv(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), w = node.in(1), offset = node.in(2);
  Type element = b.element(x), wide = wideType(element);
  SmallVector<int64_t> image = b.staticDims(x, "DeformConv"),
                       weight = b.staticDims(w, "DeformConv"),
                       shifts = b.staticDims(offset, "DeformConv");
  if (image.size() != 4)
    refuse("a deformable convolution of rank " + std::to_string(image.size()));
  int64_t group = node.i("group", 1), offsetGroups = node.i("offset_group", 1);
  Window window = readWindow(node, x, ArrayRef(weight).drop_front(2));
  int64_t taps = window.kernel[0] * window.kernel[1], oh = shifts[2],
          ow = shifts[3], points = oh * ow;
  if (group < 1 || offsetGroups < 1 || image[1] % offsetGroups ||
      image[1] != weight[1] * group || weight[0] % group ||
      shifts[1] != offsetGroups * taps * 2)
    refuseMalformed("group, offset_group and the operands do not fit");
  // One sampler image a pair of batch and offset group.
  int64_t batches = image[0] * offsetGroups;
  Value images =
      b.reshape(b.convert(x, wide),
                {batches, image[1] / offsetGroups, image[2], image[3]});
  Sampler sampler = makeSampler(b, images, Outside::Zeros, true);
  Value moved = b.reshape(b.convert(offset, wide), {batches, taps, 2, points});
  SmallVector<Value> at;
  for (int64_t axis = 0; axis < 2; ++axis) {
    SmallVector<double> places;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t point = 0; point < points; ++point) {
        int64_t k = axis == 0 ? tap / window.kernel[1] : tap % window.kernel[1];
        int64_t o = axis == 0 ? point / ow : point % ow;
        places.push_back(static_cast<double>(o * window.strides[axis] -
                                             window.low[axis] +
                                             k * window.dilations[axis]));
      }
    Value still = b.constantFloats(places, {1, taps, points}, wide);
    Value shift = b.squeeze(b.sliceAxis(moved, 2, b.c(axis), b.c(1)), {2});
    at.push_back(b.reshape(b.add(still, shift), {batches, taps * points}));
  }
  Value sampled = b.reshape(sampler.blend(at, /*cubic=*/false),
                            {batches, image[1] / offsetGroups, taps, points});
  if (Value mask = node.maybe(4))
    sampled = b.mul(
        sampled, b.reshape(b.convert(mask, wide), {batches, 1, taps, points}));
  Value columns =
      b.reshape(sampled, {image[0], group, weight[1], taps, points});
  Value kernel = b.reshape(b.convert(w, wide),
                           {group, weight[0] / group, weight[1], taps});
  Value y = b.einsum("ngckp", "gock", "ngop", columns, kernel);
  y = b.reshape(y, {image[0], weight[0], oh, ow});
  if (Value bias = node.maybe(3))
    y = b.add(y, b.reshape(b.convert(bias, wide), {1, weight[0], 1, 1}));
  node.result(b.convert(y, element));
}

/// Columns (n, c * taps, blocks) summed back into images: each tap is a channel
/// whose kernel has its one 1 at that tap.
static void convertCol2Im(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Dims dims = b.dims(x);
  SmallVector<int64_t> image = node.ints(1, "image_shape"),
                       block = node.ints(2, "block_shape");
  size_t axes = image.size();
  SmallVector<int64_t> ones(axes, 1), zeros(2 * axes, 0);
  SmallVector<int64_t> dilations = node.is("dilations", ones),
                       strides = node.is("strides", ones),
                       pads = node.is("pads", zeros);
  if (dims.size() != 3 || axes == 0 || block.size() != axes ||
      dilations.size() != axes || strides.size() != axes ||
      pads.size() != 2 * axes)
    refuseMalformed("image_shape, block_shape and attributes differ in length");
  int64_t taps = 1, blocks = 1;
  SmallVector<int64_t> grid;
  for (size_t i = 0; i < axes; ++i) {
    if (strides[i] < 1 || dilations[i] < 1 || block[i] < 1)
      refuseMalformed("blocks, strides and dilations must be positive");
    taps *= block[i];
    grid.push_back((image[i] + pads[i] + pads[i + axes] -
                    dilations[i] * (block[i] - 1) - 1) /
                       strides[i] +
                   1);
    blocks *= grid.back();
  }
  std::optional<int64_t> rows = graph::constantValue(dims[1]);
  if (!rows)
    refuse("columns of a symbolic number");
  if (taps > 4096 || *rows % taps || b.unify(dims[2], b.c(blocks)) == nullptr)
    refuseMalformed("the columns " + describeType(x.getType()) +
                    " do not fit image_shape and block_shape");
  x = b.ensureDim(x, 2, b.c(blocks));
  int64_t channels = *rows / taps;
  Dims split{dims[0], dims[1]};
  SmallVector<int64_t> kernel{*rows, 1};
  for (int64_t size : grid)
    split.push_back(b.c(size));
  kernel.append(block);
  SmallVector<double> eye(taps * taps, 0.0);
  for (int64_t i = 0; i < taps; ++i)
    eye[i * taps + i] = 1;
  Value tap = b.constantFloats(eye, {1, taps, taps}, b.element(x));
  Value w = b.reshape(b.broadcast(tap, {b.c(channels), b.c(taps), b.c(taps)}),
                      kernel);
  Dims out{dims[0], b.c(channels)};
  for (int64_t size : image)
    out.push_back(b.c(size));
  node.result(
      b.emit("graph.conv_transpose", {b.reshape(x, split), w},
             {b.i64s("strides", strides), b.i64s("dilations", dilations),
              b.i64s("pads_low", ArrayRef(pads).take_front(axes)),
              b.attr("group", b.builder.getI64IntegerAttr(channels))},
             graph::makeTensorType(out, b.element(x))));
}

void dlc::addSampling(ConverterTable &table) {
  table["GridSample"] = convertGridSample;
  table["RoiAlign"] = convertRoiAlign;
  table["DeformConv"] = convertDeformConv;
  table["Col2Im"] = convertCol2Im;
}
