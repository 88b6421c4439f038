// The thread pool: every task once, distinct workers, nesting, callers from
// several threads, forked children, and the counting of threads.
#include "dlc/runtime.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <sched.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

// Internals of the runtime; its own header is C only.
extern "C" {
dlc_parallel_for_fn dlc_rt_pool_function(void);
int64_t dlc_rt_default_num_threads(void);
void dlc_rt_leave_cpu(int32_t cpu, int64_t num_threads);
}

namespace {
/// Counts how often each task ran and whether a worker number was used twice
/// at a time.
struct Record {
  explicit Record(int64_t tasks, int64_t workers)
      : runs(tasks), inUse(workers), maxWorkers(workers) {
    buffers[0] = this;
    frame.buffers = buffers;
  }
  static void task(const dlc_frame *frame, int64_t task, int64_t worker) {
    auto *self = static_cast<Record *>(frame->buffers[0]);
    if (worker < 0 || worker >= self->maxWorkers || self->inUse[worker]++) {
      ++self->clashes;
      return;
    }
    ++self->runs[task];
    --self->inUse[worker];
  }
  bool onceEach() const {
    for (const auto &n : runs)
      if (n != 1)
        return false;
    return clashes == 0;
  }
  std::vector<std::atomic<int>> runs, inUse;
  int64_t maxWorkers;
  std::atomic<int> clashes{0};
  void *buffers[1];
  dlc_frame frame = {};
};

void parallelFor(dlc_task_fn fn, const dlc_frame *frame, int64_t tasks,
                 int64_t workers) {
  dlc_rt_pool_function()(nullptr, fn, frame, tasks, workers);
}
} // namespace

TEST(Pool, EveryTaskOnce) {
  for (int64_t workers : {1, 2, 3, 8})
    for (int64_t tasks : {0, 1, 2, 5, 100, 1000})
      for (int repeat = 0; repeat < 20; ++repeat) {
        Record record(tasks, workers);
        parallelFor(Record::task, &record.frame, tasks, workers);
        ASSERT_TRUE(record.onceEach()) << workers << ' ' << tasks;
      }
}

TEST(Pool, SeveralThreadsWork) {
  // Two tasks that wait for each other finish only when both run at a time.
  struct Meet {
    std::atomic<int> here{0};
    static void task(const dlc_frame *frame, int64_t, int64_t) {
      auto *self = static_cast<Meet *>(frame->buffers[0]);
      ++self->here;
      while (self->here < 2)
        std::this_thread::yield();
    }
  } meet;
  void *buffers[1] = {&meet};
  dlc_frame frame = {};
  frame.buffers = buffers;
  parallelFor(Meet::task, &frame, 2, 2);
  EXPECT_EQ(meet.here, 2);
}

TEST(Pool, WorkersStartWithTasksOfTheirOwn) {
  // Workers hold on at their first task until all have one.
  struct Starts {
    std::atomic<int> begun{0};
    std::vector<std::atomic<int64_t>> workerOf =
        std::vector<std::atomic<int64_t>>(12);
    static void task(const dlc_frame *frame, int64_t task, int64_t worker) {
      auto *self = static_cast<Starts *>(frame->buffers[0]);
      self->workerOf[task] = worker;
      if (++self->begun > 3)
        return;
      while (self->begun < 3)
        std::this_thread::yield();
    }
  };
  for (int repeat = 0; repeat < 20; ++repeat) {
    Starts starts;
    for (auto &worker : starts.workerOf)
      worker = -1;
    void *buffers[1] = {&starts};
    dlc_frame frame = {};
    frame.buffers = buffers;
    parallelFor(Starts::task, &frame, 12, 3);
    EXPECT_EQ(starts.workerOf[0], 0);
    EXPECT_EQ(starts.workerOf[4], 1);
    EXPECT_EQ(starts.workerOf[8], 2);
  }
}

TEST(Pool, WorkersTakeOthersTasks) {
  // The first task of one worker lasts until all other tasks are done.
  struct Long {
    std::atomic<int> done{0};
    static void task(const dlc_frame *frame, int64_t task, int64_t) {
      auto *self = static_cast<Long *>(frame->buffers[0]);
      while (task == 0 && self->done < 9)
        std::this_thread::yield();
      ++self->done;
    }
  } tasks;
  void *buffers[1] = {&tasks};
  dlc_frame frame = {};
  frame.buffers = buffers;
  parallelFor(Long::task, &frame, 10, 2);
  EXPECT_EQ(tasks.done, 10);
}

TEST(Pool, FewerAndMoreWorkersInTurn) {
  for (int repeat = 0; repeat < 200; ++repeat) {
    int64_t workers = 2 + repeat % 7;
    Record record(50, workers);
    parallelFor(Record::task, &record.frame, 50, workers);
    ASSERT_TRUE(record.onceEach());
  }
}

TEST(Pool, WorkersSleepAndWake) {
  for (int i = 0; i < 5; ++i) {
    usleep(20000); // longer than the workers spin
    Record record(50, 4);
    parallelFor(Record::task, &record.frame, 50, 4);
    ASSERT_TRUE(record.onceEach());
  }
}

