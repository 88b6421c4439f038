// wgmma against plain loops, in every type, layout and swizzle, and its misuse;
// clusters of one block.
#include "EmulatorTestUtils.h"

#include <cmath>
#include <cstring>
#include <functional>

using namespace dlc;
using namespace dlc::test;

namespace {

const char *const kDeclarations = R"(
declare void @llvm.nvvm.wgmma.fence.sync.aligned()
declare void @llvm.nvvm.wgmma.commit_group.sync.aligned()
declare void @llvm.nvvm.wgmma.wait_group.sync.aligned(i64)
declare void @llvm.nvvm.fence.proxy.async.shared_cta()
declare void @llvm.nvvm.setmaxnreg.inc.sync.aligned.u32(i32)
declare void @llvm.nvvm.barrier.cluster.arrive.aligned()
declare void @llvm.nvvm.barrier.cluster.wait.aligned()
declare i32 @llvm.nvvm.read.ptx.sreg.cluster.nctarank()
declare ptr addrspace(7) @llvm.nvvm.mapa.shared.cluster(ptr addrspace(3), i32)
@tiles = internal addrspace(3) global [32768 x i8] undef, align 1024
)";

constexpr unsigned kImageBytes = 32768, kPlaceOfB = 16384;

struct Type {
  const char *name; ///< of both factors in PTX, and bytes of an element
  unsigned bytes;
  bool isInteger;
};

/// The bits of a small integer.
uint32_t bitsOf(const Type &type, int value) {
  auto number = static_cast<float>(value);
  uint32_t word = 0;
  std::memcpy(&word, &number, sizeof word);
  switch (type.name[0]) {
  case 'b':
    return word >> 16;
  case 't':
    return word | 0x1234u; // the low bits are ignored
  case 'f':
    return value == 0
               ? 0
               : (word >> 16 & 0x8000) | (((word >> 23 & 0xff) - 112) << 10) |
                     (word >> 13 & 0x3ff);
  default:
    return static_cast<uint8_t>(value);
  }
}

struct Matrix {
  unsigned rows; ///< of M or N
  unsigned span; ///< of the swizzle
  bool isTransposed;
  unsigned leading = 0, stride = 0; ///< bytes
  unsigned steps = 1;               ///< products along the fold
};

/// Where the canonical layouts put element (row, k), in bytes: tiles of 8 rows
/// of `span` bytes, chunks of a row exchanged by the row's number.
unsigned placeOf(const Matrix &m, const Type &type, unsigned row, unsigned k) {
  unsigned byte = k * type.bytes;
  auto exchange = [&](unsigned line, unsigned inLine) {
    // A repeated pattern of eight 128-byte lines.
    unsigned offset = line * m.span + inLine;
    unsigned at = offset / 128 % 8 & (m.span / 16 - 1);
    return offset ^ at << 4;
  };
  if (!m.isTransposed && !m.span)
    return row % 8 * 16 + row / 8 * m.stride + byte / 16 * m.leading +
           byte % 16;
  if (!m.isTransposed)
    return row / 8 * m.stride + exchange(row % 8, byte);
  if (!m.span)
    return k % 8 * 16 + k / 8 * m.leading + row / 8 * m.stride + row % 8 * 2;
  unsigned run = m.span / 2;
  return row / run * m.leading + k / 8 * m.stride +
         exchange(k % 8, row % run * 2);
}

uint64_t descriptorOf(const Matrix &m, unsigned place) {
  unsigned mode = m.span == 128 ? 1 : m.span == 64 ? 2 : m.span == 32 ? 3 : 0;
  return uint64_t(place / 16) | uint64_t(m.leading / 16) << 16 |
         uint64_t(m.stride / 16) << 32 | uint64_t(mode) << 62;
}

struct Kernel {
  Type type;
  unsigned columns = 8;
  bool aInRegisters = false, transposesA = false, transposesB = false;
  int scaleA = 1, scaleB = 1;
  unsigned steps = 1;
  bool addsFirst = true; ///< to sums of 3 in each register
  bool tiesWait = true;
  // What the tests of misuse change.
  std::string beforeFirst = "  call void @llvm.nvvm.fence.proxy.async.shared_"
                            "cta()\n  call void @llvm.nvvm.barrier.cta.sync."
                            "aligned.all(i32 0)\n";
  std::string fence = "  call void @llvm.nvvm.wgmma.fence.sync.aligned()\n";
  std::string commit =
      "  call void @llvm.nvvm.wgmma.commit_group.sync.aligned()\n";
  std::string beforeWait = "", afterWait = "", descriptorOfB = "%bd";
  unsigned left = 0;

