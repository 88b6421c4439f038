//===- EarlyOperators.cpp - what operators meant in earlier opsets --------===//
//
// onnx's version converter knows how attributes moved, but not every change of
// meaning. What it leaves out is written here in terms that later opsets read
// in the same way: before the checker, where an opset's schema is in the way,
// before the conversion, where it gives up, else after it, when all operators
// of the name are still early ones.
//
//===----------------------------------------------------------------------===//

#include "Prepare.h"

#include "onnx/shape_inference/implementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/STLFunctionalExtras.h"

using namespace dlc;

/// Nodes of the default domain called `op`, in the graph and inside it; each
/// may be replaced by those that `rewrite` returns for it.
static void
rewriteNodes(onnx::GraphProto &graph, llvm::StringRef op,
             llvm::function_ref<std::vector<onnx::NodeProto>(onnx::NodeProto &)>
                 rewrite) {
  std::vector<onnx::NodeProto> nodes;
  for (auto &node : *graph.mutable_node()) {
    for (auto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        rewriteNodes(*attribute.mutable_g(), op, rewrite);
    std::vector<onnx::NodeProto> made;
    if (node.op_type() == op && canonicalDomain(node.domain()).empty())
      made = rewrite(node);
    if (made.empty())
      nodes.push_back(std::move(node));
    for (onnx::NodeProto &each : made)
      nodes.push_back(std::move(each));
  }
  graph.clear_node();
  for (onnx::NodeProto &node : nodes)
    *graph.add_node() = std::move(node);
}

static onnx::NodeProto makeNode(llvm::StringRef op, const std::string &name,
                                llvm::ArrayRef<std::string> inputs,
                                const std::string &output) {
  onnx::NodeProto node;
  node.set_op_type(op.str());
  node.set_name(name);
  for (const std::string &input : inputs)
    node.add_input(input);
  node.add_output(output);
  return node;
}

static onnx::AttributeProto &
addAttribute(onnx::NodeProto &node, llvm::StringRef name,
             onnx::AttributeProto::AttributeType type) {
  auto &attribute = *node.add_attribute();
  attribute.set_name(name.str());
  attribute.set_type(type);
  return attribute;
}

static const onnx::AttributeProto *findAttribute(const onnx::NodeProto &node,
                                                 llvm::StringRef name) {
  for (const auto &attribute : node.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Before the checker
//===----------------------------------------------------------------------===//

void dlc::nameEarlyNorms(onnx::ModelProto &model) {
  constexpr int64_t firstOpset = 17;
  int64_t opset = getOpset(model, "");
  if (opset < 1 || opset >= firstOpset || model.functions_size())
    return;
  bool found = false;
  for (auto &node : *model.mutable_graph()->mutable_node())
    if (node.op_type() == "LayerNormalization" &&
        canonicalDomain(node.domain()).empty()) {
      node.set_domain("com.microsoft");
      found = true;
    }
  if (!found || getOpset(model, "com.microsoft"))
    return;
  auto *import = model.add_opset_import();
  import->set_domain("com.microsoft");
  import->set_version(1);
}

void dlc::rewriteEarlyGroupNorms(onnx::ModelProto &model) {
  int64_t opset = getOpset(model, "");
  if (opset < 18 || opset > 20 || !model.has_graph())
    return;
  // A factor and a shift for each group: what InstanceNormalization has of
  // images whose channels are the groups.
  rewriteNodes(
      *model.mutable_graph(), "GroupNormalization",
      [](onnx::NodeProto &node) -> std::vector<onnx::NodeProto> {
        const auto *groups = findAttribute(node, "num_groups");
        const auto *epsilon = findAttribute(node, "epsilon");
        if (!groups || node.input_size() != 3 || node.output_size() != 1)
          return {}; // the checker says what is wrong
        const std::string &x = node.input(0), &y = node.output(0);
        std::string shape = y + ".shape", wanted = y + ".groups",
                    grouped = y + ".grouped", normed = y + ".normed";
        onnx::NodeProto constant =
            makeNode("Constant", node.name(), {}, wanted);
        auto &value =
            addAttribute(constant, "value_ints", onnx::AttributeProto::INTS);
        for (int64_t size : {int64_t(0), groups->i(), int64_t(-1)})
          value.add_ints(size);
        onnx::NodeProto norm =
            makeNode("InstanceNormalization", node.name(),
                     {grouped, node.input(1), node.input(2)}, normed);
        if (epsilon)
          *norm.add_attribute() = *epsilon;
        return {makeNode("Shape", node.name(), {x}, shape), std::move(constant),
                makeNode("Reshape", node.name(), {x, wanted}, grouped),
                std::move(norm),
                makeNode("Reshape", node.name(), {normed, shape}, y)};
      });
}

//===----------------------------------------------------------------------===//
// Before the conversion
//===----------------------------------------------------------------------===//

/// Ranks of the main graph's tensors, as far as they are known.
static llvm::StringMap<int64_t> inferRanks(const onnx::ModelProto &model) {
  onnx::ModelProto copy = model; // without its weights it is small
  onnx::shape_inference::InferShapes(copy);
  llvm::StringMap<int64_t> ranks;
  const onnx::GraphProto &graph = copy.graph();
  for (const auto *values :
       {&graph.value_info(), &graph.input(), &graph.output()})
    for (const auto &value : *values)
      if (value.type().tensor_type().has_shape())
        ranks[value.name()] = value.type().tensor_type().shape().dim_size();
  for (const auto &tensor : graph.initializer())
    ranks[tensor.name()] = tensor.dims_size();
  return ranks;
}

void dlc::alignEarlyBroadcasts(onnx::ModelProto &model) {
  constexpr int64_t firstOpset = 7;
  int64_t opset = getOpset(model, "");
  if (opset < 1 || opset >= firstOpset)
    return;
  llvm::StringMap<int64_t> ranks = inferRanks(model);
  for (llvm::StringRef op : {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or",
                             "Xor", "Equal", "Greater", "Less"})
    rewriteNodes(
        *model.mutable_graph(), op,
        [&](onnx::NodeProto &node) -> std::vector<onnx::NodeProto> {
          const auto *axis = findAttribute(node, "axis");
          if (!axis || node.input_size() != 2 || node.output_size() != 1)
            return {};
          auto x = ranks.find(node.input(0)), y = ranks.find(node.input(1));
          if (x == ranks.end() || y == ranks.end())
            return {};
          int64_t first = axis->i() < 0 ? axis->i() + x->second : axis->i();
          int64_t behind = x->second - first - y->second;
          onnx::NodeProto after = node;
          after.clear_attribute();
          for (const auto &attribute : node.attribute())
            if (attribute.name() != "axis")
              *after.add_attribute() = attribute;
          if (behind <= 0)
            return {after};
          // The second operand's dims go beside those from `axis` on.
          std::string aligned = node.output(0) + ".aligned";
          onnx::NodeProto unsqueeze =
              makeNode("Unsqueeze", node.name(), {node.input(1)}, aligned);
          auto &axes =
              addAttribute(unsqueeze, "axes", onnx::AttributeProto::INTS);
          for (int64_t i = 0; i < behind; ++i)
            axes.add_ints(y->second + i);
          after.set_input(1, aligned);
          return {std::move(unsqueeze), std::move(after)};
        });
}

//===----------------------------------------------------------------------===//
// After the conversion
//===----------------------------------------------------------------------===//

/// Before opset 11 a coordinate was divided by the scale; the nearest pixel was
/// the one before it in images that grow, else the one behind it, which no
/// later `nearest_mode` says ("simple", a word of ours).
static void keepEarlyResizes(onnx::ModelProto &model) {
  rewriteNodes(
      *model.mutable_graph(), "Resize",
      [](onnx::NodeProto &node) -> std::vector<onnx::NodeProto> {
        for (auto [name, value] :
             {std::pair("coordinate_transformation_mode", "asymmetric"),
              std::pair("nearest_mode", "simple")})
          if (!findAttribute(node, name))
            addAttribute(node, name, onnx::AttributeProto::STRING).set_s(value);
        return {};
      });
}

/// Before opset 13 the axes from `axis` on were one. The converter knows it of
/// Softmax and LogSoftmax.
static void keepEarlyHardmaxes(onnx::ModelProto &model) {
  rewriteNodes(
      *model.mutable_graph(), "Hardmax",
      [](onnx::NodeProto &node) -> std::vector<onnx::NodeProto> {
        if (node.input_size() != 1 || node.output_size() != 1)
          return {};
        const auto *axis = findAttribute(node, "axis");
        const std::string &x = node.input(0), &y = node.output(0);
        std::string shape = y + ".shape", flat = y + ".flat",
                    chosen = y + ".max";
        onnx::NodeProto flatten = makeNode("Flatten", node.name(), {x}, flat);
        addAttribute(flatten, "axis", onnx::AttributeProto::INT)
            .set_i(axis ? axis->i() : 1);
        onnx::NodeProto hardmax =
            makeNode("Hardmax", node.name(), {flat}, chosen);
        addAttribute(hardmax, "axis", onnx::AttributeProto::INT).set_i(-1);
        return {makeNode("Shape", node.name(), {x}, shape), std::move(flatten),
                std::move(hardmax),
                makeNode("Reshape", node.name(), {chosen, shape}, y)};
      });
}

void dlc::keepEarlyMeanings(onnx::ModelProto &model, int64_t opset) {
  if (opset < 11)
    keepEarlyResizes(model);
  if (opset < 13)
    keepEarlyHardmaxes(model);
}
