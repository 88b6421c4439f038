// The form of a factor by itself.
#ifndef DLC_SCHEDULE_OPERANDFORM_H
#define DLC_SCHEDULE_OPERANDFORM_H

#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// Fills in the plain or guarded form of `operand` (whose value is set) when it
/// has one. `mayBeOutside`: a guarded one may have another value than zero
/// where its guards fail, if that is the same everywhere.
void describeOperand(ContractionOperand &operand, const IterationSpace &space,
                     bool mayBeOutside = false);

/// The element that a plain or guarded operand is read at, over the axes.
mlir::AffineExpr addressOf(const ContractionOperand &operand);

/// What a guarded operand is where its guards fail (the zero point of a padded
/// image); null: zero.
mlir::Value outsideOf(const ContractionOperand &operand);

/// Whether `scalar` differs between points of wide axes for which `counts`
/// holds, or that is not known.
bool variesAlong(mlir::Value scalar, const IterationSpace &space,
                 llvm::function_ref<bool(unsigned axis)> counts);

} // namespace dlc

#endif // DLC_SCHEDULE_OPERANDFORM_H
