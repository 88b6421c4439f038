// Packing of constants: tables of source offsets, then one pass in the order of
// the destination.
#include "dlc/Codegen/CPU/ContractionPacking.h"

#include "ContractionPairs.h"

#include "llvm/Support/xxhash.h"

#include <cstring>

using namespace mlir;
using namespace dlc;

template <typename Element>
static void packElements(const PackedLayout &layout, const char *source,
                         char *destination) {
  const Element *from = reinterpret_cast<const Element *>(source);
  Element *to = reinterpret_cast<Element *>(destination);
  int64_t majors = layout.major.size(), depth = layout.inner.size();
  for (int64_t base : layout.batch)
    for (int64_t p = 0; p < layout.panels(); ++p)
      for (int64_t q = 0; q < layout.depth(); q += layout.block)
        for (int64_t i = 0; i < layout.panel; ++i)
          for (int64_t k = q; k < q + layout.block; ++k, ++to) {
            int64_t major = p * layout.panel + i;
            *to = major < majors && k < depth
                      ? from[base + layout.major[major] + layout.inner[k]]
                      : Element(0);
          }
}

/// Two numbers of four bits in a byte.
static void packHalves(const PackedLayout &layout, const char *source,
                       char *destination) {
  std::vector<char> bytes(layout.batchElements() * layout.batch.size());
  packElements<uint8_t>(layout, source, bytes.data());
  for (size_t i = 0; i < bytes.size(); i += 2)
    *destination++ =
        static_cast<char>((bytes[i] & 15) | (bytes[i + 1] & 15) << 4);
}

/// Turns signs over and adds the sums to packed bytes.
static void finishBytes(const PackedLayout &layout, char *packed) {
  int64_t majors = layout.major.size(), depth = layout.inner.size();
  for (int64_t b = 0; b < int64_t(layout.batch.size()); ++b)
    for (int64_t i = 0; i < layout.panels() * layout.panel; ++i) {
      int64_t sum = 0;
      for (int64_t k = 0; i < majors && k < depth; ++k) {
        char &byte = packed[layout.offsetOf(b, i, k)];
        if (layout.flips)
          byte = static_cast<char>(byte ^ 0x80);
        sum += layout.isUnsigned ? int64_t(static_cast<uint8_t>(byte))
                                 : int64_t(static_cast<int8_t>(byte));
      }
      if (!layout.hasSums)
        continue;
      auto wrapped = static_cast<uint32_t>(sum);
      std::memcpy(packed + layout.sumsOffset() +
                      4 * (b * layout.panels() * layout.panel + i),
                  &wrapped, 4);
    }
}

void PackedLayout::pack(llvm::ArrayRef<char> constant,
                        llvm::MutableArrayRef<char> packed) const {
  assert(int64_t(packed.size()) == bytes() && "packed buffer of another size");
  switch (elementBytes) {
  case 1:
    if (isHalved)
      return packHalves(*this, constant.data(), packed.data());
    packElements<uint8_t>(*this, constant.data(), packed.data());
    if (flips || hasSums)
      finishBytes(*this, packed.data());
    return;
  case 2:
    return packElements<uint16_t>(*this, constant.data(), packed.data());
  case 4:
    packElements<uint32_t>(*this, constant.data(), packed.data());
    if (pairedLanes)
      pairTail(*this, {reinterpret_cast<float *>(packed.data()),
                       packed.size() / sizeof(float)});
    return;
  default:
    return packElements<uint64_t>(*this, constant.data(), packed.data());
  }
}

/// The distance of equidistant offsets; none if they are not.
static std::optional<int64_t> stepOf(llvm::ArrayRef<int64_t> offsets) {
  int64_t step = offsets.size() > 1 ? offsets[1] - offsets[0] : 0;
  for (size_t i = 1; i < offsets.size(); ++i)
    if (offsets[i] - offsets[i - 1] != step)
      return std::nullopt;
  return step;
}

