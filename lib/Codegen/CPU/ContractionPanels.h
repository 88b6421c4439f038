// Filling of panels at run time: each task copies its part of a factor from
// memory into its scratch, converting, transposing and padding on the way. With
// this one step, transposed operands, im2col and narrow element types all look
// alike to the micro-kernel.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONPANELS_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONPANELS_H

#include "dlc/Codegen/CPU/ContractionExpr.h"
#include "dlc/Codegen/CPU/ContractionSchedule.h"

namespace dlc {

/// What filling needs of the task it runs in.
struct PanelContext {
  const ContractionSpec &spec;
  const ContractionSchedule &schedule;
  IndexBuilder &index;
  ExprEmitter &expressions;
  std::function<mlir::Value(unsigned operand)> buffer;
  mlir::ValueRange symbols;
  /// Values of all axes: the outer ones of this task, the others zero.
  llvm::SmallVector<mlir::Value> axes;
  mlir::Value depth;       ///< extent of inner; of panels: whole groups
  mlir::Value paddedDepth; ///< whole blocks
  /// Column panels, rows copied along k and panels of groups may hold a part of
  /// k, which starts and ends here, and have room for `depth` steps; null: all.
  mlir::Value firstStep = {}, endStep = {};
};

/// The same for panels of groups of k (ContractionSchedule::group), whose ends
/// are zeros: lhs is [row / panelRows][k / kBlock][panelRows][kBlock], rhs
/// [panel][k / group][column][group], or the same with one panel of `pitch`
/// columns. Where `flips`, bytes of rhs have the other sign.
mlir::LogicalResult fillLhsGroups(PanelContext &context, mlir::Value panels,
                                  mlir::Value first, mlir::Value count,
                                  std::string &reason);
/// The same of an lhs that is an image, channels first: [k /
/// group][row][group], `pitch` rows a group.
mlir::LogicalResult fillLhsGroupSteps(PanelContext &context, mlir::Value panels,
                                      mlir::Value pitch, mlir::Value first,
                                      mlir::Value count, std::string &reason);
mlir::LogicalResult fillRhsGroups(PanelContext &context, mlir::Value panels,
                                  mlir::Value pitch, mlir::Value first,
                                  mlir::Value count, bool flips,
                                  std::string &reason);

/// Calls `body` with the first of each `width` of `count` columns, and with how
/// many there are where it is fewer, else null.
void forEachPanel(
    IndexBuilder &index, mlir::Value count, int64_t width,
    llvm::function_ref<void(mlir::Value start, mlir::Value valid)> body);

/// The points first .. first+count of a group of axes by rows of its last axis
/// (a Conv's pixels by image rows), or of the last `rowRank` ones, walked as
/// one.
class ColumnRows {
public:
  ColumnRows(PanelContext &context, llvm::ArrayRef<unsigned> group,
             mlir::Value first, mlir::Value count, unsigned rowRank = 1);

  /// `body` gets the points from..to of a row, and which of the columns its
  /// point 0 would be; it finds the row in the context's axes.
  void forEach(llvm::function_ref<void(mlir::Value from, mlir::Value to,
                                       mlir::Value origin)>
                   body);

private:
  PanelContext &c;
  llvm::ArrayRef<unsigned> before; ///< axes that number the rows
  mlir::Value first, end, width, firstRow, lastRow;
};

/// Sets the axes of `group` to the coordinates of point `linear`.
void setCoordinates(PanelContext &context,
                    llvm::SmallVectorImpl<mlir::Value> &axes,
                    llvm::ArrayRef<unsigned> group, mlir::Value linear);
/// Transposes `rows` (as many as lanes, a power of two) in registers.
void transposeVectors(mlir::OpBuilder &b, mlir::Location loc,
                      llvm::MutableArrayRef<mlir::Value> rows);
/// The offset of a plain operand's element at the task's outer coordinates.
mlir::Value outerOffset(PanelContext &context,
                        const ContractionOperand &operand);

/// Fills `panels` with rows first .. first+count of lhs:
/// [row / panelRows][k / kBlock][panelRows][kBlock], or [row][k] where the
/// schedule says whole rows.
mlir::LogicalResult fillLhs(PanelContext &context, mlir::Value panels,
                            mlir::Value first, mlir::Value count,
                            std::string &reason);

/// Whether rows of lhs lie contiguous along k and are copied so.
bool copiesAlongDepth(const ContractionSpec &spec,
                      const ContractionSchedule &schedule);

/// True when columns of rhs are filled as [panel][k][column of panel]; else the
/// task's columns form rows of one array, [k][column], of `pitch` columns. The
/// latter suits convolution, whose pixels are contiguous within image rows
/// only.
bool hasColumnPanels(const ContractionSpec &spec);

/// Fills `panels` with rows first .. first+count of an lhs that has rowTaps:
/// [k][row], `pitch` rows a step.
mlir::LogicalResult fillLhsSteps(PanelContext &context, mlir::Value panels,
                                 mlir::Value pitch, mlir::Value first,
                                 mlir::Value count, std::string &reason);

/// Whether lhs is an image of bytes, channels first: vectors run along the rows
/// of its pixels.
bool fillsGroupSteps(const ContractionSpec &spec,
                     const ContractionSchedule &schedule);

/// How a filled lhs of short runs of k lies: a block of k would cut the runs,
/// and each lane would be fetched on its own.
void chooseRuns(ContractionSchedule &schedule, const ContractionSpec &spec,
                const CpuTarget &target);

/// Taps along the last inner axis, and the last axis of the columns (or rows),
/// that walk along the same elements of a factor: column x reads element x *
/// step + tap * distance from the first one.
struct ColumnTaps {
  const ContractionOperand *factor;
  unsigned column, tap; ///< the axes
  int64_t step, distance, count;

  static constexpr int64_t mostVectors = 6; ///< of what all taps read
  /// How many elements all taps of a vector of columns span.
  int64_t elements(int64_t lanes) const {
    return step * (lanes - 1) + distance * (count - 1) + 1;
  }
};

/// The taps of a factor that is a Conv's image, channels first, whose own axes
/// are `columns`. Nothing when it is something else, the step is over two, or
/// guards tell taps apart by more than the element.
std::optional<ColumnTaps> columnTaps(const ContractionSpec &spec,
                                     const ContractionOperand &factor,
                                     llvm::ArrayRef<unsigned> columns,
                                     unsigned lanes);

/// The taps of lhs where it is an image, channels first, and taps share their
/// loads.
std::optional<ColumnTaps> rowTaps(const ContractionSpec &spec,
                                  const ContractionSchedule &schedule,
                                  const CpuTarget &target);

/// Whether lhs is such an image and is filled so by default.
bool sharesTaps(const ContractionSpec &spec,
                const ContractionSchedule &schedule, const CpuTarget &target);

/// Stores, for each tap, a vector of columns from the point of `context.axes`
/// on, at `target` + tap * `pitch`. Only the first `count` of them are read.
void fillTaps(PanelContext &context, const ColumnTaps &taps, mlir::Value count,
              mlir::Value panels, mlir::Value target, mlir::Value pitch);

/// Fills `panels` with columns first .. first+count of rhs.
mlir::LogicalResult fillRhs(PanelContext &context, mlir::Value panels,
                            mlir::Value pitch, mlir::Value first,
                            mlir::Value count, std::string &reason);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONPANELS_H
