"""Numeric operators of ai.onnx.ml, as skl2onnx, XGBoost's and LightGBM's converters write them, against onnxruntime."""
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import dlc

FEATURES = 6


def numbers(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


def listed(*shape, seed=0):
    return numbers(*shape, seed=seed).ravel().tolist()


def make_model(nodes, kind, features, outputs):
    graph = helper.make_graph([helper.make_node(op, inputs, results, domain="ai.onnx.ml", **attributes) for op, inputs, results, attributes in nodes],
                              "model", [helper.make_tensor_value_info("x", kind, [None, features])],
                              [helper.make_tensor_value_info(name, of, None) for name, of in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)


def check(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = dlc.compile(model)
    for x in inputs:
        for got, want in zip(compiled.run({"x": x}), session.run(None, {"x": x}), strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def make_tree(rng, tree, depth, modes):
    """Nodes of a full tree whose leaves are cut at random, numbered as skl2onnx does: depth first."""
    nodes = []

    def add(level):
        here = len(nodes)
        nodes.append(None)
        if level == depth or (level and rng.random() < 0.2):
            nodes[here] = (tree, here, 0, 0.0, "LEAF", 0, 0, 0)
        else:
            value, mode, missing = float(np.float32(rng.normal())), modes[int(rng.integers(len(modes)))], int(rng.integers(2))
            yes, no = add(level + 1), add(level + 1)
            nodes[here] = (tree, here, int(rng.integers(FEATURES)), value, mode, yes, no, missing)
        return here

    add(0)
    return nodes


def make_trees(prefix, classes, count=20, depth=4, modes=("BRANCH_LEQ",), low=0.0, seed=0):
    """`classes`: the targets that each leaf has a weight for."""
    rng = np.random.default_rng(seed)
    nodes = [node for tree in range(count) for node in make_tree(rng, tree, depth, modes)]
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    attributes = {"nodes_" + name: list(column) for name, column in zip(names, zip(*nodes))}
    weights = [(tree, node, target, float(np.float32(rng.uniform(low, 1) / count)))
               for tree, node, _, _, mode, *_ in nodes if mode == "LEAF" for target in classes]
    return attributes | {prefix + name: list(column) for name, column in zip(("treeids", "nodeids", "ids", "weights"), zip(*weights))}


LABELED = [("label", TensorProto.INT64), ("p", TensorProto.FLOAT)]
NUMBER = [("y", TensorProto.FLOAT)]


def linear(classes, post, rows=None):
    rows = rows or classes
    return [("LinearClassifier", ["x"], ["label", "p"],
             dict(coefficients=listed(rows, FEATURES), intercepts=listed(rows), classlabels_ints=list(range(3, 3 + classes)), post_transform=post))]


MODELS = {
    "scaler": ([("Scaler", ["x"], ["y"], dict(offset=listed(FEATURES), scale=listed(FEATURES)))], NUMBER),
    "one scale": ([("Scaler", ["x"], ["y"], dict(offset=[0.5], scale=[2.0]))], NUMBER),
    "l1": ([("Normalizer", ["x"], ["y"], dict(norm="L1"))], NUMBER), "l2": ([("Normalizer", ["x"], ["y"], dict(norm="L2"))], NUMBER),
    "regression": ([("LinearRegressor", ["x"], ["y"], dict(coefficients=listed(2, FEATURES), intercepts=[0.1, -0.2], targets=2))], NUMBER),
    "softmax": (linear(3, "SOFTMAX"), LABELED), "logistic": (linear(3, "LOGISTIC"), LABELED), "two classes": (linear(2, "SOFTMAX"), LABELED),
    "trees": ([("TreeEnsembleRegressor", ["x"], ["y"], make_trees("target_", [0]) | dict(n_targets=1, base_values=[0.5]))], NUMBER),
    "two targets": ([("TreeEnsembleRegressor", ["x"], ["y"], make_trees("target_", [0, 1]) | dict(n_targets=2))], NUMBER),
    "mean": ([("TreeEnsembleRegressor", ["x"], ["y"], make_trees("target_", [0]) | dict(n_targets=1, aggregate_function="AVERAGE"))], NUMBER),
    "modes": ([("TreeEnsembleRegressor", ["x"], ["y"],
                make_trees("target_", [0], modes=("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE")) | dict(n_targets=1))], NUMBER),
    "forest": ([("TreeEnsembleClassifier", ["x"], ["label", "p"], make_trees("class_", [0, 1, 2]) | dict(classlabels_int64s=[1, 5, 9]))], LABELED),
    "boosted": ([("TreeEnsembleClassifier", ["x"], ["label", "p"],
                  make_trees("class_", [0, 1, 2], low=-1) | dict(classlabels_int64s=[0, 1, 2], post_transform="SOFTMAX"))], LABELED),
    "binary, boosted": ([("TreeEnsembleClassifier", ["x"], ["label", "p"],
                          make_trees("class_", [0], low=-1) | dict(classlabels_int64s=[0, 1], post_transform="LOGISTIC"))], LABELED),
    "binary, forest": ([("TreeEnsembleClassifier", ["x"], ["label", "p"], make_trees("class_", [0]) | dict(classlabels_int64s=[0, 1]))], LABELED),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_numbers(name):
    nodes, outputs = MODELS[name]
    inputs = [numbers(n, FEATURES) for n in (1, 5, 33)]
    if "Tree" in nodes[0][0] and name != "modes":  # missing values; onnxruntime has no rule of its own for them in mixed trees
        inputs.append(np.where(np.random.default_rng(1).random((17, FEATURES)) < 0.3, np.nan, numbers(17, FEATURES)).astype(np.float32))
    check(make_model(nodes, TensorProto.FLOAT, FEATURES, outputs), inputs)


def test_a_pipeline_with_missing_values():
    nodes = [("Imputer", ["x"], ["a"], dict(imputed_value_floats=listed(FEATURES), replaced_value_float=float("nan"))),
             ("Scaler", ["a"], ["b"], dict(offset=listed(FEATURES), scale=listed(FEATURES))),
             ("LinearRegressor", ["b"], ["y"], dict(coefficients=listed(FEATURES), intercepts=[0.1], targets=1))]
    x = np.where(np.random.default_rng(0).random((9, FEATURES)) < 0.4, np.nan, numbers(9, FEATURES)).astype(np.float32)
    check(make_model(nodes, TensorProto.FLOAT, FEATURES, NUMBER), [x])


def test_encoders():
    x = np.random.default_rng(0).integers(0, 10, (7, 2))
    check(make_model([("OneHotEncoder", ["x"], ["y"], dict(cats_int64s=[0, 2, 5], zeros=1))], TensorProto.INT64, 2, NUMBER), [x])
    check(make_model([("LabelEncoder", ["x"], ["y"], dict(keys_int64s=[1, 5, 9], values_int64s=[10, 50, 90], default_int64=-1))],
                     TensorProto.INT64, 2, [("y", TensorProto.INT64)]), [x])


@pytest.mark.parametrize("node, reason", [
    (("LinearClassifier", ["x"], ["label", "y"], dict(coefficients=listed(3, FEATURES), intercepts=[0.0] * 3, classlabels_strings=["a", "b", "c"])),
     "labels of strings; write the model with integer labels"),
    (("TreeEnsembleRegressor", ["x"], ["y"], make_trees("target_", [0], modes=("BRANCH_EQ",)) | dict(n_targets=1)), "nodes of mode BRANCH_EQ"),
])
def test_refusals_say_why(node, reason):
    with pytest.raises(dlc.Error, match=reason):
        dlc.compile(make_model([node], TensorProto.FLOAT, FEATURES, NUMBER))


def test_a_circle_of_nodes_is_no_tree():
    attributes = make_trees("target_", [0], count=1) | dict(n_targets=1)
    attributes["nodes_truenodeids"][0] = 0
    with pytest.raises(dlc.Error, match="two parents|no root"):
        dlc.compile(make_model([("TreeEnsembleRegressor", ["x"], ["y"], attributes)], TensorProto.FLOAT, FEATURES, NUMBER))
