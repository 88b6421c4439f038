// Records, their keys and their JSON lines.
#include "dlc/Tuner/Record.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using Json = nlohmann::json; // objects are sorted by key

static constexpr std::pair<Status, const char *> kStatuses[] = {
    {Status::Ok, "ok"},
    {Status::Compile, "compile"},
    {Status::Wrong, "wrong"},
    {Status::Timeout, "timeout"},
    {Status::Crash, "crash"}};

StringRef dlc::tuner::toString(Status status) {
  return llvm::find_if(kStatuses, [&](auto &s) { return s.first == status; })
      ->second;
}
std::optional<Status> dlc::tuner::parseStatus(StringRef text) {
  for (auto &[status, name] : kStatuses)
    if (text == name)
      return status;
  return std::nullopt;
}

int dlc::tuner::codegenVersionOf(StringRef workload, StringRef target) {
  if (target.contains("\"arch\":\"cuda\""))
    return kCudaCodegenVersion;
  // Canonical JSON: these texts are the fields.
  if (workload.contains("\"window\":true"))
    return 4; // few tasks a thread
  if (workload.contains("\"nest\":\"contraction\""))
    return 5; // images and left factors that are read where they lie
  if (workload.contains("\"nest\":\"attention\""))
    return 3; // one vector of queries where two are wasted
  if (workload.contains("\"nest\":\"row\""))
    return 4; // kept rows lie in the result, few tasks a thread
  return 3;   // maps: few tasks a thread
}

static Error invalid(const Twine &text) {
  return llvm::createStringError("record: " + text);
}

std::string dlc::tuner::sha256(StringRef text) {
  return llvm::toHex(llvm::SHA256::hash(llvm::arrayRefFromStringRef(text)),
                     /*LowerCase=*/true);
}

Expected<std::string> dlc::tuner::canonicalJson(StringRef text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object())
    return invalid("'" + text.take_front(40) + "' is no JSON object");
  return json.dump();
}

bool Record::usesLibrary() const {
  return StringRef(schedule).contains("\"nest\":\"library\"");
}

std::string Record::key() const {
  return sha256(target + "\n" + workload + "\n" + schedule + "\n" + run + "\n" +
                std::to_string(attempt));
}

double Record::ratio() const {
  return *std::min_element(samples.begin(), samples.end()) /
         *std::min_element(reference.begin(), reference.end());
}

