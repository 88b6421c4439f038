// Runs a kernel made for another architecture: links it with a small C program,
// runs that under qemu's user emulation and takes the buffers back, guards
// included. Only where the cross compiler and qemu are installed.
#ifndef DLC_TEST_UNIT_CODEGEN_CROSSKERNEL_H
#define DLC_TEST_UNIT_CODEGEN_CROSSKERNEL_H

#include "KernelHarness.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"

#include <fstream>

namespace dlc::test {

/// True when AArch64 programs can be made and run here.
inline bool canRunArm() {
  return llvm::sys::findProgramByName("qemu-aarch64") &&
         llvm::sys::findProgramByName("aarch64-linux-gnu-gcc");
}

/// Compiles `kernel` and runs all its tasks on `buffers`. Returns an error
/// text, empty on success.
inline std::string runOnArm(CpuKernel &kernel, const CpuTarget &target,
                            llvm::ArrayRef<GuardedBuffer *> buffers,
                            llvm::ArrayRef<int64_t> symbols) {
  auto object = compileModule(*kernel.module, target);
  if (!object)
    return llvm::toString(object.takeError());
  llvm::SmallString<128> folder;
  if (llvm::sys::fs::createUniqueDirectory("dlc-arm", folder))
    return "no temporary folder";
  std::string base = folder.str().str() + "/";
  auto write = [&](const std::string &name, const char *data, size_t bytes) {
    std::ofstream(base + name, std::ios::binary).write(data, bytes);
  };
  write("kernel.o", object->data(), object->size());
  std::string text =
      "#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
      "typedef struct { int32_t *status; void *scratch; int64_t stride;"
      " void *const *buffers; const int64_t *symbols; } frame;\n";
  for (const CpuPhase &phase : kernel.phases)
    text += "void " + phase.symbol + "(const frame *, int64_t, int64_t);\n";
  text += "static char *get(const char *name, long bytes) {\n"
          "  char *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);\n"
          "  FILE *f = fopen(name, \"rb\");\n"
          "  if (!f || fread(p, 1, bytes, f) != (size_t)bytes) exit(3);\n"
          "  fclose(f); return p;\n}\n"
          "int main(void) {\n  int32_t status = 0;\n"
          "  char *memory[" +
          std::to_string(buffers.size()) + "];\n  void *data[" +
          std::to_string(buffers.size()) + "];\n  int64_t symbols[] = {";
  for (int64_t symbol : symbols)
    text += std::to_string(symbol) + ", ";
  int64_t scratch = graph::evaluate(kernel.scratchBytes, symbols);
  text += "0};\n  frame f = {&status, aligned_alloc(64, " +
          std::to_string((scratch + 127) / 64 * 64) + "), " +
          std::to_string(scratch) + ", data, symbols};\n";
  for (auto [i, buffer] : llvm::enumerate(buffers)) {
    std::string name = base + "buffer" + std::to_string(i);
    write("buffer" + std::to_string(i), buffer->allData(), buffer->allBytes());
    text += "  memory[" + std::to_string(i) + "] = get(\"" + name + "\", " +
            std::to_string(buffer->allBytes()) + "); data[" +
            std::to_string(i) + "] = memory[" + std::to_string(i) + "] + " +
            std::to_string(GuardedBuffer::guard) + ";\n";
  }
  for (const CpuPhase &phase : kernel.phases)
    text += "  for (int64_t i = 0; i < " +
            std::to_string(graph::evaluate(phase.numTasks, symbols)) +
            "; ++i) " + phase.symbol + "(&f, i, 0);\n";
  for (auto [i, buffer] : llvm::enumerate(buffers))
    text += "  { FILE *o = fopen(\"" + base + "buffer" + std::to_string(i) +
            "\", \"wb\"); fwrite(memory[" + std::to_string(i) + "], 1, " +
            std::to_string(buffer->allBytes()) + ", o); fclose(o); }\n";
  text += "  return status;\n}\n";
  write("main.c", text.data(), text.size());

  auto run = [&](llvm::StringRef program, std::vector<std::string> arguments) {
    auto path = llvm::sys::findProgramByName(program);
    if (!path)
      return -1;
    llvm::SmallVector<llvm::StringRef> words{*path};
    words.append(arguments.begin(), arguments.end());
    return llvm::sys::ExecuteAndWait(*path, words);
  };
  std::string error;
  if (run("aarch64-linux-gnu-gcc",
          {"-O1", "-static", base + "main.c", base + "kernel.o", "-o",
           base + "run", "-lm"}))
    error = "the program does not link";
  else if (run("qemu-aarch64", {"-cpu", "max", base + "run"}))
    error = "the program fails";
  for (auto [i, buffer] : llvm::enumerate(buffers))
    std::ifstream(base + "buffer" + std::to_string(i), std::ios::binary)
        .read(buffer->allData(), buffer->allBytes());
  llvm::sys::fs::remove_directories(folder);
  return error;
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CODEGEN_CROSSKERNEL_H
