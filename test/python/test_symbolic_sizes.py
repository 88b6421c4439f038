"""What is known of symbolic sizes: comparisons under the bounds of -dim, and dims of different names that must be equal."""

import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

import dlc
from dlc.compiler import tool

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def parse(text):
    return onnx.parser.parse_model(HEADER + text)


def array(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape).astype(np.float32)


# Takes one branch for long inputs, the other for short ones.
BRANCH = """branch (float[N, 3] x) => (float[N, 3] y) <int64 limit = {128}> {
  n = Shape <start = 0, end = 1> (x)
  isLong = OPERATOR(n, limit)
  y = If (isLong) <then_branch = long () => (float[N, 3] a) { a = Relu(x) },
                   else_branch = short () => (float[N, 3] b) { b = Neg(x) }>
}"""
HOLDS = {"Greater": lambda n: n > 128, "GreaterOrEqual": lambda n: n >= 128, "Less": lambda n: n < 128,
         "LessOrEqual": lambda n: n <= 128, "Equal": lambda n: n == 128}


@pytest.mark.parametrize("operator", HOLDS)
@pytest.mark.parametrize("low, high", [(0, 127), (0, 128), (128, 128), (128, 300), (129, 300), (0, 300), (None, None)])
def test_a_comparison_that_the_bounds_decide_is_no_branch(operator, low, high, tmp_path):
    model = parse(BRANCH.replace("OPERATOR", operator))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    flags = [] if low is None else [f"-dim=N={low}..{high}"]
    graph = subprocess.run([tool("dlc"), path, "-emit=graph", "-o", "-", "-q", *flags], capture_output=True, text=True, check=True).stdout
    holds, (least, most) = HOLDS[operator], (0, 10**6) if low is None else (low, high)
    sizes = [n for n in (0, 1, 127, 128, 129, 300) if least <= n <= most]
    decided = len({holds(n) for n in sizes}) == 1
    assert ("graph.if" in graph) == (not decided)
    compiled = dlc.compile(model, dims=None if low is None else {"N": (low, high)})
    for n in sizes:
        x = array(n, 3)
        assert np.array_equal(compiled(x), np.maximum(x, 0) if holds(n) else -x), n


