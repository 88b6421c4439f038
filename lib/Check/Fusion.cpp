// checkFusion: the graph part, then each fused kernel against its certificate.
#include "dlc/Check/Fusion.h"

#include "Compare.h"
#include "Precision.h"
#include "Rows.h"
#include "Values.h"
#include "dlc/Check/Laws.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

StringRef check::stringifyCondition(Condition condition) {
  switch (condition) {
#define DLC_CONDITION(identifier, name, theorem)                               \
  case Condition::identifier:                                                  \
    return name;
#include "dlc/Dialect/Graph/IR/Conditions.def"
  }
  return "";
}

std::string Refusal::str() const {
  std::string text = (stringifyCondition(condition) + ": " + reason).str();
  return witness.empty() ? text : text + " (at " + witness + ")";
}

//===----------------------------------------------------------------------===//
// One kernel
//===----------------------------------------------------------------------===//

namespace {
class KernelCheck {
public:
  KernelCheck(KernelOp kernel, CertificateOp certificate,
              const SymbolTable &symbols, NumericsMode mode,
              ProofBudget &budget)
      : kernel(kernel), certificate(certificate), symbolTable(symbols),
        mode(mode), exprs(index), inliner(index, exprs), prover(index, budget),
        precision(exprs, kernel.getContext()) {
    verdict.kernel = kernel.getSymName().str();
    verdict.certificate = certificate.getSymName().str();
  }

  // What needs no well-formed bodies.
  bool runHead() {
    symbols = ownSymbols(index, kernel.getNumSymbols());
    return checkHead() && checkRowAxes() && checkLaws();
  }
  const KernelVerdict &getVerdict() const { return verdict; }

  KernelVerdict run() {
    if (runHead() && buildMembers() && buildKernel() && checkReads())
      compareResults();
    if (std::optional<std::string> why = inliner.failure();
        why && !verdict.refusal)
      refuse(Condition::Compose, *why);
    if (verdict.refusal)
      verdict.conditions.clear();
    return verdict;
  }
  unsigned numExhaustive() const { return prover.numExhaustive; }
  unsigned numSolver() const { return prover.numSolver; }

private:
  bool refuse(Condition condition, std::string reason,
              std::string witness = {}) {
    if (!verdict.refusal)
      verdict.refusal =
          Refusal{condition, std::move(reason), std::move(witness)};
    return false;
  }
  bool checkHead();
  bool checkRowAxes();
  bool buildMembers();
  bool buildKernel();
  bool checkLaws();
  bool checkReads();
  bool compareResults();

  KernelOp kernel;
  CertificateOp certificate;
  const SymbolTable &symbolTable;
  NumericsMode mode;
  IndexArena index;
  ExprArena exprs;
  Inliner inliner;
  Prover prover;
  PrecisionForm precision;
  SmallVector<PolyId> symbols;
  SmallVector<TensorId> leaves, expected, actual;
  std::vector<std::pair<KernelOp, uint32_t>> members; // and environments
  uint32_t kernelEnvironment = 0;
  KernelVerdict verdict;
};
} // namespace

// The certificate speaks of this kernel.
bool KernelCheck::checkHead() {
  Block &body = certificate.getBody().front();
  if (kernel.getOpaque())
    return refuse(Condition::Pure, "the kernel is an opaque operator");
  if (body.getArgumentTypes() != TypeRange(kernel.getArgumentTypes()))
    return refuse(Condition::SameNodes,
                  "the certificate takes operands other than the kernel's");
  if (body.getTerminator()->getOperandTypes() !=
      TypeRange(kernel.getResultTypes()))
    return refuse(Condition::Live, "the certificate keeps results of other "
                                   "types than the kernel's");
  if (certificate.getRows() != kernel.getRows().value_or(0))
    return refuse(Condition::Row,
                  "the certificate's rows are not the kernel's");
  return true;
}

