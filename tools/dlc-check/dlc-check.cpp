// dlc-check: shows that a fused program computes what the original does, or
// that two models compute the same outputs.
#include "dlc/Check/Fusion.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/ModelSource.h"

#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"

using namespace dlc;
using namespace llvm::opt;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using mlir::ModuleOp;

#define OPTTABLE_STR_TABLE_CODE
#include "dlc/tools/CheckOptions.inc"
#undef OPTTABLE_STR_TABLE_CODE
#define OPTTABLE_PREFIXES_TABLE_CODE
#include "dlc/tools/CheckOptions.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

namespace {
enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "dlc/tools/CheckOptions.inc"
#undef OPTION
};
constexpr OptTable::Info kInfos[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "dlc/tools/CheckOptions.inc"
#undef OPTION
};
struct Table : GenericOptTable {
  Table() : GenericOptTable(OptionStrTable, OptionPrefixesTable, kInfos) {}
};

// The command line, with its values checked.
struct Settings {
  std::vector<std::string> files;
  graph::NumericsMode mode = graph::NumericsMode::reassoc;
  bool json = false, dumpGroups = false, acceptElided = false;
  CompileOptions source; // -dim and -shape
};
} // namespace

static constexpr const char *kOverview =
    R"(dlc-check: shows that two programs compute the same

  dlc-check original.mlir fused.mlir   the kernels of a fused program against the operators they were
                                       made from: 01-graph.mlir and 02-fused.mlir of dlc's -dump-dir
  dlc-check fused.mlir                 each fused kernel against its certificate alone
  dlc-check a.onnx b.onnx              the outputs of two models (also graph operators or kernels
                                       in .mlir) as expressions of their inputs

A refusal names the condition (docs/check.md), the reason, and a point at which the two sides
differ where one was found. What could not be shown is refused.
Exit codes: 0 shown, 4 refused, 1 not a model, 2 command line, 3 file.)";

static Expected<Settings> readSettings(const InputArgList &args) {
  Settings s;
  s.files = args.getAllArgValues(OPT_INPUT);
  if (s.files.empty() || s.files.size() > 2)
    return usage("usage: dlc-check <original> <fused> [options] (-help says "
                 "more)");
  StringRef fp = args.getLastArgValue(OPT_fp, "reassoc");
  std::optional<graph::NumericsMode> mode = graph::symbolizeNumericsMode(fp);
  if (!mode)
    return usage("-fp=" + fp + ": the modes are strict, reassoc and fast-conv");
  s.mode = *mode;
  s.json = args.hasArg(OPT_json);
  s.dumpGroups = args.hasArg(OPT_dump_groups);
  s.acceptElided = args.hasArg(OPT_accept_elided);
  for (const std::string &text : args.getAllArgValues(OPT_dim))
    if (Error error = parseDim(text, s.source.dims))
      return error;
  for (const std::string &text : args.getAllArgValues(OPT_shape))
    if (Error error = parseShape(text, s.source.shapes))
      return error;
  return s;
}

static bool hasCertificates(ModuleOp module) {
  return !module.getOps<graph::CertificateOp>().empty();
}

// The names of the resources that a text mentions, in order.
static std::vector<std::string> scanResources(StringRef text) {
  std::vector<std::string> names;
  constexpr StringRef kStart = "dense_resource<";
  for (size_t at = text.find(kStart); at != StringRef::npos;
       at = text.find(kStart)) {
    text = text.drop_front(at + kStart.size());
    StringRef name = text.consume_front("\"")
                         ? text.take_until([](char c) { return c == '"'; })
                         : text.take_until([](char c) { return c == '>'; });
    names.push_back(name.str());
  }
  return names;
}

