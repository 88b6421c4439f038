"""Branches that part and meet again: the middle of one path is often something that cannot be fused with the others (a product
of matrices, a sort of places, a running sum), so that joining the ends would make a cycle."""
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.FLOAT]
DIMS = {"B": (4, 6), "N": (24, 24)}


def barrier(b, t):
    """Something that a loop over t's points does not take in."""
    kind = int(b.rng.integers(5))
    if kind == 0:
        return b.add("MatMul", t, b.parameter([t.shape[-1], t.shape[-1]], -0.2, 0.2))
    if kind == 1:
        return b.add("CumSum", b.add("Mul", t, 0.125), b.weight(c.np.array(t.rank - 1, c.np.int64)))
    if kind == 2:
        return b.add("Softmax", t, axis=int(b.rng.integers(t.rank)))
    if kind == 3:
        return b.add("Sub", t, c.reduce(b, t, "ReduceMean", [t.rank - 1], 1))
    index = b.pick(lambda u: u.exact and u.type == b.type and u.shape == t.shape)
    return index and b.add("GatherElements", t, b.add("Add", b.add("Mul", b.add("Cast", index, to=TensorProto.INT64), 0),
                                                      b.add("ArgMax", index, axis=t.rank - 1, keepdims=1)), axis=t.rank - 1)


def chain(b, t, length):
    for _ in range(length):
        t = c.unary(b, t) or t
        if b.rng.random() < 0.3:
            t = c.scale(b, t) or t
    return t


def diamond(b):
    top = b.pick(lambda t: t.type == b.type and t.rank == 3 and t.shape[-1] == 24)
    if top is None:
        return
    ends = [top] if b.rng.random() < 0.3 else []
    for _ in range(int(b.rng.integers(2, 5))):
        end = chain(b, top, int(b.rng.integers(0, 4)))
        if b.rng.random() < 0.5:
            end = barrier(b, end) or end
            end = chain(b, end, int(b.rng.integers(0, 3)))
        if b.rng.random() < 0.15:
            b.keep(end)
        ends.append(end)
    result = ends[0]
    for end in ends[1:]:
        joined = b.add(b.choice(["Add", "Sub", "Mul", "Max"]), result, end)
        result = joined or b.add("Tanh", result) or result
    if b.rng.random() < 0.2:  # the join reads the top again through a view
        c.binary(b, c.transpose(b, top, [1, 0, 2]))


def build(b):
    b.input(["B", 6, "N"])
    b.input(["B", 6, "N"])
    b.input([1, 6, "N"])
    b.input(["B", 6, 1])
    while not b.is_full:
        diamond(b)
