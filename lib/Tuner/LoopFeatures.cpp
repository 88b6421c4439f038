// The features of the loop nests.
#include "FeatureNames.h"
#include "FeatureTable.h"
#include "LoopAccount.h"

using namespace dlc;
using namespace dlc::tuner;

using View = FeatureView<LoopFacts, LoopAccount>;

static const Feature<View> kFeatures[] = {
    // the kernel
    FEATURE("is_row", v.f.nest == "row"),
    FEATURE("log_points", log2p(double(v.f.points))),
    FEATURE("log_folded", log2p(double(v.f.folded))),
    FEATURE("log_innermost", log2p(double(v.f.innermost))),
    FEATURE("log_inner_fold", log2p(double(v.f.innerFold))),
    FEATURE("weight", double(v.f.weight)),
    FEATURE("heavy", double(v.f.heavy)),
    FEATURE("loads", double(v.f.loads)),
    FEATURE("strided_loads", double(v.f.stridedLoads)),
    FEATURE("guards", double(v.f.guards)),
    FEATURE("conversions", double(v.f.conversions)),
    FEATURE("stages", double(v.f.stages)),
    FEATURE("folds", double(v.f.folds)),
    FEATURE("kept", double(v.f.kept)),
    FEATURE("results", double(v.f.results)),
    FEATURE("log_rows", log2p(double(v.f.rows))),
    FEATURE("log_row_bytes", log2p(double(v.f.rowBytes))),
    FEATURE("mode", double(v.f.mode)),
    FEATURE("widest_bytes", double(v.f.widestBytes)),
    FEATURE("narrowest_bytes", double(v.f.narrowestBytes)),
    FEATURE("window", v.f.window),
    FEATURE("strict", v.f.strict),
    FEATURE("threads", double(v.f.threads)),
    FEATURE("ops_per_byte", log2p(v.a.work / std::max(v.a.bytes, 1.0))),
    // the machine
    FEATURE("lanes", v.a.lanes),
    FEATURE("vector_registers", double(v.t.vectorRegisters)),
    FEATURE("bytes_l1", log2p(64 * v.a.bytes / double(v.t.l1))),
    FEATURE("bytes_l2", log2p(64 * v.a.bytes / double(v.t.l2))),
    FEATURE("bytes_l3", log2p(64 * v.a.bytes / double(v.t.l3))),
    FEATURE("row_l1", log2p(64 * double(v.f.rowBytes) / double(v.t.l1))),
    FEATURE("bytes_per_cycle", v.t.readGBs / v.t.ghz),
    // the schedule
    FEATURE("width", v.a.width),
    FEATURE("width_share", v.a.width / v.a.lanes),
    FEATURE("groups", v.a.groups),
    FEATURE("across", v.a.across),
    FEATURE("log_task_work", log2p(v.a.taskWork)),
    // Loops beside the main one may heed what it does not.
    FEATURE("asked_width", log2p(v.a.askedWidth)),
    FEATURE("asked_groups", log2p(v.a.askedGroups)),
    FEATURE("asked_across", log2p(v.a.askedAcross)),
    // what follows from them
    FEATURE("is_folded", v.a.isFolded),
    FEATURE("is_tiled", v.a.isTiled),
    FEATURE("log_extent", log2p(v.a.extent)),
    FEATURE("loops", double(v.f.loops)),
    FEATURE("padding", v.a.padding),
    FEATURE("blocks", log2p(v.a.extent / (v.a.width * v.a.groups))),
    FEATURE("tail", std::fmod(v.a.extent, v.a.width *v.a.groups) /
                        (v.a.width * v.a.groups)),
    FEATURE("tile_extent", log2p(double(v.f.tileExtent))),
    FEATURE("tiles", log2p(v.a.tiles)),
    FEATURE("tile_missing", v.a.missing),
    FEATURE("tile_ends", v.a.ends),
    FEATURE("copies", v.a.copies),
    FEATURE("tile_steps", log2p(double(v.f.tileSteps))),
    FEATURE("register_share", v.a.registers / double(v.t.vectorRegisters)),
    FEATURE("code_size", log2p(v.a.codeSize)),
    FEATURE("loads_per_point", v.a.loadsPerPoint),
    FEATURE("log_tasks", log2p(v.a.tasks)),
    FEATURE("rounds", log2p(v.a.rounds)),
    FEATURE("balance", v.a.balance),
    FEATURE("task_l1", log2Ratio(v.a.taskBytes, double(v.t.l1))),
    FEATURE("task_l2", log2Ratio(v.a.taskBytes, double(v.t.l2))),
    FEATURE("latency_share", v.a.latency / std::max(v.a.compute, 1.0)),
    FEATURE("traffic_share", v.a.traffic / std::max(v.a.compute, 1.0)),
    FEATURE("log_cycles", std::log2(std::max(v.a.cycles, 1.0))),
};

llvm::ArrayRef<const char *> dlc::tuner::loopFeatureNames() {
  static const std::vector<const char *> names = namesOf(kFeatures);
  return names;
}

std::vector<float> dlc::tuner::computeFeatures(const LoopFacts &facts,
                                               const KnobValues &knobs,
                                               const TargetFacts &target) {
  LoopAccount account(facts, knobs, target);
  return valuesOf(kFeatures, View{facts, target, account});
}
