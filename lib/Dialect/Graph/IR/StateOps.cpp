// graph.append, graph.update and the attribute of arguments that are state.
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

LogicalResult UpdateOp::verify() {
  auto state = cast<RankedTensorType>(getState().getType());
  auto positions = cast<RankedTensorType>(getPositions().getType());
  auto updates = cast<RankedTensorType>(getUpdates().getType());
  if (getResult().getType() != state)
    return emitOpError("the result must have the state's type");
  if (state.getRank() != 2 || positions.getRank() != 1 ||
      updates.getRank() != 2 || !positions.getElementType().isInteger(64) ||
      isUnsigned(positions.getElementType()) ||
      updates.getElementType() != state.getElementType())
    return emitOpError("takes a state (r, c), positions (m) in i64 and updates "
                       "(m, c) of its element type");
  if (simplify(getDims(updates)[0] - getDims(positions)[0]) != 0 ||
      simplify(getDims(updates)[1] - getDims(state)[1]) != 0)
    return emitOpError("updates must be as many rows as positions, each of the "
                       "state's length");
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
