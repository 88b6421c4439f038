// Packed forms of constant factors, and the host code that packs them when a
// model is compiled.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONPACKING_H
#define DLC_CODEGEN_CPU_CONTRACTIONPACKING_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"

namespace dlc {

/// Where the elements of a packed constant come from and where they go. Offsets
/// are in elements; the source is the row-major model constant.
///
/// A left factor: [batch][major / panel][inner / block][panel][block].
/// A right factor is the same with block == 1: [batch][column
/// panel][k][column], or with a block of a group of k. Ends of panels and
/// blocks are padded with zeros.
struct PackedLayout {
  int64_t panel = 1; ///< rows (or columns) of a panel
  int64_t block = 1; ///< consecutive k
  /// k are padded to whole steps of so many; 0: to whole blocks.
  int64_t depthStep = 0;
  int64_t elementBytes = 4;
  /// Bytes whose numbers have four bits: a block of eight k is a word, the
  /// first in its lowest bits.
  bool isHalved = false;
  /// f32: so many lanes, of which the last columns fill half, hold two steps of
  /// k of them in turns, in the first one's place; 0: none do.
  int64_t pairedLanes = 0;
  bool flips = false; ///< bytes: the sign bit is turned over
  /// Bytes only: behind the panels, at sumsOffset(), lies the sum of each row
  /// or column as i32, [batch][panel][row or column].
  bool hasSums = false;
  bool isUnsigned = false; ///< for the sums: of the bytes as they are packed
  llvm::SmallVector<int64_t> batch; ///< source offset of each batch
  std::vector<int64_t> major;       ///< source offset of each row or column
  std::vector<int64_t> inner;       ///< source offset of each k

  int64_t panels() const { return (int64_t(major.size()) + panel - 1) / panel; }
  /// k, padded.
  int64_t depth() const {
    int64_t step = std::max(block, depthStep);
    return (int64_t(inner.size()) + step - 1) / step * step;
  }
  int64_t batchElements() const { return panels() * panel * depth(); }
  int64_t panelBytes() const {
    return batchElements() * int64_t(batch.size()) * elementBytes /
           (isHalved ? 2 : 1);
  }
  int64_t sumsOffset() const { return (panelBytes() + 63) / 64 * 64; }
  int64_t bytes() const {
    return hasSums ? sumsOffset() + int64_t(batch.size()) * panels() * panel * 4
                   : panelBytes();
  }
  /// The element of the packed form that holds (batch b, row or column i, k).
  int64_t offsetOf(int64_t b, int64_t i, int64_t k) const {
    return b * batchElements() + i / panel * panel * depth() +
           k / block * panel * block + i % panel * block + k % block;
  }
  void pack(llvm::ArrayRef<char> constant,
            llvm::MutableArrayRef<char> packed) const;
  std::string str() const;
};

/// The layout of factor `operand` whose rows (or columns) are the axes `major`.
/// Fails when a size or a stride is not a compile-time constant.
mlir::FailureOr<PackedLayout>
makePackedLayout(const ContractionSpec &spec, const ContractionOperand &operand,
                 llvm::ArrayRef<unsigned> major, int64_t panel, int64_t block);
/// The same with the steps of k along `inner` only.
mlir::FailureOr<PackedLayout>
makePackedLayout(const ContractionSpec &spec, const ContractionOperand &operand,
                 llvm::ArrayRef<unsigned> major, int64_t panel, int64_t block,
                 llvm::ArrayRef<unsigned> inner);

/// The outer axes that `operand` varies along: the axes of the packed batch.
llvm::SmallVector<unsigned> packedBatchAxes(const ContractionSpec &spec,
                                            const ContractionOperand &operand);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONPACKING_H
