/* Where the pool's threads run. The kernel wakes a thread on the CPU where it
 * was last, or on its waker's, and need not look for an idle one when the
 * machine was busy a moment ago: a worker may then share its caller's CPU for
 * tens of milliseconds, while another is idle. A worker that sees this goes
 * elsewhere by itself: it forbids itself the CPU, which moves it at once, and
 * allows it again. It is bound to nothing after that. */
#include "Internal.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BITS (8 * (int32_t)sizeof(long))

/* The system calls themselves: glibc has an old sched_getaffinity with other
 * parameters. */
int64_t dlc_rt_read_affinity(dlc_rt_cpus *cpus) {
  long bytes =
      syscall(SYS_sched_getaffinity, 0, sizeof cpus->words, cpus->words);
  cpus->bytes = bytes > 0 ? (size_t)bytes : 0;
  int64_t count = 0;
  for (size_t i = 0; i < cpus->bytes / sizeof(long); ++i)
    count += __builtin_popcountl(cpus->words[i]);
  return count;
}

static void write_affinity(const dlc_rt_cpus *cpus) {
  syscall(SYS_sched_setaffinity, 0, cpus->bytes, cpus->words);
}

int32_t dlc_rt_current_cpu(void) { return sched_getcpu(); }

void dlc_rt_leave_cpu(int32_t cpu, int64_t num_threads) {
  dlc_rt_cpus cpus;
  int64_t count = dlc_rt_read_affinity(&cpus);
  if (cpu < 0 || cpu >= (int32_t)cpus.bytes * 8)
    return;
  /* Where CPUs have to be shared, the kernel knows better. */
  if (count < num_threads || count < 2)
    return;
  unsigned long bit = 1ul << cpu % WORD_BITS,
                *word = &cpus.words[cpu / WORD_BITS];
  if (!(*word & bit))
    return;
  *word ^= bit;
  write_affinity(&cpus);
  *word ^= bit;
  write_affinity(&cpus);
}