  std::string text() const {
    std::string sum = type.isInteger ? "i32" : "float";
    unsigned n = columns / 2;
    std::string types = "{" + list(sum, n) + "}";
    std::string letter = type.isInteger ? "r" : "f";
    unsigned depth = 32 / type.bytes;
    bool isHalf = type.bytes == 2;
    std::string head = R"(
define ptx_kernel void @k(ptr addrspace(1) %x, ptr addrspace(1) %a, ptr addrspace(1) %y, i64 %da, i64 %db) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %z = icmp eq i32 %t, 0
  %base = ptrtoint ptr addrspace(3) @tiles to i32
  %low = and i32 %base, 262143
  %shifted = lshr i32 %low, 4
  %start = zext i32 %shifted to i64
  %ad = add i64 %da, %start
  %bd = add i64 %db, %start
  %p = getelementptr i32, ptr addrspace(3) @tiles, i32 %t
  br label %fill
fill:
  %m = phi i32 [%t, %0], [%next, %fill]
  %gp = getelementptr i32, ptr addrspace(1) %x, i32 %m
  %sp = getelementptr i32, ptr addrspace(3) @tiles, i32 %m
  %v = load i32, ptr addrspace(1) %gp
  store i32 %v, ptr addrspace(3) %sp
  %next = add i32 %m, 128
  %more = icmp ult i32 %next, )" +
                       std::to_string(kImageBytes / 4) + R"(
  br i1 %more, label %fill, label %filled
filled:
)";
    std::string text = head;
    for (unsigned i = 0; i < 4 * steps; ++i) {
      std::string s = std::to_string(i);
      text += "  %ai" + s + " = mul i32 %t, " + std::to_string(4 * steps) +
              "\n  %aj" + s + " = add i32 %ai" + s + ", " + s + "\n  %ap" + s +
              " = getelementptr i32, ptr addrspace(1) %a, i32 %aj" + s +
              "\n  %a" + s + " = load i32, ptr addrspace(1) %ap" + s + "\n";
    }
    text += beforeFirst + fence;
    // As the nvvm dialect writes it, or with registers.
    unsigned at = 2 * n, na = aInRegisters ? 4 : 1;
    std::string assembly =
        "{\\0A.reg .pred p;\\0Asetp.ne.b32 p, $" + std::to_string(at + na + 1) +
        ", 0;\\0Awgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) +
        "k" + std::to_string(depth) + (type.isInteger ? ".s32." : ".f32.") +
        type.name + "." + type.name + " {" + list("$#", n) + "}, " +
        (aInRegisters ? "{" + list("$#", 4, at) + "}" : list("$#", 1, at)) +
        ", $" + std::to_string(at + na) + ", p";
    if (!type.isInteger)
      assembly +=
          ", " + std::to_string(scaleA) + ",  " + std::to_string(scaleB);
    if (isHalf && !aInRegisters)
      assembly += ", " + std::to_string(transposesA);
    if (isHalf)
      assembly += ", " + std::to_string(transposesB);
    assembly += ";\\0A}\\0A";
    std::string constraints = list("=" + letter, n) + ", " + list("#", n) +
                              ", " + (aInRegisters ? list("r", 4) : "l") +
                              ", l, r";
    std::erase(constraints, ' ');
    for (unsigned step = 0; step < steps; ++step) {
      std::string s = std::to_string(step);
      // 32 bytes further along the fold.
      text += "  %as" + s + " = add i64 %ad, " + std::to_string(2 * step) +
              "\n  %bs" + s + " = add i64 " + descriptorOfB + ", " +
              std::to_string(2 * step) + "\n";
      std::string before = type.isInteger ? "i32 3" : "float 3.0";
      if (step) {
        before = sum + " %c" + std::to_string(step - 1) + "_#";
        for (unsigned i = 0; i < n; ++i)
          text += "  %c" + std::to_string(step - 1) + "_" + std::to_string(i) +
                  " = extractvalue " + types + " %d" +
                  std::to_string(step - 1) + ", " + std::to_string(i) + "\n";
      }
      text +=
          "  %d" + s + " = call " + types + " asm sideeffect \"" + assembly +
          "\", \"" + constraints + "\"(" + list(before, n) + ", " +
          (aInRegisters ? list("i32 %a#", 4, 4 * step) : "i64 %as" + s) +
          ", i64 %bs" + s + ", i32 " + (step || addsFirst ? "1" : "0") + ")\n";
    }
    text += commit + beforeWait;
    std::string last = "%d" + std::to_string(steps - 1);
    if (tiesWait) {
      std::string tied = list("=" + letter, n) + "," + list("#", n);
      std::erase(tied, ' ');
      for (unsigned i = 0; i < n; ++i)
        text += "  %e" + std::to_string(i) + " = extractvalue " + types + " " +
                last + ", " + std::to_string(i) + "\n";
      text += "  %w = call " + types +
              " asm sideeffect \"wgmma.wait_group.sync.aligned " +
              std::to_string(left) + ";\", \"" + tied + "\"(" +
              list(sum + " %e#", n) + ")\n";
      last = "%w";
    } else {
      text += "  call void @llvm.nvvm.wgmma.wait_group.sync.aligned(i64 " +
              std::to_string(left) + ")\n";
    }
    text += afterWait;
    for (unsigned i = 0; i < n; ++i) {
      std::string s = std::to_string(i);
      text += "  %r" + s + " = extractvalue " + types + " " + last + ", " + s +
              "\n  %ym" + s + " = mul i32 %t, " + std::to_string(n) +
              "\n  %yi" + s + " = add i32 %ym" + s + ", " + s + "\n  %yp" + s +
              " = getelementptr i32, ptr addrspace(1) %y, i32 %yi" + s +
              "\n  store " + sum + " %r" + s + ", ptr addrspace(1) %yp" + s +
              "\n";
    }
    return text + "  ret void\n}\n";
  }
};

