// graph-place-concats: results that are stored where a concatenation wants
// them.
#include "Regions.h"
#include "dlc/Layout/Concat.h"
#include "dlc/Layout/Passes.h"
#include "dlc/Schedule/NestChoice.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include <map>

namespace dlc::layout {
#define GEN_PASS_DEF_PLACECONCATS
#include "dlc/Layout/Passes.h.inc"
} // namespace dlc::layout

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::ConcatForm;
using graph::KernelOp;

namespace {
class Placer {
public:
  Placer(ModuleOp module, PlaceReport &report)
      : symbols(module), module(module), report(report) {}

  /// False where the call stays as it is.
  bool place(graph::CallOp call, const ConcatForm &form);
  /// Erases kernels without a call: those whose every call stores with a pitch
  /// now, and copies of those of which none does.
  void dropUnused();

private:
  /// The result of a call of which `value` is all that others read, if there is
  /// one in the block.
  static OpResult storedBy(Value value, Block *block);
  /// A kernel that stores result `number` of `kernel` with this pitch; null
  /// where none can.
  KernelOp withPitch(KernelOp kernel, unsigned number, int64_t pitch);

  SymbolTable symbols;
  ModuleOp module;
  PlaceReport &report;
  /// By kernel, result and pitch. Null: it cannot.
  std::map<std::tuple<std::string, unsigned, int64_t>, KernelOp> made;
};
} // namespace

OpResult Placer::storedBy(Value value, Block *block) {
  while (auto view = value.getDefiningOp<graph::ReshapeOp>()) {
    if (!value.hasOneUse())
      return {};
    value = view.getOperand();
  }
  auto result = dyn_cast<OpResult>(value);
  if (!result || !value.hasOneUse() || result.getOwner()->getBlock() != block ||
      !isa<graph::CallOp>(result.getOwner()) ||
      result.getOwner()->hasAttr(graph::kPlacedAttr))
    return {};
  return result;
}

KernelOp Placer::withPitch(KernelOp kernel, unsigned number, int64_t pitch) {
  auto [it, isNew] =
      made.try_emplace({kernel.getSymName().str(), number, pitch}, KernelOp());
  if (!isNew)
    return it->second;
  Value result = kernel.getResultValues()[number];
  // Where another stage reads it, it may be read in a row buffer.
  if (kernel.getOpaque() || kernel.getNumSymbols() || !result.hasOneUse() ||
      kernel->hasAttr("graph.dispatch"))
    return {};
  DictionaryAttr schedule = kernel.getScheduleAttr();
  auto given = schedule ? schedule.getAs<StringAttr>("nest") : StringAttr();
  NestChoice choice = bestNest(kernel);
  StringRef nest = given ? given.getValue() : StringRef(choice.nest);
  bool isProduct = nest == "contraction";
  if (!isProduct && nest != "row" && nest != "map" && nest != "generic")
    return {};
  // Its epilogue stores all results alike.
  if (isProduct && kernel.getResultTypes().size() != 1)
    return {};
  auto copy = cast<KernelOp>(kernel->clone());
  SmallVector<int64_t> pitches(
      kernel.getArgumentTypes().size() + kernel.getResultTypes().size(), 0);
  if (auto before = kernel->getAttrOfType<DenseI64ArrayAttr>(graph::kPitchAttr))
    pitches = llvm::to_vector(before.asArrayRef());
  pitches[kernel.getArgumentTypes().size() + number] = pitch;
  copy->setAttr(graph::kPitchAttr,
                DenseI64ArrayAttr::get(kernel.getContext(), pitches));
  copy.setSymName((kernel.getSymName() + "_placed").str());
  if (bestNest(copy).nest != choice.nest) {
    copy->erase();
    return {};
  }
  symbols.insert(copy, std::next(kernel->getIterator()));
  return it->second = copy;
}

