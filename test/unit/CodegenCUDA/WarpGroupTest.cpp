// Products by wgmma: every tile on sizes around it, both layouts of both
// factors, batches, convolutions, bytes, parts of sums, what is fused behind;
// the form for other devices; the assembler's word; planted bugs.
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Instructions.h"

#include <cstring>
#include <functional>

using namespace dlc;
using namespace dlc::test;

namespace {

const CudaCodegenOptions kOptions{"k", /*strict=*/false, /*tf32=*/false,
                                  /*warpGroups=*/true};

CudaCodegenOptions portable() {
  CudaCodegenOptions options = kOptions;
  options.portable = true;
  return options;
}

struct Product {
  int64_t batch = 0, m = 72, n = 88, k = 72; ///< 0: no batch
  std::string type = "bf16";
  bool leftAlong = true, rightAlong = true; ///< the fold is innermost
  bool fuses = false; ///< y = type(relu(a b + c)), else the sums
  std::string schedule = "instruction_rows = 64";

  bool isByte() const { return type == "i8" || type == "ui8"; }
  int64_t batches() const { return batch ? batch : 1; }
  std::string text() const;
};

std::string Product::text() const {
  std::string sum = isByte() ? "i32" : "f32", result = fuses ? type : sum;
  auto dims = [&](std::initializer_list<int64_t> sizes, const std::string &t) {
    std::string text = "tensor<";
    if (batch)
      text += std::to_string(batch) + "x";
    for (int64_t size : sizes)
      text += std::to_string(size) + "x";
    return text + t + ">";
  };
  auto map = [&](const char *along, const char *across, bool isAlong) {
    return std::string("affine_map<(") + (batch ? "e, " : "") +
           "i, j, k) -> (" + (batch ? "e, " : "") + (isAlong ? along : across) +
           ")>](" + (batch ? "%e, " : "") + "%i, %j, %k)";
  };
  std::string a = leftAlong ? dims({m, k}, type) : dims({k, m}, type),
              b = rightAlong ? dims({n, k}, type) : dims({k, n}, type),
              s = dims({m, n}, sum), y = dims({m, n}, result),
              c = "tensor<" + std::to_string(n) + "xf32>",
              domain = (batch ? std::to_string(batch) + ", " : "") +
                       std::to_string(m) + ", " + std::to_string(n),
              point = batch ? "%e: index, %i: index, %j: index"
                            : "%i: index, %j: index";
  std::string text =
      "graph.kernel @k(%a: " + a + ", %b: " + b + ", %c: " + c + ") -> " + y +
      (schedule.empty() ? "" : " attributes {schedule = {" + schedule + "}}") +
      " {\n  %s = graph.stage domain<" + domain + "> reduce<" +
      std::to_string(k) + "> fold add : " + s + " {\n  ^bb0(" + point +
      ", %k: index):\n    %p = graph.load %a[" +
      map("i, k", "k, i", leftAlong) + " : " + a + " -> " + type +
      "\n    %q = graph.load %b[" + map("j, k", "k, j", rightAlong) + " : " +
      b + " -> " + type + "\n    %u = graph.scalar_cast %p : " + type + " -> " +
      sum + "\n    %v = graph.scalar_cast %q : " + type + " -> " + sum +
      "\n    %m = graph.apply mul(%u, %v) : (" + sum + ", " + sum + ") -> " +
      sum + "\n    graph.yield %m : " + sum + "\n  }\n";
  if (!fuses)
    return text + "  graph.return %s : " + s + "\n}\n";
  std::string identity = batch
                             ? "affine_map<(e, i, j) -> (e, i, j)>](%e, %i, %j)"
                             : "affine_map<(i, j) -> (i, j)>](%i, %j)",
              bias = batch ? "affine_map<(e, i, j) -> (j)>](%e, %i, %j)"
                           : "affine_map<(i, j) -> (j)>](%i, %j)";
  return text + "  %r = graph.stage domain<" + domain + "> : " + y +
         " {\n  ^bb0(" + point + "):\n    %x = graph.load %s[" + identity +
         " : " + s + " -> f32\n    %d = graph.load %c[" + bias + " : " + c +
         " -> f32\n    %t = graph.apply add(%x, %d) : (f32, f32) -> f32\n"
         "    %z = graph.literal 0.0 : f32 : f32\n"
         "    %w = graph.apply max(%t, %z) : (f32, f32) -> f32\n"
         "    %o = graph.scalar_cast %w : f32 -> " +
         type + "\n    graph.yield %o : " + type +
         "\n  }\n  graph.return %r : " + y + "\n}\n";
}

/// Small whole numbers, which every type and every sum holds exactly.
int left(int64_t e, int64_t i, int64_t k) {
  return int((i * 5 + k * 3 + e) % 7 % 3) - 1;
}
int right(int64_t e, int64_t j, int64_t k) {
  return int((j * 3 + k * 7 + e * 2) % 11 % 3) - 1;
}

/// The low bytes of a number of a type.
uint32_t toBits(int value, const std::string &type) {
  if (type == "i8" || type == "ui8")
    return static_cast<uint8_t>(value);
  auto number = static_cast<float>(value);
  uint32_t word;
  std::memcpy(&word, &number, sizeof word);
  if (type == "bf16")
    return word >> 16;
  if (value == 0)
    return 0;
  return (word >> 16 & 0x8000) | (((word >> 23 & 0xff) - 112) << 10) |
         (word >> 13 & 0x3ff);
}

/// The report, or the first wrong number; empty: all is right.
std::string run(CompiledKernel &kernel, const Product &p, uint64_t seed = 0) {
  size_t bytes = p.isByte() ? 1 : 2, elements = size_t(p.batches());
  std::vector<uint8_t> a(elements * size_t(p.m * p.k) * bytes),
      b(elements * size_t(p.n * p.k) * bytes);
  std::vector<float> c(size_t(p.n));
  // An unsigned factor has no negative numbers.
  auto number = [&](int value) { return p.type == "ui8" ? value + 1 : value; };
  auto put = [&](std::vector<uint8_t> &to, int64_t at, int value) {
    uint32_t bits = toBits(number(value), p.type);
    std::memcpy(&to[size_t(at) * bytes], &bits, bytes);
  };
  for (int64_t e = 0; e < p.batches(); ++e)
    for (int64_t k = 0; k < p.k; ++k) {
      for (int64_t i = 0; i < p.m; ++i)
        put(a, e * p.m * p.k + (p.leftAlong ? i * p.k + k : k * p.m + i),
            left(e, i, k));
      for (int64_t j = 0; j < p.n; ++j)
        put(b, e * p.n * p.k + (p.rightAlong ? j * p.k + k : k * p.n + j),
            right(e, j, k));
    }
  for (int64_t j = 0; j < p.n; ++j)
    c[size_t(j)] = float(j % 4);
  size_t count = elements * size_t(p.m * p.n), each = p.fuses ? 2 : 4;
  std::vector<uint8_t> y(count * each, 0xff);
  std::string report = kernel.run(
      {in(a, "a"), in(b, "b"), in(c, "c"), out(y, "y")}, {}, nullptr, seed);
  if (!report.empty())
    return report;
  for (size_t at = 0; at < count; ++at) {
    int64_t j = int64_t(at) % p.n, i = int64_t(at) / p.n % p.m,
            e = int64_t(at) / (p.n * p.m);
    int sum = p.fuses ? int(j % 4) : 0;
    for (int64_t k = 0; k < p.k; ++k)
      sum += number(left(e, i, k)) * number(right(e, j, k));
    uint32_t wanted;
    auto exact = static_cast<float>(sum);
    if (p.fuses)
      wanted = toBits(std::max(sum, 0), p.type);
    else if (p.isByte())
      wanted = static_cast<uint32_t>(sum);
    else
      std::memcpy(&wanted, &exact, sizeof wanted);
    uint32_t got = 0;
    std::memcpy(&got, &y[at * each], each);
    if (got != wanted)
      return "wrong number at " + std::to_string(at);
  }
  return {};
}

void expectRight(const Product &p) {
  std::string name = p.type + " " + std::to_string(p.m) + "x" +
                     std::to_string(p.n) + "x" + std::to_string(p.k) + " " +
                     p.schedule;
  CompiledKernel kernel(p.text(), "cuda:sm=90a", kOptions);
  ASSERT_EQ(kernel.error, "") << name;
  EXPECT_NE(kernel.ptx.find("wgmma.mma_async.sync.aligned.m64n"),
            std::string::npos)
      << name;
  EXPECT_EQ(run(kernel, p), "") << name;
  // The same grids and blocks on other devices, without dynamic memory.
  CompiledKernel other(p.text(), "cuda:sm=80", portable());
  ASSERT_EQ(other.error, "") << name;
  EXPECT_EQ(other.ptx.find("wgmma"), std::string::npos) << name;
  EXPECT_NE(other.ptx.find("mma.sync"), std::string::npos) << name;
  EXPECT_EQ(run(other, p), "") << name;
  ASSERT_EQ(kernel.launches().size(), other.launches().size());
  for (auto [x, y] : llvm::zip_equal(kernel.launches(), other.launches())) {
    EXPECT_EQ(x.symbol, y.symbol);
    EXPECT_EQ(x.gridBlocks, y.gridBlocks);
    EXPECT_EQ(x.blockThreads, y.blockThreads);
    EXPECT_EQ(y.sharedBytes, 0u);
  }
  EXPECT_GT(kernel.launches()[0].sharedBytes, 0u);
}

std::string tile(int64_t rows, int64_t columns, int64_t warps, int64_t stages) {
  auto knob = [](const char *name, int64_t value) {
    return std::string(name) + " = " + std::to_string(value);
  };
  return knob("instruction_rows", 64) + ", " + knob("tile_rows", rows) + ", " +
         knob("tile_columns", columns) + ", " + knob("warps", warps) + ", " +
         knob("stages", stages);
}

} // namespace

