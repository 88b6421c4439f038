// Regions: tensors that are read and written at the same points want one
// layout. A region is relaid when a convolution reads and writes in it.
#include "Regions.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/EquivalenceClasses.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::KernelOp;
using graph::StageOp;

namespace {
class Chooser {
public:
  // `copies`: at boundaries.
  Chooser(ModuleOp module, const LayoutOptions &options,
          ArrayRef<graph::CallOp> copies = {})
      : symbols(module), options(options) {
    for (graph::CallOp copy : copies)
      copied.insert(copy.getArgs()[0]);
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](graph::CallOp call) { calls.push_back(call); });
    for (graph::CallOp call : calls) {
      auto kernel = symbols.lookup<KernelOp>(call.getCallee());
      if (kernel && !kernel.getOpaque() && !facts.contains(kernel))
        facts[kernel] = analyze(kernel);
    }
    findCandidates();
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
  bool hasShortRows(const ConvLoad &conv) const;
  bool hasConstantWeights(graph::CallOp call, const ConvLoad &conv) const;
  bool readsEither(graph::CallOp call, const ConvLoad &conv) const;
  bool canCopy(const Boundary &boundary) const;
  bool isWorthCopying(const Boundary &boundary, const ConvLoad &conv) const;
  bool endsWithPooling(const Boundary &boundary) const;
  std::optional<Boundary> findBoundary(graph::CallOp call) const;
  bool pays(graph::CallOp call, const ConvLoad &conv) const;

  SymbolTable symbols;
  const LayoutOptions &options;
  SmallVector<graph::CallOp> calls;
  llvm::DenseMap<Operation *, KernelFacts> facts;
  llvm::DenseSet<Value> candidates, copied;
  llvm::EquivalenceClasses<void *> regions;
};
} // namespace

// Whether an image has more than a pixel, or may have.
static bool hasPixels(Type type) {
  SmallVector<AffineExpr> dims = graph::getDims(type);
  return llvm::any_of(ArrayRef(dims).drop_front(2), [](AffineExpr size) {
    return graph::constantValue(size) != 1;
  });
}

