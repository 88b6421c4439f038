// Elementary functions as polynomials on scalars and vectors alike. What is
// worth a polynomial (exp, log, tanh, erf, sin, cos, pow) is written out as
// arith operations; the rest calls libm once a lane.
#ifndef DLC_CODEGEN_COMMON_VECTORMATH_H
#define DLC_CODEGEN_COMMON_VECTORMATH_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

#include <array>

namespace dlc {

/// Builds elementary functions of f32 and f64 values (scalars or
/// one-dimensional vectors). No fast-math flags; NaN in gives NaN out. f32
/// results are within 2 ULP; f64 ones within 1e-12 relative.
class VectorMath {
public:
  /// `fma`: the machine multiplies and adds in one instruction;
  /// `scaleExponent`: it has one for x * 2^n, which changes no bits;
  /// `tables`: it looks 32 floats up in registers (AVX-512), and erf and tanh
  /// do, with other bits.
  VectorMath(mlir::OpBuilder &builder, mlir::Location loc, bool fma,
             bool scaleExponent = false, bool tables = false)
      : b(builder), loc(loc), hasFma(fma), hasScaleExponent(scaleExponent),
        hasTables(tables) {}

  mlir::Value exp(mlir::Value x);
  /// exp for f32 x <= 0 or NaN (others give anything but a trap), about half
  /// the instructions: what would be subnormal is 0.
  mlir::Value expOfNonPositive(mlir::Value x);
  mlir::Value expm1(mlir::Value x);
  mlir::Value log(mlir::Value x);
  mlir::Value log1p(mlir::Value x);
  mlir::Value tanh(mlir::Value x);
  mlir::Value erf(mlir::Value x);
  mlir::Value sin(mlir::Value x) { return sinCos(x, /*cosine=*/false); }
  mlir::Value cos(mlir::Value x) { return sinCos(x, /*cosine=*/true); }
  mlir::Value pow(mlir::Value x, mlir::Value y);
  /// Calls C's `name` (`name`f for f32) once a lane.
  mlir::Value libm(llvm::StringRef name, mlir::ValueRange args);

  /// An odd function g of f32 that is 1 from `limit` on: g(x) / x as 32
  /// polynomials, of the distance from the nearest multiple of `width`.
  using Row = std::array<float, 32>;
  struct OddTable {
    double limit, width;
    llvm::ArrayRef<Row> rows; ///< lowest power first
  };
  static const OddTable erfTable, tanhTable;

private:
  // Small words for the formulas below; a double stands for a splat constant.
  mlir::Value num(double value, mlir::Value like);
  mlir::Value integer(int64_t value, mlir::Value like);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value div(mlir::Value x, mlir::Value y);
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  mlir::Value abs(mlir::Value x);
  mlir::Value compare(mlir::arith::CmpFPredicate predicate, mlir::Value x,
                      mlir::Value y);
  mlir::Value select(mlir::Value c, mlir::Value x, mlir::Value y);
  mlir::Value toBits(mlir::Value x);
  mlir::Value fromBits(mlir::Value bits, mlir::Value like);
  mlir::Value copySign(mlir::Value magnitude, mlir::Value sign);
  /// Horner's rule, lowest coefficient first.
  mlir::Value polynomial(llvm::ArrayRef<double> coefficients, mlir::Value x);
  bool isDouble(mlir::Value x);
  /// The same number of lanes of another element type.
  mlir::Type withElement(mlir::Value like, mlir::Type element);
  mlir::Value toDouble(mlir::Value x);
  mlir::Value toSingle(mlir::Value x);

  /// n = round(x / ln 2) as a number and as an integer, r = x - n ln 2.
  struct Reduced {
    mlir::Value r, n, nBits;
  };
  Reduced reduceExp(mlir::Value x);
  mlir::Value exp2Integer(mlir::Value n, mlir::Value like);
  /// x * 2^n, rounded once, for x in [1/2, 2] and any n that x * 2^n may have.
  /// x * 2^n
  mlir::Value scaleExponent(mlir::Value x, Reduced reduced);
  mlir::Value expTail(mlir::Value r); ///< (e^r - 1 - r) / r^2
  /// x = 2^k m with m in [sqrt(1/2), sqrt(2)); for positive normal x.
  struct Split {
    mlir::Value m, k;
  };
  Split splitExponent(mlir::Value x);
  mlir::Value logTail(mlir::Value f); ///< log(1 + f) - f, |f| small
  mlir::Value logEdges(mlir::Value x, mlir::Value result);
  mlir::Value exp64(mlir::Value x);
  mlir::Value log64(mlir::Value x);
  mlir::Value sinCos(mlir::Value x, bool cosine);
  mlir::Value byTable(mlir::Value x, const OddTable &table);
  /// row[the low five bits of `index`]
  mlir::Value lookUp(const Row &row, mlir::Value index, mlir::Value like);

  mlir::OpBuilder &b;
  mlir::Location loc;
  bool hasFma, hasScaleExponent, hasTables;
};

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_VECTORMATH_H
