// Which laws a kernel's folds obey.
#include "dlc/Check/Laws.h"

#include "Distribute.h"
#include "Moments.h"
#include "Softmax.h"
#include "Winograd.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// The type values are combined in: the result's, except for arg folds, which
// compare what is yielded.
static Type foldedType(StageOp stage) { return stage.getYielded().getType(); }

static bool isExactMonoid(FoldKind fold, Type type) {
  switch (fold) {
  case FoldKind::add:
  case FoldKind::mul:
    return !isa<FloatType>(type);
  case FoldKind::none:
    return false;
  default:
    return true;
  }
}

check::Admission check::admitLaws(KernelOp kernel, ArrayRef<Law> laws,
                                  NumericsMode mode) {
  for (const Law &law : laws) {
    if (law.kind == LawKind::hom) {
      Admission admission = law.state == HomState::softmax
                                ? admitSoftmax(kernel, mode)
                                : admitMoments(kernel, mode);
      if (!admission)
        return admission;
      continue;
    }
    if (law.kind == LawKind::round) {
      if (Admission admission = admitRoundedSoftmax(kernel, mode); !admission)
        return admission;
      continue;
    }
    if (law.kind == LawKind::excess || law == Law::scale()) {
      if (mode == NumericsMode::strict)
        return {false, law.str() + ": -fp=strict keeps every rounding"};
      // Who sees that a rounding is left out: nobody who gets fewer bits.
      if (law.kind == LawKind::excess &&
          !llvm::all_of(kernel.getResultTypes(), [](Type type) {
            Type element = cast<RankedTensorType>(type).getElementType();
            return element.isF16() || element.isBF16();
          }))
        return {false, law.str() + ": a result is not of a 16-bit float type"};
      continue;
    }
    if (law.kind == LawKind::distribute) {
      Admission admission = law.fold == FoldKind::none
                                ? admitWinograd(kernel, mode)
                                : admitDistributeAdd(kernel, mode);
      if (!admission)
        return admission;
      continue;
    }
    bool applies = false;
    for (StageOp stage : kernel.getStages()) {
      if (stage.getFoldKind() != law.fold ||
          (law.kind == LawKind::flush && !sumsBf16Products(stage)))
        continue;
      applies = true;
      if (law.kind == LawKind::flush) {
        if (mode == NumericsMode::strict)
          return {false, law.str() + ": -fp=strict keeps subnormal numbers and "
                                     "the order of folds"};
        continue;
      }
      Type type = foldedType(stage);
      if (!isExactMonoid(law.fold, type) && mode == NumericsMode::strict) {
        std::string text;
        llvm::raw_string_ostream(text)
            << law.str() << ": " << stringifyFoldKind(law.fold) << " of "
            << type
            << " is not associative, and -fp=strict keeps the order of folds";
        return {false, text};
      }
    }
    if (!applies)
      return {false, law.str() + ": kernel '" + kernel.getSymName().str() +
                         "' has no such fold"};
  }
  return {};
}
