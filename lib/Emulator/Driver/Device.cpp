// Memory, streams, modules and launches of the emulated device.
#include "Device.h"

#include "dlc/Emulator/EmulatedImage.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBufferRef.h"
#include "llvm/Support/xxhash.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

using namespace dlc;
using namespace dlc::emu;
using llvm::StringRef;

void emu::complain(const std::string &text) {
  std::fprintf(stderr, "emulated CUDA driver: %s\n", text.c_str());
}

Settings Settings::parse(StringRef text, std::string &problem) {
  Settings s;
  llvm::SmallVector<StringRef> words;
  text.split(words, ',', -1, /*KeepEmpty=*/false);
  for (StringRef word : words) {
    auto [key, value] = word.split('=');
    unsigned number = 0;
    bool isNumber = !value.getAsInteger(10, number);
    if (key == "devices" && isNumber)
      s.devices = number;
    else if (key == "sm" && isNumber)
      s.sm = number;
    else if (key == "check" && isNumber && number <= 2)
      s.check = static_cast<EmulatorCheck>(number);
    else if (key == "memory" && !value.getAsInteger(10, s.memoryBytes))
      ;
    else if (key == "crash" && isNumber)
      s.crashLaunch = number;
    else if (key == "scribble" && isNumber)
      s.scribbleLaunch = number;
    else if (key == "name" && !value.empty())
      s.name = value.str();
    else if (key == "seed" && isNumber)
      s.seed = number;
    else if (key == "leaks" && (value == "on" || value == "off"))
      s.reportsLeaks = value == "on";
    else if (key == "skip") {
      auto [function, call] = value.split(':');
      s.skipFunction = function.str();
      if (call.getAsInteger(10, s.skipCall))
        problem = word.str();
    } else if (key == "fail") {
      auto [function, rest] = value.split(':');
      auto [call, result] = rest.split(':');
      s.failFunction = function.str();
      s.failResult = function.starts_with("cuMemAlloc") ? OutOfMemory
                     : function == "cuLaunchKernel"     ? LaunchOutOfResources
                                                        : Unknown;
      if (call.getAsInteger(10, s.failCall) ||
          (!result.empty() && result.getAsInteger(10, s.failResult)))
        problem = word.str();
    } else
      problem = word.str();
  }
  return s;
}

Device::Device() {
  legacy.isLegacy = true;
  const char *text = std::getenv("DLC_EMULATED_CUDA");
  std::string problem;
  settings = Settings::parse(text ? text : "", problem);
  if (!problem.empty()) {
    complain("DLC_EMULATED_CUDA: '" + problem + "' has no meaning");
    settings.devices = 0;
  }
  random.seed(settings.seed);
}

Device::~Device() {
  if (settings.reportsLeaks)
    if (std::string live = describeLive(); !live.empty())
      complain("not given back: " + live);
}

Device &Device::get() {
  static Device device;
  return device;
}

Result Device::injected(StringRef function, bool &isSkipped) {
  unsigned count = ++calls[function.str()];
  isSkipped = function == settings.skipFunction && count == settings.skipCall;
  return function == settings.failFunction && count == settings.failCall
             ? static_cast<Result>(settings.failResult)
             : Success;
}

