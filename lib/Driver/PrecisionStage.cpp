// -precision: which products have factors of bf16. With auto the model says so
// itself: an artifact in which rounding is an argument of each run (a probe)
// tells what each product's rounding does to the outputs, and then what those
// of many together do. What is chosen is compiled, measured beside float32 on
// these and on other inputs, and given up where it is not faster.
#include "Compilation.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/RoundProducts.h"
#include "dlc/Driver/RunModel.h"
#include "dlc/Driver/TensorFile.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <numeric>

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;
using Precision = CompileOptions::Precision;

/// Errors on inputs that were not measured may be larger: what is chosen by
/// stays below this share of the bound.
static constexpr double kShare = 0.75;
/// What is less faster than this is noise.
static constexpr double kLeastGain = 1.02;

static std::string nameOf(Operation *op, unsigned index) {
  std::string name;
  op->getLoc()->walk([&](Location loc) {
    if (auto named = dyn_cast<NameLoc>(loc); named && name.empty())
      name = named.getName().str();
    return name.empty() ? WalkResult::advance() : WalkResult::interrupt();
  });
  return name.empty() ? "product " + std::to_string(index) : name;
}

namespace {
/// A compiled model in a folder that goes with it.
class Built {
public:
  static Expected<Built> create(const CompileOptions &options,
                                Precision precision,
                                ArrayRef<unsigned> rounded = {});

  const Artifact &get() const { return *artifact; }
  /// Seconds of one run, the fastest of `runs`.
  Expected<double> measure(ArrayRef<std::string> inputs, unsigned runs) const;

private:
  std::unique_ptr<TemporaryFolder> folder;
  std::optional<Artifact> artifact;
};

class Choice {
public:
  explicit Choice(Compilation &c) : c(c) {}
  /// The products to round; fills the report.
  Expected<std::vector<unsigned>> run();

private:
  using Outputs = SmallVector<Tensor>;
  Error makeInputs(const Artifact &probe);
  Expected<Outputs> runProbe(unsigned set, ArrayRef<unsigned> rounded);
  Expected<double> errorOf(const Outputs &actual, const Outputs &expected);
  /// The worst of the sets that are chosen by.
  Expected<double> jointError(ArrayRef<unsigned> rounded);
  Expected<std::vector<unsigned>> choose();
  Error compare(std::vector<unsigned> &chosen);
  void say(const Twine &text);

  Compilation &c;
  MLIRContext context{MLIRContext::Threading::DISABLED};
  std::optional<Built> probe;
  std::vector<SmallVector<Tensor>> inputs; ///< sets; the first ones choose
  unsigned numChoosing = 0;
  std::vector<Outputs> expected; ///< of the probe that rounds nothing
  std::vector<unsigned> order;   ///< products by error for what they save
};
} // namespace

Expected<Built> Built::create(const CompileOptions &options,
                              Precision precision, ArrayRef<unsigned> rounded) {
  Built built;
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  built.folder = std::move(*folder);
  CompileOptions o = options;
  o.precision = precision;
  o.roundedProducts.assign(rounded.begin(), rounded.end());
  o.output = built.folder->getPath("model.so");
  o.emit = {EmitKind::Shared};
  o.quiet = true;
  o.verbose = o.verify = o.timePasses = false;
  o.explainFusion = o.explainAttention = false;
  o.dumpDir.clear();
  o.printAfter.clear();
  if (o.tune == CompileOptions::Tune::Search)
    o.tune = CompileOptions::Tune::Lookup;
  if (precision == Precision::Probe)
    o.tune = CompileOptions::Tune::Off;
  auto compiled = compileModel(o);
  if (!compiled)
    return compiled.takeError();
  Expected<Artifact> artifact = Artifact::open(o.output);
  if (!artifact)
    return artifact.takeError();
  built.artifact = std::move(*artifact);
  return built;
}

Expected<double> Built::measure(ArrayRef<std::string> inputs,
                                unsigned runs) const {
  Artifact::RunOptions options;
  options.bench = runs;
  Expected<std::string> text = artifact->run(inputs, options);
  if (!text)
    return text.takeError();
  double ns = 0;
  if (StringRef(*text).trim().split(' ').first.getAsDouble(ns) || ns <= 0)
    return makeError(ExitCode::Internal, "no time in '" + *text + "'");
  return ns * 1e-9;
}

void Choice::say(const Twine &text) {
  if (c.options.verbose)
    llvm::errs() << "  " << text << "\n";
}

