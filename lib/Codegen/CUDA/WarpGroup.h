// wgmma: what sm_90a has for products of whole warpgroups, four warps whose
// first has a number divisible by four. Sums are registers of the threads: the
// 4 j + q-th of thread t of a warpgroup is row t / 32 * 16 + t % 32 / 4 +
// q / 2 * 8, column 8 j + t % 4 * 2 + q % 2 of 64 rows. Matrices lie in shared
// memory, A's rows may also be in registers, as those of mma.sync (MmaSync.h).
//
//   fenceWarpGroup, multiplyWarpGroup ..., commitWarpGroup: a group
//   waitForWarpGroup: all but so many groups are done
//
// Sums go through every wait: only what comes out of one may be used otherwise.
// lib/Emulator/WarpGroup.cpp names the sections of the PTX ISA.
#ifndef DLC_LIB_CODEGEN_CUDA_WARPGROUP_H
#define DLC_LIB_CODEGEN_CUDA_WARPGROUP_H

#include "mlir/IR/Builders.h"

namespace dlc {

inline constexpr unsigned kWarpGroupThreads = 128;
/// Rows that one instruction multiplies, and bytes of the fold.
inline constexpr int64_t kWarpGroupRows = 64, kWarpGroupFoldBytes = 32;
/// Matrices lie in shared memory in rows of so many bytes, eight of which begin
/// at a multiple of 1024, and whose 16-byte chunks change places by a xor with
/// the row's number modulo 8.
inline constexpr int64_t kSwizzleBytes = 128, kSwizzleAlignment = 1024;

/// A matrix in shared memory, from `pointer` on.
/// K-major: a row of 128 bytes of the fold for each row of the matrix.
/// MN-major (16-bit elements only): a row of 64 rows of the matrix for each
/// step of the fold; the next 64 rows begin `runBytes` further.
mlir::Value matrixDescriptor(mlir::OpBuilder &b, mlir::Location loc,
                             mlir::Value pointer, int64_t runBytes = 0);
/// The same matrix, so many bytes further: kWarpGroupFoldBytes for the next
/// instruction's part of a K-major fold, 16 rows for an MN-major one.
mlir::Value advanceDescriptor(mlir::OpBuilder &b, mlir::Location loc,
                              mlir::Value descriptor, int64_t bytes);

/// What one instruction multiplies.
struct WarpGroupProduct {
  mlir::Type left, right; ///< f16 or bf16, both; f32 (as tf32); bytes
  int64_t columns;        ///< 8 to 256
  bool transposesLeft = false, transposesRight = false; ///< MN-major
  bool startsAtZero = false; ///< whatever the sums are
};

/// sums + a x b: 64 rows, 32 bytes of the fold. `a` is a descriptor or four
/// words, `sums` columns / 2 numbers of f32, or i32 for bytes.
llvm::SmallVector<mlir::Value>
multiplyWarpGroup(mlir::OpBuilder &b, mlir::Location loc,
                  const WarpGroupProduct &product, mlir::ValueRange a,
                  mlir::Value right, mlir::ValueRange sums);

/// Before the first product, and where registers that one reads were written.
void fenceWarpGroup(mlir::OpBuilder &b, mlir::Location loc);
/// Ends a group.
void commitWarpGroup(mlir::OpBuilder &b, mlir::Location loc);
/// Waits until all but the last `groups` groups are done. `values` are the sums
/// of all groups under way, and words of A that they read (f32 or i32): what
/// they are afterwards.
llvm::SmallVector<mlir::Value> waitForWarpGroup(mlir::OpBuilder &b,
                                                mlir::Location loc,
                                                int64_t groups,
                                                mlir::ValueRange values);
/// The same values by an empty assembly, before and behind which nothing that
/// has effects moves, and which no branch becomes a select over.
llvm::SmallVector<mlir::Value>
keepInPlace(mlir::OpBuilder &b, mlir::Location loc, mlir::ValueRange values);
/// ptxas moves a wait before whatever independent code stands in front of it,
/// but not out of its basic block. A gate is the end of one: an mbarrier (8
/// bytes of shared memory) whose first phase one thread ends, and a loop that
/// asks whether it is over. `values` are computed before: what they are behind.
void openGate(mlir::OpBuilder &b, mlir::Location loc, mlir::Value pointer);
llvm::SmallVector<mlir::Value> passGate(mlir::OpBuilder &b, mlir::Location loc,
                                        mlir::Value pointer,
                                        mlir::ValueRange values);
/// What the running thread has written to shared memory is there for wgmma of
/// those that meet it at a barrier afterwards.
void fenceAsyncProxy(mlir::OpBuilder &b, mlir::Location loc);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_WARPGROUP_H
