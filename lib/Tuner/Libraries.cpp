// Libraries beside our nests.
#include "dlc/Tuner/Libraries.h"

#include "dlc/Tuner/CudaFeatures.h"
#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Runner.h"
#include "dlc/external.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"

#include <algorithm>
#include <cmath>
#include <map>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;

int64_t dlc::tuner::findLibrary(std::string &reason) {
  std::vector<std::string> reasons;
  auto texts = runInProcesses(
      1, 1, /*seconds=*/20,
      [](unsigned, std::string &out) {
        char why[512] = "";
        int64_t version = dlc_external_version(why, sizeof why);
        out = version ? std::to_string(version) : why;
        return true;
      },
      reasons);
  if (!texts[0]) {
    reason = "oneDNN cannot be opened: the process " + reasons[0];
    return 0;
  }
  int64_t version = 0;
  if (llvm::StringRef(*texts[0]).getAsInteger(10, version) || version <= 0) {
    reason = *texts[0];
    return 0;
  }
  return version;
}

/// "oneDNN 3.2.1" of a schedule that says {"onednn": 30201}.
static std::string nameOf(const Record &record) {
  Expected<KnobValues> knobs = parseKnobs(record.schedule);
  if (!knobs) {
    llvm::consumeError(knobs.takeError());
    return "a library";
  }
  static constexpr std::pair<const char *, const char *> kNames[] = {
      {"onednn", "oneDNN "}, {"cublas", "cuBLAS "}, {"cudnn", "cuDNN "}};
  for (auto [knob, name] : kNames)
    if (auto it = knobs->find(knob); it != knobs->end())
      return name + std::to_string(it->second / 10000) + "." +
             std::to_string(it->second / 100 % 100) + "." +
             std::to_string(it->second % 100);
  return "a library";
}

Expected<Gaps> dlc::tuner::findGaps(llvm::ArrayRef<Record> records,
                                    double margin) {
  struct Trials {
    std::vector<Record> ours, library;
  };
  std::map<std::pair<std::string, std::string>, Trials> kernels;
  for (const Record &record : records) {
    Trials &trials = kernels[{record.target, record.workload}];
    (record.usesLibrary() ? trials.library : trials.ours).push_back(record);
  }
  Gaps found;
  double sum = 0;
  constexpr double any = -1e9; // however slow
  for (auto &[key, trials] : kernels) {
    auto library =
        findBest(trials.library, {.margin = any, .takesLibraries = true});
    if (!library)
      continue;
    // The default is our nests', too.
    auto best = findBest(trials.ours, {.margin = 0});
    auto time = [](const Record &r) {
      return std::max(r.ratio(), r.medianRatio());
    };
    double ours = (best ? std::min(1.0, time(*best)) : 1) / time(*library);
    ++found.compared;
    sum += std::log(ours);
    if (ours <= 1 + margin)
      continue;
    Expected<MachineLabel> machine = labelOf(key.first);
    if (!machine)
      return machine.takeError();
    Expected<Scorer> scorer = Scorer::create(key.second, key.first);
    if (!scorer)
      return scorer.takeError();
    found.gaps.push_back({scorer->name, machine->name, nameOf(*library), ours,
                          *llvm::min_element(library->samples) * 1e-9});
  }
  if (found.compared)
    found.mean = std::exp(sum / found.compared);
  llvm::sort(found.gaps, [](const Gap &a, const Gap &b) {
    return std::pair(b.ours, a.kernel) < std::pair(a.ours, b.kernel);
  });
  return found;
}
