"""Quantised convolutional networks with their images of bytes relaid: bit by bit what they are with channels first."""

import json
import subprocess

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc
import models

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}


class Net:
    """A chain of QLinearConv and of what goes between, from float "x"; `kind` is the images' type."""

    def __init__(self, kind, zero, seed=0):
        self.rng, self.nodes, self.constants, self.kind = np.random.default_rng(seed), [], {}, kind
        self.scale, self.zero = self.constant(np.float32(0.05)), self.constant(kind(zero))
        self.last = self.node("QuantizeLinear", "x", self.scale, self.zero)

    def node(self, op, *inputs, **attributes):
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [self.last], name=f"n{len(self.nodes)}", **attributes))
        return self.last

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def conv(self, channels, outputs, kernel, source=None, group=1, weights=np.int8, **attributes):
        info = np.iinfo(weights)
        w = self.rng.integers(info.min, info.max, (outputs, channels // group, kernel, kernel), endpoint=True).astype(weights)
        zeros = np.zeros(outputs, weights) if weights == np.int8 else np.asarray(np.uint8(127))
        scales = self.rng.uniform(0.5, 1.5, outputs if weights == np.int8 else ()) / (60 * np.sqrt(channels // group) * kernel)
        bias = self.rng.integers(-2000, 2000, outputs).astype(np.int32)
        return self.node("QLinearConv", source or self.last, self.scale, self.zero, self.constant(w), self.constant(scales.astype(np.float32)),
                         self.constant(zeros), self.scale, self.zero, self.constant(bias), group=group, **attributes)

    def add(self, a, b):
        parts = [self.node("DequantizeLinear", t, self.scale, self.zero) for t in (a, b)]
        self.node("Relu", self.node("Add", *parts))
        return self.node("QuantizeLinear", self.last, self.scale, self.zero)


def residual(net):
    a = net.conv(3, 16, 7, pads=[3] * 4, strides=[2, 2])
    net.conv(16, 24, 3, pads=[1] * 4)
    net.add(a, net.conv(24, 16, 1))
    b = net.conv(16, 36, 3, pads=[1] * 4, strides=[2, 2])
    net.conv(36, 36, 3, pads=[2] * 4, dilations=[2, 2])
    net.add(net.last, b)
    net.conv(36, 20, 1, weights=np.uint8)


def branches(net):
    a = net.conv(3, 20, 3, pads=[1] * 4)
    b = net.conv(20, 16, 1, source=a)
    c = net.conv(20, 18, 3, source=a, pads=[1] * 4)
    net.node("Concat", b, c, axis=1)
    net.node("MaxPool", net.last, kernel_shape=[2, 2], strides=[2, 2])
    d = net.conv(34, 32, 3, pads=[1] * 4)  # 34 are no whole groups of four
    net.conv(32, 32, 3, source=d, pads=[1] * 4, group=32)
    net.conv(32, 64, 1, strides=[2, 2])
    net.conv(64, 40, 3, group=4, pads=[1] * 4)


NETS = {f.__name__: f for f in (residual, branches)}


def compile_model(tmp_path, name, kind, zero, shape, target="host", *flags):
    net = Net(kind, zero)
    NETS[name](net)
    # A library of its own for each: one path is loaded once.
    stem = tmp_path / f"m{len(list(tmp_path.glob('*.so')))}"
    model = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", shape)], [models.value(net.last, [None] * 4, TYPES[kind])], net.constants)
    library = f"{stem}.so"
    subprocess.run([dlc.compiler.tool("dlc"), model, "-o", library, "-emit=shared,report", "-q", f"-target={target}", *flags], check=True, timeout=300)
    with open(f"{stem}.json") as report:
        return dlc.load(library, threads=2), json.load(report)["layout"]


def has_dots():
    with open("/proc/cpuinfo") as info:
        flags = info.read().split()
    return "avx512_vnni" in flags and "amx_int8" not in flags


@pytest.mark.parametrize("target, kind, zero", [
    ("host", np.uint8, 0), ("host", np.uint8, 131), ("host", np.int8, -128), ("host", np.int8, 3),
    ("x86:cpu=x86-64-v3", np.uint8, 131), ("x86:cpu=x86-64-v2", np.int8, 3)])
@pytest.mark.parametrize("name", NETS)
def test_the_same_bytes(name, kind, zero, target, tmp_path):
    x = np.random.default_rng(8).normal(0, 2, (2, 3, 30, 22)).astype(np.float32)
    relaid, layout = compile_model(tmp_path, name, kind, zero, x.shape, target)
    if target == "host" and has_dots():
        assert layout["tensors"] > 4 and layout["refused"] == 0
    first, asis = compile_model(tmp_path, name, kind, zero, x.shape, target, "-layout=asis")
    assert asis["tensors"] == 0
    y, z = relaid.run([x])[0], first.run([x])[0]
    assert y.dtype == kind and np.array_equal(y, z)
    assert len(np.unique(y)) > 50  # nothing is lost in saturation
    exact = dlc.compile(tmp_path / "m.onnx", "interp").run([x])[0]  # sums of floats: a number between two may be rounded to either
    assert np.mean(y != exact) < 0.02


@pytest.mark.skipif(not has_dots(), reason="needs AVX512-VNNI, and no AMX")
def test_symbolic_sizes(tmp_path):
    model, layout = compile_model(tmp_path, "residual", np.uint8, 120, ["N", 3, "H", "W"])
    assert layout["tensors"] > 4 and layout["refused"] == 0
    first, _ = compile_model(tmp_path, "residual", np.uint8, 120, ["N", 3, "H", "W"], "host", "-layout=asis")
    for shape in [(1, 3, 17, 40), (3, 3, 8, 9), (2, 3, 32, 32)]:
        x = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
        assert np.array_equal(model.run([x])[0], first.run([x])[0]), shape


@pytest.mark.skipif(not has_dots(), reason="needs AVX512-VNNI, and no AMX")
def test_wrong_relayouts_are_refused(tmp_path):
    x = np.random.default_rng(8).normal(0, 2, (1, 3, 30, 22)).astype(np.float32)
    right, _ = compile_model(tmp_path, "residual", np.uint8, 120, x.shape)
    kept, layout = compile_model(tmp_path, "residual", np.uint8, 120, x.shape, "host", "-plant-fault=relaid-drop-last:add")
    assert layout["refused"] > 0
    assert np.array_equal(right.run([x])[0], kept.run([x])[0])
    other, _ = compile_model(tmp_path, "residual", np.uint8, 121, x.shape)
    assert not np.array_equal(right.run([x])[0], other.run([x])[0])
