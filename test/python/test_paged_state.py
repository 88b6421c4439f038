"""Caches whose rows a run replaces, kept inside the model (-state): pages of com.microsoft.PagedAttention and of Gather with ScatterND,
TensorScatter; and examples/llm/paged.py on top of them."""
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dlc

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FOLDER = os.path.join(ROOT, "examples", "llm")
sys.path.insert(0, FOLDER)
import decoder as decoders  # noqa: E402
import generate as llm  # noqa: E402
import paged  # noqa: E402

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
VOCABULARY = 96
PROMPTS = [np.random.default_rng(s).integers(0, VOCABULARY, n).tolist() for s, n in ((1, 19), (2, 3), (3, 8), (4, 1))]


def model_of(nodes, inputs, outputs, constants=(), opset=24):
    value = lambda v: helper.make_tensor_value_info(*v)
    graph = helper.make_graph(nodes, "g", [value(v) for v in inputs], [value(v) for v in outputs], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=11)


# ---- single caches


def table_model(pages="pages"):
    """y = rows of the cache after some are replaced."""
    nodes = [helper.make_node("ScatterND", ["cache", "at", "x"], ["after"], name="write"), helper.make_node("Neg", ["after"], ["y"])]
    return model_of(nodes, [("at", I64, ["n", 2]), ("x", F32, ["n", 3]), ("cache", F32, [pages, 4, 3])],
                    [("y", F32, [pages, 4, 3]), ("after", F32, [pages, 4, 3])], opset=18)


class Table:
    """What table_model does, in numpy."""

    def __init__(self, pages):
        self.cache = np.zeros((pages, 4, 3), np.float32)

    def run(self, at, x):
        for (i, j), row in zip(at, x):
            self.cache[i, j] = row
        return -self.cache


def step(rng, pages, count=5):
    return np.stack([rng.integers(-pages, pages, count), rng.integers(-4, 4, count)], 1), rng.standard_normal((count, 3)).astype(np.float32)


@pytest.mark.parametrize("pages", ["pages", 7])
def test_rows_are_replaced_in_place(pages):
    model, rng = dlc.compile(table_model(pages), state="auto"), np.random.default_rng(0)
    assert [t["name"] for t in model.inputs] == ["at", "x"] and [t["name"] for t in model.outputs] == ["y"]
    state, = model.info["states"]
    assert (state["name"], state["output"], state["in_place"]) == ("cache", "after", True)
    if pages == "pages":
        model.reserve(7)
    want = Table(7)
    for count in (5, 1, 0, 40):
        at, x = step(rng, 7, count)
        assert np.array_equal(model.run({"at": at, "x": x})[0], want.run(at, x)), count
    assert model.state_length == 0 and model.state_bytes == 7 * 4 * 3 * 4


def test_room_grows_and_rows_stay():
    model, rng = dlc.compile(table_model(), state="cache:after", dims={"pages": (0, 20, 8)}), np.random.default_rng(1)
    at, x = step(rng, 4)
    with pytest.raises(dlc.RunError, match="dim 'pages' of what it keeps is 0: reserve rows first"):
        model.run({"at": at, "x": x})
    want = Table(20)
    for pages in (4, 5, 5, 3, 16):
        model.reserve(pages)
        at, x = step(rng, min(pages, 4))
        at %= 4  # from the front: as many rows as there are now do not matter
        have = model.run({"at": at, "x": x})[0]
        assert np.array_equal(have, want.run(at, x)[: len(have)]) and len(have) == max(pages, {3: 5}.get(pages, 0))
    with pytest.raises(dlc.RunError, match="dim 'pages' cannot be 21: the model was built for at most 20"):
        model.reserve(21)
    with pytest.raises(dlc.RunError, match="cannot be -1"):
        model.reserve(-1)
    model.truncate()
    at, x = step(rng, 4, 1)
    assert np.count_nonzero(model.run({"at": at, "x": x})[0]) == 3
    with pytest.raises(dlc.RunError, match="keeps no state whose size is open"):
        dlc.compile(table_model(7), state="auto").reserve(3)


def test_instances_are_apart(tmp_path):
    dlc.compile(table_model(7), state="auto").save(tmp_path / "m.so")
    first, second = (dlc.load(str(tmp_path / "m.so")) for _ in "ab")
    at, x = step(np.random.default_rng(2), 7)
    assert np.array_equal(first.run({"at": at, "x": x})[0], second.run({"at": at, "x": x})[0])
    first.run({"at": at, "x": -x})
    none = np.zeros((0, 2), np.int64), np.zeros((0, 3), np.float32)
    assert np.array_equal(first.run({"at": none[0], "x": none[1]})[0], -second.run({"at": none[0], "x": none[1]})[0])


