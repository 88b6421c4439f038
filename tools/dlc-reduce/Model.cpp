#include "Model.h"

#include "onnx/defs/schema.h"
#include "onnx/shape_inference/implementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

#include <cstring>
#include <functional>
#include <set>

using namespace dlc;
using llvm::BitVector;

TypeMap dlc::inferTypes(const onnx::ModelProto &model) {
  TypeMap types;
  onnx::ModelProto copy = model;
  try {
    onnx::ShapeInferenceOptions options(/*check_type=*/false, /*strict_mode=*/0,
                                        /*data_prop=*/true);
    onnx::shape_inference::InferShapes(copy, onnx::OpSchemaRegistry::Instance(),
                                       options);
  } catch (const std::exception &) {
    // What the model itself says is still there.
  }
  const onnx::GraphProto &graph = copy.graph();
  for (auto *list : {&graph.value_info(), &graph.input(), &graph.output()})
    for (const onnx::ValueInfoProto &info : *list)
      if (info.type().has_tensor_type())
        types[info.name()] = info.type();
  return types;
}

static void collectReads(const onnx::GraphProto &graph,
                         const std::function<void(const std::string &)> &read) {
  std::set<std::string> inner;
  for (const auto &input : graph.input())
    inner.insert(input.name());
  for (const auto &tensor : graph.initializer())
    inner.insert(tensor.name());
  for (const onnx::NodeProto &node : graph.node()) {
    for (const std::string &name : getReads(node))
      if (!inner.count(name))
        read(name);
    inner.insert(node.output().begin(), node.output().end());
  }
  for (const auto &output : graph.output())
    if (!inner.count(output.name()))
      read(output.name());
}

std::vector<std::string> dlc::getReads(const onnx::NodeProto &node) {
  std::vector<std::string> names;
  auto read = [&](const std::string &name) {
    if (!name.empty() && !llvm::is_contained(names, name))
      names.push_back(name);
  };
  for (const std::string &name : node.input())
    read(name);
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (attribute.has_g())
      collectReads(attribute.g(), read);
    for (const onnx::GraphProto &graph : attribute.graphs())
      collectReads(graph, read);
  }
  return names;
}

// Removes the elements of a repeated field for which `drop` holds.
template <typename Field, typename Drop>
static void removeIf(Field *field, Drop drop) {
  int kept = 0;
  for (int i = 0; i < field->size(); ++i)
    if (!drop(field->Get(i))) {
      if (kept != i)
        field->SwapElements(kept, i);
      ++kept;
    }
  field->DeleteSubrange(kept, field->size() - kept);
}

void dlc::dropUnused(onnx::ModelProto &model) {
  onnx::GraphProto *graph = model.mutable_graph();
  llvm::StringSet<> needed;
  for (const auto &output : graph->output())
    needed.insert(output.name());
  BitVector used(graph->node_size());
  for (int i = graph->node_size(); i-- > 0;) {
    const onnx::NodeProto &node = graph->node(i);
    if (llvm::none_of(node.output(), [&](const std::string &name) {
          return needed.contains(name);
        }))
      continue;
    used.set(i);
    for (const std::string &name : getReads(node))
      needed.insert(name);
  }
  int index = 0;
  removeIf(graph->mutable_node(),
           [&](const onnx::NodeProto &) { return !used.test(index++); });
  auto isUnneeded = [&](const auto &item) {
    return !needed.contains(item.name());
  };
  removeIf(graph->mutable_initializer(), isUnneeded);
  removeIf(graph->mutable_input(), isUnneeded);
  graph->clear_value_info();
}

bool dlc::keepOutputs(onnx::ModelProto &model, const BitVector &keep) {
  int index = 0;
  removeIf(model.mutable_graph()->mutable_output(),
           [&](const onnx::ValueInfoProto &) { return !keep.test(index++); });
  dropUnused(model);
  return model.graph().output_size() > 0 && model.graph().node_size() > 0;
}

