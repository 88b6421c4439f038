//===- ImportTests.cpp - reading model files ------------------------------===//
//
// What lit cannot see: that weights are not copied, that a module keeps its
// file alive, the kinds of errors, and values of every way to store a tensor.
//
//===----------------------------------------------------------------------===//

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "dlc/Frontend/ONNX/ConvertToGraph.h"
#include "dlc/Frontend/ONNX/Import.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "onnx/onnx_pb.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

#include <array>
#include <fstream>

using namespace dlc;
using namespace mlir;

namespace {

/// y = x + w with a weight that the test fills.
onnx::ModelProto makeAdd(const onnx::TensorProto &weight) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  auto *opset = model.add_opset_import();
  opset->set_version(18);
  auto &graph = *model.mutable_graph();
  graph.set_name("g");
  auto describe = [&](onnx::ValueInfoProto &value, const char *name) {
    value.set_name(name);
    auto &type = *value.mutable_type()->mutable_tensor_type();
    type.set_elem_type(weight.data_type());
    type.mutable_shape();
    for (int64_t dim : weight.dims())
      type.mutable_shape()->add_dim()->set_dim_value(dim);
  };
  describe(*graph.add_input(), "x");
  describe(*graph.add_output(), "y");
  *graph.add_initializer() = weight;
  graph.mutable_initializer(0)->set_name("w");
  auto &node = *graph.add_node();
  node.set_name("sum");
  node.set_op_type("Add");
  node.add_input("x");
  node.add_input("w");
  node.add_output("y");
  return model;
}

onnx::TensorProto makeTensor(int type, ArrayRef<int64_t> dims) {
  onnx::TensorProto tensor;
  tensor.set_data_type(type);
  for (int64_t dim : dims)
    tensor.add_dims(dim);
  return tensor;
}

llvm::Expected<ImportedModel> import(const onnx::ModelProto &model,
                                     MLIRContext &context,
                                     StringRef folder = "") {
  return importOnnxBytes(model.SerializeAsString(), folder, "test.onnx",
                         context);
}

ElementsAttr getWeight(ModuleOp module) {
  ElementsAttr value;
  module.walk([&](Operation *op) {
    if (op->getName().getStringRef() == "onnx.Constant")
      value = op->getAttrOfType<ElementsAttr>("value");
  });
  return value;
}

/// The error's problems, one a line.
std::string problems(llvm::Error error, ImportError::Kind kind) {
  std::string text;
  llvm::handleAllErrors(std::move(error), [&](const ImportError &e) {
    EXPECT_EQ(e.getKind(), kind);
    llvm::raw_string_ostream os(text);
    e.log(os);
  });
  return text;
}

class TemporaryFolder {
public:
  TemporaryFolder() {
    EXPECT_FALSE(llvm::sys::fs::createUniqueDirectory("dlc-import", path));
  }
  ~TemporaryFolder() { llvm::sys::fs::remove_directories(path); }
  std::string file(StringRef name) {
    SmallString<128> full = path;
    llvm::sys::path::append(full, name);
    return full.str().str();
  }
  SmallString<128> path;
};

TEST(Import, SmallWeightIsDense) {
  MLIRContext context;
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::FLOAT, {3});
  for (float value : {1.5f, -2.0f, 0.25f})
    tensor.add_float_data(value);
  auto imported = import(makeAdd(tensor), context);
  ASSERT_TRUE(static_cast<bool>(imported))
      << llvm::toString(imported.takeError());
  auto value = dyn_cast<DenseElementsAttr>(getWeight(*imported->module));
  ASSERT_TRUE(value);
  SmallVector<float> got(value.getValues<float>());
  EXPECT_EQ(got, (SmallVector<float>{1.5f, -2.0f, 0.25f}));
}

TEST(Import, LargeWeightIsAResourceThatOutlivesModel) {
  MLIRContext context;
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::FLOAT, {1000});
  std::vector<float> values(1000);
  for (int i = 0; i < 1000; ++i)
    values[i] = static_cast<float>(i);
  tensor.set_raw_data(values.data(), 4000);
  DenseResourceElementsAttr resource;
  {
    auto imported = import(makeAdd(tensor), context);
    ASSERT_TRUE(static_cast<bool>(imported))
        << llvm::toString(imported.takeError());
    resource =
        dyn_cast<DenseResourceElementsAttr>(getWeight(*imported->module));
  }
  // The module and its file handle are gone; the blob holds the file.
  ASSERT_TRUE(resource);
  ArrayRef<char> data = resource.getData();
  ASSERT_EQ(data.size(), 4000u);
  EXPECT_EQ(reinterpret_cast<const float *>(data.data())[999], 999.0f);
}

TEST(Import, ExternalWeightIsMapped) {
  TemporaryFolder folder;
  std::vector<float> values(2000, 3.0f);
  values[700] = 7.0f;
  std::ofstream(folder.file("w.bin"), std::ios::binary)
      .write(reinterpret_cast<const char *>(values.data()), 8000);
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::FLOAT, {1000});
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  auto add = [&](const char *key, const char *value) {
    auto *entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  };
  add("location", "w.bin");
  add("offset", "2400");
  add("length", "4000");
  MLIRContext context;
  auto imported = import(makeAdd(tensor), context, folder.path);
  ASSERT_TRUE(static_cast<bool>(imported))
      << llvm::toString(imported.takeError());
  auto resource =
      dyn_cast<DenseResourceElementsAttr>(getWeight(*imported->module));
  ASSERT_TRUE(resource);
  ArrayRef<char> data = resource.getData();
  ASSERT_EQ(data.size(), 4000u);
  EXPECT_EQ(reinterpret_cast<const float *>(data.data())[100], 7.0f);

  // Without a folder there is nowhere to look.
  MLIRContext other;
  auto refused = import(makeAdd(tensor), other);
  ASSERT_FALSE(static_cast<bool>(refused));
  EXPECT_NE(problems(refused.takeError(), ImportError::Kind::Malformed)
                .find("initializer 'w'"),
            std::string::npos);
}

