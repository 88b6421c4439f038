// Buffers and straight-line steps; ModelControl.cpp has branches and loops.
#include "ModelBuilder.h"

#include "dlc/Dialect/Graph/IR/NarrowTypes.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Dialect/Graph/IR/Requirements.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

ModelBuilder::ModelBuilder(func::FuncOp main, StringRef name)
    : main(main), builder(main), context(main.getContext()) {
  auto symbols = main->getAttrOfType<ArrayAttr>("graph.symbols");
  if (!symbols)
    symbols = builder.getArrayAttr({});
  numSymbols = symbols.size();
  model = ModelOp::create(
      builder, main.getLoc(), builder.getStringAttr(name), symbols,
      main->getAttrOfType<ArrayAttr>("graph.ranges"), AffineMapAttr());
  builder.createBlock(&model.getBody());
}

void ModelBuilder::build() {
  graph::forEachDataSymbol(main, [&](unsigned symbol, AffineExpr largest) {
    data.add(symbol, largest);
  });
  bindInputs();
  bindOutputs();
  // Before any kernel runs: buffers are as large as either size says.
  for (const graph::Requirement &requirement : graph::getRequirements(main))
    RequireOp::create(builder, main.getLoc(), makeSizeAttr(requirement.left),
                      makeSizeAttr(requirement.right),
                      builder.getStringAttr(requirement.site),
                      requirement.atLeast ? builder.getUnitAttr() : UnitAttr());
  // Weights belong to no region.
  Block &body = main.getBody().front();
  main.walk([&](graph::ConstantOp op) {
    if (op->getBlock() != &body)
      convertConstant(op);
  });
  convertBlock(body);
  addCopies(outputCopies);
}

//===----------------------------------------------------------------------===//
// Sizes and buffers
//===----------------------------------------------------------------------===//

AffineExpr ModelBuilder::getBytes(Type tensor) {
  SmallVector<AffineExpr> dims = graph::getDims(tensor);
  dims.push_back(getAffineConstantExpr(
      graph::elementBytes(cast<RankedTensorType>(tensor).getElementType()),
      context));
  return graph::product(context, dims);
}

AffineExpr ModelBuilder::getLargestBytes(Type tensor) {
  return graph::simplify(data.getLargest(getBytes(tensor)));
}

Value ModelBuilder::makeAlloc(AffineExpr bytes, Location loc) {
  return AllocOp::create(builder, loc, BufferType::get(context),
                         makeSizeAttr(bytes), IntegerAttr(), IntegerAttr());
}

Value ModelBuilder::getOrMakeBuffer(Value tensor) {
  if (Value buffer = buffers.lookup(tensor))
    return buffer;
  return buffers[tensor] = parts.contains(tensor)
                               ? makePart(tensor)
                               : makeAlloc(getLargestBytes(tensor.getType()),
                                           tensor.getLoc());
}

// The operands of placed concatenations of `block`.
void ModelBuilder::findParts(Block &block) {
  for (auto call : block.getOps<graph::CallOp>())
    if (call->hasAttr(graph::kPlacedAttr))
      for (auto [i, arg] : llvm::enumerate(call.getArgs()))
        parts[graph::getViewed(arg)] = {call, i};
}

// Its place in the buffer of the concatenation, or of that which this one is
// an operand of; the buffer is made for the first of them.
Value ModelBuilder::makePart(Value tensor) {
  auto [call, operand] = parts.lookup(tensor);
  auto type = cast<RankedTensorType>(call.getArgs()[operand].getType());
  auto axis =
      graph::ConcatForm::fromAttr(call->getAttr(graph::kPlacedAttr))->axis;
  // Bytes of `count` steps along the axis.
  auto bytes = [](RankedTensorType tensor, unsigned axis, int64_t count) {
    count *= graph::elementBytes(tensor.getElementType());
    for (int64_t size : tensor.getShape().drop_front(axis + 1))
      count *= size;
    return count;
  };
  int64_t run = bytes(type, axis, type.getShape()[axis]), count = 1, offset = 0,
          pitch = 0;
  for (int64_t size : type.getShape().take_front(axis))
    count *= size;
  Value whole = tensor;
  for (auto it = parts.find(whole); it != parts.end(); it = parts.find(whole)) {
    auto [outer, number] = it->second;
    auto form =
        *graph::ConcatForm::fromAttr(outer->getAttr(graph::kPlacedAttr));
    whole = outer.getResult(0);
    auto all = cast<RankedTensorType>(whole.getType());
    offset += bytes(all, form.axis, form.offsets[number]);
    pitch = bytes(all, form.axis, all.getShape()[form.axis]);
  }
  Value buffer = getOrMakeBuffer(whole);
  auto number = [&](int64_t n) { return builder.getI64IntegerAttr(n); };
  return SliceOp::create(builder, tensor.getLoc(), BufferType::get(context),
                         buffer, number(offset), number(run), number(pitch),
                         number(count));
}

