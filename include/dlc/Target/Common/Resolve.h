// The part of resolving a CPU target string that all families share.
#ifndef DLC_TARGET_COMMON_RESOLVE_H
#define DLC_TARGET_COMMON_RESOLVE_H

#include "dlc/Target/Common/TargetDesc.h"

namespace dlc {

/// What a family of CPUs contributes to resolving a target string.
struct CpuFamily {
  llvm::StringRef arch;
  std::vector<TargetDesc> descriptions;
  /// The description used for a CPU that has none of its own.
  llvm::StringRef fallback;
  /// The CPU meant by `features=` without `cpu=`.
  llvm::StringRef portable;
  bool isHost = false; ///< we run on this family
  /// Names that stand for several LLVM features: {"avx2", "+avx2,+fma"}.
  std::vector<std::pair<llvm::StringRef, llvm::StringRef>> featureGroups;
};

/// The keys every CPU target accepts.
llvm::ArrayRef<llvm::StringRef> cpuTargetKeys();

/// Parses a list of JSON texts.
llvm::Expected<std::vector<TargetDesc>>
parseDescriptions(llvm::ArrayRef<llvm::StringRef> texts);

/// Turns `spec` into a description. Errors on unknown keys, CPUs and features.
llvm::Expected<TargetDesc> resolveCpu(const TargetSpec &spec,
                                      const CpuFamily &family);

} // namespace dlc

#endif // DLC_TARGET_COMMON_RESOLVE_H
