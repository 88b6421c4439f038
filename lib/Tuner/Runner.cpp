// The process that a candidate runs in. It loads candidate and reference by
// LLVM's linker, checks both and takes their times in turns. What it found lies
// in memory that it shares with its parent, so that a crash loses nothing said.
#include "dlc/Tuner/Runner.h"

#include "dlc/external.h"
#include "dlc/runtime.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <ctime>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace dlc::tuner;
using llvm::Error;

static constexpr unsigned kMostSamples = 64;
// What is far slower shows it in so many.
static constexpr unsigned kFewSamples = 3;
static constexpr unsigned kMostSizes = 16;
// Not a number in any float type.
static constexpr unsigned char kPattern = 0xff;

namespace {
/// What the child tells.
struct Report {
  std::atomic<int> isDone;
  int status; ///< a Status
  char reason[256];
  unsigned samples;
  double candidate[kMostSamples], reference[kMostSamples];
  unsigned sizes;
  double elsewhere[kMostSizes];
};

/// Memory between two pages that nobody may touch. It ends at the second, so
/// that what runs over the end by more than an alignment stops; guard bytes say
/// the rest.
class GuardedBuffer {
public:
  explicit GuardedBuffer(size_t bytes) : bytes(bytes) {
    constexpr size_t page = 4096;
    size_t room = (bytes + 2 * kGuard + 63) / 64 * 64;
    size_t pages = (room + page - 1) / page * page;
    char *base = static_cast<char *>(mmap(nullptr, pages + 2 * page,
                                          PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base == MAP_FAILED)
      return;
    mprotect(base, page, PROT_NONE);
    mprotect(base + page + pages, page, PROT_NONE);
    memory = base + page + pages - room;
    std::memset(memory, kPattern, room);
  }
  char *data() const { return memory ? memory + kGuard : nullptr; }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (static_cast<unsigned char>(memory[i]) != kPattern ||
          static_cast<unsigned char>(memory[kGuard + bytes + i]) != kPattern)
        return false;
    return true;
  }
  void poison() { std::memset(data(), kPattern, bytes); }

private:
  static constexpr size_t kGuard = 256;
  size_t bytes;
  char *memory = nullptr;
};

/// Threads that run the tasks of a phase; the caller is one. As in the run time
/// (lib/Runtime/Pool.c), each begins with its own part of the tasks and helps
/// the others then: what it reads and writes lies in its own core's cache from
/// run to run. Each has a CPU of its own, where there are so many: two that
/// wait for each other on one take ten times as long.
class Pool {
public:
  explicit Pool(unsigned count) : count(count), parts(count) {
    if (count > 1)
      cpus = findCpus();
    for (unsigned i = 1; i < count; ++i)
      std::thread([this, i] {
        pin(i);
        work(i);
      }).detach(); // the process ends first
    pin(0);
  }
  void run(dlc_task_fn task, const dlc_frame *frame, int64_t tasks) {
    if (count == 1) {
      for (int64_t i = 0; i < tasks; ++i)
        task(frame, i, 0);
      return;
    }
    this->task = task;
    this->frame = frame;
    for (unsigned i = 0; i < count; ++i) {
      parts[i].next.store(tasks * i / count);
      parts[i].end = tasks * (i + 1) / count;
    }
    busy.store(count - 1);
    phase.fetch_add(1);
    take(0);
    while (busy.load() != 0)
      std::this_thread::yield();
  }

private:
  static std::vector<int> findCpus() {
    std::vector<int> found;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
      for (int i = 0; i < CPU_SETSIZE; ++i)
        if (CPU_ISSET(i, &set))
          found.push_back(i);
    return found;
  }
  void pin(unsigned worker) const {
    if (cpus.size() < count)
      return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus[worker], &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  void take(unsigned worker) {
    for (unsigned k = 0; k < count; ++k) {
      Part &part = parts[(worker + k) % count];
      // Looks before it takes: a finished part's line then stays shared.
      while (part.next.load() < part.end)
        if (int64_t i = part.next.fetch_add(1); i < part.end)
          task(frame, i, worker);
    }
  }
  void work(unsigned worker) {
    for (unsigned seen = 0;;) {
      while (phase.load() == seen)
        std::this_thread::yield();
      seen = phase.load();
      take(worker);
      busy.fetch_sub(1);
    }
  }
  unsigned count;
  std::vector<int> cpus;
  dlc_task_fn task = nullptr;
  const dlc_frame *frame = nullptr;
  struct alignas(64) Part {
    std::atomic<int64_t> next = 0;
    int64_t end = 0;
  };
  std::vector<Part> parts;
  std::atomic<unsigned> busy = 0, phase = 0;
};

/// One loaded kernel with its buffers.
class Loaded {
public:
  /// Shares the buffers of `other` where both read and write the same bytes:
  /// which pages a buffer lies on makes up to a third of a kernel's time, and
  /// says nothing of the code.
  Loaded(const BuiltKernel &kernel, const Launch &launch,
         const Problem &problem, unsigned threads,
         const Loaded *other = nullptr)
      : symbols(problem.symbols) {
    for (size_t i = 0; i < problem.operands.size(); ++i) {
      auto packed = kernel.packed.find(unsigned(i));
      bool isPlain = packed == kernel.packed.end();
      plain.push_back(isPlain);
      if (isPlain && other && other->plain[i]) {
        buffers.push_back(other->buffers[i]);
        continue;
      }
      const std::string &bytes = isPlain ? problem.operands[i] : packed->second;
      buffers.push_back(std::make_shared<GuardedBuffer>(bytes.size()));
      std::memcpy(buffers.back()->data(), bytes.data(), bytes.size());
    }
    for (const ExpectedResult &result : problem.results)
      buffers.push_back(
          other ? other->buffers[buffers.size()]
                : std::make_shared<GuardedBuffer>(result.bytes.size()));
    int64_t stride = (launch.scratchBytes + 63) / 64 * 64;
    scratch.emplace(size_t(stride) * threads);
    for (auto &buffer : buffers)
      pointers.push_back(buffer->data());
    frame = {&status, scratch->data(), stride, pointers.data(), symbols.data()};
  }

