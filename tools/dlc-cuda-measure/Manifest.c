/* Reads a bundle's manifest, a line an entry:
 *
 *   dlc-candidates 1
 *   device <name> <arch> exact|generation|newer
 *   run <id> <codegen version> <schema version> <compiler>
 *   target <JSON>
 *   kernel <name>
 *   workload <JSON>
 *   operand <kind> <elements> <seed> <factor>
 *   result <kind> <elements> <tolerance> <first of the oracle> <samples>
 *   product <alone> <tf32> <left> <right> <batch> <rows> <columns> <depth>
 *           <strides of the left factor: rows, depth, batch>
 *           <strides of the right factor: columns, depth, batch>
 *   convolution <alone> <tf32> <filter> <image> <batch> <channels> <rows>
 *           <columns> <filters> <their rows> <their columns> <rows> <columns of
 *           the result> <pads> <steps> <dilations>    (of rows, of columns)
 *   candidate <file> <JSON of the schedule>     the first has the rules'
 *   scratch <bytes>
 *   launch <symbol> <blocks> <threads> <bytes of dynamic shared memory>
 */
#include "Measure.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void __attribute__((noreturn, format(printf, 1, 2)))
refuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "dlc-cuda-measure: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(2);
}

char *read_file(const char *folder, const char *name, size_t *size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file)
    return NULL;
  char *bytes = NULL;
  size_t used = 0, room = 0, got;
  do {
    if (room - used < 65536)
      bytes = realloc(bytes, room = room * 2 + (1 << 20));
    if (!bytes)
      refuse("no memory for %s", path);
    used += got = fread(bytes + used, 1, room - used - 1, file);
  } while (got);
  fclose(file);
  bytes[used] = 0;
  *size = used;
  return bytes;
}

static bool starts(const char *line, const char *word, const char **rest) {
  size_t length = strlen(word);
  if (strncmp(line, word, length) || line[length] != ' ')
    return false;
  *rest = line + length + 1;
  return true;
}

static void *grow(void *array, unsigned count, size_t size) {
  /* By powers of two. */
  if (count & (count - 1))
    return array;
  array = realloc(array, (count ? 2 * count : 1) * size);
  if (!array)
    refuse("no memory for the manifest");
  return array;
}

static bool read_buffer(buffer *slot, const char *rest, bool is_result) {
  int kind;
  long long elements, first = 0, samples = 0;
  unsigned long long seed = 0;
  if (is_result ? sscanf(rest, "%d %lld %lf %lld %lld", &kind, &elements,
                         &slot->tolerance, &first, &samples) != 5
                : sscanf(rest, "%d %lld %llu %d", &kind, &elements, &seed,
                         &slot->factor) != 4)
    return false;
  slot->kind = (dlc_bundle_kind)kind;
  slot->elements = elements;
  slot->seed = seed;
  slot->oracle = first;
  slot->samples = samples;
  return kind >= 0 && kind <= DLC_BUNDLE_I64 && elements >= 0;
}

static bool read_numbers(const char *text, int64_t *out, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    char *end;
    out[i] = strtoll(text, &end, 10);
    /* What a library is told in an int; offsets are not. */
    if (end == text || out[i] < 0 || out[i] > INT_MAX)
      return false;
    text = end;
  }
  return *text == 0;
}

static bool read_peer(kernel *k, const char *rest, bool is_product) {
  peer *p = &k->other;
  int64_t n[19];
  if (!read_numbers(rest, n, is_product ? 14 : 19) || n[2] >= k->num_operands ||
      n[3] >= k->num_operands || !k->num_results)
    return false;
  p->kind = is_product ? PEER_PRODUCT : PEER_CONVOLUTION;
  p->alone = n[0] != 0;
  p->tf32 = n[1] != 0;
  p->left = (unsigned)n[2];
  p->right = (unsigned)n[3];
  p->left_kind = k->operands[p->left].kind;
  p->right_kind = k->operands[p->right].kind;
  p->result_kind = k->results[0].kind;
  if (is_product) {
    p->batch = n[4], p->rows = n[5], p->columns = n[6], p->depth = n[7];
    memcpy(p->left_strides, n + 8, sizeof p->left_strides);
    memcpy(p->right_strides, n + 11, sizeof p->right_strides);
    return true;
  }
  memcpy(p->image, n + 4, sizeof p->image);
  memcpy(p->filter, n + 8, sizeof p->filter);
  memcpy(p->output, n + 11, sizeof p->output);
  memcpy(p->pads, n + 13, sizeof p->pads);
  memcpy(p->steps, n + 15, sizeof p->steps);
  memcpy(p->dilations, n + 17, sizeof p->dilations);
  return true;
}

