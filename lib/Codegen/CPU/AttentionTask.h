// One attention kernel as code: the class that its files share. AttentionNest
// cuts tasks and loops over blocks, AttentionFill copies factors into scratch,
// AttentionBlock computes one block of queries against one of keys, with
// AttentionMatrix's products and AttentionWeights between them where the
// schedule has matrix tiles, AttentionFinish turns finished rows into results,
// AttentionFew does it all for few queries.
//
// A block of queries lies across lanes: scores are [key][query], the result's
// sums [column][query], so that maxima, sums and factors of rows are vectors,
// keys and values are read where they lie, and nothing is summed across lanes.
#ifndef DLC_LIB_CODEGEN_CPU_ATTENTIONTASK_H
#define DLC_LIB_CODEGEN_CPU_ATTENTIONTASK_H

#include "AttentionTile.h"
#include "dlc/Codegen/CPU/AttentionNest.h"
#include "dlc/Codegen/CPU/ContractionExpr.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Schedule/DataCoordinates.h"

namespace dlc {

class AttentionTask {
public:
  AttentionTask(const AttentionSpec &spec, const AttentionSchedule &schedule,
                const CpuTarget &target, const CpuCodegenOptions &options)
      : spec(spec), s(schedule), options(options),
        scalarOptions(ScalarOptions::get(target, options.strict)),
        roundsByInstruction(schedule.packsPairs() &&
                            target.hasFeature("avx512bf16")),
        hasPages(readsPages(spec)), kernel(spec.kernel) {}

  mlir::FailureOr<CpuKernel> emit(std::string &reason);

private:
  /// What code in one function of the module sees.
  struct Scope {
    IndexBuilder index;
    llvm::SmallVector<mlir::Value> buffers, symbols;
    llvm::SmallVector<mlir::Value> axes; ///< of the space; zero where not set
    mlir::Value work;                    ///< the scratch, as f32
    llvm::SmallVector<mlir::Value> areas{}; ///< offsets of Area in it
    mlir::Value firstRow{}, rowCount{}; ///< of the task, along the lane axis
    mlir::Value status{};               ///< of the task; null: not at hand
    /// Coordinates from data at the scope's axes (findPages).
    llvm::DenseMap<mlir::Operation *, mlir::Value> pages{};

    mlir::OpBuilder &b() { return index.builder(); }
    mlir::Location loc() const { return index.loc(); }
  };
  /// Parts of the scratch, in f32 elements.
  enum Area {
    Queries, ///< [block][inner][query]
    Sums,    ///< [block][column][query]
    State,   ///< [block][maximum, sum, factor][query]
    Scores,  ///< [key][query], or [row][key] for few
    Keys,    ///< [key][inner]
    Values,  ///< [key][column]
    Rows,    ///< [query][inner or column]: on the way to and from lanes
    Weights, ///< tiles: parts of f32 weights but the first, which are Scores
    Configuration, ///< tiles: of the registers
    numAreas
  };
  void layOut(CpuKernel &result);
  void findAreas(Scope &scope);

  // AttentionNest.cpp
  mlir::LogicalResult emitTask(std::string &reason);
  mlir::LogicalResult emitBlocks(Scope &scope, std::string &reason);
  /// Calls `body` for each block of queries of the task, with its number; row
  /// axes of the scope are those of its first query.
  void forEachBlock(Scope &scope,
                    llvm::function_ref<void(mlir::Value number)> body);
  /// Keys [from, to) against all blocks. `outside`: those that the blocks'
  /// bounds leave out, where they turn out to be needed.
  mlir::LogicalResult emitKeys(Scope &scope, mlir::Value from, mlir::Value to,
                               bool outside, std::string &reason);

