/* The C interface of compiled models, in two parts.
 *
 *   Part 1 is for programs that run a model: status codes, options, the
 * self-description of a model, and the loader of shared objects. Part 2 is the
 * contract between generated code and the runtime: the static table that a
 * generated object defines and the struct its `execute` function receives.
 * Programs do not need it.
 *
 * C99, also valid C++; needs nothing but DLPack's structs. Every struct of part
 * 2, and dlc_info, is made of 8-byte fields so that its layout can be written
 * down as offsets; lib/Runtime/Layout.c asserts each of them. */
#ifndef DLC_RUNTIME_H
#define DLC_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifndef DLPACK_DLPACK_H_
#include "dlc/dlpack.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct below changes in a way that old objects would
 * misread. */
#define DLC_ABI_VERSION 4

/*===-- Part 1: running a model -------------------------------------------===*/

typedef enum dlc_status {
  DLC_OK = 0,
  DLC_INVALID_ARGUMENT =
      1, /* a NULL pointer, a bad option, a tensor that is not compact */
  DLC_SHAPE_MISMATCH = 2, /* rank or dims of a tensor do not fit the model */
  DLC_DTYPE_MISMATCH = 3, /* element type of a tensor does not fit the model */
  DLC_DEVICE_MISMATCH =
      4, /* a tensor lies on another device than the model runs on */
  DLC_OUT_OF_MEMORY = 5,
  DLC_WORKSPACE_TOO_SMALL =
      6, /* the caller's workspace is smaller than <name>_workspace says */
  DLC_UNSUPPORTED_CPU =
      7, /* the machine lacks an instruction set the model was built for */
  DLC_UNSUPPORTED_DEVICE =
      8, /* no device, driver or architecture of the kind needed */
  DLC_ABI_MISMATCH =
      9, /* model and runtime were built for different interfaces */
  DLC_BAD_WEIGHTS = 10, /* the weights are missing or belong to another model */
  DLC_BAD_LIBRARY = 11, /* a shared object cannot be opened or holds no model */
  DLC_DATA_ERROR =
      12, /* a value in the data is not valid, an index out of range say */
  DLC_INTERNAL_ERROR = 13
} dlc_status;

/* A short English name of a status, for messages; never NULL. */
static inline const char *dlc_status_text(dlc_status status) {
  switch (status) {
  case DLC_OK:
    return "ok";
  case DLC_INVALID_ARGUMENT:
    return "invalid argument";
  case DLC_SHAPE_MISMATCH:
    return "shape mismatch";
  case DLC_DTYPE_MISMATCH:
    return "element type mismatch";
  case DLC_DEVICE_MISMATCH:
    return "device mismatch";
  case DLC_OUT_OF_MEMORY:
    return "out of memory";
  case DLC_WORKSPACE_TOO_SMALL:
    return "workspace too small";
  case DLC_UNSUPPORTED_CPU:
    return "unsupported CPU";
  case DLC_UNSUPPORTED_DEVICE:
    return "unsupported device";
  case DLC_ABI_MISMATCH:
    return "ABI mismatch";
  case DLC_BAD_WEIGHTS:
    return "bad weights";
  case DLC_BAD_LIBRARY:
    return "bad library";
  case DLC_DATA_ERROR:
    return "data error";
  case DLC_INTERNAL_ERROR:
    return "internal error";
  }
  return "unknown status";
}

/* What a kernel's task function sees. One frame serves all tasks of a phase. */
typedef struct dlc_frame {
  int32_t *status;        /*  0: a task stores a nonzero dlc_data_error here */
  void *scratch;          /*  8: worker w owns scratch + w * scratch_stride */
  int64_t scratch_stride; /* 16: bytes */
  void *const *buffers;   /* 24: operands, then results */
  const int64_t *symbols; /* 32: values of the kernel's symbols */
} dlc_frame;

/* Codes that a task may store to dlc_frame.status. */
typedef enum dlc_data_error {
  DLC_DATA_OK = 0,
  DLC_DATA_INDEX_OUT_OF_RANGE = 1,
  DLC_DATA_DIVISION_BY_ZERO = 2,
  DLC_DATA_BAD_SHAPE_VALUE = 3,
  DLC_DATA_EXTERNAL = 4 /* no error of the data: a library failed */
} dlc_data_error;

