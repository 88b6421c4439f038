// Bugs planted into the code of right kernels, one a time: each must be found,
// by a report of the emulator or by a wrong number. The kernels as they are
// give no report.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include "llvm/ADT/Twine.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/InstrTypes.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/IntrinsicsNVPTX.h"
#include "llvm/IR/Module.h"

#include <cmath>
#include <cstring>
#include <functional>

using namespace dlc;
using namespace dlc::test;
using namespace llvm;

namespace {

/// y[m, n] = a[m, k] * b[k, n] in f32: tiles on plain units.
const char *const kProduct = R"(
graph.kernel @k(%a: tensor<70x40xf32>, %b: tensor<40x33xf32>) -> tensor<70x33xf32> {
  %s = graph.stage domain<70, 33> reduce<40> fold add : tensor<70x33xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<70x40xf32> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<40x33xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %s : tensor<70x33xf32>
})";

/// The same of bf16 with f32 sums: tensor cores, asynchronous copies.
const char *const kTensorProduct = R"(
graph.kernel @k(%a: tensor<80x168xbf16>, %b: tensor<168x72xbf16>) -> tensor<80x72xf32> {
  %s = graph.stage domain<80, 72> reduce<168> fold add : tensor<80x72xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<80x168xbf16> -> bf16
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<168x72xbf16> -> bf16
    %u = graph.scalar_cast %x : bf16 -> f32
    %v = graph.scalar_cast %y : bf16 -> f32
    %p = graph.apply mul(%u, %v) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %s : tensor<80x72xf32>
})";

/// A padded 3 x 3 convolution: a table of the places of a panel's steps.
const char *const kConvolution = R"(
graph.kernel @k(%x: tensor<4x6x7xf32>, %w: tensor<18x4x3x3xf32>) -> tensor<18x6x7xf32> {
  %s = graph.stage domain<18, 6, 7> reduce<4, 3, 3> fold add : tensor<18x6x7xf32> {
  ^bb0(%o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5) -> (d3, d1 + d4 - 1, d2 + d5 - 1)>](%o, %i, %j, %c, %p, %q)
      guard affine_set<(d0, d1, d2, d3, d4, d5) : (d1 + d4 - 1 >= 0, 6 - d1 - d4 >= 0, d2 + d5 - 1 >= 0, 7 - d2 - d5 >= 0)>
      else %z : f32 : tensor<4x6x7xf32> -> f32
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d3, d4, d5)>](%o, %i, %j, %c, %p, %q) : tensor<18x4x3x3xf32> -> f32
    %m = graph.apply mul(%v, %f) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<18x6x7xf32>
})";

/// The same of bf16: what a thread gathers waits in registers.
std::string narrowConvolution() {
  std::string text = kConvolution;
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
         at += to.size())
      text.replace(at, from.size(), to);
  };
  replace("xf32", "xbf16");
  replace("18x6x7xbf16", "18x6x7xf32");
  replace("%z : f32 : tensor", "%z : bf16 : tensor");
  replace("0.0 : f32 : f32", "0.0 : bf16 : bf16");
  replace("-> f32\n    %f", "-> bf16\n    %f");
  replace("-> f32\n    %m", "-> bf16\n    %g = graph.scalar_cast %v : bf16 -> "
                            "f32\n    %h = graph.scalar_cast %f : bf16 -> "
                            "f32\n    %m");
  replace("mul(%v, %f)", "mul(%g, %h)");
  return text;
}

/// x - mean(x) of rows: shuffles, shared memory, a row buffer.
const char *const kCentre = R"(
graph.kernel @k(%x: tensor<3x300xf32>) -> tensor<3x300xf32> {
  %e = graph.stage domain<3, 300> : tensor<3x300xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, 299 - d1)>](%i, %j) : tensor<3x300xf32> -> f32
    %w = graph.apply mul(%v, %v) : (f32, f32) -> f32
    graph.yield %w : f32
  }
  %m = graph.stage domain<3> reduce<300> fold add : tensor<3xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, 299 - d1)>](%i, %k) : tensor<3x300xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<3, 300> : tensor<3x300xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, 299 - d1)>](%i, %j) : tensor<3x300xf32> -> f32
    %s = graph.load %m[affine_map<(d0, d1) -> (d0)>](%i, %j) : tensor<3xf32> -> f32
    %c = graph.literal 3.000000e+02 : f32 : f32
    %n = graph.apply div(%s, %c) : (f32, f32) -> f32
    %d = graph.apply sub(%v, %n) : (f32, f32) -> f32
    graph.yield %d : f32
  }
  graph.return %y : tensor<3x300xf32>
})";

