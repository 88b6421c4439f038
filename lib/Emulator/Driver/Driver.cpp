// The functions of libcuda.so.1 that models use, and a few for tests. Names,
// signatures and results are the CUDA driver API reference's.
#include "Device.h"

#include <cstring>

using namespace dlc;
using namespace dlc::emu;

#define DRIVER_API extern "C" __attribute__((visibility("default")))

// The contexts of a thread; there is one context, the device's primary one.
static thread_local std::vector<void *> contexts;

static void *contextHandle() { return &Device::get().contextUsers; }

namespace {
// What all functions do first.
struct Call {
  enum Kind { Anywhere, InContext, Cleanup };
  Call(const char *name, Kind kind) : device(Device::get()) {
    bool needsContext = kind != Anywhere;
    device.mutex.lock();
    if (!device.isInitialized && std::strcmp(name, "cuInit") != 0)
      result = NotInitialized;
    else if (Result injected = device.injected(name, isSkipped))
      result = injected;
    else if (needsContext && (contexts.empty() || !device.contextUsers))
      result = InvalidContext;
    else if (kind == InContext) // what failed before; freeing goes on
      result = device.sticky;
    if (result == InvalidContext)
      complain(std::string(name) + " without a current context");
  }
  ~Call() { device.mutex.unlock(); }
  Device &device;
  Result result = Success;
  bool isSkipped = false;
};
} // namespace

#define BEGIN(kind)                                                            \
  Call call(__func__, Call::kind);                                             \
  if (call.result != Success || call.isSkipped)                                \
    return call.result;                                                        \
  [[maybe_unused]] Device &device = call.device

//===----------------------------------------------------------------------===//
// Driver, devices, contexts
//===----------------------------------------------------------------------===//

DRIVER_API int cuInit(unsigned flags) {
  BEGIN(Anywhere);
  if (flags)
    return InvalidValue;
  if (!device.settings.devices)
    return NoDevice;
  device.isInitialized = true;
  return Success;
}

