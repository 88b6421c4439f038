// Whether a model still shows what is being reduced: each test is a process of
// its own, so that crashes and endless loops are outcomes like others.
#ifndef DLC_TOOLS_DLC_REDUCE_PREDICATE_H
#define DLC_TOOLS_DLC_REDUCE_PREDICATE_H

#include "llvm/ADT/StringSet.h"

#include <string>
#include <vector>

namespace onnx {
class ModelProto;
}

namespace dlc {

class Predicate {
public:
  enum class Kind { Mismatch, Crash, Error, Command };

  Kind kind = Kind::Command;
  std::string text;                 ///< of the error, or the command
  std::vector<std::string> options; ///< given to dlc
  std::string dlc;                  ///< the program
  std::string folder;               ///< for temporary files
  unsigned timeout = 60;            ///< seconds

  /// True when `model` fails as wanted. A model that was tested before and did
  /// not fail is not tested again.
  bool holds(const onnx::ModelProto &model);

  unsigned getNumTests() const { return numTests; }
  /// What the last test printed.
  const std::string &getOutput() const { return output; }

private:
  unsigned numTests = 0;
  std::string output;
  llvm::StringSet<> seen; // hashes of models that did not fail
};

} // namespace dlc

#endif // DLC_TOOLS_DLC_REDUCE_PREDICATE_H
