// dlc model.onnx -emit=kernel-library. The model is compiled until its kernels
// are formed, proved and scheduled; then each kernel becomes a module of its
// own, printed as text, whose @main calls it. From there on they are operations
// like those of a manifest.
#include "LibraryModel.h"

#include "Compilation.h"

#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Program/Passes.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

// The library's name of an element type; null: it has none.
static const library::ElementType *findType(Type type) {
  StringRef name = type.isF32()                ? "f32"
                   : type.isF16()              ? "f16"
                   : type.isBF16()             ? "bf16"
                   : type.isF64()              ? "f64"
                   : type.isInteger(1)         ? "bool"
                   : type.isUnsignedInteger(8) ? "u8"
                   : type.isUnsignedInteger()  ? ""
                   : type.isInteger(8)         ? "i8"
                   : type.isInteger(32)        ? "i32"
                   : type.isInteger(64)        ? "i64"
                                               : "";
  return library::findType(name);
}

// (s + offset) floordiv divisor * factor, as far as the expression has this
// form.
static std::optional<library::Extent> makeExtent(AffineExpr expr) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return library::Extent{-1, 0, 1, constant.getValue()};
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return library::Extent{static_cast<int>(symbol.getPosition()), 0, 1, 1};
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  auto number =
      binary ? dyn_cast<AffineConstantExpr>(binary.getRHS()) : nullptr;
  if (!number)
    return std::nullopt;
  auto inner = makeExtent(binary.getLHS());
  int64_t value = number.getValue();
  if (!inner || inner->dim < 0)
    return std::nullopt;
  bool isPlain = inner->divisor == 1 && inner->factor == 1;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    if (!isPlain)
      return std::nullopt;
    inner->offset += value;
    return inner;
  case AffineExprKind::FloorDiv:
  case AffineExprKind::CeilDiv:
    if (!isPlain || value < 1)
      return std::nullopt;
    inner->divisor = value;
    inner->offset += expr.getKind() == AffineExprKind::CeilDiv ? value - 1 : 0;
    return inner;
  case AffineExprKind::Mul:
    if (value < 0)
      return std::nullopt;
    inner->factor *= value;
    return inner;
  default:
    return std::nullopt;
  }
}

// What the kernel's symbols are called: as the model's, where the first call
// passes one of those.
static std::vector<library::Dim> nameDims(graph::KernelOp kernel,
                                          graph::CallOp call) {
  auto main = call->getParentOfType<func::FuncOp>();
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  auto ranges = main->getAttrOfType<ArrayAttr>("graph.ranges");
  llvm::StringSet<> used; // the tensors' names, too
  for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i)
    used.insert("x" + std::to_string(i));
  for (unsigned i = 0; i < kernel.getResultTypes().size(); ++i)
    used.insert("y" + std::to_string(i));
  std::vector<library::Dim> dims;
  for (unsigned i = 0; i < kernel.getNumSymbols(); ++i) {
    library::Dim dim;
    AffineExpr actual =
        call.getSymbols() ? call.getSymbols()->getDims()[i] : AffineExpr();
    auto symbol = dyn_cast_or_null<AffineSymbolExpr>(actual);
    if (symbol && names && symbol.getPosition() < names.size()) {
      unsigned position = symbol.getPosition();
      dim.name = toIdentifier(cast<StringAttr>(names[position]).getValue());
      if (ranges && position < ranges.size()) {
        auto range = cast<DenseI64ArrayAttr>(ranges[position]);
        dim.range.typical = range[2];
      }
    }
    if (dim.name.empty() || !used.insert(dim.name).second) {
      dim.name = "s" + std::to_string(i);
      used.insert(dim.name);
    }
    dims.push_back(std::move(dim));
  }
  return dims;
}

