"""Sequences and optionals at the boundary of a model, and recurrent operators over any number of steps, against onnxruntime."""
import numpy as np
import onnx.parser
import onnxruntime
import pytest

import dlc

TARGETS = ["interp", "host"]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


def load(text):
    model = onnx.parser.parse_model(HEAD + text)
    return model, onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def assert_same(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        if isinstance(b, list):
            assert_same(a, b)
        else:
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_a_sequence_comes_out(target):
    """Its tensors are outputs of their own, of any sizes."""
    model, reference = load("""g (float[6, n] x) => (seq(float[m, n]) parts, float[n] sum) {
        parts = SplitToSequence (x, sizes)
        axis = Constant <value = int64[1] {0}> ()
        sum = ReduceSum <keepdims = 0> (x, axis)
    }""".replace("parts = ", "sizes = Constant <value = int64[3] {1, 3, 2}> ()\n        parts = "))
    compiled = dlc.compile(model, target=target)
    assert [o["name"] for o in compiled.outputs] == ["parts#0", "parts#1", "parts#2", "sum"]
    for n in (1, 5):
        feed = {"x": np.arange(6 * n, dtype=np.float32).reshape(6, n)}
        assert_same(compiled.run(feed), reference.run(None, feed))


@pytest.mark.parametrize("target", TARGETS)
def test_a_sequence_goes_in(target):
    """With shapes it is compiled at once, without by the runs: one model for each combination."""
    model, reference = load("""g (seq(float[]) s, float[2] x) => (seq(float[]) t, float[k] first) {
        zero = Constant <value = int64 {0}> ()
        t = SequenceInsert (s, x, zero)
        one = Constant <value = int64 {1}> ()
        first = SequenceAt (s, zero)
    }""")
    short = {"s": [np.ones(3, np.float32)], "x": np.zeros(2, np.float32)}
    longer = {"s": [np.ones(4, np.float32), np.full((2, 2), 3, np.float32)], "x": np.zeros(2, np.float32)}
    compiled = dlc.compile(model, target=target, shapes={"s": [1], "s#0": [3]})
    assert [i["name"] for i in compiled.inputs] == ["s#0", "x"]
    assert_same(compiled.run(short), reference.run(None, short))
    with pytest.raises(dlc.RunError, match="'s' is a list of 1 arrays"):
        compiled.run(longer)
    lazy = dlc.compile(model, target=target)
    for feed in (short, longer, short):
        assert_same(lazy.run(feed), reference.run(None, feed))
        assert_same(lazy.run([feed["s"], feed["x"]]), reference.run(None, feed))


def test_empty_sequences_are_refused_in_words():
    model = onnx.parser.parse_model(HEAD + "g () => (seq(float[]) y) { y = SequenceEmpty <dtype = 1> () }")
    with pytest.raises(dlc.UnsupportedOpError, match="empty sequence"):
        dlc.compile(model)


@pytest.mark.parametrize("target", TARGETS)
def test_a_position_of_the_data(target):
    model, reference = load("""g (float[2] x, float[2] y, int64 at) => (float[2] z) {
        s = SequenceConstruct (x, y, x)
        z = SequenceAt (s, at)
    }""")
    compiled = dlc.compile(model, target=target)
    for at in (0, 1, -1, -2):
        feed = {"x": np.array([1, 2], np.float32), "y": np.array([3, 4], np.float32), "at": np.array(at)}
        assert_same(compiled.run(feed), reference.run(None, feed))
    with pytest.raises(dlc.Error, match="(?s)out of range|outside"):
        compiled.run({**feed, "at": np.array(3)})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_operators_of_any_length(target, op, gates, direction):
    """Symbolic steps and batch, lengths of the sequences among the inputs."""
    d, hidden, rng = 2 if direction == "bidirectional" else 1, 5, np.random.default_rng(2)
    results = ["y", "yh", "yc"] if op == "LSTM" else ["y", "yh"]
    node = onnx.helper.make_node(op, ["x", "w", "r", "b", "lengths"], results, hidden_size=hidden, direction=direction)
    weights = [onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 3, name)
               for name, shape in (("w", (d, gates * hidden, 3)), ("r", (d, gates * hidden, hidden)), ("b", (d, 2 * gates * hidden)))]
    value = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value("x", 1, ["t", "b", 3]), value("lengths", 6, ["b"])],
                               [value(name, 1, [None] * (4 if name == "y" else 3)) for name in results], weights),
        opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    reference = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = dlc.compile(model, target=target)
    for t, b in ((1, 1), (4, 3), (40, 2)):
        feed = {"x": rng.standard_normal((t, b, 3)).astype(np.float32), "lengths": rng.integers(1, t + 1, b).astype(np.int32)}
        feed["lengths"][0] = t
        assert_same(compiled.run(feed), reference.run(None, feed))
