/* One trial on the device, by the driver alone. */
#include "Measure.h"

#include "CudaApi.h"
#include "dlc/runtime.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef dlc_cu_handle handle;
typedef dlc_cu_pointer address;

enum {
  /* Around every buffer; no float is a number with these bits. */
  GUARD = 256,
  PATTERN = 0xff
};

static struct {
  DLC_CU_FUNCTIONS(DLC_CU_MEMBER)
} cu;

static bool open_driver(const char *path, char *reason, size_t size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char *why = dlerror();
    snprintf(reason, size, "the CUDA driver cannot be opened: %s",
             why ? why : path);
    return false;
  }
#define LOOK_UP(name, symbol, parameters)                                      \
  {                                                                            \
    void *found = dlsym(library, symbol);                                      \
    if (!found) {                                                              \
      snprintf(reason, size, "%s has no function '%s'", path, symbol);         \
      return false;                                                            \
    }                                                                          \
    memcpy(&cu.name, &found, sizeof found);                                    \
  }
  DLC_CU_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
  int result = cu.init(0);
  if (result)
    snprintf(reason, size, "the CUDA driver does not start (%d%s)", result,
             result == DLC_CU_NO_DEVICE ? ": it finds no device" : "");
  return !result;
}

bool find_device(const char *path, char *name, size_t size, unsigned *arch,
                 char *reason, size_t reason_size) {
  if (!open_driver(path, reason, reason_size))
    return false;
  int device, major = 0, minor = 0;
  if (cu.device_get(&device, 0) ||
      cu.device_get_name(name, (int)size, device) ||
      cu.device_get_attribute(&major, DLC_CU_ATTRIBUTE_MAJOR, device) ||
      cu.device_get_attribute(&minor, DLC_CU_ATTRIBUTE_MINOR, device)) {
    snprintf(reason, reason_size, "the CUDA driver has no device");
    return false;
  }
  *arch = (unsigned)(10 * major + minor);
  return true;
}

bool enter_device(char *reason, size_t reason_size) {
  handle context;
  int device;
  if (!cu.device_get(&device, 0) && !cu.context_retain(&context, device) &&
      !cu.context_push(context))
    return true;
  snprintf(reason, reason_size, "the device gives no context");
  return false;
}

/*===-- Trials
 * -------------------------------------------------------------===*/

typedef struct code {
  const candidate *what;
  handle module, functions[DLC_MOST_LAUNCHES];
  address scratch[DLC_MOST_BUFFERS];
} code;

typedef struct trial {
  const bundle *b;
  const kernel *k;
  report *out;
  address operands[DLC_MOST_BUFFERS], results[DLC_MOST_BUFFERS], status;
  /* What the operands hold, and the reference's results, which the oracle
   * found right. */
  char *held[DLC_MOST_BUFFERS], *expected[DLC_MOST_BUFFERS];
} trial;

static bool __attribute__((format(printf, 3, 4)))
give_up(trial *t, int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  t->out->status = status;
  vsnprintf(t->out->reason, sizeof t->out->reason, format, arguments);
  va_end(arguments);
  return false;
}

static bool succeeded(trial *t, int result, const char *what) {
  if (!result)
    return true;
  const char *name = NULL;
  if (cu.get_error_name(result, &name) || !name)
    name = "an error without a name";
  return give_up(t, TRIAL_CRASH, "%s: %s", what, name);
}

static size_t bytes_of(const buffer *b) {
  return (size_t)(b->elements * dlc_bundle_bytes(b->kind));
}

/* Memory between guards; addresses stay multiples of 256. */
static bool allocate(trial *t, size_t bytes, address *out) {
  size_t room = (bytes + 255) / 256 * 256 + 2 * GUARD;
  if (!succeeded(t, cu.allocate(out, room), "memory") ||
      !succeeded(t, cu.fill(*out, 0xffffffff, room / 4, NULL), "memory"))
    return false;
  *out += GUARD;
  return true;
}

static bool poison(trial *t, address where, size_t bytes) {
  return succeeded(t, cu.fill(where, 0xffffffff, (bytes + 3) / 4, NULL),
                   "memory");
}

static bool is_intact(trial *t, address where, size_t bytes) {
  unsigned char around[2 * GUARD];
  size_t behind = (bytes + 3) / 4 * 4;
  if (!succeeded(t, cu.copy_out(around, where - GUARD, GUARD, NULL), "guard") ||
      !succeeded(t, cu.copy_out(around + GUARD, where + behind, GUARD, NULL),
                 "guard") ||
      !succeeded(t, cu.stream_synchronize(NULL), "guard"))
    return false;
  for (size_t i = 0; i < sizeof around; ++i)
    if (around[i] != PATTERN)
      return give_up(t, TRIAL_WRONG, "memory around a buffer was written");
  return true;
}

