/* Kernel libraries on CUDA devices. A call runs on the device of the thread's
 * current context, in the order of the caller's stream. An instance's code is
 * loaded onto a device by the first call that takes it, and stays there until
 * dlc_library_unload_cuda: there is no object of the user's that could own it.
 * Everything behind the choice is the model's way of running (CudaRun.c). */
#include "CudaDriver.h"
#include "LibraryInternal.h"

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the generated functions call. Hidden in each artifact. */
dlc_status dlc_library_run_cuda(const dlc_library_operation *op,
                                const int64_t *dims, void *const *tensors,
                                void *stream);
dlc_status dlc_library_run_instance_cuda(const dlc_library_operation *op,
                                         int64_t instance, const int64_t *dims,
                                         void *const *tensors, void *stream);
int64_t dlc_library_select_cuda(const dlc_library_operation *op,
                                const int64_t *dims);
dlc_status dlc_library_pack_cuda(const dlc_library_operation *op,
                                 int64_t instance, const int64_t *dims,
                                 const void *matrix, void *packed,
                                 void *stream);
dlc_status dlc_library_unload_cuda(void);

/* An instance's code on a device. */
struct dlc_library_loaded {
  dlc_library_loaded *next; /* of the same instance, on other devices */
  dlc_library_loaded *next_of_all;
  dlc_library_loaded **slot; /* where the instance's list begins */
  const dlc_device_backend *backend;
  dlc_cu_device device;
  int32_t ordinal;
  void *state;         /* NULL: this device does not run it, */
  char refusal[256];   /* and why */
  dlc_cu_pointer idle; /* of runs that have nothing to store */
};

#define IDLE_BYTES ((size_t)1 << 12)

static dlc_rt_lock loading; /* of all below, and of the lists */
static dlc_cu_driver driver;
static _Atomic bool is_open;
static dlc_library_loaded *all_loaded;

/*===-- Devices -----------------------------------------------------------===*/

static dlc_status fail(const dlc_library_operation *op, dlc_cu_result result,
                       const char *call) {
  char text[256];
  return dlc_rt_fail(dlc_library_error(),
                     result == DLC_CU_OUT_OF_MEMORY ? DLC_OUT_OF_MEMORY
                                                    : DLC_INTERNAL_ERROR,
                     "%s: %s: %s", op->name, call,
                     dlc_cu_error_text(&driver, result, text, sizeof text));
}

static dlc_status open_driver(const dlc_library_operation *op) {
  if (is_open)
    return DLC_OK;
  dlc_status status = DLC_OK;
  dlc_rt_lock_acquire(&loading);
  if (!is_open)
    status = dlc_cu_open(&driver, op->name, dlc_library_error());
  is_open = status == DLC_OK;
  dlc_rt_lock_release(&loading);
  return status;
}

/* The device of this thread's context, or the first one where the thread has
 * none; *context is NULL then. */
static dlc_status find_device(const dlc_library_operation *op,
                              dlc_cu_device *device, dlc_cu_handle *context) {
  dlc_status status = open_driver(op);
  if (status != DLC_OK)
    return status;
  *context = NULL;
  dlc_cu_result result = driver.context_get_current(context);
  if (result == DLC_CU_SUCCESS)
    result = *context ? driver.context_get_device(device)
                      : driver.device_get(device, 0);
  return result == DLC_CU_SUCCESS ? DLC_OK
                                  : fail(op, result, "the current device");
}

static dlc_status find_ordinal(const dlc_library_operation *op,
                               dlc_cu_device device, int32_t *ordinal) {
  int count = 0;
  dlc_cu_result result = driver.device_get_count(&count);
  for (int i = 0; i < count && result == DLC_CU_SUCCESS; ++i) {
    dlc_cu_device other;
    result = driver.device_get(&other, i);
    *ordinal = i;
    if (result == DLC_CU_SUCCESS && other == device)
      return DLC_OK;
  }
  return fail(op, result, "the number of the current device");
}

/*===-- Code --------------------------------------------------------------===*/

