// Emission of register tiles. The inner loop is what reaches peak: `rows *
// vectors` accumulators live in registers, each step of k loads `vectors`
// vectors of rhs and broadcasts `rows` scalars of lhs at immediate offsets.
#include "ContractionTileBody.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void TileBody::makeMasks(Value columns) {
  auto maskType = VectorType::get({p.lanes}, b.getI1Type());
  if (shape.dynamicTail) {
    for (unsigned v = 0; v < shape.vectors; ++v)
      masks.push_back(vector::CreateMaskOp::create(
          b, loc, maskType,
          index.sub(columns, index.constant(int64_t(v) * p.lanes))));
  } else if (shape.tailLanes) {
    masks.resize(shape.vectors);
    SmallVector<bool> lanes;
    for (unsigned i = 0; i < p.lanes; ++i)
      lanes.push_back(i < shape.tailLanes);
    masks.back() = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(maskType, ArrayRef<bool>(lanes)));
  }
}

Value TileBody::vectorOffset(Value base, unsigned vector) {
  unsigned panel = vector / p.panelVectors;
  if (panel)
    base = index.add(base, index.mul(p.rhsPanel, panel));
  return index.add(base, int64_t(vector % p.panelVectors) * p.lanes * p.group);
}

TileBody::Accumulators
TileBody::loop(Value from, Value to, int64_t by, Accumulators init,
               function_ref<Accumulators(Value, Accumulators)> body) {
  auto first = IndexBuilder::constantOf(from);
  auto last = IndexBuilder::constantOf(to);
  if (first && last && *first >= *last)
    return init;
  if (first && last && *first + by >= *last)
    return body(from, init);
  auto loop = scf::ForOp::create(b, loc, from, to, index.constant(by), init);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Accumulators result =
      body(loop.getInductionVar(), Accumulators(loop.getRegionIterArgs()));
  scf::YieldOp::create(b, loc, result);
  return Accumulators(loop.getResults());
}

Value TileBody::multiplyAdd(Value left, Value right, Value sum) {
  if (p.group > 1)
    return emitGroupedProduct(b, loc, p.form, p.lhsUnsigned, left, right, sum);
  bool isFloat = isa<FloatType>(type.getElementType());
  if (isFloat && !sum)
    return arith::MulFOp::create(b, loc, left, right);
  if (isFloat && p.fma)
    return vector::FMAOp::create(b, loc, left, right, sum);
  if (isFloat)
    return arith::AddFOp::create(b, loc, sum,
                                 arith::MulFOp::create(b, loc, left, right));
  return arith::AddIOp::create(b, loc, sum,
                               arith::MulIOp::create(b, loc, left, right));
}

void TileBody::dots(unsigned width, Value column, Value lhsOffset,
                    Value rhsOffset, Value out, Value outOffset) {
  int64_t steps = int64_t(p.lanes) * p.group; // of k, in a vector
  SmallVector<Value> columnAt;
  for (unsigned c = 0; c < width; ++c)
    columnAt.push_back(
        index.add(rhsOffset, index.mul(index.add(column, c), p.rhsColumn)));
  auto loadFrom = [&](Value memory, Value at, Type element, Value mask) {
    Type stored = cast<MemRefType>(memory.getType()).getElementType();
    auto loadType = VectorType::get({steps}, stored);
    Value value;
    if (mask)
      value = vector::MaskedLoadOp::create(
          b, loc, loadType, memory, at, mask,
          arith::ConstantOp::create(b, loc, b.getZeroAttr(loadType)));
    else
      value = vector::LoadOp::create(b, loc, loadType, memory, at);
    return p.group > 1 ? value
                       : toAccumulator(scalars, value, element, p.accumulator);
  };
  auto stepAt = [&](Value k, Value mask, Accumulators sums) {
    SmallVector<Value> right;
    for (unsigned c = 0; c < width; ++c)
      right.push_back(
          loadFrom(rhs, index.add(columnAt[c], k), p.rhsType, mask));
    // Blocks of rows that are copied are vectors.
    Value leftAt =
        index.mul(index.div(k, index.constant(p.kBlock)), p.lhsBlock);
    for (unsigned r = 0; r < shape.rows; ++r) {
      Value left =
          loadFrom(lhs, index.add(index.add(lhsOffset, rowOffsets[r]), leftAt),
                   p.lhsType, mask);
      for (unsigned c = 0; c < width; ++c) {
        Value &sum = sums[r * width + c];
        sum = multiplyAdd(left, right[c], sum);
      }
    }
    return sums;
  };
  Accumulators sums(shape.rows * width, zeroVector(type.getElementType()));
  Value whole = index.mul(index.div(pass.depth, index.constant(steps)), steps);
  sums = loop(index.constant(0), whole, steps, sums,
              [&](Value k, Accumulators in) {
                return stepAt(k, Value(), std::move(in));
              });
  auto maskType = VectorType::get({steps}, b.getI1Type());
  sums = loop(whole, pass.depth, steps, sums, [&](Value k, Accumulators in) {
    Value mask = vector::CreateMaskOp::create(b, loc, maskType,
                                              index.sub(pass.depth, k));
    return stepAt(k, mask, std::move(in));
  });
  for (unsigned r = 0; r < shape.rows; ++r)
    for (unsigned c = 0; c < width; ++c) {
      Value sum = vector::ReductionOp::create(
          b, loc, vector::CombiningKind::ADD, sums[r * width + c],
          arith::FastMathFlags::reassoc);
      Value at = index.add(index.add(outOffset, index.add(column, c)),
                           index.mul(p.outRow, int64_t(r)));
      memref::StoreOp::create(b, loc, sum, out, at);
    }
}

