#include "dlc/Dialect/Graph/IR/Folds.h"

using namespace dlc::graph;

std::optional<ScalarFn> dlc::graph::combinerOf(FoldKind kind) {
  switch (kind) {
  case FoldKind::add:
    return ScalarFn::add;
  case FoldKind::mul:
    return ScalarFn::mul;
  case FoldKind::max:
    return ScalarFn::max;
  case FoldKind::min:
    return ScalarFn::min;
  case FoldKind::bit_and:
    return ScalarFn::bit_and;
  case FoldKind::bit_or:
    return ScalarFn::bit_or;
  default:
    return std::nullopt;
  }
}

bool dlc::graph::isIdempotent(FoldKind kind) {
  return combinerOf(kind) && kind != FoldKind::add && kind != FoldKind::mul;
}