/* One phase of a kernel: called for each task 0..n-1, in any order, on any
 * thread, with a worker number that no other running task of the phase has. */
typedef void (*dlc_task_fn)(const dlc_frame *frame, int64_t task,
                            int64_t worker);

/* Runs fn(frame, t, w) for every t in [0, num_tasks) with w in [0, num_workers)
 * and returns when all are done. Two tasks that run at the same time must have
 * different w. */
typedef void (*dlc_parallel_for_fn)(void *pf_ctx, dlc_task_fn fn,
                                    const dlc_frame *frame, int64_t num_tasks,
                                    int64_t num_workers);

/* Memory for instances, arenas and data-dependent outputs; alignment is a power
 * of two. alloc returns NULL on failure; free gets the size that alloc got. */
typedef void *(*dlc_alloc_fn)(void *alloc_ctx, size_t size, size_t alignment);
typedef void (*dlc_free_fn)(void *alloc_ctx, void *pointer, size_t size);

/* dlc_create_options.flags */
#define DLC_CREATE_VERIFY_WEIGHTS 1u /* read all and check the checksum */
#define DLC_CREATE_COPY_WEIGHTS 2u   /* copy to huge pages, do not map */

/* Zero it, set struct_size = sizeof(dlc_create_options), set what you need. */
typedef struct dlc_create_options {
  size_t struct_size;
  uint64_t flags;           /* DLC_CREATE_* */
  const char *weights_path; /* external weights; NULL: <model>.weights beside
                               the binary, then in the working folder */
  const void *weights; /* or the bytes of that file, 64-byte aligned, outliving
                          the instance */
  size_t weights_size;
  int32_t device_id;      /* CUDA models: the device's number */
  int32_t num_threads;    /* 0: DLC_NUM_THREADS, OMP_NUM_THREADS, else the CPUs
                             this process may use */
  dlc_parallel_for_fn pf; /* NULL: the pool that all models share */
  void *pf_ctx;
  dlc_alloc_fn alloc; /* both or neither; NULL: the C library */
  dlc_free_fn free;
  void *alloc_ctx;
  char *error; /* text of errors, terminated; must outlive the instance */
  size_t error_len;
} dlc_create_options;

/* Options of one run; a zero field means what the instance was created with. */
typedef struct dlc_run_options {
  size_t struct_size;
  void *workspace; /* 64-byte aligned, >= <name>_workspace bytes; NULL: the
                      instance's own arena (runs then take turns). CUDA models:
                      memory of the device */
  size_t workspace_size;
  void *stream; /* CUDA models: a CUstream; NULL: the default one, and the run
                   ends when its work is done */
  int32_t num_threads;
  int32_t reserved;
  dlc_parallel_for_fn pf;
  void *pf_ctx;
  dlc_alloc_fn alloc;
  dlc_free_fn free;
  void *alloc_ctx;
  char *error;
  size_t error_len;
} dlc_run_options;

/*===-- Self-description --------------------------------------------------===*/

typedef enum dlc_dim_kind {
  DLC_DIM_CONST = 0,  /* value = the extent */
  DLC_DIM_SYMBOL = 1, /* value = index into dlc_info.symbols */
  DLC_DIM_EXPR = 2,   /* a function of the symbols: `text`; value is 0 */
  DLC_DIM_DATA = 3    /* depends on the data (outputs only); value is 0 */
} dlc_dim_kind;

typedef struct dlc_dim {
  int64_t kind;     /*  0: dlc_dim_kind */
  int64_t value;    /*  8 */
  const char *text; /* 16: "64", "batch", "2 * seq + 1"; never NULL */
} dlc_dim;          /* 24 bytes */

typedef struct dlc_tensor_info {
  const char *name;    /*  0 */
  int64_t type_code;   /*  8: DLDataTypeCode; lanes are always 1 */
  int64_t type_bits;   /* 16: types of dlc/NarrowTypes.def take a byte an
                          element, whatever their bits */
  int64_t rank;        /* 24 */
  const dlc_dim *dims; /* 32: rank entries, NULL for rank 0 */
} dlc_tensor_info;     /* 40 bytes */

