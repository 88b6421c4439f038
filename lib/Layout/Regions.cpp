// Regions: tensors that are read and written at the same points want one
// layout. A region is relaid when a convolution reads and writes in it.
#include "Regions.h"

#include "dlc/Schedule/ContractionSpec.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/EquivalenceClasses.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::KernelOp;
using graph::StageOp;

Permutation layout::channelsLast(unsigned rank) {
  Permutation permutation{0};
  for (unsigned axis = 2; axis < rank; ++axis)
    permutation.push_back(axis);
  permutation.push_back(1);
  return permutation;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

// Stage coordinates (domain, then reduce axes) that index `i` of a load depends
// on; nothing when it depends on data.
static std::optional<llvm::SmallDenseSet<unsigned>>
coordinatesOf(graph::LoadOp load, unsigned i) {
  llvm::SmallDenseSet<unsigned> found;
  bool hasData = false;
  load.getMap().getResult(i).walk([&](AffineExpr e) {
    auto dim = dyn_cast<AffineDimExpr>(e);
    if (!dim)
      return;
    auto arg = dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()]);
    hasData |= !arg;
    if (arg)
      found.insert(arg.getArgNumber());
  });
  if (hasData)
    return std::nullopt;
  return found;
}

// Whether axis i of the tensor is read at domain coordinate i, if at any: with
// axes renamed alike on both sides, runs of memory stay runs.
static bool isPointwise(graph::LoadOp load, StageOp stage) {
  unsigned rank = load.getMap().getNumResults();
  if (stage.getDomainRank() > rank)
    return false;
  for (unsigned i = 0; i < rank; ++i) {
    auto coordinates = coordinatesOf(load, i);
    if (!coordinates)
      return false;
    for (unsigned c : *coordinates)
      if (c < stage.getDomainRank() && c != i)
        return false;
  }
  return true;
}

// The kernel's operands that `value` is computed from, through stages.
static void collectLoads(Value value, SmallVectorImpl<graph::LoadOp> &loads,
                         llvm::SmallDenseSet<Value> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(value).second)
    return;
  if (auto load = dyn_cast<graph::LoadOp>(op))
    loads.push_back(load);
  for (Value operand : op->getOperands())
    collectLoads(operand, loads, seen);
}

static void collectOperands(graph::LoadOp load,
                            llvm::SmallDenseSet<unsigned> &operands) {
  if (auto arg = dyn_cast<BlockArgument>(load.getTensor())) {
    operands.insert(arg.getArgNumber());
    return;
  }
  load.getTensor().getDefiningOp()->walk(
      [&](graph::LoadOp inner) { collectOperands(inner, operands); });
}

// Whether pixels are walked by strides: a transposed convolution's are not, nor
// are those that are resized on the way. Such an image is copied into each
// task's scratch, which runs of pixels make cheap.
static bool isLinear(graph::LoadOp load) {
  bool found = true;
  auto look = [&](AffineExpr expr) {
    expr.walk([&](AffineExpr e) {
      found &= e.getKind() != AffineExprKind::FloorDiv &&
               e.getKind() != AffineExprKind::CeilDiv &&
               e.getKind() != AffineExprKind::Mod;
    });
  };
  for (AffineExpr expr : load.getMap().getResults().drop_front(2))
    look(expr);
  return found;
}

// Reads a load as an image: pixels by the domain's axes, channels by reduce
// axes, or, in a depthwise convolution, by the domain's too.
static bool readImage(graph::LoadOp image, StageOp sum, ConvLoad &conv) {
  unsigned rank = sum.getDomainRank();
  if (image.getMap().getNumResults() != rank || !isPointwise(image, sum) ||
      !isLinear(image))
    return false;
  llvm::SmallDenseSet<unsigned> channels = *coordinatesOf(image, 1);
  for (unsigned c : channels)
    if (c >= rank && graph::constantValue(sum.getReduceDims()[c - rank]) != 1)
      conv.channelAxes.push_back(c - rank);
  conv.hasPixels = false;
  for (unsigned i = 2; i < rank; ++i) {
    bool isWide = graph::constantValue(sum.getDomainDims()[i]) != 1;
    if (isWide && !coordinatesOf(image, i)->contains(i))
      return false;
    conv.hasPixels |= isWide;
  }
  return true;
}

