// The generated host functions, compiled in this process and called: dims and
// arena sizes against graph::evaluate, and `execute` against what a program
// says, with kernels that record how they were called.
#include "dlc/Program/HostCode.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Program/Weights.h"
#include "dlc/Target/Targets.h"
#include "dlc/runtime.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace dlc;

namespace {

struct Call {
  int64_t task;
  int64_t worker;
  std::vector<float> firstBuffer;
  int64_t symbol;
  int64_t scratchStride;
};
std::vector<Call> calls;

// out[task] = in[task] * 2; a negative element is a data error.
void doubleTask(const dlc_frame *frame, int64_t task, int64_t worker) {
  const float *in = static_cast<const float *>(frame->buffers[0]);
  float *out = static_cast<float *>(frame->buffers[1]);
  calls.push_back({task,
                   worker,
                   {in, in + frame->symbols[0]},
                   frame->symbols[0],
                   frame->scratch_stride});
  if (in[task] < 0)
    *frame->status = DLC_DATA_INDEX_OUT_OF_RANGE;
  out[task] = 2 * in[task];
}

void parallelFor(void *context, dlc_task_fn fn, const dlc_frame *frame,
                 int64_t tasks, int64_t workers) {
  ++*static_cast<int *>(context);
  for (int64_t t = tasks; t-- > 0;) // any order is allowed
    fn(frame, t, t % workers);
}

class Host {
public:
  explicit Host(StringRef text) {
    context.loadDialect<program::ProgramDialect, graph::GraphDialect>();
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    model = *module->getOps<program::ModelOp>().begin();
    initializeCpuBackends();
    auto llvmContext = std::make_unique<llvm::LLVMContext>();
    auto llvmModule = std::make_unique<llvm::Module>("host", *llvmContext);
    functions = emitHostCode(model, "m", *llvmModule);
    hasInputDims = functions.inputDims;
    hasOutputDims = functions.outputDims;
    hasPlan = functions.plan;
    numSizes = functions.numSizes;
    // The linker of an artifact sees hidden symbols, a JIT's lookup does not.
    for (llvm::Function &f : *llvmModule)
      f.setVisibility(llvm::GlobalValue::DefaultVisibility);
    // The kernel is a function of this program, far away from the JIT's code.
    auto machine =
        llvm::cantFail(llvm::orc::JITTargetMachineBuilder::detectHost());
    machine.setCodeModel(llvm::CodeModel::Large);
    jit = llvm::cantFail(llvm::orc::LLJITBuilder()
                             .setJITTargetMachineBuilder(std::move(machine))
                             .create());
    llvm::orc::SymbolMap symbols;
    symbols[jit->mangleAndIntern("m_double")] = {
        llvm::orc::ExecutorAddr::fromPtr(&doubleTask),
        llvm::JITSymbolFlags::Exported};
    llvm::cantFail(jit->getMainJITDylib().define(
        llvm::orc::absoluteSymbols(std::move(symbols))));
    llvm::cantFail(jit->addIRModule(llvm::orc::ThreadSafeModule(
        std::move(llvmModule), std::move(llvmContext))));
  }

  /// What the runtime reads before a run.
  std::vector<int64_t> plan(const int64_t *symbols) {
    std::vector<int64_t> sizes(numSizes + 1, -7); // one more: not to be written
    get<void(const int64_t *, int64_t *)>("m_plan")(symbols, sizes.data());
    EXPECT_EQ(sizes.back(), -7);
    return sizes;
  }

