// The products: weights first (their checksum stands in the table), then the
// host code, then what joins them.
#include "Compilation.h"

#include "dlc/Artifact/Weights.h"
#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"
#include "dlc/Dialect/Program/IR/Program.h"
#include "dlc/Program/HostCode.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/Constants.h"
#include "llvm/Linker/Linker.h"
#include "llvm/Support/Path.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/Utils/Cloning.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

// Weights up to this size are embedded unless -weights says otherwise.
static constexpr int64_t kEmbedLimit = 1 << 20;

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

static void appendPieces(Compilation &c,
                         llvm::function_ref<void(ArrayRef<char>)> write) {
  int64_t end = 0;
  for (const WeightsPiece &piece : c.weights) {
    static constexpr char zeros[program::kAlignment] = {};
    write(ArrayRef<char>(zeros, piece.offset - end));
    piece.emit(write);
    end = piece.offset + piece.bytes;
  }
}

// Small weights, or those of a single object, are a constant of the host
// module.
static void embedInModule(Compilation &c) {
  std::vector<char> bytes;
  appendPieces(c, [&](ArrayRef<char> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  });
  auto *data = llvm::ConstantDataArray::get(
      c.llvmContext,
      ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(bytes.data()),
                        bytes.size()));
  auto *global = new llvm::GlobalVariable(
      *c.hostModule, data->getType(), /*isConstant=*/true,
      llvm::GlobalValue::ExternalLinkage, data, c.info.weights.symbol);
  global->setVisibility(llvm::GlobalValue::HiddenVisibility);
  global->setAlignment(llvm::Align(program::kAlignment));
  c.info.weights.size = bytes.size();
  c.info.weights.checksum = dlc_weights_checksum(0, bytes.data(), bytes.size());
}

static Error writePieces(Compilation &c,
                         Expected<std::unique_ptr<WeightsWriter>> writer) {
  if (!writer)
    return writer.takeError();
  for (const WeightsPiece &piece : c.weights) {
    (*writer)->alignTo(program::kAlignment);
    assert(static_cast<int64_t>((*writer)->offset()) == piece.offset &&
           "the places of the host code");
    piece.emit([&](ArrayRef<char> bytes) { (*writer)->append(bytes); });
  }
  Expected<WeightsWriter::Summary> summary = (*writer)->finish();
  if (!summary)
    return summary.takeError();
  c.info.weights.size = summary->size;
  c.info.weights.checksum = summary->checksum;
  return Error::success();
}

// The path of the first binary product with another extension.
static std::string getSibling(Compilation &c, StringRef extension) {
  SmallString<128> path(c.products.front().second);
  for (auto &[kind, product] : c.products)
    if (kind == EmitKind::Shared || kind == EmitKind::Static ||
        kind == EmitKind::Obj) {
      path = product;
      break;
    }
  llvm::sys::path::replace_extension(path, extension);
  return path.str().str();
}

// `objectFile` becomes the object of embedded weights too large for the module.
static Error writeWeights(Compilation &c, std::string &objectFile) {
  if (c.weights.empty())
    return Error::success();
  int64_t bytes = c.weights.back().offset + c.weights.back().bytes;
  using Weights = CompileOptions::Weights;
  bool isEmbedded =
      c.options.weights == Weights::Embed ||
      (c.options.weights == Weights::Auto && bytes <= kEmbedLimit);
  if (!isEmbedded) {
    c.weightsPath = getSibling(c, ".weights");
    c.info.weights.file = llvm::sys::path::filename(c.weightsPath).str();
    return writePieces(c, WeightsWriter::createFile(c.outputs, c.weightsPath));
  }
  c.info.weights.symbol = c.name + "_weights";
  if (bytes <= kEmbedLimit || c.wantsOneModule()) {
    embedInModule(c);
    return Error::success();
  }
  Expected<std::string> file = c.scratch.stage(getSibling(c, ".weights.o"));
  if (!file)
    return file.takeError();
  objectFile = *file;
  return writePieces(c, WeightsWriter::createObject(llvm::Triple(c.info.triple),
                                                    objectFile,
                                                    c.info.weights.symbol));
}

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

