// Functions, kernels, constants, folding and diagnostics of the interpreter.
#include "RowTestUtils.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

namespace {
class InterpreterTest : public RowTest {};
} // namespace

TEST_F(InterpreterTest, FunctionWithConstantsAndCalls) {
  const char *text = R"mlir(
    graph.kernel @sum(%x: tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"]} {
      %m = graph.stage domain <s0> reduce <4> fold add : tensor<?xf32, #graph.dims<s0>> {
      ^bb0(%i: index, %k: index):
        %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
        graph.yield %v : f32
      }
      graph.return %m : tensor<?xf32, #graph.dims<s0>>
    }
    func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?xf32, #graph.dims<s0>> attributes {graph.symbols = ["n"]} {
      %c = graph.constant dense<2.0> : tensor<4xf32>
      %y = graph.mul %x, %c : (tensor<?x4xf32, #graph.dims<s0, 4>>, tensor<4xf32>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
      %r = graph.call @sum(%y) symbols <s0> : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?xf32, #graph.dims<s0>>
      return %r : tensor<?xf32, #graph.dims<s0>>
    })mlir";
  Tensor x = random({5, 4});
  auto results = runText(text, {x});
  ASSERT_TRUE(succeeded(results)) << error;
  std::vector<float> expected;
  for (int64_t i = 0; i < 5; ++i) {
    float sum = 0;
    for (int64_t k = 0; k < 4; ++k)
      sum += x.getData<float>()[i * 4 + k] * 2;
    expected.push_back(sum);
  }
  expectNear(results->front(), {5}, expected, 0);
}

TEST_F(InterpreterTest, WrongInputsAreRefused) {
  const char *text = R"mlir(
    func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>>, %y: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {graph.symbols = ["n"]} {
      return %y : tensor<?xf32, #graph.dims<s0>>
    })mlir";
  EXPECT_TRUE(failed(runText(text, {random({5, 4})})));
  EXPECT_NE(error.find("takes 2 inputs, got 1"), std::string::npos) << error;
  EXPECT_TRUE(failed(runText(text, {random({5, 4}), random({6})})));
  EXPECT_NE(error.find("input 1 is 6xf32, expected 5xf32"), std::string::npos)
      << error;
  EXPECT_TRUE(failed(runText(text, {random({5, 3}), random({5})})));
  EXPECT_NE(error.find("input 0 is 5x3xf32, expected 5x4xf32"),
            std::string::npos)
      << error;
  EXPECT_TRUE(succeeded(runText(text, {random({5, 4}), random({5})}))) << error;
}

TEST_F(InterpreterTest, UnboundSymbolIsNamed) {
  const char *text = R"mlir(
    func.func @main(%x: tensor<?xf32, #graph.dims<s0 * 2>>) -> tensor<?xf32, #graph.dims<s0 * 2>> attributes {graph.symbols = ["half"]} {
      return %x : tensor<?xf32, #graph.dims<s0 * 2>>
    })mlir";
  EXPECT_TRUE(failed(runText(text, {random({4})})));
  EXPECT_NE(error.find("dim symbol 'half' stands alone in no input's shape"),
            std::string::npos)
      << error;
}

TEST_F(InterpreterTest, ReadOutsideIsReported) {
  const char *text = R"mlir(
    graph.kernel @k(%x: tensor<4xf32>) -> tensor<4xf32> {
      %m = graph.stage domain <4> : tensor<4xf32> {
      ^bb0(%i: index):
        %v = graph.load %x[affine_map<(d0) -> (d0 + 1)>](%i) : tensor<4xf32> -> f32
        graph.yield %v : f32
      }
      graph.return %m : tensor<4xf32>
    }
    func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
      %r = graph.call @k(%x) : (tensor<4xf32>) -> tensor<4xf32>
      return %r : tensor<4xf32>
    })mlir";
  EXPECT_TRUE(failed(runText(text, {random({4})})));
  EXPECT_NE(error.find("kernel reads outside its operand"), std::string::npos)
      << error;
}

TEST_F(InterpreterTest, MathDlcIsUnavailableUntilRegistered) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(
      "func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {\n"
      "  %r = graph.exp %x : (tensor<3xf32>) -> tensor<3xf32>\n  return %r : "
      "tensor<3xf32>\n}\n",
      &context);
  ASSERT_TRUE(module);
  Options options;
  options.math = MathMode::dlc;
  auto main = module->lookupSymbol<func::FuncOp>("main");
  Tensor x = random({3});
  std::string message;
  {
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &d) {
      message = d.str();
      return success();
    });
    EXPECT_TRUE(failed(Interpreter(options).run(main, {x})));
  }
  EXPECT_NE(message.find("math=dlc is unavailable"), std::string::npos)
      << message;
  MathTable table = getLibmMath();
  table.f32[static_cast<unsigned>(graph::ScalarFn::exp)] = [](float v) {
    return v + 1;
  };
  registerDlcMath(&table);
  auto results = Interpreter(options).run(main, {x});
  registerDlcMath(nullptr);
  ASSERT_TRUE(succeeded(results));
  ArrayRef<float> in = x.getData<float>();
  expectNear(results->front(), {3}, {in[0] + 1, in[1] + 1, in[2] + 1}, 0);
}

