"""Element types of eight bits and fewer: every code and rounding against ml_dtypes and onnx.reference."""

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlc
import models

FLOATS = {"FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E4M3FNUZ": "float8_e4m3fnuz", "FLOAT8E5M2": "float8_e5m2",
          "FLOAT8E5M2FNUZ": "float8_e5m2fnuz", "FLOAT4E2M1": "float4_e2m1fn", "FLOAT6E2M3": "float6_e2m3fn",
          "FLOAT6E3M2": "float6_e3m2fn"}
INTS = {"INT4": "int4", "UINT4": "uint4", "INT2": "int2", "UINT2": "uint2"}
E8M0 = {"FLOAT8E8M0": "float8_e8m0fnu"}
ALL = {**FLOATS, **INTS, **E8M0}
BITS = {"FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6, "INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}


def numpy_type(name):
    return np.dtype(getattr(ml_dtypes, ALL[name])) if name in ALL else helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))


def cast(tmp_path, source, target, **attributes):
    """A Cast from x (of any length) to y."""
    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, target), **attributes)]
    graph = helper.make_graph(nodes, "g", [models.value("x", ["n"], getattr(TensorProto, source))],
                              [models.value("y", ["n"], getattr(TensorProto, target))])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)], ir_version=14), path)
    return str(path)


def casts(tmp_path, rows):
    """Casts side by side, since a compilation costs more than a node: [(source, target, attributes)], x0 to y0, x1 to y1 ..."""
    number = lambda name: getattr(TensorProto, name)
    nodes = [helper.make_node("Cast", [f"x{i}"], [f"y{i}"], to=number(t), **a) for i, (_, t, a) in enumerate(rows)]
    graph = helper.make_graph(nodes, "g", [models.value(f"x{i}", [f"n{i}"], number(s)) for i, (s, _, _) in enumerate(rows)],
                              [models.value(f"y{i}", [f"n{i}"], number(t)) for i, (_, t, _) in enumerate(rows)])
    path = tmp_path / "casts.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)], ir_version=14), path)
    return str(path)


def reference(path, feeds):
    return onnx.reference.ReferenceEvaluator(path).run(None, {f"x{i}": x for i, x in enumerate(feeds)})


def codes(array):
    return array.view(np.uint8)


def every_code(name):
    return np.arange(2 ** BITS.get(name, 8), dtype=np.uint8).view(numpy_type(name))


