// Which product or convolution of the library a kernel is, and its pieces.
#include "dlc/Codegen/CPU/LibraryNest.h"

#include "dlc/Codegen/CPU/ContractionSchedule.h"

#include <cstring>

using namespace mlir;
using namespace dlc;

using Piece = LibraryPlan::Piece;

static constexpr int64_t kMostPieces = 4096;

namespace {
/// One attempt to say a contraction in the library's words.
class Planner {
public:
  Planner(const ContractionSpec &spec, int64_t pieces, std::string &reason)
      : spec(spec), wanted(std::max<int64_t>(pieces, 1)), reason(reason) {}

  FailureOr<LibraryPlan> planMatmul();
  FailureOr<LibraryPlan> planConv(const CpuCodegenOptions &options);

private:
  LogicalResult refuse(const Twine &why) {
    reason = why.str();
    return failure();
  }
  bool isWide(unsigned axis) const { return extent(axis) > 1; }
  int64_t extent(unsigned axis) const {
    return graph::constantValue(spec.space.extents[axis]).value_or(-1);
  }
  int64_t extentOf(ArrayRef<unsigned> group) const {
    int64_t size = 1;
    for (unsigned axis : group)
      size *= extent(axis);
    return size;
  }
  std::optional<int64_t> number(std::optional<AffineExpr> expr) const {
    return expr ? graph::constantValue(*expr) : std::nullopt;
  }
  /// The stride of an axis that may be of one element.
  int64_t strideAt(const ContractionOperand &operand, unsigned axis) const {
    return graph::constantValue(operand.strides[axis]).value_or(0);
  }
  LogicalResult setTypes(LibraryPlan &plan, dlc_external_problem &problem,
                         const ContractionOperand &src,
                         const ContractionOperand &weights);
  int64_t offsetAt(const ContractionOperand &operand, int64_t outer) const;
  int64_t resultAt(int64_t outer) const;
  void addPiece(LibraryPlan &plan, const dlc_external_problem &problem,
                Piece piece);

  // A convolution.
  struct Spatial {
    std::optional<unsigned> out, tap; ///< axes
    int64_t size = 1, outSize = 1, taps = 1, stride = 1, dilation = 1, pad = 0;
    int64_t step = 1; ///< of the image, in elements
  };
  struct Image {
    const ContractionOperand &operand, &weights;
    bool isLhs;
    graph::LoadOp load;
    SmallVector<int64_t> sizes, steps; ///< of its four axes
  };
  FailureOr<LibraryPlan> planImages(LibraryPlan plan,
                                    dlc_external_problem problem,
                                    const Image &of, unsigned channel);
  LogicalResult findSpatial(graph::LoadOp load, unsigned dim, Spatial &into);
  LogicalResult checkGuards(const ContractionOperand &image, graph::LoadOp load,
                            ArrayRef<unsigned> dims);
  LogicalResult placePieces(LibraryPlan &plan, bool imageIsLhs,
                            std::optional<unsigned> batch,
                            ArrayRef<Spatial> spatial);

  const ContractionSpec &spec;
  int64_t wanted;
  std::string &reason;
};
} // namespace

//===----------------------------------------------------------------------===//
// What both have in common
//===----------------------------------------------------------------------===//

LogicalResult Planner::setTypes(LibraryPlan &plan,
                                dlc_external_problem &problem,
                                const ContractionOperand &src,
                                const ContractionOperand &weights) {
  for (const ContractionOperand *operand : {&src, &weights}) {
    bool isBf16 = operand->element && operand->element.isBF16();
    if (!operand->element || !(isBf16 || operand->element.isF32()))
      return refuse("a factor is neither of f32 nor of bf16");
    if (src.element != weights.element)
      return refuse("the factors are of two types");
    (operand == &src ? problem.src : problem.weights).type =
        isBf16 ? DLC_EXTERNAL_BF16 : DLC_EXTERNAL_F32;
    if (!graph::constantValue(operand->base))
      return refuse("a factor begins at a symbolic place");
  }
  problem.dst.type = DLC_EXTERNAL_F32;
  plan.src = src.operand;
  plan.weights = weights.operand;
  return success();
}

