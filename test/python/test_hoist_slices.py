"""What is computed and never read is not computed (graph-hoist-slices): random chains of operators that end in a small window, fused with
-fp=strict, have the bits of the unfused model and of the interpreter, which know nothing of the pass."""
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.compiler import tool

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "utils", "fuzz"))
import graphs  # noqa: E402
import judge  # noqa: E402


class Chain:
    """A model of random operators over x (batch, rows, columns), with integer-free f32 values of moderate size."""

    def __init__(self, seed, symbolic):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}
        self.batch, self.rows, self.columns = 2, int(self.rng.integers(5, 12)), 6
        self.shape = [self.batch, self.rows, self.columns]
        self.dims = ["b", "n", self.columns] if symbolic else list(self.shape)
        self.symbolic = symbolic
        self.rows_axis = 1
        self.value = "x"
        for _ in range(int(self.rng.integers(3, 9))):
            self.step()
        self.cut()

    def name(self):
        return f"v{len(self.nodes)}"

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op, *inputs, **attributes):
        out = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def step(self):
        rng, shape, x = self.rng, self.shape, self.value
        kind = rng.choice(["unary", "scale", "norm", "softmax", "matmul", "transpose", "merge", "concat", "residual", "scores"])
        rank = len(shape)
        if kind == "unary":
            x = self.add(str(rng.choice(["Tanh", "Sigmoid", "Neg", "Abs"])), x)
        elif kind == "scale":
            axis = int(rng.integers(rank))
            wide = [1] * rank
            if axis == rank - 1:
                wide[axis] = shape[axis]
            x = self.add(str(rng.choice(["Mul", "Add", "Sub"])), x, self.constant(rng.normal(size=wide).astype(np.float32)))
        elif kind == "norm":
            mean = self.add("ReduceMean", x, self.constant(np.array([rank - 1])), keepdims=1)
            x = self.add("Sub", x, mean)
        elif kind == "softmax":
            x = self.add("Softmax", x, axis=-1)
        elif kind == "matmul" and self.rows_axis != rank - 1:
            width = int(rng.integers(4, 9))
            x = self.add("MatMul", x, self.constant(rng.normal(size=[shape[-1], width]).astype(np.float32)))
            shape[-1] = width
        elif kind == "transpose" and rank == 3 and self.rows_axis != 2:
            x = self.add("Transpose", x, perm=[1, 0, 2])
            shape[0], shape[1] = shape[1], shape[0]
            self.rows_axis = 1 - self.rows_axis
        elif kind == "merge" and rank == 3 and shape[-1] % 2 == 0:
            x = self.add("Reshape", x, self.constant(np.array([0, 0, 2, shape[-1] // 2])))
            x = self.add("Transpose", x, perm=[0, 2, 1, 3])
            x = self.add("Exp", self.add("Neg", self.add("Abs", x)))
            x = self.add("Transpose", x, perm=[0, 2, 1, 3])
            x = self.add("Reshape", x, self.constant(np.array([0, 0, shape[-1]])))
        elif kind == "concat":
            x = self.add("Concat", x, self.add("Neg", x), axis=rank - 1)
            shape[-1] *= 2
        elif kind == "residual":
            x = self.add("Add", x, self.add("Tanh", x))
        elif kind == "scores" and rank == 3 and self.rows_axis == 1:
            keys = self.add("Transpose", x, perm=[0, 2, 1])
            x = self.add("MatMul", self.add("Softmax", self.add("MatMul", x, keys), axis=-1), x)
        self.value = x

    def cut(self):
        """A window along the rows: the first ones, the last one, or every third."""
        first, last, step = [(0, 1, 1), (-1, 2**62, 1), (1, 3, 1), (0, 5, 3)][int(self.rng.integers(4 if not self.symbolic else 3))]
        axis = self.rows_axis
        parts = [self.add("Slice", self.value, *(self.constant(np.array([v])) for v in (first, last, axis, step)))]
        if self.rng.integers(3) == 0:  # two readers that agree on the rows
            at = len(self.shape) - 1
            width = self.shape[-1] // 2
            parts = [self.add("Slice", self.value, self.constant(np.array([first, a])), self.constant(np.array([last, b])), self.constant(np.array([axis, at])),
                              self.constant(np.array([step, 1]))) for a, b in ((0, width), (width, 2**62))]
        self.outputs = parts

    def model(self):
        graph = helper.make_graph(self.nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.dims)],
                                  [helper.make_tensor_value_info(o, TensorProto.FLOAT, [None] * len(self.shape)) for o in self.outputs],
                                  [onnx.numpy_helper.from_array(a, n) for n, a in self.constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def report_of(model, folder):
    """What -emit=report says of the model."""
    onnx.save(model, folder / "m.onnx")
    done = subprocess.run([tool("dlc"), str(folder / "m.onnx"), "-q", "-emit=report", "-o", str(folder / "r.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(folder / "r.json") as file:
        return json.load(file)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_bits_stay(seed, symbolic, tmp_path):
    chain = Chain(seed, symbolic)
    x = np.random.default_rng(seed).normal(size=(2, chain.rows, 6)).astype(np.float32)
    subject = judge.Subject(graphs.Case("chain", chain.model(), [{"x": x}]), str(tmp_path))
    bounds = ["-dim=n=5..64"] if symbolic else []
    fused, off = (subject.run(subject.compile(f"fuse_{fuse}", "-fp=strict", f"-fuse={fuse}", *bounds), 0) for fuse in ("on", "off"))
    assert all(a.size for a in fused)
    assert judge.same_bits(fused, off) is None
    assert judge.same_bits(fused, subject.interpret(0, *bounds)) is None


def test_work_is_gone(tmp_path):
    """The rows that nobody reads: a product of 64 rows costs that of one; control: with all rows returned it does not."""
    def build(outputs):
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"]),
                 helper.make_node("Gather", ["y", "last"], ["z"], axis=0)]
        constants = [onnx.numpy_helper.from_array(np.ones((32, 16), np.float32), "w"), onnx.numpy_helper.from_array(np.array(-1), "last")]
        info = {"z": [16], "y": [64, 16]}
        graph = helper.make_graph(nodes, "m", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 32])],
                                  [helper.make_tensor_value_info(o, TensorProto.FLOAT, info[o]) for o in outputs], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    work = [sum(kernel["operations"] for kernel in report_of(build(o), tmp_path)["kernels"]) for o in (["z"], ["z", "y"])]
    assert work[0] * 32 < work[1]
