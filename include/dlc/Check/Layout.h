// The independent checker of layouts: what graph-relay-tensors made against the
// program it was made from (docs/check.md).
#ifndef DLC_CHECK_LAYOUT_H
#define DLC_CHECK_LAYOUT_H

#include "dlc/Check/Laws.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace dlc::check {

/// Shows that `after` is `before` with renamed axes, as its claim (the
/// attribute `graph.relayout`) says: operands and results whose axes are
/// permuted hold the same elements. Axes of a fold may be permuted where the
/// claim names the law and `mode` admits it. Refuses what it cannot show.
Admission checkRelayout(graph::KernelOp before, graph::KernelOp after,
                        graph::NumericsMode mode);

struct LayoutVerdict {
  struct Refusal {
    std::string kernel; ///< of the original, that was renamed
    std::string reason;
  };
  std::vector<Refusal> kernels;
  std::string graph;  ///< what is wrong with the functions; empty: nothing
  unsigned shown = 0; ///< relaid kernels that were

  bool accepted() const { return kernels.empty() && graph.empty(); }
  void print(llvm::raw_ostream &os) const;
};

/// Shows that `relaid` is `original` except that some values have permuted
/// axes, which all who read them know of: kernels that differ have a claim, and
/// operands and results that agree with it.
LayoutVerdict checkLayouts(mlir::ModuleOp original, mlir::ModuleOp relaid,
                           graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_CHECK_LAYOUT_H
