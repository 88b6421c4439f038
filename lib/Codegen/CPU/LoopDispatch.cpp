// Which nest a kernel gets. A contraction nest may decline any kernel; the loop
// nests take all that has stages; an opaque operator has a builder of its own.
#include "dlc/Codegen/CPU/AttentionNest.h"
#include "dlc/Codegen/CPU/ContractionNest.h"
#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CPU/LoopNest.h"
#include "dlc/Codegen/CPU/Nests.h"
#include "dlc/Codegen/CPU/OpaqueNest.h"

using namespace mlir;
using namespace dlc;

FailureOr<CpuKernel> dlc::emitCpuKernel(graph::KernelOp kernel,
                                        const CpuTarget &target,
                                        const CpuCodegenOptions &options) {
  if (kernel.getOpaque())
    return emitOpaque(kernel, target, options);
  LoopSchedule schedule = LoopSchedule::get(kernel);
  bool wantsAttention = schedule.nest == "attention";
  if (schedule.nest.empty() || wantsAttention) {
    std::string reason;
    auto result = emitAttention(kernel, target, options, reason);
    if (succeeded(result))
      return result;
    if (wantsAttention)
      return kernel.emitError("the attention nest declines this kernel: ")
             << reason;
  }
  if (schedule.nest == kLibraryNest) {
    std::string reason;
    auto result = emitLibrary(kernel, target, options, reason);
    if (failed(result))
      kernel.emitError("no library computes this kernel: ") << reason;
    return result;
  }
  if (schedule.nest == "winograd") {
    std::string reason;
    auto result = emitWinograd(kernel, target, options, reason);
    if (failed(result))
      kernel.emitError("the winograd nest declines this kernel: ") << reason;
    return result;
  }
  bool wantsContraction = schedule.nest == "contraction";
  if (schedule.nest.empty() || wantsContraction) {
    std::string reason;
    auto result = emitContraction(kernel, target, options, reason);
    if (succeeded(result))
      return result;
    if (wantsContraction)
      return kernel.emitError("the contraction nest declines this kernel: ")
             << reason;
  }
  return emitLoopNest(kernel, target, options, schedule);
}
