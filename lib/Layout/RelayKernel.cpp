// A kernel with renamed axes: domains and block arguments permuted, the indices
// of every load too.
#include "Regions.h"

#include "dlc/Dialect/Graph/IR/Laws.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IntegerSet.h"

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

RankedTensorType layout::permuteType(Type type, ArrayRef<int64_t> permutation) {
  return graph::makeTensorType(
      permute<AffineExpr>(graph::getDims(type), permutation),
      cast<RankedTensorType>(type).getElementType());
}

// Coordinates in the order of the stage's block arguments, those from data
// after them: the form in which kernels are built. `rename` receives the new
// place of each old dim of the map.
static SmallVector<Value> sortCoordinates(OperandRange coords,
                                          SmallVectorImpl<AffineExpr> &rename,
                                          MLIRContext *context) {
  SmallVector<std::pair<unsigned, unsigned>> order;
  for (unsigned i = 0; i < coords.size(); ++i) {
    auto arg = dyn_cast<BlockArgument>(coords[i]);
    order.push_back({arg ? arg.getArgNumber() : ~0u, i});
  }
  llvm::sort(order);
  rename.resize(coords.size());
  SmallVector<Value> sorted;
  for (auto [place, entry] : llvm::enumerate(order)) {
    unsigned i = entry.second;
    rename[i] = getAffineDimExpr(place, context);
    sorted.push_back(coords[i]);
  }
  return sorted;
}

static SmallVector<AffineExpr> symbolsOf(unsigned count, MLIRContext *context) {
  return llvm::map_to_vector(llvm::seq(0u, count), [&](unsigned i) {
    return getAffineSymbolExpr(i, context);
  });
}

static IntegerSet rewrite(IntegerSet set, ArrayRef<AffineExpr> rename) {
  return set.replaceDimsAndSymbols(
      rename, symbolsOf(set.getNumSymbols(), set.getContext()),
      set.getNumDims(), set.getNumSymbols());
}

static AffineMap rewrite(AffineMap map, ArrayRef<AffineExpr> rename,
                         ArrayRef<int64_t> permutation) {
  auto results =
      llvm::map_to_vector(permute<AffineExpr>(map.getResults(), permutation),
                          [&](AffineExpr e) { return e.replaceDims(rename); });
  return AffineMap::get(map.getNumDims(), map.getNumSymbols(), results,
                        map.getContext());
}

// Puts the block's arguments into the order of its new axes.
static void permuteArguments(StageOp stage, ArrayRef<int64_t> domain,
                             ArrayRef<int64_t> reduce) {
  Block *block = stage.getBlock();
  unsigned rank = stage.getDomainRank(), count = block->getNumArguments();
  auto indices = [&](ArrayRef<int64_t> permutation, unsigned from,
                     unsigned to) {
    auto all = llvm::to_vector(llvm::seq<int64_t>(0, to - from));
    return llvm::map_to_vector(permute<int64_t>(all, permutation),
                               [&](int64_t i) { return i + from; });
  };
  SmallVector<int64_t> order = indices(domain, 0, rank);
  llvm::append_range(order, indices(reduce, rank, count));
  for (int64_t old : order) {
    BlockArgument arg = block->getArgument(old);
    BlockArgument added = block->addArgument(arg.getType(), arg.getLoc());
    arg.replaceAllUsesWith(added);
  }
  block->eraseArguments(0, count);
}

// The reduce axes with those last that number the image's channels: in memory
// they are the innermost now.
static Permutation orderReduce(StageOp stage, const KernelFacts &facts,
                               ArrayRef<Permutation> operands) {
  llvm::SmallDenseSet<unsigned> channels;
  for (const ConvLoad &conv : facts.convs)
    if (conv.sum == stage && !operands[conv.operand].empty())
      channels.insert(conv.channelAxes.begin(), conv.channelAxes.end());
  Permutation permutation;
  for (bool wantsChannels : {false, true})
    for (unsigned axis = 0; axis < stage.getReduceRank(); ++axis)
      if (channels.contains(axis) == wantsChannels)
        permutation.push_back(axis);
  return llvm::is_sorted(permutation) ? Permutation() : permutation;
}

