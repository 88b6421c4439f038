"""What the operations of a library mean, in float64, and how far a right result may be away: each value carries its
gate, the sum of what every rounding on the way may have moved it by. A sum of d terms moves by 8 u sqrt(d) |terms|_2."""
import ast
import math

import numpy as np

UNIT = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
TINY = {"f32": 1e-37, "f16": 2.0**-24, "bf16": 1e-37}  # what is rounded to a subnormal


def widen(array, dtype):
    """The numbers of an array of the library as float64."""
    if dtype == "bf16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "f16":
        return array.view(np.float16).astype(np.float64)
    return array.astype(np.float64)


def narrow(values, dtype):
    """float64 to the library's element type; bf16 as uint16, rounded to nearest even."""
    if dtype != "bf16":
        return values.astype({"f32": np.float32, "f16": np.float16, "i8": np.int8, "u8": np.uint8, "i64": np.int64}[dtype])
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Value:
    """Numbers and their gates, under arithmetic that rounds to `dtype` after every step."""

    def __init__(self, value, gate, dtype):
        self.value, self.gate, self.dtype = value, gate, dtype

    def round(self, steps=1):
        return Value(self.value, self.gate + steps * (1.001 * UNIT[self.dtype] * np.abs(self.value) + TINY[self.dtype]), self.dtype)

    def _with(self, other):
        return other if isinstance(other, Value) else Value(np.float64(other), np.abs(other) * UNIT[self.dtype], self.dtype)

    def __add__(self, other):
        other = self._with(other)
        return Value(self.value + other.value, self.gate + other.gate, self.dtype).round()

    def __sub__(self, other):
        return self + -self._with(other)

    def __neg__(self):
        return Value(-self.value, self.gate, self.dtype)

    def __mul__(self, other):
        other = self._with(other)
        gate = self.gate * np.abs(other.value) + other.gate * np.abs(self.value) + self.gate * other.gate
        return Value(self.value * other.value, gate, self.dtype).round()

    def __truediv__(self, other):
        other = self._with(other)
        least = np.maximum(np.abs(other.value) - other.gate, 1e-300)
        value = self.value / other.value
        return Value(value, (self.gate + np.abs(value) * other.gate) / least, self.dtype).round()

    __radd__ = __add__

    def __rmul__(self, other):
        return self * other

    def __rsub__(self, other):
        return self._with(other) - self

    def __rtruediv__(self, other):
        return self._with(other) / self

    def apply(self, function, steps=4):
        """A function of one argument: as much as it changes within the gate, and its own rounding."""
        value = function(self.value)
        low, high = function(self.value - self.gate), function(self.value + self.gate)
        gate = np.maximum(np.abs(value - low), np.abs(value - high)) * 1.1
        return Value(value, gate, self.dtype).round(steps)


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


erf = np.vectorize(math.erf, otypes=[np.float64])
FUNCTIONS = {"relu": lambda x: np.maximum(x, 0), "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
             "gelu_tanh": gelu_tanh, "silu": lambda x: x * sigmoid(x), "sigmoid": sigmoid, "tanh": np.tanh, "erf": erf,
             "abs": np.abs, "neg": np.negative, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos,
             "floor": np.floor, "ceil": np.ceil, "round": np.round}


def activate(value, name):
    # Approximations in a few steps, each rounded to the element type: about x, whose products they are.
    result = value.apply(FUNCTIONS[name])
    if name != "relu":
        result.gate = result.gate + 4 * UNIT[value.dtype] * np.minimum(np.abs(value.value), 8)
    return result


def apply_epilogue(value, steps, tensors):
    for step in steps:
        if step in ("bias", "residual"):
            value = value + Value(tensors[step], 0, value.dtype)
        elif step == "multiply":
            value = value * Value(tensors[step], 0, value.dtype)
        else:
            value = activate(value, step)
    return value


def product(a, b, dtype):
    gate = 8 * UNIT["f32"] * math.sqrt(max(a.shape[-1], 1)) * np.sqrt(np.square(a) @ np.square(b))
    return Value(a @ b, gate, dtype).round(1)


def matmul(op, t):
    a, b, layout = t["a"], t["b"], op.attributes["layout"]
    if layout == "tn":
        a = np.swapaxes(a, -1, -2)
    if layout == "nt":
        b = np.swapaxes(b, -1, -2)
    return [apply_epilogue(product(a, b, op.dtype), op.attributes["epilogue"], t)]


