"""Images that grow: repeated elements and chains of transposed convolutions, beside the interpreter."""

import json
import subprocess

import numpy as np
import onnx
import pytest

import dlc
import models
from test_layout import Net, check

CPUS = ["host", "x86:cpu=x86-64-v3", "x86:cpu=x86-64-v2"]


def build(tmp_path, net, shape, *flags):
    """Writes and compiles the net; returns (model, library, graph, report)."""
    model = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", shape)], [models.value(net.last, [None] * 4)], net.constants)
    for out, kinds in ("m.so", "shared,report"), ("m.mlir", "graph"):
        subprocess.run([dlc.compiler.tool("dlc"), model, "-o", str(tmp_path / out), "-emit=" + kinds, "-q", *flags], check=True, timeout=300)
    return model, str(tmp_path / "m.so"), (tmp_path / "m.mlir").read_text(), json.loads((tmp_path / "m.json").read_text())


def repeat(net, source, scales, **attributes):
    return net.node("Resize", source, "", net.constant(np.array([1, 1, *scales], np.float32)), mode="nearest", **attributes)


@pytest.mark.parametrize("attributes", [{}, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                                        {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}])
@pytest.mark.parametrize("scales", [(2, 2), (3, 1), (4, 8), (1, 5)])
def test_whole_factors_are_index_maps(scales, attributes, tmp_path):
    """Nothing is gathered, and what reads the larger image does so in one kernel with it."""
    net = Net(1)
    net.conv(3, 20, 3, 3, pads=[1, 1, 1, 1])
    a = repeat(net, net.last, scales, **attributes)
    net.node("Sigmoid", a)
    b = net.last
    net.node("Concat", a, b, axis=1)
    net.conv(40, 16, 1, 1)
    shape = (1, 3, 7, 9)
    model, library, graph, report = build(tmp_path, net, shape)
    assert "graph.gather" not in graph
    assert not any(k["name"].startswith(("gather", "broadcast")) for k in report["kernels"])
    check(tmp_path, model, library, shape)


@pytest.mark.parametrize("scales", [(2.5, 1.5), (0.5, 0.5), (1.2, 2)])
def test_other_factors(scales, tmp_path):
    net = Net(2)
    net.conv(3, 16, 3, 3)
    repeat(net, net.last, scales)
    shape = (1, 3, 12, 14)
    model, library, graph, _ = build(tmp_path, net, shape)
    assert "graph.gather" in graph
    check(tmp_path, model, library, shape)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("stride,size", [(2, (16, 16)), (2, (5, 13)), (4, (4, 8)), (4, (3, 7)), (3, (5, 6))])
def test_chain_of_transposed_convolutions(stride, size, cpu, tmp_path):
    """The second one reads the phases of the first one in turns, several at a time."""
    net = Net(3)
    net.conv(3, 18, 3, 3, pads=[1, 1, 1, 1])
    for channels, outputs in (18, 12), (12, 3):
        w = net.rng.normal(0, 0.3, (channels, outputs, stride, stride)).astype(np.float32)
        net.node("ConvTranspose", net.last, net.constant(w), strides=[stride, stride])
        net.node("Relu", net.last)
    shape = (2, 3, *size)
    model, library, _, _ = build(tmp_path, net, shape, f"-target={cpu}")
    check(tmp_path, model, library, shape)


def test_phases_are_not_gathered(tmp_path):
    net = Net(4)
    for channels, outputs in (24, 24), (24, 1):
        w = net.rng.normal(0, 0.3, (channels, outputs, 2, 2)).astype(np.float32)
        net.node("ConvTranspose", net.last, net.constant(w), strides=[2, 2])
        net.node("Relu", net.last)
    model = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", (1, 24, 32, 32))], [models.value(net.last, [None] * 4)], net.constants)
    subprocess.run([dlc.compiler.tool("dlc"), model, "-o", str(tmp_path / "m.s"), "-target=x86:cpu=x86-64-v4", "-q"], check=True, timeout=300)
    assert "gather" not in (tmp_path / "m.s").read_text()


TRANSFORMS = ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", "tf_crop_and_resize"]


def resize(tmp_path, mode, operand, dims, **attributes):
    """x (N x M) to a result whose sizes are of the model's own arithmetic, or by scales."""
    constants = {"roi": np.array([0.1, 0.2, 0.7, 1.2], np.float32), "scales": np.array([1.5, 0.75], np.float32)}
    nodes = [onnx.helper.make_node("Shape", ["like"], ["sizes"]),
             onnx.helper.make_node("Resize", ["x", "roi", *({"sizes": ["", "sizes"], "scales": ["scales"]}[operand])], ["y"], mode=mode, **attributes)]
    inputs = [models.value("x", dims), models.value("like", ["P", "Q"])]
    return models.save(tmp_path / "m.onnx", nodes, inputs, [models.value("y", [None, None])], constants)


