/* What kernel libraries share, whatever their instances run on: the errors of a
 * thread, which sizes an instance takes, the checks of a call. */
#include "LibraryInternal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERROR_BYTES = 256 };

/* The text of this thread's last error. Not __thread: of libraries that are
 * opened by dlopen the C library has room for a few such variables only, or
 * they need its __tls_get_addr. The destructor is free, which outlives this
 * library. */
static pthread_once_t error_once = PTHREAD_ONCE_INIT;
static pthread_key_t error_key;
static bool has_error_key;

static void make_error_key(void) {
  has_error_key = pthread_key_create(&error_key, free) == 0;
}

__attribute__((destructor)) static void drop_error_key(void) {
  if (!has_error_key)
    return;
  free(pthread_getspecific(error_key));
  pthread_key_delete(error_key);
}

static char *error_text(void) {
  pthread_once(&error_once, make_error_key);
  if (!has_error_key)
    return NULL;
  char *text = pthread_getspecific(error_key);
  if (!text && (text = calloc(1, ERROR_BYTES)) &&
      pthread_setspecific(error_key, text)) {
    free(text);
    text = NULL;
  }
  return text;
}

dlc_rt_error dlc_library_error(void) {
  char *text = error_text();
  dlc_rt_error error = {text, text ? ERROR_BYTES : 0};
  return error;
}

const char *dlc_library_last_error(void) {
  const char *text = error_text();
  return text ? text : "no memory is left for the text of an error";
}

/*===-- Sizes -------------------------------------------------------------===*/

bool dlc_library_is_here(dlc_library_cpu *cpu) {
  int64_t state = __atomic_load_n(&cpu->state, __ATOMIC_RELAXED);
  if (state == 0) {
    dlc_rt_error none = {NULL, 0};
    state =
        dlc_rt_check_features(cpu->features, cpu->name, none) == DLC_OK ? 1 : 2;
    __atomic_store_n(&cpu->state, state, __ATOMIC_RELAXED);
  }
  return state == 1;
}

bool dlc_library_takes(const dlc_library_operation *op,
                       const dlc_library_instance *instance,
                       const int64_t *dims) {
  for (int64_t d = 0; d < op->num_dims; ++d)
    if (dims[d] < instance->min[d] || dims[d] > instance->max[d])
      return false;
  return true;
}

/* "m = 3, n = 4096" */
const char *dlc_library_spell_dims(const dlc_library_operation *op,
                                   const int64_t *dims, char *text,
                                   size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (int64_t d = 0; d < op->num_dims && used < size; ++d)
    used +=
        (size_t)snprintf(text + used, size - used, "%s%s = %lld", d ? ", " : "",
                         op->dims[d].name, (long long)dims[d]);
  return text;
}

dlc_status dlc_library_no_instance(const dlc_library_operation *op,
                                   const int64_t *dims) {
  char text[160];
  for (int64_t d = 0; d < op->num_dims; ++d) {
    const dlc_library_dim *dim = &op->dims[d];
    if (dims[d] >= dim->min && dims[d] <= dim->max)
      continue;
    char bound[24] = "";
    if (dim->max != INT64_MAX)
      snprintf(bound, sizeof bound, "%lld", (long long)dim->max);
    return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                       "%s: %s is %lld, the library was built for %lld..%s",
                       op->name, dim->name, (long long)dims[d],
                       (long long)dim->min, bound);
  }
  bool fits = false, here = false;
  for (int64_t i = 0; i < op->num_instances; ++i) {
    here |= dlc_library_is_here(op->instances[i].cpu);
    fits |= dlc_library_takes(op, &op->instances[i], dims);
  }
  dlc_library_spell_dims(op, dims, text, sizeof text);
  if (!here && op->num_instances)
    return dlc_rt_fail(
        dlc_library_error(), DLC_UNSUPPORTED_CPU,
        "%s: this machine lacks the instruction sets of every CPU that the "
        "library was built for, the least of them %s",
        op->name, op->instances[op->num_instances - 1].cpu->name);
  if (fits)
    return dlc_rt_fail(dlc_library_error(), DLC_UNSUPPORTED_CPU,
                       "%s: the instances for %s are for other CPUs", op->name,
                       text);
  return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                     "%s: the library has no instance for %s", op->name, text);
}

/*===-- Checks ------------------------------------------------------------===*/

int64_t dlc_library_evaluate(const dlc_library_extent *extent,
                             const int64_t *dims) {
  if (extent->dim < 0)
    return extent->factor;
  int64_t sum;
  if (__builtin_add_overflow(dims[extent->dim], extent->offset, &sum))
    return -1;
  int64_t value = sum < 0 ? 0 : sum / extent->divisor;
  return __builtin_mul_overflow(value, extent->factor, &value) ? -1 : value;
}

/* Elements from axis `from` on; -1: more than an address can tell. */
int64_t dlc_library_count(const dlc_library_tensor *tensor, const int64_t *dims,
                          int64_t from) {
  int64_t bytes = tensor->type_bits / 8, count = 1;
  bool empty = false;
  for (int64_t r = from; r < tensor->rank; ++r) {
    int64_t extent = dlc_library_evaluate(&tensor->extents[r], dims);
    if (extent < 0)
      return -1;
    if (extent == 0)
      empty = true;
    else if (__builtin_mul_overflow(count, extent, &count))
      return -1;
  }
  int64_t total;
  if (__builtin_mul_overflow(count, bytes, &total))
    return -1;
  return empty ? 0 : count;
}

