// Products of matrix tiles (AMX): when they pay, and the default schedule. Two
// by two tiles of sums meet two tiles of each factor, so an inner loop reads
// 64 bytes a cycle: from the first-level cache the right factor's panel, from
// the second the rows that a task keeps there.
#include "ContractionFactors.h"
#include "ContractionPanels.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace dlc;

static unsigned elementBytes(ProductForm form) {
  return isByteForm(form) ? 1 : 2;
}

std::optional<ProductForm> dlc::tileFormOf(const ContractionSpec &spec,
                                           const CpuTarget &target,
                                           const CpuCodegenOptions &options) {
  if (!spec.narrow)
    return std::nullopt;
  ProductForm form =
      spec.narrow->isBytes() ? ProductForm::ByteTiles : ProductForm::Bf16Tiles;
  // The law `flush`; bytes are exact.
  if (!hasInstruction(target, form) || (isBf16Form(form) && options.strict))
    return std::nullopt;
  return form;
}

/// Operations a cycle at most.
static double rateOf(ProductForm form, const TargetDesc &desc) {
  switch (form) {
  case ProductForm::Single:
  case ProductForm::I16Pairs: // a multiplication and an addition
    return desc.f32FlopsPerCycle;
  case ProductForm::Bf16Pairs:
    return desc.bf16FlopsPerCycle;
  case ProductForm::ByteQuads:
    return 4 * desc.f32FlopsPerCycle;
  case ProductForm::Bf16Tiles:
    return desc.bf16TileFlopsPerCycle;
  case ProductForm::ByteTiles:
    return desc.byteTileOpsPerCycle;
  }
  llvm_unreachable("no such form");
}

bool dlc::tilesPay(const ContractionSpec &spec, const CpuTarget &target,
                   const CpuCodegenOptions &options, ProductForm otherwise,
                   int64_t rows) {
  const TargetDesc &desc = target.desc();
  ProductForm tiles = *tileFormOf(spec, target, options);
  ContractionSpec narrow = spec.narrowed();
  ContractionSizes sizes(narrow);
  bool isPacked = isConstantFactor(narrow, narrow.rhs, narrow.columns, options);
  double columns = sizes.typicalColumns, outer = sizes.typicalOuter,
         depth = sizes.typicalDepth;
  double bytes = columns * depth * outer * elementBytes(tiles);
  // The right factor comes once, from memory unless it stays in a core's cache.
  constexpr double cached = 32; // bytes a cycle
  double memory = bytes > double(desc.l2Bytes) ? bytes * desc.ghz / desc.readGBs
                                               : bytes / cached;
  constexpr double copied = 8; // bytes a cycle, into groups
  auto cycles = [&](ProductForm form, double height, double deep) {
    double work = 2 * height * columns * deep * outer / rateOf(form, desc);
    bool fills = !isPacked && form != ProductForm::Single;
    return work + (fills ? bytes / copied : 0);
  };
  auto whole = [](double count, unsigned step) {
    return double(llvm::alignTo(int64_t(count), step));
  };
  // A tile's sums take a way through memory.
  constexpr double perTile = 64;
  double height = whole(double(rows), kTileRows);
  double sums = height / kTileRows * whole(columns, kTileRows) / kTileRows *
                outer * perTile;
  double deep = whole(depth, kTileRows * (4 / elementBytes(tiles)));
  return std::max(cycles(tiles, height, deep) + sums, memory) <
         std::max(cycles(otherwise, double(rows), depth), memory);
}

/// How many tasks of a reasonable size there may be.
static int64_t countTasks(const ContractionSizes &sizes,
                          const CpuTarget &target) {
  int64_t threads = target.plannedThreads();
  double work = 2.0 * double(sizes.typicalRows) * double(sizes.typicalColumns) *
                double(sizes.typicalDepth) * double(sizes.leastOuter);
  int64_t wanted =
      threads <= 1 ? 1
                   : std::clamp<int64_t>(int64_t(work / 2e7), 1, 4 * threads);
  return std::max<int64_t>(1, wanted / sizes.leastOuter);
}

//===----------------------------------------------------------------------===//
// Passes over k
//===----------------------------------------------------------------------===//

/// Columns of rhs that a pass fills: as wide as a row of the matrix is worth
/// visiting, and as many as the copy of a tile's rows is used for.
static constexpr int64_t kPassColumns = 1024;