static bool load_launch(trial *t, const launch *l, const code *c,
                        handle *function) {
  char why[200];
  if (l->is_call)
    return prepare_call(&l->call, why, sizeof why) ||
           give_up(t, TRIAL_COMPILE, "%s", why);
  return succeeded(t, cu.module_get_function(function, c->module, l->symbol),
                   l->symbol) &&
         (!l->shared ||
          succeeded(t,
                    cu.function_set_attribute(*function,
                                              DLC_CU_MAX_DYNAMIC_SHARED_BYTES,
                                              (int)l->shared),
                    l->symbol));
}

/* Where a library computes all, there is none. */
static bool load_module(trial *t, const candidate *c, code *out) {
  size_t size;
  char *image = read_file(t->b->folder, c->file, &size);
  if (!image)
    return give_up(t, TRIAL_COMPILE, "%s is missing", c->file);
  int result = size ? cu.module_load(&out->module, image, 0, NULL, NULL) : 0;
  free(image);
  if (!result)
    return true;
  succeeded(t, result, "the driver does not take the code");
  t->out->status = TRIAL_COMPILE;
  return false;
}

static bool load_code(trial *t, const candidate *c, code *out) {
  memset(out, 0, sizeof *out);
  out->what = c;
  if (!load_module(t, c, out))
    return false;
  for (unsigned i = 0; i < c->num_launches; ++i)
    if (!load_launch(t, &c->launches[i], out, &out->functions[i]))
      return false;
  for (unsigned i = 0; i < c->num_scratch; ++i)
    if (!allocate(t, (size_t)c->scratch[i], &out->scratch[i]))
      return false;
  return true;
}

static void unload_code(const code *c) {
  for (unsigned i = 0; i < c->what->num_scratch; ++i)
    if (c->scratch[i])
      cu.release(c->scratch[i] - GUARD);
  if (c->module)
    cu.module_unload(c->module);
}

static bool call_library(trial *t, const dlc_device_call *call,
                         const uint64_t *params) {
  char why[200];
  return run_call(call, params, why, sizeof why) ||
         give_up(t, TRIAL_CRASH, "%s", why);
}

static bool run(trial *t, const code *c) {
  address params[4 * DLC_MOST_BUFFERS];
  void *pointers[4 * DLC_MOST_BUFFERS];
  unsigned count = 0;
  for (unsigned i = 0; i < t->k->num_operands; ++i)
    params[count++] = t->operands[i];
  for (unsigned i = 0; i < t->k->num_results; ++i)
    params[count++] = t->results[i];
  for (unsigned i = 0; i < c->what->num_scratch; ++i)
    params[count++] = c->scratch[i];
  params[count++] = t->status;
  for (unsigned i = 0; i < count; ++i)
    pointers[i] = &params[i];
  for (unsigned i = 0; i < c->what->num_launches; ++i) {
    const launch *l = &c->what->launches[i];
    if (l->is_call) {
      if (!call_library(t, &l->call, params))
        return false;
    } else if (l->blocks && !succeeded(t,
                                       cu.launch(c->functions[i], l->blocks, 1,
                                                 1, l->threads, 1, 1, l->shared,
                                                 NULL, pointers, NULL),
                                       l->symbol)) {
      return false;
    }
  }
  return true;
}

/* Own code, or a library alone. */
typedef struct work {
  const code *own;
  const dlc_device_call *other;
  const address *params; /* of `other` */
} work;

static bool start(trial *t, const work *w) {
  return w->own ? run(t, w->own) : call_library(t, w->other, w->params);
}

static bool finish(trial *t) {
  return succeeded(t, cu.stream_synchronize(NULL), "the kernel");
}

/* Elements that are not within the tolerance; `at` gives the expected one. */
typedef struct judge {
  double largest, worst;
  bool strange;
} judge;

static void compare(judge *j, double got, double wanted) {
  if (isfinite(wanted))
    j->largest = fmax(j->largest, fabs(wanted));
  if (got == wanted || (isnan(got) && isnan(wanted)))
    return;
  if (!isfinite(got) || !isfinite(wanted))
    j->strange = true;
  else
    j->worst = fmax(j->worst, fabs(got - wanted));
}

static bool is_good(trial *t, const judge *j, double tolerance,
                    const char *whose) {
  if (!j->strange && j->worst <= tolerance * j->largest)
    return true;
  return j->strange
             ? give_up(t, TRIAL_WRONG, "a result is no number where %s is one",
                       whose)
             : give_up(t, TRIAL_WRONG, "max|a-b|/max|b| beside %s is %.2g",
                       whose, j->worst / fmax(j->largest, 1e-300));
}

