// The forms of sums that the device's libraries have.
#ifndef DLC_CODEGEN_CUDA_LIBRARYFORMS_H
#define DLC_CODEGEN_CUDA_LIBRARYFORMS_H

#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/runtime.h"

namespace dlc {

/// The type's number where a library may have it.
std::optional<dlc_device_type> libraryType(mlir::Type type);

/// The product that a kernel sums up, of operands by their numbers. Fails, with
/// `reason`, where the library has none.
mlir::FailureOr<dlc_device_product>
describeProduct(const ContractionSpec &spec, bool tf32, std::string &reason);

/// The same of a convolution of [batch, channels, rows, columns].
mlir::FailureOr<dlc_device_convolution>
describeConvolution(const ContractionSpec &spec, bool tf32,
                    std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_LIBRARYFORMS_H
