// One running thread block: its threads, barriers, warps and shared memory.
//
// The block schedules its fibers itself. A thread that must wait leaves the
// ready list and is put back by the thread that completes the barrier or the
// collective; when the list runs empty with threads left, that is a deadlock.
#ifndef DLC_LIB_EMULATOR_BLOCK_H
#define DLC_LIB_EMULATOR_BLOCK_H

#include "AccessCounter.h"
#include "Fiber.h"
#include "MemoryMap.h"
#include "RaceDetector.h"
#include "dlc/Emulator/Emulator.h"
#include "dlc/Emulator/TensorMap.h"

#include <array>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

namespace dlc::emu {

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kWarpGroupSize = 128;
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

/// A wgmma.mma_async of one warpgroup, the same for all of its threads.
struct WgmmaShape {
  MmaType type;
  unsigned columns; ///< N; rows are 64, the fold 32 bytes
  bool aInRegisters;
  bool transposesA, transposesB; ///< M- or N-major in shared memory
  bool negatesA, negatesB;
  bool saturates; ///< sums of integers
  bool operator==(const WgmmaShape &) const = default;
};

/// What one thread brings to it; sums are read and written in place.
struct WgmmaOperands {
  WgmmaShape shape;
  uint32_t *sums; ///< columns / 2 registers
  uint32_t a[4];
  uint64_t aDescriptor, bDescriptor;
  bool addsToSums;
};

/// What a warpgroup does together.
enum class WarpGroupOp : uint32_t { Fence, Multiply, Commit, Wait };

/// One 16-byte chunk, or less, of a bulk copy.
struct BulkPiece {
  char *to;
  const char *from;
  uint32_t bytes;
};

/// cp.async.bulk to shared memory: `bytes` from `to` on, zeros but for the
/// pieces; then they are taken off the mbarrier's transaction count.
struct BulkLoad {
  char *to;
  uint32_t bytes;
  std::vector<BulkPiece> pieces;
  uintptr_t mbarrier;
  uint32_t site;
  uint32_t time; ///< of the mbarrier's actor
};

/// cp.async.bulk from shared memory, one of a bulk group of its thread.
struct BulkStore {
  std::vector<BulkPiece> pieces;
  std::vector<uint32_t> chunks; ///< of shared memory that it reads
  uint32_t readTime, writeTime; ///< of the thread's actors
  uint32_t site;
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
  /// Null: accesses are not counted.
  AccessCounter *accesses = nullptr;
  /// The kernel has bulk copies or wgmma, which see ordinary writes only behind
  /// a proxy fence.
  bool usesAsyncProxy = false;
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
  /// mbarrier.expect_tx and complete_tx: transaction bytes that are to come,
  /// and that have come.
  void expectTransaction(const void *object, uint32_t bytes, uint32_t site);
  void completeTransaction(const void *object, uint32_t bytes, uint32_t site);
  /// barrier.cluster of a cluster of one block.
  void arriveAtCluster(uint32_t site);
  void waitAtCluster(uint32_t site);
  LaneResult collective(CollectiveKind kind, uint32_t mask, uint32_t site,
                        const LaneInput &input);
  /// fence.proxy.async over shared memory; fence.mbarrier_init.
  void fenceProxy();
  void fenceMbarrierInit();
  /// cp.async.bulk[.tensor] and its groups of stores.
  void loadBulk(char *to, const char *from, uint32_t bytes, const void *object,
                uint32_t site);
  void loadTensor(char *to, const void *map, llvm::ArrayRef<int32_t> at,
                  const void *object, uint32_t site);
  void storeBulk(char *to, const char *from, uint32_t bytes, uint32_t site);
  void storeTensor(const char *from, const void *map,
                   llvm::ArrayRef<int32_t> at, uint32_t site);
  void commitBulk();
  void waitForBulk(uint32_t left, bool onlyReads);
  /// wgmma.fence, commit_group, wait_group.
  void fenceWarpGroup(uint32_t site);
  void commitWarpGroup(uint32_t site);
  void waitForWarpGroup(uint32_t left, uint32_t site);
  void multiplyWarpGroup(uint32_t site, WgmmaOperands &operands);
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
  /// For the costs of accesses.
  void noteAccess(const void *address, uint64_t bytes, uint32_t site);
  /// Ends the launch with an error that names the running thread.
  [[noreturn]] void fail(std::string message);
  /// Ends the running thread early (PTX `exit`).
  [[noreturn]] void exitThread();

private:
  enum class ThreadStatus {
    Ready,
    AtBarrier,
    AtCollective,
    AtMbarrier,
    AtCluster,
    AtWarpGroup,
    Done
  };

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
    std::vector<BulkStore> openStores; ///< in no bulk group yet
    std::deque<std::vector<BulkStore>> storeGroups;
    size_t groupsRead = 0; ///< of storeGroups, whose reads are done
    std::optional<unsigned> bulkReader, bulkWriter; ///< actors
    bool arrivedAtCluster = false;
    uint64_t clusterPhase = 0; ///< phases waited for
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
    int64_t transaction = 0; ///< bytes that are still to come
    int64_t lastWaited = -1; ///< phase that somebody waited for
    bool initIsFenced = false;
    std::optional<unsigned> actor; ///< of the copies that complete here
    std::vector<unsigned> waiting; ///< for the running phase
    VectorClock open, complete;    ///< of the running phase, of the one before
  };

