#include "LibraryInstance.h"

#include "Compilation.h"

#include "dlc/Driver/RunModel.h"
#include "llvm/Support/FileSystem.h"

#include <unistd.h>

using namespace dlc;
using namespace dlc::library;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

// The input in a file `name` of a folder of its own, for what is not read from
// memory.
static Error writeInput(CompileOptions &options, StringRef name,
                        std::unique_ptr<TemporaryFolder> &folder) {
  Expected<std::unique_ptr<TemporaryFolder>> created =
      TemporaryFolder::create();
  if (!created)
    return created.takeError();
  folder = std::move(*created);
  options.input = folder->getPath(name);
  std::error_code code;
  llvm::raw_fd_ostream os(options.input, code);
  os << options.inputBytes;
  os.close();
  if (code || os.error())
    return makeError(ExitCode::Io, (code ? code : os.error()).message(),
                     options.input);
  options.inputBytes.clear();
  return Error::success();
}

static int64_t countBytes(const library::Tensor &tensor,
                          ArrayRef<int64_t> sizes) {
  int64_t bytes = tensor.type->bits / 8;
  for (const Extent &extent : tensor.extents)
    bytes *= extent.evaluate(sizes);
  return bytes;
}

// Of what is packed at a time: of a matrix for each segment, one.
static int64_t countPackedBytes(const library::Operation &op,
                                const Instance &instance) {
  std::vector<int64_t> sizes;
  for (const Range &range : instance.ranges)
    sizes.push_back(range.min);
  library::Tensor tensor = op.packed->original;
  if (op.segments)
    tensor.extents.erase(tensor.extents.begin());
  return countBytes(tensor, sizes);
}

// The model of an operation with a packed tensor, in a file beside a constant
// that is all holes: only its layout is of interest.
static Error writePacked(const library::Operation &op, const Instance &instance,
                         CompileOptions &options,
                         std::unique_ptr<TemporaryFolder> &folder) {
  if (Error error = writeInput(options, "model.onnx", folder))
    return error;
  int64_t bytes = countPackedBytes(op, instance);
  std::string path = folder->getPath(kPackedFile);
  int file = -1;
  std::error_code code = llvm::sys::fs::openFileForWrite(path, file);
  if (!code)
    code = llvm::sys::fs::resize_file(file, bytes);
  if (file >= 0)
    ::close(file);
  return code ? makeError(ExitCode::Io, code.message(), path)
              : Error::success();
}

// How the instance reads its packed tensor, which is lent at run time.
static Error readPacking(Compilation &c, CompiledInstance &compiled) {
  if (c.weights.size() != 1)
    return makeError(ExitCode::Internal,
                     "an operation with a packed tensor has " +
                         std::to_string(c.weights.size()) + " constants",
                     c.options.input);
  const WeightsPiece &piece = c.weights.front();
  Packing packing;
  packing.bytes = piece.bytes;
  if (piece.packing && !packing.parse(piece.packing->layout))
    return makeError(ExitCode::Internal,
                     "the layout '" + piece.packing->layout +
                         "' cannot be made at run time",
                     c.options.input);
  compiled.packing = packing;
  c.weights.clear();
  return Error::success();
}

// Devices read a packed tensor as it is.
static void copyPacking(const library::Operation &op, const Instance &instance,
                        CompiledInstance &compiled) {
  compiled.packing.emplace();
  compiled.packing->panel = 0;
  compiled.packing->bytes = countPackedBytes(op, instance);
}

// What ptxas says of each launch.
static void describeDeviceKernels(Compilation &c, CompiledInstance &compiled) {
  for (const CompiledKernel &kernel : c.kernels) {
    DeviceKernel &described = compiled.deviceKernels.emplace_back();
    described.nest = kernel.nest;
    const KernelCode &code = c.code[kernel.name];
    for (auto [i, phase] : llvm::enumerate(code.phases)) {
      DeviceKernel::Launch &launch = described.launches.emplace_back();
      launch.name = phase.symbol;
      launch.threads = code.threads[i];
      auto it = c.resources.find(phase.symbol);
      if (it == c.resources.end())
        continue;
      const KernelResources &used = it->second;
      launch.registers = used.registers;
      launch.sharedBytes = used.sharedBytes;
      launch.stackBytes = used.stackBytes;
      launch.spillStoreBytes = used.spillStoreBytes;
      launch.spillLoadBytes = used.spillLoadBytes;
    }
  }
}

