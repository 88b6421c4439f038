/* cuBLAS and cuDNN, where the machine has them: the same product or convolution
 * as a kernel's, for a ratio beside its times. Opened at run time; names,
 * numbers and signatures are those of their documented interfaces (cuBLAS 11
 * and newer, cuDNN 8 and newer). */
#include "Measure.h"

#include "CudaApi.h"
#include "dlc/runtime.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* cudnnDataType_t, cudnnMathType_t, and others of value 0 or 1. */
enum {
  DNN_FLOAT = 0,
  DNN_HALF = 2,
  DNN_BFLOAT16 = 9,
  DNN_TENSOR_OP = 1,
  DNN_FMA_ONLY = 3,
  DNN_NCHW = 0,
  DNN_CROSS_CORRELATION = 1
};

typedef struct dnn_algorithm { /* cudnnConvolutionFwdAlgoPerf_t */
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
} dnn_algorithm;

#define DNN_FUNCTIONS(F)                                                       \
  F(create, "cudnnCreate", (void **))                                          \
  F(create_tensor, "cudnnCreateTensorDescriptor", (void **))                   \
  F(set_tensor, "cudnnSetTensor4dDescriptor",                                  \
    (void *, int, int, int, int, int, int))                                    \
  F(create_filter, "cudnnCreateFilterDescriptor", (void **))                   \
  F(set_filter, "cudnnSetFilter4dDescriptor",                                  \
    (void *, int, int, int, int, int, int))                                    \
  F(create_convolution, "cudnnCreateConvolutionDescriptor", (void **))         \
  F(set_convolution, "cudnnSetConvolution2dDescriptor",                        \
    (void *, int, int, int, int, int, int, int, int))                          \
  F(set_math, "cudnnSetConvolutionMathType", (void *, int))                    \
  F(choose, "cudnnGetConvolutionForwardAlgorithm_v7",                          \
    (void *, void *, void *, void *, void *, int, int *, dnn_algorithm *))     \
  F(workspace, "cudnnGetConvolutionForwardWorkspaceSize",                      \
    (void *, void *, void *, void *, void *, int, size_t *))                   \
  F(run, "cudnnConvolutionForward",                                            \
    (void *, const void *, void *, const void *, void *, const void *, void *, \
     int, void *, size_t, const void *, void *, void *))

static struct {
#define MEMBER(name, symbol, parameters) int(*name) parameters;
  DNN_FUNCTIONS(MEMBER)
#undef MEMBER
  size_t (*version)(void);
} dnn;

static const char *const kDnnNames[] = {"libcudnn.so.9", "libcudnn.so.8", NULL};

