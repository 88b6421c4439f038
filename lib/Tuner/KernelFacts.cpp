// What a record holds of a kernel: sizes, strides and types, without names.
#include "KernelFacts.h"

#include "dlc/Codegen/CPU/AttentionSchedule.h"
#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Codegen/CPU/LoopKnobs.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Record.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::tuner;

/// The kernel's text without names: what it computes.
static std::string canonicalText(graph::KernelOp kernel) {
  auto copy = cast<graph::KernelOp>(kernel->clone());
  copy.setSymName("kernel");
  for (NamedAttribute attr : llvm::to_vector(copy->getAttrs()))
    if (StringRef name = attr.getName();
        name != "sym_name" && name != "function_type" && name != "symbols")
      copy->removeAttr(name);
  std::string text;
  llvm::raw_string_ostream os(text);
  copy->print(os, OpPrintingFlags().useLocalScope().assumeVerified());
  copy->erase();
  return text;
}

unsigned dlc::tuner::getTuneThreads(const CpuTarget &target) {
  return std::max(1u,
                  target.threads() ? target.threads() : target.desc().cores);
}

TargetFacts dlc::tuner::factsOf(const TargetDesc &desc) {
  TargetFacts facts;
  facts.arch = desc.arch;
  facts.cpu = desc.cpu;
  facts.vectorBytes = desc.vectorBytes;
  facts.vectorRegisters = desc.vectorRegisters;
  facts.l1 = desc.l1Bytes;
  facts.l2 = desc.l2Bytes;
  facts.l3 = desc.l3Bytes;
  facts.ghz = desc.ghz;
  facts.flopsPerCycle = desc.f32FlopsPerCycle;
  facts.readGBs = desc.readGBs;
  return facts;
}

static int64_t bytesOf(Type type) {
  return std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8);
}

ContractionFacts dlc::tuner::factsOf(const ContractionSpec &spec,
                                     const CpuTarget &target,
                                     const CpuCodegenOptions &options) {
  ContractionFacts f;
  auto size = [&](ArrayRef<unsigned> group) {
    return std::max<int64_t>(
        1, graph::constantValue(spec.extentOf(group)).value_or(1));
  };
  f.outer = size(spec.outer);
  f.rows = size(spec.rows);
  f.columns = size(spec.columns);
  f.depth = size(spec.inner);
  f.accBytes = bytesOf(spec.accumulator);
  auto readFactor = [&](const ContractionOperand &operand,
                        ArrayRef<unsigned> major, int64_t &bytes, int64_t &step,
                        int64_t &depth, bool &isPlain, bool &isConstant) {
    bool isLoad = operand.plain || operand.guarded;
    bytes = isLoad ? bytesOf(operand.element) : f.accBytes;
    isPlain = operand.plain;
    isConstant = operand.plain && options.isConstant(operand.operand);
    auto stride = [&](ArrayRef<unsigned> group) -> int64_t {
      auto expr = operand.plain ? spec.strideOf(operand, group) : std::nullopt;
      return expr ? graph::constantValue(*expr).value_or(-1) : -1;
    };
    step = stride(major);
    depth = stride(spec.inner);
  };
  readFactor(spec.lhs, spec.rows, f.lhsBytes, f.lhsRow, f.lhsDepth, f.lhsPlain,
             f.lhsConstant);
  readFactor(spec.rhs, spec.columns, f.rhsBytes, f.rhsColumn, f.rhsDepth,
             f.rhsPlain, f.rhsConstant);
  if (SmallVector<unsigned> run = spec.lhsRun(); !run.empty())
    f.lhsRun = size(run);
  f.results = int64_t(spec.results.size());
  f.resultBytes = 0;
  for (unsigned i = 0; i < spec.results.size(); ++i)
    f.resultBytes += bytesOf(spec.resultElement(i));
  graph::KernelOp kernel = spec.kernel;
  for (graph::StageOp stage : kernel.getStages()) {
    if (stage == spec.stage)
      continue;
    stage.getBlock()->walk([&](Operation *op) {
      f.epilogueOps += isa<graph::ApplyOp>(op);
      auto load = dyn_cast<graph::LoadOp>(op);
      f.epilogueLoads += load && isa<BlockArgument>(load.getTensor());
    });
  }
  ContractionSchedule base = baseSchedule(target.desc(), spec.accumulator);
  f.panelColumns = base.panelColumns();
  f.kBlock = base.kBlock;
  f.strict = options.strict;
  f.threads = getTuneThreads(target);
  f.kernel = sha256(canonicalText(spec.kernel));
  return f;
}

