// Progress lines.
#include "dlc/Driver/Progress.h"

#include "dlc/Driver/Crash.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::StringRef;

Progress::~Progress() { clearLine(); }

void Progress::clearLine() {
  if (isDrawn)
    llvm::errs() << "\r\x1b[K";
  isDrawn = false;
}

double Progress::getSeconds() const {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Progress::begin(const char *name) {
  setCrashStage(name);
  if (isOpen)
    end();
  isOpen = true;
  stageStart = Clock::now();
  stages.push_back({name, 0});
  if (quiet || !redraw)
    return;
  clearLine();
  llvm::errs() << "[" << stages.size() << "/" << numStages << "] " << name
               << " ...";
  isDrawn = true;
}

void Progress::update(StringRef note) {
  if (quiet || !isOpen)
    return;
  // A line of a log for each trial would be many.
  constexpr std::chrono::seconds pause(10);
  Clock::time_point now = Clock::now();
  if (!redraw && now - std::max(lastUpdate, stageStart) < pause)
    return;
  lastUpdate = now;
  clearLine();
  llvm::errs() << "[" << stages.size() << "/" << numStages << "] "
               << stages.back().name << ": " << note;
  if (redraw)
    isDrawn = true;
  else
    llvm::errs() << "\n";
}

void Progress::end(StringRef note) {
  if (!isOpen)
    return;
  isOpen = false;
  Stage &stage = stages.back();
  stage.seconds =
      std::chrono::duration<double>(Clock::now() - stageStart).count();
  if (quiet)
    return;
  clearLine();
  llvm::errs() << "[" << stages.size() << "/" << numStages << "] " << stage.name
               << llvm::format(" %.2fs", stage.seconds)
               << (note.empty() ? "" : " ") << note;
  if (redraw)
    isDrawn = true;
  else
    llvm::errs() << "\n";
}

void Progress::summary(StringRef text) {
  if (isOpen)
    end();
  clearLine();
  if (!quiet)
    llvm::errs() << text << "\n";
}
