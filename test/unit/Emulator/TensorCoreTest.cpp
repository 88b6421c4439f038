// mma.sync against a plain product, and its misuse.
#include "EmulatorTestUtils.h"

#include <cmath>
#include <cstring>

using namespace dlc;
using namespace dlc::test;

// One warp computes y[16][8] = a[16][16] * b[16][8] + 1, with fragments loaded
// as the PTX ISA lays them out; 16-bit floats are given as bits. `rows` is what
// lies between the two rows of a lane.
static std::string mmaKernel(bool isBf16, int rows = 8, int lanes = 32) {
  std::string name = isBf16 ? "bf16" : "f32.f32";
  std::string pair = isBf16 ? "i32" : "<2 x half>";
  std::string text = R"(
define ptx_kernel void @k(ptr %a, ptr %b, ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %in = icmp slt i32 %t, )" +
                     std::to_string(lanes) +
                     R"(
  br i1 %in, label %work, label %done
work:
  %g = lshr i32 %t, 2
  %q = and i32 %t, 3
  %c0 = shl i32 %q, 1
  %c1 = add i32 %c0, 8
  %g8 = add i32 %g, )" +
                     std::to_string(rows) + "\n";
  // A is row-major, B is stored column by column.
  auto load = [&](std::string to, std::string from, std::string row,
                  std::string column) {
    text += "  %" + to + "r = shl i32 " + row + ", 4\n  %" + to +
            "i = add i32 %" + to + "r, " + column + "\n  %" + to +
            "p = getelementptr i16, ptr " + from + ", i32 %" + to + "i\n  %" +
            to + " = load " + pair + ", ptr %" + to + "p, align 4\n";
  };
  load("a0", "%a", "%g", "%c0");
  load("a1", "%a", "%g8", "%c0");
  load("a2", "%a", "%g", "%c1");
  load("a3", "%a", "%g8", "%c1");
  load("b0", "%b", "%g", "%c0");
  load("b1", "%b", "%g", "%c1");
  text += "  %d = call {float, float, float, float} "
          "@llvm.nvvm.mma.m16n8k16.row.col." +
          name + "(";
  for (std::string operand : {"a0", "a1", "a2", "a3", "b0", "b1"})
    text += pair + " %" + operand + ", ";
  text += "float 1.0, float 1.0, float 1.0, float 1.0)\n";
  for (int i = 0; i < 4; ++i) {
    std::string n = std::to_string(i);
    text += "  %v" + n + " = extractvalue {float, float, float, float} %d, " +
            n + "\n  %o" + n + "r = shl i32 " + (i < 2 ? "%g" : "%g8") +
            ", 3\n  %o" + n + "c = add i32 %o" + n + "r, %c0\n  %o" + n +
            " = add i32 %o" + n + "c, " + std::to_string(i & 1) + "\n  %p" + n +
            " = getelementptr float, ptr %y, i32 %o" + n +
            "\n  store float %v" + n + ", ptr %p" + n + "\n";
  }
  return text + "  br label %done\ndone:\n  ret void\n}";
}

namespace {
struct Product {
  std::vector<uint16_t> a = std::vector<uint16_t>(16 * 16);
  std::vector<uint16_t> b = std::vector<uint16_t>(8 * 16);
  std::vector<float> y = std::vector<float>(16 * 8, NAN);
  std::vector<float> wanted = std::vector<float>(16 * 8, 1);

  // Small integers, exact in both types.
  explicit Product(bool isBf16) {
    auto bits = [&](int value) -> uint16_t {
      auto number = static_cast<float>(value);
      uint32_t word;
      std::memcpy(&word, &number, sizeof word);
      if (isBf16)
        return static_cast<uint16_t>(word >> 16);
      if (value == 0)
        return 0;
      return static_cast<uint16_t>((word >> 16 & 0x8000) |
                                   (((word >> 23 & 0xff) - 112) << 10) |
                                   (word >> 13 & 0x3ff));
    };
    for (int r = 0; r < 16; ++r)
      for (int c = 0; c < 8; ++c)
        for (int k = 0; k < 16; ++k) {
          int x = (r * 5 + k * 3) % 11 - 5, w = (c * 7 + k) % 13 - 6;
          a[r * 16 + k] = bits(x);
          b[c * 16 + k] = bits(w);
          wanted[r * 8 + c] += static_cast<float>(x * w);
        }
  }

  std::string run(const std::string &kernel) {
    auto module = loadOrFail(kernel);
    return errorOf(module->launch(
        "k", {{1}, {32}}, {buffer(a, "a"), buffer(b, "b"), buffer(y, "y")}));
  }
};
} // namespace

TEST(TensorCore, Products) {
  for (bool isBf16 : {false, true}) {
    Product product(isBf16);
    ASSERT_EQ(product.run(mmaKernel(isBf16)), "");
    EXPECT_EQ(product.y, product.wanted) << isBf16;
  }
}

TEST(TensorCore, AWrongFragmentIsAWrongResult) {
  Product product(/*isBf16=*/true);
  ASSERT_EQ(product.run(mmaKernel(/*isBf16=*/true, /*rows=*/4)), "");
  EXPECT_NE(product.y, product.wanted);
}

TEST(TensorCore, NeedsTheWholeWarp) {
  Product product(/*isBf16=*/false);
  std::string error = product.run(mmaKernel(false, 8, /*lanes=*/16));
  EXPECT_NE(error, "");
}
