// Branches, loops, and symbols that get their values on the way.
//
// Sizes are emitted once and used again (SizeCode), which holds along a
// straight line only: a region begins with what was known before it, less what
// depends on symbols that the run changes, and what it finds out ends with it.
#include "HostEmitter.h"

#include <cstddef>

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

// Stack memory, of the whole function: a loop must not take more in every
// iteration.
llvm::Value *HostEmitter::makeVariable(llvm::Type *type) {
  llvm::IRBuilder<> entry(&execute->getEntryBlock(),
                          execute->getEntryBlock().begin());
  return entry.CreateAlloca(type);
}

llvm::Value *HostEmitter::loadBool(Value buffer, StringRef site) {
  llvm::Value *byte = readScalar(b.getInt8Ty(), buffer, site);
  return b.CreateICmpNE(byte, b.getInt8(0));
}

llvm::Value *HostEmitter::readScalar(llvm::Type *type, Value buffer,
                                     StringRef site) {
  if (!onDevice)
    return b.CreateLoad(type, getBuffer(buffer));
  llvm::Value *variable = makeVariable(type);
  int64_t bytes = module.getDataLayout().getTypeStoreSize(type);
  callRuntime("dlc_device_read",
              {exec, variable, getBuffer(buffer), b.getInt64(bytes)}, site);
  return b.CreateLoad(type, variable);
}

void HostEmitter::writeScalar(llvm::Value *value, Value buffer) {
  if (onDevice)
    callRuntime("dlc_device_store", {exec, getBuffer(buffer), value}, "");
  else
    b.CreateStore(value, getBuffer(buffer));
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

// Returns `result` where `condition` holds; `site` may be empty.
void HostEmitter::emitStop(llvm::Value *condition, StringRef site,
                           llvm::Value *result) {
  llvm::BasicBlock *stop = makeBlock("stop"), *next = makeBlock("");
  b.CreateCondBr(condition, stop, next);
  b.SetInsertPoint(stop);
  if (!site.empty())
    b.CreateStore(b.CreateGlobalString(site, prefix + "_site"),
                  at(exec, offsetof(dlc_exec, site)));
  b.CreateRet(result);
  b.SetInsertPoint(next);
}

// A size in the data is not one that was possible.
void HostEmitter::emitDataStop(llvm::Value *condition,
                               std::optional<ArrayAttr> origin) {
  llvm::Value *status = at(exec, offsetof(dlc_exec, status));
  b.CreateStore(b.CreateSelect(condition, b.getInt32(DLC_DATA_BAD_SHAPE_VALUE),
                               b.CreateLoad(b.getInt32Ty(), status)),
                status);
  emitStop(condition, getSite(origin, "size of an output"), DLC_DATA_ERROR);
}

void HostEmitter::emitExpect(ExpectOp expect) {
  emitDataStop(b.CreateNot(loadBool(expect.getCondition(),
                                    getSite(expect.getOrigin(), ""))),
               expect.getOrigin());
}

//===----------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------===//

void HostEmitter::storeSymbol(unsigned symbol, llvm::Value *value) {
  b.CreateStore(value, at(symbols, symbol * sizeof(int64_t)));
}

void HostEmitter::forgetDataSizes() {
  sizes.forget([&](AffineExpr expr) { return data.dependsOnData(expr); });
}

// Reads a size from the data into the run's symbols.
void HostEmitter::emitBind(BindOp bind) {
  llvm::Value *value =
      readScalar(i64(), bind.getCount(), getSite(bind.getOrigin(), ""));
  llvm::Value *bound = sizes.emit(getSize(bind.getBound()));
  emitDataStop(b.CreateICmpUGT(value, bound), bind.getOrigin());
  forgetDataSizes();
  storeSymbol(bind.getSymbol(), value);
}

void HostEmitter::emitSet(SetOp set) {
  SmallVector<llvm::Value *> values;
  llvm::Value *isWrong = b.getFalse();
  for (auto [value, bound] : llvm::zip_equal(set.getValues().getResults(),
                                             set.getBounds().getResults())) {
    values.push_back(sizes.emit(value));
    isWrong =
        b.CreateOr(isWrong, b.CreateICmpUGT(values.back(), sizes.emit(bound)));
  }
  emitDataStop(isWrong, set.getOrigin());
  forgetDataSizes();
  for (auto [symbol, value] : llvm::zip_equal(set.getSymbols(), values))
    storeSymbol(symbol, value);
}

//===----------------------------------------------------------------------===//
// Regions
//===----------------------------------------------------------------------===//

void HostEmitter::emitRegion(Region &region) {
  SizeCode::Known before = sizes.getKnown();
  forgetDataSizes();
  emitBlock(region.front());
  sizes.setKnown(std::move(before));
  forgetDataSizes();
}

void HostEmitter::emitIf(IfOp op) {
  llvm::BasicBlock *isTrue = makeBlock("then"), *isFalse = makeBlock("else"),
                   *next = makeBlock("");
  b.CreateCondBr(loadBool(op.getCondition()), isTrue, isFalse);
  b.SetInsertPoint(isTrue);
  emitRegion(op.getThenRegion());
  b.CreateBr(next);
  b.SetInsertPoint(isFalse);
  emitRegion(op.getElseRegion());
  b.CreateBr(next);
  b.SetInsertPoint(next);
}

// The number of iterations that are allowed.
llvm::Value *HostEmitter::emitLimit(LoopOp op) {
  llvm::Value *limit = b.getInt64(INT64_MAX);
  auto atMost = [&](llvm::Value *other) {
    limit = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, limit, other);
  };
  if (op.getTrips())
    atMost(sizes.emit(getSize(*op.getTrips())));
  if (op.getLimit())
    atMost(readScalar(i64(), op.getLimit(), getSite(op.getOrigin(), "")));
  return limit;
}

