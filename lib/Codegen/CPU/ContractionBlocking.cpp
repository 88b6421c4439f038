// How the default schedule blocks columns and cuts k into passes, so that what
// is used again lies in a near cache. The numbers behind the rules were
// measured: see docs/codegen-cpu.md.
#include "ContractionFactors.h"

using namespace mlir;
using namespace dlc;

using Sizes = ContractionSizes;

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
  if (s.widensRhs && rows <= s.tileRows && findResultOfSums(spec)) {
    // A tile uses what was widened at once, from the first-level cache.
    int64_t most =
        desc.l1Bytes / 2 / (int64_t(s.tileVectors) * s.lanes * bytes);
    most = std::max<int64_t>(most / s.kBlock, 1) * s.kBlock;
    if (sizes.typicalDepth > most)
      s.depthPerPass = most;
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
    if (findResultOfSums(spec) && depth > most)
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
