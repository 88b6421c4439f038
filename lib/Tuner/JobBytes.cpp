// Kernels and jobs as bytes: lengths and contents one after the other.
#include "dlc/Tuner/Fleet.h"

#include "llvm/Support/Endian.h"

#include <cstring>
#include <nlohmann/json.hpp>

using namespace dlc::tuner;
using llvm::Expected;
using llvm::StringRef;
using Json = nlohmann::json;

static constexpr StringRef kMagic = "dlc job 3\n";

namespace {
struct Writer {
  std::string out;

  void operator()(uint64_t value) {
    char bytes[8];
    llvm::support::endian::write64le(bytes, value);
    out.append(bytes, 8);
  }
  void operator()(int64_t value) { (*this)(uint64_t(value)); }
  void operator()(unsigned value) { (*this)(uint64_t(value)); }
  void operator()(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    (*this)(bits);
  }
  void operator()(const std::string &text) {
    (*this)(uint64_t(text.size()));
    out += text;
  }
  void operator()(const std::vector<int64_t> &numbers) {
    (*this)(uint64_t(numbers.size()));
    for (int64_t number : numbers)
      (*this)(number);
  }
};

/// Reads what a Writer wrote; past the end everything is 0 or empty, and
/// `isGood` is false.
struct Reader {
  StringRef in;
  bool isGood = true;

  uint64_t number() {
    if (in.size() < 8) {
      isGood = false;
      in = "";
      return 0;
    }
    uint64_t value = llvm::support::endian::read64le(in.data());
    in = in.drop_front(8);
    return value;
  }
  void operator()(uint64_t &value) { value = number(); }
  void operator()(int64_t &value) { value = int64_t(number()); }
  void operator()(unsigned &value) { value = unsigned(number()); }
  void operator()(double &value) {
    uint64_t bits = number();
    std::memcpy(&value, &bits, 8);
  }
  void operator()(std::string &text) {
    uint64_t size = number();
    if (size > in.size()) {
      isGood = false;
      size = 0;
    }
    text = in.take_front(size).str();
    in = in.drop_front(size);
  }
  void operator()(std::vector<int64_t> &numbers) {
    numbers.resize(count());
    for (int64_t &number : numbers)
      (*this)(number);
  }
  /// How many entries follow, each of at least 8 bytes.
  uint64_t count() {
    uint64_t n = number();
    if (n > in.size() / 8) {
      isGood = false;
      n = 0;
    }
    return n;
  }
};
} // namespace

static void write(Writer &put, const BuiltKernel &kernel) {
  put(kernel.object);
  put(kernel.manifest);
  put(uint64_t(kernel.phases.size()));
  for (const std::string &symbol : kernel.phases)
    put(symbol);
  put(uint64_t(kernel.launches.size()));
  for (const Launch &launch : kernel.launches) {
    put(launch.tasks);
    put(launch.scratchBytes);
  }
  put(kernel.staticSeconds);
  put(uint64_t(kernel.packed.size()));
  for (auto &[operand, bytes] : kernel.packed) {
    put(operand);
    put(bytes);
  }
}

static void read(Reader &get, BuiltKernel &kernel) {
  get(kernel.object);
  get(kernel.manifest);
  kernel.phases.resize(get.count());
  for (std::string &symbol : kernel.phases)
    get(symbol);
  kernel.launches.resize(get.count());
  for (Launch &launch : kernel.launches) {
    get(launch.tasks);
    get(launch.scratchBytes);
  }
  get(kernel.staticSeconds);
  for (uint64_t n = get.count(); n-- > 0;) {
    unsigned operand = 0;
    get(operand);
    get(kernel.packed[operand]);
  }
}

static void write(Writer &put, const Problem &problem) {
  put(uint64_t(problem.operands.size()));
  for (const std::string &operand : problem.operands)
    put(operand);
  put(uint64_t(problem.results.size()));
  for (const ExpectedResult &result : problem.results) {
    put(result.bytes);
    put(unsigned(result.kind));
    put(result.tolerance);
  }
  put(problem.threads);
  put(problem.symbols);
  put(unsigned(problem.isScored));
}

