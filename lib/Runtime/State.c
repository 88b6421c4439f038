/* State: caches that an instance keeps between runs. To most of them every run
 * appends rows; these have one length. A run gets buffers with room for the
 * rows it appends; only when it succeeds do they count, so that a failed run
 * leaves the rows before it as they were. In the others, which are placed, a
 * run replaces rows; they begin as zeros. */
#include "Internal.h"

#include <stdio.h>
#include <string.h>

/* Rows that there is room for at first. */
#define FIRST_CAPACITY 64

static int64_t element_bytes(const dlc_tensor_info *info) {
  return info->type_bits < 8 ? 1 : info->type_bits / 8;
}

static int64_t product(const int64_t *dims, int64_t n) {
  int64_t result = 1;
  for (int64_t i = 0; i < n; ++i)
    result *= dims[i];
  return result;
}

static bool is_placed(const dlc_state_info *state) { return state->length < 0; }

/* One that rows are appended to; NULL when there is none. */
static const dlc_state_info *find_appended(const dlc_info *info) {
  for (int64_t i = 0; i < info->num_states; ++i)
    if (!is_placed(&info->states[i]))
      return &info->states[i];
  return NULL;
}

/* The symbol of the room of placed states; -1 when there is none. */
static int64_t room_symbol(const dlc_info *info) {
  for (int64_t i = 0; i < info->num_states; ++i)
    if (is_placed(&info->states[i]) && info->states[i].capacity >= 0)
      return info->states[i].capacity;
  return -1;
}

static bool has_placed(const dlc_info *info) {
  for (int64_t i = 0; i < info->num_states; ++i)
    if (is_placed(&info->states[i]))
      return true;
  return false;
}

bool dlc_rt_is_state_length(const dlc_info *info, int64_t symbol) {
  const dlc_state_info *state = find_appended(info);
  return state && state->length == symbol;
}

int64_t dlc_rt_count_state_dims(const dlc_info *info) {
  int64_t count = 0;
  for (int64_t i = 0; i < info->num_states; ++i)
    count += info->states[i].tensor.rank;
  return count;
}

/* The bookkeeping of states in one piece: two arrays of pointers, then dims. */
static size_t bookkeeping_size(const dlc_info *info) {
  return (size_t)(2 * info->num_states + dlc_rt_count_state_dims(info)) * 8;
}

dlc_status dlc_rt_make_state(dlc_instance *instance, dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  if (!info->num_states)
    return DLC_OK;
  size_t size = bookkeeping_size(info);
  instance->state = instance->allocator.alloc(instance->allocator.ctx, size,
                                              DLC_RT_ALIGNMENT);
  if (!instance->state)
    return dlc_rt_fail(error, DLC_OUT_OF_MEMORY,
                       "create: no memory for an instance of model '%s'",
                       info->name);
  memset(instance->state, 0, size);
  instance->next_state = instance->state + info->num_states;
  instance->state_dims = (int64_t *)(instance->next_state + info->num_states);
  int64_t room = room_symbol(info);
  instance->state_room = room < 0 ? 0 : info->symbols[room].min;
  return DLC_OK;
}

/* Frees the memory of `list`, which is for the dims `dims`. */
static void release(dlc_instance *instance, void **list, const int64_t *dims) {
  const dlc_info *info = instance->model->info;
  for (int64_t i = 0; i < info->num_states;
       dims += info->states[i].tensor.rank, ++i) {
    if (list[i])
      instance->allocator.free(
          instance->allocator.ctx, list[i],
          (size_t)dlc_rt_tensor_bytes(&info->states[i].tensor, dims));
    list[i] = NULL;
  }
}

void dlc_rt_destroy_state(dlc_instance *instance) {
  if (!instance->state)
    return;
  release(instance, instance->state, instance->state_dims);
  instance->allocator.free(instance->allocator.ctx, instance->state,
                           bookkeeping_size(instance->model->info));
}

