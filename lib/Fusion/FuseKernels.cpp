// graph-fuse-kernels and its reverse.
#include "FusionGraph.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Fusion/Passes.h"

#include "mlir/IR/Builders.h"

namespace dlc::fusion {
#define GEN_PASS_DEF_FUSEKERNELS
#define GEN_PASS_DEF_DROPCERTIFICATES
#define GEN_PASS_DEF_SPLITFUSED
#include "dlc/Fusion/Passes.h.inc"
} // namespace dlc::fusion

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

static func::FuncOp findMain(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  return main && llvm::hasSingleElement(main.getBody()) ? main : func::FuncOp();
}

static void fuseBlock(func::FuncOp main, Block &block, const Policy &policy,
                      const FusionOptions &options, KnownKernels &known,
                      FusionReport &report) {
  FusionGraph graph(main, block, options);
  for (const GraphNode &node : graph.nodes)
    report.calls += isa<graph::CallOp>(node.op);
  Grouping grouping = formGroups(graph, policy, options);
  report.fusibleEdges += grouping.fusibleEdges;
  report.fusedEdges += grouping.fusedEdges;
  report.groupingSeconds += grouping.seconds;
  llvm::append_range(report.refused, std::move(grouping.refused));
  llvm::append_range(report.attentions, std::move(grouping.attentions));
  llvm::append_range(report.missed, std::move(grouping.missed));
  leaveOutRoundings(graph, policy, grouping);
  emitGroups(graph, grouping, known, report);
}

FusionReport fusion::fuseKernels(ModuleOp module, const Policy &policy,
                                 const FusionOptions &options) {
  FusionReport report;
  func::FuncOp main = findMain(module);
  if (!main)
    return report;
  policy.prepare(main);
  KnownKernels known;
  fuseBlock(main, main.getBody().front(), policy, options, known, report);
  SmallVector<Block *> inner;
  main.walk([&](Operation *op) {
    if (isa<graph::IfOp, graph::LoopOp>(op))
      for (Region &region : op->getRegions())
        for (Block &block : region)
          inner.push_back(&block);
  });
  for (Block *block : inner)
    fuseBlock(main, *block, policy, options, known, report);
  // What only members of inner blocks read.
  if (!inner.empty())
    for (Operation &op :
         llvm::make_early_inc_range(llvm::reverse(main.getBody().front())))
      if (isa<graph::ConstantOp, graph::ReshapeOp, graph::BitcastOp>(op) &&
          op.use_empty())
        op.erase();
  report.countKernels();
  return report;
}

//===----------------------------------------------------------------------===//
// Back
//===----------------------------------------------------------------------===//

// A kernel's symbols as what a call gives for them.
static Attribute replaceSymbols(Attribute attr, ArrayRef<AffineExpr> symbols) {
  auto dims = dyn_cast_or_null<graph::DimsAttr>(attr);
  if (!dims)
    return attr;
  return graph::DimsAttr::get(
      attr.getContext(), llvm::map_to_vector(dims.getDims(), [&](AffineExpr e) {
        return graph::simplify(e.replaceSymbols(symbols));
      }));
}

static void putBack(graph::CertificateOp certificate, graph::CallOp call) {
  OpBuilder builder(call);
  ArrayRef<AffineExpr> symbols;
  if (call.getSymbols())
    symbols = call.getSymbols()->getDims();
  Block &block = certificate.getBody().front();
  IRMapping mapping;
  mapping.map(block.getArguments(), call.getArgs());
  for (Operation &op : block.without_terminator()) {
    Operation *copy = builder.clone(op, mapping);
    copy->setLoc(call.getLoc());
    for (NamedAttribute attr : llvm::to_vector(copy->getAttrs()))
      copy->setAttr(attr.getName(), replaceSymbols(attr.getValue(), symbols));
    for (Value result : copy->getResults()) {
      auto type = cast<RankedTensorType>(result.getType());
      if (auto dims = dyn_cast_or_null<graph::DimsAttr>(type.getEncoding()))
        result.setType(graph::makeTensorType(
            cast<graph::DimsAttr>(replaceSymbols(dims, symbols)).getDims(),
            type.getElementType()));
    }
  }
  for (auto [value, result] :
       llvm::zip(block.getTerminator()->getOperands(), call.getResults())) {
    Value kept = mapping.lookup(value);
    kept.setType(result.getType()); // the same sizes, as they were written
    result.replaceAllUsesWith(kept);
  }
  call.erase();
}

