/* cuBLAS and cuDNN, where the machine has them, by the code that artifacts with
 * -libraries=on have. */
#include "Measure.h"

static const dlc_device_library *const kLibraries[DLC_DEVICE_NUM_LIBRARIES] = {
    &dlc_cublas_library, &dlc_cudnn_library};
static void *opened[DLC_DEVICE_NUM_LIBRARIES];

const char *library_name(int64_t kind) {
  return kind == DLC_DEVICE_PRODUCT ? "cuBLAS" : "cuDNN";
}

const char *library_knob(int64_t kind) {
  return kind == DLC_DEVICE_PRODUCT ? "cublas" : "cudnn";
}

long long open_library(int64_t kind, char *reason, size_t size) {
  if (!opened[kind] && kLibraries[kind]->open(&opened[kind], reason, size))
    return 0;
  return kLibraries[kind]->version(opened[kind]);
}

bool prepare_call(const dlc_device_call *call, char *reason, size_t size) {
  return open_library(call->kind, reason, size) &&
         !kLibraries[call->kind]->prepare(opened[call->kind], call, reason,
                                          size);
}

bool run_call(const dlc_device_call *call, const uint64_t *params, char *reason,
              size_t size) {
  return !kLibraries[call->kind]->run(opened[call->kind], call, params,
                                      /*stream=*/NULL, reason, size);
}
