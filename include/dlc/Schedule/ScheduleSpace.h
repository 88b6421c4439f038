// The schedules of one kernel that are worth a thought, as data: a list of
// values for each knob, and a predicate that says what code generation would
// refuse before any code is made. Search samples it and mutates its points.
#ifndef DLC_SCHEDULE_SCHEDULESPACE_H
#define DLC_SCHEDULE_SCHEDULESPACE_H

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace dlc {

/// A point: values of a schedule's knobs, by name.
using KnobValues = std::map<std::string, int64_t>;

class ScheduleSpace {
public:
  struct Knob {
    std::string name;
    std::vector<int64_t> values; ///< ascending; neighbours are alike
  };
  std::string nest;
  std::vector<Knob> knobs;
  /// What code generation chooses by itself; its values need not be listed.
  KnobValues defaults;
  /// Whether a point can be emitted; `reason` says why not.
  std::function<bool(const KnobValues &, std::string &reason)> isLegal;
  /// Where several points are the same code: the one of them that is sampled,
  /// and all such points. Null: each point is code of its own.
  std::function<KnobValues(const KnobValues &)> representative;
  std::function<const std::vector<KnobValues> &()> distinct;

  using Random = std::mt19937_64;

  /// Points, legal or not.
  double size() const;
  /// A legal point, uniform among those that differ in code; nothing when
  /// hardly any is legal.
  std::optional<KnobValues> sample(Random &random) const;
  /// A legal point that differs from `point` in one or two knobs, mostly by one
  /// step; `point` itself when none was found.
  KnobValues mutate(const KnobValues &point, Random &random) const;
  /// A legal point of which each knob is one of the parents'; else the first.
  KnobValues cross(const KnobValues &a, const KnobValues &b,
                   Random &random) const;
  /// `point`, or the one that stands for it.
  KnobValues represent(const KnobValues &point) const {
    return representative ? representative(point) : point;
  }
};

} // namespace dlc

#endif // DLC_SCHEDULE_SCHEDULESPACE_H
