// The tile of attention that a block computes: what is the same whatever
// multiplies. How scores and sums lie in the threads' registers, and the two
// products, are a derived class's.
#ifndef DLC_LIB_CODEGEN_CUDA_ATTENTIONTILE_H
#define DLC_LIB_CODEGEN_CUDA_ATTENTIONTILE_H

#include "AttentionRows.h"

namespace dlc {

/// Sets tile and threads for tensor cores, or for plain units: so many rows of
/// a block and keys of a step, or (0) what the rules choose. False where a tile
/// does not fit.
bool fitTensorTile(AttentionPlan &plan, int64_t rows = 0, int64_t keys = 0);
bool fitPlainTile(AttentionPlan &plan, int64_t rows = 0);
/// The same for wgmma (sm_90a), where keys are passed over once and rows are
/// many.
bool fitWarpGroupTile(AttentionPlan &plan, int64_t rows = 0, int64_t keys = 0);

/// Where parts of the keys leave what they found: scratch buffers of f32.
struct AttentionScratch {
  mlir::Value stats;  ///< [part][outer][row]: maximum, sum
  mlir::Value sums;   ///< [part][outer][row][column]
  mlir::Value scores; ///< [outer][row of the tile][key], plan.keepsScores()
};

/// What a launch of tiles does.
enum class AttentionStep {
  Whole,   ///< all keys, results
  Parts,   ///< a part of them: stats and sums, in one pass
  Stats,   ///< stats of a part
  Weighted ///< sums of a part, where stats of all parts are there
};

/// Folds a row's parts, in order; a known number of them without a loop, so
/// that all are on their way at once.
mlir::Value
overParts(LaunchBuilder &launch, const AttentionPlan &plan, mlir::Value initial,
          llvm::function_ref<mlir::Value(mlir::Value part, mlir::Value so)>);

/// Chunks along these axes are contiguous, aligned and wholly inside or
/// outside.
bool liesInChunks(const AttentionPlan &plan, const ContractionOperand &operand,
                  llvm::ArrayRef<unsigned> along);

/// The maximum and sum of a row from its parts; `row` counts outer points and
/// rows as one.
std::pair<mlir::Value, mlir::Value>
mergeStats(LaunchBuilder &launch, AttentionRows &rows,
           const AttentionPlan &plan, mlir::Value stats, mlir::Value row);

class AttentionTile {
public:
  AttentionTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : launch(launch), plan(plan), spec(plan.spec), b(launch.builder()),
        loc(launch.loc()), index(launch.index()), rows(launch, plan.spec) {}
  virtual ~AttentionTile() = default;

  /// Fails with `reason` where an expression has no code.
  llvm::LogicalResult emit(AttentionStep step, AttentionScratch scratch,
                           std::string &reason);

  using Values = llvm::SmallVector<mlir::Value>;

protected:
  // What lies in a thread: rows, keys of a step and columns of the tile, each
  // with a place in it. Lanes of a warp in groups of `lanes` hold the same
  // rows.
  unsigned numRows = 0, numKeys = 0, numColumns = 0, lanes = 0;
  virtual mlir::Value rowOf(unsigned i) = 0;
  virtual mlir::Value keyOf(unsigned j) = 0;
  virtual mlir::Value columnOf(unsigned c) = 0;

  /// Takes the tile's queries.
  virtual void fetchQueries() = 0;
  /// Around a loop over blocks of keys, the first at `key`.
  virtual void startKeys(mlir::Value /*key*/, bool /*withValues*/) {}
  virtual void enterKeys(mlir::Value /*key*/, bool /*withValues*/) {}
  virtual void leaveKeys() { launch.barrier(); }
  /// What the keys of [from, to) make of `carried`: maxima and the thread's
  /// parts of the sums of each row, then sums with values.
  virtual Values onePass(mlir::Value from, mlir::Value to,
                         mlir::ValueRange carried);
  /// The scores that `products` [row][key] are, of keys from `key` on.
  Values scoresOf(mlir::Value key, Values products);
  /// Scores that no mask touches are computed without it.
  bool skipsMasks = false;
  double scale = 1; ///< of scores, not in them yet
  /// Weights less each row's maximum so far, and what becomes of the row; what
  /// was summed before is to be multiplied by its factor.
  struct Softmax {
    Values weights, maxima, sums, factors;
  };
  Softmax weigh(Values scores, mlir::ValueRange maxima, mlir::ValueRange sums);
  Values scaled(mlir::ValueRange output, mlir::ValueRange factors);

  /// Sums of products of the thread's rows with its keys of the block at `key`:
  /// [row][key].
  virtual Values multiplyKeys(mlir::Value key) = 0;
  /// `sums` [row][column] with those of `weights` [row][key] and values added.
  virtual Values addValues(mlir::Value key, mlir::ValueRange weights,
                           mlir::ValueRange sums) = 0;

