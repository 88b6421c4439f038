"""Faults planted into models, for the judge's own negative controls, and an evaluation in the model's own precision.

- last: a sum (or product of matrices) loses its last element;
- swap: the operands of a subtraction, division or comparison change places;
- bf16: the float inputs of the model, or the operands of a node, are rounded to bfloat16 first;
- slice: a slice, split, pad or gather begins one place later.

A graph damps faults as it damps rounding (a normalisation divides by what it is fed): what a fault far from the outputs leaves of
itself there may be less than rounding does. So each kind comes at several places, drawn ones first, then those nearest to the outputs."""
import copy

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import evaluate

SUMS = ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "MatMul", "Softmax", "LayerNormalization", "RMSNormalization")
ORDERED = ("Sub", "Div", "Greater", "Less", "LessOrEqual", "Mod")


class Single(evaluate.Context):
    """Every result is rounded to its type: one right answer of a compiler that reorders nothing."""

    def __init__(self):
        super().__init__(rng=True)

    def moved(self, array, type, amount):
        return self._round(array, type)

    def rounded(self, array, type, factor=1.0, extra=0.0):
        return self._round(array, type)

    def summed(self, array, type, count, norm):
        return self._round(array, type)

    @staticmethod
    def _round(array, type):
        if type not in evaluate.UNIT:
            return array
        return np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(type)).astype(np.float64)


class SinglePlan(evaluate.Plan):
    def run(self, feed, rng=None):
        original, evaluate.Context = evaluate.Context, lambda rng, ordered: Single()
        try:
            return super().run(feed)
        finally:
            evaluate.Context = original


def evaluate_single(model, feed):
    """The outputs as arrays of their own types."""
    values = SinglePlan(model).run(feed)
    return [v.array.astype(helper.tensor_dtype_to_np_dtype(v.type)) if v.is_float else v.array for v in values]


def _shapes(model):
    """{name: (type, rank)} of inputs and weights; enough for what is planted."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    found = {v.name: (v.type.tensor_type.elem_type, len(v.type.tensor_type.shape.dim)) for v in
             [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]}
    found.update({t.name: (t.data_type, len(t.dims)) for t in model.graph.initializer})
    return found


def _weight(model, name, array):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def _before(model, node, index, made):
    """Inserts nodes before `node`, whose input `index` becomes the last one's output."""
    place = next(i for i, n in enumerate(model.graph.node) if n is node or n.output[0] == node.output[0])
    for offset, new in enumerate(made):
        model.graph.node.insert(place + offset, new)
    model.graph.node[place + len(made)].input[index] = made[-1].output[0]


def drop_last(model, node, shapes):
    """The last element along the last summed axis becomes zero."""
    name = node.input[0]
    if name not in shapes or shapes[name][1] == 0 or shapes[name][0] not in evaluate.UNIT:
        return False
    axis = -1
    if node.op_type.startswith("Reduce") and len(node.input) > 1:
        axes = next((numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[1]), None)
        if axes is None or not axes.size:
            return False
        axis = int(np.ravel(axes)[-1])
    elif node.op_type == "Softmax":
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    elif node.op_type == "MatMul":
        axis = -1
    rank = shapes[name][1]
    pads = [0] * (2 * rank)
    pads[rank + axis % rank] = 1
    i64 = lambda label, *numbers: _weight(model, f"fault_{label}", np.array(numbers, np.int64))
    cut = helper.make_node("Slice", [name, i64("s", 0), i64("e", -1), i64("a", axis % rank)], ["fault_cut"])
    back = helper.make_node("Pad", ["fault_cut", i64("p", *pads)], ["fault_back"])
    _before(model, node, 0, [cut, back])
    return True


def swap(model, node, shapes):
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return node.input[0] != node.input[1]


def shift(model, node, shapes):
    """What a Slice, Gather or Concat reads is rolled by one along its last axis."""
    name = node.input[0]
    if name not in shapes or shapes[name][1] == 0:
        return False
    i64 = lambda label, *numbers: _weight(model, f"fault_{label}", np.array(numbers, np.int64))
    last = shapes[name][1] - 1
    a = helper.make_node("Slice", [name, i64("s", 1), i64("e", 1 << 40), i64("a", last)], ["fault_a"])
    b = helper.make_node("Slice", [name, i64("z", 0), i64("o", 1), i64("a2", last)], ["fault_b"])
    _before(model, node, 0, [a, b, helper.make_node("Concat", ["fault_a", "fault_b"], ["fault_roll"], axis=last)])
    return True


def _round(model, names, nodes):
    """These nodes read these float values through bfloat16."""
    made = []
    for name in names:
        for node in nodes:
            for k, read in enumerate(node.input):
                if read == name:
                    node.input[k] = "fault_" + name
        made += [helper.make_node("Cast", [name], ["fault_h_" + name], to=TensorProto.BFLOAT16),
                 helper.make_node("Cast", ["fault_h_" + name], ["fault_" + name], to=TensorProto.FLOAT)]
    first = min((i for i, n in enumerate(model.graph.node) if any(read.startswith("fault_") for read in n.input)), default=0)
    for node in reversed(made):
        model.graph.node.insert(first, node)
    return bool(made)


def round_inputs(model):
    return _round(model, [i.name for i in model.graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT], list(model.graph.node))


def round_operands(model, node, shapes):
    names = sorted({n for n in node.input if shapes.get(n, (0, 0))[0] == TensorProto.FLOAT})
    return _round(model, names, [node])


def _places(model, ops, rng, near=8):
    """Nodes of these operators (None: any), as numbers: some that are drawn, then the last ones before the outputs."""
    found = [i for i, n in enumerate(model.graph.node) if ops is None or n.op_type in ops]
    drawn = list(found)
    rng.shuffle(drawn)
    outputs = {o.name for o in model.graph.output}
    last = sorted(found, key=lambda i: (not outputs.isdisjoint(model.graph.node[i].output), i), reverse=True)
    return list(dict.fromkeys([int(i) for i in [*drawn[:4], *last[:near]]]))


def broken_models(model, seed=0):
    """Yields (kind, models): the faults of one kind, at a few places; made as they are asked for."""
    rng = np.random.default_rng(seed)
    shapes = _shapes(model)

    def plant_at(places, plant):
        for index in places:
            broken = copy.deepcopy(model)
            if plant(broken, broken.graph.node[index], shapes):
                yield broken

    def rounded():
        broken = copy.deepcopy(model)
        if round_inputs(broken):
            yield broken
            yield from plant_at(_places(model, None, rng, near=12), round_operands)

    for kind, ops, plant in (("last", SUMS, drop_last), ("swap", ORDERED, swap), ("slice", ("Slice", "Split", "Gather", "Concat", "Transpose"), shift)):
        yield kind, plant_at(_places(model, ops, rng), plant)
    yield "bf16", rounded()
