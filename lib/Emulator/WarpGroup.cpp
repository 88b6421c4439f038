// wgmma (PTX ISA 9.2, 9.7.15 "Asynchronous warpgroup level matrix
// multiply-accumulate"): register fragments (9.7.15.5.1.1), layouts of matrices
// in shared memory, their strides and descriptors (9.7.15.5.1.2), proxies
// (9.7.15.4), and wgmma.fence, commit_group and wait_group (9.7.15.7).
//
// The four warps of a warpgroup meet at each of these. A product is computed
// where it is issued, but until its group is waited for it counts as a reader
// of its shared memory: writing there is reported from level 1 on, and on level
// 2 who has not waited knows nothing of it. That sums are not read before they
// are waited for is checked in the code (Assembly.cpp).
//
// Of a descriptor: bits 0-13 start, 16-29 leading and 32-45 stride byte offset,
// each / 16, 49-51 base offset, 62-63 swizzle (0 none, 1 128, 2 64, 3 32
// bytes). An element of row r (of M or N) and step k of the fold, whose 32
// bytes are two chunks of 16, lies behind the start, before the swizzle of the
// address, at
//   K-major, no swizzle: r % 8 * 16 + r / 8 * stride + chunk * leading
//   K-major, S bytes:    r % 8 * S  + r / 8 * stride + chunk * 16
//   MN-major, none:      k % 8 * 16 + k / 8 * leading + r / 8 * stride
//   MN-major, S bytes:   k % 8 * S  + k / 8 * stride + r / (S / 2) * leading
// plus where it lies in its chunk, or in its run of S bytes; only elements of
// 16 bits may be MN-major.
//
// Floats: products are exact, sums of a product's steps are rounded once.
#include "Block.h"
#include "TensorFormats.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cstring>
#include <limits>

using namespace dlc;
using namespace dlc::emu;

static constexpr unsigned kRows = 64, kChunkBytes = 16, kFoldBytes = 32;

//===----------------------------------------------------------------------===//
// The warpgroup
//===----------------------------------------------------------------------===//

void Block::fenceWarpGroup(uint32_t site) {
  joinWarpGroup(WarpGroupOp::Fence, site, 0, nullptr);
}
void Block::commitWarpGroup(uint32_t site) {
  joinWarpGroup(WarpGroupOp::Commit, site, 0, nullptr);
}
void Block::waitForWarpGroup(uint32_t left, uint32_t site) {
  joinWarpGroup(WarpGroupOp::Wait, site, left, nullptr);
}
void Block::multiplyWarpGroup(uint32_t site, WgmmaOperands &operands) {
  joinWarpGroup(WarpGroupOp::Multiply, site, 0, &operands);
}

void Block::joinWarpGroup(WarpGroupOp op, uint32_t site, uint32_t left,
                          WgmmaOperands *operands) {
  unsigned index = running / kWarpGroupSize;
  if (index >= warpGroups.size())
    fail(llvm::formatv("wgmma in a warpgroup of less than {0} threads at '{1}'",
                       kWarpGroupSize, siteText(site)));
  WarpGroup &group = warpGroups[index];
  if (group.arrived == 0) {
    group.op = op;
    group.site = site;
    group.left = left;
  } else if (group.site != site || group.op != op) {
    fail(llvm::formatv("divergent warpgroup: this thread is at '{0}' while "
                       "others of its warpgroup wait at '{1}'",
                       siteText(site), siteText(group.site)));
  }
  group.operands[running % kWarpGroupSize] = operands;
  unsigned first = index * kWarpGroupSize;
  if (++group.arrived < kWarpGroupSize) {
    wait(ThreadStatus::AtWarpGroup, index, site);
    return;
  }
  group.arrived = 0;
  finishWarpGroupOp(group, first);
  for (unsigned thread = first; thread < first + kWarpGroupSize; ++thread)
    if (thread != running)
      makeReady(thread);
}

void Block::finishWarpGroupOp(WarpGroup &group, unsigned first) {
  switch (group.op) {
  case WarpGroupOp::Fence:
    group.isFenced = true;
    return;
  case WarpGroupOp::Multiply:
    multiplyGroup(group, first);
    return;
  case WarpGroupOp::Commit:
    group.groups.push_back(std::move(group.open));
    group.open = {};
    group.hasOpen = false;
    return;
  case WarpGroupOp::Wait:
    for (; group.groups.size() > group.left; group.groups.pop_front()) {
      const WarpGroup::Group &done = group.groups.front();
      releaseChunks(done.chunks);
      if (!group.actor)
        continue;
      // Of each other's own accesses the threads learn nothing.
      for (unsigned i = 0; i < kWarpGroupSize; ++i)
        launch.races->learn(first + i, *group.actor, done.time);
    }
    return;
  }
}

//===----------------------------------------------------------------------===//
// Matrices in shared memory
//===----------------------------------------------------------------------===//

namespace {
struct Descriptor {
  uint32_t start, leading, stride;
  unsigned span; ///< of the swizzle; 0: none
};
} // namespace