// A module whose @main calls the kernel on its arguments.
static std::string printAlone(graph::KernelOp kernel,
                              const std::vector<library::Dim> &dims) {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto copy = cast<graph::KernelOp>(kernel->clone());
  copy->removeAttr(kDispatchAttr);
  clearVariantRange(copy);
  os << "module {\n";
  copy->print(os, OpPrintingFlags().useLocalScope());
  copy->erase();
  os << "\nfunc.func @main(";
  auto types = [&](ArrayRef<Type> list, StringRef value, StringRef name) {
    for (auto [i, type] : llvm::enumerate(list)) {
      os << (i ? ", " : "");
      if (!value.empty())
        os << value << i << ": ";
      os << type;
      if (!name.empty())
        os << " {graph.name = \"" << name << i << "\"}";
    }
  };
  types(kernel.getArgumentTypes(), "%x", "x");
  os << ") -> (";
  types(kernel.getResultTypes(), "", "y");
  os << ") attributes {graph.symbols = [";
  llvm::interleaveComma(
      dims, os, [&](const library::Dim &dim) { os << '"' << dim.name << '"'; });
  os << "]} {\n  %r:" << kernel.getResultTypes().size() << " = graph.call @"
     << kernel.getSymName() << "(";
  for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i)
    os << (i ? ", " : "") << "%x" << i;
  os << ")";
  if (!dims.empty()) {
    os << " symbols <";
    for (unsigned i = 0; i < dims.size(); ++i)
      os << (i ? ", " : "") << "s" << i;
    os << ">";
  }
  os << " : (";
  types(kernel.getArgumentTypes(), "", "");
  os << ") -> (";
  types(kernel.getResultTypes(), "", "");
  os << ")\n  return ";
  for (unsigned i = 0; i < kernel.getResultTypes().size(); ++i)
    os << (i ? ", " : "") << "%r#" << i;
  os << " : ";
  types(kernel.getResultTypes(), "", "");
  os << "\n}\n}\n";
  return text;
}

static bool addTensors(library::Operation &op, ArrayRef<Type> types,
                       StringRef name, bool isOutput, std::string &reason) {
  for (auto [i, type] : llvm::enumerate(types)) {
    library::Tensor tensor;
    tensor.name = name.str() + std::to_string(i);
    tensor.isOutput = isOutput;
    tensor.type = findType(cast<RankedTensorType>(type).getElementType());
    if (!tensor.type) {
      reason = "an element type that libraries have no name for";
      return false;
    }
    for (AffineExpr dim : graph::getDims(type)) {
      auto extent = makeExtent(dim);
      if (!extent) {
        reason = "a size that is a function of several";
        return false;
      }
      tensor.extents.push_back(*extent);
    }
    op.tensors.push_back(std::move(tensor));
  }
  return true;
}

// What the profiler and the header say of it.
static void describe(library::Operation &op, graph::CallOp call) {
  op.text = "a kernel of the model";
  if (auto origin = call->getAttrOfType<ArrayAttr>("origin")) {
    op.text += ": nodes";
    llvm::StringSet<> seen;
    for (auto name : origin.getAsRange<StringAttr>())
      if (seen.insert(name.getValue()).second)
        op.text += " " + name.getValue().str();
  }
}

Expected<library::Library>
dlc::exportKernels(const CompileOptions &options, StringRef target,
                   StringRef name, std::vector<std::string> &leftOut) {
  CompileOptions o = options;
  o.emit = {EmitKind::Kernels};
  o.target = target.str();
  o.quiet = true;
  Progress quiet(/*quiet=*/true, /*redraw=*/false);
  Compilation c(o, quiet);
  c.name = name.str();
  if (Error error = compileToProgram(c))
    return std::move(error);
  library::Library result;
  result.name = name.str();
  result.description = "The kernels of " + options.input + ".";
  SymbolTable symbols(c.getModule());
  llvm::StringSet<> seen;
  c.getModule().walk([&](graph::CallOp call) {
    if (!seen.insert(call.getCallee()).second)
      return;
    auto kernel = symbols.lookup<graph::KernelOp>(call.getCallee());
    library::Operation op;
    op.name = toIdentifier(kernel.getSymName());
    op.kind = "kernel";
    op.dims = nameDims(kernel, call);
    std::string reason;
    if (!addTensors(op, kernel.getArgumentTypes(), "x", false, reason) ||
        !addTensors(op, kernel.getResultTypes(), "y", true, reason)) {
      leftOut.push_back("'" + op.name + "': " + reason);
      return;
    }
    op.type = op.tensors.back().type->name;
    describe(op, call);
    op.isGraph = true;
    library::Instance instance;
    instance.name = "any";
    instance.isGeneral = true;
    for (const library::Dim &dim : op.dims)
      instance.ranges.push_back(dim.range);
    op.instances.push_back(std::move(instance));
    op.makeModel = [text = printAlone(kernel, op.dims)](
                       ArrayRef<library::Range>, bool) { return text; };
    result.operations.push_back(std::move(op));
  });
  if (result.operations.empty())
    return makeError(ExitCode::Rejected,
                     leftOut.empty() ? "has no kernel to export"
                                     : "has no kernel that can be exported: " +
                                           leftOut.front(),
                     options.input);
  return result;
}
