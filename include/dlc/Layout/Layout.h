// Layouts of intermediate tensors: channels last around convolutions.
//
// A tensor is relaid by renaming: the stages that compute it get their domain
// in another order, every load of it another order of indices. Copies stand
// only where a large convolution reads or writes what others own. A kernel made
// so says in the attribute `graph.relayout` what it is of which kernel; what
// comes out is not trusted, Check proves it.
#ifndef DLC_LAYOUT_LAYOUT_H
#define DLC_LAYOUT_LAYOUT_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include "mlir/IR/BuiltinOps.h"

#include <set>
#include <string>

namespace dlc::layout {

/// The name of the claim on a relaid kernel: a dictionary of `of` (the kernel
/// it renames, a string), `operands`, `results`, `domains` and `reduces` (of
/// its stages in order), each a list of permutations, and `laws`. Axis i of
/// what is new is axis permutation[i] of what was; empty: unchanged.
/// `wideOperands` and `wideResults` number those of 16-bit floats that hold the
/// same numbers in float32. Scalar operations that widen or narrow them and
/// were not there before have the attribute too, without a value.
inline constexpr llvm::StringLiteral kClaim = "graph.relayout";

/// How convolutions read images of bf16.
enum class Bf16Images {
  Kept,   ///< with their channels first
  Paired, ///< channels last, by dot products of pairs
  Widened ///< channels last, stored as float32, as those of f16 are
};

struct LayoutOptions {
  /// Kernels whose operands and results keep their layouts.
  std::set<std::string> keep;
  /// Elements of a vector register; an image of fewer channels keeps its
  /// layout.
  unsigned lanes = 1;
  /// Convolutions of several taps may be filtered (Winograd), which reads
  /// channels last alone.
  bool filters = false;
  Bf16Images bf16 = Bf16Images::Widened;
};

struct LayoutReport {
  unsigned tensors = 0; ///< values that have another layout
  unsigned widened = 0; ///< those of 16-bit floats that are stored as float32
  unsigned kernels = 0; ///< kernels made for them
};

/// Relays tensors in place. Does nothing to a module with certificates, which
/// are about kernels as they are.
LayoutReport relayTensors(mlir::ModuleOp module, const LayoutOptions &options);

/// Erases the claims.
void dropClaims(mlir::ModuleOp module);

} // namespace dlc::layout

#endif // DLC_LAYOUT_LAYOUT_H
