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

#define MASK_BITS 16384
#define WORD_BITS (8 * (int32_t)sizeof(long))

int32_t dlc_rt_current_cpu(void) { return sched_getcpu(); }

void dlc_rt_leave_cpu(int32_t cpu, int64_t num_threads) {
  unsigned long mask[MASK_BITS / WORD_BITS];
  if (cpu < 0 || cpu >= MASK_BITS)
    return;
  /* System calls, as in ThreadCount.c. */
  long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
  int64_t count = 0;
  for (long i = 0; i < bytes / (long)sizeof(long); ++i)
    count += __builtin_popcountl(mask[i]);
  /* Where CPUs have to be shared, the kernel knows better. */
  if (count < num_threads || count < 2)
    return;
  unsigned long bit = 1ul << cpu % WORD_BITS, *word = &mask[cpu / WORD_BITS];
  if (!(*word & bit))
    return;
  *word ^= bit;
  syscall(SYS_sched_setaffinity, 0, (size_t)bytes, mask);
  *word ^= bit;
  syscall(SYS_sched_setaffinity, 0, (size_t)bytes, mask);
}
