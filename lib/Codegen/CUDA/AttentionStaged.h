// A tile of attention whose 16-bit factors go through shared memory, in chunks
// of 16 bytes: by cp.async where an operand is nothing but contiguous chunks,
// else by registers. Scores and sums are fragments of tensor cores (MmaSync.h,
// WarpGroup.h): a thread has two rows of the 16 of its warp, eight apart, and
// of every eight keys or columns two neighbours.
#ifndef DLC_LIB_CODEGEN_CUDA_ATTENTIONSTAGED_H
#define DLC_LIB_CODEGEN_CUDA_ATTENTIONSTAGED_H

#include "AttentionTile.h"

namespace dlc {

class StagedTile : public AttentionTile {
protected:
  StagedTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : AttentionTile(launch, plan) {
    lanes = 4;
    numRows = 2;
    numKeys = plan.keys / 4;
    numColumns = plan.columns / 4;
    lane = index.rem(launch.thread(), index.constant(kWarpThreads));
    warpRow =
        index.mul(index.div(launch.thread(), index.constant(kWarpThreads)), 16);
    group = index.div(lane, index.constant(4));
    inGroup = index.mul(index.rem(lane, index.constant(4)), 2);
    rows.isQuick = true;
  }

  mlir::Value rowOf(unsigned i) override {
    return index.add(index.add(warpRow, group), 8 * i);
  }
  mlir::Value keyOf(unsigned j) override {
    return index.add(inGroup, j / 2 * 8 + j % 2);
  }
  mlir::Value columnOf(unsigned c) override { return keyOf(c); }
  /// From registers, in the order of instructions, to [row][..] and back.
  Values toElements(mlir::ValueRange registers, unsigned perRow);
  Values toRegisters(mlir::ValueRange elements, unsigned perRow);

  /// Rows of queries, keys or values side by side.
  struct Panel {
    mlir::Value factor;
    const ContractionOperand *operand;
    llvm::ArrayRef<unsigned> along; ///< axes of a row
    int64_t extent;                 ///< padded
    int64_t offset;                 ///< bytes, of shared memory or a stage
    mlir::Value first = {};         ///< of the row's elements; null: 0
    bool ofRows = false;            ///< of queries: else of keys
  };

  /// Two 16-bit elements in a word.
  mlir::Value pair(mlir::Value low, mlir::Value high);
  /// Chunks along the panel's rows are contiguous, aligned and wholly inside or
  /// outside.
  bool isContiguous(const Panel &panel) const;
  /// Where element `first` of row `at` lies in the operand's memory.
  mlir::Value positionOf(const Panel &panel, mlir::Value at, mlir::Value first);
  /// Chunk `first` of the panel's row `at`, or zeros, to byte `place` of
  /// `words`. `inside`, null: certainly.
  void copyChunk(const Panel &panel, mlir::Value at, mlir::Value first,
                 mlir::Value inside, mlir::Value place);
  void copyChunk(const Panel &panel, mlir::Value position, mlir::Value inside,
                 mlir::Value place);
  void loadChunk(const Panel &panel, mlir::Value at, mlir::Value first,
                 mlir::Value place);

  mlir::Value words; ///< memref of i32 in shared memory
  mlir::Value lane, warpRow, group, inGroup;

private:
  AttentionRows::Axes axesAt(const Panel &panel, mlir::Value at,
                             mlir::Value element);
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ATTENTIONSTAGED_H
