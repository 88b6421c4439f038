// The default schedule. The numbers behind the rules were measured: see
// docs/codegen-cpu.md.
#include "dlc/Codegen/CPU/ContractionSchedule.h"

#include "dlc/Codegen/CPU/ContractionPacking.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "llvm/Support/MathExtras.h"

#include <limits>
#include <numeric>

using namespace mlir;
using namespace dlc;

std::string ContractionSchedule::str() const {
  auto name = [](FactorSource source) {
    return source == FactorSource::Memory     ? "memory"
           : source == FactorSource::Indirect ? "indirect"
           : source == FactorSource::Filled   ? "filled"
                                              : "packed";
  };
  std::string flags = rowsOutside ? " rows-outside" : "";
  flags += dot ? " dot" : fma ? "" : " strict";
  flags += wholeRows ? " whole-rows" : "";
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

ContractionSchedule dlc::baseSchedule(const TargetDesc &desc,
                                      Type accumulator) {
  ContractionSchedule schedule;
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
    schedule.kBlock = schedule.lanes;
  }
  schedule.panelRows = schedule.tileRows;
  return schedule;
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

namespace {

/// Sizes that decide; a symbolic one counts as a typical value.
struct Sizes {
  std::optional<int64_t> rows, columns, depth, outer;
  int64_t typicalRows, typicalColumns, typicalDepth, typicalOuter;
  int64_t mostRows;

  explicit Sizes(const ContractionSpec &spec,
                 std::optional<SizeRange> range = std::nullopt) {
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
  }
};

} // namespace

static bool isConstantFactor(const ContractionSpec &spec,
                             const ContractionOperand &operand,
                             ArrayRef<unsigned> major,
                             const CpuCodegenOptions &options) {
  return operand.plain && options.isConstant(operand.operand) &&
         succeeded(makePackedLayout(spec, operand, major, 1, 1));
}

/// Whether `operand` can be read where it lies.
static bool isStrided(const ContractionSpec &spec,
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

static void chooseTile(ContractionSchedule &s, const Sizes &sizes,
                       const TargetDesc &desc) {
  // A packed constant lhs fixes the rows of a tile: they are its layout.
  bool fixedRows = s.lhs == FactorSource::Packed;
  int64_t vectors = (sizes.typicalColumns + s.lanes - 1) / s.lanes;
  int64_t best = INT64_MAX;
  unsigned budget = desc.vectorRegisters - (desc.arch == "arm" ? 2 : 0);
  unsigned rows = s.tileRows, wide = s.tileVectors;
  for (unsigned v : {s.panelVectors, 2 * s.panelVectors})
    for (unsigned r = desc.vectorRegisters; r-- > 1;) {
      if (registersOf(r, v) > budget || (fixedRows && r != s.panelRows))
        continue;
      int64_t cost = coverCost(sizes.typicalRows, vectors, r, v);
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

/// How many columns are filled at a time, and which rows and columns a task
/// has.
static void cutIntoTasks(ContractionSchedule &s, const Sizes &sizes,
                         const CpuTarget &target, int64_t bytes) {
  const TargetDesc &desc = target.desc();
  int64_t step = int64_t(std::max(s.panelVectors, s.tileVectors)) * s.lanes;
  int64_t columnSteps = (sizes.typicalColumns + step - 1) / step;
  int64_t rowSteps = (sizes.typicalRows + s.tileRows - 1) / s.tileRows;
  int64_t columnBytes = sizes.typicalDepth * bytes;
  int64_t lhsBytes = sizes.typicalRows * columnBytes;
  bool fillsRhs = s.rhs == FactorSource::Filled;
  // What is filled at a time stays in the second-level cache, beside the rows
  // that pass, but each block streams all of lhs again: not too few columns.
  if (fillsRhs) {
    int64_t steps =
        std::min(desc.l2Bytes / 4 / columnBytes, int64_t(512)) / step;
    steps = std::max<int64_t>(
        steps, lhsBytes > desc.l2Bytes ? (64 + step - 1) / step : 1);
    if (!sizes.columns || steps * step < *sizes.columns)
      s.columnsPerBlock = steps * step;
  }

  unsigned threads = target.threads() ? target.threads() : desc.cores;
  double work = 2.0 * sizes.typicalRows * sizes.typicalColumns *
                sizes.typicalDepth * sizes.typicalOuter;
  int64_t wanted =
      threads <= 1 ? 1
                   : std::clamp<int64_t>(int64_t(work / 2e6), 1, 4 * threads);
  wanted = std::max<int64_t>(1, wanted / sizes.typicalOuter);
  int64_t columnTasks, rowTasks;
  if (fillsRhs && sizes.typicalRows > sizes.typicalColumns) {
    // Every task along the rows fills the same columns again, so only as many
    // as there are threads; but each reads its rows of lhs alone.
    rowTasks = std::min<int64_t>({wanted, threads, rowSteps});
    columnTasks = 1;
  } else {
    columnTasks = std::clamp<int64_t>(wanted, 1, columnSteps);
    int64_t left = fillsRhs ? std::min<int64_t>(wanted, threads) : wanted;
    rowTasks = std::clamp<int64_t>(left / columnTasks, 1, (rowSteps + 3) / 4);
  }
  int64_t columnsOfTask = (columnSteps + columnTasks - 1) / columnTasks;
  int64_t rowsOfTask = (rowSteps + rowTasks - 1) / rowTasks;
  // A left factor that is filled is streamed from there: it may be large. But
  // beside a small right factor the copy need not leave the nearest caches.
  if (s.lhs == FactorSource::Filled) {
    bool smallRhs = s.rhs == FactorSource::Packed &&
                    sizes.typicalColumns * columnBytes <= desc.l2Bytes / 2;
    int64_t room = smallRhs ? desc.l2Bytes / 8 : 8 << 20;
    rowsOfTask = std::min(
        rowsOfTask, std::max<int64_t>(1, room / columnBytes / s.tileRows));
  }
  s.columnsPerTask =
      sizes.columns && columnsOfTask >= columnSteps ? 0 : columnsOfTask * step;
  // More rows than the typical ones may come. Reading the columns' factor again
  // for a few of them costs more than it shares, filling it again more yet.
  constexpr int64_t fewRows = 64;
  bool allRows = rowsOfTask * s.tileRows >= sizes.mostRows ||
                 (rowTasks == 1 && !sizes.rows &&
                  (s.rhs != FactorSource::Memory || sizes.mostRows <= fewRows));
  s.rowsPerTask = allRows ? 0 : rowsOfTask * s.tileRows;
  if (s.columnsPerTask && s.columnsPerTask <= s.columnsPerBlock)
    s.columnsPerBlock = 0;

  // What is too large for the caches should be streamed once.
  int64_t columns =
      s.columnsPerBlock ? s.columnsPerBlock : columnsOfTask * step;
  int64_t rhsBytes = std::min(columns, sizes.typicalColumns) * columnBytes;
  int64_t taskLhs =
      std::min(rowsOfTask * s.tileRows, sizes.typicalRows) * columnBytes;
  s.rowsOutside = taskLhs > desc.l3Bytes / 8 && taskLhs > 2 * rhsBytes;
}

/// Whether elements of lhs are numbers of the accumulator's type as they lie.
static bool isUnconverted(const ContractionSpec &spec) {
  return getStorageType(spec.lhs.element) ==
         ScalarEmitter::computeType(spec.accumulator);
}

/// Whether a tile reads lhs well where it lies: broadcasts from rows at
/// constant distances, of the accumulator's type, few of which share a set of
/// the first-level cache (whose ways span 4 KiB, a page, on all x86).
static bool readsInPlace(const ContractionSpec &spec, const TargetDesc &desc,
                         unsigned rows) {
  if (desc.arch != "x86" || !isStrided(spec, spec.lhs, spec.rows) ||
      !isUnconverted(spec))
    return false;
  auto row = graph::constantValue(*spec.strideOf(spec.lhs, spec.rows));
  auto inner = graph::constantValue(*spec.strideOf(spec.lhs, spec.inner));
  if (!row || !inner || *inner != 1 || *row <= 0)
    return false;
  constexpr int64_t way = 4096, ways = 8;
  int64_t distance = *row * bytesOf(spec.accumulator);
  int64_t period = way / std::gcd(way, distance); // rows until a set recurs
  return (rows + period - 1) / period <= ways - 2;
}

/// Whether rows of lhs can be read by an address each.
static bool canReadIndirectly(const ContractionSpec &spec) {
  return !spec.lhsRun().empty() && isUnconverted(spec);
}

/// What is used again should lie in the second-level cache meanwhile: lhs, when
/// it fits, while each panel of rhs passes once; else a block of rhs, while a
/// tile's rows of lhs lie in the first-level cache.
static void blockForCaches(ContractionSchedule &s, const Sizes &sizes,
                           const ContractionSpec &spec, const TargetDesc &desc,
                           int64_t bytes) {
  constexpr int64_t veryMany = 1 << 20;
  int64_t rows =
      s.rowsPerTask ? s.rowsPerTask : std::min(sizes.mostRows, veryMany);
  if (s.dot || s.rowsOutside || rows <= s.tileRows)
    return;
  int64_t budget = desc.l2Bytes / 2, depth = sizes.typicalDepth;
  int64_t step = int64_t(std::max(s.tileVectors, s.panelVectors)) * s.lanes;
  // A panel of rhs, and a tile's rows of lhs, are used again within a pass.
  int64_t most = std::min(budget / 4 / (step * bytes),
                          desc.l1Bytes / 2 / (s.tileRows * bytes));
  if (s.rhs == FactorSource::Packed && s.lhs != FactorSource::Indirect &&
      depth > most && findResultOfSums(spec)) {
    int64_t passes = (depth + most - 1) / most;
    depth =
        ((depth + passes - 1) / passes + s.kBlock - 1) / s.kBlock * s.kBlock;
    s.depthPerPass = depth;
  }
  if (s.rhs == FactorSource::Filled) {
    s.rowsOutside = s.columnsPerBlock != 0;
    return;
  }
  if (s.rhs != FactorSource::Packed || rows * depth * bytes <= budget)
    return;
  int64_t columns = s.columnsPerTask ? s.columnsPerTask : sizes.typicalColumns;
  int64_t block = std::max<int64_t>(1, budget / (depth * bytes) / step) * step;
  if (columns > block)
    s.columnsPerBlock = block;
  // Of an unknown number of rows, those that come may fit after all.
  if (!sizes.rows && !s.rowsPerTask)
    s.rowsOutsideFrom = budget / (depth * bytes) + 1;
  else
    s.rowsOutside = true;
}

ContractionSchedule dlc::defaultSchedule(const ContractionSpec &spec,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::optional<SizeRange> rows) {
  const TargetDesc &desc = target.desc();
  ContractionSchedule s = baseSchedule(desc, spec.accumulator);
  Sizes sizes(spec, rows);
  s.fma = !options.strict;
  bool masks = desc.arch == "x86" && desc.vectorBytes == 64;
  int64_t panel = s.panelColumns();

  // Where the factors are read from.
  if (isConstantFactor(spec, spec.rhs, spec.columns, options)) {
    s.rhs = FactorSource::Packed;
  } else {
    auto step = isStrided(spec, spec.rhs, spec.columns)
                    ? spec.strideOf(spec.rhs, spec.columns)
                    : std::nullopt;
    bool contiguous = step && *step == 1;
    bool tails = !sizes.columns || *sizes.columns % s.lanes;
    // Copying into panels pays when each element is used by several tiles.
    bool copies =
        sizes.typicalRows > 3 * s.tileRows && sizes.typicalColumns > 2 * panel;
    s.rhs = contiguous && !copies && (masks || !tails) ? FactorSource::Memory
                                                       : FactorSource::Filled;
  }
  if (isConstantFactor(spec, spec.lhs, spec.rows, options) &&
      sizes.typicalRows >= 4) {
    s.lhs = FactorSource::Packed;
  } else {
    bool strided = isStrided(spec, spec.lhs, spec.rows);
    bool staticStride =
        strided && graph::constantValue(*spec.strideOf(spec.lhs, spec.rows));
    bool copies = sizes.typicalColumns > 4 * panel ||
                  (!staticStride && sizes.typicalColumns > panel);
    s.lhs = strided && (sizes.typicalRows <= 4 || !copies)
                ? FactorSource::Memory
                : FactorSource::Filled;
  }
  if (s.rhs == FactorSource::Filled && sizes.mostRows <= 4 && !options.strict &&
      canDot(spec)) {
    s.dot = true;
    s.lhs = s.rhs = FactorSource::Memory;
  }
  chooseTile(s, sizes, desc);
  if (s.lhs == FactorSource::Filled && readsInPlace(spec, desc, s.tileRows))
    s.lhs = FactorSource::Memory;
  if (s.lhs == FactorSource::Filled && !isStrided(spec, spec.lhs, spec.rows) &&
      canReadIndirectly(spec) && spec.hasLongRun())
    s.lhs = FactorSource::Indirect;
  // A block of k cuts short runs: each lane would be fetched on its own.
  s.wholeRows = s.lhs == FactorSource::Filled && desc.arch == "x86" &&
                !spec.lhs.plain && !spec.lhsGuardedRun().empty();
  if (s.lhs != FactorSource::Packed)
    s.panelRows = s.tileRows;
  // A transposed lhs is copied along its rows.
  if (s.lhs == FactorSource::Filled && spec.lhs.plain) {
    auto row = spec.strideOf(spec.lhs, spec.rows);
    auto inner = spec.strideOf(spec.lhs, spec.inner);
    if (row && *row == 1 && !(inner && *inner == 1))
      s.kBlock = 1;
  }
  cutIntoTasks(s, sizes, target, bytesOf(spec.accumulator));
  blockForCaches(s, sizes, spec, desc, bytesOf(spec.accumulator));
  // Columns that come from memory and pass once: the weights' bandwidth
  // decides.
  if (s.rhs != FactorSource::Filled && !s.dot && !s.columnsPerBlock &&
      sizes.typicalColumns * sizes.typicalDepth * bytesOf(spec.rhs.element) >
          desc.l2Bytes)
    s.prefetch = 16;
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

bool dlc::isLegal(const ContractionSchedule &s, const ContractionSpec &spec,
                  const CpuTarget &target, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  if (!s.lanes || !s.tileRows || !s.tileVectors || !s.panelVectors ||
      !s.kBlock || !s.unroll)
    return refuse("a size of the tile is zero");
  if (registersOf(s.tileRows, s.tileVectors) >
      target.desc().vectorRegisters + 1)
    return refuse("the tile does not fit the vector registers");
  if (s.tileVectors % s.panelVectors && s.panelVectors % s.tileVectors)
    return refuse("tile and panel widths do not divide each other");
  if (s.lhs != FactorSource::Memory && s.panelRows != s.tileRows)
    return refuse("lhs panels must have the tile's rows");
  int64_t step = std::max(s.tileVectors, s.panelVectors) * s.lanes;
  if (s.columnsPerTask % step || s.columnsPerBlock % step)
    return refuse(
        "a task's or a block's columns are not whole tiles and panels");
  if (s.rowsPerTask % s.tileRows)
    return refuse("a task's rows are not whole tiles");
  if (s.lhs == FactorSource::Indirect && (s.dot || !canReadIndirectly(spec)))
    return refuse("lhs has no rows to be read by an address each");
  if (s.rhs == FactorSource::Indirect)
    return refuse("rhs is not read by addresses");
  if (s.wholeRows &&
      (s.lhs != FactorSource::Filled || spec.lhsGuardedRun().empty()))
    return refuse("lhs is not copied in runs of k");
  if (s.lhs == FactorSource::Indirect && s.depthPerPass)
    return refuse("addresses are for all of k");
  if (s.depthPerPass && (s.dot || s.depthPerPass % s.kBlock))
    return refuse("a pass is not whole blocks of k");
  if (s.depthPerPass && !findResultOfSums(spec))
    return refuse("no result can hold the sums between passes");
  auto strided = [&](const ContractionOperand &operand,
                     ArrayRef<unsigned> major) {
    return isStrided(spec, operand, major);
  };
  if (s.lhs == FactorSource::Memory && !strided(spec.lhs, spec.rows))
    return refuse("lhs has no strides to be read by");
  if (s.dot && (s.lhs != FactorSource::Memory ||
                s.rhs != FactorSource::Memory || !canDot(spec) || !s.fma))
    return refuse("the factors cannot be summed along k");
  if (s.rhs == FactorSource::Memory && !s.dot &&
      (!strided(spec.rhs, spec.columns) ||
       *spec.strideOf(spec.rhs, spec.columns) != 1))
    return refuse("rhs is not contiguous along the columns");
  return true;
}
