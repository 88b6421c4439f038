// `execute`, from a planned program: straight lines of code. Each call fills
// the same dlc_frame on the stack and runs the kernel's phases one after the
// other; a phase with one task is called directly, the others go to the
// caller's parallel_for.
#include "HostEmitter.h"

#include <cstddef>

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

static llvm::Function *
addFunction(llvm::Module &module, llvm::FunctionType *type, const Twine &name) {
  auto *function = llvm::Function::Create(
      type, llvm::GlobalValue::ExternalLinkage, name, module);
  function->setVisibility(llvm::GlobalValue::HiddenVisibility);
  function->setDoesNotThrow();
  return function;
}

HostEmitter::HostEmitter(ModelOp model, StringRef prefix, llvm::Module &module,
                         bool onDevice)
    : model(model), prefix(prefix.str()), module(module), onDevice(onDevice),
      b(module.getContext()), sizes(b, nullptr) {
  data.addAll(model);
  planSlots();
  if (onDevice)
    planStatusWords();
}

HostFunctions HostEmitter::emit() {
  functions.inputDims = emitDims<InputOp>("input_dims", /*symbolsCount=*/false);
  functions.outputDims =
      emitDims<OutputOp>("output_dims", /*symbolsCount=*/true);
  functions.execute = emitExecute();
  functions.plan = emitPlan();
  functions.numSizes = functions.plan ? getNumSizes() : 0;
  return std::move(functions);
}

//===----------------------------------------------------------------------===//
// Sizes of memory
//===----------------------------------------------------------------------===//

// The distinct sizes that share each slot.
void HostEmitter::planSlots() {
  for (auto alloc : model.getAll<AllocOp>())
    if (std::optional<uint64_t> slot = alloc.getSlot()) {
      if (*slot >= slotSizes.size())
        slotSizes.resize(*slot + 1);
      AffineExpr size = getSize(alloc.getSize());
      if (!llvm::is_contained(slotSizes[*slot], size))
        slotSizes[*slot].push_back(size);
    }
}

// The offset of each slot, and last their total size.
SmallVector<llvm::Value *> HostEmitter::emitSlotOffsets() {
  SmallVector<llvm::Value *> offsets = {b.getInt64(0)};
  for (ArrayRef<AffineExpr> members : slotSizes) {
    llvm::Value *size = sizes.emitAligned(members.front());
    for (AffineExpr other : members.drop_front())
      size = sizes.max(size, sizes.emitAligned(other));
    offsets.push_back(b.CreateAdd(offsets.back(), size));
  }
  return offsets;
}

// Bytes of the buffers; scratch lies behind them.
llvm::Value *HostEmitter::emitArenaBytes(ArrayRef<llvm::Value *> offsets) {
  if (offsets.size() > 1)
    return offsets.back();
  return b.getInt64(model.getArenaBytes()
                        ? *graph::constantValue(getSize(*model.getArenaBytes()))
                        : 0);
}

// The sizes of a set of symbols, for all runs with it.
llvm::Function *HostEmitter::emitPlan() {
  SmallVector<AffineExpr> scratch; // distinct sizes of a worker's scratch
  auto add = [&](KernelOp kernel, program::CallOp call) {
    AffineExpr size = getScratch(kernel, call);
    if (size)
      size = data.getLargest(size);
    if (size && !llvm::is_contained(scratch, size))
      scratch.push_back(size);
  };
  for (auto call : model.getAll<program::CallOp>()) {
    KernelOp kernel = getKernel(call);
    add(kernel, call);
    for (KernelOp variant : getVariants(kernel))
      add(variant, call);
  }
  bool hasArena = !slotSizes.empty() ||
                  (model.getArenaBytes() &&
                   graph::constantValue(getSize(*model.getArenaBytes())) != 0);
  if (scratch.empty() && !hasArena && !onDevice && table.getEntries().empty())
    return nullptr;
  auto *function = addFunction(
      module, llvm::FunctionType::get(b.getVoidTy(), {ptr(), ptr()}, false),
      prefix + "_plan");
  enter(function);
  sizes = SizeCode(b, function->getArg(0));
  int64_t count = 0;
  auto store = [&](llvm::Value *size) {
    b.CreateStore(size, at(function->getArg(1), count++ * sizeof(int64_t)));
  };
  SmallVector<llvm::Value *> offsets = emitSlotOffsets();
  store(emitArenaBytes(offsets));
  llvm::Value *stride = b.getInt64(0);
  for (AffineExpr size : scratch)
    stride = sizes.max(stride, sizes.emitAligned(size));
  // The status words lie before it.
  store(b.CreateAdd(stride, b.getInt64(getStatusBytes())));
  for (llvm::Value *offset : ArrayRef(offsets).drop_back())
    store(offset);
  for (SizeTable::Entry entry : table.getEntries())
    store(entry.aligned ? sizes.emitAligned(entry.expr)
                        : sizes.emit(entry.expr));
  assert(count == getNumSizes());
  b.CreateRetVoid();
  return function;
}

