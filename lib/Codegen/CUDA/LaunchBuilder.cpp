// Kernel functions, loops, shared memory and block-wide reductions.
#include "LaunchBuilder.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

static constexpr int64_t kSharedMemorySpace = 3;
/// Of the buffers that a launch is given, in bytes.
static constexpr int64_t kBufferAlignment = 16;

LaunchBuilder::LaunchBuilder(ModuleOp module, StringRef symbol,
                             TypeRange elementTypes, unsigned numSymbols,
                             unsigned blockThreads, unsigned residentThreads)
    : b(module.getContext()), l(module.getLoc()), indices(b, l), module(module),
      numBuffers(elementTypes.size()), threads(blockThreads) {
  SmallVector<Type> inputs;
  for (Type type : elementTypes)
    inputs.push_back(getFlatMemRef(getStorageType(type)));
  inputs.push_back(getFlatMemRef(b.getI32Type()));
  inputs.append(numSymbols, b.getIndexType());
  b.setInsertionPointToEnd(module.getBody());
  function = func::FuncOp::create(b, l, symbol, b.getFunctionType(inputs, {}));
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                    b.getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(),
                    b.getDenseI32ArrayAttr({int32_t(threads)}));
  // Left alone, ptxas spills to have more blocks on a multiprocessor.
  function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                    b.getI32IntegerAttr(static_cast<int32_t>(
                        std::max(residentThreads / threads, 1u))));
  // Memory plan, weights and runtime see to that.
  for (unsigned i = 0; i < numBuffers; ++i)
    function.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                        b.getI64IntegerAttr(kBufferAlignment));
  b.setInsertionPointToStart(function.addEntryBlock());
  for (unsigned i = 0; i < numSymbols; ++i)
    symbolValues.push_back(function.getArgument(numBuffers + 1 + i));
  threadValue = special("nvvm.read.ptx.sreg.tid.x");
  blockValue = special("nvvm.read.ptx.sreg.ctaid.x");
}

Value LaunchBuilder::special(StringRef op) {
  OperationState state(l, op);
  state.addTypes(b.getI32Type());
  Value value = b.create(state)->getResult(0);
  return arith::IndexCastUIOp::create(b, l, b.getIndexType(), value);
}

Value LaunchBuilder::gridBlocks() {
  return special("nvvm.read.ptx.sreg.nctaid.x");
}

Value LaunchBuilder::size(AffineExpr expr) {
  return indices.expr(expr, {}, symbolValues);
}

SmallVector<Value> LaunchBuilder::sizes(ArrayRef<AffineExpr> exprs) {
  return llvm::map_to_vector(exprs,
                             [&](AffineExpr expr) { return size(expr); });
}

// Loops stand in the module before their bodies are built, because bodies look
// up and add functions there.
void LaunchBuilder::loop(Value from, Value to, Value step,
                         llvm::function_ref<void(Value)> body) {
  loop(from, to, step, {}, [&](Value i, ValueRange) {
    body(i);
    return SmallVector<Value>();
  });
}

SmallVector<Value> LaunchBuilder::loop(Value from, Value to, Value step,
                                       ValueRange initial, CarryBody body) {
  auto op = scf::ForOp::create(b, l, from, to, step, initial);
  OpBuilder::InsertionGuard guard(b);
  if (initial.empty()) // such a loop is born with its yield
    op.getBody()->getTerminator()->erase();
  b.setInsertionPointToEnd(op.getBody());
  SmallVector<Value> next = body(op.getInductionVar(), op.getRegionIterArgs());
  scf::YieldOp::create(b, l, next);
  return SmallVector<Value>(op.getResults());
}

void LaunchBuilder::onlyIf(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(b, l, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&op.getThenRegion().front());
  body();
}

void LaunchBuilder::barrier() { NVVM::Barrier0Op::create(b, l); }

Value LaunchBuilder::shared(Type type, int64_t count) {
  auto memref = MemRefType::get({count}, type, MemRefLayoutAttrInterface(),
                                b.getI64IntegerAttr(kSharedMemorySpace));
  std::string name =
      (function.getName() + ".shared" + Twine(numShared++)).str();
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(function);
  // Uninitialised: shared memory cannot be given a value by the loader.
  memref::GlobalOp::create(b, l, name, b.getStringAttr("private"), memref,
                           b.getUnitAttr(), /*constant=*/false,
                           b.getI64IntegerAttr(16));
  b.setInsertionPointToStart(&function.getBody().front());
  return memref::GetGlobalOp::create(b, l, memref, name);
}

