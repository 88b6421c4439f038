"""Random one-node cases of ONNX operators for fuzzing: random shapes, element types, attributes and values.

GENERATORS maps a name (an operator, or a family of one) to a function of a numpy Generator that returns a Case. The values keep
away from where rounding decides (poles, ties, cancelled sums), so that a difference from onnx.reference is a difference of
meaning. Parameters such as axes and shapes are constants, as exported models have them."""
import dataclasses

import numpy as np

GENERATORS = {}
FLOATS = ("float32", "float32", "float32", "float64", "float16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64")


@dataclasses.dataclass
class Case:
    """One node: operator, inputs (None: left out), attributes, how many outputs, and which inputs are constants."""

    op: str
    inputs: list
    attributes: dict = dataclasses.field(default_factory=dict)
    outputs: int = 1
    constants: tuple = ()


def generator(*names, registry=GENERATORS):
    """Registers a function of (rng, name) for each name."""

    def register(function):
        for name in names:
            registry[name] = lambda rng, name=name: function(rng, name)
        return function

    return register


def shape_of(rng, low=1, high=4, largest=7):
    """A shape of `low` to `high` axes; sizes around vector widths turn up on the last axis, and one axis may be empty."""
    shape = [int(n) for n in rng.integers(1, largest + 1, int(rng.integers(low, high + 1)))]
    if shape and rng.random() < 0.4:
        shape[-1] = int(rng.choice([1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33]))
    return shape


def values(rng, shape, dtype, low=-4.0, high=4.0):
    """An array of `dtype` with values in [low, high]; unsigned types take the absolute value."""
    dtype = np.dtype(dtype)
    if dtype == bool:
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        low, high = int(np.ceil(max(low, 0) if dtype.kind == "u" else low)), int(np.floor(high))
        return rng.integers(low, high + 1, shape).astype(dtype)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


def broadcast_shapes(rng, count):
    """`count` shapes that broadcast with each other as numpy does."""
    whole = shape_of(rng)
    shapes = []
    for _ in range(count):
        shape = [n if rng.random() < 0.7 else 1 for n in whole]
        shapes.append(shape[int(rng.integers(len(shape) + 1)) if rng.random() < 0.3 else 0 :])
    return shapes


def integers(*numbers):
    return np.array(numbers, np.int64)


# ------------------------------------------------------------------------------------------------ elementwise
RANGES = {"Sqrt": (0.01, 9), "Log": (0.05, 9), "Asin": (-0.95, 0.95), "Acos": (-0.95, 0.95), "Acosh": (1.1, 6), "Atanh": (-0.9, 0.9),
          "Tan": (-1.3, 1.3), "Reciprocal": (0.2, 4), "Sinh": (-3, 3), "Cosh": (-3, 3)}


@generator("Abs", "Neg", "Sign", "Ceil", "Floor", "Round", "Sqrt", "Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh",
           "Tanh", "Asinh", "Acosh", "Atanh", "Erf", "Relu", "Sigmoid", "Softplus", "Mish", "Softsign", "Reciprocal", "HardSwish")
def unary(rng, op):
    # HardSwish has 1/6 as a float32 whatever the type, and the reference computes Erf in float32.
    dtype = pick(rng, FLOATS if op not in ("HardSwish", "Erf") else ("float32", "float16"))
    if op in ("Abs", "Neg", "Sign", "Relu") and rng.random() < 0.3:
        dtype = pick(rng, ("int32", "int64", "int8"))
    rank = 1 if op == "Softsign" else 0  # the reference has no Softsign of a scalar
    return Case(op, [values(rng, shape_of(rng, rank), dtype, *RANGES.get(op, (-4, 4)))])


@generator("Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Shrink", "Gelu", "Swish")
def unary_with_attributes(rng, op):
    attributes = {"Elu": ("alpha",), "Selu": ("alpha", "gamma"), "Celu": ("alpha",), "LeakyRelu": ("alpha",), "ThresholdedRelu": ("alpha",),
                  "HardSigmoid": ("alpha", "beta"), "Shrink": ("lambd", "bias"), "Swish": ("alpha",)}.get(op, ())
    given = {name: float(np.float32(rng.uniform(0.1, 1.5))) for name in attributes if rng.random() < 0.7}
    if op == "Gelu":
        given["approximate"] = pick(rng, ("none", "tanh"))
    return Case(op, [values(rng, shape_of(rng), "float32")], given)


