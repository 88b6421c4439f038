"""Sizes that only the data tell, and operators that choose places by data, against onnx.reference.

One compilation serves every shape of a case; the shapes go around vector widths and runs of a merge sort, and down to nothing."""
import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper

import dlc

TARGETS = ["interp", "host"]
RNG_SEED = 3


def make_model(nodes, inputs, outputs, constants=()):
    """A model of (name, element type, dims) inputs and (name, element type, rank) outputs."""
    graph = helper.make_graph(
        nodes, "data_sizes",
        [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in inputs],
        [helper.make_tensor_value_info(name, kind, [None] * rank) for name, kind, rank in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def check(model, feeds, target):
    """Compiles once; every feed must give what the reference gives, twice."""
    compiled = dlc.compile(model, target=target)
    reference = onnx.reference.ReferenceEvaluator(model)
    for feed in feeds:
        expected = reference.run(None, feed)
        for _ in range(2):  # a second run meets the first one's workspace
            for got, want in zip(compiled.run(feed), expected):
                want = np.asarray(want)
                assert got.dtype == want.dtype and got.shape == want.shape, {k: v.shape for k, v in feed.items()}
                np.testing.assert_allclose(got, want, rtol=1e-5)


def masks(rng, sizes):
    """No, all and some elements true."""
    for n in sizes:
        yield np.zeros(n, bool)
        yield np.ones(n, bool)
        yield rng.random(n) < 0.3


@pytest.mark.parametrize("target", TARGETS)
def test_nonzero_and_what_follows(target):
    """The coordinates themselves, and kernels whose sizes are the count."""
    nodes = [helper.make_node("NonZero", ["x"], ["at"], name="find"),
             helper.make_node("Transpose", ["at"], ["points"], perm=[1, 0]),
             helper.make_node("GatherND", ["x", "points"], ["picked"]),
             helper.make_node("Mul", ["picked", "picked"], ["squares"]),
             helper.make_node("ReduceSum", ["squares"], ["sum"], keepdims=0),
             helper.make_node("Shape", ["squares"], ["shape"])]
    model = make_model(nodes, [("x", TensorProto.FLOAT, [5, 7])],
                       [("at", TensorProto.INT64, 2), ("squares", TensorProto.FLOAT, 1), ("sum", TensorProto.FLOAT, 0),
                        ("shape", TensorProto.INT64, 1)])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": (rng.random((5, 7)) * (rng.random((5, 7)) < share)).astype(np.float32)} for share in (0, 0.1, 0.5, 1)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_compress_of_any_length(target):
    nodes = [helper.make_node("Compress", ["x", "keep"], ["kept"], axis=0),
             helper.make_node("Concat", ["kept", "x"], ["both"], axis=0)]
    model = make_model(nodes, [("x", TensorProto.FLOAT, ["n", 3]), ("keep", TensorProto.BOOL, ["n"])],
                       [("kept", TensorProto.FLOAT, 2), ("both", TensorProto.FLOAT, 2)])
    rng = np.random.default_rng(RNG_SEED)
    feeds = [{"x": rng.random((len(mask), 3), np.float32), "keep": mask} for mask in masks(rng, (1, 2, 15, 16, 17, 100))]
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
def test_two_counts(target):
    """Two sizes of the data in one model, and a size that is their sum."""
    nodes = [helper.make_node("Compress", ["x", "a"], ["left"]), helper.make_node("Compress", ["x", "b"], ["right"]),
             helper.make_node("Concat", ["left", "right"], ["both"], axis=0)]
    model = make_model(nodes, [("x", TensorProto.INT64, ["n"]), ("a", TensorProto.BOOL, ["n"]), ("b", TensorProto.BOOL, ["n"])],
                       [("left", TensorProto.INT64, 1), ("both", TensorProto.INT64, 1)])
    rng = np.random.default_rng(RNG_SEED)
    feeds = [{"x": np.arange(n), "a": rng.random(n) < 0.5, "b": rng.random(n) < 0.5} for n in (1, 5, 8, 33, 64)]
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("largest", [0, 1])
def test_topk_of_any_length(target, largest):
    model = make_model([helper.make_node("TopK", ["x", "k"], ["values", "indices"], axis=1, largest=largest)],
                       [("x", TensorProto.FLOAT, ["b", "n", 3])],
                       [("values", TensorProto.FLOAT, 3), ("indices", TensorProto.INT64, 3)], [("k", np.array([5]))])
    rng = np.random.default_rng(RNG_SEED)
    # Few values: equal elements keep their order.
    feeds = [{"x": rng.integers(0, 4, (b, n, 3)).astype(np.float32)} for b, n in ((1, 5), (2, 6), (3, 31), (1, 32), (2, 33), (1, 300))]
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
def test_topk_of_too_many(target):
    """A dim that is smaller than K, which only the run tells, is an error and not a read behind the rows."""
    model = make_model([helper.make_node("TopK", ["x", "k"], ["values", "indices"])], [("x", TensorProto.FLOAT, ["n"])],
                       [("values", TensorProto.FLOAT, 1), ("indices", TensorProto.INT64, 1)], [("k", np.array([3]))])
    compiled = dlc.compile(model, target=target)
    assert compiled.run([np.arange(3, dtype=np.float32)])[1].tolist() == [2, 1, 0]
    for n in (0, 1, 2):
        with pytest.raises(dlc.Error, match="(?s)out of range|outside"):
            compiled.run([np.arange(n, dtype=np.float32)])


@pytest.mark.parametrize("target", TARGETS)
def test_topk_of_a_count_from_the_data(target):
    model = make_model([helper.make_node("TopK", ["x", "k"], ["values", "indices"], axis=0)], [("x", TensorProto.INT32, ["n", 3]), ("k", TensorProto.INT64, [1])],
                       [("values", TensorProto.INT32, 2), ("indices", TensorProto.INT64, 2)])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": rng.integers(-9, 9, (n, 3)).astype(np.int32), "k": np.array([k])} for n, k in ((1, 0), (1, 1), (9, 4), (17, 17), (40, 2))], target)
    with pytest.raises(dlc.Error):
        dlc.compile(model, target=target).run({"x": np.zeros((4, 3), np.int32), "k": np.array([5])})


@pytest.mark.parametrize("target", TARGETS)
def test_nonzero_of_any_shape(target):
    model = make_model([helper.make_node("NonZero", ["x"], ["at"])], [("x", TensorProto.INT8, ["a", 3, "b"])], [("at", TensorProto.INT64, 2)])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": rng.integers(0, 2, (a, 3, b)).astype(np.int8)} for a, b in ((1, 1), (2, 5), (7, 16), (0, 4), (3, 33))], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("known_axes", [True, False])
def test_slice_by_the_data(target, known_axes):
    lists = [("starts", TensorProto.INT64, [2]), ("ends", TensorProto.INT64, [2]), ("steps", TensorProto.INT64, [2])]
    axes = np.array([2, 0])
    inputs = [("x", TensorProto.FLOAT, ["n", 2, 9]), *lists] + ([] if known_axes else [("axes", TensorProto.INT64, [2])])
    model = make_model([helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])], inputs, [("y", TensorProto.FLOAT, 3)],
                       [("axes", axes)] if known_axes else ())
    rng = np.random.default_rng(RNG_SEED)
    feeds = []
    for starts, ends, steps in (((0, 0), (9, 4), (1, 1)), ((-3, 1), (100, -1), (1, 2)), ((8, -1), (-100, 0), (-3, -1)), ((5, 0), (2, 100), (1, 1)),
                                ((2**62, 0), (-(2**62), 3), (-1, 1))):
        feed = {"x": rng.random((int(rng.integers(1, 9)), 2, 9), np.float32), "starts": np.array(starts), "ends": np.array(ends), "steps": np.array(steps)}
        feeds.append(feed if known_axes else {**feed, "axes": axes if len(feeds) % 2 else axes - 3})
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
def test_split_by_the_data(target):
    model = make_model([helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1)], [("x", TensorProto.FLOAT, [2, "n"]), ("sizes", TensorProto.INT64, [3])],
                       [(name, TensorProto.FLOAT, 2) for name in "abc"])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": rng.random((2, sum(sizes)), np.float32), "sizes": np.array(sizes)} for sizes in ((1, 1, 1), (0, 7, 2), (16, 0, 0), (3, 30, 5))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_an_axis_from_the_data(target):
    """The same shape for every axis, another one for each, and one axis that does not fit."""
    nodes = [helper.make_node("CumSum", ["x", "scalar"], ["sums"]),
             helper.make_node("ReduceMax", ["x", "axis"], ["largest"], keepdims=0),
             helper.make_node("ReduceSum", ["x", "axis"], ["kept"], keepdims=1),
             helper.make_node("Unsqueeze", ["x", "axis"], ["wide"]),
             helper.make_node("Mul", ["kept", "kept"], ["squares"])]
    model = make_model(nodes, [("x", TensorProto.FLOAT, [3, 4, 5]), ("scalar", TensorProto.INT64, []), ("axis", TensorProto.INT64, [1])],
                       [("sums", TensorProto.FLOAT, 3), ("largest", TensorProto.FLOAT, 2), ("squares", TensorProto.FLOAT, 3), ("wide", TensorProto.FLOAT, 4)])
    x = np.random.default_rng(RNG_SEED).random((3, 4, 5), np.float32)
    feeds = [{"x": x, "scalar": np.array(axis), "axis": np.array([axis])} for axis in (0, 1, 2, -1, -2, -3)]
    check(model, feeds, target)
    with pytest.raises(dlc.Error, match="(?s)out of range|outside"):
        dlc.compile(model, target=target).run({"x": x, "scalar": np.array(0), "axis": np.array([3])})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatters_of_any_length(target, reduction):
    nodes = [helper.make_node("ScatterElements", ["x", "at", "u"], ["elements"], axis=1, reduction=reduction),
             helper.make_node("ScatterND", ["x", "points", "v"], ["rows"], reduction=reduction)]
    model = make_model(nodes, [("x", TensorProto.FLOAT, ["r", "c", 4]), ("at", TensorProto.INT64, ["r", "k", 4]), ("u", TensorProto.FLOAT, ["r", "k", 4]),
                               ("points", TensorProto.INT64, ["m", 2]), ("v", TensorProto.FLOAT, ["m", 4])],
                       [("elements", TensorProto.FLOAT, 3), ("rows", TensorProto.FLOAT, 3)])
    rng = np.random.default_rng(RNG_SEED)
    feeds = []
    for r, c, k, m in ((1, 1, 1, 1), (2, 5, 3, 4), (3, 17, 17, 8), (4, 8, 2, 1), (2, 33, 7, 20)):
        at = np.stack([np.stack([rng.permutation(c)[:k] for _ in range(4)], -1) for _ in range(r)])
        at = np.where(rng.random(at.shape) < 0.5, at, at - c)
        points = np.stack(np.unravel_index(rng.permutation(r * c)[:m], (r, c)), -1)
        feeds.append({"x": rng.random((r, c, 4), np.float32), "at": at, "u": rng.random(at.shape, np.float32),
                      "points": points.astype(np.int64), "v": rng.random((len(points), 4), np.float32)})
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
def test_scatter_out_of_range(target):
    """Invalid data is an error that names the node; nothing is written outside."""
    model = make_model([helper.make_node("ScatterND", ["x", "points", "v"], ["y"], name="place")],
                       [("x", TensorProto.FLOAT, [4, 3]), ("points", TensorProto.INT64, [1, 1]), ("v", TensorProto.FLOAT, [1, 3])],
                       [("y", TensorProto.FLOAT, 2)])
    compiled = dlc.compile(model, target=target)
    feed = {"x": np.zeros((4, 3), np.float32), "points": np.array([[3]]), "v": np.ones((1, 3), np.float32)}
    assert compiled.run(feed)[0].sum() == 3
    for wrong in (4, -5, 2**40):
        with pytest.raises(dlc.Error, match="(?s)out of range|outside"):
            compiled.run({**feed, "points": np.array([[wrong]])})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("center", [0, 1])