static void read(Reader &get, Problem &problem) {
  problem.operands.resize(get.count());
  for (std::string &operand : problem.operands)
    get(operand);
  problem.results.resize(get.count());
  for (ExpectedResult &result : problem.results) {
    unsigned kind = 0;
    get(result.bytes);
    get(kind);
    get(result.tolerance);
    result.kind = ElementKind(kind);
    get.isGood &= kind <= unsigned(ElementKind::Bytes);
  }
  get(problem.threads);
  get(problem.symbols);
  unsigned isScored = 0;
  get(isScored);
  problem.isScored = isScored;
}

std::string dlc::tuner::kernelToBytes(const BuiltKernel &kernel) {
  Writer put;
  write(put, kernel);
  return std::move(put.out);
}

BuiltKernel dlc::tuner::kernelFromBytes(StringRef bytes) {
  Reader get{bytes};
  BuiltKernel kernel;
  read(get, kernel);
  return kernel;
}

std::string Job::toBytes() const {
  Writer put;
  put.out = kMagic.str();
  put(cpu);
  write(put, candidate);
  write(put, reference);
  write(put, problem);
  put(uint64_t(problem.others.size()));
  for (const Problem &other : problem.others)
    write(put, other);
  put(options.limits.samples);
  put(options.limits.sampleSeconds);
  put(options.limits.seconds);
  put(options.limits.memory);
  put(options.limits.hopeless);
  put(options.mostDrift);
  put(options.retries);
  return std::move(put.out);
}

Expected<Job> Job::parse(StringRef bytes) {
  auto fail = [] {
    return llvm::createStringError("the job is none of this version of dlc");
  };
  if (!bytes.consume_front(kMagic))
    return fail();
  Reader get{bytes};
  Job job;
  get(job.cpu);
  read(get, job.candidate);
  read(get, job.reference);
  read(get, job.problem);
  job.problem.others.resize(get.count());
  for (Problem &other : job.problem.others)
    read(get, other);
  // One launch a problem, of every phase.
  for (const BuiltKernel *kernel : {&job.candidate, &job.reference}) {
    get.isGood &= kernel->launches.size() == 1 + job.problem.others.size();
    for (const Launch &launch : kernel->launches)
      get.isGood &= launch.tasks.size() == kernel->phases.size();
  }
  get(job.options.limits.samples);
  get(job.options.limits.sampleSeconds);
  get(job.options.limits.seconds);
  get(job.options.limits.memory);
  get(job.options.limits.hopeless);
  get(job.options.mostDrift);
  get(job.options.retries);
  if (!get.isGood || !get.in.empty())
    return fail();
  return job;
}

std::string dlc::tuner::toJson(const Measurement &m) {
  return Json({{"status", toString(m.status).str()},
               {"reason", m.reason},
               {"samples_ns", m.samples},
               {"reference_ns", m.reference},
               {"elsewhere", m.elsewhere},
               {"clock", m.clock},
               {"drift", m.drift}})
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Expected<Measurement> dlc::tuner::parseMeasurement(StringRef text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  try {
    Measurement m;
    auto status = parseStatus(json.at("status").get<std::string>());
    if (!status)
      throw std::invalid_argument("status");
    m.status = *status;
    m.reason = json.at("reason").get<std::string>();
    m.samples = json.at("samples_ns").get<std::vector<double>>();
    m.reference = json.at("reference_ns").get<std::vector<double>>();
    m.elsewhere = json.at("elsewhere").get<std::vector<double>>();
    m.clock = json.at("clock").get<std::string>();
    m.drift = json.at("drift").get<double>();
    if (m.status == Status::Ok && (m.samples.empty() || m.reference.empty()))
      throw std::invalid_argument("samples");
    return m;
  } catch (const std::exception &) {
    return llvm::createStringError("a worker's answer is no measurement: " +
                                   text.take_front(80));
  }
}
