// The form that the law hom(softmax) speaks of.
#ifndef DLC_LIB_CHECK_SOFTMAX_H
#define DLC_LIB_CHECK_SOFTMAX_H

#include "dlc/Check/Laws.h"

namespace dlc::check {

/// Whether the kernel's maximum and the sums that read it may be folded in one
/// pass, with a state (m, s, o) that stands for them (C-HOM; `online_softmax`,
/// `online_attention`): each of the sums is over exp(t - r(M)), M being the
/// maximum of t itself over the same axes and r a function of the row, times
/// what does not come from the softmax; nothing that varies along these axes
/// and nothing that rounds stands between the exponential and the sum.
///
/// A row without a score above -inf has no such state (C-FINITE): whoever uses
/// the law keeps a branch for it, in which the row is what the folds say.
Admission admitSoftmax(graph::KernelOp kernel, graph::NumericsMode mode);

/// round(softmax): the same form, where the sums with values are of numbers of
/// one 16-bit float type, and weights are rounded to nothing narrower or else.
Admission admitRoundedSoftmax(graph::KernelOp kernel, graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_SOFTMAX_H
