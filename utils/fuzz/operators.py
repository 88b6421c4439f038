"""The operators that evaluate.py knows, in numpy: one function each, `(ctx, inputs, attributes) -> Value or [Value]`.

What rounds says so: `ctx.rounded` for an operation that rounds once, `ctx.summed` for a sum. What moves, selects or compares
says nothing and is exact. Normalisations are written as the operations they stand for, so that cancellation inside them counts.
Operators that are not here go to onnx.reference and are taken to round as sums over their whole input do."""
import math

import numpy as np
from onnx import TensorProto, helper

import evaluate
from operators_data import MOVES

TABLE = dict(MOVES)
I64, BOOL = TensorProto.INT64, TensorProto.BOOL


def operator(*names):
    def add(function):
        for name in names:
            TABLE[name] = function
        return function

    return add


def value(array, like):
    return evaluate.Value(np.asarray(array), like if isinstance(like, int) else like.type)


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


# ---------------------------------------------------------------------------------------------- elementwise
# name -> (function(x, attributes), units of |y|, units of |x|, units of 1)
UNARY = {
    "Sqrt": (lambda x, a: np.sqrt(x), 1, 0, 0),
    "Reciprocal": (lambda x, a: 1 / x, 1, 0, 0),
    "Exp": (lambda x, a: np.exp(x), 4, 0, 0),
    "Log": (lambda x, a: np.log(x), 4, 0, 0),
    "Tanh": (lambda x, a: np.tanh(x), 4, 0, 0),
    "Sigmoid": (lambda x, a: sigmoid(x), 4, 0, 0),
    "Erf": (lambda x, a: erf(x), 4, 0, 0),
    "Sin": (lambda x, a: np.sin(x), 4, 0, 0),
    "Cos": (lambda x, a: np.cos(x), 4, 0, 0),
    "Atan": (lambda x, a: np.arctan(x), 4, 0, 0),
    "Sinh": (lambda x, a: np.sinh(x), 4, 0, 0),
    "Softplus": (lambda x, a: np.logaddexp(x, 0), 4, 1, 1),
    "Softsign": (lambda x, a: x / (1 + np.abs(x)), 4, 0, 0),
    "Mish": (lambda x, a: x * np.tanh(np.logaddexp(x, 0)), 4, 4, 0),
    "LeakyRelu": (lambda x, a: np.where(x >= 0, x, np.float32(a.get("alpha", 0.01)) * x), 1, 0, 0),
    "HardSigmoid": (lambda x, a: np.clip(np.float32(a.get("alpha", 0.2)) * x + np.float32(a.get("beta", 0.5)), 0, 1), 2, 1, 1),
    "HardSwish": (lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1), 4, 1, 0),
    "Elu": (lambda x, a: np.where(x < 0, np.float32(a.get("alpha", 1.0)) * np.expm1(x), x), 4, 0, 2),
    "Gelu": (lambda x, a: gelu(x, a), 4, 4, 0),
    "Swish": (lambda x, a: x * sigmoid(np.float32(a.get("alpha", 1.0)) * x), 4, 2, 0),
}


def gelu(x, a):
    if a.get("approximate", b"none") in (b"tanh", "tanh"):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def make_unary(function, of_y, of_x, of_one):
    def run(ctx, inputs, a):
        x = inputs[0]
        y = function(x.array, a)
        return value(ctx.rounded(y, x.type, of_y, (of_x * np.abs(x.array) + of_one) / of_y), x)

    return run


for _name, _row in UNARY.items():
    TABLE[_name] = make_unary(*_row)

EXACT_UNARY = {"Abs": np.abs, "Neg": np.negative, "Relu": lambda x: np.maximum(x, 0), "Identity": lambda x: x, "Floor": np.floor,
               "Ceil": np.ceil, "Round": np.round, "Sign": np.sign, "BitwiseNot": np.invert, "Not": np.logical_not}
for _name, _function in EXACT_UNARY.items():
    TABLE[_name] = lambda ctx, inputs, a, f=_function: value(f(inputs[0].array).astype(inputs[0].array.dtype), inputs[0])


