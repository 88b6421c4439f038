// How a run of dlc ends: the exit codes, and errors as data, so that the tools
// print them as text and the Python package makes exceptions of them.
#ifndef DLC_DRIVER_DIAGNOSTICS_H
#define DLC_DRIVER_DIAGNOSTICS_H

#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
}

namespace dlc {

enum class ExitCode {
  Ok = 0,
  Rejected = 1,    ///< the model is invalid or not supported
  Usage = 2,       ///< the command line
  Io = 3,          ///< a file cannot be read or written
  Verify = 4,      ///< results differ from the oracle
  Unavailable = 5, ///< an outside tool or a device is missing
  Internal = 70    ///< a bug of dlc
};

/// "rejected", "usage", ...: the `kind` of JSON errors.
llvm::StringRef toString(ExitCode code);

/// One thing that is wrong. Fields that do not apply are empty.
struct Diagnostic {
  std::string file;
  std::string node; ///< "node 'conv1'", "initializer 'w'"
  std::string op;   ///< "Conv"
  int64_t opset = 0;
  std::vector<std::string> dtypes; ///< of the operands
  std::vector<std::string> shapes; ///< of the operands, "1x3x8x8"
  std::string reason;
  /// "unsupported": valid, but dlc has no lowering; "malformed": not a valid
  /// model; else empty.
  std::string kind;

  std::string text() const;
};

/// Why a compilation ended. Lists all problems of the stage that found any.
class CompileError : public llvm::ErrorInfo<CompileError> {
public:
  static char ID;

  CompileError(ExitCode code, std::vector<Diagnostic> diagnostics)
      : code(code), diagnostics(std::move(diagnostics)) {}

  ExitCode getCode() const { return code; }
  llvm::ArrayRef<Diagnostic> getDiagnostics() const { return diagnostics; }

  void log(llvm::raw_ostream &os) const override;
  std::error_code convertToErrorCode() const override;

private:
  ExitCode code;
  std::vector<Diagnostic> diagnostics;
};

/// An error with one problem that concerns no node.
llvm::Error makeError(ExitCode code, const llvm::Twine &reason,
                      llvm::StringRef file = {});

/// Turns any error into a CompileError's code and problems: errors of the
/// frontend keep theirs, errors of other rooms get `fallback`.
CompileError toCompileError(llvm::Error error, ExitCode fallback);

/// Prints `error` to `os`: a line a problem, or with `json` one line
/// {"error": kind, "exit": code, "diagnostics": [...]}. Returns the exit code.
int printError(llvm::raw_ostream &os, const CompileError &error, bool json,
               llvm::StringRef tool);

} // namespace dlc

#endif // DLC_DRIVER_DIAGNOSTICS_H
