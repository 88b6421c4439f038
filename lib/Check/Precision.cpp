// The form of an expression without the roundings that a law leaves out.
#include "Precision.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

static bool isNarrow(Type type) { return type.isF16() || type.isBF16(); }

/// Functions of floats whose value in f32 is nearer to the exact one.
static bool isSmooth(ScalarFn fn) {
  switch (fn) {
  case ScalarFn::add:
  case ScalarFn::sub:
  case ScalarFn::mul:
  case ScalarFn::div:
  case ScalarFn::max:
  case ScalarFn::min:
  case ScalarFn::neg:
  case ScalarFn::abs:
  case ScalarFn::exp:
  case ScalarFn::tanh:
  case ScalarFn::erf:
  case ScalarFn::select:
    return true;
  default:
    return false;
  }
}

static TypedAttr attributeOf(const Node &node) {
  return cast<TypedAttr>(
      Attribute::getFromOpaquePointer(reinterpret_cast<void *>(node.payload)));
}

void PrecisionForm::add(const Law &law) {
  if (law.kind == LawKind::excess)
    (law.second ? all : sums) = true;
  scales |= law == Law::scale();
}

NodeId PrecisionForm::rebuild(NodeId id,
                              llvm::function_ref<NodeId(NodeId)> next) {
  Node node = exprs.get(id);
  switch (node.kind) {
  case Node::Apply: {
    SmallVector<NodeId> args;
    for (uint32_t arg : node.args)
      args.push_back(next(arg));
    return exprs.apply(node.fn(), args, node.type);
  }
  case Node::Cast:
    return exprs.cast(next(node.args[0]), node.type, node.payload);
  case Node::Choose: {
    NodeId a = next(node.args[1]), b = next(node.args[2]);
    return exprs.choose(exprs.getGuard(node.args[0]), a, b);
  }
  case Node::Fold:
    node.args[0] = next(node.args[0]);
    return exprs.intern(std::move(node));
  default:
    return id;
  }
}

NodeId PrecisionForm::spread(NodeId id) {
  if (auto it = spreaded.find(id); it != spreaded.end())
    return it->second;
  NodeId result = rebuild(id, [&](NodeId arg) { return spread(arg); });
  Node node = exprs.get(result);
  if (node.kind == Node::Cast && node.type == f32 &&
      isNarrow(exprs.get(node.args[0]).type)) {
    Node of = exprs.get(node.args[0]);
    if (of.kind == Node::Literal) {
      result = widen(node.args[0]);
    } else if (of.kind == Node::Choose) {
      NodeId a = spread(exprs.cast(of.args[1], f32, false)),
             b = spread(exprs.cast(of.args[2], f32, false));
      result = exprs.choose(exprs.getGuard(of.args[0]), a, b);
    }
  }
  return spreaded[id] = result;
}

NodeId PrecisionForm::run(NodeId id) {
  if (auto it = known.find(id); it != known.end())
    return it->second;
  Node node = exprs.get(id);
  NodeId result;
  if (isExcess() && isNarrow(node.type))
    result = narrow(id);
  else if (isExcess() && node.kind == Node::Cast && node.type == f32 &&
           isNarrow(exprs.get(node.args[0]).type))
    result = widen(node.args[0]);
  else if (node.kind == Node::Fold)
    result = runFold(std::move(node));
  else
    result = rebuild(id, [&](NodeId arg) { return run(arg); });
  return known[id] = result;
}

NodeId PrecisionForm::narrow(NodeId id) {
  Node node = exprs.get(id);
  NodeId value = widen(id);
  // A widened number is itself.
  const Node &found = exprs.get(value);
  if (found.kind == Node::Cast && exprs.get(found.args[0]).type == node.type)
    return found.args[0];
  if (node.kind == Node::Literal)
    return id;
  return exprs.cast(value, node.type, /*saturate=*/false);
}

