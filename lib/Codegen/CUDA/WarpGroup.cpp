// See the header. Products and waits are inline assembly whose outputs are tied
// to their inputs: the dialect's operations have no A in registers, and a wait
// without operands leaves LLVM free to move arithmetic on sums across it.
#include "WarpGroup.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace dlc;

/// Bytes between two groups of eight rows of 128 bytes.
static constexpr int64_t kGroupBytes = kSwizzleAlignment;

Value dlc::matrixDescriptor(OpBuilder &b, Location loc, Value pointer,
                            int64_t runBytes) {
  // Fields are multiples of 16 bytes: start, leading and stride offsets, then
  // the swizzle's kind.
  constexpr uint64_t field = 0x3fff, swizzle128 = uint64_t(1) << 62;
  uint64_t leading = runBytes ? uint64_t(runBytes) / 16 : 1;
  uint64_t rest =
      (leading & field) << 16 | uint64_t(kGroupBytes / 16) << 32 | swizzle128;
  auto constant = [&](uint64_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, b.getI64IntegerAttr(static_cast<int64_t>(value)));
  };
  Value address = LLVM::PtrToIntOp::create(b, loc, b.getI64Type(), pointer);
  Value start = arith::AndIOp::create(
      b, loc, arith::ShRUIOp::create(b, loc, address, constant(4)),
      constant(field));
  return arith::OrIOp::create(b, loc, start, constant(rest));
}

Value dlc::advanceDescriptor(OpBuilder &b, Location loc, Value descriptor,
                             int64_t bytes) {
  if (!bytes)
    return descriptor;
  return arith::AddIOp::create(
      b, loc, descriptor,
      arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(bytes / 16)));
}

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

static StringRef registerOf(Type type) {
  if (type.isF32())
    return "f";
  return type.isInteger(64) ? "l" : "r";
}

/// Assembly that changes `tied`, the operands $0 to $n-1, and reads `inputs`,
/// from $2n on; what `tied` is then.
static SmallVector<Value> assemble(OpBuilder &b, Location loc, StringRef text,
                                   ValueRange tied, ValueRange inputs) {
  SmallVector<std::string> constraints;
  for (Value value : tied)
    constraints.push_back(("=" + registerOf(value.getType())).str());
  for (size_t i = 0; i < tied.size(); ++i)
    constraints.push_back(std::to_string(i));
  for (Value value : inputs)
    constraints.push_back(registerOf(value.getType()).str());
  SmallVector<Value> operands(tied);
  llvm::append_range(operands, inputs);
  SmallVector<Type> types(tied.getTypes());
  Type result;
  if (types.size() == 1)
    result = types.front();
  else if (types.size() > 1)
    result = LLVM::LLVMStructType::getLiteral(b.getContext(), types);
  auto op = LLVM::InlineAsmOp::create(
      b, loc, result ? TypeRange(result) : TypeRange(), operands, text,
      llvm::join(constraints, ","), /*has_side_effects=*/true,
      /*is_align_stack=*/false, LLVM::tailcallkind::TailCallKind::None,
      LLVM::AsmDialectAttr(), ArrayAttr());
  if (types.size() <= 1)
    return SmallVector<Value>(op->getResults());
  SmallVector<Value> parts;
  for (int64_t i = 0; i < static_cast<int64_t>(types.size()); ++i)
    parts.push_back(LLVM::ExtractValueOp::create(b, loc, op->getResult(0), i));
  return parts;
}

/// As wgmma's text has it, behind the shape: how many steps of the fold, then
/// the types of sums and factors.
static std::string typesOf(const WarpGroupProduct &product) {
  auto byteType = [](Type type) -> std::string {
    return type.isUnsignedInteger() ? "u8" : "s8";
  };
  if (product.left.isF16())
    return "k16.f32.f16.f16";
  if (product.left.isBF16())
    return "k16.f32.bf16.bf16";
  if (product.left.isF32())
    return "k8.f32.tf32.tf32";
  return "k32.s32." + byteType(product.left) + "." + byteType(product.right);
}

