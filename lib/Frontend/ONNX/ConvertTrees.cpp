//===- ConvertTrees.cpp - ensembles of decision trees ---------------------===//
//
// All rows walk all trees at once, a level at a time: a node's test is looked
// up, and the next node is its left child or the one behind it (tree traversal
// of Nakandala et al., "A Tensor Compiler for Unified Machine Learning
// Prediction Serving", OSDI 2020). Leaves lead to themselves.
//
//===----------------------------------------------------------------------===//

#include "Scores.h"

#include "llvm/ADT/SetVector.h"

#include <cmath>
#include <limits>

using namespace dlc;
using namespace mlir;

namespace {
/// Nodes of all trees; the two children of a node are neighbours.
struct Forest {
  SmallVector<int64_t> roots, features, left;
  SmallVector<double> limits; ///< left is x <= limit; a leaf's is infinite
  SmallVector<int64_t> missingLeft;
  SmallVector<double> weights; ///< (nodes, targets)
  int64_t depth = 0, targets = 0;
  int64_t count() const { return features.size(); }
};

/// The attributes of one node of the model.
struct Source {
  int64_t feature, yes, no;
  double value;
  StringRef mode;
  bool missingYes;
  SmallVector<std::pair<int64_t, double>> weights;
};
} // namespace

static SmallVector<StringRef> readStrings(NodeContext &node, StringRef name) {
  SmallVector<StringRef> result;
  if (auto array = node.op->getAttrOfType<ArrayAttr>(name))
    for (Attribute each : array)
      if (auto text = dyn_cast<StringAttr>(each))
        result.push_back(text.getValue());
  return result;
}

static Forest readForest(NodeContext &node, StringRef prefix, int64_t targets) {
  SmallVector<int64_t> trees = node.is("nodes_treeids"),
                       ids = node.is("nodes_nodeids"),
                       features = node.is("nodes_featureids"),
                       yes = node.is("nodes_truenodeids"),
                       no = node.is("nodes_falsenodeids"),
                       missing = node.is("nodes_missing_value_tracks_true");
  SmallVector<double> values = node.fs("nodes_values");
  SmallVector<StringRef> modes = readStrings(node, "nodes_modes");
  size_t n = ids.size();
  if (node.hasAttr("nodes_values_as_tensor"))
    refuse("trees in f64");
  if (n == 0 || trees.size() != n || features.size() != n || yes.size() != n ||
      no.size() != n || values.size() != n || modes.size() != n ||
      (!missing.empty() && missing.size() != n))
    refuseMalformed("the lists nodes_* differ in length");
  using Key = std::pair<int64_t, int64_t>;
  std::map<Key, Source> sources;
  llvm::SetVector<Key> starts;
  for (size_t i = 0; i < n; ++i) {
    Key key{trees[i], ids[i]};
    starts.insert(key);
    if (!sources
             .insert({key,
                      {features[i],
                       yes[i],
                       no[i],
                       values[i],
                       modes[i],
                       !missing.empty() && missing[i],
                       {}}})
             .second)
      refuseMalformed("a node of a tree is there twice");
  }
  SmallVector<int64_t> weightTrees = node.is((prefix + "treeids").str()),
                       weightNodes = node.is((prefix + "nodeids").str()),
                       weightTargets = node.is((prefix + "ids").str());
  SmallVector<double> weights = node.fs((prefix + "weights").str());
  if (weightNodes.size() != weights.size() ||
      weightTrees.size() != weights.size() ||
      weightTargets.size() != weights.size())
    refuseMalformed(("the lists " + prefix + "* differ in length").str());
  for (size_t i = 0; i < weights.size(); ++i) {
    auto leaf = sources.find({weightTrees[i], weightNodes[i]});
    int64_t target = weightTargets[i];
    if (leaf == sources.end() || target < 0 || target >= targets)
      refuseMalformed("a weight of a leaf or target that is not there");
    leaf->second.weights.push_back({target, weights[i]});
  }
  for (auto &[key, source] : sources)
    if (source.mode != "LEAF")
      for (int64_t child : {source.yes, source.no})
        if (!starts.remove({key.first, child}))
          refuseMalformed("a child is not there, or has two parents");

  // Breadth first, so that children are neighbours.
  Forest forest;
  forest.targets = targets;
  SmallVector<std::pair<Key, int64_t>> order; // with its depth
  for (Key root : starts) {
    forest.roots.push_back(order.size());
    order.push_back({root, 0});
  }
  for (size_t at = 0; at < order.size(); ++at) {
    auto [key, depth] = order[at];
    const Source &source = sources.at(key);
    forest.depth = std::max(forest.depth, depth);
    int64_t here = at;
    for (int64_t t = 0; t < targets; ++t)
      forest.weights.push_back(0);
    if (source.mode == "LEAF") {
      forest.features.push_back(0);
      forest.left.push_back(here);
      forest.limits.push_back(std::numeric_limits<double>::infinity());
      forest.missingLeft.push_back(1);
      for (auto [target, weight] : source.weights)
        forest.weights[here * targets + target] += weight;
      continue;
    }
    // x < v is x <= the number before v; the opposite tests swap the children.
    StringRef mode = source.mode;
    bool swaps = mode == "BRANCH_GT" || mode == "BRANCH_GTE";
    if (!swaps && mode != "BRANCH_LEQ" && mode != "BRANCH_LT")
      refuse("nodes of mode " + mode.str());
    float limit = static_cast<float>(source.value);
    if (mode == "BRANCH_LT" || mode == "BRANCH_GTE")
      limit = std::nextafter(limit, -std::numeric_limits<float>::infinity());
    forest.features.push_back(source.feature);
    forest.left.push_back(order.size());
    forest.limits.push_back(limit);
    forest.missingLeft.push_back(source.missingYes != swaps);
    Key first{key.first, swaps ? source.no : source.yes},
        second{key.first, swaps ? source.yes : source.no};
    order.push_back({first, depth + 1});
    order.push_back({second, depth + 1});
  }
  if (order.size() != n) // a circle has no root
    refuseMalformed("nodes that no root leads to");
  if (forest.depth > 64)
    refuse("trees of more than 64 levels");
  return forest;
}

