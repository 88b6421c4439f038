// Parts of a contraction's tile.
#include "ContractionTile.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

Value ContractionTile::count(ArrayRef<unsigned> axes) {
  return launch.size(extentOf(stage, axes));
}

void ContractionTile::setAxes(SmallVectorImpl<Value> &coordinates,
                              ArrayRef<unsigned> axes, Value linear) {
  SmallVector<Value> extents;
  for (unsigned axis : axes)
    extents.push_back(launch.size(stage.getDomainDims()[axis]));
  for (auto [axis, coordinate] :
       llvm::zip_equal(axes, index.delinearize(linear, extents)))
    coordinates[axis] = coordinate;
}

// Row by row; with wgmma, whose tiles are large, in bands of so many rows that
// what the device's blocks read at a time is about as high as wide: most of it
// comes from the second-level cache.
std::pair<Value, Value> ContractionTile::tileAt(Value number, Value rowTiles,
                                                Value columnTiles) {
  if (!c.usesWarpGroups())
    return {index.div(number, columnTiles), index.rem(number, columnTiles)};
  constexpr int64_t bandRows = 2048;
  Value height = index.constant(bandRows / c.tileRows);
  Value size = index.mul(height, columnTiles);
  Value first = index.mul(index.div(number, size), height);
  Value inBand = index.rem(number, size);
  Value rows = index.min(height, index.sub(rowTiles, first));
  return {index.add(first, index.rem(inBand, rows)), index.div(inBand, rows)};
}

void ContractionTile::begin() {
  Value rowTiles = index.ceilDiv(count(c.rowAxes), index.constant(c.tileRows));
  Value columnTiles =
      index.ceilDiv(count(c.columnAxes), index.constant(c.tileColumns));
  SmallVector<Value> extents{count(c.batchAxes),
                             index.mul(rowTiles, columnTiles)};
  if (c.stepsAPart)
    extents.insert(extents.begin(), index.constant(countParts(c)));
  SmallVector<Value> tile = index.delinearize(launch.block(), extents);
  batch.assign(stage.getDomainRank(), index.constant(0));
  setAxes(batch, c.batchAxes, tile.end()[-2]);
  auto [row, column] = tileAt(tile.back(), rowTiles, columnTiles);
  firstRow = index.mul(row, index.constant(c.tileRows));
  firstColumn = index.mul(column, index.constant(c.tileColumns));
  depth = launch.size(product(stage.getContext(), stage.getReduceDims()));
  firstStep = index.constant(0);
  if (c.stepsAPart) {
    firstStep = index.mul(tile[0], c.stepsAPart);
    depth = index.min(depth, index.add(firstStep, c.stepsAPart));
  }
}

Value ContractionTile::sumStart() {
  if (c.stepsAPart) // the launch that adds parts has the stage's own start
    return arith::ConstantOp::create(b, loc,
                                     b.getZeroAttr(stage.getElementType()));
  return emitter.foldStart(stage).value;
}

Value ContractionTile::isInside(ArrayRef<unsigned> axes, Value at,
                                Value atDepth) {
  Value inDepth = index.less(atDepth, depth);
  int64_t tile = axes == ArrayRef(c.rowAxes) ? c.tileRows : c.tileColumns;
  // Whole tiles hold nothing else.
  if (auto extent = constantValue(extentOf(stage, axes));
      extent && *extent % tile == 0)
    return inDepth;
  return arith::AndIOp::create(b, loc, index.less(at, count(axes)), inDepth);
}

SmallVector<Value> ContractionTile::coordinatesAt(ArrayRef<unsigned> axes,
                                                  Value at, Value atDepth) {
  SmallVector<Value> coordinates(batch);
  setAxes(coordinates, axes, at);
  llvm::append_range(coordinates, stepCoordinates(atDepth));
  return coordinates;
}

