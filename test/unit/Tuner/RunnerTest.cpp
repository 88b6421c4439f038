// Candidates that are good, wrong, slow to end or deadly. The code is made from
// LLVM's text form: what is planted here no schedule would make.
#include "TunerTestUtils.h"

#include "dlc/Target/Targets.h"
#include "dlc/Tuner/Fleet.h"
#include "dlc/Tuner/Survey.h"
#include "dlc/Tuner/Tune.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/TargetParser/Host.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

namespace {
/// `out[i] = in[i] * 2` for 64 floats, with `body` after it. %out is the
/// result's address.
BuiltKernel makeKernel(const std::string &body, const char *factor = "2.0") {
  initializeCpuBackends();
  std::string text = R"(
define void @k(ptr %frame, i64 %task, i64 %worker) {
entry:
  %slot = getelementptr i8, ptr %frame, i64 24
  %buffers = load ptr, ptr %slot
  %in = load ptr, ptr %buffers
  %second = getelementptr i8, ptr %buffers, i64 8
  %out = load ptr, ptr %second
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %from = getelementptr float, ptr %in, i64 %i
  %x = load volatile float, ptr %from
  %y = fmul float %x, FACTOR
  %to = getelementptr float, ptr %out, i64 %i
  store float %y, ptr %to
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, 64
  br i1 %more, label %loop, label %done
done:
)" + body + "\n  ret void\n}\n";
  text.replace(text.find("FACTOR"), 6, factor);
  llvm::LLVMContext context;
  llvm::SMDiagnostic problem;
  auto module = llvm::parseAssemblyString(text, problem, context);
  EXPECT_TRUE(module) << problem.getMessage().str();
  CpuTarget target = llvm::cantFail(parseCpuTarget("host:threads=1"));
  auto object = target.emitObject(*module);
  EXPECT_TRUE(bool(object));
  BuiltKernel kernel;
  kernel.object.assign(object->begin(), object->end());
  kernel.phases = {"k"};
  kernel.launches = {{{1}, 0}};
  return kernel;
}

Problem makeProblem() {
  Problem problem;
  std::vector<float> in(64), out(64);
  for (int i = 0; i < 64; ++i) {
    in[i] = float(i) - 20;
    out[i] = 2 * in[i];
  }
  auto bytes = [](const std::vector<float> &values) {
    return std::string(reinterpret_cast<const char *>(values.data()),
                       values.size() * 4);
  };
  problem.operands = {bytes(in)};
  problem.results = {{bytes(out), ElementKind::F32, 1e-4}};
  return problem;
}

RunLimits quickLimits() {
  RunLimits limits;
  limits.seconds = 1;
  return limits;
}

const char *kHang =
    "  br label %hang\nhang:\n  store volatile i32 0, ptr %out\n"
    "  br label %hang\nnever:";
const char *kCrash = "  store volatile i32 0, ptr null";
} // namespace

TEST(Runner, MeasuresGoodOnes) {
  BuiltKernel kernel = makeKernel("");
  Measurement m = measure(kernel, kernel, makeProblem(), quickLimits());
  EXPECT_EQ(m.status, Status::Ok) << m.reason;
  EXPECT_EQ(m.samples.size(), quickLimits().samples);
  EXPECT_EQ(m.reference.size(), m.samples.size());
  EXPECT_EQ(m.clock, "thread_cpu");
  for (double ns : m.samples)
    EXPECT_GT(ns, 0);
}

TEST(Runner, RunsTasksOnThreads) {
  BuiltKernel kernel = makeKernel("");
  kernel.launches[0].tasks = {7}; // each does all: the same result
  Problem problem = makeProblem();
  problem.threads = 2;
  // Threads that wait for each other on a busy machine spend CPU time.
  Measurement m = measure(kernel, kernel, problem, RunLimits());
  EXPECT_EQ(m.status, Status::Ok) << m.reason;
  EXPECT_EQ(m.clock, "wall");
}

// A candidate far slower than the reference has few samples; one that is not
// has all of them.
TEST(Runner, GivesUpOnSlowOnes) {
  BuiltKernel reference = makeKernel(""), slow = reference;
  reference.launches[0].tasks = {400};
  slow.launches[0].tasks = {4000};
  RunLimits limits = quickLimits();
  limits.hopeless = 3;
  Measurement m = measure(slow, reference, makeProblem(), limits);
  EXPECT_EQ(m.status, Status::Ok) << m.reason;
  EXPECT_EQ(m.samples.size(), 3u);
  EXPECT_EQ(m.reference.size(), 3u);
  m = measure(reference, slow, makeProblem(), limits);
  EXPECT_EQ(m.samples.size(), limits.samples);
}

