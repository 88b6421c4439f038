/* A stand-in for oneDNN 3 with plain loops, for tests of the nest `library`:
 * right, or with the fault that FAKE_ONEDNN_FAULT names when it runs:
 *
 *   wrong    one element of the result is off           late     the same, but
 * only from the 5th run on crash    a signal hang     never returns over writes
 * behind the result                   refuse   has no primitives fail     every
 * execution is an error
 *
 * -DNO_CONVOLUTION leaves a function out, -DMAJOR=2 is another version,
 * -DRUNTIME=4 another threading. Weights of the layout `any` are kept
 * backwards, so that a caller that does not reorder them is wrong.
 * FAKE_ONEDNN_LOG names a file to which every run appends its kind. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MAJOR
#define MAJOR 3
#endif
#ifndef RUNTIME
#define RUNTIME 1
#endif

typedef int64_t dims_t[12];
typedef struct {
  int rank, type, any, backwards;
  dims_t dims, strides;
} md;
typedef enum { MATMUL, CONV, REORDER } kind_t;
typedef struct {
  kind_t kind;
  md src, weights, dst, scratch;
  dims_t stride, dilation, before;
} pd;
typedef struct {
  md desc;
  void *handle;
} memory;
typedef struct {
  int arg;
  memory *memory;
} arg_t;
typedef struct {
  int major, minor, patch;
  const char *hash;
  unsigned cpu_runtime, gpu_runtime;
} version_t;

static int is_fault(const char *name) {
  const char *fault = getenv("FAKE_ONEDNN_FAULT");
  return fault && strcmp(fault, name) == 0;
}
static void *copy_of(const void *from, size_t size) {
  return memcpy(malloc(size), from, size);
}

const version_t *dnnl_version(void) {
  static const version_t version = {MAJOR, 7, 1, "fake", RUNTIME, 0};
  return &version;
}
int dnnl_engine_create(void **engine, int kind, size_t index) {
  (void)kind, (void)index;
  *engine = malloc(1);
  return 0;
}
int dnnl_stream_create(void **stream, void *engine, unsigned flags) {
  (void)engine, (void)flags;
  *stream = malloc(1);
  return 0;
}
int dnnl_stream_wait(void *stream) { return stream == NULL; }
int dnnl_stream_destroy(void *stream) {
  free(stream);
  return 0;
}

static size_t element_size(const md *d) { return d->type == 2 ? 2 : 4; }
static int64_t count_of(const md *d) {
  int64_t n = 1;
  for (int i = 0; i < d->rank; ++i)
    n *= d->dims[i];
  return n;
}

int dnnl_memory_desc_create_with_strides(md **out, int rank,
                                         const int64_t *dims, int type,
                                         const int64_t *strides) {
  md d = {.rank = rank, .type = type};
  memcpy(d.dims, dims, rank * sizeof *dims);
  memcpy(d.strides, strides, rank * sizeof *strides);
  *out = copy_of(&d, sizeof d);
  return 0;
}
int dnnl_memory_desc_create_with_tag(md **out, int rank, const int64_t *dims,
                                     int type, int tag) {
  md d = {.rank = rank, .type = type, .any = 1};
  memcpy(d.dims, dims, rank * sizeof *dims);
  *out = copy_of(&d, sizeof d);
  return tag != 1;
}
int dnnl_memory_desc_destroy(md *d) {
  free(d);
  return 0;
}
int dnnl_memory_desc_equal(const md *a, const md *b) {
  return memcmp(a, b, sizeof *a) == 0;
}
size_t dnnl_memory_desc_get_size(const md *d) {
  return d->rank ? (size_t)count_of(d) * element_size(d) : 0;
}
int dnnl_memory_create(memory **out, const md *desc, void *engine,
                       void *handle) {
  (void)engine;
  memory m = {*desc, handle};
  *out = copy_of(&m, sizeof m);
  return 0;
}
int dnnl_memory_set_data_handle(memory *m, void *handle) {
  m->handle = handle;
  return 0;
}
int dnnl_memory_destroy(memory *m) {
  free(m);
  return 0;
}
int dnnl_primitive_attr_create(void **attr) {
  *attr = malloc(1);
  return 0;
}
int dnnl_primitive_attr_set_scratchpad_mode(void *attr, int mode) {
  return !attr || mode != 1;
}
int dnnl_primitive_attr_set_fpmath_mode(void *attr, int mode) {
  return !attr || mode != 0;
}
int dnnl_primitive_attr_destroy(void *attr) {
  free(attr);
  return 0;
}

/* Backwards: the last element first, row-major. */
static void choose(md *d) {
  if (!d->any)
    return;
  d->any = 0;
  d->backwards = 1;
  int64_t stride = 1;
  for (int i = d->rank; i-- > 0; stride *= d->dims[i])
    d->strides[i] = stride;
}

