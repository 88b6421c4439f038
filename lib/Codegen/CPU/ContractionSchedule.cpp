// The default schedule. The numbers behind the rules were measured: see
// docs/codegen-cpu.md.
#include "dlc/Codegen/CPU/ContractionSchedule.h"

#include "ContractionComputed.h"
#include "ContractionFactors.h"
#include "ContractionPadding.h"
#include "ContractionPairs.h"
#include "ContractionPanels.h"
#include "ContractionScaled.h"
#include "dlc/Codegen/CPU/ContractionPacking.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "llvm/Support/MathExtras.h"

#include <limits>
#include <numeric>

using namespace mlir;
using namespace dlc;

using Sizes = ContractionSizes;

std::string ContractionSchedule::str() const {
  auto name = [](FactorSource source) {
    return source == FactorSource::Memory     ? "memory"
           : source == FactorSource::Indirect ? "indirect"
           : source == FactorSource::Filled   ? "filled"
                                              : "packed";
  };
  static constexpr const char *forms[] = {
      "",           " bf16-pairs", " byte-quads",
      " i16-pairs", " bf16-tiles", " byte-tiles"};
  std::string flags = forms[int(form)];
  flags += rowsOutside ? " rows-outside" : "";
  flags += dot ? " dot" : fma ? "" : " strict";
  flags += wholeRows ? " whole-rows" : wholeSteps ? " whole-steps" : "";
  flags += widensRhs ? " widen" : "";
  flags += passesInside ? " passes-inside" : "";
  flags += scalesSums ? " scales-sums" : "";
  flags += fetchesAhead ? " ahead" : "";
  flags += pairsTail ? " pair-tail" : "";
  flags += epilogueInTiles ? " epilogue-in-tiles" : "";
  if (rowsOutsideFrom)
    flags += " rows-outside-from=" + std::to_string(rowsOutsideFrom);
  return llvm::formatv(
             "{0}x{1}v{2} lhs={3} rhs={4} block={5} unroll={6} prefetch={7} "
             "rows={8} columns={9} block-columns={10} depth={11}{12}",
             tileRows, tileVectors, lanes, name(lhs), name(rhs), kBlock, unroll,
             prefetch, rowsPerTask, columnsPerTask, columnsPerBlock,
             depthPerPass, flags)
      .str();
}

static unsigned bytesOf(Type type) {
  return std::max(1u, type.getIntOrFloatBitWidth() / 8);
}

ContractionSchedule dlc::baseSchedule(const TargetDesc &desc, Type accumulator,
                                      ProductForm form) {
  ContractionSchedule schedule;
  schedule.form = form;
  schedule.lanes = desc.lanes(bytesOf(accumulator));
  if (desc.arch == "arm") {
    // Lane-indexed multiply-adds want the rows of one k side by side.
    schedule.panelVectors = schedule.tileVectors = 3;
    schedule.tileRows = 8;
    schedule.kBlock = 1;
  } else {
    schedule.panelVectors = schedule.tileVectors = 2;
    schedule.tileRows = desc.vectorRegisters >= 32 ? 14 : 6;
    // One cache line of a row, or one vector when that is shorter.
    schedule.kBlock = schedule.lanes * schedule.group();
  }
  schedule.depthStep = schedule.group();
  // The forms in vectors read the panels that tiles read.
  if ((isBf16Form(form) && desc.bf16TileFlopsPerCycle > 0) ||
      (isByteForm(form) && desc.byteTileOpsPerCycle > 0))
    schedule.depthStep = kTileRows * schedule.group();
  if (schedule.usesTiles())
    schedule.tileRows = 2 * kTileRows;
  schedule.panelRows = schedule.tileRows;
  return schedule;
}

ContractionSpec dlc::factorsOf(const ContractionSpec &spec, ProductForm form) {
  return isBf16Form(form) || isByteForm(form) ? spec.narrowed() : spec;
}

Type dlc::panelElement(const ContractionSpec &spec, ProductForm form) {
  MLIRContext *context = spec.context();
  switch (form) {
  case ProductForm::Single:
    return ScalarEmitter::computeType(spec.accumulator);
  case ProductForm::ByteQuads:
  case ProductForm::ByteTiles:
    return IntegerType::get(context, 8);
  case ProductForm::Bf16Pairs:
  case ProductForm::Bf16Tiles:
  case ProductForm::I16Pairs:
    return IntegerType::get(context, 16);
  }
  llvm_unreachable("no such form");
}

bool dlc::isLhsUnsigned(const ContractionSpec &spec) {
  return spec.narrow->lhs.value.getType().isUnsignedInteger();
}

