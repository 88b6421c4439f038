// A matrix product as sm_90a does it: one warpgroup copies tiles by TMA into a
// ring of two stages, another multiplies them by wgmma and stores the result by
// TMA. As it is, it gives no report and the right numbers; of the bugs planted
// into it each is found.
#include "EmulatorTestUtils.h"

#include "dlc/Emulator/TensorMap.h"

#include <cmath>
#include <cstring>

using namespace dlc;
using namespace dlc::test;

namespace {

constexpr unsigned kM = 100, kN = 64, kK = 232; // the edges of tiles stick out
constexpr unsigned kTile = 64, kSums = 32;

const char *const kDeclarations = R"(
declare void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3), i32)
declare i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3))
declare i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta(ptr addrspace(3), i32)
declare i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3), i32)
declare void @llvm.nvvm.fence.mbarrier_init.release.cluster()
declare void @llvm.nvvm.fence.proxy.async.shared_cta()
declare void @llvm.nvvm.setmaxnreg.inc.sync.aligned.u32(i32)
declare void @llvm.nvvm.setmaxnreg.dec.sync.aligned.u32(i32)
declare void @llvm.nvvm.wgmma.fence.sync.aligned()
declare void @llvm.nvvm.wgmma.commit_group.sync.aligned()
declare void @llvm.nvvm.cp.async.bulk.commit.group()
declare void @llvm.nvvm.cp.async.bulk.wait.group.read(i32)
declare void @llvm.nvvm.cp.async.bulk.tensor.g2s.cta.tile.2d(ptr addrspace(3), ptr addrspace(3), ptr, i32, i32, i64, i1)
declare void @llvm.nvvm.cp.async.bulk.tensor.s2g.tile.2d(ptr addrspace(3), ptr, i32, i32, i64, i1)
@full = internal addrspace(3) global [2 x i64] undef, align 8
@free = internal addrspace(3) global [2 x i64] undef, align 8
@tiles = internal addrspace(3) global [32768 x i8] undef, align 1024
@out = internal addrspace(3) global [16384 x i8] undef, align 128
)";

const char *const kProducer = R"(
define ptx_kernel void @k(ptr byval([128 x i8]) align 64 "nvvm.grid_constant" %a, ptr byval([128 x i8]) align 64 "nvvm.grid_constant" %b, ptr byval([128 x i8]) align 64 "nvvm.grid_constant" %y) {
entry:
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %row = mul i32 %block, 64
  %isFirst = icmp eq i32 %t, 0
  br i1 %isFirst, label %init, label %start
init:
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @full, i32 1)
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) getelementptr (i64, ptr addrspace(3) @full, i32 1), i32 1)
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @free, i32 1)
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) getelementptr (i64, ptr addrspace(3) @free, i32 1), i32 1)
  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()
  br label %start
start:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %produces = icmp ult i32 %t, 128
  br i1 %produces, label %producer, label %consumer
producer:
  call void @llvm.nvvm.setmaxnreg.dec.sync.aligned.u32(i32 56)
  br i1 %isFirst, label %copy, label %end
copy:
  %i = phi i32 [0, %producer], [%i1, %fill]
  %stage = and i32 %i, 1
  %round = lshr i32 %i, 1
  %phase = and i32 %round, 1
  %before = xor i32 %phase, 1
  %f = getelementptr i64, ptr addrspace(3) @full, i32 %stage
  %e = getelementptr i64, ptr addrspace(3) @free, i32 %stage
  br label %pollFree
pollFree:
  %wait.free = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3) %e, i32 %before)
  br i1 %wait.free, label %fill, label %pollFree
fill:
  %expected = call i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta(ptr addrspace(3) %f, i32 16384)
  %offset = mul i32 %stage, 16384
  %toA = getelementptr i8, ptr addrspace(3) @tiles, i32 %offset
  %toB = getelementptr i8, ptr addrspace(3) %toA, i32 8192
  %k = mul i32 %i, 64
  call void @llvm.nvvm.cp.async.bulk.tensor.g2s.cta.tile.2d(ptr addrspace(3) %toA, ptr addrspace(3) %f, ptr %a, i32 %k, i32 %row, i64 0, i1 false)
  call void @llvm.nvvm.cp.async.bulk.tensor.g2s.cta.tile.2d(ptr addrspace(3) %toB, ptr addrspace(3) %f, ptr %b, i32 %k, i32 0, i64 0, i1 false)
  %i1 = add i32 %i, 1
  %copies = icmp ult i32 %i1, 4
  br i1 %copies, label %copy, label %end
)";

