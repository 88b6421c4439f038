// GFLOP/s and GB/s of the attention nest on one thread.
//   attention-bench [prefill|decode] ...           (default: both)
//   attention-bench HEADS GROUP QUERIES KEYS INNER [causal] [mask] [bf16]
// GROUP query heads share each of HEADS key heads. A case is checked too: some
// rows against sums in double; a wrong one fails the run. Environment: TARGET
// is a target string; KNOBS is a schedule dictionary ("block_n = 96"); DUMP
// prints the code, ASM the assembly.
#include "AttentionText.h"
#include "KernelHarness.h"
#include "dlc/Codegen/CPU/AttentionNest.h"

#include "mlir/AsmParser/AsmParser.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <sys/mman.h>

using namespace dlc;
using namespace dlc::test;

namespace {
/// Of this thread's own time: what others on the machine take does not count.
double seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

bool fail(const AttentionCase &a, const std::string &why) {
  std::fprintf(stderr, "%s: %s\n", a.name().c_str(), why.c_str());
  return false;
}

/// The largest difference of some rows from what double gives.
double errorOf(const AttentionCase &a, const float *q, const float *k,
               const float *v, const float *mask, const float *out) {
  double worst = 0;
  int64_t heads = a.heads * a.group;
  for (int64_t sample = 0; sample < 12; ++sample) {
    int64_t h = sample * 7919 % heads, i = sample * 104729 % a.queries;
    if (sample == 11)
      h = heads - 1, i = a.queries - 1;
    std::vector<double> p(a.keys);
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < a.keys; ++j) {
      double s = 0;
      for (int64_t d = 0; d < a.inner; ++d)
        s += double(q[(h * a.queries + i) * a.inner + d]) *
             k[(h / a.group * a.keys + j) * a.inner + d];
      s /= std::sqrt(double(a.inner));
      if (mask)
        s += mask[i * a.keys + j];
      if (a.causal && j > i + a.keys - a.queries)
        s = -INFINITY;
      p[j] = s;
      largest = std::max(largest, s);
    }
    for (double &x : p)
      sum += x = std::exp(x - largest);
    for (int64_t c = 0; c < a.columns; ++c) {
      double y = 0;
      for (int64_t j = 0; j < a.keys; ++j)
        y += p[j] / sum * v[(h / a.group * a.keys + j) * a.columns + c];
      worst = std::max(worst,
                       std::abs(y - out[(h * a.queries + i) * a.columns + c]));
    }
  }
  return worst;
}