// A printed program names its large constants and leaves their data out. What
// has one name and type in both files counts as one constant; the parser has
// given the second file's names of its own. "__elided__" names nothing.
static Error matchConstants(
    ModuleOp module, const Settings &s, StringRef file,
    std::map<std::string, mlir::DenseResourceElementsHandle> &known) {
  auto buffer = llvm::MemoryBuffer::getFile(file);
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(), file);
  std::vector<std::string> names = scanResources((*buffer)->getBuffer());
  size_t next = 0;
  bool isElided = false;
  module.walk<mlir::WalkOrder::PreOrder>([&](graph::ConstantOp constant) {
    auto resource =
        llvm::dyn_cast<mlir::DenseResourceElementsAttr>(constant.getValue());
    if (!resource || next >= names.size())
      return;
    const std::string &name = names[next++];
    if (resource.getRawHandle().getBlob())
      return;
    isElided |= name == "__elided__";
    auto it = known.try_emplace(name, resource.getRawHandle()).first;
    constant.setValueAttr(
        mlir::DenseResourceElementsAttr::get(resource.getType(), it->second));
  });
  if (next != names.size())
    return makeError(ExitCode::Rejected,
                     "constants stand where the checker does not look for them",
                     file);
  if (isElided && !s.acceptElided)
    return makeError(ExitCode::Rejected,
                     "the text leaves out constants and their names, so they "
                     "cannot be compared; -accept-elided takes them as equal",
                     file);
  return Error::success();
}

// Large constants that hold the same bytes become one.
namespace {
class ConstantPool {
public:
  void unite(ModuleOp module) {
    module.walk([&](graph::ConstantOp constant) {
      auto resource =
          llvm::dyn_cast<mlir::DenseResourceElementsAttr>(constant.getValue());
      mlir::AsmResourceBlob *blob =
          resource ? resource.getRawHandle().getBlob() : nullptr;
      if (!blob)
        return;
      llvm::ArrayRef<char> bytes = blob->getData();
      uint64_t hash = llvm::xxh3_64bits(llvm::ArrayRef(
          reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()));
      for (auto &[known, handle] : pool[hash])
        if (known == bytes) {
          constant.setValueAttr(
              mlir::DenseResourceElementsAttr::get(resource.getType(), handle));
          return;
        }
      pool[hash].push_back({bytes, resource.getRawHandle()});
    });
  }

private:
  std::map<uint64_t, std::vector<std::pair<llvm::ArrayRef<char>,
                                           mlir::DenseResourceElementsHandle>>>
      pool;
};
} // namespace

// Graph operators become kernels; kernels stay.
static Error formKernels(ModuleOp module, StringRef file) {
  bool hasOperators = false;
  module.walk([&](graph::GraphOp op) {
    hasOperators |= !op->getParentOfType<graph::KernelOp>();
  });
  if (!hasOperators)
    return Error::success();
  mlir::PassManager manager(module.getContext());
  manager.addPass(graph::createFormKernels());
  DiagnosticCollector diagnostics(module.getContext(), file);
  if (mlir::failed(manager.run(module)))
    return diagnostics.take(ExitCode::Rejected,
                            "has operators without kernels");
  return Error::success();
}

static Error finish(bool accepted, StringRef what) {
  return accepted ? Error::success() : makeError(ExitCode::Verify, what);
}

static Error reportFusion(const Settings &s,
                          const check::FusionVerdict &verdict) {
  if (s.json)
    llvm::outs() << verdict.toJSON() << "\n";
  else
    verdict.print(llvm::outs());
  return finish(verdict.accepted(),
                "not shown to compute what the original does");
}

