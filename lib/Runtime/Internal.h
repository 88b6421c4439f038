/* What the runtime's files share. The runtime is plain C over libc, libm and
 * threads, because it is linked into every program that embeds a model. All
 * names start with dlc_rt_, and all are hidden: an artifact exports its model's
 * functions and nothing else. */
#ifndef DLC_LIB_RUNTIME_INTERNAL_H
#define DLC_LIB_RUNTIME_INTERNAL_H

#include "dlc/runtime.h"

#include <stdbool.h>

#define DLC_RT_ALIGNMENT 64
#define DLC_RT_MAX_WORKERS 1024

/* Where an error's text goes; text may be NULL. */
typedef struct dlc_rt_error {
  char *text;
  size_t size;
} dlc_rt_error;

/* Writes the text (cut to fit) and returns `status`, so that callers can
 * `return` it. */
dlc_status dlc_rt_fail(dlc_rt_error error, dlc_status status,
                       const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An allocator; the functions are never NULL. */
typedef struct dlc_rt_allocator {
  dlc_alloc_fn alloc;
  dlc_free_fn free;
  void *ctx;
} dlc_rt_allocator;

/* The C library's; regions of 2 MiB and more are mapped and advised to be huge
 * pages. */
void *dlc_rt_default_alloc(void *ctx, size_t size, size_t alignment);
void dlc_rt_default_free(void *ctx, void *pointer, size_t size);

/* Weights of an instance and how to give them back. */
typedef struct dlc_rt_weights {
  const char *data;
  void *mapping; /* NULL when borrowed */
  size_t mapping_size;
} dlc_rt_weights;

dlc_status dlc_rt_open_weights(const dlc_model *model,
                               const dlc_create_options *options,
                               dlc_rt_error error, dlc_rt_weights *out);
void dlc_rt_close_weights(dlc_rt_weights *weights);

/* Checks that this machine has every instruction set named in the
 * comma-separated list. */
dlc_status dlc_rt_check_features(const char *features, const char *model,
                                 dlc_rt_error error);

/* Whether this machine has the named instruction set (LLVM's name): 1 yes, 0
 * no, -1 name unknown. */
int dlc_rt_has_feature(const char *name, size_t length);

/* Threads to use when the program does not say: environment, affinity, cgroup
 * quota; >= 1. */
int64_t dlc_rt_default_num_threads(void);

/* CPUs that a thread may run on, as the kernel's masks have them. */
typedef struct dlc_rt_cpus {
  unsigned long words[16384 / (8 * sizeof(long))];
  size_t bytes; /* that the kernel knows */
} dlc_rt_cpus;

/* Reads those of the calling thread; returns how many they are, 0 on failure.
 */
int64_t dlc_rt_read_affinity(dlc_rt_cpus *cpus);
/* The CPU that the calling thread runs on; -1: not known. */
int32_t dlc_rt_current_cpu(void);
/* Moves the calling thread from `cpu`, if there are CPUs for `num_threads`. */
void dlc_rt_leave_cpu(int32_t cpu, int64_t num_threads);

/* The pool all models of the process share. */
dlc_parallel_for_fn dlc_rt_pool_function(void);
void dlc_rt_pool_run(void *ctx, dlc_task_fn fn, const dlc_frame *frame,
                     int64_t num_tasks, int64_t num_workers);

/* A lock that needs no destruction and no pthread symbol versions. */
typedef struct dlc_rt_lock {
  _Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
} dlc_rt_lock;

void dlc_rt_lock_acquire(dlc_rt_lock *lock);
void dlc_rt_lock_release(dlc_rt_lock *lock);
void dlc_rt_futex_wait(_Atomic uint32_t *word, uint32_t expected);
void dlc_rt_futex_wake(_Atomic uint32_t *word, uint32_t count);

struct dlc_instance {
  const dlc_model *model;
  dlc_rt_allocator allocator;
  dlc_rt_error error;
  int64_t num_threads;
  dlc_parallel_for_fn pf;
  void *pf_ctx;
  dlc_rt_weights weights;
  int64_t num_input_dims; /* over all inputs and states */
  int64_t num_output_dims;
  int64_t num_dims; /* the larger of the two */
  size_t
      scratch_size; /* bytes of a run's bookkeeping: symbols, pointers, dims */
  /* The symbols of the last run, then what `plan` says of them: runs with the
   * same symbols compute it once. NULL without plan. A model without symbols
   * has its plan from the beginning. */
  dlc_rt_lock plan_lock;
  bool has_plan;
  int64_t *plan;
  dlc_rt_lock arena_lock;
  void *arena;
  size_t arena_size;
  /* State: memory, the same while it grows, dims of all (capacity included), in
   * one allocation; NULL without. */
  dlc_rt_lock state_lock; /* held through a run */
  void **state, **next_state;
  int64_t *state_dims;
  int64_t state_length, state_capacity; /* rows */
  int64_t state_room; /* rows of states whose rows are replaced */
  bool state_placed;  /* a run may have written these */
  void *library;      /* handle of the shared object when made by dlc_load */
  int32_t device_id;
  void *device;      /* the backend's; NULL on CPUs */
  bool has_external; /* model->external is open */
};

/* Bookkeeping of one run, laid out in `scratch_size` bytes of the caller's
 * stack. */
typedef struct dlc_rt_scratch {
  int64_t *symbols;
  void **inputs;
  void **outputs;
  int64_t *dims;  /* max(num_input_dims, num_output_dims) */
  int64_t *sizes; /* of the plan; none where the instance's own is read */
  int64_t *state_dims;
} dlc_rt_scratch;

dlc_rt_scratch dlc_rt_make_scratch(const dlc_instance *instance, void *memory);

/* Checks all inputs against the model, binds the symbols and fills
 * scratch.inputs. */
dlc_status dlc_rt_bind_inputs(const dlc_instance *instance,
                              const DLTensor *const *inputs,
                              dlc_rt_scratch scratch, dlc_rt_error error);
/* The same for outputs, whose symbols are bound already; leaves output dims in
 * scratch.dims. */
dlc_status dlc_rt_check_outputs(const dlc_instance *instance,
                                DLTensor *const *outputs,
                                dlc_rt_scratch scratch, dlc_rt_error error);
/* What follows needs instance->state_lock, and does nothing for a model without
 * state.
 *
 * Bookkeeping of a new instance; its end. */
dlc_status dlc_rt_make_state(dlc_instance *instance, dlc_rt_error error);
void dlc_rt_destroy_state(dlc_instance *instance);
int64_t dlc_rt_count_state_dims(const dlc_info *info);
bool dlc_rt_is_state_length(const dlc_info *info, int64_t symbol);
/* Symbols that the state binds, before the inputs are looked at. */
void dlc_rt_bind_state(const dlc_instance *instance, int64_t *symbols);
/* Whether the rows that a run appends are allowed; sets the capacity that it
 * needs. */
dlc_status dlc_rt_plan_state(const dlc_instance *instance, int64_t *symbols,
                             dlc_rt_error error);
/* Makes the memory as large as that, and fills scratch.inputs. */
dlc_status dlc_rt_open_state(dlc_instance *instance, dlc_rt_scratch scratch,
                             dlc_rt_error error);
/* Counts the rows of a run that succeeded. */
void dlc_rt_close_state(dlc_instance *instance, const int64_t *symbols);

/* Dims of all outputs for bound symbols. */
void dlc_rt_output_dims(const dlc_instance *instance, const int64_t *symbols,
                        int64_t *dims);
/* Bytes of a tensor, or -1 when they overflow. */
int64_t dlc_rt_tensor_bytes(const dlc_tensor_info *info, const int64_t *dims);
bool dlc_rt_has_data_dim(const dlc_tensor_info *info);

#endif /* DLC_LIB_RUNTIME_INTERNAL_H */
