//===- ConvertToGraph.cpp - onnx dialect to graph dialect -----------------===//
//
// Walks the model in order and lowers each node: as shape arithmetic if its
// operands are known integers, else by its converter, else by its ONNX function
// body. What cannot be lowered is collected; values made from it are skipped,
// so that the list names causes and not consequences.
//
//===----------------------------------------------------------------------===//

#include "dlc/Frontend/ONNX/ConvertToGraph.h"

#include "Converter.h"
#include "FunctionBody.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/ScopeExit.h"

using namespace dlc;
using namespace mlir;

/// Function bodies that call functions, and regions in regions.
static constexpr unsigned kMaxDepth = 16;
/// Begins the place of a refusal in a region.
static constexpr StringLiteral kInside = " (node '";

const ConverterTable &dlc::getConverterTable() {
  static const ConverterTable table = [] {
    ConverterTable rows;
    for (auto *add :
         {addElementwise,   addCasts,        addShapes,          addIndexing,
          addReductions,    addContractions, addConvolutions,    addPooling,
          addNormalization, addResize,       addQuantization,    addControlFlow,
          addSequences,     addGenerators,   addRecurrent,       addSampling,
          addSorting,       addScatters,     addSpectral,        addTraining,
          addRandom,        addClassical,    addMachineLearning, addTrees,
          addDataSizes,     addRuntimeAxes,  addContrib})
      add(rows);
    return rows;
  }();
  return table;
}

bool dlc::hasOwnLowering(StringRef domain, StringRef op) {
  return getConverterTable().contains(
      StringRef(onnxd::makeOpName(domain, op)).drop_front(strlen("onnx.")));
}

std::vector<std::string> dlc::listOwnLowerings() {
  std::vector<std::string> names;
  for (StringRef name : getConverterTable().keys())
    names.push_back(name.str());
  llvm::sort(names);
  return names;
}

Converter::Converter(ModuleOp model, StringRef file,
                     const ConvertOptions &options)
    : builder(model.getContext(), options), options(options), model(model),
      file(file.str()) {
  if (auto opset = model->getAttrOfType<IntegerAttr>(onnxd::kSourceOpsetAttr))
    sourceOpset = opset.getInt();
}

Entry &Converter::lookup(Value value) {
  auto found = entries.find(value);
  if (found == entries.end() || found->second->kind == Entry::Poisoned)
    throw PoisonedValue();
  return *found->second;
}

AffineExpr Converter::getSymbol(StringRef name) {
  auto bound = options.dims.find(name.str());
  if (bound != options.dims.end())
    return builder.c(bound->second);
  auto [entry, isNew] = symbolIndex.try_emplace(name, symbols.size());
  if (isNew) {
    symbols.push_back(name.str());
    builder.symbolNames.push_back(name.str());
  }
  return builder.builder.getAffineSymbolExpr(entry->second);
}

AffineExpr Converter::makeSymbol(Operation *op) {
  std::string name = onnxd::getNodeName(op).str(), unique = name;
  for (int i = 1; symbolIndex.contains(unique) || options.dims.count(unique);
       ++i)
    unique = name + "_" + std::to_string(i);
  builder.dataSymbols.insert(symbols.size());
  return getSymbol(unique);
}

/// A size as an i64 tensor of one element.
static Value makeSize(GraphBuilder &b, AffineExpr size) {
  Type i64 = b.builder.getI64Type();
  if (std::optional<int64_t> constant = graph::constantValue(size))
    return b.splatInt(*constant, i64, {1});
  return b.reshape(b.size(size, i64), ArrayRef<int64_t>{1});
}

/// Known integers as a tensor.
static Value makeKnown(GraphBuilder &b, const ShapeValue &shape) {
  if (shape.isConstant()) {
    SmallVector<int64_t> values;
    for (AffineExpr e : shape.values)
      values.push_back(*graph::constantValue(e));
    return b.constantInts(values, shape.dims, shape.element);
  }
  SmallVector<Value> parts;
  for (AffineExpr e : shape.values)
    parts.push_back(makeSize(b, e));
  Value all = b.convert(b.concat(parts, 0), shape.element);
  return b.reshape(all, shape.dims);
}