static dlc_library_loaded *find_loaded(dlc_library_loaded **slot,
                                       dlc_cu_device device) {
  dlc_library_loaded *loaded = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  while (loaded && loaded->device != device)
    loaded = loaded->next;
  return loaded;
}

static dlc_status allocate_idle(const dlc_library_operation *op,
                                dlc_library_loaded *loaded) {
  const dlc_cu_model *m = loaded->state;
  dlc_cu_result result = driver.context_push(m->context);
  if (result != DLC_CU_SUCCESS)
    return fail(op, result, "cuCtxPushCurrent");
  result = driver.allocate(&loaded->idle, IDLE_BYTES);
  dlc_cu_handle context;
  driver.context_pop(&context);
  if (result == DLC_CU_SUCCESS)
    return DLC_OK;
  loaded->idle = 0;
  return fail(op, result, "cuMemAlloc");
}

static void unload(dlc_library_loaded *loaded) {
  dlc_cu_model *m = loaded->state;
  if (m && loaded->idle && driver.context_push(m->context) == DLC_CU_SUCCESS) {
    driver.release(loaded->idle);
    dlc_cu_handle context;
    driver.context_pop(&context);
  }
  if (m)
    loaded->backend->destroy(m);
  free(loaded);
}

/* Loads an instance. That the device does not run its code is no failure: the
 * result says so, and another instance may be for it. Needs `loading`. */
static dlc_status load(const dlc_library_operation *op, int64_t index,
                       dlc_cu_device device, dlc_library_loaded **out) {
  const dlc_model *model = op->instances[index].model;
  dlc_library_loaded *loaded = calloc(1, sizeof *loaded);
  if (!loaded)
    return dlc_rt_fail(dlc_library_error(), DLC_OUT_OF_MEMORY,
                       "%s: no memory for its code", op->name);
  loaded->slot = &op->loaded[index];
  loaded->backend = model->device_image->backend;
  loaded->device = device;
  dlc_status status = find_ordinal(op, device, &loaded->ordinal);
  if (status == DLC_OK) {
    status = loaded->backend->create(model, model->weights, loaded->ordinal,
                                     loaded->refusal, sizeof loaded->refusal,
                                     &loaded->state);
    if (status == DLC_OK)
      status = allocate_idle(op, loaded);
    else if (status == DLC_UNSUPPORTED_DEVICE)
      status = DLC_OK;
    else
      dlc_rt_fail(dlc_library_error(), status, "%s: %s", op->name,
                  loaded->refusal);
  }
  if (status != DLC_OK) {
    unload(loaded);
    return status;
  }
  loaded->next_of_all = all_loaded;
  all_loaded = loaded;
  loaded->next = *loaded->slot;
  __atomic_store_n(loaded->slot, loaded, __ATOMIC_RELEASE);
  *out = loaded;
  return DLC_OK;
}

/* The instance's code on the device, which this may load. */
static dlc_status get_loaded(const dlc_library_operation *op, int64_t index,
                             dlc_cu_device device, dlc_library_loaded **out) {
  *out = find_loaded(&op->loaded[index], device);
  if (*out)
    return DLC_OK;
  dlc_rt_lock_acquire(&loading);
  *out = find_loaded(&op->loaded[index], device);
  dlc_status status = *out ? DLC_OK : load(op, index, device, out);
  dlc_rt_lock_release(&loading);
  return status;
}

dlc_status dlc_library_unload_cuda(void) {
  dlc_rt_lock_acquire(&loading);
  while (all_loaded) {
    dlc_library_loaded *loaded = all_loaded;
    all_loaded = loaded->next_of_all;
    *loaded->slot = NULL;
    unload(loaded);
  }
  if (is_open)
    dlc_cu_close(&driver);
  is_open = false;
  dlc_rt_lock_release(&loading);
  return DLC_OK;
}

/*===-- Choosing ----------------------------------------------------------===*/

/* A call on a device. */
typedef struct device_call {
  const dlc_library_operation *op;
  dlc_cu_device device;
  dlc_cu_handle context; /* of the thread; NULL: it has none */
  void *stream;
} device_call;

