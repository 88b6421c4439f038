// What is computed from a vector of sums: every stage after the sum, each
// result stored where it belongs. Finished tiles are passed over by a loop of
// it, or it is part of the tile (TileParams::epilogue).
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONEPILOGUE_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONEPILOGUE_H

#include "dlc/Codegen/CPU/ContractionExpr.h"

namespace dlc {

/// The kernel's buffers that what comes after the sum reads and writes.
llvm::SmallVector<unsigned> epilogueBuffers(const ContractionSpec &spec);

/// Emits it at the index builder's insertion point. `buffer` gives the kernel's
/// operands, then its results.
class VectorEpilogue {
public:
  VectorEpilogue(IndexBuilder &index, const ContractionSpec &spec,
                 unsigned lanes, const ScalarOptions &options,
                 mlir::ValueRange symbols, mlir::ValueRange outer,
                 std::function<mlir::Value(unsigned)> buffer);

  /// Where the sums stand: numbers of a row and of a vector's first column,
  /// their axes walked as one.
  void setRow(mlir::Value row) { setCoordinates(spec.rows, row); }
  void setColumn(mlir::Value column) { setCoordinates(spec.columns, column); }
  /// The same for loads that walk those axes as one, too
  /// (isShortEpilogue): nothing is divided.
  void setLinear(mlir::Value row, mlir::Value column);

  /// Stores the results at `to` in each. The one in which the sums lie
  /// already has nothing to be stored where it is the sum.
  mlir::LogicalResult emit(mlir::Value sum, mlir::Value to, mlir::Value mask,
                           std::optional<unsigned> direct, std::string &reason);

  /// The distance of two rows of a result.
  mlir::Value rowStride();

private:
  void setCoordinates(llvm::ArrayRef<unsigned> group, mlir::Value linear);

  IndexBuilder &index;
  const ContractionSpec &spec;
  mlir::ValueRange symbols;
  std::function<mlir::Value(unsigned)> buffer;
  ExprEmitter expressions;
  ExprPoint point;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONEPILOGUE_H