void dlc_rt_bind_state(const dlc_instance *instance, int64_t *symbols) {
  const dlc_info *info = instance->model->info;
  const dlc_state_info *appended = find_appended(info);
  if (appended) {
    symbols[appended->length] = instance->state_length;
    symbols[appended->capacity] = instance->state_capacity;
  }
  int64_t room = room_symbol(info);
  if (room >= 0)
    symbols[room] = instance->state_room;
}

/* Rows after a run with these symbols; an overflow is more than any limit. */
static int64_t rows_after(const dlc_instance *instance,
                          const dlc_state_info *state, const int64_t *symbols) {
  int64_t rows = state->rows_kind == DLC_DIM_CONST ? state->rows_value
                                                   : symbols[state->rows_value],
          sum;
  return __builtin_add_overflow(rows, instance->state_length, &sum) ? INT64_MAX
                                                                    : sum;
}

dlc_status dlc_rt_plan_state(const dlc_instance *instance, int64_t *symbols,
                             dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  int64_t room = room_symbol(info);
  if (room >= 0 && !instance->state_room)
    return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                       "model '%s': dim '%s' of what it keeps is 0: reserve "
                       "rows first",
                       info->name, info->symbols[room].name);
  const dlc_state_info *state = find_appended(info);
  if (!state)
    return DLC_OK;
  int64_t most = info->symbols[state->length].max,
          needed = rows_after(instance, state, symbols),
          least = info->symbols[state->length].min;
  if (instance->state_length < least)
    return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                       "model '%s': the cache holds %lld rows, the model was "
                       "built for %lld or more",
                       info->name, (long long)instance->state_length,
                       (long long)least);
  if (needed > most || needed == INT64_MAX)
    return dlc_rt_fail(error, DLC_SHAPE_MISMATCH,
                       "model '%s': the cache holds %lld rows and this run "
                       "appends %lld: more than the %lld it was built for",
                       info->name, (long long)instance->state_length,
                       (long long)(needed - instance->state_length),
                       (long long)most);
  int64_t capacity = instance->state_capacity;
  if (needed > capacity) {
    int64_t grown = capacity < FIRST_CAPACITY / 2 ? FIRST_CAPACITY
                    : capacity > INT64_MAX / 2    ? INT64_MAX
                                                  : 2 * capacity;
    capacity = grown > needed ? grown : needed;
    if (capacity > most)
      capacity = most;
  }
  symbols[state->capacity] = capacity;
  return DLC_OK;
}

/* Dims of all states for bound symbols, one after the other. */
static void read_dims(const dlc_instance *instance, dlc_rt_scratch scratch,
                      int64_t *dims) {
  const dlc_model *model = instance->model;
  const dlc_info *info = model->info;
  const int64_t *computed = NULL; /* they follow the inputs' dims */
  if (model->input_dims) {
    model->input_dims(scratch.symbols, scratch.dims);
    computed =
        scratch.dims + instance->num_input_dims - dlc_rt_count_state_dims(info);
  }
  for (int64_t i = 0; i < info->num_states; ++i)
    for (int64_t d = 0; d < info->states[i].tensor.rank; ++d) {
      const dlc_dim *dim = &info->states[i].tensor.dims[d];
      *dims++ = computed                      ? *computed++
                : dim->kind == DLC_DIM_SYMBOL ? scratch.symbols[dim->value]
                                              : dim->value;
    }
}

static void clear(dlc_instance *instance, void **list, const int64_t *dims) {
  const dlc_info *info = instance->model->info;
  for (int64_t i = 0; i < info->num_states;
       dims += info->states[i].tensor.rank, ++i)
    if (is_placed(&info->states[i]) && list[i])
      memset(list[i], 0,
             (size_t)dlc_rt_tensor_bytes(&info->states[i].tensor, dims));
}

