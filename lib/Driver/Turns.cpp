// Artifacts in turns. A process of dlc-exec runs all of them, so that what
// disturbs the machine disturbs all; medians of ratios within rounds and their
// confidence by the binomial law need no assumption about how times spread.
#include "dlc/Driver/Turns.h"

#include "dlc/Driver/RunModel.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace dlc;
using llvm::ArrayRef;
using llvm::Expected;
using llvm::StringRef;

static double medianOf(std::vector<double> values) {
  llvm::sort(values);
  size_t half = values.size() / 2;
  return values.size() % 2 ? values[half]
                           : (values[half - 1] + values[half]) / 2;
}

/// The median is below the first and above the second in one of 100 cases each.
static std::pair<double, double> boundsOf(std::vector<double> values) {
  llvm::sort(values);
  double n = double(values.size());
  // The normal approximation of the binomial's quantile.
  auto skipped = ptrdiff_t(std::floor(n / 2 - 1.163 * std::sqrt(n) - 0.5));
  if (skipped < 0)
    return {0, INFINITY};
  return {values[skipped], values[values.size() - 1 - skipped]};
}

TurnResult dlc::judgeTurns(ArrayRef<Round> rounds) {
  TurnResult result;
  std::vector<double> plain, others, ratios, same;
  for (auto [first, other, copy] : rounds) {
    plain.push_back(std::sqrt(first * copy));
    others.push_back(other);
    ratios.push_back(plain.back() / other);
    same.push_back(first / copy);
  }
  if (rounds.empty())
    return result;
  result.plainSeconds = medianOf(plain);
  result.seconds = medianOf(others);
  result.ratio = medianOf(ratios);
  result.least = boundsOf(ratios).first;
  auto [low, high] = boundsOf(same);
  result.noise = std::max(high, 1 / low);
  return result;
}

std::string TurnResult::str() const {
  return llvm::formatv("{0:f3} ms, float32 {1:f3} ms in turns: {2:f2}x, at "
                       "least {3:f2}x; float32 twice: {4:f2}x at most",
                       seconds * 1e3, plainSeconds * 1e3, ratio, least, noise)
      .str();
}

static Expected<std::vector<Round>>
runRounds(const Artifact &plain, const Artifact &other, const Artifact &copy,
          ArrayRef<std::string> inputs, unsigned count) {
  Artifact::RunOptions options;
  options.bench = count;
  options.beside = {other.getPath().str(), copy.getPath().str()};
  Expected<std::string> text = plain.run(inputs, options);
  if (!text)
    return text.takeError();
  std::vector<Round> rounds;
  llvm::SmallVector<StringRef> lines;
  StringRef(*text).split(lines, '\n', -1, /*KeepEmpty=*/false);
  for (StringRef line : lines) {
    Round &round = rounds.emplace_back();
    llvm::SmallVector<StringRef> times;
    line.split(times, ' ', -1, /*KeepEmpty=*/false);
    bool isRead = times.size() == round.size();
    for (auto [word, seconds] : llvm::zip(times, round)) {
      double ns = 0;
      isRead &= !word.getAsDouble(ns) && ns > 0;
      seconds = ns * 1e-9;
    }
    if (!isRead)
      return makeError(ExitCode::Internal, "no times in '" + line + "'");
  }
  return rounds;
}

Expected<std::vector<Round>> dlc::runInTurns(const Artifact &plain,
                                             const Artifact &other,
                                             const Artifact &copy,
                                             ArrayRef<std::string> inputs,
                                             double seconds) {
  // How long a round takes; caches and pages are warm afterwards.
  auto first = runRounds(plain, other, copy, inputs, 1);
  if (!first || first->empty())
    return first;
  double turns = 0;
  for (double time : first->front())
    turns += std::max(time, 0.02); // a turn is no shorter
  double count = std::clamp(seconds / turns, 11.0, 61.0);
  return runRounds(plain, other, copy, inputs, unsigned(count));
}