TEST(WarpGroup, EveryTile) {
  struct {
    int64_t rows, columns, warps, stages, m, n, k;
  } cases[] = {
      {64, 64, 4, 3, 64, 64, 64},       {64, 128, 4, 5, 72, 136, 8},
      {64, 256, 4, 4, 63, 264, 200},    {128, 64, 8, 3, 130, 72, 328},
      {128, 128, 4, 3, 129, 128, 72},   {128, 128, 8, 4, 200, 120, 136},
      {128, 256, 8, 4, 136, 256, 264},  {256, 128, 8, 3, 264, 136, 72},
      {256, 128, 16, 4, 200, 128, 128}, {256, 64, 8, 5, 130, 40, 456},
      {128, 192, 8, 3, 128, 200, 72}};
  for (auto &c : cases) {
    Product p;
    p.m = c.m, p.n = c.n, p.k = c.k;
    p.schedule = tile(c.rows, c.columns, c.warps, c.stages);
    expectRight(p);
  }
}

TEST(WarpGroup, EveryLayout) {
  for (bool leftAlong : {true, false})
    for (bool rightAlong : {true, false})
      for (bool fuses : {true, false}) {
        Product p;
        p.type = fuses ? "f16" : "bf16";
        p.leftAlong = leftAlong, p.rightAlong = rightAlong, p.fuses = fuses;
        p.m = 136, p.n = 200, p.k = 72;
        p.schedule = tile(128, 128, leftAlong ? 4 : 8, 3);
        expectRight(p);
      }
}

