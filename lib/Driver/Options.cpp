// The command line: LLVM's option library over the table in Options.td. (Not
// llvm::cl: its options are global, so LLVM's own would be accepted too.)
#include "dlc/Driver/Options.h"

#include "dlc/Driver/CommandLine.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using namespace llvm::opt;
using llvm::StringRef;
using llvm::Twine;

#define OPTTABLE_STR_TABLE_CODE
#include "dlc/Driver/Options.inc"
#undef OPTTABLE_STR_TABLE_CODE
#define OPTTABLE_PREFIXES_TABLE_CODE
#include "dlc/Driver/Options.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

namespace {
enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "dlc/Driver/Options.inc"
#undef OPTION
};

constexpr OptTable::Info kInfos[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "dlc/Driver/Options.inc"
#undef OPTION
};

struct Table : GenericOptTable {
  Table() : GenericOptTable(OptionStrTable, OptionPrefixesTable, kInfos) {}
};

constexpr std::pair<EmitKind, std::pair<StringRef, StringRef>> kEmitKinds[] = {
    {EmitKind::Graph, {"graph", ".mlir"}},
    {EmitKind::Kernels, {"kernels", ".mlir"}},
    {EmitKind::Program, {"program", ".mlir"}},
    {EmitKind::LLVM, {"llvm", ".ll"}},
    {EmitKind::Asm, {"asm", ".s"}},
    {EmitKind::Obj, {"obj", ".o"}},
    {EmitKind::Static, {"static", ".a"}},
    {EmitKind::Shared, {"shared", ".so"}},
    {EmitKind::Header, {"header", ".h"}},
    {EmitKind::Report, {"report", ".json"}},
    {EmitKind::Ptx, {"ptx", ".ptx"}},
    {EmitKind::Cubin, {"cubin", ".cubin"}},
    {EmitKind::KernelLibrary, {"kernel-library", ""}}};
} // namespace