/* The rows in use, from the old memory to the new one; of placed states all. */
static void move_rows(const dlc_instance *instance, const int64_t *old_dims,
                      const int64_t *new_dims) {
  const dlc_info *info = instance->model->info;
  for (int64_t i = 0; i < info->num_states; ++i) {
    const dlc_state_info *state = &info->states[i];
    int64_t rank = state->tensor.rank, axis = state->axis < 0 ? 0 : state->axis,
            rows = is_placed(state) ? old_dims[axis] : instance->state_length;
    size_t row = (size_t)(product(new_dims + axis + 1, rank - axis - 1) *
                          element_bytes(&state->tensor));
    size_t from = row * (size_t)old_dims[axis],
           to = row * (size_t)new_dims[axis];
    for (int64_t run = 0; run < product(new_dims, axis); ++run)
      memcpy((char *)instance->next_state[i] + (size_t)run * to,
             (char *)instance->state[i] + (size_t)run * from,
             row * (size_t)rows);
    old_dims += rank;
    new_dims += rank;
  }
}

static dlc_status allocate(dlc_instance *instance, const int64_t *dims,
                           dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  const int64_t *all = dims;
  for (int64_t i = 0; i < info->num_states;
       dims += info->states[i].tensor.rank, ++i) {
    const dlc_tensor_info *tensor = &info->states[i].tensor;
    int64_t bytes = dlc_rt_tensor_bytes(tensor, dims);
    if (bytes > 0)
      instance->next_state[i] = instance->allocator.alloc(
          instance->allocator.ctx, (size_t)bytes, DLC_RT_ALIGNMENT);
    if (bytes != 0 && !instance->next_state[i]) {
      release(instance, instance->next_state, all);
      return dlc_rt_fail(
          error, DLC_OUT_OF_MEMORY,
          "model '%s': no memory for a cache of %lld bytes ('%s')", info->name,
          (long long)bytes, tensor->name);
    }
  }
  return DLC_OK;
}

/* Whether dims agree but for the capacity; else the first tensor that differs
 * and its dim. */
static bool same_dims(const dlc_info *info, const int64_t *a, const int64_t *b,
                      int64_t *state, int64_t *dim) {
  for (int64_t i = 0; i < info->num_states; ++i)
    for (int64_t d = 0; d < info->states[i].tensor.rank; ++d, ++a, ++b)
      if (d != info->states[i].axis && *a != *b) {
        *state = i;
        *dim = d;
        return false;
      }
  return true;
}

dlc_status dlc_rt_open_state(dlc_instance *instance, dlc_rt_scratch scratch,
                             dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  int64_t *new_dims = scratch.state_dims;
  if (!info->num_states)
    return DLC_OK;
  const dlc_state_info *appended = find_appended(info);
  int64_t state, dim;
  size_t dims_bytes = (size_t)dlc_rt_count_state_dims(info) * 8;
  bool in_use = instance->state_length || instance->state_placed;
  read_dims(instance, scratch, new_dims);
  bool same = same_dims(info, instance->state_dims, new_dims, &state, &dim);
  if (!same && in_use && !instance->state_length)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH,
        "model '%s': these inputs need another dim %lld ('%s') of '%s' than "
        "it has, and it is in use: truncate the state to 0 first",
        info->name, (long long)dim, info->states[state].tensor.dims[dim].text,
        info->states[state].tensor.name);
  if (!same && in_use)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH,
        "model '%s': these inputs need another dim %lld ('%s') of '%s' than "
        "the %lld rows in the cache have: truncate it to 0 first",
        info->name, (long long)dim, info->states[state].tensor.dims[dim].text,
        info->states[state].tensor.name, (long long)instance->state_length);
  if (memcmp(instance->state_dims, new_dims, dims_bytes)) {
    if (!in_use) { /* nothing to keep: no two at a time */
      release(instance, instance->state, instance->state_dims);
      instance->state_capacity = 0;
      memset(instance->state_dims, 0, dims_bytes);
    }
    dlc_status status = allocate(instance, new_dims, error);
    if (status != DLC_OK)
      return status;
    if (in_use) {
      clear(instance, instance->next_state, new_dims);
      move_rows(instance, instance->state_dims, new_dims);
    }
    release(instance, instance->state, instance->state_dims);
    memcpy(instance->state_dims, new_dims, dims_bytes);
    memcpy(instance->state, instance->next_state,
           (size_t)info->num_states * sizeof(void *));
    memset(instance->next_state, 0, (size_t)info->num_states * sizeof(void *));
    if (appended)
      instance->state_capacity = scratch.symbols[appended->capacity];
  }
  if (!in_use)
    clear(instance, instance->state, instance->state_dims);
  instance->state_placed = has_placed(info);
  memcpy(scratch.inputs + info->num_inputs, instance->state,
         (size_t)info->num_states * sizeof(void *));
  return DLC_OK;
}

