// The form of a factor by itself.
#ifndef DLC_SCHEDULE_OPERANDFORM_H
#define DLC_SCHEDULE_OPERANDFORM_H

#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// Fills in the plain or guarded form of `operand` (whose value is set) when it
/// has one.
void describeOperand(ContractionOperand &operand, const IterationSpace &space);

} // namespace dlc

#endif // DLC_SCHEDULE_OPERANDFORM_H
