// mma.sync and ldmatrix against plain loops, and their misuse.
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

//===----------------------------------------------------------------------===//
// Other types: registers are given as they lie in memory, lane by lane, so that
// the tables here are those of the PTX ISA, element by element.
//===----------------------------------------------------------------------===//

// y[lane][4] = the four words of `call`, whose arguments are the words of
// x[lane][6] and four zeros.
static std::string wordsKernel(const std::string &name, bool isInteger) {
  std::string type = isInteger ? "i32" : "float";
  std::string result =
      "{" + type + ", " + type + ", " + type + ", " + type + "}";
  std::string text = R"(
define ptx_kernel void @k(ptr %x, ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %from = mul i32 %t, 6
  %to = mul i32 %t, 4
)";
  std::string operands;
  for (int i = 0; i < 6; ++i) {
    std::string n = std::to_string(i);
    text += "  %i" + n + " = add i32 %from, " + n + "\n  %p" + n +
            " = getelementptr i32, ptr %x, i32 %i" + n + "\n  %v" + n +
            " = load i32, ptr %p" + n + "\n";
    operands += "i32 %v" + n + ", ";
  }
  std::string zero = type + (isInteger ? " 0" : " 0.0");
  text += "  %d = call " + result + " @llvm.nvvm.mma." + name + "(" + operands +
          zero + ", " + zero + ", " + zero + ", " + zero + ")\n";
  for (int i = 0; i < 4; ++i) {
    std::string n = std::to_string(i);
    text += "  %r" + n + " = extractvalue " + result + " %d, " + n + "\n  %j" +
            n + " = add i32 %to, " + n + "\n  %q" + n +
            " = getelementptr i32, ptr %y, i32 %j" + n + "\n  store " + type +
            " %r" + n + ", ptr %q" + n + "\n";
  }
  return text + "  ret void\n}";
}

// Small integers, different everywhere.
static int leftAt(int row, int k) { return (row * 5 + k * 3) % 11 - 5; }
static int rightAt(int k, int column) { return (column * 7 + k) % 13; }

static int productAt(int row, int column, int depth) {
  int sum = 0;
  for (int k = 0; k < depth; ++k)
    sum += leftAt(row, k) * rightAt(k, column);
  return sum;
}

TEST(TensorCore, Tf32Products) {
  std::vector<uint32_t> x(32 * 6);
  std::vector<float> y(32 * 4, NAN);
  auto bits = [](int value) {
    auto number = static_cast<float>(value);
    uint32_t word;
    std::memcpy(&word, &number, sizeof word);
    // Of a tf32 the low 13 bits do not count.
    return value ? word | 0x1fff : word;
  };
  for (int lane = 0; lane < 32; ++lane) {
    int g = lane / 4, q = lane % 4;
    for (int r = 0; r < 4; ++r)
      x[lane * 6 + r] = bits(leftAt(g + (r & 1) * 8, q + (r & 2) * 2));
    for (int r = 0; r < 2; ++r)
      x[lane * 6 + 4 + r] = bits(rightAt(q + r * 4, g));
  }
  auto module = loadOrFail(wordsKernel("m16n8k8.row.col.tf32", false));
  ASSERT_EQ(errorOf(module->launch("k", {{1}, {32}},
                                   {buffer(x, "x"), buffer(y, "y")})),
            "");
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(y[lane * 4 + i],
                static_cast<float>(productAt(lane / 4 + (i / 2) * 8,
                                             lane % 4 * 2 + i % 2, 8)));
}

TEST(TensorCore, IntegerProductsOfBothSigns) {
  std::vector<uint32_t> x(32 * 6);
  std::vector<int32_t> y(32 * 4, -1);
  for (int lane = 0; lane < 32; ++lane) {
    int g = lane / 4, q = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int r = 0; r < 4; ++r)
        x[lane * 6 + r] |=
            uint32_t(uint8_t(leftAt(g + (r & 1) * 8, q * 4 + i + (r & 2) * 8)))
            << (8 * i);
      // Above 127, to tell unsigned from signed.
      for (int r = 0; r < 2; ++r)
        x[lane * 6 + 4 + r] |=
            uint32_t(uint8_t(200 + rightAt(q * 4 + i + r * 16, g))) << (8 * i);
    }
  }
  auto module = loadOrFail(wordsKernel("m16n8k32.row.col.s8.u8", true));
  ASSERT_EQ(errorOf(module->launch("k", {{1}, {32}},
                                   {buffer(x, "x"), buffer(y, "y")})),
            "");
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2, sum = 0;
      for (int k = 0; k < 32; ++k)
        sum += leftAt(row, k) * (200 + rightAt(k, column));
      EXPECT_EQ(y[lane * 4 + i], sum);
    }
}

