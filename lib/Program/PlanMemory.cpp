// program-plan-memory: static liveness, results in the place of operands that
// die, then one of two plans.
//
// Constant sizes: buffers one after the other, each at the offset of the
// smallest gap between buffers that are alive at the same time; the best of
// some orders. This is the usual heuristic for offset assignment; it is within
// a few percent of the lower bound (the largest sum of sizes alive together) on
// real models.
// Symbolic sizes: greedy sharing of slots in program order, by typical size.
#include "dlc/Program/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <limits>

namespace dlc::program {
#define GEN_PASS_DEF_PLANMEMORY
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

namespace {
// Some bytes: one alloc, or several that follow each other in place; their size
// (of the typical run) and the steps between which they live.
struct Buffer {
  SmallVector<AllocOp, 1> allocs;
  int64_t bytes;
  unsigned first, last;
  bool hasOtherNames = false; ///< in a loop that carries it
  int64_t offset = 0;

  AffineExpr size() { return getSize(allocs[0].getSize()); }

  bool overlaps(const Buffer &other) const {
    return first <= other.last && other.first <= last;
  }
};

// A buffer lives from the first step that names it to the last one; when these
// are in a loop that does not hold the buffer, through the whole loop.
class Liveness {
public:
  explicit Liveness(ArrayRef<int64_t> typical) : typical(typical) {}

  std::vector<Buffer> compute(ModelOp model) {
    visit(*model.getBlock());
    for (auto &[number, op] : uses)
      extend(buffers[number], op);
    return buffers;
  }
  /// The first and the last step of an operation that compute() has seen.
  std::pair<unsigned, unsigned> stepsOf(Operation *op) const {
    return steps.lookup(op);
  }

private:
  // Numbers the steps in order; an operator with regions has those of all in
  // them.
  void visit(Block &block) {
    for (Operation &op : block) {
      unsigned start = step++;
      if (auto alloc = dyn_cast<AllocOp>(op))
        add(alloc);
      else if (auto slice = dyn_cast<SliceOp>(op))
        numbers[slice] = numbers.lookup(slice.getWhole());
      else
        for (Value operand : op.getOperands())
          for (unsigned number : numbers.lookup(operand))
            uses.push_back({number, &op});
      if (auto loop = dyn_cast<LoopOp>(op))
        nameAliases(loop);
      for (Region &region : op.getRegions())
        visit(region.front());
      steps[&op] = {start, step - 1};
    }
  }

  void add(AllocOp alloc) {
    int64_t bytes = graph::evaluate(getSize(alloc.getSize()), typical);
    numbers[alloc] = {static_cast<unsigned>(buffers.size())};
    buffers.push_back({{alloc},
                       static_cast<int64_t>(llvm::alignTo(
                           std::max<int64_t>(bytes, 1), kAlignment)),
                       std::numeric_limits<unsigned>::max(),
                       0});
  }

  // The two buffers of a carried tensor change places: each name is both.
  void nameAliases(LoopOp loop) {
    for (unsigned i = 0; i < loop.getNumCarried(); ++i) {
      SmallVector<unsigned, 2> both = numbers.lookup(loop.getCurrent()[i]);
      llvm::append_range(both, numbers.lookup(loop.getNext()[i]));
      for (unsigned number : both)
        buffers[number].hasOtherNames = true;
      for (Value name : {loop.getCurrentArgument(i), loop.getNextArgument(i),
                         Value(loop.getResult(i))})
        numbers[name] = both;
    }
    for (auto [i, stack] : llvm::enumerate(loop.getStacked()))
      numbers[loop.getSliceArgument(i)] = numbers.lookup(stack);
  }

  void extend(Buffer &b, Operation *op) {
    Block *home = b.allocs[0]->getBlock();
    auto [first, last] = steps.lookup(op);
    for (; op->getBlock() != home; op = op->getParentOp())
      if (Operation *around = op->getParentOp(); isa<LoopOp>(around))
        std::tie(first, last) = steps.lookup(around);
    b.first = std::min(b.first, first);
    b.last = std::max(b.last, last);
  }

