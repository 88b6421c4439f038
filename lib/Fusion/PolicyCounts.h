// Counting for the policy: sizes, points and the work of nodes.
#ifndef DLC_LIB_FUSION_POLICYCOUNTS_H
#define DLC_LIB_FUSION_POLICYCOUNTS_H

#include "dlc/Fusion/Profitability.h"

namespace dlc::fusion {

double sizeOf(mlir::AffineExpr extent, llvm::ArrayRef<int64_t> symbols);
double pointsOf(llvm::ArrayRef<mlir::AffineExpr> extents,
                llvm::ArrayRef<int64_t> symbols);
/// Vector operations of one node at one point, measured on the CPU nests.
double weightOf(const Node &node);

/// The first stage that isContraction, or null.
const Stage *findContraction(const Body &body);
/// The product of the last axes that one factor alone moves along: a row of
/// the nest's tiles.
double columnsOf(const Stage &sum, llvm::ArrayRef<int64_t> symbols);

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_POLICYCOUNTS_H