/* The first instance that takes the sizes and runs on the device. */
static dlc_status choose(const device_call *c, const int64_t *dims,
                         int64_t *index, dlc_library_loaded **loaded) {
  const dlc_library_operation *op = c->op;
  const dlc_library_loaded *refused = NULL;
  for (int64_t i = 0; i < op->num_instances; ++i) {
    if (!dlc_library_takes(op, &op->instances[i], dims))
      continue;
    dlc_status status = get_loaded(op, i, c->device, loaded);
    if (status != DLC_OK)
      return status;
    *index = i;
    if ((*loaded)->state)
      return DLC_OK;
    refused = *loaded;
  }
  return refused ? dlc_rt_fail(dlc_library_error(), DLC_UNSUPPORTED_DEVICE,
                               "%s: %s", op->name, refused->refusal)
                 : dlc_library_no_instance(op, dims);
}

int64_t dlc_library_select_cuda(const dlc_library_operation *op,
                                const int64_t *dims) {
  device_call c = {op, 0, NULL, NULL};
  int64_t index = -1;
  dlc_library_loaded *loaded;
  if (find_device(op, &c.device, &c.context) != DLC_OK ||
      choose(&c, dims, &index, &loaded) != DLC_OK)
    return -1;
  return index;
}

/*===-- Running -----------------------------------------------------------===*/

/* Kernels access memory in pieces of this many bytes; the run copies tensors
 * that are not aligned to it. */
#define TENSOR_ALIGNMENT 16

/* Places of the model's tensors, as a run takes them. */
typedef struct placed {
  DLTensor *tensors;
  const DLTensor **inputs;
  DLTensor **outputs;
  void **addresses; /* of inputs, then outputs */
  bool aligned;
} placed;

/* `skip`: the leading axes that a tensor of kind 2 does not have in the
 * segment's model. Shapes go to `shape`. */
static void place(const device_call *c, const int64_t *dims,
                  void *const *tensors, int32_t ordinal, int64_t num_inputs,
                  int64_t *shape, placed *p) {
  const dlc_library_segments *s = c->op->segments;
  int64_t used = 0;
  p->aligned = true;
  for (int64_t i = 0; i < c->op->num_tensors; ++i) {
    if (s && i == s->offsets)
      continue;
    const dlc_library_tensor *tensor = &c->op->tensors[i];
    int64_t skip = s && s->kinds[i] == 2 && i != c->op->packed;
    DLTensor *t = &p->tensors[used];
    memset(t, 0, sizeof *t);
    t->data = tensors[i];
    t->device.device_type = kDLCUDA;
    t->device.device_id = ordinal;
    t->ndim = (int32_t)(tensor->rank - skip);
    t->dtype.code = (uint8_t)tensor->type_code;
    t->dtype.bits = (uint8_t)tensor->type_bits;
    t->dtype.lanes = 1;
    t->shape = shape;
    for (int64_t r = skip; r < tensor->rank; ++r)
      *shape++ = dlc_library_evaluate(&tensor->extents[r], dims);
    if (i == c->op->packed) /* is 64-byte aligned, its shape is not asked for */
      t->data = (char *)t->data + DLC_LIBRARY_PACKED_HEADER;
    p->aligned &= (uintptr_t)t->data % TENSOR_ALIGNMENT == 0;
    p->addresses[used] = t->data;
    if (used < num_inputs)
      p->inputs[used] = t;
    else
      p->outputs[used - num_inputs] = t;
    ++used;
  }
}

static dlc_status report(const device_call *c, const dlc_exec *exec,
                         dlc_status status, const char *text) {
  if (status == DLC_OK)
    return DLC_OK;
  const char *why = *text ? text : dlc_status_text(status);
  if (exec->status == DLC_DATA_INDEX_OUT_OF_RANGE)
    why = "an index is out of range";
  return dlc_rt_fail(dlc_library_error(), status, "%s: %s", c->op->name, why);
}

/* Runs an instance on tensors of the operation's, of which the segments' ends
 * are left out. */
