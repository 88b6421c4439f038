// Cutting a range of row-major points into runs along the innermost axis.
#include "PointBlock.h"

#include <algorithm>

using namespace dlc::interp;

int64_t PointBlock::getNumPoints() const {
  int64_t n = 1;
  for (unsigned axis : running)
    n *= extents[axis];
  return n;
}

void PointBlock::select(int64_t first, int64_t count) {
  runs.clear();
  coords.clear();
  lanes = count;
  if (count == 0)
    return;
  llvm::SmallVector<int64_t, 8> at = fixed;
  int64_t rest = first;
  for (unsigned axis : llvm::reverse(running)) {
    at[axis] = rest % extents[axis];
    rest /= extents[axis];
  }
  int inner = getInnerAxis();
  for (int64_t lane = 0; lane < count;) {
    int64_t length =
        inner < 0 ? 1 : std::min(extents[inner] - at[inner], count - lane);
    runs.push_back({lane, length});
    coords.insert(coords.end(), at.begin(), at.end());
    lane += length;
    if (inner < 0)
      continue;
    at[inner] += length;
    // Carry into the outer running axes.
    for (size_t i = running.size();
         i-- > 1 && at[running[i]] == extents[running[i]];) {
      at[running[i]] = 0;
      ++at[running[i - 1]];
    }
  }
}

void PointBlock::setFixed(unsigned axis, int64_t value) {
  fixed[axis] = value;
  for (size_t i = axis; i < coords.size(); i += extents.size())
    coords[i] = value;
}

void PointBlock::setFixedPosition(llvm::ArrayRef<unsigned> axes,
                                  int64_t position) {
  for (unsigned axis : llvm::reverse(axes)) {
    setFixed(axis, position % extents[axis]);
    position /= extents[axis];
  }
}

void PointBlock::fillAxis(unsigned axis, int64_t *out) const {
  int64_t step = static_cast<int>(axis) == getInnerAxis();
  for (size_t r = 0; r < runs.size(); ++r) {
    int64_t start = getCoords(r)[axis];
    for (int64_t i = 0; i < runs[r].length; ++i)
      out[runs[r].lane + i] = start + i * step;
  }
}
