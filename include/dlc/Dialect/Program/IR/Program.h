// The program dialect: buffers, calls and copies (see ProgramOps.td).
#ifndef DLC_DIALECT_PROGRAM_IR_PROGRAM_H
#define DLC_DIALECT_PROGRAM_IR_PROGRAM_H

#include "mlir/IR/AffineMap.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include <array>

#include "dlc/Dialect/Program/IR/ProgramDialect.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dlc/Dialect/Program/IR/ProgramTypes.h.inc"
#define GET_OP_CLASSES
#include "dlc/Dialect/Program/IR/ProgramOps.h.inc"

namespace dlc::program {

/// Every buffer of the arena and of the weights starts at a multiple of this.
constexpr int64_t kAlignment = 64;

/// Marks a program.input that the model keeps between runs, as graph.state does
/// an argument of @main.
inline constexpr llvm::StringLiteral kStateAttr = "state";

/// A size in bytes as the attribute form: a map without dims and `numSymbols`
/// symbols.
mlir::AffineMapAttr makeSize(mlir::AffineExpr bytes, unsigned numSymbols);

/// The single result of a size map.
inline mlir::AffineExpr getSize(mlir::AffineMap size) {
  return size.getResult(0);
}

} // namespace dlc::program

#endif // DLC_DIALECT_PROGRAM_IR_PROGRAM_H
