// The scalar functions of kernels as arith operations, on one scalar or on a
// vector of lanes. What every function means on every dtype is the
// interpreter's lib/Interpreter/ScalarFunctions.cpp; this is the same in code.
#ifndef DLC_CODEGEN_COMMON_SCALAREMITTER_H
#define DLC_CODEGEN_COMMON_SCALAREMITTER_H

#include "dlc/Codegen/Common/VectorMath.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// What scalar code must know of the machine and the numerics.
struct ScalarOptions {
  bool fma = true;            ///< fused multiply-add instructions
  bool halfConvert = true;    ///< f16 <-> f32 instructions
  bool bf16Convert = false;   ///< f32 -> bf16 as one
  bool nanMaximum = false;    ///< max and min instructions that keep NaN
  bool scaleExponent = false; ///< x * 2^n as one instruction, of vectors too
  bool tables = false;        ///< 32 floats are looked up by one instruction
  bool slowDivide = false;    ///< of a vector: as long as ten multiply-adds
  bool maskedMemory = false;  ///< loads and stores of some lanes are cheap
  bool strict = false;        ///< the interpreter's bits: signs of zeros too

  static ScalarOptions get(const CpuTarget &target, bool strict);
};

/// A value computed with: the SSA value (a scalar or a vector of lanes) and the
/// graph's type of it. f16 and bf16 are held as f32 values that the 16-bit type
/// can represent; bool as i1; integers are signless.
struct Scalar {
  mlir::Value value;
  mlir::Type type;
  bool isVector() const { return llvm::isa<mlir::VectorType>(value.getType()); }
};

class ScalarEmitter {
public:
  ScalarEmitter(mlir::OpBuilder &builder, mlir::Location loc,
                const ScalarOptions &options)
      : b(builder), loc(loc), options(options),
        math(builder, loc, options.fma, options.scaleExponent, options.tables) {
  }

  /// The SSA type of values of `type`: a vector when `lanes` > 0.
  static mlir::Type computeType(mlir::Type type, unsigned lanes = 0);

  /// What a buffer of `type` holds here: bool is a byte, 16-bit floats are i16.
  static mlir::Type storageType(mlir::Type type);

  /// fn(args): scalars are broadcast where another argument is a vector.
  Scalar apply(graph::ScalarFn fn, llvm::ArrayRef<Scalar> args);
  Scalar cast(Scalar x, mlir::Type to, bool saturate = false);
  Scalar literal(mlir::TypedAttr attr);
  /// What a fold starts from.
  Scalar identity(graph::FoldKind kind, mlir::Type type);
  /// One step of a fold that is not an arg fold.
  Scalar combine(graph::FoldKind kind, Scalar accumulator, Scalar x);
  /// The same value in every lane; vectors are returned as they are.
  Scalar broadcast(Scalar x, unsigned lanes);
  /// c ? x : y; c is i1 or a vector of it.
  Scalar select(mlir::Value c, Scalar x, Scalar y);

  /// Between what lies in memory (storageType) and what is computed with.
  Scalar fromStorage(mlir::Value stored, mlir::Type type);
  mlir::Value toStorage(Scalar x);

private:
  Scalar unaryFloat(graph::ScalarFn fn, Scalar x);
  Scalar unaryInteger(graph::ScalarFn fn, Scalar x);
  Scalar binaryFloat(graph::ScalarFn fn, Scalar x, Scalar y);
  Scalar binaryInteger(graph::ScalarFn fn, Scalar x, Scalar y);
  Scalar divideInteger(graph::ScalarFn fn, Scalar x, Scalar y);
  Scalar compare(graph::ScalarFn fn, Scalar x, Scalar y);
  Scalar power(Scalar x, Scalar y);
  mlir::Value integerPower(Scalar x, Scalar y);
  mlir::Value divideByOne(mlir::Value x, mlir::Value y);
  mlir::Value maximum(mlir::Value x, mlir::Value y, bool isMax);
  Scalar fromFloat(Scalar x, mlir::Type to, bool saturate);
  Scalar fromInteger(Scalar x, mlir::Type to, bool saturate);
  mlir::Value truncateToI64(mlir::Value x, mlir::Type to);
  /// Rounds an f32 value to what f16 or bf16 can hold.
  mlir::Value roundTo(mlir::Value x, mlir::Type type);
  mlir::Value narrow(mlir::Value x, mlir::Type type);   ///< f32 -> 16 bits
  mlir::Value widen(mlir::Value bits, mlir::Type type); ///< 16 bits -> f32
  mlir::Value roundToOdd(mlir::Value x);                ///< f64 -> f32
  mlir::Value constant(mlir::Type type, mlir::Attribute value);
  mlir::Value integer(mlir::Type type, int64_t value);
  mlir::Value number(mlir::Type type, double value);
  mlir::Type withElement(mlir::Type like, mlir::Type element);

  mlir::OpBuilder &b;
  mlir::Location loc;
  ScalarOptions options;
  VectorMath math;
};

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_SCALAREMITTER_H
