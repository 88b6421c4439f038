// What an attention kernel computes, freed of its operators: the classified
// form of a softmax between two sums of products.
//
//   s[o,r,j]  = sum over d { query(o,r,d) * key(o,j,d) }
//   t[o,r,j]  = score(s, coordinates, other loads)      scale, softcap, masks
//   e[o,r,j]  = exp(t - reference(max over j { t }))
//   y[o,r,c]  = sum over j { weight(e, sum over j { e }) * value(o,j,c) }
//   R_i       = stages without fold over the finished y
//
// o: outer axes (batch, heads of keys and values), r: row axes (queries; the
// heads that share a key head), j: keys, d: inner, c: columns. `reference` and
// the divisor inside `weight` are row functions: of o and r alone. As `weight`
// is linear in e, y = weight(sum over j { e * value }): the division may follow
// the sum (law hom(softmax)), unless `weightRounding` says that p is rounded.
//
// Nothing here knows an operator or an exporter. A stage stands at one place of
// the iteration space, so a scalar (mlir::Value in a stage's body) means the
// same wherever it is read: it is evaluated by following loads of stages
// without fold into their bodies, with the coordinates `space` gives.
#ifndef DLC_SCHEDULE_ATTENTIONSPEC_H
#define DLC_SCHEDULE_ATTENTIONSPEC_H

#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// A condition under which a key is masked, linear in coordinates: where
/// `kept` < 0 the score is `fill` (replaces), or has `fill` added.
struct KeyCut {
  mlir::AffineExpr kept; ///< over the axes; with 0 <= kept, not cut by this one
  /// Integer scalars of outer axes alone, from data (lengths): data[i] is dim
  /// extents.size() + i of `kept`. Where all are within +-maxData.
  llvm::SmallVector<mlir::Value> data;
  static constexpr int64_t maxData = int64_t(1) << 40;
  bool replaces = false;
  double fill = 0; ///< -inf, or a finite number below -1000
  /// The comparison inside the score that says so: it is `keptWhen` exactly
  /// where 0 <= kept. Null: none does alone.
  mlir::Value condition;
  bool keptWhen = true;
};

struct AttentionSpec {
  graph::KernelOp kernel;
  graph::StageOp scores;  ///< fold add over inner: query * key
  graph::StageOp maximum; ///< fold max over keys: score
  graph::StageOp sum;     ///< fold add over keys: exponential
  graph::StageOp output;  ///< fold add over keys: weight * value
  /// The kernel's results in order: `output` itself or stages without fold, all
  /// over one domain.
  llvm::SmallVector<graph::StageOp> results;

  /// Axes: the coordinates of the results (head coordinates that occur divided
  /// are several axes), then the keys, then the inner ones.
  IterationSpace space;
  /// The axes of each group in that order; axes of extent one belong to none.
  /// `rows` are the query positions, `group` the other axes that neither key
  /// nor value depends on: query heads that share a key head. A nest may walk
  /// group and rows as one.
  llvm::SmallVector<unsigned> outer, group, rows, keys, inner, columns;

  /// Strides over all axes of the space where they are plain loads (see
  /// ContractionOperand); query over outer, group, rows, inner; key over outer,
  /// keys, inner; value over outer, keys, columns.
  ContractionOperand query, key, value;

  /// t; depends on `scores` (a load of it) and on outer, group, rows, keys.
  mlir::Value score;
  /// The subtrahend in exp(t - reference): a row function of loads of
  /// `maximum`, most often one such load (then isPlainReference). Any finite
  /// reference gives the same y; this one only has to be what the row's end is
  /// computed with, where `weight` or a result reads `sum` or `maximum`.
  mlir::Value reference;
  bool isPlainReference = true;
  /// e, in the type it is summed in.
  mlir::Value exponential;
  /// The factor of the product in `output`: `exponential`, or a chain of
  /// divisions, products and selects by row functions (of loads of `sum`,
  /// `maximum` and operands) and casts on top of it.
  mlir::Value weight;
  /// The chain divides by (a function of) the sum; else results do.
  bool dividesWeights = false;
  /// The narrowest float type p is rounded to before it is multiplied; null
  /// where no rounding stands between e and the product.
  mlir::Type weightRounding;
  /// The conversions that round on the way from e to p, the last first.
  llvm::SmallVector<mlir::Value> roundings;
  /// The weights of a row whose sum is NaN (all scores -inf, or a NaN) are 0:
  /// select(isnan(p), 0, p).
  bool zeroesNaN = false;
  /// Blocks of keys outside of one of these need not be computed. Exact where
  /// replaces is set and fill is -inf; where fill is finite, exact when the
  /// row's maximum over what was computed exceeds the fill (and the largest
  /// score added to it) by 104 or more; where the fill is added, NaN and +inf
  /// of scores that are masked are lost.
  llvm::SmallVector<KeyCut> cuts;
  /// Offset of an element of each result: sum of axis * stride.
  llvm::SmallVector<mlir::AffineExpr> resultStrides;

  mlir::MLIRContext *context() const { return output->getContext(); }
  mlir::AffineExpr extentOf(llvm::ArrayRef<unsigned> axes) const;
  /// Stride of axes in a plain operand, walked as one axis.
  std::optional<mlir::AffineExpr> strideOf(const ContractionOperand &operand,
                                           llvm::ArrayRef<unsigned> axes) const;
  /// "heads 12 group 1 rows 128 keys 128 head_dim 64 value_dim 64 causal";
  /// extents that are symbolic are written as expressions.
  std::string str() const;
};

/// Classifies `kernel`. On failure `reason` is "name: words" with the name of
/// the first condition that fails; names are listed in docs/attention.md.
mlir::FailureOr<AttentionSpec> classifyAttention(graph::KernelOp kernel,
                                                 std::string &reason);

} // namespace dlc

#endif // DLC_SCHEDULE_ATTENTIONSPEC_H