static dlc_status run_loaded(const device_call *c,
                             const dlc_library_instance *instance,
                             const dlc_library_loaded *loaded,
                             const int64_t *dims, void *const *tensors) {
  const dlc_model *model = instance->model;
  const dlc_cu_model *m = loaded->state;
  if (c->context && c->context != m->context)
    return dlc_rt_fail(dlc_library_error(), DLC_DEVICE_MISMATCH,
                       "%s: the thread's context is not the primary one of "
                       "CUDA device %d, which libraries use",
                       c->op->name, (int)loaded->ordinal);
  int64_t *symbols =
      alloca((size_t)(model->info->num_symbols + model->num_sizes + 2) * 8);
  int64_t *sizes = symbols + model->info->num_symbols;
  for (int64_t s = 0; s < model->info->num_symbols; ++s)
    symbols[s] = dims[instance->symbols[s]];
  sizes[0] = sizes[1] = 0;
  if (model->plan)
    model->plan(symbols, sizes);
  if (sizes[0] < 0 || sizes[1] < 0 || sizes[0] > INT64_MAX - sizes[1])
    return dlc_rt_fail(dlc_library_error(), DLC_OUT_OF_MEMORY,
                       "%s: no memory for a workspace", c->op->name);

  size_t count = (size_t)c->op->num_tensors, extents = 0;
  for (size_t i = 0; i < count; ++i)
    extents += (size_t)c->op->tensors[i].rank;
  placed p;
  p.tensors = alloca(count * sizeof *p.tensors);
  p.inputs = alloca(count * sizeof *p.inputs);
  p.outputs = alloca(count * sizeof *p.outputs);
  p.addresses = alloca(count * sizeof *p.addresses);
  int64_t num_inputs = model->info->num_inputs;
  place(c, dims, tensors, loaded->ordinal, num_inputs,
        alloca((extents + 1) * 8), &p);

  dlc_exec exec;
  memset(&exec, 0, sizeof exec);
  exec.inputs = p.addresses;
  exec.outputs = p.addresses + num_inputs;
  exec.symbols = symbols;
  exec.num_workers = 1;
  exec.alloc = dlc_rt_default_alloc;
  exec.free = dlc_rt_default_free;
  exec.stream = c->stream;
  exec.sizes = model->plan ? sizes : NULL;
  char text[256] = "";
  dlc_device_run run;
  memset(&run, 0, sizeof run);
  run.exec = &exec;
  run.inputs = p.inputs;
  run.outputs = p.outputs;
  run.bytes = (size_t)(sizes[0] + sizes[1]);
  run.error = text;
  run.error_len = sizeof text;
  /* Nothing is stored but status words that nobody reads: then runs on several
   * streams need not follow each other. */
  if (sizes[0] == 0 && run.bytes <= IDLE_BYTES && p.aligned &&
      model->device_image->num_sites <= 1) {
    run.workspace = (void *)(uintptr_t)loaded->idle;
    run.workspace_size = IDLE_BYTES;
  }
  dlc_status status = dlc_cu_run_with(loaded->state, &run, /*in_order=*/true);
  return report(c, &exec, status, text);
}

static dlc_status run_whole(const device_call *c, const int64_t *dims,
                            void *const *tensors) {
  int64_t index;
  dlc_library_loaded *loaded;
  dlc_status status = choose(c, dims, &index, &loaded);
  return status == DLC_OK
             ? run_loaded(c, &c->op->instances[index], loaded, dims, tensors)
             : status;
}

/* A product for each segment, one after the other. Their ends lie on the host:
 * grids have to be known before anything runs. */
