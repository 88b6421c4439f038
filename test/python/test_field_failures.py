"""What compilers have got wrong in the field, as models that dlc must get right, fused and not, strict and reassoc.

Values are small integers (in f32), so that every order of a sum gives the same bits and nothing is hidden by a tolerance; each
model is wrong in many elements when its fault is there. bf16 and f16 models are compared with a step-by-step evaluation that
rounds at every edge."""
import ml_dtypes
import numpy as np
import pytest
from models import save, value
from onnx import TensorProto, helper

import dlc
from test_fusion import FUSION

FUSE = [["-fuse=on"], ["-fuse=off"]] if FUSION else [[]]
MODES = [(mode, options) for mode in ("strict", "reassoc") for options in FUSE]


def whole(*shape, low=-4, high=5, seed=0):
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(np.float32)


def n(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def i64(*numbers):
    return np.array(numbers, np.int64)


def check(tmp_path, nodes, feeds, expected, constants=(), dims=None, dtype=TensorProto.FLOAT):
    """feeds: {name: array}; expected: {name: array}; dims: {input: symbolic shape}."""
    dims = dims or {}
    inputs = [value(name, dims.get(name, list(a.shape)), helper.np_dtype_to_tensor_dtype(a.dtype)) for name, a in feeds.items()]
    outputs = [value(name, [None] * np.ndim(a), helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype)) for name, a in expected.items()]
    path = save(tmp_path / "model.onnx", nodes, inputs, outputs, constants, opset=21)
    for mode, options in MODES:
        got = dlc.compile(path, fp=mode, options=options).run(feeds)
        for result, (name, want) in zip(got, expected.items()):
            want = np.asarray(want)
            assert result.dtype == want.dtype and result.shape == want.shape, (mode, options, name)
            wrong = np.argwhere(result.astype(np.float64) != want.astype(np.float64))
            assert not len(wrong), f"{mode} {options} {name}: {len(wrong)} of {want.size} differ, first {wrong[0]}"


# ------------------------------------------------------------------------- an index lost through a view into a reduction
@pytest.mark.parametrize("symbolic", [False, True])
def test_view_chain_into_a_sum(tmp_path, symbolic):
    x = whole(4, 6, 10)
    nodes = [n("Relu", "x", "r"), n("Reshape", "r s0", "a"), n("Transpose", "a", "b", perm=[1, 0]), n("Reshape", "b s1", "c"),
             n("ReduceSum", "c ax", "y", keepdims=0)]
    r = np.maximum(x, 0)
    y = r.reshape(24, 10).T.reshape(10, -1, 6).sum(1)
    check(tmp_path, nodes, {"x": x}, {"y": y}, {"s0": i64(-1, 10), "s1": i64(10, -1, 6), "ax": i64(1)}, {"x": ["n", 6, 10]} if symbolic else None)


def test_slices_joined_into_a_maximum(tmp_path):
    x = whole(5, 9, 14)
    nodes = [n("Slice", "x s e ax st", "a"), n("Slice", "x s2 e2 ax", "b"), n("Concat", "a b", "c", axis=2), n("Neg", "c", "d"),
             n("ReduceMax", "d ax", "y", keepdims=1), n("ReduceSum", "d ax1", "z", keepdims=0)]
    c = np.concatenate([x[:, :, 12:2:-3], x[:, :, 3:11]], 2)
    check(tmp_path, nodes, {"x": x}, {"y": (-c).max(2, keepdims=True), "z": (-c).sum(1)},
          {"s": i64(12), "e": i64(2), "ax": i64(2), "st": i64(-3), "s2": i64(3), "e2": i64(11), "ax1": i64(1)})


def test_gathered_rows_into_a_sum(tmp_path):
    x, index = whole(11, 6), np.random.default_rng(5).integers(-11, 11, (3, 8))
    nodes = [n("Gather", "x i", "g", axis=0), n("Reshape", "g s", "r"), n("Mul", "r r", "q"), n("ReduceSum", "q ax", "y", keepdims=0)]
    r = x[index].reshape(4, 6, 6)
    check(tmp_path, nodes, {"x": x, "i": index}, {"y": (r * r).sum(1)}, {"s": i64(4, 6, 6), "ax": i64(1)})


