//===- Import.cpp - model.onnx to the onnx dialect ------------------------===//
//
// The order of the steps; each may run only when those before found nothing.
//
//===----------------------------------------------------------------------===//

#include "dlc/Frontend/ONNX/Import.h"

#include "ModelFile.h"
#include "ModuleBuilder.h"
#include "Prepare.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <google/protobuf/io/zero_copy_stream_impl.h>

#include <climits>

using namespace dlc;
using namespace mlir;

/// The dialect's verifier has the last word on what was built.
static void verifyModule(ModuleOp module, std::vector<ModelProblem> &problems) {
  int64_t opset =
      module->getAttrOfType<IntegerAttr>(onnxd::kSourceOpsetAttr).getInt();
  ScopedDiagnosticHandler handler(
      module.getContext(), [&](Diagnostic &diagnostic) {
        ModelProblem problem;
        if (auto name = diagnostic.getLocation()->findInstanceOf<NameLoc>()) {
          problem.where = "node '" + name.getName().str() + "'";
          problem.opset = opset;
        }
        problem.reason = diagnostic.str();
        problems.push_back(std::move(problem));
        return success();
      });
  if (failed(verify(module)) && problems.empty())
    problems.push_back({"", "", 0, "", "the imported module does not verify"});
}

/// Everything after parsing; `file` is null when that failed for `reason`.
static llvm::Expected<ImportedModel>
importParsed(std::shared_ptr<ModelFile> file, StringRef reason, StringRef name,
             MLIRContext &context, const ImportOptions &options) {
  context.loadDialect<func::FuncDialect, onnxd::ONNXDialect>();
  std::vector<ModelProblem> problems;
  auto fail = [&](ImportError::Kind kind) {
    return llvm::make_error<ImportError>(name.str(), kind, std::move(problems));
  };
  if (!file) {
    problems.push_back({"", "", 0, "", reason.str()});
    return fail(ImportError::Kind::Malformed);
  }
  onnx::ModelProto &model = file->model();
  int64_t sourceOpset = getOpset(model, "");

  if (model.has_graph())
    clearUnknownDims(model);
  nameEarlyNorms(model);
  rewriteEarlyGroupNorms(model);
  checkLimits(model, options, problems);
  if (problems.empty()) {
    checkOperatorsKnown(model, problems);
    if (!problems.empty())
      return fail(ImportError::Kind::Unsupported);
    file->detachWeights(options.maxInlineBytes, problems);
  }
  if (problems.empty())
    checkModel(model, problems);
  if (problems.empty())
    inlineFunctions(model, problems);
  if (!problems.empty())
    return fail(ImportError::Kind::Malformed);
  checkOperatorsKnown(model, problems);
  if (problems.empty())
    convertOpset(model, problems);
  if (!problems.empty())
    return fail(ImportError::Kind::Unsupported);
  fillDefaultAttributes(model);
  inferTypes(model, sourceOpset, problems);
  if (!problems.empty())
    return fail(ImportError::Kind::Malformed);

  ImportedModel imported;
  imported.file = file;
  imported.module =
      ModuleBuilder(&context, file, options.maxInlineBytes, problems)
          .buildModule(sourceOpset);
  if (!imported.module)
    return fail(ImportError::Kind::Unsupported);
  verifyModule(*imported.module, problems);
  if (!problems.empty())
    return fail(ImportError::Kind::Malformed);
  return imported;
}

llvm::Expected<ImportedModel>
dlc::importOnnxBytes(StringRef bytes, StringRef folder, StringRef name,
                     MLIRContext &context, const ImportOptions &options) {
  google::protobuf::io::ArrayInputStream input(
      bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX)));
  std::string reason;
  auto file = ModelFile::parse(input, bytes.size(), folder, reason);
  return importParsed(std::move(file), reason, name, context, options);
}

llvm::Expected<ImportedModel> dlc::importOnnx(StringRef path,
                                              MLIRContext &context,
                                              const ImportOptions &options) {
  auto fail = [&](std::string reason) {
    return llvm::make_error<ImportError>(
        path.str(), ImportError::Kind::File,
        std::vector<ModelProblem>{{"", "", 0, "", std::move(reason)}});
  };
  if (llvm::sys::fs::is_directory(path))
    return fail("is a folder, not a model");
  StringRef folder = llvm::sys::path::parent_path(path);
  if (folder.empty())
    folder = ".";
  llvm::sys::fs::file_status status;
  if (std::error_code code = llvm::sys::fs::status(path, status))
    return fail("cannot be read: " + code.message());
  if (status.type() != llvm::sys::fs::file_type::regular_file) {
    // A pipe has no size until it is read.
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    if (!buffer)
      return fail("cannot be read: " + buffer.getError().message());
    return importOnnxBytes((*buffer)->getBuffer(), folder, path, context,
                           options);
  }
  // Read piece by piece: a mapped file would be in memory twice.
  auto descriptor = llvm::sys::fs::openNativeFileForRead(path);
  if (!descriptor)
    return fail("cannot be read: " + llvm::toString(descriptor.takeError()));
  std::string reason;
  std::shared_ptr<ModelFile> file;
  {
    google::protobuf::io::FileInputStream input(*descriptor, 1 << 20);
    input.SetCloseOnDelete(true);
    file = ModelFile::parse(input, status.getSize(), folder, reason);
    if (!file && input.GetErrno())
      return fail(
          "cannot be read: " +
          std::error_code(input.GetErrno(), std::generic_category()).message());
  }
  return importParsed(std::move(file), reason, path, context, options);
}
