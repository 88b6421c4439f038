// How a contraction is carried out: the register tile, where each factor is
// read from, and how the work is cut into tasks. Plain numbers, so that a tuner
// can search them; defaultSchedule gives good ones from the target description.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONSCHEDULE_H
#define DLC_CODEGEN_CPU_CONTRACTIONSCHEDULE_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/SizeRange.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// Where the micro-kernel reads a factor from.
enum class FactorSource {
  Memory, ///< the operand's own buffer, by strides
  /// The operand's own buffer (lhs only): an address for each row of a tile and
  /// each step of the inner axes before `lhsRun`, or one of zeros where a guard
  /// does not hold. (Dukhan, "The Indirect Convolution Algorithm", 2019; here
  /// addresses are computed, not stored.)
  Indirect,
  Filled, ///< panels that each task fills in its scratch
  Packed, ///< a constant, packed when the model is compiled
};

/// What one instruction of the inner loop sums. The grouped forms multiply
/// narrow numbers (ContractionSpec::narrow), `group` steps of k in a lane.
enum class ProductForm {
  Single,    ///< one product in the accumulator's type: multiply-add
  Bf16Pairs, ///< two bf16 products into f32 (vdpbf16ps)
  ByteQuads, ///< four products u8 * s8 into i32 (vpdpbusd)
  I16Pairs,  ///< two i16 products into i32 (pmaddwd): bytes less zero points
  /// Products of matrix tiles (AMX): 16 rows of 64 bytes by 16 columns. Panels
  /// are those of the form in vectors.
  Bf16Tiles, ///< tdpbf16ps
  ByteTiles, ///< tdpbusd or tdpbsud
};

/// Whether one instruction multiplies tiles.
inline bool isTileForm(ProductForm form) {
  return form == ProductForm::Bf16Tiles || form == ProductForm::ByteTiles;
}
inline bool isByteForm(ProductForm form) {
  return form == ProductForm::ByteQuads || form == ProductForm::ByteTiles;
}
inline bool isBf16Form(ProductForm form) {
  return form == ProductForm::Bf16Pairs || form == ProductForm::Bf16Tiles;
}
/// The form in vectors that reads the panels of `form`.
inline ProductForm vectorForm(ProductForm form) {
  return form == ProductForm::Bf16Tiles   ? ProductForm::Bf16Pairs
         : form == ProductForm::ByteTiles ? ProductForm::ByteQuads
                                          : form;
}
/// Rows of a matrix tile, and columns: 32-bit sums.
constexpr unsigned kTileRows = 16;

/// Columns that are read side by side when sums run along k: so many streams
/// the hardware fetches ahead well.
constexpr unsigned kDotColumns = 8;

struct ContractionSchedule {
  ProductForm form = ProductForm::Single;
  unsigned lanes = 16;       ///< elements of the accumulator type in a vector
  unsigned tileRows = 14;    ///< rows of the register tile (MR)
  unsigned tileVectors = 2;  ///< vectors across the register tile
  unsigned panelVectors = 2; ///< vectors across a packed panel of rhs: layout
  unsigned kBlock = 16; ///< consecutive k of one row in a packed lhs: layout
  /// Panels of rhs end at a multiple of so many k, with zeros: whole groups, or
  /// whole tiles on machines that multiply tiles. Layout.
  unsigned depthStep = 1;
  /// A filled lhs lies row by row, not in blocks: for factors that are copied
  /// in short runs of k (a Conv's taps along an image row).
  bool wholeRows = false;
  /// A filled lhs lies step by step, [k][row]: for taps along an image row,
  /// which share their loads and are shifted in registers.
  bool wholeSteps = false;
  unsigned unroll = 4;   ///< steps of k in the inner loop's body
  unsigned prefetch = 0; ///< rhs steps of k fetched ahead; 0 is none
  /// Rows packed lhs panels hold: 0 means all rows of the task (or constant).
  unsigned panelRows = 0;
  FactorSource lhs = FactorSource::Filled;
  FactorSource rhs = FactorSource::Filled;
  int64_t rowsPerTask = 0;    ///< 0: all rows
  int64_t columnsPerTask = 0; ///< 0: all columns; else a multiple of a panel
  /// Columns that all rows of the task pass over before the next ones' turn:
  /// their part of rhs (which is filled then) stays in the second-level cache.
  /// 0: all of the task.
  int64_t columnsPerBlock = 0;
  /// Steps of k summed before the next tile's turn; 0: all, else whole kBlocks.
  /// Partial sums wait in the result, so one must have the sum's type.
  int64_t depthPerPass = 0;
  /// A tile's rows outside, columns inside: lhs is streamed once and rhs panels
  /// are read again for every tile of rows. Else the other way round.
  bool rowsOutside = false;
  /// For rows of unknown number: rows outside when a task has this many; 0: as
  /// `rowsOutside` says.
  int64_t rowsOutsideFrom = 0;
  /// While rows pass one tile of columns, the next one's panels of a packed rhs
  /// are fetched into the second-level cache, by each tile a part.
  bool fetchesAhead = false;
  /// Sums along vectors of k instead of along columns, for few rows against an
  /// rhs whose k are contiguous. Both factors are read from memory.
  bool dot = false;
  /// The last columns of a packed rhs fill half a vector, which holds two steps
  /// of k of them. Layout.
  bool pairsTail = false;
  bool fma = true; ///< false: multiply, round, add
  /// A packed rhs of another type than the accumulator's is widened panel by
  /// panel into scratch before the rows pass, instead of by each tile. Columns
  /// are outside then.
  bool widensRhs = false;
  /// All passes of some columns before the next columns' turn: what is widened
  /// streams as it is packed, and rows of lhs, which are few, come again.
  bool passesInside = false;
  /// Where rhs is computed in tiles, scales that runs of steps share multiply
  /// the sums of these steps (ContractionSpec::scale, the law distribute(add)).
  bool scalesSums = false;
  /// What is computed from the sums (isShortEpilogue) is computed in the tile's
  /// registers, instead of in a loop over the stored tile.
  bool epilogueInTiles = false;

