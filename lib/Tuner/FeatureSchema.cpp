// Which features each family of nests has, and their identity.
#include "FeatureNames.h"

#include "dlc/Tuner/Record.h"

#include "llvm/ADT/STLExtras.h"

using namespace dlc::tuner;

// Raise it when a feature keeps its name and changes its meaning.
static constexpr int kFeatureVersion = 3;

llvm::ArrayRef<const char *> dlc::tuner::featureNames(llvm::StringRef family) {
  return family == "contraction" ? contractionFeatureNames()
         : family == "attention" ? attentionFeatureNames()
         : family == "cuda"      ? cudaFeatureNames()
                                 : loopFeatureNames();
}

std::string dlc::tuner::featureSchema(llvm::StringRef family) {
  std::string text = family.str() + " " + std::to_string(kFeatureVersion);
  for (const char *name : featureNames(family))
    text += std::string(" ") + name;
  return sha256(text);
}

std::vector<float>
dlc::tuner::relativeFeatures(llvm::ArrayRef<float> features,
                             llvm::ArrayRef<float> defaults) {
  std::vector<float> all(features.begin(), features.end());
  for (auto [mine, other] : llvm::zip_equal(features, defaults))
    all.push_back(mine - other);
  return all;
}
