// What a library is made of besides the code of its instances: tables and
// functions as LLVM modules, and the texts around them (header, operation
// table, packages for CMake and pkg-config, Python wrapper and profiler).
#ifndef DLC_LIBRARY_EMIT_H
#define DLC_LIBRARY_EMIT_H

#include "dlc/Library/Library.h"

namespace llvm {
class Module;
}

namespace dlc::library {

/// A CPU that instances are compiled for, or a kind of device.
struct Cpu {
  std::string name;
  std::string features; ///< see requiredFeatures in dlc/Artifact/ModelTable.h
};

/// dlc_library_packing.
struct Packing {
  int64_t panel = 0, block = 1, elementBytes = 4, majors = 0, inner = 0,
          majorStep = 0, innerStep = 0, bytes = 0;

  /// Reads the layout's name (OperandPacking::layout); `bytes` is set before.
  /// False: it is none that the runtime can make.
  bool parse(const std::string &layout);
};

/// A kernel of a device, and what ptxas says of its launches; -1 where it was
/// not asked.
struct DeviceKernel {
  struct Launch {
    std::string name;
    int64_t threads = 0;
    int64_t registers = -1, sharedBytes = -1, stackBytes = -1;
    int64_t spillStoreBytes = -1, spillLoadBytes = -1;
  };
  std::string nest;
  std::vector<Launch> launches;
};

/// An instance that was compiled.
struct CompiledInstance {
  unsigned instance = 0; ///< of the operation
  unsigned cpu = 0;
  std::string modelTable;       ///< symbol of its dlc_model
  std::vector<int64_t> symbols; ///< the dim of each of the model's symbols
  int64_t bytes = 0;
  std::vector<std::string> kernels; ///< nests, for the operation table
  std::vector<DeviceKernel> deviceKernels;
  std::optional<Packing> packing;
};

/// All of a library, when its instances are compiled.
struct Build {
  Library library;
  std::string version; ///< dlc's
  std::string triple;
  /// Kernels run on a CUDA device: functions take addresses of its memory and
  /// a stream.
  bool onDevice = false;
  std::vector<Cpu> cpus; ///< best first
  /// By operation, in the order of dispatch.
  std::vector<std::vector<CompiledInstance>> instances;
};

/// "cpus" and the functions that set things up; every operation needs it.
void emitBase(llvm::Module &module, const Build &build);
/// The function of one operation and its table.
void emitOperation(llvm::Module &module, const Build &build, unsigned op);
/// The functions that enumerate operations.
void emitIndex(llvm::Module &module, const Build &build);

/// The names of all functions that the header declares.
std::vector<std::string> getFunctions(const Build &build);

/// A file of the library's folder.
struct OutputFile {
  std::string path; ///< below the folder
  std::string text;
};

/// Everything but the two libraries themselves.
std::vector<OutputFile> makeFiles(const Build &build);

} // namespace dlc::library

#endif // DLC_LIBRARY_EMIT_H
