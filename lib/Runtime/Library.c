/* Kernel libraries at run time. A function of a library hands over its table,
 * the sizes and the tensors; here an instance is chosen (the first that takes
 * the sizes and whose CPU this machine is), checked and run. There is no object
 * of the user's that could hold memory, so workspaces are kept here: a few, one
 * for each call that runs at the same time. */
#include "LibraryInternal.h"

#include <alloca.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the generated functions call. Hidden in each artifact. */
dlc_status dlc_library_run(const dlc_library_operation *op, const int64_t *dims,
                           void *const *tensors);
dlc_status dlc_library_run_instance(const dlc_library_operation *op,
                                    int64_t instance, const int64_t *dims,
                                    void *const *tensors);
dlc_status dlc_library_set_num_threads(int32_t num_threads);
dlc_status dlc_library_set_parallel_for(dlc_parallel_for_fn pf, void *pf_ctx);
int64_t dlc_library_select(const dlc_library_operation *op,
                           const int64_t *dims);

dlc_status dlc_library_pack(const dlc_library_operation *op, int64_t instance,
                            const int64_t *dims, const void *matrix,
                            void *packed);

/*===-- Settings ----------------------------------------------------------===*/

static _Atomic int64_t wanted_threads; /* 0: not set yet */
static dlc_parallel_for_fn custom_pf;
static void *custom_pf_ctx;

static int64_t get_num_threads(void) {
  int64_t threads = wanted_threads;
  if (threads == 0) {
    threads = dlc_rt_default_num_threads();
    if (threads > DLC_RT_MAX_WORKERS)
      threads = DLC_RT_MAX_WORKERS;
    wanted_threads = threads;
  }
  return threads;
}

dlc_status dlc_library_set_num_threads(int32_t num_threads) {
  if (num_threads < 0 || num_threads > DLC_RT_MAX_WORKERS)
    return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                       "set_num_threads: %d is not from 0 to %d", num_threads,
                       DLC_RT_MAX_WORKERS);
  wanted_threads = num_threads;
  return DLC_OK;
}

dlc_status dlc_library_set_parallel_for(dlc_parallel_for_fn pf, void *pf_ctx) {
  custom_pf = pf;
  custom_pf_ctx = pf_ctx;
  return DLC_OK;
}

/*===-- Workspaces --------------------------------------------------------===*/

#define NUM_ARENAS 16
typedef struct arena {
  dlc_rt_lock lock; /* held while it is in use */
  void *memory;
  size_t size;
} arena;
static arena arenas[NUM_ARENAS];
static _Atomic uint32_t next_arena;

/* A free arena of at least `bytes`, held; NULL when there is no memory. */
static arena *take_arena(size_t bytes) {
  arena *taken = NULL;
  for (int i = 0; i < NUM_ARENAS && !taken; ++i) {
    uint32_t expected = 0;
    if (atomic_compare_exchange_strong(&arenas[i].lock.word, &expected, 1))
      taken = &arenas[i];
  }
  if (!taken) {
    taken = &arenas[next_arena++ % NUM_ARENAS];
    dlc_rt_lock_acquire(&taken->lock);
  }
  if (taken->size >= bytes)
    return taken;
  if (taken->memory)
    dlc_rt_default_free(NULL, taken->memory, taken->size);
  taken->memory = dlc_rt_default_alloc(NULL, bytes, DLC_RT_ALIGNMENT);
  taken->size = taken->memory ? bytes : 0;
  if (taken->memory)
    return taken;
  dlc_rt_lock_release(&taken->lock);
  return NULL;
}

/*===-- Choosing ----------------------------------------------------------===*/

static const dlc_library_instance *
select_instance(const dlc_library_operation *op, const int64_t *dims) {
  for (int64_t i = 0; i < op->num_instances; ++i)
    if (dlc_library_takes(op, &op->instances[i], dims) &&
        dlc_library_is_here(op->instances[i].cpu))
      return &op->instances[i];
  return NULL;
}