FailureOr<Scalar> ContractionTile::factorAt(Value factor,
                                            ArrayRef<unsigned> axes, Value at,
                                            Value atDepth) {
  FailureOr<Scalar> value =
      emitter.scalar(stage, coordinatesAt(axes, at, atDepth), factor);
  failedInside |= failed(value);
  return value;
}

void ContractionTile::dealOut(int64_t count,
                              llvm::function_ref<void(Value)> body) {
  int64_t threads = c.threads;
  for (int64_t begin = 0; begin < count; begin += threads) {
    Value i = index.add(launch.thread(), begin);
    if (begin + threads <= count)
      body(i);
    else
      launch.onlyIf(index.less(i, index.constant(count)), [&] { body(i); });
  }
}

void ContractionTile::copyPart(LoadOp load, ArrayRef<unsigned> axes, Value at,
                               Value atDepth, Value words, Value place,
                               int64_t bytes) {
  SmallVector<Value> coordinates = coordinatesAt(axes, at, atDepth);
  SmallVector<Value> used;
  for (Value coordinate : load.getCoords())
    used.push_back(coordinates[cast<BlockArgument>(coordinate).getArgNumber()]);
  StageEmitter::LoadPlace from = emitter.placeOf(load, used);
  Value reads = isInside(axes, at, atDepth);
  if (from.holds)
    reads = arith::AndIOp::create(b, loc, reads, from.holds);
  // An address that nothing is read from may be any.
  int64_t elementBytes = graph::elementBytes(load.getType());
  copyAsync(b, loc, pointerTo(b, loc, words, kSharedSpace, place),
            pointerTo(b, loc, from.memory, kGlobalSpace,
                      index.mul(from.position, elementBytes)),
            reads, bytes);
}

//===----------------------------------------------------------------------===//
// Parts of places
//===----------------------------------------------------------------------===//

Value ContractionTile::linearPlace(const PlaceParts &parts,
                                   ArrayRef<AffineExpr> map,
                                   ValueRange coordinates) {
  LoadOp load = parts.load;
  SmallVector<Value> point = llvm::map_to_vector(map, [&](AffineExpr expr) {
    return index.expr(expr, coordinates, launch.symbols());
  });
  return emitter.linear(point, getDims(load.getTensor().getType()));
}

Value ContractionTile::word(int64_t value) {
  return arith::ConstantIntOp::create(b, loc, b.getI32Type(), value);
}

PlacePart ContractionTile::elementPart(const PlaceParts &parts,
                                       ArrayRef<unsigned> axes, Value at) {
  SmallVector<Value> coordinates(batch);
  setAxes(coordinates, axes, at);
  coordinates.append(stage.getReduceRank(), index.constant(0));
  auto fails = [&](const PlaceParts::Guard &guard, Value tap, unsigned axis) {
    SmallVector<Value> point(coordinates);
    if (tap)
      point[axis] = tap;
    Value sum =
        index.add(index.expr(guard.element, coordinates, launch.symbols()),
                  index.expr(guard.step, point, launch.symbols()));
    auto predicate =
        guard.isEquality ? arith::CmpIPredicate::ne : arith::CmpIPredicate::slt;
    return arith::CmpIOp::create(b, loc, predicate, sum, index.constant(0))
        .getResult();
  };
  Value bits = word(INT32_MIN);
  static_assert(kNoTap == 31);
  auto addIf = [&](Value condition, int32_t more) {
    Value either =
        arith::SelectOp::create(b, loc, condition, word(more), word(0));
    bits = arith::OrIOp::create(b, loc, bits, either);
  };
  addIf(index.atLeast(at, count(axes)), -1);
  for (const PlaceParts::Guard &guard : parts.guards) {
    const auto *taps =
        llvm::find_if(parts.taps, [&](const PlaceParts::Taps &taps) {
          return guard.step.isFunctionOfDim(taps.axis);
        });
    if (taps == parts.taps.end()) {
      addIf(fails(guard, Value(), 0), -1);
      continue;
    }
    for (int64_t tap = 0; tap < taps->count; ++tap)
      addIf(fails(guard, index.constant(tap), taps->axis),
            int32_t(1u << (taps->firstBit + tap)));
  }
  return {linearPlace(parts, parts.element, coordinates), bits};
}