def test_broadcast_view_into_a_product_of_matrices(tmp_path):
    """Repeated key heads: Unsqueeze, Expand, Reshape in front of a MatMul."""
    q, k = whole(2, 4, 5, 8), whole(2, 2, 7, 8)
    nodes = [n("Unsqueeze", "k ax", "u"), n("Expand", "u e", "w"), n("Reshape", "w s", "h"), n("Transpose", "h", "t", perm=[0, 1, 3, 2]),
             n("MatMul", "q t", "y")]
    check(tmp_path, nodes, {"q": q, "k": k}, {"y": q @ np.repeat(k, 2, 1).transpose(0, 1, 3, 2)},
          {"ax": i64(2), "e": i64(1, 1, 2, 1, 1), "s": i64(2, 4, 7, 8)})


# ------------------------------------------------------------------------------------ a pad folded into an average pool
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("fill", [0.0, 4.0])
def test_pad_then_average_pool(tmp_path, include, fill):
    """The padded places are elements of the pool's input: they count, whatever count_include_pad says of the pool's own pads."""
    x = whole(1, 3, 6, 6) * 4
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=fill)
    outer = np.pad(padded, [(0, 0), (0, 0), (1, 1), (1, 1)])
    inside = np.pad(np.ones_like(padded), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=include)
    window = lambda t: sum(t[:, :, i : i + 9, j : j + 9] for i in range(2) for j in range(2))
    y = (window(outer) / window(inside)).astype(np.float32)
    nodes = [n("Pad", "x p v", "a"), n("AveragePool", "a", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1], strides=[1, 1], count_include_pad=include)]
    check(tmp_path, nodes, {"x": x}, {"y": y}, {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(fill)})


def test_pad_then_max_pool(tmp_path):
    """A pad of zeros below a maximum of negative numbers: the zeros win; the pool's own pads do not."""
    x = -np.abs(whole(1, 2, 5, 5)) - 1
    padded = np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1)])
    outer = np.pad(padded, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    y = np.max([outer[:, :, i : i + 6, j : j + 6] for i in range(3) for j in range(3)], axis=0)
    nodes = [n("Pad", "x p", "a"), n("MaxPool", "a", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])]
    check(tmp_path, nodes, {"x": x}, {"y": y}, {"p": i64(0, 0, 1, 0, 0, 0, 0, 1)})


# ------------------------------------------------------------------------------------------ the boundary's select dropped
def convolve(x, w):
    out = np.zeros((x.shape[0], w.shape[0], x.shape[2] - 2, x.shape[3] - 2), np.float32)
    for i in range(3):
        for j in range(3):
            out += np.einsum("nchw,mc->nmhw", x[:, :, i : i + out.shape[2], j : j + out.shape[3]], w[:, :, i, j])
    return out


def test_work_in_front_of_a_padded_convolution(tmp_path):
    """f(0) is not 0: the border must be 0 after the work, not the work on 0."""
    x, w = whole(1, 3, 6, 7), whole(4, 3, 3, 3, seed=1)
    a = x * 2 + 3
    y = convolve(np.pad(a, [(0, 0), (0, 0), (1, 1), (1, 1)]), w)
    nodes = [n("Mul", "x two", "m"), n("Add", "m three", "a"), n("Conv", "a w", "c", pads=[1, 1, 1, 1]), n("Relu", "c", "y")]
    check(tmp_path, nodes, {"x": x}, {"y": np.maximum(y, 0)}, {"w": w, "two": np.float32(2), "three": np.float32(3)})


def test_pad_between_work(tmp_path):
    """Work, pad, work, then a sum over the padded axis."""
    x = whole(4, 9)
    a = np.pad(x + 3, [(1, 2), (2, 1)], constant_values=-5) * 2 + 1
    nodes = [n("Add", "x three", "a"), n("Pad", "a p v", "b"), n("Mul", "b two", "m"), n("Add", "m one", "c"), n("ReduceSum", "c ax", "y", keepdims=0)]
    check(tmp_path, nodes, {"x": x}, {"y": a.sum(1)}, {"three": np.float32(3), "p": i64(1, 2, 2, 1), "v": np.float32(-5), "two": np.float32(2),
                                                       "one": np.float32(1), "ax": i64(1)})


def test_concat_of_work(tmp_path):
    """Each part of a concatenation has its own work; a guard that is lost reads the neighbour."""
    x, z = whole(3, 5), whole(3, 8, seed=2)
    nodes = [n("Add", "x one", "a"), n("Neg", "z", "b"), n("Concat", "a b x", "c", axis=1), n("Mul", "c c", "d"), n("ReduceSum", "d ax", "y", keepdims=0)]
    c = np.concatenate([x + 1, -z, x], 1)
    check(tmp_path, nodes, {"x": x, "z": z}, {"y": (c * c).sum(1)}, {"one": np.float32(1), "ax": i64(1)})