/// Where `operand` begins at the `outer`-th outer point.
int64_t Planner::offsetAt(const ContractionOperand &operand,
                          int64_t outer) const {
  int64_t offset = *graph::constantValue(operand.base);
  for (unsigned axis : llvm::reverse(spec.outer)) {
    offset += outer % extent(axis) * strideAt(operand, axis);
    outer /= extent(axis);
  }
  return offset;
}

int64_t Planner::resultAt(int64_t outer) const {
  int64_t offset = 0;
  for (unsigned axis : llvm::reverse(spec.outer)) {
    offset += outer % extent(axis) *
              graph::constantValue(spec.resultStrides[axis]).value_or(0);
    outer /= extent(axis);
  }
  return offset;
}

void Planner::addPiece(LibraryPlan &plan, const dlc_external_problem &problem,
                       Piece piece) {
  auto same = [&](const dlc_external_problem &other) {
    return std::memcmp(&other, &problem, sizeof problem) == 0;
  };
  auto known = llvm::find_if(plan.problems, same);
  piece.problem = known - plan.problems.begin();
  if (known == plan.problems.end())
    plan.problems.push_back(problem);
  plan.pieces.push_back(piece);
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

FailureOr<LibraryPlan> Planner::planMatmul() {
  bool isNarrow = spec.narrow && !spec.narrow->isBytes();
  const ContractionOperand &lhs = isNarrow ? spec.narrow->lhs : spec.lhs,
                           &rhs = isNarrow ? spec.narrow->rhs : spec.rhs;
  if (!lhs.plain || !rhs.plain)
    return refuse("a factor is computed, or read under a condition");
  LibraryPlan plan;
  dlc_external_problem problem{};
  problem.kind = DLC_EXTERNAL_MATMUL;
  if (failed(setTypes(plan, problem, lhs, rhs)))
    return failure();
  int64_t rows = extentOf(spec.rows), columns = extentOf(spec.columns),
          depth = extentOf(spec.inner), outer = extentOf(spec.outer);
  auto strideOf = [&](const ContractionOperand &operand,
                      ArrayRef<unsigned> group) {
    return number(spec.strideOf(operand, group));
  };
  auto lhsRow = strideOf(lhs, spec.rows), lhsInner = strideOf(lhs, spec.inner),
       rhsInner = strideOf(rhs, spec.inner),
       rhsColumn = strideOf(rhs, spec.columns);
  if (!lhsRow || !lhsInner || !rhsInner || !rhsColumn)
    return refuse("a factor is no matrix in memory");
  int64_t resultRow =
      spec.rows.empty()
          ? columns
          : graph::constantValue(spec.resultStrides[spec.rows.back()])
                .value_or(0);
  // An axis of one element has no stride: any will do.
  auto setMatrix = [&](dlc_external_tensor &matrix, int64_t m, int64_t n,
                       int64_t down, int64_t across) {
    matrix.rank = 2;
    matrix.dims[0] = m;
    matrix.dims[1] = n;
    matrix.strides[0] = m == 1 ? n * std::max<int64_t>(across, 1) : down;
    matrix.strides[1] = n == 1 ? (down == 1 ? m : 1) : across;
    // One contiguous axis, and no element twice.
    return (matrix.strides[1] == 1 && (m == 1 || matrix.strides[0] >= n)) ||
           (matrix.strides[0] == 1 && matrix.strides[1] >= m);
  };
  if (!setMatrix(problem.src, rows, depth, *lhsRow, *lhsInner) ||
      !setMatrix(problem.weights, depth, columns, *rhsInner, *rhsColumn) ||
      !setMatrix(problem.dst, rows, columns, resultRow, 1))
    return refuse("neither axis of a factor is contiguous");

  // Whole vectors of columns, and rows as a register tile has them.
  int64_t share = std::max<int64_t>((wanted + outer - 1) / outer, 1);
  bool cutsRows = rows >= columns || rows >= 16 * share;
  int64_t extent = cutsRows ? rows : columns, unit = cutsRows ? 1 : 64;
  int64_t size = (extent + share - 1) / share;
  size = (size + unit - 1) / unit * unit;
  if (outer * ((extent + size - 1) / size) > kMostPieces)
    return refuse("it has too many outer points");
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t first = 0; first < extent; first += size) {
      int64_t count = std::min(size, extent - first);
      dlc_external_problem part = problem;
      Piece piece{
          0, offsetAt(lhs, o), offsetAt(rhs, o), resultAt(o), o, 0, rows,
          0, columns};
      if (cutsRows) {
        piece.src += first * *lhsRow;
        piece.dst += first * resultRow;
        piece.firstRow = first;
        piece.rows = count;
        part.src.dims[0] = part.dst.dims[0] = count;
      } else {
        piece.weights += first * *rhsColumn;
        piece.dst += first;
        piece.firstColumn = first;
        piece.columns = count;
        part.weights.dims[1] = part.dst.dims[1] = count;
      }
      addPiece(plan, part, piece);
    }
  return plan;
}

