// A right factor that is computed from packed constants (weights from numbers,
// zero points and scales): its elements, a vector of columns at a time.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONCOMPUTED_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONCOMPUTED_H

#include "dlc/Codegen/CPU/ContractionExpr.h"
#include "dlc/Codegen/CPU/ContractionPacking.h"

namespace dlc {

/// Such a factor of one kernel, wherever in its code it is computed.
struct ComputedFactor {
  const ContractionSpec &spec;
  const ContractionSchedule &schedule;
  /// Of spec.rhsLoads.
  const llvm::SmallVectorImpl<PackedLayout> &layouts;
  std::string &problem; ///< why it cannot be computed; empty: it can

  /// Whether tiles compute what they multiply, instead of reading panels of it.
  static bool isInTiles(const ContractionSpec &spec,
                        const ContractionSchedule &schedule) {
    return schedule.rhs == FactorSource::Packed && !spec.rhs.plain &&
           !schedule.widensRhs;
  }
};

/// Which of its elements: a vector of columns, of one step of k.
struct ComputedPoint {
  mlir::Value panel;  ///< the column that a panel begins with
  mlir::Value inside; ///< the vector's first one in that panel
  mlir::Value first;  ///< steps of k: a multiple of `stepsAlign`, and
  unsigned plus = 0;  ///< fewer than that beyond it
  unsigned stepsAlign = 1;
};

/// Emits such elements at the index builder's insertion point. `axes` gives the
/// outer coordinates, `buffer` the kernel's operands.
class ComputedEmitter {
public:
  ComputedEmitter(IndexBuilder &index, const ComputedFactor &factor,
                  ExprEmitter &expressions, mlir::ValueRange symbols,
                  llvm::ArrayRef<mlir::Value> axes,
                  std::function<mlir::Value(unsigned operand)> buffer)
      : index(index), factor(factor), expressions(expressions),
        symbols(symbols), axes(axes.begin(), axes.end()),
        buffer(std::move(buffer)) {}

  /// A vector in the accumulator's type; null where the factor's `problem`
  /// says why.
  mlir::Value emit(const ComputedPoint &point);

private:
  mlir::Value load(graph::LoadOp load, const ComputedPoint &point,
                   const ExprPoint &coordinates);
  void setAxes(llvm::ArrayRef<unsigned> group, mlir::Value linear,
               llvm::SmallVectorImpl<mlir::Value> &at);

  IndexBuilder &index;
  const ComputedFactor &factor;
  ExprEmitter &expressions;
  mlir::ValueRange symbols;
  llvm::SmallVector<mlir::Value> axes;
  std::function<mlir::Value(unsigned)> buffer;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONCOMPUTED_H