static bool readsPixels(graph::LoadOp load, StageOp sum) {
  for (unsigned i = 0; i < load.getMap().getNumResults(); ++i) {
    auto coordinates = coordinatesOf(load, i);
    if (!coordinates)
      return true;
    for (unsigned c : *coordinates)
      if (c >= 2 && c < sum.getDomainRank())
        return true;
  }
  return false;
}

// The convolutions that `sum` is: one factor is an image, the other weights.
static void findConvolutions(StageOp sum, ArrayRef<unsigned> results,
                             SmallVectorImpl<ConvLoad> &convs) {
  auto product = sum.getYielded().getDefiningOp<graph::ApplyOp>();
  unsigned rank = sum.getDomainRank();
  if (!product || product.getFn() != graph::ScalarFn::mul || rank < 3 ||
      rank > 5)
    return;
  SmallVector<graph::LoadOp> loads[2];
  for (int side : {0, 1}) {
    llvm::SmallDenseSet<Value> seen;
    collectLoads(product.getArgs()[side], loads[side], seen);
  }
  for (int side : {0, 1}) {
    if (loads[1 - side].empty() ||
        llvm::any_of(loads[1 - side], [&](graph::LoadOp load) {
          return readsPixels(load, sum);
        }))
      continue;
    llvm::SmallDenseSet<unsigned> weights;
    for (graph::LoadOp load : loads[1 - side])
      collectOperands(load, weights);
    for (graph::LoadOp load : loads[side]) {
      ConvLoad conv{sum, 0, 0, {weights.begin(), weights.end()}, {}, false};
      if (!readImage(load, sum, conv))
        continue;
      llvm::SmallDenseSet<unsigned> images;
      collectOperands(load, images);
      for (unsigned operand : images)
        for (unsigned result : results) {
          conv.operand = operand;
          conv.result = result;
          convs.push_back(conv);
        }
    }
  }
}

// How a table that `load` reads should lie when the stage's channels are
// innermost; empty when it lies well.
static Permutation tableLayout(graph::LoadOp load) {
  SmallVector<AffineExpr> dims = graph::getDims(load.getTensor().getType());
  unsigned rank = dims.size();
  std::optional<unsigned> channels;
  unsigned last = 0;
  for (unsigned i = 0; i < rank; ++i) {
    auto coordinates = coordinatesOf(load, i);
    if (!coordinates)
      return {};
    if (graph::constantValue(dims[i]) != 1)
      last = i;
    if (!coordinates->contains(1))
      continue;
    if (channels)
      return {};
    channels = i;
  }
  if (!channels || *channels == last)
    return {};
  Permutation permutation;
  for (unsigned i = 0; i < rank; ++i)
    if (i != *channels)
      permutation.push_back(i);
  permutation.push_back(*channels);
  return permutation;
}

// Tables that loops over a stage's domain read.
static void findTables(KernelOp kernel, StageOp stage,
                       ArrayRef<unsigned> results, KernelFacts &facts) {
  if (stage.getDomainRank() < 3 || stage.getDomainRank() > 5 || results.empty())
    return;
  stage.walk([&](graph::LoadOp load) {
    auto arg = dyn_cast<BlockArgument>(load.getTensor());
    if (!arg || !llvm::hasSingleElement(arg.getUses()))
      return;
    Permutation permutation = tableLayout(load);
    if (!permutation.empty())
      facts.tables.push_back({arg.getArgNumber(), results[0], permutation});
  });
}

KernelFacts layout::analyze(KernelOp kernel) {
  KernelFacts facts;
  auto resultsOver = [&](StageOp stage) {
    SmallVector<unsigned> found;
    for (auto [i, value] : llvm::enumerate(kernel.getResultValues()))
      if (value.getDefiningOp<StageOp>().getDomainDims() ==
          stage.getDomainDims())
        found.push_back(i);
    return found;
  };
  for (StageOp stage : kernel.getStages()) {
    SmallVector<unsigned> results = resultsOver(stage);
    bool isPacked = false; // the contraction nest packs constants as it likes
    if (stage.getFoldKind() == graph::FoldKind::add) {
      size_t before = facts.convs.size();
      findConvolutions(stage, results, facts.convs);
      for (const ConvLoad &conv : ArrayRef(facts.convs).drop_front(before))
        isPacked |= !conv.channelAxes.empty();
      // Matrices: rows and columns lie as their own products want them.
      if (facts.convs.size() == before && isContraction(stage)) {
        isPacked = true;
        facts.fixedResults.insert(results.begin(), results.end());
        stage.walk([&](graph::LoadOp load) {
          llvm::SmallDenseSet<unsigned> operands;
          collectOperands(load, operands);
          facts.fixedOperands.insert(operands.begin(), operands.end());
        });
      }
    }
    if (!isPacked)
      findTables(kernel, stage, results, facts);
    stage.walk([&](graph::LoadOp load) {
      auto arg = dyn_cast<BlockArgument>(load.getTensor());
      if (!arg)
        return;
      if (!isPointwise(load, stage)) {
        facts.fixedOperands.insert(arg.getArgNumber());
        return;
      }
      if (load.getMap().getNumResults() == stage.getDomainRank())
        for (unsigned result : results)
          facts.links.push_back({arg.getArgNumber(), result});
    });
  }
  return facts;
}

