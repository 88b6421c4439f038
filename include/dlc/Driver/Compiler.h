// The compiler as a library: from a model file to the files of an artifact.
#ifndef DLC_DRIVER_COMPILER_H
#define DLC_DRIVER_COMPILER_H

#include "dlc/Driver/Options.h"

namespace dlc {

struct CompileResult {
  struct Product {
    EmitKind kind;
    std::string path; ///< "-" for standard output
  };
  std::vector<Product> products;
  std::string weightsPath; ///< of external weights; else empty
  std::string report;      ///< the JSON text of -emit=report
};

/// Compiles `options.input` and writes what `options.emit` lists: all files or,
/// on an error, none. Progress and MLIR's own output go to standard error.
/// Fails with a CompileError.
llvm::Expected<CompileResult> compileModel(const CompileOptions &options);

/// The text of `-list-targets`.
llvm::Expected<std::string> describeTargets();

/// dlc's version, "0.1.0".
llvm::StringRef getVersion();

} // namespace dlc

#endif // DLC_DRIVER_COMPILER_H
