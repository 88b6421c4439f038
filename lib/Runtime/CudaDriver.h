/* The CUDA driver as a table of functions, opened at run time: an artifact has
 * to load on machines without a GPU. */
#ifndef DLC_LIB_RUNTIME_CUDADRIVER_H
#define DLC_LIB_RUNTIME_CUDADRIVER_H

#include "CudaApi.h"
#include "Internal.h"

typedef struct dlc_cu_driver {
  void *library;
  bool has_graphs;
  DLC_CU_FUNCTIONS(DLC_CU_MEMBER)
  DLC_CU_GRAPH_FUNCTIONS(DLC_CU_MEMBER)
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
  bool is_exact;            /* its code is for this architecture only */
  dlc_cu_handle *functions; /* NULL: a call of a library */
  void *libraries[DLC_DEVICE_NUM_LIBRARIES]; /* NULL: not open */
  dlc_rt_lock library_lock; /* they are asked by one thread at a time */
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

/* Bytes of dynamic shared memory of a block of the loaded code. */
static inline unsigned dlc_cu_shared_bytes(const dlc_cu_model *m,
                                           const dlc_device_function *f) {
  return m->is_exact ? (unsigned)f->shared_bytes : 0;
}

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
