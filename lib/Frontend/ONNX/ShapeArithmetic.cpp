//===- ShapeArithmetic.cpp - integers that are known, even symbolically ---===//
//
// Exporters compute shapes in the graph: Shape, Gather, Mul, Concat, Reshape.
// Here such integers are followed as expressions of dim symbols, so that a
// Reshape of a tensor with symbolic dims still has a known result.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

using namespace dlc;
using namespace mlir;

static constexpr int64_t kMaxElements = 4096;

static int64_t countOf(ArrayRef<int64_t> dims) {
  int64_t count = 1;
  for (int64_t dim : dims)
    count *= dim;
  return count;
}

/// Exact result of an integer operation, or nothing when it overflows i64.
static std::optional<int64_t> evaluateConstants(StringRef op, int64_t x,
                                                int64_t y) {
  int64_t out;
  if (op == "Add")
    return __builtin_add_overflow(x, y, &out) ? std::nullopt
                                              : std::optional(out);
  if (op == "Sub")
    return __builtin_sub_overflow(x, y, &out) ? std::nullopt
                                              : std::optional(out);
  if (op == "Mul")
    return __builtin_mul_overflow(x, y, &out) ? std::nullopt
                                              : std::optional(out);
  if (op == "Div")
    return y == 0 || (x == INT64_MIN && y == -1) ? std::nullopt
                                                 : std::optional(x / y);
  if (op == "Min")
    return std::min(x, y);
  if (op == "Max")
    return std::max(x, y);
  if (op == "Mod") {
    if (y == 0 || (x == INT64_MIN && y == -1))
      return std::nullopt;
    int64_t r = x % y;
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
  }
  if (op == "Equal")
    return x == y;
  if (op == "Less")
    return x < y;
  if (op == "LessOrEqual")
    return x <= y;
  if (op == "Greater")
    return x > y;
  if (op == "GreaterOrEqual")
    return x >= y;
  if (op == "And")
    return x & y;
  if (op == "Or")
    return x | y;
  return std::nullopt;
}

static AffineExpr evaluateBinary(NodeContext &node, StringRef op, AffineExpr x,
                                 AffineExpr y) {
  auto a = graph::constantValue(x), b = graph::constantValue(y);
  if (a && b) {
    std::optional<int64_t> value = evaluateConstants(op, *a, *b);
    return value ? getAffineConstantExpr(*value, x.getContext()) : AffineExpr();
  }
  if (op == "Add")
    return graph::simplify(x + y);
  if (op == "Sub")
    return graph::simplify(x - y);
  if (op == "Mul")
    return graph::simplify(x * y);
  // A shift of rows that are more than it moves, as exporters write a roll.
  if (op == "Mod" && a && isAtLeastInUse(node, y, *a >= 0 ? *a + 1 : -*a)) {
    requireAtMost(node, node.b.c(*a >= 0 ? *a + 1 : -*a), y,
                  "a dim is shorter than it is shifted");
    return *a >= 0 ? x : graph::simplify(y + *a);
  }
  // Sizes are not negative, so division rounds down as it rounds to zero.
  if ((op == "Div" || op == "Mod") && isNonNegative(y) && b != 0 &&
      requireNonNegative(node, x))
    return graph::simplify(op == "Div" ? x.floorDiv(y) : x % y);
  if (op == "Max" || op == "Min") { // max(size, 0) and the like
    std::optional<bool> first = compareSizes(node, "GreaterOrEqual", x, y);
    if (!first)
      first = compareSizes(node, "Greater", x, y);
    return !first ? AffineExpr() : *first == (op == "Max") ? x : y;
  }
  if (op == "Equal" || op.starts_with("Less") || op.starts_with("Greater"))
    if (std::optional<bool> holds = compareSizes(node, op, x, y))
      return getAffineConstantExpr(*holds, x.getContext());
  return {};
}

