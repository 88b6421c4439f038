// The polynomials of VectorMath against the C library in more precision: f32 by
// units in the last place over the whole range, f64 by relative error. The full
// tier (DLC_TEST_FULL=1) takes every f32.
#include "NestTest.h"

using namespace dlc;
using namespace dlc::test;

namespace {
class UlpTest : public NestTest {
protected:
  static constexpr int64_t block = 1 << 16;

  /// A loaded kernel of one elementwise operator on `block` elements.
  std::unique_ptr<LoadedKernel> load(const std::string &op,
                                     const std::string &element,
                                     const std::string &target,
                                     unsigned operands = 1) {
    std::string type = "tensor<" + std::to_string(block) + "x" + element + ">";
    OpCase c{op, "", std::vector<std::string>(operands, type), type, {}, {}};
    graph::KernelOp kernel = build(c);
    auto resolved = llvm::cantFail(parseCpuTarget(target));
    CpuCodegenOptions options;
    options.symbol = "k";
    auto code = emitLoopNest(kernel, resolved, options);
    std::string error;
    return LoadedKernel::load(*code, resolved, error);
  }

  /// |got - exact| in units of the last place of the f32 nearest to `exact`.
  static double ulps(float got, double exact) {
    float nearest = static_cast<float>(exact);
    if (std::isnan(nearest) || std::isnan(got))
      return std::isnan(nearest) && std::isnan(got) ? 0 : 1e30;
    if (std::isinf(nearest) || std::isinf(got))
      return nearest == got ? 0
             : std::abs(double(got)) >= 3.4028234e38 &&
                     std::abs(exact) >= 3.4028234e38
                 ? 1
                 : 1e30;
    double unit = std::max(std::ldexp(1.0, -149),
                           double(std::nextafter(std::abs(nearest), INFINITY)) -
                               std::abs(nearest));
    return std::abs(got - exact) / unit;
  }

