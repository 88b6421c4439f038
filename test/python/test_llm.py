"""Caches that a model keeps between runs (-state, -kv), and examples/llm on top of them (docs/llm.md): a small decoder, step for step beside
the same decoder without state."""
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import dlc

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FOLDER = os.path.join(ROOT, "examples", "llm")
sys.path.insert(0, FOLDER)
import decoder as decoders  # noqa: E402
import generate as llm  # noqa: E402

VOCABULARY = 96
PROMPT = np.random.default_rng(5).integers(0, VOCABULARY, (1, 19))
LONGEST = 70


class Stateless:
    """The decoder as the model has it: caches go in and come out."""

    def __init__(self, model):
        self.model, self.past = model, None

    def feed(self, ids):
        batch, count = ids.shape
        caches = [t for t in self.model.inputs if t["name"].startswith("past")]
        if self.past is None:
            self.past = [np.zeros((batch, t["shape"][1], 0, t["shape"][3]), np.float32) for t in caches]
        length = self.past[0].shape[2]
        feeds = {"input_ids": ids, "position_ids": np.tile(np.arange(length, length + count), (batch, 1)),
                 "attention_mask": np.ones((batch, length + count), np.int64)}
        feeds.update({t["name"]: past for t, past in zip(caches, self.past)})
        logits, *self.past = self.model.run(feeds)
        return logits[:, -1]


@pytest.fixture(scope="module")
def proto():
    return decoders.make_decoder(vocab=VOCABULARY)


@pytest.fixture(scope="module")
def plain(proto):
    return dlc.compile(proto)


@pytest.fixture(scope="module")
def kept(proto, tmp_path_factory):
    """The path of the decoder with its caches inside."""
    model = llm.compile_decoder(proto, LONGEST, target="host")
    path = tmp_path_factory.mktemp("kept") / "decoder.so"
    model.save(path)
    return str(path)


def steps(decoder, ids, sizes):
    """Logits of the last token of each piece."""
    out, begin = [], 0
    for size in sizes:
        out.append(decoder.feed(ids[:, begin : begin + size]))
        begin += size
    return out


def test_states_are_no_inputs(kept):
    model = dlc.load(kept)
    assert [t["name"] for t in model.inputs] == ["input_ids", "position_ids", "attention_mask"]
    assert [t["name"] for t in model.outputs] == ["logits"]
    states = model.info["states"]
    assert [(s["name"], s["output"], s["axis"]) for s in states] == [
        (f"past.{n}.{kind}", f"present.{n}.{kind}", 2) for n in range(2) for kind in ("key", "value")]
    assert states[0]["shape"] == ["batch", 2, "past.capacity", 16] and states[0]["dtype"] == np.float32
    assert model.state_length == 0 and model.state_bytes == 0


@pytest.mark.parametrize("sizes", [(19,), (1,) * 12, (5, 3, 1, 1, 8, 1), (2, 60, 1)], ids=str)
def test_steps_agree(kept, plain, sizes):
    """Prefill, decode, and decode behind a cache that had to grow: the same logits, whatever is fed at once."""
    ids = np.random.default_rng(7).integers(0, VOCABULARY, (1, sum(sizes)))
    model = dlc.load(kept)
    for have, want in zip(steps(llm.Decoder(model), ids, sizes), steps(Stateless(plain), ids, sizes)):
        assert np.abs(have - want).max() <= 1e-5 * np.abs(want).max()
    assert model.state_length == sum(sizes)


def test_steps_agree_with_the_interpreter(kept, proto):
    sizes = (7, 1, 1)
    ids = np.random.default_rng(8).integers(0, VOCABULARY, (2, sum(sizes)))
    oracle = Stateless(dlc.compile(proto, target="interp"))
    for have, want in zip(steps(llm.Decoder(dlc.load(kept)), ids, sizes), steps(oracle, ids, sizes)):
        assert np.abs(have - want).max() <= 1e-4 * np.abs(want).max()


def generated(decoder, tokens=40, chunk=8):
    return llm.generate(decoder, PROMPT, tokens, chunk=chunk).tolist()[0]


