/* Small things every other file of the runtime needs: error text, memory, a
 * lock. The lock is a futex rather than a pthread mutex because artifacts are
 * linked against unversioned libc symbols, and glibc keeps incompatible old
 * versions of some pthread functions. */
#include "Internal.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

dlc_status dlc_rt_fail(dlc_rt_error error, dlc_status status,
                       const char *format, ...) {
  if (error.text && error.size) {
    va_list args;
    va_start(args, format);
    vsnprintf(error.text, error.size, format, args);
    va_end(args);
  }
  return status;
}

void *dlc_rt_default_alloc(void *ctx, size_t size, size_t alignment) {
  (void)ctx;
  if (size < HUGE_PAGE) {
    void *pointer = NULL;
    return posix_memalign(&pointer, alignment, size ? size : 1) == 0 ? pointer
                                                                     : NULL;
  }
  /* Huge pages need an aligned region: map too much, give back both ends. */
  if (size > SIZE_MAX - 2 * HUGE_PAGE)
    return NULL;
  size_t length = (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
  char *base = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    return NULL;
  char *start =
      (char *)(((uintptr_t)base + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  if (start != base)
    munmap(base, (size_t)(start - base));
  size_t tail = HUGE_PAGE - (size_t)(start - base);
  if (tail)
    munmap(start + length, tail);
  madvise(start, length, MADV_HUGEPAGE);
  return start;
}

void dlc_rt_default_free(void *ctx, void *pointer, size_t size) {
  (void)ctx;
  if (!pointer)
    return;
  if (size < HUGE_PAGE)
    free(pointer);
  else
    munmap(pointer, (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
}

void dlc_rt_futex_wait(_Atomic uint32_t *word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void dlc_rt_futex_wake(_Atomic uint32_t *word, uint32_t count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE,
          count > INT_MAX ? INT_MAX : count, NULL, NULL, 0);
}

void dlc_rt_lock_acquire(dlc_rt_lock *lock) {
  uint32_t free = 0;
  if (atomic_compare_exchange_strong_explicit(
          &lock->word, &free, 1, memory_order_acquire, memory_order_relaxed))
    return;
  while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
    dlc_rt_futex_wait(&lock->word, 2);
}

void dlc_rt_lock_release(dlc_rt_lock *lock) {
  if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
    dlc_rt_futex_wake(&lock->word, 1);
}