// A worker's scratch over the model's symbols; null for none.
AffineExpr HostEmitter::getScratch(KernelOp kernel, program::CallOp call) {
  std::optional<AffineMap> scratch = kernel.getScratch();
  if (!scratch || graph::constantValue(getSize(*scratch)) == 0)
    return {};
  return toModel(getSize(*scratch), call);
}

// Each function stores the dims of all tensors, one after the other.
template <typename OpT>
llvm::Function *HostEmitter::emitDims(StringRef name, bool symbolsCount) {
  SmallVector<AffineExpr> dims;
  for (OpT op : model.getAll<OpT>())
    llvm::append_range(dims, graph::getDims(op.getType()));
  auto isNeeded = [&](AffineExpr e) {
    return !isa<AffineConstantExpr>(e) &&
           (symbolsCount || !isa<AffineSymbolExpr>(e));
  };
  if (llvm::none_of(dims, isNeeded))
    return nullptr;
  auto *function = addFunction(
      module, llvm::FunctionType::get(b.getVoidTy(), {ptr(), ptr()}, false),
      prefix + "_" + name);
  enter(function);
  sizes = SizeCode(b, function->getArg(0));
  for (auto [i, dim] : llvm::enumerate(dims))
    b.CreateStore(data.dependsOnData(dim) ? b.getInt64(-1) : sizes.emit(dim),
                  at(function->getArg(1), i * sizeof(int64_t)));
  b.CreateRetVoid();
  return function;
}

//===----------------------------------------------------------------------===//
// execute
//===----------------------------------------------------------------------===//

KernelOp HostEmitter::getKernel(program::CallOp call) {
  return SymbolTable::lookupNearestSymbolFrom<KernelOp>(model,
                                                        call.getCalleeAttr());
}

// The kernels that run in its place at smaller sizes.
SmallVector<KernelOp> HostEmitter::getVariants(KernelOp kernel) {
  SmallVector<KernelOp> variants;
  if (kernel.getVariants())
    for (auto name : kernel.getVariants()->getAsRange<FlatSymbolRefAttr>())
      variants.push_back(
          SymbolTable::lookupNearestSymbolFrom<KernelOp>(model, name));
  return variants;
}

// An expression of the kernel's symbols, in the model's.
AffineExpr HostEmitter::toModel(AffineExpr expr, program::CallOp call) {
  return call.getActual() ? graph::simplify(expr.replaceSymbols(
                                call.getActual()->getResults()))
                          : expr;
}

llvm::FunctionType *HostEmitter::getTaskType() {
  return llvm::FunctionType::get(b.getVoidTy(), {ptr(), i64(), i64()}, false);
}