TEST(WarpGroup, BatchesPartsAndBytes) {
  Product batched;
  batched.batch = 3, batched.fuses = true, batched.rightAlong = false;
  expectRight(batched);
  Product parted;
  parted.k = 704, parted.schedule += ", parts = 3";
  expectRight(parted);
  for (const char *type : {"i8", "ui8"}) {
    Product bytes;
    bytes.type = type, bytes.k = 304, bytes.n = 72;
    expectRight(bytes);
  }
}

// Rows that are not a multiple of eight: elements are stored one by one.
TEST(WarpGroup, NarrowRows) {
  Product p;
  p.n = 77, p.fuses = true;
  expectRight(p);
}

// Channels last: a panel's steps are taps and channels, pixels outside are
// zeros.
TEST(WarpGroup, Convolution) {
  const char *const text = R"(
graph.kernel @k(%x: tensor<2x9x11x24xf16>, %w: tensor<40x3x3x24xf16>) -> tensor<2x9x11x40xf32> attributes {schedule = {instruction_rows = 64}} {
  %s = graph.stage domain<2, 9, 11, 40> reduce<3, 3, 24> fold add : tensor<2x9x11x40xf32> {
  ^bb0(%n: index, %i: index, %j: index, %o: index, %p: index, %q: index, %c: index):
    %z = graph.literal 0.0 : f16 : f16
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4 - 1, d2 + d5 - 1, d6)>](%n, %i, %j, %o, %p, %q, %c)
      guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 + d4 - 1 >= 0, 9 - d1 - d4 >= 0, d2 + d5 - 1 >= 0, 11 - d2 - d5 >= 0)>
      else %z : f16 : tensor<2x9x11x24xf16> -> f16
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d4, d5, d6)>](%n, %i, %j, %o, %p, %q, %c) : tensor<40x3x3x24xf16> -> f16
    %g = graph.scalar_cast %v : f16 -> f32
    %h = graph.scalar_cast %f : f16 -> f32
    %m = graph.apply mul(%g, %h) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<2x9x11x40xf32>
})";
  CompiledKernel kernel(text, "cuda:sm=90a", kOptions);
  ASSERT_EQ(kernel.error, "");
  ASSERT_NE(kernel.ptx.find("wgmma.mma_async"), std::string::npos);
  std::vector<uint16_t> x(2 * 9 * 11 * 24), w(40 * 9 * 24);
  auto pixel = [](int64_t at) { return int(at * 7 % 5 % 3) - 1; };
  auto tap = [](int64_t at) { return int(at * 3 % 11 % 3) - 1; };
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<uint16_t>(toBits(pixel(int64_t(i)), "f16"));
  for (size_t i = 0; i < w.size(); ++i)
    w[i] = static_cast<uint16_t>(toBits(tap(int64_t(i)), "f16"));
  std::vector<float> y(2 * 9 * 11 * 40, -1);
  ASSERT_EQ(kernel.run({in(x, "x"), in(w, "w"), out(y, "y")}), "");
  for (int64_t at = 0; at < int64_t(y.size()); ++at) {
    int64_t o = at % 40, j = at / 40 % 11, i = at / 440 % 9, n = at / 3960;
    int sum = 0;
    for (int64_t t = 0; t < 9; ++t) {
      int64_t row = i + t / 3 - 1, column = j + t % 3 - 1;
      for (int64_t c = 0; c < 24; ++c)
        if (row >= 0 && row < 9 && column >= 0 && column < 11)
          sum += pixel(((n * 9 + row) * 11 + column) * 24 + c) *
                 tap((o * 9 + t) * 24 + c);
    }
    ASSERT_EQ(y[size_t(at)], float(sum)) << at;
  }
}

