// The graph part of the check: expanding every fused call by its certificate
// must give operations of the original program, and its outputs.
#include "Values.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

template <typename T>
static uint64_t address(T value) {
  return reinterpret_cast<uintptr_t>(value.getAsOpaquePointer());
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

// Operations, attributes, types and the wiring between them; a name stands for
// nothing.
static void describe(Region &region, std::vector<uint64_t> &tokens,
                     llvm::DenseMap<Value, uint64_t> &numbers) {
  for (Block &block : region) {
    tokens.push_back(block.getNumArguments());
    for (BlockArgument arg : block.getArguments()) {
      numbers.try_emplace(arg, numbers.size());
      tokens.push_back(address<Type>(arg.getType()));
    }
    for (Operation &op : block) {
      tokens.push_back(address(op.getName()));
      tokens.push_back(address(op.getAttrDictionary()));
      tokens.push_back(op.getNumOperands());
      for (Value operand : op.getOperands())
        tokens.push_back(numbers.lookup(operand));
      tokens.push_back(op.getNumResults());
      for (Value result : op.getResults()) {
        numbers.try_emplace(result, numbers.size());
        tokens.push_back(address<Type>(result.getType()));
      }
      for (Region &nested : op.getRegions())
        describe(nested, tokens, numbers);
      tokens.push_back(~uint64_t(0));
    }
  }
}

uint32_t ValueNumbering::kernel(KernelOp kernel) {
  auto [known, isNew] = kernelOf.try_emplace(kernel, 0);
  if (!isNew)
    return known->second;
  std::vector<uint64_t> tokens = {address<Type>(kernel.getFunctionType()),
                                  kernel.getNumSymbols()};
  llvm::DenseMap<Value, uint64_t> numbers;
  describe(kernel.getBody(), tokens, numbers);
  auto it = kernels.try_emplace(std::move(tokens), kernels.size()).first;
  return kernelOf[kernel] = it->second;
}

uint32_t ValueNumbering::value(uint32_t id, unsigned i) {
  return values.try_emplace({id, i}, values.size()).first->second;
}

ValueNumbering::Numbered ValueNumbering::number(Operation *op,
                                                ArrayRef<uint32_t> operands,
                                                ArrayRef<PolyId> symbols,
                                                KernelOp callee,
                                                ArrayRef<uint64_t> inside) {
  std::vector<uint64_t> key;
  auto addType = [&](Type type) {
    key.push_back(address<Type>(cast<RankedTensorType>(type).getElementType()));
    for (AffineExpr e : getDims(type))
      key.push_back(index.fromAffine(e, {}, symbols, index.emptyContext()));
  };
  key.push_back(address(op->getName()));
  if (callee) {
    key.push_back(kernel(callee));
    for (PolyId p : callSymbols(index, cast<CallOp>(op), symbols))
      key.push_back(p);
  } else {
    if (!isa<ReshapeOp>(op))
      key.push_back(address(op->getAttrDictionary()));
    for (Type type : op->getResultTypes()) {
      if (isa<RankedTensorType>(type))
        addType(type);
      else
        key.push_back(address(type));
    }
  }
  key.push_back(~uint64_t(0));
  key.insert(key.end(), operands.begin(), operands.end());
  key.push_back(~uint64_t(0));
  key.insert(key.end(), inside.begin(), inside.end());
  auto [it, isNew] = operations.try_emplace(std::move(key), operations.size());
  return {it->second, isNew};
}

SmallVector<PolyId> check::ownSymbols(IndexArena &index, unsigned count) {
  SmallVector<PolyId> symbols;
  for (unsigned i = 0; i < count; ++i)
    symbols.push_back(index.symbol(i));
  return symbols;
}

SmallVector<PolyId> check::callSymbols(IndexArena &index, CallOp call,
                                       ArrayRef<PolyId> symbols) {
  SmallVector<PolyId> values;
  if (call.getSymbols())
    for (AffineExpr e : call.getSymbols()->getDims())
      values.push_back(index.fromAffine(e, {}, symbols, index.emptyContext()));
  return values;
}

static void countSymbols(AffineExpr expr, unsigned &count) {
  expr.walk([&](AffineExpr e) {
    if (auto s = dyn_cast<AffineSymbolExpr>(e))
      count = std::max(count, s.getPosition() + 1);
  });
}
static void countSymbols(Type type, unsigned &count) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    if (auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding()))
      for (AffineExpr e : dims.getDims())
        countSymbols(e, count);
}

