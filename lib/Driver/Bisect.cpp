// -verify=bisect: which kernel is wrong.
//
// The one idea: the interpreter runs the model and every value is kept; then
// the compiled kernels run again, each on the interpreter's values instead of
// its predecessor's results. The first that differs is wrong by itself. For
// that, @main is unchained: what a kernel reads of another's results becomes an
// argument, what kernels compute become the results. The kernels' code is
// reused, only the host program is made anew, so that foreign artifacts (under
// qemu) and crashes of generated code need nothing of their own.
//
// A fused kernel is compared with its certificate, that is with the operators
// it was made of; when its own body, interpreted, differs from them, then
// fusion is wrong and not code generation.
#include "Verify.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Driver/RunModel.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

// Kernels of one unchained program, and the bytes of their tensors: an artifact
// with all kernels of a large model would hold every value twice.
static constexpr unsigned kMostUnits = 1000;
static constexpr int64_t kMostBytes = int64_t(1) << 30;

//===----------------------------------------------------------------------===//
// What the interpreter says
//===----------------------------------------------------------------------===//

namespace {
// Runs @main once and keeps the values of its block; what happens inside
// branches and loops is their own.
struct Recorder {
  interp::Interpreter kernels; // evaluates kernels
  ModuleOp module;
  llvm::StringMap<graph::CertificateOp> certificates; // by kernel
  llvm::DenseMap<Value, Tensor> values;
  llvm::DenseMap<Operation *, SmallVector<int64_t>> symbolsOf; // of calls

  Recorder(interp::MathMode math, Compilation &c);
  LogicalResult run(interp::MathMode math, func::FuncOp main,
                    ArrayRef<Tensor> inputs);
  SmallVector<Tensor> operandsOf(Operation *op) {
    return llvm::map_to_vector(op->getOperands(),
                               [&](Value v) { return values.lookup(v); });
  }
  FailureOr<SmallVector<Tensor>> runMembers(graph::CertificateOp certificate,
                                            ArrayRef<Tensor> operands,
                                            ArrayRef<int64_t> actual);
};
} // namespace

static interp::Options withMath(interp::MathMode math) {
  interp::Options options;
  options.math = math;
  return options;
}

Recorder::Recorder(interp::MathMode math, Compilation &c)
    : kernels(withMath(math)), module(*c.kernelModule) {
  if (!c.certifiedModule)
    return;
  llvm::StringMap<graph::CertificateOp> known;
  for (auto certificate : c.certifiedModule->getOps<graph::CertificateOp>())
    known[certificate.getKernel()] = certificate;
  for (auto kernel : module.getOps<graph::KernelOp>()) {
    auto copy = c.copyOf.find(kernel.getSymName());
    auto it = known.find(copy == c.copyOf.end() ? kernel.getSymName()
                                                : StringRef(copy->second));
    if (it != known.end())
      certificates[kernel.getSymName()] = it->second;
  }
}

// The operators a fused kernel was made of.
FailureOr<SmallVector<Tensor>>
Recorder::runMembers(graph::CertificateOp certificate,
                     ArrayRef<Tensor> operands, ArrayRef<int64_t> actual) {
  llvm::DenseMap<Value, Tensor> inner;
  Block &block = certificate.getBody().front();
  for (auto [argument, tensor] :
       llvm::zip_equal(block.getArguments(), operands))
    inner[argument] = tensor;
  for (Operation &op : block) {
    SmallVector<Tensor> tensors = llvm::map_to_vector(
        op.getOperands(), [&](Value v) { return inner.lookup(v); });
    if (isa<graph::ReturnOp>(op))
      return tensors;
    auto results = kernels.runOp(&op, tensors, actual);
    if (failed(results))
      return failure();
    for (auto [value, tensor] : llvm::zip_equal(op.getResults(), *results))
      inner[value] = tensor;
  }
  return failure();
}

