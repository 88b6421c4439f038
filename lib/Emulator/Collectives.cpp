// What the lanes of a warp compute together: shuffles, votes, reductions.
//
// Lanes arrive one after the other; the last one computes for all. The masks of
// collectives under way in one warp must be equal or disjoint, and the lanes of
// one collective must be at the same instruction.
#include "Block.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

#include <algorithm>

namespace dlc::emu {

// Lanes that exist: the last warp of a block may be partial.
uint32_t Block::lanesOfWarp(unsigned warp) const {
  size_t count = std::min<size_t>(kWarpSize, threads.size() - warp * kWarpSize);
  return count == kWarpSize ? ~0u : (1u << count) - 1;
}

uint32_t Block::activeLanes() const {
  unsigned warp = running / kWarpSize;
  uint32_t mask = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    unsigned thread = warp * kWarpSize + lane;
    if (thread < threads.size() && threads[thread].status != ThreadStatus::Done)
      mask |= 1u << lane;
  }
  return mask;
}

LaneResult Block::collective(CollectiveKind kind, uint32_t mask, uint32_t site,
                             const LaneInput &input) {
  unsigned warp = running / kWarpSize;
  unsigned lane = running % kWarpSize;
  uint32_t bit = 1u << lane;
  if (!(mask & bit))
    fail(llvm::formatv("lane {0} is not in its own member mask {1:x} at '{2}'",
                       lane, mask, siteText(site)));
  // Hardware counts lanes that were never launched as arrived.
  uint32_t expected = mask & lanesOfWarp(warp);

  std::vector<Collective> &groups = pending[warp];
  auto group = std::find_if(groups.begin(), groups.end(), [&](const auto &g) {
    return (g.mask & mask) != 0;
  });
  if (group == groups.end()) {
    groups.emplace_back(kind, mask, site);
    group = groups.end() - 1;
  } else if (group->site != site || group->kind != kind) {
    fail(llvm::formatv("divergent collective: this lane is at '{0}' while "
                       "others of the warp wait at '{1}'",
                       siteText(site), siteText(group->site)));
  } else if (group->mask != mask) {
    fail(llvm::formatv("member mask {0:x} differs from the mask {1:x} other "
                       "lanes gave at '{2}'",
                       mask, group->mask, siteText(site)));
  }
  group->inputs[lane] = input;
  group->arrived |= bit;
  if (launch.races)
    launch.races->release(running, group->clock);
  if (group->arrived != expected) {
    wait(ThreadStatus::AtCollective, mask, site);
    return threads[running].result;
  }

  compute(*group, warp);
  for (unsigned other = 0; other < kWarpSize; ++other) {
    if (!(expected >> other & 1))
      continue;
    unsigned thread = warp * kWarpSize + other;
    threads[thread].result = group->results[other];
    if (launch.races)
      launch.races->acquire(thread, group->clock);
    if (thread != running)
      makeReady(thread);
  }
  groups.erase(group);
  return threads[running].result;
}

// The source lane by PTX's definition of shfl.sync: `clamp` packs the segment
// mask (bits 8-12) and the clamp value (bits 0-4).
static std::pair<int, bool> sourceLane(CollectiveKind kind, int lane,
                                       const LaneInput &input) {
  int offset = input.lane & 31;
  int clamp = input.clamp & 31;
  int segment = input.clamp >> 8 & 31;
  int maxLane = (lane & segment) | (clamp & ~segment);
  int minLane = lane & segment;
  int source = lane;
  bool inRange = false;
  switch (kind) {
  case CollectiveKind::ShuffleUp:
    source = lane - offset;
    inRange = source >= maxLane;
    break;
  case CollectiveKind::ShuffleDown:
    source = lane + offset;
    inRange = source <= maxLane;
    break;
  case CollectiveKind::ShuffleBfly:
    source = lane ^ offset;
    inRange = source <= maxLane;
    break;
  default:
    source = minLane | (offset & ~segment);
    inRange = source <= maxLane;
    break;
  }
  return {inRange ? source : lane, inRange};
}

