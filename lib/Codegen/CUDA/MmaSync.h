// Instructions of tensor cores and the asynchronous copies that feed them, as
// every GPU since sm_80 has them. Fragments are laid out as in the PTX ISA;
// lib/Emulator/TensorCore.cpp names the sections.
#ifndef DLC_LIB_CODEGEN_CUDA_MMASYNC_H
#define DLC_LIB_CODEGEN_CUDA_MMASYNC_H

#include "mlir/IR/Builders.h"

namespace dlc {

/// Elements and bytes of what is copied at once and of a row of ldmatrix.
inline constexpr int64_t kChunk = 8, kChunkBytes = 16;
inline constexpr unsigned kSharedSpace = 3, kGlobalSpace = 1;

/// The address of a byte of `memory`, a memref, in a memory space.
mlir::Value pointerTo(mlir::OpBuilder &b, mlir::Location loc,
                      mlir::Value memory, unsigned space, mlir::Value byte);

/// ldmatrix: four 8 x 8 matrices of 16-bit elements; lane 8 i + r gives the
/// address of row r of the i-th. Four words.
llvm::SmallVector<mlir::Value> loadMatrices(mlir::OpBuilder &b,
                                            mlir::Location loc,
                                            mlir::Value pointer,
                                            bool transposes);

/// mma.sync.m16n8k16 of f16 or bf16 (`narrow`) with f32 sums: `a` has four
/// words, `pairB` two, `sums` four.
llvm::SmallVector<mlir::Value>
multiplyMatrices(mlir::OpBuilder &b, mlir::Location loc, mlir::Type narrow,
                 mlir::ValueRange a, mlir::ValueRange pairB,
                 mlir::ValueRange sums);

/// cp.async of 16 bytes where `copies` (i1) holds, else of zeros.
void copyAsync(mlir::OpBuilder &b, mlir::Location loc, mlir::Value to,
               mlir::Value from, mlir::Value copies);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_MMASYNC_H