/// Empty when the run gives no report and every number is right.
std::string judge(std::string report, const std::vector<float> &y,
                  const std::vector<double> &wanted, double tolerance = 1e-4) {
  if (!report.empty())
    return report;
  for (size_t i = 0; i < y.size(); ++i)
    if (!(std::fabs(y[i] - wanted[i]) <= tolerance))
      return ("wrong number at " + Twine(i)).str();
  return {};
}

std::vector<double> multiply(const std::vector<float> &a,
                             const std::vector<float> &b, size_t m, size_t n) {
  size_t depth = a.size() / m;
  std::vector<double> y(m * n);
  for (size_t i = 0; i < m; ++i)
    for (size_t j = 0; j < n; ++j)
      for (size_t k = 0; k < depth; ++k)
        y[i * n + j] += double(a[i * depth + k]) * b[k * n + j];
  return y;
}

std::string runProduct(CompiledKernel &kernel) {
  auto a = randomFloats(70 * 40, 1), b = randomFloats(40 * 33, 2);
  std::vector<float> y(70 * 33, -9);
  std::string report = kernel.run({in(a, "a"), in(b, "b"), out(y, "y")});
  return judge(report, y, multiply(a, b, 70, 33));
}

/// The bits of bf16; the values are cut to them.
std::vector<uint16_t> narrow(std::vector<float> &values) {
  std::vector<uint16_t> bits;
  for (float &value : values) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    word &= 0xffff0000u;
    std::memcpy(&value, &word, sizeof word);
    bits.push_back(static_cast<uint16_t>(word >> 16));
  }
  return bits;
}

std::string runTensorProduct(CompiledKernel &kernel) {
  auto a = randomFloats(80 * 168, 1), b = randomFloats(168 * 72, 2);
  auto x = narrow(a), w = narrow(b);
  std::vector<float> y(80 * 72, -9);
  std::string report = kernel.run({in(x, "a"), in(w, "b"), out(y, "y")});
  return judge(report, y, multiply(a, b, 80, 72));
}

std::string convolve(CompiledKernel &kernel, bool isNarrow) {
  auto x = randomFloats(4 * 6 * 7, 1), w = randomFloats(18 * 4 * 9, 2);
  std::vector<float> y(18 * 6 * 7, -9);
  std::string report;
  if (isNarrow) {
    auto a = narrow(x), b = narrow(w);
    report = kernel.run({in(a, "x"), in(b, "w"), out(y, "y")});
  } else {
    report = kernel.run({in(x, "x"), in(w, "w"), out(y, "y")});
  }
  std::vector<double> wanted(y.size());
  for (int o = 0; o < 18; ++o)
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 7; ++j)
        for (int k = 0; k < 4 * 9; ++k) {
          int row = i + k / 3 % 3 - 1, column = j + k % 3 - 1;
          if (row >= 0 && row < 6 && column >= 0 && column < 7)
            wanted[(o * 6 + i) * 7 + j] +=
                double(x[(k / 9 * 6 + row) * 7 + column]) * w[o * 36 + k];
        }
  return judge(report, y, wanted);
}

std::string runConvolution(CompiledKernel &kernel) {
  return convolve(kernel, /*isNarrow=*/false);
}

std::string runNarrowConvolution(CompiledKernel &kernel) {
  return convolve(kernel, /*isNarrow=*/true);
}

std::string runCentre(CompiledKernel &kernel) {
  auto x = randomFloats(3 * 300, 3);
  std::vector<float> y(3 * 300, -9);
  std::string report = kernel.run({in(x, "x"), out(y, "y")});
  std::vector<double> wanted;
  for (int i = 0; i < 3; ++i) {
    double sum = 0;
    for (int j = 0; j < 300; ++j)
      sum += double(x[i * 300 + j]) * x[i * 300 + j];
    for (int j = 0; j < 300; ++j)
      wanted.push_back(double(x[i * 300 + j]) * x[i * 300 + j] - sum / 300);
  }
  return judge(report, y, wanted);
}

