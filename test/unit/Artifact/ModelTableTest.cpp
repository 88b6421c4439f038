// A model from LLVM IR to a running program: the tables and entry points that
// the compiler emits, the generated header, embedded weights, and the example
// of examples/c built by cc.
#include "Support.h"

#include "dlc/Artifact/ModelTable.h"
#include "dlc/Artifact/Weights.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"

extern "C" int dlc_rt_has_feature(const char *name, size_t length);

using namespace llvm;
using namespace dlc;
using namespace dlctest;

namespace {
// y[i] = x[i] + w[i % 4] over f32[batch, 4], one task.
const char *const addWeights = R"ir(
define internal void @kernel(ptr %frame, i64 %task, i64 %worker) {
entry:
  %buffers.at = getelementptr i8, ptr %frame, i64 24
  %buffers = load ptr, ptr %buffers.at
  %symbols.at = getelementptr i8, ptr %frame, i64 32
  %symbols = load ptr, ptr %symbols.at
  %batch = load i64, ptr %symbols
  %n = mul i64 %batch, 4
  %x = load ptr, ptr %buffers
  %w.at = getelementptr ptr, ptr %buffers, i64 1
  %w = load ptr, ptr %w.at
  %y.at = getelementptr ptr, ptr %buffers, i64 2
  %y = load ptr, ptr %y.at
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %x.i = getelementptr float, ptr %x, i64 %i
  %a = load float, ptr %x.i
  %k = and i64 %i, 3
  %w.i = getelementptr float, ptr %w, i64 %k
  %b = load float, ptr %w.i
  %s = fadd float %a, %b
  %y.i = getelementptr float, ptr %y, i64 %i
  store float %s, ptr %y.i
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
define internal void @output_dims(ptr %symbols, ptr %dims) {
  %batch = load i64, ptr %symbols
  store i64 %batch, ptr %dims
  %second = getelementptr i64, ptr %dims, i64 1
  store i64 4, ptr %second
  ret void
}
define internal i32 @execute(ptr %exec) {
  %inputs = load ptr, ptr %exec
  %x = load ptr, ptr %inputs
  %outputs.at = getelementptr i8, ptr %exec, i64 8
  %outputs = load ptr, ptr %outputs.at
  %y = load ptr, ptr %outputs
  %symbols.at = getelementptr i8, ptr %exec, i64 16
  %symbols = load ptr, ptr %symbols.at
  %weights.at = getelementptr i8, ptr %exec, i64 32
  %weights = load ptr, ptr %weights.at
  %buffers = alloca [3 x ptr]
  store ptr %x, ptr %buffers
  %b1 = getelementptr ptr, ptr %buffers, i64 1
  store ptr %weights, ptr %b1
  %b2 = getelementptr ptr, ptr %buffers, i64 2
  store ptr %y, ptr %b2
  %status = getelementptr i8, ptr %exec, i64 64
  %frame = alloca {ptr, ptr, i64, ptr, ptr}
  store ptr %status, ptr %frame
  %f3 = getelementptr i8, ptr %frame, i64 24
  store ptr %buffers, ptr %f3
  %f4 = getelementptr i8, ptr %frame, i64 32
  store ptr %symbols, ptr %f4
  %workers.at = getelementptr i8, ptr %exec, i64 40
  %workers = load i64, ptr %workers.at
  %pf.at = getelementptr i8, ptr %exec, i64 48
  %pf = load ptr, ptr %pf.at
  %ctx.at = getelementptr i8, ptr %exec, i64 56
  %ctx = load ptr, ptr %ctx.at
  call void %pf(ptr %ctx, ptr @kernel, ptr %frame, i64 1, i64 %workers)
  %result = load i32, ptr %status
  ret i32 %result
}
)ir";

class Table : public Scratch {
protected:
  void SetUp() override {
    Scratch::SetUp();
    InitializeNativeTarget();
    InitializeNativeTargetAsmPrinter();
    Triple triple(sys::getDefaultTargetTriple());
    std::string error;
    const llvm::Target *target = TargetRegistry::lookupTarget(triple, error);
    ASSERT_TRUE(target) << error;
    machine.reset(target->createTargetMachine(triple, "generic", "",
                                              TargetOptions(), Reloc::PIC_));

    info.name = "model";
    info.dlcVersion = "0.1.0";
    info.triple = triple.str();
    info.cpu = "generic";
    info.features = requiredFeatures(*machine->getMCSubtargetInfo());
    info.numKernels = 1;
    info.symbols = {{"batch", 1, 16, 2}};
    std::vector<DimInfo> dims = {DimInfo::symbol(0, "batch"),
                                 DimInfo::constant(4)};
    info.inputs = {{"x*/", kDLFloat, 32, dims}};
    info.outputs = {{"y", kDLFloat, 32, dims}};
  }