// Lets the kernel that makes `tensor` in `block` write `target`; false when it
// is not a kernel's, or has a buffer already.
bool ModelBuilder::bindInPlace(Value tensor, Value target, Block *block) {
  auto root = dyn_cast<OpResult>(graph::getViewed(tensor));
  if (!root || root.getOwner()->getBlock() != block)
    return false;
  auto loop = dyn_cast<graph::LoopOp>(root.getOwner());
  bool isWhole = isa<graph::CallOp, graph::IfOp>(root.getOwner()) ||
                 (loop && root.getResultNumber() >= loop.getNumCarried());
  return isWhole && buffers.try_emplace(root, target).second;
}

void ModelBuilder::addCopies(const Copies &copies) {
  for (auto [value, target] : copies)
    CopyOp::create(builder, main.getLoc(), lookup(value), target,
                   makeSizeAttr(getBytes(value.getType())));
}

//===----------------------------------------------------------------------===//
// Inputs and outputs
//===----------------------------------------------------------------------===//

// The name the model gives to argument or result `index` of @main.
static StringAttr getName(ArrayAttr attrs, unsigned index, StringRef fallback,
                          Builder &builder) {
  if (attrs)
    if (auto name =
            cast<DictionaryAttr>(attrs[index]).getAs<StringAttr>("graph.name"))
      return name;
  return builder.getStringAttr(fallback + Twine(index));
}

// The narrow type that argument or result `index` of @main holds codes of.
static void setNarrow(Operation *op, ArrayAttr attrs, unsigned index) {
  if (!attrs)
    return;
  if (Attribute type =
          cast<DictionaryAttr>(attrs[index]).get(graph::kNarrowAttr))
    op->setAttr(graph::kNarrowAttr, type);
}

void ModelBuilder::bindInputs() {
  for (BlockArgument arg : main.getArguments()) {
    unsigned i = arg.getArgNumber();
    auto input =
        InputOp::create(builder, arg.getLoc(), BufferType::get(context),
                        builder.getI64IntegerAttr(i),
                        getName(main.getArgAttrsAttr(), i, "input", builder),
                        TypeAttr::get(arg.getType()));
    setNarrow(input, main.getArgAttrsAttr(), i);
    if (Attribute state = main.getArgAttr(i, graph::kStateAttr))
      input->setAttr(kStateAttr, state);
    buffers[arg] = input;
  }
}

// The first output that a kernel's result reaches is that kernel's buffer.
void ModelBuilder::bindOutputs() {
  Block &body = main.getBody().front();
  for (auto [i, value] : llvm::enumerate(body.getTerminator()->getOperands())) {
    Value target =
        OutputOp::create(builder, value.getLoc(), BufferType::get(context),
                         builder.getI64IntegerAttr(i),
                         getName(main.getResAttrsAttr(), i, "output", builder),
                         TypeAttr::get(value.getType()));
    setNarrow(target.getDefiningOp(), main.getResAttrsAttr(), i);
    if (data.dependsOnData(value.getType()) ||
        !bindInPlace(value, target, &body))
      outputCopies.push_back({value, target});
  }
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

ArrayAttr ModelBuilder::getOrigin(Operation *op) {
  if (auto name = dyn_cast<NameLoc>(op->getLoc()))
    return builder.getStrArrayAttr({name.getName()});
  return {};
}

void ModelBuilder::convertBlock(Block &block) {
  findParts(block);
  for (Operation &op : block.without_terminator()) {
    if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
      if (!buffers.contains(constant))
        convertConstant(constant);
    } else if (auto call = dyn_cast<graph::CallOp>(op)) {
      convertCall(call);
    } else if (auto prefix = dyn_cast<graph::PrefixOp>(op)) {
      convertPrefix(prefix);
    } else if (auto branch = dyn_cast<graph::IfOp>(op)) {
      convertIf(branch);
    } else if (auto loop = dyn_cast<graph::LoopOp>(op)) {
      convertLoop(loop);
    } else if (auto expect = dyn_cast<graph::ExpectOp>(op)) {
      convertExpect(expect);
    } else if (auto append = dyn_cast<graph::AppendOp>(op)) {
      convertAppend(append);
    } else if (auto update = dyn_cast<graph::UpdateOp>(op)) {
      convertUpdate(update);
    }
  }
}

