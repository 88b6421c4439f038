/* Reads a bundle's manifest, a line an entry:
 *
 *   dlc-candidates 2
 *   device <name> <arch> exact|generation|newer
 *   run <id> <codegen version> <schema version> <compiler>
 *   target <JSON>
 *   kernel <name>
 *   workload <JSON>
 *   operand <kind> <elements> <seed> <factor>
 *   result <kind> <elements> <tolerance> <first of the oracle> <samples>
 *   peer <alone> <elements of its result>
 *   call <the words of the peer's dlc_device_call>
 *   candidate <file> <JSON of the schedule>     the first has the rules'
 *   scratch <bytes>
 *   launch <symbol> <blocks> <threads> <bytes of dynamic shared memory>
 *   call <words>             in the place of a launch
 */
#include "Measure.h"

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

static bool read_call(dlc_device_call *call, const char *text) {
  int64_t words[sizeof *call / sizeof(int64_t)];
  for (unsigned i = 0; i < sizeof words / sizeof *words; ++i) {
    char *end;
    words[i] = strtoll(text, &end, 10);
    if (end == text || words[i] < 0)
      return false;
    text = end;
  }
  memcpy(call, words, sizeof *call);
  return *text == 0 && call->kind < DLC_DEVICE_NUM_LIBRARIES;
}

/* Whether its parameters are among so many. */
static bool fits(const dlc_device_call *call, int64_t params) {
  const dlc_device_product *p = &call->as.product;
  const dlc_device_convolution *c = &call->as.convolution;
  return call->kind == DLC_DEVICE_PRODUCT
             ? p->left < params && p->right < params && p->result < params
             : c->filter < params && c->image < params && c->result < params &&
                   c->workspace < params;
}

static bool read_peer(kernel *k, const char *rest) {
  long long elements;
  if (sscanf(rest, "%d %lld", &k->other.alone, &elements) != 2 ||
      elements < 0 || !k->num_results)
    return false;
  k->other.elements = elements;
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
  if (k && starts(line, "peer", &rest))
    return read_peer(k, rest);
  if (k && !c && starts(line, "call", &rest)) {
    k->other.is_there = read_call(&k->other.call, rest) &&
                        fits(&k->other.call, k->num_operands + 2);
    return k->other.is_there;
  }
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
  if (c && (starts(line, "launch", &rest) || starts(line, "call", &rest))) {
    if (c->num_launches == DLC_MOST_LAUNCHES)
      return false;
    launch *l = &c->launches[c->num_launches++];
    l->is_call = *line == 'c';
    if (l->is_call)
      return read_call(&l->call, rest) &&
             fits(&l->call, k->num_operands + k->num_results + c->num_scratch);
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
      if (strcmp(line, "dlc-candidates 2"))
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
