/* Whether this machine has the instruction sets that a model was compiled for,
 * by LLVM's names. Asked of the CPU itself (x86: CPUID and XGETBV; matrix
 * tiles: also of the kernel) or of the kernel (ARM: the auxiliary vector), and
 * not of compiler builtins: those need libgcc, which artifacts do without. */
#include "Internal.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum saved_state { NONE, YMM, ZMM, TILE, EGPR } saved_state;
typedef enum cpuid_register { EAX, EBX, ECX, EDX } cpuid_register;

typedef struct feature {
  const char *name;
  uint32_t leaf, subleaf;
  cpuid_register reg;
  uint32_t bit;
  saved_state
      state; /* registers that the system must save for programs to use it */
} feature;

static const feature features[] = {
#define DLC_X86_FEATURE(name, leaf, subleaf, reg, bit, state)                  \
  {name, leaf, subleaf, reg, bit, state},
#include "dlc/X86Features.def"
};

/* XCR0: which registers the operating system saves. */
static uint64_t saved_registers(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27))
    return 0;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (uint64_t)d << 32 | a;
}

/* Tiles are large: Linux saves them for processes that have asked before their
 * first use (arch_prctl(2)), and refuses where a signal stack is too small for
 * them. One request holds for all threads; another one does no harm. */
static bool may_use_tiles(void) {
#if defined(__linux__)
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return true;
#endif
}

static bool is_saved(saved_state state) {
  static const uint64_t masks[] = {0, 0x6, 0xe6, 0x60000, 0x80000};
  return (saved_registers() & masks[state]) == masks[state];
}

int dlc_rt_has_feature(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof features / sizeof *features; ++i) {
    const feature *f = &features[i];
    if (strlen(f->name) != length || memcmp(f->name, name, length) != 0)
      continue;
    uint32_t regs[4] = {0};
    if (!__get_cpuid_count(f->leaf, f->subleaf, &regs[EAX], &regs[EBX],
                           &regs[ECX], &regs[EDX]))
      return 0;
    if (f->subleaf == 1 &&
        f->leaf == 7) { /* leaf 7 says how many subleaves it has */
      uint32_t a, b, c, d;
      __cpuid_count(7, 0, a, b, c, d);
      if (a < 1)
        return 0;
    }
    return (regs[f->reg] >> f->bit & 1) &&
           (f->state == NONE || is_saved(f->state)) &&
           (f->state != TILE || may_use_tiles());
  }
  return -1;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

typedef struct feature {
  const char *name;
  unsigned long type, mask;
} feature;

static const feature features[] = {
#define DLC_BIT(n) (1ul << (n))
#define DLC_ARM_FEATURE(name, vector, mask) {name, vector, mask},
#include "dlc/ARMFeatures.def"
};

int dlc_rt_has_feature(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof features / sizeof *features; ++i)
    if (strlen(features[i].name) == length &&
        memcmp(features[i].name, name, length) == 0)
      return (getauxval(features[i].type) & features[i].mask) ==
             features[i].mask;
  return -1;
}

#else
int dlc_rt_has_feature(const char *name, size_t length) {
  (void)name;
  (void)length;
  return -1;
}
#endif

dlc_status dlc_rt_check_features(const char *list, const char *model,
                                 dlc_rt_error error) {
  char missing[512] = "";
  size_t used = 0;
  for (const char *p = list; *p;) {
    size_t length = strcspn(p, ",");
    const char *name = p;
    size_t name_length = length;
    p += length + (p[length] == ',');
    if (name_length && *name == '-')
      continue;
    if (name_length && *name == '+')
      ++name, --name_length;
    if (!name_length)
      continue;
    int has = dlc_rt_has_feature(name, name_length);
    if (has < 0)
      return dlc_rt_fail(error, DLC_UNSUPPORTED_CPU,
                         "model '%s' needs CPU feature '%.*s', which this "
                         "runtime cannot check; use a newer one",
                         model, (int)name_length, name);
    if (has == 0 && used + name_length + 3 < sizeof missing) {
      if (used)
        missing[used++] = ',', missing[used++] = ' ';
      memcpy(missing + used, name, name_length);
      used += name_length;
      missing[used] = 0;
    }
  }
  if (used)
    return dlc_rt_fail(error, DLC_UNSUPPORTED_CPU,
                       "model '%s' needs CPU features that this machine lacks: "
                       "%s; compile it for this machine",
                       model, missing);
  return DLC_OK;
}