Error Choice::makeInputs(const Artifact &artifact) {
  size_t own = artifact.getInputTypes(&context).size() - 1; // and the mask
  if (!c.options.precisionInputs.empty()) {
    if (c.options.precisionInputs.size() != own)
      return makeError(
          ExitCode::Usage,
          "-precision-inputs=: the model has " + Twine(own) + " inputs, " +
              Twine(c.options.precisionInputs.size()) + " are given");
    SmallVector<Tensor> set;
    auto types = artifact.getInputTypes(&context);
    for (auto [i, path] : llvm::enumerate(c.options.precisionInputs)) {
      Expected<Tensor> tensor = readTensor(path, &context);
      if (!tensor)
        return tensor.takeError();
      set.push_back(reinterpretBits(*tensor, types[i]));
    }
    inputs.push_back(std::move(set));
    numChoosing = 1;
    return Error::success();
  }
  // Two to choose by, two more to see whether it holds.
  for (uint64_t seed : {1, 1001, 2001, 3001}) {
    auto set = artifact.makeRandomInputs(&context, seed);
    if (!set)
      return set.takeError();
    set->pop_back();
    inputs.push_back(std::move(*set));
  }
  numChoosing = 2;
  return Error::success();
}

Expected<Choice::Outputs> Choice::runProbe(unsigned set,
                                           ArrayRef<unsigned> rounded) {
  Tensor mask(IntegerType::get(&context, 1),
              {int64_t(c.precision.products.size())});
  char *bytes = mask.getMutableBytes();
  std::fill(bytes, bytes + mask.getNumBytes(), 0);
  for (unsigned i : rounded)
    bytes[i] = 1;
  SmallVector<Tensor> all = inputs[set];
  all.push_back(std::move(mask));
  return probe->get().run(all, &context, {});
}

Expected<double> Choice::errorOf(const Outputs &actual, const Outputs &wanted) {
  double worst = 0;
  for (auto [a, b] : llvm::zip_equal(actual, wanted)) {
    Expected<Difference> difference = compareTensors(a, b);
    if (!difference)
      return difference.takeError();
    worst = std::max(worst, difference->getRelative());
  }
  return worst;
}

Expected<double> Choice::jointError(ArrayRef<unsigned> rounded) {
  double worst = 0;
  for (unsigned set = 0; set < numChoosing; ++set) {
    auto outputs = runProbe(set, rounded);
    if (!outputs)
      return outputs.takeError();
    Expected<double> error = errorOf(*outputs, expected[set]);
    if (!error)
      return error;
    worst = std::max(worst, *error);
  }
  return worst;
}

/// The longest beginning of `order` whose joint error is small enough.
Expected<std::vector<unsigned>> Choice::choose() {
  auto &products = c.precision.products;
  double bound = kShare * c.options.maxError;
  for (auto [i, product] : llvm::enumerate(products)) {
    auto outputs = runProbe(0, {unsigned(i)});
    if (!outputs)
      return outputs.takeError();
    Expected<double> error = errorOf(*outputs, expected[0]);
    if (!error)
      return error.takeError();
    product.error = *error;
    say(product.name + llvm::formatv(": {0:e2} alone", *error).str());
  }
  order.resize(products.size());
  std::iota(order.begin(), order.end(), 0);
  auto cost = [&](unsigned i) {
    double square = products[i].error * products[i].error;
    return std::pair(square / products[i].flops, i);
  };
  llvm::sort(order, [&](unsigned a, unsigned b) { return cost(a) < cost(b); });
  // Errors of unlike products add up as if they were independent, about.
  double squares = 0;
  size_t low = 0, high = order.size() + 1, guess = 0;
  for (unsigned i : order) {
    squares += products[i].error * products[i].error;
    if (std::sqrt(squares) > bound)
      break;
    ++guess;
  }
  // `low` is good, `high` is too many.
  for (; low + 1 < high; guess = (low + high) / 2) {
    size_t n = std::clamp<size_t>(guess, low + 1, high - 1);
    Expected<double> error = jointError(ArrayRef(order).take_front(n));
    if (!error)
      return error.takeError();
    say(Twine(n) + llvm::formatv(" together: {0:e2}", *error).str());
    (*error <= bound ? low : high) = n;
  }
  return std::vector<unsigned>(order.begin(), order.begin() + low);
}

