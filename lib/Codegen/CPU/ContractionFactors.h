// What the choice of a contraction's schedule asks of its factors.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONFACTORS_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONFACTORS_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Codegen/Common/IndexBuilder.h"

namespace dlc {

/// Sizes that decide; a symbolic one counts as a typical value.
struct ContractionSizes {
  std::optional<int64_t> rows, columns, depth, outer;
  int64_t typicalRows, typicalColumns, typicalDepth, typicalOuter;
  int64_t mostRows;
  int64_t leastOuter; ///< symbolic dims, most often a batch, being one

  explicit ContractionSizes(const ContractionSpec &spec,
                            std::optional<SizeRange> range = std::nullopt);
};

/// Whether `operand` is a constant that can be packed.
bool isConstantFactor(const ContractionSpec &spec,
                      const ContractionOperand &operand,
                      llvm::ArrayRef<unsigned> major,
                      const CpuCodegenOptions &options);

/// Whether `operand` can be read where it lies.
bool isStrided(const ContractionSpec &spec, const ContractionOperand &operand,
               llvm::ArrayRef<unsigned> major);

/// Whether whole groups of `group` steps of k can be read where lhs lies: its
/// rows are contiguous along `inner`, and none ends within a group.
bool readsGroups(const ContractionSpec &spec, llvm::ArrayRef<unsigned> inner,
                 unsigned group);

/// Of an lhs that is an image read by addresses: whether a tap is so few groups
/// of k that an address for each pixel would cost more than it saves. A tile
/// within one of the image's rows needs but one.
bool hasShortTaps(const ContractionSpec &spec, unsigned group);

/// `inside` (null: true), and that a guard of these numbers holds.
mlir::Value alsoHolds(IndexBuilder &index, mlir::Value inside,
                      mlir::Value guard, bool isEquality);

/// Whether elements of lhs are numbers of the panels' type as they lie.
bool isUnconverted(const ContractionSpec &spec, ProductForm form);

/// Whether the machine has the instruction of `form` for vectors of its width.
bool hasInstruction(const CpuTarget &target, ProductForm form);

/// The fastest form in vectors that the machine has and the numerics allow.
ProductForm chooseVectorForm(const ContractionSpec &spec,
                             const CpuTarget &target,
                             const CpuCodegenOptions &options);

// ContractionBlocking.cpp

/// How many columns are filled at a time, and which rows and columns a task
/// has. `bytes`: of an element of a factor, as it lies in the caches.
void cutTasks(ContractionSchedule &s, const ContractionSizes &sizes,
              const ContractionSpec &spec, const CpuTarget &target,
              int64_t bytes);

/// What is used again should lie in the second-level cache meanwhile: lhs, when
/// it fits, while each panel of rhs passes once; else a block of rhs, while a
/// tile's rows of lhs lie in the first-level cache.
/// `bytes`: of an element of a factor, as it lies in the caches.
void blockForCaches(ContractionSchedule &s, const ContractionSizes &sizes,
                    const ContractionSpec &spec, const TargetDesc &desc,
                    int64_t bytes);

// ContractionTileSchedule.cpp: products of matrix tiles.

/// The form of a product of narrow numbers by tiles, where the machine has it
/// and the numerics allow it.
std::optional<ProductForm> tileFormOf(const ContractionSpec &spec,
                                      const CpuTarget &target,
                                      const CpuCodegenOptions &options);

/// Whether tiles are expected to be faster than `otherwise` for `rows` rows:
/// the longer of arithmetic and memory decides.
bool tilesPay(const ContractionSpec &spec, const CpuTarget &target,
              const CpuCodegenOptions &options, ProductForm otherwise,
              int64_t rows);

/// The schedule of a product of tiles; `s` is the base schedule.
ContractionSchedule scheduleTiles(ContractionSchedule s,
                                  const ContractionSpec &spec,
                                  const CpuTarget &target,
                                  const CpuCodegenOptions &options,
                                  const ContractionSizes &sizes);

/// Whether `s`, of a form of tiles, can be emitted.
bool isLegalForTiles(const ContractionSchedule &s, const ContractionSpec &spec,
                     std::string &reason);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONFACTORS_H