void HostEmitter::emitLoop(LoopOp op) {
  unsigned carried = op.getNumCarried();
  llvm::Value *limit = emitLimit(op);
  llvm::Value *guard =
      op.getGuard() ? sizes.emit(getSize(*op.getGuard())) : nullptr;
  llvm::Value *counter = makeVariable(i64());
  b.CreateStore(b.getInt64(0), counter);
  llvm::Value *outerAgain = again;
  again = makeVariable(b.getInt1Ty());
  b.CreateStore(op.getCondition() ? loadBool(op.getCondition()) : b.getTrue(),
                again);
  // Variables: the two buffers change places.
  SmallVector<llvm::Value *> current, next;
  for (unsigned i = 0; i < carried; ++i) {
    current.push_back(makeVariable(ptr()));
    next.push_back(makeVariable(ptr()));
    b.CreateStore(getBuffer(op.getCurrent()[i]), current.back());
    b.CreateStore(getBuffer(op.getNext()[i]), next.back());
  }
  llvm::BasicBlock *head = makeBlock("loop"), *body = makeBlock("body"),
                   *done = makeBlock("");
  b.CreateBr(head);
  b.SetInsertPoint(head);
  llvm::Value *i = b.CreateLoad(i64(), counter);
  b.CreateCondBr(b.CreateAnd(b.CreateLoad(b.getInt1Ty(), again),
                             b.CreateICmpSLT(i, limit)),
                 body, done);
  b.SetInsertPoint(body);
  if (guard)
    emitDataStop(b.CreateICmpSGE(i, guard), op.getOrigin());
  if (op.getIteration())
    writeScalar(i, op.getIteration());
  for (unsigned k = 0; k < carried; ++k) {
    buffers[op.getCurrentArgument(k)] = b.CreateLoad(ptr(), current[k]);
    buffers[op.getNextArgument(k)] = b.CreateLoad(ptr(), next[k]);
  }
  for (auto [k, stack] : llvm::enumerate(op.getStacked())) {
    // Known in this block only.
    SizeCode::Known before = sizes.getKnown();
    llvm::Value *stride = sizes.emit(op.getStrides()->getResult(k));
    sizes.setKnown(std::move(before));
    buffers[op.getSliceArgument(k)] =
        b.CreateGEP(b.getInt8Ty(), getBuffer(stack), b.CreateMul(stride, i));
  }
  emitRegion(op.getBody());
  for (unsigned k = 0; k < carried; ++k) {
    b.CreateStore(getBuffer(op.getNextArgument(k)), current[k]);
    b.CreateStore(getBuffer(op.getCurrentArgument(k)), next[k]);
  }
  b.CreateStore(b.CreateAdd(i, b.getInt64(1)), counter);
  b.CreateBr(head);
  b.SetInsertPoint(done);
  again = outerAgain;
  for (unsigned k = 0; k < carried; ++k)
    buffers[op.getResult(k)] = b.CreateLoad(ptr(), current[k]);
  if (op.getCount())
    storeSymbol(*op.getCount(), i);
}
