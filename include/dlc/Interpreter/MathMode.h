// Which implementation of the elementary functions the interpreter uses.
//
// `libm` is the oracle of operators. `dlc` is the compiler's own polynomials,
// bit for bit, so that strict mode can be compared exactly; code generation
// owns them and registers their table here, because the interpreter does not
// know code generation.
#ifndef DLC_INTERPRETER_MATHMODE_H
#define DLC_INTERPRETER_MATHMODE_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <array>

namespace dlc::interp {

/// The functions whose value depends on the implementation; everything else
/// (sqrt, ceil, ...) is exact or correctly rounded.
struct MathTable {
  static constexpr unsigned kSize =
      32; // ScalarFn values of the functions below are smaller
  llvm::StringRef name;
  /// By ScalarFn; set for exp, log, sin, cos, tan, asin, acos, atan, sinh,
  /// cosh, tanh, asinh, acosh, atanh, erf, log1p and expm1.
  std::array<float (*)(float), kSize> f32{};
  std::array<double (*)(double), kSize> f64{};
  float (*pow32)(float, float) = nullptr;
  double (*pow64)(double, double) = nullptr;

  float (*get(graph::ScalarFn fn, float) const)(float) {
    return f32[static_cast<unsigned>(fn)];
  }
  double (*get(graph::ScalarFn fn, double) const)(double) {
    return f64[static_cast<unsigned>(fn)];
  }
};

/// The functions of the C library.
const MathTable &getLibmMath();

/// Makes `table` the math of mode `dlc`; it must outlive every interpreter.
void registerDlcMath(const MathTable *table);

/// The compiler's own functions; null when none were registered.
const MathTable *getDlcMath();

} // namespace dlc::interp

#endif // DLC_INTERPRETER_MATHMODE_H
