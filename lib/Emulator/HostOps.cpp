// The C functions behind the rewritten intrinsics. They find the running block
// through Block::current() and have no state of their own.
#include "HostOps.h"
#include "Block.h"

#include "llvm/ADT/bit.h"

#include <cmath>
#include <cstring>

using namespace dlc;
using namespace dlc::emu;

static uint32_t component(const Dim3 &d, uint32_t axis) {
  return axis == 0 ? d.x : axis == 1 ? d.y : d.z;
}

static uint32_t special(uint32_t which) {
  Block &block = Block::current();
  const LaunchShape &shape = block.launchState().shape;
  uint32_t lane = block.linearThread() % kWarpSize;
  uint32_t below = (1u << lane) - 1;
  switch (static_cast<SpecialRegister>(which)) {
  case SpecialRegister::TidX:
  case SpecialRegister::TidY:
  case SpecialRegister::TidZ:
    return component(block.threadIndex(), which % 3);
  case SpecialRegister::NTidX:
  case SpecialRegister::NTidY:
  case SpecialRegister::NTidZ:
    return component(shape.block, which % 3);
  case SpecialRegister::CtaIdX:
  case SpecialRegister::CtaIdY:
  case SpecialRegister::CtaIdZ:
    return component(block.blockIndex(), which % 3);
  case SpecialRegister::NCtaIdX:
  case SpecialRegister::NCtaIdY:
  case SpecialRegister::NCtaIdZ:
    return component(shape.grid, which % 3);
  case SpecialRegister::WarpSize:
    return kWarpSize;
  case SpecialRegister::LaneId:
    return lane;
  case SpecialRegister::WarpId:
    return block.linearThread() / kWarpSize;
  case SpecialRegister::LaneMaskEq:
    return 1u << lane;
  case SpecialRegister::LaneMaskLe:
    return below | 1u << lane;
  case SpecialRegister::LaneMaskLt:
    return below;
  case SpecialRegister::LaneMaskGe:
    return ~below;
  case SpecialRegister::LaneMaskGt:
    return ~(below | 1u << lane);
  case SpecialRegister::DynamicSharedBytes:
    return static_cast<uint32_t>(shape.sharedBytes);
  case SpecialRegister::ActiveMask:
    return block.activeLanes();
  case SpecialRegister::Zero:
    return 0;
  case SpecialRegister::One:
    return 1;
  }
  block.fail("internal error: unknown special register");
}

static void *sharedWindow() { return Block::current().sharedWindow(); }

static uint32_t barrierSync(uint32_t id, uint32_t count, uint32_t hasCount,
                            uint32_t aligned, uint32_t site, uint32_t reduction,
                            uint32_t predicate) {
  return Block::current().barrierSync(
      id, hasCount ? std::optional<uint32_t>(count) : std::nullopt, aligned,
      site, static_cast<BarrierReduction>(reduction), predicate);
}

static void barrierArrive(uint32_t id, uint32_t count, uint32_t site) {
  Block::current().barrierArrive(id, count, site);
}

static void initMbarrier(const void *object, uint32_t count, uint32_t site) {
  Block::current().initMbarrier(object, count, site);
}
static void invalidateMbarrier(const void *object, uint32_t site) {
  Block::current().invalidateMbarrier(object, site);
}
static uint64_t arriveAtMbarrier(const void *object, uint32_t count,
                                 uint32_t site) {
  return Block::current().arriveAtMbarrier(object, count, site);
}
static void waitAtMbarrier(const void *object, uint64_t state,
                           uint32_t isParity, uint32_t site) {
  Block::current().waitAtMbarrier(object, state, isParity, site);
}

static void expectTransaction(const void *object, uint32_t bytes,
                              uint32_t site) {
  Block::current().expectTransaction(object, bytes, site);
}
static void completeTransaction(const void *object, uint32_t bytes,
                                uint32_t site) {
  Block::current().completeTransaction(object, bytes, site);
}

static void arriveAtCluster(uint32_t site) {
  Block::current().arriveAtCluster(site);
}
static void waitAtCluster(uint32_t site) {
  Block::current().waitAtCluster(site);
}
static void mapToBlock(uint32_t rank, uint32_t site) {
  Block &block = Block::current();
  if (rank != 0)
    block.fail("mapa to another block of the cluster, which has one, at '" +
               (*block.launchState().sites)[site] + "'");
}

static void fenceProxy() { Block::current().fenceProxy(); }
static void fenceMbarrierInit() { Block::current().fenceMbarrierInit(); }

