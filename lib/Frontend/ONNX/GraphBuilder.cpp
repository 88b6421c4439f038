//===- GraphBuilder.cpp - graph operators, checked and folded -------------===//
//
// See GraphBuilder.h. Operations are made from their registered name so that a
// failed inference is an answer and not a crash, as it is in the typed
// builders.
//
//===----------------------------------------------------------------------===//

#include "GraphBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSet.h"

using namespace dlc;
using namespace mlir;

void dlc::refuse(std::string reason) {
  throw Refusal{std::move(reason), false};
}
void dlc::refuseMalformed(std::string reason) {
  throw Refusal{std::move(reason), true};
}

std::string dlc::describeElement(Type element) {
  std::string text;
  llvm::raw_string_ostream(text) << element;
  return text;
}

std::string dlc::describeType(Type type, Type element) {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto tensor = dyn_cast_or_null<RankedTensorType>(type);
  if (!tensor)
    return type ? (os << type, text) : "nothing";
  os << (element ? element : tensor.getElementType()) << "[";
  llvm::interleave(
      graph::getDims(type), os, [&](AffineExpr dim) { os << dim; }, ",");
  os << "]";
  return text;
}

bool dlc::isFloat(Type element) { return isa<FloatType>(element); }

Type dlc::wideType(Type element) {
  return isa<Float16Type, BFloat16Type>(element)
             ? Float32Type::get(element.getContext())
             : element;
}

int64_t dlc::normalizeAxis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    refuseMalformed("axis " + std::to_string(axis) + " is outside rank " +
                    std::to_string(rank));
  return axis < 0 ? axis + rank : axis;
}

SmallVector<int64_t> dlc::normalizeAxes(ArrayRef<int64_t> axes, int64_t rank) {
  SmallVector<int64_t> out;
  for (int64_t axis : axes)
    out.push_back(normalizeAxis(axis, rank));
  llvm::sort(out);
  if (std::adjacent_find(out.begin(), out.end()) != out.end())
    refuseMalformed("an axis is named twice");
  return out;
}

SmallVector<int64_t> GraphBuilder::staticDims(Value value, StringRef what) {
  if (!type(value).hasStaticShape())
    refuse((what + " needs static dims, its operand is " +
            describeType(value.getType()))
               .str());
  return SmallVector<int64_t>(type(value).getShape());
}

void GraphBuilder::checkType(Type type) const {
  auto tensor = cast<RankedTensorType>(type);
  Type element = tensor.getElementType();
  bool known =
      isa<Float16Type, BFloat16Type, Float32Type, Float64Type>(element);
  if (auto integer = dyn_cast<IntegerType>(element))
    known = llvm::is_contained({1u, 8u, 16u, 32u, 64u}, integer.getWidth());
  if (!known)
    refuse("element type " + describeType(RankedTensorType::get({}, element)) +
           " is not supported");
  uint64_t elements = 1;
  for (int64_t dim : tensor.getShape()) {
    if (!ShapedType::isDynamic(dim) && dim < 0)
      refuseMalformed("a result dim is negative: " + describeType(type));
    if (ShapedType::isDynamic(dim) || dim == 0)
      continue;
    if (elements > options.limits.elements / dim)
      refuseMalformed("the result is too large (-max-elements): " +
                      describeType(type));
    elements *= dim;
  }
}

Type GraphBuilder::inferType(RegisteredOperationName info,
                             InferTypeOpInterface::Concept &inference,
                             ValueRange operands, DictionaryAttr attributes) {
  // The properties live here for the time of the question.
  SmallVector<char> storage(info.getOpPropertyByteSize() +
                            alignof(std::max_align_t));
  void *aligned = reinterpret_cast<void *>(
      llvm::alignAddr(storage.data(), llvm::Align(alignof(std::max_align_t))));
  OpaqueProperties properties(info.getOpPropertyByteSize() ? aligned : nullptr);
  if (properties) {
    info.initOpProperties(properties, OpaqueProperties(nullptr));
    if (llvm::failed(info.setOpPropertiesFromAttribute(
            info, properties, attributes,
            [&]() { return mlir::emitError(loc); })))
      return {};
  }
  SmallVector<Type> types;
  LogicalResult inferred = inference.inferReturnTypes(
      context(), loc, operands, attributes, properties, RegionRange(), types);
  if (properties)
    info.destroyOpProperties(properties);
  return llvm::failed(inferred) ? Type() : types.front();
}

