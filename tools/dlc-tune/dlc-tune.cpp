// dlc-tune: the tuning database, and searches that fill it.
#include "Settings.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Store.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using namespace llvm::opt;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

#define OPTTABLE_STR_TABLE_CODE
#include "dlc/tools/TuneOptions.inc"
#undef OPTTABLE_STR_TABLE_CODE
#define OPTTABLE_PREFIXES_TABLE_CODE
#include "dlc/tools/TuneOptions.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

namespace {
enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "dlc/tools/TuneOptions.inc"
#undef OPTION
};
constexpr OptTable::Info kInfos[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "dlc/tools/TuneOptions.inc"
#undef OPTION
};
struct Table : GenericOptTable {
  Table() : GenericOptTable(OptionStrTable, OptionPrefixesTable, kInfos) {}
};
} // namespace

static constexpr StringRef kCommands[] = {
    "list",  "tune", "bundle", "export", "import",  "merge", "prune",
    "train", "eval", "replay", "survey", "measure", "renew"};

static void printHelp(const Table &table) {
  table.printHelp(llvm::outs(), "dlc-tune <command> [files] [options]",
                  "dlc-tune: the tuning database");
  llvm::outs() << R"(
COMMANDS:
  list [records.jsonl...]         kernels, trials and the best ratio to the default schedule
  tune -matmul=128x256x512        search schedules of one kernel; of a model: dlc model.onnx -tune
  bundle -o folder                records to ship, by architecture and family of nests, and the models learned from them
  bundle -target=cuda:device=h100 -o folder model.onnx...
                                  prebuilt candidates for a machine with this GPU: folder/dlc-cuda-measure folder, then import folder
  export -o records.jsonl         the store as JSON lines
  import records.jsonl...         into the store; what is there stays
  merge a.jsonl b.jsonl -o c.jsonl
  survey model.onnx               what is best known of a model's kernels: random schedules, an evolution, a search, the best again
  renew records.jsonl... model.onnx... -o c.jsonl
                                  what records of an older dlc say of the models' kernels is computed again
  prune -keep=50                  drop slow trials of the store
  train records.jsonl... -o contraction.model.json
  eval records.jsonl...           how well models find fast schedules of kernels that they never saw
  replay records.jsonl...         trials that searches in recorded trials need to 95 % of the best
  replay -matmul=128x256x512      repeat the decisions of a search from its records
  measure job                     what a worker of -workers= runs: one candidate, the times as JSON
list, bundle, train, eval and replay read the store when no files are given. A folder stands for all *.jsonl in it.

EXIT CODES:  0 done, 1 refused, 2 bad usage
)";
}

/// "32" trials, or "90s", "2m", "1h".
static bool parseBudget(StringRef text, TuneSettings &s) {
  double unit = text.consume_back("s")   ? 1
                : text.consume_back("m") ? 60
                : text.consume_back("h") ? 3600
                                         : 0;
  if (unit == 0)
    return !text.getAsInteger(10, s.budget) && s.budget > 0;
  s.budget = 1 << 20;
  if (text.getAsDouble(s.seconds) || s.seconds <= 0)
    return false;
  s.seconds *= unit;
  return true;
}

static bool parseSizes(StringRef text, std::vector<int64_t> &sizes) {
  llvm::SmallVector<StringRef> parts;
  text.split(parts, 'x');
  for (StringRef part : parts)
    if (part.getAsInteger(10, sizes.emplace_back()) || sizes.back() < 1 ||
        sizes.back() > 1 << 20)
      return false;
  return sizes.size() == 3 || sizes.size() == 4;
}