@generator("IsNaN", "IsInf")
def classify(rng, op):
    x = values(rng, shape_of(rng), pick(rng, ("float32", "float64")))
    x[rng.random(x.shape) < 0.3] = np.nan
    x[rng.random(x.shape) < 0.2] = np.inf
    x[rng.random(x.shape) < 0.2] = -np.inf
    given = {name: int(rng.integers(2)) for name in ("detect_positive", "detect_negative")} if op == "IsInf" else {}
    return Case(op, [x], given)


@generator("Add", "Sub", "Mul", "Div", "Mod", "Pow", "PRelu")
def arithmetic(rng, op):
    dtype = pick(rng, FLOATS if op == "PRelu" or rng.random() < 0.6 else ("int32", "int64"))
    a, b = broadcast_shapes(rng, 2)
    x, y = values(rng, a, dtype, -9, 9), values(rng, b, dtype, 1, 5)
    if op in ("Div", "Mod") and x.dtype.kind != "u":
        y = (y * rng.choice([-1, 1], y.shape)).astype(dtype)
    if op == "Pow":
        x, y = values(rng, a, dtype, 0.3, 3), values(rng, b, pick(rng, ("float32", "int64")), 0, 3)
        if x.dtype.kind == "i":
            y = y.astype(np.int64)
    if op == "PRelu":
        fits = len(b) <= len(a) and all(n in (1, m) for n, m in zip(b[::-1], a[::-1]))
        y = values(rng, b if fits else a[-1:], dtype)
    return Case(op, [x, y], {"fmod": 1} if op == "Mod" and (x.dtype.kind == "f" or rng.random() < 0.3) else {})


