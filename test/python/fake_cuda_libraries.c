/* Stand-ins for cuBLAS and cuDNN with plain loops, for tests of
 * dlc-cuda-measure and of artifacts on the emulated driver (FAKE_CUDA_DRIVER
 * names it): right, or with the fault that FAKE_CUDA_FAULT names:
 *
 *   wrong   one element of the result is off
 *   refuse  every call is an error
 *
 * -DNO_GEMM leaves cuBLAS's function out. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { F32 = 0, F16 = 2, I8 = 3, I32 = 10, BF16 = 14 };

static int is_fault(const char *name) {
  const char *fault = getenv("FAKE_CUDA_FAULT");
  return fault && !strcmp(fault, name);
}

/*===-- Memory of the device
 * -------------------------------------------------------------===*/

static void *driver(const char *name) {
  void *library = dlopen(getenv("FAKE_CUDA_DRIVER"), RTLD_NOW);
  void *found = library ? dlsym(library, name) : NULL;
  if (!found)
    abort();
  return found;
}

static void *stream;

static void wait(void) {
  ((int (*)(void *))driver("cuStreamSynchronize"))(stream);
}

static char *fetch(const void *from, size_t bytes) {
  char *copy = malloc(bytes + 1);
  wait();
  if (((int (*)(void *, uint64_t, size_t, void *))driver(
          "cuMemcpyDtoHAsync_v2"))(copy, (uint64_t)from, bytes, stream))
    abort();
  wait();
  return copy;
}

static void put(void *to, char *from, size_t bytes) {
  if (((int (*)(uint64_t, const void *, size_t, void *))driver(
          "cuMemcpyHtoDAsync_v2"))((uint64_t)to, from, bytes, stream))
    abort();
  wait();
  free(from);
}

/*===-- Numbers
 * --------------------------------------------------------------------------===*/

static size_t size_of(int type) {
  return type == F32 || type == I32 ? 4 : type == I8 ? 1 : 2;
}

static double get(const char *at, int type, int64_t i) {
  float f;
  uint32_t word;
  uint16_t half;
  int32_t whole;
  switch (type) {
  case F32:
    memcpy(&f, at + 4 * i, 4);
    return f;
  case I8:
    return ((const signed char *)at)[i];
  case I32:
    memcpy(&whole, at + 4 * i, 4);
    return whole;
  case BF16:
    memcpy(&half, at + 2 * i, 2);
    word = (uint32_t)half << 16;
    memcpy(&f, &word, 4);
    return f;
  default: {
    _Float16 h;
    memcpy(&h, at + 2 * i, 2);
    return (double)h;
  }
  }
}

static void set(char *at, int type, int64_t i, double value) {
  float f = (float)value;
  uint32_t word;
  uint16_t half;
  int32_t whole = (int32_t)value;
  switch (type) {
  case F32:
    memcpy(at + 4 * i, &f, 4);
    return;
  case I32:
    memcpy(at + 4 * i, &whole, 4);
    return;
  case BF16:
    memcpy(&word, &f, 4);
    half = (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
    memcpy(at + 2 * i, &half, 2);
    return;
  default: {
    _Float16 h = (_Float16)f;
    memcpy(at + 2 * i, &h, 2);
  }
  }
}

/*===-- cuBLAS
 * ---------------------------------------------------------------------------===*/

int cublasCreate_v2(void **handle) {
  *handle = malloc(1);
  return 0;
}

int cublasGetVersion_v2(void *handle, int *version) {
  *version = 130102;
  return handle ? 0 : 1;
}
int cublasDestroy_v2(void *handle) {
  free(handle);
  return 0;
}
int cublasSetMathMode(void *handle, int mode) {
  return handle && mode == 16 ? 0 : 7;
}
int cublasSetStream_v2(void *handle, void *to) {
  stream = to;
  return handle ? 0 : 7;
}
size_t cudnnGetVersion(void) { return 8907; }

#ifndef NO_GEMM
/* Column-major, as the library has it. */
int cublasGemmStridedBatchedEx(void *handle, int transa, int transb, int m,
                               int n, int k, const void *alpha, const void *a,
                               int type_a, int lda, long long stride_a,
                               const void *b, int type_b, int ldb,
                               long long stride_b, const void *beta, void *c,
                               int type_c, int ldc, long long stride_c,
                               int batch, int compute, int algorithm) {
  (void)alpha, (void)beta, (void)algorithm;
  if (is_fault("refuse") || !handle || lda < (transa ? k : m) ||
      ldb < (transb ? n : k) || ldc < m ||
      (compute == 72) != (type_a == I8 && type_c == I32))
    return 7; /* CUBLAS_STATUS_INVALID_VALUE */
  size_t last_a = (size_t)((batch - 1) * stride_a) +
                  (size_t)lda * (size_t)((transa ? m : k) - 1) +
                  (size_t)(transa ? k : m),
         last_b = (size_t)((batch - 1) * stride_b) +
                  (size_t)ldb * (size_t)((transb ? k : n) - 1) +
                  (size_t)(transb ? n : k),
         last_c = (size_t)((batch - 1) * stride_c) +
                  (size_t)ldc * (size_t)(n - 1) + (size_t)m;
  char *x = fetch(a, last_a * size_of(type_a)),
       *y = fetch(b, last_b * size_of(type_b)),
       *z = fetch(c, last_c * size_of(type_c));
  for (int64_t h = 0; h < batch; ++h)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t q = 0; q < k; ++q)
          sum += get(x, type_a,
                     h * stride_a + (transa ? i * lda + q : q * lda + i)) *
                 get(y, type_b,
                     h * stride_b + (transb ? q * ldb + j : j * ldb + q));
        set(z, type_c, h * stride_c + j * ldc + i, sum);
      }
  if (is_fault("wrong"))
    set(z, type_c, (int64_t)last_c - 1, 1e3);
  free(x);
  free(y);
  put(c, z, last_c * size_of(type_c));
  return 0;
}
#endif

