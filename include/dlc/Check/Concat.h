// Concatenations that others compute: is this kernel's result its operands, one
// after the other?
#ifndef DLC_CHECK_CONCAT_H
#define DLC_CHECK_CONCAT_H

#include "dlc/Check/Laws.h"
#include "dlc/Dialect/Graph/IR/Placement.h"

namespace dlc::check {

/// C-CONCAT: shows that the result at a point is the element of the operand
/// whose part it lies in, at the same place but for the offset along the axis,
/// and that the parts fill the result without overlap. The kernel's one stage
/// is evaluated at every coordinate of the axis, with guards of that coordinate
/// alone; sizes are constant.
Admission admitConcat(graph::KernelOp kernel, const graph::ConcatForm &form);

} // namespace dlc::check

#endif // DLC_CHECK_CONCAT_H
