// Two functions of kernels: are their outputs the same expressions of their
// inputs?
#include "Compare.h"
#include "Values.h"
#include "dlc/Check/Fusion.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/Support/thread.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
// Whole models are nested deeply: a stack of this size carries this depth.
constexpr unsigned kDepth = 40000, kStackBytes = 512u << 20;
// Whole models grow exponentially where reductions read reductions.
constexpr unsigned kSteps = 1u << 18;
// Leaves that are results of opaque operations come after these.
constexpr uint32_t kFirstOpaqueLeaf = 1u << 20;

class FunctionReader {
public:
  FunctionReader(func::FuncOp main, IndexArena &index, Inliner &inliner,
                 ValueNumbering &numbering, ArrayRef<PolyId> symbols)
      : main(main), index(index), inliner(inliner), numbering(numbering),
        symbols(symbols), table(main->getParentOfType<ModuleOp>()) {}

  // The numbers of all values: equal numbers in two functions, equal values.
  LogicalResult number(llvm::DenseSet<uint32_t> &found) {
    for (auto [i, arg] : llvm::enumerate(main.getArguments()))
      numbers[arg] = numbering.value(~0u, i);
    for (Operation &op : main.getBody().front().without_terminator()) {
      SmallVector<uint32_t> operands;
      for (Value v : op.getOperands())
        operands.push_back(numbers.lookup(v));
      KernelOp callee;
      if (auto call = dyn_cast<CallOp>(op)) {
        callee = table.lookup<KernelOp>(call.getCallee());
        if (!callee)
          return op.emitOpError("calls no kernel");
      }
      if (op.getNumRegions() != 0)
        return op.emitOpError("has a region: lists of operations are compared");
      uint32_t id = numbering.number(&op, operands, symbols, callee).id;
      for (OpResult result : op.getResults())
        found.insert(numbers[result] =
                         numbering.value(id, result.getResultNumber()));
    }
    return success();
  }

  // The outputs as tensors over the inputs. What both compute in the same way
  // (`shared`) is a leaf.
  SmallVector<TensorId> read(const llvm::DenseSet<uint32_t> &shared) {
    for (auto [i, arg] : llvm::enumerate(main.getArguments()))
      tensors[arg] = inliner.leaf(i, arg.getType(), symbols);
    for (Operation &op : main.getBody().front().without_terminator())
      add(&op, shared);
    SmallVector<TensorId> outputs;
    for (Value v : main.getBody().front().getTerminator()->getOperands())
      outputs.push_back(tensors.lookup(v));
    return outputs;
  }

private:
  void add(Operation *op, const llvm::DenseSet<uint32_t> &shared) {
    SmallVector<TensorId> operands;
    for (Value v : op->getOperands())
      operands.push_back(tensors.lookup(v));
    KernelOp callee;
    if (auto call = dyn_cast<CallOp>(op))
      callee = table.lookup<KernelOp>(call.getCallee());
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      tensors[constant.getResult()] = inliner.constant(constant.getValue());
      return;
    }
    if (auto reshape = dyn_cast<ReshapeOp>(op)) {
      tensors[reshape.getResult()] =
          inliner.reshape(operands[0], reshape.getType(), symbols);
      return;
    }
    bool isShared = llvm::all_of(op->getResults(), [&](Value v) {
      return shared.contains(numbers.lookup(v));
    });
    if (callee && !callee.getOpaque() && !isShared) {
      SmallVector<TensorId> results = inliner.call(
          callee, operands, callSymbols(index, cast<CallOp>(op), symbols));
      for (auto [value, tensor] : llvm::zip(op->getResults(), results))
        tensors[value] = tensor;
      return;
    }
    // Without an expression: equal when it is the same operation of equal
    // operands.
    for (OpResult result : op->getResults())
      tensors[result] = inliner.leaf(kFirstOpaqueLeaf + numbers[result],
                                     result.getType(), symbols);
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

// Each output on its own: one that is too large does not spoil the others.
static FailureOr<OutputVerdict> compareOutput(func::FuncOp a, func::FuncOp b,
                                              unsigned output, bool shares) {
  IndexArena index;
  ExprArena exprs(index);
  Inliner inliner(index, exprs, kDepth, kSteps);
  ProofBudget budget;
  Prover prover(index, budget);
  ValueNumbering numbering(index);
  SmallVector<PolyId> symbols = ownSymbols(
      index, std::max(countFunctionSymbols(a), countFunctionSymbols(b)));
  FunctionReader left(a, index, inliner, numbering, symbols),
      right(b, index, inliner, numbering, symbols);
  llvm::DenseSet<uint32_t> inA, inB, shared;
  if (failed(left.number(inA)) || failed(right.number(inB)))
    return failure();
  if (shares)
    for (uint32_t number : inA)
      if (inB.contains(number))
        shared.insert(number);
  TensorId p = left.read(shared)[output], q = right.read(shared)[output];
  SmallVector<PolyId> sizes = inliner.sizes(
                          getDims(a.getFunctionType().getResult(output)),
                          symbols),
                      at;
  for (auto [axis, size] : llvm::enumerate(sizes))
    at.push_back(index.axis(0, axis, size));
  OutputVerdict verdict{output, std::nullopt};
  if (llvm::any_of(sizes, [&](PolyId size) { return index.isZero(size); }))
    return verdict;
  ContextId context = index.withExtents(index.emptyContext(), sizes);
  NodeId x = inliner.read(p, at, 0, context),
         y = inliner.read(q, at, 0, context);
  Comparer comparer(index, exprs, prover);
  if (std::optional<std::string> why = inliner.failure())
    verdict.refusal = Refusal{Condition::Compose, *why, ""};
  else if (!comparer.equal(x, y, context))
    verdict.refusal = comparer.getRefusal();
  return verdict;
}

static FailureOr<std::vector<OutputVerdict>> compareOutputs(func::FuncOp a,
                                                            func::FuncOp b) {
  std::vector<OutputVerdict> verdicts;
  for (unsigned i = 0; i < a.getNumResults(); ++i) {
    // First over what both compute in the same way, then from the inputs on.
    FailureOr<OutputVerdict> verdict = compareOutput(a, b, i, true);
    if (succeeded(verdict) && verdict->refusal) {
      FailureOr<OutputVerdict> whole = compareOutput(a, b, i, false);
      if (succeeded(whole) && !whole->refusal)
        verdict = whole;
    }
    if (failed(verdict))
      return failure();
    verdicts.push_back(std::move(*verdict));
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
