// The frame of one CUDA launch: parameters, thread and block numbers, loops
// over points, and what the threads of a block do together.
#ifndef DLC_LIB_CODEGEN_CUDA_LAUNCHBUILDER_H
#define DLC_LIB_CODEGEN_CUDA_LAUNCHBUILDER_H

#include "dlc/Codegen/Common/IndexBuilder.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace dlc {

inline constexpr unsigned kWarpThreads = 32;
/// Of a multiprocessor, at least: 128 registers are left for each.
inline constexpr unsigned kResidentThreads = 512;

class LaunchBuilder {
public:
  /// Appends to `module` the kernel function `symbol` for blocks of
  /// `blockThreads` (a multiple of 32) threads. `elementTypes` are those of the
  /// operands, results and scratch buffers. Registers are shared out so that a
  /// multiprocessor has `residentThreads` at least.
  LaunchBuilder(mlir::ModuleOp module, llvm::StringRef symbol,
                mlir::TypeRange elementTypes, unsigned numSymbols,
                unsigned blockThreads,
                unsigned residentThreads = kResidentThreads);

  mlir::OpBuilder &builder() { return b; }
  mlir::Location loc() const { return l; }
  IndexBuilder &index() { return indices; }
  unsigned blockThreads() const { return threads; }

  mlir::Value buffer(unsigned i) { return function.getArgument(i); }
  mlir::Value status() { return function.getArgument(numBuffers); }
  llvm::ArrayRef<mlir::Value> symbols() const { return symbolValues; }
  /// A size as a value; folds when it is constant.
  mlir::Value size(mlir::AffineExpr expr);
  llvm::SmallVector<mlir::Value> sizes(llvm::ArrayRef<mlir::AffineExpr> exprs);

  /// threadIdx.x, blockIdx.x, gridDim.x as index.
  mlir::Value thread() const { return threadValue; }
  mlir::Value block() const { return blockValue; }
  mlir::Value gridBlocks();

  /// for (i = from; i < to; i += step) body(i).
  void loop(mlir::Value from, mlir::Value to, mlir::Value step,
            llvm::function_ref<void(mlir::Value)> body);
  /// The same, carrying values; `body` returns the next ones.
  using CarryBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value, mlir::ValueRange)>;
  llvm::SmallVector<mlir::Value> loop(mlir::Value from, mlir::Value to,
                                      mlir::Value step,
                                      mlir::ValueRange initial, CarryBody body);
  /// if (condition) body().
  void onlyIf(mlir::Value condition, llvm::function_ref<void()> body);

  /// Waits for all threads of the block.
  void barrier();
  /// A block's own memory: memref<count x type> in shared memory.
  mlir::Value shared(mlir::Type type, int64_t count);
  /// The block's dynamic shared memory, as much as the launch gives, from a
  /// multiple of `alignment` on: memref<0 x type>. Call once.
  mlir::Value dynamicShared(mlir::Type type, int64_t alignment);
  /// Folds one value per thread; all threads get the result. Contains barriers:
  /// call where all threads of the block come.
  using Combine = llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)>;
  mlir::Value reduceBlock(mlir::Value value, Combine combine);
  /// The same for each group of `lanes` (1 to 32) neighbour threads.
  mlir::Value reduceLanes(mlir::Value value, unsigned lanes, Combine combine);
  /// The value of the lane whose number differs by this one bit.
  mlir::Value shuffleXor(mlir::Value value, unsigned offset);

  /// Ends the function. Call once.
  void finish();

private:
  mlir::Value special(llvm::StringRef op);

  mlir::OpBuilder b;
  mlir::Location l;
  IndexBuilder indices;
  mlir::ModuleOp module;
  mlir::func::FuncOp function;
  unsigned numBuffers;
  unsigned threads;
  unsigned numShared = 0;
  llvm::SmallVector<mlir::Value> symbolValues;
  mlir::Value threadValue, blockValue;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_LAUNCHBUILDER_H
