// The scalar functions on each dtype: the one place that says what `mod`, `div`
// or `max` do with NaN, zero, overflow and out-of-range shifts. No input is
// undefined behaviour: integers wrap, and division by zero yields 0.
#include "ScalarLanes.h"

#include <limits>
#include <type_traits>

using namespace dlc;
using namespace dlc::interp;
using dlc::graph::ScalarFn;

//===----------------------------------------------------------------------===//
// One scalar
//===----------------------------------------------------------------------===//

namespace {
template <typename T>
constexpr bool isFloat = std::is_floating_point_v<T>;
template <typename T>
constexpr bool isBool = std::is_same_v<T, bool>;

// Arithmetic in the unsigned type of at least int's width, which wraps.
template <typename T>
using Wrapping = std::conditional_t<(sizeof(T) <= 4), uint32_t, uint64_t>;
template <typename T>
T wrap(Wrapping<T> value) {
  if constexpr (isBool<T>)
    return value & 1;
  else
    return static_cast<T>(value);
}

struct Add {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>)
      return x + y;
    else
      return wrap<T>(Wrapping<T>(x) + Wrapping<T>(y));
  }
};
struct Sub {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>)
      return x - y;
    else
      return wrap<T>(Wrapping<T>(x) - Wrapping<T>(y));
  }
};
struct Mul {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>)
      return x * y;
    else
      return wrap<T>(Wrapping<T>(x) * Wrapping<T>(y));
  }
};
struct Div {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>)
      return x / y;
    else if (y == 0)
      return 0;
    else if constexpr (std::is_signed_v<T>)
      return y == -1 ? Sub::of<T>(0, x) : static_cast<T>(x / y);
    else
      return x / y;
  }
};
struct Rem {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>)
      return std::fmod(x, y);
    else if (y == 0)
      return 0;
    else if constexpr (std::is_signed_v<T>)
      return y == -1 ? T(0) : static_cast<T>(x % y);
    else
      return x % y;
  }
};
struct Mod {
  template <typename T>
  static T of(T x, T y) {
    T rem = Rem::of(x, y);
    if constexpr (isFloat<T>)
      return rem == 0               ? std::copysign(T(0), y)
             : (rem < 0) != (y < 0) ? rem + y
                                    : rem;
    else if constexpr (std::is_signed_v<T>)
      return rem != 0 && (rem < 0) != (y < 0) ? static_cast<T>(rem + y) : rem;
    else
      return rem;
  }
};
// NaN wins; of two zeros max takes +0 and min -0.
struct Max {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>) {
      T larger = x > y ? x : y;
      larger = x == y && std::signbit(y) ? x : larger;
      return x != x ? x : larger;
    } else {
      return x > y ? x : y;
    }
  }
};
struct Min {
  template <typename T>
  static T of(T x, T y) {
    if constexpr (isFloat<T>) {
      T smaller = x < y ? x : y;
      smaller = x == y && std::signbit(x) ? x : smaller;
      return x != x ? x : smaller;
    } else {
      return x < y ? x : y;
    }
  }
};
struct BitAnd {
  template <typename T>
  static T of(T x, T y) {
    return x & y;
  }
};
struct BitOr {
  template <typename T>
  static T of(T x, T y) {
    return x | y;
  }
};
struct BitXor {
  template <typename T>
  static T of(T x, T y) {
    return x ^ y;
  }
};
// A negative amount is a large one.
template <typename T>
bool isShiftable(T amount) {
  return static_cast<std::make_unsigned_t<T>>(amount) < sizeof(T) * 8;
}
struct Shl {
  template <typename T>
  static T of(T x, T y) {
    return isShiftable(y) ? wrap<T>(Wrapping<T>(x) << y) : T(0);
  }
};
struct Shr {
  template <typename T>
  static T of(T x, T y) {
    return isShiftable(y) ? static_cast<T>(x >> y) : T(0);
  }
};
struct Eq {
  template <typename T>
  static bool of(T x, T y) {
    return x == y;
  }
};
struct Ne {
  template <typename T>
  static bool of(T x, T y) {
    return x != y;
  }
};
struct Lt {
  template <typename T>
  static bool of(T x, T y) {
    return x < y;
  }
};
struct Le {
  template <typename T>
  static bool of(T x, T y) {
    return x <= y;
  }
};
struct Gt {
  template <typename T>
  static bool of(T x, T y) {
    return x > y;
  }
};
struct Ge {
  template <typename T>
  static bool of(T x, T y) {
    return x >= y;
  }
};

