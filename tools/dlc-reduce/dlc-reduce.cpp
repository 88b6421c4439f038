// dlc-reduce: makes a model that fails smaller, as long as it still fails.
#include "Reducer.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/RunModel.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using namespace llvm::opt;
using llvm::Error;
using llvm::Expected;
using llvm::SmallString;
using llvm::StringRef;

#define OPTTABLE_STR_TABLE_CODE
#include "dlc/tools/ReduceOptions.inc"
#undef OPTTABLE_STR_TABLE_CODE
#define OPTTABLE_PREFIXES_TABLE_CODE
#include "dlc/tools/ReduceOptions.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

namespace {
enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "dlc/tools/ReduceOptions.inc"
#undef OPTION
};
constexpr OptTable::Info kInfos[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "dlc/tools/ReduceOptions.inc"
#undef OPTION
};
struct Table : GenericOptTable {
  Table() : GenericOptTable(OptionStrTable, OptionPrefixesTable, kInfos) {}
};

struct Settings {
  std::string input, output;
  Predicate predicate;
  double budget = 600;
  bool quiet = false;
};
} // namespace

// "90s", "10m", "1h" or seconds.
static bool parseTime(StringRef text, double &seconds) {
  double unit = text.consume_back("m")   ? 60
                : text.consume_back("h") ? 3600
                                         : (text.consume_back("s"), 1);
  double value = 0;
  if (text.getAsDouble(value) || value <= 0)
    return false;
  seconds = value * unit;
  return true;
}

static std::string findProgram(StringRef name) {
  static int anchor;
  SmallString<256> path(llvm::sys::path::parent_path(
      llvm::sys::fs::getMainExecutable(nullptr, &anchor)));
  llvm::sys::path::append(path, name);
  return path.str().str();
}

static Error readPredicate(const InputArgList &args, Predicate &p) {
  unsigned kinds = args.hasArg(OPT_mismatch) + args.hasArg(OPT_crash) +
                   args.hasArg(OPT_error) + args.hasArg(OPT_command);
  if (kinds != 1)
    return usage("choose one of -mismatch, -crash, -error=<text> and "
                 "-command=<cmd>: what the smaller model has to do as well");
  p.kind = args.hasArg(OPT_mismatch) ? Predicate::Kind::Mismatch
           : args.hasArg(OPT_crash)  ? Predicate::Kind::Crash
           : args.hasArg(OPT_error)  ? Predicate::Kind::Error
                                     : Predicate::Kind::Command;
  p.text = args.getLastArgValue(p.kind == Predicate::Kind::Error ? OPT_error
                                                                 : OPT_command)
               .str();
  p.options = args.getAllArgValues(OPT_dashes);
  if (p.kind == Predicate::Kind::Command && !p.options.empty())
    return usage("options after -- are dlc's; -command has its own");
  p.dlc = findProgram("dlc");
  return Error::success();
}

static Expected<Settings> readSettings(const Table &table,
                                       const InputArgList &args) {
  Settings s;
  if (Error error = checkSpelling(table, args, OPT_UNKNOWN))
    return error;
  std::vector<std::string> inputs = args.getAllArgValues(OPT_INPUT);
  if (inputs.size() != 1)
    return usage("usage: dlc-reduce <model.onnx> -mismatch [options] [-- "
                 "options of dlc] (-help lists them)");
  s.input = inputs.front();
  if (Error error = readPredicate(args, s.predicate))
    return std::move(error);
  double timeout = s.predicate.timeout;
  for (auto [id, value] :
       {std::pair(OPT_budget, &s.budget), std::pair(OPT_timeout, &timeout)})
    if (const Arg *arg = args.getLastArg(id))
      if (!parseTime(arg->getValue(), *value))
        return usage(arg->getSpelling() + arg->getValue() +
                     ": expected a time, 90s or 10m");
  s.predicate.timeout = std::max(1u, static_cast<unsigned>(timeout));
  s.quiet = args.hasArg(OPT_quiet);
  SmallString<128> output(args.getLastArgValue(OPT_output));
  if (output.empty()) {
    output = s.input;
    llvm::sys::path::replace_extension(output, ".reduced.onnx");
  }
  s.output = output.str().str();
  return s;
}