def samples(name, count=20000):
    """Numbers around every value of the type, halfway between neighbours, and anywhere."""
    if name in INTS:
        low, high = ml_dtypes.iinfo(numpy_type(name)).min, ml_dtypes.iinfo(numpy_type(name)).max
        return np.arange(low * 16, high * 16 + 1).astype(np.float32) / 16
    values = np.unique(every_code(name).astype(np.float64))
    values = values[np.isfinite(values)]
    middle = (values[1:] + values[:-1]) / 2
    around = np.concatenate([values, middle, 2 * values, [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 3e38, -3e38]])
    rng = np.random.default_rng(0)
    anywhere = rng.choice((-1, 1), count) * np.exp2(rng.uniform(-30, 20, count))
    x = np.concatenate([around, anywhere]).astype(np.float32)
    near = np.concatenate([np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    return np.concatenate([x, near]).astype(np.float32)


def same_codes(a, b):
    """Equal codes; NaN has several."""
    assert a.dtype == b.dtype and a.shape == b.shape
    if a.dtype.name in INTS.values():
        return np.array_equal(a.astype(np.int32), b.astype(np.int32))
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.all((a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("target", ["host", "interp"])
def test_every_code_is_decoded(tmp_path, target):
    feeds = [every_code(name) for name in ALL]
    got = dlc.compile(casts(tmp_path, [(name, "FLOAT", {}) for name in ALL]), target=target).run(feeds)
    for name, x, y in zip(ALL, feeds, got):
        assert np.array_equal(y, x.astype(np.float32), equal_nan=True), name


def test_every_code_survives_the_way_there_and_back(tmp_path):
    wide = {name: "FLOAT" if name in E8M0 else "FLOAT16" for name in ALL}
    feeds = [every_code(name) for name in ALL]
    there = dlc.compile(casts(tmp_path, [(name, wide[name], {}) for name in ALL])).run(feeds)
    back = dlc.compile(casts(tmp_path, [(wide[name], name, {"saturate": int(name in E8M0)}) for name in ALL])).run(there)
    for name, x, y in zip(ALL, feeds, back):
        assert same_codes(y, x), name


@pytest.mark.parametrize("target", ["host", "interp"])
def test_rounding_is_that_of_the_reference(tmp_path, target):
    rows = [("FLOAT", name, {"saturate": saturate}) for name in FLOATS for saturate in (0, 1)]
    path = casts(tmp_path, rows)
    feeds = [samples(name) for _, name, _ in rows]
    for row, y, expected in zip(rows, dlc.compile(path, target=target).run(feeds), reference(path, feeds)):
        assert same_codes(y, expected), row
        # the judge sees a difference of one code in one place
        wrong = y.copy()
        codes(wrong)[7] ^= 1
        assert not same_codes(wrong, expected)


@pytest.mark.parametrize("source", ["DOUBLE", "FLOAT16", "BFLOAT16", "INT64", "INT8", "UINT16", "BOOL"])
def test_other_sources(tmp_path, source):
    names = ["FLOAT8E4M3FN", "FLOAT8E5M2FNUZ", "FLOAT4E2M1", "INT4", "UINT2"]
    feeds = []
    for name in names:
        x = samples(name, 2000)
        if source == "DOUBLE":  # just beside the middle of two values, where rounding twice would go wrong
            x = np.concatenate([x, x[np.isfinite(x)] * (1 + 1e-12)]) if name in FLOATS else x
        elif source not in ("FLOAT16", "BFLOAT16"):
            x = np.arange(-120, 121) if source != "UINT16" else np.arange(0, 500)
        feeds.append(np.clip(x, -6e4, 6e4).astype(numpy_type(source)))
    path = casts(tmp_path, [(source, name, {}) for name in names])
    for name, y, expected in zip(names, dlc.compile(path).run(feeds), reference(path, feeds)):
        assert same_codes(y, expected), name


def test_integers_keep_their_low_bits(tmp_path):
    x = np.arange(-128, 128).astype(np.int32)
    got = dlc.compile(casts(tmp_path, [("INT32", name, {}) for name in INTS])).run([x] * len(INTS))
    for name, y in zip(INTS, got):
        assert same_codes(y, x.astype(numpy_type(name))), name


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two(tmp_path, mode):
    path = cast(tmp_path, "FLOAT", "FLOAT8E8M0", round_mode=mode)
    # The reference reads exponent fields, so that subnormal numbers come out elsewhere: normal ones here.
    x = np.exp2(np.random.default_rng(1).uniform(-125.9, 126.9, 20000)).astype(np.float32)
    x = np.concatenate([x, np.exp2(np.arange(-126, 128).astype(np.float32)), 1.5 * np.exp2(np.arange(-126, 127).astype(np.float32))])
    y, = dlc.compile(path).run([x])
    expected, = onnx.reference.ReferenceEvaluator(path).run(None, {"x": x})
    assert np.array_equal(codes(y), codes(expected))


@pytest.mark.parametrize("saturate, wanted", [(1, [0, 0, 254, 254, 255]), (0, [255, 255, 255, 255, 255])])
def test_powers_of_two_at_the_ends(tmp_path, saturate, wanted):
    """ONNX's table: 0 and what is below 2^-127, what is above 2^127, infinity, NaN."""
    path = cast(tmp_path, "FLOAT", "FLOAT8E8M0", saturate=saturate, round_mode="up")
    x = np.array([0, 2.0 ** -130, 1.5 * 2.0 ** 127, np.inf, np.nan], np.float32)
    assert codes(dlc.compile(path).run([x])[0]).tolist() == wanted


@pytest.mark.parametrize("name", ["FLOAT8E4M3FN", "FLOAT8E5M2FNUZ", "FLOAT4E2M1", "FLOAT6E3M2", *INTS])
def test_quantized_and_back(tmp_path, name):
    x = np.random.default_rng(3).normal(0, 3, 4000).astype(np.float32)
    number = getattr(TensorProto, name)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=number),
             helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    graph = helper.make_graph(nodes, "g", [models.value("x", ["n"])], [models.value("q", ["n"], number), models.value("y", ["n"])],
                              [numpy_helper.from_array(np.array(0.25, np.float32), "s")])
    path = str(tmp_path / "m.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)], ir_version=14), path)
    q, y = dlc.compile(path).run([x])
    expected, = onnx.reference.ReferenceEvaluator(path).run(["q"], {"x": x})
    assert same_codes(q, expected)
    assert np.array_equal(y, q.astype(np.float32) * np.float32(0.25))


@pytest.mark.parametrize("name", ["INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1", "FLOAT8E4M3FN"])
def test_packed_weights_and_bytes_at_the_boundary(tmp_path, name):
    """Weights are packed in the file, inputs and outputs a byte an element; shape operators move codes."""
    w = every_code(name)[: 2 ** min(BITS.get(name, 8), 4)].reshape(2, -1)
    nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("Identity", ["t"], ["y"]),
             helper.make_node("Reshape", ["x", "minus"], ["z"])]
    onnx_type = getattr(TensorProto, name)
    graph = helper.make_graph(nodes, "g", [models.value("x", [2, w.shape[1]], onnx_type)],
                              [models.value("y", w.T.shape, onnx_type), models.value("z", [w.size], onnx_type)],
                              [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array([-1]), "minus")])
    path = str(tmp_path / "m.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13), path)
    for target in ("host", "interp"):
        m = dlc.compile(path, target=target)
        assert m.inputs[0]["dtype"] == w.dtype and m.outputs[0]["dtype"] == w.dtype
        y, z = m.run([w])
        assert np.array_equal(codes(y), codes(np.ascontiguousarray(w.T))) and np.array_equal(codes(z), codes(w.reshape(-1)))


def test_a_narrow_type_elsewhere_is_refused_by_name(tmp_path):
    path = models.save(tmp_path / "m.onnx", [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT4, name="c"),
                                             helper.make_node("If", ["k"], ["y"], name="choose",
                                                              then_branch=branch("c"), else_branch=branch("c"))],
                       [models.value("x", [4]), models.value("k", [], TensorProto.BOOL)],
                       [models.value("y", [4], TensorProto.INT4)], opset=21)
    try:
        y, = dlc.compile(path).run([np.array([1, -2, 9, 0], np.float32), np.array(True)])
    except dlc.UnsupportedOpError as e:
        assert "choose" in str(e) and "i4" in str(e)
    else:
        assert y.astype(np.int32).tolist() == [1, -2, -7, 0]


def branch(name):
    node = helper.make_node("Identity", [name], ["b" + name])
    return helper.make_graph([node], "b", [], [models.value("b" + name, [4], TensorProto.INT4)])