int64_t dlc_library_select(const dlc_library_operation *op,
                           const int64_t *dims) {
  const dlc_library_instance *instance = select_instance(op, dims);
  return instance ? instance - op->instances : -1;
}

/*===-- Packed tensors ----------------------------------------------------===*/

/* What a packed tensor begins with. */
typedef struct packed_header {
  uint64_t magic;
  dlc_library_packing packing;
  int64_t count; /* matrices, of which this is one */
} packed_header;
#define PACKED_MAGIC UINT64_C(0x31306b6361706c64)

_Static_assert(sizeof(packed_header) <= DLC_LIBRARY_PACKED_HEADER,
               "the header has room");

/* Elements of one panel; a task. */
static void pack_panel(const dlc_frame *frame, int64_t p, int64_t worker) {
  (void)worker;
  const dlc_library_packing *l = frame->buffers[0];
  const char *from = frame->buffers[1];
  size_t bytes = (size_t)l->element_bytes;
  /* k with its padding, which may be more than whole blocks. */
  int64_t depth = l->bytes / ((l->majors + l->panel - 1) / l->panel * l->panel *
                              l->element_bytes);
  char *to = (char *)frame->buffers[2] + p * l->panel * depth * (int64_t)bytes;
  for (int64_t q = 0; q < depth; q += l->block)
    for (int64_t i = p * l->panel; i < (p + 1) * l->panel; ++i)
      for (int64_t k = q; k < q + l->block; ++k, to += bytes) {
        if (i < l->majors && k < l->inner)
          memcpy(to,
                 from +
                     (i * l->major_step + k * l->inner_step) * (int64_t)bytes,
                 bytes);
        else
          memset(to, 0, bytes);
      }
}

static void pack_one(const dlc_library_packing *packing, int64_t count,
                     const void *matrix, void *packed) {
  packed_header header = {PACKED_MAGIC, *packing, count};
  memset(packed, 0, DLC_LIBRARY_PACKED_HEADER);
  memcpy(packed, &header, sizeof header);
  char *to = (char *)packed + DLC_LIBRARY_PACKED_HEADER;
  if (packing->panel == 0) {
    memcpy(to, matrix, (size_t)packing->bytes);
    return;
  }
  void *buffers[3] = {(void *)packing, (void *)matrix, to};
  dlc_frame frame;
  memset(&frame, 0, sizeof frame);
  frame.buffers = buffers;
  dlc_parallel_for_fn pf = custom_pf ? custom_pf : dlc_rt_pool_function();
  pf(custom_pf ? custom_pf_ctx : NULL, pack_panel, &frame,
     (packing->majors + packing->panel - 1) / packing->panel,
     get_num_threads());
}

dlc_status dlc_library_pack(const dlc_library_operation *op, int64_t instance,
                            const int64_t *dims, const void *matrix,
                            void *packed) {
  const dlc_library_packing *packing;
  dlc_status status =
      dlc_library_choose_packing(op, instance, dims, matrix, packed, &packing);
  if (status != DLC_OK)
    return status;
  int64_t count = op->segments ? dims[op->segments->groups] : 1;
  int64_t bytes =
      packing->panel ? packing->majors * packing->inner * packing->element_bytes
                     : packing->bytes;
  for (int64_t g = 0; g < count; ++g)
    pack_one(packing, count, (const char *)matrix + g * bytes,
             (char *)packed + g * dlc_library_packed_step(packing));
  return DLC_OK;
}

/* Whether an instance reads what was packed. */
static bool reads(const dlc_library_instance *instance, const void *packed) {
  packed_header header;
  memcpy(&header, packed, sizeof header);
  return header.magic == PACKED_MAGIC && instance->packing &&
         memcmp(&header.packing, instance->packing, sizeof header.packing) == 0;
}