// All stages share the row's axes.
bool KernelCheck::checkRowAxes() {
  unsigned rows = kernel.getRows().value_or(0);
  std::optional<SmallVector<PolyId>> row;
  for (auto [number, stage] : llvm::enumerate(kernel.getStages())) {
    std::string where = "stage " + std::to_string(number);
    if (stage.getDomainRank() < rows)
      return refuse(Condition::Row, where + " has fewer axes than the row has");
    SmallVector<PolyId> own =
        inliner.sizes(stage.getDomainDims().take_front(rows), symbols);
    if (row && *row != own)
      return refuse(Condition::Row,
                    where + " has row axes of other sizes than the first");
    row = own;
  }
  return true;
}

// The members as functions of the kernel's operands.
bool KernelCheck::buildMembers() {
  Block &body = certificate.getBody().front();
  llvm::DenseMap<Value, TensorId> tensors;
  for (auto [i, arg] : llvm::enumerate(body.getArguments())) {
    leaves.push_back(inliner.leaf(i, arg.getType(), symbols));
    tensors[arg] = leaves.back();
  }
  for (Operation &op : body.without_terminator()) {
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      tensors[constant.getResult()] = inliner.constant(constant.getValue());
      continue;
    }
    SmallVector<TensorId> operands;
    for (Value v : op.getOperands()) {
      if (!tensors.contains(v))
        return refuse(Condition::Ssa,
                      "a member reads a value that is defined after it");
      operands.push_back(tensors.lookup(v));
    }
    if (auto reshape = dyn_cast<ReshapeOp>(op)) {
      tensors[reshape.getResult()] =
          inliner.reshape(operands[0], reshape.getType(), symbols);
      continue;
    }
    auto call = dyn_cast<CallOp>(op);
    if (!call)
      return refuse(Condition::Pure, "'" + op.getName().getStringRef().str() +
                                         "' may not be a member of a group");
    auto callee = symbolTable.lookup<KernelOp>(call.getCallee());
    SmallVector<PolyId> actual = callSymbols(index, call, symbols);
    if (!callee || actual.size() != callee.getNumSymbols() ||
        operands.size() != callee.getArgumentTypes().size() ||
        call.getNumResults() != callee.getResultTypes().size())
      return refuse(Condition::SameNodes, "member '" + call.getCallee().str() +
                                              "' has no kernel of its form");
    if (callee.getOpaque())
      return refuse(Condition::Pure,
                    "an opaque operator is a member of a group");
    uint32_t environment = 0;
    SmallVector<TensorId> results =
        inliner.call(callee, operands, actual, &environment);
    for (auto [value, tensor] : llvm::zip(call.getResults(), results))
      tensors[value] = tensor;
    members.push_back({callee, environment});
    ++verdict.members;
  }
  for (Value v : body.getTerminator()->getOperands())
    expected.push_back(tensors.lookup(v));
  return true;
}

bool KernelCheck::buildKernel() {
  actual = inliner.call(kernel, leaves, symbols, &kernelEnvironment);
  return true;
}

// What the certificate claims to need must be licensed: by the table of laws,
// the mode, and its own obligation.
bool KernelCheck::checkLaws() {
  for (Attribute attr : certificate.getLaws()) {
    auto text = dyn_cast<StringAttr>(attr);
    FailureOr<Law> law = failure();
    if (text)
      law = Law::parse(text.getValue());
    if (failed(law))
      return refuse(Condition::Hom, "no theorem is known for the law '" +
                                        (text ? text.str() : "") + "'");
    Condition condition =
        law->kind == LawKind::split ? Condition::Split
        : law->kind == LawKind::hom ? Condition::Hom
        : law->kind == LawKind::round || law->kind == LawKind::excess
            ? Condition::Round
            : Condition::Reorder;
    if (Admission admission = admitLaws(kernel, {*law}, mode); !admission)
      return refuse(condition, admission.reason);
    if (certificate.getObligation() == "exact" &&
        !admitLaws(kernel, {*law}, NumericsMode::strict))
      return refuse(condition, law->str() +
                                   " does not keep bits, but the "
                                   "certificate's obligation is exact");
    if (law->kind == LawKind::excess &&
        certificate.getObligation() != "precision")
      return refuse(condition, law->str() + " leaves out roundings, but the "
                                            "certificate's obligation is not "
                                            "precision");
    precision.add(*law);
    verdict.conditions.push_back(condition);
  }
  if (certificate.getObligation() == "precision" && !precision.isExcess())
    return refuse(Condition::Round,
                  "no law of the certificate changes the precision");
  return true;
}

