// Evaluates a LoopExpr at points of its loops: on one point, or on several at
// once, as lanes of a vector along one axis and as groups of registers along
// one axis. The loops around are LoopNest's.
#ifndef DLC_CODEGEN_CPU_LOOPEMITTER_H
#define DLC_CODEGEN_CPU_LOOPEMITTER_H

#include "dlc/Codegen/CPU/LoopExpr.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include <map>

namespace dlc {

/// Vector lanes along an axis: lane l stands at the axis' value + l.
struct LoopLanes {
  int dim = -1; ///< none when negative
  unsigned width = 0;
  mlir::Value mask;  ///< vector of i1: the lanes that exist; null: all
  mlir::Value count; ///< with a mask: how many exist, at least 1
};

/// Register groups along an axis: group g stands at the axis' value +
/// (first + g) * step.
struct LoopGroups {
  int dim = -1;
  unsigned count = 1;
  int64_t step = 0;
  /// Group g of lane l is element l * count + g of the result.
  bool interleave = false;
  /// How many groups exist (at least 1); null: all. Those beyond compute what
  /// the last one does and store nothing.
  mlir::Value limit;
  /// Not 0 while some of a tile's groups are evaluated by themselves.
  unsigned first = 0;
};

struct LoopEmitterOptions {
  ScalarOptions scalar;
  unsigned width = 1;        ///< lanes of a vector
  bool maskedMemory = false; ///< loads and stores of some lanes are cheap
  unsigned rowGroups = 4;    ///< accumulators of a fold along its lanes
  unsigned unrollLimit = 16; ///< steps of a fold written out
  /// By buffer: how many elements ahead of a dense load to prefetch.
  llvm::SmallDenseMap<unsigned, int64_t> prefetch;
  /// By buffer: a result whose element at the same address is written soon.
  llvm::SmallDenseMap<unsigned, unsigned> prefetchResult;
  /// Results whose whole lines are stored past the caches.
  llvm::SmallDenseSet<unsigned> streamed;
};

class LoopEmitter {
public:
  using Values = llvm::SmallVector<Scalar, 4>;

  LoopEmitter(mlir::OpBuilder &builder, mlir::Location loc,
              const LoopExpr &expr, llvm::ArrayRef<mlir::Value> buffers,
              llvm::ArrayRef<mlir::Value> symbols, mlir::Value status,
              const LoopEmitterOptions &options)
      : b(builder), loc(loc), expr(expr), buffers(buffers), options(options),
        index(builder, loc, symbols), scalar(builder, loc, options.scalar),
        status(status), dims(expr.extents.size()) {
    memo.emplace_back();
    if (expr.scan)
      holdPrefixes();
  }

  /// Where the evaluation stands. A dim without value is not in a loop yet.
  void setDim(unsigned dim, mlir::Value value) { dims[dim] = value; }
  llvm::ArrayRef<mlir::Value> getDims() const { return dims; }
  LoopLanes lanes;
  LoopGroups groups;
  /// The streamed result that the vectors stored now are whole parts of lines
  /// of; negative: none.
  int streams = -1;
  /// Windows along the groups overlap: what was loaded is kept at hand.
  bool sharesLoads = false;
  /// Folds whose last axis this is, or is as long, run their lanes along it.
  int rowAxis = -1;
  /// What is known of guards at all points emitted now: those that hold, by
  /// load and number, and the loads whose guards do not hold.
  llvm::DenseSet<std::pair<unsigned, unsigned>> holds;
  llvm::DenseSet<unsigned> outside;
  /// True or false when the guards of a load are decided.
  std::optional<bool> guardState(unsigned id) const;
  IndexEmitter &indices() { return index; }

  /// Values found since are forgotten at the end: they live in an inner block
  /// or belong to other coordinates.
  class Scope {
  public:
    explicit Scope(LoopEmitter &emitter) : emitter(emitter) {
      emitter.memo.emplace_back();
    }
    ~Scope() { emitter.memo.pop_back(); }

  private:
    LoopEmitter &emitter;
  };

  /// The value of a node here: one element when all lanes and groups agree on
  /// a scalar or a vector, else one a group.
  Values evaluate(unsigned node);
  /// Evaluates now what does not change in the loops still to be entered.
  void hoist(unsigned node);
  /// Evaluates the root: its stores.
  void storeRoot() { evaluate(expr.root); }
  /// LoopScan.cpp: the same at every coordinate of expr.scan's axis, in a pass
  /// with the lanes where they are, or with them along the axis.
  void scanAcross();
  void scanAlong();
  /// Of a select whose condition is a set: the operand that is taken, where the
  /// set is decided. Nothing for other nodes.
  std::optional<unsigned> takenOperand(const LoopNode &node) const;

  /// The store of a streamed result, if there is one and lanes along `dim` are
  /// dense in it.
  std::optional<unsigned> findStreamed(unsigned dim) const;
  /// How many elements that store `id` writes lie, from this point on, before
  /// the next cache line begins.
  mlir::Value elementsToLine(unsigned id);
  bool hasStreamed() const { return hasStreams; }