  /// The object of the model; entry points first when asked, to show that the
  /// order does not matter.
  SmallVector<char, 0> compile(bool entryPointsFirst,
                               const std::string &source = addWeights) {
    LLVMContext context;
    SMDiagnostic diagnostic;
    std::unique_ptr<Module> module =
        parseAssemblyString(source, diagnostic, context);
    EXPECT_TRUE(module) << diagnostic.getMessage().str();
    module->setTargetTriple(machine->getTargetTriple());
    module->setDataLayout(machine->createDataLayout());
    ModelFunctions functions;
    functions.outputDims = module->getFunction("output_dims");
    functions.execute = module->getFunction("execute");
    if (entryPointsFirst)
      addModelEntryPoints(*module, "model");
    emitModelTable(*module, info, functions);
    if (!entryPointsFirst)
      addModelEntryPoints(*module, "model");
    EXPECT_FALSE(verifyModule(*module, &errs()));
    SmallVector<char, 0> bytes;
    raw_svector_ostream stream(bytes);
    legacy::PassManager passes;
    machine->addPassesToEmitFile(passes, stream, nullptr,
                                 CodeGenFileType::ObjectFile);
    passes.run(*module);
    return bytes;
  }

  LinkInputs linkInputs(const SmallVector<char, 0> &object) {
    LinkInputs inputs;
    inputs.triple = machine->getTargetTriple();
    inputs.name = "model";
    inputs.objects = {
        MemoryBufferRef(StringRef(object.data(), object.size()), "model")};
    inputs.runtimeArchive = cantFail(findRuntimeArchive(inputs.triple));
    return inputs;
  }

  std::unique_ptr<TargetMachine> machine;
  ModelInfo info;
  const float w[4] = {1, 2, 3, 4};
  ArrayRef<char> weightBytes{reinterpret_cast<const char *>(w), sizeof w};
};
} // namespace

TEST_F(Table, ExternalWeightsThroughTheLoader) {
  for (bool first : {false, true}) {
    OutputSet outputs;
    auto writer =
        cantFail(WeightsWriter::createFile(outputs, in("model.weights")));
    writer->append(weightBytes);
    auto summary = cantFail(writer->finish());
    info.weights = {summary.size, summary.checksum, "model.weights", ""};
    SmallVector<char, 0> object = compile(first);
    ASSERT_EQ(
        text(writeSharedLibrary(outputs, linkInputs(object), in("model.so"))),
        "");
    ASSERT_EQ(text(outputs.commit()), "");

    char error[256] = "";
    dlc_create_options options = {};
    options.struct_size = sizeof options;
    options.flags = DLC_CREATE_VERIFY_WEIGHTS;
    options.error = error;
    options.error_len = sizeof error;
    dlc_instance *model = nullptr;
    ASSERT_EQ(dlc_load(in("model.so").c_str(), &options, &model), DLC_OK)
        << error;
    const dlc_info *read = dlc_get_info(model);
    EXPECT_STREQ(read->inputs[0].name, "x*/");
    EXPECT_STREQ(read->inputs[0].dims[0].text, "batch");
    EXPECT_STREQ(read->inputs[0].dims[1].text, "4");
    EXPECT_EQ(read->symbols[0].max, 16);
    EXPECT_EQ(read->weights_bytes, 16);
    EXPECT_STREQ(read->cpu, "generic");
    std::vector<float> x(12, 0.5f), y(12);
    int64_t shape[2] = {3, 4};
    DLTensor in = {x.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1},
                   shape,    nullptr,     0};
    DLTensor out = in;
    out.data = y.data();
    const DLTensor *ins[] = {&in};
    DLTensor *outs[] = {&out};
    int64_t dims[2];
    EXPECT_EQ(dlc_output_shapes(model, ins, dims), DLC_OK);
    EXPECT_EQ(dims[0], 3);
    EXPECT_EQ(dlc_workspace(model, ins), 0u);
    EXPECT_EQ(dlc_run(model, ins, outs, nullptr), DLC_OK) << error;
    for (int i = 0; i < 12; ++i)
      EXPECT_EQ(y[i], 0.5f + w[i % 4]);
    dlc_unload(model);
  }
}