/// Attention of f32, and of bf16 on tensor cores: more than a block of keys.
const AttentionCase kAttention{.rows = 20,
                               .keys = 150,
                               .inner = 16,
                               .columns = 16,
                               .mask = "causal",
                               .past = 120};

std::string runAttention(CompiledKernel &kernel) {
  const AttentionCase &c = kAttention;
  auto q = eighths(c.queries(), 1), k = eighths(c.keys * c.inner, 2),
       v = eighths(c.keys * c.columns, 3);
  std::vector<float> y(c.results(), -9);
  std::string report =
      kernel.run({in(q, "q"), in(k, "k"), in(v, "v"), out(y, "y")});
  return judge(report, y, attend(c, q, k, v, {}), 1e-5);
}

std::string runTensorAttention(CompiledKernel &kernel) {
  const AttentionCase &c = kAttention;
  auto q = eighths(c.queries(), 1), k = eighths(c.keys * c.inner, 2),
       v = eighths(c.keys * c.columns, 3);
  auto qn = toBits(q, true), kn = toBits(k, true), vn = toBits(v, true);
  std::vector<float> y(c.results(), -9);
  std::string report =
      kernel.run({in(qn, "q"), in(kn, "k"), in(vn, "v"), out(y, "y")});
  // Weights are of bf16: 150 of about 1/150 each.
  return judge(report, y, attend(c, q, k, v, {}), 1e-3);
}

CallInst *callOf(Instruction &instruction, StringRef name) {
  auto *call = dyn_cast<CallInst>(&instruction);
  return call && call->getCalledFunction() &&
                 call->getCalledFunction()->getName().contains(name)
             ? call
             : nullptr;
}

using Edit = std::function<bool(Instruction &, bool)>;

Edit dropCall(const char *name) {
  return [=](Instruction &instruction, bool doIt) {
    CallInst *call = callOf(instruction, name);
    if (call && doIt)
      call->eraseFromParent();
    return call != nullptr;
  };
}

/// Operand `i` of a call, a constant, becomes what `change` makes of it.
Edit changeConstant(const char *name, unsigned i,
                    std::function<int64_t(int64_t)> change) {
  return [=](Instruction &instruction, bool doIt) {
    CallInst *call = callOf(instruction, name);
    auto *value =
        call ? dyn_cast<ConstantInt>(call->getArgOperand(i)) : nullptr;
    if (value && doIt)
      call->setArgOperand(
          i, ConstantInt::getSigned(value->getType(),
                                    change(value->getSExtValue())));
    return value != nullptr;
  };
}

Edit swapOperands(const char *name, unsigned i, unsigned j) {
  return [=](Instruction &instruction, bool doIt) {
    CallInst *call = callOf(instruction, name);
    if (call && doIt) {
      Value *first = call->getArgOperand(i);
      call->setArgOperand(i, call->getArgOperand(j));
      call->setArgOperand(j, first);
    }
    return call != nullptr;
  };
}

Edit useOther(const char *name, Intrinsic::ID other) {
  return [=](Instruction &instruction, bool doIt) {
    CallInst *call = callOf(instruction, name);
    if (call && doIt)
      call->setCalledFunction(Intrinsic::getOrInsertDeclaration(
          instruction.getModule(), other, {call->getArgOperand(0)->getType()}));
    return call != nullptr;
  };
}

bool dropStore(Instruction &instruction, bool doIt) {
  auto *store = dyn_cast<StoreInst>(&instruction);
  bool isShared = store && store->getPointerAddressSpace() == 3;
  if (isShared && doIt)
    store->eraseFromParent();
  return isShared;
}

/// The element behind the one meant.
bool storeNext(Instruction &instruction, bool doIt) {
  auto *store = dyn_cast<StoreInst>(&instruction);
  bool isGlobal = store && store->getPointerAddressSpace() != 3;
  if (isGlobal && doIt) {
    auto *next = GetElementPtrInst::Create(
        store->getValueOperand()->getType(), store->getPointerOperand(),
        {ConstantInt::get(Type::getInt64Ty(store->getContext()), 1)}, "",
        store->getIterator());
    store->setOperand(1, next);
  }
  return isGlobal;
}

