"""Reduce, broadcast, reduce over rows of all lengths: from one long row to many of one element, with the odd sizes around vectors and
blocks between. Small graphs of large tensors."""
import numpy as np
from onnx import TensorProto

from families import common as c
from families import norms as n

TYPES = [TensorProto.FLOAT]
DIMS = {"P": (3, 5)}
MOST = 60  # nodes
LARGEST = 1 << 17
SHAPES = [(1, 1), (1, 65537), (65537, 1), (2, 30011), (4099, 3), (257, 255), (33, 1025), (15, 17), (1000, 64), (7, 4096), (1, 31), ("P", 2049)]


def build(b):
    sources = [b.input(shape) for shape in (SHAPES[int(i)] for i in b.rng.permutation(len(SHAPES))[:4])]
    while not b.is_full:
        x = b.choice(sources)
        step = b.choice([n.softmax, n.softmax_written, n.layer_norm_written, n.rms_written, n.variance, top])
        y = step(b, x)
        y = c.unary(b, y) if b.rng.random() < 0.5 else y
        if y is not None and b.rng.random() < 0.5:
            y = b.add(b.choice(["Add", "Mul", "Sub"]), x, y)
        if y is not None and b.rng.random() < 0.2:
            c.reduce(b, y, b.choice(["ReduceMean", "ReduceMax"]), [int(b.rng.integers(2))], 1)


def top(b, t):
    """Divided by the largest entry of the row, or of everything."""
    axes = b.ints(1) if b.rng.random() < 0.7 else b.ints(0, 1)
    return b.add("Div", t, b.add("Add", b.add("ReduceMax", b.add("Abs", t), axes, keepdims=1), float(np.float32(0.25))))