TEST(WarpGroup, TheRulesTakeItWhereThereAreTiles) {
  Product large;
  large.m = 2048, large.n = 2048, large.k = 64, large.schedule.clear();
  EXPECT_NE(CompiledKernel(large.text(), "cuda:sm=90a", kOptions)
                .ptx.find("wgmma.mma_async.sync.aligned.m64n256k16"),
            std::string::npos);
  Product small;
  small.schedule.clear();
  for (const Product &p : {small, large}) {
    CudaCodegenOptions older{"k"};
    CompiledKernel kernel(p.text(), "cuda:sm=80", older);
    EXPECT_EQ(kernel.ptx.find("wgmma"), std::string::npos);
    EXPECT_NE(kernel.ptx.find("mma.sync"), std::string::npos);
  }
  CompiledKernel few(small.text(), "cuda:sm=90a", kOptions);
  EXPECT_NE(few.ptx.find("mma.sync"), std::string::npos);
}

// Tiles and parts that were the fastest on an H100 (docs/performance-cuda.md).
TEST(WarpGroup, TheRulesTakeWhatWasFast) {
  struct {
    int64_t m, n, k;
    const char *instruction;
    uint64_t blocks;
    size_t launches;
  } cases[] = {
      {4096, 4096, 4096, "m64n256k16", 512, 1}, // 128 x 256
      {512, 11008, 4096, "m64n128k16", 344, 1}, // a third of a wave less
      {128, 4096, 4096, "m64n64k16", 128, 2},   // 64 tiles in two parts
      {128, 4096, 320, nullptr, 0, 1}};         // sums too short for parts
  for (auto c : cases) {
    Product p;
    p.m = c.m, p.n = c.n, p.k = c.k, p.schedule.clear();
    CompiledKernel kernel(p.text(), "cuda:sm=90a", kOptions);
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.numLaunches, c.launches) << c.m;
    if (!c.instruction) {
      EXPECT_EQ(kernel.ptx.find("wgmma"), std::string::npos) << c.k;
      continue;
    }
    EXPECT_NE(kernel.ptx.find(c.instruction), std::string::npos) << c.m;
    EXPECT_EQ(kernel.launches()[0].gridBlocks, c.blocks) << c.m;
  }
}

