// Look-up of an access among the registered regions, and the report of a miss.
#include "MemoryMap.h"

#include "llvm/Support/FormatVariadic.h"

#include <algorithm>

namespace dlc::emu {

static bool holds(const MemoryRegion &region, uintptr_t address, size_t bytes) {
  return address >= region.begin && bytes <= region.bytes &&
         address - region.begin <= region.bytes - bytes;
}

void MemoryMap::finish() {
  std::sort(regions.begin(), regions.end(),
            [](const MemoryRegion &a, const MemoryRegion &b) {
              return a.begin < b.begin;
            });
  reach.clear();
  uintptr_t furthest = 0;
  for (const MemoryRegion &region : regions) {
    furthest = std::max(furthest, region.begin + region.bytes);
    reach.push_back(furthest);
  }
  lastHit = 0;
}

const MemoryRegion *MemoryMap::find(uintptr_t address, size_t bytes,
                                    bool isWrite) {
  // Consecutive accesses mostly hit the same buffer.
  auto good = [&](size_t i) {
    return holds(regions[i], address, bytes) &&
           (!isWrite || regions[i].writable);
  };
  if (lastHit < regions.size() && good(lastHit))
    return &regions[lastHit];
  auto after = std::upper_bound(
      regions.begin(), regions.end(), address,
      [](uintptr_t value, const MemoryRegion &r) { return value < r.begin; });
  for (size_t i = after - regions.begin(); i-- > 0;) {
    if (reach[i] <= address)
      break;
    if (good(i)) {
      lastHit = i;
      return &regions[i];
    }
  }
  return nullptr;
}

std::string MemoryMap::explain(uintptr_t address, size_t bytes,
                               bool isWrite) const {
  const char *verb = isWrite ? "write" : "read";
  for (const MemoryRegion &region : regions)
    if (holds(region, address, bytes))
      return llvm::formatv("{0} of {1} bytes to read-only '{2}' at byte {3}",
                           verb, bytes, region.name, address - region.begin);

  // The nearest region tells what the address was meant to be.
  const MemoryRegion *nearest = nullptr;
  uintptr_t distance = 0;
  for (const MemoryRegion &region : regions) {
    uintptr_t end = region.begin + region.bytes;
    uintptr_t gap = address < region.begin ? region.begin - address
                    : address >= end       ? address - end
                                           : 0;
    if (!nearest || gap < distance) {
      nearest = &region;
      distance = gap;
    }
  }
  constexpr uintptr_t farAway = uintptr_t(1) << 30;
  if (!nearest || distance > farAway)
    return llvm::formatv("out-of-bounds {0} of {1} bytes at address {2:x}, far "
                         "from every buffer",
                         verb, bytes, address);
  return llvm::formatv("out-of-bounds {0} of {1} bytes at byte {2} of '{3}', "
                       "which has {4} bytes",
                       verb, bytes,
                       static_cast<int64_t>(address - nearest->begin),
                       nearest->name, nearest->bytes);
}

} // namespace dlc::emu