//===----------------------------------------------------------------------===//
// Sizes that are equal when the model runs
//===----------------------------------------------------------------------===//

bool dlc::isNonNegative(AffineExpr e) {
  if (std::optional<int64_t> value = graph::constantValue(e))
    return *value >= 0;
  if (isa<AffineSymbolExpr>(e))
    return true;
  auto binary = dyn_cast<AffineBinaryOpExpr>(e);
  return binary && isNonNegative(binary.getLHS()) &&
         isNonNegative(binary.getRHS());
}

static unsigned countParts(AffineExpr expr) {
  unsigned parts = 0;
  expr.walk([&](AffineExpr) { ++parts; });
  return parts;
}

bool GraphBuilder::dependsOnData(AffineExpr size) const {
  bool found = false;
  size.walk([&](AffineExpr part) {
    if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
      found |= dataSymbols.contains(symbol.getPosition());
  });
  return found;
}

AffineExpr GraphBuilder::unify(AffineExpr x, AffineExpr y) const {
  if (x == y || graph::simplify(x - y) == 0)
    return x;
  // In a branch or a loop the requirement would hold when nobody asks for it.
  Operation *parent = builder.getBlock()->getParentOp();
  bool byData = dependsOnData(x) || dependsOnData(y) ||
                !isa_and_nonnull<func::FuncOp>(parent);
  std::optional<int64_t> a = graph::constantValue(x),
                         b = graph::constantValue(y);
  if (byData || (a && b))
    return {};
  return b || (!a && countParts(y) < countParts(x)) ? y : x;
}

/// An expression with the names of the model's symbols.
std::string GraphBuilder::spell(AffineExpr size) const {
  if (auto symbol = dyn_cast<AffineSymbolExpr>(size))
    return symbolNames[symbol.getPosition()];
  auto binary = dyn_cast<AffineBinaryOpExpr>(size);
  if (!binary)
    return std::to_string(cast<AffineConstantExpr>(size).getValue());
  StringRef sign = size.getKind() == AffineExprKind::Add        ? " + "
                   : size.getKind() == AffineExprKind::Mul      ? " * "
                   : size.getKind() == AffineExprKind::FloorDiv ? " / "
                   : size.getKind() == AffineExprKind::CeilDiv  ? " ceildiv "
                                                                : " mod ";
  return "(" + spell(binary.getLHS()) + sign.str() + spell(binary.getRHS()) +
         ")";
}

static StringRef nameAt(Location loc) {
  auto name = loc->findInstanceOf<NameLoc>();
  return name ? name.getName().getValue() : StringRef("a node");
}

void GraphBuilder::requireSizes(Block &block) {
  llvm::DenseSet<AffineExpr> seen;
  for (Operation &op : block)
    for (Type result : op.getResultTypes())
      for (auto [i, size] : llvm::enumerate(graph::getDims(result)))
        if (!isNonNegative(size) && !dependsOnData(size) &&
            seen.insert(size).second)
          requirements.push_back({size, c(0),
                                  nameAt(op.getLoc()).str() + ": dim " +
                                      std::to_string(i) + " is " + spell(size) +
                                      ", expected 0 or more",
                                  /*atLeast=*/true});
}

Value GraphBuilder::ensureDims(Value x, ArrayRef<AffineExpr> wanted) {
  auto result = graph::makeTensorType(wanted, element(x));
  if (x.getType() == result)
    return x;
  for (auto [i, from, to] : llvm::enumerate(dims(x), graph::getDims(result)))
    if (from != to)
      requirements.push_back({from, to,
                              nameAt(loc).str() + ": dim " + std::to_string(i) +
                                  " is " + spell(from) + ", expected " +
                                  spell(to)});
  return emit("graph.reshape", {x},
              {attr(graph::kSameSizesAttr, builder.getUnitAttr())}, result);
}

Value GraphBuilder::ensureDim(Value x, int64_t axis, AffineExpr size) {
  Dims wanted = dims(x);
  wanted[axis] = size;
  return ensureDims(x, wanted);
}

