// The fixture; see the header.
#include "NestTest.h"

#include "dlc/Check/InPlace.h"
#include "dlc/Codegen/CPU/Nests.h"
#include "dlc/Codegen/CPU/OpaqueNest.h"
#include "dlc/Schedule/NestChoice.h"

#include "mlir/AsmParser/AsmParser.h"

#include "llvm/TargetParser/Host.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

std::vector<std::string> test::runnableTargets() {
  auto features = llvm::sys::getHostCPUFeatures();
  std::vector<std::string> targets{"x86:cpu=x86-64"};
  if (features.lookup("avx2") && features.lookup("fma"))
    targets.push_back("x86:cpu=x86-64-v3");
  if (features.lookup("avx512vl") && features.lookup("avx512bw"))
    targets.push_back("x86:cpu=x86-64-v4");
  return targets;
}

graph::KernelOp NestTest::build(const OpCase &c) {
  std::string arguments, operands, signature;
  for (auto [i, type] : llvm::enumerate(c.types)) {
    std::string comma = i ? ", " : "";
    arguments += comma + "%a" + std::to_string(i) + ": " + type;
    operands += comma + "%a" + std::to_string(i);
    signature += comma + type;
  }
  std::string properties =
      c.attributes.empty() ? "" : " <{" + c.attributes + "}>";
  std::string text = "func.func @main(" + arguments + ") -> " + c.result +
                     " {\n  %r = \"graph." + c.op + "\"(" + operands + ")" +
                     properties + " : (" + signature + ") -> " + c.result +
                     "\n  return %r : " + c.result + "\n}\n";
  graph::KernelOp kernel = kernelOf(context, module, text);
  EXPECT_TRUE(kernel) << text;
  return kernel;
}

Tensor NestTest::random(Type element, ArrayRef<int64_t> shape,
                        const OpCase &c) {
  Tensor tensor(element, shape);
  int64_t count = tensor.getNumElements();
  std::uniform_real_distribution<double> reals(-2, 2);
  std::uniform_int_distribution<int64_t> integers(c.low, c.high);
  std::uniform_int_distribution<int> dice(0, 9);
  const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0};
  char *bytes = tensor.getMutableBytes();
  for (int64_t i = 0; i < count; ++i) {
    if (auto f = dyn_cast<FloatType>(element)) {
      double value = reals(generator);
      if (c.specials && dice(generator) == 0)
        value = special[dice(generator) % 5];
      APFloat x(value);
      bool lost;
      x.convert(f.getFloatSemantics(), APFloat::rmNearestTiesToEven, &lost);
      uint64_t bits = x.bitcastToAPInt().getZExtValue();
      size_t size = f.getWidth() / 8;
      std::memcpy(bytes + i * size, &bits, size);
      continue;
    }
    int64_t value = integers(generator);
    if (element.isInteger(1))
      value &= 1;
    size_t size = graph::elementBytes(element);
    std::memcpy(bytes + i * size, &value, size);
  }
  return tensor;
}

static double readFloat(Type type, const char *at) {
  uint64_t bits = 0;
  auto f = cast<FloatType>(type);
  std::memcpy(&bits, at, f.getWidth() / 8);
  APFloat x(f.getFloatSemantics(), APInt(f.getWidth(), bits));
  bool lost;
  x.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return x.convertToDouble();
}

std::string NestTest::difference(const Tensor &expected, const char *actual,
                                 double tolerance, bool bitExact) {
  Type type = expected.getElementType();
  size_t size = graph::elementBytes(type);
  for (int64_t i = 0; i < expected.getNumElements(); ++i) {
    const char *x = expected.getBytes() + i * size, *y = actual + i * size;
    if (std::memcmp(x, y, size) == 0)
      continue;
    std::string where = "element " + std::to_string(i) + ": ";
    if (!isa<FloatType>(type)) {
      int64_t a = 0, b = 0;
      std::memcpy(&a, x, size), std::memcpy(&b, y, size);
      return where + "expected " + std::to_string(a) + ", got " +
             std::to_string(b);
    }
    double a = readFloat(type, x), b = readFloat(type, y);
    if (std::isnan(a) && std::isnan(b))
      continue;
    double unit = type.isF16() ? 1e-3 : type.isBF16() ? 8e-3 : tolerance;
    bool isClose = std::abs(a - b) <=
                   std::max(unit, tolerance) * std::max(1.0, std::abs(a));
    if (a == b ? bitExact : (bitExact || !isClose))
      return where + "expected " + std::to_string(a) + ", got " +
             std::to_string(b);
  }
  return "";
}