bool dlc::flipsRhs(const ContractionSpec &spec, ProductForm form) {
  return isByteForm(form) &&
         isLhsUnsigned(spec) ==
             spec.narrow->rhs.value.getType().isUnsignedInteger();
}

bool dlc::hasInstruction(const CpuTarget &target, ProductForm form) {
  unsigned bytes = target.desc().vectorBytes;
  if (form == ProductForm::Single)
    return true;
  if (target.desc().arch != "x86")
    return false;
  switch (form) {
  case ProductForm::Bf16Pairs:
    return bytes == 64 && target.hasFeature("avx512bf16");
  case ProductForm::ByteQuads:
    return bytes == 64 ? target.hasFeature("avx512vnni")
                       : bytes == 32 && target.hasFeature("avxvnni");
  case ProductForm::I16Pairs:
    return bytes == 64   ? target.hasFeature("avx512bw")
           : bytes == 32 ? target.hasFeature("avx2")
                         : target.hasFeature("sse4.1");
  case ProductForm::Bf16Tiles:
    return target.desc().bf16TileFlopsPerCycle > 0;
  case ProductForm::ByteTiles: // sums of rows are dot products of vectors
    return target.desc().byteTileOpsPerCycle > 0 &&
           target.hasFeature("avx512vnni");
  default:
    return true;
  }
}

bool dlc::readsGroups(const ContractionSpec &spec, ArrayRef<unsigned> inner,
                      unsigned group) {
  auto steps = graph::constantValue(spec.extentOf(inner));
  if (group == 1)
    return true;
  auto stride = spec.lhs.plain || spec.lhs.guarded
                    ? spec.strideOf(spec.lhs, inner)
                    : std::nullopt;
  return steps && *steps % group == 0 && stride && *stride == 1;
}

bool dlc::hasShortTaps(const ContractionSpec &spec, unsigned group) {
  if (group == 1)
    return !spec.hasLongRun();
  constexpr int64_t manyGroups = 32;
  auto length = graph::constantValue(spec.extentOf(spec.lhsRun()));
  return length && *length / group < manyGroups;
}

/// Registers a tile needs: accumulators, one k of rhs, one broadcast (AVX-512
/// folds it into the multiply-add).
static unsigned registersOf(unsigned rows, unsigned vectors) {
  return rows * vectors + vectors + 1;
}

/// Cycles per k of a tile, in units of one multiply-add a cycle: a tile with
/// few accumulators waits for the latency of eight of them.
static int64_t tileCost(unsigned rows, unsigned vectors) {
  return std::max(rows * vectors, 8u) * 16 + 4 * vectors + 2 * rows;
}

/// The cost of covering `rows` x `vectors` with tiles of one shape.
static int64_t coverCost(int64_t rows, int64_t vectors, unsigned tileRows,
                         unsigned tileVectors) {
  int64_t cost = 0;
  auto column = [&](unsigned wide) {
    int64_t sum = rows / tileRows * tileCost(tileRows, wide);
    if (rows % tileRows)
      sum += tileCost(rows % tileRows, wide);
    return sum;
  };
  cost += vectors / tileVectors * column(tileVectors);
  if (vectors % tileVectors)
    cost += column(vectors % tileVectors);
  return cost;
}

ContractionSizes::ContractionSizes(const ContractionSpec &spec,
                                   std::optional<SizeRange> range) {
  auto get = [&](ArrayRef<unsigned> group, std::optional<int64_t> &exact,
                 int64_t &typical, int64_t otherwise) {
    exact = graph::constantValue(spec.extentOf(group));
    typical = exact ? std::max<int64_t>(*exact, 1) : otherwise;
  };
  get(spec.rows, rows, typicalRows,
      range ? std::max<int64_t>(range->typical, 1) : 128);
  mostRows = rows    ? *rows
             : range ? range->high
                     : std::numeric_limits<int64_t>::max();
  get(spec.columns, columns, typicalColumns, 512);
  get(spec.inner, depth, typicalDepth, 512);
  get(spec.outer, outer, typicalOuter, 8);
  leastOuter = 1;
  for (unsigned axis : spec.outer)
    leastOuter *= std::max<int64_t>(
        graph::constantValue(spec.extentOf(ArrayRef(axis))).value_or(1), 1);
}

bool dlc::isConstantFactor(const ContractionSpec &spec,
                           const ContractionOperand &operand,
                           ArrayRef<unsigned> major,
                           const CpuCodegenOptions &options) {
  return operand.plain && options.isConstant(operand.operand) &&
         succeeded(makePackedLayout(spec, operand, major, 1, 1));
}

