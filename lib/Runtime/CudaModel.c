/* Life of a model on a CUDA device: the device's primary context (so that a
 * model lives beside PyTorch and others), code, weights; then its end. */
#include "CudaDriver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JIT_LOG_BYTES 512

static dlc_status fail(const dlc_cu_model *m, dlc_cu_result result,
                       const char *what, dlc_rt_error error) {
  char text[256];
  dlc_cu_error_text(&m->driver, result, text, sizeof text);
  return dlc_rt_fail(error,
                     result == DLC_CU_OUT_OF_MEMORY ? DLC_OUT_OF_MEMORY
                                                    : DLC_UNSUPPORTED_DEVICE,
                     "model '%s' on CUDA device %d: %s: %s",
                     m->model->info->name, (int)m->device_id, what, text);
}

static dlc_status open_device(dlc_cu_model *m, dlc_rt_error error) {
  int count = 0;
  dlc_cu_result result = m->driver.device_get_count(&count);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, "counting devices", error);
  if (m->device_id < 0 || m->device_id >= count)
    return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                       "model '%s': there is no CUDA device %d: the driver has "
                       "%d",
                       m->model->info->name, (int)m->device_id, count);
  result = m->driver.device_get(&m->device, m->device_id);
  if (result == DLC_CU_SUCCESS)
    result = m->driver.device_get_name(m->device_name,
                                       (int)sizeof m->device_name, m->device);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, "opening the device", error);
  dlc_cu_handle context = NULL;
  result = m->driver.context_retain(&context, m->device);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, "the primary context", error);
  m->context = context;
  return DLC_OK;
}

/*===-- Code --------------------------------------------------------------===*/

/* PTX runs on its capability and all newer ones, a cubin on newer minor ones
 * only, code with features of one architecture (sm_90a) nowhere else. */
static bool runs_on(const dlc_device_module *code, int64_t capability) {
  if (code->exact)
    return code->arch == capability;
  if (code->kind == DLC_DEVICE_PTX)
    return capability >= code->arch;
  return capability / 10 == code->arch / 10 && capability >= code->arch;
}

/* "sm_90a, compute_80 (PTX)" */
static void list_code(const dlc_device_image *image, char *text, size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (int64_t i = 0; i < image->num_modules && used < size; ++i) {
    const dlc_device_module *code = &image->modules[i];
    used += (size_t)snprintf(
        text + used, size - used, "%s%s_%lld%s%s", i ? ", " : "",
        code->kind == DLC_DEVICE_PTX ? "compute" : "sm", (long long)code->arch,
        code->exact ? "a" : "", code->kind == DLC_DEVICE_PTX ? " (PTX)" : "");
  }
}

static dlc_status load_code(dlc_cu_model *m, dlc_rt_error error) {
  const dlc_device_image *image = m->model->device_image;
  int major = 0, minor = 0;
  dlc_cu_result result =
      m->driver.device_get_attribute(&major, DLC_CU_ATTRIBUTE_MAJOR, m->device);
  if (result == DLC_CU_SUCCESS)
    result = m->driver.device_get_attribute(&minor, DLC_CU_ATTRIBUTE_MINOR,
                                            m->device);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, "its compute capability", error);
  char log[JIT_LOG_BYTES] = "";
  bool tried = false;
  for (int64_t i = 0; i < image->num_modules && !m->module; ++i) {
    const dlc_device_module *code = &image->modules[i];
    if (!runs_on(code, 10 * major + minor))
      continue;
    tried = true;
    int options[] = {DLC_CU_JIT_ERROR_LOG_BUFFER,
                     DLC_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    dlc_cu_handle module = NULL;
    result = m->driver.module_load(&module, code->bytes, 2, options, values);
    if (result == DLC_CU_SUCCESS) {
      m->module = module;
      m->is_exact = code->exact;
    } else if (result == DLC_CU_OUT_OF_MEMORY) {
      return fail(m, result, "loading its kernels", error);
    }
  }
  if (m->module)
    return DLC_OK;
  char have[160];
  list_code(image, have, sizeof have);
  if (!tried)
    return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                       "model '%s' was built for %s; CUDA device %d (%s) is "
                       "sm_%d%d: compile it with -target=cuda:sm=%d%d",
                       m->model->info->name, have, (int)m->device_id,
                       m->device_name, major, minor, major, minor);
  char text[256];
  dlc_cu_error_text(&m->driver, result, text, sizeof text);
  log[sizeof log - 1] = 0;
  return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                     "model '%s': the driver of CUDA device %d (%s, sm_%d%d) "
                     "refuses its kernels (%s): %s%s%s",
                     m->model->info->name, (int)m->device_id, m->device_name,
                     major, minor, have, text, *log ? ": " : "", log);
}

static dlc_status find_functions(dlc_cu_model *m, dlc_rt_error error) {
  const dlc_device_image *image = m->model->device_image;
  for (int64_t i = 0; i < image->num_functions; ++i) {
    if (image->functions[i].call)
      continue;
    dlc_cu_result result = m->driver.module_get_function(
        &m->functions[i], m->module, image->functions[i].symbol);
    /* More than 48 KiB of shared memory must be asked for. */
    unsigned shared = dlc_cu_shared_bytes(m, &image->functions[i]);
    if (result == DLC_CU_SUCCESS && shared)
      result = m->driver.function_set_attribute(
          m->functions[i], DLC_CU_MAX_DYNAMIC_SHARED_BYTES, (int)shared);
    if (result != DLC_CU_SUCCESS) {
      char what[256];
      snprintf(what, sizeof what, "kernel '%s'", image->functions[i].kernel);
      return fail(m, result, what, error);
    }
  }
  return DLC_OK;
}

