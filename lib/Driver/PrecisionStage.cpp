// -precision: which products have factors of bf16. With auto the model says so
// itself: an artifact in which rounding is an argument of each run (a probe)
// tells what each product's rounding does to the outputs, and then what those
// of many together do. What is chosen is compiled, measured beside float32 on
// these and on other inputs, and given up where it is not faster.
#include "BuiltModel.h"
#include "Compilation.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/RoundProducts.h"
#include "dlc/Driver/RunModel.h"
#include "dlc/Driver/TensorFile.h"
#include "dlc/Driver/Turns.h"

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
/// What is less faster than this is not worth any error.
static constexpr double kLeastGain = 1.02;
/// For how long float32 and the choice run in turns.
static constexpr double kSeconds = 3;
/// A product's kernel is slower with rounded factors from this ratio on, where
/// the difference is so much of all time.
static constexpr double kSlow = 1.05, kLeastShare = 0.002;
/// Choices that are compiled: each leaves out what was slow in the last one.
static constexpr unsigned kMostAttempts = 3;

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
  Error measureAlone();
  Expected<std::vector<unsigned>> choose();
  Expected<std::optional<Built>> buildWithin(std::vector<unsigned> &chosen);
  Error compare(std::vector<unsigned> &chosen);
  Expected<unsigned> leaveOutSlow(const Built &plain, const Built &mixed,
                                  ArrayRef<std::string> files,
                                  ArrayRef<unsigned> chosen);
  void say(const Twine &text);

  Compilation &c;
  MLIRContext context{MLIRContext::Threading::DISABLED};
  std::optional<Built> probe;
  std::vector<SmallVector<Tensor>> inputs; ///< sets; the first ones choose
  unsigned numChoosing = 0;
  std::vector<Outputs> expected; ///< of the probe that rounds nothing
  std::vector<unsigned> order;   ///< products by error for what they save
  std::vector<bool> isSlow;      ///< not to be rounded: it takes longer then
};
} // namespace

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

Error Choice::measureAlone() {
  auto &products = c.precision.products;
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
  isSlow.assign(products.size(), false);
  return Error::success();
}

/// The longest beginning of `order`, without the slow ones, whose joint error
/// is small enough.
Expected<std::vector<unsigned>> Choice::choose() {
  auto &products = c.precision.products;
  double bound = kShare * c.options.maxError;
  std::vector<unsigned> left;
  llvm::copy_if(order, std::back_inserter(left),
                [&](unsigned i) { return !isSlow[i]; });
  // Errors of unlike products add up as if they were independent, about.
  double squares = 0;
  size_t low = 0, high = left.size() + 1, guess = 0;
  for (unsigned i : left) {
    squares += products[i].error * products[i].error;
    if (std::sqrt(squares) > bound)
      break;
    ++guess;
  }
  // `low` is good, `high` is too many.
  for (; low + 1 < high; guess = (low + high) / 2) {
    size_t n = std::clamp<size_t>(guess, low + 1, high - 1);
    Expected<double> error = jointError(ArrayRef(left).take_front(n));
    if (!error)
      return error.takeError();
    say(Twine(n) + llvm::formatv(" together: {0:e2}", *error).str());
    (*error <= bound ? low : high) = n;
  }
  left.resize(low);
  return left;
}

/// The choice compiled as it will be; leaves out more until the bound holds on
/// all inputs, and nothing where none is left.
Expected<std::optional<Built>>
Choice::buildWithin(std::vector<unsigned> &chosen) {
  for (; !chosen.empty(); chosen.resize(chosen.size() * 3 / 4)) {
    Expected<Built> mixed = Built::create(c.options, Precision::Bf16, chosen);
    if (!mixed)
      return mixed.takeError();
    double worst = 0;
    for (auto [set, wanted] : llvm::zip_equal(inputs, expected)) {
      auto outputs = mixed->get().run(set, &context, {});
      if (!outputs)
        return outputs.takeError();
      Expected<double> error = errorOf(*outputs, wanted);
      if (!error)
        return error.takeError();
      worst = std::max(worst, *error);
    }
    say(Twine(chosen.size()) + llvm::formatv(" compiled: {0:e2}", worst).str());
    c.precision.error = worst;
    if (worst <= c.options.maxError)
      return std::optional(std::move(*mixed));
  }
  c.precision.error = 0;
  return std::nullopt;
}

/// Marks the chosen products whose kernels take longer with rounded factors.
/// Samples of single kernels only propose: artifacts in turns decide.
Expected<unsigned> Choice::leaveOutSlow(const Built &plain, const Built &mixed,
                                        ArrayRef<std::string> files,
                                        ArrayRef<unsigned> chosen) {
  auto before = plain.profile(files), after = mixed.profile(files);
  if (!before)
    return before.takeError();
  if (!after)
    return after.takeError();
  unsigned count = 0;
  for (unsigned i : chosen) {
    StringRef name = c.precision.products[i].name;
    auto [was, wasDeviation] = (*before)[name];
    auto [is, isDeviation] = (*after)[name];
    double noise = 2 * std::hypot(wasDeviation, isDeviation);
    if (is - kSlow * was < noise + kLeastShare * (*before)[""].seconds)
      continue;
    isSlow[i] = true;
    ++count;
    say(name + llvm::formatv(" takes {0:f3} ms a call, float32 {1:f3} ms",
                             is * 1e3, was * 1e3)
                   .str());
  }
  return count;
}

/// Compiles choices and takes the one that is fastest beside float32, in turns;
/// none where nothing is faster beyond noise.
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
  Expected<Built> again = plain->copy();
  if (!again)
    return again.takeError();
  struct Candidate {
    std::vector<unsigned> chosen;
    double error = 0;
    TurnResult times;
  };
  std::optional<Candidate> best;
  for (unsigned attempt = 0;; ++attempt) {
    auto mixed = buildWithin(chosen);
    if (!mixed)
      return mixed.takeError();
    if (!*mixed)
      break;
    auto rounds = runInTurns(plain->get(), (*mixed)->get(), again->get(), files,
                             kSeconds);
    if (!rounds)
      return rounds.takeError();
    Candidate candidate{chosen, report.error, judgeTurns(*rounds)};
    say(candidate.times.str());
    if (!best || candidate.times.least > best->times.least)
      best = std::move(candidate);
    if (attempt + 1 == kMostAttempts)
      break;
    Expected<unsigned> slow = leaveOutSlow(*plain, **mixed, files, chosen);
    if (!slow)
      return slow.takeError();
    if (*slow == 0)
      break;
    auto others = choose();
    if (!others)
      return others.takeError();
    chosen = std::move(*others);
  }
  report.error = 0;
  chosen.clear();
  if (!best) {
    report.note = "no rounding keeps the bound";
    return Error::success();
  }
  report.f32Seconds = report.seconds = best->times.plainSeconds;
  if (!best->times.isFaster(kLeastGain)) {
    report.note =
        "bf16 is not faster here beyond noise (" + best->times.str() + ")";
    return Error::success();
  }
  chosen = std::move(best->chosen);
  report.error = best->error;
  report.seconds = best->times.seconds;
  report.note =
      llvm::formatv("error {0:e2}, ", best->error).str() + best->times.str();
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
  if (Error error = measureAlone())
    return std::move(error);
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
