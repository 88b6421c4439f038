// Passes over the graph dialect.
#ifndef DLC_GRAPH_PASSES_TD
#define DLC_GRAPH_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Lowering (alphabetical)
//===----------------------------------------------------------------------===//

def FormKernels : Pass<"graph-form-kernels", "::mlir::ModuleOp"> {
  let summary = "turns every graph operator into a call of the kernel its row declares";
  let description = [{
    `%y = graph.exp %x` becomes `graph.kernel @exp_0` and `%y = graph.call @exp_0(%x)`.
    Kernels that differ only in the names of values and in locations are made once;
    the model nodes a call stands for are in its `origin` attribute.

    Stays as it is: `graph.constant`, `graph.reshape` (a view: no data moves) and
    operators of class opaque, which have no kernel. Expects shapes on every value.
  }];
  let statistics = [
    Statistic<"numCalls", "calls", "graph operators turned into calls">,
    Statistic<"numKernels", "kernels", "distinct kernels">
  ];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

//===----------------------------------------------------------------------===//
// Before kernels are formed (alphabetical)
//===----------------------------------------------------------------------===//

def ExposeBands : Pass<"graph-expose-bands", "::mlir::ModuleOp"> {
  let summary = "writes constant masks that are bands as comparisons of positions";
  let description = [{
    A constant of two values, of which one fills a band along the diagonal of
    the last two axes (a causal mask that an exporter folded, a window), becomes
    the comparison it stands for, where its elements end in the maximum of a
    softmax: kernels then know which elements are masked without reading them.
    Every element is compared with the band. So do constant positions (integers
    start, start + step, ...) become coordinates, where they are compared to the
    same end: `position < length` is known without reading them.
  }];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def FoldUniform : Pass<"graph-fold-uniform", "::mlir::ModuleOp"> {
  let summary = "folds tensors that are one number everywhere, and what changes nothing";
  let description = [{
    What an element may be is told by literals, positions (`graph.iota`, sizes)
    and the choices between them; comparisons of positions are decided by the
    bounds of coordinates. No bit of a result changes.

    - An operator that has one number for all its elements is that number:
      written out where it is small, else its broadcast, a literal in the kernels
      that read it. Elementwise operators read one number instead of a constant
      of many equal ones where another operand gives the shape.
    - `x + 0`, `x - 0`, `x * 1`, `x / 1`, `max(x, -inf)`, `min(x, inf)`, `x and
      true`, `x or false` and choices that are decided are `x`. With `-0 + +0`
      and `-0 - -0`, which are `+0`: only where `x` is never `-0` (a sum in f32
      or f64, which starts from `+0`; a known number) or where no result tells
      one zero from the other (all readers, through what passes it on, are
      exponentials, comparisons or sums).
    - max, min, and, or along axes that a value does not depend on are the value.
      So is a number that no element exceeds and that each row has somewhere:
      looked for at the first and the last element and on the diagonals (the
      maximum of a causal mask's row). A sum is count times the number where no
      partial sum is rounded. Axes that may be empty stay as they are.
  }];
  let statistics = [Statistic<"numFolded", "folded", "operators and operands that were folded">];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def HoistSlices : Pass<"graph-hoist-slices", "::mlir::ModuleOp"> {
  let summary = "computes only the rows that are read of what is computed";
  let description = [{
    Where every reader of an operator's result takes the same small window of it
    (the last token of a decoder's prefill, the first of an encoder's classifier),
    the operands' windows are taken instead, as far up as this goes: through
    elementwise operators, products, reductions along other axes, reshapes and
    transposes. The values are the ones that were computed before, bit for bit.
    A window is small when it leaves out half of its tensor, along each axis that
    it cuts.
  }];
  let statistics = [Statistic<"numHoisted", "hoisted", "operators that compute a window only">];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def IntegerProducts : Pass<"graph-integer-products", "::mlir::ModuleOp"> {
  let summary = "multiplies the integers of dequantised factors";
  let description = [{
    `graph.contract` and `graph.conv` of `graph.dequantize %a, %s, %p` and
    `graph.dequantize %b, %t, %q`, bytes both, become the product of `%a - %p` and
    `%b - %q` summed in i32, converted to f32 and multiplied by `%s * %t`: what
    QLinearConv and QLinearMatMul mean. The sum is then exact, where that of f32
    rounds: not under `-fp=strict`.

    Needs a scale that is one number, or one for each index of one axis that is
    the result's, too; one factor that is made of constants; and a sum of at most
    33025 terms, which i32 holds. Convolutions of fewer than 16 channels a group
    stay as they are.
  }];
  let statistics = [Statistic<"numProducts", "products", "products of integers">];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def MakeState : Pass<"graph-make-state", "::mlir::ModuleOp"> {
  let summary = "keeps caches that a model is given and gives back inside it";
  let description = [{
    An output that is Concat of an input, which nothing else reads, and new rows
    along an axis of symbolic size becomes state: the input becomes an argument
    marked `graph.state` with room for more rows, `graph.append` writes the new
    ones in place, and the output is gone. Readers see the rows in use through
    `graph.slice`. All such states get equally many rows in a run and share one
    length; their other sizes have to be known from the other inputs. An output
    that is an input with rows replaced (graph.scatter between views, whose
    operand nothing else reads) becomes state that `graph.update` writes in
    place; one symbol of its sizes may be no other input's.
    `pairs` are texts `<input>:<output>`, or the one text `auto`: all there are.
  }];
  let options = [
    Option<"bits", "bits", "unsigned", "0", "bits of a number in the cache, 8 or 4; 0: as in the model">,
    ListOption<"pairs", "pairs", "std::string", "inputs and the outputs that append to them, or auto">
  ];
  let statistics = [
    Statistic<"numStates", "states", "inputs that became state">,
    Statistic<"numRounded", "rounded", "of them, held in few bits">
  ];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def RoundProducts : Pass<"graph-round-products", "::mlir::ModuleOp"> {
  let summary = "rounds the factors of float32 products to bf16";
  let description = [{
    `graph.contract %x, %w : (f32, f32) -> f32`, of which one factor is a constant
    of the model, becomes one of `graph.convert %x` to bf16 and the rounded
    constant, still summed in and of type f32; a graph.conv likewise. Not those
    of few channels a group. `products` says which, counted in program order
    from 0; none: all. With `probe` nothing is rounded yet: `@main` gets an
    argument of bools, one a product, and each factor becomes a select between
    its rounded form and itself.
  }];
  let options = [
    ListOption<"products", "products", "unsigned", "numbers of the products; none: all">,
    Option<"probe", "probe", "bool", "false", "rounding is an argument of each run">
  ];
  let statistics = [Statistic<"numRounded", "rounded", "products with rounded factors">];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def UnifySizes : Pass<"graph-unify-sizes", "::mlir::ModuleOp"> {
  let summary = "writes sizes that are required to be equal in one way";
  let description = [{
    Where `graph.requires` of `@main` says that a symbol of an argument's dim
    equals another expression of such symbols (`total` = `past + 1`), the
    expression takes the symbol's place in every type and attribute. Arguments
    and results keep their types, through reshapes marked `graph.same_sizes`;
    the requirement stays, and is checked before each run.
  }];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

#endif // DLC_GRAPH_PASSES_TD