def integer_div(a, b):
    """Towards zero, as ONNX's Div of integers. The smallest number has no absolute value of its type."""
    quotient = a // b
    return (quotient + ((quotient * b != a) & ((a < 0) != (b < 0)))).astype(a.dtype)


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
for _name, _function in BINARY.items():
    def _run(ctx, inputs, a, f=_function):
        x, y = inputs
        return value(ctx.rounded(f(x.array, y.array), x.type), x)

    TABLE[_name] = _run


@operator("Div")
def div(ctx, inputs, a):
    x, y = inputs
    return value(ctx.rounded(x.array / y.array, x.type) if x.is_float else integer_div(x.array, y.array), x)


@operator("Pow")
def power(ctx, inputs, a):
    x, y = inputs
    result = np.power(x.array, y.array.astype(x.array.dtype))
    with np.errstate(all="ignore"):
        growth = np.abs(y.array * np.log(np.abs(x.array) + 1e-300)) if x.is_float else 0
    return value(ctx.rounded(result, x.type, 4, np.abs(result) * np.minimum(growth, 64)), x)


@operator("Mod")
def mod(ctx, inputs, a):
    x, y = inputs
    return value((np.fmod if a.get("fmod", 0) else np.mod)(x.array, y.array), x)


for _name, _function in {"Max": np.maximum, "Min": np.minimum}.items():
    def _run(ctx, inputs, a, f=_function):
        result = inputs[0].array
        for other in inputs[1:]:
            result = f(result, other.array)
        return value(result, inputs[0])

    TABLE[_name] = _run


@operator("Sum", "Mean")
def variadic_sum(ctx, inputs, a):
    result = inputs[0].array
    for other in inputs[1:]:
        result = ctx.rounded(result + other.array, inputs[0].type)
    return value(result, inputs[0])


for _name, _function in {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "BitwiseAnd": np.bitwise_and,
                         "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}.items():
    TABLE[_name] = lambda ctx, inputs, a, f=_function: value(f(inputs[0].array, inputs[1].array), inputs[0])
for _name, _function in {"Equal": np.equal, "Less": np.less, "Greater": np.greater, "LessOrEqual": np.less_equal,
                         "GreaterOrEqual": np.greater_equal}.items():
    TABLE[_name] = lambda ctx, inputs, a, f=_function: value(f(inputs[0].array, inputs[1].array), BOOL)


@operator("BitShift")
def bit_shift(ctx, inputs, a):
    shift = np.left_shift if a["direction"] in (b"LEFT", "LEFT") else np.right_shift
    return value(shift(inputs[0].array, inputs[1].array), inputs[0])


@operator("Where")
def where(ctx, inputs, a):
    return value(np.where(inputs[0].array, inputs[1].array, inputs[2].array), inputs[1])


@operator("Clip")
def clip(ctx, inputs, a):
    low, high = (inputs[i].array if len(inputs) > i and inputs[i] is not None else None for i in (1, 2))
    x = inputs[0].array
    x = x if low is None else np.maximum(x, low)
    return value(x if high is None else np.minimum(x, high), inputs[0])


@operator("PRelu")
def prelu(ctx, inputs, a):
    x, slope = inputs
    return value(ctx.rounded(np.where(x.array < 0, slope.array * x.array, x.array), x.type), x)


@operator("Cast")
def cast(ctx, inputs, a):
    x, to = inputs[0], a["to"]
    if to in evaluate.UNIT:
        array = x.array.astype(np.float64)
        narrows = not x.is_float or evaluate.UNIT[to] > evaluate.UNIT[x.type]
        return value(ctx.rounded(array, to) if narrows else array, to)
    dtype = helper.tensor_dtype_to_np_dtype(to)
    if dtype == np.bool_:
        return value(x.array != 0, to)
    array = np.trunc(x.array).astype(np.int64) if x.is_float else x.array
    return value(array.astype(dtype), to)


# ---------------------------------------------------------------------------------------------- reductions
def axes_of(inputs, a):
    if len(inputs) > 1 and inputs[1] is not None:
        axes = [int(n) for n in inputs[1].array.ravel()]
    else:
        axes = list(a.get("axes", []))
    rank = inputs[0].array.ndim
    if not axes:
        return () if a.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(n % rank for n in axes))