// The cost model is of CPUs: what a call moves, as if at a byte a nanosecond.
static double estimateSeconds(const library::Operation &op,
                              const Instance &instance) {
  std::vector<int64_t> sizes;
  for (const Range &range : instance.ranges)
    sizes.push_back(range.isFixed() ? range.min : range.typical);
  double bytes = 0;
  for (const library::Tensor &tensor : op.tensors)
    bytes += static_cast<double>(countBytes(tensor, sizes));
  return bytes * 1e-9;
}

void dlc::compileInstance(const CompileOptions &options, const Build &build,
                          StringRef target, InstanceJob &job) {
  const library::Operation &op = build.library.operations[job.op];
  const Instance &instance = op.instances[job.instance];
  CompileOptions o = options;
  o.input = options.input + ": " + op.name + " (" + instance.name + ", " +
            build.cpus[job.cpu].name + ")";
  bool packs = op.packed && !build.onDevice;
  o.inputBytes = op.makeModel(instance.ranges, packs);
  o.target = target.str();
  o.emit = {EmitKind::Static};
  o.weights = CompileOptions::Weights::Embed;
  o.jobs = 1;
  o.quiet = true;
  o.verbose = false;
  o.dumpDir.clear();
  o.variants = std::min(o.variants, instance.variants);
  o.dims.clear();
  for (auto [dim, range] : llvm::zip_equal(op.dims, instance.ranges))
    if (!range.isFixed())
      o.dims[dim.name] = {range.min, range.max, range.typical};
  if (op.segments)
    o.dims.erase(op.dims[op.segments->groups].name);

  std::unique_ptr<TemporaryFolder> packed;
  if (op.isGraph)
    if (Error error = writeInput(o, "kernel.mlir", packed)) {
      job.error = toCompileError(std::move(error), ExitCode::Io);
      return;
    }
  if (packs)
    if (Error error = writePacked(op, instance, o, packed)) {
      job.error = toCompileError(std::move(error), ExitCode::Io);
      return;
    }

  Progress quiet(/*quiet=*/true, /*redraw=*/false);
  Compilation c(o, quiet);
  c.name = job.prefix;
  c.isInstance = true;
  auto compile = [&]() -> Error {
    if (Error error = compileToProgram(c))
      return error;
    if (packs)
      if (Error error = readPacking(c, job.compiled))
        return error;
    return emitPrivateHost(c);
  };
  if (Error error = compile()) {
    job.error = toCompileError(std::move(error), ExitCode::Internal);
    return;
  }
  job.kernels = c.tuning.kernels;
  job.tuned = c.tuning.tuned;
  CompiledInstance &compiled = job.compiled;
  compiled.instance = job.instance;
  compiled.cpu = job.cpu;
  compiled.modelTable = job.prefix + "_model_table";
  for (const SymbolInfo &symbol : c.info.symbols) {
    auto it = llvm::find_if(
        op.dims, [&](const Dim &dim) { return dim.name == symbol.name; });
    if (it == op.dims.end()) {
      job.error = toCompileError(
          makeError(ExitCode::Internal,
                    "its code depends on a size that it is not given: '" +
                        symbol.name + "'",
                    o.input),
          ExitCode::Internal);
      return;
    }
    compiled.symbols.push_back(it - op.dims.begin());
  }
  job.objects.push_back(std::move(c.hostObject));
  for (CompiledKernel &kernel : c.kernels) {
    compiled.kernels.push_back(kernel.nest);
    job.rooflineSeconds +=
        kernel.variantOf.empty() ? kernel.rooflineSeconds : 0;
    if (!c.cuda)
      job.objects.push_back(std::move(kernel.object));
  }
  if (c.cuda) {
    if (op.packed)
      copyPacking(op, instance, compiled);
    describeDeviceKernels(c, compiled);
    job.rooflineSeconds = estimateSeconds(op, instance);
  }
  for (const auto &object : job.objects)
    compiled.bytes += static_cast<int64_t>(object.size());
}
