// The door to all CPU targets: from the text of `-target=` to a CpuTarget.
#ifndef DLC_TARGET_TARGETS_H
#define DLC_TARGET_TARGETS_H

#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// True for the architectures parseCpuTarget accepts: x86, arm, host.
bool isCpuArch(llvm::StringRef arch);

/// Resolves one CPU target, such as `x86`, `host`, `x86:cpu=x86-64-v3`,
/// `x86:features=avx2`, `arm:cpu=neoverse-v1:threads=4`. An unknown key's error
/// lists the valid ones; unknown architectures, CPUs and features are errors.
llvm::Expected<CpuTarget> parseCpuTarget(llvm::StringRef text);

/// The built-in descriptions of every family, for `-list-targets`.
llvm::Expected<std::vector<TargetDesc>> cpuDescriptions();

} // namespace dlc

#endif // DLC_TARGET_TARGETS_H
