// The attention and contraction nests take what they can; a loop nest the rest.
#include "dlc/Schedule/NestChoice.h"

#include "LoadAddress.h"
#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/Moments.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

/// Whether a load moves by other than 0 or 1 elements along the innermost axis
/// of its stage: the last domain axis, or a fold's last one when the domain
/// does not reach it.
static bool isStrided(graph::LoadOp load, StageOp stage) {
  auto address = loadAddress(load);
  if (!address)
    return true; // a gather
  SmallVector<AffineExpr> extents = axisExtents(stage);
  unsigned domainRank = stage.getDomainRank();
  auto across = lastWideAxis(extents, 0, domainRank),
       along = lastWideAxis(extents, domainRank, extents.size());
  return !(across && isDenseAlong(address, *across)) &&
         !(along && isDenseAlong(address, *along)) && (across || along);
}

bool dlc::hasAttentionNest(const AttentionSpec &spec, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = std::string("nest: ") + why;
    return false;
  };
  for (StageOp stage : {spec.scores, spec.maximum, spec.sum, spec.output})
    if (!stage.getElementType().isF32())
      return refuse("a fold is not of float32");
  if (!spec.score.getType().isF32())
    return refuse("scores are not float32");
  auto exp = spec.exponential.getDefiningOp<graph::ApplyOp>();
  if (!exp || exp.getFn() != graph::ScalarFn::exp || !exp.getType().isF32())
    return refuse("the exponential is rounded");
  if (spec.keys.size() != 1)
    return refuse("keys are not one axis");
  if (spec.inner.empty() || spec.columns.empty())
    return refuse("a head of one element");
  if (!graph::constantValue(spec.extentOf(spec.inner)) ||
      !graph::constantValue(spec.extentOf(spec.columns)))
    return refuse("the head's size is not static");
  return true;
}

Value dlc::widenedFrom(Value value) {
  auto cast = throughStages(value).getDefiningOp<graph::CastOp>();
  if (!cast || !cast.getType().isF32())
    return {};
  Type type = cast.getValue().getType();
  return type.isF16() || type.isBF16() ? cast.getValue() : Value();
}

/// Queries, keys and values are all of one 16-bit type.
static bool hasNarrowFactors(const AttentionSpec &spec) {
  Value query = widenedFrom(spec.query.value);
  return query &&
         llvm::all_of(ArrayRef<Value>{spec.key.value, spec.value.value},
                      [&](Value value) {
                        Value narrow = widenedFrom(value);
                        return narrow && narrow.getType() == query.getType();
                      });
}

NestChoice dlc::bestNest(graph::KernelOp kernel) {
  NestChoice choice;
  if (kernel.getOpaque()) {
    choice.nest = "opaque";
    choice.reason = "an operator without expression";
    return choice;
  }
  std::string why;
  auto attention = classifyAttention(kernel, why);
  if (succeeded(attention) && hasAttentionNest(*attention, why)) {
    choice.nest = "attention";
    choice.isOnePass = !attention->weightRounding;
    choice.mayRoundWeights = hasNarrowFactors(*attention);
    return choice;
  }
  if (auto spec = classifyContraction(kernel, choice.reason); succeeded(spec)) {
    choice.nest = "contraction";
    choice.sharesScales = spec->scale.has_value();
    return choice;
  }
  choice.nest = "map";
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() != graph::FoldKind::none)
      choice.nest = "row";
    choice.losesContraction |= isContraction(stage);
    stage.getBlock()->walk([&](graph::LoadOp load) {
      choice.stridedLoads += isStrided(load, stage);
    });
  }
  choice.plan = planRows(kernel);
  choice.mergesMoments =
      llvm::any_of(findMoments(kernel, choice.plan), isFarRow);
  return choice;
}