/// Factors of small integers, and the product by plain loops.
struct Product {
  const Kernel &kernel;
  Matrix a, b;
  std::vector<uint32_t> image = std::vector<uint32_t>(kImageBytes / 4, ~0u);
  std::vector<uint32_t> registers;
  std::vector<uint32_t> y, wanted;

  int left(unsigned row, unsigned k) const {
    int value = static_cast<int>((row * 5 + k * 3) % 11) - 5;
    return kernel.type.name[0] == 'u' ? value + 200 : value;
  }
  int right(unsigned column, unsigned k) const {
    int value = static_cast<int>((column * 7 + k) % 13) - 6;
    return kernel.type.name[0] == 'u' ? value + 130 : value;
  }

  Product(const Kernel &kernel, unsigned span, unsigned pad = 0)
      : kernel(kernel), a{64, span, kernel.transposesA},
        b{kernel.columns, span, kernel.transposesB} {
    const Type &type = kernel.type;
    unsigned depth = 32 / type.bytes, whole = depth * kernel.steps;
    for (Matrix *m : {&a, &b}) {
      // Tiles behind each other, `pad` bytes apart (of a swizzle's pattern).
      if (!m->span) {
        unsigned eights = m->isTransposed ? m->rows / 8 : 1;
        m->leading = m->isTransposed ? eights * 128 : m->rows * 16;
        m->stride = 128;
      } else if (!m->isTransposed) {
        m->stride = 8 * m->span + pad;
        m->leading = 16; // not used
      } else {
        m->stride = 8 * m->span + pad;
        m->leading = 2 * m->stride;
      }
    }
    auto put = [&](unsigned place, uint32_t bits) {
      ASSERT_LE(place + type.bytes, kImageBytes);
      std::memcpy(reinterpret_cast<char *>(image.data()) + place, &bits,
                  type.bytes);
    };
    for (unsigned k = 0; k < whole; ++k) {
      for (unsigned row = 0; !kernel.aInRegisters && row < 64; ++row)
        put(placeOf(a, type, row, k), bitsOf(type, left(row, k)));
      for (unsigned column = 0; column < kernel.columns; ++column)
        put(kPlaceOfB + placeOf(b, type, column, k),
            bitsOf(type, right(column, k)));
    }
    // PTX ISA, the figures of A's fragments: a lane has, of rows lane / 4 and
    // + 8, 4 bytes at lane % 4 * 4 and 4 at + 16.
    for (unsigned t = 0; t < 128; ++t)
      for (unsigned r = 0; r < 4 * kernel.steps; ++r) {
        uint32_t word = 0;
        for (unsigned i = 0; i < 4 / type.bytes; ++i) {
          unsigned row = t / 32 * 16 + t % 32 / 4 + (r % 2) * 8;
          unsigned byte = r / 4 * 32 + t % 4 * 4 + (r % 4 / 2) * 16;
          unsigned k = byte / type.bytes + i;
          word |= bitsOf(type, left(row, k)) << (8 * type.bytes * i);
        }
        registers.push_back(word);
      }
    unsigned n = kernel.columns / 2;
    y.assign(128 * n, 0xdeadbeef);
    for (unsigned t = 0; t < 128; ++t)
      for (unsigned i = 0; i < n; ++i) {
        unsigned row = t / 32 * 16 + t % 32 / 4 + (i % 4 / 2) * 8;
        unsigned column = i / 4 * 8 + t % 4 * 2 + i % 2;
        int sum = 0;
        for (unsigned k = 0; k < whole; ++k)
          sum += left(row, k) * right(column, k);
        sum *= kernel.scaleA * kernel.scaleB;
        sum += kernel.addsFirst ? 3 : 0;
        auto number = static_cast<float>(sum);
        uint32_t word = static_cast<uint32_t>(sum);
        if (!type.isInteger)
          std::memcpy(&word, &number, sizeof word);
        wanted.push_back(word);
      }
  }

