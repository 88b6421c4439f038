// What the tiles of a contraction have in common, whatever multiplies: the
// block's place in the result, panels along the fold, the stores.
#ifndef DLC_LIB_CODEGEN_CUDA_CONTRACTIONTILE_H
#define DLC_LIB_CODEGEN_CUDA_CONTRACTIONTILE_H

#include "PlaceParts.h"

namespace dlc {

class ContractionTile {
protected:
  ContractionTile(LaunchBuilder &launch, StageEmitter &emitter,
                  const Contraction &contraction)
      : launch(launch), emitter(emitter), c(contraction), stage(c.stage),
        b(launch.builder()), loc(launch.loc()), index(launch.index()) {}

  /// What the block's sums start from.
  mlir::Value sumStart();
  /// The elements along these axes.
  mlir::Value count(llvm::ArrayRef<unsigned> axes);
  /// Finds the tile of the running block.
  void begin();
  /// Whether the factor with these axes has an element at `at`, `atDepth`.
  mlir::Value isInside(llvm::ArrayRef<unsigned> axes, mlir::Value at,
                       mlir::Value atDepth);
  /// The coordinates of the stage there, domain then reduce axes.
  llvm::SmallVector<mlir::Value> coordinatesAt(llvm::ArrayRef<unsigned> axes,
                                               mlir::Value at,
                                               mlir::Value atDepth);
  /// The factor there; notes where the emitter refuses.
  llvm::FailureOr<Scalar> factorAt(mlir::Value factor,
                                   llvm::ArrayRef<unsigned> axes,
                                   mlir::Value at, mlir::Value atDepth);

  /// Calls `body` for the running thread's share of `count` pieces: every
  /// so-many-th.
  void dealOut(int64_t count, llvm::function_ref<void(mlir::Value)> body);
  /// cp.async of `bytes` of a factor that is `load`, from there to byte `place`
  /// of `words`; zeros outside.
  void copyPart(graph::LoadOp load, llvm::ArrayRef<unsigned> axes,
                mlir::Value at, mlir::Value atDepth, mlir::Value words,
                mlir::Value place, int64_t bytes);
  /// The parts of a place: of an element, and of a step.
  PlacePart elementPart(const PlaceParts &parts, llvm::ArrayRef<unsigned> axes,
                        mlir::Value at);
  PlacePart stepPart(const PlaceParts &parts, mlir::Value atDepth);
  /// Whether the guard holds at both parts.
  mlir::Value mayRead(PlacePart x, PlacePart y);
  /// Entry `i` of a table of parts, a memref of i32 in shared memory; the entry
  /// at an address.
  void storePart(mlir::Value table, mlir::Value i, PlacePart part);
  PlacePart loadPart(mlir::Value pointer);
  /// The parts of a panel's steps, a thread each, where every other panel has
  /// them: an entry a step from firstEntry on in each table.
  using StepTable = std::pair<const PlaceParts *, mlir::Value>;
  void fillStepTables(llvm::ArrayRef<StepTable> tables,
                      mlir::Value panelNumber);
  mlir::Value firstEntry(mlir::Value panelNumber);
  /// Room for a factor's table; null: it has none.
  mlir::Value makeTable(bool isLeft);
  /// The address of so many elements behind the operand's first; of what lies
  /// behind an address.
  mlir::Value addressOf(const PlaceParts &parts, mlir::Value offset);
  mlir::Value behind(mlir::Value pointer, mlir::Type type,
                     mlir::Value elements);
  mlir::Value behind(mlir::Value pointer, int64_t bytes);
  mlir::Value word(int64_t value);

  /// Words of shared memory that storeTile needs for this many rows.
  int64_t tileWords(int64_t rows) const { return rows * rowPitch(c); }
  using StoreSum = llvm::function_ref<void(mlir::Value row, mlir::Value column,
                                           mlir::Value)>;
  using AdjustSum =
      llvm::function_ref<mlir::Value(mlir::Value row, mlir::Value column,
                                     mlir::ValueRange point, mlir::Value sum)>;
  /// Stores the tile's sums: through shared memory (`words`, of i32), so that
  /// neighbour threads store neighbour elements, elementsAtOnce each, and what
  /// follows a sum is emitted once for each, `rowsAPass` rows a time. `scatter`
  /// is called once a pass with the first of its rows and gives the thread's
  /// own sums of these rows, at places in the tile. `adjust` makes the stage's
  /// sum of one of the tile's, whose place in the tile and whose point it is
  /// given.
  void storeTile(
      mlir::Value words, int64_t rowsAPass,
      llvm::function_ref<void(mlir::Value firstOfPass, StoreSum put)> scatter,
      StoreElements store, AdjustSum adjust = nullptr);

  LaunchBuilder &launch;
  StageEmitter &emitter;
  const Contraction &c;
  graph::StageOp stage;
  mlir::OpBuilder &b;
  mlir::Location loc;
  IndexBuilder &index;
  mlir::Value firstRow, firstColumn; ///< of the tile
  mlir::Value firstStep, depth;      ///< of the block's part of the fold: end
  bool failedInside = false;

private:
  /// Row and column, in tiles, of the tile of this number.
  std::pair<mlir::Value, mlir::Value>
  tileAt(mlir::Value number, mlir::Value rowTiles, mlir::Value columnTiles);
  mlir::Value linearPlace(const PlaceParts &parts,
                          llvm::ArrayRef<mlir::AffineExpr> map,
                          mlir::ValueRange coordinates);
  llvm::SmallVector<mlir::Value> stepCoordinates(mlir::Value atDepth);
  void storeAt(mlir::Value rowInTile, mlir::Value columnInTile,
               llvm::ArrayRef<mlir::Value> sums, StoreElements store,
               AdjustSum adjust);
  void setAxes(llvm::SmallVectorImpl<mlir::Value> &coordinates,
               llvm::ArrayRef<unsigned> axes, mlir::Value linear);

  llvm::SmallVector<mlir::Value> batch; ///< its coordinates; other axes are 0
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_CONTRACTIONTILE_H
