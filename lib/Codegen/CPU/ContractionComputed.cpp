// Elements of a right factor that is computed from packed constants.
#include "ContractionComputed.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void ComputedEmitter::setAxes(ArrayRef<unsigned> group, Value linear,
                              SmallVectorImpl<Value> &at) {
  SmallVector<Value> extents;
  for (unsigned axis : group)
    extents.push_back(index.expr(factor.spec.space.extents[axis], {}, symbols));
  for (auto [axis, value] :
       llvm::zip_equal(group, index.delinearize(linear, extents)))
    at[axis] = value;
}

Value ComputedEmitter::batchOf(const ContractionOperand &operand,
                               const ExprPoint &coordinates) {
  Value batch = index.constant(0);
  for (unsigned axis : packedBatchAxes(factor.spec, operand))
    batch =
        index.add(index.mul(batch, index.expr(factor.spec.space.extents[axis],
                                              {}, symbols)),
                  coordinates.axes[axis]);
  return batch;
}

/// Asks for the line that the element at `at` is in.
static void fetch(IndexBuilder &index, Value memory, Value at) {
  memref::PrefetchOp::create(index.builder(), index.loc(), memory, at,
                             /*isWrite=*/false, /*localityHint=*/3,
                             /*isDataCache=*/true);
}

Value ComputedEmitter::loadHalved(const ContractionOperand &operand,
                                  const PackedLayout &layout,
                                  const ComputedPoint &point, Value batch) {
  const ContractionSchedule &s = factor.schedule;
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  constexpr int64_t block = ComputedFactor::kHalvedBlock, wordBytes = 4;
  Value memory = buffer(operand.operand);
  bool isAligned = point.stepsAlign % block == 0;
  Value step = isAligned ? point.first : index.add(point.first, point.plus);
  Value word = index.div(step, index.constant(block));
  if (isAligned)
    word = index.add(word, point.plus / block);
  // Whole words before this one's batch, panel and step.
  int64_t words = layout.depth() / block;
  Value at = index.add(index.mul(batch, layout.batchElements() / block),
                       index.mul(point.panel, words));
  at = index.add(index.add(at, point.inside),
                 index.mul(word, int64_t(s.panelColumns())));
  at = index.mul(at, wordBytes);
  bool isFirst = !isAligned || point.plus % block == 0;
  if (s.prefetch && isFirst)
    fetch(index, memory,
          index.add(at, int64_t(s.prefetch) / block * wordBytes *
                            s.panelColumns()));
  auto wordType = VectorType::get({int64_t(s.lanes)}, b.getI32Type());
  Value value = vector::BitCastOp::create(
      b, loc, wordType,
      vector::LoadOp::create(
          b, loc, VectorType::get({s.lanes * wordBytes}, b.getI8Type()), memory,
          at));
  Value shift;
  if (isAligned) {
    if (point.plus % block == 0)
      return value;
    shift = arith::ConstantOp::create(
        b, loc,
        DenseElementsAttr::get(wordType,
                               b.getI32IntegerAttr(4 * (point.plus % block))));
  } else {
    Value bits = index.mul(index.rem(step, index.constant(block)), 4);
    shift = vector::BroadcastOp::create(
        b, loc, wordType,
        arith::IndexCastOp::create(b, loc, b.getI32Type(), bits));
  }
  return arith::ShRUIOp::create(b, loc, value, shift);
}

/// The lowest four bits of words as bytes, with their sign where `element` has
/// one.
static Value lowestHalves(OpBuilder &b, Location loc, Value words,
                          Type element) {
  auto type = cast<VectorType>(words.getType());
  auto splat = [&](int32_t value) {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getI32IntegerAttr(value)));
  };
  if (graph::isUnsigned(element)) {
    words = arith::AndIOp::create(b, loc, words, splat(15));
  } else {
    words = arith::ShLIOp::create(b, loc, words, splat(28));
    words = arith::ShRSIOp::create(b, loc, words, splat(28));
  }
  return arith::TruncIOp::create(
      b, loc, VectorType::get(type.getShape(), b.getI8Type()), words);
}