  std::string run(EmulatorCheck check = EmulatorCheck::Races, uint64_t seed = 0,
                  uint64_t changeOfB = 0, unsigned threads = 128) {
    EmulatorOptions options;
    options.check = check;
    options.scheduleSeed = seed;
    Loaded loaded = load(kDeclarations + kernel.text(), options);
    if (!loaded.module)
      return loaded.error;
    return errorOf(loaded.module->launch(
        "k", {{1}, {threads}},
        {buffer(image, "x", false), buffer(registers, "a", false),
         buffer(y, "y")},
        {static_cast<int64_t>(descriptorOf(a, 0)),
         static_cast<int64_t>(descriptorOf(b, kPlaceOfB) ^ changeOfB)}));
  }
};

const Type kF16{"f16", 2, false}, kBf16{"bf16", 2, false},
    kTf32{"tf32", 4, false}, kS8{"s8", 1, true}, kU8{"u8", 1, true};

/// The report of a kernel with something changed.
std::string report(const std::function<void(Kernel &)> &change,
                   EmulatorCheck check = EmulatorCheck::Races) {
  Kernel kernel{kBf16, 16};
  change(kernel);
  Product product(kernel, 128);
  return product.run(check);
}

} // namespace

TEST(WarpGroup, ProductsOfEveryTypeAndLayout) {
  for (const Type &type : {kF16, kBf16, kTf32, kS8, kU8})
    for (unsigned span : {0, 32, 64, 128})
      for (int transposed = 0; transposed < (type.bytes == 2 ? 4 : 1);
           ++transposed)
        for (bool inRegisters : {false, true}) {
          if (inRegisters && (transposed & 1))
            continue;
          Kernel kernel{type, span == 64 ? 96u : 32u, inRegisters,
                        (transposed & 1) != 0, (transposed & 2) != 0};
          Product product(kernel, span);
          ASSERT_EQ(product.run(), "") << type.name << " " << span;
          ASSERT_EQ(product.y, product.wanted)
              << type.name << " " << span << " " << transposed << inRegisters;
        }
}

TEST(WarpGroup, ShapesScalesAndSums) {
  for (unsigned columns : {8, 24, 128, 256}) {
    Kernel kernel{kBf16, columns};
    Product product(kernel, 64);
    ASSERT_EQ(product.run(), "");
    ASSERT_EQ(product.y, product.wanted) << columns;
  }
  Kernel kernel{kF16, 16};
  kernel.scaleA = -1;
  kernel.addsFirst = false;
  Product negated(kernel, 128);
  ASSERT_EQ(negated.run(), "");
  EXPECT_EQ(negated.y, negated.wanted);
  // Four products along the 128 bytes of a swizzled row, waits without sums.
  Kernel longer{kBf16, 64};
  longer.steps = 4;
  longer.tiesWait = false;
  for (uint64_t seed : {0, 5}) {
    Product product(longer, 128, /*pad=*/1024);
    ASSERT_EQ(product.run(EmulatorCheck::Races, seed), "");
    EXPECT_EQ(product.y, product.wanted);
  }
  longer.aInRegisters = true;
  Product product(longer, 128);
  ASSERT_EQ(product.run(), "");
  EXPECT_EQ(product.y, product.wanted);
}

