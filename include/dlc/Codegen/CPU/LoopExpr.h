// Stages of a kernel over one domain, made ready for a loop nest: their scalar
// expressions with the stages they inline, over numbered dims, with every load
// and store an address polynomial into a flat buffer.
#ifndef DLC_CODEGEN_CPU_LOOPEXPR_H
#define DLC_CODEGEN_CPU_LOOPEXPR_H

#include "dlc/Codegen/Common/IndexEmitter.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Schedule/PrefixFold.h"

#include "llvm/ADT/SmallBitVector.h"

#include <functional>

namespace dlc {

struct LoopGuard {
  IndexPoly expr; ///< >= 0, or == 0 for an equality
  bool isEquality = false;
  bool operator==(const LoopGuard &other) const {
    return isEquality == other.isEquality && expr == other.expr;
  }
};

struct LoopNode {
  enum Kind {
    Load,
    Apply,
    Cast,
    Literal,
    Coord,
    ToIndex,
    Fold,
    Inside, ///< whether its guards hold
    Store,  ///< stores its argument, which is also its value
    Tuple,  ///< the root of several stores
  };
  Kind kind = Literal;
  mlir::Type type; ///< the graph's element type of the value
  /// Apply: operands. Cast, ToIndex, Store: the value. Fold: the body. Load:
  /// the value where the guard is false, if there is a guard. Tuple: the
  /// stores.
  llvm::SmallVector<unsigned, 3> args;
  graph::ScalarFn fn = graph::ScalarFn::add;
  bool saturate = false;
  mlir::TypedAttr attr; ///< Literal: the value. Fold: init or null
  unsigned buffer = 0;  ///< Load, Store
  IndexPoly index;      ///< Load, Store: address. Coord: value. ToIndex: size
  llvm::SmallVector<LoopGuard, 2> guards;
  llvm::SmallVector<unsigned, 2> data; ///< Load, Coord: the ToIndex nodes used
  unsigned dim = 0;                    ///< ToIndex: the dim that it gives
  graph::FoldKind fold = graph::FoldKind::none;
  llvm::SmallVector<unsigned, 3>
      axes; ///< Fold: its reduce dims, outermost first
  /// Fold: folds of one group have the same axes and run in one loop.
  unsigned group = 0;
  /// Fold: it is one over a prefix; the axis is a dim of the expression.
  std::optional<PrefixFold> prefix;
  /// The dims whose values it needs; dims that a fold binds are not needed
  /// outside of it.
  llvm::SmallBitVector needs;
};

/// A stage and the buffer it is stored to.
struct LoopOutput {
  graph::StageOp stage;
  unsigned buffer;
};

/// What a LoopExpr is built from.
struct LoopSource {
  /// Stages over the same domain, computed point by point in one loop.
  llvm::SmallVector<LoopOutput, 2> outputs;
  /// Stages without fold that are stored where a fold of the outputs reads
  /// them, which visits each of their points once.
  llvm::SmallVector<LoopOutput, 2> absorbed;
  /// Tells the buffer of a kernel operand or of a stage that lies in memory;
  /// other stages are inlined.
  std::function<std::optional<unsigned>(mlir::Value)> bufferOf;
  /// The first `rowRank` dims of a stage and of buffers from `firstRowBuffer`
  /// on say which row: those buffers hold one row at a time.
  unsigned firstRowBuffer = 0, rowRank = 0;
  bool strict = false; ///< float sums keep their order
  /// The first of two outputs is a sum; the second one's fold reads it for the
  /// mean, and one pass computes both (law hom(welford)).
  bool mergesMoments = false;
};

/// The expression of some stages. Dims 0..domainRank-1 are their domain; then
/// come reduce axes and data coordinates.
struct LoopExpr {
  mlir::MLIRContext *context = nullptr;
  llvm::SmallVector<mlir::AffineExpr>
      extents; ///< by dim; null: data coordinate
  /// Domain dims that are loops, outermost first: those of one element and
  /// those merged into a neighbour are gone.
  llvm::SmallVector<unsigned> domain;
  std::vector<LoopNode> nodes;
  unsigned root = 0; ///< a Store, or a Tuple of them

  /// A fold of x and a fold of squares of x - mean over the same axes, the mean
  /// being a quotient of the first: one pass over blocks computes both.
  struct Moments {
    unsigned sum, squares;
    llvm::SmallVector<unsigned, 2> loads; ///< of the sum, in the squares
    llvm::SmallVector<unsigned, 2> means; ///< what they are divided into
  };
  std::optional<Moments> moments;

  /// All folds are over prefixes along one domain axis: a pass over it, with
  /// each fold's step at the same coordinate, computes them.
  struct Scan {
    unsigned dim = 0;
    bool isReversed = false; ///< the pass is from the last coordinate down
    llvm::SmallVector<unsigned, 2> folds;
  };
  std::optional<Scan> scan;

  static LoopExpr build(const LoopSource &source);
  /// Fills `scan` if the folds allow it. The first `keep` dims are loops
  /// already.
  void formScan(unsigned keep);
  /// The moments of two stores, of which the first is to `sumBuffer`, if their
  /// folds are of that form.
  std::optional<Moments> findMoments(unsigned sumStore, unsigned store,
                                     unsigned sumBuffer) const;
  /// Fills every node's `needs`; after a change of the polynomials.
  void computeNeeds();

  /// Domain axes that splitAxes has split: (quotient, remainder) dims.
  llvm::SmallVector<std::pair<unsigned, unsigned>, 2> splits;

  /// Splits a domain axis d (other than one of short runs) that stands in `(..
  /// d ..) floordiv s` or `mod s` into s q + p, after which these depend on p
  /// and fold axes only: the phases of a transposed convolution. The first
  /// `keep` dims stay as they are.
  void splitAxes(unsigned keep);

  /// Whether lanes along `dim`, vectors from its multiples of a power of two
  /// on, read side by side, or in runs that do (ShortRuns.h): the channels of a
  /// convolution of small groups.
  bool hasShortRuns(unsigned dim) const;

  /// Joins neighbouring axes that every address walks as one, so that an
  /// elementwise stage on contiguous tensors is a single loop. The first `keep`
  /// dims stay as they are.
  void mergeAxes(unsigned keep);

  /// The guarded load (or Inside of a select) without which a step of `fold`
  /// changes nothing: where its guards are false the step may be left out. With
  /// `strict`, only if that is so for all values (0 * infinity is not 0).
  std::optional<unsigned> skippableLoad(const LoopNode &fold,
                                        bool strict) const;

  /// Whether a guard of a load decides, for one axis, a range of its steps, and
  /// nothing about the load needs the axis' steps to be written out.
  bool isClippable(unsigned load, unsigned guard, unsigned axis) const;

  /// Whether all of the second node's guards are among the first's.
  bool impliesGuards(unsigned node, unsigned other) const;

  /// Nodes that the value of `node` needs, operands before users, once each.
  std::vector<unsigned> reachable(unsigned node) const;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPEXPR_H
