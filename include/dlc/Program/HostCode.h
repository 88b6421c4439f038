// LLVM IR of the functions that the runtime calls to run a model: `execute`,
// and the functions of the symbols that give dims and the size of the arena.
// Their contract is dlc_model in dlc/runtime.h.
#ifndef DLC_PROGRAM_HOSTCODE_H
#define DLC_PROGRAM_HOSTCODE_H

#include "dlc/Dialect/Program/IR/Program.h"

#include <string>
#include <vector>

namespace llvm {
class Function;
class Module;
} // namespace llvm

namespace dlc {

/// A launch of a device: dlc_device_function.
struct DeviceFunction {
  std::string symbol, kernel;
  int64_t blockThreads = 0;
  int64_t numParams = 0;
  int64_t sharedBytes = 0; ///< dynamic
};

/// The functions of one model; null where runtime.h allows NULL.
struct HostFunctions {
  llvm::Function *inputDims = nullptr;
  llvm::Function *outputDims = nullptr;
  llvm::Function *plan = nullptr;
  int64_t numSizes = 0; ///< what `plan` stores
  llvm::Function *execute = nullptr;
  /// Of a device: what `execute` launches, by number, and the nodes of its
  /// status words (dlc_device_image).
  std::vector<DeviceFunction> deviceFunctions;
  std::vector<std::string> deviceSites;
};

/// Adds the functions of `model` to `module`, named `<prefix>_execute` and so
/// on, hidden. Expects a planned program: every alloc has its offset or slot,
/// every constant its offset, every kernel its phases.
/// `onDevice`: kernels are launched and buffers lie on a device.
HostFunctions emitHostCode(program::ModelOp model, llvm::StringRef prefix,
                           llvm::Module &module, bool onDevice = false);

} // namespace dlc

#endif // DLC_PROGRAM_HOSTCODE_H
