// A right factor that is computed from packed constants (weights from numbers,
// zero points and scales): its elements, a vector of columns at a time.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONCOMPUTED_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONCOMPUTED_H

#include "dlc/Codegen/CPU/ConstantBits.h"
#include "dlc/Codegen/CPU/ContractionExpr.h"
#include "dlc/Codegen/CPU/ContractionPacking.h"

namespace dlc {

/// Such a factor of one kernel, wherever in its code it is computed.
struct ComputedFactor {
  const ContractionSpec &spec;
  const ContractionSchedule &schedule;
  /// Of spec.rhsLoads.
  const llvm::SmallVectorImpl<PackedLayout> &layouts;
  const ScalarOptions &scalar;
  std::string &problem; ///< why it cannot be computed; empty: it can

  /// Whether tiles compute what they multiply, instead of reading panels of it.
  static bool isInTiles(const ContractionSpec &spec,
                        const ContractionSchedule &schedule) {
    return schedule.rhs == FactorSource::Packed && !spec.rhs.plain &&
           !schedule.widensRhs;
  }
  /// Whether two of an operand's numbers are packed into a byte: those that
  /// there is one of for each step of k, not its zero points.
  static bool isHalved(const ContractionSpec &spec,
                       const ContractionOperand &load) {
    graph::KernelOp kernel = spec.kernel;
    auto bits = kernel->getAttrOfType<mlir::DenseI8ArrayAttr>(kConstantBits);
    return bits && load.element.isInteger(8) && bits[load.operand] <= 4 &&
           spec.innerAxesOf(load).size() == spec.inner.size();
  }
  static constexpr int64_t kHalvedBlock = 8; ///< steps of k in a word
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

  /// A vector of `scalar`, of which rhs is made or which it is, in the
  /// accumulator's type; null where the factor's `problem` says why.
  mlir::Value emit(const ComputedPoint &point, mlir::Value scalar);

private:
  mlir::Value load(graph::LoadOp load, const ComputedPoint &point,
                   const ExprPoint &coordinates);
  /// The numbers of a packed operand whose layout is halved: words.
  mlir::Value loadHalved(const ContractionOperand &operand,
                         const PackedLayout &layout, const ComputedPoint &point,
                         mlir::Value batch);
  /// The element's expression but for what is made of such a number alone,
  /// which is looked up; null: that is not done here.
  mlir::Value lookUp(const ComputedPoint &point, const ExprPoint &coordinates,
                     mlir::Value &function);
  mlir::Value batchOf(const ContractionOperand &operand,
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
