"""Quantised products: one kernel each, with the factors as bytes, equal to the interpreter and to numpy bit by bit."""

import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlc
from dlc.compiler import tool

TARGETS = ["host", "x86:cpu=x86-64-v3", "x86:cpu=x86-64-v2"]
TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
value = helper.make_tensor_value_info


def bytes_of(kind, *shape, seed=0):
    info = np.iinfo(kind)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, endpoint=True).astype(kind)


def model(nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def kernels(proto, tmp_path):
    """Nests of the compiled kernels."""
    onnx.save(proto, tmp_path / "m.onnx")
    done = subprocess.run([tool("dlc"), tmp_path / "m.onnx", "-emit=report", "-o", "-", "-q"], capture_output=True, text=True, check=True)
    return [k["nest"] for k in json.loads(done.stdout)["kernels"]]


def matmul_integer(a_kind, b_kind, zeros, constant, m=9, k=37, n=40):
    """zeros: "" none, "s" a number, "v" one for each row or column."""
    feeds = {"a": bytes_of(a_kind, m, k), "b": bytes_of(b_kind, k, n, seed=1)}
    names = ["a", "b", "", ""]
    for i, (form, kind, size) in enumerate(zip(zeros, (a_kind, b_kind), (m, n))):
        if form != " ":
            names[2 + i] = "pq"[i]
            feeds["pq"[i]] = bytes_of(kind, *([size] if form == "v" else []), seed=2 + i)
    constants = {x: feeds.pop(x) for x in ("b", "q") if constant and x in feeds}
    everything = {**feeds, **constants}
    nodes = [helper.make_node("MatMulInteger", names, ["y"])]
    proto = model(nodes, [value(x, TYPES[v.dtype.type], v.shape) for x, v in feeds.items()], [value("y", TensorProto.INT32, [m, n])], constants)
    p = everything.get("p", np.zeros((), a_kind)).astype(np.int64)
    q = everything.get("q", np.zeros((), b_kind)).astype(np.int64)
    exact = (everything["a"].astype(np.int64) - (p[:, None] if p.ndim else p)) @ (everything["b"].astype(np.int64) - q)
    return proto, feeds, exact.astype(np.int32)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("zeros", ["  ", "s ", " v", "ss", "vs"])
def test_matmul_integer(zeros, constant):
    for i, target in enumerate(TARGETS):
        for a_kind, b_kind in [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)][i % 2::2 if i else 1]:
            proto, feeds, exact = matmul_integer(a_kind, b_kind, zeros, constant)
            assert np.array_equal(dlc.compile(proto, target)(**feeds), exact), (target, a_kind, b_kind)


def test_another_zero_point_is_another_product():
    proto, feeds, exact = matmul_integer(np.uint8, np.int8, "s ", True)
    assert not np.array_equal(dlc.compile(proto)(**{**feeds, "p": feeds["p"] ^ 1}), exact)


def test_zero_points_become_part_of_the_product(tmp_path):
    proto, _, _ = matmul_integer(np.uint8, np.int8, "ss", True)
    assert kernels(proto, tmp_path) == ["contraction"]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_qlinear_matmul(target, constant):
    rng = np.random.default_rng(5)
    feeds = {"a": bytes_of(np.uint8, 2, 20, 70), "b": bytes_of(np.int8, 70, 33, seed=1)}
    constants = {"as": np.float32(0.02), "az": np.uint8(131), "bs": rng.uniform(0.001, 0.01, 33).astype(np.float32),
                 "bz": bytes_of(np.int8, 33, seed=3) // 8, "ys": np.float32(0.07), "yz": np.uint8(120)}
    constants = {k: np.asarray(v) for k, v in constants.items()}
    if constant:
        constants["b"] = feeds.pop("b")
    nodes = [helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])]
    proto = model(nodes, [value(x, TYPES[v.dtype.type], v.shape) for x, v in feeds.items()], [value("y", TensorProto.UINT8, [2, 20, 33])], constants)
    assert np.array_equal(dlc.compile(proto, target)(**feeds), dlc.compile(proto, "interp")(**feeds))