TEST(Pool, Nested) {
  struct Outer {
    std::atomic<int> good{0};
    static void task(const dlc_frame *frame, int64_t, int64_t) {
      Record inner(10, 4);
      parallelFor(Record::task, &inner.frame, 10, 4);
      static_cast<Outer *>(frame->buffers[0])->good += inner.onceEach();
    }
  } outer;
  void *buffers[1] = {&outer};
  dlc_frame frame = {};
  frame.buffers = buffers;
  parallelFor(Outer::task, &frame, 20, 4);
  EXPECT_EQ(outer.good, 20);
}

TEST(Pool, SeveralCallers) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        Record record(17, 3);
        parallelFor(Record::task, &record.frame, 17, 3);
        good += record.onceEach();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(good, 6 * 200);
}

namespace {
/// Binds the calling thread to one CPU, or to all that it had.
struct Affinity {
  Affinity() { sched_getaffinity(0, sizeof all, &all); }
  ~Affinity() { sched_setaffinity(0, sizeof all, &all); }
  static void bind(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  int count() const { return CPU_COUNT(&all); }
  cpu_set_t all;
};
} // namespace

TEST(Pool, LeavesACpu) {
  Affinity allowed;
  if (allowed.count() < 2)
    GTEST_SKIP() << "one CPU";
  int cpu = sched_getcpu();
  dlc_rt_leave_cpu(cpu, allowed.count());
  EXPECT_NE(sched_getcpu(), cpu);
  cpu_set_t now;
  sched_getaffinity(0, sizeof now, &now);
  EXPECT_TRUE(CPU_EQUAL(&now, &allowed.all)); // bound to nothing
  // More threads than CPUs have to share some.
  Affinity::bind(cpu);
  dlc_rt_leave_cpu(cpu, 1);
  EXPECT_EQ(sched_getcpu(), cpu);
}

TEST(Pool, WorkersLeaveTheCallersCpu) {
  Affinity allowed;
  // Other tests have started threads, for which there may be no CPUs.
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2)
      GTEST_SKIP() << "one CPU";
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return;
  }
  if (allowed.count() < 2)
    _exit(2);
  alarm(20);
  // Two tasks that wait for each other: each thread has one.
  struct Meet {
    explicit Meet(int cpu) : to(cpu) {}
    int to; ///< where the worker is put at the end, or -1
    std::atomic<int> here{0};
    std::atomic<int> at[2] = {};
    static void task(const dlc_frame *frame, int64_t, int64_t worker) {
      auto *self = static_cast<Meet *>(frame->buffers[0]);
      self->at[worker] = sched_getcpu();
      ++self->here;
      while (self->here < 2)
        std::this_thread::yield();
      if (worker == 0 || self->to < 0)
        return;
      Affinity own;
      Affinity::bind(self->to);
    }
    void run() {
      void *buffers[1] = {this};
      dlc_frame frame = {};
      frame.buffers = buffers;
      parallelFor(task, &frame, 2, 2);
    }
  };
  Meet(-1).run(); // starts the worker, which is bound to nothing
  int cpu = sched_getcpu(), shared = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    Affinity::bind(cpu);
    Meet(cpu).run();
    Meet meet(-1);
    meet.run();
    shared += meet.at[1] == cpu;
  }
  _exit(shared ? 1 : 0);
}

TEST(Pool, ForkedChild) {
  Record before(50, 4);
  parallelFor(Record::task, &before.frame, 50, 4);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20); // a hang must not outlive the test
    // The child's pool has no threads yet; two tasks that wait for each other
    // show that it starts its own.
    std::atomic<int> here{0};
    void *buffers[1] = {&here};
    dlc_frame frame = {};
    frame.buffers = buffers;
    parallelFor(
        [](const dlc_frame *f, int64_t, int64_t) {
          auto *count = static_cast<std::atomic<int> *>(f->buffers[0]);
          ++*count;
          while (*count < 2)
            std::this_thread::yield();
        },
        &frame, 2, 2);
    Record record(100, 4);
    parallelFor(Record::task, &record.frame, 100, 4);
    _exit(record.onceEach() ? 7 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  Record after(50, 4);
  parallelFor(Record::task, &after.frame, 50, 4);
  EXPECT_TRUE(after.onceEach());
}

TEST(ThreadCount, Environment) {
  setenv("OMP_NUM_THREADS", "5,2", 1);
  EXPECT_EQ(dlc_rt_default_num_threads(), 5);
  setenv("DLC_NUM_THREADS", "3", 1);
  EXPECT_EQ(dlc_rt_default_num_threads(), 3);
  setenv("DLC_NUM_THREADS", "many", 1);
  EXPECT_EQ(dlc_rt_default_num_threads(), 5);
  setenv("OMP_NUM_THREADS", "0", 1);
  setenv("DLC_NUM_THREADS", "99999999999999999999", 1);
  EXPECT_EQ(dlc_rt_default_num_threads(), 1024);
  unsetenv("OMP_NUM_THREADS");
  unsetenv("DLC_NUM_THREADS");
  EXPECT_GE(dlc_rt_default_num_threads(), 1);
}
