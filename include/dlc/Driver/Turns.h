// Which of two artifacts is faster here: they run in turns with a second copy
// of the first, which says what this machine cannot tell apart.
#ifndef DLC_DRIVER_TURNS_H
#define DLC_DRIVER_TURNS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <array>

namespace dlc {

class Artifact;

/// Seconds of a run of the plain artifact, of the other one, and of the plain
/// one's copy.
using Round = std::array<double, 3>;

/// What rounds come to. Ratios are plain's time over the other's: above 1 the
/// other one is faster. What single runs took decides nothing.
struct TurnResult {
  double plainSeconds = 0, seconds = 0; ///< medians
  double ratio = 1;                     ///< the median of the rounds' ratios
  double least = 1; ///< the true median is below it in one of 100 cases
  /// By how much the copies seem to differ at most (a ratio of 1 or more), with
  /// the same confidence.
  double noise = 1;

  /// Both times, the ratio and the bounds, in words.
  std::string str() const;

  /// Beyond `gain` and beyond the noise.
  bool isFaster(double gain) const { return least > std::max(gain, noise); }
};

/// Needs 8 rounds or more to tell anything; with fewer nothing is faster.
TurnResult judgeTurns(llvm::ArrayRef<Round> rounds);

/// Runs the three for about `seconds`, 11 to 61 rounds.
llvm::Expected<std::vector<Round>>
runInTurns(const Artifact &plain, const Artifact &other, const Artifact &copy,
           llvm::ArrayRef<std::string> inputs, double seconds);

} // namespace dlc

#endif // DLC_DRIVER_TURNS_H
