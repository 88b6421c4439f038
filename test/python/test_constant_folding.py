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


def packed(model):
    """Whether each product reads a constant that was packed when the model was compiled."""
    products = [kernel for kernel in counted(model)["kernels"] if kernel["nest"] == "contraction"]
    assert products
    return all(kernel["layouts"] for kernel in products)


@pytest.mark.parametrize("kernel, pads", [(2, 0), (3, 1), (4, 1)])
def test_weights_of_transposed_convolutions_are_moved_once(kernel, pads):
    """A kernel of three taps has a fourth of zeros for the odd residue."""
    w = np.random.default_rng(kernel).normal(size=(96, 192, kernel, kernel)).astype(np.float32)  # 288 KB and more
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[pads] * 4)
    size = 4 * 2 + kernel - 2 * pads
    assert packed(make([node], [1, 96, 5, 5], [1, 192, size, size], {"w": w}))


@pytest.mark.parametrize("operator, gates, attributes", [("GRU", 3, {"linear_before_reset": 0}), ("GRU", 3, {"linear_before_reset": 1}), ("LSTM", 4, {}), ("RNN", 1, {})])
def test_weights_of_gates_are_products_own(operator, gates, attributes):
    rng, hidden = np.random.default_rng(7), 160 if gates > 1 else 320
    constants = {"w": rng.uniform(-.1, .1, (1, gates * hidden, 96)), "r": rng.uniform(-.1, .1, (1, gates * hidden, hidden)), "b": rng.uniform(-.1, .1, (1, 2 * gates * hidden))}
    node = helper.make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=hidden, **attributes)
    for steps in 3, 20:  # written out, and a loop
        assert packed(make([node], [steps, 2, 96], [steps, 1, 2, hidden], {name: array.astype(np.float32) for name, array in constants.items()}))


def test_a_directions_weights_are_a_part():
    """Of bidirectional operators, which have both in one tensor; each of the two sums is that of its direction."""
    rng, hidden, steps = np.random.default_rng(8), 160, 4
    w, r = (rng.uniform(-.1, .1, (2, 3 * hidden, n)).astype(np.float32) for n in (64, hidden))
    both = make([helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=hidden, direction="bidirectional")], [steps, 1, 64], [steps, 2, 1, hidden], {"w": w, "r": r})
    compiled = dlc.compile(both)
    assert all(kernel["layouts"] for kernel in compiled.report["kernels"] if kernel["nest"] == "contraction")
    x = rng.normal(size=(steps, 1, 64)).astype(np.float32)
    one = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=hidden)
    for d, order in enumerate((slice(None), slice(None, None, -1))):
        alone = ReferenceEvaluator(make([one], [steps, 1, 64], [steps, 1, 1, hidden], {"w": w[d:d + 1], "r": r[d:d + 1]}))
        assert np.allclose(compiled(x)[:, d], alone.run(None, {"x": np.ascontiguousarray(x[order])})[0][order][:, 0], rtol=1e-4, atol=1e-5)
