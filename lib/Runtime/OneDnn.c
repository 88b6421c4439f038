/* oneDNN: opening it, and its primitives. A primitive is made for one thread:
 * the pool's tasks are what runs in parallel. */
#include "OneDnn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY_VARIABLE "DLC_ONEDNN"

static void *lookup(void *library, const char *name) {
  return dlsym(library, name);
}

static int open_threads(dlc_dnn *dnn, const char *path, dlc_rt_error error) {
  unsigned runtime = dnn->version()->cpu_runtime;
  if (runtime == DLC_DNN_RUNTIME_SEQUENTIAL)
    return 0;
  if (runtime != DLC_DNN_RUNTIME_OPENMP) {
    dlc_rt_fail(error, DLC_BAD_LIBRARY,
                "%s has threads of its own (runtime %u): a sequential build or "
                "one of OpenMP is needed",
                path, runtime);
    return 1;
  }
  void *set = lookup(dnn->library, "omp_set_num_threads"),
       *get = lookup(dnn->library, "omp_get_max_threads");
  memcpy(&dnn->set_threads, &set, sizeof set);
  memcpy(&dnn->get_threads, &get, sizeof get);
  if (set && get)
    return 0;
  dlc_rt_fail(error, DLC_BAD_LIBRARY, "%s has no function '%s'", path,
              set ? "omp_get_max_threads" : "omp_set_num_threads");
  return 1;
}

int dlc_dnn_open(dlc_dnn *dnn, dlc_rt_error error) {
  memset(dnn, 0, sizeof *dnn);
  const char *path = getenv(LIBRARY_VARIABLE);
  if (!path || !*path)
    path = "libdnnl.so.3";
  /* It may have started threads: it is never unmapped. */
  dnn->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!dnn->library) {
    const char *why = dlerror();
    dlc_rt_fail(error, DLC_BAD_LIBRARY, "oneDNN cannot be opened: %s",
                why ? why : path);
    return 1;
  }
#define LOOKUP(member, name, result, parameters)                               \
  {                                                                            \
    void *address = lookup(dnn->library, "dnnl_" name);                        \
    memcpy(&dnn->member, &address, sizeof address);                            \
    if (!address) {                                                            \
      dlc_rt_fail(error, DLC_BAD_LIBRARY,                                      \
                  "%s has no function 'dnnl_" name "': oneDNN 3 is needed",    \
                  path);                                                       \
      return 1;                                                                \
    }                                                                          \
  }
  DLC_DNN_FUNCTIONS(LOOKUP)
#undef LOOKUP
  const dlc_dnn_version *version = dnn->version();
  if (version->major != 3) {
    dlc_rt_fail(error, DLC_BAD_LIBRARY, "%s is oneDNN %d.%d: 3 is needed", path,
                version->major, version->minor);
    return 1;
  }
  dnn->number = version->major * 10000 + version->minor * 100 + version->patch;
  if (open_threads(dnn, path, error))
    return 1;
  dlc_dnn_status status = dnn->engine_create(&dnn->engine, DLC_DNN_CPU, 0);
  if (status) {
    dlc_rt_fail(error, DLC_BAD_LIBRARY, "%s does not start: error %d", path,
                status);
    return 1;
  }
  return 0;
}

int dlc_dnn_enter(const dlc_dnn *dnn) {
  if (!dnn->set_threads)
    return 1;
  int before = dnn->get_threads();
  if (before != 1)
    dnn->set_threads(1);
  return before;
}

void dlc_dnn_leave(const dlc_dnn *dnn, int threads) {
  if (threads != 1)
    dnn->set_threads(threads);
}

/*===-- Primitives --------------------------------------------------------===*/

/* Weights in the primitive's layout. */
typedef struct packed {
  const void *from;
  void *bytes;
  struct packed *next;
} packed;

/* What one run at a time needs. */
typedef struct context {
  dlc_dnn_handle stream, src, weights, dst, scratch;
  void *scratch_bytes;
  struct context *next;
} context;

