// The analytic model and the features of CUDA kernels.
//
// What a block computes is an account of a multiprocessor's units in cycles:
// multiply-adds, issue slots, shared memory; the largest counts, stretched
// where too few warps are there to hide latency. Blocks run in waves of as many
// as registers, shared memory and threads let stand on the device; memory
// traffic runs beside them.
#include "dlc/Tuner/CudaFeatures.h"
#include "FeatureNames.h"
#include "FeatureTable.h"
#include "JsonFields.h"

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;
using llvm::StringRef;

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

namespace dlc::tuner {

static void visit(Fields &field, CudaFacts &f) {
  field("nest", f.nest);
  field("outer", f.outer);
  field("rows", f.rows);
  field("columns", f.columns);
  field("depth", f.depth);
  field("keys", f.keys);
  field("tensor", f.tensor);
  field("factor_bytes", f.factorBytes);
  field("left_copy", f.leftCopy);
  field("right_copy", f.rightCopy);
  field("rounds", f.rounds);
  field("cuts", f.cuts);
  field("points", f.points);
  field("folded", f.folded);
  field("row_elements", f.rowElements);
  field("launches", f.launches);
  field("read_bytes", f.readBytes);
  field("written_bytes", f.writtenBytes);
  field("scalar_ops", f.scalarOps);
  field("strict", f.strict);
  field("tf32", f.tf32);
  field("kernel", f.kernel);
}

static void visit(Fields &field, CudaTargetFacts &t) {
  field("arch", t.arch);
  field("device", t.device);
  field("sm", t.sm);
  field("multiprocessors", t.multiprocessors);
  field("shared_bytes", t.sharedBytes);
  field("registers", t.registers);
  field("threads", t.threads);
  field("l2", t.l2);
  field("memory_gbs", t.memoryGBs);
  field("f32_tflops", t.f32Tflops);
  field("tensor_tflops", t.tensorTflops);
}

} // namespace dlc::tuner

std::string CudaFacts::toJson() const {
  return writeFields(*this, Json::object());
}
Expected<CudaFacts> CudaFacts::parseJson(StringRef text) {
  return parseFields<CudaFacts>("workload", text);
}
std::string CudaTargetFacts::toJson() const {
  return writeFields(*this, Json::object());
}
Expected<CudaTargetFacts> CudaTargetFacts::parseJson(StringRef text) {
  return parseFields<CudaTargetFacts>("target", text);
}

bool dlc::tuner::isCuda(StringRef target) {
  Json json = Json::parse(target.begin(), target.end(), nullptr, false);
  return json.is_object() && json.value("arch", std::string()) == "cuda";
}

Expected<MachineLabel> dlc::tuner::labelOf(StringRef target) {
  if (isCuda(target)) {
    Expected<CudaTargetFacts> gpu = CudaTargetFacts::parseJson(target);
    if (!gpu)
      return gpu.takeError();
    return MachineLabel{gpu->arch, gpu->device, gpu->sm};
  }
  Expected<TargetFacts> cpu = TargetFacts::parseJson(target);
  if (!cpu)
    return cpu.takeError();
  return MachineLabel{cpu->arch, cpu->cpu,
                      std::to_string(cpu->vectorBytes * 8) + "-bit " +
                          cpu->arch};
}

//===----------------------------------------------------------------------===//
// The account
//===----------------------------------------------------------------------===//

double CudaFacts::flops() const {
  double products = double(outer) * double(rows) * double(columns);
  if (nest == "attention")
    return 2.0 * double(outer) * double(rows) * double(keys) *
           double(depth + columns);
  return nest == "contraction" ? 2 * products * double(depth) : 0;
}

static double ceilDiv(double a, double b) { return std::ceil(a / b); }

