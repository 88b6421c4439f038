"""Normalisations and softmax, as ONNX operators and written out, one after another and over different axes."""
import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"B": (3, 5), "S": (14, 11), "H": (40, 40)}


def affine(b, t, shape):
    return b.add("Add", b.add("Mul", t, b.parameter(shape, 0.5, 1.5)), b.parameter(shape, -0.2, 0.2))


def softmax(b, t):
    return b.add(b.choice(["Softmax", "Softmax", "LogSoftmax"]), t, axis=int(b.rng.integers(t.rank)))


def softmax_written(b, t):
    axis = int(b.rng.integers(t.rank))
    e = b.add("Exp", b.add("Sub", t, b.add("ReduceMax", t, b.ints(axis), keepdims=1)))
    return e and b.add("Div", e, b.add("ReduceSum", e, b.ints(axis), keepdims=1))


def layer_norm(b, t):
    n = t.shape[-1]
    if t.symbolic[-1]:
        return None
    if b.rng.random() < 0.5:
        return b.add("LayerNormalization", t, b.parameter([n], 0.5, 1.5), b.parameter([n], -0.2, 0.2), axis=-1, epsilon=1e-3)
    return b.add("RMSNormalization", t, b.parameter([n], 0.5, 1.5), axis=-1, epsilon=1e-3)


def layer_norm_written(b, t):
    axes = b.ints(-1) if b.rng.random() < 0.7 else b.ints(-2, -1)
    d = b.add("Sub", t, b.add("ReduceMean", t, axes, keepdims=1))
    square = b.add("Mul", d, d) if b.rng.random() < 0.5 else b.add("Pow", d, 2.0)
    v = b.add("Add", b.add("ReduceMean", square, axes, keepdims=1), 1e-2)
    y = b.add("Div", d, b.add("Sqrt", v)) if b.rng.random() < 0.6 else b.add("Mul", d, b.add("Reciprocal", b.add("Sqrt", v)))
    return affine(b, y, [t.shape[-1]]) if y is not None and not t.symbolic[-1] else y


def rms_written(b, t):
    mean = b.add("ReduceMean", b.add("Mul", t, t), b.ints(-1), keepdims=1)
    return b.add("Mul", t, b.add("Reciprocal", b.add("Sqrt", b.add("Add", mean, 1e-2))))


def group_norm(b, t):
    if t.rank != 3 or t.symbolic[1]:
        return None
    channels = t.shape[1]
    if b.rng.random() < 0.5:
        return b.add("InstanceNormalization", t, b.parameter([channels], 0.5, 1.5), b.parameter([channels], -0.2, 0.2), epsilon=1e-2)
    groups = b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    return b.add("GroupNormalization", t, b.parameter([channels], 0.5, 1.5), b.parameter([channels], -0.2, 0.2), num_groups=groups, epsilon=1e-2)


def variance(b, t):
    """A tensor divided by its largest entry or its standard deviation, over any axes."""
    axes = b.ints(*(c.some_axes(b, t) or [0]))
    if b.rng.random() < 0.5:
        return b.add("Div", t, b.add("Add", b.add("ReduceMax", b.add("Abs", t), axes, keepdims=1), 0.25))
    d = b.add("Sub", t, b.add("ReduceMean", t, axes, keepdims=1))
    return b.add("Div", d, b.add("Sqrt", b.add("Add", b.add("ReduceMean", b.add("Mul", d, d), axes, keepdims=1), 0.0625)))


def build(b):
    for shape in (["B", "S", "H"], ["B", "S", "H"], ["B", 8, 30], ["S", "H"], ["B", 8, 1]):
        b.input(shape)
    fits = lambda t: t.type == b.type and t.rank in (2, 3) and t.shape[-1] > 1
    on = lambda f: lambda b: f(b, b.pick(fits))
    c.steps(b, [(10, on(softmax)), (10, on(softmax_written)), (10, on(layer_norm)), (12, on(layer_norm_written)), (8, on(rms_written)), (6, on(group_norm)),
                (8, on(variance)), (22, on(c.binary)), (14, on(c.unary)), (4, on(c.scale)), (3, on(c.transpose)), (1, lambda b: b.keep(b.pick(fits)))])