LogicalResult Recorder::run(interp::MathMode math, func::FuncOp main,
                            ArrayRef<Tensor> inputs) {
  for (auto [argument, tensor] : llvm::zip(main.getArguments(), inputs))
    values[argument] = tensor;
  interp::Options options = withMath(math);
  options.call = [&](graph::CallOp call, ArrayRef<Tensor> operands,
                     ArrayRef<int64_t> symbols) {
    SmallVector<int64_t> &actual = symbolsOf[call];
    actual.clear();
    if (call.getSymbols())
      for (AffineExpr e : call.getSymbols()->getDims())
        actual.push_back(graph::evaluate(e, symbols));
    auto it = certificates.find(call.getCallee());
    return it == certificates.end()
               ? kernels.runKernel(
                     module.lookupSymbol<graph::KernelOp>(call.getCallee()),
                     operands, actual)
               : runMembers(it->second, operands, actual);
  };
  options.observer = [&](Operation *op, ArrayRef<Tensor>,
                         ArrayRef<Tensor> results) {
    if (op->getParentOp() == main)
      for (auto [value, tensor] : llvm::zip_equal(op->getResults(), results))
        values[value] = tensor;
  };
  return success(succeeded(interp::Interpreter(options).run(main, inputs)));
}

//===----------------------------------------------------------------------===//
// The unchained program
//===----------------------------------------------------------------------===//

namespace {
struct Unchained {
  OwningOpRef<ModuleOp> module;
  SmallVector<Tensor> inputs;
};
} // namespace

// True when some size is only known once the data are: such a value cannot be
// an input, since inputs give sizes.
static bool dependsOnData(Type type, const llvm::DenseSet<unsigned> &data) {
  bool found = false;
  for (AffineExpr dim : graph::getDims(type))
    dim.walk([&](AffineExpr part) {
      if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
        found |= data.contains(symbol.getPosition());
    });
  return found;
}

// What is compared: calls of kernels, and branches and loops as a whole.
static bool isUnit(Operation &op) {
  return isa<graph::CallOp, graph::IfOp, graph::LoopOp>(op);
}

// A copy of the module whose @main runs only `wanted`, each on arguments.
static Unchained unchain(Recorder &recorder, ArrayRef<Operation *> wanted) {
  Unchained result;
  IRMapping mapping;
  result.module = cast<ModuleOp>(recorder.module->clone(mapping));
  auto original = recorder.module.lookupSymbol<func::FuncOp>("main");
  auto main = result.module->lookupSymbol<func::FuncOp>("main");
  Block &block = main.getBody().front();
  Builder builder(main.getContext());
  for (BlockArgument argument : original.getArguments())
    result.inputs.push_back(recorder.values.lookup(argument));

  llvm::DenseSet<unsigned> data;
  graph::forEachDataSymbol(
      main, [&](unsigned symbol, AffineExpr) { data.insert(symbol); });
  SmallVector<Value> outputs;
  for (Operation *op : wanted)
    for (Value value : op->getResults())
      outputs.push_back(mapping.lookup(value));
  Operation *terminator = block.getTerminator();
  terminator->setOperands(outputs);

  // Arguments for what is read; views in between stay.
  SmallVector<DictionaryAttr> argAttrs;
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    argAttrs.push_back(main.getArgAttrDict(i));
  for (Operation &op : original.getBody().front()) {
    if (!isUnit(op))
      continue;
    for (Value value : op.getResults()) {
      Value copy = mapping.lookup(value);
      if (dependsOnData(copy.getType(), data) ||
          llvm::all_of(copy.getUsers(),
                       [&](Operation *user) { return user == terminator; }))
        continue;
      Value argument = block.addArgument(copy.getType(), copy.getLoc());
      copy.replaceUsesWithIf(argument, [&](OpOperand &use) {
        return use.getOwner() != terminator;
      });
      result.inputs.push_back(recorder.values.lookup(value));
      argAttrs.push_back(builder.getDictionaryAttr({builder.getNamedAttr(
          "graph.name",
          builder.getStringAttr("bisect_" + Twine(result.inputs.size())))}));
    }
  }
  // What binds sizes stays.
  auto binds = [](Operation &op) {
    bool found = false;
    graph::forEachDataSymbol(&op, [&](unsigned, AffineExpr) { found = true; });
    return found;
  };
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (&op != terminator && op.use_empty() && !binds(op))
      op.erase();
  // Arguments that nothing reads any more; those of the model may give sizes.
  auto symbols = main->getAttrOfType<ArrayAttr>("graph.symbols");
  unsigned kept = symbols && !symbols.empty() ? original.getNumArguments() : 0;
  for (unsigned i = block.getNumArguments(); i-- > kept;)
    if (block.getArgument(i).use_empty()) {
      block.eraseArgument(i);
      argAttrs.erase(argAttrs.begin() + i);
      result.inputs.erase(result.inputs.begin() + i);
    }
  main->removeAttr("res_attrs");
  main.setFunctionType(builder.getFunctionType(block.getArgumentTypes(),
                                               ValueRange(outputs).getTypes()));
  main.setAllArgAttrs(argAttrs);
  return result;
}

