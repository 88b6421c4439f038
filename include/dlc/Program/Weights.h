// The constants of a program: which of them are the same, in which layout each
// kernel wants to read them, and where they lie in the weights.
#ifndef DLC_PROGRAM_WEIGHTS_H
#define DLC_PROGRAM_WEIGHTS_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Program/IR/Program.h"

#include "llvm/ADT/StringMap.h"

namespace dlc {

/// What code generation says of one kernel, with expressions in the program's
/// context.
struct KernelCode {
  std::string nest; ///< the nest that made it
  llvm::SmallVector<CpuPhase> phases;
  mlir::AffineExpr scratchBytes;
  llvm::SmallVector<OperandPacking> packings;
  /// Results that may be stored over operands, as Check has admitted.
  llvm::SmallVector<graph::InPlacePair> inPlace;
  /// Of a device: the threads of a task of each phase and its dynamic shared
  /// memory, and the sizes of the scratch buffers; `scratchBytes` is not used.
  llvm::SmallVector<int64_t> threads, shared;
  llvm::SmallVector<mlir::AffineExpr> buffers;

  /// The layout in which operand `i` is read; null: as in the model.
  const OperandPacking *getPacking(unsigned operand) const;
};

/// By the kernel's name.
using KernelCodeMap = llvm::StringMap<KernelCode>;

/// Completes the `program.kernel`s of `module` with their phases, and gives
/// calls that want a constant in another layout a constant of their own.
void attachKernelCode(mlir::ModuleOp module, const KernelCodeMap &code);

/// The row-major bytes of a constant, one byte a bool. They are those of the
/// attribute where it holds them in this form, else put into `storage`.
llvm::ArrayRef<char> getConstantBytes(mlir::ElementsAttr value,
                                      std::vector<char> &storage);

/// A range of the weights.
struct WeightsPiece {
  int64_t offset = 0; ///< a multiple of program::kAlignment
  int64_t bytes = 0;
  mlir::ElementsAttr value;
  const OperandPacking *packing = nullptr; ///< null: the constant as it is

  /// Hands the bytes to `write`.
  void emit(llvm::function_ref<void(llvm::ArrayRef<char>)> write) const;
};

/// Gives every constant of `model` its offset: constants of equal bytes and
/// layout share one. The pieces are in order of their offsets; they point into
/// `code`.
std::vector<WeightsPiece> layOutWeights(program::ModelOp model,
                                        const KernelCodeMap &code);

} // namespace dlc

#endif // DLC_PROGRAM_WEIGHTS_H
