/* oneDNN: opening it, and its primitives. A primitive is made for one thread:
 * the pool's tasks are what runs in parallel. */
#include "OneDnn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY_VARIABLE "DLC_ONEDNN"

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
  void *set = dlsym(dnn->library, "omp_set_num_threads"),
       *get = dlsym(dnn->library, "omp_get_max_threads");
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
    void *address = dlsym(dnn->library, "dnnl_" name);                         \
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

/* One tensor of a primitive. */
typedef struct tensor {
  dlc_dnn_handle model;   /* its layout where the model has it */
  dlc_dnn_handle chosen;  /* the primitive's */
  dlc_dnn_handle reorder; /* between the two; NULL: they are the same */
  size_t size;            /* of the chosen one, in bytes */
} tensor;

/* What one run at a time needs. */
typedef struct context {
  dlc_dnn_handle stream, src, weights, dst, scratch;
  /* Where src and dst lie in the model's layout, if the primitive's is another,
   * and memory for the latter. */
  dlc_dnn_handle model_src, model_dst;
  void *src_bytes, *dst_bytes, *scratch_bytes;
  struct context *next;
} context;

struct dlc_dnn_problem {
  tensor src, weights, dst;
  dlc_dnn_handle desc, primitive;
  dlc_dnn_handle scratch; /* of `desc` */
  size_t scratch_size;
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

/* Makes the description of the primitive, with layouts of its own choice for
 * weights and for images where it is asked to; 0 or the library's error. */
static dlc_dnn_status describe(const dlc_dnn *dnn,
                               const dlc_external_problem *problem,
                               int any_weights, int any_images,
                               dlc_dnn_problem *made) {
  dlc_dnn_handle attr = NULL,
                 src = any_images ? make_desc(dnn, &problem->src, 1) : NULL,
                 dst = any_images ? make_desc(dnn, &problem->dst, 1) : NULL,
                 weights =
                     any_weights ? make_desc(dnn, &problem->weights, 1) : NULL;
  dlc_dnn_status status = dnn->attr_create(&attr);
  /* Whatever the program's environment asks of it. */
  if (!status)
    status = dnn->attr_fpmath(attr, DLC_DNN_FPMATH_STRICT);
  if (!status)
    status = dnn->attr_scratchpad(attr, DLC_DNN_SCRATCHPAD_USER);
  dlc_dnn_handle from = src ? src : made->src.model,
                 by = weights ? weights : made->weights.model,
                 to = dst ? dst : made->dst.model;
  if (!status && problem->kind == DLC_EXTERNAL_MATMUL)
    status = dnn->matmul(&made->desc, dnn->engine, from, by, NULL, to, attr);
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
                         DLC_DNN_CONVOLUTION_DIRECT, from, by, NULL, to,
                         strides, dilates, before, after, attr);
  }
  dlc_dnn_handle descs[] = {src, dst, weights};
  for (int i = 0; i < 3; ++i)
    if (descs[i])
      dnn->desc_destroy(descs[i]);
  if (attr)
    dnn->attr_destroy(attr);
  return status;
}

/* Whether the library has nothing but its reference loops for it. */
static bool is_reference(const dlc_dnn *dnn, dlc_dnn_handle desc) {
  const char *name = NULL;
  return !dnn->query(desc, DLC_DNN_QUERY_IMPLEMENTATION, 0, &name) && name &&
         strncmp(name, "ref", 3) == 0;
}

static dlc_dnn_status make_primitive(const dlc_dnn *dnn,
                                     const dlc_external_problem *problem,
                                     int keeps_weights, dlc_dnn_problem *made) {
  dlc_dnn_status status = describe(dnn, problem, keeps_weights, 0, made);
  /* Convolutions have fast code for some layouts alone: then images are copied
   * into those. */
  if (problem->kind == DLC_EXTERNAL_CONV && keeps_weights &&
      (status || is_reference(dnn, made->desc))) {
    dlc_dnn_handle plain = made->desc;
    made->desc = NULL;
    if (!describe(dnn, problem, 1, 1, made)) {
      status = 0;
      if (plain)
        dnn->primitive_desc_destroy(plain);
    } else {
      made->desc = plain;
    }
  }
  return status ? status : dnn->primitive_create(&made->primitive, made->desc);
}

