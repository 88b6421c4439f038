// One source for the polynomials: the functions are built by the emitter that
// builds them into kernels, one scalar function each, compiled to an object and
// linked into this process. So the interpreter's bits are the kernels' bits,
// and nothing has to be kept in step by hand.
#include "dlc/Driver/DlcMath.h"

#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"
#include "dlc/Interpreter/MathMode.h"
#include "dlc/Target/Targets.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"

#include <mutex>

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;

static constexpr ScalarFn kFunctions[] = {
    ScalarFn::exp,   ScalarFn::log,   ScalarFn::sin,  ScalarFn::cos,
    ScalarFn::tan,   ScalarFn::asin,  ScalarFn::acos, ScalarFn::atan,
    ScalarFn::sinh,  ScalarFn::cosh,  ScalarFn::tanh, ScalarFn::asinh,
    ScalarFn::acosh, ScalarFn::atanh, ScalarFn::erf,  ScalarFn::log1p,
    ScalarFn::expm1, ScalarFn::pow};

static std::string nameOf(ScalarFn fn, Type type) {
  return ("dlc_math_" + graph::stringifyScalarFn(fn) +
          (type.isF64() ? "_f64" : "_f32"))
      .str();
}

// Adds the function that computes `fn` of scalars of `type`.
static void buildFunction(ModuleOp module, ScalarFn fn, Type type,
                          const ScalarOptions &options) {
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = builder.getUnknownLoc();
  SmallVector<Type> inputs(graph::getScalarFnInfo(fn).arity, type);
  auto function = func::FuncOp::create(builder, loc, nameOf(fn, type),
                                       builder.getFunctionType(inputs, type));
  Block *entry = function.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  SmallVector<Scalar> args;
  for (Value argument : entry->getArguments())
    args.push_back({argument, type});
  Scalar result = ScalarEmitter(builder, loc, options).apply(fn, args);
  func::ReturnOp::create(builder, loc, result.value);
}

namespace {
// The functions for one way of rounding, and what keeps their code alive.
struct CompiledMath {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  interp::MathTable table;
};
} // namespace

static llvm::Expected<llvm::SmallVector<char, 0>>
compileFunctions(const ScalarOptions &options) {
  llvm::Expected<CpuTarget> host = parseCpuTarget("host");
  if (!host)
    return host.takeError();
  MLIRContext context(MLIRContext::Threading::DISABLED);
  loadCpuDialects(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  for (Type type :
       {Type(Float32Type::get(&context)), Type(Float64Type::get(&context))})
    for (ScalarFn fn : kFunctions)
      buildFunction(*module, fn, type, options);
  return compileModule(*module, *host);
}

static llvm::Expected<std::unique_ptr<CompiledMath>>
makeMath(const ScalarOptions &options) {
  auto object = compileFunctions(options);
  if (!object)
    return object.takeError();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  auto math = std::make_unique<CompiledMath>();
  math->jit = std::move(*jit);
  auto process = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      math->jit->getDataLayout().getGlobalPrefix());
  if (!process)
    return process.takeError();
  math->jit->getMainJITDylib().addGenerator(std::move(*process)); // for libm
  if (llvm::Error error =
          math->jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(
              {object->data(), object->size()}, "dlc_math")))
    return error;

  MLIRContext names(MLIRContext::Threading::DISABLED);
  interp::MathTable &table = math->table;
  table.name = "dlc";
  auto lookup = [&](ScalarFn fn, Type type, auto &slot) -> llvm::Error {
    auto address = math->jit->lookup(nameOf(fn, type));
    if (!address)
      return address.takeError();
    slot = address->toPtr<std::remove_reference_t<decltype(slot)>>();
    return llvm::Error::success();
  };
  Type f32 = Float32Type::get(&names), f64 = Float64Type::get(&names);
  for (ScalarFn fn : kFunctions) {
    unsigned index = static_cast<unsigned>(fn);
    bool isPow = fn == ScalarFn::pow;
    if (llvm::Error error = isPow ? lookup(fn, f32, table.pow32)
                                  : lookup(fn, f32, table.f32[index]))
      return error;
    if (llvm::Error error = isPow ? lookup(fn, f64, table.pow64)
                                  : lookup(fn, f64, table.f64[index]))
      return error;
  }
  return math;
}

llvm::Error dlc::enableDlcMath(const CpuTarget &target) {
  static std::mutex mutex;
  // Without fma, with it, with tables.
  static std::unique_ptr<CompiledMath> compiled[3];
  std::lock_guard<std::mutex> lock(mutex);
  ScalarOptions options = ScalarOptions::get(target, /*strict=*/true);
  options.scaleExponent = false; // runs on this machine; the bits are the same
  std::unique_ptr<CompiledMath> &math = compiled[options.fma + options.tables];
  if (!math) {
    auto made = makeMath(options);
    if (!made)
      return made.takeError();
    math = std::move(*made);
  }
  interp::registerDlcMath(&math->table);
  return llvm::Error::success();
}