  /// Leaves a thread's scores [row][key] for a second pass, and takes them.
  virtual void keepScores(mlir::Value /*key*/, mlir::ValueRange /*scores*/) {}
  virtual Values keptScores(mlir::Value key) {
    return scoresOf(key, multiplyKeys(key));
  }
  /// What warps that share rows have found becomes the block's: of each row,
  /// then of its columns, which are dealt out anew.
  virtual void combineStats(Values & /*maxima*/, Values & /*sums*/) {}
  virtual void combineSums(Values & /*sums*/) {}
  /// This thread stores what there is once a row.
  virtual mlir::Value storesRows();
  /// All of a thread's columns exist.
  virtual bool coversColumns() const {
    return plan.allColumns() % plan.columns == 0;
  }

  /// A factor's axes: the row's, or those of a key; others are the block's.
  AttentionRows::Axes axesOfRow(mlir::Value row);
  AttentionRows::Axes axesOfKey(mlir::Value key);
  /// `factor` in f32 at a place, 0 where `inside` does not hold.
  mlir::Value factorAt(mlir::Value factor, const AttentionRows::Axes &axes,
                       mlir::Value inside);
  /// The same as it lies in memory, for 16-bit factors: i16.
  mlir::Value storedAt(mlir::Value factor, const AttentionRows::Axes &axes,
                       mlir::Value inside);
  /// Two neighbours of a row's query, as they lie in memory: elements
  /// `base + offset` and the next, 0 where they or the row do not exist.
  std::pair<mlir::Value, mlir::Value> queryPair(mlir::Value row,
                                                mlir::Value exists,
                                                mlir::Value base,
                                                int64_t offset);
  mlir::Value both(mlir::Value x, mlir::Value y);

  LaunchBuilder &launch;
  const AttentionPlan &plan;
  const AttentionSpec &spec;
  mlir::OpBuilder &b;
  mlir::Location loc;
  IndexBuilder &index;
  AttentionRows rows;
  mlir::Value firstRow, totalRows, totalKeys, firstColumn, totalColumns;
  bool failedInside = false;
  AttentionScratch scratch;
  mlir::Value outer;
  mlir::Value existsOf(unsigned i) const { return threadRows[i].exists; }

private:
  struct Row {
    AttentionRows::Axes axes;
    mlir::Value number; ///< of all outer points' rows
    mlir::Value exists; ///< null: certainly
  };
  using KeyBody = llvm::function_ref<Values(mlir::Value key, mlir::ValueRange)>;
  using Pass = llvm::function_ref<Values(mlir::Value from, mlir::Value to,
                                         mlir::ValueRange)>;
  void begin(AttentionStep step);
  void boundKeys(bool mayBeFinite);
  Values inSteps(mlir::Value from, mlir::Value to, mlir::ValueRange carried,
                 bool withValues, KeyBody body);
  Values overKeys(Values carried, Pass pass);
  mlir::Value keepsAll(mlir::Value key);
  mlir::Value largestOf(mlir::ValueRange scores);
  mlir::Value sumLanes(mlir::Value value);
  Values statsPass(mlir::Value key, mlir::ValueRange carried);
  Values weightsPass(mlir::Value key, mlir::ValueRange sums);
  /// Calls `body` for each row of the thread, where it exists.
  void forEachRow(llvm::function_ref<void(unsigned row)> body);
  void onlyIfColumn(mlir::Value column, llvm::function_ref<void()> body);
  void storeStats(mlir::ValueRange maxima, mlir::ValueRange sums,
                  mlir::Value stats);
  void storeSums(mlir::ValueRange sums, mlir::Value memory);
  void finish(mlir::ValueRange sums);
  void findStates(mlir::ValueRange maxima, mlir::ValueRange sums);

  AttentionRows::Axes blockAxes;
  mlir::Value part;
  mlir::Value firstKey, endKey;     ///< of the block, multiples of a step
  std::optional<double> leastBound; ///< see leastMaximum
  llvm::SmallVector<Row> threadRows;
  llvm::SmallVector<mlir::Value> finiteMaxima; ///< two passes
  llvm::SmallVector<AttentionRows::State> states;
};

std::unique_ptr<AttentionTile> makePlainTile(LaunchBuilder &launch,
                                             const AttentionPlan &plan);
std::unique_ptr<AttentionTile> makeTensorTile(LaunchBuilder &launch,
                                              const AttentionPlan &plan);
std::unique_ptr<AttentionTile> makeWarpGroupTile(LaunchBuilder &launch,
                                                 const AttentionPlan &plan);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ATTENTIONTILE_H
