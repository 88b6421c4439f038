"""Small ONNX models for the tests, built with onnx's own helpers."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(path, nodes, inputs, outputs, constants=(), opset=18):
    """Writes and checks a model; constants: {name: array}."""
    tensors = [numpy_helper.from_array(a, n) for n, a in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


def mlp(path, batch="batch", seed=0):
    """relu(x w1 + b1) w2 + b2 with 33 inputs, 70 hidden and 10 outputs: no size fits a vector."""
    rng = np.random.default_rng(seed)
    w = {"w1": rng.normal(0, 0.2, (33, 70)), "b1": rng.normal(0, 0.1, 70), "w2": rng.normal(0, 0.2, (70, 10)),
         "b2": rng.normal(0, 0.1, 10)}
    w = {k: v.astype(np.float32) for k, v in w.items()}
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["h0"], name="fc1"),
             helper.make_node("Add", ["h0", "b1"], ["h1"], name="bias1"),
             helper.make_node("Relu", ["h1"], ["h2"], name="relu1"),
             helper.make_node("Gemm", ["h2", "w2", "b2"], ["y"], name="fc2")]
    save(path, nodes, [value("x", [batch, 33])], [value("y", [batch, 10])], w)

    def reference(x):
        return np.maximum(x @ w["w1"] + w["b1"], 0) @ w["w2"] + w["b2"]

    return str(path), reference