/* What the primitive has chosen for a tensor, and the way there (or back). */
static dlc_dnn_status choose(const dlc_dnn *dnn, dlc_dnn_handle primitive_desc,
                             int query, int is_result, tensor *t) {
  t->chosen = dnn->query_desc(primitive_desc, query, 0);
  t->size = dnn->desc_size(t->chosen);
  if (dnn->desc_equal(t->chosen, t->model))
    return 0;
  dlc_dnn_handle desc = NULL;
  dlc_dnn_status status =
      dnn->reorder(&desc, is_result ? t->chosen : t->model, dnn->engine,
                   is_result ? t->model : t->chosen, dnn->engine, NULL);
  if (!status)
    status = dnn->primitive_create(&t->reorder, desc);
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
  made->src.model = make_desc(dnn, &problem->src, 0);
  made->weights.model = make_desc(dnn, &problem->weights, 0);
  made->dst.model = make_desc(dnn, &problem->dst, 0);
  dlc_dnn_status status = 1;
  if (made->src.model && made->weights.model && made->dst.model)
    status = make_primitive(dnn, problem, keeps_weights, made);
  if (!status)
    status = choose(dnn, made->desc, DLC_DNN_QUERY_SRC, 0, &made->src);
  if (!status)
    status = choose(dnn, made->desc, DLC_DNN_QUERY_WEIGHTS, 0, &made->weights);
  if (!status)
    status = choose(dnn, made->desc, DLC_DNN_QUERY_DST, 1, &made->dst);
  if (!status) {
    made->scratch = dnn->query_desc(made->desc, DLC_DNN_QUERY_SCRATCHPAD, 0);
    made->scratch_size = made->scratch ? dnn->desc_size(made->scratch) : 0;
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

static void destroy_context(const dlc_dnn *dnn, const dlc_dnn_problem *p,
                            context *c) {
  dlc_dnn_handle memories[] = {c->src,     c->weights,   c->dst,
                               c->scratch, c->model_src, c->model_dst};
  for (int i = 0; i < 6; ++i)
    if (memories[i])
      dnn->memory_destroy(memories[i]);
  if (c->stream)
    dnn->stream_destroy(c->stream);
  if (c->scratch_bytes)
    release(c->scratch_bytes, p->scratch_size);
  if (c->src_bytes)
    release(c->src_bytes, p->src.size);
  if (c->dst_bytes)
    release(c->dst_bytes, p->dst.size);
  free(c);
}

/* Memory in the primitive's layout, and a place for the model's where that is
 * another. */
static int make_memory(const dlc_dnn *dnn, const tensor *t,
                       dlc_dnn_handle *memory, dlc_dnn_handle *model,
                       void **bytes) {
  if (t->reorder && bytes) {
    *bytes = allocate(t->size);
    if (!*bytes || dnn->memory_create(model, t->model, dnn->engine, NULL))
      return 1;
  }
  return dnn->memory_create(memory, t->chosen, dnn->engine,
                            bytes ? *bytes : NULL) != 0;
}

static context *make_context(const dlc_dnn *dnn, dlc_dnn_problem *p) {
  context *c = calloc(1, sizeof *c);
  if (!c)
    return NULL;
  if (p->scratch_size)
    c->scratch_bytes = allocate(p->scratch_size);
  if ((p->scratch_size &&
       (!c->scratch_bytes ||
        dnn->memory_create(&c->scratch, p->scratch, dnn->engine,
                           c->scratch_bytes))) ||
      dnn->stream_create(&c->stream, dnn->engine, DLC_DNN_IN_ORDER) ||
      make_memory(dnn, &p->src, &c->src, &c->model_src, &c->src_bytes) ||
      make_memory(dnn, &p->weights, &c->weights, NULL, NULL) ||
      make_memory(dnn, &p->dst, &c->dst, &c->model_dst, &c->dst_bytes)) {
    destroy_context(dnn, p, c);
    return NULL;
  }
  return c;
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

static dlc_dnn_status run_reorder(const dlc_dnn *dnn, context *c,
                                  dlc_dnn_handle reorder, dlc_dnn_handle from,
                                  dlc_dnn_handle to) {
  dlc_dnn_arg args[] = {{DLC_DNN_ARG_SRC, from}, {DLC_DNN_ARG_DST, to}};
  dlc_dnn_status status = dnn->execute(reorder, c->stream, 2, args);
  return status ? status : dnn->stream_wait(c->stream);
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
      k->bytes = allocate(p->weights.size);
    if (k && k->bytes &&
        !dnn->memory_create(&from, p->weights.model, dnn->engine,
                            (void *)weights) &&
        !dnn->memory_set(c->weights, k->bytes)) {
      if (!run_reorder(dnn, c, p->weights.reorder, from, c->weights)) {
        k->from = weights;
        k->next = p->kept;
        p->kept = found = k;
      }
    }
    if (from)
      dnn->memory_destroy(from);
    if (k && !found) {
      if (k->bytes)
        release(k->bytes, p->weights.size);
      free(k);
    }
  }
  dlc_rt_lock_release(&p->lock);
  return found ? found->bytes : NULL;
}

/* Where the operands lie, and a copy of what has another layout there. */
static dlc_dnn_status bring(const dlc_dnn *dnn, dlc_dnn_problem *p, context *c,
                            const void *src, const void *weights, void *dst) {
  if (p->weights.reorder)
    weights = pack(dnn, p, c, weights);
  if (!weights)
    return 1;
  dlc_dnn_status status =
      dnn->memory_set(c->model_src ? c->model_src : c->src, (void *)src);
  if (!status)
    status = dnn->memory_set(c->weights, (void *)weights);
  if (!status)
    status = dnn->memory_set(c->model_dst ? c->model_dst : c->dst, dst);
  if (!status && c->model_src)
    status = run_reorder(dnn, c, p->src.reorder, c->model_src, c->src);
  return status;
}

int dlc_dnn_run(const dlc_dnn *dnn, dlc_dnn_problem *p, const void *src,
                const void *weights, void *dst, dlc_rt_error error) {
  int threads = dlc_dnn_enter(dnn);
  context *c = take_context(dnn, p);
  dlc_dnn_status status = c ? bring(dnn, p, c, src, weights, dst) : 1;
  if (!status) {
    dlc_dnn_arg args[] = {{DLC_DNN_ARG_SRC, c->src},
                          {DLC_DNN_ARG_WEIGHTS, c->weights},
                          {DLC_DNN_ARG_DST, c->dst},
                          {DLC_DNN_ARG_SCRATCHPAD, c->scratch}};
    status = dnn->execute(p->primitive, c->stream, c->scratch ? 4 : 3, args);
    if (!status)
      status = dnn->stream_wait(c->stream);
    if (!status && c->model_dst)
      status = run_reorder(dnn, c, p->dst.reorder, c->dst, c->model_dst);
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
    release(k->bytes, p->weights.size);
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
    destroy_context(dnn, p, c);
  }
  tensor *tensors[] = {&p->src, &p->weights, &p->dst};
  for (int i = 0; i < 3; ++i) {
    if (tensors[i]->reorder)
      dnn->primitive_destroy(tensors[i]->reorder);
    if (tensors[i]->model)
      dnn->desc_destroy(tensors[i]->model);
  }
  if (p->primitive)
    dnn->primitive_destroy(p->primitive);
  if (p->desc)
    dnn->primitive_desc_destroy(p->desc);
  free(p);
}
