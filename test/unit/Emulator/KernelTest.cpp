// Whole kernels: the numbers must be right, also when threads run out of order.
#include "EmulatorTestUtils.h"

#include <cmath>
#include <numeric>

using namespace dlc;
using namespace dlc::test;

// y[i] = x[i] * 2 + i for i < n; the grid is larger than n.
static const char *const kScale = R"(
define ptx_kernel void @scale(ptr addrspace(1) %x, ptr %y, i64 %n) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %b = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %w = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %m = mul i32 %b, %w
  %s = add i32 %m, %t
  %i = zext i32 %s to i64
  %ok = icmp slt i64 %i, %n
  br i1 %ok, label %body, label %end
body:
  %px = getelementptr float, ptr addrspace(1) %x, i64 %i
  %v = load float, ptr addrspace(1) %px
  %v2 = fmul float %v, 2.0
  %f = uitofp i64 %i to float
  %r = fadd float %v2, %f
  %py = getelementptr float, ptr %y, i64 %i
  store float %r, ptr %py
  br label %end
end:
  ret void
}
)";

TEST(Kernel, GridOfBlocksWithTail) {
  auto module = loadOrFail(kScale);
  EXPECT_EQ(module->kernelNames(), std::vector<std::string>{"scale"});
  std::vector<float> x(1000), y(1000, -1);
  std::iota(x.begin(), x.end(), 1.0f);
  ASSERT_EQ(
      errorOf(module->launch("scale", {{8}, {128}},
                             {buffer(x, "x", false), buffer(y, "y")}, {1000})),
      "");
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(y[i], 2.0f * (i + 1) + i) << i;
}

// One block a row: the maximum and the sum by shuffles, then across warps
// through shared memory.
static const char *const kSoftmax = R"(
@part = internal addrspace(3) global [8 x float] undef, align 16

define ptx_kernel void @softmax(ptr %x, ptr %y, i64 %n) "nvvm.maxntid"="256" {
entry:
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %b = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %lane = and i32 %t, 31
  %warp = lshr i32 %t, 5
  %t64 = zext i32 %t to i64
  %b64 = zext i32 %b to i64
  %row = mul i64 %b64, %n
  %i = add i64 %row, %t64
  %px = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %px
  %l = fmul float %v, 0x3FF7154760000000
  %e = call float @llvm.nvvm.ex2.approx.ftz.f32(float %l)
  %a16 = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %e, i32 16, i32 31)
  %s16 = fadd float %e, %a16
  %a8 = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %s16, i32 8, i32 31)
  %s8 = fadd float %s16, %a8
  %a4 = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %s8, i32 4, i32 31)
  %s4 = fadd float %s8, %a4
  %a2 = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %s4, i32 2, i32 31)
  %s2 = fadd float %s4, %a2
  %a1 = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %s2, i32 1, i32 31)
  %s1 = fadd float %s2, %a1
  %w64 = zext i32 %warp to i64
  %pw = getelementptr [8 x float], ptr addrspace(3) @part, i64 0, i64 %w64
  store float %s1, ptr addrspace(3) %pw
  BARRIER
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
  %acc = phi float [ 0.0, %entry ], [ %acc1, %loop ]
  %pk = getelementptr [8 x float], ptr addrspace(3) @part, i64 0, i64 %k
  %pv = load float, ptr addrspace(3) %pk
  %acc1 = fadd float %acc, %pv
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, 8
  br i1 %more, label %loop, label %done
done:
  %inv = call float @llvm.nvvm.rcp.approx.ftz.f(float %acc1)
  %r = fmul float %e, %inv
  %py = getelementptr float, ptr %y, i64 %i
  store float %r, ptr %py
  ret void
}
)";

static std::string withBarrier(const char *text, bool barrier) {
  std::string ir = text;
  ir.replace(ir.find("BARRIER"), 7,
             barrier
                 ? "call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"
                 : "");
  return ir;
}

static double softmaxError(EmulatedModule &module, std::string &error) {
  const int rows = 3, columns = 256;
  std::vector<float> x(rows * columns), y(rows * columns);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = std::sin(0.37f * i) * 3;
  error = errorOf(module.launch("softmax", {{rows}, {columns}},
                                {buffer(x, "x", false), buffer(y, "y")},
                                {columns}));
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    double sum = 0;
    for (int c = 0; c < columns; ++c)
      sum += std::exp(double(x[r * columns + c]));
    for (int c = 0; c < columns; ++c) {
      double off = std::fabs(y[r * columns + c] -
                             std::exp(double(x[r * columns + c])) / sum);
      if (!std::isnan(worst) && !(off <= worst))
        worst = off; // the first NaN stays
    }
  }
  return worst;
}

TEST(Kernel, SoftmaxRightInAnyThreadOrder) {
  for (uint64_t seed : {0, 1, 2, 3}) {
    EmulatorOptions options;
    options.scheduleSeed = seed;
    auto module = loadOrFail(withBarrier(kSoftmax, true), options);
    std::string error;
    EXPECT_LE(softmaxError(*module, error), 1e-6);
    EXPECT_EQ(error, "");
  }
}