/// Compiles what was chosen beside float32; leaves out more until the bound
/// holds on all inputs, and all where it is not faster.
Error Choice::compare(std::vector<unsigned> &chosen) {
  auto &report = c.precision;
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  std::vector<std::string> files;
  for (const Tensor &input : inputs[0]) {
    files.push_back(
        (*folder)->getPath("input_" + Twine(files.size()) + ".npy"));
    if (Error error = writeTensor(files.back(), input))
      return error;
  }
  Expected<Built> plain = Built::create(c.options, Precision::F32);
  if (!plain)
    return plain.takeError();
  while (!chosen.empty()) {
    Expected<Built> mixed = Built::create(c.options, Precision::Bf16, chosen);
    if (!mixed)
      return mixed.takeError();
    report.error = 0;
    for (auto [set, wanted] : llvm::zip_equal(inputs, expected)) {
      auto outputs = mixed->get().run(set, &context, {});
      if (!outputs)
        return outputs.takeError();
      Expected<double> error = errorOf(*outputs, wanted);
      if (!error)
        return error.takeError();
      report.error = std::max(report.error, *error);
    }
    say(Twine(chosen.size()) +
        llvm::formatv(" compiled: {0:e2}", report.error).str());
    if (report.error > c.options.maxError) {
      chosen.resize(chosen.size() * 3 / 4);
      continue;
    }
    // In turns: what disturbs the machine disturbs both.
    report.f32Seconds = report.seconds = 1e9;
    for (unsigned round = 0; round < 3; ++round)
      for (auto [built, best] : {std::pair(&*plain, &report.f32Seconds),
                                 std::pair(&*mixed, &report.seconds)}) {
        unsigned runs =
            unsigned(std::clamp(0.2 / std::min(*best, 0.1), 2.0, 200.0));
        Expected<double> seconds = built->measure(files, runs);
        if (!seconds)
          return seconds.takeError();
        *best = std::min(*best, *seconds);
      }
    if (report.f32Seconds < kLeastGain * report.seconds) {
      report.note = llvm::formatv("bf16 is not faster here ({0:f3} ms, "
                                  "float32 {1:f3} ms)",
                                  report.seconds * 1e3, report.f32Seconds * 1e3)
                        .str();
      chosen.clear();
      report.seconds = report.f32Seconds;
      report.error = 0;
      return Error::success();
    }
    report.note =
        llvm::formatv("error {0:e2}, {1:f3} ms, float32 {2:f3} ms: {3:f2}x",
                      report.error, report.seconds * 1e3,
                      report.f32Seconds * 1e3,
                      report.f32Seconds / report.seconds)
            .str();
    return Error::success();
  }
  report.error = 0;
  report.note = "no rounding keeps the bound";
  return Error::success();
}

Expected<std::vector<unsigned>> Choice::run() {
  std::vector<unsigned> chosen;
  if (c.precision.products.empty()) {
    c.precision.note = "the model has none of float32 and weights";
    return chosen;
  }
  Expected<Built> built = Built::create(c.options, Precision::Probe);
  if (!built)
    return built.takeError();
  probe = std::move(*built);
  if (Error error = makeInputs(probe->get()))
    return std::move(error);
  for (unsigned set = 0; set < inputs.size(); ++set) {
    auto outputs = runProbe(set, {});
    if (!outputs)
      return outputs.takeError();
    expected.push_back(std::move(*outputs));
  }
  Expected<std::vector<unsigned>> found = choose();
  if (!found)
    return found.takeError();
  chosen = std::move(*found);
  if (Error error = compare(chosen))
    return std::move(error);
  llvm::sort(chosen);
  return chosen;
}

Error dlc::choosePrecision(Compilation &c) {
  if (c.options.precision == Precision::Tf32)
    return Error::success(); // code generation rounds what it multiplies
  func::FuncOp main = c.source.getMain();
  SmallVector<graph::Product> products = graph::findProducts(main);
  for (auto [i, product] : llvm::enumerate(products)) {
    auto &item = c.precision.products.emplace_back();
    item.name = nameOf(product.op, i);
    item.flops = product.flops;
  }
  std::vector<unsigned> chosen = c.options.roundedProducts;
  switch (c.options.precision) {
  case Precision::F32:
  case Precision::Tf32:
    return Error::success();
  case Precision::Probe:
    graph::probeProducts(main, products);
    return Error::success();
  case Precision::Bf16:
    if (chosen.empty())
      for (unsigned i = 0; i < products.size(); ++i)
        chosen.push_back(i);
    break;
  case Precision::Auto: {
    auto found = Choice(c).run();
    if (!found)
      return found.takeError();
    chosen = std::move(*found);
    break;
  }
  }
  SmallVector<graph::Product> rounded;
  for (unsigned i : chosen) {
    c.precision.products[i].isRounded = true;
    rounded.push_back(products[i]);
  }
  graph::roundProducts(rounded);
  return dumpModule(c, "01-rounded.mlir");
}
