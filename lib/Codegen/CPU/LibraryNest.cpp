// Code of the nest `library`: a table of pieces, a call of the runtime for each
// and the epilogue over what it has stored.
#include "dlc/Codegen/CPU/LibraryNest.h"

#include "ContractionTask.h"
#include "dlc/Codegen/CPU/ContractionKnobs.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/runtime.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <cstring>

using namespace mlir;

namespace dlc {

class LibraryTask {
public:
  LibraryTask(const ContractionSpec &spec, const LibraryPlan &plan,
              const ContractionSchedule &schedule, const CpuTarget &target,
              const CpuCodegenOptions &options)
      : plan(plan), options(options), task(spec, schedule, target, options) {}

  FailureOr<CpuKernel> emit(std::string &reason);

private:
  void emitSite();
  void emitTable();
  Value entry(unsigned field);
  Value address(unsigned buffer, unsigned offsetField);
  Value call();
  void emitFinish(const Value &done);
  OpBuilder &b() { return task.function->builder(); }
  Location loc() { return task.function->loc(); }
  IndexBuilder &index() { return *task.index; }

  const LibraryPlan &plan;
  const CpuCodegenOptions &options;
  ContractionTask task;
  Value table;
};

} // namespace dlc

using namespace dlc;

std::string dlc::librarySiteOf(StringRef kernelSymbol) {
  return (kernelSymbol + "_external").str();
}

// Fields of a piece in the table.
enum Field : unsigned {
  kProblem,
  kSrc,
  kWeights,
  kDst,
  kOuter,
  kFirstRow,
  kRows,
  kFirstColumn,
  kColumns,
  kNumFields
};

/// The dlc_external_site and what it points to.
void LibraryTask::emitSite() {
  OpBuilder b(task.spec.context());
  Location loc = task.module->getLoc();
  b.setInsertionPointToEnd(task.module->getBody());
  Type i64 = b.getI64Type();
  Type pointer = LLVM::LLVMPointerType::get(b.getContext());
  std::string site = librarySiteOf(options.symbol);
  auto define = [&](Type type, const Twine &name, Attribute value) {
    return LLVM::GlobalOp::create(b, loc, type, /*isConstant=*/true,
                                  LLVM::Linkage::Internal, name.str(), value,
                                  /*alignment=*/8);
  };
  std::string text = options.symbol + '\0';
  auto name = define(LLVM::LLVMArrayType::get(b.getI8Type(), text.size()),
                     site + ".name", b.getStringAttr(text));
  SmallVector<int64_t> words;
  for (const dlc_external_problem &problem : plan.problems) {
    constexpr size_t count = sizeof problem / sizeof(int64_t);
    words.resize(words.size() + count);
    std::memcpy(words.end() - count, &problem, sizeof problem);
  }
  auto problems =
      define(LLVM::LLVMArrayType::get(i64, words.size()), site + ".problems",
             DenseElementsAttr::get(
                 RankedTensorType::get({int64_t(words.size())}, i64),
                 ArrayRef(words)));
  Type type = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {pointer, pointer, i64, i64, pointer});
  auto global =
      LLVM::GlobalOp::create(b, loc, type, /*isConstant=*/false,
                             LLVM::Linkage::External, site, Attribute(), 8);
  global.setVisibility_(LLVM::Visibility::Hidden);
  Block *block = b.createBlock(&global.getInitializerRegion());
  b.setInsertionPointToStart(block);
  Value value = LLVM::UndefOp::create(b, loc, type);
  auto number = [&](int64_t n) -> Value {
    return LLVM::ConstantOp::create(b, loc, i64, b.getI64IntegerAttr(n));
  };
  Value fields[] = {LLVM::AddressOfOp::create(b, loc, name),
                    LLVM::AddressOfOp::create(b, loc, problems),
                    number(int64_t(plan.problems.size())),
                    number(plan.constantWeights),
                    LLVM::ZeroOp::create(b, loc, pointer)};
  for (auto [i, field] : llvm::enumerate(fields))
    value = LLVM::InsertValueOp::create(b, loc, value, field, int64_t(i));
  LLVM::ReturnOp::create(b, loc, value);

  b.setInsertionPointToEnd(task.module->getBody());
  auto run = func::FuncOp::create(
      b, loc, "dlc_external_run",
      b.getFunctionType({pointer, i64, pointer, pointer, pointer},
                        {b.getI32Type()}));
  run.setPrivate();
}

void LibraryTask::emitTable() {
  OpBuilder b(task.spec.context());
  Location loc = task.module->getLoc();
  b.setInsertionPointToEnd(task.module->getBody());
  SmallVector<int64_t> words;
  for (const LibraryPlan::Piece &p : plan.pieces)
    words.append({p.problem, p.src, p.weights, p.dst, p.outer, p.firstRow,
                  p.rows, p.firstColumn, p.columns});
  auto type = MemRefType::get({int64_t(words.size())}, b.getI64Type());
  memref::GlobalOp::create(
      b, loc, options.symbol + "_pieces", b.getStringAttr("private"), type,
      DenseElementsAttr::get(
          RankedTensorType::get(type.getShape(), b.getI64Type()),
          ArrayRef(words)),
      /*constant=*/true, IntegerAttr());
}

