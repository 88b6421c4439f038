// The loops of one stage: outer axes, ranges of the innermost axis
// (LoopCuts.cpp cuts it where guards change), vectors and tiles.
#include "LoopStage.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void StageLoops::emit(ArrayRef<unsigned> axes, Value begin, Value end) {
  LoopEmitter::Scope scope(emitter);
  emitter.hoist(expr.root);
  if (!axes.empty()) {
    unsigned axis = axes.front();
    if (llvm::is_contained(plan.unrolled, axis)) {
      for (int64_t i = 0, n = *graph::constantValue(expr.extents[axis]); i < n;
           ++i) {
        emitter.setDim(axis, index.constant(i));
        emit(axes.drop_front(), begin, end);
      }
      emitter.setDim(axis, Value());
      return;
    }
    emitter.loop(index.constant(0), index.emit(expr.extents[axis]), 1, {},
                 [&](Value iv, ValueRange) {
                   emitter.setDim(axis, iv);
                   emit(axes.drop_front(), begin, end);
                   return SmallVector<Value>();
                 });
    emitter.setDim(axis, Value());
    return;
  }
  if (plan.laneDim < 0) {
    if (plan.scanDim >= 0)
      emitter.scanAlong();
    else
      emitter.storeRoot();
    return;
  }
  if (!begin) {
    begin = index.constant(0);
    end = index.emit(expr.extents[plan.laneDim]);
  }
  if (plan.tileDim >= 0)
    emitTiles(begin, end);
  else if (plan.acrossDim >= 0)
    emitAcross(begin, end);
  else
    emitRange(begin, end);
}

void StageLoops::emitLeaf(Value begin, Value end) {
  unsigned dim = plan.laneDim;
  ++leaves;
  LoopEmitter::Scope outer(emitter);
  emitter.hoist(expr.root);
  if (plan.interleaveDim >= 0)
    return emitInterleaved(begin, end);
  auto run = [&](Value from, Value to, int64_t step, unsigned width,
                 unsigned groups, bool masked) {
    emitter.loop(from, to, step, {}, [&](Value iv, ValueRange) {
      LoopEmitter::Scope scope(emitter);
      emitter.setDim(dim, iv);
      if (width > 1)
        emitter.lanes = {int(dim), width, Value(), Value()};
      if (masked) {
        auto type = VectorType::get({int64_t(width)}, b.getI1Type());
        emitter.lanes.count = index.sub(to, iv);
        emitter.lanes.mask = vector::CreateMaskOp::create(
            b, loc, type, ValueRange{emitter.lanes.count});
      }
      if (groups > 1)
        emitter.groups = {int(dim), groups, int64_t(width), false, Value()};
      if (plan.scanDim >= 0)
        emitter.scanAcross();
      else
        emitter.storeRoot();
      emitter.lanes = LoopLanes(), emitter.groups = across;
      return SmallVector<Value>();
    });
    emitter.setDim(dim, Value());
  };
  bool isTested = !tested.empty();
  if (plan.width == 1 || (isTested && !maskedMemory))
    return run(begin, end, 1, 1, 1, false);
  int64_t width = plan.width, block = width * plan.groups;
  Value from = begin;
  if (auto store = isTested || plan.acrossDim >= 0
                       ? std::nullopt
                       : emitter.findStreamed(dim)) {
    emitter.setDim(dim, begin);
    from = index.min(end, index.add(begin, emitter.elementsToLine(*store)));
    emitter.setDim(dim, Value());
    run(begin, from, maskedMemory ? width : 1, maskedMemory ? width : 1, 1,
        maskedMemory);
    emitter.streams = expr.nodes[*store].buffer;
  }
  // The end of the last whole block of `size` elements.
  auto wholeEnd = [&](int64_t size) {
    Value n = index.sub(end, from);
    return index.add(from, index.mul(index.divUnsigned(n, index.constant(size)),
                                     index.constant(size)));
  };
  if (!isTested) {
    Value to = wholeEnd(block);
    run(from, to, block, width, plan.groups, false);
    from = to;
    if (plan.groups > 8) { // the rest is many vectors
      unsigned fewer = plan.groups / 4;
      to = wholeEnd(width * fewer);
      run(from, to, width * fewer, width, fewer, false);
      from = to;
    }
  }
  // Whole vectors need no mask (what is stored by one waits longer to be read).
  auto extent = graph::constantValue(expr.extents[dim]);
  bool hasWhole = !isTested && extent && *extent % block >= width;
  if (plan.groups > 1 && (!maskedMemory || hasWhole)) {
    Value to = wholeEnd(width);
    run(from, to, width, width, 1, false);
    from = to;
  }
  emitter.streams = -1;
  if (maskedMemory)
    return run(from, end, width, width, 1, true);
  run(from, end, 1, 1, 1, false);
}