// Only what @main calls.
static void dropUncalledKernels(ModuleOp module) {
  llvm::StringSet<> called;
  module.walk([&](graph::CallOp call) { called.insert(call.getCallee()); });
  for (auto kernel :
       llvm::make_early_inc_range(module.getOps<graph::KernelOp>()))
    if (!called.contains(kernel.getSymName()))
      kernel.erase();
}

// Compiles the unchained program around the kernels' code and runs it.
static Expected<SmallVector<Tensor>> runUnchained(Compilation &c,
                                                  Unchained &program) {
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::string path = (*folder)->getPath("unchained.so");
  CompileOptions options = c.options;
  options.emit = {EmitKind::Shared};
  options.dumpDir.clear();
  options.printAfter.clear();
  options.verify = options.bisect = false;
  options.weights = CompileOptions::Weights::External;
  Progress progress(/*quiet=*/true, /*redraw=*/false);
  Compilation d(options, progress);
  d.name = c.name;
  d.target = c.target;
  d.products = {{EmitKind::Shared, path}};
  d.info.laws = c.info.laws;
  // What the first compilation made, for a while.
  d.source.context = std::move(c.source.context);
  d.source.module = std::move(program.module);
  std::swap(d.kernels, c.kernels);
  std::swap(d.code, c.code);
  Error error = buildProgram(d);
  if (!error)
    error = writeProducts(d);
  if (!error)
    error = d.outputs.commit();
  d.source.module = {};
  c.source.context = std::move(d.source.context);
  std::swap(d.kernels, c.kernels);
  std::swap(d.code, c.code);
  if (error)
    return std::move(error);
  Expected<Artifact> artifact = Artifact::open(path);
  if (!artifact)
    return artifact.takeError();
  return artifact->run(program.inputs, c.source.context.get(), {});
}

//===----------------------------------------------------------------------===//
// What is reported
//===----------------------------------------------------------------------===//

static std::string spellPoint(const Tensor &tensor, int64_t flat) {
  SmallVector<int64_t> point;
  for (int64_t size : llvm::reverse(tensor.getShape())) {
    point.push_back(flat % std::max<int64_t>(size, 1));
    flat /= std::max<int64_t>(size, 1);
  }
  std::string text = "[";
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(llvm::reverse(point), os);
  os << "]";
  return text;
}

// "kernel 'reduce_1' of node 'total' (nest row)"
static std::string describeUnit(Compilation &c, Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto call = dyn_cast<graph::CallOp>(op);
  if (!call) {
    os << op->getName().stripDialect();
    if (auto name = dyn_cast<NameLoc>(op->getLoc()))
      os << " of node '" << name.getName().getValue() << "'";
    return text;
  }
  os << "kernel '" << call.getCallee() << "'";
  auto origin = call->getAttrOfType<ArrayAttr>("origin");
  if (origin && !origin.empty()) {
    os << (origin.size() == 1 ? " of node " : " of nodes ");
    llvm::interleaveComma(
        origin.getAsRange<StringAttr>(), os,
        [&](StringAttr s) { os << "'" << s.getValue() << "'"; });
  }
  os << " (nest " << c.code.lookup(call.getCallee()).nest << ")";
  return text;
}

