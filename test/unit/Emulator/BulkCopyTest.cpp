// cp.async.bulk[.tensor]: boxes against plain loops, in both directions, and
// what must be reported.
#include "EmulatorTestUtils.h"

#include "dlc/Emulator/TensorMap.h"

#include <algorithm>
#include <cstring>
#include <functional>

using namespace dlc;
using namespace dlc::test;

namespace {

const char *const kDeclarations = R"(
declare void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3), i32)
declare i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3))
declare i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta(ptr addrspace(3), i32)
declare i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3), i32)
declare void @llvm.nvvm.fence.mbarrier_init.release.cluster()
declare void @llvm.nvvm.fence.proxy.async.shared_cta()
declare void @llvm.nvvm.fence.proxy.async.global()
declare void @llvm.nvvm.cp.async.bulk.commit.group()
declare void @llvm.nvvm.cp.async.bulk.wait.group(i32)
declare void @llvm.nvvm.cp.async.bulk.wait.group.read(i32)
declare void @llvm.nvvm.cp.async.bulk.global.to.shared.cta(ptr addrspace(3), ptr addrspace(3), ptr addrspace(1), i32, i64, i1)
declare void @llvm.nvvm.cp.async.bulk.shared.cta.to.global(ptr addrspace(1), ptr addrspace(3), i32, i64, i1)
@full = internal addrspace(3) global i64 undef, align 8
@tile = internal addrspace(3) global [8192 x i8] undef, align 1024
)";

/// A tensor in memory of its own, whose bytes count up, and a box of it.
struct Tensor {
  TensorMap map;
  std::vector<uint8_t> data;
  alignas(64) char encoded[TensorMap::kBytes];

  Tensor(TensorMapType type, std::vector<uint64_t> dims,
         std::vector<uint32_t> box,
         TensorMapSwizzle swizzle = TensorMapSwizzle::None) {
    map.type = type;
    map.rank = static_cast<unsigned>(dims.size());
    map.swizzle = swizzle;
    std::copy(dims.begin(), dims.end(), map.dims.begin());
    std::copy(box.begin(), box.end(), map.box.begin());
    // Rows are a chunk further apart than they need be.
    uint64_t bytes = (dims[0] * map.elementBytes() + 15) / 16 * 16 + 16;
    for (unsigned i = 1; i < map.rank; ++i) {
      map.strides[i - 1] = bytes;
      bytes *= dims[i];
    }
    data.resize(bytes + 16);
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<uint8_t>(i * 7 + i / 256 + 1);
    map.data = reinterpret_cast<void *>(
        (reinterpret_cast<uintptr_t>(data.data()) + 15) / 16 * 16);
  }

  std::string encode() { return errorOf(encodeTensorMap(map, encoded)); }

  /// Calls fn(byte of the tensor or -1, byte of the box in shared memory).
  void forEach(const std::vector<int> &at,
               const std::function<void(int64_t, int64_t)> &fn) const {
    auto element = static_cast<int64_t>(map.elementBytes());
    std::vector<uint32_t> index(map.rank);
    for (int64_t place = 0;; ++place) {
      int64_t from = 0;
      bool isInside = true;
      for (unsigned i = 0; i < map.rank; ++i) {
        int64_t x = at[i] + static_cast<int64_t>(index[i]);
        isInside &= x >= 0 && x < static_cast<int64_t>(map.dims[i]);
        from += x * (i ? static_cast<int64_t>(map.strides[i - 1]) : element);
      }
      for (int64_t byte = 0; byte < element; ++byte) {
        int64_t to = place * element + byte;
        // Rows of 128 bytes; of its chunks (8, 4 in each half, 2 in each
        // quarter) the one meant is taken apart by the row's number.
        int64_t row = to / 128, chunk = to / 16 % 8;
        switch (map.swizzle) {
        case TensorMapSwizzle::None:
          break;
        case TensorMapSwizzle::Bytes128:
          chunk ^= row % 8;
          break;
        case TensorMapSwizzle::Bytes64:
          chunk ^= row % 4;
          break;
        case TensorMapSwizzle::Bytes32:
          chunk ^= row % 2;
          break;
        }
        fn(isInside ? from + byte : -1, row * 128 + chunk * 16 + to % 16);
      }
      unsigned i = 0;
      while (i < map.rank && ++index[i] == map.box[i])
        index[i++] = 0;
      if (i == map.rank)
        return;
    }
  }
};