  // AttentionBounds.cpp
  /// Keys that some row of [first, first + count) keeps, and those that all
  /// keep: begin and end of either. Row axes other than the last one are the
  /// scope's.
  struct KeyRange {
    mlir::Value begin, end, allBegin, allEnd;
  };
  KeyRange keysOf(Scope &scope, mlir::Value firstRow, mlir::Value rows);
  bool boundsKeys(const KeyCut &cut) const;
  /// Adds the cut's data to a vector of axes; i1: they are numbers that sums of
  /// them and positions do not overflow. Null: they always are.
  mlir::Value appendData(Scope &scope, const KeyCut &cut,
                         llvm::SmallVectorImpl<mlir::Value> &axes);
  /// What the maximum of a row must exceed for keys outside of its range to
  /// have weights of exactly 0; nothing when that is always so.
  std::optional<double> leastMaximum() const;
  /// Sets the truth of conditions that hold where no cut applies.
  void assumeKept(ExprEmitter &expressions);

  /// Keys [from, to) against all blocks, a block of keys at a time.
  mlir::LogicalResult passOver(Scope &scope, mlir::Value from, mlir::Value to,
                               bool outside, std::string &reason);
  /// Keys that the blocks' bounds leave out, where one of them turns out to
  /// need some.
  mlir::LogicalResult emitOutside(Scope &scope, mlir::Value keys,
                                  std::string &reason);
  /// i1: a row of the block may have a score that is no larger than those left
  /// out. `rows` of it exist.
  mlir::Value mayNeedMore(Scope &scope, mlir::Value block, mlir::Value rows);

  // AttentionPages.cpp
  /// Where keys or values lie in pages: the pages that `factor` is read from at
  /// the scope's axes, once for all that is read of it there.
  mlir::LogicalResult findPages(Scope &scope, mlir::Value factor,
                                std::string &reason);
  /// Whether `count` keys that begin at a multiple of it lie in one page.
  bool sharesPages(mlir::Value factor, int64_t count);
  /// The pages of some keys, and of as many that are asked for meanwhile, from
  /// `ahead` on (null: none are).
  struct PagedKeys {
    llvm::SmallVector<llvm::DenseMap<mlir::Operation *, mlir::Value>> pages,
        pagesAhead;
    mlir::Value ahead;
  };
  /// The same for each of `count` keys, or for all of them (`shares`), and for
  /// those that come, before `last` (null: none are asked for).
  mlir::LogicalResult findPagesOf(Scope &scope, mlir::Value factor,
                                  mlir::Value key, int64_t count, bool shares,
                                  mlir::Value last, PagedKeys &found,
                                  std::string &reason);
  /// Asks for the memory that emitLanes reads.
  mlir::LogicalResult prefetchLanes(Scope &scope, mlir::Value factor,
                                    llvm::ArrayRef<unsigned> axes,
                                    mlir::Value at, int64_t length,
                                    std::string &reason);

  // AttentionFill.cpp
  /// Nothing is summed yet.
  void clearBlock(Scope &scope, mlir::Value block);
  mlir::LogicalResult fillQueries(Scope &scope, mlir::Value block,
                                  std::string &reason);
  mlir::LogicalResult fillKeys(Scope &scope, mlir::Value from, mlir::Value to,
                               std::string &reason);
  /// Copies `count` points along `axis` from `first` on, the axes `along` in
  /// each, to `to` in rows of `pitch`.
  mlir::LogicalResult copyRows(Scope &scope, mlir::Value factor,
                               std::optional<unsigned> axis, mlir::Value first,
                               mlir::Value count,
                               llvm::ArrayRef<unsigned> along, mlir::Value to,
                               int64_t pitch, std::string &reason);
  void transpose(Scope &scope, llvm::MutableArrayRef<mlir::Value> rows);

  // AttentionBlock.cpp
  mlir::LogicalResult emitBlockFunction(std::string &reason);
  void callBlock(Scope &scope, mlir::Value block, mlir::Value from,
                 mlir::Value to, mlir::Value copiedFrom);
  struct BlockArguments {
    mlir::Value block, firstRow, from, to, copiedFrom;
  };
  void emitScores(Scope &scope, const BlockArguments &arguments);
  mlir::LogicalResult emitSoftmax(Scope &scope, const BlockArguments &arguments,
                                  std::string &reason);
  mlir::LogicalResult emitMaximum(Scope &scope, const BlockArguments &arguments,
                                  mlir::Value from, mlir::Value to, bool kept,
                                  llvm::SmallVectorImpl<mlir::Value> &maxima,
                                  std::string &reason);
  void emitSums(Scope &scope, const BlockArguments &arguments);
  /// The maximum as it is subtracted: 0 where it is -inf.
  mlir::Value finite(Scope &scope, mlir::Value maximum);