struct dlc_dnn_problem {
  dlc_dnn_handle src, weights, dst; /* layouts as the model has them */
  dlc_dnn_handle desc, primitive;
  dlc_dnn_handle reorder; /* to the primitive's weights; NULL: as they are */
  dlc_dnn_handle chosen, scratch; /* of `desc` */
  size_t weights_size, scratch_size;
  dlc_rt_lock lock; /* of the lists */
  packed *kept;
  context *idle;
};

static void *allocate(size_t size) {
  return dlc_rt_default_alloc(NULL, size, DLC_RT_ALIGNMENT);
}
static void release(void *pointer, size_t size) {
  dlc_rt_default_free(NULL, pointer, size);
}

static dlc_dnn_handle make_desc(const dlc_dnn *dnn,
                                const dlc_external_tensor *tensor, int is_any) {
  dlc_dnn_dims dims = {0}, strides = {0};
  for (int64_t i = 0; i < tensor->rank; ++i) {
    dims[i] = tensor->dims[i];
    strides[i] = tensor->strides[i];
  }
  int type = tensor->type == DLC_EXTERNAL_BF16 ? DLC_DNN_BF16 : DLC_DNN_F32;
  dlc_dnn_handle desc = NULL;
  dlc_dnn_status status = is_any
                              ? dnn->desc_with_tag(&desc, (int)tensor->rank,
                                                   dims, type, DLC_DNN_TAG_ANY)
                              : dnn->desc_with_strides(&desc, (int)tensor->rank,
                                                       dims, type, strides);
  return status ? NULL : desc;
}

/* Makes the primitive; 0 or the library's error. */
static dlc_dnn_status make_primitive(const dlc_dnn *dnn,
                                     const dlc_external_problem *problem,
                                     int keeps_weights, dlc_dnn_problem *made) {
  dlc_dnn_handle attr = NULL, weights = made->weights, any = NULL;
  dlc_dnn_status status = dnn->attr_create(&attr);
  if (status)
    return status;
  /* Whatever the program's environment asks of it. */
  status = dnn->attr_fpmath(attr, DLC_DNN_FPMATH_STRICT);
  if (!status)
    status = dnn->attr_scratchpad(attr, DLC_DNN_SCRATCHPAD_USER);
  if (!status && keeps_weights) {
    any = make_desc(dnn, &problem->weights, 1);
    if (any)
      weights = any;
  }
  if (!status && problem->kind == DLC_EXTERNAL_MATMUL)
    status = dnn->matmul(&made->desc, dnn->engine, made->src, weights, NULL,
                         made->dst, attr);
  if (!status && problem->kind == DLC_EXTERNAL_CONV) {
    dlc_dnn_dims strides = {0}, dilates = {0}, before = {0}, after = {0};
    for (int i = 0; i < 2; ++i) {
      strides[i] = problem->stride[i];
      dilates[i] = problem->dilation[i] - 1;
      before[i] = problem->pad_before[i];
      after[i] = problem->pad_after[i];
    }
    status =
        dnn->convolution(&made->desc, dnn->engine, DLC_DNN_FORWARD_INFERENCE,
                         DLC_DNN_CONVOLUTION_DIRECT, made->src, weights, NULL,
                         made->dst, strides, dilates, before, after, attr);
  }
  if (!status)
    status = dnn->primitive_create(&made->primitive, made->desc);
  if (any)
    dnn->desc_destroy(any);
  dnn->attr_destroy(attr);
  return status;
}

static dlc_dnn_status make_reorder(const dlc_dnn *dnn, dlc_dnn_problem *made) {
  dlc_dnn_handle desc = NULL;
  dlc_dnn_status status = dnn->reorder(&desc, made->weights, dnn->engine,
                                       made->chosen, dnn->engine, NULL);
  if (!status)
    status = dnn->primitive_create(&made->reorder, desc);
  if (desc)
    dnn->primitive_desc_destroy(desc);
  return status;
}

