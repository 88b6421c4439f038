// Scalar expressions at a point, hash-consed: two expressions that are built
// the same way are one number. Axes of folds are named by nesting level, so
// that bound names never matter.
#ifndef DLC_LIB_CHECK_EXPR_H
#define DLC_LIB_CHECK_EXPR_H

#include "Index.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

namespace dlc::check {

using NodeId = uint32_t;
using GuardId = uint32_t;

struct Node {
  enum Kind { Load, Literal, Apply, Cast, Coord, Inside, Choose, Fold };
  Node(Kind kind, mlir::Type type) : kind(kind), type(type) {}

  Kind kind;
  mlir::Type type;
  /// Load: the tensor. Literal: the attribute. Apply: the function. Cast: the
  /// saturate flag. Fold: the kind.
  uint64_t payload = 0;
  /// Fold: the start value (null: the fold's identity).
  mlir::Attribute init;
  /// Load: coordinates. Apply, Cast: arguments. Coord: the index. Inside: the
  /// guard. Choose (guard ? a : b, only the chosen side exists): guard, a, b.
  /// Fold: the body.
  llvm::SmallVector<uint32_t, 4> args;
  /// Fold: the extents of its axes, outermost first, and their level.
  llvm::SmallVector<PolyId, 2> extents;
  uint32_t level = 0;

  graph::ScalarFn fn() const { return static_cast<graph::ScalarFn>(payload); }
  graph::FoldKind foldKind() const {
    return static_cast<graph::FoldKind>(payload);
  }
};

class ExprArena {
public:
  explicit ExprArena(IndexArena &index) : index(index) {}

  NodeId intern(Node node);
  const Node &get(NodeId id) const { return nodes[id]; }
  size_t size() const { return nodes.size(); }
  GuardId guard(const Guard &guard);
  const Guard &getGuard(GuardId id) const { return guards[id]; }

  /// Arguments of these may be swapped bit for bit (NaN payloads apart).
  static bool isCommutative(graph::ScalarFn fn);
  NodeId literal(mlir::TypedAttr value);
  NodeId truth(mlir::MLIRContext *context, bool value);
  NodeId apply(graph::ScalarFn fn, llvm::ArrayRef<NodeId> args,
               mlir::Type type);
  NodeId cast(NodeId value, mlir::Type type, bool saturate);
  NodeId coord(PolyId value, mlir::MLIRContext *context);
  /// `inside` of a simplified guard, or literal truth.
  NodeId inside(const std::optional<Guard> &guard, mlir::MLIRContext *context);
  NodeId choose(const Guard &guard, NodeId a, NodeId b);
  /// What `condition` says as a guard, where it is one.
  std::optional<Guard> asGuard(NodeId condition) const;

  /// A short description of the node itself, for messages.
  std::string str(NodeId id) const;

  bool overflowed() const { return broken || index.overflowed(); }

private:
  IndexArena &index;
  std::deque<Node> nodes;
  std::deque<Guard> guards;
  SequenceMap<NodeId> nodeIds;
  SequenceMap<GuardId> guardIds;
  bool broken = false;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_EXPR_H
