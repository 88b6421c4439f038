// Vector clocks over bytes.
#include "RaceDetector.h"

#include <algorithm>

namespace dlc::emu {

static void joinInto(std::vector<uint32_t> &into,
                     const std::vector<uint32_t> &from) {
  into.resize(std::max(into.size(), from.size()));
  for (size_t i = 0; i < from.size(); ++i)
    into[i] = std::max(into[i], from[i]);
}

static void meetInto(std::vector<uint32_t> &into,
                     const std::vector<uint32_t> &from) {
  into.resize(std::min(into.size(), from.size()));
  for (size_t i = 0; i < into.size(); ++i)
    into[i] = std::min(into[i], from[i]);
}

void VectorClock::join(const VectorClock &other) {
  joinInto(known, other.known);
  joinInto(fenced, other.fenced);
}

void VectorClock::meet(const VectorClock &other) {
  meetInto(known, other.known);
  meetInto(fenced, other.fenced);
}

void RaceDetector::startBlock(unsigned threads, uintptr_t begin,
                              uintptr_t end) {
  ++block;
  numThreads = threads;
  VectorClock nothing;
  nothing.known.assign(numThreads, 0);
  clocks.assign(numThreads, nothing);
  // A thread's own time starts at 1: the others know nothing of it yet.
  for (unsigned i = 0; i < numThreads; ++i)
    clocks[i].known[i] = 1;
  actorTimes.clear();
  sharedBegin = begin;
  sharedBytes.assign(end - begin, Byte());
}

void RaceDetector::release(unsigned thread, VectorClock &clock) {
  clock.join(clocks[thread]);
  // What the thread does from here on is not covered.
  ++clocks[thread].known[thread];
}

void RaceDetector::acquire(unsigned thread, const VectorClock &clock) {
  clocks[thread].join(clock);
}

void RaceDetector::fence(unsigned thread) {
  clocks[thread].fenced = clocks[thread].known;
  ++clocks[thread].known[thread];
}

unsigned RaceDetector::addActor() {
  actorTimes.push_back(0);
  return numThreads + actorTimes.size() - 1;
}

void RaceDetector::learn(VectorClock &clock, unsigned actor, uint32_t time) {
  clock.known.resize(std::max<size_t>(clock.known.size(), actor + 1));
  clock.known[actor] = std::max(clock.known[actor], time);
}

static uint32_t at(const std::vector<uint32_t> &clock, unsigned actor) {
  return actor < clock.size() ? clock[actor] : 0;
}

bool RaceDetector::isUnordered(const Event &event,
                               const VectorClock &knows) const {
  return event.block != block || event.clock > at(knows.known, event.actor);
}

RaceDetector::Byte &RaceDetector::byteAt(uintptr_t address) {
  if (isShared(address))
    return sharedBytes[address - sharedBegin];
  return globalBytes[address / 4][address % 4];
}

std::optional<Race> RaceDetector::accessByte(Byte &byte, const Event &event,
                                             const VectorClock &knows) {
  auto race = [&](const Event &earlier) {
    return Race{earlier.access, earlier.block != block, 0};
  };
  // Atomic accesses do not race with each other.
  bool bothAtomic = byte.write && byte.write->access.kind == Access::Atomic &&
                    event.access.kind == Access::Atomic;
  if (byte.write && !bothAtomic && isUnordered(*byte.write, knows))
    return race(*byte.write);
  if (event.access.kind == Access::Read) {
    auto known =
        std::find_if(byte.reads.begin(), byte.reads.end(), [&](const Event &e) {
          return e.block == block && e.actor == event.actor;
        });
    if (known == byte.reads.end())
      byte.reads.push_back(event);
    else
      *known = event;
    return std::nullopt;
  }
  for (const Event &read : byte.reads)
    if (isUnordered(read, knows))
      return race(read);
  byte.reads.clear();
  byte.write = event;
  return std::nullopt;
}

std::optional<Race> RaceDetector::access(uintptr_t address, uint64_t bytes,
                                         const Access &access) {
  return this->access(address, bytes, access, access.thread,
                      timeOf(access.thread), clocks[access.thread]);
}

std::optional<Race> RaceDetector::access(uintptr_t address, uint64_t bytes,
                                         const Access &access, unsigned actor,
                                         uint32_t time,
                                         const VectorClock &knows) {
  Event event{access, actor, time, block};
  for (uint64_t i = 0; i < bytes; ++i)
    if (auto race = accessByte(byteAt(address + i), event, knows)) {
      race->offset = i;
      return race;
    }
  return std::nullopt;
}

std::optional<uint64_t> RaceDetector::findUnwritten(uintptr_t address,
                                                    uint64_t bytes) const {
  for (uint64_t i = 0; i < bytes; ++i)
    if (isShared(address + i) && !sharedBytes[address + i - sharedBegin].write)
      return i;
  return std::nullopt;
}

std::optional<Race> RaceDetector::findUnfenced(uintptr_t address,
                                               uint64_t bytes,
                                               const VectorClock &knows) const {
  for (uint64_t i = 0; i < bytes; ++i) {
    if (!isShared(address + i))
      continue;
    const auto &write = sharedBytes[address + i - sharedBegin].write;
    if (write && !write->access.isAsync &&
        write->clock > at(knows.fenced, write->actor))
      return Race{write->access, false, i};
  }
  return std::nullopt;
}

} // namespace dlc::emu
