//===- Prepare.h - from a parsed model to one worth importing ---*- C++ -*-===//
//
// The steps between parsing and import. Each appends what it finds wrong; the
// next one may run only when nothing was found.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_PREPARE_H
#define LIB_FRONTEND_ONNX_PREPARE_H

#include "dlc/Frontend/ONNX/Import.h"

#include "onnx/onnx_pb.h"

namespace onnx {
class OpSchema;
}

namespace dlc {

/// "node 'conv1'", or by its first output for a node without a name.
std::string describeNode(const onnx::NodeProto &node);
/// "Conv", "com.microsoft.FastGelu".
std::string describeOp(const onnx::NodeProto &node);
/// The version a model imports of a domain; 0 when it does not.
int64_t getOpset(const onnx::ModelProto &model, llvm::StringRef domain);
/// "" for both spellings of the default domain.
inline llvm::StringRef canonicalDomain(llvm::StringRef domain) {
  return domain == "ai.onnx" ? "" : domain;
}

/// Makes dims written as -1 or "?", as exporters write unknown ones, unknown:
/// two "?" are not one size.
void clearUnknownDims(onnx::ModelProto &model);

/// LayerNormalization in an opset that has none yet is onnxruntime's: gives it
/// that domain.
void nameEarlyNorms(onnx::ModelProto &model);
/// GroupNormalization of opsets 18 to 20, which later ones call deprecated and
/// the converter is never asked for: written out.
void rewriteEarlyGroupNorms(onnx::ModelProto &model);
/// Before opset 7 `axis` said beside which dims of the first operand those of
/// the second lie: they get dims of 1 behind them instead.
void alignEarlyBroadcasts(onnx::ModelProto &model);
/// In a model that was converted from `opset`: what onnx's converter leaves
/// out.
void keepEarlyMeanings(onnx::ModelProto &model, int64_t opset);

/// Structure that onnx's tools must not meet: versions, sizes, nesting, node
/// counts after inlining, tensors that do not hold what they say.
void checkLimits(const onnx::ModelProto &model, const ImportOptions &options,
                 std::vector<ModelProblem> &problems);

/// onnx's checker; bad nodes are all listed. The model comes back as it was.
void checkModel(onnx::ModelProto &model, std::vector<ModelProblem> &problems);

/// Replaces calls of the model's own functions by their bodies.
void inlineFunctions(onnx::ModelProto &model,
                     std::vector<ModelProblem> &problems);

/// Nodes whose operator neither a linked schema nor a function of the model
/// defines.
void checkOperatorsKnown(const onnx::ModelProto &model,
                         std::vector<ModelProblem> &problems);

/// Brings the default domain to onnxd::kOpset.
void convertOpset(onnx::ModelProto &model, std::vector<ModelProblem> &problems);

/// Sets the attributes a node leaves to their schema's defaults.
void fillDefaultAttributes(onnx::ModelProto &model);
void fillDefaultAttributes(onnx::NodeProto &node, const onnx::OpSchema &schema);
/// The same for a node of a function body at onnxd::kOpset, and all inside it.
void fillDefaultAttributesInside(onnx::NodeProto &node);

/// onnx's type and shape inference, strict; messages name the file's opset.
void inferTypes(onnx::ModelProto &model, int64_t sourceOpset,
                std::vector<ModelProblem> &problems);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_PREPARE_H
