// See the header.
#include "AttentionText.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace dlc::test;

namespace {
/// "tensor<4x?x8xf32, #graph.dims<4, s0, 8>>".
std::string tensor(const std::vector<std::string> &dims,
                   const std::string &type) {
  std::string shape, names;
  bool symbolic = false;
  for (const std::string &dim : dims) {
    bool isSymbol = dim[0] == 's';
    symbolic |= isSymbol;
    shape += (isSymbol ? "?" : dim) + "x";
    names += (names.empty() ? "" : ", ") + dim;
  }
  return "tensor<" + shape + type +
         (symbolic ? ", #graph.dims<" + names + ">>" : ">");
}

std::string join(const std::vector<std::string> &dims) {
  std::string text;
  for (const std::string &dim : dims)
    text += (text.empty() ? "" : ", ") + dim;
  return text;
}
} // namespace

std::string dlc::test::attentionText(const AttentionCase &c) {
  std::string h = std::to_string(c.heads * c.group),
              o = std::to_string(c.heads), d = std::to_string(c.inner),
              e = std::to_string(c.columns),
              r = c.symbolic ? "s0" : std::to_string(c.rows),
              j = c.symbolic ? "s1" : std::to_string(c.keys);
  bool narrow = c.type != "f32";
  std::string q = tensor({h, r, d}, c.type),
              k = tensor(c.transposed ? std::vector<std::string>{o, d, j}
                                      : std::vector<std::string>{o, j, d},
                         c.type),
              v = tensor(c.transposed ? std::vector<std::string>{o, e, j}
                                      : std::vector<std::string>{o, j, e},
                         c.type),
              m = tensor({r, j}, "f32"), s = tensor({h, r, j}, "f32"),
              one = tensor({h, r}, "f32"), y = tensor({h, r, e}, "f32");
  std::string head =
      c.group > 1 ? "d0 floordiv " + std::to_string(c.group) : "d0";
  std::string keyMap =
      c.transposed ? head + ", d3, d2" : head + ", d2, d3"; // (h, r, j, d)
  std::string valueMap =
      c.transposed ? head + ", d2, d3" : head + ", d3, d2"; // (h, r, c, j)
  auto load = [&](const std::string &to, const std::string &from,
                  const std::string &dims, const std::string &map,
                  const std::string &at, const std::string &type,
                  const std::string &element) {
    return "    %" + to + " = graph.load %" + from + "[affine_map<(" + dims +
           ") -> (" + map + ")>](" + at + ") : " + type + " -> " + element +
           "\n";
  };
  auto widen = [&](const std::string &to, const std::string &from) {
    return narrow ? "    %" + to + " = graph.scalar_cast %" + from + " : " +
                        c.type + " -> f32\n"
                  : "";
  };
  std::string w = narrow ? "w" : "";
  const std::string four = "d0, d1, d2, d3", fourAt = "%a, %b, %c, %d",
                    three = "d0, d1, d2", threeAt = "%a, %b, %c";
  auto head4 = [&](const std::string &name, const std::string &domain,
                   const std::string &reduce, const std::string &fold,
                   const std::string &type, const std::string &arguments) {
    return "  %" + name + " = graph.stage domain<" + domain + ">" +
           (reduce.empty() ? "" : " reduce<" + reduce + "> fold " + fold) +
           " : " + type + " {\n  ^bb0(" + arguments + "):\n";
  };
  const std::string fourIn = "%a: index, %b: index, %c: index, %d: index",
                    threeIn = "%a: index, %b: index, %c: index";
  std::string text = "graph.kernel @k(%q: " + q + ", %k: " + k + ", %v: " + v;
  if (c.mask == "data")
    text += ", %m: " + m;
  text += ") -> " + y;
  std::vector<std::string> attributes;
  if (c.symbolic)
    attributes.push_back("symbols = [\"r\", \"j\"]");
  if (!c.schedule.empty())
    attributes.push_back("schedule = {" + c.schedule + "}");
  if (!attributes.empty())
    text += " attributes {" + join(attributes) + "}";
  text += " {\n";
  text += head4("s", join({h, r, j}), d, "add", s, fourIn);
  text += load("x", "q", four, "d0, d1, d3", fourAt, q, c.type) +
          load("z", "k", four, keyMap, fourAt, k, c.type) + widen("xw", "x") +
          widen("zw", "z");
  text += "    %p = graph.apply mul(%x" + w + ", %z" + w +
          ") : (f32, f32) -> f32\n    graph.yield %p : f32\n  }\n";
  text += head4("t", join({h, r, j}), "", "", s, threeIn);
  text += load("x", "s", three, three, threeAt, s, "f32");
  char number[64];
  std::snprintf(number, sizeof number, "%.6e", double(c.scale));
  text += "    %f = graph.literal " + std::string(number) +
          " : f32 : f32\n    %u = graph.apply mul(%x, %f) : (f32, f32) -> "
          "f32\n";
  if (c.mask == "data") {
    text += load("n", "m", three, "d1, d2", threeAt, m, "f32");
    text += "    %r = graph.apply add(%u, %n) : (f32, f32) -> f32\n";
  } else if (c.mask != "none") {
    text += "    %kk = graph.coord[affine_map<(d0, d1, d2) -> (d2)>](" +
            threeAt +
            ")\n    %rr = graph.coord[affine_map<(d0, d1, d2) -> (d1 + " +
            std::to_string(c.past) + ")>](" + threeAt +
            ")\n    %in = graph.apply le(%kk, %rr) : (i64, i64) -> i1\n";
    if (c.mask == "fill")
      text += "    %low = graph.literal -1.000000e+04 : f32 : f32\n    %r = "
              "graph.apply select(%in, %u, %low) : (i1, f32, f32) -> f32\n";
    else
      text += "    %zero = graph.literal 0.000000e+00 : f32 : f32\n    %low = "
              "graph.literal 0xFF800000 : f32 : f32\n    %ad = graph.apply "
              "select(%in, %zero, %low) : (i1, f32, f32) -> f32\n    %r = "
              "graph.apply add(%u, %ad) : (f32, f32) -> f32\n";
  }
  text += std::string("    graph.yield %") + (c.mask == "none" ? "u" : "r") +
          " : f32\n  }\n";
  text += head4("n", join({h, r}), j, "max", one, threeIn) +
          load("x", "t", three, three, threeAt, s, "f32") +
          "    graph.yield %x : f32\n  }\n";
  text += head4("e", join({h, r, j}), "", "", s, threeIn) +
          load("x", "t", three, three, threeAt, s, "f32") +
          load("z", "n", three, "d0, d1", threeAt, one, "f32") +
          "    %u = graph.apply sub(%x, %z) : (f32, f32) -> f32\n    %r = "
          "graph.apply exp(%u) : (f32) -> f32\n    graph.yield %r : f32\n  "
          "}\n";
  text += head4("l", join({h, r}), j, "add", one, threeIn) +
          load("x", "e", three, three, threeAt, s, "f32") +
          "    graph.yield %x : f32\n  }\n";
  text += head4("o", join({h, r, e}), j, "add", y, fourIn) +
          load("x", "e", four, "d0, d1, d3", fourAt, s, "f32") +
          load("z", "l", four, "d0, d1", fourAt, one, "f32") +
          "    %p = graph.apply div(%x, %z) : (f32, f32) -> f32\n";
  if (narrow)
    text += "    %pn = graph.scalar_cast %p : f32 -> " + c.type +
            "\n    %pw = graph.scalar_cast %pn : " + c.type + " -> f32\n";
  text += load("g", "v", four, valueMap, fourAt, v, c.type) + widen("gw", "g") +
          "    %r = graph.apply mul(%p" + w + ", %g" + w +
          ") : (f32, f32) -> f32\n    graph.yield %r : f32\n  }\n";
  return text + "  graph.return %o : " + y + "\n}";
}