struct Abs {
  template <typename T>
  static T of(T x) {
    if constexpr (isFloat<T>)
      return std::fabs(x);
    else if constexpr (std::is_signed_v<T>)
      return x < 0 ? Sub::of<T>(0, x) : x;
    else
      return x;
  }
};
struct Neg {
  template <typename T>
  static T of(T x) {
    if constexpr (isFloat<T>)
      return -x;
    else
      return Sub::of<T>(0, x);
  }
};
struct Sign {
  template <typename T>
  static T of(T x) {
    if constexpr (isFloat<T>)
      return x > 0 ? T(1) : x < 0 ? T(-1) : x; // keeps NaN and the sign of 0
    else
      return static_cast<T>((x > 0) - (x < 0));
  }
};
struct BitNot {
  template <typename T>
  static T of(T x) {
    if constexpr (isBool<T>)
      return !x;
    else
      return static_cast<T>(~x);
  }
};
struct Ceil {
  template <typename T>
  static T of(T x) {
    return std::ceil(x);
  }
};
struct Floor {
  template <typename T>
  static T of(T x) {
    return std::floor(x);
  }
};
struct RoundEven {
  template <typename T>
  static T of(T x) {
    return std::nearbyint(x);
  }
};
struct Trunc {
  template <typename T>
  static T of(T x) {
    return std::trunc(x);
  }
};
struct Sqrt {
  template <typename T>
  static T of(T x) {
    return std::sqrt(x);
  }
};
struct Rsqrt {
  template <typename T>
  static T of(T x) {
    return T(1) / std::sqrt(x);
  }
};
struct IsNan {
  template <typename T>
  static bool of(T x) {
    return std::isnan(x);
  }
};
struct IsInf {
  template <typename T>
  static bool of(T x) {
    return std::isinf(x);
  }
};

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

template <typename F, typename T>
void unary(const void *const *args, void *out, int64_t count,
           const MathTable &) {
  auto *x = static_cast<const T *>(args[0]);
  auto *to = static_cast<decltype(F::of(T())) *>(out);
  for (int64_t i = 0; i < count; ++i)
    to[i] = F::of(x[i]);
}
template <typename F, typename T>
void binary(const void *const *args, void *out, int64_t count,
            const MathTable &) {
  auto *x = static_cast<const T *>(args[0]),
       *y = static_cast<const T *>(args[1]);
  auto *to = static_cast<decltype(F::of(T(), T())) *>(out);
  for (int64_t i = 0; i < count; ++i)
    to[i] = F::of(x[i], y[i]);
}
template <ScalarFn fn, typename T>
void elementary(const void *const *args, void *out, int64_t count,
                const MathTable &math) {
  auto *x = static_cast<const T *>(args[0]);
  auto *to = static_cast<T *>(out);
  T (*f)(T) = math.get(fn, T());
  for (int64_t i = 0; i < count; ++i)
    to[i] = f(x[i]);
}
template <typename T>
void selectLanes(const void *const *args, void *out, int64_t count,
                 const MathTable &) {
  auto *c = static_cast<const bool *>(args[0]);
  auto *x = static_cast<const T *>(args[1]),
       *y = static_cast<const T *>(args[2]);
  auto *to = static_cast<T *>(out);
  for (int64_t i = 0; i < count; ++i)
    to[i] = c[i] ? x[i] : y[i];
}