//===----------------------------------------------------------------------===//
// Convolutions
//===----------------------------------------------------------------------===//

/// The memory access that a factor is.
static graph::LoadOp findLoad(Value value) {
  value = throughStages(value);
  if (auto cast = value.getDefiningOp<graph::CastOp>())
    value = throughStages(cast.getValue());
  return value.getDefiningOp<graph::LoadOp>();
}

LogicalResult Planner::findSpatial(graph::LoadOp load, unsigned dim,
                                   Spatial &into) {
  auto index =
      spec.space.toAxes(load.getMap().getResult(dim), load.getCoords());
  if (failed(index))
    return refuse("an index comes from data");
  MLIRContext *context = spec.context();
  for (unsigned axis = 0; axis < spec.space.extents.size(); ++axis) {
    auto coefficient = number(linearCoefficient(*index, axis));
    if (!coefficient)
      return refuse("an index is not linear");
    if (*coefficient == 0 || !isWide(axis))
      continue;
    bool isTap = axis >= spec.space.numDomain;
    auto &place = isTap ? into.tap : into.out;
    if (place || *coefficient < 0)
      return refuse("two axes of a kind move along one of the image");
    place = axis;
    (isTap ? into.dilation : into.stride) = *coefficient;
    (isTap ? into.taps : into.outSize) = extent(axis);
  }
  SmallVector<AffineExpr> zeros(spec.space.extents.size(),
                                getAffineConstantExpr(0, context));
  auto constant =
      graph::constantValue(graph::simplify(index->replaceDims(zeros)));
  if (!constant)
    return refuse("an index is symbolic");
  into.pad = -*constant;
  return success();
}

/// Elements outside of the image are zero, and nothing else is.
LogicalResult Planner::checkGuards(const ContractionOperand &image,
                                   graph::LoadOp load,
                                   ArrayRef<unsigned> dims) {
  auto type = cast<RankedTensorType>(load.getTensor().getType());
  for (auto &[isZero, guard] : image.guards) {
    bool isBound = false;
    for (unsigned dim : dims) {
      auto index =
          spec.space.toAxes(load.getMap().getResult(dim), load.getCoords());
      auto size = number(graph::getDims(type)[dim]);
      if (failed(index) || !size)
        return refuse("an index comes from data");
      auto isSame = [&](AffineExpr bound) {
        return graph::constantValue(graph::simplify(guard - bound)) == 0;
      };
      isBound |= isSame(*index) || isSame(*size - 1 - *index);
    }
    if (isZero || !isBound)
      return refuse("a condition is none of the image's borders");
  }
  return success();
}

