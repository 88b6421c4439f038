// Schedules of CUDA kernels: every point of the space is right on the emulator,
// with every check, beside the interpreter; points that make no code are
// refused in words; what is chosen changes the launches.
//
// DLC_TEST_COUNT points of each kernel (default 2: about 40 in all), from seed
// DLC_TEST_FIRST on.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include "dlc/Codegen/CUDA/CudaKnobs.h"
#include "dlc/Interpreter/Interpreter.h"
#include "dlc/Schedule/Schedule.h"

#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {

/// y[m, n] = relu(a[m, k] * b[k, n] + c[n]).
std::string product(int64_t m, int64_t n, int64_t k, const std::string &type,
                    bool leftAlong, bool rightAlong) {
  bool isInt = type == "i8";
  std::string sum = isInt ? "i32" : "f32", text;
  auto dims = [](int64_t x, int64_t y, const std::string &t) {
    return "tensor<" + std::to_string(x) + "x" + std::to_string(y) + "x" + t +
           ">";
  };
  std::string a = leftAlong ? dims(m, k, type) : dims(k, m, type),
              b = rightAlong ? dims(n, k, type) : dims(k, n, type),
              y = dims(m, n, sum),
              bias = "tensor<" + std::to_string(n) + "x" + sum + ">";
  auto widen = [&](const char *to, const char *from) {
    return type == "f32" ? std::string()
                         : std::string("    ") + to + " = graph.scalar_cast " +
                               from + " : " + type + " -> " + sum + "\n";
  };
  text =
      "graph.kernel @k(%a: " + a + ", %b: " + b + ", %c: " + bias + ") -> " +
      y + " {\n  %s = graph.stage domain<" + std::to_string(m) + ", " +
      std::to_string(n) + "> reduce<" + std::to_string(k) +
      "> fold add : " + y + " {\n" +
      "  ^bb0(%i: index, %j: index, %k: index):\n" +
      "    %p = graph.load %a[affine_map<(d0, d1, d2) -> " +
      (leftAlong ? "(d0, d2)" : "(d2, d0)") + ">](%i, %j, %k) : " + a + " -> " +
      type + "\n    %q = graph.load %b[affine_map<(d0, d1, d2) -> " +
      (rightAlong ? "(d1, d2)" : "(d2, d1)") + ">](%i, %j, %k) : " + b +
      " -> " + type + "\n" + widen("%u", "%p") + widen("%v", "%q") +
      "    %m = graph.apply mul(" + (type == "f32" ? "%p, %q" : "%u, %v") +
      ") : (" + sum + ", " + sum + ") -> " + sum +
      "\n    graph.yield %m : " + sum + "\n  }\n" +
      "  %r = graph.stage domain<" + std::to_string(m) + ", " +
      std::to_string(n) + "> : " + y + " {\n  ^bb0(%i: index, %j: index):\n" +
      "    %p = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : " +
      y + " -> " + sum +
      "\n    %q = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : " +
      bias + " -> " + sum + "\n    %t = graph.apply add(%p, %q) : (" + sum +
      ", " + sum + ") -> " + sum + "\n    graph.yield %t : " + sum +
      "\n  }\n  graph.return %r : " + y + "\n}\n";
  return text;
}

// A padded 3x3 convolution: a factor that is a guarded load.
const char *const kConvolution = R"(
graph.kernel @k(%x: tensor<2x5x9x11xf32>, %w: tensor<40x5x3x3xf32>) -> tensor<2x40x9x11xf32> {
  %s = graph.stage domain<2, 40, 9, 11> reduce<5, 3, 3> fold add : tensor<2x40x9x11xf32> {
  ^bb0(%n: index, %o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5 - 1, d3 + d6 - 1)>](%n, %o, %i, %j, %c, %p, %q)
      guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d2 + d5 - 1 >= 0, 9 - d2 - d5 >= 0, d3 + d6 - 1 >= 0, 11 - d3 - d6 >= 0)>
      else %z : f32 : tensor<2x5x9x11xf32> -> f32
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1, d4, d5, d6)>](%n, %o, %i, %j, %c, %p, %q) : tensor<40x5x3x3xf32> -> f32
    %h = graph.apply add(%f, %f) : (f32, f32) -> f32
    %m = graph.apply mul(%v, %h) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<2x40x9x11xf32>
})";

