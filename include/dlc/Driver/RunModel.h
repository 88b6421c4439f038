// Running models for the tools: compiled ones through the program dlc-exec (so
// that foreign artifacts run under qemu), and any model in the interpreter.
#ifndef DLC_DRIVER_RUNMODEL_H
#define DLC_DRIVER_RUNMODEL_H

#include "dlc/Driver/ModelSource.h"
#include "dlc/Driver/TensorFile.h"
#include "dlc/Interpreter/Interpreter.h"

#include "llvm/Support/JSON.h"

namespace dlc {

/// A compiled model in a shared object, and how to run it here.
class Artifact {
public:
  /// Reads the description of the model in `path`. Errors: Io when the file
  /// cannot be read, Unavailable when no program for its architecture is here.
  static llvm::Expected<Artifact> open(llvm::StringRef path);

  llvm::StringRef getPath() const { return path; }

  /// What dlc-exec -info prints.
  const llvm::json::Object &getInfo() const { return info; }

  /// True when it runs under an emulator of another CPU.
  bool isForeign() const { return command.size() > 1; }
  llvm::StringRef getEmulator() const { return command.front(); }

  struct RunOptions {
    std::string outputs;             ///< a folder that exists
    unsigned bench = 0;              ///< further runs, measured
    unsigned threads = 0;            ///< 0: the runtime's choice
    std::vector<std::string> beside; ///< with bench: artifacts that take turns
    bool profile = false;            ///< with bench: samples of kernels
  };
  /// Runs it on .npy files; outputs go to <folder>/output_<i>.npy. Returns what
  /// dlc-exec printed. A failure of the model has code Rejected.
  llvm::Expected<std::string> run(llvm::ArrayRef<std::string> inputs,
                                  const RunOptions &options) const;
  /// Runs it on tensors through files in a temporary folder. `printed`, if
  /// given, receives what dlc-exec printed.
  llvm::Expected<llvm::SmallVector<interp::Tensor>>
  run(llvm::ArrayRef<interp::Tensor> inputs, mlir::MLIRContext *context,
      RunOptions options, std::string *printed = nullptr) const;

  /// Random tensors for its inputs; free dims get their typical value. Errors
  /// when a dim is a function of several (give the inputs then).
  llvm::Expected<llvm::SmallVector<interp::Tensor>>
  makeRandomInputs(mlir::MLIRContext *context, uint64_t seed) const;

  /// The element types of its inputs.
  llvm::SmallVector<mlir::Type> getInputTypes(mlir::MLIRContext *context) const;

  int64_t getNumOutputs() const;

private:
  std::string path;
  std::vector<std::string> command; ///< [emulator, options...,] dlc-exec
  llvm::json::Object info;
};

/// Runs a model loaded by loadModel in the interpreter. Fails with its
/// diagnostics. MathMode::dlc needs enableDlcMath first.
llvm::Expected<llvm::SmallVector<interp::Tensor>>
interpret(ModelSource &source, llvm::ArrayRef<interp::Tensor> inputs,
          unsigned threads = 0, interp::MathMode math = interp::MathMode::libm);

/// Random tensors for the arguments of @main; free dims get their typical
/// value.
llvm::SmallVector<interp::Tensor> makeRandomInputs(mlir::func::FuncOp main,
                                                   uint64_t seed);

/// What -info prints of a model that is not compiled: names, types, dims.
std::string describeMain(mlir::func::FuncOp main);

/// A folder that is deleted with everything in it.
class TemporaryFolder {
public:
  static llvm::Expected<std::unique_ptr<TemporaryFolder>> create();
  ~TemporaryFolder();
  std::string getPath(const llvm::Twine &name) const;

private:
  explicit TemporaryFolder(std::string path) : path(std::move(path)) {}
  std::string path;
};

} // namespace dlc

#endif // DLC_DRIVER_RUNMODEL_H