  /// Four warps that multiply together.
  struct WarpGroup {
    WarpGroupOp op = WarpGroupOp::Fence;
    uint32_t site = 0, left = 0;
    unsigned arrived = 0; ///< at the operation under way
    std::array<WgmmaOperands *, kWarpGroupSize> operands = {};
    bool isFenced = false; ///< since the start of the block
    /// Chunks of shared memory that products under way read.
    struct Group {
      std::vector<uint32_t> chunks;
      uint32_t time = 0; ///< of the actor
    };
    Group open;
    bool hasOpen = false;
    std::deque<Group> groups;
    bool isMultiplying() const { return hasOpen || !groups.empty(); }
    std::optional<unsigned> actor;
  };

  struct ClusterBarrier {
    unsigned arrived = 0;
    std::vector<unsigned> waiting;
    VectorClock open, complete;
    uint64_t phase = 0;
  };

  /// What reads shared memory beside the threads, for reports and races.
  struct AsyncReader {
    const char *what;
    unsigned actor = 0;
    uint32_t time = 0;
    const VectorClock *knows = nullptr; ///< null: races are not looked for
    uint32_t site = 0;
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
                 const Access &access, unsigned actor, uint32_t time,
                 const VectorClock &knows);
  void checkAlignedBarrier(uint32_t id, uint32_t site);
  void touchMbarrier(const void *object, Access::Kind kind, uint32_t site);
  Mbarrier &mbarrierAt(const void *object, uint32_t site);
  /// Empty, or what is wrong.
  std::string endPhaseIfComplete(Mbarrier &barrier);
  std::string addTransaction(Mbarrier &barrier, int64_t bytes);
  bool isShared(const void *address, uint64_t bytes) const;
  uint32_t offsetOf(const void *address) const {
    return static_cast<uint32_t>(static_cast<const char *>(address) -
                                 memory.sharedWindow);
  }
  TensorMap tensorMapAt(const void *map, size_t rank, uint32_t site);
  /// Of the load, or the store, that was added last.
  void checkBulkAlignment(const char *to, const char *from, uint32_t bytes,
                          uint32_t site);
  void startLoad(const void *object);
  void startStore();
  void finishLoad();
  void finishReads(const std::vector<BulkStore> &stores);
  void checkAsyncAccess(const void *address, uint64_t bytes,
                        const Access &access, unsigned actor, uint32_t time);
  void checkNothingUnderWay(const MemoryRegion &region, const void *address,
                            uint64_t bytes, bool isWrite, uint32_t site);
  void checkThreadIsIdle();
  void readAsync(const char *address, uint64_t bytes, const AsyncReader &reader,
                 std::vector<uint32_t> &chunks);
  void releaseChunks(const std::vector<uint32_t> &chunks);
  bool isReadAsync(const void *address, uint64_t bytes) const;
  void markGenericWrite(const void *address, uint64_t bytes);
  void joinWarpGroup(WarpGroupOp op, uint32_t site, uint32_t left,
                     WgmmaOperands *operands);
  void finishWarpGroupOp(WarpGroup &group, unsigned first);
  void multiplyGroup(WarpGroup &group, unsigned first);
  void readMatrix(const WgmmaShape &shape, uint64_t descriptor, bool isA,
                  const AsyncReader &reader, std::vector<uint32_t> &chunks,
                  std::vector<float> &elements);
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
  /// Ends the launch with an error that no thread causes.
  void failOutside(const std::string &message);
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
  /// Bulk loads that have not arrived yet.
  std::deque<BulkLoad> loads;
  std::vector<WarpGroup> warpGroups;
  ClusterBarrier cluster;
  /// Per 16 bytes of the shared window, from level 1 on, empty where nothing
  /// uses asynchronous proxies: readers under way; written by a thread, with
  /// no proxy fence since (then listed in `unfenced`).
  std::vector<uint16_t> asyncReaders;
  std::vector<bool> isUnfenced;
  std::vector<uint32_t> unfenced;
  std::mt19937_64 random;
  std::string error;
  /// The first read of shared memory that nothing had written.
  std::string unwrittenRead;
  // Of the running operation; members, as stacks are not unwound on an error.
  std::string note;
  VectorClock knowledge, otherKnowledge;
  std::vector<float> factors[2];
  std::vector<double> turnedFactor, sums;
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_BLOCK_H
