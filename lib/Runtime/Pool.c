/* The thread pool, one a process. Every artifact carries this code, so the
 * pool's state is a GNU unique symbol: the dynamic linker merges it over all
 * shared objects, even those opened with RTLD_LOCAL, and never unloads the one
 * that provides it. The state begins with a pointer to that object's own code;
 * the others call through it, so worker threads never run code of an object
 * that may be closed. The symbol's name carries the layout's version.
 *
 * One job runs at a time. A second caller, or a task that starts a loop of its
 * own, finds the pool busy and runs its tasks itself: right at any nesting, and
 * no slower once all CPUs work.
 *
 * A job is open while `state` says so. Workers enter by adding themselves to
 * `state` with a compare-and-swap, so that a worker that wakes late either
 * joins in full or sees the job closed; the caller closes it when no task is
 * left and waits for those inside.
 *
 * Every worker has a run of neighbouring tasks of its own, always the same part
 * of them, and takes others' only when these are done (affinity scheduling,
 * Markatos and LeBlanc, "Using processor affinity in loop scheduling on
 * shared-memory multiprocessors", 1994): what a kernel wrote is then mostly
 * read by the CPU that wrote it. A line that another CPU has costs more than
 * one from memory. */
#include "Internal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* How long an idle worker looks for work before it sleeps: to wake it takes
 * some 50 us, and a caller has that much to do between two runs. In time,
 * since a pause takes from 10 to 140 cycles, by the CPU. */
#define SPIN_NS 300000
#define SPINS_PER_LOOK 32

/* state: generation (32) | open (1) | active (31) */
#define OPEN ((uint64_t)1 << 31)
#define ACTIVE_MASK (OPEN - 1)

/* What belongs to a worker: the tasks of the job that it takes first, and
 * whether its thread sleeps. On a cache line of its own. */
typedef struct worker_slot {
  _Atomic int64_t next_task;
  int64_t end_task;
  _Atomic uint32_t asleep; /* the thread waits while this is 1 */
  char pad[44];
} worker_slot;

_Static_assert(sizeof(worker_slot) == 64, "a cache line");

static worker_slot slots[DLC_RT_MAX_WORKERS] __attribute__((aligned(64)));

typedef struct pool_state {
  dlc_parallel_for_fn run; /* code of the object that provides this state */
  char pad0[56];
  /* The job; constant while it is open or has a worker inside. */
  dlc_task_fn fn;
  const dlc_frame *frame;
  _Atomic uint32_t limit; /* threads 1 to this one may enter */
  _Atomic uint32_t waiting;
  _Atomic uint32_t caller_cpu; /* plus 1; 0: not known */
  char pad1[36];
  _Atomic uint64_t state;
  char pad2[56];
  _Atomic uint32_t num_started; /* threads that have their number */
  char pad3[60];
  _Atomic uint32_t busy;
  uint32_t num_threads;  /* guarded by busy */
  _Atomic int32_t owner; /* process that started the threads */
  char pad5[4];
  _Atomic(_Atomic uint32_t *) fork_word; /* zeroed by the kernel in a forked
                                            child; NULL if unsupported */
  char pad6[104];
} pool_state;

_Static_assert(sizeof(pool_state) == 384,
               "the assembly below reserves this size");

/* Defined in assembly because compilers give C objects the plain global
 * binding. */
extern pool_state dlc_pool_abi1 __attribute__((visibility("default")));
__asm__(".pushsection .data.dlc_pool_abi1,\"aw\",%progbits\n"
        ".globl dlc_pool_abi1\n"
        ".type dlc_pool_abi1,%gnu_unique_object\n"
        ".size dlc_pool_abi1, 384\n"
        ".balign 64\n"
        "dlc_pool_abi1:\n"
        ".quad dlc_rt_pool_run\n"
        ".zero 376\n"
        ".popsection\n");

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Whether the time to spin is over; looked at every few of the `spins`. The
 * first look sets *end. Each gives the CPU to a thread that waits for it: that
 * may be the one which is to bring work, or to finish it. */
static bool spun_enough(uint32_t spins, int64_t *end) {
  if (spins % SPINS_PER_LOOK)
    return false;
  int64_t now = now_ns();
  if (!spins)
    *end = now + SPIN_NS;
  else
    sched_yield();
  return now >= *end;
}

/* A worker on the CPU of the caller takes it from there. */
static void make_way(pool_state *pool) {
  int32_t cpu = dlc_rt_current_cpu();
  if (cpu >= 0 &&
      (uint32_t)cpu + 1 ==
          atomic_load_explicit(&pool->caller_cpu, memory_order_relaxed))
    dlc_rt_leave_cpu(cpu, 1 + (int64_t)atomic_load_explicit(
                                  &pool->num_started, memory_order_relaxed));
}

