// Neighbours of a workload, and their best schedules.
#include "dlc/Tuner/Experience.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;

/// How unlike two kernels on their machines are. Features are logarithms and
/// shares, so that they are comparable; one alone does not decide.
static double distance(llvm::ArrayRef<float> a, llvm::ArrayRef<float> b) {
  double sum = 0;
  for (auto [x, y] : llvm::zip_equal(a, b))
    sum += std::min(4.0, std::abs(double(x) - double(y)));
  return sum;
}

std::vector<KnobValues>
dlc::tuner::findExperience(llvm::ArrayRef<Record> records,
                           llvm::StringRef workload, llvm::StringRef target,
                           unsigned neighbours, unsigned schedules) {
  Expected<Scorer> mine = Scorer::create(workload, target);
  if (!mine) {
    llvm::consumeError(mine.takeError());
    return {};
  }
  // Without knobs a scorer's features are those of the kernel on its machine
  // under one schedule.
  std::vector<float> here = mine->features({});
  std::map<std::pair<std::string, std::string>, std::vector<const Record *>>
      groups;
  for (const Record &record : records)
    if (record.status == Status::Ok && !record.usesLibrary())
      groups[{record.target, record.workload}].push_back(&record);
  std::vector<std::pair<double, std::vector<const Record *>>> near;
  for (auto &[key, trials] : groups) {
    Expected<Scorer> other = Scorer::create(key.second, key.first);
    if (!other) {
      llvm::consumeError(other.takeError());
      continue;
    }
    if (other->kind == mine->kind)
      near.push_back({distance(here, other->features({})), trials});
  }
  // Ties are broken by the order of the keys.
  std::vector<unsigned> nearest(near.size());
  std::iota(nearest.begin(), nearest.end(), 0);
  llvm::sort(nearest, [&](unsigned a, unsigned b) {
    return std::pair(near[a].first, a) < std::pair(near[b].first, b);
  });
  std::vector<KnobValues> found;
  for (unsigned i : llvm::ArrayRef(nearest).take_front(
           std::min<size_t>(neighbours, nearest.size()))) {
    std::vector<std::pair<double, std::string>> order;
    for (const Record *record : near[i].second)
      order.push_back({std::max(record->worstRatio(), record->medianRatio()),
                       record->schedule});
    llvm::sort(order);
    unsigned taken = 0;
    for (auto &[ratio, schedule] : order) {
      if (taken >= schedules || ratio >= 1)
        break;
      Expected<KnobValues> knobs = parseKnobs(schedule);
      if (!knobs) {
        llvm::consumeError(knobs.takeError());
        continue;
      }
      if (llvm::is_contained(found, *knobs))
        continue;
      found.push_back(std::move(*knobs));
      ++taken;
    }
  }
  return found;
}
