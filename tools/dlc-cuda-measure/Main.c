/* dlc-cuda-measure FOLDER: verifies and measures the candidates of a bundle
 * that `dlc-tune bundle -target=cuda` made, on a machine that needs nothing but
 * the CUDA driver. Each trial is a process: what crashes or hangs is a result.
 * What was found goes to FOLDER/results.jsonl, which `dlc-tune import FOLDER`
 * reads; times of cuBLAS and cuDNN, where there are such, to peers.jsonl. */
#include "Measure.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const kStatus[] = {"ok", "compile", "wrong", "timeout",
                                      "crash"};

typedef struct settings {
  const char *folder, *driver, *output, *kernel;
  unsigned samples, seconds;
  bool any_device, no_peers;
} settings;

static void help(void) {
  puts("dlc-cuda-measure FOLDER [options]\n"
       "  -driver=<path>   the CUDA driver (default: $DLC_CUDA_DRIVER, or "
       "libcuda.so.1)\n"
       "  -o <file>        records (default: FOLDER/results.jsonl)\n"
       "  -samples=<n>     of a candidate (default: 9; the two best again with "
       "twice as many and 2)\n"
       "  -timeout=<s>     of a trial (default: 60)\n"
       "  -kernel=<text>   only kernels whose name has this in it\n"
       "  -any-device      also on a GPU that is not the bundle's\n"
       "  -no-peers        without cuBLAS and cuDNN (which $DLC_CUBLAS and "
       "$DLC_CUDNN name)\n"
       "EXIT CODES:  0 done, 1 a candidate is wrong, 2 bad usage, 5 no such "
       "device");
}

static bool read_number(const char *text, unsigned most, unsigned *out) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  *out = (unsigned)value;
  return *text && !*end && value >= 1 && value <= most;
}

static bool read_settings(int argc, char **argv, settings *s) {
  memset(s, 0, sizeof *s);
  s->samples = 9;
  s->seconds = 60;
  s->driver = getenv("DLC_CUDA_DRIVER");
  if (!s->driver || !*s->driver)
    s->driver = "libcuda.so.1";
  for (int i = 1; i < argc; ++i) {
    const char *a = argv[i];
    if (*a == '-' && a[1] == '-')
      ++a;
    if (!strncmp(a, "-driver=", 8))
      s->driver = a + 8;
    else if (!strcmp(a, "-o") && i + 1 < argc)
      s->output = argv[++i];
    else if (!strncmp(a, "-kernel=", 8))
      s->kernel = a + 8;
    else if (!strcmp(a, "-any-device"))
      s->any_device = true;
    else if (!strcmp(a, "-no-peers"))
      s->no_peers = true;
    else if (!strncmp(a, "-samples=", 9)) {
      if (!read_number(a + 9, DLC_MOST_SAMPLES, &s->samples))
        return false;
    } else if (!strncmp(a, "-timeout=", 9)) {
      if (!read_number(a + 9, 86400, &s->seconds))
        return false;
    } else if (*a != '-' && !s->folder)
      s->folder = a;
    else
      return false;
  }
  return s->folder != NULL;
}

/* Whether the name of a description stands in that of the device: "h100" in
 * "NVIDIA H100 80GB HBM3". */
static bool is_named(const char *device, const char *wanted) {
  char name[128];
  size_t used = 0;
  for (; *device && used + 1 < sizeof name; ++device)
    if (isalnum((unsigned char)*device))
      name[used++] = (char)tolower((unsigned char)*device);
  name[used] = 0;
  const char *found = strstr(name, wanted);
  return (found && !isdigit((unsigned char)found[strlen(wanted)])) ||
         !strcmp(name, "emulatedgpu");
}

/* What runs in another process, and how long it may take. */
static bool ask(const settings *s, const bundle *b, const kernel *k,
                const candidate *c, unsigned samples, report *r, char *name,
                unsigned *arch) {
  memset(r, 0, sizeof *r);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    alarm(s->seconds + 5); /* should the parent be gone */
    if (k) {
      run_trial(b, k, c, s->driver, samples, r);
    } else {
      bool found =
          find_device(s->driver, name, 96, arch, r->reason, sizeof r->reason);
      r->status = found ? TRIAL_OK : TRIAL_CRASH;
      r->is_done = 1;
    }
    _exit(0);
  }
  if (child < 0) {
    r->status = TRIAL_CRASH;
    snprintf(r->reason, sizeof r->reason, "no process can be started");
    return false;
  }
  int status = 0;
  for (unsigned waited = 0;; ++waited) {
    if (waitpid(child, &status, WNOHANG) == child)
      break;
    if (waited >= s->seconds * 1000) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      r->status = TRIAL_TIMEOUT;
      snprintf(r->reason, sizeof r->reason, "more than %u s", s->seconds);
      return false;
    }
    usleep(1000);
  }
  if (!r->is_done) {
    r->status = TRIAL_CRASH;
    snprintf(r->reason, sizeof r->reason,
             WIFSIGNALED(status) ? "signal %d" : "it ended with %d",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  }
  return r->status == TRIAL_OK;
}

