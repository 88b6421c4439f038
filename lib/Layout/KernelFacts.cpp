// What a kernel says of the layouts of its operands and results, read from its
// index maps.
#include "Regions.h"

#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/NarrowNumbers.h"
#include "dlc/Schedule/ShortRuns.h"
#include "dlc/Schedule/StageAxes.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::KernelOp;
using graph::StageOp;

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
      ConvLoad conv{sum, 0,     0,    {weights.begin(), weights.end()},
                    {},  false, false};
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

// Whether an image's channels are read in runs that are parts of a vector: the
// loop nest that takes such small groups reads weights as they lie.
static bool isInShortRuns(const ConvLoad &conv) {
  bool found = false;
  StageOp sum = conv.sum;
  Value image =
      sum->getParentOfType<KernelOp>().getBody().getArgument(conv.operand);
  sum.walk([&](graph::LoadOp load) {
    if (load.getTensor() != image)
      return;
    auto axes = axesOf(load);
    if (!axes)
      return;
    AffineExpr channel = load.getMap().getResult(1).replaceDims(*axes);
    found |= findShortRun(IndexPoly::get(channel), 1).has_value();
  });
  return found;
}

static Type elementOf(Type tensor) {
  return cast<RankedTensorType>(tensor).getElementType();
}

// Whether a sum reads the pixels of an image where they lie: floats as they
// are, or widened, bytes in whole groups of channels.
static bool isReadInPlace(const ConvLoad &conv, Type image) {
  constexpr int64_t group = 4; // of all dot products of bytes
  Type element = elementOf(image);
  StageOp sum = conv.sum;
  if (!isByte(element))
    return element.isF32() || element.isF16() || element.isBF16();
  if (conv.channelAxes.empty() || !sum.getElementType().isInteger(32))
    return false;
  auto sizes = llvm::map_to_vector(conv.channelAxes, [&](unsigned axis) {
    return sum.getReduceDims()[axis];
  });
  auto channels =
      graph::constantValue(graph::product(image.getContext(), sizes));
  return channels && *channels % group == 0;
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
    bool hasTables = false;
    if (stage.getFoldKind() == graph::FoldKind::add) {
      size_t before = facts.convs.size();
      findConvolutions(stage, results, facts.convs);
      for (ConvLoad &conv : MutableArrayRef(facts.convs).drop_front(before)) {
        Type image = kernel.getArgumentTypes()[conv.operand];
        conv.isInPlace = isReadInPlace(conv, image);
        // Also where the image is read through stages of its own size.
        facts.links.push_back({conv.operand, conv.result});
        if (conv.channelAxes.empty())
          continue;
        isPacked = true;
        hasTables |= isInShortRuns(conv);
        // Other bytes are put into groups of k: runs of pixels go a vector at a
        // time, channels of a pixel would one by one.
        if (!conv.isInPlace && isa<IntegerType>(elementOf(image)))
          facts.fixedOperands.insert(conv.operand);
      }
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
    if (!isPacked || hasTables)
      findTables(kernel, stage, results, facts);
    bool isWindow =
        !isPacked && llvm::any_of(stage.getReduceDims(), [](AffineExpr size) {
          return graph::constantValue(size) != 1;
        });
    stage.walk([&](graph::LoadOp load) {
      auto arg = dyn_cast<BlockArgument>(load.getTensor());
      if (!arg)
        return;
      if (!isPointwise(load, stage)) {
        facts.fixedOperands.insert(arg.getArgNumber());
        return;
      }
      if (load.getMap().getNumResults() == stage.getDomainRank())
        for (unsigned result : results) {
          facts.links.push_back({arg.getArgNumber(), result});
          if (isWindow)
            facts.windows.push_back({arg.getArgNumber(), result});
        }
    });
  }
  return facts;
}
