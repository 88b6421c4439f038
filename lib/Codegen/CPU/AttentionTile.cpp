// Emission of the attention nest's register tiles.
#include "AttentionTile.h"

#include "dlc/Codegen/CPU/ContractionTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

namespace {
struct Tile {
  OpBuilder &b;
  Location loc;
  IndexBuilder &index;
  unsigned height, vectors, lanes;
  bool pairs;
  VectorType type;
  AttentionTiles::Factor a;
  AttentionTiles::Place in;
  using Sums = SmallVector<Value>;

  Sums step(Value k, Sums sums) {
    SmallVector<Value> right;
    Value row = index.add(in.offset, index.mul(k, int64_t(vectors) * lanes));
    for (unsigned v = 0; v < vectors; ++v)
      right.push_back(vector::LoadOp::create(
          b, loc, type, in.memory, index.add(row, int64_t(v) * lanes)));
    Value at = index.add(a.offset, index.mul(k, a.step));
    for (unsigned h = 0; h < height; ++h) {
      Value element = memref::LoadOp::create(
          b, loc, a.memory, index.add(at, index.mul(a.row, int64_t(h))));
      Value left = vector::BroadcastOp::create(b, loc, type, element);
      for (unsigned v = 0; v < vectors; ++v) {
        Value &sum = sums[h * vectors + v];
        sum = pairs ? emitGroupedProduct(b, loc, ProductForm::Bf16Pairs,
                                         /*leftUnsigned=*/false, left, right[v],
                                         sum)
                    : vector::FMAOp::create(b, loc, left, right[v], sum);
      }
    }
    return sums;
  }

  Sums loop(Value from, Value to, int64_t by, Sums sums,
            function_ref<Sums(Value, Sums)> body) {
    auto first = IndexBuilder::constantOf(from),
         last = IndexBuilder::constantOf(to);
    if (first && last && *first >= *last)
      return sums;
    if (first && last && *first + by >= *last)
      return body(from, sums);
    auto loop = scf::ForOp::create(b, loc, from, to, index.constant(by), sums);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Sums next = body(loop.getInductionVar(), Sums(loop.getRegionIterArgs()));
    scf::YieldOp::create(b, loc, next);
    return Sums(loop.getResults());
  }
};
} // namespace

func::FuncOp AttentionTiles::create(unsigned height, Value depth,
                                    const Factor &a, Type memory) {
  OpBuilder b(module.getContext());
  Location loc = module.getLoc();
  Type i = b.getIndexType();
  // a, its offset, b, its offset, out, its offset, scale, its offset; then
  // what is no constant of row, step and depth.
  SmallVector<Type> inputs{
      a.memory.getType(), i, memory, i, memory, i, memory, i};
  Factor inside = a;
  Value *values[] = {&inside.row, &inside.step, &depth};
  for (Value *value : values)
    if (!IndexBuilder::constantOf(*value))
      inputs.push_back(i);
  b.setInsertionPointToEnd(module.getBody());
  auto function = func::FuncOp::create(b, loc,
                                       prefix + "." + std::to_string(height) +
                                           "x" + std::to_string(vectors),
                                       b.getFunctionType(inputs, {}));
  function.setPrivate();
  b.setInsertionPointToStart(function.addEntryBlock());
  IndexBuilder index(b, loc);
  unsigned next = 8;
  for (Value *value : values) {
    auto constant = IndexBuilder::constantOf(*value);
    *value = constant ? index.constant(*constant)
                      : Value(function.getArgument(next++));
  }
  inside.memory = function.getArgument(0);
  inside.offset = function.getArgument(1);
  auto type = VectorType::get({lanes}, b.getF32Type());
  Tile tile{b,       loc,
            index,   height,
            vectors, lanes,
            pairs,   type,
            inside,  {function.getArgument(2), function.getArgument(3)}};
  Value out = function.getArgument(4), outOffset = function.getArgument(5);
  auto outAt = [&](unsigned h, unsigned v) {
    return index.add(outOffset, (int64_t(h) * vectors + v) * int64_t(lanes));
  };
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  Tile::Sums sums(height * vectors, zero);
  if (accumulates) {
    SmallVector<Value> scales;
    for (unsigned v = 0; v < vectors; ++v)
      scales.push_back(vector::LoadOp::create(
          b, loc, type, function.getArgument(6),
          index.add(function.getArgument(7), int64_t(v) * lanes)));
    for (unsigned h = 0; h < height; ++h)
      for (unsigned v = 0; v < vectors; ++v)
        sums[h * vectors + v] = arith::MulFOp::create(
            b, loc, vector::LoadOp::create(b, loc, type, out, outAt(h, v)),
            scales[v]);
  }
  Value whole = index.mul(index.div(depth, index.constant(unroll)), unroll);
  sums = tile.loop(index.constant(0), whole, unroll, sums,
                   [&](Value k, Tile::Sums in) {
                     for (unsigned u = 0; u < unroll; ++u)
                       in = tile.step(index.add(k, u), std::move(in));
                     return in;
                   });
  sums = tile.loop(whole, depth, 1, sums, [&](Value k, Tile::Sums in) {
    return tile.step(k, std::move(in));
  });
  for (unsigned h = 0; h < height; ++h)
    for (unsigned v = 0; v < vectors; ++v)
      vector::StoreOp::create(b, loc, sums[h * vectors + v], out, outAt(h, v));
  func::ReturnOp::create(b, loc);
  return function;
}

void AttentionTiles::call(IndexBuilder &index, unsigned height, Value first,
                          Value depth, Factor a, Place b, Place out,
                          Place scale) {
  func::FuncOp &function = functions[height];
  if (!function)
    function = create(height, depth, a, b.memory.getType());
  int64_t width = int64_t(vectors) * lanes;
  SmallVector<Value> arguments{
      a.memory,     index.add(a.offset, index.mul(first, a.row)),
      b.memory,     b.offset,
      out.memory,   index.add(out.offset, index.mul(first, width)),
      scale.memory, scale.offset};
  for (Value value : {a.row, a.step, depth})
    if (!IndexBuilder::constantOf(value))
      arguments.push_back(value);
  func::CallOp::create(index.builder(), index.loc(), function, arguments);
}

void AttentionTiles::emit(IndexBuilder &index, unsigned height, Value count,
                          Value depth, Factor a, Place b, Place out,
                          Place scale) {
  auto rows = IndexBuilder::constantOf(count);
  if (rows) {
    // Tiles of equal height, or one less.
    int64_t tiles = (*rows + height - 1) / height, at = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      int64_t here = *rows / tiles + (tile < *rows % tiles);
      call(index, here, index.constant(at), depth, a, b, out, scale);
      at += here;
    }
    return;
  }
  Value whole = index.mul(index.div(count, index.constant(height)), height);
  index.forEach(index.constant(0), whole, height, [&](Value first) {
    call(index, height, first, depth, a, b, out, scale);
  });
  // The rest: a power of two at a time.
  Value first = whole;
  for (unsigned part = llvm::PowerOf2Ceil(height) / 2; part >= 1; part /= 2) {
    if (part >= height)
      continue;
    Value left = index.sub(count, first);
    Value taken = index.mul(index.div(left, index.constant(part)), part);
    // Less than twice `part` rows are left.
    auto branch = scf::IfOp::create(index.builder(), index.loc(),
                                    index.atLeast(left, index.constant(part)));
    {
      OpBuilder::InsertionGuard guard(index.builder());
      index.builder().setInsertionPointToStart(branch.thenBlock());
      call(index, part, first, depth, a, b, out, scale);
    }
    first = index.add(first, taken);
  }
}