@pytest.mark.parametrize("target", TARGETS)
def test_convolutions(target):
    x, w = bytes_of(np.uint8, 2, 6, 11, 13), bytes_of(np.int8, 16, 6, 3, 3, seed=1)
    integer = model([helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], pads=[1, 1, 1, 1], strides=[1, 2])],
                    [value("x", TensorProto.UINT8, x.shape)], [value("y", TensorProto.INT32, None)], {"w": w, "z": np.asarray(np.uint8(77))})
    linear = model([helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], pads=[0, 1, 1, 2])],
                   [value("x", TensorProto.UINT8, x.shape)], [value("y", TensorProto.UINT8, None)],
                   {"w": w, "xz": np.asarray(np.uint8(99)), "xs": np.asarray(np.float32(0.1)), "wz": np.zeros(16, np.int8),
                    "ws": np.linspace(0.01, 0.02, 16, dtype=np.float32), "ys": np.asarray(np.float32(3)), "yz": np.asarray(np.uint8(60)),
                    "b": np.arange(16, dtype=np.int32) * 100})
    for proto in (integer, linear):
        assert np.array_equal(dlc.compile(proto, target)(x=x), dlc.compile(proto, "interp")(x=x))


def test_dynamic_quantisation_of_activations():
    """Three products of one quantised input, as exporters write attention."""
    w = {f"w{i}": bytes_of(np.int8, 48, 32, seed=i) for i in range(3)}
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    nodes += [helper.make_node("MatMulInteger", ["q", f"w{i}", "z"], [f"y{i}"]) for i in range(3)]
    x = np.random.default_rng(1).normal(size=(17, 48)).astype(np.float32)
    proto = model(nodes, [value("x", TensorProto.FLOAT, x.shape)], [value(f"y{i}", TensorProto.INT32, [17, 32]) for i in range(3)], w)
    for got, wanted in zip(dlc.compile(proto).run({"x": x}), dlc.compile(proto, "interp").run({"x": x})):
        assert np.array_equal(got, wanted)


def weight_only(m, block, k=96, n=40, **attributes):
    """x times weights of eight bits, with a scale for each column (block 0) or each block of k."""
    scale = np.random.default_rng(9).uniform(0.01, 0.02, (k // block, n) if block else n).astype(np.float32)
    constants = {"w": bytes_of(np.int8, k, n), "s": scale}
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0 if block else 1, **({"block_size": block} if block else {})),
             helper.make_node("MatMul", ["x", "f"], ["y"])]
    return model(nodes, [value("x", TensorProto.FLOAT, [m, k])], [value("y", TensorProto.FLOAT, [m, n])], constants)


@pytest.mark.parametrize("m", [1, 3, 70])
@pytest.mark.parametrize("block", [0, 16])
def test_weights_of_eight_bits(m, block, tmp_path):
    proto = weight_only(m, block)
    x = np.random.default_rng(m).normal(size=(m, 96)).astype(np.float32)
    wanted = dlc.compile(proto, "interp")(x=x)
    for target in TARGETS:
        got = dlc.compile(proto, target)(x=x)
        assert np.allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()), target
    assert kernels(proto, tmp_path) == ["contraction"]