  /// scf.for over [begin, end) that carries `values`; returns the last ones.
  llvm::SmallVector<mlir::Value>
  loop(mlir::Value begin, mlir::Value end, int64_t step,
       mlir::ValueRange values,
       llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value,
                                                         mlir::ValueRange)>
           body);

private:
  bool isBound(const LoopNode &node) const;
  bool alongLanes(const LoopNode &node) const {
    return lanes.dim >= 0 && node.needs.test(lanes.dim);
  }
  bool alongGroups(const LoopNode &node) const {
    return groups.dim >= 0 && node.needs.test(groups.dim);
  }
  /// Whether a load's address (not only its guard) differs between lanes.
  bool movesAlongLanes(const LoopNode &node) const;
  /// Whether a data coordinate that the node uses differs between lanes.
  bool hasLaneData(const LoopNode &node) const;
  /// Runs `body` with the dims of one group (and one lane, if not negative).
  template <typename Body>
  auto at(const LoopNode &node, unsigned group, int lane, Body body);

  Values evaluateNew(const LoopNode &node, unsigned id);
  Values evaluateLoad(const LoopNode &node, unsigned id);
  Scalar loadOne(const LoopNode &node, unsigned group, mlir::Value mask,
                 std::optional<Scalar> other);
  /// A load without guards, or what an earlier one in this block gave: windows
  /// of neighbouring points overlap.
  Scalar loadShared(const LoopNode &node, unsigned group);
  /// What tells apart what is loaded at one point: where, by what lanes.
  std::vector<const void *> sharedKey(const LoopNode &node) const;
  /// A number of one group at these dims, all constants in their places, as it
  /// is added to `key` with the other dims that it depends on.
  IndexPoly normalForm(const IndexPoly &poly, unsigned group,
                       std::vector<const void *> &key) const;
  Scalar loadLanes(const LoopNode &node, unsigned group, mlir::Value mask,
                   std::optional<Scalar> other);
  /// LoopPairs.cpp: lanes two elements apart of one of the taps along a
  /// window's row, which share their loads. Nothing when they do not.
  std::optional<mlir::Value> loadPair(const LoopNode &node, unsigned group);
  struct PairTaps {
    unsigned axis;           ///< the fold's, along the row
    int64_t own, first, end; ///< this tap, and those that share its loads
  };
  std::optional<PairTaps> pairTaps(const LoopNode &node) const;
  /// Lanes in runs that lie side by side: whole runs are loaded, and each gives
  /// the element at one place in it. Nothing when the place is not constant.
  std::optional<mlir::Value> loadRuns(const LoopNode &node, unsigned group);
  std::optional<mlir::Value> dataOffsets(const LoopNode &node, unsigned group);
  /// Lanes are apart in memory and groups are neighbours: a tile is loaded
  /// along the groups and transposed in registers.
  bool isTransposed(const LoopNode &node) const;
  Values loadTransposed(const LoopNode &node);
  /// Where the guards hold: i1 or, with lanes, a vector of it.
  mlir::Value guardValue(const LoopNode &node, unsigned group);
  /// The guards that must be tested: not those known to hold, nor, for a
  /// group, those whose value is a constant.
  llvm::SmallVector<LoopGuard, 4> openGuards(const LoopNode &node,
                                             unsigned group) const;
  /// The value where all dims are constants.
  std::optional<int64_t> constantOf(const IndexPoly &poly,
                                    unsigned group) const;
  /// Whether a guard is false by constants alone.
  bool isNever(const LoopNode &node, unsigned group) const;
  Values evaluateInside(const LoopNode &node, unsigned id);
  Values evaluateStore(const LoopNode &node);
  void storeInterleaved(const LoopNode &node, const Values &values);
  void hoist(unsigned id, llvm::SmallDenseSet<unsigned> &seen);
  /// The same for elements of memory of which every second one is a lane's:
  /// element e is lane (e + offset) / 2, if that is whole and the lane exists.
  mlir::Value elementMask(const LoopNode &node, unsigned group, bool guarded,
                          int64_t offset);
  /// Whether a guard does not change, or by a constant, from lane to lane.
  bool isLinear(const LoopNode &node, const LoopGuard &guard) const;
  /// lane * factor + constant >= 0 (or == 0) where lane 0 has `base`.
  mlir::Value compareLanes(const LoopGuard &guard, mlir::Value base,
                           int64_t factor, int64_t constant);
  Values evaluateCoord(const LoopNode &node);
  Values evaluateToIndex(const LoopNode &node);
  /// factor * lane + constant
  mlir::Value laneNumbers(mlir::Type element, int64_t factor,
                          int64_t constant = 0);
  mlir::Value andMask(mlir::Value x, mlir::Value y);