TEST(WarpGroup, AWrongDescriptorIsAWrongResult) {
  Kernel kernel{kBf16, 16};
  Product product(kernel, 128);
  // 64-byte swizzle instead of 128.
  ASSERT_EQ(product.run(EmulatorCheck::Memory, 0, uint64_t(3) << 62), "");
  EXPECT_NE(product.y, product.wanted);
  // Another stride.
  ASSERT_EQ(product.run(EmulatorCheck::Memory, 0, uint64_t(8) << 32), "");
  EXPECT_NE(product.y, product.wanted);
  EXPECT_TRUE(contains(product.run(EmulatorCheck::Memory, 0, uint64_t(1) << 49),
                       "with a base offset"));
  EXPECT_TRUE(contains(product.run(EmulatorCheck::Memory, 0, uint64_t(1) << 46),
                       "with reserved bits"));
  EXPECT_TRUE(
      contains(product.run(EmulatorCheck::Memory, 0, uint64_t(0x1fff) << 32),
               "wgmma reads what is not shared memory"));
}

TEST(WarpGroup, ProxyFences) {
  std::string barrier =
      "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n";
  std::string fence = "  call void @llvm.nvvm.fence.proxy.async.shared_cta()\n";
  EXPECT_EQ(report([&](Kernel &k) { k.beforeFirst = fence + barrier; }), "");
  std::string found = report([&](Kernel &k) { k.beforeFirst = barrier; },
                             EmulatorCheck::Memory);
  EXPECT_TRUE(contains(found, "is read by wgmma at"));
  EXPECT_TRUE(contains(found, "with no fence.proxy.async since"));
  EXPECT_TRUE(contains(report([&](Kernel &k) { k.beforeFirst = barrier; }),
                       "with no fence.proxy.async"));
  // Warps that have not met know nothing of each other's writes, fenced or not.
  EXPECT_TRUE(contains(report([&](Kernel &k) { k.beforeFirst = fence; }),
                       "with no fence.proxy.async between"));
  // One thread's fence before the barrier is its own.
  EXPECT_TRUE(
      contains(report([&](Kernel &k) {
                 k.beforeFirst =
                     "  %one = icmp eq i32 %t, 127\n  br i1 %one, label %f1, "
                     "label %f2\nf1:\n" +
                     fence + "  br label %f2\nf2:\n" + barrier;
               }),
               "with no fence.proxy.async between"));
}

TEST(WarpGroup, MisuseOfFencesGroupsAndWaits) {
  EXPECT_TRUE(contains(report([](Kernel &k) { k.fence = ""; }),
                       "wgmma.mma_async with no wgmma.fence before it"));
  const std::string store = "  store i32 0, ptr addrspace(3) %p\n";
  const std::string first = "  store i32 0, ptr addrspace(3) @tiles\n";
  const char *const reads =
      "while an asynchronous operation that nobody has waited for reads it";
  EXPECT_TRUE(
      contains(report([&](Kernel &k) { k.beforeWait = store; }), reads));
  EXPECT_TRUE(contains(
      report([&](Kernel &k) { k.beforeWait = store; }, EmulatorCheck::Memory),
      reads));
  // A group too few is waited for.
  EXPECT_TRUE(contains(report([&](Kernel &k) {
                         k.left = 1;
                         k.afterWait = first;
                       }),
                       reads));
  const char *const underWay = "products of wgmma that it has not waited for";
  EXPECT_TRUE(contains(report([](Kernel &k) { k.left = 1; }), underWay));
  EXPECT_TRUE(contains(report([](Kernel &k) { k.commit = ""; }), underWay));
  EXPECT_EQ(report([&](Kernel &k) { k.afterWait = store; }), "");
  // Sums that are used before the wait which takes them.
  EXPECT_TRUE(contains(report([](Kernel &k) {
                         k.afterWait = "  %q = fadd float %e0, 1.0\n  %u = "
                                       "fptoui float %q to i32\n  store i32 "
                                       "%u, ptr addrspace(3) %p\n";
                       }),
                       "sums of wgmma are used with no wait between"));
}

