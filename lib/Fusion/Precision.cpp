// Roundings that stay inside a kernel, left out. Check derives the same form
// from the members by itself (lib/Check/Precision.h).
#include "Precision.h"

#include "FusionGraph.h"
#include "dlc/Fusion/Profitability.h"
#include "dlc/Schedule/NestChoice.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::Law;
using graph::LawKind;
using graph::ScalarFn;

static bool isNarrow(Type type) { return type.isF16() || type.isBF16(); }

/// Functions that are nearer to the exact ones in f32.
static bool isSmooth(ScalarFn fn) {
  static constexpr ScalarFn smooth[] = {
      ScalarFn::add, ScalarFn::sub,  ScalarFn::mul, ScalarFn::div,
      ScalarFn::max, ScalarFn::min,  ScalarFn::neg, ScalarFn::abs,
      ScalarFn::exp, ScalarFn::tanh, ScalarFn::erf, ScalarFn::select};
  return llvm::is_contained(smooth, fn);
}

namespace {
/// What became of a stage's result.
struct Renamed {
  TensorId tensor;
  bool isWide = false;          ///< f32 in place of 16 bits
  std::optional<APFloat> scale; ///< readers multiply by it
};

class StageRewriter {
public:
  StageRewriter(const Stage &stage, StageBuilder &builder,
                const llvm::DenseMap<TensorId, Renamed> &renamed,
                ArrayRef<Law> laws, Type f32)
      : stage(stage), builder(builder), renamed(renamed), f32(f32) {
    for (const Law &law : laws) {
      if (law.kind == LawKind::excess)
        (law.second ? all : sums) = true;
      scales |= law == Law::scale();
    }
  }
  bool isExcess() const { return sums || all; }

  unsigned run(unsigned id);
  unsigned widen(unsigned id);
  unsigned narrow(unsigned id);
  /// The yielded product of a sum; sets `scale` where numbers go behind it.
  unsigned runProduct(std::optional<APFloat> &scale);

  unsigned cast(unsigned value, Type type) {
    Node node;
    node.kind = Node::Cast;
    node.type = type;
    node.args = {value};
    return builder.add(std::move(node));
  }
  unsigned literal(const APFloat &value) {
    Node node;
    node.type = f32;
    node.literal = FloatAttr::get(f32, value);
    return builder.add(std::move(node));
  }
  unsigned multiply(unsigned a, unsigned b) {
    Node node;
    node.kind = Node::Apply;
    node.type = f32;
    node.fn = static_cast<unsigned>(ScalarFn::mul);
    node.args = {a, b};
    return builder.add(std::move(node));
  }
  bool isRounding(unsigned made) const {
    const Node &node = builder[made];
    return node.kind == Node::Cast && isNarrow(node.type);
  }

private:
  bool isWidened(const Node &node) const {
    return node.kind == Node::Cast && node.type == f32 &&
           isNarrow(builder[node.args[0]].type);
  }
  unsigned keepFactor(unsigned id);
  unsigned copy(unsigned id);
  unsigned load(unsigned id, bool wide);

  const Stage &stage;
  StageBuilder &builder;
  const llvm::DenseMap<TensorId, Renamed> &renamed;
  Type f32;
  bool sums = false, all = false, scales = false;
  llvm::DenseMap<unsigned, unsigned> known, wides;
};
} // namespace

/// The load of what the tensor became, scaled; where that is wide and is not
/// wanted so, rounded.
unsigned StageRewriter::load(unsigned id, bool wide) {
  Node node = stage.nodes[id];
  auto it = renamed.find(node.tensor);
  bool isWide = it != renamed.end() && it->second.isWide;
  Type type = node.type;
  if (it != renamed.end())
    node.tensor = it->second.tensor;
  if (isWide)
    node.type = f32;
  for (unsigned &arg : node.args)
    arg = isWide ? widen(arg) : run(arg);
  unsigned made = builder.add(std::move(node));
  if (it != renamed.end() && it->second.scale)
    made = multiply(made, literal(*it->second.scale));
  if (isWide && !wide)
    return cast(made, type);
  return !isWide && wide ? cast(made, f32) : made;
}