/* The first instance that takes the sizes and the packed matrix; NULL: none. */
static const dlc_library_instance *
select_packed(const dlc_library_operation *op, const int64_t *dims,
              const void *packed) {
  for (int64_t i = 0; i < op->num_instances; ++i) {
    const dlc_library_instance *instance = &op->instances[i];
    if (dlc_library_takes(op, instance, dims) &&
        dlc_library_is_here(instance->cpu) && reads(instance, packed))
      return instance;
  }
  return NULL;
}

/* The error where an operation with a packed tensor has no instance. */
static dlc_status not_packed(const dlc_library_operation *op,
                             const int64_t *dims) {
  if (!select_instance(op, dims))
    return dlc_library_no_instance(op, dims);
  char text[160];
  return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                     "%s: '%s' was not packed by this function's _pack for %s "
                     "on this machine",
                     op->name, op->tensors[op->packed].name,
                     dlc_library_spell_dims(op, dims, text, sizeof text));
}

/*===-- Running -----------------------------------------------------------===*/

typedef struct call {
  const dlc_library_operation *op;
  const dlc_library_instance *instance;
  const int64_t *symbols, *sizes; /* of the instance's model */
  void **tensors;                 /* inputs, then outputs */
  int64_t num_workers;
  dlc_parallel_for_fn pf;
  void *pf_ctx;
  char *workspace;
  const char *weights;
  /* of an error */
  int32_t status;
  const char *site;
} call;

/* Arena and scratch; -1: more than an address can tell. */
static int64_t workspace_bytes(const dlc_model *model, const int64_t *sizes,
                               int64_t workers) {
  int64_t bytes;
  if (!model->plan)
    return 0;
  if (sizes[0] < 0 || sizes[1] < 0 ||
      __builtin_mul_overflow(sizes[1], workers, &bytes) ||
      __builtin_add_overflow(bytes, sizes[0], &bytes))
    return -1;
  return bytes;
}

static void no_free(void *ctx, void *pointer, size_t size) {
  (void)ctx;
  (void)pointer;
  (void)size;
}

static int32_t execute(call *c) {
  const dlc_model *model = c->instance->model;
  dlc_exec exec;
  memset(&exec, 0, sizeof exec);
  exec.inputs = c->tensors;
  exec.outputs = c->tensors + model->info->num_inputs;
  exec.symbols = (int64_t *)c->symbols;
  exec.weights = c->weights ? c->weights : model->weights;
  exec.workspace = c->workspace;
  exec.num_workers = c->num_workers;
  exec.parallel_for = c->pf;
  exec.pf_ctx = c->pf_ctx;
  exec.alloc = dlc_rt_default_alloc;
  exec.free = no_free;
  exec.sizes = c->sizes;
  int32_t result = model->execute(&exec);
  c->status = exec.status;
  c->site = exec.site;
  return result;
}

static dlc_status report(const call *c, int32_t result) {
  if (result == DLC_OK)
    return DLC_OK;
  return dlc_rt_fail(dlc_library_error(), (dlc_status)result, "%s: %s",
                     c->op->name,
                     c->status == DLC_DATA_INDEX_OUT_OF_RANGE
                         ? "an index is out of range"
                         : dlc_status_text((dlc_status)result));
}

/* Symbols and what `plan` stores, of any instance. */
static size_t most_numbers(const dlc_library_operation *op) {
  int64_t most = 0;
  for (int64_t i = 0; i < op->num_instances; ++i) {
    const dlc_model *model = op->instances[i].model;
    int64_t count = model->info->num_symbols + model->num_sizes;
    most = count > most ? count : most;
  }
  return (size_t)most + 1;
}

static void bind_symbols(const dlc_library_instance *instance,
                         const int64_t *dims, int64_t *symbols) {
  for (int64_t s = 0; s < instance->model->info->num_symbols; ++s)
    symbols[s] = dims[instance->symbols[s]];
}