dlc_dnn_problem *dlc_dnn_prepare(const dlc_dnn *dnn,
                                 const dlc_external_problem *problem,
                                 int keeps_weights, dlc_rt_error error) {
  dlc_dnn_problem *made = calloc(1, sizeof *made);
  if (!made) {
    dlc_rt_fail(error, DLC_OUT_OF_MEMORY, "no memory");
    return NULL;
  }
  int threads = dlc_dnn_enter(dnn);
  made->src = make_desc(dnn, &problem->src, 0);
  made->weights = make_desc(dnn, &problem->weights, 0);
  made->dst = make_desc(dnn, &problem->dst, 0);
  dlc_dnn_status status = 1;
  if (made->src && made->weights && made->dst)
    status = make_primitive(dnn, problem, keeps_weights, made);
  if (!status) {
    made->chosen = dnn->query_desc(made->desc, DLC_DNN_QUERY_WEIGHTS, 0);
    made->scratch = dnn->query_desc(made->desc, DLC_DNN_QUERY_SCRATCHPAD, 0);
    made->weights_size = dnn->desc_size(made->chosen);
    made->scratch_size = made->scratch ? dnn->desc_size(made->scratch) : 0;
    if (!dnn->desc_equal(made->chosen, made->weights))
      status = make_reorder(dnn, made);
  }
  dlc_dnn_leave(dnn, threads);
  if (!status)
    return made;
  dlc_dnn_destroy(dnn, made);
  dlc_rt_fail(error, DLC_BAD_LIBRARY, "oneDNN has no such %s: error %d",
              problem->kind == DLC_EXTERNAL_CONV ? "convolution" : "product",
              status);
  return NULL;
}

static void destroy_context(const dlc_dnn *dnn, size_t scratch, context *c) {
  dlc_dnn_handle memories[] = {c->src, c->weights, c->dst, c->scratch};
  for (int i = 0; i < 4; ++i)
    if (memories[i])
      dnn->memory_destroy(memories[i]);
  if (c->stream)
    dnn->stream_destroy(c->stream);
  if (c->scratch_bytes)
    release(c->scratch_bytes, scratch);
  free(c);
}

static context *make_context(const dlc_dnn *dnn, dlc_dnn_problem *p) {
  context *c = calloc(1, sizeof *c);
  if (!c)
    return NULL;
  dlc_dnn_handle engine = dnn->engine;
  if (dnn->stream_create(&c->stream, engine, DLC_DNN_IN_ORDER) ||
      dnn->memory_create(&c->src, p->src, engine, NULL) ||
      dnn->memory_create(&c->weights, p->chosen, engine, NULL) ||
      dnn->memory_create(&c->dst, p->dst, engine, NULL))
    goto fail;
  if (p->scratch_size) {
    c->scratch_bytes = allocate(p->scratch_size);
    if (!c->scratch_bytes ||
        dnn->memory_create(&c->scratch, p->scratch, engine, c->scratch_bytes))
      goto fail;
  }
  return c;
fail:
  destroy_context(dnn, p->scratch_size, c);
  return NULL;
}

static context *take_context(const dlc_dnn *dnn, dlc_dnn_problem *p) {
  dlc_rt_lock_acquire(&p->lock);
  context *c = p->idle;
  if (c)
    p->idle = c->next;
  dlc_rt_lock_release(&p->lock);
  return c ? c : make_context(dnn, p);
}

static void give_context(dlc_dnn_problem *p, context *c) {
  dlc_rt_lock_acquire(&p->lock);
  c->next = p->idle;
  p->idle = c;
  dlc_rt_lock_release(&p->lock);
}

/* `weights` in the primitive's layout; NULL: it does not come to be. Made once,
 * while others wait. */