/// The kernels that call a library.
static ExternalImage externalImage(Compilation &c) {
  ExternalImage image;
  image.backend = "dlc_external_onednn";
  for (const CompiledKernel &kernel : c.kernels)
    if (!c.cuda && kernel.nest == kLibraryNest)
      image.sites.push_back(librarySiteOf(c.name + "_" + kernel.name));
  return image;
}

static void emitHost(Compilation &c, bool isPublic = true) {
  HostFunctions host = emitHostCode(c.program, c.name, *c.hostModule,
                                    /*onDevice=*/c.cuda.has_value());
  DeviceImage image;
  image.backend = "dlc_cuda_backend";
  image.modules = std::move(c.deviceModules);
  for (DeviceFunction &f : host.deviceFunctions) {
    auto call = c.deviceCalls.find(f.symbol);
    bool isKernel = call == c.deviceCalls.end();
    image.functions.push_back(
        {f.symbol, f.kernel, f.blockThreads, f.numParams, f.sharedBytes,
         isKernel ? std::nullopt : std::optional(call->second)});
    if (!isKernel)
      image.libraries[call->second.kind] =
          ("dlc_" + getLibraryKnob(call->second.kind) + "_library").str();
  }
  image.sites = host.deviceSites;
  ExternalImage external = externalImage(c);
  emitModelTable(
      *c.hostModule, c.info,
      {host.inputDims, host.outputDims, host.plan, host.numSizes, host.execute},
      c.cuda ? &image : nullptr, external.sites.empty() ? nullptr : &external);
  if (isPublic)
    addModelEntryPoints(*c.hostModule, c.name, !c.info.states.empty());
}

// Host code and kernels in one module.
static Error linkModule(Compilation &c) {
  if (c.cuda) // they are data of the host module
    return Error::success();
  llvm::Linker linker(*c.hostModule);
  for (const CompiledKernel &kernel : c.kernels) {
    llvm::MemoryBufferRef buffer(
        StringRef(kernel.bitcode.data(), kernel.bitcode.size()), kernel.name);
    auto module = llvm::parseBitcodeFile(buffer, c.llvmContext);
    if (!module)
      return module.takeError();
    (*module)->setDataLayout(c.hostModule->getDataLayout());
    if (linker.linkInModule(std::move(*module)))
      return makeError(ExitCode::Internal,
                       "kernel '" + kernel.name + "' cannot be linked");
  }
  return Error::success();
}

static LinkInputs makeLinkInputs(Compilation &c, StringRef weightsObject) {
  LinkInputs inputs;
  inputs.triple = llvm::Triple(c.info.triple);
  inputs.name = c.name;
  inputs.hasState = !c.info.states.empty();
  auto add = [&](ArrayRef<char> bytes, StringRef name) {
    inputs.objects.push_back(
        llvm::MemoryBufferRef(StringRef(bytes.data(), bytes.size()), name));
  };
  add(c.hostObject, "host.o");
  inputs.opensDriver = c.cuda.has_value() || !externalImage(c).sites.empty();
  for (const CompiledKernel &kernel : c.kernels)
    if (!c.cuda)
      add(kernel.object, kernel.name);
  if (!weightsObject.empty())
    inputs.objectFiles.push_back(weightsObject.str());
  return inputs;
}

static Error writeLinked(Compilation &c, StringRef weightsObject) {
  // Emission changes the module.
  std::unique_ptr<llvm::Module> copy = c.wantsOneModule()
                                           ? llvm::CloneModule(*c.hostModule)
                                           : std::move(c.hostModule);
  auto object = c.target->emitObject(*copy);
  if (!object)
    return object.takeError();
  c.hostObject = std::move(*object);
  LinkInputs inputs = makeLinkInputs(c, weightsObject);
  Expected<std::string> archive = findRuntimeArchive(inputs.triple);
  if (!archive)
    return llvm::make_error<CompileError>(
        toCompileError(archive.takeError(), ExitCode::Unavailable));
  inputs.runtimeArchive = *archive;
  for (auto &[kind, path] : c.products) {
    if (kind == EmitKind::Shared)
      if (Error error = writeSharedLibrary(c.outputs, inputs, path))
        return error;
    if (kind == EmitKind::Static)
      if (Error error = writeStaticArchive(c.outputs, inputs, path))
        return error;
  }
  return Error::success();
}

