// Results in the place of operands: which pairs a nest claims, which of them
// Check admits, and that a pair which it refuses would have been wrong. That
// admitted ones are right is tried by every test of the fixture.
#include "NestTest.h"

#include "dlc/Check/InPlace.h"
#include "dlc/Codegen/CPU/Nests.h"

#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class InPlaceTest : public NestTest {
protected:
  graph::KernelOp parse(const std::string &text) {
    module = parseSourceString<ModuleOp>(text, &context);
    return *module->getOps<graph::KernelOp>().begin();
  }
  CpuKernel emitReusing(graph::KernelOp kernel, LoopSchedule schedule = {},
                        bool isLoopNest = true) {
    CpuCodegenOptions options;
    options.symbol = "k";
    options.reusableOperands.assign(kernel.getArgumentTypes().size(), true);
    auto code = isLoopNest ? emitLoopNest(kernel, target, options, schedule)
                           : emitCpuKernel(kernel, target, options);
    EXPECT_TRUE(succeeded(code));
    return std::move(*code);
  }
  /// Whether the nest claims it and Check admits it.
  bool isAllowed(const CpuKernel &code, graph::KernelOp kernel,
                 graph::InPlacePair pair) {
    return llvm::is_contained(code.inPlace, pair) &&
           check::admitInPlace(kernel, code.order, pair);
  }
  CpuTarget target = llvm::cantFail(parseCpuTarget(runnableTargets().back()));
};

// Softmax of rows, rows that end beside vectors: in place, and so is what two
// results make of one operand only where one of them reads it.
std::string softmax(int64_t rows, int64_t columns) {
  std::string text = R"(
graph.kernel @softmax(%x: $X) -> $X attributes {rows = 1 : i64, symbols = []} {
  %m = graph.stage domain<$r, 1> reduce<$c> fold max : $R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%p, %q, %k) : $X -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain<$r, $c> : $X {
  ^bb0(%p: index, %q: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : $X -> f32
    %u = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%p, %q) : $R -> f32
    %s = graph.apply sub(%v, %u) : (f32, f32) -> f32
    %t = graph.apply exp(%s) : (f32) -> f32
    graph.yield %t : f32
  }
  %s = graph.stage domain<$r, 1> reduce<$c> fold add : $R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1, d2) -> (d0, d2)>](%p, %q, %k) : $X -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<$r, $c> : $X {
  ^bb0(%p: index, %q: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : $X -> f32
    %u = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%p, %q) : $R -> f32
    %t = graph.apply div(%v, %u) : (f32, f32) -> f32
    graph.yield %t : f32
  }
  graph.return %y : $X
}
)";
  std::string r = std::to_string(rows), c = std::to_string(columns);
  for (auto &[name, value] : std::vector<std::pair<std::string, std::string>>{
           {"$X", "tensor<" + r + "x" + c + "xf32>"},
           {"$R", "tensor<" + r + "x1xf32>"},
           {"$r", r},
           {"$c", c}})
    for (size_t i; (i = text.find(name)) != std::string::npos;)
      text.replace(i, name.size(), value);
  return text;
}

TEST_F(InPlaceTest, RowsThatAreReadBefore) {
  exactWhenStrict = false; // the interpreter has the C library's exp
  for (auto [rows, columns] : {std::pair(9, 33), {40, 7}, {64, 512}, {3, 1}}) {
    std::string text = softmax(rows, columns);
    SCOPED_TRACE(text);
    graph::KernelOp kernel = parse(text);
    CpuKernel code = emitReusing(kernel);
    EXPECT_TRUE(isAllowed(code, kernel, {0, 0}));
    numInPlace = 0;
    checkText(text, {{rows, columns}});
    EXPECT_GT(numInPlace, 0u);
  }
}

// A kept row that the last loop reads where it stores lies in the result, not
// in scratch; not one that it reads elsewhere, nor where the result has the
// place of an operand, which Check knows to be written once.
TEST_F(InPlaceTest, KeptRowsLieInResults) {
  exactWhenStrict = false;
  auto scratch = [&](const CpuKernel &code) {
    return graph::constantValue(code.scratchBytes).value_or(-1);
  };
  CpuCodegenOptions plain;
  plain.symbol = "k";
  std::string text = softmax(40, 33);
  int64_t own = scratch(*emitLoopNest(parse(text), target, plain));
  EXPECT_GT(scratch(emitReusing(parse(text))), own);
  checkText(text, {{40, 33}});

  std::string turned = text, at = "graph.load %e[affine_map<(d0, d1) -> (d0, ";
  turned.replace(turned.find(at) + at.size(), 2, "-d1 + 32");
  EXPECT_GT(scratch(*emitLoopNest(parse(turned), target, plain)), own);
  checkText(turned, {{40, 33}});

  // A second result of that loop reads the row after the first one's store.
  std::string two = text;
  for (auto [from, to] :
       {std::pair("-> tensor<40x33xf32> attributes",
                  "-> (tensor<40x33xf32>, tensor<40x33xf32>) attributes"),
        std::pair("graph.return %y : tensor<40x33xf32>",
                  R"(%z = graph.stage domain<40, 33> : tensor<40x33xf32> {
  ^bb0(%p: index, %q: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : tensor<40x33xf32> -> f32
    %u = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%p, %q) : tensor<40x1xf32> -> f32
    %t = graph.apply add(%v, %u) : (f32, f32) -> f32
    graph.yield %t : f32
  }
  graph.return %y, %z : tensor<40x33xf32>, tensor<40x33xf32>)")}) {
    size_t at = two.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    two.replace(at, StringRef(from).size(), to);
  }
  EXPECT_GT(scratch(*emitLoopNest(parse(two), target, plain)), own);
  checkText(two, {{40, 33}});
}

