// How a fold that the threads of a block share is cut: layouts reduce and
// slices. What limits such folds is memory, so that the rules see to wide loads
// of whole lines, many of them on their way, and to operands that several rows
// share being read once for all of these.
#ifndef DLC_LIB_CODEGEN_CUDA_FOLDCUT_H
#define DLC_LIB_CODEGEN_CUDA_FOLDCUT_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Schedule/ScheduleSpace.h"

#include <optional>

namespace dlc {

struct FoldCut {
  /// Of a block.
  unsigned threads = 256;
  /// Threads next to each other that fold different elements; the others fold
  /// other steps of the same.
  int64_t lanes = 1;
  /// Elements of a thread: neighbours along two axes of the domain, whose
  /// extents these divide.
  std::optional<unsigned> columnAxis, rowAxis;
  int64_t columns = 1, rows = 1;
  /// Neighbour steps of the innermost reduce axis that stand together.
  int64_t steps = 1;
};

/// The cut by rule. `isAlong`: operands are contiguous along the fold (reduce),
/// not across it (slices).
FoldCut chooseFoldCut(graph::StageOp stage, bool isAlong);

/// The knobs of a cut: as it is, what they may be, and the same cut with other
/// values; fails in words where these do not fit. Values of 0 are the rule's.
KnobValues toKnobs(const FoldCut &cut, bool isAlong);
std::vector<ScheduleSpace::Knob> foldKnobs(bool isAlong);
bool applyKnobs(FoldCut &cut, graph::StageOp stage, const KnobValues &knobs,
                std::string &reason);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_FOLDCUT_H
