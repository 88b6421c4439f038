// In which order a nest computes a kernel, as far as memory shows it: what
// decides whether a result may lie where an operand lies. Plain data, so that
// who generates code can say it and Check can believe no more than it says.
#ifndef DLC_DIALECT_GRAPH_IR_COMPUTEORDER_H
#define DLC_DIALECT_GRAPH_IR_COMPUTEORDER_H

#include "llvm/ADT/SmallVector.h"

namespace dlc::graph {

struct ComputeStep {
  /// The stages that it stores, numbers in KernelOp::getStages(). What else
  /// they read of the kernel, and no other step stores, is computed anew.
  llvm::SmallVector<unsigned, 2> stages;
  /// Every point of every stage is computed once, and all that it needs is read
  /// before it is stored.
  bool isPointwise = false;
};

struct ComputeOrder {
  /// A row (all stages share `rowRank` leading axes) goes through all steps;
  /// rows run in any order, some of them at the same time. Else a step ends
  /// before the next one begins; its points run in any order.
  bool byRows = false;
  unsigned rowRank = 0;
  /// Empty: nothing is known.
  llvm::SmallVector<ComputeStep, 2> steps;
};

/// A result that may be stored over an operand.
struct InPlacePair {
  unsigned operand, result;
  bool operator==(const InPlacePair &other) const {
    return operand == other.operand && result == other.result;
  }
};

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_COMPUTEORDER_H
