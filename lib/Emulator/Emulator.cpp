// Compiles a rewritten module with ORC and launches its kernels block by block.
#include "dlc/Emulator/Emulator.h"
#include "Block.h"
#include "HostOps.h"
#include "Rewrite.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/JITTargetMachineBuilder.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/TargetSelect.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

using namespace llvm;

namespace dlc {

using namespace emu;

struct EmulatedModule::Impl {
  EmulatorOptions options;
  RewrittenModule module;
  std::unique_ptr<orc::LLJIT> jit;
  /// The module's own variables, known to every launch.
  std::vector<MemoryRegion> globals;

  Error checkShape(StringRef kernel, const KernelInfo &info,
                   const LaunchShape &shape) const;
  size_t staticShared(const KernelInfo &info) const;
  unsigned workersFor(const KernelInfo &info, const LaunchShape &shape) const;
  Error run(StringRef kernel, const KernelInfo &info, const LaunchShape &shape,
            ArrayRef<const void *> arguments, ArrayRef<EmulatedBuffer> memory);
};

static Error failure(const Twine &text) {
  return createStringError(inconvertibleErrorCode(), text);
}

EmulatedModule::EmulatedModule(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}
EmulatedModule::~EmulatedModule() = default;

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

static Error defineHostOps(orc::LLJIT &jit) {
  orc::SymbolMap symbols;
  for (const HostOp &op : hostOps())
    symbols[jit.mangleAndIntern(op.name)] = {
        orc::ExecutorAddr::fromPtr(op.address),
        JITSymbolFlags::Exported | JITSymbolFlags::Callable};
  if (Error error = jit.getMainJITDylib().define(orc::absoluteSymbols(symbols)))
    return error;
  // Target-independent intrinsics (fma, exp2, memcpy, ...) may become calls of
  // the C library.
  auto process = orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      jit.getDataLayout().getGlobalPrefix());
  if (!process)
    return process.takeError();
  jit.getMainJITDylib().addGenerator(std::move(*process));
  return Error::success();
}

Expected<std::unique_ptr<EmulatedModule>>
EmulatedModule::create(std::unique_ptr<Module> module,
                       std::unique_ptr<LLVMContext> context,
                       EmulatorOptions options) {
  // From here on the module dies before its context, whatever fails.
  orc::ThreadSafeModule owner(std::move(module), std::move(context));
  Module &kernels = *owner.getModuleUnlocked();
  InitializeNativeTarget();
  InitializeNativeTargetAsmPrinter();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  auto rewritten = rewriteForHost(kernels, options.check);
  if (!rewritten)
    return rewritten.takeError();
  impl->module = std::move(*rewritten);

  auto builder = orc::JITTargetMachineBuilder::detectHost();
  if (!builder)
    return builder.takeError();
  auto jit = orc::LLJITBuilder()
                 .setJITTargetMachineBuilder(std::move(*builder))
                 .create();
  if (!jit)
    return jit.takeError();
  impl->jit = std::move(*jit);
  kernels.setTargetTriple(impl->jit->getTargetTriple());
  kernels.setDataLayout(impl->jit->getDataLayout());
  if (Error error = defineHostOps(*impl->jit))
    return std::move(error);
  if (Error error = impl->jit->addIRModule(std::move(owner)))
    return std::move(error);

  for (const GlobalData &global : impl->module.globals) {
    auto address = impl->jit->lookup(global.name);
    if (!address)
      return address.takeError();
    impl->globals.push_back({static_cast<uintptr_t>(address->getValue()),
                             global.bytes, global.name, global.writable});
  }
  return std::unique_ptr<EmulatedModule>(new EmulatedModule(std::move(impl)));
}

Expected<std::unique_ptr<EmulatedModule>>
EmulatedModule::createFromCopy(const Module &module, EmulatorOptions options) {
  // A copy in a context of its own goes through bitcode.
  SmallString<0> bitcode;
  raw_svector_ostream stream(bitcode);
  WriteBitcodeToFile(module, stream);
  auto context = std::make_unique<LLVMContext>();
  auto copy =
      parseBitcodeFile(MemoryBufferRef(bitcode, module.getName()), *context);
  if (!copy)
    return copy.takeError();
  return create(std::move(*copy), std::move(context), options);
}

