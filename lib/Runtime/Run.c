/* One run: options, checks, workspace, the model's code. Nothing is allocated
 * on the way but the instance's own arena when the caller brings no workspace,
 * and outputs whose size only the data tells. Bookkeeping lives on the stack,
 * so runs of one instance do not share any. */
#include "Internal.h"

#include <alloca.h>
#include <stdlib.h>
#include <string.h>

/* A model with thousands of tensors would need more stack than a small thread
 * has. */
#define MAX_STACK_SCRATCH ((size_t)64 << 10)

typedef struct run_context {
  const dlc_instance *instance;
  DLTensor *const *outputs;
  dlc_rt_allocator allocator;
  dlc_rt_error error;
  bool reported; /* error text is written already */
} run_context;

static dlc_run_options read_options(const dlc_run_options *options) {
  dlc_run_options known;
  memset(&known, 0, sizeof known);
  if (options)
    memcpy(&known, options,
           options->struct_size < sizeof known ? options->struct_size
                                               : sizeof known);
  return known;
}

/* Memory for dlc_rt_scratch: of the caller's stack where it fits. */
#define SCRATCH_BEGIN(instance)                                                \
  ((instance)->scratch_size <= MAX_STACK_SCRATCH                               \
       ? alloca((instance)->scratch_size + 8)                                  \
       : (instance)->allocator.alloc((instance)->allocator.ctx,                \
                                     (instance)->scratch_size,                 \
                                     DLC_RT_ALIGNMENT))

static void scratch_end(const dlc_instance *instance, void *memory) {
  if (memory && instance->scratch_size > MAX_STACK_SCRATCH)
    instance->allocator.free(instance->allocator.ctx, memory,
                             instance->scratch_size);
}

/* The sizes of the plan for these symbols, computed anew only when they are not
 * those of the last run. A run reads a copy of its own, so that others may go
 * on with other symbols meanwhile. */
static const int64_t *read_plan(dlc_instance *instance,
                                dlc_rt_scratch scratch) {
  const dlc_model *model = instance->model;
  if (!model->plan)
    return NULL;
  size_t symbols = (size_t)model->info->num_symbols;
  if (symbols == 0)
    return instance->plan;
  int64_t *sizes = instance->plan + symbols;
  dlc_rt_lock_acquire(&instance->plan_lock);
  if (!instance->has_plan ||
      memcmp(instance->plan, scratch.symbols, symbols * sizeof *sizes) != 0) {
    model->plan(scratch.symbols, sizes);
    memcpy(instance->plan, scratch.symbols, symbols * sizeof *sizes);
    instance->has_plan = true;
  }
  memcpy(scratch.sizes, sizes, (size_t)model->num_sizes * sizeof *sizes);
  dlc_rt_lock_release(&instance->plan_lock);
  return scratch.sizes;
}

/* Arena and scratch; negative when they are more than an address can tell. */
static int64_t workspace_bytes(const int64_t *sizes, int64_t num_workers) {
  int64_t bytes;
  if (!sizes)
    return 0;
  if (sizes[0] < 0 || sizes[1] < 0 ||
      __builtin_mul_overflow(sizes[1], num_workers, &bytes) ||
      __builtin_add_overflow(bytes, sizes[0], &bytes))
    return -1;
  return bytes;
}

/* dlc_exec.output_alloc */
static void *allocate_output(dlc_exec *exec, int64_t index,
                             const int64_t *dims) {
  run_context *run = exec->run;
  const dlc_tensor_info *info = &run->instance->model->info->outputs[index];
  DLTensor *output = run->outputs[index];
  int64_t bytes = dlc_rt_tensor_bytes(info, dims);
  if (bytes < 0)
    return NULL;
  if (output->data) {
    int64_t room = dlc_rt_tensor_bytes(info, output->shape);
    if (bytes > room) {
      dlc_rt_fail(run->error, DLC_SHAPE_MISMATCH,
                  "output '%s': needs %lld bytes, the tensor has room for %lld",
                  info->name, (long long)bytes, (long long)room);
      run->reported = true;
      return NULL;
    }
  } else {
    size_t size = bytes ? (size_t)bytes : 1;
    /* The caller frees it: without an allocator of its own, with free(). */
    if (run->allocator.alloc != dlc_rt_default_alloc)
      output->data =
          run->allocator.alloc(run->allocator.ctx, size, DLC_RT_ALIGNMENT);
    else if (posix_memalign(&output->data, DLC_RT_ALIGNMENT, size) != 0)
      output->data = NULL;
    output->byte_offset = 0;
    if (!output->data)
      return NULL;
  }
  memcpy(output->shape, dims, (size_t)info->rank * sizeof *dims);
  return (char *)output->data + output->byte_offset;
}

