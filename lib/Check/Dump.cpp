// The groups of a fused program as text, for the extracted Coq checker. The
// form is in docs/proofs/README.md.
#include "Values.h"

#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
// A value of the program: equal numbers are equal values; copies of one value
// differ in their names.
struct Named {
  uint32_t number = 0;
  std::string id;
};
using NameMap = llvm::DenseMap<Value, Named>;

// One result of one operation.
struct Line {
  uint32_t number;
  std::string id, key, reads;
  bool isOpaque;
};

class Dumper {
public:
  Dumper(ModuleOp original, ModuleOp fused)
      : original(original), fused(fused), numbering(index),
        originalTable(original), fusedTable(fused),
        certificates(certificatesOf(fused)) {}
  std::string run();

private:
  void addInput(Value value, uint32_t number, NameMap &names);
  bool describe(Operation *op, SymbolTable &table, ArrayRef<PolyId> symbols,
                NameMap &names, std::vector<Line> &lines);
  std::string keyOf(Operation *op, KernelOp callee, ArrayRef<PolyId> symbols);
  bool addNodes(func::FuncOp main);
  bool addGroups(func::FuncOp main);
  bool addCall(CallOp call, CertificateOp certificate, NameMap &names);
  bool isCopy(ArrayRef<Line> lines) const;
  void addMembers(ArrayRef<Line> lines, bool asCopies);
  void keep(uint32_t number) { firstKept.try_emplace(number, numGroups - 1); }

  ModuleOp original, fused;
  IndexArena index;
  ValueNumbering numbering;
  SymbolTable originalTable, fusedTable;
  llvm::DenseMap<StringAttr, CertificateOp> certificates;
  SmallVector<PolyId> symbols;
  llvm::DenseMap<Attribute, unsigned> attributeNumbers;
  llvm::DenseSet<uint32_t> inputs, live, members;
  llvm::MapVector<uint32_t, Line> nodes;
  // The group that is the first to write a value: its computation is the node,
  // others are copies. Found in a first round.
  llvm::DenseMap<uint32_t, unsigned> firstKept;
  SmallVector<uint32_t> outputs; // of the original
  std::string inputText, groupText, outputText;
  unsigned numGroups = 0, numClones = 0;
};
} // namespace

void Dumper::addInput(Value value, uint32_t number, NameMap &names) {
  std::string id = "v" + std::to_string(number);
  if (inputs.insert(number).second)
    inputText += "input " + id + "\n";
  names[value] = {number, id};
}

std::string Dumper::keyOf(Operation *op, KernelOp callee,
                          ArrayRef<PolyId> symbols) {
  std::string key;
  llvm::raw_string_ostream os(key);
  // Sizes by number: a key holds no blanks.
  auto sizes = [&](ArrayRef<PolyId> polys) {
    os << "[";
    llvm::interleave(polys, os, [&](PolyId p) { os << "p" << p; }, ",");
    os << "]";
  };
  if (callee) {
    os << "k" << numbering.kernel(callee);
    sizes(callSymbols(index, cast<CallOp>(op), symbols));
    return key;
  }
  os << op->getName().stripDialect();
  if (!isa<ReshapeOp>(op))
    os << ":"
       << attributeNumbers
              .try_emplace(op->getAttrDictionary(), attributeNumbers.size())
              .first->second;
  for (Type type : op->getResultTypes()) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor)
      continue;
    os << ":" << tensor.getElementType();
    sizes(llvm::map_to_vector(getDims(tensor), [&](AffineExpr e) {
      return index.fromAffine(e, {}, symbols, index.emptyContext());
    }));
  }
  return key;
}

// Names an operation's results; false when it has no form here.
bool Dumper::describe(Operation *op, SymbolTable &table,
                      ArrayRef<PolyId> symbols, NameMap &names,
                      std::vector<Line> &lines) {
  SmallVector<uint32_t> operands;
  std::string reads;
  for (Value v : op->getOperands()) {
    auto it = names.find(v);
    if (it == names.end())
      return false;
    operands.push_back(it->second.number);
    reads += " " + it->second.id;
  }
  KernelOp callee;
  if (auto call = dyn_cast<CallOp>(op)) {
    callee = table.lookup<KernelOp>(call.getCallee());
    if (!callee)
      return false;
  }
  if (op->getNumRegions() != 0)
    return false;
  uint32_t id = numbering.number(op, operands, symbols, callee).id;
  for (OpResult result : op->getResults()) {
    uint32_t number = numbering.value(id, result.getResultNumber());
    if (isa<ConstantOp>(op)) {
      addInput(result, number, names);
      continue;
    }
    Line line{number, "v" + std::to_string(number),
              keyOf(op, callee, symbols) + "#" +
                  std::to_string(result.getResultNumber()),
              reads, (callee && callee.getOpaque()) || !isMemoryEffectFree(op)};
    names[result] = {number, line.id};
    lines.push_back(std::move(line));
  }
  return true;
}

bool Dumper::addNodes(func::FuncOp main) {
  NameMap names;
  for (BlockArgument arg : main.getArguments())
    addInput(arg, numbering.value(~0u, arg.getArgNumber()), names);
  std::vector<Line> lines;
  for (Operation &op : main.getBody().front().without_terminator())
    if (!describe(&op, originalTable, symbols, names, lines))
      return false;
  for (Line &line : lines)
    nodes.insert({line.number, line});
  for (Value v : main.getBody().front().getTerminator()->getOperands()) {
    outputs.push_back(names.lookup(v).number);
    live.insert(outputs.back());
    outputText += "output v" + std::to_string(outputs.back()) + "\n";
  }
  // What nothing needs may be gone.
  for (Operation &op :
       llvm::reverse(main.getBody().front().without_terminator())) {
    if (isMemoryEffectFree(&op) && llvm::none_of(op.getResults(), [&](Value v) {
          return live.contains(names.lookup(v).number);
        }))
      continue;
    for (Value v : op.getResults())
      live.insert(names.lookup(v).number);
    for (Value v : op.getOperands())
      live.insert(names.lookup(v).number);
  }
  return true;
}