/// Elementwise over numpy broadcasting of at most rank 1 (or equal shapes).
template <typename Fn>
static std::optional<ShapeValue> zip(const ShapeValue &x, const ShapeValue &y,
                                     Type element, Fn fn) {
  const ShapeValue &wide =
      x.values.size() >= y.values.size() && x.dims.size() >= y.dims.size() ? x
                                                                           : y;
  bool sameOrScalar =
      (x.values.size() == wide.values.size() || x.values.size() == 1) &&
      (y.values.size() == wide.values.size() || y.values.size() == 1);
  bool simple = x.dims == y.dims ||
                (x.values.size() == 1 && x.dims.size() <= wide.dims.size()) ||
                (y.values.size() == 1 && y.dims.size() <= wide.dims.size());
  if (!sameOrScalar || !simple)
    return std::nullopt;
  ShapeValue out{wide.dims, element, {}};
  for (size_t i = 0; i < wide.values.size(); ++i) {
    AffineExpr e = fn(x.values[x.values.size() == 1 ? 0 : i],
                      y.values[y.values.size() == 1 ? 0 : i]);
    if (!e)
      return std::nullopt;
    out.values.push_back(e);
  }
  return out;
}

/// Values that do not fit the element type would have wrapped at run time.
static bool fits(const ShapeValue &shape) {
  unsigned width = shape.element.getIntOrFloatBitWidth();
  bool isUnsigned = shape.element.isUnsignedInteger() || width == 1;
  return llvm::all_of(shape.values, [&](AffineExpr e) {
    std::optional<int64_t> value = graph::constantValue(e);
    if (!value || (width == 64 && !isUnsigned))
      return true;
    if (isUnsigned)
      return *value >= 0 && (width == 64 || *value < int64_t(1) << width);
    return *value >= -(int64_t(1) << (width - 1)) &&
           *value < int64_t(1) << (width - 1);
  });
}

