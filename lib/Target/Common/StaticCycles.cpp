// Branches get the weights that they have in a run, code generation carries
// them to the blocks of machine code, and a last pass adds up what the
// scheduling model says of each.
#include "dlc/Target/Common/StaticCycles.h"

#include "BranchCounts.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/CodeGen/MachineBlockFrequencyInfo.h"
#include "llvm/CodeGen/MachineFunctionPass.h"
#include "llvm/CodeGen/MachineModuleInfo.h"
#include "llvm/CodeGen/TargetInstrInfo.h"
#include "llvm/CodeGen/TargetPassConfig.h"
#include "llvm/CodeGen/TargetRegisterInfo.h"
#include "llvm/CodeGen/TargetSchedule.h"
#include "llvm/CodeGen/TargetSubtargetInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

#include <map>

using namespace dlc;
using llvm::Expected;

//===----------------------------------------------------------------------===//
// Machine code
//===----------------------------------------------------------------------===//

namespace {
struct FunctionCost {
  double cycles = 0;
  std::map<std::string, double> calls; ///< how often each callee is called
};
using Costs = std::map<std::string, FunctionCost>;

class CollectCycles : public llvm::MachineFunctionPass {
public:
  explicit CollectCycles(Costs &costs)
      : MachineFunctionPass(ID), costs(costs) {}
  llvm::StringRef getPassName() const override { return "dlc static cycles"; }
  void getAnalysisUsage(llvm::AnalysisUsage &usage) const override {
    usage.addRequired<llvm::MachineBlockFrequencyInfoWrapperPass>();
    usage.setPreservesAll();
    MachineFunctionPass::getAnalysisUsage(usage);
  }
  bool runOnMachineFunction(llvm::MachineFunction &function) override;

private:
  double boundByUnits(const llvm::MachineBasicBlock &block) const;
  double boundByLatency(const llvm::MachineBasicBlock &block) const;

  static char ID;
  Costs &costs;
  llvm::TargetSchedModel model;
  const llvm::TargetRegisterInfo *registers = nullptr;
};
char CollectCycles::ID = 0;
} // namespace

static bool isFree(const llvm::MachineInstr &instruction) {
  return instruction.isTransient() || instruction.isDebugOrPseudoInstr();
}

double CollectCycles::boundByUnits(const llvm::MachineBasicBlock &block) const {
  llvm::SmallVector<double> busy(model.getNumProcResourceKinds());
  double issued = 0;
  for (const llvm::MachineInstr &instruction : block) {
    if (isFree(instruction))
      continue;
    const llvm::MCSchedClassDesc *how = model.resolveSchedClass(&instruction);
    issued += model.getNumMicroOps(&instruction, how);
    if (!how->isValid())
      continue;
    for (auto use = model.getWriteProcResBegin(how),
              end = model.getWriteProcResEnd(how);
         use != end; ++use)
      busy[use->ProcResourceIdx] += use->ReleaseAtCycle - use->AcquireAtCycle;
  }
  double bound = issued / std::max(1u, model.getIssueWidth());
  for (unsigned i = 1; i < busy.size(); ++i)
    bound = std::max(bound, busy[i] / model.getProcResource(i)->NumUnits);
  return bound;
}

/// What an iteration adds to the time at which its slowest value is there, with
/// units without end.
double
CollectCycles::boundByLatency(const llvm::MachineBasicBlock &block) const {
  if (!block.isSuccessor(&block))
    return 0;
  struct Value {
    double ready = 0;
    const llvm::MachineInstr *maker = nullptr;
    unsigned operand = 0;
  };
  std::map<llvm::MCRegUnit, Value> values;
  constexpr unsigned rounds = 8, settled = 4;
  double latest = 0, before = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    for (const llvm::MachineInstr &instruction : block) {
      if (isFree(instruction))
        continue;
      double start = 0;
      for (auto [i, operand] : llvm::enumerate(instruction.operands())) {
        if (!operand.isReg() || !operand.isUse() ||
            !operand.getReg().isPhysical())
          continue;
        for (llvm::MCRegUnit unit : registers->regunits(operand.getReg()))
          if (auto it = values.find(unit); it != values.end())
            start =
                std::max(start, it->second.ready +
                                    model.computeOperandLatency(
                                        it->second.maker, it->second.operand,
                                        &instruction, unsigned(i)));
      }
      for (auto [i, operand] : llvm::enumerate(instruction.operands()))
        if (operand.isReg() && operand.isDef() && operand.getReg().isPhysical())
          for (llvm::MCRegUnit unit : registers->regunits(operand.getReg()))
            values[unit] = {start, &instruction, unsigned(i)};
      latest = std::max(latest, start);
    }
    if (round + 1 == settled)
      before = latest;
  }
  return (latest - before) / (rounds - settled);
}

bool CollectCycles::runOnMachineFunction(llvm::MachineFunction &function) {
  model.init(&function.getSubtarget());
  registers = function.getSubtarget().getRegisterInfo();
  if (!model.hasInstrSchedModel())
    return false;
  auto &frequencies =
      getAnalysis<llvm::MachineBlockFrequencyInfoWrapperPass>().getMBFI();
  FunctionCost &cost = costs[function.getName().str()];
  for (const llvm::MachineBasicBlock &block : function) {
    double times = frequencies.getBlockFreqRelativeToEntryBlock(&block);
    cost.cycles += times * std::max(boundByUnits(block), boundByLatency(block));
    for (const llvm::MachineInstr &instruction : block)
      if (instruction.isCall())
        for (const llvm::MachineOperand &operand : instruction.operands())
          if (operand.isGlobal())
            cost.calls[operand.getGlobal()->getName().str()] += times;
  }
  return false;
}

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

/// Kernels' functions do not call themselves.
static double addUp(const Costs &costs, const std::string &name) {
  auto it = costs.find(name);
  if (it == costs.end())
    return 0;
  double cycles = it->second.cycles;
  for (auto &[callee, times] : it->second.calls)
    cycles += times * addUp(costs, callee);
  return cycles;
}

Expected<double> dlc::estimateCycles(const CpuTarget &target,
                                     llvm::Module &module,
                                     llvm::StringRef symbol, int64_t tasks) {
  auto machine = target.createMachine();
  if (!machine)
    return machine.takeError();
  target.prepare(module, **machine);
  // The last task may be shorter, and the first one different.
  llvm::SmallVector<int64_t> sample;
  for (int64_t i : {int64_t(0), tasks / 3, 2 * tasks / 3, tasks - 1})
    if (i >= 0 && !llvm::is_contained(sample, i))
      sample.push_back(i);
  if (llvm::Error error = weighBranches(module, symbol, sample))
    return std::move(error);

  Costs costs;
  llvm::legacy::PassManager passes;
  passes.add(
      new llvm::TargetLibraryInfoWrapperPass((*machine)->getTargetTriple()));
  llvm::TargetPassConfig *config = (*machine)->createPassConfig(passes);
  passes.add(config);
  passes.add(new llvm::MachineModuleInfoWrapperPass(machine->get()));
  if (config->addISelPasses())
    return llvm::createStringError("target cannot select instructions");
  config->addMachinePasses();
  config->setInitialized();
  passes.add(new CollectCycles(costs));
  passes.run(module);
  if (!costs.count(symbol.str()))
    return llvm::createStringError(
        "LLVM has no scheduling model of '" + target.desc().cpu +
        "', or there is no function '" + symbol + "'");
  return addUp(costs, symbol.str());
}
