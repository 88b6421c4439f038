// Counting for the policy: sizes, points and the work of nodes.
#ifndef DLC_LIB_FUSION_POLICYCOUNTS_H
#define DLC_LIB_FUSION_POLICYCOUNTS_H

#include "dlc/Fusion/Profitability.h"

namespace dlc::fusion {

double sizeOf(mlir::AffineExpr extent, llvm::ArrayRef<int64_t> symbols);
double pointsOf(llvm::ArrayRef<mlir::AffineExpr> extents,
                llvm::ArrayRef<int64_t> symbols);
double bytesOf(mlir::RankedTensorType type, llvm::ArrayRef<int64_t> symbols);
/// Vector operations of one node at one point, measured on the CPU nests.
double weightOf(const Node &node);
/// Of one stage at all its points.
double workOf(const Stage &stage, llvm::ArrayRef<int64_t> symbols);
/// Per node, the innermost axis it depends on (-1: none). Nests compute a node
/// outside of the loops it does not depend on.
std::vector<int> innermostAxes(const Stage &stage);
/// How many points of a stage without a fold one loop of the nests runs over:
/// those of the last axes that are one axis to each of its loads.
double innermostRun(const Stage &stage, const TensorTable &tensors,
                    llvm::ArrayRef<int64_t> symbols, double enough);
/// A narrow number that is widened, less a zero point where it is a byte: the
/// contraction nest copies it into panels, or multiplies it as it is. `inner`:
/// the first axis along which the zero point must not vary.
bool isNarrowFactor(const Stage &stage, unsigned id, unsigned inner);
/// Weights from narrow numbers, zero points and scales: the contraction nest
/// computes them while it packs, if they are constants.
bool isDequantized(const Stage &stage, unsigned id);

/// Whether both factors of a sum of products move along result axes of their
/// own: not where one is a vector, nor in a depthwise convolution.
bool hasOwnAxes(const Stage &sum);

/// The first stage that isContraction, or null.
const Stage *findContraction(const Body &body);

/// The element type of the result where it is an image of many channels that
/// convolutions alone read; else null.
mlir::Type imageOfConvolutions(const Candidate &candidate);
/// The product of the last axes that one factor alone moves along: a row of
/// the nest's tiles.
double columnsOf(const Stage &sum, llvm::ArrayRef<int64_t> symbols);

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_POLICYCOUNTS_H