unsigned check::countFunctionSymbols(func::FuncOp main) {
  unsigned count = 0;
  if (auto names = main->getAttrOfType<ArrayAttr>("graph.symbols"))
    count = names.size();
  for (Type type : main.getArgumentTypes())
    countSymbols(type, count);
  main.walk([&](Operation *op) {
    for (Type type : op->getResultTypes())
      countSymbols(type, count);
    if (auto call = dyn_cast<CallOp>(op); call && call.getSymbols())
      for (AffineExpr e : call.getSymbols()->getDims())
        countSymbols(e, count);
  });
  return count;
}

llvm::DenseMap<StringAttr, CertificateOp>
check::certificatesOf(ModuleOp fused) {
  llvm::DenseMap<StringAttr, CertificateOp> found;
  for (auto certificate : fused.getOps<CertificateOp>())
    found[certificate.getKernelAttr().getAttr()] = certificate;
  return found;
}

//===----------------------------------------------------------------------===//
// The sweep
//===----------------------------------------------------------------------===//

namespace {
class GraphCheck {
public:
  GraphCheck(ModuleOp original, ModuleOp fused)
      : original(original), fused(fused), numbering(index),
        originalSymbols(original), fusedSymbols(fused) {}

  GraphVerdict run() {
    llvm::DenseMap<StringAttr, unsigned> claims;
    for (auto certificate : fused.getOps<CertificateOp>())
      if (++claims[certificate.getKernelAttr().getAttr()] > 1)
        refuse(Condition::SameNodes,
               "two certificates are for kernel '" +
                   certificate.getKernel().str() + "'",
               certificate.getKernel());
    for (auto certificate : fused.getOps<CertificateOp>())
      if (!certificate.getBody().hasOneBlock() ||
          certificate.getBody().front().empty() ||
          !isa<ReturnOp>(certificate.getBody().front().back()))
        refuse(Condition::Ssa, "a certificate is not a list of operations",
               certificate.getKernel());
    if (failed())
      return verdict;
    certificates = certificatesOf(fused);
    unsigned functions = 0;
    for (auto main : original.getOps<func::FuncOp>()) {
      ++functions;
      auto other = fused.lookupSymbol<func::FuncOp>(main.getSymName());
      if (!other) {
        refuse(Condition::SameNodes,
               "function '" + main.getSymName().str() + "' is gone");
        break;
      }
      checkFunction(main, other);
    }
    unsigned others = 0;
    for ([[maybe_unused]] auto main : fused.getOps<func::FuncOp>())
      ++others;
    if (functions != others)
      refuse(Condition::SameNodes, "the functions are not the same");
    if (index.overflowed())
      refuse(Condition::SameNodes, "a size is too large to be compared");
    return verdict;
  }

private:
  using ValueMap = llvm::DenseMap<Value, uint32_t>;

  bool refuse(Condition condition, std::string reason, StringRef blamed = {}) {
    if (!verdict.refusal) {
      verdict.refusal = Refusal{condition, std::move(reason), ""};
      verdict.blamed = blamed.str();
    }
    return false;
  }
  bool failed() const { return verdict.refusal.has_value(); }

  static std::string name(Operation *op) {
    if (auto call = dyn_cast<CallOp>(op))
      return "the call of '" + call.getCallee().str() + "'";
    return "'" + op->getName().getStringRef().str() + "'";
  }

