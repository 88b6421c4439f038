/* State: caches that an instance keeps between runs and every run appends rows
 * to. All states of a model have one length. A run gets buffers with room for
 * the rows it appends; only when it succeeds do they count, so that a failed
 * run leaves the rows before it as they were. */
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

static int64_t most_rows(const dlc_info *info) {
  return info->symbols[info->states[0].length].max;
}

void dlc_rt_bind_state(const dlc_instance *instance, int64_t *symbols) {
  const dlc_info *info = instance->model->info;
  for (int64_t i = 0; i < info->num_states; ++i) {
    symbols[info->states[i].length] = instance->state_length;
    symbols[info->states[i].capacity] = instance->state_capacity;
  }
}

/* Rows after a run with these symbols; an overflow is more than any limit. */
static int64_t rows_after(const dlc_instance *instance,
                          const int64_t *symbols) {
  const dlc_state_info *first = &instance->model->info->states[0];
  int64_t rows = first->rows_kind == DLC_DIM_CONST ? first->rows_value
                                                   : symbols[first->rows_value],
          sum;
  return __builtin_add_overflow(rows, instance->state_length, &sum) ? INT64_MAX
                                                                    : sum;
}

dlc_status dlc_rt_plan_state(const dlc_instance *instance, int64_t *symbols,
                             dlc_rt_error error) {
  const dlc_info *info = instance->model->info;
  if (!info->num_states)
    return DLC_OK;
  int64_t most = most_rows(info), needed = rows_after(instance, symbols),
          least = info->symbols[info->states[0].length].min;
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
  for (int64_t i = 0; i < info->num_states; ++i)
    symbols[info->states[i].capacity] = capacity;
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

/* The rows in use, from the old memory to the new one. */
static void move_rows(const dlc_instance *instance, const int64_t *old_dims,
                      const int64_t *new_dims) {
  const dlc_info *info = instance->model->info;
  for (int64_t i = 0; i < info->num_states; ++i) {
    const dlc_state_info *state = &info->states[i];
    int64_t rank = state->tensor.rank, axis = state->axis;
    size_t row = (size_t)(product(new_dims + axis + 1, rank - axis - 1) *
                          element_bytes(&state->tensor));
    size_t from = row * (size_t)old_dims[axis],
           to = row * (size_t)new_dims[axis];
    for (int64_t run = 0; run < product(new_dims, axis); ++run)
      memcpy((char *)instance->next_state[i] + (size_t)run * to,
             (char *)instance->state[i] + (size_t)run * from,
             row * (size_t)instance->state_length);
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
          "model '%s': no memory for a cache of %lld rows ('%s')", info->name,
          (long long)dims[info->states[i].axis], tensor->name);
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
  int64_t capacity = scratch.symbols[info->states[0].capacity], state, dim;
  read_dims(instance, scratch, new_dims);
  bool same = same_dims(info, instance->state_dims, new_dims, &state, &dim);
  if (!same && instance->state_length)
    return dlc_rt_fail(
        error, DLC_SHAPE_MISMATCH,
        "model '%s': these inputs need another dim %lld ('%s') of '%s' than "
        "the %lld rows in the cache have: truncate it to 0 first",
        info->name, (long long)dim, info->states[state].tensor.dims[dim].text,
        info->states[state].tensor.name, (long long)instance->state_length);
  if (!same || capacity != instance->state_capacity) {
    if (!instance->state_length) { /* nothing to keep: no two at a time */
      release(instance, instance->state, instance->state_dims);
      instance->state_capacity = 0;
      memset(instance->state_dims, 0,
             (size_t)dlc_rt_count_state_dims(info) * 8);
    }
    dlc_status status = allocate(instance, new_dims, error);
    if (status != DLC_OK)
      return status;
    if (instance->state_length)
      move_rows(instance, instance->state_dims, new_dims);
    release(instance, instance->state, instance->state_dims);
    memcpy(instance->state_dims, new_dims,
           (size_t)dlc_rt_count_state_dims(info) * 8);
    memcpy(instance->state, instance->next_state,
           (size_t)info->num_states * sizeof(void *));
    memset(instance->next_state, 0, (size_t)info->num_states * sizeof(void *));
    instance->state_capacity = capacity;
  }
  memcpy(scratch.inputs + info->num_inputs, instance->state,
         (size_t)info->num_states * sizeof(void *));
  return DLC_OK;
}

void dlc_rt_close_state(dlc_instance *instance, const int64_t *symbols) {
  if (instance->model->info->num_states)
    instance->state_length = rows_after(instance, symbols);
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
  else
    instance->state_length = length;
  dlc_rt_lock_release(&instance->state_lock);
  return status;
}
