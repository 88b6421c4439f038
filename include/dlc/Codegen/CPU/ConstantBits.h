// What a kernel's code may assume of the values of its constants.
#ifndef DLC_CODEGEN_CPU_CONSTANTBITS_H
#define DLC_CODEGEN_CPU_CONSTANTBITS_H

#include "llvm/ADT/StringRef.h"

namespace dlc {

/// An attribute of graph.kernel, an array of i8, one an operand: bytes of the
/// operand are constants, numbers of so many bits, with their sign where the
/// type has one; 8 says nothing. Set for code generation alone.
inline constexpr llvm::StringLiteral kConstantBits = "graph.constant_bits";

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONSTANTBITS_H
