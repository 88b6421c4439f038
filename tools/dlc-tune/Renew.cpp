// renew: records of an older dlc get the workload that this one writes. What a
// record says of its kernel is computed from the kernel again, which is found
// by the SHA-256 of its text among those of the models that are given; and of
// schedules that are the same code, the one that stands for all.
#include "Settings.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/FormedKernels.h"
#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Record.h"
#include "dlc/Tuner/Shipped.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <map>
#include <nlohmann/json.hpp>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using Json = nlohmann::json;

/// What decides about a workload besides the kernel: who is described as for
/// another vector or another number of threads is another workload.
static std::string identityOf(StringRef workload, StringRef target) {
  Json w = Json::parse(workload.begin(), workload.end(), nullptr, false);
  Json t = Json::parse(target.begin(), target.end(), nullptr, false);
  if (!w.is_object() || !t.is_object())
    return "";
  Json identity = Json::array();
  for (const char *field : {"kernel", "nest", "threads", "strict"})
    identity.push_back(w.value(field, Json()));
  for (const char *field : {"arch", "cpu", "vector_bytes", "vector_registers"})
    identity.push_back(t.value(field, Json()));
  return identity.dump();
}

/// `records` are of `kernel`: says of them what this dlc would. Returns how
/// many said something else.
static Expected<unsigned> renew(llvm::ArrayRef<Record *> records,
                                const FormedKernel &kernel,
                                const KernelKey &key, const CpuTarget &target) {
  unsigned renewed = 0;
  std::map<std::string, std::string> schedules; // by what they were
  for (Record *record : records) {
    std::string &schedule = schedules[record->schedule];
    if (record->usesLibrary())
      schedule = record->schedule;
    if (schedule.empty()) {
      Expected<KnobValues> knobs = parseKnobs(record->schedule);
      if (!knobs)
        return knobs.takeError();
      schedule = scheduleJson(
          key.nest, representFor(kernel.op, *knobs, target, kernel.options));
    }
    renewed += record->workload != key.workload || record->schedule != schedule;
    record->workload = key.workload;
    record->schedule = schedule;
  }
  return renewed;
}

Error dlc::runRenew(const TuneSettings &s) {
  if (s.output.empty())
    return usage("renew: -o <records.jsonl> is missing");
  std::vector<Record> records;
  std::vector<std::string> models;
  for (const std::string &path : s.inputs) {
    bool isFolder = llvm::sys::fs::is_directory(path);
    if (!isFolder && !StringRef(path).ends_with(".jsonl")) {
      models.push_back(path);
      continue;
    }
    auto some = isFolder ? readFolder(path) : readJsonLines(path);
    if (!some)
      return some.takeError();
    records.insert(records.end(), some->begin(), some->end());
  }
  std::map<std::string, std::vector<Record *>> known; // by identity
  for (Record &record : records)
    known[identityOf(record.workload, record.target)].push_back(&record);
  unsigned renewed = 0;
  for (const std::string &path : models) {
    CompileOptions compile;
    compile.input = path;
    compile.target = s.target;
    compile.quiet = true;
    Expected<FormedKernels> formed = formModelKernels(compile);
    if (!formed)
      return formed.takeError();
    for (FormedKernel &kernel : formed->kernels) {
      std::string reason;
      auto key =
          makeKernelKey(kernel.op, *formed->target, kernel.options, reason);
      if (mlir::failed(key))
        continue;
      auto it = known.find(identityOf(key->workload, key->target));
      if (it == known.end())
        continue;
      auto count = renew(it->second, kernel, *key, *formed->target);
      if (!count)
        return count.takeError();
      renewed += *count;
      known.erase(it); // others are like it
    }
  }
  if (Error error = writeJsonLines(std::move(records), s.output))
    return error;
  llvm::outs() << s.output << ": " << renewed << " records renewed\n";
  return Error::success();
}
