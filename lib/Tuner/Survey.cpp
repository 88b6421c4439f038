// Three searches of one kernel, and the best of all again.
#include "dlc/Tuner/Survey.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

Expected<SurveyResult> dlc::tuner::survey(const Task &task,
                                          const CostModel *base, Store *store,
                                          const SurveyOptions &options) {
  SurveyResult result;
  std::vector<Record> records;
  // The fastest of each schedule, by its ratio.
  std::map<std::string, double> ratios;
  std::unique_ptr<Tuner> last;
  for (auto [guide, budget] : {std::pair(Guide::Random, options.random),
                               std::pair(Guide::Evolution, options.evolution),
                               std::pair(Guide::Model, options.guided)}) {
    if (budget == 0)
      continue;
    TuneOptions tune = options.tune;
    tune.search.guide = guide;
    if (guide != Guide::Model) // to the end of the budget
      tune.search.quietRounds = ~0u;
    if (guide == Guide::Random) // no round waits for another
      tune.search.batch = 32;
    auto made = Tuner::create(task, base, store, tune);
    if (!made)
      return made.takeError();
    last = std::move(*made);
    for (unsigned spent = 0; spent < budget;) {
      Expected<bool> more = last->step(budget - spent);
      if (!more)
        return more.takeError();
      spent = last->getRecords().size();
      if (!*more)
        break;
    }
    records.insert(records.end(), last->getRecords().begin(),
                   last->getRecords().end());
  }
  if (!last)
    return llvm::createStringError("a survey without trials");
  for (const Record &record : records) {
    result.failed += record.status != Status::Ok;
    auto [it, isNew] = ratios.try_emplace(record.schedule, 1e300);
    if (record.status == Status::Ok && !record.isDefault)
      it->second = std::min(it->second, record.ratio());
  }
  result.trials = records.size();
  result.schedules = ratios.size();
  std::vector<std::pair<double, std::string>> order;
  for (auto &[schedule, ratio] : ratios)
    if (ratio < 1e300)
      order.push_back({ratio, schedule});
  llvm::sort(order);
  std::vector<KnobValues> fastest;
  for (auto &[ratio, schedule] : order) {
    if (fastest.size() >= options.again)
      break;
    Expected<KnobValues> knobs = parseKnobs(schedule);
    if (!knobs)
      return knobs.takeError();
    fastest.push_back(std::move(*knobs));
  }
  if (Error error = last->measureAgain(fastest))
    return std::move(error);
  for (const Record &record : last->getRecords())
    if (record.attempt > 0 && record.status == Status::Ok)
      result.best = std::min(result.best, record.ratio());
  return result;
}
