// Dispatch of a target string to its family.
#include "dlc/Target/Targets.h"

#include "dlc/Target/ARM/ARMTarget.h"
#include "dlc/Target/X86/X86Target.h"

#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace dlc;

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

bool dlc::isCpuArch(llvm::StringRef arch) {
  return arch == "x86" || arch == "arm" || arch == "host";
}

llvm::Expected<CpuTarget> dlc::parseCpuTarget(llvm::StringRef text) {
  auto spec = TargetSpec::parse(text);
  if (!spec)
    return spec.takeError();
  if (!isCpuArch(spec->arch))
    return fail("unknown CPU target '" + spec->arch +
                "': valid ones are x86, arm, host");
  if (spec->arch == "host") {
    if (spec->get("cpu") || spec->get("device"))
      return fail("target 'host' is this machine: it takes no cpu= or device=");
    llvm::Triple host(llvm::sys::getProcessTriple());
    if (host.getArch() == llvm::Triple::x86_64)
      spec->arch = "x86";
    else if (host.isAArch64())
      spec->arch = "arm";
    else
      return fail("target 'host': no support for '" + host.str() + "'");
    spec->options.emplace_back("cpu", "host");
  }
  unsigned threads = 0;
  if (auto text = spec->get("threads"))
    if (text->getAsInteger(10, threads) || threads == 0 || threads > 1024)
      return fail("threads= wants a number from 1 to 1024, got '" + *text +
                  "'");
  auto desc = spec->arch == "x86" ? resolveX86(*spec) : resolveArm(*spec);
  if (!desc)
    return desc.takeError();
  return CpuTarget(std::move(*desc), threads);
}

llvm::Expected<std::vector<TargetDesc>> dlc::cpuDescriptions() {
  auto all = x86Descriptions();
  if (!all)
    return all.takeError();
  auto arm = armDescriptions();
  if (!arm)
    return arm.takeError();
  all->insert(all->end(), arm->begin(), arm->end());
  return all;
}
