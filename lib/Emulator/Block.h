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
#include <unordered_map>
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
  Mma,
  LoadMatrix,
};

/// The types of mma.sync's factors; sums are f32, or s32 of integers.
enum class MmaType : uint32_t { F16, Bf16, Tf32, S8S8, S8U8, U8S8, U8U8 };

/// What one lane brings to mma.sync.m16n8k16 (16-bit types), m16n8k8 (tf32) or
/// m16n8k32 (8-bit types) and takes from it: registers, elements from the low
/// bits up. A collective is given its address.
struct MmaOperands {
  MmaType type;
  uint32_t a[4];
  uint32_t b[2];
  uint32_t c[4];
  uint32_t d[4];
};

/// What one lane brings to ldmatrix: the address of a row of 16 bytes.
struct MatrixOperands {
  const char *row;
  uint32_t count; ///< of 8 x 8 matrices: 1, 2, 4
  bool transposed;
  uint32_t words[4];
};

/// cp.async: `bytes` of shared memory, the first `sourceBytes` of them from
/// global memory, the others zero.
struct AsyncCopy {
  char *to;
  const char *from;
  uint32_t bytes;
  uint32_t sourceBytes;
  uint32_t site;
};

enum class BarrierReduction : uint32_t { None, And, Or, Popc };

/// The operands one lane brings to a collective. Shuffles use all three.
struct LaneInput {
  uint64_t value;
  uint32_t lane;
  uint32_t clamp;
};

/// `flag` is a shuffle's "source lane in range" predicate.
struct LaneResult {
  uint64_t value;
  bool flag;
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
  /// Threads may wait for each other. Where they cannot, they run one after
  /// the other on one stack.
  bool waits = true;
  /// Null: races are not looked for.
  RaceDetector *races = nullptr;
  size_t sharedWindowBytes = 0;
};

/// What one OS thread needs to run blocks of a launch, one after the other.
struct BlockMemory {
  FiberStacks *stacks = nullptr;
  char *sharedWindow = nullptr;
  MemoryMap map;
};

class Block {
public:
  Block(const LaunchState &launch, BlockMemory &memory);
  ~Block();
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;

  /// Runs all threads of the block at `index` to their end. The error is a
  /// text, empty for success; after one the object is of no more use.
  std::string run(Dim3 index);

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
  /// mbarrier objects: init, inval, arrive (the state before), test_wait and
  /// try_wait, which come back when the phase of a state or parity is over.
  void initMbarrier(const void *object, uint32_t count, uint32_t site);
  void invalidateMbarrier(const void *object, uint32_t site);
  uint64_t arriveAtMbarrier(const void *object, uint32_t count, uint32_t site);
  void waitAtMbarrier(const void *object, uint64_t state, bool isParity,
                      uint32_t site);
  LaneResult collective(CollectiveKind kind, uint32_t mask, uint32_t site,
                        const LaneInput &input);
  char *sharedWindow() const { return memory.sharedWindow; }
  /// mma.sync of the whole warp; word(i) is then d[i] of this lane.
  void multiplyTiles(uint32_t site, MmaOperands &operands);
  /// ldmatrix of the whole warp; word(i) is then this lane's part of matrix i.
  void loadMatrices(uint32_t site, MatrixOperands &operands);
  uint32_t word(unsigned i) const { return threads[running].words[i]; }
  /// cp.async and what closes a group of them and waits until at most `left`
  /// groups are under way (kAllCopies: also of what is in no group).
  static constexpr uint32_t kAllCopies = ~0u;
  void copyAsync(const AsyncCopy &copy);
  void commitCopies();
  void waitForCopies(uint32_t left);
  void checkAccess(const void *address, uint64_t bytes, uint64_t alignment,
                   Access::Kind kind, uint32_t site);
  /// Ends the launch with an error that names the running thread.
  [[noreturn]] void fail(std::string message);
  /// Ends the running thread early (PTX `exit`).
  [[noreturn]] void exitThread();

private:
  enum class ThreadStatus { Ready, AtBarrier, AtCollective, AtMbarrier, Done };

  struct Thread {
    Fiber fiber;
    Block *block = nullptr;
    Dim3 index;
    ThreadStatus status = ThreadStatus::Ready;
    uint32_t waitSite = 0;
    uint32_t waitId = 0;
    LaneResult result = {};
    std::array<uint32_t, 4> words = {}; ///< of the last mma.sync or ldmatrix
    std::vector<AsyncCopy> openCopies;  ///< in no group yet
    std::deque<std::vector<AsyncCopy>> copyGroups;
  };

  struct Barrier {
    uint32_t expected = 0;
    uint32_t arrived = 0;
    std::vector<unsigned> waiting;
    /// Per warp: the first thread that waits, and one that waits elsewhere.
    std::vector<int> firstOfWarp, otherOfWarp;
    BarrierReduction reduction = BarrierReduction::None;
    uint32_t trueCount = 0;
    VectorClock clock;
  };

  struct Mbarrier {
    uint32_t expected = 0, pending = 0; ///< arrivals of a phase
    uint64_t phase = 0;
    unsigned initThread = 0; ///< who initialised it, and when
    uint32_t initTime = 0;
    std::vector<unsigned> waiting; ///< for the running phase
    VectorClock open, complete;    ///< of the running phase, of the one before
  };

  struct Collective {
    Collective(CollectiveKind kind, uint32_t mask, uint32_t site)
        : kind(kind), mask(mask), site(site) {}
    CollectiveKind kind;
    uint32_t mask;
    uint32_t site;
    uint32_t arrived = 0;
    /// Of lanes that are in the mask.
    std::array<LaneInput, kWarpSize> inputs;
    std::array<LaneResult, kWarpSize> results;
    VectorClock clock;
  };

  static void threadMain(void *thread);
  static void threadsInTurn(void *block);
  void start(Dim3 blockIndex);
  /// The fiber that runs now.
  Fiber &carrier() { return threads[inTurn ? 0 : running].fiber; }
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
  void touchMbarrier(const void *object, Access::Kind kind, uint32_t site);
  Mbarrier &mbarrierAt(const void *object, uint32_t site);
  std::string describeMbarrier(uint32_t offset, uint32_t site) const;
  uint32_t lanesOfWarp(unsigned warp) const;
  void compute(Collective &group, unsigned warp);
  void shuffle(Collective &group, unsigned warp);
  void multiply(Collective &group);
  void load(Collective &group);
  void finishCopies(const std::vector<AsyncCopy> &copies);
  bool isInFlight(const void *address, uint64_t bytes) const;
  std::string describeThread(unsigned thread) const;
  std::string deadlockReport() const;
  const std::string &siteText(uint32_t site) const {
    return (*launch.sites)[site];
  }

  const LaunchState &launch;
  BlockMemory &memory;
  const bool inTurn; ///< threads run one after the other, on the first's stack
  Dim3 index;
  Fiber scheduler;
  std::vector<Thread> threads;
  std::deque<unsigned> ready;
  unsigned running = 0;
  unsigned numDone = 0;
  std::array<Barrier, kNumBarriers> barriers;
  std::unordered_map<uintptr_t, Mbarrier> mbarriers; ///< by address
  /// Collectives under way, per warp.
  std::vector<std::vector<Collective>> pending;
  /// Per byte of the shared window: a copy under way writes it. From level 1
  /// on, and empty before the first copy.
  std::vector<bool> inFlight;
  std::mt19937_64 random;
  std::string error;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_BLOCK_H
