// The C++ face of the tables in dlc/runtime.h. ModelInfo is what dlc_info says,
// and the functions here put it, the dlc_model table and the public entry
// points of a model into an LLVM module, so that no other part of the compiler
// knows the layout of those structs.
#ifndef DLC_ARTIFACT_MODELTABLE_H
#define DLC_ARTIFACT_MODELTABLE_H

#include "dlc/runtime.h"

#include "llvm/ADT/StringRef.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace llvm {
class Constant;
class Function;
class GlobalVariable;
class MCSubtargetInfo;
class Module;
} // namespace llvm

namespace dlc {

/// One dim as dlc_dim says it. `text` is what users read: "64", "batch",
/// "2 * seq"; a constant's text is filled in from the value when empty.
struct DimInfo {
  dlc_dim_kind kind = DLC_DIM_CONST;
  int64_t value = 0;
  std::string text;

  static DimInfo constant(int64_t extent) {
    return {DLC_DIM_CONST, extent, {}};
  }
  static DimInfo symbol(int64_t index, std::string name) {
    return {DLC_DIM_SYMBOL, index, std::move(name)};
  }
  static DimInfo expr(std::string text) {
    return {DLC_DIM_EXPR, 0, std::move(text)};
  }
  static DimInfo data() { return {DLC_DIM_DATA, 0, "?"}; }
};

struct TensorInfo {
  std::string name; ///< as in the ONNX graph
  int64_t typeCode = kDLFloat;
  int64_t typeBits = 32;
  std::vector<DimInfo> dims;
};

struct StateInfo {
  TensorInfo tensor;
  std::string output;
  int64_t axis = 0;
  int64_t length = 0, capacity = 0; ///< symbols; -1 for none
  DimInfo rows;                     ///< a constant or a symbol
};

struct SymbolInfo {
  std::string name;
  int64_t min = 0;
  int64_t max = INT64_MAX;
  int64_t typical = 1;
};

struct WeightsInfo {
  int64_t size = 0;
  uint64_t checksum = 0;
  /// External weights: the file's name without folder.
  std::string file;
  /// Embedded weights: the symbol of the bytes (hidden, 64-byte aligned),
  /// defined in this module or in another object of the artifact.
  std::string symbol;
};

/// What a model brings along for its device: dlc_device_image.
struct DeviceImage {
  struct Module {
    dlc_device_code kind = DLC_DEVICE_PTX;
    int64_t arch = 80;  ///< compute capability times ten
    bool exact = false; ///< no other capability runs it
    std::string bytes;  ///< as the driver takes them
  };
  struct Function {
    std::string symbol, kernel;
    int64_t blockThreads = 0;
    int64_t numParams = 0;
    int64_t sharedBytes = 0; ///< dynamic
    std::optional<dlc_device_call> call = {};
  };
  /// The runtime's table of the device's functions.
  std::string backend;
  std::vector<Module> modules;
  std::vector<Function> functions;
  std::vector<std::string> sites;
  /// The runtime's tables of them, by dlc_device_call_kind; empty: not called.
  std::array<std::string, DLC_DEVICE_NUM_LIBRARIES> libraries;
};

/// Kernels that a library outside of dlc computes: dlc_external_image.
struct ExternalImage {
  /// The runtime's functions for the library.
  std::string backend;
  /// Symbols of dlc_external_site, each in its kernel's object.
  std::vector<std::string> sites;
};

/// Everything a model says of itself. `name` is a C identifier; features uses
/// the names requiredFeatures returns.
struct ModelInfo {
  std::string name;
  std::string dlcVersion;
  std::string triple;
  std::string cpu;
  std::string features;
  std::string flags;
  std::string precision = "f32";
  std::string fpMode = "reassoc";
  std::string laws;
  int64_t deviceType = kDLCPU;
  int64_t numKernels = 0;
  std::vector<TensorInfo> inputs;
  std::vector<TensorInfo> outputs;
  std::vector<SymbolInfo> symbols;
  std::vector<StateInfo> states;
  WeightsInfo weights;
};

/// The generated functions that dlc_model points to; null where runtime.h
/// allows NULL.
struct ModelFunctions {
  llvm::Function *inputDims = nullptr;
  llvm::Function *outputDims = nullptr;
  llvm::Function *plan = nullptr;
  int64_t numSizes = 0; ///< what `plan` stores
  llvm::Function *execute = nullptr;
};

/// Defines the hidden constant `<name>_model_table`; `image` is null for a
/// model that runs on a CPU, `external` where no library is called. Asserts
/// that `functions.execute` is set.
llvm::GlobalVariable *emitModelTable(llvm::Module &module,
                                     const ModelInfo &info,
                                     const ModelFunctions &functions,
                                     const DeviceImage *image = nullptr,
                                     const ExternalImage *external = nullptr);

/// Defines the public functions of generated `<name>.h` over the table
/// `<name>_model_table`, which may be in this module or another object:
///   ptr  <name>_get_info()
///   i32  <name>_create(ptr options, ptr out)
///   i32  <name>_output_shapes(ptr, ptr inputs, ptr dims)
///   i64  <name>_workspace(ptr, ptr inputs)
///   i32  <name>_run(ptr, ptr inputs, ptr outputs, ptr options)
///   void <name>_destroy(ptr)
/// and for a model that keeps state
///   i64  <name>_state_length(ptr)
///   i64  <name>_state_bytes(ptr)
///   i32  <name>_state_truncate(ptr, i64)
///   i32  <name>_state_reserve(ptr, i64)
void addModelEntryPoints(llvm::Module &module, llvm::StringRef name,
                         bool hasState = false);

/// The enabled instruction sets that generated code may execute and the
/// runtime can check, comma-separated, for ModelInfo::features. Those of matrix
/// tiles need the operating system's permission too: only where `usesTiles`.
std::string requiredFeatures(const llvm::MCSubtargetInfo &subtarget,
                             bool usesTiles = false);

/// Makes a C identifier of a file's or model's name: other characters become
/// '_', a leading digit gets one in front, a word of C one behind.
std::string toIdentifier(llvm::StringRef name);

/// The text of `<name>.h`.
std::string makeHeader(const ModelInfo &info);

} // namespace dlc

#endif // DLC_ARTIFACT_MODELTABLE_H