static void loadBulk(void *to, const void *from, uint32_t bytes,
                     const void *object, uint32_t site) {
  Block::current().loadBulk(static_cast<char *>(to),
                            static_cast<const char *>(from), bytes, object,
                            site);
}
static void storeBulk(void *to, const void *from, uint32_t bytes,
                      uint32_t site) {
  Block::current().storeBulk(static_cast<char *>(to),
                             static_cast<const char *>(from), bytes, site);
}
static void loadTensor(void *to, const void *map, const void *object,
                       uint32_t rank, int32_t c0, int32_t c1, int32_t c2,
                       int32_t c3, int32_t c4, uint32_t site) {
  const int32_t at[] = {c0, c1, c2, c3, c4};
  Block::current().loadTensor(static_cast<char *>(to), map, {at, rank}, object,
                              site);
}
static void storeTensor(const void *from, const void *map, uint32_t rank,
                        int32_t c0, int32_t c1, int32_t c2, int32_t c3,
                        int32_t c4, uint32_t site) {
  const int32_t at[] = {c0, c1, c2, c3, c4};
  Block::current().storeTensor(static_cast<const char *>(from), map, {at, rank},
                               site);
}
static void commitBulk() { Block::current().commitBulk(); }
static void waitForBulk(uint32_t left, uint32_t onlyReads) {
  Block::current().waitForBulk(left, onlyReads);
}

static void fenceWarpGroup(uint32_t site) {
  Block::current().fenceWarpGroup(site);
}
static void commitWarpGroup(uint32_t site) {
  Block::current().commitWarpGroup(site);
}
static void waitForWarpGroup(uint32_t left, uint32_t site) {
  Block::current().waitForWarpGroup(left, site);
}
// The shape as Assembly.cpp packs it.
static void wgmma(uint32_t shape, uint32_t site, uint32_t *sums, uint32_t a0,
                  uint32_t a1, uint32_t a2, uint32_t a3, uint64_t aDescriptor,
                  uint64_t bDescriptor, uint32_t addsToSums) {
  auto flag = [&](unsigned bit) { return (shape >> bit & 1) != 0; };
  WgmmaOperands operands = {{static_cast<MmaType>(shape & 0xf),
                             shape >> 4 & 0xfff, flag(16), flag(17), flag(18),
                             flag(19), flag(20), flag(21)},
                            sums,
                            {a0, a1, a2, a3},
                            aDescriptor,
                            bDescriptor,
                            addsToSums != 0};
  Block::current().multiplyWarpGroup(site, operands);
}

// The result's low half is the value, bit 32 the flag.
static uint64_t collective(uint32_t kind, uint32_t mask, uint32_t site,
                           uint64_t value, uint32_t lane, uint32_t clamp) {
  LaneResult result = Block::current().collective(
      static_cast<CollectiveKind>(kind), mask, site, {value, lane, clamp});
  return (result.value & 0xffffffffu) | uint64_t(result.flag) << 32;
}

static void mma(uint32_t type, uint32_t site, uint32_t a0, uint32_t a1,
                uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, uint32_t c0,
                uint32_t c1, uint32_t c2, uint32_t c3) {
  MmaOperands operands = {static_cast<MmaType>(type),
                          {a0, a1, a2, a3},
                          {b0, b1},
                          {c0, c1, c2, c3},
                          {}};
  Block::current().multiplyTiles(site, operands);
}

static void ldmatrix(uint32_t count, uint32_t transposed, uint32_t site,
                     const void *row) {
  MatrixOperands operands = {
      static_cast<const char *>(row), count, transposed != 0, {}};
  Block::current().loadMatrices(site, operands);
}

/// Of the last mma.sync or ldmatrix.
static uint32_t word(uint32_t i) { return Block::current().word(i); }

static void copyAsync(void *to, const void *from, uint32_t bytes,
                      uint32_t sourceBytes, uint32_t site) {
  Block::current().copyAsync({static_cast<char *>(to),
                              static_cast<const char *>(from), bytes,
                              sourceBytes, site});
}
static void commitCopies() { Block::current().commitCopies(); }
static void waitForCopies(uint32_t left) {
  Block::current().waitForCopies(left);
}

static void checkAccess(const void *address, uint64_t bytes, uint64_t alignment,
                        uint32_t kind, uint32_t site) {
  Block &block = Block::current();
  block.noteAccess(address, bytes, site);
  block.checkAccess(address, bytes, alignment, static_cast<Access::Kind>(kind),
                    site);
}

static void exitThread() { Block::current().exitThread(); }
static void trap() { Block::current().fail("the kernel executed a trap"); }

// PTX's .ftz: subnormal numbers become zeros of their sign.
static float flush(float value) {
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value)
                                                : value;
}

template <float (*fn)(float)>
static float withFlush(float value) {
  return flush(fn(flush(value)));
}

