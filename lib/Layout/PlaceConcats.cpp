// graph-place-concats: results that are stored where a concatenation wants
// them.
//
// Concatenations are looked at from the last one to the first, so that one that
// lies in another knows by then how far apart its rows are. Kernels change at
// the end, when it is known which of their tensors lie so.
#include "Regions.h"
#include "dlc/Layout/Concat.h"
#include "dlc/Layout/Passes.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/Winograd.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include <map>
#include <set>

namespace dlc::layout {
#define GEN_PASS_DEF_PLACECONCATS
#include "dlc/Layout/Passes.h.inc"
} // namespace dlc::layout

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::ConcatForm;
using graph::KernelOp;

// The attributes of a kernel after which its addresses are not those of its
// maps, or are chosen already.
static bool isFixed(KernelOp kernel) {
  if (kernel.getOpaque() || kernel.getNumSymbols() ||
      kernel->hasAttr("graph.dispatch") ||
      kernel->hasAttr(WinogradClaim::kAttr))
    return true;
  DictionaryAttr schedule = kernel.getScheduleAttr();
  auto nest = schedule ? schedule.getAs<StringAttr>("nest") : StringAttr();
  return nest && nest.getValue() == "library";
}

namespace {
class Placer {
public:
  Placer(ModuleOp module,
         llvm::function_ref<bool(KernelOp, const ConcatForm &)> admits);

  PlaceReport run();

private:
  using Pitches = SmallVector<int64_t>;

  bool place(graph::CallOp call, const ConcatForm &form);
  /// Whether an operand of `call` can lie in the result: nobody but calls of
  /// the same block reads it, and those who compute and read it can keep the
  /// pitch (0: it is stored whole).
  bool canLie(Value value, graph::CallOp call, int64_t pitch);
  /// Whether the call can have a pitch for tensor `number`, operands first,
  /// besides those that it has.
  bool canKeep(graph::CallOp call, unsigned number, int64_t pitch);
  Pitches pitchesOf(graph::CallOp call) const;
  /// Calls of kernels that keep the pitches.
  void changeKernels();

  KernelOp kernelOf(graph::CallOp call) {
    return symbols.lookup<KernelOp>(call.getCallee());
  }

  ModuleOp module;
  SymbolTable symbols;
  PlaceReport report;
  SmallVector<graph::CallOp> calls;
  llvm::DenseMap<Operation *, ConcatForm> forms;
  llvm::DenseMap<Value, int64_t> pitchOf; ///< of tensors whose rows lie apart
  llvm::DenseSet<Value> taken;            ///< that lie in a concatenation
  std::map<std::pair<std::string, std::vector<int64_t>>, bool> known;
};
} // namespace

Placer::Placer(ModuleOp module,
               llvm::function_ref<bool(KernelOp, const ConcatForm &)> admits)
    : module(module), symbols(module) {
  for (auto function : module.getOps<func::FuncOp>())
    function.walk([&](graph::CallOp call) { calls.push_back(call); });
  llvm::StringMap<std::optional<ConcatForm>> byKernel;
  for (graph::CallOp call : calls) {
    auto [it, isNew] = byKernel.try_emplace(call.getCallee());
    if (KernelOp kernel = kernelOf(call); isNew && kernel) {
      it->second = readConcat(kernel);
      if (it->second && !admits(kernel, *it->second))
        it->second.reset();
    }
    // What a branch or an iteration leaves has a place already.
    if (it->second && isa<func::FuncOp>(call->getParentOp()))
      forms[call] = *it->second;
  }
}

/// Whether parts lie apart, and how far is known.
static bool hasPitch(graph::CallOp call, const ConcatForm &form) {
  auto shape = cast<RankedTensorType>(call.getResult(0).getType()).getShape();
  return form.isOfLastAxis(shape) && !form.hasWholeParts(shape);
}

Placer::Pitches Placer::pitchesOf(graph::CallOp call) const {
  Pitches pitches;
  for (Value value : call.getArgs())
    pitches.push_back(pitchOf.lookup(value));
  for (Value value : call.getResults())
    pitches.push_back(pitchOf.lookup(value));
  return pitches;
}

static void setPitches(KernelOp kernel, ArrayRef<int64_t> pitches) {
  kernel->setAttr(graph::kPitchAttr,
                  DenseI64ArrayAttr::get(kernel.getContext(), pitches));
}

bool Placer::canKeep(graph::CallOp call, unsigned number, int64_t pitch) {
  KernelOp kernel = kernelOf(call);
  Pitches pitches = pitchesOf(call);
  if (pitches[number] && pitches[number] != pitch)
    return false;
  pitches[number] = pitch;
  auto [it, isNew] = known.try_emplace(
      {kernel.getSymName().str(), {pitches.begin(), pitches.end()}}, false);
  if (!isNew || isFixed(kernel))
    return it->second;
  unsigned operands = call.getArgs().size();
  // A result that another stage reads may be read in a row buffer.
  if (number >= operands &&
      !kernel.getResultValues()[number - operands].hasOneUse())
    return false;
  NestChoice choice = bestNest(kernel);
  if (choice.nest == "attention" || choice.nest == "opaque")
    return false;
  if (choice.nest == "contraction") {
    // The epilogue stores all results alike; and knobs that were searched may
    // read the factor as it lies.
    if (kernel.getResultTypes().size() != 1)
      return false;
    DictionaryAttr schedule = kernel.getScheduleAttr();
    if (number < operands && schedule &&
        llvm::any_of(
            schedule,
            [](NamedAttribute entry) {
              return entry.getName() != "nest" && entry.getName() != "laws";
            }))
      return false;
  }
  auto copy = cast<KernelOp>(kernel->clone());
  setPitches(copy, pitches);
  it->second = bestNest(copy).nest == choice.nest;
  copy->erase();
  return it->second;
}

