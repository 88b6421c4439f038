"""Integers and bools: equal bits whatever is fused, whole wrap-around included."""
import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8]
DIMS = {"A": (6, 4), "B": (10, 10), "C": (17, 17)}


def arithmetic(b, t):
    other = t and c.partner(b, t)
    return other and b.add(b.choice(["Add", "Sub", "Mul", "Max", "Min"]), t, other)


def divide(b, t):
    """By 1..7, so that nothing is divided by zero or overflows."""
    other = t and c.partner(b, t)
    low = other and b.add("Add", b.add("Mod", other, b.weight(np.array(7, c_dtype(b)))), b.weight(np.array(1, c_dtype(b))))
    if low is None or any((v.array <= 0).any() for v in low.values):
        return None
    return b.add(b.choice(["Div", "Mod"]), t, low)


def c_dtype(b):
    return {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}[b.type]


def bits(b, t):
    other = t and c.partner(b, t)
    return other and b.add(b.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), t, other)


def one(b, t):
    return t and b.add(b.choice(["Abs", "Neg", "BitwiseNot"] if b.type != TensorProto.UINT8 else ["BitwiseNot"]), t)


def total(b, t):
    axes = t and c.some_axes(b, t)
    return axes and b.add(b.choice(["ReduceMax", "ReduceMin"] if b.type in (TensorProto.INT8, TensorProto.UINT8) else ["ReduceSum", "ReduceMax", "ReduceMin"]),
                          t, b.ints(*axes), keepdims=int(b.rng.random() < 0.7))


def choose(b, t):
    first = t and c.partner(b, t)
    second = first and b.pick(lambda u: u.type == b.type and b.broadcasts(u, t, first))
    if second is None:
        return None
    condition = b.add(b.choice(["Greater", "Equal", "LessOrEqual"]), t, second)
    if b.rng.random() < 0.3:
        condition = b.add("Not", condition)
    return condition and b.add("Where", condition, first, t)


def through(b, t):
    """By another width and back."""
    return t and b.add("Cast", b.add("Cast", t, to=b.choice([TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT16])), to=b.type)


def truth(b, t):
    """Bools as numbers."""
    bools = b.pick(lambda u: u.type == TensorProto.BOOL)
    other = bools and b.pick(lambda u: u.type == TensorProto.BOOL and b.broadcasts(u, bools))
    return other and b.add("Cast", b.add(b.choice(["And", "Or", "Xor"]), bools, other), to=b.type)


def build(b):
    low, high = (-100, 100) if b.type != TensorProto.UINT8 else (0, 200)
    for shape in (["A", "B", "C"], ["A", "B", "C"], ["A", 1, "C"], ["B", "C"], ["C"], ["A", "B", 1]):
        b.input(shape, low=low, high=high)
    b.input(["B", "C"], type=TensorProto.BOOL)
    small = lambda t: t.type == b.type and t.rank <= 4
    on = lambda f: lambda b: f(b, b.pick(small))
    c.steps(b, [(30, on(arithmetic)), (8, on(divide)), (10, on(bits)), (10, on(one)), (10, on(total)), (8, on(choose)), (5, on(through)), (4, on(truth)),
                (6, on(c.transpose)), (4, on(c.slice_)), (3, on(c.gather)), (1, lambda b: b.keep(b.pick(small)))])
