// The named pieces of memory a kernel may touch, found by address.
#ifndef DLC_LIB_EMULATOR_MEMORYMAP_H
#define DLC_LIB_EMULATOR_MEMORYMAP_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dlc::emu {

struct MemoryRegion {
  uintptr_t begin = 0;
  size_t bytes = 0;
  std::string name;
  bool writable = true;
};

/// Regions may overlap (one buffer passed twice); an access is good when one
/// region holds all of it.
class MemoryMap {
public:
  void add(MemoryRegion region) { regions.push_back(std::move(region)); }
  /// Sorts the regions; call once after the last add.
  void finish();

  /// The region that holds [address, address + bytes) and permits the access;
  /// null when there is none.
  const MemoryRegion *find(uintptr_t address, size_t bytes, bool isWrite);

  /// Why find() found nothing, naming the nearest region.
  std::string explain(uintptr_t address, size_t bytes, bool isWrite) const;

private:
  std::vector<MemoryRegion> regions;
  /// Largest end among the regions up to each index: how far back to look.
  std::vector<uintptr_t> reach;
  size_t lastHit = 0;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_MEMORYMAP_H
