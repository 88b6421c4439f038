/* Life of an instance: the checks that make a model safe to run on this
 * machine, its weights, its options; then its end. */
#include "Internal.h"
#include "dlc/external.h"

#include <string.h>

/* Structs of options may be older (shorter) or newer (longer) than ours. */
static dlc_create_options read_options(const dlc_create_options *options) {
  dlc_create_options known;
  memset(&known, 0, sizeof known);
  if (options)
    memcpy(&known, options,
           options->struct_size < sizeof known ? options->struct_size
                                               : sizeof known);
  return known;
}

static dlc_status check_model(const dlc_model *model, dlc_rt_error error) {
  if (!model || model->abi_version != DLC_ABI_VERSION)
    return dlc_rt_fail(error, DLC_ABI_MISMATCH,
                       "the model has ABI version %lld, this runtime %d",
                       model ? (long long)model->abi_version : 0LL,
                       DLC_ABI_VERSION);
  const dlc_info *info = model->info;
  if (info->struct_size < (int64_t)sizeof(dlc_info))
    return dlc_rt_fail(
        error, DLC_ABI_MISMATCH,
        "the model's description has %lld bytes, this runtime needs %d",
        (long long)info->struct_size, (int)sizeof(dlc_info));
  if (info->device_type != (model->device_image
                                ? model->device_image->backend->device_type
                                : kDLCPU))
    return dlc_rt_fail(
        error, DLC_UNSUPPORTED_DEVICE,
        "model '%s' runs on device type %lld, which it has no code for",
        info->name, (long long)info->device_type);
  return dlc_rt_check_features(info->features, info->name, error);
}

static int64_t count_dims(const dlc_tensor_info *tensors, int64_t n) {
  int64_t dims = 0;
  for (int64_t i = 0; i < n; ++i)
    dims += tensors[i].rank;
  return dims;
}

static size_t plan_size(const dlc_model *model) {
  return model->plan ? (size_t)(model->info->num_symbols + model->num_sizes) * 8
                     : 0;
}

static dlc_status make_plan(dlc_instance *instance, dlc_rt_error error) {
  const dlc_model *model = instance->model;
  size_t size = plan_size(model);
  if (!size)
    return DLC_OK;
  instance->plan = instance->allocator.alloc(instance->allocator.ctx, size,
                                             DLC_RT_ALIGNMENT);
  if (!instance->plan)
    return dlc_rt_fail(error, DLC_OUT_OF_MEMORY,
                       "create: no memory for an instance of model '%s'",
                       model->info->name);
  if (model->info->num_symbols == 0) {
    model->plan(NULL, instance->plan);
    instance->has_plan = true;
  }
  return DLC_OK;
}

/* A model of -libraries=on does not run without the library: it holds no other
 * code for these kernels. */
static dlc_status open_external(dlc_instance *instance, dlc_rt_error error) {
  const dlc_model *model = instance->model;
  char text[512] = "";
  if (model->external->backend->open(model->external, instance->weights.data,
                                     text, sizeof text))
    return dlc_rt_fail(error, DLC_BAD_LIBRARY,
                       "model '%s' was compiled with -libraries=on: %s",
                       model->info->name, text);
  instance->has_external = true;
  return DLC_OK;
}

dlc_status dlc_model_create(const dlc_model *model,
                            const dlc_create_options *options,
                            dlc_instance **out) {
  dlc_create_options known = read_options(options);
  dlc_rt_error error = {known.error, known.error_len};
  if (!out)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT, "create: 'out' is NULL");
  *out = NULL;
  if (error.text && error.size)
    error.text[0] = 0;
  if (options &&
      options->struct_size < offsetof(dlc_create_options, weights_path))
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                       "create: options.struct_size is not set");
  if (!known.alloc != !known.free)
    return dlc_rt_fail(
        error, DLC_INVALID_ARGUMENT,
        "create: options need both of 'alloc' and 'free', or neither");
  if (known.num_threads < 0)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT, "create: num_threads is %d",
                       known.num_threads);
  dlc_status status = check_model(model, error);
  if (status != DLC_OK)
    return status;

  dlc_rt_allocator allocator = {dlc_rt_default_alloc, dlc_rt_default_free,
                                NULL};
  if (known.alloc)
    allocator = (dlc_rt_allocator){known.alloc, known.free, known.alloc_ctx};
  dlc_instance *instance =
      allocator.alloc(allocator.ctx, sizeof *instance, DLC_RT_ALIGNMENT);
  if (!instance)
    return dlc_rt_fail(error, DLC_OUT_OF_MEMORY,
                       "create: no memory for an instance of model '%s'",
                       model->info->name);
  memset(instance, 0, sizeof *instance);
  instance->model = model;
  instance->allocator = allocator;
  instance->error = error;
  instance->num_threads =
      known.num_threads ? known.num_threads : dlc_rt_default_num_threads();
  if (instance->num_threads > DLC_RT_MAX_WORKERS)
    instance->num_threads = DLC_RT_MAX_WORKERS;
  instance->pf = known.pf ? known.pf : dlc_rt_pool_function();
  instance->pf_ctx = known.pf ? known.pf_ctx : NULL;

  const dlc_info *info = model->info;
  instance->num_input_dims = count_dims(info->inputs, info->num_inputs) +
                             dlc_rt_count_state_dims(info);
  instance->num_output_dims = count_dims(info->outputs, info->num_outputs);
  int64_t dims = instance->num_input_dims > instance->num_output_dims
                     ? instance->num_input_dims
                     : instance->num_output_dims;
  instance->scratch_size =
      (size_t)(info->num_symbols + info->num_inputs + info->num_states +
               info->num_outputs + dims + dlc_rt_count_state_dims(info) +
               (info->num_symbols ? model->num_sizes : 0)) *
      8;
  instance->num_dims = dims;
  status = make_plan(instance, error);
  if (status == DLC_OK)
    status = dlc_rt_make_state(instance, error);
  if (status != DLC_OK) {
    dlc_model_destroy(instance);
    return status;
  }

  status = dlc_rt_open_weights(model, &known, error, &instance->weights);
  if (status == DLC_OK && model->device_image) {
    instance->device_id = known.device_id;
    status = model->device_image->backend->create(
        model, instance->weights.data, known.device_id, error.text, error.size,
        &instance->device);
    /* The device has its own. */
    dlc_rt_close_weights(&instance->weights);
  }
  if (status == DLC_OK && model->external)
    status = open_external(instance, error);
  if (status != DLC_OK) {
    dlc_model_destroy(instance);
    return status;
  }
  *out = instance;
  return DLC_OK;
}

void dlc_model_destroy(dlc_instance *instance) {
  if (!instance)
    return;
  dlc_rt_allocator allocator = instance->allocator;
  if (instance->device)
    instance->model->device_image->backend->destroy(instance->device);
  if (instance->arena)
    allocator.free(allocator.ctx, instance->arena, instance->arena_size);
  if (instance->plan)
    allocator.free(allocator.ctx, instance->plan, plan_size(instance->model));
  dlc_rt_destroy_state(instance);
  if (instance->has_external)
    instance->model->external->backend->close(
        instance->model->external, instance->weights.data,
        (size_t)instance->model->weights_size);
  dlc_rt_close_weights(&instance->weights);
  allocator.free(allocator.ctx, instance, sizeof *instance);
}