// void run_phase(exec, frame, task function, tasks)
llvm::Function *HostEmitter::emitRunPhase() {
  auto *function = llvm::Function::Create(
      llvm::FunctionType::get(b.getVoidTy(), {ptr(), ptr(), ptr(), i64()},
                              false),
      llvm::GlobalValue::InternalLinkage, prefix + "_run_phase", module);
  function->setDoesNotThrow();
  llvm::Argument *argExec = function->getArg(0),
                 *argFrame = function->getArg(1), *task = function->getArg(2),
                 *count = function->getArg(3);
  auto *entry = llvm::BasicBlock::Create(module.getContext(), "", function);
  auto *one = llvm::BasicBlock::Create(module.getContext(), "one", function);
  auto *many = llvm::BasicBlock::Create(module.getContext(), "many", function);
  auto *call = llvm::BasicBlock::Create(module.getContext(), "call", function);
  auto *done = llvm::BasicBlock::Create(module.getContext(), "done", function);
  b.SetInsertPoint(entry);
  b.CreateCondBr(b.CreateICmpEQ(count, b.getInt64(1)), one, many);
  b.SetInsertPoint(one);
  b.CreateCall(getTaskType(), task, {argFrame, b.getInt64(0), b.getInt64(0)});
  b.CreateBr(done);
  b.SetInsertPoint(many);
  b.CreateCondBr(b.CreateICmpSGT(count, b.getInt64(1)), call, done);
  b.SetInsertPoint(call);
  llvm::Value *parallelFor =
      b.CreateLoad(ptr(), at(argExec, offsetof(dlc_exec, parallel_for)));
  llvm::Value *context =
      b.CreateLoad(ptr(), at(argExec, offsetof(dlc_exec, pf_ctx)));
  llvm::Value *workers =
      b.CreateLoad(i64(), at(argExec, offsetof(dlc_exec, num_workers)));
  auto *type = llvm::FunctionType::get(
      b.getVoidTy(), {ptr(), ptr(), ptr(), i64(), i64()}, false);
  b.CreateCall(type, parallelFor, {context, task, argFrame, count, workers});
  b.CreateBr(done);
  b.SetInsertPoint(done);
  b.CreateRetVoid();
  return function;
}

llvm::Function *HostEmitter::emitExecute() {
  if (!onDevice)
    runPhase = emitRunPhase();
  execute = addFunction(module,
                        llvm::FunctionType::get(b.getInt32Ty(), {ptr()}, false),
                        prefix + "_execute");
  enter(execute);
  exec = execute->getArg(0);
  emitFrame();
  emitBlock(*model.getBlock());
  b.CreateRet(b.getInt32(DLC_OK));
  return execute;
}

void HostEmitter::emitFrame() {
  inputs = loadField(offsetof(dlc_exec, inputs));
  outputs = loadField(offsetof(dlc_exec, outputs));
  workspace = loadField(offsetof(dlc_exec, workspace));
  weights = loadField(offsetof(dlc_exec, weights));
  symbols = loadField(offsetof(dlc_exec, symbols));
  planned = loadField(offsetof(dlc_exec, sizes));
  sizes =
      SizeCode(b, symbols, table,
               at(planned, (kHeader + slotSizes.size()) * sizeof(int64_t)),
               [this](AffineExpr expr) { return !data.dependsOnData(expr); });
  llvm::Value *arenaBytes =
      slotSizes.empty() ? emitArenaBytes({}) : b.CreateLoad(i64(), planned);
  if (onDevice)
    return emitDeviceFrame(arenaBytes);
  int64_t maxBuffers = 1, maxSymbols = 1;
  for (auto kernel : cast<ModuleOp>(model->getParentOp()).getOps<KernelOp>()) {
    maxBuffers = std::max<int64_t>(maxBuffers,
                                   kernel.getNumArgs() + kernel.getNumOuts());
    maxSymbols = std::max<int64_t>(maxSymbols, kernel.getNumSymbols());
  }
  frame = b.CreateAlloca(llvm::ArrayType::get(ptr(), sizeof(dlc_frame) / 8));
  frameBuffers = b.CreateAlloca(llvm::ArrayType::get(ptr(), maxBuffers));
  frameSymbols = b.CreateAlloca(llvm::ArrayType::get(i64(), maxSymbols));
  b.CreateStore(at(exec, offsetof(dlc_exec, status)),
                at(frame, offsetof(dlc_frame, status)));
  b.CreateStore(b.CreateInBoundsGEP(b.getInt8Ty(), workspace, arenaBytes),
                at(frame, offsetof(dlc_frame, scratch)));
  b.CreateStore(frameBuffers, at(frame, offsetof(dlc_frame, buffers)));
  b.CreateStore(frameSymbols, at(frame, offsetof(dlc_frame, symbols)));
}

void HostEmitter::emitBlock(Block &block) {
  for (Operation &op : block)
    emitStep(&op);
}

