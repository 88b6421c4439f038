// Prints what fused kernels take beside their parts, on one thread, the runs of
// all kernels of a file in turn so that noise meets them alike. Not a test.
//
//   fused-bench file.mlir [target]
//
// A file holds kernels: those whose names begin with "part" are the parts, each
// other one is compared with their sum. Symbols are 64.
#include "../../Codegen/KernelHarness.h"

#include "dlc/Codegen/CPU/Nests.h"

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/Parser/Parser.h"

#include <chrono>
#include <cstdio>

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
struct Prepared {
  std::string name, nest;
  std::unique_ptr<LoadedKernel> loaded;
  std::vector<std::unique_ptr<GuardedBuffer>> memory;
  SmallVector<void *> pointers;
  SmallVector<int64_t> symbols;
  double best = 1e9, compile = 0;
};
} // namespace

static double seconds() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

static bool prepare(graph::KernelOp kernel, const CpuTarget &target,
                    Prepared &p) {
  CpuCodegenOptions options;
  options.symbol = "k";
  p.name = kernel.getSymName().str();
  p.symbols.assign(kernel.getNumSymbols(), 64);
  double start = seconds();
  auto code = emitCpuKernel(kernel, target, options);
  if (failed(code))
    return false;
  p.nest = code->nest;
  std::string error;
  p.loaded = LoadedKernel::load(*code, target, error);
  p.compile = seconds() - start;
  if (!p.loaded)
    return false;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types) {
      int64_t bytes =
          graph::elementBytes(cast<RankedTensorType>(type).getElementType());
      for (AffineExpr n : graph::getDims(type))
        bytes *= graph::evaluate(n, p.symbols);
      p.memory.push_back(std::make_unique<GuardedBuffer>(bytes));
      for (int64_t i = 0; i < bytes / 4; ++i)
        p.memory.back()->as<float>()[i] = float(i % 97) / 97;
      p.pointers.push_back(p.memory.back()->data());
    }
  return true;
}

int main(int argc, char **argv) {
  auto target = parseCpuTarget(argc > 2 ? argv[2] : "host:threads=1");
  if (argc < 2 || !target)
    return 1;
  MLIRContext context;
  setUp(context);
  auto module = parseSourceFile<ModuleOp>(argv[1], &context);
  if (!module)
    return 1;
  std::vector<Prepared> kernels;
  for (auto kernel : module->getOps<graph::KernelOp>())
    if (!prepare(kernel, *target, kernels.emplace_back()))
      return 1;
  double start = seconds();
  for (int round = 0; round < 5 || seconds() - start < 3; ++round)
    for (Prepared &p : kernels)
      for (int i = 0; i < 3; ++i) {
        double before = seconds();
        p.loaded->run(p.pointers, p.symbols);
        p.best = std::min(p.best, seconds() - before);
      }
  double parts = 0;
  for (Prepared &p : kernels)
    if (p.name.starts_with("part"))
      parts += p.best;
  for (Prepared &p : kernels)
    std::printf("%-14s %-12s %9.4f ms  compile %4.0f ms  parts / it %.2f\n",
                p.name.c_str(), p.nest.c_str(), p.best * 1e3, p.compile * 1e3,
                parts / p.best);
}
