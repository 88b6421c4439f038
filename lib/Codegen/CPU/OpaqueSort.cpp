// graph.argsort: a bottom-up merge sort of row numbers, stable, a batch a task.
// The numbers lie in scratch twice; a pass merges neighbouring runs from one
// half into the other. Only the first k results are wanted, so a run keeps its
// first k numbers: the passes cost n log k and then halve.
//
// A few of many (TopK of scores) are kept in a sorted list instead: almost
// every element is turned away by one comparison with the last of the list.
#include "Opaque.h"

using namespace mlir;
using namespace dlc;

/// The longest list that elements are inserted into one by one.
static constexpr int64_t kMaxListed = 128;

namespace {
class ArgsortEmitter {
public:
  ArgsortEmitter(OpaquePhase &phase, graph::ArgsortOp op)
      : p(phase), b(p.b), loc(p.loc), ix(p.index), op(op) {}

  void emit();

private:
  Value elementLess(Scalar x, Scalar y);
  Value rowLess(Value row, Value other);
  bool isListed();
  void insert(Value row, Value last);
  void emitList();
  void mergeRuns(Value from, Value to, Value lo, Value width);
  void emitMergeSort();
  void emitResult(Value from);

  OpaquePhase &p;
  OpBuilder &b;
  Location loc;
  IndexBuilder &ix;
  graph::ArgsortOp op;
  Value batch, numRows, rowLength, numResults, scratch;
};
} // namespace

/// x before y: numbers ascending, NaN last.
Value ArgsortEmitter::elementLess(Scalar x, Scalar y) {
  using arith::CmpFPredicate;
  using arith::CmpIPredicate;
  if (isa<FloatType>(x.value.getType())) {
    Value less =
        arith::CmpFOp::create(b, loc, CmpFPredicate::ULT, x.value, y.value);
    Value isNumber =
        arith::CmpFOp::create(b, loc, CmpFPredicate::ORD, x.value, x.value);
    return p.both(less, isNumber);
  }
  bool isUnsigned = graph::isUnsigned(x.type) || x.type.isInteger(1);
  return arith::CmpIOp::create(
      b, loc, isUnsigned ? CmpIPredicate::ult : CmpIPredicate::slt, x.value,
      y.value);
}

/// Row number `row` must stand before `other`, which has a smaller number.
Value ArgsortEmitter::rowLess(Value row, Value other) {
  if (op.getDescending())
    std::swap(row, other);
  Value first = ix.add(ix.mul(batch, numRows), row),
        second = ix.add(ix.mul(batch, numRows), other);
  auto at = [&](Value rowNumber, Value column) {
    return p.load(0, ix.add(ix.mul(rowNumber, rowLength), column));
  };
  if (IndexBuilder::constantOf(rowLength) == 1)
    return elementLess(p.load(0, first), p.load(0, second));
  // The first column in which the rows differ decides.
  Value column = p.findFirst(ix.constant(0), rowLength, [&](Value c) -> Value {
    Scalar x = at(first, c), y = at(second, c);
    return arith::OrIOp::create(b, loc, elementLess(x, y), elementLess(y, x));
  });
  return p.when(ix.less(column, rowLength), p.isTrue(false), [&] {
    return elementLess(at(first, column), at(second, column));
  });
}

/// Merges the runs that begin at `lo` and `lo + width`.
void ArgsortEmitter::mergeRuns(Value from, Value to, Value lo, Value width) {
  Value length = ix.min(width, numResults);
  Value leftEnd = ix.min(ix.add(lo, length), numRows);
  Value right = ix.min(ix.add(lo, width), numRows);
  Value rightEnd = ix.min(ix.add(right, length), numRows);
  Value count =
      ix.min(ix.add(ix.sub(leftEnd, lo), ix.sub(rightEnd, right)), numResults);
  auto loop = scf::ForOp::create(b, loc, ix.constant(0), count, ix.constant(1),
                                 ValueRange{lo, right});
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(loop.getBody());
  Value i = loop.getRegionIterArg(0), j = loop.getRegionIterArg(1);
  Value hasLeft = ix.less(i, leftEnd), hasRight = ix.less(j, rightEnd);
  auto rowAt = [&](Value place) {
    return p.loadIndex(scratch, ix.add(from, place));
  };
  Value leftIsOver = arith::XOrIOp::create(b, loc, hasLeft, p.isTrue(true));
  Value takesRight = p.when(p.both(hasLeft, hasRight), leftIsOver,
                            [&] { return rowLess(rowAt(j), rowAt(i)); });
  Value taken = rowAt(p.select(takesRight, j, i));
  p.storeIndex(taken, scratch, ix.add(to, ix.add(lo, loop.getInductionVar())));
  Value nextLeft = p.select(takesRight, i, ix.add(i, 1)),
        nextRight = p.select(takesRight, ix.add(j, 1), j);
  scf::YieldOp::create(b, loc, ValueRange{nextLeft, nextRight});
}