void fusion::splitGroup(graph::CertificateOp certificate) {
  auto module = certificate->getParentOfType<ModuleOp>();
  func::FuncOp main = findMain(module);
  SmallVector<graph::CallOp> calls;
  main.walk([&](graph::CallOp call) {
    if (call.getCallee() == certificate.getKernel())
      calls.push_back(call);
  });
  for (graph::CallOp call : calls)
    putBack(certificate, call);
  if (auto kernel =
          module.lookupSymbol<graph::KernelOp>(certificate.getKernel()))
    kernel.erase();
  certificate.erase();
}

void fusion::dropCertificates(ModuleOp module) {
  for (auto certificate :
       llvm::make_early_inc_range(module.getOps<graph::CertificateOp>()))
    certificate.erase();
  llvm::DenseSet<StringAttr> called;
  module.walk([&](graph::CallOp call) {
    called.insert(call.getCalleeAttr().getAttr());
  });
  for (auto kernel :
       llvm::make_early_inc_range(module.getOps<graph::KernelOp>()))
    if (!called.contains(kernel.getSymNameAttr()))
      kernel.erase();
}

//===----------------------------------------------------------------------===//
// Passes
//===----------------------------------------------------------------------===//

namespace {
struct FuseKernels : fusion::impl::FuseKernelsBase<FuseKernels> {
  using FuseKernelsBase::FuseKernelsBase;

  void runOnOperation() override {
    TargetDesc target;
    target.cores = cores;
    RooflineCost cost;
    NestPolicy::Limits limits;
    limits.allowsInside = inside;
    limits.formsEveryAttention = attention;
    limits.relaysImages = layouts;
    FusionOptions options;
    options.explains = explain;
    FusionReport report =
        fuseKernels(getOperation(), NestPolicy(target, cost, limits), options);
    if (explain) {
      printAttentions(report, llvm::errs());
      printReport(report, llvm::errs());
    }
  }
};

struct DropCertificates : fusion::impl::DropCertificatesBase<DropCertificates> {
  void runOnOperation() override { dropCertificates(getOperation()); }
};

struct SplitFused : fusion::impl::SplitFusedBase<SplitFused> {
  void runOnOperation() override {
    for (auto certificate : llvm::make_early_inc_range(
             getOperation().getOps<graph::CertificateOp>()))
      splitGroup(certificate);
  }
};
} // namespace

static void print(const RefusedPair &pair, StringRef what,
                  llvm::raw_ostream &os) {
  os << what << ": " << pair.producer << " | " << pair.consumer << ": "
     << getName(pair.refusal.condition) << ": " << pair.refusal.reason << "\n";
}

void fusion::printReport(const FusionReport &report, llvm::raw_ostream &os) {
  for (const FusedGroup &group : report.groups) {
    os << "fused " << group.kernel << ": " << llvm::join(group.members, " + ");
    for (const std::string &copy : group.copies)
      os << " + copy of " << copy;
    os << "\n";
  }
  for (const RefusedPair &pair : report.refused)
    print(pair, "not fused", os);
  for (const RefusedPair &pair : report.missed)
    print(pair, "missed edge", os);
}

void fusion::printAttentions(const FusionReport &report,
                             llvm::raw_ostream &os) {
  for (const AttentionRemark &remark : report.attentions) {
    os << (remark.isFormed  ? "attention"
           : remark.isFound ? "attention, not formed"
                            : "no attention")
       << ": " << remark.text;
    if (!remark.reason.empty())
      os << " (" << remark.reason << ")";
    os << ": " << llvm::join(remark.members, " + ") << "\n";
  }
}
