// Results in the place of operands: may this kernel, computed in this order,
// store a result over an operand?
#ifndef DLC_CHECK_INPLACE_H
#define DLC_CHECK_INPLACE_H

#include "dlc/Check/Laws.h"
#include "dlc/Dialect/Graph/IR/ComputeOrder.h"

namespace dlc::check {

/// C-NOALIAS: shows that no element of the operand is read after it was
/// overwritten:
///
/// - both have as many bytes, and elements of one size;
/// - the step that stores the result is pointwise, and reads of the operand, at
///   a point, only the element at the address that this point is stored to, for
///   no other stage than the result;
/// - steps before it read, where the order goes by rows, only what the result's
///   same row will overwrite; else anything;
/// - steps after it read nothing of the operand.
///
/// Loads are found in the kernel's own text; their addresses are compared as
/// polynomials, under what their guards tell.
Admission admitInPlace(graph::KernelOp kernel, const graph::ComputeOrder &order,
                       graph::InPlacePair pair);

} // namespace dlc::check

#endif // DLC_CHECK_INPLACE_H
