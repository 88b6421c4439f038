// Tensors that are parts of larger ones: the kernel that computes a part stores
// it there, and keeps a distance between the runs of its last axis.
#ifndef DLC_DIALECT_GRAPH_IR_PLACEMENT_H
#define DLC_DIALECT_GRAPH_IR_PLACEMENT_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseSet.h"

namespace dlc::graph {

/// On a kernel: a number for each operand and then each result. Elements from
/// the start of one run of the tensor's last axis to that of the next one; 0:
/// rows lie one after the other. Where tensors lie is no part of what a kernel
/// means: only addresses read this.
inline constexpr llvm::StringLiteral kPitchAttr = "graph.pitches";

/// Whether any tensor of the kernel has a pitch.
bool hasPitches(KernelOp kernel);

/// The pitch of an operand or result of a kernel, named by the value that
/// stages load or return; 0 for all others.
int64_t getPitch(mlir::Value tensor);

/// The sizes by which the tensor's addresses are computed, row-major: its dims,
/// of which the last is the pitch where there is one.
llvm::SmallVector<mlir::AffineExpr> getMemoryDims(mlir::Value tensor);

/// A kernel's result as its operands one after the other.
struct ConcatForm {
  unsigned axis = 0;
  llvm::SmallVector<int64_t> offsets; ///< of each operand along the axis

  /// Whether each operand is one run of a result of this shape, and whether it
  /// is joined along the last axis.
  bool hasWholeParts(llvm::ArrayRef<int64_t> shape) const;
  bool isOfLastAxis(llvm::ArrayRef<int64_t> shape) const {
    return axis + 1 == shape.size();
  }

  mlir::DictionaryAttr toAttr(mlir::MLIRContext *context) const;
  static std::optional<ConcatForm> fromAttr(mlir::Attribute attr);
};

/// On a call, a ConcatForm: those who compute the operands store the result
/// with them, so that the call is no work. It stays in @main to say what the
/// tensor is. Sizes are constant; either all axes before `axis` have one
/// element, or it is the last one and the kernels that compute operands have
/// its size for a pitch.
inline constexpr llvm::StringLiteral kPlacedAttr = "graph.placed";

/// On a call, a unit: a concatenation that fusion leaves alone, because its
/// operands are likely to be stored so.
inline constexpr llvm::StringLiteral kKeptAttr = "graph.kept";

/// The kernels that have placed calls and no others: nobody runs them.
llvm::DenseSet<mlir::StringAttr> getPlacedKernels(mlir::ModuleOp module);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_PLACEMENT_H
