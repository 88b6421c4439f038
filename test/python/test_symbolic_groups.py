"""A model with symbolic sizes is fused into the groups of the model with those sizes fixed; branches and loops are fused too."""
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dlc
from dlc.compiler import tool

RNG = np.random.default_rng(5)


class Builder:
    def __init__(self):
        self.nodes, self.constants = [], []

    def weight(self, *shape):
        name = f"w{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array((RNG.normal(size=shape) / 8).astype(np.float32), name))
        return name

    def ints(self, *values):
        name = f"w{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def __call__(self, op, *inputs, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, inputs, output):
        types = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()]
        graph = helper.make_graph(self.nodes, "m", types, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def convolutional():
    """Blocks of MobileNet v3: expansion, depthwise, squeeze and excitation, projection, residual."""
    b = Builder()
    x = b("Conv", "x", b.weight(16, 3, 3, 3), b.weight(16), strides=[2, 2], pads=[1, 1, 1, 1])
    for _ in range(2):
        y = b("HardSwish", b("Conv", x, b.weight(48, 16, 1, 1), b.weight(48)))
        y = b("Relu", b("Conv", y, b.weight(48, 1, 3, 3), b.weight(48), group=48, pads=[1, 1, 1, 1]))
        s = b("Relu", b("Conv", b("GlobalAveragePool", y), b.weight(12, 48, 1, 1), b.weight(12)))
        s = b("HardSigmoid", b("Conv", s, b.weight(48, 12, 1, 1), b.weight(48)))
        x = b("Add", x, b("Conv", b("Mul", y, s), b.weight(16, 48, 1, 1), b.weight(16)))
    pooled = b("ReduceMean", x, b.ints(2, 3), keepdims=0)
    return b.model({"x": ["batch", 3, "height", "width"]}, b("MatMul", pooled, b.weight(16, 10))), {"batch": 2, "height": 64, "width": 96}


def encoder():
    """Layers of BERT, and a classifier on the first token."""
    b, width, heads = Builder(), 64, 4
    x = "x"

    def split(t):
        return b("Transpose", b("Reshape", t, b.ints(0, 0, heads, width // heads)), perm=[0, 2, 1, 3])

    def norm(t):
        return b("LayerNormalization", t, b.weight(width), b.weight(width), axis=-1)

    for _ in range(2):
        q, k, v = (split(b("Add", b("MatMul", x, b.weight(width, width)), b.weight(width))) for _ in range(3))
        scores = b("Mul", b("MatMul", q, b("Transpose", k, perm=[0, 1, 3, 2])), b.weight(1))
        mixed = b("MatMul", b("Softmax", scores, axis=-1), v)
        mixed = b("Reshape", b("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(0, 0, width))
        x = norm(b("Add", x, b("MatMul", mixed, b.weight(width, width))))
        h = b("Gelu", b("Add", b("MatMul", x, b.weight(width, 4 * width)), b.weight(4 * width)))
        x = norm(b("Add", x, b("MatMul", h, b.weight(4 * width, width))))
    first = b("Gather", x, b.ints(0), axis=1)
    return b.model({"x": ["batch", "seq", width]}, b("Tanh", b("MatMul", first, b.weight(width, width)))), {"batch": 2, "seq": 96}


def rows():
    """Norms, means and softmaxes along symbolic axes."""
    b = Builder()
    y = b("Sub", "x", b("ReduceMean", "x", b.ints(1), keepdims=1))
    y = b("Mul", y, b("Softmax", b("Tanh", y), axis=-1))
    z = b("Concat", y, b("Neg", y), axis=1)
    z = b("Div", z, b("Sqrt", b("ReduceSumSquare", z, b.ints(-1), keepdims=1)))
    return b.model({"x": ["n", "m"]}, b("ReduceMax", b("Transpose", z, perm=[1, 0]), b.ints(0))), {"n": 128, "m": 200}


def groups_of(path, *options):
    done = subprocess.run([tool("dlc"), str(path), "-q", "-emit=report", "-o", str(path) + ".json", "-explain=fusion", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^fused \S+: (.*)$", done.stdout + done.stderr, re.M)
    # Symbolic sizes are computed (graph.size), fixed ones are not.
    members = [[name for kernel, name in re.findall(r"(\w+)\(([^)]*)\)", line) if not kernel.startswith("size_")] for line in lines]
    return sorted(sorted(set(group)) for group in members if group)


@pytest.mark.parametrize("make", [convolutional, encoder, rows])
def test_same_groups(make, tmp_path):
    model, sizes = make()
    onnx.save(model, tmp_path / "m.onnx")
    fixed = groups_of(tmp_path / "m.onnx", *(f"-dim={n}={v}" for n, v in sizes.items()))
    symbolic = groups_of(tmp_path / "m.onnx", *(f"-dim={n}=1..4096@{v}" for n, v in sizes.items()))
    assert fixed and fixed == symbolic


LOOP = """loop (float[n, 8] x, int64 m) => (float[n, 8] y) <float[8] scale = {1, 2, 3, 4, 5, 6, 7, 8}, bool yes = {1}> {
  y = Loop (m, yes, x) <body = b (int64 i, bool going, float[n, 8] u) => (bool more, float[n, 8] v) {
    more = Identity(going)
    a = Mul(u, scale)
    e = Softmax <axis = 1> (a)
    t = Tanh(e)
    v = Add(t, x)
  }>
}"""
BRANCH = """branch (float[n, 8] x, bool c) => (float[n, 8] y) {
  s = Sigmoid(x)
  y = If (c) <then_branch = t () => (float[n, 8] a) { p = Mul(x, s)  q = Exp(p)  a = Sub(q, x) },
              else_branch = f () => (float[n, 8] b) { r = Neg(s)  b = Relu(r) }>
}"""


@pytest.mark.parametrize("text, feeds, fused", [
    (LOOP, [{"m": np.array(n)} for n in (0, 1, 5)], [{"a", "e", "t", "v"}]),
    (BRANCH, [{"c": np.array(c)} for c in (True, False)], [{"p", "q", "a"}, {"r", "b"}])], ids=["loop", "branch"])
def test_inside_branches_and_loops(text, feeds, fused, tmp_path):
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 20]>' + text)
    for node in list(model.graph.node) + [n for node in model.graph.node for a in node.attribute for n in a.g.node]:
        node.name = node.output[0]
    onnx.save(model, tmp_path / "m.onnx")
    groups = [set(name.split("/")[-1] for name in group) for group in groups_of(tmp_path / "m.onnx")]
    for wanted in fused:
        assert any(wanted <= group for group in groups), (wanted, groups)
    strict, off = (dlc.compile(model, fp="strict", fuse=fuse) for fuse in ("on", "off"))
    for n in (0, 1, 7):
        x = RNG.normal(size=(n, 8)).astype(np.float32)
        for feed in feeds:
            got, expected = strict.run({"x": x, **feed}), off.run({"x": x, **feed})
            assert all(np.array_equal(a, b) for a, b in zip(got, expected))
