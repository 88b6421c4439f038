// graph.nms: greedy selection of boxes by falling score, a batch and class a
// task. A box is dropped when it overlaps one selected before by more than the
// threshold. The arithmetic is that of the interpreter, in f32.
#include "Opaque.h"

using namespace mlir;
using namespace dlc;

namespace {
enum Operand {
  Boxes,
  Scores,
  Order,
  Limit,
  IouThreshold,
  ScoreThreshold,
  Selected
};

/// Corners of one box.
struct Box {
  Value top, left, bottom, right;
};

class NmsEmitter {
public:
  NmsEmitter(OpaquePhase &phase, graph::NmsOp op)
      : p(phase), b(p.b), loc(p.loc), ix(p.index), op(op) {}

  void emit();

private:
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value min(Value x, Value y) { return p.select(greater(x, y), y, x); }
  Value max(Value x, Value y) { return p.select(greater(x, y), x, y); }
  Value greater(Value x, Value y) {
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, y);
  }
  Box loadBox(Value number);
  Value overlaps(const Box &x, const Box &y);

  OpaquePhase &p;
  OpBuilder &b;
  Location loc;
  IndexBuilder &ix;
  graph::NmsOp op;
  Value batch, numBoxes, threshold, zero;
};
} // namespace

Box NmsEmitter::loadBox(Value number) {
  Value base = ix.mul(ix.add(ix.mul(batch, numBoxes), number), 4);
  Value v[4];
  for (int i = 0; i < 4; ++i)
    v[i] = p.load(Boxes, ix.add(base, i)).value;
  if (!op.getCenter())
    return {min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])};
  Value half = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0.5f));
  Value x = mul(v[2], half), y = mul(v[3], half);
  return {sub(v[1], y), sub(v[0], x), add(v[1], y), add(v[0], x)};
}

/// Intersection over union above the threshold; false for empty boxes.
Value NmsEmitter::overlaps(const Box &x, const Box &y) {
  Value width = sub(min(x.right, y.right), max(x.left, y.left));
  Value height = sub(min(x.bottom, y.bottom), max(x.top, y.top));
  Value common = mul(width, height);
  auto area = [&](const Box &box) {
    return mul(sub(box.right, box.left), sub(box.bottom, box.top));
  };
  Value first = area(x), second = area(y);
  Value all = sub(add(first, second), common);
  Value result = greater(arith::DivFOp::create(b, loc, common, all), threshold);
  for (Value positive : {width, height, common, first, second, all})
    result = p.both(result, greater(positive, zero));
  return result;
}

void NmsEmitter::emit() {
  Value start = ix.constant(0), one = ix.constant(1), task = p.function.task();
  batch = ix.div(task, p.size(p.dims(Scores)[1]));
  numBoxes = p.size(p.dims(Boxes)[1]);
  zero = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
  threshold = p.load(IouThreshold, start).value;
  Value lowest = p.load(ScoreThreshold, start).value;
  Value room = p.size(p.dims(Selected)[2]);
  Value limit = ix.min(ix.max(p.loadIndex(Limit, start), start), room);
  Value first = ix.mul(task, numBoxes), result = ix.mul(task, room);

  Value count = p.fold(start, numBoxes, start, [&](Value i, Value selected) {
    return p.when(ix.less(selected, limit), selected, [&] {
      Value number = p.loadIndex(Order, ix.add(first, i));
      Value score = p.load(Scores, ix.add(first, number)).value;
      return p.when(greater(score, lowest), selected, [&] {
        Box box = loadBox(number);
        Value rival = p.findFirst(start, selected, [&](Value j) {
          return overlaps(box,
                          loadBox(p.loadIndex(Selected, ix.add(result, j))));
        });
        return p.when(ix.atLeast(rival, selected), selected, [&] {
          p.storeIndex(number, Selected, ix.add(result, selected));
          return ix.add(selected, one);
        });
      });
    });
  });
  ix.forEach(count, room, 1, [&](Value i) {
    p.storeIndex(ix.constant(-1), Selected, ix.add(result, i));
  });
  p.finish();
}

void dlc::emitNms(OpaqueKernel &kernel, graph::NmsOp op) {
  SmallVector<AffineExpr> dims = graph::getDims(op.getScores().getType());
  OpaquePhase phase(kernel, dims[0] * dims[1]);
  NmsEmitter(phase, op).emit();
}
