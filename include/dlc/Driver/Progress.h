// What a run of dlc says on standard error: one line a stage, and a summary.
#ifndef DLC_DRIVER_PROGRESS_H
#define DLC_DRIVER_PROGRESS_H

#include "llvm/ADT/StringRef.h"

#include <chrono>
#include <string>
#include <vector>

namespace dlc {

/// Times the stages of a compilation and prints them: on a terminal one line
/// that is redrawn, else a line a stage, `[2/6] kernels 0.4s 128 -> 37
/// kernels`.
class Progress {
public:
  struct Stage {
    std::string name;
    double seconds;
  };

  /// `quiet` prints nothing; `redraw` overwrites the line of the stage before.
  Progress(bool quiet, bool redraw) : quiet(quiet), redraw(redraw) {}

  /// How many stages there will be.
  void setNumStages(unsigned count) { numStages = count; }
  ~Progress();

  /// Ends the stage before, if any, and begins one. `name` is a literal: a
  /// crash prints it.
  void begin(const char *name);
  /// Says how far the stage is: on a terminal in its line, else a line of its
  /// own at most every ten seconds.
  void update(llvm::StringRef note);
  /// Ends the stage; `note` says what came of it.
  void end(llvm::StringRef note = {});
  /// Prints the last line of a successful run.
  void summary(llvm::StringRef text);

  const std::vector<Stage> &getStages() const { return stages; }
  /// Seconds since the first stage began.
  double getSeconds() const;

private:
  using Clock = std::chrono::steady_clock;
  void clearLine();

  bool quiet;
  bool redraw;
  unsigned numStages = 0;
  bool isOpen = false;  // a stage is running
  bool isDrawn = false; // the terminal's line holds text
  Clock::time_point start = Clock::now(), stageStart, lastUpdate;
  std::vector<Stage> stages;
};

} // namespace dlc

#endif // DLC_DRIVER_PROGRESS_H
