// GFLOP/s of the contraction nest on one thread.
//   gemm-bench [M N K [lhs-constant rhs-constant]]
// Without arguments: the shapes of docs/codegen-cpu.md. "dynamic" has a symbolic
// M. A line's last column is the largest error of a few sampled elements,
// relative to the root of the sum of squares of the summands.
#include "KernelHarness.h"
#include "dlc/Codegen/CPU/ContractionNest.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace dlc;
using namespace dlc::test;

namespace {

struct Case {
  int64_t m, n, k;
  bool lhsConstant, rhsConstant, dynamic;
};

double seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void fill(float *data, int64_t count, uint32_t seed) {
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = float(seed >> 8) / float(1 << 24) - 0.5f;
  }
}

bool runCase(const CpuTarget &target, Case c) {
  mlir::MLIRContext context;
  setUp(context);
  std::string m = c.dynamic ? "?" : std::to_string(c.m);
  std::string n = std::to_string(c.n), k = std::to_string(c.k);
  auto type = [&](std::string rows, std::string columns,
                  std::string columnDim) {
    std::string dims =
        rows == "?" ? ", #graph.dims<s0, " + columnDim + ">" : "";
    return "tensor<" + rows + "x" + columns + "xf32" + dims + ">";
  };
  std::string a = type(m, k, k), b = type(k, n, n), r = type(m, n, n);
  std::string text =
      "func.func @main(%a: " + a + ", %b: " + b + ") -> " + r +
      " attributes {graph.symbols = [\"m\"]} {\n"
      "%0 = graph.contract %a, %b {"
      "lhs_map = affine_map<(m, n, k) -> (m, k)>, "
      "rhs_map = affine_map<(m, n, k) -> (k, n)>, "
      "result_map = affine_map<(m, n, k) -> (m, n)>} : (" +
      a + ", " + b + ") -> " + r + "\nreturn %0 : " + r + "\n}";
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, text);
  if (!kernel)
    return false;
  CpuCodegenOptions options;
  options.symbol = "kernel";
  options.constantOperands = {c.lhsConstant, c.rhsConstant};
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  if (mlir::failed(spec)) {
    std::fprintf(stderr, "declined: %s\n", reason.c_str());
    return false;
  }
  auto schedule = defaultSchedule(*spec, target, options);
  auto environment = [](const char *name, auto &knob) {
    if (const char *text = std::getenv(name))
      knob = std::atoi(text);
  };
  environment("UNROLL", schedule.unroll);
  environment("PREFETCH", schedule.prefetch);
  environment("ROWS", schedule.tileRows);
  environment("VECTORS", schedule.tileVectors);
  environment("TASKROWS", schedule.rowsPerTask);
  environment("TASKCOLUMNS", schedule.columnsPerTask);
  if (schedule.lhs != FactorSource::Packed)
    schedule.panelRows = schedule.tileRows;
  auto emitted = emitContraction(*spec, schedule, target, options, reason);
  if (mlir::failed(emitted)) {
    std::fprintf(stderr, "declined: %s\n", reason.c_str());
    return false;
  }
  if (std::getenv("DUMP"))
    emitted->module->dump();
  auto loaded = LoadedKernel::load(*emitted, target, reason);
  if (!loaded) {
    std::fprintf(stderr, "%s\n", reason.c_str());
    return false;
  }
  GuardedBuffer lhs(c.m * c.k * 4), rhs(c.k * c.n * 4), out(c.m * c.n * 4);
  fill(lhs.as<float>(), c.m * c.k, 1);
  fill(rhs.as<float>(), c.k * c.n, 2);
  llvm::SmallVector<void *> buffers{lhs.data(), rhs.data(), out.data()};
  std::vector<std::unique_ptr<GuardedBuffer>> packed;
  for (OperandPacking &packing : emitted->packings) {
    packed.push_back(std::make_unique<GuardedBuffer>(packing.bytes));
    GuardedBuffer &source = packing.operand ? rhs : lhs;
    packing.pack({source.data(), source.bytes()},
                 {packed.back()->data(), packed.back()->bytes()});
    buffers[packing.operand] = packed.back()->data();
  }
  llvm::SmallVector<int64_t> symbols;
  if (c.dynamic)
    symbols.push_back(c.m);
  loaded->run(buffers, symbols);
  double best = 1e9, start = seconds();
  while (seconds() - start < 0.5 || best > 1e8) {
    double before = seconds();
    loaded->run(buffers, symbols);
    best = std::min(best, seconds() - before);
  }
  double error = 0;
  for (int sample = 0; sample < 64; ++sample) {
    int64_t i = sample * 7919 % c.m, j = sample * 104729 % c.n;
    double sum = 0, squares = 0;
    for (int64_t x = 0; x < c.k; ++x) {
      double value = double(lhs.as<float>()[i * c.k + x]) *
                     rhs.as<float>()[x * c.n + j];
      sum += value;
      squares += value * value;
    }
    error = std::max(error, std::abs(sum - out.as<float>()[i * c.n + j]) /
                                std::sqrt(squares));
  }
  std::printf("%5ld x%6ld x%6ld %s%s%s %8.1f GFLOP/s %7.1f GB/s %8.3f ms "
              "compile %5.1f ms  error %.1e  %s\n",
              long(c.m), long(c.n), long(c.k), c.lhsConstant ? "A" : "-",
              c.rhsConstant ? "B" : "-", c.dynamic ? " dynamic" : " static ",
              2e-9 * c.m * c.n * c.k / best, 4e-9 * c.n * c.k / best,
              best * 1e3, loaded->compileSeconds * 1e3, error,
              schedule.str().c_str());
  return error < 1e-5;
}

} // namespace

int main(int argc, char **argv) {
  const char *text = std::getenv("TARGET");
  auto target = parseCpuTarget(text ? text : "host:threads=1");
  if (!target) {
    std::fprintf(stderr, "%s\n", llvm::toString(target.takeError()).c_str());
    return 2;
  }
  std::vector<Case> cases;
  if (argc >= 4) {
    bool a = argc > 4 && std::atoi(argv[4]), b = argc > 5 && std::atoi(argv[5]);
    cases.push_back({std::atol(argv[1]), std::atol(argv[2]),
                     std::atol(argv[3]), a, b, argc > 6});
  } else {
    for (bool constant : {true, false})
      for (auto [m, n, k] : {std::array<int64_t, 3>{1024, 1024, 1024},
                             {128, 4096, 4096},
                             {77, 1000, 513},
                             {1, 11008, 4096}}) {
        cases.push_back({m, n, k, false, constant, false});
        cases.push_back({m, n, k, false, constant, true});
      }
  }
  bool good = true;
  for (Case c : cases)
    good &= runCase(*target, c);
  return good ? 0 : 1;
}
