/* Conversions between 16-bit and wider floats that compilers call where the CPU
 * has no instruction for them. libgcc or compiler-rt would provide them, but an
 * artifact is linked without either, and old ones lack some. Hidden and weak: a
 * program's own win. All round to nearest even and turn NaN into a quiet NaN.
 */
#include <stdint.h>
#include <string.h>

#define HELPER __attribute__((weak, visibility("hidden"), used))

static uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* Rounds a double to a 16-bit float with so many exponent and mantissa bits.
 * Any float is a double exactly, so one function serves both sources and rounds
 * once. */
static uint16_t narrow(double x, int exponent_bits, int mantissa_bits) {
  uint64_t bits = bits_of(x);
  uint16_t sign = (uint16_t)(bits >> 63 << 15);
  int bias = (1 << (exponent_bits - 1)) - 1;
  uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
  int exponent = (int)(bits >> 52 & 0x7ff);
  uint64_t mantissa = bits & ((UINT64_C(1) << 52) - 1);
  if (exponent == 0x7ff)
    return sign | infinity |
           (mantissa ? (uint16_t)(mantissa >> (52 - mantissa_bits)) |
                           (uint16_t)(1 << (mantissa_bits - 1))
                     : 0);
  if (exponent ==
      0) /* a subnormal double is far below half of any subnormal here */
    return sign;
  mantissa |= UINT64_C(1) << 52;
  int target = exponent - 1023 + bias;
  if (target > 2 * bias)
    return sign | infinity;
  int shift = 52 - mantissa_bits;
  if (target <= 0)
    shift += 1 - target; /* a subnormal result keeps fewer bits */
  if (shift > 54)
    return sign;
  uint64_t kept = mantissa >> shift;
  uint64_t rest = mantissa & ((UINT64_C(1) << shift) - 1);
  uint64_t half = UINT64_C(1) << (shift - 1);
  if (rest > half || (rest == half && (kept & 1)))
    ++kept; /* a carry moves into the exponent, which is right */
  uint64_t magnitude =
      target <= 0 ? kept : kept + ((uint64_t)(target - 1) << mantissa_bits);
  return sign | (uint16_t)(magnitude < infinity ? magnitude : infinity);
}

static float widen_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t exponent = half >> 10 & 0x1f;
  uint32_t mantissa = half & 0x3ff;
  uint32_t bits;
  if (exponent == 0x1f) {
    bits = sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
  } else if (exponent) {
    bits = sign | (exponent + 112) << 23 | mantissa << 13;
  } else if (mantissa) {
    int shift = __builtin_clz(mantissa) -
                21; /* brings the leading bit to position 10 */
    bits = sign | (uint32_t)(113 - shift) << 23 |
           (mantissa << shift & 0x3ff) << 13;
  } else {
    bits = sign;
  }
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static _Float16 half_from(uint16_t bits) {
  _Float16 x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static __bf16 bfloat_from(uint16_t bits) {
  __bf16 x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint16_t half_bits(_Float16 x) {
  uint16_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

HELPER _Float16 __truncsfhf2(float x) { return half_from(narrow(x, 5, 10)); }
HELPER _Float16 __truncdfhf2(double x) { return half_from(narrow(x, 5, 10)); }
HELPER __bf16 __truncsfbf2(float x) { return bfloat_from(narrow(x, 8, 7)); }
HELPER __bf16 __truncdfbf2(double x) { return bfloat_from(narrow(x, 8, 7)); }
HELPER float __extendhfsf2(_Float16 x) { return widen_half(half_bits(x)); }
HELPER double __extendhfdf2(_Float16 x) {
  return (double)widen_half(half_bits(x));
}
