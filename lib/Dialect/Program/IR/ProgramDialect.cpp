// Registration and verifiers of the program dialect.
#include "dlc/Dialect/Program/IR/Program.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

#include "dlc/Dialect/Program/IR/ProgramDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dlc/Dialect/Program/IR/ProgramTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dlc/Dialect/Program/IR/ProgramOps.cpp.inc"

void ProgramDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dlc/Dialect/Program/IR/ProgramTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dlc/Dialect/Program/IR/ProgramOps.cpp.inc"
      >();
}

AffineMapAttr program::makeSize(AffineExpr bytes, unsigned numSymbols) {
  return AffineMapAttr::get(AffineMap::get(0, numSymbols, bytes));
}

//===----------------------------------------------------------------------===//
// ModelOp and KernelOp
//===----------------------------------------------------------------------===//

std::array<int64_t, 3> ModelOp::getRange(unsigned i) {
  if (!getRanges())
    return {0, std::numeric_limits<int64_t>::max(), 1};
  auto range = cast<DenseI64ArrayAttr>((*getRanges())[i]);
  return {range[0], range[1], range[2]};
}

LogicalResult ModelOp::verify() {
  if (ArrayAttr ranges = getRangesAttr()) {
    if (ranges.size() != getNumSymbols())
      return emitOpError("has ") << getNumSymbols() << " symbols and "
                                 << ranges.size() << " ranges";
    for (Attribute attr : ranges) {
      auto range = dyn_cast<DenseI64ArrayAttr>(attr);
      if (!range || range.size() != 3 || range[0] < 0 || range[0] > range[2] ||
          range[2] > range[1])
        return emitOpError("ranges are triples 0 <= smallest <= typical <= "
                           "largest, in the order smallest, largest, "
                           "typical");
    }
  }
  int64_t inputs = 0, outputs = 0;
  WalkResult walk = getBody().walk([&](Operation *op) {
    if (op->getName().getDialectNamespace() ==
            ProgramDialect::getDialectNamespace() &&
        !isa<ModelOp, KernelOp>(op))
      return WalkResult::advance();
    op->emitOpError("may not stand in a program.model");
    return WalkResult::interrupt();
  });
  if (walk.wasInterrupted())
    return failure();
  for (Operation &op : *getBlock()) {
    if (auto input = dyn_cast<InputOp>(op);
        input && static_cast<int64_t>(input.getIndex()) != inputs++)
      return op.emitOpError("is input ")
             << input.getIndex() << ", expected " << inputs - 1;
    if (auto output = dyn_cast<OutputOp>(op);
        output && static_cast<int64_t>(output.getIndex()) != outputs++)
      return op.emitOpError("is output ")
             << output.getIndex() << ", expected " << outputs - 1;
  }
  return success();
}

LogicalResult KernelOp::verify() {
  size_t counts = getTasks() ? getTasks()->getNumResults() : 0;
  if (counts != getPhases().size())
    return emitOpError("has ")
           << getPhases().size() << " phases and " << counts << " task counts";
  if (getThreads() && getThreads()->size() != counts)
    return emitOpError("has ") << counts << " launches and "
                               << getThreads()->size() << " sizes of blocks";
  if (getShared() && getShared()->size() != counts)
    return emitOpError("has ")
           << counts << " launches and " << getShared()->size()
           << " sizes of shared memory";
  for (std::optional<AffineMap> map :
       {getTasks(), getScratch(), getSize(), getBuffers()})
    if (map && (map->getNumDims() != 0 ||
                map->getNumSymbols() > static_cast<unsigned>(getNumSymbols())))
      return emitOpError("task counts, scratch and size are expressions of the "
                         "kernel's ")
             << getNumSymbols() << " symbols";
  size_t variants = getVariants() ? getVariants()->size() : 0,
         limits = getLimits() ? getLimits()->size() : 0;
  if (variants != limits || (variants > 0) != getSize().has_value())
    return emitOpError("has ")
           << variants << " variants, " << limits << " limits and "
           << (getSize() ? "a" : "no") << " size that chooses";
  if (limits && (!llvm::is_sorted(*getLimits(), std::less_equal<int64_t>()) ||
                 getSize()->getNumResults() != 1))
    return emitOpError("chooses by one size, between ascending limits");
  if (getPitches() && getPitches()->size() != 2 * (getNumArgs() + getNumOuts()))
    return emitOpError("has ")
           << getPitches()->size() << " numbers for the runs of "
           << getNumArgs() + getNumOuts() << " tensors";
  ArrayRef<int64_t> pairs = getInPlace().value_or(ArrayRef<int64_t>());
  if (pairs.size() % 2 != 0)
    return emitOpError("in_place is no list of pairs");
  for (size_t i = 0; i < pairs.size(); i += 2)
    if (pairs[i] < 0 || pairs[i] >= static_cast<int64_t>(getNumArgs()) ||
        pairs[i + 1] < 0 || pairs[i + 1] >= static_cast<int64_t>(getNumOuts()))
      return emitOpError("in_place names operand ")
             << pairs[i] << " and result " << pairs[i + 1]
             << ", which it has not";
  return success();
}

