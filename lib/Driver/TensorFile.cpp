// Tensors in files, random tensors, and how far two tensors are apart.
#include "dlc/Driver/TensorFile.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/NarrowTypes.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "mlir/IR/Builders.h"
#include "onnx/onnx_pb.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

extern "C" {
#include "../../tools/dlc-exec/Npy.h"
}

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

static Error ioError(StringRef path, const Twine &text) {
  return makeError(ExitCode::Io, text, path);
}

//===----------------------------------------------------------------------===//
// .npy
//===----------------------------------------------------------------------===//

static Type toElementType(DLDataType type, MLIRContext *context) {
  Builder builder(context);
  switch (type.code) {
  case kDLBool:
    return builder.getI1Type();
  case kDLBfloat:
    return builder.getBF16Type();
  case kDLFloat:
    return type.bits == 16   ? builder.getF16Type()
           : type.bits == 32 ? Type(builder.getF32Type())
                             : builder.getF64Type();
  case kDLUInt:
    return IntegerType::get(context, type.bits, IntegerType::Unsigned);
  default:
    return builder.getIntegerType(type.bits);
  }
}

std::pair<int64_t, int64_t> dlc::getDLPackType(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
#define DLC_NARROW_TYPE(name, code, bits)                                      \
  if (text == name)                                                            \
    return {code, bits};
#include "dlc/NarrowTypes.def"
  int64_t bits = type.getIntOrFloatBitWidth();
  if (type.isInteger(1))
    return {kDLBool, 8};
  if (type.isBF16())
    return {kDLBfloat, 16};
  if (isa<FloatType>(type))
    return {kDLFloat, bits};
  return {graph::isUnsigned(type) ? kDLUInt : kDLInt, bits};
}

static DLDataType toDLPack(Type type) {
  auto [code, bits] = getDLPackType(type);
  return {static_cast<uint8_t>(code), static_cast<uint8_t>(bits), 1};
}

static Expected<Tensor> readNpy(StringRef path, MLIRContext *context) {
  npy_array array;
  char error[512];
  if (!npy_read(path.str().c_str(), &array, error, sizeof error))
    return ioError("", error);
  Tensor tensor = Tensor::copy(
      toElementType(array.tensor.dtype, context),
      ArrayRef<int64_t>(array.shape, array.tensor.ndim), array.memory);
  npy_free(&array);
  return tensor;
}

Error dlc::writeTensor(StringRef path, const Tensor &tensor) {
  npy_array array = {};
  if (tensor.getRank() > NPY_MAX_RANK)
    return ioError(path, "rank is above 32");
  llvm::copy(tensor.getShape(), array.shape);
  array.tensor.data = const_cast<char *>(tensor.getBytes());
  array.tensor.ndim = tensor.getRank();
  array.tensor.dtype = toDLPack(tensor.getElementType());
  array.tensor.shape = array.shape;
  char error[512];
  if (!npy_write(path.str().c_str(), &array, error, sizeof error))
    return ioError("", error);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// TensorProto
//===----------------------------------------------------------------------===//

// Stores the low bytes of each value: TensorProto keeps narrow types in wide
// fields.
template <typename Field>
static void storeNarrow(const Field &values, int64_t width,
                        std::vector<char> &bytes) {
  for (auto value : values) {
    const char *low = reinterpret_cast<const char *>(&value);
    bytes.insert(bytes.end(), low,
                 low + std::min<int64_t>(width, sizeof value));
  }
}

static Expected<Tensor> readProto(StringRef path, MLIRContext *context) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return ioError(path, buffer.getError().message());
  onnx::TensorProto proto;
  if (!proto.ParseFromArray((*buffer)->getBufferStart(),
                            (*buffer)->getBufferSize()))
    return ioError(path, "is not a TensorProto");
  Type type = onnxd::getElementType(context, proto.data_type());
  if (!type || !type.isIntOrFloat() || graph::isNarrow(type))
    return ioError(path, "element type is not supported");
  SmallVector<int64_t> shape(proto.dims().begin(), proto.dims().end());
  int64_t width = graph::elementBytes(type);
  std::vector<char> bytes;
  if (proto.has_raw_data())
    bytes.assign(proto.raw_data().begin(), proto.raw_data().end());
  storeNarrow(proto.float_data(), width, bytes);
  storeNarrow(proto.double_data(), width, bytes);
  storeNarrow(proto.int32_data(), width, bytes);
  storeNarrow(proto.int64_data(), width, bytes);
  storeNarrow(proto.uint64_data(), width, bytes);
  if (llvm::any_of(shape, [](int64_t n) { return n < 0; }) ||
      static_cast<int64_t>(bytes.size()) !=
          interp::countElements(shape) * width)
    return ioError(path, "holds " + Twine(bytes.size()) +
                             " bytes, which is not what its shape needs");
  return Tensor::copy(type, shape, bytes.data());
}

Expected<Tensor> dlc::readTensor(StringRef path, MLIRContext *context) {
  StringRef extension = llvm::sys::path::extension(path);
  if (extension == ".npy")
    return readNpy(path, context);
  if (extension == ".pb")
    return readProto(path, context);
  return ioError(path, "tensors are read from .npy and .pb files");
}

