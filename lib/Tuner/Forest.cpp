// Training by XGBoost's C interface, prediction by a walk over its trees.
#include "dlc/Tuner/Model.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <xgboost/c_api.h>

using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;
using Json = nlohmann::json;

namespace {
/// XGBoost's objects, freed in order; the first failure stays.
struct Trainer {
  DMatrixHandle data = nullptr;
  BoosterHandle booster = nullptr;
  bool isGood = true;

  ~Trainer() {
    if (booster)
      XGBoosterFree(booster);
    if (data)
      XGDMatrixFree(data);
  }
  void check(int code) { isGood &= code == 0; }
  void set(const char *name, const std::string &value) {
    check(XGBoosterSetParam(booster, name, value.c_str()));
  }
};
} // namespace

/// Bags that member `m` learns from.
static std::set<unsigned> bagsOf(llvm::ArrayRef<Sample> samples,
                                 const TrainOptions &o, unsigned m) {
  std::set<unsigned> distinct;
  for (const Sample &sample : samples)
    distinct.insert(sample.bag);
  std::vector<unsigned> bags(distinct.begin(), distinct.end());
  if (o.share >= 1 || bags.size() < 4)
    return distinct;
  std::mt19937_64 random(o.seed * 1000 + m);
  for (size_t i = bags.size(); i-- > 1;)
    std::swap(bags[i], bags[random() % (i + 1)]);
  bags.resize(size_t(std::ceil(o.share * double(bags.size()))));
  return {bags.begin(), bags.end()};
}

Error Forest::addMember(llvm::ArrayRef<Sample> samples, const TrainOptions &o,
                        unsigned m) {
  std::set<unsigned> bags = bagsOf(samples, o, m);
  size_t width = samples[0].features.size();
  std::vector<float> matrix, labels, weights;
  for (const Sample &sample : samples) {
    if (!bags.count(sample.bag))
      continue;
    matrix.insert(matrix.end(), sample.features.begin(), sample.features.end());
    labels.push_back(sample.label);
    weights.push_back(sample.weight);
  }
  Trainer t;
  t.check(XGDMatrixCreateFromMat(matrix.data(), labels.size(), width, NAN,
                                 &t.data));
  t.check(XGDMatrixSetFloatInfo(t.data, "label", labels.data(), labels.size()));
  if (llvm::any_of(weights, [](float weight) { return weight != 1; }))
    t.check(XGDMatrixSetFloatInfo(t.data, "weight", weights.data(),
                                  weights.size()));
  t.check(XGBoosterCreate(&t.data, 1, &t.booster));
  for (auto &[name, value] : std::vector<std::pair<const char *, std::string>>{
           {"objective", "reg:squarederror"},
           {"tree_method", "hist"},
           {"base_score", "0"},
           {"nthread", "1"}, // sums of floats in one order
           {"seed", std::to_string(o.seed + m)},
           {"max_depth", std::to_string(o.depth)},
           {"eta", std::to_string(o.eta)},
           {"lambda", std::to_string(o.lambda)},
           {"subsample", std::to_string(o.subsample)},
           {"colsample_bytree", std::to_string(o.columns)},
           {"min_child_weight", std::to_string(o.leaf)},
           {"verbosity", "0"}})
    t.set(name, value);
  for (unsigned i = 0; i < o.rounds && t.isGood; ++i)
    t.check(XGBoosterUpdateOneIter(t.booster, int(i), t.data));
  bst_ulong bytes = 0;
  const char *text = nullptr;
  if (t.isGood)
    t.check(XGBoosterSaveModelToBuffer(t.booster, "{\"format\": \"json\"}",
                                       &bytes, &text));
  if (!t.isGood)
    return llvm::createStringError(llvm::Twine("model: XGBoost: ") +
                                   XGBGetLastError());
  return read({text, size_t(bytes)});
}

Expected<Forest> Forest::train(llvm::ArrayRef<Sample> samples,
                               const TrainOptions &o) {
  if (samples.empty())
    return llvm::createStringError("model: nothing to learn from");
  Forest forest;
  forest.members = std::max(1u, o.members);
  for (unsigned m = 0; m < forest.members; ++m)
    if (Error error = forest.addMember(samples, o, m))
      return std::move(error);
  forest.measureSpread(samples, o);
  return forest;
}