// Is this computation, in the group being written, a copy of one elsewhere?
bool Dumper::isCopy(ArrayRef<Line> lines) const {
  return llvm::any_of(lines, [&](const Line &line) {
    auto it = firstKept.find(line.number);
    return members.contains(line.number) ||
           (it != firstKept.end() && it->second != numGroups - 1);
  });
}

void Dumper::addMembers(ArrayRef<Line> lines, bool asCopies) {
  for (const Line &line : lines) {
    if (!asCopies)
      members.insert(line.number);
    groupText += asCopies ? "clone " + line.id + "c" +
                                std::to_string(numClones) + " of " + line.id
                          : "member " + line.id;
    groupText += " " + line.key + " reads" + line.reads + "\n";
  }
}

bool Dumper::addCall(CallOp call, CertificateOp certificate, NameMap &names) {
  Block &body = certificate.getBody().front();
  if (body.getNumArguments() != call.getArgs().size())
    return false;
  NameMap inner;
  for (auto [arg, value] : llvm::zip(body.getArguments(), call.getArgs())) {
    auto it = names.find(value);
    if (it == names.end())
      return false;
    inner[arg] = it->second;
  }
  SmallVector<PolyId> actual = callSymbols(index, call, symbols);
  llvm::DenseMap<uint32_t, std::string> here; // values computed in this group
  for (Operation &op : body.without_terminator()) {
    std::vector<Line> lines;
    if (!describe(&op, fusedTable, actual, inner, lines))
      return false;
    // The same operation twice is one value.
    if (!lines.empty() && here.count(lines[0].number)) {
      for (Value v : op.getResults())
        inner[v].id = here.lookup(inner[v].number);
      continue;
    }
    bool asCopies = isCopy(lines);
    numClones += asCopies;
    addMembers(lines, asCopies);
    for (Value v : op.getResults()) {
      if (asCopies)
        inner[v].id += "c" + std::to_string(numClones);
      here[inner[v].number] = inner[v].id;
    }
  }
  Operation *kept = body.getTerminator();
  if (kept->getNumOperands() != call.getNumResults())
    return false;
  groupText += "keep";
  for (auto [value, result] :
       llvm::zip(kept->getOperands(), call.getResults())) {
    auto it = inner.find(value);
    if (it == inner.end())
      return false;
    names[result] = it->second;
    keep(it->second.number);
    groupText += " " + it->second.id;
  }
  groupText += "\n";
  return true;
}

bool Dumper::addGroups(func::FuncOp main) {
  NameMap names;
  for (BlockArgument arg : main.getArguments())
    addInput(arg, numbering.value(~0u, arg.getArgNumber()), names);
  for (Operation &op : main.getBody().front().without_terminator()) {
    auto call = dyn_cast<CallOp>(op);
    CertificateOp certificate =
        call ? certificates.lookup(call.getCalleeAttr().getAttr())
             : CertificateOp();
    std::string head = "group g" + std::to_string(numGroups++) + "\n";
    if (certificate) {
      groupText += head;
      if (!addCall(call, certificate, names))
        return false;
      continue;
    }
    std::vector<Line> lines;
    if (!describe(&op, fusedTable, symbols, names, lines))
      return false;
    if (lines.empty())
      continue; // a constant
    groupText += head;
    bool asCopies = isCopy(lines);
    numClones += asCopies;
    addMembers(lines, asCopies);
    groupText += "keep";
    for (Value v : op.getResults()) {
      keep(names[v].number);
      if (asCopies)
        names[v].id += "c" + std::to_string(numClones);
      groupText += " " + names[v].id;
    }
    groupText += "\n";
  }
  // The form has the original's outputs; that the program returns those, in
  // their order, is not for it to say.
  auto isKnown = [&](uint32_t number) {
    return nodes.count(number) || inputs.contains(number);
  };
  auto returned = main.getBody().front().getTerminator()->getOperands();
  if (returned.size() != outputs.size())
    return false;
  for (auto [v, number] : llvm::zip(returned, outputs)) {
    auto it = names.find(v);
    if (it == names.end() ||
        (it->second.number != number && isKnown(it->second.number)))
      return false;
  }
  return true;
}

std::string Dumper::run() {
  for (auto main : original.getOps<func::FuncOp>()) {
    auto other = fused.lookupSymbol<func::FuncOp>(main.getSymName());
    if (!other || main.getBody().empty() || other.getBody().empty())
      return "";
    symbols = ownSymbols(index, std::max(countFunctionSymbols(main),
                                         countFunctionSymbols(other)));
    if (!addNodes(main) || !addGroups(other))
      return "";
    groupText.clear(), members.clear();
    numGroups = numClones = 0;
    if (!addGroups(other))
      return "";
    break; // a model has one function
  }
  std::string text = "dlc-groups 1\n" + inputText;
  for (auto &[number, line] : nodes)
    if (live.contains(number) || members.contains(number))
      text += (line.isOpaque ? "opaque " : "node ") + line.id + " " + line.key +
              " reads" + line.reads + "\n";
  return text + groupText + outputText + "end\n";
}

std::string check::dumpGroups(ModuleOp original, ModuleOp fused) {
  return Dumper(original, fused).run();
}
