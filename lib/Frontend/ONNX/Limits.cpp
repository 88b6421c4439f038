//===- Limits.cpp - what no model may contain -----------------------------===//
//
// onnx's own tools trust a model to be reasonable: the checker accepts opset
// 9999, the inliner expands forty nested functions to 2^40 nodes. This walk
// comes first, costs time linear in the file, and bounds everything after it.
//
//===----------------------------------------------------------------------===//

#include "Prepare.h"
#include "TensorData.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "onnx/defs/schema.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace dlc;

namespace {
class LimitChecker {
public:
  LimitChecker(const onnx::ModelProto &model, const ImportOptions &options,
               std::vector<ModelProblem> &problems)
      : model(model), limits(options.limits), problems(problems) {}

  void run();

private:
  void report(std::string where, std::string reason) {
    problems.push_back({std::move(where), "", 0, "", std::move(reason)});
  }
  void checkVersions();
  void checkGraph(const onnx::GraphProto &graph, unsigned depth);
  void checkNode(const onnx::NodeProto &node, unsigned depth);
  void checkTensorOf(const onnx::TensorProto &tensor, const std::string &where);
  void checkType(const onnx::TypeProto &type, const std::string &where,
                 unsigned depth = 0);
  template <typename Nodes>
  uint64_t countNodes(const Nodes &nodes);
  uint64_t countCall(const onnx::NodeProto &node);

  const onnx::ModelProto &model;
  const ModelLimits &limits;
  std::vector<ModelProblem> &problems;
  uint64_t numNodes = 0, numBytes = 0; ///< in the file
  llvm::StringMap<const onnx::FunctionProto *> functions;
  /// Nodes after inlining, by function; kInProgress while it is being counted.
  llvm::StringMap<uint64_t> expanded;
  static constexpr uint64_t kInProgress = ~uint64_t(0);
  /// onnx's checker and inliner recurse along calls.
  static constexpr unsigned kMaxCallDepth = 100;
  unsigned callDepth = 0;
  bool tooDeep = false;
};
} // namespace

static std::string getFunctionKey(llvm::StringRef domain, llvm::StringRef name,
                                  llvm::StringRef overload) {
  return (canonicalDomain(domain) + ":" + name + ":" + overload).str();
}

void LimitChecker::checkVersions() {
  if (!model.has_graph())
    return report("", "is not an ONNX model: it has no graph");
  if (model.ir_version() < 1 || model.ir_version() > onnx::Version::IR_VERSION)
    report("", "IR version " + std::to_string(model.ir_version()) +
                   " is not one of 1 to " +
                   std::to_string(onnx::Version::IR_VERSION));
  const auto &known =
      onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  llvm::StringSet<> seen;
  for (const auto &opset : model.opset_import()) {
    std::string domain = canonicalDomain(opset.domain()).str();
    std::string shown = domain.empty() ? "ai.onnx" : domain;
    if (!seen.insert(domain).second)
      report("", "imports domain " + shown + " twice");
    auto range = known.find(domain);
    if (range != known.end() && (opset.version() < range->second.first ||
                                 opset.version() > range->second.second))
      report("", "opset " + std::to_string(opset.version()) + " of " + shown +
                     " is not one of " + std::to_string(range->second.first) +
                     " to " + std::to_string(range->second.second));
  }
}

void LimitChecker::checkTensorOf(const onnx::TensorProto &tensor,
                                 const std::string &where) {
  std::string reason = checkTensor(tensor);
  if (!reason.empty())
    report(where,
           "tensor " +
               (tensor.name().empty() ? "" : "'" + tensor.name() + "' ") +
               reason);
  else if (std::optional<uint64_t> elements = countElements(
               {tensor.dims().data(), static_cast<size_t>(tensor.dims_size())});
           elements && *elements > limits.elements)
    report(where, "has more than " + std::to_string(limits.elements) +
                      " elements (-max-elements)");
  else if (tensor.data_type() != onnx::TensorProto::STRING)
    numBytes += *getPackedBytes(tensor);
}

void LimitChecker::checkType(const onnx::TypeProto &type,
                             const std::string &where, unsigned depth) {
  if (depth > limits.nesting)
    return report(where, "type is nested more than " +
                             std::to_string(limits.nesting) + " deep");
  if (type.has_sequence_type())
    return checkType(type.sequence_type().elem_type(), where, depth + 1);
  if (type.has_optional_type())
    return checkType(type.optional_type().elem_type(), where, depth + 1);
  if (type.has_map_type())
    return checkType(type.map_type().value_type(), where, depth + 1);
  if (!type.has_tensor_type())
    return;
  std::vector<int64_t> dims;
  for (const auto &dim : type.tensor_type().shape().dim())
    if (dim.has_dim_value())
      dims.push_back(dim.dim_value());
  if (!countElements(dims))
    report(where,
           "has a dim that is negative or a product of dims that is too large");
}