namespace {
/// What one launch of the kernel does; cycles are a multiprocessor's.
struct Account {
  // Of the machine.
  double lanes, hertz, tensorPerCycle;
  // Of the schedule.
  bool usesWarpGroups = false;
  double tileRows = 0, tileColumns = 0, threadRows = 0, threadColumns = 0;
  double panelSteps = 0, stages = 0, parts = 1, elements = 1;
  // What follows.
  double threads = 256, registers = 32, sharedBytes = 0, blocks = 1;
  double resident = 1, occupancy = 1, waves = 1, quantization = 1;
  double warpsPerScheduler = 1, inFlight = 1, waste = 1;
  double mathCycles = 0, issueCycles = 0, sharedCycles = 0, blockCycles = 0;
  double computeSeconds = 0, memorySeconds = 0, l2Seconds = 0, partSeconds = 0,
         launchSeconds = 0, seconds = 0;

  Account(const CudaFacts &f, const KnobValues &knobs,
          const CudaTargetFacts &t);

private:
  void product(const CudaFacts &f);
  void attention(const CudaFacts &f);
  void memory(const CudaFacts &f, const CudaTargetFacts &t);
  void finish(const CudaFacts &f, const CudaTargetFacts &t, double traffic);
  double get(const char *name, double otherwise) const {
    auto it = knobs.find(name);
    return it == knobs.end() || it->second == 0 ? otherwise
                                                : double(it->second);
  }
  const KnobValues &knobs;
};
} // namespace

Account::Account(const CudaFacts &f, const KnobValues &knobs,
                 const CudaTargetFacts &t)
    : knobs(knobs) {
  // GA100 has half the f32 lanes of its successors.
  lanes = t.sm == "sm_80" ? 64 : 128;
  double units = std::max<double>(1, double(t.multiprocessors));
  hertz = t.f32Tflops * 1e12 / (2 * lanes * units);
  // mma.sync reaches about two thirds of what Hopper's wgmma does.
  usesWarpGroups = get("instruction_rows", 16) == 64;
  double share = t.sm == "sm_90a" && !usesWarpGroups ? 0.65 : 0.9;
  double width = f.factorBytes == 1 ? 2 : f.factorBytes == 4 ? 0.5 : 1;
  tensorPerCycle = t.tensorTflops * 1e12 / (2 * units * hertz) * share * width;
  parts = std::max(1.0, get("parts", get("fold_parts", 1)));
  if (f.nest == "contraction")
    product(f);
  else if (f.nest == "attention")
    attention(f);
  else
    memory(f, t);
  if (f.flops() == 0)
    return;
  double traffic = 0;
  double keys = double(f.keys), depth = double(f.depth),
         columns = double(f.columns);
  if (f.nest == "contraction")
    traffic = blocks * (tileRows + tileColumns) * depth / parts *
              double(f.factorBytes);
  else
    traffic = blocks / parts * keys * (depth + columns) * double(f.factorBytes);
  finish(f, t, traffic);
}

