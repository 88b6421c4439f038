// Loading a model, and the diagnostics of MLIR as data.
#include "dlc/Driver/ModelSource.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "dlc/Dialect/Program/IR/Program.h"
#include "dlc/Frontend/ONNX/ConvertToGraph.h"
#include "dlc/Frontend/ONNX/DimBounds.h"
#include "dlc/Frontend/ONNX/Import.h"
#include "dlc/Interpreter/Interpreter.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

void dlc::registerDialects(DialectRegistry &registry) {
  registry.insert<func::FuncDialect, graph::GraphDialect, onnxd::ONNXDialect,
                  program::ProgramDialect>();
}

//===----------------------------------------------------------------------===//
// Diagnostics
//===----------------------------------------------------------------------===//

struct DiagnosticCollector::State {
  MLIRContext *context;
  std::string file;
  DiagnosticEngine::HandlerID handler;
  std::vector<dlc::Diagnostic> errors;
};

// The name of the model's node in a location.
static std::string findNodeName(Location loc) {
  std::string name;
  loc->walk([&](Location part) {
    auto named = dyn_cast<NameLoc>(part);
    if (!named)
      return WalkResult::advance();
    name = named.getName().str();
    return WalkResult::interrupt();
  });
  return name;
}

DiagnosticCollector::DiagnosticCollector(MLIRContext *context, StringRef file)
    : state(std::make_unique<State>()) {
  state->context = context;
  state->file = file.str();
  state->handler = context->getDiagEngine().registerHandler(
      [s = state.get()](mlir::Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
          return failure();
        dlc::Diagnostic error;
        error.file = s->file;
        if (auto place = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
          error.file += ":" + std::to_string(place.getLine()) + ":" +
                        std::to_string(place.getColumn());
        if (std::string name = findNodeName(diagnostic.getLocation());
            !name.empty())
          error.node = "node '" + name + "'";
        error.reason = diagnostic.str();
        s->errors.push_back(std::move(error));
        return success();
      });
}

DiagnosticCollector::~DiagnosticCollector() {
  state->context->getDiagEngine().eraseHandler(state->handler);
}

Error DiagnosticCollector::take(ExitCode code, StringRef fallback) {
  if (state->errors.empty())
    return makeError(code, fallback, state->file);
  return llvm::make_error<CompileError>(code, std::exchange(state->errors, {}));
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

// The bounds of -dim=batch=1..64@8, where code generation and the artifact look
// for them.
static Error setRanges(func::FuncOp main, const CompileOptions &options) {
  auto symbols = main->getAttrOfType<ArrayAttr>("graph.symbols");
  Builder builder(main.getContext());
  std::map<std::string, DimRange> unused;
  for (auto &entry : options.dims)
    if (entry.second.min != entry.second.max)
      unused.insert(entry);
  SmallVector<Attribute> ranges;
  if (symbols)
    for (StringAttr name : symbols.getAsRange<StringAttr>()) {
      DimRange range;
      auto it = options.dims.find(name.str());
      if (it != options.dims.end())
        range = it->second;
      unused.erase(name.str());
      ranges.push_back(
          builder.getDenseI64ArrayAttr({range.min, range.max, range.typical}));
    }
  if (!unused.empty())
    return makeError(ExitCode::Usage,
                     "-dim=" + unused.begin()->first +
                         ": the model has no free dim of this name");
  if (!ranges.empty())
    main->setAttr("graph.ranges", builder.getArrayAttr(ranges));
  return Error::success();
}

static Expected<OwningOpRef<ModuleOp>> parseGraph(const CompileOptions &options,
                                                  MLIRContext *context) {
  auto buffer = llvm::MemoryBuffer::getFile(options.input);
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(), options.input);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(*buffer), llvm::SMLoc());
  DiagnosticCollector diagnostics(context, options.input);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, context);
  if (!module)
    return diagnostics.take(ExitCode::Rejected,
                            "is not a module of graph operators");
  auto main = module->lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return makeError(ExitCode::Rejected, "has no function 'main'",
                     options.input);
  return module;
}

/// Numbers that are read without a question: a module in MLIR's text form may
/// lack them, or have too few.
static Error checkConstants(ModuleOp module, StringRef file) {
  std::string missing;
  module.walk([&](graph::ConstantOp constant) {
    auto data = dyn_cast<DenseResourceElementsAttr>(constant.getValue());
    if (!data || succeeded(interp::Tensor::fromAttr(data)))
      return WalkResult::advance();
    missing = data.getRawHandle().getKey();
    return WalkResult::interrupt();
  });
  if (missing.empty())
    return Error::success();
  return makeError(ExitCode::Rejected,
                   "the file does not have the numbers of constant '" +
                       missing +
                       "' (-dump-dir leaves those of large ones out); compile "
                       "the model that it was made of",
                   file);
}

static Expected<ImportedModel> importModel(const CompileOptions &options,
                                           MLIRContext &context) {
  ImportOptions import;
  import.limits = options.limits;
  if (!options.inputBytes.empty())
    return importOnnxBytes(options.inputBytes, "", options.input, context,
                           import);
  if (options.input != "-")
    return importOnnx(options.input, context, import);
  auto buffer = llvm::MemoryBuffer::getSTDIN();
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(),
                     "standard input");
  return importOnnxBytes((*buffer)->getBuffer(), "", "standard input", context,
                         import);
}

Expected<ModelSource> dlc::loadModel(const CompileOptions &options,
                                     MLIRContext *shared, bool needsConstants) {
  ModelSource source;
  DialectRegistry registry;
  registerDialects(registry);
  // One thread: a thread pool costs more than small models take, and the
  // parallel part of compiling, code generation, has contexts of its own.
  if (!shared)
    source.context = std::make_unique<MLIRContext>(
        registry, MLIRContext::Threading::DISABLED);
  MLIRContext *context = shared ? shared : source.context.get();

  if (StringRef(options.input).ends_with(".mlir")) {
    Expected<OwningOpRef<ModuleOp>> module = parseGraph(options, context);
    if (!module)
      return module.takeError();
    if (needsConstants)
      if (Error error = checkConstants(**module, options.input))
        return std::move(error);
    source.module = std::move(*module);
  } else {
    Expected<ImportedModel> imported = importModel(options, *context);
    if (!imported)
      return llvm::make_error<CompileError>(
          toCompileError(imported.takeError(), ExitCode::Rejected));
    ConvertOptions convert;
    convert.fold = [](Operation *op, ArrayRef<Attribute> operands) {
      return interp::foldGraphOp(op, operands);
    };
    for (auto &[name, range] : options.dims)
      if (range.min == range.max)
        convert.dims[name] = range.min;
    convert.shapes = options.shapes;
    SmallVector<NamedAttribute> bounds;
    Builder builder(context);
    for (auto &[name, range] : options.dims)
      bounds.push_back(builder.getNamedAttr(
          name, builder.getDenseI64ArrayAttr({range.min, range.max})));
    (*imported->module)
        ->setAttr(kDimBoundsAttr, builder.getDictionaryAttr(bounds));
    convert.limits = options.limits;
    DiagnosticCollector diagnostics(context, options.input);
    auto module = convertToGraph(*imported->module, options.input, convert);
    if (!module)
      return llvm::make_error<CompileError>(
          toCompileError(module.takeError(), ExitCode::Rejected));
    source.file = std::move(imported->file);
    source.module = std::move(*module);
  }
  if (Error error = setRanges(source.getMain(), options))
    return error;
  return source;
}