//===----------------------------------------------------------------------===//
// Regions
//===----------------------------------------------------------------------===//

namespace {
class Chooser {
public:
  Chooser(ModuleOp module, const LayoutOptions &options)
      : symbols(module), options(options) {
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](graph::CallOp call) { calls.push_back(call); });
    for (graph::CallOp call : calls) {
      auto kernel = symbols.lookup<KernelOp>(call.getCallee());
      if (kernel && !kernel.getOpaque() && !facts.contains(kernel))
        facts[kernel] = analyze(kernel);
    }
  }

  llvm::DenseSet<Value> choose();
  SmallVector<Boundary> boundaries();

private:
  // Null for a call of an opaque operator.
  const KernelFacts *factsOf(graph::CallOp call) const {
    auto it = facts.find(symbols.lookup<KernelOp>(call.getCallee()));
    return it == facts.end() ? nullptr : &it->second;
  }
  bool keeps(graph::CallOp call) const {
    return !factsOf(call) || options.keep.count(call.getCallee().str());
  }
  void findCandidates();
  bool isFree(OpResult value) const;
  bool hasConstantWeights(graph::CallOp call, const ConvLoad &conv) const;
  bool isWorthCopying(const Boundary &boundary, const ConvLoad &conv) const;
  bool pays(graph::CallOp call, const ConvLoad &conv) const;

  SymbolTable symbols;
  const LayoutOptions &options;
  SmallVector<graph::CallOp> calls;
  llvm::DenseMap<Operation *, KernelFacts> facts;
  llvm::DenseSet<Value> candidates;
  llvm::EquivalenceClasses<void *> regions;
};
} // namespace

// Whether vectors along the channels of an image would be part empty.
static bool isNarrow(Type type, unsigned lanes) {
  SmallVector<AffineExpr> dims = graph::getDims(type);
  auto channels = graph::constantValue(dims[1]);
  return channels && *channels < int64_t(lanes) &&
         llvm::any_of(
             ArrayRef(dims).drop_front(2),
             [](AffineExpr size) { return graph::constantValue(size) != 1; });
}

// Whether the layout of `value` is the compiler's own affair.
bool Chooser::isFree(OpResult value) const {
  auto call = cast<graph::CallOp>(value.getOwner());
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  if (keeps(call) || rank < 3 || rank > 5 || value.use_empty() ||
      isNarrow(value.getType(), options.lanes) ||
      factsOf(call)->fixedResults.contains(value.getResultNumber()))
    return false;
  return llvm::all_of(value.getUses(), [&](OpOperand &use) {
    auto user = dyn_cast<graph::CallOp>(use.getOwner());
    return user && !keeps(user) &&
           !factsOf(user)->fixedOperands.contains(use.getOperandNumber());
  });
}

bool Chooser::hasConstantWeights(graph::CallOp call,
                                 const ConvLoad &conv) const {
  // Other types are converted into scratch first, in either layout.
  auto isInPlace = [](Value image) {
    return cast<RankedTensorType>(image.getType()).getElementType().isF32();
  };
  return conv.hasPixels && !conv.channelAxes.empty() &&
         isInPlace(call.getArgs()[conv.operand]) &&
         llvm::all_of(conv.weights, [&](unsigned weight) {
           return graph::getViewed(call.getArgs()[weight])
                      .getDefiningOp<graph::ConstantOp>() != nullptr;
         });
}

bool Chooser::pays(graph::CallOp call, const ConvLoad &conv) const {
  return hasConstantWeights(call, conv) &&
         candidates.contains(call.getArgs()[conv.operand]) &&
         candidates.contains(call.getResult(conv.result));
}

