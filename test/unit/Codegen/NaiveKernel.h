// A kernel evaluated the plainest way: loops over the domain and the reduce
// axes, every number a double (exact for the integers and f32 products tested).
// It shares nothing with the code generators but the kernel's definition.
#ifndef DLC_TEST_UNIT_CODEGEN_NAIVEKERNEL_H
#define DLC_TEST_UNIT_CODEGEN_NAIVEKERNEL_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <cmath>

namespace dlc::test {

/// One tensor: sizes and values, row-major.
struct NaiveTensor {
  std::vector<int64_t> sizes;
  std::vector<double> values;
};

class NaiveKernel {
public:
  NaiveKernel(graph::KernelOp kernel, std::vector<int64_t> symbols)
      : kernel(kernel), symbols(std::move(symbols)) {}

  std::vector<int64_t> sizesOf(mlir::Type type) const {
    std::vector<int64_t> sizes;
    for (mlir::AffineExpr dim : graph::getDims(type))
      sizes.push_back(graph::evaluate(dim, symbols));
    return sizes;
  }

  /// The result of the kernel. `magnitudes` receives, for each element, the
  /// root of the sum of squares of the summands: what the error gate scales.
  NaiveTensor run(std::vector<NaiveTensor> operands,
                  std::vector<double> *magnitudes = nullptr) {
    for (auto [i, operand] : llvm::enumerate(operands))
      tensors[kernel.getBody().getArgument(i)] = operand;
    NaiveTensor last;
    for (graph::StageOp stage : kernel.getStages()) {
      last = evaluateStage(stage, magnitudes);
      tensors[stage.getResult()] = last;
    }
    return last;
  }

  /// One element of the first stage: its exact value, and in `magnitude` the
  /// root of the sum of squares of its summands.
  double at(std::vector<int64_t> point, double &magnitude) {
    std::vector<int64_t> reduce, k;
    graph::StageOp stage = kernel.getStages()[0];
    for (mlir::AffineExpr dim : stage.getReduceDims())
      reduce.push_back(graph::evaluate(dim, symbols));
    k.assign(reduce.size(), 0);
    double sum = 0, squares = 0;
    do {
      std::vector<int64_t> all = point;
      all.insert(all.end(), k.begin(), k.end());
      double value = evaluateScalar(stage.getYielded(), all);
      sum += value;
      squares += value * value;
    } while (next(k, reduce));
    magnitude = std::sqrt(squares);
    return sum;
  }
  /// Sets what operand `i` holds, for at().
  void setOperand(unsigned i, NaiveTensor tensor) {
    tensors[kernel.getBody().getArgument(i)] = std::move(tensor);
  }

private:
  static bool next(std::vector<int64_t> &at, llvm::ArrayRef<int64_t> sizes) {
    for (size_t i = at.size(); i-- > 0;) {
      if (++at[i] < sizes[i])
        return true;
      at[i] = 0;
    }
    return false;
  }
  static int64_t countOf(llvm::ArrayRef<int64_t> sizes) {
    int64_t count = 1;
    for (int64_t size : sizes)
      count *= size;
    return count;
  }
  static double rounded(double value, mlir::Type type) {
    if (type.isF32())
      return float(value);
    if (type.isF16() || type.isBF16()) {
      llvm::APFloat number(value);
      bool lost;
      number.convert(mlir::cast<mlir::FloatType>(type).getFloatSemantics(),
                     llvm::APFloat::rmNearestTiesToEven, &lost);
      return number.convertToDouble();
    }
    return value;
  }

  NaiveTensor evaluateStage(graph::StageOp stage,
                            std::vector<double> *magnitudes) {
    std::vector<int64_t> domain, reduce;
    for (mlir::AffineExpr dim : stage.getDomainDims())
      domain.push_back(graph::evaluate(dim, symbols));
    for (mlir::AffineExpr dim : stage.getReduceDims())
      reduce.push_back(graph::evaluate(dim, symbols));
    bool folds = stage.getFoldKind() == graph::FoldKind::add;
    NaiveTensor result{domain, {}};
    if (countOf(domain) == 0)
      return result;
    if (folds && magnitudes)
      magnitudes->clear();
    std::vector<int64_t> at(domain.size());
    do {
      double sum = 0, squares = 0;
      std::vector<int64_t> k(reduce.size());
      if (countOf(reduce) > 0)
        do {
          std::vector<int64_t> point = at;
          point.insert(point.end(), k.begin(), k.end());
          double value = evaluateScalar(stage.getYielded(), point);
          sum += value;
          squares += value * value;
        } while (folds && next(k, reduce));
      // A stage rounds once, when it is stored; the sum stays exact.
      result.values.push_back(folds ? sum
                                    : rounded(sum, stage.getElementType()));
      if (folds && magnitudes)
        magnitudes->push_back(std::sqrt(squares));
    } while (next(at, domain));
    return result;
  }

  double evaluateScalar(mlir::Value value, llvm::ArrayRef<int64_t> point) {
    mlir::Operation *op = value.getDefiningOp();
    if (auto load = llvm::dyn_cast<graph::LoadOp>(op)) {
      std::vector<int64_t> coords;
      for (mlir::Value coord : load.getCoords())
        coords.push_back(
            point[llvm::cast<mlir::BlockArgument>(coord).getArgNumber()]);
      if (auto guard = load.getGuard())
        for (unsigned i = 0; i < guard->getNumConstraints(); ++i) {
          int64_t v = graph::evaluate(guard->getConstraint(i), symbols, coords);
          if (guard->isEq(i) ? v != 0 : v < 0)
            return evaluateScalar(load.getOther(), point);
        }
      const NaiveTensor &tensor = tensors[load.getTensor()];
      int64_t offset = 0;
      for (auto [i, expr] : llvm::enumerate(load.getMap().getResults()))
        offset =
            offset * tensor.sizes[i] + graph::evaluate(expr, symbols, coords);
      return tensor.values.at(offset);
    }
    if (auto literal = llvm::dyn_cast<graph::LiteralOp>(op)) {
      if (auto number = llvm::dyn_cast<mlir::FloatAttr>(
              mlir::Attribute(literal.getValue())))
        return number.getValueAsDouble();
      return llvm::cast<mlir::IntegerAttr>(mlir::Attribute(literal.getValue()))
          .getValue()
          .getSExtValue();
    }
    if (auto cast = llvm::dyn_cast<graph::CastOp>(op))
      return rounded(evaluateScalar(cast.getValue(), point), cast.getType());
    auto apply = llvm::cast<graph::ApplyOp>(op);
    std::vector<double> args;
    for (mlir::Value argument : apply.getArgs())
      args.push_back(evaluateScalar(argument, point));
    switch (apply.getFn()) {
    case graph::ScalarFn::add:
      return args[0] + args[1];
    case graph::ScalarFn::sub:
      return args[0] - args[1];
    case graph::ScalarFn::mul:
      return args[0] * args[1];
    case graph::ScalarFn::max:
      return std::max(args[0], args[1]);
    default:
      llvm::report_fatal_error("the naive kernel lacks a scalar function");
    }
  }

  graph::KernelOp kernel;
  std::vector<int64_t> symbols;
  llvm::DenseMap<mlir::Value, NaiveTensor> tensors;
};

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_NAIVEKERNEL_H