std::string Device::describeLive() const {
  std::string text;
  auto add = [&](size_t count, StringRef noun) {
    if (count)
      text += (text.empty() ? "" : ", ") + std::to_string(count) + " " +
              noun.str() + (count == 1 ? "" : "s");
  };
  add(allocations.size(), "allocation");
  add(modules.size(), "module");
  add(streams.size(), "stream");
  add(events.size(), "event");
  add(graphs.size(), "graph");
  add(graphExecs.size(), "executable graph");
  add(contextUsers, "retained context");
  return text;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static constexpr size_t kPage = 4096;

Result Device::allocate(size_t bytes, uint64_t &address) {
  if (bytes == 0)
    return InvalidValue;
  if (bytes > settings.memoryBytes - usedBytes)
    return OutOfMemory;
  size_t mapped = llvm::alignTo(bytes, kPage);
  void *memory =
      mmap(nullptr, mapped, openDepth ? PROT_READ | PROT_WRITE : PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return OutOfMemory;
  protect(true);
  // All ones is a NaN: what nobody wrote does not look like a result. Large
  // memory is left to the system's zeros, to save time.
  mprotect(memory, mapped, PROT_READ | PROT_WRITE);
  std::memset(memory, 0xff, std::min<size_t>(mapped, size_t(64) << 20));
  address = reinterpret_cast<uint64_t>(memory);
  allocations[address] = {bytes, mapped};
  usedBytes += bytes;
  protect(false);
  return Success;
}

Result Device::release(uint64_t address) {
  auto it = allocations.find(address);
  if (it == allocations.end()) {
    complain("cuMemFree of an address that cuMemAlloc did not give");
    return InvalidValue;
  }
  // A real one waits for the device, too.
  Result result = drainAll();
  munmap(reinterpret_cast<void *>(address), it->second.mapped);
  usedBytes -= it->second.bytes;
  allocations.erase(it);
  return result;
}

bool Device::isInside(uint64_t address, size_t bytes) const {
  auto it = allocations.upper_bound(address);
  if (it == allocations.begin())
    return false;
  --it;
  return address - it->first <= it->second.bytes &&
         bytes <= it->second.bytes - (address - it->first);
}

bool Device::touches(const void *pointer, size_t bytes) const {
  auto address = reinterpret_cast<uint64_t>(pointer);
  for (const auto &[start, allocation] : allocations)
    if (address < start + allocation.mapped && start < address + bytes)
      return true;
  return false;
}

void Device::protect(bool isOpen) {
  openDepth += isOpen ? 1 : -1;
  if (openDepth != (isOpen ? 1 : 0))
    return;
  for (const auto &[start, allocation] : allocations)
    mprotect(reinterpret_cast<void *>(start), allocation.mapped,
             isOpen ? PROT_READ | PROT_WRITE : PROT_NONE);
}

//===----------------------------------------------------------------------===//
// Modules
//===----------------------------------------------------------------------===//

Result Device::loadModule(const char *code, Module *&module, std::string &log) {
  CodeTarget target = readTarget(code);
  if (target.arch == 0) {
    log = "neither a cubin nor PTX";
    return InvalidPtx;
  }
  bool runs =
      target.isPtx && !target.exact
          ? settings.sm >= target.arch
          : settings.sm / 10 == target.arch / 10 && settings.sm >= target.arch;
  if (!runs) {
    log = "code of sm_" + std::to_string(target.arch) + " on sm_" +
          std::to_string(settings.sm);
    return NoBinaryForGpu;
  }
  StringRef bitcode = findBitcode(code);
  if (bitcode.empty()) {
    log = "the emulated driver needs a model compiled with "
          "-target=cuda:emulate=on";
    return NotSupported;
  }
  auto made = std::make_unique<Module>();
  std::shared_ptr<EmulatedModule> &known =
      compiled[{llvm::xxh3_64bits(bitcode), bitcode.size()}];
  if (!known) {
    Result result = compile(bitcode, known, log);
    if (result != Success)
      return result;
  }
  made->code = known;
  for (std::string &name : made->code->kernelNames())
    made->names.insert(std::move(name));
  module = made.release();
  modules.insert(module);
  return Success;
}

Result Device::compile(StringRef bitcode,
                       std::shared_ptr<EmulatedModule> &result,
                       std::string &log) const {
  auto context = std::make_unique<llvm::LLVMContext>();
  auto parsed = llvm::parseBitcodeFile(
      llvm::MemoryBufferRef(bitcode, "kernels"), *context);
  if (!parsed) {
    log = llvm::toString(parsed.takeError());
    return InvalidPtx;
  }
  EmulatorOptions options;
  options.check = settings.check;
  options.maxSharedBytes = 232448; // of a block on sm_90
  auto emulated =
      EmulatedModule::create(std::move(*parsed), std::move(context), options);
  if (!emulated) {
    log = llvm::toString(emulated.takeError());
    complain(log);
    return InvalidPtx;
  }
  result = std::move(*emulated);
  return Success;
}

Result Device::unloadModule(Module *module) {
  if (!modules.count(module))
    return InvalidHandle;
  Result result = drainAll();
  for (auto it = functions.begin(); it != functions.end();)
    it = it->first.first == module ? functions.erase(it) : std::next(it);
  modules.erase(module);
  delete module;
  return result;
}

Result Device::findFunction(Module *module, const char *name,
                            Function *&function) {
  if (!modules.count(module))
    return InvalidHandle;
  if (!module->names.count(name))
    return NotFound;
  auto &made = functions[{module, name}];
  if (!made)
    made = std::make_unique<Function>(
        Function{module, name, module->code->numParameters(name), 48 << 10});
  function = made.get();
  return Success;
}

//===----------------------------------------------------------------------===//
// Streams and events
//===----------------------------------------------------------------------===//

Stream *Device::stream(void *handle) {
  // NULL and CU_STREAM_LEGACY.
  if (handle == nullptr || handle == reinterpret_cast<void *>(1))
    return &legacy;
  auto *stream = static_cast<Stream *>(handle);
  return streams.count(stream) ? stream : nullptr;
}

void *Device::createStream() { return *streams.insert(new Stream).first; }

Result Device::destroyStream(void *handle) {
  Stream *found = stream(handle);
  if (!found || found->isLegacy)
    return InvalidHandle;
  Result result = drain(found, found->enqueued);
  for (Event *event : events)
    if (event->stream == found)
      event->stream = nullptr;
  streams.erase(found);
  // What waits for it need not any more; another stream may get its address.
  auto forget = [&](Stream *other) {
    for (Stream::Work &work : other->work)
      llvm::erase_if(work.after,
                     [&](const Point &point) { return point.first == found; });
  };
  forget(&legacy);
  llvm::for_each(streams, forget);
  delete found;
  return result;
}

// The legacy stream and the others wait for each other.
void Device::enqueue(Stream *stream, std::function<Result()> work,
                     std::vector<Point> after) {
  if (stream->isLegacy) {
    for (Stream *other : streams)
      after.push_back({other, other->enqueued});
  } else {
    after.push_back({&legacy, legacy.enqueued});
  }
  ++stream->enqueued;
  stream->work.push_back({std::move(after), std::move(work)});
}

bool Device::canRun(const Stream *stream) const {
  return !stream->work.empty() &&
         llvm::all_of(stream->work.front().after, [](const Point &point) {
           return point.first->done >= point.second;
         });
}

void Device::runNext(Stream *stream) {
  Stream::Work work = std::move(stream->work.front());
  stream->work.pop_front();
  if (sticky == Success)
    sticky = work.run();
  ++stream->done;
}

Result Device::drain(Stream *stream, uint64_t position) {
  protect(true);
  while (stream->done < position) {
    std::vector<Stream *> able;
    if (canRun(&legacy))
      able.push_back(&legacy);
    for (Stream *other : streams)
      if (canRun(other))
        able.push_back(other);
    if (able.empty()) {
      complain("internal error: streams wait for each other");
      sticky = Unknown;
      break;
    }
    runNext(able[random() % able.size()]);
  }
  protect(false);
  return sticky;
}

Result Device::drainAll() {
  drain(&legacy, legacy.enqueued);
  for (Stream *stream : streams)
    drain(stream, stream->enqueued);
  return sticky;
}

Event *Device::createEvent() { return *events.insert(new Event).first; }

Event *Device::event(void *handle) {
  auto *event = static_cast<Event *>(handle);
  return events.count(event) ? event : nullptr;
}

Result Device::destroyEvent(void *handle) {
  Event *found = event(handle);
  if (!found)
    return InvalidHandle;
  events.erase(found);
  delete found;
  return Success;
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

Result Device::setMostDynamicShared(Function *function, int bytes) {
  bool isKnown = false;
  for (const auto &[key, known] : functions)
    isKnown |= known.get() == function;
  if (!isKnown)
    return InvalidHandle;
  const int most = settings.sm >= 90   ? 227 << 10
                   : settings.sm == 80 ? 163 << 10
                                       : 99 << 10;
  if (bytes < 0 || bytes > most)
    return InvalidValue;
  function->mostDynamicShared = static_cast<unsigned>(bytes);
  return Success;
}

Result Device::run(Function *function, const LaunchShape &shape,
                   const std::vector<uint64_t> &values) {
  if (++launches == settings.crashLaunch) {
    complain("launch " + std::to_string(launches) + " ('" + function->name +
             "') is made to fail");
    return IllegalAddress;
  }
  std::vector<EmulatedBuffer> memory;
  for (const auto &[start, allocation] : allocations)
    memory.push_back({reinterpret_cast<void *>(start), allocation.bytes,
                      "device memory", /*writable=*/true});
  std::vector<const void *> arguments;
  for (const uint64_t &value : values)
    arguments.push_back(&value);
  if (llvm::Error error = function->module->code->launchRaw(
          function->name, shape, arguments, memory)) {
    complain(llvm::toString(std::move(error)));
    return LaunchFailed;
  }
  if (launches == settings.scribbleLaunch)
    *reinterpret_cast<unsigned char *>(values.front()) ^= 1;
  return Success;
}

Result Device::prepare(Function *function, const LaunchShape &shape,
                       void **params, std::vector<uint64_t> &values) const {
  bool isKnown = false;
  for (const auto &[key, known] : functions)
    isKnown |= known.get() == function;
  if (!isKnown)
    return InvalidHandle;
  const Dim3 &grid = shape.grid, &block = shape.block;
  if (!grid.product() || !block.product() || block.product() > 1024 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    complain("a launch of '" + function->name + "' with a bad shape");
    return InvalidValue;
  }
  if (shape.sharedBytes > function->mostDynamicShared) {
    complain("a launch of '" + function->name + "' with " +
             std::to_string(shape.sharedBytes) +
             " bytes of dynamic shared memory, of " +
             std::to_string(function->mostDynamicShared) +
             " that it has asked for");
    return InvalidValue;
  }
  values.resize(function->numParameters);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!params || !params[i])
      return InvalidValue;
    std::memcpy(&values[i], params[i], sizeof(uint64_t));
  }
  return Success;
}

Result Device::launch(Function *function, LaunchShape shape, void **params,
                      Stream *stream) {
  std::vector<uint64_t> values;
  Result result = prepare(function, shape, params, values);
  if (result != Success)
    return result;
  enqueue(stream, [this, function, shape, values = std::move(values)] {
    return run(function, shape, values);
  });
  return Success;
}
