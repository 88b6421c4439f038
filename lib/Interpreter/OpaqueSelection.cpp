// Operators that put things in order: argsort and the selection of boxes.
#include "Opaque.h"

#include "ScalarLanes.h"

#include <algorithm>
#include <numeric>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

// Numbers ascending, NaN last.
template <typename T>
static bool isLess(T x, T y) {
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(x) || std::isnan(y))
      return !std::isnan(x);
  return x < y;
}

// Every element as a lane, in memory order.
template <typename T>
static std::vector<T> readLanes(LaneType type, const Tensor &x) {
  int64_t count = x.getNumElements();
  // Not std::vector<bool>: lanes are written through a pointer.
  std::vector<T> lanes(count);
  loadLanes(type, x.getBytes(), 0, 1, count, lanes.data());
  return lanes;
}

template <typename T>
static void sortRows(const std::vector<T> &lanes, ArrayRef<int64_t> dims,
                     bool descending, int64_t numResults, int64_t *result) {
  std::vector<int64_t> order(dims[1]);
  for (int64_t batch = 0; batch < dims[0]; ++batch) {
    const T *rows = lanes.data() + batch * dims[1] * dims[2];
    auto before = [&](int64_t a, int64_t b) {
      if (descending)
        std::swap(a, b);
      return std::lexicographical_compare(
          rows + a * dims[2], rows + (a + 1) * dims[2], rows + b * dims[2],
          rows + (b + 1) * dims[2], isLess<T>);
    };
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return before(a, b) || (!before(b, a) && a < b);
    });
    // More results than rows: the number of rows, which is no row.
    int64_t count = std::min(numResults, dims[1]);
    int64_t *rest =
        std::copy_n(order.begin(), count, result + batch * numResults);
    std::fill_n(rest, numResults - count, dims[1]);
  }
}

void interp::argsort(const Tensor &x, bool descending, Tensor &result) {
  LaneType type = *getLaneType(x.getElementType());
  auto *order = reinterpret_cast<int64_t *>(result.getMutableBytes());
  dispatch(type, [&](auto zero) {
    using T = std::conditional_t<std::is_same_v<decltype(zero), bool>, uint8_t,
                                 decltype(zero)>;
    sortRows(readLanes<T>(type, x), x.getShape(), descending,
             result.getShape()[1], order);
  });
}

namespace {
struct Box {
  float top, left, bottom, right;

  Box(const float *v, bool center) {
    if (center) {
      float x = v[2] * 0.5f, y = v[3] * 0.5f;
      top = v[1] - y, left = v[0] - x, bottom = v[1] + y, right = v[0] + x;
    } else {
      top = std::min(v[0], v[2]), left = std::min(v[1], v[3]);
      bottom = std::max(v[0], v[2]), right = std::max(v[1], v[3]);
    }
  }
  float area() const { return (right - left) * (bottom - top); }
};
} // namespace

// Intersection over union above the threshold; false for empty boxes.
static bool overlap(const Box &x, const Box &y, float threshold) {
  float width = std::min(x.right, y.right) - std::max(x.left, y.left);
  float height = std::min(x.bottom, y.bottom) - std::max(x.top, y.top);
  if (!(width > 0 && height > 0))
    return false;
  float common = width * height, all = x.area() + y.area() - common;
  return common > 0 && x.area() > 0 && y.area() > 0 && all > 0 &&
         common / all > threshold;
}

void interp::selectBoxes(ArrayRef<Tensor> operands, bool center,
                         Tensor &result) {
  ArrayRef<int64_t> dims = operands[1].getShape();
  int64_t numBoxes = dims[2], room = result.getShape()[2];
  const float *boxes = operands[0].getData<float>().data();
  const float *scores = operands[1].getData<float>().data();
  const int64_t *order = operands[2].getData<int64_t>().data();
  int64_t limit = std::min(operands[3].getData<int64_t>()[0], room);
  float iouThreshold = operands[4].getData<float>()[0];
  float scoreThreshold = operands[5].getData<float>()[0];
  auto *selected = reinterpret_cast<int64_t *>(result.getMutableBytes());
  for (int64_t task = 0; task < dims[0] * dims[1]; ++task) {
    auto boxAt = [&](int64_t number) {
      return Box(boxes + (task / dims[1] * numBoxes + number) * 4, center);
    };
    int64_t *mine = selected + task * room, count = 0;
    for (int64_t i = 0; i < numBoxes && count < limit; ++i) {
      int64_t number = order[task * numBoxes + i];
      if (!(scores[task * numBoxes + number] > scoreThreshold))
        continue;
      Box box = boxAt(number);
      if (std::none_of(mine, mine + count, [&](int64_t other) {
            return overlap(box, boxAt(other), iouThreshold);
          }))
        mine[count++] = number;
    }
    std::fill(mine + count, mine + room, -1);
  }
}
