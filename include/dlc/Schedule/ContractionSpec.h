// What a contraction kernel computes, freed of its operators: the classified
// form of a sum of products and of the stages around it.
//
//   R_i[outer, row, column] = epilogue_i(sum over inner of f * g)
//
// where the factor `lhs` depends on outer, row and inner axes, `rhs` on outer,
// column and inner axes, and the columns are the last axes of the results.
// MatMul with any transposes, Gemm, Einsum and (grouped, dilated, strided) Conv
// all take this form; in Conv the weights are `lhs` and the pixels the columns.
//
// Stages before the sum are read into its factors, stages after it are computed
// on each finished tile. A stage after it may read the sum through a map (a
// transpose, a reshape): the iteration space then is that of the results.
#ifndef DLC_SCHEDULE_CONTRACTIONSPEC_H
#define DLC_SCHEDULE_CONTRACTIONSPEC_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include "llvm/ADT/MapVector.h"

namespace dlc {

/// The iteration space: the coordinates of the results, then the sum's reduce
/// axes, except that a coordinate which only occurs divided (the channel of a
/// grouped Conv, the columns of split heads) becomes two axes.
struct IterationSpace {
  /// Extents of the axes over the kernel's symbols: domain axes, then reduce.
  llvm::SmallVector<mlir::AffineExpr> extents;
  unsigned numDomain = 0;
  /// Of each group of reduce axes, the axis after its last.
  llvm::SmallVector<unsigned> groupEnds;
  /// By axis, which coordinate it is (part of): of the domain, then the groups.
  llvm::SmallVector<unsigned> coordinateOf;
  /// By the body of a stage: each of its block arguments as an expression of
  /// axes d0, d1, ...
  llvm::MapVector<mlir::Block *, llvm::SmallVector<mlir::AffineExpr>> arguments;

  /// `expr` over the dims that `coords` (block arguments) name -> over axes, in
  /// normal form. Fails when a coordinate comes from data.
  mlir::FailureOr<mlir::AffineExpr> toAxes(mlir::AffineExpr expr,
                                           mlir::ValueRange coords) const;
  /// True when the axis has more than one point, or may have.
  bool isWide(unsigned axis) const;
};

/// The coefficient of axis `axis` in `expr`, free of dims; nothing when the
/// expression is not linear in it.
std::optional<mlir::AffineExpr> linearCoefficient(mlir::AffineExpr expr,
                                                  unsigned axis);

/// The stride of a group of axes walked as one, row-major, given the stride of
/// each: the last one's, when every axis continues where the next one ends.
/// Zero for an empty group; nothing when the group does not collapse.
std::optional<mlir::AffineExpr> collapsedStride(
    llvm::ArrayRef<unsigned> group,
    llvm::function_ref<std::optional<mlir::AffineExpr>(unsigned)> strideOf,
    llvm::ArrayRef<mlir::AffineExpr> extents, mlir::MLIRContext *context);

/// The scalar that `value` passes on: a load without guard of a stage without
/// fold is what the stage yields, through any number of them.
mlir::Value throughStages(mlir::Value value);

/// One factor of the product.
struct ContractionOperand {
  /// The scalar in the stage's body, in the accumulator's type.
  mlir::Value value;
  /// A load, not guarded, of one kernel operand at an offset that is linear in
  /// every axis, perhaps converted once. The fields below are set.
  bool plain = false;
  /// The same, not converted, but zero outside of `guards`, each of which, over
  /// the axes, must be zero (first: true) or not negative.
  bool guarded = false;
  llvm::SmallVector<std::pair<bool, mlir::AffineExpr>> guards;
  unsigned operand = 0; ///< of the kernel
  mlir::Type element;   ///< in memory; ui8 and the like keep their sign here
  mlir::AffineExpr base;
  llvm::SmallVector<mlir::AffineExpr> strides; ///< of each axis, in elements
};

/// The factors before they were widened, where both are widened narrow numbers:
///   bf16:  lhs = cast(x), rhs = cast(y), into f32;
///   bytes: lhs = cast(x) - p, rhs = cast(y) - q, into i32, where x and y are
///          i8 or ui8 and the zero points p and q do not vary along the inner
///          axes.
/// Sums of such products have instructions of their own.
struct NarrowProduct {
  ContractionOperand lhs, rhs;  ///< x and y, in their own types
  mlir::Value lhsZero, rhsZero; ///< p and q; null: none

