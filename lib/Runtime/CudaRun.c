/* One run on a CUDA device: memory, copies of the host's tensors, the model's
 * code, which enqueues kernels on the caller's stream, and the end.
 *
 * A run waits for its work unless nothing on the host depends on it: the caller
 * gave a stream, all tensors lie on the device, and no kernel of the model can
 * meet invalid data. */
#include "CudaDriver.h"

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t)256) /* of the driver's own allocations */
#define MAX_BLOCKS 0x7fffffff

/* dlc_exec.device_state */
typedef struct cuda_run {
  dlc_cu_model *m;
  const dlc_device_run *run;
  dlc_cu_handle stream;
  bool waits_always; /* DLC_CUDA_SYNC: a failure is seen where it happens */
  bool in_order;     /* a default stream is one like others */
  bool uses_graph;
  dlc_cu_pointer memory;
  size_t memory_size, used;
  int32_t *words; /* room for the status words */
  /* What went wrong in the driver, or NULL. */
  const char *failed_call;
  const char *failed_kernel;
  dlc_cu_result result;
} cuda_run;

static size_t round_up(size_t bytes) {
  return (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

static dlc_cu_pointer address(const void *pointer) {
  return (dlc_cu_pointer)(uintptr_t)pointer;
}

static bool is_on_host(const DLTensor *tensor) {
  return tensor->device.device_type == kDLCPU ||
         tensor->device.device_type == kDLCUDAHost;
}

/* Notes the first failure and makes it a status. */
static int32_t check(cuda_run *r, dlc_cu_result result, const char *call,
                     const char *kernel) {
  if (result == DLC_CU_SUCCESS)
    return DLC_OK;
  if (!r->failed_call) {
    r->failed_call = call;
    r->failed_kernel = kernel;
    r->result = result;
  }
  return result == DLC_CU_OUT_OF_MEMORY ? DLC_OUT_OF_MEMORY
                                        : DLC_INTERNAL_ERROR;
}

static int32_t wait(cuda_run *r, const char *kernel) {
  return check(r, r->m->driver.stream_synchronize(r->stream),
               "cuStreamSynchronize", kernel);
}

/*===-- Data errors -------------------------------------------------------===*/

static int64_t status_words(const cuda_run *r) {
  return r->m->model->device_image->num_sites;
}

static dlc_cu_pointer status_address(const cuda_run *r) {
  const int64_t *sizes = r->run->exec->sizes;
  return r->memory + (sizes ? (dlc_cu_pointer)sizes[0] : 0);
}

/* Enqueues a copy of the words, where a kernel may have written one. */
static int32_t fetch_words(cuda_run *r) {
  int64_t count = status_words(r);
  if (count <= 1)
    return DLC_OK;
  return check(r,
               r->m->driver.copy_out(r->words, status_address(r),
                                     (size_t)count * sizeof *r->words,
                                     r->stream),
               "cuMemcpyDtoHAsync", NULL);
}

/* Nodes are looked at in the model's order: the first that met invalid data is
 * named. */
static int32_t find_data_error(cuda_run *r) {
  const dlc_device_image *image = r->m->model->device_image;
  dlc_exec *exec = r->run->exec;
  for (int64_t i = 0; i < image->num_sites; ++i)
    if (r->words[i]) {
      exec->status = r->words[i];
      exec->site = *image->sites[i] ? image->sites[i] : NULL;
      return DLC_DATA_ERROR;
    }
  return DLC_OK;
}

/*===-- What `execute` calls ----------------------------------------------===*/

static int32_t launch_now(cuda_run *r, int64_t function, int64_t blocks,
                          const uint64_t *params) {
  const dlc_device_function *f =
      &r->m->model->device_image->functions[function];
  void **pointers = alloca((size_t)(f->num_params + 1) * sizeof *pointers);
  for (int64_t i = 0; i < f->num_params; ++i)
    pointers[i] = (void *)(uintptr_t)&params[i];
  int32_t status =
      check(r,
            r->m->driver.launch(r->m->functions[function], (unsigned)blocks, 1,
                                1, (unsigned)f->block_threads, 1, 1,
                                dlc_cu_shared_bytes(r->m, f), r->stream,
                                pointers, NULL),
            "cuLaunchKernel", f->kernel);
  if (status == DLC_OK && r->waits_always)
    status = wait(r, f->kernel);
  return status;
}

/* Launches what was held back for a graph: this run is another one. */
static int32_t launch_held(cuda_run *r, bool only_launches) {
  if (!r->uses_graph)
    return DLC_OK;
  int32_t status = DLC_OK;
  size_t held = dlc_cu_graph_flush(r->m);
  for (size_t i = 0; status == DLC_OK && i < held; ++i) {
    const dlc_cu_launch *launch = &r->m->graph.launches[i];
    status = launch_now(r, launch->function, launch->blocks, launch->params);
  }
  r->uses_graph = false;
  dlc_cu_graph_diverged(r->m, only_launches);
  return status;
}

/* What a library enqueues is no launch that a graph could hold. */
static int32_t call_library(cuda_run *r, const dlc_device_function *f,
                            const uint64_t *params) {
  dlc_cu_model *m = r->m;
  char text[256] = "";
  int32_t status = launch_held(r, /*only_launches=*/false);
  if (status != DLC_OK)
    return status;
  dlc_rt_lock_acquire(&m->library_lock);
  int64_t kind = f->call->kind;
  int32_t failed = m->model->device_image->libraries[kind]->run(
      m->libraries[kind], f->call, params, r->stream, text, sizeof text);
  dlc_rt_lock_release(&m->library_lock);
  if (failed)
    return dlc_rt_fail(
        (dlc_rt_error){r->run->error, r->run->error_len}, DLC_INTERNAL_ERROR,
        "model '%s' on CUDA device %d: kernel '%s': %s", m->model->info->name,
        (int)m->device_id, f->kernel, text);
  return r->waits_always ? wait(r, f->kernel) : DLC_OK;
}

int32_t dlc_device_launch(dlc_exec *exec, int64_t function, int64_t blocks,
                          const uint64_t *params) {
  cuda_run *r = exec->device_state;
  const dlc_device_function *f =
      &r->m->model->device_image->functions[function];
  if (blocks <= 0)
    return DLC_OK;
  if (f->call)
    return call_library(r, f, params);
  if (blocks > MAX_BLOCKS) {
    dlc_rt_fail((dlc_rt_error){r->run->error, r->run->error_len},
                DLC_SHAPE_MISMATCH,
                "kernel '%s': these dims need %lld blocks, a launch has at "
                "most %d",
                f->kernel, (long long)blocks, MAX_BLOCKS);
    return DLC_SHAPE_MISMATCH;
  }
  if (r->uses_graph) {
    if (dlc_cu_graph_take(r->m, function, blocks, params))
      return DLC_OK;
    if (r->m->graph.held_back) {
      int32_t status = launch_held(r, /*only_launches=*/true);
      if (status != DLC_OK)
        return status;
    }
  }
  return launch_now(r, function, blocks, params);
}

int32_t dlc_device_copy(dlc_exec *exec, void *to, const void *from,
                        int64_t bytes) {
  cuda_run *r = exec->device_state;
  if (bytes <= 0)
    return DLC_OK;
  int32_t status = launch_held(r, /*only_launches=*/false);
  if (status != DLC_OK)
    return status;
  return check(r,
               r->m->driver.copy_within(address(to), address(from),
                                        (size_t)bytes, r->stream),
               "cuMemcpyDtoDAsync", NULL);
}

/* What the host decides by must not come from invalid data. */
int32_t dlc_device_read(dlc_exec *exec, void *to, const void *from,
                        int64_t bytes) {
  cuda_run *r = exec->device_state;
  int32_t status = launch_held(r, /*only_launches=*/false);
  if (status == DLC_OK)
    status = check(
        r, r->m->driver.copy_out(to, address(from), (size_t)bytes, r->stream),
        "cuMemcpyDtoHAsync", NULL);
  if (status == DLC_OK)
    status = fetch_words(r);
  if (status == DLC_OK)
    status = wait(r, NULL);
  return status == DLC_OK ? find_data_error(r) : status;
}

/* Two fills: a copy from the host would need memory that outlives the call. */
int32_t dlc_device_store(dlc_exec *exec, void *to, int64_t value) {
  cuda_run *r = exec->device_state;
  int32_t status = launch_held(r, /*only_launches=*/false);
  for (int half = 0; status == DLC_OK && half < 2; ++half) {
    unsigned word = (unsigned)((uint64_t)value >> (32 * half));
    status = check(
        r,
        r->m->driver.fill(address(to) + 4 * (unsigned)half, word, 1, r->stream),
        "cuMemsetD32Async", NULL);
  }
  return status;
}

int32_t dlc_device_output(dlc_exec *exec, int64_t index, void *to,
                          const void *from, int64_t bytes) {
  cuda_run *r = exec->device_state;
  if (!is_on_host(r->run->outputs[index]))
    return dlc_device_copy(exec, to, from, bytes);
  if (bytes <= 0)
    return DLC_OK;
  int32_t status = launch_held(r, /*only_launches=*/false);
  if (status != DLC_OK)
    return status;
  /* The caller reads it after the run, which waits for outputs of the host. */
  return check(
      r, r->m->driver.copy_out(to, address(from), (size_t)bytes, r->stream),
      "cuMemcpyDtoHAsync", NULL);
}

/*===-- Tensors that are copied -------------------------------------------===*/

/* Kernels access memory in pieces of this many bytes. */
#define TENSOR_ALIGNMENT 16

static bool is_misaligned(const DLTensor *tensor) {
  return ((uintptr_t)tensor->data + tensor->byte_offset) % TENSOR_ALIGNMENT;
}

/* Bytes of a tensor that has to be copied, 0 for the others. */
static size_t copied_bytes(const DLTensor *tensor,
                           const dlc_tensor_info *info) {
  if ((!is_on_host(tensor) && !is_misaligned(tensor)) ||
      dlc_rt_has_data_dim(info))
    return 0;
  return (size_t)dlc_rt_tensor_bytes(info, tensor->shape);
}

static size_t staging_bytes(const cuda_run *r) {
  const dlc_info *info = r->m->model->info;
  size_t bytes = 0;
  for (int64_t i = 0; i < info->num_inputs; ++i)
    bytes += round_up(copied_bytes(r->run->inputs[i], &info->inputs[i]));
  for (int64_t i = 0; i < info->num_outputs; ++i)
    bytes += round_up(copied_bytes(r->run->outputs[i], &info->outputs[i]));
  return bytes;
}

static void *take(cuda_run *r, size_t bytes) {
  void *memory = (void *)(uintptr_t)(r->memory + r->used);
  r->used += round_up(bytes);
  return memory;
}

/* Puts device addresses in the place of the host's and of misaligned ones. */
static int32_t stage(cuda_run *r, void **inputs, void **outputs) {
  const dlc_info *info = r->m->model->info;
  for (int64_t i = 0; i < info->num_inputs; ++i) {
    size_t bytes = copied_bytes(r->run->inputs[i], &info->inputs[i]);
    if (!bytes)
      continue;
    void *memory = take(r, bytes);
    int32_t status =
        is_on_host(r->run->inputs[i])
            ? check(r,
                    r->m->driver.copy_in(address(memory), inputs[i], bytes,
                                         r->stream),
                    "cuMemcpyHtoDAsync", NULL)
            : check(r,
                    r->m->driver.copy_within(
                        address(memory), address(inputs[i]), bytes, r->stream),
                    "cuMemcpyDtoDAsync", NULL);
    if (status != DLC_OK)
      return status;
    inputs[i] = memory;
  }
  for (int64_t i = 0; i < info->num_outputs; ++i) {
    size_t bytes = copied_bytes(r->run->outputs[i], &info->outputs[i]);
    if (bytes)
      outputs[i] = take(r, bytes);
  }
  return DLC_OK;
}

static int32_t fetch(cuda_run *r, void *const *outputs) {
  const dlc_info *info = r->m->model->info;
  for (int64_t i = 0; i < info->num_outputs; ++i) {
    const DLTensor *tensor = r->run->outputs[i];
    size_t bytes = copied_bytes(tensor, &info->outputs[i]);
    if (!bytes)
      continue;
    char *to = (char *)tensor->data + tensor->byte_offset;
    int32_t status =
        is_on_host(tensor)
            ? check(r,
                    r->m->driver.copy_out(to, address(outputs[i]), bytes,
                                          r->stream),
                    "cuMemcpyDtoHAsync", NULL)
            : check(r,
                    r->m->driver.copy_within(address(to), address(outputs[i]),
                                             bytes, r->stream),
                    "cuMemcpyDtoDAsync", NULL);
    if (status != DLC_OK)
      return status;
  }
  return DLC_OK;
}

static bool all_on_device(const cuda_run *r) {
  const dlc_info *info = r->m->model->info;
  for (int64_t i = 0; i < info->num_inputs; ++i)
    if (is_on_host(r->run->inputs[i]))
      return false;
  for (int64_t i = 0; i < info->num_outputs; ++i)
    if (is_on_host(r->run->outputs[i]))
      return false;
  return true;
}

/*===-- The run -----------------------------------------------------------===*/

static int32_t prepare_memory(cuda_run *r, size_t bytes) {
  dlc_cu_model *m = r->m;
  dlc_rt_error error = {r->run->error, r->run->error_len};
  if (r->run->workspace) {
    r->memory = address(r->run->workspace);
    r->memory_size = r->run->workspace_size;
    if (r->memory % DLC_RT_ALIGNMENT)
      return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                         "run: workspace is not %d-byte aligned",
                         DLC_RT_ALIGNMENT);
    if (r->memory_size < bytes)
      return dlc_rt_fail(
          error, DLC_WORKSPACE_TOO_SMALL,
          "run: workspace has %llu bytes, these tensors need %llu",
          (unsigned long long)r->memory_size, (unsigned long long)bytes);
    return DLC_OK;
  }
  if (m->arena_size < bytes) {
    if (m->in_flight) {
      int32_t status = check(r, m->driver.event_synchronize(m->done),
                             "cuEventSynchronize", NULL);
      if (status != DLC_OK)
        return status;
      m->in_flight = false;
    }
    if (m->arena)
      m->driver.release(m->arena);
    m->arena = 0;
    m->arena_size = 0;
    dlc_cu_result result = m->driver.allocate(&m->arena, bytes);
    if (result != DLC_CU_SUCCESS) {
      m->arena = 0;
      char text[256];
      return dlc_rt_fail(
          error,
          result == DLC_CU_OUT_OF_MEMORY ? DLC_OUT_OF_MEMORY
                                         : DLC_INTERNAL_ERROR,
          "model '%s' on CUDA device %d: no memory for a workspace of %llu "
          "bytes: %s",
          m->model->info->name, (int)m->device_id, (unsigned long long)bytes,
          dlc_cu_error_text(&m->driver, result, text, sizeof text));
    }
    m->arena_size = bytes;
  }
  r->memory = m->arena;
  r->memory_size = m->arena_size;
  /* An earlier run may still use it, on another stream. */
  return m->in_flight
             ? check(r, m->driver.stream_wait_event(r->stream, m->done, 0),
                     "cuStreamWaitEvent", NULL)
             : DLC_OK;
}

static int32_t end_launches(cuda_run *r) {
  if (!r->uses_graph)
    return DLC_OK;
  dlc_cu_result result = DLC_CU_SUCCESS;
  const char *call = "";
  if (dlc_cu_graph_end(r->m, r->stream, &result, &call))
    return check(r, result, call, NULL);
  return launch_held(r, /*only_launches=*/true);
}

static int32_t enqueue(cuda_run *r) {
  dlc_exec *exec = r->run->exec;
  dlc_cu_model *m = r->m;
  int64_t num_words = status_words(r);
  exec->workspace = (char *)(uintptr_t)r->memory;
  exec->weights = (const char *)(uintptr_t)m->weights;
  exec->device_state = r;
  r->used = round_up(r->run->bytes);
  /* The caller's arrays of addresses are this run's own. */
  int32_t status = stage(r, (void **)(uintptr_t)exec->inputs,
                         (void **)(uintptr_t)exec->outputs);
  if (status == DLC_OK && num_words)
    status = check(
        r, m->driver.fill(status_address(r), 0, (size_t)num_words, r->stream),
        "cuMemsetD32Async", NULL);
  if (status == DLC_OK) {
    r->uses_graph = !r->run->workspace && !r->waits_always;
    if (r->uses_graph)
      dlc_cu_graph_begin(m, true);
    status = m->model->execute(exec);
  }
  if (status == DLC_OK)
    status = end_launches(r);
  else if (r->uses_graph)
    dlc_cu_graph_flush(m);
  if (status == DLC_OK)
    status = fetch(r, exec->outputs);
  if (status == DLC_OK)
    status = fetch_words(r);
  return status;
}

static dlc_status describe(const cuda_run *r, int32_t status) {
  char text[256], kernel[256] = "", node[256] = "";
  if (!r->failed_call)
    return (dlc_status)status;
  const char *site = r->run->exec->site;
  bool is_late = !r->failed_kernel &&
                 (strcmp(r->failed_call, "cuStreamSynchronize") == 0 ||
                  strcmp(r->failed_call, "cuGraphLaunch") == 0);
  if (r->failed_kernel)
    snprintf(kernel, sizeof kernel, "kernel '%s'%s%s%s: ", r->failed_kernel,
             site ? " of node '" : "", site ? site : "", site ? "'" : "");
  else if (site)
    snprintf(node, sizeof node, "node '%s': ", site);
  return dlc_rt_fail(
      (dlc_rt_error){r->run->error, r->run->error_len}, (dlc_status)status,
      "model '%s' on CUDA device %d: %s%s%s: %s%s", r->m->model->info->name,
      (int)r->m->device_id, kernel, is_late ? "" : node, r->failed_call,
      dlc_cu_error_text(&r->m->driver, r->result, text, sizeof text),
      is_late ? "; one of its kernels failed, DLC_CUDA_SYNC=1 tells which"
              : "");
}

static int32_t run_in_context(cuda_run *r) {
  dlc_cu_model *m = r->m;
  int64_t num_words = status_words(r);
  int32_t small[64], *words = small;
  if (num_words > 64) {
    words = malloc((size_t)num_words * sizeof *words);
    if (!words)
      return dlc_rt_fail((dlc_rt_error){r->run->error, r->run->error_len},
                         DLC_OUT_OF_MEMORY, "run: no memory for bookkeeping");
  }
  memset(words, 0, (size_t)num_words * sizeof *words);
  r->words = words;
  bool owns = !r->run->workspace;
  int32_t status =
      prepare_memory(r, round_up(r->run->bytes) + staging_bytes(r));
  if (status == DLC_OK) {
    status = enqueue(r);
    bool waits = status != DLC_OK || (!r->run->exec->stream && !r->in_order) ||
                 num_words > 1 || !all_on_device(r);
    if (waits) {
      /* Also after a failure: nothing may still use the caller's memory. */
      int32_t end = wait(r, NULL);
      if (status == DLC_OK)
        status = end;
      if (owns)
        m->in_flight = false;
    } else if (owns) {
      status = check(r, m->driver.event_record(m->done, r->stream),
                     "cuEventRecord", NULL);
      m->in_flight = status == DLC_OK;
    }
    if (status == DLC_OK)
      status = find_data_error(r);
  }
  if (words != small)
    free(words);
  return status;
}

dlc_status dlc_cu_run_with(dlc_cu_model *m, const dlc_device_run *run,
                           bool in_order) {
  cuda_run r;
  memset(&r, 0, sizeof r);
  r.m = m;
  r.run = run;
  r.in_order = in_order;
  r.stream = run->exec->stream;
  const char *sync = getenv("DLC_CUDA_SYNC");
  r.waits_always = sync && strcmp(sync, "0") != 0 && *sync;
  if (!run->workspace)
    dlc_rt_lock_acquire(&m->arena_lock);
  int32_t status =
      check(&r, m->driver.context_push(m->context), "cuCtxPushCurrent", NULL);
  if (status == DLC_OK) {
    status = run_in_context(&r);
    dlc_cu_handle context;
    m->driver.context_pop(&context);
  }
  if (!run->workspace)
    dlc_rt_lock_release(&m->arena_lock);
  return status == DLC_OK || status == DLC_DATA_ERROR ? (dlc_status)status
                                                      : describe(&r, status);
}

dlc_status dlc_cu_run(void *state, const dlc_device_run *run) {
  return dlc_cu_run_with(state, run, /*in_order=*/false);
}