static float ex2(float x) { return std::exp2(x); }
static float lg2(float x) { return std::log2(x); }
static float rcp(float x) { return 1.0f / x; }
static float rsqrt(float x) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x)));
}
static double rsqrtDouble(double x) { return 1.0 / std::sqrt(x); }
static float squareRoot(float x) { return std::sqrt(x); }
static float sine(float x) { return std::sin(x); }
static float cosine(float x) { return std::cos(x); }
static float hyperbolicTangent(float x) { return std::tanh(x); }
static float saturate(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

// The nearest number of ten bits behind the point, ties away from zero (PTX
// ISA, "cvt": .rna.tf32); its low bits are zeros.
static uint32_t tf32(float x) {
  auto bits = llvm::bit_cast<uint32_t>(x);
  return std::isnan(x) ? 0x7fffe000u : (bits + 0x1000u) & 0xffffe000u;
}

// To nearest even; NaN is the one that the hardware makes.
static uint32_t bf16(float x) {
  auto bits = llvm::bit_cast<uint32_t>(x);
  return std::isnan(x) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static uint32_t bf16Pair(float high, float low) {
  return bf16(high) << 16 | bf16(low);
}

static uint32_t half(float x) {
  if (std::isnan(x))
    return 0x7fff;
  uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  float magnitude = std::fabs(x);
  if (magnitude >= 65520)
    return sign | 0x7c00;
  if (magnitude < 0x1p-14f) // the last bit is worth 2^-24
    return sign | static_cast<uint32_t>(std::nearbyint(magnitude * 0x1p24f));
  auto bits = llvm::bit_cast<uint32_t>(magnitude);
  return sign | ((bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13);
}
static uint32_t halfPair(float high, float low) {
  return half(high) << 16 | half(low);
}

template <typename Fn>
static void *pointer(Fn *fn) {
  return reinterpret_cast<void *>(fn);
}

llvm::ArrayRef<HostOp> dlc::emu::hostOps() {
  static const HostOp ops[] = {
      {"dlc_emu_special", pointer(special)},
      {"dlc_emu_shared_window", pointer(sharedWindow)},
      {"dlc_emu_barrier", pointer(barrierSync)},
      {"dlc_emu_barrier_arrive", pointer(barrierArrive)},
      {"dlc_emu_mbarrier_init", pointer(initMbarrier)},
      {"dlc_emu_mbarrier_inval", pointer(invalidateMbarrier)},
      {"dlc_emu_mbarrier_arrive", pointer(arriveAtMbarrier)},
      {"dlc_emu_mbarrier_wait", pointer(waitAtMbarrier)},
      {"dlc_emu_mbarrier_expect", pointer(expectTransaction)},
      {"dlc_emu_mbarrier_complete", pointer(completeTransaction)},
      {"dlc_emu_cluster_arrive", pointer(arriveAtCluster)},
      {"dlc_emu_cluster_wait", pointer(waitAtCluster)},
      {"dlc_emu_mapa", pointer(mapToBlock)},
      {"dlc_emu_fence_proxy", pointer(fenceProxy)},
      {"dlc_emu_fence_mbarrier_init", pointer(fenceMbarrierInit)},
      {"dlc_emu_bulk_load", pointer(loadBulk)},
      {"dlc_emu_bulk_store", pointer(storeBulk)},
      {"dlc_emu_bulk_load_tensor", pointer(loadTensor)},
      {"dlc_emu_bulk_store_tensor", pointer(storeTensor)},
      {"dlc_emu_bulk_commit", pointer(commitBulk)},
      {"dlc_emu_bulk_wait", pointer(waitForBulk)},
      {"dlc_emu_wgmma", pointer(wgmma)},
      {"dlc_emu_wgmma_fence", pointer(fenceWarpGroup)},
      {"dlc_emu_wgmma_commit", pointer(commitWarpGroup)},
      {"dlc_emu_wgmma_wait", pointer(waitForWarpGroup)},
      {"dlc_emu_collective", pointer(collective)},
      {"dlc_emu_mma", pointer(mma)},
      {"dlc_emu_ldmatrix", pointer(ldmatrix)},
      {"dlc_emu_word", pointer(word)},
      {"dlc_emu_copy_async", pointer(copyAsync)},
      {"dlc_emu_commit_copies", pointer(commitCopies)},
      {"dlc_emu_wait_for_copies", pointer(waitForCopies)},
      {"dlc_emu_check_access", pointer(checkAccess)},
      {"dlc_emu_exit", pointer(exitThread)},
      {"dlc_emu_trap", pointer(trap)},
      {"dlc_emu_ex2", pointer(ex2)},
      {"dlc_emu_ex2_ftz", pointer(withFlush<ex2>)},
      {"dlc_emu_lg2", pointer(lg2)},
      {"dlc_emu_lg2_ftz", pointer(withFlush<lg2>)},
      {"dlc_emu_rcp", pointer(rcp)},
      {"dlc_emu_rcp_ftz", pointer(withFlush<rcp>)},
      {"dlc_emu_rsqrt", pointer(rsqrt)},
      {"dlc_emu_rsqrt_ftz", pointer(withFlush<rsqrt>)},
      {"dlc_emu_rsqrt_f64", pointer(rsqrtDouble)},
      {"dlc_emu_sqrt", pointer(squareRoot)},
      {"dlc_emu_sqrt_ftz", pointer(withFlush<squareRoot>)},
      {"dlc_emu_sin", pointer(sine)},
      {"dlc_emu_sin_ftz", pointer(withFlush<sine>)},
      {"dlc_emu_cos", pointer(cosine)},
      {"dlc_emu_cos_ftz", pointer(withFlush<cosine>)},
      {"dlc_emu_tanh", pointer(hyperbolicTangent)},
      {"dlc_emu_saturate", pointer(saturate)},
      {"dlc_emu_tf32", pointer(tf32)},
      {"dlc_emu_bf16x2", pointer(bf16Pair)},
      {"dlc_emu_half2", pointer(halfPair)},
  };
  return ops;
}
