//===- DeclaredSizes.h - sizes the model declares ---------------*- C++ -*-===//
//
// Converters for operators whose sizes only the run tells, where the model
// declares the sizes of the result all the same.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_DECLAREDSIZES_H
#define LIB_FRONTEND_ONNX_DECLAREDSIZES_H

#include "Converter.h"

namespace dlc {

/// After the others: falls back to their converters, with the declared sizes.
void addDeclaredSizes(ConverterTable &table);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_DECLAREDSIZES_H