typedef struct dlc_symbol_info {
  const char *name; /*  0 */
  int64_t min;      /*  8: smallest value allowed, >= 0 */
  int64_t max;      /* 16: largest value allowed, INT64_MAX when unbounded */
  int64_t typical;  /* 24: the value schedules were chosen for */
} dlc_symbol_info;  /* 32 bytes */

/* A cache that an instance keeps between runs (-state).
 *
 * One with a length begins without rows, and every run appends `rows` of them
 * along `axis`. All such states of a model have one length, and lie in memory
 * with room for more rows than are used.
 *
 * In one without (`length` is -1) a run replaces rows that the data tell. It
 * begins as zeros. `capacity` is -1 where all sizes are known from the inputs,
 * else the symbol of dim `axis`: see dlc_model_state_reserve. */
typedef struct dlc_state_info {
  dlc_tensor_info tensor; /*  0: named as the model's input was; dim `axis` is
                             the symbol `capacity`, where there is one */
  const char *output;     /* 40: the model's output that it stands for */
  int64_t axis;           /* 48 */
  int64_t length;         /* 56: index into dlc_info.symbols: rows before a run;
                             its max is the most rows there may ever be */
  int64_t capacity;       /* 64: index into dlc_info.symbols */
  int64_t rows_kind;      /* 72: DLC_DIM_CONST or DLC_DIM_SYMBOL */
  int64_t rows_value;     /* 80: a number, or an index into dlc_info.symbols */
} dlc_state_info;         /* 88 bytes */

/* All strings are terminated and never NULL (empty when there is nothing to
 * say). */
typedef struct dlc_info {
  int64_t struct_size;     /*   0: sizeof(dlc_info) of the writer */
  int64_t abi_version;     /*   8: DLC_ABI_VERSION */
  const char *name;        /*  16: the C identifier of the model */
  const char *dlc_version; /*  24 */
  const char *triple;      /*  32: "x86_64-unknown-linux-gnu" */
  const char *cpu;         /*  40: the CPU schedules were chosen for */
  const char *features;    /*  48: instruction sets executed, names of
                              dlc/X86Features.def or ARMFeatures.def: "avx2,fma" */
  const char *flags;     /*  56: command-line flags that shaped the artifact */
  const char *precision; /*  64: "f32", "bf16", ... */
  const char *fp_mode;   /*  72: "strict", "reassoc", "fast-conv" */
  const char *laws;      /*  80: algebraic laws used, comma-separated */
  int64_t device_type;   /*  88: DLDeviceType the tensors must be on */
  int64_t num_kernels;   /*  96 */
  int64_t weights_bytes; /* 104 */
  int64_t num_inputs;    /* 112 */
  int64_t num_outputs;   /* 120 */
  int64_t num_symbols;   /* 128 */
  const dlc_tensor_info *inputs;  /* 136 */
  const dlc_tensor_info *outputs; /* 144 */
  const dlc_symbol_info *symbols; /* 152 */
  int64_t num_states;             /* 160: no inputs, no outputs */
  const dlc_state_info *states;   /* 168 */
} dlc_info;                       /* 176 bytes */

/* An instance of a model; <name>_t is another name of it. */
typedef struct dlc_instance dlc_instance;

/*===-- Shared objects (libdlc_runtime.so) --------------------------------===*/

#ifndef DLC_API
#define DLC_API
#endif

/* Opens the model in shared object `path` and makes an instance. options may be
 * NULL. */
DLC_API dlc_status dlc_load(const char *path, const dlc_create_options *options,
                            dlc_instance **out);
/* Destroys an instance made by dlc_load and closes its shared object. NULL is
 * ignored. */
DLC_API void dlc_unload(dlc_instance *instance);
DLC_API const dlc_info *dlc_get_info(const dlc_instance *instance);
/* See dlc_model_run, dlc_model_output_shapes and dlc_model_workspace. */
DLC_API dlc_status dlc_run(dlc_instance *instance,
                           const DLTensor *const *inputs,
                           DLTensor *const *outputs,
                           const dlc_run_options *options);
DLC_API dlc_status dlc_output_shapes(dlc_instance *instance,
                                     const DLTensor *const *inputs,
                                     int64_t *dims);
