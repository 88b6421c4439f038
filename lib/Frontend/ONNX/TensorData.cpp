//===- TensorData.cpp - the values of a TensorProto -----------------------===//
//
// See TensorData.h. onnx's own checker accepts raw_data that is too long and
// external entries that make no sense, so the sizes are compared here.
//
//===----------------------------------------------------------------------===//

#include "TensorData.h"

#include "llvm/ADT/StringExtras.h"

#include <cstring>

using namespace dlc;
using onnx::TensorProto;

unsigned dlc::getElementBits(int dataType) {
  switch (dataType) {
  case TensorProto::UINT2:
  case TensorProto::INT2:
    return 2;
  case TensorProto::UINT4:
  case TensorProto::INT4:
  case TensorProto::FLOAT4E2M1:
    return 4;
  case TensorProto::FLOAT6E2M3:
  case TensorProto::FLOAT6E3M2:
    return 6;
  case TensorProto::UINT8:
  case TensorProto::INT8:
  case TensorProto::BOOL:
  case TensorProto::FLOAT8E4M3FN:
  case TensorProto::FLOAT8E4M3FNUZ:
  case TensorProto::FLOAT8E5M2:
  case TensorProto::FLOAT8E5M2FNUZ:
  case TensorProto::FLOAT8E8M0:
    return 8;
  case TensorProto::UINT16:
  case TensorProto::INT16:
  case TensorProto::FLOAT16:
  case TensorProto::BFLOAT16:
    return 16;
  case TensorProto::FLOAT:
  case TensorProto::INT32:
  case TensorProto::UINT32:
    return 32;
  case TensorProto::DOUBLE:
  case TensorProto::INT64:
  case TensorProto::UINT64:
  case TensorProto::COMPLEX64:
    return 64;
  case TensorProto::COMPLEX128:
    return 128;
  default:
    return 0;
  }
}

std::optional<uint64_t> dlc::countElements(llvm::ArrayRef<int64_t> dims) {
  constexpr uint64_t limit = uint64_t(1) << 46;
  bool zero = false;
  uint64_t product = 1;
  for (int64_t dim : dims) {
    if (dim < 0 || static_cast<uint64_t>(dim) > limit)
      return std::nullopt;
    zero |= dim == 0;
    // A zero elsewhere does not excuse an absurd product: no allocation of the
    // remaining dims may wrap.
    uint64_t factor = dim == 0 ? 1 : static_cast<uint64_t>(dim);
    if (product > limit / factor)
      return std::nullopt;
    product *= factor;
  }
  return zero ? 0 : product;
}

static llvm::ArrayRef<int64_t> getDims(const TensorProto &tensor) {
  return {tensor.dims().data(), static_cast<size_t>(tensor.dims_size())};
}

std::optional<uint64_t> dlc::getPackedBytes(const TensorProto &tensor) {
  std::optional<uint64_t> elements = countElements(getDims(tensor));
  if (!elements)
    return std::nullopt;
  return (*elements * getElementBits(tensor.data_type()) + 7) / 8;
}

/// Number of entries that the typed field for this data type must hold.
static uint64_t getFieldCount(const TensorProto &tensor, uint64_t elements) {
  switch (tensor.data_type()) {
  case TensorProto::COMPLEX64:
  case TensorProto::COMPLEX128:
    return elements * 2;
  default: {
    unsigned bits = getElementBits(tensor.data_type());
    // Two and four bit types keep their packed bytes, one an entry.
    return bits == 2 || bits == 4 ? (elements * bits + 7) / 8 : elements;
  }
  }
}

static int64_t getTypedCount(const TensorProto &tensor) {
  switch (tensor.data_type()) {
  case TensorProto::FLOAT:
  case TensorProto::COMPLEX64:
    return tensor.float_data_size();
  case TensorProto::DOUBLE:
  case TensorProto::COMPLEX128:
    return tensor.double_data_size();
  case TensorProto::INT64:
    return tensor.int64_data_size();
  case TensorProto::UINT32:
  case TensorProto::UINT64:
    return tensor.uint64_data_size();
  case TensorProto::STRING:
    return tensor.string_data_size();
  default:
    return tensor.int32_data_size();
  }
}

static std::string checkExternalEntries(const TensorProto &tensor,
                                        uint64_t bytes) {
  bool hasLocation = false;
  for (const auto &entry : tensor.external_data()) {
    if (entry.key() == "location") {
      hasLocation = !entry.value().empty();
    } else if (entry.key() == "offset" || entry.key() == "length") {
      uint64_t value;
      if (llvm::StringRef(entry.value()).getAsInteger(10, value) ||
          value > uint64_t(1) << 62)
        return "external data has the bad " + entry.key() + " '" +
               entry.value() + "'";
      if (entry.key() == "length" && value != bytes)
        return "external data is " + entry.value() +
               " bytes long, its shape and type need " + std::to_string(bytes);
    }
  }
  return hasLocation ? "" : "external data has no location";
}