std::string copyCall(const std::string &name, const std::string &arguments,
                     const std::vector<int> &at) {
  std::string text = "  call void @llvm.nvvm.cp.async.bulk.tensor." + name +
                     std::to_string(at.size()) + "d(" + arguments;
  for (int x : at)
    text += ", i32 " + std::to_string(x);
  return text + ", i64 0, i1 false)\n";
}

std::string copyDeclaration(const std::string &name, const std::string &types,
                            size_t rank) {
  std::string text = "declare void @llvm.nvvm.cp.async.bulk.tensor." + name +
                     std::to_string(rank) + "d(" + types;
  for (size_t i = 0; i < rank; ++i)
    text += ", i32";
  return text + ", i64, i1)\n";
}

const char *const kHead = R"(
define ptx_kernel void @k(ptr byval([128 x i8]) align 64 %map, ptr addrspace(1) %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %z = icmp eq i32 %t, 0
  %p = getelementptr i32, ptr addrspace(3) @tile, i32 %t
  br label %entry
entry:
)";

/// Word t + 128 i of the tile goes to y, and the other way.
std::string moveTile(unsigned bytes, bool isRead) {
  std::string before = isRead ? "%over" : "%before";
  std::string text = "  br label %move\nmove:\n  %m = phi i32 [%t, " + before +
                     "], [%next, %move]\n  %sp = getelementptr i32, ptr "
                     "addrspace(3) @tile, i32 %m\n  %gp = getelementptr i32, "
                     "ptr addrspace(1) %y, i32 %m\n";
  text += isRead ? "  %v = load i32, ptr addrspace(3) %sp\n  store i32 %v, ptr "
                   "addrspace(1) %gp\n"
                 : "  %v = load i32, ptr addrspace(1) %gp\n  store i32 %v, ptr "
                   "addrspace(3) %sp\n";
  return text + "  %next = add i32 %m, 128\n  %more = icmp ult i32 %next, " +
         std::to_string(bytes / 4) +
         "\n  br i1 %more, label %move, label %moved\nmoved:\n";
}

/// Thread 0 initialises, expects and loads; all wait and read.
std::string loadKernel(const Tensor &tensor, const std::vector<int> &at) {
  auto bytes = static_cast<unsigned>(tensor.map.boxBytes());
  return copyDeclaration("g2s.cta.tile.",
                         "ptr addrspace(3), ptr addrspace(3), ptr", at.size()) +
         kHead +
         "  br i1 %z, label %init, label %start\ninit:\n"
         "  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @full, "
         "i32 1)\n  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()"
         "\n  br label %start\nstart:\n"
         "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n"
         "  br i1 %z, label %ask, label %before\nask:\n"
         "  %s = call i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space."
         "cta(ptr addrspace(3) @full, i32 " +
         std::to_string(bytes) + ")\n" +
         copyCall("g2s.cta.tile.",
                  "ptr addrspace(3) @tile, ptr addrspace(3) @full, ptr %map",
                  at) +
         "  br label %before\nbefore:\n"
         "  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space."
         "cta(ptr addrspace(3) @full, i32 0)\n"
         "  br i1 %w, label %over, label %before\nover:\n" +
         moveTile(bytes, /*isRead=*/true) + "  ret void\n}\n";
}

/// All write the tile; thread 0 stores it and waits until it is read.
std::string storeKernel(const Tensor &tensor, const std::vector<int> &at) {
  auto bytes = static_cast<unsigned>(tensor.map.boxBytes());
  return copyDeclaration("s2g.tile.", "ptr addrspace(3), ptr", at.size()) +
         kHead + "  br label %before\nbefore:\n" +
         moveTile(bytes, /*isRead=*/false) +
         "  call void @llvm.nvvm.fence.proxy.async.shared_cta()\n"
         "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n"
         "  br i1 %z, label %ask, label %done\nask:\n" +
         copyCall("s2g.tile.", "ptr addrspace(3) @tile, ptr %map", at) +
         "  call void @llvm.nvvm.cp.async.bulk.commit.group()\n"
         "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)\n"
         "  br label %done\ndone:\n  ret void\n}\n";
}