// The kernel alone with its inputs and what its results should be and are.
static Expected<std::string> writeReproducer(Compilation &c, Recorder &recorder,
                                             Operation *op,
                                             ArrayRef<Tensor> actual) {
  SmallString<128> folder(c.options.dumpDir);
  if (folder.empty()) {
    folder = c.products.front().second;
    llvm::sys::path::replace_extension(folder, ".bisect");
  } else {
    llvm::sys::path::append(folder, "bisect");
  }
  if (std::error_code code = llvm::sys::fs::create_directories(folder))
    return makeError(ExitCode::Io, code.message(), folder);
  Unchained alone = unchain(recorder, op);
  dropUncalledKernels(*alone.module);
  std::string path = (folder + "/kernel.mlir").str();
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  if (code)
    return makeError(ExitCode::Io, code.message(), path);
  alone.module->print(os);
  os << "\n";
  os.close();
  if (os.error())
    return makeError(ExitCode::Io, os.error().message(), path);
  auto write = [&](StringRef stem, ArrayRef<Tensor> tensors) -> Error {
    for (auto [i, tensor] : llvm::enumerate(tensors))
      if (Error error = writeTensor(
              (folder + "/" + stem + "_" + Twine(i) + ".npy").str(), tensor))
        return error;
    return Error::success();
  };
  SmallVector<Tensor> expected;
  for (Value value : op->getResults())
    expected.push_back(recorder.values.lookup(value));
  if (Error error = write("input", alone.inputs))
    return std::move(error);
  if (Error error = write("output", expected))
    return std::move(error);
  if (Error error = write("actual", actual))
    return std::move(error);
  std::string files;
  for (size_t i = 0; i < alone.inputs.size(); ++i)
    files += (files.empty() ? "" : ",") + std::string(folder) + "/input_" +
             std::to_string(i) + ".npy";
  return "dlc " + path + " " + c.options.shapingFlags +
         " -o kernel.so && dlc-run kernel.so" +
         (files.empty() ? "" : " -inputs=" + files) +
         " -compare=" + std::string(folder);
}

// Which part of the compiler: fusion, when the kernel's own body differs from
// the operators it was made of.
static std::string blame(Recorder &recorder, Operation *op, double tolerance) {
  auto call = dyn_cast<graph::CallOp>(op);
  if (!call)
    return "a kernel in its regions or the code around them is wrong";
  if (!recorder.certificates.contains(call.getCallee()))
    return "code generation is wrong";
  auto kernel = recorder.module.lookupSymbol<graph::KernelOp>(call.getCallee());
  auto own = recorder.kernels.runKernel(kernel, recorder.operandsOf(call),
                                        recorder.symbolsOf.lookup(call));
  if (failed(own))
    return "fusion is wrong: the kernel's body cannot be interpreted";
  for (auto [tensor, value] : llvm::zip_equal(*own, call.getResults())) {
    auto difference = compareTensors(tensor, recorder.values.lookup(value));
    if (!difference) {
      llvm::consumeError(difference.takeError());
      return "fusion is wrong: the kernel's body has results of other types";
    }
    if (difference->getRelative() > tolerance)
      return "fusion is wrong: the kernel's body differs from the operators it "
             "was made of";
  }
  return "fusion is right, code generation is wrong";
}