std::vector<std::string> EmulatedModule::kernelNames() const {
  std::vector<std::string> names;
  for (const auto &entry : impl->module.kernels)
    names.push_back(entry.getKey().str());
  std::sort(names.begin(), names.end());
  return names;
}

size_t EmulatedModule::numParameters(StringRef kernel) const {
  auto it = impl->module.kernels.find(kernel);
  return it == impl->module.kernels.end() ? 0 : it->second.parameters.size();
}

//===----------------------------------------------------------------------===//
// Launch
//===----------------------------------------------------------------------===//

size_t EmulatedModule::Impl::staticShared(const KernelInfo &info) const {
  size_t bytes = 0;
  for (unsigned index : info.sharedVariables)
    bytes += module.shared[index].bytes;
  return bytes;
}

// What a driver refuses, refused here too.
Error EmulatedModule::Impl::checkShape(StringRef kernel, const KernelInfo &info,
                                       const LaunchShape &shape) const {
  auto refuse = [&](const Twine &why) {
    return failure("cannot launch '" + kernel + "': " + why);
  };
  const Dim3 &grid = shape.grid, &block = shape.block;
  if (grid.product() == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535)
    return refuse(formatv("a grid of {0} x {1} x {2} blocks is out of range "
                          "(1 .. 2147483647 x 65535 x 65535)",
                          grid.x, grid.y, grid.z)
                      .str());
  if (block.product() == 0 || block.product() > 1024 || block.x > 1024 ||
      block.y > 1024 || block.z > 64)
    return refuse(formatv("a block of {0} x {1} x {2} threads is out of range "
                          "(1 .. 1024 threads, z <= 64)",
                          block.x, block.y, block.z)
                      .str());
  if (info.maxThreads && block.product() > info.maxThreads)
    return refuse(formatv("a block of {0} threads, but the kernel was compiled "
                          "for at most {1}",
                          block.product(), info.maxThreads)
                      .str());
  size_t shared = staticShared(info) + shape.sharedBytes;
  if (shared > options.maxSharedBytes)
    return refuse(formatv("{0} bytes of shared memory, but a block may use {1}",
                          shared, options.maxSharedBytes)
                      .str());
  return Error::success();
}

// Blocks know nothing of each other, so that any of them may run at once; races
// between them are looked for one after the other.
unsigned EmulatedModule::Impl::workersFor(const KernelInfo &info,
                                          const LaunchShape &shape) const {
  constexpr uint64_t threadsWorthAWorker = 1024;
  if (options.check != EmulatorCheck::Execution)
    return 1;
  uint64_t workers =
      options.workers ? options.workers : std::thread::hardware_concurrency();
  uint64_t blocks = shape.grid.product();
  if (!options.workers)
    workers =
        std::min(workers, blocks * shape.block.product() / threadsWorthAWorker);
  return static_cast<unsigned>(
      std::clamp<uint64_t>(std::min(workers, blocks), 1, 64));
}

