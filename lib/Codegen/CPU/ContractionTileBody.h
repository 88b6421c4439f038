// The body of one tile function of a contraction.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONTILEBODY_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONTILEBODY_H

#include "ContractionComputed.h"

#include "dlc/Codegen/CPU/ContractionTile.h"
#include "dlc/Schedule/OperandForm.h"

namespace dlc {

/// The body of one tile function.
class TileBody {
public:
  TileBody(mlir::OpBuilder &b, mlir::Location loc, const TileParams &params,
           TileShape shape, TilePass pass, TileResult result)
      : b(b), loc(loc), index(b, loc), scalars(b, loc, params.scalar),
        p(params), shape(shape), pass(pass), result(result),
        type(mlir::VectorType::get(
            {params.lanes}, ScalarEmitter::computeType(params.accumulator))) {}

  void emit(mlir::Value lhs, mlir::Value lhsOffset, mlir::Value rhs,
            mlir::Value rhsOffset, mlir::Value out, mlir::Value outOffset,
            mlir::Value columns, mlir::Value firstTermRow,
            mlir::Value firstTermColumn, mlir::Value fetchedAhead);

private:
  using Accumulators = llvm::SmallVector<mlir::Value>;

  void makeMasks(mlir::Value columns);
  /// `count` steps from k offsets (lhsAt, rhsAt); consecutive k of lhs stand
  /// `lhsStep` apart. `unroll`: in the loop's body; 0: the schedule's.
  Accumulators steps(mlir::Value count, mlir::Value lhsAt, mlir::Value rhsAt,
                     mlir::Value lhsStep, Accumulators sums,
                     unsigned unroll = 0);
  // ContractionPairs.cpp
  /// Whether the last vector has two steps of k.
  bool hasPairs() const;
  /// Two steps of k.
  Accumulators pairStep(mlir::Value lhsAt, mlir::Value rhsAt,
                        Accumulators sums);
  /// Sums of columns to sums of even and of odd steps, and back.
  void spreadPairs(Accumulators &sums);
  void addPairs(Accumulators &sums);
  void fetchAhead(mlir::Value k);
  void emitDots(mlir::Value lhsOffset, mlir::Value rhsOffset, mlir::Value out,
                mlir::Value outOffset, mlir::Value columns);
  /// `width` columns from `column` on, all rows.
  void dots(unsigned width, mlir::Value column, mlir::Value lhsOffset,
            mlir::Value rhsOffset, mlir::Value out, mlir::Value outOffset);
  /// `sum` null, of floats: the product alone.
  mlir::Value multiplyAdd(mlir::Value left, mlir::Value right, mlir::Value sum);
  /// One step of k; `plus` of those from (lhsAt, rhsAt) on that are unrolled.
  Accumulators step(mlir::Value lhsAt, mlir::Value rhsAt, unsigned plus,
                    Accumulators sums);
  /// Vector `v` of rhs at a step.
  mlir::Value loadRhs(mlir::Value rhsAt, unsigned v);
  /// The same of `scalar`, which a computed rhs is or is made of, at step
  /// k + plus, k being a multiple of `stepsAlign` and plus less.
  mlir::Value computeRhs(mlir::Value scalar, mlir::Value k, unsigned plus,
                         unsigned stepsAlign, unsigned v);
  /// One step's products, of all rows.
  Accumulators multiply(mlir::Value lhsAt, llvm::ArrayRef<mlir::Value> right,
                        Accumulators sums);
  // ContractionScaled.cpp
  /// Sums of the steps that share a scale, times the scale.
  Accumulators scaledSteps(mlir::Value lhsOffset, Accumulators sums);
  /// Sums over all steps with an address for each row.
  Accumulators indirectSteps(mlir::Value firstRow, mlir::Value rhsOffset,
                             Accumulators sums);
  /// Sets where each row starts, at the coordinates `axes` but for the rows'.
  void locateRows(mlir::Value firstRow, llvm::SmallVector<mlir::Value> axes);
  void placeInImage();
  /// Sets the axes of the rows to those of the tile's row `r`.
  void setPixel(unsigned r, mlir::Value firstRow,
                llvm::SmallVectorImpl<mlir::Value> &axes);
  /// Whether the guards that move along an image's row hold for its pixels
  /// [from, to) at all taps.
  bool holdsBeside(int64_t from, int64_t to);
  /// `body` for the place of the tile in its image's row: what is padding of
  /// the first and of the last tile is known, and between them is none.
  Accumulators
  byPlaceInRow(mlir::Value firstRow, Accumulators sums,
               llvm::function_ref<Accumulators(Accumulators)> body);
  /// Where lhs lies at `axes`, and `more` elements. What is constant comes
  /// last: it becomes an immediate offset from what a loop moves.
  mlir::Value imageAt(llvm::ArrayRef<mlir::Value> axes, int64_t more);
  /// Whether products with padding may be left out.
  bool passesOverPadding() const {
    return !p.scalar.strict && !outsideOf(p.indirect->lhs);
  }
  /// Whether a guard is the same for all rows: asked once a tap, which is left
  /// out where it fails.
  bool isOfWholeTile(mlir::AffineExpr guard);
  /// `inside` (null: true) and that a guard of this value holds.
  /// Of an indirect lhs: the kernel's symbols among `surroundings`.
  mlir::ValueRange symbols() {
    graph::KernelOp kernel = p.indirect->kernel;
    return mlir::ValueRange(p.surroundings).slice(1, kernel.getNumSymbols());
  }
  mlir::Value outAt(mlir::Value outOffset, unsigned row, unsigned vector);
  /// Zeros, or the sums in `out` so far.
  Accumulators start(mlir::Value out, mlir::Value outOffset);
  /// The sums to `out`.
  void store(const Accumulators &sums, mlir::Value out, mlir::Value outOffset);
  /// What is computed from them to the results; ContractionEpilogue.cpp.
  void finish(const Accumulators &sums);
  /// The sums before the first product.
  Accumulators initialSums();
  /// A row's element, or its group of them, in every lane.
  mlir::Value broadcastLhs(unsigned row, mlir::Value at);
  Accumulators
  loop(mlir::Value from, mlir::Value to, int64_t by, Accumulators init,
       llvm::function_ref<Accumulators(mlir::Value, Accumulators)> body);
  mlir::Value maskOf(unsigned vector) {
    return masks.empty() ? mlir::Value() : masks[vector];
  }
  mlir::Value vectorOffset(mlir::Value base, unsigned vector);
  mlir::Value zeroVector(mlir::Type element) {
    auto vectorType = mlir::VectorType::get({p.lanes}, element);
    return mlir::arith::ConstantOp::create(b, loc, b.getZeroAttr(vectorType));
  }

