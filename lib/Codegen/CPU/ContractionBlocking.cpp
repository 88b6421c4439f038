// How the default schedule cuts a product into tasks, blocks columns and cuts k
// into passes, so that what is used again lies in a near cache. The numbers
// behind the rules were measured: see docs/codegen-cpu.md.
#include "ContractionFactors.h"

using namespace mlir;
using namespace dlc;

using Sizes = ContractionSizes;

/// Parts of the rows and of the columns, `least` to `most` tasks together if
/// there are as many. Each part of one side reads all of the other, so that of
/// all cuts the one that reads the fewest bytes is taken; of equals the finest.
static std::pair<int64_t, int64_t>
cutByTraffic(int64_t most, int64_t least, int64_t threads, int64_t rowSteps,
             int64_t columnSteps, int64_t lhsBytes, int64_t rhsBytes) {
  std::pair<int64_t, int64_t> best(1, 1);
  auto better = [&](std::pair<int64_t, int64_t> cut) {
    auto tasks = [&](std::pair<int64_t, int64_t> c) {
      return std::min(c.first * c.second, least);
    };
    auto traffic = [&](std::pair<int64_t, int64_t> c) {
      return c.second * lhsBytes + c.first * rhsBytes;
    };
    // Of a few tasks each thread should have the same number.
    auto isUneven = [&](std::pair<int64_t, int64_t> c) {
      int64_t count = c.first * c.second;
      return count > threads && count < 4 * threads && count % threads != 0;
    };
    auto rank = [&](std::pair<int64_t, int64_t> c) {
      return std::make_tuple(-tasks(c), isUneven(c), traffic(c),
                             -c.first * c.second);
    };
    return rank(cut) < rank(best);
  };
  int64_t mostRows = std::min(most, (rowSteps + 3) / 4);
  for (int64_t rows = 1; rows <= mostRows; ++rows)
    for (int64_t columns = 1; columns <= std::min(most / rows, columnSteps);
         ++columns) {
      // Parts are whole steps: fewer may do.
      int64_t steps = (columnSteps + columns - 1) / columns;
      std::pair<int64_t, int64_t> cut(rows, (columnSteps + steps - 1) / steps);
      if (better(cut))
        best = cut;
    }
  return best;
}

