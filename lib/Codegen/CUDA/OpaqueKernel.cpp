// An opaque operator runs the loops that were written for CPUs, one thread a
// task: slow, but every model that compiles at all compiles for CUDA too, and
// there is one source of the loops.
#include "OpaqueKernel.h"
#include "LaunchBuilder.h"

#include "dlc/Codegen/CPU/OpaqueNest.h"
#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;

/// Scratch of one task starts at a multiple of this many bytes.
static constexpr int64_t kScratchAlignment = 64;

// The loops' builders ask the target for its scalar instructions only; a GPU's
// are those of an ARM CPU: fused multiply-add, 16-bit floats, NaN-keeping max.
static CpuTarget scalarTarget() {
  TargetDesc desc;
  desc.name = "cuda";
  desc.arch = "arm";
  return CpuTarget(desc);
}

/// The body of a phase becomes an ordinary internal function.
static func::FuncOp takeBody(ModuleOp module, StringRef phase) {
  auto body = module.lookupSymbol<func::FuncOp>((phase + ".impl").str());
  for (NamedAttribute attribute :
       llvm::make_early_inc_range(body->getDiscardableAttrs()))
    body->removeAttr(attribute.getName());
  body->setAttr(
      "llvm.linkage",
      LLVM::LinkageAttr::get(module.getContext(), LLVM::Linkage::Internal));
  return body;
}

FailureOr<CudaKernel> dlc::emitOpaqueKernel(graph::KernelOp kernel,
                                            const CudaCodegenOptions &options) {
  CpuCodegenOptions loops;
  loops.symbol = options.symbol;
  loops.strict = options.strict;
  FailureOr<CpuKernel> code = emitOpaque(kernel, scalarTarget(), loops);
  if (failed(code))
    return failure();

  CudaKernel result;
  result.symbol = options.symbol;
  result.nest = "opaque";
  SmallVector<Type> types;
  for (TypeRange buffers : {TypeRange(kernel.getArgumentTypes()),
                            TypeRange(kernel.getResultTypes())})
    for (Type type : buffers)
      types.push_back(cast<RankedTensorType>(type).getElementType());
  unsigned numBuffers = types.size();
  Type byte = IntegerType::get(kernel.getContext(), 8);
  types.push_back(byte);
  AffineExpr taskScratch = graph::simplify(
      code->scratchBytes.ceilDiv(kScratchAlignment) * kScratchAlignment);
  AffineExpr tasks = getAffineConstantExpr(0, kernel.getContext());

  for (auto [i, phase] : llvm::enumerate(code->phases)) {
    func::FuncOp body = takeBody(*code->module, phase.symbol);
    std::string symbol = options.symbol;
    if (i > 0)
      symbol += "__" + std::to_string(i);
    LaunchBuilder launch(*code->module, symbol, types, kernel.getNumSymbols(),
                         kWarpThreads);
    IndexBuilder &index = launch.index();
    OpBuilder &b = launch.builder();
    launch.onlyIf(index.less(launch.thread(), index.constant(1)), [&] {
      SmallVector<Value> arguments;
      for (unsigned k = 0; k < numBuffers; ++k)
        arguments.push_back(launch.buffer(k));
      llvm::append_range(arguments, launch.symbols());
      arguments.push_back(launch.block());
      arguments.push_back(memref::ViewOp::create(
          b, launch.loc(), getFlatMemRef(byte), launch.buffer(numBuffers),
          index.mul(launch.block(), launch.size(taskScratch)), ValueRange{}));
      arguments.push_back(launch.status());
      func::CallOp::create(b, launch.loc(), body, arguments);
    });
    launch.finish();
    result.launches.push_back({symbol, phase.numTasks, kWarpThreads});
    // Phases follow each other: their sum is enough for each of them.
    tasks = tasks + phase.numTasks;
  }
  result.scratchBytes.push_back(graph::simplify(tasks * taskScratch));
  result.module = std::move(code->module);
  return result;
}