// Sizes that are scored count together, the others tell where it is slower.
TEST(Runner, MeasuresSeveralSizes) {
  BuiltKernel reference = makeKernel(""), candidate = reference;
  Problem problem = makeProblem();
  problem.others = {makeProblem(), makeProblem()};
  problem.others[1].isScored = false;
  reference.launches = {{{400}, 0}, {{400}, 0}, {{400}, 0}};
  candidate.launches = {{{400}, 0}, {{1600}, 0}, {{3200}, 0}};
  Measurement m = measure(candidate, reference, problem, quickLimits());
  ASSERT_EQ(m.status, Status::Ok) << m.reason;
  auto fastest = [](const std::vector<double> &times) {
    return *std::min_element(times.begin(), times.end());
  };
  EXPECT_NEAR(fastest(m.samples) / fastest(m.reference), 2, 0.6);
  ASSERT_EQ(m.elsewhere.size(), 1u);
  EXPECT_NEAR(m.elsewhere[0], 8, 2.4);
  // What is wrong at one of them is wrong.
  problem.others[1].symbols = {7};
  problem.others[1].operands[0][3] ^= 1;
  m = measure(candidate, reference, problem, quickLimits());
  EXPECT_EQ(m.status, Status::Wrong);
  EXPECT_NE(m.reason.find("(sizes 7)"), std::string::npos) << m.reason;
}

TEST(Runner, TellsWrongHangingAndDeadlyOnes) {
  BuiltKernel good = makeKernel("");
  auto run = [&](const BuiltKernel &kernel) {
    return measure(kernel, good, makeProblem(), quickLimits());
  };
  Measurement wrong = run(makeKernel("", "2.5"));
  EXPECT_EQ(wrong.status, Status::Wrong);
  EXPECT_NE(wrong.reason.find("result 0 differs"), std::string::npos);
  EXPECT_TRUE(wrong.samples.empty());
  // Right, but it writes behind its result, before its result.
  for (const char *at : {"256", "-4"})
    EXPECT_NE(run(makeKernel(std::string("  %p = getelementptr i8, ptr %out, "
                                         "i64 ") +
                             at + "\n  store i32 0, ptr %p"))
                  .reason.find("around a buffer"),
              std::string::npos);
  // One element is never written: the buffer was poisoned.
  Problem longer = makeProblem();
  longer.results[0].bytes += std::string(4, '\0');
  EXPECT_EQ(measure(good, good, longer, quickLimits()).status, Status::Wrong);

  EXPECT_EQ(run(makeKernel(kHang)).status, Status::Timeout);
  Measurement crash = run(makeKernel(kCrash));
  EXPECT_EQ(crash.status, Status::Crash);
  EXPECT_NE(crash.reason.find("signal 11"), std::string::npos);
  BuiltKernel missing = good;
  missing.phases[0] = "absent";
  EXPECT_EQ(run(missing).status, Status::Compile);
}

TEST(Runner, NoiseOfRoundingIsNoError) {
  Problem problem = makeProblem();
  float value;
  std::memcpy(&value, problem.results[0].bytes.data(), 4);
  value *= 1 + 1e-6f;
  std::memcpy(problem.results[0].bytes.data(), &value, 4);
  BuiltKernel good = makeKernel("");
  EXPECT_EQ(measure(good, good, problem, quickLimits()).status, Status::Ok);
  problem.results[0].tolerance = 0;
  EXPECT_EQ(measure(good, good, problem, quickLimits()).status, Status::Wrong);
}

// What counts is the process's own CPU time: one that waits, as on a machine
// that others keep busy, is not stopped by the clock.
TEST(Processes, AreLimitedInTheirOwnTime) {
  std::vector<std::string> reasons;
  auto texts = runInProcesses(
      3, 3, /*seconds=*/1,
      [](unsigned i, std::string &out) {
        if (i == 0)
          usleep(2500000);
        volatile bool spins = i == 1;
        while (spins)
          ;
        out = "done";
        return i != 2;
      },
      reasons);
  EXPECT_EQ(texts[0], "done") << reasons[0];
  EXPECT_FALSE(texts[1]);
  EXPECT_EQ(reasons[1], "took too long");
  EXPECT_FALSE(texts[2]);
  EXPECT_EQ(reasons[2], "done");
}

//===----------------------------------------------------------------------===//
// Jobs
//===----------------------------------------------------------------------===//