// Without padding: no guard, and places that are not evenly spaced.
const char *const kUnpadded = R"(
graph.kernel @k(%x: tensor<2x5x9x11xf32>, %w: tensor<38x5x3x3xf32>) -> tensor<2x38x7x9xf32> {
  %s = graph.stage domain<2, 38, 7, 9> reduce<5, 3, 3> fold add : tensor<2x38x7x9xf32> {
  ^bb0(%n: index, %o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5, d3 + d6)>](%n, %o, %i, %j, %c, %p, %q) : tensor<2x5x9x11xf32> -> f32
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1, d4, d5, d6)>](%n, %o, %i, %j, %c, %p, %q) : tensor<38x5x3x3xf32> -> f32
    %m = graph.apply mul(%v, %f) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<2x38x7x9xf32>
})";

// The same of narrow numbers, widened.
std::string narrowConvolution(const std::string &type) {
  bool isInt = type == "i8";
  std::string sum = isInt ? "i32" : "f32", text = kConvolution;
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
         at += to.size())
      text.replace(at, from.size(), to);
  };
  replace("xf32", "x" + type);
  replace("2x40x9x11x" + type, "2x40x9x11x" + sum);
  replace("%z : f32 : tensor", "%z : " + type + " : tensor");
  replace("0.0 : f32 : f32",
          isInt ? "0 : i8 : i8" : "0.0 : " + type + " : " + type);
  replace("-> f32\n    %f", "-> " + type + "\n    %f");
  replace("-> f32\n    %h", "-> " + type + "\n    %h");
  replace("    %h = graph.apply add(%f, %f) : (f32, f32) -> f32\n",
          "    %g = graph.scalar_cast %v : " + type + " -> " + sum +
              "\n    %h = graph.scalar_cast %f : " + type + " -> " + sum +
              "\n");
  replace("mul(%v, %h) : (f32, f32) -> f32",
          "mul(%g, %h) : (" + sum + ", " + sum + ") -> " + sum);
  replace("yield %m : f32", "yield %m : " + sum);
  return text;
}

// The same of both factors as they lie, channels last, every other place:
// threads stay at their step of a panel.
const char *const kChannelsLast = R"(
graph.kernel @k(%x: tensor<2x9x11x6xf32>, %w: tensor<3x3x6x40xf32>) -> tensor<2x5x6x40xf32> {
  %s = graph.stage domain<2, 5, 6, 40> reduce<3, 3, 6> fold add : tensor<2x5x6x40xf32> {
  ^bb0(%n: index, %i: index, %j: index, %o: index, %p: index, %q: index, %c: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 * 2 + d4 - 1, d2 * 2 + d5 - 1, d6)>](%n, %i, %j, %o, %p, %q, %c)
      guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 * 2 + d4 - 1 >= 0, 9 - d1 * 2 - d4 >= 0, d2 * 2 + d5 - 1 >= 0, 11 - d2 * 2 - d5 >= 0)>
      else %z : f32 : tensor<2x9x11x6xf32> -> f32
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d4, d5, d6, d3)>](%n, %i, %j, %o, %p, %q, %c) : tensor<3x3x6x40xf32> -> f32
    %m = graph.apply mul(%v, %f) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<2x5x6x40xf32>
})";

// x / sum of the row: stages of a row.
const char *const kRows = R"(
graph.kernel @k(%x: tensor<40x100xf32>) -> tensor<40x100xf32> {
  %m = graph.stage domain<40, 1> reduce<100> fold max : tensor<40x1xf32> {
  ^bb0(%i: index, %o: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %o, %k) : tensor<40x100xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<40, 100> : tensor<40x100xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<40x100xf32> -> f32
    %d = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<40x1xf32> -> f32
    %r = graph.apply sub(%v, %d) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<40x100xf32>
})";

