// What `execute` does to state: new rows behind those in use, and rows in the
// places that numbers tell.
#include "HostEmitter.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

// `body` for i in [0, count), in a function of its own.
void HostEmitter::emitCounted(llvm::Function *function, llvm::Value *count,
                              llvm::function_ref<void(llvm::Value *)> body) {
  llvm::BasicBlock *entry = b.GetInsertBlock();
  auto make = [&] {
    return llvm::BasicBlock::Create(module.getContext(), "", function);
  };
  llvm::BasicBlock *head = make(), *inside = make(), *done = make();
  b.CreateBr(head);
  b.SetInsertPoint(head);
  llvm::PHINode *i = b.CreatePHI(i64(), 2);
  i->addIncoming(b.getInt64(0), entry);
  b.CreateCondBr(b.CreateICmpSLT(i, count), inside, done);
  b.SetInsertPoint(inside);
  body(i);
  i->addIncoming(b.CreateAdd(i, b.getInt64(1)), b.GetInsertBlock());
  b.CreateBr(head);
  b.SetInsertPoint(done);
}

// void copy_runs(state, source, runs, bytes, room): `runs` times `bytes` bytes,
// which lie one after the other in the source and `room` bytes apart in state.
llvm::Function *HostEmitter::emitCopyRuns() {
  llvm::IRBuilder<>::InsertPointGuard guard(b);
  auto *function = llvm::Function::Create(
      llvm::FunctionType::get(b.getVoidTy(),
                              {ptr(), ptr(), i64(), i64(), i64()}, false),
      llvm::GlobalValue::InternalLinkage, prefix + "_copy_runs", module);
  function->setDoesNotThrow();
  enter(function);
  emitCounted(function, function->getArg(2), [&](llvm::Value *i) {
    auto place = [&](unsigned base, unsigned stride) {
      return b.CreateGEP(b.getInt8Ty(), function->getArg(base),
                         b.CreateMul(i, function->getArg(stride)));
    };
    b.CreateMemCpy(place(0, 4), llvm::MaybeAlign(1), place(1, 3),
                   llvm::MaybeAlign(1), function->getArg(3));
  });
  b.CreateRetVoid();
  return function;
}

void HostEmitter::emitAppend(AppendOp append) {
  if (!copyRuns)
    copyRuns = emitCopyRuns();
  SmallVector<llvm::Value *> size;
  for (AffineExpr expr : append.getSizes().getResults())
    size.push_back(sizes.emit(expr));
  llvm::Value *place =
      b.CreateGEP(b.getInt8Ty(), getBuffer(append.getState()), size[2]);
  b.CreateCall(copyRuns, {place, getBuffer(append.getSource()), size[0],
                          size[1], size[3]});
}

// i1 copy_rows(state, source, positions, count, rows, bytes): `count` rows of
// `bytes` bytes to the places of `positions`, of which negative ones count from
// the end. True, and nothing copied, when one of them is no row's.
llvm::Function *HostEmitter::emitCopyRows() {
  llvm::IRBuilder<>::InsertPointGuard guard(b);
  auto *function = llvm::Function::Create(
      llvm::FunctionType::get(
          b.getInt1Ty(), {ptr(), ptr(), ptr(), i64(), i64(), i64()}, false),
      llvm::GlobalValue::InternalLinkage, prefix + "_copy_rows", module);
  function->setDoesNotThrow();
  enter(function);
  llvm::Value *count = function->getArg(3), *rows = function->getArg(4),
              *bytes = function->getArg(5);
  auto rowOf = [&](llvm::Value *i) {
    llvm::Value *given =
        b.CreateLoad(i64(), b.CreateGEP(i64(), function->getArg(2), i));
    return b.CreateSelect(b.CreateICmpSLT(given, b.getInt64(0)),
                          b.CreateAdd(given, rows), given);
  };
  llvm::Value *isWrong = b.CreateAlloca(b.getInt1Ty());
  b.CreateStore(b.getFalse(), isWrong);
  emitCounted(function, count, [&](llvm::Value *i) {
    // A negative row is a large unsigned one.
    llvm::Value *outside = b.CreateICmpUGE(rowOf(i), rows);
    b.CreateStore(b.CreateOr(b.CreateLoad(b.getInt1Ty(), isWrong), outside),
                  isWrong);
  });
  llvm::Value *result = b.CreateLoad(b.getInt1Ty(), isWrong);
  llvm::Value *copied = b.CreateSelect(result, b.getInt64(0), count);
  emitCounted(function, copied, [&](llvm::Value *i) {
    auto place = [&](unsigned base, llvm::Value *row) {
      return b.CreateGEP(b.getInt8Ty(), function->getArg(base),
                         b.CreateMul(row, bytes));
    };
    b.CreateMemCpy(place(0, rowOf(i)), llvm::MaybeAlign(1), place(1, i),
                   llvm::MaybeAlign(1), bytes);
  });
  b.CreateRet(result);
  return function;
}

void HostEmitter::emitUpdate(UpdateOp update) {
  if (!copyRows)
    copyRows = emitCopyRows();
  SmallVector<llvm::Value *> arguments = {getBuffer(update.getState()),
                                          getBuffer(update.getSource()),
                                          getBuffer(update.getPositions())};
  for (AffineExpr expr : update.getSizes().getResults())
    arguments.push_back(sizes.emit(expr));
  llvm::Value *isWrong = b.CreateCall(copyRows, arguments);
  llvm::Value *status = at(exec, offsetof(dlc_exec, status));
  b.CreateStore(b.CreateSelect(isWrong, b.getInt32(DLC_DATA_INDEX_OUT_OF_RANGE),
                               b.CreateLoad(b.getInt32Ty(), status)),
                status);
  emitStop(isWrong, getSite(update.getOrigin(), "a cache that is updated"),
           DLC_DATA_ERROR);
}
