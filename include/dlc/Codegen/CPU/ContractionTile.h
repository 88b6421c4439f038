// The micro-kernel: a register tile of the result, accumulated over all of k.
// Each shape of tile becomes one private function, made when first called for.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONTILE_H
#define DLC_CODEGEN_CPU_CONTRACTIONTILE_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Codegen/Common/IndexBuilder.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <map>

namespace dlc {

struct ComputedFactor; // ContractionComputed.h

/// What all tiles of one kernel share. The values live in the caller; constants
/// among them become constants of the tile functions, others arguments.
struct TileParams {
  mlir::Type accumulator;
  mlir::Type lhsType, rhsType; ///< memory element types, sign kept
  /// lhs element (row i, step k) stands at
  ///   offset + i * lhsRow + (k / kBlock) * lhsBlock + k % kBlock.
  /// With kBlock == 1 only lhsBlock counts.
  unsigned kBlock = 1;
  mlir::Value lhsRow, lhsBlock;
  /// rhs vector v of step k stands at
  ///   offset + k * rhsStep + (v / panelVectors) * rhsPanel
  ///          + (v % panelVectors) * lanes.
  unsigned panelVectors = 1;
  mlir::Value rhsStep, rhsPanel;
  /// Dot form: k of both factors are contiguous, column j of rhs stands at
  /// offset + j * rhsColumn.
  bool dot = false;
  unsigned registers = 16; ///< of vectors; read in dot form
  mlir::Value rhsColumn;
  /// The last vector of a tile with a tail, half of the lanes, has two steps of
  /// k in turns; steps come in twos then.
  bool pairsTail = false;
  bool maskRhs = false; ///< rhs has no padding: tails must not read past it
  bool maskOut = true;  ///< nor has the place of the sums
  mlir::Value outRow;   ///< distance of result rows
  unsigned lanes = 1, unroll = 1, prefetch = 0;
  /// What is fetched ahead: the next tile's columns at the same k, not what
  /// lies `prefetch` steps of k ahead.
  bool prefetchAcross = false;
  /// What tiles that come later will read of rhs, fetched into the second-level
  /// cache on the way: from the call's `ahead` on, moved by `aheadStep`
  /// elements a step of k, in each of `aheadPanels` panels. 0 panels: nothing.
  unsigned aheadPanels = 0;
  int64_t aheadStep = 0;
  bool fma = true;
  /// Set: lhs is read indirectly. The tile functions then take, for an lhs
  /// offset, the number of the tile's first row, and `surroundings`.
  const ContractionSpec *indirect = nullptr;
  /// Tiles of an indirect lhs begin at multiples of so many rows; 0: not known.
  int64_t rowStep = 0;
  /// A memref of as many zeros as a run has steps (none without guards), then
  /// values of the kernel's symbols and of the outer axes.
  llvm::SmallVector<mlir::Value> surroundings;
  /// Set: rhs is computed from packed constants as it is used. The tile
  /// functions then take, for an rhs offset, the number of the tile's first
  /// column, and `surroundings`: the buffers of spec.rhsLoads, the symbols, the
  /// outer axes. Not together with an indirect lhs.
  const ComputedFactor *computed = nullptr;
  /// Its scale multiplies sums of the steps that share it.
  bool scalesSums = false;
  /// Set: what is computed from the sums of the last pass is computed in
  /// registers and stored; `out` then has sums between passes only, and is the
  /// first result where there are none. The tile functions take
  /// `epilogueValues`: its buffers (epilogueBuffers), the kernel's symbols, the
  /// outer axes.
  const ContractionSpec *epilogue = nullptr;
  llvm::SmallVector<mlir::Value> epilogueValues;
  std::string *problem = nullptr; ///< why it cannot be emitted
  /// The sums continue what lies in out, where the call's `accumulate` holds.
  bool accumulates = false;
  ScalarOptions scalar;
  ProductForm form = ProductForm::Single;
  /// Steps of k in a lane: an lhs row and a lane of an rhs vector hold so many
  /// side by side; the depth is a multiple of it.
  unsigned group = 1;
  bool lhsUnsigned = false; ///< bytes: which factor is the u8
  /// Bytes less zero points: the sums start from
  ///   rowZero[r] * columnTerm[c] - rowSum[r] * columnZero[c],
  /// memrefs of i32. Without rowZero or columnZero what they multiply has the
  /// zero point in it already; without columnTerm or rowSum there is no such
  /// product. The tile functions then take the numbers of the tile's first row
  /// and column in them.
  mlir::Value rowZero, columnTerm, rowSum, columnZero;
  bool hasTerms() const { return columnTerm || rowSum; }
};

struct TileShape {
  unsigned rows = 1, vectors = 1;
  /// Valid lanes of the last vector; 0 means all.
  unsigned tailLanes = 0;
  /// The number of valid columns is an argument.
  bool dynamicTail = false;