  // AttentionMatrix.cpp
  void layOutTiles(mlir::AffineExpr (&sizes)[numAreas],
                   mlir::AffineExpr blocks);
  /// bf16 numbers that a weight is the sum of.
  unsigned weightParts() const;
  mlir::Value bitsOf(Scope &scope, mlir::Value numbers);
  mlir::Value splatBits(Scope &scope, int64_t bits);
  mlir::Value concatenated(Scope &scope, mlir::Value first, mlir::Value second);
  mlir::Value paired(Scope &scope, mlir::Value low, mlir::Value high);
  void packQueries(Scope &scope, mlir::Value number);
  mlir::LogicalResult packKeys(Scope &scope, mlir::Value from,
                               mlir::Value count, std::string &reason);
  mlir::LogicalResult packValues(Scope &scope, mlir::Value from,
                                 mlir::Value count, std::string &reason);
  /// Places and distances are in bytes of the scratch.
  struct TileProduct {
    unsigned heights = 1; ///< of left and out, in tiles
    mlir::Value steps;    ///< tiles along k
    mlir::Value left, leftRow;
    llvm::SmallVector<mlir::Value> rights; ///< their products are added
    mlir::Value out;
    bool accumulates = false;
  };
  void emitTileProduct(Scope &scope, const TileProduct &product);
  /// Keys [key, key + 32) of the block's.
  void emitTileScores(Scope &scope, const BlockArguments &arguments,
                      mlir::Value key);
  void emitTileSums(Scope &scope, const BlockArguments &arguments);

  // AttentionWeights.cpp
  /// paired, of numbers that are rounded first.
  mlir::Value pairedRounded(Scope &scope, mlir::Value low, mlir::Value high);
  /// Scores and their maxima, a tile of keys at a time. `body` takes keys into
  /// the maxima.
  mlir::LogicalResult emitTileMaxima(
      Scope &scope, const BlockArguments &arguments,
      llvm::SmallVectorImpl<mlir::Value> &maxima,
      llvm::function_ref<mlir::LogicalResult(mlir::Value from, mlir::Value to)>
          body);
  /// A vector rounded to bf16, and in f32 again.
  mlir::Value rounded(Scope &scope, mlir::Value numbers);
  /// bf16(s) in the score, s being the sum of the product; null: none.
  mlir::Value roundedScore();
  mlir::Value weightArea(Scope &scope, unsigned part);
  void fillScoreTail(Scope &scope, mlir::Value count, mlir::Value end);
  /// Calls `body` for each pair of keys before `end` and vector of queries with
  /// their two numbers in Scores; `carried` goes through all of a vector's.
  void forEachPair(
      Scope &scope, mlir::Value end,
      llvm::SmallVectorImpl<mlir::Value> &carried,
      llvm::function_ref<void(mlir::Value pair, unsigned v,
                              mlir::Value (&numbers)[2], mlir::Value &carried)>
          body);
  void storeWeightParts(Scope &scope, mlir::Value pair, unsigned v,
                        mlir::Value (&numbers)[2]);
  /// What follows a block's maxima, `subtrahends` as they are subtracted;
  /// `factors` are those of sums so far.
  /// sums := factors * the sums in a block's `state` + sums, stored there.
  void addToRowSums(Scope &scope, mlir::Value state,
                    llvm::ArrayRef<mlir::Value> factors,
                    llvm::MutableArrayRef<mlir::Value> sums);
  mlir::LogicalResult emitTileWeights(Scope &scope,
                                      const BlockArguments &arguments,
                                      llvm::ArrayRef<mlir::Value> subtrahends,
                                      llvm::ArrayRef<mlir::Value> maxima,
                                      llvm::SmallVector<mlir::Value> factors,
                                      std::string &reason);