/// Sums go through the loop as the phis %s0, ...; @out holds them row by row.
std::string consumer() {
  std::string types = "{" + list("float", kSums) + "}";
  std::string text = R"(
consumer:
  call void @llvm.nvvm.setmaxnreg.inc.sync.aligned.u32(i32 240)
  %base = ptrtoint ptr addrspace(3) @tiles to i32
  %isLeader = icmp eq i32 %t, 128
  br label %multiply
multiply:
  %j = phi i32 [0, %consumer], [%j1, %released]
)";
  for (unsigned i = 0; i < kSums; ++i)
    text += "  %s" + std::to_string(i) + " = phi float [3.0, %consumer], [%w" +
            std::to_string(i) + ", %released]\n";
  text += R"(
  %cstage = and i32 %j, 1
  %cround = lshr i32 %j, 1
  %cphase = and i32 %cround, 1
  %cf = getelementptr i64, ptr addrspace(3) @full, i32 %cstage
  %ce = getelementptr i64, ptr addrspace(3) @free, i32 %cstage
  br label %pollFull
pollFull:
  %wait.full = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3) %cf, i32 %cphase)
  br i1 %wait.full, label %read, label %pollFull
read:
  %coffset = mul i32 %cstage, 16384
  %at = add i32 %base, %coffset
  %at18 = and i32 %at, 262143
  %at4 = lshr i32 %at18, 4
  %at64 = zext i32 %at4 to i64
  %da = or i64 %at64, 4611686293305360384
  %db = add i64 %da, 512
  %isLater = icmp ne i32 %j, 0
  %later = zext i1 %isLater to i32
  call void @llvm.nvvm.wgmma.fence.sync.aligned()
)";
  std::string assembly =
      "{ .reg .pred p; setp.ne.b32 p, $66, 0; wgmma.mma_async.sync.aligned."
      "m64n64k16.f32.bf16.bf16 {" +
      list("$#", kSums) + "}, $64, $65, p, 1, 1, 0, 0; }";
  std::string constraints =
      list("=f", kSums) + ", " + list("#", kSums) + ", l, l, r";
  std::string tied = list("=f", kSums) + ", " + list("#", kSums);
  std::erase(constraints, ' ');
  std::erase(tied, ' ');
  for (unsigned step = 0; step < 4; ++step) {
    std::string s = std::to_string(step);
    // 16 steps of the fold are 32 bytes of a row.
    text += "  %da" + s + " = add i64 %da, " + std::to_string(2 * step) +
            "\n  %db" + s + " = add i64 %db, " + std::to_string(2 * step) +
            "\n";
    std::string sums = "%s#";
    if (step) {
      std::string last = std::to_string(step - 1);
      for (unsigned i = 0; i < kSums; ++i)
        text += "  %d" + last + "_" + std::to_string(i) + " = extractvalue " +
                types + " %d" + last + ", " + std::to_string(i) + "\n";
      sums = "%d" + last + "_#";
    }
    text += "  %d" + s + " = call " + types + " asm sideeffect \"" + assembly +
            "\", \"" + constraints + "\"(" + list("float " + sums, kSums) +
            ", i64 %da" + s + ", i64 %db" + s + ", i32 " +
            (step ? "1" : "%later") + ")\n";
  }
  text += "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()\n";
  for (unsigned i = 0; i < kSums; ++i)
    text += "  %d3_" + std::to_string(i) + " = extractvalue " + types +
            " %d3, " + std::to_string(i) + "\n";
  text += "  %w = call " + types +
          " asm sideeffect \"wgmma.wait_group.sync.aligned 0;\", \"" + tied +
          "\"(" + list("float %d3_#", kSums) + ")\n";
  for (unsigned i = 0; i < kSums; ++i)
    text += "  %w" + std::to_string(i) + " = extractvalue " + types + " %w, " +
            std::to_string(i) + "\n";
  text += R"(
  br i1 %isLeader, label %release, label %released
