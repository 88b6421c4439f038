#include "Profile.h"

#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

enum { max_samples = 1 << 20, period_us = 1000 };

static uintptr_t *samples;
static volatile size_t num_samples;

static void take_sample(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  const ucontext_t *state = context;
  size_t at = __atomic_fetch_add(&num_samples, 1, __ATOMIC_RELAXED);
  if (at >= max_samples)
    return;
#if defined(__x86_64__)
  samples[at] = (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  samples[at] = (uintptr_t)state->uc_mcontext.pc;
#endif
}

static int set_timer(long microseconds) {
  struct itimerval timer = {{0, microseconds}, {0, microseconds}};
  return setitimer(ITIMER_PROF, &timer, NULL) == 0;
}

int profile_start(void) {
  samples = calloc(max_samples, sizeof *samples);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = take_sample;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  return samples && sigaction(SIGPROF, &action, NULL) == 0 &&
         set_timer(period_us);
}

void profile_stop(void) { set_timer(0); }

/*===-- Symbols -----------------------------------------------------------===*/

typedef struct function {
  uintptr_t begin;
  const char *name;
} function;

typedef struct range {
  const char *path;
  uintptr_t base, begin, end;
} range;

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The place of the module whose file is `path`. */
static int find_module(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  range *found = data;
  if (strcmp(base_name(info->dlpi_name), base_name(found->path)) != 0)
    return 0;
  found->base = info->dlpi_addr;
  found->begin = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
      continue;
    uintptr_t begin = found->base + segment->p_vaddr;
    if (begin < found->begin)
      found->begin = begin;
    if (begin + segment->p_memsz > found->end)
      found->end = begin + segment->p_memsz;
  }
  return 1;
}

static char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file)
    return NULL;
  char *text = NULL;
  if (fseek(file, 0, SEEK_END) == 0 && ftell(file) > 0) {
    *size = (size_t)ftell(file);
    rewind(file);
    text = malloc(*size);
    if (text && fread(text, 1, *size, file) != *size) {
      free(text);
      text = NULL;
    }
  }
  fclose(file);
  return text;
}

static int by_begin(const void *a, const void *b) {
  uintptr_t x = ((const function *)a)->begin, y = ((const function *)b)->begin;
  return (x > y) - (x < y);
}

/* The functions in an ELF file's symbol table, in order; NULL when it has none
 * or is not what it should be. Names point into `file`. */
static function *read_functions(char *file, size_t size, size_t *count) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
  if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_shoff > size ||
      (size - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum)
    return NULL;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    const Elf64_Shdr *table = &sections[i];
    if (table->sh_type != SHT_SYMTAB || table->sh_link >= header->e_shnum)
      continue;
    const Elf64_Shdr *strings = &sections[table->sh_link];
    if (table->sh_offset > size || table->sh_size > size - table->sh_offset ||
        strings->sh_size == 0 || strings->sh_offset > size ||
        strings->sh_size > size - strings->sh_offset ||
        file[strings->sh_offset + strings->sh_size - 1] != 0)
      return NULL;
    size_t all = table->sh_size / sizeof(Elf64_Sym);
    const Elf64_Sym *symbols = (const Elf64_Sym *)(file + table->sh_offset);
    function *functions = malloc((all + 1) * sizeof *functions);
    *count = 0;
    for (size_t s = 0; functions && s < all; ++s)
      if (ELF64_ST_TYPE(symbols[s].st_info) == STT_FUNC &&
          symbols[s].st_name < strings->sh_size)
        functions[(*count)++] =
            (function){symbols[s].st_value,
                       file + strings->sh_offset + symbols[s].st_name};
    if (functions)
      qsort(functions, *count, sizeof *functions, by_begin);
    return functions;
  }
  return NULL;
}

/*===-- Shares ------------------------------------------------------------===*/

typedef struct share {
  char name[256];
  size_t samples;
} share;

/* `m_fused_3.tile6x4` is of kernel fused_3 of model m; what is not the model's
 * own is the runtime. */
static void kernel_of(const char *symbol, const char *prefix, char *name,
                      size_t size) {
  size_t length = strlen(prefix);
  if (strncmp(symbol, prefix, length) != 0 || symbol[length] != '_') {
    snprintf(name, size, "(runtime)");
    return;
  }
  symbol += length + 1;
  snprintf(name, size, "%.*s", (int)strcspn(symbol, "."), symbol);
}

static void count_sample(share *shares, size_t *count, const char *name) {
  size_t i = 0;
  while (i < *count && strcmp(shares[i].name, name) != 0)
    ++i;
  if (i == *count) {
    snprintf(shares[i].name, sizeof shares[i].name, "%s", name);
    ++*count;
  }
  ++shares[i].samples;
}

static int by_samples(const void *a, const void *b) {
  size_t x = ((const share *)a)->samples, y = ((const share *)b)->samples;
  return (x < y) - (x > y);
}

int profile_print(const char *model, const char *prefix, char *error,
                  size_t error_size) {
  range module = {model, 0, 0, 0};
  dl_iterate_phdr(find_module, &module);
  size_t size = 0, num_functions = 0, num_shares = 0, taken = num_samples;
  char *file = read_file(model, &size);
  function *functions =
      file ? read_functions(file, size, &num_functions) : NULL;
  share *shares = functions ? calloc(num_functions + 2, sizeof *shares) : NULL;
  if (!module.end || !shares) {
    snprintf(error, error_size, "%s: no symbol table to name the samples by",
             model);
    free(functions);
    free(file);
    return 0;
  }
  if (taken > max_samples)
    taken = max_samples;
  for (size_t i = 0; i < taken; ++i) {
    uintptr_t at = samples[i];
    char name[256] = "(runtime)";
    if (at >= module.begin && at < module.end) {
      size_t low = 0, high = num_functions; /* the last that begins before */
      while (low < high) {
        size_t middle = (low + high) / 2;
        if (functions[middle].begin + module.base <= at)
          low = middle + 1;
        else
          high = middle;
      }
      if (low > 0)
        kernel_of(functions[low - 1].name, prefix, name, sizeof name);
    }
    count_sample(shares, &num_shares, name);
  }
  qsort(shares, num_shares, sizeof *shares, by_samples);
  for (size_t i = 0; i < num_shares; ++i)
    printf("%zu %s\n", shares[i].samples, shares[i].name);
  free(shares);
  free(functions);
  free(file);
  free(samples);
  return 1;
}
