// What the accesses of warps cost in memory: bank conflicts of shared memory,
// sectors of global memory.
//
// Threads run one after the other, so that the accesses of a warp are put
// together afterwards: the n-th execution of an instruction by each of its
// lanes is taken for one access of the warp.
#ifndef DLC_LIB_EMULATOR_ACCESSCOUNTER_H
#define DLC_LIB_EMULATOR_ACCESSCOUNTER_H

#include "dlc/Emulator/Emulator.h"

#include <array>
#include <deque>
#include <unordered_map>
#include <vector>

namespace dlc::emu {

/// Cycles that shared memory needs for an access of `bytes` by the lanes in
/// `mask`, and the fewest such an access may need.
std::pair<uint64_t, uint64_t>
sharedCycles(uint32_t mask, const std::array<uintptr_t, 32> &addresses,
             uint32_t bytes);
/// Sectors of 32 bytes that the access touches, and the fewest that can hold
/// its bytes.
std::pair<uint64_t, uint64_t>
globalSectors(uint32_t mask, const std::array<uintptr_t, 32> &addresses,
              uint32_t bytes);

/// Lives for one launch; blocks use it one after the other.
class AccessCounter {
public:
  /// `lanes` are those that the thread's warp has.
  void note(unsigned warp, unsigned lane, uint32_t lanes, uint32_t site,
            uintptr_t address, uint32_t bytes, bool isShared);
  /// Counts what only some lanes of a warp did.
  void finishBlock();
  /// Adds what was counted to `counts`.
  void addTo(std::vector<AccessCount> &counts, const std::string &kernel,
             const std::vector<std::string> &sites) const;

private:
  struct Pending {
    uint32_t mask = 0;
    uint32_t bytes = 0;
    bool isShared = false;
    std::array<uintptr_t, 32> addresses;
  };
  struct Executions {
    std::array<uint32_t, 32> perLane = {};
    uint32_t first = 0; ///< execution that is pending in front
    std::deque<Pending> pending;
  };
  struct Totals {
    uint64_t accesses = 0, cost = 0, least = 0;
  };
  void count(uint32_t site, const Pending &access);

  /// By warp, site and whether it is shared memory.
  std::unordered_map<uint64_t, Executions> executions;
  /// By site and whether it is shared memory.
  std::unordered_map<uint64_t, Totals> totals;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_ACCESSCOUNTER_H
