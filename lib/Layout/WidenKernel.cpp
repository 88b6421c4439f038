// Images of 16-bit floats that are stored as float32: the same numbers, which
// convolutions then read where they lie. What is stored is rounded as the model
// says and widened again, in registers.
#include "Regions.h"

#include "mlir/IR/SymbolTable.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::KernelOp;
using graph::StageOp;

bool layout::readsRows(Type element, const LayoutOptions &options) {
  return isa<IntegerType>(element) || element.isF32() || element.isF16() ||
         (element.isBF16() && options.bf16 != Bf16Images::Kept);
}

static bool isHalf(Type element) { return element.isF16() || element.isBF16(); }

static bool isWidened(Type element, const LayoutOptions &options) {
  return element.isF16() ||
         (element.isBF16() && options.bf16 == Bf16Images::Widened);
}

RankedTensorType layout::widenType(Type type) {
  return graph::makeTensorType(graph::getDims(type),
                               Float32Type::get(type.getContext()));
}

// Whether results hold elements of operands and literals, and nothing is
// computed: they are stored as the operands are (a concatenation that costs
// nothing must store them as they lie).
static bool onlyMoves(KernelOp kernel) {
  return llvm::all_of(kernel.getStages(), [](StageOp stage) {
    return stage.getFoldKind() == graph::FoldKind::none &&
           llvm::all_of(*stage.getBlock(), [](Operation &op) {
             auto apply = dyn_cast<graph::ApplyOp>(op);
             return apply ? apply.getFn() == graph::ScalarFn::select
                          : isa<graph::LoadOp, graph::LiteralOp, graph::CoordOp,
                                graph::InsideOp, graph::YieldOp>(op);
           });
  });
}

// Whether the stage of a result may yield float32: a maximum is one of the
// numbers it is of, a sum would be rounded at each step.
static bool canWiden(KernelOp kernel, unsigned result) {
  Value value = kernel.getResultValues()[result];
  auto stage = value.getDefiningOp<StageOp>();
  graph::FoldKind fold = stage.getFoldKind();
  return !stage.getInit() &&
         llvm::count(kernel.getResultValues(), value) == 1 &&
         (fold == graph::FoldKind::none || fold == graph::FoldKind::max ||
          fold == graph::FoldKind::min);
}

llvm::DenseSet<Value> layout::chooseWidened(ModuleOp module,
                                            const llvm::DenseSet<Value> &chosen,
                                            const LayoutOptions &options) {
  SymbolTable symbols(module);
  auto kernelOf = [&](graph::CallOp call) {
    return symbols.lookup<KernelOp>(call.getCallee());
  };
  llvm::DenseSet<Value> candidates, widened;
  for (Value value : chosen)
    if (auto result = cast<OpResult>(value);
        isWidened(cast<RankedTensorType>(value.getType()).getElementType(),
                  options) &&
        canWiden(kernelOf(cast<graph::CallOp>(result.getOwner())),
                 result.getResultNumber()))
      candidates.insert(value);
  if (candidates.empty())
    return widened;
  SmallVector<SmallVector<Value>> moves;
  module.walk([&](graph::CallOp call) {
    KernelOp kernel = kernelOf(call);
    if (!kernel || kernel.getOpaque())
      return;
    auto isCandidate = [&](Value value) { return candidates.contains(value); };
    if (llvm::any_of(call.getArgs(), isCandidate))
      for (const ConvLoad &conv : analyze(kernel).convs)
        if (!conv.channelAxes.empty() &&
            isCandidate(call.getArgs()[conv.operand]))
          widened.insert(call.getArgs()[conv.operand]);
    SmallVector<Value> moved(call.getArgs());
    llvm::append_range(moved, call.getResults());
    llvm::erase_if(moved, [&](Value value) { return !isCandidate(value); });
    if (moved.size() > 1 && onlyMoves(kernel))
      moves.push_back(std::move(moved));
  });
  for (size_t before = 0; before != widened.size();) {
    before = widened.size();
    for (ArrayRef<Value> moved : moves)
      if (llvm::any_of(moved, [&](Value v) { return widened.contains(v); }))
        widened.insert(moved.begin(), moved.end());
  }
  return widened;
}