static std::optional<ShapeValue> evaluateShapeOf(NodeContext &node) {
  Entry &entry = node.entry(0);
  if (entry.kind != Entry::Tensor)
    return std::nullopt;
  Dims dims = entry.value
                  ? node.b.dims(entry.value)
                  : graph::constantDims(node.b.context(), entry.shape->dims);
  Type i64 = node.b.builder.getI64Type();
  if (node.op->getName().getStringRef() == "onnx.Size")
    return ShapeValue{{}, i64, {graph::product(node.b.context(), dims)}};
  int64_t rank = dims.size();
  auto clamp = [&](int64_t at) {
    return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  int64_t start = clamp(node.i("start", 0)), end = clamp(node.i("end", rank));
  ShapeValue out{{std::max<int64_t>(0, end - start)}, i64, {}};
  for (int64_t i = start; i < end; ++i)
    out.values.push_back(dims[i]);
  return out;
}

static std::optional<ShapeValue> evaluateGather(NodeContext &node,
                                                const ShapeValue &data) {
  std::optional<ShapeValue> indices = node.shapeValue(1);
  if (!indices || !indices->isConstant() || data.dims.size() != 1 ||
      node.i("axis", 0) > 0)
    return std::nullopt;
  ShapeValue out{indices->dims, data.element, {}};
  for (AffineExpr e : indices->values) {
    int64_t at = *graph::constantValue(e);
    at += at < 0 ? data.dims[0] : 0;
    if (at < 0 || at >= data.dims[0])
      refuseMalformed("index " + std::to_string(at) + " is outside a dim of " +
                      std::to_string(data.dims[0]));
    out.values.push_back(data.values[at]);
  }
  return out;
}

/// Rows of a vector or a matrix.
static std::optional<ShapeValue> evaluateSlice(NodeContext &node,
                                               const ShapeValue &data) {
  if (data.dims.empty() || data.dims.size() > 2)
    return std::nullopt;
  auto one = [&](unsigned i, int64_t otherwise) -> std::optional<int64_t> {
    if (!node.has(i))
      return otherwise;
    std::optional<ShapeValue> value = node.shapeValue(i);
    if (!value || value->values.size() != 1)
      return std::nullopt;
    return graph::constantValue(value->values[0]);
  };
  auto start = one(1, 0), end = one(2, 0), axis = one(3, 0), step = one(4, 1);
  int64_t rank = data.dims.size();
  if (!start || !end || !axis || !step || *step == 0 ||
      (*axis != 0 && *axis != -rank))
    return std::nullopt;
  int64_t n = data.dims[0];
  auto clamp = [&](int64_t at, int64_t low, int64_t high) {
    return std::clamp(at < 0 ? at + n : at, low, high);
  };
  int64_t from = *step > 0 ? clamp(*start, 0, n) : clamp(*start, 0, n - 1);
  int64_t to = *step > 0 ? clamp(*end, 0, n) : clamp(*end, -1, n - 1);
  // INT64_MIN as an end means "through the first element".
  if (*step < 0 && *end < -n)
    to = -1;
  ShapeValue out{data.dims, data.element, {}};
  out.dims[0] = 0;
  int64_t width = rank == 2 ? data.dims[1] : 1;
  for (int64_t i = from; *step > 0 ? i < to : i > to; i += *step) {
    out.values.append(ArrayRef(data.values).slice(i * width, width).begin(),
                      ArrayRef(data.values).slice(i * width, width).end());
    ++out.dims[0];
  }
  return out;
}

/// Of a matrix; exporters turn pads by pairs into pads by ends with it.
static std::optional<ShapeValue> evaluateTranspose(NodeContext &node,
                                                   const ShapeValue &data) {
  if (data.dims.size() != 2 ||
      (node.hasAttr("perm") && node.is("perm") != SmallVector<int64_t>{1, 0}))
    return std::nullopt;
  ShapeValue out{{data.dims[1], data.dims[0]}, data.element, {}};
  for (int64_t i = 0; i < data.dims[1]; ++i)
    for (int64_t j = 0; j < data.dims[0]; ++j)
      out.values.push_back(data.values[j * data.dims[1] + i]);
  return out;
}

static std::optional<ShapeValue> evaluateConcat(NodeContext &node) {
  ShapeValue out{{0}, {}, {}};
  for (unsigned i = 0; i < node.numInputs(); ++i) {
    std::optional<ShapeValue> part = node.shapeValue(i);
    if (!part || part->dims.size() != 1)
      return std::nullopt;
    out.element = part->element;
    out.values.append(part->values);
  }
  out.dims[0] = out.values.size();
  return out;
}

/// Squeeze, Unsqueeze, Reshape, Flatten of known integers: same elements.
static std::optional<ShapeValue>
evaluateReshape(NodeContext &node, StringRef op, const ShapeValue &data) {
  ShapeValue out = data;
  int64_t rank = data.dims.size();
  if (op == "Flatten")
    return std::nullopt;
  if (op == "Squeeze" && !node.has(1)) {
    llvm::erase(out.dims, 1);
    return out;
  }
  std::optional<ShapeValue> operand = node.shapeValue(1);
  if (!operand || !operand->isConstant())
    return std::nullopt;
  SmallVector<int64_t> numbers;
  for (AffineExpr e : operand->values)
    numbers.push_back(*graph::constantValue(e));
  if (op == "Reshape") {
    if (llvm::any_of(numbers, [](int64_t n) { return n == 0; }))
      return std::nullopt;
    int64_t rest = 1;
    for (int64_t n : numbers)
      rest *= n < 0 ? 1 : n;
    for (int64_t &n : numbers)
      n = n < 0 && rest > 0 ? static_cast<int64_t>(data.values.size()) / rest
                            : n;
    out.dims = numbers;
    return countOf(out.dims) == static_cast<int64_t>(out.values.size())
               ? std::optional(out)
               : std::nullopt;
  }
  if (op == "Squeeze") {
    SmallVector<int64_t> axes = normalizeAxes(numbers, rank);
    out.dims.clear();
    for (int64_t i = 0; i < rank; ++i)
      if (!llvm::is_contained(axes, i))
        out.dims.push_back(data.dims[i]);
    return countOf(out.dims) == static_cast<int64_t>(out.values.size())
               ? std::optional(out)
               : std::nullopt;
  }
  SmallVector<int64_t> axes = normalizeAxes(numbers, rank + numbers.size());
  out.dims.clear();
  size_t next = 0;
  for (int64_t i = 0; i < rank + static_cast<int64_t>(axes.size()); ++i)
    out.dims.push_back(llvm::is_contained(axes, i) ? 1 : data.dims[next++]);
  return out;
}

static std::optional<ShapeValue> evaluateReduce(NodeContext &node, StringRef op,
                                                const ShapeValue &data) {
  if (data.dims.size() > 1 || data.values.empty())
    return std::nullopt;
  AffineExpr total = data.values[0];
  StringRef name = op == "ReduceProd"  ? "Mul"
                   : op == "ReduceSum" ? "Add"
                   : op == "ReduceMax" ? "Max"
                                       : "Min";
  for (AffineExpr e : ArrayRef(data.values).drop_front())
    if (total = evaluateBinary(node, name, total, e); !total)
      return std::nullopt;
  if (node.has(1)) {
    std::optional<ShapeValue> axes = node.shapeValue(1);
    if (!axes || axes->values.size() != 1)
      return std::nullopt;
  }
  ShapeValue out{{}, data.element, {total}};
  if (node.i("keepdims", 1) && data.dims.size() == 1)
    out.dims.push_back(1);
  return out;
}

/// Integers that need no operand: ConstantOfShape and Range.
static std::optional<ShapeValue> evaluateGenerator(NodeContext &node,
                                                   StringRef op) {
  if (op == "ConstantOfShape") {
    std::optional<ShapeValue> shape = node.shapeValue(0);
    auto value = node.op->getAttrOfType<DenseElementsAttr>("value");
    if (!shape || !shape->isConstant() || !value ||
        !isa<IntegerType>(value.getElementType()) ||
        graph::isNarrow(value.getElementType()))
      return std::nullopt;
    ShapeValue out{{}, value.getElementType(), {}};
    for (AffineExpr e : shape->values) {
      int64_t n = *graph::constantValue(e);
      if (n < 0 || n > kMaxElements)
        return std::nullopt;
      out.dims.push_back(n);
      if (countOf(out.dims) > kMaxElements)
        return std::nullopt;
    }
    bool isSigned =
        !out.element.isUnsignedInteger() && !out.element.isInteger(1);
    APInt bits = *value.getValues<APInt>().begin();
    int64_t number = isSigned ? bits.getSExtValue()
                              : static_cast<int64_t>(bits.getZExtValue());
    out.values.assign(countOf(out.dims), node.b.c(number));
    return out;
  }
  SmallVector<int64_t> numbers;
  Type element;
  for (unsigned i = 0; i < 3; ++i) {
    std::optional<ShapeValue> operand = node.shapeValue(i);
    if (!operand || operand->values.size() != 1 || !operand->isConstant())
      return std::nullopt;
    element = operand->element;
    numbers.push_back(*graph::constantValue(operand->values[0]));
  }
  if (numbers[2] == 0)
    refuseMalformed("'delta' is 0");
  ShapeValue out{{0}, element, {}};
  for (int64_t v = numbers[0]; numbers[2] > 0 ? v < numbers[1] : v > numbers[1];
       v += numbers[2]) {
    if (static_cast<int64_t>(out.values.size()) == kMaxElements)
      return std::nullopt;
    out.values.push_back(node.b.c(v));
  }
  out.dims[0] = out.values.size();
  return out;
}

/// The largest of several shapes, as exporters write what they broadcast to: a
/// symbolic dim beside 1 is the dim, which the run checks.
static std::optional<ShapeValue> evaluateBroadcast(NodeContext &node,
                                                   ShapeValue data) {
  for (unsigned i = 1; i < node.numInputs(); ++i) {
    std::optional<ShapeValue> other = node.shapeValue(i);
    if (!other || other->dims != data.dims)
      return std::nullopt;
    for (auto [x, y] : llvm::zip(data.values, other->values)) {
      if (x == y || graph::constantValue(y) == 1)
        continue;
      if (graph::constantValue(x) != 1)
        return std::nullopt;
      x = y;
    }
  }
  for (AffineExpr size : data.values)
    requireAtMost(node, node.b.c(1), size, "a dim that is broadcast is empty");
  return data;
}

std::optional<ShapeValue> dlc::evaluateMove(NodeContext &node, StringRef op,
                                            const ShapeValue &data) {
  if (op == "Identity")
    return data;
  if (op == "Gather")
    return evaluateGather(node, data);
  if (op == "Slice")
    return evaluateSlice(node, data);
  if (op == "Transpose")
    return evaluateTranspose(node, data);
  return evaluateReshape(node, op, data);
}

static std::optional<ShapeValue> evaluateNode(NodeContext &node) {
  StringRef op = node.op->getName().getStringRef();
  if (!op.consume_front("onnx.") || node.op->getNumResults() != 1 ||
      node.numInputs() == 0)
    return std::nullopt;
  if (op == "Shape" || op == "Size")
    return evaluateShapeOf(node);
  if (op == "ConstantOfShape" || op == "Range")
    return evaluateGenerator(node, op);
  static const llvm::StringSet<> binary{
      "Add", "Sub",   "Mul",  "Div",         "Mod",     "Min",
      "Max", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
      "And", "Or"};
  static const llvm::StringSet<> others{
      "Identity",  "Cast",      "Gather",    "Slice", "Concat",    "Reshape",
      "Squeeze",   "Unsqueeze", "Where",     "Not",   "Transpose", "ReduceProd",
      "ReduceSum", "ReduceMax", "ReduceMin", "Neg"};
  if (!binary.contains(op) && !others.contains(op))
    return std::nullopt;
  std::optional<ShapeValue> data = node.shapeValue(0);
  if (!data && op == "Cast") {
    Type to = getCastTarget(node);
    return isa_and_nonnull<IntegerType>(to) && to.getIntOrFloatBitWidth() >= 32
               ? truncateFractions(node, to)
               : std::nullopt;
  }
  if (!data)
    return std::nullopt;
  if (binary.contains(op)) {
    if (op == "Max" && node.numInputs() > 2)
      return evaluateBroadcast(node, *data);
    std::optional<ShapeValue> other =
        node.numInputs() == 2 ? node.shapeValue(1) : std::nullopt;
    if (!other)
      return std::nullopt;
    bool compares =
        op == "Equal" || op.starts_with("Less") || op.starts_with("Greater");
    return zip(*data, *other,
               compares ? node.b.builder.getI1Type() : data->element,
               [&](AffineExpr x, AffineExpr y) {
                 return evaluateBinary(node, op, x, y);
               });
  }
  if (op == "Neg" || op == "Not") {
    for (AffineExpr &e : data->values)
      e = graph::simplify(op == "Neg" ? -e : 1 - e);
    return data;
  }
  if (op == "Cast") {
    Type to = getCastTarget(node);
    if (!isa_and_nonnull<IntegerType>(to) || to.getIntOrFloatBitWidth() < 32)
      return std::nullopt;
    data->element = to;
    return data;
  }
  if (op == "Concat")
    return evaluateConcat(node);
  if (op == "Where") {
    std::optional<ShapeValue> x = node.shapeValue(1), y = node.shapeValue(2);
    if (!data->isConstant() || !x || !y)
      return std::nullopt;
    // Only the elementwise case: one shape for all three.
    if (data->dims != x->dims || x->dims != y->dims)
      return std::nullopt;
    for (size_t i = 0; i < x->values.size(); ++i)
      if (graph::constantValue(data->values[i]) == 0)
        x->values[i] = y->values[i];
    return x;
  }
  if (op.starts_with("Reduce"))
    return evaluateReduce(node, op, *data);
  return evaluateMove(node, op, *data);
}

std::optional<ShapeValue> dlc::evaluateShape(NodeContext &node) {
  std::optional<ShapeValue> out = evaluateNode(node);
  return out && fits(*out) ? out : std::nullopt;
}