static const char *data_error_text(int32_t code) {
  switch (code) {
  case DLC_DATA_INDEX_OUT_OF_RANGE:
    return "an index is out of range";
  case DLC_DATA_DIVISION_BY_ZERO:
    return "an integer is divided by zero";
  case DLC_DATA_BAD_SHAPE_VALUE:
    return "a shape computed from the data is not valid";
  case DLC_DATA_EXTERNAL:
    return "a library that computes a kernel fails";
  default:
    return "a value in the data is not valid";
  }
}

static dlc_status report(const run_context *run, const dlc_exec *exec,
                         int32_t result) {
  const char *name = run->instance->model->info->name;
  if (exec->status != 0 || result == DLC_DATA_ERROR)
    return dlc_rt_fail(
        run->error,
        exec->status == DLC_DATA_EXTERNAL ? DLC_INTERNAL_ERROR : DLC_DATA_ERROR,
        "model '%s': %s%s%s%s", name, data_error_text(exec->status),
        exec->site ? " (node '" : "", exec->site ? exec->site : "",
        exec->site ? "')" : "");
  if (result == DLC_OK)
    return DLC_OK;
  if (run->reported)
    return DLC_SHAPE_MISMATCH;
  return dlc_rt_fail(run->error, (dlc_status)result, "model '%s': %s%s%s%s",
                     name, dlc_status_text((dlc_status)result),
                     exec->site ? " (node '" : "", exec->site ? exec->site : "",
                     exec->site ? "')" : "");
}

/* Makes the instance's arena at least `bytes` large. Needs its lock. */
static dlc_status grow_arena(dlc_instance *instance, size_t bytes,
                             dlc_rt_error error) {
  if (instance->arena_size >= bytes)
    return DLC_OK;
  dlc_rt_allocator *allocator = &instance->allocator;
  if (instance->arena)
    allocator->free(allocator->ctx, instance->arena, instance->arena_size);
  instance->arena_size = 0;
  instance->arena = allocator->alloc(allocator->ctx, bytes, DLC_RT_ALIGNMENT);
  if (!instance->arena)
    return dlc_rt_fail(error, DLC_OUT_OF_MEMORY,
                       "model '%s': no memory for a workspace of %llu bytes",
                       instance->model->info->name, (unsigned long long)bytes);
  instance->arena_size = bytes;
  return DLC_OK;
}

/* The device's backend has the arena, and runs the model's code. Its own error
 * text stays. */
static dlc_status execute_on_device(dlc_instance *instance,
                                    const dlc_run_options *options,
                                    size_t bytes, dlc_exec *exec,
                                    run_context *run,
                                    const DLTensor *const *inputs) {
  dlc_device_run device;
  memset(&device, 0, sizeof device);
  device.exec = exec;
  device.inputs = inputs;
  device.outputs = run->outputs;
  device.workspace = options->workspace;
  device.workspace_size = options->workspace_size;
  device.bytes = bytes;
  char text[512] = "";
  device.error = text;
  device.error_len = sizeof text;
  dlc_status status =
      instance->model->device_image->backend->run(instance->device, &device);
  if (run->reported)
    return DLC_SHAPE_MISMATCH;
  return *text ? dlc_rt_fail(run->error, status, "%s", text)
               : report(run, exec, status);
}

