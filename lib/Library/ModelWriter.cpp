// Protobuf by hand: no MLIR, so that adding an operation compiles in seconds.
#include "ModelWriter.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringSwitch.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

const ElementType *dlc::library::findType(StringRef name) {
  using P = onnx::TensorProto;
  static const ElementType types[] = {
      {"f32", P::FLOAT, 2, 32, "float"},
      {"f16", P::FLOAT16, 2, 16, "uint16_t"},
      {"bf16", P::BFLOAT16, 4, 16, "uint16_t"},
      {"i8", P::INT8, 0, 8, "int8_t"},
      {"u8", P::UINT8, 1, 8, "uint8_t"},
      {"i32", P::INT32, 0, 32, "int32_t"},
      {"i64", P::INT64, 0, 64, "int64_t"},
      {"f64", P::DOUBLE, 2, 64, "double"},
      {"bool", P::BOOL, 6, 8, "uint8_t"},
  };
  for (const ElementType &type : types)
    if (name == type.name)
      return &type;
  return nullptr;
}

int64_t Extent::evaluate(ArrayRef<int64_t> dims) const {
  return dim < 0 ? factor
                 : std::max<int64_t>(dims[dim] + offset, 0) / divisor * factor;
}

std::string Extent::str(ArrayRef<Dim> dims) const {
  if (dim < 0)
    return std::to_string(factor);
  std::string text = dims[dim].name;
  if (offset)
    text = "(" + text + (offset > 0 ? " + " : " - ") +
           std::to_string(std::abs(offset)) + ")";
  if (divisor != 1)
    text += " / " + std::to_string(divisor);
  if (factor != 1)
    text += " * " + std::to_string(factor);
  return text;
}

ModelWriter::ModelWriter(StringRef name) {
  model.set_ir_version(10);
  auto *opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(24);
  opset = model.add_opset_import();
  opset->set_domain("com.microsoft");
  opset->set_version(1);
  graph = model.mutable_graph();
  graph->set_name(name.str());
}

void ModelWriter::declare(const Tensor &tensor, ArrayRef<Dim> dims,
                          ArrayRef<Range> ranges) {
  auto *value = tensor.isOutput ? graph->add_output() : graph->add_input();
  value->set_name(tensor.name);
  auto *type = value->mutable_type()->mutable_tensor_type();
  type->set_elem_type(tensor.type->onnx);
  std::vector<int64_t> sizes;
  for (const Range &range : ranges)
    sizes.push_back(range.min);
  auto *shape = type->mutable_shape();
  for (const Extent &extent : tensor.extents) {
    auto *dim = shape->add_dim();
    if (extent.dim < 0 || ranges[extent.dim].isFixed())
      dim->set_dim_value(extent.evaluate(sizes));
    else if (extent.offset == 0 && extent.divisor == 1 && extent.factor == 1)
      dim->set_dim_param(dims[extent.dim].name);
  }
}

void ModelWriter::declareConstant(const Tensor &tensor,
                                  ArrayRef<Range> ranges) {
  auto *constant = graph->add_initializer();
  constant->set_name(tensor.name);
  constant->set_data_type(tensor.type->onnx);
  constant->set_data_location(onnx::TensorProto::EXTERNAL);
  auto *location = constant->add_external_data();
  location->set_key("location");
  location->set_value(kPackedFile);
  std::vector<int64_t> sizes;
  for (const Range &range : ranges)
    sizes.push_back(range.min);
  for (const Extent &extent : tensor.extents)
    constant->add_dims(extent.evaluate(sizes));
}

std::string ModelWriter::add(StringRef op, ArrayRef<std::string> inputs,
                             ArrayRef<NodeAttribute> attributes,
                             StringRef domain) {
  auto *node = graph->add_node();
  node->set_op_type(op.str());
  node->set_domain(domain.str());
  for (const std::string &input : inputs)
    node->add_input(input);
  std::string result = op.lower() + "." + std::to_string(numValues++);
  node->set_name(result);
  node->add_output(result);
  for (const NodeAttribute &attribute : attributes) {
    auto *proto = node->add_attribute();
    proto->set_name(attribute.name);
    if (auto *i = std::get_if<int64_t>(&attribute.value)) {
      proto->set_type(onnx::AttributeProto::INT);
      proto->set_i(*i);
    } else if (auto *f = std::get_if<float>(&attribute.value)) {
      proto->set_type(onnx::AttributeProto::FLOAT);
      proto->set_f(*f);
    } else if (auto *s = std::get_if<std::string>(&attribute.value)) {
      proto->set_type(onnx::AttributeProto::STRING);
      proto->set_s(*s);
    } else {
      proto->set_type(onnx::AttributeProto::INTS);
      for (int64_t value : std::get<std::vector<int64_t>>(attribute.value))
        proto->add_ints(value);
    }
  }
  return result;
}

std::string ModelWriter::scalar(double value, const ElementType &type) {
  auto *tensor = graph->add_initializer();
  std::string name = "constant." + std::to_string(numValues++);
  tensor->set_name(name);
  tensor->set_data_type(type.onnx);
  if (type.onnx == onnx::TensorProto::FLOAT) {
    tensor->add_float_data(static_cast<float>(value));
    return name;
  }
  llvm::APFloat number(value);
  bool loses = false;
  number.convert(type.onnx == onnx::TensorProto::FLOAT16
                     ? llvm::APFloat::IEEEhalf()
                     : llvm::APFloat::BFloat(),
                 llvm::APFloat::rmNearestTiesToEven, &loses);
  uint64_t bits = number.bitcastToAPInt().getZExtValue();
  char bytes[2] = {static_cast<char>(bits), static_cast<char>(bits >> 8)};
  tensor->set_raw_data(std::string(bytes, 2));
  return name;
}

std::string ModelWriter::integer(int64_t value) {
  std::string name = integers({value});
  graph->mutable_initializer()->rbegin()->clear_dims();
  return name;
}

std::string ModelWriter::byte(uint8_t value) {
  auto *tensor = graph->add_initializer();
  std::string name = "constant." + std::to_string(numValues++);
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::UINT8);
  tensor->add_int32_data(value);
  return name;
}

std::string ModelWriter::integers(ArrayRef<int64_t> values) {
  auto *tensor = graph->add_initializer();
  std::string name = "constant." + std::to_string(numValues++);
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::INT64);
  tensor->add_dims(static_cast<int64_t>(values.size()));
  for (int64_t value : values)
    tensor->add_int64_data(value);
  return name;
}

void ModelWriter::finish(const std::string &value, StringRef output) {
  unsigned uses = 0;
  onnx::NodeProto *producer = nullptr;
  for (auto &node : *graph->mutable_node()) {
    if (node.output(0) == value)
      producer = &node;
    for (const std::string &input : node.input())
      uses += input == value;
  }
  if (producer && !uses) {
    producer->set_output(0, output.str());
    return;
  }
  std::string copy = add("Identity", {value});
  graph->mutable_node()->rbegin()->set_output(0, output.str());
}

std::string ModelWriter::str() const { return model.SerializeAsString(); }