  template <typename Fn>
  Fn *get(StringRef name) {
    return llvm::cantFail(jit->lookup(name)).toPtr<Fn *>();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  program::ModelOp model;
  HostFunctions functions; // of a module the JIT has consumed
  bool hasInputDims, hasOutputDims, hasPlan;
  int64_t numSizes;
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

TEST(HostCode, DimsAreThoseOfTheExpressions) {
  Host host(R"mlir(
    program.model @m symbols ["a", "b"] {
      %x = program.input 0 "x" : tensor<?x?xf32, #graph.dims<s0, s0 + s1>>
      %y = program.output 0 "y" : tensor<?x?x4xf32, #graph.dims<(s0 - 9) floordiv 2, s0 ceildiv (s1 + 1), 4>>
      %z = program.output 1 "z" : tensor<?x?xf32, #graph.dims<(s0 * s1) mod 3, s0 floordiv s1>>
    })mlir");
  ASSERT_TRUE(host.hasInputDims); // because of s0 + s1
  ASSERT_TRUE(host.hasOutputDims);
  EXPECT_FALSE(host.hasPlan);
  auto *inputDims = host.get<void(const int64_t *, int64_t *)>("m_input_dims");
  auto *outputDims =
      host.get<void(const int64_t *, int64_t *)>("m_output_dims");
  for (int64_t a : {0, 1, 5, 9, 12})
    for (int64_t b : {0, 1, 2, 7}) {
      int64_t symbols[] = {a, b}, in[2], out[5];
      inputDims(symbols, in);
      EXPECT_EQ(in[0], a);
      EXPECT_EQ(in[1], a + b);
      outputDims(symbols, out);
      unsigned i = 0;
      for (auto output : host.model.getAll<program::OutputOp>())
        for (AffineExpr dim : graph::getDims(output.getType()))
          EXPECT_EQ(out[i++], graph::evaluate(dim, symbols))
              << "a = " << a << ", b = " << b;
    }
}

TEST(HostCode, StaticModelsNeedNoDims) {
  Host host(R"mlir(
    program.model @m symbols [] {
      %x = program.input 0 "x" : tensor<4xf32>
      %y = program.output 0 "y" : tensor<4xf32>
      program.copy %x to %y size affine_map<() -> (16)>
    })mlir");
  EXPECT_FALSE(host.hasInputDims);
  EXPECT_FALSE(host.hasOutputDims);
  EXPECT_FALSE(host.hasPlan);
  EXPECT_EQ(host.numSizes, 0);
}

constexpr StringLiteral kTwice = R"mlir(
  program.kernel @double {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, phases = ["m_double"], can_fail,
                          tasks = affine_map<()[s0] -> (s0)>, scratch = affine_map<()[s0] -> (s0 * 8)>}
  program.model @m symbols ["n"] {
    %x = program.input 0 "x" : tensor<?xf32, #graph.dims<s0>>
    %y = program.output 0 "y" : tensor<?xf32, #graph.dims<s0>>
    %z = program.output 1 "z" : tensor<?xf32, #graph.dims<s0>>
    %a = program.alloc affine_map<()[s0] -> (s0 * 4)> slot 0
    %b = program.alloc affine_map<()[s0] -> (s0 * 4)> slot 1
    program.call @double(%x) -> (%a) symbols affine_map<()[s0] -> (s0)> {origin = ["first"]}
    program.call @double(%a) -> (%b) symbols affine_map<()[s0] -> (s0)> {origin = ["second"]}
    program.call @double(%b) -> (%y) symbols affine_map<()[s0] -> (s0)> {origin = ["third"]}
    program.copy %a to %z size affine_map<()[s0] -> (s0 * 4)>
  })mlir";

struct ModelRun {
  ModelRun(Host &host, std::vector<float> input) : x(std::move(input)) {
    calls.clear();
    int64_t n = x.size();
    std::vector<int64_t> sizes = host.plan(&n);
    // Two aligned buffers, a worker's scratch, the offsets of the buffers.
    int64_t buffer = llvm::alignTo(4 * n, 64);
    EXPECT_EQ(sizes[0], 2 * buffer);
    EXPECT_EQ(sizes[1], int64_t(llvm::alignTo(8 * n, 64)));
    EXPECT_EQ(sizes[2], 0);
    EXPECT_EQ(sizes[3], buffer);
    int64_t bytes = sizes[0] + 3 * sizes[1];
    std::vector<char> memory(bytes + 64);
    y.assign(n, -1);
    z.assign(n, -1);
    const void *inputs[] = {x.data()};
    void *outputs[] = {y.data(), z.data()};
    dlc_exec exec = {};
    exec.inputs = const_cast<void *const *>(inputs);
    exec.outputs = outputs;
    exec.symbols = &n;
    exec.workspace = reinterpret_cast<char *>(
        llvm::alignTo(reinterpret_cast<uintptr_t>(memory.data()), 64));
    exec.num_workers = 3;
    exec.parallel_for = parallelFor;
    exec.pf_ctx = &parallelCalls;
    exec.sizes = sizes.data();
    status = host.get<int32_t(dlc_exec *)>("m_execute")(&exec);
    site = exec.site ? exec.site : "";
  }

