/* Checks of the caller's tensors against the model's description, and the
 * binding of symbols. A model's code trusts its arguments, so everything that
 * could make it read or write outside a buffer is found here, and said with the
 * tensor's and the dim's name. */
#include "Internal.h"

#include <stdio.h>
#include <string.h>

static const char *type_name(int64_t code, int64_t bits, int64_t lanes,
                             char *text, size_t size) {
  static const struct {
    const char *name;
    int64_t code, bits;
  } narrow[] = {
#define DLC_NARROW_TYPE(name, code, bits) {name, code, bits},
#include "dlc/NarrowTypes.def"
  };
  for (size_t i = 0; lanes == 1 && i < sizeof narrow / sizeof *narrow; ++i)
    if (narrow[i].code == code && narrow[i].bits == bits) {
      snprintf(text, size, "%s", narrow[i].name);
      return text;
    }
  const char *stem = "type";
  switch (code) {
  case kDLInt:
    stem = "i";
    break;
  case kDLUInt:
    stem = "u";
    break;
  case kDLFloat:
    stem = "f";
    break;
  case kDLBfloat:
    stem = "bf";
    break;
  case kDLComplex:
    stem = "complex";
    break;
  case kDLBool:
    stem = "bool";
    break;
  default:
    break;
  }
  if (lanes != 1)
    snprintf(text, size, "%s%lldx%lld", stem, (long long)bits,
             (long long)lanes);
  else if (code == kDLBool && bits == 8)
    snprintf(text, size, "bool");
  else
    snprintf(text, size, "%s%lld", stem, (long long)bits);
  return text;
}

/* "[batch, 128]" */
static const char *expected_shape(const dlc_tensor_info *info, char *text,
                                  size_t size) {
  size_t used = (size_t)snprintf(text, size, "[");
  for (int64_t d = 0; d < info->rank && used < size; ++d)
    used += (size_t)snprintf(text + used, size - used, "%s%s", d ? ", " : "",
                             info->dims[d].text);
  if (used < size)
    snprintf(text + used, size - used, "]");
  return text;
}

static const char *actual_shape(const DLTensor *tensor, char *text,
                                size_t size) {
  size_t used = (size_t)snprintf(text, size, "[");
  for (int32_t d = 0; d < tensor->ndim && used < size; ++d)
    used += (size_t)snprintf(text + used, size - used, "%s%lld", d ? ", " : "",
                             (long long)tensor->shape[d]);
  if (used < size)
    snprintf(text + used, size - used, "]");
  return text;
}

static bool is_narrow(int64_t code, int64_t bits) {
  return bits < 8 || (bits == 8 && code > kDLBool);
}

/* A tensor of bools or of a narrow type may come as u8, which older libraries
 * say. */
static bool same_type(const dlc_tensor_info *info, DLDataType type) {
  if (type.lanes != 1)
    return false;
  if (type.code == info->type_code && type.bits == info->type_bits)
    return true;
  return type.code == kDLUInt && type.bits == 8 &&
         (info->type_code == kDLBool ||
          is_narrow(info->type_code, info->type_bits));
}

int64_t dlc_rt_tensor_bytes(const dlc_tensor_info *info, const int64_t *dims) {
  int64_t bits = info->type_bits < 8 ? 8 : info->type_bits;
  for (int64_t d = 0; d < info->rank; ++d)
    if (dims[d] == 0)
      return 0;
  for (int64_t d = 0; d < info->rank; ++d)
    if (dims[d] < 0 || __builtin_mul_overflow(bits, dims[d], &bits) ||
        bits > INT64_MAX - 7)
      return -1;
  return (bits + 7) / 8;
}

bool dlc_rt_has_data_dim(const dlc_tensor_info *info) {
  for (int64_t d = 0; d < info->rank; ++d)
    if (info->dims[d].kind == DLC_DIM_DATA)
      return true;
  return false;
}

/* Strides must say compact row-major; those of dims of extent 1 and of empty
 * tensors may be anything. */
