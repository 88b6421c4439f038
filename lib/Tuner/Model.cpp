// The cost models of a family of targets: what they learn from, and their file.
#include "Samples.h"
#include "dlc/Tuner/CudaFeatures.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

using namespace dlc;
using namespace dlc::tuner;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using Json = nlohmann::json;

static constexpr int kModelVersion = 1;

namespace {
/// One schedule of a workload.
struct Trial {
  /// The last and longest measurements; several that are equally so.
  std::vector<const Record *> last;
  std::vector<const Record *> first; ///< those before it was measured again
  bool isDefault = false;
  double ratio = 1; ///< to the default's time

  bool isAgain() const { return last.front()->attempt > 0; }
};
} // namespace

/// The median of the ratios of one schedule's measurements.
static double medianRatioOf(ArrayRef<const Record *> records) {
  std::vector<double> ratios;
  for (const Record *record : records)
    ratios.push_back(record->ratio());
  llvm::sort(ratios);
  size_t n = ratios.size();
  return std::sqrt(ratios[(n - 1) / 2] * ratios[n / 2]);
}

/// Those that were fastest were measured again, since the best of many times
/// are partly luck. Others that look even faster are taken to be as lucky as
/// those were on average.
static void correctForLuck(std::map<std::string, Trial> &trials) {
  double logs = 0, count = 0;
  for (auto &[schedule, trial] : trials) {
    trial.ratio = medianRatioOf(trial.last);
    if (!trial.isAgain() || trial.first.empty())
      continue;
    logs += std::log(trial.ratio / medianRatioOf(trial.first));
    count += 1;
  }
  double luck = count ? std::max(1.0, std::exp(logs / count)) : 1;
  double best = 1;
  for (auto &[schedule, trial] : trials)
    if (trial.isAgain())
      best = std::min(best, trial.ratio);
  for (auto &[schedule, trial] : trials)
    if (!trial.isAgain() && trial.ratio < best)
      trial.ratio *= luck;
}