/* Whether the line is one that may stand there. */
static bool read_line(bundle *b, const char *line) {
  const char *rest;
  char word[16];
  kernel *k = b->num_kernels ? &b->kernels[b->num_kernels - 1] : NULL;
  candidate *c =
      k && k->num_candidates ? &k->candidates[k->num_candidates - 1] : NULL;
  if (starts(line, "device", &rest)) {
    bool good = sscanf(rest, "%63s %u %15s", b->device, &b->arch, word) == 3;
    b->exact = good && !strcmp(word, "exact");
    b->generation = good && !strcmp(word, "generation");
    return good;
  }
  if (starts(line, "run", &rest))
    return sscanf(rest, "%79s %d %d %63s", b->run, &b->codegen, &b->schema,
                  b->compiler) == 4;
  if (starts(line, "target", &rest))
    return (b->target = strdup(rest)) != NULL;
  if (starts(line, "kernel", &rest)) {
    b->kernels = grow(b->kernels, b->num_kernels, sizeof *b->kernels);
    k = &b->kernels[b->num_kernels++];
    memset(k, 0, sizeof *k);
    snprintf(k->name, sizeof k->name, "%s", rest);
    return true;
  }
  if (k && starts(line, "workload", &rest))
    return (k->workload = strdup(rest)) != NULL;
  if (k && starts(line, "operand", &rest))
    return k->num_operands < DLC_MOST_BUFFERS &&
           read_buffer(&k->operands[k->num_operands++], rest, false);
  if (k && starts(line, "result", &rest)) {
    if (k->num_results == DLC_MOST_BUFFERS ||
        !read_buffer(&k->results[k->num_results], rest, true))
      return false;
    buffer *r = &k->results[k->num_results++];
    return r->oracle >= 0 && r->samples >= 0 &&
           (size_t)(r->oracle + r->samples) <= b->num_oracle;
  }
  if (k && starts(line, "product", &rest))
    return read_peer(k, rest, true);
  if (k && starts(line, "convolution", &rest))
    return read_peer(k, rest, false);
  if (k && starts(line, "candidate", &rest)) {
    int end = 0;
    k->candidates =
        grow(k->candidates, k->num_candidates, sizeof *k->candidates);
    c = &k->candidates[k->num_candidates++];
    memset(c, 0, sizeof *c);
    if (k->num_candidates > DLC_MOST_CANDIDATES ||
        sscanf(rest, "%127s %n", c->file, &end) != 1 || !end)
      return false;
    return (c->schedule = strdup(rest + end)) != NULL;
  }
  if (c && starts(line, "scratch", &rest)) {
    long long bytes;
    if (c->num_scratch == DLC_MOST_BUFFERS || sscanf(rest, "%lld", &bytes) != 1)
      return false;
    c->scratch[c->num_scratch++] = bytes;
    return bytes >= 0;
  }
  if (c && starts(line, "launch", &rest)) {
    if (c->num_launches == DLC_MOST_LAUNCHES)
      return false;
    launch *l = &c->launches[c->num_launches++];
    return sscanf(rest, "%127s %u %u %u", l->symbol, &l->blocks, &l->threads,
                  &l->shared) == 4;
  }
  return false;
}

void read_bundle(bundle *b, const char *folder, bool device_only) {
  memset(b, 0, sizeof *b);
  b->folder = folder;
  size_t size = 0;
  char *text = read_file(folder, "candidates.txt", &size);
  if (!text)
    refuse("%s is no bundle: it has no candidates.txt", folder);
  size_t bytes = 0;
  b->oracle = (double *)(void *)read_file(folder, "oracle.bin", &bytes);
  if (!b->oracle)
    refuse("%s is no bundle: it has no oracle.bin", folder);
  b->num_oracle = bytes / sizeof(double);
  unsigned number = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    if (number++ == 0) {
      if (strcmp(line, "dlc-candidates 1"))
        refuse("%s/candidates.txt is of another version: '%s'", folder, line);
    } else if (!read_line(b, line)) {
      refuse("%s/candidates.txt:%u: '%.60s' is not understood", folder, number,
             line);
    }
  }
  free(text);
  if (!*b->device ||
      (!device_only && (!b->target || !b->num_kernels || !*b->run)))
    refuse("%s/candidates.txt is not whole", folder);
  for (unsigned i = 0; i < b->num_kernels; ++i)
    if (!b->kernels[i].num_candidates || !b->kernels[i].workload)
      refuse("%s/candidates.txt: kernel '%s' is not whole", folder,
             b->kernels[i].name);
}