// An external array of no elements is what NVPTX declares without a size; names
// of external variables are taken as they are.
Value LaunchBuilder::dynamicShared(Type type, int64_t alignment) {
  auto memref = MemRefType::get({0}, type, MemRefLayoutAttrInterface(),
                                b.getI64IntegerAttr(kSharedMemorySpace));
  std::string name = (function.getName() + "_dynamic").str();
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(function);
  memref::GlobalOp::create(b, l, name, StringAttr(), memref, Attribute(),
                           /*constant=*/false, b.getI64IntegerAttr(alignment));
  b.setInsertionPointToStart(&function.getBody().front());
  return memref::GetGlobalOp::create(b, l, memref, name);
}

// shfl.sync moves 32 bits: narrower values are widened, wider ones cut.
Value LaunchBuilder::shuffleXor(Value value, unsigned offset) {
  Type type = value.getType();
  auto shuffle = [&](Value bits) -> Value {
    auto constant = [&](int32_t number) -> Value {
      return arith::ConstantIntOp::create(b, l, b.getI32Type(), number);
    };
    return NVVM::ShflOp::create(b, l, bits.getType(), constant(-1), bits,
                                constant(offset), constant(kWarpThreads - 1),
                                NVVM::ShflKind::bfly, UnitAttr());
  };
  if (type.isF32() || type.isInteger(32))
    return shuffle(value);
  unsigned width = type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
  Type integer = b.getIntegerType(width);
  Value bits = type.isIndex()
                   ? arith::IndexCastOp::create(b, l, integer, value)
                   : arith::BitcastOp::create(b, l, integer, value).getResult();
  Type word = b.getI32Type();
  Value moved;
  if (width < 32) {
    moved = arith::TruncIOp::create(
        b, l, integer, shuffle(arith::ExtUIOp::create(b, l, word, bits)));
  } else {
    Value shift = arith::ConstantIntOp::create(b, l, integer, 32);
    Value high = arith::TruncIOp::create(
        b, l, word, arith::ShRUIOp::create(b, l, bits, shift));
    Value low = arith::TruncIOp::create(b, l, word, bits);
    high = arith::ExtUIOp::create(b, l, integer, shuffle(high));
    low = arith::ExtUIOp::create(b, l, integer, shuffle(low));
    moved = arith::OrIOp::create(b, l, low,
                                 arith::ShLIOp::create(b, l, high, shift));
  }
  if (type.isIndex())
    return arith::IndexCastOp::create(b, l, type, moved);
  return arith::BitcastOp::create(b, l, type, moved);
}

Value LaunchBuilder::reduceLanes(Value value, unsigned lanes, Combine combine) {
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
    value = combine(value, shuffleXor(value, offset));
  return value;
}

Value LaunchBuilder::reduceBlock(Value value, Combine combine) {
  value = reduceLanes(value, kWarpThreads, combine);
  unsigned warps = threads / kWarpThreads;
  if (warps == 1)
    return value;

  // One partial result a warp; every thread folds them in the same order.
  Type type = value.getType();
  Type stored = getStorageType(type);
  Value partials = shared(stored, warps);
  Value warp = indices.div(threadValue, indices.constant(kWarpThreads));
  Value lane = indices.rem(threadValue, indices.constant(kWarpThreads));
  Value isFirst = indices.less(lane, indices.constant(1));
  onlyIf(isFirst, [&] {
    Value bits = value;
    if (type.isInteger(1))
      bits = arith::ExtUIOp::create(b, l, stored, value);
    memref::StoreOp::create(b, l, bits, partials, warp);
  });
  barrier();
  auto load = [&](unsigned i) -> Value {
    Value bits = memref::LoadOp::create(b, l, partials, indices.constant(i));
    return type.isInteger(1)
               ? arith::TruncIOp::create(b, l, type, bits).getResult()
               : bits;
  };
  Value result = load(0);
  for (unsigned i = 1; i < warps; ++i)
    result = combine(result, load(i));
  return result;
}

void LaunchBuilder::finish() {
  b.setInsertionPointToEnd(&function.getBody().front());
  func::ReturnOp::create(b, l);
}