/// Lines of the output, an image at a time.
LogicalResult Planner::placePieces(LibraryPlan &plan, bool imageIsLhs,
                                   std::optional<unsigned> batch,
                                   ArrayRef<Spatial> spatial) {
  dlc_external_problem problem = plan.problems.front();
  plan.problems.clear();
  const Spatial &line = spatial[0];
  int64_t images = batch ? extent(*batch) : 1, lines = line.outSize,
          width = spatial[1].outSize;
  const ContractionOperand &image = imageIsLhs ? spec.lhs : spec.rhs,
                           &weights = imageIsLhs ? spec.rhs : spec.lhs;
  // The image's axes are rows or columns, row-major, its number perhaps outer.
  SmallVector<unsigned> expected;
  bool isOuter = batch && llvm::is_contained(spec.outer, *batch);
  if (batch && !isOuter)
    expected.push_back(*batch);
  for (const Spatial &s : spatial)
    if (s.out)
      expected.push_back(*s.out);
  if ((imageIsLhs ? spec.rows : spec.columns) != expected ||
      spec.outer.size() != size_t(isOuter))
    return refuse("the result's axes lie in another order");
  int64_t other = extentOf(imageIsLhs ? spec.columns : spec.rows);
  int64_t share = (wanted + images - 1) / images;
  int64_t size = (lines + share - 1) / share;
  if (images * ((lines + size - 1) / size) > kMostPieces)
    return refuse("it has too many images");
  int64_t lineStride =
      line.out ? graph::constantValue(spec.resultStrides[*line.out]).value_or(0)
               : 0;
  for (int64_t n = 0; n < images; ++n)
    for (int64_t first = 0; first < lines; first += size) {
      int64_t count = std::min(size, lines - first);
      // The image's lines that these are computed from.
      int64_t from = first * line.stride - line.pad,
              to = (first + count - 1) * line.stride - line.pad +
                   (line.taps - 1) * line.dilation + 1;
      int64_t begin = std::max<int64_t>(from, 0), end = std::min(to, line.size);
      if (begin >= end)
        return refuse("some lines see nothing of the image");
      dlc_external_problem part = problem;
      part.src.dims[2] = end - begin;
      part.dst.dims[2] = count;
      // One image: what lies behind it does not matter.
      for (dlc_external_tensor *tensor : {&part.src, &part.dst})
        tensor->strides[0] =
            tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
      part.pad_before[0] = begin - from;
      part.pad_after[0] = to - end;
      Piece piece;
      int64_t base = *graph::constantValue(image.base) + line.pad * line.step +
                     spatial[1].pad * spatial[1].step;
      piece.src =
          base + begin * line.step + (batch ? n * strideAt(image, *batch) : 0);
      piece.weights = *graph::constantValue(weights.base);
      piece.dst = first * lineStride +
                  (batch ? n * graph::constantValue(spec.resultStrides[*batch])
                                   .value_or(0)
                         : 0);
      piece.outer = isOuter ? n : 0;
      int64_t pixel = ((isOuter ? 0 : n) * lines + first) * width;
      piece.firstRow = imageIsLhs ? pixel : 0;
      piece.firstColumn = imageIsLhs ? 0 : pixel;
      piece.rows = imageIsLhs ? count * width : other;
      piece.columns = imageIsLhs ? other : count * width;
      addPiece(plan, part, piece);
    }
  return success();
}

