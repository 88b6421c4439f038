// What a CUtensorMap says, and the emulator's own encoding of it.
//
// The driver's encoding is opaque and filled in by cuTensorMapEncodeTiled
// alone. Here the same parameters, under the same requirements (CUDA driver
// API, "Tensor Map Object Management"), become 128 bytes that only emulated
// kernels read.
#ifndef DLC_EMULATOR_TENSORMAP_H
#define DLC_EMULATOR_TENSORMAP_H

#include "llvm/Support/Error.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace dlc {

/// Numbered as CUtensorMapDataType.
enum class TensorMapType : uint8_t {
  U8,
  U16,
  U32,
  S32,
  U64,
  S64,
  F16,
  F32,
  F64,
  BF16,
  F32Flushed,
  TF32,
  TF32Flushed,
};

/// Numbered as CUtensorMapSwizzle.
enum class TensorMapSwizzle : uint8_t { None, Bytes32, Bytes64, Bytes128 };

/// A tensor in global memory, innermost dim first, and the box of it that one
/// bulk copy moves. Elements of the box that lie outside are zeros.
struct TensorMap {
  static constexpr unsigned kMaxRank = 5;
  static constexpr size_t kBytes = 128, kAlign = 64;

  TensorMapType type = TensorMapType::U8;
  unsigned rank = 1;
  void *data = nullptr;
  std::array<uint64_t, kMaxRank> dims = {};        ///< in elements
  std::array<uint64_t, kMaxRank - 1> strides = {}; ///< in bytes, of dims 1, ...
  std::array<uint32_t, kMaxRank> box = {};         ///< in elements
  TensorMapSwizzle swizzle = TensorMapSwizzle::None;

  size_t elementBytes() const;
  size_t boxBytes() const;
};

/// The bytes that a swizzle mode permutes 16-byte chunks within; 0: it does
/// not.
inline unsigned swizzleSpan(TensorMapSwizzle swizzle) {
  return swizzle == TensorMapSwizzle::None
             ? 0
             : 16u << static_cast<unsigned>(swizzle);
}

/// Where a swizzle of `span` bytes puts the byte meant for `address`: bits 4..6
/// are changed by bits 7..9, as many of them as chunks of 16 bytes span.
inline uint64_t swizzled(uint64_t address, unsigned span) {
  uint64_t chunks = span ? span / 16 - 1 : 0;
  return address ^ ((address >> 7 & chunks) << 4);
}

/// Writes kBytes bytes to `to`; fails where the driver would, by the name of
/// the parameter.
llvm::Error encodeTensorMap(const TensorMap &map, void *to);

/// Nothing when `from` holds no map that encodeTensorMap wrote.
std::optional<TensorMap> decodeTensorMap(const void *from);

} // namespace dlc

#endif // DLC_EMULATOR_TENSORMAP_H
