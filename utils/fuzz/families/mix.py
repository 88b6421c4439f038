"""Elementwise, broadcast, injective and reducing operators at random over one set of shapes."""
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"A": (5, 3), "B": (9, 9), "C": (33, 33)}


def build(b):
    for shape in (["A", "B", "C"], ["A", "B", "C"], ["A", 1, "C"], [1, "B", "C"], ["A", "B", 1], ["B", "C"], ["C"], [1]):
        b.input(shape)
    small = lambda t: t.type == b.type and t.rank <= 4
    on = lambda f: lambda b: f(b, b.pick(small))
    c.steps(b, [(30, on(c.unary)), (36, on(c.binary)), (5, on(c.scale)), (4, on(c.divide)), (3, on(c.root)), (9, on(c.reduce)), (4, on(c.transpose)),
                (3, on(c.where)), (2, on(c.halves_swapped)), (2, on(c.slice_)), (2, on(c.pad)), (1, on(c.gather)),
                (1, lambda b: b.keep(b.pick(small)))])
