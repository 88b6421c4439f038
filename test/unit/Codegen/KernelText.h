// The text of one-operator functions, for tests and the bench.
#ifndef DLC_TEST_UNIT_CODEGEN_KERNELTEXT_H
#define DLC_TEST_UNIT_CODEGEN_KERNELTEXT_H

#include <map>
#include <string>
#include <vector>

namespace dlc::test {

/// A tensor type; a size such as "s0" is a dim symbol.
inline std::string tensorType(std::vector<std::string> sizes,
                              std::string element) {
  std::string text = "tensor<", dims;
  bool symbolic = false;
  for (const std::string &size : sizes) {
    bool symbol = size[0] == 's';
    symbolic |= symbol;
    text += (symbol ? "?" : size) + "x";
    dims += (dims.empty() ? "" : ", ") + size;
  }
  return text + element + (symbolic ? ", #graph.dims<" + dims + ">" : "") + ">";
}

/// A contraction by letters, as einsum writes it: "mk,kn->mn". The factors'
/// element types are equal unless `rhs` is given.
inline std::string einsum(std::string equation,
                          std::map<char, std::string> sizes,
                          std::string element = "f32", std::string result = "",
                          std::string rhs = "") {
  if (result.empty())
    result = element;
  if (rhs.empty())
    rhs = element;
  size_t comma = equation.find(','), arrow = equation.find("->");
  std::string letters[3] = {equation.substr(0, comma),
                            equation.substr(comma + 1, arrow - comma - 1),
                            equation.substr(arrow + 2)};
  std::string all;
  for (const std::string &word : letters)
    for (char letter : word)
      if (all.find(letter) == std::string::npos)
        all += letter;
  std::string maps[3], types[3], iteration;
  for (char letter : all)
    iteration += (iteration.empty() ? "" : ", ") + std::string(1, letter);
  for (int i = 0; i < 3; ++i) {
    std::vector<std::string> dims;
    std::string list;
    for (char letter : letters[i]) {
      dims.push_back(sizes[letter]);
      list += (list.empty() ? "" : ", ") + std::string(1, letter);
    }
    maps[i] = "affine_map<(" + iteration + ") -> (" + list + ")>";
    types[i] = tensorType(dims, i == 2 ? result : i == 1 ? rhs : element);
  }
  return "func.func @main(%a: " + types[0] + ", %b: " + types[1] + ") -> " +
         types[2] + " {\n%0 = graph.contract %a, %b {lhs_map = " + maps[0] +
         ", rhs_map = " + maps[1] + ", result_map = " + maps[2] + "} : (" +
         types[0] + ", " + types[1] + ") -> " + types[2] +
         "\nreturn %0 : " + types[2] + "\n}";
}

/// A convolution; x is n, c, spatial..., w is filters, c / group, kernel....
inline std::string conv(std::vector<int64_t> x, std::vector<int64_t> w,
                        std::vector<int64_t> strides,
                        std::vector<int64_t> dilations,
                        std::vector<int64_t> low, std::vector<int64_t> high,
                        int64_t group = 1) {
  auto list = [](const std::vector<int64_t> &values) {
    std::string text;
    for (int64_t value : values)
      text += (text.empty() ? "" : ", ") + std::to_string(value);
    return "array<i64: " + text + ">";
  };
  auto type = [](const std::vector<int64_t> &sizes) {
    std::vector<std::string> words;
    for (int64_t size : sizes)
      words.push_back(std::to_string(size));
    return tensorType(words, "f32");
  };
  std::vector<int64_t> y{x[0], w[0]};
  for (size_t i = 0; i < strides.size(); ++i)
    y.push_back(
        (x[i + 2] + low[i] + high[i] - dilations[i] * (w[i + 2] - 1) - 1) /
            strides[i] +
        1);
  return "func.func @main(%x: " + type(x) + ", %w: " + type(w) + ") -> " +
         type(y) +
         " {\n%0 = \"graph.conv\"(%x, %w) <{strides = " + list(strides) +
         ", dilations = " + list(dilations) + ", pads_low = " + list(low) +
         ", pads_high = " + list(high) + ", group = " + std::to_string(group) +
         " : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>}> : (" +
         type(x) + ", " + type(w) + ") -> " + type(y) +
         "\nreturn %0 : " + type(y) + "\n}";
}

/// A two-dimensional convolution whose result has its channels last, as a
/// kernel: x is n, h, w, c, or in memory n, c, h, w unless `imageToo`; w is
/// filters, c, kernel....
inline std::string convChannelsLast(std::vector<int64_t> x,
                                    std::vector<int64_t> w, int64_t stride,
                                    int64_t dilation, int64_t pad,
                                    bool imageToo = true,
                                    std::string imageType = "f32",
                                    std::string weightType = "f32") {
  auto type = [](std::vector<int64_t> sizes, std::string element = "f32") {
    std::vector<std::string> words;
    for (int64_t size : sizes)
      words.push_back(std::to_string(size));
    return tensorType(words, element);
  };
  auto widened = [](std::string name, std::string element) {
    return element == "f32" ? std::string()
                            : "%" + name + "f = graph.scalar_cast %" + name +
                                  " : " + element + " -> f32\n";
  };
  std::string a = imageType == "f32" ? "%a" : "%af",
              b = weightType == "f32" ? "%b" : "%bf";
  auto list = [](std::vector<int64_t> values) {
    std::string text;
    for (int64_t value : values)
      text += (text.empty() ? "" : ", ") + std::to_string(value);
    return "<" + text + ">";
  };
  auto extent = [&](int64_t size, int64_t taps) {
    return (size + 2 * pad - dilation * (taps - 1) - 1) / stride + 1;
  };
  std::vector<int64_t> y{x[0], extent(x[1], w[2]), extent(x[2], w[3]), w[0]};
  auto at = [&](const char *pixel, const char *tap) {
    return std::string(pixel) + " * " + std::to_string(stride) + " + " + tap +
           " * " + std::to_string(dilation) + " - " + std::to_string(pad);
  };
  std::string row = at("d1", "d4"), column = at("d2", "d5");
  std::string dims = "(d0, d1, d2, d3, d4, d5, d6)",
              coords = "(%n, %i, %j, %o, %p, %q, %c)", guard;
  // The innermost reduced axis is the one that lies contiguous.
  std::string reduce = list({w[2], w[3], w[1]}),
              taps = "%p: index, %q: index, %c: index";
  std::vector<int64_t> image = x;
  if (!imageToo) {
    reduce = list({w[1], w[2], w[3]});
    taps = "%c: index, %p: index, %q: index";
    image = {x[0], x[3], x[1], x[2]};
  }
  std::string at4 = "d0, " + row + ", " + column + ", d6";
  if (!imageToo)
    at4 = "d0, d6, " + row + ", " + column;
  if (pad)
    guard = "guard affine_set<" + dims + " : (" + row + " >= 0, " +
            std::to_string(x[1] - 1) + " - (" + row + ") >= 0, " + column +
            " >= 0, " + std::to_string(x[2] - 1) + " - (" + column +
            ") >= 0)> else %z : " + imageType + " ";
  return "graph.kernel @kernel(%x: " + type(image, imageType) +
         ", %w: " + type(w, weightType) + ") -> " + type(y) +
         " attributes {symbols = []} {\n%s = graph.stage domain" + list(y) +
         " reduce" + reduce + " fold add : " + type(y) +
         " {\n^bb0(%n: index, %i: index, %j: index, %o: index, " + taps +
         "):\n%z = graph.literal 0.0 : " + imageType + " : " + imageType +
         "\n%a = graph.load %x[affine_map<" + dims + " -> (" + at4 + ")>]" +
         coords + " " + guard + ": " + type(image, imageType) + " -> " +
         imageType + "\n%b = graph.load %w[affine_map<" + dims +
         " -> (d3, d6, d4, d5)>]" + coords + " : " + type(w, weightType) +
         " -> " + weightType + "\n" + widened("a", imageType) +
         widened("b", weightType) + "%m = graph.apply mul(" + a + ", " + b +
         ") : (f32, f32) -> f32\n"
         "graph.yield %m : f32\n}\ngraph.return %s : " +
         type(y) + "\n}";
}

/// x times numbers of four bits, less `zero`, in blocks of k with a scale,
/// under a schedule's attributes.
inline std::string fourBits(int64_t m, int64_t n, int64_t k,
                            const std::string &type, const std::string &zero,
                            int64_t block = 8,
                            const std::string &schedule = "") {
  auto text = [](int64_t size) { return std::to_string(size); };
  std::string at = ">] (%i, %j, %k) : ", dims = "affine_map<(d0, d1, d2) -> (";
  std::string x = tensorType({text(m), text(k)}, "f32"),
              q = tensorType({text(n), text(k)}, type),
              s = tensorType({text(n), text(k / block)}, "f32"),
              y = tensorType({text(m), text(n)}, "f32");
  return "graph.kernel @kernel(%x: " + x + ", %q: " + q + ", %s: " + s +
         ") -> " + y +
         " attributes {symbols = [], graph.constant_bits = array<i8: 8, 4, "
         "8>" +
         schedule + "} {\n%r = graph.stage domain <" + text(m) + ", " +
         text(n) + "> reduce <" + text(k) + "> fold add : " + y +
         " {\n^bb0(%i: index, %j: index, %k: index):\n%a = graph.load %x[" +
         dims + "d0, d2)" + at + x + " -> f32\n%b = graph.load %q[" + dims +
         "d1, d2)" + at + q + " -> " + type + "\n%c = graph.load %s[" + dims +
         "d1, d2 floordiv " + text(block) + ")" + at + s +
         " -> f32\n%d = graph.scalar_cast %b : " + type +
         " -> f32\n%e = graph.literal " + zero +
         " : f32 : f32\n%f = graph.apply sub(%d, %e) : (f32, f32) -> f32\n%w = "
         "graph.apply mul(%f, %c) : (f32, f32) -> f32\n%p = graph.apply "
         "mul(%a, %w) : (f32, f32) -> f32\ngraph.yield %p : f32\n}\n"
         "graph.return %r : " +
         y + "\n}";
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_KERNELTEXT_H
