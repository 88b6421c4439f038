/* Whether this machine has the instruction sets that a model was compiled for, by LLVM's
 * names. Asked of the CPU itself (x86: CPUID and XGETBV) or of the kernel (ARM: the auxiliary
 * vector), and not of compiler builtins: those need libgcc, which artifacts do without. */
#include "Internal.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

typedef enum saved_state { NONE, YMM, ZMM, TILE, EGPR } saved_state;
typedef enum cpuid_register { EAX, EBX, ECX, EDX } cpuid_register;

typedef struct feature {
  const char *name;
  uint32_t leaf, subleaf;
  cpuid_register reg;
  uint32_t bit;
  saved_state state; /* registers that the system must save for programs to use it */
} feature;

static const feature features[] = {
    {"x87", 1, 0, EDX, 0, NONE},
    {"cx8", 1, 0, EDX, 8, NONE},
    {"cmov", 1, 0, EDX, 15, NONE},
    {"mmx", 1, 0, EDX, 23, NONE},
    {"fxsr", 1, 0, EDX, 24, NONE},
    {"sse", 1, 0, EDX, 25, NONE},
    {"sse2", 1, 0, EDX, 26, NONE},
    {"sse3", 1, 0, ECX, 0, NONE},
    {"pclmul", 1, 0, ECX, 1, NONE},
    {"ssse3", 1, 0, ECX, 9, NONE},
    {"fma", 1, 0, ECX, 12, YMM},
    {"cx16", 1, 0, ECX, 13, NONE},
    {"sse4.1", 1, 0, ECX, 19, NONE},
    {"sse4.2", 1, 0, ECX, 20, NONE},
    {"crc32", 1, 0, ECX, 20, NONE},
    {"movbe", 1, 0, ECX, 22, NONE},
    {"popcnt", 1, 0, ECX, 23, NONE},
    {"aes", 1, 0, ECX, 25, NONE},
    {"xsave", 1, 0, ECX, 27, NONE},
    {"avx", 1, 0, ECX, 28, YMM},
    {"f16c", 1, 0, ECX, 29, YMM},
    {"rdrnd", 1, 0, ECX, 30, NONE},
    {"sahf", 0x80000001, 0, ECX, 0, NONE},
    {"lzcnt", 0x80000001, 0, ECX, 5, NONE},
    {"sse4a", 0x80000001, 0, ECX, 6, NONE},
    {"prfchw", 0x80000001, 0, ECX, 8, NONE},
    {"xop", 0x80000001, 0, ECX, 11, YMM},
    {"lwp", 0x80000001, 0, ECX, 15, NONE},
    {"fma4", 0x80000001, 0, ECX, 16, YMM},
    {"tbm", 0x80000001, 0, ECX, 21, NONE},
    {"mwaitx", 0x80000001, 0, ECX, 29, NONE},
    {"64bit", 0x80000001, 0, EDX, 29, NONE},
    {"clzero", 0x80000008, 0, EBX, 0, NONE},
    {"rdpru", 0x80000008, 0, EBX, 4, NONE},
    {"wbnoinvd", 0x80000008, 0, EBX, 9, NONE},
    {"fsgsbase", 7, 0, EBX, 0, NONE},
    {"sgx", 7, 0, EBX, 2, NONE},
    {"bmi", 7, 0, EBX, 3, NONE},
    {"avx2", 7, 0, EBX, 5, YMM},
    {"bmi2", 7, 0, EBX, 8, NONE},
    {"invpcid", 7, 0, EBX, 10, NONE},
    {"rtm", 7, 0, EBX, 11, NONE},
    {"avx512f", 7, 0, EBX, 16, ZMM},
    {"avx512dq", 7, 0, EBX, 17, ZMM},
    {"rdseed", 7, 0, EBX, 18, NONE},
    {"adx", 7, 0, EBX, 19, NONE},
    {"avx512ifma", 7, 0, EBX, 21, ZMM},
    {"clflushopt", 7, 0, EBX, 23, NONE},
    {"clwb", 7, 0, EBX, 24, NONE},
    {"avx512cd", 7, 0, EBX, 28, ZMM},
    {"sha", 7, 0, EBX, 29, NONE},
    {"avx512bw", 7, 0, EBX, 30, ZMM},
    {"avx512vl", 7, 0, EBX, 31, ZMM},
    {"avx512vbmi", 7, 0, ECX, 1, ZMM},
    {"pku", 7, 0, ECX, 4, NONE},
    {"waitpkg", 7, 0, ECX, 5, NONE},
    {"avx512vbmi2", 7, 0, ECX, 6, ZMM},
    {"shstk", 7, 0, ECX, 7, NONE},
    {"gfni", 7, 0, ECX, 8, NONE},
    {"vaes", 7, 0, ECX, 9, YMM},
    {"vpclmulqdq", 7, 0, ECX, 10, YMM},
    {"avx512vnni", 7, 0, ECX, 11, ZMM},
    {"avx512bitalg", 7, 0, ECX, 12, ZMM},
    {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM},
    {"rdpid", 7, 0, ECX, 22, NONE},
    {"kl", 7, 0, ECX, 23, NONE},
    {"cldemote", 7, 0, ECX, 25, NONE},
    {"movdiri", 7, 0, ECX, 27, NONE},
    {"movdir64b", 7, 0, ECX, 28, NONE},
    {"enqcmd", 7, 0, ECX, 29, NONE},
    {"uintr", 7, 0, EDX, 5, NONE},
    {"avx512vp2intersect", 7, 0, EDX, 8, ZMM},
    {"serialize", 7, 0, EDX, 14, NONE},
    {"tsxldtrk", 7, 0, EDX, 16, NONE},
    {"pconfig", 7, 0, EDX, 18, NONE},
    {"amx-bf16", 7, 0, EDX, 22, TILE},
    {"avx512fp16", 7, 0, EDX, 23, ZMM},
    {"amx-tile", 7, 0, EDX, 24, TILE},
    {"amx-int8", 7, 0, EDX, 25, TILE},
    {"sha512", 7, 1, EAX, 0, YMM},
    {"sm3", 7, 1, EAX, 1, YMM},
    {"sm4", 7, 1, EAX, 2, YMM},
    {"raoint", 7, 1, EAX, 3, NONE},
    {"avxvnni", 7, 1, EAX, 4, YMM},
    {"avx512bf16", 7, 1, EAX, 5, ZMM},
    {"cmpccxadd", 7, 1, EAX, 7, NONE},
    {"amx-fp16", 7, 1, EAX, 21, TILE},
    {"hreset", 7, 1, EAX, 22, NONE},
    {"avxifma", 7, 1, EAX, 23, YMM},
    {"avxvnniint8", 7, 1, EDX, 4, YMM},
    {"avxneconvert", 7, 1, EDX, 5, YMM},
    {"amx-complex", 7, 1, EDX, 8, TILE},
    {"avxvnniint16", 7, 1, EDX, 10, YMM},
    {"prefetchi", 7, 1, EDX, 14, NONE},
    {"usermsr", 7, 1, EDX, 15, NONE},
    {"avx10.1", 7, 1, EDX, 19, ZMM},
    {"egpr", 7, 1, EDX, 21, EGPR},
    {"xsaveopt", 0xd, 1, EAX, 0, NONE},
    {"xsavec", 0xd, 1, EAX, 1, NONE},
    {"xsaves", 0xd, 1, EAX, 3, NONE},
    {"ptwrite", 0x14, 0, EBX, 4, NONE},
    {"widekl", 0x19, 0, EBX, 2, NONE},
};