bool layout::isNarrow(Type type, unsigned lanes) {
  auto channels = graph::constantValue(graph::getDims(type)[1]);
  return channels && *channels < int64_t(lanes) && hasPixels(type);
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

// Whether vectors along the rows of an image would be half empty or more: then
// a depthwise convolution too wants its channels innermost.
bool Chooser::hasShortRows(const ConvLoad &conv) const {
  graph::StageOp sum = conv.sum;
  auto width = graph::constantValue(sum.getDomainDims().back());
  return width && *width * 2 <= int64_t(options.lanes);
}

bool Chooser::hasConstantWeights(graph::CallOp call,
                                 const ConvLoad &conv) const {
  auto image = cast<RankedTensorType>(call.getArgs()[conv.operand].getType());
  return conv.hasPixels && (!conv.channelAxes.empty() || hasShortRows(conv)) &&
         conv.isInPlace && readsRows(image.getElementType(), options) &&
         llvm::all_of(conv.weights, [&](unsigned weight) {
           return graph::getViewed(call.getArgs()[weight])
                      .getDefiningOp<graph::ConstantOp>() != nullptr;
         });
}

// Whether its sum reads an image as well with its channels first
// (docs/codegen-cpu.md): of one tap, step 1, they are a matrix's columns and
// not its rows; of more taps tiles must divide the rows of pixels, and those be
// longer than a tile, which would pass over taps beside the image.
bool Chooser::readsEither(graph::CallOp call, const ConvLoad &conv) const {
  graph::StageOp sum = conv.sum;
  Type image = call.getArgs()[conv.operand].getType();
  unsigned wide = llvm::count_if(sum.getReduceDims(), [](AffineExpr size) {
    return graph::constantValue(size) != 1;
  });
  if (conv.channelAxes.size() != 1 || isNarrow(image, options.lanes))
    return false;
  ArrayRef<AffineExpr> pixels = ArrayRef(sum.getDomainDims()).drop_front(2);
  if (wide == 1)
    return pixels == ArrayRef(graph::getDims(image)).drop_front(2);
  constexpr int64_t leastTile = 7, mostTile = 14;
  auto width = graph::constantValue(pixels.back());
  bool isDivided = false;
  for (int64_t tile = leastTile; width && tile <= mostTile; ++tile)
    isDivided |= *width % tile == 0;
  return !options.filters && options.lanes >= 16 && isDivided &&
         *width >= 2 * mostTile;
}

bool Chooser::pays(graph::CallOp call, const ConvLoad &conv) const {
  return hasConstantWeights(call, conv) &&
         (candidates.contains(call.getArgs()[conv.operand]) ||
          (copied.contains(call.getResult(conv.result)) &&
           readsEither(call, conv))) &&
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

// Whether its operand and result can be had in another layout by copies.
bool Chooser::canCopy(const Boundary &boundary) const {
  graph::CallOp call = boundary.call;
  auto isImage = [&](Value value) {
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
  return (!boundary.copiesOperand || isImage(image)) &&
         (!boundary.copiesResult || (isImage(result) && over == 1)) &&
         llvm::count(call.getArgs(), image) == 1 &&
         !factsOf(call)->fixedOperands.contains(boundary.operand) &&
         !factsOf(call)->fixedResults.contains(boundary.result);
}

// Pooling that reads its channels innermost and writes them outermost walks one
// of the two by strides; a copy of the small result does so once an element.
bool Chooser::endsWithPooling(const Boundary &boundary) const {
  graph::CallOp call = boundary.call;
  return boundary.copiesResult && !boundary.copiesOperand &&
         hasPixels(call->getResult(boundary.result).getType()) &&
         canCopy(boundary);
}

bool Chooser::isWorthCopying(const Boundary &boundary,
                             const ConvLoad &conv) const {
  if (!canCopy(boundary))
    return false;
  graph::CallOp call = boundary.call;
  Value image = call.getArgs()[boundary.operand];
  OpResult result = call->getResult(boundary.result);
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
  // Of a depthwise one it saves most: a fold of few steps over few lanes.
  double saved = conv.channelAxes.empty() ? 16 : 1;
  return saved * countElements(sum.getDomainDims()) *
             countElements(sum.getReduceDims()) >=
         workPerElement * copied;
}

std::optional<Boundary> Chooser::findBoundary(graph::CallOp call) const {
  auto makeBoundary = [&](unsigned operand, unsigned result) {
    return Boundary{call, operand, result,
                    !candidates.contains(call.getArgs()[operand]),
                    !candidates.contains(call.getResult(result))};
  };
  for (auto [operand, result] : factsOf(call)->windows)
    if (Boundary boundary = makeBoundary(operand, result);
        endsWithPooling(boundary))
      return boundary;
  for (const ConvLoad &conv : factsOf(call)->convs) {
    Boundary boundary = makeBoundary(conv.operand, conv.result);
    boundary.copiesOperand &=
        !(boundary.copiesResult && readsEither(call, conv));
    if ((boundary.copiesOperand || boundary.copiesResult) &&
        hasConstantWeights(call, conv) && isWorthCopying(boundary, conv))
      return boundary;
  }
  return std::nullopt;
}

SmallVector<Boundary> Chooser::boundaries() {
  SmallVector<Boundary> found;
  for (graph::CallOp call : calls)
    if (!keeps(call))
      if (std::optional<Boundary> boundary = findBoundary(call))
        found.push_back(*boundary);
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
        if (pays(call, conv)) {
          paying.insert(regions.getLeaderValue(
              call.getResult(conv.result).getAsOpaquePointer()));
          // What it reads too where no convolution writes it: an image that
          // is resized on its way.
          Value image = call.getArgs()[conv.operand];
          auto producer = image.getDefiningOp<graph::CallOp>();
          if (candidates.contains(image) && hasPixels(image.getType()) &&
              factsOf(producer)->convs.empty())
            paying.insert(regions.getLeaderValue(image.getAsOpaquePointer()));
        }
  llvm::DenseSet<Value> chosen;
  for (Value value : candidates)
    if (paying.contains(regions.getLeaderValue(value.getAsOpaquePointer())))
      chosen.insert(value);
  return chosen;
}

llvm::DenseSet<Value> layout::chooseTensors(ModuleOp module,
                                            const LayoutOptions &options) {
  Chooser chooser(module, options);
  SmallVector<Boundary> boundaries = chooser.boundaries();
  if (boundaries.empty())
    return chooser.choose();
  SmallVector<graph::CallOp> copies = insertCopies(module, boundaries);
  llvm::DenseSet<Value> chosen = Chooser(module, options, copies).choose();
  for (graph::CallOp copy : copies) {
    Value from = copy.getArgs()[0], to = copy.getResult(0);
    if (chosen.contains(from) != chosen.contains(to))
      continue;
    chosen.erase(to);
    to.replaceAllUsesWith(from);
    SymbolTable::lookupNearestSymbolFrom(copy, copy.getCalleeAttr())->erase();
    copy.erase();
  }
  return chosen;
}
