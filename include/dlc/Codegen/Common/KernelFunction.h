// The shape of every CPU kernel function. Code generators fill the body of a
// function over flat memrefs; the entry that the runtime calls, which takes the
// buffers out of a dlc_frame, is made from it when the module is lowered.
//
//   func.func private @k.impl(%buffer0: memref<?...>, ..., %symbol0: index,
//   ...,
//                             %task: index, %scratch: memref<?xi8>,
//                             %status: memref<?xi32>)
//   void k(const dlc_frame *frame, int64_t task, int64_t worker);
#ifndef DLC_CODEGEN_COMMON_KERNELFUNCTION_H
#define DLC_CODEGEN_COMMON_KERNELFUNCTION_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace dlc {

/// The type that a buffer of `elementType` elements is accessed with: bool is a
/// byte (0 or 1), 16-bit floats are their bits, unsigned integers lose their
/// sign, index is i64.
mlir::Type getStorageType(mlir::Type elementType);

/// A buffer of unknown size: one-dimensional, with an extent larger than any
/// buffer, so that it lowers to a plain pointer and index arithmetic is ours.
mlir::MemRefType getFlatMemRef(mlir::Type elementType);

/// Builds one phase of a kernel. The builder stands in the body until finish().
class KernelFunctionBuilder {
public:
  /// Appends to `module` the phase `symName` of a kernel whose buffers
  /// (operands, then results) have the given element types. `noalias` promises
  /// that no buffer which the phase writes overlaps another one (but see
  /// mayOverlap). With `sharedScratch` all workers are given the same scratch.
  KernelFunctionBuilder(mlir::ModuleOp module, llvm::StringRef symName,
                        mlir::TypeRange elementTypes, unsigned numSymbols,
                        bool noalias = true, bool sharedScratch = false);

  mlir::OpBuilder &builder() { return b; }
  mlir::Location loc() { return function.getLoc(); }
  mlir::func::FuncOp func() { return function; }

  /// Buffer `i`: memref<flat x storage type>, contiguous row-major.
  mlir::Value buffer(unsigned i) { return function.getArgument(i); }
  /// Value of the kernel's symbol `i`: index.
  mlir::Value symbol(unsigned i) {
    return function.getArgument(numBuffers + i);
  }
  /// Buffers `i` and `j` may be one: nothing is promised of them.
  void mayOverlap(unsigned i, unsigned j);
  llvm::SmallVector<mlir::Value> symbols();
  /// Number of the task to run: index.
  mlir::Value task() { return function.getArgument(numBuffers + numSymbols); }
  /// The worker's private (or the shared) scratch: memref<flat x i8>, 64-byte
  /// aligned.
  mlir::Value scratch() {
    return function.getArgument(numBuffers + numSymbols + 1);
  }
  /// Where to store a nonzero code on a run-time data error: memref<flat x
  /// i32>.
  mlir::Value status() {
    return function.getArgument(numBuffers + numSymbols + 2);
  }
  /// The scratch from byte `offset` (index) on, as elements of `elementType`.
  mlir::Value scratchView(mlir::Type elementType, mlir::Value byteOffset);

  /// Ends the body with a return. Call once, standing in the entry block.
  void finish();

private:
  mlir::OpBuilder b;
  mlir::func::FuncOp function;
  unsigned numBuffers;
  unsigned numSymbols;
};

/// Makes, in a module lowered to the llvm dialect, the entry function of every
/// phase that a KernelFunctionBuilder built.
void emitTaskEntries(mlir::ModuleOp module);

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_KERNELFUNCTION_H