static dlc_status check_strides(const DLTensor *tensor, const char *role,
                                const char *name, dlc_rt_error error) {
  if (!tensor->strides)
    return DLC_OK;
  for (int32_t d = 0; d < tensor->ndim; ++d)
    if (tensor->shape[d] == 0)
      return DLC_OK;
  int64_t expected = 1;
  for (int32_t d = tensor->ndim - 1; d >= 0; --d) {
    if (tensor->shape[d] != 1 && tensor->strides[d] != expected)
      return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                         "%s '%s': not compact row-major: stride of dim %d is "
                         "%lld, needs %lld; pass a contiguous copy",
                         role, name, d, (long long)tensor->strides[d],
                         (long long)expected);
    expected *= tensor->shape[d];
  }
  return DLC_OK;
}

/* Memory of the host will do for every model; a device's own models take their
 * device's too. */
static dlc_status check_device(const dlc_instance *instance,
                               const DLTensor *tensor, const char *role,
                               const char *name, dlc_rt_error error) {
  int64_t wanted = instance->model->info->device_type;
  DLDevice device = tensor->device;
  if (device.device_type == kDLCPU || device.device_type == kDLCUDAHost)
    return DLC_OK;
  if (wanted == kDLCPU)
    return dlc_rt_fail(error, DLC_DEVICE_MISMATCH,
                       "%s '%s': expects CPU memory, got device type %d", role,
                       name, (int)device.device_type);
  if (device.device_type != wanted &&
      !(wanted == kDLCUDA && device.device_type == kDLCUDAManaged))
    return dlc_rt_fail(error, DLC_DEVICE_MISMATCH,
                       "%s '%s': expects memory of the CPU or of device type "
                       "%lld, got device type %d",
                       role, name, (long long)wanted, (int)device.device_type);
  if (device.device_id != instance->device_id)
    return dlc_rt_fail(error, DLC_DEVICE_MISMATCH,
                       "%s '%s': lies on device %d, the model on device %d",
                       role, name, (int)device.device_id,
                       (int)instance->device_id);
  return DLC_OK;
}

/* All that does not depend on symbols. `address` receives the first element. */
static dlc_status check_tensor(const dlc_instance *instance,
                               const DLTensor *tensor,
                               const dlc_tensor_info *info, const char *role,
                               bool allocated, dlc_rt_error error,
                               void **address) {
  char expected[256], actual[256];
  const char *name = info->name;
  if (!tensor)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT, "%s '%s': is NULL", role,
                       name);
  if (!same_type(info, tensor->dtype))
    return dlc_rt_fail(error, DLC_DTYPE_MISMATCH, "%s '%s': expects %s, got %s",
                       role, name,
                       type_name(info->type_code, info->type_bits, 1, expected,
                                 sizeof expected),
                       type_name(tensor->dtype.code, tensor->dtype.bits,
                                 tensor->dtype.lanes, actual, sizeof actual));
  dlc_status place = check_device(instance, tensor, role, name, error);
  if (place != DLC_OK)
    return place;
  if (tensor->ndim < 0 || (tensor->ndim > 0 && !tensor->shape))
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                       "%s '%s': shape is NULL or rank is negative", role,
                       name);
  if (tensor->ndim != info->rank)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH,
        "%s '%s': expects rank %lld %s, got rank %d %s", role, name,
        (long long)info->rank, expected_shape(info, expected, sizeof expected),
        tensor->ndim, actual_shape(tensor, actual, sizeof actual));
  for (int32_t d = 0; d < tensor->ndim; ++d)
    if (tensor->shape[d] < 0)
      return dlc_rt_fail(error, DLC_SHAPE_MISMATCH, "%s '%s': dim %d is %lld",
                         role, name, d, (long long)tensor->shape[d]);
  int64_t bytes = dlc_rt_tensor_bytes(info, tensor->shape);
  if (bytes < 0)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH,
        "%s '%s': shape %s has more bytes than an address can tell", role, name,
        actual_shape(tensor, actual, sizeof actual));
  dlc_status status = check_strides(tensor, role, name, error);
  if (status != DLC_OK)
    return status;
  *address = NULL;
  if (!tensor->data) {
    if (bytes && !allocated)
      return dlc_rt_fail(error, DLC_INVALID_ARGUMENT, "%s '%s': data is NULL",
                         role, name);
    return DLC_OK;
  }
  *address = (char *)tensor->data + tensor->byte_offset;
  int64_t element = info->type_bits / 8;
  if (element > 1 && (uintptr_t)*address % (uintptr_t)element)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                       "%s '%s': data is not aligned to its %lld-byte elements",
                       role, name, (long long)element);
  return DLC_OK;
}

