/* Opening the CUDA driver. */
#include "CudaDriver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER_VARIABLE "DLC_CUDA_DRIVER"

const char *dlc_cu_error_text(const dlc_cu_driver *driver, dlc_cu_result result,
                              char *text, size_t size) {
  const char *name = NULL, *meaning = NULL;
  if (driver->get_error_name(result, &name) != DLC_CU_SUCCESS || !name)
    name = "an error the driver has no name for";
  if (driver->get_error_string(result, &meaning) != DLC_CU_SUCCESS || !meaning)
    meaning = "no description";
  snprintf(text, size, "%s (%d: %s)", name, result, meaning);
  return text;
}

dlc_status dlc_cu_open(dlc_cu_driver *driver, const char *model,
                       dlc_rt_error error) {
  memset(driver, 0, sizeof *driver);
  const char *path = getenv(DRIVER_VARIABLE);
  if (!path || !*path)
    path = "libcuda.so.1";
  /* A driver starts threads and keeps handlers: it must never be unmapped. */
  driver->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!driver->library) {
    const char *why = dlerror();
    return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                       "model '%s' needs an NVIDIA GPU: the CUDA driver cannot "
                       "be opened: %s",
                       model, why ? why : path);
  }
  const char *missing = NULL;
#define DLC_CU_LOOKUP(member, name, parameters)                                \
  {                                                                            \
    void *address = dlsym(driver->library, name);                              \
    memcpy(&driver->member, &address, sizeof address);                         \
    if (!address)                                                              \
      missing = name;                                                          \
  }
  DLC_CU_FUNCTIONS(DLC_CU_LOOKUP)
  const char *needed = missing;
  missing = NULL;
  DLC_CU_GRAPH_FUNCTIONS(DLC_CU_LOOKUP)
#undef DLC_CU_LOOKUP
  driver->has_graphs = !missing;
  missing = needed;
  if (missing) {
    dlc_cu_close(driver);
    return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                       "model '%s': %s has no function '%s': a driver of CUDA "
                       "11 or newer is needed",
                       model, path, missing);
  }
  dlc_cu_result result = driver->init(0);
  if (result != DLC_CU_SUCCESS) {
    char text[256];
    dlc_cu_error_text(driver, result, text, sizeof text);
    dlc_cu_close(driver);
    return dlc_rt_fail(error, DLC_UNSUPPORTED_DEVICE,
                       "model '%s': the CUDA driver does not start: %s", model,
                       text);
  }
  return DLC_OK;
}

void dlc_cu_close(dlc_cu_driver *driver) {
  if (driver->library)
    dlclose(driver->library);
  driver->library = NULL;
}