/// Into the first operand, which kernels only read.
bool storeToOperand(Instruction &instruction, bool doIt) {
  auto *store = dyn_cast<StoreInst>(&instruction);
  bool isGlobal = store && store->getPointerAddressSpace() != 3;
  if (isGlobal && doIt)
    store->setOperand(1, store->getFunction()->getArg(0));
  return isGlobal;
}

/// Chunks stay where they are.
bool dropSwizzle(Instruction &instruction, bool doIt) {
  bool isSwizzle = instruction.getOpcode() == Instruction::Xor &&
                   instruction.getType()->isIntegerTy() &&
                   !isa<Constant>(instruction.getOperand(1)) &&
                   instruction.getType()->getIntegerBitWidth() > 1;
  if (isSwizzle && doIt)
    instruction.setOperand(1, ConstantInt::get(instruction.getType(), 0));
  return isSwizzle;
}

/// A product that forgets the sum before it.
bool dropSum(Instruction &instruction, bool doIt) {
  CallInst *call = callOf(instruction, "llvm.fma.f32");
  if (call && doIt)
    call->setArgOperand(2, ConstantFP::get(call->getType(), 0));
  return call != nullptr;
}

/// Zeros instead of what is to be copied.
bool neverCopy(Instruction &instruction, bool doIt) {
  CallInst *call = callOf(instruction, "cp.async.cg.shared.global.16.s");
  if (call && doIt)
    call->setArgOperand(2,
                        ConstantInt::get(call->getArgOperand(2)->getType(), 0));
  return call != nullptr;
}

/// Both words of bits are asked whether they have one in common: not any more.
bool ignoreBits(Instruction &instruction, bool doIt) {
  auto *compare = dyn_cast<ICmpInst>(&instruction);
  auto *both =
      compare ? dyn_cast<Instruction>(compare->getOperand(0)) : nullptr;
  bool isIt = both && compare->isEquality() &&
              both->getOpcode() == Instruction::And &&
              !isa<Constant>(both->getOperand(1));
  if (isIt && doIt)
    compare->setOperand(0, compare->getOperand(1));
  return isIt;
}

/// The entry of a table that follows the one meant.
bool readNextEntry(Instruction &instruction, bool doIt) {
  auto *load = dyn_cast<LoadInst>(&instruction);
  bool isIt = load && load->getPointerAddressSpace() == 3 &&
              load->getType()->getScalarType()->isIntegerTy(32);
  if (isIt && doIt) {
    Type *entry = Type::getInt64Ty(load->getContext());
    load->setOperand(0,
                     GetElementPtrInst::Create(entry, load->getPointerOperand(),
                                               {ConstantInt::get(entry, 1)}, "",
                                               load->getIterator()));
  }
  return isIt;
}

int64_t plusOne(int64_t x) { return x + 1; }
int64_t halved(int64_t x) { return x == 1 ? 3 : x / 2; }
int64_t lowHalf(int64_t) { return 0xffff; }

/// A kind of bug, and how many of it are planted at most.
struct Bug {
  const char *name;
  Edit edit;
  unsigned most;
};

unsigned plantAll(const char *text, std::string (*run)(CompiledKernel &),
                  const std::vector<Bug> &bugs) {
  CompiledKernel kernel(text);
  EXPECT_EQ(kernel.error, "");
  if (!kernel.error.empty())
    return 0;
  EXPECT_EQ(run(kernel), "");
  unsigned caught = 0;
  for (const Bug &bug : bugs) {
    unsigned planted = 0;
    for (; planted < bug.most && kernel.plant(planted, bug.edit); ++planted) {
      std::string found = run(kernel);
      EXPECT_NE(found, "") << bug.name << " " << planted;
      caught += !found.empty();
      kernel.restore();
    }
    EXPECT_GT(planted, 0u) << "no place for: " << bug.name;
  }
  return caught;
}

} // namespace

