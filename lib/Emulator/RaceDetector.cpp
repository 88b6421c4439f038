// Vector clocks over bytes.
#include "RaceDetector.h"

#include <algorithm>

namespace dlc::emu {

static void join(VectorClock &into, const VectorClock &from) {
  into.resize(std::max(into.size(), from.size()));
  for (size_t i = 0; i < from.size(); ++i)
    into[i] = std::max(into[i], from[i]);
}

void RaceDetector::startBlock(unsigned numThreads, uintptr_t begin,
                              uintptr_t end) {
  ++block;
  clocks.assign(numThreads, VectorClock(numThreads, 0));
  // A thread's own time starts at 1: the others know nothing of it yet.
  for (unsigned i = 0; i < numThreads; ++i)
    clocks[i][i] = 1;
  sharedBegin = begin;
  sharedBytes.assign(end - begin, Byte());
}

void RaceDetector::release(unsigned thread, VectorClock &clock) {
  join(clock, clocks[thread]);
  // What the thread does from here on is not covered.
  ++clocks[thread][thread];
}

void RaceDetector::acquire(unsigned thread, const VectorClock &clock) {
  join(clocks[thread], clock);
}

bool RaceDetector::isUnordered(const Event &event, unsigned thread) const {
  return event.block != block ||
         event.clock > clocks[thread][event.access.thread];
}

RaceDetector::Byte &RaceDetector::byteAt(uintptr_t address) {
  if (address >= sharedBegin && address - sharedBegin < sharedBytes.size())
    return sharedBytes[address - sharedBegin];
  return globalBytes[address / 4][address % 4];
}

std::optional<Race> RaceDetector::accessByte(Byte &byte, const Access &access) {
  auto race = [&](const Event &event) {
    return Race{event.access, event.block != block, 0};
  };
  // Atomic accesses do not race with each other.
  bool bothAtomic = byte.write && byte.write->access.kind == Access::Atomic &&
                    access.kind == Access::Atomic;
  if (byte.write && !bothAtomic && isUnordered(*byte.write, access.thread))
    return race(*byte.write);
  Event event{access, clocks[access.thread][access.thread], block};
  if (access.kind == Access::Read) {
    auto known =
        std::find_if(byte.reads.begin(), byte.reads.end(), [&](const Event &e) {
          return e.block == block && e.access.thread == access.thread;
        });
    if (known == byte.reads.end())
      byte.reads.push_back(event);
    else
      *known = event;
    return std::nullopt;
  }
  for (const Event &read : byte.reads)
    if (isUnordered(read, access.thread))
      return race(read);
  byte.reads.clear();
  byte.write = event;
  return std::nullopt;
}

std::optional<Race> RaceDetector::access(uintptr_t address, uint64_t bytes,
                                         const Access &access) {
  for (uint64_t i = 0; i < bytes; ++i)
    if (auto race = accessByte(byteAt(address + i), access)) {
      race->offset = i;
      return race;
    }
  return std::nullopt;
}

} // namespace dlc::emu
