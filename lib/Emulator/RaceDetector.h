// Finds accesses to one byte that nothing orders: at least one writes, and no
// barrier or warp collective lies between them.
//
// The emulator runs threads one at a time, so that a missing barrier may well
// give the right numbers; here it shows all the same. Every thread has a vector
// clock (what it knows of the others' progress), joined at barriers and
// collectives. Blocks of one launch are never ordered.
//
// What runs beside the threads (bulk copies, wgmma) is done by actors of their
// own: what one does is known to who has waited for it.
#ifndef DLC_LIB_EMULATOR_RACEDETECTOR_H
#define DLC_LIB_EMULATOR_RACEDETECTOR_H

#include <array>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace dlc::emu {

/// What each thread of a block, and each other actor, had done when this was
/// current.
struct VectorClock {
  std::vector<uint32_t> known;
  /// The part of it that lies before a proxy fence which lies before now (PTX
  /// ISA, "Proxy-preserved base causality order"): what asynchronous proxies
  /// see of ordinary writes.
  std::vector<uint32_t> fenced;

  void clear() {
    known.clear();
    fenced.clear();
  }
  void join(const VectorClock &other);
  /// What both know.
  void meet(const VectorClock &other);
};

struct Access {
  enum Kind : uint8_t { Read, Write, Atomic };
  unsigned thread = 0;
  uint32_t site = 0;
  Kind kind = Read;
  bool isAsync = false; ///< done beside the thread that asked for it
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
  /// The same for an access of `actor` at `time` that must know what `knows`
  /// does.
  std::optional<Race> access(uintptr_t address, uint64_t bytes,
                             const Access &access, unsigned actor,
                             uint32_t time, const VectorClock &knows);

  /// How far off the first byte of shared memory is that nothing has written.
  std::optional<uint64_t> findUnwritten(uintptr_t address,
                                        uint64_t bytes) const;
  /// The first byte that a thread wrote with no proxy fence since then that
  /// `knows` knows of, as the race of the two proxies.
  std::optional<Race> findUnfenced(uintptr_t address, uint64_t bytes,
                                   const VectorClock &knows) const;

  /// What `thread` did before is known to whoever acquires `clock` later.
  void release(unsigned thread, VectorClock &clock);
  void acquire(unsigned thread, const VectorClock &clock);
  /// A proxy fence of `thread`.
  void fence(unsigned thread);
  const VectorClock &clockOf(unsigned thread) const { return clocks[thread]; }
  /// The time of a thread, and whether `thread` knows what `other` did then.
  uint32_t timeOf(unsigned thread) const {
    return clocks[thread].known[thread];
  }
  bool knows(unsigned thread, unsigned other, uint32_t time) const {
    return time <= clocks[thread].known[other];
  }

  /// An actor beside the threads, its next time, and that `thread` knows what
  /// it did until a time.
  unsigned addActor();
  uint32_t tick(unsigned actor) { return ++actorTimes[actor - numThreads]; }
  void learn(unsigned thread, unsigned actor, uint32_t time) {
    learn(clocks[thread], actor, time);
  }
  static void learn(VectorClock &clock, unsigned actor, uint32_t time);

private:
  struct Event {
    Access access;
    unsigned actor = 0;
    uint32_t clock = 0;
    uint32_t block = 0;
  };
  struct Byte {
    std::optional<Event> write;
    /// Since the last write; one an actor.
    std::vector<Event> reads;
  };

  std::optional<Race> accessByte(Byte &byte, const Event &event,
                                 const VectorClock &knows);
  /// True when nothing says that `event` came before what knows `knows`.
  bool isUnordered(const Event &event, const VectorClock &knows) const;
  bool isShared(uintptr_t address) const {
    return address >= sharedBegin && address - sharedBegin < sharedBytes.size();
  }
  Byte &byteAt(uintptr_t address);

  uint32_t block = 0;
  unsigned numThreads = 0;
  std::vector<VectorClock> clocks;
  std::vector<uint32_t> actorTimes;
  uintptr_t sharedBegin = 0;
  std::vector<Byte> sharedBytes;
  std::unordered_map<uintptr_t, std::array<Byte, 4>> globalBytes;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_RACEDETECTOR_H
