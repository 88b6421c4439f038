// Emission of the scalar expressions inside a stage, for one point or for a
// vector of points along a group of axes. The contraction nest uses it for what
// it copies into panels (guarded pixels, conversions, zero points) and for its
// epilogue.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONEXPR_H
#define DLC_CODEGEN_CPU_CONTRACTIONEXPR_H

#include "dlc/Codegen/CPU/ContractionSpec.h"
#include "dlc/Codegen/Common/IndexBuilder.h"

namespace dlc {

/// Converts a scalar or vector between numeric element types; the signedness
/// comes from the types (`ui8`), values are signless. Integers from floats
/// truncate. Returns null when the conversion is not supported.
mlir::Value convertElement(mlir::OpBuilder &b, mlir::Location loc,
                           mlir::Value value, mlir::Type from, mlir::Type to);

/// The signless type with which values of graph type `type` are computed.
mlir::Type getComputeType(mlir::Type type);

/// Where an expression is evaluated.
struct ExprPoint {
  /// The value of every axis (of lane 0).
  llvm::SmallVector<mlir::Value> axes;
  /// 0: a scalar. Otherwise lane i stands i steps further along `laneAxes`,
  /// walked as one axis.
  unsigned lanes = 0;
  llvm::SmallVector<unsigned> laneAxes;
  /// vector<lanes x i1>; lanes off touch no memory. Null: all on.
  mlir::Value mask;
};

class ExprEmitter {
public:
  /// `buffer` gives the flat memref of a kernel operand. `known` gives values
  /// for loads that are not memory accesses (the sum, in an epilogue).
  ExprEmitter(IndexBuilder &index, const IterationSpace &space,
              mlir::ValueRange symbols,
              std::function<mlir::Value(unsigned operand)> buffer)
      : index(index), b(index.builder()), loc(index.loc()), space(space),
        symbols(symbols), buffer(std::move(buffer)) {}

  /// Loads from stage results yield `value` instead.
  void setStageValue(mlir::Value value) { stageValue = value; }

  /// Emits `scalar` at `point`; fails, in words, on what it does not support.
  mlir::FailureOr<mlir::Value> emit(mlir::Value scalar, const ExprPoint &point,
                                    std::string &reason);

private:
  mlir::FailureOr<mlir::Value> emitLoad(graph::LoadOp load,
                                        const ExprPoint &point,
                                        std::string &reason);
  mlir::FailureOr<mlir::Value> emitApply(graph::ApplyOp apply,
                                         const ExprPoint &point,
                                         std::string &reason);
  /// The step of `expr` from one lane to the next; nothing if not linear.
  std::optional<mlir::AffineExpr> laneStep(mlir::AffineExpr expr,
                                           const ExprPoint &point);
  mlir::Value at(mlir::AffineExpr expr, const ExprPoint &point);
  mlir::Value splat(mlir::Value scalar, const ExprPoint &point);
  /// `base + step * lane` as a vector of i64.
  mlir::Value ramp(mlir::Value base, mlir::Value step, const ExprPoint &point);

  IndexBuilder &index;
  mlir::OpBuilder &b;
  mlir::Location loc;
  const IterationSpace &space;
  mlir::ValueRange symbols;
  std::function<mlir::Value(unsigned)> buffer;
  mlir::Value stageValue;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONEXPR_H
