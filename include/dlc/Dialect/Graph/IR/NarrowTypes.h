// Element types that are computed with in a wider one: 8-, 6- and 4-bit floats,
// 4- and 2-bit integers. A tensor of one is a tensor of ui8 codes, a byte an
// element: the type's bits, the high ones zero. Only the boundary of a model
// and the two rows here (encode, decode) know which type a code is of.
#ifndef DLC_DIALECT_GRAPH_IR_NARROWTYPES_H
#define DLC_DIALECT_GRAPH_IR_NARROWTYPES_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Value.h"

namespace dlc::graph {
class ExprBuilder;

/// True for the element types that are stored as codes.
bool isNarrow(mlir::Type element);

/// The type a code is decoded to: f32, i8 or ui8. Each holds every value of the
/// narrow type exactly.
mlir::Type getDecodedType(mlir::Type narrow);

/// The argument and result attribute of @main (and of program.input and
/// program.output) that names the narrow type of a tensor of codes.
constexpr llvm::StringLiteral kNarrowAttr = "graph.narrow";

/// How a float is rounded to f8E8M0FNU, whose values are powers of two. The
/// other formats round to nearest even.
enum class PowerRounding { Up, Down, Nearest };

namespace detail {
/// The value of a ui8 code, in getDecodedType.
mlir::Value buildDecode(ExprBuilder &b, mlir::Value code, mlir::Type narrow);

/// The ui8 code of a number of any element type, as ONNX's Cast: floats round
/// once, from the source's own precision; out of range is the largest value
/// with `saturate`, else infinity or NaN; integers keep their low bits.
mlir::Value buildEncode(ExprBuilder &b, mlir::Value x, mlir::Type narrow,
                        bool saturate, PowerRounding rounding);
} // namespace detail

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_NARROWTYPES_H