bool Placer::canLie(Value value, graph::CallOp call, int64_t pitch) {
  auto producer = value.getDefiningOp<graph::CallOp>();
  if (!producer || producer->getBlock() != call->getBlock() ||
      producer->hasAttr(graph::kPlacedAttr) || taken.contains(value) ||
      llvm::count(call.getArgs(), value) != 1)
    return false;
  for (OpOperand &use : value.getUses()) {
    auto reader = dyn_cast<graph::CallOp>(use.getOwner());
    if (!reader || reader->getBlock() != call->getBlock())
      return false;
    if (pitch && reader != call &&
        !canKeep(reader, use.getOperandNumber(), pitch))
      return false;
  }
  if (!pitch)
    return true;
  auto nested = forms.find(producer);
  return (nested != forms.end() && hasPitch(producer, nested->second)) ||
         canKeep(producer,
                 producer.getArgs().size() +
                     cast<OpResult>(value).getResultNumber(),
                 pitch);
}

// What a chain of reshapes that nobody else reads is a view of.
static Value viewed(Value value) {
  while (auto view = value.getDefiningOp<graph::ReshapeOp>()) {
    if (!value.hasOneUse() || !view.getOperand().hasOneUse())
      return value;
    value = view.getOperand();
  }
  return value;
}

bool Placer::place(graph::CallOp call, const ConcatForm &form) {
  auto type = cast<RankedTensorType>(call.getResult(0).getType());
  int64_t given = pitchOf.lookup(call.getResult(0)), pitch = 0;
  if (hasPitch(call, form))
    pitch = given ? given : type.getShape().back();
  else if (given || !form.hasWholeParts(type.getShape()))
    return false; // parts of rows that lie apart, or joined between other axes
  SmallVector<Value> roots; // of the operands that can lie there; null: copied
  int64_t placed = 0;
  for (Value arg : call.getArgs()) {
    Value root = pitch ? arg : viewed(arg);
    bool isView = root != arg;
    auto producer = root.getDefiningOp<graph::CallOp>();
    bool lies = isView ? producer && root.hasOneUse() &&
                             producer->getBlock() == call->getBlock() &&
                             !producer->hasAttr(graph::kPlacedAttr)
                       : canLie(arg, call, pitch);
    roots.push_back(lies ? root : Value());
    if (!lies)
      continue;
    taken.insert(root);
    placed += cast<RankedTensorType>(arg.getType()).getNumElements();
    if (pitch)
      pitchOf[arg] = pitch;
  }
  if (placed == 0 || 2 * placed < type.getNumElements()) {
    for (auto [arg, root] : llvm::zip_equal(call.getArgs(), roots))
      if (root) {
        taken.erase(root);
        pitchOf.erase(arg);
      }
    return false;
  }
  for (auto [i, root] : llvm::enumerate(roots)) {
    if (root) {
      ++report.operands;
      continue;
    }
    OpBuilder builder(call);
    graph::CallOp copy =
        copyTensor(module, symbols, builder, call.getArgs()[i], call);
    call->setOperand(i, copy.getResult(0));
    calls.push_back(copy);
    taken.insert(copy.getResult(0));
    if (pitch)
      pitchOf[copy.getResult(0)] = pitch;
    ++report.copies;
  }
  call->setAttr(graph::kPlacedAttr, form.toAttr(call.getContext()));
  ++report.concats;
  return true;
}

void Placer::changeKernels() {
  std::map<std::pair<std::string, std::vector<int64_t>>, KernelOp> made;
  std::set<std::string> before;
  for (graph::CallOp call : calls) {
    Pitches pitches = pitchesOf(call);
    if (call->hasAttr(graph::kPlacedAttr) ||
        llvm::all_of(pitches, [](int64_t p) { return p == 0; }))
      continue;
    KernelOp kernel = kernelOf(call);
    before.insert(kernel.getSymName().str());
    KernelOp &copy =
        made[{kernel.getSymName().str(), {pitches.begin(), pitches.end()}}];
    if (!copy) {
      copy = cast<KernelOp>(kernel->clone());
      copy.setSymName((kernel.getSymName() + "_placed").str());
      setPitches(copy, pitches);
      symbols.insert(copy, std::next(kernel->getIterator()));
    }
    call.setCallee(copy.getSymName());
  }
  llvm::DenseSet<StringAttr> called;
  module.walk([&](graph::CallOp call) {
    called.insert(call.getCalleeAttr().getAttr());
  });
  for (const std::string &name : before)
    if (auto kernel = symbols.lookup<KernelOp>(name);
        !called.contains(kernel.getSymNameAttr()))
      symbols.erase(kernel);
}

PlaceReport Placer::run() {
  for (size_t i = calls.size(); i-- > 0;)
    if (auto form = forms.find(calls[i]); form != forms.end())
      place(calls[i], form->second);
  changeKernels();
  return report;
}

PlaceReport layout::placeConcats(
    ModuleOp module,
    llvm::function_ref<bool(KernelOp, const ConcatForm &)> admits) {
  return Placer(module, admits).run();
}

namespace {
struct PlaceConcats : layout::impl::PlaceConcatsBase<PlaceConcats> {
  void runOnOperation() override {
    placeConcats(getOperation(),
                 [](KernelOp, const ConcatForm &) { return true; });
  }
};
} // namespace