bool dlc::isStrided(const ContractionSpec &spec,
                    const ContractionOperand &operand,
                    ArrayRef<unsigned> major) {
  return operand.plain && spec.strideOf(operand, major) &&
         spec.strideOf(operand, spec.inner);
}

/// Whether both factors can be read along k.
static bool canDot(const ContractionSpec &spec) {
  if (!isStrided(spec, spec.rhs, spec.columns) ||
      !isStrided(spec, spec.lhs, spec.rows))
    return false;
  return *spec.strideOf(spec.rhs, spec.inner) == 1 &&
         *spec.strideOf(spec.lhs, spec.inner) == 1;
}

/// `padding`: of a left factor of pixels that are read by addresses, or null.
/// `wholeRows`: its tiles divide a row of so many pixels; 0: they need not.
/// Returns the cost.
static double chooseTile(ContractionSchedule &s, const Sizes &sizes,
                         const TargetDesc &desc,
                         const ImagePadding *padding = nullptr,
                         int64_t wholeRows = 0) {
  // A packed constant lhs fixes the rows of a tile: they are its layout.
  bool fixedRows = s.lhs == FactorSource::Packed;
  int64_t vectors = (sizes.typicalColumns + s.lanes - 1) / s.lanes;
  double best = std::numeric_limits<double>::infinity();
  unsigned budget = desc.vectorRegisters - (desc.arch == "arm" ? 2 : 0);
  unsigned rows = s.tileRows, wide = s.tileVectors;
  // A vector that is never there needs no registers.
  SmallVector<unsigned> widths{s.panelVectors, 2 * s.panelVectors};
  if (sizes.rows && sizes.columns && vectors == 1)
    widths = {1};
  for (unsigned v : widths)
    for (unsigned r = desc.vectorRegisters; r-- > 1;) {
      if (registersOf(r, v) > budget || (fixedRows && r != s.panelRows) ||
          wholeRows % r)
        continue;
      double cost = coverCost(sizes.typicalRows, vectors, r, v);
      if (padding)
        cost *= 1 - padding->skippedBy(r);
      if (cost < best) {
        best = cost;
        rows = r;
        wide = v;
      }
    }
  s.tileRows = rows;
  s.tileVectors = wide;
  // Rows that never come need no tile. Tiles of known rows have exact tails.
  if (!sizes.rows && !fixedRows && sizes.mostRows < rows)
    s.tileRows = std::max<int64_t>(sizes.mostRows, 1);
  return best;
}

/// Up to how many rows a product whose factors both have contiguous k is summed
/// along k: more rows read the columns so often from the second-level cache
/// that turning them once is faster.
static int64_t mostDotRows(const TargetDesc &desc, ProductForm form) {
  if (form == ProductForm::Bf16Pairs)
    return 8;
  return desc.arch == "x86" && desc.vectorRegisters >= 32 ? 16 : 4;
}

/// Rows of a tile that is summed along k: as many in each tile as leave
/// registers for two or four columns.
static void chooseDotTile(ContractionSchedule &s, const Sizes &sizes,
                          const TargetDesc &desc) {
  int64_t most = desc.vectorRegisters >= 32 ? 6 : 4;
  int64_t rows = std::max<int64_t>(sizes.mostRows, 1);
  int64_t tiles = (rows + most - 1) / most;
  s.tileRows = (rows + tiles - 1) / tiles;
}

int64_t dlc::symbolicRowsCost(const ContractionSchedule &s,
                              const ContractionSpec &spec, int64_t rows) {
  Sizes sizes(spec);
  int64_t vectors = (sizes.typicalColumns + s.lanes - 1) / s.lanes, cost = 0;
  cost += coverCost(rows / s.tileRows * s.tileRows, vectors, s.tileRows,
                    s.tileVectors);
  // The tails are powers of two.
  for (int64_t rest = rows % s.tileRows; rest > 0;) {
    int64_t tail = int64_t(1) << llvm::Log2_64(rest);
    cost += coverCost(tail, vectors, tail, s.tileVectors);
    rest -= tail;
  }
  return cost;
}

bool dlc::isUnconverted(const ContractionSpec &spec, ProductForm form) {
  // What is computed lies nowhere.
  return (spec.lhs.plain || spec.lhs.guarded) &&
         form != ProductForm::I16Pairs &&
         getStorageType(spec.lhs.element) == panelElement(spec, form);
}

/// How many steps of `distance` bytes lie in different sets of a cache whose
/// ways span `way` bytes.
static int64_t setsOfSteps(int64_t distance, int64_t way) {
  return way / std::gcd(way, distance);
}

