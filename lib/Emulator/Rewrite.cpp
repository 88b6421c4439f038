// The walk over a module: kernels get host entry points, shared variables get
// places in a window, intrinsics and memory accesses call the runtime.
#include "Rewrite.h"
#include "Assembly.h"
#include "Intrinsics.h"
#include "RaceDetector.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/ModuleSlotTracker.h"
#include "llvm/IR/ReplaceConstant.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace dlc::emu {

namespace {

constexpr unsigned kSharedAddressSpace = 3;

class Rewriter {
public:
  Rewriter(Module &module, EmulatorCheck check)
      : module(module), check(check), slots(&module) {}

  Expected<RewrittenModule> run();

private:
  void collectKernels();
  void collectSharedVariables();
  void placeSharedVariables();
  void useSharedWindow();
  void collectGlobals();
  Error rewriteCalls(Function &function);
  void guardAccesses(Function &function);
  void makeEntry(Function &kernel, KernelInfo &info);
  void makeHostFunction(Function &function);
  void usedShared(Function &function, SetVector<Function *> &seen,
                  SetVector<unsigned> &used);
  bool reaches(Function &function, SetVector<Function *> &seen,
               function_ref<bool(StringRef)> is);
  void collectSites(Function &function);
  uint32_t siteOf(const Instruction &instruction) const {
    return sites.lookup(&instruction);
  }

  Module &module;
  EmulatorCheck check;
  ModuleSlotTracker slots;
  DenseMap<const Instruction *, uint32_t> sites;
  RewrittenModule result;
  SmallVector<Function *> kernels;
  SmallVector<GlobalVariable *> sharedGlobals;
  DenseMap<const GlobalVariable *, unsigned> sharedIndex;
};

} // namespace

// Texts are taken before the function changes, while its values have numbers.
void Rewriter::collectSites(Function &function) {
  slots.incorporateFunction(function);
  for (Instruction &instruction : instructions(function)) {
    if (!instruction.mayReadOrWriteMemory() && !isa<CallBase>(instruction))
      continue;
    std::string text;
    raw_string_ostream stream(text);
    instruction.print(stream, slots);
    // Metadata after the operands says nothing to the reader.
    StringRef shown = StringRef(text).trim();
    shown = shown.substr(0, shown.find(", !"));
    shown = shown.substr(0, shown.find(" #"));
    std::string cut;
    if (constexpr size_t most = 300; shown.size() > most) {
      cut = shown.take_front(most).str() + " ...";
      shown = cut;
    }
    sites[&instruction] = result.sites.size();
    if (const DebugLoc &location = instruction.getDebugLoc())
      result.sites.push_back(
          (shown + " (line " + Twine(location.getLine()) + ")").str());
    else
      result.sites.push_back(shown.str());
  }
}

void Rewriter::collectKernels() {
  for (Function &function : module)
    if (!function.isDeclaration() &&
        function.getCallingConv() == CallingConv::PTX_Kernel)
      kernels.push_back(&function);
}

//===----------------------------------------------------------------------===//
// Shared memory and other globals
//===----------------------------------------------------------------------===//

void Rewriter::collectSharedVariables() {
  const DataLayout &layout = module.getDataLayout();
  for (GlobalVariable &global : module.globals()) {
    if (global.getAddressSpace() != kSharedAddressSpace)
      continue;
    size_t bytes = layout.getTypeAllocSize(global.getValueType());
    // An external declaration is dynamic shared memory.
    if (global.isDeclaration())
      bytes = 0;
    sharedIndex[&global] = result.shared.size();
    sharedGlobals.push_back(&global);
    result.shared.push_back({global.getName().str(), 0, bytes});
  }
}

// Variables of several kernels lie in front; behind them every kernel's own lie
// as if there were no others. Dynamic shared memory starts behind all.
void Rewriter::placeSharedVariables() {
  const DataLayout &layout = module.getDataLayout();
  std::vector<unsigned> users(result.shared.size());
  for (Function *kernel : kernels)
    for (unsigned index : result.kernels[kernel->getName()].sharedVariables)
      ++users[index];
  Align strictest(128);
  auto place = [&](unsigned index, size_t &end) {
    const GlobalVariable &global = *sharedGlobals[index];
    Align align = global.getAlign().value_or(layout.getPreferredAlign(&global));
    strictest = std::max(strictest, align);
    SharedVariable &variable = result.shared[index];
    if (variable.bytes == 0)
      return;
    variable.offset = alignTo(end, align);
    end = variable.offset + variable.bytes + kSharedRedZone;
  };
  size_t common = kSharedRedZone;
  for (unsigned index = 0; index < users.size(); ++index)
    if (users[index] != 1)
      place(index, common);
  size_t furthest = common;
  for (Function *kernel : kernels) {
    KernelInfo &info = result.kernels[kernel->getName()];
    info.windowBytes = common;
    for (unsigned index : info.sharedVariables)
      if (users[index] == 1)
        place(index, info.windowBytes);
    furthest = std::max(furthest, info.windowBytes);
  }
  result.dynamicSharedOffset = alignTo(furthest, strictest);
  for (SharedVariable &variable : result.shared)
    if (variable.bytes == 0)
      variable.offset = result.dynamicSharedOffset;
  // Also where a launch gives none, which is then seen.
  for (auto &[name, info] : result.kernels)
    if (any_of(info.sharedVariables,
               [&](unsigned i) { return result.shared[i].bytes == 0; }))
      info.windowBytes = result.dynamicSharedOffset + kSharedRedZone;
}