DRIVER_API int cuGetErrorName(int result, const char **text) {
  switch (result) {
#define NAME(value, name)                                                      \
  case value:                                                                  \
    *text = name;                                                              \
    return Success
    NAME(Success, "CUDA_SUCCESS");
    NAME(InvalidValue, "CUDA_ERROR_INVALID_VALUE");
    NAME(OutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY");
    NAME(NotInitialized, "CUDA_ERROR_NOT_INITIALIZED");
    NAME(NoDevice, "CUDA_ERROR_NO_DEVICE");
    NAME(InvalidDevice, "CUDA_ERROR_INVALID_DEVICE");
    NAME(InvalidContext, "CUDA_ERROR_INVALID_CONTEXT");
    NAME(NoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU");
    NAME(InvalidPtx, "CUDA_ERROR_INVALID_PTX");
    NAME(InvalidHandle, "CUDA_ERROR_INVALID_HANDLE");
    NAME(NotFound, "CUDA_ERROR_NOT_FOUND");
    NAME(IllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS");
    NAME(LaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES");
    NAME(LaunchFailed, "CUDA_ERROR_LAUNCH_FAILED");
    NAME(NotSupported, "CUDA_ERROR_NOT_SUPPORTED");
    NAME(Unknown, "CUDA_ERROR_UNKNOWN");
#undef NAME
  }
  *text = nullptr;
  return InvalidValue;
}

DRIVER_API int cuGetErrorString(int result, const char **text) {
  const char *name = nullptr;
  int known = cuGetErrorName(result, &name);
  *text = name ? "emulated" : nullptr;
  return known;
}

DRIVER_API int cuDriverGetVersion(int *version) {
  *version = 12000;
  return Success;
}

DRIVER_API int cuDeviceGetCount(int *count) {
  BEGIN(Anywhere);
  *count = static_cast<int>(device.settings.devices);
  return Success;
}

DRIVER_API int cuDeviceGet(int *handle, int ordinal) {
  BEGIN(Anywhere);
  if (ordinal < 0 || ordinal >= static_cast<int>(device.settings.devices))
    return InvalidDevice;
  *handle = ordinal;
  return Success;
}

DRIVER_API int cuDeviceGetName(char *name, int size, int) {
  BEGIN(Anywhere);
  std::snprintf(name, static_cast<size_t>(size), "%s",
                device.settings.name.c_str());
  return Success;
}

DRIVER_API int cuDeviceGetAttribute(int *value, int attribute, int) {
  BEGIN(Anywhere);
  constexpr int major = 75, minor = 76;
  if (attribute != major && attribute != minor)
    return InvalidValue;
  unsigned sm = device.settings.sm;
  *value = static_cast<int>(attribute == major ? sm / 10 : sm % 10);
  return Success;
}

DRIVER_API int cuDevicePrimaryCtxRetain(void **context, int) {
  BEGIN(Anywhere);
  ++device.contextUsers;
  *context = contextHandle();
  return Success;
}

DRIVER_API int cuDevicePrimaryCtxRelease_v2(int) {
  BEGIN(Anywhere);
  if (!device.contextUsers) {
    complain("cuDevicePrimaryCtxRelease without a retain");
    return InvalidContext;
  }
  if (--device.contextUsers == 0) {
    if (std::string live = device.describeLive(); !live.empty())
      complain("the context ends with " + live);
    device.sticky = Success;
  }
  return Success;
}

DRIVER_API int cuCtxPushCurrent_v2(void *context) {
  BEGIN(Anywhere);
  if (context != contextHandle() || !device.contextUsers)
    return InvalidContext;
  contexts.push_back(context);
  return Success;
}

DRIVER_API int cuCtxPopCurrent_v2(void **context) {
  BEGIN(Anywhere);
  if (contexts.empty())
    return InvalidContext;
  *context = contexts.back();
  contexts.pop_back();
  return Success;
}

DRIVER_API int cuCtxGetCurrent(void **context) {
  BEGIN(Anywhere);
  *context = contexts.empty() ? nullptr : contexts.back();
  return Success;
}

DRIVER_API int cuCtxGetDevice(int *handle) {
  BEGIN(InContext);
  *handle = 0;
  return Success;
}

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

DRIVER_API int cuModuleLoadDataEx(void **module, const void *code,
                                  unsigned numOptions, const int *options,
                                  void **values) {
  BEGIN(InContext);
  constexpr int errorLog = 5, errorLogBytes = 6; // CU_JIT_ERROR_LOG_BUFFER*
  char *buffer = nullptr;
  size_t size = 0;
  for (unsigned i = 0; i < numOptions; ++i) {
    if (options[i] == errorLog)
      buffer = static_cast<char *>(values[i]);
    else if (options[i] == errorLogBytes)
      size = reinterpret_cast<uintptr_t>(values[i]);
  }
  emu::Module *loaded = nullptr;
  std::string log;
  Result result =
      device.loadModule(static_cast<const char *>(code), loaded, log);
  if (buffer && size)
    std::snprintf(buffer, size, "%s", log.c_str());
  *module = loaded;
  return result;
}

DRIVER_API int cuModuleUnload(void *module) {
  BEGIN(Cleanup);
  return device.unloadModule(static_cast<emu::Module *>(module));
}

DRIVER_API int cuModuleGetFunction(void **function, void *module,
                                   const char *name) {
  BEGIN(InContext);
  emu::Function *found = nullptr;
  Result result =
      device.findFunction(static_cast<emu::Module *>(module), name, found);
  *function = found;
  return result;
}

DRIVER_API int cuFuncSetAttribute(void *function, int attribute, int value) {
  BEGIN(InContext);
  constexpr int maxDynamicSharedBytes = 8;
  if (attribute != maxDynamicSharedBytes)
    return InvalidValue;
  return device.setMostDynamicShared(static_cast<emu::Function *>(function),
                                     value);
}

DRIVER_API int cuLaunchKernel(void *function, unsigned gridX, unsigned gridY,
                              unsigned gridZ, unsigned blockX, unsigned blockY,
                              unsigned blockZ, unsigned sharedBytes,
                              void *stream, void **params, void **extra) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  if (!queue || extra)
    return InvalidHandle;
  LaunchShape shape;
  shape.grid = {gridX, gridY, gridZ};
  shape.block = {blockX, blockY, blockZ};
  shape.sharedBytes = sharedBytes;
  return device.launch(static_cast<emu::Function *>(function), shape, params,
                       queue);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

DRIVER_API int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  BEGIN(InContext);
  return device.allocate(bytes, *address);
}

DRIVER_API int cuMemFree_v2(uint64_t address) {
  BEGIN(Cleanup);
  return address ? device.release(address) : Success;
}

static Result outOfBounds(const char *what, size_t bytes) {
  complain(std::string(what) + " of " + std::to_string(bytes) +
           " bytes does not stay inside one allocation");
  return InvalidValue;
}

DRIVER_API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes,
                                    void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  if (!queue)
    return InvalidHandle;
  if (!device.isInside(to, bytes) || device.touches(from, bytes))
    return outOfBounds("a copy to the device", bytes);
  // Pageable memory is read before the call returns.
  auto *source = static_cast<const char *>(from);
  device.enqueue(queue, [to, copy = std::vector<char>(source, source + bytes)] {
    std::memcpy(reinterpret_cast<void *>(to), copy.data(), copy.size());
    return Success;
  });
  return Success;
}

DRIVER_API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes,
                                    void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  if (!queue)
    return InvalidHandle;
  if (!device.isInside(from, bytes) || device.touches(to, bytes))
    return outOfBounds("a copy to the host", bytes);
  device.enqueue(queue, [=] {
    std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return Success;
  });
  return Success;
}

DRIVER_API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes,
                                    void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  if (!queue)
    return InvalidHandle;
  if (!device.isInside(to, bytes) || !device.isInside(from, bytes))
    return outOfBounds("a copy within the device", bytes);
  device.enqueue(queue, [=] {
    std::memmove(reinterpret_cast<void *>(to),
                 reinterpret_cast<const void *>(from), bytes);
    return Success;
  });
  return Success;
}