StringRef dlc::toString(EmitKind kind) {
  return llvm::find_if(kEmitKinds,
                       [&](auto &entry) { return entry.first == kind; })
      ->second.first;
}
StringRef dlc::getExtension(EmitKind kind) {
  return llvm::find_if(kEmitKinds,
                       [&](auto &entry) { return entry.first == kind; })
      ->second.second;
}
std::optional<EmitKind> dlc::parseEmitKind(StringRef text) {
  for (auto &[kind, names] : kEmitKinds)
    if (names.first == text)
      return kind;
  return std::nullopt;
}
bool dlc::isText(EmitKind kind) {
  return kind != EmitKind::Obj && kind != EmitKind::Static &&
         kind != EmitKind::Shared && kind != EmitKind::Cubin &&
         kind != EmitKind::KernelLibrary;
}
bool CompileOptions::wants(EmitKind kind) const {
  return llvm::is_contained(emit, kind);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

// A size from 0 to 2^62, so that sums of a few cannot overflow.
static bool parseSize(StringRef text, int64_t &size) {
  return !text.getAsInteger(10, size) && size >= 0 && size <= int64_t(1) << 62;
}

llvm::Error dlc::parseDim(StringRef text,
                          std::map<std::string, DimRange> &dims) {
  auto [name, value] = text.split('=');
  auto malformed = [&] {
    return usage(
        "-dim=" + text +
        ": expected <name>=<size> or <name>=<lowest>..<highest>@<typical>");
  };
  if (name.empty() || value.empty())
    return malformed();
  DimRange range;
  size_t dots = value.find("..");
  if (dots == StringRef::npos) {
    if (!parseSize(value, range.min))
      return malformed();
    range.max = range.typical = range.min;
  } else {
    auto [highest, typical] = value.drop_front(dots + 2).split('@');
    if (!parseSize(value.take_front(dots), range.min) ||
        !parseSize(highest, range.max))
      return malformed();
    range.typical = range.max;
    if (!typical.empty() && !parseSize(typical, range.typical))
      return malformed();
    if (range.min > range.typical || range.typical > range.max)
      return usage("-dim=" + text + ": expected lowest <= typical <= highest");
  }
  if (!dims.emplace(name.str(), range).second)
    return usage("-dim=" + text + ": '" + name + "' is given twice");
  return llvm::Error::success();
}

llvm::Error
dlc::parseShape(StringRef text,
                std::map<std::string, llvm::SmallVector<int64_t>> &shapes) {
  auto [name, value] = text.rsplit(':'); // ONNX names may contain colons
  llvm::SmallVector<int64_t> sizes;
  llvm::SmallVector<StringRef> parts;
  if (!value.empty())
    value.split(parts, 'x');
  for (StringRef part : parts)
    if (!parseSize(part, sizes.emplace_back()))
      return usage("-shape=" + text + ": expected <input>:<size>x<size>...");
  if (name.empty() || !text.contains(':'))
    return usage("-shape=" + text + ": expected <input>:<size>x<size>...");
  if (!shapes.emplace(name.str(), sizes).second)
    return usage("-shape=" + text + ": '" + name + "' is given twice");
  return llvm::Error::success();
}

/// "seq=32,128".
static llvm::Error
parseTuneDim(StringRef text,
             std::map<std::string, llvm::SmallVector<int64_t>> &dims) {
  auto [name, list] = text.split('=');
  llvm::SmallVector<int64_t> sizes;
  llvm::SmallVector<StringRef> parts;
  list.split(parts, ',');
  for (StringRef part : parts)
    if (!parseSize(part, sizes.emplace_back()) || sizes.back() == 0)
      return usage("-tune-dim=" + text +
                   ": expected <name>=<n> or "
                   "<name>=<n>,<n>,..., n from 1 on");
  if (name.empty())
    return usage("-tune-dim=" + text + ": expected <name>=<n>");
  constexpr size_t most = 8;
  if (sizes.size() > most)
    return usage("-tune-dim=" + text + ": at most " + Twine(most) + " sizes");
  if (!dims.emplace(name.str(), sizes).second)
    return usage("-tune-dim=" + text + ": '" + name + "' is given twice");
  return llvm::Error::success();
}

static llvm::Error parseEmitList(StringRef list, std::vector<EmitKind> &kinds) {
  llvm::SmallVector<StringRef> parts;
  list.split(parts, ',');
  for (StringRef part : parts) {
    std::optional<EmitKind> kind = parseEmitKind(part);
    if (!kind) {
      std::string valid = llvm::join(
          llvm::map_range(kEmitKinds, [](auto &e) { return e.second.first; }),
          ", ");
      return usage("-emit=" + part + ": unknown kind; expected one of " +
                   valid);
    }
    if (!llvm::is_contained(kinds, *kind))
      kinds.push_back(*kind);
  }
  return llvm::Error::success();
}

// A library is a folder, not a file beside others.
static llvm::Error checkLibrary(const CompileOptions &o) {
  if (!o.wants(EmitKind::KernelLibrary))
    return llvm::Error::success();
  if (o.emit.size() > 1)
    return usage("-emit=kernel-library: goes without other kinds");
  if (o.output == "-")
    return usage("-emit=kernel-library: is a folder; name it with -o");
  if (o.verify)
    return usage("-emit=kernel-library: its profiler verifies every instance "
                 "(python -m <name>.profile), not -verify");
  return llvm::Error::success();
}

// -o model.a without -emit asks for an archive.
static llvm::Error inferEmit(CompileOptions &options) {
  if (!options.emit.empty())
    return llvm::Error::success();
  StringRef extension = llvm::sys::path::extension(options.output);
  if (extension.empty() || extension == ".so")
    options.emit = {EmitKind::Shared, EmitKind::Header};
  else if (extension == ".a")
    options.emit = {EmitKind::Static, EmitKind::Header};
  else if (extension == ".o")
    options.emit = {EmitKind::Obj, EmitKind::Header};
  else if (extension == ".mlir")
    options.emit = {EmitKind::Graph};
  else
    for (auto &[kind, names] : kEmitKinds)
      if (names.second == extension)
        options.emit = {kind};
  if (options.emit.empty())
    return usage("-o " + options.output +
                 ": no kind of output has the extension '" + extension +
                 "'; choose one with -emit=");
  return llvm::Error::success();
}

// One of a few words.
template <typename T>
static llvm::Error
parseWord(const InputArgList &args, OptionID id,
          std::initializer_list<std::pair<StringRef, T>> words, T &value) {
  const Arg *arg = args.getLastArg(id);
  if (!arg)
    return llvm::Error::success();
  for (auto &[word, meaning] : words)
    if (word == arg->getValue()) {
      value = meaning;
      return llvm::Error::success();
    }
  std::string valid =
      llvm::join(llvm::map_range(words, [](auto &w) { return w.first; }), ", ");
  return usage(arg->getSpelling() + arg->getValue() + ": expected one of " +
               valid);
}

//===----------------------------------------------------------------------===//
// The command line
//===----------------------------------------------------------------------===//

// "1000000" or "2^20"; at least 1 and below 2^62.
static bool parseLimit(StringRef text, uint64_t &value) {
  uint64_t exponent;
  bool isPower = text.consume_front("2^");
  if (text.getAsInteger(10, isPower ? exponent : value))
    return false;
  if (isPower)
    value = exponent < 62 ? uint64_t(1) << exponent : 0;
  return value >= 1 && value < uint64_t(1) << 62;
}

static llvm::Error readLimits(const InputArgList &args, ModelLimits &limits) {
  llvm::Error failure = llvm::Error::success();
  auto read = [&](OptionID id, auto &limit) {
    const Arg *arg = args.getLastArg(id);
    uint64_t value;
    if (!arg || failure)
      return;
    if (parseLimit(arg->getValue(), value) &&
        value <= static_cast<uint64_t>(
                     std::numeric_limits<std::decay_t<decltype(limit)>>::max()))
      limit = static_cast<std::decay_t<decltype(limit)>>(value);
    else
      failure = usage(arg->getSpelling() + arg->getValue() +
                      ": expected a positive number, such as 1000 or 2^20");
  };
  read(OPT_max_nodes, limits.nodes);
  read(OPT_max_expansion, limits.expansion);
  read(OPT_max_nesting, limits.nesting);
  read(OPT_max_unroll, limits.unroll);
  read(OPT_max_elements, limits.elements);
  read(OPT_max_bytes, limits.bytes);
  return failure;
}

static llvm::Error readVariants(const InputArgList &args, CompileOptions &o) {
  if (const Arg *arg = args.getLastArg(OPT_variants))
    if (StringRef(arg->getValue()).getAsInteger(10, o.variants) ||
        o.variants < 1 || o.variants > 3)
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected 1, 2 or 3");
  if (const Arg *arg = args.getLastArg(OPT_force_variant))
    if (StringRef(arg->getValue()).getAsInteger(10, o.forceVariant) ||
        o.forceVariant < 0)
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected the number of a variant, from 0");
  return llvm::Error::success();
}

// Trials, or a time with its unit.
static bool parseBudget(StringRef text, CompileOptions &o) {
  double unit = text.consume_back("s")   ? 1
                : text.consume_back("m") ? 60
                : text.consume_back("h") ? 3600
                                         : 0;
  if (unit == 0)
    return !text.getAsInteger(10, o.tuneTrials) && o.tuneTrials > 0;
  if (text.getAsDouble(o.tuneSeconds) || o.tuneSeconds <= 0)
    return false;
  o.tuneSeconds *= unit;
  return true;
}

static llvm::Error readTuning(const InputArgList &args, CompileOptions &o) {
  constexpr unsigned perKernel = 32, quick = 5;
  if (args.hasArg(OPT_tune))
    o.tune = CompileOptions::Tune::Search;
  unsigned trials = perKernel;
  if (const Arg *arg = args.getLastArg(OPT_tune_mode)) {
    StringRef mode = arg->getValue();
    if (mode == "lookup")
      o.tune = CompileOptions::Tune::Lookup;
    else if (mode == "quick")
      o.tune = CompileOptions::Tune::Search, trials = quick;
    else if (mode == "static")
      o.tune = CompileOptions::Tune::Search, o.tuneStatic = true;
    else if (mode == "off")
      o.tune = CompileOptions::Tune::Off;
    else
      return usage(arg->getSpelling() + mode +
                   ": expected one of lookup, quick, static, off");
  }
  if (const Arg *arg = args.getLastArg(OPT_tune_budget)) {
    if (!parseBudget(arg->getValue(), o))
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected a number of trials, or a time: 90s, 10m");
    if (o.tune != CompileOptions::Tune::Search)
      return usage("-tune-budget= is for -tune");
  } else {
    o.tunePerKernel = trials;
  }
  if (const Arg *arg = args.getLastArg(OPT_tune_seed))
    if (StringRef(arg->getValue()).getAsInteger(10, o.tuneSeed))
      return usage(arg->getSpelling() + arg->getValue() +
                   ": expected a number");
  o.tuningDb = args.getLastArgValue(OPT_tuning_db).str();
  o.tuneRunner = args.getLastArgValue(OPT_tune_runner).str();
  if (!o.tuneRunner.empty() && o.tune != CompileOptions::Tune::Search)
    return usage("-tune-runner= is for -tune");
  return llvm::Error::success();
}

static llvm::Error readLibraries(const InputArgList &args, CompileOptions &o) {
  using Libraries = CompileOptions::Libraries;
  if (llvm::Error error = parseWord<Libraries>(args, OPT_libraries,
                                               {{"on", Libraries::On},
                                                {"off", Libraries::Off},
                                                {"all", Libraries::All}},
                                               o.libraries))
    return error;
  if (o.libraries == Libraries::Off)
    return llvm::Error::success();
  if (o.strict)
    return usage("-libraries=: -fp=strict keeps the order of every sum, which "
                 "no library promises");
  if (o.libraries == Libraries::On && o.tune == CompileOptions::Tune::Off)
    return usage("-libraries=on is for -tune: a library computes what it was "
                 "measured to be faster at");
  if (o.wants(EmitKind::KernelLibrary))
    return usage("-libraries=: kernel libraries call no other library");
  return llvm::Error::success();
}

static llvm::Error readState(const InputArgList &args, CompileOptions &o) {
  for (StringRef list : args.getAllArgValues(OPT_state)) {
    llvm::SmallVector<StringRef> parts;
    list.split(parts, ',');
    for (StringRef part : parts) {
      if (part != "auto" && !part.contains(':'))
        return usage("-state=" + part + ": expected <input>:<output> or auto");
      o.state.push_back(part.str());
    }
  }
  if (o.state.size() > 1 && llvm::is_contained(o.state, "auto"))
    return usage("-state=auto: goes without other pairs");
  if (llvm::Error error = parseWord<unsigned>(
          args, OPT_kv, {{"asis", 0}, {"int8", 8}, {"int4", 4}, {"int2", 2}},
          o.kvBits))
    return error;
  if (o.kvBits && o.state.empty())
    return usage("-kv= is for the caches of -state=");
  return llvm::Error::success();
}

static llvm::Error readPrecision(const InputArgList &args, CompileOptions &o) {
  using Precision = CompileOptions::Precision;
  if (const Arg *arg = args.getLastArg(OPT_precision)) {
    StringRef text = arg->getValue();
    auto wrong = [&](const Twine &why) {
      return usage(arg->getSpelling() + text + ": " + why);
    };
    if (text.consume_front("auto")) {
      if (!text.consume_front(":max-error=") || text.getAsDouble(o.maxError) ||
          !(o.maxError > 0))
        return usage(arg->getSpelling() + arg->getValue() +
                     ": expected auto:max-error=<e>, such as "
                     "auto:max-error=1e-3");
      o.precision = Precision::Auto;
    } else if (text == "bf16") {
      o.precision = Precision::Bf16;
    } else if (text == "tf32") {
      o.precision = Precision::Tf32;
    } else if (text == "f16" || text == "int8") {
      return wrong("products of " + text +
                   " are not made of float32 models so far; bf16 is");
    } else if (text != "f32") {
      return wrong("expected f32, tf32, bf16 or auto:max-error=<e>");
    }
  }
  for (StringRef list : args.getAllArgValues(OPT_precision_inputs)) {
    llvm::SmallVector<StringRef> parts;
    list.split(parts, ',');
    for (StringRef part : parts)
      o.precisionInputs.push_back(part.str());
  }
  if (!o.precisionInputs.empty() && o.precision != Precision::Auto)
    return usage("-precision-inputs= is for -precision=auto");
  if (o.precision != Precision::F32 && o.strict)
    return usage("-precision=: -fp=strict rounds nothing that the model does "
                 "not");
  return llvm::Error::success();
}

static llvm::Error readOptions(const InputArgList &args, CompileOptions &o) {
  if (llvm::Error error = readTuning(args, o))
    return error;
  o.target = args.getLastArgValue(OPT_target, "host").str();
  o.output = args.getLastArgValue(OPT_output).str();
  o.name = args.getLastArgValue(OPT_name).str();
  o.verify = args.hasArg(OPT_verify, OPT_verify_mode);
  if (llvm::Error error =
          parseWord<bool>(args, OPT_verify_mode, {{"bisect", true}}, o.bisect))
    return error;
  o.plantFault = args.getLastArgValue(OPT_plant_fault).str();
  o.verbose = args.hasArg(OPT_verbose);
  o.quiet = args.hasArg(OPT_quiet);
  o.timePasses = args.hasArg(OPT_time_passes);
  o.printAfter = args.getLastArgValue(OPT_print_ir_after).str();
  o.dumpDir = args.getLastArgValue(OPT_dump_dir).str();
  for (const std::string &list : args.getAllArgValues(OPT_emit))
    if (llvm::Error error = parseEmitList(list, o.emit))
      return error;
  for (const std::string &text : args.getAllArgValues(OPT_dim))
    if (llvm::Error error = parseDim(text, o.dims))
      return error;
  for (const std::string &text : args.getAllArgValues(OPT_tune_dim))
    if (llvm::Error error = parseTuneDim(text, o.tuneDims))
      return error;
  for (const std::string &text : args.getAllArgValues(OPT_shape))
    if (llvm::Error error = parseShape(text, o.shapes))
      return error;
  using Weights = CompileOptions::Weights;
  using Color = CompileOptions::Color;
  if (llvm::Error error = parseWord<Weights>(
          args, OPT_weights,
          {{"embed", Weights::Embed}, {"external", Weights::External}},
          o.weights))
    return error;
  if (llvm::Error error = parseWord<bool>(
          args, OPT_fallback, {{"on", true}, {"off", false}}, o.fallback))
    return error;
  enum class Fp { Strict, Reassoc, FastConv } fp = Fp::Reassoc;
  if (llvm::Error error = parseWord<Fp>(args, OPT_fp,
                                        {{"strict", Fp::Strict},
                                         {"reassoc", Fp::Reassoc},
                                         {"fast-conv", Fp::FastConv}},
                                        fp))
    return error;
  o.strict = fp == Fp::Strict;
  o.fastConv = fp == Fp::FastConv;
  if (llvm::Error error = parseWord<bool>(
          args, OPT_fuse, {{"on", true}, {"off", false}}, o.fuse))
    return error;
  if (llvm::Error error = parseWord<bool>(
          args, OPT_layout, {{"auto", true}, {"asis", false}}, o.relayout))
    return error;
  if (llvm::Error error = readState(args, o))
    return error;
  if (llvm::Error error = readPrecision(args, o))
    return error;
  for (const std::string &what : args.getAllArgValues(OPT_explain)) {
    if (what != "fusion" && what != "attention")
      return usage("-explain=" + what + ": expected one of fusion, attention");
    (what == "fusion" ? o.explainFusion : o.explainAttention) = true;
  }
  if (llvm::Error error = parseWord<Color>(args, OPT_color,
                                           {{"auto", Color::Auto},
                                            {"always", Color::Always},
                                            {"never", Color::Never}},
                                           o.color))
    return error;
  if (llvm::Error error = readLimits(args, o.limits))
    return error;
  if (const Arg *jobs = args.getLastArg(OPT_jobs))
    if (StringRef(jobs->getValue()).getAsInteger(10, o.jobs) || o.jobs == 0)
      return usage(Twine("-j") + jobs->getValue() +
                   ": expected a number of threads");

  if (llvm::Error error = readVariants(args, o))
    return error;
  if (llvm::Error error = readLibraries(args, o))
    return error;

  llvm::SmallVector<std::string> shaping;
  for (const Arg *arg : args.filtered(
           OPT_target, OPT_dim, OPT_shape, OPT_fp, OPT_fuse, OPT_layout,
           OPT_state, OPT_kv, OPT_precision, OPT_variants, OPT_fallback,
           OPT_force_variant, OPT_plant_fault, OPT_libraries))
    shaping.push_back(arg->getAsString(args));
  o.shapingFlags = llvm::join(shaping, " ");
  if (llvm::Error error = inferEmit(o))
    return error;
  return checkLibrary(o);
}

llvm::Expected<CommandLine>
dlc::parseCommandLine(llvm::ArrayRef<const char *> arguments) {
  Table table;
  unsigned missingIndex = 0, missingCount = 0;
  InputArgList args = table.ParseArgs(arguments, missingIndex, missingCount);
  CommandLine line;
  // Asked first, so that -diagnostics=json holds for the other usage errors
  // too.
  if (llvm::Error error = parseWord<bool>(args, OPT_diagnostics,
                                          {{"text", false}, {"json", true}},
                                          line.options.jsonDiagnostics))
    return error;
  if (missingCount)
    return usage(Twine("'") + args.getArgString(missingIndex) +
                 "' needs a value");
  if (llvm::Error error = checkSpelling(table, args, OPT_UNKNOWN))
    return error;
  for (auto [id, action] :
       {std::pair(OPT_help, CommandLine::Action::Help),
        std::pair(OPT_version, CommandLine::Action::Version),
        std::pair(OPT_list_targets, CommandLine::Action::ListTargets),
        std::pair(OPT_list_ops, CommandLine::Action::ListOps)})
    if (args.hasArg(id)) {
      line.action = action;
      return line;
    }
  if (llvm::Error error = readOptions(args, line.options))
    return error;
  std::vector<std::string> inputs = args.getAllArgValues(OPT_INPUT);
  if (inputs.empty())
    return usage("no model; usage: dlc <model.onnx> [-target=<t>] [-o <path>] "
                 "(-help lists the flags)");
  if (inputs.size() > 1)
    return usage("one model at a time, got '" + inputs[0] + "' and '" +
                 inputs[1] + "'");
  line.options.input = inputs.front();
  return line;
}

void dlc::printHelp(llvm::raw_ostream &os) {
  Table().printHelp(os, "dlc <model.onnx|graph.mlir|library.json|-> [options]",
                    "dlc: a deep learning compiler");
  os << R"(
A flag has one dash or two. Standard output is for products, standard error for
everything said.

EXAMPLES:
  dlc model.onnx                                  for this machine: model.so, model.h
  dlc model.onnx -dim=batch=1..64@8 -verify       one artifact for every batch, checked
  dlc model.onnx -target=arm:cpu=neoverse-n1 -emit=static,header -o out/model.a
  dlc model.onnx -target=cuda:sm=90a -emit=ptx -o model.ptx
  dlc model.onnx -tune -tune-budget=2m            search schedules for two minutes, use the best
  dlc model.onnx -emit=graph -o -                 what the compiler made of the model
  dlc library.json -emit=kernel-library -o out/   a library of kernels: C, CMake, Python

EXIT CODES:
  0  done                       4  verification or admission failed
  1  the model was rejected     5  a tool or device is missing
  2  bad usage                 70  a fault of dlc
  3  a file

ENVIRONMENT:
  DLC_NUM_THREADS, OMP_NUM_THREADS   threads of a run
)";
}