void Rewriter::usedShared(Function &function, SetVector<Function *> &seen,
                          SetVector<unsigned> &used) {
  if (!seen.insert(&function))
    return;
  for (Instruction &instruction : instructions(function))
    for (Value *operand : instruction.operands()) {
      if (auto *callee = dyn_cast<Function>(operand))
        usedShared(*callee, seen, used);
      if (auto *global = dyn_cast<GlobalVariable>(operand))
        if (auto it = sharedIndex.find(global); it != sharedIndex.end())
          used.insert(it->second);
    }
}

void Rewriter::useSharedWindow() {
  // Constant expressions over shared variables become instructions, whose
  // operands can then be replaced one function at a time.
  SmallVector<Constant *> constants(sharedGlobals.begin(), sharedGlobals.end());
  convertUsersOfConstantsToInstructions(constants);
  for (Function *kernel : kernels) {
    SetVector<Function *> seen;
    SetVector<unsigned> used;
    usedShared(*kernel, seen, used);
    result.kernels[kernel->getName()].sharedVariables.assign(used.begin(),
                                                             used.end());
  }
  placeSharedVariables();
  DenseMap<Function *, Value *> windows;
  for (auto [index, global] : enumerate(sharedGlobals)) {
    DenseMap<Function *, Value *> addresses;
    for (Use &use : make_early_inc_range(global->uses())) {
      auto *user = dyn_cast<Instruction>(use.getUser());
      if (!user)
        continue;
      Function *function = user->getFunction();
      Value *&address = addresses[function];
      if (!address) {
        Value *&window = windows[function];
        if (!window) {
          IRBuilder<> entry(&*function->getEntryBlock().begin());
          window = callHost(entry, "dlc_emu_shared_window",
                            PointerType::get(module.getContext(), 0), {});
        }
        IRBuilder<> builder(cast<Instruction>(window)->getNextNode());
        Value *offset = builder.getInt64(result.shared[index].offset);
        address = builder.CreateAddrSpaceCast(
            builder.CreatePtrAdd(window, offset), global->getType());
      }
      use.set(address);
    }
  }
  for (GlobalVariable *global : sharedGlobals)
    if (global->use_empty())
      global->eraseFromParent();
}

void Rewriter::collectGlobals() {
  for (GlobalVariable &global : module.globals()) {
    if (global.isDeclaration() || global.getName().starts_with("llvm.") ||
        global.getAddressSpace() == kSharedAddressSpace)
      continue;
    // External, so that the JIT tells where it put the variable.
    if (!global.hasName())
      global.setName("global");
    global.setLinkage(GlobalValue::ExternalLinkage);
    global.setVisibility(GlobalValue::DefaultVisibility);
    result.globals.push_back(
        {global.getName().str(),
         module.getDataLayout().getTypeAllocSize(global.getValueType()),
         !global.isConstant()});
  }
}

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

// To the nearest bf16, ties to even, which hosts may have no instruction for;
// a NaN is 0x7fff (PTX ISA, "cvt").
static void expandRounding(FPTruncInst &instruction) {
  Type *type = instruction.getType();
  if (!type->getScalarType()->isBFloatTy())
    return;
  IRBuilder<> b(&instruction);
  Value *x = instruction.getOperand(0);
  auto integer = [&](unsigned bits) -> Type * {
    return type->getWithNewType(b.getIntNTy(bits));
  };
  auto number = [&](uint64_t value) {
    return ConstantInt::get(integer(32), value);
  };
  Value *bits = b.CreateBitCast(x, integer(32));
  Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), number(1));
  Value *rounded =
      b.CreateLShr(b.CreateAdd(bits, b.CreateAdd(odd, number(0x7fff))), 16);
  Value *chosen =
      b.CreateSelect(b.CreateFCmpUNO(x, x), number(0x7fff), rounded);
  instruction.replaceAllUsesWith(
      b.CreateBitCast(b.CreateTrunc(chosen, integer(16)), type));
  instruction.eraseFromParent();
}

