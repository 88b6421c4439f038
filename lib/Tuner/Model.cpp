// The cost model of a family of targets: what it learns from, its file, and how
// good it is.
#include "dlc/Tuner/Model.h"

#include "dlc/Tuner/Features.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

using namespace dlc;
using namespace dlc::tuner;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using Json = nlohmann::json;

static constexpr int kModelVersion = 1;
static constexpr unsigned kFewestTrials = 4;

Expected<std::vector<Group>> dlc::tuner::groupRecords(ArrayRef<Record> records,
                                                      StringRef family) {
  // Of a schedule that was measured twice, the later and longer one.
  std::map<std::pair<std::string, std::string>,
           std::map<std::string, const Record *>>
      byWorkload;
  for (const Record &record : records) {
    if (record.status != Status::Ok || record.codegen != kCodegenVersion)
      continue;
    const Record *&entry =
        byWorkload[{record.target, record.workload}][record.schedule];
    if (!entry || record.attempt > entry->attempt ||
        (record.attempt == entry->attempt && record.ratio() < entry->ratio()))
      entry = &record;
  }
  std::vector<Group> groups;
  for (auto &[key, trials] : byWorkload) {
    if (trials.size() < kFewestTrials)
      continue;
    Expected<Scorer> scorer = Scorer::create(key.second, key.first);
    if (!scorer)
      return scorer.takeError();
    if (scorer->family != family)
      continue;
    Group group;
    group.name = scorer->name;
    double best = 1; // the default's own time
    for (auto &[schedule, record] : trials)
      best = std::min(best, record->ratio());
    group.defaultLabel = std::log(best);
    for (auto &[schedule, record] : trials) {
      Expected<KnobValues> knobs = parseKnobs(schedule);
      if (!knobs)
        return knobs.takeError();
      group.samples.push_back(
          {scorer->features(*knobs), float(std::log(best / record->ratio()))});
      group.analytic.push_back(scorer->seconds(*knobs));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

static std::vector<Sample> samplesOf(ArrayRef<const Group *> groups) {
  std::vector<Sample> samples;
  for (const Group *group : groups)
    samples.insert(samples.end(), group->samples.begin(), group->samples.end());
  return samples;
}

//===----------------------------------------------------------------------===//
// The model's file
//===----------------------------------------------------------------------===//

Expected<CostModel> CostModel::train(ArrayRef<Record> records, StringRef family,
                                     const TrainOptions &options) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  std::vector<const Group *> all;
  for (const Group &group : *groups)
    all.push_back(&group);
  std::vector<Sample> samples = samplesOf(all);
  Expected<Forest> forest = Forest::train(samples, options);
  if (!forest)
    return forest.takeError();
  CostModel model;
  model.family = family.str();
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
                     {"feature_schema", featureSchema(family)},
                     {"samples", model.samples},
                     {"workloads", model.workloads},
                     {"base", model.forest.base},
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
  if (model.family != "contraction" && model.family != "loop")
    return fail("is of no family of nests that this dlc has");
  if (!json.contains("feature_schema") ||
      json["feature_schema"] != featureSchema(model.family))
    return fail("was trained for other features than this dlc computes: train "
                "it again (dlc-tune train)");
  Forest &forest = model.forest;
  auto width = int64_t(featureNames(model.family).size());
  try {
    model.samples = json.at("samples");
    model.workloads = json.at("workloads");
    forest.base = json.at("base");
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
  } catch (const std::exception &) {
    return fail("the trees are malformed");
  }
  model.hash = sha256(model.json);
  return model;
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

namespace {
/// Sums of logarithms over workloads.
struct Sums {
  double top1 = 0, top5 = 0, top10 = 0, pairs = 0;

  /// `scores`: higher is thought faster.
  void add(const Group &group, ArrayRef<double> scores) {
    std::vector<unsigned> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](unsigned a, unsigned b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
    double best = -1e9;
    for (unsigned i = 0; i < order.size(); ++i) {
      best = std::max<double>(best, group.samples[order[i]].label);
      bool isLast = i + 1 == order.size();
      if (i == 0)
        top1 += best;
      if (i == 4 || (isLast && i < 4))
        top5 += best;
      if (i == 9 || (isLast && i < 9))
        top10 += best;
    }
    double right = 0, count = 0;
    for (unsigned i = 0; i < scores.size(); ++i)
      for (unsigned j = 0; j < i; ++j) {
        double a = group.samples[i].label, b = group.samples[j].label;
        if (a == b)
          continue;
        count += 1;
        right +=
            scores[i] == scores[j] ? 0.5 : (scores[i] > scores[j]) == (a > b);
      }
    pairs += count ? right / count : 1;
  }
  Ranking mean(double n) const {
    return {std::exp(top1 / n), std::exp(top5 / n), std::exp(top10 / n),
            pairs / n};
  }
};
} // namespace

Expected<Evaluation> dlc::tuner::evaluate(ArrayRef<Record> records,
                                          StringRef family, unsigned folds,
                                          unsigned seed) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  if (groups->size() < 2)
    return llvm::createStringError(
        "eval: needs at least 2 workloads of at least " +
        llvm::Twine(kFewestTrials) + " trials, there are " +
        llvm::Twine(groups->size()));
  folds = std::min<unsigned>(std::max(folds, 2u), groups->size());
  std::mt19937_64 random(seed);
  std::vector<unsigned> order(groups->size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[random() % (i + 1)]);
  Evaluation result;
  result.folds = folds;
  Sums model, analytic, chance;
  double defaults = 0;
  for (unsigned fold = 0; fold < folds; ++fold) {
    std::vector<const Group *> train, held;
    for (unsigned i = 0; i < order.size(); ++i)
      (i % folds == fold ? held : train).push_back(&(*groups)[order[i]]);
    Expected<Forest> forest = Forest::train(samplesOf(train), TrainOptions());
    if (!forest)
      return forest.takeError();
    for (const Group *group : held) {
      std::vector<double> scores, hand;
      for (auto [i, sample] : llvm::enumerate(group->samples)) {
        scores.push_back(forest->predict(sample.features));
        hand.push_back(-group->analytic[i]);
      }
      model.add(*group, scores);
      analytic.add(*group, hand);
      Sums one;
      constexpr unsigned repeats = 20;
      for (unsigned r = 0; r < repeats; ++r) {
        std::vector<double> dice;
        for (size_t i = 0; i < scores.size(); ++i)
          dice.push_back(double(random() >> 11));
        one.add(*group, dice);
      }
      chance.top1 += one.top1 / repeats;
      chance.top5 += one.top5 / repeats;
      chance.top10 += one.top10 / repeats;
      chance.pairs += one.pairs / repeats;
      defaults += group->defaultLabel;
      ++result.workloads;
      result.trials += group->samples.size();
    }
  }
  result.model = model.mean(result.workloads);
  result.analytic = analytic.mean(result.workloads);
  result.random = chance.mean(result.workloads);
  result.defaults = std::exp(defaults / result.workloads);
  return result;
}
