// What the features of the families of nests share: a table of names and of
// functions of a view, from which names and values come.
#ifndef DLC_LIB_TUNER_FEATURETABLE_H
#define DLC_LIB_TUNER_FEATURETABLE_H

#include "dlc/Tuner/Features.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace dlc::tuner {

/// What each feature is computed from.
template <typename Facts, typename Account>
struct FeatureView {
  const Facts &f;
  const TargetFacts &t;
  const Account &a;
};

template <typename View>
struct Feature {
  const char *name;
  double (*value)(const View &);
};

/// An entry of a table over `View`; the expression names it `v`.
#define FEATURE(name, expression)                                              \
  Feature<View> {                                                              \
    name, [](const View &v) -> double { return expression; }                   \
  }

inline double log2p(double value) {
  return std::log2(std::max(value, 0.0) + 1);
}

/// Of a footprint to a capacity: 6 where they are equal.
inline double log2Ratio(double a, double b) {
  return log2p(64 * a / std::max(b, 1.0));
}

template <typename View, size_t n>
std::vector<const char *> namesOf(const Feature<View> (&table)[n]) {
  std::vector<const char *> names;
  for (const Feature<View> &feature : table)
    names.push_back(feature.name);
  return names;
}

template <typename View, size_t n>
std::vector<float> valuesOf(const Feature<View> (&table)[n], const View &view) {
  std::vector<float> values;
  for (const Feature<View> &feature : table)
    values.push_back(float(feature.value(view)));
  return values;
}

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_FEATURETABLE_H