release:
  %r = call i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3) %ce)
  br label %released
released:
  %j1 = add i32 %j, 1
  %more = icmp ult i32 %j1, 4
  br i1 %more, label %multiply, label %finish
finish:
  %local = and i32 %t, 127
  %warp = lshr i32 %local, 5
  %lane = and i32 %t, 31
  %group = lshr i32 %lane, 2
  %pair = and i32 %lane, 3
  %warpRow = mul i32 %warp, 16
  %firstRow = add i32 %warpRow, %group
  %firstColumn = mul i32 %pair, 2
  %rowStart = mul i32 %firstRow, 64
  %origin = add i32 %rowStart, %firstColumn
)";
  for (unsigned i = 0; i < kSums; ++i) {
    std::string s = std::to_string(i);
    unsigned place = (i % 4 / 2) * 8 * 64 + i / 4 * 8 + i % 2;
    text += "  %o" + s + " = add i32 %origin, " + std::to_string(place) +
            "\n  %op" + s +
            " = getelementptr float, ptr addrspace(3) @out, i32 "
            "%o" +
            s + "\n  store float %w" + s + ", ptr addrspace(3) %op" + s + "\n";
  }
  return text + R"(
  call void @llvm.nvvm.fence.proxy.async.shared_cta()
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 128)
  br i1 %isLeader, label %store, label %end
store:
  call void @llvm.nvvm.cp.async.bulk.tensor.s2g.tile.2d(ptr addrspace(3) @out, ptr %y, i32 0, i32 %row, i64 0, i1 false)
  call void @llvm.nvvm.cp.async.bulk.commit.group()
  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)
  br label %end
end:
  ret void
}
)";
}

/// What the host gives: a[m][k], b[n][k] of bf16 small integers, y[m][n].
struct Problem {
  std::vector<uint16_t> a = std::vector<uint16_t>(kM * kK + 8);
  std::vector<uint16_t> b = std::vector<uint16_t>(kN * kK + 8);
  std::vector<float> y = std::vector<float>(kM * kN + 4, NAN);
  TensorMap maps[3];

  template <typename T>
  static T *align(std::vector<T> &data) {
    return reinterpret_cast<T *>(
        (reinterpret_cast<uintptr_t>(data.data()) + 15) / 16 * 16);
  }
  static int left(unsigned m, unsigned k) { return int(m * 5 + k * 3) % 9 - 4; }
  static int right(unsigned n, unsigned k) { return int(n * 7 + k) % 11 - 5; }
  static uint16_t bits(int value) {
    auto number = static_cast<float>(value);
    uint32_t word = 0;
    std::memcpy(&word, &number, sizeof word);
    return static_cast<uint16_t>(word >> 16);
  }

  Problem() {
    for (unsigned k = 0; k < kK; ++k) {
      for (unsigned m = 0; m < kM; ++m)
        align(a)[m * kK + k] = bits(left(m, k));
      for (unsigned n = 0; n < kN; ++n)
        align(b)[n * kK + k] = bits(right(n, k));
    }
    auto map = [](TensorMapType type, void *data, unsigned inner,
                  unsigned outer, uint64_t stride, TensorMapSwizzle swizzle) {
      TensorMap m;
      m.type = type;
      m.rank = 2;
      m.data = data;
      m.dims = {inner, outer};
      m.strides = {stride};
      m.box = {kTile, kTile};
      m.swizzle = swizzle;
      return m;
    };
    maps[0] = map(TensorMapType::BF16, align(a), kK, kM, kK * 2,
                  TensorMapSwizzle::Bytes128);
    maps[1] = map(TensorMapType::BF16, align(b), kK, kN, kK * 2,
                  TensorMapSwizzle::Bytes128);
    maps[2] = map(TensorMapType::F32, align(y), kN, kM, kN * 4,
                  TensorMapSwizzle::None);
  }

