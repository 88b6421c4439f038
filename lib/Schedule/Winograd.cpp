// Which convolutions Winograd's filtering is for, and when it pays.
#include "dlc/Schedule/Winograd.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;

WinogradClaim WinogradClaim::get(int64_t tile) {
  WinogradClaim claim;
  claim.tile = tile;
  if (tile == 2) {               // points 0, 1, -1
    claim.input = {1, 0,  -1, 0, //
                   0, 1,  1,  0, //
                   0, -1, 1,  0, //
                   0, 1,  0,  -1};
    claim.filter = {2, 0, 0, 1, 1, 1, 1, -1, 1, 0, 0, 2};
    claim.denominator = 2;
    claim.output = {1, 1, 1, 0, 0, 1, -1, -1};
    return claim;
  }
  assert(tile == 4 && "no such matrices"); // points 0, 1, -1, 2, -2
  claim.input = {4, 0,  -5, 0,  1, 0,      //
                 0, -4, -4, 1,  1, 0,      //
                 0, 4,  -4, -1, 1, 0,      //
                 0, -2, -1, 2,  1, 0,      //
                 0, 2,  -1, -2, 1, 0,      //
                 0, 4,  0,  -5, 0, 1};
  claim.filter = {6, 0, 0, -4, -4, -4, -4, 4, -4, //
                  1, 2, 4, 1,  -2, 4,  0,  0, 24};
  claim.denominator = 24;
  claim.output = {1, 1, 1,  1, 1,  0, //
                  0, 1, -1, 2, -2, 0, //
                  0, 1, 1,  4, 4,  0, //
                  0, 1, -1, 8, -8, 1};
  return claim;
}

DictionaryAttr WinogradClaim::toAttr(MLIRContext *context) const {
  Builder b(context);
  auto list = [&](ArrayRef<int64_t> values) -> Attribute {
    return b.getDenseI64ArrayAttr(values);
  };
  return b.getDictionaryAttr(
      {b.getNamedAttr("tile", b.getI64IntegerAttr(tile)),
       b.getNamedAttr("pixels", list(pixels)),
       b.getNamedAttr("taps", list(taps)),
       b.getNamedAttr("offset", list(offset)),
       b.getNamedAttr("input", list(input)),
       b.getNamedAttr("filter", list(filter)),
       b.getNamedAttr("denominator", b.getI64IntegerAttr(denominator)),
       b.getNamedAttr("output", list(output))});
}

FailureOr<WinogradClaim> WinogradClaim::fromAttr(DictionaryAttr attr) {
  WinogradClaim claim;
  bool isGood = attr && attr.size() == 8;
  auto number = [&](StringRef name) -> int64_t {
    auto value = isGood ? attr.getAs<IntegerAttr>(name) : IntegerAttr();
    isGood &= bool(value);
    return value ? value.getInt() : 0;
  };
  auto list = [&](StringRef name, int64_t size) -> std::vector<int64_t> {
    auto value =
        isGood ? attr.getAs<DenseI64ArrayAttr>(name) : DenseI64ArrayAttr();
    isGood &= value && int64_t(value.size()) == size;
    return isGood ? value.asArrayRef().vec() : std::vector<int64_t>(size);
  };
  claim.tile = number("tile");
  isGood &= claim.tile >= 1 && claim.tile <= 8;
  auto pair = [&](StringRef name, int64_t *to) {
    std::vector<int64_t> values = list(name, 2);
    std::copy(values.begin(), values.end(), to);
  };
  pair("pixels", claim.pixels);
  pair("taps", claim.taps);
  pair("offset", claim.offset);
  int64_t n = isGood ? claim.size() : 1;
  claim.input = list("input", n * n);
  claim.filter = list("filter", n * 3);
  claim.denominator = number("denominator");
  claim.output = list("output", claim.tile * n);
  isGood &= claim.denominator > 0;
  if (!isGood)
    return failure();
  return claim;
}

double WinogradClaim::errorFactor(int64_t channels) const {
  int64_t n = size();
  double most = 0, terms = 0;
  for (int64_t i = 0; i < tile; ++i) {
    double sum = 0;
    for (int64_t xi = 0; xi < n; ++xi) {
      double g = 0, b = 0;
      for (int64_t k = 0; k < 3; ++k)
        g += std::abs(double(filter[xi * 3 + k])) / double(denominator);
      for (int64_t j = 0; j < n; ++j)
        b += std::abs(double(input[xi * n + j]));
      sum += std::abs(double(output[i * n + xi])) * g * b;
    }
    most = std::max(most, sum);
  }
  // Both transforms twice, the filter's once, the product, and the sum over the
  // channels.
  terms = 4 * double(n) + 2 + double(channels);
  return most * most * terms;
}

//===----------------------------------------------------------------------===//
// The form
//===----------------------------------------------------------------------===//

