// Walks functions: operators become kernels, kernels are evaluated stage by
// stage.
#include "dlc/Interpreter/Interpreter.h"
#include "Control.h"
#include "Opaque.h"
#include "StageEvaluator.h"
#include "dlc/Dialect/Graph/IR/Requirements.h"

#include "dlc/Dialect/Graph/IR/Control.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/SmallBitVector.h"

#include <thread>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

static std::string spell(ArrayRef<int64_t> shape, Type element) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (int64_t d : shape)
    os << d << "x";
  os << element;
  return text;
}

static SmallVector<int64_t> shapeOf(Type type, ArrayRef<int64_t> symbols) {
  return llvm::map_to_vector(graph::getDims(type), [&](AffineExpr e) {
    return graph::evaluate(e, symbols);
  });
}

// Does the tensor have this type once the sizes are known?
static LogicalResult checkType(Operation *op, const Twine &what,
                               const Tensor &tensor, Type type,
                               ArrayRef<int64_t> symbols) {
  SmallVector<int64_t> shape = shapeOf(type, symbols);
  Type element = cast<RankedTensorType>(type).getElementType();
  if (tensor && tensor.getElementType() == element &&
      tensor.getShape() == ArrayRef<int64_t>(shape))
    return success();
  return op->emitOpError() << what << " is "
                           << (tensor ? describe(tensor) : "absent")
                           << ", expected " << spell(shape, element);
}

//===----------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------===//

