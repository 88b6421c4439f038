"""A model evaluated in float64, and how far rounding may take its outputs.

The gate of the judge is `8 u sqrt(d) ||x||_2` for a sum of d terms. That is one kernel's; a graph has a thousand, and a bound
carried through them by adding absolute values doubles at every diamond and says nothing at the end. So it is carried by Monte
Carlo arithmetic: the graph is evaluated in float64 a few times more, and each node's result is moved at random by the unit of
its own gate (`u sqrt(d) ||x||_2` for sums, `u |y|` for an operation that rounds once, nothing for one that is exact). What the
outputs then do is what rounding does to them: cancellation, damping and correlation are those of the graph. Eight times the
root mean square of the samples is the gate of an output's element.

Each movement has a part for every element and a part for the whole tensor: rounding errors of equal elements are equal, and an
average over them does not make them smaller.

Values: floats of any width are float64 arrays, integers and bools keep their numpy type and wrap as the machine does."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

import operators

UNIT = {TensorProto.DOUBLE: 2.0**-53, TensorProto.FLOAT: 2.0**-24, TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}
SMALLEST = {TensorProto.DOUBLE: 2.0**-1022, TensorProto.FLOAT: 2.0**-126, TensorProto.FLOAT16: 2.0**-14, TensorProto.BFLOAT16: 2.0**-126}
FLOATS = tuple(UNIT)
SAMPLES = 8  # movements that a gate is estimated from
FACTOR = 8  # of the gate


class Value:
    """An array and the element type it is stored as in the model (a TensorProto type)."""

    __slots__ = ("array", "type")

    def __init__(self, array, type):
        self.array, self.type = array, type

    @property
    def is_float(self):
        return self.type in UNIT


class Context:
    """One evaluation: exact (rng None) or moved; `ordered`: as far as sums from left to right may be off."""

    def __init__(self, rng=None, ordered=False):
        self.rng, self.ordered = rng, ordered

    def moved(self, array, type, amount):
        """`array` moved by at most about `amount` (same shape or broadcast to it), stored as `type`."""
        if self.rng is None or type not in UNIT or array.size == 0:
            return array
        rng = self.rng
        return array + amount * (rng.standard_normal(array.shape) + rng.standard_normal()) * 0.7071

    def rounded(self, array, type, factor=1.0, extra=0.0):
        """A result that is rounded once: moved by `factor` units of |array| + extra."""
        if self.rng is None or type not in UNIT:
            return array
        return self.moved(array, type, factor * UNIT[type] * (np.abs(array) + extra + SMALLEST[type]))

    def summed(self, array, type, count, norm):
        """A sum of `count` terms whose 2-norm is `norm`, kept in float32 at least and rounded to `type` once."""
        if self.rng is None or type not in UNIT:
            return array
        inner = min(UNIT[type], UNIT[TensorProto.FLOAT])
        steps = max(count, 1)
        array = self.moved(array, type, inner * np.sqrt(steps) * norm * (max(steps / FACTOR, 1) if self.ordered else 1))
        return array if inner == UNIT[type] else self.rounded(array, type)


def from_numpy(array, type=None):
    """A Value of an array as numpy or ml_dtypes holds it."""
    array = np.asarray(array)
    type = helper.np_dtype_to_tensor_dtype(array.dtype) if type is None else type
    return Value(array.astype(np.float64) if type in UNIT else array, type)


def attributes_of(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def run_node(ctx, node, inputs, opset):
    """The outputs (Values) of one node."""
    attributes = attributes_of(node)
    function = operators.TABLE.get(node.op_type)
    if function is None:
        return operators.by_reference(ctx, node, inputs, opset)
    with np.errstate(all="ignore"):
        results = function(ctx, inputs, attributes)
    return results if isinstance(results, list) else [results]


class Plan:
    """A model made ready to be evaluated several times. Weights are read once; a value is dropped after its last use."""

    def __init__(self, model):
        self.model, self.graph = model, model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.weights = {t.name: from_numpy(numpy_helper.to_array(t), t.data_type) for t in self.graph.initializer}
        self.inputs = [i for i in self.graph.input if i.name not in self.weights]
        self.last = {}
        for number, node in enumerate(self.graph.node):
            for name in node.input:
                self.last[name] = number
        for output in self.graph.output:
            self.last[output.name] = len(self.graph.node)

    def run(self, feed, rng=None, ordered=False):
        """Outputs (Values) for `feed` ({name: array}), moved at random when `rng` is given."""
        ctx = Context(rng, ordered)
        values = dict(self.weights)
        for i in self.inputs:
            values[i.name] = from_numpy(feed[i.name], i.type.tensor_type.elem_type)
        for number, node in enumerate(self.graph.node):
            results = run_node(ctx, node, [values[n] if n else None for n in node.input], self.opset)
            for name in set(node.input):
                if name and self.last[name] == number and name not in self.weights:
                    del values[name]
            for name, value in zip(node.output, results):
                if name in self.last:
                    values[name] = value
        return [values[o.name] for o in self.graph.output]


def reference(model, feed, seed=0, samples=SAMPLES, ordered=False):
    """[(expected, gate)] of the outputs: float64 arrays; gate None for outputs that must be equal (integers, bools).

    An element is right when |got - expected| <= gate. `ordered`: the gate of a sum is the bound of one from left to right, whatever the
    terms: d u ||x||_1 <= u d^1.5 ||x||_2. Terms that are equal come near it, because each addition rounds the same way."""
    plan = Plan(model)
    exact = plan.run(feed)
    moved = [plan.run(feed, np.random.default_rng([seed, k]), ordered) for k in range(samples)]
    results = []
    for index, value in enumerate(exact):
        if not value.is_float:
            results.append((value.array, None))
            continue
        squares = np.zeros(value.array.shape)
        for sample in moved:
            squares += np.square(sample[index].array - value.array)
        spread = np.sqrt(squares / samples)
        # A few samples may all miss one element: neighbours of the tensor say how much is usual.
        usual = np.sqrt(np.mean(np.square(spread))) if spread.size else 0.0
        unit = UNIT[value.type]
        gate = FACTOR * (spread + 0.25 * usual) + unit * np.abs(value.array) + SMALLEST[value.type] * unit
        results.append((value.array, gate))
    return results
