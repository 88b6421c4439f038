// Joins generated objects and the runtime to what users load or link: a shared
// object, by lld inside this process (no cc, no ld, no sysroot), or a static
// archive.
#ifndef DLC_ARTIFACT_LINK_H
#define DLC_ARTIFACT_LINK_H

#include "dlc/Artifact/Output.h"

#include "llvm/Support/MemoryBufferRef.h"
#include "llvm/TargetParser/Triple.h"

namespace dlc {

/// What goes into an artifact.
struct LinkInputs {
  llvm::Triple triple;
  /// The model's C identifier.
  std::string name;
  /// It keeps state, and has entry points for it.
  bool hasState = false;
  /// Generated objects, in memory.
  std::vector<llvm::MemoryBufferRef> objects;
  /// More objects as files: embedded weights.
  std::vector<std::string> objectFiles;
  /// libdlc_runtime.a for the triple; see findRuntimeArchive.
  std::string runtimeArchive;
  /// The functions that a kernel library exports; empty: those of a model.
  std::vector<std::string> exports;
  /// The runtime opens a device's driver: libdl is allowed, too.
  bool opensDriver = false;
};

/// Finds lib/dlc/<arch>/libdlc_runtime.a beside the program's folder or in the
/// folders above the library that contains this code. The error says what to
/// install when the runtime was not built for the architecture.
llvm::Expected<std::string> findRuntimeArchive(const llvm::Triple &triple);

/// Stages the shared object `path`. It exports <name>_* entry points,
/// dlc_module for dlc_load and the shared thread pool, and needs libc, libm
/// and libpthread alone: any other undefined symbol is an error.
llvm::Error writeSharedLibrary(OutputSet &outputs, const LinkInputs &inputs,
                               llvm::StringRef path);

/// Stages the archive `path`: the objects and the runtime's members. Global
/// symbols of the objects must begin with `<name>_`, so that several models
/// can be linked into one program; another one is an error.
llvm::Error writeStaticArchive(OutputSet &outputs, const LinkInputs &inputs,
                               llvm::StringRef path);

} // namespace dlc

#endif // DLC_ARTIFACT_LINK_H