def count_of(x, axes):
    return int(np.prod([x.shape[n] for n in axes])) if axes else 1


def sum_of(ctx, x, axes, keep, type):
    """The sum of a float array with its movement."""
    total = x.sum(axis=axes, keepdims=keep)
    return ctx.summed(total, type, count_of(x, axes), np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)))


def mean_of(ctx, x, axes, keep, type):
    n = max(count_of(x, axes), 1)
    total = x.sum(axis=axes, keepdims=keep) / n
    return ctx.rounded(ctx.summed(total, type, n, np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)) / n), type)


def reduction(name):
    def add(function):
        def run(ctx, inputs, a):
            x, keep = inputs[0], bool(a.get("keepdims", 1))
            axes = axes_of(inputs, a)
            if not axes:
                return x
            return value(function(ctx, x.array, axes, keep, x), x)

        TABLE[name] = run
        return function

    return add


def integer_sum(x, axes, keep):
    return x.sum(axis=axes, keepdims=keep, dtype=x.dtype)


@reduction("ReduceSum")
def _(ctx, x, axes, keep, v):
    return sum_of(ctx, x, axes, keep, v.type) if v.is_float else integer_sum(x, axes, keep)


@reduction("ReduceMean")
def _(ctx, x, axes, keep, v):
    return mean_of(ctx, x, axes, keep, v.type) if v.is_float else integer_div(integer_sum(x, axes, keep), np.array(count_of(x, axes), x.dtype))


@reduction("ReduceL1")
def _(ctx, x, axes, keep, v):
    return sum_of(ctx, np.abs(x), axes, keep, v.type) if v.is_float else integer_sum(np.abs(x), axes, keep)


@reduction("ReduceSumSquare")
def _(ctx, x, axes, keep, v):
    return sum_of(ctx, ctx.rounded(x * x, TensorProto.FLOAT), axes, keep, v.type) if v.is_float else integer_sum(x * x, axes, keep)


@reduction("ReduceL2")
def _(ctx, x, axes, keep, v):
    return ctx.rounded(np.sqrt(np.abs(sum_of(ctx, x * x, axes, keep, v.type))), v.type)


@reduction("ReduceLogSumExp")
def _(ctx, x, axes, keep, v):
    top = x.max(axis=axes, keepdims=True)
    shifted = ctx.rounded(x - top, v.type)
    total = sum_of(ctx, ctx.rounded(np.exp(shifted), v.type, 4), axes, True, v.type)
    result = ctx.rounded(ctx.rounded(np.log(total), v.type, 4, 1) + top, v.type)
    return result if keep else np.squeeze(result, axes)


@reduction("ReduceProd")
def _(ctx, x, axes, keep, v):
    result = x.prod(axis=axes, keepdims=keep, dtype=x.dtype)
    return ctx.rounded(result, v.type, 2 * math.sqrt(count_of(x, axes))) if v.is_float else result


@reduction("ReduceMax")
def _(ctx, x, axes, keep, v):
    return x.max(axis=axes, keepdims=keep)


@reduction("ReduceMin")
def _(ctx, x, axes, keep, v):
    return x.min(axis=axes, keepdims=keep)


def make_arg(choose):
    def run(ctx, inputs, a):
        x, axis = inputs[0].array, a.get("axis", 0)
        if a.get("select_last_index", 0):
            result = x.shape[axis] - 1 - choose(np.flip(x, axis), axis)
        else:
            result = choose(x, axis)
        return value(np.expand_dims(result, axis) if a.get("keepdims", 1) else result, I64)

    return run


TABLE["ArgMax"] = make_arg(lambda x, axis: np.argmax(x, axis).astype(np.int64))
TABLE["ArgMin"] = make_arg(lambda x, axis: np.argmin(x, axis).astype(np.int64))