static void run_tasks(pool_state *pool, uint32_t worker) {
  dlc_task_fn fn = pool->fn;
  const dlc_frame *frame = pool->frame;
  uint32_t workers =
      atomic_load_explicit(&pool->limit, memory_order_relaxed) + 1;
  uint32_t from = worker;
  do {
    worker_slot *slot = &slots[from];
    int64_t end = slot->end_task;
    /* Looks before it takes: a finished slot's line then stays shared. */
    while (atomic_load_explicit(&slot->next_task, memory_order_relaxed) < end) {
      int64_t task =
          atomic_fetch_add_explicit(&slot->next_task, 1, memory_order_relaxed);
      if (task >= end)
        break;
      fn(frame, task, worker);
    }
    from = from + 1 < workers ? from + 1 : 0;
    /* The caller closes the job when it has found no task left. */
    if (!(atomic_load_explicit(&pool->state, memory_order_relaxed) & OPEN))
      return;
  } while (from != worker);
}

/* Joins the open job as worker `thread` if it is not the one of generation
 * *seen and has a place for it. */
static bool try_work(pool_state *pool, uint32_t thread, uint32_t *seen) {
  uint64_t state = atomic_load_explicit(&pool->state, memory_order_acquire);
  for (;;) {
    uint32_t generation = (uint32_t)(state >> 32);
    if (!(state & OPEN) || generation == *seen)
      return false;
    if (thread > atomic_load_explicit(&pool->limit, memory_order_relaxed)) {
      *seen = generation;
      return false;
    }
    if (!atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1,
                                               memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    *seen = generation;
    make_way(pool);
    run_tasks(pool, thread);
    uint64_t before =
        atomic_fetch_sub_explicit(&pool->state, 1, memory_order_seq_cst);
    if (!(before & OPEN) && (before & ACTIVE_MASK) == 1 &&
        atomic_exchange_explicit(&pool->waiting, 0, memory_order_seq_cst))
      dlc_rt_futex_wake(&pool->waiting, 1);
    return true;
  }
}

static void *worker_main(void *argument) {
  pool_state *pool = argument;
  uint32_t thread = 1 + atomic_fetch_add_explicit(&pool->num_started, 1,
                                                  memory_order_relaxed);
  uint32_t seen = 0;
  for (;;) {
    int64_t end = 0;
    for (uint32_t spins = 0; !spun_enough(spins, &end); ++spins) {
      if (try_work(pool, thread, &seen))
        spins = UINT32_MAX; /* from the beginning */
      else if (spins % SPINS_PER_LOOK == 0)
        make_way(pool);
      relax();
    }
    /* Announce the sleep before the last look, so that a job published in
     * between either is seen here or ends the wait. */
    atomic_store_explicit(&slots[thread].asleep, 1, memory_order_seq_cst);
    if (!try_work(pool, thread, &seen))
      dlc_rt_futex_wait(&slots[thread].asleep, 1);
    atomic_store_explicit(&slots[thread].asleep, 0, memory_order_relaxed);
  }
  return NULL;
}

/* A forked child has the pool's memory but not its threads. */
static bool is_forked(pool_state *pool) {
  int32_t owner = atomic_load_explicit(&pool->owner, memory_order_acquire);
  if (!owner)
    return false;
  _Atomic uint32_t *word =
      atomic_load_explicit(&pool->fork_word, memory_order_relaxed);
  if (word)
    return atomic_load_explicit(word, memory_order_acquire) == 0;
  return owner != (int32_t)getpid();
}

/* Makes the child's copy usable. Returns false while another thread of the
 * child does it. */
static bool reset_after_fork(pool_state *pool) {
  _Atomic uint32_t *word =
      atomic_load_explicit(&pool->fork_word, memory_order_relaxed);
  int32_t owner = atomic_load_explicit(&pool->owner, memory_order_relaxed);
  if (owner == -1 ||
      !atomic_compare_exchange_strong_explicit(
          &pool->owner, &owner, -1, memory_order_acquire, memory_order_relaxed))
    return false;
  bool stale = word ? atomic_load_explicit(word, memory_order_acquire) == 0
                    : owner != (int32_t)getpid();
  if (!stale) { /* another thread of the child has just finished the reset */
    atomic_store_explicit(&pool->owner, owner, memory_order_release);
    return true;
  }
  for (uint32_t thread = 1; thread <= pool->num_threads; ++thread)
    atomic_store_explicit(&slots[thread].asleep, 0, memory_order_relaxed);
  pool->num_threads = 0;
  atomic_store_explicit(&pool->num_started, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->state,
                        atomic_load(&pool->state) & ~(OPEN | ACTIVE_MASK),
                        memory_order_relaxed);
  atomic_store_explicit(&pool->waiting, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->busy, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->owner, (int32_t)getpid(), memory_order_release);
  if (word)
    atomic_store_explicit(word, 1, memory_order_release);
  return true;
}

/* Notes the process on first use. Needs `busy`. */
static void claim(pool_state *pool) {
  if (atomic_load_explicit(&pool->owner, memory_order_relaxed))
    return;
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page != MAP_FAILED) {
    if (madvise(page, 4096, MADV_WIPEONFORK) == 0) {
      _Atomic uint32_t *word = page;
      atomic_store_explicit(word, 1, memory_order_relaxed);
      atomic_store_explicit(&pool->fork_word, word, memory_order_relaxed);
    } else {
      munmap(page, 4096);
    }
  }
  atomic_store_explicit(&pool->owner, (int32_t)getpid(), memory_order_release);
}

