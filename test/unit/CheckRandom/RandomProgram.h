// Random programs of graph operators over small static shapes.
#ifndef DLC_TEST_UNIT_CHECKRANDOM_RANDOMPROGRAM_H
#define DLC_TEST_UNIT_CHECKRANDOM_RANDOMPROGRAM_H

#include <cstdint>
#include <random>
#include <string>

namespace dlc::test {

class Random {
public:
  explicit Random(uint64_t seed) : engine(seed) {}
  /// In [0, n).
  int64_t below(int64_t n) { return static_cast<int64_t>(engine() % n); }
  bool chance(int64_t oneIn) { return below(oneIn) == 0; }
  template <typename List>
  auto &pick(List &list) {
    return list[below(static_cast<int64_t>(list.size()))];
  }

private:
  std::mt19937_64 engine;
};

/// The text of a module whose @main has about `size` operators.
std::string makeProgram(Random &random, unsigned size);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CHECKRANDOM_RANDOMPROGRAM_H