def test_sizes_outside_the_bounds_are_refused_by_everyone(tmp_path):
    model = parse(BRANCH.replace("OPERATOR", "Greater"))
    x = array(129, 3)
    with pytest.raises(dlc.RunError, match=r"'N'.* is 129, the model was built for 0\.\.128"):
        dlc.compile(model, dims={"N": (0, 128)})(x)
    onnx.save(model, tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run([tool("dlc-run"), tmp_path / "model.onnx", "-target=interp", "-dim=N=0..128", f"-inputs={tmp_path}/x.npy"],
                          capture_output=True, text=True)
    assert done.returncode and "is for 'N' from 0 to 128, got 129" in done.stderr


# The first min(N, 64) rows.
CLIPPED = """clipped (float[N, 3] x) => (float[K, 3] y) <int64 zero = {0}, int64 most = {64}> {
  n = Shape <start = 0, end = 1> (x)
  end = Min(n, most)
  y = Slice(x, zero, end)
}"""


@pytest.mark.parametrize("bounds, sizes", [((0, 64), (0, 1, 5, 63, 64)), ((64, 200), (64, 65, 100, 199, 200))])
def test_min_and_max_of_sizes(bounds, sizes):
    clipped = dlc.compile(parse(CLIPPED), dims={"N": bounds})
    padded = dlc.compile(parse("""padded (float[N] x) => (float[K, N] y) <int64 least = {2}> {
        n = Shape(x)  rows = Max(n, least)  shape = Concat <axis = 0> (rows, n)  y = Expand(x, shape) }"""),
        dims={"N": (max(2, bounds[0]), bounds[1])})
    for n in sizes:
        x = array(n, 3)
        assert np.array_equal(clipped(x), x[:64])
        if n >= 2:
            assert padded(x[:, 0].copy()).shape == (n, n)


def test_two_symbols_and_sums():
    text = """order (float[N] x, float[M] y) => (float[P] z) <int64 one = {1}> {
        n = Shape(x)  m = Shape(y)  more = Add(n, one)
        less = Less(n, m)  grows = Greater(more, n)
        a = Cast <to = 1> (less)  b = Cast <to = 1> (grows)  c = Add(a, b)  z = Mul(x, c) }"""
    for dims, sizes in ((None, ((1, 2), (3, 3), (5, 2))), ({"N": (1, 4), "M": (5, 9)}, ((1, 5), (4, 9)))):
        model = dlc.compile(parse(text), dims=dims)
        for n, m in sizes:
            assert np.array_equal(model(array(n), array(m)), array(n) * ((n < m) + 1)), (n, m)


# Dims of different names are taken to be equal, and each run checks that they are.
EQUAL = {
    "add": ("(float[N, 3] x, float[M, 3] y) => (float[P, 3] z) { z = Add(x, y) }", lambda x, y: x + y),
    "where": ("(float[N, 3] x, float[M, 3] y) => (float[P, 3] z) { c = Less(x, y)  z = Where(c, x, y) }", np.minimum),
    "expand": ("(float[N, 3] x, float[M, 3] y) => (float[P, 3] z) { s = Shape(y)  e = Expand(x, s)  z = Sub(e, y) }",
               lambda x, y: x - y),
    "inner": ("(float[3, N] x, float[3, M] y) => (float[3, P] z) { z = Mul(x, y) }", lambda x, y: x * y),
    "product": ("(float[N, 3, 3] x, float[M, 3, 3] y) => (float[P, 3, 3] z) { z = MatMul(x, y) }", np.matmul),
}


@pytest.mark.parametrize("name", EQUAL)
def test_dims_of_different_names(name):
    text, reference = EQUAL[name]
    model = dlc.compile(parse(f"{name} {text}"))
    shape = [dim if isinstance(dim, int) else None for dim in model.inputs[0]["shape"]]

    def make(n, seed):
        return np.random.default_rng(seed).normal(size=[n if d is None else d for d in shape]).astype(np.float32)

    for n in (0, 1, 2, 5, 16, 33):
        x, y = make(n, 1), make(n, 2)
        assert np.allclose(model(x, y), reference(x, y), atol=1e-5), n
    for n, m in ((5, 4), (5, 1), (1, 5), (0, 1), (1, 0)):
        with pytest.raises(dlc.RunError, match=r"dim \d is [NM], expected [NM]") as refusal:
            model(make(n, 1), make(m, 2))
        if name == "add":
            assert "known to be 1" in str(refusal.value)
    # A size that is known to be one is broadcast.
    one = dlc.compile(parse(f"{name} {text}"), dims={"M": 1})
    for n in (0, 1, 5, 16, 33):
        x, y = make(n, 1), make(1, 2)
        assert np.allclose(one(x, y), reference(x, y), atol=1e-5), n


# Bounds of slices that only the run tells: right, or refused, and never a read outside.
SLICES = {
    "to another dim": ("<int64 zero = {0}> { m = Shape(y)  z = Slice(x, zero, m) }", lambda x, m: x[:m], lambda n, m: m <= n),
    "from another dim": ("<int64 most = {9223372036854775807}> { m = Shape(y)  z = Slice(x, m, most) }",
                         lambda x, m: x[m:], lambda n, m: m <= n),
    "from the end": ("<int64 start = {-3}, int64 most = {9223372036854775807}> { z = Slice(x, start, most) }",
                     lambda x, m: x[-3:], lambda n, m: n >= 3),
    "to the end": ("<int64 zero = {0}, int64 end = {-2}> { z = Slice(x, zero, end) }", lambda x, m: x[:-2], lambda n, m: n >= 2),
    "a difference": ("<int64 zero = {0}> { m = Shape(y)  n = Shape <start = 0, end = 1> (x)  d = Sub(n, m)  z = Slice(x, d, n) }",
                     lambda x, m: x[len(x) - m:], lambda n, m: m <= n),
    "split": ("{ m = Shape(y)  n = Shape <start = 0, end = 1> (x)  d = Sub(n, m)  s = Concat <axis = 0> (m, d)  z, rest = Split(x, s) }",
              lambda x, m: x[:m], lambda n, m: m <= n),
    "of a constant": ("""<int64 zero = {0}, float[4, 3] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
                      m = Shape(y)  part = Slice(table, zero, m)  first = ReduceMax <keepdims = 0> (x)  z = Add(part, first) }""",
                      lambda x, m: np.arange(1, 13, dtype=np.float32).reshape(4, 3)[:m] + x.max(), lambda n, m: n and m <= 4),
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_stay_inside(name):
    text, reference, fits = SLICES[name]
    model = dlc.compile(parse(f"sliced (float[N, 3] x, float[M] y) => (float[K, 3] z) {text}"))
    right = 0
    for n in (0, 1, 2, 3, 5, 40):
        for m in (0, 1, 3, 4, 5, 40, 5000):
            x, y = array(n, 3), array(m)
            if fits(n, m):
                assert np.array_equal(model(x, y), reference(x, m)), (n, m)
                right += 1
            elif not (name == "of a constant" and n == 0):
                with pytest.raises(dlc.RunError, match="z: |'z|part: "):
                    model(x, y)
    assert right >= 5


def test_a_slice_in_a_branch_is_checked_where_it_runs():
    model = dlc.compile(parse("""branch (float[N] x, float[M] y, bool take) => (float[K] z) <int64 zero = {0}> {
        z = If (take) <then_branch = cut () => (float[K] a) { m = Shape(y)  a = Slice(x, zero, m) },
                       else_branch = all () => (float[K] b) { b = Neg(x) }>
    }"""))
    for n, m in ((5, 3), (5, 5), (4, 0), (1, 1), (0, 0), (3, 7)):
        x, y = array(n), array(m)
        assert np.array_equal(model(x, y, np.array(False)), -x)  # nobody asks
        if m <= n:
            assert np.array_equal(model(x, y, np.array(True)), x[:m])
        else:
            with pytest.raises(dlc.RunError, match="shape computed from the data is not valid|data error"):
                model(x, y, np.array(True))


def test_a_grid_is_numbered_by_float_sizes():
    """Detectors number the cells of a grid by Range over heights that were cast to float."""
    model = parse("""grid (float[1, 2, H, W] x) => (float[rows] ys, float[cells] xs) <int64[1] two = {2}, int64[1] three = {3}, float zero = {0}, float one = {1}> {
      h = Shape <start = 2, end = 3> (x)  w = Shape <start = 3, end = 4> (x)
      hs = Squeeze(h)  ws = Squeeze(w)
      hf = Cast <to = 1> (hs)  wf = Cast <to = 1> (ws)
      ys = Range(zero, hf, one)  xs = Range(one, wf, one)
    }""")
    compiled = dlc.compile(model)
    for h, w in ((3, 5), (7, 1), (1, 130)):
        ys, xs = compiled(array(1, 2, h, w))
        assert np.array_equal(ys, np.arange(h, dtype=np.float32)) and np.array_equal(xs, np.arange(1, w, dtype=np.float32))
        assert ys.dtype == np.float32


def test_positions_after_a_cache_are_a_range():
    """Decoders number their tokens by Range(past, past + new, 1); steps other than 1 and downward ranges have symbolic bounds, too."""
    model = parse("""positions (float[P] past, float[N] x) => (int64[N] places, int64[a] odd, int64[b] down, float[c] real)
        <int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 minus = {-1}, float fone = {1}> {
      ps = Shape(past)  ns = Shape(x)
      p = Squeeze(ps)  n = Squeeze(ns)
      total = Add(p, n)  last = Sub(total, one)
      pf = Cast <to = 1> (p)  tf = Cast <to = 1> (total)
      places = Range(p, total, one)  odd = Range(one, total, two)
      down = Range(last, minus, minus)  real = Range(pf, tf, fone)
    }""")
    compiled = dlc.compile(model)
    for p, n in ((0, 4), (7, 1), (5, 16), (300, 33)):
        places, odd, down, real = compiled.run([array(p), array(n)])
        assert np.array_equal(places, np.arange(p, p + n)) and np.array_equal(odd, np.arange(1, p + n, 2))
        assert np.array_equal(down, np.arange(p + n)[::-1]) and np.array_equal(real, np.arange(p, p + n, dtype=np.float32))
    with pytest.raises(dlc.RunError, match="the range is empty"):
        compiled.run([array(0), array(0)])


def test_squeeze_of_all_ones_has_one_rank():
    """Without axes a dim of 1 would be dropped, so a symbolic one must be another size in every run."""
    model = parse("squeeze (float[N, 1, 3] x) => (float[N, 3] y) { s = Squeeze(x)  y = Relu(s) }")
    compiled = dlc.compile(model)
    x = array(4, 1, 3)
    assert np.array_equal(compiled(x), np.maximum(x[:, 0], 0))
    with pytest.raises(dlc.RunError, match="without 'axes' a dim of 1 is squeezed, and dim 0 is symbolic"):
        compiled(x[:1])
    single = parse("squeeze (float[N, 1, 3] x) => (float[3] y) { s = Squeeze(x)  y = Relu(s) }")
    assert np.array_equal(dlc.compile(single, dims={"N": 1})(x[:1]), np.maximum(x[0, 0], 0))


# As exporters write the length that a strided convolution leaves: a table of places is cut to it.
STRIDED = """encode (float[N, 4, T] x, float[4, 4, 3] w, float[40, 4] places) => (float[N, S, 4] y, int64[S] steps) {
  c = Conv <strides = [2], pads = [1, 1]> (x, w)
  t = Transpose <perm = [0, 2, 1]> (c)
  frames = Shape <start = 2, end = 3> (x)
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  zero = Constant <value_ints = [0]> ()
  before = Sub(frames, one)
  half = Div(before, two)
  length = Add(half, one)
  places_used = Slice(places, zero, length, zero)
  y = Add(t, places_used)
  start = Constant <value_int = 0> ()
  delta = Constant <value_int = 1> ()
  end = Squeeze(length, zero)
  steps = Range(start, end, delta)
}"""


def test_the_length_after_a_stride_is_known():
    model = dlc.compile(parse(STRIDED))
    w, places = array(4, 4, 3), array(40, 4)
    for n, t in (1, 1), (2, 2), (3, 7), (1, 80):
        x = array(n, 4, t)
        y, steps = model.run([x, w, places])
        padded, s = np.pad(x, ((0, 0), (0, 0), (1, 1))), (t - 1) // 2 + 1
        expected = np.stack([np.einsum("nck,ock->no", padded[:, :, 2 * i:2 * i + 3], w) for i in range(s)], 1) + places[:s]
        assert np.array_equal(steps, np.arange(s)) and np.allclose(y, expected, rtol=1e-4, atol=1e-5), (n, t)
    with pytest.raises(dlc.RunError, match="a size that is divided is negative"):
        model.run([array(1, 4, 0), w, places])
    with pytest.raises(dlc.RunError, match="past"):
        model.run([array(1, 4, 81), w, places])


def test_the_length_after_several_strides_is_known():
    """torch.export writes what five strided convolutions leave as 4 + 4 * ((n / 2 - 1) / 16)."""
    model = dlc.compile(parse("""grid (float[N] x, float[M] y) => (float[K, 4] z) <int64[1] two = {2}, int64[1] one = {1}, int64[1] sixteen = {16}, int64[1] four = {4}> {
        n = Shape(x)  half = Div(n, two)  less = Sub(half, one)  steps = Div(less, sixteen)  quads = Mul(steps, four)  rows = Add(quads, four)
        shape = Concat <axis = 0> (rows, four)  first = ReduceMax <keepdims = 0> (y)  z = Expand(first, shape) }"""))
    for n in (2, 33, 34, 64, 320):
        assert model(array(n), array(3)).shape == (4 + 4 * ((n // 2 - 1) // 16), 4)
    with pytest.raises(dlc.RunError, match="a size that is divided is negative"):
        model(array(1), array(3))


def test_a_size_that_may_be_negative_is_not_rounded_down():
    """(100 - N) / 3 rounds to zero: as a number it is the run's, as a size it is refused."""
    text = """margin (float[N] x) => (int64[1] m) {
      n = Shape(x) wanted = Constant <value_ints = [100]> () three = Constant <value_ints = [3]> ()
      rest = Sub(wanted, n) m = Div(rest, three) }"""
    model = dlc.compile(parse(text))
    for n in 0, 99, 100, 101, 104:
        assert model.run([array(n)])[0] == int((100 - n) / 3)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_the_last_window_may_reach_over_a_symbolic_dim(operator):
    """ceil_mode; refused where a window may begin in the padding, which then does not count."""
    text = """pool (float[1, 2, T] x) => (float[1, 2, S] y) { y = OPERATOR <kernel_shape = [3], strides = [2], pads = [PADS], ceil_mode = 1> (x) }"""
    for pads in "0, 0", "1, 1":
        model = dlc.compile(parse(text.replace("OPERATOR", operator).replace("PADS", pads)))
        low, high = map(int, pads.split(","))
        for t in 3, 4, 9, 10, 40:
            x = array(1, 2, t)
            count = -((low + high + t - 3) // -2) + 1
            windows = [x[:, :, max(0, 2 * i - low):2 * i - low + 3] for i in range(count)]
            fold = np.max if operator == "MaxPool" else np.mean
            assert np.allclose(model.run([x])[0], np.stack([fold(v, 2) for v in windows], 2), atol=1e-6), (pads, t)
    with pytest.raises(dlc.UnsupportedOpError, match="may start in the padding"):
        dlc.compile(parse(text.replace("OPERATOR", operator).replace("PADS", "0, 2")))


# Text, what numpy does, and for which sizes of x it runs.
PARTS = {
    "every second": ("<int64[1] start = {1}, int64[1] end = {9223372036854775807}, int64[1] axis = {0}, int64[1] step = {2}> { z = Slice(x, start, end, axis, step) }",
                     lambda x: [x[1::2]], lambda n: n >= 1),
    "every third but one": ("<int64[1] start = {0}, int64[1] end = {-1}, int64[1] axis = {0}, int64[1] step = {3}> { z = Slice(x, start, end, axis, step) }",
                            lambda x: [x[:-1:3]], lambda n: n >= 1),
    "backwards": ("<int64[1] start = {-1}, int64[1] end = {-9223372036854775807}, int64[1] axis = {0}, int64[1] step = {-3}> { z = Slice(x, start, end, axis, step) }",
                  lambda x: [x[::-3]], lambda n: n >= 1),
    "halves": ("{ z, rest = Split <axis = 0, num_outputs = 2> (x) }", lambda x: np.array_split(x, 2), lambda n: True),
    "fourths": ("{ z, a, b, rest = Split <axis = 0, num_outputs = 4> (x) }",
                lambda x: [x[i * -(len(x) // -4):(i + 1) * -(len(x) // -4)] for i in range(4)], lambda n: n >= 3 * -(n // -4)),
    "patches": ("""<int64[2] even = {0, 0}, int64[2] odd = {1, 0}, int64[2] end = {9223372036854775807, 9223372036854775807}, int64[2] axes = {0, 1}, int64[2] steps = {2, 1}>
                   { a = Slice(x, even, end, axes, steps)  b = Slice(x, odd, end, axes, steps)  z = Concat <axis = 1> (a, b) }""",
                lambda x: [np.concatenate([x[::2], x[1::2]], 1)], lambda n: n % 2 == 0 and n),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_a_symbolic_dim(name):
    text, reference, fits = PARTS[name]
    model = dlc.compile(parse(f"part (float[N, 3] x) => (float[K, W] z) {text}"))
    for n in 0, 1, 2, 3, 4, 5, 7, 12, 41:
        x = array(n, 3)
        if fits(n):
            assert np.array_equal(model.run([x])[0], reference(x)[0]), n
        elif n:
            with pytest.raises(dlc.RunError):
                model.run([x])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pads_computed_from_sizes(mode):
    """As exporters write "up to a multiple of 8", whose pads are pairs that a reversal and a transposition make ends of."""
    model = dlc.compile(parse(f"""padded (float[N, M] x) => (float[A, B] y)
    <int64[1] seven = {{7}}, int64[1] eight = {{8}}, int64[1] first = {{-1}}, int64[1] last = {{-9223372036854775807}}, int64[1] zero = {{0}},
     int64[1] back = {{-1}}, int64[2] pairs = {{-1, 2}}, int64[2] none = {{0, 0}}> {{
        s = Shape(x)  a = Add(s, seven)  d = Div(a, eight)  m = Mul(d, eight)  rest = Sub(m, s)
        rows = Slice(rest, zero, back)  columns = Slice(rest, first, seven)
        list = Concat <axis = 0> (zero, columns, zero, rows)
        matrix = Reshape(list, pairs)  reversed = Slice(matrix, first, last, zero, back)
        ends = Transpose <perm = [1, 0]> (reversed)  pads = Reshape(ends, first)
        y = Pad <mode = "{mode}"> (x, pads) }}"""))
    for n, m in ((5, 3), (8, 16), (1, 1), (16, 2), (33, 40)):
        x = array(n, m)
        want = np.pad(x, [(0, -n % 8), (0, -m % 8)], mode)
        assert np.array_equal(model(x), want), (n, m)


def test_pads_may_not_be_negative():
    model = dlc.compile(parse("""padded (float[N] x, float[M] y) => (float[M] z) <int64[1] zero = {0}> {
        n = Shape(x)  m = Shape(y)  rest = Sub(m, n)  pads = Concat <axis = 0> (zero, rest)
        wide = Pad(x, pads)  z = Add(wide, y) }"""))
    for n, m in ((0, 0), (3, 3), (3, 9), (0, 4), (1, 40)):
        x, y = array(n), array(m)
        assert np.array_equal(model(x, y), np.pad(x, (0, m - n)) + y)
    with pytest.raises(dlc.RunError, match="'pads' is negative"):
        model(array(5), array(4))


WINDOWS = {"conv": 'Conv <kernel_shape = [3, 5], ATTRIBUTES> (x, w)', "max": "MaxPool <kernel_shape = [2, 3], ATTRIBUTES> (x)",
           "average": "AveragePool <kernel_shape = [3, 4], ATTRIBUTES> (x)",
           "average of pads": "AveragePool <kernel_shape = [3, 3], count_include_pad = 1, ATTRIBUTES> (x)",
           "one axis": "MaxPool <kernel_shape = [1, 3], ATTRIBUTES> (x)"}


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("name", WINDOWS)
def test_same_pads_of_symbolic_dims_with_a_stride(name, automatic):
    text = WINDOWS[name].replace("ATTRIBUTES", f'auto_pad = "{automatic}", strides = [{1 if name == "one axis" else 2}, 3]')
    model = parse(f"windows (float[B, 2, H, W] x) => (float[B, C, P, Q] y) {{ y = {text} }}")
    if "w)" in text:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array(4, 2, 3, 5), "w"))
    compiled = dlc.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for b, h, w in ((1, 7, 9), (1, 8, 10), (2, 9, 11), (1, 1, 1), (1, 2, 30), (3, 16, 3)):
        x = array(b, 2, h, w)
        np.testing.assert_allclose(compiled(x), session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-5)


def test_first_elements_of_a_symbolic_dim():
    model = dlc.compile(parse("""first (float[B, N, 4] x) => (float[B, 3, 4] y) <int64[1] zero = {0}, int64[1] three = {3}, int64[1] one = {1}> {
        y = Slice(x, zero, three, one) }"""))
    for b, n in ((1, 3), (2, 4), (1, 100)):
        x = array(b, n, 4)
        assert np.array_equal(model(x), x[:, :3])
    with pytest.raises(dlc.RunError, match="the end is past the dim"):
        model(array(1, 2, 4))


def test_a_squeeze_that_asks_first():
    """torch's exporter squeezes a dim under a condition: a symbolic one stays."""
    model = parse("""squeezed (float[B, N, 4] x) => (float[B, 4] y) <int64[1] at = {1}, int64 position = {1}, int64 one = {1}, int64[1] zero = {0}> {
        s = Shape(x)  n = Gather(s, position)  isOne = Equal(n, one)
        q = If (isOne) <then_branch = squeeze () => (float[B, 4] a) { a = Squeeze(x, at) },
                        else_branch = keep () => (float[B, N, 4] b) { b = Identity(x) }>
        y = ReduceSum <keepdims = 0> (q, at) }""")
    compiled = dlc.compile(model)
    for n in (2, 5):
        x = array(3, n, 4)
        np.testing.assert_allclose(compiled(x), x.sum(1), rtol=1e-5)
    with pytest.raises(dlc.RunError, match="for a 1 give it its size"):
        compiled(array(3, 1, 4))


def test_the_last_elements_by_a_symbolic_number():
    """x[-t:], as torch.export writes it."""
    model = dlc.compile(parse("""last (float[N, 4] x, float[T] t) => (float[T, 4] y) <int64[1] most = {9223372036854775807}> {
        n = Shape(t)  back = Neg(n)  y = Slice(x, back, most) }"""))
    for n, t in ((5, 1), (5, 5), (40, 7)):
        x = array(n, 4)
        assert np.array_equal(model(x, array(t)), x[-t:])
    for n, t in ((5, 6), (5, 0)):
        with pytest.raises(dlc.RunError, match="bound from"):
            model(array(n, 4), array(t))


def test_spectrum_of_a_symbolic_signal():
    model = parse("spectrum (float[B, N] x) => (float[B, F, 33, 2] y) <int64 step = {24}> { y = STFT <onesided = 1> (x, step, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.hanning(64).astype(np.float32), "w"))
    compiled = dlc.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for b, n in ((1, 64), (2, 100), (1, 333)):
        x = array(b, n)
        np.testing.assert_allclose(compiled(x), session.run(None, {"x": x})[0], atol=1e-4)
    with pytest.raises(dlc.RunError, match="shorter than a frame"):
        compiled(array(1, 63))


FACTORS = {"twice": (2.0, lambda n: 2 * n), "half": (0.5, lambda n: n // 2), "once and a half": (1.5, lambda n: n * 3 // 2)}


@pytest.mark.parametrize("name", FACTORS)
def test_sizes_that_pass_through_floats(name):
    """floor(float(size) * factor), as exporters scale images."""
    factor, scaled = FACTORS[name]
    model = parse("""scaled (float[1, N, M] x) => (float[1, A, B] y) <float[3] factors = {1, FACTOR, FACTOR}> {
        s = Shape(x)  f = Cast <to = 1> (s)  m = Mul(f, factors)  w = Floor(m)  sizes = Cast <to = 7> (w)
        y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (x, , , sizes) }""".replace("FACTOR", str(factor)))
    compiled = dlc.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for n, m in ((4, 6), (5, 7), (16, 2)):
        x = array(1, n, m)
        y = compiled(x)
        assert y.shape == (1, scaled(n), scaled(m))
        np.testing.assert_allclose(y, session.run(None, {"x": x})[0], atol=1e-5)


def test_scales_that_are_sizes_over_sizes():
    model = parse("""scaled (float[1, N, M] x, float[1, A, B] y) => (float[1, A, B] z) {
        s = Shape(x)  f = Cast <to = 1> (s)  t = Shape(y)  g = Cast <to = 1> (t)  scales = Div(g, f)
        r = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (x, , scales)  z = Add(r, y) }""")
    compiled = dlc.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for from_, to in (((4, 6), (8, 12)), ((5, 7), (10, 7)), ((8, 8), (4, 24))):
        x, y = array(1, *from_), array(1, *to)
        np.testing.assert_allclose(compiled(x, y), session.run(None, {"x": x, "y": y})[0], atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_images_of_symbolic_size_are_sampled(mode, padding):
    for align in 0, 1:
        model = parse(f"""sampled (float[B, 2, H, W] x, float[B, P, Q, 2] g) => (float[B, 2, P, Q] y) {{
            y = GridSample <mode = "{mode}", padding_mode = "{padding}", align_corners = {align}> (x, g) }}""")
        compiled = dlc.compile(model)
        for b, h, w in ((1, 5, 7), (2, 3, 2), (1, 1, 4)):
            x, g = array(b, 2, h, w), (array(b, 3, 4, 2) * 0.9).astype(np.float32)
            known = dlc.compile(model, dims={"B": b, "H": h, "W": w, "P": 3, "Q": 4})
            np.testing.assert_allclose(compiled(x, g), known(x, g), atol=1e-5)


def test_regions_of_an_image_of_symbolic_size():
    model = parse("""regions (float[B, 2, H, W] x, float[R, 4] rois, int64[R] at) => (float[R, 2, 3, 3] y) {
        y = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2, coordinate_transformation_mode = "half_pixel"> (x, rois, at) }""")
    compiled = dlc.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for b, h, w, r in ((1, 8, 9, 3), (2, 5, 20, 1)):
        x, at = array(b, 2, h, w), np.arange(r) % b
        corner = np.abs(array(r, 2))
        rois = np.concatenate([corner, corner + 3], 1).astype(np.float32)
        np.testing.assert_allclose(compiled(x, rois, at), session.run(None, {"x": x, "rois": rois, "at": at})[0], atol=1e-5)


def test_a_remainder_has_bounds():
    """Padding to a multiple: (8 - n % 8) % 8 is never negative, however the simplifier writes it."""
    model = dlc.compile(parse("""padded (float[N] x) => (float[M] y) <int64[1] eight = {8}, int64[1] zero = {0}> {
        n = Shape(x)  over = Mod(n, eight)  less = Sub(eight, over)  rest = Mod(less, eight)
        pads = Concat <axis = 0> (zero, rest)  y = Pad(x, pads) }"""))
    for n in 1, 7, 8, 9, 40:
        assert np.array_equal(model(array(n)), np.pad(array(n), (0, -n % 8)))


def test_a_loop_from_the_second_step():
    """for t in range(1, n), as torch.jit.script writes it: ceil(float(n - 1) / 1.0) iterations, in which a result grows."""
    model = dlc.compile(parse("""steps (float[N, 3] x, float[0, 3] none) => (float[3] last, float[K, 3] all) <int64 zero = {0}, int64 one = {1}, float unit = {1}, int64[1] axis = {0}> {
        s = Shape(x)  n = Gather(s, zero)  less = Sub(n, one)  f = Cast <to = 1> (less)  q = Div(f, unit)  c = Ceil(q)  trips = Cast <to = 7> (c)
        first = Gather(x, zero)  yes = Constant <value = bool {1}> ()
        last, all = Loop (trips, yes, first, none) <body = b (int64 i, bool go, float[3] h, float[P, 3] rows) => (bool on, float[3] g, float[Q, 3] more) {
            t = Add(i, one)  now = Gather(x, t)  g = Max(h, now)  row = Unsqueeze(g, axis)  more = Concat <axis = 0> (rows, row)  on = Identity(go) }> }"""))
    for n in 1, 2, 7:
        x = array(n, 3)
        last, rows = model(x, np.zeros((0, 3), np.float32))
        assert np.array_equal(last, x.max(0)) and np.array_equal(rows, np.maximum.accumulate(x)[1:])
    with pytest.raises(dlc.RunError):
        model(array(0, 3), np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("shift", [4, -4])
def test_rows_are_rolled(shift):
    """torch.export's roll: two slices at the shift's remainder of the dim."""
    model = dlc.compile(parse(f"""rolled (float[N, 3] x) => (float[N, 3] y) <int64[1] zero = {{0}}, int64[1] shift = {{{-shift}}}> {{
        n = Shape <start = 0, end = 1> (x)  at = Mod(shift, n)  tail = Slice(x, at, n)  head = Slice(x, zero, at)
        r = Concat <axis = 0> (tail, head)  y = Add(r, x) }}"""))
    for n in 5, 8, 33:
        assert np.array_equal(model(array(n, 3)), np.roll(array(n, 3), shift, 0) + array(n, 3))
    with pytest.raises(dlc.RunError, match="shorter than it is shifted"):
        model(array(3, 3))


def test_the_shape_that_indices_broadcast_to():
    """The largest of three shapes, as torch.export writes it before index_put."""
    model = dlc.compile(parse("""largest (float[N, 1, 1] x, float[N, 4, 5] y) => (float[N, 4, 5] z) <int64[3] middle = {1, 4, 1}> {
        s = Shape(x)  t = Shape(y)  shape = Max(s, middle, t)  wide = Expand(x, shape)  z = Add(wide, y) }"""))
    for n in 1, 2, 7:
        assert np.allclose(model(array(n, 1, 1), array(n, 4, 5)), array(n, 1, 1) + array(n, 4, 5))


def test_columns_of_a_symbolic_batch():
    model = dlc.compile(parse("""images (float[N, 12, 20] x) => (float[N, 3, 5, 6] y) <int64[2] image = {5, 6}, int64[2] block = {2, 2}> {
        y = Col2Im (x, image, block) }"""))
    for n in 1, 3:
        x, want = array(n, 12, 20), np.zeros((n, 3, 5, 6), np.float32)
        taps = x.reshape(n, 3, 2, 2, 4, 5)
        for i in 0, 1:
            for j in 0, 1:
                want[:, :, i:i + 4, j:j + 5] += taps[:, :, i, j]
        np.testing.assert_allclose(model(x), want, atol=1e-5)


def test_sizes_that_a_split_takes_out_of_a_shape():
    model = dlc.compile(parse("""taken (float[N, M] x) => (float[K] y) <int64[2] ones = {1, 1}, int64[1] last = {-1}> {
        s = Shape(x)  n, m = Split <axis = 0> (s, ones)  both = Mul(n, m)  y = Reshape(x, both) }"""))
    for n, m in ((1, 1), (3, 5), (7, 2)):
        assert np.array_equal(model(array(n, m)), array(n, m).ravel())
