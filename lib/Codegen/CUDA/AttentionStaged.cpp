// Chunks of 16-bit factors on their way to shared memory.
#include "AttentionStaged.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

static constexpr int64_t kWordBytes = 4;

static unsigned registerOf(unsigned i, unsigned j) {
  return j / 2 * 4 + 2 * i + j % 2;
}

AttentionTile::Values StagedTile::toElements(ValueRange registers,
                                             unsigned perRow) {
  Values elements;
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < perRow; ++j)
      elements.push_back(registers[registerOf(i, j)]);
  return elements;
}

AttentionTile::Values StagedTile::toRegisters(ValueRange elements,
                                              unsigned perRow) {
  Values registers(elements.size());
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < perRow; ++j)
      registers[registerOf(i, j)] = elements[i * perRow + j];
  return registers;
}

Value StagedTile::pair(Value low, Value high) {
  Type word = b.getI32Type();
  Value half = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
  high = arith::ShLIOp::create(
      b, loc, arith::ExtUIOp::create(b, loc, word, high), half);
  return arith::OrIOp::create(b, loc, arith::ExtUIOp::create(b, loc, word, low),
                              high);
}

bool StagedTile::isContiguous(const Panel &panel) const {
  return liesInChunks(plan, *panel.operand, panel.along);
}

AttentionRows::Axes StagedTile::axesAt(const Panel &panel, Value at,
                                       Value element) {
  AttentionRows::Axes axes = panel.ofRows ? axesOfRow(at) : axesOfKey(at);
  rows.setAxes(axes, panel.along, element);
  return axes;
}

void StagedTile::copyChunk(const Panel &panel, Value at, Value first,
                           Value inside, Value place) {
  copyChunk(panel, positionOf(panel, at, first), inside, place);
}

Value StagedTile::positionOf(const Panel &panel, Value at, Value first) {
  AttentionRows::Axes axes = axesAt(panel, at, first);
  Value position = rows.at(panel.operand->base, axes);
  for (auto [axis, stride] : llvm::enumerate(panel.operand->strides))
    if (stride != 0)
      position =
          index.add(position, index.mul(axes[axis], rows.at(stride, axes)));
  return position;
}

void StagedTile::copyChunk(const Panel &panel, Value position, Value inside,
                           Value place) {
  if (inside)
    position =
        arith::SelectOp::create(b, loc, inside, position, index.constant(0));
  else
    inside = arith::ConstantOp::create(b, loc, b.getBoolAttr(true));
  copyAsync(b, loc, pointerTo(b, loc, words, kSharedSpace, place),
            pointerTo(b, loc, launch.buffer(panel.operand->operand),
                      kGlobalSpace, index.mul(position, 2)),
            inside);
}

void StagedTile::loadChunk(const Panel &panel, Value at, Value first,
                           Value place) {
  Value total = launch.size(spec.extentOf(panel.along));
  Value exists = index.less(at, panel.ofRows ? totalRows : totalKeys);
  auto load = [&](bool guarded) {
    Values four;
    for (int64_t k = 0; k < kChunk; k += 2) {
      Value elements[2];
      for (int64_t half = 0; half < 2; ++half) {
        Value element = index.add(first, k + half);
        AttentionRows::Axes axes = axesAt(panel, at, element);
        Value inside =
            guarded ? both(exists, index.less(element, total)) : Value();
        elements[half] = storedAt(panel.factor, axes, inside);
      }
      four.push_back(pair(elements[0], elements[1]));
    }
    return four;
  };
  Values four;
  if (*graph::constantValue(spec.extentOf(panel.along)) % kChunk == 0) {
    // Chunks are inside or outside as a whole: their elements have no branch
    // in between, so that loads are wide.
    SmallVector<Type> types(kChunk / 2, b.getI32Type());
    auto choice =
        scf::IfOp::create(b, loc, types, both(exists, index.less(first, total)),
                          /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.elseBlock());
    Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
    scf::YieldOp::create(b, loc, Values(kChunk / 2, zero));
    b.setInsertionPointToStart(choice.thenBlock());
    scf::YieldOp::create(b, loc, load(/*guarded=*/false));
    four.assign(choice.getResults().begin(), choice.getResults().end());
  } else {
    four = load(/*guarded=*/true);
  }
  Value word = index.div(place, index.constant(kWordBytes));
  for (auto [i, bits] : llvm::enumerate(four))
    memref::StoreOp::create(b, loc, bits, words,
                            index.add(word, static_cast<int64_t>(i)));
}