Tensor dlc::reinterpretBits(const Tensor &tensor, Type type) {
  auto bits = dyn_cast<IntegerType>(tensor.getElementType());
  bool holdsBits = bits && bits.isUnsigned() && isa<FloatType>(type) &&
                   bits.getWidth() == type.getIntOrFloatBitWidth();
  return holdsBits ? Tensor::copy(type, tensor.getShape(), tensor.getBytes())
                   : tensor;
}

//===----------------------------------------------------------------------===//
// Elements as numbers
//===----------------------------------------------------------------------===//

static float fromBf16(uint16_t bits) {
  uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

static double getElement(const Tensor &tensor, int64_t i) {
  Type type = tensor.getElementType();
  const char *p = tensor.getBytes() + i * graph::elementBytes(type);
  auto read = [p]<typename T>(T value) -> double {
    std::memcpy(&value, p, sizeof value);
    return static_cast<double>(value);
  };
  if (type.isF32())
    return read(float());
  if (type.isF64())
    return read(double());
  if (type.isBF16() || type.isF16()) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    if (type.isBF16())
      return fromBf16(bits);
    return llvm::APFloat(llvm::APFloat::IEEEhalf(), llvm::APInt(16, bits))
        .convertToDouble();
  }
  bool isUnsigned = graph::isUnsigned(type) || type.isInteger(1);
  switch (graph::elementBytes(type)) {
  case 1:
    return isUnsigned ? read(uint8_t()) : read(int8_t());
  case 2:
    return isUnsigned ? read(uint16_t()) : read(int16_t());
  case 4:
    return isUnsigned ? read(uint32_t()) : read(int32_t());
  default:
    return isUnsigned ? read(uint64_t()) : read(int64_t());
  }
}

static void setElement(Type type, char *p, double value) {
  auto write = [p](auto v) { std::memcpy(p, &v, sizeof v); };
  if (auto floatType = dyn_cast<FloatType>(type)) {
    llvm::APFloat number(value);
    bool losesInfo;
    number.convert(floatType.getFloatSemantics(),
                   llvm::APFloat::rmNearestTiesToEven, &losesInfo);
    uint64_t bits = number.bitcastToAPInt().getZExtValue();
    std::memcpy(p, &bits, graph::elementBytes(type));
    return;
  }
  switch (graph::elementBytes(type)) {
  case 1:
    return write(static_cast<int8_t>(value));
  case 2:
    return write(static_cast<int16_t>(value));
  case 4:
    return write(static_cast<int32_t>(value));
  default:
    return write(static_cast<int64_t>(value));
  }
}

Tensor dlc::makeRandomTensor(Type elementType, ArrayRef<int64_t> shape,
                             uint64_t seed) {
  Tensor tensor(elementType, shape);
  std::mt19937_64 generator(seed);
  int64_t width = graph::elementBytes(elementType);
  char *bytes = tensor.getMutableBytes();
  for (int64_t i = 0, n = tensor.getNumElements(); i < n; ++i) {
    // The generator's bits, not a std distribution: those differ between
    // libraries.
    uint64_t bits = generator();
    double value = isa<FloatType>(elementType)
                       ? static_cast<double>(bits >> 11) * 0x1p-52 - 1.0
                       : static_cast<double>(
                             elementType.isInteger(1) ? bits & 1 : bits & 7);
    setElement(elementType, bytes + i * width, value);
  }
  return tensor;
}

SmallVector<Tensor> dlc::makeRandomTensors(ArrayRef<TensorSpec> specs,
                                           uint64_t seed) {
  SmallVector<Tensor> tensors;
  for (const TensorSpec &spec : specs)
    tensors.push_back(
        makeRandomTensor(spec.elementType, spec.shape, seed + tensors.size()));
  return tensors;
}

double Difference::getRelative() const {
  if (maxAbsolute == 0)
    return 0;
  return maxExpected == 0 ? std::numeric_limits<double>::infinity()
                          : maxAbsolute / maxExpected;
}

Expected<Difference> dlc::compareTensors(const Tensor &actual,
                                         const Tensor &expected) {
  if (actual.getElementType() != expected.getElementType() ||
      actual.getShape() != expected.getShape())
    return makeError(ExitCode::Verify, "got " + interp::describe(actual) +
                                           ", expected " +
                                           interp::describe(expected));
  Difference difference;
  for (int64_t i = 0, n = actual.getNumElements(); i < n; ++i) {
    double a = getElement(actual, i), b = getElement(expected, i);
    if (std::isfinite(b))
      difference.maxExpected = std::max(difference.maxExpected, std::abs(b));
    if (a == b || (std::isnan(a) && std::isnan(b)))
      continue;
    double distance = std::abs(a - b);
    if (!std::isfinite(distance))
      distance = HUGE_VAL;
    if (distance > difference.maxAbsolute || difference.at < 0) {
      difference.at = i;
      difference.actual = a;
      difference.expected = b;
    }
    difference.maxAbsolute = std::max(difference.maxAbsolute, distance);
  }
  return difference;
}
