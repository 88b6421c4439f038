// The requirements of cuTensorMapEncodeTiled and the emulator's encoding.
#include "dlc/Emulator/TensorMap.h"

#include "llvm/Support/FormatVariadic.h"

#include <cstring>

namespace dlc {

namespace {
struct Encoded {
  uint64_t magic;
  void *data;
  uint64_t strides[TensorMap::kMaxRank - 1];
  uint32_t lastIndex[TensorMap::kMaxRank]; ///< a dim may be 2^32
  uint16_t box[TensorMap::kMaxRank];
  TensorMapType type;
  TensorMapSwizzle swizzle;
  uint8_t rank;
};
static_assert(sizeof(Encoded) <= TensorMap::kBytes);
constexpr uint64_t kMagic = 0x646c635f746d6170; // "dlc_tmap"
} // namespace

size_t TensorMap::elementBytes() const {
  switch (type) {
  case TensorMapType::U8:
    return 1;
  case TensorMapType::U16:
  case TensorMapType::F16:
  case TensorMapType::BF16:
    return 2;
  case TensorMapType::U64:
  case TensorMapType::S64:
  case TensorMapType::F64:
    return 8;
  default:
    return 4;
  }
}

size_t TensorMap::boxBytes() const {
  size_t bytes = elementBytes();
  for (unsigned i = 0; i < rank; ++i)
    bytes *= box[i];
  return bytes;
}

template <typename... Args>
static llvm::Error refuse(const char *format, Args &&...args) {
  std::string text = llvm::formatv(format, std::forward<Args>(args)...);
  return llvm::createStringError("tensor map: " + text);
}

llvm::Error encodeTensorMap(const TensorMap &map, void *to) {
  constexpr unsigned chunk = 16;
  constexpr uint64_t mostStride = uint64_t(1) << 40;
  constexpr uint32_t mostBox = 256;
  if (reinterpret_cast<uintptr_t>(to) % TensorMap::kAlign != 0)
    return refuse("tensorMap is not a multiple of {0}", TensorMap::kAlign);
  if (map.type > TensorMapType::TF32Flushed)
    return refuse("tensorDataType {0} does not exist",
                  static_cast<unsigned>(map.type));
  if (map.swizzle > TensorMapSwizzle::Bytes128)
    return refuse("swizzle {0} is not known",
                  static_cast<unsigned>(map.swizzle));
  if (map.rank == 0 || map.rank > TensorMap::kMaxRank)
    return refuse("tensorRank {0} is not 1 to {1}", map.rank,
                  TensorMap::kMaxRank);
  if (reinterpret_cast<uintptr_t>(map.data) % chunk != 0)
    return refuse("globalAddress is not a multiple of {0}", chunk);
  Encoded encoded = {};
  encoded.magic = kMagic;
  encoded.data = map.data;
  encoded.type = map.type;
  encoded.swizzle = map.swizzle;
  encoded.rank = static_cast<uint8_t>(map.rank);
  for (unsigned i = 0; i < map.rank; ++i) {
    if (map.dims[i] == 0 || map.dims[i] > uint64_t(1) << 32)
      return refuse("globalDim[{0}] is {1}", i, map.dims[i]);
    if (map.box[i] == 0 || map.box[i] > mostBox)
      return refuse("boxDim[{0}] is {1}: from 1 to {2} it may be", i,
                    map.box[i], mostBox);
    encoded.lastIndex[i] = static_cast<uint32_t>(map.dims[i] - 1);
    encoded.box[i] = static_cast<uint16_t>(map.box[i]);
    if (i == 0)
      continue;
    uint64_t stride = map.strides[i - 1];
    if (stride % chunk != 0 || stride >= mostStride)
      return refuse("globalStrides[{0}] of {1} bytes is not a multiple of {2} "
                    "below 2^40",
                    i - 1, stride, chunk);
    encoded.strides[i - 1] = stride;
  }
  size_t inner = map.box[0] * map.elementBytes();
  if (inner % chunk != 0)
    return refuse("boxDim[0] has {0} bytes, not a multiple of {1}", inner,
                  chunk);
  unsigned span = swizzleSpan(map.swizzle);
  if (span && inner > span)
    return refuse("boxDim[0] has {0} bytes, more than the swizzle's {1}", inner,
                  span);
  // What fewer bytes are laid out as is not said.
  if (span && inner != span)
    return refuse(
        "boxDim[0] has {0} bytes, not the swizzle's {1}: not emulated", inner,
        span);
  std::memset(to, 0, TensorMap::kBytes);
  std::memcpy(to, &encoded, sizeof(encoded));
  return llvm::Error::success();
}

std::optional<TensorMap> decodeTensorMap(const void *from) {
  Encoded encoded;
  std::memcpy(&encoded, from, sizeof(encoded));
  if (encoded.magic != kMagic)
    return std::nullopt;
  TensorMap map;
  map.type = encoded.type;
  map.swizzle = encoded.swizzle;
  map.rank = encoded.rank;
  map.data = encoded.data;
  for (unsigned i = 0; i < map.rank; ++i) {
    map.dims[i] = uint64_t(encoded.lastIndex[i]) + 1;
    map.box[i] = encoded.box[i];
    if (i)
      map.strides[i - 1] = encoded.strides[i - 1];
  }
  return map;
}

} // namespace dlc