/// Whether a tile reads lhs well where it lies: broadcasts from rows of the
/// accumulator's type, few of which share a set of the first-level cache (whose
/// ways span 4 KiB, a page, on all x86); at distances that are not known, all
/// may. Of rows that lie side by side a tile reads a line or two a step of k,
/// and the next tile reads the same ones, from the second-level cache.
static bool readsInPlace(const ContractionSpec &spec, const TargetDesc &desc,
                         const ContractionSchedule &s) {
  unsigned rows = s.tileRows;
  if (desc.arch != "x86" || !isStrided(spec, spec.lhs, spec.rows) ||
      !isUnconverted(spec, s.form) ||
      !readsGroups(spec, spec.inner, s.depthStep))
    return false;
  int64_t bytes = bytesOf(panelElement(spec, s.form));
  auto row = graph::constantValue(*spec.strideOf(spec.lhs, spec.rows));
  auto inner = graph::constantValue(*spec.strideOf(spec.lhs, spec.inner));
  auto depth = graph::constantValue(spec.extentOf(spec.inner));
  if (row && *row == 1 && inner && *inner > 1 && depth && s.group() == 1) {
    constexpr int64_t ways = 16;
    return *depth <=
           setsOfSteps(*inner * bytes, desc.l2Bytes / ways) * ways / 2;
  }
  if (!inner || *inner != 1 || (row && *row <= 0))
    return false;
  constexpr int64_t way = 4096, ways = 8;
  // Rows until a set recurs.
  int64_t period = setsOfSteps(row ? *row * bytes : way, way);
  return (rows + period - 1) / period <= ways - 2;
}

/// Whether lhs is an image whose pixels lie at a known distance: those of a
/// tile in one of its rows need one address, however short a tap is.
static bool isImageOfPixels(const ContractionSpec &spec) {
  return !spec.rows.empty() && spec.inner.size() > spec.lhsRun().size() &&
         (spec.lhs.plain || spec.lhs.guarded) &&
         !isStrided(spec, spec.lhs, spec.rows) &&
         graph::constantValue(spec.lhs.strides[spec.rows.back()]);
}

/// Whether rows of lhs can be read by an address each.
static bool canReadIndirectly(const ContractionSpec &spec,
                              const ContractionSchedule &s) {
  return isUnconverted(spec, s.form) && !s.usesTiles() &&
         readsGroups(spec, spec.lhsRun(), s.group()) &&
         (!spec.lhsRun().empty() || isImageOfPixels(spec));
}

/// The pixels of a row of the image that lhs is; 0: tiles need not end with it.
static int64_t widthOfRows(const ContractionSpec &spec) {
  if (spec.rows.size() == 1 && spec.lhs.guards.empty())
    return 0;
  return graph::constantValue(spec.space.extents[spec.rows.back()]).value_or(1);
}

/// The tile of an image that is read by addresses: short taps want it within
/// one of the image's rows.
static void chooseTileOfPixels(ContractionSchedule &s, const Sizes &sizes,
                               const ContractionSpec &spec,
                               const TargetDesc &desc,
                               const ImagePadding &padding) {
  double cost = chooseTile(s, sizes, desc, &padding);
  if (s.group() == 1 || !sizes.rows || !isImageOfPixels(spec) ||
      !hasShortTaps(spec, s.group()))
    return;
  // What the addresses of other tiles cost, of their products' time.
  constexpr double addresses = 0.25;
  ContractionSchedule within = s;
  if (chooseTile(within, sizes, desc, &padding, widthOfRows(spec)) <
      cost * (1 + addresses))
    s = within;
}

/// Reads an image of few channels where it lies, if tiles that end with its
/// rows cost less than others and a copy of it.
static void readTapsInPlace(ContractionSchedule &s, const Sizes &sizes,
                            const ContractionSpec &spec,
                            const TargetDesc &desc) {
  if (desc.arch != "x86" || !sizes.rows || !isImageOfPixels(spec) ||
      !canReadIndirectly(spec, s))
    return;
  ContractionSchedule inPlace = s;
  inPlace.lhs = FactorSource::Indirect;
  ImagePadding padding(spec);
  double cost = chooseTile(inPlace, sizes, desc, &padding, widthOfRows(spec));
  int64_t vectors = llvm::divideCeil(sizes.typicalColumns, s.lanes);
  // Four cycles a vector of the copy, in units of tileCost.
  constexpr double perVector = 128;
  double copied =
      coverCost(sizes.typicalRows, vectors, s.tileRows, s.tileVectors) +
      perVector * sizes.typicalRows / s.lanes;
  if (cost < copied)
    s = inPlace;
}