  /// The code of `same`, with other sizes, is loaded once.
  Error load(const BuiltKernel &kernel, const Launch &launch,
             const Loaded *same) {
    if (same) {
      for (auto [phase, tasks] : llvm::zip_equal(same->phases, launch.tasks))
        phases.push_back({phase.first, tasks});
      return Error::success();
    }
    auto made = llvm::orc::LLJITBuilder().create();
    if (!made)
      return made.takeError();
    jit = std::move(*made);
    auto symbols =
        llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
            jit->getDataLayout().getGlobalPrefix());
    if (!symbols)
      return symbols.takeError();
    jit->getMainJITDylib().addGenerator(std::move(*symbols));
    // Hidden in this program, so that the search above does not find it.
    llvm::orc::SymbolMap runtime;
    runtime[jit->mangleAndIntern("dlc_external_run")] = {
        llvm::orc::ExecutorAddr::fromPtr(&dlc_external_run),
        llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable};
    if (Error error = jit->getMainJITDylib().define(
            llvm::orc::absoluteSymbols(std::move(runtime))))
      return error;
    if (Error error = jit->addObjectFile(
            llvm::MemoryBuffer::getMemBufferCopy(kernel.object, "candidate")))
      return error;
    for (auto [symbol, tasks] : llvm::zip_equal(kernel.phases, launch.tasks)) {
      auto address = jit->lookup(symbol);
      if (!address)
        return address.takeError();
      phases.push_back({address->toPtr<dlc_task_fn>(), tasks});
    }
    return Error::success();
  }

  void run(Pool &pool) {
    for (auto &[task, tasks] : phases)
      pool.run(task, &frame, tasks);
  }

  /// Runs it on poisoned results; empty when all is as it should be.
  std::string check(Pool &pool, const Problem &problem);
  /// The last run ended because a library has no such product.
  bool wasDeclined() const { return status == DLC_DATA_EXTERNAL; }

private:
  std::vector<std::shared_ptr<GuardedBuffer>> buffers;
  std::vector<bool> plain; ///< operands that are not packed
  std::optional<GuardedBuffer> scratch;
  std::vector<void *> pointers;
  std::vector<int64_t> symbols;
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::vector<std::pair<dlc_task_fn, int64_t>> phases;
  int32_t status = 0;
  dlc_frame frame;
};
} // namespace

static double toDouble(const char *bytes, size_t i, ElementKind kind) {
  auto get = [&]<typename T>(T value) {
    std::memcpy(&value, bytes + i * sizeof value, sizeof value);
    return value;
  };
  switch (kind) {
  case ElementKind::F64:
    return get(0.0);
  case ElementKind::F16: {
    uint32_t half = get(uint16_t(0)), exponent = half >> 10 & 31;
    double mantissa = half & 1023, sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31)
      return mantissa != 0 ? NAN : sign * INFINITY;
    return exponent ? sign * std::ldexp(1024 + mantissa, int(exponent) - 25)
                    : sign * std::ldexp(mantissa, -24);
  }
  case ElementKind::BF16: {
    uint32_t bits = uint32_t(get(uint16_t(0))) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  default:
    return get(0.f);
  }
}

