// The nest `library`: a product of matrices or a convolution that a library
// outside of dlc computes (dlc/external.h), and our own code for what the
// kernel does with the sums. Never chosen by rules: a schedule has to name it.
//
// A kernel is cut into pieces, a task each: the library computes the sums of a
// piece on one thread, and the epilogue runs over them while they are near.
// Knobs: `pieces`, for how many a kernel is cut at least; `onednn`, the version
// that was measured (for people).
#ifndef DLC_CODEGEN_CPU_LIBRARYNEST_H
#define DLC_CODEGEN_CPU_LIBRARYNEST_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/ScheduleSpace.h"
#include "dlc/Target/Common/CpuTarget.h"
#include "dlc/external.h"

namespace dlc {

/// The name of the nest in schedules.
inline constexpr llvm::StringLiteral kLibraryNest = "library";

/// What the library is asked for, and for which parts of the kernel.
struct LibraryPlan {
  struct Piece {
    int64_t problem = 0;                   ///< index into `problems`
    int64_t src = 0, weights = 0, dst = 0; ///< offsets in elements
    int64_t outer = 0;                     ///< linear, of the spec's outer axes
    /// The part of the spec's rows and columns.
    int64_t firstRow = 0, rows = 0, firstColumn = 0, columns = 0;
  };
  std::vector<dlc_external_problem> problems;
  std::vector<Piece> pieces;
  unsigned src = 0, weights = 0; ///< operands of the kernel
  unsigned result = 0;           ///< holds the sums
  bool constantWeights = false;
};

/// Fails, with `reason` in words, where the library has no such product or
/// convolution: sizes that are symbolic, factors that are computed, types but
/// f32 and bf16, groups, sums that must keep their order.
mlir::FailureOr<LibraryPlan> planLibrary(const ContractionSpec &spec,
                                         const CpuCodegenOptions &options,
                                         int64_t pieces, std::string &reason);

/// The schedules that are worth a measurement, at most 3; none where
/// planLibrary fails.
std::vector<KnobValues> libraryCandidates(const ContractionSpec &spec,
                                          const CpuTarget &target,
                                          const CpuCodegenOptions &options,
                                          unsigned threads,
                                          std::string &reason);

/// The symbol of the dlc_external_site of a kernel of this symbol.
std::string librarySiteOf(llvm::StringRef kernelSymbol);

/// Emits `kernel`, whose schedule names the nest; on failure `reason` says why
/// not.
mlir::FailureOr<CpuKernel> emitLibrary(graph::KernelOp kernel,
                                       const CpuTarget &target,
                                       const CpuCodegenOptions &options,
                                       std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LIBRARYNEST_H