void layout::copyNarrowImages(ModuleOp module,
                              const llvm::DenseSet<Value> &chosen,
                              llvm::DenseSet<Value> &widened,
                              const LayoutOptions &options) {
  SymbolTable symbols(module);
  SmallVector<std::pair<graph::CallOp, unsigned>> reads;
  module.walk([&](graph::CallOp call) {
    auto kernel = symbols.lookup<KernelOp>(call.getCallee());
    if (!kernel || kernel.getOpaque() ||
        options.keep.count(call.getCallee().str()))
      return;
    auto isCopied = [&](const ConvLoad &conv) {
      Value image = call.getArgs()[conv.operand];
      auto type = cast<RankedTensorType>(image.getType());
      return !conv.channelAxes.empty() && conv.hasPixels &&
             isHalf(type.getElementType()) &&
             readsRows(type.getElementType(), options) &&
             isNarrow(type, options.lanes) && !widened.contains(image) &&
             llvm::count(call.getArgs(), image) == 1 &&
             chosen.contains(call.getResult(conv.result));
    };
    auto convs = analyze(kernel).convs;
    if (auto conv = llvm::find_if(convs, isCopied); conv != convs.end())
      reads.push_back({call, conv->operand});
  });
  for (auto [call, operand] : reads) {
    OpBuilder builder(call);
    graph::CallOp copy =
        copyTensor(module, symbols, builder, call.getArgs()[operand], call);
    call->setOperand(operand, copy.getResult(0));
    widened.insert(copy.getResult(0));
  }
}

namespace {
class StageWidener {
public:
  StageWidener(StageOp stage, const llvm::DenseSet<Value> &wide)
      : stage(stage), wide(wide), b(stage.getContext()) {}

  void run();

private:
  Value add(Operation *op) {
    op->setAttr(kClaim, b.getUnitAttr());
    return op->getResult(0);
  }
  Value widen(Value scalar, Operation *before);
  void widenLoad(graph::LoadOp load, bool yieldsWide);

  StageOp stage;
  const llvm::DenseSet<Value> &wide; // tensors
  OpBuilder b;
  llvm::DenseMap<Value, Value> known;
};
} // namespace

Value StageWidener::widen(Value scalar, Operation *before) {
  Value &made = known[scalar];
  if (made)
    return made;
  b.setInsertionPoint(before);
  auto literal = scalar.getDefiningOp<graph::LiteralOp>();
  if (!literal)
    return made = add(graph::CastOp::create(b, scalar.getLoc(), b.getF32Type(),
                                            scalar, /*saturate=*/UnitAttr()));
  APFloat value = cast<FloatAttr>(literal.getValue()).getValue();
  bool losesInfo = false;
  value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return made = add(
             graph::LiteralOp::create(b, scalar.getLoc(), b.getF32Type(),
                                      FloatAttr::get(b.getF32Type(), value)));
}

// Those who widened the number have it; others get it as narrow as it was.
void StageWidener::widenLoad(graph::LoadOp load, bool yieldsWide) {
  if (load.getOther())
    load.getOtherMutable().assign(widen(load.getOther(), load));
  Type narrow = load.getType();
  Value number = load.getResult();
  SmallVector<graph::CastOp> widenings;
  SmallVector<OpOperand *> others;
  for (OpOperand &use : number.getUses()) {
    auto cast = dyn_cast<graph::CastOp>(use.getOwner());
    if (cast && cast.getType().isF32() && !cast.getSaturate())
      widenings.push_back(cast);
    else if (!yieldsWide || !isa<graph::YieldOp>(use.getOwner()))
      others.push_back(&use);
  }
  number.setType(b.getF32Type());
  known[number] = number;
  for (graph::CastOp cast : widenings) {
    cast.replaceAllUsesWith(number);
    cast.erase();
  }
  if (others.empty())
    return;
  b.setInsertionPointAfter(load);
  Value narrowed = add(graph::CastOp::create(b, load.getLoc(), narrow, number,
                                             /*saturate=*/UnitAttr()));
  known[narrowed] = number;
  for (OpOperand *use : others)
    use->set(narrowed);
}

void StageWidener::run() {
  bool yieldsWide = wide.contains(stage.getResult());
  for (auto load :
       llvm::make_early_inc_range(stage.getBlock()->getOps<graph::LoadOp>()))
    if (wide.contains(load.getTensor()))
      widenLoad(load, yieldsWide);
  if (yieldsWide) {
    Operation *yield = stage.getBlock()->getTerminator();
    yield->setOperand(0, widen(yield->getOperand(0), yield));
  }
  // What stood for a load that reads float32 now.
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(*stage.getBlock())))
    if (op.hasAttr(kClaim) && op.use_empty())
      op.erase();
}

void layout::widenKernel(KernelOp kernel, ArrayRef<bool> operands,
                         ArrayRef<bool> results) {
  llvm::DenseSet<Value> wide;
  auto add = [&](Value tensor) {
    tensor.setType(widenType(tensor.getType()));
    wide.insert(tensor);
  };
  for (auto [value, isWide] :
       llvm::zip(kernel.getBody().getArguments(), operands))
    if (isWide)
      add(value);
  for (auto [value, isWide] : llvm::zip(kernel.getResultValues(), results))
    if (isWide)
      add(value);
  if (!wide.empty())
    for (StageOp stage : kernel.getStages())
      StageWidener(stage, wide).run();
}
