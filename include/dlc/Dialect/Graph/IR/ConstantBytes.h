// The bytes of constants, and their elements in other places.
#ifndef DLC_DIALECT_GRAPH_IR_CONSTANTBYTES_H
#define DLC_DIALECT_GRAPH_IR_CONSTANTBYTES_H

#include "mlir/IR/BuiltinAttributes.h"

namespace dlc::graph {

/// The elements' bytes, row-major; none where they are not at hand (a splat
/// keeps one element, a resource may be without its blob).
llvm::ArrayRef<char> rawBytesOf(mlir::ElementsAttr value);

/// Where element (i, j, ...) of a tensor is in its bytes.
struct ByteStrides {
  int64_t offset = 0;
  llvm::SmallVector<int64_t> steps;

  /// Of a row-major tensor of elements of `size` bytes.
  static ByteStrides rowMajor(llvm::ArrayRef<int64_t> shape, int64_t size);
};

/// Copies the elements of `shape`, of `size` bytes each, from where `from` says
/// in `source` to where `to` says in `target`.
void copyElements(llvm::ArrayRef<int64_t> shape, int64_t size,
                  const char *source, const ByteStrides &from, char *target,
                  const ByteStrides &to);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_CONSTANTBYTES_H
