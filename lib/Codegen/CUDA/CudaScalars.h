// Scalar functions on one CUDA thread: the shared ones of Codegen/Common,
// except where the GPU has an instruction for it.
#ifndef DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H
#define DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H

#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "mlir/IR/BuiltinOps.h"

namespace dlc {

class CudaScalars : public ScalarEmitter {
public:
  CudaScalars(mlir::OpBuilder &builder, mlir::Location loc, bool strict)
      : ScalarEmitter(builder, loc, options(strict)), b(builder), loc(loc),
        strict(strict) {}

  Scalar apply(graph::ScalarFn fn, llvm::ArrayRef<Scalar> args);

  /// x / y with the reciprocal of a y that many x have, which is computed once
  /// (equal code): right to 0.5 + 2^-22 of a unit in the last place, to one
  /// where the quotient is subnormal.
  Scalar divideByShared(Scalar x, Scalar y);

  /// Of every GPU since sm_80.
  static ScalarOptions options(bool strict);

private:
  mlir::Value exp(mlir::Value x);

  mlir::OpBuilder &b;
  mlir::Location loc;
  bool strict;
};

/// Codegen/Common calls libm for what it has no polynomial for; a GPU has no
/// libm. Replaces the calls by ops that the lowering expands. Emits a
/// diagnostic and fails on a function that there is no expansion of.
llvm::LogicalResult replaceMathCalls(mlir::ModuleOp module);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H