  // AttentionFinish.cpp
  mlir::LogicalResult finishBlock(Scope &scope, mlir::Value block,
                                  std::string &reason);
  /// The maximum and the sum of a row (or a vector of rows) as the body has
  /// them, and what e has to be multiplied by to be the body's; null: nothing.
  struct RowState {
    mlir::Value maximum, sum, scale;
  };
  /// `sum` is that of e against finite(maximum).
  mlir::FailureOr<RowState> rowState(Scope &scope, const ExprPoint &point,
                                     mlir::Value maximum, mlir::Value sum,
                                     std::string &reason);
  /// p from e.
  mlir::FailureOr<mlir::Value> weightOf(Scope &scope, const ExprPoint &point,
                                        mlir::Value e, const RowState &state,
                                        std::string &reason) {
    return weightOf(scope, point, e, state, {spec.weight, {}, {}}, reason);
  }
  /// The part of p's chain that ends with `last`; `quotient`, a scalar on the
  /// way, has the value `divided` (null: none has).
  struct WeightChain {
    mlir::Value last, quotient, divided;
  };
  mlir::FailureOr<mlir::Value> weightOf(Scope &scope, const ExprPoint &point,
                                        mlir::Value e, const RowState &state,
                                        const WeightChain &chain,
                                        std::string &reason);
  /// What the sum of e * value of a row is multiplied by to be that of
  /// p * value, or the p of a key that was left out (see scaled).
  mlir::FailureOr<mlir::Value> rowFactor(Scope &scope, const ExprPoint &point,
                                         const RowState &state,
                                         std::string &reason);
  /// The sum of p * value of a row.
  mlir::Value scaled(Scope &scope, mlir::Value sum, mlir::Value factor);
  /// Whether stages after the output use the maximum or the sum of their row.
  bool resultsReadState();
  /// The results of the row at the scope's row axes from its finished sums;
  /// where its maximum and sum lie in the scratch.
  mlir::LogicalResult storeRow(Scope &scope, mlir::Value sums,
                               mlir::Value maximumAt, mlir::Value sumAt,
                               std::string &reason);
  /// The first `count` of a vector of columns, which are not one after the
  /// other in memory; `to` is where the row begins.
  void storeEach(Scope &scope, mlir::Value stored, mlir::Value buffer,
                 mlir::Value to, mlir::Value column, int64_t count,
                 llvm::ArrayRef<mlir::Value> extents);
  /// Calls `body` for every scalar that `value` is computed from, through
  /// stages without fold.
  static void walkScalars(mlir::Value value,
                          llvm::SmallDenseSet<mlir::Value> &seen,
                          llvm::function_ref<void(mlir::Value)> body);

  // AttentionFew.cpp
  void layOutFew(CpuKernel &result);
  Scope beginFew(llvm::StringRef symbol, mlir::AffineExpr divisor,
                 mlir::Value &part);
  /// Sets the row axes to number `row` of all of them walked as one.
  void setRow(Scope &scope, mlir::Value row);
  mlir::FailureOr<mlir::Value> emitLanes(Scope &scope, mlir::Value factor,
                                         llvm::ArrayRef<unsigned> axes,
                                         mlir::Value at, int64_t length,
                                         std::string &reason);
  llvm::SmallVector<mlir::Value>
  carry(Scope &scope, mlir::Value from, mlir::Value to, int64_t by,
        llvm::SmallVector<mlir::Value> values,
        llvm::function_ref<llvm::SmallVector<mlir::Value>(
            mlir::Value, llvm::SmallVector<mlir::Value>)>
            body);
  mlir::LogicalResult emitFewScores(Scope &scope, mlir::Value from,
                                    mlir::Value to, mlir::Value pitch,
                                    std::string &reason);
  mlir::LogicalResult emitFewSoftmax(Scope &scope, mlir::Value row,
                                     mlir::Value from, mlir::Value to,
                                     mlir::Value scores, mlir::Value &factor,
                                     std::string &reason);
  mlir::LogicalResult emitFewSums(Scope &scope, mlir::Value firstRow,
                                  mlir::Value from, mlir::Value to,
                                  mlir::Value pitch,
                                  llvm::ArrayRef<mlir::Value> factors,
                                  std::string &reason);
  mlir::LogicalResult emitFewRows(Scope &scope, mlir::Value firstRow,
                                  mlir::Value begin, mlir::Value end,
                                  std::string &reason);
  mlir::LogicalResult finishFewRow(Scope &scope, mlir::Value row,
                                   std::string &reason);
  mlir::LogicalResult emitFew(std::string &reason);
  mlir::LogicalResult emitFewMerge(std::string &reason);