def test_tokens_agree(kept, plain):
    """Token for token; and the comparison would see a cache that is one row short or holds another row."""
    class Feeds(Stateless):
        prefill, most_at_once = llm.Decoder.prefill, None

    want = generated(Feeds(plain))
    assert len(set(want)) > 5
    assert generated(llm.Decoder(dlc.load(kept))) == want
    assert generated(llm.Decoder(dlc.load(kept)), chunk=3) == want
    broken = llm.Decoder(dlc.load(kept))
    feed = broken.feed

    def forget(ids):
        if broken.length > len(PROMPT[0]):
            broken.model.truncate(broken.length - 1)
        return feed(ids)

    broken.feed = forget
    assert generated(broken) != want
    other = llm.Decoder(dlc.load(kept))
    other.feed(np.array([[1]]))
    assert generated(other) != want


def test_truncate(kept):
    """Rows that are cut off are as if they had never been; 0 begins anew, with another batch too."""
    model = dlc.load(kept)
    decoder = llm.Decoder(model)
    decoder.feed(PROMPT[:, :6])
    want = decoder.feed(PROMPT[:, 6:9])
    decoder.feed(PROMPT[:, 9:])
    model.truncate(6)
    assert model.state_length == 6
    assert np.array_equal(decoder.feed(PROMPT[:, 6:9]), want)
    with pytest.raises(dlc.RunError, match="holds 9 rows, cannot keep 10"):
        model.truncate(10)
    with pytest.raises(dlc.RunError, match="cannot keep -1"):
        model.truncate(-1)
    assert model.state_length == 9
    model.truncate()
    both = decoder.feed(np.concatenate([PROMPT[:, :6], PROMPT[:, 9:15]]))
    assert model.state_length == 6
    model.truncate(0)
    assert np.abs(decoder.feed(PROMPT[:, :6]) - both[:1]).max() <= 1e-5 * np.abs(both).max()


def test_failed_runs_append_nothing(kept):
    model = dlc.load(kept)
    decoder = llm.Decoder(model)
    decoder.feed(PROMPT[:, :10])
    rows, room = model.state_length, model.state_bytes
    with pytest.raises(dlc.RunError, match="out of range"):
        decoder.feed(np.array([[3, VOCABULARY + 5]]))
    with pytest.raises(dlc.RunError, match="holds 10 rows and this run appends 61: more than the 70"):
        decoder.feed(np.zeros((1, 61), np.int64))
    with pytest.raises(dlc.RunError, match=r"another dim 0 \('batch'\) of 'past.0.key' than the 10 rows"):
        decoder.feed(np.zeros((2, 1), np.int64))
    with pytest.raises(dlc.RunError):  # the mask is for other rows than there are
        model.run({"input_ids": np.zeros((1, 1), np.int64), "position_ids": np.zeros((1, 1), np.int64),
                   "attention_mask": np.ones((1, 13), np.int64)})
    assert (model.state_length, model.state_bytes) == (rows, room)
    fresh = llm.Decoder(dlc.load(kept))
    fresh.feed(PROMPT[:, :10])
    assert np.array_equal(decoder.feed(PROMPT[:, 10:]), fresh.feed(PROMPT[:, 10:]))


def test_room_grows_by_doubling(kept):
    """As much as was promised, no more than the bound, and no copy at every step."""
    model = dlc.load(kept)
    decoder = llm.Decoder(model)
    row = 4 * 2 * 16 * 4  # caches, heads, numbers, bytes
    sizes = set()
    for _ in range(LONGEST):
        decoder.feed(np.zeros((1, 1), np.int64))
        sizes.add(model.state_bytes)
    assert sizes == {64 * row, LONGEST * row}