  void checkFunction(func::FuncOp a, func::FuncOp b);
  bool sweepOriginal(func::FuncOp main);
  bool sweepFused(func::FuncOp main);
  /// `isInner`: in a region, which is compared by what it leaves with.
  bool expand(CallOp call, CertificateOp certificate, ValueMap &numbers,
              bool isInner = false);
  bool operandsOf(Operation *op, const ValueMap &numbers,
                  SmallVectorImpl<uint32_t> &operands, Condition condition,
                  StringRef blamed = {});
  /// One of the two programs.
  struct Side {
    SymbolTable &kernels;
    bool isFused;
    Condition condition; ///< where a value is read before it is defined
  };
  /// Numbers an operation that is no fused call, and its results. `reads`: its
  /// operands, and what its regions read of what is defined outside.
  std::optional<uint32_t> numberOf(Operation *op, ValueMap &numbers,
                                   const Side &side, unsigned depth,
                                   llvm::SetVector<Value> &reads);
  /// `reads`: what is defined outside and matters. `key`: what the regions do.
  bool regionsOf(Operation *op, const ValueMap &numbers, const Side &side,
                 unsigned depth, llvm::SetVector<Value> &reads,
                 std::vector<uint64_t> &key);
  bool regionOf(Region &region, ValueMap numbers, const Side &side,
                unsigned depth, llvm::SetVector<Value> &reads,
                std::vector<uint64_t> &key);
  StringRef fusedIn(Operation *op);
  bool checkSymbolsAreBound(Operation *op);

  ModuleOp original, fused;
  IndexArena index;
  ValueNumbering numbering;
  SymbolTable originalSymbols, fusedSymbols;
  llvm::DenseMap<StringAttr, CertificateOp> certificates;
  GraphVerdict verdict;
  // Of the function that is being checked.
  SmallVector<PolyId> symbols;
  llvm::DenseSet<uint32_t> known, live, seen; // operations of the original
  llvm::DenseMap<uint32_t, unsigned> effects; // and how often they occur
  llvm::DenseMap<uint32_t, std::string> names;
  SmallVector<uint32_t> outputs;
  llvm::DenseSet<unsigned> dataSymbols, boundSymbols;
};
} // namespace

/// Whether sizes that the operation, or one in it, mentions have such a symbol.
static bool usesSymbol(Operation *op,
                       llvm::function_ref<bool(unsigned)> isLookedFor) {
  bool found = false;
  auto use = [&](AffineExpr e) {
    e.walk([&](AffineExpr x) {
      if (auto s = dyn_cast<AffineSymbolExpr>(x))
        found |= isLookedFor(s.getPosition());
    });
  };
  op->walk([&](Operation *part) {
    for (Type type : part->getResultTypes())
      if (auto tensor = dyn_cast<RankedTensorType>(type))
        for (AffineExpr e : getDims(tensor))
          use(e);
    if (auto call = dyn_cast<CallOp>(part); call && call.getSymbols())
      for (AffineExpr e : call.getSymbols()->getDims())
        use(e);
  });
  return found;
}

void GraphCheck::checkFunction(func::FuncOp a, func::FuncOp b) {
  auto discardable = [](func::FuncOp f) {
    return std::tuple(f.getFunctionType(), f->getAttr("graph.symbols"),
                      f.getArgAttrsAttr(), f.getResAttrsAttr());
  };
  if (discardable(a) != discardable(b)) {
    refuse(Condition::SameNodes, "function '" + a.getSymName().str() +
                                     "' has another signature than it had");
    return;
  }
  if (a.isExternal() || b.isExternal() || !a.getBody().hasOneBlock() ||
      !b.getBody().hasOneBlock() ||
      !isa<func::ReturnOp>(a.getBody().front().back()) ||
      !isa<func::ReturnOp>(b.getBody().front().back())) {
    refuse(Condition::SameNodes, "function '" + a.getSymName().str() +
                                     "' is not a list of operations");
    return;
  }
  known.clear(), live.clear(), seen.clear(), effects.clear(), outputs.clear();
  dataSymbols.clear(), boundSymbols.clear();
  symbols = ownSymbols(
      index, std::max(countFunctionSymbols(a), countFunctionSymbols(b)));
  if (sweepOriginal(a))
    sweepFused(b);
}

