// How much of a convolution is products with padding, and which of them a tile
// of pixels leaves out.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONPADDING_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONPADDING_H

#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// Of a left factor that is an image, channels last, read by addresses.
class ImagePadding {
public:
  explicit ImagePadding(const ContractionSpec &spec);

  /// The part of all products that tiles of `rows` pixels leave out (the
  /// micro-kernel does, TileBody::indirectSteps): taps above and below the
  /// image where a tile lies within one of its rows, taps beside it where a
  /// tile begins with one. Padding that is no zero is left out nowhere.
  double skippedBy(unsigned rows) const;

private:
  int64_t width = 0; ///< pixels of an image's row; 0: not known
  double beside = 0, above = 0;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONPADDING_H
