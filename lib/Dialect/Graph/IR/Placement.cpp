// Where tensors lie that are parts of larger ones.
#include "dlc/Dialect/Graph/IR/Placement.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

static ArrayRef<int64_t> pitchesOf(KernelOp kernel) {
  auto attr = kernel ? kernel->getAttrOfType<DenseI64ArrayAttr>(kPitchAttr)
                     : DenseI64ArrayAttr();
  return attr ? attr.asArrayRef() : ArrayRef<int64_t>();
}

bool graph::hasPitches(KernelOp kernel) {
  return llvm::any_of(pitchesOf(kernel), [](int64_t p) { return p != 0; });
}

int64_t graph::getPitch(Value tensor) {
  auto kernel = dyn_cast<KernelOp>(tensor.getParentRegion()->getParentOp());
  ArrayRef<int64_t> pitches = pitchesOf(kernel);
  if (pitches.empty())
    return 0;
  if (auto argument = dyn_cast<BlockArgument>(tensor))
    return pitches[argument.getArgNumber()];
  for (auto [i, value] : llvm::enumerate(kernel.getResultValues()))
    if (value == tensor)
      return pitches[kernel.getArgumentTypes().size() + i];
  return 0;
}

SmallVector<AffineExpr> graph::getMemoryDims(Value tensor) {
  SmallVector<AffineExpr> dims = getDims(tensor.getType());
  if (int64_t pitch = getPitch(tensor))
    dims.back() = getAffineConstantExpr(pitch, tensor.getContext());
  return dims;
}

bool ConcatForm::hasWholeParts(ArrayRef<int64_t> shape) const {
  return llvm::all_of(shape.take_front(axis),
                      [](int64_t size) { return size == 1; });
}

DictionaryAttr ConcatForm::toAttr(MLIRContext *context) const {
  Builder builder(context);
  return builder.getDictionaryAttr(
      {builder.getNamedAttr("axis", builder.getI64IntegerAttr(axis)),
       builder.getNamedAttr("offsets", builder.getDenseI64ArrayAttr(offsets))});
}

std::optional<ConcatForm> ConcatForm::fromAttr(Attribute attr) {
  auto dictionary = dyn_cast_or_null<DictionaryAttr>(attr);
  if (!dictionary)
    return std::nullopt;
  auto axis = dictionary.getAs<IntegerAttr>("axis");
  auto offsets = dictionary.getAs<DenseI64ArrayAttr>("offsets");
  if (!axis || !offsets)
    return std::nullopt;
  return ConcatForm{unsigned(axis.getInt()),
                    llvm::to_vector(offsets.asArrayRef())};
}

llvm::DenseSet<StringAttr> graph::getPlacedKernels(ModuleOp module) {
  llvm::DenseSet<StringAttr> placed, run;
  module.walk([&](CallOp call) {
    (call->hasAttr(kPlacedAttr) ? placed : run)
        .insert(call.getCalleeAttr().getAttr());
  });
  for (StringAttr name : run)
    placed.erase(name);
  return placed;
}
