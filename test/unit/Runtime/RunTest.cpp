// Creating and running a model: results, workspaces, options, data-dependent
// outputs, and the text of every refusal.
#include "AddModel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <thread>

using namespace dlctest;

TEST(Run, AddsWithSymbolicBatch) {
  AddInstance model;
  ASSERT_EQ(model.status, DLC_OK) << model.error;
  for (int64_t batch : {1, 2, 7, 64}) {
    AddArguments a(batch);
    ASSERT_EQ(model.run(a), DLC_OK) << model.error;
    EXPECT_EQ(a.wrong(), 0);
    int64_t expected = 0;
    auto *rows = static_cast<int64_t *>(a.out[1].data);
    for (int64_t r = 0; r < batch; ++r)
      if (a.x[4 * r] > 0)
        EXPECT_EQ(rows[expected++], r);
    EXPECT_EQ(a.rowsShape[0], expected);
  }
}

TEST(Run, OutputShapesAndWorkspace) {
  AddInstance model;
  AddArguments a(5);
  int64_t dims[3] = {};
  ASSERT_EQ(dlc_model_output_shapes(model.instance, a.inputs, dims), DLC_OK);
  EXPECT_EQ(dims[0], 5);
  EXPECT_EQ(dims[1], 4);
  EXPECT_EQ(dims[2], -1);
  EXPECT_EQ(dlc_model_workspace(model.instance, a.inputs), 5u * 64);
  a.padShape[0] = 9;
  EXPECT_EQ(dlc_model_workspace(model.instance, a.inputs), SIZE_MAX);
  EXPECT_STREQ(model.error,
               "input 'pad': dim 0 is 9, expects '2 * batch' = 10");
}

// Sizes and offsets are computed when the symbols change, not in every run.
TEST(Run, PlansOncePerSetOfSymbols) {
  AddInstance model;
  auto run = [&](int64_t batch) {
    AddArguments a(batch);
    int64_t before = add_plans;
    EXPECT_EQ(model.run(a), DLC_OK) << model.error;
    EXPECT_EQ(a.wrong(), 0) << batch;
    return add_plans - before;
  };
  EXPECT_EQ(run(5), 1);
  EXPECT_EQ(run(5), 0);
  EXPECT_EQ(run(5), 0);
  for (int64_t batch : {1, 64, 7, 5})
    EXPECT_EQ(run(batch), 1);
  EXPECT_EQ(run(5), 0);
  // A question about the workspace is answered from the same plan.
  AddArguments a(9);
  int64_t before = add_plans;
  EXPECT_EQ(dlc_model_workspace(model.instance, a.inputs), 9u * 64);
  EXPECT_EQ(dlc_model_workspace(model.instance, a.inputs), 9u * 64);
  EXPECT_EQ(add_plans - before, 1);
  EXPECT_EQ(run(9), 0);
  // What the symbols forbid never reaches it.
  AddArguments wrong(4);
  wrong.padShape[0] = 9;
  before = add_plans;
  EXPECT_EQ(model.run(wrong), DLC_SHAPE_MISMATCH);
  EXPECT_EQ(add_plans, before);
  // Another instance has its own.
  AddInstance other;
  AddArguments b(9);
  EXPECT_EQ(other.run(b), DLC_OK);
  EXPECT_EQ(add_plans - before, 1);
  EXPECT_EQ(run(9), 0);
}

TEST(Run, CallersWorkspace) {
  AddInstance model;
  AddArguments a(3);
  alignas(64) char memory[3 * 64 + 64];
  dlc_run_options options = {};
  options.struct_size = sizeof options;
  options.workspace = memory;
  options.workspace_size = 3 * 64;
  EXPECT_EQ(model.run(a, &options), DLC_OK) << model.error;
  EXPECT_EQ(a.wrong(), 0);
  options.workspace_size = 3 * 64 - 1;
  EXPECT_EQ(model.run(a, &options), DLC_WORKSPACE_TOO_SMALL);
  EXPECT_STREQ(model.error,
               "run: workspace has 191 bytes, these inputs need 192");
  options.workspace = memory + 4;
  EXPECT_EQ(model.run(a, &options), DLC_INVALID_ARGUMENT);
  EXPECT_STREQ(model.error, "run: workspace is not 64-byte aligned");
}

