// graph.append and the attribute of arguments that are state.
#include "dlc/Dialect/Graph/IR/State.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/StateOps.cpp.inc"

LogicalResult AppendOp::verify() {
  auto state = cast<RankedTensorType>(getState().getType());
  auto x = cast<RankedTensorType>(getX().getType());
  if (getResult().getType() != state)
    return emitOpError("the result must have the state's type");
  auto axis = static_cast<int64_t>(getAxis());
  if (x.getRank() != state.getRank() || axis < 0 || axis >= x.getRank() ||
      x.getElementType() != state.getElementType())
    return emitOpError("takes rows of the state's rank and element type");
  for (auto [i, sizes] :
       llvm::enumerate(llvm::zip_equal(getDims(state), getDims(x))))
    if (static_cast<int64_t>(i) != axis &&
        std::get<0>(sizes) != std::get<1>(sizes))
      return emitOpError("dim ") << i << " of the rows is not the state's";
  if (getAt().getDims().size() != 1)
    return emitOpError("'at' must be one size");
  return success();
}

Attribute graph::makeStateAttr(const StateInfo &info, MLIRContext *context) {
  Builder builder(context);
  return builder.getDictionaryAttr(
      {builder.getNamedAttr("output", builder.getStringAttr(info.output)),
       builder.getNamedAttr("axis", builder.getI64IntegerAttr(info.axis)),
       builder.getNamedAttr("length", builder.getI64IntegerAttr(info.length)),
       builder.getNamedAttr("capacity",
                            builder.getI64IntegerAttr(info.capacity)),
       builder.getNamedAttr("rows", DimsAttr::get(context, {info.rows}))});
}

std::optional<StateInfo> graph::readStateAttr(Attribute attr) {
  auto fields = dyn_cast_or_null<DictionaryAttr>(attr);
  if (!fields)
    return std::nullopt;
  StateInfo info;
  info.output = fields.getAs<StringAttr>("output").str();
  info.axis = fields.getAs<IntegerAttr>("axis").getInt();
  info.length = fields.getAs<IntegerAttr>("length").getInt();
  info.capacity = fields.getAs<IntegerAttr>("capacity").getInt();
  info.rows = fields.getAs<DimsAttr>("rows").getDims()[0];
  return info;
}