DLC_API size_t dlc_workspace(dlc_instance *instance,
                             const DLTensor *const *inputs);
/* See dlc_model_state_length, _bytes, _truncate and _reserve. */
DLC_API int64_t dlc_state_length(dlc_instance *instance);
DLC_API size_t dlc_state_bytes(dlc_instance *instance);
DLC_API dlc_status dlc_state_truncate(dlc_instance *instance, int64_t length);
DLC_API dlc_status dlc_state_reserve(dlc_instance *instance, int64_t rows);

/*===-- Part 2: generated code and runtime --------------------------------===*/

/* What a model's `execute` receives. The runtime fills it for each run. */
typedef struct dlc_exec {
  /* 0: first elements, in info order; aligned to the element only. States
   * follow the inputs */
  void *const *inputs;
  /* 8: the same; NULL for an output with a DLC_DIM_DATA dim */
  void *const *outputs;
  /* 16: values; `execute` may store those that no input binds */
  int64_t *symbols;
  /* 24: >= sizes[0] + num_workers * sizes[1] bytes, 64-byte aligned */
  char *workspace;
  /* 32: 64-byte aligned; NULL without weights */
  const char *weights;
  /* 40: workers of parallel_for, >= 1 */
  int64_t num_workers;
  /* 48, 56: never NULL; its first argument */
  dlc_parallel_for_fn parallel_for;
  void *pf_ctx;
  /* 64, 68: frames' status points here, 0 at entry; unused */
  int32_t status;
  int32_t reserved;
  /* 72: `execute` stores the ONNX node's name here when it stops early */
  const char *site;
  /* 80, 88, 96: for intermediate buffers of data-dependent size; never NULL */
  dlc_alloc_fn alloc;
  dlc_free_fn free;
  void *alloc_ctx;
  /* 104: memory for output `index`, which has a DLC_DIM_DATA dim, once its dims
   * are known (all of them are passed); NULL: return DLC_OUT_OF_MEMORY. */
  void *(*output_alloc)(struct dlc_exec *exec, int64_t index,
                        const int64_t *dims);
  /* 112, 120: device models: the stream, and the backend's own of this run.
   * Inputs, outputs, workspace and weights are then device addresses. */
  void *stream;
  void *device_state;
  /* 128: the runtime's own */
  void *run;
  /* 136: what `plan` stored for these symbols; NULL without plan */
  const int64_t *sizes;
} dlc_exec; /* 144 bytes */

/* The table `<name>_model_table`, a constant with hidden visibility in the
 * generated object. Symbols get their values from inputs' DLC_DIM_SYMBOL dims
 * (the first binds, the others must agree); those no input binds are -1 until
 * `execute` stores them. Functions must not keep pointers, may run on any
 * thread, and see symbols that were checked against [min, max]. */
typedef struct dlc_model {
  int64_t abi_version;  /*  0: DLC_ABI_VERSION */
  const dlc_info *info; /*  8 */
  /* 16: dims of all inputs, then of all states, one after the other; NULL when
   * none has a DLC_DIM_EXPR dim. */
  void (*input_dims)(const int64_t *symbols, int64_t *dims);
  /* 24: all outputs' dims, one after the other, -1 for DLC_DIM_DATA; NULL when
   * all are constant. */
  void (*output_dims)(const int64_t *symbols, int64_t *dims);
  /* 32: stores num_sizes numbers that depend on the symbols alone: bytes of the
   * arena, bytes of a worker's scratch behind it, then what `execute` wants to
   * know (offsets, task counts, ...). Called once for each set of symbols, not
   * in every run. NULL: no arena, no scratch, nothing to know. */
  void (*plan)(const int64_t *symbols, int64_t *sizes);
  /* 40: runs the model; returns a dlc_status, DLC_DATA_ERROR when exec->status
   * became nonzero. */
  int32_t (*execute)(dlc_exec *exec);
  int64_t weights_size;      /* 48: bytes; 0 without weights */
  uint64_t weights_checksum; /* 56: dlc_weights_checksum */
  /* 64: the embedded bytes, 64-byte aligned; NULL when in a file */
  const void *weights;
  /* 72: the file's name without folder; NULL when embedded or none */
  const char *weights_file;
  /* 80: models that run on a device; NULL on CPUs */
  const struct dlc_device_image *device_image;
  int64_t num_sizes; /* 88: of `plan`; 0 without */
  /* 96: kernels that a library computes (dlc/external.h); NULL: none */
  const struct dlc_external_image *external;
} dlc_model; /* 104 bytes */