TEST(Run, ErrorTextGoesToTheRunsBuffer) {
  AddInstance model;
  AddArguments a(3);
  a.inputs[1] = nullptr;
  char text[64] = "";
  dlc_run_options options = {};
  options.struct_size = sizeof options;
  options.error = text;
  options.error_len = sizeof text;
  EXPECT_EQ(model.run(a, &options), DLC_INVALID_ARGUMENT);
  EXPECT_STREQ(text, "input 'y': is NULL");
  EXPECT_STREQ(model.error, "");
  options.error_len = 6;
  model.run(a, &options);
  EXPECT_STREQ(text, "input");
}

TEST(Run, DataDependentOutputIntoCallersRoom) {
  AddInstance model;
  AddArguments a(8);
  int64_t room[8];
  a.ownsRows = false;
  a.out[1].data = room;
  a.rowsShape[0] = 8;
  EXPECT_EQ(model.run(a), DLC_OK) << model.error;
  EXPECT_LT(a.rowsShape[0], 8);
  a.rowsShape[0] = 1;
  EXPECT_EQ(model.run(a), DLC_SHAPE_MISMATCH);
  EXPECT_STREQ(model.error,
               "output 'rows': needs 24 bytes, the tensor has room for 8");
}

TEST(Run, DataErrorNamesTheNode) {
  AddInstance model;
  AddArguments a(8);
  a.x[12] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(model.run(a), DLC_DATA_ERROR);
  EXPECT_STREQ(model.error,
               "model 'add': an index is out of range (node 'Add_0')");
}

TEST(Run, OwnThreads) {
  struct Count {
    int64_t tasks = 0;
    static void run(void *ctx, dlc_task_fn fn, const dlc_frame *frame,
                    int64_t n, int64_t workers) {
      EXPECT_EQ(workers, 3);
      static_cast<Count *>(ctx)->tasks += n;
      for (int64_t t = n; t-- > 0;)
        fn(frame, t, t % workers);
    }
  } count;
  dlc_create_options options = {};
  options.pf = Count::run;
  options.pf_ctx = &count;
  options.num_threads = 3;
  AddInstance model(&add_model_table, options);
  AddArguments a(6);
  EXPECT_EQ(model.run(a), DLC_OK) << model.error;
  EXPECT_EQ(a.wrong(), 0);
  EXPECT_EQ(count.tasks, 12);
}

TEST(Run, OwnAllocatorIsBalanced) {
  struct Counter {
    int64_t live = 0, calls = 0;
    static void *alloc(void *ctx, size_t size, size_t alignment) {
      auto *self = static_cast<Counter *>(ctx);
      self->live += static_cast<int64_t>(size);
      ++self->calls;
      return std::aligned_alloc(alignment,
                                (size + alignment - 1) / alignment * alignment);
    }
    static void free(void *ctx, void *pointer, size_t size) {
      static_cast<Counter *>(ctx)->live -= static_cast<int64_t>(size);
      std::free(pointer);
    }
  } counter;
  {
    dlc_create_options options = {};
    options.alloc = Counter::alloc;
    options.free = Counter::free;
    options.alloc_ctx = &counter;
    AddInstance model(&add_model_table, options);
    AddArguments a(8);
    int64_t room[8];
    a.ownsRows = false;
    a.out[1].data = room;
    a.rowsShape[0] = 8;
    EXPECT_EQ(model.run(a), DLC_OK);
    int64_t calls = counter.calls;
    for (int i = 0; i < 3; ++i) {
      a.rowsShape[0] = 8;
      EXPECT_EQ(model.run(a), DLC_OK);
    }
    EXPECT_EQ(counter.calls, calls) << "a second run must not allocate";
  }
  EXPECT_EQ(counter.live, 0);
}

