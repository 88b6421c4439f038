// What happens while a loop kernel runs under a schedule, by hand-made rules:
// what its analytic time and its features are made of.
#ifndef DLC_LIB_TUNER_LOOPACCOUNT_H
#define DLC_LIB_TUNER_LOOPACCOUNT_H

#include "dlc/Tuner/Features.h"

namespace dlc::tuner {

/// Knobs that are 0 are the nest's choice, which follows its rules
/// (Codegen/CPU/LoopPlan.cpp, LoopAcross.cpp, LoopTasks.cpp) from what the
/// facts say of the kernel.
struct LoopAccount {
  double lanes;                 ///< of a vector of the machine
  double width, groups, across; ///< lanes, vectors, points at a time
  double askedWidth, askedGroups, askedAcross; ///< the knobs
  bool isFolded, isTiled;                      ///< LoopOutline::Folded, Tiled
  double extent;                               ///< along the lanes
  /// Of the axis of a register tile: its tiles, points of the last one that are
  /// missing, tiles where guards are decided while they are written out.
  double tiles = 1, missing = 0, ends = 0;
  double copies = 1; ///< of the innermost code
  /// Vectors over what would do if the extent were a whole number of them.
  double padding;
  double work, bytes, steps;
  double tasks, rounds; ///< and how many each thread runs at most
  double balance;       ///< work over threads times the slowest thread's
  double taskWork, taskBytes;
  double registers, codeSize, loadsPerPoint;
  double compute, latency, traffic, cycles;

  LoopAccount(const LoopFacts &facts, const KnobValues &knobs,
              const TargetFacts &target);

private:
  void placeLanes(const LoopFacts &f, const KnobValues &knobs,
                  const TargetFacts &t);
  void cutTasks(const LoopFacts &f, const KnobValues &knobs);
  void addTimes(const LoopFacts &f, const TargetFacts &t);
};

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_LOOPACCOUNT_H