// `what` is wrong with the kernel.
static Error report(Compilation &c, Recorder &recorder, Operation *op,
                    ArrayRef<Tensor> actual, const std::string &what) {
  auto command = writeReproducer(c, recorder, op, actual);
  if (!command)
    return command.takeError();
  return makeError(ExitCode::Verify,
                   llvm::formatv("{0} is the first that is wrong: {1}\n"
                                 "  replay: {2}",
                                 describeUnit(c, op), what, *command)
                       .str(),
                   c.options.input);
}

static std::string describe(Compilation &c, Recorder &recorder, Operation *op,
                            unsigned index, const Difference &difference) {
  Tensor expected = recorder.values.lookup(op->getResult(index));
  return llvm::formatv("result {0} at {1} is {2}, the interpreter has {3} "
                       "(max|a-b|/max|b| {4:e2}); {5}",
                       index, spellPoint(expected, difference.at),
                       difference.actual, difference.expected,
                       difference.getRelative(),
                       blame(recorder, op, getTolerance(c.options, expected)))
      .str();
}

//===----------------------------------------------------------------------===//
// The search
//===----------------------------------------------------------------------===//

static Error searchChunk(Compilation &c, Recorder &recorder,
                         ArrayRef<Operation *> units, double &worst) {
  Unchained program = unchain(recorder, units);
  auto outputs = runUnchained(c, program);
  if (!outputs) { // a kernel crashes, or says that the data are in error
    std::string reason = llvm::toString(outputs.takeError());
    if (units.size() == 1)
      return report(c, recorder, units[0], {}, reason);
    size_t half = units.size() / 2;
    if (Error error = searchChunk(c, recorder, units.take_front(half), worst))
      return error;
    return searchChunk(c, recorder, units.drop_front(half), worst);
  }
  unsigned next = 0;
  for (Operation *op : units) {
    ArrayRef<Tensor> actual =
        ArrayRef<Tensor>(*outputs).slice(next, op->getNumResults());
    next += op->getNumResults();
    for (auto [i, value] : llvm::enumerate(op->getResults())) {
      Tensor expected = recorder.values.lookup(value);
      Expected<Difference> difference = compareTensors(actual[i], expected);
      if (!difference)
        return difference.takeError();
      worst = std::max(worst, difference->getRelative());
      if (difference->getRelative() > getTolerance(c.options, expected))
        return report(c, recorder, op, actual,
                      describe(c, recorder, op, i, *difference));
    }
  }
  return Error::success();
}

Error dlc::bisect(Compilation &c, interp::MathMode math,
                  ArrayRef<Tensor> inputs) {
  c.progress.begin("bisect");
  Recorder recorder(math, c);
  auto main = c.kernelModule->lookupSymbol<func::FuncOp>("main");
  {
    DiagnosticCollector diagnostics(c.source.context.get(), c.options.input);
    if (failed(recorder.run(math, main, inputs)))
      return diagnostics.take(ExitCode::Internal,
                              "the interpreter failed without saying why");
  }
  SmallVector<Operation *> chunk;
  int64_t bytes = 0;
  unsigned count = 0;
  double worst = 0;
  auto search = [&]() -> Error {
    SmallVector<Operation *> units = std::move(chunk);
    chunk.clear();
    bytes = 0;
    return units.empty() ? Error::success()
                         : searchChunk(c, recorder, units, worst);
  };
  for (Operation &op : main.getBody().front()) {
    if (!isUnit(op))
      continue;
    chunk.push_back(&op);
    ++count;
    for (Value value : op.getOperands())
      bytes += recorder.values.lookup(value).getNumBytes();
    for (Value value : op.getResults())
      bytes += recorder.values.lookup(value).getNumBytes();
    if (chunk.size() >= kMostUnits || bytes >= kMostBytes)
      if (Error error = search())
        return error;
  }
  if (Error error = search())
    return error;
  return makeError(
      ExitCode::Verify,
      llvm::formatv(
          "each of the {0} kernels is right on the interpreter's "
          "values (max|a-b|/max|b| {1:e2}): rounding adds up, or what "
          "joins them (buffers, views, sizes) is wrong",
          count, worst)
          .str(),
      c.options.input);
}
