// The x86-64 family of CPU targets.
#include "dlc/Target/X86/X86Target.h"

#include "dlc/Target/Common/Resolve.h"

#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace dlc;

llvm::Expected<std::vector<TargetDesc>> dlc::x86Descriptions() {
  static const llvm::StringRef texts[] = {
#include "X86Descriptions.inc"
  };
  return parseDescriptions(texts);
}

llvm::Expected<TargetDesc> dlc::resolveX86(const TargetSpec &spec) {
  auto descriptions = x86Descriptions();
  if (!descriptions)
    return descriptions.takeError();
  CpuFamily family;
  family.arch = "x86";
  family.descriptions = std::move(*descriptions);
  family.fallback = "x86-64-v3";
  family.portable = "x86-64";
  family.isHost = llvm::Triple(llvm::sys::getProcessTriple()).getArch() ==
                  llvm::Triple::x86_64;
  // Every CPU with AVX2 that dlc meets has FMA and F16C too, and the code
  // generators rely on FMA; "avx512" is the x86-64-v4 set.
  family.featureGroups = {
      {"avx2", "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt"},
      {"avx512", "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,+fma,+f16c,"
                 "+bmi,+bmi2,+lzcnt,+movbe,+popcnt"}};
  return resolveCpu(spec, family);
}