// The control of the test above: shared memory starts as NaN, so that a value
// read before it is written does not look right.
TEST(Kernel, MissingBarrierShowsAsNaN) {
  auto module = loadOrFail(withBarrier(kSoftmax, false));
  std::string error;
  EXPECT_TRUE(std::isnan(softmaxError(*module, error)));
}

TEST(Kernel, DynamicSharedMemoryAndTwoDimensions) {
  // Transposes an 8 x 4 tile in dynamic shared memory.
  auto module = loadOrFail(R"(
@tile = external addrspace(3) global [0 x i32], align 16
define ptx_kernel void @transpose(ptr %x, ptr %y) {
  %c = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %r = call i32 @llvm.nvvm.read.ptx.sreg.tid.y()
  %r8 = mul i32 %r, 8
  %i = add i32 %r8, %c
  %px = getelementptr i32, ptr %x, i32 %i
  %v = load i32, ptr %px
  %ps = getelementptr i32, ptr addrspace(3) @tile, i32 %i
  store i32 %v, ptr addrspace(3) %ps
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %row = and i32 %i, 3
  %col = lshr i32 %i, 2
  %row8 = mul i32 %row, 8
  %j = add i32 %row8, %col
  %pt = getelementptr i32, ptr addrspace(3) @tile, i32 %j
  %w = load i32, ptr addrspace(3) %pt
  %py = getelementptr i32, ptr %y, i32 %i
  store i32 %w, ptr %py
  ret void
})");
  std::vector<int> x(32), y(32);
  std::iota(x.begin(), x.end(), 0);
  LaunchShape shape{{1}, {8, 4}, 32 * sizeof(int)};
  auto buffers = {buffer(x, "x"), buffer(y, "y")};
  ASSERT_EQ(errorOf(module->launch("transpose", shape, buffers)), "");
  for (int c = 0; c < 8; ++c)
    for (int r = 0; r < 4; ++r)
      EXPECT_EQ(y[c * 4 + r], x[r * 8 + c]);
  // Control: with one element less, the last store is out of bounds.
  shape.sharedBytes -= sizeof(int);
  EXPECT_TRUE(contains(errorOf(module->launch("transpose", shape, buffers)),
                       "dynamic shared memory"));
}

TEST(Kernel, RawArgumentsAtomicsConstantsAndStack) {
  auto module = loadOrFail(R"(
@table = internal unnamed_addr addrspace(4) constant [4 x i32] [i32 1, i32 2, i32 3, i32 4]
@total = internal addrspace(1) global i32 0
define i32 @helper(i32 %i) {
  %p = getelementptr [4 x i32], ptr addrspace(4) @table, i32 0, i32 %i
  %v = load i32, ptr addrspace(4) %p
  ret i32 %v
}
define ptx_kernel void @count(ptr %sum, i32 %scale, ptr byval({i32, i32}) %pair) {
  %local = alloca [4 x i32]
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %i = and i32 %t, 3
  %v = call i32 @helper(i32 %i)
  %p = getelementptr i32, ptr %local, i32 %i
  store i32 %v, ptr %p
  %w = load i32, ptr %p
  %q = getelementptr i32, ptr %pair, i32 1
  %k = load i32, ptr %q
  %m = mul i32 %w, %scale
  %n = add i32 %m, %k
  %old = atomicrmw add ptr %sum, i32 %n monotonic
  %old2 = atomicrmw add ptr addrspace(1) @total, i32 1 monotonic
  call void @llvm.nvvm.membar.gl()
  ret void
})");
  std::vector<int> sum(1, 0);
  void *pointer = sum.data();
  int scale = 10;
  struct {
    int first = 5, second = 7;
  } pair;
  const void *arguments[] = {&pointer, &scale, &pair};
  ASSERT_EQ(errorOf(module->launchRaw(
                "count", {{2}, {8}}, arguments,
                {buffer(sum, "sum"), {&pair, sizeof(pair), "pair"}})),
            "");
  EXPECT_EQ(sum[0], 2 * 2 * (10 + 20 + 30 + 40) + 16 * 7);
}