// Fails when an operand has no number: it is not defined before.
bool GraphCheck::operandsOf(Operation *op, const ValueMap &numbers,
                            SmallVectorImpl<uint32_t> &operands,
                            Condition condition, StringRef blamed) {
  for (Value operand : op->getOperands()) {
    auto it = numbers.find(operand);
    if (it == numbers.end())
      return refuse(condition,
                    name(op) + " reads a value that is defined after it",
                    blamed);
    operands.push_back(it->second);
  }
  return true;
}

// A branch or a loop is one operation, which reads what its regions read. What
// it does is what its regions leave with, as values of their arguments and of
// what is defined outside, and the effects in them: operators whose results
// nobody reads do not count, and fused calls count as their members.
bool GraphCheck::regionsOf(Operation *op, const ValueMap &numbers,
                           const Side &side, unsigned depth,
                           llvm::SetVector<Value> &reads,
                           std::vector<uint64_t> &key) {
  if (op->getNumRegions() != 0 && !isa<IfOp, LoopOp>(op))
    return refuse(Condition::Pure, name(op) + " has a region: the checker "
                                              "compares lists of calls");
  for (Region &region : op->getRegions())
    if (!regionOf(region, numbers, side, depth, reads, key))
      return false;
  return true;
}

std::optional<uint32_t> GraphCheck::numberOf(Operation *op, ValueMap &numbers,
                                             const Side &side, unsigned depth,
                                             llvm::SetVector<Value> &reads) {
  SmallVector<uint32_t> operands;
  if (!operandsOf(op, numbers, operands, side.condition))
    return std::nullopt;
  reads.insert(op->operand_begin(), op->operand_end());
  KernelOp callee;
  if (auto call = dyn_cast<CallOp>(op)) {
    callee = side.kernels.lookup<KernelOp>(call.getCallee());
    if (!callee) {
      refuse(Condition::SameNodes, name(op) + " has no kernel");
      return std::nullopt;
    }
  }
  std::vector<uint64_t> inside;
  if (!regionsOf(op, numbers, side, depth, reads, inside))
    return std::nullopt;
  uint32_t id = numbering.number(op, operands, symbols, callee, inside).id;
  for (OpResult result : op->getResults())
    numbers[result] = numbering.value(id, result.getResultNumber());
  return id;
}

bool GraphCheck::regionOf(Region &region, ValueMap numbers, const Side &side,
                          unsigned depth, llvm::SetVector<Value> &reads,
                          std::vector<uint64_t> &key) {
  Block &block = region.front();
  key.insert(key.end(),
             {~uint64_t(0), region.getRegionNumber(), block.getNumArguments()});
  // An argument is where it is bound: how many operations are around it.
  uint32_t binder = ~1u - 2 * depth - region.getRegionNumber();
  for (BlockArgument arg : block.getArguments()) {
    key.push_back(address<Type>(arg.getType()));
    numbers[arg] = numbering.value(binder, arg.getArgNumber());
  }
  llvm::DenseSet<unsigned> unbound;
  for (Operation &op : block)
    forEachDataSymbol(
        &op, [&](unsigned symbol, AffineExpr) { unbound.insert(symbol); });
  struct Step {
    Operation *op;
    llvm::SetVector<Value> reads;
  };
  std::vector<Step> steps;
  std::vector<uint64_t> effectsHere;
  for (Operation &op : block.without_terminator()) {
    Step step{&op, {}};
    forEachDataSymbol(
        &op, [&](unsigned symbol, AffineExpr) { unbound.erase(symbol); });
    if (usesSymbol(&op, [&](unsigned s) { return unbound.contains(s); }))
      return refuse(Condition::Ssa,
                    name(&op) + " uses a size before the data have told it");
    auto call = dyn_cast<CallOp>(op);
    CertificateOp certificate =
        call && side.isFused
            ? certificates.lookup(call.getCalleeAttr().getAttr())
            : CertificateOp();
    if (certificate) {
      step.reads.insert(op.operand_begin(), op.operand_end());
      if (!expand(call, certificate, numbers, /*isInner=*/true))
        return false;
    } else {
      auto id = numberOf(&op, numbers, side, depth + 1, step.reads);
      if (!id)
        return false;
      if (!isMemoryEffectFree(&op))
        effectsHere.push_back(*id);
    }
    steps.push_back(std::move(step));
  }
  SmallVector<uint32_t> left;
  if (!operandsOf(block.getTerminator(), numbers, left, side.condition))
    return false;
  key.push_back(address(block.getTerminator()->getName()));
  key.insert(key.end(), left.begin(), left.end());
  key.push_back(~uint64_t(0));
  llvm::sort(effectsHere);
  key.insert(key.end(), effectsHere.begin(), effectsHere.end());

  llvm::SetVector<Value> needed(block.getTerminator()->operand_begin(),
                                block.getTerminator()->operand_end());
  for (const Step &step : llvm::reverse(steps))
    if (!isMemoryEffectFree(step.op) ||
        llvm::any_of(step.op->getResults(),
                     [&](Value v) { return needed.contains(v); }))
      needed.insert(step.reads.begin(), step.reads.end());
  for (Value value : needed)
    if (!region.isAncestor(value.getParentRegion()))
      reads.insert(value);
  return true;
}