  unsigned panelColumns() const { return panelVectors * lanes; }
  /// Columns of the wider of a tile and a panel: what tasks and blocks are cut
  /// in.
  int64_t columnStep() const {
    return int64_t(std::max(tileVectors, panelVectors)) * lanes;
  }
  /// Steps of k in one lane of a panel: they lie side by side.
  unsigned group() const {
    return form == ProductForm::Single ? 1 : isByteForm(form) ? 4 : 2;
  }
  bool usesTiles() const { return isTileForm(form); }
  /// Columns that all rows of a task pass before the next ones' turn.
  int64_t tileColumns() const {
    return dot ? kDotColumns : int64_t(tileVectors) * lanes;
  }
  /// Stable text, for reports and logs.
  std::string str() const;
};

/// What does not depend on shapes: packed layouts are a function of the target
/// and the element type only, so that tuning never repacks a model's weights.
ContractionSchedule baseSchedule(const TargetDesc &desc, mlir::Type accumulator,
                                 ProductForm form = ProductForm::Single);

/// The product whose factors the micro-kernel reads under `form`.
ContractionSpec factorsOf(const ContractionSpec &spec, ProductForm form);

/// The type of an element in filled panels under `form`.
mlir::Type panelElement(const ContractionSpec &spec, ProductForm form);

/// Whether panels of rhs hold bytes with the other sign: a product of bytes is
/// of an unsigned and a signed one.
bool flipsRhs(const ContractionSpec &spec, ProductForm form);

/// Whether bytes of lhs are the unsigned factor.
bool isLhsUnsigned(const ContractionSpec &spec);

/// The fastest form that the machine has and the numerics allow, for `rows`
/// rows.
ProductForm chooseForm(const ContractionSpec &spec, const CpuTarget &target,
                       const CpuCodegenOptions &options,
                       std::optional<SizeRange> rows = std::nullopt);

/// The rule: of the tiles that fit the registers, the one that wastes least in
/// the row and column tails. `rows` is what is known of symbolic rows; without
/// it they are taken to be many.
ContractionSchedule
defaultSchedule(const ContractionSpec &spec, const CpuTarget &target,
                const CpuCodegenOptions &options,
                std::optional<SizeRange> rows = std::nullopt);
/// The same with a given form of the product.
ContractionSchedule defaultSchedule(const ContractionSpec &spec,
                                    const CpuTarget &target,
                                    const CpuCodegenOptions &options,
                                    std::optional<SizeRange> rows,
                                    ProductForm form);

/// What `rows` rows cost under `schedule` when their number is known only at
/// run time, in units that compare schedules of one `spec`.
int64_t symbolicRowsCost(const ContractionSchedule &schedule,
                         const ContractionSpec &spec, int64_t rows);

/// The result in which a tile's sums can lie, of the accumulator's type: the
/// sum's own if it is one; none: a tile lies in scratch until its epilogue.
std::optional<unsigned> findResultOfSums(const ContractionSpec &spec);

/// Whether what is computed from the sums fits a tile's registers: few cheap
/// functions of the sum and of numbers that lie side by side along the columns.
bool isShortEpilogue(const ContractionSpec &spec);

/// Steps of k that one position of the first inner axis has, when lhs is read
/// indirectly: passes are so many or a multiple. 0: no passes.
int64_t indirectPassUnit(const ContractionSpec &spec);

/// Whether `schedule` can be emitted for `spec`; `reason` says why not.
bool isLegal(const ContractionSchedule &schedule, const ContractionSpec &spec,
             const CpuTarget &target, std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONSCHEDULE_H
