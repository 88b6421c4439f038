"""One constant, read at several places: the packed form of each product is made from its own slice."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dlc

F32 = onnx.TensorProto.FLOAT


def make(nodes, inputs, outputs, constants):
    def declare(values):
        return [helper.make_tensor_value_info(name, F32, shape) for name, shape in values.items()]
    graph = helper.make_graph(nodes, "shared", declare(inputs), declare(outputs),
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def close(actual, expected, limit=2e-5):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= limit * np.abs(expected).max()


def cut(out, data, axis, start, end):
    """A Slice, and the constants that it reads."""
    names = [f"{out}_{what}" for what in ("start", "end", "axis")]
    node = helper.make_node("Slice", [data, *names], [out])
    return node, {name: np.array([value], np.int64) for name, value in zip(names, (start, end, axis))}


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_products_of_slices(axis):
    rng = np.random.default_rng(axis)
    weights, x = normal(rng, 96, 96), normal(rng, 40, 48 if axis == 0 else 96)
    constants, nodes, outputs, expected = {"w": weights}, [], {}, []
    for i in range(2):
        node, more = cut(f"part{i}", "w", axis, 48 * i, 48 * i + 48)
        constants.update(more)
        nodes += [node, helper.make_node("MatMul", ["x", f"part{i}"], [f"y{i}"])]
        expected.append(x @ np.take(weights, range(48 * i, 48 * i + 48), axis))
        outputs[f"y{i}"] = expected[-1].shape
    for actual, wanted in zip(dlc.compile(make(nodes, {"x": x.shape}, outputs, constants)).run([x]), expected):
        close(actual, wanted)


def test_batches_at_other_distances():
    """Matrices 0, 1 and matrices 0, 2 of one constant, and the same matrices once transposed."""
    rng = np.random.default_rng(3)
    weights, x = normal(rng, 4, 32, 32), normal(rng, 2, 24, 32)
    constants = {"w": weights, "starts": np.array([0], np.int64), "ends": np.array([4], np.int64), "axes": np.array([0], np.int64),
                 "steps": np.array([2], np.int64), "two": np.array([2], np.int64)}
    nodes = [helper.make_node("Slice", ["w", "starts", "two", "axes"], ["near"]),
             helper.make_node("Slice", ["w", "starts", "ends", "axes", "steps"], ["far"]),
             helper.make_node("Transpose", ["far"], ["turned"], perm=[0, 2, 1])]
    nodes += [helper.make_node("MatMul", ["x", name], [f"y_{name}"]) for name in ("near", "far", "turned")]
    outputs = {f"y_{name}": (2, 24, 32) for name in ("near", "far", "turned")}
    near, far, turned = dlc.compile(make(nodes, {"x": x.shape}, outputs, constants)).run([x])
    close(near, x @ weights[:2])
    close(far, x @ weights[::2])
    close(turned, x @ weights[::2].transpose(0, 2, 1))


@pytest.mark.parametrize("fp", ["reassoc", "fast-conv"])
def test_convolutions_of_slices(fp):
    """Filters 0-31 and 32-63 of one constant; fast-conv packs them in Winograd's form."""
    rng = np.random.default_rng(4)
    filters, x = normal(rng, 64, 32, 3, 3), normal(rng, 1, 32, 28, 28)
    constants, nodes = {"w": filters}, []
    for i in range(2):
        node, more = cut(f"part{i}", "w", 0, 32 * i, 32 * i + 32)
        constants.update(more)
        nodes += [node, helper.make_node("Conv", ["x", f"part{i}"], [f"y{i}"], pads=[1, 1, 1, 1])]
    model = make(nodes, {"x": x.shape}, {"y0": (1, 32, 28, 28), "y1": (1, 32, 28, 28)}, constants)
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    expected = sum(np.einsum("kc,chw->khw", filters[:, :, i, j], padded[:, i:i + 28, j:j + 28]) for i in range(3) for j in range(3))
    for i, actual in enumerate(dlc.compile(model, fp=fp).run([x])):
        close(actual[0], expected[32 * i:32 * i + 32], 1e-3 if fp == "fast-conv" else 2e-5)


@pytest.mark.parametrize("operator, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_both_directions_of_a_recurrence(operator, gates):
    """The weights of the second direction lie behind those of the first."""
    hidden, features, steps = 32, 48, 9
    rng = np.random.default_rng(gates)
    constants = {"w": normal(rng, 2, gates * hidden, features) * 0.2, "r": normal(rng, 2, gates * hidden, hidden) * 0.2,
                 "b": normal(rng, 2, 2 * gates * hidden)}
    node = helper.make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=hidden, direction="bidirectional")
    model = make([node], {"x": (steps, 1, features)}, {"y": (steps, 2, 1, hidden)}, constants)
    x = normal(rng, steps, 1, features)
    both = dlc.compile(model).run([x])[0]
    # The reference evaluates one direction alone.
    single = helper.make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=hidden)
    for i, order in enumerate((slice(None), slice(None, None, -1))):
        one = make([single], {"x": x.shape}, {"y": (steps, 1, 1, hidden)}, {name: array[i:i + 1] for name, array in constants.items()})
        close(both[:, i:i + 1], ReferenceEvaluator(one).run(None, {"x": x[order].copy()})[0][order])