void TileBody::emitDots(Value lhsOffset, Value rhsOffset, Value out,
                        Value outOffset, Value columns) {
  // Sums, a vector of each column and one of a row fit the registers; one row
  // has no use for the columns' twice.
  unsigned width = kDotColumns;
  while (shape.rows > 1 && width > 2 && width * (shape.rows + 1) >= p.registers)
    width /= 2;
  Value whole = index.mul(index.div(columns, index.constant(width)), width);
  auto group = [&](unsigned wide) {
    return [=, this](Value column) {
      dots(wide, column, lhsOffset, rhsOffset, out, outOffset);
    };
  };
  index.forEach(index.constant(0), whole, width, group(width));
  index.forEach(whole, columns, 1, group(1));
}

Value TileBody::broadcastLhs(unsigned row, Value at) {
  Value memory = rowMemories.empty() ? lhs : rowMemories[row];
  if (p.group == 1) {
    Value scalar = memref::LoadOp::create(b, loc, memory, at);
    scalar = toAccumulator(scalars, scalar, p.lhsType, p.accumulator);
    return vector::BroadcastOp::create(b, loc, type, scalar);
  }
  Type element = cast<MemRefType>(memory.getType()).getElementType();
  Type word = b.getI32Type();
  Value group = vector::LoadOp::create(
      b, loc, VectorType::get({p.group}, element), memory, at);
  Value scalar = vector::ExtractOp::create(
      b, loc,
      vector::BitCastOp::create(b, loc, VectorType::get({1}, word), group),
      ArrayRef<int64_t>{0});
  Value words = vector::BroadcastOp::create(
      b, loc, VectorType::get({p.lanes}, word), scalar);
  return vector::BitCastOp::create(
      b, loc, VectorType::get({p.lanes * p.group}, element), words);
}