@generator("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def comparison(rng, op):
    dtype = pick(rng, ("float32", "float64", "int32", "int64"))
    return Case(op, [np.round(values(rng, shape, dtype)).astype(dtype) for shape in broadcast_shapes(rng, 2)])


@generator("And", "Or", "Xor", "Not")
def logical(rng, op):
    return Case(op, [values(rng, shape, bool) for shape in broadcast_shapes(rng, 1 if op == "Not" else 2)])


@generator("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")
def bitwise(rng, op):
    dtype = pick(rng, ("uint8", "uint32", "uint64") if op == "BitShift" else INTEGERS)
    inputs = [values(rng, shape, dtype, -100, 100) for shape in broadcast_shapes(rng, 1 if op == "BitwiseNot" else 2)]
    if op == "BitShift":
        inputs[1] = values(rng, inputs[1].shape, dtype, 0, 7)
    return Case(op, inputs, {"direction": pick(rng, ("LEFT", "RIGHT"))} if op == "BitShift" else {})


@generator("Max", "Min", "Sum", "Mean")
def variadic(rng, op):
    dtype = pick(rng, ("float32", "float64"))
    shapes = broadcast_shapes(rng, int(rng.integers(1, 5)))
    if op == "Mean":  # the reference adds into its first operand
        shapes.insert(0, list(np.broadcast_shapes(*map(tuple, shapes))))
    return Case(op, [values(rng, shape, dtype) for shape in shapes])


@generator("Where")
def where(rng, op):
    dtype = pick(rng, ("float32", "int64", "bool", "uint8"))
    shapes = broadcast_shapes(rng, 3)
    return Case(op, [values(rng, shapes[0], bool), values(rng, shapes[1], dtype), values(rng, shapes[2], dtype)])


@generator("Clip")
def clip(rng, op):
    dtype = pick(rng, ("float32", "float64", "int32", "int8"))
    low, high = (np.array(n, dtype) if rng.random() < 0.7 else None for n in (-2, 2))
    return Case(op, [values(rng, shape_of(rng), dtype), low, high])


def narrow(rng):
    """A type of eight bits or fewer."""
    import ml_dtypes

    return getattr(ml_dtypes, pick(rng, ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn", "int4", "uint4")))


@generator("Cast")
def cast(rng, op):
    from onnx import helper

    plain = ("float32", "float64", "float16", "bool") + INTEGERS
    source, target = pick(rng, plain), pick(rng, plain)
    if rng.random() < 0.3:
        source = narrow(rng)
    if rng.random() < 0.3:
        target = narrow(rng)
    # Out-of-range casts are left to the implementation: the values fit every type.
    x = values(rng, shape_of(rng), source, 0, 100 if source in plain and target in plain else 1)
    return Case(op, [x], {"to": int(helper.np_dtype_to_tensor_dtype(np.dtype(target)))})


# ------------------------------------------------------------------------------------------------ reductions
def some_axes(rng, rank):
    """A nonempty random set of axes, some of them counted from the end."""
    axes = sorted(rng.permutation(rank)[: int(rng.integers(1, rank + 1))])
    return [int(a) - (rank if rng.random() < 0.3 else 0) for a in axes]


@generator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
           "ReduceSumSquare")
def reduce(rng, op):
    shape = shape_of(rng, largest=4 if op == "ReduceProd" else 7)
    low, high = {"ReduceProd": (0.9, 1.1), "ReduceLogSum": (0.5, 1.5)}.get(op, (-4, 4))
    dtype = pick(rng, ("float32", "float32", "float64"))
    if op in ("ReduceSum", "ReduceMax", "ReduceMin") and rng.random() < 0.3:
        dtype = pick(rng, ("int32", "int64"))
    x = values(rng, shape, dtype, low, high)
    attributes = {"keepdims": int(rng.integers(2))}
    if rng.random() < 0.2:
        if rng.random() < 0.5:
            attributes["noop_with_empty_axes"] = 0
        return Case(op, [x], attributes)
    return Case(op, [x, integers(*some_axes(rng, len(shape)))], attributes, constants=(1,))


@generator("ArgMax", "ArgMin")
def arg_reduce(rng, op):
    shape = shape_of(rng)
    x = np.round(values(rng, shape, "float32"))  # ties decide the index
    attributes = {"axis": some_axes(rng, len(shape))[0], "keepdims": int(rng.integers(2)), "select_last_index": int(rng.integers(2))}
    return Case(op, [x], attributes)


@generator("CumSum")
def cumulative(rng, op):
    shape = shape_of(rng)
    axis = np.array(some_axes(rng, len(shape))[0], np.int64)
    attributes = {"exclusive": int(rng.integers(2)), "reverse": int(rng.integers(2))}
    return Case(op, [values(rng, shape, pick(rng, ("float32", "int64"))), axis], attributes, constants=(1,))


@generator("Softmax", "LogSoftmax", "Hardmax")
def along_axis(rng, op):
    shape = shape_of(rng)
    return Case(op, [values(rng, shape, "float32", -8, 8)], {"axis": some_axes(rng, len(shape))[0]})


@generator("LayerNormalization", "RMSNormalization")
def row_norm(rng, op):
    shape = shape_of(rng, 2, 4)
    shape[-1] += 1
    axis = int(rng.integers(1, len(shape)))
    inputs = [values(rng, shape, "float32"), values(rng, shape[axis:], "float32", 0.5, 1.5)]
    if op == "LayerNormalization" and rng.random() < 0.7:
        inputs.append(values(rng, shape[axis:], "float32"))
    return Case(op, inputs, {"axis": axis - (len(shape) if rng.random() < 0.5 else 0), "epsilon": 1e-3})


@generator("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def channel_norm(rng, op):
    groups = int(rng.integers(1, 4))
    channels = groups * int(rng.integers(1, 4))
    x = values(rng, [int(rng.integers(1, 3)), channels, *shape_of(rng, 1, 2, 6), 3], "float32")
    scale, bias, mean = (values(rng, [channels], "float32", 0.5, 1.5) for _ in range(3))
    if op == "BatchNormalization":
        return Case(op, [x, scale, bias, mean, values(rng, [channels], "float32", 0.5, 1.5)], {"epsilon": 1e-3})
    return Case(op, [x, scale, bias], {"epsilon": 1e-3, **({"num_groups": groups} if op == "GroupNormalization" else {})})


# ------------------------------------------------------------------------------------------------ contractions
@generator("MatMul")
def matmul(rng, op):
    dtype = pick(rng, ("float32", "float32", "float64"))
    m, n, k = (int(v) for v in rng.integers(1, 40, 3))
    left, right = broadcast_shapes(rng, 2) if rng.random() < 0.5 else ([], [])
    a, b = [*left[-2:], m, k], [*right[-2:], k, n]
    if left and right:
        a, b = ([2, m, k], [k, n]) if rng.random() < 0.5 else ([1, 3, m, k], [2, 1, k, n])
    if rng.random() < 0.15:
        a, b = ([k], [k, n]) if rng.random() < 0.5 else ([m, k], [k])
    return Case(op, [values(rng, a, dtype), values(rng, b, dtype)], constants=(1,) if rng.random() < 0.5 else ())


@generator("Gemm")
def gemm(rng, op):
    m, n, k = (int(v) for v in rng.integers(1, 40, 3))
    a, b = int(rng.integers(2)), int(rng.integers(2))
    inputs = [values(rng, [k, m] if a else [m, k], "float32"), values(rng, [n, k] if b else [k, n], "float32")]
    if rng.random() < 0.7:
        inputs.append(values(rng, pick(rng, ([n], [1, n], [m, 1], [m, n], [1])), "float32"))
    return Case(op, inputs, {"transA": a, "transB": b, "alpha": float(pick(rng, (1.0, 0.5))), "beta": float(pick(rng, (1.0, 0.25)))})


@generator("Einsum")
def einsum(rng, op):
    sizes = {axis: int(rng.integers(1, 6)) for axis in "bijk"}
    equation = pick(rng, ("ij,jk->ik", "bij,bjk->bik", "ij->ji", "ij->i", "bij,bij->b", "i,j->ij", "ijk->j"))
    inputs = [values(rng, [sizes[axis] for axis in term], "float32") for term in equation.split("->")[0].split(",")]
    return Case(op, inputs, {"equation": equation})


def window_attributes(rng, rank, with_dilations):
    """(attributes, kernel shape) of a convolution or a pool over `rank` spatial axes."""
    kernel = [int(n) for n in rng.integers(1, 4, rank)]
    attributes = {"kernel_shape": kernel, "strides": [int(n) for n in rng.integers(1, 3, rank)]}
    if with_dilations:
        attributes["dilations"] = [int(n) for n in rng.integers(1, 3, rank)]
    attributes["pads"] = [min(int(rng.integers(0, 3)), size - 1) for _ in range(2) for size in kernel]
    return attributes, kernel


@generator("Conv", "ConvTranspose")
def convolution(rng, op):
    rank = pick(rng, (1, 2, 2, 2))
    attributes, kernel = window_attributes(rng, rank, True)
    group = pick(rng, (1, 1, 2, 3))
    per_input, per_output = (int(n) for n in rng.integers(1, 5, 2))
    if group > 1 and rng.random() < 0.5:
        per_input = per_output = 1  # depthwise
    attributes["group"] = group
    x = values(rng, [int(rng.integers(1, 3)), group * per_input, *(int(n) for n in rng.integers(6, 12, rank))], "float32", -1, 1)
    outputs = group * per_output
    weights = [outputs, per_input, *kernel] if op == "Conv" else [group * per_input, per_output, *kernel]
    inputs = [x, values(rng, weights, "float32", -1, 1)]
    if rng.random() < 0.6:
        inputs.append(values(rng, [outputs], "float32"))
    return Case(op, inputs, attributes, constants=(1, 2)[: len(inputs) - 1] if rng.random() < 0.7 else ())


@generator("MaxPool", "AveragePool")
def pool(rng, op):
    rank = pick(rng, (1, 2, 2))
    attributes, _ = window_attributes(rng, rank, op == "MaxPool")
    attributes["ceil_mode"] = int(rng.random() < 0.3)
    if op == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(2))
        attributes["ceil_mode"] = 0  # the reference and the page differ on a last window outside
    return Case(op, [values(rng, [1, int(rng.integers(1, 4)), *(int(n) for n in rng.integers(6, 12, rank))], "float32")], attributes)


@generator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(rng, op):
    return Case(op, [values(rng, [2, 3, *shape_of(rng, 2, 2)], "float32")])  # two spatial axes: the reference's limit


# ------------------------------------------------------------------------------------------------ movement
ANY = ("float32", "int64", "bool", "float16", "uint8")


@generator("Reshape")
def reshape(rng, op):
    x = values(rng, shape_of(rng), pick(rng, ANY))
    parts, left = [], x.size
    while left > 1:
        divisor = int(pick(rng, [d for d in range(2, left + 1) if left % d == 0]))
        parts.append(divisor)
        left //= divisor
    parts = parts[:5] + ([int(np.prod(parts[5:]))] if parts[5:] else [])
    if parts and rng.random() < 0.5:
        parts[int(rng.integers(len(parts)))] = -1
    return Case(op, [x, integers(*parts)], constants=(1,))


@generator("Transpose")
def transpose(rng, op):
    shape = shape_of(rng, 1, 5)
    return Case(op, [values(rng, shape, pick(rng, ANY))], {"perm": [int(a) for a in rng.permutation(len(shape))]} if rng.random() < 0.9 else {})


@generator("Flatten")
def flatten(rng, op):
    shape = shape_of(rng)
    return Case(op, [values(rng, shape, "float32")], {"axis": int(rng.integers(-len(shape), len(shape) + 1))})


@generator("Squeeze", "Unsqueeze")
def squeeze(rng, op):
    shape = shape_of(rng, 1, 3)
    axes = sorted(int(a) for a in rng.permutation(len(shape) + 1)[: int(rng.integers(1, 3))])
    if op == "Squeeze":
        for axis in axes:
            shape.insert(axis, 1)
    return Case(op, [values(rng, shape, pick(rng, ANY)), integers(*axes)], constants=(1,))


@generator("Expand")
def expand(rng, op):
    x, target = broadcast_shapes(rng, 2)
    return Case(op, [values(rng, x, pick(rng, ANY)), integers(*(target or [1]))], constants=(1,))


@generator("Tile")
def tile(rng, op):
    shape = shape_of(rng, 1, 3, 5)
    return Case(op, [values(rng, shape, pick(rng, ANY)), integers(*rng.integers(1, 4, len(shape)))], constants=(1,))


@generator("Concat")
def concat(rng, op):
    shape, dtype = shape_of(rng), pick(rng, ANY)
    axis = int(rng.integers(len(shape)))
    parts = [values(rng, [*shape[:axis], int(rng.integers(1, 6)), *shape[axis + 1 :]], dtype) for _ in range(int(rng.integers(1, 5)))]
    return Case(op, parts, {"axis": axis - (len(shape) if rng.random() < 0.4 else 0)})


@generator("Split")
def split(rng, op):
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    sizes = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4)))]
    shape[axis] = sum(sizes)
    return Case(op, [values(rng, shape, pick(rng, ANY)), integers(*sizes)], {"axis": axis}, len(sizes), (1,))


