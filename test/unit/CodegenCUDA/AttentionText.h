// Kernels that are attentions, as text, and what they compute.
#ifndef DLC_TEST_UNIT_CODEGENCUDA_ATTENTIONTEXT_H
#define DLC_TEST_UNIT_CODEGENCUDA_ATTENTIONTEXT_H

#include "CudaTestUtils.h"

#include <cstdint>
#include <string>
#include <vector>

namespace dlc::test {

struct AttentionCase {
  /// Heads of keys and values, query heads of each, queries, keys, elements of
  /// queries and of values.
  int64_t heads = 1, group = 1, rows = 1, keys = 1, inner = 8, columns = 8;
  std::string type = "f32"; ///< of q, k, v; 16-bit weights are rounded to it
  /// "none"; "causal": -inf is added where key > row + past; "fill": such a
  /// score is -10000; "data": a tensor is added.
  std::string mask = "none";
  int64_t past = 0;
  bool symbolic = false;   ///< in rows and keys
  bool transposed = false; ///< keys lie [inner][key], values [column][key]
  float scale = 0.25f;
  std::string schedule = ""; ///< entries of the kernel's attribute

  int64_t queries() const { return heads * group * rows * inner; }
  int64_t results() const { return heads * group * rows * columns; }
};

/// @k(%q, %k, %v[, %m]) -> y in f32.
std::string attentionText(const AttentionCase &c);

/// The same in f64, weights not rounded.
std::vector<double> attend(const AttentionCase &c, const std::vector<float> &q,
                           const std::vector<float> &k,
                           const std::vector<float> &v,
                           const std::vector<float> &m);

/// Runs the kernel on numbers of one seed; empty when there is no report and
/// every result is right. `positive`: products of queries and keys are.
std::string checkAttention(CompiledKernel &kernel, const AttentionCase &c,
                           bool positive = false);

/// Eighths between -1 and 1, which every type holds.
std::vector<float> eighths(int64_t count, unsigned seed);
/// Numbers that a 16-bit type holds, as its bits.
std::vector<uint16_t> toBits(const std::vector<float> &values, bool isBf16);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGENCUDA_ATTENTIONTEXT_H