void dlc_rt_close_state(dlc_instance *instance, const int64_t *symbols) {
  const dlc_state_info *state = find_appended(instance->model->info);
  if (state)
    instance->state_length = rows_after(instance, state, symbols);
}

int64_t dlc_model_state_length(dlc_instance *instance) {
  if (!instance)
    return 0;
  dlc_rt_lock_acquire(&instance->state_lock);
  int64_t length = instance->state_length;
  dlc_rt_lock_release(&instance->state_lock);
  return length;
}

size_t dlc_model_state_bytes(dlc_instance *instance) {
  if (!instance || !instance->state)
    return 0;
  dlc_rt_lock_acquire(&instance->state_lock);
  const dlc_info *info = instance->model->info;
  const int64_t *dims = instance->state_dims;
  size_t bytes = 0;
  for (int64_t i = 0; i < info->num_states;
       dims += info->states[i].tensor.rank, ++i)
    if (instance->state[i])
      bytes += (size_t)dlc_rt_tensor_bytes(&info->states[i].tensor, dims);
  dlc_rt_lock_release(&instance->state_lock);
  return bytes;
}

dlc_status dlc_model_state_truncate(dlc_instance *instance, int64_t length) {
  if (!instance)
    return DLC_INVALID_ARGUMENT;
  const dlc_info *info = instance->model->info;
  if (!info->num_states)
    return dlc_rt_fail(instance->error, DLC_INVALID_ARGUMENT,
                       "state_truncate: model '%s' keeps no state", info->name);
  dlc_rt_lock_acquire(&instance->state_lock);
  dlc_status status = DLC_OK;
  if (length < 0 || length > instance->state_length)
    status = dlc_rt_fail(instance->error, DLC_INVALID_ARGUMENT,
                         "state_truncate: the cache holds %lld rows, cannot "
                         "keep %lld",
                         (long long)instance->state_length, (long long)length);
  else {
    instance->state_length = length;
    instance->state_placed = instance->state_placed && length;
  }
  dlc_rt_lock_release(&instance->state_lock);
  return status;
}

dlc_status dlc_model_state_reserve(dlc_instance *instance, int64_t rows) {
  if (!instance)
    return DLC_INVALID_ARGUMENT;
  const dlc_info *info = instance->model->info;
  int64_t room = room_symbol(info);
  if (room < 0)
    return dlc_rt_fail(instance->error, DLC_INVALID_ARGUMENT,
                       "state_reserve: model '%s' keeps no state whose size is "
                       "open",
                       info->name);
  if (rows < 0 || rows > info->symbols[room].max)
    return dlc_rt_fail(instance->error, DLC_INVALID_ARGUMENT,
                       "state_reserve: dim '%s' cannot be %lld: the model was "
                       "built for at most %lld",
                       info->symbols[room].name, (long long)rows,
                       (long long)info->symbols[room].max);
  dlc_rt_lock_acquire(&instance->state_lock);
  if (rows > instance->state_room)
    instance->state_room = rows;
  dlc_rt_lock_release(&instance->state_lock);
  return DLC_OK;
}