/// Whether k is cut into passes. Passes visit wide pieces of the matrix's rows,
/// and stream lhs once for many columns; sums go to memory and back between
/// them.
static bool wantsPasses(const ContractionSchedule &s,
                        const ContractionSpec &spec,
                        const ContractionSizes &sizes, int64_t depthOfPass) {
  if (s.form != ProductForm::Bf16Tiles || s.lhs == FactorSource::Packed ||
      !spec.lhs.plain || !hasColumnPanels(spec))
    return false;
  bool isFilled = s.rhs == FactorSource::Filled;
  if (isFilled && s.lhs == FactorSource::Filled)
    return true; // rows are copied as they are used
  if (sizes.typicalDepth <= depthOfPass)
    return false;
  // Columns whose k lie side by side are read well in narrow blocks, too.
  constexpr int64_t fewRows = 64;
  auto column =
      spec.rhs.plain ? spec.strideOf(spec.rhs, spec.columns) : std::nullopt;
  bool isAcross = isFilled && column && graph::constantValue(*column) == 1;
  return isAcross || sizes.typicalRows > fewRows;
}

static void cutIntoPasses(ContractionSchedule &s, const ContractionSizes &sizes,
                          const CpuTarget &target, int64_t depthOfPass) {
  s.lhs = FactorSource::Filled;
  s.rowsOutside = true;
  s.depthPerPass = depthOfPass;
  int64_t threads = target.plannedThreads(), wanted = countTasks(sizes, target),
          step = s.panelColumns();
  int64_t columnSteps = llvm::divideCeil(sizes.typicalColumns, step),
          rowSteps = llvm::divideCeil(sizes.typicalRows, s.tileRows);
  // Narrower tasks copy the rows more often.
  int64_t blocks = llvm::divideCeil(sizes.typicalColumns, kPassColumns);
  int64_t columnTasks = std::min(
      {std::clamp<int64_t>(threads, blocks, 2 * blocks), wanted, columnSteps});
  int64_t rowTasks =
      std::clamp<int64_t>(std::min(wanted, threads) / columnTasks, 1,
                          llvm::divideCeil(rowSteps, 4));
  // The sums of all rows wait between passes.
  constexpr int64_t mostRows = 1024;
  int64_t rowsOfTask = std::min<int64_t>(
      llvm::divideCeil(rowSteps, rowTasks) * s.tileRows, mostRows);
  if (rowTasks == 1 && !sizes.rows) // more than the typical ones may come
    rowsOfTask = mostRows;
  s.rowsPerTask = rowsOfTask >= sizes.mostRows ? 0 : rowsOfTask;
  int64_t columnsOfTask = llvm::divideCeil(columnSteps, columnTasks) * step;
  s.columnsPerTask =
      sizes.columns && columnsOfTask >= *sizes.columns ? 0 : columnsOfTask;
  int64_t columns = s.columnsPerTask ? s.columnsPerTask : *sizes.columns;
  if (columns > kPassColumns)
    s.columnsPerBlock = kPassColumns;
}

/// How many columns are filled at a time, and which rows and columns a task
/// has.
static void cutIntoTasks(ContractionSchedule &s, const ContractionSizes &sizes,
                         const CpuTarget &target) {
  const TargetDesc &desc = target.desc();
  int64_t step = s.panelColumns();
  int64_t columnSteps = llvm::divideCeil(sizes.typicalColumns, step),
          rowSteps = llvm::divideCeil(sizes.typicalRows, s.tileRows);
  int64_t lineBytes = int64_t(llvm::alignTo(sizes.typicalDepth, s.depthStep)) *
                      elementBytes(s.form);
  // The rows that stay in the second-level cache while panels pass: few, so
  // that they stay near, but as many as multiply while the next panel comes
  // from memory, if they fit.
  double busy =
      desc.ghz / desc.readGBs * elementBytes(s.form) * rateOf(s.form, desc) / 2;
  int64_t nearRows =
      std::max(desc.l2Bytes / 8 / lineBytes,
               std::min(desc.l2Bytes / 2 / lineBytes, int64_t(busy))) /
      s.tileRows;
  nearRows = std::max<int64_t>(1, nearRows);
  int64_t threads = target.plannedThreads(), wanted = countTasks(sizes, target);

  int64_t rowTasks, columnTasks;
  if (s.rhs == FactorSource::Filled) {
    // Filled once, if that can be: tasks share columns only where rows are
    // more.
    if (sizes.typicalRows > sizes.typicalColumns) {
      rowTasks = std::min<int64_t>({wanted, threads, rowSteps});
      columnTasks = 1;
    } else {
      rowTasks = 1;
      columnTasks = std::min(wanted, columnSteps);
    }
    if (s.lhs == FactorSource::Filled) // a copy of a reasonable size
      rowTasks =
          std::max(rowTasks, int64_t(llvm::divideCeil(rowSteps, 8 * nearRows)));
  } else {
    rowTasks = llvm::divideCeil(rowSteps, nearRows);
    columnTasks =
        std::clamp<int64_t>(llvm::divideCeil(wanted, rowTasks), 1, columnSteps);
  }
  int64_t rowsOfTask = llvm::divideCeil(rowSteps, rowTasks),
          columnsOfTask = llvm::divideCeil(columnSteps, columnTasks);
  // Of an unknown number of rows there may be many more.
  if (!sizes.rows && s.rhs == FactorSource::Packed)
    rowsOfTask = nearRows;
  s.rowsPerTask = rowsOfTask * s.tileRows >= sizes.mostRows ||
                          (!sizes.rows && s.rhs == FactorSource::Filled &&
                           s.lhs != FactorSource::Filled)
                      ? 0
                      : rowsOfTask * s.tileRows;
  s.columnsPerTask =
      sizes.columns && columnsOfTask >= columnSteps ? 0 : columnsOfTask * step;
  if (s.rhs != FactorSource::Filled)
    return;
  // A block of filled columns stays in the second-level cache while the rows
  // pass.
  int64_t block = std::max<int64_t>(1, desc.l2Bytes / 4 / lineBytes / step);
  if (!sizes.columns || block < columnsOfTask)
    s.columnsPerBlock = block * step;
  if (s.columnsPerTask && s.columnsPerTask <= s.columnsPerBlock)
    s.columnsPerBlock = 0;
  s.rowsOutside = rowsOfTask > nearRows;
}

