// dlc-run: runs a compiled model, or an ONNX model in the interpreter, on files
// or random inputs; compares the outputs and measures the time.
#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/CudaModel.h"
#include "dlc/Driver/DlcMath.h"
#include "dlc/Driver/RunModel.h"
#include "dlc/Target/Targets.h"

#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using namespace llvm::opt;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;
using llvm::SmallVector;
using llvm::StringRef;

#define OPTTABLE_STR_TABLE_CODE
#include "dlc/tools/RunOptions.inc"
#undef OPTTABLE_STR_TABLE_CODE
#define OPTTABLE_PREFIXES_TABLE_CODE
#include "dlc/tools/RunOptions.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

namespace {
enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "dlc/tools/RunOptions.inc"
#undef OPTION
};
constexpr OptTable::Info kInfos[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "dlc/tools/RunOptions.inc"
#undef OPTION
};
struct Table : GenericOptTable {
  Table() : GenericOptTable(OptionStrTable, OptionPrefixesTable, kInfos) {}
};

// The command line, with its values checked.
struct Settings {
  std::string model;
  std::vector<std::string> inputs;
  std::optional<uint64_t> seed;
  std::string outputs;
  std::string compare;
  double tolerance = 1e-4;
  bool bench = false;
  unsigned threads = 0;
  bool info = false;
  bool interprets = false;        // the model is not compiled
  std::optional<CudaTarget> cuda; // it runs on the emulator
  EmulatorOptions emulator;
  bool countsAccesses = false;
  interp::MathMode math = interp::MathMode::libm;
  CompileOptions source; // -dim and -shape
};

// Runs the interpreted and the compiled kind of model behind one face.
class Session {
public:
  explicit Session(const Settings &settings) : s(settings) {}
  Error run();

private:
  Error runArtifact();
  Error runInterpreter();
  Expected<SmallVector<Tensor>> runEmulator();
  Error compare();
  Expected<SmallVector<Tensor>> readInputs(mlir::TypeRange types);
  Expected<SmallVector<Tensor>> makeExpected();

  const Settings &s;
  ModelSource source; // of an interpreted model
  mlir::MLIRContext ownContext{mlir::MLIRContext::Threading::DISABLED};
  mlir::MLIRContext *context = &ownContext;
  SmallVector<Tensor> inputs, outputs;
};
} // namespace

//===----------------------------------------------------------------------===//
// The command line
//===----------------------------------------------------------------------===//

static constexpr unsigned kBenchRuns = 50;

