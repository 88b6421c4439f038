"""Random one-node cases of com.microsoft operators, and of the quantised ones of the standard, with onnxruntime as the oracle.

GENERATORS maps an operator (or a family of its variants) to a function of a numpy Generator that returns a Case of op_cases.py.
Only what onnxruntime's CPU kernels accept is made. `skip` lists outputs that are not compared."""
import functools

import numpy as np
import op_cases
from op_cases import Case, integers, pick, values

GENERATORS = {}

generator = functools.partial(op_cases.generator, registry=GENERATORS)


def f32(rng, *shape, low=-2.0, high=2.0):
    return values(rng, list(shape), "float32", low, high)


def sizes(rng):
    """Batch, length and width of a small activation."""
    return int(rng.integers(1, 4)), int(rng.integers(1, 8)), int(pick(rng, (8, 12, 16, 33)))


# ------------------------------------------------------------------------------------------------ norms and activations
@generator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm(rng, op):
    n, s, h = sizes(rng)
    skip = pick(rng, ((n, s, h), (1, s, h), (s, h))) if op == "SkipLayerNormalization" else (n, s, h)
    bias = f32(rng, h) if rng.random() < 0.5 else None
    beta = [f32(rng, h) if rng.random() < 0.7 else None] if op == "SkipLayerNormalization" else []
    case = Case(op, [f32(rng, n, s, h), f32(rng, *skip), f32(rng, h), *beta, bias], {"epsilon": pick(rng, (1e-5, 1e-6))}, 4)
    case.unused = (1, 2)
    return case


@generator("SimplifiedLayerNormalization")
def simplified_norm(rng, op):
    n, s, h = sizes(rng)
    case = Case(op, [f32(rng, n, s, h), f32(rng, h)], {"axis": -1, "epsilon": 1e-5, "stash_type": 1})
    case.domain = ""
    return case


@generator("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "FastGeluBias", "BiasAdd", "BiasSplitGelu")
def activations(rng, op):
    n, s, h = sizes(rng)
    h += h % 2
    inputs = [f32(rng, n, s, h, low=-5, high=5)]
    if op in ("BiasGelu", "FastGeluBias", "BiasAdd", "BiasSplitGelu"):
        inputs.append(f32(rng, h))
    if op == "BiasAdd":
        inputs.append(f32(rng, n, s, h))
    given = {"alpha": float(np.float32(rng.uniform(0.5, 2)))} if op == "QuickGelu" and rng.random() < 0.5 else {}
    return Case(op.removesuffix("Bias") if op == "FastGeluBias" else op, inputs, given)


@generator("EmbedLayerNormalization")
def embed(rng, op):
    n, s, h = sizes(rng)
    ids = lambda high: rng.integers(0, high, (n, s)).astype(np.int32)
    segments = rng.random() < 0.7
    mask = (np.arange(s)[None] < rng.integers(1, s + 1, (n, 1))).astype(np.int32)
    return Case(op, [ids(11), ids(2) if segments else None, f32(rng, 11, h), f32(rng, 16, h), f32(rng, 2, h) if segments else None,
                     f32(rng, h), f32(rng, h), mask], {"epsilon": 1e-5}, 2)


# ------------------------------------------------------------------------------------------------ products
@generator("FusedMatMul")
def fused_matmul(rng, op):
    m, k, n = (int(x) for x in rng.integers(1, 9, 3))
    batch = [int(x) for x in rng.integers(1, 4, int(rng.integers(0, 3)))]
    given = {name: int(rng.integers(2)) for name in ("transA", "transB")}
    a, b = ([k, m] if given["transA"] else [m, k]), ([n, k] if given["transB"] else [k, n])
    return Case(op, [f32(rng, *batch, *a), f32(rng, *batch, *b)], {**given, "alpha": float(np.float32(rng.uniform(0.2, 2)))})


@generator("FusedGemm")
def fused_gemm(rng, op):
    m, k, n = (int(x) for x in rng.integers(1, 9, 3))
    given = {name: int(rng.integers(2)) for name in ("transA", "transB")}
    a, b = ([k, m] if given["transA"] else [m, k]), ([n, k] if given["transB"] else [k, n])
    activation = pick(rng, ("Relu", "Sigmoid", "Tanh", "LeakyRelu"))
    more = {"activation_alpha": 0.1} if activation == "LeakyRelu" else {}
    return Case(op, [f32(rng, *a), f32(rng, *b), f32(rng, n)], {**given, "alpha": 0.5, "beta": 1.5, "activation": activation, **more})


@generator("FusedConv")
def fused_conv(rng, op):
    n, c, m, h, w = (int(x) for x in rng.integers(2, 6, 5))
    activation, parameters = pick(rng, (("Relu", None), ("Sigmoid", None), ("Tanh", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.75]), ("HardSigmoid", [0.3, 0.4])))
    more = {"activation_params": parameters} if parameters else {}
    z = [f32(rng, n, m, h, w)] if activation == "Relu" and rng.random() < 0.5 else []
    return Case(op, [f32(rng, n, c, h, w), f32(rng, m, c, 3, 3), f32(rng, m), *z], {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3], "activation": activation, **more})