/*===-- cuDNN
 * ----------------------------------------------------------------------------===*/

typedef struct {
  int type, n[8];
} descriptor;

static int create(void **out) {
  *out = calloc(1, sizeof(descriptor));
  return 0;
}
static int destroy(void *made) {
  free(made);
  return 0;
}
int cudnnDestroy(void *made) { return destroy(made); }
int cudnnDestroyTensorDescriptor(void *made) { return destroy(made); }
int cudnnDestroyFilterDescriptor(void *made) { return destroy(made); }
int cudnnDestroyConvolutionDescriptor(void *made) { return destroy(made); }
int cudnnSetStream(void *handle, void *to) {
  stream = to;
  return handle ? 0 : 3;
}
int cudnnCreate(void **out) { return create(out); }
int cudnnCreateTensorDescriptor(void **out) { return create(out); }
int cudnnCreateFilterDescriptor(void **out) { return create(out); }
int cudnnCreateConvolutionDescriptor(void **out) { return create(out); }

static int fill(descriptor *d, int type, const int *n, unsigned count) {
  d->type = type == 0 ? F32 : type == 2 ? F16 : BF16;
  memcpy(d->n, n, count * sizeof *n);
  return 0;
}
int cudnnSetTensor4dDescriptor(void *d, int format, int type, int n, int c,
                               int h, int w) {
  return format ? 3 : fill(d, type, (int[]){n, c, h, w}, 4);
}
int cudnnSetFilter4dDescriptor(void *d, int type, int format, int k, int c,
                               int h, int w) {
  return format ? 3 : fill(d, type, (int[]){k, c, h, w}, 4);
}
int cudnnSetConvolution2dDescriptor(void *d, int pad_h, int pad_w, int u, int v,
                                    int dilation_h, int dilation_w, int mode,
                                    int type) {
  return mode == 1
             ? fill(d, type,
                    (int[]){pad_h, pad_w, u, v, dilation_h, dilation_w}, 6)
             : 3;
}
int cudnnSetConvolutionMathType(void *d, int math) {
  (void)d;
  return math < 0 || math > 3;
}
typedef struct {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
} algorithm_t;
int cudnnGetConvolutionForwardAlgorithm_v7(void *handle, void *x, void *w,
                                           void *conv, void *y, int requested,
                                           int *returned, algorithm_t *out) {
  (void)handle, (void)x, (void)w, (void)conv, (void)y;
  if (requested < 3)
    return 3;
  /* The fastest takes more memory than anybody gives, the next one has none of
   * it. */
  memset(out, 0, 3 * sizeof *out);
  out[0].algorithm = 7;
  out[0].memory = (size_t)1 << 40;
  out[1].algorithm = 6;
  out[1].status = 9; /* CUDNN_STATUS_NOT_SUPPORTED */
  out[2].algorithm = 5;
  out[2].memory = is_fault("greedy") ? (size_t)1 << 40 : 100;
  *returned = 3;
  return 0;
}
int cudnnConvolutionForward(void *handle, const void *alpha, const void *xd,
                            const void *x, const void *wd, const void *w,
                            void *conv, int algorithm, void *workspace,
                            size_t workspace_bytes, const void *beta,
                            const void *yd, void *y) {
  (void)handle, (void)alpha, (void)beta;
  const descriptor *i = xd, *f = wd, *o = yd, *c = conv;
  const int *n = i->n, *k = f->n, *r = o->n, *p = c->n;
  if (is_fault("refuse") || algorithm != 5 || workspace_bytes < 100 ||
      !workspace || n[1] != k[1] || r[1] != k[0])
    return 3; /* CUDNN_STATUS_BAD_PARAM */
  for (int side = 0; side < 2; ++side)
    if (r[2 + side] !=
        (n[2 + side] + 2 * p[side] - p[4 + side] * (k[2 + side] - 1) - 1) /
                p[2 + side] +
            1)
      return 3;
  size_t size = size_of(i->type),
         bytes = (size_t)(r[0] * r[1] * r[2] * r[3]) * size;
  char *a = fetch(x, (size_t)(n[0] * n[1] * n[2] * n[3]) * size),
       *b = fetch(w, (size_t)(k[0] * k[1] * k[2] * k[3]) * size),
       *z = malloc(bytes + 1);
  int64_t at = 0;
  for (int64_t image = 0; image < r[0]; ++image)
    for (int64_t channel = 0; channel < r[1]; ++channel)
      for (int64_t row = 0; row < r[2]; ++row)
        for (int64_t column = 0; column < r[3]; ++column) {
          double sum = 0;
          for (int64_t q = 0; q < (int64_t)k[1] * k[2] * k[3]; ++q) {
            int64_t from = q / (k[2] * k[3]),
                    h = row * p[2] - p[0] + q / k[3] % k[2] * p[4],
                    v = column * p[3] - p[1] + q % k[3] * p[5];
            if (h >= 0 && h < n[2] && v >= 0 && v < n[3])
              sum += get(a, i->type,
                         ((image * n[1] + from) * n[2] + h) * n[3] + v) *
                     get(b, i->type, channel * k[1] * k[2] * k[3] + q);
          }
          set(z, i->type, at++, sum);
        }
  if (is_fault("wrong"))
    set(z, i->type, at - 1, 1e3);
  free(a);
  free(b);
  put(y, z, bytes);
  return 0;
}