static std::string compare(const char *actual, const ExpectedResult &expected,
                           size_t index) {
  std::string where = "result " + std::to_string(index);
  if (expected.kind == ElementKind::Bytes || expected.tolerance == 0)
    return std::memcmp(actual, expected.bytes.data(), expected.bytes.size())
               ? where + " differs from the interpreter's"
               : "";
  size_t width = expected.kind == ElementKind::F64   ? 8
                 : expected.kind == ElementKind::F32 ? 4
                                                     : 2;
  double largest = 0, worst = 0;
  for (size_t i = 0; i < expected.bytes.size() / width; ++i) {
    double a = toDouble(actual, i, expected.kind),
           b = toDouble(expected.bytes.data(), i, expected.kind);
    if ((std::isnan(a) && std::isnan(b)) || a == b) {
      if (std::isfinite(b))
        largest = std::max(largest, std::abs(b));
      continue;
    }
    if (!std::isfinite(a) || !std::isfinite(b))
      return where + " is not finite where the interpreter's is";
    largest = std::max(largest, std::abs(b));
    worst = std::max(worst, std::abs(a - b));
  }
  if (worst <= expected.tolerance * largest)
    return "";
  char text[128];
  std::snprintf(text, sizeof text,
                " differs from the interpreter's: max|a-b|/max|b| is %.2g",
                worst / largest);
  return where + text;
}

std::string Loaded::check(Pool &pool, const Problem &problem) {
  size_t operands = problem.operands.size();
  for (size_t i = operands; i < buffers.size(); ++i)
    buffers[i]->poison();
  scratch->poison();
  status = 0;
  run(pool);
  if (wasDeclined())
    return dlc_external_error();
  if (status != 0)
    return "the kernel reports an error in the data";
  for (size_t i = operands; i < buffers.size(); ++i) {
    std::string why = compare(buffers[i]->data(), problem.results[i - operands],
                              i - operands);
    if (!why.empty())
      return why;
  }
  for (auto &buffer : buffers)
    if (!buffer->intact())
      return "memory around a buffer was written";
  if (!scratch->intact())
    return "memory around the scratch was written";
  return "";
}

