// -plant-fault=<kind>:<what>, a hidden flag: code that is wrong on purpose, so
// that -verify, bisection and dlc-reduce are tested on something they must
// find. The fault is put into the kernels that go to code generation; the
// interpreter sees them as they were. The flag is recorded in the artifact.
//
//   drop-last:<fold>    folds of this kind ("any": all) leave out the last
//                       element of their last axis
//   swap:<function>     its first two operands change places
//   crash:<function>    code generation of its kernels aborts
//   stray:<function>    its kernels read far outside their operands
//
// With `fused-` in front (fused-swap:sub) the kernels that fusion made are
// broken themselves, after Check has passed them: then the interpreter sees the
// fault as well, and only their certificates are right. With `relaid-` in front
// kernels are broken when they are relaid, before Check looks at that.
#include "Compilation.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/Builders.h"

#include <cstdlib>

using namespace mlir;
using namespace dlc;
using llvm::Error;

static void dropLast(graph::StageOp stage) {
  SmallVector<AffineExpr> dims(stage.getReduceDims());
  if (dims.empty() || graph::constantValue(dims.back()) == 1)
    return;
  dims.back() = dims.back() - 1;
  stage.setReduceAttr(graph::DimsAttr::get(stage.getContext(), dims));
}

static void swapOperands(graph::ApplyOp apply) {
  if (apply.getArgs().size() < 2)
    return;
  Value first = apply.getArgs()[0], second = apply.getArgs()[1];
  apply->setOperand(0, second);
  apply->setOperand(1, first);
}

static void stray(graph::LoadOp load) {
  AffineMap map = load.getMap();
  if (map.getNumResults() == 0)
    return;
  SmallVector<AffineExpr> results(map.getResults());
  results.back() = results.back() + (int64_t(1) << 40);
  load.setMapAttr(AffineMapAttr::get(AffineMap::get(
      map.getNumDims(), map.getNumSymbols(), results, map.getContext())));
}

Error dlc::checkFault(StringRef fault) {
  auto [kind, what] = fault.split(':');
  kind.consume_front("fused-") || kind.consume_front("relaid-");
  if (kind == "drop-last" &&
      (what == "any" || graph::symbolizeFoldKind(what).has_value()))
    return Error::success();
  if ((kind == "swap" || kind == "crash" || kind == "stray") &&
      graph::symbolizeScalarFn(what))
    return Error::success();
  return makeError(ExitCode::Usage,
                   "-plant-fault=" + fault +
                       ": expected drop-last:<fold>, swap:<function>, "
                       "crash:<function> or stray:<function>");
}

void dlc::plantFault(graph::KernelOp kernel, StringRef fault) {
  auto [kind, what] = fault.split(':');
  if (kind == "drop-last")
    for (graph::StageOp stage : kernel.getStages())
      if (what == "any" ? stage.getFoldKind() != graph::FoldKind::none
                        : graph::stringifyFoldKind(stage.getFoldKind()) == what)
        dropLast(stage);
  kernel.walk([&](graph::ApplyOp apply) {
    if (graph::stringifyScalarFn(apply.getFn()) != what)
      return;
    if (kind == "crash")
      std::abort();
    if (kind == "swap")
      swapOperands(apply);
    if (kind == "stray")
      kernel.walk(stray);
  });
}
