// What the members of a group say under the laws excess(..) and
// distribute(scale).
#ifndef DLC_LIB_CHECK_PRECISION_H
#define DLC_LIB_CHECK_PRECISION_H

#include "Expr.h"

#include "dlc/Dialect/Graph/IR/Laws.h"

namespace dlc::check {

/// Rewrites an expression of the members' to the one form that the laws allow
/// in its place. The kernel has to have that form; it is not rewritten, so that
/// it cannot round where the members do not.
///
/// - excess: a value of a 16-bit float type that is computed by functions which
///   f32 has as well is computed in f32 of what it is computed from, widened;
///   it is rounded to its type where it leaves the kernel, where it is compared
///   or becomes an integer, and (with excess(sums)) where it is multiplied in a
///   sum of products.
/// - distribute(scale): in a sum of products in f32 that starts from 0, a
///   finite number that a factor is multiplied by multiplies the sum; the
///   numbers of both factors are multiplied first.
class PrecisionForm {
public:
  PrecisionForm(ExprArena &exprs, mlir::MLIRContext *context)
      : exprs(exprs), f32(mlir::Float32Type::get(context)) {}

  void add(const graph::Law &law);
  bool isExcess() const { return sums || all; }
  bool isUsed() const { return isExcess() || scales; }
  NodeId run(NodeId id);
  /// Widening conversions inside of choices and of literals, where no bit
  /// changes by it: one form for both sides.
  NodeId spread(NodeId id);

private:
  /// The value of `id`, of 16 bits, in f32.
  NodeId widen(NodeId id);
  /// `id`, of 16 bits, rounded once.
  NodeId narrow(NodeId id);
  NodeId runFold(Node fold);
  NodeId keepFactor(NodeId factor);
  NodeId rebuild(NodeId id, llvm::function_ref<NodeId(NodeId)> next);

  ExprArena &exprs;
  mlir::Type f32;
  bool sums = false, all = false, scales = false;
  llvm::DenseMap<NodeId, NodeId> known, wide, spreaded;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_PRECISION_H
