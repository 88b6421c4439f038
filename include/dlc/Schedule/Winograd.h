// Winograd's minimal filtering (Lavin and Gray 2016, arXiv:1509.09308) of
// convolutions with 3 x 3 taps and stride 1, as data:
//
//   y = A^T [(G g G^T) * (B^T d B)] A
//
// of a square of m + 2 pixels d gives m x m sums y with (m + 2)^2 products a
// channel instead of 9 m^2. It is an identity over the reals (the law
// distribute(winograd)); the order and size of what is rounded differ, so it is
// for -fp=fast-conv only. The matrices stand in a claim on the kernel, Check
// proves the identity from them, and code generation reads them there.
#ifndef DLC_SCHEDULE_WINOGRAD_H
#define DLC_SCHEDULE_WINOGRAD_H

#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Target/Common/TargetDesc.h"

#include <vector>

namespace dlc {

struct WinogradClaim {
  /// The kernel's attribute.
  static constexpr llvm::StringLiteral kAttr = "graph.winograd";

  int64_t tile = 0; ///< m
  /// Domain coordinates of the sum that are the pixel's row and column, and its
  /// reduce coordinates that are the tap's.
  int64_t pixels[2] = {0, 0}, taps[2] = {0, 0};
  /// What is added to pixel + tap to give the place in the image.
  int64_t offset[2] = {0, 0};
  std::vector<int64_t> input;  ///< B^T, (m + 2) x (m + 2)
  std::vector<int64_t> filter; ///< G, (m + 2) x 3, times `denominator`
  int64_t denominator = 1;
  std::vector<int64_t> output; ///< A^T, m x (m + 2)

  int64_t size() const { return tile + 2; }
  /// The matrices for m = 2 or 4.
  static WinogradClaim get(int64_t tile);

  mlir::DictionaryAttr toAttr(mlir::MLIRContext *context) const;
  /// Fails on an attribute of another form, or matrices of other sizes.
  static mlir::FailureOr<WinogradClaim> fromAttr(mlir::DictionaryAttr attr);

  /// What rounding may add to an output in units of u C max|w| max|x|, C the
  /// channels and u = 2^-24 (to first order): the sum over xi of
  /// |A_xi| |G_xi| |B_xi| of one axis, squared, times the roundings that a term
  /// goes through.
  double errorFactor(int64_t channels) const;
};

/// A convolution that the nest takes: channels last, f32, static sizes.
struct WinogradForm {
  ContractionSpec spec;
  unsigned height = 0, width = 0; ///< axes of the pixel
  int64_t images = 1, rows = 0, columns = 0, channels = 0, filters = 0;
  int64_t imageRows = 0, imageColumns = 0;
  int64_t imageStride = 0, rowStride = 0, columnStride = 0; ///< elements
  int64_t pixels[2] = {0, 0}, taps[2] = {0, 0}, offset[2] = {0, 0}; ///< claim's
};

mlir::FailureOr<WinogradForm> classifyWinograd(graph::KernelOp kernel,
                                               std::string &reason);

/// The tile that should pay, and its claim; nothing when the sums are computed
/// faster as they stand. `isConstant` says which operands are model constants.
std::optional<WinogradClaim>
chooseWinograd(graph::KernelOp kernel, const TargetDesc &target,
               llvm::function_ref<bool(unsigned)> isConstant);

} // namespace dlc

#endif // DLC_SCHEDULE_WINOGRAD_H
