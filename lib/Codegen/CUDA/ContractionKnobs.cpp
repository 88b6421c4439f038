// How a contraction is cut into tiles, panels and parts: by rule, and by the
// knobs of a schedule, with what code generation cannot do refused before any
// code is made.
#include "MmaSync.h"
#include "PlaceParts.h"
#include "WarpGroup.h"

#include "mlir/IR/BuiltinTypes.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {
/// Of an instruction of tensor cores.
constexpr int64_t kRows = 16, kColumns = 8;
/// Blocks that use a device (an A100 has 108 multiprocessors).
constexpr int64_t kEnoughTiles = 108;
constexpr int64_t kUnits = 132; ///< multiprocessors of an H100, for wgmma
constexpr int64_t kWordBytes = 4;
/// Static shared memory ends there; dynamic of sm_90.
constexpr int64_t kMostShared = 48 << 10, kMostDynamicShared = 227 << 10;
/// Of a thread, and of a multiprocessor.
constexpr int64_t kMostRegisters = 255, kRegisters = 64 << 10;
constexpr int64_t kMostThreads = 1024, kMostParts = 64;
/// For addresses, loops and what is fused.
constexpr int64_t kOtherRegisters = 40;

std::optional<int64_t> sizeOf(const Contraction &c, ArrayRef<unsigned> axes) {
  return constantValue(extentOf(c.stage, axes));
}

std::optional<int64_t> depthOf(const Contraction &c) {
  StageOp stage = c.stage;
  return constantValue(product(stage.getContext(), stage.getReduceDims()));
}

int64_t factorBytes(const Contraction &c) {
  return c.usesTensorCores() ? elementBytes(c.narrowLeft.getType())
                             : kWordBytes;
}
} // namespace

//===----------------------------------------------------------------------===//
// Memory and registers
//===----------------------------------------------------------------------===//

bool dlc::isCopiedAsync(const Contraction &c) {
  return copyOf(c, /*isLeft=*/true).isAsync() &&
         copyOf(c, /*isLeft=*/false).isAsync();
}

static int64_t stageBytes(const Contraction &c) {
  int64_t elements = c.tileRows + c.tileColumns;
  return c.usesTensorCores()
             ? elements * c.panelSteps * factorBytes(c)
             : (elements + 2 * kPanelPadding) * c.panelSteps * kWordBytes;
}

/// Words of the sums of the factors' rows, for zero points.
static int64_t factorWords(const Contraction &c) {
  return c.zeroLeft || c.zeroRight ? c.tileRows + c.tileColumns : 0;
}

static int64_t storeBytes(const Contraction &c, int64_t rows) {
  return (rows * rowPitch(c) + factorWords(c)) * kWordBytes;
}

// Of wgmma's sums two neighbours are stored, and rows read in 16 bytes; else
// columns are read as fast as rows.
int64_t dlc::rowPitch(const Contraction &c) {
  return c.tileColumns + (c.usesWarpGroups() ? 8 : 1);
}

int64_t dlc::elementsAtOnce(const Contraction &c) {
  constexpr int64_t most = 8; // 16 bytes of results of 16 bits
  StageOp stage = c.stage;
  unsigned inner = stage.getDomainRank() - 1;
  auto size = constantValue(stage.getDomainDims()[inner]);
  bool isWhole = size && *size % most == 0 && c.columnAxes.back() == inner;
  return c.usesWarpGroups() && isWhole ? most : 1;
}

static int64_t tableBytes(const Contraction &c) {
  int64_t bytes = 0;
  for (bool isLeft : {true, false})
    bytes += tableEntries(c, isLeft) * kPlaceBytes;
  return bytes;
}

int64_t dlc::rowsAPass(const Contraction &c) {
  if (c.usesWarpGroups())
    return c.tileRows;
  int64_t rows = c.tileRows, most = kMostShared - tableBytes(c);
  while (storeBytes(c, rows) > most && rows % 2 == 0)
    rows /= 2;
  return rows;
}

int64_t dlc::sharedBytes(const Contraction &c) {
  return std::max(c.stages * stageBytes(c), storeBytes(c, rowsAPass(c)));
}

