// LLVM IR of the functions that the runtime calls to run a model: `execute`,
// and the functions of the symbols that give dims and the size of the arena.
// Their contract is dlc_model in dlc/runtime.h.
#ifndef DLC_PROGRAM_HOSTCODE_H
#define DLC_PROGRAM_HOSTCODE_H

#include "dlc/Dialect/Program/IR/Program.h"

namespace llvm {
class Function;
class Module;
} // namespace llvm

namespace dlc {

/// The functions of one model; null where runtime.h allows NULL.
struct HostFunctions {
  llvm::Function *inputDims = nullptr;
  llvm::Function *outputDims = nullptr;
  llvm::Function *plan = nullptr;
  int64_t numSizes = 0; ///< what `plan` stores
  llvm::Function *execute = nullptr;
};

/// Adds the functions of `model` to `module`, named `<prefix>_execute` and so
/// on, hidden. Expects a planned program: every alloc has its offset or slot,
/// every constant its offset, every kernel its phases.
HostFunctions emitHostCode(program::ModelOp model, llvm::StringRef prefix,
                           llvm::Module &module);

} // namespace dlc

#endif // DLC_PROGRAM_HOSTCODE_H