std::string dlc::checkTensor(const TensorProto &tensor) {
  int type = tensor.data_type();
  bool isString = type == TensorProto::STRING;
  if (!isString && !getElementBits(type))
    return "unknown data type " + std::to_string(type);
  if (tensor.has_segment())
    return "segmented tensors are not supported";
  std::optional<uint64_t> elements = countElements(getDims(tensor));
  if (!elements)
    return "dims [" +
           llvm::join(
               llvm::map_range(getDims(tensor),
                               [](int64_t d) { return std::to_string(d); }),
               ",") +
           "] are negative or too large";
  uint64_t bytes = *getPackedBytes(tensor);
  if (tensor.data_location() == TensorProto::EXTERNAL)
    return isString ? "strings cannot be external data"
                    : checkExternalEntries(tensor, bytes);
  if (tensor.has_raw_data() && !isString) {
    if (tensor.raw_data().size() != bytes)
      return "raw_data is " + std::to_string(tensor.raw_data().size()) +
             " bytes long, its shape and type need " + std::to_string(bytes);
    return "";
  }
  uint64_t wanted = getFieldCount(tensor, *elements);
  if (static_cast<uint64_t>(getTypedCount(tensor)) != wanted)
    return "holds " + std::to_string(getTypedCount(tensor)) +
           " values, its shape needs " + std::to_string(wanted);
  return "";
}

template <typename Field>
static llvm::ArrayRef<char> asBytes(const Field &field) {
  return {reinterpret_cast<const char *>(field.data()),
          field.size() * sizeof(*field.data())};
}

std::optional<llvm::ArrayRef<char>>
dlc::getPlainBytes(const TensorProto &tensor) {
  if (getElementBits(tensor.data_type()) < 8)
    return std::nullopt;
  if (tensor.has_raw_data())
    return llvm::ArrayRef<char>(tensor.raw_data().data(),
                                tensor.raw_data().size());
  switch (tensor.data_type()) {
  case TensorProto::FLOAT:
  case TensorProto::COMPLEX64:
    return asBytes(tensor.float_data());
  case TensorProto::DOUBLE:
  case TensorProto::COMPLEX128:
    return asBytes(tensor.double_data());
  case TensorProto::INT64:
    return asBytes(tensor.int64_data());
  case TensorProto::UINT64:
    return asBytes(tensor.uint64_data());
  case TensorProto::INT32:
    return asBytes(tensor.int32_data());
  default:
    return std::nullopt;
  }
}

/// Spreads packed elements of `bits` (2, 4 or 6), low bits first, to bytes
/// whose high bits are zero.
static std::vector<char> unpack(llvm::ArrayRef<char> packed, unsigned bits,
                                uint64_t elements) {
  std::vector<char> out(elements);
  for (uint64_t i = 0; i < elements; ++i) {
    uint64_t bit = i * bits;
    unsigned window = static_cast<unsigned char>(packed[bit / 8]);
    if (bit / 8 + 1 < packed.size())
      window |=
          static_cast<unsigned>(static_cast<unsigned char>(packed[bit / 8 + 1]))
          << 8;
    out[i] = static_cast<char>((window >> (bit % 8)) & ((1u << bits) - 1));
  }
  return out;
}

std::vector<char> dlc::copyPlainBytes(const TensorProto &tensor,
                                      llvm::ArrayRef<char> packed) {
  unsigned bits = getElementBits(tensor.data_type());
  uint64_t elements = *countElements(getDims(tensor));
  if (!packed.empty() || tensor.has_raw_data())
    return bits < 8 ? unpack(packed, bits, elements)
                    : std::vector<char>(packed.begin(), packed.end());
  if (std::optional<llvm::ArrayRef<char>> plain = getPlainBytes(tensor))
    return {plain->begin(), plain->end()};

  std::vector<char> out;
  auto append = [&](auto value, unsigned bytes) {
    char raw[sizeof(value)];
    std::memcpy(raw, &value, sizeof(value));
    out.insert(out.end(), raw, raw + bytes);
  };
  if (tensor.data_type() == TensorProto::UINT32) {
    for (uint64_t value : tensor.uint64_data())
      append(value, 4);
    return out;
  }
  for (int32_t value : tensor.int32_data())
    append(value, bits == 16 ? 2 : 1);
  // Six bit floats have an entry each; two and four bit ones are packed.
  return bits == 2 || bits == 4 ? unpack(out, bits, elements) : out;
}