bool GraphBuilder::alignForBroadcast(MutableArrayRef<Value> operands) {
  Dims joined;
  auto joinedAt = [&](Value x, size_t i) -> AffineExpr & {
    return joined[joined.size() - rank(x) + i];
  };
  for (Value x : operands)
    joined.resize(std::max<size_t>(joined.size(), rank(x)), c(1));
  for (Value x : operands)
    for (auto [i, size] : llvm::enumerate(dims(x))) {
      AffineExpr &out = joinedAt(x, i);
      if (graph::constantValue(out) == 1)
        out = size;
      else if (graph::constantValue(size) != 1)
        out = unify(out, size);
      if (!out)
        return false;
    }
  bool changed = false;
  for (Value &x : operands) {
    Dims wanted = dims(x);
    for (auto [i, size] : llvm::enumerate(wanted))
      if (graph::constantValue(size) != 1)
        size = joinedAt(x, i);
    size_t before = requirements.size();
    Value ensured = ensureDims(x, wanted);
    changed |= ensured != x;
    x = ensured;
    for (graph::Requirement &each :
         MutableArrayRef(requirements).drop_front(before))
      if (!graph::constantValue(each.left) && !graph::constantValue(each.right))
        each.site += " (a dim is broadcast where it is known to be 1, by -dim)";
  }
  return changed;
}

//===----------------------------------------------------------------------===//
// Any operation
//===----------------------------------------------------------------------===//

Value GraphBuilder::emit(StringRef name, ValueRange operands,
                         ArrayRef<NamedAttribute> attributes, Type result) {
  if (++numOperations > options.limits.expansion)
    refuse("the model needs more than " +
           std::to_string(options.limits.expansion) +
           " operations (-max-expansion)");
  std::optional<RegisteredOperationName> info =
      RegisteredOperationName::lookup(name, context());
  if (!info)
    refuse(("the graph dialect has no operation '" + name + "'").str());
  DictionaryAttr dictionary = builder.getDictionaryAttr(attributes);
  lastDiagnostic.clear();
  auto failed = [&](StringRef what) {
    std::string reason = lastDiagnostic.empty()
                             ? (what + " of '" + name + "' failed").str()
                             : lastDiagnostic;
    StringRef text = reason;
    text.consume_front(("'" + name + "' op ").str());
    // With symbolic dims the operands may fit for the sizes the author had in
    // mind; what cannot be shown for all sizes is not compiled.
    bool isStatic = llvm::all_of(
        operands, [](Value v) { return type(v).hasStaticShape(); });
    if (!isStatic)
      refuse(text.str() +
             "; it is not known that the symbolic dims fit, give their sizes");
    refuseMalformed(text.str());
  };
  SmallVector<Value> aligned(operands);
  if (!result) {
    auto *inference = info->getInterface<InferTypeOpInterface>();
    if (!inference)
      refuse(("the result type of '" + name + "' is not given").str());
    result = inferType(*info, *inference, aligned, dictionary);
    static const llvm::StringSet<> notElementwise{
        "graph.transpose",       "graph.concat", "graph.gather",
        "graph.gather_elements", "graph.reduce", "graph.cumsum"};
    if (!result && !notElementwise.contains(name) && alignForBroadcast(aligned))
      result = inferType(*info, *inference, aligned, dictionary);
    if (!result)
      failed("type inference");
  }
  checkType(result);
  OperationState state(loc, *info);
  state.addOperands(aligned);
  state.addTypes(result);
  state.addAttributes(attributes);
  Operation *op = builder.create(state);
  if (llvm::failed(info->verifyInvariants(op))) {
    op->erase();
    failed("verification");
  }
  return tryFold(op);
}

