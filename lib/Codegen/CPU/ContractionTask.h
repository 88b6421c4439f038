// One task of a contraction as code: its class, shared by the files that emit
// the task (ContractionNest), the loops over its tiles (ContractionTiles) and
// what is done to a finished tile (ContractionEpilogue).
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONTASK_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONTASK_H

#include "ContractionComputed.h"
#include "ContractionPanels.h"
#include "dlc/Codegen/CPU/ContractionTile.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Schedule/OperandForm.h"

namespace dlc {

class ContractionTask {
public:
  ContractionTask(const ContractionSpec &wide,
                  const ContractionSchedule &schedule, const CpuTarget &target,
                  const CpuCodegenOptions &options)
      : spec(factorsOf(wide, schedule.form)), s(schedule), options(options),
        scalarOptions(ScalarOptions::get(target, options.strict)),
        registers(target.desc().vectorRegisters),
        kernel(const_cast<graph::KernelOp &>(spec.kernel)) {}

  mlir::FailureOr<CpuKernel> emit(std::string &reason);

private:
  /// What the epilogue may overwrite; ContractionInPlace.cpp.
  void findInPlace(CpuKernel &kernelCode);
  void layOutScratch(CpuKernel &result);
  mlir::LogicalResult packConstants(CpuKernel &result, std::string &reason);
  mlir::LogicalResult emitTask(std::string &reason);
  mlir::LogicalResult fillAndUse(std::string &reason);
  mlir::LogicalResult emitBlocks(std::string &reason);
  void locateLhs();
  mlir::AffineExpr outsideExpr();
  void fillZeros();
  void locateRhs();
  void locateResult();
  /// The result's tiles, of the task's rows and a block's columns.
  void emitTiles();
  void emitPasses();
  /// The part of k that is summed, from `first` on.
  struct Pass {
    mlir::Value first;
    TilePass steps;
    mlir::Value isLast; ///< i1; null: it is
  };
  /// A tile's height: `inPanel` rows into the panel that starts at `panelRow`.
  struct RowTile {
    unsigned rows;
    mlir::Value panelRow, inPanel;
    /// Rows that exist, where only a part of a matrix tile does; null: all.
    mlir::Value valid = {};
  };
  /// A tile's width; `validColumns` is a constant where it is static.
  struct ColumnTile {
    mlir::Value column;
    unsigned vectors, tailLanes;
    mlir::Value validColumns;
  };
  void forEachPass(llvm::function_ref<void(const Pass &)> body);
  void forEachColumnTile(llvm::function_ref<void(ColumnTile)> body);
  void forEachRowTile(llvm::function_ref<void(RowTile)> body);
  void forEachRestOfRows(mlir::Value whole, mlir::Value rest,
                         llvm::function_ref<void(RowTile)> body);
  void ifHolds(mlir::Value condition, llvm::function_ref<void()> body);
  /// The part of rhs that a tile's columns and a pass need, in scratch.
  void widenPanel(const ColumnTile &columnTile, const Pass &pass);
  void planAhead(TileParams &params);
  mlir::Value outAheadOf(mlir::Value row, mlir::Value column);
  mlir::Value aheadOf(const RowTile &rowTile, const ColumnTile &columnTile,
                      const Pass &pass);
  void setPart(const Pass &pass);
  void fillPass();
  void fillRowsOfTile(const RowTile &row);
  void emitTile(RowTile rowTile, ColumnTile columnTile, const Pass &pass);
  mlir::LogicalResult emitEpilogue(std::string &reason);
  void callEpilogue(mlir::Value outOffset, mlir::Value resultOffset,
                    mlir::Value row, mlir::Value column, mlir::Value rows,
                    mlir::Value validColumns);

  // ContractionWinograd.cpp, LibraryNest.cpp
  friend class WinogradTask;
  friend class LibraryTask;

  /// Steps of k, whole groups but in dot form.
  mlir::AffineExpr depthExpr();
  mlir::AffineExpr paddedDepthExpr();
  mlir::Value symbolic(mlir::AffineExpr expr) {
    return index->expr(expr, axes, symbols);
  }
  /// The offset of `operand` at the outer coordinates.
  mlir::Value outerOffset(mlir::AffineExpr base,
                          llvm::ArrayRef<mlir::AffineExpr> strides) {
    mlir::AffineExpr offset = base;
    for (unsigned axis : spec.outer)
      offset =
          offset + mlir::getAffineDimExpr(axis, spec.context()) * strides[axis];
    return symbolic(offset);
  }
  mlir::Value scratchAt(mlir::AffineExpr offset, mlir::Type type) {
    return function->scratchView(type, symbolic(offset));
  }
  mlir::Type panelType() { return panelElement(spec, s.form); }

