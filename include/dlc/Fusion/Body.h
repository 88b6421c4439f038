// The body of a kernel while fusion works on it: stages of hash-consed scalar
// expressions over numbered tensors, with every symbol the function's.
//
// Stages do not change once they are made, so that groups share them; inlining
// makes new ones.
#ifndef DLC_FUSION_BODY_H
#define DLC_FUSION_BODY_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Fusion/IndexMath.h"

#include "llvm/ADT/DenseMap.h"

#include <memory>
#include <unordered_map>
#include <vector>

namespace dlc::fusion {

/// A tensor of the function, or a stage inside of one of its kernels.
using TensorId = unsigned;

/// Dims of index expressions from here on are data coordinates: kDataDim + n is
/// the result of the ToIndex node n.
constexpr unsigned kDataDim = 1024;

struct Node {
  enum Kind : uint8_t { Load, Apply, Cast, Literal, Coord, Inside, ToIndex };
  Kind kind = Literal;
  mlir::Type type;
  unsigned fn = 0; ///< Apply: the ScalarFn. Cast: saturate
  mlir::TypedAttr literal;
  TensorId tensor = 0; ///< Load
  /// Apply, Cast, ToIndex: operands. Load: the value where the guard is false.
  llvm::SmallVector<unsigned, 3> args;
  /// Load: coordinates. Coord: the value. ToIndex: the size.
  llvm::SmallVector<mlir::AffineExpr, 4> index;
  /// Load, Inside: what must be >= 0 or, where `equal`, == 0.
  llvm::SmallVector<mlir::AffineExpr, 2> guard;
  llvm::SmallVector<bool, 2> equal;

  bool operator==(const Node &other) const;
  /// The ToIndex nodes that the index expressions and guards use.
  void forEachData(llvm::function_ref<void(unsigned)> fn) const;
};

struct Stage {
  TensorId result = 0;
  mlir::RankedTensorType type;
  llvm::SmallVector<mlir::AffineExpr, 4> domain, reduce;
  graph::FoldKind fold = graph::FoldKind::none;
  mlir::TypedAttr init;
  std::vector<Node> nodes; ///< operands before users, all of them used
  unsigned root = 0;
  /// What the nodes load, in order of first use.
  llvm::SmallVector<TensorId, 4> loads;
  /// What the policy counted, for the sizes that are typical of its graph;
  /// below 0: nothing yet.
  mutable double work = -1, run = -1;
  /// Loads that take an instruction a lane, -1: not counted; and whether they
  /// are transposed by tiles in registers where the stage is alone.
  mutable int strided = -1;
  mutable bool tiles = false;

  bool isFold() const { return fold != graph::FoldKind::none; }
  unsigned numAxes() const { return domain.size() + reduce.size(); }
  /// The sizes of domain and reduce axes.
  llvm::SmallVector<mlir::AffineExpr> extents() const;
  bool reads(TensorId tensor) const;
};
using StageRef = std::shared_ptr<const Stage>;

/// Stages in order, each reading operands and earlier stages.
struct Body {
  std::vector<StageRef> stages;

  const Stage *find(TensorId tensor) const;
  /// What is read and not computed here, in order of first use.
  std::vector<TensorId> operands() const;
};

/// The tensors of one function.
class TensorTable {
public:
  TensorId get(mlir::Value value);
  TensorId addInternal(mlir::RankedTensorType type);
  mlir::Value valueOf(TensorId id) const { return entries[id].value; }
  mlir::RankedTensorType typeOf(TensorId id) const { return entries[id].type; }
  /// The tensor that `id` is a chain of reshapes of, itself if it is none.
  TensorId baseOf(TensorId id) const { return entries[id].base; }
  /// The tensor whose reshape this one is; itself if it is none.
  TensorId viewedBy(TensorId id) const { return entries[id].viewed; }
  /// The single element of a constant, or null.
  mlir::TypedAttr scalarOf(TensorId id) const { return entries[id].scalar; }

private:
  struct Entry {
    mlir::Value value;
    mlir::RankedTensorType type;
    TensorId base, viewed;
    mlir::TypedAttr scalar;
  };
  std::vector<Entry> entries;
  llvm::DenseMap<mlir::Value, TensorId> ids;
};

/// Makes a stage node by node; equal nodes are one.
class StageBuilder {
public:
  StageBuilder(mlir::MLIRContext *context, const Stage &shape);

  /// Adds a node whose index expressions are over the stage's axes; they are
  /// simplified here.
  unsigned add(Node node);
  const Node &operator[](unsigned id) const { return nodes[id]; }
  size_t size() const { return nodes.size(); }
  const IndexMath &math() const { return indexMath; }
  /// Drops what `root` does not use.
  StageRef finish(unsigned root);

private:
  mlir::MLIRContext *context;
  Stage shape;
  IndexMath indexMath;
  std::vector<Node> nodes;
  std::unordered_multimap<size_t, unsigned> known;
};

/// Reads the kernel of `call`; results get the call's tensors. None when the
/// kernel has no stages. Operands that are constants of one element become
/// literals where no load of them is guarded.
std::optional<Body> readKernel(graph::CallOp call, graph::KernelOp kernel,
                               TensorTable &tensors);

/// Whether readKernel makes literals of the operand.
bool isAbsorbed(graph::KernelOp kernel, unsigned operand, TensorId tensor,
                const TensorTable &tensors);

} // namespace dlc::fusion

#endif // DLC_FUSION_BODY_H