/// A field of this task's piece.
Value LibraryTask::entry(unsigned field) {
  Value at = index().add(
      index().mul(task.function->task(), int64_t(kNumFields)), int64_t(field));
  Value word = memref::LoadOp::create(b(), loc(), table, at);
  return arith::IndexCastOp::create(b(), loc(), b().getIndexType(), word);
}

/// Of an element of a buffer.
Value LibraryTask::address(unsigned buffer, unsigned offsetField) {
  Value memory = task.function->buffer(buffer);
  unsigned bytes =
      cast<MemRefType>(memory.getType()).getElementTypeBitWidth() / 8;
  Value base =
      memref::ExtractAlignedPointerAsIndexOp::create(b(), loc(), memory);
  Value place = index().add(base, index().mul(entry(offsetField), bytes));
  Value number =
      arith::IndexCastOp::create(b(), loc(), b().getI64Type(), place);
  return LLVM::IntToPtrOp::create(
      b(), loc(), LLVM::LLVMPointerType::get(b().getContext()), number);
}

/// i1: the sums lie in the result.
Value LibraryTask::call() {
  Type pointer = LLVM::LLVMPointerType::get(b().getContext());
  Value site = LLVM::AddressOfOp::create(b(), loc(), pointer,
                                         librarySiteOf(options.symbol));
  Value problem =
      arith::IndexCastOp::create(b(), loc(), b().getI64Type(), entry(kProblem));
  auto called = func::CallOp::create(
      b(), loc(), "dlc_external_run", TypeRange{b().getI32Type()},
      ValueRange{site, problem, address(plan.src, kSrc),
                 address(plan.weights, kWeights),
                 address(task.resultBuffer(plan.result), kDst)});
  Value zero = arith::ConstantOp::create(b(), loc(), b().getI32IntegerAttr(0));
  return arith::CmpIOp::create(b(), loc(), arith::CmpIPredicate::eq,
                               called.getResult(0), zero);
}

/// The epilogue over the piece, or the status.
void LibraryTask::emitFinish(const Value &done) {
  bool hasEpilogue = task.spec.hasEpilogue();
  auto branch = scf::IfOp::create(b(), loc(), done, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b());
  b().setInsertionPointToStart(branch.elseBlock());
  Value code = arith::ConstantOp::create(
      b(), loc(), b().getI32IntegerAttr(DLC_DATA_EXTERNAL));
  memref::StoreOp::create(b(), loc(), code, task.function->status(),
                          index().constant(0));
  if (!hasEpilogue)
    return;
  b().setInsertionPointToStart(branch.thenBlock());
  SmallVector<Value> extents;
  for (unsigned axis : task.spec.outer)
    extents.push_back(task.symbolic(task.spec.space.extents[axis]));
  SmallVector<Value> outer = index().delinearize(entry(kOuter), extents);
  for (auto [axis, value] : llvm::zip_equal(task.spec.outer, outer))
    task.axes[axis] = value;
  task.out = task.function->buffer(task.resultBuffer(plan.result));
  task.outRow = task.resultRow;
  Value place = entry(kDst);
  task.callEpilogue(place, place, entry(kFirstRow), entry(kFirstColumn),
                    entry(kRows), entry(kColumns));
}

FailureOr<CpuKernel> LibraryTask::emit(std::string &reason) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = kLibraryNest.str();
  MLIRContext *context = task.spec.context();
  loadCpuDialects(*context);
  graph::KernelOp kernel = task.kernel;
  task.module = ModuleOp::create(kernel.getLoc());
  task.sumsResult = plan.result;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      task.bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  emitSite();
  emitTable();
  if (task.spec.hasEpilogue() && failed(task.emitEpilogue(reason)))
    return failure();
  // The library writes what LLVM would take to be unchanged.
  task.function.emplace(*task.module, options.symbol, task.bufferTypes,
                        kernel.getNumSymbols(), /*noalias=*/false);
  task.index.emplace(b(), loc());
  task.symbols = task.function->symbols();
  task.axes.assign(task.spec.space.extents.size(), index().constant(0));
  task.resultRow =
      task.spec.rows.empty()
          ? index().constant(0)
          : task.symbolic(task.spec.resultStrides[task.spec.rows.back()]);
  auto type = MemRefType::get({int64_t(plan.pieces.size()) * kNumFields},
                              b().getI64Type());
  table =
      memref::GetGlobalOp::create(b(), loc(), type, options.symbol + "_pieces");
  emitFinish(call());
  task.function->finish();
  result.phases.push_back(
      {options.symbol,
       getAffineConstantExpr(int64_t(plan.pieces.size()), context)});
  result.scratchBytes = getAffineConstantExpr(0, context);
  result.module = std::move(task.module);
  return result;
}

FailureOr<CpuKernel> dlc::emitLibrary(graph::KernelOp kernel,
                                      const CpuTarget &target,
                                      const CpuCodegenOptions &options,
                                      std::string &reason) {
  auto spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return failure();
  int64_t pieces = 1;
  if (DictionaryAttr attr = kernel.getScheduleAttr())
    if (auto number = attr.getAs<IntegerAttr>("pieces"))
      pieces = number.getInt();
  auto plan = planLibrary(*spec, options, pieces, reason);
  if (failed(plan))
    return failure();
  ContractionSchedule schedule = baseSchedule(target.desc(), spec->accumulator);
  return LibraryTask(*spec, *plan, schedule, target, options).emit(reason);
}
