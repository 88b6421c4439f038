// GFLOP/s of the contraction nest on one thread.
//   gemm-bench [gemm|conv|conv-last|attention|few] ...   (default: all)
//   gemm-bench M N K [A] [B] [dynamic]         one product; A, B: constant
//   factor
// A case is checked too: a few elements against exact sums, within the gate
// 8 u sqrt(K) ||x||; a wrong one fails the run. Environment: TARGET is a target
// string; ROWS, VECTORS, UNROLL, PREFETCH, TASKROWS, TASKCOLUMNS, BLOCK, DEPTH,
// OUTSIDE, UNPACKED (lhs) override the schedule; DUMP prints the code.
#include "KernelHarness.h"
#include "KernelText.h"
#include "NaiveKernel.h"
#include "dlc/Codegen/CPU/ContractionNest.h"

#include <cstdio>
#include <cstdlib>

using namespace dlc;
using namespace dlc::test;

namespace {

struct Case {
  std::string name, text;
  bool lhsConstant = false, rhsConstant = false;
  std::vector<int64_t> symbols;
};

double seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int64_t product(const std::vector<int64_t> &sizes) {
  int64_t count = 1;
  for (int64_t size : sizes)
    count *= size;
  return count;
}

/// Replaces knobs of the default schedule by the environment's.
void adjust(ContractionSchedule &schedule) {
  auto knob = [](const char *name, auto &value) {
    if (const char *text = std::getenv(name))
      value = std::atoi(text);
  };
  knob("UNROLL", schedule.unroll);
  knob("PREFETCH", schedule.prefetch);
  knob("ROWS", schedule.tileRows);
  knob("VECTORS", schedule.tileVectors);
  knob("TASKROWS", schedule.rowsPerTask);
  knob("TASKCOLUMNS", schedule.columnsPerTask);
  knob("BLOCK", schedule.columnsPerBlock);
  knob("DEPTH", schedule.depthPerPass);
  knob("OUTSIDE", schedule.rowsOutside);
  if (std::getenv("UNPACKED"))
    schedule.lhs = FactorSource::Memory;
  schedule.panelRows = schedule.tileRows;
}

bool fail(const Case &c, const std::string &why) {
  std::fprintf(stderr, "%s: %s\n", c.name.c_str(), why.c_str());
  return false;
}

bool runCase(const CpuTarget &target, const Case &c) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, c.text);
  if (!kernel)
    return fail(c, "no kernel");
  CpuCodegenOptions options;
  options.symbol = "kernel";
  options.constantOperands = {c.lhsConstant, c.rhsConstant};
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  if (mlir::failed(spec))
    return fail(c, reason);
  auto schedule = defaultSchedule(*spec, target, options);
  adjust(schedule);
  auto emitted = emitContraction(*spec, schedule, target, options, reason);
  if (mlir::failed(emitted))
    return fail(c, reason);
  if (std::getenv("DUMP"))
    emitted->module->dump();
  auto loaded = LoadedKernel::load(*emitted, target, reason);
  if (!loaded)
    return fail(c, reason);

  NaiveKernel naive(kernel, c.symbols);
  std::vector<std::unique_ptr<GuardedBuffer>> memory;
  llvm::SmallVector<void *> buffers;
  uint32_t seed = 1;
  for (auto [i, type] : llvm::enumerate(kernel.getArgumentTypes())) {
    NaiveTensor tensor{naive.sizesOf(type), {}};
    int64_t count = product(tensor.sizes);
    memory.push_back(std::make_unique<GuardedBuffer>(count * 4));
    for (int64_t k = 0; k < count; ++k) {
      seed = seed * 1664525u + 1013904223u;
      memory.back()->as<float>()[k] = float(seed >> 8) / float(1 << 24) - 0.5f;
    }
    tensor.values.assign(memory.back()->as<float>(),
                         memory.back()->as<float>() + count);
    naive.setOperand(i, std::move(tensor));
    buffers.push_back(memory.back()->data());
  }
  for (OperandPacking &packing : emitted->packings) {
    GuardedBuffer &source = *memory[packing.operand];
    auto packed = std::make_unique<GuardedBuffer>(packing.bytes);
    packing.pack({source.data(), source.bytes()},
                 {packed->data(), packed->bytes()});
    buffers[packing.operand] = packed->data();
    memory.push_back(std::move(packed));
  }
  std::vector<int64_t> sizes = naive.sizesOf(kernel.getResultTypes()[0]);
  int64_t count = product(sizes), terms = 1;
  for (mlir::AffineExpr dim : kernel.getStages()[0].getReduceDims())
    terms *= graph::evaluate(dim, c.symbols);
  memory.push_back(std::make_unique<GuardedBuffer>(count * 4));
  buffers.push_back(memory.back()->data());
  float *out = memory.back()->as<float>();

  loaded->run(buffers, c.symbols);
  double best = 1e9, start = seconds();
  while (seconds() - start < 0.4 || best > 1e8) {
    double before = seconds();
    loaded->run(buffers, c.symbols);
    best = std::min(best, seconds() - before);
  }

  double gate = 0;
  for (int64_t sample = 0; sample < 64; ++sample) {
    int64_t at = sample == 63 ? count - 1 : sample * 7919 * 104729 % count;
    std::vector<int64_t> point(sizes.size());
    int64_t rest = at;
    for (size_t i = sizes.size(); i-- > 0;) {
      point[i] = rest % sizes[i];
      rest /= sizes[i];
    }
    double magnitude, expected = naive.at(point, magnitude);
    double allowed = 8 * 0x1p-24 * std::sqrt(double(terms)) * magnitude;
    gate = std::max(gate, std::abs(expected - out[at]) / allowed);
  }
  std::printf(
      "%-34s %7.1f GFLOP/s %8.3f ms  compile %5.1f ms  gate %4.2f  %s\n",
      c.name.c_str(), 2e-9 * double(count) * double(terms) / best, best * 1e3,
      loaded->compileSeconds * 1e3, gate, schedule.str().c_str());
  std::fflush(stdout);
  return gate <= 1 ? true : fail(c, "wrong result");
}