void dlc::cutTasks(ContractionSchedule &s, const Sizes &sizes,
                   const ContractionSpec &spec, const CpuTarget &target,
                   int64_t bytes) {
  const TargetDesc &desc = target.desc();
  int64_t step = s.columnStep();
  int64_t columnSteps = (sizes.typicalColumns + step - 1) / step;
  int64_t rowSteps = (sizes.typicalRows + s.tileRows - 1) / s.tileRows;
  int64_t columnBytes = sizes.typicalDepth * bytes;
  int64_t lhsBytes = sizes.typicalRows * columnBytes;
  bool fillsRhs = s.rhs == FactorSource::Filled;
  // Of a convolution that is read in place the taps share their pixels.
  int64_t lhsTraffic = lhsBytes;
  if (s.lhs == FactorSource::Indirect)
    if (auto run = graph::constantValue(spec.extentOf(spec.lhsRun())))
      lhsTraffic = sizes.typicalRows * *run * bytes;
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

  int64_t threads = target.plannedThreads();
  double work = 2.0 * sizes.typicalRows * sizes.typicalColumns *
                sizes.typicalDepth * sizes.leastOuter;
  // A task takes some microseconds of arithmetic; or, one for each thread, one
  // microsecond, what it costs to hand it over, or some of reading.
  constexpr double leastWork = 2e6, ofThread = 3e5, leastBytes = 512 << 10;
  double read = double(sizes.leastOuter) *
                double(lhsBytes + sizes.typicalColumns * columnBytes);
  double wantedTasks = std::max(
      std::min(work / leastWork, 4.0 * threads),
      std::min(std::max(work / ofThread, read / leastBytes), 1.0 * threads));
  int64_t wanted = threads <= 1 ? 1 : std::max<int64_t>(wantedTasks, 1);
  if (wanted > threads) // as many for each of them
    wanted = wanted / threads * threads;
  wanted = std::max<int64_t>(1, wanted / sizes.leastOuter);
  int64_t columnTasks, rowTasks;
  if (fillsRhs && sizes.typicalRows > sizes.typicalColumns) {
    // Every task along the rows fills the same columns again, so only as many
    // as there are threads; but each reads its rows of lhs alone.
    rowTasks = std::min<int64_t>({wanted, threads, rowSteps});
    columnTasks = 1;
  } else if (fillsRhs) {
    int64_t most = columnSteps;
    // Each of them copies the rows again, for a thirtieth of its products' time
    // if it has 128 columns.
    constexpr int64_t wide = 512;
    if (s.lhs == FactorSource::Filled)
      most = std::min(most, std::max(threads, columnSteps * step / wide));
    columnTasks = std::clamp<int64_t>(wanted, 1, most);
    int64_t left = std::min<int64_t>(wanted, threads);
    rowTasks = std::clamp<int64_t>(left / columnTasks, 1, (rowSteps + 3) / 4);
  } else {
    std::tie(rowTasks, columnTasks) = cutByTraffic(
        wanted, std::min<int64_t>(wanted, 2 * threads), threads, rowSteps,
        columnSteps, lhsTraffic, sizes.typicalColumns * columnBytes);
  }
  int64_t columnsOfTask = (columnSteps + columnTasks - 1) / columnTasks;
  int64_t rowsOfTask = (rowSteps + rowTasks - 1) / rowTasks;
  // A left factor that is filled is streamed from there: it may be large. But
  // beside a small right factor the copy need not leave the nearest caches.
  if (s.lhs == FactorSource::Filled) {
    bool smallRhs = s.rhs == FactorSource::Packed &&
                    sizes.typicalColumns * columnBytes <= desc.l2Bytes / 2 &&
                    !s.widensRhs;
    // Widening is done again for each task.
    int64_t room = smallRhs      ? desc.l2Bytes / 8
                   : s.widensRhs ? 32 << 20
                                 : 8 << 20;
    int64_t most = std::max<int64_t>(1, room / columnBytes / s.tileRows);
    int64_t tasks = (rowsOfTask + most - 1) / most;
    rowsOfTask = (rowsOfTask + tasks - 1) / tasks; // equal ones
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
  s.rowsOutside = taskLhs > desc.l3Bytes / 8 && taskLhs > 2 * rhsBytes &&
                  !s.widensRhs && !s.dot;
}

/// The length of equal passes over `depth`, of at most `most` steps each or
/// little more, in whole blocks.
static int64_t cutDepth(int64_t depth, int64_t most, int64_t block) {
  int64_t passes = (depth + most - 1) / most;
  return ((depth + passes - 1) / passes + block - 1) / block * block;
}

/// Columns that are read by strides, of rows so long that the steps of k are
/// more pages than the translation buffer holds: passes over k so short that a
/// pass stays within it, from one tile of columns to the next.
static void passByStrides(ContractionSchedule &s, const Sizes &sizes,
                          const ContractionSpec &spec, int64_t bytes) {
  constexpr int64_t reach = 256 << 10, once = 32, again = 64;
  int64_t rowBytes = sizes.typicalColumns * bytes;
  int64_t most = sizes.typicalRows <= s.tileRows ? once : again;
  if (!s.dot && !s.rowsOutside && findResultOfSums(spec) &&
      s.lhs != FactorSource::Indirect && sizes.typicalDepth > 2 * most &&
      sizes.typicalColumns > int64_t(s.tileVectors) * s.lanes &&
      rowBytes * sizes.typicalDepth > reach)
    s.depthPerPass = cutDepth(sizes.typicalDepth, most, s.kBlock);
}

/// Columns in blocks whose part of rhs stays in `budget` bytes while the rows
/// pass, which then are the outer loop.
static void blockColumns(ContractionSchedule &s, const Sizes &sizes,
                         int64_t budget, int64_t columnBytes,
                         int64_t rowBytes) {
  int64_t step = s.columnStep();
  int64_t columns = s.columnsPerTask ? s.columnsPerTask : sizes.typicalColumns;
  int64_t block = std::max<int64_t>(1, budget / columnBytes / step) * step;
  if (columns > block)
    s.columnsPerBlock = block;
  // Of an unknown number of rows, those that come may fit after all.
  if (!sizes.rows && !s.rowsPerTask)
    s.rowsOutsideFrom = budget / rowBytes + 1;
  else
    s.rowsOutside = true;
}

/// Whether rhs comes from memory when it is read again: it leaves no room in
/// the last-level cache for what else a product uses.
static bool comesFromMemory(const Sizes &sizes, const TargetDesc &desc,
                            int64_t bytes) {
  return desc.arch == "x86" &&
         sizes.typicalColumns * sizes.typicalDepth * bytes > desc.l3Bytes / 2;
}

/// blockForCaches where lhs is read by addresses. Its taps share their pixels,
/// so rows seldom need a block; a panel of rhs with all taps may be large.
static void blockTaps(ContractionSchedule &s, const Sizes &sizes,
                      const ContractionSpec &spec, int64_t budget,
                      int64_t lhsStepBytes, int64_t bytes) {
  if (s.rhs != FactorSource::Packed)
    return;
  int64_t step = s.columnStep();
  auto run = graph::constantValue(spec.extentOf(spec.lhsRun()));
  int64_t unit = indirectPassUnit(spec);
  // A pass over the image's pixels again is worth it for large panels.
  int64_t stepBytes = step * bytes, most = budget / 4 / stepBytes;
  bool isLarge = sizes.typicalDepth > budget * 3 / 8 / stepBytes;
  if (!s.widensRhs && unit && isLarge && findResultOfSums(spec))
    s.depthPerPass = cutDepth(sizes.typicalDepth,
                              std::max(most / unit, int64_t(1)) * unit, unit);
  int64_t depth = s.depthPerPass ? s.depthPerPass : sizes.typicalDepth;
  if (s.widensRhs || !run || *run * lhsStepBytes <= budget)
    return;
  blockColumns(s, sizes, budget, depth * bytes, *run * bytes);
}

void dlc::blockForCaches(ContractionSchedule &s, const Sizes &sizes,
                         const ContractionSpec &spec, const TargetDesc &desc,
                         int64_t bytes) {
  constexpr int64_t veryMany = 1 << 20;
  int64_t rows =
      s.rowsPerTask ? s.rowsPerTask : std::min(sizes.mostRows, veryMany);
  // Few rows use what was widened at once, from the first-level cache, while
  // all of lhs lies in the second.
  constexpr int64_t fewRows = 16;
  bool staysNear =
      rows <= fewRows && rows * sizes.typicalDepth * bytes <= desc.l2Bytes / 2;
  if (s.widensRhs && (rows <= s.tileRows || staysNear) &&
      findResultOfSums(spec)) {
    int64_t most =
        desc.l1Bytes / 2 / (int64_t(s.tileVectors) * s.lanes * bytes);
    most = std::max<int64_t>(most / s.kBlock, 1) * s.kBlock;
    if (sizes.typicalDepth > most) {
      s.depthPerPass = most;
      s.passesInside = staysNear;
    }
  }
  if (s.rhs == FactorSource::Memory)
    return passByStrides(s, sizes, spec, bytes);
  if (s.dot || s.rowsOutside || rows <= s.tileRows)
    return;
  int64_t budget = desc.l2Bytes / 2, depth = sizes.typicalDepth;
  if (s.lhs == FactorSource::Indirect)
    return blockTaps(s, sizes, spec, budget, rows * bytes, bytes);
  if (s.widensRhs) {
    // Each widened panel meets all rows of lhs, which lie in the second-level
    // cache if the passes can be that short.
    constexpr int64_t shortest = 256;
    int64_t most = std::max(
        shortest, std::min(budget / (rows * bytes),
                           budget / 2 / (s.tileVectors * s.lanes * bytes)));
    if (!s.depthPerPass && findResultOfSums(spec) && depth > most)
      s.depthPerPass = cutDepth(depth, most, s.kBlock);
    return;
  }
  int64_t step = s.columnStep();
  // A panel of rhs, and a tile's rows of lhs, are used again within a pass.
  int64_t most = std::min(budget / 4 / (step * bytes),
                          desc.l1Bytes / 2 / (s.tileRows * bytes));
  if (s.rhs == FactorSource::Packed && depth > most && findResultOfSums(spec)) {
    depth = cutDepth(depth, most, s.kBlock);
    s.depthPerPass = depth;
  }
  if (s.rhs == FactorSource::Filled) {
    // A block of them (or a task's, no larger) stays there while rows pass.
    s.rowsOutside = s.columnsPerBlock != 0 || s.columnsPerTask != 0;
    return;
  }
  if (s.rhs != FactorSource::Packed || rows * depth * bytes <= budget)
    return;
  // A block that is fetched while this one is used needs room, too.
  s.fetchesAhead = comesFromMemory(sizes, desc, bytes);
  blockColumns(s, sizes, s.fetchesAhead ? budget / 2 : budget, depth * bytes,
               depth * bytes);
  s.fetchesAhead &= s.columnsPerBlock != 0;
}