// A row's mean, and its elements less that, of two axes: of f16.
const char *const kCentred = R"(
graph.kernel @k(%x: tensor<9x6x40xf16>, %c: tensor<6x40xf32>) -> (tensor<9x1x1xf32>, tensor<9x6x40xf16>) {
  %m = graph.stage domain<9, 1, 1> reduce<6, 40> fold add init 0.5 : f32 : tensor<9x1x1xf32> {
  ^bb0(%i: index, %o: index, %u: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<9x6x40xf16> -> f16
    %w = graph.scalar_cast %v : f16 -> f32
    graph.yield %w : f32
  }
  %y = graph.stage domain<9, 6, 40> : tensor<9x6x40xf16> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<9x6x40xf16> -> f16
    %w = graph.scalar_cast %v : f16 -> f32
    %a = graph.load %m[affine_map<(d0, d1, d2) -> (d0, 0, 0)>](%i, %j, %k) : tensor<9x1x1xf32> -> f32
    %n = graph.literal 240.0 : f32 : f32
    %b = graph.apply div(%a, %n) : (f32, f32) -> f32
    %e = graph.load %c[affine_map<(d0, d1, d2) -> (d1, d2)>](%i, %j, %k) : tensor<6x40xf32> -> f32
    %d = graph.apply sub(%w, %b) : (f32, f32) -> f32
    %p = graph.apply mul(%d, %e) : (f32, f32) -> f32
    %q = graph.scalar_cast %p : f32 -> f16
    graph.yield %q : f16
  }
  graph.return %m, %y : tensor<9x1x1xf32>, tensor<9x6x40xf16>
})";

// Stages of a row that read each other's elements at other places.
const char *const kMirrored = R"(
graph.kernel @k(%x: tensor<40x100xf32>) -> tensor<40x100xf32> {
  %e = graph.stage domain<40, 100> : tensor<40x100xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<40x100xf32> -> f32
    %n = graph.apply neg(%v) : (f32) -> f32
    graph.yield %n : f32
  }
  %y = graph.stage domain<40, 100> : tensor<40x100xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, 99 - d1)>](%i, %j) : tensor<40x100xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %y : tensor<40x100xf32>
})";

// y[i, j] = x[j, i] + c[j].
std::string transpose(int64_t m, int64_t n, const std::string &type) {
  std::string x = "tensor<" + std::to_string(n) + "x" + std::to_string(m) +
                  "x" + type + ">",
              c = "tensor<" + std::to_string(n) + "x" + type + ">",
              y = "tensor<" + std::to_string(m) + "x" + std::to_string(n) +
                  "x" + type + ">";
  return "graph.kernel @k(%x: " + x + ", %c: " + c + ") -> " + y +
         " {\n  %s = graph.stage domain<" + std::to_string(m) + ", " +
         std::to_string(n) + "> : " + y +
         " {\n  ^bb0(%i: index, %j: index):\n"
         "    %v = graph.load %x[affine_map<(d0, d1) -> (d1, d0)>](%i, %j) : " +
         x + " -> " + type +
         "\n    %w = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : " +
         c + " -> " + type + "\n    %t = graph.apply add(%v, %w) : (" + type +
         ", " + type + ") -> " + type + "\n    graph.yield %t : " + type +
         "\n  }\n  graph.return %s : " + y + "\n}\n";
}

const char *const kReduce = R"(
graph.kernel @k(%x: tensor<3x20000xf32>) -> tensor<3xf32> {
  %m = graph.stage domain<3> reduce<20000> fold add : tensor<3xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x20000xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %m : tensor<3xf32>
})";

// Folds of rows along memory, and what follows from each.
const char *const kNorms = R"(
graph.kernel @k(%x: tensor<2x35x6x44xf32>) -> tensor<2x35xf32> {
  %m = graph.stage domain<2, 35> reduce<6, 44> fold add : tensor<2x35xf32> {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    %v = graph.load %x[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%i, %j, %k, %l) : tensor<2x35x6x44xf32> -> f32
    %w = graph.apply mul(%v, %v) : (f32, f32) -> f32
    graph.yield %w : f32
  }
  %y = graph.stage domain<2, 35> : tensor<2x35xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %m[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<2x35xf32> -> f32
    %w = graph.apply sqrt(%v) : (f32) -> f32
    graph.yield %w : f32
  }
  graph.return %y : tensor<2x35xf32>
})";

// A product of one row: warps fold a part each.
const char *const kSlices = R"(
graph.kernel @k(%a: tensor<1x300xf32>, %b: tensor<300x70xf32>) -> tensor<1x70xf32> {
  %s = graph.stage domain<1, 70> reduce<300> fold add : tensor<1x70xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %p = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<1x300xf32> -> f32
    %q = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<300x70xf32> -> f32
    %m = graph.apply mul(%p, %q) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<1x70xf32>
})";

