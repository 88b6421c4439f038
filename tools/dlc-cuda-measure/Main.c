/* dlc-cuda-measure FOLDER: verifies and measures the candidates of a bundle
 * that `dlc-tune bundle -target=cuda` made, on a machine that needs nothing but
 * the CUDA driver. Trials run in a process of their own, and what follows one
 * that was not good in another: what crashes or hangs is a result.
 * What was found goes to FOLDER/results.jsonl, which `dlc-tune import FOLDER`
 * reads; times of cuBLAS and cuDNN, where there are such, to peers.jsonl. */
#include "Measure.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const kStatus[] = {"ok", "compile", "wrong", "timeout",
                                      "crash"};

typedef struct settings {
  const char *folder, *driver, *output, *kernel;
  unsigned samples, seconds, again;
  bool any_device, no_peers, device_only, with_parent, libraries;
} settings;

static void help(void) {
  puts("dlc-cuda-measure FOLDER [options]\n"
       "  -driver=<path>   the CUDA driver (default: $DLC_CUDA_DRIVER, or "
       "libcuda.so.1)\n"
       "  -o <file>        records (default: FOLDER/results.jsonl)\n"
       "  -samples=<n>     of a candidate (default: 9; the best again with "
       "twice as many and 2)\n"
       "  -again=<n>       so many of the best are measured again (default: "
       "2)\n"
       "  -timeout=<s>     of a trial (default: 60)\n"
       "  -kernel=<text>   only kernels whose name has this in it\n"
       "  -any-device      also on a GPU that is not the bundle's\n"
       "  -device-only     only whether the GPU is the bundle's\n"
       "  -libraries       with -device-only: and which cuBLAS and cuDNN it "
       "has\n"
       "  -with-parent     end when the process that started it does\n"
       "  -no-peers        without cuBLAS and cuDNN (which $DLC_CUBLAS and "
       "$DLC_CUDNN name)\n"
       "EXIT CODES:  0 done, 1 a candidate is wrong, 2 bad usage, 5 no such "
       "device");
}

static bool read_number(const char *text, unsigned least, unsigned most,
                        unsigned *out) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  *out = (unsigned)value;
  return *text && !*end && value >= least && value <= most;
}

static bool read_settings(int argc, char **argv, settings *s) {
  memset(s, 0, sizeof *s);
  s->samples = 9;
  s->seconds = 60;
  s->again = 2;
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
    else if (!strcmp(a, "-with-parent"))
      s->with_parent = true;
    else if (!strcmp(a, "-libraries"))
      s->libraries = true;
    else if (!strcmp(a, "-device-only"))
      s->device_only = true;
    else if (!strncmp(a, "-samples=", 9)) {
      if (!read_number(a + 9, 1, DLC_MOST_SAMPLES, &s->samples))
        return false;
    } else if (!strncmp(a, "-again=", 7)) {
      if (!read_number(a + 7, 0, DLC_MOST_CANDIDATES, &s->again))
        return false;
    } else if (!strncmp(a, "-timeout=", 9)) {
      if (!read_number(a + 9, 1, 86400, &s->seconds))
        return false;
    } else if (*a != '-' && !s->folder)
      s->folder = a;
    else
      return false;
  }
  return s->folder != NULL;
}

/* Whether the name of a description is a word of the device's: "h100" of
 * "NVIDIA H100 80GB HBM3", "rtx4090" of "NVIDIA GeForce RTX 4090". */
static bool is_named(const char *device, const char *wanted) {
  if (!strcmp(device, "emulated GPU"))
    return true;
  for (const char *start = device; *start; ++start) {
    if (start != device && isalnum((unsigned char)start[-1]))
      continue;
    const char *at = start, *next = wanted;
    for (; *at && *next; ++at) {
      if (tolower((unsigned char)*at) == *next)
        ++next;
      else if (*at != ' ' || at == start)
        break;
    }
    if (!*next && !isalnum((unsigned char)*at))
      return true;
  }
  return false;
}

/* Lies in memory shared with the process that runs the trials. */
typedef struct work {
  volatile unsigned current;
  report reports[DLC_MOST_CANDIDATES];
  char name[96];                                 /* of the device */
  char reason[256];                              /* why it has no library */
  long long libraries[DLC_DEVICE_NUM_LIBRARIES]; /* versions; 0: none */
  unsigned arch;
} work;

/* Waits for a child, and ends it when one trial takes too long. */
static bool wait_for(pid_t child, const settings *s, const work *w,
                     int *status) {
  unsigned at = w->current;
  for (unsigned waited = 0; waited < s->seconds * 1000; ++waited) {
    if (waitpid(child, status, WNOHANG) == child)
      return true;
    if (w->current != at) {
      at = w->current;
      waited = 0;
    }
    usleep(1000);
  }
  kill(child, SIGKILL);
  waitpid(child, status, 0);
  return false;
}

static void find_libraries(work *w) {
  size_t used = 0;
  for (int kind = 0; kind < DLC_DEVICE_NUM_LIBRARIES; ++kind) {
    char why[120] = "";
    w->libraries[kind] = open_library(kind, why, sizeof why);
    if (!w->libraries[kind])
      used += (size_t)snprintf(w->reason + used, sizeof w->reason - used,
                               "%s%s", used ? "; " : "", why);
  }
}

/* Runs trials of a kernel (NULL: looks for the device), in as many processes
 * as it takes; whether the last one was good. */
