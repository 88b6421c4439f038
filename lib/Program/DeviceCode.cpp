// `execute` where kernels run on a device: a call becomes launches whose
// parameters are filled into an array on the stack. Buffers are addresses that
// only the runtime's functions and kernels may follow.
//
// The memory of a run: the arena, the status words of calls that may meet
// invalid data (a word each, looked at once at the end), the scratch buffers of
// the running call.
#include "HostEmitter.h"

#include <cstddef>

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

/// Status words are taken by numbers of this size.
static constexpr int64_t kWordBytes = sizeof(int32_t);

// Word 0 is of all calls that cannot fail.
void HostEmitter::planStatusWords() {
  functions.deviceSites.push_back("");
  for (auto call : model.getAll<program::CallOp>())
    if (getKernel(call).getCanFail()) {
      statusWordOf[call] = functions.deviceSites.size();
      functions.deviceSites.push_back(
          getSite(call.getOrigin(), call.getCallee()).str());
    }
}

int64_t HostEmitter::getStatusBytes() const {
  return llvm::alignTo(functions.deviceSites.size() * kWordBytes, kAlignment);
}

void HostEmitter::emitDeviceFrame(llvm::Value *arenaBytes) {
  int64_t most = 1;
  for (auto kernel : cast<ModuleOp>(model->getParentOp()).getOps<KernelOp>()) {
    int64_t buffers =
        kernel.getBuffers() ? kernel.getBuffers()->getNumResults() : 0;
    most = std::max<int64_t>(most, kernel.getNumArgs() + kernel.getNumOuts() +
                                       buffers + 1 + kernel.getNumSymbols());
  }
  params = b.CreateAlloca(llvm::ArrayType::get(i64(), most));
  statusWords = b.CreateInBoundsGEP(b.getInt8Ty(), workspace, arenaBytes);
  scratch = at(statusWords, getStatusBytes());
}

// Calls a function of the runtime, hidden in the artifact; stops where it
// fails.
void HostEmitter::callRuntime(StringRef function,
                              ArrayRef<llvm::Value *> arguments,
                              StringRef site) {
  SmallVector<llvm::Type *> types;
  for (llvm::Value *argument : arguments)
    types.push_back(argument->getType());
  llvm::FunctionCallee callee = module.getOrInsertFunction(
      function, llvm::FunctionType::get(b.getInt32Ty(), types, false));
  cast<llvm::Function>(callee.getCallee())
      ->setVisibility(llvm::GlobalValue::HiddenVisibility);
  llvm::Value *status = b.CreateCall(callee, arguments);
  emitStop(b.CreateICmpNE(status, b.getInt32(DLC_OK)), site, status);
}

void HostEmitter::emitDeviceCall(program::CallOp call) {
  KernelOp kernel = getKernel(call);
  int64_t count = 0;
  auto add = [&](llvm::Value *value) {
    b.CreateStore(value, at(params, count++ * sizeof(int64_t)));
  };
  for (ValueRange range :
       {ValueRange(call.getArgs()), ValueRange(call.getOuts())})
    for (Value buffer : range)
      add(getBuffer(buffer));
  if (kernel.getBuffers()) {
    llvm::Value *place = scratch;
    for (AffineExpr bytes : kernel.getBuffers()->getResults()) {
      add(place);
      place = b.CreateGEP(b.getInt8Ty(), place,
                          sizes.emitAligned(toModel(bytes, call)));
    }
  }
  add(at(statusWords, statusWordOf.lookup(call) * kWordBytes));
  if (call.getActual())
    for (AffineExpr expr : call.getActual()->getResults())
      add(sizes.emit(expr));
  StringRef site = getSite(call.getOrigin(), call.getCallee());
  for (auto [i, phase] :
       llvm::enumerate(kernel.getPhases().getAsRange<StringAttr>())) {
    auto [it, isNew] = functionNumbers.try_emplace(
        phase.getValue(), functions.deviceFunctions.size());
    if (isNew)
      functions.deviceFunctions.push_back(
          {phase.getValue().str(), kernel.getSymName().str(),
           (*kernel.getThreads())[i], count,
           kernel.getShared() ? (*kernel.getShared())[i] : 0});
    AffineExpr blocks = toModel(kernel.getTasks()->getResult(i), call);
    callRuntime("dlc_device_launch",
                {exec, b.getInt64(it->second), sizes.emit(blocks), params},
                site);
  }
}
