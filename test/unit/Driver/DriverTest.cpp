// The driver as a library: command lines as data, tensors in files, how far
// tensors are apart, and compileModel.
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/RunModel.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>
#include <limits>

using namespace mlir;
using namespace dlc;
using interp::Tensor;

namespace {

CommandLine parse(std::vector<const char *> arguments) {
  llvm::Expected<CommandLine> line = parseCommandLine(arguments);
  if (!line)
    ADD_FAILURE() << llvm::toString(line.takeError());
  return line ? *line : CommandLine();
}

TEST(Options, DefaultsAndInference) {
  CompileOptions options = parse({"model.onnx"}).options;
  EXPECT_EQ(options.target, "host");
  EXPECT_EQ(options.emit, (std::vector{EmitKind::Shared, EmitKind::Header}));
  EXPECT_FALSE(options.strict);
  EXPECT_EQ(parse({"model.onnx", "-o", "x.a"}).options.emit,
            (std::vector{EmitKind::Static, EmitKind::Header}));
  EXPECT_EQ(parse({"model.onnx", "-ox.json"}).options.emit,
            std::vector{EmitKind::Report});
  // -emit wins over the extension, and names each kind once.
  EXPECT_EQ(parse({"m.onnx", "--emit=asm,llvm,asm", "-o", "x.so"}).options.emit,
            (std::vector{EmitKind::Asm, EmitKind::LLVM}));
}

TEST(Options, DimsAndShapes) {
  CompileOptions options =
      parse({"m.onnx", "-dim=batch=1..64@8", "-dim=seq=128", "-dim=n=2..3",
             "-shape=a:b:1x0x3", "-shape=scalar:", "-j3"})
          .options;
  EXPECT_EQ(options.dims["batch"].min, 1);
  EXPECT_EQ(options.dims["batch"].max, 64);
  EXPECT_EQ(options.dims["batch"].typical, 8);
  EXPECT_EQ(options.dims["seq"].min, 128);
  EXPECT_EQ(options.dims["seq"].max, 128);
  EXPECT_EQ(options.dims["n"].typical, 3);
  EXPECT_EQ(options.shapes["a:b"], (llvm::SmallVector<int64_t>{1, 0, 3}));
  EXPECT_TRUE(options.shapes["scalar"].empty());
  EXPECT_EQ(options.jobs, 3u);
}

TEST(Options, Variants) {
  CompileOptions options = parse({"m.onnx"}).options;
  EXPECT_EQ(options.variants, 3u);
  EXPECT_EQ(options.forceVariant, -1);
  options = parse({"m.onnx", "-variants=1", "-force-variant=2"}).options;
  EXPECT_EQ(options.variants, 1u);
  EXPECT_EQ(options.forceVariant, 2);
  EXPECT_EQ(options.shapingFlags, "-variants=1 -force-variant=2");
  for (const char *flag : {"-variants=0", "-variants=4", "-variants=few",
                           "-force-variant=-1", "-force-variant=x"}) {
    llvm::Expected<CommandLine> line = parseCommandLine({"m.onnx", flag});
    ASSERT_FALSE(static_cast<bool>(line)) << flag;
    EXPECT_EQ(toCompileError(line.takeError(), ExitCode::Internal).getCode(),
              ExitCode::Usage);
  }
}

TEST(Options, ErrorsAreOfUsage) {
  llvm::Expected<CommandLine> line = parseCommandLine({"m.onnx", "-fp=loose"});
  ASSERT_FALSE(static_cast<bool>(line));
  CompileError error = toCompileError(line.takeError(), ExitCode::Internal);
  EXPECT_EQ(error.getCode(), ExitCode::Usage);
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

struct TensorFileTest : ::testing::Test {
  TensorFileTest() : folder(llvm::cantFail(TemporaryFolder::create())) {}

  Tensor makeFloats(ArrayRef<float> values) {
    return Tensor::copy(Float32Type::get(&context),
                        {static_cast<int64_t>(values.size())}, values.data());
  }

  MLIRContext context{MLIRContext::Threading::DISABLED};
  std::unique_ptr<TemporaryFolder> folder;
};

TEST_F(TensorFileTest, EveryTypeRoundTrips) {
  Builder b(&context);
  SmallVector<Type> types = {b.getF32Type(), b.getF64Type(), b.getF16Type(),
                             b.getBF16Type(), b.getI1Type()};
  for (unsigned bits : {8, 16, 32, 64}) {
    types.push_back(b.getIntegerType(bits));
    types.push_back(IntegerType::get(&context, bits, IntegerType::Unsigned));
  }
  for (Type type : types)
    for (const std::vector<int64_t> &shape :
         {std::vector<int64_t>{2, 3}, std::vector<int64_t>{},
          std::vector<int64_t>{0, 5}}) {
      Tensor tensor = makeRandomTensor(type, shape, 7);
      std::string path = folder->getPath("t.npy");
      llvm::cantFail(writeTensor(path, tensor));
      Tensor read = llvm::cantFail(readTensor(path, &context));
      EXPECT_EQ(read.getElementType(), type);
      EXPECT_EQ(read.getShape(), ArrayRef<int64_t>(shape));
      EXPECT_EQ(llvm::cantFail(compareTensors(read, tensor)).maxAbsolute, 0);
    }
}

TEST_F(TensorFileTest, ColumnMajorArraysAreReordered) {
  // np.save of np.asfortranarray([[0, 1, 2], [3, 4, 5]], int8)
  std::string header =
      "{'descr': '|i1', 'fortran_order': True, 'shape': (2, 3), }";
  header.resize(117, ' ');
  header += '\n';
  std::string file = std::string("\x93NUMPY\x01\x00", 8) + char(118) + '\0' +
                     header + std::string("\0\3\1\4\2\5", 6);
  std::string path = folder->getPath("f.npy");
  std::error_code code;
  llvm::raw_fd_ostream(path, code) << file;
  Tensor tensor = llvm::cantFail(readTensor(path, &context));
  EXPECT_EQ(tensor.getShape(), ArrayRef<int64_t>({2, 3}));
  EXPECT_EQ(tensor.getData<int8_t>(), ArrayRef<int8_t>({0, 1, 2, 3, 4, 5}));
}

TEST_F(TensorFileTest, RandomTensorsFollowTheirSeed) {
  Type f32 = Float32Type::get(&context);
  Tensor a = makeRandomTensor(f32, {100}, 1),
         b = makeRandomTensor(f32, {100}, 1),
         c = makeRandomTensor(f32, {100}, 2);
  EXPECT_EQ(a.getData<float>(), b.getData<float>());
  EXPECT_NE(a.getData<float>(), c.getData<float>());
  for (float value : a.getData<float>())
    EXPECT_TRUE(value >= -1 && value < 1);
}

TEST_F(TensorFileTest, DifferencesCountWhatIsNoNumber) {
  float nan = std::numeric_limits<float>::quiet_NaN();
  float inf = std::numeric_limits<float>::infinity();
  auto relative = [&](ArrayRef<float> a, ArrayRef<float> b) {
    return llvm::cantFail(compareTensors(makeFloats(a), makeFloats(b)))
        .getRelative();
  };
  EXPECT_EQ(relative({1, nan, inf}, {1, nan, inf}), 0);
  EXPECT_DOUBLE_EQ(relative({1, 2}, {1, 4}), 0.5);
  EXPECT_EQ(relative({nan}, {1}), inf);
  EXPECT_EQ(relative({1}, {nan}), inf);
  EXPECT_EQ(relative({inf}, {-inf}), inf);
  EXPECT_EQ(relative({1}, {0}), inf);
  EXPECT_EQ(relative({-0.0f}, {0}), 0);
  auto shapes = compareTensors(makeFloats({1}), makeFloats({1, 2}));
  EXPECT_FALSE(static_cast<bool>(shapes));
  llvm::consumeError(shapes.takeError());
}

//===----------------------------------------------------------------------===//
// compileModel
//===----------------------------------------------------------------------===//

constexpr StringLiteral kGraph = R"mlir(
func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "x"})
    -> (tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "y"}) attributes {graph.symbols = ["n"]} {
  %0 = graph.exp %x : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
  return %0 : tensor<?x4xf32, #graph.dims<s0, 4>>
})mlir";