  mlir::OpBuilder &b;
  mlir::Location loc;
  IndexBuilder index;
  ScalarEmitter scalars;
  const TileParams &p;
  TileShape shape;
  TilePass pass;
  TileResult result;
  mlir::VectorType type;
  llvm::SmallVector<mlir::Value> masks; // of each vector; null: all lanes
  llvm::SmallVector<mlir::Value> rowOffsets;
  llvm::SmallVector<mlir::Value> rowMemories; ///< of each row; empty: lhs
  llvm::SmallVector<bool> isPadding;          ///< of each row; empty: none is
  /// Of an image that is read indirectly: the pixels of its rows (0: not
  /// known), whether the tile begins with one, and whether it ends in it.
  int64_t imageWidth = 0;
  llvm::SmallVector<mlir::Value> imageExtents; ///< of the axes of its rows
  bool startsImageRow = false, staysInImageRow = false;
  std::optional<int64_t> firstPixel; ///< of the tile in its image's row
  bool isBesideInside = false; ///< no pixel has padding left or right of it
  /// Whether it lies within one, and a tap is so few steps that an address for
  /// each row would cost more than the products.
  bool hasShortTaps = false;
  mlir::Value lhs, rhs;
  mlir::Value termRow, termColumn;
  mlir::Value ahead; ///< what is fetched from; null: nothing
  mlir::Value begun; ///< steps of k before those that `steps` emits
  std::optional<ExprEmitter> expressions; ///< of a computed rhs
  std::optional<ComputedEmitter> computed;
  mlir::Value firstColumn; ///< of the tile, for a computed rhs
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONTILEBODY_H