TEST(PlantedBug, EachIsFound) {
  unsigned caught = plantAll(kProduct, runProduct,
                             {{"missing barrier", dropCall("barrier.cta"), 3},
                              {"missing store to shared memory", dropStore, 3},
                              {"forgotten sum", dropSum, 2},
                              {"store to the next element", storeNext, 1},
                              {"store to an operand", storeToOperand, 1}});
  caught +=
      plantAll(kTensorProduct, runTensorProduct,
               {{"missing barrier", dropCall("barrier.cta"), 3},
                {"missing wait", dropCall("cp.async.wait.group"), 2},
                {"wait for a group too few",
                 changeConstant("cp.async.wait.group", 0, plusOne), 2},
                {"missing commit", dropCall("cp.async.commit.group"), 2},
                {"missing copy", dropCall("cp.async.cg.shared"), 2},
                {"zeros instead of a copy", neverCopy, 2},
                {"matrix not transposed",
                 useOther("ldmatrix.sync.aligned.m8n8.x4.trans",
                          Intrinsic::nvvm_ldmatrix_sync_aligned_m8n8_x4_b16),
                 2},
                {"registers of a fragment swapped",
                 swapOperands("mma.m16n8k16", 1, 2), 2},
                {"factors swapped", swapOperands("mma.m16n8k16", 0, 4), 1},
                {"wrong swizzle", dropSwizzle, 2}});
  caught += plantAll(kConvolution, runConvolution,
                     {{"missing barrier", dropCall("barrier.cta"), 3},
                      {"missing store to shared memory", dropStore, 4},
                      {"missing wait", dropCall("cp.async.wait.group"), 1},
                      {"guard not asked", ignoreBits, 3},
                      {"the entry behind", readNextEntry, 2},
                      {"store to the next element", storeNext, 1}});
  caught += plantAll(narrowConvolution().c_str(), runNarrowConvolution,
                     {{"missing barrier", dropCall("barrier.cta"), 3},
                      {"missing store to shared memory", dropStore, 4},
                      {"guard not asked", ignoreBits, 3},
                      {"the entry behind", readNextEntry, 2},
                      {"registers of a fragment swapped",
                       swapOperands("mma.m16n8k16", 1, 2), 1}});
  caught += plantAll(
      kCentre, runCentre,
      {{"missing barrier", dropCall("barrier.cta"), 3},
       {"wrong lane", changeConstant("shfl.sync.bfly", 2, halved), 3},
       {"wrong member mask", changeConstant("shfl.sync.bfly", 0, lowHalf), 1},
       {"missing store to shared memory", dropStore, 2},
       {"store to the next element", storeNext, 1}});
  caught += plantAll(
      attentionText(kAttention).c_str(), runAttention,
      {{"missing barrier", dropCall("barrier.cta"), 3},
       {"wrong lane", changeConstant("shfl.sync.bfly", 2, halved), 3},
       {"wrong member mask", changeConstant("shfl.sync.bfly", 0, lowHalf), 1},
       {"missing store to shared memory", dropStore, 3},
       {"forgotten sum", dropSum, 2},
       {"store to the next element", storeNext, 1}});
  AttentionCase narrow = kAttention;
  narrow.type = "bf16";
  caught +=
      plantAll(attentionText(narrow).c_str(), runTensorAttention,
               {{"missing barrier", dropCall("barrier.cta"), 1},
                {"missing wait", dropCall("cp.async.wait.group"), 1},
                {"wait for a group too few",
                 changeConstant("cp.async.wait.group", 0, plusOne), 1},
                {"missing copy", dropCall("cp.async.cg.shared"), 2},
                {"zeros instead of a copy", neverCopy, 2},
                {"matrix not transposed",
                 useOther("ldmatrix.sync.aligned.m8n8.x4.trans",
                          Intrinsic::nvvm_ldmatrix_sync_aligned_m8n8_x4_b16),
                 2},
                {"wrong lane", changeConstant("shfl.sync.bfly", 2, halved), 1},
                {"registers of a fragment swapped",
                 swapOperands("mma.m16n8k16", 1, 2), 2},
                {"store to the next element", storeNext, 1}});
  EXPECT_GE(caught, 40u);
}
