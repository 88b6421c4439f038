// Concatenations that cost nothing: what they join is stored in its place by
// the kernels that compute it.
//
// The call stays in @main, since it says what the tensor is; it has no work of
// its own any more. The host program gives its operands parts of its buffer.
#ifndef DLC_LAYOUT_CONCAT_H
#define DLC_LAYOUT_CONCAT_H

#include "dlc/Dialect/Graph/IR/Placement.h"

namespace dlc::layout {

/// What a kernel of static sizes looks like, read from the maps of its loads;
/// nothing where it is no concatenation. That it is one is for Check to say
/// (admitConcat).
std::optional<graph::ConcatForm> readConcat(graph::KernelOp kernel);

/// Marks the calls (graph::kKeptAttr) of which at least half of the bytes come
/// from kernels that fusion cannot extend through them: products, windows,
/// reductions. `relays`: images will have their channels last where that pays.
unsigned keepConcats(mlir::ModuleOp module, bool relays);

struct PlaceReport {
  unsigned concats = 0;  ///< calls without work of their own
  unsigned operands = 0; ///< results that are stored in place
  unsigned copies = 0;   ///< operands that are copied there
};

/// Lets the operands of concatenations be stored in their place, also of those
/// that are operands of others. An operand is the result of a call in the same
/// block, and only calls of that block read it. It is stored whole, or, where
/// parts lie apart, by and for kernels with a pitch along its last axis
/// (graph::kPitchAttr). Other operands are copied. A call with fewer than half
/// of its bytes stored so, or that `admits` refuses, stays as it is.
PlaceReport placeConcats(
    mlir::ModuleOp module,
    llvm::function_ref<bool(graph::KernelOp, const graph::ConcatForm &)>
        admits);

} // namespace dlc::layout

#endif // DLC_LAYOUT_CONCAT_H