def blocks_of_four_bits(m, zeros, static=True, k=256, n=584, block=32):
    """MatMulNBits: numbers of four bits less 8 or zero points, a scale for each block of k; too many to be computed by the compiler."""
    rng = np.random.default_rng(11)
    constants = {"q": rng.integers(0, 256, (n, k // block, block // 2), np.uint8), "s": rng.uniform(0.01, 0.02, n * k // block).astype(np.float32)}
    if zeros:
        constants["z"] = rng.integers(0, 256, n * k // block // 2, np.uint8)
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", K=k, N=n, bits=4, block_size=block)
    rows = m if static else "rows"
    proto = model([node], [value("x", TensorProto.FLOAT, [rows, k])], [value("y", TensorProto.FLOAT, [rows, n])], constants)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto, rng.normal(size=(m, k)).astype(np.float32)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("m", [1, 3, 9])
def test_scales_of_blocks_multiply_sums(m, zeros):
    """Under a law that strict numerics do not have, where every bit is the interpreter's."""
    proto, x = blocks_of_four_bits(m, zeros)
    wanted = dlc.compile(proto, "interp")(x=x)
    for target in TARGETS:
        compiled = dlc.compile(proto, target)
        assert "distribute(add)" in compiled.info["laws"]
        assert np.allclose(compiled(x=x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()), target
    strict = dlc.compile(proto, fp="strict")
    assert "distribute" not in strict.info["laws"]
    assert np.array_equal(strict(x=x), wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_scales_of_blocks_and_any_number_of_rows(target):
    """Few rows and many are variants of one kernel."""
    proto, _ = blocks_of_four_bits(1, False, static=False)
    compiled, oracle = dlc.compile(proto, target), dlc.compile(proto, "interp")
    for m in (1, 2, 3, 4, 5, 11, 40):
        x = np.random.default_rng(m).normal(size=(m, 256)).astype(np.float32)
        wanted = oracle(x=x)
        assert np.allclose(compiled(x=x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()), m


@pytest.mark.parametrize("target", TARGETS)
def test_a_factor_that_is_quantised_as_it_is_read(target):
    """Few rows are computed while they are filled: the left factor lies nowhere as bytes."""
    constants = {"w": bytes_of(np.int8, 64, 48), "s": np.float32(0.01), "low": np.float32(0), "high": np.float32(255)}
    nodes = [helper.make_node("Div", ["x", "s"], ["d"]), helper.make_node("Round", ["d"], ["r"]),
             helper.make_node("Clip", ["r", "low", "high"], ["c"]), helper.make_node("Cast", ["c"], ["q"], to=TensorProto.UINT8),
             helper.make_node("MatMulInteger", ["q", "w"], ["y"])]
    proto = model(nodes, [value("x", TensorProto.FLOAT, [8, 64])], [value("y", TensorProto.INT32, [8, 48])], constants)
    x = np.random.default_rng(5).standard_normal((8, 64)).astype(np.float32)
    q = np.clip(np.rint(x / constants["s"]), 0, 255).astype(np.int64)
    assert np.array_equal(dlc.compile(proto, target)(x=x), (q @ constants["w"].astype(np.int64)).astype(np.int32))


def dequantized(operator, x, w, axis, x_zero, attributes=None):
    """operator(DequantizeLinear(x), DequantizeLinear(w)), scales of w along `axis`: powers of two, by which nothing is rounded."""
    scale = (2.0 ** -np.arange(1, 1 + w.shape[axis]).clip(0, 5)).astype(np.float32)
    constants = {"w": w, "s": np.float32(0.25), "p": np.array(x_zero, x.dtype), "t": scale, "q": np.zeros_like(scale, w.dtype)}
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", "p"], ["xd"]), helper.make_node("DequantizeLinear", ["w", "t", "q"], ["wd"], axis=axis),
             helper.make_node(operator, ["xd", "wd"], ["y"], **(attributes or {}))]
    return model(nodes, [value("x", TYPES[x.dtype.type], x.shape)], [value("y", TensorProto.FLOAT, None)], constants), scale * np.float32(0.25)


@pytest.mark.parametrize("target", TARGETS)
def test_a_product_of_dequantized_bytes_is_exact(target):
    """As a sum in f32 it is not: 2000 products of bytes need more than 24 bits."""
    x, w = bytes_of(np.uint8, 5, 2000), bytes_of(np.int8, 2000, 24, seed=1)
    x, w = np.maximum(x, 128), np.abs(w.clip(-127))
    proto, scale = dequantized("MatMul", x, w, 1, 3)
    sums = (x.astype(np.int64) - 3) @ w.astype(np.int64)
    assert sums.max() > 1 << 24
    exact = sums.astype(np.float32) * scale
    assert np.array_equal(dlc.compile(proto, target)(x=x), exact)
    in_order = np.zeros((5, 24), np.float32)
    for k in range(2000):
        in_order += (x[:, k, None].astype(np.float32) - 3) * w[k].astype(np.float32)
    assert not np.array_equal(in_order * scale, exact)
    assert np.array_equal(dlc.compile(proto, target, fp="strict")(x=x), in_order * scale)


@pytest.mark.parametrize("target", TARGETS)
def test_a_convolution_of_dequantized_bytes_is_exact(target):
    """Padding is the zero point, which is nothing."""
    for x_kind, group in (np.uint8, 1), (np.int8, 1), (np.uint8, 2):
        x, w = bytes_of(x_kind, 1, 64, 7, 7), np.abs(bytes_of(np.int8, 32, 64 // group, 3, 3, seed=1).clip(-127))
        proto, scale = dequantized("Conv", x, w, 0, 5, {"pads": [1, 1, 1, 1], "group": group})
        wide = np.pad(x.astype(np.int64) - 5, ((0, 0), (0, 0), (1, 1), (1, 1)))
        sums = np.zeros((1, 32, 7, 7), np.int64)
        for g in range(group):
            part, kernel = wide[:, g * 64 // group:(g + 1) * 64 // group], w[g * 32 // group:(g + 1) * 32 // group].astype(np.int64)
            for i in range(3):
                for j in range(3):
                    sums[:, g * 32 // group:(g + 1) * 32 // group] += np.einsum("nchw,oc->nohw", part[:, :, i:i + 7, j:j + 7], kernel[:, :, i, j])
        assert np.array_equal(dlc.compile(proto, target)(x=x), sums.astype(np.float32) * scale[:, None, None]), (x_kind, group)
