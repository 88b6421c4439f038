// Kernel functions: what a body gets from the frame, and what an object shows.
#include "dlc/Codegen/Common/KernelFunction.h"
#include "KernelHarness.h"
#include "dlc/Codegen/Common/IndexBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/Object/ObjectFile.h"

#include <gtest/gtest.h>

using namespace dlc;
using namespace dlc::test;
using namespace mlir;

namespace {

class KernelFunction : public ::testing::Test {
protected:
  void SetUp() override { setUp(context); }
  MLIRContext context;
};

/// out[task] = in[task] + symbol 1 + 100 * scratch word 2, which it sets to the
/// task's number first; status becomes symbol 0.
CpuKernel makeKernel(MLIRContext &context) {
  CpuKernel kernel;
  kernel.symbol = "probe";
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  Type i32 = IntegerType::get(&context, 32);
  KernelFunctionBuilder function(*module, "probe", {i32, i32}, 2);
  OpBuilder &b = function.builder();
  Location loc = function.loc();
  IndexBuilder index(b, loc);
  auto toI32 = [&](Value v) -> Value {
    return arith::IndexCastOp::create(b, loc, i32, v);
  };
  Value scratch = function.scratchView(i32, index.constant(64));
  memref::StoreOp::create(b, loc, toI32(function.task()), scratch,
                          index.constant(2));
  Value in =
      memref::LoadOp::create(b, loc, function.buffer(0), function.task());
  Value word = memref::LoadOp::create(b, loc, scratch, index.constant(2));
  Value hundred = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(100));
  Value sum = arith::AddIOp::create(
      b, loc, arith::AddIOp::create(b, loc, in, toI32(function.symbol(1))),
      arith::MulIOp::create(b, loc, word, hundred));
  memref::StoreOp::create(b, loc, sum, function.buffer(1), function.task());
  memref::StoreOp::create(b, loc, toI32(function.symbol(0)), function.status(),
                          index.constant(0));
  function.finish();
  kernel.phases.push_back({"probe", getAffineConstantExpr(3, &context)});
  kernel.scratchBytes = getAffineConstantExpr(128, &context);
  kernel.module = std::move(module);
  return kernel;
}

TEST_F(KernelFunction, UnpacksTheFrame) {
  CpuKernel kernel = makeKernel(context);
  auto target = parseCpuTarget("host");
  ASSERT_TRUE(bool(target));
  std::string error;
  auto loaded = LoadedKernel::load(kernel, *target, error);
  ASSERT_TRUE(loaded) << error;
  int32_t in[] = {1, 2, 3}, out[] = {0, 0, 0};
  EXPECT_EQ(loaded->run({in, out}, {7, 50}), 7);
  EXPECT_EQ(out[0], 51);
  EXPECT_EQ(out[1], 152);
  EXPECT_EQ(out[2], 253);
  EXPECT_TRUE(loaded->scratchIntact());
}

TEST_F(KernelFunction, ObjectShowsPhasesOnly) {
  for (const char *name : {"x86:cpu=x86-64-v3", "arm"}) {
    CpuKernel kernel = makeKernel(context);
    auto target = parseCpuTarget(name);
    ASSERT_TRUE(bool(target));
    auto bytes = compileModule(*kernel.module, *target);
    ASSERT_TRUE(bool(bytes)) << llvm::toString(bytes.takeError());
    auto object =
        llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(
            llvm::StringRef(bytes->data(), bytes->size()), "probe.o"));
    ASSERT_TRUE(bool(object));
    std::vector<std::string> global;
    for (const auto &symbol : (*object)->symbols())
      if (llvm::cantFail(symbol.getFlags()) &
          llvm::object::SymbolRef::SF_Global)
        global.push_back(llvm::cantFail(symbol.getName()).str());
    EXPECT_EQ(global, std::vector<std::string>{"probe"});
  }
}

TEST_F(KernelFunction, StorageTypes) {
  Builder b(&context);
  EXPECT_EQ(getStorageType(b.getI1Type()), b.getI8Type());
  EXPECT_EQ(getStorageType(b.getBF16Type()), b.getI16Type());
  EXPECT_EQ(getStorageType(b.getIntegerType(8, false)), b.getI8Type());
  EXPECT_EQ(getStorageType(b.getIndexType()), b.getI64Type());
  EXPECT_EQ(getStorageType(b.getF64Type()), b.getF64Type());
}

TEST_F(KernelFunction, IndexArithmetic) {
  // Emits an expression of constants, which folds, and compares its value with
  // the expression's: floor division and modulus of negative numbers too.
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder b(module->getBodyRegion());
  IndexBuilder index(b, UnknownLoc::get(&context));
  AffineExpr d0 = getAffineDimExpr(0, &context),
             s0 = getAffineSymbolExpr(0, &context);
  AffineExpr exprs[] = {
      d0 * s0 + 3,         (d0 - 7).floorDiv(4),      (d0 - 7) % 4,
      (d0 + 5).ceilDiv(3), (d0 * 6 + 1).floorDiv(s0), (d0 * 6 + 1) % s0};
  for (AffineExpr expr : exprs)
    for (int64_t d : {0, 1, 5, 12}) {
      Value value = index.expr(expr, {index.constant(d)}, {index.constant(5)});
      auto folded = IndexBuilder::constantOf(value);
      ASSERT_TRUE(folded.has_value());
      EXPECT_EQ(*folded, graph::evaluate(expr, {5}, {d}));
    }
  SmallVector<Value> parts = index.delinearize(
      index.constant(47),
      {index.constant(9), index.constant(3), index.constant(4)});
  EXPECT_EQ(IndexBuilder::constantOf(parts[0]), 3);
  EXPECT_EQ(IndexBuilder::constantOf(parts[1]), 2);
  EXPECT_EQ(IndexBuilder::constantOf(parts[2]), 3);
}

} // namespace
