// What the builders of opaque operators share: a phase under construction with
// index and scalar arithmetic, and access to buffers by element number.
#ifndef DLC_LIB_CODEGEN_CPU_OPAQUE_H
#define DLC_LIB_CODEGEN_CPU_OPAQUE_H

#include "dlc/Codegen/CPU/OpaqueNest.h"
#include "dlc/Codegen/Common/IndexBuilder.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace dlc {

/// The kernel that a builder fills.
struct OpaqueKernel {
  graph::KernelOp kernel;
  const CpuTarget &target;
  const CpuCodegenOptions &options;
  CpuKernel &result;
};

/// One phase. Buffers are numbered as in the ABI: operands, then results.
class OpaquePhase {
public:
  /// Adds the phase to the kernel; the builder stands in its body until
  /// finish().
  OpaquePhase(OpaqueKernel &kernel, mlir::AffineExpr numTasks);

  KernelFunctionBuilder function;
  mlir::OpBuilder &b;
  mlir::Location loc;
  IndexBuilder index;
  ScalarEmitter scalar;

  /// A size as an index value.
  mlir::Value size(mlir::AffineExpr expr) {
    return index.expr(expr, {}, function.symbols());
  }
  /// The sizes of buffer `i`.
  llvm::ArrayRef<mlir::AffineExpr> dims(unsigned i) const { return shapes[i]; }
  mlir::Type element(unsigned i) const { return elements[i]; }

  /// Element number `at` of buffer `i`, as a value to compute with.
  Scalar load(unsigned i, mlir::Value at);
  void store(Scalar value, unsigned i, mlir::Value at);
  /// The same for buffers and scratch of i64, as index values.
  mlir::Value loadIndex(mlir::Value memref, mlir::Value at);
  mlir::Value loadIndex(unsigned i, mlir::Value at) {
    return loadIndex(function.buffer(i), at);
  }
  void storeIndex(mlir::Value value, mlir::Value memref, mlir::Value at);
  void storeIndex(mlir::Value value, unsigned i, mlir::Value at) {
    storeIndex(value, function.buffer(i), at);
  }

  mlir::Value both(mlir::Value x, mlir::Value y);
  mlir::Value isTrue(bool value);
  mlir::Value select(mlir::Value c, mlir::Value x, mlir::Value y);

  /// `for i in [from, to)` that carries one value; returns the last one.
  mlir::Value fold(
      mlir::Value from, mlir::Value to, mlir::Value initial,
      llvm::function_ref<mlir::Value(mlir::Value i, mlir::Value carried)> body);
  /// Runs `body` where `condition` holds and gives its value, else `otherwise`.
  mlir::Value when(mlir::Value condition, mlir::Value otherwise,
                   llvm::function_ref<mlir::Value()> body);
  void when(mlir::Value condition, llvm::function_ref<void()> body);
  /// The first i in [from, to) where `stops` holds, else `to`. `stops` is asked
  /// for no i behind it.
  mlir::Value findFirst(mlir::Value from, mlir::Value to,
                        llvm::function_ref<mlir::Value(mlir::Value i)> stops);

  /// Ends the body.
  void finish() { function.finish(); }

private:
  std::vector<llvm::SmallVector<mlir::AffineExpr>> shapes;
  llvm::SmallVector<mlir::Type> elements;
};

// The builders; each adds its phases.
void emitArgsort(OpaqueKernel &kernel, graph::ArgsortOp op);
void emitCompact(OpaqueKernel &kernel, graph::CompactOp op);
void emitScatter(OpaqueKernel &kernel, graph::ScatterOp op);
void emitNms(OpaqueKernel &kernel, graph::NmsOp op);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_OPAQUE_H
