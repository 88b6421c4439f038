// From the level kernels are built at to one LLVM module.
//
// The conversion differs from the CPU's in its last mile: nvvm ops become NVPTX
// intrinsics, and there is no math library to call, so that every
// transcendental function must have been expanded before.
#include "dlc/Codegen/CUDA/CudaKernel.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace mlir;
using namespace dlc;

void dlc::loadCudaDialects(MLIRContext &context) {
  DialectRegistry registry;
  registry.insert<arith::ArithDialect, cf::ControlFlowDialect,
                  func::FuncDialect, LLVM::LLVMDialect, math::MathDialect,
                  memref::MemRefDialect, NVVM::NVVMDialect, scf::SCFDialect,
                  ub::UBDialect, vector::VectorDialect>();
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
  context.appendDialectRegistry(registry);
  for (StringRef name : registry.getDialectNames())
    context.getOrLoadDialect(name);
}

static LogicalResult lower(ModuleOp module) {
  MLIRContext *context = module.getContext();
  RewritePatternSet expansions(context);
  arith::populateCeilFloorDivExpandOpsPatterns(expansions);
  // Expressed by other functions first (tan, sinh, pow, ...), then those as
  // polynomials.
  math::populateExpansionPatterns(expansions,
                                  {"tan", "sinh", "cosh", "asinh", "acosh",
                                   "atanh", "powf", "fpowi", "ipowi"});
  populateMathPolynomialApproximationPatterns(expansions,
                                              [](StringRef) { return true; });
  if (failed(applyPatternsGreedily(module, std::move(expansions))))
    return failure();

  LowerToLLVMOptions options(context);
  options.useBarePtrCallConv = true;
  LLVMTypeConverter converter(context, options);
  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
  arith::populateArithToLLVMConversionPatterns(converter, patterns);
  populateMathToLLVMConversionPatterns(converter, patterns);
  populateVectorToLLVMConversionPatterns(converter, patterns);
  populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
  populateFuncToLLVMConversionPatterns(converter, patterns);
  ub::populateUBToLLVMConversionPatterns(converter, patterns);
  LLVMConversionTarget target(*context);
  target.addLegalDialect<NVVM::NVVMDialect>();
  target.addLegalOp<ModuleOp>();
  target.addIllegalDialect<arith::ArithDialect, cf::ControlFlowDialect,
                           func::FuncDialect, math::MathDialect,
                           memref::MemRefDialect, scf::SCFDialect,
                           ub::UBDialect, vector::VectorDialect>();
  return applyPartialConversion(module, target, std::move(patterns));
}

llvm::Expected<std::unique_ptr<llvm::Module>>
dlc::buildCudaModule(llvm::MutableArrayRef<CudaKernel> kernels,
                     const CudaTarget &target, llvm::LLVMContext &context) {
  auto fail = [](const llvm::Twine &message) {
    return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
  };
  if (kernels.empty())
    return fail("internal error: no kernel to build a CUDA module of");
  OwningOpRef<ModuleOp> all(
      ModuleOp::create(kernels.front().module->getLoc(), "kernels"));
  for (CudaKernel &kernel : kernels) {
    auto &operations = kernel.module->getBody()->getOperations();
    all->getBody()->getOperations().splice(all->getBody()->end(), operations);
    kernel.module = nullptr;
  }
  if (failed(lower(*all)))
    return fail(
        "internal error: CUDA kernels do not lower to the llvm dialect");
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(*all, context);
  if (!module)
    return fail("internal error: CUDA kernels do not translate to LLVM IR");
  if (llvm::Error error = target.prepare(*module))
    return std::move(error);
  return std::move(module);
}

CudaKernelInstance dlc::instantiate(const CudaKernel &kernel,
                                    llvm::ArrayRef<int64_t> symbols) {
  CudaKernelInstance instance;
  for (const CudaLaunch &launch : kernel.launches)
    instance.launches.push_back(
        {launch.symbol,
         static_cast<uint64_t>(graph::evaluate(launch.gridBlocks, symbols)),
         launch.blockThreads, launch.sharedBytes, launch.call});
  for (AffineExpr bytes : kernel.scratchBytes)
    instance.scratchBytes.push_back(graph::evaluate(bytes, symbols));
  return instance;
}