static Expected<Settings> readSettings(const InputArgList &args) {
  Settings s;
  std::vector<std::string> models = args.getAllArgValues(OPT_INPUT);
  if (models.size() != 1)
    return usage(
        "usage: dlc-run <model.so|model.onnx> [options] (-help lists them)");
  s.model = models.front();
  for (const std::string &list : args.getAllArgValues(OPT_inputs)) {
    SmallVector<StringRef> parts;
    StringRef(list).split(parts, ',');
    s.inputs.insert(s.inputs.end(), parts.begin(), parts.end());
  }
  auto number = [&](OptionID id, auto &value) -> Error {
    const Arg *arg = args.getLastArg(id);
    if (arg && StringRef(arg->getValue()).getAsInteger(10, value))
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected a number");
    return Error::success();
  };
  uint64_t seed = 0;
  if (Error error = number(OPT_random, seed))
    return error;
  if (args.hasArg(OPT_random))
    s.seed = seed;
  if (Error error = number(OPT_threads, s.threads))
    return error;
  if (const Arg *arg = args.getLastArg(OPT_tolerance))
    if (StringRef(arg->getValue()).getAsDouble(s.tolerance))
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected a number");
  s.outputs = args.getLastArgValue(OPT_outputs).str();
  s.compare = args.getLastArgValue(OPT_compare).str();
  s.bench = args.hasArg(OPT_bench);
  s.info = args.hasArg(OPT_info);
  StringRef extension = llvm::sys::path::extension(s.model);
  s.interprets = extension == ".onnx" || extension == ".mlir";
  if (StringRef target = args.getLastArgValue(OPT_target);
      target.starts_with("cuda")) {
    Expected<CudaTarget> cuda = parseCudaTarget(target);
    if (!cuda)
      return usage(llvm::toString(cuda.takeError()));
    s.cuda = std::move(*cuda);
    s.emulator.maxSharedBytes = s.cuda->desc().maxSharedBytes;
  } else if (!target.empty() && target != "interp") {
    return usage("-target=" + target +
                 ": only interp and cuda run a model that is not compiled; "
                 "compile it with dlc");
  }
  unsigned level = 0;
  if (Error error = number(OPT_emulate, level))
    return error;
  if (level > static_cast<unsigned>(EmulatorCheck::Races))
    return usage("-emulate=" + llvm::Twine(level) +
                 ": the emulator has the levels 0, 1 and 2");
  s.emulator.check = static_cast<EmulatorCheck>(level);
  s.countsAccesses = args.hasArg(OPT_access_counts);
  if (s.countsAccesses && (!s.cuda || level == 0))
    return usage("-access-counts needs -target=cuda and -emulate=1 or 2");
  if (s.interprets && !args.hasArg(OPT_target))
    return usage(s.model + " is not compiled: compile it with dlc, or run it "
                           "in the interpreter with -target=interp");
  if (s.interprets && s.bench)
    return usage("-bench measures compiled models");
  for (const std::string &text : args.getAllArgValues(OPT_dim))
    if (Error error = parseDim(text, s.source.dims))
      return error;
  for (const std::string &text : args.getAllArgValues(OPT_shape))
    if (Error error = parseShape(text, s.source.shapes))
      return error;
  StringRef math = args.getLastArgValue(OPT_math, "libm");
  if (StringRef name = math.take_until([](char c) { return c == ':'; });
      name == "dlc") {
    StringRef target = math.drop_front(name.size());
    Expected<CpuTarget> cpu =
        parseCpuTarget(target.empty() ? "host" : target.drop_front());
    if (!cpu)
      return usage(llvm::toString(cpu.takeError()));
    if (Error error = enableDlcMath(*cpu))
      return std::move(error);
    s.math = interp::MathMode::dlc;
  } else if (math != "libm") {
    return usage("-math=" + math +
                 ": the modes are libm, dlc and dlc:<target>");
  }
  s.source.input = s.model;
  return s;
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

// `types` are the element types of the model's inputs.
Expected<SmallVector<Tensor>> Session::readInputs(mlir::TypeRange types) {
  SmallVector<Tensor> tensors;
  for (const std::string &path : s.inputs) {
    Expected<Tensor> tensor = readTensor(path, context);
    if (!tensor)
      return tensor.takeError();
    if (tensors.size() < types.size())
      *tensor = reinterpretBits(*tensor, types[tensors.size()]);
    tensors.push_back(*tensor);
  }
  return tensors;
}

Error Session::runArtifact() {
  Expected<Artifact> artifact = Artifact::open(s.model);
  if (!artifact)
    return artifact.takeError();
  if (s.info) {
    llvm::outs() << llvm::formatv("{0:2}", llvm::json::Value(llvm::json::Object(
                                               artifact->getInfo())))
                 << "\n";
    return Error::success();
  }
  if (artifact->isForeign())
    llvm::errs() << "dlc-run: runs under " << artifact->getEmulator() << "\n";
  auto made = s.seed ? artifact->makeRandomInputs(context, *s.seed)
                     : readInputs(artifact->getInputTypes(context));
  if (!made)
    return made.takeError();
  inputs = *made;

  Artifact::RunOptions options;
  options.bench = s.bench ? kBenchRuns : 0;
  options.threads = s.threads;
  std::string text;
  auto results = artifact->run(inputs, context, options, &text);
  if (!results)
    return results.takeError();
  outputs = *results;
  if (s.bench) {
    auto [fastest, median] = StringRef(text).trim().split(' ');
    double ns[2] = {0, 0};
    if (fastest.getAsDouble(ns[0]) || median.getAsDouble(ns[1]))
      return makeError(ExitCode::Internal, "dlc-exec printed no times");
    llvm::outs() << llvm::format("fastest %.4f ms, median %.4f ms of %u runs\n",
                                 ns[0] / 1e6, ns[1] / 1e6, kBenchRuns);
  }
  return Error::success();
}

Error Session::runInterpreter() {
  Expected<ModelSource> loaded = loadModel(s.source);
  if (!loaded)
    return loaded.takeError();
  source = std::move(*loaded);
  context = source.context.get();
  if (s.info) {
    llvm::outs() << describeMain(source.getMain());
    return Error::success();
  }
  if (s.seed) {
    inputs = makeRandomInputs(source.getMain(), *s.seed);
  } else {
    SmallVector<mlir::Type> types;
    for (mlir::Type type : source.getMain().getArgumentTypes())
      types.push_back(
          mlir::cast<mlir::RankedTensorType>(type).getElementType());
    auto read = readInputs(types);
    if (!read)
      return read.takeError();
    inputs = *read;
  }
  auto results =
      s.cuda ? runEmulator() : interpret(source, inputs, s.threads, s.math);
  if (!results)
    return results.takeError();
  outputs = *results;
  return Error::success();
}

static void printCounts(llvm::ArrayRef<AccessCount> counts) {
  uint64_t cost[2] = {}, least[2] = {};
  for (const AccessCount &c : counts) {
    cost[c.isShared] += c.cost;
    least[c.isShared] += c.least;
    if (c.cost > c.least)
      llvm::outs() << c.kernel << ": " << c.accesses << " accesses of warps, "
                   << c.cost << (c.isShared ? " bank cycles" : " sectors")
                   << " (least " << c.least << "): " << c.instruction << "\n";
  }
  llvm::outs() << "global memory: " << cost[0] << " sectors (least " << least[0]
               << "); shared memory: " << cost[1] << " bank cycles (least "
               << least[1] << ")\n";
}

Expected<SmallVector<Tensor>> Session::runEmulator() {
  if (Error error = formCudaKernels(source))
    return error;
  Expected<CudaModel> model =
      compileCuda(source, *s.cuda, "model", /*strict=*/false);
  if (!model)
    return model.takeError();
  std::vector<AccessCount> counts;
  EmulatorOptions options = s.emulator;
  if (s.countsAccesses)
    options.accessCounts = &counts;
  auto results = emulate(source, *model, inputs, options);
  if (s.countsAccesses && results)
    printCounts(counts);
  return results;
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

static std::string toText(mlir::Type type) {
  std::string text;
  llvm::raw_string_ostream os(text);
  type.print(os);
  return text;
}

// What the outputs should be: files, or the interpreter's on the same inputs.
Expected<SmallVector<Tensor>> Session::makeExpected() {
  SmallVector<Tensor> expected;
  if (llvm::sys::fs::is_directory(s.compare)) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      std::string stem = s.compare + "/output_" + std::to_string(i);
      auto tensor = readTensor(
          stem + (llvm::sys::fs::exists(stem + ".npy") ? ".npy" : ".pb"),
          context);
      if (!tensor)
        return tensor.takeError();
      expected.push_back(reinterpretBits(*tensor, outputs[i].getElementType()));
    }
    return expected;
  }
  CompileOptions options = s.source;
  options.input = s.compare;
  Expected<ModelSource> model = loadModel(options);
  if (!model)
    return model.takeError();
  // Types belong to a context: the inputs, and then the outputs, change theirs
  // through bytes.
  SmallVector<Tensor> moved;
  for (auto [input, type] :
       llvm::zip(inputs, model->getMain().getArgumentTypes())) {
    auto element = llvm::cast<mlir::RankedTensorType>(type).getElementType();
    if (toText(element) != toText(input.getElementType()))
      return makeError(ExitCode::Verify, "input " + llvm::Twine(moved.size()) +
                                             " of " + s.compare + " is " +
                                             toText(element));
    moved.push_back(
        Tensor::borrow(element, input.getShape(), input.getBytes()));
  }
  auto results = interpret(*model, moved, s.threads, s.math);
  if (!results)
    return results.takeError();
  if (results->size() != outputs.size())
    return makeError(ExitCode::Verify, "got " + llvm::Twine(outputs.size()) +
                                           " outputs, " + s.compare + " has " +
                                           llvm::Twine(results->size()));
  for (auto [i, result] : llvm::enumerate(*results)) {
    // Types of two contexts are compared by their text.
    if (toText(result.getElementType()) != toText(outputs[i].getElementType()))
      return makeError(ExitCode::Verify,
                       "output " + llvm::Twine(i) + " is " +
                           toText(outputs[i].getElementType()) + ", expected " +
                           toText(result.getElementType()));
    expected.push_back(Tensor::copy(outputs[i].getElementType(),
                                    result.getShape(), result.getBytes()));
  }
  return expected;
}