@pytest.mark.parametrize("mode, attributes, transforms", [
    ("nearest", {"nearest_mode": "round_prefer_ceil"}, TRANSFORMS), ("nearest", {"nearest_mode": "ceil"}, TRANSFORMS[3:5]), ("linear", {}, TRANSFORMS),
    ("cubic", {"cubic_coeff_a": -0.5}, TRANSFORMS[:1]), ("linear", {"exclude_outside": 1}, TRANSFORMS[:1]), ("cubic", {"exclude_outside": 1}, TRANSFORMS[3:4])])
def test_symbolic_sizes_are_resized_as_known_ones(mode, attributes, transforms, tmp_path):
    """One compilation for all sizes, beside one for each; the second dim of the operand is also known alone."""
    rng = np.random.default_rng(7)
    for transform in transforms:
        for operand, dims in ("sizes", ["N", 6]), ("scales", ["N", "M"]), ("sizes", ["N", 1]):
            path = resize(tmp_path, mode, operand, dims, coordinate_transformation_mode=transform, extrapolation_value=3.0, **attributes)
            symbolic = dlc.compile(path)
            for n, m, p, q in [(4, 7, 7, 20), (9, 5, 1, 3)]:
                m = dims[1] if isinstance(dims[1], int) else m
                x, like = rng.normal(size=(n, m)).astype(np.float32), np.zeros((p, q), np.float32)
                known = dlc.compile(path, target="interp", shapes={"x": [n, m], "like": [p, q]})
                (actual,), (expected,) = symbolic.run([x, like]), known.run([x, like])
                assert actual.shape == expected.shape, (transform, operand, n, m, p, q)
                assert np.allclose(actual, expected, rtol=1e-5, atol=1e-6), (transform, operand, n, m, p, q)


def test_what_shrinks_by_an_unknown_factor_is_not_antialiased(tmp_path):
    path = resize(tmp_path, "linear", "sizes", ["N", "M"], antialias=1)
    with pytest.raises(dlc.UnsupportedOpError, match="antialiasing a symbolic dim that may shrink"):
        dlc.compile(path)


def transpose_convolve(x, w, strides, pads, extra):
    """Every product is added where it belongs; what the pads cut off is dropped."""
    size = [(n - 1) * s + k + e for n, s, k, e in zip(x.shape[2:], strides, w.shape[2:], extra)]
    y = np.zeros((len(x), w.shape[1], *size))
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            part = np.einsum("nc,ckuv->nkuv", x[:, :, i, j].astype(np.float64), w)
            y[:, :, i * strides[0]:i * strides[0] + w.shape[2], j * strides[1]:j * strides[1] + w.shape[3]] += part
    return y[:, :, pads[0]:size[0] - pads[2], pads[1]:size[1] - pads[3]]


@pytest.mark.parametrize("flags", [{}, {"fuse": "off"}, {"target": CPUS[1]}])
@pytest.mark.parametrize("kernel, strides, pads, extra", [((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), ((4, 4), (2, 2), (1, 1, 1, 1), (0, 0)),
                                                          ((3, 5), (3, 2), (0, 2, 1, 0), (0, 1)), ((2, 3), (4, 1), (0, 0, 0, 1), (1, 0))])
def test_transposed_convolutions_of_symbolic_sizes(kernel, strides, pads, extra, flags, tmp_path):
    """Of products with taps, none with the zeros between pixels; also where the result is cut out of a longer one."""
    net = Net(5)
    w = net.rng.normal(0, 0.3, (6, 5, *kernel)).astype(np.float32)
    net.node("ConvTranspose", "x", net.constant(w), strides=strides, pads=pads, output_padding=extra)
    path = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", ["N", 6, "H", "W"])], [models.value(net.last, [None] * 4)], net.constants)
    graph = subprocess.run([dlc.compiler.tool("dlc"), path, "-emit=graph", "-o", "-", "-q"], capture_output=True, text=True, check=True).stdout
    assert "graph.conv " in graph and "graph.conv_transpose" not in graph
    model = dlc.compile(path, **flags)
    for shape in (1, 6, 5, 7), (2, 6, 1, 1), (1, 6, 33, 18):
        x = net.rng.normal(size=shape).astype(np.float32)
        y, expected = model.run([x])[0], transpose_convolve(x, w, strides, pads, extra)
        assert y.shape == expected.shape and np.allclose(y, expected, rtol=1e-4, atol=1e-4), shape