FailureOr<WinogradForm> dlc::classifyWinograd(graph::KernelOp kernel,
                                              std::string &reason) {
  auto refuse = [&](const char *why) -> FailureOr<WinogradForm> {
    reason = why;
    return failure();
  };
  auto classified = classifyContraction(kernel, reason);
  if (failed(classified))
    return failure();
  WinogradForm form;
  form.spec = std::move(*classified);
  ContractionSpec &spec = form.spec;
  auto number = [](AffineExpr e) { return graph::constantValue(e); };
  if (!spec.accumulator.isF32() || spec.narrow || !spec.outer.empty() ||
      spec.stage.getInitAttr())
    return refuse("no plain sum of float32 products");
  if ((!spec.lhs.plain && !spec.lhs.guarded) || !spec.lhs.element.isF32() ||
      !spec.rhs.plain || !spec.rhs.element.isF32())
    return refuse("a factor is computed");
  if (spec.rows.size() < 2 || spec.rows.size() > 3 ||
      spec.columns.size() != 1 || spec.inner.size() != 3)
    return refuse("no image with its channels last");
  auto type =
      cast<RankedTensorType>(kernel.getArgumentTypes()[spec.lhs.operand]);
  SmallVector<AffineExpr> image = graph::getDims(type);
  if (image.size() != 4)
    return refuse("no image with its channels last");
  SmallVector<int64_t> dims, strides(4, 1);
  for (AffineExpr e : image) {
    if (!number(e))
      return refuse("sizes are symbolic");
    dims.push_back(*number(e));
  }
  for (int i = 3; i-- > 0;)
    strides[i] = strides[i + 1] * dims[i + 1];
  auto extent = [&](unsigned axis) {
    return number(spec.space.extents[axis]).value_or(-1);
  };
  auto lhsStride = [&](unsigned axis) {
    return number(spec.lhs.strides[axis]).value_or(-1);
  };
  form.height = spec.rows[spec.rows.size() - 2];
  form.width = spec.rows.back();
  unsigned tapRow = spec.inner[0], tapColumn = spec.inner[1],
           channel = spec.inner[2];
  form.rows = extent(form.height);
  form.columns = extent(form.width);
  form.channels = extent(channel);
  form.filters = extent(spec.columns[0]);
  if (form.rows < 1 || form.columns < 1 || form.channels < 1 ||
      form.filters < 1 || extent(tapRow) != 3 || extent(tapColumn) != 3)
    return refuse("taps are not 3 x 3");
  form.imageRows = dims[1];
  form.imageColumns = dims[2];
  form.rowStride = strides[1];
  form.columnStride = strides[2];
  if (form.channels != dims[3] || lhsStride(channel) != 1 ||
      lhsStride(form.height) != strides[1] || lhsStride(tapRow) != strides[1] ||
      lhsStride(form.width) != strides[2] ||
      lhsStride(tapColumn) != strides[2] || strides[1] == strides[2])
    return refuse("a stride or dilation");
  if (spec.rows.size() == 3) {
    form.images = extent(spec.rows[0]);
    form.imageStride = strides[0];
    if (form.images != dims[0] || lhsStride(spec.rows[0]) != strides[0])
      return refuse("images are not walked one after the other");
  }
  for (unsigned axis : {tapRow, tapColumn, channel, spec.columns[0]})
    if (!number(spec.rhs.strides[axis]))
      return refuse("weights are not static");
  for (unsigned axis : spec.rows)
    if (number(spec.rhs.strides[axis]) != 0)
      return refuse("weights differ from pixel to pixel");
  // Where pixels are in the image: pixel + tap in [low, high].
  auto base = number(spec.lhs.base);
  if (!base || !number(spec.rhs.base))
    return refuse("sizes are symbolic");
  unsigned axes[2][2] = {{form.height, tapRow}, {form.width, tapColumn}};
  int64_t outputs[2] = {form.rows, form.columns},
          sizes[2] = {form.imageRows, form.imageColumns};
  int64_t low[2] = {0, 0}, high[2] = {outputs[0] + 1, outputs[1] + 1};
  for (auto &[isEquality, guard] : spec.lhs.guards) {
    bool isKnown = false;
    for (int i : {0, 1}) {
      auto a = linearCoefficient(guard, axes[i][0]),
           t = linearCoefficient(guard, axes[i][1]);
      auto c = a ? number(*a) : std::nullopt, d = t ? number(*t) : std::nullopt;
      if (!c || c != d || std::abs(*c) != 1)
        continue;
      // guard = c (pixel + tap) + rest >= 0
      SmallVector<AffineExpr> zero(spec.space.extents.size(),
                                   getAffineConstantExpr(0, spec.context()));
      auto rest = number(graph::simplify(guard.replaceDims(zero)));
      bool dependsOnOthers = false;
      for (unsigned axis = 0; axis < spec.space.extents.size(); ++axis)
        dependsOnOthers |= axis != axes[i][0] && axis != axes[i][1] &&
                           guard.isFunctionOfDim(axis);
      if (!rest || isEquality || dependsOnOthers)
        continue;
      if (*c > 0)
        low[i] = std::max(low[i], -*rest);
      else
        high[i] = std::min(high[i], *rest);
      isKnown = true;
    }
    if (!isKnown)
      return refuse("a guard that is not an edge of the image");
  }
  // The base is that of the pixel at (0, 0): offsets are small beside a row.
  form.offset[1] =
      *base -
      llvm::divideFloorSigned(*base + strides[1] / 2, strides[1]) * strides[1];
  form.offset[0] = (*base - form.offset[1]) / strides[1];
  if (form.offset[1] % strides[2])
    return refuse("a slice of the channels");
  form.offset[1] /= strides[2];
  for (int i : {0, 1}) {
    int64_t first = std::max<int64_t>(0, -form.offset[i]),
            last = std::min(outputs[i] + 1, sizes[i] - 1 - form.offset[i]);
    if (low[i] != first || high[i] != last)
      return refuse("guards other than those of the image");
  }
  auto coordinate = [&](unsigned axis) -> int64_t {
    return spec.space.coordinateOf[axis];
  };
  int64_t rank = spec.stage.getDomainRank();
  if (coordinate(tapRow) < rank || coordinate(form.height) >= rank ||
      int64_t(spec.resultStrides.size()) <= int64_t(form.width))
    return refuse("results in another order than the sums");
  form.pixels[0] = coordinate(form.height);
  form.pixels[1] = coordinate(form.width);
  form.taps[0] = coordinate(tapRow) - rank;
  form.taps[1] = coordinate(tapColumn) - rank;
  return form;
}