ContractionSchedule dlc::scheduleTiles(ContractionSchedule s,
                                       const ContractionSpec &spec,
                                       const CpuTarget &target,
                                       const CpuCodegenOptions &options,
                                       const ContractionSizes &sizes) {
  s.unroll = 1;
  s.prefetch = 2 * kTileRows; // groups of k: two tiles
  s.rhs = isConstantFactor(spec, spec.rhs, spec.columns, options)
              ? FactorSource::Packed
              : FactorSource::Filled;
  bool inPlace = isStrided(spec, spec.lhs, spec.rows) &&
                 isUnconverted(spec, s.form) &&
                 readsGroups(spec, spec.inner, s.depthStep);
  if (isConstantFactor(spec, spec.lhs, spec.rows, options))
    s.lhs = FactorSource::Packed;
  else
    s.lhs = inPlace ? FactorSource::Memory : FactorSource::Filled;
  // A packed constant lhs fixes the rows of a tile: they are its layout.
  if (s.lhs != FactorSource::Packed && sizes.mostRows <= kTileRows)
    s.tileRows = kTileRows;
  s.panelRows = s.tileRows;
  const TargetDesc &desc = target.desc();
  // A pass's columns stay in the second-level cache, and a tile's rows and
  // columns in the first.
  int64_t perStep = int64_t(s.tileRows + s.panelColumns()),
          steps = std::min(desc.l2Bytes / 4 / kPassColumns,
                           desc.l1Bytes * 2 / 3 / perStep) /
                  elementBytes(s.form),
          pass = std::max<int64_t>(steps / s.depthStep, 1) * s.depthStep;
  if (wantsPasses(s, spec, sizes, pass))
    cutIntoPasses(s, sizes, target, pass);
  else
    cutIntoTasks(s, sizes, target);
  return s;
}

bool dlc::isLegalForTiles(const ContractionSchedule &s,
                          const ContractionSpec &spec, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  if (s.tileRows != kTileRows && s.tileRows != 2 * kTileRows)
    return refuse("a matrix tile has 16 rows, and one or two are summed");
  if (s.tileVectors > 2 || s.lanes != kTileRows)
    return refuse("a matrix tile has 16 columns, and one or two are summed");
  if (s.kBlock != s.depthStep || s.kBlock != kTileRows * s.group())
    return refuse("panels are not whole matrix tiles");
  if (s.rhs != FactorSource::Filled && s.rhs != FactorSource::Packed)
    return refuse("tiles of rhs lie in panels only");
  if (s.lhs == FactorSource::Indirect)
    return refuse("rows of a matrix tile have one distance");
  if (s.depthPerPass &&
      (s.lhs != FactorSource::Filled || !s.rowsOutside ||
       s.form != ProductForm::Bf16Tiles || !hasColumnPanels(spec)))
    return refuse("passes of matrix tiles copy rows of lhs, rows outside");
  if (s.lhs == FactorSource::Memory && !isUnconverted(spec, s.form))
    return refuse("lhs does not lie in memory as tiles read it");
  return true;
}