  /// The report, or "wrong number", or nothing.
  std::string run(const std::string &kernel, uint64_t seed = 0) {
    alignas(64) static char encoded[3][TensorMap::kBytes];
    std::vector<const void *> arguments;
    for (unsigned i = 0; i < 3; ++i) {
      EXPECT_EQ(errorOf(encodeTensorMap(maps[i], encoded[i])), "");
      arguments.push_back(encoded[i]);
    }
    EmulatorOptions options;
    options.check = EmulatorCheck::Races;
    options.scheduleSeed = seed;
    Loaded loaded = load(kDeclarations + kernel, options);
    if (!loaded.module)
      return loaded.error;
    std::string report = errorOf(loaded.module->launchRaw(
        "k", {{2}, {256}}, arguments,
        {buffer(a, "a", false), buffer(b, "b", false), buffer(y, "y")}));
    if (!report.empty())
      return report;
    for (unsigned m = 0; m < kM; ++m)
      for (unsigned n = 0; n < kN; ++n) {
        int sum = 0;
        for (unsigned k = 0; k < kK; ++k)
          sum += left(m, k) * right(n, k);
        if (!(align(y)[m * kN + n] == static_cast<float>(sum)))
          return "wrong number";
      }
    return {};
  }
};

struct Bug {
  const char *name;
  const char *from, *to;
  const char *report; ///< what must be said; "": anything
  const char *alsoFrom = "", *alsoTo = "";
};

const char *const kWaitFree =
    "  %wait.free = call i1 "
    "@llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space."
    "cta(ptr addrspace(3) %e, i32 %before)\n";
const char *const kWaitFull =
    "  %wait.full = call i1 "
    "@llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space."
    "cta(ptr addrspace(3) %cf, i32 %cphase)\n";
const char *const kArrive =
    "  %r = call i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3) %ce)\n";
const char *const kEarly =
    "while an asynchronous copy that nobody has waited for writes it";

const Bug kBugs[] = {
    {"a stage is filled while it is read", kWaitFree,
     "  %wait.free = icmp eq i32 0, 0\n", ""},
    {"wrong phase of the producer", "%e, i32 %before)", "%e, i32 %phase)",
     "deadlock"},
    {"a stage is read before it is full", kWaitFull,
     "  %wait.full = icmp eq i32 0, 0\n", kEarly},
    {"a wait that is not repeated",
     "  br i1 %wait.full, label %read, label %pollFull", "  br label %read",
     "nothing looks at the result of"},
    {"wrong phase of the consumer", "%cf, i32 %cphase)", "%cf, i32 0)", ""},
    {"the other phase of the consumer", "%cphase = and i32 %cround, 1",
     "%cphase = xor i32 %cround, 1", kEarly},
    {"bytes of one tile expected", "%f, i32 16384)", "%f, i32 8192)", ""},
    {"bytes of three tiles expected", "%f, i32 16384)", "%f, i32 24576)",
     "8192 bytes to come"},
    {"no bytes expected",
     "arrive.expect.tx.scope.cta.space.cta(ptr addrspace(3) %f, i32 16384)",
     "arrive.shared(ptr addrspace(3) %f)", kEarly},
    {"a stage is never released", kArrive, "", "deadlock"},
    {"a release too few", "ptr addrspace(3) @free, i32 1)",
     "ptr addrspace(3) @free, i32 2)", "(1 of 2 arrived)"},
    {"too many arrivals", "  br i1 %isLeader, label %release, label %released",
     "  br label %release", "nobody has waited for the phase before"},
    {"a stage is released before it is read",
     "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()\n",
     "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()\n  br i1 "
     "%isLeader, label %early, label %late\nearly:\n  %r = call i64 "
     "@llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3) %ce)\n  br label "
     "%late\nlate:\n",
     "read by an asynchronous operation of thread", kArrive, ""},
    {"a group too few is waited for", "wait_group.sync.aligned 0;",
     "wait_group.sync.aligned 1;", ""},
    {"missing wgmma.fence",
     "  call void @llvm.nvvm.wgmma.fence.sync.aligned()\n", "",
     "with no wgmma.fence before it"},
    {"missing commit",
     "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()\n", "", ""},
    {"sums used before they are waited for", "store float %w0,",
     "store float %d3_0,", "used with no wait between"},
    {"wrong swizzle of the descriptor", "4611686293305360384",
     "9223372311732748288", "wrong number"},
    {"wrong stride of the descriptor", "4611686293305360384",
     "4611686155866406912", "wrong number"},
    {"wrong step along the fold", "add i64 %da, 4", "add i64 %da, 6",
     "wrong number"},
    {"B is read where A lies", "add i64 %da, 512", "add i64 %da, 0",
     "wrong number"},
    {"stale stage", "%coffset = mul i32 %cstage, 16384",
     "%coffset = mul i32 %cstage, 0", ""},
    {"sums start with what was there", "%later = zext i1 %isLater to i32",
     "%later = add i32 0, 1", "wrong number"},
    {"copies a step too few", "%copies = icmp ult i32 %i1, 4",
     "%copies = icmp ult i32 %i1, 3", "deadlock"},
    {"copies a step too many", "%copies = icmp ult i32 %i1, 4",
     "%copies = icmp ult i32 %i1, 5", "is under way"},
    {"multiplies a step too few", "%more = icmp ult i32 %j1, 4",
     "%more = icmp ult i32 %j1, 3", ""},
    {"multiplies a step too many", "%more = icmp ult i32 %j1, 4",
     "%more = icmp ult i32 %j1, 5", "deadlock"},
    {"wrong coordinate", "ptr %b, i32 %k, i32 0", "ptr %b, i32 %k, i32 1",
     "wrong number"},
    {"tiles overlap", "%toA, i32 8192", "%toA, i32 7168", kEarly},
    {"misaligned tile", "%toA, i32 8192", "%toA, i32 8200", "not a multiple"},
    {"missing fence of the initialisation",
     "  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()\n", "",
     "whose initialisation no fence"},
    {"missing barrier behind the initialisation",
     "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n", "",
     "mbarrier"},
    {"missing proxy fence",
     "  call void @llvm.nvvm.fence.proxy.async.shared_cta()\n", "",
     "no fence.proxy.async"},
    {"missing barrier before the result is stored",
     "  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 128)\n",
     "", ""},
    {"barrier of the wrong number", "count(i32 1, i32 128)",
     "count(i32 1, i32 256)", "deadlock"},
    {"result not in a group",
     "  call void @llvm.nvvm.cp.async.bulk.commit.group()\n", "",
     "has not waited for"},
    {"result not waited for",
     "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)\n", "",
     "has not waited for"},
    {"registers of no multiple of 8", "u32(i32 240)", "u32(i32 236)",
     "setmaxnreg"},
};

} // namespace