// A job that went through bytes is measured as the kernel it holds; bytes that
// are cut short, longer or of another version are none, and code for another
// CPU is not run at all.
TEST(Jobs, RoundTripAndRefuse) {
  Job job;
  job.cpu = llvm::sys::getHostCPUName().str();
  job.candidate = makeKernel("", "2.5");
  job.reference = makeKernel("");
  job.candidate.packed[0] = std::string(256, 'x');
  job.problem = makeProblem();
  job.options.limits = quickLimits();
  job.options.retries = 0;
  std::string bytes = job.toBytes();
  Job again = llvm::cantFail(Job::parse(bytes));
  EXPECT_EQ(again.toBytes(), bytes);
  EXPECT_EQ(again.candidate.packed.at(0), job.candidate.packed.at(0));
  for (size_t cut = 0; cut < bytes.size(); cut += 97)
    EXPECT_NE(errorOf(Job::parse(bytes.substr(0, cut))), "no error") << cut;
  EXPECT_NE(errorOf(Job::parse(bytes + "x")), "no error");
  job.candidate.packed.clear();
  Measurement wrong = llvm::cantFail(runJob(job.toBytes()));
  EXPECT_EQ(wrong.status, Status::Wrong);
  job.candidate = job.reference;
  Measurement good = llvm::cantFail(runJob(job.toBytes()));
  EXPECT_EQ(good.status, Status::Ok) << good.reason;
  Measurement read = llvm::cantFail(parseMeasurement(toJson(good)));
  EXPECT_EQ(toJson(read), toJson(good));
  EXPECT_NE(errorOf(parseMeasurement("{}")).find("no measurement"),
            std::string::npos);
  job.cpu = "i386";
  EXPECT_NE(errorOf(runJob(job.toBytes())).find("the job is for i386"),
            std::string::npos);
}

//===----------------------------------------------------------------------===//
// Tuning with planted candidates
//===----------------------------------------------------------------------===//

/// A task whose candidates repeat the work: unroll says how often. Of
/// tile_rows, 3 are wrong and 5 hang and 7 crash and 9 do not compile, all of
/// them fast.
static Task makeTask() {
  Task task;
  task.name = "planted";
  ContractionFacts facts;
  facts.rows = facts.columns = facts.depth = 64;
  task.workload = facts.toJson();
  task.target = TargetFacts{"x86", "test"}.toJson();
  task.scorer = llvm::cantFail(Scorer::create(task.workload, task.target));
  task.space.nest = "contraction";
  task.space.knobs = {{"tile_rows", {1, 2, 3, 4, 5, 7, 9}}, {"unroll", {1, 8}}};
  task.space.defaults = {{"tile_rows", 2}, {"unroll", 8}};
  task.space.isLegal = [](const KnobValues &, std::string &) { return true; };
  task.problem = makeProblem();
  task.build = [](const KnobValues &knobs) -> llvm::Expected<BuiltKernel> {
    int64_t rows = knobs.at("tile_rows");
    if (rows == 9)
      return llvm::createStringError("planted");
    BuiltKernel kernel = makeKernel(rows == 5   ? kHang
                                    : rows == 7 ? kCrash
                                                : "",
                                    rows == 3 ? "3.0" : "2.0");
    kernel.launches[0].tasks[0] =
        rows % 2 && rows > 1 ? 1 : 400 * knobs.at("unroll");
    return kernel;
  };
  return task;
}

static TuneOptions makeOptions() {
  TuneOptions options;
  options.budget = 14;
  options.retries = 0;
  options.again = 5;
  options.search.quietRounds = 100;
  options.limits = quickLimits();
  return options;
}

TEST(Tune, NeverChoosesWhatFails) {
  TemporaryFolder folder;
  auto store = llvm::cantFail(Store::open(folder / "a.db", true));
  Task task = makeTask();
  TuneOptions options = makeOptions();
  auto result = tune(task, nullptr, store.get(), options);
  ASSERT_TRUE(bool(result)) << llvm::toString(result.takeError());
  EXPECT_EQ(result->reused, 0u);
  EXPECT_EQ(result->failed, 8u); // all planted ones were tried
  auto records = llvm::cantFail(store->select());
  std::map<Status, unsigned> counts;
  for (const Record &record : records)
    ++counts[record.status];
  for (Status status :
       {Status::Wrong, Status::Timeout, Status::Crash, Status::Compile})
    EXPECT_EQ(counts[status], 2u) << toString(status).str();
  auto best = findBest(records);
  ASSERT_TRUE(best);
  KnobValues knobs = llvm::cantFail(parseKnobs(best->schedule));
  EXPECT_EQ(knobs.at("unroll"), 1);
  EXPECT_NE(knobs.at("tile_rows") % 2 && knobs.at("tile_rows") > 1, true);
  EXPECT_LT(result->best, 0.5);

  // The same again measures nothing, and the decisions can be replayed.
  auto again = tune(task, nullptr, store.get(), options);
  ASSERT_TRUE(bool(again));
  EXPECT_EQ(again->trials, 0u);
  EXPECT_EQ(again->run, result->run);
  auto replayed = replay(task, nullptr, records, options.search);
  ASSERT_TRUE(bool(replayed)) << llvm::toString(replayed.takeError());
  EXPECT_EQ(replayed->reused, 14u);
  SearchOptions other = options.search;
  other.seed = 9;
  EXPECT_NE(errorOf(replay(task, nullptr, records, other)).find("not among"),
            std::string::npos);
  // A trial that another round asked for.
  records.front().round = 1;
  EXPECT_NE(errorOf(replay(task, nullptr, records, options.search)),
            "no error");
}

