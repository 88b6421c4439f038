// The text of attention kernels, for tests and the bench: a softmax between two
// sums of products, with the masks that models have.
#ifndef DLC_TEST_UNIT_CODEGEN_ATTENTIONTEXT_H
#define DLC_TEST_UNIT_CODEGEN_ATTENTIONTEXT_H

#include "KernelText.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace dlc::test {

/// One attention. Query heads are `heads * group`.
struct AttentionCase {
  int64_t batch = 1, heads = 2, group = 1, queries = 8, keys = 8, inner = 16,
          columns = 16;
  bool symbolicQueries = false, symbolicKeys = false;
  std::string element = "f32"; ///< of queries, keys, values and the result
  std::string result;          ///< the result's, where it is another one
  enum Causal { None, TopLeft, BottomRight } causal = None;
  int64_t window = 0;    ///< keys before the frontier that are kept; 0: all
  bool addsFill = false; ///< the causal mask is added, not selected
  std::string fill = "0xFF800000"; ///< of masked scores
  /// Lengths: keys before a number of the batch's.
  enum Mask { NoMask, Padding, Full, Boolean, Slopes, Lengths } mask = NoMask;
  double softcap = 0;
  bool headsLast = false; ///< (batch, position, head, element) in memory
  bool merged = false;    ///< the result is (batch, position, head * columns)
  bool transposedKeys = false; ///< keys lie (batch, head, element, position)
  bool roundsWeights = false;  ///< p is bf16 before the sum
  bool zeroesNaN = false;      ///< weights that are NaN are 0
  bool guardsMaximum = false;  ///< a maximum of -inf is replaced by 0
  bool dividesLater = false;   ///< the division follows the sum
  bool rotates = false;        ///< keys and queries times a table (a rotation)
  /// Keys and values lie in pages of this many (page, position, head, element),
  /// which a table of the batch's numbers; it divides the keys. 0: they do not.
  int64_t pageSize = 0;

  int64_t numPages() const { return batch * (keys / pageSize) + 2; }

  std::vector<int64_t> symbols() const {
    std::vector<int64_t> values;
    if (symbolicQueries)
      values.push_back(queries);
    if (symbolicKeys)
      values.push_back(keys);
    return values;
  }
  std::string resultType() const { return result.empty() ? element : result; }
  std::string queryName() const {
    return symbolicQueries ? "s0" : std::to_string(queries);
  }
  std::string keyName() const {
    if (!symbolicKeys)
      return std::to_string(keys);
    return symbolicQueries ? "s1" : "s0";
  }
  /// The shapes of the operands.
  std::vector<std::vector<int64_t>> shapes() const {
    auto of = [&](int64_t h, int64_t l, int64_t e) {
      return headsLast ? std::vector<int64_t>{batch, l, h, e}
                       : std::vector<int64_t>{batch, h, l, e};
    };
    std::vector<std::vector<int64_t>> result{of(heads * group, queries, inner),
                                             of(heads, keys, inner),
                                             of(heads, keys, columns)};
    if (transposedKeys)
      result[1] = {batch, heads, inner, keys};
    if (pageSize) {
      result[1] = {numPages(), pageSize, heads, inner};
      result[2] = {numPages(), pageSize, heads, columns};
    }
    if (mask == Padding)
      result.push_back({batch, keys});
    if (mask == Full || mask == Boolean)
      result.push_back({queries, keys});
    if (mask == Slopes)
      result.push_back({heads * group});
    if (mask == Lengths)
      result.push_back({batch});
    if (rotates)
      result.push_back({queries, inner});
    if (pageSize)
      result.push_back({batch, keys / pageSize});
    return result;
  }
  /// Multiplications and additions of one run, masked ones too.
  double flops() const {
    return 2.0 * batch * heads * group * queries * keys * (inner + columns);
  }
  std::string name() const;
  std::string text() const;
};