TEST_F(Table, ExampleProgramWithEmbeddedWeights) {
  auto writer = cantFail(WeightsWriter::createObject(
      machine->getTargetTriple(), in("w.o"), "model_weights"));
  writer->append(weightBytes);
  auto summary = cantFail(writer->finish());
  info.weights = {summary.size, summary.checksum, "", "model_weights"};
  SmallVector<char, 0> object = compile(false);
  LinkInputs inputs = linkInputs(object);
  inputs.objectFiles = {in("w.o")};
  OutputSet outputs;
  ASSERT_EQ(text(writeStaticArchive(outputs, inputs, in("model.a"))), "");
  ASSERT_EQ(text(outputs.write(in("model.h"), makeHeader(info))), "");
  ASSERT_EQ(text(outputs.commit()), "");
  auto [status, output] = shell(
      "cc -std=c99 -Wall -Wextra -Werror -I" DLC_TEST_SOURCE "/include -I" +
      folder.str().str() + " " DLC_TEST_SOURCE "/examples/c/main.c " +
      in("model.a") + " -lm -lpthread -o " + in("a.out") + " && " +
      in("a.out"));
  EXPECT_EQ(status, 0);
  EXPECT_EQ(output, "y: 2 3 4 5 2 3 4 5 (8 elements)\n");
  EXPECT_EQ(shell("nm " + in("a.out") + " | grep -i -c 'llvm\\|mlir'").second,
            "0\n");
}

// Whatever is not the system's must be in the artifact.
TEST_F(Table, ForeignFunctionFails) {
  std::string source = addWeights;
  source.insert(source.find("  call void %pf"), "  call void @mystery()\n");
  SmallVector<char, 0> object =
      compile(false, source + "declare void @mystery()\n");
  OutputSet outputs;
  std::string message =
      text(writeSharedLibrary(outputs, linkInputs(object), in("model.so")));
  EXPECT_NE(message.find("undefined symbol: mystery"), std::string::npos)
      << message;
}

TEST_F(Table, Header) {
  info.weights = {16, 1, "model.weights", ""};
  std::string header = makeHeader(info);
  for (const char *part :
       {"input  0  x*?: f32 [batch, 4]", "output 0  y: f32 [batch, 4]",
        "dim 'batch': 1..16, typically 2", "#define MODEL_NUM_INPUTS 1",
        "typedef dlc_instance model_t;",
        "dlc_status model_create(const dlc_create_options *options, model_t "
        "**out);",
        "Weights: model.weights (16 bytes)"})
    EXPECT_NE(header.find(part), std::string::npos) << part << "\n" << header;
}

TEST(Identifier, Forms) {
  EXPECT_EQ(toIdentifier("resnet50-v1.onnx"), "resnet50_v1_onnx");
  EXPECT_EQ(toIdentifier("3d"), "_3d");
  EXPECT_EQ(toIdentifier("int"), "int_");
  EXPECT_EQ(toIdentifier(""), "_");
}

// The runtime's own reading of the CPU against LLVM's, feature by feature.
TEST(Features, AgreeWithLLVM) {
  unsigned checked = 0;
  for (const auto &feature : sys::getHostCPUFeatures()) {
    int has =
        dlc_rt_has_feature(feature.getKey().data(), feature.getKey().size());
    if (has < 0)
      continue;
    ++checked;
    EXPECT_EQ(has != 0, feature.getValue()) << feature.getKey().str();
  }
  EXPECT_GT(checked, 10u);
}