static dlc_status run_whole(const dlc_library_operation *op,
                            const dlc_library_instance *instance,
                            const int64_t *dims, void *const *tensors) {
  const dlc_model *model = instance->model;
  call c;
  memset(&c, 0, sizeof c);
  c.op = op;
  c.instance = instance;
  int64_t *symbols =
      alloca((size_t)(model->info->num_symbols + model->num_sizes + 1) * 8);
  int64_t *sizes = symbols + model->info->num_symbols;
  bind_symbols(instance, dims, symbols);
  if (model->plan)
    model->plan(symbols, sizes);
  c.symbols = symbols;
  c.sizes = sizes;
  c.tensors = (void **)tensors;
  if (op->packed >= 0) { /* it is the model's constant, and no input */
    c.weights = (const char *)tensors[op->packed] + DLC_LIBRARY_PACKED_HEADER;
    c.tensors = alloca((size_t)op->num_tensors * sizeof *c.tensors);
    for (int64_t i = 0, used = 0; i < op->num_tensors; ++i)
      if (i != op->packed)
        c.tensors[used++] = tensors[i];
  }
  c.num_workers = get_num_threads();
  c.pf = custom_pf ? custom_pf : dlc_rt_pool_function();
  c.pf_ctx = custom_pf ? custom_pf_ctx : NULL;
  int64_t bytes = workspace_bytes(model, sizes, c.num_workers);
  if (bytes == 0)
    return report(&c, execute(&c));
  arena *memory = bytes > 0 ? take_arena((size_t)bytes) : NULL;
  if (!memory)
    return dlc_rt_fail(dlc_library_error(), DLC_OUT_OF_MEMORY,
                       "%s: no memory for a workspace", op->name);
  c.workspace = memory->memory;
  dlc_status status = report(&c, execute(&c));
  dlc_rt_lock_release(&memory->lock);
  return status;
}

/*===-- Segments ----------------------------------------------------------===*/

/* A segment's place among those that are run. */
typedef struct segment_turn {
  int64_t rows; /* of its largest chunk */
  int64_t segment;
} segment_turn;

/* As many are sorted; more keep all workers busy in any order. */
#define MOST_SORTED 1024

/* Segments of rows are cut into chunks, so that the work is even, and a chunk
 * is one task, which runs on one thread from end to end. Whoever is free takes
 * the largest that is left (Graham, "Bounds on multiprocessing timing
 * anomalies", 1969), so that workers end together. */
typedef struct segments_run {
  const dlc_library_operation *op;
  const int64_t *dims;
  void *const *tensors;
  const int64_t *offsets;
  segment_turn *turns; /* NULL: as they come */
  int64_t most;        /* rows of a chunk */
  int64_t bytes;       /* of a worker's workspace */
  char *workspace;
  const char *packed;  /* of the first segment; NULL: no tensor is packed */
  int64_t packed_step; /* bytes from a segment's packed matrix to the next */
  int64_t chunks;
  _Atomic int64_t next_chunk;
  _Atomic int32_t result;
} segments_run;

static int64_t count_chunks(int64_t rows, int64_t most) {
  return rows / most + (rows % most != 0);
}

static void run_serially(void *ctx, dlc_task_fn fn, const dlc_frame *frame,
                         int64_t num_tasks, int64_t num_workers) {
  (void)ctx;
  (void)num_workers;
  for (int64_t task = 0; task < num_tasks; ++task)
    fn(frame, task, 0);
}

static int compare_turns(const void *x, const void *y) {
  const segment_turn *a = x, *b = y;
  if (a->rows != b->rows)
    return a->rows < b->rows ? 1 : -1;
  return a->segment < b->segment ? -1 : a->segment > b->segment;
}

/* Sorts the segments for chunks of at most `most` rows. */
static void sort_segments(const segments_run *run, int64_t groups,
                          int64_t most) {
  if (!run->turns)
    return;
  for (int64_t g = 0; g < groups; ++g) {
    int64_t size = run->offsets[g + 1] - run->offsets[g];
    int64_t count = count_chunks(size, most);
    run->turns[g].segment = g;
    run->turns[g].rows = count ? size / count + (size % count != 0) : 0;
  }
  qsort(run->turns, (size_t)groups, sizeof *run->turns, compare_turns);
}