inline std::string AttentionCase::name() const {
  auto n = [](int64_t x) { return std::to_string(x); };
  std::string result = n(batch) + "x" + n(heads) + "x" + n(group) + " " +
                       n(queries) + (symbolicQueries ? "?" : "") + "x" +
                       n(keys) + (symbolicKeys ? "?" : "") + " " + n(inner) +
                       "," + n(columns) + " " + element;
  if (causal)
    result += causal == TopLeft ? " top-left" : " bottom-right";
  if (causal && (addsFill || fill != "0xFF800000"))
    result += (addsFill ? " + " : " = ") + fill;
  if (window)
    result += " window " + n(window);
  const char *masks[] = {"",      " padding", " mask",
                         " bool", " slopes",  " lengths"};
  result += masks[mask];
  if (softcap)
    result += " softcap";
  for (auto [is, word] : {std::pair{headsLast, " heads-last"},
                          {merged, " merged"},
                          {transposedKeys, " transposed-keys"},
                          {roundsWeights, " bf16-weights"},
                          {zeroesNaN, " zeroes-nan"},
                          {guardsMaximum, " guards-max"},
                          {dividesLater, " divides-later"},
                          {rotates, " rotates"}})
    if (is)
      result += word;
  if (pageSize)
    result += " pages of " + n(pageSize);
  return result;
}

