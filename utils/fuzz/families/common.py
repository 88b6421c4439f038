"""Steps that several families take."""
import numpy as np
from onnx import TensorProto

UNARY = ["Tanh", "Sigmoid", "Relu", "Abs", "Neg", "Exp", "Erf", "Sin", "Cos", "Softplus", "LeakyRelu", "HardSigmoid", "HardSwish", "Elu", "Gelu",
         "Softsign", "Mish"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]
REDUCE = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]


def is_float(t):
    return t.type not in (TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT32)


def like(b):
    """Floats of the graph's own type."""
    return lambda t: t.type == b.type


def unary(b, t):
    return t and b.add(b.choice(UNARY), t)


def partner(b, t):
    """Another tensor of t's type that broadcasts with it."""
    return b.pick(lambda other: other is not t and other.type == t.type and b.broadcasts(t, other) and max(other.rank, t.rank) <= 5)


def binary(b, t):
    other = t and partner(b, t)
    return other and (b.add(b.choice(BINARY), t, other) if b.rng.random() < 0.5 else b.add(b.choice(BINARY), other, t))


def scale(b, t):
    return b.add("Add", b.add("Mul", t, float(np.float32(b.rng.uniform(0.2, 1.2)))), float(np.float32(b.rng.uniform(-0.5, 0.5))))


def divide(b, t):
    """t / (1 + |u|)"""
    other = t and partner(b, t)
    return other and b.add("Div", t, b.add("Add", b.add("Abs", other), 1.0))


def root(b, t):
    return b.add("Sqrt", b.add("Add", b.add("Abs", t), 0.5))


def some_axes(b, t, one=0.5):
    axes = [i for i in range(t.rank) if t.shape[i] > 1]
    if not axes:
        return None
    count = 1 if b.rng.random() < one else int(b.rng.integers(1, len(axes) + 1))
    return sorted(int(n) for n in b.rng.choice(axes, count, replace=False))


def reduce(b, t, op=None, axes=None, keep=None):
    """A reduction; sums of much are scaled first, so that they stay in range."""
    axes = axes or (t and some_axes(b, t))
    if not axes:
        return None
    op = op or b.choice(REDUCE)
    keep = int(b.rng.random() < 0.7) if keep is None else keep
    count = int(np.prod([t.shape[n] for n in axes]))
    if op in ("ReduceSum", "ReduceL1", "ReduceSumSquare", "ReduceL2") and count > 4:
        t = b.add("Mul", t, float(np.float32(2.0 / count if op != "ReduceL2" else 2.0 / np.sqrt(count))))
    return t and b.add(op, t, b.ints(*axes), keepdims=keep)


def where(b, t):
    """A choice between two tensors by a comparison of exact ones."""
    first = b.pick(lambda u: u.exact and u.type == b.type and t is not None and b.broadcasts(t, u))
    second = first and b.pick(lambda u: u.exact and u.type == b.type and u is not first and b.broadcasts(t, u, first))
    other = t and partner(b, t)
    if not second or not other or not b.broadcasts(t, other, first, second):
        return None
    return b.add("Where", b.add(b.choice(["Greater", "LessOrEqual"]), first, second), t, other)


def transpose(b, t, perm=None):
    if t is None or t.rank < 2:
        return None
    return b.add("Transpose", t, perm=perm or [int(n) for n in b.rng.permutation(t.rank)])


def slice_(b, t):
    """A part of an axis of fixed size, sometimes with a step or backwards."""
    axes = t and [i for i in range(t.rank) if not t.symbolic[i] and t.shape[i] > 2]
    if not axes:
        return None
    axis = b.choice(axes)
    n = t.shape[axis]
    start = int(b.rng.integers(0, n - 1))
    end = int(b.rng.integers(start + 1, n + 1))
    if b.rng.random() < 0.25:
        return b.add("Slice", t, b.ints(n - 1), b.ints(-n - 1), b.ints(axis), b.ints(-1))
    step = 2 if b.rng.random() < 0.2 and end - start > 2 else 1
    return b.add("Slice", t, b.ints(start), b.ints(end), b.ints(axis), b.ints(step))


def halves_swapped(b, t):
    """An axis cut in two and joined the other way round."""
    axes = t and [i for i in range(t.rank) if not t.symbolic[i] and t.shape[i] > 2]
    if not axes:
        return None
    axis = b.choice(axes)
    n = t.shape[axis]
    cut = int(b.rng.integers(1, n))
    parts = b.add_many("Split", 2, t, b.ints(cut, n - cut), axis=axis)
    return parts and b.add("Concat", b.choice([parts[1], b.add("Tanh", parts[1]) or parts[1]]), parts[0], axis=axis)


def pad(b, t):
    if t is None or t.rank == 0:
        return None
    before, after = b.rng.integers(0, 3, t.rank), b.rng.integers(0, 3, t.rank)
    free = [i for i in range(t.rank) if t.symbolic[i]]
    before[free], after[free] = 0, 0
    if b.rng.random() < 0.2 and t.rank and min(t.shape) > 2:
        return b.add("Pad", t, b.ints(*before, *after), mode=b.choice(["edge", "reflect"]))
    return b.add("Pad", t, b.ints(*before, *after), float(np.float32(b.rng.uniform(-1, 1))))


def gather(b, t):
    """Rows by constant places."""
    axes = t and [i for i in range(t.rank) if not t.symbolic[i] and t.shape[i] > 1]
    if not axes:
        return None
    axis = b.choice(axes)
    return b.add("Gather", t, b.weight(b.rng.integers(0, t.shape[axis], t.shape[axis]).astype(np.int64)), axis=axis)


def same(b, t, shape):
    """t brought to a shape of the pool by slicing the leading corner; None when it is not larger."""
    if t is None or t.rank != len(shape) or any(n < m for n, m in zip(t.shape, shape)) or any(t.symbolic):
        return None
    return b.add("Slice", t, b.ints(*[0] * t.rank), b.ints(*shape), b.ints(*range(t.rank)))


def steps(b, table):
    """Draws steps (weight, function of a picked tensor) until the builder is full."""
    weights = np.cumsum([w for w, _ in table])
    while not b.is_full:
        draw = b.rng.random() * weights[-1]
        table[int(np.searchsorted(weights, draw, side="right"))][1](b)