@generator("Slice")
def slice_(rng, op):
    shape = shape_of(rng)
    axes = some_axes(rng, len(shape))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis]
        step = int(pick(rng, (1, 1, 2, -1, -2)))
        low, high = sorted(int(n) for n in rng.integers(0, size + 1, 2))
        if low == high:
            low, high = 0, size
        starts.append(low if step > 0 else high - 1)
        ends.append((high if rng.random() < 0.7 else 2**31) if step > 0 else (low - 1 if low else -(2**31)))
        steps.append(step)
    return Case(op, [values(rng, shape, pick(rng, ANY)), integers(*starts), integers(*ends), integers(*axes), integers(*steps)], constants=(1, 2, 3, 4))


@generator("Pad")
def pad(rng, op):
    shape = [n + 2 for n in shape_of(rng, 1, 3)]
    mode = pick(rng, ("constant", "constant", "reflect", "edge", "wrap"))
    pads = integers(*rng.integers(-1 if mode == "constant" and rng.random() < 0.2 else 0, 3, 2 * len(shape)))
    inputs = [values(rng, shape, "float32"), pads]
    if mode == "constant" and rng.random() < 0.5:
        inputs.append(np.array(1.5, np.float32))
    return Case(op, inputs, {"mode": mode}, constants=(1, 2)[: len(inputs) - 1])