/// An estimate: sums, factors of two steps, what waits in registers.
static int64_t registersOf(const Contraction &c) {
  if (c.usesWarpGroups()) // a thread's copies of a panel need their addresses
    return c.tileRows * c.tileColumns / c.threads + kOtherRegisters +
           stageBytes(c) / kChunkBytes / c.threads;
  if (c.usesTensorCores()) {
    int64_t warps = c.threads / kWarpThreads;
    int64_t rows = c.tileRows / (kRows * (warps / c.warpColumns)),
            columns = c.tileColumns / (kColumns * c.warpColumns);
    return 4 * rows * columns + 4 * rows + 2 * columns + kOtherRegisters;
  }
  int64_t registers = c.threadRows * c.threadColumns +
                      2 * (c.threadRows + c.threadColumns) + kOtherRegisters;
  if (!isCopiedAsync(c))
    registers += (c.tileRows + c.tileColumns) * c.panelSteps / c.threads;
  return registers;
}

unsigned dlc::residentThreads(const Contraction &c) {
  // What is computed on its way to shared memory needs registers.
  constexpr int64_t large = 64;
  bool isLarge =
      !c.usesTensorCores() && c.threadRows * c.threadColumns >= large;
  unsigned wanted =
      isLarge && !isCopiedAsync(c) ? kResidentThreads / 2 : kResidentThreads;
  while (wanted > c.threads && registersOf(c) * wanted > kRegisters)
    wanted /= 2;
  return wanted;
}

//===----------------------------------------------------------------------===//
// The rules
//===----------------------------------------------------------------------===//

/// wgmma reads panels that cp.async has filled in chunks, and cannot add up the
/// rows of bytes on the way; only 16-bit factors need not lie along the fold.
static bool canUseWarpGroups(const Contraction &c) {
  if (!c.hasWarpGroups || !c.usesTensorCores() || factorBytes(c) > 2 ||
      c.zeroLeft || c.zeroRight)
    return false;
  return copyOf(c, /*isLeft=*/true).contiguous &&
         copyOf(c, /*isLeft=*/false).contiguous;
}

// Large tiles reuse more of what they load, where there are enough of them for
// every multiprocessor and they compute little that is no element.
static void chooseTile(Contraction &c) {
  constexpr int64_t large = 128, small = 64;
  auto rows = sizeOf(c, c.rowAxes), columns = sizeOf(c, c.columnAxes),
       batch = sizeOf(c, c.batchAxes);
  if (!rows || !columns)
    return;
  auto tiles = [&](int64_t tileRows, int64_t tileColumns) {
    return llvm::divideCeil(*rows, tileRows) *
           llvm::divideCeil(*columns, tileColumns) * batch.value_or(1);
  };
  auto fits = [&](int64_t tileRows, int64_t tileColumns) {
    int64_t count = tiles(tileRows, tileColumns);
    int64_t area = count * tileRows * tileColumns,
            least = tiles(small, small) * small * small;
    return *rows >= tileRows && *columns >= tileColumns &&
           count >= kEnoughTiles && 8 * area <= 9 * least;
  };
  if (c.usesWarpGroups()) {
    // What a multiprocessor does of its peak, measured (docs/performance-cuda):
    // larger tiles read less from the L2, but leave more of the last wave idle.
    struct Choice {
      int64_t rows, columns;
      double efficiency;
    };
    double least = INFINITY;
    for (auto [tileRows, tileColumns, efficiency] :
         {Choice{large, 2 * large, 1}, Choice{2 * large, large, 0.65},
          Choice{large, large, 0.8}, Choice{small, 2 * large, 0.7},
          Choice{small, large, 0.6}}) {
      if (!fits(tileRows, tileColumns))
        continue;
      int64_t waves = llvm::divideCeil(tiles(tileRows, tileColumns), kUnits);
      double cost = double(waves * tileRows * tileColumns) / efficiency;
      if (cost < least) {
        least = cost;
        c.tileRows = tileRows;
        c.tileColumns = tileColumns;
      }
    }
    // Few tiles in parts of the sum (chooseParts).
    if (least == INFINITY && *rows >= large && *columns >= small)
      c.tileRows = large;
    else if (least == INFINITY && *rows >= small && *columns >= large)
      c.tileColumns = large;
    return;
  }
  if (c.usesTensorCores()) {
    if (*rows >= large && *columns >= large &&
        tiles(large, large) >= kEnoughTiles)
      c.tileRows = c.tileColumns = large;
    else if (*rows >= large && tiles(large, small) >= kEnoughTiles)
      c.tileRows = large;
    return;
  }
  for (auto [tileRows, tileColumns] :
       {std::pair(large, large), std::pair(large, small),
        std::pair(small, large)}) {
    if (!fits(tileRows, tileColumns))
      continue;
    c.tileRows = tileRows;
    c.tileColumns = tileColumns;
    c.threadRows = c.threadColumns = 8;
    c.threads = unsigned(tileRows * tileColumns / 64);
    return;
  }
}