/*===-- Devices -----------------------------------------------------------===*/

typedef enum dlc_device_code {
  DLC_DEVICE_CUBIN = 0, /* machine code of one architecture */
  DLC_DEVICE_PTX = 1    /* text that the driver compiles; zero-terminated */
} dlc_device_code;

/* The code of all kernels, once. Tried in order; the first that the device
 * runs is taken. */
typedef struct dlc_device_module {
  int64_t kind;      /*  0: dlc_device_code */
  int64_t arch;      /*  8: compute capability times ten: 80, 90 */
  int64_t exact;     /* 16: nonzero: no other capability runs it (sm_90a) */
  const void *bytes; /* 24 */
  int64_t size;      /* 32 */
} dlc_device_module; /* 40 bytes */

/* What can be launched: a grid of blocks along x, all parameters 8 bytes. */
typedef struct dlc_device_function {
  const char *symbol;    /*  0: in the module */
  const char *kernel;    /*  8: for messages */
  int64_t block_threads; /* 16 */
  int64_t num_params;    /* 24 */
  /* 32: bytes of dynamic shared memory of a block, in code for exactly the
   * device's architecture; other code has none. */
  int64_t shared_bytes;
  /* 40: not a kernel: what one of the image's libraries computes; else NULL. */
  const struct dlc_device_call *call;
} dlc_device_function; /* 48 bytes */

/* cudaDataType's numbers. */
typedef enum dlc_device_type {
  DLC_DEVICE_F32 = 0,
  DLC_DEVICE_F16 = 2,
  DLC_DEVICE_I8 = 3,
  DLC_DEVICE_I32 = 10,
  DLC_DEVICE_BF16 = 14
} dlc_device_type;

/* result[b, m, n] = sum over k of left[b, m, k] * right[b, k, n], summed in f32
 * (bytes: i32) in any order. The result is contiguous; one of the last two axes
 * of each factor is. */
typedef struct dlc_device_product {
  int64_t left, right, result;         /*  0: numbers of parameters */
  int64_t batch, rows, columns, depth; /* 24 */
  int64_t left_strides[3];             /* 56: of rows, depth, batch */
  int64_t right_strides[3];            /* 80: of columns, depth, batch */
  int64_t factor_type, result_type;    /* 104: dlc_device_type */
  int64_t tf32;                        /* 120: f32 may be rounded to it */
} dlc_device_product;                  /* 128 bytes */

/* result[b, f, y, x] = sum over c, r, s of
 *   filter[f, c, r, s] *
 *   image[b, c, y * step + r * dilation - pad, x * step + s * dilation - pad],
 * summed in f32 in any order; all are contiguous and of one type. */
typedef struct dlc_device_convolution {
  int64_t filter, image, result, workspace; /*  0: numbers of parameters */
  int64_t workspace_bytes;                  /* 32: of it, at most */
  int64_t size[4];        /* 40: of the image: batch, channels, rows, columns */
  int64_t filters;        /* 72 */
  int64_t taps[2];        /* 80: of rows, of columns, as all that follow */
  int64_t places[2];      /* 96: of the result */
  int64_t pads[2];        /* 112: at either end */
  int64_t steps[2];       /* 128 */
  int64_t dilations[2];   /* 144 */
  int64_t type;           /* 160: dlc_device_type */
  int64_t tf32;           /* 168: f32 may be rounded to it */
} dlc_device_convolution; /* 176 bytes */

/* Numbers of the image's libraries, too. */
typedef enum dlc_device_call_kind {
  DLC_DEVICE_PRODUCT = 0,     /* cuBLAS */
  DLC_DEVICE_CONVOLUTION = 1, /* cuDNN */
  DLC_DEVICE_NUM_LIBRARIES
} dlc_device_call_kind;