LogicalResult KernelOp::verifySymbolUses(SymbolTableCollection &tables) {
  if (!getVariants())
    return success();
  for (auto name : getVariants()->getAsRange<FlatSymbolRefAttr>()) {
    auto variant = tables.lookupNearestSymbolFrom<KernelOp>(*this, name);
    if (!variant)
      return emitOpError("no kernel '") << name.getValue() << "'";
    if (variant.getVariants())
      return emitOpError("variant '")
             << name.getValue() << "' has variants itself";
    if (variant.getNumArgs() != getNumArgs() ||
        variant.getNumOuts() != getNumOuts() ||
        variant.getNumSymbols() != getNumSymbols() ||
        variant.getCanFail() != getCanFail())
      return emitOpError("variant '")
             << name.getValue() << "' is called in another way";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Buffers and steps
//===----------------------------------------------------------------------===//

// A size may use the model's symbols only.
static LogicalResult verifySize(Operation *op, AffineMap size,
                                unsigned results = 1) {
  if (size.getNumResults() != results)
    return op->emitOpError("size is ")
           << (results == 1 ? "one expression" : "an expression each")
           << ", got " << size.getNumResults();
  unsigned symbols = op->getParentOfType<ModelOp>().getNumSymbols();
  if (size.getNumDims() != 0 || size.getNumSymbols() > symbols)
    return op->emitOpError("size uses ")
           << size.getNumSymbols() << " symbols, the model has " << symbols;
  return success();
}

LogicalResult AllocOp::verify() {
  if (getOffset() && getSlot())
    return emitOpError("has an offset or a slot, not both");
  if (getOffset() && *getOffset() % kAlignment != 0)
    return emitOpError("offset ")
           << *getOffset() << " is not a multiple of " << kAlignment;
  return verifySize(*this, getSize());
}

LogicalResult SliceOp::verify() {
  if (!isa_and_nonnull<AllocOp, OutputOp>(getWhole().getDefiningOp()))
    return emitOpError("is a part of what is no buffer or output");
  auto offset = int64_t(getOffset()), run = int64_t(getRun()),
       pitch = int64_t(getPitch()), count = int64_t(getCount());
  if (offset < 0 || run <= 0 || count <= 0 || pitch < run)
    return emitOpError("has no runs, or runs that overlap");
  auto alloc = getWhole().getDefiningOp<AllocOp>();
  if (!alloc)
    return success();
  auto size = dyn_cast<AffineConstantExpr>(alloc.getSize().getResult(0));
  if (!size || offset + (count - 1) * pitch + run > size.getValue())
    return emitOpError("ends behind the buffer, or that has no constant size");
  return success();
}

// Inputs and constants are read-only.
static LogicalResult verifyWritten(Operation *op, Value buffer) {
  Operation *source = buffer.getDefiningOp();
  if (!source) { // of a loop: what it reads comes first
    auto arg = cast<BlockArgument>(buffer);
    auto loop = cast<LoopOp>(arg.getOwner()->getParentOp());
    if (arg.getArgNumber() < loop.getNumCarried())
      return op->emitOpError("writes the current buffer of a carried tensor");
    return success();
  }
  if (!isa<OutputOp, AllocOp, SliceOp>(source))
    return op->emitOpError("writes the buffer of a ") << source->getName();
  return success();
}

LogicalResult BindOp::verify() {
  unsigned symbols = (*this)->getParentOfType<ModelOp>().getNumSymbols();
  if (getSymbol() >= symbols)
    return emitOpError("binds symbol ")
           << getSymbol() << ", the model has " << symbols;
  return verifySize(*this, getBound());
}

LogicalResult SetOp::verify() {
  unsigned symbols = (*this)->getParentOfType<ModelOp>().getNumSymbols(),
           count = getSymbols().size();
  for (int64_t symbol : getSymbols())
    if (symbol < 0 || symbol >= symbols)
      return emitOpError("sets symbol ")
             << symbol << ", the model has " << symbols;
  if (failed(verifySize(*this, getValues(), count)))
    return failure();
  return verifySize(*this, getBounds(), count);
}

LogicalResult LoopOp::verify() {
  unsigned carried = getNumCarried(), stacked = getStacked().size();
  if (getNext().size() != carried || getNumResults() != carried ||
      getBody().getNumArguments() != 2 * carried + stacked)
    return emitOpError("has ")
           << carried << " carried tensors and " << stacked << " stacks, "
           << getNext().size() << " next buffers, " << getNumResults()
           << " results and " << getBody().getNumArguments() << " arguments";
  for (auto range : {getNext(), getCurrent(), getStacked()})
    for (Value buffer : range)
      if (failed(verifyWritten(*this, buffer)))
        return failure();
  if (getIteration() && failed(verifyWritten(*this, getIteration())))
    return failure();
  if (stacked &&
      (!getStrides() || failed(verifySize(*this, *getStrides(), stacked))))
    return emitOpError("has ") << stacked << " stacks without strides";
  if (getCount().has_value() != getCountBound().has_value())
    return emitOpError("has a count and its bound, or neither");
  for (std::optional<AffineMap> one : {getTrips(), getGuard(), getCountBound()})
    if (one && failed(verifySize(*this, *one)))
      return failure();
  return success();
}

LogicalResult RequireOp::verify() {
  if (failed(verifySize(*this, getLeft())))
    return failure();
  return verifySize(*this, getRight());
}

LogicalResult CopyOp::verify() {
  if (failed(verifyWritten(*this, getTarget())))
    return failure();
  return verifySize(*this, getSize());
}

static bool isState(Value buffer) {
  auto input = buffer.getDefiningOp<InputOp>();
  return input && input->hasAttr(kStateAttr);
}

LogicalResult AppendOp::verify() {
  if (!isState(getState()))
    return emitOpError("writes an input that is no state");
  return verifySize(*this, getSizes(), 4);
}

LogicalResult UpdateOp::verify() {
  if (!isState(getState()))
    return emitOpError("writes an input that is no state");
  return verifySize(*this, getSizes(), 3);
}

LogicalResult CallOp::verify() {
  for (Value result : getOuts())
    if (failed(verifyWritten(*this, result)))
      return failure();
  unsigned symbols = (*this)->getParentOfType<ModelOp>().getNumSymbols();
  if (getActual() && (getActual()->getNumDims() != 0 ||
                      getActual()->getNumSymbols() > symbols))
    return emitOpError("symbols use ") << getActual()->getNumSymbols()
                                       << " symbols, the model has " << symbols;
  return success();
}

LogicalResult CallOp::verifySymbolUses(SymbolTableCollection &tables) {
  auto kernel = tables.lookupNearestSymbolFrom<KernelOp>(
      (*this)->getParentOfType<ModelOp>(), getCalleeAttr());
  if (!kernel)
    return emitOpError("no kernel '") << getCallee() << "'";
  size_t symbols = getActual() ? getActual()->getNumResults() : 0;
  if (getArgs().size() != kernel.getNumArgs() ||
      getOuts().size() != kernel.getNumOuts() ||
      symbols != kernel.getNumSymbols())
    return emitOpError("has ")
           << getArgs().size() << " operands, " << getOuts().size()
           << " results and " << symbols << " symbols, the kernel "
           << kernel.getNumArgs() << ", " << kernel.getNumOuts() << " and "
           << kernel.getNumSymbols();
  return success();
}
