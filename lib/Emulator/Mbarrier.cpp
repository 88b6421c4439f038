// mbarrier objects in shared memory (PTX ISA, "mbarrier"): arrivals count down
// to the end of a phase, transaction bytes to zero, and waiting is for the end
// of a phase. Dropped participants are not known; a cluster has one block.
//
// test_wait and try_wait may say no where the phase is not over; here they
// wait until it is, so that nobody spins, and a phase that never ends is a
// deadlock that names it.
#include "Block.h"

#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cstdlib>

namespace dlc::emu {

/// PTX: the count of an mbarrier is from 1 to 2^20 - 1.
static constexpr uint32_t kMostArrivals = (1u << 20) - 1;
static constexpr uint64_t kObjectBytes = 8;
/// PTX: and its transaction count from -(2^20 - 1) to 2^20 - 1.
static constexpr uint32_t kMostTransaction = (1u << 20) - 1;

// The object's own bytes are opaque, and touched by mbarrier operations alone:
// an initialisation that others may not know of races with them.
void Block::touchMbarrier(const void *object, Access::Kind kind,
                          uint32_t site) {
  auto address = reinterpret_cast<uintptr_t>(object);
  if (!isShared(object, kObjectBytes))
    fail("mbarrier outside of shared memory at '" + siteText(site) + "'");
  if (address % kObjectBytes != 0)
    fail(llvm::formatv("mbarrier at address {0:x}, which is not a multiple of "
                       "{1}, at '{2}'",
                       address, kObjectBytes, siteText(site)));
  if (launch.options.check >= EmulatorCheck::Memory)
    checkAccess(object, kObjectBytes, kObjectBytes, kind, site);
}

Block::Mbarrier &Block::mbarrierAt(const void *object, uint32_t site) {
  auto found = mbarriers.find(reinterpret_cast<uintptr_t>(object));
  if (found == mbarriers.end())
    fail("mbarrier that was not initialised at '" + siteText(site) + "'");
  const Mbarrier &barrier = found->second;
  if (launch.races &&
      !launch.races->knows(running, barrier.initThread, barrier.initTime))
    fail(llvm::formatv("race: mbarrier that thread {0} initialises, with no "
                       "barrier between, at '{1}'",
                       barrier.initThread, siteText(site)));
  return found->second;
}

void Block::initMbarrier(const void *object, uint32_t count, uint32_t site) {
  touchMbarrier(object, Access::Write, site);
  if (count == 0 || count > kMostArrivals)
    fail(llvm::formatv("mbarrier for {0} arrivals: from 1 to {1} there may be "
                       "at '{2}'",
                       count, kMostArrivals, siteText(site)));
  auto [entry, isNew] =
      mbarriers.try_emplace(reinterpret_cast<uintptr_t>(object));
  if (!isNew)
    fail("mbarrier that is in use is initialised again at '" + siteText(site) +
         "'");
  Mbarrier &barrier = entry->second;
  barrier.expected = barrier.pending = count;
  barrier.initThread = running;
  if (launch.races)
    barrier.initTime = launch.races->timeOf(running);
}

void Block::invalidateMbarrier(const void *object, uint32_t site) {
  touchMbarrier(object, Access::Write, site);
  if (!mbarrierAt(object, site).waiting.empty())
    fail("mbarrier that threads wait at is invalidated at '" + siteText(site) +
         "'");
  mbarriers.erase(reinterpret_cast<uintptr_t>(object));
}

// A phase ends when all have arrived and all bytes have come. Two phases that
// nobody waits for cannot be told from none.
std::string Block::endPhaseIfComplete(Mbarrier &barrier) {
  if (barrier.pending || barrier.transaction)
    return {};
  auto phase = static_cast<int64_t>(barrier.phase);
  if (launch.options.check >= EmulatorCheck::Memory && phase > 0 &&
      barrier.lastWaited < phase - 1)
    return llvm::formatv("phase {0} of an mbarrier ends, and nobody has waited "
                         "for the phase before",
                         phase);
  barrier.complete = std::exchange(barrier.open, {});
  barrier.pending = barrier.expected;
  ++barrier.phase;
  for (unsigned thread : barrier.waiting) {
    if (launch.races)
      launch.races->acquire(thread, barrier.complete);
    makeReady(thread);
  }
  barrier.waiting.clear();
  return {};
}

uint64_t Block::arriveAtMbarrier(const void *object, uint32_t count,
                                 uint32_t site) {
  touchMbarrier(object, Access::Atomic, site);
  Mbarrier &barrier = mbarrierAt(object, site);
  if (count == 0 || count > barrier.pending)
    fail(llvm::formatv("{0} arrivals at an mbarrier whose phase waits for {1} "
                       "of {2} at '{3}'",
                       count, barrier.pending, barrier.expected,
                       siteText(site)));
  uint64_t state = barrier.phase;
  if (launch.races)
    launch.races->release(running, barrier.open);
  barrier.pending -= count;
  note = endPhaseIfComplete(barrier);
  if (!note.empty())
    fail(note + " at '" + siteText(site) + "'");
  return state;
}

// The transaction count may be below zero: bytes may come before they are
// expected (PTX ISA 9.2, 9.7.13.15.5.1 "expect-tx operation" and 9.7.13.15.5.2
// "complete-tx operation").
std::string Block::addTransaction(Mbarrier &barrier, int64_t bytes) {
  barrier.transaction += bytes;
  if (std::abs(barrier.transaction) > int64_t(kMostTransaction))
    return llvm::formatv("the transaction count of an mbarrier becomes {0}: up "
                         "to {1} it may be",
                         barrier.transaction, kMostTransaction);
  return endPhaseIfComplete(barrier);
}

void Block::expectTransaction(const void *object, uint32_t bytes,
                              uint32_t site) {
  touchMbarrier(object, Access::Atomic, site);
  note = addTransaction(mbarrierAt(object, site), bytes);
  if (!note.empty())
    fail(note + " at '" + siteText(site) + "'");
}

void Block::completeTransaction(const void *object, uint32_t bytes,
                                uint32_t site) {
  touchMbarrier(object, Access::Atomic, site);
  note = addTransaction(mbarrierAt(object, site), -int64_t(bytes));
  if (!note.empty())
    fail(note + " at '" + siteText(site) + "'");
}

void Block::waitAtMbarrier(const void *object, uint64_t state, bool isParity,
                           uint32_t site) {
  touchMbarrier(object, Access::Atomic, site);
  Mbarrier &barrier = mbarrierAt(object, site);
  if (isParity && state > 1)
    fail(llvm::formatv("mbarrier is waited for with parity {0} at '{1}'", state,
                       siteText(site)));
  // A state is of the running phase or of the one before.
  if (!isParity && state != barrier.phase && state + 1 != barrier.phase)
    fail("mbarrier is waited for with the state of a phase long over at '" +
         siteText(site) + "'");
  bool isOver =
      isParity ? (barrier.phase & 1) != state : state != barrier.phase;
  barrier.lastWaited = std::max(barrier.lastWaited,
                                static_cast<int64_t>(barrier.phase) - isOver);
  if (isOver) {
    if (launch.races)
      launch.races->acquire(running, barrier.complete);
    return;
  }
  barrier.waiting.push_back(running);
  auto offset = static_cast<const char *>(object) - memory.sharedWindow;
  wait(ThreadStatus::AtMbarrier, static_cast<uint32_t>(offset), site);
}

std::string Block::describeMbarrier(uint32_t offset, uint32_t site) const {
  const Mbarrier &barrier =
      mbarriers.find(reinterpret_cast<uintptr_t>(memory.sharedWindow) + offset)
          ->second;
  std::string bytes =
      barrier.transaction
          ? llvm::formatv(", {0} bytes to come", barrier.transaction).str()
          : std::string();
  return llvm::formatv("waiting at the mbarrier at shared byte {0}, phase {1} "
                       "({2} of {3} arrived{4}) at '{5}'",
                       offset, barrier.phase,
                       barrier.expected - barrier.pending, barrier.expected,
                       bytes, siteText(site));
}

} // namespace dlc::emu