def grouped_matmul(op, t):
    values, gates = np.zeros((t["a"].shape[0], t["b"].shape[1 if op.attributes["layout"] == "nt" else 2])), None
    gates = np.zeros_like(values)
    ends = t["offsets"].astype(np.int64)
    for g in range(len(ends) - 1):
        rows = slice(ends[g], ends[g + 1])
        b = t["b"][g].T if op.attributes["layout"] == "nt" else t["b"][g]
        part = {key: t[key][g] if key == "bias" else t[key][rows] for key in ("bias", "residual", "multiply") if key in t}
        value = apply_epilogue(product(t["a"][rows], b, op.dtype), op.attributes["epilogue"], part)
        values[rows], gates[rows] = value.value, value.gate
    return [Value(values, gates, op.dtype)]


def quantized_matmul(op, t):
    if op.attributes.get("activations") == "i8":
        exact = Value(t["a"] @ t["b"].T, 0.0, "f32")
        value = exact * Value(t["a_scales"][:, None], 0, "f32") * Value(t["b_scales"], 0, "f32")
        value = Value(value.value, value.gate, op.dtype).round()
        return [apply_epilogue(value, op.attributes["epilogue"], t)]
    bits, block, k = op.attributes["bits"], op.attributes["block"], t["a"].shape[1]
    codes = t["b"].astype(np.int64)  # n, blocks, bytes
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], -1)
    zero = np.full(codes.shape[:2], 1 << (bits - 1))
    if op.attributes["zero_points"]:
        zero = t["zero_points"].astype(np.int64)
        if bits == 4:
            zero = np.stack([zero & 15, zero >> 4], axis=-1).reshape(zero.shape[0], -1)[:, :codes.shape[1]]
    w = ((codes - zero[:, :, None]) * t["scales"][:, :, None]).reshape(codes.shape[0], -1)[:, :k]
    value = product(t["a"], w.T, op.dtype)
    value.gate = value.gate + 4 * UNIT["f32"] * (np.abs(t["a"]) @ np.abs(w.T))
    return [apply_epilogue(value, op.attributes["epilogue"], t)]


def attention(op, t):
    first = op.attributes["layout"] == "tokens-first"
    q, k, v = (np.swapaxes(t[name], 1, 2) if first else t[name] for name in "qkv")
    share = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
    scale = op.attributes["scale"] or 1 / math.sqrt(q.shape[-1])
    scores = q @ np.swapaxes(k, -1, -2) * scale
    # Scaled factors and scores are rounded to the element type each.
    u = UNIT[op.dtype]
    moved = 4 * u * np.abs(scores) + 8 * UNIT["f32"] * math.sqrt(q.shape[-1]) * scale * np.sqrt(
        np.square(q) @ np.square(np.swapaxes(k, -1, -2))) + (
            0 if op.dtype == "f32" else 4 * u * scale * np.sqrt(np.square(q) @ np.square(np.swapaxes(k, -1, -2))))
    if op.attributes["mask"] == "additive":
        scores = scores + t["mask"]
        moved = moved + u * np.abs(scores)
    if op.attributes["mask"] == "causal":
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    weights /= weights.sum(axis=-1, keepdims=True)
    moved = np.where(weights > 0, moved, 0)
    # The exponent's own error, its distance from the maximum, the sum.
    each = moved + np.expm1(np.minimum((weights * moved).sum(axis=-1, keepdims=True), 1)) + 8 * u + 2 * u * np.where(
        np.isfinite(shifted), np.abs(shifted), 0)
    out = weights @ v
    gate = (weights * each) @ np.abs(v) + 8 * u * np.sqrt(np.square(weights) @ np.square(v))
    if first:
        out, gate = np.swapaxes(out, 1, 2), np.swapaxes(gate, 1, 2)
    return [Value(out, gate, op.dtype).round(2)]


