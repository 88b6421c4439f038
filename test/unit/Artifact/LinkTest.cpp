// Shared objects and archives made from the hand-written model: what they
// export and need, that they run, that models share one pool, and that a
// failure leaves nothing behind.
#include "Support.h"

#include "../Runtime/AddModel.h"

#include "llvm/Object/ELFObjectFile.h"

#include <dlfcn.h>
#include <filesystem>

using namespace llvm;
using namespace llvm::object;
using namespace dlc;
using namespace dlctest;

namespace {
class Link : public Scratch {};

/// Names of the dynamic symbols that a shared object defines or needs.
std::vector<std::string> dynamicSymbols(const std::string &path, bool defined) {
  std::vector<std::string> names;
  auto file = cantFail(ObjectFile::createObjectFile(path));
  auto *elf = cast<ELFObjectFileBase>(file.getBinary());
  for (const ELFSymbolRef &symbol : elf->getDynamicSymbolIterators()) {
    bool undefined = cantFail(symbol.getFlags()) & SymbolRef::SF_Undefined;
    StringRef name = cantFail(symbol.getName());
    if (!name.empty() && undefined != defined)
      names.push_back(name.str());
  }
  llvm::sort(names);
  return names;
}

/// The entry points of a shared object opened without the loader.
struct Opened {
  explicit Opened(const std::string &path, const std::string &name)
      : library(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (!library) {
      ADD_FAILURE() << dlerror();
      return;
    }
    create = reinterpret_cast<decltype(create)>(
        dlsym(library, (name + "_create").c_str()));
    run = reinterpret_cast<decltype(run)>(
        dlsym(library, (name + "_run").c_str()));
    destroy = reinterpret_cast<decltype(destroy)>(
        dlsym(library, (name + "_destroy").c_str()));
    pool = dlsym(library, "dlc_pool_abi1");
  }
  int64_t wrongAfterRun(int threads) {
    dlc_create_options options = {};
    options.struct_size = sizeof options;
    options.num_threads = threads;
    dlc_instance *instance = nullptr;
    if (create(&options, &instance) != DLC_OK)
      return -1;
    AddArguments a(32);
    int64_t wrong =
        run(instance, a.inputs, a.outputs, nullptr) == DLC_OK ? a.wrong() : -2;
    destroy(instance);
    return wrong;
  }
  void *library;
  decltype(&dlc_model_run) run = nullptr;
  dlc_status (*create)(const dlc_create_options *, dlc_instance **) = nullptr;
  decltype(&dlc_model_destroy) destroy = nullptr;
  void *pool = nullptr;
};

size_t threadsOfProcess() {
  std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}
} // namespace

TEST_F(Link, ExportsAndNeeds) {
  for (StringRef arch : {"x86_64", "aarch64"}) {
    if (!sys::fs::exists(DLC_TEST_OBJECTS "/" + arch))
      GTEST_SKIP() << "no C headers for " << arch.str();
    std::string path = linkAdd("add", arch);
    std::vector<std::string> expected = {
        "add_create", "add_destroy",   "add_get_info", "add_output_shapes",
        "add_run",    "add_workspace", "dlc_module",   "dlc_pool_abi1"};
    EXPECT_EQ(dynamicSymbols(path, true), expected);
    for (const std::string &name : dynamicSymbols(path, false))
      EXPECT_EQ(name.find("llvm"), std::string::npos) << name;
    EXPECT_EQ(shell("readelf -d " + path +
                    " | grep NEEDED | grep -v "
                    "'libc.so.6\\|libpthread.so.0\\|libm.so.6'")
                  .second,
              "");
    EXPECT_TRUE(sys::fs::can_execute(path));
  }
}

TEST_F(Link, RunsThroughTheLoader) {
  char error[256] = "";
  dlc_create_options options = {};
  options.struct_size = sizeof options;
  options.error = error;
  options.error_len = sizeof error;
  dlc_instance *model = nullptr;
  ASSERT_EQ(dlc_load(linkAdd("add").c_str(), &options, &model), DLC_OK)
      << error;
  EXPECT_STREQ(dlc_get_info(model)->name, "add");
  AddArguments a(9);
  EXPECT_EQ(dlc_run(model, a.inputs, a.outputs, nullptr), DLC_OK) << error;
  EXPECT_EQ(a.wrong(), 0);
  dlc_unload(model);

  EXPECT_EQ(dlc_load(in("none.so").c_str(), &options, &model), DLC_BAD_LIBRARY);
  EXPECT_NE(StringRef(error).find("none.so"), StringRef::npos) << error;
  EXPECT_EQ(dlc_load("libm.so.6", &options, &model), DLC_BAD_LIBRARY);
  EXPECT_EQ(model, nullptr);
}

