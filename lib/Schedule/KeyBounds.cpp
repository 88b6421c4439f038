// Causal frontiers, windows and lengths as bounds of a block's keys.
#include "dlc/Schedule/KeyBounds.h"

#include <cmath>

using namespace mlir;
using namespace dlc;

/// exp of this and less is zero beside any row's largest weight, which is 1.
static constexpr double negligible = -104;
/// Below this, a score that is added to a fill does not count beside it.
static constexpr double absorbing = -1e30;

std::optional<int64_t> dlc::constantCoefficient(AffineExpr expr,
                                                unsigned axis) {
  auto coefficient = linearCoefficient(expr, axis);
  return coefficient ? graph::constantValue(*coefficient) : std::nullopt;
}

bool dlc::boundsKeys(const AttentionSpec &spec, const KeyCut &cut,
                     ArrayRef<unsigned> rows, bool weighsOnce) {
  auto key = constantCoefficient(cut.kept, spec.keys.front());
  if (!key || (*key != 1 && *key != -1))
    return false;
  for (unsigned axis : rows)
    if (!constantCoefficient(cut.kept, axis))
      return false;
  bool isExact = std::isinf(cut.fill);
  if (isExact)
    return true;
  if (weighsOnce) // nothing may come afterwards
    return false;
  return cut.replaces || cut.fill <= absorbing;
}

std::optional<double> dlc::leastMaximum(const AttentionSpec &spec,
                                        ArrayRef<unsigned> rows,
                                        bool weighsOnce) {
  std::optional<double> least;
  for (const KeyCut &cut : spec.cuts) {
    if (!boundsKeys(spec, cut, rows, weighsOnce) || std::isinf(cut.fill))
      continue;
    double bound = cut.replaces ? cut.fill - negligible : cut.fill / 2;
    least = least ? std::max(*least, bound) : bound;
  }
  return least;
}
