// C-ROW and C-BOUNDS, stage by stage, in the coordinates of the stage itself.
#include "Rows.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
// The point at which a stage's body is looked at: its own axes.
struct StagePoint {
  SmallVector<PolyId> extents, axes;
  ContextId context;

  StagePoint(StageOp stage, uint32_t environment, Inliner &inliner,
             IndexArena &index) {
    ArrayRef<PolyId> symbols = inliner.getEnvironment(environment).symbols;
    extents = inliner.sizes(stage.getDomainDims(), symbols);
    size_t rank = extents.size();
    extents.append(inliner.sizes(stage.getReduceDims(), symbols));
    for (auto [i, extent] : llvm::enumerate(extents))
      axes.push_back(i < rank ? index.axis(0, i, extent)
                              : index.axis(1, i - rank, extent));
    context = index.withExtents(index.emptyContext(), extents);
  }
};

// One load of a stage: where it reads, and what holds there.
struct Read {
  ContextId context;
  SmallVector<PolyId> coords;
};
} // namespace

static std::optional<Read> readOf(LoadOp load, const Inliner::Frame &frame,
                                  ContextId context, Inliner &inliner,
                                  IndexArena &index) {
  if (load.getGuard()) {
    std::optional<Guard> guard =
        inliner.guard(*load.getGuard(), load.getCoords(), frame, context);
    if (!guard)
      return std::nullopt; // never read
    context = index.assume(context, *guard);
  }
  return Read{context, inliner.coordinates(load.getMap(), load.getCoords(),
                                           frame, context)};
}

static std::vector<uint64_t> keyOf(uint32_t leaf, const Read &read) {
  std::vector<uint64_t> key = {leaf, read.context};
  key.insert(key.end(), read.coords.begin(), read.coords.end());
  return key;
}

// 0 <= coordinate and coordinate <= size - 1, for every coordinate.
static SmallVector<PolyId> boundsOf(const Read &read, ArrayRef<PolyId> dims,
                                    IndexArena &index) {
  SmallVector<PolyId> bounds;
  for (auto [coord, size] : llvm::zip(read.coords, dims)) {
    bounds.push_back(coord);
    bounds.push_back(index.sub(index.sub(size, coord), index.constant(1)));
  }
  return bounds;
}

void check::collectReads(KernelOp kernel, uint32_t environment,
                         Inliner &inliner, IndexArena &index,
                         KnownReads &reads) {
  for (StageOp stage : kernel.getStages()) {
    StagePoint point(stage, environment, inliner, index);
    const Inliner::Frame &frame =
        inliner.frame(environment, stage, point.axes, 1);
    for (auto load : stage.getBlock()->getOps<LoadOp>()) {
      TensorId id =
          inliner.getEnvironment(environment).tensors.lookup(load.getTensor());
      const TensorSource &source = inliner.getTensor(id);
      auto read = readOf(load, frame, point.context, inliner, index);
      if (!read)
        continue;
      if (source.kind == TensorSource::Leaf)
        reads.loads.insert(keyOf(source.number, *read));
      if (load.getGuard())
        continue;
      for (PolyId bound : boundsOf(*read, source.dims, index))
        if (!index.isNonNegative(bound, point.context))
          if (auto least = index.atLeastPoint(bound, point.context))
            reads.facts.push_back({point.extents, *least});
    }
  }
}

// The context with what the sizes must be for the original's reads.
static ContextId withFacts(ContextId context, const KnownReads &known,
                           IndexArena &index) {
  Guard facts;
  for (const KnownReads::Fact &fact : known.facts)
    if (llvm::all_of(fact.extents, [&](PolyId extent) {
          return index.isNonNegative(index.sub(extent, index.constant(1)),
                                     context);
        }))
      facts.push_back(index.normalize({fact.holds, /*isEquality=*/false}));
  return index.assume(context, facts);
}

RowsVerdict
check::checkRows(KernelOp kernel, unsigned rows, uint32_t environment,
                 Inliner &inliner, IndexArena &index, Prover &prover,
                 llvm::function_ref<const KnownReads &()> knownReads) {
  RowsVerdict verdict;
  auto refuse = [&](Condition condition, std::string reason,
                    const Witness &witness = {}) {
    verdict.refusal =
        Refusal{condition, std::move(reason), prover.str(witness)};
    return verdict;
  };
  for (auto [number, stage] : llvm::enumerate(kernel.getStages())) {
    std::string where = "stage " + std::to_string(number);
    StagePoint point(stage, environment, inliner, index);
    const Inliner::Frame &frame =
        inliner.frame(environment, stage, point.axes, 1);
    for (auto load : stage.getBlock()->getOps<LoadOp>()) {
      TensorId id =
          inliner.getEnvironment(environment).tensors.lookup(load.getTensor());
      const TensorSource &source = inliner.getTensor(id);
      std::optional<Read> read =
          readOf(load, frame, point.context, inliner, index);
      if (!read)
        continue;
      bool isStage = source.kind == TensorSource::Stage;
      verdict.readsStages |= isStage;
      auto describe = [&](unsigned axis) {
        return where + " reads " +
               (isStage ? "an earlier stage"
                        : "operand " + std::to_string(source.number)) +
               " at coordinate " + std::to_string(axis) + " = " +
               index.str(read->coords[axis]);
      };
      for (unsigned i = 0; isStage && i < rows; ++i) {
        Witness witness;
        if (prover.proveEqual(read->coords[i], point.axes[i], read->context,
                              witness) != Answer::Proved)
          return refuse(Condition::Row,
                        describe(i) + ", which is not the row it computes",
                        witness);
      }
      SmallVector<PolyId> bounds = boundsOf(*read, source.dims, index);
      for (auto [i, bound] : llvm::enumerate(bounds)) {
        if (index.isNonNegative(bound, read->context))
          continue;
        const KnownReads &known = knownReads();
        if (source.kind == TensorSource::Leaf &&
            known.loads.count(keyOf(source.number, *read)))
          break;
        Witness witness;
        if (prover.proveNonNegative(bound,
                                    withFacts(read->context, known, index),
                                    witness) == Answer::Proved)
          continue;
        return refuse(Condition::Bounds,
                      describe(i / 2) + ", not shown to be inside its " +
                          index.str(source.dims[i / 2]),
                      witness);
      }
    }
  }
  return verdict;
}