Case gemm(int64_t m, int64_t n, int64_t k, bool a, bool b, bool dynamic) {
  auto text = [](int64_t size) { return std::to_string(size); };
  Case c;
  c.name = text(m) + "x" + text(n) + "x" + text(k) + (a ? " A" : "") +
           (b ? " B" : "") + (dynamic ? " dynamic M" : "");
  c.text =
      einsum("mk,kn->mn",
             {{'m', dynamic ? "s0" : text(m)}, {'n', text(n)}, {'k', text(k)}});
  c.lhsConstant = a;
  c.rhsConstant = b;
  if (dynamic)
    c.symbols = {m};
  return c;
}

Case makeConvolution(int64_t channels, int64_t size, int64_t filters,
                     int64_t kernel, int64_t stride, bool channelsLast) {
  Case c;
  int64_t pad = kernel / 2;
  c.name = "conv " + std::to_string(kernel) + "x" + std::to_string(kernel) +
           "/" + std::to_string(stride) + " " + std::to_string(channels) +
           "->" + std::to_string(filters) + " @" + std::to_string(size);
  c.text =
      channelsLast
          ? convChannelsLast({1, size, size, channels},
                             {filters, channels, kernel, kernel}, stride, 1,
                             pad, channels >= 8)
          : conv({1, channels, size, size}, {filters, channels, kernel, kernel},
                 {stride, stride}, {1, 1}, {pad, pad}, {pad, pad});
  c.rhsConstant = true;
  return c;
}

Case product(const std::string &equation, std::map<char, std::string> sizes,
             bool rhsConstant = false) {
  Case c;
  c.name = equation;
  for (auto &[letter, size] : sizes)
    c.name += std::string(" ") + letter + size;
  c.text = einsum(equation, sizes);
  c.rhsConstant = rhsConstant;
  return c;
}

