/* Kernels that a library outside of dlc computes: what generated code asks for,
 * and the runtime that asks it. The library is opened at run time; artifacts
 * hold none of it. So far there is oneDNN (libdnnl.so.3), or what the
 * environment variable DLC_ONEDNN names.
 *
 * C99, also valid C++; all fields have 8 bytes, as in dlc/runtime.h. */
#ifndef DLC_EXTERNAL_H
#define DLC_EXTERNAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DLC_EXTERNAL_RANK 4

typedef enum dlc_external_kind {
  /* dst[m, n] = sum over k of src[m, k] * weights[k, n] */
  DLC_EXTERNAL_MATMUL = 0,
  /* dst[n, o, y, x] = sum over c, i, j of
   *   src[n, c, y * stride + i * dilation - pad, ...] * weights[o, c, i, j] */
  DLC_EXTERNAL_CONV = 1
} dlc_external_kind;

typedef enum dlc_external_type {
  DLC_EXTERNAL_F32 = 0,
  DLC_EXTERNAL_BF16 = 1
} dlc_external_type;

typedef struct dlc_external_tensor {
  int64_t type;                       /*  0: dlc_external_type */
  int64_t rank;                       /*  8 */
  int64_t dims[DLC_EXTERNAL_RANK];    /* 16 */
  int64_t strides[DLC_EXTERNAL_RANK]; /* 48: in elements */
} dlc_external_tensor;                /* 80 bytes */

/* One product of fixed sizes. Sums are taken in any order, in f32. */
typedef struct dlc_external_problem {
  int64_t kind;                          /*   0: dlc_external_kind */
  dlc_external_tensor src, weights, dst; /*   8, 88, 168; dst is f32 */
  /* 248, 264, 280, 296: of a convolution; a dilation of 1 leaves nothing out */
  int64_t stride[2], dilation[2], pad_before[2], pad_after[2];
} dlc_external_problem; /* 312 bytes */

/* A kernel that calls the library: a variable `<kernel>_external` of the
 * generated object. */
typedef struct dlc_external_site {
  const char *kernel;                   /*  0: for messages */
  const dlc_external_problem *problems; /*  8 */
  int64_t num_problems;                 /* 16 */
  /* 24: nonzero: the weights lie in the model's, so that they may be kept in
   * the library's own layout for as long as an instance lives. */
  int64_t constant_weights;
  void *state;       /* 32: the runtime's own; NULL at first */
} dlc_external_site; /* 40 bytes */

/* All sites of a model; in its dlc_model. */
typedef struct dlc_external_image {
  /* 0: the runtime's functions, which only such artifacts are linked with. */
  const struct dlc_external_backend *backend;
  dlc_external_site *const *sites; /*  8 */
  int64_t num_sites;               /* 16 */
} dlc_external_image;              /* 24 bytes */

typedef struct dlc_external_backend {
  /* 0: opens the library and has it prepare every site. `weights` is the
   * instance's. Returns 0, or 1 with the reason in `error`. */
  int32_t (*open)(const dlc_external_image *image, const void *weights,
                  char *error, size_t error_len);
  /* 8: the instance ends: what was kept of its weights goes. */
  void (*close)(const dlc_external_image *image, const void *weights,
                size_t weights_size);
} dlc_external_backend; /* 16 bytes */

extern const dlc_external_backend dlc_external_onednn;

/* What generated code calls: computes problem `problem` of a site on the
 * calling thread alone. Opens and prepares what `open` did not. Returns 0, or
 * 1 (see dlc_external_error). */
int32_t dlc_external_run(dlc_external_site *site, int64_t problem,
                         const void *src, const void *weights, void *dst);

/* Why the last call in this process failed. */
const char *dlc_external_error(void);

/* The library's version: major * 10000 + minor * 100 + patch; 0 with the reason
 * in `error` where there is none that dlc can use. */
int64_t dlc_external_version(char *error, size_t error_len);

#ifdef __cplusplus
}
#endif

#endif /* DLC_EXTERNAL_H */
