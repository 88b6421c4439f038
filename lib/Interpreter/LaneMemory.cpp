// Lanes from and to tensor memory, and folds along and across lanes.
#include "ScalarLanes.h"

#include "dlc/Dialect/Graph/IR/Folds.h"

#include "mlir/IR/BuiltinAttributes.h"

#include <limits>
#include <type_traits>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;
using dlc::graph::FoldKind;
using dlc::graph::ScalarFn;

namespace {
// How an element of memory type M becomes a lane.
template <typename T>
struct Plain {
  using Memory = T;
  static T read(T x) { return x; }
  static T write(T x) { return x; }
};
struct Bool {
  using Memory = uint8_t;
  static bool read(uint8_t x) { return x != 0; }
  static uint8_t write(bool x) { return x; }
};
struct Half {
  using Memory = uint16_t;
  static float read(uint16_t x) { return halfToFloat(x); }
  static uint16_t write(float x) { return floatToHalf(x); }
};
struct Bfloat {
  using Memory = uint16_t;
  static float read(uint16_t x) { return bfloatToFloat(x); }
  static uint16_t write(float x) { return floatToBfloat(x); }
};

template <typename Fn>
void withCodec(LaneType type, Fn fn) {
  if (type == LaneType::f16)
    return fn(Half());
  if (type == LaneType::bf16)
    return fn(Bfloat());
  if (type == LaneType::b1)
    return fn(Bool());
  dispatch(type, [&](auto zero) { fn(Plain<decltype(zero)>()); });
}
} // namespace

// Memory may lie at any alignment (a mapped model file): elements are copied
// out.
template <typename M>
static M readElement(const char *base, int64_t offset) {
  M value;
  std::memcpy(&value, base + offset * static_cast<int64_t>(sizeof(M)),
              sizeof(M));
  return value;
}

void interp::loadLanes(LaneType type, const char *base, int64_t offset,
                       int64_t stride, int64_t count, void *out) {
  withCodec(type, [&](auto codec) {
    using Codec = decltype(codec);
    using M = typename Codec::Memory;
    auto *to = static_cast<decltype(Codec::read(M())) *>(out);
    if (stride == 0) {
      auto value = Codec::read(readElement<M>(base, offset));
      for (int64_t i = 0; i < count; ++i)
        to[i] = value;
    } else if (stride == 1) {
      const char *from = base + offset * static_cast<int64_t>(sizeof(M));
      for (int64_t i = 0; i < count; ++i)
        to[i] = Codec::read(readElement<M>(from, i));
    } else {
      for (int64_t i = 0; i < count; ++i)
        to[i] = Codec::read(readElement<M>(base, offset + i * stride));
    }
  });
}

void interp::gatherLanes(LaneType type, const char *base,
                         const int64_t *offsets, int64_t count, void *out) {
  withCodec(type, [&](auto codec) {
    using Codec = decltype(codec);
    using M = typename Codec::Memory;
    auto *to = static_cast<decltype(Codec::read(M())) *>(out);
    for (int64_t i = 0; i < count; ++i)
      if (offsets[i] >= 0)
        to[i] = Codec::read(readElement<M>(base, offsets[i]));
  });
}

void interp::storeLanes(LaneType type, const void *lanes, int64_t count,
                        char *base, int64_t offset) {
  withCodec(type, [&](auto codec) {
    using Codec = decltype(codec);
    using M = typename Codec::Memory;
    auto *from = static_cast<const decltype(Codec::read(M())) *>(lanes);
    auto *to = reinterpret_cast<M *>(base) + offset;
    for (int64_t i = 0; i < count; ++i)
      to[i] = Codec::write(from[i]);
  });
}
void interp::storeLane(LaneType type, const void *lane, char *base,
                       int64_t offset) {
  storeLanes(type, lane, 1, base, offset);
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

void interp::fillLanes(LaneType type, Attribute value, int64_t count,
                       void *out) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    T scalar;
    if constexpr (std::is_floating_point_v<T>) {
      APFloat number = cast<FloatAttr>(value).getValue();
      bool inexact;
      number.convert(sizeof(T) == 8 ? APFloat::IEEEdouble()
                                    : APFloat::IEEEsingle(),
                     APFloat::rmNearestTiesToEven, &inexact);
      if constexpr (sizeof(T) == 8)
        scalar = number.convertToDouble();
      else
        scalar = number.convertToFloat();
    } else {
      uint64_t bits = cast<IntegerAttr>(value).getValue().getRawData()[0];
      if constexpr (std::is_same_v<T, bool>)
        scalar = bits & 1;
      else
        scalar = static_cast<T>(bits);
    }
    std::fill_n(static_cast<T *>(out), count, scalar);
  });
}

