//===- Prepare.cpp - onnx's own tools, with errors collected --------------===//
//
// Checker, inliner, version converter and shape inference of the linked onnx
// throw at the first fault and name it loosely. Here their exceptions become
// problems that name nodes.
//
//===----------------------------------------------------------------------===//

#include "Prepare.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "onnx/checker.h"
#include "onnx/defs/schema.h"
#include "onnx/inliner/inliner.h"
#include "onnx/shape_inference/implementation.h"
#include "onnx/version_converter/convert.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

using namespace dlc;

/// onnx's message on one line, without its own prefixes.
static std::string tidyMessage(llvm::StringRef message) {
  for (llvm::StringRef prefix :
       {"[ShapeInferenceError] ", "[TypeInferenceError] ",
        "Inference error(s): "})
    message.consume_front(prefix);
  std::string out;
  for (char c : message.trim()) {
    bool isSpace = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (isSpace ? !out.empty() && out.back() != ' ' : true)
      out += isSpace ? ' ' : c;
  }
  return out;
}

/// Every node of a graph and of the graphs inside it.
template <typename Graph, typename Callback>
static void walkNodes(Graph &graph, Callback callback) {
  auto visit = [&](auto &node, auto &self) -> void {
    callback(node);
    for (int i = 0; i < node.attribute_size(); ++i) {
      if constexpr (std::is_const_v<std::remove_reference_t<decltype(node)>>) {
        for (const auto &inner : node.attribute(i).g().node())
          self(inner, self);
        for (const auto &subgraph : node.attribute(i).graphs())
          for (const auto &inner : subgraph.node())
            self(inner, self);
      } else {
        auto &attribute = *node.mutable_attribute(i);
        if (attribute.has_g())
          for (auto &inner : *attribute.mutable_g()->mutable_node())
            self(inner, self);
        for (auto &subgraph : *attribute.mutable_graphs())
          for (auto &inner : *subgraph.mutable_node())
            self(inner, self);
      }
    }
  };
  if constexpr (std::is_const_v<Graph>)
    for (const auto &node : graph.node())
      visit(node, visit);
  else
    for (auto &node : *graph.mutable_node())
      visit(node, visit);
}

static ModelProblem makeProblem(const onnx::ModelProto &model,
                                const onnx::NodeProto &node,
                                std::string reason) {
  return {describeNode(node), describeOp(node), getOpset(model, node.domain()),
          "", std::move(reason)};
}

void dlc::clearUnknownDims(onnx::ModelProto &model) {
  auto clear = [](auto &values) {
    for (auto &value : values)
      if (value.type().tensor_type().has_shape())
        for (auto &dim : *value.mutable_type()
                              ->mutable_tensor_type()
                              ->mutable_shape()
                              ->mutable_dim())
          if ((dim.has_dim_value() && dim.dim_value() == -1) ||
              dim.dim_param() == "?")
            dim.clear_value();
  };
  clear(*model.mutable_graph()->mutable_input());
  clear(*model.mutable_graph()->mutable_output());
  clear(*model.mutable_graph()->mutable_value_info());
}