double Record::medianRatio() const {
  auto median = [](std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  return median(samples) / median(reference);
}

double Record::lossElsewhere() const {
  constexpr double noise = 1.05;
  double worst = 0;
  for (double ratio : elsewhere)
    worst = std::max(worst, ratio);
  return worst > noise ? worst : 0;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

std::string Record::toJson() const {
  Json trial = {{"status", toString(status).str()},
                {"run", run},
                {"round", round},
                {"attempt", attempt},
                {"seed", seed},
                {"codegen", codegen},
                {"compiler", compiler},
                {"utc", utc}};
  if (isDefault)
    trial["default"] = true;
  if (!reason.empty())
    trial["reason"] = reason;
  if (!samples.empty()) {
    trial["samples_ns"] = samples;
    trial["reference_ns"] = reference;
    trial["clock"] = clock;
    trial["drift"] = std::round(drift * 1e4) / 1e4;
  }
  if (!elsewhere.empty())
    trial["elsewhere"] = elsewhere;
  // A reason may quote anything.
  return Json({{"schema_version", kSchemaVersion},
               {"target", Json::parse(target)},
               {"workload", Json::parse(workload)},
               {"schedule", Json::parse(schedule)},
               {"trial", trial}})
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Reads one field of a type, or says which is wrong.
template <typename T>
static Error readField(const Json &object, const char *name, T &value,
                       bool isOptional = false) {
  auto it = object.find(name);
  if (it == object.end())
    return isOptional ? Error::success()
                      : invalid("field '" + Twine(name) + "' is missing");
  bool fits = std::is_same_v<T, std::string> ? it->is_string()
              : std::is_same_v<T, bool>      ? it->is_boolean()
              : std::is_floating_point_v<T>  ? it->is_number()
              : std::is_unsigned_v<T>        ? it->is_number_unsigned()
              : std::is_integral_v<T>        ? it->is_number_integer()
                                             : it->is_array();
  if constexpr (std::is_same_v<T, std::vector<double>>)
    for (const Json &entry : *it)
      fits &= entry.is_number() && entry.get<double>() > 0;
  if (!fits)
    return invalid("field '" + Twine(name) + "' has no such value");
  value = it->template get<T>();
  return Error::success();
}

Expected<Record> Record::parseJson(StringRef line) {
  Json json = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!json.is_object())
    return invalid("expected a line with one JSON object");
  int version = 0;
  if (Error error = readField(json, "schema_version", version))
    return std::move(error);
  if (version != kSchemaVersion)
    return invalid("has schema version " + Twine(version) +
                   ", this dlc reads version " + Twine(kSchemaVersion));
  Record record;
  for (auto [name, text] : {std::pair("target", &record.target),
                            std::pair("workload", &record.workload),
                            std::pair("schedule", &record.schedule)}) {
    auto it = json.find(name);
    if (it == json.end() || !it->is_object())
      return invalid("field '" + Twine(name) + "' is no object");
    *text = it->dump();
  }
  auto trial = json.find("trial");
  if (trial == json.end() || !trial->is_object())
    return invalid("field 'trial' is no object");
  std::string status;
  Error error = Error::success();
  auto read = [&](const char *name, auto &value, bool isOptional = false) {
    if (!error)
      error = readField(*trial, name, value, isOptional);
  };
  read("status", status);
  read("run", record.run);
  read("round", record.round);
  read("attempt", record.attempt);
  read("seed", record.seed);
  read("codegen", record.codegen);
  read("compiler", record.compiler);
  read("utc", record.utc);
  read("default", record.isDefault, true);
  read("reason", record.reason, true);
  read("samples_ns", record.samples, true);
  read("reference_ns", record.reference, true);
  read("clock", record.clock, true);
  read("drift", record.drift, true);
  read("elsewhere", record.elsewhere, true);
  if (error)
    return std::move(error);
  auto parsed = parseStatus(status);
  if (!parsed)
    return invalid("'" + Twine(status) + "' is no status");
  record.status = *parsed;
  if (record.status == Status::Ok &&
      (record.samples.empty() || record.reference.empty()))
    return invalid("a trial that is ok has no times");
  return record;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

Expected<std::vector<Record>> dlc::tuner::readJsonLines(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError(path + ": " + buffer.getError().message());
  std::vector<Record> records;
  llvm::SmallVector<StringRef> lines;
  (*buffer)->getBuffer().split(lines, '\n');
  for (auto [i, line] : llvm::enumerate(lines)) {
    if (line.trim().empty())
      continue;
    Expected<Record> record = Record::parseJson(line);
    if (!record)
      return llvm::createStringError(path + ":" + Twine(i + 1) + ": " +
                                     llvm::toString(record.takeError()));
    records.push_back(std::move(*record));
  }
  return records;
}

Error dlc::tuner::writeJsonLines(std::vector<Record> records, StringRef path) {
  std::map<std::string, const Record *> byKey;
  for (const Record &record : records)
    byKey.emplace(record.key(), &record);
  return llvm::writeToOutput(path, [&](llvm::raw_ostream &os) -> Error {
    for (auto &[key, record] : byKey)
      os << record->toJson() << "\n";
    return Error::success();
  });
}

//===----------------------------------------------------------------------===//
// Lookup
//===----------------------------------------------------------------------===//

/// The same code takes as long, up to the clock's changes.
static constexpr double kDisturbed = 1.3;

static double fastestReference(const Record &record) {
  return *llvm::min_element(record.reference);
}

std::vector<const Record *>
dlc::tuner::withoutDisturbed(llvm::ArrayRef<Record> records) {
  std::map<std::tuple<StringRef, StringRef, StringRef, int>,
           std::vector<double>>
      byRun;
  auto timesOf = [&](const Record &r) -> std::vector<double> & {
    return byRun[{r.target, r.workload, r.run, r.codegen}];
  };
  for (const Record &record : records)
    if (record.status == Status::Ok)
      timesOf(record).push_back(fastestReference(record));
  for (auto &[run, times] : byRun)
    llvm::sort(times);
  std::vector<const Record *> kept;
  for (const Record &record : records) {
    if (record.status == Status::Ok) {
      const std::vector<double> &times = timesOf(record);
      if (fastestReference(record) > kDisturbed * times[times.size() / 2])
        continue;
    }
    kept.push_back(&record);
  }
  return kept;
}

std::optional<Record> dlc::tuner::findBest(llvm::ArrayRef<Record> records,
                                           const BestOptions &options) {
  auto isCurrent = [&](const Record &record) {
    return record.isCurrent() &&
           (options.takesLibraries || !record.usesLibrary());
  };
  // A schedule that was ever wrong, hung or crashed is none, whatever its time.
  std::set<std::string> failed;
  for (const Record &record : records)
    if (isCurrent(record) && record.status != Status::Ok)
      failed.insert(record.schedule);
  unsigned attempt = 0;
  bool isMeasured = false;
  for (const Record &record : records)
    if (isCurrent(record) && !failed.count(record.schedule)) {
      attempt = std::max(attempt, record.attempt);
      isMeasured |= record.status == Status::Ok && record.clock != kStaticClock;
    }
  double margin = isMeasured ? options.margin : std::max(options.margin, 0.1);
  // Of a schedule's measurements the slowest counts, and of its fastest and its
  // median sample the worse: times are too good by chance where many were
  // taken.
  std::map<std::string, std::pair<double, const Record *>> slowest;
  for (const Record *calm : withoutDisturbed(records)) {
    const Record &record = *calm;
    if (record.status != Status::Ok || !isCurrent(record) ||
        record.attempt < attempt || failed.count(record.schedule) ||
        (record.clock == kStaticClock &&
         (isMeasured || !options.takesEstimates)))
      continue;
    double ratio = std::max(record.worstRatio(), record.medianRatio());
    auto [it, isNew] = slowest.try_emplace(record.schedule, ratio, &record);
    if (!isNew && ratio > it->second.first)
      it->second = {ratio, &record};
  }
  std::pair<double, const Record *> best(1 - margin, nullptr);
  for (auto &[schedule, entry] : slowest)
    if (entry.first < best.first)
      best = entry;
  return best.second ? std::optional(*best.second) : std::nullopt;
}