// A survey measures the fastest of its searches again, none that failed, and
// nothing twice.
TEST(Survey, MeasuresTheBestAgainAndGoesOn) {
  TemporaryFolder folder;
  auto store = llvm::cantFail(Store::open(folder / "a.db", true));
  Task task = makeTask();
  SurveyOptions options;
  options.random = 14;
  options.evolution = options.guided = 6;
  options.again = 3;
  options.tune = makeOptions();
  auto result = survey(task, nullptr, store.get(), options);
  ASSERT_TRUE(bool(result)) << llvm::toString(result.takeError());
  EXPECT_EQ(result->schedules, 14u); // the whole space
  EXPECT_EQ(result->trials, 26u);
  EXPECT_GE(result->failed, 8u);
  EXPECT_LT(result->best, 0.5);
  auto records = llvm::cantFail(store->select());
  std::set<std::string> again, runs;
  for (const Record &record : records) {
    runs.insert(record.run);
    if (record.attempt == 0)
      continue;
    EXPECT_EQ(record.status, Status::Ok);
    EXPECT_EQ(record.samples.size(), options.tune.again);
    again.insert(record.schedule);
  }
  EXPECT_EQ(runs.size(), 3u);
  EXPECT_EQ(again.size(), 3u);
  // Those that do little work are there, whichever search found them.
  EXPECT_TRUE(again.count(
      scheduleJson("contraction", {{"tile_rows", 1}, {"unroll", 1}})));
  EXPECT_TRUE(again.count(
      scheduleJson("contraction", {{"tile_rows", 4}, {"unroll", 1}})));
  auto same = survey(task, nullptr, store.get(), options);
  ASSERT_TRUE(bool(same));
  EXPECT_EQ(same->best, result->best);
  EXPECT_EQ(llvm::cantFail(store->select()).size(), records.size());
  options.random = options.evolution = options.guided = 0;
  EXPECT_NE(
      errorOf(survey(task, nullptr, nullptr, options)).find("without trials"),
      std::string::npos);
}

TEST(Tune, RefusesAWrongDefault) {
  Task task = makeTask();
  task.space.defaults["tile_rows"] = 3;
  EXPECT_NE(errorOf(tune(task, nullptr, nullptr, makeOptions()))
                .find("planted: the default schedule: wrong"),
            std::string::npos);
}

// A tuner that is killed goes on where it was: no trial twice, none lost.
TEST(Tune, GoesOnAfterKills) {
  TemporaryFolder folder;
  std::string path = folder / "a.db";
  llvm::cantFail(Store::open(path, true));
  Task task = makeTask();
  TuneOptions options = makeOptions();
  options.budget = 12;
  auto run = [&]() -> llvm::Expected<TuneResult> {
    auto store = Store::open(path, true);
    if (!store)
      return store.takeError();
    return tune(task, nullptr, store->get(), options);
  };
  unsigned kills = 0;
  for (int i = 0; i < 4; ++i) {
    pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      llvm::consumeError(run().takeError());
      _exit(0);
    }
    usleep(300000 + 250000 * i);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    kills += WIFSIGNALED(status);
  }
  EXPECT_GT(kills, 0u);
  auto store = llvm::cantFail(Store::open(path, false));
  auto before = llvm::cantFail(store->select());
  auto result = run();
  ASSERT_TRUE(bool(result)) << llvm::toString(result.takeError());
  EXPECT_EQ(result->reused, before.size());
  auto after = llvm::cantFail(store->select());
  EXPECT_EQ(after.size(), before.size() + result->trials);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(after[i].toJson(), before[i].toJson());
  auto replayed = replay(task, nullptr, after, options.search);
  EXPECT_TRUE(bool(replayed)) << llvm::toString(replayed.takeError());
}
