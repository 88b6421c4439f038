// distribute(add): terms are read from the kernel's inlined expressions at step
// b K + r of the last axis; a factor in which r does not occur is shared.
#include "Distribute.h"

#include "FoldForm.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class DistributeForm : FoldForm {
public:
  explicit DistributeForm(KernelOp kernel)
      : FoldForm(kernel, "distribute(add)") {}

  Admission check() {
    return conclude([&] {
      readFolds([](StageOp) { return true; });
      for (unsigned fold = 0; fold < folds.size(); ++fold)
        if (hasSharedFactor(fold))
          return true;
      return refuse("no sum of products whose terms share a factor");
    });
  }

private:
  bool hasSharedFactor(unsigned fold);
  bool hasSharedFactor(unsigned fold, int64_t run);

  static constexpr unsigned kInside = 2; ///< the level of r
};
} // namespace

// A factor that runs of b share is shared by runs of any divisor of b, so runs
// of the primes in the axis' extent are enough.
bool DistributeForm::hasSharedFactor(unsigned fold) {
  Type type = folds[fold].getElementType();
  if (folds[fold].getFoldKind() != FoldKind::add ||
      !(type.isF32() || type.isF64()) || extents[fold].empty())
    return false;
  auto extent = index.constantValue(extents[fold].back());
  if (!extent)
    return false;
  int64_t rest = *extent;
  for (int64_t prime = 2; rest > 1; ++prime) {
    if (prime * prime > rest)
      prime = rest;
    if (rest % prime != 0)
      continue;
    if (hasSharedFactor(fold, prime))
      return true;
    while (rest % prime == 0)
      rest /= prime;
  }
  return false;
}

bool DistributeForm::hasSharedFactor(unsigned fold, int64_t run) {
  Place place = placeOf(fold);
  unsigned last = place.keys.size() - 1;
  PolyId runs =
      index.constant(*index.constantValue(extents[fold].back()) / run);
  SmallVector<PolyId> sizes(extents[fold]);
  sizes.back() = runs;
  sizes.push_back(index.constant(run));
  place.keys.back() = index.add(index.scale(index.axis(1, last, runs), run),
                                index.axis(kInside, 0, sizes.back()));
  NodeId term = bodyAt(fold, place.at, place.keys,
                       index.withExtents(place.context, sizes));
  Type type = folds[fold].getElementType();
  SmallVector<NodeId> work{term};
  while (!work.empty()) {
    NodeId node = work.pop_back_val();
    auto left = argument(node, ScalarFn::mul, 0);
    if (!left || exprs.get(node).type != type)
      continue; // no product, or one that is rounded further
    for (NodeId factor : {*left, *argument(node, ScalarFn::mul, 1)}) {
      if (!varies(factor, kInside))
        return true;
      work.push_back(factor);
    }
  }
  return false;
}

Admission check::admitDistributeAdd(KernelOp kernel, NumericsMode mode) {
  if (mode == NumericsMode::strict)
    return {false, "distribute(add): -fp=strict rounds each product"};
  return DistributeForm(kernel).check();
}