// Integer powers wrap; a negative exponent gives the truncated reciprocal (0
// for base 0).
template <typename T, typename U>
T integerPower(T base, U exponent) {
  if constexpr (std::is_signed_v<U>)
    if (exponent < 0) {
      bool odd = exponent & 1;
      if (base == 1)
        return 1;
      if constexpr (std::is_signed_v<T>)
        if (base == -1)
          return odd ? -1 : 1;
      return 0;
    }
  T result = 1;
  for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1) {
    if (e & 1)
      result = Mul::of(result, base);
    base = Mul::of(base, base);
  }
  return result;
}

template <typename T, typename U>
void powLanes(const void *const *args, void *out, int64_t count,
              const MathTable &math) {
  auto *x = static_cast<const T *>(args[0]);
  auto *y = static_cast<const U *>(args[1]);
  auto *to = static_cast<T *>(out);
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, float> && std::is_same_v<U, float>)
      to[i] = math.pow32(x[i], y[i]);
    else if constexpr (isFloat<T>)
      to[i] = static_cast<T>(math.pow64(x[i], static_cast<double>(y[i])));
    else if constexpr (isFloat<U>)
      to[i] = truncateFloat<T>(math.pow64(static_cast<double>(x[i]), y[i]));
    else
      to[i] = integerPower(x[i], y[i]);
  }
}

//===----------------------------------------------------------------------===//
// Choosing the loop
//===----------------------------------------------------------------------===//

template <typename F>
ApplyFn anyUnary(LaneType type) {
  return dispatch(
      type, [](auto zero) -> ApplyFn { return unary<F, decltype(zero)>; });
}
template <typename F>
ApplyFn anyBinary(LaneType type) {
  return dispatch(
      type, [](auto zero) -> ApplyFn { return binary<F, decltype(zero)>; });
}
template <typename F>
ApplyFn floatUnary(LaneType type) {
  return dispatch(type, [](auto zero) -> ApplyFn {
    using T = decltype(zero);
    if constexpr (isFloat<T>)
      return unary<F, T>;
    else
      return nullptr;
  });
}
template <typename F>
ApplyFn integerUnary(LaneType type) {
  return dispatch(type, [](auto zero) -> ApplyFn {
    using T = decltype(zero);
    if constexpr (!isFloat<T>)
      return unary<F, T>;
    else
      return nullptr;
  });
}
// Bool included: bitwise functions are the logical ones there.
template <typename F>
ApplyFn integerBinary(LaneType type) {
  return dispatch(type, [](auto zero) -> ApplyFn {
    using T = decltype(zero);
    if constexpr (!isFloat<T>)
      return binary<F, T>;
    else
      return nullptr;
  });
}
template <typename F>
ApplyFn shift(LaneType type) {
  return dispatch(type, [](auto zero) -> ApplyFn {
    using T = decltype(zero);
    if constexpr (!isFloat<T> && !isBool<T>)
      return binary<F, T>;
    else
      return nullptr;
  });
}
template <ScalarFn fn>
ApplyFn table(LaneType type) {
  return dispatch(type, [](auto zero) -> ApplyFn {
    using T = decltype(zero);
    if constexpr (isFloat<T>)
      return elementary<fn, T>;
    else
      return nullptr;
  });
}
} // namespace

static ApplyFn getPow(LaneType type, LaneType second) {
  return dispatch(type, [&](auto base) -> ApplyFn {
    using T = decltype(base);
    if constexpr (isBool<T>)
      return nullptr;
    else
      return dispatch(second, [](auto exponent) -> ApplyFn {
        using U = decltype(exponent);
        if constexpr (isBool<U>)
          return nullptr;
        else
          return powLanes<T, U>;
      });
  });
}

