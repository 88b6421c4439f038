// Loading a model into the graph dialect: what the compiler and dlc-run's
// interpreter both begin with.
#ifndef DLC_DRIVER_MODELSOURCE_H
#define DLC_DRIVER_MODELSOURCE_H

#include "dlc/Driver/Options.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>

namespace dlc {

/// A model as graph operators in `func.func @main`. The context lives as long;
/// it is null when the model was loaded into another's.
struct ModelSource {
  std::unique_ptr<mlir::MLIRContext> context;
  std::shared_ptr<void> file; ///< what the constants point into
  mlir::OwningOpRef<mlir::ModuleOp> module;

  mlir::func::FuncOp getMain() {
    return module->lookupSymbol<mlir::func::FuncOp>("main");
  }
};

/// Adds the dialects of all stages before code generation.
void registerDialects(mlir::DialectRegistry &registry);

/// Loads `options.input`: an ONNX model, or graph operators in MLIR's text
/// form (*.mlir). Applies -dim and -shape. Fails with a CompileError. With
/// `shared`, into that context, where models can be compared. A text form
/// without the numbers of its constants is for comparing alone, without
/// `needsConstants`.
llvm::Expected<ModelSource> loadModel(const CompileOptions &options,
                                      mlir::MLIRContext *shared = nullptr,
                                      bool needsConstants = true);

/// Collects MLIR's diagnostics of one context while it lives.
class DiagnosticCollector {
public:
  explicit DiagnosticCollector(mlir::MLIRContext *context,
                               llvm::StringRef file);
  ~DiagnosticCollector();

  /// The errors so far, as a CompileError; `fallback` is its text if there were
  /// none.
  llvm::Error take(ExitCode code, llvm::StringRef fallback);

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace dlc

#endif // DLC_DRIVER_MODELSOURCE_H
