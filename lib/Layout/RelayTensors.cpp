// graph-relay-tensors: types and callees in functions, a kernel a combination.
#include "Regions.h"

#include "dlc/Layout/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include <map>

namespace dlc::layout {
#define GEN_PASS_DEF_RELAYTENSORS
#include "dlc/Layout/Passes.h.inc"
} // namespace dlc::layout

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;
using graph::KernelOp;

// Copies of tables in another order, for constants that one call reads.
static ElementsAttr relayTable(Value value, const Permutation &permutation) {
  auto constant = value.getDefiningOp<graph::ConstantOp>();
  if (!constant || !value.hasOneUse())
    return {};
  return permuteConstant(constant.getValue(), permutation);
}

namespace {
class Relayer {
public:
  Relayer(ModuleOp module, const llvm::DenseSet<Value> &chosen,
          const llvm::DenseSet<Value> &widened, LayoutReport &report)
      : symbols(module), chosen(chosen), widened(widened), report(report) {}

  void relay(graph::CallOp call);

private:
  TensorLayout layoutOf(Value value) const {
    TensorLayout layout;
    if (chosen.contains(value))
      layout.permutation =
          channelsLast(cast<RankedTensorType>(value.getType()).getRank());
    layout.isWide = widened.contains(value);
    return layout;
  }

  SymbolTable symbols;
  const llvm::DenseSet<Value> &chosen, &widened;
  LayoutReport &report;
  std::map<std::pair<std::string, std::vector<TensorLayout>>, StringAttr> made;
};
} // namespace

void Relayer::relay(graph::CallOp call) {
  auto layouts = [&](ValueRange values) {
    return llvm::map_to_vector(values, [&](Value v) { return layoutOf(v); });
  };
  SmallVector<TensorLayout> operands = layouts(call.getArgs()),
                            results = layouts(call.getResults());
  auto isRelaid = [](const TensorLayout &l) {
    return l.isWide || !l.permutation.empty();
  };
  if (llvm::none_of(operands, isRelaid) && llvm::none_of(results, isRelaid))
    return;
  auto kernel = symbols.lookup<KernelOp>(call.getCallee());
  for (const ChannelTable &table : analyze(kernel).tables) {
    Value value = call.getArgs()[table.operand];
    if (results[table.result].permutation.empty())
      continue;
    ElementsAttr relaid = relayTable(value, table.permutation);
    if (!relaid)
      continue;
    auto constant = value.getDefiningOp<graph::ConstantOp>();
    constant.setValueAttr(relaid);
    constant->setAttr(kClaim, DenseI64ArrayAttr::get(constant.getContext(),
                                                     table.permutation));
    value.setType(cast<RankedTensorType>(relaid.getType()));
    operands[table.operand] = {table.permutation};
  }
  std::vector<TensorLayout> key(operands.begin(), operands.end());
  key.insert(key.end(), results.begin(), results.end());
  StringAttr &name = made[{call.getCallee().str(), key}];
  if (!name) {
    KernelOp copy = relayKernel(kernel, (kernel.getSymName() + "_last").str(),
                                operands, results);
    name = symbols.insert(copy, std::next(kernel->getIterator()));
    ++report.kernels;
  }
  call.setCallee(name);
}

LayoutReport layout::relayTensors(ModuleOp module,
                                  const LayoutOptions &options) {
  LayoutReport report;
  if (!module.getOps<graph::CertificateOp>().empty())
    return report;
  llvm::DenseSet<Value> chosen = chooseTensors(module, options);
  if (chosen.empty())
    return report;
  llvm::DenseSet<Value> widened = chooseWidened(module, chosen, options);
  copyNarrowImages(module, chosen, widened, options);
  report.tensors = chosen.size();
  report.widened = widened.size();
  llvm::DenseSet<StringAttr> called;
  SmallVector<graph::CallOp> calls;
  for (auto function : module.getOps<func::FuncOp>())
    function.walk([&](graph::CallOp call) { calls.push_back(call); });
  Relayer relayer(module, chosen, widened, report);
  for (graph::CallOp call : calls) {
    relayer.relay(call);
    called.insert(call.getCalleeAttr().getAttr());
  }
  for (Value value : chosen) {
    auto type = cast<RankedTensorType>(value.getType());
    value.setType(permuteType(type, channelsLast(type.getRank())));
  }
  for (Value value : widened)
    value.setType(widenType(value.getType()));
  for (auto kernel : llvm::make_early_inc_range(module.getOps<KernelOp>()))
    if (!called.contains(kernel.getSymNameAttr()))
      kernel.erase();
  return report;
}

void layout::dropClaims(ModuleOp module) {
  module.walk([](Operation *op) { op->removeAttr(kClaim); });
}

namespace {
struct RelayTensors : layout::impl::RelayTensorsBase<RelayTensors> {
  using RelayTensorsBase::RelayTensorsBase;

  void runOnOperation() override {
    LayoutOptions options;
    options.lanes = lanes;
    relayTensors(getOperation(), options);
  }
};
} // namespace
