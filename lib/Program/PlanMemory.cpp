// program-plan-memory: static liveness, then one of two plans.
//
// Constant sizes: buffers in order of decreasing size, each at the offset of
// the smallest gap between buffers that are alive at the same time. This is the
// usual heuristic for offset assignment; it is within a few percent of the
// lower bound (the largest sum of sizes alive together) on real models.
// Symbolic sizes: greedy sharing of slots in program order, by typical size.
#include "dlc/Program/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "llvm/ADT/DenseMap.h"
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
// One alloc: its size (of the typical run) and the steps between which it
// lives.
struct Buffer {
  AllocOp alloc;
  int64_t bytes;
  unsigned first, last;
  int64_t offset = 0;

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
    return std::move(buffers);
  }

private:
  // Numbers the steps in order; an operator with regions has those of all in
  // them.
  void visit(Block &block) {
    for (Operation &op : block) {
      unsigned start = step++;
      if (auto alloc = dyn_cast<AllocOp>(op))
        add(alloc);
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
    buffers.push_back({alloc,
                       static_cast<int64_t>(llvm::alignTo(
                           std::max<int64_t>(bytes, 1), kAlignment)),
                       std::numeric_limits<unsigned>::max(), 0});
  }

  // The two buffers of a carried tensor change places: each name is both.
  void nameAliases(LoopOp loop) {
    for (unsigned i = 0; i < loop.getNumCarried(); ++i) {
      SmallVector<unsigned, 2> both = numbers.lookup(loop.getCurrent()[i]);
      llvm::append_range(both, numbers.lookup(loop.getNext()[i]));
      for (Value name : {loop.getCurrentArgument(i), loop.getNextArgument(i),
                         Value(loop.getResult(i))})
        numbers[name] = both;
    }
    for (auto [i, stack] : llvm::enumerate(loop.getStacked()))
      numbers[loop.getSliceArgument(i)] = numbers.lookup(stack);
  }

  void extend(Buffer &b, Operation *op) {
    Block *home = b.alloc->getBlock();
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

struct PlanMemory : program::impl::PlanMemoryBase<PlanMemory> {
  void runOnOperation() override {
    ModelOp model = getOperation();
    std::vector<Buffer> buffers = computeLiveness(model);
    numBuffers += buffers.size();
    bool isStatic = llvm::all_of(buffers, [](Buffer &b) {
      return graph::constantValue(getSize(b.alloc.getSize())).has_value();
    });
    if (isStatic)
      planOffsets(model, buffers);
    else
      planSlots(model, buffers);
  }

private:
  std::vector<Buffer> computeLiveness(ModelOp model) {
    SmallVector<int64_t> typical;
    for (unsigned i = 0; i < model.getNumSymbols(); ++i)
      typical.push_back(model.getRange(i)[2]);
    return Liveness(typical).compute(model);
  }

  void planOffsets(ModelOp model, std::vector<Buffer> &buffers) {
    SmallVector<Buffer *> order;
    for (Buffer &b : buffers)
      order.push_back(&b);
    llvm::sort(order, [](const Buffer *a, const Buffer *b) {
      return std::make_pair(-a->bytes, a) <
             std::make_pair(-b->bytes, b); // equal sizes: in program order
    });
    int64_t total = 0;
    SmallVector<Buffer *> placed; // by offset
    for (Buffer *b : order) {
      b->offset = findBestFit(*b, placed);
      total = std::max(total, b->offset + b->bytes);
      placed.insert(llvm::upper_bound(placed, b,
                                      [](const Buffer *x, const Buffer *y) {
                                        return x->offset < y->offset;
                                      }),
                    b);
    }
    for (Buffer &b : buffers)
      b.alloc.setOffset(b.offset);
    model.setArenaBytesAttr(makeSize(
        getAffineConstantExpr(total, &getContext()), model.getNumSymbols()));
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
      AffineExpr size = getSize(b.alloc.getSize());
      if (!llvm::is_contained(best->sizes, size))
        best->sizes.push_back(size);
      b.alloc.setSlot(best - slots.data());
    }
  }
};
} // namespace
