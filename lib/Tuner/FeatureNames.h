// The features of the families of nests, by name.
#ifndef DLC_LIB_TUNER_FEATURENAMES_H
#define DLC_LIB_TUNER_FEATURENAMES_H

#include "dlc/Tuner/Features.h"

namespace dlc::tuner {

llvm::ArrayRef<const char *> contractionFeatureNames();
llvm::ArrayRef<const char *> loopFeatureNames();
llvm::ArrayRef<const char *> attentionFeatureNames();
llvm::ArrayRef<const char *> cudaFeatureNames();

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_FEATURENAMES_H
