/* The operands of a bundle of candidates, which are made where they are
 * measured, and the places of its results that are compared: the same numbers
 * in the compiler (C++) and in the program that measures (C). */
#ifndef DLC_TUNER_BUNDLENUMBERS_H
#define DLC_TUNER_BUNDLENUMBERS_H

#include <stdint.h>
#include <string.h>

/* Types of elements. */
typedef enum dlc_bundle_kind {
  DLC_BUNDLE_F32,
  DLC_BUNDLE_F64,
  DLC_BUNDLE_F16,
  DLC_BUNDLE_BF16,
  DLC_BUNDLE_BOOL,
  DLC_BUNDLE_I8,
  DLC_BUNDLE_U8,
  DLC_BUNDLE_I16,
  DLC_BUNDLE_I32,
  DLC_BUNDLE_I64
} dlc_bundle_kind;

static inline int64_t dlc_bundle_bytes(dlc_bundle_kind kind) {
  switch (kind) {
  case DLC_BUNDLE_F64:
  case DLC_BUNDLE_I64:
    return 8;
  case DLC_BUNDLE_F32:
  case DLC_BUNDLE_I32:
    return 4;
  case DLC_BUNDLE_F16:
  case DLC_BUNDLE_BF16:
  case DLC_BUNDLE_I16:
    return 2;
  default:
    return 1;
  }
}

/* SplitMix64 of the i-th number of a seed. */
static inline uint64_t dlc_bundle_random(uint64_t seed, uint64_t i) {
  uint64_t z = seed * UINT64_C(0xd1342543de82ef95) +
               (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* The bits of a 16-bit float; exact for multiples of 1/256 up to 1. */
static inline uint16_t dlc_bundle_narrow(float value, dlc_bundle_kind kind) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (kind == DLC_BUNDLE_BF16)
    return (uint16_t)(bits >> 16);
  uint32_t sign = bits >> 16 & 0x8000;
  if (!(bits & 0x7fffffff))
    return (uint16_t)sign;
  return (uint16_t)(sign | (((bits >> 23 & 0xff) - 127 + 15) << 10) |
                    (bits >> 13 & 0x3ff));
}

/* Factors of products (`factor`) lie between -1/2 and 1/2, other floats between
 * 1/4 and 1, integers are small. */
static inline void dlc_bundle_fill(dlc_bundle_kind kind, int factor,
                                   uint64_t seed, int64_t count, void *memory) {
  char *bytes = (char *)memory;
  int64_t size = dlc_bundle_bytes(kind);
  for (int64_t i = 0; i < count; ++i, bytes += size) {
    uint64_t random = dlc_bundle_random(seed, (uint64_t)i);
    if (kind == DLC_BUNDLE_F32 || kind == DLC_BUNDLE_F64) {
      double unit = (double)(random >> 40) * 0x1p-24;
      double number = factor ? unit - 0.5 : 0.25 + 0.75 * unit;
      float narrow = (float)number;
      if (kind == DLC_BUNDLE_F32)
        memcpy(bytes, &narrow, sizeof narrow);
      else
        memcpy(bytes, &number, sizeof number);
    } else if (kind == DLC_BUNDLE_F16 || kind == DLC_BUNDLE_BF16) {
      int64_t step = (int64_t)(random >> 57); /* of 128 */
      float number =
          factor ? (float)(step - 64) / 128 : (float)(128 + step) / 256;
      uint16_t bits = dlc_bundle_narrow(number, kind);
      memcpy(bytes, &bits, sizeof bits);
    } else {
      uint64_t bound = kind == DLC_BUNDLE_BOOL ? 2 : size == 1 ? 100 : 1000;
      uint64_t number = (random >> 11) % bound;
      memcpy(bytes, &number, (size_t)size); /* little endian */
    }
  }
}

static inline double dlc_bundle_read(dlc_bundle_kind kind, const void *memory,
                                     int64_t i) {
  const char *bytes = (const char *)memory + i * dlc_bundle_bytes(kind);
  float f;
  double d;
  uint32_t bits = 0;
  int8_t i8;
  int16_t i16;
  int32_t i32;
  int64_t i64;
  switch (kind) {
  case DLC_BUNDLE_F32:
    memcpy(&f, bytes, 4);
    return f;
  case DLC_BUNDLE_F64:
    memcpy(&d, bytes, 8);
    return d;
  case DLC_BUNDLE_BF16:
    memcpy(&bits, bytes, 2);
    bits <<= 16;
    memcpy(&f, &bits, 4);
    return f;
  case DLC_BUNDLE_F16: {
    memcpy(&bits, bytes, 2);
    int exponent = (int)(bits >> 10 & 31);
    double fraction = (double)(bits & 1023) / 1024, number;
    if (exponent == 31) /* infinite or no number */
      return bits & 1023 ? (double)__builtin_nanf("")
                         : (bits & 0x8000 ? -1 : 1) * __builtin_inf();
    number = exponent ? (1 + fraction) * 0x1p-15 : fraction * 0x1p-14;
    for (; exponent > 0; --exponent)
      number *= 2;
    return bits & 0x8000 ? -number : number;
  }
  case DLC_BUNDLE_I8:
    memcpy(&i8, bytes, 1);
    return i8;
  case DLC_BUNDLE_I16:
    memcpy(&i16, bytes, 2);
    return i16;
  case DLC_BUNDLE_I32:
    memcpy(&i32, bytes, 4);
    return i32;
  case DLC_BUNDLE_I64:
    memcpy(&i64, bytes, 8);
    return (double)i64;
  default:
    return (double)*(const unsigned char *)bytes;
  }
}

/* The j-th of `samples` places among `total`, ascending, the last one among
 * them; all places where there are not more. */
static inline int64_t dlc_bundle_place(int64_t j, int64_t samples,
                                       int64_t total) {
  if (total <= samples)
    return j;
  if (j == samples - 1)
    return total - 1;
  int64_t block = total / samples;
  return j * block +
         (int64_t)(dlc_bundle_random(7, (uint64_t)j) % (uint64_t)block);
}

#endif /* DLC_TUNER_BUNDLENUMBERS_H */