static bool setParts(Contraction &c, int64_t parts) {
  auto depth = depthOf(c);
  if (parts > 1 && (!depth || parts * c.panelSteps > *depth))
    return false;
  c.stepsAPart =
      parts > 1 ? llvm::alignTo(llvm::divideCeil(*depth, parts), c.panelSteps)
                : 0;
  return true;
}

// Parts of the sums, where tiles are too few for every multiprocessor and sums
// are long.
static void chooseParts(Contraction &c) {
  constexpr int64_t leastSteps = 256, mostParts = 16;
  auto tiles = constantValue(countTiles(c));
  auto depth = depthOf(c);
  // A tile of wgmma takes longer than the second launch costs.
  int64_t most = c.usesWarpGroups() ? 3 * kEnoughTiles / 4 : kEnoughTiles / 2;
  if (!tiles || !depth || *tiles == 0 || *tiles > most ||
      *depth < 2 * leastSteps)
    return;
  setParts(c, std::min<int64_t>(
                  {static_cast<int64_t>(llvm::divideCeil(kEnoughTiles, *tiles)),
                   *depth / leastSteps, mostParts}));
}

/// As many stages as fit, four at most; two where nothing is asynchronous.
static void chooseStages(Contraction &c) {
  if (c.usesWarpGroups()) {
    // One block with more panels under way is faster than two with fewer.
    constexpr int64_t mostStages = 6;
    c.stages = std::min(kMostDynamicShared / stageBytes(c), mostStages);
    return;
  }
  bool isAsync = copyOf(c, true).isAsync() || copyOf(c, false).isAsync();
  c.stages = 2;
  if (isAsync && c.usesTensorCores())
    c.stages =
        std::min<int64_t>((kMostShared - tableBytes(c)) / stageBytes(c), 4);
}

/// All but the instruction, by rule.
static void chooseRest(Contraction &c) {
  const Contraction byDefault;
  c.tileRows = byDefault.tileRows;
  c.tileColumns = byDefault.tileColumns;
  c.threads = byDefault.threads;
  c.warpColumns = byDefault.warpColumns;
  c.stepsAPart = 0;
  c.panelSteps = 16;
  if (c.usesTensorCores())
    c.panelSteps = (c.usesWarpGroups() ? kSwizzleBytes : 64) / factorBytes(c);
  chooseTile(c);
  if (c.usesWarpGroups()) {
    // 64 x 256 sums of a warpgroup are as many as its registers hold.
    int64_t groups = c.tileRows / kWarpGroupRows;
    if (c.tileColumns < 2 * kWarpGroupThreads && groups > 2)
      groups /= 2;
    c.threads = unsigned(groups * kWarpGroupThreads);
    c.warpColumns = 1;
  }
  chooseParts(c);
  chooseStages(c);
}

static const char *whyNoTile(const Contraction &c);

// wgmma, where there are enough tiles, or parts of them, for it.
void dlc::chooseCut(Contraction &c) {
  if (canUseWarpGroups(c)) {
    Contraction groups = c;
    groups.instructionRows = kWarpGroupRows;
    chooseRest(groups);
    auto tiles = constantValue(countTiles(groups));
    if (tiles && *tiles * countParts(groups) >= kEnoughTiles &&
        groups.tileRows * groups.tileColumns > 64 * 64 && !whyNoTile(groups) &&
        portableForm(groups)) {
      c = groups;
      return;
    }
  }
  chooseRest(c);
}