namespace {
struct FreeDeleter {
  void operator()(char *p) const { std::free(p); }
};
/// Stacks that no launch uses now. They are the process's, not a module's: each
/// is two mappings, of which a process may have some 65,000.
class StackPool {
public:
  std::unique_ptr<FiberStacks> take(size_t count, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    auto fits = find_if(idle, [&](const auto &stacks) {
      return stacks->count() >= count && stacks->bytes() >= bytes;
    });
    if (fits == idle.end())
      return std::make_unique<FiberStacks>(count, bytes);
    std::unique_ptr<FiberStacks> stacks = std::move(*fits);
    idle.erase(fits);
    return stacks;
  }
  void giveBack(std::unique_ptr<FiberStacks> stacks) {
    if (!stacks || !stacks->valid())
      return;
    std::lock_guard<std::mutex> lock(mutex);
    if (idle.size() == kMostIdle)
      idle.erase(idle.begin());
    idle.push_back(std::move(stacks));
  }
  static StackPool &get() {
    static StackPool pool;
    return pool;
  }

private:
  static constexpr size_t kMostIdle = 16;
  std::mutex mutex;
  std::vector<std::unique_ptr<FiberStacks>> idle;
};

/// What one OS thread that runs blocks owns.
struct Worker {
  Worker() = default;
  Worker(Worker &&) = default;
  ~Worker() { StackPool::get().giveBack(std::move(stacks)); }
  std::unique_ptr<FiberStacks> stacks;
  std::unique_ptr<char, FreeDeleter> window;
  BlockMemory memory;
};
} // namespace

static Dim3 blockAt(uint64_t i, const Dim3 &grid) {
  return {uint32_t(i % grid.x), uint32_t(i / grid.x % grid.y),
          uint32_t(i / grid.x / grid.y)};
}

Error EmulatedModule::Impl::run(StringRef kernel, const KernelInfo &info,
                                const LaunchShape &shape,
                                ArrayRef<const void *> arguments,
                                ArrayRef<EmulatedBuffer> buffers) {
  auto entry = jit->lookup(info.entry);
  if (!entry)
    return entry.takeError();
  size_t threads = shape.block.product();
  // Matrix descriptors hold the low 18 bits of an address, which must tell the
  // place in the window; a kernel may ask for 1024 bytes at most.
  constexpr size_t windowAlign = size_t(1) << 18;
  size_t windowBytes =
      alignTo(shape.sharedBytes ? module.dynamicSharedOffset +
                                      shape.sharedBytes + kSharedRedZone
                                : info.windowBytes,
              1024);

  MemoryMap common;
  for (const EmulatedBuffer &buffer : buffers)
    common.add({reinterpret_cast<uintptr_t>(buffer.data), buffer.bytes,
                buffer.name, buffer.writable});
  for (const MemoryRegion &global : globals)
    common.add(global);

  std::vector<Worker> workers(workersFor(info, shape));
  for (Worker &worker : workers) {
    worker.stacks = StackPool::get().take(threads, options.stackBytes);
    if (!worker.stacks->valid())
      return failure("no memory for the stacks of " + Twine(threads) +
                     " threads");
    worker.window.reset(static_cast<char *>(
        std::aligned_alloc(windowAlign, alignTo(windowBytes, windowAlign))));
    if (!worker.window)
      return failure("no memory for shared memory");
    worker.memory = {worker.stacks.get(), worker.window.get(), common};
    MemoryMap &map = worker.memory.map;
    auto base = reinterpret_cast<uintptr_t>(worker.window.get());
    for (unsigned index : info.sharedVariables) {
      const SharedVariable &variable = module.shared[index];
      if (variable.bytes)
        map.add({base + variable.offset, variable.bytes,
                 "shared " + variable.name, true});
    }
    if (shape.sharedBytes)
      map.add({base + module.dynamicSharedOffset, shape.sharedBytes,
               "dynamic shared memory", true});
    map.finish();
  }

  std::vector<void *> slots;
  for (const void *argument : arguments)
    slots.push_back(const_cast<void *>(argument));
  LaunchState state;
  state.kernelName = kernel.str();
  state.shape = shape;
  state.options = options;
  state.sites = &module.sites;
  state.entry = entry->toPtr<void (*)(void **)>();
  state.arguments = slots.data();
  state.waits = info.waits;
  state.usesAsyncProxy = info.usesAsyncProxy;
  RaceDetector races;
  if (options.check >= EmulatorCheck::Races)
    state.races = &races;
  AccessCounter accesses;
  if (options.accessCounts && options.check >= EmulatorCheck::Memory)
    state.accesses = &accesses;
  state.sharedWindowBytes = windowBytes;

  // Blocks are taken in order, so that of those which fail the first is among
  // the ones that run.
  std::atomic<uint64_t> next = 0, end = shape.grid.product();
  std::mutex mutex;
  std::string error;
  auto work = [&](Worker &worker) {
    Block block(state, worker.memory);
    for (uint64_t i; (i = next++) < end;) {
      // All ones is a NaN in every float type: what a block did not write
      // itself does not look like a result.
      std::memset(worker.window.get(), 0xff, windowBytes);
      std::string problem = block.run(blockAt(i, shape.grid));
      if (problem.empty())
        continue;
      std::lock_guard<std::mutex> lock(mutex);
      if (i < end) {
        end = i;
        error = std::move(problem);
      }
      return;
    }
  };
  std::vector<std::thread> others;
  for (Worker &worker : MutableArrayRef<Worker>(workers).drop_front())
    others.emplace_back([&] { work(worker); });
  work(workers.front());
  for (std::thread &other : others)
    other.join();
  if (state.accesses)
    accesses.addTo(*options.accessCounts, state.kernelName, module.sites);
  return error.empty() ? Error::success() : failure(error);
}

