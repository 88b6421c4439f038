// Fusion, and its proof: Check compares every fused kernel with the operators
// it was made from; a group that it refuses is split again.
#include "Compilation.h"

#include "dlc/Check/Fusion.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Fusion/Fusion.h"
#include "dlc/Layout/Concat.h"
#include "dlc/Schedule/CostQuery.h"

#include <set>

using namespace mlir;
using namespace dlc;
using llvm::Error;

// Splits groups until Check accepts what is left; `original` is the module
// before fusion.
static Error certify(Compilation &c, ModuleOp original) {
  ModuleOp module = c.getModule();
  graph::NumericsMode mode = c.getMode();
  std::set<std::string> split;
  // A group that is gone may uncover what the next one does wrong.
  for (bool all = false;;) {
    check::FusionVerdict verdict = check::checkFusion(original, module, mode);
    if (c.options.explainFusion)
      verdict.print(llvm::errs());
    if (verdict.accepted())
      break;
    std::vector<std::string> names = verdict.refused();
    if (names.empty() && !verdict.blamed.empty())
      names.push_back(verdict.blamed);
    all = names.empty();
    bool found = false;
    for (auto certificate :
         llvm::make_early_inc_range(module.getOps<graph::CertificateOp>())) {
      std::string kernel = certificate.getKernel().str();
      if (!all && !llvm::is_contained(names, kernel))
        continue;
      split.insert(kernel);
      fusion::splitGroup(certificate);
      found = true;
    }
    if (!found) { // nothing is fused any more, and still it is refused
      std::string text;
      llvm::raw_string_ostream os(text);
      verdict.print(os);
      return makeError(ExitCode::Internal, text, c.options.input);
    }
  }
  llvm::erase_if(c.fusion.groups, [&](const fusion::FusedGroup &group) {
    bool isSplit = split.count(group.kernel) != 0;
    c.numRefused += isSplit;
    return isSplit;
  });
  c.fusion.countKernels();
  return Error::success();
}

Error dlc::fuseKernels(Compilation &c) {
  TargetDesc target = c.target && !c.cuda ? c.target->desc() : TargetDesc();
  RooflineCost cost;
  fusion::NestPolicy::Limits limits;
  limits.allowsInside = true;
  limits.nestsInlineSingleLoads = false; // by weight (Schedule/RowPlan.h)
  limits.multipliesNarrow = c.cuda.has_value();
  limits.readsPages = !c.cuda;
  limits.reassociates = !c.options.strict;
  limits.relaysImages = c.wantsLayouts();
  fusion::NestPolicy policy(target, cost, limits);
  fusion::FusionOptions options;
  options.explains = c.options.explainFusion || c.options.explainAttention;
  if (c.options.strict)
    options.noAttention = "-fp=strict keeps the order of its sums";
  options.countsEdges = c.options.wants(EmitKind::Report);
  for (auto &[name, range] : c.options.dims)
    options.typicalSizes[name] = range.typical;
  if (c.wantsPlacement())
    layout::keepConcats(c.getModule(), c.wantsLayouts());
  OwningOpRef<ModuleOp> original = c.getModule().clone();
  c.fusion = fusion::fuseKernels(c.getModule(), policy, options);
  if (c.options.explainAttention)
    fusion::printAttentions(c.fusion, llvm::errs());
  if (c.options.explainFusion)
    fusion::printReport(c.fusion, llvm::errs());
  if (Error error = certify(c, *original))
    return error;
  if (Error error = dumpModule(c, "02-fused.mlir"))
    return error;
  StringRef fault = c.options.plantFault;
  if (fault.consume_front("fused-"))
    for (auto certificate : c.getModule().getOps<graph::CertificateOp>())
      plantFault(
          c.getModule().lookupSymbol<graph::KernelOp>(certificate.getKernel()),
          fault);
  if (c.options.bisect)
    c.certifiedModule = c.getModule().clone();
  fusion::dropCertificates(c.getModule());
  return Error::success();
}
