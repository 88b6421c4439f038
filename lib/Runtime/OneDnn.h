/* What of oneDNN's C interface (version 3) the runtime calls. Its headers are
 * not needed to build: types are opaque here, and constants are those of the
 * interface, which version 3 keeps. */
#ifndef DLC_LIB_RUNTIME_ONEDNN_H
#define DLC_LIB_RUNTIME_ONEDNN_H

#include "Internal.h"
#include "dlc/external.h"

typedef int dlc_dnn_status; /* 0: success */
typedef void *dlc_dnn_handle;
typedef int64_t dlc_dnn_dims[12];

typedef struct dlc_dnn_version {
  int major, minor, patch;
  const char *hash;
  unsigned cpu_runtime, gpu_runtime;
} dlc_dnn_version;

typedef struct dlc_dnn_arg {
  int arg;
  dlc_dnn_handle memory;
} dlc_dnn_arg;

enum {
  DLC_DNN_BF16 = 2,
  DLC_DNN_F32 = 3,
  DLC_DNN_TAG_ANY = 1,
  DLC_DNN_CPU = 1,
  DLC_DNN_IN_ORDER = 1,
  DLC_DNN_SCRATCHPAD_USER = 1,
  DLC_DNN_FPMATH_STRICT = 0,
  DLC_DNN_FORWARD_INFERENCE = 96,
  DLC_DNN_CONVOLUTION_DIRECT = 1,
  DLC_DNN_QUERY_IMPLEMENTATION = 8, /* const char * */
  DLC_DNN_QUERY_SRC = 129,
  DLC_DNN_QUERY_WEIGHTS = 131,
  DLC_DNN_QUERY_DST = 133,
  DLC_DNN_QUERY_SCRATCHPAD = 136,
  DLC_DNN_ARG_SRC = 1, /* and what a reorder reads */
  DLC_DNN_ARG_DST = 17,
  DLC_DNN_ARG_WEIGHTS = 33,
  DLC_DNN_ARG_SCRATCHPAD = 80,
  DLC_DNN_RUNTIME_SEQUENTIAL = 1,
  DLC_DNN_RUNTIME_OPENMP = 2
};

