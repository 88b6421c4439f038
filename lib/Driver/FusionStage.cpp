// Fusion, and its proof: Check compares every fused kernel with the operators
// it was made from; a group that it refuses is split again.
#include "Compilation.h"

#include "dlc/Fusion/Fusion.h"
#include "dlc/Schedule/CostQuery.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;

Error dlc::fuseKernels(Compilation &c) {
  TargetDesc target = c.target ? c.target->desc() : TargetDesc();
  RooflineCost cost;
  fusion::NestPolicy policy(target, cost, fusion::NestPolicy::Limits());
  fusion::FusionOptions options;
  options.explains = c.options.explainFusion;
  for (auto &[name, range] : c.options.dims)
    options.typicalSizes[name] = range.typical;
  c.fusion = fusion::fuseKernels(c.getModule(), policy, options);
  if (c.options.explainFusion)
    fusion::printReport(c.fusion, llvm::errs());
  if (Error error = dumpModule(c, "02-fused.mlir"))
    return error;
  fusion::dropCertificates(c.getModule());
  return Error::success();
}
