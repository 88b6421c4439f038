//===- ConvertContraction.cpp - matrix products and einsum ----------------===//
//
// Everything becomes graph.contract over named axes, which is what lets one
// code generator serve MatMul, Gemm and Einsum alike.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include <set>

using namespace dlc;
using namespace mlir;

Value dlc::makeMatMul(GraphBuilder &b, Value x, Value y, Type element) {
  bool vectorLeft = b.rank(x) == 1, vectorRight = b.rank(y) == 1;
  if (b.rank(x) == 0 || b.rank(y) == 0)
    refuseMalformed("a matrix product of a scalar");
  int64_t batch = std::max<int64_t>({b.rank(x) - 2, b.rank(y) - 2, 0});
  if (batch > 20)
    refuse("a matrix product of rank " + std::to_string(batch + 2));
  // Batch axes a, b, c, ...; rows m, columns n, summed k.
  std::string letters;
  for (int64_t i = 0; i < batch; ++i)
    letters += static_cast<char>('A' + i);
  auto own = [&](Value value) {
    int64_t count = std::max<int64_t>(b.rank(value) - 2, 0);
    return letters.substr(letters.size() - count);
  };
  std::string left = own(x) + (vectorLeft ? "k" : "mk"),
              right = own(y) + (vectorRight ? "k" : "kn");
  std::string result =
      letters + (vectorLeft ? "" : "m") + (vectorRight ? "" : "n");
  int64_t kLeft = b.rank(x) - 1, kRight = vectorRight ? 0 : b.rank(y) - 2;
  AffineExpr k = b.unify(b.dim(x, kLeft), b.dim(y, kRight));
  if (!k)
    refuseMalformed("operands " + describeType(x.getType()) + " and " +
                    describeType(y.getType()) + " do not multiply");
  x = b.ensureDim(x, kLeft, k);
  y = b.ensureDim(y, kRight, k);
  return b.einsum(left, right, result, x, y, element);
}

static void convertMatMul(NodeContext &node) {
  node.result(makeMatMul(node.b, node.in(0), node.in(1)));
}

/// alpha * A' * B' + beta * C
static void convertGemm(NodeContext &node) {
  Value x = node.in(0), y = node.in(1), bias = node.maybe(2);
  GraphBuilder &b = node.b;
  if (b.rank(x) != 2 || b.rank(y) != 2)
    refuseMalformed("operands must be matrices");
  bool transA = node.i("transA", 0), transB = node.i("transB", 0);
  AffineExpr k = b.unify(b.dim(x, transA ? 0 : 1), b.dim(y, transB ? 1 : 0));
  if (!k)
    refuseMalformed("operands " + describeType(x.getType()) + " and " +
                    describeType(y.getType()) + " do not multiply");
  x = b.ensureDim(x, transA ? 0 : 1, k);
  y = b.ensureDim(y, transB ? 1 : 0, k);
  Value product =
      b.einsum(transA ? "km" : "mk", transB ? "nk" : "kn", "mn", x, y);
  double alpha = node.f("alpha", 1), beta = node.f("beta", 1);
  if (alpha != 1)
    product = b.mulScalar(product, alpha);
  if (bias && beta != 0)
    product = b.add(product, beta == 1 ? bias : b.mulScalar(bias, beta));
  node.result(product);
}

/// Integer operand minus its zero point, in i32. A vector belongs to `axis`.
static Value subtractZeroPoint(GraphBuilder &b, Value x, Value zeroPoint,
                               int64_t axis) {
  Value wide = b.convert(x, b.builder.getI32Type());
  if (!zeroPoint)
    return wide;
  Value zero = b.convert(zeroPoint, b.builder.getI32Type());
  if (b.rank(zero) == 1 && graph::constantValue(b.dim(zero, 0)) == 1)
    zero = b.reshape(zero, ArrayRef<int64_t>{});
  else if (b.rank(zero) == 1 && axis != b.rank(x) - 1)
    zero = b.unsqueeze(zero, {1});
  return b.sub(wide, zero);
}

static void convertMatMulInteger(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x =
      subtractZeroPoint(b, node.in(0), node.maybe(2), b.rank(node.in(0)) - 2);
  Value y =
      subtractZeroPoint(b, node.in(1), node.maybe(3), b.rank(node.in(1)) - 1);
  node.result(makeMatMul(b, x, y));
}

//===----------------------------------------------------------------------===//
// Einsum
//===----------------------------------------------------------------------===//

namespace {
/// An operand under way: one letter an axis. Ellipsis axes are digits counted
/// from the last one, so that they align from the right as broadcasting does.
struct Term {
  std::string letters;
  Value value;
};
} // namespace