/// Loops of few turns end before the branch predictor has learnt where: the
/// ends of 16 turns a tap cost a tenth of a convolution.
static unsigned unrollFor(const ContractionSchedule &s,
                          const ContractionSpec &spec) {
  constexpr int64_t shortLoop = 160; // steps of k
  bool isWhole = s.lhs == FactorSource::Memory || s.wholeRows;
  if (s.lhs != FactorSource::Indirect && !isWhole)
    return s.unroll;
  auto steps = graph::constantValue(s.lhs == FactorSource::Indirect
                                        ? spec.extentOf(spec.lhsRun())
                                        : spec.extentOf(spec.inner));
  return steps && !s.usesTiles() && *steps <= shortLoop ? 2 * s.unroll
                                                        : s.unroll;
}

/// Whether the next columns come from behind the second-level cache, and
/// several tiles of rows pass before to fetch them.
static bool fetchesAhead(const ContractionSchedule &s, const Sizes &sizes,
                         const ContractionSpec &spec, const TargetDesc &desc,
                         int64_t bytes) {
  if (s.rhs != FactorSource::Packed || !spec.rhs.plain || s.widensRhs ||
      s.rowsOutside || s.columnsPerBlock || desc.arch != "x86")
    return false;
  auto orAll = [](int64_t some, int64_t all) {
    return some ? std::min(some, all) : all;
  };
  int64_t rows = orAll(s.rowsPerTask, sizes.typicalRows);
  int64_t columns = orAll(s.columnsPerTask, sizes.typicalColumns);
  return rows > s.tileRows && columns >= 2 * int64_t(s.tileVectors) * s.lanes &&
         columns * sizes.typicalDepth * bytes > desc.l2Bytes / 2;
}

/// Whether elements of a packed rhs have to be widened, or computed.
static bool canWidenRhs(const ContractionSpec &spec,
                        const ContractionSchedule &s) {
  if (s.rhs != FactorSource::Packed || s.form != ProductForm::Single)
    return false;
  return spec.rhs.plain ? getStorageType(spec.rhs.element) !=
                              ScalarEmitter::computeType(spec.accumulator)
                        : !spec.rhsLoads.empty();
}

/// Whether rhs is computed from constants that can be packed.
static bool isComputedFromConstants(const ContractionSpec &spec,
                                    const CpuCodegenOptions &options) {
  return !spec.rhs.plain && !spec.rhsLoads.empty() &&
         llvm::all_of(spec.rhsLoads, [&](const ContractionOperand &load) {
           return options.isConstant(load.operand) &&
                  succeeded(makePackedLayout(spec, load, spec.columns, 1, 1,
                                             spec.innerAxesOf(load)));
         });
}

/// Bytes of one element of what lies in the caches.
static int64_t cachedBytes(const ContractionSpec &spec, ProductForm form) {
  return bytesOf(panelElement(spec, form));
}

ProductForm dlc::chooseVectorForm(const ContractionSpec &spec,
                                  const CpuTarget &target,
                                  const CpuCodegenOptions &options) {
  auto has = [&](ProductForm form) { return hasInstruction(target, form); };
  if (!spec.narrow)
    return ProductForm::Single;
  if (spec.narrow->isBytes()) // exact, in any mode
    return has(ProductForm::ByteQuads)  ? ProductForm::ByteQuads
           : has(ProductForm::I16Pairs) ? ProductForm::I16Pairs
                                        : ProductForm::Single;
  // The law `flush`. Where the instruction is slower than widening and a
  // multiply-add, it is not worth it.
  bool isFast =
      target.desc().bf16FlopsPerCycle > target.desc().f32FlopsPerCycle;
  if (options.strict || !isFast || !has(ProductForm::Bf16Pairs))
    return ProductForm::Single;
  // Pairs of k of an image of few channels would be gathered element by
  // element; widened, its taps share their loads.
  ContractionSchedule widened =
      baseSchedule(target.desc(), spec.accumulator, ProductForm::Single);
  return sharesTaps(spec, widened, target) ? ProductForm::Single
                                           : ProductForm::Bf16Pairs;
}

ProductForm dlc::chooseForm(const ContractionSpec &spec,
                            const CpuTarget &target,
                            const CpuCodegenOptions &options,
                            std::optional<SizeRange> rows) {
  ProductForm form = chooseVectorForm(spec, target, options);
  auto tiles = tileFormOf(spec, target, options);
  if (!tiles)
    return form;
  ContractionSpec narrow = spec.narrowed();
  Sizes sizes(narrow, rows);
  // Variants of other numbers of rows read the same packed constant.
  if (form == ProductForm::Single && !sizes.rows &&
      hasInstruction(target, vectorForm(*tiles)) &&
      isConstantFactor(narrow, narrow.rhs, narrow.columns, options))
    form = vectorForm(*tiles);
  return tilesPay(spec, target, options, form, sizes.typicalRows) ? *tiles
                                                                  : form;
}