TEST(WarpGroup, NeedsItsFourWarps) {
  std::string found = report([](Kernel &k) {
    k.fence = "  %in = icmp ult i32 %t, 96\n  br i1 %in, label %w1, label "
              "%w2\nw2:\n  ret void\nw1:\n" +
              k.fence;
  });
  EXPECT_TRUE(contains(found, "deadlock"));
  EXPECT_TRUE(contains(found, "waiting for the other threads of the warpgroup "
                              "(96 of 128 there)"));
  Kernel kernel{kBf16, 16};
  Product product(kernel, 128);
  EXPECT_TRUE(contains(product.run(EmulatorCheck::Execution, 0, 0, 96),
                       "wgmma in a warpgroup of less than 128 threads"));
  // Descriptors are the warpgroup's.
  EXPECT_TRUE(contains(report([](Kernel &k) {
                         k.fence += "  %half = and i32 %t, 64\n  %half64 = "
                                    "zext i32 %half to i64\n  %bd2 = add i64 "
                                    "%bd, %half64\n";
                         k.descriptorOfB = "%bd2";
                       }),
                       "threads of a warpgroup give different descriptors"));
}

TEST(WarpGroup, AssemblyThatIsNotKnownIsNamed) {
  auto changed = [](const std::string &from, const std::string &to) {
    std::string text = Kernel{kBf16, 16}.text();
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return load(kDeclarations + text).error;
  };
  const char *const unknown = "the emulator does not know the inline assembly";
  EXPECT_TRUE(contains(changed("m64n16k16", "m64n20k16"), unknown));
  EXPECT_TRUE(contains(changed("m64n16k16", "m64n16k8"), unknown));
  EXPECT_TRUE(contains(changed(".f32.bf16.bf16", ".f16.bf16.bf16"), unknown));
  EXPECT_TRUE(contains(changed("p, 1,", "p, 2,"), unknown));
  EXPECT_TRUE(contains(changed("setp.ne.b32", "setp.eq.b32"), unknown));
  EXPECT_TRUE(contains(changed("{$0, $1,", "{$1, $0,"), unknown));
}

TEST(Cluster, OfOneBlock) {
  std::string kernel = R"(
define ptx_kernel void @k(ptr addrspace(1) %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %p = getelementptr i32, ptr addrspace(3) @tiles, i32 %t
  call void @llvm.nvvm.setmaxnreg.inc.sync.aligned.u32(i32 240)
  %n = call i32 @llvm.nvvm.read.ptx.sreg.cluster.nctarank()
  %v = add i32 %t, %n
  store i32 %v, ptr addrspace(3) %p
  call void @llvm.nvvm.barrier.cluster.arrive.aligned()
  call void @llvm.nvvm.barrier.cluster.wait.aligned()
  %back = sub i32 63, %t
  %q = getelementptr i32, ptr addrspace(3) @tiles, i32 %back
  %far = call ptr addrspace(7) @llvm.nvvm.mapa.shared.cluster(ptr addrspace(3) %q, i32 0)
  %u = load i32, ptr addrspace(7) %far
  %o = getelementptr i32, ptr addrspace(1) %y, i32 %t
  store i32 %u, ptr addrspace(1) %o
  ret void
})";
  auto run = [&](const std::string &from, const std::string &to) {
    std::string text = kernel;
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    EmulatorOptions options;
    options.check = EmulatorCheck::Races;
    Loaded loaded = load(kDeclarations + text, options);
    if (!loaded.module)
      return loaded.error;
    std::vector<int> y(64, -1);
    std::string error =
        errorOf(loaded.module->launch("k", {{1}, {64}}, {buffer(y, "y")}));
    if (error.empty())
      for (int i = 0; i < 64; ++i)
        EXPECT_EQ(y[i], 64 - i);
    return error;
  };
  const std::string arrive =
      "  call void @llvm.nvvm.barrier.cluster.arrive.aligned()\n";
  const std::string wait =
      "  call void @llvm.nvvm.barrier.cluster.wait.aligned()\n";
  EXPECT_EQ(run(arrive, arrive), "");
  EXPECT_TRUE(contains(run(arrive, ""), "of a thread that has not arrived"));
  EXPECT_TRUE(contains(run(arrive, arrive + arrive), "has not waited since"));
  EXPECT_TRUE(contains(run(wait, ""), "race at byte"));
  EXPECT_TRUE(contains(run("%q, i32 0)", "%q, i32 1)"),
                       "mapa to another block of the cluster"));
  EXPECT_TRUE(contains(run("u32(i32 240)", "u32(i32 100)"), "setmaxnreg"));
}