// Two numbers in a word, the first in its high half: to the nearest, ties to
// even, also of subnormal f16; empty assembly that values pass through.
TEST(Kernel, RoundsPairs) {
  auto module = loadOrFail(R"(
declare <2 x half> @llvm.nvvm.ff2f16x2.rn(float, float)
declare <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float, float)

define ptx_kernel void @pairs(ptr %x, ptr %y, ptr %z) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %px = getelementptr float, ptr %x, i32 %t
  %given = load float, ptr %px
  %v = call float asm sideeffect "", "=f,0"(float %given)
  %h = call <2 x half> @llvm.nvvm.ff2f16x2.rn(float %v, float 1.0)
  %b = call <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float 1.0, float %v)
  %py = getelementptr i32, ptr %y, i32 %t
  store <2 x half> %h, ptr %py
  %pz = getelementptr i32, ptr %z, i32 %t
  store <2 x bfloat> %b, ptr %pz
  ret void
})");
  std::vector<uint32_t> x{
      0x3f801000, 0x3f803000, 0xbf801001, // halves: to even, up, up
      0x477fefff, 0x477ff000,             // the largest, and beyond
      0x33000000, 0x33000001, 0x33c00000, // 2^-25, more, and 3 * 2^-25
      0xff800000, 0x7f800001};
  std::vector<uint32_t> y(x.size()), z(x.size());
  ASSERT_EQ(errorOf(module->launch(
                "pairs", {{1}, {static_cast<unsigned>(x.size())}},
                {buffer(x, "x", false), buffer(y, "y"), buffer(z, "z")}, {})),
            "");
  std::vector<uint32_t> halves{0x3c00, 0x3c02, 0xbc01, 0x7bff, 0x7c00,
                               0,      1,      2,      0xfc00, 0x7fff},
      bfloats{0x3f80, 0x3f80, 0xbf80, 0x4780, 0x4780,
              0x3300, 0x3300, 0x33c0, 0xff80, 0x7fff};
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(y[i], halves[i] << 16 | 0x3c00) << i;
    EXPECT_EQ(z[i], 0x3f800000 | bfloats[i]) << i;
  }
}

// y[i] = x[i] rounded to tf32, z[i] = 5 and the four bytes of x[i], each signed
// times 1, 2, -3, 100, and unsigned times 1, 2, 253, 100.
static const char *const kBytes = R"(
declare i32 @llvm.nvvm.f2tf32.rna(float)
declare i32 @llvm.nvvm.idp4a.s.s(i32, i32, i32)
declare i32 @llvm.nvvm.idp4a.u.u(i32, i32, i32)

define ptx_kernel void @bytes(ptr %x, ptr %y, ptr %z) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %i = zext i32 %t to i64
  %px = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %px
  %r = call i32 @llvm.nvvm.f2tf32.rna(float %v)
  %py = getelementptr i32, ptr %y, i64 %i
  store i32 %r, ptr %py
  %w = bitcast float %v to i32
  %s = call i32 @llvm.nvvm.idp4a.s.s(i32 %w, i32 1694302721, i32 5)
  %u = call i32 @llvm.nvvm.idp4a.u.u(i32 %w, i32 1694302721, i32 %s)
  %pz = getelementptr i32, ptr %z, i64 %i
  store i32 %u, ptr %pz
  ret void
}
)";

TEST(Kernel, RoundsToTf32AndMultipliesBytes) {
  auto module = loadOrFail(kBytes);
  std::vector<uint32_t> x = {
      0x3f800fff, 0x3f801000, 0xbf801000, // below, at and at the other half
      0x3f803000,                         // not to even: up
      0x7f7fffff, 0x7f800000,             // to infinity; infinity
      0x7fc00001, 0xff800123, 0x80001000};
  std::vector<uint32_t> rounded = {0x3f800000, 0x3f802000, 0xbf802000,
                                   0x3f804000, 0x7f800000, 0x7f800000,
                                   0x7fffe000, 0x7fffe000, 0x80002000};
  std::vector<uint32_t> y(x.size()), z(x.size());
  ASSERT_EQ(errorOf(module->launch(
                "bytes", {{1}, {static_cast<unsigned>(x.size())}},
                {buffer(x, "x", false), buffer(y, "y"), buffer(z, "z")}, {})),
            "");
  EXPECT_EQ(y, rounded);
  for (size_t i = 0; i < x.size(); ++i) {
    int32_t wanted = 5;
    for (int byte = 0; byte < 4; ++byte) {
      auto a = static_cast<uint8_t>(x[i] >> (8 * byte)),
           b = static_cast<uint8_t>(1694302721u >> (8 * byte));
      wanted += static_cast<int8_t>(a) * static_cast<int8_t>(b) + a * b;
    }
    EXPECT_EQ(static_cast<int32_t>(z[i]), wanted) << i;
  }
}

// To the nearest, ties to even; what is too large is infinite, a NaN 0x7fff.
TEST(Kernel, RoundsToBf16) {
  auto module = loadOrFail(R"(
define ptx_kernel void @round(ptr %x, ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %px = getelementptr float, ptr %x, i32 %t
  %v = load float, ptr %px
  %h = fptrunc float %v to bfloat
  %py = getelementptr bfloat, ptr %y, i32 %t
  store bfloat %h, ptr %py
  ret void
})");
  std::vector<uint32_t> x{0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001,
                          0xbf807fff, 0x7f7fffff, 0xff800000, 0x7f800001};
  std::vector<uint16_t> y(8, 0x1234),
      wanted{0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7f80, 0xff80, 0x7fff};
  ASSERT_EQ(
      errorOf(module->launch("round", {{1}, {8}},
                             {buffer(x, "x", false), buffer(y, "y")}, {})),
      "");
  EXPECT_EQ(y, wanted);
}