static const void *pack(const dlc_dnn *dnn, dlc_dnn_problem *p, context *c,
                        const void *weights) {
  packed *found = NULL;
  dlc_rt_lock_acquire(&p->lock);
  for (packed *k = p->kept; k && !found; k = k->next)
    if (k->from == weights)
      found = k;
  if (!found) {
    dlc_dnn_handle from = NULL;
    packed *k = calloc(1, sizeof *k);
    if (k)
      k->bytes = allocate(p->weights_size);
    if (k && k->bytes &&
        !dnn->memory_create(&from, p->weights, dnn->engine, (void *)weights) &&
        !dnn->memory_set(c->weights, k->bytes)) {
      dlc_dnn_arg args[] = {{DLC_DNN_ARG_SRC, from},
                            {DLC_DNN_ARG_DST, c->weights}};
      if (!dnn->execute(p->reorder, c->stream, 2, args) &&
          !dnn->stream_wait(c->stream)) {
        k->from = weights;
        k->next = p->kept;
        p->kept = found = k;
      }
    }
    if (from)
      dnn->memory_destroy(from);
    if (k && !found) {
      if (k->bytes)
        release(k->bytes, p->weights_size);
      free(k);
    }
  }
  dlc_rt_lock_release(&p->lock);
  return found ? found->bytes : NULL;
}

int dlc_dnn_run(const dlc_dnn *dnn, dlc_dnn_problem *p, const void *src,
                const void *weights, void *dst, dlc_rt_error error) {
  int threads = dlc_dnn_enter(dnn);
  context *c = take_context(dnn, p);
  dlc_dnn_status status = 1; /* out of memory */
  if (c && p->reorder)
    weights = pack(dnn, p, c, weights);
  if (c && weights && !dnn->memory_set(c->src, (void *)src) &&
      !dnn->memory_set(c->weights, (void *)weights) &&
      !dnn->memory_set(c->dst, dst)) {
    dlc_dnn_arg args[] = {{DLC_DNN_ARG_SRC, c->src},
                          {DLC_DNN_ARG_WEIGHTS, c->weights},
                          {DLC_DNN_ARG_DST, c->dst},
                          {DLC_DNN_ARG_SCRATCHPAD, c->scratch}};
    status = dnn->execute(p->primitive, c->stream, c->scratch ? 4 : 3, args);
    if (!status)
      status = dnn->stream_wait(c->stream);
  }
  if (c)
    give_context(p, c);
  dlc_dnn_leave(dnn, threads);
  if (status)
    dlc_rt_fail(error, DLC_INTERNAL_ERROR, "oneDNN fails: error %d", status);
  return status != 0;
}

void dlc_dnn_forget(dlc_dnn_problem *p, const void *weights, size_t size) {
  dlc_rt_lock_acquire(&p->lock);
  for (packed **link = &p->kept; *link;) {
    packed *k = *link;
    uintptr_t from = (uintptr_t)k->from, first = (uintptr_t)weights;
    if (from < first || from - first >= size) {
      link = &k->next;
      continue;
    }
    *link = k->next;
    release(k->bytes, p->weights_size);
    free(k);
  }
  dlc_rt_lock_release(&p->lock);
}

void dlc_dnn_destroy(const dlc_dnn *dnn, dlc_dnn_problem *p) {
  if (!p)
    return;
  dlc_dnn_forget(p, NULL, SIZE_MAX);
  while (p->idle) {
    context *c = p->idle;
    p->idle = c->next;
    destroy_context(dnn, p->scratch_size, c);
  }
  if (p->reorder)
    dnn->primitive_destroy(p->reorder);
  if (p->primitive)
    dnn->primitive_destroy(p->primitive);
  if (p->desc)
    dnn->primitive_desc_destroy(p->desc);
  dlc_dnn_handle descs[] = {p->src, p->weights, p->dst};
  for (int i = 0; i < 3; ++i)
    if (descs[i])
      dnn->desc_destroy(descs[i]);
  free(p);
}