//===----------------------------------------------------------------------===//
// ldmatrix
//===----------------------------------------------------------------------===//

// Copies x (512 bytes) to shared memory; y[lane][4] = what ldmatrix gives, with
// `address` computing %byte of lane %t.
static std::string ldmatrixKernel(const std::string &transposed,
                                  const std::string &address) {
  std::string text = R"(
@tile = internal addrspace(3) global [128 x i32] undef, align 16
define ptx_kernel void @k(ptr %x, ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %to = mul i32 %t, 4
)";
  for (int i = 0; i < 4; ++i) {
    std::string n = std::to_string(i);
    text += "  %i" + n + " = add i32 %to, " + n + "\n  %p" + n +
            " = getelementptr i32, ptr %x, i32 %i" + n + "\n  %v" + n +
            " = load i32, ptr %p" + n + "\n  %s" + n +
            " = getelementptr i32, ptr addrspace(3) @tile, i32 %i" + n +
            "\n  store i32 %v" + n + ", ptr addrspace(3) %s" + n + "\n";
  }
  text += "  call void @llvm.nvvm.bar.warp.sync(i32 -1)\n" + address +
          "  %a = getelementptr i8, ptr addrspace(3) @tile, i32 %byte\n"
          "  %d = call {i32, i32, i32, i32} "
          "@llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4" +
          transposed + ".b16.p3(ptr addrspace(3) %a)\n";
  for (int i = 0; i < 4; ++i) {
    std::string n = std::to_string(i);
    text += "  %r" + n + " = extractvalue {i32, i32, i32, i32} %d, " + n +
            "\n  %q" + n + " = getelementptr i32, ptr %y, i32 %i" + n +
            "\n  store i32 %r" + n + ", ptr %q" + n + "\n";
  }
  return text + "  ret void\n}";
}

static std::string runLdmatrix(const std::string &kernel,
                               std::vector<uint32_t> &y) {
  EmulatorOptions options;
  options.check = EmulatorCheck::Races;
  auto module = loadOrFail(kernel, options);
  std::vector<uint16_t> x(256);
  for (unsigned i = 0; i < x.size(); ++i)
    x[i] = static_cast<uint16_t>(i);
  y.assign(128, 0);
  return errorOf(
      module->launch("k", {{1}, {32}}, {buffer(x, "x"), buffer(y, "y")}));
}

// Row r of matrix m is elements 64 m + 8 r ... of x.
TEST(TensorCore, MatricesFromSharedMemory) {
  std::vector<uint32_t> y;
  ASSERT_EQ(runLdmatrix(ldmatrixKernel("", "  %byte = mul i32 %t, 16\n"), y),
            "");
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t m = 0; m < 4; ++m) {
      uint32_t first = 64 * m + 8 * (lane / 4) + lane % 4 * 2;
      EXPECT_EQ(y[lane * 4 + m], first | (first + 1) << 16);
    }
  ASSERT_EQ(
      runLdmatrix(ldmatrixKernel(".trans", "  %byte = mul i32 %t, 16\n"), y),
      "");
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t m = 0; m < 4; ++m) {
      uint32_t first = 64 * m + 8 * (lane % 4 * 2) + lane / 4;
      EXPECT_EQ(y[lane * 4 + m], first | (first + 8) << 16);
    }
}

TEST(TensorCore, MatricesOutsideAreReported) {
  std::vector<uint32_t> y;
  EXPECT_TRUE(
      contains(runLdmatrix(ldmatrixKernel("", "  %b = mul i32 %t, 16\n"
                                              "  %byte = add i32 %b, 8\n"),
                           y),
               "not a multiple of 16"));
  EXPECT_TRUE(
      contains(runLdmatrix(ldmatrixKernel("", "  %b = mul i32 %t, 16\n"
                                              "  %byte = add i32 %b, 16\n"),
                           y),
               "out-of-bounds read of 16 bytes at byte 512 of 'shared tile'"));
  EXPECT_TRUE(contains(
      runLdmatrix(ldmatrixKernel("", "  %byte = mul i32 %t, 16384\n"), y),
      "outside of shared memory"));
}