Error Rewriter::rewriteCalls(Function &function) {
  for (Instruction &instruction :
       make_early_inc_range(instructions(function))) {
    if (auto *rounding = dyn_cast<FPTruncInst>(&instruction)) {
      expandRounding(*rounding);
      continue;
    }
    auto *call = dyn_cast<CallInst>(&instruction);
    if (!call)
      continue;
    if (isa<InlineAsm>(call->getCalledOperand())) {
      if (Error error = lowerAssembly(
              *call, [&](const Instruction &i) { return siteOf(i); }))
        return error;
      continue;
    }
    Function *callee = call->getCalledFunction();
    if (!callee)
      return createStringError("the emulator does not follow the indirect call "
                               "in '" +
                               function.getName() + "'");
    if (callee->getName().starts_with("llvm.nvvm.")) {
      if (Error error = lowerIntrinsic(
              *call, [&](const Instruction &i) { return siteOf(i); }))
        return error;
      continue;
    }
    switch (callee->getIntrinsicID()) {
    case Intrinsic::trap:
    case Intrinsic::debugtrap: {
      IRBuilder<> builder(call);
      callHost(builder, "dlc_emu_trap", builder.getVoidTy(), {});
      call->eraseFromParent();
      continue;
    }
    case Intrinsic::masked_load:
    case Intrinsic::masked_store:
    case Intrinsic::masked_gather:
    case Intrinsic::masked_scatter:
      return createStringError("the emulator does not know the intrinsic '" +
                               callee->getName() + "'");
    default:
      break;
    }
    if (callee->isDeclaration() && !callee->isIntrinsic() &&
        !callee->getName().starts_with("dlc_emu_"))
      return createStringError("the emulator does not know the external "
                               "function '" +
                               callee->getName() + "'");
  }
  return Error::success();
}

