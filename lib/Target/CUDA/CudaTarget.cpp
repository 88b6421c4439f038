// Descriptions of GPUs and the resolution of `-target=cuda...`.
#include "dlc/Target/CUDA/CudaTarget.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"

#include <nlohmann/json.hpp>

using namespace dlc;

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

llvm::Expected<CudaDesc> CudaDesc::parseJson(llvm::StringRef text) {
  try {
    auto json = nlohmann::json::parse(text.begin(), text.end());
    CudaDesc desc;
    desc.name = json.at("name");
    desc.sm = json.at("sm");
    desc.ptxVersion = json.at("ptx_version");
    desc.multiprocessors = json.at("multiprocessors");
    desc.maxSharedBytes = json.at("max_shared_bytes");
    desc.registers = json.at("registers");
    desc.maxThreads = json.at("max_threads");
    desc.l2Bytes = json.at("l2");
    const auto &peak = json.at("peak");
    desc.memoryGBs = peak.at("memory_gbs");
    desc.f32Tflops = peak.at("f32_tflops");
    desc.tensorTflops = peak.at("tensor_tflops");
    if (!llvm::StringRef(desc.sm).starts_with("sm_"))
      return fail("CUDA description '" + desc.name +
                  "': sm must begin with "
                  "'sm_', got '" +
                  desc.sm + "'");
    return desc;
  } catch (const nlohmann::json::exception &error) {
    return fail(llvm::Twine("bad CUDA description: ") + error.what());
  }
}

llvm::Expected<std::vector<CudaDesc>> dlc::cudaDescriptions() {
  static const llvm::StringRef texts[] = {
#include "CudaDescriptions.inc"
  };
  std::vector<CudaDesc> result;
  for (llvm::StringRef text : texts) {
    auto desc = CudaDesc::parseJson(text);
    if (!desc)
      return desc.takeError();
    result.push_back(std::move(*desc));
  }
  return result;
}

static llvm::Expected<CudaDesc>
findDevice(llvm::StringRef device, llvm::ArrayRef<CudaDesc> descriptions) {
  if (device.ends_with(".json")) {
    auto file = llvm::MemoryBuffer::getFile(device, /*IsText=*/true);
    if (!file)
      return fail("cannot read the device description '" + device +
                  "': " + file.getError().message());
    return CudaDesc::parseJson((*file)->getBuffer());
  }
  llvm::SmallVector<llvm::StringRef> names;
  for (const CudaDesc &desc : descriptions) {
    if (desc.name == device)
      return desc;
    names.push_back(desc.name);
  }
  return fail("unknown CUDA device '" + device + "': known are " +
              llvm::join(names, ", ") + ", or a .json file");
}

/// The description of an architecture: of the devices that have it, the first
/// in alphabetical order. 90 and 90a are one device with two instruction sets.
static llvm::Expected<CudaDesc>
findArchitecture(llvm::StringRef text, llvm::ArrayRef<CudaDesc> descriptions) {
  llvm::StringRef number = text;
  number.consume_front("sm_");
  std::string sm = ("sm_" + number).str();
  llvm::SmallVector<llvm::StringRef> known;
  for (const CudaDesc &desc : descriptions) {
    bool generic = llvm::StringRef(desc.sm).drop_back() == sm &&
                   !llvm::isDigit(desc.sm.back());
    if (desc.sm == sm || generic) {
      CudaDesc result = desc;
      result.sm = sm;
      return result;
    }
    llvm::StringRef shown = llvm::StringRef(desc.sm).drop_front(3);
    if (!llvm::is_contained(known, shown))
      known.push_back(shown);
  }
  llvm::sort(known);
  return fail("unknown CUDA architecture 'sm=" + text + "': known are " +
              llvm::join(known, ", "));
}

llvm::Expected<CudaTarget> dlc::parseCudaTarget(llvm::StringRef text) {
  auto spec = TargetSpec::parse(text);
  if (!spec)
    return spec.takeError();
  if (spec->arch != "cuda")
    return fail("'" + spec->arch + "' is not a CUDA target");
  if (llvm::Error error = spec->checkKeys({"sm", "device", "host", "emulate"}))
    return std::move(error);
  auto descriptions = cudaDescriptions();
  if (!descriptions)
    return descriptions.takeError();

  auto device = spec->get("device");
  auto sm = spec->get("sm");
  auto desc = device ? findDevice(*device, *descriptions)
                     : findArchitecture(sm.value_or("90a"), *descriptions);
  if (!desc)
    return desc.takeError();
  if (device && sm) {
    auto wanted = findArchitecture(*sm, *descriptions);
    if (!wanted)
      return wanted.takeError();
    desc->sm = wanted->sm;
  }
  CudaTarget target(std::move(*desc));
  target.host = spec->get("host").value_or("").str();
  llvm::StringRef emulate = spec->get("emulate").value_or("off");
  if (emulate != "on" && emulate != "off")
    return fail("target key 'emulate' is on or off, got '" + emulate + "'");
  target.emulate = emulate == "on";
  return target;
}
