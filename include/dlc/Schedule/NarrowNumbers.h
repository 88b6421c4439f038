// Numbers that a product takes as they lie, before they are widened.
#ifndef DLC_SCHEDULE_NARROWNUMBERS_H
#define DLC_SCHEDULE_NARROWNUMBERS_H

#include "mlir/IR/BuiltinTypes.h"

namespace dlc {

inline bool isByte(mlir::Type type) {
  return type.isSignlessInteger(8) || type.isSignedInteger(8) ||
         type.isUnsignedInteger(8);
}

/// Whether a product may take factors of `from` where its body casts them to
/// `to`: bytes to i32, of which a zero point may be subtracted (`isShifted`),
/// and bf16 to f32.
inline bool isWidening(mlir::Type from, mlir::Type to, bool isShifted) {
  return (isByte(from) && to.isInteger(32)) ||
         (!isShifted && from.isBF16() && to.isF32());
}

} // namespace dlc

#endif // DLC_SCHEDULE_NARROWNUMBERS_H