bool NestTest::checkVariant(graph::KernelOp kernel, const OpCase &c,
                            ArrayRef<Tensor> inputs, ArrayRef<Tensor> expected,
                            const NestVariant &variant) {
  std::string name = c.op + " " + variant.target + " " + variant.schedule.nest +
                     (variant.strict ? " strict" : "");
  auto target = parseCpuTarget(variant.target);
  if (!target) {
    ADD_FAILURE() << llvm::toString(target.takeError());
    return false;
  }
  CpuCodegenOptions options;
  options.symbol = "k";
  options.strict = variant.strict;
  auto code = emit(kernel, *target, options, variant);
  if (failed(code)) {
    ADD_FAILURE() << name;
    return false;
  }
  if (!variant.nest.empty())
    EXPECT_EQ(code->nest, variant.nest) << name;
  std::string error, ir;
  if (getenv("DLC_TEST_DUMP"))
    code->module->dump();
  auto loaded = LoadedKernel::load(*code, *target, error);
  if (!loaded) {
    ADD_FAILURE() << name << ": " << error;
    return false;
  }
  bool ok = true;
  // Twice: operands that end at a forbidden page, and such that begin at one.
  for (bool atEnd : {true, false}) {
    loaded->fillsScratch = atEnd;
    std::vector<std::unique_ptr<PageBuffer>> operands;
    std::vector<std::unique_ptr<GuardedBuffer>> results;
    SmallVector<void *> pointers;
    for (const Tensor &t : inputs) {
      operands.push_back(
          std::make_unique<PageBuffer>(t.getBytes(), t.getNumBytes(), atEnd));
      pointers.push_back(operands.back()->data());
    }
    for (const Tensor &t : expected) {
      results.push_back(std::make_unique<GuardedBuffer>(t.getNumBytes()));
      pointers.push_back(results.back()->data());
    }
    int status = loaded->run(pointers, c.symbols);
    EXPECT_EQ(status, 0) << name;
    ok &= status == 0;
    for (auto [i, t] : llvm::enumerate(inputs))
      if (std::memcmp(operands[i]->data(), t.getBytes(), t.getNumBytes()) !=
          0) {
        ADD_FAILURE() << name << ": operand " << i << " was written to";
        ok = false;
      }
    for (auto [i, t] : llvm::enumerate(expected)) {
      if (!results[i]->intact()) {
        ADD_FAILURE() << name << ": wrote outside of result " << i;
        ok = false;
      }
      std::string text = difference(t, results[i]->data(), c.tolerance,
                                    variant.strict && exactWhenStrict);
      if (!text.empty()) {
        ADD_FAILURE() << name << " result " << i << " " << interp::describe(t)
                      << ": " << text;
        ok = false;
      }
    }
  }
  if (!loaded->scratchIntact()) {
    ADD_FAILURE() << name << ": wrote outside of the scratch";
    ok = false;
  }
  return ok && checkInPlace(kernel, c, inputs, expected, variant);
}

FailureOr<CpuKernel> NestTest::emit(graph::KernelOp kernel,
                                    const CpuTarget &target,
                                    const CpuCodegenOptions &options,
                                    const NestVariant &variant) {
  if (!variant.nest.empty())
    return emitCpuKernel(kernel, target, options);
  if (kernel.getOpaque())
    return emitOpaque(kernel, target, options);
  return emitLoopNest(kernel, target, options, variant.schedule);
}

std::string NestTest::runInPlace(CpuKernel &code, const CpuTarget &target,
                                 graph::InPlacePair pair, const OpCase &c,
                                 ArrayRef<Tensor> inputs,
                                 ArrayRef<Tensor> expected, bool bitExact) {
  std::string error;
  auto loaded = LoadedKernel::load(code, target, error);
  if (!loaded)
    return error;
  for (bool backwards : {false, true}) {
    loaded->runsBackwards = backwards;
    std::vector<std::unique_ptr<GuardedBuffer>> buffers;
    SmallVector<void *> pointers;
    for (const Tensor &t : inputs) {
      buffers.push_back(std::make_unique<GuardedBuffer>(t.getNumBytes()));
      std::memcpy(buffers.back()->data(), t.getBytes(), t.getNumBytes());
      pointers.push_back(buffers.back()->data());
    }
    for (auto [i, t] : llvm::enumerate(expected)) {
      buffers.push_back(std::make_unique<GuardedBuffer>(t.getNumBytes()));
      pointers.push_back(i == pair.result ? pointers[pair.operand]
                                          : buffers.back()->data());
    }
    if (loaded->run(pointers, c.symbols) != 0)
      return "stopped with an error";
    for (auto &buffer : buffers)
      if (!buffer->intact())
        return "wrote outside of its buffers";
    for (auto [i, t] : llvm::enumerate(expected)) {
      std::string text =
          difference(t, static_cast<char *>(pointers[inputs.size() + i]),
                     c.tolerance, bitExact);
      if (!text.empty())
        return "result " + std::to_string(i) + ": " + text;
    }
  }
  return "";
}

