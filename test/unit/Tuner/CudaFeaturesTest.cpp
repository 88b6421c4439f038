// CUDA kernels in the database: their JSON, and an analytic time that puts
// schedules in an order that can be told without a GPU.
#include "dlc/Tuner/CudaFeatures.h"
#include "dlc/Tuner/BundleNumbers.h"

#include "gtest/gtest.h"

#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

namespace {

CudaTargetFacts h100() {
  CudaTargetFacts t;
  t.device = "h100";
  t.sm = "sm_90a";
  t.multiprocessors = 132;
  t.sharedBytes = 232448;
  t.l2 = 50 << 20;
  t.memoryGBs = 3350;
  t.f32Tflops = 66.9;
  t.tensorTflops = 989;
  return t;
}

CudaFacts product(int64_t rows, int64_t columns, int64_t depth,
                  bool tensor = false) {
  CudaFacts f;
  f.nest = "contraction";
  f.rows = rows;
  f.columns = columns;
  f.depth = depth;
  f.points = rows * columns;
  f.folded = depth;
  f.tensor = tensor;
  f.factorBytes = tensor ? 2 : 4;
  f.readBytes = (rows + columns) * depth * f.factorBytes;
  f.writtenBytes = rows * columns * 4;
  f.scalarOps = 2.0 * double(rows) * double(columns) * double(depth);
  f.kernel = "abc";
  return f;
}

const KnobValues kSmall{{"tile_rows", 64},   {"tile_columns", 64},
                        {"thread_rows", 4},  {"thread_columns", 4},
                        {"panel_steps", 16}, {"stages", 2},
                        {"parts", 1}};
const KnobValues kLarge{{"tile_rows", 128},  {"tile_columns", 128},
                        {"thread_rows", 8},  {"thread_columns", 8},
                        {"panel_steps", 16}, {"stages", 2},
                        {"parts", 1}};

KnobValues with(KnobValues knobs, const char *name, int64_t value) {
  knobs[name] = value;
  return knobs;
}

} // namespace

TEST(CudaFeatures, JsonAndScorer) {
  CudaFacts facts = product(128, 96, 64);
  auto again = CudaFacts::parseJson(facts.toJson());
  ASSERT_TRUE(bool(again));
  EXPECT_EQ(again->toJson(), facts.toJson());
  auto machine = CudaTargetFacts::parseJson(h100().toJson());
  ASSERT_TRUE(bool(machine));
  EXPECT_EQ(machine->toJson(), h100().toJson());
  EXPECT_TRUE(isCuda(h100().toJson()));
  EXPECT_FALSE(isCuda(TargetFacts().toJson()));
  auto scorer = Scorer::create(facts.toJson(), h100().toJson());
  ASSERT_TRUE(bool(scorer));
  EXPECT_EQ(scorer->family, "cuda");
  EXPECT_EQ(scorer->kind, "cuda contraction");
  EXPECT_EQ(scorer->name, "contraction 1x128x96x64");
  EXPECT_EQ(scorer->features(kSmall).size(), featureNames("cuda").size());
  for (float value : scorer->features(kSmall))
    EXPECT_TRUE(std::isfinite(value));
  // A field that is missing, a GPU's workload on a CPU.
  auto broken = Scorer::create("{\"nest\":\"contraction\"}", h100().toJson());
  EXPECT_NE(llvm::toString(broken.takeError()).find("missing"),
            std::string::npos);
  auto mixed = Scorer::create(facts.toJson(), TargetFacts().toJson());
  EXPECT_NE(llvm::toString(mixed.takeError()), "");
}

