// Running models: dlc-exec as a process, or the interpreter.
#include "dlc/Driver/RunModel.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/NarrowTypes.h"
#include "dlc/Driver/TensorFile.h"
#include "dlc/Interpreter/Interpreter.h"
#include "dlc/dlpack.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

//===----------------------------------------------------------------------===//
// Temporary files
//===----------------------------------------------------------------------===//

Expected<std::unique_ptr<TemporaryFolder>> TemporaryFolder::create() {
  SmallString<128> path;
  if (std::error_code code = llvm::sys::fs::createUniqueDirectory("dlc", path))
    return makeError(ExitCode::Io,
                     "cannot make a temporary folder: " + code.message());
  return std::unique_ptr<TemporaryFolder>(
      new TemporaryFolder(path.str().str()));
}

TemporaryFolder::~TemporaryFolder() { llvm::sys::fs::remove_directories(path); }

std::string TemporaryFolder::getPath(const Twine &name) const {
  return (path + "/" + name).str();
}

//===----------------------------------------------------------------------===//
// Artifacts
//===----------------------------------------------------------------------===//

// The architecture of an ELF file, as LLVM spells it.
static Expected<StringRef> readArchitecture(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFileSlice(path, 64, 0);
  if (!buffer)
    return makeError(ExitCode::Io, buffer.getError().message(), path);
  StringRef head = (*buffer)->getBuffer();
  if (head.size() < 20 || !head.starts_with("\x7f"
                                            "ELF"))
    return makeError(ExitCode::Rejected, "is not a shared object", path);
  unsigned machine =
      static_cast<uint8_t>(head[18]) | static_cast<uint8_t>(head[19]) << 8;
  if (machine == llvm::ELF::EM_X86_64)
    return "x86_64";
  if (machine == llvm::ELF::EM_AARCH64)
    return "aarch64";
  return makeError(ExitCode::Unavailable,
                   "is for an unknown CPU (ELF machine " + Twine(machine) + ")",
                   path);
}

#if defined(__x86_64__)
static constexpr StringLiteral kHostArchitecture = "x86_64";
#elif defined(__aarch64__)
static constexpr StringLiteral kHostArchitecture = "aarch64";
#else
#error "dlc-run knows x86_64 and aarch64 hosts"
#endif

// dlc-exec of the build or installation this program belongs to, behind an
// emulator when the architecture is another.
static Expected<std::vector<std::string>> findCommand(StringRef architecture) {
  static int anchor;
  SmallString<256> folder(llvm::sys::path::parent_path(
      llvm::sys::fs::getMainExecutable(nullptr, &anchor)));
  if (architecture == kHostArchitecture)
    return std::vector<std::string>{(folder + "/dlc-exec").str()};
  std::string program =
      (folder + "/../lib/dlc/" + architecture + "/dlc-exec").str();
  if (!llvm::sys::fs::exists(program))
    return makeError(ExitCode::Unavailable,
                     "no dlc-exec for " + architecture + " was built");
  auto emulator = llvm::sys::findProgramByName(("qemu-" + architecture).str());
  if (!emulator)
    return makeError(ExitCode::Unavailable,
                     "the artifact is for " + architecture + " and qemu-" +
                         architecture + " is not installed");
  return std::vector<std::string>{
      *emulator, "-L", ("/usr/" + architecture + "-linux-gnu").str(), program};
}

// Runs a program; its standard output and error.
static Expected<std::string> runProgram(ArrayRef<std::string> command) {
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::string out = (*folder)->getPath("out"), err = (*folder)->getPath("err"),
              message;
  SmallVector<StringRef> arguments(command.begin(), command.end());
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(out),
                                          StringRef(err)};
  int code = llvm::sys::ExecuteAndWait(command.front(), arguments, std::nullopt,
                                       redirects, 0, 0, &message);
  auto read = [](StringRef path) {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? (*buffer)->getBuffer().str() : std::string();
  };
  if (code < 0)
    return makeError(ExitCode::Internal,
                     command.front() + ": " +
                         (message.empty() ? "crashed" : message));
  if (code == 0)
    return read(out);
  std::string text = read(err);
  StringRef reason = StringRef(text).trim();
  reason.consume_front("dlc-exec: error: ");
  return makeError(code == 2   ? ExitCode::Usage
                   : code == 3 ? ExitCode::Io
                   : code == 5 ? ExitCode::Unavailable
                               : ExitCode::Rejected,
                   reason);
}

