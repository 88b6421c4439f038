// The kernels of a model as the operations of a library.
#ifndef DLC_LIB_DRIVER_LIBRARYMODEL_H
#define DLC_LIB_DRIVER_LIBRARYMODEL_H

#include "dlc/Driver/Options.h"
#include "dlc/Library/Library.h"

namespace dlc {

/// Compiles the model of `options` up to its kernels for `target`, and makes an
/// operation of each: what it reads are inputs, weights too, its dim symbols
/// are dims. `leftOut` says which have no such form, and why. Operations hold
/// graph operators in text form (Operation::isGraph). Fails as compileModel.
llvm::Expected<library::Library>
exportKernels(const CompileOptions &options, llvm::StringRef target,
              llvm::StringRef name, std::vector<std::string> &leftOut);

} // namespace dlc

#endif // DLC_LIB_DRIVER_LIBRARYMODEL_H