static int64_t segment_at(const segments_run *run, int64_t turn) {
  return run->turns ? run->turns[turn].segment : turn;
}

/* The chunk's place: segment, first row, rows. */
static void find_chunk(const segments_run *run, int64_t chunk, int64_t *segment,
                       int64_t *first, int64_t *rows) {
  for (int64_t turn = 0;; ++turn) {
    int64_t g = segment_at(run, turn);
    int64_t size = run->offsets[g + 1] - run->offsets[g];
    int64_t count = count_chunks(size, run->most);
    if (chunk >= count) {
      chunk -= count;
      continue;
    }
    /* Even chunks, not whole ones and a rest. */
    int64_t low = size / count, extra = size % count;
    *segment = g;
    *first = run->offsets[g] + chunk * low + (chunk < extra ? chunk : extra);
    *rows = low + (chunk < extra);
    return;
  }
}

static void plan_rows(const segments_run *run, int64_t rows, int64_t *dims,
                      const dlc_library_instance **instance) {
  memcpy(dims, run->dims, (size_t)run->op->num_dims * 8);
  dims[run->op->segments->rows] = rows;
  *instance = run->packed ? select_packed(run->op, dims, run->packed)
                          : select_instance(run->op, dims);
}

static void run_chunk(segments_run *run, int64_t chunk, int64_t worker) {
  const dlc_library_operation *op = run->op;
  const dlc_library_segments *s = op->segments;
  int64_t segment, first, rows;
  find_chunk(run, chunk, &segment, &first, &rows);
  call c;
  memset(&c, 0, sizeof c);
  c.op = op;
  int64_t *dims = alloca((size_t)op->num_dims * 8);
  plan_rows(run, rows, dims, &c.instance);
  const dlc_model *model = c.instance->model;
  int64_t *symbols =
      alloca((size_t)(model->info->num_symbols + model->num_sizes + 1) * 8);
  bind_symbols(c.instance, dims, symbols);
  if (model->plan)
    model->plan(symbols, symbols + model->info->num_symbols);
  c.symbols = symbols;
  c.sizes = symbols + model->info->num_symbols;
  void **tensors = alloca((size_t)op->num_tensors * sizeof *tensors);
  int64_t used = 0;
  for (int64_t i = 0; i < op->num_tensors; ++i) {
    if (i == s->offsets || i == op->packed)
      continue;
    const dlc_library_tensor *tensor = &op->tensors[i];
    int64_t step = dlc_library_count(tensor, dims, 1) * (tensor->type_bits / 8);
    int64_t index = s->kinds[i] == 1 ? first : s->kinds[i] == 2 ? segment : 0;
    tensors[used++] =
        run->tensors[i] ? (char *)run->tensors[i] + index * step : NULL;
  }
  c.tensors = tensors;
  if (run->packed)
    c.weights =
        run->packed + segment * run->packed_step + DLC_LIBRARY_PACKED_HEADER;
  c.num_workers = 1;
  c.pf = run_serially;
  c.workspace = run->workspace + worker * run->bytes;
  int32_t result = execute(&c);
  if (result != DLC_OK)
    run->result = result;
}

/* A task, of as many as there are workers: whoever is free takes the next
 * chunk, in any pool, which is what estimate_end assumes. */
static void run_chunks(const dlc_frame *frame, int64_t task, int64_t worker) {
  (void)task;
  segments_run *run = *(segments_run **)frame->buffers;
  for (int64_t chunk = run->next_chunk++; chunk < run->chunks;
       chunk = run->next_chunk++)
    run_chunk(run, chunk, worker);
}

/* When the last worker ends, in rows, if chunks have at most `most` of them and
 * whoever is free takes the next. Each chunk packs its segment's matrix anew,
 * which takes as long as some rows, or reads it, which takes as long as a few.
 */
