//===- OperatorList.cpp - what the frontend takes -------------------------===//
//
// The operators that the linked ONNX knows, and what becomes of each: the list
// comes from the schemas and the converter table, so that it cannot be stale;
// only the words on limits are written down (OperatorLimits.def).
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "onnx/defs/schema.h"
#include "llvm/ADT/STLExtras.h"

using namespace dlc;

static llvm::StringRef findLimit(llvm::StringRef name) {
#define DLC_OPERATOR_LIMIT(op, words)                                          \
  if (name == op)                                                              \
    return words;
#include "OperatorLimits.def"
  return "";
}

std::vector<OperatorSupport> dlc::listOperators() {
  std::vector<OperatorSupport> operators;
  for (const onnx::OpSchema &schema :
       onnx::OpSchemaRegistry::get_all_schemas()) {
    if (schema.Deprecated())
      continue;
    OperatorSupport support;
    support.name = onnxd::makeOpName(schema.domain(), schema.Name())
                       .substr(strlen("onnx."));
    bool isShape = schema.Name() == "Shape" || schema.Name() == "Size";
    support.how =
        hasOwnLowering(schema.domain(), schema.Name())
            ? (isShape ? OperatorSupport::Shape : OperatorSupport::Own)
        : schema.HasFunction() || schema.HasContextDependentFunction()
            ? OperatorSupport::Body
            : OperatorSupport::Refused;
    support.narrow = getNarrowUse(support.name) != NarrowUse::Refused;
    support.limits = findLimit(support.name).str();
    operators.push_back(std::move(support));
  }
  llvm::sort(operators, [](const OperatorSupport &a, const OperatorSupport &b) {
    return a.name < b.name;
  });
  return operators;
}
