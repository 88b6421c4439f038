"""If, Loop and Scan that the run decides, against onnxruntime (onnx.reference takes an omitted condition of a Loop for
false, stacks scalars to a matrix, and scans along axis 0 only).

One compilation serves every feed of a case: both branches, no iteration at all, an early end, other sizes."""
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import random_control

import dlc

TARGETS = ["interp", "host"]
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


def check(text, feeds, target, rtol=1e-5, **options):
    """Compiles the model once; every feed must give what onnxruntime gives, twice."""
    model = onnx.parser.parse_model(HEAD + text) if isinstance(text, str) else text
    onnx.checker.check_model(model)
    compiled = dlc.compile(model, target=target, **options)
    reference = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for feed in feeds:
        expected = reference.run(None, feed)
        for _ in range(2):  # a second run meets the first one's workspace
            for got, want in zip(compiled.run(feed), expected):
                want = np.asarray(want)
                assert got.dtype == want.dtype and got.shape == want.shape, (got.shape, want.shape, feed)
                np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)
    return compiled


def ramp(*shape):
    return (np.arange(np.prod(shape), dtype=np.float32) % 13 - 5).reshape(shape)


@pytest.mark.parametrize("target", TARGETS)
def test_if_takes_one_branch(target):
    """Also: the other branch's invalid data is no error."""
    text = """g (bool c, float[n] x, int64[1] at) => (float[n] y, float[1] z) {
        y, z = If (c) <
            then_branch = t () => (float[n] a, float[1] b) { a = Mul(x, x)  b = Gather(x, at) },
            else_branch = e () => (float[n] a, float[1] b) { a = Neg(x)  b = ReduceMax(x) }>
    }"""
    feeds = [{"c": np.array(True), "x": ramp(7), "at": np.array([6])},
             {"c": np.array(False), "x": ramp(7), "at": np.array([0])}, {"c": np.array(True), "x": ramp(40), "at": np.array([0])}]
    compiled = check(text, feeds, target)
    assert compiled.run({"c": np.array(False), "x": ramp(3), "at": np.array([99])})[1] == [-3]
    with pytest.raises(dlc.Error, match="(?s)out of range|outside"):
        compiled.run({"c": np.array(True), "x": ramp(3), "at": np.array([99])})


