// Finds accesses to one byte that nothing orders: at least one writes, and no
// barrier or warp collective lies between them.
//
// The emulator runs threads one at a time, so that a missing barrier may well
// give the right numbers; here it shows all the same. Every thread has a vector
// clock (what it knows of the others' progress), joined at barriers and
// collectives. Blocks of one launch are never ordered.
#ifndef DLC_LIB_EMULATOR_RACEDETECTOR_H
#define DLC_LIB_EMULATOR_RACEDETECTOR_H

#include <array>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace dlc::emu {

/// What each thread of a block had done when this was current.
using VectorClock = std::vector<uint32_t>;

struct Access {
  enum Kind : uint8_t { Read, Write, Atomic };
  unsigned thread = 0;
  uint32_t site = 0;
  Kind kind = Read;
};

/// The earlier of two accesses that race, and how far off its byte is.
struct Race {
  Access earlier;
  bool otherBlock = false;
  uint64_t offset = 0;
};

/// Lives for one launch: memory outside of blocks is shared by all of them.
class RaceDetector {
public:
  /// Forgets the threads, and what happened in [sharedBegin, sharedEnd).
  void startBlock(unsigned numThreads, uintptr_t sharedBegin,
                  uintptr_t sharedEnd);

  /// Records an access; the race it makes with an earlier one, if any.
  std::optional<Race> access(uintptr_t address, uint64_t bytes,
                             const Access &access);

  /// What `thread` did before is known to whoever acquires `clock` later.
  void release(unsigned thread, VectorClock &clock);
  void acquire(unsigned thread, const VectorClock &clock);
  /// The time of a thread, and whether `thread` knows what `other` did then.
  uint32_t timeOf(unsigned thread) const { return clocks[thread][thread]; }
  bool knows(unsigned thread, unsigned other, uint32_t time) const {
    return time <= clocks[thread][other];
  }

private:
  struct Event {
    Access access;
    uint32_t clock = 0;
    uint32_t block = 0;
  };
  struct Byte {
    std::optional<Event> write;
    /// Since the last write; one a thread.
    std::vector<Event> reads;
  };

  std::optional<Race> accessByte(Byte &byte, const Access &access);
  /// True when nothing says that `event` came before what `thread` does now.
  bool isUnordered(const Event &event, unsigned thread) const;
  Byte &byteAt(uintptr_t address);

  uint32_t block = 0;
  std::vector<VectorClock> clocks;
  uintptr_t sharedBegin = 0;
  std::vector<Byte> sharedBytes;
  std::unordered_map<uintptr_t, std::array<Byte, 4>> globalBytes;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_RACEDETECTOR_H
