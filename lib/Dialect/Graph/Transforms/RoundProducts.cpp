// graph-round-products: the factors of products as bf16 numbers.
#include "dlc/Dialect/Graph/Transforms/RoundProducts.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/DenseMap.h"

namespace dlc::graph {
#define GEN_PASS_DEF_ROUNDPRODUCTS
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

//===----------------------------------------------------------------------===//
// Which products
//===----------------------------------------------------------------------===//

/// What moves elements without changing them: rounding may go before it.
static bool isMove(Operation *op) {
  return isa_and_nonnull<ReshapeOp, TransposeOp>(op);
}

static bool isConstant(Value value) {
  Operation *op = value.getDefiningOp();
  while (isMove(op))
    op = op->getOperand(0).getDefiningOp();
  return isa_and_nonnull<ConstantOp>(op);
}

static bool isF32(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType().isF32();
}

static double countOf(ArrayRef<AffineExpr> dims, ArrayRef<int64_t> symbols) {
  double count = 1;
  for (AffineExpr dim : dims)
    count *= double(std::max<int64_t>(1, evaluate(dim, symbols)));
  return count;
}

SmallVector<Product> dlc::graph::findProducts(func::FuncOp main) {
  SmallVector<int64_t> typical;
  if (auto ranges = main->getAttrOfType<ArrayAttr>("graph.ranges"))
    for (auto range : ranges.getAsRange<DenseI64ArrayAttr>())
      typical.push_back(range[2]);
  constexpr int64_t fewestChannels = 16;
  SmallVector<Product> products;
  for (Operation &op : main.getBody().front()) {
    if (!isa<ContractOp, ConvOp>(op) || !isF32(op.getOperand(0)) ||
        !isF32(op.getOperand(1)) || !isF32(op.getResult(0)) ||
        (!isConstant(op.getOperand(0)) && !isConstant(op.getOperand(1))))
      continue;
    if (auto contract = dyn_cast<ContractOp>(op)) {
      products.push_back(
          {&op, 2 * countOf(contract.getIterationDims(), typical)});
      continue;
    }
    auto conv = cast<ConvOp>(op);
    SmallVector<AffineExpr> w = getDims(conv.getW().getType());
    auto channels = constantValue(w[1]);
    if (conv.getXZeroPoint() || conv.getWZeroPoint() ||
        (conv.getGroup() > 1 && (!channels || *channels < fewestChannels)))
      continue;
    products.push_back({&op, 2 * countOf(getDims(conv.getType()), typical) *
                                 countOf(ArrayRef(w).drop_front(), typical)});
  }
  return products;
}

//===----------------------------------------------------------------------===//
// Rounding
//===----------------------------------------------------------------------===//

static RankedTensorType withElement(Type type, Type element) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor.getShape(), element,
                               tensor.getEncoding());
}

/// To the nearest, ties to even.
static uint16_t roundToBF16(uint32_t bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) // NaN stays one
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// Nothing for values whose bytes are not at hand.
static ElementsAttr roundConstant(ElementsAttr value) {
  Type bf16 = BFloat16Type::get(value.getContext());
  auto type = withElement(value.getShapedType(), bf16);
  ArrayRef<char> bytes;
  bool isSplat = false;
  if (auto dense = dyn_cast<DenseElementsAttr>(value)) {
    bytes = dense.getRawData();
    isSplat = dense.isSplat();
  } else if (auto resource = dyn_cast<DenseResourceElementsAttr>(value)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    if (!blob)
      return {};
    bytes = blob->getData();
  }
  size_t count = isSplat ? 1 : size_t(type.getNumElements());
  if (bytes.size() < 4 * count)
    return {};
  std::vector<uint16_t> rounded(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, bytes.data() + 4 * i, 4);
    rounded[i] = roundToBF16(bits);
  }
  ArrayRef<char> out(reinterpret_cast<const char *>(rounded.data()), 2 * count);
  constexpr size_t mostInline = 1024;
  if (isSplat || count <= mostInline)
    return DenseElementsAttr::getFromRawBuffer(type, out);
  return DenseResourceElementsAttr::get(
      type, "rounded",
      HeapAsmResourceBlob::allocateAndCopyWithAlign(out, 64,
                                                    /*dataIsMutable=*/false));
}