Expected<Artifact> Artifact::open(StringRef path) {
  Artifact artifact;
  artifact.path = path.str();
  Expected<StringRef> architecture = readArchitecture(path);
  if (!architecture)
    return architecture.takeError();
  auto command = findCommand(*architecture);
  if (!command)
    return command.takeError();
  artifact.command = std::move(*command);
  std::vector<std::string> arguments = artifact.command;
  arguments.insert(arguments.end(), {artifact.path, "-info"});
  Expected<std::string> text = runProgram(arguments);
  if (!text)
    return text.takeError();
  Expected<llvm::json::Value> info = llvm::json::parse(*text);
  if (!info)
    return info.takeError();
  artifact.info = std::move(*info->getAsObject());
  return artifact;
}

Expected<std::string> Artifact::run(ArrayRef<std::string> inputs,
                                    const RunOptions &options) const {
  std::vector<std::string> arguments = command;
  arguments.push_back(path);
  if (!inputs.empty())
    arguments.push_back("-inputs=" + llvm::join(inputs, ","));
  if (!options.outputs.empty())
    arguments.push_back("-outputs=" + options.outputs);
  if (options.bench)
    arguments.push_back("-bench=" + std::to_string(options.bench));
  if (!options.beside.empty())
    arguments.push_back("-beside=" + llvm::join(options.beside, ","));
  if (options.profile)
    arguments.push_back("-profile");
  if (options.threads)
    arguments.push_back("-threads=" + std::to_string(options.threads));
  return runProgram(arguments);
}

Expected<SmallVector<Tensor>> Artifact::run(ArrayRef<Tensor> inputs,
                                            MLIRContext *context,
                                            RunOptions options,
                                            std::string *printed) const {
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::vector<std::string> files;
  for (const Tensor &input : inputs) {
    files.push_back(
        (*folder)->getPath("input_" + Twine(files.size()) + ".npy"));
    if (Error error = writeTensor(files.back(), input))
      return error;
  }
  options.outputs = (*folder)->getPath("");
  Expected<std::string> text = run(files, options);
  if (!text)
    return text.takeError();
  if (printed)
    *printed = *text;
  SmallVector<Tensor> outputs;
  for (int64_t i = 0; i < getNumOutputs(); ++i) {
    auto output =
        readTensor((*folder)->getPath("output_" + Twine(i) + ".npy"), context);
    if (!output)
      return output.takeError();
    outputs.push_back(*output);
  }
  return outputs;
}

int64_t Artifact::getNumOutputs() const {
  return info.getArray("outputs")->size();
}

// "f32", "bf16", "u8", "bool" as dlc-exec prints them.
static Type parseType(StringRef text, MLIRContext *context) {
  if (text == "bool")
    return IntegerType::get(context, 1);
  if (text == "bf16")
    return BFloat16Type::get(context);
  unsigned bits = 0;
  // Narrow types are codes, as the interpreter has them.
  if (text.drop_front(text.starts_with("ui") ? 2 : 1).getAsInteger(10, bits) ||
      bits < 8)
    return IntegerType::get(context, 8, IntegerType::Unsigned);
  if (text.starts_with("f"))
    return bits == 16   ? Type(Float16Type::get(context))
           : bits == 32 ? Type(Float32Type::get(context))
                        : Float64Type::get(context);
  return IntegerType::get(context, bits,
                          text.starts_with("u") ? IntegerType::Unsigned
                                                : IntegerType::Signless);
}

SmallVector<Type> Artifact::getInputTypes(MLIRContext *context) const {
  SmallVector<Type> types;
  for (const llvm::json::Value &input : *info.getArray("inputs"))
    types.push_back(
        parseType(*input.getAsObject()->getString("dtype"), context));
  return types;
}

