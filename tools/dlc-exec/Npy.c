/* The .npy format, versions 1 to 3: magic, a Python dict with descr,
 * fortran_order and shape, then the elements. Only what numpy itself writes is
 * read. */
#include "Npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(char *error, size_t size, const char *path, const char *what) {
  snprintf(error, size, "%s: %s", path, what);
  return 0;
}

int npy_allocate(npy_array *array, DLDataType type, int32_t rank,
                 const int64_t *shape) {
  memset(array, 0, sizeof *array);
  if (rank > NPY_MAX_RANK)
    return 0;
  size_t bytes = (size_t)type.bits / 8;
  for (int32_t d = 0; d < rank; ++d) {
    array->shape[d] = shape[d];
    if (shape[d] < 0 || __builtin_mul_overflow(bytes, (size_t)shape[d], &bytes))
      return 0;
  }
  size_t room = (bytes + 64) & ~(size_t)63;
  if (bytes > SIZE_MAX - 64 || posix_memalign(&array->memory, 64, room) != 0)
    return 0;
  memset(array->memory, 0, room);
  array->bytes = bytes;
  array->tensor.data = array->memory;
  array->tensor.device.device_type = kDLCPU;
  array->tensor.ndim = rank;
  array->tensor.dtype = type;
  array->tensor.shape = array->shape;
  return 1;
}

void npy_free(npy_array *array) {
  if (array->tensor.data != array->memory)
    free(array->tensor.data); /* memory that the runtime made for a
                                 data-dependent output */
  free(array->memory);
  memset(array, 0, sizeof *array);
}

/* "<f4" -> type; returns 0 when it is none of ours. */
static int parse_type(const char *descr, DLDataType *type) {
  if (descr[0] == '>' && descr[2] != '1')
    return 0;
  static const struct {
    char kind;
    uint8_t code;
  } kinds[] = {{'f', kDLFloat},
               {'i', kDLInt},
               {'u', kDLUInt},
               {'b', kDLBool},
               {'V', kDLBfloat}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
    if (kinds[i].kind != descr[1])
      continue;
    int bytes = atoi(descr + 2);
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
      return 0;
    *type = (DLDataType){kinds[i].code, (uint8_t)(8 * bytes), 1};
    return kinds[i].kind != 'V' || bytes == 2;
  }
  return 0;
}

static const char *value_of(const char *header, const char *key) {
  const char *p = strstr(header, key);
  if (!p)
    return NULL;
  p += strlen(key);
  while (*p == ' ' || *p == ':' || *p == '\'')
    ++p;
  return p;
}

/* Copies elements from column-major to row-major order. */
static void to_row_major(npy_array *array, const char *source) {
  size_t width = (size_t)array->tensor.dtype.bits / 8;
  int32_t rank = array->tensor.ndim;
  int64_t index[NPY_MAX_RANK] = {0};
  for (char *to = array->memory, *end = to + array->bytes; to < end;
       to += width) {
    size_t at = 0;
    for (int32_t d = rank; d-- > 0;)
      at = at * (size_t)array->shape[d] + (size_t)index[d];
    memcpy(to, source + at * width, width);
    for (int32_t d = rank; d-- > 0 && ++index[d] == array->shape[d];)
      index[d] = 0;
  }
}