void HostEmitter::emitStep(Operation *op) {
  if (auto input = dyn_cast<InputOp>(op))
    buffers[input] =
        b.CreateLoad(ptr(), at(inputs, input.getIndex() * sizeof(void *)));
  else if (auto output = dyn_cast<OutputOp>(op))
    buffers[output] =
        b.CreateLoad(ptr(), at(outputs, output.getIndex() * sizeof(void *)));
  else if (auto constant = dyn_cast<program::ConstantOp>(op))
    buffers[constant] = at(weights, *constant.getOffset());
  else if (auto copy = dyn_cast<CopyOp>(op))
    emitCopy(copy);
  else if (auto append = dyn_cast<AppendOp>(op))
    emitAppend(append);
  else if (auto update = dyn_cast<UpdateOp>(op))
    emitUpdate(update);
  else if (auto bind = dyn_cast<BindOp>(op))
    emitBind(bind);
  else if (auto require = dyn_cast<RequireOp>(op))
    emitStop(b.CreateICmp(require.getAtLeast() ? llvm::CmpInst::ICMP_SLT
                                               : llvm::CmpInst::ICMP_NE,
                          sizes.emit(getSize(require.getLeft())),
                          sizes.emit(getSize(require.getRight()))),
             require.getSite(), DLC_SHAPE_MISMATCH);
  else if (auto set = dyn_cast<SetOp>(op))
    emitSet(set);
  else if (auto expect = dyn_cast<ExpectOp>(op))
    emitExpect(expect);
  else if (auto branch = dyn_cast<IfOp>(op))
    emitIf(branch);
  else if (auto loop = dyn_cast<LoopOp>(op))
    emitLoop(loop);
  else if (auto next = dyn_cast<AgainOp>(op))
    b.CreateStore(loadBool(next.getCondition()), again);
  else if (auto call = dyn_cast<program::CallOp>(op))
    onDevice ? emitDeviceCall(call) : emitCall(call);
}

// Addresses in the arena are made where they are used, as sizes are.
llvm::Value *HostEmitter::getBuffer(Value buffer) {
  if (auto slice = buffer.getDefiningOp<SliceOp>())
    return at(getBuffer(slice.getWhole()), slice.getOffset());
  auto alloc = buffer.getDefiningOp<AllocOp>();
  if (!alloc)
    return buffers.lookup(buffer);
  if (!alloc.getSlot())
    return at(workspace, *alloc.getOffset());
  llvm::Value *offset = b.CreateLoad(
      i64(), at(planned, (kHeader + *alloc.getSlot()) * sizeof(int64_t)));
  return b.CreateInBoundsGEP(b.getInt8Ty(), workspace, offset);
}

void HostEmitter::emitCall(program::CallOp call) {
  KernelOp kernel = getKernel(call);
  unsigned slot = 0;
  for (ValueRange range :
       {ValueRange(call.getArgs()), ValueRange(call.getOuts())})
    for (Value buffer : range)
      b.CreateStore(getBuffer(buffer),
                    at(frameBuffers, slot++ * sizeof(void *)));
  if (call.getActual())
    for (auto [i, expr] : llvm::enumerate(call.getActual()->getResults()))
      b.CreateStore(sizes.emit(expr), at(frameSymbols, i * sizeof(int64_t)));
  if (kernel.getVariants())
    emitDispatch(kernel, call);
  else
    emitPhases(kernel, call);
  if (kernel.getCanFail())
    emitStatusCheck(call);
}

// Compares the size that decides and runs one of the variants. What they have
// in common stands in the frame already.
void HostEmitter::emitDispatch(KernelOp kernel, program::CallOp call) {
  llvm::Value *size = sizes.emit(toModel(getSize(*kernel.getSize()), call));
  llvm::BasicBlock *done = makeBlock("");
  auto run = [&](KernelOp chosen) {
    SizeCode::Known before = sizes.getKnown();
    emitPhases(chosen, call);
    sizes.setKnown(std::move(before));
    b.CreateBr(done);
  };
  for (auto [variant, limit] :
       llvm::zip_equal(getVariants(kernel), *kernel.getLimits())) {
    llvm::BasicBlock *small = makeBlock("small"), *large = makeBlock("large");
    b.CreateCondBr(b.CreateICmpSLE(size, b.getInt64(limit)), small, large);
    b.SetInsertPoint(small);
    run(variant);
    b.SetInsertPoint(large);
  }
  run(kernel);
  b.SetInsertPoint(done);
}