TEST(WarpGroup, WhatMakesNoTileIsRefused) {
  struct {
    std::string schedule, reason;
  } refused[] = {{tile(128, 128, 2, 3), "a warpgroup has four warps"},
                 {tile(128, 128, 4, 2), "3 to 8 stages"},
                 {tile(256, 128, 4, 3), "64 or 128 rows"},
                 {tile(128, 256, 8, 5), "227 KiB"},
                 {tile(128, 256, 4, 3), "other devices have no such tile"},
                 {tile(64, 64, 4, 3) + ", panel_bytes = 64", "128 bytes"},
                 {"instruction_rows = 32", "16 or 64 rows"}};
  Product p;
  p.m = 256, p.n = 256;
  for (auto &[schedule, reason] : refused) {
    p.schedule = schedule;
    CompiledKernel kernel(p.text(), "cuda:sm=90a", kOptions);
    EXPECT_NE(kernel.error.find(reason), std::string::npos)
        << schedule << ": " << kernel.error;
  }
  CompiledKernel older(Product().text(), "cuda:sm=80");
  EXPECT_NE(older.error.find("'instruction_rows' is no knob"),
            std::string::npos)
      << older.error;
}

TEST(WarpGroup, KeepsItsSumsInRegistersAndUnderWay) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (bool along : {true, false})
    for (const std::string &schedule :
         {tile(128, 256, 8, 4), tile(256, 128, 8, 4), tile(128, 128, 8, 3),
          tile(64, 256, 4, 4)}) {
      Product p;
      p.m = p.n = p.k = 1024, p.fuses = true;
      p.leftAlong = p.rightAlong = along;
      p.schedule = schedule;
      CompiledKernel kernel(p.text(), "cuda:sm=90a", kOptions);
      ASSERT_EQ(kernel.error, "");
      auto result = llvm::cantFail(runPtxas(kernel.ptx, "sm_90a"));
      EXPECT_EQ(llvm::join(result.remarks, "\n"), "") << schedule;
      for (const KernelResources &k : result.kernels) {
        EXPECT_EQ(k.spillStoreBytes, 0) << schedule;
        EXPECT_EQ(k.stackBytes, 0) << schedule;
      }
    }
}

//===----------------------------------------------------------------------===//
// Planted bugs
//===----------------------------------------------------------------------===//

using Edit = std::function<bool(llvm::Instruction &, bool)>;