void dlc::checkModel(onnx::ModelProto &model,
                     std::vector<ModelProblem> &problems) {
  std::string whole;
  // The checker insists on shapes of inputs and outputs, which inference finds
  // out (or a user gives) later; it does not look at their dims.
  std::vector<onnx::TypeProto *> shapeless;
  for (auto *values : {model.mutable_graph()->mutable_input(),
                       model.mutable_graph()->mutable_output()})
    for (auto &value : *values)
      if (value.type().has_tensor_type() &&
          !value.type().tensor_type().has_shape())
        shapeless.push_back(value.mutable_type());
  for (onnx::TypeProto *type : shapeless)
    type->mutable_tensor_type()->mutable_shape();
  try {
    onnx::checker::check_model(model);
  } catch (const std::exception &error) {
    whole = tidyMessage(error.what());
  }
  for (onnx::TypeProto *type : shapeless)
    type->mutable_tensor_type()->clear_shape();
  if (whole.empty())
    return;
  // The checker stopped at its first fault: ask again node by node.
  onnx::checker::CheckerContext context;
  context.set_ir_version(static_cast<int>(model.ir_version()));
  std::unordered_map<std::string, int> opsets;
  for (const auto &opset : model.opset_import())
    opsets[canonicalDomain(opset.domain()).str()] =
        static_cast<int>(opset.version());
  opsets.emplace("", 1);
  context.set_opset_imports(opsets);
  onnx::checker::LexicalScopeContext scope;
  for (const auto &value : model.graph().input())
    scope.add(value.name());
  for (const auto &tensor : model.graph().initializer())
    scope.add(tensor.name());
  size_t before = problems.size();
  for (const auto &node : model.graph().node()) {
    try {
      onnx::checker::check_node(node, context, scope);
    } catch (const std::exception &error) {
      problems.push_back(makeProblem(model, node, tidyMessage(error.what())));
    }
    for (const auto &output : node.output())
      scope.add(output);
  }
  if (problems.size() == before)
    problems.push_back({"", "", 0, "", whole});
}

void dlc::inlineFunctions(onnx::ModelProto &model,
                          std::vector<ModelProblem> &problems) {
  if (model.functions_size() == 0)
    return;
  try {
    onnx::inliner::InlineLocalFunctions(model, /*convert_version=*/true);
  } catch (const std::exception &error) {
    problems.push_back(
        {"", "", 0, "",
         "local functions cannot be inlined: " + tidyMessage(error.what())});
  }
}

void dlc::checkOperatorsKnown(const onnx::ModelProto &model,
                              std::vector<ModelProblem> &problems) {
  llvm::StringSet<> functions;
  for (const auto &function : model.functions())
    functions.insert(
        (canonicalDomain(function.domain()) + ":" + function.name()).str());
  walkNodes(model.graph(), [&](const onnx::NodeProto &node) {
    if (functions.contains(
            (canonicalDomain(node.domain()) + ":" + node.op_type()).str()))
      return;
    std::string domain = canonicalDomain(node.domain()).str();
    int64_t opset = getOpset(model, domain);
    const onnx::OpSchema *schema = onnx::OpSchemaRegistry::Schema(
        node.op_type(), static_cast<int>(opset), domain);
    if (!schema || schema->deprecated())
      problems.push_back(makeProblem(
          model, node,
          schema
              ? "the operator is deprecated in this opset"
              : "unsupported operator: neither onnx nor the model defines it"));
  });
}

/// Ranks of values, by name.
template <typename Values>
static std::map<std::string, int> getRanks(const Values &values) {
  std::map<std::string, int> ranks;
  for (const auto &value : values)
    if (value.type().tensor_type().has_shape())
      ranks[value.name()] = value.type().tensor_type().shape().dim_size();
  return ranks;
}

void dlc::convertOpset(onnx::ModelProto &model,
                       std::vector<ModelProblem> &problems) {
  int64_t opset = getOpset(model, "");
  if (opset == 0 || opset == onnxd::kOpset)
    return;
  try {
    alignEarlyBroadcasts(model);
    // A copy of a model whose weights are detached is small.
    onnx::ModelProto converted = onnx::version_conversion::ConvertVersion(
        model, static_cast<int>(onnxd::kOpset));
    // Scan of opset 8 has a batch dim, which the converter drops from the
    // model's own inputs: that would be another model.
    if (getRanks(converted.graph().input()) !=
        getRanks(model.graph().input())) {
      problems.push_back(
          {"", "", 0, "",
           "unsupported: converting opset " + std::to_string(opset) + " to " +
               std::to_string(onnxd::kOpset) + " changes the model's inputs"});
      return;
    }
    model = std::move(converted);
    keepEarlyMeanings(model, opset);
  } catch (const std::exception &error) {
    problems.push_back(
        {"", "", 0, "",
         "opset " + std::to_string(opset) + " cannot be converted to " +
             std::to_string(onnxd::kOpset) + ": " + tidyMessage(error.what())});
  }
}