/* XCR0: which registers the operating system saves. */
static uint64_t saved_registers(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27))
    return 0;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (uint64_t)d << 32 | a;
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
    if (!__get_cpuid_count(f->leaf, f->subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]))
      return 0;
    if (f->subleaf == 1 && f->leaf == 7) { /* leaf 7 says how many subleaves it has */
      uint32_t a, b, c, d;
      __cpuid_count(7, 0, a, b, c, d);
      if (a < 1)
        return 0;
    }
    return (regs[f->reg] >> f->bit & 1) && (f->state == NONE || is_saved(f->state));
  }
  return -1;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

typedef struct feature {
  const char *name;
  unsigned long type, mask;
} feature;

#define BIT(n) (1ul << (n))

static const feature features[] = {
    {"fp-armv8", AT_HWCAP, BIT(0)},
    {"neon", AT_HWCAP, BIT(1)},
    {"aes", AT_HWCAP, BIT(3) | BIT(4)},
    {"sha2", AT_HWCAP, BIT(5) | BIT(6)},
    {"crc", AT_HWCAP, BIT(7)},
    {"lse", AT_HWCAP, BIT(8)},
    {"fullfp16", AT_HWCAP, BIT(9) | BIT(10)},
    {"rdm", AT_HWCAP, BIT(12)},
    {"jsconv", AT_HWCAP, BIT(13)},
    {"complxnum", AT_HWCAP, BIT(14)},
    {"rcpc", AT_HWCAP, BIT(15)},
    {"sha3", AT_HWCAP, BIT(17) | BIT(21)},
    {"sm4", AT_HWCAP, BIT(18) | BIT(19)},
    {"dotprod", AT_HWCAP, BIT(20)},
    {"sve", AT_HWCAP, BIT(22)},
    {"fp16fml", AT_HWCAP, BIT(23)},
    {"rcpc-immo", AT_HWCAP, BIT(26)},
    {"flagm", AT_HWCAP, BIT(27)},
    {"sve2", AT_HWCAP2, BIT(1)},
    {"sve2-aes", AT_HWCAP2, BIT(2) | BIT(3)},
    {"sve-aes", AT_HWCAP2, BIT(2) | BIT(3)},
    {"sve2-bitperm", AT_HWCAP2, BIT(4)},
    {"sve2-sha3", AT_HWCAP2, BIT(5)},
    {"sve2-sm4", AT_HWCAP2, BIT(6)},
    {"altnzcv", AT_HWCAP2, BIT(7)},
    {"fptoint", AT_HWCAP2, BIT(8)},
    {"f32mm", AT_HWCAP2, BIT(10)},
    {"f64mm", AT_HWCAP2, BIT(11)},
    {"i8mm", AT_HWCAP2, BIT(13)},
    {"bf16", AT_HWCAP2, BIT(14)},
    {"rand", AT_HWCAP2, BIT(16)},
    {"bti", AT_HWCAP2, BIT(17)},
    {"mte", AT_HWCAP2, BIT(18)},
    {"sme", AT_HWCAP2, BIT(23)},
    {"sve2p1", AT_HWCAP2, BIT(36)},
    {"sme2", AT_HWCAP2, BIT(37)},
};

int dlc_rt_has_feature(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof features / sizeof *features; ++i)
    if (strlen(features[i].name) == length && memcmp(features[i].name, name, length) == 0)
      return (getauxval(features[i].type) & features[i].mask) == features[i].mask;
  return -1;
}

#else
int dlc_rt_has_feature(const char *name, size_t length) {
  (void)name;
  (void)length;
  return -1;
}
#endif

dlc_status dlc_rt_check_features(const char *list, const char *model, dlc_rt_error error) {
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
#if defined(__x86_64__)
    if (has < 0)
      return dlc_rt_fail(error, DLC_UNSUPPORTED_CPU,
                         "model '%s' needs CPU feature '%.*s', which this runtime cannot check; use a newer one", model,
                         (int)name_length, name);
#endif
    /* ARM's list also holds architecture levels and system features that no program executes. */
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
                       "model '%s' needs CPU features that this machine lacks: %s; compile it for this machine", model,
                       missing);
  return DLC_OK;
}