def test_a_place_that_is_none_writes_nothing():
    model, rng = dlc.compile(table_model(7), state="auto"), np.random.default_rng(3)
    at, x = step(rng, 7)
    before = model.run({"at": at, "x": x})[0]
    for wrong in ((7, 0), (-8, 0), (0, 4), (2**62, 0)):
        with pytest.raises(dlc.RunError, match="write"):
            model.run({"at": np.concatenate([at, [wrong]]), "x": np.ones((6, 3), np.float32)})
    none = {"at": np.zeros((0, 2), np.int64), "x": np.zeros((0, 3), np.float32)}
    assert np.array_equal(model.run(none)[0], before)


@pytest.mark.parametrize("bits", (8, 4, 2))
def test_rows_in_few_bits(bits):
    from test_llm import rounded

    nodes = [helper.make_node("ScatterND", ["cache", "at", "x"], ["after"]), helper.make_node("Neg", ["after"], ["y"])]
    pool = ["pages", 4, 2, 64]
    model = dlc.compile(model_of(nodes, [("at", I64, ["n", 2]), ("x", F32, ["n", 2, 64]), ("cache", F32, pool)],
                                 [("y", F32, pool), ("after", F32, pool)], opset=18), state="auto", kv=f"int{bits}")
    assert [s["name"] for s in model.info["states"]] == ["cache.codes", "cache.scales"] and f"round(int{bits})" in model.info["laws"]
    model.reserve(5)
    rng, want = np.random.default_rng(bits), np.zeros((5, 4, 2, 64), np.float32)
    for count in (3, 1, 12):
        at = np.stack([rng.permutation(20)[:count] // 4, rng.permutation(20)[:count] % 4], 1)
        x = (rng.standard_normal((count, 2, 64)) * 10.0 ** rng.integers(-3, 3, (count, 2, 1))).astype(np.float32)
        y = model.run({"at": at, "x": x})[0]
        for (i, j), row in zip(at, rounded(x, bits)):
            want[i, j] = row
        assert np.array_equal(-y, want)
    assert not np.array_equal(want, np.zeros_like(want))


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("room", ["room", 12])
def test_tensor_scatter(room, mode):
    """A cache of fixed room that TensorScatter writes and Attention reads as far as nonpad_kv_seqlen says."""
    groups, width = 2, 16
    new = [("q", F32, ["b", 4, "s", width]), ("k", F32, ["b", groups, "s", width]), ("v", F32, ["b", groups, "s", width]), ("at", I64, ["b"]), ("used", I64, ["b"])]
    cache = ["b", groups, room, width]
    nodes = [helper.make_node("TensorScatter", [f"p{x}", x, "at"], [f"n{x}"], axis=2, mode=mode) for x in "kv"]
    nodes.append(helper.make_node("Attention", ["q", "nk", "nv", "", "", "", "used"], ["y"]))
    proto = model_of(nodes, new + [(f"p{x}", F32, cache) for x in "kv"], [("y", F32, ["b", 4, "s", width])] + [(f"n{x}", F32, cache) for x in "kv"])
    kept, plain, rng = dlc.compile(proto, state="auto"), dlc.compile(proto, target="interp"), np.random.default_rng(4)
    assert len(kept.info["states"]) == 2
    if room == "room":
        kept.reserve(12)
    caches = [np.zeros((2, groups, 12, width), np.float32) for _ in "kv"]
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    past = np.array([0, 2])
    for count in (3, 1, 1, 4):
        x = {"q": normal(2, 4, count, width), "k": normal(2, groups, count, width), "v": normal(2, groups, count, width), "at": past, "used": past + count}
        y, *caches = plain.run({**x, "pk": caches[0], "pv": caches[1]})
        np.testing.assert_allclose(kept.run(x)[0], y, atol=1e-5)
        past = past + count
    with pytest.raises(dlc.RunError, match=r"another dim 0 \('b'\) of 'p[kv]' than it has, and it is in use"):
        kept.run({n: a[:1] for n, a in x.items()})
    kept.truncate()
    kept.run({**{n: a[:1] for n, a in x.items()}, "at": past[:1] * 0})


@pytest.mark.parametrize("nodes, words", [
    ([("ScatterND", ["cache", "at", "x"], ["after"], {"reduction": "add"}), ("Neg", ["after"], ["y"], {})], "does not replace rows"),
    ([("ScatterND", ["cache", "at", "x"], ["after"], {}), ("Neg", ["cache"], ["y"], {})], "something else reads the input too"),
    ([("Neg", ["cache"], ["n"], {}), ("ScatterND", ["n", "at", "x"], ["after"], {}), ("Neg", ["after"], ["y"], {})], "not the input with rows replaced"),
    ([("ScatterND", ["cache", "at", "x"], ["s"], {}), ("Reshape", ["s", "flat"], ["after"], {}), ("Neg", ["s"], ["y"], {})], "other sizes than the input")],
    ids=["added", "read before", "computed", "another shape"])
def test_what_is_no_cache(nodes, words):
    flat = helper.make_tensor("flat", I64, [2], [28, 3])
    made = [helper.make_node(op, i, o, **a) for op, i, o, a in nodes]
    after = ("after", F32, [28, 3] if nodes[1][0] == "Reshape" else [7, 4, 3])
    proto = model_of(made, [("at", I64, ["n", 2]), ("x", F32, ["n", 3]), ("cache", F32, [7, 4, 3])], [("y", F32, [7, 4, 3]), after], [flat], opset=18)
    with pytest.raises(dlc.errors.CompileError, match=words):
        dlc.compile(proto, state="cache:after")


def test_sizes_that_nobody_tells():
    nodes = [helper.make_node("ScatterND", ["cache", "at", "x"], ["after"]), helper.make_node("Neg", ["after"], ["y"])]
    proto = model_of(nodes, [("at", I64, ["n", 2]), ("x", F32, ["n", 3]), ("cache", F32, ["pages", "size", 3])],
                     [("y", F32, ["pages", "size", 3]), ("after", F32, ["pages", "size", 3])], opset=18)
    with pytest.raises(dlc.errors.CompileError, match=r"dim 1 of 'cache' \('size'\) is neither a number nor a dim of another input, as is one before it"):
        dlc.compile(proto, state="auto")


# ---- a pool of pages: Gather by the table, ScatterND by places


def pool_model():
    """A step of a batch of sequences: new rows are scattered to (page, position), keys and values are the pages of the table."""
    batch, groups, width, size, pages = 2, 2, 16, 4, 3
    pool = ["pool", size, groups, width]
    inputs = [("q", F32, [batch, 4, 1, width]), ("k", F32, [batch, groups, width]), ("v", F32, [batch, groups, width]), ("place", I64, [batch, 2]),
              ("table", I64, [batch, pages]), ("used", I64, [batch]), ("kp", F32, pool), ("vp", F32, pool)]
    nodes, shape = [], helper.make_tensor("shape", I64, [4], [batch, pages * size, groups, width])
    for x in "kv":
        nodes += [helper.make_node("ScatterND", [f"{x}p", "place", x], [f"{x}n"]), helper.make_node("Gather", [f"{x}n", "table"], [f"{x}g"], axis=0),
                  helper.make_node("Reshape", [f"{x}g", "shape"], [f"{x}r"]), helper.make_node("Transpose", [f"{x}r"], [f"{x}t"], perm=[0, 2, 1, 3])]
    nodes.append(helper.make_node("Attention", ["q", "kt", "vt", "", "", "", "used"], ["y"], name="attention"))
    return model_of(nodes, inputs, [("y", F32, [batch, 4, 1, width]), ("kn", F32, pool), ("vn", F32, pool)], [shape])


@pytest.mark.parametrize("kv", ["asis", "int8"])
def test_gathered_pages(tmp_path, kv):
    onnx.save(pool_model(), tmp_path / "m.onnx")
    done = subprocess.run(["dlc", tmp_path / "m.onnx", "-state=auto", f"-kv={kv}", "-o", "/dev/null", "-emit=kernels", "-q", "-explain=attention"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("attention: ") and " paged" in done.stderr, done.stderr
    kept, plain = dlc.compile(pool_model(), state="auto", kv=kv), dlc.compile(pool_model(), target="interp")
    kept.reserve(8)
    rng, table = np.random.default_rng(5), np.array([[5, 0, 7], [2, 6, 1]])
    pools = [np.zeros((8, 4, 2, 16), np.float32) for _ in "kv"]
    worst = 0.0
    for t in range(12):
        x = {"q": rng.standard_normal((2, 4, 1, 16)), **{n: rng.standard_normal((2, 2, 16)) for n in "kv"}}
        x = {n: a.astype(np.float32) for n, a in x.items()}
        x.update(place=np.stack([table[:, t // 4], np.full(2, t % 4)], 1), table=table, used=np.full(2, t + 1))
        y, *pools = plain.run({**x, "kp": pools[0], "vp": pools[1]})
        worst = max(worst, np.abs(kept.run(x)[0] - y).max())
    assert worst < (1e-5 if kv == "asis" else 5e-2) and (worst > 1e-4) == (kv == "int8")
    assert kept.state_bytes == 8 * 4 * 2 * 2 * (64 if kv == "asis" else 18)


# ---- examples/llm


@pytest.fixture(scope="module")
def contiguous():
    """The same decoder with caches that grow."""
    return llm.compile_decoder(decoders.make_decoder(vocab=VOCABULARY))


def paged_decoder(**flags):
    return paged.PagedDecoder(dlc.compile(decoders.make_decoder(vocab=VOCABULARY, page=4), state="auto", **flags), first=2)


@pytest.fixture(scope="module")
def shared():
    return paged_decoder()


@pytest.fixture
def fresh(shared):
    for sequence in list(shared.tables):
        shared.end(sequence)
    return shared


def alone(model, prompt, tokens):
    model.truncate()
    return llm.generate(llm.Decoder(model), np.array([prompt]), tokens).tolist()[0]


def test_caches_are_no_inputs(fresh):
    assert [t["name"] for t in fresh.model.inputs] == ["input_ids", "cumulative_sequence_length", "past_seqlens", "block_table"]
    assert [t["name"] for t in fresh.model.outputs] == ["logits"] and len(fresh.model.info["states"]) == 4


def test_sequences_side_by_side_are_as_alone(fresh, contiguous):
    """Token for token, with prompts of several lengths in one pool; and another cache is noticed."""
    want = [alone(contiguous, p, 24) for p in PROMPTS]
    have = paged.generate(fresh, PROMPTS, 24, llm.greedy, chunk=5)
    assert have == want and len(set(sum(want, []))) > 5
    assert not fresh.tables and len(fresh.unused) == fresh.pages
    fresh.model.truncate()
    assert paged.generate(fresh, PROMPTS[::-1], 24, llm.greedy, chunk=50) == want[::-1]
    sequence = fresh.begin()
    logits = fresh.feed({sequence: PROMPTS[0]})[sequence]
    wrong = fresh.begin()
    fresh.feed({wrong: PROMPTS[0][:-1]})
    fresh.tables[wrong][0] = fresh.tables[sequence][2]  # a page of other tokens
    assert np.abs(fresh.feed({wrong: PROMPTS[0][-1:]})[wrong] - logits).max() > 1e-3


def test_pages_come_and_go(fresh):
    """A sequence has as many pages as its tokens need, and those of one that ended are given to others."""
    a, b = fresh.begin(), fresh.begin()
    fresh.feed({a: [1, 2, 3, 4], b: [5]})
    assert [len(fresh.tables[s]) for s in (a, b)] == [1, 1]
    fresh.feed({a: [6]})
    assert len(fresh.tables[a]) == 2 and not set(fresh.tables[a]) & set(fresh.tables[b])
    pages = fresh.pages
    logits = fresh.feed({b: [7]})[b]
    fresh.end(a)
    c = fresh.begin()
    fresh.feed({c: [9] * 8})
    assert fresh.pages == pages
    d = fresh.begin()
    assert np.allclose(fresh.feed({d: [5]})[d] * 0, 0) and np.allclose(fresh.feed({d: [7]})[d], logits, atol=1e-4)


def test_pool_in_few_bits(contiguous):
    few = paged_decoder(kv="int8")
    contiguous.truncate()
    want = llm.Decoder(contiguous).prefill(np.array([PROMPTS[0]]))[0]
    s = few.begin()
    have = few.feed({s: PROMPTS[0]})[s]
    assert 0 < np.abs(have - want).max() <= 2e-2 * np.abs(want).max()


def test_a_pool_of_fixed_size_runs_out():
    proto = decoders.make_decoder(vocab=VOCABULARY, page=4)
    decoder = paged.PagedDecoder(dlc.compile(proto, state="auto", dims={"pages": 3}))
    s = decoder.begin()
    decoder.feed({s: list(range(12))})
    with pytest.raises(MemoryError, match="all 3 pages are in use"):
        decoder.feed({s: [1]})


def test_command_line():
    done = subprocess.run([sys.executable, os.path.join(FOLDER, "paged.py"), "--prompt=1,2,3;4", "--tokens=6"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [len(line) for line in lines] == [6, 6] and "12 tokens of 2 sequences" in done.stderr