void Block::shuffle(Collective &group, unsigned warp) {
  uint32_t existing = group.mask & lanesOfWarp(warp);
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (!(existing >> lane & 1))
      continue;
    auto [source, inRange] = sourceLane(group.kind, lane, group.inputs[lane]);
    if (!(existing >> source & 1))
      fail(llvm::formatv("lane {0} reads lane {1}, which is not in the member "
                         "mask {2:x} or does not exist, at '{3}'",
                         lane, source, group.mask, siteText(group.site)));
    group.results[lane] = {group.inputs[source].value, inRange};
  }
}

// Folds the lanes' 32-bit values from the lowest lane up.
template <typename Fn>
static uint32_t fold(uint32_t mask, const std::array<LaneInput, 32> &inputs,
                     Fn combine) {
  unsigned first = llvm::countr_zero(mask);
  auto result = static_cast<uint32_t>(inputs[first].value);
  for (unsigned lane = first + 1; lane < kWarpSize; ++lane)
    if (mask >> lane & 1)
      result = combine(result, static_cast<uint32_t>(inputs[lane].value));
  return result;
}

void Block::compute(Collective &group, unsigned warp) {
  uint32_t mask = group.mask & lanesOfWarp(warp);
  uint32_t ballot = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    if ((mask >> lane & 1) && group.inputs[lane].value)
      ballot |= 1u << lane;
  auto same = [&](uint64_t value) {
    for (unsigned lane = 0; lane < kWarpSize; ++lane)
      if (mask >> lane & 1)
        group.results[lane] = {value, value != 0};
  };
  auto reduce = [&](auto combine) { same(fold(mask, group.inputs, combine)); };
  using U = uint32_t;
  switch (group.kind) {
  case CollectiveKind::ShuffleIdx:
  case CollectiveKind::ShuffleUp:
  case CollectiveKind::ShuffleDown:
  case CollectiveKind::ShuffleBfly:
    return shuffle(group, warp);
  case CollectiveKind::VoteAll:
    return same(ballot == mask);
  case CollectiveKind::VoteAny:
    return same(ballot != 0);
  case CollectiveKind::VoteUni:
    return same(ballot == mask || ballot == 0);
  case CollectiveKind::VoteBallot:
    return same(ballot);
  case CollectiveKind::MatchAny:
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if (!(mask >> lane & 1))
        continue;
      uint32_t equal = 0;
      for (unsigned other = 0; other < kWarpSize; ++other)
        if ((mask >> other & 1) &&
            group.inputs[other].value == group.inputs[lane].value)
          equal |= 1u << other;
      group.results[lane] = {equal, equal != 0};
    }
    return;
  case CollectiveKind::ReduxAdd:
    return reduce([](U a, U b) { return a + b; });
  case CollectiveKind::ReduxMinSigned:
    return reduce([](U a, U b) { return U(std::min<int32_t>(a, b)); });
  case CollectiveKind::ReduxMaxSigned:
    return reduce([](U a, U b) { return U(std::max<int32_t>(a, b)); });
  case CollectiveKind::ReduxMinUnsigned:
    return reduce([](U a, U b) { return std::min(a, b); });
  case CollectiveKind::ReduxMaxUnsigned:
    return reduce([](U a, U b) { return std::max(a, b); });
  case CollectiveKind::ReduxAnd:
    return reduce([](U a, U b) { return a & b; });
  case CollectiveKind::ReduxOr:
    return reduce([](U a, U b) { return a | b; });
  case CollectiveKind::ReduxXor:
    return reduce([](U a, U b) { return a ^ b; });
  case CollectiveKind::WarpBarrier:
    return same(0);
  case CollectiveKind::Mma:
    return multiply(group);
  case CollectiveKind::LoadMatrix:
    return load(group);
  }
}

} // namespace dlc::emu