static int64_t estimate_end(const segments_run *run, int64_t groups,
                            int64_t workers, int64_t most) {
  const int64_t packing = run->packed ? 8 : 48;
  int64_t *ends = alloca((size_t)workers * sizeof *ends);
  memset(ends, 0, (size_t)workers * sizeof *ends);
  int64_t last = 0;
  sort_segments(run, groups, most);
  for (int64_t turn = 0; turn < groups; ++turn) {
    int64_t g = segment_at(run, turn);
    int64_t size = run->offsets[g + 1] - run->offsets[g];
    int64_t count = count_chunks(size, most);
    for (int64_t c = 0; c < count; ++c) {
      int64_t first = 0;
      for (int64_t w = 1; w < workers; ++w)
        first = ends[w] < ends[first] ? w : first;
      ends[first] += size / count + (c < size % count) + packing;
      last = ends[first] > last ? ends[first] : last;
    }
  }
  return last;
}

/* Most rows of a chunk. */
static int64_t choose_chunk(const segments_run *run, int64_t groups,
                            int64_t rows, int64_t workers) {
  const int64_t least = 64;
  if (workers == 1)
    return INT64_MAX / 2;
  int64_t best = 0, end = INT64_MAX;
  for (int64_t share = 1; share <= 8; share *= 2) {
    int64_t most = rows / (workers * share) + 1;
    most = most < least ? least : most;
    /* Where there are many segments, their number keeps all busy. */
    if (groups > (1 << 20) / workers)
      return most;
    int64_t estimate = estimate_end(run, groups, workers, most);
    if (estimate < end) {
      best = most;
      end = estimate;
    }
  }
  return best;
}

/* Where the segments' packed matrices lie, which all are packed alike. */
static dlc_status find_packed(segments_run *run, int64_t groups) {
  const char *packed = run->tensors[run->op->packed];
  packed_header header;
  memcpy(&header, packed, sizeof header);
  if (header.magic != PACKED_MAGIC || header.count != groups)
    return not_packed(run->op, run->dims);
  run->packed = packed;
  run->packed_step = dlc_library_packed_step(&header.packing);
  for (int64_t g = 1; g < groups; ++g)
    if (memcmp(packed, packed + g * run->packed_step, sizeof header))
      return not_packed(run->op, run->dims);
  return DLC_OK;
}

static dlc_status run_segments(const dlc_library_operation *op,
                               const int64_t *dims, void *const *tensors) {
  const dlc_library_segments *s = op->segments;
  const int64_t *offsets = tensors[s->offsets];
  int64_t groups = dims[s->groups], rows = dims[s->rows];
  dlc_status status = dlc_library_check_segments(op, dims, offsets);
  if (status != DLC_OK)
    return status;
  int64_t workers = get_num_threads();
  segments_run run;
  memset(&run, 0, sizeof run);
  run.op = op;
  run.dims = dims;
  run.tensors = tensors;
  run.offsets = offsets;
  if (op->packed >= 0 && groups) {
    status = find_packed(&run, groups);
    if (status != DLC_OK)
      return status;
  }
  if (workers > 1 && groups <= MOST_SORTED)
    run.turns = alloca((size_t)groups * sizeof *run.turns);
  run.most = choose_chunk(&run, groups, rows, workers);
  sort_segments(&run, groups, run.most);
  int64_t chunks = 0;
  int64_t *symbols = alloca(most_numbers(op) * 8);
  int64_t *part = alloca((size_t)op->num_dims * 8);
  for (int64_t g = 0; g < groups; ++g) {
    int64_t size = offsets[g + 1] - offsets[g];
    int64_t count = count_chunks(size, run.most);
    if (!count)
      continue;
    chunks += count;
    /* There are two sizes of chunks in a segment. */
    for (int64_t size_of = size / count; size_of <= size / count + 1;
         ++size_of) {
      if (size_of > size / count && size % count == 0)
        break;
      const dlc_library_instance *instance;
      plan_rows(&run, size_of, part, &instance);
      if (!instance)
        return run.packed ? not_packed(op, part)
                          : dlc_library_no_instance(op, part);
      const dlc_model *model = instance->model;
      bind_symbols(instance, part, symbols);
      int64_t *sizes = symbols + model->info->num_symbols;
      if (model->plan)
        model->plan(symbols, sizes);
      int64_t bytes = workspace_bytes(model, sizes, 1);
      if (bytes < 0)
        return dlc_rt_fail(dlc_library_error(), DLC_OUT_OF_MEMORY,
                           "%s: no memory for a workspace", op->name);
      bytes =
          (bytes + DLC_RT_ALIGNMENT - 1) / DLC_RT_ALIGNMENT * DLC_RT_ALIGNMENT;
      if (bytes > run.bytes)
        run.bytes = bytes;
    }
  }
  if (!chunks)
    return DLC_OK;
  if (workers > chunks)
    workers = chunks;
  arena *memory = NULL;
  if (run.bytes) {
    memory = take_arena((size_t)(run.bytes * workers));
    if (!memory)
      return dlc_rt_fail(dlc_library_error(), DLC_OUT_OF_MEMORY,
                         "%s: no memory for a workspace", op->name);
    run.workspace = memory->memory;
  }
  segments_run *pointer = &run;
  dlc_frame frame;
  memset(&frame, 0, sizeof frame);
  frame.buffers = (void *const *)&pointer;
  dlc_parallel_for_fn pf = custom_pf ? custom_pf : dlc_rt_pool_function();
  if (workers == 1)
    pf = run_serially;
  run.chunks = chunks;
  pf(custom_pf ? custom_pf_ctx : NULL, run_chunks, &frame, workers, workers);
  if (memory)
    dlc_rt_lock_release(&memory->lock);
  if (run.result != DLC_OK)
    return dlc_rt_fail(dlc_library_error(), (dlc_status)run.result, "%s: %s",
                       op->name, dlc_status_text((dlc_status)run.result));
  return DLC_OK;
}

