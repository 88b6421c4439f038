// At which sizes the tuner measures kernels of symbolic sizes. Nothing but
// speed depends on them.
#ifndef DLC_LIB_DRIVER_MEASUREDSIZES_H
#define DLC_LIB_DRIVER_MEASUREDSIZES_H

#include "Compilation.h"

#include "dlc/Tuner/KernelTask.h"

namespace dlc {

class MeasuredSizes {
public:
  /// Errors (Usage) where -tune-dim names what the model does not have.
  static llvm::Expected<MeasuredSizes> create(Compilation &c);

  /// Those of `kernel`, which is called or a variant of one that is; none of
  /// static sizes. Fails, with `reason`, where no sizes are known that fit.
  mlir::FailureOr<tuner::KernelSizes> of(graph::KernelOp kernel,
                                         std::string &reason) const;

private:
  /// Values of the model's symbols.
  using Point = llvm::SmallVector<int64_t>;
  /// A kernel of symbolic sizes.
  struct Use {
    llvm::SmallVector<mlir::AffineExpr> symbols; ///< over the model's
    /// Of a variant, what decides between them, over the model's.
    mlir::AffineExpr size;
  };

  /// Moves what `size` depends on until it is at most `wanted`.
  void move(Point &point, mlir::AffineExpr size, int64_t wanted) const;
  Point scale(const Point &point, bool grows) const;

  llvm::SmallVector<SizeRange> ranges; ///< of the model's symbols
  /// What is asked for; the first is what to begin with where nothing is.
  llvm::SmallVector<Point> points;
  bool isAsked = false; ///< by -tune-dim
  llvm::StringMap<Use> uses;
};

} // namespace dlc

#endif // DLC_LIB_DRIVER_MEASUREDSIZES_H
