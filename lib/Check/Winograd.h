// The identity that the law distribute(winograd) speaks of.
#ifndef DLC_LIB_CHECK_WINOGRAD_H
#define DLC_LIB_CHECK_WINOGRAD_H

#include "dlc/Check/Laws.h"

namespace dlc::check {

/// Whether the kernel's sum may be computed by the transforms that its claim
/// (the attribute `graph.winograd`) holds: the sum is a convolution, that is,
/// of products of an image at pixel + tap + offset and of weights that do not
/// depend on the pixel; the claim names these coordinates and this offset; and
/// its matrices satisfy, in exact arithmetic,
///
///   sum over xi of A[i, xi] G[xi, k] B[xi, j] = 1 if j = i + k, else 0.
///
/// For tiles that begin at multiples of m the outputs then are equal over the
/// reals (distributivity, twice), whatever the image is outside of its edges.
/// Floats round otherwise: admitted in `fast-conv` alone.
Admission admitWinograd(graph::KernelOp kernel, graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_WINOGRAD_H