static llvm::CallInst *callOf(llvm::Instruction &instruction,
                              llvm::StringRef name) {
  auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
  return call && call->getCalledFunction() &&
                 call->getCalledFunction()->getName().contains(name)
             ? call
             : nullptr;
}

static Edit dropCall(const char *name) {
  return [=](llvm::Instruction &instruction, bool doIt) {
    llvm::CallInst *call = callOf(instruction, name);
    if (call && doIt)
      call->eraseFromParent();
    return call != nullptr;
  };
}

/// Assembly with other text.
static Edit rewrite(const char *from, const char *to) {
  return [=](llvm::Instruction &instruction, bool doIt) {
    auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
    auto *assembly =
        call ? llvm::dyn_cast<llvm::InlineAsm>(call->getCalledOperand())
             : nullptr;
    std::string text = assembly ? assembly->getAsmString().str() : "";
    size_t at = text.find(from);
    if (at == std::string::npos)
      return false;
    if (doIt)
      call->setCalledOperand(llvm::InlineAsm::get(
          assembly->getFunctionType(), text.replace(at, std::strlen(from), to),
          assembly->getConstraintString(), assembly->hasSideEffects()));
    return true;
  };
}

/// A group more may be under way.
static bool waitForFewer(llvm::Instruction &instruction, bool doIt) {
  llvm::CallInst *call = callOf(instruction, "cp.async.wait.group");
  auto *count = call ? llvm::dyn_cast<llvm::ConstantInt>(call->getArgOperand(0))
                     : nullptr;
  if (count && doIt)
    call->setArgOperand(
        0, llvm::ConstantInt::get(count->getType(), count->getZExtValue() + 1));
  return count != nullptr;
}

/// Chunks stay where they are.
static bool dropSwizzle(llvm::Instruction &instruction, bool doIt) {
  bool isSwizzle = instruction.getOpcode() == llvm::Instruction::Xor &&
                   instruction.getType()->isIntegerTy() &&
                   instruction.getType()->getIntegerBitWidth() > 1;
  if (isSwizzle && doIt)
    instruction.setOperand(1, llvm::ConstantInt::get(instruction.getType(), 0));
  return isSwizzle;
}

TEST(WarpGroup, PlantedBugsAreFound) {
  struct {
    const char *name;
    Edit edit;
    unsigned most;
  } bugs[] = {
      {"missing barrier", dropCall("barrier.cta"), 3},
      {"missing proxy fence", dropCall("fence.proxy.async"), 1},
      {"missing fence", dropCall("wgmma.fence"), 1},
      {"missing commit", dropCall("wgmma.commit_group"), 1},
      {"missing wait for copies", dropCall("cp.async.wait.group"), 1},
      {"wait for a copy too few", waitForFewer, 1},
      {"missing commit of copies", dropCall("cp.async.commit.group"), 2},
      {"missing copy", dropCall("cp.async.cg.shared"), 2},
      {"wait for a product too few",
       rewrite("wait_group.sync.aligned 1", "wait_group.sync.aligned 2"), 1},
      {"matrix transposed", rewrite("p, 1, 1, 0, 1;", "p, 1, 1, 0, 0;"), 2},
      {"sum forgotten", rewrite(", 0; wgmma", ", 1; wgmma"), 2},
      {"wrong swizzle", dropSwizzle, 2}};
  Product p;
  p.m = 128, p.n = 136, p.k = 456, p.rightAlong = false;
  p.schedule = tile(128, 128, 8, 3);
  CompiledKernel kernel(p.text(), "cuda:sm=90a", kOptions);
  ASSERT_EQ(kernel.error, "");
  ASSERT_EQ(run(kernel, p), "");
  for (auto &bug : bugs) {
    unsigned planted = 0;
    for (; planted < bug.most && kernel.plant(planted, bug.edit); ++planted) {
      EXPECT_NE(run(kernel, p), "") << bug.name << " " << planted;
      kernel.restore();
    }
    EXPECT_GT(planted, 0u) << "no place for: " << bug.name;
  }
}
