// Parsing of target strings and of target description files.
#include "dlc/Target/Common/TargetDesc.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

#include <nlohmann/json.hpp>

using namespace dlc;

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

llvm::Expected<TargetSpec> TargetSpec::parse(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, ':');
  TargetSpec spec;
  spec.arch = parts.front().trim().str();
  if (spec.arch.empty())
    return fail("target '" + text + "' names no architecture");
  for (llvm::StringRef part : llvm::drop_begin(parts)) {
    auto [key, value] = part.split('=');
    if (key.empty() || value.empty())
      return fail("target '" + text + "': expected key=value, got '" + part +
                  "'");
    if (spec.get(key))
      return fail("target '" + text + "' gives '" + key + "' twice");
    spec.options.emplace_back(key.str(), value.str());
  }
  return spec;
}

std::optional<llvm::StringRef> TargetSpec::get(llvm::StringRef key) const {
  for (const auto &[name, value] : options)
    if (name == key)
      return llvm::StringRef(value);
  return std::nullopt;
}

llvm::Error TargetSpec::checkKeys(llvm::ArrayRef<llvm::StringRef> valid) const {
  for (const auto &option : options)
    if (!llvm::is_contained(valid, option.first))
      return fail("unknown key '" + option.first + "' for target '" + arch +
                  "': valid keys are " + llvm::join(valid, ", "));
  return llvm::Error::success();
}

llvm::Expected<TargetDesc> TargetDesc::parseJson(llvm::StringRef text) {
  try {
    auto json = nlohmann::json::parse(text.begin(), text.end());
    TargetDesc desc;
    desc.name = json.at("name");
    desc.arch = json.at("arch");
    desc.triple = json.at("triple");
    desc.cpu = json.at("cpu");
    desc.features = json.at("features");
    desc.vectorBytes = json.at("vector_bytes");
    desc.vectorRegisters = json.at("vector_registers");
    const auto &caches = json.at("caches");
    desc.l1Bytes = caches.at("l1");
    desc.l2Bytes = caches.at("l2");
    desc.l3Bytes = caches.at("l3");
    desc.cores = json.at("cores");
    const auto &peak = json.at("peak");
    desc.ghz = peak.at("ghz");
    desc.f32FlopsPerCycle = peak.at("f32_flops_per_cycle");
    desc.bf16FlopsPerCycle = peak.value("bf16_flops_per_cycle", 0.0);
    desc.bf16TileFlopsPerCycle = peak.value("bf16_tile_flops_per_cycle", 0.0);
    desc.byteTileOpsPerCycle = peak.value("byte_tile_ops_per_cycle", 0.0);
    desc.readGBs = peak.at("read_gbs");
    if (desc.vectorBytes < 16 || (desc.vectorBytes & (desc.vectorBytes - 1)))
      return fail("target description '" + desc.name +
                  "': vector_bytes must be a power of two of at least 16");
    if (desc.vectorRegisters < 8 || desc.cores == 0)
      return fail("target description '" + desc.name +
                  "': needs at least 8 vector registers and one core");
    return desc;
  } catch (const nlohmann::json::exception &error) {
    return fail(llvm::Twine("bad target description: ") + error.what());
  }
}

std::string TargetDesc::toJson() const {
  nlohmann::ordered_json json = {
      {"name", name},
      {"arch", arch},
      {"triple", triple},
      {"cpu", cpu},
      {"features", features},
      {"vector_bytes", vectorBytes},
      {"vector_registers", vectorRegisters},
      {"caches", {{"l1", l1Bytes}, {"l2", l2Bytes}, {"l3", l3Bytes}}},
      {"cores", cores},
      {"peak",
       {{"ghz", ghz},
        {"f32_flops_per_cycle", f32FlopsPerCycle},
        {"bf16_flops_per_cycle", bf16FlopsPerCycle},
        {"bf16_tile_flops_per_cycle", bf16TileFlopsPerCycle},
        {"byte_tile_ops_per_cycle", byteTileOpsPerCycle},
        {"read_gbs", readGBs}}}};
  return json.dump(2);
}