static dlc_status check_tensors(const dlc_library_operation *op,
                                const int64_t *dims, void *const *tensors) {
  for (int64_t i = 0; i < op->num_tensors; ++i) {
    const dlc_library_tensor *tensor = &op->tensors[i];
    int64_t count = dlc_library_count(tensor, dims, 0);
    if (count < 0) {
      char text[160];
      return dlc_rt_fail(
          dlc_library_error(), DLC_SHAPE_MISMATCH,
          "%s: '%s' has more bytes than an address can tell (%s)", op->name,
          tensor->name, dlc_library_spell_dims(op, dims, text, sizeof text));
    }
    if (count == 0)
      continue;
    if (i == op->packed && (uintptr_t)tensors[i] % DLC_RT_ALIGNMENT)
      return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                         "%s: '%s' is not %d-byte aligned", op->name,
                         tensor->name, DLC_RT_ALIGNMENT);
    if (!tensors[i])
      return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                         "%s: '%s' is NULL", op->name, tensor->name);
    int64_t bytes = tensor->type_bits / 8;
    if (bytes > 1 && (uintptr_t)tensors[i] % (uintptr_t)bytes)
      return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                         "%s: '%s' is not aligned to its %lld-byte elements",
                         op->name, tensor->name, (long long)bytes);
  }
  return DLC_OK;
}

dlc_status dlc_library_check_call(const dlc_library_operation *op,
                                  const int64_t *dims, void *const *tensors) {
  for (int64_t d = 0; d < op->num_dims; ++d)
    if (dims[d] < 0)
      return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                         "%s: %s is %lld", op->name, op->dims[d].name,
                         (long long)dims[d]);
  return check_tensors(op, dims, tensors);
}

dlc_status dlc_library_check_segments(const dlc_library_operation *op,
                                      const int64_t *dims,
                                      const int64_t *offsets) {
  int64_t groups = dims[op->segments->groups], rows = dims[op->segments->rows];
  if (offsets[0] != 0 || offsets[groups] != rows)
    return dlc_rt_fail(
        dlc_library_error(), DLC_DATA_ERROR,
        "%s: the segments are rows %lld..%lld, there are rows 0..%lld",
        op->name, (long long)offsets[0], (long long)offsets[groups],
        (long long)rows);
  for (int64_t g = 0; g < groups; ++g)
    if (offsets[g + 1] < offsets[g])
      return dlc_rt_fail(dlc_library_error(), DLC_DATA_ERROR,
                         "%s: segment %lld ends at row %lld, before its begin "
                         "at %lld",
                         op->name, (long long)g, (long long)offsets[g + 1],
                         (long long)offsets[g]);
  return DLC_OK;
}

/*===-- Packed tensors ----------------------------------------------------===*/

/* The packing of the most general instance for the sizes that are not -1, on
 * the best CPU that has one, or of the wanted one; NULL: there is none. */
static const dlc_library_packing *find_packing(const dlc_library_operation *op,
                                               int64_t wanted,
                                               const int64_t *dims) {
  const dlc_library_instance *found = NULL;
  for (int64_t i = 0; i < op->num_instances; ++i) {
    const dlc_library_instance *instance = &op->instances[i];
    bool fits = instance->packing != NULL && (wanted < 0 || wanted == i);
    for (int64_t d = 0; d < op->num_dims && fits; ++d)
      fits = dims[d] < 0 ||
             (dims[d] >= instance->min[d] && dims[d] <= instance->max[d]);
    if (fits && dlc_library_is_here(instance->cpu) &&
        (!found || found->cpu == instance->cpu))
      found = instance;
  }
  return found ? found->packing : NULL;
}

int64_t dlc_library_packed_step(const dlc_library_packing *packing) {
  int64_t bytes = packing->bytes + DLC_LIBRARY_PACKED_HEADER;
  return (bytes + DLC_RT_ALIGNMENT - 1) / DLC_RT_ALIGNMENT * DLC_RT_ALIGNMENT;
}

int64_t dlc_library_packed_size(const dlc_library_operation *op,
                                int64_t instance, const int64_t *dims) {
  const dlc_library_packing *packing = find_packing(op, instance, dims);
  if (!packing)
    return -1;
  if (!op->segments)
    return packing->bytes + DLC_LIBRARY_PACKED_HEADER;
  int64_t groups = dims[op->segments->groups], size;
  if (groups < 0 ||
      __builtin_mul_overflow(groups, dlc_library_packed_step(packing), &size))
    return -1;
  return size;
}

dlc_status dlc_library_choose_packing(const dlc_library_operation *op,
                                      int64_t wanted, const int64_t *dims,
                                      const void *matrix, const void *packed,
                                      const dlc_library_packing **packing) {
  char text[160];
  *packing = find_packing(op, wanted, dims);
  if (!*packing || dlc_library_packed_size(op, wanted, dims) < 0)
    return dlc_rt_fail(dlc_library_error(), DLC_SHAPE_MISMATCH,
                       "%s: no instance takes a packed tensor of %s", op->name,
                       dlc_library_spell_dims(op, dims, text, sizeof text));
  if (matrix && packed && (uintptr_t)packed % DLC_RT_ALIGNMENT == 0)
    return DLC_OK;
  return dlc_rt_fail(dlc_library_error(), DLC_INVALID_ARGUMENT,
                     "%s: to pack, matrix and room are not NULL and the room "
                     "is %d-byte aligned",
                     op->name, DLC_RT_ALIGNMENT);
}