Value Converter::materialize(Entry &entry) {
  if (entry.narrow)
    refuse("takes no elements of type " + describeElement(entry.narrow));
  return materializeCodes(entry);
}

Value Converter::materializeCodes(Entry &entry) {
  if (entry.value)
    return entry.value;
  // In a region the tensor is not there for what comes after it.
  Operation *parent = builder.builder.getBlock()->getParentOp();
  bool isTopLevel = isa_and_nonnull<func::FuncOp>(parent);
  Value value = makeKnown(builder, *entry.shape);
  if (isTopLevel)
    entry.value = value;
  return value;
}

void Converter::eraseFrom(Operation *last) {
  Block *block = builder.builder.getBlock();
  while (!block->empty() && &block->back() != last)
    block->back().erase();
}

/// "f32[1,3,8,8], i64[2]" of what is known about the operands.
static std::string describeOperands(ArrayRef<Entry *> operands) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(operands, os, [&](Entry *entry) {
    if (entry->kind == Entry::None)
      os << "-";
    else if (entry->kind == Entry::List)
      os << "sequence of " << entry->list.size();
    else if (entry->value)
      os << describeType(entry->value.getType(), entry->narrow);
    else
      os << describeType(
          RankedTensorType::get(entry->shape->dims, entry->shape->element));
  });
  return text;
}

void Converter::report(Operation *op, const Refusal &refusal) {
  ModelProblem problem;
  problem.where = ("node '" + onnxd::getNodeName(op) + "'").str();
  auto [domain, type] = onnxd::getOpName(op);
  problem.op = domain.empty() ? type.str() : (domain + "." + type).str();
  problem.opset = domain.empty() ? sourceOpset : 0;
  SmallVector<Entry *> operands;
  for (Value operand : op->getOperands())
    if (auto found = entries.find(operand); found != entries.end())
      operands.push_back(found->second.get());
  problem.types = describeOperands(operands);
  problem.reason = (refusal.malformed ? "" : "unsupported: ") + refusal.reason;
  anyMalformed |= refusal.malformed;
  problems.push_back(std::move(problem));
}

void Converter::lower(Operation *op) {
  NodeContext node(*this, op);
  if (std::optional<ShapeValue> known = evaluateShape(node)) {
    node.resultEntry(0, Entry::known(std::move(*known)));
    return;
  }
  Operation *last = builder.builder.getBlock()->empty()
                        ? nullptr
                        : &builder.builder.getBlock()->back();
  auto converter = getConverterTable().find(
      op->getName().getStringRef().drop_front(strlen("onnx.")));
  std::string reason = "no lowering for this operator";
  size_t required = builder.requirements.size();
  if (converter != getConverterTable().end()) {
    try {
      converter->second(node);
      noteFractions(node);
      return;
    } catch (const Refusal &refusal) {
      if (refusal.malformed)
        throw;
      reason = refusal.reason;
      builder.requirements.resize(required);
      // Entries made meanwhile may name operations that go away; they are
      // operands' tensors, remade when asked for again.
      for (Value operand : op->getOperands())
        if (Entry &entry = lookup(operand); entry.shape)
          entry.value = nullptr;
      eraseFrom(last);
    }
  }
  if (!expandFunctionBody(op))
    refuse(reason);
}

bool Converter::expandFunctionBody(Operation *op) {
  if (bodyDepth >= kMaxDepth)
    return false;
  SmallVector<Type> operandTypes;
  for (Value operand : op->getOperands()) {
    Entry &entry = lookup(operand);
    if (entry.kind == Entry::List)
      return false;
    operandTypes.push_back(
        entry.kind == Entry::None ? Type() : materialize(entry).getType());
  }
  auto body = std::make_unique<Block>();
  SmallVector<Value> outputs;
  if (!buildFunctionBody(op, operandTypes, body.get(), outputs))
    return false;
  Block *block = body.get();
  bodies.push_back(std::move(body));
  ++bodyDepth;
  auto restore = llvm::scope_exit([&] { --bodyDepth; });
  for (Operation &inner : *block) {
    if (inner.getName().getStringRef() == onnxd::kNoneOp) {
      define(inner.getResult(0), Entry());
      continue;
    }
    try {
      builder.loc = op->getLoc();
      lower(&inner);
    } catch (Refusal &refusal) {
      // A body is onnx's own text: what does not fit in it is ours to support.
      auto [domain, type] = onnxd::getOpName(&inner);
      throw Refusal{refusal.reason + " (in '" + type.str() +
                        "' of its function body)",
                    refusal.malformed};
    }
  }
  for (auto [result, output] : llvm::zip(op->getResults(), outputs))
    if (output)
      define(result, lookup(output));
  return true;
}

