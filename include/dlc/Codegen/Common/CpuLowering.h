// From the scf/vector/memref/arith/math/func level, at which CPU kernels are
// built, to an LLVM module and to an object.
#ifndef DLC_CODEGEN_COMMON_CPULOWERING_H
#define DLC_CODEGEN_COMMON_CPULOWERING_H

#include "dlc/Target/Common/CpuTarget.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"

#include <memory>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace dlc {

/// The dialects that CPU kernels are built with, and their translation to LLVM
/// IR. A context that lowers kernels must have been given this registry, and
/// have the dialects loaded (loadCpuDialects).
void registerCpuDialects(mlir::DialectRegistry &registry);

/// Registers and loads the dialects above into `context`.
void loadCpuDialects(mlir::MLIRContext &context);

/// Lowers `module` in place to the llvm dialect and adds the task entries.
/// Memrefs in function signatures must be static (see getFlatMemRef).
mlir::LogicalResult lowerToLLVM(mlir::ModuleOp module);

/// Translates a module that lowerToLLVM has lowered; null on failure.
std::unique_ptr<llvm::Module> translateToLLVM(mlir::ModuleOp module,
                                              llvm::LLVMContext &context);

/// Both steps and the target's back end: the bytes of an object, or of an
/// assembly file. `module` is consumed: it is left in the llvm dialect.
llvm::Expected<llvm::SmallVector<char, 0>>
compileModule(mlir::ModuleOp module, const CpuTarget &target,
              bool assembly = false);

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_CPULOWERING_H