Value GraphBuilder::tryFold(Operation *op) {
  SmallVector<Attribute> operands, values;
  bool allConstant = op->getNumOperands() > 0, readsWeights = false;
  uint64_t bytes = 0;
  auto count = [&](Type type) {
    auto tensor = cast<RankedTensorType>(type);
    bytes = tensor.hasStaticShape()
                ? std::max<uint64_t>(
                      bytes, tensor.getNumElements() *
                                 graph::elementBytes(tensor.getElementType()))
                : ~uint64_t(0);
  };
  for (Value operand : op->getOperands()) {
    auto constant = operand.getDefiningOp<graph::ConstantOp>();
    ElementsAttr value = constant ? constant.getValue() : ElementsAttr();
    DenseElementsAttr small = asConstant(operand);
    operands.push_back(small);
    values.push_back(value);
    allConstant &= static_cast<bool>(value);
    readsWeights |= value && !small;
    if (value && !(small && small.isSplat()))
      count(operand.getType());
  }
  // The dialect's own folds first: they also look through non-constants.
  SmallVector<OpFoldResult> folded;
  if (succeeded(op->fold(folded)) && !folded.empty()) {
    if (auto value = dyn_cast<Value>(folded.front())) {
      if (value == op->getResult(0))
        return value;
      op->erase();
      return value;
    }
    auto value = dyn_cast<ElementsAttr>(cast<Attribute>(folded.front()));
    if (value) {
      op->erase();
      return constant(value);
    }
  }
  uint64_t read = bytes;
  count(op->getResult(0).getType());
  if (!allConstant || !options.fold || bytes > options.maxFoldedBytes)
    return op->getResult(0);
  // Weights that take more memory as a result (of eight bits, widened; rows
  // that are repeated) are left to the kernels that read them.
  if (readsWeights && bytes > read)
    return op->getResult(0);
  FailureOr<DenseElementsAttr> value = options.fold(op, values);
  if (failed(value))
    return op->getResult(0);
  op->erase();
  return constant(*value);
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

Value GraphBuilder::constant(ElementsAttr value) {
  checkType(value.getShapedType());
  return graph::ConstantOp::create(builder, loc, value.getShapedType(), value);
}

static Attribute makeElement(Type element, double value) {
  if (isFloat(element))
    return FloatAttr::get(element, value);
  unsigned width = element.getIntOrFloatBitWidth();
  APInt bits = element.isUnsignedInteger()
                   ? APInt(64, static_cast<uint64_t>(value))
                   : APInt(64, static_cast<int64_t>(value), /*isSigned=*/true);
  return IntegerAttr::get(element, bits.trunc(width));
}

static Attribute makeElementInt(Type element, int64_t value) {
  if (isFloat(element))
    return FloatAttr::get(element, static_cast<double>(value));
  return IntegerAttr::get(element, APInt(64, value, /*isSigned=*/true)
                                       .trunc(element.getIntOrFloatBitWidth()));
}

Value GraphBuilder::splat(double value, Type element, ArrayRef<int64_t> dims) {
  auto type = RankedTensorType::get(dims, element);
  return constant(DenseElementsAttr::get(
      type, ArrayRef<Attribute>{makeElement(element, value)}));
}

Value GraphBuilder::splatInt(int64_t value, Type element,
                             ArrayRef<int64_t> dims) {
  auto type = RankedTensorType::get(dims, element);
  return constant(DenseElementsAttr::get(
      type, ArrayRef<Attribute>{makeElementInt(element, value)}));
}

Value GraphBuilder::constantInts(ArrayRef<int64_t> values,
                                 ArrayRef<int64_t> dims, Type element) {
  auto type = RankedTensorType::get(dims, element);
  // Tables of millions of indices are made: no attribute for each element.
  if (element.isSignlessInteger(64))
    return constant(DenseElementsAttr::get(type, values));
  SmallVector<Attribute> elements;
  for (int64_t value : values)
    elements.push_back(makeElementInt(element, value));
  return constant(DenseElementsAttr::get(type, elements));
}

Value GraphBuilder::constantFloats(ArrayRef<double> values,
                                   ArrayRef<int64_t> dims, Type element) {
  auto type = RankedTensorType::get(dims, element);
  if (element.isF64())
    return constant(DenseElementsAttr::get(type, values));
  if (element.isF32()) {
    SmallVector<float> narrow(values.begin(), values.end());
    return constant(DenseElementsAttr::get(type, ArrayRef<float>(narrow)));
  }
  SmallVector<Attribute> elements;
  for (double value : values)
    elements.push_back(makeElement(element, value));
  return constant(DenseElementsAttr::get(type, elements));
}

DenseElementsAttr GraphBuilder::asConstant(Value value) {
  auto op = value.getDefiningOp<graph::ConstantOp>();
  return op ? dyn_cast<DenseElementsAttr>(op.getValue()) : DenseElementsAttr();
}

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

Value GraphBuilder::convert(Value x, Type to, bool saturate) {
  if (element(x) == to)
    return x;
  SmallVector<NamedAttribute> attributes{attr("to", TypeAttr::get(to))};
  if (saturate)
    attributes.push_back(attr("saturate", builder.getUnitAttr()));
  return emit("graph.convert", {x}, attributes);
}

Value GraphBuilder::reshape(Value x, ArrayRef<AffineExpr> dims) {
  return emit("graph.reshape", {x}, {},
              graph::makeTensorType(dims, element(x)));
}

Value GraphBuilder::reshape(Value x, ArrayRef<int64_t> dims) {
  return reshape(x, graph::constantDims(context(), dims));
}

Value GraphBuilder::transpose(Value x, ArrayRef<int64_t> perm) {
  return emit("graph.transpose", {x}, {i64s("perm", perm)});
}

Value GraphBuilder::broadcast(Value x, ArrayRef<AffineExpr> dims) {
  auto result = graph::makeTensorType(dims, element(x));
  if (x.getType() == result)
    return x;
  // A broadcast splat is a splat.
  if (DenseElementsAttr value = asConstant(x);
      value && value.isSplat() && result.hasStaticShape()) {
    checkType(result);
    return constant(value.resizeSplat(result));
  }
  return emit("graph.broadcast", {x}, {}, result);
}

Value GraphBuilder::unsqueeze(Value x, ArrayRef<int64_t> axes) {
  Dims out, in = dims(x);
  size_t next = 0;
  for (size_t i = 0; i < in.size() + axes.size(); ++i)
    out.push_back(
        llvm::is_contained(axes, static_cast<int64_t>(i)) ? c(1) : in[next++]);
  return reshape(x, out);
}

Value GraphBuilder::squeeze(Value x, ArrayRef<int64_t> axes) {
  Dims out;
  for (auto [i, size] : llvm::enumerate(dims(x)))
    if (!llvm::is_contained(axes, static_cast<int64_t>(i)))
      out.push_back(size);
    else if (std::optional<int64_t> n = graph::constantValue(size);
             n && *n != 1)
      refuseMalformed("dim " + std::to_string(i) + " of " +
                      describeType(x.getType()) + " is not 1");
  return reshape(x, out);
}

Value GraphBuilder::slice(Value x, ArrayRef<AffineExpr> starts,
                          ArrayRef<AffineExpr> sizes, ArrayRef<int64_t> steps) {
  SmallVector<int64_t> ones(starts.size(), 1);
  return emit("graph.slice", {x},
              {attr("starts", graph::DimsAttr::get(context(), starts)),
               i64s("steps", steps.empty() ? ones : steps)},
              graph::makeTensorType(sizes, element(x)));
}

Value GraphBuilder::sliceAxis(Value x, int64_t axis, AffineExpr start,
                              AffineExpr size, int64_t step) {
  Dims starts(rank(x), c(0)), sizes = dims(x);
  SmallVector<int64_t> steps(rank(x), 1);
  starts[axis] = start;
  sizes[axis] = size;
  steps[axis] = step;
  return slice(x, starts, sizes, steps);
}

Value GraphBuilder::concat(ValueRange inputs, int64_t axis) {
  // An empty part contributes nothing, and some exporters write it with rank 1.
  SmallVector<Value> parts;
  for (Value input : inputs)
    if (inputs.size() == 1 || !llvm::is_contained(type(input).getShape(), 0) ||
        input == inputs.back())
      parts.push_back(input);
  if (parts.size() > 1 && llvm::is_contained(type(parts.back()).getShape(), 0))
    parts.pop_back();
  if (parts.size() == 1)
    return parts.front();
  for (int64_t i = 0; i < rank(parts.front()); ++i) {
    AffineExpr size = dim(parts.front(), i);
    for (Value part : parts)
      size = size && rank(part) == rank(parts.front())
                 ? unify(size, dim(part, i))
                 : AffineExpr();
    for (Value &part : parts)
      if (size && i != axis)
        part = ensureDim(part, i, size);
  }
  return emit("graph.concat", parts,
              {attr("axis", builder.getI64IntegerAttr(axis))});
}

Value GraphBuilder::pad(Value x, Value value, ArrayRef<int64_t> low,
                        ArrayRef<int64_t> high, graph::PadMode mode) {
  Dims out = dims(x);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = out[i] + low[i] + high[i];
  SmallVector<Value> operands{x};
  if (mode == graph::PadMode::constant)
    operands.push_back(value ? value : splat(0, element(x)));
  return emit("graph.pad", operands,
              {i64s("low", low), i64s("high", high),
               attr("mode", graph::PadModeAttr::get(context(), mode))},
              graph::makeTensorType(out, element(x)));
}

Value GraphBuilder::gather(Value x, Value indices, int64_t axis) {
  return emit("graph.gather", {x, indices},
              {attr("axis", builder.getI64IntegerAttr(axis))});
}

Value GraphBuilder::gatherElements(Value x, Value indices, int64_t axis) {
  return emit("graph.gather_elements", {x, indices},
              {attr("axis", builder.getI64IntegerAttr(axis))});
}

Value GraphBuilder::size(AffineExpr size, Type element) {
  return emit("graph.size", {},
              {attr("size", graph::DimsAttr::get(context(), {size}))},
              graph::makeTensorType({}, element));
}

Value GraphBuilder::iota(AffineExpr size, Type element, double start,
                         double step) {
  return emit("graph.iota", {}, {f64("start", start), f64("step", step)},
              graph::makeTensorType({size}, element));
}

Value GraphBuilder::reduce(Value x, graph::FoldKind kind,
                           ArrayRef<int64_t> axes) {
  SmallVector<int64_t> sorted = normalizeAxes(axes, rank(x));
  if (sorted.empty())
    return x;
  return emit("graph.reduce", {x},
              {attr("kind", graph::FoldKindAttr::get(context(), kind)),
               i64s("axes", sorted)});
}

Value GraphBuilder::einsum(StringRef lhs, StringRef rhs, StringRef result,
                           Value x, Value y, Type resultElement) {
  // Iteration axes: the result's letters, then those summed over.
  SmallString<16> axes = result;
  for (char letter : (lhs + rhs).str())
    if (axes.find(letter) == StringRef::npos)
      axes += letter;
  llvm::DenseMap<char, AffineExpr> extent;
  auto record = [&](StringRef letters, Value value) {
    for (auto [letter, size] : llvm::zip(letters, dims(value)))
      if (!extent.contains(letter) || graph::constantValue(extent[letter]) == 1)
        extent[letter] = size;
      else if (graph::constantValue(size) != 1)
        if (AffineExpr same = unify(extent[letter], size))
          extent[letter] = same;
  };
  record(lhs, x);
  record(rhs, y);
  auto ensure = [&](StringRef letters, Value value) {
    for (auto [i, letter] : llvm::enumerate(letters))
      if (AffineExpr size = dim(value, i);
          graph::constantValue(size) != 1 && unify(size, extent[letter]))
        value = ensureDim(value, i, extent[letter]);
    return value;
  };
  x = ensure(lhs, x);
  y = ensure(rhs, y);
  auto map = [&](StringRef letters, Value value) {
    Dims exprs;
    for (auto [i, letter] : llvm::enumerate(letters)) {
      // A dim of size 1 against a larger one is broadcast: it is read at 0.
      bool one = value && graph::constantValue(dim(value, i)) == 1 &&
                 graph::constantValue(extent[letter]) != 1;
      exprs.push_back(one ? c(0) : builder.getAffineDimExpr(axes.find(letter)));
    }
    return AffineMap::get(axes.size(), 0, exprs, context());
  };
  Dims out;
  for (char letter : result)
    out.push_back(extent[letter]);
  return emit(
      "graph.contract", {x, y},
      {attr("lhs_map", AffineMapAttr::get(map(lhs, x))),
       attr("rhs_map", AffineMapAttr::get(map(rhs, y))),
       attr("result_map", AffineMapAttr::get(map(result, Value())))},
      graph::makeTensorType(out, resultElement ? resultElement : element(x)));
}
