// The system libraries that artifacts may need. Private to lib/Artifact.
#ifndef DLC_LIB_ARTIFACT_SYSTEMLIBRARIES_H
#define DLC_LIB_ARTIFACT_SYSTEMLIBRARIES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace dlc {

struct SystemLibrary {
  llvm::StringRef soname;
  llvm::ArrayRef<llvm::StringRef> functions;
};

/// In link order; with libdl for artifacts that open a driver.
llvm::ArrayRef<SystemLibrary> systemLibraries(bool opensDriver);

} // namespace dlc

#endif // DLC_LIB_ARTIFACT_SYSTEMLIBRARIES_H
