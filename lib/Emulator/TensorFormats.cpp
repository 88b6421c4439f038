// See the header.
#include "TensorFormats.h"

#include "llvm/ADT/bit.h"

#include <cmath>
#include <vector>

using namespace dlc;
using namespace dlc::emu;

static float fromHalf(uint16_t bits) {
  unsigned exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  float value = exponent == 31 ? (fraction ? NAN : INFINITY)
                : exponent     ? std::ldexp(float(fraction | 0x400),
                                            static_cast<int>(exponent) - 25)
                               : std::ldexp(float(fraction), -24);
  return bits & 0x8000 ? -value : value;
}

namespace {
// All values of a 16-bit float, so that a product costs look-ups.
struct HalfTable {
  std::vector<float> values = std::vector<float>(1 << 16);
  HalfTable() {
    for (unsigned i = 0; i < values.size(); ++i)
      values[i] = fromHalf(static_cast<uint16_t>(i));
  }
};

} // namespace

ElementFormat dlc::emu::formatOf(MmaType type) {
  switch (type) {
  case MmaType::F16:
  case MmaType::Bf16:
    return {2, 16};
  case MmaType::Tf32:
    return {1, 8};
  default:
    return {4, 32, true};
  }
}

float dlc::emu::floatElement(uint32_t bits, unsigned i, MmaType type) {
  static const HalfTable halves;
  if (type == MmaType::Tf32)
    return llvm::bit_cast<float>(bits & 0xffffe000u);
  auto half = static_cast<uint16_t>(bits >> (16 * i));
  return type == MmaType::F16
             ? halves.values[half]
             : llvm::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

float dlc::emu::integerElement(uint32_t bits, unsigned i, bool isSigned) {
  auto byte = static_cast<uint8_t>(bits >> (8 * i));
  return isSigned ? static_cast<float>(static_cast<int8_t>(byte))
                  : static_cast<float>(byte);
}