static dlc_status execute(dlc_instance *instance,
                          const dlc_run_options *options,
                          const DLTensor *const *inputs, dlc_rt_scratch scratch,
                          run_context *run) {
  int64_t workers =
      options->num_threads ? options->num_threads : instance->num_threads;
  if (workers > DLC_RT_MAX_WORKERS)
    workers = DLC_RT_MAX_WORKERS;
  if (instance->device)
    workers = 1;
  const int64_t *sizes = read_plan(instance, scratch);
  int64_t bytes = workspace_bytes(sizes, workers);
  if (bytes < 0)
    return dlc_rt_fail(
        run->error, DLC_SHAPE_MISMATCH,
        "model '%s': these dims need more memory than an address can tell",
        instance->model->info->name);
  dlc_exec exec;
  memset(&exec, 0, sizeof exec);
  exec.inputs = scratch.inputs;
  exec.outputs = scratch.outputs;
  exec.symbols = scratch.symbols;
  exec.weights = instance->weights.data;
  exec.num_workers = workers;
  exec.parallel_for = options->pf ? options->pf : instance->pf;
  exec.pf_ctx = options->pf ? options->pf_ctx : instance->pf_ctx;
  exec.alloc = run->allocator.alloc;
  exec.free = run->allocator.free;
  exec.alloc_ctx = run->allocator.ctx;
  exec.output_alloc = allocate_output;
  exec.stream = options->stream;
  exec.run = run;
  exec.sizes = sizes;
  if (instance->device)
    return execute_on_device(instance, options, (size_t)bytes, &exec, run,
                             inputs);
  if (options->workspace) {
    if ((uintptr_t)options->workspace % DLC_RT_ALIGNMENT)
      return dlc_rt_fail(run->error, DLC_INVALID_ARGUMENT,
                         "run: workspace is not %d-byte aligned",
                         DLC_RT_ALIGNMENT);
    if (options->workspace_size < (size_t)bytes)
      return dlc_rt_fail(
          run->error, DLC_WORKSPACE_TOO_SMALL,
          "run: workspace has %llu bytes, these inputs need %llu",
          (unsigned long long)options->workspace_size,
          (unsigned long long)bytes);
    exec.workspace = options->workspace;
    return report(run, &exec, instance->model->execute(&exec));
  }
  if (bytes == 0)
    return report(run, &exec, instance->model->execute(&exec));
  dlc_rt_lock_acquire(&instance->arena_lock);
  dlc_status status = grow_arena(instance, (size_t)bytes, run->error);
  if (status == DLC_OK) {
    exec.workspace = instance->arena;
    status = report(run, &exec, instance->model->execute(&exec));
  }
  dlc_rt_lock_release(&instance->arena_lock);
  return status;
}

/* Runs that append to the same caches take turns from end to end. */
static void lock_state(dlc_instance *instance) {
  if (instance->state)
    dlc_rt_lock_acquire(&instance->state_lock);
}
static void unlock_state(dlc_instance *instance) {
  if (instance->state)
    dlc_rt_lock_release(&instance->state_lock);
}

dlc_status dlc_model_run(dlc_instance *instance, const DLTensor *const *inputs,
                         DLTensor *const *outputs,
                         const dlc_run_options *options) {
  if (!instance)
    return DLC_INVALID_ARGUMENT;
  dlc_run_options known = read_options(options);
  run_context run = {instance, outputs, instance->allocator, instance->error,
                     false};
  if (known.error)
    run.error = (dlc_rt_error){known.error, known.error_len};
  if (options && options->struct_size < offsetof(dlc_run_options, stream))
    return dlc_rt_fail(run.error, DLC_INVALID_ARGUMENT,
                       "run: options.struct_size is not set");
  if (!known.alloc != !known.free)
    return dlc_rt_fail(
        run.error, DLC_INVALID_ARGUMENT,
        "run: options need both of 'alloc' and 'free', or neither");
  if (known.num_threads < 0)
    return dlc_rt_fail(run.error, DLC_INVALID_ARGUMENT,
                       "run: num_threads is %d", known.num_threads);
  if (known.alloc)
    run.allocator =
        (dlc_rt_allocator){known.alloc, known.free, known.alloc_ctx};

  void *memory = SCRATCH_BEGIN(instance);
  if (!memory)
    return dlc_rt_fail(run.error, DLC_OUT_OF_MEMORY,
                       "run: no memory for bookkeeping");
  dlc_rt_scratch scratch = dlc_rt_make_scratch(instance, memory);
  lock_state(instance);
  dlc_status status = dlc_rt_bind_inputs(instance, inputs, scratch, run.error);
  if (status == DLC_OK)
    status = dlc_rt_check_outputs(instance, outputs, scratch, run.error);
  if (status == DLC_OK)
    status = dlc_rt_open_state(instance, scratch, run.error);
  if (status == DLC_OK)
    status = execute(instance, &known, inputs, scratch, &run);
  if (status == DLC_OK)
    dlc_rt_close_state(instance, scratch.symbols);
  unlock_state(instance);
  scratch_end(instance, memory);
  return status;
}