TEST(CudaFeatures, TheAnalyticOrderIsThatOfTheUnits) {
  auto time = [](const CudaFacts &f, const KnobValues &knobs) {
    return analyticSeconds(f, knobs, h100());
  };
  // Large products: more sums a thread load less of shared memory.
  EXPECT_LT(time(product(4096, 4096, 4096), kLarge),
            0.9 * time(product(4096, 4096, 4096), kSmall));
  // Few tiles: small ones, and parts, use more multiprocessors.
  EXPECT_LT(time(product(256, 256, 4096), kSmall),
            time(product(256, 256, 4096), kLarge));
  EXPECT_LT(time(product(256, 256, 4096), with(kSmall, "parts", 8)),
            0.5 * time(product(256, 256, 4096), kSmall));
  // ... but not where tiles are many: parts are written and read.
  EXPECT_GT(time(product(4096, 4096, 1024), with(kLarge, "parts", 8)),
            time(product(4096, 4096, 1024), kLarge));
  // No time is below the roofline, none of good schedules far above.
  CudaFacts large = product(8192, 8192, 8192);
  double least = large.flops() / (h100().f32Tflops * 1e12);
  EXPECT_GT(time(large, kLarge), least);
  EXPECT_LT(time(large, kLarge), 1.6 * least);
  // Tensor cores are faster, half the elements of a wave are wasted in a tail.
  EXPECT_LT(time(product(4096, 4096, 4096, true),
                 {{"tile_rows", 128}, {"tile_columns", 128}, {"warps", 8}}),
            0.3 * time(product(4096, 4096, 4096), kLarge));
  EXPECT_GT(time(product(130, 65536, 4096), kLarge),
            1.5 * time(product(128, 65536, 4096), kLarge));
}

TEST(CudaFeatures, BytesUnderWay) {
  CudaFacts map;
  map.points = 1 << 26;
  map.readBytes = map.writtenBytes = int64_t(4) << 26;
  map.scalarOps = double(map.points);
  map.kernel = "abc";
  auto time = [&](int64_t elements) {
    return analyticSeconds(
        map, {{"point_threads", 256}, {"point_elements", elements}}, h100());
  };
  EXPECT_LE(time(4), time(1));
  EXPECT_GT(time(4), double(map.readBytes * 2) / 3350e9);
  CudaFacts row = map;
  row.nest = "row";
  row.rowElements = row.folded = 1 << 16;
  row.points = 132 << 16; // a row a multiprocessor
  row.readBytes = row.writtenBytes = 4 * row.points;
  auto rowTime = [&](int64_t threads) {
    return analyticSeconds(row, {{"row_threads", threads}}, h100());
  };
  EXPECT_LT(rowTime(512), 0.5 * rowTime(32));
}

TEST(BundleNumbers, ElementsAndPlaces) {
  float floats[100];
  dlc_bundle_fill(DLC_BUNDLE_F32, 1, 5, 100, floats);
  uint16_t halves[100], narrow[100];
  dlc_bundle_fill(DLC_BUNDLE_F16, 1, 5, 100, halves);
  dlc_bundle_fill(DLC_BUNDLE_BF16, 0, 5, 100, narrow);
  double low = 1, high = -1;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(dlc_bundle_read(DLC_BUNDLE_F32, floats, i), floats[i]);
    double half = dlc_bundle_read(DLC_BUNDLE_F16, halves, i);
    EXPECT_LE(std::abs(half), 0.5);
    EXPECT_EQ(half * 128, std::round(half * 128));
    low = std::fmin(low, half);
    high = std::fmax(high, half);
    double positive = dlc_bundle_read(DLC_BUNDLE_BF16, narrow, i);
    EXPECT_TRUE(positive >= 0.5 && positive < 1) << positive;
  }
  EXPECT_LT(low, -0.4);
  EXPECT_GT(high, 0.4);
  // What is no number, infinite, tiny.
  uint16_t odd[] = {0x7e00, 0xfc00, 0x0001, 0x3c00};
  EXPECT_TRUE(std::isnan(dlc_bundle_read(DLC_BUNDLE_F16, odd, 0)));
  EXPECT_EQ(dlc_bundle_read(DLC_BUNDLE_F16, odd, 1), -INFINITY);
  EXPECT_EQ(dlc_bundle_read(DLC_BUNDLE_F16, odd, 2), 0x1p-24);
  EXPECT_EQ(dlc_bundle_read(DLC_BUNDLE_F16, odd, 3), 1);
  int64_t before = -1;
  for (int64_t i = 0; i < 1000; ++i) {
    int64_t at = dlc_bundle_place(i, 1000, 123457);
    EXPECT_GT(at, before);
    before = at;
  }
  EXPECT_EQ(before, 123456);
  EXPECT_EQ(dlc_bundle_place(7, 1000, 10), 7);
}