  ExprPoint pointOf(Scope &scope) const {
    ExprPoint point;
    point.axes = scope.axes;
    return point;
  }
  ExprEmitter expressionsOf(Scope &scope) {
    ExprEmitter expressions(scope.index, spec.space, scope.symbols,
                            scalarOptions,
                            [&scope](unsigned i) { return scope.buffers[i]; });
    expressions.status = scope.status;
    expressions.pages = scope.pages;
    expressions.prefetches = prefetches;
    return expressions;
  }
  mlir::AffineExpr constantExpr(int64_t value) const {
    return mlir::getAffineConstantExpr(value, spec.context());
  }
  mlir::Value sizeOf(Scope &scope, mlir::AffineExpr expr) const {
    return scope.index.expr(expr, scope.axes, scope.symbols);
  }
  mlir::Value sizeOf(Scope &scope, llvm::ArrayRef<unsigned> axes) const {
    return sizeOf(scope, spec.extentOf(axes));
  }
  /// The axis whose points lie across lanes, and the other axes of rows.
  std::optional<unsigned> laneAxis() const {
    return spec.rows.empty() ? std::nullopt
                             : std::optional<unsigned>(spec.rows.back());
  }
  llvm::SmallVector<unsigned> otherRowAxes() const {
    llvm::SmallVector<unsigned> axes(spec.group);
    if (!spec.rows.empty())
      axes.append(spec.rows.begin(), spec.rows.end() - 1);
    return axes;
  }
  mlir::VectorType vectorType() const {
    return mlir::VectorType::get({int64_t(s.lanes)},
                                 mlir::Float32Type::get(spec.context()));
  }
  mlir::Value splat(Scope &scope, double value) const;
  mlir::Value loadVector(Scope &scope, mlir::Value at) const;
  void storeVector(Scope &scope, mlir::Value value, mlir::Value at) const;
  /// vector<lanes x i1>: the first `count` lanes.
  mlir::Value firstLanes(Scope &scope, mlir::Value count) const;
  /// The offset of `expr` at the scope's axes.
  mlir::Value offsetOf(Scope &scope, const ContractionOperand &operand) const;
  /// Whole: every score of a row is there before the first weight is made.
  bool isWhole() const { return s.keysPerBlock == 0; }
  bool copiesFactors() const {
    return s.copiesKeys || s.copiesValues || s.packsPairs();
  }
  /// p is made element by element, not by a factor at the end.
  bool weighsElements() const { return bool(spec.weightRounding); }
  /// A block's weights are made again where more keys turn out to count, a few
  /// rows' not.
  bool weighsOnce() const { return weighsElements() && s.few; }

  AttentionSpec spec;
  AttentionSchedule s;
  const CpuCodegenOptions &options;
  ScalarOptions scalarOptions;
  /// bf16 factors of products, and their sums, are rounded by instructions that
  /// take subnormal numbers for zero, as the products do.
  bool roundsByInstruction;
  bool hasPages;
  bool prefetches = false; ///< what is emitted reads nothing: prefetchLanes
  std::string dataReason;  ///< why a cut's data could not be emitted
  graph::KernelOp kernel;

  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::SmallVector<mlir::Type> bufferTypes;
  std::optional<KernelFunctionBuilder> function;
  mlir::func::FuncOp block;
  llvm::SmallVector<mlir::AffineExpr> areaOffsets;
  mlir::AffineExpr rowsOfTask, rowTasks, keysOfBlock;
  mlir::AffineExpr parts, taskElements; ///< few: of the keys; scratch of a task
  int64_t innerPitch = 0, columnPitch = 0;
  mlir::AffineExpr valuePitch; ///< tiles: of Values, [column][key / 2]
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_ATTENTIONTASK_H
