// The peak rate of the instruction that an inner loop is made of, measured in
// this process: what a product's rate is a fraction of.
#ifndef DLC_TEST_UNIT_CODEGEN_BENCH_PEAK_H
#define DLC_TEST_UNIT_CODEGEN_BENCH_PEAK_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"

#include <algorithm>
#include <ctime>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dlc::test {

/// CPU time of this thread: what other processes take does not count.
inline double seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

/// The time that a twentieth of the runs undercut: virtual machines account
/// single runs wrong, too short ones too.
inline double fastOf(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 20];
}

#if defined(__x86_64__)
/// Seconds of a fast one of a thousand runs of `steps`.
template <typename Steps>
double fastest(Steps steps) {
  std::vector<double> times;
  for (int i = 0; i < 1000; ++i) {
    double start = seconds();
    steps();
    times.push_back(seconds() - start);
  }
  return fastOf(times);
}

// Sixteen chains hide the latency of any of them.
#define DLC_PEAK(NAME, FEATURES, VECTOR, ZERO, STEP)                           \
  __attribute__((target(FEATURES), noinline)) inline void NAME() {             \
    VECTOR a[16], x = ZERO;                                                    \
    asm volatile("" : "+v"(x));                                                \
    for (VECTOR &chain : a)                                                    \
      chain = x;                                                               \
    for (int i = 0; i < 10000; ++i)                                            \
      for (VECTOR &chain : a)                                                  \
        chain = STEP;                                                          \
    for (VECTOR &chain : a)                                                    \
      asm volatile("" : : "v"(chain));                                         \
  }
DLC_PEAK(peakF32, "avx512f", __m512, _mm512_setzero_ps(),
         _mm512_fmadd_ps(x, x, chain))
DLC_PEAK(peakF32Narrow, "avx2,fma", __m256, _mm256_setzero_ps(),
         _mm256_fmadd_ps(x, x, chain))
DLC_PEAK(peakBf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
         _mm512_dpbf16_ps(chain, (__m512bh)x, (__m512bh)x))
DLC_PEAK(peakBytes, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(),
         _mm512_dpbusd_epi32(chain, x, x))
DLC_PEAK(peakBytesNarrow, "avx2,avxvnni", __m256i, _mm256_setzero_si256(),
         _mm256_dpbusd_avx_epi32(chain, x, x))
#undef DLC_PEAK

// Two by two sums, as the micro-kernel has them; the thread's tiles must be
// permitted.
#define DLC_PEAK_TILES(NAME, FEATURES, STEP)                                   \
  __attribute__((target(FEATURES), noinline)) inline void NAME() {             \
    alignas(64) unsigned char configuration[64] = {1};                         \
    for (int tile = 0; tile < 8; ++tile) {                                     \
      configuration[16 + 2 * tile] = 64;                                       \
      configuration[48 + tile] = 16;                                           \
    }                                                                          \
    _tile_loadconfig(configuration);                                           \
    for (int i = 0; i < 10000; ++i) {                                          \
      STEP(0, 4, 6);                                                           \
      STEP(1, 4, 7);                                                           \
      STEP(2, 5, 6);                                                           \
      STEP(3, 5, 7);                                                           \
    }                                                                          \
    _tile_release();                                                           \
  }
DLC_PEAK_TILES(peakBf16Tiles, "amx-tile,amx-bf16", _tile_dpbf16ps)
DLC_PEAK_TILES(peakByteTiles, "amx-tile,amx-int8", _tile_dpbusd)
#undef DLC_PEAK_TILES
#endif

/// Operations a second (a multiply and an add are two) on one thread, of `form`
/// on vectors of `bytes`; 0: not known. The machine must have the instruction.
inline double peakRate(ProductForm form, unsigned bytes) {
#if defined(__x86_64__)
  double vectors = 16 * 10000.0, lanes = bytes / 4;
  bool isWide = bytes == 64;
  if (form == ProductForm::Single && bytes >= 32)
    return 2 * lanes * vectors / fastest(isWide ? peakF32 : peakF32Narrow);
  if (form == ProductForm::Bf16Pairs && isWide)
    return 4 * lanes * vectors / fastest(peakBf16);
  if (form == ProductForm::ByteQuads && bytes >= 32)
    return 8 * lanes * vectors / fastest(isWide ? peakBytes : peakBytesNarrow);
  double sums = 4 * 10000.0 * 16 * 16;
  if (form == ProductForm::Bf16Tiles)
    return 2 * 32 * sums / fastest(peakBf16Tiles);
  if (form == ProductForm::ByteTiles)
    return 2 * 64 * sums / fastest(peakByteTiles);
#endif
  return 0;
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_BENCH_PEAK_H