namespace {
/// Rounded forms of values, each made once.
class Rounding {
public:
  Value get(Value value) {
    if (Value rounded = known.lookup(value))
      return rounded;
    Value rounded = make(value);
    known[value] = rounded;
    return rounded;
  }

private:
  Value make(Value value) {
    OpBuilder b(value.getContext());
    b.setInsertionPointAfterValue(value);
    Type bf16 = b.getBF16Type();
    Operation *op = value.getDefiningOp();
    if (auto constant = dyn_cast_or_null<ConstantOp>(op))
      if (ElementsAttr attr = roundConstant(constant.getValue()))
        return ConstantOp::create(b, value.getLoc(), attr.getShapedType(),
                                  attr);
    if (isMove(op) && isConstant(value)) {
      Value from = get(op->getOperand(0));
      b.setInsertionPoint(op);
      Operation *moved = b.clone(*op);
      moved->setOperand(0, from);
      moved->getResult(0).setType(withElement(value.getType(), bf16));
      return moved->getResult(0);
    }
    return ConvertOp::create(b, value.getLoc(), value, TypeAttr::get(bf16),
                             UnitAttr());
  }

  llvm::DenseMap<Value, Value> known;
};
} // namespace

void dlc::graph::roundProducts(ArrayRef<Product> products) {
  Rounding rounding;
  for (const Product &product : products)
    for (unsigned i : {0u, 1u})
      product.op->setOperand(i, rounding.get(product.op->getOperand(i)));
}

void dlc::graph::probeProducts(func::FuncOp main, ArrayRef<Product> products) {
  OpBuilder b(main.getContext());
  auto type = RankedTensorType::get({int64_t(products.size())}, b.getI1Type());
  unsigned index = main.getNumArguments();
  NamedAttribute name =
      b.getNamedAttr("graph.name", b.getStringAttr("precision.mask"));
  if (failed(main.insertArgument(index, type, b.getDictionaryAttr(name),
                                 main.getLoc())))
    llvm_unreachable("a function takes one more argument");
  Value mask = main.getArgument(index);
  for (auto [i, product] : llvm::enumerate(products)) {
    b.setInsertionPoint(product.op);
    Location loc = product.op->getLoc();
    auto one = RankedTensorType::get({1}, b.getI1Type());
    AffineExpr at = b.getAffineConstantExpr(int64_t(i));
    Value chosen =
        SliceOp::create(b, loc, one, mask, DimsAttr::get(b.getContext(), {at}),
                        b.getDenseI64ArrayAttr({1}));
    chosen = ReshapeOp::create(b, loc, RankedTensorType::get({}, b.getI1Type()),
                               chosen);
    for (unsigned factor : {0u, 1u}) {
      Value x = product.op->getOperand(factor);
      Value rounded = ConvertOp::create(
          b, loc, x, TypeAttr::get(b.getBF16Type()), UnitAttr());
      rounded = ConvertOp::create(b, loc, rounded,
                                  TypeAttr::get(b.getF32Type()), UnitAttr());
      product.op->setOperand(factor,
                             SelectOp::create(b, loc, chosen, rounded, x));
    }
  }
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {
struct RoundProducts : graph::impl::RoundProductsBase<RoundProducts> {
  using RoundProductsBase::RoundProductsBase;

  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main)
      return;
    SmallVector<Product> all = findProducts(main), chosen;
    for (unsigned i : products) {
      if (i >= all.size()) {
        main.emitError("there is no product ")
            << i << ", there are " << all.size();
        return signalPassFailure();
      }
      chosen.push_back(all[i]);
    }
    if (probe)
      return probeProducts(main, products.empty() ? all : chosen);
    roundProducts(products.empty() ? all : chosen);
    numRounded += products.empty() ? all.size() : chosen.size();
  }
};
} // namespace