/* There is no second form of what they compute. */
static dlc_status open_libraries(dlc_cu_model *m, dlc_rt_error error) {
  const dlc_device_image *image = m->model->device_image;
  char text[256] = "";
  int32_t failed = 0;
  for (int kind = 0; !failed && kind < DLC_DEVICE_NUM_LIBRARIES; ++kind)
    if (image->libraries[kind])
      failed =
          image->libraries[kind]->open(&m->libraries[kind], text, sizeof text);
  const char *kernel = NULL;
  for (int64_t i = 0; !failed && i < image->num_functions; ++i) {
    const dlc_device_call *call = image->functions[i].call;
    if (!call)
      continue;
    failed = image->libraries[call->kind]->prepare(m->libraries[call->kind],
                                                   call, text, sizeof text);
    kernel = image->functions[i].kernel;
  }
  if (!failed)
    return DLC_OK;
  return dlc_rt_fail(error, DLC_BAD_LIBRARY,
                     "model '%s' was compiled with -libraries=on: %s%s%s%s",
                     m->model->info->name, kernel ? "kernel '" : "",
                     kernel ? kernel : "", kernel ? "': " : "", text);
}

static dlc_status load_weights(dlc_cu_model *m, const char *weights,
                               dlc_rt_error error) {
  size_t size = (size_t)m->model->weights_size;
  if (!size)
    return DLC_OK;
  char what[64];
  snprintf(what, sizeof what, "%llu bytes of weights",
           (unsigned long long)size);
  dlc_cu_pointer memory = 0;
  dlc_cu_result result = m->driver.allocate(&memory, size);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, what, error);
  m->weights = memory;
  result = m->driver.copy_in(memory, weights, size, NULL);
  /* The host's copy may go away. */
  if (result == DLC_CU_SUCCESS)
    result = m->driver.stream_synchronize(NULL);
  return result == DLC_CU_SUCCESS ? DLC_OK : fail(m, result, what, error);
}

/*===-- Life --------------------------------------------------------------===*/

static void destroy(void *state) {
  dlc_cu_model *m = state;
  if (!m)
    return;
  if (m->context && m->driver.context_push(m->context) == DLC_CU_SUCCESS) {
    if (m->in_flight)
      m->driver.event_synchronize(m->done);
    dlc_cu_graph_destroy(m);
    for (int kind = 0; kind < DLC_DEVICE_NUM_LIBRARIES; ++kind)
      if (m->libraries[kind])
        m->model->device_image->libraries[kind]->close(m->libraries[kind]);
    if (m->done)
      m->driver.event_destroy(m->done);
    if (m->arena)
      m->driver.release(m->arena);
    if (m->weights)
      m->driver.release(m->weights);
    if (m->module)
      m->driver.module_unload(m->module);
    dlc_cu_handle context;
    m->driver.context_pop(&context);
  }
  if (m->context)
    m->driver.context_release(m->device);
  dlc_cu_close(&m->driver);
  free(m->functions);
  free(m);
}

static dlc_status load(dlc_cu_model *m, const char *weights,
                       dlc_rt_error error) {
  dlc_cu_result result = m->driver.context_push(m->context);
  if (result != DLC_CU_SUCCESS)
    return fail(m, result, "the primary context", error);
  dlc_status status = DLC_OK;
  if (m->model->device_image->num_modules)
    status = load_code(m, error);
  if (status == DLC_OK)
    status = find_functions(m, error);
  if (status == DLC_OK)
    status = open_libraries(m, error);
  if (status == DLC_OK)
    status = load_weights(m, weights, error);
  if (status == DLC_OK) {
    result = m->driver.event_create(&m->done, DLC_CU_EVENT_DISABLE_TIMING);
    if (result != DLC_CU_SUCCESS)
      status = fail(m, result, "an event", error);
  }
  dlc_cu_handle context;
  m->driver.context_pop(&context);
  return status;
}

static dlc_status create(const dlc_model *model, const char *weights,
                         int32_t device_id, char *text, size_t size,
                         void **state) {
  dlc_rt_error error = {text, size};
  *state = NULL;
  dlc_cu_model *m = calloc(1, sizeof *m);
  if (m) {
    m->functions = calloc((size_t)model->device_image->num_functions + 1,
                          sizeof *m->functions);
    m->model = model;
    m->device_id = device_id;
  }
  if (!m || !m->functions) {
    free(m);
    return dlc_rt_fail(error, DLC_OUT_OF_MEMORY,
                       "create: no memory for an instance of model '%s'",
                       model->info->name);
  }
  dlc_status status = dlc_cu_open(&m->driver, model->info->name, error);
  if (status == DLC_OK)
    status = open_device(m, error);
  if (status == DLC_OK)
    status = load(m, weights, error);
  if (status != DLC_OK) {
    destroy(m);
    return status;
  }
  *state = m;
  return DLC_OK;
}

dlc_status dlc_cu_run(void *state, const dlc_device_run *run);

const dlc_device_backend dlc_cuda_backend = {kDLCUDA, create, destroy,
                                             dlc_cu_run};
