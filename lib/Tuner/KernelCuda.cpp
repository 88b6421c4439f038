// A CUDA kernel's key, and the draft of its schedules.
#include "KernelFacts.h"

#include "dlc/Schedule/CostQuery.h"
#include "dlc/Tuner/CudaTask.h"
#include "dlc/Tuner/Record.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::tuner;

static CudaTargetFacts gpuFacts(const CudaDesc &desc) {
  CudaTargetFacts facts;
  facts.device = desc.name;
  facts.sm = desc.sm;
  facts.multiprocessors = desc.multiprocessors;
  facts.sharedBytes = desc.maxSharedBytes;
  facts.registers = desc.registers;
  facts.threads = desc.maxThreads;
  facts.l2 = desc.l2Bytes;
  facts.memoryGBs = desc.memoryGBs;
  facts.f32Tflops = desc.f32Tflops;
  facts.tensorTflops = desc.tensorTflops;
  return facts;
}

static int64_t bytesOf(ArrayRef<Type> types) {
  int64_t bytes = 0;
  for (Type type : types) {
    int64_t elements = 1;
    for (AffineExpr dim : graph::getDims(type))
      elements *= graph::constantValue(dim).value_or(1);
    bytes += elements *
             graph::elementBytes(cast<RankedTensorType>(type).getElementType());
  }
  return bytes;
}

FailureOr<KernelKey> dlc::tuner::makeCudaKey(graph::KernelOp kernel,
                                             const CudaTarget &target,
                                             const CudaCodegenOptions &options,
                                             std::string &reason) {
  reason = whyNotTuned(kernel);
  if (!reason.empty())
    return failure();
  CudaShape shape = cudaShapeOf(kernel, options);
  if (cudaScheduleSpace(kernel, options).knobs.empty()) {
    reason = "its launches leave nothing to choose";
    return failure();
  }
  CudaFacts f;
  f.nest = shape.nest;
  f.outer = shape.outer;
  f.rows = shape.rows;
  f.columns = shape.columns;
  f.depth = shape.depth;
  f.keys = shape.keys;
  f.tensor = shape.usesTensorCores;
  f.factorBytes = shape.factorBytes;
  f.leftCopy = shape.leftCopy;
  f.rightCopy = shape.rightCopy;
  f.rounds = shape.rounds;
  f.cuts = shape.cuts;
  f.points = shape.points;
  f.folded = shape.folded;
  f.rowElements = shape.rowElements;
  f.launches = shape.launches;
  f.readBytes = bytesOf(kernel.getArgumentTypes());
  f.writtenBytes = bytesOf(kernel.getResultTypes());
  f.scalarOps = countWork(kernel, {}).scalarOps;
  f.strict = options.strict;
  f.tf32 = options.tf32;
  f.kernel = sha256(canonicalText(kernel));
  KernelKey key;
  key.nest = shape.nest;
  key.work = f.scalarOps;
  key.workload = f.toJson();
  key.target = gpuFacts(target.desc()).toJson();
  return key;
}

std::vector<KnobValues>
dlc::tuner::draftSchedules(const ScheduleSpace &space, const Scorer &scorer,
                           unsigned count, uint64_t seed, unsigned samples) {
  constexpr unsigned byChance = 8;
  ScheduleSpace::Random random(seed);
  std::vector<std::pair<double, KnobValues>> points;
  for (unsigned i = 0; i < samples; ++i) {
    auto point = space.sample(random);
    if (!point)
      break;
    if (*point != space.defaults)
      points.push_back({scorer.seconds(*point), std::move(*point)});
  }
  std::vector<std::pair<double, KnobValues>> drawn = points;
  llvm::sort(points);
  points.erase(llvm::unique(points), points.end());
  std::vector<KnobValues> chosen{{}};
  auto take = [&](const KnobValues &point) {
    if (!llvm::is_contained(chosen, point))
      chosen.push_back(point);
  };
  size_t next = 0;
  while (chosen.size() < count && next < points.size()) {
    if (chosen.size() % byChance == byChance - 1)
      take(drawn[random() % drawn.size()].second);
    else
      take(points[next++].second);
  }
  return chosen;
}
