"""Small ONNX models of attentions: what exporters write, and what only looks like one. A model holds many of them side by side, each under a
prefix of its own, so that one compilation answers for all."""
import math

import numpy as np
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


class Model:
    """Collects nodes; `prefix` names the part that is being built."""

    def __init__(self):
        self.nodes, self.inputs, self.outputs, self.inits, self.prefix, self.count = [], [], [], [], "", 0

    def name(self, what):
        self.count += 1
        return f"{self.prefix}_{what}_{self.count}"

    def input(self, shape, dtype=F):
        name = self.name("in")
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, value, dtype=np.float32):
        name = self.name("c")
        self.inits.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values):
        return self.const(list(values), np.int64)

    def __call__(self, op, *inputs, n=1, **attributes):
        outs = [self.name(op.lower()) for _ in range(n)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name=self.name(op), **attributes))
        return outs[0] if n == 1 else outs

    def output(self, value, dtype=F):
        self.outputs.append(helper.make_tensor_value_info(value, dtype, None))

    def build(self, opset=24):
        graph = helper.make_graph(self.nodes, "attentions", self.inputs, self.outputs, self.inits)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=11)


B, H, S, D, C = 1, 4, 8, 8, 8


class Parts:
    """An attention whose steps may be changed: a step is a method that a function in `changes` replaces (it gets the model, then what the
    method gets)."""

    def __init__(self, g, changes=None, keys=S, heads=H, kv=H, merged=False, spelled=True):
        self.g, self.changes, self.keys, self.heads, self.kv, self.merged, self.spelled = g, changes or {}, keys, heads, kv, merged, spelled

    def step(self, name, default, *args):
        return self.changes[name](self.g, *args) if name in self.changes else default(*args)

    def head(self, length, width, heads):
        g = self.g
        if not self.merged:
            return g.input([B, heads, length, width])
        x = g.input([B, length, heads * width])
        return g("Transpose", g("Reshape", x, g.ints(B, length, heads, width)), perm=[0, 2, 1, 3])

    def repeat(self, x, length, width):
        if self.kv == self.heads:
            return x
        g, each = self.g, self.heads // self.kv
        wide = g("Expand", g("Unsqueeze", x, g.ints(2)), g.ints(B, self.kv, each, length, width))
        return g("Reshape", wide, g.ints(B, self.heads, length, width))

    def softmax(self, t):
        g = self.g
        m = self.step("maximum", lambda t: g("ReduceMax", t, g.ints(-1), keepdims=1), t)
        d = self.step("difference", lambda t, m: g("Sub", t, m), t, m)
        e = self.step("exponential", lambda d: g("Exp", d), d)
        z = self.step("total", lambda e, t: g("ReduceSum", e, g.ints(-1), keepdims=1), e, t)
        return self.step("weights", lambda e, z: g("Div", e, z), e, z)

    def build(self):
        g = self.g
        q = self.step("query", lambda x: x, self.head(S, D, self.heads))
        k = self.repeat(self.step("key", lambda x: x, self.head(self.keys, D, self.kv)), self.keys, D)
        v = self.repeat(self.step("value", lambda x: x, self.head(self.keys, C, self.kv)), self.keys, C)
        s = self.step("scores", lambda q, k: g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2])), q, k)
        t = self.step("score", lambda s: g("Mul", s, g.const(1 / math.sqrt(D))), s)
        p = self.softmax(t) if self.spelled else g("Softmax", t, axis=-1)
        p = self.step("after", lambda p: p, p)
        o = self.step("output", lambda p, v: g("MatMul", p, v), p, v)
        o = self.step("result", lambda o: o, o)
        if self.merged:
            o = g("Reshape", g("Transpose", o, perm=[0, 2, 1, 3]), g.ints(B, S, self.heads * C))
        g.output(o)


# ---------------------------------------------------------------------------------------------------------------------------------------------
# Nearly attention: name -> (the condition that fails first, changes, arguments)
# ---------------------------------------------------------------------------------------------------------------------------------------------

def _also(g, value, then):
    g.output(value)
    return then


def _mask(g, keys=S):
    return g.input([S, keys])