Value ComputedEmitter::load(graph::LoadOp load, const ComputedPoint &point,
                            const ExprPoint &coordinates) {
  const ContractionSpec &spec = factor.spec;
  const ContractionSchedule &s = factor.schedule;
  OpBuilder &b = index.builder();
  for (auto [operand, layout] :
       llvm::zip_equal(spec.rhsLoads, factor.layouts)) {
    if (operand.value != load.getResult())
      continue;
    Value batch = batchOf(operand, coordinates);
    if (layout.isHalved)
      return lowestHalves(b, index.loc(),
                          loadHalved(operand, layout, point, batch),
                          operand.element);
    Value step = index.constant(0);
    SmallVector<unsigned> inner = spec.innerAxesOf(operand);
    for (unsigned axis : inner)
      step = index.add(
          index.mul(step, index.expr(spec.space.extents[axis], {}, symbols)),
          coordinates.axes[axis]);
    Value at = index.add(index.mul(batch, layout.batchElements()),
                         index.mul(point.panel, layout.depth()));
    at = index.add(index.add(at, point.inside),
                   index.mul(step, int64_t(s.panelColumns())));
    Value memory = buffer(operand.operand);
    Type element = cast<MemRefType>(memory.getType()).getElementType();
    // What varies along all of k is what there is much of. A line of several
    // vectors or steps is asked for once, where one can tell.
    auto inside = IndexBuilder::constantOf(point.inside);
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    bool isWithinLine =
        inside && (s.panelColumns() * point.stepsAlign * bytes) % 64 == 0 &&
        ((point.plus * s.panelColumns() + *inside) * bytes) % 64 != 0;
    if (s.prefetch && inner.size() == spec.inner.size() && !isWithinLine)
      fetch(index, memory,
            index.add(at, int64_t(s.prefetch) * s.panelColumns()));
    return vector::LoadOp::create(b, index.loc(),
                                  VectorType::get({int64_t(s.lanes)}, element),
                                  memory, at);
  }
  return Value();
}

/// Whether a scalar is the same everywhere: a literal, perhaps converted.
static bool isLiteral(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto cast = dyn_cast_or_null<graph::CastOp>(op))
    return isLiteral(cast->getOperand(0));
  return isa_and_nonnull<graph::LiteralOp>(op);
}

/// What is made of `number` and of literals alone, the last such value of
/// `type`; null: nothing.
static Value functionOf(Value number, Type type) {
  Value last;
  while (number.hasOneUse()) {
    Operation *user = *number.user_begin();
    if (!isa<graph::CastOp, graph::ApplyOp>(user) ||
        !llvm::all_of(user->getOperands(), [&](Value value) {
          return value == number || isLiteral(value);
        }))
      break;
    number = user->getResult(0);
    if (number.getType() == type)
      last = number;
  }
  return last;
}

Value ComputedEmitter::lookUp(const ComputedPoint &point,
                              const ExprPoint &coordinates, Value &function) {
  const ContractionSpec &spec = factor.spec;
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  constexpr int64_t numbers = 16;
  if (!factor.scalar.tables || coordinates.lanes != numbers ||
      !spec.accumulator.isF32())
    return Value();
  for (auto [operand, layout] :
       llvm::zip_equal(spec.rhsLoads, factor.layouts)) {
    if (!layout.isHalved)
      continue;
    function = functionOf(operand.value, spec.accumulator);
    if (!function)
      continue;
    // The function of all sixteen numbers.
    SmallVector<int8_t> all;
    for (int8_t i = 0; i < numbers; ++i)
      all.push_back(graph::isUnsigned(operand.element) || i < 8 ? i : i - 16);
    expressions.packedLoad = [&](graph::LoadOp, const ExprPoint &) -> Value {
      return arith::ConstantOp::create(
          b, loc,
          DenseElementsAttr::get(VectorType::get({numbers}, b.getI8Type()),
                                 ArrayRef<int8_t>(all)));
    };
    auto table = expressions.emit(function, coordinates, factor.problem);
    expressions.packedLoad = nullptr;
    if (failed(table) || !table->isVector())
      return Value();
    // It takes the lowest four bits of each word.
    Value words =
        loadHalved(operand, layout, point, batchOf(operand, coordinates));
    return LLVM::CallIntrinsicOp::create(
               b, loc, table->value.getType(),
               b.getStringAttr("llvm.x86.avx512.permvar.sf.512"),
               ValueRange{table->value, words})
        .getResult(0);
  }
  return Value();
}

Value ComputedEmitter::emit(const ComputedPoint &point, Value scalar) {
  const ContractionSpec &spec = factor.spec;
  ExprPoint coordinates;
  coordinates.axes = axes;
  coordinates.lanes = factor.schedule.lanes;
  coordinates.laneAxes = spec.columns;
  setAxes(spec.columns, index.add(point.panel, point.inside), coordinates.axes);
  // Steps that one knows to share a block of the last axis share its
  // coordinates, and with them what is loaded for the block.
  auto last = spec.inner.empty()
                  ? std::nullopt
                  : graph::constantValue(spec.space.extents[spec.inner.back()]);
  bool isShared = last && *last % point.stepsAlign == 0;
  setAxes(spec.inner,
          isShared ? point.first : index.add(point.first, point.plus),
          coordinates.axes);
  if (isShared) {
    Value &axis = coordinates.axes[spec.inner.back()];
    axis = index.add(axis, point.plus);
  }
  Value function;
  Value known = lookUp(point, coordinates, function);
  expressions.packedLoad = [&](graph::LoadOp load, const ExprPoint &at) {
    return this->load(load, point, at);
  };
  expressions.forget();
  if (known)
    expressions.setValue(function, {known, function.getType()});
  auto value = expressions.emitNext(scalar, coordinates, factor.problem);
  expressions.packedLoad = nullptr;
  if (failed(value))
    return Value();
  return expressions.scalars.broadcast(*value, factor.schedule.lanes).value;
}