SmallVector<Value> dlc::multiplyWarpGroup(OpBuilder &b, Location loc,
                                          const WarpGroupProduct &product,
                                          ValueRange a, Value right,
                                          ValueRange sums) {
  const size_t count = sums.size();
  auto operand = [&](size_t i) { return "$" + std::to_string(i); };
  auto list = [&](size_t first, size_t end) {
    SmallVector<std::string> all;
    for (size_t i = first; i < end; ++i)
      all.push_back(operand(i));
    return "{" + llvm::join(all, ", ") + "}";
  };
  const size_t firstA = 2 * count, firstB = firstA + a.size();
  bool inRegisters = a.size() > 1;
  bool isHalf = product.left.isF16() || product.left.isBF16();
  // Whether the sums are added to: the predicate is a constant.
  std::string text = "{ .reg .pred p; setp.ne.b32 p, " + operand(firstB + 1) +
                     ", 0; wgmma.mma_async.sync.aligned.m64n" +
                     std::to_string(product.columns) + typesOf(product) + " " +
                     list(0, count) + ", " +
                     (inRegisters ? list(firstA, firstB) : operand(firstA)) +
                     ", " + operand(firstB) + ", p";
  if (isHalf || product.left.isF32())
    text += ", 1, 1"; // signs
  if (isHalf && !inRegisters)
    text += product.transposesLeft ? ", 1" : ", 0";
  if (isHalf)
    text += product.transposesRight ? ", 1" : ", 0";
  text += "; }";
  SmallVector<Value> inputs(a);
  inputs.push_back(right);
  inputs.push_back(arith::ConstantOp::create(
      b, loc, b.getI32IntegerAttr(product.startsAtZero ? 0 : 1)));
  return assemble(b, loc, text, sums, inputs);
}

void dlc::fenceWarpGroup(OpBuilder &b, Location loc) {
  NVVM::WgmmaFenceAlignedOp::create(b, loc);
}

void dlc::commitWarpGroup(OpBuilder &b, Location loc) {
  NVVM::WgmmaGroupSyncAlignedOp::create(b, loc);
}

SmallVector<Value> dlc::waitForWarpGroup(OpBuilder &b, Location loc,
                                         int64_t groups, ValueRange values) {
  return assemble(
      b, loc, "wgmma.wait_group.sync.aligned " + std::to_string(groups) + ";",
      values, {});
}

SmallVector<Value> dlc::keepInPlace(OpBuilder &b, Location loc,
                                    ValueRange values) {
  return assemble(b, loc, "", values, {});
}

void dlc::openGate(OpBuilder &b, Location loc, Value pointer) {
  Value one = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(1));
  LLVM::CallIntrinsicOp::create(
      b, loc, b.getStringAttr("llvm.nvvm.mbarrier.init.shared"),
      ValueRange{pointer, one});
  LLVM::CallIntrinsicOp::create(
      b, loc, b.getI64Type(),
      b.getStringAttr("llvm.nvvm.mbarrier.arrive.shared"), pointer);
}

SmallVector<Value> dlc::passGate(OpBuilder &b, Location loc, Value pointer,
                                 ValueRange values) {
  SmallVector<Value> computed = keepInPlace(b, loc, values);
  scf::WhileOp::create(
      b, loc, TypeRange(), ValueRange(),
      [&](OpBuilder &b, Location loc, ValueRange) {
        Value phase = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
        Value isOver =
            LLVM::CallIntrinsicOp::create(
                b, loc, b.getI1Type(),
                b.getStringAttr("llvm.nvvm.mbarrier.try.wait.parity.scope.cta."
                                "space.cta"),
                ValueRange{pointer, phase})
                .getResult(0);
        Value truth = arith::ConstantOp::create(b, loc, b.getBoolAttr(true));
        scf::ConditionOp::create(
            b, loc, arith::XOrIOp::create(b, loc, isOver, truth), ValueRange());
      },
      [](OpBuilder &b, Location loc, ValueRange) {
        scf::YieldOp::create(b, loc);
      });
  return computed;
}

void dlc::fenceAsyncProxy(OpBuilder &b, Location loc) {
  NVVM::FenceProxyOp::create(
      b, loc, NVVM::ProxyKind::async_shared,
      NVVM::SharedSpaceAttr::get(b.getContext(),
                                 NVVM::SharedSpace::shared_cta));
}
