// The host program: from calls of kernels to buffers, places and code.
#include "Compilation.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/NarrowTypes.h"
#include "dlc/Dialect/Graph/IR/State.h"
#include "dlc/Driver/TensorFile.h"
#include "dlc/Program/HostCode.h"
#include "dlc/Program/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;

//===----------------------------------------------------------------------===//
// What the artifact says of itself
//===----------------------------------------------------------------------===//

// "2 * seq + 1": a size in the model's names.
static std::string spell(AffineExpr expr, ArrayRef<StringRef> names) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return std::to_string(constant.getValue());
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return names[symbol.getPosition()].str();
  auto binary = cast<AffineBinaryOpExpr>(expr);
  auto side = [&](AffineExpr e) {
    bool isSimple = isa<AffineConstantExpr, AffineSymbolExpr>(e) ||
                    e.getKind() == AffineExprKind::Mul;
    std::string text = spell(e, names);
    return isSimple || expr.getKind() == AffineExprKind::Add ? text
                                                             : "(" + text + ")";
  };
  StringRef sign;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    sign = " + ";
    break;
  case AffineExprKind::Mul:
    sign = " * ";
    break;
  case AffineExprKind::FloorDiv:
    sign = " floordiv ";
    break;
  case AffineExprKind::CeilDiv:
    sign = " ceildiv ";
    break;
  default:
    sign = " mod ";
  }
  return side(binary.getLHS()) + sign.str() + side(binary.getRHS());
}

// `data` holds the numbers of the symbols that the run itself binds.
template <typename Op>
static TensorInfo describe(Op value, ArrayRef<StringRef> symbols,
                           const llvm::DenseSet<unsigned> &data) {
  TensorInfo info;
  info.name = value.getName().str();
  auto type = cast<RankedTensorType>(value.getType());
  auto narrow = value->template getAttrOfType<TypeAttr>(graph::kNarrowAttr);
  std::tie(info.typeCode, info.typeBits) =
      getDLPackType(narrow ? narrow.getValue() : type.getElementType());
  for (AffineExpr dim : graph::getDims(type)) {
    bool dependsOnData = false;
    dim.walk([&](AffineExpr part) {
      if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
        dependsOnData |= data.contains(symbol.getPosition());
    });
    if (dependsOnData)
      info.dims.push_back(DimInfo::data());
    else if (auto constant = dyn_cast<AffineConstantExpr>(dim))
      info.dims.push_back(DimInfo::constant(constant.getValue()));
    else if (auto symbol = dyn_cast<AffineSymbolExpr>(dim))
      info.dims.push_back(DimInfo::symbol(symbol.getPosition(),
                                          symbols[symbol.getPosition()].str()));
    else
      info.dims.push_back(DimInfo::expr(spell(dim, symbols)));
  }
  return info;
}

static Error describeModel(Compilation &c) {
  ModelInfo &info = c.info;
  const TargetDesc &desc = c.target->desc();
  auto machine = c.target->createMachine();
  if (!machine)
    return machine.takeError();
  info.name = c.name;
  info.dlcVersion = getVersion().str();
  info.triple = desc.triple;
  info.cpu = c.cuda ? c.cuda->desc().sm : desc.cpu;
  info.deviceType = c.cuda ? kDLCUDA : kDLCPU;
  info.features =
      requiredFeatures(*(*machine)->getMCSubtargetInfo(),
                       llvm::any_of(c.kernels, [](const CompiledKernel &k) {
                         return k.usesTiles;
                       }));
  info.flags = c.options.shapingFlags;
  info.fpMode = graph::stringifyNumericsMode(c.getMode()).str();
  info.numKernels = c.countKernels();
  SmallVector<StringRef> names;
  for (auto [i, name] :
       llvm::enumerate(c.program.getSymbols().getAsRange<StringAttr>())) {
    names.push_back(name.getValue());
    auto [min, max, typical] = c.program.getRange(i);
    info.symbols.push_back({name.str(), min, max, typical});
  }
  llvm::DenseSet<unsigned> data;
  for (auto bind : c.program.getAll<program::BindOp>())
    data.insert(bind.getSymbol());
  for (auto set : c.program.getAll<program::SetOp>())
    for (int64_t symbol : set.getSymbols())
      data.insert(symbol);
  for (auto loop : c.program.getAll<program::LoopOp>())
    if (loop.getCount())
      data.insert(*loop.getCount());
  for (auto input : c.program.getAll<program::InputOp>()) {
    TensorInfo tensor = describe(input, names, data);
    auto state = graph::readStateAttr(input->getAttr(program::kStateAttr));
    if (!state) {
      info.inputs.push_back(std::move(tensor));
      continue;
    }
    auto rows = graph::constantValue(state->rows);
    unsigned symbol =
        rows ? 0 : cast<AffineSymbolExpr>(state->rows).getPosition();
    info.states.push_back({std::move(tensor), state->output, state->axis,
                           state->length, state->capacity,
                           rows
                               ? DimInfo::constant(*rows)
                               : DimInfo::symbol(symbol, names[symbol].str())});
  }
  for (auto output : c.program.getAll<program::OutputOp>())
    info.outputs.push_back(describe(output, names, data));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The stage
//===----------------------------------------------------------------------===//

Error dlc::buildProgram(Compilation &c) {
  program::ConvertGraphToProgramOptions convert;
  convert.name = c.name;
  if (Error error = runPasses(c, [&](PassManager &manager) {
        manager.addPass(program::createConvertGraphToProgram(convert));
      }))
    return error;
  attachKernelCode(c.getModule(), c.code);
  if (Error error = runPasses(c, [&](PassManager &manager) {
        manager.addNestedPass<program::ModelOp>(program::createPlanMemory());
        manager.addNestedPass<program::ModelOp>(program::createCheckMemory());
      }))
    return error;
  c.program = *c.getModule().getOps<program::ModelOp>().begin();
  c.weights = layOutWeights(c.program, c.code);
  if (auto arena = c.program.getArenaBytes())
    c.arenaBytes = *graph::constantValue(program::getSize(*arena));
  if (Error error = dumpModule(c, "03-program.mlir"))
    return error;
  return describeModel(c);
}
