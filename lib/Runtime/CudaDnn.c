/* cuDNN: the convolutions that kernels hand to it. Names, numbers and
 * signatures are those of its documented interface (8 and newer). */
#include "DeviceLibrary.h"

/* cudnnDataType_t, cudnnMathType_t, and others. */
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

#define FUNCTIONS(F)                                                           \
  F(create, "cudnnCreate", (void **))                                          \
  F(destroy, "cudnnDestroy", (void *))                                         \
  F(set_stream, "cudnnSetStream", (void *, void *))                            \
  F(create_tensor, "cudnnCreateTensorDescriptor", (void **))                   \
  F(set_tensor, "cudnnSetTensor4dDescriptor",                                  \
    (void *, int, int, int, int, int, int))                                    \
  F(destroy_tensor, "cudnnDestroyTensorDescriptor", (void *))                  \
  F(create_filter, "cudnnCreateFilterDescriptor", (void **))                   \
  F(set_filter, "cudnnSetFilter4dDescriptor",                                  \
    (void *, int, int, int, int, int, int))                                    \
  F(destroy_filter, "cudnnDestroyFilterDescriptor", (void *))                  \
  F(create_convolution, "cudnnCreateConvolutionDescriptor", (void **))         \
  F(set_convolution, "cudnnSetConvolution2dDescriptor",                        \
    (void *, int, int, int, int, int, int, int, int))                          \
  F(destroy_convolution, "cudnnDestroyConvolutionDescriptor", (void *))        \
  F(set_math, "cudnnSetConvolutionMathType", (void *, int))                    \
  F(choose, "cudnnGetConvolutionForwardAlgorithm_v7",                          \
    (void *, void *, void *, void *, void *, int, int *, dnn_algorithm *))     \
  F(run, "cudnnConvolutionForward",                                            \
    (void *, const void *, void *, const void *, void *, const void *, void *, \
     int, void *, size_t, const void *, void *, void *))

/* A convolution's descriptors and the algorithm that was chosen for it. */
typedef struct dnn_plan {
  const dlc_device_call *call;
  void *image, *filter, *convolution, *result;
  int algorithm;
  struct dnn_plan *next;
} dnn_plan;

typedef struct dnn {
#define MEMBER(name, symbol, parameters) int(*name) parameters;
  FUNCTIONS(MEMBER)
#undef MEMBER
  size_t (*version)(void);
  void *handle;
  dnn_plan *plans;
} dnn;

static int32_t start(void *state, char *error, size_t error_len) {
  dnn *d = state;
  static const char *const names[] = {"libcudnn.so.9", "libcudnn.so.8", NULL};
  void *library =
      dlc_device_open("cuDNN", "DLC_CUDNN", names, error, error_len);
  if (!library)
    return 1;
#define LOOK_UP(name, symbol, parameters)                                      \
  if (!dlc_device_find(library, "cuDNN", symbol, &d->name, error, error_len))  \
    return 1;
  FUNCTIONS(LOOK_UP)
  LOOK_UP(version, "cudnnGetVersion", (void))
#undef LOOK_UP
  return dlc_device_check("cudnnCreate", d->create(&d->handle), error,
                          error_len);
}

static void close_plan(const dnn *d, dnn_plan *p) {
  if (p->image)
    d->destroy_tensor(p->image);
  if (p->result)
    d->destroy_tensor(p->result);
  if (p->filter)
    d->destroy_filter(p->filter);
  if (p->convolution)
    d->destroy_convolution(p->convolution);
  free(p);
}

static void close_dnn(void *state) {
  dnn *d = state;
  if (!d)
    return;
  while (d->plans) {
    dnn_plan *p = d->plans;
    d->plans = p->next;
    close_plan(d, p);
  }
  if (d->handle)
    d->destroy(d->handle);
  free(d);
}

static int32_t open_dnn(void **state, char *error, size_t error_len) {
  return dlc_device_start(state, sizeof(dnn), start, close_dnn, error,
                          error_len);
}

/* Up to 8 it counts majors in thousands. */
static int64_t version_of(void *state) {
  int64_t version = (int64_t)((dnn *)state)->version();
  return version >= 90000 ? version
                          : version / 1000 * 10000 + version / 100 % 10 * 100 +
                                version % 100;
}

static int type_of(const dlc_device_convolution *c) {
  return c->type == DLC_DEVICE_F16    ? DNN_HALF
         : c->type == DLC_DEVICE_BF16 ? DNN_BFLOAT16
                                      : DNN_FLOAT;
}