TEST_F(InPlaceTest, Elements) {
  OpCase row{"add",
             "",
             {"tensor<7x33xf32>", "tensor<33xf32>"},
             "tensor<7x33xf32>",
             {{7, 33}, {33}},
             {}};
  graph::KernelOp kernel = build(row);
  CpuKernel code = emitReusing(kernel);
  EXPECT_TRUE(isAllowed(code, kernel, {0, 0}));
  EXPECT_FALSE(isAllowed(code, kernel, {1, 0})); // a row is no matrix
  // Not told that it may: it says nothing.
  CpuCodegenOptions plain;
  plain.symbol = "k";
  EXPECT_TRUE(emitLoopNest(kernel, target, plain)->inPlace.empty());
}

// The control: what is refused goes wrong when it is done all the same.
TEST_F(InPlaceTest, RefusedPairsAreWrong) {
  OpCase transpose{"transpose",
                   "perm = array<i64: 1, 0>",
                   {"tensor<40x40xf32>"},
                   "tensor<40x40xf32>",
                   {{40, 40}},
                   {}};
  graph::KernelOp kernel = build(transpose);
  CpuKernel code = emitReusing(kernel);
  EXPECT_TRUE(code.inPlace.empty());
  SmallVector<Tensor> inputs{
      random(Float32Type::get(&context), {40, 40}, transpose)};
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  EXPECT_NE(runInPlace(code, target, {0, 0}, transpose, inputs, *expected,
                       /*bitExact=*/true),
            "");
}

// A product: its epilogue's operand yes, its factors no. Sums that would lie in
// the result wait elsewhere.
TEST_F(InPlaceTest, Residuals) {
  std::string text = R"(
graph.kernel @residual(%a: tensor<37x24xf32>, %b: tensor<24x37xf32>, %r: tensor<37x37xf32>, %c: tensor<37xf32>) -> tensor<37x37xf32> attributes {symbols = []} {
  %s = graph.stage domain<37, 37> reduce<24> fold add : tensor<37x37xf32> {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%p, %q, %k) : tensor<37x24xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%p, %q, %k) : tensor<24x37xf32> -> f32
    %m = graph.apply mul(%v, %w) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain<37, 37> : tensor<37x37xf32> {
  ^bb0(%p: index, %q: index):
    %v = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : tensor<37x37xf32> -> f32
    %u = graph.load %r[affine_map<(d0, d1) -> (AT)>](%p, %q) : tensor<37x37xf32> -> f32
    %w = graph.load %c[affine_map<(d0, d1) -> (d1)>](%p, %q) : tensor<37xf32> -> f32
    %t = graph.apply add(%v, %w) : (f32, f32) -> f32
    %z = graph.apply add(%t, %u) : (f32, f32) -> f32
    graph.yield %z : f32
  }
  graph.return %y : tensor<37x37xf32>
}
)";
  auto at = [&](const char *where) {
    std::string with = text;
    with.replace(with.find("AT"), 2, where);
    return with;
  };
  graph::KernelOp kernel = parse(at("d0, d1"));
  CpuKernel code = emitReusing(kernel, {}, /*isLoopNest=*/false);
  EXPECT_EQ(code.nest, "contraction");
  EXPECT_TRUE(isAllowed(code, kernel, {2, 0}));
  EXPECT_EQ(code.inPlace.size(), 1u);
  numInPlace = 0;
  checkText(at("d0, d1"), {{37, 24}, {24, 37}, {37, 37}, {37}}, {},
            "contraction");
  EXPECT_GT(numInPlace, 0u);
  kernel = parse(at("d1, d0")); // the residual turned
  code = emitReusing(kernel, {}, /*isLoopNest=*/false);
  EXPECT_FALSE(isAllowed(code, kernel, {2, 0}));
}
} // namespace