/* X(member, function without its prefix, result, parameters) */
#define DLC_DNN_FUNCTIONS(X)                                                   \
  X(version, "version", const dlc_dnn_version *, (void))                       \
  X(engine_create, "engine_create", dlc_dnn_status,                            \
    (dlc_dnn_handle *, int, size_t))                                           \
  X(stream_create, "stream_create", dlc_dnn_status,                            \
    (dlc_dnn_handle *, dlc_dnn_handle, unsigned))                              \
  X(stream_wait, "stream_wait", dlc_dnn_status, (dlc_dnn_handle))              \
  X(stream_destroy, "stream_destroy", dlc_dnn_status, (dlc_dnn_handle))        \
  X(desc_with_strides, "memory_desc_create_with_strides", dlc_dnn_status,      \
    (dlc_dnn_handle *, int, const int64_t *, int, const int64_t *))            \
  X(desc_with_tag, "memory_desc_create_with_tag", dlc_dnn_status,              \
    (dlc_dnn_handle *, int, const int64_t *, int, int))                        \
  X(desc_destroy, "memory_desc_destroy", dlc_dnn_status, (dlc_dnn_handle))     \
  X(desc_equal, "memory_desc_equal", int, (dlc_dnn_handle, dlc_dnn_handle))    \
  X(desc_size, "memory_desc_get_size", size_t, (dlc_dnn_handle))               \
  X(memory_create, "memory_create", dlc_dnn_status,                            \
    (dlc_dnn_handle *, dlc_dnn_handle, dlc_dnn_handle, void *))                \
  X(memory_set, "memory_set_data_handle", dlc_dnn_status,                      \
    (dlc_dnn_handle, void *))                                                  \
  X(memory_destroy, "memory_destroy", dlc_dnn_status, (dlc_dnn_handle))        \
  X(attr_create, "primitive_attr_create", dlc_dnn_status, (dlc_dnn_handle *))  \
  X(attr_scratchpad, "primitive_attr_set_scratchpad_mode", dlc_dnn_status,     \
    (dlc_dnn_handle, int))                                                     \
  X(attr_fpmath, "primitive_attr_set_fpmath_mode", dlc_dnn_status,             \
    (dlc_dnn_handle, int))                                                     \
  X(attr_destroy, "primitive_attr_destroy", dlc_dnn_status, (dlc_dnn_handle))  \
  X(matmul, "matmul_primitive_desc_create", dlc_dnn_status,                    \
    (dlc_dnn_handle *, dlc_dnn_handle, dlc_dnn_handle, dlc_dnn_handle,         \
     dlc_dnn_handle, dlc_dnn_handle, dlc_dnn_handle))                          \
  X(convolution, "convolution_forward_primitive_desc_create", dlc_dnn_status,  \
    (dlc_dnn_handle *, dlc_dnn_handle, int, int, dlc_dnn_handle,               \
     dlc_dnn_handle, dlc_dnn_handle, dlc_dnn_handle, const int64_t *,          \
     const int64_t *, const int64_t *, const int64_t *, dlc_dnn_handle))       \
  X(reorder, "reorder_primitive_desc_create", dlc_dnn_status,                  \
    (dlc_dnn_handle *, dlc_dnn_handle, dlc_dnn_handle, dlc_dnn_handle,         \
     dlc_dnn_handle, dlc_dnn_handle))                                          \
  X(query_desc, "primitive_desc_query_md", dlc_dnn_handle,                     \
    (dlc_dnn_handle, int, int))                                                \
  X(query, "primitive_desc_query", dlc_dnn_status,                             \
    (dlc_dnn_handle, int, int, void *))                                        \
  X(primitive_desc_destroy, "primitive_desc_destroy", dlc_dnn_status,          \
    (dlc_dnn_handle))                                                          \
  X(primitive_create, "primitive_create", dlc_dnn_status,                      \
    (dlc_dnn_handle *, dlc_dnn_handle))                                        \
  X(execute, "primitive_execute", dlc_dnn_status,                              \
    (dlc_dnn_handle, dlc_dnn_handle, int, const dlc_dnn_arg *))                \
  X(primitive_destroy, "primitive_destroy", dlc_dnn_status, (dlc_dnn_handle))

/* The opened library. */
typedef struct dlc_dnn {
#define DLC_DNN_MEMBER(member, name, result, parameters)                       \
  result(*member) parameters;
  DLC_DNN_FUNCTIONS(DLC_DNN_MEMBER)
#undef DLC_DNN_MEMBER
  /* Of an OpenMP build, else NULL. */
  void (*set_threads)(int);
  int (*get_threads)(void);
  void *library;
  dlc_dnn_handle engine;
  int64_t number; /* of the version */
} dlc_dnn;

/* Opens the library. Returns 0, or 1 with the reason in `error`. */
int dlc_dnn_open(dlc_dnn *dnn, dlc_rt_error error);

/* The calling thread alone computes between these two; what the program has set
 * for OpenMP comes back. */
int dlc_dnn_enter(const dlc_dnn *dnn);
void dlc_dnn_leave(const dlc_dnn *dnn, int threads);

/* One problem, ready to run. */
typedef struct dlc_dnn_problem dlc_dnn_problem;

/* NULL with the reason in `error` where the library has no such product. */
dlc_dnn_problem *dlc_dnn_prepare(const dlc_dnn *dnn,
                                 const dlc_external_problem *problem,
                                 int keeps_weights, dlc_rt_error error);
/* Any number of threads may. Returns 0, or 1 with the reason in `error`. */
int dlc_dnn_run(const dlc_dnn *dnn, dlc_dnn_problem *problem, const void *src,
                const void *weights, void *dst, dlc_rt_error error);
/* Forgets what is kept of weights in [weights, weights + size). No thread runs
 * the problem on them. */
void dlc_dnn_forget(dlc_dnn_problem *problem, const void *weights, size_t size);
void dlc_dnn_destroy(const dlc_dnn *dnn, dlc_dnn_problem *problem);

#endif /* DLC_LIB_RUNTIME_ONEDNN_H */
