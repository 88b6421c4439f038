#include "RandomProgram.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/raw_ostream.h"

#include <vector>

using namespace dlc::test;

namespace {
using Shape = std::vector<int64_t>;

struct Tensor {
  std::string name;
  Shape shape;
  std::string element;

  std::string type() const {
    std::string text = "tensor<";
    for (int64_t d : shape)
      text += std::to_string(d) + "x";
    return text + element + ">";
  }
  int64_t count() const {
    int64_t n = 1;
    for (int64_t d : shape)
      n *= d;
    return n;
  }
};

class Program {
public:
  explicit Program(Random &random) : random(random) {}
  std::string make(unsigned size);

private:
  static std::string list(const Shape &values) {
    std::string text;
    for (int64_t v : values)
      text += (text.empty() ? "" : ", ") + std::to_string(v);
    return text;
  }
  Tensor add(const std::string &op, const std::vector<Tensor> &operands,
             const std::string &attributes, Shape shape, std::string element) {
    Tensor result{"%v" + std::to_string(next++), std::move(shape),
                  std::move(element)};
    std::string names, types;
    for (const Tensor &t : operands) {
      names += (names.empty() ? "" : ", ") + t.name;
      types += (types.empty() ? "" : ", ") + t.type();
    }
    body += "  " + result.name + " = graph." + op + " " + names +
            (attributes.empty() ? "" : " {" + attributes + "}") + " : (" +
            types + ") -> " + result.type() + "\n";
    values.push_back(result);
    return result;
  }
  Tensor value() {
    // The newest ones more often: chains are what fusion is about.
    size_t from =
        random.chance(3) ? 0 : values.size() - (values.size() + 3) / 4;
    return values[from + random.below(values.size() - from)];
  }
  Tensor constant(const std::string &element) {
    Tensor c{"%c" + std::to_string(next++), {}, element};
    bool isFloat = element != "i32";
    constants += "  " + c.name + " = graph.constant dense<" +
                 std::to_string(random.below(5)) + (isFloat ? ".5" : "") +
                 "> : " + c.type() + "\n";
    return c;
  }
  bool step();
  void elementwise(Tensor x);
  void view(Tensor x);

  Random &random;
  std::vector<Tensor> values;
  std::string body, constants;
  unsigned next = 0;
};
} // namespace

void Program::elementwise(Tensor x) {
  bool isFloat = x.element != "i32";
  switch (random.below(5)) {
  case 0: {
    const char *unary[] = {"neg", "abs", isFloat ? "exp" : "neg"};
    add(unary[random.below(3)], {x}, "", x.shape, x.element);
    return;
  }
  case 1: {
    const char *binary[] = {"add", "sub", "mul", "max", "min"};
    const char *op = binary[random.below(5)];
    Tensor c = constant(x.element);
    if (random.chance(2))
      add(op, {x, c}, "", x.shape, x.element);
    else
      add(op, {c, x}, "", x.shape, x.element);
    return;
  }
  case 2: { // to a narrower type and back
    if (x.element != "f32")
      return;
    std::string narrow = random.chance(2) ? "bf16" : "f16";
    Tensor y = add("convert", {x}, "to = " + narrow, x.shape, narrow);
    add("convert", {y}, "to = f32", x.shape, "f32");
    return;
  }
  default: { // another value that broadcasts with it
    for (int attempt = 0; attempt < 8; ++attempt) {
      Tensor y = value();
      if (y.element != x.element)
        continue;
      Shape a = x.shape, b = y.shape;
      if (a.size() < b.size())
        std::swap(a, b);
      bool fits = true;
      for (size_t i = 0; i < b.size(); ++i) {
        int64_t &d = a[a.size() - b.size() + i];
        fits &= d == b[i] || d == 1 || b[i] == 1;
        d = std::max(d, b[i]);
      }
      if (!fits)
        continue;
      const char *binary[] = {"add", "sub", "mul", "max"};
      add(binary[random.below(4)], {x, y}, "", a, x.element);
      return;
    }
  }
  }
}