TEST(AsyncPipeline, IsRightAndGivesNoReport) {
  for (uint64_t seed : {0, 1, 2, 3, 4}) {
    Problem problem;
    ASSERT_EQ(problem.run(kProducer + consumer(), seed), "") << seed;
  }
}

TEST(AsyncPipeline, PlantedBugsAreFound) {
  const std::string kernel = kProducer + consumer();
  for (const Bug &bug : kBugs) {
    std::string text = kernel;
    auto edit = [&](const char *from, const char *to) {
      size_t at = text.find(from);
      ASSERT_NE(at, std::string::npos) << bug.name;
      text.replace(at, std::strlen(from), to);
    };
    edit(bug.alsoFrom, bug.alsoTo);
    edit(bug.from, bug.to);
    Problem problem;
    std::string found = problem.run(text);
    EXPECT_NE(found, "") << bug.name;
    EXPECT_TRUE(contains(found, bug.report)) << bug.name;
  }
  EXPECT_GE(std::size(kBugs), 20u);
}

TEST(AsyncPipeline, WrongTensorMapsAreFound) {
  const std::string kernel = kProducer + consumer();
  Problem swizzle;
  swizzle.maps[1].swizzle = TensorMapSwizzle::None;
  EXPECT_EQ(swizzle.run(kernel), "wrong number");
  Problem dims;
  dims.maps[0].dims[1] = kM + 1; // a row beyond the buffer
  EXPECT_TRUE(contains(dims.run(kernel), "out-of-bounds read"));
  Problem stride;
  stride.maps[1].strides[0] += 16;
  EXPECT_NE(stride.run(kernel), "");
  Problem result;
  result.maps[2].dims[1] = kM + 1;
  EXPECT_TRUE(contains(result.run(kernel), "out-of-bounds write"));
  Problem box;
  box.maps[0].box[1] = 32;
  EXPECT_TRUE(contains(box.run(kernel), "bytes to come"));
}
