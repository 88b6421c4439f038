// From groups back to the IR: the fused kernel, its certificate, the call.
#include "EmitKernel.h"
#include "FusionGraph.h"

#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

#include "mlir/IR/IntegerSet.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

namespace {
class GroupEmitter {
public:
  GroupEmitter(FusionGraph &graph, KnownKernels &known, FusionReport &report)
      : graph(graph), report(report), known(known),
        module(graph.main->getParentOfType<ModuleOp>()), symbolTable(module) {}

  void emit(const Group &group);
  void reorder(const Grouping &grouping);

private:
  graph::CertificateOp emitCertificate(const Group &group,
                                       graph::KernelOp kernel,
                                       graph::SymbolRenumbering &symbols);
  void place(Operation *op);

  FusionGraph &graph;
  FusionReport &report;
  KnownKernels &known;
  ModuleOp module;
  SymbolTable symbolTable;
  llvm::DenseMap<unsigned, Operation *> callOf; ///< first member -> fused call
  llvm::SmallPtrSet<Operation *, 32> placed;
};
} // namespace

std::vector<unsigned> fusion::getNodes(const Group &group) {
  std::vector<unsigned> nodes;
  std::merge(group.members.begin(), group.members.end(), group.clones.begin(),
             group.clones.end(), std::back_inserter(nodes));
  return nodes;
}

// What the body reads, and what a member names without reading it.
std::vector<TensorId> fusion::getOperands(FusionGraph &graph,
                                          const Group &group) {
  std::vector<TensorId> operands = group.body->operands();
  std::vector<unsigned> nodes = getNodes(group);
  llvm::SmallDenseSet<TensorId> known(operands.begin(), operands.end());
  for (unsigned m : nodes)
    for (Value result : graph.nodes[m].op->getResults())
      known.insert(graph.tensors.get(result));
  for (unsigned m : nodes)
    for (auto [i, operand] :
         llvm::enumerate(graph.nodes[m].op->getOperands())) {
      TensorId id = graph.tensors.get(operand);
      if (known.contains(graph.tensors.baseOf(id)) || known.contains(id) ||
          isAbsorbed(graph.nodes[m].kernel, i, id, graph.tensors))
        continue;
      known.insert(id);
      operands.push_back(id);
    }
  return operands;
}

graph::KernelOp fusion::emitKernel(FusionGraph &graph, const Group &group,
                                   Location loc) {
  auto module = graph.main->getParentOfType<ModuleOp>();
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  const Body &body = *group.body;
  graph::KernelOp kernel =
      fusion::emitKernel(builder, loc, body, getOperands(graph, group),
                         group.outputs, graph.tensors);
  bool hasRows = llvm::any_of(body.stages, [&](const StageRef &stage) {
    return llvm::any_of(body.stages, [&](const StageRef &other) {
      return other->reads(stage->result);
    });
  });
  unsigned rows = 0;
  if (hasRows && !llvm::any_of(body.stages, [](const StageRef &stage) {
        return isContraction(*stage);
      }))
    if (!checkRow(body, rows) && rows > 0)
      kernel.setRowsAttr(builder.getI64IntegerAttr(rows));
  return kernel;
}

graph::CertificateOp
GroupEmitter::emitCertificate(const Group &group, graph::KernelOp kernel,
                              graph::SymbolRenumbering &symbols) {
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = kernel.getLoc();
  auto certificate = graph::CertificateOp::create(
      builder, loc, "fused_certificate", "fused", kernel.getRows().value_or(0),
      builder.getStrArrayAttr({}), "exact");
  SmallVector<Attribute> laws;
  for (const graph::Law &law : group.laws) {
    laws.push_back(builder.getStringAttr(law.str()));
    if (law.kind == graph::LawKind::excess)
      certificate.setObligation("precision");
    else if (certificate.getObligation() == "exact")
      certificate.setObligation("reassociation");
  }
  certificate.setLawsAttr(builder.getArrayAttr(laws));
  Block *block = builder.createBlock(&certificate.getBody());
  IRMapping mapping;
  for (auto [id, arg] :
       llvm::zip(getOperands(graph, group), kernel.getBody().getArguments()))
    mapping.map(graph.tensors.valueOf(id),
                block->addArgument(arg.getType(), loc));
  builder.setInsertionPointToStart(block);
  // Constants that became literals and reshapes between members come along.
  auto clone = [&](Operation *op) {
    Operation *copy = builder.clone(*op, mapping);
    symbols.rewrite(copy);
    copy->removeAttr("origin");
  };
  auto ensure = [&](auto &&self, Value value) -> void {
    if (mapping.contains(value))
      return;
    Operation *def = value.getDefiningOp();
    assert(def && (isa<graph::ConstantOp, graph::ReshapeOp>(def)) &&
           "a member reads what the kernel does not");
    for (Value operand : def->getOperands())
      self(self, operand);
    clone(def);
  };
  for (unsigned m : getNodes(group)) {
    Operation *op = graph.nodes[m].op;
    for (Value operand : op->getOperands())
      ensure(ensure, operand);
    clone(op);
  }
  SmallVector<Value> results;
  for (TensorId id : group.outputs)
    results.push_back(mapping.lookup(graph.tensors.valueOf(id)));
  graph::ReturnOp::create(builder, loc, results);
  return certificate;
}