/// More results than rows, which symbolic sizes may turn out to be, get the
/// number of rows: no row, so that who reads it reports an index out of range.
void ArgsortEmitter::emitResult(Value from) {
  Value base = ix.mul(batch, numResults), count = ix.min(numResults, numRows);
  ix.forEach(ix.constant(0), count, 1, [&](Value i) {
    p.storeIndex(p.loadIndex(scratch, ix.add(from, i)), 1, ix.add(base, i));
  });
  ix.forEach(count, numResults, 1,
             [&](Value i) { p.storeIndex(numRows, 1, ix.add(base, i)); });
}

//===----------------------------------------------------------------------===//
// A list of the first few
//===----------------------------------------------------------------------===//

/// Worth it where the list is much shorter than the rows, which are scalars.
bool ArgsortEmitter::isListed() {
  std::optional<int64_t> rows = IndexBuilder::constantOf(numRows),
                         results = IndexBuilder::constantOf(numResults);
  return IndexBuilder::constantOf(rowLength) == 1 && results && *results > 0 &&
         *results <= kMaxListed && (!rows || *rows >= 8 * *results);
}

/// Puts `row` among scratch[0, last), moving those behind it on by one.
void ArgsortEmitter::insert(Value row, Value last) {
  Value moved = p.findFirst(ix.constant(0), last, [&](Value step) -> Value {
    Value place = ix.sub(last, step),
          other = p.loadIndex(scratch, ix.add(place, -1));
    Value isBefore = rowLess(row, other);
    p.when(isBefore, [&] { p.storeIndex(other, scratch, place); });
    return arith::XOrIOp::create(b, loc, isBefore, p.isTrue(true));
  });
  p.storeIndex(row, scratch, ix.sub(last, moved));
}

void ArgsortEmitter::emitList() {
  Value zero = ix.constant(0), first = ix.mul(batch, numRows);
  Value full = ix.min(numResults, numRows), last = ix.sub(full, ix.constant(1));
  scf::ForOp fill = scf::ForOp::create(b, loc, zero, full, ix.constant(1));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(fill.getBody());
    insert(fill.getInductionVar(), fill.getInductionVar());
  }
  Type type = p.element(0);
  // Without rows there is no last one, and none to compare with it.
  p.when(ix.less(zero, numRows), [&] {
    auto valueOf = [&](Value row) { return p.load(0, ix.add(first, row)); };
    Value bar = valueOf(p.loadIndex(scratch, last)).value;
    p.fold(full, numRows, bar, [&](Value row, Value bar) {
      Scalar x = valueOf(row), y{bar, type};
      Value enters = op.getDescending() ? elementLess(y, x) : elementLess(x, y);
      return p.when(enters, bar, [&] {
        insert(row, last);
        return valueOf(p.loadIndex(scratch, last)).value;
      });
    });
  });
  emitResult(zero);
}

//===----------------------------------------------------------------------===//
// All, by merging
//===----------------------------------------------------------------------===//

void ArgsortEmitter::emitMergeSort() {
  Value zero = ix.constant(0);
  ix.forEach(zero, numRows, 1, [&](Value i) { p.storeIndex(i, scratch, i); });

  Type type = b.getIndexType();
  auto passes = scf::WhileOp::create(b, loc, TypeRange{type, type},
                                     ValueRange{ix.constant(1), zero});
  {
    OpBuilder::InsertionGuard guard(b);
    Block *before =
        b.createBlock(&passes.getBefore(), {}, {type, type}, {loc, loc});
    scf::ConditionOp::create(b, loc, ix.less(before->getArgument(0), numRows),
                             before->getArguments());
    Block *after =
        b.createBlock(&passes.getAfter(), {}, {type, type}, {loc, loc});
    Value width = after->getArgument(0), from = after->getArgument(1);
    Value to = ix.sub(numRows, from), twice = ix.mul(width, 2);
    auto loop = scf::ForOp::create(b, loc, ix.constant(0), numRows, twice);
    {
      OpBuilder::InsertionGuard inner(b);
      b.setInsertionPointToStart(loop.getBody());
      mergeRuns(from, to, loop.getInductionVar(), width);
    }
    scf::YieldOp::create(b, loc, ValueRange{twice, to});
  }
  emitResult(passes.getResult(1));
}

void ArgsortEmitter::emit() {
  batch = p.function.task();
  numRows = p.size(p.dims(0)[1]);
  rowLength = p.size(p.dims(0)[2]);
  numResults = p.size(p.dims(1)[1]);
  scratch = p.function.scratchView(b.getI64Type(), ix.constant(0));
  if (isListed())
    emitList();
  else
    emitMergeSort();
  p.finish();
}

void dlc::emitArgsort(OpaqueKernel &kernel, graph::ArgsortOp op) {
  SmallVector<AffineExpr> dims = graph::getDims(op.getX().getType());
  OpaquePhase phase(kernel, dims[0]);
  kernel.result.scratchBytes = graph::simplify(dims[1] * 16);
  ArgsortEmitter(phase, op).emit();
}
