// cp.async.bulk and cp.async.bulk.tensor (PTX ISA 9.2, 9.7.9.25.4 "Data
// movement and conversion instructions: bulk copy", 9.7.9.27 "Tensor copy"; the
// box, its zeros and swizzles: 5.5 "Tensors").
//
// A copy to shared memory arrives as late as may be, when no thread can go on
// (with a seed, at a random time), and takes its bytes off the mbarrier's
// transaction count; one from shared memory is done when its thread waits for
// its group. From level 1 on touching its bytes before is reported, on level 2
// a copy is an actor whose accesses are known to who has waited for it.
#include "Block.h"

#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace dlc::emu {

static constexpr uint32_t kChunkBytes = 16;

//===----------------------------------------------------------------------===//
// What a box is made of
//===----------------------------------------------------------------------===//

TensorMap Block::tensorMapAt(const void *map, size_t rank, uint32_t site) {
  if (reinterpret_cast<uintptr_t>(map) % TensorMap::kAlign != 0)
    fail(llvm::formatv("tensor map at an address that is not a multiple of {0} "
                       "at '{1}'",
                       TensorMap::kAlign, siteText(site)));
  std::optional<TensorMap> decoded = decodeTensorMap(map);
  if (!decoded)
    fail("what is given as a tensor map is none at '" + siteText(site) + "'");
  if (decoded->rank != rank)
    fail(llvm::formatv("tensor map of {0} dims, but {1} coordinates at '{2}'",
                       decoded->rank, rank, siteText(site)));
  return *decoded;
}

/// Calls `fn(shared offset, global address, bytes)` for the parts of the box at
/// `at` that lie in the tensor; none is longer than 16 bytes, which a swizzle
/// keeps together. `start` is the box's place in the shared window.
template <typename Fn>
static void forEachPiece(const TensorMap &map, llvm::ArrayRef<int32_t> at,
                         uint64_t start, Fn fn) {
  int64_t element = static_cast<int64_t>(map.elementBytes());
  int64_t perChunk = kChunkBytes / element;
  int64_t rowBytes = map.box[0] * element;
  int64_t rows = static_cast<int64_t>(map.boxBytes()) / rowBytes;
  unsigned span = swizzleSpan(map.swizzle);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t rest = row;
    auto *from = static_cast<char *>(map.data);
    bool isInside = true;
    for (unsigned d = 1; d < map.rank; ++d) {
      int64_t index = at[d] + rest % map.box[d];
      rest /= map.box[d];
      isInside &= index >= 0 && index < static_cast<int64_t>(map.dims[d]);
      from += index * static_cast<int64_t>(map.strides[d - 1]);
    }
    if (!isInside)
      continue;
    for (int64_t i = 0; i < map.box[0]; i += perChunk) {
      int64_t first = std::max<int64_t>(at[0] + i, 0);
      int64_t last = std::min<int64_t>(at[0] + i + perChunk,
                                       static_cast<int64_t>(map.dims[0]));
      if (first >= last)
        continue;
      uint64_t chunk = swizzled(start + row * rowBytes + i * element, span);
      fn(chunk + (first - at[0] - i) * element, from + first * element,
         static_cast<uint32_t>((last - first) * element));
    }
  }
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

bool Block::isShared(const void *address, uint64_t bytes) const {
  auto value = reinterpret_cast<uintptr_t>(address);
  auto window = reinterpret_cast<uintptr_t>(memory.sharedWindow);
  return value >= window && bytes <= launch.sharedWindowBytes &&
         value - window <= launch.sharedWindowBytes - bytes;
}

bool Block::isReadAsync(const void *address, uint64_t bytes) const {
  if (asyncReaders.empty() || !isShared(address, bytes) || bytes == 0)
    return false;
  uint32_t offset = offsetOf(address);
  auto first = asyncReaders.begin() + offset / kChunkBytes;
  auto last = asyncReaders.begin() + (offset + bytes - 1) / kChunkBytes + 1;
  return std::any_of(first, last, [](uint16_t count) { return count != 0; });
}