def test_triangle_in_front_of_a_maximum(tmp_path):
    x = -np.abs(whole(6, 6)) - 1
    nodes = [n("Trilu", "x", "t", upper=0), n("ReduceMax", "t ax", "y", keepdims=0)]
    check(tmp_path, nodes, {"x": x}, {"y": np.tril(x).max(1)}, {"ax": i64(1)})


# ------------------------------------------------------------------------------------- precision inside the fused body
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_edges_stay_rounded(tmp_path, dtype):
    """(x + big) - big is not x where each edge is rounded."""
    x = np.random.default_rng(1).uniform(-1, 1, (5, 33)).astype(dtype)
    big = dtype(100)
    nodes = [n("Add", "x big", "a"), n("Sub", "a big", "b"), n("Mul", "b x", "c"), n("Add", "c x", "d"), n("Sub", "d b", "y")]
    a = x + big
    b = a - big
    c = b * x
    d = c + x
    y = d - b
    assert (b != x).any()
    check(tmp_path, nodes, {"x": x}, {"y": y}, {"big": np.array(big)})


def test_casts_stay(tmp_path):
    """f32 through bf16 and back inside a chain."""
    x = np.random.default_rng(2).uniform(-1, 1, (4, 40)).astype(np.float32)
    nodes = [n("Add", "x x", "a"), n("Cast", "a", "h", to=TensorProto.BFLOAT16), n("Cast", "h", "b", to=TensorProto.FLOAT), n("Sub", "b a", "y")]
    a = x + x
    y = a.astype(ml_dtypes.bfloat16).astype(np.float32) - a
    assert (y != 0).any()
    check(tmp_path, nodes, {"x": x}, {"y": y})


# ------------------------------------------------------------------------------------- a buffer reused while it is still read
def test_written_over_while_read(tmp_path):
    """Each result reads its operand at two places; writing one over the operand destroys what the other still needs."""
    x = whole(9, 9)
    nodes = [n("Add", "x one", "a"), n("Transpose", "a", "t", perm=[1, 0]), n("Sub", "a t", "b"), n("Mul", "b two", "c"), n("Transpose", "c", "d", perm=[1, 0]),
             n("Add", "d c", "e"), n("Relu", "b", "f"), n("Sub", "e f", "y")]
    a = x + 1
    b = a - a.T
    c = 2 * b
    check(tmp_path, nodes, {"x": x}, {"y": c.T + c - np.maximum(b, 0)}, {"one": np.float32(1), "two": np.float32(2)})


def test_kept_and_read_later(tmp_path):
    """Values that are outputs of the model and are read again after more work on them."""
    x = whole(7, 12)
    nodes = [n("Add", "x one", "a"), n("ReduceSum", "a ax", "s", keepdims=1), n("Sub", "a s", "b"), n("Relu", "b", "c"), n("ReduceMax", "c ax", "m", keepdims=1),
             n("Add", "c m", "d"), n("Sub", "d a", "e"), n("Slice", "e s0 e0 ax", "f"), n("Pad", "f p", "g"), n("Add", "g b", "y")]
    a = x + 1
    b = a - a.sum(1, keepdims=True)
    c = np.maximum(b, 0)
    e = c + c.max(1, keepdims=True) - a
    y = np.pad(e[:, 1:], [(0, 0), (1, 0)]) + b
    check(tmp_path, nodes, {"x": x}, {"a": a, "c": c, "y": y}, {"one": np.float32(1), "ax": i64(1), "s0": i64(1), "e0": i64(12), "p": i64(0, 1, 0, 0)})


def test_shifted_by_one_over_itself(tmp_path):
    """y[i] = x[i - 1] + x[i]: in place from left to right it would be a running sum."""
    x = whole(3, 50)
    nodes = [n("Neg", "x", "a"), n("Pad", "a p", "b"), n("Slice", "b s e ax", "d"), n("Add", "d a", "f"), n("Pad", "f p", "g"), n("Slice", "g s e ax", "h"),
             n("Add", "h f", "y")]
    shift = lambda t: np.pad(t, [(0, 0), (1, 0)])[:, :50]
    a = -x
    f = shift(a) + a
    check(tmp_path, nodes, {"x": x}, {"y": shift(f) + f}, {"p": i64(0, 1, 0, 0), "s": i64(0), "e": i64(50), "ax": i64(1)})
