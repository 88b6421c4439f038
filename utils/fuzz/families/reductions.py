"""Reductions over all kinds of axes, kept or not, whose results are spread again over what they came from."""
import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"A": (4, 7), "B": (7, 7), "C": (18, 18), "D": (10, 10)}


def spread(b, t):
    """reduce, work a little, combine with the source or what broadcasts."""
    total = c.reduce(b, t, keep=1)
    total = c.unary(b, total) or total
    return total and b.add(b.choice(["Add", "Sub", "Mul", "Max"]), t, total)


def normalise(b, t):
    axes = t and c.some_axes(b, t)
    if not axes:
        return None
    op = b.choice(["ReduceSum", "ReduceMax", "ReduceL2"])
    below = b.add("Abs", t)
    total = c.reduce(b, below, op, axes, 1)
    return total and b.add("Div", t, b.add("Add", total, 1.0))


def places(b, t):
    exact = b.pick(lambda u: u.exact and u.type == b.type and u.rank > 1)
    if exact is None:
        return None
    axis = int(b.rng.integers(exact.rank))
    found = b.add(b.choice(["ArgMax", "ArgMin"]), exact, axis=axis, keepdims=1)
    return found and b.add("Mul", b.add("Cast", found, to=b.type), 0.0625)


def running(b, t):
    if t is None or t.rank == 0:
        return None
    scaled = b.add("Mul", t, 0.0625)
    return scaled and b.add("CumSum", scaled, b.weight(np.array(int(b.rng.integers(t.rank)), np.int64)), reverse=int(b.rng.integers(2)),
                            exclusive=int(b.rng.integers(2)))


def product(b, t):
    """1 + small numbers multiplied."""
    axes = t and c.some_axes(b, t, one=1)
    return axes and b.add("ReduceProd", b.add("Add", b.add("Mul", t, 0.03125), 1.0), b.ints(*axes), keepdims=int(b.rng.integers(2)))


def build(b):
    for shape in (["A", "B", "C", "D"], ["A", "B", "C", "D"], ["A", "B", "C"], ["C", "D"], ["A", 1, "C", 1], ["A", "B", 1, "D"]):
        b.input(shape)
    small = lambda t: t.type == b.type and t.rank <= 4
    on = lambda f: lambda b: f(b, b.pick(small))
    c.steps(b, [(22, on(c.reduce)), (14, on(spread)), (8, on(normalise)), (4, on(places)), (4, on(running)), (3, on(product)), (16, on(c.unary)),
                (18, on(c.binary)), (5, on(c.transpose)), (2, on(c.where)), (1, lambda b: b.keep(b.pick(small)))])