// A tile of a product. On plain units a warp's reads of 16 bytes a lane take
// two cycles of shared memory each, at 4 x 8 lanes.
void Account::product(const CudaFacts &f) {
  tileRows = get("tile_rows", 64);
  tileColumns = get("tile_columns", 64);
  stages = get("stages", 2);
  double steps = ceilDiv(double(f.depth), parts);
  double copies = 0; // instructions of a warp and step
  if (f.tensor) {
    threads = get("warps", 8) * 32;
    double warpColumns = get("warp_columns", 4), warps = threads / 32;
    double panelBytes = get("panel_bytes", 64);
    panelSteps = panelBytes / double(f.factorBytes);
    threadRows = tileRows / std::max(1.0, warps / warpColumns);
    threadColumns = tileColumns / warpColumns;
    sharedBytes = stages * (tileRows + tileColumns) * panelBytes;
    registers = threadRows * threadColumns / 32 + threadRows / 4 +
                threadColumns / 4 + 40;
    mathCycles = tileRows * tileColumns * steps / tensorPerCycle;
    double bytes = double(f.factorBytes) * steps;
    sharedCycles = warps * (threadRows + threadColumns) * bytes / 128;
    // An instruction has 16 x 8 sums and 32 bytes of the fold.
    issueCycles =
        warps * (threadRows / 16) * (threadColumns / 8) * bytes / 32 * 1.6 / 4;
    if (usesWarpGroups) {
      // 64 rows and all columns, read from shared memory for each.
      sharedCycles = tileRows / 64 * (64 + tileColumns) * bytes / 128;
      issueCycles = tileRows / 64 * bytes / 32 * 4;
    }
  } else {
    threadRows = get("thread_rows", 4);
    threadColumns = get("thread_columns", 4);
    panelSteps = get("panel_steps", 16);
    threads = tileRows * tileColumns / (threadRows * threadColumns);
    sharedBytes = stages * (tileRows + tileColumns + 8) * panelSteps * 4;
    registers =
        threadRows * threadColumns + 2 * (threadRows + threadColumns) + 40;
    double warps = threads / 32, sums = threadRows * threadColumns;
    double reads = (threadRows + threadColumns) / 4;
    mathCycles = tileRows * tileColumns * steps / lanes;
    sharedCycles = warps * reads * 2 * steps;
    issueCycles = warps * (sums + reads) * steps / 4;
  }
  for (auto [copy, extent] :
       {std::pair(f.leftCopy, tileRows), std::pair(f.rightCopy, tileColumns)})
    copies += extent / (copy == 2 ? 4 : 1) * (copy == 0 ? 20 : 6) / 32;
  issueCycles +=
      copies * steps * (f.tensor ? double(f.factorBytes) / 4 : 1) / 4;
  // The barrier, the loop, and the way to memory at the end.
  blockCycles =
      ceilDiv(steps, panelSteps) * 40 + 1500 + tileRows * tileColumns / 16;
  double sums = tileRows * (tileColumns + 1) * 4;
  sharedBytes = std::max(sharedBytes,
                         usesWarpGroups ? sums : std::min(48.0 * 1024, sums));
  double rows = double(f.rows), columns = double(f.columns);
  blocks = double(f.outer) * ceilDiv(rows, tileRows) *
           ceilDiv(columns, tileColumns) * parts;
  waste = ceilDiv(rows, tileRows) * tileRows * ceilDiv(columns, tileColumns) *
          tileColumns / (rows * columns);
  // Products that a thread has under way.
  inFlight = usesWarpGroups ? 8 // two panels
             : f.tensor     ? threadRows * threadColumns / 128
                            : threadRows * threadColumns / 8;
}

void Account::attention(const CudaFacts &f) {
  tileRows = get("tile_rows", 64);
  double tileKeys = get("tile_keys", 64), depth = double(f.depth),
         columns = double(f.columns);
  panelSteps = tileKeys;
  double keys = ceilDiv(double(f.keys), parts) * (f.cuts ? 0.55 : 1);
  double passes = f.rounds ? 1.5 : 1; // scores are computed again
  double products = tileRows * keys * (passes * depth + columns);
  double scores = tileRows * keys;
  if (f.tensor && usesWarpGroups) {
    threads = tileRows / 64 * 128;
    double width = std::min(columns, 128.0);
    registers = width / 2 + tileKeys * 3 / 4 + 50;
    sharedBytes = tileRows * depth * 2 + 4 * tileKeys * (depth + width);
    mathCycles = products / tensorPerCycle;
    // Each warpgroup reads all keys and values; queries once a step.
    sharedCycles = tileRows / 64 * keys *
                   (depth * (1 + 64 / tileKeys) + columns) * 2 / 128;
    issueCycles = scores * 8 / 128;
  } else if (f.tensor) {
    threads = tileRows / 16 * 32;
    registers = depth / 4 + columns / 2 + tileKeys / 2 + 60;
    sharedBytes = 2 * tileKeys * (depth + columns + 16) * 2;
    mathCycles = products / tensorPerCycle;
    sharedCycles = threads / 32 * keys * (depth + columns) * 2 / 128;
    issueCycles = products / (16 * 8 * 16) * 1.6 / 4 + scores * 10 / 128;
  } else {
    threads = 256;
    registers = tileRows / 16 * (4 + columns / 16) + 60;
    sharedBytes = (depth * (tileRows + 4) + 64 * (tileRows + 4) +
                   16 * (std::max(64.0, columns) + 4)) *
                  4;
    mathCycles = products / lanes;
    double perThread = tileRows / 16;
    sharedCycles = products / (perThread * 4) * (perThread + 4) * 4 / 128 / 4;
    issueCycles = products / 128 * 1.5 + scores * 20 / 128;
  }
  blockCycles = ceilDiv(keys, tileKeys) * 120 + 2000;
  double rows = double(f.rows);
  blocks = double(f.outer) * ceilDiv(rows, tileRows) * parts *
           ceilDiv(columns, f.tensor ? 128 : 256);
  waste = ceilDiv(rows, tileRows) * tileRows / rows;
  inFlight = 4;
}

