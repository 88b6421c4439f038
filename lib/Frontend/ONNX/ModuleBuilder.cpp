//===- ModuleBuilder.cpp - ONNX graphs to onnx operations -----------------===//
//
// A one to one copy: no rewriting happens here, so that what a reader sees in
// the module is what the model says (after conversion to one opset).
//
//===----------------------------------------------------------------------===//

#include "ModuleBuilder.h"
#include "Prepare.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace dlc;
using namespace mlir;

Type ModuleBuilder::convertType(const onnx::TypeProto &type,
                                const std::string &where) {
  MLIRContext *context = builder.getContext();
  if (type.has_sequence_type()) {
    Type element = convertType(type.sequence_type().elem_type(), where);
    return element ? onnxd::SequenceType::get(context, element) : Type();
  }
  if (type.has_optional_type()) {
    Type element = convertType(type.optional_type().elem_type(), where);
    return element ? onnxd::OptionalType::get(context, element) : Type();
  }
  if (type.has_map_type()) {
    Type key = onnxd::getElementType(context, type.map_type().key_type());
    Type value = convertType(type.map_type().value_type(), where);
    return key && value ? onnxd::MapType::get(context, key, value) : Type();
  }
  if (!type.has_tensor_type()) {
    problems.push_back({where, "", 0, "",
                        type.has_sparse_tensor_type()
                            ? "sparse tensors are not supported"
                            : "has no type"});
    return nullptr;
  }
  const auto &tensor = type.tensor_type();
  Type element = onnxd::getElementType(context, tensor.elem_type());
  if (!element) {
    problems.push_back(
        {where, "", 0, "",
         "unknown data type " + std::to_string(tensor.elem_type())});
    return nullptr;
  }
  if (!tensor.has_shape())
    return UnrankedTensorType::get(element);
  SmallVector<int64_t> dims;
  SmallVector<Attribute> names;
  bool anyName = false;
  for (const auto &dim : tensor.shape().dim()) {
    dims.push_back(dim.has_dim_value() ? dim.dim_value()
                                       : ShapedType::kDynamic);
    names.push_back(
        builder.getStringAttr(dim.has_dim_param() ? dim.dim_param() : ""));
    anyName |= dim.has_dim_param() && !dim.dim_param().empty();
  }
  return RankedTensorType::get(
      dims, element, anyName ? builder.getArrayAttr(names) : Attribute());
}

Value ModuleBuilder::lookup(StringRef name) {
  for (Scope &scope : llvm::reverse(scopes)) {
    auto found = scope.find(name);
    if (found != scope.end())
      return found->second;
  }
  // A weight is made at the top of the function when it is first used, so that
  // weights nobody uses leave no trace.
  if (file && file->isWeight(name)) {
    OpBuilder::InsertionGuard guard(builder);
    auto function =
        builder.getBlock()->getParent()->getParentOfType<func::FuncOp>();
    builder.setInsertionPointToStart(&function.front());
    Value value = makeConstant(*file->getWeight(name), name);
    scopes.front()[name] = value;
    return value;
  }
  return nullptr;
}

void ModuleBuilder::recordTypes(const onnx::GraphProto &graph) {
  types.emplace_back();
  auto record = [&](const auto &values) {
    for (const auto &value : values)
      if (value.type().value_case() != onnx::TypeProto::VALUE_NOT_SET)
        if (Type type =
                convertType(value.type(), "value '" + value.name() + "'"))
          types.back()[value.name()] = type;
  };
  record(graph.value_info());
  record(graph.output());
}

Type ModuleBuilder::typeOf(const std::string &name) {
  if (name.empty())
    return builder.getNoneType();
  for (auto &map : llvm::reverse(types)) {
    auto found = map.find(name);
    if (found != map.end())
      return found->second;
  }
  return onnxd::AnyType::get(builder.getContext());
}

Value ModuleBuilder::makeConstant(const onnx::TensorProto &tensor,
                                  StringRef name) {
  ElementsAttr value = ModelFile::makeAttribute(
      file, tensor, name, maxInlineBytes, builder.getContext());
  OperationState state(NameLoc::get(builder.getStringAttr(name)),
                       "onnx.Constant");
  state.addTypes(value.getShapedType());
  state.addAttribute("value", value);
  return builder.create(state)->getResult(0);
}

Value ModuleBuilder::getNone() {
  OperationState state(currentLocation, onnxd::kNoneOp);
  state.addTypes(builder.getNoneType());
  return builder.create(state)->getResult(0);
}

