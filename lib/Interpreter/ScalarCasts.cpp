// graph.scalar_cast between all dtypes, and the rounding of 16-bit lanes.
#include "ScalarLanes.h"

#include <type_traits>

using namespace dlc;
using namespace dlc::interp;

namespace {
template <typename T>
constexpr bool isFloat = std::is_floating_point_v<T>;
template <typename T>
constexpr bool isBool = std::is_same_v<T, bool>;

template <typename To, typename From, bool saturate>
To castScalar(From value) {
  if constexpr (isBool<To>)
    return value != From(0);
  else if constexpr (isFloat<To> || !isFloat<From>) {
    if constexpr (saturate && !isFloat<To> && !isBool<From>) {
      if constexpr (std::is_signed_v<From>)
        if (value < 0 &&
            (!std::is_signed_v<To> ||
             static_cast<int64_t>(value) <
                 static_cast<int64_t>(std::numeric_limits<To>::min())))
          return std::numeric_limits<To>::min();
      if (value > 0 &&
          static_cast<uint64_t>(value) >
              static_cast<uint64_t>(std::numeric_limits<To>::max()))
        return std::numeric_limits<To>::max();
    }
    return static_cast<To>(value);
  } else if constexpr (saturate) {
    if (value != value)
      return 0;
    // The limits as floats are exact or the next power of two above max.
    constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr From high =
        static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
    if (value < low)
      return std::numeric_limits<To>::min();
    if (value >= high)
      return std::numeric_limits<To>::max();
    return static_cast<To>(value);
  } else {
    return truncateFloat<To>(static_cast<double>(value));
  }
}

// f64 to a 16-bit type must round once; other sources reach it through f32.
enum class Rounding { none, f16, bf16 };
template <Rounding rounding>
float castHalf(double value) {
  float narrowed = roundToOdd(value);
  return roundHalf(rounding == Rounding::f16 ? LaneType::f16 : LaneType::bf16,
                   narrowed);
}

template <typename To, typename From, bool saturate>
void castLanes(const void *from, void *out, int64_t count) {
  auto *x = static_cast<const From *>(from);
  auto *to = static_cast<To *>(out);
  for (int64_t i = 0; i < count; ++i)
    to[i] = castScalar<To, From, saturate>(x[i]);
}
template <typename From, Rounding rounding>
void castLanesToHalf(const void *from, void *out, int64_t count) {
  auto *x = static_cast<const From *>(from);
  auto *to = static_cast<float *>(out);
  for (int64_t i = 0; i < count; ++i)
    to[i] = castHalf<rounding>(static_cast<double>(x[i]));
}
} // namespace

CastFn interp::getCastFn(LaneType from, LaneType to, bool saturate) {
  return dispatch(from, [&](auto source) -> CastFn {
    using From = decltype(source);
    if (to == LaneType::f16)
      return castLanesToHalf<From, Rounding::f16>;
    if (to == LaneType::bf16)
      return castLanesToHalf<From, Rounding::bf16>;
    return dispatch(to, [&](auto target) -> CastFn {
      using To = decltype(target);
      return saturate ? castLanes<To, From, true> : castLanes<To, From, false>;
    });
  });
}

void interp::roundLanes(LaneType type, void *lanes, int64_t count) {
  if (!isHalf(type))
    return;
  auto *x = static_cast<float *>(lanes);
  if (type == LaneType::f16)
    for (int64_t i = 0; i < count; ++i)
      x[i] = halfToFloat(floatToHalf(x[i]));
  else
    for (int64_t i = 0; i < count; ++i)
      x[i] = bfloatToFloat(floatToBfloat(x[i]));
}
