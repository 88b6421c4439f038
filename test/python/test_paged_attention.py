"""Attention over caches in pages that a block table tells: as Gather writes it, and as com.microsoft.PagedAttention, against numpy in float64."""
import subprocess

import cuda_runtime as cuda
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dlc

F32, I64, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
TYPES = {"float": F32, "bfloat16": TensorProto.BFLOAT16, "int8": TensorProto.INT8}


def attend(q, k, v, mask, cap=0.0, sink=None, scale=None):
    """softmax(q k' scale + mask) v in float64: q (h, s, d), k and v (g, t, d), mask (s, t) of bool, sink (h)."""
    each = q.shape[0] // k.shape[0]
    k, v = (np.repeat(x.astype(np.float64), each, 0) for x in (k, v))
    t = np.einsum("hsd,htd->hst", q.astype(np.float64), k) * (scale or 1 / np.sqrt(q.shape[-1]))
    t = cap * np.tanh(t / cap) if cap else t
    t = np.where(mask, t, -np.inf)
    top = t.max(-1, keepdims=True)
    top = top if sink is None else np.maximum(top, sink[:, None, None])
    e = np.exp(t - top)
    z = e.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink[:, None, None] - top))
    return np.einsum("hst,htd->hsd", e / z, v)


def gathered(path, queries, order="positions first", dtype="float", masked=True, within=False):
    """Attention whose keys and values are Gather of pages: 2 sequences, 4 heads over 2, 6 pages of 8 positions of 16."""
    batch, groups, width, size, pages, blocks = 2, 2, 16, 8, 6, 20
    pool = [blocks, size, groups, width] if order == "positions first" else [blocks, groups, size, width]
    info = helper.make_tensor_value_info
    inputs = [info("q", F32, [batch, 4, queries, width]), info("kp", TYPES[dtype], pool), info("vp", TYPES[dtype], pool),
              info("table", I64, [batch, pages])]
    inputs += [info("length", I64, [batch])] if masked else []
    nodes, constants = [], [helper.make_tensor("shape", I64, [4], [batch, pages * size, groups, width])]

    def node(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, list(inputs), [f"t{len(nodes)}"], name=f"{op}_{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def rows(x):
        if dtype == "int8":
            constants.append(helper.make_tensor(x + "_scale", F32, [], [0.05]))
            x = node("DequantizeLinear", x, x + "_scale")
        elif dtype != "float":
            x = node("Cast", x, to=F32)
        if within:
            inputs.append(info(x + "_swap", I64, [width]))
            x = node("Gather", x, x + "_swap", axis=3)
        x = node("Gather", x, "table", axis=0)
        x = node("Transpose", x, perm=[0, 1, 3, 2, 4]) if order != "positions first" else x
        return node("Transpose", node("Reshape", x, "shape"), perm=[0, 2, 1, 3])

    k, v = rows("kp"), rows("vp")
    nodes.append(helper.make_node("Attention", ["q", k, v] + (["", "", "", "length"] if masked else []), ["o"], name="attention"))
    graph = helper.make_graph(nodes, "g", inputs, [info("o", F32, [batch, 4, queries, width])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11), path)
    return pool, blocks


def explain(path):
    done = subprocess.run(["dlc", path, "-o", "/dev/null", "-emit=kernels", "-q", "-explain=attention"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["positions first", "heads first"])
@pytest.mark.parametrize("queries", [1, 21])
def test_gathered_pages_are_read_where_they_lie(tmp_path, queries, order, dtype):
    path = str(tmp_path / "m.onnx")
    pool, blocks = gathered(path, queries, order, dtype)
    lines = explain(path).splitlines()
    assert len(lines) == 1 and lines[0].startswith("attention: ") and " paged" in lines[0] and "lengths from data" in lines[0], lines
    kernels = subprocess.run(["dlc", path, "-o", "-", "-emit=kernels", "-q"], capture_output=True, text=True).stdout
    readers = [text for text in kernels.split("graph.kernel @")[1:] if "x".join(map(str, pool)) in text[: text.index(" -> ")]]
    assert len(readers) == 1 and "graph.attention" in kernels
    rng = np.random.default_rng(queries)
    model = dlc.compile(path)
    table = rng.permutation(blocks)[:12].reshape(2, 6)
    length = np.array([queries + 3, 40])
    x = [rng.integers(-100, 100, pool).astype(np.int8) if dtype == "int8" else rng.standard_normal(pool).astype(np.float32) for _ in "kv"]
    if dtype == "bfloat16":
        import ml_dtypes
        x = [y.astype(ml_dtypes.bfloat16) for y in x]
    q = rng.standard_normal((2, 4, queries, 16)).astype(np.float32)
    got = model.run({"q": q, "kp": x[0], "vp": x[1], "table": table, "length": length})[0]
    for b in (0, 1):
        k, v = (y.astype(np.float64)[table[b]] * (0.05 if dtype == "int8" else 1) for y in x)
        k, v = (np.moveaxis(y, 1, 2) if order == "heads first" else y for y in (k, v))
        k, v = (np.moveaxis(y.reshape(48, 2, 16), 0, 1) for y in (k, v))
        mask = np.broadcast_to(np.arange(48) < length[b], (queries, 48))
        np.testing.assert_allclose(got[b], attend(q[b], k, v, mask), atol=3e-5)


def test_cuda_gathers_the_pages_and_says_so(tmp_path):
    """Its kernels read no pages: the gather is a kernel of its own, and attention reads what that wrote."""
    path = str(tmp_path / "m.onnx")
    pool, _ = gathered(path, 21)
    words = " (nest: no pages, keys and values are gathered first): "
    done = subprocess.run(["dlc", path, "-o", "-", "-emit=kernels", "-q", "-explain=attention", "-target=cuda:sm=90a"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("attention: ") and words in done.stderr and " paged" not in done.stderr, done.stderr
    kernels = done.stdout.split("graph.kernel @")
    attentions = [after for before, after in zip(kernels, kernels[1:]) if "graph.attention" in "".join(before.splitlines()[-2:])]
    assert len(attentions) == 1 and "x".join(map(str, pool)) not in attentions[0][: attentions[0].index(" -> ")]
    assert words not in explain(path)
    # And it is right, on the emulated device.
    done = subprocess.run(["dlc", path, "-o", tmp_path / "m.so", "-q", f"-target={cuda.TARGET}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(0)
    q, kp, vp = (rng.standard_normal(s).astype(np.float32) for s in [(2, 4, 21, 16), (20, 8, 2, 16), (20, 8, 2, 16)])
    table, length = rng.permutation(20)[:12].reshape(2, 6), np.array([24, 40])
    code, text, outputs = cuda.execute(str(tmp_path / "m.so"), [q, kp, vp, table, length], str(tmp_path))
    assert code == 0, text
    for b in (0, 1):
        k, v = (np.moveaxis(pool[table[b]].reshape(48, 2, 16), 0, 1) for pool in (kp, vp))
        np.testing.assert_allclose(outputs[0][b], attend(q[b], k, v, np.broadcast_to(np.arange(48) < length[b], (21, 48))), atol=3e-5)


def test_pages_equal_the_interpreter_and_others_are_refused(tmp_path):
    path = str(tmp_path / "m.onnx")
    gathered(path, 5, masked=False)
    done = subprocess.run(["dlc", path, "-o", tmp_path / "m.so", "-verify"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = dlc.load(str(tmp_path / "m.so"))
    x = {"q": np.ones((2, 4, 5, 16), np.float32), "kp": np.ones((20, 8, 2, 16), np.float32), "vp": np.ones((20, 8, 2, 16), np.float32)}
    model.run({**x, "table": np.full((2, 6), -20)})
    with pytest.raises(dlc.RunError, match="index"):
        model.run({**x, "table": np.full((2, 6), 20)})
    # An index within a key is read before.
    gathered(path, 5, masked=False, within=True)
    assert " paged" in explain(path)


# ---------------------------------------------------------------------------------------------------------------------------------------------
# com.microsoft.PagedAttention
# ---------------------------------------------------------------------------------------------------------------------------------------------

def rotate(x, cos, sin, interleaved):
    """x (tokens, heads, width) by tables (tokens, pairs)."""
    n = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    turned = x[..., :2 * n]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else (turned[..., :n], turned[..., n:])
    y, z = a * cos - b * sin, b * cos + a * sin
    turned = np.stack([y, z], -1).reshape(turned.shape) if interleaved else np.concatenate([y, z], -1)
    return np.concatenate([turned, x[..., 2 * n:]], -1)


class Case:
    """A random step of PagedAttention: its node, its operands and what it gives."""

    def __init__(self, seed, sequences):
        rng = np.random.default_rng(seed)
        self.heads, self.groups, self.width, self.size = 2 * int(rng.integers(1, 3)), 2, 16, int(rng.choice([4, 8, 16]))
        if seed % 3 == 0:
            self.groups = 1
        self.new = rng.integers(1, 9, sequences) if seed % 2 else np.ones(sequences, np.int64)
        self.past = rng.integers(0, 30, sequences)
        pages = int(np.ceil((self.new + self.past).max() / self.size)) + 1
        blocks = sequences * pages + 2
        self.tokens = int(self.new.sum())
        normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
        self.attributes = {"num_heads": self.heads, "kv_num_heads": self.groups}
        if seed % 4 == 1:
            self.attributes["softcap"] = 3.0
        if seed % 5 == 1:
            self.attributes["local_window_size"] = int(rng.integers(2, 12))
        if seed % 7 == 3:
            self.attributes["is_causal"] = 0
        if seed % 3 == 2:
            self.attributes["scale"] = 0.3
        self.rotary, self.norm, self.sink, self.packed = seed % 4 >= 2, seed % 5 == 2, seed % 6 == 4, seed % 4 == 3
        table = rng.permutation(blocks)[:sequences * pages].reshape(sequences, pages).astype(np.int32)
        self.table = table.copy()
        for s in range(sequences):  # beyond what is in use a table may hold anything
            table[s, (self.new[s] + self.past[s] - 1) // self.size + 1:] = -7
        q, k, v = normal(self.tokens, self.heads, self.width), *(normal(self.tokens, self.groups, self.width) for _ in "kv")
        pool = (blocks, self.size, self.groups, self.width)
        self.x = {"q": q.reshape(self.tokens, -1), "k": k.reshape(self.tokens, -1), "v": v.reshape(self.tokens, -1), "kc": normal(*pool),
                  "vc": normal(*pool), "cu": np.concatenate([[0], np.cumsum(self.new)]).astype(np.int32), "past": self.past.astype(np.int32),
                  "table": table}
        names = ["q", "k", "v", "kc", "vc", "cu", "past", "table", "", "", "", "", "", ""]
        if self.packed:
            self.x["q"] = np.concatenate([self.x.pop("q"), self.x.pop("k"), self.x.pop("v")], 1)
            names[1] = names[2] = ""
        if self.rotary:
            angles = np.outer(np.arange(64), 10.0 ** -np.arange(self.width // 4))
            self.x.update(cos=np.cos(angles).astype(np.float32), sin=np.sin(angles).astype(np.float32))
            self.attributes.update(do_rotary=1, rotary_interleaved=seed % 2)
            names[8:10] = "cos", "sin"
        if self.sink:
            self.x["sink"] = normal(self.heads)
            names[11] = "sink"
        if self.norm:
            self.x.update(qn=normal(self.width), kn=normal(self.width))
            names[12:14] = "qn", "kn"
        self.names, self.parts = names, (q, k, v)

    def model(self, symbolic):
        """The node in a model; symbolic: the number of tokens, and of pages."""
        def shape(name, array):
            s = list(array.shape)
            if symbolic and name in ("q", "k", "v"):
                s[0] = "tokens"
            if symbolic and name == "table":
                s[1] = "pages"
            return s
        inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), shape(n, a)) for n, a in self.x.items()]
        names = list(self.names)
        while not names[-1]:
            names.pop()
        node = helper.make_node("PagedAttention", names, ["y", "kc2", "vc2"], name="paged", domain="com.microsoft", **self.attributes)
        outputs = [helper.make_tensor_value_info(n, F32, None) for n in node.output]
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(helper.make_graph([node], "g", inputs, outputs), opset_imports=opsets, ir_version=10)

    def expected(self):
        q, k, v = (x.astype(np.float64) for x in self.parts)
        if self.norm:
            q, k = (x / np.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-6) * self.x[w] for x, w in ((q, "qn"), (k, "kn")))
        y, caches, start = np.zeros_like(q), [self.x[n].astype(np.float64) for n in ("kc", "vc")], 0
        for s, (new, past) in enumerate(zip(self.new, self.past)):
            at, own = np.arange(past, past + new), slice(start, start + new)
            qs, ks = q[own], k[own]
            if self.rotary:
                tables = self.x["cos"][at].astype(np.float64), self.x["sin"][at].astype(np.float64)
                qs, ks = (rotate(x, *tables, self.attributes["rotary_interleaved"]) for x in (qs, ks))
            for cache, rows in zip(caches, (ks, v[own])):
                cache[self.table[s, at // self.size], at % self.size] = rows
            keys, values = (cache[self.table[s]].reshape(-1, self.groups, self.width)[:past + new] for cache in caches)
            j = np.arange(past + new)
            mask = j[None] <= at[:, None] if self.attributes.get("is_causal", 1) else np.ones((new, past + new), bool)
            if "local_window_size" in self.attributes:
                mask &= j[None] > at[:, None] - self.attributes["local_window_size"]
            out = attend(np.moveaxis(qs, 0, 1), np.moveaxis(keys, 0, 1), np.moveaxis(values, 0, 1), mask, self.attributes.get("softcap", 0.0),
                         self.x.get("sink"), self.attributes.get("scale"))
            y[own], start = np.moveaxis(out, 0, 1), start + new
        return [y.reshape(self.tokens, -1), *caches]


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize("seed", range(12))
def test_paged_attention(tmp_path, seed, sequences):
    case = Case(seed, sequences)
    path = str(tmp_path / "m.onnx")
    onnx.save(case.model(symbolic=seed % 2 == 0), path)
    assert " paged" in explain(path)
    got = dlc.compile(path).run(case.x)
    for a, b in zip(got, case.expected()):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_paged_attention_reads_no_page_beyond_the_lengths(tmp_path):
    """NaN in every position that is not in use."""
    case = Case(5, 1)
    onnx.save(case.model(symbolic=False), str(tmp_path / "m.onnx"))
    used = int(case.new[0] + case.past[0])
    for name in ("kc", "vc"):
        for at in range(used, case.table.size * case.size):
            case.x[name][case.table[0, at // case.size], at % case.size] = np.nan
    y = dlc.compile(str(tmp_path / "m.onnx")).run(case.x)[0]
    np.testing.assert_allclose(y, case.expected()[0], atol=1e-5)


@pytest.mark.parametrize("change", [{"cu": [1, 5]}, {"past": [-1]}, {"past": [1000]}, {"table": -1}, {"table": 1000}], ids=str)
def test_wrong_lengths_are_errors(tmp_path, change):
    case = Case(1, 1)
    onnx.save(case.model(symbolic=False), str(tmp_path / "m.onnx"))
    model = dlc.compile(str(tmp_path / "m.onnx"))
    x = {n: np.full_like(a, change[n]) if np.isscalar(change.get(n)) else np.array(change[n], a.dtype) if n in change else a for n, a in case.x.items()}
    model.run(case.x)
    with pytest.raises(dlc.RunError):
        model.run(x)


def test_norms_of_query_and_key_in_group_query_attention(tmp_path):
    """As onnxruntime computes it from rows that are normalised before."""
    import onnxruntime
    rng = np.random.default_rng(0)
    x = {"q": (1, 5, 64), "k": (1, 5, 32), "v": (1, 5, 32), "pk": (1, 2, 3, 16), "pv": (1, 2, 3, 16), "qn": (16,), "kn": (16,)}
    x = {n: rng.standard_normal(s).astype(np.float32) for n, s in x.items()}
    x.update(last=np.array([7], np.int32), total=np.array(8, np.int32))

    def model(names):
        node = helper.make_node("GroupQueryAttention", names, ["y", "k2", "v2"], domain="com.microsoft", num_heads=4, kv_num_heads=2, name="gqa")
        inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x[n].dtype), x[n].shape) for n in names if n]
        graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info(n, F32, None) for n in node.output])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=10)

    def normalised(name, weight):
        rows = x[name].astype(np.float64).reshape(1, 5, -1, 16)
        rows = rows / np.sqrt((rows ** 2).mean(-1, keepdims=True) + 1e-6) * x[weight]
        return rows.reshape(x[name].shape).astype(np.float32)

    names = ["q", "k", "v", "pk", "pv", "last", "total"]
    onnx.save(model(names + [""] * 7 + ["qn", "kn"]), str(tmp_path / "m.onnx"))
    got = dlc.compile(str(tmp_path / "m.onnx")).run(x)
    session = onnxruntime.InferenceSession(model(names).SerializeToString(), providers=["CPUExecutionProvider"])
    given = {n: a for n, a in x.items() if n in names} | {"q": normalised("q", "qn"), "k": normalised("k", "kn")}
    for a, b in zip(got, session.run(None, given)):
        np.testing.assert_allclose(a, b, atol=1e-5)
