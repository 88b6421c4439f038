// Emission of the scalar expressions inside a stage, for one point or for a
// vector of points along a group of axes. The contraction nest uses it for what
// it copies into panels (guarded pixels, conversions, zero points) and for its
// epilogue.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONEXPR_H
#define DLC_CODEGEN_CPU_CONTRACTIONEXPR_H

#include "dlc/Codegen/Common/IndexBuilder.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"
#include "dlc/Schedule/ContractionSpec.h"

#include "mlir/IR/IntegerSet.h"

namespace dlc {

/// A loaded element (or vector of them) of graph type `element` as a number of
/// the accumulator's type.
inline mlir::Value toAccumulator(ScalarEmitter &scalars, mlir::Value stored,
                                 mlir::Type element, mlir::Type accumulator) {
  return scalars.cast(scalars.fromStorage(stored, element), accumulator).value;
}

/// The lanes [lower, upper) of a vector; null: from the first, to the last.
/// Null when both are.
mlir::Value laneInterval(IndexBuilder &index, mlir::Value lower,
                         mlir::Value upper, int64_t lanes);

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
              mlir::ValueRange symbols, const ScalarOptions &options,
              std::function<mlir::Value(unsigned operand)> buffer)
      : scalars(index.builder(), index.loc(), options), index(index),
        b(index.builder()), loc(index.loc()), space(space), symbols(symbols),
        maskedMemory(options.maskedMemory), buffer(std::move(buffer)) {}

  /// Vector loads of some lanes are cheap.
  bool hasMaskedMemory() const { return maskedMemory; }
  /// Loads of `stage` yield `value` instead; those of other stages yield what
  /// the stage's body is at the point.
  void setStageValue(graph::StageOp stage, Scalar value) {
    known[stage] = value;
  }
  /// `scalar` is `value`, whatever it is computed from; holds for emitNext.
  void setValue(mlir::Value scalar, Scalar value) { memo[scalar] = value; }

  void forget() { memo.clear(); }

  /// Emits `scalar` at `point`: a scalar, or where it differs between lanes a
  /// vector. Fails, in words, on what it does not support.
  mlir::FailureOr<Scalar> emit(mlir::Value scalar, const ExprPoint &point,
                               std::string &reason) {
    forget();
    return emitNext(scalar, point, reason);
  }
  /// The same at the point of the last emit: what was emitted is used again.
  mlir::FailureOr<Scalar> emitNext(mlir::Value scalar, const ExprPoint &point,
                                   std::string &reason);

  /// `scalar` as it lies in memory. What is only loaded is not converted.
  mlir::FailureOr<mlir::Value>
  emitStored(mlir::Value scalar, const ExprPoint &point, std::string &reason);

  /// Stored elements of operands that lie packed; null: none does, or not this
  /// one.
  std::function<mlir::Value(graph::LoadOp, const ExprPoint &)> packedLoad;

  /// Where an index out of range is reported: memref<? x i32>; null: what is
  /// read at indices from data is not supported.
  mlir::Value status;
  /// Memory is not read but asked for, where lanes lie side by side; what is
  /// emitted is any number.
  bool prefetches = false;
  /// The guards of all loads are known to hold at the points, in all lanes.
  bool holdsGuards = false;
  /// Coordinates from data that are known at the points.
  llvm::DenseMap<mlir::Operation *, mlir::Value> pages;
  /// Adds those that `scalar` is read at and that are the same in all lanes.
  mlir::LogicalResult findPages(mlir::Value scalar, const ExprPoint &point,
                                std::string &reason);

  ScalarEmitter scalars;

private:
  mlir::FailureOr<Scalar> emitNew(mlir::Value scalar, const ExprPoint &point,
                                  std::string &reason);
  /// A coordinate from data, checked, clamped: index.
  mlir::FailureOr<mlir::Value>
  emitPage(graph::ToIndexOp page, const ExprPoint &point, std::string &reason);
  mlir::FailureOr<Scalar> emitLoad(graph::LoadOp load, const ExprPoint &point,
                                   std::string &reason);
  /// The stored element of a kernel operand.
  mlir::FailureOr<mlir::Value> emitOperandLoad(graph::LoadOp load,
                                               const ExprPoint &point,
                                               std::string &reason);
  /// Where a set holds: what is the same in all lanes, and what is not: the
  /// lanes [lower, upper), and of those the ones in `mask`. Null: everywhere.
  struct Condition {
    mlir::Value inside, mask, lower, upper;
    bool isSame() const { return !mask && !lower && !upper; }
  };
  /// Takes into `all` that `base + step * lane` is not negative, if lanes in a
  /// row say that; false if not.
  bool requireInterval(Condition &all, mlir::Value base, int64_t step,
                       const ExprPoint &point);
  /// The lanes that a condition holds in; null: all.
  mlir::Value maskOf(const Condition &condition, unsigned lanes);
  /// Every second element of `memory` from `where` on, a vector of `type`.
  /// Lanes off touch no memory and have those of `pass` (null: zeros).
  mlir::Value loadSeconds(mlir::VectorType type, mlir::Value memory,
                          mlir::Value where, const Condition &holds,
                          mlir::Value pass);
  mlir::FailureOr<Condition> emitSet(mlir::IntegerSet set,
                                     mlir::ValueRange coords,
                                     const ExprPoint &point,
                                     std::string &reason);
  /// `expr` in each lane, as a vector of i64.
  mlir::Value perLane(mlir::AffineExpr expr, const ExprPoint &point);
  /// The step of `expr` from one lane to the next; nothing if not linear.
  std::optional<mlir::AffineExpr> laneStep(mlir::AffineExpr expr,
                                           const ExprPoint &point);
  mlir::Value at(mlir::AffineExpr expr, const ExprPoint &point);
  /// `base + step * lane` as a vector of i64.
  mlir::Value ramp(mlir::Value base, mlir::Value step, const ExprPoint &point);

  IndexBuilder &index;
  mlir::OpBuilder &b;
  mlir::Location loc;
  const IterationSpace &space;
  mlir::ValueRange symbols;
  bool maskedMemory;
  std::function<mlir::Value(unsigned)> buffer;
  llvm::DenseMap<mlir::Operation *, Scalar> known; ///< by stage
  llvm::DenseMap<mlir::Value, Scalar> memo;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONEXPR_H