TEST(Run, ConcurrentRunsOfOneInstance) {
  dlc_create_options options = {};
  options.num_threads = 2;
  AddInstance model(&add_model_table, options);
  std::vector<std::thread> threads;
  std::vector<int64_t> wrong(4, -1);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      AddArguments a(16 + t);
      std::vector<char> memory(64 * 32);
      void *start = memory.data();
      size_t room = memory.size();
      dlc_run_options run = {};
      run.struct_size = sizeof run;
      // Two of the threads share the instance's own arena.
      if (t % 2) {
        run.workspace = std::align(64, 64 * 20, start, room);
        run.workspace_size = room;
      }
      wrong[t] = 0;
      for (int i = 0; i < 200; ++i) {
        a.releaseRows();
        wrong[t] += model.run(a, &run) != DLC_OK || a.wrong();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  for (int64_t w : wrong)
    EXPECT_EQ(w, 0);
}

//===-- Refusals
//-----------------------------------------------------------===//

namespace {
struct Refusal {
  const char *name;
  void (*spoil)(AddArguments &);
  dlc_status status;
  const char *text;
};

int64_t badStrides[2] = {5, 1}, goodStrides[2] = {4, 1};

const Refusal refusals[] = {
    {"Type", [](AddArguments &a) { a.in[0].dtype = {kDLFloat, 64, 1}; },
     DLC_DTYPE_MISMATCH, "input 'x': expects f32, got f64"},
    {"Lanes", [](AddArguments &a) { a.in[0].dtype.lanes = 4; },
     DLC_DTYPE_MISMATCH, "input 'x': expects f32, got f32x4"},
    {"Bfloat", [](AddArguments &a) { a.in[1].dtype = {kDLBfloat, 16, 1}; },
     DLC_DTYPE_MISMATCH, "input 'y': expects f32, got bf16"},
    {"Rank", [](AddArguments &a) { a.in[0].ndim = 1; }, DLC_SHAPE_MISMATCH,
     "input 'x': expects rank 2 [batch, 4], got rank 1 [6]"},
    {"Constant", [](AddArguments &a) { a.xShape[1] = 5; }, DLC_SHAPE_MISMATCH,
     "input 'x': dim 1 is 5, expects 4"},
    {"Equality", [](AddArguments &a) { a.yShape[0] = 7; }, DLC_SHAPE_MISMATCH,
     "input 'y': dim 0 ('batch') is 7, but dim 0 of input 'x' made 'batch' 6"},
    {"Above", [](AddArguments &a) { a.xShape[0] = 65; }, DLC_SHAPE_MISMATCH,
     "input 'x': dim 0 ('batch') is 65, the model was built for 1..64"},
    {"Zero", [](AddArguments &a) { a.xShape[0] = 0; }, DLC_SHAPE_MISMATCH,
     "input 'x': dim 0 ('batch') is 0, the model was built for 1..64"},
    {"Negative", [](AddArguments &a) { a.xShape[0] = -1; }, DLC_SHAPE_MISMATCH,
     "input 'x': dim 0 is -1"},
    {"Overflow",
     [](AddArguments &a) { a.xShape[0] = a.xShape[1] = INT64_MAX / 2; },
     DLC_SHAPE_MISMATCH,
     "input 'x': shape [4611686018427387903, 4611686018427387903] has more "
     "bytes than an address can tell"},
    {"Strides", [](AddArguments &a) { a.in[0].strides = badStrides; },
     DLC_INVALID_ARGUMENT,
     "input 'x': not compact row-major: stride of dim 0 is 5, needs 4; pass a "
     "contiguous copy"},
    {"Null", [](AddArguments &a) { a.in[2].data = nullptr; },
     DLC_INVALID_ARGUMENT, "input 'pad': data is NULL"},
    {"Aligned", [](AddArguments &a) { a.in[0].byte_offset = 2; },
     DLC_INVALID_ARGUMENT,
     "input 'x': data is not aligned to its 4-byte elements"},
    {"Device", [](AddArguments &a) { a.in[0].device.device_type = kDLCUDA; },
     DLC_DEVICE_MISMATCH, "input 'x': expects CPU memory, got device type 2"},
    {"Output", [](AddArguments &a) { a.zShape[0] = 5; }, DLC_SHAPE_MISMATCH,
     "output 'z': dim 0 ('batch') is 5, expects 6"},
    {"OutputType", [](AddArguments &a) { a.out[1].dtype.bits = 32; },
     DLC_DTYPE_MISMATCH, "output 'rows': expects i64, got i32"},
    {"OutputStrides",
     [](AddArguments &a) { a.out[1].strides = goodStrides + 1; },
     DLC_INVALID_ARGUMENT,
     "output 'rows': its dims depend on the data, so strides must be NULL"},
};

class Refuses : public testing::TestWithParam<Refusal> {};
} // namespace

TEST_P(Refuses, WithText) {
  AddInstance model;
  AddArguments a(6);
  GetParam().spoil(a);
  EXPECT_EQ(model.run(a), GetParam().status);
  EXPECT_STREQ(model.error, GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(Run, Refuses, testing::ValuesIn(refusals),
                         [](const auto &info) { return info.param.name; });

TEST(Run, CompactStridesAreFine) {
  AddInstance model;
  AddArguments a(6);
  a.in[0].strides = goodStrides;
  EXPECT_EQ(model.run(a), DLC_OK) << model.error;
  AddArguments one(1); // the stride of a dim of extent 1 says nothing
  one.in[0].strides = badStrides;
  EXPECT_EQ(model.run(one), DLC_OK) << model.error;
}
