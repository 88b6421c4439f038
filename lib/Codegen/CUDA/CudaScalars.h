// Scalar functions on one CUDA thread: the shared ones of Codegen/Common, except
// where the GPU has an instruction for it or where Common would call libm, which
// a GPU does not have.
#ifndef DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H
#define DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H

#include "dlc/Codegen/Common/ScalarEmitter.h"

namespace dlc {

class CudaScalars : public ScalarEmitter {
public:
  CudaScalars(mlir::OpBuilder &builder, mlir::Location loc, bool strict)
      : ScalarEmitter(builder, loc, options(strict)), b(builder), loc(loc),
        strict(strict) {}

  /// fn(args); a null value: there is no such function on this type.
  Scalar apply(graph::ScalarFn fn, llvm::ArrayRef<Scalar> args);

private:
  static ScalarOptions options(bool strict);
  mlir::Value exp(mlir::Value x);

  mlir::OpBuilder &b;
  mlir::Location loc;
  bool strict;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_CUDASCALARS_H
