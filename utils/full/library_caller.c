/* Calls a kernel library's functions as library_caller.py asks on standard
 * input, until it ends; results go to standard output. All numbers are i64.
 *
 *   operation, instance, number of dims, the dims, number of tensors, then a
 *   tensor each: kind (0 input, 1 output, 2 input to be packed), bytes, offset
 *   of its first element, the bytes
 *
 * The answer: status, bytes of a text, the text, then all outputs' bytes.
 * Inputs end where a page begins that nobody may touch. */
#include HEADER

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define CALL(what) JOIN(NAME, what)

enum { PAGE = 65536, MOST = 16 };

static void take(void *to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes)
    exit(bytes && feof(stdin) ? 0 : 2);
}

static int64_t number(void) {
  int64_t value;
  take(&value, sizeof value);
  return value;
}

static void give(const void *from, size_t bytes) {
  if (fwrite(from, 1, bytes, stdout) != bytes)
    exit(2);
}

/* Room for so many bytes before a forbidden page. */
static char *map(size_t bytes, size_t *mapped) {
  size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
  *mapped = size + PAGE;
  char *base = mmap(NULL, *mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED || mprotect(base + size, PAGE, PROT_NONE))
    exit(2);
  return base;
}

int main(void) {
  for (;;) {
    const dlc_library_operation *op = CALL(operation)(number());
    int64_t instance = number(), dims[MOST], count = number(), i;
    if (!op || count > MOST)
      return 2;
    for (i = 0; i < count; ++i)
      dims[i] = number();
    count = number();
    if (count > MOST)
      return 2;
    void *pointers[MOST], *packed = NULL;
    char *bases[MOST], *starts[MOST];
    int64_t kinds[MOST], sizes[MOST];
    size_t mapped[MOST];
    dlc_status status = DLC_OK;
    for (i = 0; i < count; ++i) {
      kinds[i] = number();
      sizes[i] = number();
      int64_t offset = number();
      bases[i] = map((size_t)sizes[i], &mapped[i]);
      starts[i] = bases[i] + (mapped[i] - PAGE - (size_t)sizes[i]);
      if (kinds[i] == 1) /* results begin at a page, as malloc's might */
        starts[i] = bases[i];
      take(starts[i], (size_t)sizes[i]);
      pointers[i] = starts[i] + offset;
      if (kinds[i] != 2)
        continue;
      int64_t bytes = CALL(packed_size)(op, instance, dims);
      if (bytes < 0 || posix_memalign(&packed, 64, (size_t)bytes))
        return 2;
      status = CALL(pack)(op, instance, dims, pointers[i], packed);
      pointers[i] = packed;
    }
    if (status == DLC_OK)
      status = CALL(run_instance)(op, instance, dims, pointers);
    const char *text = status == DLC_OK ? "" : CALL(last_error)();
    int64_t answer[2] = {status, (int64_t)strlen(text)};
    give(answer, sizeof answer);
    give(text, strlen(text));
    for (i = 0; i < count; ++i) {
      if (kinds[i] == 1)
        give(starts[i], (size_t)sizes[i]);
      munmap(bases[i], mapped[i]);
    }
    free(packed);
    fflush(stdout);
  }
}