std::string PackedLayout::str() const {
  // Every offset belongs to the name: a transposed constant, or another slice
  // of it, packs differently. Other than regular ones are told by their hash.
  std::optional<int64_t> majorStep = stepOf(major), innerStep = stepOf(inner);
  std::string extras = !hasSums ? "" : flips ? " flipped, sums" : " sums";
  if (hasSums && isUnsigned)
    extras += " unsigned";
  if (depthStep > block)
    extras += " depth" + std::to_string(depth());
  if (isHalved)
    extras += " halved";
  if (pairedLanes)
    extras += " paired" + std::to_string(pairedLanes);
  int64_t matrix = int64_t(major.size() * inner.size());
  bool isRegular = majorStep && innerStep && batch[0] == 0 &&
                   (batch.size() == 1 || stepOf(batch) == matrix);
  if (!isRegular) {
    std::string offsets;
    for (llvm::ArrayRef<int64_t> part :
         {llvm::ArrayRef<int64_t>(batch), llvm::ArrayRef<int64_t>(major),
          llvm::ArrayRef<int64_t>(inner)})
      offsets.append(reinterpret_cast<const char *>(part.data()),
                     part.size() * sizeof(int64_t));
    extras += " offsets" + llvm::utohexstr(llvm::xxh3_64bits(offsets));
  }
  return llvm::formatv(
             "panel{0} block{1} bytes{2} [{3}x{4}x{5}] step {6},{7}{8}", panel,
             block, elementBytes, batch.size(), major.size(), inner.size(),
             majorStep.value_or(0), innerStep.value_or(0), extras)
      .str();
}

SmallVector<unsigned> dlc::packedBatchAxes(const ContractionSpec &spec,
                                           const ContractionOperand &operand) {
  SmallVector<unsigned> axes;
  for (unsigned axis : spec.outer)
    if (operand.strides[axis] != 0)
      axes.push_back(axis);
  return axes;
}

/// The source offsets of all points of a group of axes, row-major.
static FailureOr<std::vector<int64_t>>
offsetsOf(const ContractionSpec &spec, const ContractionOperand &operand,
          ArrayRef<unsigned> group, int64_t base) {
  std::vector<int64_t> offsets{base};
  for (unsigned axis : group) {
    auto extent = graph::constantValue(spec.space.extents[axis]);
    auto stride = graph::constantValue(operand.strides[axis]);
    if (!extent || !stride)
      return failure();
    std::vector<int64_t> longer;
    longer.reserve(offsets.size() * *extent);
    for (int64_t offset : offsets)
      for (int64_t i = 0; i < *extent; ++i)
        longer.push_back(offset + i * *stride);
    offsets = std::move(longer);
  }
  return offsets;
}

FailureOr<PackedLayout> dlc::makePackedLayout(const ContractionSpec &spec,
                                              const ContractionOperand &operand,
                                              ArrayRef<unsigned> major,
                                              int64_t panel, int64_t block) {
  return makePackedLayout(spec, operand, major, panel, block, spec.inner);
}

FailureOr<PackedLayout> dlc::makePackedLayout(const ContractionSpec &spec,
                                              const ContractionOperand &operand,
                                              ArrayRef<unsigned> major,
                                              int64_t panel, int64_t block,
                                              ArrayRef<unsigned> innerAxes) {
  auto base = graph::constantValue(operand.base);
  if (!operand.plain || !base)
    return failure();
  auto batch = offsetsOf(spec, operand, packedBatchAxes(spec, operand), *base);
  auto majors = offsetsOf(spec, operand, major, 0);
  auto inner = offsetsOf(spec, operand, innerAxes, 0);
  if (failed(batch) || failed(majors) || failed(inner))
    return failure();
  PackedLayout layout;
  layout.panel = panel;
  layout.block = block;
  layout.elementBytes = graph::elementBytes(operand.element);
  layout.batch.assign(batch->begin(), batch->end());
  layout.major = std::move(*majors);
  layout.inner = std::move(*inner);
  return layout;
}