void Converter::convertNode(Operation *op) {
  if (op->getName().getStringRef() == onnxd::kNoneOp)
    return define(op->getResult(0), Entry());
  Block *block = builder.builder.getBlock();
  Operation *last = block->empty() ? nullptr : &block->back();
  builder.loc = op->getLoc();
  try {
    for (Value operand : op->getOperands())
      (void)lookup(operand);
    return lower(op);
  } catch (const Refusal &refusal) {
    if (regionDepth) {
      // The list names the outermost node; this one is the cause.
      if (StringRef(refusal.reason).contains(kInside))
        throw;
      auto [domain, type] = onnxd::getOpName(op);
      throw Refusal{refusal.reason + kInside.str() +
                        onnxd::getNodeName(op).str() + "' (" + type.str() +
                        ") inside)",
                    refusal.malformed};
    }
    report(op, refusal);
  } catch (const PoisonedValue &) {
    if (regionDepth)
      throw;
  }
  // Known operands may have been made into tensors after `last`.
  for (auto &[value, entry] : entries)
    if (entry->shape)
      entry->value = nullptr;
  eraseFrom(last);
  for (Value result : op->getResults())
    define(result, {Entry::Poisoned, {}, std::nullopt, {}});
}

void Converter::convertBlock(Block &block) {
  for (Operation &op : block)
    if (op.getName().getStringRef() != onnxd::kReturnOp &&
        !isa<func::ReturnOp>(op))
      convertNode(&op);
}

std::vector<Entry> Converter::convertRegion(Region &region,
                                            ArrayRef<Entry> arguments) {
  if (regionDepth >= kMaxDepth)
    refuse("control flow is nested more than " + std::to_string(kMaxDepth) +
           " deep");
  ++regionDepth;
  auto restore = llvm::scope_exit([&] { --regionDepth; });
  Block &block = region.front();
  for (auto [argument, entry] : llvm::zip(block.getArguments(), arguments))
    define(argument, entry);
  convertBlock(block);
  std::vector<Entry> results;
  for (Value value : block.back().getOperands())
    results.push_back(lookup(value));
  return results;
}

/// The graph type of a tensor among the inputs; a shape given for it wins.
static Type makeInputType(Converter &converter, TensorType tensor,
                          StringRef name) {
  auto given = converter.options.shapes.find(name.str());
  auto ranked = dyn_cast<RankedTensorType>(tensor);
  if (given != converter.options.shapes.end()) {
    if (ranked &&
        ranked.getRank() != static_cast<int64_t>(given->second.size()))
      refuse("has rank " + std::to_string(ranked.getRank()) +
             ", the shape given for it has rank " +
             std::to_string(given->second.size()));
    for (auto [i, size] : llvm::enumerate(given->second))
      if (ranked && !ranked.isDynamicDim(i) && ranked.getDimSize(i) != size)
        refuse("dim " + std::to_string(i) + " is " +
               std::to_string(ranked.getDimSize(i)) +
               ", the shape given for it says " + std::to_string(size));
    return graph::makeTensorType(
        graph::constantDims(converter.builder.context(), given->second),
        tensor.getElementType());
  }
  if (!ranked)
    refuse("has no rank; give its shape");
  auto names = dyn_cast_or_null<ArrayAttr>(ranked.getEncoding());
  Dims dims;
  for (auto [i, size] : llvm::enumerate(ranked.getShape())) {
    StringRef symbol =
        names ? cast<StringAttr>(names[i]).getValue() : StringRef();
    std::string own = (name + "_dim" + Twine(i)).str();
    dims.push_back(
        ShapedType::isDynamic(size)
            ? converter.getSymbol(symbol.empty() ? StringRef(own) : symbol)
            : converter.builder.c(size));
  }
  return graph::makeTensorType(dims, tensor.getElementType());
}

