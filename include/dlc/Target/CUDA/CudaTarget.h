// CUDA GPUs: their descriptions, the meaning of `-target=cuda...`, and the way
// from an LLVM module to PTX text. No GPU and no CUDA toolkit is needed here;
// only Ptxas.h asks for a tool.
#ifndef DLC_TARGET_CUDA_CUDATARGET_H
#define DLC_TARGET_CUDA_CUDATARGET_H

#include "dlc/Target/Common/TargetDesc.h"

#include "llvm/Support/Error.h"

#include <memory>
#include <string>
#include <vector>

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace dlc {

/// One GPU, as code generation and cost estimates see it.
struct CudaDesc {
  std::string name;         ///< the description's own name, such as "h200"
  std::string sm;           ///< what ptxas calls `-arch`, such as "sm_90a"
  unsigned ptxVersion = 80; ///< PTX language version times ten
  int64_t multiprocessors = 108;
  int64_t maxSharedBytes = 166912; ///< of one block
  int64_t registers = 65536;       ///< 32-bit registers of a multiprocessor
  int64_t maxThreads = 2048;       ///< resident on a multiprocessor
  int64_t l2Bytes = 40 << 20;
  double memoryGBs = 1555;   ///< measured or stated bandwidth
  double f32Tflops = 19.5;   ///< without tensor cores
  double tensorTflops = 312; ///< bf16 with f32 accumulation, dense

  /// Reads one description. Errors name the missing or ill-typed field.
  static llvm::Expected<CudaDesc> parseJson(llvm::StringRef json);
};

/// A GPU to compile for and what the command line asked of it.
class CudaTarget {
public:
  explicit CudaTarget(CudaDesc desc) : description(std::move(desc)) {}

  const CudaDesc &desc() const { return description; }
  /// Products of whole warpgroups (wgmma), which only this architecture has.
  bool hasWarpGroups() const { return description.sm == "sm_90a"; }
  /// The CPU that runs the host part, as a `-target=` text ("" = this machine).
  std::string host;
  /// Keep the kernels' bitcode in the artifact, for the emulator.
  bool emulate = false;

  /// Gives `module` triple, data layout and function attributes and runs
  /// LLVM's optimisation pipeline on it. The result is what the emulator takes
  /// and emitPtx prints.
  llvm::Error prepare(llvm::Module &module) const;

  /// PTX text of a prepared module.
  llvm::Expected<std::string> emitPtx(llvm::Module &module) const;

private:
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> createMachine() const;

  CudaDesc description;
};

/// Resolves `cuda[:sm=90a][:device=h200|file.json][:host=x86][:emulate=on]`.
/// Bare cuda means sm_90a; artifacts hold the sm_80 form, too. Unknown keys and
/// values are errors that list the valid ones.
llvm::Expected<CudaTarget> parseCudaTarget(llvm::StringRef text);

/// The built-in descriptions.
llvm::Expected<std::vector<CudaDesc>> cudaDescriptions();

} // namespace dlc

#endif // DLC_TARGET_CUDA_CUDATARGET_H