bool KernelCheck::checkReads() {
  std::optional<KnownReads> known;
  auto knownReads = [&]() -> const KnownReads & {
    if (!known) {
      known.emplace();
      for (auto [member, environment] : members)
        collectReads(member, environment, inliner, index, *known);
    }
    return *known;
  };
  RowsVerdict rows =
      checkRows(kernel, kernel.getRows().value_or(0), kernelEnvironment,
                inliner, index, prover, knownReads);
  if (rows.refusal) {
    verdict.refusal = rows.refusal;
    return false;
  }
  verdict.conditions.push_back(Condition::Bounds);
  if (rows.readsStages)
    verdict.conditions.push_back(Condition::Row);
  return true;
}

bool KernelCheck::compareResults() {
  for (auto [i, type] : llvm::enumerate(kernel.getResultTypes())) {
    SmallVector<PolyId> sizes = inliner.sizes(getDims(type), symbols), at;
    for (auto [axis, size] : llvm::enumerate(sizes))
      at.push_back(index.axis(0, axis, size));
    if (llvm::any_of(sizes, [&](PolyId p) { return index.isZero(p); }))
      continue; // no elements
    ContextId context = index.withExtents(index.emptyContext(), sizes);
    NodeId a = inliner.read(expected[i], at, 0, context),
           b = inliner.read(actual[i], at, 0, context);
    if (precision.isUsed()) {
      a = precision.spread(precision.run(a));
      b = precision.spread(b);
    }
    if (inliner.failure())
      return false;
    Comparer comparer(index, exprs, prover);
    if (!comparer.equal(a, b, context)) {
      const Refusal &why = comparer.getRefusal();
      return refuse(why.condition,
                    "result " + std::to_string(i) + ": " + why.reason,
                    why.witness);
    }
  }
  verdict.conditions.push_back(Condition::Compose);
  kernel.walk([&](Operation *op) {
    Condition condition = Condition::Compose;
    if (auto stage = dyn_cast<StageOp>(op);
        stage && stage.getFoldKind() != FoldKind::none)
      condition = Condition::Order;
    else if (isa<CastOp>(op))
      condition = Condition::Round;
    if (!llvm::is_contained(verdict.conditions, condition))
      verdict.conditions.push_back(condition);
  });
  llvm::sort(verdict.conditions);
  return true;
}

//===----------------------------------------------------------------------===//
// The program
//===----------------------------------------------------------------------===//

// What is well-formed by name only: heads of the kernels, before anything is
// relied on. False when a kernel is refused or a certificate has none.
static bool checkHeads(ModuleOp fused, const SymbolTable &symbols,
                       NumericsMode mode, FusionVerdict &verdict) {
  for (auto certificate : fused.getOps<CertificateOp>()) {
    auto kernel = symbols.lookup<KernelOp>(certificate.getKernel());
    if (!kernel) {
      verdict.graph = Refusal{Condition::SameNodes,
                              "a certificate is for no kernel: '" +
                                  certificate.getKernel().str() + "'",
                              ""};
      return false;
    }
    ProofBudget unused;
    KernelCheck check(kernel, certificate, symbols, mode, unused);
    if (!check.runHead())
      verdict.kernels.push_back(check.getVerdict());
  }
  return verdict.kernels.empty();
}

// As the dialect has it, else nothing that is read means anything.
static std::optional<Refusal> checkWellFormed(ModuleOp module) {
  std::string problem;
  ScopedDiagnosticHandler handler(module.getContext(),
                                  [&](Diagnostic &diagnostic) {
                                    if (problem.empty())
                                      problem = diagnostic.str();
                                    return success();
                                  });
  if (succeeded(verify(module)))
    return std::nullopt;
  return Refusal{Condition::Ssa, problem, ""};
}