/// With channels at this axis of the image.
FailureOr<LibraryPlan> Planner::planImages(LibraryPlan plan,
                                           dlc_external_problem problem,
                                           const Image &of, unsigned channel) {
  auto &[image, weights, imageIsLhs, load, sizes, steps] = of;
  SmallVector<unsigned> dims =
      channel == 1 ? SmallVector<unsigned>{2, 3} : SmallVector<unsigned>{1, 2};
  Spatial number, channels;
  SmallVector<Spatial> spatial(2);
  if (failed(findSpatial(load, 0, number)) ||
      failed(findSpatial(load, channel, channels)) ||
      failed(findSpatial(load, dims[0], spatial[0])) ||
      failed(findSpatial(load, dims[1], spatial[1])))
    return failure();
  // The axes of the sum, each once.
  SmallVector<unsigned> taps;
  for (const Spatial *s : {&channels, &spatial[0], &spatial[1]})
    if (s->tap)
      taps.push_back(*s->tap);
  SmallVector<unsigned> inner = spec.inner;
  llvm::sort(inner);
  llvm::sort(taps);
  if (number.tap || number.pad || number.stride != 1 || channels.out ||
      channels.pad || channels.dilation != 1 || inner != taps)
    return refuse("it is no convolution of all the image's channels");
  // What the weights move along besides: the filters.
  std::optional<unsigned> filter;
  bool isGrouped = false;
  for (unsigned axis = 0; axis < spec.space.numDomain; ++axis)
    if (isWide(axis) && strideAt(weights, axis) != 0) {
      isGrouped |= filter.has_value() || strideAt(image, axis) != 0;
      filter = axis;
    }
  if (isGrouped)
    return refuse("it has groups");
  if (failed(checkGuards(image, load, dims)))
    return failure();
  int64_t filters = filter ? extent(*filter) : 1;
  auto resultStride = [&](std::optional<unsigned> axis) -> int64_t {
    return axis ? graph::constantValue(spec.resultStrides[*axis]).value_or(0)
                : 1;
  };
  auto weightStride = [&](std::optional<unsigned> axis) -> int64_t {
    return axis ? strideAt(weights, *axis) : 1;
  };
  auto set = [](dlc_external_tensor &tensor, ArrayRef<int64_t> dims,
                ArrayRef<int64_t> strides) {
    tensor.rank = 4;
    llvm::copy(dims, tensor.dims);
    llvm::copy(strides, tensor.strides);
  };
  set(problem.src, {1, sizes[channel], sizes[dims[0]], sizes[dims[1]]},
      {steps[0], steps[channel], steps[dims[0]], steps[dims[1]]});
  if (channels.taps != sizes[channel])
    return refuse("it has groups");
  set(problem.weights,
      {filters, sizes[channel], spatial[0].taps, spatial[1].taps},
      {weightStride(filter), weightStride(channels.tap),
       weightStride(spatial[0].tap), weightStride(spatial[1].tap)});
  int64_t pixels = spatial[0].outSize * spatial[1].outSize;
  set(problem.dst, {1, filters, spatial[0].outSize, spatial[1].outSize},
      {pixels * filters, resultStride(filter), resultStride(spatial[0].out),
       resultStride(spatial[1].out)});
  for (int i = 0; i < 2; ++i) {
    Spatial &s = spatial[i];
    s.size = sizes[dims[i]];
    s.step = steps[dims[i]];
    problem.stride[i] = s.stride;
    problem.dilation[i] = s.dilation;
    problem.pad_before[i] = s.pad;
    problem.pad_after[i] = (s.outSize - 1) * s.stride +
                           (s.taps - 1) * s.dilation + 1 - s.pad - s.size;
  }
  // Columns that no tap meets: the library takes none of them either.
  if (problem.pad_after[1] < 0 && -problem.pad_after[1] < spatial[1].stride)
    problem.pad_after[1] = 0;
  if (problem.pad_before[0] < 0 || problem.pad_before[1] < 0 ||
      problem.pad_after[1] < 0)
    return refuse("it leaves out a border of the image");
  bool isPadded = problem.pad_before[0] || problem.pad_before[1] ||
                  problem.pad_after[0] > 0 || problem.pad_after[1] > 0;
  if (isPadded && !image.guarded)
    return refuse("it reads behind the image");
  plan.problems.push_back(problem);
  plan.constantWeights = true;
  if (failed(placePieces(plan, imageIsLhs, number.out, spatial)))
    return failure();
  return plan;
}