LoopFacts dlc::tuner::loopFactsOf(graph::KernelOp kernel,
                                  const CpuTarget &target,
                                  const CpuCodegenOptions &options) {
  LoopFacts f;
  NestChoice choice = bestNest(kernel);
  f.nest = chooseNest(kernel).str();
  f.weight = 0;
  f.loads = 0;
  auto count = [](ArrayRef<AffineExpr> dims) {
    int64_t points = 1;
    for (AffineExpr dim : dims)
      points *= graph::constantValue(dim).value_or(1);
    return points;
  };
  auto last = [&](ArrayRef<AffineExpr> dims) {
    return dims.empty() ? 1 : count(dims.take_back());
  };
  for (graph::StageOp stage : kernel.getStages()) {
    ++f.stages;
    f.points = std::max(f.points, count(stage.getDomainDims()));
    if (stage.getFoldKind() != graph::FoldKind::none) {
      ++f.folds;
      f.folded = std::max(f.folded, count(stage.getReduceDims()));
      f.innerFold = std::max(f.innerFold, last(stage.getReduceDims()));
      f.weight += 1;
    }
    f.innermost = std::max(f.innermost, last(stage.getDomainDims()));
    stage.getBlock()->walk([&](Operation *op) {
      if (auto apply = dyn_cast<graph::ApplyOp>(op)) {
        int64_t weight = scalarWeight(apply.getFn());
        f.weight += weight;
        f.heavy += weight > 4;
      }
      if (auto load = dyn_cast<graph::LoadOp>(op)) {
        ++f.loads;
        f.guards += load.getGuard().has_value();
      }
      f.conversions += isa<graph::CastOp>(op);
    });
  }
  --f.stages; // it began with one
  f.weight = std::max<int64_t>(f.weight, 1);
  f.stridedLoads = choice.stridedLoads;
  f.kept = int64_t(choice.plan.kept.size());
  f.mode = choice.plan.mode;
  f.rows = graph::constantValue(choice.plan.rows).value_or(1);
  f.rowBytes = graph::constantValue(choice.plan.rowBytes).value_or(0);
  f.results = int64_t(kernel.getResultTypes().size());
  auto bytes = [&](ArrayRef<Type> types) {
    int64_t sum = 0;
    for (Type type : types)
      sum += count(graph::getDims(type)) *
             graph::elementBytes(cast<RankedTensorType>(type).getElementType());
    return sum;
  };
  f.readBytes = bytes(kernel.getArgumentTypes());
  f.writtenBytes = bytes(kernel.getResultTypes());
  std::tie(f.widestBytes, f.narrowestBytes) = elementWidths(kernel);
  f.window = loopKindOf(kernel) == LoopKind::Window;
  f.strict = options.strict;
  f.threads = getTuneThreads(target);
  f.kernel = sha256(canonicalText(kernel));
  return f;
}

AttentionFacts dlc::tuner::factsOf(const AttentionSpec &spec,
                                   const CpuTarget &target,
                                   const CpuCodegenOptions &options) {
  AttentionFacts f;
  auto size = [&](ArrayRef<unsigned> axes) {
    return std::max<int64_t>(
        1, graph::constantValue(spec.extentOf(axes)).value_or(1));
  };
  f.outer = size(spec.outer);
  f.group = size(spec.group);
  f.rows = size(spec.rows);
  f.keys = size(spec.keys);
  f.inner = size(spec.inner);
  f.columns = size(spec.columns);
  auto bytes = [](const ContractionOperand &operand) {
    return operand.plain || operand.guarded ? bytesOf(operand.element)
                                            : int64_t(4);
  };
  f.queryBytes = bytes(spec.query);
  f.keyBytes = bytes(spec.key);
  f.valueBytes = bytes(spec.value);
  f.resultBytes = 0;
  for (graph::StageOp stage : spec.results)
    f.resultBytes += bytesOf(stage.getElementType());
  auto stride = [&](const ContractionOperand &operand,
                    ArrayRef<unsigned> axes) -> int64_t {
    auto expr = operand.plain ? spec.strideOf(operand, axes) : std::nullopt;
    return expr ? graph::constantValue(*expr).value_or(-1) : -1;
  };
  f.keyStride = stride(spec.key, spec.keys);
  f.valueStride = stride(spec.value, spec.keys);
  f.keyContiguous = stride(spec.key, spec.inner) == 1;
  f.valueContiguous = stride(spec.value, spec.columns) == 1;
  f.cuts = int64_t(spec.cuts.size());
  graph::KernelOp kernel = spec.kernel;
  kernel.getBody().walk([&](graph::ApplyOp) { ++f.scoreOps; });
  f.onePass = !spec.weightRounding;
  f.few = defaultSchedule(spec, target).few;
  f.strict = options.strict;
  f.threads = getTuneThreads(target);
  f.kernel = sha256(canonicalText(spec.kernel));
  return f;
}