/// The name of a sequence's tensor at the model's boundary.
static std::string getPartName(StringRef name, size_t i) {
  return (name + "#" + Twine(i)).str();
}

/// The tensors of a sequence among the inputs: their types.
static SmallVector<Type> makeSequenceTypes(Converter &converter,
                                           onnxd::SequenceType sequence,
                                           StringRef name) {
  auto tensor = dyn_cast<TensorType>(sequence.getElementType());
  if (!tensor)
    refuse("inputs of type " + onnxd::getTypeText(sequence) +
           " are not supported");
  const auto &shapes = converter.options.shapes;
  size_t count = 0;
  while (shapes.count(getPartName(name, count)))
    ++count;
  if (auto length = shapes.find(name.str()); length != shapes.end()) {
    if (length->second.size() != 1 ||
        length->second[0] < static_cast<int64_t>(count))
      refuse("is a sequence: its shape is the number of its tensors");
    count = length->second[0];
  } else if (!count) {
    refuse(("is a sequence, and the number of its tensors is not told; give "
            "it, -shape=" +
            name + ":<n>, or their shapes, -shape=" + name + "#0:2x3 and so on")
               .str());
  }
  if (count > 4096)
    refuse("a sequence of " + std::to_string(count));
  // The tensors differ in sizes, also where the type names a dim.
  if (auto ranked = dyn_cast<RankedTensorType>(tensor))
    tensor = RankedTensorType::get(ranked.getShape(), ranked.getElementType());
  SmallVector<Type> types;
  for (size_t i = 0; i < count; ++i)
    types.push_back(makeInputType(converter, tensor, getPartName(name, i)));
  return types;
}