/// Expands "..." to the digits of the axes it stands for.
static std::string expandEllipsis(StringRef text, int64_t rank) {
  size_t at = text.find("...");
  if (at == StringRef::npos)
    return text.str();
  int64_t covered = rank - (static_cast<int64_t>(text.size()) - 3);
  if (covered < 0 || covered > 9)
    refuseMalformed("the equation does not fit the operands' ranks");
  std::string digits;
  for (int64_t i = covered; i-- > 0;)
    digits += static_cast<char>('0' + i);
  return text.take_front(at).str() + digits + text.drop_front(at + 3).str();
}

/// Takes diagonals until no letter is repeated: x[i,i] is a masked sum over one
/// of the two axes.
static void removeRepeats(GraphBuilder &b, Term &term) {
  for (size_t i = 0; i < term.letters.size(); ++i) {
    size_t j = term.letters.find(term.letters[i], i + 1);
    if (j == std::string::npos)
      continue;
    Type i64 = b.builder.getI64Type();
    AffineExpr size = b.dim(term.value, i);
    if (graph::simplify(size - b.dim(term.value, j)) != 0)
      refuseMalformed("a repeated letter stands for different sizes");
    // Row and column numbers, shaped to broadcast against the operand.
    Dims rowDims(b.rank(term.value), b.c(1)),
        columnDims(b.rank(term.value), b.c(1));
    rowDims[i] = size;
    columnDims[j] = size;
    Value rows = b.reshape(b.iota(size, i64), rowDims),
          columns = b.reshape(b.iota(size, i64), columnDims);
    Value zero = b.splat(0, b.element(term.value));
    Value masked =
        b.select(b.emit("graph.eq", {rows, columns}), term.value, zero);
    term.value = b.squeeze(
        b.reduce(masked, graph::FoldKind::add, {static_cast<int64_t>(j)}),
        {static_cast<int64_t>(j)});
    term.letters.erase(j, 1);
    --i;
  }
}

static void convertEinsum(NodeContext &node) {
  GraphBuilder &b = node.b;
  std::string equation;
  for (char c : node.s("equation", ""))
    if (c != ' ')
      equation += c;
  auto [left, right] = StringRef(equation).split("->");
  bool explicitResult = StringRef(equation).contains("->");
  SmallVector<StringRef> parts;
  left.split(parts, ',');
  if (parts.size() != node.numInputs())
    refuseMalformed("the equation has " + std::to_string(parts.size()) +
                    " operands");
  std::vector<Term> terms;
  std::map<char, int> uses;
  std::string widest;
  for (auto [i, part] : llvm::enumerate(parts)) {
    Value value = node.in(i);
    Term term{expandEllipsis(part, b.rank(value)), value};
    if (static_cast<int64_t>(term.letters.size()) != b.rank(value) ||
        !llvm::all_of(term.letters, [](char c) { return llvm::isAlnum(c); }))
      refuseMalformed("the equation does not fit the operands' ranks");
    for (char letter : term.letters)
      ++uses[letter];
    std::string digits;
    llvm::copy_if(term.letters, std::back_inserter(digits), llvm::isDigit);
    widest = digits.size() > widest.size() ? digits : widest;
    removeRepeats(b, term);
    terms.push_back(term);
  }
  std::string result;
  if (explicitResult) {
    size_t at = right.find("...");
    result =
        at == StringRef::npos
            ? right.str()
            : (right.take_front(at) + widest + right.drop_front(at + 3)).str();
  } else {
    result = widest;
    for (auto [letter, count] : uses)
      if (count == 1 && !llvm::isDigit(letter))
        result += letter;
  }
  for (char letter : result)
    if (!uses.count(letter))
      refuseMalformed("the equation's result has a letter that no operand has");

  // Left to right, keeping what the result or a later operand still needs.
  Term total = terms[0];
  auto neededLater = [&](char letter, size_t next) {
    if (result.find(letter) != std::string::npos)
      return true;
    return llvm::any_of(
        ArrayRef(terms).drop_front(std::min(next, terms.size())),
        [&](const Term &term) {
          return term.letters.find(letter) != std::string::npos;
        });
  };
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string letters;
    for (char letter : total.letters + terms[i].letters)
      if (letters.find(letter) == std::string::npos &&
          neededLater(letter, i + 1))
        letters += letter;
    total = {letters, b.einsum(total.letters, terms[i].letters, letters,
                               total.value, terms[i].value)};
  }
  SmallVector<int64_t> folded;
  std::string rest;
  for (auto [i, letter] : llvm::enumerate(total.letters))
    if (result.find(letter) == std::string::npos)
      folded.push_back(i);
    else
      rest += letter;
  if (!folded.empty())
    total.value =
        b.squeeze(b.reduce(total.value, graph::FoldKind::add, folded), folded);
  SmallVector<int64_t> perm;
  for (char letter : result)
    perm.push_back(rest.find(letter));
  node.result(perm.empty() ? total.value : b.transpose(total.value, perm));
}

void dlc::addContractions(ConverterTable &table) {
  table["MatMul"] = convertMatMul;
  table["Gemm"] = convertGemm;
  table["MatMulInteger"] = convertMatMulInteger;
  table["Einsum"] = convertEinsum;
}
