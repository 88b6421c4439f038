// The place of a factor's load as a sum of two parts, one of the element of the
// result and one of the step of the fold, and its guard as a test of two words
// of bits. A thread that copies a panel stays at its element, or at its step:
// the other part is evenly spaced, or comes from a table, and a convolution's
// pixel costs an addition and a test.
#ifndef DLC_LIB_CODEGEN_CUDA_PLACEPARTS_H
#define DLC_LIB_CODEGEN_CUDA_PLACEPARTS_H

#include "Contraction.h"

namespace dlc {

/// What an element, or a step, adds to a place: a number of elements (index),
/// and bits (i32): of the step the taps of a guard that it stands at, of the
/// element those where the guard does not hold. The place may be read where
/// they have none in common.
struct PlacePart {
  mlir::Value offset, bits;
};

/// Expressions are over the stage's block arguments.
struct PlaceParts {
  graph::LoadOp load;
  /// Of each axis of the operand: the coordinate is their sum.
  llvm::SmallVector<mlir::AffineExpr> element, step;
  /// The same of what must be zero, or not negative.
  struct Guard {
    mlir::AffineExpr element, step;
    bool isEquality;
  };
  llvm::SmallVector<Guard> guards;
  /// The reduce axes that guards depend on (arguments of the block), each guard
  /// on one of them, or on none. Each of their points is a tap, and has a bit.
  struct Taps {
    unsigned axis;
    int64_t count;
    unsigned firstBit;
  };
  llvm::SmallVector<Taps> taps;
  /// From one of the places that a thread goes through to the next; nothing:
  /// they are not evenly spaced, or have a guard.
  std::optional<int64_t> stride;
};

/// The bit that all elements have: of steps behind the fold's end; and that
/// which those outside of the tile have: of all steps.
inline constexpr unsigned kNoTap = 31, kAnyTap = 30;

/// The parts of the factor where it is a load, and threads that fill a panel
/// with it stay at elements or at a step. Nothing: it has no such parts,
/// threads keep neither, tensor cores need none, or sizes must be known that
/// are not. Threads of tensor tiles stay at elements: at one, or at those of a
/// chunk.
std::optional<PlaceParts> partsOf(const Contraction &contraction, bool isLeft);

/// Bytes of a PlacePart in a table, whose offsets have 32 bits.
inline constexpr int64_t kPlaceBytes = 8;

/// Entries of the table in shared memory of what a thread's places differ by:
/// the elements of the tile, or the steps of two panels; 0: there is none.
int64_t tableEntries(const Contraction &contraction, bool isLeft);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_PLACEPARTS_H
