"""bf16 and f16: every edge between nodes is rounded, also when it becomes internal to a kernel."""
from onnx import TensorProto

from families import common as c

TYPES = [TensorProto.BFLOAT16, TensorProto.FLOAT16]
DIMS = {"A": (4, 6), "B": (7, 7), "C": (33, 33)}


def through(b, t):
    """A detour over float32, which changes nothing but the width of what happens there."""
    wide = t and b.add("Cast", t, to=TensorProto.FLOAT)
    return wide and b.add("Cast", b.add(b.choice(["Tanh", "Sigmoid", "Sin"]), wide), to=b.type)


def softmax(b, t):
    return t and t.rank and b.add("Softmax", t, axis=int(b.rng.integers(t.rank)))


def product(b, t):
    if t is None or t.rank < 2 or t.symbolic[-1]:
        return None
    n = t.shape[-1]
    return b.add("MatMul", t, b.parameter([n, n], -1 / n, 1 / n))


def build(b):
    for shape in (["A", "B", "C"], ["A", "B", "C"], ["A", 1, "C"], [1, "B", "C"], ["A", "B", 1], ["C"], ["B", "C"]):
        b.input(shape)
    small = lambda t: t.type == b.type and t.rank <= 4
    on = lambda f: lambda b: f(b, b.pick(small))
    c.steps(b, [(30, on(c.unary)), (34, on(c.binary)), (6, on(c.scale)), (4, on(c.divide)), (8, on(c.reduce)), (4, on(c.transpose)), (3, on(c.where)),
                (4, on(through)), (3, on(softmax)), (3, on(product)), (2, on(c.halves_swapped)), (1, lambda b: b.keep(b.pick(small)))])