def test_instances_are_apart(kept):
    """Two instances in two threads, each with a cache of its own; and threads of one instance take turns."""
    prompts = [PROMPT, PROMPT[:, ::-1]]
    want = [llm.Decoder(dlc.load(kept)).prefill(p, chunk=1) for p in prompts]
    have = [None, None]

    def go(i):
        have[i] = llm.Decoder(dlc.load(kept)).prefill(prompts[i], chunk=1)

    threads = [threading.Thread(target=go, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(np.array_equal(a, b) for a, b in zip(have, want)) and not np.array_equal(*want)
    assert dlc.load(kept).state_length == 0


def test_top_p():
    """Only tokens of the nucleus; the same seed draws the same; the frequencies are the probabilities."""
    logits = np.log(np.array([[0.5, 0.05, 0.3, 0.15]]))
    draws = [int(llm.TopP(0.7, seed=s)(logits)[0]) for s in range(300)]
    assert set(draws) == {0, 2} and abs(draws.count(0) / 300 - 5 / 8) < 0.1
    assert draws == [int(llm.TopP(0.7, seed=s)(logits)[0]) for s in range(300)]
    assert set(int(llm.TopP(1.0, seed=s)(logits)[0]) for s in range(300)) == {0, 1, 2, 3}
    assert {int(llm.TopP(0.1, seed=s)(logits)[0]) for s in range(50)} == {0}
    with pytest.raises(ValueError):
        llm.TopP(0)


def test_command_line(kept):
    command = [sys.executable, os.path.join(FOLDER, "generate.py"), "--prompt=1,2,3,4,5", "--tokens=12", "--chunk=2"]
    runs = [subprocess.run([*command, *more], capture_output=True, text=True, timeout=300) for more in
            ([], [kept, "--top-p=0.9", "--seed=3"], [kept, "--top-p=0.9", "--seed=3", "-q"])]
    assert all(r.returncode == 0 for r in runs), runs
    tokens = [r.stdout.split() for r in runs]
    assert len(tokens[0]) == 12 and tokens[1] == tokens[2] != tokens[0]
    assert "tokens/s" in runs[0].stderr and "prompt: 5 of 5" in runs[0].stderr and not runs[2].stderr


@pytest.mark.parametrize("flags, words", [({"state": "auto", "verify": True}, "-verify compares one run"),
                                          ({"kv": "int8"}, "-kv= is for the caches"),
                                          ({"state": "nonsense"}, "expected <input>:<output> or auto"),
                                          ({"state": "auto,past.0.key:present.0.key"}, "goes without other pairs")])
def test_usage(proto, flags, words):
    with pytest.raises(dlc.errors.UsageError, match=words):
        dlc.compile(proto, **flags)


# ---- caches in few bits


def rounded(x, bits):
    """What the cache gives back for rows x (float32, scales along the last axis), written as docs/llm.md says."""
    q, shift = {8: (127, 0), 4: (7, 0), 2: (1.5, 1.5)}[bits]
    last = x.shape[-1]
    group = 32 if bits < 8 and last % 32 == 0 else last
    groups = x.reshape(*x.shape[:-1], last // group, group).astype(np.float32)
    with np.errstate(all="ignore"):
        most = np.abs(groups).max(-1, keepdims=True)
        scale = (most / np.float32(q)).astype(np.float16).astype(np.float32)
        numbers = (scale > 0) & (scale <= 65504)
        n = np.clip(np.round(groups / scale + np.float32(shift)), shift - q, shift + q) - np.float32(shift)
        n = np.where(numbers, n, np.float32(0))
        scale = scale if bits > 2 else np.where(scale <= 65504, scale, np.float32(np.nan))
        return (n * scale).astype(np.float32).reshape(x.shape)


def cache_model(dtype="float", last=64, axis=1):
    """y = -present, so that what the cache holds can be seen."""
    import onnx

    dims = ["b", "p", str(last)] if axis == 1 else ["p", "b", str(last)]
    new = ["b", "s", str(last)] if axis == 1 else ["s", "b", str(last)]
    return onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
        cache ({dtype}[{", ".join(new)}] x, {dtype}[{", ".join(dims)}] past) => ({dtype}[n, m, {last}] y, {dtype}[n, m, {last}] present)
        {{ present = Concat <axis = {axis}> (past, x)  y = Neg(present) }}""")


SPECIAL = [0.0, -0.0, 1e-42, 1e-7, 6e-5, 65504 * 127.0, 1e30, np.inf, -np.inf, np.nan, 1.0]


@pytest.mark.parametrize("axis", (0, 1))
@pytest.mark.parametrize("last", (64, 12))
@pytest.mark.parametrize("bits", (8, 4, 2))
def test_what_is_rounded(bits, last, axis):
    """Bit for bit what the page says, for usual and special numbers, rows appended by ones and by many."""
    model = dlc.compile(cache_model(last=last, axis=axis), state="past:present", kv=f"int{bits}")
    random = np.random.default_rng(bits)
    rows = (random.standard_normal((2, 80, last)) * 10.0 ** random.integers(-6, 6, (2, 80, 1))).astype(np.float32)
    for i, special in enumerate(SPECIAL):
        rows[i % 2, 5 + i, i % last] = special
        rows[1 - i % 2, 30 + i] = special
    if axis == 0:
        rows = rows.swapaxes(0, 1).copy()
    begin = 0
    for count in (1, 3, 1, 40, 35):
        piece = rows[:, begin : begin + count] if axis else rows[begin : begin + count]
        y = model.run([piece])[0]
        begin += count
    assert np.array_equal(-y, rounded(rows, bits), equal_nan=True)
    assert not np.array_equal(-y, rounded(rows, 8 if bits < 8 else 4), equal_nan=True)  # the other width: the comparison sees it
    states = model.info["states"]
    assert [s["name"] for s in states] == ["past.codes", "past.scales"]
    assert states[0]["shape"][-1] == last * bits // 8
    assert f"round(int{bits})" in model.info["laws"]
    finite = np.isfinite(rows).all(-1) & (np.abs(rows).max(-1) < 1e5) & (np.abs(rows).max(-1) > 1e-2)
    group = np.abs(rows[finite]).max(-1, keepdims=True)
    assert np.abs(rows[finite] + y[finite]).max() > 0
    assert (np.abs(rows[finite] + y[finite]) <= group * (0.5 / {8: 127, 4: 7, 2: 1.5}[bits] + 1e-3)).all()


@pytest.mark.parametrize("dtype, numpy", (("float16", np.float16), ("bfloat16", None)))
def test_rounded_half_floats(dtype, numpy):
    """Halves are widened, rounded to the cache's form, and given back as halves."""
    import ml_dtypes

    numpy = numpy or ml_dtypes.bfloat16
    model = dlc.compile(cache_model(dtype), state="auto", kv="int8")
    x = np.random.default_rng(1).standard_normal((1, 9, 64)).astype(numpy)
    y, = model.run([x])
    assert np.array_equal(-y.astype(np.float32), rounded(x.astype(np.float32), 8).astype(numpy).astype(np.float32))


def accuracy(proto, bits, steps=60):
    """(worst error of a logit over the largest logit, steps whose best token is decided, of them agreeing), tokens given."""
    ids = np.random.default_rng(11).integers(0, VOCABULARY, (1, steps))
    exact, few = (llm.Decoder(llm.compile_decoder(proto, 4096, kv=kv)) for kv in ("asis", f"int{bits}"))
    worst, decided, agreed = 0.0, 0, 0
    for i in range(steps):
        want, have = (d.feed(ids[:, i : i + 1])[0] for d in (exact, few))
        top = np.sort(want)[-2:]
        worst = max(worst, np.abs(want - have).max() / np.abs(want).max())
        if top[1] - top[0] > {8: 0.01, 4: 0.05}[bits] * np.abs(want).max():
            decided += 1
            agreed += int(want.argmax() == have.argmax())
    return worst, decided, agreed, few.model.state_bytes / exact.model.state_bytes


@pytest.mark.parametrize("bits, error, bytes_", ((8, 1e-2, 0.30), (4, 5e-2, 0.16)))
def test_few_bits_are_near(bits, error, bytes_):
    """See utils/full/check_kv.py for a long context."""
    proto = decoders.make_decoder(vocab=VOCABULARY, head_dim=64, hidden=128, branch=0.25)
    worst, decided, agreed, ratio = accuracy(proto, bits)
    assert 0 < worst <= error and decided > 20 and agreed / decided >= {8: 0.99, 4: 0.97}[bits], (worst, decided, agreed)
    assert ratio <= bytes_


def test_attention_reads_codes(tmp_path):
    """No kernel unpacks the cache into memory: attention does it inside, and so the workspace does not grow with the cache."""
    import onnx

    path = tmp_path / "m.onnx"
    onnx.save(decoders.make_decoder(head_dim=64, hidden=128), path)
    for kv in ("asis", "int8", "int4", "int2"):
        done = subprocess.run(["dlc", path, "-state=auto", f"-kv={kv}", "-emit=kernels", "-o", "-", "-q"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count("// graph.attention") == 2, (kv, done.stderr)
        for text in done.stdout.split("// graph.attention")[1:]:
            kernel = text[: text.index("\n}")]
            head = kernel[: kernel.index(") -> ")]
            assert ("xi8" in head) == (kv == "int8") and ("xui8" in head) == (kv in ("int4", "int2")), head


@pytest.mark.parametrize("arguments", (("decode", "--kv=int4"), ("decode", "--kv=asis"), ("prefill",)))
def test_one_block_beside_numpy(arguments):
    """A short context of what utils/full/kv.sh runs at long ones; a token that the reference does not know is noticed."""
    command = [sys.executable, os.path.join(ROOT, "utils/full/check_long.py"), *arguments, "--context=2048", "--chunk=512"]
    right = subprocess.run(command, capture_output=True, text=True)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*command, "--plant"], capture_output=True, text=True)
    assert wrong.returncode == 1 and ", error " in wrong.stdout, wrong.stdout + wrong.stderr
