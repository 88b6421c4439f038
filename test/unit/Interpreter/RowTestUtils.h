// Running one operator given as text on random tensors, and comparing with a
// naive C++ loop.
#ifndef DLC_TEST_UNIT_INTERPRETER_ROWTESTUTILS_H
#define DLC_TEST_UNIT_INTERPRETER_ROWTESTUTILS_H

#include "dlc/Interpreter/Interpreter.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "gtest/gtest.h"

#include <random>

namespace dlc::interp {

class RowTest : public ::testing::Test {
protected:
  RowTest();

  /// Runs the body of a function of graph operators:
  ///   run("%0: tensor<2xf32>", "%r = graph.abs %0 : ...", "%r",
  ///   "tensor<2xf32>", inputs)
  /// The text of the first diagnostic is kept in `error` on failure.
  llvm::FailureOr<llvm::SmallVector<Tensor>>
  runText(const std::string &function, llvm::ArrayRef<Tensor> inputs);
  /// One operation `graph.<op>` on the inputs, whose types are `types`, with
  /// one result.
  Tensor runOp(const std::string &op, const std::string &attributes,
               llvm::ArrayRef<std::string> types, const std::string &result,
               llvm::ArrayRef<Tensor> inputs, unsigned numSymbols = 0);

  mlir::Type parse(const std::string &type);
  template <typename T>
  Tensor tensor(const std::string &element, llvm::ArrayRef<int64_t> shape,
                llvm::ArrayRef<T> data) {
    EXPECT_EQ(static_cast<int64_t>(data.size()), countElements(shape));
    return Tensor::copy(parse(element), shape, data.data());
  }
  /// Random f32 in [-2, 2].
  Tensor random(llvm::ArrayRef<int64_t> shape);
  /// Random integers in [low, high] of element type `element` and C++ type T.
  template <typename T>
  Tensor randomInts(const std::string &element, llvm::ArrayRef<int64_t> shape,
                    int64_t low, int64_t high) {
    std::vector<T> data(countElements(shape));
    std::uniform_int_distribution<int64_t> values(low, high);
    for (T &x : data)
      x = static_cast<T>(values(generator));
    return tensor<T>(element, shape, data);
  }

  mlir::MLIRContext context;
  std::mt19937 generator{12345};
  std::string error;
};

/// Calls fn with every coordinate vector of a box in row-major order.
void forEachPoint(llvm::ArrayRef<int64_t> shape,
                  llvm::function_ref<void(llvm::ArrayRef<int64_t>)> fn);

/// The row-major position of a point.
int64_t flatten(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> point);

/// Element-wise |a - b| <= tolerance * max(1, |b|); NaN equals only NaN.
void expectNear(const Tensor &actual, llvm::ArrayRef<int64_t> shape,
                llvm::ArrayRef<float> expected, float tolerance = 1e-5f);
template <typename T>
void expectEqual(const Tensor &actual, llvm::ArrayRef<int64_t> shape,
                 llvm::ArrayRef<T> expected) {
  ASSERT_TRUE(static_cast<bool>(actual));
  ASSERT_EQ(actual.getShape(), shape);
  llvm::ArrayRef<T> data = actual.getData<T>();
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(data[i], expected[i]) << "element " << i;
}

} // namespace dlc::interp

#endif // DLC_TEST_UNIT_INTERPRETER_ROWTESTUTILS_H