NodeId PrecisionForm::widen(NodeId id) {
  if (auto it = wide.find(id); it != wide.end())
    return it->second;
  Node node = exprs.get(id);
  NodeId result;
  if (node.kind == Node::Literal) {
    APFloat value = cast<FloatAttr>(attributeOf(node)).getValue();
    bool losesInfo = false;
    value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven,
                  &losesInfo);
    result = exprs.literal(FloatAttr::get(f32, value));
  } else if (node.kind == Node::Cast && !node.payload &&
             exprs.get(node.args[0]).type == f32) {
    result = run(node.args[0]);
  } else if (node.kind == Node::Apply && isSmooth(node.fn())) {
    SmallVector<NodeId> args;
    for (uint32_t arg : node.args)
      args.push_back(exprs.get(arg).type == node.type ? widen(arg) : run(arg));
    result = exprs.apply(node.fn(), args, f32);
  } else if (node.kind == Node::Choose) {
    NodeId a = widen(node.args[1]), b = widen(node.args[2]);
    result = exprs.choose(exprs.getGuard(node.args[0]), a, b);
  } else {
    NodeId same = node.kind == Node::Fold
                      ? runFold(std::move(node))
                      : rebuild(id, [&](NodeId arg) { return run(arg); });
    result = exprs.cast(same, f32, /*saturate=*/false);
  }
  return wide[id] = result;
}

/// A factor that is widened from 16 bits, rounded to them again unless it is
/// just that.
NodeId PrecisionForm::keepFactor(NodeId factor) {
  const Node &node = exprs.get(factor);
  if (!sums || node.kind != Node::Cast || node.type != f32 ||
      !isNarrow(exprs.get(node.args[0]).type))
    return run(factor);
  NodeId rounded = narrow(node.args[0]);
  if (exprs.get(rounded).kind == Node::Literal)
    return run(factor);
  return exprs.cast(rounded, f32, /*saturate=*/false);
}

NodeId PrecisionForm::runFold(Node fold) {
  Node body = exprs.get(fold.args[0]);
  bool isProduct = fold.foldKind() == FoldKind::add && !fold.init &&
                   fold.type == f32 && body.kind == Node::Apply &&
                   body.fn() == ScalarFn::mul;
  if (!isProduct) {
    fold.args[0] = run(fold.args[0]);
    return exprs.intern(std::move(fold));
  }
  APFloat scale(1.0f);
  bool isScaled = false;
  SmallVector<NodeId> factors;
  for (NodeId factor : body.args) {
    // The number may be beneath the factor's own rounding.
    NodeId value = run(factor);
    Node product = exprs.get(value);
    std::optional<unsigned> literal;
    if (scales && product.kind == Node::Apply && product.fn() == ScalarFn::mul)
      for (unsigned i : {0u, 1u})
        if (exprs.get(product.args[i]).kind == Node::Literal &&
            exprs.get(product.args[1 - i]).kind != Node::Literal)
          literal = i;
    if (literal) {
      APFloat number =
          cast<FloatAttr>(attributeOf(exprs.get(product.args[*literal])))
              .getValue();
      NodeId rest = product.args[1 - *literal];
      // What is left must be a factor that need not be rounded again.
      Node left = exprs.get(rest);
      bool isPlain =
          !sums || !isExcess() || exprs.get(factor).kind != Node::Cast ||
          (left.kind == Node::Cast && isNarrow(exprs.get(left.args[0]).type));
      if (number.isFiniteNonZero() && isPlain) {
        scale.multiply(number, APFloat::rmNearestTiesToEven);
        isScaled = true;
        factors.push_back(rest);
        continue;
      }
    }
    factors.push_back(keepFactor(factor));
  }
  fold.args[0] = exprs.apply(ScalarFn::mul, factors, body.type);
  NodeId sum = exprs.intern(std::move(fold));
  return isScaled
             ? exprs.apply(ScalarFn::mul,
                           {sum, exprs.literal(FloatAttr::get(f32, scale))},
                           f32)
             : sum;
}
