"""What only constants tell is computed by the compiler, also where they are weights that stay in the model's file."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dlc

F32 = onnx.TensorProto.FLOAT


def make(nodes, x, y, constants):
    graph = helper.make_graph(nodes, "constants", [helper.make_tensor_value_info("x", F32, x)],
                              [helper.make_tensor_value_info("y", F32, y)],
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def counted(model):
    """The report of the compilation without fusion, and the result's agreement with the reference."""
    compiled = dlc.compile(model, fuse="off")
    rng = np.random.default_rng(3)
    x = rng.normal(size=[d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]).astype(np.float32)
    expected, = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.abs(compiled(x) - expected).max() <= 1e-5 * np.abs(expected).max()
    return compiled.report


@pytest.mark.parametrize("channels", [4, 256, 257, 1024])
def test_a_normalization_is_one_product_and_one_sum(channels):
    rng = np.random.default_rng(channels)
    constants = {name: rng.uniform(0.5, 2, channels).astype(np.float32) for name in ("scale", "bias", "mean", "variance")}
    node = helper.make_node("BatchNormalization", ["x", *constants], ["y"])
    report = counted(make([node], [2, channels, 5, 5], [2, channels, 5, 5], constants))
    assert sum(kernel["calls"] for kernel in report["kernels"]) == 2


def test_what_would_grow_is_left_to_the_kernels_that_read_it():
    weights = np.random.default_rng(1).integers(-127, 127, (64, 64)).astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["f"]), helper.make_node("MatMul", ["x", "f"], ["y"])]
    report = counted(make(nodes, [3, 64], [3, 64], {"w": weights, "s": np.array(0.02, np.float32)}))
    assert report["weights_bytes"] < 2 * weights.nbytes
    assert sum(kernel["calls"] for kernel in report["kernels"]) > 1


def test_what_is_large_stays_in_the_file():
    weights = np.random.default_rng(2).normal(size=(300, 300)).astype(np.float32)  # 360 KB
    nodes = [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("MatMul", ["x", "n"], ["y"])]
    assert sum(k["calls"] for k in counted(make(nodes, [3, 300], [3, 300], {"w": weights}))["kernels"]) == 2
    small = {"w": weights[:200, :200].copy()}
    assert sum(k["calls"] for k in counted(make(nodes, [3, 200], [3, 200], small))["kernels"]) == 1