NEAR_MISSES = {
    # The exponential
    "exponent scaled": ("exp", {"exponential": lambda g, d: g("Exp", g("Mul", d, g.const(2.0)))}),
    "exponent shifted": ("exp", {"exponential": lambda g, d: g("Exp", g("Add", d, g.const(0.5)))}),
    "exponent negated": ("exp", {"exponential": lambda g, d: g("Exp", g("Neg", d))}),
    "exponent made positive": ("exp", {"exponential": lambda g, d: g("Exp", g("Abs", d))}),
    "exponent clipped": ("exp", {"exponential": lambda g, d: g("Exp", g("Max", d, g.const(-4.0)))}),
    "root of exp": ("exp", {"exponential": lambda g, d: g("Sqrt", g("Exp", d))}),
    "exp plus one": ("exp", {"exponential": lambda g, d: g("Add", g("Exp", d), g.const(1.0))}),
    "exp squared": ("exp", {"exponential": lambda g, d: (lambda e: g("Mul", e, e))(g("Exp", d))}),
    "exp of exp": ("exp", {"exponential": lambda g, d: g("Exp", g("Exp", d))}),
    "difference rounded": ("rounding", {"difference": lambda g, t, m: g("Cast", g("Cast", g("Sub", t, m), to=TensorProto.BFLOAT16), to=F)}),
    "exponential rounded": ("rounding", {"exponential": lambda g, d: g("Cast", g("Cast", g("Exp", d), to=TensorProto.FLOAT16), to=F)}),
    # The maximum
    "maximum of the raw scores": ("maximum", {"scores": lambda g, q, k: g.__dict__.setdefault("raw", {}).setdefault(g.prefix, g(
        "MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2]))), "maximum": lambda g, t: g("ReduceMax", g.raw[g.prefix], g.ints(-1), keepdims=1)}),
    "maximum of magnitudes": ("maximum", {"maximum": lambda g, t: g("ReduceMax", g("Abs", t), g.ints(-1), keepdims=1)}),
    "maximum of a mask": ("maximum", {"maximum": lambda g, t: g("ReduceMax", _mask(g), g.ints(-1), keepdims=1)}),
    "minimum": ("folds", {"maximum": lambda g, t: g("ReduceMin", t, g.ints(-1), keepdims=1)}),
    "mean": ("maximum", {"maximum": lambda g, t: g("ReduceMean", t, g.ints(-1), keepdims=1)}),
    "no maximum": ("maximum", {"difference": lambda g, t, m: t}),
    "a constant less": ("maximum", {"difference": lambda g, t, m: g("Sub", t, g.const(3.0))}),
    "maximum added": ("exp", {"difference": lambda g, t, m: g("Add", t, m)}),
    "maximum less score": ("maximum", {"difference": lambda g, t, m: g("Sub", m, t)}),
    "maximum over all": ("axis", {"maximum": lambda g, t: g("ReduceMax", t, g.ints(-2, -1), keepdims=1)}),
    "maximum over rows": ("axis", {"maximum": lambda g, t: g("ReduceMax", t, g.ints(-2), keepdims=1)}),
    "maximum over heads": ("axis", {"maximum": lambda g, t: g("ReduceMax", t, g.ints(1), keepdims=1)}),
    "maximum of the first row": ("axis", {"maximum": lambda g, t: g("Slice", g("ReduceMax", t, g.ints(-1), keepdims=1), g.ints(0), g.ints(1), g.ints(2))}),
    "score changed after the maximum": ("maximum", {"difference": lambda g, t, m: g("Sub", g("Mul", t, g.const(1.5)), m)}),
    "mask after the maximum": ("maximum", {"difference": lambda g, t, m: g("Sub", g("Add", t, _mask(g)), m)}),
    # The sum
    "sum of scores": ("exp", {"total": lambda g, e, t: g("ReduceSum", t, g.ints(-1), keepdims=1)}),
    "sum over rows": ("axis", {"total": lambda g, e, t: g("ReduceSum", e, g.ints(-2), keepdims=1)}),
    "sum over all": ("axis", {"total": lambda g, e, t: g("ReduceSum", e, g.ints(-2, -1), keepdims=1)}),
    "sum over heads": ("axis", {"total": lambda g, e, t: g("ReduceSum", e, g.ints(1), keepdims=1)}),
    "sum of squares": ("exp", {"total": lambda g, e, t: g("ReduceSum", g("Mul", e, e), g.ints(-1), keepdims=1)}),
    "sum of masked": ("exp", {"total": lambda g, e, t: g("ReduceSum", g("Mul", e, _mask(g)), g.ints(-1), keepdims=1)}),
    "product": ("folds", {"total": lambda g, e, t: g("ReduceProd", e, g.ints(-1), keepdims=1)}),
    "largest exponential": ("maximum", {"total": lambda g, e, t: g("ReduceMax", e, g.ints(-1), keepdims=1)}),
    "first row's sum": ("axis", {"total": lambda g, e, t: g("Slice", g("ReduceSum", e, g.ints(-1), keepdims=1), g.ints(0), g.ints(1), g.ints(2))}),
    # The division
    "no division": ("sum", {"weights": lambda g, e, z: e}),
    "divided by a constant": ("sum", {"weights": lambda g, e, z: g("Div", e, g.const(3.0))}),
    "sum divided": ("division", {"weights": lambda g, e, z: g("Div", z, e)}),
    "sum subtracted": ("weights", {"weights": lambda g, e, z: g("Sub", e, z)}),
    "sum added": ("weights", {"weights": lambda g, e, z: g("Add", e, z)}),
    "power of the sum": ("weights", {"weights": lambda g, e, z: g("Pow", e, z)}),
    "divided by a matrix": ("division", {"weights": lambda g, e, z: g("Div", e, g("Add", z, _mask(g)))}),
    # After the softmax
    "mask added after": ("weights", {"after": lambda g, p: g("Add", p, _mask(g))}),
    "mask multiplied after": ("weights", {"after": lambda g, p: g("Mul", p, _mask(g))}),
    "cut after": ("weights", {"after": lambda g, p: g("Where", g("Greater", _mask(g), g.const(0.0)), p, g.const(0.0))}),
    "filled after": ("weights", {"after": lambda g, p: g("Where", g("Greater", g.input([S, 1]), g.const(0.0)), p, g.const(0.25))}),
    "relu after": ("weights", {"after": lambda g, p: g("Relu", p)}),
    "square after": ("weights", {"after": lambda g, p: g("Mul", p, p)}),
    "log after": ("weights", {"after": lambda g, p: g("Log", p)}),
    "rounded to integers after": ("weights", {"after": lambda g, p: g("Cast", g("Cast", p, to=TensorProto.INT32), to=F)}),
    "quantised after": ("weights", {"after": lambda g, p: (lambda s, z: g("DequantizeLinear", g("QuantizeLinear", p, s, z), s, z))(
        g.const(0.01), g.const(0, np.uint8))}),
    "transposed after": ("axis", {"after": lambda g, p: g("Transpose", p, perm=[0, 1, 3, 2])}),
    "reversed after": ("C-BOUNDS", {"after": lambda g, p: g("Slice", p, g.ints(-1), g.ints(-100), g.ints(3), g.ints(-1))}),
    "heads exchanged after": ("C-BOUNDS", {"after": lambda g, p: g("Slice", p, g.ints(-1), g.ints(-100), g.ints(1), g.ints(-1))}),
    "heads rolled after": ("form", {"after": lambda g, p: g("Concat", g("Slice", p, g.ints(1), g.ints(H), g.ints(1)),
                                                          g("Slice", p, g.ints(0), g.ints(1), g.ints(1)), axis=1)}),
    # Read elsewhere
    "weights are a result": ("results", {"after": lambda g, p: _also(g, p, p)}),
    "scores are a result": ("results", {"score": lambda g, s: _also(g, s, g("Mul", s, g.const(0.3)))}),
    "masked scores are a result": ("results", {"score": lambda g, s: (lambda t: _also(g, t, t))(g("Mul", s, g.const(0.3)))}),
    "exponentials are a result": ("results", {"exponential": lambda g, d: (lambda e: _also(g, e, e))(g("Exp", d))}),
    "sums are a result": ("results", {"total": lambda g, e, t: (lambda z: _also(g, z, z))(g("ReduceSum", e, g.ints(-1), keepdims=1))}),
    "maxima are a result": ("results", {"maximum": lambda g, t: (lambda m: _also(g, m, m))(g("ReduceMax", t, g.ints(-1), keepdims=1))}),
    "weights read twice": ("results", {"output": lambda g, p, v: _also(g, g("MatMul", p, g.input([B, H, S, C])), g("MatMul", p, v))}),
    # The products
    "keys of one head, values of all": ("groups", {"key": lambda g, x: g.input([B, 1, S, D])}),
    "values of one head, keys of all": ("groups", {"value": lambda g, x: g.input([B, 1, S, C])}),
    "scores divided by their sum": ("scores", {"score": lambda g, s: g("Div", s, g("ReduceSum", s, g.ints(-1), keepdims=1))}),
    "scores and their transpose": ("axis", {"score": lambda g, s: g("Add", s, g("Transpose", s, perm=[0, 1, 3, 2]))}),
    "scores of the row before": ("form", {"score": lambda g, s: g("Add", s, g("Pad", g("Slice", s, g.ints(0), g.ints(S - 1), g.ints(2)),
                                                                          g.ints(0, 0, 1, 0, 0, 0, 0, 0)))}),
}


# ---------------------------------------------------------------------------------------------------------------------------------------------
# Attention: name -> (what its remark says, a function that builds it)
# ---------------------------------------------------------------------------------------------------------------------------------------------

def _plain(text="heads 4 group 1 rows 8 keys 8 head_dim 8 value_dim 8", changes=None, **arguments):
    return text, lambda g: Parts(g, changes, **arguments).build()


def _angles(g, width=D):
    """cos and sin of position * frequency, halves repeated: (S, width)."""
    angles = np.outer(np.arange(S), 100.0 ** (-np.arange(width // 2) * 2 / width))
    return [g.const(np.concatenate([f(angles)] * 2, 1)) for f in (np.cos, np.sin)]


def _turn_halves(g, x, cos, sin, split=True, width=D):
    if split:
        first, second = g("Split", x, g.ints(width // 2, width // 2), n=2, axis=-1)
    else:
        first = g("Slice", x, g.ints(0), g.ints(width // 2), g.ints(-1))
        second = g("Slice", x, g.ints(width // 2), g.ints(1 << 40), g.ints(-1))
    return g("Add", g("Mul", x, cos), g("Mul", g("Concat", g("Neg", second), first, axis=-1), sin))


def _rope_halves(g, x, split=True):
    return _turn_halves(g, x, *_angles(g), split=split)


def _rope_run_time(g, x):
    position = g.input([1, 1, S, 1])
    angle = g("Mul", position, g.const(100.0 ** (-np.arange(D // 2) * 2 / D)))
    both = g("Concat", angle, angle, axis=-1)
    return _turn_halves(g, x, g("Cos", both), g("Sin", both))


def _rope_gathered(g, x):
    cos, sin = _angles(g)
    at = g.input([1, S], TensorProto.INT64)
    return _turn_halves(g, x, *[g("Unsqueeze", g("Gather", t, at, axis=0), g.ints(1)) for t in (cos, sin)])


def _rope_interleaved(g, x):
    cos, sin = (g("Slice", t, g.ints(0), g.ints(D // 2), g.ints(-1)) for t in _angles(g))
    pairs = g("Reshape", x, g.ints(0, 0, 0, D // 2, 2))
    even, odd = (g("Squeeze", t, g.ints(-1)) for t in g("Split", pairs, g.ints(1, 1), n=2, axis=-1))
    left, right = g("Sub", g("Mul", even, cos), g("Mul", odd, sin)), g("Add", g("Mul", even, sin), g("Mul", odd, cos))
    return g("Reshape", g("Concat", g("Unsqueeze", left, g.ints(-1)), g("Unsqueeze", right, g.ints(-1)), axis=-1), g.ints(0, 0, 0, D))


def _rope_partial(g, x):
    head, rest = g("Split", x, g.ints(D // 2, D // 2), n=2, axis=-1)
    return g("Concat", _turn_halves(g, head, *_angles(g, D // 2), width=D // 2), rest, axis=-1)


def _rope_two_dimensional(g, x):
    parts = g("Split", x, g.ints(D // 2, D // 2), n=2, axis=-1)
    return g("Concat", *[_turn_halves(g, part, *_angles(g, D // 2), width=D // 2) for part in parts], axis=-1)


def _rope_operator(g, x):
    cos, sin = (g("Slice", t, g.ints(0), g.ints(D // 2), g.ints(-1)) for t in _angles(g))
    return g("RotaryEmbedding", x, cos, sin, g.const(np.arange(S)[None], np.int64))


def _turned(rope):
    return _plain(changes={"query": rope, "key": rope})


def _grouped(repeat, text="heads 4 group 2"):
    def build(g):
        k, v = g.input([B, 2, S, D]), g.input([B, 2, S, C])
        Parts(g, {"key": lambda g, x: repeat(g, k), "value": lambda g, x: repeat(g, v)}).build()
    return text, build


def _expand(g, x):
    return g("Reshape", g("Expand", g("Unsqueeze", x, g.ints(2)), g.ints(B, 2, 2, S, D)), g.ints(B, 4, S, D))


def _concat(g, x):
    wide = g("Unsqueeze", x, g.ints(2))
    return g("Reshape", g("Concat", wide, wide, axis=2), g.ints(B, 4, S, D))


def _tile(g, x):
    return g("Reshape", g("Tile", g("Unsqueeze", x, g.ints(2)), g.ints(1, 1, 2, 1, 1)), g.ints(B, 4, S, D))


def _gather(g, x):
    return g("Gather", x, g.ints(0, 0, 1, 1), axis=1)


def _where(g, x):
    """Repeated by a product with ones."""
    return g("Reshape", g("Mul", g("Unsqueeze", x, g.ints(2)), g.const(np.ones((1, 1, 2, 1, 1)))), g.ints(B, 4, S, D))


def _batched_heads(g):
    q, k, v = (g("Reshape", g.input([B, n, S, D]), g.ints(B, 2, m, S, D)) for n, m in ((4, 2), (2, 1), (2, 1)))
    s = g("Mul", g("MatMul", q, g("Transpose", k, perm=[0, 1, 2, 4, 3])), g.const(0.35))
    g.output(g("Reshape", g("MatMul", g("Softmax", s, axis=-1), v), g.ints(B, 4, S, D)))


def _einsum_heads(g):
    q, k, v = g.input([B, 2, 2, S, D]), g.input([B, 2, S, D]), g.input([B, 2, S, D])
    s = g("Einsum", q, k, equation="bkgsd,bktd->bkgst")
    g.output(g("Einsum", g("Softmax", s, axis=-1), v, equation="bkgst,bktd->bskgd"))


def _operator(op, shapes, **attributes):
    def build(g):
        g.output(g(op, *[g.input(s) for s in shapes], **attributes))
    return build


def _contrib(g):
    x = [g.input([B, S, 32]), g.input([B, S, 16]), g.input([B, S, 16])]
    lengths = g.const(np.full([B], S - 1), np.int32)
    total = g.const(np.array(S), np.int32)
    g.nodes.append(helper.make_node("GroupQueryAttention", [*x, "", "", lengths, total], [o := g.name("gqa")], name=g.name("Gqa"),
                                    domain="com.microsoft", num_heads=4, kv_num_heads=2))
    g.output(o)


def _multi_head(g):
    x = [g.input([B, S, 32]) for _ in range(3)]
    g.nodes.append(helper.make_node("MultiHeadAttention", x, [o := g.name("mha")], name=g.name("Mha"), domain="com.microsoft", num_heads=4))
    g.output(o)


def _scaled(g, s):
    return g("Mul", s, g.const(0.35))


def _positions(g, last=0):
    row = g("Reshape", g("Range", g.const(last, np.int64), g.const(S + last, np.int64), g.const(1, np.int64)), g.ints(S, 1))
    return row, g("Range", g.const(0, np.int64), g.const(S, np.int64), g.const(1, np.int64))


def _causal_where(g, s):
    row, column = _positions(g)
    return g("Where", g("LessOrEqual", column, row), _scaled(g, s), g.const(-np.inf))


def _causal_constant(g, s):
    return g("Add", _scaled(g, s), g.const(np.triu(np.full((S, S), -np.inf), 1)))


def _causal_lowest(g, s):
    return g("Add", _scaled(g, s), g.const(np.triu(np.full((S, S), -3.4e38), 1)))


def _window(g, s):
    at = np.subtract.outer(np.arange(S), np.arange(S))
    return g("Where", g.const((at >= 0) & (at < 3), bool), _scaled(g, s), g.const(-np.inf))


def _padding(g, s):
    return g("Where", g("Cast", g.input([B, 1, 1, S], TensorProto.INT64), to=TensorProto.BOOL), _scaled(g, s), g.const(-1e9))


def _alibi(g, s):
    slope = g.const(2.0 ** -np.arange(1, H + 1).reshape(1, H, 1, 1))
    return g("Add", _scaled(g, s), g("Mul", slope, g.const(np.arange(S) - S + 1.0)))


def _softcap(g, s):
    return g("Mul", g("Tanh", g("Div", _scaled(g, s), g.const(5.0))), g.const(5.0))


def _appended(g, x):
    return g("Concat", g.input([B, H, 5, D]), x, axis=2)


def _tensor_scattered(g, x):
    first = g("Slice", x, g.ints(0), g.ints(3), g.ints(2))
    return g("TensorScatter", g.input([B, H, S, D]), first, g("Mod", g.input([B], TensorProto.INT64), g.ints(5)), axis=2)


def _scattered(g, x):
    rows = g("Reshape", g("Slice", x, g.ints(0), g.ints(1), g.ints(2)), g.ints(B, H, D))
    at = g("Concat", g.const(np.stack(np.meshgrid(np.arange(B), np.arange(H), indexing="ij"), -1), np.int64), g("Mod", g.input([B, H, 1], TensorProto.INT64), g.ints(S)), axis=-1)
    return g("ScatterND", g.input([B, H, S, D]), at, rows)


def _paged(g, x):
    """Blocks of 4 positions, of which a table chooses."""
    blocks = g("Gather", g.input([6, 4, H, D]), g.input([B, S // 4], TensorProto.INT64), axis=0)
    return g("Transpose", g("Reshape", blocks, g.ints(B, S, H, D)), perm=[0, 2, 1, 3])


def _lengths(g, s):
    _, column = _positions(g)
    return g("Where", g("Less", column, g.input([B, 1, 1, 1], TensorProto.INT64)), _scaled(g, s), g.const(-np.inf))


def _folded_positions(g, s):
    row, column = g.const(np.arange(S).reshape(S, 1), np.int64), g.const(np.arange(S), np.int64)
    return g("Where", g("LessOrEqual", column, row), _scaled(g, s), g.const(-np.inf))


def _packed(g):
    q, k, v = (g("Transpose", g("Reshape", t, g.ints(B, S, H, D)), perm=[0, 2, 1, 3])
               for t in g("Split", g.input([B, S, 3 * H * D]), g.ints(H * D, H * D, H * D), n=3, axis=-1))
    s = g("Div", g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2])), g.const(math.sqrt(D)))
    o = g("MatMul", g("Softmax", s, axis=-1), v)
    g.output(g("Reshape", g("Transpose", o, perm=[0, 2, 1, 3]), g.ints(B, S, H * D)))


def _channels_first(g, o):
    """(batch, heads * columns, rows), rounded on the way."""
    narrow = g("Cast", g("Transpose", o, perm=[0, 1, 3, 2]), to=TensorProto.FLOAT16)
    return g("Cast", g("Reshape", narrow, g.ints(B, H * 20, S)), to=F)


def _channels(g):
    """Operands (batch, heads * width, length), as convolutions leave them, and the result likewise, as in SqueezeBERT."""
    split = lambda: g("Reshape", g.input([B, H * D, S]), g.ints(B, H, D, S))
    q, v = (g("Transpose", split(), perm=[0, 1, 3, 2]) for _ in "qv")
    o = g("MatMul", g("Softmax", g("Div", g("MatMul", q, split()), g.const(math.sqrt(D))), axis=-1), v)
    g.output(g("Reshape", g("Transpose", o, perm=[0, 1, 3, 2]), g.ints(B, H * D, S)))


def _merged_batch(g):
    """Heads and batch in one axis, as in OPT."""
    q, k, v = (g("Reshape", g.input([B, H, S, D]), g.ints(B * H, S, D)) for _ in range(3))
    s = g("Reshape", g("MatMul", q, g("Transpose", k, perm=[0, 2, 1])), g.ints(B, H, S, S))
    p = g("Reshape", g("Softmax", g("Add", s, g.input([B, 1, S, S])), axis=-1), g.ints(B * H, S, S))
    g.output(g("Reshape", g("MatMul", p, v), g.ints(B, H, S, D)))


def _divided_last(g):
    q, k, v = (g.input([B, H, S, D]) for _ in range(3))
    s = g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2]))
    e = g("Exp", g("Sub", s, g("ReduceMax", s, g.ints(-1), keepdims=1)))
    g.output(g("Div", g("MatMul", e, v), g("ReduceSum", e, g.ints(-1), keepdims=1)))


ROPE = {
    "halves by Split": _turned(_rope_halves), "halves by Slice": _turned(lambda g, x: _rope_halves(g, x, split=False)),
    "at run time": _turned(_rope_run_time), "gathered tables": _turned(_rope_gathered), "interleaved": _turned(_rope_interleaved),
    "partial": _turned(_rope_partial), "two-dimensional": _turned(_rope_two_dimensional), "RotaryEmbedding": _turned(_rope_operator),
}
GQA = {
    "Expand": _grouped(_expand), "Concat": _grouped(_concat, "heads 4"), "Tile": _grouped(_tile), "Gather": _grouped(_gather, "heads 4"),
    "Mul by ones": _grouped(_where, "heads 4"), "five axes": ("heads 4 group 2", _batched_heads), "Einsum": ("heads 4 group 2", _einsum_heads),
    "Attention": ("heads 4", _operator("Attention", [[B, S, 32], [B, S, 16], [B, S, 16]], q_num_heads=4, kv_num_heads=2)),
    "GroupQueryAttention": ("heads 4 group 2", _contrib),
}
OTHERS = {
    "spelled": _plain(), "Softmax": _plain(spelled=False), "merged heads": _plain(merged=True), "cross": _plain("rows 8 keys 11", keys=11),
    "reciprocal": _plain(changes={"weights": lambda g, e, z: g("Mul", e, g("Reciprocal", z))}),
    "one more in the sum": _plain(changes={"weights": lambda g, e, z: g("Div", e, g("Add", z, g.const(1.0)))}),
    "NaN rows are zero": _plain(changes={"after": lambda g, p: g("Where", g("IsNaN", p), g.const(0.0), p)}),
    "rows cut after": _plain(changes={"after": lambda g, p: g("Where", g("Greater", g.input([S, 1]), g.const(0.0)), p, g.const(0.0))}),
    "scores of two products": _plain(changes={"score": lambda g, s: g("Add", s, g("MatMul", g.input([B, H, S, D]), g.input([B, H, D, S])))}),
    "causal by Where": _plain("causal", {"score": _causal_where}), "causal constant": _plain("causal", {"score": _causal_constant}),
    "causal, lowest float": _plain("causal", {"score": _causal_lowest}), "window": _plain("window 3", {"score": _window}),
    "padding": _plain(changes={"score": _padding}), "ALiBi": _plain(changes={"score": _alibi}), "softcap": _plain(changes={"score": _softcap}),
    "cache": _plain("keys 13", {"key": _appended, "value": _appended}),
    "cache by TensorScatter": _plain("keys 8", {"key": _tensor_scattered, "value": _tensor_scattered}),
    "cache by ScatterND": _plain("keys 8", {"key": _scattered, "value": _scattered}),
    "pages": _plain("keys 8 .* paged", {"key": _paged, "value": _paged}),
    "lengths": _plain("lengths from data", {"score": _lengths}), "folded positions": _plain("causal", {"score": _folded_positions}), "packed": ("heads 4 group 1", _packed),
    "heads and batch in one": ("heads 4 group 1", _merged_batch), "divided last": ("heads 4 group 1", _divided_last),
    "result transposed": _plain(changes={"result": lambda g, o: g("Transpose", o, perm=[0, 1, 3, 2])}),
    "result transposed, 20 columns": _plain("value_dim 20", {"value": lambda g, x: g.input([B, H, S, 20]), "result": _channels_first}),
    "keys of channels": ("heads 4 group 1 rows 8 keys 8", _channels),
    "query scaled": _plain(changes={"query": lambda g, x: g("Mul", x, g.const(0.5)), "score": lambda g, s: s}),
    "MultiHeadAttention": ("heads 4 group 1", _multi_head),
    "Attention causal": ("causal", _operator("Attention", [[B, H, S, D]] * 3, is_causal=1)),
    "Attention softcap": ("heads 4", _operator("Attention", [[B, H, S, D]] * 3, softcap=3.0)),
}
FOUND = {f"{kind}: {name}": case for kind, cases in (("rope", ROPE), ("gqa", GQA), ("other", OTHERS)) for name, case in cases.items()}
