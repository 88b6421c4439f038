"""Reshape, transpose, slice, concatenate, pad, split, tile, flip: long chains of index maps with little arithmetic between."""
import numpy as np
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32]
DIMS = {"B": (3, 5)}


def merge(b, t):
    if t is None or t.rank < 2:
        return None
    first = int(b.rng.integers(t.rank - 1))
    return b.merge(t, first, int(b.rng.integers(first + 2, t.rank + 1)))


def split(b, t):
    axes = t and [i for i in range(t.rank) if not t.symbolic[i] and t.shape[i] > 3]
    if not axes or t.rank > 5:
        return None
    axis = b.choice(axes)
    factors = [f for f in range(2, t.shape[axis]) if t.shape[axis] % f == 0]
    return b.split(t, axis, b.choice(factors)) if factors else None


def refactor(b, t):
    """All fixed sizes flattened and cut another way: radices that do not nest."""
    if t is None or any(t.symbolic) or t.rank == 0:
        return None
    rest, sizes = t.size, []
    while rest > 1 and len(sizes) < 4:
        factor = b.choice([f for f in range(2, rest + 1) if rest % f == 0])
        sizes.append(factor)
        rest //= factor
    return b.add("Reshape", t, b.ints(*sizes, *([rest] if rest > 1 else [])))


def tile(b, t):
    return t and t.rank and t.size < 2000 and b.add("Tile", t, b.ints(*[int(n) for n in b.rng.integers(1, 3, t.rank)]))


def expand(b, t):
    if t is None or t.rank > 4:
        return None
    axis = int(b.rng.integers(t.rank + 1))
    wide = b.add("Unsqueeze", t, b.ints(axis))
    return wide and b.add("Expand", wide, b.ints(*[2 if i == axis else 1 for i in range(wide.rank)]))


def stack(b, t):
    """Several views of one tensor side by side."""
    if t is None or t.rank == 0:
        return None
    axis = int(b.rng.integers(t.rank))
    others = [u for u in (b.pick(lambda u: u.shape == t.shape and u.type == t.type and u.symbolic == t.symbolic) for _ in range(2)) if u]
    return b.add("Concat", t, *others, axis=axis)


def depth(b, t):
    if t is None or t.rank != 4 or t.type != TensorProto.FLOAT:
        return None
    if t.shape[1] % 4 == 0:
        return b.add("DepthToSpace", t, blocksize=2, mode=b.choice(["DCR", "CRD"]))
    return b.add("SpaceToDepth", t, blocksize=2) if t.shape[2] % 2 == 0 and t.shape[3] % 2 == 0 else None


def arithmetic(b, t):
    if t is None:
        return None
    if t.type == TensorProto.FLOAT:
        return c.unary(b, t) if b.rng.random() < 0.5 else c.binary(b, t)
    other = c.partner(b, t)
    return other and b.add(b.choice(["Add", "Sub", "Max", "Min"]), t, other)


def total(b, t):
    """A sum over axes at the end of a chain of views."""
    if t is not None and t.type == TensorProto.FLOAT:
        return c.reduce(b, t, b.choice(["ReduceSum", "ReduceMax", "ReduceMean"]))
    axes = t and c.some_axes(b, t)
    return axes and b.add(b.choice(["ReduceSum", "ReduceMax", "ReduceMin"]), t, b.ints(*axes), keepdims=int(b.rng.integers(2)))


def pad(b, t):
    return c.pad(b, t) if t is not None and t.type == TensorProto.FLOAT else None


def build(b):
    low, high = (-1.0, 1.0) if b.type == TensorProto.FLOAT else (-1000, 1000)
    for shape in (["B", 8, 12], ["B", 8, 12], ["B", 12, 4, 6], ["B", 16], [6, 8, 10], [24, 15]):
        b.input(shape, low=low, high=high)
    small = lambda t: t.type == b.type and 0 < t.rank <= 6 and t.size <= 6000
    on = lambda f: lambda b: f(b, b.pick(small))
    c.steps(b, [(14, on(merge)), (14, on(split)), (16, on(c.transpose)), (8, on(refactor)), (9, on(c.slice_)), (5, on(c.halves_swapped)) if b.type ==
                TensorProto.FLOAT else (1, on(c.slice_)), (5, on(pad)), (3, on(tile)), (4, on(expand)), (5, on(stack)), (4, on(depth)), (3, on(c.gather)),
                (18, on(arithmetic)), (8, on(total)), (1, lambda b: b.keep(b.pick(small)))])
