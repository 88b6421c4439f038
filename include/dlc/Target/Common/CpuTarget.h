// Machine code for a CPU: owns the description of the machine and turns an LLVM
// module into an object file. Everything is const, so one CpuTarget serves
// several compiling threads at once, each with its own LLVMContext and machine.
#ifndef DLC_TARGET_COMMON_CPUTARGET_H
#define DLC_TARGET_COMMON_CPUTARGET_H

#include "dlc/Target/Common/TargetDesc.h"

#include "llvm/ADT/SmallVector.h"

#include <memory>

namespace llvm {
class MCSubtargetInfo;
class Module;
class TargetMachine;
} // namespace llvm

namespace dlc {

class CpuTarget {
public:
  /// `threads` is how many threads the artifact should use; 0 leaves the
  /// choice to the run time.
  explicit CpuTarget(TargetDesc desc, unsigned threads = 0);

  const TargetDesc &desc() const { return description; }
  unsigned threads() const { return threadCount; }
  /// How many threads to plan for: threads(), or the CPU's cores; >= 1.
  unsigned plannedThreads() const {
    return threadCount ? threadCount : description.cores;
  }

  /// True when the instruction set has `feature` (LLVM's name, no sign).
  bool hasFeature(llvm::StringRef feature) const;

  /// A new machine, position independent. Errors when LLVM does not know the
  /// triple or the CPU.
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> createMachine() const;

  /// Gives `module` this target's triple, data layout and function attributes,
  /// runs the short optimisation list and returns the bytes of an ELF object.
  /// `machine` is one of createMachine that no other thread uses meanwhile; who
  /// compiles many modules keeps it, because reading the features is slow.
  llvm::Expected<llvm::SmallVector<char, 0>>
  emitObject(llvm::Module &module, llvm::TargetMachine &machine) const;
  llvm::Expected<llvm::SmallVector<char, 0>>
  emitObject(llvm::Module &module) const;

  /// The part of emitObject before machine code: triple, data layout, function
  /// attributes, the short optimisation list.
  void prepare(llvm::Module &module, llvm::TargetMachine &machine) const;

  /// As emitObject, but the assembly text.
  llvm::Expected<llvm::SmallVector<char, 0>>
  emitAssembly(llvm::Module &module) const;

private:
  llvm::Expected<llvm::SmallVector<char, 0>>
  emit(llvm::Module &module, llvm::TargetMachine &machine, bool assembly) const;

  TargetDesc description;
  unsigned threadCount;
  /// What LLVM knows of the CPU; null when it does not know it.
  std::shared_ptr<const llvm::MCSubtargetInfo> subtarget;
};

/// Registers LLVM's x86 and AArch64 back ends; cheap after the first call.
void initializeCpuBackends();

/// Sets vectorBytes and vectorRegisters from what `cpu` and `features` of
/// `desc` imply, so that a description and a feature string cannot disagree.
/// Errors when LLVM knows neither the triple nor the CPU.
llvm::Error deriveVectorUnit(TargetDesc &desc);

} // namespace dlc

#endif // DLC_TARGET_COMMON_CPUTARGET_H
