// Two functions of kernels: are their outputs the same expressions of their
// inputs?
#include "Compare.h"
#include "Values.h"
#include "dlc/Check/Fusion.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/thread.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
// Whole models are nested deeply: a stack of this size carries this depth.
constexpr unsigned kDepth = 40000, kStackBytes = 512u << 20;
// Leaves that are results of opaque operations come after these.
constexpr uint32_t kFirstOpaqueLeaf = 1u << 20;

class FunctionReader {
public:
  FunctionReader(func::FuncOp main, IndexArena &index, Inliner &inliner,
                 ValueNumbering &numbering, ArrayRef<PolyId> symbols)
      : main(main), index(index), inliner(inliner), numbering(numbering),
        symbols(symbols), table(main->getParentOfType<ModuleOp>()) {}

  // The outputs as tensors over the inputs; a diagnostic where an operation is
  // not of the graph level.
  FailureOr<SmallVector<TensorId>> read() {
    for (auto [i, arg] : llvm::enumerate(main.getArguments())) {
      tensors[arg] = inliner.leaf(i, arg.getType(), symbols);
      numbers[arg] = numbering.value(~0u, i);
    }
    for (Operation &op : main.getBody().front().without_terminator())
      if (failed(add(&op)))
        return failure();
    SmallVector<TensorId> outputs;
    for (Value v : main.getBody().front().getTerminator()->getOperands())
      outputs.push_back(tensors.lookup(v));
    return outputs;
  }

private:
  LogicalResult add(Operation *op) {
    SmallVector<TensorId> operands;
    SmallVector<uint32_t> operandNumbers;
    for (Value v : op->getOperands()) {
      operands.push_back(tensors.lookup(v));
      operandNumbers.push_back(numbers.lookup(v));
    }
    KernelOp callee;
    if (auto call = dyn_cast<CallOp>(op)) {
      callee = table.lookup<KernelOp>(call.getCallee());
      if (!callee)
        return op->emitOpError("calls no kernel");
    }
    if (op->getNumRegions() != 0)
      return op->emitOpError("has a region: lists of operations are compared");
    uint32_t id = numbering.number(op, operandNumbers, symbols, callee).id;
    for (OpResult result : op->getResults())
      numbers[result] = numbering.value(id, result.getResultNumber());
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      tensors[constant.getResult()] = inliner.constant(constant.getValue());
      return success();
    }
    if (auto reshape = dyn_cast<ReshapeOp>(op)) {
      tensors[reshape.getResult()] =
          inliner.reshape(operands[0], reshape.getType(), symbols);
      return success();
    }
    if (callee && !callee.getOpaque()) {
      SmallVector<TensorId> results = inliner.call(
          callee, operands, callSymbols(index, cast<CallOp>(op), symbols));
      for (auto [value, tensor] : llvm::zip(op->getResults(), results))
        tensors[value] = tensor;
      return success();
    }
    // Without an expression: equal when it is the same operation of equal
    // operands.
    for (OpResult result : op->getResults())
      tensors[result] = inliner.leaf(kFirstOpaqueLeaf + numbers[result],
                                     result.getType(), symbols);
    return success();
  }

  func::FuncOp main;
  IndexArena &index;
  Inliner &inliner;
  ValueNumbering &numbering;
  ArrayRef<PolyId> symbols;
  SymbolTable table;
  llvm::DenseMap<Value, TensorId> tensors;
  llvm::DenseMap<Value, uint32_t> numbers;
};
} // namespace

static FailureOr<std::vector<OutputVerdict>> compareOutputs(func::FuncOp a,
                                                            func::FuncOp b) {
  std::vector<OutputVerdict> verdicts;
  for (unsigned i = 0; i < a.getNumResults(); ++i) {
    // Each output on its own: one that is too large does not spoil the others.
    IndexArena index;
    ExprArena exprs(index);
    Inliner inliner(index, exprs, kDepth);
    ProofBudget budget;
    Prover prover(index, budget);
    ValueNumbering numbering(index);
    SmallVector<PolyId> symbols = ownSymbols(
        index, std::max(countFunctionSymbols(a), countFunctionSymbols(b)));
    auto left = FunctionReader(a, index, inliner, numbering, symbols).read();
    if (failed(left))
      return failure();
    auto right = FunctionReader(b, index, inliner, numbering, symbols).read();
    if (failed(right))
      return failure();
    SmallVector<PolyId> sizes = inliner.sizes(
                            getDims(a.getFunctionType().getResult(i)), symbols),
                        at;
    for (auto [axis, size] : llvm::enumerate(sizes))
      at.push_back(index.axis(0, axis, size));
    OutputVerdict verdict{i, std::nullopt};
    if (llvm::none_of(sizes, [&](PolyId p) { return index.isZero(p); })) {
      ContextId context = index.withExtents(index.emptyContext(), sizes);
      NodeId x = inliner.read((*left)[i], at, 0, context),
             y = inliner.read((*right)[i], at, 0, context);
      Comparer comparer(index, exprs, prover);
      if (inliner.failure() || !comparer.equal(x, y, context))
        verdict.refusal = inliner.failure() ? Refusal{Condition::Compose,
                                                      *inliner.failure(), ""}
                                            : comparer.getRefusal();
    }
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

FailureOr<std::vector<OutputVerdict>> check::checkEquivalence(func::FuncOp a,
                                                              func::FuncOp b) {
  if (a.getFunctionType() != b.getFunctionType())
    return b.emitOpError() << "has type " << b.getFunctionType()
                           << ", the other " << a.getFunctionType();
  if (a->getAttr("graph.symbols") != b->getAttr("graph.symbols"))
    return b.emitOpError("names other dim symbols than the other");
  if (a.isExternal() || b.isExternal() || !a.getBody().hasOneBlock() ||
      !b.getBody().hasOneBlock())
    return b.emitOpError("is not a list of operations");
  FailureOr<std::vector<OutputVerdict>> verdicts = failure();
  llvm::thread worker(std::optional<unsigned>(kStackBytes),
                      [&] { verdicts = compareOutputs(a, b); });
  worker.join();
  return verdicts;
}