std::vector<double> dlc::test::attend(const AttentionCase &c,
                                      const std::vector<float> &q,
                                      const std::vector<float> &k,
                                      const std::vector<float> &v,
                                      const std::vector<float> &m) {
  std::vector<double> y(c.results());
  auto key = [&](int64_t h, int64_t j, int64_t d) -> double {
    return c.transposed ? k[(h * c.inner + d) * c.keys + j]
                        : k[(h * c.keys + j) * c.inner + d];
  };
  auto value = [&](int64_t h, int64_t j, int64_t e) -> double {
    return c.transposed ? v[(h * c.columns + e) * c.keys + j]
                        : v[(h * c.keys + j) * c.columns + e];
  };
  for (int64_t row = 0; row < c.heads * c.group * c.rows; ++row) {
    int64_t h = row / c.rows / c.group, r = row % c.rows;
    std::vector<double> t(c.keys);
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < c.keys; ++j) {
      for (int64_t d = 0; d < c.inner; ++d)
        t[j] += double(q[row * c.inner + d]) * key(h, j, d);
      t[j] *= c.scale;
      bool isMasked = j > r + c.past;
      if (c.mask == "data")
        t[j] += m[r * c.keys + j];
      else if (c.mask == "fill" && isMasked)
        t[j] = -10000;
      else if (c.mask == "causal" && isMasked)
        t[j] = -std::numeric_limits<double>::infinity();
      largest = std::max(largest, t[j]);
    }
    for (double &x : t)
      sum += x = std::exp(x - largest);
    for (int64_t e = 0; e < c.columns; ++e)
      for (int64_t j = 0; j < c.keys; ++j)
        y[row * c.columns + e] += t[j] / sum * value(h, j, e);
  }
  return y;
}

