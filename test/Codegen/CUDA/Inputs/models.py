"""Writes cnn.onnx and encoder.onnx, with random weights, to a folder: models.py <folder>."""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Model:
    """Nodes and weights under construction; op() returns the name of a node's result."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.nodes, self.weights = [], []

    def weight(self, *shape):
        return self.constant((self.random.standard_normal(shape) * 0.1).astype(np.float32))

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def save(self, path, x_shape, y, y_shape):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, y_shape)
        graph = helper.make_graph(self.nodes, "model", [x], [out], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


def cnn(path):
    """Padded, depthwise and pointwise convolutions, pooling, a classifier."""
    m = Model()
    t = m.op("Relu", m.op("Conv", "x", m.weight(16, 3, 3, 3), m.weight(16), pads=[1, 1, 1, 1]))
    t = m.op("MaxPool", t, kernel_shape=[2, 2], strides=[2, 2])
    t = m.op("HardSwish", m.op("Conv", t, m.weight(16, 1, 3, 3), m.weight(16), pads=[1, 1, 1, 1], group=16))
    t = m.op("Conv", t, m.weight(32, 16, 1, 1), m.weight(32))
    t = m.op("Mul", t, m.op("Sigmoid", t))
    t = m.op("Flatten", m.op("GlobalAveragePool", t))
    y = m.op("Softmax", m.op("Gemm", t, m.weight(32, 10), m.weight(10)))
    m.save(path, ["b", 3, 16, 16], y, ["b", 10])


def encoder(path, width=32, heads=4):
    """One layer of a transformer."""
    m = Model()
    split = m.constant(np.array([0, 0, heads, width // heads], np.int64))
    merge = m.constant(np.array([0, 0, width], np.int64))

    def linear(x, rows, columns):
        return m.op("Add", m.op("MatMul", x, m.weight(rows, columns)), m.weight(columns))

    def project(axes):
        return m.op("Transpose", m.op("Reshape", linear("x", width, width), split), perm=axes)

    q, k, v = project([0, 2, 1, 3]), project([0, 2, 3, 1]), project([0, 2, 1, 3])
    scores = m.op("Mul", m.op("MatMul", q, k), m.constant(np.float32((width // heads) ** -0.5)))
    t = m.op("MatMul", m.op("Softmax", scores, axis=-1), v)
    t = m.op("Reshape", m.op("Transpose", t, perm=[0, 2, 1, 3]), merge)
    t = m.op("Add", linear(t, width, width), "x")
    n = m.op("LayerNormalization", t, m.weight(width), m.weight(width), axis=-1)
    y = m.op("Add", linear(m.op("Gelu", linear(n, width, 4 * width)), 4 * width, width), n)
    m.save(path, ["b", "s", width], y, ["b", "s", width])


cnn(os.path.join(sys.argv[1], "cnn.onnx"))
encoder(os.path.join(sys.argv[1], "encoder.onnx"))