Expected<std::vector<Group>> dlc::tuner::groupRecords(ArrayRef<Record> records,
                                                      StringRef family,
                                                      unsigned fewest) {
  // Of a schedule that was measured again, the longer measurement; of equally
  // long ones the median: the fastest would be luck. What an older code
  // generator made teaches, too: both times are of its code.
  std::map<std::pair<std::string, std::string>, std::map<std::string, Trial>>
      byWorkload;
  for (const Record *calm : withoutDisturbed(records)) {
    const Record &record = *calm;
    if (record.status != Status::Ok || record.usesLibrary())
      continue;
    Trial &trial =
        byWorkload[{record.target, record.workload}][record.schedule];
    auto rank = [](const Record &r) { return std::pair(r.codegen, r.attempt); };
    if (!trial.last.empty() && rank(record) > rank(*trial.last.front()))
      trial.last.clear();
    if (trial.last.empty() || rank(record) == rank(*trial.last.front()))
      trial.last.push_back(&record);
    trial.isDefault |= record.isDefault;
    if (record.attempt == 0)
      trial.first.push_back(&record);
  }
  std::vector<Group> groups;
  for (auto &[key, trials] : byWorkload) {
    if (trials.size() < fewest)
      continue;
    Expected<Scorer> scorer = Scorer::create(key.second, key.first);
    if (!scorer)
      return scorer.takeError();
    if (scorer->family != family)
      continue;
    Group group;
    group.name = scorer->name;
    group.kind = scorer->kind;
    group.threads = scorer->threads;
    std::tie(group.target, group.workload) = key;
    group.kernel = scorer->kernel.empty() ? scorer->name : scorer->kernel;
    Expected<MachineLabel> machine = labelOf(key.first);
    if (!machine)
      return machine.takeError();
    group.isa = machine->isa;
    group.plainFeatures = scorer->features({});
    correctForLuck(trials);
    double best = 1; // the default's own time
    bool isAgain = llvm::any_of(
        trials, [](auto &entry) { return entry.second.isAgain(); });
    for (auto &[schedule, trial] : trials)
      if (!isAgain || trial.isAgain())
        best = std::min(best, trial.ratio);
    group.defaultLabel = std::log(best);
    for (auto &[schedule, trial] : trials) {
      Expected<KnobValues> knobs = parseKnobs(schedule);
      if (!knobs)
        return knobs.takeError();
      if (trial.isDefault)
        group.defaultSample = group.samples.size();
      // The default beside itself took as long: what differs is noise.
      double ratio = trial.isDefault ? 1 : trial.ratio;
      group.samples.push_back({scorer->features(*knobs),
                               float(std::log(std::min(1.0, best / ratio)))});
      group.points.push_back(*knobs);
      group.analytic.push_back(scorer->seconds(*knobs));
      group.seconds.push_back(*llvm::min_element(trial.last.front()->samples) *
                              1e-9);
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

std::vector<float> dlc::tuner::featuresOf(const Group &group, size_t i) {
  // Where the default is not recorded, the scorer's stands for it.
  return relativeFeatures(group.samples[i].features,
                          group.defaultSample
                              ? group.samples[*group.defaultSample].features
                              : group.plainFeatures);
}

TrainOptions dlc::tuner::optionsOf(CostModel::Label label) {
  return label == CostModel::Label::Order ? TrainOptions::order()
                                          : TrainOptions();
}

std::vector<Sample> dlc::tuner::samplesOf(ArrayRef<const Group *> groups,
                                          CostModel::Label label) {
  std::vector<Sample> samples;
  // Much slower is slow enough: how much matters little.
  constexpr float slowest = -1;
  std::map<std::string, unsigned> bags; // by kernel
  for (const Group *group : groups) {
    if (label == CostModel::Label::Order && !group->defaultSample)
      continue;
    unsigned bag = bags.try_emplace(group->kernel, bags.size()).first->second;
    for (auto [i, sample] : llvm::enumerate(group->samples)) {
      samples.push_back(sample);
      samples.back().bag = bag;
      if (label == CostModel::Label::Time) {
        samples.back().label =
            float(std::log(group->seconds[i] / group->analytic[i]));
        continue;
      }
      samples.back().features = featuresOf(*group, i);
      samples.back().label =
          std::max(slowest, sample.label - float(group->defaultLabel));
      // Kernels of many schedules say more, not as many times more.
      samples.back().weight =
          float(8 / std::sqrt(double(group->samples.size())));
    }
  }
  return samples;
}

double CostModel::getSeconds(const Scorer &scorer,
                             const KnobValues &knobs) const {
  return scorer.seconds(knobs) *
         std::exp(double(predict(scorer.features(knobs))));
}

//===----------------------------------------------------------------------===//
// The model's file
//===----------------------------------------------------------------------===//

static constexpr const char *kLabels[] = {"order", "time"};

Expected<CostModel> CostModel::train(ArrayRef<Record> records, StringRef family,
                                     Label label) {
  Expected<std::vector<Group>> groups =
      groupRecords(records, family, label == Label::Time ? 1 : 4);
  if (!groups)
    return groups.takeError();
  std::vector<const Group *> all;
  for (const Group &group : *groups)
    all.push_back(&group);
  std::vector<Sample> samples = samplesOf(all, label);
  Expected<Forest> forest = Forest::train(samples, optionsOf(label));
  if (!forest)
    return forest.takeError();
  CostModel model;
  model.family = family.str();
  model.label = label;
  model.forest = std::move(*forest);
  model.samples = samples.size();
  model.workloads = groups->size();
  Json trees = Json::array();
  for (size_t i = 0; i < model.forest.roots.size(); ++i) {
    size_t first = model.forest.roots[i],
           end = i + 1 < model.forest.roots.size() ? model.forest.roots[i + 1]
                                                   : model.forest.nodes.size();
    Json tree = Json::array();
    for (size_t n = first; n < end; ++n) {
      const Forest::Node &node = model.forest.nodes[n];
      if (node.feature < 0)
        tree.push_back({node.value});
      else
        tree.push_back({node.value, node.feature, node.left - int32_t(first),
                        node.right - int32_t(first)});
    }
    trees.push_back(std::move(tree));
  }
  model.json = Json({{"model_version", kModelVersion},
                     {"family", family.str()},
                     {"predicts", kLabels[int(label)]},
                     {"feature_schema", featureSchema(family)},
                     {"samples", model.samples},
                     {"workloads", model.workloads},
                     {"base", model.forest.base},
                     {"members", model.forest.members},
                     {"spread", model.forest.spread},
                     {"trees", std::move(trees)}})
                   .dump();
  model.hash = sha256(model.json);
  return model;
}

Error CostModel::save(StringRef path) const {
  return llvm::writeToOutput(path, [&](llvm::raw_ostream &os) -> Error {
    os << json << "\n";
    return Error::success();
  });
}

Expected<CostModel> CostModel::load(StringRef path) {
  auto fail = [&](const llvm::Twine &why) {
    return llvm::createStringError(path + ": " + why);
  };
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return fail(buffer.getError().message());
  CostModel model;
  model.json = (*buffer)->getBuffer().trim().str();
  Json json = Json::parse(model.json, nullptr, false);
  if (!json.is_object() || !json.contains("model_version"))
    return fail("is no cost model");
  if (json["model_version"] != kModelVersion)
    return fail("has model version " + json["model_version"].dump() +
                ", this dlc reads version " + llvm::Twine(kModelVersion));
  model.family = json.contains("family") && json["family"].is_string()
                     ? json["family"].get<std::string>()
                     : "";
  if (!isFamily(model.family))
    return fail("is of no family of nests that this dlc has");
  Json predicts = json.value("predicts", Json(kLabels[0]));
  auto known = llvm::find_if(
      kLabels, [&](const char *name) { return predicts == Json(name); });
  if (known == std::end(kLabels))
    return fail("predicts what this dlc does not ask for");
  model.label = Label(known - std::begin(kLabels));
  if (!json.contains("feature_schema") ||
      json["feature_schema"] != featureSchema(model.family))
    return fail("was trained for other features than this dlc computes: train "
                "it again (dlc-tune train)");
  Forest &forest = model.forest;
  auto width = int64_t(featureNames(model.family).size());
  if (model.label == Label::Order) // relativeFeatures
    width *= 2;
  try {
    model.samples = json.at("samples");
    model.workloads = json.at("workloads");
    forest.base = json.at("base");
    forest.members = json.value("members", 1u);
    forest.spread = json.value("spread", 0.0f);
    for (const Json &tree : json.at("trees")) {
      auto first = int32_t(forest.nodes.size());
      forest.roots.push_back(first);
      for (const Json &entry : tree) {
        Forest::Node node;
        node.value = entry.at(0);
        if (entry.size() == 4) {
          node.feature = entry.at(1);
          node.left = first + int32_t(entry.at(2));
          node.right = first + int32_t(entry.at(3));
          auto here = int32_t(forest.nodes.size()),
               end = first + int32_t(tree.size());
          if (node.feature < 0 || node.feature >= width || node.left <= here ||
              node.right <= here || node.left >= end || node.right >= end)
            return fail("the trees are malformed");
        }
        forest.nodes.push_back(node);
      }
      if (tree.empty())
        return fail("the trees are malformed");
    }
    if (!forest.members || forest.roots.size() % forest.members)
      return fail("the trees are malformed");
  } catch (const std::exception &) {
    return fail("the trees are malformed");
  }
  model.hash = sha256(model.json);
  return model;
}
