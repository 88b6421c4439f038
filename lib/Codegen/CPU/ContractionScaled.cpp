// Tiles of weights with scales: numbers that share a scale are multiplied and
// summed first, and their sum is multiplied by it (the law distribute(add)),
// which saves a multiplication an element. Sums of a run of steps start anew,
// so that runs overlap; where a tile has few, even and odd steps (or more
// parts) are summed apart, since each sum waits for the one before.
#include "ContractionScaled.h"

#include "ContractionTileBody.h"
#include "dlc/Schedule/Schedule.h"

using namespace mlir;
using namespace dlc;

/// Steps of a run that are written out.
static constexpr int64_t kMostSteps = 32;

/// Into how many parts the sums of a tile of so many are cut: a multiply-add
/// takes as long as eight of them can be begun.
static unsigned partsOf(unsigned sums) {
  constexpr unsigned latency = 8;
  return std::max(1u, latency / std::max(1u, sums));
}

bool dlc::canScaleSums(const ContractionSpec &spec,
                       const ContractionSchedule &s, const CpuTarget &target) {
  if (!spec.scale || !ComputedFactor::isInTiles(spec, s) || !s.fma ||
      s.depthPerPass || s.lhs == FactorSource::Indirect ||
      !hasLaw(spec.kernel, graph::Law::distributeAdd()))
    return false;
  // Of bytes memory decides, not what is computed.
  if (llvm::none_of(spec.rhsLoads, [&](const ContractionOperand &load) {
        return ComputedFactor::isHalved(spec, load);
      }))
    return false;
  // Whole turns of the loop, which are whole words of numbers and whole blocks
  // of lhs.
  int64_t block = s.lhs == FactorSource::Memory ? 1 : s.kBlock;
  auto depth = graph::constantValue(spec.extentOf(spec.inner));
  int64_t turn = std::min(spec.scale->steps, kMostSteps);
  if (!depth || *depth % spec.scale->steps || spec.scale->steps % turn ||
      turn % s.unroll || turn % block)
    return false;
  unsigned rows = s.tileRows;
  if (auto all = graph::constantValue(spec.extentOf(spec.rows)))
    rows = std::clamp<int64_t>(*all, 1, rows);
  // Sums, their parts, a vector of numbers and of what is made of it, tables.
  unsigned sums = rows * s.tileVectors;
  return sums * (1 + partsOf(sums)) + 2 * s.tileVectors + 2 <=
         target.desc().vectorRegisters;
}

TileBody::Accumulators TileBody::scaledSteps(Value lhsOffset,
                                             Accumulators sums) {
  const SharedScale &scale = *p.computed->spec.scale;
  int64_t turn = std::min(scale.steps, kMostSteps);
  unsigned numSums = sums.size(), parts = partsOf(numSums);
  bool isOneTurn = turn == scale.steps;
  auto distance = [&](Value k) {
    Value block = index.constant(p.kBlock);
    return index.add(index.mul(index.div(k, block), p.lhsBlock),
                     index.rem(k, block));
  };
  // Sums of part 0, then those of part 1, and so on.
  auto turnAt = [&](Value k, Accumulators in) {
    Value left = index.add(lhsOffset, distance(k));
    for (int64_t plus = 0; plus < turn; ++plus) {
      SmallVector<Value> right;
      for (unsigned v = 0; v < shape.vectors; ++v)
        right.push_back(computeRhs(scale.number, k, plus, turn, v));
      auto *part = in.begin() + plus % parts * numSums;
      Accumulators next =
          multiply(index.add(left, distance(index.constant(plus))), right,
                   Accumulators(part, part + numSums));
      std::copy(next.begin(), next.end(), part);
    }
    return in;
  };
  return loop(index.constant(0), pass.depth, scale.steps, std::move(sums),
              [&](Value k, Accumulators in) {
                Accumulators run(parts * numSums,
                                 isOneTurn ? Value()
                                           : zeroVector(type.getElementType()));
                run = loop(
                    index.constant(0), index.constant(scale.steps), turn,
                    std::move(run), [&](Value inside, Accumulators inRun) {
                      return turnAt(index.add(k, inside), std::move(inRun));
                    });
                for (unsigned v = 0; v < shape.vectors; ++v) {
                  Value factor = computeRhs(scale.scale, k, 0, scale.steps, v);
                  for (unsigned r = 0; r < shape.rows; ++r) {
                    unsigned sum = r * shape.vectors + v;
                    Value total = run[sum];
                    for (unsigned part = 1; part < parts; ++part)
                      total = arith::AddFOp::create(b, loc, total,
                                                    run[part * numSums + sum]);
                    in[sum] = multiplyAdd(total, factor, in[sum]);
                  }
                }
                return in;
              });
}
