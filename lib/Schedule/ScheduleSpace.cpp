// Sampling and mutation. Numbers are drawn by remainders of 64 random bits, not
// by the standard distributions, whose results differ between libraries: a seed
// gives the same search everywhere.
#include "dlc/Schedule/ScheduleSpace.h"

#include <algorithm>

using namespace dlc;

static constexpr unsigned kAttempts = 1000;

static uint64_t below(ScheduleSpace::Random &random, uint64_t bound) {
  return random() % bound;
}

double ScheduleSpace::size() const {
  double points = 1;
  for (const Knob &knob : knobs)
    points *= double(knob.values.size());
  return points;
}

std::optional<KnobValues> ScheduleSpace::sample(Random &random) const {
  if (distinct) {
    const std::vector<KnobValues> &points = distinct();
    if (points.empty())
      return std::nullopt;
    return points[below(random, points.size())];
  }
  std::string reason;
  for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
    KnobValues point = defaults;
    for (const Knob &knob : knobs)
      point[knob.name] = knob.values[below(random, knob.values.size())];
    if (isLegal(point, reason))
      return point;
  }
  return std::nullopt;
}

KnobValues ScheduleSpace::mutate(const KnobValues &point,
                                 Random &random) const {
  std::string reason;
  for (unsigned attempt = 0; attempt < kAttempts && !knobs.empty(); ++attempt) {
    KnobValues child = point;
    for (uint64_t changes = 1 + below(random, 2); changes-- > 0;) {
      const Knob &knob = knobs[below(random, knobs.size())];
      auto &values = knob.values;
      int64_t &value = child[knob.name];
      // One step up or down three times of four, else anywhere.
      size_t place = std::lower_bound(values.begin(), values.end(), value) -
                     values.begin();
      if (below(random, 4) == 0)
        place = below(random, values.size());
      else if (below(random, 2) == 0)
        place = place ? place - 1 : 0;
      else
        place = place + 1;
      value = values[std::min(place, values.size() - 1)];
    }
    child = represent(child);
    if (child != point && isLegal(child, reason))
      return child;
  }
  return point;
}

KnobValues ScheduleSpace::cross(const KnobValues &a, const KnobValues &b,
                                Random &random) const {
  KnobValues child = a;
  for (const Knob &knob : knobs)
    if (below(random, 2))
      child[knob.name] = b.at(knob.name);
  child = represent(child);
  std::string reason;
  return isLegal(child, reason) ? child : a;
}