/// `kernel` with each `from` replaced by `to`.
std::string edited(std::string kernel, const std::string &from,
                   const std::string &to) {
  size_t at = kernel.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  for (; at != std::string::npos; at = kernel.find(from, at + to.size()))
    kernel.replace(at, from.size(), to);
  return kernel;
}

std::string run(const std::string &kernel, Tensor &tensor,
                std::vector<uint8_t> &y,
                EmulatorCheck check = EmulatorCheck::Races, uint64_t seed = 0,
                size_t missing = 0) {
  EXPECT_EQ(tensor.encode(), "");
  EmulatorOptions options;
  options.check = check;
  options.scheduleSeed = seed;
  auto module = loadOrFail(kDeclarations + kernel, options);
  void *out = y.data();
  EmulatedBuffer x = buffer(tensor.data, "x");
  x.bytes -= missing;
  return errorOf(module->launchRaw("k", {{1}, {128}}, {tensor.encoded, &out},
                                   {x, buffer(y, "y")}));
}

std::string runLoad(const std::string &from, const std::string &to,
                    EmulatorCheck check = EmulatorCheck::Races) {
  Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
  std::vector<uint8_t> y(tensor.map.boxBytes(), 0xee);
  return run(edited(loadKernel(tensor, {4, 2}), from, to), tensor, y, check);
}

std::string runStore(const std::string &from, const std::string &to,
                     EmulatorCheck check = EmulatorCheck::Races) {
  Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
  std::vector<uint8_t> y(tensor.map.boxBytes(), 0xee);
  return run(edited(storeKernel(tensor, {4, 2}), from, to), tensor, y, check);
}

const char *const kFence =
    "  call void @llvm.nvvm.fence.proxy.async.shared_cta()\n";
const char *const kBarrier =
    "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n";

struct Case {
  TensorMapType type;
  std::vector<uint64_t> dims;
  std::vector<uint32_t> box;
  TensorMapSwizzle swizzle;
  std::vector<int> at;
};

const std::vector<Case> kCases = {
    {TensorMapType::U32, {200}, {128}, TensorMapSwizzle::None, {90}},
    {TensorMapType::F32, {40, 20}, {32, 8}, TensorMapSwizzle::None, {4, 2}},
    // Over every edge, also beyond the first element, in chunks' midst.
    {TensorMapType::BF16,
     {70, 9},
     {64, 8},
     TensorMapSwizzle::Bytes128,
     {-3, -2}},
    {TensorMapType::BF16,
     {70, 30},
     {64, 16},
     TensorMapSwizzle::Bytes128,
     {9, 20}},
    {TensorMapType::F16,
     {33, 5, 4},
     {32, 4, 3},
     TensorMapSwizzle::Bytes64,
     {2, 3, 1}},
    {TensorMapType::U16,
     {16, 5, 4, 3},
     {16, 4, 2, 2},
     TensorMapSwizzle::Bytes32,
     {0, 1, 2, 2}},
    {TensorMapType::F64,
     {6, 3, 3, 2, 2},
     {4, 2, 3, 2, 2},
     TensorMapSwizzle::None,
     {1, 1, -1, 0, 1}},
    {TensorMapType::S32,
     {64, 8},
     {32, 4},
     TensorMapSwizzle::Bytes128,
     {100, 3}},
};

} // namespace

TEST(BulkCopy, LoadsBoxes) {
  for (const Case &c : kCases)
    for (uint64_t seed : {0, 1, 2}) {
      Tensor tensor(c.type, c.dims, c.box, c.swizzle);
      std::vector<uint8_t> y(tensor.map.boxBytes(), 0xee), wanted(y.size());
      ASSERT_EQ(
          run(loadKernel(tensor, c.at), tensor, y, EmulatorCheck::Races, seed),
          "");
      auto *data = static_cast<uint8_t *>(tensor.map.data);
      tensor.forEach(c.at, [&](int64_t from, int64_t to) {
        wanted[to] = from < 0 ? 0 : data[from];
      });
      ASSERT_EQ(y, wanted) << tensor.map.rank;
    }
}