static int by_value(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return a < b ? -1 : a > b;
}

static void fastest(const double *values, unsigned count, double *least,
                    double *median) {
  double sorted[DLC_MOST_SAMPLES];
  memcpy(sorted, values, count * sizeof *values);
  qsort(sorted, count, sizeof *sorted, by_value);
  *least = sorted[0];
  *median = sorted[count / 2];
}

/* The slower of both ratios to the reference, as lookup sees it. */
static double ratio_of(const report *r) {
  double least, median, reference_least, reference_median;
  fastest(r->candidate_ns, r->samples, &least, &median);
  fastest(r->reference_ns, r->samples, &reference_least, &reference_median);
  double a = least / reference_least, b = median / reference_median;
  return a > b ? a : b;
}

static void print_text(FILE *file, const char *text) {
  fputc('"', file);
  for (; *text; ++text)
    if (*text == '"' || *text == '\\')
      fprintf(file, "\\%c", *text);
    else if ((unsigned char)*text >= 32)
      fputc(*text, file);
  fputc('"', file);
}

static void print_samples(FILE *file, const char *name, const double *values,
                          unsigned count) {
  fprintf(file, ",\"%s\":[", name);
  for (unsigned i = 0; i < count; ++i)
    fprintf(file, "%s%.1f", i ? "," : "", values[i] > 0.1 ? values[i] : 0.1);
  fprintf(file, "]");
}

/* A line of the tuning database's schema. */
static void print_record(FILE *file, const bundle *b, const kernel *k,
                         const candidate *c, unsigned attempt,
                         const report *r) {
  fprintf(file,
          "{\"schema_version\":%d,\"target\":%s,\"workload\":%s,"
          "\"schedule\":%s,\"trial\":{\"status\":\"%s\"",
          b->schema, b->target, k->workload, c->schedule, kStatus[r->status]);
  if (r->status == TRIAL_OK) {
    double least, median;
    fastest(r->reference_ns, r->samples, &least, &median);
    print_samples(file, "samples_ns", r->candidate_ns, r->samples);
    print_samples(file, "reference_ns", r->reference_ns, r->samples);
    fprintf(file, ",\"clock\":\"wall\",\"drift\":%.4f", median / least - 1);
  } else {
    fprintf(file, ",\"reason\":");
    print_text(file, r->reason);
  }
  fprintf(file,
          ",\"default\":%s,\"run\":", c == k->candidates ? "true" : "false");
  print_text(file, b->run);
  fprintf(file,
          ",\"round\":0,\"attempt\":%u,\"seed\":0,\"codegen\":%d,\"compiler\":",
          attempt, b->codegen);
  print_text(file, b->compiler);
  fprintf(file, ",\"utc\":%lld}}\n", (long long)time(NULL));
  fflush(file);
}

/* A library's time over the default's and over the best one's (above 1: dlc is
 * faster). Where the kernel does more, the library has less to do; else this is
 * a trial of it, for `dlc-tune eval -gaps`. */
static void measure_library(const settings *s, const bundle *b, const kernel *k,
                            double best, report *r, FILE *out, FILE *peers) {
  const char *name = peer_name(&k->other);
  static bool told[3]; /* that there is none, by kind */
  if (!ask(s, b, k, NULL, s->samples, r, NULL, NULL)) {
    if (r->status == TRIAL_ABSENT && told[k->other.kind])
      return;
    told[k->other.kind] |= r->status == TRIAL_ABSENT;
    fprintf(stderr, "%s: no ratio to %s: %s\n", k->name, name, r->reason);
    return;
  }
  double ratio = ratio_of(r);
  printf("%s: %s%s / default = %.2f, / best = %.2f\n", k->name, name,
         k->other.alone ? "" : " (the product alone)", ratio, ratio / best);
  fprintf(peers, "{\"kernel\":");
  print_text(peers, k->name);
  fprintf(peers, ",\"workload\":%s,\"peer\":\"%s\",\"alone\":%s", k->workload,
          name, k->other.alone ? "true" : "false");
  print_samples(peers, "samples_ns", r->candidate_ns, r->samples);
  print_samples(peers, "reference_ns", r->reference_ns, r->samples);
  fprintf(peers, ",\"over_default\":%.4f,\"over_best\":%.4f}\n", ratio,
          ratio / best);
  if (k->other.alone) {
    char schedule[80];
    snprintf(schedule, sizeof schedule, "{\"nest\":\"library\",\"%s\":%lld}",
             k->other.kind == PEER_PRODUCT ? "cublas" : "cudnn", r->version);
    candidate library = {.schedule = schedule};
    print_record(out, b, k, &library, 0, r);
  }
  fflush(NULL);
}

