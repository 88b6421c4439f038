// From tensors to scalar expressions: what a tensor holds at given coordinates,
// with every stage between it and the kernel's operands inlined.
#ifndef DLC_LIB_CHECK_INLINE_H
#define DLC_LIB_CHECK_INLINE_H

#include "Expr.h"

namespace dlc::check {

using TensorId = uint32_t;

/// The tensors that the values of one region (a kernel, a certificate, @main)
/// are, and what its dim symbols are.
struct Environment {
  llvm::DenseMap<mlir::Value, TensorId> tensors;
  llvm::SmallVector<PolyId> symbols;
};

struct TensorSource {
  enum Kind { Leaf, Constant, Stage, Reshape } kind;
  /// Leaf: its number. Stage: its environment. Reshape: the tensor viewed.
  uint32_t number = 0;
  mlir::ElementsAttr value;
  graph::StageOp stage;
  llvm::SmallVector<PolyId> dims; // of the tensor itself
  mlir::Type element;
};

class Inliner {
public:
  /// Expressions nested deeper than this would need a deeper stack.
  static constexpr unsigned kDefaultDepth = 1500;
  /// Scalars looked at; a kernel that needs more is refused.
  static constexpr unsigned kDefaultSteps = 1u << 21;

  Inliner(IndexArena &index, ExprArena &exprs,
          unsigned maxDepth = kDefaultDepth, unsigned maxSteps = kDefaultSteps)
      : index(index), exprs(exprs), maxDepth(maxDepth), maxSteps(maxSteps) {}

  uint32_t newEnvironment(llvm::ArrayRef<PolyId> symbols);
  Environment &getEnvironment(uint32_t id) { return environments[id]; }

  /// A tensor about which nothing is known but its name.
  TensorId leaf(uint32_t number, mlir::Type type,
                llvm::ArrayRef<PolyId> symbols);
  TensorId constant(mlir::ElementsAttr value);
  TensorId reshape(TensorId source, mlir::Type type,
                   llvm::ArrayRef<PolyId> symbols);
  /// The results of a kernel on these operands. The kernel has stages.
  llvm::SmallVector<TensorId> call(graph::KernelOp kernel,
                                   llvm::ArrayRef<TensorId> operands,
                                   llvm::ArrayRef<PolyId> symbols,
                                   uint32_t *environment = nullptr);
  const TensorSource &getTensor(TensorId id) const { return tensors[id]; }

  /// The tensor's value at `coords`; folds are named from `level` + 1 on.
  NodeId read(TensorId tensor, llvm::ArrayRef<PolyId> coords, uint32_t level,
              ContextId context);

  /// A stage's body at a point: its coordinates (domain, then reduce axes).
  struct Frame {
    uint32_t environment;
    llvm::SmallVector<PolyId> dims;
    uint32_t level;
    uint32_t id;
  };
  const Frame &frame(uint32_t environment, mlir::Operation *stage,
                     llvm::ArrayRef<PolyId> dims, uint32_t level);
  NodeId evaluate(mlir::Value value, const Frame &frame, ContextId context);
  /// The coordinates of a load, and its guard.
  llvm::SmallVector<PolyId> coordinates(mlir::AffineMap map,
                                        mlir::OperandRange coords,
                                        const Frame &frame, ContextId context);
  std::optional<Guard> guard(mlir::IntegerSet set, mlir::OperandRange coords,
                             const Frame &frame, ContextId context);
  llvm::SmallVector<PolyId> sizes(llvm::ArrayRef<mlir::AffineExpr> dims,
                                  llvm::ArrayRef<PolyId> symbols);

  /// Why nothing may be concluded, if so.
  std::optional<std::string> failure() const;

private:
  NodeId evaluateLoad(graph::LoadOp op, const Frame &frame, ContextId context);
  NodeId evaluateApply(graph::ApplyOp op, const Frame &frame,
                       ContextId context);
  NodeId readStage(const TensorSource &source, llvm::ArrayRef<PolyId> coords,
                   uint32_t level, ContextId context);
  NodeId readConstant(TensorId id, llvm::ArrayRef<PolyId> coords);
  llvm::SmallVector<PolyId> coordinateValues(mlir::OperandRange coords,
                                             const Frame &frame,
                                             ContextId context);
  TensorId add(TensorSource source);
  bool stopped() const {
    return tooDeep || tooMany || !unknown.empty() || exprs.overflowed();
  }
  void enter();

  IndexArena &index;
  ExprArena &exprs;
  std::deque<Environment> environments;
  std::deque<TensorSource> tensors;
  std::deque<Frame> frames;
  SequenceMap<uint32_t> frameIds;
  SequenceMap<NodeId> reads;
  SequenceMap<NodeId> values;
  const unsigned maxDepth, maxSteps;
  unsigned depth = 0, steps = 0;
  bool tooDeep = false, tooMany = false;
  std::string unknown;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_INLINE_H
