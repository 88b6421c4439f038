// Which functions of the system an artifact may use, and from which library.
// Artifacts are linked on machines without the target's libraries, so stubs
// with these names stand for them. The list is also a promise: whatever is not
// here makes the link fail, so no artifact needs more than libc, libm and
// threads.
#include "SystemLibraries.h"

using namespace llvm;
using namespace dlc;

static const StringRef libc[] = {
    "__errno_location",
    "abort",
    "aligned_alloc",
    "bcmp",
    "calloc",
    "clock_gettime",
    "close",
    "dl_iterate_phdr",
    "exit",
    "free",
    "getauxval",
    "getenv",
    "getpid",
    "lseek",
    "madvise",
    "malloc",
    "memchr",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "mmap",
    "munmap",
    "open",
    "posix_memalign",
    "printf",
    "puts",
    "putchar",
    "qsort",
    "read",
    "readlink",
    "realloc",
    "sched_getcpu",
    "sched_yield",
    "sigfillset",
    "snprintf",
    "strchr",
    "strcmp",
    "strcspn",
    "strerror",
    "strlen",
    "strncmp",
    "strrchr",
    "strstr",
    "syscall",
    "vsnprintf",
    "write",
    "__cxa_finalize",
    "__stack_chk_fail",
};

static const StringRef libpthread[] = {
    "pthread_create",      "pthread_detach",     "pthread_getspecific",
    "pthread_key_create",  "pthread_key_delete", "pthread_once",
    "pthread_setspecific", "pthread_sigmask",
};

static const StringRef libm[] = {
    "acos",    "acosf",     "acosh",      "acoshf",     "asin",
    "asinf",   "asinh",     "asinhf",     "atan",       "atan2",
    "atan2f",  "atanf",     "atanh",      "atanhf",     "cbrt",
    "cbrtf",   "ceil",      "ceilf",      "copysign",   "copysignf",
    "cos",     "cosf",      "cosh",       "coshf",      "erf",
    "erfc",    "erfcf",     "erff",       "exp",        "exp2",
    "exp2f",   "expf",      "expm1",      "expm1f",     "fabs",
    "fabsf",   "floor",     "floorf",     "fma",        "fmaf",
    "fmax",    "fmaxf",     "fmin",       "fminf",      "fmod",
    "fmodf",   "frexp",     "frexpf",     "hypot",      "hypotf",
    "ldexp",   "ldexpf",    "lgamma",     "lgammaf",    "llrint",
    "llrintf", "llround",   "llroundf",   "log",        "log10",
    "log10f",  "log1p",     "log1pf",     "log2",       "log2f",
    "logf",    "lrint",     "lrintf",     "lround",     "lroundf",
    "modf",    "modff",     "nearbyint",  "nearbyintf", "pow",
    "powf",    "remainder", "remainderf", "rint",       "rintf",
    "round",   "roundeven", "roundevenf", "roundf",     "scalbn",
    "scalbnf", "sin",       "sincos",     "sincosf",    "sinf",
    "sinh",    "sinhf",     "sqrt",       "sqrtf",      "tan",
    "tanf",    "tanh",      "tanhf",      "tgamma",     "tgammaf",
    "trunc",   "truncf",
};

static const StringRef libdl[] = {
    "dlclose",
    "dlerror",
    "dlopen",
    "dlsym",
};

ArrayRef<SystemLibrary> dlc::systemLibraries(bool opensDriver) {
  static const SystemLibrary libraries[] = {
      {"libm.so.6", libm},
      {"libpthread.so.0", libpthread},
      {"libc.so.6", libc},
      {"libdl.so.2", libdl},
  };
  return ArrayRef(libraries).drop_back(opensDriver ? 0 : 1);
}