// Divisions of 64 bits are long: where the fold is known to be short, of 32.
SmallVector<Value> ContractionTile::stepCoordinates(Value atDepth) {
  SmallVector<Value> extents = launch.sizes(stage.getReduceDims());
  auto all = constantValue(product(stage.getContext(), stage.getReduceDims()));
  if (!all || *all > INT32_MAX / 2)
    return index.delinearize(atDepth, extents);
  Type half = b.getI32Type();
  Value rest = arith::IndexCastOp::create(b, loc, half, atDepth);
  SmallVector<Value> coordinates(extents.size());
  for (size_t axis = extents.size(); axis-- > 0;) {
    Value size = word(*IndexBuilder::constantOf(extents[axis])), at = rest;
    if (axis) {
      at = arith::RemUIOp::create(b, loc, rest, size);
      rest = arith::DivUIOp::create(b, loc, rest, size);
    }
    coordinates[axis] =
        arith::IndexCastUIOp::create(b, loc, b.getIndexType(), at);
  }
  return coordinates;
}

PlacePart ContractionTile::stepPart(const PlaceParts &parts, Value atDepth) {
  SmallVector<Value> coordinates(stage.getDomainRank(), index.constant(0));
  llvm::append_range(coordinates, stepCoordinates(atDepth));
  Value bits = word(1 << kAnyTap);
  for (const PlaceParts::Taps &taps : parts.taps) {
    Value tap = arith::IndexCastOp::create(b, loc, b.getI32Type(),
                                           coordinates[taps.axis]);
    bits = arith::OrIOp::create(
        b, loc, bits,
        arith::ShLIOp::create(b, loc, word(int32_t(1u << taps.firstBit)), tap));
  }
  bits = arith::SelectOp::create(b, loc, index.less(atDepth, depth), bits,
                                 word(INT32_MIN));
  return {linearPlace(parts, parts.step, coordinates), bits};
}

void ContractionTile::storePart(Value table, Value i, PlacePart part) {
  Value first = index.mul(i, 2);
  Value offset =
      arith::IndexCastOp::create(b, loc, b.getI32Type(), part.offset);
  memref::StoreOp::create(b, loc, offset, table, first);
  memref::StoreOp::create(b, loc, part.bits, table, index.add(first, 1));
}

PlacePart ContractionTile::loadPart(Value pointer) {
  Value both = LLVM::LoadOp::create(
      b, loc, VectorType::get({2}, b.getI32Type()), pointer, kPlaceBytes);
  auto part = [&](int64_t number) -> Value {
    return LLVM::ExtractElementOp::create(b, loc, both, word(number));
  };
  return {arith::IndexCastOp::create(b, loc, b.getIndexType(), part(0)),
          part(1)};
}

Value ContractionTile::mayRead(PlacePart x, PlacePart y) {
  Value common = arith::AndIOp::create(b, loc, x.bits, y.bits);
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, common,
                               word(0));
}

Value ContractionTile::makeTable(bool isLeft) {
  int64_t entries = tableEntries(c, isLeft);
  int64_t words = entries * kPlaceBytes / 4;
  return entries ? launch.shared(b.getI32Type(), words) : Value();
}

Value ContractionTile::firstEntry(Value panelNumber) {
  return index.mul(index.rem(panelNumber, index.constant(2)), c.panelSteps);
}

void ContractionTile::fillStepTables(ArrayRef<StepTable> tables,
                                     Value panelNumber) {
  if (tables.empty())
    return;
  Value isStep = index.less(launch.thread(), index.constant(c.panelSteps));
  launch.onlyIf(isStep, [&] {
    Value atDepth =
        index.add(index.mul(panelNumber, c.panelSteps), launch.thread());
    Value entry = index.add(firstEntry(panelNumber), launch.thread());
    for (auto [parts, table] : tables)
      storePart(table, entry, stepPart(*parts, atDepth));
  });
}

