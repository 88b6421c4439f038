// A copy of the module is stripped to its skeleton, integers and branches with
// a counter each way, and run.
#include "BranchCounts.h"

#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/MDBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/raw_ostream.h"

#include <vector>

using namespace dlc;
using llvm::Error;
using llvm::Expected;

/// Conditional branches in the module's order.
static std::vector<llvm::BranchInst *> branchesOf(llvm::Module &module) {
  std::vector<llvm::BranchInst *> branches;
  for (llvm::Function &function : module)
    for (llvm::BasicBlock &block : function)
      if (auto *branch =
              llvm::dyn_cast<llvm::BranchInst>(block.getTerminator());
          branch && branch->isConditional())
        branches.push_back(branch);
  return branches;
}

static bool isNumber(const llvm::Value *value) {
  llvm::Type *type = value->getType();
  return type->isIntegerTy() || type->isPointerTy();
}

/// Whether the skeleton keeps an instruction.
static bool isKept(const llvm::Instruction &instruction) {
  if (instruction.isTerminator() || llvm::isa<llvm::AllocaInst>(instruction))
    return true;
  if (auto *call = llvm::dyn_cast<llvm::CallBase>(&instruction)) {
    const llvm::Function *callee = call->getCalledFunction();
    if (callee && !callee->isDeclaration())
      return true;
    if (!callee || !callee->isIntrinsic() || call->getType()->isVoidTy())
      return false;
  }
  if (instruction.mayReadOrWriteMemory() || !isNumber(&instruction))
    return false;
  // By what is not known it may be zero.
  if (instruction.isIntDivRem() &&
      !llvm::isa<llvm::ConstantInt>(instruction.getOperand(1)))
    return false;
  return llvm::all_of(instruction.operands(), [](const llvm::Use &operand) {
    return isNumber(operand) || llvm::isa<llvm::Function>(operand) ||
           llvm::isa<llvm::BasicBlock>(operand);
  });
}

static void strip(llvm::Module &module) {
  for (llvm::Function &function : module) {
    if (function.isDeclaration()) // an intrinsic's say what it does
      continue;
    function.setAttributes({});
    for (llvm::BasicBlock &block : function)
      for (llvm::Instruction &instruction : llvm::make_early_inc_range(block)) {
        if (isKept(instruction)) {
          if (auto *call = llvm::dyn_cast<llvm::CallBase>(&instruction))
            call->setAttributes({});
          continue;
        }
        if (!instruction.getType()->isVoidTy())
          instruction.replaceAllUsesWith(
              llvm::Constant::getNullValue(instruction.getType()));
        instruction.eraseFromParent();
      }
  }
}

static void count(llvm::Module &module, uint64_t *counts) {
  llvm::IRBuilder<> b(module.getContext());
  llvm::Type *i64 = b.getInt64Ty();
  for (auto [i, branch] : llvm::enumerate(branchesOf(module))) {
    b.SetInsertPoint(branch);
    llvm::Value *base = b.CreateIntToPtr(
        b.getInt64(uint64_t(uintptr_t(counts + 2 * i))), b.getPtrTy());
    llvm::Value *way = b.CreateZExt(branch->getCondition(), i64);
    llvm::Value *at = b.CreateGEP(i64, base, way);
    b.CreateStore(b.CreateAdd(b.CreateLoad(i64, at), b.getInt64(1)), at);
  }
}

/// [not taken, taken] of each branch.
static Expected<std::vector<uint64_t>>
runSkeleton(const llvm::Module &module, llvm::StringRef symbol,
            llvm::ArrayRef<int64_t> tasks, size_t branches) {
  std::string bitcode;
  llvm::raw_string_ostream os(bitcode);
  llvm::WriteBitcodeToFile(module, os);
  auto context = std::make_unique<llvm::LLVMContext>();
  auto copy = llvm::parseBitcodeFile({bitcode, "skeleton"}, *context);
  if (!copy)
    return copy.takeError();
  std::vector<uint64_t> counts(2 * branches);
  strip(**copy);
  count(**copy, counts.data());
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  (*copy)->setTargetTriple((*jit)->getTargetTriple());
  (*copy)->setDataLayout((*jit)->getDataLayout());
  (*copy)->getFunction(symbol)->setLinkage(llvm::Function::ExternalLinkage);
  (*copy)->getFunction(symbol)->setVisibility(
      llvm::Function::DefaultVisibility);
  if (Error error = (*jit)->addIRModule({std::move(*copy), std::move(context)}))
    return std::move(error);
  auto task = (*jit)->lookup(symbol);
  if (!task)
    return task.takeError();
  for (int64_t i : tasks)
    task->toPtr<void (*)(void *, int64_t, int64_t)>()(nullptr, i, 0);
  return counts;
}

Error dlc::weighBranches(llvm::Module &module, llvm::StringRef symbol,
                         llvm::ArrayRef<int64_t> tasks) {
  const llvm::Function *function = module.getFunction(symbol);
  if (!function || function->isDeclaration() || function->arg_size() != 3)
    return llvm::createStringError("there is no task '" + symbol + "'");
  std::vector<llvm::BranchInst *> branches = branchesOf(module);
  auto counts = runSkeleton(module, symbol, tasks, branches.size());
  if (!counts)
    return counts.takeError();
  llvm::MDBuilder metadata(module.getContext());
  for (auto [i, branch] : llvm::enumerate(branches)) {
    uint64_t no = (*counts)[2 * i], yes = (*counts)[2 * i + 1];
    for (; std::max(no, yes) >> 31; no >>= 1, yes >>= 1) {
    }
    if (no + yes > 0) // else no call came here
      branch->setMetadata(
          llvm::LLVMContext::MD_prof,
          metadata.createBranchWeights(uint32_t(yes), uint32_t(no)));
  }
  return Error::success();
}