void interp::fillIdentity(LaneType type, FoldKind kind, int64_t count,
                          void *out) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    using Limits = std::numeric_limits<T>;
    T value = 0;
    switch (kind) {
    case FoldKind::mul:
      value = 1;
      break;
    case FoldKind::max:
      value = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
      break;
    case FoldKind::min:
      value = Limits::has_infinity ? Limits::infinity() : Limits::max();
      break;
    case FoldKind::bit_and:
      if constexpr (std::is_same_v<T, bool>)
        value = true;
      else if constexpr (std::is_integral_v<T>)
        value = static_cast<T>(~T(0));
      break;
    default:
      break;
    }
    std::fill_n(static_cast<T *>(out), count, value);
  });
}

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

// The most used folds keep the accumulator in a register; the others go through
// the scalar function.
template <typename T, bool isMax>
static void foldExtreme(const T *x, int64_t count, T *acc) {
  T best = *acc;
  for (int64_t i = 0; i < count; ++i)
    if (isMax ? x[i] > best : x[i] < best) {
      best = x[i];
    } else if (x[i] != x[i]) { // NaN stays: no comparison beats it
      best = x[i];
      break;
    } else if (x[i] == 0 && best == 0 && std::signbit(best) == isMax) {
      best = x[i]; // +0 is the larger zero
    }
  *acc = best;
}

void interp::foldSequence(FoldKind kind, LaneType type, const void *lanes,
                          int64_t count, void *acc) {
  if (type == LaneType::f32 || type == LaneType::f64) {
    bool done = dispatch(type, [&](auto zero) {
      using T = decltype(zero);
      auto *x = static_cast<const T *>(lanes);
      auto *a = static_cast<T *>(acc);
      if constexpr (std::is_floating_point_v<T>) {
        if (kind == FoldKind::add) {
          T sum = *a;
          for (int64_t i = 0; i < count; ++i)
            sum += x[i];
          *a = sum;
          return true;
        }
        if (*a == *a && (kind == FoldKind::max || kind == FoldKind::min)) {
          if (kind == FoldKind::max)
            foldExtreme<T, true>(x, count, a);
          else
            foldExtreme<T, false>(x, count, a);
          return true;
        }
      }
      return false;
    });
    if (done)
      return;
  }
  ApplyFn combine = getApplyFn(*graph::combinerOf(kind), type, type);
  const MathTable &math = getLibmMath();
  int64_t bytes = laneBytes(type);
  for (int64_t i = 0; i < count; ++i) {
    const void *args[2] = {acc, static_cast<const char *>(lanes) + i * bytes};
    combine(args, acc, 1, math);
    roundLanes(type, acc, 1);
  }
}

// NaN beats every number; among equals (and NaNs) the first or the last one
// wins.
template <typename T>
static bool beats(FoldKind kind, T value, T best) {
  bool last = kind == FoldKind::argmax_last || kind == FoldKind::argmin_last;
  bool isMax = kind == FoldKind::argmax || kind == FoldKind::argmax_last;
  if (best != best)
    return last && value != value;
  if (value != value)
    return true;
  if (value == best)
    return last;
  return isMax ? value > best : value < best;
}

void interp::argStep(FoldKind kind, LaneType type, const void *values,
                     int64_t position, int64_t count, void *best,
                     int64_t *bestPosition) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    auto *x = static_cast<const T *>(values);
    auto *b = static_cast<T *>(best);
    for (int64_t i = 0; i < count; ++i)
      if (position == 0 || beats(kind, x[i], b[i])) {
        b[i] = x[i];
        bestPosition[i] = position;
      }
  });
}

void interp::argSequence(FoldKind kind, LaneType type, const void *values,
                         int64_t first, int64_t count, void *best,
                         int64_t *bestPosition) {
  dispatch(type, [&](auto zero) {
    using T = decltype(zero);
    auto *x = static_cast<const T *>(values);
    auto *b = static_cast<T *>(best);
    for (int64_t i = 0; i < count; ++i)
      if (first + i == 0 || beats(kind, x[i], *b)) {
        *b = x[i];
        *bestPosition = first + i;
      }
  });
}
