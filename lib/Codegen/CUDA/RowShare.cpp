// See the header.
#include "RowShare.h"
#include "LaunchBuilder.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace dlc;

/// Elements of a row that a thread has: what suffices to hide memory's latency,
/// and what fits its registers.
static constexpr int64_t kGoodElements = 16, kMostElements = 32;
static constexpr int64_t kLegalElements = 64;
/// Registers for elements of all threads of a block: half of a multiprocessor's
/// are for what is computed.
static constexpr int64_t kBlockElements = 32 << 10;
static constexpr int64_t kMostThreads = 1024;
/// An A100's multiprocessors.
static constexpr int64_t kMultiprocessors = 108;

static int64_t powerAbove(int64_t value) {
  return static_cast<int64_t>(
      llvm::PowerOf2Ceil(static_cast<uint64_t>(std::max<int64_t>(value, 1))));
}

static void countPieces(RowShare &share) {
  share.pieces = share.keeps
                     ? std::max<int64_t>(
                           1, llvm::divideCeil(*share.elements,
                                               share.together * share.threads))
                     : std::max<int64_t>(1, kGoodElements / share.together);
}

static int64_t defaultBlockRows(const RowShare &share) {
  constexpr int64_t goodThreads = 128;
  int64_t least = std::max<int64_t>(1, kWarpThreads / share.threads);
  int64_t rows = std::max(least, goodThreads / share.threads);
  if (share.threads > kWarpThreads)
    return 1; // their folds wait for the whole block
  while (rows > least && share.rows &&
         *share.rows / rows < 4 * kMultiprocessors)
    rows /= 2;
  return rows;
}

void dlc::shareRows(RowShare &share, int64_t together) {
  share.together = together;
  share.keeps = share.elements && *share.elements <= kBlockElements;
  if (!share.keeps) {
    share.threads = share.elements ? 512 : 256;
    share.blockRows = 1;
    return countPieces(share);
  }
  int64_t elements = *share.elements;
  auto each = [&](int64_t threads) {
    return llvm::divideCeil(elements, together * threads) * together;
  };
  // A row is a few threads' or a warp's where their registers do: no barriers.
  int64_t lanes = powerAbove(llvm::divideCeil(elements, kGoodElements / 2));
  if (lanes <= kWarpThreads)
    share.threads = std::min(lanes, powerAbove(elements / together));
  else if (int64_t(each(kWarpThreads)) <= kMostElements)
    share.threads = kWarpThreads;
  else
    share.threads = std::clamp<int64_t>(
        powerAbove(llvm::divideCeil(elements, kGoodElements)), 64, 256);
  while (int64_t(each(share.threads)) > kMostElements)
    share.threads *= 2;
  // Few rows are spread out.
  while (share.rows && *share.rows <= 2 * kMultiprocessors &&
         share.threads < 256 &&
         int64_t(each(share.threads)) > kGoodElements / 2)
    share.threads *= 2;
  share.blockRows = defaultBlockRows(share);
  countPieces(share);
}

bool dlc::applyKnobs(RowShare &share, const KnobValues &knobs,
                     std::string &reason) {
  auto get = [&](const char *name) -> int64_t {
    auto it = knobs.find(name);
    return it == knobs.end() ? 0 : it->second;
  };
  auto refuse = [&](const char *why) {
    reason = why;
    return false;
  };
  if (int64_t threads = get("row_threads")) {
    share.threads = threads;
    share.blockRows = defaultBlockRows(share);
    countPieces(share);
  }
  if (int64_t rows = get("block_rows"))
    share.blockRows = rows;
  if (share.threads < 1 || share.threads > kMostThreads ||
      !llvm::isPowerOf2_64(share.threads))
    return refuse("row_threads is a power of two from 1 to 1024");
  if (share.blockRows < 1 || !llvm::isPowerOf2_64(share.blockRows))
    return refuse("block_rows is a power of two");
  if (share.blockRows > 1 && share.threads > kWarpThreads)
    return refuse("a block has several rows only where a warp has a whole one");
  if (share.blockThreads() % kWarpThreads ||
      share.blockThreads() > kMostThreads)
    return refuse("a block has 32 to 1024 threads");
  if (share.elements && share.threads > kWarpThreads &&
      share.threads / 2 * share.together >= *share.elements)
    return refuse("most of a row's threads are idle");
  if (share.keeps &&
      (share.elementsAThread() > kLegalElements ||
       share.elementsAThread() * share.blockThreads() > 2 * kBlockElements ||
       (share.elementsAThread() > kMostElements &&
        share.blockThreads() > kMostThreads / 2)))
    return refuse("a thread's elements of a row do not fit its registers");
  return true;
}
