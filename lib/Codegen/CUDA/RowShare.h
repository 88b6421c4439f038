// How the threads of a launch of rows share them: a thread has pieces of
// neighbour elements of its row, one access each, and keeps in registers what
// the stages hand each other.
#ifndef DLC_LIB_CODEGEN_CUDA_ROWSHARE_H
#define DLC_LIB_CODEGEN_CUDA_ROWSHARE_H

#include "dlc/Codegen/CUDA/CudaKnobs.h"

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/SmallVector.h"

#include <optional>

namespace dlc {

struct RowShare {
  /// Extents of a row's axes, without those that are 1; the product where they
  /// can be walked as one.
  llvm::SmallVector<mlir::AffineExpr> axes;
  std::optional<int64_t> elements, rows; ///< of a row, of all; where known
  int64_t together = 1;                  ///< elements of a piece
  int64_t threads = 1;                   ///< of a row
  int64_t blockRows = 1;                 ///< rows of a block
  /// Pieces that a thread has at once: all of its row where `keeps`; else each
  /// fold and each result is a pass over the row, which computes again what it
  /// is made of.
  int64_t pieces = 1;
  bool keeps = true;

  int64_t blockThreads() const { return threads * blockRows; }
  int64_t elementsAThread() const { return pieces * together; }
};

/// Fills in the rules' threads for rows with pieces of up to `together`
/// elements (a power of two).
void shareRows(RowShare &share, int64_t together);
/// Takes over what `knobs` say; false, with a reason, where no code comes of
/// it.
bool applyKnobs(RowShare &share, const KnobValues &knobs, std::string &reason);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ROWSHARE_H