def rope(op, t):
    first = op.attributes["layout"] == "tokens-first"
    x = np.swapaxes(t["x"], 1, 2) if first else t["x"]
    at = t["at"].astype(np.int64)
    cos, sin = t["cos"][at][:, None], t["sin"][at][:, None]
    half = x.shape[-1] // 2
    a, b = (x[..., 0::2], x[..., 1::2]) if op.attributes["interleaved"] else (x[..., :half], x[..., half:])
    left, right = a * cos - b * sin, b * cos + a * sin
    size = np.abs(a * cos) + np.abs(b * sin), np.abs(b * cos) + np.abs(a * sin)
    out, gate = np.empty_like(x), np.empty_like(x)
    for array, parts in ((out, (left, right)), (gate, size)):
        if op.attributes["interleaved"]:
            array[..., 0::2], array[..., 1::2] = parts
        else:
            array[..., :half], array[..., half:] = parts
    if first:
        out, gate = np.swapaxes(out, 1, 2), np.swapaxes(gate, 1, 2)
    return [Value(out, 3 * UNIT[op.dtype] * gate, op.dtype).round()]


def softmax(op, t):
    shifted = t["x"] - t["x"].max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    y = e / e.sum(axis=-1, keepdims=True)
    u = UNIT[op.dtype]
    return [Value(y, y * (2 * u * np.abs(shifted) + 8 * u + 8 * UNIT["f32"] * math.sqrt(y.shape[-1])), op.dtype).round(2)]


def norm(op, t):
    x, u = t["x"], UNIT[op.dtype]
    moved = np.zeros_like(x)
    if op.attributes["residual"]:
        x = x + t["residual"]
        moved = u * np.abs(x)
    center = x - x.mean(axis=-1, keepdims=True) if op.kind == "layer_norm" else x
    scale = 1 / np.sqrt(np.square(center).mean(axis=-1, keepdims=True) + op.attributes["epsilon"])
    y = center * scale * t["weight"]
    size = np.abs(x).max(axis=-1, keepdims=True)
    gate = np.abs(scale * t["weight"]) * (moved + moved.max(axis=-1, keepdims=True) + 32 * UNIT["f32"] * size) + 3 * u * np.abs(y)
    gate = gate + np.abs(y) * 64 * UNIT["f32"]
    result = Value(y, gate, op.dtype).round()
    if op.kind == "layer_norm":
        result = result + Value(t["bias"], 0, op.dtype)
    return [result] + ([Value(x, 0 * x, op.dtype).round()] if op.attributes["residual"] else [])


def conv(op, t):
    at = op.attributes
    x, w = t["x"], t["w"]
    x = np.pad(x, ((0, 0), (0, 0), (at["pads"][0], at["pads"][2]), (at["pads"][1], at["pads"][3])))
    (kh, kw), (sh, sw), (dh, dw) = at["kernel"], at["strides"], at["dilations"]
    h = (x.shape[2] - (kh - 1) * dh - 1) // sh + 1
    wd = (x.shape[3] - (kw - 1) * dw - 1) // sw + 1
    h, wd, groups = max(h, 0), max(wd, 0), at["groups"]
    columns = np.stack([x[:, :, i * dh:i * dh + (h - 1) * sh + 1:sh, j * dw:j * dw + (wd - 1) * sw + 1:sw]
                        for i in range(kh) for j in range(kw)], axis=2)
    columns = columns.reshape(x.shape[0], groups, -1, h * wd)
    flat = w.reshape(groups, w.shape[0] // groups, -1)
    value = np.einsum("gmk,ngkp->ngmp", flat, columns).reshape(x.shape[0], w.shape[0], h, wd)
    squares = np.einsum("gmk,ngkp->ngmp", np.square(flat), np.square(columns)).reshape(value.shape)
    result = Value(value, 8 * UNIT["f32"] * math.sqrt(flat.shape[-1]) * np.sqrt(squares), op.dtype).round()
    t = dict(t)
    if "bias" in t:
        t["bias"] = t["bias"][:, None, None]
    return [apply_epilogue(result, at["epilogue"], t)]


def elementwise(op, t):
    names = {key: Value(value, 0 * value, op.dtype) for key, value in t.items()}

    def visit(node):
        if isinstance(node, ast.Constant):
            return names[next(iter(names))]._with(node.value)
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.UnaryOp):
            return -visit(node.operand)
        if isinstance(node, ast.BinOp):
            left, right = visit(node.left), visit(node.right)
            return {ast.Add: left.__add__, ast.Sub: left.__sub__, ast.Mult: left.__mul__,
                    ast.Div: left.__truediv__}[type(node.op)](right)
        name, operands = node.func.id, [visit(arg) for arg in node.args]
        if name in ("max", "min"):
            pick = np.maximum if name == "max" else np.minimum
            return Value(pick(operands[0].value, operands[1].value), np.maximum(operands[0].gate, operands[1].gate), op.dtype)
        if name == "pow":
            return operands[0].apply(lambda x: np.power(x, operands[1].value))
        return activate(operands[0], name)

    result = visit(ast.parse(op.attributes["expression"].strip(), mode="eval").body)
    return [result]


