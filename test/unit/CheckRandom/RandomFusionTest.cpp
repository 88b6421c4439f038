// Random programs, fused by hand: what is right is accepted; a lie is planted,
// and what is then still accepted must evaluate to the same bits.
//
// DLC_RANDOM_DAGS programs from seed DLC_RANDOM_SEED on (default 150 from 1).
// With DLC_DUMP_GROUPS, a folder, the groups of every program and lie go there
// in the input form of the proved checker, with Check's verdict on the graph as
// the last line (test/python/test_check_proofs.py).
#include "HandFuser.h"
#include "RandomProgram.h"
#include "dlc/Check/Fusion.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Interpreter/Interpreter.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

#include <chrono>
#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
uint64_t readSetting(const char *name, uint64_t fallback) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : fallback;
}

std::string print(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream(text) << module;
  return text;
}

struct Case {
  MLIRContext context{MLIRContext::Threading::DISABLED};
  Random random;
  OwningOpRef<ModuleOp> original, fused;

  explicit Case(uint64_t seed) : random(seed) {
    context.loadDialect<graph::GraphDialect, func::FuncDialect>();
    std::string text = makeProgram(random, 6 + random.below(25));
    original = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(original) << text;
    if (!original)
      return;
    PassManager manager(&context);
    manager.addPass(graph::createFormKernels());
    EXPECT_TRUE(succeeded(manager.run(*original)));
    fused = fuseByHand(*original, random);
  }

  SmallVector<Tensor> makeInputs() {
    SmallVector<Tensor> inputs;
    auto main = original->lookupSymbol<func::FuncOp>("main");
    for (Type type : main.getArgumentTypes()) {
      auto tensor = cast<RankedTensorType>(type);
      Tensor input(tensor.getElementType(), tensor.getShape());
      for (int64_t i = 0; i < input.getNumElements(); ++i) {
        int64_t value = random.below(41) - 20;
        if (isa<FloatType>(tensor.getElementType()))
          reinterpret_cast<float *>(input.getMutableBytes())[i] =
              static_cast<float>(value) / 8;
        else
          reinterpret_cast<int32_t *>(input.getMutableBytes())[i] =
              static_cast<int32_t>(value);
      }
      inputs.push_back(input);
    }
    return inputs;
  }
  FailureOr<SmallVector<Tensor>> evaluate(ModuleOp module,
                                          ArrayRef<Tensor> inputs) {
    ScopedDiagnosticHandler quiet(&context,
                                  [](Diagnostic &) { return success(); });
    interp::Options options;
    options.threads = 1;
    return interp::Interpreter(options).run(
        module.lookupSymbol<func::FuncOp>("main"), inputs);
  }
};

void dumpGroups(StringRef folder, const std::string &name, ModuleOp original,
                ModuleOp fused, const check::FusionVerdict &verdict) {
  std::string text = check::dumpGroups(original, fused);
  if (folder.empty() || text.empty())
    return;
  std::error_code code;
  llvm::raw_fd_ostream os((folder + "/" + name + ".groups").str(), code);
  ASSERT_FALSE(code) << code.message();
  os << text << "# "
     << (verdict.graph
             ? "REFUSE " + check::stringifyCondition(verdict.graph->condition)
             : "ACCEPT")
     << "\n";
}

// Bits, except that any NaN is as good as another.
bool isSame(const Tensor &a, const Tensor &b) {
  if (a.getShape() != b.getShape() || a.getNumBytes() != b.getNumBytes())
    return false;
  if (a.getElementType().isF32()) {
    for (auto [x, y] : llvm::zip(a.getData<float>(), b.getData<float>()))
      if (std::memcmp(&x, &y, sizeof x) != 0 &&
          !(std::isnan(x) && std::isnan(y)))
        return false;
    return true;
  }
  return std::memcmp(a.getBytes(), b.getBytes(), a.getNumBytes()) == 0;
}
} // namespace

TEST(RandomFusionTest, AcceptedMeansEqual) {
  uint64_t first = readSetting("DLC_RANDOM_SEED", 1),
           count = readSetting("DLC_RANDOM_DAGS", 150);
  const char *folderSetting = std::getenv("DLC_DUMP_GROUPS");
  StringRef folder = folderSetting ? folderSetting : "";
  unsigned lies = 0, refusedLies = 0, equalLies = 0, kernels = 0, members = 0,
           exhaustive = 0, solver = 0;
  double seconds = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("DLC_RANDOM_DAGS=1 DLC_RANDOM_SEED=" + std::to_string(seed));
    Case c(seed);
    if (!c.fused)
      continue;
    auto start = std::chrono::steady_clock::now();
    check::FusionVerdict verdict = check::checkFusion(*c.original, *c.fused);
    seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    std::string text;
    llvm::raw_string_ostream os(text);
    verdict.print(os);
    EXPECT_TRUE(verdict.accepted()) << "right, but refused\n"
                                    << text << print(*c.fused);
    for (const check::KernelVerdict &k : verdict.kernels)
      ++kernels, members += k.members;
    exhaustive += verdict.exhaustive, solver += verdict.solver;
    std::string name = "p" + std::to_string(seed);
    dumpGroups(folder, name, *c.original, *c.fused, verdict);
    SmallVector<Tensor> inputs = c.makeInputs();
    FailureOr<SmallVector<Tensor>> expected = c.evaluate(*c.original, inputs);
    ASSERT_TRUE(succeeded(expected)) << print(*c.original);
    auto isEqual = [&](ModuleOp module) {
      FailureOr<SmallVector<Tensor>> got = c.evaluate(module, inputs);
      return succeeded(got) && llvm::all_of_zip(*expected, *got, isSame);
    };
    EXPECT_TRUE(isEqual(*c.fused)) << "the fuser is wrong\n" << print(*c.fused);
    for (int i = 0; i < 4; ++i) {
      OwningOpRef<ModuleOp> changed = c.fused->clone();
      std::string lie = plantLie(*changed, c.random);
      if (lie.empty())
        continue;
      ++lies;
      check::FusionVerdict answer = check::checkFusion(*c.original, *changed);
      dumpGroups(folder, name + "_" + std::to_string(i), *c.original, *changed,
                 answer);
      if (!answer.accepted()) {
        ++refusedLies;
        continue;
      }
      ++equalLies;
      EXPECT_TRUE(isEqual(*changed)) << "accepted, but wrong: " << lie << "\n"
                                     << print(*c.original) << print(*changed);
    }
  }
  std::printf("%llu programs, %u fused kernels of %u members, %.3f ms a "
              "program; %u claims tried at every point, %u asked of Z3; %u "
              "lies, %u refused, %u accepted and equal\n",
              static_cast<unsigned long long>(count), kernels, members,
              count ? seconds * 1e3 / static_cast<double>(count) : 0,
              exhaustive, solver, lies, refusedLies, equalLies);
  // The judge has judged.
  if (count >= 100) {
    EXPECT_GT(kernels, count);
    EXPECT_GT(refusedLies, lies / 2);
  }
}