void ModelBuilder::convertConstant(graph::ConstantOp op) {
  buffers[op] = ConstantOp::create(builder, op.getLoc(),
                                   BufferType::get(context), op.getValue(),
                                   StringAttr(), IntegerAttr(), IntegerAttr());
}

void ModelBuilder::convertCall(graph::CallOp call) {
  // Who computes its operands stores its result, which may be a part itself.
  if (call->hasAttr(graph::kPlacedAttr)) {
    bool isRead = llvm::any_of(call->getUsers(), [](Operation *user) {
      return !user->hasAttr(graph::kPlacedAttr);
    });
    if (isRead)
      getOrMakeBuffer(call.getResult(0));
    return;
  }
  SmallVector<Value> args, outs;
  for (Value arg : call.getArgs())
    args.push_back(lookup(arg));
  for (Value result : call.getResults())
    outs.push_back(getOrMakeBuffer(result));
  AffineMapAttr actual;
  if (call.getSymbols())
    actual = AffineMapAttr::get(
        AffineMap::get(0, numSymbols, call.getSymbols()->getDims(), context));
  CallOp::create(builder, call.getLoc(), call.getCalleeAttr(), args, outs,
                 actual, call->getAttrOfType<ArrayAttr>("origin"));
}

void ModelBuilder::convertPrefix(graph::PrefixOp op) {
  AffineExpr bound = data.getLargest(graph::getDims(op.getX().getType())[0]);
  BindOp::create(builder, op.getLoc(), lookup(op.getCount()),
                 builder.getI64IntegerAttr(op.getSymbol()), makeSizeAttr(bound),
                 getOrigin(op));
}

void ModelBuilder::convertExpect(graph::ExpectOp op) {
  ExpectOp::create(builder, op.getLoc(), lookup(op.getCondition()),
                   getOrigin(op));
}

void ModelBuilder::convertUpdate(graph::UpdateOp op) {
  SmallVector<AffineExpr> room = graph::getDims(op.getState().getType());
  AffineExpr count = graph::getDims(op.getPositions().getType())[0],
             row = graph::simplify(
                 room[1] * graph::elementBytes(
                               cast<RankedTensorType>(op.getState().getType())
                                   .getElementType()));
  UpdateOp::create(builder, op.getLoc(), lookup(op.getUpdates()),
                   lookup(op.getPositions()), lookup(op.getState()),
                   AffineMapAttr::get(AffineMap::get(
                       0, numSymbols, {count, room[0], row}, context)),
                   getOrigin(op));
}

// The new rows are copied to their place: as many runs of them as there are
// extents before the axis.
void ModelBuilder::convertAppend(graph::AppendOp op) {
  SmallVector<AffineExpr> rows = graph::getDims(op.getX().getType()),
                          room = graph::getDims(op.getState().getType());
  auto axis = static_cast<size_t>(op.getAxis());
  AffineExpr runs = graph::product(context, ArrayRef(room).take_front(axis));
  SmallVector<AffineExpr> inner(room.begin() + axis + 1, room.end());
  inner.push_back(getAffineConstantExpr(
      graph::elementBytes(
          cast<RankedTensorType>(op.getX().getType()).getElementType()),
      context));
  AffineExpr row = graph::product(context, inner);
  SmallVector<AffineExpr> sizes = {
      runs, rows[axis] * row, op.getAt().getDims()[0] * row, room[axis] * row};
  for (AffineExpr &size : sizes)
    size = graph::simplify(size);
  AppendOp::create(
      builder, op.getLoc(), lookup(op.getX()), lookup(op.getState()),
      AffineMapAttr::get(AffineMap::get(0, numSymbols, sizes, context)));
}