DRIVER_API int cuMemsetD32Async(uint64_t to, unsigned value, size_t count,
                                void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  if (!queue)
    return InvalidHandle;
  if (to % sizeof value || !device.isInside(to, count * sizeof value))
    return outOfBounds("a fill", count * sizeof value);
  device.enqueue(queue, [=] {
    std::fill_n(reinterpret_cast<unsigned *>(to), count, value);
    return Success;
  });
  return Success;
}

//===----------------------------------------------------------------------===//
// Streams and events
//===----------------------------------------------------------------------===//

DRIVER_API int cuStreamCreate(void **stream, unsigned) {
  BEGIN(InContext);
  *stream = device.createStream();
  return Success;
}

DRIVER_API int cuStreamDestroy_v2(void *stream) {
  BEGIN(Cleanup);
  return device.destroyStream(stream);
}

DRIVER_API int cuStreamSynchronize(void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  return queue ? device.drain(queue, queue->enqueued) : InvalidHandle;
}

DRIVER_API int cuStreamWaitEvent(void *stream, void *handle, unsigned) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  Event *event = device.event(handle);
  if (!queue || !event)
    return InvalidHandle;
  if (event->stream)
    device.enqueue(queue, [] { return Success; },
                   {{event->stream, event->position}});
  return Success;
}

DRIVER_API int cuEventCreate(void **event, unsigned) {
  BEGIN(InContext);
  *event = device.createEvent();
  return Success;
}

DRIVER_API int cuEventRecord(void *handle, void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  Event *event = device.event(handle);
  if (!queue || !event)
    return InvalidHandle;
  event->stream = queue;
  event->position = queue->enqueued;
  return Success;
}

DRIVER_API int cuEventSynchronize(void *handle) {
  BEGIN(InContext);
  Event *event = device.event(handle);
  if (!event)
    return InvalidHandle;
  return event->stream ? device.drain(event->stream, event->position) : Success;
}

DRIVER_API int cuEventDestroy_v2(void *handle) {
  BEGIN(Cleanup);
  return device.destroyEvent(handle);
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

namespace {
struct KernelNodeParams { // CUDA_KERNEL_NODE_PARAMS, version 1
  void *function;
  unsigned grid[3], block[3];
  unsigned sharedBytes;
  void **params;
  void **extra;
};
} // namespace

static LaunchShape shapeOf(const KernelNodeParams &node) {
  LaunchShape shape;
  shape.grid = {node.grid[0], node.grid[1], node.grid[2]};
  shape.block = {node.block[0], node.block[1], node.block[2]};
  shape.sharedBytes = node.sharedBytes;
  return shape;
}

DRIVER_API int cuGraphCreate(void **graph, unsigned) {
  BEGIN(InContext);
  *graph = device.createGraph();
  return Success;
}

DRIVER_API int cuGraphDestroy(void *graph) {
  BEGIN(Cleanup);
  return device.destroyGraph(graph);
}

DRIVER_API int cuGraphAddKernelNode(void **node, void *graph,
                                    void *const *after, size_t numAfter,
                                    const KernelNodeParams *params) {
  BEGIN(InContext);
  if (params->extra)
    return InvalidValue;
  return device.addKernelNode(graph, after, numAfter,
                              static_cast<emu::Function *>(params->function),
                              shapeOf(*params), params->params, *node);
}

DRIVER_API int cuGraphInstantiateWithFlags(void **exec, void *graph,
                                           unsigned long long) {
  BEGIN(InContext);
  return device.instantiateGraph(graph, *exec);
}

DRIVER_API int cuGraphExecKernelNodeSetParams(void *exec, void *node,
                                              const KernelNodeParams *params) {
  BEGIN(InContext);
  if (params->extra)
    return InvalidValue;
  return device.setKernelNode(exec, node,
                              static_cast<emu::Function *>(params->function),
                              shapeOf(*params), params->params);
}

DRIVER_API int cuGraphLaunch(void *exec, void *stream) {
  BEGIN(InContext);
  Stream *queue = device.stream(stream);
  return queue ? device.launchGraph(exec, queue) : InvalidHandle;
}

DRIVER_API int cuGraphExecDestroy(void *exec) {
  BEGIN(Cleanup);
  return device.destroyGraphExec(exec);
}

//===----------------------------------------------------------------------===//
// For tests
//===----------------------------------------------------------------------===//

/// How often a function was called.
DRIVER_API unsigned dlcEmulatedCudaCalls(const char *function) {
  std::lock_guard<std::recursive_mutex> lock(Device::get().mutex);
  return Device::get().countCalls(function);
}

/// What is not given back, as text; returns its length.
DRIVER_API size_t dlcEmulatedCudaLive(char *text, size_t size) {
  std::lock_guard<std::recursive_mutex> lock(Device::get().mutex);
  std::string live = Device::get().describeLive();
  std::snprintf(text, size, "%s", live.c_str());
  return live.size();
}
