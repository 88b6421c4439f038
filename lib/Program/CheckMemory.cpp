// program-check-memory: does every buffer still hold what was written to it,
// when it is read?
//
// The steps are followed in order, with the places of the plan: who writes a
// buffer spoils all others that share bytes with it. A loop's body is followed
// twice, so that what an iteration leaves is seen by the next one.
//
// A buffer with parts is its parts: they fill it, none shares a byte with
// another, and who reads it reads all of them.
#include "dlc/Program/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/MapVector.h"

#include <limits>

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
    places.clear(), numbers.clear(), kernels.clear(), wholes.clear();
    for (auto kernel : model->getParentOfType<ModuleOp>().getOps<KernelOp>())
      kernels[kernel.getSymNameAttr()] = kernel;
    for (AllocOp alloc : model.getAll<AllocOp>())
      if (!addPlace(alloc))
        return signalPassFailure();
    if (!addParts(model))
      return signalPassFailure();
    spoiled.assign(places.size(), nullptr);
    written.clear();
    for (const Place &place : places)
      written.push_back(place.count == 0);
    if (!follow(*model.getBlock()))
      signalPassFailure();
  }

private:
  // Bytes of the arena (a range of it, or of a slot) or of an output.
  struct Place {
    bool isSlot;
    int64_t begin, end;
    AffineMap size;
    int64_t slot = 0;
    Value output = {}; ///< a part of it; null: of the arena
    /// Of a part: what it is a part of, and its runs.
    Value whole = {};
    int64_t offset = 0, run = 0, pitch = 0, count = 0;

    bool overlaps(const Place &other) const {
      if (output != other.output)
        return false;
      if (isSlot != other.isSlot)
        return true;
      if (slot != other.slot || begin >= other.end || other.begin >= end)
        return false;
      // Runs that lie side by side, as far apart as the others.
      auto phase = [](const Place &p) { return p.offset % p.pitch; };
      if (!whole || whole != other.whole || pitch != other.pitch ||
          phase(*this) + run > pitch || phase(other) + other.run > pitch)
        return true;
      return phase(*this) < phase(other) + other.run &&
             phase(other) < phase(*this) + run;
    }
  };

  bool addPlace(AllocOp alloc) {
    numbers[alloc] = {unsigned(places.size())};
    if (auto slot = alloc.getSlot()) {
      places.push_back({true, 0, std::numeric_limits<int64_t>::max(),
                        alloc.getSize(), int64_t(*slot)});
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

  // Parts that steps write fill the whole. Others are made of these.
  bool addParts(ModelOp model) {
    llvm::DenseSet<Value> outs;
    for (CallOp call : model.getAll<CallOp>())
      outs.insert(call.getOuts().begin(), call.getOuts().end());
    llvm::MapVector<Value, SmallVector<SliceOp>> parts;
    for (SliceOp slice : model.getAll<SliceOp>())
      parts[slice.getWhole()].push_back(slice);
    for (auto &[whole, slices] : parts) {
      Place all{false, 0, 0, AffineMap()};
      int64_t bytes;
      if (auto alloc = whole.getDefiningOp<AllocOp>()) {
        all = places[numbers.lookup(whole)[0]];
        bytes = *graph::constantValue(getSize(alloc.getSize()));
      } else {
        auto type = cast<RankedTensorType>(
            cast<OutputOp>(whole.getDefiningOp()).getType());
        all.output = whole;
        bytes =
            type.getNumElements() * graph::elementBytes(type.getElementType());
      }
      SmallVector<unsigned, 2> own;
      int64_t total = 0;
      for (SliceOp slice : slices) {
        if (!outs.contains(slice))
          continue;
        Place part = placeOf(slice, all);
        total += part.run * part.count;
        for (unsigned other : own)
          if (places[other].overlaps(part)) {
            slice.emitOpError("shares bytes with another part");
            return false;
          }
        numbers[slice] = {unsigned(places.size())};
        own.push_back(places.size());
        places.push_back(part);
      }
      if (total != bytes) {
        whole.getDefiningOp()->emitOpError("has parts of ")
            << total << " bytes, and is " << bytes << " bytes";
        return false;
      }
      for (SliceOp slice : slices)
        if (!outs.contains(slice) && !compose(slice, placeOf(slice, all), own))
          return false;
      wholes[whole] = all;
      numbers[whole] = own;
    }
    return true;
  }

  static Place placeOf(SliceOp slice, const Place &whole) {
    Place part = whole;
    part.whole = slice.getWhole();
    part.offset = slice.getOffset(), part.run = slice.getRun();
    part.pitch = slice.getPitch(), part.count = slice.getCount();
    part.begin = whole.begin + part.offset;
    part.end = part.begin + (part.count - 1) * part.pitch + part.run;
    part.size = AffineMap();
    return part;
  }

  // A part that no step writes as such: the written ones in it fill it.
  bool compose(SliceOp slice, const Place &part, ArrayRef<unsigned> all) {
    SmallVector<unsigned, 2> inside;
    int64_t total = 0;
    for (unsigned number : all) {
      const Place &other = places[number];
      if (!part.overlaps(other))
        continue;
      total += other.run * other.count;
      inside.push_back(number);
      bool isInside = part.count == other.count && part.pitch == other.pitch &&
                      part.offset <= other.offset &&
                      other.offset + other.run <= part.offset + part.run;
      if (!isInside) {
        slice.emitOpError("cuts another part");
        return false;
      }
    }
    if (total != part.run * part.count) {
      slice.emitOpError("holds parts of ")
          << total << " bytes, and is " << part.run * part.count << " bytes";
      return false;
    }
    numbers[slice] = inside;
    return true;
  }

  bool read(Value value, Operation *op) {
    for (unsigned number : numbers.lookup(value))
      if (!written[number]) {
        op->emitOpError("reads a buffer of which no step has written a part");
        return false;
      }
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
      written[number] = true;
    }
  }

  // A kernel keeps the distances of the part that it is given, and no others.
  bool checkPitches(CallOp call) {
    KernelOp kernel = kernels.lookup(call.getCalleeAttr().getAttr());
    ArrayRef<int64_t> pitches =
        kernel ? kernel.getPitches().value_or(ArrayRef<int64_t>())
               : ArrayRef<int64_t>();
    SmallVector<Value> buffers(call.getArgs());
    llvm::append_range(buffers, call.getOuts());
    for (auto [i, buffer] : llvm::enumerate(buffers)) {
      int64_t run = 0, pitch = 0;
      if (auto slice = buffer.getDefiningOp<SliceOp>();
          slice && slice.getCount() > 1)
        run = slice.getRun(), pitch = slice.getPitch();
      if ((pitches.empty() ? 0 : pitches[2 * i]) != run ||
          (pitches.empty() ? 0 : pitches[2 * i + 1]) != pitch) {
        call.emitOpError("tensor ")
            << i << " is stored in other runs than its kernel keeps";
        return false;
      }
    }
    return true;
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
    if (!checkPitches(call))
      return false;
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
            auto parts = wholes.find(arg);
            const Place &operand =
                parts == wholes.end() ? places[y] : parts->second;
            if (!places[x].overlaps(places[y]) ||
                (x != y && !places[x].whole &&
                 places[x].begin == operand.begin &&
                 places[x].size == operand.size && allows(call, i, j)))
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
      } else if (isa<SliceOp>(op)) {
        continue; // nothing is read yet
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
  llvm::DenseMap<Value, Place> wholes; ///< those with parts
  llvm::DenseMap<StringAttr, KernelOp> kernels;
  std::vector<Operation *> spoiled; ///< by buffer: who wrote over it, or null
  std::vector<bool> written;        ///< of a part: by any step so far
};
} // namespace
