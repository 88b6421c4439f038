// Products of matrices.
#include "LibraryForms.h"

#include <array>
#include <climits>

using namespace mlir;
using namespace dlc;

std::optional<dlc_device_type> dlc::libraryType(Type type) {
  if (type.isF32())
    return DLC_DEVICE_F32;
  if (type.isF16())
    return DLC_DEVICE_F16;
  if (type.isBF16())
    return DLC_DEVICE_BF16;
  if (type.isSignlessInteger(8))
    return DLC_DEVICE_I8;
  if (type.isSignlessInteger(32))
    return DLC_DEVICE_I32;
  return std::nullopt;
}

/// Whether the library has products of such factors with such a result.
static bool hasTypes(dlc_device_type factor, dlc_device_type result) {
  switch (factor) {
  case DLC_DEVICE_F32:
    return result == DLC_DEVICE_F32;
  case DLC_DEVICE_F16:
  case DLC_DEVICE_BF16:
    return result == factor || result == DLC_DEVICE_F32;
  case DLC_DEVICE_I8:
    return result == DLC_DEVICE_I32;
  default:
    return false;
  }
}

FailureOr<dlc_device_product> dlc::describeProduct(const ContractionSpec &spec,
                                                   bool tf32,
                                                   std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return failure();
  };
  const ContractionOperand &left = spec.lhs, &right = spec.rhs;
  if (!left.plain || !right.plain)
    return refuse("a factor is computed");
  auto leftType = libraryType(left.element),
       rightType = libraryType(right.element),
       resultType = libraryType(spec.resultElement(0));
  if (!leftType || leftType != rightType || !resultType ||
      !hasTypes(*leftType, *resultType))
    return refuse("it has no products of these types");
  if (graph::constantValue(left.base) != 0 ||
      graph::constantValue(right.base) != 0)
    return refuse("a factor begins inside a tensor");
  auto extent = [&](ArrayRef<unsigned> axes) {
    return graph::constantValue(spec.extentOf(axes));
  };
  auto stride = [&](const ContractionOperand &factor,
                    ArrayRef<unsigned> axes) -> std::optional<int64_t> {
    if (axes.empty())
      return 0;
    auto found = spec.strideOf(factor, axes);
    return found ? graph::constantValue(*found) : std::nullopt;
  };
  std::array<std::optional<int64_t>, 10> n{
      extent(spec.outer),        extent(spec.rows),
      extent(spec.columns),      extent(spec.inner),
      stride(left, spec.rows),   stride(left, spec.inner),
      stride(left, spec.outer),  stride(right, spec.columns),
      stride(right, spec.inner), stride(right, spec.outer)};
  if (!llvm::all_of(n, [](auto &number) { return number.has_value(); }))
    return refuse("sizes or strides are symbolic, or a factor has no one "
                  "stride");
  // One of each factor's axes is contiguous.
  if ((n[4] != 1 && n[5] != 1) || (n[7] != 1 && n[8] != 1))
    return refuse("a factor is contiguous along neither axis");
  if (llvm::any_of(ArrayRef(n).take_front(4),
                   [](auto &size) { return *size < 1 || *size > INT_MAX; }))
    return refuse("a size is no int");
  // Where there is one row, or column, any stride will do: that of a matrix.
  for (auto [own, other, size] : {std::tuple(4, 5, 1), std::tuple(7, 8, 2)})
    if (*n[size] == 1 && !*n[own])
      n[own] = *n[3] * *n[other];
  dlc_device_product p = {};
  p.left = left.operand;
  p.right = right.operand;
  p.batch = *n[0];
  p.rows = *n[1];
  p.columns = *n[2];
  p.depth = *n[3];
  for (int i = 0; i < 3; ++i) {
    p.left_strides[i] = *n[4 + i];
    p.right_strides[i] = *n[7 + i];
  }
  p.factor_type = *leftType;
  p.result_type = *resultType;
  p.tf32 = tf32;
  return p;
}
