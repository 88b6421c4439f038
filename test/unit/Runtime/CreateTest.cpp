// What create checks: interface version, CPU features, options, weights.
#include "AddModel.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <unistd.h>

using namespace dlctest;

TEST(Create, Abi) {
  dlc_model model = add_model_table;
  model.abi_version = DLC_ABI_VERSION + 1;
  AddInstance instance(&model);
  EXPECT_EQ(instance.status, DLC_ABI_MISMATCH);
  EXPECT_STREQ(instance.error, "the model has ABI version 5, this runtime 4");
  EXPECT_EQ(instance.instance, nullptr);
}

TEST(Create, Features) {
  dlc_info info = *add_model_table.info;
  dlc_model model = add_model_table;
  model.info = &info;
  info.features = "no-such-feature";
  AddInstance unknown(&model);
  EXPECT_EQ(unknown.status, DLC_UNSUPPORTED_CPU);
  EXPECT_STREQ(unknown.error,
               "model 'add' needs CPU feature 'no-such-feature', "
               "which this runtime cannot check; use a newer one");
#if defined(__x86_64__)
  info.features = "+sse2,fma4,xop";
  AddInstance missing(&model);
  if (!__builtin_cpu_supports("fma4") && !__builtin_cpu_supports("xop")) {
    EXPECT_EQ(missing.status, DLC_UNSUPPORTED_CPU);
    EXPECT_STREQ(missing.error,
                 "model 'add' needs CPU features that this machine lacks: "
                 "fma4, xop; compile it for this machine");
  }
  info.features = "+sse2,cmov,-xop";
  AddInstance fine(&model);
  EXPECT_EQ(fine.status, DLC_OK) << fine.error;
#endif
}

TEST(Create, Options) {
  dlc_create_options options = {};
  options.num_threads = -1;
  AddInstance negative(&add_model_table, options);
  EXPECT_EQ(negative.status, DLC_INVALID_ARGUMENT);
  EXPECT_STREQ(negative.error, "create: num_threads is -1");
  options = {};
  options.alloc = [](void *, size_t, size_t) -> void * { return nullptr; };
  AddInstance half(&add_model_table, options);
  EXPECT_EQ(half.status, DLC_INVALID_ARGUMENT);
  options.free = [](void *, void *, size_t) {};
  AddInstance empty(&add_model_table, options);
  EXPECT_EQ(empty.status, DLC_OUT_OF_MEMORY);
  EXPECT_STREQ(empty.error, "create: no memory for an instance of model 'add'");
  dlc_instance *instance = nullptr;
  EXPECT_EQ(dlc_model_create(&add_model_table, nullptr, &instance), DLC_OK);
  dlc_model_destroy(instance);
  dlc_model_destroy(nullptr);
}

TEST(Create, DeviceModels) {
  dlc_info info = *add_model_table.info;
  dlc_model model = add_model_table;
  model.info = &info;
  info.device_type = kDLCUDA;
  AddInstance instance(&model);
  EXPECT_EQ(instance.status, DLC_UNSUPPORTED_DEVICE);
}

//===-- Weights
//------------------------------------------------------------===//

namespace {
class Weights : public testing::Test {
protected:
  void SetUp() override {
    model = add_model_table;
    model.weights = nullptr;
    model.weights_file = "add-test.weights";
    model.weights_checksum = dlc_weights_checksum(0, values, sizeof values);
    path = testing::TempDir() + "dlc-weights-" + std::to_string(getpid());
  }
  void TearDown() override { std::remove(path.c_str()); }

  std::vector<char> bytes() {
    dlc_weights_header header = {};
    std::memcpy(header.magic, DLC_WEIGHTS_MAGIC, 8);
    header.data_offset = 4096;
    header.data_size = sizeof values;
    header.checksum = model.weights_checksum;
    std::vector<char> file(4096 + sizeof values);
    std::memcpy(file.data(), &header, sizeof header);
    std::memcpy(file.data() + 4096, values, sizeof values);
    return file;
  }
  void write(const std::vector<char> &file) {
    std::ofstream(path, std::ios::binary).write(file.data(), file.size());
  }
  std::unique_ptr<AddInstance> create(uint64_t flags = 0) {
    dlc_create_options options = {};
    options.weights_path = path.c_str();
    options.flags = flags;
    return std::make_unique<AddInstance>(&model, options);
  }

