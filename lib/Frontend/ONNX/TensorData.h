//===- TensorData.h - the values of a TensorProto ---------------*- C++ -*-===//
//
// A TensorProto stores its values in one of eight ways. These functions check
// that what is stored fits the declared shape and bring it to one form: element
// after element, little endian, a byte at least for each.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_TENSORDATA_H
#define LIB_FRONTEND_ONNX_TENSORDATA_H

#include "onnx/onnx_pb.h"
#include "llvm/ADT/ArrayRef.h"

#include <optional>
#include <string>
#include <vector>

namespace dlc {

/// Bits of one element as ONNX stores it packed; 0 for strings and unknown
/// types.
unsigned getElementBits(int dataType);

/// Product of dims; nothing when one is negative or the product passes 2^46.
std::optional<uint64_t> countElements(llvm::ArrayRef<int64_t> dims);

/// Bytes the tensor needs in raw_data or an external file.
std::optional<uint64_t> getPackedBytes(const onnx::TensorProto &tensor);

/// Why the tensor is malformed; empty when it is not. External data is only
/// checked for its entries, not opened.
std::string checkTensor(const onnx::TensorProto &tensor);

/// The values when they lie in memory as wanted: raw_data or a typed field of
/// the same width, of a type of whole bytes.
std::optional<llvm::ArrayRef<char>>
getPlainBytes(const onnx::TensorProto &tensor);

/// The values copied into the wanted form; `packed` are raw bytes if any.
std::vector<char> copyPlainBytes(const onnx::TensorProto &tensor,
                                 llvm::ArrayRef<char> packed);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_TENSORDATA_H
