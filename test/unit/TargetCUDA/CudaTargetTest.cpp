// Target strings, PTX text, the assembler's report, and what is said when the
// assembler is not there.
#include "dlc/Target/CUDA/CudaTarget.h"
#include "dlc/Target/CUDA/Ptxas.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/SourceMgr.h"

#include "gtest/gtest.h"

using namespace dlc;

static std::string errorOf(llvm::Error error) {
  return error ? llvm::toString(std::move(error)) : std::string();
}

static std::string rejects(llvm::StringRef text) {
  auto target = parseCudaTarget(text);
  return target ? "accepted" : llvm::toString(target.takeError());
}

TEST(CudaTarget, ParsesTargets) {
  auto plain = llvm::cantFail(parseCudaTarget("cuda"));
  EXPECT_EQ(plain.desc().sm, "sm_90a");
  EXPECT_FALSE(plain.emulate);
  auto hopper =
      llvm::cantFail(parseCudaTarget("cuda:sm=90a:host=arm:emulate=on"));
  EXPECT_EQ(hopper.desc().sm, "sm_90a");
  EXPECT_EQ(hopper.desc().maxSharedBytes, 232448);
  EXPECT_EQ(hopper.host, "arm");
  EXPECT_TRUE(hopper.emulate);
  EXPECT_EQ(llvm::cantFail(parseCudaTarget("cuda:sm=90")).desc().sm, "sm_90");
  EXPECT_EQ(llvm::cantFail(parseCudaTarget("cuda:sm=sm_86")).desc().sm,
            "sm_86");
  auto device = llvm::cantFail(parseCudaTarget("cuda:device=h200:sm=90"));
  EXPECT_EQ(device.desc().name, "h200");
  EXPECT_EQ(device.desc().sm, "sm_90");
  for (auto [name, sm] : {std::pair("h200", "sm_90a"),
                          {"h100", "sm_90a"},
                          {"a100", "sm_80"},
                          {"l4", "sm_89"},
                          {"rtx4090", "sm_89"}}) {
    auto described =
        llvm::cantFail(parseCudaTarget(std::string("cuda:device=") + name));
    EXPECT_EQ(described.desc().name, name);
    EXPECT_EQ(described.desc().sm, sm);
    EXPECT_GE(described.desc().multiprocessors, 58) << name;
  }
}

TEST(CudaTarget, RejectsInWords) {
  EXPECT_EQ(rejects("x86"), "'x86' is not a CUDA target");
  EXPECT_EQ(rejects("cuda:sm=75"),
            "unknown CUDA architecture 'sm=75': known are 80, 86, 89, 90a");
  EXPECT_EQ(rejects("cuda:cpu=zen"),
            "unknown key 'cpu' for target 'cuda': "
            "valid keys are sm, device, host, emulate");
  EXPECT_EQ(rejects("cuda:device=tpu"),
            "unknown CUDA device 'tpu': known are a100, h100, h200, l4, l40s, "
            "rtx3090, rtx4090, or a .json file");
  EXPECT_EQ(rejects("cuda:emulate=yes"),
            "target key 'emulate' is on or off, got 'yes'");
  EXPECT_NE(rejects("cuda:device=/nowhere/x.json").find("cannot read"),
            std::string::npos);
}

TEST(CudaDesc, RejectsBadJson) {
  auto reject = [](llvm::StringRef json) {
    auto desc = CudaDesc::parseJson(json);
    return desc ? "accepted" : llvm::toString(desc.takeError());
  };
  EXPECT_NE(reject("{").find("bad CUDA description"), std::string::npos);
  EXPECT_NE(reject("{\"name\": \"x\"}").find("'sm'"), std::string::npos);
}

//===----------------------------------------------------------------------===//
// PTX
//===----------------------------------------------------------------------===//

static const char *const kAdd = R"(
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
define ptx_kernel void @add(ptr %x, ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %p = getelementptr float, ptr %x, i32 %t
  %q = getelementptr float, ptr %y, i32 %t
  %a = load float, ptr %p
  %b = load float, ptr %q
  %c = fadd float %a, %b
  store float %c, ptr %q
  ret void
})";

