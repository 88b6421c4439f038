// Running one operator given as text; see the header.
#include "RowTestUtils.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

RowTest::RowTest() {
  context.loadDialect<graph::GraphDialect, func::FuncDialect>();
}

Type RowTest::parse(const std::string &type) {
  return parseType(type, &context);
}

FailureOr<SmallVector<Tensor>> RowTest::runText(const std::string &function,
                                                ArrayRef<Tensor> inputs) {
  error.clear();
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (error.empty())
      error = diagnostic.str();
    return success();
  });
  OwningOpRef<ModuleOp> module =
      parseSourceString<ModuleOp>(function, &context);
  if (!module)
    return failure();
  auto main = module->lookupSymbol<func::FuncOp>("main");
  Options options;
  options.threads = 2;
  return Interpreter(options).run(main, inputs);
}

Tensor RowTest::runOp(const std::string &op, const std::string &attributes,
                      ArrayRef<std::string> types, const std::string &result,
                      ArrayRef<Tensor> inputs, unsigned numSymbols) {
  std::string arguments, operands, signature, symbols;
  for (auto [i, type] : llvm::enumerate(types)) {
    std::string comma = i ? ", " : "";
    arguments += comma + "%a" + std::to_string(i) + ": " + type;
    operands += comma + "%a" + std::to_string(i);
    signature += comma + type;
  }
  for (unsigned i = 0; i < numSymbols; ++i)
    symbols += std::string(i ? ", " : "") + "\"n" + std::to_string(i) + "\"";
  std::string properties = attributes.empty() ? "" : " <{" + attributes + "}>";
  std::string text = "func.func @main(" + arguments + ") -> " + result +
                     " attributes {graph.symbols = [" + symbols +
                     "]} {\n  %r = \"graph." + op + "\"(" + operands + ")" +
                     properties + " : (" + signature + ") -> " + result +
                     "\n  return %r : " + result + "\n}\n";
  FailureOr<SmallVector<Tensor>> results = runText(text, inputs);
  EXPECT_TRUE(succeeded(results)) << error << "\n" << text;
  return succeeded(results) ? results->front() : Tensor();
}

Tensor RowTest::random(ArrayRef<int64_t> shape) {
  std::vector<float> data(countElements(shape));
  std::uniform_real_distribution<float> values(-2, 2);
  for (float &x : data)
    x = values(generator);
  return tensor<float>("f32", shape, data);
}

void interp::forEachPoint(ArrayRef<int64_t> shape,
                          llvm::function_ref<void(ArrayRef<int64_t>)> fn) {
  SmallVector<int64_t> point(shape.size(), 0);
  for (int64_t i = 0, n = countElements(shape); i < n; ++i) {
    int64_t rest = i;
    for (size_t axis = shape.size(); axis-- > 0;) {
      point[axis] = rest % shape[axis];
      rest /= shape[axis];
    }
    fn(point);
  }
}

int64_t interp::flatten(ArrayRef<int64_t> shape, ArrayRef<int64_t> point) {
  int64_t flat = 0;
  for (auto [size, at] : llvm::zip(shape, point)) {
    EXPECT_TRUE(at >= 0 && at < size);
    flat = flat * size + at;
  }
  return flat;
}

void interp::expectNear(const Tensor &actual, ArrayRef<int64_t> shape,
                        ArrayRef<float> expected, float tolerance) {
  ASSERT_TRUE(static_cast<bool>(actual));
  ASSERT_EQ(actual.getShape(), shape);
  ArrayRef<float> data = actual.getData<float>();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]))
      ASSERT_TRUE(std::isnan(data[i])) << "element " << i;
    else if (std::isinf(expected[i]))
      ASSERT_EQ(data[i], expected[i]) << "element " << i;
    else
      ASSERT_LE(std::fabs(data[i] - expected[i]),
                tolerance * std::max(1.0f, std::fabs(expected[i])))
          << "element " << i << ": " << data[i] << " for " << expected[i];
  }
}