Expected<SmallVector<Tensor>> Artifact::makeRandomInputs(MLIRContext *context,
                                                         uint64_t seed) const {
  llvm::StringMap<int64_t> typical;
  for (const llvm::json::Value &symbol : *info.getArray("symbols"))
    typical[*symbol.getAsObject()->getString("name")] =
        *symbol.getAsObject()->getInteger("typical");
  std::vector<TensorSpec> specs;
  for (const llvm::json::Value &value : *info.getArray("inputs")) {
    const llvm::json::Object &input = *value.getAsObject();
    SmallVector<int64_t> shape;
    for (const llvm::json::Value &dim : *input.getArray("dims")) {
      if (std::optional<int64_t> size = dim.getAsInteger()) {
        shape.push_back(*size);
        continue;
      }
      auto it = typical.find(*dim.getAsString());
      if (it == typical.end())
        return makeError(ExitCode::Usage,
                         "a dim of input '" + *input.getString("name") +
                             "' is " + *dim.getAsString() +
                             ": give the inputs with -inputs=");
      shape.push_back(it->second);
    }
    specs.push_back({parseType(*input.getString("dtype"), context), shape});
  }
  return makeRandomTensors(specs, seed);
}

//===----------------------------------------------------------------------===//
// The interpreter
//===----------------------------------------------------------------------===//

Expected<SmallVector<Tensor>> dlc::interpret(ModelSource &source,
                                             ArrayRef<Tensor> inputs,
                                             unsigned threads,
                                             interp::MathMode math) {
  DiagnosticCollector diagnostics(source.context.get(), "");
  interp::Options options;
  options.threads = threads;
  options.math = math;
  FailureOr<SmallVector<Tensor>> outputs =
      interp::Interpreter(options).run(source.getMain(), inputs);
  if (failed(outputs))
    return diagnostics.take(ExitCode::Rejected,
                            "the interpreter failed without saying why");
  return std::move(*outputs);
}

SmallVector<Tensor> dlc::makeRandomInputs(func::FuncOp main, uint64_t seed) {
  SmallVector<int64_t> typical;
  if (auto ranges = main->getAttrOfType<ArrayAttr>("graph.ranges"))
    for (auto range : ranges.getAsRange<DenseI64ArrayAttr>())
      typical.push_back(range[2]);
  std::vector<TensorSpec> specs;
  for (Type type : main.getArgumentTypes()) {
    SmallVector<int64_t> shape;
    for (AffineExpr dim : graph::getDims(type))
      shape.push_back(graph::evaluate(dim, typical));
    specs.push_back({cast<RankedTensorType>(type).getElementType(), shape});
  }
  return makeRandomTensors(specs, seed);
}

static void describeValue(llvm::json::OStream &out, DictionaryAttr attrs,
                          Type type, ArrayRef<StringRef> symbols) {
  Type element = cast<RankedTensorType>(type).getElementType();
  auto name = attrs ? attrs.getAs<StringAttr>("graph.name") : StringAttr();
  auto narrow = attrs ? attrs.getAs<TypeAttr>(graph::kNarrowAttr) : TypeAttr();
  auto [code, bits] = getDLPackType(narrow ? narrow.getValue() : element);
  out.object([&] {
    out.attribute("name", name ? name.getValue() : "");
    out.attribute("type_code", code);
    out.attribute("type_bits", bits);
    out.attributeArray("dims", [&] {
      for (AffineExpr dim : graph::getDims(type)) {
        auto symbol = dyn_cast<AffineSymbolExpr>(dim);
        std::string text;
        llvm::raw_string_ostream os(text);
        dim.print(os);
        if (std::optional<int64_t> size = graph::constantValue(dim))
          out.value(*size);
        else
          out.value(symbol ? symbols[symbol.getPosition()] : StringRef(text));
      }
    });
  });
}

std::string dlc::describeMain(func::FuncOp main) {
  SmallVector<StringRef> symbols;
  if (auto names = main->getAttrOfType<ArrayAttr>("graph.symbols"))
    for (StringAttr name : names.getAsRange<StringAttr>())
      symbols.push_back(name.getValue());
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream out(os, /*IndentSize=*/2);
  out.object([&] {
    out.attributeArray("inputs", [&] {
      for (auto [i, type] : llvm::enumerate(main.getArgumentTypes()))
        describeValue(out, main.getArgAttrDict(i), type, symbols);
    });
    out.attributeArray("outputs", [&] {
      for (auto [i, type] : llvm::enumerate(main.getResultTypes()))
        describeValue(out, main.getResultAttrDict(i), type, symbols);
    });
  });
  os << "\n";
  return text;
}
