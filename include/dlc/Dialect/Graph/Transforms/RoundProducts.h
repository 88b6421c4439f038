// Products whose factors may be rounded: what -precision chooses among. The law
// is round(bf16): each factor is the nearest bf16 number, sums stay f32. It
// changes what the model computes, so that it is asked for and bounded by
// measurement, never a default.
#ifndef DLC_DIALECT_GRAPH_TRANSFORMS_ROUNDPRODUCTS_H
#define DLC_DIALECT_GRAPH_TRANSFORMS_ROUNDPRODUCTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace dlc::graph {

struct Product {
  mlir::Operation *op; ///< graph.contract or graph.conv
  double flops;        ///< of one run, at the typical sizes
};

/// The float32 products of `main` of which one factor is a constant of the
/// model, in program order. (A product of two computed factors is most often
/// part of an attention, which has a nest for f32.) Convolutions of few
/// channels a group are no products of matrices and are left out.
llvm::SmallVector<Product> findProducts(mlir::func::FuncOp main);

/// Rounds both factors of each product to bf16; results stay f32. Constants are
/// rounded here, other values by a graph.convert that all their products share.
void roundProducts(llvm::ArrayRef<Product> products);

/// Makes the rounding a choice of each run: `main` gets one more argument,
/// bools named `precision.mask`, and the factors of product i are rounded where
/// element i is true. For measuring what each rounding does to the results.
void probeProducts(mlir::func::FuncOp main, llvm::ArrayRef<Product> products);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_TRANSFORMS_ROUNDPRODUCTS_H
