// Matrix products and convolutions: sums of products whose factors change along
// different axes of the result.
#ifndef DLC_LIB_CODEGEN_CUDA_CONTRACTION_H
#define DLC_LIB_CODEGEN_CUDA_CONTRACTION_H

#include "StageEmitter.h"

#include <optional>

namespace dlc {

/// Output elements of one block along rows and columns, and its threads.
inline constexpr int64_t kTileRows = 64;
inline constexpr int64_t kTileColumns = 64;
inline constexpr unsigned kTileThreads = 256;

/// result[batch, row, column] = sum over k of left(batch, row, k) *
/// right(batch, column, k), where every index may stand for several axes.
struct Contraction {
  graph::StageOp stage;
  /// Scalars of the stage's body.
  mlir::Value left, right;
  /// Domain axes of each kind, in order.
  llvm::SmallVector<unsigned> batchAxes, rowAxes, columnAxes;
  /// What tensor cores take in place of the factors: f16 or bf16 that are
  /// widened to f32, which makes their product exact; bytes that are widened to
  /// i32, less zero points; f32 that may be rounded to tf32. Null: plain units.
  mlir::Value narrowLeft, narrowRight;
  /// Scalars that are subtracted from bytes, the same for the whole fold; null:
  /// none.
  mlir::Value zeroLeft, zeroRight;
  /// Output elements of one block.
  int64_t tileRows = kTileRows, tileColumns = kTileColumns;
  /// Steps of the fold that a block sums up, where there are too few tiles for
  /// the device: another launch adds the parts of an element, in order. 0: all.
  int64_t stepsAPart = 0;

  bool usesTensorCores() const { return narrowLeft != nullptr; }
  /// Sums of integers: in any order the same.
  bool isExact() const;
};

/// The stage as a contraction worth tiling: of f32, or of i32 with factors of
/// bytes, with enough rows and columns (as far as they are known) to fill a
/// tile. `allowsTf32`: factors of f32 may be rounded.
std::optional<Contraction> matchContraction(graph::StageOp stage,
                                            bool allowsTf32);

/// Steps of the fold in a panel of tensor cores for elements of this type: 64
/// bytes of them.
int64_t panelDepth(mlir::Type element);

/// The product of the sizes of these domain axes.
mlir::AffineExpr extentOf(graph::StageOp stage, llvm::ArrayRef<unsigned> axes);

/// Blocks of a launch that computes the whole result, once for each part.
mlir::AffineExpr countTiles(const Contraction &contraction);

/// Parts of each sum; one where it is not split.
int64_t countParts(const Contraction &contraction);

/// A factor's elements lie next to each other along the innermost reduce axis,
/// for longer than a few.
bool liesAlongFold(graph::StageOp stage, mlir::Value factor);

/// Emits the tile of the running block: panels of both factors go through
/// shared memory, each thread keeps 4 x 4 sums in registers. `store` takes a
/// finished element, or its part in the running block (whose number is
/// block / countTiles of the parts), and its point in the domain.
llvm::LogicalResult
emitTile(LaunchBuilder &launch, StageEmitter &emitter,
         const Contraction &contraction,
         llvm::function_ref<void(Scalar, mlir::ValueRange)> store);

/// The same by tensor cores.
llvm::LogicalResult
emitTensorTile(LaunchBuilder &launch, StageEmitter &emitter,
               const Contraction &contraction,
               llvm::function_ref<void(Scalar, mlir::ValueRange)> store);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_CONTRACTION_H
