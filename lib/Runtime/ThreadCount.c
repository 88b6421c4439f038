/* How many threads to use when nobody says: DLC_NUM_THREADS, else
 * OMP_NUM_THREADS, else the CPUs in the affinity mask, cut to the CPU quota of
 * the control group. Counting the machine's CPUs instead would start dozens of
 * threads in a container that may use two. */
#include "Internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 512

/* Reads a small file; returns false when there is none. */
static bool read_file(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return false;
  ssize_t n = read(fd, text, size - 1);
  close(fd);
  if (n < 0)
    return false;
  text[n] = 0;
  return true;
}

/* The variable's value when it starts with a positive number ("4" or OpenMP's
 * "4,2"), else 0. */
static int64_t from_environment(const char *name) {
  const char *text = getenv(name);
  if (!text)
    return 0;
  int64_t value = 0;
  const char *p = text;
  for (; *p >= '0' && *p <= '9'; ++p)
    if (value <= DLC_RT_MAX_WORKERS)
      value = value * 10 + (*p - '0');
  return p != text && (*p == 0 || *p == ',') ? value : 0;
}

static int64_t from_affinity(void) {
  dlc_rt_cpus cpus;
  int64_t count = dlc_rt_read_affinity(&cpus);
  return count > 0 ? count : 1;
}

static int64_t quota_to_cpus(int64_t quota, int64_t period, int64_t limit) {
  if (quota <= 0 || period <= 0)
    return limit;
  int64_t cpus = (quota + period - 1) / period;
  return cpus < limit ? cpus : limit;
}

/* Parses a decimal number at *p; returns -1 when there is none ("max"). */
static int64_t parse_number(const char **p) {
  int64_t value = -1;
  while (**p == ' ')
    ++*p;
  for (; **p >= '0' && **p <= '9' && value < ((int64_t)1 << 50); ++*p)
    value = (value < 0 ? 0 : value * 10) + (**p - '0');
  return value;
}

/* Version 2: cpu.max of this process's group and of every group above it. */
static int64_t from_cgroup2(int64_t limit) {
  char groups[4096], path[PATH_SIZE], name[PATH_SIZE + 64], text[64];
  path[0] = 0;
  if (read_file("/proc/self/cgroup", groups, sizeof groups)) {
    const char *line =
        strncmp(groups, "0::", 3) == 0 ? groups : strstr(groups, "\n0::");
    if (line) {
      line = strchr(line, '/');
      size_t length = line ? strcspn(line, "\n") : 0;
      if (length < PATH_SIZE) {
        memcpy(path, line ? line : "", length);
        path[length] = 0;
      }
    }
  }
  for (;;) {
    snprintf(name, sizeof name, "/sys/fs/cgroup%s/cpu.max", path);
    if (read_file(name, text, sizeof text)) {
      const char *p = text;
      int64_t quota = parse_number(&p);
      limit = quota_to_cpus(quota, parse_number(&p), limit);
    }
    char *slash = strrchr(path, '/');
    if (!slash)
      return limit;
    *slash = 0;
  }
}

/* Version 1, as containers mount it. */
static int64_t from_cgroup1(int64_t limit) {
  char quota[64], period[64];
  if (!read_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof quota) ||
      !read_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof period))
    return limit;
  const char *q = quota, *p = period;
  int64_t q_value = parse_number(&q);
  return quota_to_cpus(q_value, parse_number(&p), limit);
}

int64_t dlc_rt_default_num_threads(void) {
  int64_t count = from_environment("DLC_NUM_THREADS");
  if (!count)
    count = from_environment("OMP_NUM_THREADS");
  if (!count)
    count = from_cgroup1(from_cgroup2(from_affinity()));
  return count < DLC_RT_MAX_WORKERS ? count : DLC_RT_MAX_WORKERS;
}
