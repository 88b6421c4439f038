// program-check-memory: does every buffer still hold what was written to it,
// when it is read?
//
// The steps are followed in order, with the places of the plan: who writes a
// buffer spoils all others that share bytes with it. A loop's body is followed
// twice, so that what an iteration leaves is seen by the next one.
#include "dlc/Program/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

namespace dlc::program {
#define GEN_PASS_DEF_CHECKMEMORY
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

namespace {
struct CheckMemory : program::impl::CheckMemoryBase<CheckMemory> {
  void runOnOperation() override {
    ModelOp model = getOperation();
    places.clear(), numbers.clear(), kernels.clear();
    for (auto kernel : model->getParentOfType<ModuleOp>().getOps<KernelOp>())
      kernels[kernel.getSymNameAttr()] = kernel;
    for (AllocOp alloc : model.getAll<AllocOp>())
      if (!addPlace(alloc))
        return signalPassFailure();
    spoiled.assign(places.size(), nullptr);
    if (!follow(*model.getBlock()))
      signalPassFailure();
  }

private:
  // Bytes of the arena: a range of it, or a slot.
  struct Place {
    bool isSlot;
    int64_t begin, end;
    AffineMap size;

    bool overlaps(const Place &other) const {
      return isSlot != other.isSlot || (begin < other.end && other.begin < end);
    }
  };

  bool addPlace(AllocOp alloc) {
    numbers[alloc] = {unsigned(places.size())};
    if (auto slot = alloc.getSlot()) {
      places.push_back(
          {true, int64_t(*slot), int64_t(*slot) + 1, alloc.getSize()});
      return true;
    }
    auto bytes = graph::constantValue(getSize(alloc.getSize()));
    if (!alloc.getOffset() || !bytes) {
      alloc.emitOpError("has no place");
      return false;
    }
    auto begin = int64_t(*alloc.getOffset());
    places.push_back({false, begin, begin + *bytes, alloc.getSize()});
    return true;
  }

  bool read(Value value, Operation *op) {
    for (unsigned number : numbers.lookup(value))
      if (Operation *by = spoiled[number]) {
        op->emitOpError("reads a buffer that another step has overwritten")
                .attachNote(by->getLoc())
            << "by this one";
        return false;
      }
    return true;
  }
  void write(Value value, Operation *op) {
    for (unsigned number : numbers.lookup(value)) {
      for (unsigned other = 0; other < places.size(); ++other)
        if (other != number && places[other].overlaps(places[number]))
          spoiled[other] = op;
      spoiled[number] = nullptr;
    }
  }

  bool allows(CallOp call, unsigned operand, unsigned result) {
    auto isListed = [&](KernelOp kernel) {
      ArrayRef<int64_t> pairs =
          kernel ? kernel.getInPlace().value_or(ArrayRef<int64_t>())
                 : ArrayRef<int64_t>();
      for (size_t i = 0; i + 1 < pairs.size(); i += 2)
        if (pairs[i] == operand && pairs[i + 1] == result)
          return true;
      return false;
    };
    KernelOp kernel = kernels.lookup(call.getCalleeAttr().getAttr());
    if (!isListed(kernel))
      return false;
    return !kernel.getVariants() ||
           llvm::all_of(kernel.getVariants()->getAsRange<FlatSymbolRefAttr>(),
                        [&](FlatSymbolRefAttr name) {
                          return isListed(kernels.lookup(name.getAttr()));
                        });
  }

  // A call reads and writes at the same time: what it writes may lie over what
  // it reads in one way only.
  bool followCall(CallOp call) {
    for (Value arg : call.getArgs())
      if (!read(arg, call))
        return false;
    for (auto [j, out] : llvm::enumerate(call.getOuts())) {
      for (unsigned x : numbers.lookup(out)) {
        for (auto [i, arg] : llvm::enumerate(call.getArgs()))
          for (unsigned y : numbers.lookup(arg)) {
            // Names of a carried tensor never stand for the same buffer.
            if (x == y && arg != out && numbers.lookup(out).size() > 1)
              continue;
            if (!places[x].overlaps(places[y]) ||
                (x != y && places[x].begin == places[y].begin &&
                 places[x].size == places[y].size && allows(call, i, j)))
              continue;
            call.emitOpError("stores result ")
                << j << " over operand " << i << ", which it may not";
            return false;
          }
        for (Value other : call.getOuts().take_front(j))
          for (unsigned y : numbers.lookup(other))
            if (places[x].overlaps(places[y])) {
              call.emitOpError("stores two results to one place");
              return false;
            }
      }
      write(out, call);
    }
    return true;
  }

  bool followIf(IfOp op) {
    if (!read(op.getCondition(), op))
      return false;
    std::vector<Operation *> before = spoiled;
    if (!follow(op.getThenRegion().front()))
      return false;
    std::swap(before, spoiled);
    if (!follow(op.getElseRegion().front()))
      return false;
    for (auto [one, other] : llvm::zip_equal(spoiled, before))
      one = one ? one : other;
    return true;
  }

  bool followLoop(LoopOp op) {
    for (Value value : op.getCurrent())
      if (!read(value, op))
        return false;
    for (Value value : {op.getLimit(), op.getCondition()})
      if (value && !read(value, op))
        return false;
    for (Value value : op.getNext())
      write(value, op);
    for (Value value : op.getStacked())
      write(value, op);
    if (op.getIteration())
      write(op.getIteration(), op);
    // Each of the two buffers of a carried tensor has each of its names.
    for (unsigned i = 0; i < op.getNumCarried(); ++i) {
      SmallVector<unsigned, 2> both = numbers.lookup(op.getCurrent()[i]);
      llvm::append_range(both, numbers.lookup(op.getNext()[i]));
      for (Value name : {op.getCurrentArgument(i), op.getNextArgument(i),
                         Value(op.getResult(i))})
        numbers[name] = both;
    }
    for (auto [i, stack] : llvm::enumerate(op.getStacked()))
      numbers[op.getSliceArgument(i)] = numbers.lookup(stack);
    return follow(op.getBody().front()) && follow(op.getBody().front());
  }

  bool follow(Block &block) {
    for (Operation &op : block) {
      bool holds = true;
      if (auto call = dyn_cast<CallOp>(op))
        holds = followCall(call);
      else if (auto branch = dyn_cast<IfOp>(op))
        holds = followIf(branch);
      else if (auto loop = dyn_cast<LoopOp>(op))
        holds = followLoop(loop);
      else if (auto copy = dyn_cast<CopyOp>(op)) {
        holds = read(copy.getSource(), copy);
        write(copy.getTarget(), copy);
      } else {
        for (Value operand : op.getOperands())
          holds = holds && read(operand, &op);
      }
      if (!holds)
        return false;
    }
    return true;
  }

  std::vector<Place> places;
  llvm::DenseMap<Value, SmallVector<unsigned, 2>> numbers;
  llvm::DenseMap<StringAttr, KernelOp> kernels;
  std::vector<Operation *> spoiled; ///< by buffer: who wrote over it, or null
};
} // namespace