ContractionSchedule dlc::defaultSchedule(const ContractionSpec &wide,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::optional<SizeRange> rows) {
  return defaultSchedule(wide, target, options, rows,
                         chooseForm(wide, target, options, rows));
}

ContractionSchedule dlc::defaultSchedule(const ContractionSpec &wide,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::optional<SizeRange> rows,
                                         ProductForm form) {
  const TargetDesc &desc = target.desc();
  ContractionSpec spec = factorsOf(wide, form);
  ContractionSchedule s = baseSchedule(desc, spec.accumulator, form);
  bool isGrouped = s.group() > 1;
  Sizes sizes(spec, rows);
  s.fma = !options.strict;
  if (s.usesTiles())
    return scheduleTiles(s, spec, target, options, sizes);
  bool masks = desc.arch == "x86" && desc.vectorBytes == 64;
  int64_t panel = s.panelColumns();

  // Where the factors are read from.
  if (isConstantFactor(spec, spec.rhs, spec.columns, options) &&
      form != ProductForm::I16Pairs) {
    s.rhs = FactorSource::Packed;
  } else if (form == ProductForm::Single && desc.arch == "x86" &&
             isComputedFromConstants(spec, options)) {
    s.rhs = FactorSource::Packed;
  } else {
    auto step = isStrided(spec, spec.rhs, spec.columns)
                    ? spec.strideOf(spec.rhs, spec.columns)
                    : std::nullopt;
    bool contiguous = step && *step == 1;
    bool tails = !sizes.columns || *sizes.columns % s.lanes;
    // Copying into panels pays when each element is used by several tiles.
    // More in passes over k, but how many must be known.
    bool areFew = sizes.typicalRows <= 3 * s.tileRows ||
                  (sizes.mostRows <= 12 * s.tileRows &&
                   findResultOfSums(spec).has_value());
    bool copies = !areFew && sizes.typicalColumns > 2 * panel;
    s.rhs = contiguous && !copies && (masks || !tails) && !isGrouped
                ? FactorSource::Memory
                : FactorSource::Filled;
  }
  if (isConstantFactor(spec, spec.lhs, spec.rows, options) &&
      sizes.typicalRows >= 4 && form != ProductForm::I16Pairs) {
    s.lhs = FactorSource::Packed;
  } else {
    bool strided = isStrided(spec, spec.lhs, spec.rows);
    bool staticStride =
        strided && graph::constantValue(*spec.strideOf(spec.lhs, spec.rows));
    bool copies = sizes.typicalColumns > 4 * panel ||
                  (!staticStride && sizes.typicalColumns > panel);
    bool readable = isGrouped ? isUnconverted(spec, form) &&
                                    readsGroups(spec, spec.inner, s.depthStep)
                              : true;
    s.lhs = strided && readable && (sizes.typicalRows <= 4 || !copies)
                ? FactorSource::Memory
                : FactorSource::Filled;
  }
  if (s.rhs == FactorSource::Filled &&
      sizes.mostRows <= mostDotRows(desc, form) && !options.strict &&
      (!isGrouped || form == ProductForm::Bf16Pairs) && canDot(spec)) {
    s.dot = true;
    s.rhs = FactorSource::Memory;
    // Rows that lie side by side are one stream beside those of the columns.
    s.lhs = sizes.mostRows <= 4 ? FactorSource::Memory : FactorSource::Filled;
  }
  if (s.dot)
    chooseDotTile(s, sizes, desc);
  else
    chooseTile(s, sizes, desc);
  if (s.lhs == FactorSource::Filled && !s.dot && readsInPlace(spec, desc, s))
    s.lhs = FactorSource::Memory;
  if (s.lhs == FactorSource::Filled && !isStrided(spec, spec.lhs, spec.rows) &&
      canReadIndirectly(spec, s) && spec.hasLongRun()) {
    s.lhs = FactorSource::Indirect;
    if (!options.strict) {
      ImagePadding padding(spec);
      chooseTileOfPixels(s, sizes, spec, desc, padding);
    }
  }
  if (s.lhs == FactorSource::Filled && !options.strict)
    readTapsInPlace(s, sizes, spec, desc);
  // A block of k cuts short runs: each lane would be fetched on its own.
  chooseRuns(s, spec, target);
  if (s.lhs != FactorSource::Packed)
    s.panelRows = s.tileRows;
  // A transposed lhs is copied along its rows.
  if (s.lhs == FactorSource::Filled && spec.lhs.plain) {
    auto row = spec.strideOf(spec.lhs, spec.rows);
    auto inner = spec.strideOf(spec.lhs, spec.inner);
    if (row && *row == 1 && !(inner && *inner == 1))
      s.kBlock = s.group();
  }
  // Numbers of four bits one panel at a time, where that leaves registers for
  // sums of what shares a scale: and it is one stream of memory.
  ContractionSchedule narrow = s;
  narrow.tileVectors = s.panelVectors;
  if (sizes.mostRows <= s.tileRows && canScaleSums(spec, narrow, target))
    s.tileVectors = s.panelVectors;
  // Widening an element costs a fraction of a tile's column of products. What
  // is computed and used by one tile of rows need not lie in memory between.
  constexpr int64_t manyRows = 48;
  // (Where registers are left for it: two more of a vector, and tables.)
  constexpr unsigned others = 3;
  bool usesOnce =
      !spec.rhs.plain && sizes.mostRows <= s.tileRows &&
      registersOf(sizes.mostRows, s.tileVectors) + s.tileVectors + others <=
          desc.vectorRegisters &&
      s.lhs != FactorSource::Indirect;
  s.widensRhs = canWidenRhs(spec, s) && desc.arch == "x86" &&
                (sizes.typicalRows >= manyRows || !spec.rhs.plain) && !usesOnce;
  cutTasks(s, sizes, spec, target, cachedBytes(spec, form));
  blockForCaches(s, sizes, spec, desc, cachedBytes(spec, form));
  bool isHalved = usesOnce && llvm::any_of(spec.rhsLoads, [&](auto &load) {
                    return ComputedFactor::isHalved(spec, load);
                  });
  if (isHalved) // a word's numbers
    s.unroll = ComputedFactor::kHalvedBlock;
  else if (desc.arch == "x86")
    s.unroll = unrollFor(s, spec);
  s.fetchesAhead |= fetchesAhead(s, sizes, spec, desc, cachedBytes(spec, form));
  // Columns that come from memory and pass once: the weights' bandwidth
  // decides. About as many bytes ahead whatever they are: 2 KiB of a panel.
  int64_t weightBytes = spec.rhs.plain ? bytesOf(spec.rhs.element) : 1;
  if (s.rhs != FactorSource::Filled && !s.dot && !s.columnsPerBlock &&
      !s.fetchesAhead &&
      sizes.typicalColumns * sizes.typicalDepth * weightBytes > desc.l2Bytes)
    s.prefetch = std::max<int64_t>(64 / (weightBytes * s.group()), 1);
  // What is computed from them takes so long that they come in time from twice
  // as far.
  if (s.prefetch && ComputedFactor::isInTiles(spec, s))
    s.prefetch *= isHalved ? 8 : 2;
  s.scalesSums = canScaleSums(spec, s, target);
  s.epilogueInTiles = !s.dot && isShortEpilogue(spec);
  // Of many columns the last ones are no work to speak of, and equal columns
  // keep equal sums.
  constexpr int64_t mostVectors = 8;
  auto width = graph::constantValue(spec.extentOf(spec.columns));
  s.pairsTail = desc.arch == "x86" && width && *width < mostVectors * s.lanes &&
                canPairTail(spec, s);
  return s;
}

