// What every CPU nest hands on: the code of one kernel and what the host
// program must know to run it.
#ifndef DLC_CODEGEN_CPU_CPUKERNEL_H
#define DLC_CODEGEN_CPU_CPUKERNEL_H

#include "dlc/Dialect/Graph/IR/ComputeOrder.h"
#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <functional>
#include <string>

namespace dlc {

/// How a nest is asked for.
struct CpuCodegenOptions {
  /// Name of the kernel in the object; phases are called after it.
  std::string symbol;
  /// constantOperands[i]: operand i is a model constant, so the nest may ask
  /// for it in a packed layout. Shorter than the operand list means false.
  llvm::SmallVector<bool> constantOperands;
  /// Bit-equal to the interpreter: no fused multiply-add, no reassociation.
  bool strict = false;
  /// reusableOperands[i]: nobody reads operand i after some call of the kernel,
  /// so that a result may take its buffer there (CpuKernel::inPlace). Shorter
  /// means false.
  llvm::SmallVector<bool> reusableOperands;
  /// leavingResults[i]: result i is an output that no call of the model reads,
  /// so that its lines need not stay in the caches. Shorter means false.
  llvm::SmallVector<bool> leavingResults;

  bool isConstant(unsigned operand) const {
    return operand < constantOperands.size() && constantOperands[operand];
  }
  bool isReusable(unsigned operand) const {
    return operand < reusableOperands.size() && reusableOperands[operand];
  }
  bool isLeaving(unsigned result) const {
    return result < leavingResults.size() && leavingResults[result];
  }
};

/// One function `void symbol(const dlc_frame *, int64_t task, int64_t worker)`
/// and how often to call it: tasks 0 .. numTasks-1, in any order.
struct CpuPhase {
  std::string symbol;
  mlir::AffineExpr numTasks; ///< over the kernel's symbols
};

/// A constant operand that the code reads in another layout than the model's.
struct OperandPacking {
  unsigned operand = 0;
  /// Names the layout, e.g. "panel32 f32 [64x576]". Two packings of one
  /// constant with equal names hold equal bytes.
  std::string layout;
  int64_t bytes = 0; ///< size of the packed form
  /// Fills `packed` (of `bytes` bytes) from the row-major model constant.
  std::function<void(llvm::ArrayRef<char> constant,
                     llvm::MutableArrayRef<char> packed)>
      pack;
};

struct CpuKernel {
  std::string symbol;
  /// The nest that made it: "contraction", "map", "row", "generic".
  std::string nest;
  /// Run one after the other; each ends before the next begins.
  llvm::SmallVector<CpuPhase> phases;
  /// Private scratch of one worker in bytes, over the kernel's symbols.
  mlir::AffineExpr scratchBytes;
  /// The phases' code, before lowerToLLVM.
  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::SmallVector<OperandPacking> packings;
  /// Results that the code can store over a reusable operand: it was told
  /// nothing of them that would then be false, and computes in `order`. Whether
  /// that is enough is for Check to say (admitInPlace).
  llvm::SmallVector<graph::InPlacePair> inPlace;
  graph::ComputeOrder order;
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CPUKERNEL_H
