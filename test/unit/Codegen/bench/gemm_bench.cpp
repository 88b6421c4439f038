// GFLOP/s of the contraction nest on one thread.
//   gemm-bench [gemm|conv|conv-last|attention|few] ...   (default: all)
//   gemm-bench M N K [A] [B] [nt] [dynamic] [TYPE]  one product; A, B: constant
//   factor; nt: the right one is [N, K]; TYPE: f32, bf16, f16, i8 (both
//   factors), u8 (times i8)
//   gemm-bench types                           the products of the table by
//   type
// `of peak` is of the peak of the instruction in the inner loop, measured in
// the same process. A case is checked too: a few elements against exact sums,
// within the gate 8 u sqrt(K) ||x||; a wrong one fails the run. Environment:
// TARGET is a target string; ROWS, VECTORS, UNROLL, PREFETCH, TASKROWS,
// TASKCOLUMNS, BLOCK, DEPTH, OUTSIDE, WIDEN, AHEAD, UNPACKED, FILLED (lhs),
// RHSMEMORY override the schedule, FORM (single, bf16, bytes, i16, bf16-tiles,
// byte-tiles) the form of the product; DUMP prints the code.
#include "KernelHarness.h"
#include "KernelText.h"
#include "NaiveKernel.h"
#include "bench/peak.h"
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

/// Puts a random number into memory; returns it.
double drawElement(mlir::Type type, uint32_t seed, char *at) {
  if (auto floating = mlir::dyn_cast<mlir::FloatType>(type)) {
    llvm::APFloat number(float(seed >> 8) / float(1 << 24) - 0.5f);
    bool lost;
    number.convert(floating.getFloatSemantics(),
                   llvm::APFloat::rmNearestTiesToEven, &lost);
    llvm::APInt bits = number.bitcastToAPInt();
    std::memcpy(at, bits.getRawData(), bits.getBitWidth() / 8);
    return number.convertToDouble();
  }
  auto byte = uint8_t(seed >> 16);
  std::memcpy(at, &byte, 1);
  return type.isUnsignedInteger() ? double(byte) : double(int8_t(byte));
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
  knob("WIDEN", schedule.widensRhs);
  knob("AHEAD", schedule.fetchesAhead);
  if (std::getenv("UNPACKED"))
    schedule.lhs = FactorSource::Memory;
  if (std::getenv("FILLED"))
    schedule.lhs = FactorSource::Filled;
  if (std::getenv("RHSMEMORY"))
    schedule.rhs = FactorSource::Memory;
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
  if (const char *form = std::getenv("FORM"))
    schedule = defaultSchedule(*spec, target, options, std::nullopt,
                               llvm::StringSwitch<ProductForm>(form)
                                   .Case("bf16", ProductForm::Bf16Pairs)
                                   .Case("bytes", ProductForm::ByteQuads)
                                   .Case("i16", ProductForm::I16Pairs)
                                   .Case("bf16-tiles", ProductForm::Bf16Tiles)
                                   .Case("byte-tiles", ProductForm::ByteTiles)
                                   .Default(ProductForm::Single));
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
    mlir::Type element =
        mlir::cast<mlir::RankedTensorType>(type).getElementType();
    int64_t bytes = graph::elementBytes(element);
    memory.push_back(std::make_unique<GuardedBuffer>(count * bytes));
    for (int64_t k = 0; k < count; ++k) {
      seed = seed * 1664525u + 1013904223u;
      tensor.values.push_back(
          drawElement(element, seed, memory.back()->data() + k * bytes));
    }
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
  bool isInteger = spec->accumulator.isInteger();
  auto out = [&](int64_t at) {
    return isInteger ? double(memory.back()->as<int32_t>()[at])
                     : double(memory.back()->as<float>()[at]);
  };

  loaded->run(buffers, c.symbols);
  std::vector<double> times;
  for (double start = seconds(); seconds() - start < 0.4 || times.empty();) {
    double before = seconds();
    loaded->run(buffers, c.symbols);
    times.push_back(seconds() - before);
  }
  double best = fastOf(times);

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
    double difference = std::abs(expected - out(at));
    if (isInteger && difference != 0)
      return fail(c, "wrong integer");
    gate = std::max(gate, difference / allowed);
  }
  double rate = 2 * double(count) * double(terms) / best;
  double peak = std::getenv("TARGET")
                    ? 0
                    : peakRate(schedule.form, target.desc().vectorBytes);
  double weights = 0;
  for (OperandPacking &packing : emitted->packings)
    weights += double(packing.bytes);
  std::printf("%-40s %7.1f G/s", c.name.c_str(), 1e-9 * rate);
  if (peak)
    std::printf(" %4.2f of peak", rate / peak);
  std::printf(" %8.3f ms %5.1f GB/s  compile %5.1f ms  gate %4.2f  %s\n",
              best * 1e3, 1e-9 * weights / best, loaded->compileSeconds * 1e3,
              gate, schedule.str().c_str());
  std::fflush(stdout);
  return gate <= 1 ? true : fail(c, "wrong result");
}

Case gemm(int64_t m, int64_t n, int64_t k, bool a, bool b, bool dynamic,
          const std::string &type = "f32", bool transposed = false) {
  auto text = [](int64_t size) { return std::to_string(size); };
  Case c;
  c.name = text(m) + "x" + text(n) + "x" + text(k) + (a ? " A" : "") +
           (b ? " B" : "") + (transposed ? " nt" : "") +
           (dynamic ? " dynamic M" : "") + " " + type;
  bool isBytes = type == "i8" || type == "u8";
  c.text =
      einsum(transposed ? "mk,nk->mn" : "mk,kn->mn",
             {{'m', dynamic ? "s0" : text(m)}, {'n', text(n)}, {'k', text(k)}},
             type == "u8" ? "ui8" : type, isBytes ? "i32" : "f32",
             isBytes ? "i8" : type);
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
  if (name == "types")
    for (const char *type : {"f32", "bf16", "f16", "u8", "i8"})
      for (auto [m, n, k] : {std::array<int64_t, 3>{1024, 1024, 1024},
                             {128, 4096, 4096},
                             {77, 1000, 513},
                             {512, 4096, 4096},
                             {1, 11008, 4096}})
        cases.push_back(gemm(m, n, k, false, true, false, type));
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
    std::string type = "f32";
    for (const char *word : {"bf16", "f16", "i8", "u8"})
      if (given(word))
        type = word;
    cases.push_back(gemm(std::stol(words[0]), std::stol(words[1]),
                         std::stol(words[2]), given("A"), given("B"),
                         given("dynamic"), type, given("nt")));
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