// Maps and rows: bytes, and enough of them under way (Little's law).
void Account::memory(const CudaFacts &f, const CudaTargetFacts &t) {
  elements = get("point_elements", 1);
  double points = double(f.points), folded = double(f.folded);
  if (knobs.count("row_threads") || knobs.count("fold_threads")) {
    double rowThreads = get("row_threads", get("fold_threads", 256)),
           rows = get("block_rows", 1), columns = get("fold_columns", 1);
    threads = rowThreads * rows;
    blocks =
        std::max(1.0,
                 ceilDiv(std::max(1.0, points / double(f.rowElements)), rows) /
                     columns) *
        parts;
    double each = std::max(double(f.rowElements), folded) * columns / parts;
    // Loads one after the other, and a block's folds.
    elements = std::max(1.0, each / rowThreads);
    waste = ceilDiv(each, rowThreads) * rowThreads / each;
    blockCycles =
        600 + 60 * std::log2(threads) * std::max(1.0, folded > 1 ? 2.0 : 1.0);
  } else if (knobs.count("slice_warps")) {
    threads = get("slice_warps", 8) * 32;
    double lanes = get("fold_lanes", 8), columns = get("fold_columns", 4),
           slices = threads / lanes;
    blocks = ceilDiv(points, lanes * columns);
    elements = columns * std::min(get("fold_steps", 8), folded / slices);
    blockCycles = 600 + ceilDiv(folded, slices) * columns * 2;
  } else {
    threads = get("point_threads", 256);
    blocks = ceilDiv(points, threads * elements);
    blockCycles = 400 + folded * elements * 4;
  }
  registers = 32 + 4 * std::min(elements, 8.0);
  issueCycles = f.scalarOps / std::max(1.0, blocks) / lanes * 1.5 +
                threads * elements / lanes * 2;
  inFlight = std::min(elements, 8.0);
  finish(f, t, 0);
}