TEST_F(InterpreterTest, ObserverSeesEveryOperation) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(
      "func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {\n"
      "  %a = graph.exp %x : (tensor<3xf32>) -> tensor<3xf32>\n"
      "  %b = graph.neg %a : (tensor<3xf32>) -> tensor<3xf32>\n  return %b : "
      "tensor<3xf32>\n}\n",
      &context);
  std::vector<std::string> seen;
  Options options;
  options.observer = [&](Operation *op, ArrayRef<Tensor> operands,
                         ArrayRef<Tensor> results) {
    seen.push_back(op->getName().getStringRef().str() +
                   std::to_string(operands.size()) +
                   std::to_string(results.size()));
  };
  ASSERT_TRUE(succeeded(Interpreter(options).run(
      module->lookupSymbol<func::FuncOp>("main"), {random({3})})));
  EXPECT_EQ(seen, (std::vector<std::string>{"graph.exp11", "graph.neg11"}));
}

TEST_F(InterpreterTest, ResultsDoNotDependOnThreads) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(
      "func.func @main(%x: tensor<200x3000xf32>) -> tensor<200x1xf32> {\n"
      "  %a = graph.exp %x : (tensor<200x3000xf32>) -> tensor<200x3000xf32>\n"
      "  %b = graph.reduce %a {kind = #graph<fold add>, axes = array<i64: 1>} "
      ": (tensor<200x3000xf32>) -> tensor<200x1xf32>\n"
      "  return %b : tensor<200x1xf32>\n}\n",
      &context);
  Tensor x = random({200, 3000});
  std::vector<float> first;
  for (unsigned threads : {1, 2, 7}) {
    Options options;
    options.threads = threads;
    auto results = Interpreter(options).run(
        module->lookupSymbol<func::FuncOp>("main"), {x});
    ASSERT_TRUE(succeeded(results));
    ArrayRef<float> data = results->front().getData<float>();
    if (first.empty())
      first.assign(data.begin(), data.end());
    expectNear(results->front(), {200, 1}, first, 0);
  }
}

TEST_F(InterpreterTest, AttributesRoundTrip) {
  auto check = [&](const std::string &text) {
    auto attr = cast<DenseElementsAttr>(parseAttribute(text, &context));
    FailureOr<Tensor> tensor = Tensor::fromAttr(attr);
    ASSERT_TRUE(succeeded(tensor)) << text;
    EXPECT_EQ(tensor->toAttr(), attr) << text;
  };
  check("dense<[1.0, 2.5]> : tensor<2xf32>");
  check("dense<3.0> : tensor<4x2xf64>");
  check("dense<[true, false, true]> : tensor<3xi1>");
  check("dense<true> : tensor<3x7xi1>");
  check("dense<[[1, -2], [3, 4]]> : tensor<2x2xi8>");
  check("dense<[200, 3]> : tensor<2xui16>");
  check("dense<1.5> : tensor<3xbf16>");
  check("dense<> : tensor<0x3xi64>");
}

TEST_F(InterpreterTest, ResourceConstant) {
  std::vector<float> data = {1, 2, 3};
  auto type = RankedTensorType::get({3}, Float32Type::get(&context));
  auto attr = DenseResourceElementsAttr::get(
      type, "w",
      UnmanagedAsmResourceBlob::allocateInferAlign(ArrayRef<float>(data)));
  FailureOr<Tensor> tensor = Tensor::fromAttr(attr);
  ASSERT_TRUE(succeeded(tensor));
  EXPECT_EQ(tensor->getBytes(),
            reinterpret_cast<const char *>(data.data())); // not copied
  auto longer = RankedTensorType::get({5}, Float32Type::get(&context));
  EXPECT_TRUE(failed(Tensor::fromAttr(
      DenseResourceElementsAttr::get(longer, attr.getRawHandle()))));
}

TEST_F(InterpreterTest, FoldsOperatorsOnConstants) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(
      "func.func @main(%x: tensor<2x2xi64>, %i: tensor<1xi64>) -> "
      "tensor<1x2xi64> {\n"
      "  %a = graph.gather %x, %i {axis = 0 : i64} : (tensor<2x2xi64>, "
      "tensor<1xi64>) -> tensor<1x2xi64>\n"
      "  return %a : tensor<1x2xi64>\n}\n",
      &context);
  Operation *op =
      &module->lookupSymbol<func::FuncOp>("main").getBody().front().front();
  Attribute x =
      parseAttribute("dense<[[1, 2], [3, 4]]> : tensor<2x2xi64>", &context);
  auto fold = [&](const char *index, int64_t limit) {
    return foldGraphOp(op, {x, parseAttribute(index, &context)}, limit);
  };
  FailureOr<DenseElementsAttr> value =
      fold("dense<-1> : tensor<1xi64>", 1 << 20);
  ASSERT_TRUE(succeeded(value));
  EXPECT_EQ(*value,
            parseAttribute("dense<[[3, 4]]> : tensor<1x2xi64>", &context));
  EXPECT_TRUE(failed(fold("dense<-1> : tensor<1xi64>", 8))); // result too large
  EXPECT_TRUE(
      failed(fold("dense<2> : tensor<1xi64>", 1 << 20))); // left to run time
  EXPECT_TRUE(failed(foldGraphOp(op, {x, Attribute()}, 1 << 20)));
}
