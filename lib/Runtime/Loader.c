/* Models in shared objects. Only libdlc_runtime.so and programs that load
 * models contain this file; artifacts do not, so they need no dlopen. */
#include "Internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The text buffer of options that may be NULL or older than ours. */
static dlc_rt_error error_of(const dlc_create_options *options) {
  dlc_rt_error error = {NULL, 0};
  if (options && options->struct_size >= sizeof(dlc_create_options))
    error = (dlc_rt_error){options->error, options->error_len};
  return error;
}

dlc_status dlc_load(const char *path, const dlc_create_options *options,
                    dlc_instance **out) {
  dlc_rt_error error = error_of(options);
  if (!out || !path)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT, "load: %s is NULL",
                       out ? "'path'" : "'out'");
  *out = NULL;
  /* dlopen would search the system's folders for a name without a slash. */
  char local[4096];
  if (!strchr(path, '/')) {
    snprintf(local, sizeof local, "./%s", path);
    path = local;
  }
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return dlc_rt_fail(error, DLC_BAD_LIBRARY, "cannot load model: %s",
                       dlerror());
  const dlc_model *model = dlsym(library, DLC_MODULE_SYMBOL);
  dlc_status status;
  if (!model)
    status =
        dlc_rt_fail(error, DLC_BAD_LIBRARY, "%s: holds no model of dlc", path);
  else
    status = dlc_model_create(model, options, out);
  if (status != DLC_OK)
    dlclose(library);
  else
    (*out)->library = library;
  return status;
}

void dlc_unload(dlc_instance *instance) {
  if (!instance)
    return;
  void *library = instance->library;
  dlc_model_destroy(instance);
  if (library)
    dlclose(library);
}

const dlc_info *dlc_get_info(const dlc_instance *instance) {
  return instance ? instance->model->info : NULL;
}

dlc_status dlc_run(dlc_instance *instance, const DLTensor *const *inputs,
                   DLTensor *const *outputs, const dlc_run_options *options) {
  return dlc_model_run(instance, inputs, outputs, options);
}

dlc_status dlc_output_shapes(dlc_instance *instance,
                             const DLTensor *const *inputs, int64_t *dims) {
  return dlc_model_output_shapes(instance, inputs, dims);
}

size_t dlc_workspace(dlc_instance *instance, const DLTensor *const *inputs) {
  return dlc_model_workspace(instance, inputs);
}

int64_t dlc_state_length(dlc_instance *instance) {
  return dlc_model_state_length(instance);
}

size_t dlc_state_bytes(dlc_instance *instance) {
  return dlc_model_state_bytes(instance);
}

dlc_status dlc_state_truncate(dlc_instance *instance, int64_t length) {
  return dlc_model_state_truncate(instance, length);
}

dlc_status dlc_state_reserve(dlc_instance *instance, int64_t rows) {
  return dlc_model_state_reserve(instance, rows);
}
