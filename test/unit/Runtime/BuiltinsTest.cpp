// The 16-bit float conversions that artifacts carry, against LLVM's APFloat:
// every half, every midpoint between two neighbours, and its neighbours.
#include "llvm/ADT/APFloat.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

extern "C" {
uint16_t float_to_half(float x);
uint16_t double_to_half(double x);
float half_to_float(uint16_t x);
double half_to_double(uint16_t x);
uint16_t float_to_bfloat(float x);
uint16_t double_to_bfloat(double x);
}

using namespace llvm;

namespace {
const fltSemantics &halfType() { return APFloat::IEEEhalf(); }
const fltSemantics &bfloatType() { return APFloat::BFloat(); }

uint16_t expected(double x, const fltSemantics &type) {
  APFloat value(x);
  bool inexact;
  value.convert(type, APFloat::rmNearestTiesToEven, &inexact);
  return static_cast<uint16_t>(value.bitcastToAPInt().getZExtValue());
}

double widen(uint16_t bits, const fltSemantics &type) {
  return APFloat(type, APInt(16, bits)).convertToDouble();
}

void check(double x) {
  ASSERT_EQ(double_to_half(x), expected(x, halfType())) << x;
  ASSERT_EQ(double_to_bfloat(x), expected(x, bfloatType())) << x;
  auto f = static_cast<float>(x);
  ASSERT_EQ(float_to_half(f), expected(f, halfType())) << f;
  ASSERT_EQ(float_to_bfloat(f), expected(f, bfloatType())) << f;
}
} // namespace

TEST(Builtins, WidenEveryHalf) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    double x = widen(static_cast<uint16_t>(bits), halfType());
    double wide = half_to_double(static_cast<uint16_t>(bits));
    float narrow = half_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(wide) && std::isnan(narrow)) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint64_t>(wide), std::bit_cast<uint64_t>(x));
    ASSERT_EQ(std::bit_cast<uint64_t>(static_cast<double>(narrow)),
              std::bit_cast<uint64_t>(x));
  }
}

TEST(Builtins, NarrowAroundEveryValueAndMidpoint) {
  for (const fltSemantics *type : {&halfType(), &bfloatType()})
    for (uint32_t bits = 0; bits < 0x7fff; ++bits) {
      double a = widen(static_cast<uint16_t>(bits), *type);
      double b = widen(static_cast<uint16_t>(bits + 1), *type);
      if (!std::isfinite(a) || !std::isfinite(b))
        continue;
      double middle = a + (b - a) / 2;
      for (double x : {a, middle, std::nextafter(middle, 0.0),
                       std::nextafter(middle, INFINITY)})
        for (double sign : {1.0, -1.0})
          check(sign * x);
      if (HasFatalFailure())
        return;
    }
}

TEST(Builtins, Edges) {
  for (double x : {0.0, 65504.0, 65519.99, 65520.0, 65536.0, 1e38, 3.39e38,
                   3.4028234e38, 1e300, 5e-324, 1e-40, 1e-300})
    for (double sign : {1.0, -1.0})
      check(sign * x);
  check(INFINITY);
  check(-INFINITY);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(nan))));
  EXPECT_TRUE(std::isnan(half_to_float(double_to_half(-nan))));
  EXPECT_EQ(float_to_bfloat(nan) & 0x7fc0, 0x7fc0);
}