void dlc::fillDefaultAttributes(onnx::NodeProto &node,
                                const onnx::OpSchema &schema) {
  llvm::StringSet<> present;
  for (const auto &attribute : node.attribute())
    present.insert(attribute.name());
  // The schema's map is unordered; sorted, the module prints the same always.
  std::map<std::string, const onnx::AttributeProto *> missing;
  for (const auto &[name, attribute] : schema.attributes())
    if (attribute.default_value.has_type() && !present.contains(name))
      missing[name] = &attribute.default_value;
  for (const auto &[name, value] : missing) {
    *node.add_attribute() = *value;
    node.mutable_attribute(node.attribute_size() - 1)->set_name(name);
  }
}

void dlc::fillDefaultAttributes(onnx::ModelProto &model) {
  walkNodes(*model.mutable_graph(), [&](onnx::NodeProto &node) {
    std::string domain = canonicalDomain(node.domain()).str();
    if (const auto *schema = onnx::OpSchemaRegistry::Schema(
            node.op_type(), static_cast<int>(getOpset(model, domain)), domain))
      fillDefaultAttributes(node, *schema);
  });
}

void dlc::fillDefaultAttributesInside(onnx::NodeProto &node) {
  std::string domain = canonicalDomain(node.domain()).str();
  int version = domain.empty() ? static_cast<int>(onnxd::kOpset) : 1;
  if (const auto *schema =
          onnx::OpSchemaRegistry::Schema(node.op_type(), version, domain))
    fillDefaultAttributes(node, *schema);
  for (auto &attribute : *node.mutable_attribute())
    if (attribute.has_g())
      for (auto &inner : *attribute.mutable_g()->mutable_node())
        fillDefaultAttributesInside(inner);
}

/// Splits "(op_type:X, node name: Y): reason" as inference writes it.
static ModelProblem parseInferenceError(int64_t sourceOpset,
                                        llvm::StringRef line) {
  ModelProblem problem;
  if (!line.consume_front("(op_type:")) {
    problem.reason = tidyMessage(line);
    return problem;
  }
  auto [head, reason] = line.split("): ");
  auto [op, name] = head.split(", node name: ");
  problem.op = op.str();
  problem.where = "node '" + name.str() + "'";
  problem.opset = sourceOpset;
  problem.reason = tidyMessage(reason);
  return problem;
}

void dlc::inferTypes(onnx::ModelProto &model, int64_t sourceOpset,
                     std::vector<ModelProblem> &problems) {
  // What a file says about values in between is often stale; it is recomputed.
  model.mutable_graph()->clear_value_info();
  // Data propagation stays off: it makes one object for every element of every
  // 1-D integer tensor, whatever its length. The conversion to graph ops folds.
  onnx::ShapeInferenceOptions options(/*check_type=*/true, /*strict_mode=*/1,
                                      /*data_prop=*/false);
  onnx::ModelProto attempt = model;
  std::string message;
  try {
    onnx::shape_inference::InferShapes(
        attempt, onnx::OpSchemaRegistry::Instance(), options);
    model = std::move(attempt);
    return;
  } catch (const std::exception &error) {
    message = error.what();
  }
  // A declared output shape that the graph does not produce is common in
  // exported models and harmless: the shape that is produced counts.
  for (auto &output : *model.mutable_graph()->mutable_output())
    if (output.type().has_tensor_type())
      output.mutable_type()->mutable_tensor_type()->clear_shape();
  try {
    onnx::shape_inference::InferShapes(
        model, onnx::OpSchemaRegistry::Instance(), options);
    return;
  } catch (const std::exception &error) {
    message = error.what();
  }
  llvm::StringRef rest = message;
  rest.consume_front("[ShapeInferenceError] ");
  rest.consume_front("[TypeInferenceError] ");
  rest.consume_front("Inference error(s): ");
  while (!rest.empty()) {
    auto [line, tail] = rest.split("\n(op_type:");
    problems.push_back(parseInferenceError(sourceOpset, line));
    if (tail.empty())
      break;
    rest = llvm::StringRef(tail.data() - strlen("(op_type:"),
                           tail.size() + strlen("(op_type:"));
  }
}