  ArrayRef<int64_t> typical;
  unsigned step = 0;
  std::vector<Buffer> buffers;
  llvm::DenseMap<Value, SmallVector<unsigned, 2>> numbers;
  std::vector<std::pair<unsigned, Operation *>> uses;
  llvm::DenseMap<Operation *, std::pair<unsigned, unsigned>> steps;
};

// Which results take the place of an operand: the kernel allows it
// (`in_place`), and the call is the last step at which the operand's buffer
// lives.
class InPlaceResults {
public:
  InPlaceResults(ModelOp model, const Liveness &liveness,
                 MutableArrayRef<Buffer> buffers)
      : liveness(liveness), buffers(buffers) {
    for (auto [i, buffer] : llvm::enumerate(buffers))
      numbers[buffer.allocs[0].getBuffer()] = i;
    for (auto kernel : model->getParentOfType<ModuleOp>().getOps<KernelOp>())
      kernels[kernel.getSymNameAttr()] = kernel;
  }

  /// The buffers, those that follow each other in one.
  std::vector<Buffer> merge(ModelOp model, unsigned &count) {
    // By buffer: the one it is in the place of, or itself.
    auto all = llvm::seq<unsigned>(0, buffers.size());
    SmallVector<unsigned> origin(all.begin(), all.end());
    for (CallOp call : model.getAll<CallOp>())
      for (auto [operand, result] : choose(call)) {
        origin[result] = origin[operand];
        ++count;
      }
    std::vector<Buffer> merged;
    llvm::DenseMap<unsigned, unsigned> place;
    for (auto [i, buffer] : llvm::enumerate(buffers)) {
      auto [it, isNew] = place.try_emplace(origin[i], merged.size());
      if (isNew) {
        merged.push_back(buffer);
        continue;
      }
      Buffer &whole = merged[it->second];
      whole.allocs.push_back(buffer.allocs[0]);
      whole.first = std::min(whole.first, buffer.first);
      whole.last = std::max(whole.last, buffer.last);
    }
    return merged;
  }

private:
  SmallVector<std::pair<unsigned, unsigned>> choose(CallOp call);
  static bool allows(KernelOp kernel, unsigned operand, unsigned result) {
    ArrayRef<int64_t> pairs = kernel.getInPlace().value_or(ArrayRef<int64_t>());
    for (size_t i = 0; i < pairs.size(); i += 2)
      if (pairs[i] == operand && pairs[i + 1] == result)
        return true;
    return false;
  }

  const Liveness &liveness;
  MutableArrayRef<Buffer> buffers;
  llvm::DenseMap<Value, unsigned> numbers;
  llvm::DenseMap<StringAttr, KernelOp> kernels;
};
} // namespace

SmallVector<std::pair<unsigned, unsigned>> InPlaceResults::choose(CallOp call) {
  SmallVector<std::pair<unsigned, unsigned>> chosen;
  KernelOp kernel = kernels.lookup(call.getCalleeAttr().getAttr());
  if (!kernel || !kernel.getInPlace())
    return chosen;
  SmallVector<KernelOp> all{kernel};
  if (kernel.getVariants())
    for (auto name : kernel.getVariants()->getAsRange<FlatSymbolRefAttr>())
      all.push_back(kernels.lookup(name.getAttr()));
  unsigned step = liveness.stepsOf(call).first;
  // Both are buffers of this block, under no other name.
  auto find = [&](Value value) -> Buffer * {
    auto it = numbers.find(value);
    if (it == numbers.end() || buffers[it->second].hasOtherNames ||
        value.getParentBlock() != call->getBlock())
      return nullptr;
    return &buffers[it->second];
  };
  llvm::SmallDenseSet<Value> taken;
  for (auto [j, out] : llvm::enumerate(call.getOuts())) {
    Buffer *result = find(out);
    if (!result || result->first != step ||
        llvm::count(call.getOuts(), out) != 1)
      continue;
    for (Value arg : call.getArgs()) {
      Buffer *operand = find(arg);
      if (!operand || operand->last != step || taken.contains(arg) ||
          operand->size() != result->size() ||
          llvm::is_contained(call.getOuts(), arg))
        continue;
      // Wherever the call reads the buffer, it may.
      bool isAllowed = true;
      for (auto [i, other] : llvm::enumerate(call.getArgs()))
        if (other == arg)
          isAllowed &= llvm::all_of(
              all, [&](KernelOp k) { return k && allows(k, i, j); });
      if (!isAllowed)
        continue;
      taken.insert(arg);
      chosen.push_back({numbers[arg], numbers[out]});
      break;
    }
  }
  return chosen;
}

namespace {
struct PlanMemory : program::impl::PlanMemoryBase<PlanMemory> {
  void runOnOperation() override {
    ModelOp model = getOperation();
    SmallVector<int64_t> typical;
    for (unsigned i = 0; i < model.getNumSymbols(); ++i)
      typical.push_back(model.getRange(i)[2]);
    Liveness liveness(typical);
    std::vector<Buffer> buffers = liveness.compute(model);
    numBuffers += buffers.size();
    unsigned count = 0;
    std::vector<Buffer> merged =
        InPlaceResults(model, liveness, buffers).merge(model, count);
    numInPlace += count;
    bool isStatic = llvm::all_of(buffers, [](Buffer &b) {
      return graph::constantValue(b.size()).has_value();
    });
    if (!isStatic)
      return planSlots(model, merged);
    // Buffers that live longer may leave gaps that nothing fits: the least of
    // all plans is taken, of equal ones the first.
    std::vector<Buffer> best;
    int64_t least = std::numeric_limits<int64_t>::max();
    for (std::vector<Buffer> *all : {&merged, &buffers})
      for (Order order : {Order::Size, Order::Area, Order::Time}) {
        std::vector<Buffer> plan = *all;
        if (int64_t total = placeBuffers(plan, order); total < least) {
          least = total;
          best = std::move(plan);
        }
      }
    for (Buffer &b : best)
      for (AllocOp alloc : b.allocs)
        alloc.setOffset(b.offset);
    if (best.empty())
      least = 0;
    model.setArenaBytesAttr(makeSize(
        getAffineConstantExpr(least, &getContext()), model.getNumSymbols()));
  }

private:
  /// Which buffers get their place first: large ones, those that are large for
  /// long, or those that come first.
  enum class Order { Size, Area, Time };

