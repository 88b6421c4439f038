// Layouts, and their proof: Check compares every relaid kernel with the one it
// renames; one that it refuses keeps its layout, and its neighbours with it.
#include "Compilation.h"

#include "dlc/Check/Concat.h"
#include "dlc/Check/Layout.h"
#include "dlc/Codegen/CPU/ContractionNest.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;

// Matrix tiles read panels, which are filled; where dot products of pairs are
// no faster than multiply-adds, bf16 numbers are widened.
static layout::Bf16Images bf16ImagesOf(const TargetDesc &desc) {
  if (desc.bf16TileFlopsPerCycle > 0)
    return layout::Bf16Images::Kept;
  return desc.bf16FlopsPerCycle > desc.f32FlopsPerCycle
             ? layout::Bf16Images::Paired
             : layout::Bf16Images::Widened;
}

Error dlc::chooseLayouts(Compilation &c) {
  graph::NumericsMode mode = c.getMode();
  OwningOpRef<ModuleOp> original = c.getModule().clone();
  layout::LayoutOptions options;
  options.lanes = c.target->desc().vectorBytes / 4; // of float32
  for (auto kernel : c.getModule().getOps<graph::KernelOp>())
    if (!kernel.getOpaque() && copiesBytes(kernel, *c.target))
      options.keep.insert(kernel.getSymName().str());
  options.filters = mode == graph::NumericsMode::fastConv;
  options.bf16 = bf16ImagesOf(c.target->desc());
  for (;;) {
    c.layout = layout::relayTensors(c.getModule(), options);
    if (c.layout.tensors == 0)
      return Error::success();
    if (StringRef fault = c.options.plantFault; fault.consume_front("relaid-"))
      for (auto kernel : c.getModule().getOps<graph::KernelOp>())
        if (kernel->hasAttr(layout::kClaim))
          plantFault(kernel, fault);
    check::LayoutVerdict verdict =
        check::checkLayouts(*original, c.getModule(), mode);
    if (verdict.accepted())
      break;
    if (c.options.verbose)
      verdict.print(llvm::errs());
    c.source.module = original->clone();
    if (!verdict.graph.empty()) { // nobody in particular is to blame
      ++c.numKept;
      c.layout = {};
      return Error::success();
    }
    for (const check::LayoutVerdict::Refusal &refusal : verdict.kernels)
      c.numKept += options.keep.insert(refusal.kernel).second;
  }
  if (Error error = dumpModule(c, "02-layout.mlir"))
    return error;
  layout::dropClaims(c.getModule());
  return Error::success();
}

void dlc::placeConcats(Compilation &c) {
  c.placed =
      layout::placeConcats(c.getModule(), [&](graph::KernelOp kernel,
                                              const graph::ConcatForm &form) {
        check::Admission admission = check::admitConcat(kernel, form);
        if (!admission && c.options.verbose)
          llvm::errs() << "REFUSE " << admission.reason << "\n";
        return bool(admission);
      });
}