bool NestTest::checkInPlace(graph::KernelOp kernel, const OpCase &c,
                            ArrayRef<Tensor> inputs, ArrayRef<Tensor> expected,
                            const NestVariant &variant) {
  auto target = llvm::cantFail(parseCpuTarget(variant.target));
  CpuCodegenOptions options;
  options.symbol = "k";
  options.strict = variant.strict;
  options.reusableOperands.assign(inputs.size(), true);
  auto code = emit(kernel, target, options, variant);
  if (failed(code))
    return false;
  SmallVector<graph::InPlacePair> pairs = code->inPlace;
  for (graph::InPlacePair pair : pairs) {
    if (!check::admitInPlace(kernel, code->order, pair))
      continue;
    ++numInPlace;
    auto again = emit(kernel, target, options, variant);
    std::string text = runInPlace(*again, target, pair, c, inputs, expected,
                                  variant.strict && exactWhenStrict);
    if (text.empty())
      continue;
    ADD_FAILURE() << c.op << " " << variant.target << ": result " << pair.result
                  << " in place of operand " << pair.operand << ": " << text;
    return false;
  }
  return true;
}

void NestTest::check(const OpCase &c) {
  graph::KernelOp kernel = build(c);
  if (!kernel)
    return;
  SmallVector<Tensor> inputs;
  for (auto [type, shape] : llvm::zip(kernel.getArgumentTypes(), c.shapes))
    inputs.push_back(
        random(cast<RankedTensorType>(type).getElementType(), shape, c));
  auto expected = interp::Interpreter().runKernel(kernel, inputs, c.symbols);
  ASSERT_TRUE(succeeded(expected)) << c.op;
  std::vector<NestVariant> all = variants;
  if (all.empty()) {
    for (const std::string &target : runnableTargets()) {
      all.push_back({target, {}, false});
      all.push_back({target, {}, true});
    }
    LoopSchedule generic;
    generic.nest = "generic";
    all.push_back({runnableTargets().back(), generic, false});
  }
  // Without DLC_TEST_FULL, three of them in turn: the widest vectors always.
  bool takesAll = getenv("DLC_TEST_FULL") || !variants.empty();
  for (auto [i, variant] : llvm::enumerate(all)) {
    bool isWidest = i + 3 == all.size();
    size_t turn = numChecked % all.size();
    if (takesAll || isWidest || i == turn || i == (turn + 3) % all.size())
      if (!checkVariant(kernel, c, inputs, *expected, variant))
        break;
  }
  ++numChecked;
}

void NestTest::checkText(const std::string &text,
                         const std::vector<std::vector<int64_t>> &shapes,
                         const std::vector<int64_t> &symbols,
                         const std::string &nest) {
  auto parsed = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(parsed) << text;
  auto kernel = *(*parsed).getOps<graph::KernelOp>().begin();
  OpCase c;
  c.op = kernel.getSymName().str();
  c.symbols = symbols;
  c.tolerance = 1e-5;
  SmallVector<Tensor> inputs;
  for (auto [type, shape] : llvm::zip(kernel.getArgumentTypes(), shapes))
    inputs.push_back(
        random(cast<RankedTensorType>(type).getElementType(), shape, c));
  auto expected = interp::Interpreter().runKernel(kernel, inputs, symbols);
  ASSERT_TRUE(succeeded(expected)) << text;
  std::vector<NestVariant> all;
  for (const std::string &target : runnableTargets()) {
    all.push_back({target, {}, false, nest});
    all.push_back({target, {}, true, nest});
    LoopSchedule small; // many tasks
    small.grain = 64;
    if (nest.empty())
      all.push_back({target, small, false, ""});
  }
  LoopSchedule generic;
  generic.nest = "generic";
  if (nest.empty())
    all.push_back({runnableTargets().back(), generic, false, ""});
  // Without DLC_TEST_FULL: the widest vectors, strict and not, and one more.
  SCOPED_TRACE(StringRef(text).take_front(300).str() +
               "\nreason: " + bestNest(kernel).reason);
  for (auto [i, variant] : llvm::enumerate(all)) {
    bool isWidest = variant.target == runnableTargets().back() &&
                    variant.schedule.nest.empty() && !variant.schedule.grain;
    if (isWidest || getenv("DLC_TEST_FULL") || i == numChecked % all.size())
      checkVariant(kernel, c, inputs, *expected, variant);
  }
  ++numChecked;
}