Attribute ModuleBuilder::convertAttribute(const onnx::AttributeProto &attribute,
                                          const onnx::NodeProto &node) {
  auto tensor = [&](const onnx::TensorProto &value) -> Attribute {
    return ModelFile::makeAttribute(
        file, value, value.name().empty() ? node.name() : value.name(),
        maxInlineBytes, builder.getContext());
  };
  switch (attribute.type()) {
  case onnx::AttributeProto::INT:
    return builder.getI64IntegerAttr(attribute.i());
  case onnx::AttributeProto::INTS:
    return builder.getDenseI64ArrayAttr(
        {attribute.ints().data(), static_cast<size_t>(attribute.ints_size())});
  case onnx::AttributeProto::FLOAT:
    return builder.getF32FloatAttr(attribute.f());
  case onnx::AttributeProto::FLOATS:
    return builder.getDenseF32ArrayAttr(
        {attribute.floats().data(),
         static_cast<size_t>(attribute.floats_size())});
  case onnx::AttributeProto::STRING:
    return builder.getStringAttr(attribute.s());
  case onnx::AttributeProto::STRINGS: {
    SmallVector<Attribute> texts;
    for (const auto &text : attribute.strings())
      texts.push_back(builder.getStringAttr(text));
    return builder.getArrayAttr(texts);
  }
  case onnx::AttributeProto::TENSOR:
    return tensor(attribute.t());
  case onnx::AttributeProto::TENSORS: {
    SmallVector<Attribute> values;
    for (const auto &value : attribute.tensors())
      values.push_back(tensor(value));
    return builder.getArrayAttr(values);
  }
  case onnx::AttributeProto::TYPE_PROTO:
    if (Type type = convertType(attribute.tp(), describeNode(node)))
      return TypeAttr::get(type);
    return nullptr;
  default:
    problems.push_back(
        {describeNode(node), describeOp(node), 0, "",
         "attribute '" + attribute.name() + "' of type " +
             onnx::AttributeProto::AttributeType_Name(attribute.type()) +
             " is not supported"});
    return nullptr;
  }
}

void ModuleBuilder::buildNode(const onnx::NodeProto &node) {
  std::string name = node.name();
  for (int i = 0; name.empty() && i < node.output_size(); ++i)
    name = node.output(i);
  currentLocation = bodyLocation
                        ? *bodyLocation
                        : Location(NameLoc::get(builder.getStringAttr(name)));

  SmallVector<Value> operands;
  for (const std::string &input : node.input()) {
    Value value = input.empty() ? getNone() : lookup(input);
    if (!value) {
      problems.push_back({describeNode(node), describeOp(node), 0, "",
                          "reads '" + input + "', which nothing defines"});
      return;
    }
    operands.push_back(value);
  }
  // Trailing omitted inputs say nothing.
  while (!operands.empty() && isa<NoneType>(operands.back().getType()) &&
         operands.back().getDefiningOp() &&
         operands.back().getDefiningOp()->getName().getStringRef() ==
             onnxd::kNoneOp &&
         operands.back().use_empty()) {
    operands.back().getDefiningOp()->erase();
    operands.pop_back();
  }

  OperationState state(currentLocation,
                       onnxd::makeOpName(node.domain(), node.op_type()));
  state.addOperands(operands);
  for (const std::string &output : node.output())
    state.addTypes(typeOf(output));
  SmallVector<Attribute> graphNames;
  SmallVector<const onnx::GraphProto *> graphs;
  for (const auto &attribute : node.attribute()) {
    if (attribute.type() == onnx::AttributeProto::GRAPH) {
      graphNames.push_back(builder.getStringAttr(attribute.name()));
      graphs.push_back(&attribute.g());
      state.addRegion();
    } else if (Attribute value = convertAttribute(attribute, node)) {
      state.addAttribute(attribute.name(), value);
    }
  }
  if (!graphNames.empty())
    state.addAttribute(onnxd::kGraphsAttr, builder.getArrayAttr(graphNames));
  Operation *op = builder.create(state);
  for (auto [graph, region] : llvm::zip(graphs, op->getRegions()))
    buildRegion(*graph, region);
  for (auto [output, result] : llvm::zip(node.output(), op->getResults()))
    if (!output.empty())
      define(output, result);
}

void ModuleBuilder::buildGraphBody(const onnx::GraphProto &graph) {
  for (const auto &tensor : graph.initializer())
    define(tensor.name(), makeConstant(tensor, tensor.name()));
  for (const auto &node : graph.node())
    buildNode(node);
}