TEST(BulkCopy, StoresBoxes) {
  for (const Case &c : kCases) {
    Tensor tensor(c.type, c.dims, c.box, c.swizzle);
    std::vector<uint8_t> y(tensor.map.boxBytes()), wanted = tensor.data;
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = static_cast<uint8_t>(i * 3 + 101);
    auto *data = static_cast<uint8_t *>(tensor.map.data);
    auto start = data - tensor.data.data();
    tensor.forEach(c.at, [&](int64_t to, int64_t from) {
      if (to >= 0)
        wanted[start + to] = y[from];
    });
    ASSERT_EQ(run(storeKernel(tensor, c.at), tensor, y), "");
    ASSERT_EQ(tensor.data, wanted) << tensor.map.rank;
  }
}

TEST(BulkCopy, LoadsThatAreNotWaitedFor) {
  const char *const early =
      "while an asynchronous copy that nobody has waited for writes it";
  const std::string wait =
      "  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta("
      "ptr addrspace(3) @full, i32 0)\n";
  EXPECT_EQ(runLoad(wait, wait), "");
  const std::string none = "  %w = icmp eq i32 0, 0\n";
  EXPECT_TRUE(contains(runLoad(wait, none), early));
  // The phase before the first is over.
  EXPECT_TRUE(contains(runLoad("@full, i32 0)", "@full, i32 1)"), early));
  // The arrival alone ends the phase.
  EXPECT_TRUE(contains(
      runLoad("call i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space."
              "cta(ptr addrspace(3) @full, i32 1024)",
              "call i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3) "
              "@full)"),
      early));
  // On level 0 the copy still arrives too late.
  EXPECT_TRUE(contains(runLoad(wait, none, EmulatorCheck::Execution),
                       "all threads have ended while the bulk copy at"));
}

TEST(BulkCopy, OneThreadMayWaitForTheOthers) {
  const std::string wait =
      "  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta("
      "ptr addrspace(3) @full, i32 0)\n";
  std::string one =
      "  %w = icmp eq i32 0, 0\n  br i1 %z, label %w1, label %w2\nw1:\n" +
      edited(wait, "%w =", "%wz =") +
      "  br i1 %wz, label %w2, label %w1\nw2:\n";
  auto runOne = [&](const std::string &more) {
    Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
    std::vector<uint8_t> y(1024, 0xee);
    return run(edited(loadKernel(tensor, {4, 2}), wait, one + more), tensor, y);
  };
  EXPECT_EQ(runOne(kBarrier), "");
  EXPECT_NE(runOne(""), "");
}

TEST(BulkCopy, TransactionBytes) {
  std::string report = runLoad("i32 1024)", "i32 1040)");
  EXPECT_TRUE(contains(report, "deadlock"));
  EXPECT_TRUE(contains(report, "16 bytes to come"));
  EXPECT_TRUE(contains(runLoad("i32 1024)", "i32 1008)"), "-16 bytes to come"));
}

TEST(BulkCopy, MisusesOfLoads) {
  EXPECT_TRUE(contains(
      runLoad("  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()\n",
              ""),
      "mbarrier whose initialisation no fence"));
  EXPECT_TRUE(contains(
      runLoad("(ptr addrspace(3) @tile, ptr addrspace(3) @full, ptr %map",
              "(ptr addrspace(3) getelementptr (i8, ptr addrspace(3) @tile, "
              "i32 64), ptr addrspace(3) @full, ptr %map"),
      "which is not a multiple of 128"));
  EXPECT_TRUE(contains(
      runLoad("(ptr addrspace(3) @tile, ptr addrspace(3) @full, ptr %map",
              "(ptr addrspace(3) getelementptr (i8, ptr addrspace(3) @tile, "
              "i32 7424), ptr addrspace(3) @full, ptr %map"),
      "out-of-bounds write of 1024 bytes at byte 7424 of 'shared tile'"));
  Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
  std::vector<uint8_t> y(1024, 0xee);
  // A map that says more than there is.
  EXPECT_TRUE(contains(run(loadKernel(tensor, {0, 15}), tensor, y,
                           EmulatorCheck::Memory, 0, /*missing=*/300),
                       "out-of-bounds read of 16 bytes at byte"));
  Tensor flat(TensorMapType::F32, {800}, {32});
  EXPECT_TRUE(contains(run(loadKernel(tensor, {0, 15}), flat, y),
                       "tensor map of 1 dims, but 2 coordinates"));
}

