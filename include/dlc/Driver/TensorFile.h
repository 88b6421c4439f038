// Tensors in files: numpy's .npy, and ONNX's TensorProto (.pb) for reading.
#ifndef DLC_DRIVER_TENSORFILE_H
#define DLC_DRIVER_TENSORFILE_H

#include "dlc/Driver/Diagnostics.h"
#include "dlc/Interpreter/Tensor.h"

namespace dlc {

/// DLPack's code and width of an element type; see dlc/NarrowTypes.def.
std::pair<int64_t, int64_t> getDLPackType(mlir::Type element);

/// Reads a tensor by the file's extension. Errors have code Io.
llvm::Expected<interp::Tensor> readTensor(llvm::StringRef path,
                                          mlir::MLIRContext *context);

/// Writes `tensor` as .npy; bf16 has dtype '<V2'. Errors have code Io.
llvm::Error writeTensor(llvm::StringRef path, const interp::Tensor &tensor);

/// `tensor` as `type` where it holds the bit patterns of one: numpy has no
/// bfloat16, so such arrays are often kept as uint16. Else `tensor` itself.
interp::Tensor reinterpretBits(const interp::Tensor &tensor, mlir::Type type);

/// A tensor of random values: floats uniform in [-1, 1), integers in [0, 8),
/// bools 0 or 1. Equal seeds give equal values.
interp::Tensor makeRandomTensor(mlir::Type elementType,
                                llvm::ArrayRef<int64_t> shape, uint64_t seed);

/// A tensor to be made.
struct TensorSpec {
  mlir::Type elementType;
  llvm::SmallVector<int64_t> shape;
};

/// A random tensor for each, from seeds `seed`, `seed` + 1, ...
llvm::SmallVector<interp::Tensor>
makeRandomTensors(llvm::ArrayRef<TensorSpec> specs, uint64_t seed);

/// How far `actual` is from `expected`.
struct Difference {
  double maxAbsolute = 0; ///< max |a - b|; infinite where only one is a number
  double maxExpected = 0; ///< max |b| over finite values
  int64_t at = -1;        ///< row-major index of the worst element; -1: none
  double actual = 0, expected = 0; ///< there
  /// max|a-b| / max|b|, the measure of the tools. Where b is 0: 0 if a is too.
  double getRelative() const;
};

/// Compares element by element; NaN equals NaN and inf the same inf. Errors
/// when the shapes or element types differ.
llvm::Expected<Difference> compareTensors(const interp::Tensor &actual,
                                          const interp::Tensor &expected);

} // namespace dlc

#endif // DLC_DRIVER_TENSORFILE_H