def test_nms(target, center):
    rng = np.random.default_rng(RNG_SEED)
    model = make_model([helper.make_node("NonMaxSuppression", ["boxes", "scores", "limit", "iou", "score"], ["selected"], center_point_box=center)],
                       [("boxes", TensorProto.FLOAT, [2, 40, 4]), ("scores", TensorProto.FLOAT, [2, 3, 40]), ("limit", TensorProto.INT64, [1]),
                        ("iou", TensorProto.FLOAT, [1]), ("score", TensorProto.FLOAT, [1])], [("selected", TensorProto.INT64, 2)])
    feeds = []
    for limit, iou, score in ((10, 0.3, 0.2), (1, 0.5, 0.0), (40, 0.0, 0.5), (100, 0.9, 0.9), (0, 0.5, 0.5), (5, 0.5, 2.0)):
        feeds.append({"boxes": rng.random((2, 40, 4), np.float32), "scores": rng.permutation(240).reshape(2, 3, 40).astype(np.float32) / 240,
                      "limit": np.array([limit]), "iou": np.array([iou], np.float32), "score": np.array([score], np.float32)})
    check(model, feeds, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_unique_along_an_axis(target, axis):
    model = make_model([helper.make_node("Unique", ["x"], ["y", "first", "inverse", "counts"], axis=axis)], [("x", TensorProto.INT64, ["n", "m", 2])],
                       [("y", TensorProto.INT64, 3)] + [(name, TensorProto.INT64, 1) for name in ("first", "inverse", "counts")])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": rng.integers(0, 2, (n, m, 2))} for n, m in ((1, 1), (6, 2), (2, 9), (33, 1), (4, 4))], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sorted_", [0, 1])
