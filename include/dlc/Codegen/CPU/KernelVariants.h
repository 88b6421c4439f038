// Several schedules of one kernel, each for a range of a symbolic size. Every
// variant is right for every size: the range decides about speed alone.
#ifndef DLC_CODEGEN_CPU_KERNELVARIANTS_H
#define DLC_CODEGEN_CPU_KERNELVARIANTS_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Schedule/SizeRange.h"
#include "dlc/Target/Common/CpuTarget.h"

#include <optional>

namespace dlc {

/// The most variants of a kernel.
constexpr unsigned kMaxVariants = 3;

struct KernelVariants {
  /// What decides between schedules, over the kernel's symbols; null: nothing.
  mlir::AffineExpr size;
  /// Ascending and without gaps; together they are all values of `size`.
  llvm::SmallVector<SizeRange, kMaxVariants> ranges;
};

/// The ranges of sizes between which `kernel`'s schedule changes, at most
/// `most` of them; `symbols` are the ranges of its symbols. Neighbours of equal
/// or equally good schedules are one range.
KernelVariants planVariants(graph::KernelOp kernel, const CpuTarget &target,
                            const CpuCodegenOptions &options,
                            llvm::ArrayRef<SizeRange> symbols, unsigned most);

/// Whether two schedules read packed factors in one form: a model constant has
/// one for all variants.
bool packsAlike(const ContractionSchedule &a, const ContractionSchedule &b);

/// The range of sizes that `kernel` is compiled for lies in its schedule, as
/// knobs `rows` (the typical value), `rows_min` and `rows_max`.
void setVariantRange(graph::KernelOp kernel, const SizeRange &range);
std::optional<SizeRange> getVariantRange(graph::KernelOp kernel);
void clearVariantRange(graph::KernelOp kernel);
/// Whether nothing else is in its schedule.
bool hasOnlyVariantRange(graph::KernelOp kernel);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_KERNELVARIANTS_H