struct CompileTest : TensorFileTest {
  CompileTest() {
    options.input = folder->getPath("model.mlir");
    options.output = folder->getPath("model.ll");
    options.emit = {EmitKind::LLVM, EmitKind::Report};
    options.quiet = true;
    writeInput(kGraph);
  }
  void writeInput(StringRef text) {
    std::error_code code;
    llvm::raw_fd_ostream(options.input, code) << text;
  }
  ExitCode failWith() {
    llvm::Expected<CompileResult> result = compileModel(options);
    if (result)
      return ExitCode::Ok;
    CompileError error = toCompileError(result.takeError(), ExitCode::Internal);
    EXPECT_FALSE(error.getDiagnostics().empty());
    EXPECT_FALSE(llvm::sys::fs::exists(options.output));
    return error.getCode();
  }
  CompileOptions options;
};

TEST_F(CompileTest, WritesWhatWasAskedFor) {
  llvm::Expected<CompileResult> result = compileModel(options);
  ASSERT_TRUE(static_cast<bool>(result)) << llvm::toString(result.takeError());
  ASSERT_EQ(result->products.size(), 2u);
  EXPECT_EQ(result->products[0].path, options.output);
  EXPECT_EQ(result->products[1].path, folder->getPath("model.json"));
  for (const CompileResult::Product &product : result->products)
    EXPECT_TRUE(llvm::sys::fs::exists(product.path)) << product.path;
  EXPECT_TRUE(
      StringRef(result->report).contains("1 kernels native, 0 interpreted"));
}

TEST_F(CompileTest, FailuresLeaveNoFile) {
  writeInput("module {");
  EXPECT_EQ(failWith(), ExitCode::Rejected);
  writeInput("module {}");
  EXPECT_EQ(failWith(), ExitCode::Rejected);
  options.target = "x86:cpu=abacus";
  writeInput(kGraph);
  EXPECT_EQ(failWith(), ExitCode::Usage);
  options.target = "host";
  options.dims["m"] = {1, 2, 1};
  EXPECT_EQ(failWith(), ExitCode::Usage);
  options.dims.clear();
  options.input = folder->getPath("nothing.mlir");
  EXPECT_EQ(failWith(), ExitCode::Io);
}

// A kernel from a file may bring a schedule; its laws must be admitted.
TEST_F(CompileTest, LawsThatCheckRefusesAreAnError) {
  writeInput(R"mlir(
graph.kernel @sum(%x: tensor<4xf32>) -> tensor<f32> attributes {symbols = [], schedule = {laws = ["split(add)"]}} {
  %m = graph.stage domain <> reduce <4> fold add : tensor<f32> {
  ^bb0(%k: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%k) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %m : tensor<f32>
}
func.func @main(%x: tensor<4xf32>) -> tensor<f32> attributes {graph.symbols = []} {
  %0 = graph.call @sum(%x) : (tensor<4xf32>) -> tensor<f32>
  return %0 : tensor<f32>
})mlir");
  EXPECT_EQ(failWith(), ExitCode::Ok);
  llvm::sys::fs::remove(options.output);
  options.strict = true;
  EXPECT_EQ(failWith(), ExitCode::Verify);
}

} // namespace
