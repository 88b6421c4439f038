/* The CUDA driver's functions, numbers and structures: of its documented,
 * stable ABI (CUDA driver API reference, CUDA 11.0 and newer). No header of the
 * toolkit is needed to build. The runtime and dlc-cuda-measure look them up. */
#ifndef DLC_LIB_RUNTIME_CUDAAPI_H
#define DLC_LIB_RUNTIME_CUDAAPI_H

#include <stddef.h>
#include <stdint.h>

typedef int dlc_cu_result; /* CUresult */
typedef int dlc_cu_device;
typedef void *dlc_cu_handle; /* CUcontext, CUmodule, CUfunction, ... */
typedef uint64_t dlc_cu_pointer;

enum {
  DLC_CU_SUCCESS = 0,
  DLC_CU_OUT_OF_MEMORY = 2,
  DLC_CU_NO_DEVICE = 100,
  DLC_CU_NO_BINARY_FOR_GPU = 209,
  DLC_CU_ATTRIBUTE_MAJOR = 75, /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_* */
  DLC_CU_ATTRIBUTE_MINOR = 76,
  DLC_CU_JIT_ERROR_LOG_BUFFER = 5,
  DLC_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
  DLC_CU_EVENT_DISABLE_TIMING = 2,
  DLC_CU_MAX_DYNAMIC_SHARED_BYTES = 8 /* CU_FUNC_ATTRIBUTE_* */
};

/* DLC_CU_FUNCTION(member, name in the library, parameters) */
#define DLC_CU_FUNCTIONS(F)                                                    \
  F(init, "cuInit", (unsigned))                                                \
  F(get_error_name, "cuGetErrorName", (dlc_cu_result, const char **))          \
  F(get_error_string, "cuGetErrorString", (dlc_cu_result, const char **))      \
  F(device_get_count, "cuDeviceGetCount", (int *))                             \
  F(device_get, "cuDeviceGet", (dlc_cu_device *, int))                         \
  F(device_get_name, "cuDeviceGetName", (char *, int, dlc_cu_device))          \
  F(device_get_attribute, "cuDeviceGetAttribute", (int *, int, dlc_cu_device)) \
  F(context_retain, "cuDevicePrimaryCtxRetain",                                \
    (dlc_cu_handle *, dlc_cu_device))                                          \
  F(context_release, "cuDevicePrimaryCtxRelease_v2", (dlc_cu_device))          \
  F(context_push, "cuCtxPushCurrent_v2", (dlc_cu_handle))                      \
  F(context_pop, "cuCtxPopCurrent_v2", (dlc_cu_handle *))                      \
  F(context_get_current, "cuCtxGetCurrent", (dlc_cu_handle *))                 \
  F(context_get_device, "cuCtxGetDevice", (dlc_cu_device *))                   \
  F(module_load, "cuModuleLoadDataEx",                                         \
    (dlc_cu_handle *, const void *, unsigned, int *, void **))                 \
  F(module_unload, "cuModuleUnload", (dlc_cu_handle))                          \
  F(module_get_function, "cuModuleGetFunction",                                \
    (dlc_cu_handle *, dlc_cu_handle, const char *))                            \
  F(function_set_attribute, "cuFuncSetAttribute", (dlc_cu_handle, int, int))   \
  F(allocate, "cuMemAlloc_v2", (dlc_cu_pointer *, size_t))                     \
  F(release, "cuMemFree_v2", (dlc_cu_pointer))                                 \
  F(copy_in, "cuMemcpyHtoDAsync_v2",                                           \
    (dlc_cu_pointer, const void *, size_t, dlc_cu_handle))                     \
  F(copy_out, "cuMemcpyDtoHAsync_v2",                                          \
    (void *, dlc_cu_pointer, size_t, dlc_cu_handle))                           \
  F(copy_within, "cuMemcpyDtoDAsync_v2",                                       \
    (dlc_cu_pointer, dlc_cu_pointer, size_t, dlc_cu_handle))                   \
  F(fill, "cuMemsetD32Async",                                                  \
    (dlc_cu_pointer, unsigned, size_t, dlc_cu_handle))                         \
  F(stream_wait_event, "cuStreamWaitEvent",                                    \
    (dlc_cu_handle, dlc_cu_handle, unsigned))                                  \
  F(stream_synchronize, "cuStreamSynchronize", (dlc_cu_handle))                \
  F(event_create, "cuEventCreate", (dlc_cu_handle *, unsigned))                \
  F(event_record, "cuEventRecord", (dlc_cu_handle, dlc_cu_handle))             \
  F(event_synchronize, "cuEventSynchronize", (dlc_cu_handle))                  \
  F(event_destroy, "cuEventDestroy_v2", (dlc_cu_handle))                       \
  F(launch, "cuLaunchKernel",                                                  \
    (dlc_cu_handle, unsigned, unsigned, unsigned, unsigned, unsigned,          \
     unsigned, unsigned, dlc_cu_handle, void **, void **))

/* CUDA_KERNEL_NODE_PARAMS, version 1. */
typedef struct dlc_cu_kernel_node {
  dlc_cu_handle function;
  unsigned grid[3], block[3];
  unsigned shared_bytes;
  void **params;
  void **extra;
} dlc_cu_kernel_node;

/* Those that a driver may lack: without one of them there are no graphs. */
#define DLC_CU_GRAPH_FUNCTIONS(F)                                              \
  F(graph_create, "cuGraphCreate", (dlc_cu_handle *, unsigned))                \
  F(graph_destroy, "cuGraphDestroy", (dlc_cu_handle))                          \
  F(graph_add_kernel, "cuGraphAddKernelNode",                                  \
    (dlc_cu_handle *, dlc_cu_handle, const dlc_cu_handle *, size_t,            \
     const dlc_cu_kernel_node *))                                              \
  F(graph_instantiate, "cuGraphInstantiateWithFlags",                          \
    (dlc_cu_handle *, dlc_cu_handle, unsigned long long))                      \
  F(graph_exec_set_kernel, "cuGraphExecKernelNodeSetParams",                   \
    (dlc_cu_handle, dlc_cu_handle, const dlc_cu_kernel_node *))                \
  F(graph_launch, "cuGraphLaunch", (dlc_cu_handle, dlc_cu_handle))             \
  F(graph_exec_destroy, "cuGraphExecDestroy", (dlc_cu_handle))

#define DLC_CU_MEMBER(member, name, parameters)                                \
  dlc_cu_result(*member) parameters;

#endif /* DLC_LIB_RUNTIME_CUDAAPI_H */