static int32_t describe(const dnn *d, dnn_plan *p, char *error,
                        size_t error_len) {
  const dlc_device_convolution *c = &p->call->as.convolution;
  int type = type_of(c);
#define CHECK(symbol, result) dlc_device_check(symbol, result, error, error_len)
  return CHECK("cudnnCreateTensorDescriptor", d->create_tensor(&p->image)) ||
         CHECK("cudnnCreateTensorDescriptor", d->create_tensor(&p->result)) ||
         CHECK("cudnnCreateFilterDescriptor", d->create_filter(&p->filter)) ||
         CHECK("cudnnCreateConvolutionDescriptor",
               d->create_convolution(&p->convolution)) ||
         CHECK("cudnnSetTensor4dDescriptor",
               d->set_tensor(p->image, DNN_NCHW, type, (int)c->size[0],
                             (int)c->size[1], (int)c->size[2],
                             (int)c->size[3])) ||
         CHECK("cudnnSetTensor4dDescriptor",
               d->set_tensor(p->result, DNN_NCHW, type, (int)c->size[0],
                             (int)c->filters, (int)c->places[0],
                             (int)c->places[1])) ||
         CHECK("cudnnSetFilter4dDescriptor",
               d->set_filter(p->filter, type, DNN_NCHW, (int)c->filters,
                             (int)c->size[1], (int)c->taps[0],
                             (int)c->taps[1])) ||
         CHECK("cudnnSetConvolution2dDescriptor",
               d->set_convolution(
                   p->convolution, (int)c->pads[0], (int)c->pads[1],
                   (int)c->steps[0], (int)c->steps[1], (int)c->dilations[0],
                   (int)c->dilations[1], DNN_CROSS_CORRELATION, DNN_FLOAT)) ||
         CHECK("cudnnSetConvolutionMathType",
               d->set_math(p->convolution, type == DNN_FLOAT && !c->tf32
                                               ? DNN_FMA_ONLY
                                               : DNN_TENSOR_OP));
}

/* The first, of those that the library expects to be fastest, whose memory the
 * kernel has. */
static int32_t choose(const dnn *d, dnn_plan *p, char *error,
                      size_t error_len) {
  enum { MOST = 8 };
  dnn_algorithm found[MOST];
  int count = 0;
  if (CHECK("cudnnGetConvolutionForwardAlgorithm_v7",
            d->choose(d->handle, p->image, p->filter, p->convolution, p->result,
                      MOST, &count, found)))
    return 1;
  for (int i = 0; i < count; ++i)
    if (!found[i].status &&
        found[i].memory <= (size_t)p->call->as.convolution.workspace_bytes) {
      p->algorithm = found[i].algorithm;
      return 0;
    }
  snprintf(error, error_len,
           "cuDNN has no algorithm for the convolution that takes no more than "
           "%lld bytes",
           (long long)p->call->as.convolution.workspace_bytes);
  return 1;
}
#undef CHECK

static int32_t prepare_convolution(void *state, const dlc_device_call *call,
                                   char *error, size_t error_len) {
  dnn *d = state;
  dnn_plan *p = calloc(1, sizeof *p);
  if (!p) {
    snprintf(error, error_len, "no memory");
    return 1;
  }
  p->call = call;
  if (describe(d, p, error, error_len) || choose(d, p, error, error_len)) {
    close_plan(d, p);
    return 1;
  }
  p->next = d->plans;
  d->plans = p;
  return 0;
}

static int32_t run_convolution(void *state, const dlc_device_call *call,
                               const uint64_t *params, void *stream,
                               char *error, size_t error_len) {
  static const float one = 1, zero = 0;
  const dlc_device_convolution *c = &call->as.convolution;
  const dnn *d = state;
  const dnn_plan *p = d->plans;
  while (p && p->call != call)
    p = p->next;
  if (!p) {
    snprintf(error, error_len, "the convolution was not prepared");
    return 1;
  }
  return dlc_device_check("cudnnSetStream", d->set_stream(d->handle, stream),
                          error, error_len) ||
         dlc_device_check(
             "cudnnConvolutionForward",
             d->run(d->handle, &one, p->image,
                    dlc_device_pointer(params, c->image), p->filter,
                    dlc_device_pointer(params, c->filter), p->convolution,
                    p->algorithm, dlc_device_pointer(params, c->workspace),
                    (size_t)c->workspace_bytes, &zero, p->result,
                    dlc_device_pointer(params, c->result)),
             error, error_len);
}

const dlc_device_library dlc_cudnn_library = {
    open_dnn, close_dnn, version_of, prepare_convolution, run_convolution};
