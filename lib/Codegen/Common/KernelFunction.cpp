// Kernel bodies and their entries. The body is a function of its own because
// LLVM's noalias, without which every store would order the loads after it, can
// be promised for arguments only.
#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;

// Marks a body; holds {buffers, symbols}. Without a dot: it is no dialect's.
static constexpr llvm::StringLiteral taskAttr = "task_entry";
// Marks a body whose scratch is the same for all workers.
static constexpr llvm::StringLiteral sharedAttr = "shared_scratch";
static constexpr llvm::StringLiteral bodySuffix = ".impl";

Type dlc::getStorageType(Type elementType) {
  MLIRContext *context = elementType.getContext();
  if (elementType.isInteger(1))
    return IntegerType::get(context, 8);
  if (elementType.isF16() || elementType.isBF16())
    return IntegerType::get(context, 16);
  if (elementType.isIndex())
    return IntegerType::get(context, 64);
  if (auto integer = dyn_cast<IntegerType>(elementType))
    return IntegerType::get(context, integer.getWidth());
  return elementType;
}

MemRefType dlc::getFlatMemRef(Type elementType) {
  return MemRefType::get({int64_t(1) << 40}, elementType);
}

KernelFunctionBuilder::KernelFunctionBuilder(ModuleOp module, StringRef symName,
                                             TypeRange elementTypes,
                                             unsigned numSymbols, bool noalias,
                                             bool sharedScratch)
    : b(module.getContext()), numBuffers(elementTypes.size()),
      numSymbols(numSymbols) {
  SmallVector<Type> inputs;
  for (Type type : elementTypes)
    inputs.push_back(getFlatMemRef(getStorageType(type)));
  inputs.append(numSymbols + 1, b.getIndexType());
  inputs.push_back(getFlatMemRef(b.getI8Type()));
  inputs.push_back(getFlatMemRef(b.getI32Type()));
  b.setInsertionPointToEnd(module.getBody());
  function =
      func::FuncOp::create(b, module.getLoc(), (symName + bodySuffix).str(),
                           b.getFunctionType(inputs, {}));
  function.setPrivate();
  function->setAttr(taskAttr, b.getDenseI64ArrayAttr({numBuffers, numSymbols}));
  if (sharedScratch)
    function->setAttr(sharedAttr, b.getUnitAttr());
  if (noalias)
    for (auto [i, type] : llvm::enumerate(inputs))
      if (isa<MemRefType>(type))
        function.setArgAttr(i, "llvm.noalias", b.getUnitAttr());
  b.setInsertionPointToStart(function.addEntryBlock());
}

void KernelFunctionBuilder::mayOverlap(unsigned i, unsigned j) {
  for (unsigned buffer : {i, j})
    function.removeArgAttr(buffer, "llvm.noalias");
}

SmallVector<Value> KernelFunctionBuilder::symbols() {
  SmallVector<Value> values;
  for (unsigned i = 0; i < numSymbols; ++i)
    values.push_back(symbol(i));
  return values;
}

Value KernelFunctionBuilder::scratchView(Type elementType, Value byteOffset) {
  return memref::ViewOp::create(b, loc(),
                                getFlatMemRef(getStorageType(elementType)),
                                scratch(), byteOffset, ValueRange{});
}

void KernelFunctionBuilder::finish() { func::ReturnOp::create(b, loc()); }

/// The entry of one body: unpacks the frame (see dlc_frame in runtime.h).
static void emitEntry(LLVM::LLVMFuncOp body, int64_t numBuffers,
                      int64_t numSymbols, bool sharedScratch) {
  OpBuilder b(body);
  Location loc = body.getLoc();
  Type pointer = LLVM::LLVMPointerType::get(b.getContext());
  Type i64 = b.getI64Type();
  Type frameType = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {pointer, pointer, i64, pointer, pointer});
  StringRef name = body.getSymName().drop_back(bodySuffix.size());
  auto entry = LLVM::LLVMFuncOp::create(
      b, loc, name,
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {pointer, i64, i64}));
  b.setInsertionPointToStart(entry.addEntryBlock(b));
  Value frame = entry.getArgument(0), task = entry.getArgument(1),
        worker = entry.getArgument(2);
  auto field = [&](int32_t index, Type type) -> Value {
    Value address = LLVM::GEPOp::create(b, loc, pointer, frameType, frame,
                                        ArrayRef<LLVM::GEPArg>{0, index});
    return LLVM::LoadOp::create(b, loc, type, address);
  };
  auto element = [&](Value array, int32_t index, Type type) -> Value {
    Value address = LLVM::GEPOp::create(b, loc, pointer, type, array,
                                        ArrayRef<LLVM::GEPArg>{index});
    return LLVM::LoadOp::create(b, loc, type, address);
  };
  Value status = field(0, pointer), scratch = field(1, pointer),
        stride = field(2, i64);
  SmallVector<Value> arguments;
  if (numBuffers) {
    Value buffers = field(3, pointer);
    for (int64_t i = 0; i < numBuffers; ++i)
      arguments.push_back(element(buffers, i, pointer));
  }
  if (numSymbols) {
    Value symbols = field(4, pointer);
    for (int64_t i = 0; i < numSymbols; ++i)
      arguments.push_back(element(symbols, i, i64));
  }
  arguments.push_back(task);
  if (!sharedScratch) {
    Value offset = LLVM::MulOp::create(b, loc, worker, stride);
    scratch = LLVM::GEPOp::create(b, loc, pointer, b.getI8Type(), scratch,
                                  ArrayRef<LLVM::GEPArg>{offset});
  }
  arguments.push_back(scratch);
  arguments.push_back(status);
  LLVM::CallOp::create(b, loc, body, arguments);
  LLVM::ReturnOp::create(b, loc, ValueRange{});
}

void dlc::emitTaskEntries(ModuleOp module) {
  for (auto body :
       llvm::make_early_inc_range(module.getOps<LLVM::LLVMFuncOp>())) {
    auto counts = body->getAttrOfType<DenseI64ArrayAttr>(taskAttr);
    // Bodies and their helpers stay out of the object's symbol table.
    if (!body.isExternal() && SymbolTable::getSymbolVisibility(body) ==
                                  SymbolTable::Visibility::Private)
      body.setLinkage(LLVM::Linkage::Internal);
    if (!counts)
      continue;
    body->removeAttr(taskAttr);
    bool sharedScratch = body->removeAttr(sharedAttr) != nullptr;
    emitEntry(body, counts[0], counts[1], sharedScratch);
  }
}
