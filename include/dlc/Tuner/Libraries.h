// Libraries as candidates: whether there is one on this machine, and where the
// records say that it beats our nests.
#ifndef DLC_TUNER_LIBRARIES_H
#define DLC_TUNER_LIBRARIES_H

#include "dlc/Tuner/Record.h"

namespace dlc::tuner {

/// oneDNN's version, major * 10000 + minor * 100 + patch; 0 with `reason` in
/// words where there is none. Opens it in a process of its own.
int64_t findLibrary(std::string &reason);

/// A kernel that a library computes in less time than the best known schedule
/// of our nests: something that they could do and do not.
struct Gap {
  std::string kernel;  ///< for people: sizes, threads
  std::string machine; ///< CPU or GPU
  std::string library; ///< "oneDNN 3.2.0"
  double ours = 1;     ///< best known time of our nests over the library's
  double seconds = 0;  ///< the library's
};

struct Gaps {
  std::vector<Gap> gaps; ///< the widest first
  unsigned compared = 0; ///< kernels that a library was measured on
  /// Geometric mean of our times over the library's, of all compared.
  double mean = 1;
};

/// Of the current code generator's records. A kernel counts where the library
/// is faster by more than `margin`.
llvm::Expected<Gaps> findGaps(llvm::ArrayRef<Record> records,
                              double margin = 0.03);

} // namespace dlc::tuner

#endif // DLC_TUNER_LIBRARIES_H
