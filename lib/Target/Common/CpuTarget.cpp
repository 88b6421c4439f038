// LLVM's back end behind CpuTarget. The code generators already emit vectors,
// register tiles and unrolled loops, so the optimiser's part is only to clean
// up: redundant index arithmetic, loop invariants and dead branches. Loop and
// SLP vectorisation stay off: they cost compile time and break register tiles.
#include "dlc/Target/Common/CpuTarget.h"

#include "llvm/IR/Constants.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Scalar/SimplifyCFG.h"

#include <mutex>
#include <optional>

using namespace dlc;

void dlc::initializeCpuBackends() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
    LLVMInitializeAArch64AsmParser();
  });
}

static llvm::Expected<const llvm::Target *> lookUp(const llvm::Triple &triple) {
  initializeCpuBackends();
  std::string message;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
  return target;
}

static llvm::Expected<std::unique_ptr<llvm::MCSubtargetInfo>>
readSubtarget(const TargetDesc &desc) {
  llvm::Triple triple(desc.triple);
  auto target = lookUp(triple);
  if (!target)
    return target.takeError();
  // Asked of the generic CPU first: LLVM prints to stderr when it is given a
  // name that it does not know.
  std::unique_ptr<llvm::MCSubtargetInfo> info(
      (*target)->createMCSubtargetInfo(triple, "", ""));
  if (!info || !info->isCPUStringValid(desc.cpu))
    return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                   "unknown CPU '" + desc.cpu +
                                       "' for target '" + desc.arch + "'");
  info.reset((*target)->createMCSubtargetInfo(triple, desc.cpu, desc.features));
  return info;
}

llvm::Error dlc::deriveVectorUnit(TargetDesc &desc) {
  auto info = readSubtarget(desc);
  if (!info)
    return info.takeError();
  auto has = [&](llvm::StringRef name) {
    return (*info)->checkFeatures(("+" + name).str());
  };
  if (desc.arch == "x86") {
    bool wide = has("avx512f") && has("avx512vl");
    desc.vectorBytes = wide ? 64 : has("avx") ? 32 : 16;
    desc.vectorRegisters = wide ? 32 : 16;
    // Measured: AMD's cores run bf16 dot products at the rate of multiply-adds,
    // Intel's with AMX at a quarter of it; a dot product counts twice.
    if (!has("avx512bf16") || !wide)
      desc.bf16FlopsPerCycle = 0;
    else if (desc.bf16FlopsPerCycle == 0)
      desc.bf16FlopsPerCycle =
          desc.f32FlopsPerCycle * (has("amx-bf16") ? 0.5 : 2);
    // A product of tiles takes as many cycles as the left one has rows: 16 x 16
    // x 32 bf16 numbers or 16 x 16 x 64 bytes in 16 cycles.
    auto derive = [&](llvm::StringRef feature, double all, double &rate) {
      if (!wide || !has("amx-tile") || !has(feature))
        rate = 0;
      else if (rate == 0)
        rate = all;
    };
    derive("amx-bf16", 1024, desc.bf16TileFlopsPerCycle);
    derive("amx-int8", 2048, desc.byteTileOpsPerCycle);
  } else {
    // SVE machines are driven through NEON: fixed-length SVE measured slower.
    desc.vectorBytes = 16;
    desc.vectorRegisters = 32;
  }
  return llvm::Error::success();
}

CpuTarget::CpuTarget(TargetDesc desc, unsigned threads)
    : description(std::move(desc)), threadCount(threads) {
  auto info = readSubtarget(description);
  if (info)
    subtarget = std::move(*info);
  else
    llvm::consumeError(info.takeError());
}

bool CpuTarget::hasFeature(llvm::StringRef feature) const {
  return subtarget && subtarget->checkFeatures(("+" + feature).str());
}

llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
CpuTarget::createMachine() const {
  llvm::Triple triple(description.triple);
  auto target = lookUp(triple);
  if (!target)
    return target.takeError();
  llvm::TargetOptions options;
  // Standard fuses only what the IR asks for: fma and fmuladd calls and
  // operations that carry the `contract` flag. Strict kernels carry none.
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  options.FunctionSections = true;
  std::unique_ptr<llvm::TargetMachine> machine((*target)->createTargetMachine(
      triple, description.cpu, description.features, options, llvm::Reloc::PIC_,
      std::nullopt, llvm::CodeGenOptLevel::Default));
  if (!machine)
    return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                   "no machine for '" + description.triple +
                                       "'");
  return machine;
}