  std::vector<float> x, y, z;
  int32_t status;
  std::string site;
  int parallelCalls = 0;
};

TEST(HostCode, RunsPhasesInOrder) {
  Host host(kTwice);
  ModelRun run(host, {1, 2, 3});
  EXPECT_EQ(run.status, DLC_OK);
  EXPECT_EQ(run.y, (std::vector<float>{8, 16, 24}));
  EXPECT_EQ(run.z, (std::vector<float>{2, 4, 6}));
  EXPECT_EQ(run.parallelCalls, 3);
  ASSERT_EQ(calls.size(), 9u);
  EXPECT_EQ(calls[0].task, 2);
  EXPECT_EQ(calls[0].symbol, 3);
  EXPECT_EQ(calls[0].scratchStride, 64);
  EXPECT_EQ(calls[3].firstBuffer, (std::vector<float>{2, 4, 6}));
}

TEST(HostCode, OneTaskNeedsNoThreads) {
  Host host(kTwice);
  ModelRun run(host, {5});
  EXPECT_EQ(run.status, DLC_OK);
  EXPECT_EQ(run.y, std::vector<float>{40});
  EXPECT_EQ(run.parallelCalls, 0);
}

TEST(HostCode, NoTasksForNoElements) {
  Host host(kTwice);
  ModelRun run(host, {});
  EXPECT_EQ(run.status, DLC_OK);
  EXPECT_TRUE(calls.empty());
}

TEST(HostCode, StopsAfterTheKernelThatFails) {
  Host host(kTwice);
  ModelRun run(host, {1, -2});
  EXPECT_EQ(run.status, DLC_DATA_ERROR);
  EXPECT_EQ(run.site, "first");
  EXPECT_EQ(calls.size(), 2u); // the first kernel's tasks, no further ones
}

// Sizes that a run changes are no part of the plan: they are computed where
// they are used.
TEST(HostCode, PlansWhatTheInputsTell) {
  Host host(R"mlir(
    program.model @m symbols ["n", "kept"] {
      %x = program.input 0 "x" : tensor<?xf32, #graph.dims<s0>>
      %c = program.input 1 "c" : tensor<1xi64>
      %y = program.output 0 "y" : tensor<?xf32, #graph.dims<s0>>
      %a = program.alloc affine_map<()[s0, s1] -> (s0 * 4)> slot 0
      program.bind 1 to %c bound affine_map<()[s0, s1] -> (s0)>
      program.copy %x to %a size affine_map<()[s0, s1] -> (s1 * 4)>
      program.copy %a to %y size affine_map<()[s0, s1] -> (s1 * 4)>
      program.copy %x to %a size affine_map<()[s0, s1] -> (s0 * 4)>
    })mlir");
  std::vector<float> x = {1, 2, 3, 4}, y(4);
  std::vector<char> memory(256);
  for (int64_t kept : {0, 3, 4, 1}) {
    std::fill(y.begin(), y.end(), 0.0f);
    int64_t symbols[] = {4, -1};
    std::vector<int64_t> sizes = host.plan(symbols);
    ASSERT_EQ(host.numSizes, 4); // arena, scratch, the slot, and s0 * 4
    EXPECT_EQ(sizes[0], 64);
    EXPECT_EQ(sizes[3], 16);
    const void *inputs[] = {x.data(), &kept};
    void *outputs[] = {y.data()};
    dlc_exec exec = {};
    exec.inputs = const_cast<void *const *>(inputs);
    exec.outputs = outputs;
    exec.symbols = symbols;
    exec.workspace = reinterpret_cast<char *>(
        llvm::alignTo(reinterpret_cast<uintptr_t>(memory.data()), 64));
    exec.sizes = sizes.data();
    EXPECT_EQ(host.get<int32_t(dlc_exec *)>("m_execute")(&exec), DLC_OK);
    for (int64_t i = 0; i < 4; ++i)
      EXPECT_EQ(y[i], i < kept ? x[i] : 0);
  }
}

// A variant runs in the kernel's place up to its limit; each has its own
// scratch and tasks, and the room is the largest one's.
TEST(HostCode, DispatchesBySize) {
  Host host(R"mlir(
    program.kernel @one {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, phases = ["m_double"],
                         tasks = affine_map<()[s0] -> (1)>, scratch = affine_map<()[s0] -> (64)>}
    program.kernel @some {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, phases = ["m_double"],
                          tasks = affine_map<()[s0] -> (2)>, scratch = affine_map<()[s0] -> (128)>}
    program.kernel @many {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, phases = ["m_double"],
                          tasks = affine_map<()[s0] -> (s0)>, scratch = affine_map<()[s0] -> (s0 * 64)>,
                          size = affine_map<()[s0] -> (s0 * 2)>, limits = array<i64: 2, 5>, variants = [@one, @some]}
    program.model @m symbols ["n"] {
      %x = program.input 0 "x" : tensor<?xf32, #graph.dims<s0 + 1>>
      %y = program.output 0 "y" : tensor<?xf32, #graph.dims<s0 + 1>>
      program.call @many(%x) -> (%y) symbols affine_map<()[s0] -> (s0 + 1)>
      program.call @many(%x) -> (%y) symbols affine_map<()[s0] -> (s0 + 1)>
    })mlir");
  EXPECT_TRUE(succeeded(verify(*host.module)));
  auto run = [&](int64_t n, size_t tasks, int64_t stride) {
    calls.clear();
    int64_t symbol = n - 1;
    std::vector<int64_t> sizes = host.plan(&symbol);
    EXPECT_EQ(sizes[0], 0);
    EXPECT_EQ(sizes[1], std::max<int64_t>(128, 64 * n));
    std::vector<float> x(8, 1), y(8);
    const void *inputs[] = {x.data()};
    void *outputs[] = {y.data()};
    std::vector<char> memory(4096);
    int parallelCalls = 0;
    dlc_exec exec = {};
    exec.inputs = const_cast<void *const *>(inputs);
    exec.outputs = outputs;
    exec.symbols = &symbol;
    exec.workspace = reinterpret_cast<char *>(
        llvm::alignTo(reinterpret_cast<uintptr_t>(memory.data()), 64));
    exec.num_workers = 2;
    exec.parallel_for = parallelFor;
    exec.pf_ctx = &parallelCalls;
    exec.sizes = sizes.data();
    EXPECT_EQ(host.get<int32_t(dlc_exec *)>("m_execute")(&exec), DLC_OK);
    ASSERT_EQ(calls.size(), 2 * tasks) << n;
    for (const Call &call : calls) {
      EXPECT_EQ(call.scratchStride, stride) << n;
      EXPECT_EQ(call.symbol, n);
    }
  };
  run(1, 1, 64);
  run(2, 2, 128);
  run(3, 3, 192);
  run(7, 7, 448);
  run(1, 1, 64);
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

TEST(Weights, EqualConstantsShareAndLayoutsDoNot) {
  MLIRContext context;
  context.loadDialect<program::ProgramDialect>();
  auto module = parseSourceString<ModuleOp>(R"mlir(
    program.kernel @plain {num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
    program.kernel @packs {num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
    program.model @m symbols [] {
      %y = program.output 0 "y" : tensor<2xf32>
      %a = program.constant dense<[1.0, 2.0]> : tensor<2xf32>
      %b = program.constant dense<[[1.0], [2.0]]> : tensor<2x1xf32>
      %mask = program.constant dense<[true, false, true]> : tensor<3xi1>
      %dead = program.constant dense<7.0> : tensor<9xf32>
      program.call @plain(%a, %mask) -> (%y)
      program.call @packs(%b, %mask) -> (%y)
      program.call @packs(%b, %mask) -> (%y)
      program.call @plain(%b, %mask) -> (%y)
    })mlir",
                                            &context);
  ASSERT_TRUE(module);
  KernelCodeMap code;
  code["plain"].nest = "map";
  KernelCode &packs = code["packs"];
  OperandPacking packing;
  packing.operand = 0;
  packing.layout = "swapped";
  packing.bytes = 8;
  packing.pack = [](ArrayRef<char> in, MutableArrayRef<char> out) {
    llvm::copy(in.drop_front(4), out.begin());
    llvm::copy(in.take_front(4), out.begin() + 4);
  };
  packs.packings.push_back(packing);
  attachKernelCode(*module, code);
  EXPECT_TRUE(succeeded(verify(*module)));
  auto model = *module->getOps<program::ModelOp>().begin();
  std::vector<WeightsPiece> pieces = layOutWeights(model, code);

  // 1 2 once for two shapes, 2 1 once for two calls, the mask once, and
  // nothing for what nobody reads.
  ASSERT_EQ(pieces.size(), 3u);
  std::vector<std::vector<char>> bytes;
  int64_t end = 0;
  for (const WeightsPiece &piece : pieces) {
    EXPECT_EQ(piece.offset % program::kAlignment, 0);
    EXPECT_GE(piece.offset, end);
    end = piece.offset + piece.bytes;
    piece.emit(
        [&](ArrayRef<char> b) { bytes.emplace_back(b.begin(), b.end()); });
    EXPECT_EQ(static_cast<int64_t>(bytes.back().size()), piece.bytes);
  }
  auto floats = [](float x, float y) {
    float values[] = {x, y};
    const char *p = reinterpret_cast<const char *>(values);
    return std::vector<char>(p, p + sizeof values);
  };
  EXPECT_EQ(llvm::count(bytes, floats(1, 2)), 1);
  EXPECT_EQ(llvm::count(bytes, floats(2, 1)), 1);
  EXPECT_EQ(llvm::count(bytes, std::vector<char>({1, 0, 1})), 1);
}

} // namespace