/* The first input dim that has the symbol: where its value came from. */
static void find_binder(const dlc_info *info, int64_t symbol,
                        const char **input, int64_t *dim) {
  for (int64_t i = 0; i < info->num_inputs; ++i) {
    for (int64_t d = 0; d < info->inputs[i].rank; ++d) {
      const dlc_dim *candidate = &info->inputs[i].dims[d];
      if (candidate->kind == DLC_DIM_SYMBOL && candidate->value == symbol) {
        *input = info->inputs[i].name;
        *dim = d;
        return;
      }
    }
  }
}

static dlc_status bind_dim(const dlc_info *info, const dlc_tensor_info *input,
                           int64_t d, int64_t extent, int64_t *symbols,
                           dlc_rt_error error) {
  const dlc_dim *dim = &input->dims[d];
  if (dim->kind == DLC_DIM_CONST && extent != dim->value)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH, "input '%s': dim %lld is %lld, expects %lld",
        input->name, (long long)d, (long long)extent, (long long)dim->value);
  if (dim->kind != DLC_DIM_SYMBOL)
    return DLC_OK;
  const dlc_symbol_info *symbol = &info->symbols[dim->value];
  int64_t *value = &symbols[dim->value];
  if (*value < 0) {
    if (extent < symbol->min || extent > symbol->max) {
      char bound[32] = "";
      if (symbol->max != INT64_MAX)
        snprintf(bound, sizeof bound, "%lld", (long long)symbol->max);
      return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                         "input '%s': dim %lld ('%s') is %lld, the model was "
                         "built for %lld..%s",
                         input->name, (long long)d, symbol->name,
                         (long long)extent, (long long)symbol->min, bound);
    }
    *value = extent;
  } else if (*value != extent) {
    if (dlc_rt_is_state_length(info, dim->value))
      return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                         "input '%s': dim %lld ('%s') is %lld, but the cache "
                         "holds %lld rows",
                         input->name, (long long)d, symbol->name,
                         (long long)extent, (long long)*value);
    const char *other = input->name;
    int64_t other_dim = 0;
    find_binder(info, dim->value, &other, &other_dim);
    return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                       "input '%s': dim %lld ('%s') is %lld, but dim %lld of "
                       "input '%s' made '%s' %lld",
                       input->name, (long long)d, symbol->name,
                       (long long)extent, (long long)other_dim, other,
                       symbol->name, (long long)*value);
  }
  return DLC_OK;
}

dlc_rt_scratch dlc_rt_make_scratch(const dlc_instance *instance, void *memory) {
  const dlc_info *info = instance->model->info;
  dlc_rt_scratch scratch;
  scratch.symbols = memory;
  scratch.inputs = (void **)(scratch.symbols + info->num_symbols);
  scratch.outputs = scratch.inputs + info->num_inputs + info->num_states;
  scratch.dims = (int64_t *)(scratch.outputs + info->num_outputs);
  scratch.state_dims = scratch.dims + instance->num_dims;
  scratch.sizes = scratch.state_dims + dlc_rt_count_state_dims(info);
  return scratch;
}