static void attachTarget(llvm::Module &module, const TargetDesc &desc,
                         const llvm::TargetMachine &machine) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  for (llvm::Function &function : module) {
    function.addFnAttr(llvm::Attribute::NoUnwind);
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", desc.cpu);
    if (!desc.features.empty())
      function.addFnAttr("target-features", desc.features);
    function.addFnAttr("prefer-vector-width",
                       std::to_string(desc.vectorBytes * 8));
  }
}

static void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);

  llvm::FunctionPassManager passes;
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(
      llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  llvm::ModulePassManager all;
  all.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  all.run(module, modules);
}

/// The only lane that is set in a constant mask.
static std::optional<unsigned> onlyLane(const llvm::Value *mask) {
  auto *constant = llvm::dyn_cast<llvm::Constant>(mask);
  auto *type = llvm::dyn_cast<llvm::FixedVectorType>(mask->getType());
  if (!constant || !type)
    return std::nullopt;
  std::optional<unsigned> lane;
  for (unsigned i = 0; i < type->getNumElements(); ++i) {
    const llvm::Constant *element = constant->getAggregateElement(i);
    if (element && element->isNullValue())
      continue;
    if (lane || !element || !element->isOneValue())
      return std::nullopt;
    lane = i;
  }
  return lane;
}

/// Stores of one lane as stores of a scalar. LLVM 22 makes them of masked
/// stores too, on x86, but of a truncated vector's it stores the lane as wide
/// as it was before: beyond the end of the buffer.
static void storeSingleLanes(llvm::Module &module) {
  for (llvm::Function &function : module)
    for (llvm::BasicBlock &block : function)
      for (llvm::Instruction &instruction : llvm::make_early_inc_range(block)) {
        auto *call = llvm::dyn_cast<llvm::IntrinsicInst>(&instruction);
        if (!call || call->getIntrinsicID() != llvm::Intrinsic::masked_store)
          continue;
        auto lane = onlyLane(call->getArgOperand(call->arg_size() - 1));
        if (!lane)
          continue;
        llvm::IRBuilder<> b(call);
        llvm::Value *element =
            b.CreateExtractElement(call->getArgOperand(0), *lane);
        llvm::Value *at = b.CreateConstInBoundsGEP1_64(
            element->getType(), call->getArgOperand(1), *lane);
        b.CreateAlignedStore(element, at, llvm::Align(1));
        call->eraseFromParent();
      }
}

void CpuTarget::prepare(llvm::Module &module,
                        llvm::TargetMachine &machine) const {
  attachTarget(module, description, machine);
  optimize(module, machine);
  storeSingleLanes(module);
}

llvm::Expected<llvm::SmallVector<char, 0>>
CpuTarget::emit(llvm::Module &module, llvm::TargetMachine &machine,
                bool assembly) const {
  prepare(module, machine);
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  auto kind = assembly ? llvm::CodeGenFileType::AssemblyFile
                       : llvm::CodeGenFileType::ObjectFile;
  if (machine.addPassesToEmitFile(passes, stream, nullptr, kind))
    return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                   "target cannot emit this kind of file");
  passes.run(module);
  return bytes;
}

llvm::Expected<llvm::SmallVector<char, 0>>
CpuTarget::emitObject(llvm::Module &module,
                      llvm::TargetMachine &machine) const {
  return emit(module, machine, /*assembly=*/false);
}

llvm::Expected<llvm::SmallVector<char, 0>>
CpuTarget::emitObject(llvm::Module &module) const {
  auto machine = createMachine();
  if (!machine)
    return machine.takeError();
  return emitObject(module, **machine);
}

llvm::Expected<llvm::SmallVector<char, 0>>
CpuTarget::emitAssembly(llvm::Module &module) const {
  auto machine = createMachine();
  if (!machine)
    return machine.takeError();
  return emit(module, **machine, /*assembly=*/true);
}
