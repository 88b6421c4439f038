// The JSON of workloads, targets and schedules.
#include "JsonFields.h"
#include "dlc/Tuner/CudaFeatures.h"

#include "llvm/ADT/STLExtras.h"

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;
using llvm::StringRef;

// Found by their arguments.
namespace dlc::tuner {

static void visit(Fields &field, ContractionFacts &f) {
  field("outer", f.outer);
  field("rows", f.rows);
  field("columns", f.columns);
  field("depth", f.depth);
  field("acc_bytes", f.accBytes);
  field("lhs_bytes", f.lhsBytes);
  field("rhs_bytes", f.rhsBytes);
  field("result_bytes", f.resultBytes);
  field("lhs_row", f.lhsRow);
  field("lhs_depth", f.lhsDepth);
  field("rhs_column", f.rhsColumn);
  field("rhs_depth", f.rhsDepth);
  field("lhs_constant", f.lhsConstant);
  field("rhs_constant", f.rhsConstant);
  field("lhs_plain", f.lhsPlain);
  field("rhs_plain", f.rhsPlain);
  field("lhs_run", f.lhsRun);
  field("epilogue_ops", f.epilogueOps);
  field("epilogue_loads", f.epilogueLoads);
  field("results", f.results);
  field("panel_columns", f.panelColumns);
  field("k_block", f.kBlock);
  field("strict", f.strict);
  field("threads", f.threads);
  field("kernel", f.kernel);
}

static void visit(Fields &field, LoopFacts &f) {
  field("nest", f.nest);
  field("points", f.points);
  field("folded", f.folded);
  field("innermost", f.innermost);
  field("inner_fold", f.innerFold);
  field("weight", f.weight);
  field("heavy", f.heavy);
  field("loads", f.loads);
  field("strided_loads", f.stridedLoads);
  field("guards", f.guards);
  field("conversions", f.conversions);
  field("stages", f.stages);
  field("folds", f.folds);
  field("kept", f.kept);
  field("results", f.results);
  field("rows", f.rows);
  field("row_bytes", f.rowBytes);
  field("mode", f.mode);
  field("read_bytes", f.readBytes);
  field("written_bytes", f.writtenBytes);
  field("widest_bytes", f.widestBytes);
  field("narrowest_bytes", f.narrowestBytes);
  field("window", f.window, /*isLater=*/true);
  field("lanes", f.lanes, /*isLater=*/true);
  field("loops", f.loops, /*isLater=*/true);
  field("lane_extent", f.laneExtent, /*isLater=*/true);
  field("own_width", f.ownWidth, /*isLater=*/true);
  field("own_groups", f.ownGroups, /*isLater=*/true);
  field("own_across", f.ownAcross, /*isLater=*/true);
  field("tile_extent", f.tileExtent, /*isLater=*/true);
  field("tile_begin", f.tileBegin, /*isLater=*/true);
  field("tile_end", f.tileEnd, /*isLater=*/true);
  field("tile_steps", f.tileSteps, /*isLater=*/true);
  field("task_rows", f.taskRows, /*isLater=*/true);
  field("row_cost", f.rowCost, /*isLater=*/true);
  field("piece_extent", f.pieceExtent, /*isLater=*/true);
  field("piece_cost", f.pieceCost, /*isLater=*/true);
  field("strict", f.strict);
  field("threads", f.threads);
  field("kernel", f.kernel);
}

static void visit(Fields &field, AttentionFacts &f) {
  field("outer", f.outer);
  field("group", f.group);
  field("rows", f.rows);
  field("keys", f.keys);
  field("inner", f.inner);
  field("columns", f.columns);
  field("query_bytes", f.queryBytes);
  field("key_bytes", f.keyBytes);
  field("value_bytes", f.valueBytes);
  field("result_bytes", f.resultBytes);
  field("key_stride", f.keyStride);
  field("value_stride", f.valueStride);
  field("key_contiguous", f.keyContiguous);
  field("value_contiguous", f.valueContiguous);
  field("cuts", f.cuts);
  field("score_ops", f.scoreOps);
  field("one_pass", f.onePass);
  field("few", f.few);
  field("strict", f.strict);
  field("threads", f.threads);
  field("kernel", f.kernel);
}

static void visit(Fields &field, TargetFacts &t) {
  field("arch", t.arch);
  field("cpu", t.cpu);
  field("vector_bytes", t.vectorBytes);
  field("vector_registers", t.vectorRegisters);
  field("l1", t.l1);
  field("l2", t.l2);
  field("l3", t.l3);
  field("ghz", t.ghz);
  field("flops_per_cycle", t.flopsPerCycle);
  field("read_gbs", t.readGBs);
}

} // namespace dlc::tuner

std::string ContractionFacts::toJson() const {
  return writeFields(*this, {{"nest", "contraction"}});
}
Expected<ContractionFacts> ContractionFacts::parseJson(StringRef text) {
  return parseFields<ContractionFacts>("workload", text);
}
std::string LoopFacts::toJson() const {
  return writeFields(*this, Json::object());
}
Expected<LoopFacts> LoopFacts::parseJson(StringRef text) {
  return parseFields<LoopFacts>("workload", text);
}
std::string AttentionFacts::toJson() const {
  return writeFields(*this, {{"nest", "attention"}});
}
Expected<AttentionFacts> AttentionFacts::parseJson(StringRef text) {
  return parseFields<AttentionFacts>("workload", text);
}
std::string TargetFacts::toJson() const {
  return writeFields(*this, Json::object());
}
Expected<TargetFacts> TargetFacts::parseJson(StringRef text) {
  return parseFields<TargetFacts>("target", text);
}

