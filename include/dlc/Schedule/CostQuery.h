// What a kernel will cost, without compiling or running it. A pure function of
// kernel, sizes and target, so that whoever asks (fusion's profitability, the
// choice of layouts, search) asks behind one face and a better answer can take
// the place of this one.
#ifndef DLC_SCHEDULE_COSTQUERY_H
#define DLC_SCHEDULE_COSTQUERY_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/TargetDesc.h"

namespace dlc {

/// The work of one run of a kernel.
struct KernelWork {
  double scalarOps = 0; ///< scalar functions applied, folds included
  double bytes = 0;     ///< operands read once and results written once
  /// Of the scalar functions, those of sums of products of bf16 numbers, and
  /// the products and additions among these: what matrix tiles compute.
  double bf16Ops = 0, bf16Flops = 0;
};

/// Counts the work of `kernel` for values of its symbols.
KernelWork countWork(graph::KernelOp kernel, llvm::ArrayRef<int64_t> symbols);

class CostQuery {
public:
  virtual ~CostQuery() = default;

  /// Seconds of one run on one core.
  virtual double getSeconds(graph::KernelOp kernel,
                            llvm::ArrayRef<int64_t> symbols,
                            const TargetDesc &target) const = 0;
  /// Seconds of that much work on one core, whatever kernel does it.
  virtual double getSeconds(const KernelWork &work,
                            const TargetDesc &target) const = 0;
};

/// The roofline: whichever takes longer, the arithmetic at the machine's peak
/// or the memory traffic at its bandwidth. A lower bound, right in order of
/// magnitude; it ranks kernels, it does not predict times.
class RooflineCost final : public CostQuery {
public:
  double getSeconds(graph::KernelOp kernel, llvm::ArrayRef<int64_t> symbols,
                    const TargetDesc &target) const override;
  double getSeconds(const KernelWork &work,
                    const TargetDesc &target) const override;
};

} // namespace dlc

#endif // DLC_SCHEDULE_COSTQUERY_H
