// The graph part: which original operation each value of the fused program is.
#ifndef DLC_LIB_CHECK_VALUES_H
#define DLC_LIB_CHECK_VALUES_H

#include "Index.h"
#include "dlc/Check/Fusion.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace dlc::check {

/// Numbers operations by what they are and what they read, so that equal
/// numbers mean equal values. Kernels count by their bodies, not their names.
class ValueNumbering {
public:
  explicit ValueNumbering(IndexArena &index) : index(index) {}

  struct Numbered {
    uint32_t id;
    bool isNew;
  };
  /// `symbols`: what the dim symbols of the operation's region are.
  Numbered number(mlir::Operation *op, llvm::ArrayRef<uint32_t> operands,
                  llvm::ArrayRef<PolyId> symbols, graph::KernelOp callee,
                  llvm::ArrayRef<uint64_t> inside = {});
  /// The number of result `i` of operation `id`.
  uint32_t value(uint32_t id, unsigned i);
  uint32_t kernel(graph::KernelOp kernel);

private:
  IndexArena &index;
  SequenceMap<uint32_t> operations, values, kernels;
  llvm::DenseMap<mlir::Operation *, uint32_t> kernelOf;
};

/// The symbols s0, s1, ... that a function of `count` symbols has.
llvm::SmallVector<PolyId> ownSymbols(IndexArena &index, unsigned count);
/// The polynomials that a call gives for its kernel's symbols.
llvm::SmallVector<PolyId> callSymbols(IndexArena &index, graph::CallOp call,
                                      llvm::ArrayRef<PolyId> symbols);
/// How many dim symbols a function of the graph level may name.
unsigned countFunctionSymbols(mlir::func::FuncOp main);

struct GraphVerdict {
  std::optional<Refusal> refusal;
  std::string blamed; // kernel
};
/// C-SSA, C-SAME-NODES, C-LIVE, C-CONVEX and C-PURE in one sweep.
GraphVerdict checkGraph(mlir::ModuleOp original, mlir::ModuleOp fused);

/// Certificates by the kernel they are for.
llvm::DenseMap<mlir::StringAttr, graph::CertificateOp>
certificatesOf(mlir::ModuleOp fused);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_VALUES_H