std::vector<float> dlc::test::eighths(int64_t count, unsigned seed) {
  std::vector<float> values(count);
  uint32_t state = seed * 2654435761u + 1;
  for (float &value : values) {
    state = state * 1664525u + 1013904223u;
    value = float(int(state >> 24) % 17 - 8) / 8;
  }
  return values;
}

std::vector<uint16_t> dlc::test::toBits(const std::vector<float> &values,
                                        bool isBf16) {
  std::vector<uint16_t> bits;
  for (float value : values) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    uint32_t narrow = word >> 16;
    if (!isBf16)
      narrow = value == 0 ? 0
                          : (word >> 16 & 0x8000) |
                                (((word >> 23 & 0xff) - 112) << 10) |
                                (word >> 13 & 0x3ff);
    bits.push_back(static_cast<uint16_t>(narrow));
  }
  return bits;
}

std::string dlc::test::checkAttention(CompiledKernel &kernel,
                                      const AttentionCase &c, bool positive) {
  constexpr unsigned seed = 1;
  auto q = eighths(c.queries(), seed),
       k = eighths(c.heads * c.keys * c.inner, seed + 1),
       v = eighths(c.heads * c.keys * c.columns, seed + 2),
       m = eighths(c.mask == "data" ? c.rows * c.keys : 0, seed + 3);
  if (positive)
    for (std::vector<float> *factor : {&q, &k})
      for (float &x : *factor)
        x = std::fabs(x) + 1;
  for (size_t i = 0; i < m.size(); i += 5)
    m[i] = -INFINITY;
  std::vector<double> wanted = attend(c, q, k, v, m);
  std::vector<float> y(c.results(), -9);
  std::vector<int64_t> symbols;
  if (c.symbolic)
    symbols = {c.rows, c.keys};
  std::string report;
  bool isBf16 = c.type == "bf16";
  if (c.type == "f32") {
    std::vector<EmulatedBuffer> buffers{in(q, "q"), in(k, "k"), in(v, "v")};
    if (c.mask == "data")
      buffers.push_back(in(m, "m"));
    buffers.push_back(out(y, "y"));
    report = kernel.run(buffers, symbols);
  } else {
    auto qn = toBits(q, isBf16), kn = toBits(k, isBf16), vn = toBits(v, isBf16);
    std::vector<EmulatedBuffer> buffers{in(qn, "q"), in(kn, "k"), in(vn, "v")};
    if (c.mask == "data")
      buffers.push_back(in(m, "m"));
    buffers.push_back(out(y, "y"));
    report = kernel.run(buffers, symbols);
  }
  if (!report.empty())
    return report;
  // Half a unit of a 16-bit weight.
  double tolerance = c.type == "f32" ? 2e-6 : isBf16 ? 1.0 / 256 : 1.0 / 2048;
  for (size_t i = 0; i < y.size(); ++i) {
    bool isRight = std::isnan(wanted[i])
                       ? std::isnan(y[i])
                       : std::fabs(y[i] - wanted[i]) <= tolerance;
    if (!isRight)
      return "result " + std::to_string(i) + " is " + std::to_string(y[i]) +
             ", not " + std::to_string(wanted[i]);
  }
  return {};
}