const char *const kMap = R"(
graph.kernel @k(%x: tensor<30x48xf32>, %c: tensor<48xf32>) -> tensor<30x48xf32> {
  %y = graph.stage domain<30, 48> : tensor<30x48xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<30x48xf32> -> f32
    %d = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<48xf32> -> f32
    %r = graph.apply mul(%v, %d) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<30x48xf32>
})";

struct Case {
  std::string name, text;
  bool tf32 = false;
  /// Of the largest result.
  double tolerance = 2e-6;
  const char *target = "cuda:sm=80";
};

std::vector<Case> cases() {
  auto attention = [](const std::string &type, int64_t group, int64_t rows,
                      int64_t keys, const char *schedule = "") {
    AttentionCase c;
    c.schedule = schedule;
    c.heads = 2;
    c.group = group;
    c.rows = rows;
    c.keys = keys;
    c.inner = 24;
    c.columns = 40;
    c.type = type;
    c.mask = rows > 1 ? "causal" : "none";
    c.past = keys - rows;
    return attentionText(c);
  };
  return {{"plain", product(70, 90, 72, "f32", true, false)},
          {"plain turned", product(130, 68, 600, "f32", false, true)},
          {"convolution", kConvolution},
          {"half", product(70, 136, 96, "f16", true, false)},
          {"half turned", product(72, 70, 560, "bf16", false, true)},
          {"tf32", product(66, 72, 40, "f32", true, false), true},
          {"bytes", product(80, 70, 160, "i8", true, true), false, 0},
          {"rows", kRows},
          {"rows of two axes", kCentred, false, 1e-3},
          {"mirrored rows", kMirrored},
          {"transpose", transpose(136, 132, "f32"), false, 0},
          {"transpose half", transpose(70, 200, "f16"), false, 0},
          {"transpose bytes", transpose(67, 33, "i8"), false, 0},
          {"reduce", kReduce},
          {"norms", kNorms},
          {"slices", kSlices},
          {"map", kMap},
          {"attention", attention("f32", 1, 40, 200), false, 1e-5},
          {"decode", attention("f32", 4, 1, 300), false, 1e-5},
          {"attention half", attention("f16", 2, 40, 200), false, 4e-3},
          {"decode half", attention("bf16", 4, 1, 300), false, 2e-2},
          {"attention wgmma",
           attention("bf16", 2, 70, 300, "laws = [\"round(softmax)\"]"), false,
           2e-2, "cuda:sm=90a"},
          {"channels last", kChannelsLast},
          {"convolution half", narrowConvolution("f16")},
          {"convolution bytes", narrowConvolution("i8"), false, 0},
          {"convolution tf32", kConvolution, true},
          {"unpadded", kUnpadded},
          {"unpadded tf32", kUnpadded, true},
          {"groups", product(200, 136, 200, "bf16", true, false), false, 2e-6,
           "cuda:sm=90a"},
          {"groups turned", product(136, 264, 560, "f16", false, true), false,
           2e-6, "cuda:sm=90a"},
          {"groups of bytes", product(130, 72, 304, "i8", true, true), false, 0,
           "cuda:sm=90a"}};
}

struct Environment {
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel;
  std::vector<Tensor> operands, expected;

  explicit Environment(const Case &c) {
    context.loadDialect<graph::GraphDialect>();
    loadCudaDialects(context);
    module = mlir::parseSourceString<mlir::ModuleOp>(c.text, &context);
    if (!module)
      return;
    kernel = *module->getOps<graph::KernelOp>().begin();
    unsigned seed = 1;
    for (mlir::Type type : kernel.getArgumentTypes())
      operands.push_back(
          random(mlir::cast<mlir::RankedTensorType>(type), seed++));
    auto results = interp::Interpreter().runKernel(kernel, operands, {});
    if (succeeded(results))
      expected.assign(results->begin(), results->end());
  }

