// graph.scatter and graph.compact: writes to places that the data choose.
//
// A scatter first copies x in pieces, then applies the updates in order; its
// tasks are blocks of columns, so that two tasks never write the same element.
#include "Opaque.h"

#include "dlc/runtime.h"

using namespace mlir;
using namespace dlc;

static constexpr int64_t kCopyPiece = 16384; // elements a task copies
static constexpr int64_t kColumnBlock = 4096;

// Elements [task * piece, (task + 1) * piece) of `count`, end exclusive.
static std::pair<Value, Value> taskRange(OpaquePhase &p, Value count,
                                         int64_t piece) {
  Value begin = p.index.mul(p.function.task(), piece);
  return {begin, p.index.min(p.index.add(begin, piece), count)};
}

static void emitCopy(OpaqueKernel &kernel, AffineExpr count) {
  OpaquePhase p(kernel, count.ceilDiv(kCopyPiece));
  auto [begin, end] = taskRange(p, p.size(count), kCopyPiece);
  p.index.forEach(begin, end, 1, [&](Value i) {
    Value element = memref::LoadOp::create(p.b, p.loc, p.function.buffer(0), i);
    memref::StoreOp::create(p.b, p.loc, element, p.function.buffer(3), i);
  });
  p.finish();
}

void dlc::emitScatter(OpaqueKernel &kernel, graph::ScatterOp op) {
  SmallVector<AffineExpr> dims = graph::getDims(op.getX().getType());
  emitCopy(kernel, dims[0] * dims[1]);

  OpaquePhase p(kernel, dims[1].ceilDiv(kColumnBlock));
  IndexBuilder &ix = p.index;
  Value rows = p.size(dims[0]), columns = p.size(dims[1]);
  auto [begin, end] = taskRange(p, columns, kColumnBlock);
  ix.forEach(
      ix.constant(0), p.size(p.dims(1)[0]), 1,
      [&, begin = begin, end = end](Value i) {
        Value given = p.loadIndex(1, i);
        Value row = p.select(ix.less(given, ix.constant(0)),
                             ix.add(given, rows), given);
        Value isInside =
            p.both(ix.less(row, rows), ix.atLeast(row, ix.constant(0)));
        auto branch = scf::IfOp::create(p.b, p.loc, isInside,
                                        /*withElseRegion=*/true);
        OpBuilder::InsertionGuard guard(p.b);
        p.b.setInsertionPointToStart(branch.thenBlock());
        ix.forEach(begin, end, 1, [&](Value column) {
          Value target = ix.add(ix.mul(row, columns), column);
          Scalar update = p.load(2, ix.add(ix.mul(i, columns), column));
          if (op.getKind() != graph::FoldKind::none)
            update = p.scalar.combine(op.getKind(), p.load(3, target), update);
          p.store(update, 3, target);
        });
        p.b.setInsertionPointToStart(branch.elseBlock());
        Value code = arith::ConstantOp::create(
            p.b, p.loc, p.b.getI32IntegerAttr(DLC_DATA_INDEX_OUT_OF_RANGE));
        memref::StoreOp::create(p.b, p.loc, code, p.function.status(),
                                ix.constant(0));
      });
  p.finish();
}

void dlc::emitCompact(OpaqueKernel &kernel, graph::CompactOp) {
  OpaquePhase p(kernel, getAffineConstantExpr(1, kernel.kernel.getContext()));
  IndexBuilder &ix = p.index;
  Value zero = ix.constant(0), size = p.size(p.dims(0)[0]);
  // Every position is stored; only a true one makes the next store go on.
  Value count = p.fold(zero, size, zero, [&](Value i, Value found) -> Value {
    p.storeIndex(i, 1, found);
    Value step = arith::IndexCastUIOp::create(p.b, p.loc, p.b.getIndexType(),
                                              p.load(0, i).value);
    return ix.add(found, step);
  });
  ix.forEach(count, size, 1, [&](Value i) { p.storeIndex(zero, 1, i); });
  p.finish();
}