static void checkKernels(ModuleOp fused, NumericsMode mode,
                         FusionVerdict &verdict) {
  SymbolTable symbols(fused);
  if (!checkHeads(fused, symbols, mode, verdict))
    return;
  verdict.graph = checkWellFormed(fused);
  if (verdict.graph)
    return;
  ProofBudget budget;
  for (auto certificate : fused.getOps<CertificateOp>()) {
    auto kernel = symbols.lookup<KernelOp>(certificate.getKernel());
    KernelCheck check(kernel, certificate, symbols, mode, budget);
    verdict.kernels.push_back(check.run());
    verdict.exhaustive += check.numExhaustive();
    verdict.solver += check.numSolver();
  }
}

FusionVerdict check::checkFusion(ModuleOp original, ModuleOp fused,
                                 NumericsMode mode) {
  FusionVerdict verdict;
  GraphVerdict graph = checkGraph(original, fused);
  if (graph.refusal) {
    verdict.graph = graph.refusal;
    verdict.blamed = graph.blamed;
    // The driver splits the group that is to blame.
    if (!graph.blamed.empty()) {
      KernelVerdict &blamed = verdict.kernels.emplace_back();
      blamed.kernel = graph.blamed;
      blamed.refusal = graph.refusal;
    }
    return verdict;
  }
  checkKernels(fused, mode, verdict);
  return verdict;
}

FusionVerdict check::checkCertificates(ModuleOp fused, NumericsMode mode) {
  FusionVerdict verdict;
  checkKernels(fused, mode, verdict);
  return verdict;
}

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

bool FusionVerdict::accepted() const {
  return !graph && llvm::all_of(kernels, [](const KernelVerdict &k) {
    return k.accepted();
  });
}

std::vector<std::string> FusionVerdict::refused() const {
  std::vector<std::string> names;
  for (const KernelVerdict &k : kernels)
    if (!k.accepted())
      names.push_back(k.kernel);
  return names;
}

void FusionVerdict::print(llvm::raw_ostream &os) const {
  for (const KernelVerdict &k : kernels) {
    os << (k.accepted() ? "ACCEPT " : "REFUSE ") << k.kernel << " ("
       << k.members << " members)";
    if (k.refusal)
      os << ": " << k.refusal->str();
    else
      llvm::interleave(
          k.conditions, os << ": ",
          [&](Condition c) { os << stringifyCondition(c); }, " ");
    os << "\n";
  }
  if (graph)
    os << "REFUSE the graph: " << graph->str() << "\n";
  else
    os << "ACCEPT the graph\n";
}

static llvm::json::Value toJSON(const Refusal &refusal) {
  llvm::json::Object object{
      {"condition", stringifyCondition(refusal.condition)},
      {"reason", refusal.reason}};
  if (!refusal.witness.empty())
    object["witness"] = refusal.witness;
  return object;
}

llvm::json::Value FusionVerdict::toJSON() const {
  llvm::json::Array list;
  for (const KernelVerdict &k : kernels) {
    llvm::json::Array conditions;
    for (Condition c : k.conditions)
      conditions.push_back(stringifyCondition(c));
    llvm::json::Object object{{"kernel", k.kernel},
                              {"certificate", k.certificate},
                              {"members", k.members},
                              {"accepted", k.accepted()},
                              {"conditions", std::move(conditions)}};
    if (k.refusal)
      object["refusal"] = ::toJSON(*k.refusal);
    list.push_back(std::move(object));
  }
  llvm::json::Object object{{"accepted", accepted()},
                            {"kernels", std::move(list)},
                            {"exhaustive", exhaustive},
                            {"solver", solver}};
  if (graph) {
    object["graph"] = ::toJSON(*graph);
    if (!blamed.empty())
      object["blamed"] = blamed;
  }
  return object;
}