FailureOr<SmallVector<int64_t>> interp::bindSymbols(func::FuncOp main,
                                                    ArrayRef<Tensor> inputs) {
  if (inputs.size() != main.getNumArguments())
    return main.emitOpError() << "takes " << main.getNumArguments()
                              << " inputs, got " << inputs.size();
  unsigned count = 0;
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  if (names)
    count = names.size();
  auto nameOf = [&](unsigned i) {
    return names && i < names.size() ? cast<StringAttr>(names[i]).str()
                                     : "s" + std::to_string(i);
  };
  SmallVector<std::optional<int64_t>> values(count);
  llvm::SmallBitVector used(count);
  for (auto [type, input] : llvm::zip(main.getArgumentTypes(), inputs)) {
    SmallVector<AffineExpr> dims = graph::getDims(type);
    if (dims.size() != input.getShape().size())
      continue; // said below
    for (auto [dim, size] : llvm::zip(dims, input.getShape())) {
      dim.walk([&](AffineExpr e) {
        if (auto s = dyn_cast<AffineSymbolExpr>(e);
            s && s.getPosition() >= values.size())
          values.resize(s.getPosition() + 1);
        if (auto s = dyn_cast<AffineSymbolExpr>(e)) {
          used.resize(values.size());
          used.set(s.getPosition());
        }
      });
      if (auto s = dyn_cast<AffineSymbolExpr>(dim);
          s && !values[s.getPosition()])
        values[s.getPosition()] = size;
    }
  }
  SmallVector<int64_t> symbols;
  auto ranges = main->getAttrOfType<ArrayAttr>("graph.ranges");
  for (auto [i, value] : llvm::enumerate(values)) {
    // The graph may hold for these sizes only.
    if (ranges && value && i < ranges.size())
      if (auto range = dyn_cast<DenseI64ArrayAttr>(ranges[i]);
          range && (*value < range[0] || *value > range[1]))
        return main.emitOpError()
               << "is for '" << nameOf(i) << "' from " << range[0] << " to "
               << range[1] << ", got " << *value;
    if (!value && !used.test(i)) { // the data's: a prefix binds it
      symbols.push_back(-1);
      continue;
    }
    if (!value)
      return main.emitOpError() << "dim symbol '" << nameOf(i)
                                << "' stands alone in no input's shape";
    symbols.push_back(*value);
  }
  for (auto [i, input] : llvm::enumerate(inputs))
    if (failed(checkType(main, "input " + Twine(i), input,
                         main.getArgumentTypes()[i], symbols)))
      return failure();
  for (const graph::Requirement &each : graph::getRequirements(main)) {
    int64_t left = graph::evaluate(each.left, symbols),
            right = graph::evaluate(each.right, symbols);
    if (each.atLeast ? left < right : left != right)
      return main.emitOpError() << "does not fit these inputs: " << each.site
                                << " (" << left << " and " << right << ")";
  }
  return symbols;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

FailureOr<SmallVector<Tensor>>
Interpreter::runKernel(graph::KernelOp kernel, ArrayRef<Tensor> operands,
                       ArrayRef<int64_t> symbols) {
  const MathTable *math =
      options.math == MathMode::libm ? &getLibmMath() : getDlcMath();
  if (!math)
    return kernel.emitOpError("math=dlc is unavailable: the compiler's "
                              "functions are not part of this program");
  if (symbols.size() != kernel.getNumSymbols())
    return kernel.emitOpError() << "has " << kernel.getNumSymbols()
                                << " symbols, got " << symbols.size();
  if (operands.size() != kernel.getArgumentTypes().size())
    return kernel.emitOpError() << "takes " << kernel.getArgumentTypes().size()
                                << " operands, got " << operands.size();
  llvm::DenseMap<Value, Tensor> tensors;
  for (auto [i, operand] : llvm::enumerate(operands)) {
    if (failed(checkType(kernel, "operand " + Twine(i), operand,
                         kernel.getArgumentTypes()[i], symbols)))
      return failure();
    tensors[kernel.getBody().getArgument(i)] = operand;
  }
  if (graph::GraphOp opaque = kernel.getOpaque()) {
    FailureOr<Tensor> result =
        evaluateOpaque(opaque, operands,
                       shapeOf(opaque->getResult(0).getType(), symbols), *math);
    if (failed(result))
      return failure();
    return SmallVector<Tensor>{*result};
  }
  unsigned threads = options.threads
                         ? options.threads
                         : std::max(1u, std::thread::hardware_concurrency());
  auto tensorOf = [&](Value value) -> const Tensor & {
    return tensors.find(value)->second;
  };
  for (graph::StageOp stage : kernel.getStages()) {
    ErrorSink errors;
    StageTask task{stage,  symbols, tensorOf, *math, threads,
                   errors, {},      {},       {}};
    Tensor result = evaluateStage(task);
    if (failed(errors.emit()))
      return failure();
    tensors[stage.getResult()] = std::move(result);
  }
  SmallVector<Tensor> results;
  for (Value value : kernel.getResultValues())
    results.push_back(tensorOf(value));
  return results;
}

FailureOr<SmallVector<Tensor>> Interpreter::runOp(Operation *op,
                                                  ArrayRef<Tensor> operands,
                                                  ArrayRef<int64_t> symbols) {
  if (auto constant = dyn_cast<graph::ConstantOp>(op)) {
    FailureOr<Tensor> tensor = Tensor::fromAttr(constant.getValue());
    if (failed(tensor))
      return op->emitOpError("has no data the interpreter can read");
    return SmallVector<Tensor>{*tensor};
  }
  if (isa<graph::ReshapeOp>(op)) {
    SmallVector<int64_t> shape = shapeOf(op->getResult(0).getType(), symbols);
    if (countElements(shape) != operands[0].getNumElements())
      return op->emitOpError()
             << "cannot view " << describe(operands[0]) << " as "
             << spell(shape, operands[0].getElementType());
    return SmallVector<Tensor>{operands[0].reshaped(shape)};
  }
  if (isa<graph::PrefixOp, graph::BitcastOp>(op)) {
    SmallVector<int64_t> shape = shapeOf(op->getResult(0).getType(), symbols);
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    return SmallVector<Tensor>{
        Tensor::copy(type.getElementType(), shape, operands[0].getBytes())};
  }
  if (auto call = dyn_cast<graph::CallOp>(op)) {
    if (options.call)
      return options.call(call, operands, symbols);
    auto kernel = SymbolTable::lookupNearestSymbolFrom<graph::KernelOp>(
        op, call.getCalleeAttr());
    if (!kernel)
      return op->emitOpError() << "no kernel '" << call.getCallee() << "'";
    SmallVector<int64_t> values;
    if (call.getSymbols())
      for (AffineExpr e : call.getSymbols()->getDims())
        values.push_back(graph::evaluate(e, symbols));
    return runKernel(kernel, operands, values);
  }
  auto graphOp = dyn_cast<graph::GraphOp>(op);
  if (!graphOp)
    return op->emitOpError("is not an operation the interpreter runs");
  OwningOpRef<ModuleOp> scratch = ModuleOp::create(op->getLoc());
  SmallVector<AffineExpr> symbolMap;
  FailureOr<graph::KernelOp> kernel =
      graph::buildKernelFor(graphOp, *scratch, "op", symbolMap);
  if (failed(kernel))
    return op->emitOpError("has no declared meaning as a kernel");
  SmallVector<int64_t> values = llvm::map_to_vector(
      symbolMap, [&](AffineExpr e) { return graph::evaluate(e, symbols); });
  return runKernel(*kernel, operands, values);
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

LogicalResult interp::checkResults(Operation *op, ArrayRef<Tensor> results,
                                   ArrayRef<int64_t> symbols) {
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    if (failed(checkType(op, "result " + Twine(i), results[i], result.getType(),
                         symbols)))
      return failure();
  return success();
}

FailureOr<SmallVector<Tensor>> Interpreter::run(func::FuncOp main,
                                                ArrayRef<Tensor> inputs) {
  if (!llvm::hasSingleElement(main.getBody()))
    return main.emitOpError("must have a body of one block");
  FailureOr<SmallVector<int64_t>> symbols = bindSymbols(main, inputs);
  if (failed(symbols))
    return failure();
  return BlockRunner(*this, options.observer, *symbols)
      .run(main.getBody().front(), inputs);
}