bool GraphCheck::sweepOriginal(func::FuncOp main) {
  ValueMap numbers;
  struct Step {
    uint32_t id;
    SmallVector<uint32_t> operands, results;
    bool hasEffects;
  };
  std::vector<Step> steps;
  Side side{originalSymbols, /*isFused=*/false, Condition::Ssa};
  for (BlockArgument arg : main.getArguments())
    numbers[arg] = numbering.value(~0u, arg.getArgNumber());
  for (Operation &op : main.getBody().front().without_terminator()) {
    Step step;
    llvm::SetVector<Value> reads;
    auto id = numberOf(&op, numbers, side, /*depth=*/0, reads);
    if (!id)
      return false;
    step.id = *id;
    for (Value value : reads)
      step.operands.push_back(numbers.lookup(value));
    step.hasEffects = !isMemoryEffectFree(&op);
    for (Value result : op.getResults())
      step.results.push_back(numbers.lookup(result));
    known.insert(step.id);
    names.try_emplace(step.id, name(&op));
    if (step.hasEffects)
      ++effects[step.id];
    forEachDataSymbol(
        &op, [&](unsigned symbol, AffineExpr) { dataSymbols.insert(symbol); });
    steps.push_back(std::move(step));
  }
  if (!operandsOf(main.getBody().front().getTerminator(), numbers, outputs,
                  Condition::Ssa))
    return false;
  // What an output or an effect needs.
  llvm::DenseSet<uint32_t> needed(outputs.begin(), outputs.end());
  for (const Step &step : llvm::reverse(steps)) {
    if (!step.hasEffects && llvm::none_of(step.results, [&](uint32_t r) {
          return needed.contains(r);
        }))
      continue;
    live.insert(step.id);
    needed.insert(step.operands.begin(), step.operands.end());
  }
  return true;
}

// A size that the data tell may be used only after the operation that binds it.
bool GraphCheck::checkSymbolsAreBound(Operation *op) {
  if (dataSymbols.empty() || !usesSymbol(op, [&](unsigned symbol) {
        return dataSymbols.contains(symbol) && !boundSymbols.contains(symbol);
      }))
    return true;
  return refuse(Condition::Ssa,
                name(op) + " uses a size before the data have told it");
}

// A fused kernel that is called in a region of the operation.
StringRef GraphCheck::fusedIn(Operation *op) {
  StringRef found;
  op->walk([&](CallOp call) {
    if (certificates.contains(call.getCalleeAttr().getAttr()))
      found = call.getCallee();
  });
  return found;
}