int npy_read(const char *path, npy_array *array, char *error,
             size_t error_size) {
  memset(array, 0, sizeof *array);
  FILE *file = fopen(path, "rb");
  if (!file)
    return fail(error, error_size, path, "cannot open");
  unsigned char head[12];
  char *header = NULL;
  const char *what = "not a .npy file";
  int ok = 0;
  if (fread(head, 1, 10, file) != 10 || memcmp(head, "\x93NUMPY", 6) != 0)
    goto done;
  size_t length = head[8] | (size_t)head[9] << 8;
  if (head[6] >= 2) {
    if (fread(head + 10, 1, 2, file) != 2)
      goto done;
    length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
  }
  if (length > 65536 || !(header = calloc(length + 1, 1)) ||
      fread(header, 1, length, file) != length)
    goto done;
  const char *descr = value_of(header, "'descr'");
  const char *order = value_of(header, "'fortran_order'");
  const char *shape = value_of(header, "'shape'");
  DLDataType type;
  if (!descr || !order || !shape || *shape != '(')
    goto done;
  what = "element type is not supported";
  if (!parse_type(descr, &type))
    goto done;
  int64_t dims[NPY_MAX_RANK];
  int32_t rank = 0;
  what = "rank is above 32";
  for (char *p = (char *)shape + 1; *p && *p != ')';) {
    if (*p < '0' || *p > '9') {
      ++p;
      continue;
    }
    if (rank == NPY_MAX_RANK)
      goto done;
    dims[rank++] = strtoll(p, &p, 10);
  }
  what = "not enough memory";
  if (!npy_allocate(array, type, rank, dims))
    goto done;
  int reorders = strncmp(order, "False", 5) != 0 && rank > 1;
  char *target = reorders ? malloc(array->bytes + 1) : array->memory;
  if (!target)
    goto done;
  what = "is cut short";
  ok = fread(target, 1, array->bytes, file) == array->bytes;
  if (ok && reorders)
    to_row_major(array, target);
  if (reorders)
    free(target);
done:
  free(header);
  fclose(file);
  if (!ok) {
    npy_free(array);
    return fail(error, error_size, path, what);
  }
  return 1;
}

static const char *type_text(DLDataType type, char *text, size_t size) {
  char kind = 'V';
  switch (type.code) {
  case kDLFloat:
    kind = 'f';
    break;
  case kDLInt:
    kind = 'i';
    break;
  case kDLUInt:
    kind = 'u';
    break;
  case kDLBool:
    kind = 'b';
    break;
  default:
    break;
  }
  snprintf(text, size, "%c%c%d", type.bits == 8 ? '|' : '<', kind,
           type.bits / 8);
  return text;
}

int npy_write(const char *path, const npy_array *array, char *error,
              size_t error_size) {
  char text[8], header[1024];
  int used = snprintf(header, sizeof header,
                      "{'descr': '%s', 'fortran_order': False, 'shape': (",
                      type_text(array->tensor.dtype, text, sizeof text));
  for (int32_t d = 0; d < array->tensor.ndim; ++d)
    used += snprintf(header + used, sizeof header - (size_t)used, "%lld,%s",
                     (long long)array->tensor.shape[d],
                     d + 1 < array->tensor.ndim ? " " : "");
  used += snprintf(header + used, sizeof header - (size_t)used, "), }");
  /* The data starts at a multiple of 64. */
  int total = (10 + used + 1 + 63) & ~63;
  while (used < total - 11)
    header[used++] = ' ';
  header[used++] = '\n';
  unsigned char head[10] = {0x93,
                            'N',
                            'U',
                            'M',
                            'P',
                            'Y',
                            1,
                            0,
                            (unsigned char)(used & 0xff),
                            (unsigned char)(used >> 8)};
  FILE *file = fopen(path, "wb");
  if (!file)
    return fail(error, error_size, path, "cannot create");
  size_t bytes = (size_t)array->tensor.dtype.bits / 8;
  for (int32_t d = 0; d < array->tensor.ndim; ++d)
    bytes *= (size_t)array->tensor.shape[d];
  const char *data =
      (const char *)array->tensor.data + array->tensor.byte_offset;
  int ok = fwrite(head, 1, sizeof head, file) == sizeof head &&
           fwrite(header, 1, (size_t)used, file) == (size_t)used &&
           fwrite(data, 1, bytes, file) == bytes;
  ok = fclose(file) == 0 && ok;
  return ok ? 1 : fail(error, error_size, path, "cannot write");
}