/* Starts threads until there are `wanted`, or as many as the system grants.
 * Needs `busy`. One that is started on this CPU would wait for it while there
 * is work here: it has the CPU for as long as it takes to leave. */
static void grow(pool_state *pool, uint32_t wanted) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all,
                  &old); /* the program's signals are not for workers */
  while (pool->num_threads < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker_main, pool) != 0)
      break;
    pthread_detach(thread);
    ++pool->num_threads;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  int64_t end = 0;
  for (uint32_t spins = 0; !spun_enough(spins, &end); ++spins) {
    if (atomic_load_explicit(&pool->num_started, memory_order_relaxed) ==
        pool->num_threads)
      return;
    relax();
  }
}

static void run_alone(dlc_task_fn fn, const dlc_frame *frame,
                      int64_t num_tasks) {
  for (int64_t task = 0; task < num_tasks; ++task)
    fn(frame, task, 0);
}

static void wait_for_workers(pool_state *pool) {
  int64_t end = 0;
  for (uint32_t spins = 0; !spun_enough(spins, &end); ++spins) {
    if (!(atomic_load_explicit(&pool->state, memory_order_acquire) &
          ACTIVE_MASK))
      return;
    relax();
  }
  for (;;) {
    atomic_store_explicit(&pool->waiting, 1, memory_order_seq_cst);
    if (!(atomic_load_explicit(&pool->state, memory_order_seq_cst) &
          ACTIVE_MASK))
      break;
    dlc_rt_futex_wait(&pool->waiting, 1);
  }
  atomic_store_explicit(&pool->waiting, 0, memory_order_relaxed);
}

/* A dlc_parallel_for_fn over `ctx`, the shared state. */
__attribute__((used)) void dlc_rt_pool_run(void *ctx, dlc_task_fn fn,
                                           const dlc_frame *frame,
                                           int64_t num_tasks,
                                           int64_t num_workers) {
  pool_state *pool = ctx ? ctx : &dlc_pool_abi1;
  int64_t workers = num_workers < num_tasks ? num_workers : num_tasks;
  if (workers > DLC_RT_MAX_WORKERS)
    workers = DLC_RT_MAX_WORKERS;
  if (workers <= 1 || (is_forked(pool) && !reset_after_fork(pool))) {
    run_alone(fn, frame, num_tasks);
    return;
  }
  uint32_t idle = 0;
  if (!atomic_compare_exchange_strong_explicit(
          &pool->busy, &idle, 1, memory_order_acquire, memory_order_relaxed)) {
    run_alone(fn, frame, num_tasks);
    return;
  }
  claim(pool);
  uint32_t wanted = (uint32_t)(workers - 1);
  atomic_store_explicit(&pool->caller_cpu, (uint32_t)dlc_rt_current_cpu() + 1,
                        memory_order_relaxed);
  if (pool->num_threads < wanted)
    grow(pool, wanted);

  pool->fn = fn;
  pool->frame = frame;
  int64_t first = 0;
  for (int64_t w = 0; w < workers; ++w) {
    atomic_store_explicit(&slots[w].next_task, first, memory_order_relaxed);
    first += num_tasks / workers + (w < num_tasks % workers);
    slots[w].end_task = first;
  }
  atomic_store_explicit(&pool->limit, wanted, memory_order_relaxed);
  uint64_t generation =
      (atomic_load_explicit(&pool->state, memory_order_relaxed) >> 32) + 1;
  if ((uint32_t)generation == 0)
    generation = 1; /* 0 is what a new worker has seen */
  atomic_store_explicit(&pool->state, generation << 32 | OPEN,
                        memory_order_seq_cst);
  for (int64_t w = 1; w < workers; ++w)
    if (atomic_load_explicit(&slots[w].asleep, memory_order_seq_cst) &&
        atomic_exchange_explicit(&slots[w].asleep, 0, memory_order_seq_cst))
      dlc_rt_futex_wake(&slots[w].asleep, 1);

  run_tasks(pool, 0);
  atomic_fetch_and_explicit(&pool->state, ~OPEN, memory_order_seq_cst);
  wait_for_workers(pool);
  atomic_store_explicit(&pool->busy, 0, memory_order_release);
}

dlc_parallel_for_fn dlc_rt_pool_function(void) { return dlc_pool_abi1.run; }
