// Lanes: the scalars of one expression at a block of points, as a plain array.
// 16-bit floats are computed as f32 lanes and rounded after every operation.
#ifndef DLC_LIB_INTERPRETER_LANETYPE_H
#define DLC_LIB_INTERPRETER_LANETYPE_H

#include "mlir/IR/BuiltinTypes.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

namespace dlc::interp {

enum class LaneType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i8,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  b1
};
constexpr unsigned kNumLaneTypes = 13;

/// Lanes of one block; small enough that a body's lanes stay in cache.
constexpr int64_t kBlock = 512;

/// The lane type of an element type or of `index`; none for types dlc does not
/// compute with.
inline std::optional<LaneType> getLaneType(mlir::Type type) {
  if (type.isF64())
    return LaneType::f64;
  if (type.isF32())
    return LaneType::f32;
  if (type.isF16())
    return LaneType::f16;
  if (type.isBF16())
    return LaneType::bf16;
  if (type.isIndex())
    return LaneType::i64;
  auto integer = llvm::dyn_cast<mlir::IntegerType>(type);
  if (!integer)
    return std::nullopt;
  bool isUnsigned = integer.isUnsigned();
  switch (integer.getWidth()) {
  case 1:
    return LaneType::b1;
  case 8:
    return isUnsigned ? LaneType::u8 : LaneType::i8;
  case 16:
    return isUnsigned ? LaneType::u16 : LaneType::i16;
  case 32:
    return isUnsigned ? LaneType::u32 : LaneType::i32;
  case 64:
    return isUnsigned ? LaneType::u64 : LaneType::i64;
  default:
    return std::nullopt;
  }
}

/// Calls `fn` with a value of the C++ type of a lane.
template <typename Fn>
decltype(auto) dispatch(LaneType type, Fn &&fn) {
  switch (type) {
  case LaneType::f64:
    return fn(double());
  case LaneType::f32:
  case LaneType::f16:
  case LaneType::bf16:
    return fn(float());
  case LaneType::i8:
    return fn(int8_t());
  case LaneType::i16:
    return fn(int16_t());
  case LaneType::i32:
    return fn(int32_t());
  case LaneType::i64:
    return fn(int64_t());
  case LaneType::u8:
    return fn(uint8_t());
  case LaneType::u16:
    return fn(uint16_t());
  case LaneType::u32:
    return fn(uint32_t());
  case LaneType::u64:
    return fn(uint64_t());
  case LaneType::b1:
    return fn(bool());
  }
  __builtin_unreachable();
}

inline bool isHalf(LaneType type) {
  return type == LaneType::f16 || type == LaneType::bf16;
}
inline int64_t laneBytes(LaneType type) {
  return dispatch(type,
                  [](auto zero) { return static_cast<int64_t>(sizeof(zero)); });
}
inline int64_t storedBytes(LaneType type) {
  return isHalf(type) ? 2 : laneBytes(type);
}

template <typename To, typename From>
To bitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline float halfToFloat(uint16_t half) {
  uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31,
           mantissa = half & 1023;
  if (exponent == 0) {
    float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -magnitude : magnitude;
  }
  uint32_t biased = exponent == 31 ? 255 : exponent + 112;
  return bitCast<float>(sign | biased << 23 | mantissa << 13);
}

// Round to nearest even, as all conversions here.
inline uint16_t floatToHalf(float value) {
  uint32_t bits = bitCast<uint32_t>(value), sign = bits >> 16 & 0x8000u,
           magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return sign | 0x7e00u | (magnitude >> 13 & 0x3ffu);
  if (magnitude >= 0x477ff000u) // 65520 and above
    return sign | 0x7c00u;
  if (magnitude < 0x38800000u) // subnormal: count units of 2^-24
    return sign | static_cast<uint16_t>(
                      std::nearbyint(std::fabs(value) * 16777216.0f));
  magnitude += 0xfffu + (magnitude >> 13 & 1);
  return sign | ((magnitude - 0x38000000u) >> 13);
}

inline float bfloatToFloat(uint16_t bits) {
  return bitCast<float>(static_cast<uint32_t>(bits) << 16);
}
inline uint16_t floatToBfloat(float value) {
  uint32_t bits = bitCast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// f64 to f32 so that a second rounding to 16 bits is right: inexact results get
// an odd last bit.
inline float roundToOdd(double value) {
  float nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value)
    return nearest;
  uint32_t bits = bitCast<uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value))
    --bits;
  return bitCast<float>(bits | 1);
}

/// A float as an integer the way graph.scalar_cast does without saturation.
template <typename T>
T truncateFloat(double value) {
  constexpr double limit = 9223372036854775808.0; // 2^63
  if (value >= limit && value < 2 * limit)
    return static_cast<T>(static_cast<uint64_t>(value));
  if (!(value >= -limit && value < limit))
    return static_cast<T>(std::numeric_limits<int64_t>::min());
  return static_cast<T>(static_cast<int64_t>(value));
}

/// `value` as the nearest f16 or bf16, still an f32 lane.
inline float roundHalf(LaneType type, float value) {
  return type == LaneType::f16 ? halfToFloat(floatToHalf(value))
                               : bfloatToFloat(floatToBfloat(value));
}

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_LANETYPE_H