  using Exact = double (*)(double);
  double worst(const std::string &op, const std::string &target, Exact exact,
               float *where) {
    auto kernel = load(op, "f32", target);
    if (!kernel)
      return 1e30;
    GuardedBuffer x(block * 4), y(block * 4);
    uint64_t step = getenv("DLC_TEST_FULL") ? 1 : 6007, bits = 0;
    double result = 0;
    while (bits < (uint64_t(1) << 32)) {
      for (int64_t i = 0; i < block; ++i, bits += step) {
        uint32_t pattern = static_cast<uint32_t>(bits);
        std::memcpy(x.as<float>() + i, &pattern, 4);
      }
      kernel->run({x.data(), y.data()}, {});
      for (int64_t i = 0; i < block; ++i) {
        double error = ulps(y.as<float>()[i], exact(x.as<float>()[i]));
        if (error > result) {
          result = error;
          *where = x.as<float>()[i];
        }
      }
    }
    return result;
  }
};

TEST_F(UlpTest, Single) {
  struct {
    const char *op;
    Exact exact;
  } functions[] = {{"exp", std::exp}, {"log", std::log}, {"tanh", std::tanh},
                   {"erf", std::erf}, {"sin", std::sin}, {"cos", std::cos}};
  for (auto &f : functions)
    for (const std::string &target : runnableTargets()) {
      float where = 0;
      double error = worst(f.op, target, f.exact, &where);
      EXPECT_LE(error, 2.0) << f.op << " at " << where << " on " << target;
      RecordProperty(std::string(f.op) + "." + target, std::to_string(error));
    }
}

// expm1 and log1p have no row of their own: elu with alpha 1 is expm1 below
// zero, softplus is log1p(exp(-|x|)) there.
TEST_F(UlpTest, ThroughRows) {
  for (const std::string &target : runnableTargets()) {
    OpCase c{"elu",
             "alpha = 1.0 : f64",
             {"tensor<65536xf32>"},
             "tensor<65536xf32>",
             {},
             {}};
    graph::KernelOp kernel = build(c);
    auto resolved = llvm::cantFail(parseCpuTarget(target));
    CpuCodegenOptions options;
    options.symbol = "k";
    auto code = emitLoopNest(kernel, resolved, options);
    std::string error;
    auto loaded = LoadedKernel::load(*code, resolved, error);
    ASSERT_TRUE(loaded) << error;
    GuardedBuffer x(block * 4), y(block * 4);
    double worst = 0;
    for (uint32_t start = 0x80000000; start < 0xc2c00000;) {
      for (int64_t i = 0; i < block; ++i, start += 1009)
        std::memcpy(x.as<float>() + i, &start, 4);
      loaded->run({x.data(), y.data()}, {});
      for (int64_t i = 0; i < block; ++i)
        worst = std::max(worst, ulps(y.as<float>()[i],
                                     std::expm1(double(x.as<float>()[i]))));
    }
    EXPECT_LE(worst, 2.0) << target;
  }
}

TEST_F(UlpTest, Powers) {
  for (const std::string &target : runnableTargets()) {
    auto kernel = load("pow", "f32", target, 2);
    ASSERT_TRUE(kernel);
    GuardedBuffer x(block * 4), e(block * 4), y(block * 4);
    const float special[] = {0.0f,  -0.0f,   1.0f,  -1.0f, INFINITY, -INFINITY,
                             NAN,   1e-42f,  2.0f,  -2.0f, 0.5f,     3.0f,
                             -3.0f, 3.4e38f, -0.5f, 1e10f};
    std::uniform_real_distribution<float> base(0, 8), exponent(-20, 20);
    for (int64_t i = 0; i < block; ++i) {
      x.as<float>()[i] = i < 256 ? special[i / 16] : base(generator);
      e.as<float>()[i] = i < 256 ? special[i % 16] : exponent(generator);
      if (i % 8 == 7)
        x.as<float>()[i] = -x.as<float>()[i],
        e.as<float>()[i] = std::round(e.as<float>()[i]);
    }
    kernel->run({x.data(), e.data(), y.data()}, {});
    for (int64_t i = 0; i < block; ++i) {
      float a = x.as<float>()[i], b = e.as<float>()[i];
      ASSERT_LE(ulps(y.as<float>()[i], std::pow(double(a), double(b))), 2.0)
          << a << " to the power " << b << " is not " << y.as<float>()[i]
          << " on " << target;
    }
  }
}

// Squares are exact to the last bit, whatever their size.
TEST_F(UlpTest, SquaresAndCubes) {
  for (const std::string &target : runnableTargets()) {
    auto kernel = load("pow", "f32", target, 2);
    ASSERT_TRUE(kernel);
    GuardedBuffer x(block * 4), e(block * 4), y(block * 4);
    for (int64_t i = 0; i < block; ++i) {
      uint32_t pattern = static_cast<uint32_t>(generator());
      std::memcpy(x.as<float>() + i, &pattern, 4);
      e.as<float>()[i] = i % 2 ? 2 : 3;
    }
    kernel->run({x.data(), e.data(), y.data()}, {});
    for (int64_t i = 0; i < block; ++i) {
      float a = x.as<float>()[i], got = y.as<float>()[i];
      if (i % 2)
        ASSERT_TRUE(got == a * a || std::isnan(a)) << a << " squared: " << got;
      else
        ASSERT_LE(ulps(got, std::pow(double(a), 3.0)), 1.5) << a << " cubed";
    }
  }
}

// A vector divided by one number may be multiplied by its reciprocal and
// corrected.
TEST_F(UlpTest, DivisionByOneNumber) {
  std::string type = "tensor<" + std::to_string(block) + "xf32>";
  for (const std::string &target : runnableTargets()) {
    OpCase c{"div", "", {type, "tensor<1xf32>"}, type, {}, {}};
    graph::KernelOp kernel = build(c);
    auto resolved = llvm::cantFail(parseCpuTarget(target));
    CpuCodegenOptions options;
    options.symbol = "k";
    auto code = emitLoopNest(kernel, resolved, options);
    std::string error;
    auto loaded = LoadedKernel::load(*code, resolved, error);
    ASSERT_TRUE(loaded) << error;
    GuardedBuffer x(block * 4), d(4), y(block * 4);
    for (float divisor :
         {3.0f, -7.0f, 0.1f, 1.9999999f, 768.0f, 0x1p-60f, 0x1p60f, 1e-30f,
          1e30f, 1e-40f, 0.0f, -0.0f, INFINITY, -INFINITY, NAN}) {
      for (int64_t i = 0; i < block; ++i) {
        uint32_t pattern = static_cast<uint32_t>(generator());
        std::memcpy(x.as<float>() + i, &pattern, 4);
      }
      const float special[] = {0.0f, INFINITY, -INFINITY, NAN, 1e-45f, 3.4e38f};
      std::copy(std::begin(special), std::end(special), x.as<float>());
      *d.as<float>() = divisor;
      loaded->run({x.data(), d.data(), y.data()}, {});
      for (int64_t i = 0; i < block; ++i) {
        float a = x.as<float>()[i], got = y.as<float>()[i];
        double exact = double(a) / double(divisor);
        bool isSmall = std::abs(exact) < 0x1p-100 || std::abs(a) < 0x1p-100f;
        ASSERT_LE(ulps(got, exact), isSmall ? 1.0 : 0.500001)
            << a << " / " << divisor << " is not " << got << " on " << target;
      }
    }
  }
}

TEST_F(UlpTest, Double) {
  for (const std::string &target : runnableTargets())
    for (const char *op : {"exp", "log"}) {
      auto kernel = load(op, "f64", target);
      ASSERT_TRUE(kernel);
      bool isExp = op[0] == 'e';
      GuardedBuffer x(block * 8), y(block * 8);
      std::uniform_real_distribution<double> values(-745, 709);
      for (int64_t i = 0; i < block; ++i) {
        double v = values(generator);
        x.as<double>()[i] = isExp ? v : std::exp(v);
      }
      const double special[] = {0.0,    -0.0, INFINITY, -INFINITY, NAN,
                                1e-310, -1.0, 1.0,      800.0,     -800.0};
      std::copy(std::begin(special), std::end(special), x.as<double>());
      kernel->run({x.data(), y.data()}, {});
      for (int64_t i = 0; i < block; ++i) {
        double v = x.as<double>()[i], got = y.as<double>()[i];
        double exact = isExp ? std::exp(v) : std::log(v);
        bool same = got == exact || (std::isnan(got) && std::isnan(exact));
        ASSERT_TRUE(same || std::abs(got - exact) <=
                                std::max(std::abs(exact) * 1e-12, 1e-320))
            << op << " of " << v << ": " << got << ", not " << exact;
      }
    }
}

/// The measure must see an error of three units.
TEST_F(UlpTest, NegativeControl) {
  float x = 1.5f;
  for (int i = 0; i < 3; ++i)
    x = std::nextafter(x, 2.0f);
  EXPECT_GT(ulps(x, 1.5), 2.5);
  EXPECT_LT(ulps(1.5f, 1.5), 0.1);
  EXPECT_GT(ulps(NAN, 1.5), 1e20);
  EXPECT_GT(ulps(INFINITY, 1.5), 1e20);
}
} // namespace