std::string dlc::tuner::scheduleJson(StringRef nest, const KnobValues &knobs) {
  Json json = {{"nest", nest.str()}};
  for (auto &[name, value] : knobs)
    json[name] = value;
  return json.dump();
}

Expected<KnobValues> dlc::tuner::parseKnobs(StringRef schedule) {
  Json json = Json::parse(schedule.begin(), schedule.end(), nullptr, false);
  if (!json.is_object())
    return llvm::createStringError("schedule: is no JSON object");
  KnobValues knobs;
  for (auto &[name, value] : json.items()) {
    if (name == "nest" || name == "laws")
      continue;
    if (!value.is_number_integer())
      return llvm::createStringError("schedule: knob '" + name +
                                     "' is no integer");
    knobs[name] = value.get<int64_t>();
  }
  return knobs;
}

//===----------------------------------------------------------------------===//
// Scorers
//===----------------------------------------------------------------------===//

bool dlc::tuner::isFamily(StringRef name) {
  return llvm::is_contained(kFamilies, name);
}

std::string dlc::tuner::modelFamily(StringRef nest) {
  return nest == "contraction" || nest == "attention" ? nest.str() : "loop";
}

template <typename Facts>
static void fill(Scorer &scorer, const Facts &facts, const TargetFacts &t) {
  scorer.kernel = facts.kernel;
  scorer.features = [facts, t](const KnobValues &knobs) {
    return computeFeatures(facts, knobs, t);
  };
  scorer.seconds = [facts, t](const KnobValues &knobs) {
    return analyticSeconds(facts, knobs, t);
  };
  scorer.traffic = [facts, t](const KnobValues &knobs) {
    return trafficSeconds(facts, knobs, t);
  };
}

static std::string number(int64_t value) { return std::to_string(value); }

static std::string nameOf(const ContractionFacts &f) {
  return number(f.outer) + "x" + number(f.rows) + "x" + number(f.columns) +
         "x" + number(f.depth) + (f.accBytes != f.lhsBytes ? " narrow" : "") +
         (f.lhsConstant ? " lhs constant" : "") +
         (f.rhsConstant ? " rhs constant" : "") +
         (f.epilogueOps ? " and more" : "") + ", " + number(f.threads);
}
static std::string nameOf(const LoopFacts &f) {
  return (f.window ? "window" : f.nest) + " of " + number(f.points) +
         " points" + (f.folds ? ", " + number(f.folded) + " folded" : "") +
         ", " + number(f.threads);
}
static std::string nameOf(const AttentionFacts &f) {
  return "attention " + number(f.outer) + "x" + number(f.group) + "x" +
         number(f.rows) + "x" + number(f.keys) + ", " + number(f.inner) +
         " and " + number(f.columns) + " wide" +
         (f.cuts ? ", masked by position" : "") + ", " + number(f.threads);
}

// A convolution's taps make k of several runs, or its image is no matrix.
static std::string kindOf(const ContractionFacts &f) {
  return f.lhsPlain && f.rhsPlain && f.lhsDepth >= 0 ? "contraction"
                                                     : "convolution";
}
static std::string kindOf(const LoopFacts &f) {
  return f.window ? "window" : f.nest;
}
static std::string kindOf(const AttentionFacts &) { return "attention"; }

template <typename Facts>
static llvm::Error read(Scorer &scorer, StringRef workload,
                        const TargetFacts &machine) {
  Expected<Facts> facts = Facts::parseJson(workload);
  if (!facts)
    return facts.takeError();
  scorer.name = nameOf(*facts);
  scorer.kind = kindOf(*facts);
  scorer.threads = unsigned(facts->threads);
  fill(scorer, *facts, machine);
  return llvm::Error::success();
}

Expected<Scorer> Scorer::create(StringRef workload, StringRef target) {
  if (isCuda(target))
    return createCudaScorer(workload, target);
  Expected<TargetFacts> machine = TargetFacts::parseJson(target);
  if (!machine)
    return machine.takeError();
  Json json = Json::parse(workload.begin(), workload.end(), nullptr, false);
  std::string nest =
      json.is_object() ? json.value("nest", std::string()) : std::string();
  Scorer scorer;
  scorer.family = modelFamily(nest);
  if (nest != "contraction" && nest != "attention" && nest != "map" &&
      nest != "row")
    return llvm::createStringError("workload: '" + nest + "' is no nest");
  auto reader = nest == "contraction" ? read<ContractionFacts>
                : nest == "attention" ? read<AttentionFacts>
                                      : read<LoopFacts>;
  if (llvm::Error error = reader(scorer, workload, *machine))
    return std::move(error);
  if (json.contains("symbolic"))
    scorer.name += " symbolic";
  return scorer;
}
