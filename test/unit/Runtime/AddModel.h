// Arguments for the hand-written model of AddModel.c, which most tests here
// run.
#ifndef DLC_TEST_UNIT_RUNTIME_ADDMODEL_H
#define DLC_TEST_UNIT_RUNTIME_ADDMODEL_H

#include "dlc/runtime.h"

#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" {
extern const dlc_model add_model_table;
/* How often the model's plan was made. */
extern std::atomic<int64_t> add_plans;
}

namespace dlctest {

/// Correct arguments for a batch; tests spoil one thing at a time.
struct AddArguments {
  explicit AddArguments(int64_t batch)
      : batch(batch), x(4 * batch), y(4 * batch), pad(2 * batch), z(4 * batch),
        xShape{batch, 4}, yShape{batch, 4}, padShape{2 * batch},
        zShape{batch, 4}, rowsShape{0} {
    for (int64_t i = 0; i < 4 * batch; ++i) {
      x[i] = static_cast<float>(i % 7) - 3;
      y[i] = 0.5f * static_cast<float>(i);
    }
    auto make = [](void *data, int64_t *shape, int rank, DLDataType type) {
      return DLTensor{data, {kDLCPU, 0}, rank, type, shape, nullptr, 0};
    };
    DLDataType f32{kDLFloat, 32, 1};
    in[0] = make(x.data(), xShape, 2, f32);
    in[1] = make(y.data(), yShape, 2, f32);
    in[2] = make(pad.data(), padShape, 1, f32);
    out[0] = make(z.data(), zShape, 2, f32);
    out[1] = make(nullptr, rowsShape, 1, {kDLInt, 64, 1});
    for (int i = 0; i < 3; ++i)
      inputs[i] = &in[i];
    for (int i = 0; i < 2; ++i)
      outputs[i] = &out[i];
  }
  AddArguments(const AddArguments &) = delete;
  ~AddArguments() { releaseRows(); }

  void releaseRows() {
    if (ownsRows)
      std::free(out[1].data);
    out[1].data = nullptr;
  }

  /// The number of elements of z that differ from x + y + w.
  int64_t wrong() const {
    const float w[4] = {10, 20, 30, 40};
    int64_t count = 0;
    for (int64_t i = 0; i < 4 * batch; ++i)
      count += z[i] != x[i] + y[i] + w[i % 4];
    return count;
  }

  int64_t batch;
  std::vector<float> x, y, pad, z;
  int64_t xShape[2], yShape[2], padShape[1], zShape[2], rowsShape[1];
  DLTensor in[3], out[2];
  const DLTensor *inputs[3];
  DLTensor *outputs[2];
  bool ownsRows = true;
};

/// An instance with a buffer for error texts.
struct AddInstance {
  explicit AddInstance(const dlc_model *model = &add_model_table,
                       dlc_create_options options = {}) {
    options.struct_size = sizeof options;
    options.error = error;
    options.error_len = sizeof error;
    status = dlc_model_create(model, &options, &instance);
  }
  ~AddInstance() { dlc_model_destroy(instance); }
  AddInstance(const AddInstance &) = delete;

  dlc_status run(AddArguments &a, const dlc_run_options *options = nullptr) {
    return dlc_model_run(instance, a.inputs, a.outputs, options);
  }

  dlc_instance *instance = nullptr;
  dlc_status status;
  char error[512] = "";
};

} // namespace dlctest

#endif