@operator("CumSum")
def cumsum(ctx, inputs, a):
    x, axis = inputs[0].array, int(inputs[1].array)
    flip = (lambda t: np.flip(t, axis)) if a.get("reverse", 0) else (lambda t: t)

    def run(t):
        total = np.cumsum(flip(t), axis, dtype=t.dtype)
        if a.get("exclusive", 0):
            total = np.roll(total, 1, axis)
            total[tuple(0 if n == axis % t.ndim else slice(None) for n in range(t.ndim))] = 0
        return flip(total)

    if not inputs[0].is_float:
        return value(run(x), inputs[0])
    return value(ctx.summed(run(x), inputs[0].type, x.shape[axis], np.sqrt(run(x * x))), inputs[0])


# ---------------------------------------------------------------------------------------------- normalisations
@operator("Softmax")
def softmax(ctx, inputs, a):
    x, axis, t = inputs[0].array, a.get("axis", -1), inputs[0].type
    e = ctx.rounded(np.exp(ctx.rounded(x - x.max(axis=axis, keepdims=True), t)), t, 4)
    return value(ctx.rounded(e / sum_of(ctx, e, (axis,), True, t), t, 2), t)


@operator("LogSoftmax")
def log_softmax(ctx, inputs, a):
    x, axis, t = inputs[0].array, a.get("axis", -1), inputs[0].type
    shifted = ctx.rounded(x - x.max(axis=axis, keepdims=True), t)
    total = sum_of(ctx, ctx.rounded(np.exp(shifted), t, 4), (axis,), True, t)
    return value(ctx.rounded(shifted - ctx.rounded(np.log(total), t, 4, 1), t), t)


def normalise(ctx, x, axes, epsilon, t, centre=True):
    """(x - mean) / sqrt(var + epsilon) over `axes`, computed in float32 at least."""
    inner = TensorProto.FLOAT if evaluate.UNIT[t] > evaluate.UNIT[TensorProto.FLOAT] else t
    d = ctx.rounded(x - mean_of(ctx, x, axes, True, inner), inner) if centre else x
    variance = mean_of(ctx, ctx.rounded(d * d, inner), axes, True, inner)
    scale = ctx.rounded(1 / np.sqrt(variance + np.float32(epsilon)), inner, 3)
    return ctx.rounded(d * scale, inner), inner


def affine(ctx, y, scale, bias, t):
    if scale is not None:
        y = ctx.rounded(y * scale, t)
    return y if bias is None else ctx.rounded(y + bias, t)


@operator("LayerNormalization", "RMSNormalization")
def layer_normalization(ctx, inputs, a, centre=True):
    x = inputs[0]
    axes = tuple(range(a.get("axis", -1) % x.array.ndim, x.array.ndim))
    y, _ = normalise(ctx, x.array, axes, a.get("epsilon", 1e-5), x.type, centre)
    bias = inputs[2].array if len(inputs) > 2 and inputs[2] is not None else None
    return value(affine(ctx, ctx.rounded(y, x.type), inputs[1].array, bias, x.type), x)


TABLE["RMSNormalization"] = lambda ctx, inputs, a: layer_normalization(ctx, inputs, a, centre=False)


@operator("InstanceNormalization")
def instance_normalization(ctx, inputs, a):
    x, scale, bias = inputs
    y, _ = normalise(ctx, x.array, tuple(range(2, x.array.ndim)), a.get("epsilon", 1e-5), x.type)
    shape = (1, -1) + (1,) * (x.array.ndim - 2)
    return value(affine(ctx, ctx.rounded(y, x.type), scale.array.reshape(shape), bias.array.reshape(shape), x.type), x)


@operator("GroupNormalization")
def group_normalization(ctx, inputs, a):
    x, scale, bias = inputs
    n, c = x.array.shape[:2]
    grouped = x.array.reshape((n, a["num_groups"], -1))
    y, _ = normalise(ctx, grouped, (2,), a.get("epsilon", 1e-5), x.type)
    shape = (1, -1) + (1,) * (x.array.ndim - 2)
    return value(affine(ctx, ctx.rounded(y.reshape(x.array.shape), x.type), scale.array.reshape(shape), bias.array.reshape(shape), x.type), x)