TEST(BulkCopy, FillingWhatIsStillRead) {
  // The first or the last thread loads again when it has read; of the others it
  // knows nothing.
  Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
  std::vector<uint8_t> y(1024, 0xee);
  std::string kernel = loadKernel(tensor, {4, 2});
  size_t at = kernel.find("  %s = call i64");
  size_t end = kernel.find("  br label %before", at);
  std::string again = edited(kernel.substr(at, end - at), "%s =", "%s2 =");
  auto more = [&](const char *thread) {
    return std::string("  %one = icmp eq i32 %t, ") + thread +
           "\n  br i1 %one, label %more1, label %more2\nmore1:\n" + again +
           "  br label %more2\nmore2:\n";
  };
  std::string wait =
      "  br label %again\nagain:\n"
      "  %w2 = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta("
      "ptr addrspace(3) @full, i32 1)\n"
      "  br i1 %w2, label %last, label %again\nlast:\n";
  auto runAgain = [&](const std::string &between, const char *thread) {
    return run(
        edited(kernel, "moved:\n", "moved:\n" + between + more(thread) + wait),
        tensor, y);
  };
  EXPECT_EQ(runAgain(kBarrier, "0"), "");
  EXPECT_EQ(runAgain(kBarrier, "127"), "");
  EXPECT_TRUE(contains(runAgain("", "0"), "while an asynchronous copy"));
  EXPECT_TRUE(contains(runAgain("", "127"), "race at byte"));
}

TEST(BulkCopy, ProxyFences) {
  std::string report = runStore(kFence, "", EmulatorCheck::Memory);
  EXPECT_TRUE(contains(report, "is read by a bulk copy at"));
  EXPECT_TRUE(contains(report, "with no fence.proxy.async"));
  EXPECT_TRUE(contains(runStore(kFence, ""), "with no fence.proxy.async"));
  // A fence of global memory is none of shared memory.
  EXPECT_TRUE(contains(
      runStore(kFence, "  call void @llvm.nvvm.fence.proxy.async.global()\n"),
      "with no fence.proxy.async"));
  // Behind the barrier the thread that copies may fence for all; before it, it
  // fences only for itself.
  std::string call = kFence;
  EXPECT_EQ(runStore(call + kBarrier, kBarrier + call), "");
  std::string alone = "  %one = icmp eq i32 %t, 127\n  br i1 %one, label %f1, "
                      "label %f2\nf1:\n" +
                      call + "  br label %f2\nf2:\n";
  EXPECT_TRUE(
      contains(runStore(call, alone), "with no fence.proxy.async between"));
}

TEST(BulkCopy, MisusesOfStores) {
  const char *const under = "bulk copies from shared memory that it has not "
                            "waited for are under way";
  const std::string wait =
      "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)\n";
  EXPECT_TRUE(contains(runStore(wait, ""), under));
  EXPECT_TRUE(contains(
      runStore("  call void @llvm.nvvm.cp.async.bulk.commit.group()\n", ""),
      under));
  EXPECT_TRUE(contains(
      runStore(wait, "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 "
                     "1)\n"),
      under));
  // Without the barrier the others may not have written.
  EXPECT_NE(runStore(kBarrier, ""), "");
  // What is being read is written.
  EXPECT_TRUE(contains(
      runStore(wait, "  store i32 0, ptr addrspace(3) %p\n" + wait),
      "while an asynchronous operation that nobody has waited for reads it"));
  EXPECT_EQ(runStore(wait, wait + "  store i32 0, ptr addrspace(3) %p\n"), "");
}

TEST(BulkCopy, WritesAreKnownWhenTheyAreWaitedFor) {
  Tensor tensor(TensorMapType::F32, {40, 20}, {32, 8});
  std::vector<uint8_t> y(1024);
  const std::string wait =
      "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)\n";
  // Element (4, 2) of the tensor.
  std::string place = std::to_string(2 * tensor.map.strides[0] + 16);
  auto readBack = [&](const std::string &waiting) {
    std::string text = storeKernel(tensor, {4, 2});
    text = edited(text, "ptr addrspace(1) %y)",
                  "ptr addrspace(1) %y, ptr addrspace(1) %x)");
    text =
        edited(text, wait,
               waiting + "  %xp = getelementptr i8, ptr addrspace(1) %x, i32 " +
                   place + "\n  %xv = load i32, ptr addrspace(1) %xp\n");
    EXPECT_EQ(tensor.encode(), "");
    EmulatorOptions options;
    options.check = EmulatorCheck::Races;
    auto module = loadOrFail(kDeclarations + text, options);
    void *out = y.data(), *x = tensor.map.data;
    return errorOf(
        module->launchRaw("k", {{1}, {128}}, {tensor.encoded, &out, &x},
                          {buffer(tensor.data, "x"), buffer(y, "y")}));
  };
  EXPECT_EQ(
      readBack("  call void @llvm.nvvm.cp.async.bulk.wait.group(i32 0)\n"), "");
  EXPECT_TRUE(contains(readBack(wait), "race at byte"));
}

