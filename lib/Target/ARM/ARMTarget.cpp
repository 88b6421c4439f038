// The AArch64 family of CPU targets.
#include "dlc/Target/ARM/ARMTarget.h"

#include "dlc/Target/Common/Resolve.h"

#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace dlc;

llvm::Expected<std::vector<TargetDesc>> dlc::armDescriptions() {
  static const llvm::StringRef texts[] = {
#include "ARMDescriptions.inc"
  };
  return parseDescriptions(texts);
}

llvm::Expected<TargetDesc> dlc::resolveArm(const TargetSpec &spec) {
  auto descriptions = armDescriptions();
  if (!descriptions)
    return descriptions.takeError();
  CpuFamily family;
  family.arch = "arm";
  family.descriptions = std::move(*descriptions);
  family.fallback = "generic";
  family.portable = "generic";
  family.isHost = llvm::Triple(llvm::sys::getProcessTriple()).isAArch64();
  return resolveCpu(spec, family);
}
