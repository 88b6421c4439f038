/* What the libraries of a device have in common: they are opened at run time,
 * and their functions return 0 or a number. Needs nothing else of the runtime:
 * dlc-cuda-measure has them, too. */
#ifndef DLC_LIB_RUNTIME_DEVICELIBRARY_H
#define DLC_LIB_RUNTIME_DEVICELIBRARY_H

#include "dlc/runtime.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the environment's variable names, else the first of `names` (the last:
 * NULL) that there is. */
static inline void *dlc_device_open(const char *library, const char *variable,
                                    const char *const *names, char *error,
                                    size_t error_len) {
  const char *named = getenv(variable);
  void *found = NULL;
  if (named && *named)
    found = dlopen(named, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  else
    for (; !found && *names; ++names)
      found = dlopen(*names, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!found) {
    const char *why = dlerror();
    snprintf(error, error_len, "%s cannot be opened: %s", library,
             why ? why : variable);
  }
  return found;
}

/* A function of the library; false, with the reason, where it has none. */
static inline bool dlc_device_find(void *library, const char *name,
                                   const char *symbol, void *function,
                                   char *error, size_t error_len) {
  void *found = dlsym(library, symbol);
  memcpy(function, &found, sizeof found);
  if (!found)
    snprintf(error, error_len, "%s: it has no function '%s'", name, symbol);
  return found;
}

static inline int32_t dlc_device_check(const char *call, int status,
                                       char *error, size_t error_len) {
  if (status)
    snprintf(error, error_len, "%s: %d", call, status);
  return status != 0;
}

/* An open library of `size` bytes, zeros until `start`; NULL where that
 * fails. `close` takes what is started in part, too. */
static inline int32_t
dlc_device_start(void **state, size_t size,
                 int32_t (*start)(void *state, char *error, size_t error_len),
                 void (*close)(void *state), char *error, size_t error_len) {
  *state = calloc(1, size);
  if (*state && !start(*state, error, error_len))
    return 0;
  if (!*state)
    snprintf(error, error_len, "no memory");
  close(*state);
  *state = NULL;
  return 1;
}

static inline void *dlc_device_pointer(const uint64_t *params, int64_t number) {
  return (void *)(uintptr_t)params[number]; /* NOLINT: a device address */
}

#endif /* DLC_LIB_RUNTIME_DEVICELIBRARY_H */
