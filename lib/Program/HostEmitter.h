// Everything that the functions of one model share while they are emitted.
#ifndef DLC_LIB_PROGRAM_HOSTEMITTER_H
#define DLC_LIB_PROGRAM_HOSTEMITTER_H

#include "dlc/Program/HostCode.h"

#include "DataBounds.h"
#include "SizeCode.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/runtime.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/Function.h"
#include "llvm/IR/Module.h"

namespace dlc::program {

class HostEmitter {
public:
  HostEmitter(ModelOp model, llvm::StringRef prefix, llvm::Module &module,
              bool onDevice);
  HostFunctions emit();

private:
  llvm::Type *ptr() { return b.getPtrTy(); }
  llvm::Type *i64() { return b.getInt64Ty(); }
  llvm::Value *at(llvm::Value *base, int64_t offset) {
    return offset == 0
               ? base
               : b.CreateConstInBoundsGEP1_64(b.getInt8Ty(), base, offset);
  }
  llvm::Value *loadField(size_t offset) {
    return b.CreateLoad(ptr(), at(exec, offset));
  }
  void enter(llvm::Function *function) {
    b.SetInsertPoint(
        llvm::BasicBlock::Create(module.getContext(), "", function));
  }
  llvm::BasicBlock *makeBlock(const llvm::Twine &name) {
    return llvm::BasicBlock::Create(module.getContext(), name, execute);
  }

  // Sizes of memory
  void planSlots();
  llvm::SmallVector<llvm::Value *> emitSlotOffsets();
  llvm::Value *emitArenaBytes(llvm::ArrayRef<llvm::Value *> slotOffsets);
  llvm::Function *emitPlan();
  int64_t getNumSizes() {
    return kHeader + slotSizes.size() + table.getEntries().size();
  }
  mlir::AffineExpr getScratch(KernelOp kernel, CallOp call);
  template <typename OpT>
  llvm::Function *emitDims(llvm::StringRef name, bool symbolsCount);

  // execute
  KernelOp getKernel(CallOp call);
  llvm::SmallVector<KernelOp> getVariants(KernelOp kernel);
  mlir::AffineExpr toModel(mlir::AffineExpr expr, CallOp call);
  llvm::FunctionType *getTaskType();
  llvm::Function *emitRunPhase();
  llvm::Function *emitExecute();
  void emitFrame();
  void emitBlock(mlir::Block &block);
  void emitStep(mlir::Operation *op);
  void emitCall(CallOp call);
  void emitDispatch(KernelOp kernel, CallOp call);
  void emitPhases(KernelOp kernel, CallOp call);
  void emitCopy(CopyOp copy);
  llvm::Value *getBuffer(mlir::Value buffer);
  llvm::Value *getTarget(CopyOp copy);
  void emitStatusCheck(CallOp call);

  // State (HostState.cpp)
  void emitAppend(AppendOp append);
  void emitUpdate(UpdateOp update);
  llvm::Function *emitCopyRuns();
  llvm::Function *emitCopyRows();
  void emitCounted(llvm::Function *function, llvm::Value *count,
                   llvm::function_ref<void(llvm::Value *i)> body);

  // Control flow and symbols (HostControl.cpp)
  void emitIf(IfOp op);
  void emitLoop(LoopOp op);
  llvm::Value *emitLimit(LoopOp op);
  void emitRegion(mlir::Region &region);
  void emitBind(BindOp bind);
  void emitSet(SetOp set);
  void emitExpect(ExpectOp expect);
  void storeSymbol(unsigned symbol, llvm::Value *value);
  void forgetDataSizes();
  llvm::Value *loadBool(mlir::Value buffer, llvm::StringRef site = "");
  llvm::Value *makeVariable(llvm::Type *type);
  void emitDataStop(llvm::Value *condition,
                    std::optional<mlir::ArrayAttr> origin);
  void emitStop(llvm::Value *condition, llvm::StringRef site,
                llvm::Value *result);
  void emitStop(llvm::Value *condition, llvm::StringRef site,
                dlc_status result) {
    emitStop(condition, site, b.getInt32(result));
  }

  // Devices (DeviceCode.cpp)
  void planStatusWords();
  int64_t getStatusBytes() const;
  void emitDeviceFrame(llvm::Value *arenaBytes);
  void emitDeviceCall(CallOp call);
  void callRuntime(llvm::StringRef function,
                   llvm::ArrayRef<llvm::Value *> arguments,
                   llvm::StringRef site);
  /// The number in a buffer, wherever the buffer lies.
  llvm::Value *readScalar(llvm::Type *type, mlir::Value buffer,
                          llvm::StringRef site);
  /// Stores an i64 in a buffer.
  void writeScalar(llvm::Value *value, mlir::Value buffer);

  ModelOp model;
  std::string prefix;
  llvm::Module &module;
  bool onDevice;
  llvm::IRBuilder<> b;
  SizeCode sizes;
  /// What `plan` stores: bytes of the arena and of a worker's scratch, the
  /// offset of each slot, then the table of what `execute` asks for.
  static constexpr int64_t kHeader = 2;
  SizeTable table;
  std::vector<llvm::SmallVector<mlir::AffineExpr>> slotSizes;
  DataBounds data;

  // While `execute` is emitted:
  llvm::Function *execute = nullptr, *runPhase = nullptr,
                 *copyRuns = nullptr,     ///< made when an append needs it
                     *copyRows = nullptr; ///< and an update
  llvm::Value *exec = nullptr, *frame = nullptr, *frameBuffers = nullptr,
              *frameSymbols = nullptr, *inputs = nullptr, *outputs = nullptr,
              *workspace = nullptr, *weights = nullptr, *symbols = nullptr,
              *planned = nullptr,   ///< what `plan` stored
                  *again = nullptr; ///< variable of the loop around
  llvm::DenseMap<mlir::Value, llvm::Value *> buffers;

  // Of a device:
  HostFunctions functions;
  llvm::Value *statusWords = nullptr, *scratch = nullptr, *params = nullptr;
  llvm::DenseMap<mlir::Operation *, unsigned> statusWordOf;
  llvm::StringMap<unsigned> functionNumbers;
};

/// The node a step computes, for messages.
llvm::StringRef getSite(std::optional<mlir::ArrayAttr> origin,
                        llvm::StringRef otherwise);

} // namespace dlc::program

#endif // DLC_LIB_PROGRAM_HOSTEMITTER_H