Error Session::compare() {
  auto expected = makeExpected();
  if (!expected)
    return expected.takeError();
  double worst = 0;
  for (auto [i, output] : llvm::enumerate(outputs)) {
    Expected<Difference> difference = compareTensors(output, (*expected)[i]);
    if (!difference)
      return difference.takeError();
    worst = std::max(worst, difference->getRelative());
    if (outputs.size() > 1)
      llvm::outs() << llvm::format(
          "output %zu: max|a-b| %.3g, max|a-b|/max|b| %.3g\n", i,
          difference->maxAbsolute, difference->getRelative());
  }
  llvm::outs() << llvm::format("max|a-b|/max|b| %.3g\n", worst);
  if (worst > s.tolerance)
    return makeError(
        ExitCode::Verify,
        llvm::formatv("the outputs differ by {0:e2}, the tolerance is {1:e2}",
                      worst, s.tolerance)
            .str());
  return Error::success();
}

Error Session::run() {
  if (Error error = s.interprets ? runInterpreter() : runArtifact())
    return error;
  if (s.info)
    return Error::success();
  if (!s.outputs.empty()) {
    if (std::error_code code = llvm::sys::fs::create_directories(s.outputs))
      return makeError(ExitCode::Io, code.message(), s.outputs);
    for (auto [i, output] : llvm::enumerate(outputs))
      if (Error error = writeTensor(
              s.outputs + "/output_" + std::to_string(i) + ".npy", output))
        return error;
  }
  return s.compare.empty() ? Error::success() : compare();
}

int main(int argc, char **argv) {
  Table table;
  unsigned missingIndex = 0, missingCount = 0;
  InputArgList args =
      table.ParseArgs(llvm::ArrayRef<const char *>(argv + 1, argc - 1),
                      missingIndex, missingCount);
  if (args.hasArg(OPT_help)) {
    table.printHelp(llvm::outs(), "dlc-run <model.so|model.onnx> [options]",
                    "dlc-run: runs a model");
    return 0;
  }
  Error error = checkSpelling(table, args, OPT_UNKNOWN);
  if (!error) {
    Expected<Settings> settings = readSettings(args);
    error = settings ? Session(*settings).run() : settings.takeError();
  }
  if (!error)
    return 0;
  return printError(llvm::errs(),
                    toCompileError(std::move(error), ExitCode::Internal),
                    args.getLastArgValue(OPT_diagnostics) == "json", "dlc-run");
}
