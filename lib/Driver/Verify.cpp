// -verify: the artifact beside the interpreter, on random inputs. Strict code
// does the interpreter's operations in the interpreter's order, so there the
// bits must be equal.
#include "Verify.h"

#include "dlc/Driver/DlcMath.h"

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;

double dlc::getTolerance(const CompileOptions &options,
                         const Tensor &expected) {
  if (options.strict)
    return 0;
  Type type = expected.getElementType();
  double rounding = interp::getTolerance(type);
  if (type.isF16() || type.isBF16() || !isa<FloatType>(type))
    return rounding;
  if (options.precision == CompileOptions::Precision::Tf32)
    return 5e-3;
  if (options.precision == CompileOptions::Precision::Bf16)
    return 4e-2; // beside the interpreter, which rounds nothing
  if (options.precision == CompileOptions::Precision::Auto)
    return std::max(options.maxError, rounding);
  return options.fastConv ? 1e-3 : rounding; // Winograd rounds larger numbers
}

// The model is loaded again: the compiled module has become the program.
static Error compareWithInterpreter(Compilation &c, StringRef path,
                                    interp::MathMode math, std::string &note) {
  const CompileOptions &options = c.options;
  Expected<ModelSource> source = loadModel(options);
  if (!source)
    return source.takeError();
  SmallVector<Tensor> inputs = makeRandomInputs(source->getMain(), /*seed=*/1);
  auto expected = interpret(*source, inputs, /*threads=*/0, math);
  if (!expected)
    return expected.takeError();
  auto search = [&] { // types belong to a context: the inputs are made again
    return bisect(
        c, math,
        makeRandomInputs(c.kernelModule->lookupSymbol<func::FuncOp>("main"),
                         /*seed=*/1));
  };
  Expected<Artifact> artifact = Artifact::open(path);
  if (!artifact)
    return artifact.takeError();
  auto actual = artifact->run(inputs, source->context.get(), {});
  if (!actual && options.bisect) {
    llvm::consumeError(actual.takeError());
    return search();
  }
  if (!actual)
    return actual.takeError();
  double worst = 0;
  for (auto [i, pair] : llvm::enumerate(llvm::zip(*actual, *expected))) {
    auto &[a, b] = pair;
    Expected<Difference> difference = compareTensors(a, b);
    if (!difference)
      return difference.takeError();
    double relative = difference->getRelative();
    worst = std::max(worst, relative);
    if (relative <= getTolerance(options, b))
      continue;
    if (options.bisect)
      return search();
    return makeError(
        ExitCode::Verify,
        llvm::formatv("output {0} differs from the interpreter's: "
                      "max|a-b|/max|b| is {1:e2}, the tolerance {2:e2}",
                      i, relative, getTolerance(options, b))
            .str(),
        options.input);
  }
  note = llvm::formatv("max|a-b|/max|b| {0:e2}", worst);
  return Error::success();
}

Error dlc::verifyProducts(Compilation &c) {
  c.progress.begin("verify");
  auto math = interp::MathMode::libm;
  if (c.options.strict) {
    if (Error error = enableDlcMath(*c.target))
      return error;
    math = interp::MathMode::dlc;
  }
  for (auto &[kind, path] : c.products) {
    if (kind != EmitKind::Shared)
      continue;
    std::string note;
    if (Error error = compareWithInterpreter(c, path, math, note))
      return error;
    c.progress.end(note);
  }
  return Error::success();
}
