// What becomes of a row of attention: its maximum and sum as the kernel's body
// has them, weights, and the results of finished sums. For one thread.
#ifndef DLC_LIB_CODEGEN_CUDA_ATTENTIONROWS_H
#define DLC_LIB_CODEGEN_CUDA_ATTENTIONROWS_H

#include "Attention.h"
#include "CudaScalars.h"
#include "LaunchBuilder.h"

#include "dlc/Codegen/CPU/ContractionExpr.h"

namespace dlc {

class AttentionRows {
public:
  AttentionRows(LaunchBuilder &launch, const AttentionSpec &spec)
      : launch(launch), spec(spec), b(launch.builder()), loc(launch.loc()),
        index(launch.index()) {}

  /// All axes of the space, one value each.
  using Axes = llvm::SmallVector<mlir::Value>;

  mlir::Value number(double value);
  mlir::Value compare(mlir::arith::CmpFPredicate predicate, mlir::Value x,
                      double y);
  /// max(x, y), x where y is NaN: rows with a NaN have a NaN for a sum,
  /// whatever their maximum is.
  mlir::Value larger(mlir::Value x, mlir::Value y);
  /// The maximum as it is subtracted: 0 where it is -inf.
  mlir::Value finite(mlir::Value maximum);
  /// e^x of x <= 0 (or NaN), to 3 ulp.
  mlir::Value expOfNonPositive(mlir::Value x);
  /// e^(scale x - y) of scale x <= y. With `isQuick` by one fused step and the
  /// hardware's 2^x: to some 2^-23 (|scale x| + |y| + 4), which is enough for
  /// 16-bit weights.
  mlir::Value expOfDifference(mlir::Value x, mlir::Value y, double scale = 1);
  bool isQuick = false;
  /// A positive number that all scores are multiplied by, or they are -inf:
  /// leaves it to whoever takes them. 1 where there is none.
  double takeScale();

  /// The score that `sum`, of products of query and key, becomes.
  mlir::FailureOr<mlir::Value> score(const Axes &axes, mlir::Value sum);

  /// The maximum and the sum of a row as the body has them, and what e has to
  /// be multiplied by to be the body's; null: nothing.
  struct State {
    mlir::Value maximum, sum, scale;
  };
  /// `sum` is that of e against finite(maximum).
  mlir::FailureOr<State> state(const Axes &axes, mlir::Value maximum,
                               mlir::Value sum);
  /// p from e.
  mlir::FailureOr<mlir::Value> weight(const Axes &axes, mlir::Value e,
                                      const State &state);
  /// What the sum of e * value of a row is multiplied by to be that of
  /// p * value; where weights are rounded, the p of a key that was left out.
  mlir::FailureOr<mlir::Value> factor(const Axes &axes, const State &state);
  /// The sum of p * value of a row.
  mlir::Value scaled(mlir::Value sum, mlir::Value factor);
  /// Stores what the results are at `axes`, where the output is `sum`.
  llvm::LogicalResult store(const Axes &axes, mlir::Value sum,
                            const State &state);

  ExprEmitter expressions();
  mlir::Value at(mlir::AffineExpr expr, const Axes &axes) {
    return index.expr(expr, axes, launch.symbols());
  }
  /// Sets `axes` to number `linear` of these, walked as one.
  void setAxes(Axes &all, llvm::ArrayRef<unsigned> axes, mlir::Value linear);

  /// Comparisons inside scores whose results are known.
  llvm::SmallVector<std::pair<mlir::Value, bool>> known;

  /// Why the last function that failed did.
  std::string reason;

private:
  /// A score that -inf is added to, or 0 where a key is kept.
  struct AddedMask {
    mlir::Value sum, score;
    graph::ApplyOp choice; ///< between the two
    bool addsZero(mlir::ArrayRef<std::pair<mlir::Value, bool>> known) const;
  };
  mlir::Value scaledSum; ///< what takeScale has left out; null: nothing
  llvm::SmallVector<AddedMask> addedMasks; ///< the outermost first

  LaunchBuilder &launch;
  const AttentionSpec &spec;
  mlir::OpBuilder &b;
  mlir::Location loc;
  IndexBuilder &index;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ATTENTIONROWS_H
