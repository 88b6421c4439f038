/* A model written by hand as the compiler would generate it, for tests of the
 * runtime and of artifacts. MODEL names it. With n = batch: x f32[batch, 4], y
 * f32[batch, 4], pad f32[2 * batch]  -> z f32[batch, 4] = x + y + w (weights w
 * f32[4]; a phase through the workspace) rows i64[?] = rows whose x[row, 0] > 0
 * (data-dependent) A NaN in x[row, 0] is a data error. batch is 1..64. */
#include "dlc/runtime.h"

#ifndef MODEL
#define MODEL add
#endif
#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)
#define NAME(suffix) PASTE(MODEL, suffix)
#define HIDDEN __attribute__((visibility("hidden")))

static const float weights[4] __attribute__((aligned(64))) = {10, 20, 30, 40};

static const dlc_dim matrix[2] = {{DLC_DIM_SYMBOL, 0, "batch"},
                                  {DLC_DIM_CONST, 4, "4"}};
static const dlc_dim twice[1] = {{DLC_DIM_EXPR, 0, "2 * batch"}};
static const dlc_dim unknown[1] = {{DLC_DIM_DATA, 0, "?"}};
static const dlc_tensor_info inputs[3] = {{"x", kDLFloat, 32, 2, matrix},
                                          {"y", kDLFloat, 32, 2, matrix},
                                          {"pad", kDLFloat, 32, 1, twice}};
static const dlc_tensor_info outputs[2] = {{"z", kDLFloat, 32, 2, matrix},
                                           {"rows", kDLInt, 64, 1, unknown}};
static const dlc_symbol_info symbols[1] = {{"batch", 1, 64, 8}};
static const dlc_info info = {sizeof(dlc_info),
                              DLC_ABI_VERSION,
                              TEXT(MODEL),
                              "0.0-test",
                              "test",
                              "generic",
                              "",
                              "",
                              "f32",
                              "strict",
                              "",
                              kDLCPU,
                              2,
                              16,
                              3,
                              2,
                              1,
                              inputs,
                              outputs,
                              symbols,
                              0,
                              NULL};

static void input_dims(const int64_t *s, int64_t *dims) {
  const int64_t all[5] = {s[0], 4, s[0], 4, 2 * s[0]};
  for (int i = 0; i < 5; ++i)
    dims[i] = all[i];
}

static void output_dims(const int64_t *s, int64_t *dims) {
  dims[0] = s[0];
  dims[1] = 4;
  dims[2] = -1;
}

_Atomic int64_t NAME(_plans); /* how often it was asked */

static void plan(const int64_t *s, int64_t *sizes) {
  ++NAME(_plans);
  sizes[0] = s[0] * 64;
  sizes[1] = 0;
  sizes[2] = s[0];
}

/* One task a row. */
static void add_rows(const dlc_frame *frame, int64_t task, int64_t worker) {
  (void)worker;
  const float *x = frame->buffers[0], *y = frame->buffers[1];
  float *out = frame->buffers[2];
  if (x[4 * task] != x[4 * task])
    *frame->status = DLC_DATA_INDEX_OUT_OF_RANGE;
  for (int64_t i = 0; i < 4; ++i)
    out[16 * task + i] = x[4 * task + i] + y[4 * task + i];
}

static void add_weights(const dlc_frame *frame, int64_t task, int64_t worker) {
  (void)worker;
  const float *in = frame->buffers[0], *w = frame->buffers[1];
  float *out = frame->buffers[2];
  for (int64_t i = 0; i < 4; ++i)
    out[4 * task + i] = in[16 * task + i] + w[i];
}

static int32_t execute(dlc_exec *exec) {
  int64_t batch = exec->sizes[2];
  void *first[3] = {exec->inputs[0], exec->inputs[1], exec->workspace};
  dlc_frame frame = {&exec->status, NULL, 0, first, exec->symbols};
  exec->parallel_for(exec->pf_ctx, add_rows, &frame, batch, exec->num_workers);
  if (exec->status) {
    exec->site = "Add_0";
    return DLC_DATA_ERROR;
  }
  void *second[3] = {exec->workspace, (void *)exec->weights, exec->outputs[0]};
  frame.buffers = second;
  exec->parallel_for(exec->pf_ctx, add_weights, &frame, batch,
                     exec->num_workers);
  const float *x = exec->inputs[0];
  int64_t count = 0;
  for (int64_t r = 0; r < batch; ++r)
    count += x[4 * r] > 0;
  int64_t *rows = exec->output_alloc(exec, 1, &count);
  if (!rows) {
    exec->site = "NonZero_1";
    return DLC_OUT_OF_MEMORY;
  }
  for (int64_t r = 0; r < batch; ++r)
    if (x[4 * r] > 0)
      *rows++ = r;
  return DLC_OK;
}

HIDDEN extern const dlc_model NAME(_model_table);
const dlc_model NAME(_model_table) = {
    DLC_ABI_VERSION, &info, input_dims, output_dims, plan, execute, 16, 0,
    weights,         NULL,  NULL,       3,           NULL};

/* What addModelEntryPoints generates. */
const dlc_info *NAME(_get_info)(void) { return NAME(_model_table).info; }
dlc_status NAME(_create)(const dlc_create_options *options,
                         dlc_instance **out) {
  return dlc_model_create(&NAME(_model_table), options, out);
}
dlc_status NAME(_output_shapes)(dlc_instance *m, const DLTensor *const *in,
                                int64_t *dims) {
  return dlc_model_output_shapes(m, in, dims);
}
size_t NAME(_workspace)(dlc_instance *m, const DLTensor *const *in) {
  return dlc_model_workspace(m, in);
}
dlc_status NAME(_run)(dlc_instance *m, const DLTensor *const *in,
                      DLTensor *const *out, const dlc_run_options *options) {
  return dlc_model_run(m, in, out, options);
}
void NAME(_destroy)(dlc_instance *m) { dlc_model_destroy(m); }
