// From a target string to a description: the named CPU's file, or the machine
// we run on. A host is always its full feature string, negatives included:
// virtual machines hide features that the CPU's name implies.
#include "dlc/Target/Common/Resolve.h"

#include "dlc/Target/Common/CpuTarget.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <thread>
#include <unistd.h>
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#endif

using namespace dlc;

/// Whether the operating system lets this process use matrix tiles (AMX): it
/// must be asked before the first one. The runtime asks again where a compiled
/// model is loaded.
static bool isPermittedTiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long requestPermission = 0x1023, tileData = 18;
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
#else
  return false;
#endif
}

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

llvm::ArrayRef<llvm::StringRef> dlc::cpuTargetKeys() {
  static const llvm::StringRef keys[] = {"cpu", "features", "threads",
                                         "device"};
  return keys;
}

llvm::Expected<std::vector<TargetDesc>>
dlc::parseDescriptions(llvm::ArrayRef<llvm::StringRef> texts) {
  std::vector<TargetDesc> descriptions;
  for (llvm::StringRef text : texts) {
    auto desc = TargetDesc::parseJson(text);
    if (!desc)
      return desc.takeError();
    descriptions.push_back(std::move(*desc));
  }
  return descriptions;
}

/// The description called `name`, or a null pointer.
static const TargetDesc *find(const CpuFamily &family, llvm::StringRef name) {
  for (const TargetDesc &desc : family.descriptions)
    if (desc.name == name)
      return &desc;
  return nullptr;
}

/// The operating system's cache size, or `otherwise` when it does not say.
static int64_t cacheSize(int query, int64_t otherwise) {
  long bytes = sysconf(query);
  return bytes > 0 ? bytes : otherwise;
}

/// The last-level cache as Linux lists it. The C library computes a size for
/// AMD's CPUs that a virtual machine's number of processors makes too large.
static int64_t lastLevelCacheSize(int64_t otherwise) {
  auto file = llvm::MemoryBuffer::getFileAsStream(
      "/sys/devices/system/cpu/cpu0/cache/index3/size");
  llvm::StringRef text = file ? (*file)->getBuffer().trim() : "";
  int64_t kibibytes;
  if (!text.consume_back("K") || text.getAsInteger(10, kibibytes) ||
      kibibytes <= 0)
    return otherwise;
  return kibibytes << 10;
}

static TargetDesc hostDesc(const CpuFamily &family) {
  llvm::StringRef cpu = llvm::sys::getHostCPUName();
  const TargetDesc *known = find(family, cpu);
  TargetDesc desc = known ? *known : *find(family, family.fallback);
  desc.name = "host";
  desc.cpu = cpu.str();
  // Sorted, so that the same machine gives the same bytes.
  std::vector<std::string> features;
  for (const auto &feature : llvm::sys::getHostCPUFeatures()) {
    bool isThere = feature.second &&
                   (!feature.first().starts_with("amx-") || isPermittedTiles());
    features.push_back((isThere ? "+" : "-") + feature.first().str());
  }
  llvm::sort(features, [](const std::string &a, const std::string &b) {
    return llvm::StringRef(a).drop_front() < llvm::StringRef(b).drop_front();
  });
  desc.features = llvm::join(features, ",");
  desc.l1Bytes = cacheSize(_SC_LEVEL1_DCACHE_SIZE, desc.l1Bytes);
  desc.l2Bytes = cacheSize(_SC_LEVEL2_CACHE_SIZE, desc.l2Bytes);
  desc.l3Bytes =
      lastLevelCacheSize(cacheSize(_SC_LEVEL3_CACHE_SIZE, desc.l3Bytes));
  desc.cores = std::max(1u, std::thread::hardware_concurrency());
  return desc;
}

/// Appends the user's features; a name without sign is switched on.
static llvm::Error addFeatures(TargetDesc &desc, llvm::StringRef list,
                               const CpuFamily &family) {
  initializeCpuBackends();
  std::string message;
  llvm::Triple triple(desc.triple);
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return fail(message);
  std::unique_ptr<llvm::MCSubtargetInfo> info(
      target->createMCSubtargetInfo(triple, desc.cpu, ""));
  llvm::SmallVector<llvm::StringRef> names;
  list.split(names, ',', -1, /*KeepEmpty=*/false);
  llvm::SmallVector<std::string> added;
  for (llvm::StringRef name : names) {
    bool off = name.consume_front("-");
    name.consume_front("+");
    llvm::StringRef group;
    for (const auto &[key, meaning] : family.featureGroups)
      if (!off && key == name)
        group = meaning;
    if (!group.empty()) {
      added.push_back(group.str());
      continue;
    }
    bool known = llvm::any_of(info->getAllProcessorFeatures(),
                              [&](const llvm::SubtargetFeatureKV &feature) {
                                return name == feature.Key;
                              });
    if (!known)
      return fail("unknown feature '" + name + "' for target '" + desc.arch +
                  "'");
    added.push_back((off ? "-" : "+") + name.str());
  }
  if (!desc.features.empty())
    desc.features += ",";
  desc.features += llvm::join(added, ",");
  return llvm::Error::success();
}

llvm::Expected<TargetDesc> dlc::resolveCpu(const TargetSpec &spec,
                                           const CpuFamily &family) {
  if (llvm::Error error = spec.checkKeys(cpuTargetKeys()))
    return std::move(error);
  auto cpu = spec.get("cpu");
  auto features = spec.get("features");
  auto device = spec.get("device");
  if (cpu && device)
    return fail("target '" + spec.arch + "': give cpu= or device=, not both");

  TargetDesc desc;
  if (device) {
    auto file = llvm::MemoryBuffer::getFile(*device);
    if (!file)
      return fail("cannot read target description '" + *device +
                  "': " + file.getError().message());
    auto parsed = TargetDesc::parseJson((*file)->getBuffer());
    if (!parsed)
      return parsed.takeError();
    if (parsed->arch != family.arch)
      return fail("target description '" + *device + "' is for '" +
                  parsed->arch + "', not '" + family.arch + "'");
    desc = std::move(*parsed);
  } else if (cpu && *cpu != "host") {
    const TargetDesc *known = find(family, *cpu);
    desc = known ? *known : *find(family, family.fallback);
    desc.name = desc.cpu = cpu->str();
  } else if (family.isHost && (!features || cpu)) {
    desc = hostDesc(family);
  } else if (cpu) {
    return fail("target '" + spec.arch +
                "': cpu=host, but this machine is of another family");
  } else {
    desc = *find(family, features ? family.portable : family.fallback);
  }
  if (features)
    if (llvm::Error error = addFeatures(desc, *features, family))
      return std::move(error);
  if (llvm::Error error = deriveVectorUnit(desc))
    return std::move(error);
  return desc;
}