bool GraphCheck::sweepFused(func::FuncOp main) {
  ValueMap numbers;
  Side side{fusedSymbols, /*isFused=*/true, Condition::Convex};
  for (BlockArgument arg : main.getArguments())
    numbers[arg] = numbering.value(~0u, arg.getArgNumber());
  for (Operation &op : main.getBody().front().without_terminator()) {
    forEachDataSymbol(
        &op, [&](unsigned symbol, AffineExpr) { boundSymbols.insert(symbol); });
    if (!checkSymbolsAreBound(&op))
      return false;
    auto call = dyn_cast<CallOp>(op);
    if (call)
      if (CertificateOp certificate =
              certificates.lookup(call.getCalleeAttr().getAttr())) {
        if (!expand(call, certificate, numbers))
          return false;
        continue;
      }
    llvm::SetVector<Value> reads;
    auto number = numberOf(&op, numbers, side, /*depth=*/0, reads);
    if (!number)
      return false;
    uint32_t id = *number;
    // Views and constants are no work: new ones may come.
    if (!known.contains(id) && (call || !isMemoryEffectFree(&op)))
      return refuse(Condition::SameNodes,
                    name(&op) + " has no certificate and is not an operation "
                                "of the original with these operands and sizes",
                    call ? call.getCallee() : fusedIn(&op));
    if (!isMemoryEffectFree(&op) && effects[id]-- == 0)
      return refuse(Condition::Pure, name(&op) + " occurs more than once");
    seen.insert(id);
  }
  SmallVector<uint32_t> returned;
  if (!operandsOf(main.getBody().front().getTerminator(), numbers, returned,
                  Condition::Convex))
    return false;
  for (uint32_t id : live)
    if (!seen.contains(id))
      return refuse(Condition::SameNodes,
                    names[id] + " of the original is in no group, or with "
                                "other operands or sizes");
  for (size_t i = 0; i < returned.size(); ++i)
    if (returned[i] != outputs[i])
      return refuse(Condition::Live,
                    "output " + std::to_string(i) + " is not the value it was");
  return true;
}

// What the certificate says the call computes, as operations of the original.
bool GraphCheck::expand(CallOp call, CertificateOp certificate,
                        ValueMap &numbers, bool isInner) {
  StringRef blamed = call.getCallee();
  SmallVector<uint32_t> arguments;
  if (!operandsOf(call, numbers, arguments, Condition::Convex, blamed))
    return false;
  SmallVector<PolyId> actual = callSymbols(index, call, symbols);
  Block &body = certificate.getBody().front();
  if (body.getNumArguments() != arguments.size())
    return refuse(Condition::SameNodes,
                  "the certificate takes other operands than the call gives",
                  blamed);
  ValueMap inner;
  for (auto [arg, value] : llvm::zip(body.getArguments(), arguments))
    inner[arg] = value;
  unsigned opaque = 0;
  for (Operation &op : body.without_terminator()) {
    SmallVector<uint32_t> operands;
    if (!operandsOf(&op, inner, operands, Condition::Ssa, blamed))
      return false;
    if (!isa<CallOp, ReshapeOp, ConstantOp>(op))
      return refuse(Condition::Pure,
                    name(&op) + " may not be a member of a group", blamed);
    KernelOp callee;
    if (auto member = dyn_cast<CallOp>(op)) {
      callee = fusedSymbols.lookup<KernelOp>(member.getCallee());
      if (!callee ||
          callSymbols(index, member, actual).size() != callee.getNumSymbols())
        return refuse(Condition::SameNodes,
                      "member " + name(&op) + " has no kernel", blamed);
      opaque += callee.getOpaque() != nullptr;
    }
    auto [id, isNew] = numbering.number(&op, operands, actual, callee);
    if (callee && !isInner && !known.contains(id))
      return refuse(Condition::SameNodes,
                    "member " + name(&op) +
                        " is not an operation of the original with these "
                        "operands and sizes",
                    blamed);
    if (!isInner || !callee)
      seen.insert(id);
    for (Value result : op.getResults())
      inner[result] =
          numbering.value(id, cast<OpResult>(result).getResultNumber());
  }
  if (opaque != 0)
    return refuse(Condition::Pure, "an opaque operator is a member of a group",
                  blamed);
  SmallVector<uint32_t> kept;
  if (!operandsOf(body.getTerminator(), inner, kept, Condition::Ssa, blamed))
    return false;
  if (kept.size() != call.getNumResults())
    return refuse(Condition::Live,
                  "the certificate keeps other results than the call has",
                  blamed);
  for (auto [result, value] : llvm::zip(call.getResults(), kept))
    numbers[result] = value;
  return true;
}

GraphVerdict check::checkGraph(ModuleOp original, ModuleOp fused) {
  return GraphCheck(original, fused).run();
}