dlc_status dlc_rt_bind_inputs(const dlc_instance *instance,
                              const DLTensor *const *inputs,
                              dlc_rt_scratch scratch, dlc_rt_error error) {
  const dlc_model *model = instance->model;
  const dlc_info *info = model->info;
  if (!inputs && info->num_inputs)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                       "the array of inputs is NULL");
  for (int64_t s = 0; s < info->num_symbols; ++s)
    scratch.symbols[s] = -1;
  dlc_rt_bind_state(instance, scratch.symbols);
  for (int64_t i = 0; i < info->num_inputs; ++i) {
    const dlc_tensor_info *input = &info->inputs[i];
    dlc_status status = check_tensor(instance, inputs[i], input, "input", false,
                                     error, &scratch.inputs[i]);
    for (int64_t d = 0; status == DLC_OK && d < input->rank; ++d)
      status =
          bind_dim(info, input, d, inputs[i]->shape[d], scratch.symbols, error);
    if (status != DLC_OK)
      return status;
  }
  dlc_status planned = dlc_rt_plan_state(instance, scratch.symbols, error);
  if (planned != DLC_OK || !model->input_dims)
    return planned;
  model->input_dims(scratch.symbols, scratch.dims);
  const int64_t *expected = scratch.dims;
  for (int64_t i = 0; i < info->num_inputs; ++i)
    for (int64_t d = 0; d < info->inputs[i].rank; ++d, ++expected)
      if (info->inputs[i].dims[d].kind == DLC_DIM_EXPR &&
          inputs[i]->shape[d] != *expected)
        return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                           "input '%s': dim %lld is %lld, expects '%s' = %lld",
                           info->inputs[i].name, (long long)d,
                           (long long)inputs[i]->shape[d],
                           info->inputs[i].dims[d].text, (long long)*expected);
  return DLC_OK;
}

void dlc_rt_output_dims(const dlc_instance *instance, const int64_t *symbols,
                        int64_t *dims) {
  const dlc_info *info = instance->model->info;
  if (instance->model->output_dims) {
    instance->model->output_dims(symbols, dims);
    return;
  }
  for (int64_t i = 0; i < info->num_outputs; ++i)
    for (int64_t d = 0; d < info->outputs[i].rank; ++d)
      *dims++ = info->outputs[i].dims[d].kind == DLC_DIM_CONST
                    ? info->outputs[i].dims[d].value
                    : -1;
}

dlc_status dlc_rt_check_outputs(const dlc_instance *instance,
                                DLTensor *const *outputs,
                                dlc_rt_scratch scratch, dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  if (!outputs && info->num_outputs)
    return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                       "the array of outputs is NULL");
  dlc_rt_output_dims(instance, scratch.symbols, scratch.dims);
  const int64_t *expected = scratch.dims;
  for (int64_t i = 0; i < info->num_outputs;
       expected += info->outputs[i].rank, ++i) {
    const dlc_tensor_info *output = &info->outputs[i];
    bool late = dlc_rt_has_data_dim(output);
    dlc_status status = check_tensor(instance, outputs[i], output, "output",
                                     late, error, &scratch.outputs[i]);
    if (status != DLC_OK)
      return status;
    if (late) {
      scratch.outputs[i] = NULL;
      /* Allocators give memory of the host. */
      if (!outputs[i]->data && outputs[i]->device.device_type != kDLCPU &&
          outputs[i]->device.device_type != kDLCUDAHost)
        return dlc_rt_fail(error, DLC_INVALID_ARGUMENT,
                           "output '%s': its dims depend on the data: on a "
                           "device it needs memory with room",
                           output->name);
      if (outputs[i]->strides)
        return dlc_rt_fail(
            error, DLC_INVALID_ARGUMENT,
            "output '%s': its dims depend on the data, so strides must be NULL",
            output->name);
      continue;
    }
    for (int64_t d = 0; d < output->rank; ++d)
      if (outputs[i]->shape[d] != expected[d])
        return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                           "output '%s': dim %lld ('%s') is %lld, expects %lld",
                           output->name, (long long)d, output->dims[d].text,
                           (long long)outputs[i]->shape[d],
                           (long long)expected[d]);
  }
  return DLC_OK;
}