TEST(BulkCopy, PlainBytes) {
  std::string kernel =
      std::string(kHead) +
      "  br i1 %z, label %init, label %before\ninit:\n"
      "  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @full, i32 "
      "1)\n  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()\n"
      "  %s = call i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space."
      "cta(ptr addrspace(3) @full, i32 512)\n"
      "  call void @llvm.nvvm.cp.async.bulk.global.to.shared.cta(ptr "
      "addrspace(3) @tile, ptr addrspace(3) @full, ptr addrspace(1) %y, i32 "
      "512, i64 0, i1 false)\n"
      "  br label %poll\npoll:\n"
      "  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta("
      "ptr addrspace(3) @full, i32 0)\n"
      "  br i1 %w, label %over, label %poll\nover:\n"
      "  %far = getelementptr i8, ptr addrspace(1) %y, i32 512\n"
      "  call void @llvm.nvvm.cp.async.bulk.shared.cta.to.global(ptr "
      "addrspace(1) %far, ptr addrspace(3) @tile, i32 512, i64 0, i1 false)\n"
      "  call void @llvm.nvvm.cp.async.bulk.commit.group()\n"
      "  call void @llvm.nvvm.cp.async.bulk.wait.group(i32 0)\n"
      "  br label %before\nbefore:\n  ret void\n}\n";
  Tensor tensor(TensorMapType::U8, {16}, {16});
  auto fresh = [] {
    std::vector<uint8_t> y(1024);
    for (size_t i = 0; i < 512; ++i)
      y[i] = static_cast<uint8_t>(i * 5 + 1);
    return y;
  };
  std::vector<uint8_t> y = fresh();
  ASSERT_EQ(run(kernel, tensor, y), "");
  EXPECT_TRUE(std::equal(y.begin(), y.begin() + 512, y.begin() + 512));
  EXPECT_TRUE(
      contains(run(edited(kernel, "%y, i32 512", "%y, i32 520"), tensor, y),
               "misaligned cp.async.bulk of 520 bytes"));
  EXPECT_TRUE(contains(run(edited(kernel, "i32 512, i64 0, i1 false)",
                                  "i32 544, i64 0, i1 false)"),
                           tensor, y),
                       "-32 bytes to come"));
}

TEST(BulkCopy, TensorMapsThatADriverRefuses) {
  auto refusal = [](auto change) {
    Tensor tensor(TensorMapType::BF16, {70, 9}, {64, 8},
                  TensorMapSwizzle::Bytes128);
    change(tensor.map);
    return tensor.encode();
  };
  EXPECT_EQ(refusal([](TensorMap &) {}), "");
  EXPECT_TRUE(
      contains(refusal([](TensorMap &m) { m.rank = 6; }), "tensorRank"));
  EXPECT_TRUE(contains(refusal([](TensorMap &m) { m.strides[0] = 150; }),
                       "globalStrides[0]"));
  EXPECT_TRUE(contains(refusal([](TensorMap &m) { m.box[1] = 257; }),
                       "boxDim[1] is 257"));
  EXPECT_TRUE(contains(refusal([](TensorMap &m) { m.box[0] = 72; }),
                       "more than the swizzle's 128"));
  EXPECT_TRUE(contains(refusal([](TensorMap &m) { m.box[0] = 4; }),
                       "not a multiple of 16"));
  EXPECT_TRUE(
      contains(refusal([](TensorMap &m) { m.dims[1] = 0; }), "globalDim[1]"));
  EXPECT_TRUE(contains(
      refusal([](TensorMap &m) { m.data = static_cast<char *>(m.data) + 8; }),
      "globalAddress"));
}