/* How many candidates were wrong. */
static unsigned measure_kernel(const settings *s, const bundle *b,
                               const kernel *k, report *r, FILE *out,
                               FILE *peers) {
  double ratios[DLC_MOST_CANDIDATES], default_ns = 0;
  unsigned counts[5] = {0};
  for (unsigned i = 0; i < k->num_candidates; ++i) {
    const candidate *c = &k->candidates[i];
    bool good = ask(s, b, k, c, s->samples, r, NULL, NULL);
    ratios[i] = good ? ratio_of(r) : 1e30;
    ++counts[r->status];
    print_record(out, b, k, c, 0, r);
    double median;
    if (good && i == 0)
      fastest(r->reference_ns, r->samples, &default_ns, &median);
    if (!good)
      fprintf(stderr, "%s: %s is %s: %s\n", k->name, c->schedule,
              kStatus[r->status], r->reason);
  }
  /* The best of many is partly luck: the two fastest, once more. */
  unsigned winner = 0, more = 2 * s->samples + 2;
  if (more > DLC_MOST_SAMPLES)
    more = DLC_MOST_SAMPLES;
  double best = 1;
  for (unsigned again = 0; again < 2; ++again) {
    unsigned next = 0;
    for (unsigned i = 1; i < k->num_candidates; ++i)
      if (ratios[i] < 1 && (!next || ratios[i] < ratios[next]))
        next = i;
    if (!next)
      break;
    const candidate *c = &k->candidates[next];
    bool good = ask(s, b, k, c, more, r, NULL, NULL);
    double ratio = good ? ratio_of(r) : 1e30;
    print_record(out, b, k, c, 1, r);
    ratios[next] = 1e30;
    if (ratio < best) {
      best = ratio;
      winner = next;
    }
  }
  printf("%s: default %.4f ms, best %.2fx%s%s; %u ok", k->name,
         default_ns * 1e-6, 1 / best, winner ? " with " : "",
         winner ? k->candidates[winner].schedule : "", counts[TRIAL_OK]);
  for (unsigned i = 1; i < 5; ++i)
    if (counts[i])
      printf(", %u %s", counts[i], kStatus[i]);
  printf("\n");
  fflush(stdout);
  if (k->other.kind != PEER_NONE && !s->no_peers && counts[TRIAL_OK])
    measure_library(s, b, k, best, r, out, peers);
  return counts[TRIAL_WRONG];
}

int main(int argc, char **argv) {
  settings s;
  if (!read_settings(argc, argv, &s)) {
    help();
    return argc > 1 && strstr(argv[1], "-help") ? 0 : 2;
  }
  static bundle b;
  read_bundle(&b, s.folder);
  struct shared {
    report trial;
    char name[96];
    unsigned arch;
  } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    fprintf(stderr, "dlc-cuda-measure: no memory\n");
    return 5;
  }
  if (!ask(&s, &b, NULL, NULL, 0, &shared->trial, shared->name,
           &shared->arch)) {
    fprintf(stderr, "dlc-cuda-measure: no CUDA device: %s\n",
            shared->trial.reason);
    return 5;
  }
  bool runs = b.exact ? shared->arch == b.arch : shared->arch >= b.arch;
  runs &= !b.generation || shared->arch / 10 == b.arch / 10;
  if (!runs || (!s.any_device && !is_named(shared->name, b.device))) {
    fprintf(stderr,
            "dlc-cuda-measure: the bundle is for %s (sm_%u), the device is %s "
            "(sm_%u)%s\n",
            b.device, b.arch, shared->name, shared->arch,
            runs ? "; -any-device measures all the same" : "");
    return 5;
  }
  char path[4096];
  snprintf(path, sizeof path, "%s/results.jsonl", s.folder);
  FILE *out = fopen(s.output ? s.output : path, "w");
  if (!out) {
    perror(s.output ? s.output : path);
    return 2;
  }
  snprintf(path, sizeof path, "%s/peers.jsonl", s.folder);
  FILE *peers = fopen(path, "w");
  if (!peers) {
    perror(path);
    return 2;
  }
  printf("%s, %u kernels\n", shared->name, b.num_kernels);
  unsigned wrong = 0;
  for (unsigned i = 0; i < b.num_kernels; ++i)
    if (!s.kernel || strstr(b.kernels[i].name, s.kernel))
      wrong +=
          measure_kernel(&s, &b, &b.kernels[i], &shared->trial, out, peers);
  if (fclose(out) || fclose(peers)) {
    perror("results");
    return 2;
  }
  return wrong ? 1 : 0;
}