Value TileBody::loadRhs(Value rhsAt, unsigned v) {
  Value at = vectorOffset(rhsAt, v);
  Type element = cast<MemRefType>(rhs.getType()).getElementType();
  auto loadType = VectorType::get({p.lanes * p.group}, element);
  Value mask = p.maskRhs ? maskOf(v) : Value();
  Value value;
  if (mask)
    value = vector::MaskedLoadOp::create(b, loc, loadType, rhs, at, mask,
                                         zeroVector(element));
  else
    value = vector::LoadOp::create(b, loc, loadType, rhs, at);
  if (p.prefetch)
    memref::PrefetchOp::create(
        b, loc, rhs,
        p.prefetchAcross
            ? index.add(at, int64_t(shape.vectors) * p.lanes)
            : index.add(at,
                        index.mul(p.rhsStep, int64_t(p.prefetch) * p.group)),
        /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
  return p.group > 1 ? value
                     : toAccumulator(scalars, value, p.rhsType, p.accumulator);
}

Value TileBody::computeRhs(Value scalar, Value k, unsigned plus,
                           unsigned stepsAlign, unsigned v) {
  const ContractionSchedule &s = p.computed->schedule;
  if (!computed) {
    const ContractionSpec &spec = p.computed->spec;
    graph::KernelOp kernel = spec.kernel;
    size_t buffers = spec.rhsLoads.size();
    ValueRange symbols =
        ValueRange(p.surroundings).slice(buffers, kernel.getNumSymbols());
    ValueRange outer =
        ValueRange(p.surroundings).drop_front(buffers + kernel.getNumSymbols());
    SmallVector<Value> axes(spec.space.extents.size(), index.constant(0));
    for (auto [axis, value] : llvm::zip_equal(spec.outer, outer))
      axes[axis] = value;
    auto buffer = [this](unsigned operand) -> Value {
      for (auto [load, memory] :
           llvm::zip(p.computed->spec.rhsLoads, p.surroundings))
        if (load.operand == operand)
          return memory;
      llvm_unreachable("not an operand of rhs");
    };
    expressions.emplace(index, spec.space, symbols, p.scalar, buffer);
    computed.emplace(index, *p.computed, *expressions, symbols, axes, buffer);
  }
  ComputedPoint point;
  Value column = index.add(firstColumn, int64_t(v) * p.lanes);
  // Tiles begin with a panel where they are as wide as some.
  point.inside = s.tileVectors % s.panelVectors == 0
                     ? index.constant(v * p.lanes % s.panelColumns())
                     : index.rem(column, index.constant(s.panelColumns()));
  point.panel = index.sub(column, point.inside);
  point.first = k;
  point.plus = plus;
  point.stepsAlign = stepsAlign;
  Value value = computed->emit(point, scalar);
  return value ? value : zeroVector(type.getElementType());
}

TileBody::Accumulators TileBody::step(Value lhsAt, Value rhsAt, unsigned plus,
                                      Accumulators sums) {
  SmallVector<Value> right;
  for (unsigned v = 0; v < shape.vectors; ++v)
    right.push_back(p.computed ? computeRhs(p.computed->spec.rhs.value, rhsAt,
                                            plus, p.unroll, v)
                               : loadRhs(rhsAt, v));
  return multiply(lhsAt, right, std::move(sums));
}

TileBody::Accumulators TileBody::multiply(Value lhsAt, ArrayRef<Value> right,
                                          Accumulators sums) {
  for (unsigned r = 0; r < shape.rows; ++r) {
    if (!isPadding.empty() && isPadding[r])
      continue;
    Value left = broadcastLhs(r, index.add(lhsAt, rowOffsets[r]));
    for (unsigned v = 0; v < shape.vectors; ++v) {
      Value &sum = sums[r * shape.vectors + v];
      sum = multiplyAdd(left, right[v], sum);
    }
  }
  return sums;
}

/// What later tiles read, at step `k` of this one.
void TileBody::fetchAhead(Value k) {
  if (!ahead)
    return;
  Type element = cast<MemRefType>(rhs.getType()).getElementType();
  int64_t line = 512 / element.getIntOrFloatBitWidth();
  int64_t elements = p.aheadStep * p.unroll * p.group; // until the next fetch
  Value first = index.add(ahead, index.mul(k, p.aheadStep));
  for (unsigned panel = 0; panel < p.aheadPanels; ++panel)
    for (int64_t i = 0; i < elements; i += line)
      memref::PrefetchOp::create(
          b, loc, rhs,
          index.add(index.add(first, index.mul(p.rhsPanel, panel)), i),
          /*isWrite=*/false, /*localityHint=*/2, /*isDataCache=*/true);
}

TileBody::Accumulators TileBody::steps(Value count, Value lhsAt, Value rhsAt,
                                       Value lhsStep, Accumulators sums,
                                       unsigned unroll) {
  auto stepAt = [&](Value k, unsigned plus, Accumulators in) {
    Value left = index.add(index.add(lhsAt, index.mul(k, lhsStep)),
                           index.mul(lhsStep, int64_t(plus)));
    Value right = index.add(rhsAt, index.mul(k, p.rhsStep));
    if (!p.computed)
      right = index.add(right, index.mul(p.rhsStep, int64_t(plus)));
    return hasPairs() ? pairStep(left, right, std::move(in))
                      : step(left, right, plus, std::move(in));
  };
  int64_t by = hasPairs() ? 2 : p.group,
          many =
              llvm::alignTo(int64_t(unroll ? unroll : p.unroll) * p.group, by);
  Value whole = index.mul(index.div(count, index.constant(many)), many);
  sums =
      loop(index.constant(0), whole, many, sums, [&](Value k, Accumulators in) {
        fetchAhead(index.add(begun, k));
        for (int64_t plus = 0; plus < many; plus += by)
          in = stepAt(k, plus, std::move(in));
        return in;
      });
  auto begin = IndexBuilder::constantOf(whole),
       end = IndexBuilder::constantOf(count);
  if (begin && end) {
    for (int64_t k = *begin; k < *end; k += by)
      sums = stepAt(whole, k - *begin, std::move(sums));
    return sums;
  }
  return loop(whole, count, by, sums, [&](Value k, Accumulators in) {
    return stepAt(k, 0, std::move(in));
  });
}

Value TileBody::outAt(Value outOffset, unsigned row, unsigned vector) {
  return index.add(index.add(outOffset, index.mul(p.outRow, int64_t(row))),
                   int64_t(vector) * p.lanes);
}

TileBody::Accumulators TileBody::initialSums() {
  Accumulators sums(shape.rows * shape.vectors,
                    zeroVector(type.getElementType()));
  auto columnsOf = [&](Value memory, unsigned v) -> Value {
    if (!memory)
      return {};
    return vector::LoadOp::create(b, loc, type, memory,
                                  index.add(termColumn, int64_t(v) * p.lanes));
  };
  auto rowOf = [&](Value memory, unsigned r) -> Value {
    Value scalar =
        memref::LoadOp::create(b, loc, memory, index.add(termRow, r));
    return vector::BroadcastOp::create(b, loc, type, scalar);
  };
  if (!p.hasTerms())
    return sums;
  for (unsigned v = 0; v < shape.vectors; ++v) {
    Value term = columnsOf(p.columnTerm, v), zero = columnsOf(p.columnZero, v);
    for (unsigned r = 0; r < shape.rows; ++r) {
      Value &sum = sums[r * shape.vectors + v];
      if (term)
        sum = p.rowZero
                  ? arith::MulIOp::create(b, loc, rowOf(p.rowZero, r), term)
                  : term;
      if (!p.rowSum)
        continue;
      Value less = rowOf(p.rowSum, r);
      if (zero)
        less = arith::MulIOp::create(b, loc, less, zero);
      sum = arith::SubIOp::create(b, loc, sum, less);
    }
  }
  return sums;
}

TileBody::Accumulators TileBody::start(Value out, Value outOffset) {
  // The tile is written long after this: by then its lines have come. Sums that
  // go on are read at once: theirs came with the tile before.
  Value from = pass.outAhead ? index.add(outOffset, pass.outAhead) : outOffset;
  for (unsigned r = 0; r < shape.rows; ++r)
    for (unsigned v = 0; v < shape.vectors; ++v)
      memref::PrefetchOp::create(b, loc, out, outAt(from, r, v),
                                 /*isWrite=*/true, /*localityHint=*/3,
                                 /*isDataCache=*/true);
  if (!pass.accumulate)
    return initialSums();
  SmallVector<Type> types(shape.rows * shape.vectors, type);
  auto branch = scf::IfOp::create(b, loc, types, pass.accumulate,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  Accumulators sums;
  for (unsigned r = 0; r < shape.rows; ++r)
    for (unsigned v = 0; v < shape.vectors; ++v) {
      Value at = outAt(outOffset, r, v);
      if (Value mask = maskOf(v))
        sums.push_back(vector::MaskedLoadOp::create(
            b, loc, type, out, at, mask, zeroVector(type.getElementType())));
      else
        sums.push_back(vector::LoadOp::create(b, loc, type, out, at));
    }
  spreadPairs(sums);
  scf::YieldOp::create(b, loc, sums);
  b.setInsertionPointToStart(branch.elseBlock());
  scf::YieldOp::create(b, loc, initialSums());
  return Accumulators(branch.getResults());
}

void TileBody::store(const Accumulators &sums, Value out, Value outOffset) {
  for (unsigned r = 0; r < shape.rows; ++r)
    for (unsigned v = 0; v < shape.vectors; ++v) {
      Value at = outAt(outOffset, r, v);
      Value sum = sums[r * shape.vectors + v];
      if (Value mask = p.maskOut ? maskOf(v) : Value())
        vector::MaskedStoreOp::create(b, loc, out, at, mask, sum);
      else
        vector::StoreOp::create(b, loc, sum, out, at);
    }
}

void TileBody::emit(Value lhsMemory, Value lhsOffset, Value rhsMemory,
                    Value rhsOffset, Value out, Value outOffset, Value columns,
                    Value firstTermRow, Value firstTermColumn,
                    Value fetchedAhead) {
  ahead = fetchedAhead;
  begun = index.constant(0);
  lhs = lhsMemory;
  rhs = rhsMemory;
  termRow = firstTermRow;
  termColumn = firstTermColumn;
  for (unsigned r = 0; r < shape.rows; ++r)
    rowOffsets.push_back(index.mul(p.lhsRow, int64_t(r)));
  if (p.dot)
    return emitDots(lhsOffset, rhsOffset, out, outOffset, columns);
  makeMasks(columns);
  if (p.computed) { // from here on rhs is walked by steps of k
    firstColumn = rhsOffset;
    rhsOffset = index.constant(0);
  }
  Accumulators sums = start(out, outOffset);
  Value one = index.constant(1);
  if (p.scalesSums) {
    sums = scaledSteps(lhsOffset, std::move(sums));
  } else if (p.indirect) {
    sums = indirectSteps(lhsOffset, rhsOffset, std::move(sums));
  } else if (p.kBlock == 1) {
    sums = steps(pass.depth, lhsOffset, rhsOffset, p.lhsBlock, sums);
  } else {
    Value block = index.constant(p.kBlock);
    Value blocks = index.div(pass.depth, block);
    Value blockRhs = index.mul(p.rhsStep, block);
    sums =
        loop(index.constant(0), blocks, 1, sums, [&](Value q, Accumulators in) {
          begun = index.mul(q, block);
          return steps(block, index.add(lhsOffset, index.mul(q, p.lhsBlock)),
                       index.add(rhsOffset, index.mul(q, blockRhs)), one, in);
        });
    begun = index.mul(blocks, block);
    sums = steps(index.sub(pass.depth, begun),
                 index.add(lhsOffset, index.mul(blocks, p.lhsBlock)),
                 index.add(rhsOffset, index.mul(blocks, blockRhs)), one, sums);
  }
  addPairs(sums);
  if (!p.epilogue)
    return store(sums, out, outOffset);
  if (!result.isLast)
    return finish(sums);
  auto branch =
      scf::IfOp::create(b, loc, result.isLast, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  finish(sums);
  b.setInsertionPointToStart(branch.elseBlock());
  store(sums, out, outOffset);
}

func::FuncOp TileEmitter::create(TileShape shape, Value depth, Type lhs,
                                 Type rhs, Type out) {
  OpBuilder b(module.getContext());
  Location loc = module.getLoc();
  std::string name = prefix + ".tile" + std::to_string(shape.rows) + "x" +
                     std::to_string(shape.vectors);
  if (shape.dynamicTail)
    name += "d";
  else if (shape.tailLanes)
    name += "t" + std::to_string(shape.tailLanes);
  Type i = b.getIndexType();
  SmallVector<Type> inputs{lhs, i, rhs, i, out, i, i};
  TileParams inside = params;
  TilePass pass{depth, Value()};
  Value *values[] = {&pass.depth,      &inside.lhsRow,   &inside.lhsBlock,
                     &inside.rhsStep,  &inside.rhsPanel, &inside.outRow,
                     &inside.rhsColumn};
  for (Value *value : values)
    if (*value && !IndexBuilder::constantOf(*value))
      inputs.push_back(i);
  for (Value value : params.surroundings)
    inputs.push_back(value.getType());
  Value *terms[] = {&inside.rowZero, &inside.columnTerm, &inside.rowSum,
                    &inside.columnZero};
  if (params.hasTerms()) {
    for (Value *term : terms)
      if (*term)
        inputs.push_back(term->getType());
    inputs.append(2, i);
  }
  for (Value value : params.epilogueValues)
    inputs.push_back(value.getType());
  bool hasFirst = params.accumulates && params.indirect;
  if (params.epilogue)
    inputs.append(3, i);
  if (params.epilogue && params.accumulates)
    inputs.push_back(b.getI1Type());
  if (params.accumulates)
    inputs.append({b.getI1Type(), i});
  if (hasFirst)
    inputs.push_back(i);
  if (params.aheadPanels)
    inputs.push_back(i);
  b.setInsertionPointToEnd(module.getBody());
  auto function =
      func::FuncOp::create(b, loc, name, b.getFunctionType(inputs, {}));
  function.setPrivate();
  for (unsigned argument : {0, 2, 4})
    if (argument != 4 || !params.epilogue) // that stores to the results
      function.setArgAttr(argument, "llvm.noalias", b.getUnitAttr());
  b.setInsertionPointToStart(function.addEntryBlock());
  unsigned next = 7;
  IndexBuilder index(b, loc);
  for (Value *value : values) {
    if (!*value)
      continue;
    auto constant = IndexBuilder::constantOf(*value);
    *value = constant ? index.constant(*constant)
                      : Value(function.getArgument(next++));
  }
  auto enter = [&](SmallVectorImpl<Value> &outside) {
    for (Value &value : outside) {
      auto constant = IndexBuilder::constantOf(value);
      Value argument = function.getArgument(next++);
      value = constant ? index.constant(*constant) : argument;
    }
  };
  enter(inside.surroundings);
  Value termRow, termColumn;
  if (params.hasTerms()) {
    for (Value *term : terms)
      if (*term)
        *term = function.getArgument(next++);
    termRow = function.getArgument(next++);
    termColumn = function.getArgument(next++);
  }
  enter(inside.epilogueValues);
  TileResult result;
  if (params.epilogue)
    for (Value *value : {&result.offset, &result.row, &result.column})
      *value = function.getArgument(next++);
  if (params.epilogue && params.accumulates)
    result.isLast = function.getArgument(next++);
  if (params.accumulates) {
    pass.accumulate = function.getArgument(next++);
    pass.outAhead = function.getArgument(next++);
  }
  if (hasFirst)
    pass.first = function.getArgument(next++);
  Value ahead =
      params.aheadPanels ? Value(function.getArgument(next)) : Value();
  if (isTileForm(params.form)) {
    emitMatrixTile(index, inside, shape, pass,
                   ValueRange(function.getArguments()).take_front(6), termRow,
                   termColumn);
    func::ReturnOp::create(b, loc);
    return function;
  }
  TileBody(b, loc, inside, shape, pass, result)
      .emit(function.getArgument(0), function.getArgument(1),
            function.getArgument(2), function.getArgument(3),
            function.getArgument(4), function.getArgument(5),
            function.getArgument(6), termRow, termColumn, ahead);
  func::ReturnOp::create(b, loc);
  return function;
}

void TileEmitter::call(IndexBuilder &index, TileShape shape, TilePass pass,
                       Value lhs, Value lhsOffset, Value rhs, Value rhsOffset,
                       Value out, Value outOffset, Value columns, Value termRow,
                       Value termColumn, Value ahead, TileResult result) {
  func::FuncOp &function = functions[shape.key()];
  if (!function)
    function =
        create(shape, pass.depth, lhs.getType(), rhs.getType(), out.getType());
  SmallVector<Value> arguments{lhs, lhsOffset, rhs,    rhsOffset,
                               out, outOffset, columns};
  for (Value value :
       {pass.depth, params.lhsRow, params.lhsBlock, params.rhsStep,
        params.rhsPanel, params.outRow, params.rhsColumn})
    if (value && !IndexBuilder::constantOf(value))
      arguments.push_back(value);
  llvm::append_range(arguments, params.surroundings);
  if (params.hasTerms()) {
    for (Value term :
         {params.rowZero, params.columnTerm, params.rowSum, params.columnZero})
      if (term)
        arguments.push_back(term);
    arguments.append({termRow, termColumn});
  }
  llvm::append_range(arguments, params.epilogueValues);
  if (params.epilogue)
    arguments.append({result.offset, result.row, result.column});
  if (params.epilogue && params.accumulates)
    arguments.push_back(result.isLast);
  if (params.accumulates)
    arguments.append({pass.accumulate, pass.outAhead});
  if (params.accumulates && params.indirect)
    arguments.push_back(pass.first);
  if (params.aheadPanels)
    arguments.push_back(ahead);
  func::CallOp::create(index.builder(), index.loc(), function, arguments);
}