std::vector<Case> group(const std::string &name) {
  std::vector<Case> cases;
  if (name == "gemm")
    for (bool constant : {true, false})
      for (auto [m, n, k] : {std::array<int64_t, 3>{1024, 1024, 1024},
                             {128, 4096, 4096},
                             {77, 1000, 513}})
        for (bool dynamic : {false, true})
          cases.push_back(gemm(m, n, k, false, constant, dynamic));
  auto convolution = [&](int64_t channels, int64_t size, int64_t filters,
                         int64_t kernel, int64_t stride) {
    return makeConvolution(channels, size, filters, kernel, stride,
                           name == "conv-last");
  };
  if (name == "conv" || name == "conv-last") {
    cases.push_back(convolution(3, 224, 64, 7, 2));
    cases.push_back(convolution(64, 56, 64, 3, 1));
    cases.push_back(convolution(64, 56, 256, 1, 1));
    cases.push_back(convolution(256, 56, 64, 1, 1));
    cases.push_back(convolution(256, 56, 128, 1, 2));
    cases.push_back(convolution(128, 56, 128, 3, 2));
    cases.push_back(convolution(128, 28, 128, 3, 1));
    cases.push_back(convolution(256, 14, 256, 3, 1));
    cases.push_back(convolution(1024, 14, 256, 1, 1));
    cases.push_back(convolution(512, 7, 512, 3, 1));
    cases.push_back(convolution(512, 7, 2048, 1, 1));
  }
  if (name == "attention")
    for (std::string s : {"128", "512"}) {
      std::map<char, std::string> sizes{
          {'b', "12"}, {'m', s}, {'n', s}, {'k', "64"}};
      cases.push_back(product("bmk,bnk->bmn", sizes));
      cases.push_back(product("bmk,bkn->bmn", sizes));
      cases.push_back(product("bmn,bnk->bmk", sizes));
    }
  if (name == "few") {
    for (int64_t m : {1, 2, 4, 8, 16, 32})
      cases.push_back(gemm(m, 4096, 4096, false, true, false));
    cases.push_back(gemm(1, 11008, 4096, false, true, false));
    cases.push_back(gemm(1, 11008, 4096, false, true, true));
    cases.push_back(gemm(1, 4096, 4096, false, false, false));
    cases.push_back(
        product("mk,nk->mn", {{'m', "1"}, {'n', "4096"}, {'k', "4096"}}));
    cases.push_back(product(
        "bmk,bnk->bmn", {{'b', "32"}, {'m', "1"}, {'n', "512"}, {'k', "128"}}));
  }
  return cases;
}

} // namespace

int main(int argc, char **argv) {
  const char *text = std::getenv("TARGET");
  auto target = parseCpuTarget(text ? text : "host:threads=1");
  if (!target) {
    std::fprintf(stderr, "%s\n", llvm::toString(target.takeError()).c_str());
    return 2;
  }
  std::vector<std::string> words(argv + 1, argv + argc);
  std::vector<Case> cases;
  if (words.size() >= 3 && std::isdigit(words[0][0])) {
    auto given = [&](const char *word) {
      return llvm::is_contained(words, word);
    };
    cases.push_back(gemm(std::stol(words[0]), std::stol(words[1]),
                         std::stol(words[2]), given("A"), given("B"),
                         given("dynamic")));
  } else {
    if (words.empty())
      words = {"gemm", "conv", "attention", "few"};
    for (const std::string &word : words)
      for (Case &c : group(word))
        cases.push_back(std::move(c));
  }
  if (cases.empty()) {
    std::fprintf(stderr, "no such cases\n");
    return 2;
  }
  bool good = true;
  for (const Case &c : cases)
    good &= runCase(*target, c);
  return good ? 0 : 1;
}
