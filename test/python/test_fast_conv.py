"""-fp=fast-conv: 3x3 convolutions by Winograd's filtering, beside the interpreter; no other mode uses it."""

import json
import subprocess

import numpy as np

import dlc
import models
from test_layout import Net


def network():
    """Convolutions that Winograd's filtering is for, a residual, and some that it is not for."""
    net = Net(5)
    net.conv(3, 32, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2])
    a = net.conv(32, 64, 3, 3, pads=[1, 1, 1, 1])
    net.conv(64, 64, 3, 3, pads=[1, 1, 1, 1])
    b = net.conv(64, 64, 3, 3, pads=[1, 1, 1, 1], relu=False)
    net.node("Add", a, b)
    net.node("Relu", net.last)
    net.conv(64, 40, 1, 1)
    net.conv(40, 72, 3, 3)
    net.conv(72, 16, 3, 3, pads=[2, 2, 2, 2], dilations=[2, 2])
    net.conv(16, 8, 1, 1, relu=False)
    return net


def save(folder, shape):
    net = network()
    return models.save(folder / "m.onnx", net.nodes, [models.value("x", shape)], [models.value(net.last, [None] * len(shape))], net.constants)


def test_winograd_in_fast_conv_alone(tmp_path):
    shape = [1, 3, 61, 53]
    path, results = save(tmp_path, shape), {}
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for mode in ("reassoc", "fast-conv"):
        library = str(tmp_path / (mode + ".so"))
        subprocess.run([dlc.compiler.tool("dlc"), path, "-q", f"-fp={mode}", "-emit=shared,report", "-o", library], check=True, timeout=300)
        report = json.loads((tmp_path / (mode + ".json")).read_text())
        model = dlc.load(library)
        results[mode] = model.run([x])[0]
        kernels = [k for k in report["kernels"] if k["nest"] == "winograd"]
        assert model.info["fp"] == mode
        assert bool(kernels) == (mode == "fast-conv") == ("distribute(winograd)" in model.info["laws"])
        for kernel in kernels:
            assert 100 < kernel["error_factor"] < 1e6
    distance = np.abs(results["fast-conv"] - results["reassoc"]).max() / np.abs(results["reassoc"]).max()
    assert 0 < distance < 1e-4


def test_images_of_the_caller_are_copied_for_filtering(tmp_path):
    net = Net(7)
    net.conv(64, 64, 3, 3, pads=[1, 1, 1, 1])
    path = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", [1, 64, 28, 28])], [models.value(net.last, [None] * 4)], net.constants)
    for mode, nests in (("fast-conv", ["map", "winograd", "map"]), ("reassoc", ["contraction", "map"])):
        report = tmp_path / "m.json"
        subprocess.run([dlc.compiler.tool("dlc"), path, "-q", "-target=x86:cpu=x86-64-v4", f"-fp={mode}", "-emit=report", "-o", str(report)], check=True, timeout=300)
        assert sorted(k["nest"] for k in json.loads(report.read_text())["kernels"]) == sorted(nests)


def test_results_take_the_place_of_residuals(tmp_path):
    net, shape = Net(7), [1, 32, 20, 20]
    skip = net.last
    for _ in range(3):
        net.conv(32, 32, 3, 3, pads=[1, 1, 1, 1])
        sums = net.conv(32, 32, 3, 3, pads=[1, 1, 1, 1], relu=False)
        net.node("Add", sums, skip)
        skip = net.node("Relu", net.last)
    path = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", shape)], [models.value(net.last, shape)], net.constants)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    fast, plain = dlc.compile(path, fp="fast-conv"), dlc.compile(path)
    assert sum(kernel["nest"] == "winograd" for kernel in fast.report["kernels"]) >= 2
    assert fast.report["arena_bytes"] == 2 * x.nbytes  # three without
    assert np.abs(fast(x) - plain(x)).max() <= 1e-4 * np.abs(plain(x)).max()


def test_verify(tmp_path):
    path = save(tmp_path, [2, 3, 30, 31])
    subprocess.run([dlc.compiler.tool("dlc"), path, "-q", "-fp=fast-conv", "-verify", "-o", str(tmp_path / "v.so")], check=True, timeout=300)


def test_modes_are_named():
    done = subprocess.run([dlc.compiler.tool("dlc"), "-", "-fp=fast"], input="", capture_output=True, text=True)
    assert done.returncode == 2 and "fast-conv" in done.stderr