def pack_bits(q, bits):
    """uint8 numbers below 2**bits along the last axis, low bits first."""
    each = 8 // bits
    padded = np.zeros((*q.shape[:-1], -(-q.shape[-1] // each) * each), np.uint8)
    padded[..., : q.shape[-1]] = q
    parts = padded.reshape(*q.shape[:-1], -1, each)
    return sum((parts[..., i] << (bits * i)).astype(np.uint8) for i in range(each)).astype(np.uint8)


@generator("MatMulNBits")
def matmul_bits(rng, op):
    bits, block = int(pick(rng, (4, 4, 8))), int(pick(rng, (16, 32)))
    m, n, k = int(rng.integers(1, 6)), int(rng.integers(1, 20)), int(pick(rng, (16, 32, 48, 64, 80)))
    blocks = -(-k // block)
    q = rng.integers(0, 1 << bits, (n, blocks, block)).astype(np.uint8)
    zero = rng.integers(0, 1 << bits, (n, blocks)).astype(np.uint8)
    zeros = pick(rng, (None, pack_bits(zero, bits), zero.astype(np.float32)))
    inputs = [f32(rng, m, k), pack_bits(q, bits), f32(rng, n, blocks, low=0.01, high=0.1), zeros]
    bias = rng.random() < 0.4
    return Case(op, inputs + ([None, f32(rng, n)] if bias else []), {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": int(pick(rng, (0, 1)))},
                constants=(1, 2, 3, 5))


@generator("GatherBlockQuantized")
def gather_bits(rng, op):
    block, rows = 16, int(rng.integers(2, 9))
    k = int(pick(rng, (16, 32, 64)))
    q, zero = rng.integers(0, 16, (rows, k)).astype(np.uint8), rng.integers(0, 16, (rows, k // block)).astype(np.uint8)
    inputs = [pack_bits(q, 4), rng.integers(0, rows, (2, 3)), f32(rng, rows, k // block, low=0.01, high=0.1)]
    if rng.random() < 0.5:
        inputs.append(pack_bits(zero, 4))
    return Case(op, inputs, {"bits": 4, "block_size": block, "quantize_axis": 1, "gather_axis": 0}, constants=(0, 2, 3))


# ------------------------------------------------------------------------------------------------ attention
def tables(rng, rows, pairs):
    angle = rng.uniform(0, 6, (rows, pairs))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@generator("RotaryEmbedding")
def rotary(rng, op):
    n, s, heads, width = int(rng.integers(1, 3)), int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(pick(rng, (4, 8, 16)))
    pairs = width // 2 if rng.random() < 0.6 else width // 4
    given = {"interleaved": int(rng.integers(2))}
    if pairs != width // 2:
        given.update(num_heads=heads, rotary_embedding_dim=2 * pairs)
    x = f32(rng, n, heads, s, width) if rng.random() < 0.4 and pairs == width // 2 else f32(rng, n, s, heads * width)
    at = rng.integers(0, 20 - s, (n, s)) if rng.random() < 0.6 else integers(int(rng.integers(0, 10)))
    return Case(op, [x, at, *tables(rng, 20, pairs)], given)


def attention_attributes(rng, heads):
    given = {"num_heads": heads}
    if rng.random() < 0.3:
        given["scale"] = float(np.float32(rng.uniform(0.1, 1)))
    return given


@generator("MultiHeadAttention")
def multi_head(rng, op):
    n, s, heads, width = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(pick(rng, (4, 8)))
    h, past = heads * width, int(rng.integers(1, 5)) if rng.random() < 0.4 else 0
    form = pick(rng, ("separate", "separate", "packed", "packed kv", "cross"))
    given = attention_attributes(rng, heads)
    t = s if form == "packed" or past or rng.random() < 0.5 else int(rng.integers(1, 7))
    if form in ("packed", "cross", "packed kv"):
        past = 0
    total = t + past
    if form == "packed":
        inputs = [f32(rng, n, s, heads, 3, width), None, None]
    elif form == "packed kv":
        inputs = [f32(rng, n, s, h), f32(rng, n, t, heads, 2, width), None]
    elif form == "cross":
        inputs = [f32(rng, n, s, h), f32(rng, n, heads, t, width), f32(rng, n, heads, t, width)]
    else:
        inputs = [f32(rng, n, s, h), f32(rng, n, t, h), f32(rng, n, t, h)]
    inputs.append(f32(rng, 3 * h) if form in ("separate",) and rng.random() < 0.5 else None)
    mask = None
    if rng.random() < 0.5 and not past and form == "separate":
        ends = rng.integers(1, total + 1, n).astype(np.int32)
        mask = pick(rng, (ends, (np.arange(total)[None] < ends[:, None]).astype(np.int32)))
    inputs.append(mask)
    inputs.append(f32(rng, pick(rng, (1, n)), pick(rng, (1, heads)), s, total) if rng.random() < 0.4 else None)
    if past:
        inputs += [f32(rng, n, heads, past, width) for _ in "kv"]
    if s == t and form == "separate" and rng.random() < 0.4:
        given["unidirectional"] = 1
    return Case(op, inputs, given, 3 if past else 1)


@generator("Attention")
def attention(rng, op):
    n, s, heads, width = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(pick(rng, (4, 8)))
    h, c, past = heads * width, int(rng.integers(4, 12)), int(rng.integers(1, 5)) if rng.random() < 0.4 else 0
    total, given = s + past, attention_attributes(rng, heads)
    ends = rng.integers(1, s + 1, n).astype(np.int32)
    mask = None
    if rng.random() < 0.6:
        mask = pick(rng, (ends + past, (np.arange(total)[None] < ends[:, None] + past).astype(np.int32),
                          np.broadcast_to((np.arange(total)[None] < ends[:, None] + past)[:, None], (n, s, total)).astype(np.int32)))
        if not past and rng.random() < 0.3:
            mask = np.concatenate([ends, np.minimum(ends - 1, 1)]).astype(np.int32)
    inputs = [f32(rng, n, s, c), f32(rng, c, 3 * h, low=-0.5, high=0.5), f32(rng, 3 * h), mask,
              f32(rng, 2, n, heads, past, width) if past else None]
    inputs.append(f32(rng, 1, heads, s, total) if rng.random() < 0.3 else None)
    if rng.random() < 0.4:
        given["unidirectional"] = 1
    return Case(op, inputs, given, 2 if past else 1)


@generator("QAttention")
def quantized_attention(rng, op):
    n, s, heads, width = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(pick(rng, (4, 8)))
    h, c = heads * width, int(rng.integers(4, 12))
    ends = rng.integers(1, s + 1, n).astype(np.int32)
    mask = pick(rng, (None, ends, (np.arange(s)[None] < ends[:, None]).astype(np.int32)))
    per_column = rng.random() < 0.5
    scale = f32(rng, 3 * h, low=0.005, high=0.02) if per_column else np.array(0.01, np.float32)
    inputs = [rng.integers(0, 256, (n, s, c)).astype(np.uint8), rng.integers(-63, 64, (c, 3 * h)).astype(np.int8), f32(rng, 3 * h),
              np.array(0.02, np.float32), scale, mask, np.array(130, np.uint8), np.zeros(np.shape(scale), np.int8)]
    return Case(op, inputs, {"num_heads": heads, "unidirectional": int(rng.integers(2))}, constants=(1, 2, 3, 4, 6, 7))


@generator("GroupQueryAttention")
def group_query(rng, op):
    n, groups, width = int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(pick(rng, (8, 16)))
    heads = groups * int(rng.integers(1, 4))
    past = int(rng.integers(1, 9)) if rng.random() < 0.6 else 0
    s = 1 if past and n > 1 else int(rng.integers(1, 7))
    total, given = past + s, {"num_heads": heads, "kv_num_heads": groups}
    if rng.random() < 0.4:
        given["scale"] = float(np.float32(rng.uniform(0.1, 1)))
    if rng.random() < 0.3:
        given["softcap"] = float(np.float32(rng.uniform(1, 5)))
    if rng.random() < 0.3:
        given["local_window_size"] = int(rng.integers(1, 6))
    rotary = rng.random() < 0.5
    if rotary:
        given.update(do_rotary=1, rotary_interleaved=int(rng.integers(2)))
    sink = rng.random()
    if sink < 0.2:
        given["smooth_softmax"] = 1
    if rng.random() < 0.3:
        inputs = [f32(rng, n, s, (heads + 2 * groups) * width), None, None]
    else:
        inputs = [f32(rng, n, s, heads * width), f32(rng, n, s, groups * width), f32(rng, n, s, groups * width)]
    inputs += [f32(rng, n, groups, past, width) for _ in "kv"]
    inputs += [np.full(n, total - 1, np.int32), np.array(total, np.int32)]
    inputs += [*tables(rng, 32, width // 2)] if rotary else [None, None]
    inputs += [None, f32(rng, 1, heads, s, total) if rng.random() < 0.3 else None]
    inputs += [f32(rng, heads)] if 0.2 <= sink < 0.4 else []
    return Case(op, inputs, given, 3)


@generator("GroupQueryAttentionQuantised")
def quantised_group_query(rng, op):
    """Caches of int8, or of two numbers of 4 bits a byte."""
    case = group_query(rng, op.removesuffix("Quantised"))
    past, bits = np.shape(case.inputs[3]), int(pick(rng, (8, 4)))
    case.inputs += [None] * (12 - len(case.inputs))
    for cache in (3, 4):
        codes = rng.integers(-128, 128, past) if bits == 8 else rng.integers(0, 256, (*past[:3], past[3] // 2))
        case.inputs[cache] = codes.astype(np.int8 if bits == 8 else np.uint8)
    kind = pick(rng, ("PER_TENSOR", "PER_CHANNEL"))
    case.inputs += [f32(rng, *((1,) if kind == "PER_TENSOR" else (1, past[1], 1, past[3])), low=0.01, high=0.03) * (128 / 2 ** (bits - 1)) for _ in "kv"]
    case.attributes.update(k_quant_type=kind, v_quant_type=kind, kv_cache_bit_width=bits)
    return case


# ------------------------------------------------------------------------------------------------ quantisation
def byte_tensor(rng, dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def parameters(rng, dtype):
    """A scale and a zero point."""
    info = np.iinfo(dtype)
    return np.float32(rng.uniform(0.02, 0.1)), np.array(rng.integers(info.min // 4, info.max // 4 + 1), dtype)


@generator("QLinearAdd", "QLinearMul")
def quantized_binary(rng, op):
    dtype, shape = pick(rng, (np.uint8, np.int8)), sizes(rng)
    other = shape if rng.random() < 0.5 else shape[-1:]
    return Case(op, [byte_tensor(rng, dtype, *shape), *parameters(rng, dtype), byte_tensor(rng, dtype, *other), *parameters(rng, dtype), *parameters(rng, dtype)])


@generator("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearGlobalAveragePool", "QLinearAveragePool")
def quantized_unary(rng, op):
    dtype = pick(rng, (np.uint8, np.int8))
    shape = (2, 3, 6, 7) if op.endswith("Pool") else sizes(rng)
    given = {"QLinearSoftmax": {"opset": 13, "axis": -1}, "QLinearLeakyRelu": {"alpha": 0.1},
             "QLinearAveragePool": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [int(rng.integers(1, 3))] * 2,
                                    "count_include_pad": int(rng.integers(2))}}.get(op, {})
    result = parameters(rng, dtype)
    if op in ("QLinearSigmoid", "QLinearSoftmax"):
        result = (np.float32(1 / 256), np.array(0 if dtype == np.uint8 else -128, dtype))
    return Case(op, [byte_tensor(rng, dtype, *shape), *parameters(rng, dtype), *result], given)


@generator("QLinearWhere")
def quantized_where(rng, op):
    dtype, shape = pick(rng, (np.uint8, np.int8)), sizes(rng)
    both = [byte_tensor(rng, dtype, *shape), *parameters(rng, dtype), byte_tensor(rng, dtype, *shape[-1:]), *parameters(rng, dtype)]
    return Case(op, [rng.random(shape) < 0.5, *both, *parameters(rng, dtype)], constants=(2, 3, 5, 6, 7, 8))


@generator("QLinearConcat")
def quantized_concat(rng, op):
    dtype, (n, s, h) = pick(rng, (np.uint8, np.int8)), sizes(rng)
    inputs = [*parameters(rng, dtype)]
    for _ in range(int(rng.integers(2, 4))):
        inputs += [byte_tensor(rng, dtype, n, int(rng.integers(1, 5)), h), *parameters(rng, dtype)]
    return Case(op, inputs, {"axis": 1}, constants=(0, 1) + tuple(i for i in range(2, len(inputs)) if i % 3 != 2))


@generator("QGemm")
def quantized_gemm(rng, op):
    m, k, n = (int(x) for x in rng.integers(1, 9, 3))
    dtype = pick(rng, (np.uint8, np.int8))
    given = {"transB": int(rng.integers(2)), "alpha": 0.5}
    weight = byte_tensor(rng, np.int8, *((n, k) if given["transB"] else (k, n)))
    scale, zero = parameters(rng, dtype)
    bias = rng.integers(-500, 500, n).astype(np.int32)
    inputs = [byte_tensor(rng, dtype, m, k), scale, zero, weight, np.float32(0.02), np.array(0, np.int8), bias]
    if rng.random() < 0.6:
        inputs += [np.float32(0.3), np.array(3, dtype)]
    return Case(op, inputs, given, constants=(3, 4, 5, 6))


@generator("DynamicQuantizeMatMul", "MatMulIntegerToFloat")
def integer_products(rng, op):
    m, k, n = (int(x) for x in rng.integers(1, 12, 3))
    scale = f32(rng, n, low=0.01, high=0.1) if rng.random() < 0.5 else np.array([0.05], np.float32)
    weight, zero = byte_tensor(rng, np.int8, k, n), np.zeros(scale.shape, np.int8)
    bias = f32(rng, n) if rng.random() < 0.5 else None
    if op == "DynamicQuantizeMatMul":
        return Case(op, [f32(rng, m, k), weight, scale, zero, bias], constants=(1, 2, 3, 4))
    x_scale, x_zero = parameters(rng, np.uint8)
    return Case(op, [byte_tensor(rng, np.uint8, m, k), weight, x_scale, scale, x_zero, zero, bias], constants=(1, 3, 5, 6))


@generator("DynamicQuantizeLSTM")
def quantized_lstm(rng, op):
    steps, batch, k, n = int(pick(rng, (1, 3, 20))), int(rng.integers(1, 4)), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    direction = pick(rng, ("forward", "reverse", "bidirectional"))
    dirs, dtype = 1 + (direction == "bidirectional"), pick(rng, (np.uint8, np.int8))
    per_column = rng.random() < 0.5
    scale = lambda: f32(rng, *((dirs, 4 * n) if per_column else (dirs,)), low=0.005, high=0.02)
    zero = lambda s: (np.zeros(s.shape, np.int8) if dtype == np.int8 else rng.integers(100, 150, s.shape if not per_column else (dirs, 1)).astype(np.uint8).repeat(1 if not per_column else 4 * n, -1).reshape(s.shape))
    ws, rs = scale(), scale()
    maybe = lambda *shape: f32(rng, *shape, low=-1, high=1) if rng.random() < 0.6 else None
    inputs = [f32(rng, steps, batch, k), byte_tensor(rng, dtype, dirs, k, 4 * n), byte_tensor(rng, dtype, dirs, n, 4 * n), maybe(dirs, 8 * n), None,
              maybe(dirs, batch, n), maybe(dirs, batch, n), maybe(dirs, 3 * n), ws, zero(ws), rs, zero(rs)]
    return Case(op, inputs, {"hidden_size": n, "direction": direction}, 3, constants=(1, 2, 3, 7, 8, 9, 10, 11))


@generator("QuantizeLinear", "DequantizeLinear")
def contrib_linear(rng, op):
    dtype = pick(rng, (np.uint8, np.int8, np.uint16, np.int16))
    n, s, h = sizes(rng)
    per_axis = rng.random() < 0.5
    scale = f32(rng, s, low=0.02, high=0.2) if per_axis else np.float32(0.1)
    zero = byte_tensor(rng, dtype, s) if per_axis else np.array(byte_tensor(rng, dtype, 1)[0])
    x = f32(rng, n, s, h, low=-9, high=9) if op == "QuantizeLinear" else byte_tensor(rng, dtype, n, s, h)
    return Case(op, [x, scale, zero], {"axis": 1} if per_axis else {}, constants=(1, 2))


# ------------------------------------------------------------------------------------------------ the standard's quantised operators
def standard(case):
    case.domain = ""
    return case


def small_bytes(rng, *shape):
    """int8 weights that no kernel of 16-bit partial sums overflows with."""
    return rng.integers(-63, 64, shape).astype(np.int8)


@generator("QLinearMatMul", "MatMulInteger")
def integer_matmul(rng, op):
    m, k, n = (int(x) for x in rng.integers(1, 20, 3))
    batch = [int(x) for x in rng.integers(1, 4, int(rng.integers(0, 2)))]
    x_scale, x_zero = parameters(rng, np.uint8)
    per_column = rng.random() < 0.5
    scale = f32(rng, n, low=0.01, high=0.1) if per_column else np.float32(0.03)
    zero = np.zeros(np.shape(scale), np.int8) if per_column else np.array(rng.integers(-9, 10), np.int8)
    x, w = byte_tensor(rng, np.uint8, *batch, m, k), small_bytes(rng, k, n)
    if op == "MatMulInteger":
        return standard(Case(op, [x, w, x_zero, zero]))
    return standard(Case(op, [x, x_scale, x_zero, w, scale, zero, np.float32(rng.uniform(0.2, 1)), np.array(100, np.uint8)], constants=(1, 2, 3, 4, 5, 6, 7)))


@generator("QLinearConv", "ConvInteger")
def integer_conv(rng, op):
    n, groups, h, w = int(rng.integers(1, 3)), int(pick(rng, (1, 1, 2))), int(rng.integers(4, 9)), int(rng.integers(4, 9))
    c, m, k = groups * int(rng.integers(1, 5)), groups * int(rng.integers(1, 5)), int(pick(rng, (1, 3)))
    x_scale, x_zero = parameters(rng, np.uint8)
    x, weight = byte_tensor(rng, np.uint8, n, c, h, w), small_bytes(rng, m, c // groups, k, k)
    given = {"group": groups, "kernel_shape": [k, k], "pads": [int(rng.integers(k // 2 + 1))] * 4, "strides": [int(rng.integers(1, 3))] * 2}
    if op == "ConvInteger":
        return standard(Case(op, [x, weight, x_zero, np.array(0, np.int8)], given))
    per_channel = rng.random() < 0.6
    scale = f32(rng, m, low=0.01, high=0.1) if per_channel else np.float32(0.03)
    bias = rng.integers(-900, 900, m).astype(np.int32)
    inputs = [x, x_scale, x_zero, weight, scale, np.zeros(np.shape(scale), np.int8), np.float32(rng.uniform(0.2, 1)), np.array(100, np.uint8), bias]
    return standard(Case(op, inputs, given, constants=(1, 2, 3, 4, 5, 6, 7, 8)))


@generator("DynamicQuantizeLinear")
def dynamic_quantize(rng, op):
    low, high = pick(rng, ((-3, 5), (1, 4), (-6, -1)))
    return standard(Case(op, [f32(rng, *sizes(rng), low=low, high=high)], outputs=3))


@generator("QuantizeLinearBlocked", "DequantizeLinearBlocked")
def blocked(rng, op):
    dtype, block = pick(rng, (np.uint8, np.int8, np.uint16, np.int16)), int(pick(rng, (2, 4, 16)))
    shape = [int(rng.integers(1, 4)), block * int(rng.integers(1, 4)), int(rng.integers(1, 6))]
    axis = 1
    scales = f32(rng, shape[0], shape[1] // block, shape[2], low=0.05, high=0.2)
    zeros = byte_tensor(rng, dtype, *scales.shape)
    x = f32(rng, *shape, low=-9, high=9) if op.startswith("Quant") else byte_tensor(rng, dtype, *shape)
    return standard(Case(op.removesuffix("Blocked"), [x, scales, zeros], {"axis": axis, "block_size": block}))