void Program::view(Tensor x) {
  int64_t rank = x.shape.size();
  if (rank == 0)
    return;
  int64_t axis = random.below(rank);
  switch (random.below(6)) {
  case 0: {
    Shape perm(rank), shape(rank);
    for (int64_t i = 0; i < rank; ++i)
      perm[i] = i;
    for (int64_t i = rank; i-- > 1;)
      std::swap(perm[i], perm[random.below(i + 1)]);
    for (int64_t i = 0; i < rank; ++i)
      shape[i] = x.shape[perm[i]];
    add("transpose", {x}, "perm = array<i64: " + list(perm) + ">", shape,
        x.element);
    return;
  }
  case 1: {
    Shape shape;
    int64_t rest = x.count();
    while (rest > 1 && shape.size() < 3) {
      llvm::SmallVector<int64_t> divisors;
      for (int64_t d = 2; d <= rest; ++d)
        if (rest % d == 0)
          divisors.push_back(d);
      int64_t d = shape.size() == 2 ? rest : random.pick(divisors);
      shape.push_back(d);
      rest /= d;
    }
    if (shape.empty())
      shape.push_back(1);
    add("reshape", {x}, "", shape, x.element);
    return;
  }
  case 2: {
    Shape shape = x.shape, starts(rank, 0), steps(rank, 1);
    int64_t n = x.shape[axis], step = 1 + random.below(2);
    shape[axis] = (n + step - 1) / step;
    steps[axis] = step;
    if (random.chance(3)) {
      steps[axis] = -1;
      starts[axis] = n - 1;
      shape[axis] = n;
    } else if (n > 1 && random.chance(2)) {
      starts[axis] = 1;
      steps[axis] = 1;
      shape[axis] = n - 1;
    }
    add("slice", {x},
        "starts = #graph.dims<" + list(starts) +
            ">, steps = array<i64: " + list(steps) + ">",
        shape, x.element);
    return;
  }
  case 3: {
    Shape shape = x.shape, low(rank, 0), high(rank, 0);
    low[axis] = random.below(2);
    high[axis] = 1;
    shape[axis] += low[axis] + high[axis];
    add("pad", {x, constant(x.element)},
        "high = array<i64: " + list(high) + ">, low = array<i64: " + list(low) +
            ">, mode = #graph<pad constant>",
        shape, x.element);
    return;
  }
  case 4:
    for (int attempt = 0; attempt < 8; ++attempt) {
      Tensor y = value();
      Shape a = x.shape, b = y.shape;
      if (y.element != x.element || a.size() != b.size())
        continue;
      a[axis] = b[axis] = 0;
      if (a != b)
        continue;
      a[axis] = x.shape[axis] + y.shape[axis];
      add("concat", {x, y}, "axis = " + std::to_string(axis) + " : i64", a,
          x.element);
      return;
    }
    return;
  default: {
    Shape shape = x.shape;
    shape.insert(shape.begin() + random.below(rank + 1), 1);
    Tensor y = add("reshape", {x}, "", shape, x.element);
    for (int64_t &d : shape)
      if (d == 1)
        d = 2;
    add("broadcast", {y}, "", shape, x.element);
    return;
  }
  }
}

bool Program::step() {
  Tensor x = value();
  if (x.count() > 400)
    x = values.front();
  int64_t rank = x.shape.size();
  switch (random.below(8)) {
  case 0:
  case 1:
  case 2:
    elementwise(x);
    return true;
  case 3:
  case 4:
    view(x);
    return true;
  case 5: {
    if (rank == 0)
      return false;
    Shape shape = x.shape, axes;
    for (int64_t i = 0; i < rank; ++i)
      if (random.chance(2)) {
        axes.push_back(i);
        shape[i] = 1;
      }
    if (axes.empty())
      return false;
    const char *kinds[] = {"add", "max", "min"};
    add("reduce", {x},
        "axes = array<i64: " + list(axes) + ">, kind = #graph<fold " +
            kinds[random.below(3)] + ">",
        shape, x.element);
    return true;
  }
  case 6:
    if (rank == 0)
      return false;
    add("cumsum", {x},
        "axis = " + std::to_string(random.below(rank)) + " : i64", x.shape,
        x.element);
    return true;
  default:
    for (int attempt = 0; attempt < 8; ++attempt) {
      Tensor y = value();
      if (rank != 2 || y.shape.size() != 2 || y.element != x.element ||
          y.shape[0] != x.shape[1] || x.shape[0] * y.shape[1] > 100)
        continue;
      add("contract", {x, y},
          "lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = "
          "affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, "
          "d2) -> (d2, d1)>",
          {x.shape[0], y.shape[1]}, x.element);
      return true;
    }
    return false;
  }
}

std::string Program::make(unsigned size) {
  std::string arguments;
  Shape shapes[] = {{4, 6}, {6, 4}, {2, 3, 4}, {1, 6}};
  for (unsigned i = 0; i < 4; ++i) {
    values.push_back({"%a" + std::to_string(i), shapes[i],
                      i == 3 || random.chance(4) ? "i32" : "f32"});
    if (i == 3)
      values.back().element = values.front().element;
    arguments +=
        (i ? ", " : "") + values.back().name + ": " + values.back().type();
  }
  for (unsigned tries = 0; next < size && tries < 10 * size; ++tries)
    step();
  // The newest values, which nothing reads yet, are the outputs.
  std::string results, types;
  for (size_t i = values.size(); i-- > 4;) {
    const Tensor &t = values[i];
    // Read means: its name stands somewhere behind its definition.
    size_t at = body.find(t.name + " ="), end = at + t.name.size();
    bool isRead = body.find(t.name + " ", end) != std::string::npos ||
                  body.find(t.name + ",", end) != std::string::npos;
    if (isRead && !random.chance(8))
      continue;
    results += (results.empty() ? "" : ", ") + t.name;
    types += (types.empty() ? "" : ", ") + t.type();
  }
  return "func.func @main(" + arguments + ") -> (" + types + ") {\n" +
         constants + body + "  return " + results + " : " + types + "\n}\n";
}

std::string dlc::test::makeProgram(Random &random, unsigned size) {
  return Program(random).make(size);
}