/// Each sample is asked of the members that did not learn its bag. Only those
/// that look about as good as the default or better are asked about: which of
/// these to measure is what the spread is for.
void Forest::measureSpread(llvm::ArrayRef<Sample> samples,
                           const TrainOptions &o) {
  constexpr float promising = -0.1f;
  if (members < 2 || o.share >= 1)
    return;
  std::vector<std::set<unsigned>> bags;
  for (unsigned m = 0; m < members; ++m)
    bags.push_back(bagsOf(samples, o, m));
  double sizes = 0, weights = 0;
  for (const Sample &sample : samples) {
    std::vector<float> opinions = look(sample.features).opinions;
    float sum = 0;
    unsigned count = 0;
    for (unsigned m = 0; m < members; ++m)
      if (!bags[m].count(sample.bag)) {
        sum += opinions[m];
        ++count;
      }
    if (!count || sum / float(count) < promising)
      continue;
    double error = sample.label - sum / float(count);
    sizes += sample.weight * std::abs(error);
    weights += sample.weight;
  }
  // Of a normal distribution with errors of that mean size: the few that are
  // off by twice count once.
  spread = weights ? float(1.2533 * sizes / weights) : 0;
}

Error Forest::read(llvm::StringRef text) {
  auto malformed = [] {
    return llvm::createStringError("model: the trees are malformed");
  };
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  try { // a file of someone's: any access may find something else
    const Json &learner = json.at("learner");
    base = std::stof(
        learner.at("learner_model_param").at("base_score").get<std::string>());
    for (const Json &tree :
         learner.at("gradient_booster").at("model").at("trees")) {
      auto left = tree.at("left_children").get<std::vector<int32_t>>();
      auto right = tree.at("right_children").get<std::vector<int32_t>>();
      auto feature = tree.at("split_indices").get<std::vector<int32_t>>();
      auto value = tree.at("split_conditions").get<std::vector<float>>();
      int32_t first = int32_t(nodes.size()), count = int32_t(left.size());
      if (!count || right.size() != left.size() ||
          feature.size() != left.size() || value.size() != left.size())
        return malformed();
      roots.push_back(first);
      for (int32_t i = 0; i < count; ++i) {
        Node node{left[i] < 0 ? -1 : feature[i], value[i], first + left[i],
                  first + right[i]};
        // Children lie behind their parent: a walk ends.
        if (node.feature >= 0 && (left[i] <= i || right[i] <= i ||
                                  left[i] >= count || right[i] >= count))
          return malformed();
        nodes.push_back(node);
      }
    }
  } catch (const std::exception &) {
    return malformed();
  }
  return Error::success();
}

int32_t Forest::leafOf(size_t tree, llvm::ArrayRef<float> features) const {
  int32_t at = roots[tree];
  while (nodes[at].feature >= 0)
    at = features[nodes[at].feature] < nodes[at].value ? nodes[at].left
                                                       : nodes[at].right;
  return at;
}

Outlook Forest::look(llvm::ArrayRef<float> features) const {
  Outlook outlook;
  outlook.opinions.assign(members, base);
  for (size_t i = 0; i < roots.size(); ++i) {
    int32_t leaf = leafOf(i, features);
    outlook.opinions[i * members / roots.size()] += nodes[leaf].value;
    outlook.leaves.push_back(leaf);
  }
  return outlook;
}

float Outlook::mean() const {
  float sum = 0;
  for (float opinion : opinions)
    sum += opinion;
  return sum / float(opinions.size());
}

float Forest::predict(llvm::ArrayRef<float> features) const {
  std::vector<float> sums(members, base);
  for (size_t i = 0; i < roots.size(); ++i)
    sums[i * members / roots.size()] += nodes[leafOf(i, features)].value;
  float sum = 0;
  for (float value : sums)
    sum += value;
  return sum / float(members);
}