void Placer::dropUnused() {
  llvm::DenseSet<StringAttr> called;
  module.walk([&](graph::CallOp call) {
    called.insert(call.getCalleeAttr().getAttr());
  });
  std::set<std::string> before;
  for (auto &[key, copy] : made) {
    if (copy && !called.contains(copy.getSymNameAttr()))
      symbols.erase(copy);
    before.insert(std::get<0>(key));
  }
  for (const std::string &name : before)
    if (auto kernel = symbols.lookup<KernelOp>(name);
        kernel && !called.contains(kernel.getSymNameAttr()))
      symbols.erase(kernel);
}

bool Placer::place(graph::CallOp call, const ConcatForm &form) {
  if (!isa<func::FuncOp>(call->getParentOp()))
    return false; // what a branch or an iteration leaves has a place already
  auto type = cast<RankedTensorType>(call.getResult(0).getType());
  ArrayRef<int64_t> shape = type.getShape();
  bool isWhole = llvm::all_of(shape.take_front(form.axis),
                              [](int64_t size) { return size == 1; });
  if (!isWhole && form.axis + 1 != shape.size())
    return false; // parts of parts
  struct Part {
    OpResult result;
    KernelOp kernel; ///< null: as it is
  };
  SmallVector<Part> parts;
  int64_t placed = 0;
  for (Value arg : call.getArgs()) {
    Part &part = parts.emplace_back();
    OpResult result = storedBy(arg, call->getBlock());
    if (!result || (!isWhole && result != arg))
      continue;
    if (!isWhole) {
      auto producer = cast<graph::CallOp>(result.getOwner());
      part.kernel = withPitch(symbols.lookup<KernelOp>(producer.getCallee()),
                              result.getResultNumber(), shape.back());
      if (!part.kernel)
        continue;
    }
    part.result = result;
    placed += cast<RankedTensorType>(arg.getType()).getNumElements();
  }
  if (placed == 0 || 2 * placed < type.getNumElements())
    return false;
  for (auto [i, part] : llvm::enumerate(parts)) {
    if (!part.result) {
      OpBuilder builder(call);
      graph::CallOp copy =
          copyTensor(module, symbols, builder, call.getArgs()[i], call);
      call->setOperand(i, copy.getResult(0));
      ++report.copies;
      if (!isWhole)
        copy.setCallee(withPitch(symbols.lookup<KernelOp>(copy.getCallee()), 0,
                                 shape.back())
                           .getSymName());
      continue;
    }
    ++report.operands;
    if (!part.kernel)
      continue;
    cast<graph::CallOp>(part.result.getOwner())
        .setCallee(part.kernel.getSymName());
  }
  call->setAttr(graph::kPlacedAttr, form.toAttr(call.getContext()));
  ++report.concats;
  return true;
}

PlaceReport layout::placeConcats(
    ModuleOp module,
    llvm::function_ref<bool(KernelOp, const ConcatForm &)> admits) {
  PlaceReport report;
  SmallVector<graph::CallOp> calls;
  for (auto function : module.getOps<func::FuncOp>())
    function.walk([&](graph::CallOp call) { calls.push_back(call); });
  SymbolTable symbols(module);
  llvm::StringMap<std::optional<ConcatForm>> forms;
  for (graph::CallOp call : calls) {
    auto kernel = symbols.lookup<KernelOp>(call.getCallee());
    auto [it, isNew] = forms.try_emplace(call.getCallee());
    if (isNew && kernel) {
      it->second = readConcat(kernel);
      if (it->second && !admits(kernel, *it->second))
        it->second.reset();
    }
  }
  Placer placer(module, report);
  for (graph::CallOp call : calls)
    if (auto &form = forms[call.getCallee()])
      placer.place(call, *form);
  placer.dropUnused();
  return report;
}

namespace {
struct PlaceConcats : layout::impl::PlaceConcatsBase<PlaceConcats> {
  void runOnOperation() override {
    placeConcats(getOperation(),
                 [](KernelOp, const ConcatForm &) { return true; });
  }
};
} // namespace