@operator("BatchNormalization")
def batch_normalization(ctx, inputs, a):
    x, scale, bias, mean, var = inputs
    shape = (1, -1) + (1,) * (x.array.ndim - 2)
    factor = scale.array / np.sqrt(var.array + np.float32(a.get("epsilon", 1e-5)))
    shift = bias.array - mean.array * factor
    # Both ways of computing it: the shift may be folded (and cancel) or the mean subtracted first.
    extra = np.abs(mean.array * factor) + np.abs(bias.array)
    y = x.array * factor.reshape(shape) + shift.reshape(shape)
    return value(ctx.rounded(y, x.type, 3, np.abs(x.array * factor.reshape(shape)) + extra.reshape(shape)), x)


# ---------------------------------------------------------------------------------------------- contractions
def contract(ctx, function, x, y, type, count):
    """A bilinear `function` of two arrays that sums `count` products."""
    result = function(x, y)
    if ctx.rng is None or type not in evaluate.UNIT:
        return result
    return ctx.summed(result, type, count, np.sqrt(function(np.square(x), np.square(y))))


@operator("MatMul")
def matmul(ctx, inputs, a):
    x, y = inputs
    return value(contract(ctx, np.matmul, x.array, y.array, x.type, x.array.shape[-1]), x)


@operator("Gemm")
def gemm(ctx, inputs, a):
    x, y = (v.array.T if a.get(flag, 0) else v.array for v, flag in zip(inputs, ("transA", "transB")))
    t = inputs[0].type
    alpha, beta = np.float32(a.get("alpha", 1.0)), np.float32(a.get("beta", 1.0))
    result = ctx.rounded(contract(ctx, np.matmul, x, y, t, x.shape[-1]) * alpha, t)
    if len(inputs) > 2 and inputs[2] is not None:
        result = ctx.rounded(result + beta * inputs[2].array, t)
    return value(result, inputs[0])