TEST_F(Link, ModelsShareOnePool) {
  // Linked first: the linker starts threads of its own.
  std::string add = linkAdd("add"), add2 = linkAdd("add2");
  size_t before = threadsOfProcess();
  {
    Opened first(add, "add"), second(add2, "add2");
    ASSERT_NE(first.pool, nullptr);
    EXPECT_EQ(first.pool, second.pool);
    // The second starts the threads, and is closed first.
    EXPECT_EQ(second.wrongAfterRun(3), 0);
    EXPECT_EQ(first.wrongAfterRun(3), 0);
    EXPECT_EQ(threadsOfProcess(), before + 2);
    dlclose(second.library);
    EXPECT_EQ(first.wrongAfterRun(3), 0);
    dlclose(first.library);
  }
  Opened again(add2, "add2");
  EXPECT_EQ(again.wrongAfterRun(3), 0);
  EXPECT_EQ(threadsOfProcess(), before + 2);
  dlclose(again.library);
}

TEST_F(Link, SameInputsSameBytes) {
  auto read = [&](const std::string &path) {
    return (*MemoryBuffer::getFile(path))->getBuffer().str();
  };
  std::string first = read(linkAdd("add"));
  EXPECT_EQ(first, read(linkAdd("add")));
}

TEST_F(Link, FailuresLeaveNothing) {
  LinkInputs inputs = addInputs("add");
  inputs.name = "other";
  {
    OutputSet outputs;
    std::string message =
        text(writeSharedLibrary(outputs, inputs, in("other.so")));
    EXPECT_NE(message.find("other.so: linking failed"), std::string::npos)
        << message;
    EXPECT_NE(message.find("other_create"), std::string::npos) << message;
  }
  EXPECT_TRUE(files().empty());
}

TEST_F(Link, ArchiveLinksByCc) {
  // Two models in one program, each from its own archive.
  for (StringRef name : {"add", "add2"}) {
    OutputSet outputs;
    ASSERT_EQ(text(writeStaticArchive(outputs, addInputs(name),
                                      in((name + ".a").str()))),
              "");
    ASSERT_EQ(text(outputs.commit()), "");
  }
  std::ofstream(in("main.c")) << R"c(
#include "dlc/runtime.h"
#include <stdio.h>
const dlc_info *add_get_info(void), *add2_get_info(void);
dlc_status add_create(const dlc_create_options *, dlc_instance **);
dlc_status add2_create(const dlc_create_options *, dlc_instance **);
void add_destroy(dlc_instance *);
int main(void) {
  dlc_instance *a, *b;
  if (add_create(NULL, &a) || add2_create(NULL, &b)) return 1;
  add_destroy(a); add_destroy(b);
  printf("%s %s\n", add_get_info()->name, add2_get_info()->name);
})c";
  auto [status, output] =
      shell("cc -Wall -Werror -I" DLC_TEST_SOURCE "/include " + in("main.c") +
            " " + in("add.a") + " " + in("add2.a") + " -lm -lpthread -o " +
            in("a.out") + " && " + in("a.out"));
  EXPECT_EQ(status, 0);
  EXPECT_EQ(output, "add add2\n");
}

TEST_F(Link, ArchiveRefusesForeignNames) {
  LinkInputs inputs = addInputs("add");
  inputs.name = "add2";
  OutputSet outputs;
  std::string message = text(writeStaticArchive(outputs, inputs, in("x.a")));
  EXPECT_NE(message.find("without the prefix 'add2_'"), std::string::npos)
      << message;
}

TEST_F(Link, RunsUnderQemu) {
  if (!*DLC_TEST_QEMU ||
      !sys::fs::exists(DLC_TEST_BUILD "/lib/dlc/aarch64/dlc-exec"))
    GTEST_SKIP() << "no qemu-aarch64 or no C library for it";
  std::string path = linkAdd("add", "aarch64");
  AddArguments a(3);
  auto write = [&](const char *name, const std::vector<float> &values,
                   const std::string &shape) {
    std::string header =
        "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(117, ' ');
    header += '\n';
    std::ofstream file(in(name), std::ios::binary);
    file.write("\x93NUMPY\x01\x00\x76\x00", 10) << header;
    file.write(reinterpret_cast<const char *>(values.data()),
               4 * values.size());
  };
  write("x.npy", a.x, "(3, 4)");
  write("y.npy", a.y, "(3, 4)");
  write("pad.npy", a.pad, "(6,)");
  auto [status, output] = shell(
      DLC_TEST_QEMU " -L /usr/aarch64-linux-gnu " DLC_TEST_BUILD
                    "/lib/dlc/aarch64/dlc-exec " +
      path + " -threads=2 -inputs=" + in("x.npy") + "," + in("y.npy") + "," +
      in("pad.npy") + " -outputs=" + folder.str().str() + " -bench=3");
  ASSERT_EQ(status, 0) << output;
  auto result = MemoryBuffer::getFile(in("output_0.npy"));
  ASSERT_TRUE(result);
  ASSERT_EQ((*result)->getBufferSize(), 128 + 48u);
  std::memcpy(a.z.data(), (*result)->getBufferStart() + 128, 48);
  EXPECT_EQ(a.wrong(), 0);
}

TEST(FindRuntime, UnknownArchitecture) {
  Expected<std::string> archive =
      findRuntimeArchive(Triple("sparcv9-unknown-linux-gnu"));
  ASSERT_FALSE(archive);
  EXPECT_NE(text(archive.takeError()).find("without its runtime for 'sparcv9'"),
            std::string::npos);
}
