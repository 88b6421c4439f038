/* The CUDA driver as a table of functions, opened at run time: an artifact has
 * to load on machines without a GPU, and no header of the toolkit is needed to
 * build. Names, numbers and signatures are those of the driver's documented,
 * stable ABI (CUDA driver API reference, CUDA 11.0 and newer). */
#ifndef DLC_LIB_RUNTIME_CUDADRIVER_H
#define DLC_LIB_RUNTIME_CUDADRIVER_H

#include "Internal.h"

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
  DLC_CU_EVENT_DISABLE_TIMING = 2
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
  F(module_load, "cuModuleLoadDataEx",                                         \
    (dlc_cu_handle *, const void *, unsigned, int *, void **))                 \
  F(module_unload, "cuModuleUnload", (dlc_cu_handle))                          \
  F(module_get_function, "cuModuleGetFunction",                                \
    (dlc_cu_handle *, dlc_cu_handle, const char *))                            \
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

typedef struct dlc_cu_driver {
  void *library;
#define DLC_CU_MEMBER(member, name, parameters)                                \
  dlc_cu_result(*member) parameters;
  DLC_CU_FUNCTIONS(DLC_CU_MEMBER)
#undef DLC_CU_MEMBER
} dlc_cu_driver;

/* Opens the driver and initialises it. On failure nothing stays open. */
dlc_status dlc_cu_open(dlc_cu_driver *driver, const char *model,
                       dlc_rt_error error);
void dlc_cu_close(dlc_cu_driver *driver);

/* "CUDA_ERROR_OUT_OF_MEMORY (out of memory)" */
const char *dlc_cu_error_text(const dlc_cu_driver *driver, dlc_cu_result result,
                              char *text, size_t size);

/* An instance of a model on a device. */
typedef struct dlc_cu_model {
  dlc_cu_driver driver;
  const dlc_model *model;
  int32_t device_id;
  char device_name[96];
  dlc_cu_device device;
  dlc_cu_handle context; /* the device's primary one; NULL: not retained */
  dlc_cu_handle module;
  dlc_cu_handle *functions;
  dlc_cu_pointer weights;
  /* Memory of runs without a workspace of the caller. Work that uses it may go
   * on after its run returned: `done` is recorded behind it. */
  dlc_rt_lock arena_lock;
  dlc_cu_pointer arena;
  size_t arena_size;
  dlc_cu_handle done;
  bool in_flight;
} dlc_cu_model;

#endif /* DLC_LIB_RUNTIME_CUDADRIVER_H */