dlc_status dlc_model_output_shapes(dlc_instance *instance,
                                   const DLTensor *const *inputs,
                                   int64_t *dims) {
  if (!instance)
    return DLC_INVALID_ARGUMENT;
  if (!dims && instance->num_output_dims)
    return dlc_rt_fail(instance->error, DLC_INVALID_ARGUMENT,
                       "output_shapes: 'dims' is NULL");
  void *memory = SCRATCH_BEGIN(instance);
  if (!memory)
    return dlc_rt_fail(instance->error, DLC_OUT_OF_MEMORY,
                       "output_shapes: no memory for bookkeeping");
  dlc_rt_scratch scratch = dlc_rt_make_scratch(instance, memory);
  lock_state(instance);
  dlc_status status =
      dlc_rt_bind_inputs(instance, inputs, scratch, instance->error);
  unlock_state(instance);
  if (status == DLC_OK)
    dlc_rt_output_dims(instance, scratch.symbols, dims);
  scratch_end(instance, memory);
  return status;
}

/* Room for copies of the host's tensors: any output may lie there. */
static int64_t staging_bytes(const dlc_instance *instance,
                             const DLTensor *const *inputs,
                             const int64_t *dims) {
  const int64_t alignment = 256;
  const dlc_info *info = instance->model->info;
  int64_t total = 0;
  for (int64_t i = 0; i < info->num_inputs + info->num_outputs; ++i) {
    bool is_input = i < info->num_inputs;
    const dlc_tensor_info *tensor =
        is_input ? &info->inputs[i] : &info->outputs[i - info->num_inputs];
    int64_t bytes = 0;
    if (is_input || !dlc_rt_has_data_dim(tensor))
      bytes = dlc_rt_tensor_bytes(tensor, is_input ? inputs[i]->shape : dims);
    if (bytes < 0 || bytes > INT64_MAX - alignment ||
        __builtin_add_overflow(
            total, (bytes + alignment - 1) / alignment * alignment, &total))
      return -1;
    dims += is_input ? 0 : tensor->rank;
  }
  return total;
}

size_t dlc_model_workspace(dlc_instance *instance,
                           const DLTensor *const *inputs) {
  if (!instance)
    return SIZE_MAX;
  void *memory = SCRATCH_BEGIN(instance);
  if (!memory)
    return SIZE_MAX;
  dlc_rt_scratch scratch = dlc_rt_make_scratch(instance, memory);
  lock_state(instance);
  dlc_status status =
      dlc_rt_bind_inputs(instance, inputs, scratch, instance->error);
  unlock_state(instance);
  int64_t bytes =
      status == DLC_OK
          ? workspace_bytes(read_plan(instance, scratch),
                            instance->device ? 1 : instance->num_threads)
          : -1;
  if (bytes >= 0 && instance->device) {
    dlc_rt_output_dims(instance, scratch.symbols, scratch.dims);
    int64_t staging = staging_bytes(instance, inputs, scratch.dims);
    if (staging < 0 || bytes > INT64_MAX - 256 ||
        __builtin_add_overflow((bytes + 255) / 256 * 256, staging, &bytes))
      bytes = -1;
  }
  scratch_end(instance, memory);
  return bytes < 0 ? SIZE_MAX : (size_t)bytes;
}