ApplyFn interp::getApplyFn(ScalarFn fn, LaneType type, LaneType second) {
  switch (fn) {
  case ScalarFn::ceil:
    return floatUnary<Ceil>(type);
  case ScalarFn::floor:
    return floatUnary<Floor>(type);
  case ScalarFn::round_even:
    return floatUnary<RoundEven>(type);
  case ScalarFn::trunc:
    return floatUnary<Trunc>(type);
  case ScalarFn::sqrt:
    return floatUnary<Sqrt>(type);
  case ScalarFn::rsqrt:
    return floatUnary<Rsqrt>(type);
  case ScalarFn::exp:
    return table<ScalarFn::exp>(type);
  case ScalarFn::log:
    return table<ScalarFn::log>(type);
  case ScalarFn::sin:
    return table<ScalarFn::sin>(type);
  case ScalarFn::cos:
    return table<ScalarFn::cos>(type);
  case ScalarFn::tan:
    return table<ScalarFn::tan>(type);
  case ScalarFn::asin:
    return table<ScalarFn::asin>(type);
  case ScalarFn::acos:
    return table<ScalarFn::acos>(type);
  case ScalarFn::atan:
    return table<ScalarFn::atan>(type);
  case ScalarFn::sinh:
    return table<ScalarFn::sinh>(type);
  case ScalarFn::cosh:
    return table<ScalarFn::cosh>(type);
  case ScalarFn::tanh:
    return table<ScalarFn::tanh>(type);
  case ScalarFn::asinh:
    return table<ScalarFn::asinh>(type);
  case ScalarFn::acosh:
    return table<ScalarFn::acosh>(type);
  case ScalarFn::atanh:
    return table<ScalarFn::atanh>(type);
  case ScalarFn::erf:
    return table<ScalarFn::erf>(type);
  case ScalarFn::log1p:
    return table<ScalarFn::log1p>(type);
  case ScalarFn::expm1:
    return table<ScalarFn::expm1>(type);
  case ScalarFn::isnan:
    return floatUnary<IsNan>(type);
  case ScalarFn::isinf:
    return floatUnary<IsInf>(type);
  case ScalarFn::abs:
    return anyUnary<Abs>(type);
  case ScalarFn::neg:
    return anyUnary<Neg>(type);
  case ScalarFn::sign:
    return anyUnary<Sign>(type);
  case ScalarFn::bit_not:
    return integerUnary<BitNot>(type);
  case ScalarFn::add:
    return anyBinary<Add>(type);
  case ScalarFn::sub:
    return anyBinary<Sub>(type);
  case ScalarFn::mul:
    return anyBinary<Mul>(type);
  case ScalarFn::div:
    return anyBinary<Div>(type);
  case ScalarFn::mod:
    return anyBinary<Mod>(type);
  case ScalarFn::rem:
    return anyBinary<Rem>(type);
  case ScalarFn::pow:
    return getPow(type, second);
  case ScalarFn::max:
    return anyBinary<Max>(type);
  case ScalarFn::min:
    return anyBinary<Min>(type);
  case ScalarFn::bit_and:
    return integerBinary<BitAnd>(type);
  case ScalarFn::bit_or:
    return integerBinary<BitOr>(type);
  case ScalarFn::bit_xor:
    return integerBinary<BitXor>(type);
  case ScalarFn::shl:
    return shift<Shl>(type);
  case ScalarFn::shr:
    return shift<Shr>(type);
  case ScalarFn::eq:
    return anyBinary<Eq>(type);
  case ScalarFn::ne:
    return anyBinary<Ne>(type);
  case ScalarFn::lt:
    return anyBinary<Lt>(type);
  case ScalarFn::le:
    return anyBinary<Le>(type);
  case ScalarFn::gt:
    return anyBinary<Gt>(type);
  case ScalarFn::ge:
    return anyBinary<Ge>(type);
  case ScalarFn::select:
    return dispatch(
        type, [](auto zero) -> ApplyFn { return selectLanes<decltype(zero)>; });
  }
  return nullptr;
}