static std::string textOf(Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  op->print(os, OpPrintingFlags().useLocalScope().assumeVerified());
  return text;
}

void GroupEmitter::emit(const Group &group) {
  MLIRContext *context = module.getContext();
  SmallVector<Location> locations;
  SmallVector<Attribute> origin;
  for (unsigned m : group.members) {
    Operation *op = graph.nodes[m].op;
    locations.push_back(op->getLoc());
    if (auto names = op->getAttrOfType<ArrayAttr>("origin"))
      origin.append(names.begin(), names.end());
  }
  Location loc = FusedLoc::get(context, locations);
  graph::KernelOp kernel = emitKernel(graph, group, loc);
  graph::SymbolRenumbering symbols(context);
  symbols.rewrite(kernel);
  graph::CertificateOp certificate = emitCertificate(group, kernel, symbols);
  symbols.nameSymbols(kernel);
  std::string text = textOf(kernel) + textOf(certificate);
  std::string name = "fused_" + std::to_string(known.size());
  auto [it, isNew] = known.try_emplace(text, kernel);
  if (isNew) {
    symbolTable.remove(kernel), symbolTable.remove(certificate);
    kernel.setSymName(name);
    certificate.setSymName(name + "_certificate");
    symbolTable.insert(kernel), symbolTable.insert(certificate);
    certificate.setKernel(kernel.getSymName());
  } else {
    certificate.erase();
    kernel.erase();
    kernel = it->second;
  }
  OpBuilder builder(graph.block.getTerminator());
  SmallVector<Value> operands;
  SmallVector<Type> types;
  for (TensorId id : getOperands(graph, group))
    operands.push_back(graph.tensors.valueOf(id));
  for (TensorId id : group.outputs)
    types.push_back(graph.tensors.valueOf(id).getType());
  auto call = graph::CallOp::create(
      builder, loc, types, kernel.getSymName(), operands,
      symbols.actual.empty() ? graph::DimsAttr()
                             : graph::DimsAttr::get(context, symbols.actual));
  if (!origin.empty())
    call->setAttr("origin", builder.getArrayAttr(origin));
  callOf[group.members.front()] = call;
  report.groups.push_back({kernel.getSymName().str(),
                           graph.namesOf(group.members), group.isAttention,
                           graph.namesOf(group.clones)});
}

static bool isView(Operation *op) {
  return isa_and_nonnull<graph::ReshapeOp, graph::BitcastOp, graph::ConstantOp>(
      op);
}

// Views and constants are put just before their first reader.
void GroupEmitter::place(Operation *op) {
  if (!op || op->getBlock() != &graph.block || !placed.insert(op).second)
    return;
  for (Value operand : getReadValues(op))
    if (isView(operand.getDefiningOp()))
      place(operand.getDefiningOp());
  op->moveBefore(graph.block.getTerminator());
}

void GroupEmitter::reorder(const Grouping &grouping) {
  Block &block = graph.block;
  std::vector<bool> isMember(graph.nodes.size());
  for (unsigned g : grouping.order) {
    const Group &group = grouping.groups[g];
    auto it = callOf.find(group.members.front());
    if (it == callOf.end())
      continue;
    for (auto [id, result] : llvm::zip(group.outputs, it->second->getResults()))
      graph.tensors.valueOf(id).replaceAllUsesWith(result);
    for (unsigned m : group.members)
      isMember[m] = true;
  }
  for (unsigned m = graph.nodes.size(); m-- > 0;)
    if (isMember[m]) {
      graph.nodes[m].op->dropAllUses();
      graph.nodes[m].op->erase();
      graph.nodes[m].op = nullptr;
    }
  // Views and constants that only members read go with them, and what was
  // cloned into every group that reads it.
  llvm::DenseMap<Operation *, unsigned> clones;
  for (unsigned g : grouping.order)
    for (unsigned m : grouping.groups[g].clones)
      if (graph.nodes[m].op)
        clones[graph.nodes[m].op] = m;
  for (bool changed = true; std::exchange(changed, false);)
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if ((isView(&op) || clones.contains(&op)) && op.use_empty()) {
        if (auto it = clones.find(&op); it != clones.end()) {
          graph.nodes[it->second].op = nullptr;
          ++report.dropped;
          clones.erase(it);
        }
        op.erase();
        changed = true;
      }
  for (unsigned g : grouping.order) {
    const Group &group = grouping.groups[g];
    unsigned first = group.members.front();
    place(callOf.contains(first) ? callOf[first] : graph.nodes[first].op);
  }
  for (Value operand : block.getTerminator()->getOperands())
    if (isView(operand.getDefiningOp()))
      place(operand.getDefiningOp());
}

void fusion::emitGroups(FusionGraph &graph, const Grouping &grouping,
                        KnownKernels &known, FusionReport &report) {
  GroupEmitter emitter(graph, known, report);
  for (unsigned g : grouping.order)
    if (grouping.groups[g].members.size() + grouping.groups[g].clones.size() >
        1)
      emitter.emit(grouping.groups[g]);
  emitter.reorder(grouping);
}
