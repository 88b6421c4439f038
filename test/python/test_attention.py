"""Which attentions are found, and why others are not (docs/attention.md): one compilation answers for many small graphs. What is computed is
compared with the interpreter."""
import json
import os
import re
import subprocess

import onnx
import pytest

import attention_models as models

BASES = {"heads apart": {}, "heads merged": {"merged": True}}


def dlc(*arguments):
    return subprocess.run(["dlc", *map(str, arguments)], capture_output=True, text=True)


def save(cases, folder):
    """The cases side by side in one model, and the prefix of each."""
    graph = models.Model()
    for number, build in enumerate(cases):
        graph.prefix = f"n{number}"
        build(graph)
    path = os.path.join(folder, "model.onnx")
    onnx.save(graph.build(), path)
    return path


def remarks(path, *options):
    """By case, its lines of -explain=attention."""
    done = dlc(path, "-emit=kernels", "-o", os.devnull, "-q", "-explain=attention", *options)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stderr.splitlines():
        if part := re.match(r"(?:attention|no attention).*?\(n(\d+)_", line):
            found.setdefault(int(part.group(1)), []).append(line)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = save([build for _, build in models.FOUND.values()], tmp_path_factory.mktemp("found"))
    return path, remarks(path)


@pytest.fixture(scope="module", params=BASES)
def missed(request, tmp_path_factory):
    base = BASES[request.param]
    path = save([lambda g, changes=changes: models.Parts(g, changes, **base).build() for _, changes in models.NEAR_MISSES.values()],
                tmp_path_factory.mktemp("missed"))
    return path, remarks(path)


@pytest.mark.parametrize("name", models.FOUND)
def test_found(name, found):
    lines = found[1].get(list(models.FOUND).index(name), [])
    assert len(lines) == 1 and lines[0].startswith("attention: "), lines
    assert re.search(rf"\b{models.FOUND[name][0]}\b", lines[0]), lines


def test_enough_ways_to_write_it():
    assert len(models.ROPE) >= 6 and len(models.GQA) >= 6 and len(models.NEAR_MISSES) >= 60


@pytest.mark.parametrize("name", models.NEAR_MISSES)
def test_near_miss(name, missed):
    lines = missed[1].get(list(models.NEAR_MISSES).index(name), [])
    assert lines and all(line.startswith(f"no attention: {models.NEAR_MISSES[name][0]}: ") for line in lines), lines


def test_kernels_and_report_name_it(found, tmp_path):
    kernels = dlc(found[0], "-emit=kernels", "-o", "-", "-q").stdout
    formed = sum(line.startswith("attention: ") for lines in found[1].values() for line in lines)
    assert kernels.count("// graph.attention heads ") == formed == len(models.FOUND)


def test_strict_keeps_the_order(tmp_path):
    path = save([models.FOUND["other: spelled"][1]], tmp_path)
    assert [line for lines in remarks(path, "-fp=strict").values() for line in lines][0].startswith("attention, not formed: ")
    kernels = dlc(path, "-emit=kernels", "-o", "-", "-q", "-fp=strict").stdout
    assert kernels and "graph.attention" not in kernels


def test_results_are_the_interpreters(found, tmp_path):
    done = dlc(found[0], "-o", tmp_path / "model.so", "-verify")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_columns_apart_on_cuda(dtype, tmp_path):
    """A transposed result, on the emulated device; halves are the tensor cores'."""
    import cuda_runtime as cuda
    import ml_dtypes
    import numpy as np

    kind = {"float": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    path = cuda.compile_model(f"""g ({dtype}[1, 2, 24, 32] q, {dtype}[1, 2, 40, 32] k, {dtype}[1, 2, 40, 24] v) => (float[1, 2, 24, 24] y) {{
        qf = Cast <to = 1> (q)  kf = Cast <to = 1> (k)  vf = Cast <to = 1> (v)  kt = Transpose <perm = [0, 1, 3, 2]> (kf)
        s = MatMul (qf, kt)  p = Softmax <axis = -1> (s)  o = MatMul (p, vf)  y = Transpose <perm = [0, 1, 3, 2]> (o) }}""", str(tmp_path / "m"))
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s).astype(kind) for s in [(1, 2, 24, 32), (1, 2, 40, 32), (1, 2, 40, 24)])
    code, text, outputs = cuda.execute(path, [q, k, v], str(tmp_path))
    assert code == 0, text
    s = np.einsum("bhsd,bhtd->bhst", q.astype(np.float64), k.astype(np.float64))
    p = np.exp(s - s.max(-1, keepdims=True))
    want = np.einsum("bhst,bhtc->bhcs", p / p.sum(-1, keepdims=True), v.astype(np.float64))
    np.testing.assert_allclose(outputs[0], want, atol=1e-4 if dtype == "float" else 2e-2)
    assert "graph.attention" in dlc(f"{tmp_path}/m.onnx", f"-target={cuda.TARGET}", "-emit=kernels", "-o", "-", "-q").stdout


def test_near_misses_are_computed_as_they_are(tmp_path):
    path = save([lambda g, changes=changes: models.Parts(g, changes).build() for _, changes in list(models.NEAR_MISSES.values())[::3]], tmp_path)
    done = dlc(path, "-o", tmp_path / "model.so", "-verify")
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_fault_is_seen_and_the_report_counts(tmp_path):
    path = save([models.FOUND["other: spelled"][1]], tmp_path)
    assert dlc(path, "-o", tmp_path / "model.so", "-verify", "-plant-fault=fused-swap:sub").returncode == 4
    report = tmp_path / "report.json"
    assert dlc(path, "-emit=report", "-o", report, "-q").returncode == 0
    assert json.loads(report.read_text())["fusion"]["attentions"] == 1


