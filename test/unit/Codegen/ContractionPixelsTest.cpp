// Convolutions of bytes with channels last: whole groups of channels are read
// where they lie, by an address for each pixel and tap. Integers must be equal
// bit by bit, padding and zero points included.
#include "ContractionFixture.h"
#include "PixelText.h"

using namespace dlc;
using namespace dlc::test;

namespace {
class BytePixels : public Contraction {
protected:
  void SetUp() override {
    Contraction::SetUp();
    auto host = parseCpuTarget("host");
    hasQuads = host && host->desc().vectorBytes == 64 &&
               host->hasFeature("avx512vnni");
    hasShortQuads = host && host->hasFeature("avxvnni");
  }
  /// The weights are constants.
  Options bytes(std::string target = "host:features=-amx-tile:threads=1") {
    Options options = constants(false, true);
    options.allBytes = true;
    options.target = std::move(target);
    return options;
  }
  /// `source`: of lhs, as it must be where the machine has dot products.
  void expect(const Pixels &c, Options options,
              std::string source = "lhs=indirect") {
    Outcome outcome = run(c.text(), options);
    EXPECT_EQ(outcome.gate, 0) << c.describe() << " " << outcome.schedule;
    EXPECT_FALSE(outcome.values.empty()) << c.describe();
    EXPECT_TRUE(outcome.guards) << c.describe() << " " << outcome.schedule;
    if (hasQuads && options.target.find("host") == 0)
      EXPECT_NE(outcome.schedule.find(source), std::string::npos)
          << c.describe() << " " << outcome.schedule;
  }
  bool hasQuads = false, hasShortQuads = false;
};

TEST_F(BytePixels, ShapesAroundEveryEdge) {
  for (int64_t channels : {4, 20, 64, 84})
    for (int64_t columns : {5, 16, 40})
      for (int64_t taps : {1, 3}) {
        Pixels c;
        c.channels = channels, c.columns = columns, c.taps = taps;
        c.pad = taps / 2;
        if (channels == 4)
          c.pad = 0; // of more taps than one a row is short, too
        expect(c, bytes(),
               taps == 1       ? "lhs=memory"
               : channels == 4 ? "lhs="
                               : "lhs=indirect");
      }
}

TEST_F(BytePixels, StridesDilationsAndPadding) {
  for (int64_t stride : {1, 2})
    for (int64_t dilation : {1, 2})
      for (int64_t pad : {0, 1, 2})
        for (int64_t taps : {1, 2, 5}) {
          Pixels c;
          c.stride = stride, c.dilation = dilation, c.pad = pad, c.taps = taps;
          c.images = pad == 1 ? "2" : "1";
          c.height = "10", c.width = pad == 2 ? "14" : "13";
          expect(c, bytes(), "lhs=");
        }
}

TEST_F(BytePixels, SignsAndZeroPoints) {
  for (const char *image : {"i8", "ui8"})
    for (const char *weights : {"i8", "ui8"})
      for (PixelZero p : {PixelZero::None, PixelZero::One})
        for (PixelZero q : {PixelZero::None, PixelZero::One, PixelZero::Each})
          for (int64_t channels : {p == q ? 12 : 68}) {
            Pixels c;
            c.image = image, c.weights = weights;
            c.imageZero = p, c.weightZero = q;
            c.channels = channels;
            expect(c, bytes());
          }
}

TEST_F(BytePixels, GroupsOfChannels) {
  for (int64_t channels : {4, 8, 36}) {
    Pixels c;
    c.groups = 3, c.channels = channels, c.columns = 51;
    expect(c, bytes(), channels < 8 ? "lhs=" : "lhs=indirect");
    c.weightZero = PixelZero::Each;
    expect(c, bytes(), channels < 8 ? "lhs=" : "lhs=indirect");
  }
}

TEST_F(BytePixels, SymbolicSizes) {
  for (int64_t n : {1, 3})
    for (int64_t h : {1, 2, 15}) {
      Pixels c;
      c.images = "s0", c.height = "s1";
      c.weightZero = h == 2 ? PixelZero::One : PixelZero::None;
      Options options = bytes();
      options.symbols = {n, h};
      expect(c, options);
    }
}

// Groups that pixels do not have whole are copied, as on machines without the
// instruction.
TEST_F(BytePixels, CopiedImages) {
  Pixels c;
  c.channels = 6;
  expect(c, bytes(), "lhs=filled");
  c.channels = 8;
  for (const char *target :
       {"x86:cpu=x86-64-v3:threads=1", "x86:cpu=x86-64-v2:threads=1"})
    expect(c, bytes(target));
}

// Channels first, as a network's first convolution reads them: vectors of
// pixels with padding and without.
TEST_F(BytePixels, ImagesWithChannelsFirst) {
  for (int64_t stride : {1, 2})
    for (int64_t taps : {3, 7})
      for (const char *image : {"i8", "ui8"}) {
        Pixels c;
        c.channelsFirst = true;
        c.channels = 3, c.columns = 20;
        c.stride = stride, c.taps = taps, c.image = image;
        c.pad = stride == 1 && taps == 3 ? 0 : taps / 2;
        c.images = taps == 3 ? "2" : "1";
        c.height = "6", c.width = stride == 1 ? "53" : "100";
        expect(c, bytes(), "whole-steps");
        c.dilation = 2;
        if (taps == 3)
          expect(c, bytes(), "whole-steps");
      }
}

TEST_F(BytePixels, EightWideDots) {
  if (!hasShortQuads)
    GTEST_SKIP() << "needs AVX-VNNI";
  for (const char *image : {"i8", "ui8"})
    for (int64_t channels : {8, 44}) {
      Pixels c;
      c.image = image, c.channels = channels;
      Options options = bytes("x86:cpu=x86-64-v3:features=avxvnni:threads=1");
      options.adjust = [](ContractionSchedule &s) {
        EXPECT_EQ(s.form, ProductForm::ByteQuads);
        EXPECT_EQ(s.lhs, FactorSource::Indirect);
      };
      expect(c, options);
    }
}

TEST_F(BytePixels, SchedulesOfPixels) {
  if (!hasQuads)
    GTEST_SKIP() << "needs AVX512-VNNI";
  for (const char *image : {"i8", "ui8"}) {
    Pixels c;
    c.image = image;
    c.height = "7", c.width = "14", c.columns = 40, c.channels = 16;
    auto with = [&](std::function<void(ContractionSchedule &)> f) {
      Options options = bytes();
      options.adjust = std::move(f);
      expect(c, options);
    };
    for (unsigned rows : {1, 5, 7, 14})
      with([=](ContractionSchedule &s) { s.tileRows = s.panelRows = rows; });
    with([](ContractionSchedule &s) {
      s.rowsPerTask = 2 * s.tileRows;
      s.columnsPerTask = s.columnStep();
    });
    with([](ContractionSchedule &s) {
      s.columnsPerBlock = s.columnStep();
      s.rowsOutside = true;
    });
    with([](ContractionSchedule &s) { s.depthPerPass = 3 * 16; });
  }
}

// The tests above see padding that is another number than the zero point.
TEST_F(BytePixels, OtherPaddingIsSeen) {
  Pixels c;
  auto valuesOf = [&](double zero, double pixel) {
    Options options = bytes();
    options.value = [=](unsigned operand, int64_t) {
      return operand == 2 ? zero : operand == 0 ? pixel : 1.0;
    };
    return run(c.text(), options).values;
  };
  // With pixels that are the zero point, nothing is left but padding.
  for (double value : valuesOf(7, 7))
    ASSERT_EQ(value, 0);
  std::vector<double> values = valuesOf(0, 1);
  ASSERT_FALSE(values.empty());
  // A corner has four taps of nine, the middle all.
  EXPECT_EQ(values[0], 4 * 8);
  EXPECT_EQ(values[(7 + 1) * 17], 9 * 8);
}
} // namespace