std::optional<unsigned> dlc::findResultOfSums(const ContractionSpec &spec) {
  for (auto [i, stage] : llvm::enumerate(spec.results))
    if (stage == spec.stage)
      return i;
  Type sum = ScalarEmitter::computeType(spec.accumulator);
  for (unsigned i = 0; i < spec.results.size(); ++i)
    if (getStorageType(spec.resultElement(i)) == sum)
      return i;
  return std::nullopt;
}

int64_t dlc::indirectPassUnit(const ContractionSpec &spec) {
  if (spec.inner.size() <= spec.lhsRun().size())
    return 0;
  return graph::constantValue(spec.extentOf(ArrayRef(spec.inner).drop_front()))
      .value_or(0);
}

bool dlc::isLegal(const ContractionSchedule &s, const ContractionSpec &wide,
                  const CpuTarget &target, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  if (s.form != ProductForm::Single) {
    if (!wide.narrow || wide.narrow->isBytes() == isBf16Form(s.form))
      return refuse("the factors are not the narrow numbers of this form");
    if (!hasInstruction(target, s.form))
      return refuse("the machine has no such dot product");
    if (isBf16Form(s.form) && !s.fma)
      return refuse("bf16 dot products round in another order");
    if (s.wholeRows || s.kBlock % s.group())
      return refuse("no groups of k in this layout");
    if (s.dot && s.form != ProductForm::Bf16Pairs)
      return refuse("vectors of k of this form are not summed");
    if (s.rhs == FactorSource::Memory && !s.dot)
      return refuse("rhs is not read in groups of k");
    if (s.form == ProductForm::I16Pairs &&
        (s.lhs != FactorSource::Filled || s.rhs != FactorSource::Filled))
      return refuse("numbers of 16 bits lie in filled panels only");
  }
  ContractionSpec spec = factorsOf(wide, s.form);
  if (s.lhs == FactorSource::Memory && s.form != ProductForm::Single &&
      !s.dot && !readsGroups(spec, spec.inner, s.depthStep))
    return refuse("rows of lhs are not whole groups of k");
  if (!s.lanes || !s.tileRows || !s.tileVectors || !s.panelVectors ||
      !s.kBlock || !s.unroll)
    return refuse("a size of the tile is zero");
  if (s.usesTiles() && !isLegalForTiles(s, spec, reason))
    return false;
  if (!s.usesTiles() && registersOf(s.tileRows, s.tileVectors) >
                            target.desc().vectorRegisters + 1)
    return refuse("the tile does not fit the vector registers");
  if (s.tileVectors % s.panelVectors && s.panelVectors % s.tileVectors)
    return refuse("tile and panel widths do not divide each other");
  if (s.lhs != FactorSource::Memory && s.panelRows != s.tileRows)
    return refuse("lhs panels must have the tile's rows");
  if (s.rhs == FactorSource::Packed && !spec.rhs.plain && !s.widensRhs &&
      (s.form != ProductForm::Single || !canWidenRhs(spec, s) ||
       s.lhs == FactorSource::Indirect || s.depthPerPass || s.fetchesAhead))
    return refuse("a computed rhs has no packed form of its own");
  if (s.widensRhs &&
      (!canWidenRhs(spec, s) || s.rowsOutside || s.rowsOutsideFrom))
    return refuse("rhs is not widened by columns");
  if (s.passesInside && !s.widensRhs)
    return refuse("only what is widened has its passes inside");
  if (s.scalesSums && !canScaleSums(spec, s, target))
    return refuse("no scale is outside of the sums");
  if (s.pairsTail && !canPairTail(spec, s))
    return refuse("the last columns do not have two steps of k at once");
  if (s.epilogueInTiles && (s.dot || s.usesTiles() || !isShortEpilogue(spec)))
    return refuse("what comes after the sum is not computed in registers");
  int64_t step = s.columnStep();
  if (s.columnsPerTask % step || s.columnsPerBlock % step)
    return refuse(
        "a task's or a block's columns are not whole tiles and panels");
  if (s.rowsPerTask % s.tileRows)
    return refuse("a task's rows are not whole tiles");
  if (s.lhs == FactorSource::Indirect && (s.dot || !canReadIndirectly(spec, s)))
    return refuse("lhs has no rows to be read by an address each");
  if (s.rhs == FactorSource::Indirect)
    return refuse("rhs is not read by addresses");
  if (s.wholeRows &&
      (s.lhs != FactorSource::Filled || spec.lhsGuardedRun().empty()))
    return refuse("lhs is not copied in runs of k");
  if (s.wholeSteps && (s.lhs != FactorSource::Filled || s.kBlock != s.group() ||
                       !(s.group() > 1 ? fillsGroupSteps(spec, s)
                                       : rowTaps(spec, s, target).has_value())))
    return refuse("lhs has no taps that share their loads");
  if (s.lhs == FactorSource::Indirect && s.depthPerPass &&
      (!indirectPassUnit(spec) || s.depthPerPass % indirectPassUnit(spec)))
    return refuse("a pass is not whole taps of the first inner axis");
  if (s.depthPerPass &&
      (s.dot || (s.lhs != FactorSource::Indirect && s.depthPerPass % s.kBlock)))
    return refuse("a pass is not whole blocks of k");
  auto strided = [&](const ContractionOperand &operand,
                     ArrayRef<unsigned> major) {
    return isStrided(spec, operand, major);
  };
  if (s.lhs == FactorSource::Memory && !strided(spec.lhs, spec.rows))
    return refuse("lhs has no strides to be read by");
  bool hasVectors = s.lhs == FactorSource::Memory ||
                    (s.lhs == FactorSource::Filled && !s.wholeRows &&
                     !s.wholeSteps && s.kBlock == s.lanes * s.group());
  if (s.dot &&
      (!hasVectors || s.rhs != FactorSource::Memory || !canDot(spec) || !s.fma))
    return refuse("the factors cannot be summed along k");
  if (s.rhs == FactorSource::Memory && !s.dot &&
      (!strided(spec.rhs, spec.columns) ||
       *spec.strideOf(spec.rhs, spec.columns) != 1))
    return refuse("rhs is not contiguous along the columns");
  return true;
}
