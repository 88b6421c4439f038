/* Runs a compiled model in a shared object: reads inputs from .npy files,
 * writes outputs to .npy files, measures. Plain C over the runtime alone, so
 * that it can be built for every CPU artifacts are made for and run under an
 * emulator; dlc-run starts it for foreign artifacts. */
#include "Npy.h"
#include "Profile.h"
#include "dlc/runtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char usage[] =
    "usage: dlc-exec <model.so> [options]\n"
    "  -inputs=<a.npy,b.npy>   inputs in the model's order\n"
    "  -outputs=<folder>       writes <folder>/output_<i>.npy; the folder is "
    "made\n"
    "  -info                   prints the model's description as JSON and "
    "stops\n"
    "  -bench=<n>              runs n more times, prints 'min_ns median_ns' on "
    "stdout\n"
    "  -beside=<b.so,c.so>     with -bench: these run in turns with the model, "
    "on the same inputs;\n"
    "                          prints a line a round: ns of a run of each, as "
    "it was in a turn\n"
    "                          of at least 20 ms. Who begins a round changes\n"
    "  -profile                with -bench: then prints where the time went, "
    "'samples kernel' a\n"
    "                          line, one sample a millisecond of CPU time\n"
    "  -threads=<n>            threads to use (default: DLC_NUM_THREADS, "
    "OMP_NUM_THREADS, all)\n"
    "  -weights=<file>         external weights (default: beside the model; "
    "those "
    "of -beside always)\n"
    "  -verify-weights         checks the weights' checksum\n"
    "exit: 0 ok, 1 the model refused or failed, 2 bad usage, 3 a file cannot "
    "be read or\n"
    "      written, 5 the device it runs on is missing\n";

typedef struct settings {
  const char *model;
  const char *weights;
  const char *outputs;
  const char *inputs; /* comma-separated */
  const char *beside; /* comma-separated */
  int bench;
  int profile;
  int threads;
  int info;
  int verify;
} settings;

static int parse(int argc, char **argv, settings *s) {
  memset(s, 0, sizeof *s);
  for (int i = 1; i < argc; ++i) {
    const char *a = argv[i];
    if (*a != '-') {
      if (s->model)
        return 0;
      s->model = a;
      continue;
    }
    a += a[1] == '-' ? 2 : 1;
    if (strncmp(a, "inputs=", 7) == 0)
      s->inputs = a + 7;
    else if (strncmp(a, "outputs=", 8) == 0)
      s->outputs = a + 8;
    else if (strncmp(a, "weights=", 8) == 0)
      s->weights = a + 8;
    else if (strncmp(a, "bench=", 6) == 0)
      s->bench = atoi(a + 6);
    else if (strncmp(a, "beside=", 7) == 0)
      s->beside = a + 7;
    else if (strncmp(a, "threads=", 8) == 0)
      s->threads = atoi(a + 8);
    else if (strcmp(a, "profile") == 0)
      s->profile = 1;
    else if (strcmp(a, "info") == 0)
      s->info = 1;
    else if (strcmp(a, "verify-weights") == 0)
      s->verify = 1;
    else
      return 0;
  }
  if (s->beside && (s->bench < 1 || s->profile))
    return 0;
  return s->model != NULL && s->bench >= s->profile && s->threads >= 0;
}

/*===-- Description -------------------------------------------------------===*/

static void print_string(const char *text) {
  putchar('"');
  for (const unsigned char *p = (const unsigned char *)text; *p; ++p) {
    if (*p == '"' || *p == '\\')
      printf("\\%c", *p);
    else if (*p < 0x20)
      printf("\\u%04x", *p);
    else
      putchar(*p);
  }
  putchar('"');
}

static void print_field(const char *key, const char *text) {
  printf("  \"%s\": ", key);
  print_string(text);
  printf(",\n");
}

static const char *type_stem(int64_t code) {
  switch (code) {
  case kDLInt:
    return "i";
  case kDLUInt:
    return "u";
  case kDLFloat:
    return "f";
  case kDLBfloat:
    return "bf";
  case kDLBool:
    return "bool";
  default:
    return "type";
  }
}