/// The same three values through int32_data, raw_data and packed nibbles.
TEST(Import, NarrowTypesUnpack) {
  onnx::TensorProto typed = makeTensor(onnx::TensorProto::INT8, {3}),
                    raw = typed;
  for (int value : {-1, 5, 127})
    typed.add_int32_data(value);
  raw.set_raw_data(std::string("\xff\x05\x7f", 3));
  for (const onnx::TensorProto &tensor : {typed, raw}) {
    MLIRContext context;
    auto imported = import(makeAdd(tensor), context);
    ASSERT_TRUE(static_cast<bool>(imported))
        << llvm::toString(imported.takeError());
    auto value = cast<DenseElementsAttr>(getWeight(*imported->module));
    SmallVector<int8_t> got(value.getValues<int8_t>());
    EXPECT_EQ(got, (SmallVector<int8_t>{-1, 5, 127}));
  }
}

TEST(Import, BoolWeight) {
  // Add knows no booleans: And does, and its operand is read the same way.
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::BOOL, {4});
  tensor.set_raw_data(std::string("\1\0\0\1", 4));
  onnx::ModelProto model = makeAdd(tensor);
  model.mutable_graph()->mutable_node(0)->set_op_type("And");
  MLIRContext context;
  auto imported = import(model, context);
  ASSERT_TRUE(static_cast<bool>(imported))
      << llvm::toString(imported.takeError());
  auto value = cast<DenseElementsAttr>(getWeight(*imported->module));
  SmallVector<bool> got(value.getValues<bool>());
  EXPECT_EQ(got, (SmallVector<bool>{true, false, false, true}));
}

TEST(Import, EveryBadNodeIsNamed) {
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::FLOAT, {1});
  tensor.add_float_data(1);
  onnx::ModelProto model = makeAdd(tensor);
  for (const char *name : {"one", "two"}) {
    auto &node = *model.mutable_graph()->add_node();
    node.set_name(name);
    node.set_op_type("Unheard");
    node.add_input("x");
    node.add_output(name);
  }
  MLIRContext context;
  auto imported = import(model, context);
  ASSERT_FALSE(static_cast<bool>(imported));
  std::string text =
      problems(imported.takeError(), ImportError::Kind::Unsupported);
  EXPECT_NE(text.find("test.onnx: node 'one' (Unheard, opset 18): "),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("test.onnx: node 'two' (Unheard, opset 18): "),
            std::string::npos)
      << text;
}

TEST(Import, MessagesAreOneLineOfText) {
  ModelProblem problem{"node 'a\nb\xff'", "Add", 18, "", "is odd"};
  EXPECT_EQ(problem.text(),
            "node 'a\\x0ab\xEF\xBF\xBD' (Add, opset 18): is odd");
}

TEST(Import, MissingFileIsAFileError) {
  MLIRContext context;
  auto imported = importOnnx("/nonexistent/model.onnx", context);
  ASSERT_FALSE(static_cast<bool>(imported));
  problems(imported.takeError(), ImportError::Kind::File);
}

TEST(Convert, ShapesMayBeGivenAndMustFit) {
  onnx::TensorProto tensor = makeTensor(onnx::TensorProto::FLOAT, {1});
  tensor.add_float_data(1);
  onnx::ModelProto model = makeAdd(tensor);
  auto *dim = model.mutable_graph()
                  ->mutable_input(0)
                  ->mutable_type()
                  ->mutable_tensor_type()
                  ->mutable_shape()
                  ->mutable_dim(0);
  dim->set_dim_param("n");
  MLIRContext context;
  auto imported = import(model, context);
  ASSERT_TRUE(static_cast<bool>(imported))
      << llvm::toString(imported.takeError());
  auto argumentOf = [&](const ConvertOptions &options) {
    auto module = convertToGraph(*imported->module, "test.onnx", options);
    std::string text;
    if (!module)
      return llvm::toString(module.takeError());
    auto function = *(*module)->getOps<func::FuncOp>().begin();
    llvm::raw_string_ostream(text) << function.getArgumentTypes()[0];
    return text;
  };
  ConvertOptions options;
  EXPECT_EQ(argumentOf(options), "tensor<?xf32, #graph.dims<s0>>");
  options.dims["n"] = 5;
  EXPECT_EQ(argumentOf(options), "tensor<5xf32>");
  options.shapes["x"] = {8};
  EXPECT_EQ(argumentOf(options), "tensor<8xf32>");
  options.shapes["x"] = {8, 2};
  EXPECT_NE(argumentOf(options).find("input 'x'"), std::string::npos);
}

TEST(Convert, OwnLoweringsAreListed) {
  std::vector<std::string> names = listOwnLowerings();
  EXPECT_TRUE(llvm::is_sorted(names));
  EXPECT_TRUE(hasOwnLowering("", "Conv"));
  EXPECT_TRUE(hasOwnLowering("ai.onnx", "Conv"));
  EXPECT_FALSE(hasOwnLowering("", "Unheard"));
}

} // namespace