static Expected<onnx::ModelProto> readModel(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(), path);
  onnx::ModelProto model;
  if (!model.ParseFromArray((*buffer)->getBufferStart(),
                            (*buffer)->getBufferSize()) ||
      model.graph().node_size() == 0)
    return makeError(ExitCode::Rejected, "is not an ONNX model with nodes",
                     path);
  return model;
}

static Error writeModel(const onnx::ModelProto &model, StringRef path) {
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  if (!code) {
    os << model.SerializeAsString();
    os.close();
    code = os.error();
    os.clear_error();
  }
  return code ? makeError(ExitCode::Io, code.message(), path)
              : Error::success();
}

// The inputs on which -verify runs it, where the model can be loaded at all.
static Error writeInputs(const Settings &s) {
  std::vector<const char *> arguments = {s.output.c_str()};
  for (const std::string &option : s.predicate.options)
    arguments.push_back(option.c_str());
  Expected<CommandLine> line = parseCommandLine(arguments);
  if (!line)
    return line.takeError();
  Expected<ModelSource> source = loadModel(line->options);
  if (!source) {
    llvm::consumeError(source.takeError());
    return Error::success();
  }
  std::string folder = s.output + ".inputs";
  if (std::error_code code = llvm::sys::fs::create_directories(folder))
    return makeError(ExitCode::Io, code.message(), folder);
  for (auto [i, tensor] :
       llvm::enumerate(makeRandomInputs(source->getMain(), /*seed=*/1)))
    if (Error error = writeTensor(
            folder + "/input_" + std::to_string(i) + ".npy", tensor))
      return error;
  return Error::success();
}

static Error reduce(Settings &s) {
  Expected<onnx::ModelProto> model = readModel(s.input);
  if (!model)
    return model.takeError();
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  s.predicate.folder = (*folder)->getPath("");
  int nodes = model->graph().node_size();
  if (!s.predicate.holds(*model))
    return makeError(
        ExitCode::Rejected,
        "does not fail as asked; the last words of the test were: " +
            StringRef(s.predicate.getOutput()).trim().take_back(400),
        s.input);
  Reducer reducer(std::move(*model), s.predicate, s.budget, s.quiet);
  reducer.run();
  if (Error error = writeModel(reducer.getModel(), s.output))
    return error;
  if (Error error = writeInputs(s))
    return error;
  if (!s.quiet) {
    llvm::errs() << "dlc-reduce: " << s.output << ": " << nodes << " -> "
                 << reducer.getModel().graph().node_size() << " nodes, "
                 << s.predicate.getNumTests() << " tests"
                 << (reducer.isMinimal() ? "" : ", not minimal") << "\n";
    for (const onnx::NodeProto &node : reducer.getModel().graph().node())
      llvm::errs() << "  " << node.op_type() << " '" << node.name() << "'\n";
  }
  return Error::success();
}

static Error run(const Table &table, const InputArgList &args) {
  Expected<Settings> settings = readSettings(table, args);
  return settings ? reduce(*settings) : settings.takeError();
}

int main(int argc, char **argv) {
  Table table;
  unsigned missingIndex = 0, missingCount = 0;
  InputArgList args =
      table.ParseArgs(llvm::ArrayRef<const char *>(argv + 1, argc - 1),
                      missingIndex, missingCount);
  if (args.hasArg(OPT_help)) {
    table.printHelp(llvm::outs(), "dlc-reduce <model.onnx> -mismatch [options]",
                    "dlc-reduce: makes a model that fails smaller");
    return 0;
  }
  Error error = missingCount
                    ? usage(llvm::Twine("'") + args.getArgString(missingIndex) +
                            "' needs a value")
                    : run(table, args);
  if (!error)
    return 0;
  return printError(llvm::errs(),
                    toCompileError(std::move(error), ExitCode::Internal),
                    /*json=*/false, "dlc-reduce");
}