//===----------------------------------------------------------------------===//
// When it pays
//===----------------------------------------------------------------------===//

/// Seconds of one core; direct sums with tile 0.
static double estimate(const WinogradForm &form, int64_t tile,
                       const TargetDesc &target) {
  // A host that is not known by name has the figures of a plainer one: two
  // multiply-adds a cycle of the vectors that it has are usual.
  double flops = std::max(target.f32FlopsPerCycle, 4.0 * target.lanes(4)),
         peak = flops * target.ghz * 1e9;
  double pairs = double(form.channels) * double(form.filters);
  if (!tile) {
    // Narrow images are summed by tiles of whole rows, which leave the products
    // with padding out.
    constexpr int64_t narrow = 14;
    bool leavesOut = form.columns <= narrow && form.spec.lhs.guarded;
    double taps = leavesOut
                      ? double(3 * form.rows - 2) * double(3 * form.columns - 2)
                      : 9 * double(form.rows) * double(form.columns);
    return 2 * taps * pairs * double(form.images) / (0.92 * peak);
  }
  int64_t tiles = form.images * llvm::divideCeil(form.rows, tile) *
                  llvm::divideCeil(form.columns, tile);
  double points = double((tile + 2) * (tile + 2));
  double products = 2 * points * double(tiles) * pairs / (0.8 * peak);
  // Filters that do not stay in the second-level cache come from the last one
  // (at about twice the memory's bandwidth) or from memory.
  double bytes = 4 * points * pairs;
  double rate = bytes * 2 <= double(target.l2Bytes)   ? 1e12
                : bytes * 2 <= double(target.l3Bytes) ? 2e9 * target.readGBs
                                                      : 1e9 * target.readGBs;
  double fetch = bytes / rate;
  // A transform takes about three operations for each of its numbers.
  double vectors =
      double(tiles) * double(form.channels + form.filters) / target.lanes(4);
  double transforms = vectors * points * 3.5 / (target.ghz * 1e9);
  return std::max(products, fetch) + 0.3 * std::min(products, fetch) +
         transforms;
}

std::optional<WinogradClaim>
dlc::chooseWinograd(graph::KernelOp kernel, const TargetDesc &target,
                    llvm::function_ref<bool(unsigned)> isConstant) {
  std::string reason;
  auto form = classifyWinograd(kernel, reason);
  if (failed(form) || !isConstant(form->spec.rhs.operand) ||
      form->spec.rhs.operand == form->spec.lhs.operand)
    return std::nullopt;
  double best = estimate(*form, 0, target) / 1.1;
  int64_t tile = 0;
  for (int64_t candidate : {4, 2})
    if (double time = estimate(*form, candidate, target); time < best)
      best = time, tile = candidate;
  if (!tile)
    return std::nullopt;
  WinogradClaim claim = WinogradClaim::get(tile);
  std::copy(form->pixels, form->pixels + 2, claim.pixels);
  std::copy(form->taps, form->taps + 2, claim.taps);
  std::copy(form->offset, form->offset + 2, claim.offset);
  return claim;
}
