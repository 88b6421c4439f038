// Banks and sectors. Shared memory has 32 banks of 4 bytes; an access of 8
// bytes a lane is done for half a warp a time, one of 16 bytes for a quarter
// (CUDA C++ Programming Guide, "Shared Memory"). Lanes that read one word share
// it.
#include "AccessCounter.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace dlc::emu {

/// Executions of an instruction by one warp that are told apart: what waits for
/// other lanes takes memory.
static constexpr uint32_t kMostExecutions = 1u << 16;

std::pair<uint64_t, uint64_t>
sharedCycles(uint32_t mask, const std::array<uintptr_t, 32> &addresses,
             uint32_t bytes) {
  constexpr unsigned banks = 32, bankBytes = 4;
  unsigned lanesAtOnce = bytes > 8 ? 8 : bytes > 4 ? 16 : 32;
  uint64_t cycles = 0, least = 0;
  for (unsigned first = 0; first < 32; first += lanesAtOnce) {
    std::array<std::set<uintptr_t>, banks> words;
    for (unsigned lane = first; lane < first + lanesAtOnce; ++lane)
      if (mask >> lane & 1)
        for (uintptr_t word = addresses[lane] / bankBytes;
             word <= (addresses[lane] + bytes - 1) / bankBytes; ++word)
          words[word % banks].insert(word);
    size_t most = 0;
    for (const auto &ofBank : words)
      most = std::max(most, ofBank.size());
    cycles += most;
    least += most != 0;
  }
  return {cycles, least};
}

std::pair<uint64_t, uint64_t>
globalSectors(uint32_t mask, const std::array<uintptr_t, 32> &addresses,
              uint32_t bytes) {
  constexpr unsigned sectorBytes = 32;
  std::vector<uintptr_t> starts;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1)
      starts.push_back(addresses[lane]);
  llvm::sort(starts);
  std::set<uintptr_t> sectors;
  uintptr_t end = 0;
  uint64_t touched = 0;
  for (uintptr_t start : starts) {
    for (uintptr_t s = start / sectorBytes;
         s <= (start + bytes - 1) / sectorBytes; ++s)
      sectors.insert(s);
    uintptr_t fresh = std::max(start, end);
    end = std::max(end, start + bytes);
    touched += end - std::min(fresh, end);
  }
  return {sectors.size(), (touched + sectorBytes - 1) / sectorBytes};
}

void AccessCounter::note(unsigned warp, unsigned lane, uint32_t lanes,
                         uint32_t site, uintptr_t address, uint32_t bytes,
                         bool isShared) {
  Executions &of =
      executions[uint64_t(warp) << 33 | uint64_t(site) << 1 | isShared];
  uint32_t which = of.perLane[lane]++;
  if (which >= kMostExecutions || which < of.first)
    return;
  while (of.pending.size() <= which - of.first)
    of.pending.emplace_back();
  Pending &access = of.pending[which - of.first];
  access.mask |= 1u << lane;
  access.bytes = bytes;
  access.isShared = isShared;
  access.addresses[lane] = address;
  for (; !of.pending.empty() && of.pending.front().mask == lanes; ++of.first) {
    count(site, of.pending.front());
    of.pending.pop_front();
  }
}

void AccessCounter::count(uint32_t site, const Pending &access) {
  auto [cost, least] =
      access.isShared
          ? sharedCycles(access.mask, access.addresses, access.bytes)
          : globalSectors(access.mask, access.addresses, access.bytes);
  Totals &of = totals[uint64_t(site) << 1 | access.isShared];
  ++of.accesses;
  of.cost += cost;
  of.least += least;
}

void AccessCounter::finishBlock() {
  for (const auto &[key, of] : executions)
    for (const Pending &access : of.pending)
      if (access.mask)
        count(static_cast<uint32_t>(key >> 1), access);
  executions.clear();
}

void AccessCounter::addTo(std::vector<AccessCount> &counts,
                          const std::string &kernel,
                          const std::vector<std::string> &sites) const {
  for (const auto &[key, of] : totals) {
    bool isShared = key & 1;
    const std::string &text = sites[key >> 1];
    auto known = llvm::find_if(counts, [&](const AccessCount &c) {
      return c.kernel == kernel && c.instruction == text &&
             c.isShared == isShared;
    });
    if (known == counts.end()) {
      counts.push_back({kernel, text, isShared, 0, 0, 0});
      known = counts.end() - 1;
    }
    known->accesses += of.accesses;
    known->cost += of.cost;
    known->least += of.least;
  }
  // What costs most beyond need first; the order of a hash is none.
  llvm::sort(counts, [](const AccessCount &a, const AccessCount &b) {
    uint64_t overA = a.cost - a.least, overB = b.cost - b.least;
    return std::tie(overB, a.kernel, a.instruction, a.isShared) <
           std::tie(overA, b.kernel, b.instruction, b.isShared);
  });
}

} // namespace dlc::emu
