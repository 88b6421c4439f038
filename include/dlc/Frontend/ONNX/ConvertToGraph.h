//===- ConvertToGraph.h - onnx dialect to graph dialect ---------*- C++ -*-===//
//
// Lowers an imported model to graph operators: computed shapes become
// expressions of dim symbols, operators become rows of the graph dialect, and
// operators without an own lowering are replaced by their ONNX function body.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_FRONTEND_ONNX_CONVERTTOGRAPH_H
#define DLC_FRONTEND_ONNX_CONVERTTOGRAPH_H

#include "dlc/Frontend/ONNX/Import.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Operation.h"

#include <functional>
#include <map>

namespace dlc {

/// Evaluates a graph operation on constant operands (dense elements).
using ConstantFolder = std::function<llvm::FailureOr<mlir::DenseElementsAttr>(
    mlir::Operation *graphOp, llvm::ArrayRef<mlir::Attribute>)>;

struct ConvertOptions {
  /// Folds operations on constants; without it only shape arithmetic folds.
  ConstantFolder fold;
  /// Largest operand or result, in bytes, that is folded.
  uint64_t maxFoldedBytes = 256 * 1024;
  /// Sizes for dim names of the model ("batch" -> 1).
  std::map<std::string, int64_t> dims;
  /// Sizes for whole inputs, by name.
  std::map<std::string, llvm::SmallVector<int64_t>> shapes;
  ModelLimits limits;
};

/// Converts a module made by importOnnx. The result holds `func.func @main` of
/// graph operators with `graph.symbols`, and `graph.name` on arguments and
/// results. `file` stands in messages. Fails with an ImportError that lists
/// every node that has no lowering.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
convertToGraph(mlir::ModuleOp model, llvm::StringRef file,
               const ConvertOptions &options = {});

/// Whether dlc lowers this operator itself (and not by its function body).
bool hasOwnLowering(llvm::StringRef domain, llvm::StringRef op);

/// What becomes of an operator.
struct OperatorSupport {
  enum How {
    Own,    ///< lowered by dlc
    Shape,  ///< an expression of sizes, nothing at run time
    Body,   ///< by its ONNX function body
    Refused ///< not supported
  };
  std::string name; ///< "Conv", "ai.onnx.ml.X"
  How how = Refused;
  bool narrow = false; ///< takes elements of 8 bits and fewer (f8, f4, i4, ...)
  std::string limits;  ///< what is refused of it, in words; may be empty
};

/// Every operator that the linked ONNX defines, sorted by name.
std::vector<OperatorSupport> listOperators();

/// The operators with an own lowering, sorted: "Conv", "ai.onnx.ml.X".
std::vector<std::string> listOwnLowerings();

} // namespace dlc

#endif // DLC_FRONTEND_ONNX_CONVERTTOGRAPH_H
