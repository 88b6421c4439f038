//===- MoveConstants.cpp - weights in another order -----------------------===//
//
// Weights that operators keep in another order than the kernels want (those of
// transposed convolutions, of gates one behind the other) are copied when the
// model is compiled, whatever their size: a kernel that moved them would do so
// in every run, and products with what it makes would pack it in every run.
//
//===----------------------------------------------------------------------===//

#include "GraphBuilder.h"

#include "dlc/Dialect/Graph/IR/ConstantBytes.h"

using namespace dlc;
using namespace mlir;
using graph::ByteStrides;
using graph::copyElements;

static int64_t sizeOf(Value x) {
  return static_cast<int64_t>(graph::elementBytes(
      cast<RankedTensorType>(x.getType()).getElementType()));
}

/// What the operator makes of its operand's bytes, if it only moves them.
static std::optional<std::vector<char>> move(Operation *op,
                                             ArrayRef<char> bytes) {
  auto shapeOf = [](Value x) {
    return cast<RankedTensorType>(x.getType()).getShape();
  };
  Value x = op->getOperand(0), y = op->getResult(0);
  ArrayRef<int64_t> shape = shapeOf(y);
  int64_t size = sizeOf(x);
  ByteStrides in = ByteStrides::rowMajor(shapeOf(x), size),
              out = ByteStrides::rowMajor(shape, size);
  int64_t count = size;
  for (int64_t n : shape)
    count *= n;
  std::vector<char> moved(static_cast<size_t>(count), 0);
  if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
    ByteStrides from;
    for (int64_t axis : transpose.getPerm())
      from.steps.push_back(in.steps[axis]);
    copyElements(shape, size, bytes.data(), from, moved.data(), out);
    return moved;
  }
  if (auto slice = dyn_cast<graph::SliceOp>(op)) {
    for (auto [i, start] : llvm::enumerate(slice.getStarts().getDims())) {
      std::optional<int64_t> first = graph::constantValue(start);
      if (!first)
        return std::nullopt;
      in.offset += *first * in.steps[i];
      in.steps[i] *= slice.getSteps()[i];
    }
    copyElements(shape, size, bytes.data(), in, moved.data(), out);
    return moved;
  }
  auto isFew = [](int64_t n) { return n < 0; };
  auto pad = dyn_cast<graph::PadOp>(op);
  if (!pad || pad.getMode() != graph::PadMode::constant ||
      llvm::any_of(pad.getLow(), isFew) || llvm::any_of(pad.getHigh(), isFew))
    return std::nullopt;
  if (Value value = pad.getValue()) { // zero bytes
    DenseElementsAttr filler = GraphBuilder::asConstant(value);
    if (!filler || !filler.isSplat() ||
        llvm::any_of(filler.getRawData(), [](char c) { return c != 0; }))
      return std::nullopt;
  }
  for (auto [i, low] : llvm::enumerate(pad.getLow()))
    out.offset += low * out.steps[i];
  copyElements(shapeOf(x), size, bytes.data(), in, moved.data(), out);
  return moved;
}

/// The bytes of what moves make of a constant; `storage` owns those that moved.
static std::optional<ArrayRef<char>> evaluate(Value x,
                                              std::vector<char> &storage) {
  auto type = cast<RankedTensorType>(x.getType());
  Operation *op = x.getDefiningOp();
  if (!op || !type.hasStaticShape() || !type.getElementType().isIntOrFloat() ||
      type.getElementType().getIntOrFloatBitWidth() % 8 != 0)
    return std::nullopt;
  if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
    ArrayRef<char> bytes =
        graph::rawBytesOf(cast<ElementsAttr>(constant.getValue()));
    if (static_cast<int64_t>(bytes.size()) != type.getNumElements() * sizeOf(x))
      return std::nullopt;
    return bytes;
  }
  if (op->getNumOperands() == 0)
    return std::nullopt;
  std::vector<char> below;
  std::optional<ArrayRef<char>> bytes = evaluate(op->getOperand(0), below);
  if (!bytes)
    return std::nullopt;
  if (isa<graph::ReshapeOp>(op)) {
    storage = std::move(below);
    return storage.empty() ? *bytes : ArrayRef<char>(storage);
  }
  std::optional<std::vector<char>> moved = move(op, *bytes);
  if (!moved)
    return std::nullopt;
  storage = std::move(*moved);
  return ArrayRef<char>(storage);
}

Value GraphBuilder::moveNow(Value x) {
  if (x.getDefiningOp<graph::ConstantOp>())
    return x;
  std::vector<char> storage;
  std::optional<ArrayRef<char>> bytes = evaluate(x, storage);
  if (!bytes)
    return x;
  return constant(DenseResourceElementsAttr::get(
      type(x), "moved",
      HeapAsmResourceBlob::allocateAndCopyWithAlign(*bytes, 64,
                                                    /*dataIsMutable=*/false)));
}