unsigned StageRewriter::copy(unsigned id) {
  Node node = stage.nodes[id];
  if (node.kind == Node::Load)
    return load(id, /*wide=*/false);
  for (unsigned &arg : node.args)
    arg = run(arg);
  return builder.add(std::move(node));
}

unsigned StageRewriter::run(unsigned id) {
  if (auto it = known.find(id); it != known.end())
    return it->second;
  const Node &node = stage.nodes[id];
  bool isCast = node.kind == Node::Cast && node.type == f32;
  unsigned made = !isExcess()           ? copy(id)
                  : isNarrow(node.type) ? narrow(id)
                  : isCast && isNarrow(stage.nodes[node.args[0]].type)
                      ? widen(node.args[0])
                      : copy(id);
  return known[id] = made;
}

unsigned StageRewriter::narrow(unsigned id) {
  const Node &node = stage.nodes[id];
  if (node.kind == Node::Literal)
    return builder.add(node);
  unsigned value = widen(id);
  const Node &made = builder[value];
  if (made.kind == Node::Cast && builder[made.args[0]].type == node.type)
    return made.args[0];
  return cast(value, node.type);
}

unsigned StageRewriter::widen(unsigned id) {
  if (auto it = wides.find(id); it != wides.end())
    return it->second;
  const Node &node = stage.nodes[id];
  unsigned made;
  if (node.kind == Node::Literal) {
    APFloat value = cast_or_null<FloatAttr>(node.literal).getValue();
    bool losesInfo = false;
    value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven,
                  &losesInfo);
    made = literal(value);
  } else if (node.kind == Node::Load) {
    made = load(id, /*wide=*/true);
  } else if (node.kind == Node::Cast && !node.fn &&
             stage.nodes[node.args[0]].type == f32) {
    made = run(node.args[0]);
  } else if (node.kind == Node::Apply &&
             isSmooth(static_cast<ScalarFn>(node.fn))) {
    Node wide = node;
    wide.type = f32;
    for (unsigned &arg : wide.args)
      arg = stage.nodes[arg].type == node.type ? widen(arg) : run(arg);
    made = builder.add(std::move(wide));
  } else {
    made = cast(copy(id), f32);
  }
  return wides[id] = made;
}

unsigned StageRewriter::keepFactor(unsigned id) {
  const Node &node = stage.nodes[id];
  if (!sums || node.kind != Node::Cast || node.type != f32 ||
      !isNarrow(stage.nodes[node.args[0]].type))
    return run(id);
  unsigned rounded = narrow(node.args[0]);
  return builder[rounded].kind == Node::Literal ? run(id) : cast(rounded, f32);
}

unsigned StageRewriter::runProduct(std::optional<APFloat> &scale) {
  Node product = stage.nodes[stage.root];
  for (unsigned &factor : product.args) {
    unsigned made = run(factor);
    const Node value = builder[made];
    std::optional<unsigned> number;
    if (scales && value.kind == Node::Apply &&
        static_cast<ScalarFn>(value.fn) == ScalarFn::mul)
      for (unsigned i : {0u, 1u})
        if (builder[value.args[i]].kind == Node::Literal &&
            builder[value.args[1 - i]].kind != Node::Literal)
          number = i;
    if (number) {
      APFloat each =
          cast_or_null<FloatAttr>(builder[value.args[*number]].literal)
              .getValue();
      unsigned rest = value.args[1 - *number];
      bool isPlain = !sums || stage.nodes[factor].kind != Node::Cast ||
                     isWidened(builder[rest]);
      if (each.isFiniteNonZero() && isPlain) {
        if (!scale)
          scale = APFloat(1.0f);
        scale->multiply(each, APFloat::rmNearestTiesToEven);
        factor = rest;
        continue;
      }
    }
    factor = keepFactor(factor);
  }
  return builder.add(std::move(product));
}