typedef struct dlc_device_call {
  int64_t kind; /* 0: dlc_device_call_kind */
  union {       /* 8 */
    dlc_device_product product;
    dlc_device_convolution convolution;
  } as;
} dlc_device_call; /* 184 bytes */

/* A library of the device; its functions are called in the device's context,
 * not by two threads at a time. Those that return int32_t return 0, or 1 with
 * the reason in `error`. */
typedef struct dlc_device_library {
  int32_t (*open)(void **state, char *error, size_t error_len); /* 0 */
  void (*close)(void *state);      /*  8: NULL is ignored */
  int64_t (*version)(void *state); /* 16: major * 10000 + minor * 100 + patch */
  /* 24: before the first run of a call, which has to live as long as `state`.
   */
  int32_t (*prepare)(void *state, const dlc_device_call *call, char *error,
                     size_t error_len);
  /* 32: enqueues it. */
  int32_t (*run)(void *state, const dlc_device_call *call,
                 const uint64_t *params, void *stream, char *error,
                 size_t error_len);
} dlc_device_library; /* 40 bytes */

/* cuBLAS: libcublas.so.11 to 13, opened at run time, or the library that the
 * environment variable DLC_CUBLAS names. */
extern const dlc_device_library dlc_cublas_library;
/* cuDNN: libcudnn.so.8 or 9, or the library that DLC_CUDNN names. */
extern const dlc_device_library dlc_cudnn_library;

typedef struct dlc_device_image {
  const struct dlc_device_backend *backend; /* 0: of the artifact's runtime */
  const dlc_device_module *modules;         /* 8 */
  int64_t num_modules;                      /* 16 */
  const dlc_device_function *functions;     /* 24 */
  int64_t num_functions;                    /* 32 */
  /* 40, 48: the nodes whose kernels may meet invalid data, by the number of
   * their status word; the words lie at workspace + sizes[0]. Word 0 belongs to
   * the others and has no name. */
  const char *const *sites;
  int64_t num_sites;
  /* 56: by dlc_device_call_kind; NULL: no function calls it */
  const dlc_device_library *libraries[DLC_DEVICE_NUM_LIBRARIES];
} dlc_device_image; /* 72 bytes */

/* One run, as the runtime hands it to a backend. Error texts go to `error`. */
typedef struct dlc_device_run {
  dlc_exec *exec; /* checked and bound; inputs and outputs are the caller's */
  const DLTensor *const *inputs;
  DLTensor *const *outputs;
  void *workspace; /* the caller's device memory; NULL: the instance's own */
  size_t workspace_size;
  size_t bytes; /* of the workspace, without room for tensors of the host */
  char *error;
  size_t error_len;
} dlc_device_run;

/* How a model's instance lives on a device. */
typedef struct dlc_device_backend {
  int64_t device_type; /* 0: DLDeviceType of its memory */
  /* 8: loads code and weights; on failure *state is NULL. */
  dlc_status (*create)(const dlc_model *model, const char *weights,
                       int32_t device_id, char *error, size_t error_len,
                       void **state);
  void (*destroy)(void *state); /* 16: NULL is ignored */
  /* 24: runs `execute`; invalid data is left in exec->status and exec->site
   * with DLC_DATA_ERROR, other failures in `error`. */
  dlc_status (*run)(void *state, const dlc_device_run *run);
} dlc_device_backend; /* 32 bytes */

/* What `execute` of a device model calls; hidden in each artifact. Each returns
 * a dlc_status, and `execute` returns what is not DLC_OK. */

/* The backend for CUDA: libcuda.so.1, opened at run time, or the library that
 * the environment variable DLC_CUDA_DRIVER names. */
extern const dlc_device_backend dlc_cuda_backend;
/* Launches functions[function]; zero blocks are no launch. */
int32_t dlc_device_launch(dlc_exec *exec, int64_t function, int64_t blocks,
                          const uint64_t *params);
/* Copies within the device. */
int32_t dlc_device_copy(dlc_exec *exec, void *to, const void *from,
                        int64_t bytes);
/* Copies to the host, when all before is done. */
int32_t dlc_device_read(dlc_exec *exec, void *to, const void *from,
                        int64_t bytes);