  const float values[4] = {10, 20, 30, 40};
  dlc_model model;
  std::string path;
};
} // namespace

TEST_F(Weights, MappedCopiedAndVerified) {
  write(bytes());
  for (uint64_t flags :
       {0u, DLC_CREATE_VERIFY_WEIGHTS, DLC_CREATE_COPY_WEIGHTS}) {
    auto instance = create(flags);
    ASSERT_EQ(instance->status, DLC_OK) << instance->error;
    AddArguments a(4);
    EXPECT_EQ(instance->run(a), DLC_OK);
    EXPECT_EQ(a.wrong(), 0);
  }
}

TEST_F(Weights, ByPointer) {
  std::vector<char> file = bytes();
  alignas(64) static char memory[4096 + 16];
  std::memcpy(memory, file.data(), file.size());
  dlc_create_options options = {};
  options.weights = memory;
  options.weights_size = sizeof memory;
  AddInstance instance(&model, options);
  ASSERT_EQ(instance.status, DLC_OK) << instance.error;
  AddArguments a(4);
  EXPECT_EQ(instance.run(a), DLC_OK);
  EXPECT_EQ(a.wrong(), 0);
  options.weights = memory + 8;
  AddInstance skewed(&model, options);
  EXPECT_EQ(skewed.status, DLC_INVALID_ARGUMENT);
}

TEST_F(Weights, Missing) {
  auto given = create();
  EXPECT_EQ(given->status, DLC_BAD_WEIGHTS);
  EXPECT_EQ(given->error, path + ": cannot open weights of model 'add'");
  AddInstance found(&model);
  EXPECT_EQ(found.status, DLC_BAD_WEIGHTS);
  EXPECT_NE(std::strstr(found.error,
                        "/add-test.weights' nor 'add-test.weights' "
                        "in the working folder can be opened"),
            nullptr)
      << found.error;
}

TEST_F(Weights, OfAnotherModel) {
  write(bytes());
  model.weights_checksum ^= 1;
  auto instance = create();
  EXPECT_EQ(instance->status, DLC_BAD_WEIGHTS);
  EXPECT_NE(std::strstr(instance->error, "weights of another model"), nullptr);
}

TEST_F(Weights, Damaged) {
  std::vector<char> file = bytes();
  file[4096] ^= 1;
  write(file);
  EXPECT_EQ(create()->status, DLC_OK) << "not looked at unless asked";
  auto instance = create(DLC_CREATE_VERIFY_WEIGHTS);
  EXPECT_EQ(instance->status, DLC_BAD_WEIGHTS);
  EXPECT_NE(std::strstr(instance->error, "damaged"), nullptr);
}

TEST_F(Weights, CutShort) {
  std::vector<char> file = bytes();
  for (size_t size : {file.size() - 1, size_t(4096), size_t(63), size_t(0)}) {
    std::vector<char> part(file.begin(), file.begin() + size);
    write(part);
    EXPECT_EQ(create()->status, DLC_BAD_WEIGHTS) << size;
  }
}

TEST(Checksum, EveryByteAndPieceCounts) {
  std::vector<char> data((2 << 20) + 100, 3);
  uint64_t whole = dlc_weights_checksum(0, data.data(), data.size());
  uint64_t state = 0;
  for (size_t at = 0; at < data.size(); at += DLC_WEIGHTS_PIECE)
    state = dlc_weights_checksum(state, data.data() + at,
                                 std::min(DLC_WEIGHTS_PIECE, data.size() - at));
  EXPECT_EQ(state, whole);
  for (size_t at :
       {size_t(0), size_t(31), size_t(32), size_t(1 << 20), data.size() - 1}) {
    data[at] ^= 1;
    EXPECT_NE(dlc_weights_checksum(0, data.data(), data.size()), whole) << at;
    data[at] ^= 1;
  }
  EXPECT_NE(dlc_weights_checksum(0, data.data(), 32),
            dlc_weights_checksum(0, data.data(), 33));
}