/// The sum of the leaves' weights: (rows, targets).
static Value walk(NodeContext &node, const Forest &forest) {
  GraphBuilder &b = node.b;
  Value x = readRows(node);
  Type i64 = b.builder.getI64Type(), f32 = b.builder.getF32Type();
  int64_t nodes = forest.count(), trees = forest.roots.size();
  std::optional<int64_t> width = graph::constantValue(b.dim(x, 1));
  if (*llvm::min_element(forest.features) < 0 ||
      (width && *llvm::max_element(forest.features) >= *width))
    refuseMalformed("a tree asks for a feature that is not there");
  Value features = b.constantInts(forest.features, {nodes}, i64),
        limits = b.constantFloats(forest.limits, {nodes}, f32),
        left = b.constantInts(forest.left, {nodes}, i64);
  Value roots = b.constantInts(forest.roots, {1, trees}, i64);
  Value at = b.broadcast(roots, {b.dim(x, 0), b.c(trees)});
  // Missing values go right, as the largest do, but where nodes say otherwise.
  Value missing = b.emit("graph.isnan", {x});
  Value known = b.select(
      missing, b.splat(std::numeric_limits<double>::infinity(), f32), x);
  Value tracks;
  for (auto [i, isLeft] : llvm::enumerate(forest.missingLeft))
    if (isLeft && forest.left[i] != static_cast<int64_t>(i))
      tracks =
          b.constantInts(forest.missingLeft, {nodes}, b.builder.getI1Type());
  for (int64_t level = 0; level < forest.depth; ++level) {
    Value feature = b.gather(features, at, 0);
    Value isRight = b.emit("graph.gt", {b.gatherElements(known, feature, 1),
                                        b.gather(limits, at, 0)});
    if (tracks) {
      Value stays =
          b.emit("graph.bit_and", {b.gatherElements(missing, feature, 1),
                                   b.gather(tracks, at, 0)});
      isRight =
          b.emit("graph.bit_and", {isRight, b.unary("graph.bit_not", stays)});
    }
    at = b.add(b.gather(left, at, 0), b.convert(isRight, i64));
  }
  Value weights =
      b.constantFloats(forest.weights, {nodes, forest.targets}, f32);
  Value sum = b.reduce(b.gather(weights, at, 0), graph::FoldKind::add, {1});
  return b.squeeze(sum, {1});
}

static Value addBase(NodeContext &node, Value scores, int64_t targets) {
  SmallVector<double> base = node.fs("base_values");
  int64_t count = base.size();
  if (node.hasAttr("base_values_as_tensor"))
    refuse("base values in f64");
  if (count == 0)
    return scores;
  if (count != targets && count != 1)
    refuseMalformed("'base_values' must have one entry a target");
  return node.b.add(scores, node.b.constantFloats(base, {count},
                                                  node.b.builder.getF32Type()));
}

static void convertTreeEnsembleRegressor(NodeContext &node) {
  GraphBuilder &b = node.b;
  int64_t targets = node.i("n_targets", 1);
  if (targets < 1 || targets > 1 << 16)
    refuseMalformed("n_targets is not positive or too large");
  StringRef aggregate = node.s("aggregate_function", "SUM");
  if (aggregate != "SUM" && aggregate != "AVERAGE")
    refuse("aggregate_function " + aggregate.str());
  Forest forest = readForest(node, "target_", targets);
  Value scores = walk(node, forest);
  if (aggregate == "AVERAGE")
    scores =
        b.mulScalar(scores, 1.0 / static_cast<double>(forest.roots.size()));
  node.result(transformScores(node, addBase(node, scores, targets)));
}

static void convertTreeEnsembleClassifier(NodeContext &node) {
  if (!node.hasAttr("classlabels_int64s"))
    refuse("labels of strings; write the model with integer labels");
  SmallVector<int64_t> labels = node.is("classlabels_int64s"),
                       ids = node.is("class_ids");
  // Two classes may share one score, the second one's, which is called 0.
  int64_t targets = labels.size();
  bool shares = targets == 2 && !ids.empty() && llvm::all_equal(ids);
  if (shares) {
    targets = 1;
    if (ids[0] != 0)
      refuse("two classes of which only the second has scores");
  }
  bool positive =
      llvm::all_of(node.fs("class_weights"), [](double w) { return w >= 0; });
  Value scores =
      addBase(node, walk(node, readForest(node, "class_", targets)), targets);
  finishClassifier(node, scores, labels, shares && positive ? 0.5 : 0);
}

void dlc::addTrees(ConverterTable &table) {
  table["ai.onnx.ml.TreeEnsembleRegressor"] = convertTreeEnsembleRegressor;
  table["ai.onnx.ml.TreeEnsembleClassifier"] = convertTreeEnsembleClassifier;
}