@generator("Gather")
def gather(rng, op):
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    indices = rng.integers(-shape[axis], shape[axis], shape_of(rng, 0, 2)).astype(pick(rng, (np.int64, np.int32)))
    return Case(op, [values(rng, shape, pick(rng, ANY)), np.asarray(indices)], {"axis": axis})


@generator("GatherElements")
def gather_elements(rng, op):
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    wanted = [int(rng.integers(1, 6)) if a == axis else n for a, n in enumerate(shape)]
    return Case(op, [values(rng, shape, "float32"), rng.integers(-shape[axis], shape[axis], wanted)], {"axis": axis})


@generator("GatherND")
def gather_nd(rng, op):
    shape = shape_of(rng, 2, 4)
    depth = int(rng.integers(1, len(shape) + 1))
    indices = np.stack([rng.integers(-n, n, [3, 2]) for n in shape[:depth]], -1)
    return Case(op, [values(rng, shape, "float32"), indices])


@generator("ScatterElements")
def scatter_elements(rng, op):
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    wanted = list(shape)
    count = int(rng.integers(1, shape[axis] + 1))
    wanted[axis] = count
    # No index twice along the axis: the order of writes would decide.
    order = np.argsort(rng.random(shape), axis)
    indices = np.take(order, np.arange(count), axis)
    attributes = {"axis": axis, "reduction": pick(rng, ("none", "add", "mul", "max", "min"))}
    return Case(op, [values(rng, shape, "float32"), indices, values(rng, wanted, "float32")], attributes)