void ModuleBuilder::buildRegion(const onnx::GraphProto &graph, Region &region) {
  OpBuilder::InsertionGuard guard(builder);
  Location location = currentLocation;
  Block *block = builder.createBlock(&region);
  scopes.emplace_back();
  recordTypes(graph);
  for (const auto &input : graph.input()) {
    Type type = input.type().value_case() == onnx::TypeProto::VALUE_NOT_SET
                    ? Type(onnxd::AnyType::get(builder.getContext()))
                    : convertType(input.type(), "input '" + input.name() + "'");
    if (type)
      define(input.name(),
             block->addArgument(
                 type, NameLoc::get(builder.getStringAttr(input.name()))));
  }
  buildGraphBody(graph);
  SmallVector<Value> results;
  for (const auto &output : graph.output()) {
    if (Value value = lookup(output.name()))
      results.push_back(value);
    else
      problems.push_back({"graph '" + graph.name() + "'", "", 0, "",
                          "output '" + output.name() + "' is never computed"});
  }
  OperationState state(location, onnxd::kReturnOp);
  state.addOperands(results);
  builder.create(state);
  types.pop_back();
  scopes.pop_back();
}

SmallVector<Value> ModuleBuilder::buildNodes(
    const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
    const llvm::StringMap<Value> &inputs, ArrayRef<std::string> outputs,
    Block *block, Location location) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToEnd(block);
  scopes.push_back(inputs);
  types.emplace_back();
  bodyLocation = location;
  for (const auto &node : nodes)
    buildNode(node);
  bodyLocation.reset();
  SmallVector<Value> results;
  for (const std::string &output : outputs)
    results.push_back(output.empty() ? Value() : lookup(output));
  types.pop_back();
  scopes.pop_back();
  return results;
}

OwningOpRef<ModuleOp> ModuleBuilder::buildModule(int64_t sourceOpset) {
  const onnx::ModelProto &model = file->model();
  const onnx::GraphProto &graph = model.graph();
  size_t before = problems.size();
  OwningOpRef<ModuleOp> module = ModuleOp::create(builder.getUnknownLoc());
  SmallVector<NamedAttribute> opsets;
  for (const auto &opset : model.opset_import()) {
    StringRef domain = canonicalDomain(opset.domain());
    opsets.push_back(
        builder.getNamedAttr(domain.empty() ? "ai.onnx" : domain,
                             builder.getI64IntegerAttr(opset.version())));
  }
  (*module)->setAttr(onnxd::kOpsetsAttr, builder.getDictionaryAttr(opsets));
  (*module)->setAttr(onnxd::kSourceOpsetAttr,
                     builder.getI64IntegerAttr(sourceOpset));

  llvm::StringMap<char> initializers;
  for (const auto &tensor : graph.initializer())
    initializers[tensor.name()];
  SmallVector<Type> inputTypes;
  SmallVector<const onnx::ValueInfoProto *> inputs;
  for (const auto &input : graph.input()) {
    // An input with an initializer is a constant that a caller might replace;
    // here it is a constant.
    if (initializers.contains(input.name()) || file->isWeight(input.name()))
      continue;
    Type type = convertType(input.type(), "input '" + input.name() + "'");
    if (!type)
      continue;
    inputTypes.push_back(type);
    inputs.push_back(&input);
  }
  builder.setInsertionPointToEnd(module->getBody());
  auto function = func::FuncOp::create(builder, builder.getUnknownLoc(), "main",
                                       builder.getFunctionType(inputTypes, {}));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToStart(block);
  scopes.emplace_back();
  recordTypes(graph);
  for (auto [input, argument] : llvm::zip(inputs, block->getArguments())) {
    argument.setLoc(NameLoc::get(builder.getStringAttr(input->name())));
    function.setArgAttr(argument.getArgNumber(), onnxd::kNameAttr,
                        builder.getStringAttr(input->name()));
    define(input->name(), argument);
  }
  buildGraphBody(graph);
  SmallVector<Value> results;
  for (const auto &output : graph.output()) {
    if (Value value = lookup(output.name()))
      results.push_back(value);
    else
      problems.push_back(
          {"output '" + output.name() + "'", "", 0, "", "is never computed"});
  }
  if (problems.size() != before)
    return nullptr;
  func::ReturnOp::create(builder, builder.getUnknownLoc(), results);
  function.setFunctionType(
      builder.getFunctionType(inputTypes, TypeRange(ValueRange(results))));
  for (auto [index, output] : llvm::enumerate(graph.output()))
    function.setResultAttr(index, onnxd::kNameAttr,
                           builder.getStringAttr(output.name()));
  return module;
}