  // Zero points of bytes: sum (a - p)(b - q) = sum a b - p sum b - q sum a
  // + K p q, exactly in 32 bits.
  bool isBytes() const { return isByteForm(s.form); }
  /// Whether sums of lhs count: rhs has zero points, as it lies in its panels.
  bool needsRowSums() const {
    return isBytes() && (spec.narrow->rhsZero || flipsRhs(spec, s.form));
  }
  bool needsColumnSums() const { return isBytes() && spec.narrow->lhsZero; }
  bool hasTerms() const { return needsRowSums() || needsColumnSums(); }
  /// Whether rows, and columns, have zero points of their own; else those are
  /// multiplied into the other side's sums.
  bool rowsDiffer() const { return differs(spec.narrow->lhsZero, spec.rows); }
  bool columnsDiffer() const {
    return differs(spec.narrow->rhsZero, spec.columns);
  }
  bool differs(mlir::Value zero, llvm::ArrayRef<unsigned> group) const {
    return zero && variesAlong(zero, spec.space, [&](unsigned axis) {
             return llvm::is_contained(group, axis);
           });
  }
  mlir::LogicalResult emitRowTerms(std::string &reason);
  mlir::LogicalResult emitColumnTerms(std::string &reason);
  /// What is subtracted from the bytes in rhs' panels: of a vector of columns
  /// from `column` on; null: of all, a number.
  mlir::FailureOr<mlir::Value> columnZeros(mlir::Value column,
                                           std::string &reason);
  mlir::Value sumOfRow(mlir::Value row);
  mlir::Value sumsOfRows(mlir::Value row);
  mlir::Value sumOfGroups(mlir::Value memory, mlir::Value start,
                          mlir::Value step, bool isUnsigned);
  /// The sums in the lanes of a vector, and those of `length` bytes more, whole
  /// groups.
  mlir::Value addBytes(mlir::Value memory, mlir::Value at, mlir::Value length,
                       mlir::Value sums);
  /// Of a row that is read by addresses: all its taps, padding too.
  mlir::Value sumsOfPixel(mlir::Value row, mlir::Value sums);
  mlir::Value sumsOfColumns(mlir::Value column);
  mlir::Value rhsColumnOffset(mlir::Value column);
  mlir::Value lhsRowOffset(mlir::Value panelRow, mlir::Value inPanel);
  mlir::Value packedBatch(const ContractionOperand &operand,
                          const PackedLayout &layout);
  mlir::AffineExpr constantExpr(int64_t value) {
    return mlir::getAffineConstantExpr(value, spec.context());
  }
  mlir::Type accumulator() {
    return ScalarEmitter::computeType(spec.accumulator);
  }
  unsigned resultBuffer(unsigned i) {
    return kernel.getArgumentTypes().size() + i;
  }
  /// Whether each pass over k fills its part of rhs.
  bool fillsPasses() const {
    return s.depthPerPass && s.rhs == FactorSource::Filled &&
           (s.usesTiles() || s.form == ProductForm::Single) &&
           hasColumnPanels(spec);
  }
  /// Whether a tile's rows are copied for a pass when their turn comes.
  bool fillsRowsOfTiles() const {
    if (!fillsPasses() || s.lhs != FactorSource::Filled || s.usesTiles())
      return s.usesTiles() && s.depthPerPass;
    return s.rowsOutside && !s.rowsOutsideFrom && copiesAlongDepth(spec, s);
  }
  /// Whether the sums of all the block's tiles wait in scratch between passes.
  bool keepsSums() const { return s.depthPerPass && !directResult(); }
  /// What panels have room for.
  mlir::AffineExpr panelDepthExpr() {
    return fillsPasses() ? constantExpr(s.depthPerPass) : depthExpr();
  }
  /// Whether the steps of k of a row lie side by side.
  bool hasWholeRows() const {
    return s.lhs == FactorSource::Memory || s.lhs == FactorSource::Indirect ||
           s.wholeRows || s.wholeSteps;
  }
  /// The result in which the sums lie until the tile is finished; none: they
  /// lie in scratch.
  std::optional<unsigned> directResult() const {
    if (sumsResult)
      return sumsResult;
    if (isTransformed || sumsInScratch || (s.usesTiles() && !hasWholeTiles()))
      return std::nullopt;
    auto found = findResultOfSums(spec);
    if (!found || s.depthPerPass || spec.results[*found] == spec.stage)
      return found;
    // A part of a vector that was just stored under a mask is not forwarded to
    // the load: in narrow tiles that is a wait a row.
    auto columns = graph::constantValue(spec.extentOf(spec.columns));
    bool isNarrow =
        columns && *columns % s.lanes != 0 && *columns < 4 * s.lanes;
    return isNarrow ? std::nullopt : found;
  }