static Descriptor decode(uint64_t bits) {
  auto field = [&](unsigned at) {
    return static_cast<uint32_t>(bits >> at & 0x3fff) * kChunkBytes;
  };
  static const unsigned spans[] = {0, 128, 64, 32};
  return {field(0), field(16), field(32), spans[bits >> 62]};
}

/// Where the chunk begins that holds row `row` (K-major; of 8 rows, MN-major)
/// of step `chunk` (K-major: of the two chunks; MN-major: of the steps).
static uint32_t chunkOffset(const Descriptor &d, bool isTransposed,
                            unsigned row, unsigned step) {
  uint32_t offset = d.start;
  if (!isTransposed)
    offset += row % 8 * (d.span ? d.span : kChunkBytes) + row / 8 * d.stride +
              step * (d.span ? kChunkBytes : d.leading);
  else if (!d.span)
    offset +=
        step % 8 * kChunkBytes + step / 8 * d.leading + row / 8 * d.stride;
  else
    offset += step % 8 * d.span + step / 8 * d.stride +
              row / (d.span / 2) * d.leading + row % (d.span / 2) * 2;
  return static_cast<uint32_t>(swizzled(offset, d.span));
}

// elements[row * depth + step].
void Block::readMatrix(const WgmmaShape &shape, uint64_t bits, bool isA,
                       const AsyncReader &reader, std::vector<uint32_t> &chunks,
                       std::vector<float> &elements) {
  constexpr uint64_t reserved = uint64_t(0x3) << 14 | uint64_t(0x3) << 30 |
                                uint64_t(0x7) << 46 | uint64_t(0x3ff) << 52;
  if (bits & reserved)
    fail(llvm::formatv("matrix descriptor {0:x} with reserved bits at '{1}'",
                       bits, siteText(reader.site)));
  if (bits >> 49 & 7)
    fail(llvm::formatv("matrix descriptor {0:x} with a base offset, which is "
                       "not emulated, at '{1}'",
                       bits, siteText(reader.site)));
  Descriptor descriptor = decode(bits);
  ElementFormat format = formatOf(shape.type);
  bool isSigned =
      isA ? shape.type == MmaType::S8S8 || shape.type == MmaType::S8U8
          : shape.type == MmaType::S8S8 || shape.type == MmaType::U8S8;
  unsigned rows = isA ? kRows : shape.columns, depth = format.depth;
  bool isTransposed = isA ? shape.transposesA : shape.transposesB;
  float sign = (isA ? shape.negatesA : shape.negatesB) ? -1.0f : 1.0f;
  elements.resize(rows * depth);
  auto read = [&](unsigned row, unsigned step, auto put) {
    const char *address =
        memory.sharedWindow + chunkOffset(descriptor, isTransposed, row, step);
    readAsync(address, kChunkBytes, reader, chunks);
    uint32_t words[kChunkBytes / 4];
    std::memcpy(words, address, sizeof words);
    for (unsigned i = 0; i < format.perRegister * 4; ++i) {
      uint32_t word = words[i / format.perRegister];
      unsigned at = i % format.perRegister;
      put(i) = sign * (format.isInteger ? integerElement(word, at, isSigned)
                                        : floatElement(word, at, shape.type));
    }
  };
  if (isTransposed) {
    for (unsigned step = 0; step < depth; ++step)
      for (unsigned row = 0; row < rows; row += 8)
        read(row, step, [&](unsigned i) -> float & {
          return elements[(row + i) * depth + step];
        });
    return;
  }
  for (unsigned row = 0; row < rows; ++row)
    for (unsigned chunk = 0; chunk < kFoldBytes / kChunkBytes; ++chunk)
      read(row, chunk, [&](unsigned i) -> float & {
        return elements[row * depth + chunk * depth / 2 + i];
      });
}

//===----------------------------------------------------------------------===//
// The product
//===----------------------------------------------------------------------===//