  bool isBytes() const { return !lhs.value.getType().isBF16(); }
};

/// A factor of the factor rhs that runs of steps share, rhs = number * scale: a
/// scale of a block of weights, or of a column.
struct SharedScale {
  mlir::Value number, scale; ///< both made of `rhsLoads` and literals
  int64_t steps = 0;         ///< of k, in memory order, of one scale
};

struct ContractionSpec {
  graph::KernelOp kernel;
  graph::StageOp stage; ///< the sum
  /// The kernel's results in order: the sum itself or stages without fold, all
  /// over the same domain.
  llvm::SmallVector<graph::StageOp> results;
  IterationSpace space;
  /// The axes of each group, in domain (or reduce) order; axes of extent one
  /// belong to none.
  llvm::SmallVector<unsigned> outer, rows, columns, inner;
  ContractionOperand lhs, rhs;
  std::optional<NarrowProduct> narrow;
  /// An rhs that is computed (weights from numbers, zero points and scales):
  /// the loads it is computed from, all plain, one for each operand. Empty: it
  /// is not computed, or from something else.
  llvm::SmallVector<ContractionOperand> rhsLoads;
  /// Of a computed rhs, in sums of floats, where it has one.
  std::optional<SharedScale> scale;
  mlir::Type accumulator;
  /// Offset of an element of each result: sum of axis * stride.
  llvm::SmallVector<mlir::AffineExpr> resultStrides;

  mlir::MLIRContext *context() const { return stage->getContext(); }
  mlir::AffineExpr extentOf(llvm::ArrayRef<unsigned> group) const;
  /// Something other than the sum is computed.
  bool hasEpilogue() const {
    return results.size() != 1 || results[0] != stage;
  }
  mlir::Type resultElement(unsigned i) const {
    return graph::StageOp(results[i]).getElementType();
  }
  /// Stride of a group in a plain operand, walked as one axis.
  std::optional<mlir::AffineExpr>
  strideOf(const ContractionOperand &operand,
           llvm::ArrayRef<unsigned> group) const;
  /// The last inner axes along which lhs, plain or guarded, lies contiguous
  /// wherever its rows and the other inner axes stand (the channels of a Conv's
  /// image, its taps being the others). Empty when there are none.
  llvm::SmallVector<unsigned> lhsRun() const;
  /// Whether rows of lhs are worth an address each: lhsRun is long.
  bool hasLongRun() const;
  /// As lhsRun, but a guard may cut it.
  llvm::SmallVector<unsigned> lhsGuardedRun() const;
  /// The inner axes along which `operand` varies.
  llvm::SmallVector<unsigned>
  innerAxesOf(const ContractionOperand &operand) const;
  /// The same product with the narrow numbers for factors. Needs `narrow`.
  ContractionSpec narrowed() const;

private:
  llvm::SmallVector<unsigned> findRun(bool mayBeGuarded) const;
};

/// Classifies `kernel`. On failure `reason` says in words what does not fit
/// (depthwise convolutions, folds other than add, data-dependent indices, ...).
mlir::FailureOr<ContractionSpec> classifyContraction(graph::KernelOp kernel,
                                                     std::string &reason);

/// Whether `stage` alone, with what it reads, would be a contraction.
bool isContraction(graph::StageOp stage);

} // namespace dlc

#endif // DLC_SCHEDULE_CONTRACTIONSPEC_H