Value ContractionTile::addressOf(const PlaceParts &parts, Value offset) {
  LoadOp load = parts.load;
  return pointerTo(b, loc, emitter.memoryOf(load.getTensor()), kGlobalSpace,
                   index.mul(offset, graph::elementBytes(load.getType())));
}

Value ContractionTile::behind(Value pointer, Type type, Value elements) {
  Value offset = arith::IndexCastOp::create(b, loc, b.getI64Type(), elements);
  return LLVM::GEPOp::create(b, loc, pointer.getType(), type, pointer,
                             ArrayRef<LLVM::GEPArg>{offset});
}

Value ContractionTile::behind(Value pointer, int64_t bytes) {
  if (!bytes)
    return pointer;
  return behind(pointer, b.getI8Type(), index.constant(bytes));
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

// A row of shared memory has one word more than the tile, so that columns can
// be read as fast as rows: where the result's innermost axis is one of the
// rows', neighbour threads take neighbour rows.
void ContractionTile::storeTile(
    Value words, int64_t rowsAPass,
    llvm::function_ref<void(Value firstOfPass, StoreSum put)> scatter,
    StoreElements store, AdjustSum adjust) {
  Type word = b.getI32Type(), type = stage.getElementType();
  auto toType = [&](Value value, Type wanted) -> Value {
    if (value.getType() == wanted)
      return value;
    return arith::BitcastOp::create(b, loc, wanted, value);
  };
  Value pitch = index.constant(rowPitch(c));
  bool alongRows = llvm::is_contained(c.rowAxes, stage.getDomainRank() - 1);
  const int64_t atOnce = elementsAtOnce(c);
  Value inner = index.constant(alongRows ? rowsAPass : c.tileColumns / atOnce);
  for (int64_t first = 0; first < c.tileRows; first += rowsAPass) {
    if (first) // the pass before has been read
      launch.barrier();
    Value firstOfPass = index.constant(first);
    auto put = [&](Value row, Value column, Value sum) {
      Value place =
          index.add(index.mul(index.sub(row, firstOfPass), pitch), column);
      memref::StoreOp::create(b, loc, toType(sum, word), words, place);
    };
    scatter(firstOfPass, put);
    launch.barrier();
    launch.loop(
        launch.thread(), index.constant(rowsAPass * c.tileColumns / atOnce),
        index.constant(c.threads), [&](Value i) {
          Value row = index.div(i, inner), column = index.rem(i, inner);
          if (alongRows)
            std::swap(row, column);
          column = index.mul(column, atOnce);
          Value place = index.add(index.mul(row, pitch), column);
          SmallVector<Value> sums;
          for (int64_t k = 0; k < atOnce; ++k)
            sums.push_back(toType(
                memref::LoadOp::create(b, loc, words, index.add(place, k)),
                type));
          storeAt(index.add(row, firstOfPass), column, sums, store, adjust);
        });
  }
}

void ContractionTile::storeAt(Value rowInTile, Value columnInTile,
                              ArrayRef<Value> sums, StoreElements store,
                              AdjustSum adjust) {
  Value row = index.add(firstRow, rowInTile),
        column = index.add(firstColumn, columnInTile);
  Value isInside =
      arith::AndIOp::create(b, loc, index.less(row, count(c.rowAxes)),
                            index.less(column, count(c.columnAxes)));
  launch.onlyIf(isInside, [&] {
    SmallVector<Value> point(batch);
    setAxes(point, c.rowAxes, row);
    setAxes(point, c.columnAxes, column);
    SmallVector<Scalar> elements;
    for (Value sum : sums)
      elements.push_back({sum, stage.getElementType()});
    if (adjust)
      elements[0].value = adjust(rowInTile, columnInTile, point, sums[0]);
    store(elements, point);
  });
}