@generator("ScatterND")
def scatter_nd(rng, op):
    shape = shape_of(rng, 1, 3)
    count = int(rng.integers(1, shape[0] + 1))
    indices = rng.permutation(shape[0])[:count].reshape(count, 1)
    attributes = {"reduction": pick(rng, ("none", "add", "mul", "max", "min"))}
    return Case(op, [values(rng, shape, "float32"), indices, values(rng, [count, *shape[1:]], "float32")], attributes)


@generator("DepthToSpace", "SpaceToDepth")
def depth(rng, op):
    block, channels, h, w = (int(n) for n in rng.integers(1, 4, 4))
    if op == "DepthToSpace":
        return Case(op, [values(rng, [2, channels * block * block, h, w], "float32")], {"blocksize": block, "mode": pick(rng, ("DCR", "CRD"))})
    return Case(op, [values(rng, [2, channels, h * block, w * block], "float32")], {"blocksize": block})


@generator("Trilu")
def trilu(rng, op):
    inputs = [values(rng, shape_of(rng, 2, 3), pick(rng, ("float32", "int64")))]
    if rng.random() < 0.7:
        inputs.append(np.array(rng.integers(-3, 4), np.int64))
    return Case(op, inputs, {"upper": int(rng.integers(2))}, constants=(1,)[: len(inputs) - 1])


@generator("OneHot")
def one_hot(rng, op):
    size = int(rng.integers(2, 7))
    indices = rng.integers(-size, size, shape_of(rng, 1, 2))
    return Case(op, [indices, np.array(size, np.int64), np.array([0.25, 2.0], np.float32)], {"axis": pick(rng, (-1, 0, 1))}, constants=(1,))


@generator("Identity", "Shape", "Size")
def plain(rng, op):
    return Case(op, [values(rng, shape_of(rng), pick(rng, ANY))])


