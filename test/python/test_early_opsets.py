"""Operators that meant something else in earlier opsets, where onnx's version converter leaves their meaning out."""

import numpy as np
import onnx
import pytest

import dlc


def parse(opset, text, **constants):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


def upsample_linear(x, scale):
    """The last axis, by coordinates that are divided by the scale."""
    places = np.arange(int(x.shape[-1] * scale)) / scale
    left = np.floor(places).astype(int)
    right, t = np.minimum(left + 1, x.shape[-1] - 1), (places - left).astype(np.float32)
    return x[..., left] * (1 - t) + x[..., right] * t


@pytest.mark.parametrize("text, opset, constants", [
    ('{ y = Resize <mode = "linear"> (x, scales) }', 10, ["scales"]),
    ('{ y = Upsample <mode = "linear"> (x, scales) }', 9, ["scales"]),
    ('{ y = Upsample <mode = "linear", scales = [1.0, 2.5]> (x) }', 7, []),
    ("""<bool yes = {1}> { c = Identity(yes)  y = If (c) <then_branch = a () => (float[n, m] p) { p = Resize <mode = "linear"> (x, scales) },
                                                        else_branch = b () => (float[n, m] q) { q = Resize <mode = "nearest"> (x, scales) }> }""", 10, ["scales"]),
])
@pytest.mark.parametrize("dim", ["4", "M"])
def test_images_grow_from_their_first_pixel(text, opset, constants, dim):
    scales = np.array([1, 2.5], np.float32)
    model = parse(opset, f"(float[3, {dim}] x) => (float[3, K] y) {text}", **({"scales": scales} if constants else {}))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    y, = dlc.compile(model).run([x])
    assert np.allclose(y, upsample_linear(x, 2.5), atol=1e-6)


@pytest.mark.parametrize("dim", ["20", "M"])
@pytest.mark.parametrize("scale", [0.4, 0.6, 1, 2, 2.5])
def test_the_nearest_pixel_of_opset_10(scale, dim):
    """The one before the place in images that grow, else the one behind it (onnx's tests of that opset, and onnxruntime)."""
    model = parse(10, f'(float[1, {dim}] x) => (float[1, K] y) {{ y = Resize <mode = "nearest"> (x, scales) }}', scales=np.array([1, scale], np.float32))
    x = np.arange(20, dtype=np.float32)[None]
    y, = dlc.compile(model).run([x])
    places = np.arange(int(20 * np.float32(scale))) / np.float64(np.float32(scale))
    assert np.array_equal(y[0], np.minimum(np.ceil(places) if scale < 1 else np.floor(places), 19))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_hardmax_took_all_axes_behind_one(axis):
    given = "" if axis is None else f"<axis = {axis}> "
    model = parse(11, f"(float[N, 3, 4] x) => (float[N, 3, 4] y) {{ y = Hardmax {given}(x) }}")
    x = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    y, = dlc.compile(model).run([x])
    flat = x.reshape(int(np.prod(x.shape[:1 if axis is None else axis])), -1)
    assert np.array_equal(y, (flat == flat.max(1, keepdims=True)).astype(np.float32).reshape(x.shape))


@pytest.mark.parametrize("opset", [18, 20, 21])
def test_group_normalization_had_a_factor_a_group(opset):
    rng = np.random.default_rng(2)
    x, (scale, bias) = rng.normal(2, 3, (2, 8, 5)).astype(np.float32), rng.normal(size=(2, 4 if opset < 21 else 8)).astype(np.float32)
    model = parse(opset, "(float[N, 8, L] x) => (float[N, 8, L] y) { y = GroupNormalization <num_groups = 4, epsilon = 0.01> (x, scale, bias) }",
                  scale=scale, bias=bias)
    y, = dlc.compile(model).run([x])
    groups = x.reshape(2, 4, -1).astype(np.float64)
    normed = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 0.01)
    of = lambda values: np.repeat(values, 8 // len(values))[:, None]
    assert np.allclose(y, normed.reshape(x.shape) * of(scale) + of(bias), atol=1e-5)
    with pytest.raises(dlc.RejectedError, match="GroupNormalization|num_groups"):
        dlc.compile(parse(18, "(float[N, 8, L] x) => (float[N, 8, L] y) { y = GroupNormalization (x, scale, bias) }", scale=scale, bias=bias))


@pytest.mark.parametrize("dim", ["20", "M"])
def test_half_pixels_of_opset_11(dim):
    model = parse(11, f"""(float[1, {dim}] x) => (float[1, K] y)
        {{ y = Resize <mode = "nearest", coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor"> (x, roi, scales) }}""",
                  roi=np.zeros(0, np.float32), scales=np.array([1, 0.4], np.float32))
    x = np.arange(20, dtype=np.float32)[None]
    y, = dlc.compile(model).run([x])
    assert np.array_equal(y[0], np.floor((np.arange(8) + 0.5) / 0.4))


@pytest.mark.parametrize("op, reference", [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)])
@pytest.mark.parametrize("axis", [0, 1, 2, -2, None])
def test_operands_lay_beside_dims_in_the_middle(op, reference, axis):
    """Before opset 7: `axis` is where the second operand's dims begin among the first's; also of what the graph computes."""
    shape = [3, 4, 5]
    width = 2 if axis in (0, 1, -2) else 1
    first = 3 - width if axis is None else axis % 3
    given = "" if axis is None else f", axis = {axis}"
    second = shape[first:first + width]
    model = parse(6, f"(float[3, 4, 5] x) => (float[3, 4, 5] y) {{ a = Relu(x) y = {op} <broadcast = 1{given}> (a, c) }}",
                  c=np.random.default_rng(1).uniform(1, 2, size=second).astype(np.float32))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    c = onnx.numpy_helper.to_array(model.graph.initializer[0]).reshape(second + [1] * (3 - first - width))
    np.testing.assert_allclose(dlc.compile(model).run([x])[0], reference(np.maximum(x, 0), c), rtol=1e-6)
