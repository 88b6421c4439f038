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
  F(context_get_current, "cuCtxGetCurrent", (dlc_cu_handle *))                 \
  F(context_get_device, "cuCtxGetDevice", (dlc_cu_device *))                   \
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

typedef struct dlc_cu_driver {
  void *library;
  bool has_graphs;
#define DLC_CU_MEMBER(member, name, parameters)                                \
  dlc_cu_result(*member) parameters;
  DLC_CU_FUNCTIONS(DLC_CU_MEMBER)
  DLC_CU_GRAPH_FUNCTIONS(DLC_CU_MEMBER)
#undef DLC_CU_MEMBER
} dlc_cu_driver;

/* Opens the driver and initialises it. On failure nothing stays open. */
dlc_status dlc_cu_open(dlc_cu_driver *driver, const char *model,
                       dlc_rt_error error);
void dlc_cu_close(dlc_cu_driver *driver);

/* "CUDA_ERROR_OUT_OF_MEMORY (out of memory)" */
const char *dlc_cu_error_text(const dlc_cu_driver *driver, dlc_cu_result result,
                              char *text, size_t size);

/* A launch of a run, as a graph has it. */
typedef struct dlc_cu_launch {
  int64_t function, blocks;
  uint64_t *params;
  dlc_cu_handle node;
  bool changed; /* since the graph was made or updated */
} dlc_cu_launch;

typedef struct dlc_cu_graph {
  enum {
    DLC_CU_GRAPH_UNKNOWN, /* the next run notes its launches */
    DLC_CU_GRAPH_KNOWN,   /* `launches` are those of a run */
    DLC_CU_GRAPH_NEVER
  } state;
  dlc_cu_handle graph, exec; /* NULL: not made yet */
  dlc_cu_launch *launches;
  size_t count, capacity;
  unsigned changes; /* how often another sequence of launches came */
  /* Of the running run. */
  bool records, held_back;
  size_t next;
} dlc_cu_graph;

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
  dlc_cu_graph graph;
} dlc_cu_model;

/* dlc_device_backend.run; with `in_order` the default stream is like others:
 * its work may go on after the return. */
dlc_status dlc_cu_run_with(dlc_cu_model *m, const dlc_device_run *run,
                           bool in_order);

/* CudaGraph.c; the caller holds arena_lock, but for begin(m, false). */
void dlc_cu_graph_begin(dlc_cu_model *m, bool allowed);
/* Whether the launch is held back for the graph; else the caller launches. */
bool dlc_cu_graph_take(dlc_cu_model *m, int64_t function, int64_t blocks,
                       const uint64_t *params);
/* How many of the first known launches the caller has to launch now: they are
 * not held back any more. */
size_t dlc_cu_graph_flush(dlc_cu_model *m);
/* This run is not what was known, or not only launches. */
void dlc_cu_graph_diverged(dlc_cu_model *m, bool only_launches);
/* The end of the run's launches: launches the graph, its result in `result`.
 * False: what is held back has to be launched one by one. */
bool dlc_cu_graph_end(dlc_cu_model *m, dlc_cu_handle stream,
                      dlc_cu_result *result, const char **call);
void dlc_cu_graph_destroy(dlc_cu_model *m);

#endif /* DLC_LIB_RUNTIME_CUDADRIVER_H */