static dlc_status run_segments(const device_call *c, const int64_t *dims,
                               void *const *tensors) {
  const dlc_library_operation *op = c->op;
  const dlc_library_segments *s = op->segments;
  const int64_t *offsets = tensors[s->offsets];
  dlc_status status = dlc_library_check_segments(op, dims, offsets);
  int64_t *part = alloca((size_t)op->num_dims * 8);
  void **places = alloca((size_t)op->num_tensors * sizeof *places);
  memcpy(part, dims, (size_t)op->num_dims * 8);
  int64_t packed_step = 0;
  if (op->packed >= 0 && status == DLC_OK) {
    const dlc_library_packing *packing;
    part[s->rows] = -1;
    status = dlc_library_choose_packing(op, -1, part, tensors,
                                        tensors[op->packed], &packing);
    if (status == DLC_OK)
      packed_step = dlc_library_packed_step(packing);
  }
  for (int64_t g = 0; g < dims[s->groups] && status == DLC_OK; ++g) {
    part[s->rows] = offsets[g + 1] - offsets[g];
    if (!part[s->rows])
      continue;
    for (int64_t i = 0; i < op->num_tensors; ++i) {
      const dlc_library_tensor *tensor = &op->tensors[i];
      int64_t step = i == op->packed ? packed_step
                                     : dlc_library_count(tensor, part, 1) *
                                           (tensor->type_bits / 8);
      int64_t index = s->kinds[i] == 1 ? offsets[g] : s->kinds[i] == 2 ? g : 0;
      places[i] = tensors[i] ? (char *)tensors[i] + index * step : NULL;
    }
    status = run_whole(c, part, places);
  }
  return status;
}

/*===-- The doors ---------------------------------------------------------===*/

dlc_status dlc_library_run_cuda(const dlc_library_operation *op,
                                const int64_t *dims, void *const *tensors,
                                void *stream) {
  dlc_status status = dlc_library_check_call(op, dims, tensors);
  device_call c = {op, 0, NULL, stream};
  if (status == DLC_OK)
    status = find_device(op, &c.device, &c.context);
  if (status != DLC_OK)
    return status;
  return op->segments ? run_segments(&c, dims, tensors)
                      : run_whole(&c, dims, tensors);
}

dlc_status dlc_library_run_instance_cuda(const dlc_library_operation *op,
                                         int64_t index, const int64_t *dims,
                                         void *const *tensors, void *stream) {
  if (index < 0 || index >= op->num_instances)
    return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                       "%s: instance %lld of %lld", op->name, (long long)index,
                       (long long)op->num_instances);
  if (!dlc_library_takes(op, &op->instances[index], dims)) {
    char text[160];
    return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                       "%s: instance '%s' is not for %s", op->name,
                       op->instances[index].name,
                       dlc_library_spell_dims(op, dims, text, sizeof text));
  }
  /* The table with this one instance. */
  dlc_library_operation one = *op;
  one.instances = &op->instances[index];
  one.loaded = &op->loaded[index];
  one.num_instances = 1;
  return dlc_library_run_cuda(&one, dims, tensors, stream);
}

dlc_status dlc_library_pack_cuda(const dlc_library_operation *op,
                                 int64_t instance, const int64_t *dims,
                                 const void *matrix, void *packed,
                                 void *stream) {
  const dlc_library_packing *packing;
  dlc_status status =
      dlc_library_choose_packing(op, instance, dims, matrix, packed, &packing);
  dlc_cu_device device;
  dlc_cu_handle context;
  if (status == DLC_OK)
    status = find_device(op, &device, &context);
  if (status != DLC_OK)
    return status;
  if (!context)
    return dlc_rt_fail(dlc_library_error(), DLC_UNSUPPORTED_DEVICE,
                       "%s: to pack, the thread needs a CUDA context",
                       op->name);
  dlc_cu_result result = DLC_CU_SUCCESS;
  int64_t count = op->segments ? dims[op->segments->groups] : 1;
  for (int64_t g = 0; g < count && result == DLC_CU_SUCCESS; ++g)
    result = driver.copy_within(
        (dlc_cu_pointer)(uintptr_t)packed + DLC_LIBRARY_PACKED_HEADER +
            (dlc_cu_pointer)(g * dlc_library_packed_step(packing)),
        (dlc_cu_pointer)(uintptr_t)matrix +
            (dlc_cu_pointer)(g * packing->bytes),
        (size_t)packing->bytes, stream);
  return result == DLC_CU_SUCCESS ? DLC_OK
                                  : fail(op, result, "cuMemcpyDtoDAsync");
}