void Account::finish(const CudaFacts &f, const CudaTargetFacts &t,
                     double traffic) {
  double units = std::max<double>(1, double(t.multiprocessors));
  registers = std::min(255.0, ceilDiv(registers, 8) * 8);
  resident = std::max(
      1.0,
      std::floor(std::min(
          {double(t.threads) / threads,
           double(t.registers) / (registers * threads),
           double(t.sharedBytes) / std::max(sharedBytes + 1024, 1.0), 32.0})));
  double standing = std::min(resident, ceilDiv(blocks, units));
  occupancy = standing * threads / double(t.threads);
  warpsPerScheduler = standing * threads / 128;
  waves = blocks / (units * standing);
  quantization = std::ceil(waves) / waves;
  // About eight independent instructions hide the latency of arithmetic.
  double hidden =
      std::min(1.0, warpsPerScheduler * std::max(1.0, inFlight) / 8);
  double busy = std::max({mathCycles, issueCycles, sharedCycles}) +
                0.15 * (mathCycles + issueCycles + sharedCycles);
  // Blocks that stand together share the units, and hide each other's waits.
  double wave = standing * busy / std::max(0.1, hidden) +
                blockCycles / std::sqrt(standing);
  computeSeconds = std::ceil(waves) * wave / hertz;
  double compulsory = double(f.readBytes + f.writtenBytes);
  double perAccess = f.nest == "contraction" || f.nest == "attention"
                         ? 64
                         : std::min(16.0, 4 * elements);
  double underWay = units * standing * threads * perAccess *
                    (f.nest == "row" ? std::min(elements, 4.0) : 1);
  constexpr double latency = 7e-7;
  double saturation = std::min(1.0, underWay / (t.memoryGBs * 1e9 * latency));
  memorySeconds = compulsory / (t.memoryGBs * 1e9 * std::max(0.02, saturation));
  constexpr double l2Share = 2.5; // of the memory's bandwidth
  l2Seconds = traffic / (t.memoryGBs * 1e9 * l2Share);
  double sums = double(f.outer) * double(f.rows) * double(f.columns);
  partSeconds =
      parts > 1 ? 2 * sums * parts * 4 / (t.memoryGBs * 1e9 * l2Share) : 0;
  launchSeconds = (double(f.launches) + (parts > 1)) * 2.5e-6;
  double longest = std::max({computeSeconds, memorySeconds, l2Seconds});
  seconds = longest +
            0.2 * (computeSeconds + memorySeconds + l2Seconds - longest) +
            partSeconds + launchSeconds;
}

double dlc::tuner::analyticSeconds(const CudaFacts &facts,
                                   const KnobValues &knobs,
                                   const CudaTargetFacts &target) {
  return Account(facts, knobs, target).seconds;
}

//===----------------------------------------------------------------------===//
// Features
//===----------------------------------------------------------------------===//

namespace {
struct View {
  const CudaFacts &f;
  const CudaTargetFacts &t;
  const Account &a;
};
} // namespace

static double shareOf(double part, const Account &a) {
  return part / std::max(a.seconds, 1e-12);
}

static const Feature<View> kFeatures[] = {
    // the kernel
    FEATURE("is_contraction", v.f.nest == "contraction"),
    FEATURE("is_attention", v.f.nest == "attention"),
    FEATURE("is_row", v.f.nest == "row"),
    FEATURE("log_flops", log2p(v.f.flops())),
    FEATURE("log_outer", log2p(double(v.f.outer))),
    FEATURE("log_rows", log2p(double(v.f.rows))),
    FEATURE("log_columns", log2p(double(v.f.columns))),
    FEATURE("log_depth", log2p(double(v.f.depth))),
    FEATURE("log_keys", log2p(double(v.f.keys))),
    FEATURE("tensor", v.f.tensor),
    FEATURE("factor_bytes", double(v.f.factorBytes)),
    FEATURE("left_copy", double(v.f.leftCopy)),
    FEATURE("right_copy", double(v.f.rightCopy)),
    FEATURE("rounds", v.f.rounds),
    FEATURE("cuts", double(v.f.cuts)),
    FEATURE("log_points", log2p(double(v.f.points))),
    FEATURE("log_folded", log2p(double(v.f.folded))),
    FEATURE("log_row_elements", log2p(double(v.f.rowElements))),
    FEATURE("launches", double(v.f.launches)),
    FEATURE("log_bytes", log2p(double(v.f.readBytes + v.f.writtenBytes))),
    FEATURE("log_scalar_ops", log2p(v.f.scalarOps)),
    // the machine
    FEATURE("multiprocessors", double(v.t.multiprocessors)),
    FEATURE("lanes", v.a.lanes),
    FEATURE("shared_kib", double(v.t.sharedBytes) / 1024),
    FEATURE("bytes_per_cycle", v.t.memoryGBs * 1e9 / v.a.hertz),
    FEATURE("tensor_per_cycle", v.a.tensorPerCycle),
    FEATURE("l2_share", log2Ratio(double(v.f.readBytes + v.f.writtenBytes),
                                  double(v.t.l2))),
    // the schedule
    FEATURE("tile_rows", v.a.tileRows),
    FEATURE("tile_columns", v.a.tileColumns),
    FEATURE("thread_rows", v.a.threadRows),
    FEATURE("thread_columns", v.a.threadColumns),
    FEATURE("panel_steps", v.a.panelSteps),
    FEATURE("stages", v.a.stages),
    FEATURE("log_parts", log2p(v.a.parts)),
    FEATURE("elements", v.a.elements),
    FEATURE("threads", v.a.threads),
    // what follows from them
    FEATURE("registers", v.a.registers),
    FEATURE("block_shared_kib", v.a.sharedBytes / 1024),
    FEATURE("log_blocks", log2p(v.a.blocks)),
    FEATURE("resident", v.a.resident),
    FEATURE("occupancy", v.a.occupancy),
    FEATURE("warps_per_scheduler", v.a.warpsPerScheduler),
    FEATURE("waves", v.a.waves),
    FEATURE("quantization", v.a.quantization),
    FEATURE("waste", v.a.waste),
    FEATURE("in_flight", v.a.inFlight),
    FEATURE("issue_per_math", v.a.issueCycles / std::max(v.a.mathCycles, 1.0)),
    FEATURE("shared_per_math",
            v.a.sharedCycles / std::max(v.a.mathCycles, 1.0)),
    FEATURE("overhead_share",
            v.a.blockCycles / std::max(v.a.mathCycles + v.a.issueCycles, 1.0)),
    FEATURE("compute_share", shareOf(v.a.computeSeconds, v.a)),
    FEATURE("memory_share", shareOf(v.a.memorySeconds, v.a)),
    FEATURE("l2_traffic_share", shareOf(v.a.l2Seconds, v.a)),
    FEATURE("part_share", shareOf(v.a.partSeconds, v.a)),
    FEATURE("launch_share", shareOf(v.a.launchSeconds, v.a)),
    FEATURE("log_seconds", std::log2(std::max(v.a.seconds, 1e-9))),
};

