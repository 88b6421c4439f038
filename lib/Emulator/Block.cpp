// Scheduling of a block's threads, block barriers and deadlock reports.
#include "Block.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <utility>

namespace dlc::emu {

// The kernel's code calls plain C functions, which find their block here. It is
// set only while Block::run is on this OS thread's stack.
static thread_local Block *currentBlock = nullptr;

Block &Block::current() {
  assert(currentBlock && "kernel code outside of a launch");
  return *currentBlock;
}

static std::string text(const Dim3 &d) {
  return llvm::formatv("({0},{1},{2})", d.x, d.y, d.z);
}

Block::Block(const LaunchState &launch, BlockMemory &memory)
    : launch(launch), memory(memory),
      inTurn(!launch.waits && !launch.options.scheduleSeed),
      threads(launch.shape.block.product()),
      pending((threads.size() + kWarpSize - 1) / kWarpSize),
      random(launch.options.scheduleSeed) {
  const Dim3 &extent = launch.shape.block;
  for (auto [i, thread] : llvm::enumerate(threads)) {
    thread.block = this;
    thread.index = {uint32_t(i) % extent.x, uint32_t(i) / extent.x % extent.y,
                    uint32_t(i) / extent.x / extent.y};
  }
  for (Barrier &barrier : barriers) {
    barrier.firstOfWarp.assign(pending.size(), -1);
    barrier.otherOfWarp.assign(pending.size(), -1);
  }
}

void Block::start(Dim3 blockIndex) {
  index = blockIndex;
  numDone = 0;
  mbarriers.clear();
  inFlight.clear();
  loads.clear();
  unwrittenRead.clear();
  cluster = {};
  warpGroups.assign(threads.size() / kWarpGroupSize, {});
  if (launch.usesAsyncProxy && launch.options.check >= EmulatorCheck::Memory) {
    size_t chunks = launch.sharedWindowBytes / 16 + 1;
    asyncReaders.assign(chunks, 0);
    isUnfenced.assign(chunks, false);
    unfenced.clear();
  }
  const FiberStacks &stacks = *memory.stacks;
  for (auto [i, thread] : llvm::enumerate(threads)) {
    thread.status = ThreadStatus::Ready;
    thread.bulkReader.reset();
    thread.bulkWriter.reset();
    thread.arrivedAtCluster = false;
    thread.clusterPhase = 0;
    if (inTurn)
      continue;
    thread.fiber.start(stacks.bottom(i), stacks.bytes(), &threadMain, &thread);
    ready.push_back(i);
  }
  if (inTurn) {
    threads.front().fiber.start(stacks.bottom(0), stacks.bytes(),
                                &threadsInTurn, this);
    ready.push_back(0);
  }
  if (launch.races) {
    auto shared = reinterpret_cast<uintptr_t>(memory.sharedWindow);
    launch.races->startBlock(threads.size(), shared,
                             shared + launch.sharedWindowBytes);
  }
}

Block::~Block() = default;

void Block::threadMain(void *argument) {
  auto *thread = static_cast<Thread *>(argument);
  const LaunchState &launch = thread->block->launch;
  launch.entry(launch.arguments);
  thread->block->exitThread();
}

void Block::threadsInTurn(void *argument) {
  auto *block = static_cast<Block *>(argument);
  const LaunchState &launch = block->launch;
  for (unsigned i = 0; i < block->threads.size(); ++i) {
    block->running = i;
    launch.entry(launch.arguments);
    block->threads[i].status = ThreadStatus::Done;
    ++block->numDone;
  }
  Fiber::switchTo(block->carrier(), block->scheduler, /*last=*/true);
  llvm_unreachable("a finished block was resumed");
}

void Block::exitThread() {
  waitForCopies(kAllCopies);
  checkThreadIsIdle();
  Thread &thread = threads[running];
  thread.status = ThreadStatus::Done;
  ++numDone;
  Fiber::switchTo(thread.fiber, scheduler, /*last=*/true);
  llvm_unreachable("a finished thread was resumed");
}

void Block::fail(std::string message) {
  error =
      llvm::formatv("kernel '{0}', block {1}, thread {2}: ", launch.kernelName,
                    text(index), text(threads[running].index));
  error += message;
  // This stack is never unwound: what it owns must be freed by hand.
  std::string().swap(message);
  Fiber::switchTo(carrier(), scheduler, /*last=*/true);
  llvm_unreachable("a failed thread was resumed");
}

void Block::failOutside(const std::string &message) {
  error = llvm::formatv("kernel '{0}', block {1}: {2}", launch.kernelName,
                        text(index), message);
}

unsigned Block::pickReady() {
  if (launch.options.scheduleSeed)
    std::swap(ready.front(), ready[random() % ready.size()]);
  unsigned thread = ready.front();
  ready.pop_front();
  return thread;
}

std::string Block::run(Dim3 blockIndex) {
  start(blockIndex);
  Block *outer = std::exchange(currentBlock, this);
  while (error.empty()) {
    // What is still on its way when all have ended was waited for by nobody.
    bool isLate =
        ready.empty() || (launch.options.scheduleSeed && random() % 4 == 0);
    if (isLate && !loads.empty() && numDone != threads.size()) {
      finishLoad();
      continue;
    }
    if (ready.empty())
      break;
    running = pickReady();
    Fiber::switchTo(scheduler, threads[running].fiber);
  }
  currentBlock = outer;
  if (launch.accesses)
    launch.accesses->finishBlock();
  // Where the write comes later, it is a race.
  if (error.empty() && numDone == threads.size() && !unwrittenRead.empty())
    failOutside(unwrittenRead);
  if (error.empty() && numDone == threads.size() && !loads.empty())
    failOutside("all threads have ended while the bulk copy at '" +
                siteText(loads.front().site) + "' is under way");
  if (error.empty() && numDone != threads.size())
    error = deadlockReport();
  return error;
}

void Block::wait(ThreadStatus status, uint32_t id, uint32_t site) {
  Thread &thread = threads[running];
  thread.status = status;
  thread.waitId = id;
  thread.waitSite = site;
  Fiber::switchTo(thread.fiber, scheduler);
}

void Block::makeReady(unsigned thread) {
  threads[thread].status = ThreadStatus::Ready;
  ready.push_back(thread);
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

// The aligned forms require a warp's threads to meet at one instruction.
void Block::checkAlignedBarrier(uint32_t id, uint32_t site) {
  unsigned warp = running / kWarpSize;
  for (int other :
       {barriers[id].firstOfWarp[warp], barriers[id].otherOfWarp[warp]})
    if (other >= 0 && threads[other].waitSite != site)
      fail(llvm::formatv("divergent barrier: thread {0} of the same warp waits "
                         "at '{1}' while this one is at '{2}'",
                         text(threads[other].index),
                         siteText(threads[other].waitSite), siteText(site)));
}

Block::Barrier &Block::enterBarrier(uint32_t id, std::optional<uint32_t> count,
                                    uint32_t site, BarrierReduction reduction,
                                    bool predicate) {
  if (id >= kNumBarriers)
    fail(llvm::formatv("barrier {0} does not exist: a block has {1}", id,
                       kNumBarriers));
  if (count && (*count == 0 || *count % kWarpSize != 0))
    fail(llvm::formatv("barrier {0} for {1} threads: the count must be a "
                       "positive multiple of {2}",
                       id, *count, kWarpSize));
  Barrier &barrier = barriers[id];
  uint32_t expected = count.value_or(threads.size());
  if (barrier.arrived == 0) {
    barrier.expected = expected;
    barrier.reduction = reduction;
    barrier.trueCount = 0;
    barrier.clock.clear();
  } else if (barrier.expected != expected) {
    fail(
        llvm::formatv("barrier {0} is awaited for {1} threads at '{2}' and for "
                      "{3} by others",
                      id, expected, siteText(site), barrier.expected));
  } else if (barrier.reduction != reduction) {
    fail(llvm::formatv("barrier {0} reduces differently at '{1}' than where "
                       "others wait",
                       id, siteText(site)));
  }
  ++barrier.arrived;
  barrier.trueCount += predicate;
  if (launch.races)
    launch.races->release(running, barrier.clock);
  return barrier;
}

void Block::completeBarrier(Barrier &barrier) {
  uint32_t result = barrier.trueCount;
  if (barrier.reduction == BarrierReduction::And)
    result = barrier.trueCount == barrier.expected;
  else if (barrier.reduction == BarrierReduction::Or)
    result = barrier.trueCount != 0;
  for (unsigned thread : barrier.waiting) {
    threads[thread].result.value = result;
    if (launch.races)
      launch.races->acquire(thread, barrier.clock);
    makeReady(thread);
  }
  barrier.waiting.clear();
  llvm::fill(barrier.firstOfWarp, -1);
  llvm::fill(barrier.otherOfWarp, -1);
  barrier.arrived = 0;
}

uint32_t Block::barrierSync(uint32_t id, std::optional<uint32_t> count,
                            bool aligned, uint32_t site,
                            BarrierReduction reduction, bool predicate) {
  if (aligned && id < kNumBarriers)
    checkAlignedBarrier(id, site);
  Barrier &barrier = enterBarrier(id, count, site, reduction, predicate);
  barrier.waiting.push_back(running);
  int &first = barrier.firstOfWarp[running / kWarpSize];
  if (first < 0)
    first = static_cast<int>(running);
  else if (threads[first].waitSite != site)
    barrier.otherOfWarp[running / kWarpSize] = static_cast<int>(running);
  if (barrier.arrived == barrier.expected) {
    // The last thread goes to the end of the line like the others; it keeps
    // running only when its turn comes.
    completeBarrier(barrier);
    Fiber::switchTo(threads[running].fiber, scheduler);
  } else {
    wait(ThreadStatus::AtBarrier, id, site);
  }
  return threads[running].result.value;
}

void Block::barrierArrive(uint32_t id, uint32_t count, uint32_t site) {
  Barrier &barrier =
      enterBarrier(id, count, site, BarrierReduction::None, false);
  if (barrier.arrived == barrier.expected)
    completeBarrier(barrier);
}

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

void Block::noteAccess(const void *address, uint64_t bytes, uint32_t site) {
  constexpr uint64_t most = 16; // of one instruction of a thread
  if (!launch.accesses || bytes > most || carrier().owns(address))
    return;
  unsigned warp = running / kWarpSize;
  launch.accesses->note(warp, running % kWarpSize, lanesOfWarp(warp), site,
                        reinterpret_cast<uintptr_t>(address),
                        static_cast<uint32_t>(bytes), isShared(address, bytes));
}

void Block::checkAccess(const void *address, uint64_t bytes, uint64_t alignment,
                        Access::Kind kind, uint32_t site) {
  if (carrier().owns(address))
    return;
  auto value = reinterpret_cast<uintptr_t>(address);
  bool isWrite = kind != Access::Read;
  const MemoryRegion *region = memory.map.find(value, bytes, isWrite);
  if (!region)
    fail(memory.map.explain(value, bytes, isWrite) + " at '" + siteText(site) +
         "'");
  if (value % alignment != 0)
    fail(llvm::formatv("misaligned {0} of {1} bytes: address {2:x} is not a "
                       "multiple of {3} at '{4}'",
                       isWrite ? "write" : "read", bytes, value, alignment,
                       siteText(site)));
  checkNothingUnderWay(*region, address, bytes, isWrite, site);
  if (isWrite)
    markGenericWrite(address, bytes);
  if (!launch.races || !region->writable)
    return;
  if (kind == Access::Read && unwrittenRead.empty())
    if (auto offset = launch.races->findUnwritten(value, bytes))
      unwrittenRead = llvm::formatv(
          "thread {0}: byte {1} of '{2}' is read at '{3}' and nothing has "
          "written it",
          text(threads[running].index), value + *offset - region->begin,
          region->name, siteText(site));
  checkRace(*region, value, bytes, {running, site, kind}, running,
            launch.races->timeOf(running), launch.races->clockOf(running));
}

void Block::checkNothingUnderWay(const MemoryRegion &region,
                                 const void *address, uint64_t bytes,
                                 bool isWrite, uint32_t site) {
  auto report = [&](const char *why) {
    fail(llvm::formatv("byte {0} of '{1}' is {2} at '{3}' while {4}",
                       reinterpret_cast<uintptr_t>(address) - region.begin,
                       region.name, isWrite ? "written" : "read",
                       siteText(site), why));
  };
  if (isInFlight(address, bytes))
    report("an asynchronous copy that nobody has waited for writes it");
  if (isWrite && isReadAsync(address, bytes))
    report("an asynchronous operation that nobody has waited for reads it");
}

void Block::checkRace(const MemoryRegion &region, uintptr_t address,
                      uint64_t bytes, const Access &access, unsigned actor,
                      uint32_t time, const VectorClock &knows) {
  auto race = launch.races->access(address, bytes, access, actor, time, knows);
  if (!race)
    return;
  auto verb = [](Access::Kind kind) {
    return kind == Access::Read ? "read" : "written";
  };
  // The message is built in pieces that own nothing when fail() takes over.
  std::string earlier = llvm::formatv(
      "race at byte {0} of '{1}': {2} here at '{3}' and {4} ",
      address + race->offset - region.begin, region.name, verb(access.kind),
      siteText(access.site), verb(race->earlier.kind));
  earlier += race->otherBlock
                 ? std::string("by another block")
                 : std::string(race->earlier.isAsync
                                   ? "by an asynchronous operation of thread "
                                   : "by thread ") +
                       text(threads[race->earlier.thread].index);
  earlier += " at '" + siteText(race->earlier.site) +
             (race->otherBlock ? "'" : "', with no barrier between");
  fail(std::move(earlier));
}

std::string Block::describeThread(unsigned thread) const {
  const Thread &t = threads[thread];
  switch (t.status) {
  case ThreadStatus::Ready:
    return "ready to run";
  case ThreadStatus::Done:
    return "finished";
  case ThreadStatus::AtBarrier:
    return llvm::formatv("waiting at barrier {0} ({1} of {2} threads arrived) "
                         "at '{3}'",
                         t.waitId, barriers[t.waitId].arrived,
                         barriers[t.waitId].expected, siteText(t.waitSite));
  case ThreadStatus::AtCollective:
    return llvm::formatv("waiting for the other lanes of mask {0:x} at '{1}'",
                         t.waitId, siteText(t.waitSite));
  case ThreadStatus::AtMbarrier:
    return describeMbarrier(t.waitId, t.waitSite);
  case ThreadStatus::AtCluster:
    return llvm::formatv("waiting at the cluster's barrier ({0} of {1} threads "
                         "arrived) at '{2}'",
                         cluster.arrived, threads.size(), siteText(t.waitSite));
  case ThreadStatus::AtWarpGroup:
    return llvm::formatv("waiting for the other threads of the warpgroup ({0} "
                         "of {1} there) at '{2}'",
                         warpGroups[t.waitId].arrived, kWarpGroupSize,
                         siteText(t.waitSite));
  }
  llvm_unreachable("covered switch");
}

std::string Block::deadlockReport() const {
  // Threads in one state make one line, named by the first of them.
  std::vector<std::pair<std::string, std::vector<unsigned>>> groups;
  std::map<std::string, size_t> groupOf;
  for (unsigned i = 0; i < threads.size(); ++i) {
    std::string state = describeThread(i);
    auto [it, isNew] = groupOf.try_emplace(state, groups.size());
    if (isNew)
      groups.push_back({state, {}});
    groups[it->second].second.push_back(i);
  }
  std::string report = llvm::formatv(
      "kernel '{0}', block {1}: deadlock, {2} of {3} threads "
      "wait for ever",
      launch.kernelName, text(index), threads.size() - numDone, threads.size());
  for (const auto &[state, members] : groups) {
    report += llvm::formatv("\n  {0} thread{1} {2} (first: {3})",
                            members.size(), members.size() == 1 ? "" : "s",
                            state, text(threads[members.front()].index));
  }
  return report;
}

} // namespace dlc::emu
