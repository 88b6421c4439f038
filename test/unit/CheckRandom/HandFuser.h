// A fuser that is right by construction and has no taste: windows of the
// program become kernels of all their stages, and random reads of pointwise
// stages are inlined. And lies planted into what it made.
#ifndef DLC_TEST_UNIT_CHECKRANDOM_HANDFUSER_H
#define DLC_TEST_UNIT_CHECKRANDOM_HANDFUSER_H

#include "RandomProgram.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace dlc::test {

/// `original` has kernels of one operator each, static sizes.
mlir::OwningOpRef<mlir::ModuleOp> fuseByHand(mlir::ModuleOp original,
                                             Random &random);

/// Changes one thing of a fused kernel, a certificate or @main; returns what,
/// "" when nothing was found to change. The result may well be right.
std::string plantLie(mlir::ModuleOp fused, Random &random);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CHECKRANDOM_HANDFUSER_H