static Error checkOutputs(const Settings &s, ModelSource &a, ModelSource &b) {
  for (auto [source, file] : {std::pair(&a, &s.files[0]), {&b, &s.files[1]}})
    if (Error error = formKernels(*source->module, *file))
      return error;
  DiagnosticCollector diagnostics(a.module->getContext(), s.files[1]);
  auto verdicts = check::checkEquivalence(a.getMain(), b.getMain());
  if (mlir::failed(verdicts))
    return diagnostics.take(ExitCode::Verify, "cannot be compared");
  unsigned refused = 0;
  llvm::json::Array list;
  for (const check::OutputVerdict &v : *verdicts) {
    refused += v.refusal.has_value();
    if (s.json) {
      llvm::json::Object object{{"output", v.output},
                                {"equal", !v.refusal.has_value()}};
      if (v.refusal) {
        object["condition"] = check::stringifyCondition(v.refusal->condition);
        object["reason"] = v.refusal->reason;
        if (!v.refusal->witness.empty())
          object["witness"] = v.refusal->witness;
      }
      list.push_back(std::move(object));
      continue;
    }
    llvm::outs() << "output " << v.output << ": "
                 << (v.refusal ? "not shown equal: " + v.refusal->str()
                               : "equal")
                 << "\n";
  }
  if (s.json)
    llvm::outs() << llvm::json::Value(
                        llvm::json::Object{{"accepted", refused == 0},
                                           {"outputs", std::move(list)}})
                 << "\n";
  return finish(refused == 0, std::to_string(refused) + " of " +
                                  std::to_string(verdicts->size()) +
                                  " outputs are not shown to be equal");
}

static Error run(const Settings &s) {
  std::vector<ModelSource> sources;
  // The first owns the context of all.
  auto inReverse = llvm::scope_exit([&] {
    while (!sources.empty())
      sources.pop_back();
  });
  std::map<std::string, mlir::DenseResourceElementsHandle> constants;
  ConstantPool pool;
  for (const std::string &file : s.files) {
    CompileOptions options = s.source;
    options.input = file;
    Expected<ModelSource> source =
        loadModel(options, sources.empty() ? nullptr : sources[0].context.get(),
                  /*needsConstants=*/false);
    if (!source)
      return source.takeError();
    if (StringRef(file).ends_with(".mlir"))
      if (Error error = matchConstants(*source->module, s, file, constants))
        return error;
    pool.unite(*source->module);
    sources.push_back(std::move(*source));
  }
  if (sources.size() == 1) {
    if (!hasCertificates(*sources[0].module))
      return makeError(ExitCode::Rejected,
                       "has no certificates; give the program it is to be "
                       "compared with",
                       s.files[0]);
    return reportFusion(s,
                        check::checkCertificates(*sources[0].module, s.mode));
  }
  ModuleOp a = *sources[0].module, b = *sources[1].module;
  if (!hasCertificates(b))
    return s.dumpGroups ? makeError(ExitCode::Rejected, "has no certificates",
                                    s.files[1])
                        : checkOutputs(s, sources[0], sources[1]);
  if (Error error = formKernels(a, s.files[0]))
    return error;
  if (s.dumpGroups) {
    std::string text = check::dumpGroups(a, b);
    llvm::outs() << text;
    return text.empty()
               ? makeError(ExitCode::Verify,
                           "the certificates do not describe the program",
                           s.files[1])
               : Error::success();
  }
  return reportFusion(s, check::checkFusion(a, b, s.mode));
}

int main(int argc, char **argv) {
  Table table;
  unsigned missingIndex = 0, missingCount = 0;
  InputArgList args =
      table.ParseArgs(llvm::ArrayRef<const char *>(argv + 1, argc - 1),
                      missingIndex, missingCount);
  if (args.hasArg(OPT_help)) {
    table.printHelp(llvm::outs(), "dlc-check <original> <fused> [options]",
                    kOverview);
    return 0;
  }
  Error error = checkSpelling(table, args, OPT_UNKNOWN);
  if (!error) {
    Expected<Settings> settings = readSettings(args);
    error = settings ? run(*settings) : settings.takeError();
  }
  llvm::outs().flush();
  if (!error)
    return 0;
  return printError(llvm::errs(),
                    toCompileError(std::move(error), ExitCode::Internal),
                    args.hasArg(OPT_json), "dlc-check");
}