static int finish(void **out, pd *p) {
  if (is_fault("refuse"))
    return 3; /* dnnl_unimplemented */
  choose(&p->src);
  choose(&p->weights);
  choose(&p->dst);
  p->scratch = (md){.rank = 1, .type = 3, .dims = {16}, .strides = {1}};
  *out = copy_of(p, sizeof *p);
  return 0;
}

int dnnl_matmul_primitive_desc_create(void **out, void *engine, const md *src,
                                      const md *weights, const md *bias,
                                      const md *dst, void *attr) {
  (void)engine, (void)bias, (void)attr;
  pd p = {.kind = MATMUL, .src = *src, .weights = *weights, .dst = *dst};
  if (src->dims[1] != weights->dims[0] || src->dims[0] != dst->dims[0] ||
      weights->dims[1] != dst->dims[1])
    return 2;
  return finish(out, &p);
}
#ifndef NO_CONVOLUTION
int dnnl_convolution_forward_primitive_desc_create(
    void **out, void *engine, int prop, int alg, const md *src,
    const md *weights, const md *bias, const md *dst, const int64_t *stride,
    const int64_t *dilation, const int64_t *before, const int64_t *after,
    void *attr) {
  (void)engine, (void)bias, (void)attr;
  pd p = {.kind = CONV, .src = *src, .weights = *weights, .dst = *dst};
  for (int i = 0; i < 2; ++i) {
    p.stride[i] = stride[i];
    p.dilation[i] = dilation[i];
    p.before[i] = before[i];
    int64_t kernel = (weights->dims[2 + i] - 1) * (dilation[i] + 1) + 1;
    if ((src->dims[2 + i] + before[i] + after[i] - kernel) / stride[i] + 1 !=
        dst->dims[2 + i])
      return 2; /* dnnl_invalid_arguments */
  }
  return prop == 96 && alg == 1 ? finish(out, &p) : 2;
}
#endif
int dnnl_reorder_primitive_desc_create(void **out, const md *from, void *engine,
                                       const md *to, void *other, void *attr) {
  (void)engine, (void)other, (void)attr;
  pd p = {.kind = REORDER, .src = *from, .dst = *to};
  *out = copy_of(&p, sizeof p);
  return 0;
}
const md *dnnl_primitive_desc_query_md(pd *p, int what, int index) {
  (void)index;
  return what == 129   ? &p->src
         : what == 131 ? &p->weights
         : what == 133 ? &p->dst
         : what == 136 ? &p->scratch
                       : NULL;
}
/* Its convolutions of images with channels first are slow, unless it may choose
 * the layout. */
int dnnl_primitive_desc_query(const pd *p, int what, int index, void *result) {
  (void)index;
  int is_slow = p->kind == CONV && !p->src.backwards && p->src.strides[1] != 1;
  *(const char **)result = is_slow ? "ref:any" : "fake:loops";
  return what != 8;
}
int dnnl_primitive_desc_destroy(void *p) {
  free(p);
  return 0;
}
int dnnl_primitive_create(void **out, const pd *p) {
  *out = copy_of(p, sizeof *p);
  return 0;
}
int dnnl_primitive_destroy(void *p) {
  free(p);
  return 0;
}

