// The C library's functions as a table, and the place of the compiler's own.
#include "dlc/Interpreter/MathMode.h"

#include <atomic>
#include <cmath>

using namespace dlc;
using namespace dlc::interp;
using dlc::graph::ScalarFn;

static MathTable makeLibm() {
  MathTable table;
  table.name = "libm";
  auto set = [&](ScalarFn fn, float (*f)(float), double (*d)(double)) {
    table.f32[static_cast<unsigned>(fn)] = f;
    table.f64[static_cast<unsigned>(fn)] = d;
  };
  set(ScalarFn::exp, std::exp, std::exp);
  set(ScalarFn::log, std::log, std::log);
  set(ScalarFn::sin, std::sin, std::sin);
  set(ScalarFn::cos, std::cos, std::cos);
  set(ScalarFn::tan, std::tan, std::tan);
  set(ScalarFn::asin, std::asin, std::asin);
  set(ScalarFn::acos, std::acos, std::acos);
  set(ScalarFn::atan, std::atan, std::atan);
  set(ScalarFn::sinh, std::sinh, std::sinh);
  set(ScalarFn::cosh, std::cosh, std::cosh);
  set(ScalarFn::tanh, std::tanh, std::tanh);
  set(ScalarFn::asinh, std::asinh, std::asinh);
  set(ScalarFn::acosh, std::acosh, std::acosh);
  set(ScalarFn::atanh, std::atanh, std::atanh);
  set(ScalarFn::erf, std::erf, std::erf);
  set(ScalarFn::log1p, std::log1p, std::log1p);
  set(ScalarFn::expm1, std::expm1, std::expm1);
  table.pow32 = std::pow;
  table.pow64 = std::pow;
  return table;
}

const MathTable &interp::getLibmMath() {
  static const MathTable table = makeLibm();
  return table;
}

static std::atomic<const MathTable *> dlcMath{nullptr};
void interp::registerDlcMath(const MathTable *table) { dlcMath = table; }
const MathTable *interp::getDlcMath() { return dlcMath; }