void Block::markGenericWrite(const void *address, uint64_t bytes) {
  if (isUnfenced.empty() || !isShared(address, bytes))
    return;
  uint32_t offset = offsetOf(address);
  for (uint32_t i = offset / kChunkBytes;
       i <= (offset + bytes - 1) / kChunkBytes; ++i) {
    if (isUnfenced[i])
      continue;
    isUnfenced[i] = true;
    unfenced.push_back(i);
  }
}

// Level 1 knows no order: a fence of any thread will do there.
void Block::fenceProxy() {
  for (uint32_t chunk : unfenced)
    isUnfenced[chunk] = false;
  unfenced.clear();
  if (launch.races && launch.usesAsyncProxy)
    launch.races->fence(running);
  fenceMbarrierInit();
}

void Block::fenceMbarrierInit() {
  for (auto &[address, barrier] : mbarriers)
    barrier.initIsFenced |= barrier.initThread == running;
}

// `reader` reads bytes of shared memory from now until it is waited for.
void Block::readAsync(const char *address, uint64_t bytes,
                      const AsyncReader &reader,
                      std::vector<uint32_t> &chunks) {
  if (!isShared(address, bytes))
    fail(llvm::formatv("{0} reads what is not shared memory at '{1}'",
                       reader.what, siteText(reader.site)));
  if (launch.options.check < EmulatorCheck::Memory)
    return;
  auto value = reinterpret_cast<uintptr_t>(address);
  const MemoryRegion *region = memory.map.find(value, bytes, false);
  if (!region)
    fail(memory.map.explain(value, bytes, false) + " at '" +
         siteText(reader.site) + "'");
  auto report = [&](uint64_t offset, const char *why) {
    fail(llvm::formatv("byte {0} of '{1}' is read by {2} at '{3}' {4}",
                       value + offset - region->begin, region->name,
                       reader.what, siteText(reader.site), why));
  };
  if (isInFlight(address, bytes))
    report(0, "while an asynchronous copy that nobody has waited for writes "
              "it");
  uint32_t first = offsetOf(address) / kChunkBytes;
  uint32_t last = (offsetOf(address) + bytes - 1) / kChunkBytes;
  for (uint32_t chunk = first; chunk <= last; ++chunk) {
    if (isUnfenced[chunk])
      report(0, "after a thread wrote it, with no fence.proxy.async since");
    ++asyncReaders[chunk];
    chunks.push_back(chunk);
  }
  if (!reader.knows)
    return;
  if (auto offset = launch.races->findUnwritten(value, bytes))
    report(*offset, "and nothing has written it");
  if (auto race = launch.races->findUnfenced(value, bytes, *reader.knows)) {
    note = llvm::formatv(
        "after thread {0} wrote it at '{1}', with no fence.proxy.async between",
        race->earlier.thread, siteText(race->earlier.site));
    report(race->offset, note.c_str());
  }
  checkRace(*region, value, bytes,
            {running, reader.site, Access::Read, /*isAsync=*/true},
            reader.actor, reader.time, *reader.knows);
}

void Block::releaseChunks(const std::vector<uint32_t> &chunks) {
  for (uint32_t chunk : chunks)
    --asyncReaders[chunk];
}

//===----------------------------------------------------------------------===//
// To shared memory
//===----------------------------------------------------------------------===//

void Block::startLoad(const void *object) {
  BulkLoad &load = loads.back();
  touchMbarrier(object, Access::Atomic, load.site);
  Mbarrier &barrier = mbarrierAt(object, load.site);
  if (!barrier.initIsFenced)
    fail("mbarrier whose initialisation no fence.mbarrier_init or "
         "fence.proxy.async follows, at '" +
         siteText(load.site) + "'");
  if (!isShared(load.to, load.bytes))
    fail("bulk copy to what is not shared memory at '" + siteText(load.site) +
         "'");
  load.mbarrier = reinterpret_cast<uintptr_t>(object);
  if (launch.options.check >= EmulatorCheck::Memory) {
    if (launch.races) {
      if (!barrier.actor)
        barrier.actor = launch.races->addActor();
      load.time = launch.races->tick(*barrier.actor);
    }
    unsigned actor = barrier.actor.value_or(0);
    Access read{running, load.site, Access::Read, /*isAsync=*/true};
    for (const BulkPiece &piece : load.pieces)
      checkAsyncAccess(piece.from, piece.bytes, read, actor, load.time);
    Access write{running, load.site, Access::Write, /*isAsync=*/true};
    checkAsyncAccess(load.to, load.bytes, write, actor, load.time);
    inFlight.resize(launch.sharedWindowBytes);
    std::fill_n(inFlight.begin() + offsetOf(load.to), load.bytes, true);
  }
}

