"""Small convolutional networks with their intermediate tensors relaid (-layout=auto), beside the interpreter."""

import json
import subprocess

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc
import models


class Net:
    """A chain of nodes from "x"; `last` is the newest tensor. Weights are normal, from `seed`."""

    def __init__(self, seed=0):
        self.rng, self.nodes, self.constants, self.last = np.random.default_rng(seed), [], {}, "x"

    def node(self, op, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        self.last = name
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def conv(self, channels, outputs, *kernel, source=None, relu=True, group=1, **attributes):
        scale = 1 / np.sqrt(channels // group * np.prod(kernel))
        w = self.rng.normal(0, scale, (outputs, channels // group, *kernel)).astype(np.float32)
        b = self.rng.normal(0, 1, outputs).astype(np.float32)
        self.node("Conv", source or self.last, self.constant(w), self.constant(b), group=group, **attributes)
        return self.node("Relu", self.last) if relu else self.last


def residual():
    net = Net(1)
    a = net.conv(3, 20, 3, 3, pads=[1, 1, 1, 1])
    net.conv(20, 28, 1, 1)
    net.conv(28, 28, 3, 3, pads=[1, 1, 1, 1])
    b = net.conv(28, 20, 1, 1, relu=False)
    net.node("Add", a, b)
    net.node("Relu", net.last)
    net.conv(20, 7, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2])
    net.node("GlobalAveragePool", net.last)
    return net


def mobile():
    net = Net(2)
    net.conv(3, 16, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2])
    net.conv(16, 16, 3, 3, pads=[1, 1, 1, 1], group=16)
    net.conv(16, 40, 1, 1)
    net.conv(40, 40, 5, 5, pads=[2, 2, 2, 2], group=40, strides=[2, 2])
    squeeze = net.last
    net.node("GlobalAveragePool", squeeze)
    net.conv(40, 8, 1, 1)
    net.conv(8, 40, 1, 1, relu=False)
    net.node("Sigmoid", net.last)
    net.node("Mul", squeeze, net.last)
    net.conv(40, 24, 1, 1)
    net.conv(24, 24, 3, 3, group=24)
    return net


def grouped():
    net = Net(3)
    net.conv(3, 24, 3, 3)
    net.conv(24, 36, 3, 3, group=4, pads=[1, 0, 2, 1])
    net.conv(36, 30, 3, 3, group=3, dilations=[2, 1], pads=[2, 1, 2, 1])
    net.conv(30, 10, 2, 3, strides=[1, 2])
    return net


def small_groups():
    """Groups that are parts of a vector: several stand in one."""
    net = Net(11)
    net.conv(3, 48, 3, 3)
    net.conv(48, 48, 3, 3, group=24, pads=[1, 1, 1, 1])
    net.conv(48, 48, 3, 3, group=12, pads=[1, 0, 2, 1], strides=[2, 2])
    net.conv(48, 48, 3, 1, group=6, dilations=[2, 1], pads=[2, 1, 2, 1])
    net.conv(48, 10, 1, 1)
    return net


def mirrored():
    """Pixels repeated, then mirrored at the edges."""
    net = Net(12)
    net.conv(3, 20, 3, 3)
    net.node("Resize", net.last, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    net.node("Pad", net.last, net.constant(np.array([0, 0, 1, 2, 0, 0, 2, 1])), mode="reflect")
    net.conv(20, 32, 3, 3)
    net.conv(32, 10, 1, 1)
    return net


def branches():
    net = Net(4)
    a = net.conv(3, 18, 3, 3, pads=[1, 1, 1, 1])
    b = net.conv(18, 9, 1, 1, source=a)
    c = net.conv(18, 33, 3, 3, source=a, pads=[1, 1, 1, 1])
    d = net.node("MaxPool", a, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    net.node("Concat", b, c, d, axis=1)
    net.conv(60, 16, 1, 1)
    net.node("AveragePool", net.last, kernel_shape=[2, 2], strides=[2, 2])
    net.node("Resize", net.last, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    net.conv(16, 8, 3, 3, pads=[1, 1, 1, 1])
    net.node("Flatten", net.last)
    return net


def line():
    net = Net(5)
    net.conv(3, 17, 5, pads=[2, 2])
    net.conv(17, 32, 3, strides=[2], dilations=[2])
    net.conv(32, 32, 3, group=32, pads=[1, 1])
    net.conv(32, 5, 1)
    return net


def volume():
    net = Net(6)
    net.conv(3, 20, 3, 3, 3, pads=[1] * 6)
    net.conv(20, 17, 3, 3, 3, pads=[1] * 6, strides=[2, 1, 2])
    net.node("MaxPool", net.last, kernel_shape=[2, 2, 2])
    net.conv(17, 4, 1, 1, 1)
    return net


def transposed():
    net = Net(7)
    net.conv(3, 16, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2])
    net.conv(16, 24, 3, 3, pads=[1, 1, 1, 1])
    net.conv(24, 16, 3, 3, pads=[1, 1, 1, 1])
    w = net.rng.normal(0, 0.2, (16, 20, 2, 2)).astype(np.float32)
    net.node("ConvTranspose", net.last, net.constant(w), strides=[2, 2])
    net.conv(20, 20, 3, 3, pads=[1, 1, 1, 1])
    net.conv(20, 10, 1, 1)
    net.node("Softmax", net.last, axis=1)
    return net


NETS = {f.__name__: (f, shape) for f, shape in [
    (residual, (1, 3, 15, 13)), (mobile, (2, 3, 21, 19)), (grouped, (2, 3, 14, 17)), (small_groups, (2, 3, 16, 13)), (mirrored, (1, 3, 12, 11)), (branches, (1, 3, 12, 10)),
    (line, (3, 3, 40)), (volume, (1, 3, 6, 7, 8)), (transposed, (1, 3, 12, 9))]}


# Element types of 16 bits: onnx's number, what numpy computes with, the tolerance (sums in another order round otherwise, layer by layer).
HALVES = {"f16": (TensorProto.FLOAT16, np.float16, 5e-3), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 4e-2)}


def compile_model(tmp_path, net, shape, *flags, half=None):
    """Writes the model, compiles it; returns (model, library, what the report says of layouts)."""
    rank = 2 if net.nodes[-1].op_type == "Flatten" else len(shape)
    kind = TensorProto.FLOAT
    if half:
        kind, element, _ = HALVES[half]
        for weight in {name for node in net.nodes if node.op_type.startswith("Conv") for name in node.input[1:]}:
            net.constants[weight] = net.constants[weight].astype(element)
    model = models.save(tmp_path / "m.onnx", net.nodes, [models.value("x", shape, kind)], [models.value(net.last, [None] * rank, kind)], net.constants)
    library = str(tmp_path / "m.so")
    subprocess.run([dlc.compiler.tool("dlc"), model, "-o", library, "-emit=shared,report", "-q", *flags], check=True, timeout=300)
    with open(tmp_path / "m.json") as report:
        return model, library, json.load(report)["layout"]


def check(tmp_path, model, library, shape, half=None):
    """The artifact on random inputs of `shape` beside the interpreter."""
    x = np.random.default_rng(8).standard_normal(shape).astype(HALVES[half][1] if half else np.float32)
    np.save(tmp_path / "x.npy", x.view(np.uint16) if half == "bf16" else x)
    tolerance = HALVES[half][2] if half else 1e-5
    subprocess.run([dlc.compiler.tool("dlc-run"), library, f"-inputs={tmp_path}/x.npy", f"-compare={model}", "-threads=2", f"-tolerance={tolerance}"],
                   check=True, timeout=300)


@pytest.mark.parametrize("fuse", ["on", "off"])
@pytest.mark.parametrize("name", NETS)
def test_static(name, fuse, tmp_path):
    make, shape = NETS[name]
    model, library, layout = compile_model(tmp_path, make(), shape, f"-fuse={fuse}")
    assert layout["tensors"] > 0 and layout["refused"] == 0
    check(tmp_path, model, library, shape)


@pytest.mark.parametrize("name", ["residual", "mobile", "grouped", "small_groups", "mirrored", "line"])
def test_symbolic(name, tmp_path):
    make, shape = NETS[name]
    model, library, layout = compile_model(tmp_path, make(), ["N", 3, *[f"D{i}" for i in range(len(shape) - 2)]])
    assert layout["tensors"] > 0 and layout["refused"] == 0
    for batch, grow in [(1, 0), (3, 5), (2, 16)]:
        check(tmp_path, model, library, (batch, 3, *[size + grow for size in shape[2:]]))


@pytest.mark.parametrize("half, target", [("f16", "host"), ("bf16", "host"), ("f16", "x86:cpu=x86-64-v3"), ("bf16", "x86:cpu=x86-64-v2")])
@pytest.mark.parametrize("name", NETS)
def test_half(name, half, target, tmp_path):
    """Images of 16-bit floats that convolutions read are stored as float32, unless the machine multiplies pairs of bf16."""
    make, shape = NETS[name]
    model, library, layout = compile_model(tmp_path, make(), shape, f"-target={target}", half=half)
    assert layout["tensors"] > 0 and layout["refused"] == 0
    if half == "f16" or target != "host":
        assert layout["widened"] > 0
    check(tmp_path, model, library, shape, half)


@pytest.mark.parametrize("name", ["residual", "mobile", "grouped", "line"])
def test_half_symbolic(name, tmp_path):
    make, shape = NETS[name]
    model, library, layout = compile_model(tmp_path, make(), ["N", 3, *[f"D{i}" for i in range(len(shape) - 2)]], half="f16")
    assert layout["widened"] > 0 and layout["refused"] == 0
    for batch, grow in [(1, 0), (3, 5), (2, 16)]:
        check(tmp_path, model, library, (batch, 3, *[size + grow for size in shape[2:]]), "f16")


def test_half_is_exact(tmp_path):
    """Float32 holds the rounded numbers: with sums in one order the bits are those of images that keep their layout."""
    net = Net(9)
    net.conv(3, 16, 1, 1)
    net.conv(16, 16, 1, 1)
    net.conv(16, 16, 1, 1)
    shape, results = (1, 3, 8, 8), {}
    np.save(tmp_path / "x.npy", np.random.default_rng(8).standard_normal(shape).astype(np.float16))
    for flag in ["auto", "asis"]:
        _, library, layout = compile_model(tmp_path, net, shape, f"-layout={flag}", half="f16")
        assert (layout["widened"] > 0) == (flag == "auto")
        subprocess.run([dlc.compiler.tool("dlc-run"), library, f"-inputs={tmp_path}/x.npy", f"-outputs={tmp_path}"], check=True, timeout=300)
        results[flag] = np.load(tmp_path / "output_0.npy")
    assert np.array_equal(results["auto"], results["asis"])


@pytest.mark.parametrize("flag", ["-layout=asis", "-fp=strict"])
def test_off(flag, tmp_path):
    make, shape = NETS["residual"]
    model, library, layout = compile_model(tmp_path, make(), shape, flag)
    assert layout == {"tensors": 0, "kernels": 0, "refused": 0, "widened": 0}
    check(tmp_path, model, library, shape)


@pytest.mark.parametrize("fault", ["relaid-drop-last:add", "relaid-swap:add"])
def test_wrong_relayouts_are_refused(fault, tmp_path):
    """Kernels that are broken while they are relaid keep their layout, and the answer is right."""
    make, shape = NETS["residual"]
    model, library, layout = compile_model(tmp_path, make(), shape, f"-plant-fault={fault}")
    assert layout["refused"] > 0
    check(tmp_path, model, library, shape)
    with pytest.raises(subprocess.CalledProcessError):  # the judge sees what Check would have let through
        _, wrong, _ = compile_model(tmp_path, make(), shape, "-plant-fault=" + fault.replace("relaid-", "").replace("swap:add", "drop-last:add"))
        check(tmp_path, model, wrong, shape)