/* "f32", "bool", "f8E4M3FN" */
static void print_type(int64_t code, int64_t bits) {
#define DLC_NARROW_TYPE(name, narrow_code, narrow_bits)                        \
  if (code == narrow_code && bits == narrow_bits) {                            \
    printf(name);                                                              \
    return;                                                                    \
  }
#include "dlc/NarrowTypes.def"
  printf("%s", type_stem(code));
  if (code != kDLBool)
    printf("%lld", (long long)bits);
}

static void print_tensors(const char *key, const dlc_tensor_info *tensors,
                          int64_t n) {
  printf("  \"%s\": [", key);
  for (int64_t i = 0; i < n; ++i) {
    printf("%s\n    {\"name\": ", i ? "," : "");
    print_string(tensors[i].name);
    printf(", \"dtype\": \"");
    print_type(tensors[i].type_code, tensors[i].type_bits);
    printf("\", \"dims\": [");
    for (int64_t d = 0; d < tensors[i].rank; ++d) {
      printf("%s", d ? ", " : "");
      if (tensors[i].dims[d].kind == DLC_DIM_CONST)
        printf("%lld", (long long)tensors[i].dims[d].value);
      else
        print_string(tensors[i].dims[d].text);
    }
    printf("]}");
  }
  printf("%s],\n", n ? "\n  " : "");
}

static void print_info(const dlc_info *info) {
  printf("{\n");
  print_field("name", info->name);
  print_field("dlc_version", info->dlc_version);
  printf("  \"abi_version\": %lld,\n", (long long)info->abi_version);
  print_field("triple", info->triple);
  printf("  \"device_type\": %lld,\n", (long long)info->device_type);
  print_field("cpu", info->cpu);
  print_field("features", info->features);
  print_field("flags", info->flags);
  print_field("precision", info->precision);
  print_field("fp_mode", info->fp_mode);
  print_field("laws", info->laws);
  print_tensors("inputs", info->inputs, info->num_inputs);
  print_tensors("outputs", info->outputs, info->num_outputs);
  printf("  \"symbols\": [");
  for (int64_t i = 0; i < info->num_symbols; ++i) {
    const dlc_symbol_info *symbol = &info->symbols[i];
    printf("%s{\"name\": ", i ? ", " : "");
    print_string(symbol->name);
    printf(", \"min\": %lld, \"max\": ", (long long)symbol->min);
    if (symbol->max == INT64_MAX)
      printf("null");
    else
      printf("%lld", (long long)symbol->max);
    printf(", \"typical\": %lld}", (long long)symbol->typical);
  }
  printf("],\n  \"kernels\": %lld,\n  \"weights_bytes\": %lld\n}\n",
         (long long)info->num_kernels, (long long)info->weights_bytes);
}

/*===-- Running -----------------------------------------------------------===*/

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

typedef struct session {
  dlc_instance *model;
  const dlc_info *info;
  npy_array *inputs, *outputs;
  const DLTensor **input_tensors;
  DLTensor **output_tensors;
  void *workspace;
  dlc_run_options options;
  char error[1024];
} session;

static int complain(const char *text, int code) {
  fprintf(stderr, "dlc-exec: error: %s\n", text);
  return code;
}

/* The exit code of a model that was refused or failed. */
static int fail(const session *s, dlc_status status) {
  return complain(s->error, status == DLC_UNSUPPORTED_DEVICE ? 5 : 1);
}

/* The description needs no instance, and so no device. */
static int print_info_of(const char *path) {
  char local[4096];
  snprintf(local, sizeof local, "%s%s", strchr(path, '/') ? "" : "./", path);
  void *library = dlopen(local, RTLD_NOW | RTLD_LOCAL);
  const dlc_model *model = library ? dlsym(library, DLC_MODULE_SYMBOL) : NULL;
  if (!model) {
    char text[4200];
    snprintf(text, sizeof text, library ? "%s: holds no model of dlc" : "%s",
             library ? path : dlerror());
    return complain(text, 1);
  }
  if (model->abi_version != DLC_ABI_VERSION)
    return complain("the model has another ABI version than this program", 1);
  print_info(model->info);
  dlclose(library);
  return 0;
}

