// cp.async and its groups (PTX ISA 9.2, "Data movement and conversion
// instructions: asynchronous copy", 9.7.9.25.3).
//
// A copy is done as late as may be: when its thread waits for it. What reads
// too early finds what was there before, and from level 1 on is reported; a
// copy counts as a write where it starts and where it ends.
#include "Block.h"

#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace dlc::emu {

void Block::copyAsync(const AsyncCopy &copy) {
  auto to = reinterpret_cast<uintptr_t>(copy.to);
  auto from = reinterpret_cast<uintptr_t>(copy.from);
  if (copy.sourceBytes > copy.bytes)
    fail(llvm::formatv("cp.async of {0} bytes into {1} at '{2}'",
                       copy.sourceBytes, copy.bytes, siteText(copy.site)));
  if (to % copy.bytes != 0 || from % copy.bytes != 0)
    fail(llvm::formatv("misaligned cp.async of {0} bytes from {1:x} to {2:x} "
                       "at '{3}'",
                       copy.bytes, from, to, siteText(copy.site)));
  auto window = reinterpret_cast<uintptr_t>(memory.sharedWindow);
  if (to < window || to + copy.bytes > window + launch.sharedWindowBytes)
    fail("cp.async to what is not shared memory at '" + siteText(copy.site) +
         "'");
  if (copy.sourceBytes)
    noteAccess(copy.from, copy.sourceBytes, copy.site);
  noteAccess(copy.to, copy.bytes, copy.site);
  if (launch.options.check >= EmulatorCheck::Memory) {
    if (copy.sourceBytes)
      checkAccess(copy.from, copy.sourceBytes, 1, Access::Read, copy.site);
    checkAccess(copy.to, copy.bytes, 1, Access::Write, copy.site);
    inFlight.resize(launch.sharedWindowBytes);
    std::fill_n(inFlight.begin() + static_cast<ptrdiff_t>(to - window),
                copy.bytes, true);
  }
  threads[running].openCopies.push_back(copy);
}

void Block::commitCopies() {
  Thread &thread = threads[running];
  thread.copyGroups.push_back(std::move(thread.openCopies));
  thread.openCopies.clear();
}

void Block::finishCopies(const std::vector<AsyncCopy> &copies) {
  auto window = reinterpret_cast<uintptr_t>(memory.sharedWindow);
  for (const AsyncCopy &copy : copies) {
    if (copy.sourceBytes)
      std::memcpy(copy.to, copy.from, copy.sourceBytes);
    std::memset(copy.to + copy.sourceBytes, 0, copy.bytes - copy.sourceBytes);
    if (launch.options.check < EmulatorCheck::Memory)
      continue;
    auto to = reinterpret_cast<uintptr_t>(copy.to);
    std::fill_n(inFlight.begin() + static_cast<ptrdiff_t>(to - window),
                copy.bytes, false);
    checkAccess(copy.to, copy.bytes, 1, Access::Write, copy.site);
  }
}

void Block::waitForCopies(uint32_t left) {
  Thread &thread = threads[running];
  while (!thread.copyGroups.empty() &&
         (left == kAllCopies || thread.copyGroups.size() > left)) {
    finishCopies(thread.copyGroups.front());
    thread.copyGroups.pop_front();
  }
  if (left != kAllCopies)
    return;
  finishCopies(thread.openCopies);
  thread.openCopies.clear();
}

bool Block::isInFlight(const void *address, uint64_t bytes) const {
  if (inFlight.empty())
    return false;
  auto value = reinterpret_cast<uintptr_t>(address);
  auto window = reinterpret_cast<uintptr_t>(memory.sharedWindow);
  if (value < window || value - window >= inFlight.size())
    return false;
  auto first = inFlight.begin() + static_cast<ptrdiff_t>(value - window);
  auto last = first + static_cast<ptrdiff_t>(std::min<uint64_t>(
                          bytes, inFlight.size() - (value - window)));
  return std::find(first, last, true) != last;
}

} // namespace dlc::emu