@generator("Resize")
def resize(rng, op):
    shape = [1, 2, *(int(n) for n in rng.integers(2, 7, 2))]
    scales = np.array([1, 1, *(float(pick(rng, (0.5, 1.0, 2.0, 3.0))) for _ in range(2))], np.float32)
    mode = pick(rng, ("nearest", "linear"))
    attributes = {"mode": mode, "coordinate_transformation_mode": pick(rng, ("half_pixel", "asymmetric"))}
    if mode == "nearest":
        # Exact ties between two pixels are a matter of rounding; floor has none here.
        attributes.update(nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    return Case(op, [values(rng, shape, "float32"), None, scales], attributes, constants=(2,))


@generator("TopK")
def top_k(rng, op):
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    return Case(op, [x, integers(int(rng.integers(1, shape[axis] + 1)))], {"axis": axis, "largest": int(rng.integers(2))}, 2, (1,))


@generator("NonZero")
def non_zero(rng, op):
    return Case(op, [values(rng, shape_of(rng), pick(rng, ("float32", "int8", "bool")), -2, 2).round()])


@generator("Compress")
def compress(rng, op):
    shape = shape_of(rng)
    if rng.random() < 0.3:
        return Case(op, [values(rng, shape, "float32"), rng.random(int(np.prod(shape))) < 0.5])
    axis = int(rng.integers(-len(shape), len(shape)))
    # A short condition says nothing of the rest.
    count = int(rng.integers(1, shape[axis] + 1))
    return Case(op, [values(rng, shape, "float32"), rng.random(count) < 0.5], {"axis": axis})


@generator("Unique")
def unique(rng, op):
    shape = shape_of(rng, 1, 3)
    x = values(rng, shape, pick(rng, ("float32", "int64", "int8")), -2, 2).round()
    if rng.random() < 0.5:
        return Case(op, [x], {"axis": int(rng.integers(len(shape)))}, 4)
    return Case(op, [x.ravel()], {"sorted": int(rng.integers(2))}, 4)


@generator("TensorScatter")
def tensor_scatter(rng, op):
    batch, heads, size, width = (int(n) for n in rng.integers(1, 7, 4))
    count = int(rng.integers(1, size + 1))
    mode = pick(rng, ("linear", "circular"))
    starts = rng.integers(0, size if mode == "circular" else size - count + 1, batch)
    return Case(op, [values(rng, [batch, heads, size, width], "float32"), values(rng, [batch, heads, count, width], "float32"), starts], {"mode": mode})


@generator("NonMaxSuppression")
def non_max_suppression(rng, op):
    batches, classes, n = (int(v) for v in rng.integers(1, 4, 3) * (1, 1, 9))
    scores = rng.permutation(batches * classes * n).reshape(batches, classes, n).astype(np.float32)
    inputs = [values(rng, [batches, n, 4], "float32", 0, 1), scores, np.array([int(rng.integers(0, n + 3))], np.int64),
              np.array([rng.random()], np.float32), np.array([float(rng.integers(0, n)) + 0.5], np.float32)]
    return Case(op, inputs, {"center_point_box": int(rng.integers(2))}, constants=(2,) if rng.random() < 0.5 else ())


@generator("QuantizeLinear", "DequantizeLinear")
def quantize(rng, op):
    shape = shape_of(rng, 2, 4)
    axis = int(rng.integers(len(shape)))
    per_axis = rng.random() < 0.5
    dtype = pick(rng, ("int8", "uint8"))
    scale = values(rng, [shape[axis]] if per_axis else [], "float32", 0.05, 0.4)
    zero = values(rng, scale.shape, dtype, -9, 9)
    if op == "DequantizeLinear":
        return Case(op, [values(rng, shape, dtype, -100, 100), scale, zero], {"axis": axis})
    # A quarter of a step away from any tie.
    steps = values(rng, shape, "int32", -60, 60) + 0.25
    wide = scale.reshape([-1 if a == axis else 1 for a in range(len(shape))]) if per_axis else scale
    return Case(op, [(steps * wide).astype(np.float32), scale, zero], {"axis": axis})