/* Runs the code on poisoned results and looks at all of them. */
static bool check(trial *t, const code *c, bool is_reference) {
  unsigned zero = 0, status = 0;
  if (!succeeded(t, cu.copy_in(t->status, &zero, sizeof zero, NULL), "memory"))
    return false;
  for (unsigned i = 0; i < t->k->num_results; ++i)
    if (!poison(t, t->results[i], bytes_of(&t->k->results[i])))
      return false;
  for (unsigned i = 0; i < c->what->num_scratch; ++i)
    if (!poison(t, c->scratch[i], (size_t)c->what->scratch[i]))
      return false;
  if (!run(t, c) || !finish(t) ||
      !succeeded(t, cu.copy_out(&status, t->status, sizeof status, NULL),
                 "the status") ||
      !finish(t))
    return false;
  if (status)
    return give_up(t, TRIAL_WRONG, "the kernel reports an error in the data");
  for (unsigned i = 0; i < t->k->num_results; ++i) {
    const buffer *r = &t->k->results[i];
    size_t bytes = bytes_of(r);
    char *got = malloc(bytes ? bytes : 1);
    if (!got)
      return give_up(t, TRIAL_CRASH, "no memory");
    if (!succeeded(t, cu.copy_out(got, t->results[i], bytes, NULL),
                   "results") ||
        !finish(t))
      return false;
    judge j = {0, 0, false};
    for (int64_t s = 0; s < r->samples; ++s)
      compare(&j,
              dlc_bundle_read(r->kind, got,
                              dlc_bundle_place(s, r->samples, r->elements)),
              t->b->oracle[r->oracle + s]);
    if (!is_good(t, &j, r->tolerance, "the interpreter's"))
      return false;
    if (is_reference) {
      t->expected[i] = got;
    } else {
      judge all = {0, 0, false};
      bool is_same = !memcmp(got, t->expected[i], bytes);
      for (int64_t e = 0; !is_same && e < r->elements; ++e)
        compare(&all, dlc_bundle_read(r->kind, got, e),
                dlc_bundle_read(r->kind, t->expected[i], e));
      free(got);
      if (!is_good(t, &all, 2 * r->tolerance, "the default's"))
        return false;
    }
    if (!is_intact(t, t->results[i], bytes))
      return false;
  }
  for (unsigned i = 0; i < c->what->num_scratch; ++i)
    if (!is_intact(t, c->scratch[i], (size_t)c->what->scratch[i]))
      return false;
  return true;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Nanoseconds of a run, of `count` one behind the other. */
static bool take_time(trial *t, const work *w, unsigned count, double *out) {
  double before = now();
  for (unsigned i = 0; i < count; ++i)
    if (!start(t, w))
      return false;
  if (!finish(t))
    return false;
  *out = (now() - before) / count;
  return true;
}

static bool measure(trial *t, const code *own, const work *w,
                    unsigned samples) {
  double once;
  const work reference = {own, NULL, NULL};
  if (!take_time(t, &reference, 2, &once))
    return false;
  /* Batches of two milliseconds: the wait at their end is little. */
  double wanted = ceil(2e6 / fmax(once, 1));
  unsigned count = wanted > 500 ? 500 : (unsigned)wanted;
  for (unsigned i = 0; i < samples; ++i) {
    if (!take_time(t, &reference, count, &t->out->reference_ns[i]) ||
        !take_time(t, w, count, &t->out->candidate_ns[i]))
      return false;
    t->out->samples = i + 1;
  }
  return true;
}

/* Whether the library's result is the kernel's, where that is nothing else. */
static bool agrees(trial *t, address where) {
  const buffer *r = &t->k->results[0];
  if (!t->k->other.alone)
    return true;
  size_t bytes = bytes_of(r);
  char *got = malloc(bytes ? bytes : 1);
  if (!got)
    return give_up(t, TRIAL_CRASH, "no memory");
  judge all = {0, 0, false};
  bool good = succeeded(t, cu.copy_out(got, where, bytes, NULL), "results") &&
              finish(t);
  for (int64_t e = 0; good && e < r->elements; ++e)
    compare(&all, dlc_bundle_read(r->kind, got, e),
            dlc_bundle_read(r->kind, t->expected[0], e));
  free(got);
  return good && is_good(t, &all, 2 * r->tolerance, "the default's");
}

static size_t result_bytes(const peer *p) {
  int64_t type = p->call.kind == DLC_DEVICE_PRODUCT
                     ? p->call.as.product.result_type
                     : p->call.as.convolution.type;
  bool is_half = type == DLC_DEVICE_F16 || type == DLC_DEVICE_BF16;
  return (size_t)p->elements * (is_half ? 2 : 4);
}

static bool measure_peer(trial *t, const code *reference, unsigned samples) {
  const peer *p = &t->k->other;
  char why[200];
  t->out->version = open_library(p->call.kind, why, sizeof why);
  if (!t->out->version || !prepare_call(&p->call, why, sizeof why))
    return give_up(t, TRIAL_ABSENT, "%s", why);
  address params[DLC_MOST_BUFFERS + 2] = {0};
  unsigned n = t->k->num_operands;
  memcpy(params, t->operands, n * sizeof *params);
  const work w = {NULL, &p->call, params};
  return allocate(t, result_bytes(p), &params[n]) &&
         (p->call.kind != DLC_DEVICE_CONVOLUTION ||
          allocate(t, (size_t)p->call.as.convolution.workspace_bytes,
                   &params[n + 1])) &&
         start(t, &w) && finish(t) && agrees(t, params[n]) &&
         measure(t, reference, &w, samples);
}

static bool prepare(trial *t) {
  for (unsigned i = 0; i < t->k->num_operands; ++i) {
    const buffer *o = &t->k->operands[i];
    size_t bytes = bytes_of(o);
    char *memory = malloc(bytes ? bytes : 1);
    if (!memory)
      return give_up(t, TRIAL_CRASH, "no memory");
    dlc_bundle_fill(o->kind, o->factor, o->seed, o->elements, memory);
    t->held[i] = memory;
    if (!allocate(t, bytes, &t->operands[i]) ||
        !succeeded(t, cu.copy_in(t->operands[i], memory, bytes, NULL),
                   "operands") ||
        !finish(t))
      return false;
  }
  for (unsigned i = 0; i < t->k->num_results; ++i)
    if (!allocate(t, bytes_of(&t->k->results[i]), &t->results[i]))
      return false;
  return allocate(t, sizeof(unsigned), &t->status);
}

/* Whether the operands are as they were: the next candidate reads them. */
static bool has_operands(trial *t) {
  for (unsigned i = 0; i < t->k->num_operands; ++i) {
    size_t bytes = bytes_of(&t->k->operands[i]);
    char *got = malloc(bytes ? bytes : 1);
    if (!got)
      return give_up(t, TRIAL_CRASH, "no memory");
    bool good = succeeded(t, cu.copy_out(got, t->operands[i], bytes, NULL),
                          "operands") &&
                finish(t);
    bool is_same = good && !memcmp(got, t->held[i], bytes);
    free(got);
    if (!good)
      return false;
    if (!is_same)
      return give_up(t, TRIAL_WRONG, "an operand was written");
    if (!is_intact(t, t->operands[i], bytes))
      return false;
  }
  return true;
}

/* The device, the operands and the default's results, found right. */
static bool open_kernel(trial *t, const char *driver, code *reference) {
  char reason[200];
  if (!open_driver(driver, reason, sizeof reason) ||
      !enter_device(reason, sizeof reason))
    return give_up(t, TRIAL_CRASH, "%s", reason);
  if (!prepare(t))
    return false;
  if (load_code(t, &t->k->candidates[0], reference) &&
      check(t, reference, /*is_reference=*/true))
    return true;
  char why[sizeof t->out->reason];
  memcpy(why, t->out->reason, sizeof why);
  return give_up(t, t->out->status, "the reference: %.200s", why);
}

static bool run_candidate(trial *t, const code *reference, const candidate *c,
                          unsigned samples) {
  if (!c)
    return measure_peer(t, reference, samples);
  /* Before and after it was measured: it is right every time. */
  code own;
  const work w = {&own, NULL, NULL};
  bool good = load_code(t, c, &own) && check(t, &own, false) &&
              measure(t, reference, &w, samples) && check(t, &own, false) &&
              has_operands(t);
  if (good)
    unload_code(&own);
  return good;
}

void run_trials(const bundle *b, const kernel *k, const candidate *const *list,
                unsigned count, const char *driver, unsigned samples,
                report *reports, volatile unsigned *current) {
  static trial t;
  static code reference;
  t.b = b;
  t.k = k;
  for (unsigned i = *current; i < count; ++i) {
    *current = i;
    t.out = &reports[i];
    if ((t.results[0] || open_kernel(&t, driver, &reference)) &&
        run_candidate(&t, &reference, list[i], samples))
      t.out->status = TRIAL_OK;
    t.out->is_done = 1;
    /* An error of a kernel spoils the context, and perhaps memory. */
    if (t.out->status != TRIAL_OK)
      return;
  }
}