/* What the variable names, else the first that there is. */
static void *open_library(const char *variable, const char *const *names,
                          char *reason, size_t size) {
  const char *named = getenv(variable);
  void *library = NULL;
  if (named && *named)
    library = dlopen(named, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  else
    for (; !library && *names; ++names)
      library = dlopen(*names, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char *why = dlerror();
    snprintf(reason, size, "%s", why ? why : variable);
  }
  return library;
}

#define LOOK_UP(name, symbol, parameters)                                      \
  {                                                                            \
    void *found = dlsym(library, symbol);                                      \
    if (!found)                                                                \
      missing = symbol;                                                        \
    memcpy(&TABLE.name, &found, sizeof found);                                 \
  }

static bool open_dnn(char *reason, size_t size) {
  void *library = open_library("DLC_CUDNN", kDnnNames, reason, size);
  const char *missing = NULL;
  if (!library)
    return false;
#define TABLE dnn
  DNN_FUNCTIONS(LOOK_UP)
  LOOK_UP(version, "cudnnGetVersion", (void))
#undef TABLE
  if (missing)
    snprintf(reason, size, "it has no function '%s'", missing);
  return !missing;
}

const char *peer_name(const peer *p) {
  return p->kind == PEER_PRODUCT ? "cuBLAS" : "cuDNN";
}

static bool failed(peer_call *call, const char *what, int status) {
  if (status)
    snprintf(call->reason, sizeof call->reason, "%s: %d", what, status);
  return status != 0;
}

static void *pointer_of(uint64_t address) {
  return (void *)(uintptr_t)address; /* NOLINT: a device address */
}

/*===-- Products
 * -----------------------------------------------------------===*/

static int blas_type(dlc_bundle_kind kind) {
  return kind == DLC_BUNDLE_F16    ? DLC_DEVICE_F16
         : kind == DLC_BUNDLE_BF16 ? DLC_DEVICE_BF16
         : kind == DLC_BUNDLE_I8   ? DLC_DEVICE_I8
         : kind == DLC_BUNDLE_I32  ? DLC_DEVICE_I32
                                   : DLC_DEVICE_F32;
}

/* As artifacts with -libraries=on run it. */
static bool run_product(peer_call *call) {
  const peer *p = call->p;
  const uint64_t params[] = {call->left, call->right, call->result};
  dlc_device_product product = {
      .left = 0,
      .right = 1,
      .result = 2,
      .batch = p->batch,
      .rows = p->rows,
      .columns = p->columns,
      .depth = p->depth,
      .factor_type = blas_type(p->right_kind),
      .result_type = blas_type(p->result_kind),
      .tf32 = p->tf32,
  };
  memcpy(product.left_strides, p->left_strides, sizeof p->left_strides);
  memcpy(product.right_strides, p->right_strides, sizeof p->right_strides);
  return !dlc_cublas_library.run(call->library, &product, params, NULL,
                                 call->reason, sizeof call->reason);
}

/*===-- Convolutions
 * -------------------------------------------------------===*/

static int dnn_type(dlc_bundle_kind kind) {
  return kind == DLC_BUNDLE_F16    ? DNN_HALF
         : kind == DLC_BUNDLE_BF16 ? DNN_BFLOAT16
                                   : DNN_FLOAT;
}

static bool run_convolution(peer_call *call) {
  static const float one = 1, zero = 0;
  return !failed(call, "cudnnConvolutionForward",
                 dnn.run(call->library, &one, call->image,
                         pointer_of(call->right), call->filter,
                         pointer_of(call->left), call->convolution,
                         call->algorithm, pointer_of(call->workspace),
                         call->workspace_bytes, &zero, call->output,
                         pointer_of(call->result)));
}

static bool prepare_convolution(peer_call *call) {
  const peer *p = call->p;
  const int64_t *i = p->image, *f = p->filter;
  int type = dnn_type(p->right_kind), found = 0;
  dnn_algorithm best;
  if (failed(call, "cudnnCreateTensorDescriptor",
             dnn.create_tensor(&call->image)) ||
      failed(call, "cudnnCreateTensorDescriptor",
             dnn.create_tensor(&call->output)) ||
      failed(call, "cudnnCreateFilterDescriptor",
             dnn.create_filter(&call->filter)) ||
      failed(call, "cudnnCreateConvolutionDescriptor",
             dnn.create_convolution(&call->convolution)) ||
      failed(call, "cudnnSetTensor4dDescriptor",
             dnn.set_tensor(call->image, DNN_NCHW, type, (int)i[0], (int)i[1],
                            (int)i[2], (int)i[3])) ||
      failed(call, "cudnnSetFilter4dDescriptor",
             dnn.set_filter(call->filter, type, DNN_NCHW, (int)f[0], (int)i[1],
                            (int)f[1], (int)f[2])) ||
      failed(call, "cudnnSetConvolution2dDescriptor",
             dnn.set_convolution(
                 call->convolution, (int)p->pads[0], (int)p->pads[1],
                 (int)p->steps[0], (int)p->steps[1], (int)p->dilations[0],
                 (int)p->dilations[1], DNN_CROSS_CORRELATION, DNN_FLOAT)) ||
      failed(call, "cudnnSetConvolutionMathType",
             dnn.set_math(call->convolution, type == DNN_FLOAT && !p->tf32
                                                 ? DNN_FMA_ONLY
                                                 : DNN_TENSOR_OP)) ||
      failed(call, "cudnnSetTensor4dDescriptor",
             dnn.set_tensor(call->output, DNN_NCHW, type, (int)i[0], (int)f[0],
                            (int)p->output[0], (int)p->output[1])) ||
      failed(call, "cudnnGetConvolutionForwardAlgorithm_v7",
             dnn.choose(call->library, call->image, call->filter,
                        call->convolution, call->output, 1, &found, &best)))
    return false;
  if (found < 1 || failed(call, "the algorithm", best.status))
    return false;
  call->algorithm = best.algorithm;
  return !failed(call, "cudnnGetConvolutionForwardWorkspaceSize",
                 dnn.workspace(call->library, call->image, call->filter,
                               call->convolution, call->output, best.algorithm,
                               &call->workspace_bytes));
}

/*===-- Both
 * ---------------------------------------------------------------===*/

bool open_peer(peer_call *call) {
  if (call->p->kind == PEER_PRODUCT) {
    if (dlc_cublas_library.open(&call->library, call->reason,
                                sizeof call->reason))
      return false;
    call->version = dlc_cublas_library.version(call->library);
    return true;
  }
  if (!open_dnn(call->reason, sizeof call->reason) ||
      failed(call, "cudnnCreate", dnn.create(&call->library)))
    return false;
  long long version = (long long)dnn.version();
  /* Up to 8, in thousands. */
  call->version =
      version >= 90000
          ? version
          : version / 1000 * 10000 + version / 100 % 10 * 100 + version % 100;
  return prepare_convolution(call);
}

bool run_peer(peer_call *call) {
  return call->p->kind == PEER_PRODUCT ? run_product(call)
                                       : run_convolution(call);
}