static Expected<TuneSettings> readSettings(const Table &table,
                                           const InputArgList &args) {
  TuneSettings s;
  if (Error error = checkSpelling(table, args, OPT_UNKNOWN))
    return error;
  s.inputs = args.getAllArgValues(OPT_INPUT);
  if (s.inputs.empty() || !llvm::is_contained(kCommands, s.inputs.front()))
    return usage(
        (s.inputs.empty() ? "no command"
                          : "'" + s.inputs.front() + "' is no command") +
        "; expected one of " + llvm::join(llvm::ArrayRef(kCommands), ", ") +
        " (-help lists the options)");
  s.command = s.inputs.front();
  s.inputs.erase(s.inputs.begin());
  s.store = args.getLastArgValue(OPT_store).str();
  if (s.store.empty())
    s.store = tuner::getDefaultStorePath();
  s.output = args.getLastArgValue(OPT_output).str();
  s.target = args.getLastArgValue(OPT_target, "host:threads=1").str();
  s.model = args.getLastArgValue(OPT_model).str();
  s.quiet = args.hasArg(OPT_quiet);
  s.lists = args.hasArg(OPT_list_kernels);
  llvm::SmallVector<StringRef> kernels;
  StringRef(args.getLastArgValue(OPT_kernels))
      .split(kernels, ',', -1, /*KeepEmpty=*/false);
  s.kernels.assign(kernels.begin(), kernels.end());
  s.workers = args.getLastArgValue(OPT_workers).str();
  s.runner = args.getLastArgValue(OPT_tune_runner).str();
  s.dims = args.getAllArgValues(OPT_dim);
  s.held = args.getLastArgValue(OPT_held).str();
  s.precision = args.getLastArgValue(OPT_precision).str();
  auto wrong = [](const Arg *arg, const char *expected) {
    return usage(arg->getSpelling() + arg->getValue() + ": expected " +
                 expected);
  };
  if (const Arg *arg = args.getLastArg(OPT_matmul))
    if (!parseSizes(arg->getValue(), s.matmul))
      return wrong(arg, "MxNxK or BxMxNxK");
  s.constant =
      args.getLastArgValue(OPT_constant, s.matmul.size() == 3 ? "rhs" : "none")
          .str();
  if (const Arg *arg = args.getLastArg(OPT_constant))
    if (!llvm::is_contained({"none", "lhs", "rhs"}, s.constant))
      return wrong(arg, "none, lhs or rhs");
  if (const Arg *arg = args.getLastArg(OPT_budget))
    if (!parseBudget(arg->getValue(), s))
      return wrong(arg, "a number of trials, or a time: 90s, 2m");
  if (const Arg *arg = args.getLastArg(OPT_seed))
    if (StringRef(arg->getValue()).getAsInteger(10, s.seed))
      return wrong(arg, "a number");
  if (const Arg *arg = args.getLastArg(OPT_search)) {
    s.search = arg->getValue();
    if (!llvm::is_contained({"model", "evolution", "random"}, s.search))
      return wrong(arg, "model, evolution or random");
  }
  if (const Arg *arg = args.getLastArg(OPT_family)) {
    s.family = arg->getValue();
    if (!tuner::isFamily(s.family))
      return wrong(arg, "contraction, loop, attention or cuda");
  }
  s.onlyGaps = args.hasArg(OPT_gaps);
  if (const Arg *arg = args.getLastArg(OPT_libraries)) {
    s.libraries = StringRef(arg->getValue()) == "on";
    if (!s.libraries && StringRef(arg->getValue()) != "off")
      return wrong(arg, "on or off");
  }
  if (const Arg *arg = args.getLastArg(OPT_predict)) {
    s.predictsTime = StringRef(arg->getValue()) == "time";
    if (!s.predictsTime && StringRef(arg->getValue()) != "order")
      return wrong(arg, "order or time");
  }
  if (const Arg *arg = args.getLastArg(OPT_leave_out)) {
    s.leavesIsaOut = StringRef(arg->getValue()) == "isa";
    if (!s.leavesIsaOut && StringRef(arg->getValue()) != "kernels")
      return wrong(arg, "kernels or isa");
  }
  s.isStatic = args.hasArg(OPT_is_static);
  if (const Arg *arg = args.getLastArg(OPT_drift))
    if (StringRef(arg->getValue()).getAsDouble(s.maxDrift) || s.maxDrift <= 0)
      return wrong(arg, "a share, such as 0.1");
  for (auto [id, value, most] :
       {std::tuple(OPT_samples, &s.samples, 64u),
        std::tuple(OPT_fewest, &s.fewest, 1u << 20),
        std::tuple(OPT_worst, &s.worst, 1u << 20),
        std::tuple(OPT_jobs, &s.jobs, 1024u),
        std::tuple(OPT_random, &s.random, 1u << 20),
        std::tuple(OPT_evolution, &s.evolution, 1u << 20),
        std::tuple(OPT_guided, &s.guided, 1u << 20),
        std::tuple(OPT_keep, &s.keep, 1u << 30),
        std::tuple(OPT_candidates, &s.candidates, 64u),
        std::tuple(OPT_folds, &s.folds, 1u << 20)})
    if (const Arg *arg = args.getLastArg(id))
      if (StringRef(arg->getValue()).getAsInteger(10, *value) || *value < 1 ||
          *value > most)
        return wrong(arg, "a positive number");
  return s;
}

static Error run(const TuneSettings &s) {
  return s.command == "tune" ? runTune(s)
         : s.command == "bundle" && StringRef(s.target).starts_with("cuda")
             ? runCudaBundle(s)
         : s.command == "replay" && !s.matmul.empty() ? runReplay(s)
         : s.command == "survey"                      ? runSurvey(s)
         : s.command == "measure"                     ? runMeasure(s)
         : s.command == "renew"                       ? runRenew(s)
                                                      : runRecords(s);
}

int main(int argc, char **argv) {
  Table table;
  unsigned missingIndex = 0, missingCount = 0;
  InputArgList args =
      table.ParseArgs(llvm::ArrayRef<const char *>(argv + 1, argc - 1),
                      missingIndex, missingCount);
  if (args.hasArg(OPT_help)) {
    printHelp(table);
    return 0;
  }
  Expected<TuneSettings> settings =
      missingCount ? usage(llvm::Twine("'") + args.getArgString(missingIndex) +
                           "' needs a value")
                   : readSettings(table, args);
  Error error = settings ? run(*settings) : settings.takeError();
  if (!error)
    return 0;
  return printError(llvm::errs(),
                    toCompileError(std::move(error), ExitCode::Rejected),
                    /*json=*/false, "dlc-tune");
}