static int64_t place(const md *d, const int64_t *at) {
  int64_t offset = 0;
  for (int i = 0; i < d->rank; ++i)
    offset += at[i] * d->strides[i];
  return d->backwards ? count_of(d) - 1 - offset : offset;
}
static float read_at(const memory *m, const int64_t *at) {
  int64_t i = place(&m->desc, at);
  if (m->desc.type == 3)
    return ((const float *)m->handle)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)m->handle)[i] << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void run_reorder(const memory *from, const memory *to) {
  size_t size = element_size(&from->desc);
  for (int64_t i = 0; i < count_of(&from->desc); ++i) {
    dims_t at = {0};
    int64_t rest = i;
    for (int d = from->desc.rank; d-- > 0; rest /= from->desc.dims[d])
      at[d] = rest % from->desc.dims[d];
    memcpy((char *)to->handle + place(&to->desc, at) * size,
           (const char *)from->handle + place(&from->desc, at) * size, size);
  }
}

static float point(const pd *p, const memory *src, const memory *weights,
                   const int64_t *at) {
  double sum = 0;
  if (p->kind == MATMUL) {
    for (int64_t k = 0; k < p->src.dims[1]; ++k)
      sum += (double)read_at(src, (int64_t[]){at[0], k}) *
             read_at(weights, (int64_t[]){k, at[1]});
    return (float)sum;
  }
  for (int64_t c = 0; c < p->weights.dims[1]; ++c)
    for (int64_t i = 0; i < p->weights.dims[2]; ++i)
      for (int64_t j = 0; j < p->weights.dims[3]; ++j) {
        int64_t y =
            at[2] * p->stride[0] + i * (p->dilation[0] + 1) - p->before[0];
        int64_t x =
            at[3] * p->stride[1] + j * (p->dilation[1] + 1) - p->before[1];
        if (y >= 0 && y < p->src.dims[2] && x >= 0 && x < p->src.dims[3])
          sum += (double)read_at(src, (int64_t[]){at[0], c, y, x}) *
                 read_at(weights, (int64_t[]){at[1], c, i, j});
      }
  return (float)sum;
}

int dnnl_primitive_execute(const pd *p, void *stream, int count,
                           const arg_t *args) {
  static int runs;
  memory *src = NULL, *weights = NULL, *dst = NULL, *scratch = NULL;
  for (int i = 0; i < count; ++i) {
    src = args[i].arg == 1 ? args[i].memory : src;
    dst = args[i].arg == 17 ? args[i].memory : dst;
    weights = args[i].arg == 33 ? args[i].memory : weights;
    scratch = args[i].arg == 80 ? args[i].memory : scratch;
  }
  if (!stream || !src || !dst)
    return 2;
  if (p->kind == REORDER) {
    run_reorder(src, dst);
    return 0;
  }
  if (!weights || !scratch || is_fault("fail"))
    return 2;
  memset(scratch->handle, 0x7f, 64);
  if (is_fault("crash"))
    raise(SIGSEGV);
  while (is_fault("hang"))
    ;
  if (getenv("FAKE_ONEDNN_LOG")) {
    FILE *log = fopen(getenv("FAKE_ONEDNN_LOG"), "a");
    if (log) {
      fputs(p->kind == MATMUL ? "matmul\n" : "convolution\n", log);
      fclose(log);
    }
  }
  float *out = dst->handle;
  int64_t total = count_of(&p->dst);
  for (int64_t i = 0; i < total; ++i) {
    dims_t at = {0};
    int64_t rest = i;
    for (int d = p->dst.rank; d-- > 0; rest /= p->dst.dims[d])
      at[d] = rest % p->dst.dims[d];
    float value = point(p, src, weights, at);
    int is_wrong = is_fault("wrong") || (is_fault("late") && runs >= 4);
    out[place(&p->dst, at)] = is_wrong && i == total - 1 ? value + 1 : value;
  }
  if (is_fault("over"))
    out[total] = 1;
  ++runs;
  return 0;
}