  /// Eighths between -1 and 1, or small integers: exact in every type.
  static Tensor random(mlir::RankedTensorType type, unsigned seed) {
    Tensor tensor(type.getElementType(), type.getShape());
    auto values = eighths(tensor.getNumElements(), seed);
    mlir::Type element = type.getElementType();
    char *bytes = tensor.getMutableBytes();
    if (element.isF32()) {
      std::memcpy(bytes, values.data(), values.size() * 4);
    } else if (element.isF16() || element.isBF16()) {
      auto bits = toBits(values, element.isBF16());
      std::memcpy(bytes, bits.data(), bits.size() * 2);
    } else {
      int64_t size = element.getIntOrFloatBitWidth() / 8;
      for (auto [i, value] : llvm::enumerate(values)) {
        int32_t number = static_cast<int32_t>(value * 64);
        std::memcpy(bytes + int64_t(i) * size, &number, size_t(size));
      }
    }
    return tensor;
  }

  /// The kernel's text under a schedule, and the laws it has.
  std::string textWith(const KnobValues &knobs) {
    mlir::DictionaryAttr given = kernel.getScheduleAttr();
    Schedule schedule = llvm::cantFail(getSchedule(kernel));
    schedule.knobs.insert(knobs.begin(), knobs.end());
    // As databases keep it.
    schedule = llvm::cantFail(Schedule::parseJson(schedule.toJson()));
    kernel.setScheduleAttr(schedule.toAttr(&context));
    std::string text;
    llvm::raw_string_ostream os(text);
    module->print(os, mlir::OpPrintingFlags().useLocalScope());
    if (given)
      kernel.setScheduleAttr(given);
    else
      kernel.removeScheduleAttr();
    return text;
  }
};

double numberAt(const Tensor &tensor, int64_t i) {
  mlir::Type type = tensor.getElementType();
  const char *bytes = tensor.getBytes();
  if (type.isF32())
    return tensor.getData<float>()[size_t(i)];
  if (type.isInteger(32))
    return tensor.getData<int32_t>()[size_t(i)];
  if (type.isInteger(8))
    return tensor.getData<int8_t>()[size_t(i)];
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * i, 2);
  return llvm::APFloat(mlir::cast<mlir::FloatType>(type).getFloatSemantics(),
                       llvm::APInt(16, bits))
      .convertToDouble();
}

/// What the kernel under this schedule does wrong; empty: nothing.
std::string findFault(CompiledKernel &kernel, const Environment &e,
                      double tolerance, uint64_t seed) {
  std::vector<EmulatedBuffer> buffers;
  for (const Tensor &t : e.operands)
    buffers.push_back({const_cast<char *>(t.getBytes()),
                       size_t(t.getNumBytes()), "operand", false});
  std::vector<Tensor> results;
  for (const Tensor &t : e.expected) {
    Tensor result(t.getElementType(), t.getShape());
    std::memset(result.getMutableBytes(), 0xff, size_t(result.getNumBytes()));
    buffers.push_back({result.getMutableBytes(), size_t(result.getNumBytes()),
                       "result", true});
    results.push_back(std::move(result));
  }
  std::string error = kernel.run(buffers, {}, nullptr, seed);
  if (!error.empty())
    return error;
  for (auto [got, wanted] : llvm::zip_equal(results, e.expected)) {
    double largest = 0;
    for (int64_t i = 0; i < wanted.getNumElements(); ++i)
      largest = std::max(largest, std::abs(numberAt(wanted, i)));
    for (int64_t i = 0; i < wanted.getNumElements(); ++i) {
      double off = std::abs(numberAt(got, i) - numberAt(wanted, i));
      if (!(off <= tolerance * std::max(largest, 1.0)))
        return "element " + std::to_string(i) + " is " +
               std::to_string(numberAt(got, i)) + ", not " +
               std::to_string(numberAt(wanted, i));
    }
  }
  return {};
}

unsigned fromEnvironment(const char *name, unsigned otherwise) {
  const char *text = std::getenv(name);
  return text ? unsigned(std::atoi(text)) : otherwise;
}

} // namespace

