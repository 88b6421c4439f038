// NVIDIA's assembler as a child process: PTX in, cubin and resource use out.
//
// A child process and not a library, because a crash or a hang of the assembler
// must not take the compiler with it.
#ifndef DLC_TARGET_CUDA_PTXAS_H
#define DLC_TARGET_CUDA_PTXAS_H

#include "dlc/Target/CUDA/CudaTarget.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace dlc {

/// What one kernel takes of a multiprocessor, from `ptxas -v`.
struct KernelResources {
  std::string kernel;
  int64_t registers = 0; ///< of one thread
  int64_t stackBytes = 0;
  int64_t spillStoreBytes = 0;
  int64_t spillLoadBytes = 0;
  int64_t sharedBytes = 0; ///< static
  int64_t barriers = 0;
};

struct PtxasResult {
  std::string cubin;
  std::vector<KernelResources> kernels;
  /// Notes and warnings other than resource use, such as lost parallelism of
  /// tensor-core instructions; empty for good code.
  std::vector<std::string> remarks;
};

/// A program of the CUDA toolkit is not installed.
class ToolUnavailableError : public llvm::ErrorInfo<ToolUnavailableError> {
public:
  static char ID;
  explicit ToolUnavailableError(std::string tool) : tool(std::move(tool)) {}
  void log(llvm::raw_ostream &os) const override;
  std::error_code convertToErrorCode() const override;

private:
  std::string tool;
};

/// Where ptxas is: in `$CUDA_HOME/bin` and nowhere else when CUDA_HOME is set,
/// else in PATH or /usr/local/cuda/bin. ToolUnavailableError when it is not.
llvm::Expected<std::string> findPtxas();

/// Assembles PTX for `sm` ("sm_90a"). Errors carry the assembler's messages;
/// ToolUnavailableError when there is no assembler. An empty `program` means
/// findPtxas().
llvm::Expected<PtxasResult> runPtxas(llvm::StringRef ptx, llvm::StringRef sm,
                                     llvm::StringRef program = "");

/// The part of a multiprocessor's threads that blocks of `threads` threads
/// keep busy, as far as their registers and shared memory allow.
double getOccupancy(const KernelResources &kernel, int64_t threads,
                    const CudaDesc &desc);

/// Reads `ptxas -v`; exposed for its test.
void parsePtxasLog(llvm::StringRef log, PtxasResult &result);

} // namespace dlc

#endif // DLC_TARGET_CUDA_PTXAS_H