void HostEmitter::emitPhases(KernelOp kernel, program::CallOp call) {
  if (AffineExpr scratch = getScratch(kernel, call))
    b.CreateStore(sizes.emitAligned(scratch),
                  at(frame, offsetof(dlc_frame, scratch_stride)));
  for (auto [i, phase] :
       llvm::enumerate(kernel.getPhases().getAsRange<StringAttr>())) {
    llvm::FunctionCallee task =
        module.getOrInsertFunction(phase.getValue(), getTaskType());
    cast<llvm::Function>(task.getCallee())
        ->setVisibility(llvm::GlobalValue::HiddenVisibility);
    AffineExpr count = toModel(kernel.getTasks()->getResult(i), call);
    if (graph::constantValue(count) == 1)
      b.CreateCall(task, {frame, b.getInt64(0), b.getInt64(0)});
    else
      b.CreateCall(runPhase,
                   {exec, frame, task.getCallee(), sizes.emit(count)});
  }
}

void HostEmitter::emitCopy(CopyOp copy) {
  llvm::Value *target = getTarget(copy);
  if (onDevice) {
    llvm::Value *source = getBuffer(copy.getSource());
    llvm::Value *bytes = sizes.emit(getSize(copy.getSize()));
    auto output = copy.getTarget().getDefiningOp<OutputOp>();
    if (output && data.dependsOnData(output.getType()))
      callRuntime("dlc_device_output",
                  {exec, b.getInt64(output.getIndex()), target, source, bytes},
                  "");
    else
      callRuntime("dlc_device_copy", {exec, target, source, bytes}, "");
    return;
  }
  b.CreateMemCpy(target, llvm::MaybeAlign(1), getBuffer(copy.getSource()),
                 llvm::MaybeAlign(1),
                 sizes.max(sizes.emit(getSize(copy.getSize())), b.getInt64(0)));
}

// Where a copy goes. Memory of an output whose size the data tell is asked for
// now: no memory stops the run.
llvm::Value *HostEmitter::getTarget(CopyOp copy) {
  auto output = copy.getTarget().getDefiningOp<OutputOp>();
  if (!output || !data.dependsOnData(output.getType()))
    return getBuffer(copy.getTarget());
  SmallVector<AffineExpr> dims = graph::getDims(output.getType());
  llvm::Value *values = makeVariable(llvm::ArrayType::get(i64(), dims.size()));
  for (auto [i, dim] : llvm::enumerate(dims))
    b.CreateStore(sizes.emit(dim), at(values, i * sizeof(int64_t)));
  llvm::Value *allocate = loadField(offsetof(dlc_exec, output_alloc));
  auto *type = llvm::FunctionType::get(ptr(), {ptr(), i64(), ptr()}, false);
  llvm::Value *memory = b.CreateCall(
      type, allocate, {exec, b.getInt64(output.getIndex()), values});
  emitStop(b.CreateIsNull(memory), "", DLC_OUT_OF_MEMORY);
  return memory;
}

// Stops when a task met invalid data, and says where.
void HostEmitter::emitStatusCheck(program::CallOp call) {
  llvm::Value *status =
      b.CreateLoad(b.getInt32Ty(), at(exec, offsetof(dlc_exec, status)));
  emitStop(b.CreateICmpNE(status, b.getInt32(0)),
           getSite(call.getOrigin(), call.getCallee()), DLC_DATA_ERROR);
}

StringRef program::getSite(std::optional<ArrayAttr> origin,
                           StringRef otherwise) {
  if (origin && !origin->empty())
    return cast<StringAttr>((*origin)[0]).getValue();
  return otherwise;
}

HostFunctions dlc::emitHostCode(ModelOp model, StringRef prefix,
                                llvm::Module &module, bool onDevice) {
  return HostEmitter(model, prefix, module, onDevice).emit();
}