@operator("Einsum")
def einsum(ctx, inputs, a):
    equation = a["equation"].decode() if isinstance(a["equation"], bytes) else a["equation"]
    arrays = [v.array for v in inputs]
    result = np.einsum(equation, *arrays)
    count = max(1, int(np.prod([max(x.shape, default=1) for x in arrays])) // max(result.size, 1))
    return value(ctx.summed(result, inputs[0].type, count, np.sqrt(np.einsum(equation, *[x * x for x in arrays]))), inputs[0])


def window_pads(a, sizes, kernel, strides, dilations):
    """[(before, after)] of a window operator."""
    auto = a.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    rank = len(sizes)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for n, k, s, d in zip(sizes, kernel, strides, dilations):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pads.append((total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2))
        return pads
    pads = list(a.get("pads", [0] * 2 * rank)) if auto == "NOTSET" else [0] * 2 * rank
    return list(zip(pads[:rank], pads[rank:]))


def windows(x, a, kernel, fill):
    """Views of padded x, one a kernel position: [(offset, array[n, c, *out])], and how far ceil_mode padded."""
    rank = len(kernel)
    strides, dilations = list(a.get("strides", [1] * rank)), list(a.get("dilations", [1] * rank))
    pads = window_pads(a, x.shape[2:], kernel, strides, dilations)
    out = []
    for n, k, s, d, (low, high) in zip(x.shape[2:], kernel, strides, dilations, pads):
        reach = n + low + high - (k - 1) * d - 1
        size = (-(-reach // s) if a.get("ceil_mode", 0) else reach // s) + 1
        if a.get("ceil_mode", 0) and (size - 1) * s >= n + low:
            size -= 1
        out.append(size)
    extra = [max((o - 1) * s + (k - 1) * d + 1 - (n + low + high), 0)
             for o, s, k, d, n, (low, high) in zip(out, strides, kernel, dilations, x.shape[2:], pads)]
    padded = np.pad(x, [(0, 0), (0, 0)] + [(low, high + e) for (low, high), e in zip(pads, extra)], constant_values=fill)
    views = []
    for offset in np.ndindex(*kernel):
        index = tuple(slice(o * d, o * d + (n - 1) * s + 1, s) for o, d, n, s in zip(offset, dilations, out, strides))
        views.append((offset, padded[(slice(None), slice(None)) + index]))
    return views


def convolve(x, w, a):
    groups = a.get("group", 1)
    views = windows(x, a, w.shape[2:], 0)
    n, m = x.shape[0], w.shape[0]
    result = 0
    for offset, view in views:
        grouped = view.reshape((n, groups, -1) + view.shape[2:])
        weights = w[(slice(None), slice(None)) + offset].reshape(groups, m // groups, -1)
        result = result + np.einsum("ngc...,gmc->ngm...", grouped, weights)
    return result.reshape((n, m) + views[0][1].shape[2:])


@operator("Conv")
def conv(ctx, inputs, a):
    x, w = inputs[0], inputs[1]
    y = contract(ctx, lambda p, q: convolve(p, q, a), x.array, w.array, x.type, int(np.prod(w.array.shape[1:])))
    if len(inputs) > 2 and inputs[2] is not None:
        y = ctx.rounded(y + inputs[2].array.reshape((1, -1) + (1,) * (y.ndim - 2)), x.type)
    return value(y, x)


@operator("MaxPool")
def max_pool(ctx, inputs, a):
    x = inputs[0]
    fill = -np.inf if x.is_float else np.iinfo(x.array.dtype).min
    return value(np.max([view for _, view in windows(x.array, a, a["kernel_shape"], fill)], axis=0), x)


@operator("AveragePool")
def average_pool(ctx, inputs, a):
    x, kernel = inputs[0], a["kernel_shape"]
    views = [view for _, view in windows(x.array, a, kernel, 0)]
    inside = np.ones_like(x.array)
    if a.get("count_include_pad", 0):
        rank = len(kernel)
        pads = window_pads(a, x.array.shape[2:], kernel, list(a.get("strides", [1] * rank)), list(a.get("dilations", [1] * rank)))
        inside = np.pad(inside, [(0, 0), (0, 0)] + pads, constant_values=1)
        a = dict(a, pads=[0] * 2 * rank, auto_pad=b"NOTSET")
    count = np.sum([view for _, view in windows(inside, a, kernel, 0)], axis=0)
    result = np.sum(views, axis=0) / count
    norm = np.sqrt(np.sum(np.square(views), axis=0)) / count
    return value(ctx.rounded(ctx.summed(result, x.type, int(np.prod(kernel)), norm), x.type), x)


@operator("GlobalAveragePool")
def global_average_pool(ctx, inputs, a):
    return value(mean_of(ctx, inputs[0].array, tuple(range(2, inputs[0].array.ndim)), True, inputs[0].type), inputs[0])


@operator("GlobalMaxPool")
def global_max_pool(ctx, inputs, a):
    return value(inputs[0].array.max(axis=tuple(range(2, inputs[0].array.ndim)), keepdims=True), inputs[0])


# ---------------------------------------------------------------------------------------------- all others
def by_reference(ctx, node, inputs, opset):
    """One node by onnx.reference, moved as if every result were a sum over its whole inputs."""
    from onnx.reference import ReferenceEvaluator

    feed, values, types = {}, [], {}
    for number, v in enumerate(inputs):
        if v is None:
            continue
        name = node.input[number]
        types[name] = TensorProto.DOUBLE if v.is_float else v.type
        feed[name] = v.array
        values.append(helper.make_tensor_value_info(name, types[name], v.array.shape))
    graph = helper.make_graph([node], "node", list({v.name: v for v in values}.values()),
                              [helper.make_empty_tensor_value_info(n) for n in node.output if n])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    results = []
    like = next((v for v in inputs if v is not None and v.is_float), None)
    for array in ReferenceEvaluator(model).run(None, feed):
        array = np.asarray(array)
        if array.dtype.kind == "f" and like is not None:
            amount = evaluate.UNIT[like.type] * math.sqrt(like.array.size) * (np.abs(array).max() if array.size else 0)
            results.append(evaluate.Value(ctx.moved(array.astype(np.float64), like.type, amount), like.type))
        else:
            results.append(evaluate.from_numpy(array))
    return results
