// Instructions of tensor cores and the asynchronous copies that feed them, as
// every GPU since sm_80 has them. Fragments are laid out as in the PTX ISA;
// lib/Emulator/TensorCore.cpp names the sections.
#ifndef DLC_LIB_CODEGEN_CUDA_MMASYNC_H
#define DLC_LIB_CODEGEN_CUDA_MMASYNC_H

#include "mlir/IR/Builders.h"

namespace dlc {

/// Bytes of what is copied at once and of a row of ldmatrix, and how many
/// 16-bit elements they are.
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

/// mma.sync of 16 x 8 sums, 32 bytes of the fold: m16n8k16 of f16 or bf16 with
/// f32 sums, m16n8k8 of f32 as tf32 (whose words toTf32 made) with f32 sums,
/// m16n8k32 of bytes, each side with a sign of its own, with i32 sums that wrap
/// around. `a` has four words, `pairB` two, `sums` four.
llvm::SmallVector<mlir::Value>
multiplyMatrices(mlir::OpBuilder &b, mlir::Location loc, mlir::Type left,
                 mlir::Type right, mlir::ValueRange a, mlir::ValueRange pairB,
                 mlir::ValueRange sums);

/// `low` and `high`, of f32, rounded to f16 or bf16, in a word.
mlir::Value roundPair(mlir::OpBuilder &b, mlir::Location loc, mlir::Type type,
                      mlir::Value low, mlir::Value high);

/// The nearest tf32, ties away from zero, of the f32 whose bits are in `word`.
mlir::Value toTf32(mlir::OpBuilder &b, mlir::Location loc, mlir::Value word);

/// `sum` and the four bytes of `word`.
mlir::Value addBytes(mlir::OpBuilder &b, mlir::Location loc, mlir::Value word,
                     bool isUnsigned, mlir::Value sum);

/// cp.async of `bytes` (16 past the first-level cache, or 4) where `copies`
/// (i1) holds, else of zeros.
void copyAsync(mlir::OpBuilder &b, mlir::Location loc, mlir::Value to,
               mlir::Value from, mlir::Value copies,
               int64_t bytes = kChunkBytes);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_MMASYNC_H