FailureOr<LibraryPlan> Planner::planConv(const CpuCodegenOptions &options) {
  // The image is the factor that moves along more than one axis of rows or
  // columns; the weights do not.
  for (bool imageIsLhs : {true, false}) {
    const ContractionOperand &image = imageIsLhs ? spec.lhs : spec.rhs,
                             &weights = imageIsLhs ? spec.rhs : spec.lhs;
    if (!(image.plain || image.guarded) || !weights.plain) {
      reason = "a factor is computed";
      continue;
    }
    LibraryPlan plan;
    dlc_external_problem problem{};
    problem.kind = DLC_EXTERNAL_CONV;
    if (failed(setTypes(plan, problem, image, weights)))
      return failure();
    graph::LoadOp load = findLoad(image.value);
    if (!load || load.getMap().getNumResults() != 4) {
      reason = "it is no convolution of two axes";
      continue;
    }
    if (!options.isConstant(weights.operand)) {
      reason = "the weights are no constant";
      continue;
    }
    auto type = cast<RankedTensorType>(load.getTensor().getType());
    SmallVector<int64_t> steps(4, 1), sizes(4);
    for (int i = 3; i >= 0; --i) {
      auto size = number(graph::getDims(type)[i]);
      if (!size)
        return refuse("the image's sizes are symbolic");
      sizes[i] = *size;
      if (i > 0)
        steps[i - 1] = steps[i] * sizes[i];
    }
    Image of{image, weights, imageIsLhs, load, sizes, steps};
    for (unsigned channel : {1u, 3u})
      if (auto made = planImages(plan, problem, of, channel); succeeded(made))
        return made;
  }
  return failure();
}

//===----------------------------------------------------------------------===//

FailureOr<LibraryPlan> dlc::planLibrary(const ContractionSpec &spec,
                                        const CpuCodegenOptions &options,
                                        int64_t pieces, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return failure();
  };
  if (options.strict)
    return refuse("sums keep their order");
  for (AffineExpr extent : spec.space.extents)
    if (auto size = graph::constantValue(extent); !size || *size < 1)
      return refuse("its sizes are symbolic or zero");
  if (!spec.accumulator.isF32())
    return refuse("sums are not of f32");
  auto result = findResultOfSums(spec);
  if (!result || !(spec.results[*result] == spec.stage ||
                   spec.resultElement(*result).isF32()))
    return refuse("no result can hold the sums");
  Planner planner(spec, pieces, reason);
  auto plan = planner.planMatmul();
  if (failed(plan)) {
    std::string first = reason;
    plan = planner.planConv(options);
    if (failed(plan)) {
      reason = first + "; as a convolution: " + reason;
      return failure();
    }
  } else {
    plan->constantWeights = options.isConstant(plan->weights);
  }
  plan->result = *result;
  return plan;
}

std::vector<KnobValues> dlc::libraryCandidates(const ContractionSpec &spec,
                                               const CpuTarget &target,
                                               const CpuCodegenOptions &options,
                                               unsigned threads,
                                               std::string &reason) {
  std::vector<KnobValues> found;
  auto whole = planLibrary(spec, options, threads, reason);
  if (failed(whole))
    return found;
  found.push_back({{"pieces", threads}});
  // With an epilogue: pieces whose sums stay in the second-level cache, and in
  // half of it.
  const LibraryPlan::Piece &piece = whole->pieces.front();
  int64_t bytes = piece.rows * piece.columns * 4,
          l2 = std::max<int64_t>(target.desc().l2Bytes, 1);
  size_t last = whole->pieces.size();
  for (int64_t part : {l2 / 2, l2 / 8}) {
    if (!spec.hasEpilogue() || bytes <= part)
      continue;
    int64_t pieces = (bytes + part - 1) / part * threads;
    auto plan = planLibrary(spec, options, pieces, reason);
    if (failed(plan) || plan->pieces.size() <= last)
      continue;
    last = plan->pieces.size();
    found.push_back({{"pieces", pieces}});
  }
  return found;
}