def test_unique(target, sorted_):
    model = make_model([helper.make_node("Unique", ["x"], ["y", "first", "inverse", "counts"], sorted=sorted_)], [("x", TensorProto.FLOAT, [30])],
                       [("y", TensorProto.FLOAT, 1)] + [(name, TensorProto.INT64, 1) for name in ("first", "inverse", "counts")])
    rng = np.random.default_rng(RNG_SEED)
    check(model, [{"x": rng.integers(0, most, 30).astype(np.float32)} for most in (1, 3, 10, 1000)], target)


def declared(nodes, inputs, dims, kind=TensorProto.FLOAT):
    graph = helper.make_graph(nodes, "declared", [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info("y", kind, dims)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op, inputs, dims, good, bad", [
    ("Reshape", [("x", FLOAT, [2, 3, 4]), ("s", INT, [2])], [6, 4], [[6, 4], [-1, 4], [6, -1]], [[4, 6], [3, 8], [-1, 6], [0, 0]]),
    ("Reshape", [("x", FLOAT, [2, 3, 4]), ("s", INT, [3])], [2, 4, 3], [[0, 4, 3], [2, -1, 3]], [[0, 3, 4], [0, 0, 4]]),
    ("Expand", [("x", FLOAT, [3, 1]), ("s", INT, [3])], [2, 3, 4], [[2, 3, 4], [2, 1, 4]], [[2, 3, 1], [1, 3, 4], [2, 3, 5]]),
    ("Tile", [("x", FLOAT, [2, 3]), ("s", INT, [2])], [4, 9], [[2, 3]], [[4, 9], [3, 2]]),
    ("ConstantOfShape", [("s", INT, [2])], [2, 3], [[2, 3]], [[3, 2], [2, 2]]),
])
def test_declared_sizes(target, op, inputs, dims, good, bad):
    """The model says what comes out, the data say it again; other data are an error."""
    model = declared([helper.make_node(op, [name for name, *_ in inputs], ["y"])], inputs, dims)
    compiled, reference = dlc.compile(model, target=target), onnx.reference.ReferenceEvaluator(model)
    x = {"x": np.random.default_rng(RNG_SEED).random(inputs[0][2], np.float32)} if len(inputs) > 1 else {}
    for values in good:
        feed = {**x, "s": np.array(values)}
        np.testing.assert_array_equal(compiled.run(feed)[0], reference.run(None, feed)[0])
    for values in bad:
        with pytest.raises(dlc.Error, match="a shape computed from the data"):
            compiled.run({**x, "s": np.array(values)})


@pytest.mark.parametrize("target", TARGETS)
def test_declared_ranges(target):
    model = declared([helper.make_node("Range", ["a", "b", "d"], ["y"])], [(name, FLOAT, []) for name in "abd"], [5])
    compiled, reference = dlc.compile(model, target=target), onnx.reference.ReferenceEvaluator(model)
    for a, b, d in ((0, 5, 1), (1, 10, 2), (10, 0.5, -2), (0, 4.1, 1)):
        feed = {name: np.array(v, np.float32) for name, v in zip("abd", (a, b, d))}
        np.testing.assert_allclose(compiled.run(feed)[0], reference.run(None, feed)[0], rtol=1e-6)
    for a, b, d in ((0, 5.1, 1), (0, 4, 1), (0, 5, -1), (0, 0, 0), (0, 5, 0)):
        with pytest.raises(dlc.Error, match="a shape computed from the data"):
            compiled.run({name: np.array(v, np.float32) for name, v in zip("abd", (a, b, d))})