/// Of this thread while it computes, where one thread is measured: what others
/// take of the machine does not count.
static double nanoseconds(bool ofThread) {
  timespec time;
  clock_gettime(ofThread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

namespace {
/// Candidate and reference at the sizes of one problem.
struct Pair {
  Pair(const BuiltKernel &candidate, const BuiltKernel &reference, size_t i,
       const Problem &problem, unsigned threads)
      : problem(problem),
        mine(candidate, candidate.launches[i], problem, threads),
        other(reference, reference.launches[i], problem, threads, &mine) {}

  const Problem &problem;
  Loaded mine, other;
  unsigned repeats = 1, otherRepeats = 1;
};
} // namespace

static std::string describe(const Problem &problem) {
  std::string text;
  for (int64_t size : problem.symbols)
    text += (text.empty() ? " (sizes " : ", ") + std::to_string(size);
  return text.empty() ? text : text + ")";
}

static void runChild(const BuiltKernel &candidate, const BuiltKernel &reference,
                     const Problem &problem, const RunLimits &limits,
                     Report &report) {
  auto end = [&](Status status, const std::string &reason) {
    report.status = int(status);
    std::snprintf(report.reason, sizeof report.reason, "%s", reason.c_str());
    report.isDone.store(1);
    _exit(0);
  };
  unsigned threads = std::max(problem.threads, 1u);
  std::vector<const Problem *> problems{&problem};
  for (const Problem &other : problem.others)
    problems.push_back(&other);
  std::vector<std::unique_ptr<Pair>> pairs;
  for (auto [i, p] : llvm::enumerate(problems)) {
    Pair &pair = *pairs.emplace_back(
        std::make_unique<Pair>(candidate, reference, i, *p, threads));
    const Pair *first = i ? pairs[0].get() : nullptr;
    if (Error error = pair.mine.load(candidate, candidate.launches[i],
                                     first ? &first->mine : nullptr))
      end(Status::Compile, llvm::toString(std::move(error)));
    if (Error error = pair.other.load(reference, reference.launches[i],
                                      first ? &first->other : nullptr))
      end(Status::Crash, "the reference: " + llvm::toString(std::move(error)));
  }
  Pool pool(threads);
  auto checkAll = [&] {
    for (auto &pair : pairs)
      if (std::string why = pair->mine.check(pool, pair->problem); !why.empty())
        end(pair->mine.wasDeclined() ? Status::Compile : Status::Wrong,
            why + describe(pair->problem));
  };
  checkAll();

  bool ofThread = threads <= 1;
  auto time = [&](Loaded &kernel, unsigned repeats) {
    double start = nanoseconds(ofThread);
    for (unsigned i = 0; i < repeats; ++i)
      kernel.run(pool);
    return (nanoseconds(ofThread) - start) / repeats;
  };
  // Warm: until two runs agree, at most some.
  auto warm = [&](Loaded &kernel) {
    double last = time(kernel, 1), now = time(kernel, 1);
    for (int i = 0; i < 4 && std::abs(now - last) > 0.1 * last; ++i) {
      last = now;
      now = time(kernel, 1);
    }
    double wanted = limits.sampleSeconds * 1e9 / std::max(now, 1.0);
    return unsigned(std::clamp(std::ceil(wanted), 1.0, 1e6));
  };
  std::vector<Pair *> scored, others;
  for (auto &pair : pairs) {
    pair->repeats = warm(pair->mine);
    pair->otherRepeats = warm(pair->other);
    (pair->problem.isScored ? scored : others).push_back(pair.get());
  }
  unsigned samples = std::min(limits.samples, kMostSamples);
  auto fastest = [](const double *times, unsigned count) {
    return *std::min_element(times, times + count);
  };
  for (unsigned i = 0; i < samples; ++i) {
    double theirs = 1, mine = 1;
    for (Pair *pair : scored) {
      theirs *= time(pair->other, pair->otherRepeats);
      mine *= time(pair->mine, pair->repeats);
    }
    report.reference[i] = std::pow(theirs, 1.0 / double(scored.size()));
    report.candidate[i] = std::pow(mine, 1.0 / double(scored.size()));
    report.samples = i + 1;
    if (limits.hopeless > 0 && i + 1 >= kFewSamples &&
        fastest(report.candidate, i + 1) >
            limits.hopeless * fastest(report.reference, i + 1))
      break;
  }
  for (Pair *pair : others) {
    if (report.sizes == kMostSizes)
      break;
    double theirs[kMostSamples], mine[kMostSamples];
    for (unsigned i = 0; i < samples; ++i) {
      theirs[i] = time(pair->other, pair->otherRepeats);
      mine[i] = time(pair->mine, pair->repeats);
    }
    report.elsewhere[report.sizes++] =
        fastest(mine, samples) / fastest(theirs, samples);
  }
  checkAll(); // not only the first run is right
  end(Status::Ok, "");
}

static void limitProcess(const RunLimits &limits) {
  rlimit limit;
#if !__has_feature(address_sanitizer) // its shadow would count
  // The compiler's own memory counts; it is mapped, not used.
  limit = {rlim_t(limits.memory), rlim_t(limits.memory)};
  setrlimit(RLIMIT_DATA, &limit);
#endif
  limit = {0, 0};
  setrlimit(RLIMIT_CORE, &limit);
  limit = {0, 0}; // a candidate writes no files
  setrlimit(RLIMIT_FSIZE, &limit);
}

Measurement dlc::tuner::measure(const BuiltKernel &candidate,
                                const BuiltKernel &reference,
                                const Problem &problem,
                                const RunLimits &limits) {
  // What loads code in the other process.
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  Measurement result;
  result.clock = problem.threads <= 1 ? "thread_cpu" : "wall";
  void *shared = mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    result.reason = "no memory";
    return result;
  }
  auto *report = new (shared) Report();
  std::vector<std::string> reasons;
  // All threads' time counts.
  double seconds = std::ceil(limits.seconds) * std::max(problem.threads, 1u) *
                   double(1 + problem.others.size());
  runInProcesses(
      1, 1, seconds,
      [&](unsigned, std::string &) {
        limitProcess(limits);
        runChild(candidate, reference, problem, limits, *report);
        return false;
      },
      reasons);
  if (!report->isDone.load()) {
    bool late = reasons[0] == "took too long";
    result.status = late ? Status::Timeout : Status::Crash;
    result.reason = reasons[0].empty() ? "ended early" : reasons[0];
  } else {
    result.status = Status(report->status);
    result.reason = report->reason;
  }
  if (result.status == Status::Ok) {
    unsigned n = std::min(report->samples, kMostSamples);
    result.samples.assign(report->candidate, report->candidate + n);
    result.reference.assign(report->reference, report->reference + n);
    std::vector<double> sorted = result.reference;
    std::sort(sorted.begin(), sorted.end());
    result.drift = sorted[n / 2] / sorted[0] - 1;
    result.elsewhere.assign(report->elsewhere,
                            report->elsewhere + report->sizes);
  }
  munmap(shared, sizeof(Report));
  return result;
}

Measurement dlc::tuner::measureSteady(const BuiltKernel &candidate,
                                      const BuiltKernel &reference,
                                      const Problem &problem,
                                      const MeasureOptions &options) {
  Measurement best;
  for (unsigned i = 0; i <= options.retries; ++i) {
    Measurement next = measure(candidate, reference, problem, options.limits);
    // Of two that drift, the one that drifts less.
    if (i == 0 || next.status != Status::Ok || next.drift < best.drift)
      best = std::move(next);
    // What was given up early is slow, however the reference drifted.
    if (best.status != Status::Ok || best.drift <= options.mostDrift ||
        best.samples.size() < options.limits.samples)
      break;
  }
  return best;
}