def test_a_mask_computed_once_for_two_attentions(tmp_path):
    """Both compute it themselves; nothing of it is left, and what else is read of it lives."""
    nodes = [
        "positions = Range(first, last, step)", "rows = Unsqueeze(positions, one)",
        "columns = Unsqueeze(positions, zero)", "early = LessOrEqual(columns, rows)", "near = Sub(rows, columns)",
        "close = Less(near, four)", "both = And(early, close)", "mask = Where(both, nothing, never)"]
    before = "q"
    for i in (0, 1):
        nodes += [f"s{i} = MatMul({before}, k)", f"t{i} = Add(s{i}, mask)", f"p{i} = Softmax(t{i})", f"o{i} = MatMul(p{i}, v)"]
        before = f"o{i}"
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
model (float[1, 2, 96, 4] q, float[1, 2, 4, 96] k, float[1, 2, 96, 4] v) => (float[1, 2, 96, 4] o1, bool[96, 96] early)
<int64 first = {{0}}, int64 last = {{96}}, int64 step = {{1}}, int64[1] one = {{1}}, int64[1] zero = {{0}}, int64 four = {{4}}, float nothing = {{0}}, float never = {{-1e30}}>
{{ {"; ".join(nodes)} }}"""
    path = os.path.join(tmp_path, "model.onnx")
    onnx.save(onnx.parser.parse_model(text.replace("; ", "\n")), path)
    done = dlc(path, "-verify", "-q", "-emit=shared,report", "-o", os.path.join(tmp_path, "model.so"))
    assert done.returncode == 0, done.stderr
    with open(os.path.join(tmp_path, "model.json")) as file:
        fusion = json.load(file)["fusion"]
    assert fusion["attentions"] == 2 and fusion["refused"] == 0, fusion


def test_a_cache_of_any_length(tmp_path):
    """Past and mask of symbolic lengths, required to fit each other: one kernel, right at each length."""
    import dlc as compiler
    import numpy as np
    from onnx import TensorProto, helper

    shapes = {"q": [1, 4, 1, 8], "k": [1, 2, 1, 8], "v": [1, 2, 1, 8], "pk": [1, 2, "past", 8], "pv": [1, 2, "past", 8], "mask": [1, 1, 1, "total"]}
    graph = models.Model()
    graph.prefix = "n0"
    for name, shape in shapes.items():
        graph.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    k, v = (graph("Concat", past, new, axis=2) for past, new in (("pk", "k"), ("pv", "v")))
    k, v = (graph("Reshape", graph("Concat", *[graph("Unsqueeze", x, graph.ints(2))] * 2, axis=2), graph.ints(1, 4, -1, 8)) for x in (k, v))
    s = graph("Mul", graph("MatMul", "q", graph("Transpose", k, perm=[0, 1, 3, 2])), graph.const(0.5))
    graph.output(graph("MatMul", graph("Softmax", graph("Add", s, "mask"), axis=-1), v))
    path = tmp_path / "model.onnx"
    onnx.save(graph.build(), path)
    assert any(line.startswith("attention: ") for lines in remarks(path).values() for line in lines)
    model = compiler.compile(str(path))
    random = np.random.default_rng(1)
    for past in (1, 6, 40, 129):
        x = {name: random.standard_normal([{"past": past, "total": past + 1}.get(n, n) for n in shape]).astype(np.float32)
             for name, shape in shapes.items()}
        keys, values = (np.repeat(np.concatenate([x[p], x[n]], 2), 2, 1).astype(np.float64) for p, n in (("pk", "k"), ("pv", "v")))
        t = np.einsum("bhsd,bhtd->bhst", x["q"], keys) * 0.5 + x["mask"]
        e = np.exp(t - t.max(-1, keepdims=True))
        expected = np.einsum("bhst,bhtd->bhsd", e / e.sum(-1, keepdims=True), values)
        np.testing.assert_allclose(model.run(x)[0], expected, atol=1e-5)
    with pytest.raises(compiler.RunError, match="total"):
        model.run({name: np.zeros([{"past": 3, "total": 9}.get(n, n) for n in shape], np.float32) for name, shape in shapes.items()})


def test_layers_share_a_mask(tmp_path):
    """Positions of a mask are computed in each attention; what it reads of the data stays where it is, also when only they read it."""
    import numpy as np
    from onnx import TensorProto

    def build(g):
        lower = g.const(np.tril(np.ones((models.S, models.S))), bool)
        seen = g("Greater", g.input([1, 1, 1, models.S], TensorProto.INT64), g.const(0, np.int64))
        mask = g("Where", g("And", lower, seen), g.const(0.0), g.const(-3.4e38))
        for _ in range(3):
            models.Parts(g, {"score": lambda g, s: g("Add", g("Mul", s, g.const(0.35)), mask)}).build()

    path = save([build], tmp_path)
    lines = remarks(path)[0]
    assert len(lines) == 3 and all(re.match("attention: .* causal", line) for line in lines), lines
    done = dlc(path, "-o", tmp_path / "model.so", "-verify")
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = dlc(path, "-emit=kernels", "-o", "-", "-q").stdout
    assert "// graph.attention" in kernels and "\n// iota" not in kernels