void LimitChecker::checkNode(const onnx::NodeProto &node, unsigned depth) {
  ++numNodes;
  std::string where = describeNode(node);
  for (const auto &attribute : node.attribute()) {
    if (attribute.has_t())
      checkTensorOf(attribute.t(), where);
    for (const auto &tensor : attribute.tensors())
      checkTensorOf(tensor, where);
    if (attribute.has_sparse_tensor() || attribute.sparse_tensors_size())
      problems.push_back(
          {where, describeOp(node), 0, "", "sparse tensors are not supported"});
    if (attribute.has_g())
      checkGraph(attribute.g(), depth + 1);
    for (const auto &graph : attribute.graphs())
      checkGraph(graph, depth + 1);
  }
}

void LimitChecker::checkGraph(const onnx::GraphProto &graph, unsigned depth) {
  if (depth > limits.nesting) {
    if (!tooDeep)
      report("graph '" + graph.name() + "'",
             "is nested more than " + std::to_string(limits.nesting) + " deep");
    tooDeep = true;
    return;
  }
  llvm::StringSet<> names;
  for (const auto &tensor : graph.initializer()) {
    checkTensorOf(tensor, "initializer '" + tensor.name() + "'");
    if (!names.insert(tensor.name()).second)
      report("initializer '" + tensor.name() + "'", "is defined twice");
  }
  if (graph.sparse_initializer_size())
    report("graph '" + graph.name() + "'",
           "sparse initializers are not supported");
  for (const auto *list :
       {&graph.input(), &graph.output(), &graph.value_info()})
    for (const auto &value : *list)
      checkType(value.type(), "value '" + value.name() + "'");
  for (const auto &node : graph.node())
    checkNode(node, depth);
}

uint64_t LimitChecker::countCall(const onnx::NodeProto &node) {
  auto callee = functions.find(
      getFunctionKey(node.domain(), node.op_type(), node.overload()));
  if (callee == functions.end())
    return 1;
  uint64_t &memo =
      expanded[callee->first()]; // entries of a StringMap do not move
  if (memo == kInProgress) {
    problems.push_back({describeNode(node), describeOp(node), 0, "",
                        "the function calls itself"});
    return 1;
  }
  if (memo)
    return memo;
  if (++callDepth > kMaxCallDepth) {
    problems.push_back({describeNode(node), describeOp(node), 0, "",
                        "functions call each other more than " +
                            std::to_string(kMaxCallDepth) + " deep"});
    return 1;
  }
  memo = kInProgress;
  memo = std::max<uint64_t>(1, countNodes(callee->second->node()));
  --callDepth;
  return memo;
}

/// Nodes after inlining, subgraphs included; stays at one past the limit.
template <typename Nodes>
uint64_t LimitChecker::countNodes(const Nodes &nodes) {
  uint64_t total = 0;
  auto add = [&](uint64_t count) {
    total = std::min(total + count, limits.expansion + 1);
  };
  for (const auto &node : nodes) {
    add(countCall(node));
    for (const auto &attribute : node.attribute()) {
      if (attribute.has_g())
        add(countNodes(attribute.g().node()));
      for (const auto &graph : attribute.graphs())
        add(countNodes(graph.node()));
    }
  }
  return total;
}

void LimitChecker::run() {
  checkVersions();
  if (!model.has_graph())
    return;
  for (const auto &function : model.functions()) {
    if (!functions
             .try_emplace(getFunctionKey(function.domain(), function.name(),
                                         function.overload()),
                          &function)
             .second)
      report("function '" + function.name() + "'", "is defined twice");
    for (const auto &node : function.node())
      checkNode(node, 0);
  }
  checkGraph(model.graph(), 0);
  if (tooDeep)
    return;
  if (numNodes > limits.nodes)
    report("", "has " + std::to_string(numNodes) + " nodes, the limit is " +
                   std::to_string(limits.nodes) + " (-max-nodes)");
  if (numBytes > limits.bytes)
    report("", "has " + std::to_string(numBytes) +
                   " bytes of weights, the limit is " +
                   std::to_string(limits.bytes) + " (-max-bytes)");
  if (countNodes(model.graph().node()) > limits.expansion)
    report("", "has more than " + std::to_string(limits.expansion) +
                   " nodes after its functions are inlined (-max-expansion)");
}

std::string dlc::describeNode(const onnx::NodeProto &node) {
  if (!node.name().empty())
    return "node '" + node.name() + "'";
  for (const auto &output : node.output())
    if (!output.empty())
      return "node of '" + output + "'";
  return "unnamed node";
}

std::string dlc::describeOp(const onnx::NodeProto &node) {
  llvm::StringRef domain = canonicalDomain(node.domain());
  return domain.empty() ? node.op_type() : domain.str() + "." + node.op_type();
}

int64_t dlc::getOpset(const onnx::ModelProto &model, llvm::StringRef domain) {
  for (const auto &opset : model.opset_import())
    if (canonicalDomain(opset.domain()) == canonicalDomain(domain))
      return opset.version();
  // Before IR version 3 models had no imports and meant the first opset.
  return canonicalDomain(domain).empty() && model.opset_import_size() == 0 ? 1
                                                                           : 0;
}

void dlc::checkLimits(const onnx::ModelProto &model,
                      const ImportOptions &options,
                      std::vector<ModelProblem> &problems) {
  LimitChecker(model, options, problems).run();
}