Error EmulatedModule::launchRaw(StringRef kernel, const LaunchShape &shape,
                                ArrayRef<const void *> arguments,
                                ArrayRef<EmulatedBuffer> memory) {
  auto it = impl->module.kernels.find(kernel);
  if (it == impl->module.kernels.end())
    return failure("no kernel '" + kernel +
                   "'; the module has: " + join(kernelNames(), ", "));
  const KernelInfo &info = it->second;
  if (arguments.size() != info.parameters.size())
    return failure(formatv("kernel '{0}' takes {1} arguments, {2} given",
                           kernel, info.parameters.size(), arguments.size())
                       .str());
  if (Error error = impl->checkShape(kernel, info, shape))
    return error;
  return impl->run(kernel, info, shape, arguments, memory);
}

Error EmulatedModule::launch(StringRef kernel, const LaunchShape &shape,
                             ArrayRef<EmulatedBuffer> buffers,
                             ArrayRef<int64_t> symbols) {
  auto it = impl->module.kernels.find(kernel);
  if (it != impl->module.kernels.end()) {
    size_t pointers = 0, integers = 0;
    for (const KernelParameter &parameter : it->second.parameters) {
      pointers += parameter.kind == KernelParameter::Pointer;
      integers += parameter.kind == KernelParameter::Integer64;
    }
    if (pointers != buffers.size() || integers != symbols.size())
      return failure(formatv("kernel '{0}' takes {1} buffers and {2} symbols, "
                             "{3} and {4} given",
                             kernel, pointers, integers, buffers.size(),
                             symbols.size())
                         .str());
  }
  std::vector<const void *> arguments;
  for (const EmulatedBuffer &buffer : buffers)
    arguments.push_back(&buffer.data);
  for (const int64_t &symbol : symbols)
    arguments.push_back(&symbol);
  return launchRaw(kernel, shape, arguments, buffers);
}

Expected<int32_t> EmulatedModule::runKernel(const EmulatedKernel &kernel,
                                            ArrayRef<EmulatedBuffer> buffers,
                                            ArrayRef<int64_t> symbols) {
  std::vector<EmulatedBuffer> all(buffers);
  // All ones is a NaN: scratch memory that is read before it is written shows.
  std::vector<std::vector<char>> scratch;
  for (size_t bytes : kernel.scratchBytes) {
    scratch.emplace_back(bytes, static_cast<char>(0xff));
    all.push_back({scratch.back().data(), bytes,
                   "scratch " + std::to_string(scratch.size() - 1), true});
  }
  int32_t status = 0;
  all.push_back({&status, sizeof(status), "status", true});
  for (const EmulatedKernel::Launch &step : kernel.launches) {
    if (step.shape.grid.product() == 0)
      continue;
    if (Error error = launch(step.name, step.shape, all, symbols))
      return std::move(error);
  }
  return status;
}

} // namespace dlc
