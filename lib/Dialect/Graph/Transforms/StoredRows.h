// How rows of floats lie in state: as they are, or rounded to few bits.
#ifndef DLC_LIB_DIALECT_GRAPH_TRANSFORMS_STOREDROWS_H
#define DLC_LIB_DIALECT_GRAPH_TRANSFORMS_STOREDROWS_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/Builders.h"

namespace dlc::graph {

/// Rows along `axis` of a tensor, in one or several tensors of its rank. With
/// `bits`, groups of elements along the last axis share a scale s, their
/// largest magnitude / q rounded to float16 (q = 127, 7 or 1.5), and each is
/// held as the nearest number to x / s, at most q in magnitude: an integer,
/// with 2 bits a half (-1.5, -0.5, 0.5, 1.5). So |x - n s| <= s / 2, but for
/// what the rounding of s moves (2^-11 of x, and all of x where s is below
/// float16's range). A group with a NaN or an infinity becomes NaN. A group is
/// the last axis with 8 bits, 32 elements of it (or all, where they are no
/// multiple) with less; two numbers of 4 bits or four of 2 share a byte.
class StoredRows {
public:
  /// `bits` is 0, 8, 4 or 2. On failure (a type that cannot be rounded) says
  /// why.
  static llvm::FailureOr<StoredRows> get(mlir::RankedTensorType row,
                                         int64_t axis, unsigned bits,
                                         std::string &reason);

  struct Part {
    llvm::StringRef suffix; ///< of the tensor's name
    mlir::Type element;
    int64_t last; ///< size of the last axis; -1: the row's
  };
  llvm::ArrayRef<Part> getParts() const { return parts; }

  /// Part i of rows `x`.
  llvm::SmallVector<mlir::Value> encode(mlir::OpBuilder &b, mlir::Location loc,
                                        mlir::Value x) const;
  /// Rows of type `type` from their parts.
  mlir::Value decode(mlir::OpBuilder &b, mlir::Location loc,
                     mlir::ValueRange stored,
                     mlir::RankedTensorType type) const;

private:
  int64_t bits = 0, group = 0, groups = 0;
  llvm::SmallVector<Part> parts;
};

} // namespace dlc::graph

#endif // DLC_LIB_DIALECT_GRAPH_TRANSFORMS_STOREDROWS_H