static std::string ptxOf(const char *ir, llvm::StringRef target) {
  llvm::LLVMContext context;
  llvm::SMDiagnostic diagnostic;
  auto module = llvm::parseAssemblyString(ir, diagnostic, context);
  EXPECT_TRUE(module) << diagnostic.getMessage().str();
  auto cuda = llvm::cantFail(parseCudaTarget(target));
  EXPECT_EQ(errorOf(cuda.prepare(*module)), "");
  return llvm::cantFail(cuda.emitPtx(*module));
}

TEST(EmitPtx, NamesArchitectureAndKernel) {
  std::string ptx = ptxOf(kAdd, "cuda:sm=90a");
  EXPECT_NE(ptx.find(".target sm_90a"), std::string::npos) << ptx;
  EXPECT_NE(ptx.find(".entry add("), std::string::npos) << ptx;
  EXPECT_NE(ptx.find("add.rn.f32"), std::string::npos) << ptx;
  EXPECT_NE(ptxOf(kAdd, "cuda:sm=80").find(".target sm_80"), std::string::npos);
}

TEST(Ptxas, AssemblesForBothArchitectures) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (llvm::StringRef sm : {"80", "90a"}) {
    std::string ptx = ptxOf(kAdd, ("cuda:sm=" + sm).str());
    auto result = llvm::cantFail(runPtxas(ptx, ("sm_" + sm).str()));
    EXPECT_EQ(result.cubin.substr(1, 3), "ELF");
    ASSERT_EQ(result.kernels.size(), 1u);
    EXPECT_EQ(result.kernels[0].kernel, "add");
    EXPECT_GT(result.kernels[0].registers, 0);
    EXPECT_EQ(result.kernels[0].spillStoreBytes, 0);
    EXPECT_TRUE(result.remarks.empty()) << result.remarks[0];
  }
  std::string report;
  auto refused = runPtxas("this is not PTX", "sm_80");
  ASSERT_FALSE(static_cast<bool>(refused));
  report = llvm::toString(refused.takeError());
  EXPECT_NE(report.find("ptxas refused the code for 'sm_80'"),
            std::string::npos);
}

TEST(Ptxas, MissingToolHasItsOwnError) {
  auto result = runPtxas("", "sm_80", "/nowhere/ptxas");
  ASSERT_FALSE(static_cast<bool>(result));
  llvm::Error error = result.takeError();
  EXPECT_TRUE(error.isA<ToolUnavailableError>());
  EXPECT_NE(llvm::toString(std::move(error)).find("target tool unavailable"),
            std::string::npos);
}

TEST(Ptxas, ReadsResourcesAndRemarks) {
  PtxasResult result;
  parsePtxasLog(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function 'k1' for 'sm_90a'\n"
      "ptxas info    : Function properties for k1\n"
      "    16 bytes stack frame, 48 bytes spill stores, 52 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 2 barriers, 16 bytes "
      "cumulative "
      "stack size, 1024 bytes smem\n"
      "ptxas info    : Compile time = 5.7 ms\n"
      "ptxas info    : (C7512) Potential Performance Loss: serialized\n",
      result);
  ASSERT_EQ(result.kernels.size(), 1u);
  const KernelResources &k = result.kernels[0];
  EXPECT_EQ(k.kernel, "k1");
  EXPECT_EQ(k.registers, 168);
  EXPECT_EQ(k.stackBytes, 16);
  EXPECT_EQ(k.spillStoreBytes, 48);
  EXPECT_EQ(k.spillLoadBytes, 52);
  EXPECT_EQ(k.sharedBytes, 1024);
  EXPECT_EQ(k.barriers, 2);
  ASSERT_EQ(result.remarks.size(), 1u);
  EXPECT_NE(result.remarks[0].find("C7512"), std::string::npos);
}
