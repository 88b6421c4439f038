//===- ConvertTraining.cpp - optimizer steps ------------------------------===//
//
// Momentum, Adagrad and Adam of ai.onnx.preview.training: elementwise formulas
// over groups of tensors (operands: rate, step, then the groups in turn).
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

using namespace dlc;
using namespace mlir;

namespace {
/// The node's operands in groups of `width` lists of equal length.
struct Groups {
  NodeContext &node;
  unsigned width, count;

  Groups(NodeContext &node, unsigned width)
      : node(node), width(width), count((node.numInputs() - 2) / width) {
    if (node.numInputs() < 2 + width || (node.numInputs() - 2) % width)
      refuseMalformed("the operands do not come in groups of " +
                      std::to_string(width));
  }
  Value get(unsigned list, unsigned i) { return node.in(2 + list * count + i); }
  void set(unsigned list, unsigned i, Value value) {
    node.result(list * count + i, value);
  }
};
} // namespace

/// True on the first step (the step count is 0).
static Value isFirst(NodeContext &node) {
  Value step = node.in(1);
  return node.b.emit("graph.eq",
                     {step, node.b.splatInt(0, node.b.element(step))});
}

/// The gradient with the penalty on the squared norm added.
static Value regularize(NodeContext &node, Value x, Value gradient) {
  return node.b.add(node.b.mulScalar(x, node.f("norm_coefficient", 0)),
                    gradient);
}

static void convertMomentum(NodeContext &node) {
  GraphBuilder &b = node.b;
  Groups groups(node, 3);
  bool nesterov = node.s("mode", "standard") == "nesterov";
  double alpha = node.f("alpha", 0), beta = node.f("beta", 1);
  for (unsigned i = 0; i < groups.count; ++i) {
    Value x = groups.get(0, i), v = groups.get(2, i);
    Type element = b.element(x);
    Value rate = b.convert(node.in(0), element);
    Value g = regularize(node, x, groups.get(1, i));
    Value factor =
        b.select(isFirst(node), b.splat(1, element), b.splat(beta, element));
    Value next = b.add(b.mulScalar(v, alpha), b.mul(factor, g));
    Value step = nesterov ? b.add(g, b.mulScalar(next, alpha)) : next;
    groups.set(0, i, b.sub(x, b.mul(rate, step)));
    groups.set(1, i, next);
  }
}

static void convertAdagrad(NodeContext &node) {
  GraphBuilder &b = node.b;
  Groups groups(node, 3);
  for (unsigned i = 0; i < groups.count; ++i) {
    Value x = groups.get(0, i);
    Type element = b.element(x);
    Value decay = b.addScalar(
        b.mulScalar(b.convert(node.in(1), element), node.f("decay_factor", 0)),
        1);
    Value rate = b.div(b.convert(node.in(0), element), decay);
    Value g = regularize(node, x, groups.get(1, i));
    Value h = b.add(groups.get(2, i), b.mul(g, g));
    Value root = b.addScalar(b.unary("graph.sqrt", h), node.f("epsilon", 0));
    groups.set(0, i, b.sub(x, b.div(b.mul(rate, g), root)));
    groups.set(1, i, h);
  }
}

static void convertAdam(NodeContext &node) {
  GraphBuilder &b = node.b;
  Groups groups(node, 4);
  double alpha = node.f("alpha", 0.9), beta = node.f("beta", 0.999);
  for (unsigned i = 0; i < groups.count; ++i) {
    Value x = groups.get(0, i);
    Type element = b.element(x);
    Value rate = b.convert(node.in(0), element),
          step = b.convert(node.in(1), element);
    Value g = regularize(node, x, groups.get(1, i));
    Value v =
        b.add(b.mulScalar(groups.get(2, i), alpha), b.mulScalar(g, 1 - alpha));
    Value h = b.add(b.mulScalar(groups.get(3, i), beta),
                    b.mulScalar(b.mul(g, g), 1 - beta));
    Value root = b.addScalar(b.unary("graph.sqrt", h), node.f("epsilon", 0));
    // Both moments start at zero: the bias of the first steps is divided out.
    auto bias = [&](double base) {
      return b.sub(b.splat(1, element),
                   b.emit("graph.pow", {b.splat(base, element), step}));
    };
    Value corrected =
        b.div(b.mul(rate, b.unary("graph.sqrt", bias(beta))), bias(alpha));
    Value adjusted = b.select(isFirst(node), rate, corrected);
    Value next = b.sub(x, b.mul(adjusted, b.div(v, root)));
    groups.set(0, i, b.mulScalar(next, 1 - node.f("norm_coefficient_post", 0)));
    groups.set(1, i, v);
    groups.set(2, i, h);
  }
}

void dlc::addTraining(ConverterTable &table) {
  table["ai.onnx.preview.training.Momentum"] = convertMomentum;
  table["ai.onnx.preview.training.Adagrad"] = convertAdagrad;
  table["ai.onnx.preview.training.Adam"] = convertAdam;
}
