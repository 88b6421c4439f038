// Matrix products and convolutions: sums of products whose factors change along
// different axes of the result.
#ifndef DLC_LIB_CODEGEN_CUDA_CONTRACTION_H
#define DLC_LIB_CODEGEN_CUDA_CONTRACTION_H

#include "StageEmitter.h"

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Schedule/ScheduleSpace.h"

#include <optional>

namespace dlc {

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
  /// Output elements of one block, and its threads.
  int64_t tileRows = 64, tileColumns = 64;
  unsigned threads = 256;
  /// Sums of one thread on plain units.
  int64_t threadRows = 4, threadColumns = 4;
  /// Rows of an instruction of tensor cores: 16, of a warp (mma.sync), or 64,
  /// of a warpgroup (wgmma).
  int64_t instructionRows = 16;
  /// Warps next to each other along a tile's columns on tensor cores.
  int64_t warpColumns = 4;
  /// Steps of the fold between two barriers, and panels of so many in shared
  /// memory at a time.
  int64_t panelSteps = 16, stages = 2;
  /// Steps of the fold that a block sums up, where there are too few tiles for
  /// the device: another launch adds the parts of an element, in order. 0: all.
  int64_t stepsAPart = 0;

  bool hasWarpGroups = false; ///< the device has wgmma

  bool usesTensorCores() const { return narrowLeft != nullptr; }
  bool usesWarpGroups() const {
    return usesTensorCores() && instructionRows == 64;
  }
  /// Sums of integers: in any order the same.
  bool isExact() const;
};

/// The stage as a contraction worth tiling: of f32, or of i32 with factors of
/// bytes, with enough rows and columns (as far as they are known) to fill a
/// tile.
std::optional<Contraction> matchContraction(graph::StageOp stage,
                                            const CudaCodegenOptions &options);

/// How a factor gets to shared memory.
struct FactorCopy {
  bool alongFold = false;   ///< the fold is innermost in the operand
  bool transposed = false;  ///< tensor cores: ... and not in the panel
  graph::LoadOp contiguous; ///< what cp.async reads in chunks; null: it cannot
  graph::LoadOp word;       ///< what it reads element by element; null
  graph::LoadOp load;       ///< the factor is this, zero where it is guarded

  bool isAsync() const { return contiguous || word; }
};
FactorCopy copyOf(const Contraction &contraction, bool isLeft);

/// Words between the rows of a panel for plain units: they stay 16-byte aligned
/// and off each other's banks.
inline constexpr int64_t kPanelPadding = 4;

/// Sets instruction, tile, threads, panels and parts as the rules have it.
void chooseCut(Contraction &contraction);

/// Of a tile of wgmma: the same tile, threads and parts by mma.sync, in static
/// shared memory; nothing: there is none.
std::optional<Contraction> portableForm(const Contraction &contraction);

/// The knobs of a contraction: what chooseCut chose, what they may be, and the
/// same with other values; fails in words where those make no tile. Values of 0
/// are the rule's.
KnobValues toKnobs(const Contraction &contraction);
std::vector<ScheduleSpace::Knob> contractionKnobs(const Contraction &c);
bool applyKnobs(Contraction &contraction, const KnobValues &knobs,
                std::string &reason);

/// Both factors are copied to shared memory without passing registers.
bool isCopiedAsync(const Contraction &contraction);

/// Threads that a multiprocessor is to have resident, for the registers of one.
unsigned residentThreads(const Contraction &contraction);

/// Shared memory of a block for panels and sums, in bytes, dynamic with wgmma,
/// else static; and the rows of a tile that pass through it at once on their
/// way to memory, and the words from one to the next.
int64_t sharedBytes(const Contraction &contraction);
int64_t rowsAPass(const Contraction &contraction);
int64_t rowPitch(const Contraction &contraction);
/// Neighbours along a row that a thread takes at once on that way.
int64_t elementsAtOnce(const Contraction &contraction);

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
/// shared memory, each thread keeps its sums in registers. `store` takes
/// finished elements, or their parts in the running block (whose number is
/// block / countTiles of the parts), neighbours along the innermost axis, and
/// the first one's point in the domain.
using StoreElements =
    llvm::function_ref<void(llvm::ArrayRef<Scalar>, mlir::ValueRange)>;
llvm::LogicalResult emitTile(LaunchBuilder &launch, StageEmitter &emitter,
                             const Contraction &contraction,
                             StoreElements store);

/// The same on the plain f32 units, by tensor cores of a warp, of a warpgroup.
llvm::LogicalResult emitPlainTile(LaunchBuilder &launch, StageEmitter &emitter,
                                  const Contraction &contraction,
                                  StoreElements store);
llvm::LogicalResult emitTensorTile(LaunchBuilder &launch, StageEmitter &emitter,
                                   const Contraction &contraction,
                                   StoreElements store);
llvm::LogicalResult emitWarpGroupTile(LaunchBuilder &launch,
                                      StageEmitter &emitter,
                                      const Contraction &contraction,
                                      StoreElements store);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_CONTRACTION_H
