// A block of iteration points: some axes run in row-major order, the others are
// fixed. The block is cut into runs along the innermost running axis, so that
// an index map that is linear there costs one evaluation a run.
#ifndef DLC_LIB_INTERPRETER_POINTBLOCK_H
#define DLC_LIB_INTERPRETER_POINTBLOCK_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <vector>

namespace dlc::interp {

class PointBlock {
public:
  /// `extents` of all axes; `running` axes from outer to inner. The others
  /// start fixed at 0.
  PointBlock(llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<unsigned> running)
      : extents(extents), running(running), fixed(extents.size(), 0) {}

  struct Run {
    int64_t lane;   // first lane
    int64_t length; // lanes, with the innermost coordinate rising by 1
  };

  /// How many points the running axes have.
  int64_t getNumPoints() const;
  /// The innermost running axis, -1 for none.
  int getInnerAxis() const {
    return running.empty() ? -1 : static_cast<int>(running.back());
  }
  unsigned getRank() const { return extents.size(); }

  /// Selects the points first .. first + count - 1 of the running axes'
  /// row-major order.
  void select(int64_t first, int64_t count);
  /// Moves the whole block along a fixed axis.
  void setFixed(unsigned axis, int64_t value);
  /// Moves fixed axes to the coordinates of their row-major position.
  void setFixedPosition(llvm::ArrayRef<unsigned> axes, int64_t position);

  int64_t getNumLanes() const { return lanes; }
  llvm::ArrayRef<Run> getRuns() const { return runs; }
  /// All coordinates of the first point of a run.
  llvm::ArrayRef<int64_t> getCoords(size_t run) const {
    return llvm::ArrayRef<int64_t>(coords).slice(run * extents.size(),
                                                 extents.size());
  }
  /// One coordinate of every lane.
  void fillAxis(unsigned axis, int64_t *out) const;

private:
  llvm::SmallVector<int64_t, 8> extents;
  llvm::SmallVector<unsigned, 8> running;
  llvm::SmallVector<int64_t, 8> fixed;
  int64_t lanes = 0;
  std::vector<Run> runs;
  std::vector<int64_t> coords; // rank a run
};

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_POINTBLOCK_H