// Thread t of the warpgroup: its warp has rows t / 32 * 16 on, laid out as the
// fragments of mma.sync: A's registers in TensorCore.cpp; the sums' register
// 4 j + q is row lane / 4 + q / 2 * 8, column 8 j + lane % 4 * 2 + q % 2.
void Block::multiplyGroup(WarpGroup &group, unsigned first) {
  const WgmmaOperands &leader = *group.operands[0];
  const WgmmaShape &shape = leader.shape;
  for (const WgmmaOperands *mine : group.operands)
    if (mine->bDescriptor != leader.bDescriptor ||
        mine->addsToSums != leader.addsToSums ||
        (!shape.aInRegisters && mine->aDescriptor != leader.aDescriptor))
      fail("threads of a warpgroup give different descriptors or scales at '" +
           siteText(group.site) + "'");
  if (!group.isFenced)
    fail("wgmma.mma_async with no wgmma.fence before it at '" +
         siteText(group.site) + "'");
  AsyncReader reader{"wgmma", 0, 0, nullptr, group.site};
  if (launch.races) {
    if (!group.actor)
      group.actor = launch.races->addActor();
    reader.actor = *group.actor;
    reader.time = group.open.time = launch.races->tick(*group.actor);
    // A warp goes on when all of its lanes are there, whatever the others know.
    for (unsigned warp = 0; warp < kWarpGroupSize / kWarpSize; ++warp) {
      VectorClock &known = warp ? otherKnowledge : knowledge;
      known.clear();
      for (unsigned lane = 0; lane < kWarpSize; ++lane)
        known.join(launch.races->clockOf(first + warp * kWarpSize + lane));
      if (warp)
        knowledge.meet(otherKnowledge);
    }
    reader.knows = &knowledge;
  }
  group.hasOpen = true;
  ElementFormat format = formatOf(shape.type);
  unsigned depth = format.depth, columns = shape.columns;
  std::vector<float> &a = factors[0], &b = factors[1];
  if (!shape.aInRegisters) {
    readMatrix(shape, leader.aDescriptor, true, reader, group.open.chunks, a);
  } else {
    bool isSigned = shape.type == MmaType::S8S8 || shape.type == MmaType::S8U8;
    float sign = shape.negatesA ? -1.0f : 1.0f;
    a.resize(kRows * depth);
    for (unsigned t = 0; t < kWarpGroupSize; ++t)
      for (unsigned r = 0; r < 4; ++r)
        for (unsigned i = 0; i < format.perRegister; ++i) {
          unsigned lane = t % kWarpSize;
          unsigned row = t / kWarpSize * 16 + lane / 4 + (r & 1 ? 8 : 0);
          unsigned step =
              lane % 4 * format.perRegister + i + (r & 2 ? depth / 2 : 0);
          uint32_t word = group.operands[t]->a[r];
          a[row * depth + step] =
              sign * (format.isInteger ? integerElement(word, i, isSigned)
                                       : floatElement(word, i, shape.type));
        }
  }
  readMatrix(shape, leader.bDescriptor, false, reader, group.open.chunks, b);

  sums.assign(size_t(kRows) * columns, 0);
  std::vector<double> &turned = turnedFactor;
  turned.resize(size_t(depth) * columns);
  for (unsigned column = 0; column < columns; ++column)
    for (unsigned k = 0; k < depth; ++k)
      turned[k * columns + column] = b[column * depth + k];
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned k = 0; k < depth; ++k) {
      double factor = a[row * depth + k];
      for (unsigned column = 0; column < columns; ++column)
        sums[row * columns + column] += factor * turned[k * columns + column];
    }

  for (unsigned t = 0; t < kWarpGroupSize; ++t) {
    const WgmmaOperands &mine = *group.operands[t];
    for (unsigned i = 0; i < columns / 2; ++i) {
      unsigned lane = t % kWarpSize;
      unsigned row = t / kWarpSize * 16 + lane / 4 + (i & 2 ? 8 : 0);
      unsigned column = i / 4 * 8 + lane % 4 * 2 + (i & 1);
      double sum = sums[row * columns + column];
      uint32_t &word = mine.sums[i];
      if (!format.isInteger) {
        double before = leader.addsToSums ? llvm::bit_cast<float>(word) : 0.0;
        word = llvm::bit_cast<uint32_t>(static_cast<float>(before + sum));
        continue;
      }
      int64_t total = static_cast<int64_t>(sum) +
                      (leader.addsToSums ? static_cast<int32_t>(word) : 0);
      if (shape.saturates)
        total = std::clamp<int64_t>(total, std::numeric_limits<int32_t>::min(),
                                    std::numeric_limits<int32_t>::max());
      word = static_cast<uint32_t>(total);
    }
  }
}

//===----------------------------------------------------------------------===//
// Clusters of one block
//===----------------------------------------------------------------------===//

// barrier.cluster (PTX ISA 9.2, 9.7.13.4): every thread arrives, then waits.
void Block::arriveAtCluster(uint32_t site) {
  Thread &thread = threads[running];
  if (thread.arrivedAtCluster)
    fail("barrier.cluster.arrive of a thread that has not waited since it "
         "arrived at '" +
         siteText(site) + "'");
  thread.arrivedAtCluster = true;
  if (launch.races)
    launch.races->release(running, cluster.open);
  if (++cluster.arrived < threads.size())
    return;
  cluster.arrived = 0;
  ++cluster.phase;
  cluster.complete = std::exchange(cluster.open, {});
  for (unsigned other : cluster.waiting) {
    if (launch.races)
      launch.races->acquire(other, cluster.complete);
    makeReady(other);
  }
  cluster.waiting.clear();
}

void Block::waitAtCluster(uint32_t site) {
  Thread &thread = threads[running];
  if (!thread.arrivedAtCluster)
    fail("barrier.cluster.wait of a thread that has not arrived at '" +
         siteText(site) + "'");
  thread.arrivedAtCluster = false;
  // Nobody arrives twice before all have waited: a phase with arrivals is new.
  if (cluster.phase > thread.clusterPhase) {
    ++thread.clusterPhase;
    if (launch.races)
      launch.races->acquire(running, cluster.complete);
    return;
  }
  ++thread.clusterPhase;
  cluster.waiting.push_back(running);
  wait(ThreadStatus::AtCluster, 0, site);
}