// Calls the check before everything that reads or writes memory.
void Rewriter::guardAccesses(Function &function) {
  const DataLayout &layout = module.getDataLayout();
  auto guard = [&](Instruction &instruction, Value *address, Value *bytes,
                   uint64_t align, Access::Kind kind) {
    IRBuilder<> builder(&instruction);
    Value *generic = builder.CreateAddrSpaceCast(
        address, PointerType::get(module.getContext(), 0));
    callHost(builder, "dlc_emu_check_access", builder.getVoidTy(),
             {generic, builder.CreateZExt(bytes, builder.getInt64Ty()),
              builder.getInt64(align), builder.getInt32(kind),
              builder.getInt32(siteOf(instruction))});
  };
  auto sizeOf = [&](Type *type) {
    return ConstantInt::get(Type::getInt64Ty(module.getContext()),
                            layout.getTypeStoreSize(type));
  };
  for (Instruction &instruction :
       make_early_inc_range(instructions(function))) {
    if (isOwn(instruction))
      continue;
    if (auto *load = dyn_cast<LoadInst>(&instruction)) {
      guard(*load, load->getPointerOperand(), sizeOf(load->getType()),
            load->getAlign().value(),
            load->isAtomic() ? Access::Atomic : Access::Read);
    } else if (auto *store = dyn_cast<StoreInst>(&instruction)) {
      guard(*store, store->getPointerOperand(),
            sizeOf(store->getValueOperand()->getType()),
            store->getAlign().value(),
            store->isAtomic() ? Access::Atomic : Access::Write);
    } else if (auto *rmw = dyn_cast<AtomicRMWInst>(&instruction)) {
      guard(*rmw, rmw->getPointerOperand(), sizeOf(rmw->getType()),
            rmw->getAlign().value(), Access::Atomic);
    } else if (auto *exchange = dyn_cast<AtomicCmpXchgInst>(&instruction)) {
      guard(*exchange, exchange->getPointerOperand(),
            sizeOf(exchange->getNewValOperand()->getType()),
            exchange->getAlign().value(), Access::Atomic);
    } else if (auto *intrinsic = dyn_cast<MemIntrinsic>(&instruction)) {
      if (auto *transfer = dyn_cast<MemTransferInst>(intrinsic))
        guard(*intrinsic, transfer->getSource(), intrinsic->getLength(),
              transfer->getSourceAlign().valueOrOne().value(), Access::Read);
      guard(*intrinsic, intrinsic->getDest(), intrinsic->getLength(),
            intrinsic->getDestAlign().valueOrOne().value(), Access::Write);
    }
  }
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

// Makes `void entry(void **arguments)`, which unpacks what a launch gives. A
// by-value parameter is passed as the pointer to its copy, as PTX sees it.
void Rewriter::makeEntry(Function &kernel, KernelInfo &info) {
  LLVMContext &context = module.getContext();
  auto *pointer = PointerType::get(context, 0);
  info.entry = ("dlc_emu_entry." + kernel.getName()).str();
  Function *entry = Function::Create(
      FunctionType::get(Type::getVoidTy(context), {pointer}, false),
      GlobalValue::ExternalLinkage, info.entry, module);
  IRBuilder<> builder(BasicBlock::Create(context, "", entry));
  SmallVector<Value *> arguments;
  for (Argument &argument : kernel.args()) {
    Value *slot = builder.CreateConstGEP1_64(pointer, entry->getArg(0),
                                             argument.getArgNo());
    Value *place = builder.CreateLoad(pointer, slot);
    auto kind = KernelParameter::Other;
    if (argument.hasByValAttr()) {
      arguments.push_back(
          builder.CreateAddrSpaceCast(place, argument.getType()));
    } else {
      arguments.push_back(
          builder.CreateAlignedLoad(argument.getType(), place, Align(1)));
      if (argument.getType()->isPointerTy())
        kind = KernelParameter::Pointer;
      else if (argument.getType()->isIntegerTy(64))
        kind = KernelParameter::Integer64;
    }
    info.parameters.push_back({kind});
  }
  builder.CreateCall(&kernel, arguments);
  builder.CreateRetVoid();
}

// Drops what speaks of the GPU: calling convention, CPU and feature names,
// by-value copies (made by the launch).
void Rewriter::makeHostFunction(Function &function) {
  function.setCallingConv(CallingConv::C);
  function.removeFnAttr("target-cpu");
  function.removeFnAttr("target-features");
  for (Argument &argument : function.args())
    argument.removeAttr(Attribute::ByVal);
  for (Instruction &instruction : instructions(function))
    if (auto *call = dyn_cast<CallBase>(&instruction)) {
      call->setCallingConv(CallingConv::C);
      for (unsigned i = 0; i < call->arg_size(); ++i)
        call->removeParamAttr(i, Attribute::ByVal);
    }
}

static uint64_t maxThreads(const Function &kernel) {
  Attribute attribute = kernel.getFnAttribute("nvvm.maxntid");
  if (!attribute.isStringAttribute())
    return 0;
  uint64_t product = 1;
  for (StringRef part : split(attribute.getValueAsString(), ',')) {
    uint64_t extent = 0;
    if (part.trim().getAsInteger(10, extent))
      return 0;
    product *= extent;
  }
  return product;
}

static bool isWait(StringRef name) {
  return name.starts_with("dlc_emu_barrier") || name == "dlc_emu_collective" ||
         name == "dlc_emu_mma" || name == "dlc_emu_ldmatrix" ||
         name == "dlc_emu_copy_async" || name.starts_with("dlc_emu_mbarrier") ||
         name.starts_with("dlc_emu_cluster") || name == "dlc_emu_exit";
}

static bool usesAsyncProxy(StringRef name) {
  return name.starts_with("dlc_emu_bulk") || name.starts_with("dlc_emu_wgmma");
}

// Of a rewritten function: it calls a host operation that `is` holds for.
bool Rewriter::reaches(Function &function, SetVector<Function *> &seen,
                       function_ref<bool(StringRef)> is) {
  if (function.isDeclaration())
    return is(function.getName());
  if (!seen.insert(&function))
    return false;
  for (Instruction &instruction : instructions(function))
    if (auto *call = dyn_cast<CallBase>(&instruction))
      if (Function *callee = call->getCalledFunction();
          callee && reaches(*callee, seen, is))
        return true;
  return false;
}

Expected<RewrittenModule> Rewriter::run() {
  collectKernels();
  if (kernels.empty())
    return createStringError("the module holds no kernel (a function of "
                             "calling convention ptx_kernel)");
  collectSharedVariables();
  useSharedWindow();
  collectGlobals();
  for (Function &function : module) {
    if (function.isDeclaration())
      continue;
    collectSites(function);
    if (Error error = checkSums(function))
      return std::move(error);
    if (Error error = rewriteCalls(function))
      return std::move(error);
    if (check >= EmulatorCheck::Memory)
      guardAccesses(function);
  }
  for (Function *kernel : kernels) {
    KernelInfo &info = result.kernels[kernel->getName()];
    info.maxThreads = maxThreads(*kernel);
    SetVector<Function *> seen, seenAgain;
    info.usesAsyncProxy = reaches(*kernel, seen, usesAsyncProxy);
    info.waits = info.usesAsyncProxy || reaches(*kernel, seenAgain, isWait);
    makeEntry(*kernel, info);
  }
  for (Function &function : module)
    makeHostFunction(function);
  std::string problem;
  raw_string_ostream stream(problem);
  if (verifyModule(module, &stream))
    return createStringError(
        "internal error: the rewritten module is broken: " + problem);
  return std::move(result);
}

Expected<RewrittenModule> rewriteForHost(Module &module, EmulatorCheck check) {
  return Rewriter(module, check).run();
}

} // namespace dlc::emu