  /// Gives every buffer its offset; returns where the last one ends.
  static int64_t placeBuffers(std::vector<Buffer> &buffers, Order order) {
    auto weight = [&](const Buffer *b) -> int64_t {
      switch (order) {
      case Order::Size:
        return -b->bytes;
      case Order::Area:
        return -b->bytes * (int64_t(b->last) - b->first + 1);
      case Order::Time:
        return b->first;
      }
    };
    SmallVector<Buffer *> all;
    for (Buffer &b : buffers)
      all.push_back(&b);
    llvm::sort(all, [&](const Buffer *a, const Buffer *b) {
      return std::make_pair(weight(a), a) <
             std::make_pair(weight(b), b); // equal ones: in program order
    });
    int64_t total = 0;
    SmallVector<Buffer *> placed; // by offset
    for (Buffer *b : all) {
      b->offset = findBestFit(*b, placed);
      total = std::max(total, b->offset + b->bytes);
      placed.insert(llvm::upper_bound(placed, b,
                                      [](const Buffer *x, const Buffer *y) {
                                        return x->offset < y->offset;
                                      }),
                    b);
    }
    return total;
  }

  // The start of the smallest gap, among the buffers alive with `b`, that holds
  // it.
  static int64_t findBestFit(const Buffer &b, ArrayRef<Buffer *> placed) {
    int64_t end = 0, best = -1, bestGap = std::numeric_limits<int64_t>::max();
    for (const Buffer *other : placed) {
      if (!other->overlaps(b))
        continue;
      int64_t gap = other->offset - end;
      if (gap >= b.bytes && gap < bestGap) {
        best = end;
        bestGap = gap;
      }
      end = std::max(end, other->offset + other->bytes);
    }
    return best >= 0 ? best : end;
  }

  void planSlots(ModelOp model, std::vector<Buffer> &buffers) {
    struct Slot {
      unsigned last;
      int64_t bytes;
      SmallVector<AffineExpr> sizes; // distinct sizes of its buffers
    };
    std::vector<Slot> slots;
    for (Buffer &b : buffers) { // an alloc stands right before its first step
      // The free slot whose size is nearest: growing a small one or wasting a
      // large one cost alike.
      Slot *best = nullptr;
      for (Slot &s : slots)
        if (s.last < b.first && (!best || std::abs(s.bytes - b.bytes) <
                                              std::abs(best->bytes - b.bytes)))
          best = &s;
      if (!best)
        best = &slots.emplace_back(Slot{0, 0, {}});
      best->last = std::max(best->last, b.last);
      best->bytes = std::max(best->bytes, b.bytes);
      AffineExpr size = b.size();
      if (!llvm::is_contained(best->sizes, size))
        best->sizes.push_back(size);
      for (AllocOp alloc : b.allocs)
        alloc.setSlot(best - slots.data());
    }
  }
};
} // namespace
