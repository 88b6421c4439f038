//===- Import.h - model.onnx to the onnx dialect ----------------*- C++ -*-===//
//
// Reads a model file and makes a module of the onnx dialect of it: limits,
// onnx's checker, local functions inlined, conversion to one opset, shape
// inference, then one operation a node. Hostile files end in an error.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_FRONTEND_ONNX_IMPORT_H
#define DLC_FRONTEND_ONNX_IMPORT_H

#include "dlc/Frontend/ONNX/ImportError.h"
#include "dlc/Frontend/ONNX/Limits.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>

namespace dlc {

struct ImportOptions {
  ModelLimits limits;
  /// Tensors up to this many bytes become dense attributes; larger ones stay
  /// where they are in the file and are dense resources over that memory.
  uint64_t maxInlineBytes = 1024;
};

/// The file behind a module: the parsed protobuf and the mapped external data
/// that the module's resource blobs point into. Blobs keep it alive.
class ModelFile;

struct ImportedModel {
  std::shared_ptr<ModelFile> file;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// Imports the model at `path`. The module holds `func.func @main`, whose
/// arguments are the graph's inputs without initializers. Fails with an
/// ImportError that lists every problem of the first step that found any.
llvm::Expected<ImportedModel> importOnnx(llvm::StringRef path,
                                         mlir::MLIRContext &context,
                                         const ImportOptions &options = {});

/// The same for a serialized model in memory; `folder` is where its external
/// data lies (empty: external data is refused) and `name` stands in messages.
llvm::Expected<ImportedModel>
importOnnxBytes(llvm::StringRef bytes, llvm::StringRef folder,
                llvm::StringRef name, mlir::MLIRContext &context,
                const ImportOptions &options = {});

} // namespace dlc

#endif // DLC_FRONTEND_ONNX_IMPORT_H