// Elements of a tensor, a size that is not known being some typical one.
static double countElements(ArrayRef<AffineExpr> dims) {
  constexpr int64_t typical = 64;
  double count = 1;
  for (AffineExpr size : dims)
    count *= double(graph::constantValue(size).value_or(typical));
  return count;
}

bool Chooser::isWorthCopying(const Boundary &boundary,
                             const ConvLoad &conv) const {
  graph::CallOp call = boundary.call;
  auto canCopy = [&](Value value) {
    auto type = cast<RankedTensorType>(value.getType());
    return type.getRank() >= 3 && type.getRank() <= 5 &&
           !isNarrow(type, options.lanes) &&
           !value.getDefiningOp<graph::ConstantOp>();
  };
  Value image = call.getArgs()[boundary.operand];
  OpResult result = call->getResult(boundary.result);
  unsigned over = llvm::count_if(call->getResults(), [&](OpResult other) {
    return graph::getDims(other.getType()) == graph::getDims(result.getType());
  });
  if ((boundary.copiesOperand && !canCopy(image)) ||
      (boundary.copiesResult && (!canCopy(result) || over != 1)) ||
      llvm::count(call.getArgs(), image) != 1 ||
      factsOf(call)->fixedOperands.contains(boundary.operand) ||
      factsOf(call)->fixedResults.contains(boundary.result))
    return false;
  // A relaid convolution saves about a quarter of its time, and a core does a
  // hundred or so multiply-adds while it copies an element:
  // docs/codegen-cpu.md.
  constexpr double workPerElement = 128;
  double copied = 0;
  if (boundary.copiesOperand)
    copied += countElements(graph::getDims(image.getType()));
  if (boundary.copiesResult)
    copied += countElements(graph::getDims(result.getType()));
  graph::StageOp sum = conv.sum;
  return countElements(sum.getDomainDims()) *
             countElements(sum.getReduceDims()) >=
         workPerElement * copied;
}

SmallVector<Boundary> Chooser::boundaries() {
  findCandidates();
  SmallVector<Boundary> found;
  for (graph::CallOp call : calls) {
    if (keeps(call))
      continue;
    for (const ConvLoad &conv : factsOf(call)->convs) {
      Boundary boundary{call, conv.operand, conv.result,
                        !candidates.contains(call.getArgs()[conv.operand]),
                        !candidates.contains(call.getResult(conv.result))};
      if ((boundary.copiesOperand || boundary.copiesResult) &&
          hasConstantWeights(call, conv) && isWorthCopying(boundary, conv)) {
        found.push_back(boundary);
        break;
      }
    }
  }
  return found;
}

void Chooser::findCandidates() {
  for (graph::CallOp call : calls)
    for (OpResult value : call->getResults()) {
      // Results over one domain are computed in one loop: all or none.
      auto isOver = [&](OpResult other) {
        return graph::getDims(other.getType()) ==
               graph::getDims(value.getType());
      };
      if (llvm::all_of(call->getResults(), [&](OpResult other) {
            return !isOver(other) || isFree(other);
          })) {
        candidates.insert(value);
        for (OpResult other : call->getResults())
          if (isOver(other))
            regions.unionSets(value.getAsOpaquePointer(),
                              other.getAsOpaquePointer());
      }
    }
}

llvm::DenseSet<Value> Chooser::choose() {
  findCandidates();
  for (graph::CallOp call : calls)
    if (const KernelFacts *found = factsOf(call))
      for (auto [operand, result] : found->links)
        if (candidates.contains(call.getArgs()[operand]) &&
            candidates.contains(call.getResult(result)))
          regions.unionSets(call.getArgs()[operand].getAsOpaquePointer(),
                            call.getResult(result).getAsOpaquePointer());
  llvm::DenseSet<void *> paying;
  for (graph::CallOp call : calls)
    if (const KernelFacts *found = factsOf(call))
      for (const ConvLoad &conv : found->convs)
        if (pays(call, conv))
          paying.insert(regions.getLeaderValue(
              call.getResult(conv.result).getAsOpaquePointer()));
  llvm::DenseSet<Value> chosen;
  for (Value value : candidates)
    if (paying.contains(regions.getLeaderValue(value.getAsOpaquePointer())))
      chosen.insert(value);
  return chosen;
}

llvm::DenseSet<Value> layout::chooseTensors(ModuleOp module,
                                            const LayoutOptions &options) {
  return Chooser(module, options).choose();
}

SmallVector<Boundary> layout::findBoundaries(ModuleOp module,
                                             const LayoutOptions &options) {
  return Chooser(module, options).boundaries();
}
