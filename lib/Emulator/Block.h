// One running thread block: its threads, barriers, warps and shared memory.
//
// The block schedules its fibers itself. A thread that must wait leaves the
// ready list and is put back by the thread that completes the barrier or the
// collective; when the list runs empty with threads left, that is a deadlock.
#ifndef DLC_LIB_EMULATOR_BLOCK_H
#define DLC_LIB_EMULATOR_BLOCK_H

#include "Fiber.h"
#include "MemoryMap.h"
#include "RaceDetector.h"
#include "dlc/Emulator/Emulator.h"

#include <array>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace dlc::emu {

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kNumBarriers = 16;

/// What a thread computes together with others of its warp.
enum class CollectiveKind : uint32_t {
  ShuffleIdx,
  ShuffleUp,
  ShuffleDown,
  ShuffleBfly,
  VoteAll,
  VoteAny,
  VoteUni,
  VoteBallot,
  MatchAny,
  ReduxAdd,
  ReduxMinSigned,
  ReduxMaxSigned,
  ReduxMinUnsigned,
  ReduxMaxUnsigned,
  ReduxAnd,
  ReduxOr,
  ReduxXor,
  WarpBarrier,
  MmaF16,
  MmaBf16,
};

/// What one lane brings to mma.sync.m16n8k16 and takes from it: pairs of 16-bit
/// floats, the first in the low half. A collective is given its address.
struct MmaOperands {
  uint32_t a[4];
  uint32_t b[2];
  float c[4];
  float d[4];
};

enum class BarrierReduction : uint32_t { None, And, Or, Popc };

/// The operands one lane brings to a collective. Shuffles use all three.
struct LaneInput {
  uint64_t value = 0;
  uint32_t lane = 0;
  uint32_t clamp = 0;
};

/// `flag` is a shuffle's "source lane in range" predicate.
struct LaneResult {
  uint64_t value = 0;
  bool flag = false;
};

/// What all blocks of a launch share; owned by the caller of Block::run.
struct LaunchState {
  std::string kernelName;
  LaunchShape shape;
  EmulatorOptions options;
  /// Texts of the instructions that can wait or fail; site numbers index it.
  const std::vector<std::string> *sites = nullptr;
  /// Runs the kernel's body for the calling thread.
  void (*entry)(void **) = nullptr;
  void **arguments = nullptr;
  MemoryMap *memory = nullptr;
  /// Null: races are not looked for.
  RaceDetector *races = nullptr;
  char *sharedWindow = nullptr;
  size_t sharedWindowBytes = 0;
};

class Block {
public:
  Block(const LaunchState &launch, FiberStacks &stacks, Dim3 index);
  ~Block();
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;

  /// Runs all threads to their end. The error is a text, empty for success.
  std::string run();

  /// The block whose thread runs on this OS thread now.
  static Block &current();

  // What the kernel's code calls, for the running thread.
  Dim3 threadIndex() const { return threads[running].index; }
  unsigned linearThread() const { return running; }
  Dim3 blockIndex() const { return index; }
  const LaunchState &launchState() const { return launch; }
  uint32_t activeLanes() const;
  uint32_t barrierSync(uint32_t id, std::optional<uint32_t> count, bool aligned,
                       uint32_t site, BarrierReduction reduction,
                       bool predicate);
  void barrierArrive(uint32_t id, uint32_t count, uint32_t site);
  LaneResult collective(CollectiveKind kind, uint32_t mask, uint32_t site,
                        const LaneInput &input);
  /// mma.sync of the whole warp; mmaResult(i) is then d[i] of this lane.
  void multiplyTiles(CollectiveKind kind, uint32_t site, MmaOperands &operands);
  float mmaResult(unsigned i) const { return threads[running].sums[i]; }
  void checkAccess(const void *address, uint64_t bytes, uint64_t alignment,
                   Access::Kind kind, uint32_t site);
  /// Ends the launch with an error that names the running thread.
  [[noreturn]] void fail(std::string message);
  /// Ends the running thread early (PTX `exit`).
  [[noreturn]] void exitThread();

private:
  enum class ThreadStatus { Ready, AtBarrier, AtCollective, Done };

  struct Thread {
    Fiber fiber;
    Block *block = nullptr;
    Dim3 index;
    ThreadStatus status = ThreadStatus::Ready;
    uint32_t waitSite = 0;
    uint32_t waitId = 0;
    LaneResult result;
    std::array<float, 4> sums = {}; ///< of the last mma.sync
  };

  struct Barrier {
    uint32_t expected = 0;
    uint32_t arrived = 0;
    std::vector<unsigned> waiting;
    BarrierReduction reduction = BarrierReduction::None;
    uint32_t trueCount = 0;
    VectorClock clock;
  };

  struct Collective {
    CollectiveKind kind;
    uint32_t mask;
    uint32_t site;
    uint32_t arrived = 0;
    std::array<LaneInput, kWarpSize> inputs;
    std::array<LaneResult, kWarpSize> results;
    VectorClock clock;
  };

  static void threadMain(void *thread);
  unsigned pickReady();
  void wait(ThreadStatus status, uint32_t id, uint32_t site);
  void makeReady(unsigned thread);
  Barrier &enterBarrier(uint32_t id, std::optional<uint32_t> count,
                        uint32_t site, BarrierReduction reduction,
                        bool predicate);
  void completeBarrier(Barrier &barrier);
  void checkRace(const MemoryRegion &region, uintptr_t address, uint64_t bytes,
                 const Access &access);
  void checkAlignedBarrier(uint32_t id, uint32_t site);
  uint32_t lanesOfWarp(unsigned warp) const;
  void compute(Collective &group, unsigned warp);
  void shuffle(Collective &group, unsigned warp);
  void multiply(Collective &group);
  std::string describeThread(unsigned thread) const;
  std::string deadlockReport() const;
  const std::string &siteText(uint32_t site) const {
    return (*launch.sites)[site];
  }

  const LaunchState &launch;
  Dim3 index;
  Fiber scheduler;
  std::vector<Thread> threads;
  std::deque<unsigned> ready;
  unsigned running = 0;
  unsigned numDone = 0;
  std::array<Barrier, kNumBarriers> barriers;
  /// Collectives under way, per warp.
  std::vector<std::vector<Collective>> pending;
  std::mt19937_64 random;
  std::string error;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_BLOCK_H