/// Lanes along the quotients of a split axis, the remainders side by side.
void StageLoops::emitInterleaved(Value begin, Value end) {
  unsigned dim = plan.laneDim, remainder = plan.interleaveDim;
  int64_t count = *graph::constantValue(expr.extents[remainder]);
  bool isTested = !tested.empty();
  Value size = index.constant(plan.width), whole = begin;
  auto vectors = [&](Value from, Value to, bool masked) {
    emitter.loop(from, to, plan.width, {}, [&](Value iv, ValueRange) {
      LoopEmitter::Scope scope(emitter);
      emitter.setDim(dim, iv);
      emitter.setDim(remainder, index.constant(0));
      emitter.lanes = {int(dim), plan.width, Value(), Value()};
      emitter.groups = {int(remainder), unsigned(count), 1, true, Value()};
      if (masked) {
        emitter.lanes.count = index.sub(to, iv);
        auto type = VectorType::get({int64_t(plan.width)}, b.getI1Type());
        emitter.lanes.mask = vector::CreateMaskOp::create(
            b, loc, type, ValueRange{emitter.lanes.count});
      }
      emitter.storeRoot();
      emitter.lanes = LoopLanes(), emitter.groups = LoopGroups();
      return SmallVector<Value>();
    });
  };
  if (plan.width > 1 && (!isTested || maskedMemory)) {
    if (!isTested) {
      whole = index.add(
          begin,
          index.mul(index.divUnsigned(index.sub(end, begin), size), size));
      vectors(begin, whole, false);
    }
    if (maskedMemory)
      vectors(whole, end, true);
  }
  if (plan.width == 1 || !maskedMemory)
    emitter.loop(whole, end, 1, {}, [&](Value iv, ValueRange) {
      emitter.setDim(dim, iv);
      for (int64_t i = 0; i < count; ++i) {
        LoopEmitter::Scope scope(emitter);
        emitter.setDim(remainder, index.constant(i));
        emitter.storeRoot();
      }
      return SmallVector<Value>();
    });
  emitter.setDim(dim, Value());
  emitter.setDim(remainder, Value());
}

/// Square tiles of laneDim and tileDim. Whole ones are one copy of the code;
/// those at the edges are another, masked or, without masks, point by point.
void StageLoops::emitTiles(Value begin, Value end) {
  unsigned lane = plan.laneDim, across = plan.tileDim;
  int64_t width = plan.width;
  Value first = tileBegin ? tileBegin : index.constant(0);
  Value extent = tileEnd ? tileEnd : index.emit(expr.extents[across]);
  Value size = index.constant(width);
  Value wholeLanes = index.add(
      begin, index.mul(index.divUnsigned(index.sub(end, begin), size), size));
  auto tile = [&](Value from, Value to, Value height, bool masked) {
    emitter.loop(from, to, width, {}, [&](Value iv, ValueRange) {
      LoopEmitter::Scope scope(emitter);
      emitter.setDim(lane, iv);
      emitter.lanes = {int(lane), unsigned(width), Value(), Value()};
      emitter.groups = {int(across), unsigned(width), 1, false, Value()};
      if (masked) {
        emitter.lanes.count = index.min(index.sub(to, iv), size);
        emitter.groups.limit = height;
        auto type = VectorType::get({width}, b.getI1Type());
        emitter.lanes.mask = vector::CreateMaskOp::create(
            b, loc, type, ValueRange{emitter.lanes.count});
      }
      emitter.storeRoot();
      emitter.lanes = LoopLanes(), emitter.groups = LoopGroups();
      return SmallVector<Value>();
    });
    emitter.setDim(lane, Value());
  };
  emitter.loop(first, extent, width, {}, [&](Value row, ValueRange) {
    LoopEmitter::Scope scope(emitter);
    Value height = index.min(index.sub(extent, row), size);
    Value isWhole =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, height, size);
    Value middle = arith::SelectOp::create(b, loc, isWhole, wholeLanes, begin);
    emitter.setDim(across, row);
    tile(begin, middle, height, false);
    if (maskedMemory) {
      tile(middle, end, height, true);
      emitter.setDim(across, Value());
      return SmallVector<Value>();
    }
    Value rowEnd = index.add(row, height);
    emitter.loop(row, rowEnd, 1, {}, [&](Value single, ValueRange) {
      emitter.setDim(across, single);
      emitter.loop(middle, end, 1, {}, [&](Value iv, ValueRange) {
        LoopEmitter::Scope point(emitter);
        emitter.setDim(lane, iv);
        emitter.storeRoot();
        return SmallVector<Value>();
      });
      return SmallVector<Value>();
    });
    emitter.setDim(lane, Value());
    emitter.setDim(across, Value());
    return SmallVector<Value>();
  });
}
