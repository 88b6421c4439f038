/* Runs a compiled model from plain C. Compile a model with static shapes to an
 * archive and a header, and build this file with nothing else than the C
 * library:
 *
 *   dlc model.onnx -target=host -emit=static,header -name=model -o model.a
 *   cc -I<dlc>/include main.c model.a -lm -lpthread
 *   ./a.out
 *
 * It fills every input with ones, runs the model and prints the first values of
 * each output. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>

/* A zeroed tensor for input or output `info`; a symbolic dim gets its typical
 * value. */
static DLTensor make_tensor(const dlc_info *model, const dlc_tensor_info *info,
                            const int64_t *dims) {
  DLTensor tensor = {0};
  size_t bytes = (size_t)info->type_bits / 8;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = (int32_t)info->rank;
  tensor.dtype =
      (DLDataType){(uint8_t)info->type_code, (uint8_t)info->type_bits, 1};
  tensor.shape = calloc((size_t)info->rank + 1, sizeof(int64_t));
  for (int64_t d = 0; d < info->rank; ++d) {
    tensor.shape[d] = dims ? dims[d]
                      : info->dims[d].kind == DLC_DIM_SYMBOL
                          ? model->symbols[info->dims[d].value].typical
                          : info->dims[d].value;
    bytes *= (size_t)tensor.shape[d];
  }
  tensor.data = calloc(bytes + 1, 1);
  return tensor;
}

int main(void) {
  char error[512] = "";
  dlc_create_options options = {0};
  options.struct_size = sizeof options;
  options.error = error;
  options.error_len = sizeof error;

  model_t *model = NULL;
  if (model_create(&options, &model) != DLC_OK) {
    fprintf(stderr, "error: %s\n", error);
    return 1;
  }

  const dlc_info *info = model_get_info();
  DLTensor in[MODEL_NUM_INPUTS + 1], out[MODEL_NUM_OUTPUTS + 1];
  const DLTensor *inputs[MODEL_NUM_INPUTS + 1];
  DLTensor *outputs[MODEL_NUM_OUTPUTS + 1];
  for (int i = 0; i < MODEL_NUM_INPUTS; ++i) {
    in[i] = make_tensor(info, &info->inputs[i], NULL);
    inputs[i] = &in[i];
    int64_t count = 1;
    for (int d = 0; d < in[i].ndim; ++d)
      count *= in[i].shape[d];
    if (in[i].dtype.code == kDLFloat && in[i].dtype.bits == 32)
      for (int64_t k = 0; k < count; ++k)
        ((float *)in[i].data)[k] = 1.0f;
  }

  int64_t dims[256];
  int64_t total = 0;
  for (int i = 0; i < MODEL_NUM_OUTPUTS; ++i)
    total += info->outputs[i].rank;
  if (total > 256 || model_output_shapes(model, inputs, dims) != DLC_OK) {
    fprintf(stderr, "error: %s\n", error);
    return 1;
  }
  const int64_t *shape = dims;
  for (int i = 0; i < MODEL_NUM_OUTPUTS; ++i) {
    out[i] = make_tensor(info, &info->outputs[i], shape);
    outputs[i] = &out[i];
    shape += info->outputs[i].rank;
  }

  if (model_run(model, inputs, outputs, NULL) != DLC_OK) {
    fprintf(stderr, "error: %s\n", error);
    return 1;
  }
  for (int i = 0; i < MODEL_NUM_OUTPUTS; ++i) {
    int64_t count = 1;
    for (int d = 0; d < out[i].ndim; ++d)
      count *= out[i].shape[d];
    printf("%s:", info->outputs[i].name);
    if (out[i].dtype.code == kDLFloat && out[i].dtype.bits == 32)
      for (int64_t k = 0; k < count && k < 8; ++k)
        printf(" %g", ((float *)out[i].data)[k]);
    printf("%s (%lld elements)\n", count > 8 ? " ..." : "", (long long)count);
    free(out[i].data);
    free(out[i].shape);
  }
  for (int i = 0; i < MODEL_NUM_INPUTS; ++i) {
    free(in[i].data);
    free(in[i].shape);
  }
  model_destroy(model);
  return 0;
}