Type fusion::narrowTypeOf(const Body &body, ArrayRef<TensorId> outputs,
                          const TensorTable &tensors) {
  if (!llvm::all_of(outputs, [&](TensorId id) {
        return isNarrow(tensors.typeOf(id).getElementType());
      }))
    return {};
  for (const StageRef &stage : body.stages)
    for (const Node &node : stage->nodes)
      if ((node.kind == Node::Cast || node.kind == Node::Apply) &&
          isNarrow(node.type))
        return node.type;
  return {};
}

static bool sumsProducts(const Stage &stage, Type f32) {
  const Node &root = stage.nodes[stage.root];
  return stage.fold == graph::FoldKind::add && !stage.init &&
         stage.type.getElementType() == f32 && root.kind == Node::Apply &&
         static_cast<ScalarFn>(root.fn) == ScalarFn::mul;
}

std::optional<Body> fusion::applyPrecision(const Body &body,
                                           ArrayRef<TensorId> outputs,
                                           ArrayRef<Law> laws,
                                           TensorTable &tensors) {
  auto isOutput = [&](TensorId id) { return llvm::is_contained(outputs, id); };
  for (const StageRef &stage : body.stages)
    if (llvm::any_of(stage->loads, isOutput))
      return std::nullopt; // what is stored is rounded
  Body result;
  llvm::DenseMap<TensorId, Renamed> renamed;
  for (const StageRef &stage : body.stages) {
    MLIRContext *context = stage->type.getContext();
    Type f32 = Float32Type::get(context);
    Stage shape = *stage;
    shape.nodes.clear();
    shape.loads.clear();
    shape.work = shape.run = -1;
    shape.strided = -1;
    StageBuilder builder(context, shape);
    StageRewriter rewriter(*stage, builder, renamed, laws, f32);
    std::optional<APFloat> scale;
    unsigned root = sumsProducts(*stage, f32) ? rewriter.runProduct(scale)
                                              : rewriter.run(stage->root);
    bool isInside = !isOutput(stage->result);
    if (scale && !isInside)
      return std::nullopt;
    bool isWide = isInside && !stage->isFold() && rewriter.isExcess() &&
                  isNarrow(stage->type.getElementType()) &&
                  rewriter.isRounding(root);
    if (isWide)
      root = rewriter.widen(stage->root);
    StageRef made = builder.finish(root);
    if (isWide) {
      Stage wide = *made;
      wide.type = graph::makeTensorType(wide.domain, f32);
      wide.result = tensors.addInternal(wide.type);
      renamed.insert({stage->result, {wide.result, true, std::nullopt}});
      made = std::make_shared<Stage>(std::move(wide));
    } else if (scale) {
      renamed.insert({stage->result, {stage->result, false, scale}});
    }
    result.stages.push_back(std::move(made));
  }
  bool isSame =
      llvm::all_of(llvm::zip(body.stages, result.stages), [](auto pair) {
        return std::get<0>(pair)->nodes == std::get<1>(pair)->nodes &&
               std::get<0>(pair)->root == std::get<1>(pair)->root;
      });
  return isSame ? std::nullopt : std::optional(std::move(result));
}

void fusion::leaveOutRoundings(FusionGraph &graph, const Policy &policy,
                               Grouping &grouping) {
  Location loc = graph.main.getLoc();
  for (unsigned g : grouping.order) {
    Group &group = grouping.groups[g];
    if (!group.laws.empty() || !group.body || getNodes(group).size() < 2 ||
        llvm::none_of(group.body->stages, [](const StageRef &stage) {
          return isContraction(*stage);
        }))
      continue;
    std::vector<Law> laws = policy.productLaws(
        narrowTypeOf(*group.body, group.outputs, graph.tensors));
    std::optional<Body> by;
    if (!laws.empty())
      by = applyPrecision(*group.body, group.outputs, laws, graph.tensors);
    if (!by)
      continue;
    graph::KernelOp kernel = emitKernel(graph, group, loc);
    std::swap(*group.body, *by);
    graph::KernelOp other = emitKernel(graph, group, loc);
    if (bestNest(other).nest == bestNest(kernel).nest)
      group.laws = std::move(laws);
    else
      std::swap(*group.body, *by);
    kernel.erase();
    other.erase();
  }
}