bool dlc::keepNodes(onnx::ModelProto &model, const BitVector &keep,
                    const TypeMap &types, bool exposeCut) {
  onnx::GraphProto *graph = model.mutable_graph();
  llvm::StringSet<> madeByKept, madeByGone, known;
  for (const auto &input : graph->input())
    known.insert(input.name());
  for (const auto &tensor : graph->initializer())
    known.insert(tensor.name());
  for (auto [i, node] : llvm::enumerate(graph->node()))
    for (const std::string &name : node.output())
      if (!name.empty())
        (keep.test(i) ? madeByKept : madeByGone).insert(name);

  // What crosses the cut, in both directions.
  std::vector<std::string> inputs, outputs;
  llvm::StringSet<> isOutput;
  removeIf(graph->mutable_output(), [&](const onnx::ValueInfoProto &output) {
    return madeByGone.contains(output.name());
  });
  for (const auto &output : graph->output())
    isOutput.insert(output.name());
  for (auto [i, node] : llvm::enumerate(graph->node()))
    for (const std::string &name : getReads(node)) {
      if (keep.test(i) && madeByGone.contains(name)) {
        if (known.insert(name).second)
          inputs.push_back(name);
      } else if (!keep.test(i) && exposeCut && madeByKept.contains(name) &&
                 isOutput.insert(name).second) {
        outputs.push_back(name);
      }
    }
  auto describe = [&](const std::string &name, onnx::ValueInfoProto *info) {
    auto it = types.find(name);
    if (it == types.end())
      return false;
    info->set_name(name);
    *info->mutable_type() = it->second;
    return true;
  };
  for (const std::string &name : inputs)
    if (!describe(name, graph->add_input()))
      return false;
  for (const std::string &name : outputs)
    if (!describe(name, graph->add_output()))
      return false;
  int index = 0;
  removeIf(graph->mutable_node(),
           [&](const onnx::NodeProto &) { return !keep.test(index++); });
  dropUnused(model);
  return graph->node_size() > 0 && graph->output_size() > 0;
}

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

static int64_t getElementSize(int type) {
  switch (type) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::UINT32:
    return 4;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::INT64:
  case onnx::TensorProto::UINT64:
    return 8;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT16:
    return 2;
  case onnx::TensorProto::BOOL:
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT8:
    return 1;
  default:
    return 0; // left alone
  }
}

// The first `to` of `from` along every axis of that size. Only raw data is cut.
static bool cutTensor(onnx::TensorProto &tensor, int64_t from, int64_t to) {
  int64_t size = getElementSize(tensor.data_type());
  if (!size || !tensor.has_raw_data())
    return false;
  bool changed = false;
  for (int axis = 0; axis < tensor.dims_size(); ++axis) {
    if (tensor.dims(axis) != from)
      continue;
    int64_t outer = 1, inner = size;
    for (int i = 0; i < tensor.dims_size(); ++i)
      (i < axis ? outer : inner) *= i == axis ? 1 : tensor.dims(i);
    const std::string bytes = tensor.raw_data();
    if (static_cast<int64_t>(bytes.size()) != outer * from * inner)
      return false;
    std::string cut;
    for (int64_t i = 0; i < outer; ++i)
      cut.append(bytes, i * from * inner, to * inner);
    tensor.set_raw_data(cut);
    tensor.set_dims(axis, to);
    changed = true;
  }
  return changed;
}

// Elements of a list of sizes (an int64 vector) that are `from`.
static bool replaceElements(onnx::TensorProto &tensor, int64_t from,
                            int64_t to) {
  if (tensor.data_type() != onnx::TensorProto::INT64 || tensor.dims_size() > 1)
    return false;
  bool changed = false;
  std::string bytes = tensor.raw_data();
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    int64_t value;
    std::memcpy(&value, bytes.data() + i, 8);
    if (value != from)
      continue;
    std::memcpy(bytes.data() + i, &to, 8);
    changed = true;
  }
  if (changed)
    tensor.set_raw_data(bytes);
  for (int i = 0; i < tensor.int64_data_size(); ++i)
    if (tensor.int64_data(i) == from) {
      tensor.set_int64_data(i, to);
      changed = true;
    }
  return changed;
}

bool dlc::replaceSize(onnx::ModelProto &model, int64_t from, int64_t to) {
  onnx::GraphProto *graph = model.mutable_graph();
  bool changed = false;
  for (onnx::ValueInfoProto &input : *graph->mutable_input()) {
    if (!input.type().has_tensor_type())
      continue;
    auto *shape = input.mutable_type()->mutable_tensor_type()->mutable_shape();
    for (auto &dim : *shape->mutable_dim())
      if (dim.has_dim_value() && dim.dim_value() == from) {
        dim.set_dim_value(to);
        changed = true;
      }
  }
  for (onnx::TensorProto &tensor : *graph->mutable_initializer())
    for (bool done :
         {replaceElements(tensor, from, to), cutTensor(tensor, from, to)})
      changed |= done;
  if (!changed)
    return false;
  graph->clear_value_info();
  for (onnx::ValueInfoProto &output : *graph->mutable_output())
    if (output.type().has_tensor_type())
      output.mutable_type()->mutable_tensor_type()->clear_shape();
  return true;
}

std::vector<int64_t> dlc::getSizes(const onnx::ModelProto &model) {
  std::set<int64_t> sizes;
  for (const onnx::ValueInfoProto &input : model.graph().input())
    for (const auto &dim : input.type().tensor_type().shape().dim())
      if (dim.has_dim_value() && dim.dim_value() > 1)
        sizes.insert(dim.dim_value());
  for (const onnx::TensorProto &tensor : model.graph().initializer())
    for (int64_t size : tensor.dims())
      if (size > 1)
        sizes.insert(size);
  return {sizes.rbegin(), sizes.rend()};
}