/* bf16 inputs come as '<V2' and bool as '|b1'; nothing else needs a cast. */
static int read_inputs(session *s, const char *list) {
  int64_t count = 0;
  char *text = strdup(list ? list : "");
  char *rest = text;
  int code = 0;
  while (code == 0 && *rest) {
    char *path = strsep(&rest, ",");
    if (count == s->info->num_inputs) {
      snprintf(s->error, sizeof s->error,
               "the model has %lld inputs, more were given",
               (long long)s->info->num_inputs);
      code = complain(s->error, 2);
    } else if (!npy_read(path, &s->inputs[count], s->error, sizeof s->error)) {
      code = complain(s->error, 3);
    } else {
      s->input_tensors[count] = &s->inputs[count].tensor;
      ++count;
    }
    if (!rest)
      break;
  }
  free(text);
  if (code == 0 && count != s->info->num_inputs) {
    snprintf(s->error, sizeof s->error,
             "the model has %lld inputs, %lld were given",
             (long long)s->info->num_inputs, (long long)count);
    code = complain(s->error, 2);
  }
  return code;
}

/* Outputs whose dims depend on the data get their memory from the runtime. */
static int make_outputs(session *s) {
  int64_t total = 0;
  for (int64_t i = 0; i < s->info->num_outputs; ++i)
    total += s->info->outputs[i].rank;
  int64_t *dims = calloc((size_t)total + 1, sizeof *dims);
  dlc_status status = dlc_output_shapes(s->model, s->input_tensors, dims);
  if (status != DLC_OK) {
    free(dims);
    return complain(s->error, 1);
  }
  const int64_t *d = dims;
  int ok = 1;
  for (int64_t i = 0; i < s->info->num_outputs && ok; ++i) {
    const dlc_tensor_info *output = &s->info->outputs[i];
    DLDataType type = {(uint8_t)output->type_code, (uint8_t)output->type_bits,
                       1};
    if (type.bits < 8 || (type.bits == 8 && type.code > kDLBool))
      type = (DLDataType){kDLUInt, 8, 1}; /* .npy has no name for it: codes */
    int late = 0;
    for (int64_t k = 0; k < output->rank; ++k)
      late |= d[k] < 0;
    int64_t none[NPY_MAX_RANK] = {0};
    ok = npy_allocate(&s->outputs[i], type, (int32_t)output->rank,
                      late ? none : d);
    if (late)
      s->outputs[i].tensor.data = NULL;
    s->output_tensors[i] = &s->outputs[i].tensor;
    d += output->rank;
  }
  free(dims);
  return ok ? 0 : complain("not enough memory for the outputs", 1);
}

static int run_once(session *s) {
  dlc_status status =
      dlc_run(s->model, s->input_tensors, s->output_tensors, &s->options);
  return status == DLC_OK ? 0 : fail(s, status);
}

static int bench(session *s, int n) {
  int64_t *times = calloc((size_t)n, sizeof *times);
  int code = 0;
  for (int i = 0; i < n && code == 0; ++i) {
    int64_t start = now_ns();
    code = run_once(s);
    times[i] = now_ns() - start;
  }
  qsort(times, (size_t)n, sizeof *times, compare);
  if (code == 0)
    printf("%lld %lld\n", (long long)times[0], (long long)times[n / 2]);
  free(times);
  return code;
}

/* What disturbs the machine disturbs all: a round is a turn of each. A turn is
 * long enough that what the others left in the caches hardly matters. */
static int bench_in_turns(session *all, int count, int rounds) {
  int64_t *times = calloc((size_t)count, sizeof *times);
  int code = 0;
  for (int round = 0; round < rounds && code == 0; ++round) {
    for (int turn = 0; turn < count && code == 0; ++turn) {
      int which = (round + turn) % count;
      int64_t start = now_ns(), passed = 0, runs = 0;
      while (code == 0 && passed < 20000000) {
        code = run_once(&all[which]);
        passed = now_ns() - start;
        ++runs;
      }
      times[which] = passed / (runs ? runs : 1);
    }
    for (int i = 0; i < count && code == 0; ++i)
      printf("%lld%c", (long long)times[i], i + 1 < count ? ' ' : '\n');
  }
  free(times);
  return code;
}

