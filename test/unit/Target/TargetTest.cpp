// Target strings: what they resolve to, and what each mistake is told.
#include "dlc/Target/Targets.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <gtest/gtest.h>
#include <thread>

using namespace dlc;

namespace {

CpuTarget resolve(llvm::StringRef text) {
  auto target = parseCpuTarget(text);
  if (!target)
    ADD_FAILURE() << llvm::toString(target.takeError());
  return target ? *target : CpuTarget(TargetDesc());
}

std::string errorOf(llvm::StringRef text) {
  auto target = parseCpuTarget(text);
  if (target)
    return "";
  return llvm::toString(target.takeError());
}

bool mentions(const std::string &text, llvm::StringRef part) {
  return llvm::StringRef(text).contains(part);
}

TEST(Target, NamedCpus) {
  CpuTarget v3 = resolve("x86:cpu=x86-64-v3");
  EXPECT_EQ(v3.desc().cpu, "x86-64-v3");
  EXPECT_EQ(v3.desc().vectorBytes, 32u);
  EXPECT_EQ(v3.desc().vectorRegisters, 16u);
  EXPECT_TRUE(v3.hasFeature("fma"));
  EXPECT_FALSE(v3.hasFeature("avx512f"));

  CpuTarget v4 = resolve("x86:cpu=znver5:threads=2");
  EXPECT_EQ(v4.desc().vectorBytes, 64u);
  EXPECT_EQ(v4.desc().vectorRegisters, 32u);
  EXPECT_EQ(v4.threads(), 2u);
  EXPECT_EQ(v4.desc().lanes(4), 16u);

  CpuTarget arm = resolve("arm:cpu=neoverse-v1");
  EXPECT_EQ(arm.desc().triple, "aarch64-unknown-linux-gnu");
  EXPECT_EQ(arm.desc().vectorBytes, 16u);
  EXPECT_TRUE(arm.hasFeature("neon"));
}

TEST(Target, FeaturesDecideTheVectorUnit) {
  CpuTarget avx2 = resolve("x86:features=avx2");
  EXPECT_EQ(avx2.desc().cpu, "x86-64");
  EXPECT_EQ(avx2.desc().vectorBytes, 32u);
  EXPECT_TRUE(avx2.hasFeature("fma"));
  EXPECT_EQ(resolve("x86:features=avx512").desc().vectorBytes, 64u);
  EXPECT_EQ(resolve("x86:cpu=znver5:features=-avx512f").desc().vectorBytes,
            32u);
}

TEST(Target, HostHasTheFullFeatureString) {
  CpuTarget host = resolve("host");
  EXPECT_EQ(host.desc().cpu, llvm::sys::getHostCPUName().str());
  llvm::SmallVector<llvm::StringRef> features;
  llvm::StringRef(host.desc().features).split(features, ',');
  EXPECT_EQ(features.size(), llvm::sys::getHostCPUFeatures().size());
  if (llvm::Triple(llvm::sys::getProcessTriple()).getArch() ==
      llvm::Triple::x86_64) {
    EXPECT_EQ(resolve("x86").desc().features, host.desc().features);
    EXPECT_EQ(resolve("arm").desc().cpu, "generic");
  }
}

TEST(Target, Mistakes) {
  std::string key = errorOf("x86:threadz=2");
  EXPECT_TRUE(mentions(key, "unknown key 'threadz'")) << key;
  EXPECT_TRUE(mentions(key, "cpu, features, threads, device")) << key;
  EXPECT_TRUE(mentions(errorOf("x86:cpu=pentium9"), "unknown CPU 'pentium9'"));
  EXPECT_TRUE(mentions(errorOf("x86:features=avx9"), "unknown feature 'avx9'"));
  EXPECT_TRUE(mentions(errorOf("sparc"), "valid ones are x86, arm, host"));
  EXPECT_TRUE(mentions(errorOf(""), "names no architecture"));
  EXPECT_TRUE(mentions(errorOf("x86:cpu"), "expected key=value"));
  EXPECT_TRUE(mentions(errorOf("x86:threads=2:threads=3"), "twice"));
  EXPECT_TRUE(mentions(errorOf("x86:threads=0"), "1 to 1024"));
  EXPECT_TRUE(mentions(errorOf("x86:device=/nowhere.json"), "cannot read"));
}

TEST(Target, DescriptionsRoundTrip) {
  auto all = cpuDescriptions();
  ASSERT_TRUE(bool(all));
  EXPECT_GE(all->size(), 10u);
  for (const TargetDesc &desc : *all) {
    auto again = TargetDesc::parseJson(desc.toJson());
    ASSERT_TRUE(bool(again));
    EXPECT_EQ(again->toJson(), desc.toJson());
    // What a file says of its vector unit is what LLVM knows of the CPU.
    TargetDesc derived = desc;
    ASSERT_FALSE(bool(deriveVectorUnit(derived)));
    EXPECT_EQ(derived.toJson(), desc.toJson()) << desc.name;
  }
  auto bad = TargetDesc::parseJson("{\"name\": \"x\"}");
  EXPECT_TRUE(mentions(llvm::toString(bad.takeError()), "arch"));
}

/// int f(int x) { return x + 1; } as an object for `target`.
std::string compileOne(const CpuTarget &target) {
  llvm::LLVMContext context;
  llvm::Module module("m", context);
  llvm::Type *i32 = llvm::Type::getInt32Ty(context);
  auto *function =
      llvm::Function::Create(llvm::FunctionType::get(i32, {i32}, false),
                             llvm::Function::ExternalLinkage, "f", module);
  llvm::IRBuilder<> b(llvm::BasicBlock::Create(context, "", function));
  b.CreateRet(b.CreateAdd(function->getArg(0), b.getInt32(1)));
  auto bytes = target.emitObject(module);
  if (!bytes)
    return llvm::toString(bytes.takeError());
  return std::string(bytes->begin(), bytes->end());
}

TEST(Target, ObjectsFromSeveralThreads) {
  CpuTarget x86 = resolve("x86:cpu=x86-64-v3"), arm = resolve("arm");
  std::string objects[4];
  std::thread threads[4];
  for (int i = 0; i < 4; ++i)
    threads[i] =
        std::thread([&, i] { objects[i] = compileOne(i % 2 ? arm : x86); });
  for (std::thread &thread : threads)
    thread.join();
  for (const std::string &object : objects)
    EXPECT_EQ(object.substr(0, 4), "\x7f"
                                   "ELF");
  EXPECT_EQ(objects[0], objects[2]);
  EXPECT_EQ(objects[1], objects[3]);
  EXPECT_NE(objects[0], objects[1]);
}

// A masked store of one lane of narrowed elements writes that element alone.
TEST(Target, StoresOfOneLane) {
  llvm::LLVMContext context;
  llvm::Module module("m", context);
  llvm::IRBuilder<> b(context);
  auto *wide = llvm::FixedVectorType::get(b.getInt32Ty(), 16);
  auto *function = llvm::Function::Create(
      llvm::FunctionType::get(b.getVoidTy(), {wide, b.getPtrTy()}, false),
      llvm::Function::ExternalLinkage, "f", module);
  b.SetInsertPoint(llvm::BasicBlock::Create(context, "", function));
  llvm::SmallVector<llvm::Constant *> lanes(16, b.getFalse());
  lanes[3] = b.getTrue();
  llvm::Value *narrow = b.CreateTrunc(
      function->getArg(0), llvm::FixedVectorType::get(b.getInt16Ty(), 16));
  b.CreateMaskedStore(narrow, function->getArg(1), llvm::Align(2),
                      llvm::ConstantVector::get(lanes));
  b.CreateRetVoid();
  auto text = resolve("x86:cpu=x86-64-v4").emitAssembly(module);
  ASSERT_TRUE(bool(text)) << llvm::toString(text.takeError());
  std::string code(text->begin(), text->end());
  EXPECT_NE(code.find(", 6(%rdi)"), std::string::npos) << code;
  EXPECT_EQ(code.find("movl\t%eax, 6"), std::string::npos) << code;
}

} // namespace