KernelOp layout::relayKernel(KernelOp kernel, StringRef name,
                             ArrayRef<TensorLayout> operandLayouts,
                             ArrayRef<TensorLayout> resultLayouts) {
  auto permutations = [](ArrayRef<TensorLayout> layouts) {
    return llvm::map_to_vector(
        layouts, [](const TensorLayout &l) { return l.permutation; });
  };
  SmallVector<Permutation> operands = permutations(operandLayouts),
                           results = permutations(resultLayouts);
  auto copy = cast<KernelOp>(kernel->clone());
  copy.setSymName(name);
  KernelFacts facts = analyze(copy);
  MLIRContext *context = kernel.getContext();
  Builder builder(context);
  llvm::DenseMap<Value, Permutation> relaid; // tensors of the kernel
  // Stages over the domain of a relaid result or operand have its axes; where
  // the two say different things, results decide.
  llvm::DenseMap<Attribute, bool> domains;
  auto decide = [&](Type type, bool isRelaid) {
    domains.insert(
        {graph::DimsAttr::get(context, graph::getDims(type)), isRelaid});
  };
  for (auto [value, permutation] : llvm::zip(copy.getResultValues(), results))
    decide(value.getType(), !permutation.empty());
  SmallVector<Permutation> ofResults, ofDomains, ofReduces;
  for (auto [arg, permutation] :
       llvm::zip(copy.getBody().getArguments(), operands)) {
    if (!permutation.empty() && permutation == channelsLast(permutation.size()))
      decide(arg.getType(), true);
    relaid[arg] = permutation;
    arg.setType(permuteType(arg.getType(), permutation));
  }
  std::set<std::string> laws;
  bool isMoved = false;
  for (StageOp stage : copy.getStages()) {
    Permutation domain, reduce = orderReduce(stage, facts, operands);
    if (domains.lookup(stage.getDomain()))
      domain = channelsLast(stage.getDomainRank());
    isMoved |= !domain.empty();
    if (!reduce.empty())
      laws.insert(
          graph::Law{graph::LawKind::reorder, stage.getFoldKind()}.str());
    permuteArguments(stage, domain, reduce);
    stage.setDomainAttr(graph::DimsAttr::get(
        context, permute<AffineExpr>(stage.getDomainDims(), domain)));
    if (!reduce.empty())
      stage.setReduceAttr(graph::DimsAttr::get(
          context, permute<AffineExpr>(stage.getReduceDims(), reduce)));
    stage.getResult().setType(permuteType(stage.getResult().getType(), domain));
    relaid[stage.getResult()] = domain;
    stage.walk([&](Operation *op) {
      SmallVector<AffineExpr> rename;
      if (auto load = dyn_cast<graph::LoadOp>(op)) {
        auto coords = sortCoordinates(load.getCoords(), rename, context);
        load.setMapAttr(AffineMapAttr::get(
            rewrite(load.getMap(), rename, relaid.lookup(load.getTensor()))));
        if (load.getGuard())
          load.setGuardAttr(
              IntegerSetAttr::get(rewrite(*load.getGuard(), rename)));
        load.getCoordsMutable().assign(coords);
      } else if (auto coord = dyn_cast<graph::CoordOp>(op)) {
        auto coords = sortCoordinates(coord.getCoords(), rename, context);
        coord.setMapAttr(
            AffineMapAttr::get(rewrite(coord.getMap(), rename, {})));
        coord.getCoordsMutable().assign(coords);
      } else if (auto inside = dyn_cast<graph::InsideOp>(op)) {
        auto coords = sortCoordinates(inside.getCoords(), rename, context);
        inside.setSetAttr(
            IntegerSetAttr::get(rewrite(inside.getSet(), rename)));
        inside.getCoordsMutable().assign(coords);
      }
    });
    ofDomains.push_back(domain);
    ofReduces.push_back(reduce);
  }
  for (Value value : copy.getResultValues())
    ofResults.push_back(relaid.lookup(value));
  auto wides = [](ArrayRef<TensorLayout> layouts) {
    return llvm::map_to_vector(layouts,
                               [](const TensorLayout &l) { return l.isWide; });
  };
  widenKernel(copy, wides(operandLayouts), wides(resultLayouts));
  copy.setFunctionType(
      builder.getFunctionType(copy.getBody().getArgumentTypes(),
                              TypeRange(ValueRange(copy.getResultValues()))));
  // Rows of the first axis are rows in every layout.
  if (isMoved && copy.getRows() && *copy.getRows() > 1)
    copy.setRows(1);
  auto list = [&](ArrayRef<Permutation> permutations) -> Attribute {
    return builder.getArrayAttr(
        llvm::map_to_vector(permutations, [&](const Permutation &p) {
          return Attribute(builder.getDenseI64ArrayAttr(p));
        }));
  };
  auto named = [&](StringRef key, Attribute value) {
    return builder.getNamedAttr(key, value);
  };
  SmallVector<Attribute> lawNames;
  for (const std::string &law : laws)
    lawNames.push_back(builder.getStringAttr(law));
  SmallVector<NamedAttribute> claim{
      named("of", builder.getStringAttr(kernel.getSymName())),
      named("operands", list(operands)),
      named("results", list(ofResults)),
      named("domains", list(ofDomains)),
      named("reduces", list(ofReduces)),
      named("laws", builder.getArrayAttr(lawNames))};
  auto addWide = [&](StringRef key, ArrayRef<TensorLayout> layouts) {
    SmallVector<int64_t> numbers;
    for (auto [i, layout] : llvm::enumerate(layouts))
      if (layout.isWide)
        numbers.push_back(i);
    if (!numbers.empty())
      claim.push_back(named(key, builder.getDenseI64ArrayAttr(numbers)));
  };
  addWide("wideOperands", operandLayouts);
  addWide("wideResults", resultLayouts);
  copy->setAttr(kClaim, builder.getDictionaryAttr(claim));
  return copy;
}
