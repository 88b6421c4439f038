// graph.scatter and graph.compact: writes to places that the data choose.
//
// A scatter first copies x in pieces, then applies the updates in order; its
// tasks are blocks of columns, so that two tasks never write the same element.
#include "Opaque.h"

#include "dlc/runtime.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

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

/// How many elements of buffer `i` a register holds; 1 where the description
/// names no CPU (the CUDA nests run these loops a thread a task).
static int64_t lanesOf(const OpaquePhase &p, const CpuTarget &target,
                       unsigned i) {
  if (target.desc().triple.empty())
    return 1;
  return target.desc().lanes(graph::elementBytes(p.element(i)));
}

/// Copies elements [from, from + count) of buffer `source` to `to` and on of
/// buffer `target`, as they are stored.
static void copyElements(OpaquePhase &p, unsigned source, Value from,
                         unsigned target, Value to, Value count,
                         int64_t lanes) {
  IndexBuilder &ix = p.index;
  Value in = p.function.buffer(source), out = p.function.buffer(target);
  Value vectors = ix.mul(ix.div(count, ix.constant(lanes)), lanes);
  if (lanes > 1) {
    auto type = VectorType::get(
        {lanes}, cast<MemRefType>(in.getType()).getElementType());
    ix.forEach(ix.constant(0), vectors, lanes, [&](Value i) {
      Value part = vector::LoadOp::create(p.b, p.loc, type, in,
                                          ValueRange{ix.add(from, i)});
      vector::StoreOp::create(p.b, p.loc, part, out, ValueRange{ix.add(to, i)});
    });
  }
  ix.forEach(lanes > 1 ? vectors : ix.constant(0), count, 1, [&](Value i) {
    Value element = memref::LoadOp::create(p.b, p.loc, in, ix.add(from, i));
    memref::StoreOp::create(p.b, p.loc, element, out, ix.add(to, i));
  });
}

static void emitCopy(OpaqueKernel &kernel, AffineExpr count) {
  OpaquePhase p(kernel, count.ceilDiv(kCopyPiece));
  auto [begin, end] = taskRange(p, p.size(count), kCopyPiece);
  copyElements(p, 0, begin, 3, begin, p.index.sub(end, begin),
               lanesOf(p, kernel.target, 0));
  p.finish();
}

/// Columns [begin, end) of update `i` into row `row`.
static void applyUpdate(OpaquePhase &p, graph::FoldKind kind, Value row,
                        Value i, Value begin, Value end, int64_t lanes) {
  IndexBuilder &ix = p.index;
  Value columns = p.size(p.dims(0)[1]);
  Value target = ix.mul(row, columns), update = ix.mul(i, columns);
  if (kind == graph::FoldKind::none)
    return copyElements(p, 2, ix.add(update, begin), 3, ix.add(target, begin),
                        ix.sub(end, begin),
                        IndexBuilder::constantOf(columns) == 1 ? 1 : lanes);
  ix.forEach(begin, end, 1, [&](Value column) {
    Value place = ix.add(target, column);
    Scalar x = p.load(2, ix.add(update, column));
    p.store(p.scalar.combine(kind, p.load(3, place), x), 3, place);
  });
}

void dlc::emitScatter(OpaqueKernel &kernel, graph::ScatterOp op) {
  SmallVector<AffineExpr> dims = graph::getDims(op.getX().getType());
  emitCopy(kernel, dims[0] * dims[1]);

  OpaquePhase p(kernel, dims[1].ceilDiv(kColumnBlock));
  IndexBuilder &ix = p.index;
  Value rows = p.size(dims[0]), zero = ix.constant(0);
  auto range = taskRange(p, p.size(dims[1]), kColumnBlock);
  int64_t lanes = lanesOf(p, kernel.target, 0);
  ix.forEach(zero, p.size(p.dims(1)[0]), 1, [&](Value i) {
    Value given = p.loadIndex(1, i);
    Value row = p.select(ix.less(given, zero), ix.add(given, rows), given);
    Value isInside = p.both(ix.less(row, rows), ix.atLeast(row, zero));
    auto branch =
        scf::IfOp::create(p.b, p.loc, isInside, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(p.b);
    p.b.setInsertionPointToStart(branch.thenBlock());
    applyUpdate(p, op.getKind(), row, i, range.first, range.second, lanes);
    p.b.setInsertionPointToStart(branch.elseBlock());
    Value code = arith::ConstantOp::create(
        p.b, p.loc, p.b.getI32IntegerAttr(DLC_DATA_INDEX_OUT_OF_RANGE));
    memref::StoreOp::create(p.b, p.loc, code, p.function.status(), zero);
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