inline std::string AttentionCase::text() const {
  auto n = [](int64_t x) { return std::to_string(x); };
  std::string lq = queryName(), lk = keyName(), all = n(heads * group);
  unsigned numSymbols = symbolicQueries + symbolicKeys;
  std::string names = numSymbols == 0   ? ""
                      : numSymbols == 1 ? "\"s0\""
                                        : "\"s0\", \"s1\"";
  std::string symbols = numSymbols == 0   ? ""
                        : numSymbols == 1 ? "[s0]"
                                          : "[s0, s1]";
  auto map = [&](unsigned dims, const std::string &results) {
    std::string text = "affine_map<(";
    for (unsigned i = 0; i < dims; ++i)
      text += (i ? ", d" : "d") + std::to_string(i);
    return text + ")" + symbols + " -> (" + results + ")>";
  };
  std::string e = element, f = "f32";
  auto tensor = [&](std::vector<std::string> sizes, std::string type) {
    return tensorType(std::move(sizes), std::move(type));
  };
  auto operand = [&](std::string h, std::string l, std::string x) {
    return headsLast ? tensor({n(batch), l, h, x}, e)
                     : tensor({n(batch), h, l, x}, e);
  };
  std::string qType = operand(all, lq, n(inner)),
              kType = operand(n(heads), lk, n(inner)),
              vType = operand(n(heads), lk, n(columns));
  if (transposedKeys)
    kType = tensor({n(batch), n(heads), n(inner), lk}, e);
  if (pageSize) {
    kType = tensor({n(numPages()), n(pageSize), n(heads), n(inner)}, e);
    vType = tensor({n(numPages()), n(pageSize), n(heads), n(columns)}, e);
  }
  std::string pagesType =
      pageSize ? tensor({n(batch), n(keys / pageSize)}, "i64") : "";
  std::string maskType;
  if (mask == Padding)
    maskType = tensor({n(batch), lk}, f);
  if (mask == Full)
    maskType = tensor({lq, lk}, f);
  if (mask == Boolean)
    maskType = tensor({lq, lk}, "i1");
  if (mask == Slopes)
    maskType = tensor({all}, f);
  if (mask == Lengths)
    maskType = tensor({n(batch)}, "i64");
  std::string scoreType = tensor({n(batch), all, lq, lk}, f),
              rowType = tensor({n(batch), all, lq}, f),
              outType = tensor({n(batch), all, lq, n(columns)}, f),
              last = resultType(),
              outcome =
                  merged
                      ? tensor({n(batch), lq, n(heads * group * columns)}, last)
                      : tensor({n(batch), all, lq, n(columns)}, last);
  std::string tableType = tensor({lq, n(inner)}, f);
  std::string arguments = "%q: " + qType + ", %k: " + kType + ", %v: " + vType;
  if (mask)
    arguments += ", %mask: " + maskType;
  if (rotates)
    arguments += ", %table: " + tableType;
  if (pageSize)
    arguments += ", %pages: " + pagesType;
  std::string domain4 =
                  "<" + n(batch) + ", " + all + ", " + lq + ", " + lk + ">",
              domain3 = "<" + n(batch) + ", " + all + ", " + lq + ">",
              domainOut = "<" + n(batch) + ", " + all + ", " + lq + ", " +
                          n(columns) + ">";
  const std::string args4 = "%b: index, %h: index, %i: index, %j: index",
                    at4 = "(%b, %h, %i, %j)", at3 = "(%b, %h, %i)";
  auto load = [&](std::string to, std::string from, std::string m,
                  std::string at, std::string type, std::string x) {
    return "    " + to + " = graph.load " + from + "[" + m + "]" + at + " : " +
           type + " -> " + x + "\n";
  };
  auto widened = [&](std::string to, std::string from) {
    if (e == f)
      return std::string();
    return "    " + to + " = graph.scalar_cast " + from + " : " + e +
           " -> f32\n";
  };
  auto apply = [&](std::string to, std::string fn, std::string values,
                   unsigned arity) {
    std::string types = arity == 1 ? "(f32)" : "(f32, f32)";
    return "    " + to + " = graph.apply " + fn + "(" + values +
           ") : " + types + " -> f32\n";
  };
  std::string head = group == 1 ? "d1" : "d1 floordiv " + n(group);
  auto place = [&](std::string h, std::string l, std::string x) {
    return headsLast ? "d0, " + l + ", " + h + ", " + x
                     : "d0, " + h + ", " + l + ", " + x;
  };
  // A load of keys or values, whose position is dim `position`.
  auto loadKey = [&](std::string to, std::string from, unsigned position,
                     std::string at, std::string type, std::string direct) {
    if (!pageSize)
      return load(to, from, map(5, direct), at, type, e);
    std::string j = "d" + n(position), x = "d" + n(position == 3 ? 4 : 3);
    std::string text =
        load("%page", "%pages", map(5, "d0, " + j + " floordiv " + n(pageSize)),
             at, pagesType, "i64") +
        "    %place = graph.to_index %page in <" + n(numPages()) + ">\n";
    return text + load(to, from,
                       map(6, "d5, " + j + " mod " + n(pageSize) + ", " + head +
                                  ", " + x),
                       at.substr(0, at.size() - 1) + ", %place)", type, e);
  };
  std::string wide = e == f ? "" : "w";
  std::string text = "graph.kernel @attention(" + arguments + ") -> " +
                     outcome + " attributes {symbols = [" + names + "]} {\n";
  // Scores.
  text += "  %s = graph.stage domain" + domain4 + " reduce<" + n(inner) +
          "> fold add : " + scoreType + " {\n  ^bb0(" + args4 +
          ", %d: index):\n";
  const std::string at5 = "(%b, %h, %i, %j, %d)";
  text += load("%x", "%q", map(5, place("d1", "d2", "d4")), at5, qType, e) +
          widened("%xw", "%x");
  text += loadKey("%y", "%k", 3, at5, kType,
                  transposedKeys ? "d0, " + head + ", d4, d3"
                                 : place(head, "d3", "d4")) +
          widened("%yw", "%y");
  std::string x = "%x" + wide;
  if (rotates) {
    text += load("%r", "%table", map(5, "d2, d4"), at5, tableType, f);
    text += apply("%xr", "mul", x + ", %r", 2);
    x = "%xr";
  }
  text += apply("%p", "mul", x + ", %y" + wide, 2) +
          "    graph.yield %p : f32\n  }\n";
  // What the softmax is taken of.
  text += "  %t = graph.stage domain" + domain4 + " : " + scoreType +
          " {\n  ^bb0(" + args4 + "):\n";
  text += load("%x", "%s", map(4, "d0, d1, d2, d3"), at4, scoreType, f);
  char scale[32];
  std::snprintf(scale, sizeof scale, "%.9e", 1 / std::sqrt(double(inner)));
  text += "    %a = graph.literal " + std::string(scale) + " : f32 : f32\n" +
          apply("%t0", "mul", "%x, %a", 2);
  std::string t = "%t0";
  unsigned number = 0;
  auto next = [&] { return "%t" + std::to_string(++number); };
  if (softcap) {
    std::string cap = std::to_string(softcap);
    text += "    %cap = graph.literal " + cap + " : f32 : f32\n" +
            apply("%ca", "div", t + ", %cap", 2) +
            apply("%cb", "tanh", "%ca", 1);
    t = next();
    text += apply(t, "mul", "%cb, %cap", 2);
  }
  if (mask == Padding || mask == Full) {
    text += load("%ml", "%mask", map(4, mask == Padding ? "d0, d3" : "d2, d3"),
                 at4, maskType, f);
    std::string old = t;
    t = next();
    text += apply(t, "add", old + ", %ml", 2);
  }
  if (mask == Boolean) {
    text += load("%ml", "%mask", map(4, "d2, d3"), at4, maskType, "i1");
    text += "    %mf = graph.literal 0xFF800000 : f32 : f32\n";
    std::string old = t;
    t = next();
    text += "    " + t + " = graph.apply select(%ml, " + old +
            ", %mf) : (i1, f32, f32) -> f32\n";
  }
  if (mask == Lengths) {
    text += load("%ml", "%mask", map(4, "d0"), at4, maskType, "i64") +
            "    %lj = graph.coord [" + map(4, "d3") + "]" + at4 +
            "\n    %lf = graph.literal 0xFF800000 : f32 : f32\n"
            "    %lk = graph.apply lt(%lj, %ml) : (i64, i64) -> i1\n";
    std::string old = t;
    t = next();
    text += "    " + t + " = graph.apply select(%lk, " + old +
            ", %lf) : (i1, f32, f32) -> f32\n";
  }
  if (mask == Slopes) {
    text += load("%ml", "%mask", map(4, "d1"), at4, maskType, f);
    text += "    %mc = graph.coord [" + map(4, "d3 - d2") + "]" + at4 +
            "\n    %md = graph.scalar_cast %mc : i64 -> f32\n" +
            apply("%mm", "mul", "%md, %ml", 2);
    std::string old = t;
    t = next();
    text += apply(t, "add", old + ", %mm", 2);
  }
  if (causal) {
    std::string shift =
        causal == BottomRight ? " + " + lk + " - " + lq : std::string();
    text += "    %ci = graph.coord [" + map(4, "d2" + shift) + "]" + at4 +
            "\n    %cj = graph.coord [" + map(4, "d3") + "]" + at4 +
            "\n    %fill = graph.literal " + fill + " : f32 : f32\n" +
            "    %zero = graph.literal 0.0 : f32 : f32\n";
    text += "    %keep0 = graph.apply le(%cj, %ci) : (i64, i64) -> i1\n";
    std::string keep = "%keep0";
    if (window) {
      text += "    %cw = graph.coord [" +
              map(4, "d2" + shift + " - " + n(window - 1)) + "]" + at4 +
              "\n    %keep1 = graph.apply ge(%cj, %cw) : (i64, i64) -> i1\n" +
              "    %keep2 = graph.apply bit_and(%keep0, %keep1) : (i1, i1) -> "
              "i1\n";
      keep = "%keep2";
    }
    std::string old = t;
    t = next();
    if (addsFill) {
      text += "    %bias = graph.apply select(" + keep +
              ", %zero, %fill) : (i1, f32, f32) -> f32\n" +
              apply(t, "add", old + ", %bias", 2);
    } else {
      text += "    " + t + " = graph.apply select(" + keep + ", " + old +
              ", %fill) : (i1, f32, f32) -> f32\n";
    }
  }
  text += "    graph.yield " + t + " : f32\n  }\n";
  // Maximum, exponentials, their sum.
  const std::string args3 = "%b: index, %h: index, %i: index, %j: index";
  text += "  %mm = graph.stage domain" + domain3 + " reduce<" + lk +
          "> fold max : " + rowType + " {\n  ^bb0(" + args3 + "):\n" +
          load("%x", "%t", map(4, "d0, d1, d2, d3"), at4, scoreType, f) +
          "    graph.yield %x : f32\n  }\n";
  std::string largest = "%mm";
  if (guardsMaximum) {
    text += "  %mg = graph.stage domain" + domain3 + " : " + rowType +
            " {\n  ^bb0(%b: index, %h: index, %i: index):\n" +
            load("%x", "%mm", map(3, "d0, d1, d2"), at3, rowType, f) +
            "    %inf = graph.literal 0xFF800000 : f32 : f32\n"
            "    %zero = graph.literal 0.0 : f32 : f32\n"
            "    %is = graph.apply eq(%x, %inf) : (f32, f32) -> i1\n"
            "    %r = graph.apply select(%is, %zero, %x) : (i1, f32, f32) -> "
            "f32\n    graph.yield %r : f32\n  }\n";
    largest = "%mg";
  }
  text += "  %ee = graph.stage domain" + domain4 + " : " + scoreType +
          " {\n  ^bb0(" + args4 + "):\n" +
          load("%x", "%t", map(4, "d0, d1, d2, d3"), at4, scoreType, f) +
          load("%m", largest, map(4, "d0, d1, d2"), at4, rowType, f) +
          apply("%u", "sub", "%x, %m", 2) + apply("%e", "exp", "%u", 1) +
          "    graph.yield %e : f32\n  }\n";
  text += "  %zz = graph.stage domain" + domain3 + " reduce<" + lk +
          "> fold add : " + rowType + " {\n  ^bb0(" + args3 + "):\n" +
          load("%x", "%ee", map(4, "d0, d1, d2, d3"), at4, scoreType, f) +
          "    graph.yield %x : f32\n  }\n";
  std::string weights = "%ee";
  if (!dividesLater) {
    std::string pType =
        tensor({n(batch), all, lq, lk}, roundsWeights ? "bf16" : "f32");
    text += "  %pp = graph.stage domain" + domain4 + " : " + pType +
            " {\n  ^bb0(" + args4 + "):\n" +
            load("%e", "%ee", map(4, "d0, d1, d2, d3"), at4, scoreType, f) +
            load("%z", "%zz", map(4, "d0, d1, d2"), at4, rowType, f) +
            apply("%w", "div", "%e, %z", 2);
    std::string w = "%w";
    if (zeroesNaN) {
      text += "    %nan = graph.apply isnan(%w) : (f32) -> i1\n"
              "    %zero = graph.literal 0.0 : f32 : f32\n"
              "    %wz = graph.apply select(%nan, %zero, %w) : (i1, f32, f32) "
              "-> f32\n";
      w = "%wz";
    }
    if (roundsWeights) {
      text += "    %wr = graph.scalar_cast " + w + " : f32 -> bf16\n";
      text += "    graph.yield %wr : bf16\n  }\n";
    } else {
      text += "    graph.yield " + w + " : f32\n  }\n";
    }
    weights = "%pp";
  }
  // The sums of weighted values.
  std::string wType = tensor({n(batch), all, lq, lk},
                             roundsWeights && !dividesLater ? "bf16" : "f32");
  text += "  %o = graph.stage domain" + domainOut + " reduce<" + lk +
          "> fold add : " + outType +
          " {\n  ^bb0(%b: index, %h: index, %i: index, %c: index, %j: "
          "index):\n";
  const std::string atOut = "(%b, %h, %i, %c, %j)";
  text += load("%w0", weights, map(5, "d0, d1, d2, d4"), atOut, wType,
               roundsWeights && !dividesLater ? "bf16" : "f32");
  std::string w = "%w0";
  if (roundsWeights && !dividesLater) {
    text += "    %w1 = graph.scalar_cast %w0 : bf16 -> f32\n";
    w = "%w1";
  }
  text += loadKey("%x", "%v", 4, atOut, vType, place(head, "d4", "d3")) +
          widened("%xw", "%x") + apply("%y", "mul", w + ", %x" + wide, 2) +
          "    graph.yield %y : f32\n  }\n";
  std::string given = "%o";
  if (dividesLater || merged || last != f) {
    std::string domain = merged ? "<" + n(batch) + ", " + lq + ", " +
                                      n(heads * group * columns) + ">"
                                : domainOut;
    std::string args = merged ? "%b: index, %i: index, %c: index"
                              : "%b: index, %h: index, %i: index, %c: index";
    std::string at = merged ? "(%b, %i, %c)" : "(%b, %h, %i, %c)";
    std::string where =
        merged ? "d0, d2 floordiv " + n(columns) + ", d1, d2 mod " + n(columns)
               : "d0, d1, d2, d3";
    std::string rowAt =
        merged ? "d0, d2 floordiv " + n(columns) + ", d1" : "d0, d1, d2";
    unsigned rank = merged ? 3 : 4;
    text += "  %r = graph.stage domain" + domain + " : " + outcome +
            " {\n  ^bb0(" + args + "):\n" +
            load("%x", "%o", map(rank, where), at, outType, f);
    std::string y = "%x";
    if (dividesLater) {
      text += load("%z", "%zz", map(rank, rowAt), at, rowType, f) +
              apply("%y", "div", "%x, %z", 2);
      y = "%y";
    }
    if (last != f) {
      text += "    %n = graph.scalar_cast " + y + " : f32 -> " + last + "\n";
      y = "%n";
    }
    text += "    graph.yield " + y + " : " + last + "\n  }\n";
    given = "%r";
  }
  return text + "  graph.return " + given + " : " + outcome + "\n}\n";
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_ATTENTIONTEXT_H
