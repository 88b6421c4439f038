// The schedule of each kernel, and its admission: no kernel is compiled under a
// law that Check refuses. What a schedule leaves open (nest, knobs) is decided
// by code generation's own rules.
#include "Compilation.h"

#include "dlc/Check/State.h"
#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Program/Passes.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Schedule/Winograd.h"

#include <set>

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

static constexpr StringLiteral kAttention = "attention", kRow = "row";

/// Whether a call of `called` may run `kernel`: itself or a variant of it.
static bool runs(graph::KernelOp called, graph::KernelOp kernel) {
  if (called == kernel)
    return true;
  auto dispatch = called->getAttrOfType<DictionaryAttr>(kDispatchAttr);
  return dispatch &&
         llvm::is_contained(dispatch.getAs<ArrayAttr>("kernels").getValue(),
                            FlatSymbolRefAttr::get(kernel.getSymNameAttr()));
}

// Which operands are constants in all calls, a variant's being its kernel's.
static std::set<unsigned> constantOperands(ModuleOp module,
                                           graph::KernelOp kernel) {
  std::set<unsigned> constant;
  for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i)
    constant.insert(i);
  SymbolTable symbols(module);
  module.walk([&](graph::CallOp call) {
    if (!runs(symbols.lookup<graph::KernelOp>(call.getCallee()), kernel))
      return;
    for (auto [i, arg] : llvm::enumerate(call.getArgs()))
      if (!graph::getViewed(arg).getDefiningOp<graph::ConstantOp>())
        constant.erase(i);
  });
  return constant;
}

// A convolution that is faster by Winograd's filtering gets a claim, and the
// schedule the law, if Check admits it.
static void proposeWinograd(Compilation &c, graph::KernelOp kernel,
                            Schedule &schedule) {
  std::set<unsigned> constant = constantOperands(c.getModule(), kernel);
  auto claim = chooseWinograd(kernel, c.target->desc(), [&](unsigned i) {
    return constant.count(i) != 0;
  });
  if (!claim)
    return;
  kernel->setAttr(WinogradClaim::kAttr, claim->toAttr(kernel.getContext()));
  graph::Law law = graph::Law::winograd();
  if (check::Admission admission = check::admitLaws(kernel, {law}, c.getMode());
      !admission) {
    ++c.numRefused;
    if (c.options.verbose)
      llvm::errs() << admission.reason << "\n";
    kernel->removeAttr(WinogradClaim::kAttr);
    return;
  }
  schedule.nest = "winograd";
  schedule.laws.push_back(law);
}

// -libraries=all: whether a library has the kernel's product.
static bool hasLibrary(Compilation &c, graph::KernelOp kernel) {
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  CpuCodegenOptions options;
  std::set<unsigned> constant = constantOperands(c.getModule(), kernel);
  for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i)
    options.constantOperands.push_back(constant.count(i) != 0);
  if (succeeded(spec) && succeeded(planLibrary(*spec, options, 1, reason)))
    return true;
  if (c.options.verbose)
    llvm::errs() << "  kernel '" << kernel.getSymName()
                 << "' calls no library: " << reason << "\n";
  return false;
}

Error dlc::chooseSchedules(Compilation &c) {
  graph::NumericsMode mode = c.getMode();
  std::vector<dlc::Diagnostic> refused;
  std::set<std::string> laws;
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    auto refuse = [&](const Twine &reason) {
      dlc::Diagnostic &diagnostic = refused.emplace_back();
      diagnostic.file = c.options.input;
      diagnostic.reason =
          ("kernel '" + kernel.getSymName() + "': " + reason).str();
    };
    Expected<Schedule> schedule = getSchedule(kernel);
    if (!schedule) {
      refuse(llvm::toString(schedule.takeError()));
      continue;
    }
    using Libraries = CompileOptions::Libraries;
    if (c.options.libraries == Libraries::All && schedule->nest.empty() &&
        schedule->knobs.empty() && c.target && !c.cuda && hasLibrary(c, kernel))
      schedule->nest = kLibraryNest.str();
    if (schedule->nest == kLibraryNest &&
        c.options.libraries == Libraries::Off) {
      refuse("its schedule calls a library, which needs -libraries=on");
      continue;
    }
    // A schedule that names no laws, as none in the file does, gets the nests'.
    if (schedule->laws.empty())
      schedule->laws = defaultLaws(kernel, mode);
    if (mode == graph::NumericsMode::fastConv && schedule->nest.empty() &&
        schedule->knobs.empty() && c.target)
      proposeWinograd(c, kernel, *schedule);
    // One pass over the keys is another form of the folds, and Check itself has
    // to find it; without, they are computed one after the other.
    bool mayChange = mode != graph::NumericsMode::strict;
    NestChoice choice = mayChange ? bestNest(kernel) : NestChoice();
    if ((schedule->nest.empty() || schedule->nest == kAttention) &&
        choice.isOnePass) {
      graph::Law law = graph::Law::homSoftmax();
      if (schedule->nest == kAttention ||
          check::admitLaws(kernel, {law}, mode)) {
        if (!llvm::is_contained(schedule->laws, law))
          schedule->laws.push_back(law);
      } else {
        schedule->nest = kRow;
      }
    }
    // Scales of weights outside of sums, where Check finds them shared.
    if (graph::Law law = graph::Law::distributeAdd();
        choice.sharesScales && c.target && !c.cuda &&
        !llvm::is_contained(schedule->laws, law) &&
        check::admitLaws(kernel, {law}, mode))
      schedule->laws.push_back(law);
    // Weights of 16 bits rounded once, for tensor cores.
    if (graph::Law law = graph::Law::roundSoftmax();
        mayChange && c.cuda &&
        (schedule->nest.empty() || schedule->nest == kAttention) &&
        !llvm::is_contained(schedule->laws, law) &&
        bestNest(kernel).mayRoundWeights &&
        check::admitLaws(kernel, {law}, mode))
      schedule->laws.push_back(law);
    // The same for sums and the squares about their means, where rows are long.
    // It is not for the "generic" nest, which is the plainest code.
    if (graph::Law law = graph::Law::homWelford();
        choice.mergesMoments && c.target &&
        (schedule->nest.empty() || schedule->nest == kRow) &&
        !llvm::is_contained(schedule->laws, law) &&
        check::admitLaws(kernel, {law}, mode))
      schedule->laws.push_back(law);
    check::Admission admission = check::admitLaws(kernel, schedule->laws, mode);
    if (!admission)
      refuse(admission.reason);
    for (const graph::Law &law : schedule->laws)
      laws.insert(law.str());
    if (DictionaryAttr attr = schedule->toAttr(kernel.getContext());
        !attr.empty())
      kernel.setScheduleAttr(attr);
  }
  if (!refused.empty())
    return llvm::make_error<CompileError>(ExitCode::Verify, std::move(refused));
  if (c.options.kvBits)
    laws.insert(check::getRoundingLaw(c.options.kvBits));
  if (c.precision.numRounded())
    laws.insert("round(bf16)");
  if (c.options.precision == CompileOptions::Precision::Tf32)
    laws.insert("round(tf32)");
  c.info.laws = llvm::join(laws, ",");
  return Error::success();
}