// Access of a bulk copy that starts now.
void Block::checkAsyncAccess(const void *address, uint64_t bytes,
                             const Access &access, unsigned actor,
                             uint32_t time) {
  auto value = reinterpret_cast<uintptr_t>(address);
  bool isWrite = access.kind == Access::Write;
  const MemoryRegion *region = memory.map.find(value, bytes, isWrite);
  if (!region)
    fail(memory.map.explain(value, bytes, isWrite) + " at '" +
         siteText(access.site) + "'");
  checkNothingUnderWay(*region, address, bytes, isWrite, access.site);
  if (launch.races && region->writable)
    checkRace(*region, value, bytes, access, actor, time,
              launch.races->clockOf(running));
}

void Block::finishLoad() {
  size_t which = launch.options.scheduleSeed ? random() % loads.size() : 0;
  BulkLoad load = std::move(loads[which]);
  loads.erase(loads.begin() + static_cast<ptrdiff_t>(which));
  std::memset(load.to, 0, load.bytes);
  for (const BulkPiece &piece : load.pieces)
    std::memcpy(piece.to, piece.from, piece.bytes);
  if (!inFlight.empty())
    std::fill_n(inFlight.begin() + offsetOf(load.to), load.bytes, false);
  auto found = mbarriers.find(load.mbarrier);
  note = "its mbarrier is gone";
  if (found != mbarriers.end()) {
    if (found->second.actor)
      RaceDetector::learn(found->second.open, *found->second.actor, load.time);
    note = addTransaction(found->second, -int64_t(load.bytes));
  }
  if (!note.empty())
    failOutside("bulk copy at '" + siteText(load.site) + "' arrives: " + note);
}

void Block::checkBulkAlignment(const char *to, const char *from, uint32_t bytes,
                               uint32_t site) {
  auto value = reinterpret_cast<uintptr_t>(to);
  auto source = reinterpret_cast<uintptr_t>(from);
  if (bytes % kChunkBytes || value % kChunkBytes || source % kChunkBytes)
    fail(llvm::formatv("misaligned cp.async.bulk of {0} bytes from {1:x} to "
                       "{2:x} at '{3}'",
                       bytes, source, value, siteText(site)));
}

void Block::loadBulk(char *to, const char *from, uint32_t bytes,
                     const void *object, uint32_t site) {
  checkBulkAlignment(to, from, bytes, site);
  loads.push_back({to, bytes, {{to, from, bytes}}, 0, site, 0});
  startLoad(object);
}

void Block::loadTensor(char *to, const void *mapAddress,
                       llvm::ArrayRef<int32_t> at, const void *object,
                       uint32_t site) {
  constexpr uintptr_t align = 128;
  TensorMap map = tensorMapAt(mapAddress, at.size(), site);
  if (reinterpret_cast<uintptr_t>(to) % align != 0)
    fail(llvm::formatv("cp.async.bulk.tensor to {0:x}, which is not a multiple "
                       "of {1}, at '{2}'",
                       reinterpret_cast<uintptr_t>(to), align, siteText(site)));
  loads.push_back({to, static_cast<uint32_t>(map.boxBytes()), {}, 0, site, 0});
  BulkLoad &load = loads.back();
  forEachPiece(map, at, offsetOf(to),
               [&](uint64_t shared, char *global, uint32_t bytes) {
                 load.pieces.push_back(
                     {memory.sharedWindow + shared, global, bytes});
               });
  startLoad(object);
}

//===----------------------------------------------------------------------===//
// From shared memory
//===----------------------------------------------------------------------===//