llvm::ArrayRef<const char *> dlc::tuner::cudaFeatureNames() {
  static const std::vector<const char *> names = namesOf(kFeatures);
  return names;
}

std::vector<float> dlc::tuner::computeFeatures(const CudaFacts &facts,
                                               const KnobValues &knobs,
                                               const CudaTargetFacts &target) {
  Account account(facts, knobs, target);
  return valuesOf(kFeatures, View{facts, target, account});
}

//===----------------------------------------------------------------------===//
// The scorer
//===----------------------------------------------------------------------===//

static std::string nameOf(const CudaFacts &f) {
  auto number = [](int64_t value) { return std::to_string(value); };
  std::string kind = f.nest + (f.tensor ? " on tensor cores " : " ");
  if (f.nest == "contraction")
    return kind + number(f.outer) + "x" + number(f.rows) + "x" +
           number(f.columns) + "x" + number(f.depth);
  if (f.nest == "attention")
    return kind + number(f.outer) + "x" + number(f.rows) + "x" +
           number(f.keys) + ", " + number(f.depth) + " and " +
           number(f.columns) + " wide";
  return kind + "of " + number(f.points) + " points" +
         (f.folded > 1 ? ", " + number(f.folded) + " folded" : "");
}

Expected<Scorer> dlc::tuner::createCudaScorer(StringRef workload,
                                              StringRef target) {
  auto facts = CudaFacts::parseJson(workload);
  if (!facts)
    return facts.takeError();
  auto machine = CudaTargetFacts::parseJson(target);
  if (!machine)
    return machine.takeError();
  Scorer scorer;
  scorer.family = "cuda";
  scorer.kind = "cuda " + facts->nest;
  scorer.name = nameOf(*facts);
  scorer.kernel = facts->kernel;
  scorer.features = [f = *facts, t = *machine](const KnobValues &knobs) {
    return computeFeatures(f, knobs, t);
  };
  scorer.seconds = [f = *facts, t = *machine](const KnobValues &knobs) {
    return analyticSeconds(f, knobs, t);
  };
  return scorer;
}
