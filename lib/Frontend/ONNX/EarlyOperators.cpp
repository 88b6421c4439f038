//===- EarlyOperators.cpp - what operators meant in earlier opsets --------===//
//
// onnx's version converter knows how attributes moved, but not every change of
// meaning. What it leaves out is written here in terms that later opsets read
// in the same way: before the checker, where an opset's schema is in the way,
// else after the conversion, when all operators of the name are still early
// ones.
//
//===----------------------------------------------------------------------===//

#include "Prepare.h"

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