/* Loads a model, reads its inputs and runs it once. */
static int start(session *s, const char *path, const char *weights,
                 const settings *settings) {
  dlc_create_options create = {
      .struct_size = sizeof create,
      .weights_path = weights,
      .num_threads = settings->threads,
      .flags = settings->verify ? DLC_CREATE_VERIFY_WEIGHTS : 0,
      .error = s->error,
      .error_len = sizeof s->error};
  dlc_status status = dlc_load(path, &create, &s->model);
  if (status != DLC_OK)
    return fail(s, status);
  s->info = dlc_get_info(s->model);
  s->inputs = calloc((size_t)s->info->num_inputs + 1, sizeof *s->inputs);
  s->outputs = calloc((size_t)s->info->num_outputs + 1, sizeof *s->outputs);
  s->input_tensors =
      calloc((size_t)s->info->num_inputs + 1, sizeof *s->input_tensors);
  s->output_tensors =
      calloc((size_t)s->info->num_outputs + 1, sizeof *s->output_tensors);
  int code = read_inputs(s, settings->inputs);
  if (code == 0)
    code = make_outputs(s);
  if (code)
    return code;
  s->options = (dlc_run_options){.struct_size = sizeof s->options,
                                 .error = s->error,
                                 .error_len = sizeof s->error};
  /* A device's is the instance's own. */
  if (s->info->device_type == kDLCPU) {
    s->options.workspace_size = dlc_workspace(s->model, s->input_tensors);
    if (s->options.workspace_size == SIZE_MAX)
      return complain(s->error, 1);
    if (posix_memalign(&s->workspace, 64, s->options.workspace_size + 64) != 0)
      return complain("not enough memory for the workspace", 1);
    s->options.workspace = s->workspace;
  }
  return run_once(s);
}

static void stop(session *s) {
  for (int64_t i = 0; s->inputs && i < s->info->num_inputs; ++i)
    npy_free(&s->inputs[i]);
  for (int64_t i = 0; s->outputs && i < s->info->num_outputs; ++i)
    npy_free(&s->outputs[i]);
  free(s->inputs);
  free(s->outputs);
  free(s->input_tensors);
  free(s->output_tensors);
  free(s->workspace);
  if (s->model)
    dlc_unload(s->model);
}

/* all[0] is the model, the others those beside it. */
static int run(session *all, int count, const settings *settings) {
  session *s = &all[0];
  int code = start(s, settings->model, settings->weights, settings);
  if (code)
    return code;
  /* Where this fails, writing the files says why. */
  if (settings->outputs)
    mkdir(settings->outputs, 0777);
  for (int64_t i = 0; i < s->info->num_outputs && settings->outputs; ++i) {
    char path[4096];
    snprintf(path, sizeof path, "%s/output_%lld.npy", settings->outputs,
             (long long)i);
    if (!npy_write(path, &s->outputs[i], s->error, sizeof s->error))
      return complain(s->error, 3);
  }
  if (!settings->bench)
    return 0;
  if (settings->beside) {
    char *text = strdup(settings->beside), *rest = text;
    for (int i = 1; i < count && code == 0; ++i)
      code = start(&all[i], strsep(&rest, ","), NULL, settings);
    free(text);
    return code ? code : bench_in_turns(all, count, settings->bench);
  }
  if (settings->profile && !profile_start())
    return complain("the timer of -profile cannot be set", 1);
  code = bench(s, settings->bench);
  if (!settings->profile)
    return code;
  profile_stop();
  if (code == 0 &&
      !profile_print(settings->model, s->info->name, s->error, sizeof s->error))
    return complain(s->error, 3);
  return code;
}

int main(int argc, char **argv) {
  settings settings;
  if (!parse(argc, argv, &settings)) {
    fputs(usage, stderr);
    return 2;
  }
  if (settings.info)
    return print_info_of(settings.model);
  int count = 1 + (settings.beside != NULL);
  for (const char *c = settings.beside; c && *c; ++c)
    count += *c == ',';
  session *all = calloc((size_t)count, sizeof *all);
  int code = run(all, count, &settings);
  for (int i = 0; i < count; ++i)
    stop(&all[i]);
  free(all);
  return code;
}
