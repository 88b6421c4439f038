// What -verify and -verify=bisect share.
#ifndef DLC_LIB_DRIVER_VERIFY_H
#define DLC_LIB_DRIVER_VERIFY_H

#include "Compilation.h"

#include "dlc/Driver/RunModel.h"

namespace dlc {

/// What max|a-b|/max|b| of an output like `expected` may be: the rounding of
/// its type and no more; 0 in strict mode.
double getTolerance(const CompileOptions &options,
                    const interp::Tensor &expected);

/// Finds the first kernel that is wrong on the interpreter's values and writes
/// it, its inputs and its results to <dump-dir>/bisect or <product>.bisect.
/// Never succeeds: the error (Verify) says what was found. `inputs` are those
/// on which the model was wrong.
llvm::Error bisect(Compilation &c, interp::MathMode math,
                   llvm::ArrayRef<interp::Tensor> inputs);

} // namespace dlc

#endif // DLC_LIB_DRIVER_VERIFY_H