/* Stores one i64 in device memory. */
int32_t dlc_device_store(dlc_exec *exec, void *to, int64_t value);
/* Copies to `to`, memory of output `index` that output_alloc gave. */
int32_t dlc_device_output(dlc_exec *exec, int64_t index, void *to,
                          const void *from, int64_t bytes);

/* The weights file: this header, zeros up to data_offset, then the bytes that
 * dlc_exec.weights points to. Little-endian. */
typedef struct dlc_weights_header {
  char magic[8];        /*  0: DLC_WEIGHTS_MAGIC */
  uint64_t data_offset; /*  8: a multiple of 4096 */
  uint64_t data_size;   /* 16 */
  uint64_t checksum;    /* 24: dlc_weights_checksum of the data */
  uint64_t reserved[4]; /* 32 */
} dlc_weights_header;   /* 64 bytes */

#define DLC_WEIGHTS_MAGIC "DLCWGT\0\1"
#define DLC_WEIGHTS_DATA_OFFSET 4096
#define DLC_WEIGHTS_PIECE ((size_t)1 << 20)

/* Checksum of weights: start with state 0 and feed the data in pieces of
 * DLC_WEIGHTS_PIECE bytes, the last one shorter; the last result is the
 * checksum. Longer pieces are split here. It finds mix-ups and damage; it is no
 * defence against forgery. */
uint64_t dlc_weights_checksum(uint64_t state, const void *data, size_t size);

/* The symbol that a shared object exports for dlc_load: its dlc_model. */
#define DLC_MODULE_SYMBOL "dlc_module"

/* The functions behind <name>_create and so on; the generated ones only add the
 * table. They are hidden inside each artifact.
 *
 * dlc_model_create: checks ABI and CPU, finds the weights. options may be NULL.
 *   On failure *out is NULL and the text is in options->error.
 * dlc_model_output_shapes: dims of all outputs, one after the other; -1 where
 * data-dependent. dlc_model_workspace: bytes that dlc_run_options.workspace
 * needs for these inputs, or SIZE_MAX when they do not fit the model (the text
 * is in the error buffer of create). dlc_model_run: inputs and outputs in info
 * order, compact row-major; an output may not overlap another tensor. Allocates
 * nothing, except: the instance's own arena when it must grow, and
 * data-dependent outputs. Such an output's `shape` holds the room when `data`
 * is not NULL; with NULL data the allocator provides it (the caller frees it;
 *   by free() where no allocator was given). Either way
 *   `shape` holds the dims afterwards. */
dlc_status dlc_model_create(const dlc_model *model,
                            const dlc_create_options *options,
                            dlc_instance **out);
dlc_status dlc_model_output_shapes(dlc_instance *instance,
                                   const DLTensor *const *inputs,
                                   int64_t *dims);
size_t dlc_model_workspace(dlc_instance *instance,
                           const DLTensor *const *inputs);
dlc_status dlc_model_run(dlc_instance *instance, const DLTensor *const *inputs,
                         DLTensor *const *outputs,
                         const dlc_run_options *options);
void dlc_model_destroy(dlc_instance *instance);

/* State. Runs of an instance that keeps some take turns, and each sees the rows
 * of those before it; one that fails appends nothing, but may have replaced
 * rows, where it would have done so. More rows than the model was built for are
 * DLC_SHAPE_MISMATCH, and so are inputs whose other dims are not those of the
 * rows in the cache. Instances share no state.
 *
 * dlc_model_state_length: rows in the cache; 0 for a model without.
 * dlc_model_state_bytes: memory of all caches, with the room they have.
 * dlc_model_state_truncate: keeps the first `length` rows, at most as many as
 * there are; 0 begins anew (zeros where rows are replaced), and lets the next
 * run have other dims.
 * dlc_model_state_reserve: room for at least `rows` rows in states whose rows
 * are replaced and whose size no input tells; rows there are stay, new ones are
 * zeros. The memory is made by the next run. There is room for as many as the
 * smallest value of the dim before. */
int64_t dlc_model_state_length(dlc_instance *instance);
size_t dlc_model_state_bytes(dlc_instance *instance);
dlc_status dlc_model_state_truncate(dlc_instance *instance, int64_t length);
dlc_status dlc_model_state_reserve(dlc_instance *instance, int64_t rows);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DLC_RUNTIME_H */