  // LoopFold.cpp, LoopRow.cpp
  /// A fold's accumulators in the state that a loop carries.
  struct FoldPart {
    unsigned fold; ///< the node
    unsigned first, count;
  };
  using FoldParts = llvm::SmallVector<FoldPart, 2>;
  Values evaluateFold(const LoopNode &node, unsigned id);
  /// The folds of the group that can be evaluated here.
  llvm::SmallVector<unsigned, 2> foldsHere(unsigned id);
  bool takesRow(const LoopNode &node) const;
  void addPart(FoldParts &parts, Values &state, unsigned fold,
               unsigned numVectors, unsigned width, unsigned numScalars);
  llvm::SmallVector<Values, 2> foldAcross(llvm::ArrayRef<unsigned> folds);
  Values foldLoops(const FoldParts &parts, unsigned level, Values state);
  /// The part of an axis where guards that the axis decides hold, which are
  /// appended to `decided`. Nothing when there are none.
  struct AxisRange {
    mlir::Value begin, end;
  };
  std::optional<AxisRange>
  clipAxis(const LoopNode &fold, unsigned axis,
           llvm::SmallVectorImpl<std::pair<unsigned, unsigned>> &decided);
  Values foldStep(const LoopNode &node, Values state);
  /// The steps of a window's loops from `level` on, written out for a tile of
  /// windows in the order of what they read.
  std::optional<Values> foldWindows(const FoldParts &parts, unsigned level,
                                    Values state);
  /// From `level` of the axes on; the outer ones have their values.
  llvm::SmallVector<Values, 2> foldRow(llvm::ArrayRef<unsigned> folds,
                                       unsigned level = 0);
  Values foldRowLoops(const FoldParts &parts, unsigned level, Values state);
  Values foldRowInner(const FoldParts &parts, Values state);
  /// The guards by which scanned folds are over prefixes hold where a step is
  /// evaluated.
  void holdPrefixes();
  void scanVector(mlir::Value at, Values &carried);
  Scalar foldPrefixes(const LoopNode &fold, Scalar x, Scalar &carried);
  /// LoopMoments.cpp: both folds of expr.moments in one pass.
  void foldMoments();
  using State = llvm::SmallVector<mlir::Value>;
  State foldMomentsLevel(unsigned level, int64_t steps, State state);
  State mergeBlock(const AxisRange &range, int64_t steps, State state);
  int64_t blockSteps(const LoopNode &sum) const;
  Scalar initial(const LoopNode &node);
  void argStep(const LoopNode &node, Scalar &best, Scalar &position, Scalar x,
               Scalar at, bool comparePositions);
  void reduceLanes(const LoopNode &node, Scalar &value, Scalar *position);
  Values carry(mlir::Value begin, mlir::Value end, int64_t step,
               const Values &state,
               llvm::function_ref<Values(mlir::Value, Values)> body);
  /// The extent of a fold's axis, or of the part of it that is folded.
  std::optional<int64_t> stepsOf(unsigned axis) const;
  /// Steps of a fold's loops from `level` on; 2^20 stands for all above and
  /// for symbolic sizes.
  int64_t countSteps(const LoopNode &fold, unsigned level) const;
  /// Whether a fold is a sum of floats whose order is free.
  bool isFreeSum(unsigned fold) const;
  /// `body` on partial sums that start from zero, added to those of `state`;
  /// what else the state holds goes through the body.
  Values addPartial(const FoldParts &parts, const Values &state,
                    llvm::function_ref<Values(Values)> body);
  /// carry() over the axis of a level, in blocks where free sums are long.
  Values carrySums(const FoldParts &parts, unsigned level, mlir::Value begin,
                   mlir::Value end, int64_t step, const Values &state,
                   llvm::function_ref<Values(mlir::Value, Values)> body);
  /// Whether the loops from `level` on make a partial sum of their own.
  bool startsPartial(const LoopNode &fold, unsigned level) const;
  /// `body`, the loops of a fold from `level` on, as a partial sum if so.
  Values foldLevel(const FoldParts &parts, unsigned level, Values state,
                   llvm::function_ref<Values(Values)> body);

  mlir::OpBuilder &b;
  mlir::Location loc;
  const LoopExpr &expr;
  llvm::ArrayRef<mlir::Value> buffers;
  LoopEmitterOptions options;
  IndexEmitter index;
  ScalarEmitter scalar;
  mlir::Value status;
  bool hasStreams = false;
  llvm::SmallVector<mlir::Value> dims;
  /// The part of a fold's last axis that is folded, of at most so many steps;
  /// nothing: all of it.
  struct FoldBlock {
    AxisRange range;
    unsigned axis;
    int64_t steps;
  };
  std::optional<FoldBlock> block;
  std::vector<llvm::DenseMap<unsigned, Values>> memo;
  std::map<std::vector<const void *>, Scalar> loaded;
  /// Both halves of what taps that share their loads read.
  std::map<std::vector<const void *>, std::pair<mlir::Value, mlir::Value>>
      pairs;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPEMITTER_H
