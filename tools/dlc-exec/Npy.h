/* Arrays in numpy's .npy format, the form in which dlc-exec takes and gives
 * tensors. */
#ifndef DLC_TOOLS_EXEC_NPY_H
#define DLC_TOOLS_EXEC_NPY_H

#include "dlc/dlpack.h"

#include <stddef.h>

#define NPY_MAX_RANK 32

/* A tensor that owns its shape and data. */
typedef struct npy_array {
  DLTensor tensor;
  int64_t shape[NPY_MAX_RANK];
  void *memory; /* 64-byte aligned */
  size_t bytes;
} npy_array;

/* Reads `path`, little-endian, into C order. bf16 arrays are those of dtype
 * '<V2' (numpy has no name for it). On failure writes a message and returns 0.
 */
int npy_read(const char *path, npy_array *array, char *error,
             size_t error_size);

/* Writes `array`; returns 0 with a message on failure. */
int npy_write(const char *path, const npy_array *array, char *error,
              size_t error_size);

/* Allocates a zeroed array of this type and shape; returns 0 when there is no
 * memory. */
int npy_allocate(npy_array *array, DLDataType type, int32_t rank,
                 const int64_t *shape);

void npy_free(npy_array *array);

#endif