  auto key() const {
    return std::make_tuple(rows, vectors, tailLanes, dynamicTail);
  }
};

/// One vector of products of grouped narrow numbers, added to `sum`; `left` and
/// `right` are vectors of lanes * group elements.
mlir::Value emitGroupedProduct(mlir::OpBuilder &b, mlir::Location loc,
                               ProductForm form, bool leftUnsigned,
                               mlir::Value left, mlir::Value right,
                               mlir::Value sum);

/// The steps of k that a call sums.
struct TilePass {
  mlir::Value depth;      ///< how many
  mlir::Value accumulate; ///< i1: go on with the sums in out; null: start anew
  /// Of an indirect lhs: the first of the steps, whole taps of the first inner
  /// axis; null: 0.
  mlir::Value first = {};
  /// From the tile's sums to the next tile's, which are fetched where sums go
  /// on: behind the last tile lies what other threads use. Null: nothing is.
  mlir::Value outAhead = {};
};

/// Where a tile lies, for an epilogue in registers.
struct TileResult {
  mlir::Value offset;      ///< of its first element in the results
  mlir::Value row, column; ///< the numbers of the first ones
  mlir::Value isLast;      ///< i1: whether the pass is; null: it is
};

// ContractionMatrix.cpp: matrix tiles.

/// Configures this thread's tile registers; `scratch` is a memref of 64 bytes.
void emitTileConfiguration(IndexBuilder &index, mlir::Value scratch);
/// Leaves them in their initial state.
void emitTileRelease(mlir::OpBuilder &builder, mlir::Location loc);
/// A tile of one or two by one or two matrix tiles: `arguments` are lhs, its
/// offset, rhs, its offset, out, its offset. Whole matrix tiles are read and
/// written.
void emitMatrixTile(IndexBuilder &index, const TileParams &params,
                    TileShape shape, TilePass pass, mlir::ValueRange arguments,
                    mlir::Value termRow, mlir::Value termColumn);

class TileEmitter {
public:
  /// Functions are called `<prefix>.tile...` and put into `module`.
  TileEmitter(mlir::ModuleOp module, std::string prefix, TileParams params)
      : module(module), prefix(std::move(prefix)), params(params) {}

  /// out[0..rows, 0..columns] = sum over k of lhs * rhs, as a call at `index`'s
  /// insertion point. `columns` is read for dynamic tails and in dot form,
  /// `ahead`, an offset, where the parameters fetch panels ahead. All
  /// calls give a constant depth, the same one, or none does.
  void call(IndexBuilder &index, TileShape shape, TilePass pass,
            mlir::Value lhs, mlir::Value lhsOffset, mlir::Value rhs,
            mlir::Value rhsOffset, mlir::Value out, mlir::Value outOffset,
            mlir::Value columns, mlir::Value termRow = {},
            mlir::Value termColumn = {}, mlir::Value ahead = {},
            TileResult result = {});

private:
  mlir::func::FuncOp create(TileShape shape, mlir::Value depth, mlir::Type lhs,
                            mlir::Type rhs, mlir::Type out);

  mlir::ModuleOp module;
  std::string prefix;
  TileParams params;
  std::map<std::tuple<unsigned, unsigned, unsigned, bool>, mlir::func::FuncOp>
      functions;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONTILE_H
