/* cuBLAS: the products of matrices that kernels hand to it. Names, numbers and
 * signatures are those of its documented interface (11 and newer). */
#include "DeviceLibrary.h"

/* cublasComputeType_t, cublasOperation_t, cublasGemmAlgo_t, cublasMath_t. */
enum {
  COMPUTE_F32 = 68,
  COMPUTE_I32 = 72,
  COMPUTE_TF32 = 77,
  AS_IT_IS = 0,
  TRANSPOSED = 1,
  ANY_ALGORITHM = -1,
  WHOLE_SUMS = 16 /* no part of a sum is rounded to 16 bits */
};

#define FUNCTIONS(F)                                                           \
  F(create, "cublasCreate_v2", (void **))                                      \
  F(destroy, "cublasDestroy_v2", (void *))                                     \
  F(version, "cublasGetVersion_v2", (void *, int *))                           \
  F(set_math, "cublasSetMathMode", (void *, int))                              \
  F(set_stream, "cublasSetStream_v2", (void *, void *))                        \
  F(gemm, "cublasGemmStridedBatchedEx",                                        \
    (void *, int, int, int, int, int, const void *, const void *, int, int,    \
     long long, const void *, int, int, long long, const void *, void *, int,  \
     int, long long, int, int, int))

typedef struct blas {
#define MEMBER(name, symbol, parameters) int(*name) parameters;
  FUNCTIONS(MEMBER)
#undef MEMBER
  void *handle;
} blas;

static int32_t start(void *state, char *error, size_t error_len) {
  blas *b = state;
  static const char *const names[] = {"libcublas.so.13", "libcublas.so.12",
                                      "libcublas.so.11", NULL};
  void *library =
      dlc_device_open("cuBLAS", "DLC_CUBLAS", names, error, error_len);
  if (!library)
    return 1;
#define LOOK_UP(name, symbol, parameters)                                      \
  if (!dlc_device_find(library, "cuBLAS", symbol, &b->name, error, error_len)) \
    return 1;
  FUNCTIONS(LOOK_UP)
#undef LOOK_UP
  return dlc_device_check("cublasCreate_v2", b->create(&b->handle), error,
                          error_len) ||
         dlc_device_check("cublasSetMathMode",
                          b->set_math(b->handle, WHOLE_SUMS), error, error_len);
}

static void close_blas(void *state) {
  blas *b = state;
  if (b && b->handle)
    b->destroy(b->handle);
  free(b);
}

static int32_t open_blas(void **state, char *error, size_t error_len) {
  return dlc_device_start(state, sizeof(blas), start, close_blas, error,
                          error_len);
}

static int64_t version_of(void *state) {
  blas *b = state;
  int version = 0;
  return b->version(b->handle, &version) ? 0 : version;
}

static int32_t prepare_product(void *state, const dlc_device_call *call,
                               char *error, size_t error_len) {
  (void)state, (void)call, (void)error, (void)error_len;
  return 0;
}

/* Row-major matrices are column-major ones with rows and columns exchanged: the
 * result's rows are the library's columns, and the right factor comes first. A
 * factor is as it is where its columns (rows of the other) are contiguous. */
static int32_t run_product(void *state, const dlc_device_call *call,
                           const uint64_t *params, void *stream, char *error,
                           size_t error_len) {
  static const float one = 1, zero = 0;
  static const int32_t whole = 1, nothing = 0;
  const dlc_device_product *p = &call->as.product;
  blas *b = state;
  bool is_integer = p->factor_type == DLC_DEVICE_I8;
  int compute = is_integer ? COMPUTE_I32 : p->tf32 ? COMPUTE_TF32 : COMPUTE_F32;
  const void *alpha = is_integer ? (const void *)&whole : &one,
             *beta = is_integer ? (const void *)&nothing : &zero;
  bool right_is = p->right_strides[0] == 1, left_is = p->left_strides[1] == 1;
  return dlc_device_check("cublasSetStream_v2",
                          b->set_stream(b->handle, stream), error, error_len) ||
         dlc_device_check(
             "cublasGemmStridedBatchedEx",
             b->gemm(b->handle, right_is ? AS_IT_IS : TRANSPOSED,
                     left_is ? AS_IT_IS : TRANSPOSED, (int)p->columns,
                     (int)p->rows, (int)p->depth, alpha,
                     dlc_device_pointer(params, p->right), (int)p->factor_type,
                     (int)p->right_strides[right_is], p->right_strides[2],
                     dlc_device_pointer(params, p->left), (int)p->factor_type,
                     (int)p->left_strides[!left_is], p->left_strides[2], beta,
                     dlc_device_pointer(params, p->result), (int)p->result_type,
                     (int)p->columns, p->rows * p->columns, (int)p->batch,
                     compute, ANY_ALGORITHM),
             error, error_len);
}

const dlc_device_library dlc_cublas_library = {
    open_blas, close_blas, version_of, prepare_product, run_product};
