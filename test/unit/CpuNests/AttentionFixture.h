// Attention kernels of the nest against the interpreter.
#ifndef DLC_TEST_UNIT_CPUNESTS_ATTENTIONFIXTURE_H
#define DLC_TEST_UNIT_CPUNESTS_ATTENTIONFIXTURE_H

#include "NestTest.h"

#include "../Codegen/AttentionText.h"
#include "dlc/Codegen/CPU/AttentionNest.h"
#include "dlc/Schedule/NestChoice.h"

#include "mlir/AsmParser/AsmParser.h"

namespace dlc::test {

class AttentionTest : public NestTest {
protected:
  /// Emits `a` (with these knobs) and compares with the interpreter. Returns
  /// whether both agree.
  bool checkCase(const AttentionCase &a, const std::string &knobs = "",
                 bool specials = false);
  graph::KernelOp parse(const AttentionCase &a, const std::string &knobs);
  /// Operands of `a`; `specials`: NaN and infinities among them.
  llvm::SmallVector<interp::Tensor>
  makeInputs(graph::KernelOp kernel, const AttentionCase &a, bool specials);
  /// What differs from the interpreter more than rounding explains.
  static double toleranceOf(const AttentionCase &a);
  /// The control: that checkVariant sees a difference from `wrong`.
  void expectSeen(graph::KernelOp kernel, const OpCase &c,
                  llvm::ArrayRef<interp::Tensor> inputs,
                  llvm::ArrayRef<interp::Tensor> wrong,
                  const NestVariant &variant);
  /// Why the nest declines `a` under these knobs; empty when it does not.
  std::string refusal(const AttentionCase &a, const std::string &knobs,
                      bool strict = false,
                      const char *machine = "x86:cpu=x86-64-v4");

  mlir::OwningOpRef<mlir::ModuleOp> owner;
  std::string machine; ///< to emit for; empty: those of runnableTargets
};

/// One of many combinations, by the generator.
AttentionCase randomCase(std::mt19937 &generator, std::string &knobs,
                         bool &specials);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CPUNESTS_ATTENTIONFIXTURE_H
