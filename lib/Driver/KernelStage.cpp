// Graph operators to kernels and calls, ready for code generation.
#include "Compilation.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Driver/FormedKernels.h"
#include "dlc/Program/Passes.h"
#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/NestChoice.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;

std::string dlc::printOp(Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  // In local scope: the other form writes all weights as hexadecimal text
  // first.
  op->print(os, OpPrintingFlags().elideLargeElementsAttrs(64).useLocalScope());
  os << "\n";
  return text;
}

Error dlc::dumpModule(Compilation &c, StringRef stem) {
  return c.options.dumpDir.empty() ? Error::success()
                                   : dumpText(c, stem, printOp(c.getModule()));
}

Error dlc::dumpText(Compilation &c, StringRef stem, StringRef text) {
  if (c.options.dumpDir.empty())
    return Error::success();
  if (std::error_code code =
          llvm::sys::fs::create_directories(c.options.dumpDir))
    return makeError(ExitCode::Io, code.message(), c.options.dumpDir);
  SmallString<128> path(c.options.dumpDir);
  llvm::sys::path::append(path, stem);
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  os << text;
  os.close();
  if (code || os.error())
    return makeError(ExitCode::Io, (code ? code : os.error()).message(), path);
  return Error::success();
}

Error dlc::runPasses(Compilation &c,
                     llvm::function_ref<void(PassManager &)> addPasses) {
  PassManager manager(c.source.context.get());
  addPasses(manager);
  if (c.options.timePasses)
    manager.enableTiming();
  if (!c.options.printAfter.empty()) {
    StringRef wanted = c.options.printAfter;
    manager.enableIRPrinting(
        [](Pass *, Operation *) { return false; },
        [wanted](Pass *pass, Operation *) {
          return wanted == "all" || pass->getArgument() == wanted;
        },
        /*printModuleScope=*/true, /*printAfterOnlyOnChange=*/false,
        /*printAfterOnlyOnFailure=*/false, llvm::errs(),
        OpPrintingFlags().elideLargeElementsAttrs(64).useLocalScope());
  }
  DiagnosticCollector diagnostics(c.source.context.get(), c.options.input);
  if (failed(manager.run(c.getModule())))
    return diagnostics.take(ExitCode::Rejected,
                            "a pass failed without saying why");
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Constant operands
//===----------------------------------------------------------------------===//

static bool isConstant(Value value) {
  return graph::getViewed(value).getDefiningOp<graph::ConstantOp>() != nullptr;
}

// Which operands of a call are constants, a character each.
static std::string getConstantMask(graph::CallOp call) {
  std::string mask;
  for (Value arg : call.getArgs())
    mask += isConstant(arg) ? 'c' : '-';
  return mask;
}

// Code generation may ask for constants in another layout, so a kernel's calls
// must agree on which operands are constant: other combinations get a copy.
static void splitByConstantOperands(ModuleOp module,
                                    llvm::StringMap<std::string> &copyOf) {
  SymbolTable symbols(module);
  llvm::MapVector<StringAttr, std::map<std::string, StringAttr>>
      variants; // kernel -> mask -> name
  module.walk([&](graph::CallOp call) {
    auto &byMask = variants[call.getCalleeAttr().getAttr()];
    std::string mask = getConstantMask(call);
    auto kernel = symbols.lookup<graph::KernelOp>(call.getCallee());
    auto [it, isNew] = byMask.try_emplace(mask, kernel.getSymNameAttr());
    if (isNew && byMask.size() > 1) {
      auto copy = cast<graph::KernelOp>(kernel->clone());
      copy.setSymName(
          (kernel.getSymName() + "_" + std::to_string(byMask.size())).str());
      it->second = symbols.insert(copy, std::next(kernel->getIterator()));
      copyOf[it->second.getValue()] = kernel.getSymName().str();
    }
    call.setCallee(it->second);
  });
}

// -emit=kernels: an entry for each call, in program order, and one for each
// variant.
static std::string printKernels(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  SymbolTable symbols(module);
  module.walk([&](graph::CallOp call) {
    os << "// " << call.getCallee();
    if (auto origin = call->getAttrOfType<ArrayAttr>("origin"))
      llvm::interleaveComma(origin.getAsRange<StringAttr>(), os << " of ",
                            [&](StringAttr s) { os << s.getValue(); });
    auto kernel = symbols.lookup<graph::KernelOp>(call.getCallee());
    os << "\n";
    std::string reason;
    if (bestNest(kernel).nest == "attention")
      if (auto spec = classifyAttention(kernel, reason); succeeded(spec))
        os << "// graph.attention " << spec->str() << "\n";
    os << printOp(kernel);
    if (auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr))
      for (auto name :
           dispatch.getAs<ArrayAttr>("kernels").getAsRange<FlatSymbolRefAttr>())
        os << printOp(symbols.lookup(name.getValue()));
  });
  return text;
}

Error dlc::formKernels(Compilation &c) {
  if (Error error = runPasses(c, [&](PassManager &manager) {
        if (c.wantsFusion()) {
          manager.addPass(graph::createUnifySizes());
          manager.addPass(graph::createHoistSlices());
          manager.addPass(createCSEPass());
          if (!c.options.strict) {
            manager.addPass(graph::createExposeBands());
            manager.addPass(graph::createIntegerProducts());
          }
          manager.addPass(graph::createFoldUniform());
        }
        manager.addPass(graph::createFormKernels());
      }))
    return error;
  if (c.wantsFusion())
    if (Error error = fuseKernels(c))
      return error;
  if (c.wantsLayouts())
    if (Error error = chooseLayouts(c))
      return error;
  splitByConstantOperands(c.getModule(), c.copyOf);
  if (c.target && !c.cuda) // variants are copies, and have it, too
    markConstantBits(c.getModule());
  makeVariants(c); // each has a schedule of its own
  // Which instructions a GPU's attentions may use is told by their laws; a
  // CPU's schedules decide about laws.
  if (!c.cuda)
    if (Error error = tuneKernels(c))
      return error;
  if (Error error = chooseSchedules(c))
    return error;
  if (c.cuda)
    if (Error error = tuneKernels(c))
      return error;
  if (c.isInstance)
    scheduleInstance(c);
  if (c.wantsPlacement())
    placeConcats(c);
  if (c.options.wants(EmitKind::Kernels))
    c.kernelText = printKernels(c.getModule());
  return dumpModule(c, "02-kernels.mlir");
}