bool runCase(const CpuTarget &target, const AttentionCase &a) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, a.text());
  if (!kernel)
    return fail(a, "no kernel");
  if (const char *knobs = std::getenv("KNOBS"))
    kernel.setScheduleAttr(mlir::cast<mlir::DictionaryAttr>(
        mlir::parseAttribute("{" + std::string(knobs) + "}", &context)));
  CpuCodegenOptions options;
  options.symbol = "kernel";
  std::string reason;
  auto spec = classifyAttention(kernel, reason);
  if (mlir::failed(spec))
    return fail(a, reason);
  auto schedule = withKnobs(defaultSchedule(*spec, target), kernel, reason);
  if (mlir::failed(schedule))
    return fail(a, reason);
  auto emitted = emitAttention(*spec, *schedule, target, options, reason);
  if (mlir::failed(emitted))
    return fail(a, reason);
  if (std::getenv("DUMP"))
    emitted->module->dump();
  if (std::getenv("ASM")) {
    auto text = compileModule(*emitted->module, target, /*assembly=*/true);
    if (text)
      std::fwrite(text->data(), 1, text->size(), stdout);
    return bool(text);
  }
  auto loaded = LoadedKernel::load(*emitted, target, reason);
  if (!loaded)
    return fail(a, reason);

  std::vector<std::unique_ptr<char, decltype(&std::free)>> memory;
  llvm::SmallVector<void *> buffers;
  uint32_t seed = 1;
  int64_t bytes = 0, elementBytes = a.element == "f32" ? 4 : 2;
  auto allocate = [&](int64_t count, int64_t size) {
    // On huge pages, as frameworks allocate: caches of keys are large.
    constexpr size_t page = 2 << 20;
    size_t whole = (count * size + page - 1) / page * page;
    memory.emplace_back(static_cast<char *>(std::aligned_alloc(page, whole)),
                        &std::free);
    madvise(memory.back().get(), whole, MADV_HUGEPAGE);
    buffers.push_back(memory.back().get());
    bytes += count * size;
  };
  for (auto [i, shape] : llvm::enumerate(a.shapes())) {
    int64_t count = 1;
    for (int64_t n : shape)
      count *= n;
    int64_t size = i < 3 ? elementBytes : 4;
    allocate(count, size);
    for (int64_t k = 0; k < count; ++k) {
      seed = seed * 1664525u + 1013904223u;
      float x = 2 * (float(seed >> 8) / float(1 << 24) - 0.5f);
      if (size == 4) {
        static_cast<float *>(buffers.back())[k] = x;
      } else {
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        static_cast<uint16_t *>(buffers.back())[k] = bits >> 16; // bf16
      }
    }
  }
  int64_t results = a.batch * a.heads * a.group * a.queries * a.columns;
  allocate(results, elementBytes);

  std::vector<int64_t> symbols = a.symbols();
  loaded->run(buffers, symbols);
  double best = 1e9, start = seconds(), limit = 0.4;
  if (const char *text = std::getenv("SECONDS_EACH"))
    limit = std::atof(text);
  while (seconds() - start < limit || best > 1e8) {
    double before = seconds();
    loaded->run(buffers, symbols);
    best = std::min(best, seconds() - before);
  }
  double error = 0;
  auto floats = [&](size_t i) { return static_cast<float *>(buffers[i]); };
  if (elementBytes == 4)
    error = errorOf(a, floats(0), floats(1), floats(2),
                    a.mask ? floats(3) : nullptr, floats(buffers.size() - 1));
  double flops = a.flops();
  if (a.causal) // what is not masked
    flops *= 1 - 0.5 * double(a.queries - 1) / double(a.keys);
  std::printf("%-44s %6.1f GFLOP/s %6.1f GB/s %9.4f ms  compile %5.1f ms  "
              "error %.1e  %s\n",
              a.name().c_str(), flops * 1e-9 / best,
              double(bytes) * 1e-9 / best, best * 1e3,
              loaded->compileSeconds * 1e3, error, schedule->str().c_str());
  std::fflush(stdout);
  return error < 1e-4 ? true : fail(a, "wrong result");
}

AttentionCase make(int64_t heads, int64_t group, int64_t queries, int64_t keys,
                   int64_t inner, bool causal = false) {
  AttentionCase a;
  a.heads = heads, a.group = group, a.queries = queries, a.keys = keys;
  a.inner = a.columns = inner;
  if (causal)
    a.causal = AttentionCase::BottomRight;
  return a;
}
} // namespace

int main(int argc, char **argv) {
  const char *name = std::getenv("TARGET");
  auto target = parseCpuTarget(name ? name : "x86:cpu=host");
  if (!target) {
    std::fprintf(stderr, "%s\n", llvm::toString(target.takeError()).c_str());
    return 1;
  }
  std::vector<AttentionCase> cases;
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 5) {
    auto number = [&](int i) { return std::stoll(words[i]); };
    AttentionCase a =
        make(number(0), number(1), number(2), number(3), number(4));
    for (size_t i = 5; i < words.size(); ++i) {
      if (words[i] == "causal")
        a.causal = AttentionCase::BottomRight;
      else if (words[i] == "mask")
        a.mask = AttentionCase::Full;
      else if (words[i] == "bf16")
        a.element = "bf16";
      else if (words[i] == "last")
        a.headsLast = a.merged = true;
    }
    cases.push_back(a);
  } else {
    auto wants = [&](const char *group) {
      return words.empty() || llvm::is_contained(words, group);
    };
    if (wants("prefill")) {
      cases.push_back(make(12, 1, 128, 128, 64));
      cases.push_back(make(12, 1, 384, 384, 64));
      cases.push_back(make(32, 1, 512, 512, 128));
      cases.push_back(make(32, 1, 512, 512, 128, true));
      cases.push_back(make(8, 4, 512, 512, 128, true));
      cases.push_back(make(4, 1, 2048, 2048, 128, true));
      cases.push_back(make(12, 1, 77, 77, 64));
    }
    if (wants("decode")) {
      cases.push_back(make(32, 1, 1, 2048, 128));
      cases.push_back(make(8, 4, 1, 2048, 128));
      cases.push_back(make(8, 4, 4, 2048, 128));
    }
  }
  bool isFine = true;
  for (const AttentionCase &a : cases)
    isFine &= runCase(*target, a);
  return isFine ? 0 : 1;
}