static bool ask(const settings *s, const bundle *b, const kernel *k,
                const candidate *const *list, unsigned count, unsigned samples,
                work *w) {
  memset(w->reports, 0, count * sizeof *w->reports);
  for (w->current = 0; w->current < count; ++w->current) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the parent be gone */
      if (k) {
        run_trials(b, k, list, count, s->driver, samples, w->reports,
                   &w->current);
      } else {
        report *r = &w->reports[0];
        bool found = find_device(s->driver, w->name, sizeof w->name, &w->arch,
                                 r->reason, sizeof r->reason);
        r->status = found ? TRIAL_OK : TRIAL_CRASH;
        if (found && s->libraries && enter_device(w->reason, sizeof w->reason))
          find_libraries(w);
        r->is_done = 1;
      }
      _exit(0);
    }
    int status = 0;
    bool ended = child > 0 && wait_for(child, s, w, &status);
    report *r = &w->reports[w->current];
    if (r->is_done)
      continue;
    r->status = child > 0 && !ended ? TRIAL_TIMEOUT : TRIAL_CRASH;
    if (child < 0)
      snprintf(r->reason, sizeof r->reason, "no process can be started");
    else if (!ended)
      snprintf(r->reason, sizeof r->reason, "more than %u s", s->seconds);
    else
      snprintf(r->reason, sizeof r->reason,
               WIFSIGNALED(status) ? "signal %d" : "it ended with %d",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  }
  return w->reports[count - 1].status == TRIAL_OK;
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
                            double best, work *w, FILE *out, FILE *peers) {
  int64_t kind = k->other.call.kind;
  const char *name = library_name(kind);
  static bool told[DLC_DEVICE_NUM_LIBRARIES]; /* that there is none */
  const candidate *const library_alone[] = {NULL};
  const report *r = &w->reports[0];
  if (!ask(s, b, k, library_alone, 1, s->samples, w)) {
    if (r->status == TRIAL_ABSENT && told[kind])
      return;
    told[kind] |= r->status == TRIAL_ABSENT;
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
             library_knob(kind), r->version);
    candidate library = {.schedule = schedule};
    print_record(out, b, k, &library, 0, r);
  }
  fflush(NULL);
}

/* How many candidates were wrong. */
static unsigned measure_kernel(const settings *s, const bundle *b,
                               const kernel *k, work *w, FILE *out,
                               FILE *peers) {
  double ratios[DLC_MOST_CANDIDATES], default_ns = 0;
  const candidate *list[DLC_MOST_CANDIDATES];
  unsigned counts[5] = {0};
  for (unsigned i = 0; i < k->num_candidates; ++i)
    list[i] = &k->candidates[i];
  ask(s, b, k, list, k->num_candidates, s->samples, w);
  for (unsigned i = 0; i < k->num_candidates; ++i) {
    const report *r = &w->reports[i];
    bool good = r->status == TRIAL_OK;
    ratios[i] = good ? ratio_of(r) : 1e30;
    ++counts[r->status];
    print_record(out, b, k, list[i], 0, r);
    double median;
    if (good && i == 0)
      fastest(r->reference_ns, r->samples, &default_ns, &median);
    if (!good)
      fprintf(stderr, "%s: %s is %s: %s\n", k->name, list[i]->schedule,
              kStatus[r->status], r->reason);
  }
  /* The best of many is partly luck: the fastest, once more. */
  unsigned winner = 0, more = 2 * s->samples + 2, found = 0;
  unsigned best_ones[DLC_MOST_CANDIDATES];
  if (more > DLC_MOST_SAMPLES)
    more = DLC_MOST_SAMPLES;
  for (; found < s->again; ++found) {
    unsigned next = 0;
    for (unsigned i = 1; i < k->num_candidates; ++i)
      if (ratios[i] < 1 && (!next || ratios[i] < ratios[next]))
        next = i;
    if (!next)
      break;
    best_ones[found] = next;
    list[found] = &k->candidates[next];
    ratios[next] = 1e30;
  }
  double best = 1;
  if (found)
    ask(s, b, k, list, found, more, w);
  for (unsigned i = 0; i < found; ++i) {
    const report *r = &w->reports[i];
    double ratio = r->status == TRIAL_OK ? ratio_of(r) : 1e30;
    print_record(out, b, k, list[i], 1, r);
    if (ratio < best) {
      best = ratio;
      winner = best_ones[i];
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
  if (k->other.is_there && !s->no_peers && counts[TRIAL_OK])
    measure_library(s, b, k, best, w, out, peers);
  return counts[TRIAL_WRONG];
}

int main(int argc, char **argv) {
  settings s;
  if (!read_settings(argc, argv, &s)) {
    help();
    return argc > 1 && strstr(argv[1], "-help") ? 0 : 2;
  }
  if (s.with_parent)
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  static bundle b;
  read_bundle(&b, s.folder, s.device_only);
  work *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    fprintf(stderr, "dlc-cuda-measure: no memory\n");
    return 5;
  }
  if (!ask(&s, &b, NULL, NULL, 1, 0, shared)) {
    fprintf(stderr, "dlc-cuda-measure: no CUDA device: %s\n",
            shared->reports[0].reason);
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
  if (s.device_only) {
    bool found = false;
    printf("%s\n", shared->name);
    for (int kind = 0; kind < DLC_DEVICE_NUM_LIBRARIES; ++kind)
      if (shared->libraries[kind]) {
        found = true;
        printf("%s %lld\n", library_knob(kind), shared->libraries[kind]);
      }
    if (s.libraries && !found) {
      fprintf(stderr, "dlc-cuda-measure: -libraries=on: %s\n", shared->reason);
      return 5;
    }
    return 0;
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
      wrong += measure_kernel(&s, &b, &b.kernels[i], shared, out, peers);
  if (fclose(out) || fclose(peers)) {
    perror("results");
    return 2;
  }
  return wrong ? 1 : 0;
}