static Error writeText(Compilation &c, StringRef path, StringRef text) {
  if (path == "-") {
    llvm::outs() << text;
    return Error::success();
  }
  return c.outputs.write(path, text);
}

static std::string printModule(llvm::Module &module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module.print(os, nullptr);
  return text;
}

static Error writeOneModule(Compilation &c) {
  if (Error error = linkModule(c))
    return error;
  for (auto &[kind, path] : c.products) {
    if (kind == EmitKind::LLVM)
      if (Error error = writeText(c, path, printModule(*c.hostModule)))
        return error;
    if (kind != EmitKind::Asm && kind != EmitKind::Obj)
      continue;
    // Emission changes the module, and another kind may follow.
    std::unique_ptr<llvm::Module> copy = llvm::CloneModule(*c.hostModule);
    auto code = kind == EmitKind::Asm ? c.target->emitAssembly(*copy)
                                      : c.target->emitObject(*copy);
    if (!code)
      return code.takeError();
    if (Error error = writeText(c, path, StringRef(code->data(), code->size())))
      return error;
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The stage
//===----------------------------------------------------------------------===//

static Error makeHostModule(Compilation &c) {
  c.hostModule = std::make_unique<llvm::Module>(c.name, c.llvmContext);
  c.hostModule->setTargetTriple(llvm::Triple(c.info.triple));
  auto machine = c.target->createMachine();
  if (!machine)
    return machine.takeError();
  c.hostModule->setDataLayout((*machine)->createDataLayout());
  return Error::success();
}

Error dlc::emitPrivateHost(Compilation &c) {
  if (Error error = makeHostModule(c))
    return error;
  if (!c.weights.empty()) {
    if (c.weights.back().offset + c.weights.back().bytes > kEmbedLimit)
      return makeError(ExitCode::Internal,
                       "an operation of a library has large constants",
                       c.options.input);
    c.info.weights.symbol = c.name + "_weights";
    embedInModule(c);
  }
  emitHost(c, /*isPublic=*/false);
  auto object = c.target->emitObject(*c.hostModule);
  if (!object)
    return object.takeError();
  c.hostObject = std::move(*object);
  return Error::success();
}

static Error writeCode(Compilation &c) {
  if (Error error = makeHostModule(c))
    return error;
  std::string weightsObject;
  if (Error error = writeWeights(c, weightsObject))
    return error;
  emitHost(c);
  if (c.wantsObjects())
    if (Error error = writeLinked(c, weightsObject))
      return error;
  return c.wantsOneModule() ? writeOneModule(c) : Error::success();
}

Error dlc::writeProducts(Compilation &c) {
  if (c.wantsObjects() || c.wantsOneModule())
    if (Error error = writeCode(c))
      return error;
  for (auto &[kind, path] : c.products) {
    Error error = Error::success();
    if (kind == EmitKind::Kernels)
      error = writeText(c, path, c.kernelText);
    else if (kind == EmitKind::Graph)
      error = writeText(c, path, c.graphText);
    else if (kind == EmitKind::Program)
      error = writeText(c, path, printOp(c.getModule()));
    else if (kind == EmitKind::Header)
      error = writeText(c, path, makeHeader(c.info));
    else if (kind == EmitKind::Ptx)
      error = writeText(c, path, c.ptx);
    else if (kind == EmitKind::Cubin)
      error = writeText(c, path, c.cubin);
    if (error)
      return error;
  }
  return Error::success();
}