  // Matrix tiles are read and written whole.
  bool isWhole(llvm::ArrayRef<unsigned> group) const {
    auto extent = graph::constantValue(spec.extentOf(group));
    return extent && *extent % kTileRows == 0;
  }
  bool hasWholeTiles() const {
    return isWhole(spec.rows) && isWhole(spec.columns);
  }
  /// Whether the last rows of an lhs in memory are copied, so that tiles do not
  /// read behind it.
  bool copiesLastRows() const {
    return s.usesTiles() && s.lhs == FactorSource::Memory &&
           !isWhole(spec.rows);
  }
  mlir::LogicalResult copyLastRows(std::string &reason);
  /// Whether sums lie in scratch although nothing is computed from them.
  bool copiesSums() const { return s.usesTiles() && !directResult(); }
  /// Whether the sums of a tile lie in memory at all.
  bool storesSums() const { return !s.epilogueInTiles || s.depthPerPass; }

  const ContractionSpec spec; ///< its factors are what lies in panels
  const ContractionSchedule &s;
  const CpuCodegenOptions &options;
  ScalarOptions scalarOptions;
  unsigned registers; ///< of vectors
  graph::KernelOp kernel;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::SmallVector<mlir::Type> bufferTypes;
  PackedLayout lhsLayout, rhsLayout;
  llvm::SmallVector<PackedLayout> rhsLayouts; ///< of spec.rhsLoads
  std::string problem; ///< why a part cannot be emitted; empty: it can
  ComputedFactor computed{spec, s, rhsLayouts, scalarOptions, problem};
  mlir::AffineExpr rowTasks, columnTasks; // tasks along rows and columns
  mlir::AffineExpr rowsOfTask, columnsOfTask, pitch, stepPitch;
  mlir::AffineExpr lhsScratch, rhsScratch, tileScratch, zeroScratch,
      widenScratch, rowTermScratch, columnTermScratch, configurationScratch,
      lastRowScratch; // byte offsets
  mlir::AffineExpr termRows, termColumns;
  mlir::AffineExpr sumsPitch; ///< of sums that wait in scratch, tile by tile

  // The task function.
  std::optional<KernelFunctionBuilder> function;
  std::optional<IndexBuilder> index;
  llvm::SmallVector<mlir::Value> symbols, axes;
  mlir::Value depth, paddedDepth, panelDepth, firstRow, rowCount, firstColumn,
      columnCount;
  std::optional<TileEmitter> tiles, lastTiles; ///< all; of copied last rows
  std::optional<ExprEmitter> expressions;
  std::optional<PanelContext> panels;
  mlir::Value lastRows; ///< the copied ones
  mlir::Value zeros;    ///< what an indirect lhs reads where a guard fails
  mlir::Value widened;  ///< rhs of the tiles, if it is widened
  mlir::Value lhs, lhsBase, rhs, rhsBase, lhsRow, lhsBlock, rhsStep, rhsPanel,
      rhsColumn;
  mlir::Value rowZero, rowSum, columnTerm, columnZero; ///< of the task, i32
  mlir::Value out, outBase, outRow, resultBase, resultRow;
  unsigned rhsPanelVectors = 1;
  mlir::func::FuncOp epilogue;
  /// Tiles fetch the next panels, each so much of a step of k.
  int64_t aheadTiles = 1, aheadStep = 0;
  bool isTransformed = false; ///< sums are those of Winograd's filtering
  /// The result that could hold the sums may be an operand of the epilogue.
  bool sumsInScratch = false;
  std::optional<unsigned> sumsResult; ///< where a library stores them
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONTASK_H
