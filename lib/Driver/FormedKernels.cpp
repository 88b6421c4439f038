// A compilation that stops at kernels.
#include "dlc/Driver/FormedKernels.h"

#include "Compilation.h"

#include "dlc/Program/Passes.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

llvm::StringMap<KernelCalls> dlc::findKernelCalls(ModuleOp module) {
  llvm::StringMap<KernelCalls> found;
  module.walk([&](graph::CallOp call) {
    KernelCalls &calls = found[call.getCallee()];
    ++calls.count;
    calls.constantOperands.clear();
    for (Value arg : call.getArgs())
      calls.constantOperands.push_back(
          graph::getViewed(arg).getDefiningOp<graph::ConstantOp>() != nullptr);
  });
  // A variant is called where its kernel is.
  for (auto kernel : module.getOps<graph::KernelOp>())
    if (auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr))
      for (auto name :
           dispatch.getAs<ArrayAttr>("kernels").getAsRange<FlatSymbolRefAttr>())
        found[name.getValue()] = found[kernel.getSymName()];
  return found;
}

Expected<FormedKernels> dlc::formModelKernels(const CompileOptions &given) {
  CompileOptions options = given;
  options.emit = {EmitKind::Kernels};
  Progress progress(/*quiet=*/true, /*redraw=*/false);
  Compilation c(options, progress);
  if (Error error = compileToProgram(c))
    return std::move(error);
  if (!c.target || c.cuda)
    return makeError(ExitCode::Usage, "-target=" + options.target +
                                          ": its kernels are not a CPU's");
  llvm::StringMap<KernelCalls> calls = findKernelCalls(c.getModule());
  FormedKernels formed;
  for (auto op : c.getModule().getOps<graph::KernelOp>()) {
    FormedKernel kernel;
    kernel.op = op;
    op.removeScheduleAttr();
    kernel.options.strict = options.strict;
    kernel.options.constantOperands = calls[op.getSymName()].constantOperands;
    kernel.calls = calls[op.getSymName()].count;
    formed.kernels.push_back(std::move(kernel));
  }
  formed.source = std::move(c.source);
  formed.target = std::move(c.target);
  return formed;
}