std::optional<Contraction> dlc::portableForm(const Contraction &contraction) {
  Contraction c = contraction;
  c.instructionRows = kRows;
  c.panelSteps = 64 / factorBytes(c);
  for (int64_t columns : {4, 2, 1}) {
    c.warpColumns = columns;
    chooseStages(c);
    if (!whyNoTile(c))
      return c;
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Knobs
//===----------------------------------------------------------------------===//

KnobValues dlc::toKnobs(const Contraction &c) {
  KnobValues knobs{{"tile_rows", c.tileRows},
                   {"tile_columns", c.tileColumns},
                   {"stages", c.stages},
                   {"parts", countParts(c)}};
  if (c.usesTensorCores()) {
    if (canUseWarpGroups(c))
      knobs["instruction_rows"] = c.instructionRows;
    knobs["warps"] = c.threads / kWarpThreads;
    knobs["warp_columns"] = c.warpColumns;
    knobs["panel_bytes"] = c.panelSteps * factorBytes(c);
  } else {
    knobs["thread_rows"] = c.threadRows;
    knobs["thread_columns"] = c.threadColumns;
    knobs["panel_steps"] = c.panelSteps;
  }
  return knobs;
}

std::vector<ScheduleSpace::Knob> dlc::contractionKnobs(const Contraction &c) {
  std::vector<ScheduleSpace::Knob> knobs;
  if (c.usesTensorCores())
    knobs = {{"tile_rows", {64, 128, 256}}, {"tile_columns", {64, 128, 256}},
             {"warps", {2, 4, 8, 16}},      {"warp_columns", {1, 2, 4}},
             {"panel_bytes", {64, 128}},    {"stages", {2, 3, 4, 5, 6}}};
  else
    knobs = {
        {"tile_rows", {32, 64, 128, 256}}, {"tile_columns", {32, 64, 128, 256}},
        {"thread_rows", {4, 8}},           {"thread_columns", {4, 8}},
        {"panel_steps", {8, 16, 32}},      {"stages", {2, 3, 4}}};
  if (canUseWarpGroups(c))
    knobs.insert(knobs.begin(), {"instruction_rows", {kRows, kWarpGroupRows}});
  std::vector<int64_t> parts{1};
  if (auto depth = depthOf(c))
    for (int64_t count = 2;
         count <= kMostParts && count * 2 * c.panelSteps <= *depth; count *= 2)
      parts.push_back(count);
  if (parts.size() > 1)
    knobs.push_back({"parts", parts});
  return knobs;
}

/// Tiles of which a dimension is mostly idle are none, but for the smallest.
static bool isIdle(std::optional<int64_t> size, int64_t tile, int64_t least) {
  return size && tile > least && tile >= 2 * *size;
}

static const char *whyNoWarpGroupTile(const Contraction &c) {
  int64_t groups = c.threads / kWarpGroupThreads;
  if (!canUseWarpGroups(c))
    return "wgmma multiplies 16-bit floats and bytes without zero points that "
           "lie in chunks, on sm_90a";
  if (c.threads % kWarpGroupThreads || c.warpColumns != 1)
    return "a warpgroup has four warps and all columns of its rows";
  if (c.tileRows % (groups * kWarpGroupRows) ||
      c.tileRows > 2 * groups * kWarpGroupRows)
    return "a warpgroup has 64 or 128 rows";
  if (c.tileColumns % 64 || c.tileColumns < 64 || c.tileColumns > 256)
    return "wgmma has 64 to 256 columns, a multiple of 64";
  if (c.panelSteps * factorBytes(c) != kSwizzleBytes)
    return "panels of wgmma have 128 bytes";
  if (c.stages < 3 || c.stages > 8)
    return "3 to 8 stages of wgmma: one is read, one was";
  if (sharedBytes(c) > kMostDynamicShared)
    return "more than 227 KiB of shared memory";
  if (!portableForm(c))
    return "other devices have no such tile";
  return nullptr;
}

static const char *whyNoTensorTile(const Contraction &c) {
  constexpr int64_t least = 64;
  int64_t warps = c.threads / kWarpThreads;
  if (c.instructionRows != kRows)
    return "an instruction has 16 or 64 rows";
  if (warps < 1 || c.warpColumns < 1 || warps % c.warpColumns)
    return "warp_columns does not divide the warps";
  if (c.tileRows < least || c.tileColumns < least || c.tileRows % least ||
      c.tileColumns % least)
    return "a tile of tensor cores is a multiple of 64 rows and columns";
  int64_t rows = kRows * (warps / c.warpColumns),
          columns = 2 * kColumns * c.warpColumns;
  if (c.tileRows % rows || c.tileColumns % columns)
    return "the warps do not divide the tile";
  if (int64_t bytes = c.panelSteps * factorBytes(c);
      bytes != 64 && bytes != 128)
    return "panels have 64 or 128 bytes";
  if (rowsAPass(c) % (c.tileRows / (warps / c.warpColumns)))
    return "a warp's rows do not leave in one pass";
  return nullptr;
}

static const char *whyNoPlainTile(const Contraction &c) {
  for (int64_t side : {c.threadRows, c.threadColumns})
    if (side != 4 && side != 8)
      return "a thread has 4 or 8 rows and columns";
  if (c.tileRows % (4 * c.threadRows) || c.tileColumns % (8 * c.threadColumns))
    return "a warp of 4 x 8 threads does not divide the tile";
  if (c.panelSteps < 4 || c.panelSteps > 64 || c.panelSteps % 4)
    return "panels have 4 to 64 steps, a multiple of 4";
  return nullptr;
}

static const char *whyNoTile(const Contraction &c) {
  if (c.tileRows < 1 || c.tileColumns < 1 || c.tileRows > kMostThreads ||
      c.tileColumns > kMostThreads)
    return "no tile has this size";
  if (c.threads < kWarpThreads || c.threads > kMostThreads)
    return "a block has 32 to 1024 threads";
  if (const char *why = c.usesWarpGroups()    ? whyNoWarpGroupTile(c)
                        : c.usesTensorCores() ? whyNoTensorTile(c)
                                              : whyNoPlainTile(c))
    return why;
  if (c.stages < 2 || c.stages > 8)
    return "2 to 8 stages";
  if (!c.usesWarpGroups() && sharedBytes(c) + tableBytes(c) > kMostShared)
    return "more than 48 KiB of shared memory";
  if (registersOf(c) >
      std::min<int64_t>(kMostRegisters, kRegisters / c.threads))
    return "more registers than a thread has";
  int64_t least = c.usesTensorCores() ? 64 : 32;
  if (isIdle(sizeOf(c, c.rowAxes), c.tileRows, least) ||
      isIdle(sizeOf(c, c.columnAxes), c.tileColumns, least))
    return "most of the tile is idle";
  return nullptr;
}

bool dlc::applyKnobs(Contraction &c, const KnobValues &knobs,
                     std::string &reason) {
  bool differs = false, setsParts = false;
  // What else the rules choose depends on the instruction.
  if (auto it = knobs.find("instruction_rows");
      it != knobs.end() && it->second && it->second != c.instructionRows &&
      canUseWarpGroups(c)) {
    differs = true;
    c.instructionRows = it->second;
    chooseRest(c);
  }
  KnobValues values = toKnobs(c);
  for (auto &[name, value] : values)
    if (auto it = knobs.find(name); it != knobs.end() && it->second) {
      int64_t wanted = std::clamp<int64_t>(it->second, 0, 1 << 16);
      differs |= wanted != value;
      setsParts |= name == "parts";
      value = wanted;
    }
  // What the rules chose is legal, also where it is the least of many evils.
  if (!differs)
    return true;
  c.tileRows = values["tile_rows"];
  c.tileColumns = values["tile_columns"];
  if (c.usesTensorCores()) {
    c.threads = unsigned(values["warps"] * kWarpThreads);
    c.warpColumns = values["warp_columns"];
    c.panelSteps = values["panel_bytes"] / factorBytes(c);
  } else {
    c.threadRows = std::max<int64_t>(values["thread_rows"], 1);
    c.threadColumns = std::max<int64_t>(values["thread_columns"], 1);
    c.threads =
        unsigned(c.tileRows * c.tileColumns / (c.threadRows * c.threadColumns));
    c.panelSteps = values["panel_steps"];
  }
  c.stages = values["stages"];
  const char *why = whyNoTile(c);
  if (!why && c.usesTensorCores() &&
      c.panelSteps * factorBytes(c) != values["panel_bytes"])
    why = "panels have 64 or 128 bytes";
  if (!why && !setsParts) {
    c.stepsAPart = 0;
    chooseParts(c);
  } else if (!why && !setParts(c, values["parts"])) {
    why = "more parts than panels";
  }
  if (why)
    reason = why;
  return !why;
}
