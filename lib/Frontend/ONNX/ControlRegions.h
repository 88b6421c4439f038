//===- ControlRegions.h - regions of the graph dialect ----------*- C++ -*-===//
//
// What If, Loop and Scan share when the run decides: values of onnx as lists of
// tensors, blocks that are built before their operator, and sizes that are
// bound inside a region, bounded by sizes from outside.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_CONTROLREGIONS_H
#define LIB_FRONTEND_ONNX_CONTROLREGIONS_H

#include "Converter.h"

namespace dlc {

/// The node's graph attribute of this name.
mlir::Region &getGraph(NodeContext &node, llvm::StringRef name);

/// The condition when it is known.
std::optional<bool> knownCondition(Entry &entry);

/// A known integer of one element.
Entry knownInt(GraphBuilder &b, int64_t value, mlir::Type element,
               llvm::ArrayRef<int64_t> dims = {});

/// Appends the tensors of an entry in order: several of a sequence, none of an
/// absent value.
void flatten(NodeContext &node, Entry &entry,
             llvm::SmallVectorImpl<mlir::Value> &tensors);
/// The reverse: takes as many of `tensors` as an entry like `like` has.
Entry rebuild(const Entry &like, llvm::ArrayRef<mlir::Value> &tensors);
/// Do both have tensors, sequences and absent values in the same places?
bool haveSameStructure(const Entry &x, const Entry &y);

/// A block outside the function; `build` is called with it as insertion point.
std::unique_ptr<mlir::Block>
buildBlock(GraphBuilder &b, mlir::TypeRange arguments,
           llvm::function_ref<void(mlir::Block &)> build);
/// Appends graph.leave.
void addLeave(GraphBuilder &b, mlir::Block &block, mlir::ValueRange values);

/// Sizes that a block's operators bind.
class InnerSizes {
public:
  explicit InnerSizes(mlir::Block &block);
  /// No smaller than `size`, and free of the block's symbols; refuses where
  /// that cannot be told.
  mlir::AffineExpr getLargest(mlir::AffineExpr size) const;

private:
  llvm::DenseMap<unsigned, mlir::AffineExpr> bounds;
};

/// The larger of two sizes, or their sum where that is not known.
mlir::AffineExpr getUpperBound(mlir::AffineExpr x, mlir::AffineExpr y);

/// A loop that the run ends.
struct LoopRequest {
  mlir::AffineExpr trips; ///< null: not known before the run
  mlir::Value limit;      ///< the run-time count; null: none
  mlir::Value condition;  ///< the first; null: true
  std::vector<Entry> state;
  size_t numStacked = 0;
  /// Converts one iteration: the condition to go on, the next state, and what
  /// is stacked.
  std::function<std::vector<Entry>(mlir::Value iteration,
                                   llvm::ArrayRef<Entry> state)>
      body;
};

struct LoopValues {
  std::vector<Entry> state;
  llvm::SmallVector<mlir::Value> stacks;
};

/// Makes graph.loop.
LoopValues makeLoop(NodeContext &node, LoopRequest &request);

void convertLoop(NodeContext &node);
void convertScan(NodeContext &node);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_CONTROLREGIONS_H
