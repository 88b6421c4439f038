// One stage of a kernel, made ready for a loop nest: its scalar expression with
// the stages it inlines, over numbered dims, with every load an address
// polynomial into a flat buffer.
#ifndef DLC_CODEGEN_CPU_LOOPEXPR_H
#define DLC_CODEGEN_CPU_LOOPEXPR_H

#include "dlc/Codegen/Common/IndexEmitter.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

#include "llvm/ADT/SmallBitVector.h"

namespace dlc {

struct LoopGuard {
  IndexPoly expr; ///< >= 0, or == 0 for an equality
  bool isEquality = false;
};

struct LoopNode {
  enum Kind { Load, Apply, Cast, Literal, Coord, ToIndex, Fold };
  Kind kind = Literal;
  mlir::Type type; ///< the graph's element type of the value
  /// Apply: operands. Cast, ToIndex: the value. Fold: the body. Load: the value
  /// where the guard is false, if there is a guard.
  llvm::SmallVector<unsigned, 3> args;
  graph::ScalarFn fn = graph::ScalarFn::add;
  bool saturate = false;
  mlir::TypedAttr attr; ///< Literal: the value. Fold: init or null
  unsigned buffer = 0;  ///< Load
  IndexPoly index;      ///< Load: address. Coord: value. ToIndex: the size
  llvm::SmallVector<LoopGuard, 2> guards;
  llvm::SmallVector<unsigned, 2> data; ///< Load, Coord: the ToIndex nodes used
  unsigned dim = 0;                    ///< ToIndex: the dim that it gives
  graph::FoldKind fold = graph::FoldKind::none;
  llvm::SmallVector<unsigned, 3>
      axes; ///< Fold: its reduce dims, outermost first
  /// The dims whose values it needs; dims that a fold binds are not needed
  /// outside of it.
  llvm::SmallBitVector needs;
};

/// A stage's expression. Dims 0..domainRank-1 are the stage's domain; then come
/// reduce axes and data coordinates.
struct LoopExpr {
  mlir::MLIRContext *context = nullptr;
  llvm::SmallVector<mlir::AffineExpr>
      extents; ///< by dim; null: data coordinate
  /// Domain dims that are loops, outermost first: those of one element and
  /// those merged into a neighbour are gone.
  llvm::SmallVector<unsigned> domain;
  std::vector<LoopNode> nodes;
  unsigned root = 0;
  unsigned resultBuffer = 0;
  mlir::Type resultType; ///< element type
  IndexPoly store;       ///< address of the result

  /// Builds the expression of `stage`. `bufferOf` tells the buffer of a kernel
  /// operand or of a stage that lies in memory; other stages are inlined. The
  /// first `rowRank` dims of the stage and of buffers from `firstRowBuffer` on
  /// say which row: those buffers hold one row at a time.
  static LoopExpr
  build(graph::StageOp stage, unsigned resultBuffer,
        llvm::function_ref<std::optional<unsigned>(mlir::Value)> bufferOf,
        unsigned firstRowBuffer, unsigned rowRank);

  /// Domain axes that splitAxes has split: (quotient, remainder) dims.
  llvm::SmallVector<std::pair<unsigned, unsigned>, 2> splits;

  /// Splits a domain axis d that stands in `(.. d ..) floordiv s` or `mod s`
  /// into s q + p, after which these depend on p and fold axes only: the phases
  /// of a transposed convolution. The first `keep` dims stay as they are.
  void splitAxes(unsigned keep);

  /// Joins neighbouring axes that every address walks as one, so that an
  /// elementwise stage on contiguous tensors is a single loop. The first `keep`
  /// dims stay as they are.
  void mergeAxes(unsigned keep);

  /// The guarded load without which a step of `fold` changes nothing: where its
  /// guard is false the step may be left out. With `strict`, only if that is so
  /// for all values (0 * infinity is not 0).
  std::optional<unsigned> skippableLoad(const LoopNode &fold,
                                        bool strict) const;

  /// Whether a guard of a load decides, for one axis, a range of its steps, and
  /// nothing about the load needs the axis' steps to be written out.
  bool isClippable(unsigned load, unsigned guard, unsigned axis) const;

  /// Nodes that the value of `node` needs, operands before users, once each.
  std::vector<unsigned> reachable(unsigned node) const;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPEXPR_H