void Converter::eraseUnused() {
  Block *block = builder.builder.getBlock();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

void Converter::convertFunction() {
  auto source = *model.getOps<func::FuncOp>().begin();
  Block &entry = source.front();
  OpBuilder &b = builder.builder;
  b.setInsertionPointToEnd(result->getBody());
  auto function = func::FuncOp::create(b, b.getUnknownLoc(), source.getName(),
                                       b.getFunctionType({}, {}));
  Block *block = function.addEntryBlock();
  SmallVector<StringAttr> names;
  SmallVector<Type> inputTypes; // the narrow ones; null for others
  for (BlockArgument argument : entry.getArguments()) {
    auto name = source.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                    onnxd::kNameAttr);
    name =
        name ? name : b.getStringAttr("input" + Twine(argument.getArgNumber()));
    auto add = [&](Type type, StringAttr partName) {
      Type element = cast<RankedTensorType>(type).getElementType();
      bool isNarrow = graph::isNarrow(element);
      if (isNarrow)
        type = graph::makeTensorType(graph::getDims(type),
                                     b.getIntegerType(8, /*isSigned=*/false));
      builder.checkType(type);
      names.push_back(partName);
      Entry input = Entry::tensor(block->addArgument(type, argument.getLoc()));
      input.narrow = isNarrow ? element : Type();
      inputTypes.push_back(input.narrow);
      return input;
    };
    try {
      // An optional input is there: without it this is another model.
      Type type = argument.getType();
      if (auto optional = dyn_cast<onnxd::OptionalType>(type))
        type = optional.getElementType();
      if (auto sequence = dyn_cast<onnxd::SequenceType>(type)) {
        Entry list{Entry::List, {}, std::nullopt, {}};
        for (Type part : makeSequenceTypes(*this, sequence, name.getValue()))
          list.list.push_back(add(
              part,
              b.getStringAttr(getPartName(name.getValue(), list.list.size()))));
        define(argument, std::move(list));
      } else if (auto tensor = dyn_cast<TensorType>(type)) {
        define(argument,
               add(makeInputType(*this, tensor, name.getValue()), name));
      } else {
        refuse("inputs of type " + onnxd::getTypeText(type) +
               " are not supported");
      }
    } catch (const Refusal &refusal) {
      problems.push_back({("input '" + name.getValue() + "'").str(), "", 0, "",
                          "unsupported: " + refusal.reason});
      define(argument, {Entry::Poisoned, {}, std::nullopt, {}});
    }
  }
  b.setInsertionPointToEnd(block);
  convertBlock(entry);

  SmallVector<Value> outputs;
  SmallVector<StringAttr> outputNames;
  SmallVector<Type> outputTypes; // the narrow ones; null for others
  auto addOutput = [&](Entry &output, StringAttr name) {
    outputs.push_back(materializeCodes(output));
    outputNames.push_back(name);
    outputTypes.push_back(output.narrow);
  };
  for (auto [i, value] : llvm::enumerate(entry.back().getOperands())) {
    auto name = source.getResultAttrOfType<StringAttr>(i, onnxd::kNameAttr);
    if (!name)
      name = b.getStringAttr("output" + Twine(i));
    try {
      Entry &output = lookup(value);
      if (output.kind == Entry::Tensor) {
        addOutput(output, name);
        continue;
      }
      if (output.list.empty())
        refuse(output.kind == Entry::None ? "is an optional without a value"
                                          : "is an empty sequence");
      for (auto [k, part] : llvm::enumerate(output.list)) {
        if (part.kind != Entry::Tensor)
          refuse("is a sequence of sequences or optionals");
        addOutput(part, b.getStringAttr(getPartName(name.getValue(), k)));
      }
    } catch (const Refusal &refusal) {
      problems.push_back({"output '" + name.str() + "'", "", 0, "",
                          "unsupported: " + refusal.reason});
    } catch (const PoisonedValue &) {
      // Its cause is on the list already.
    }
  }
  if (!problems.empty())
    return;
  func::ReturnOp::create(b, b.getUnknownLoc(), outputs);
  eraseUnused();
  function.setFunctionType(b.getFunctionType(block->getArgumentTypes(),
                                             TypeRange(ValueRange(outputs))));
  for (auto [i, name] : llvm::enumerate(names))
    function.setArgAttr(i, "graph.name", name);
  for (auto [i, type] : llvm::enumerate(inputTypes))
    if (type)
      function.setArgAttr(i, graph::kNarrowAttr, TypeAttr::get(type));
  for (auto [i, type] : llvm::enumerate(outputTypes))
    if (type)
      function.setResultAttr(i, graph::kNarrowAttr, TypeAttr::get(type));
  for (auto [i, name] : llvm::enumerate(outputNames))
    function.setResultAttr(i, "graph.name", name);
  SmallVector<StringRef> symbolNames(symbols.begin(), symbols.end());
  function->setAttr("graph.symbols", b.getStrArrayAttr(symbolNames));
  builder.requireSizes(*block);
  graph::setRequirements(function, builder.requirements);
}

llvm::Expected<OwningOpRef<ModuleOp>> Converter::run() {
  model.getContext()->loadDialect<graph::GraphDialect, func::FuncDialect>();
  ScopedDiagnosticHandler handler(model.getContext(),
                                  [&](Diagnostic &diagnostic) {
                                    builder.lastDiagnostic = diagnostic.str();
                                    return success();
                                  });
  result = ModuleOp::create(builder.builder.getUnknownLoc());
  convertFunction();
  // Bodies hold operations that use the model's values and each other's.
  for (auto &body : bodies)
    body->dropAllReferences();
  for (auto &body : bodies)
    body->dropAllDefinedValueUses();
  auto kind = anyMalformed ? ImportError::Kind::Malformed
                           : ImportError::Kind::Unsupported;
  if (!problems.empty())
    return llvm::make_error<ImportError>(file, kind, std::move(problems));
  if (failed(verify(*result)))
    return llvm::make_error<ImportError>(
        file, ImportError::Kind::Unsupported,
        std::vector<ModelProblem>{{"", "", 0, "",
                                   "the converted graph does not verify: " +
                                       builder.lastDiagnostic}});
  return std::move(result);
}

llvm::Expected<OwningOpRef<ModuleOp>>
dlc::convertToGraph(ModuleOp model, StringRef file,
                    const ConvertOptions &options) {
  return Converter(model, file, options).run();
}
