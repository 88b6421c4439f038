//===- ImportError.h - why a model was refused ------------------*- C++ -*-===//
//
// Everything that is wrong with a model, in one error: a user who fixes a model
// wants the whole list. Each problem names its node, operator and opset.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_FRONTEND_ONNX_IMPORTERROR_H
#define DLC_FRONTEND_ONNX_IMPORTERROR_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace dlc {

/// One thing that is wrong.
struct ModelProblem {
  std::string
      where;      ///< "node 'conv1'", "initializer 'w'"; empty: the whole model
  std::string op; ///< "Conv" or "com.microsoft.FastGelu"; empty: not a node
  int64_t opset =
      0; ///< version of the operator's domain in the file; 0: unknown
  std::string types;  ///< operand types, "f32[1,3,8,8], i64[?]"; may be empty
  std::string reason; ///< lower case, no full stop

  /// "node 'conv1' (Conv, opset 17): reason; operands f32[1,3,8,8]"
  std::string text() const;
};

/// A model that cannot be compiled, with every problem found.
class ImportError : public llvm::ErrorInfo<ImportError> {
public:
  enum class Kind {
    File,       ///< cannot be read
    Malformed,  ///< not a valid ONNX model
    Unsupported ///< valid, but dlc has no lowering for something in it
  };
  static char ID;

  ImportError(std::string file, Kind kind, std::vector<ModelProblem> problems)
      : file(std::move(file)), kind(kind), problems(std::move(problems)) {}

  llvm::StringRef getFile() const { return file; }
  Kind getKind() const { return kind; }
  llvm::ArrayRef<ModelProblem> getProblems() const { return problems; }

  /// One line a problem, each beginning with the file.
  void log(llvm::raw_ostream &os) const override;
  std::error_code convertToErrorCode() const override;

private:
  std::string file;
  Kind kind;
  std::vector<ModelProblem> problems;
};

} // namespace dlc

#endif // DLC_FRONTEND_ONNX_IMPORTERROR_H