KINDS = {"matmul": matmul, "grouped_matmul": grouped_matmul, "quantized_matmul": quantized_matmul, "attention": attention,
         "rope": rope, "softmax": softmax, "layer_norm": norm, "rms_norm": norm, "conv": conv, "elementwise": elementwise}


def unpacked_inputs(op):
    """The inputs, with what is packed in the place of its packed form."""
    return [dict(t, dtype=op.packed["dtype"], extents=op.packed["extents"], shape=op.packed["shape"])
            if op.packed and t["name"] == op.packed["tensor"] else t for t in op.inputs]


MOST_COLUMNS = 512


def take_columns(op, arrays):
    """Of a wide product, some columns are enough to judge by: (their numbers, n, the inputs for them), or None."""
    if op.kind not in ("matmul", "quantized_matmul"):
        return None
    axis = -1 if op.attributes.get("layout") in ("nn", "tn") else -2 if op.kind == "matmul" else 0
    n = arrays["b"].shape[axis]
    if n <= MOST_COLUMNS:
        return None
    # The first, the last, and others at random.
    some = np.random.default_rng(n).choice(n, MOST_COLUMNS // 2, replace=False)
    columns = np.unique(np.concatenate([np.arange(64), some, np.arange(n - 130, n)]))
    rows = {"b": axis, "bias": -1, "residual": -1, "multiply": -1, "scales": 0, "zero_points": 0, "b_scales": 0}
    return columns, n, {key: np.take(x, columns, axis=rows[key]) if key in rows else x for key, x in arrays.items()}


def reference(op, arrays):
    """[(values, gates)] of the outputs for the inputs by name, arrays as the library takes them. A gate that is infinite
    says that the value was not computed."""
    part = take_columns(op, arrays)
    if part:
        columns, n, arrays = part
        results = []
        for value, gate in compute(op, arrays):
            values, gates = np.zeros(value.shape[:-1] + (n,)), np.full(value.shape[:-1] + (n,), np.inf)
            values[..., columns], gates[..., columns] = value, gate
            results.append((values, gates))
        return results
    return compute(op, arrays)


def compute(op, arrays):
    wide = {t["name"]: widen(arrays[t["name"]], t["dtype"]) for t in unpacked_inputs(op)}
    with np.errstate(all="ignore"):
        results = KINDS[op.kind](op, wide)
    return [(r.value, np.broadcast_to(r.gate, r.value.shape)) for r in results]


def make_inputs(op, sizes, rng):
    """Random inputs by name."""
    arrays = {}
    named = dict(zip(op.names, sizes))
    for tensor in unpacked_inputs(op):
        name, shape = tensor["name"], op.shape(tensor, sizes)
        if name == "offsets":
            cuts = np.sort(rng.integers(0, named["rows"] + 1, named["groups"] - 1)) if named["groups"] > 1 else []
            arrays[name] = np.concatenate([[0], cuts, [named["rows"]]]).astype(np.int64)
        elif tensor["dtype"] == "i64":  # positions
            arrays[name] = rng.integers(0, named["positions"], shape)
        elif tensor["dtype"] in ("i8", "u8"):
            low, high = (-128, 128) if tensor["dtype"] == "i8" else (0, 256)
            arrays[name] = rng.integers(low, high, shape, dtype={"i8": np.int8, "u8": np.uint8}[tensor["dtype"]])
        else:
            count = math.prod(shape)
            values = rng.standard_normal(min(count, 4194301))
            if "scales" in name:
                values = np.abs(values) * 0.02 + 0.01
            if op.kind == "elementwise":
                values = np.abs(values) + 0.1 if any(f in op.attributes["expression"] for f in ("log", "sqrt", "pow")) else values
            values = narrow(values, tensor["dtype"])
            arrays[name] = (np.resize(values, count) if count > values.size else values).reshape(shape)
    return arrays