TEST(CudaKnobs, SampledSchedulesAreRight) {
  unsigned first = fromEnvironment("DLC_TEST_FIRST", 0),
           count = fromEnvironment("DLC_TEST_COUNT", 2), tried = 0;
  for (const Case &c : cases()) {
    Environment e(c);
    ASSERT_TRUE(e.kernel && !e.expected.empty()) << c.name;
    CudaCodegenOptions options{"k", /*strict=*/false, c.tf32};
    options.warpGroups =
        llvm::cantFail(parseCudaTarget(c.target)).hasWarpGroups();
    ScheduleSpace space = cudaScheduleSpace(e.kernel, options);
    ASSERT_FALSE(space.knobs.empty()) << c.name;
    // The tuner's account asks for it by this name.
    EXPECT_EQ(space.defaults.count("instruction_rows"), options.warpGroups)
        << c.name;
    std::string reason;
    EXPECT_TRUE(space.isLegal(space.defaults, reason)) << c.name << reason;
    for (unsigned seed = first; seed < first + count; ++seed) {
      ScheduleSpace::Random random(seed + 1);
      auto point = space.sample(random);
      // Without wgmma their points are those of the other cases.
      while (options.warpGroups && point && point->at("instruction_rows") != 64)
        point = space.sample(random);
      ASSERT_TRUE(point) << c.name;
      std::string text = e.textWith(*point);
      CompiledKernel kernel(text, c.target, options);
      std::string where;
      for (auto &[name, value] : *point)
        where += " " + name + "=" + std::to_string(value);
      ASSERT_EQ(kernel.error, "") << c.name << where;
      EXPECT_EQ(kernel.nest, space.nest) << c.name;
      EXPECT_EQ(findFault(kernel, e, c.tolerance, seed), "")
          << c.name << where << " seed " << seed;
      if (tried++ == 0) { // the judge tells a store that is missing
        ASSERT_TRUE(kernel.dropStore("k") || kernel.dropStore("k__parts"));
        EXPECT_NE(findFault(kernel, e, c.tolerance, seed), "");
      }
    }
  }
}

TEST(CudaKnobs, WhatMakesNoCodeIsRefused) {
  Environment e(cases()[0]);
  ScheduleSpace space = cudaScheduleSpace(e.kernel, {"k"});
  struct {
    KnobValues knobs;
    const char *reason;
  } refused[] = {
      {{{"warps", 4}}, "'warps' is no knob of this kernel; it has panel_steps"},
      {{{"tile_rows", 96}, {"thread_rows", 5}}, "4 or 8 rows"},
      {{{"tile_rows", 24}}, "a warp of 4 x 8 threads"},
      {{{"panel_steps", 3}}, "4 to 64 steps"},
      {{{"panel_steps", 64}, {"tile_rows", 128}, {"stages", 4}}, "48 KiB"},
      {{{"tile_rows", 256}, {"thread_rows", 8}, {"thread_columns", 8}},
       "most of the tile is idle"},
      {{{"stages", 9}}, "2 to 8 stages"},
      {{{"parts", 50}}, "more parts than panels"}};
  for (auto &[knobs, reason] : refused) {
    std::string why;
    EXPECT_FALSE(space.isLegal(knobs, why)) << reason;
    EXPECT_NE(why.find(reason), std::string::npos) << why;
    CompiledKernel kernel(e.textWith(knobs));
    EXPECT_NE(kernel.error.find(reason), std::string::npos) << kernel.error;
  }
  Environment half(cases()[3]);
  ScheduleSpace tensor = cudaScheduleSpace(half.kernel, {"k"});
  std::string why;
  EXPECT_FALSE(tensor.isLegal({{"warps", 4}, {"warp_columns", 3}}, why));
  EXPECT_FALSE(tensor.isLegal({{"warps", 2}, {"tile_columns", 256}}, why));
  EXPECT_FALSE(tensor.isLegal({{"panel_bytes", 96}}, why));
  EXPECT_FALSE(tensor.isLegal({{"panel_bytes", 128}, {"stages", 4}}, why));
  EXPECT_TRUE(tensor.isLegal({{"panel_bytes", 128}, {"stages", 3}}, why))
      << why;
}

TEST(CudaKnobs, TheScheduleDecidesTheLaunch) {
  Environment e(cases()[0]);
  CompiledKernel byRule(e.textWith({})),
      large(e.textWith({{"thread_rows", 8}})),
      parted(e.textWith({{"parts", 2}}));
  ASSERT_EQ(byRule.error + large.error + parted.error, "");
  EXPECT_NE(byRule.ptx.find(".maxntid 256"), std::string::npos);
  EXPECT_NE(large.ptx.find(".maxntid 128"), std::string::npos);
  EXPECT_EQ(byRule.numLaunches, 1u);
  EXPECT_EQ(parted.numLaunches, 2u);
}