@pytest.mark.parametrize("target", TARGETS)
def test_if_of_other_sizes(target):
    """A dim on which the branches disagree, and what is computed from it."""
    text = """g (bool c, float[n, 3] x) => (float[p, 3] y, float[3] s, int64[2] shape) {
        axis = Constant <value = int64[1] {0}> ()
        y = If (c) <then_branch = t () => (float[p, 3] a) { a = Concat <axis = 0> (x, x, x) },
                    else_branch = e () => (float[p, 3] a) { a = ReduceMax(x, axis) }>
        s = ReduceSum <keepdims = 0> (y, axis)
        shape = Shape(y)
    }"""
    check(text, [{"c": np.array(c), "x": ramp(n, 3)} for n in (1, 2, 17) for c in (True, False)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_if_of_views_and_captures(target):
    """Branches that compute nothing: an input, a constant, a view, the same value twice."""
    text = """g (bool c, float[2, 6] x) => (float[12] y, float[12] z, float[12] w) {
        shape = Constant <value = int64[1] {12}> ()
        flat = Reshape(x, shape)
        ones = ConstantOfShape <value = float[1] {1}> (shape)
        y, z, w = If (c) <then_branch = t () => (float[12] a, float[12] b, float[12] d) { a = Identity(flat)  b = Identity(ones) d = Exp(flat) },
                       else_branch = e () => (float[12] a, float[12] b, float[12] d) { a = Sin(flat)  b = Identity(a) d = Identity(a) }>
    }"""
    check(text, [{"c": np.array(c), "x": ramp(2, 6)} for c in (True, False)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_branch_for_other_shapes(target):
    """As models for two sample rates have: it is an error when the data choose it, and not before."""
    text = """g (bool c, float[2, n] x) => (float[m] y) {
        y = If (c) <
            then_branch = t () => (float[m] a) { s = Constant <value = int64[1] {12}> ()  a = Reshape(x, s) },
            else_branch = e () => (float[m] a) { s = Constant <value = int64[1] {-1}> ()  b = Reshape(x, s)  a = Neg(b) }>
    }"""
    feed = {"c": np.array(False), "x": ramp(2, 5)}
    compiled = check(text, [feed], target, dims={"n": 5})
    with pytest.raises(dlc.Error, match="a shape computed from the data"):
        compiled.run({**feed, "c": np.array(True)})
    check(text, [{"c": np.array(c), "x": ramp(2, 6)} for c in (True, False)], target, dims={"n": 6})


LOOP = """g (int64 m, bool c, float[n] x, float threshold) => (float[n] y, float[n] z) {
    y, z = Loop (m, c, x, x) <body = b (int64 i, bool going, float[n] u, float[n] v) => (bool more, float[n] p, float[n] q) {
        number = CastLike(i, u)
        p = Add(v, number)
        half = Constant <value = float {0.5}> ()
        q = Mul(u, half)
        most = ReduceMax <keepdims = 0> (p)
        more = Less(most, threshold)
    }>
}"""


@pytest.mark.parametrize("target", TARGETS)
def test_loop_of_any_length(target):
    """Carried tensors that change places, no iteration, an early end."""
    check(LOOP, [{"m": np.array(m), "c": np.array(c), "x": ramp(n), "threshold": np.array(t, np.float32)}
                 for m, c, n, t in ((0, True, 5, 9), (5, False, 5, 9), (1, True, 3, 99), (4, True, 1, 99), (5, True, 20, 99), (1000, True, 9, 12),
                                    (-3, True, 2, 9))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_while(target):
    """No trip count: Newton's square root until it is exact enough."""
    text = """g (float[n] x) => (float[n] y, int64 steps) {
        zero = Constant <value = int64 {0}> ()
        yes = Constant <value = bool {1}> ()
        y, steps = Loop ("", yes, x, zero) <body = b (int64 i, bool going, float[n] r, int64 k) => (bool more, float[n] next, int64 l) {
            half = Constant <value = float {0.5}> ()
            one = Constant <value = int64 {1}> ()
            q = Div(x, r)  sum = Add(r, q)  next = Mul(sum, half)
            error = Sub(next, r)  size = Abs(error)  worst = ReduceMax <keepdims = 0> (size)
            small = Constant <value = float {0.0001}> ()
            more = Greater(worst, small)
            l = Add(k, one)
        }>
    }"""
    check(text, [{"x": np.abs(ramp(n)) + 1} for n in (1, 6, 33)], target)


STACK = """g (float[n] x, float threshold) => (float[n] last, float[t, n] all, int64[t] numbers) {
    m = Constant <value = int64 {MOST}> ()
    yes = Constant <value = bool {1}> ()
    last, all, numbers = Loop (m, yes, x) <body = b (int64 i, bool going, float[n] u) => (bool more, float[n] v, float[n] seen, int64 at) {
        two = Constant <value = float {1.5}> ()
        v = Mul(u, two)
        seen = Neg(u)
        at = Identity(i)
        most = ReduceMax <keepdims = 0> (v)
        more = Less(most, threshold)
    }>
}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("most", [3, 700])
def test_stacks_whose_number_the_data_tell(target, most):
    check(STACK.replace("MOST", str(most)), [{"x": np.abs(ramp(n)) + 1, "threshold": np.array(t, np.float32)} for n, t in ((1, 0), (4, 9), (17, 1e6), (2, 30))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_stacks_with_a_bound_of_the_caller(target):
    text = """g (int64 m, float[3] x) => (float[t, 3] all) {
        last, all = Loop <body = b (int64 i, bool going, float[3] u) => (bool more, float[3] v, float[3] w) {
            more = Identity(going)  v = Add(u, x)  w = Mul(v, x) }> (m, "", x)
    }"""
    model = onnx.parser.parse_model(HEAD + text)
    model.graph.node[0].name = "many"
    with pytest.raises(dlc.UnsupportedOpError, match="-dim=many=0..<n>"):
        dlc.compile(model, target=target)
    compiled = dlc.compile(model, target=target, dims={"many": (0, 20, 4)})
    for m in (0, 1, 20):
        got, = compiled.run({"m": np.array(m), "x": ramp(3)})
        want = np.array([(k + 2) * ramp(3) * ramp(3) for k in range(m)], np.float32).reshape(m, 3)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.raises(dlc.Error, match="(?s)many|iterations"):
        compiled.run({"m": np.array(21), "x": ramp(3)})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("most", [4, 600])
def test_carried_tensors_that_grow(target, most):
    """Two caches that grow together, used together; the end is the data's."""
    text = """g (float[n, 2] x, float threshold) => (float[a, 2] keys, float[b, 2] values, float[2, 2] product) {
        m = Constant <value = int64 {MOST}> ()
        yes = Constant <value = bool {1}> ()
        none = Constant <value = int64[2] {0, 2}> ()
        empty = ConstantOfShape (none)
        keys, values = Loop (m, yes, empty, empty) <body = b (int64 i, bool going, float[a, 2] k, float[b, 2] v) => (bool more, float[c, 2] p, float[d, 2] q) {
            number = CastLike(i, x)
            row = Add(x, number)  square = Mul(row, row)
            p = Concat <axis = 0> (k, row)
            q = Concat <axis = 0> (v, square)
            both = Mul(p, q)
            sum = ReduceSum <keepdims = 0> (both)
            more = Less(sum, threshold)
        }>
        turned = Transpose(keys)
        product = MatMul(turned, values)
    }""".replace("MOST", str(most))
    check(text, [{"x": np.abs(ramp(n, 2)), "threshold": np.array(t, np.float32)} for n, t in ((1, 0), (1, 500), (3, 10000), (2, 100))], target, rtol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_if_in_loop_in_loop(target):
    """A loop in a loop whose length is the outer one's number, and a branch in it."""
    text = """g (int64 m, float[n] x) => (float[n] y, float total) {
        zero = Constant <value = float {0}> ()
        y, total = Loop (m, "", x, zero) <body = outer (int64 i, bool going, float[n] u, float s) => (bool more, float[n] v, float t) {
            v = Loop (i, "", u) <body = inner (int64 j, bool on, float[n] a) => (bool further, float[n] b) {
                two = Constant <value = int64 {2}> ()
                rest = Mod(j, two)
                flag = Cast <to = 9> (rest)
                b = If (flag) <then_branch = odd () => (float[n] d) { d = Sub(a, x) },
                               else_branch = even () => (float[n] d) { number = CastLike(i, a)  d = Add(a, number) }>
                further = Identity(on)
            }>
            sum = ReduceSum <keepdims = 0> (v)
            t = Add(s, sum)
            more = Identity(going)
        }>
    }"""
    check(text, [{"m": np.array(m), "x": ramp(n)} for m, n in ((0, 3), (1, 3), (2, 8), (7, 5), (12, 33))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_loop_in_a_branch(target):
    text = """g (bool c, int64 m, float[4] x) => (float[4] y) {
        y = If (c) <
            then_branch = t () => (float[4] a) {
                a = Loop (m, "", x) <body = b (int64 i, bool going, float[4] u) => (bool more, float[4] v) { v = Add(u, x)  more = Identity(going) }> },
            else_branch = e () => (float[4] a) { a = Neg(x) }>
    }"""
    check(text, [{"c": np.array(c), "m": np.array(m), "x": ramp(4)} for c, m in ((True, 0), (True, 5), (False, 5))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_sizes_of_the_data_inside(target):
    """A count in each iteration; a buffer of the largest size holds every one."""
    text = """g (int64 m, float[n] x) => (float sum, int64 count) {
        zero = Constant <value = float {0}> ()
        none = Constant <value = int64 {0}> ()
        sum, count = Loop (m, "", zero, none) <body = b (int64 i, bool going, float s, int64 k) => (bool more, float t, int64 l) {
            number = CastLike(i, x)
            large = Greater(x, number)
            kept = Compress(x, large)
            twice = Mul(kept, kept)
            total = ReduceSum <keepdims = 0> (twice)
            size = Size(kept)
            t = Add(s, total)  l = Add(k, size)  more = Identity(going)
        }>
    }"""
    check(text, [{"m": np.array(m), "x": ramp(n)} for m, n in ((0, 4), (3, 1), (5, 13), (9, 40))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_shrinking(target):
    """A carried tensor that is filtered until little is left."""
    text = """g (float[n] x, int64 least) => (float[k] y) {
        y = Loop ("", "", x) <body = b (int64 i, bool going, float[k] u) => (bool more, float[l] v) {
            number = CastLike(i, u)
            large = Greater(u, number)
            v = Compress(u, large)
            size = Size(v)
            more = Greater(size, least)
        }>
    }""".replace('Loop ("", "", x)', 'Loop ("", yes, x)').replace("=> (float[k] y) {", "=> (float[k] y) {\n        yes = Constant <value = bool {1}> ()", 1)
    check(text, [{"x": ramp(n), "least": np.array(least)} for n, least in ((1, 0), (13, 2), (40, 5), (100, 0))], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("reverse", [0, 1])
def test_scan_of_any_length(target, reverse):
    """Two scanned operands along other axes; stacks along other axes and backwards."""
    text = """g (float[2] s, float[n, 2] x, float[2, n] w) => (float[2] last, float[n, 2] sums, float[2, n] products) {
        last, sums, products = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [REV, 0],
            scan_output_axes = [0, 1], scan_output_directions = [0, REV],
            body = b (float[2] a, float[2] u, float[2] v) => (float[2] d, float[2] p, float[2] q) {
                d = Add(a, u)  p = Identity(d)  q = Mul(d, v) }> (s, x, w)
    }""".replace("REV", str(reverse))
    check(text, [{"s": ramp(2), "x": ramp(n, 2), "w": ramp(2, n)} for n in (1, 5, 40)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_in_a_loop(target):
    """Constant operands keep their packed layout inside; an LSTM cell carries two states."""
    rng = np.random.default_rng(1)
    text = """g (int64 m, float[s, 1, 8] x, float[1, 1, 16] h, float[1, 1, 16] c) => (float[1, 1, 16] hn, float[1, 1, 16] cn, float[1, 16] p) {
        hn, cn = Loop (m, "", h, c) <body = b (int64 i, bool going, float[1, 1, 16] u, float[1, 1, 16] v) => (bool more, float[1, 1, 16] hu, float[1, 1, 16] cu) {
            part = Gather <axis = 0> (x, i)
            axes = Constant <value = int64[1] {0}> ()
            step = Unsqueeze(part, axes)
            all, hu, cu = LSTM <hidden_size = 16> (step, w, r, "", "", u, v)
            more = Identity(going)
        }>
        flat = Squeeze(hn, zero)
        p = MatMul(flat, matrix)
    }"""
    model = onnx.parser.parse_model(HEAD + text)
    for name, shape in (("w", (1, 64, 8)), ("r", (1, 64, 16)), ("matrix", (16, 16))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 4, name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    check(model, [{"m": np.array(m), "x": rng.standard_normal((s, 1, 8)).astype(np.float32), "h": rng.standard_normal((1, 1, 16)).astype(np.float32),
                   "c": rng.standard_normal((1, 1, 16)).astype(np.float32)} for m, s in ((0, 3), (3, 3), (5, 9))], target, rtol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_sequences_of_fixed_length_are_carried(target):
    text = """g (int64 m, float[3] x) => (float[3] y) {
        zero = Constant <value = int64 {0}> ()
        one = Constant <value = int64 {1}> ()
        start = SequenceConstruct(x, x)
        list = Loop (m, "", start) <body = b (int64 i, bool going, seq(float[3]) s) => (bool more, seq(float[3]) t) {
            a = SequenceAt(s, zero)  d = SequenceAt(s, one)
            sum = Add(a, d)
            t = SequenceConstruct(d, sum)
            more = Identity(going)
        }>
        y = SequenceAt(list, one)
    }"""
    check(text, [{"m": np.array(m), "x": ramp(3)} for m in (0, 1, 6)], target)


@pytest.mark.parametrize("bad, reason", [
    ("""g (bool c, float[2, 3] x) => (float y) {
        r = If (c) <then_branch = t () => (float[2, 3] a) { a = Identity(x) },
                    else_branch = e () => (float[6] a) { s = Constant <value = int64[1] {6}> ()  a = Reshape(x, s) }>
        y = ReduceSum <keepdims = 0> (r)
    }""", "branches that give"),
    ("""g (int64 m, float[2] x) => (float[k] y) {
        y = Loop (m, "", x) <body = b (int64 i, bool going, float[k] u) => (bool more, float[l] v) { v = Concat <axis = 0> (u, u)  more = Identity(going) }>
    }""", "grows"),
    ("""g (int64 m, float[2] x) => (seq(float[2]) y) {
        none = SequenceEmpty <dtype = 1> ()
        y = Loop (m, "", none) <body = b (int64 i, bool going, seq(float[2]) u) => (bool more, seq(float[2]) v) { v = SequenceInsert(u, x)  more = Identity(going) }>
    }""", "sequence"),
    ("""g (int64 m, float[4] x) => (float[4] y) {
        y = Loop (m, "", x) <body = b (int64 i, bool going, float[4] u) => (bool more, float[4] v) { s = Shape(u) v = Resize(u, "", "", i)  more = Identity(going) }>
    }""", "Resize"),
])
def test_refused_in_words(bad, reason):
    """What has no bound, or another rank, or no tensor."""
    with pytest.raises(dlc.CompileError, match=f"(?s){reason}"):
        dlc.compile(onnx.parser.parse_model(HEAD + bad), target="host")


@pytest.mark.parametrize("seed", range(8))
def test_random_models(seed):
    model, rng = random_control.make_model(seed), np.random.default_rng(seed)
    check(model, [random_control.make_feed(rng, n, m) for n, m in ((1, 0), (2, 3), (5, 1), (9, 4))], "interp" if seed % 4 == 3 else "host", rtol=1e-4)


def test_random_models_meet_control_flow():
    """The generator makes what it is for, and a wrong answer would be seen: outputs differ between feeds."""
    kinds, rng = set(), np.random.default_rng(0)
    for seed in range(8):
        model = random_control.make_model(seed)
        kinds |= {n.op_type for n in model.graph.node}
        run = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        a, b = (run.run(None, random_control.make_feed(rng, 4, m))[0] for m in (1, 2))
        assert np.isfinite(a).all() and not np.allclose(a, b)
    assert {"If", "Loop", "Scan"} <= kinds