void Block::startStore() {
  Thread &thread = threads[running];
  BulkStore &store = thread.openStores.back();
  AsyncReader reader{"a bulk copy", 0, 0, nullptr, store.site};
  if (launch.races) {
    if (!thread.bulkReader) {
      thread.bulkReader = launch.races->addActor();
      thread.bulkWriter = launch.races->addActor();
    }
    store.readTime = launch.races->tick(*thread.bulkReader);
    store.writeTime = launch.races->tick(*thread.bulkWriter);
    reader.actor = *thread.bulkReader;
    reader.time = store.readTime;
    reader.knows = &launch.races->clockOf(running);
  }
  for (const BulkPiece &piece : store.pieces) {
    readAsync(piece.from, piece.bytes, reader, store.chunks);
    if (launch.options.check < EmulatorCheck::Memory)
      continue;
    Access write{running, store.site, Access::Write, /*isAsync=*/true};
    checkAsyncAccess(piece.to, piece.bytes, write,
                     thread.bulkWriter.value_or(0), store.writeTime);
  }
}

void Block::storeBulk(char *to, const char *from, uint32_t bytes,
                      uint32_t site) {
  checkBulkAlignment(to, from, bytes, site);
  threads[running].openStores.push_back({{{to, from, bytes}}, {}, 0, 0, site});
  startStore();
}

void Block::storeTensor(const char *from, const void *mapAddress,
                        llvm::ArrayRef<int32_t> at, uint32_t site) {
  constexpr uintptr_t align = 128;
  TensorMap map = tensorMapAt(mapAddress, at.size(), site);
  if (reinterpret_cast<uintptr_t>(from) % align != 0)
    fail(llvm::formatv("cp.async.bulk.tensor from {0:x}, which is not a "
                       "multiple of {1}, at '{2}'",
                       reinterpret_cast<uintptr_t>(from), align,
                       siteText(site)));
  if (!isShared(from, map.boxBytes()))
    fail("bulk copy of what is not shared memory at '" + siteText(site) + "'");
  std::vector<BulkStore> &stores = threads[running].openStores;
  stores.push_back({{}, {}, 0, 0, site});
  forEachPiece(map, at, offsetOf(from),
               [&](uint64_t shared, char *global, uint32_t bytes) {
                 stores.back().pieces.push_back(
                     {global, memory.sharedWindow + shared, bytes});
               });
  startStore();
}

void Block::commitBulk() {
  Thread &thread = threads[running];
  thread.storeGroups.push_back(std::move(thread.openStores));
  thread.openStores.clear();
}

void Block::finishReads(const std::vector<BulkStore> &stores) {
  for (const BulkStore &store : stores) {
    for (const BulkPiece &piece : store.pieces)
      std::memcpy(piece.to, piece.from, piece.bytes);
    releaseChunks(store.chunks);
    if (launch.races)
      launch.races->learn(running, *threads[running].bulkReader,
                          store.readTime);
  }
}

// wait_group.read waits until the groups' reads are done; the others' writes
// are known only to who waits without it.
void Block::waitForBulk(uint32_t left, bool onlyReads) {
  Thread &thread = threads[running];
  while (thread.groupsRead + left < thread.storeGroups.size())
    finishReads(thread.storeGroups[thread.groupsRead++]);
  while (!onlyReads && thread.storeGroups.size() > left) {
    if (launch.races)
      for (const BulkStore &store : thread.storeGroups.front())
        launch.races->learn(running, *thread.bulkWriter, store.writeTime);
    thread.storeGroups.pop_front();
    --thread.groupsRead;
  }
}

void Block::checkThreadIsIdle() {
  Thread &thread = threads[running];
  if (!thread.openStores.empty() ||
      thread.groupsRead < thread.storeGroups.size())
    fail("the thread ends while bulk copies from shared memory that it has not "
         "waited for are under way");
  thread.storeGroups.clear();
  thread.groupsRead = 0;
  if (running / kWarpGroupSize >= warpGroups.size())
    return;
  const WarpGroup &group = warpGroups[running / kWarpGroupSize];
  if (group.isMultiplying())
    fail("the thread ends while products of wgmma that it has not waited for "
         "are under way");
}

} // namespace dlc::emu
