// A model that is compiled to be measured: in a folder that goes with it.
// It holds the artifact and the kernels as text, which say of what they are.
#ifndef DLC_LIB_DRIVER_BUILTMODEL_H
#define DLC_LIB_DRIVER_BUILTMODEL_H

#include "dlc/Driver/Options.h"
#include "dlc/Driver/RunModel.h"

#include "llvm/ADT/StringMap.h"

namespace dlc {

class Built {
public:
  static llvm::Expected<Built> create(const CompileOptions &options,
                                      CompileOptions::Precision precision,
                                      llvm::ArrayRef<unsigned> rounded = {});
  /// The same files once more, with pages of their own.
  llvm::Expected<Built> copy() const;

  const Artifact &get() const { return *artifact; }

  struct Sampled {
    double seconds = 0; ///< of a call
    double deviation = 0;
  };
  /// By operator of the model what its kernel takes, by samples of runs; "" has
  /// a whole run.
  llvm::Expected<llvm::StringMap<Sampled>>
  profile(llvm::ArrayRef<std::string> inputs) const;

private:
  std::unique_ptr<TemporaryFolder> folder;
  std::optional<Artifact> artifact;
};

} // namespace dlc

#endif // DLC_LIB_DRIVER_BUILTMODEL_H
