// Training by XGBoost's C interface, prediction by a walk over its trees.
#include "dlc/Tuner/Model.h"

#include <cmath>
#include <nlohmann/json.hpp>
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

Expected<Forest> Forest::train(llvm::ArrayRef<Sample> samples,
                               const TrainOptions &o) {
  if (samples.empty())
    return llvm::createStringError("model: nothing to learn from");
  size_t width = samples[0].features.size();
  std::vector<float> matrix, labels;
  for (const Sample &sample : samples) {
    matrix.insert(matrix.end(), sample.features.begin(), sample.features.end());
    labels.push_back(sample.label);
  }
  Trainer t;
  t.check(XGDMatrixCreateFromMat(matrix.data(), samples.size(), width, NAN,
                                 &t.data));
  t.check(XGDMatrixSetFloatInfo(t.data, "label", labels.data(), labels.size()));
  t.check(XGBoosterCreate(&t.data, 1, &t.booster));
  for (auto &[name, value] : std::vector<std::pair<const char *, std::string>>{
           {"objective", "reg:squarederror"},
           {"tree_method", "hist"},
           {"base_score", "0"},
           {"nthread", "1"}, // sums of floats in one order
           {"seed", std::to_string(o.seed)},
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
  Forest forest;
  if (Error error = forest.read({text, size_t(bytes)}))
    return std::move(error);
  return forest;
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

float Forest::predict(llvm::ArrayRef<float> features) const {
  float sum = base;
  for (int32_t at : roots) {
    while (nodes[at].feature >= 0)
      at = features[nodes[at].feature] < nodes[at].value ? nodes[at].left
                                                         : nodes[at].right;
    sum += nodes[at].value;
  }
  return sum;
}
