// Admission of schedules: may this kernel be computed under these laws?
#ifndef DLC_CHECK_LAWS_H
#define DLC_CHECK_LAWS_H

#include "dlc/Dialect/Graph/IR/Laws.h"

namespace dlc::check {

/// The answer carries its reason when it is no.
struct Admission {
  bool admitted = true;
  std::string reason;
  explicit operator bool() const { return admitted; }
};

/// Checks that every law holds for some fold of `kernel` and is allowed in
/// `mode`.
///
/// Exact in any order, so admitted always (C-SPLIT, C-REORDER, [A] of the
/// theory): integer and boolean add, mul, and, or; min and max, which propagate
/// NaN and order -0 below +0; the arg folds, whose ties go by index. Float add
/// and mul are associative only in the reals: admitted in `reassoc`, refused in
/// `strict`. hom(softmax) (C-HOM): in `reassoc`, where the kernel's folds are
/// that form by Check's own derivation (lib/Check/Softmax.h); C-FINITE is kept
/// by whoever uses it, with a branch for rows without a score above -inf.
/// round(softmax) (C-ROUND): in `reassoc`, where hom(softmax) would be but for
/// roundings to the 16-bit type T of the values; without them, where all
/// results are of T. A weight is then rounded once, relative to its row's
/// maximum, and differs by half a unit of T, as it does where the kernel rounds
/// it. hom(welford) (C-HOM): in `reassoc`, where every fold that reads another
/// is the sum of squares about its mean (lib/Check/Moments.h).
///
/// flush (C-FLUSH) is about sums of products of bf16 numbers only, and refused
/// in `strict`. A product of two bf16 numbers is exact in f32, so the rounding
/// is that of the sum; what is lost is below 2^-126 (|x| + |y| + 2) a term x y,
/// which shows only beside sums that are as small, or where one factor is
/// subnormal and the other one huge.
///
/// excess(sums), excess(all) (C-ROUND), distribute(scale) (C-DISTRIBUTE): in
/// certificates, under `reassoc`; excess(..) where every result is of a 16-bit
/// float type itself. What they license is compared there
/// (lib/Check/Precision.h). In a schedule they license nothing.
///
/// distribute(winograd) (C-DISTRIBUTE): in `fast-conv` alone, where the
/// kernel's sum is a convolution and its claim's matrices satisfy the identity,
/// both by Check's own derivation (lib/Check/Winograd.h).
///
/// distribute(add) (C-DISTRIBUTE): not in `strict`, where a factor of a sum's
/// terms is the same for runs of its last axis (lib/Check/Distribute.h).
Admission admitLaws(graph::KernelOp kernel, llvm::ArrayRef<graph::Law> laws,
                    graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_CHECK_LAWS_H