/*===-- The doors ---------------------------------------------------------===*/

dlc_status dlc_library_run(const dlc_library_operation *op, const int64_t *dims,
                           void *const *tensors) {
  dlc_status status = dlc_library_check_call(op, dims, tensors);
  if (status != DLC_OK)
    return status;
  if (op->segments)
    return run_segments(op, dims, tensors);
  const dlc_library_instance *instance = NULL;
  if (op->packed >= 0) {
    instance = select_packed(op, dims, tensors[op->packed]);
    return instance ? run_whole(op, instance, dims, tensors)
                    : not_packed(op, dims);
  }
  instance = select_instance(op, dims);
  return instance ? run_whole(op, instance, dims, tensors)
                  : dlc_library_no_instance(op, dims);
}

dlc_status dlc_library_run_instance(const dlc_library_operation *op,
                                    int64_t index, const int64_t *dims,
                                    void *const *tensors) {
  if (index < 0 || index >= op->num_instances)
    return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                       "%s: instance %lld of %lld", op->name, (long long)index,
                       (long long)op->num_instances);
  const dlc_library_instance *instance = &op->instances[index];
  dlc_status status = dlc_library_check_call(op, dims, tensors);
  if (status != DLC_OK)
    return status;
  if (!dlc_library_takes(op, instance, dims)) {
    char text[160];
    return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                       "%s: instance '%s' is not for %s", op->name,
                       instance->name,
                       dlc_library_spell_dims(op, dims, text, sizeof text));
  }
  if (!dlc_library_is_here(instance->cpu))
    return dlc_rt_fail(dlc_library_error(), DLC_UNSUPPORTED_CPU,
                       "%s: instance '%s' needs a CPU like %s", op->name,
                       instance->name, instance->cpu->name);
  if (op->packed >= 0 && !reads(instance, tensors[op->packed]))
    return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                       "%s: instance '%s' reads another packed form", op->name,
                       instance->name);
  if (op->segments) {
    /* The table with this one instance. */
    dlc_library_operation one = *op;
    one.instances = instance;
    one.num_instances = 1;
    return run_segments(&one, dims, tensors);
  }
  return run_whole(op, instance, dims, tensors);
}
