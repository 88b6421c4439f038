"""Kernel libraries: a small one of every kind, each instance verified by its own profiler, with a control that the profiler
catches; the wrapper; statuses of the C functions."""

import csv
import ctypes
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

MANIFEST = {
    "schema_version": 1, "name": "tinylib", "description": "one of each", "operations": [
        {"op": "matmul", "layouts": ["nn", "nt", "tn"], "dtypes": ["f32", "bf16", "f16"], "level": 0},
        {"op": "matmul", "layouts": ["nn", "nt"], "batched": True, "level": 0},
        {"op": "matmul", "layouts": ["nt"], "epilogue": ["bias", "gelu", "residual"], "dims": {"m": "@8"},
         "shapes": [{"n": 40, "k": 24}, {"m": [1, 5], "n": 33, "k": 17}]},
        {"op": "matmul", "layouts": ["nn"], "epilogue": ["silu", "multiply"], "dtypes": ["bf16"], "level": 0},
        {"op": "matmul", "layouts": ["nn", "nt"], "packed": True, "epilogue": ["bias"], "dtypes": ["f32", "bf16"],
         "shapes": [{"n": 37, "k": 53}]},
        {"op": "attention", "layout": "tokens-first", "dtypes": ["f32", "bf16"], "level": 0,
         "dims": {"heads": 4, "kv_heads": 2, "d": 16}},
        {"op": "attention", "mask": "additive", "level": 0, "dims": {"heads": 2, "kv_heads": 2, "d": 8}},
        {"op": "attention", "phase": "decode", "level": 0, "shapes": [{"heads": 4, "kv_heads": [1, 4], "d": 16}]},
        {"op": "softmax", "dtypes": ["f32", "bf16"]},
        {"op": "layer_norm", "residual": True}, {"op": "rms_norm", "dtypes": ["f32", "f16"]},
        {"op": "rope", "layout": "tokens-first", "dims": {"heads": 3, "d": 16}},
        {"op": "rope", "name": "rope_pairs", "interleaved": True, "dims": {"heads": 3, "d": 16}},
        {"op": "conv", "pads": [1, 1, 1, 1], "strides": [2, 2], "epilogue": ["bias", "relu"],
         "dims": {"channels": 4, "filters": 6}},
        {"op": "quantized_matmul", "weights": "i4", "zero_points": True, "shapes": [{"n": 33, "k": 96}]},
        {"op": "quantized_matmul", "weights": "i8", "dtypes": ["bf16"], "shapes": [{"m": [1, "any"], "n": 16, "k": 64}]},
        {"op": "quantized_matmul", "name": "w4_block16", "weights": "i4", "block": 16, "epilogue": ["bias"],
         "shapes": [{"m": [1, "any"], "n": 33, "k": 96}, {"m": 1, "n": 5, "k": 40}]},
        {"op": "quantized_matmul", "weights": "i8", "activations": "i8", "epilogue": ["bias"], "level": 0},
        {"op": "grouped_matmul", "epilogue": ["bias"], "level": 0},
        {"op": "grouped_matmul", "layouts": ["nn", "nt"], "packed": True, "dtypes": ["f32", "bf16"],
         "shapes": [{"n": 9, "k": 20}, {"n": 48, "k": 64}]},
        {"op": "elementwise", "name": "gate", "expression": "silu(x) * up - 0.5 / (1 + exp(-bias))",
         "inputs": {"x": ["rows", "columns"], "up": ["rows", "columns"], "bias": ["columns"]}},
    ]}


def build(folder, manifest, *flags):
    path = os.path.join(folder, "manifest.json")
    with open(path, "w") as file:
        json.dump(manifest, file)
    out = os.path.join(folder, "out")
    done = subprocess.run(["dlc", path, "-emit=kernel-library", "-q", "-o", out, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(str(tmp_path_factory.mktemp("library")), MANIFEST, "-target=x86:cpu=host")


@pytest.fixture(scope="module")
def library(folder):
    sys.path.insert(0, os.path.join(folder, "python"))
    yield importlib.import_module("tinylib")
    sys.path.pop(0)


def profile(folder, *arguments, **environment):
    done = subprocess.run([sys.executable, "-m", "tinylib.profile", *arguments], capture_output=True, text=True, cwd=folder,
                          env=dict(os.environ, PYTHONPATH=os.path.join(folder, "python"), **environment))
    return done, list(csv.DictReader(io.StringIO(done.stdout)))


def test_every_instance_is_right(folder):
    done, rows = profile(folder, "--verify-only", "--threads=2")
    assert done.returncode == 0, done.stderr
    with open(os.path.join(folder, "share", "dlck", "tinylib.json")) as file:
        table = json.load(file)
    assert len(rows) == sum(len(op["instances"]) for op in table["operations"])
    assert all(row["verified"] == "yes" and row["control"] == "seen" for row in rows), rows
    kinds = {op["kind"] for op in table["operations"]}
    assert kinds == {"matmul", "attention", "softmax", "layer_norm", "rms_norm", "rope", "conv", "quantized_matmul",
                     "grouped_matmul", "elementwise"}


def test_the_profiler_catches_a_wrong_library(tmp_path):
    """The control of the test above: dlc breaks the code on purpose."""
    manifest = dict(MANIFEST, operations=[{"op": "softmax"}, {"op": "matmul", "layouts": ["nn"], "level": 0}])
    folder = build(str(tmp_path), manifest, "-target=host", "-plant-fault=drop-last:add")
    done, rows = profile(folder, "--verify-only")
    assert done.returncode == 1 and "differs at" in done.stderr
    assert all(row["verified"] == "no" for row in rows), rows


def test_times_beside_peers(folder):
    done, rows = profile(folder, "--ops=matmul_nn_f32", "--seconds=0.01", "--peers=numpy", "--cpu=*")
    assert done.returncode == 0, done.stderr
    assert all(float(row["us"]) > 0 and float(row["numpy_us"]) > 0 and row["best_peer"] == "numpy" for row in rows) and rows


def test_a_slow_peer_is_called_twice(library):
    profile = importlib.import_module("tinylib.profile")
    calls = {"fast": 0, "near": 0, "slow": 0}

    def call(name, seconds):
        calls[name] += 1
        time.sleep(seconds)

    times = profile.measure({"slow": lambda: call("slow", 0.2), "fast": lambda: call("fast", 0.02), "near": lambda: call("near", 0.03)}, 0.01)
    assert calls["slow"] == 2 and calls["fast"] > 2 and calls["near"] > 2
    assert times["fast"] < times["near"] < times["slow"]


def test_instances_are_chosen_by_size(library):
    op = library.operations["matmul_nt_bias_gelu_residual_f32"]
    name = lambda **sizes: op.instances[op.select(**sizes)]["name"]
    assert name(m=1, n=33, k=17) == "m1_n33_k17" and name(m=5, n=33, k=17) == "m5_n33_k17"
    assert name(m=7, n=40, k=24) == "n40_k24" and name(m=7, n=33, k=17) == "any" and name(m=1, n=9, k=9) == "m1"
    first = {i["cpu"] for i in op.instances}
    assert len(first) == len(library.table["cpus"])


def test_wrapper(library):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
    c = library.matmul_nn_f32(a, b)
    assert np.allclose(c, a @ b, atol=1e-5)
    out = np.zeros((5, 3), np.float32)
    assert library.matmul_nn_f32(a, b, out=out) is out and np.array_equal(out, c)
    assert np.allclose(library.matmul_nn_f32(np.asfortranarray(a), b), c)
    y, total = library.add_layer_norm_f32(a, a, np.ones(7, np.float32), np.zeros(7, np.float32))
    assert np.allclose(total, 2 * a) and np.allclose(y.mean(axis=1), 0, atol=1e-5)
    assert "matmul_nn_f32" in dir(library) and "c = a * b" in repr(library.matmul_nn_f32)
    with pytest.raises(ValueError, match=r"'b' is \(5, 3\), expects \['k', 'n'\] = \(7, 3\)"):
        library.matmul_nn_f32(a, np.zeros((5, 3), np.float32))
    with pytest.raises(TypeError, match="'a' expects f32, got float64"):
        library.matmul_nn_f32(a.astype(np.float64), b)
    with pytest.raises(ValueError, match="'out'"):
        library.matmul_nn_f32(a, b, out=np.zeros((3, 5), np.float32))
    with pytest.raises(AttributeError, match="no operation 'matmul_xx_f32'"):
        library.matmul_xx_f32
    assert library.matmul_nn_f32(np.zeros((0, 7), np.float32), b).shape == (0, 3)
    assert np.array_equal(library.matmul_nn_f32(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)), np.zeros((2, 3)))


def test_statuses(library):
    op = library.operations["matmul_nn_f32"]
    a, c = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    with pytest.raises(library.LibraryError, match="matmul_nn_f32: 'b' is NULL") as error:
        op.run([2, 2, 2], [a, 0, c])
    assert error.value.status == 1
    with pytest.raises(library.LibraryError, match="'b' is not aligned to its 4-byte elements"):
        op.run([2, 2, 2], [a, a.ctypes.data + 1, c])
    with pytest.raises(library.LibraryError, match="n is -1"):
        op.run([2, -1, 2], [a, a, c])
    with pytest.raises(library.LibraryError, match="'a' has more bytes than an address can tell"):
        op.run([2**40, 2, 2**40], [a, a, c])
    nbits = library.operations["matmul_w4_f32"]
    with pytest.raises(library.LibraryError, match="n is 34, the library was built for 33..33"):
        nbits.run([1, 34, 96], [a] * len(nbits.tensors))
    with pytest.raises(library.LibraryError, match="set_num_threads: -1"):
        library.set_num_threads(-1)


MANY = """
import ctypes, glob, sys, threading
last = "tinylib_last_error"
libraries = [ctypes.CDLL(path) for path in sorted(glob.glob(sys.argv[1] + "/*.so"))]
def fail(library, count):
    assert library.tinylib_set_num_threads(-count) != 0
    text = getattr(library, last)
    text.restype = ctypes.c_char_p
    return text().decode()
for number, library in enumerate(libraries):
    fail(library, number + 1)
def other():
    assert getattr(libraries[0], last)() == b"" and "-77" in fail(libraries[0], 77)
thread = threading.Thread(target=other)
thread.start()
thread.join()
assert [f"-{n + 1}" in getattr(l, last)().decode() for n, l in enumerate(libraries)] == [True] * len(libraries)
close = ctypes.CDLL(None).dlclose
ended, proceed = threading.Event(), threading.Event()
def outlive():
    fail(libraries[0], 5)
    ended.set()
    proceed.wait()
thread = threading.Thread(target=outlive)
thread.start()
ended.wait()
for library in libraries:
    assert close(ctypes.c_void_p(library._handle)) == 0
proceed.set()
thread.join()
print("closed", len(libraries))
"""


def test_many_libraries_in_one_process(folder, tmp_path):
    """Each has an error text a thread, which is gone with the thread or the library, whichever is first."""
    for number in range(24):
        shutil.copy(os.path.join(folder, "lib", "libtinylib.so"), tmp_path / f"copy{number}.so")
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "closed 24\n", done.stderr


def test_packed_once_used_often(library):
    rng = np.random.default_rng(5)
    op = library.matmul_nt_bias_packed_f32
    b, bias = rng.normal(size=(37, 53)).astype(np.float32), np.zeros(37, np.float32)
    packed = op.pack(b)
    assert packed.ctypes.data % 64 == 0 and packed.nbytes > b.nbytes
    for m in (1, 4, 33):
        a = rng.normal(size=(m, 53)).astype(np.float32)
        assert np.allclose(op(a, packed, bias), a @ b.T, atol=1e-4) and np.allclose(op(a, b, bias), a @ b.T, atol=1e-4)
    a, c = np.zeros((2, 53), np.float32), np.zeros((2, 37), np.float32)
    with pytest.raises(library.LibraryError, match="'b' was not packed by this function's _pack"):
        op.run([2, 37, 53], [a, _aligned(packed.nbytes), bias, c])
    with pytest.raises(ValueError, match=r"no instance takes a packed \['n', 'k'\] of \(36, 53\)"):
        op.pack(b[:36])
    with pytest.raises(library.LibraryError, match="'b' is not 64-byte aligned"):
        op.run([2, 37, 53], [a, packed.ctypes.data + 4, bias, c])


def _aligned(size):
    room = np.zeros(size + 64, np.uint8)
    return room[-room.ctypes.data % 64:][:size]


def test_grouped_rows(library):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(700, 20)).astype(np.float32), rng.normal(size=(4, 9, 20)).astype(np.float32)
    bias = rng.normal(size=(4, 9)).astype(np.float32)
    ends = np.array([0, 0, 601, 603, 700])
    for threads in (1, 3):
        library.set_num_threads(threads)
        c = library.grouped_matmul_nt_bias_f32(a, b, ends, bias)
        for g in range(4):
            rows = slice(ends[g], ends[g + 1])
            assert np.allclose(c[rows], a[rows] @ b[g].T + bias[g], atol=1e-4)
    # In any order of sizes, empty ones between, and more than are sorted.
    for groups, rows in ((9, 900), (1500, 4000)):
        cuts = np.sort(rng.integers(0, rows, groups - 1))
        ends = np.concatenate([[0], cuts, [rows]])
        a, b = rng.normal(size=(rows, 20)).astype(np.float32), rng.normal(size=(groups, 9, 20)).astype(np.float32)
        bias = rng.normal(size=(groups, 9)).astype(np.float32)
        which = np.repeat(np.arange(groups), np.diff(ends))
        expected = np.einsum("rk,rnk->rn", a, b[which]) + bias[which]
        for threads in (1, 2, 3):
            library.set_num_threads(threads)
            assert np.allclose(library.grouped_matmul_nt_bias_f32(a, b, ends, bias), expected, atol=1e-4)
    a, b, bias = a[:700], b[:4], bias[:4]
    with pytest.raises(library.LibraryError, match="segment 1 ends at row 5, before its begin at 601"):
        library.grouped_matmul_nt_bias_f32(a, b, np.array([0, 601, 5, 603, 700]), bias)
    with pytest.raises(library.LibraryError, match=r"the segments are rows 0..699, there are rows 0..700"):
        library.grouped_matmul_nt_bias_f32(a, b, np.array([0, 0, 601, 603, 699]), bias)


def test_grouped_packed(library):
    rng = np.random.default_rng(4)
    op = library.grouped_matmul_nt_packed_f32
    a, b = rng.normal(size=(700, 20)).astype(np.float32), rng.normal(size=(4, 9, 20)).astype(np.float32)
    ends, packed = np.array([0, 0, 601, 603, 700]), op.pack(b)
    other = op.pack(b[::-1].copy())
    for threads in (1, 3):
        library.set_num_threads(threads)
        for c, matrices in (op(a, packed, ends), b), (op(a, b, ends), b), (op(a, other, ends), b[::-1]):
            for g in range(4):
                rows = slice(ends[g], ends[g + 1])
                assert np.allclose(c[rows], a[rows] @ matrices[g].T, atol=1e-4)
        assert not np.allclose(op(a, other, ends), op(a, packed, ends), atol=1e-1)
    c = np.zeros((700, 9), np.float32)
    spoilt = _aligned(packed.nbytes)
    spoilt[:] = packed
    spoilt[3 * (packed.nbytes // 4)] ^= 1  # the last one's header
    for wrong in (_aligned(packed.nbytes), spoilt, library.grouped_matmul_nn_packed_f32.pack(b.transpose(0, 2, 1).copy()),
                  op.pack(b[:3])):
        with pytest.raises(library.LibraryError, match="'b' was not packed by this function's _pack for groups = 4"):
            op.run([4, 700, 9, 20], [a, wrong, ends, c])
    with pytest.raises(library.LibraryError, match="n is 8, the library was built for 9..48"):
        op.run([4, 700, 8, 20], [a, packed, ends, c])
    with pytest.raises(ValueError, match="no instance takes a packed"):
        op.pack(b[:, :8])


def test_low_rank_adapters_of_segments(tmp_path, monkeypatch):
    """y += (x A[g]') B[g]' for the rows of each segment, a segment an adapter: two grouped products."""
    manifest = {"schema_version": 1, "name": "loralib", "operations": [
        {"op": "grouped_matmul", "name": "down", "dims": {"n": "1..64@16"}},
        {"op": "grouped_matmul", "name": "up", "dims": {"k": "1..64@16"}, "epilogue": ["residual"]}]}
    folder = build(str(tmp_path), manifest, "-target=host")
    monkeypatch.syspath_prepend(os.path.join(folder, "python"))
    library = importlib.import_module("loralib")
    rng = np.random.default_rng(11)
    for rank in (1, 8, 16):
        x, y = rng.normal(size=(90, 48)).astype(np.float32), rng.normal(size=(90, 72)).astype(np.float32)
        a, b = rng.normal(size=(3, rank, 48)).astype(np.float32), rng.normal(size=(3, 72, rank)).astype(np.float32)
        ends = np.array([0, 50, 50, 90])  # the second adapter has no rows
        result = library.up_f32(library.down_f32(x, a, ends), b, ends, y)
        for g in range(3):
            rows = slice(ends[g], ends[g + 1])
            assert np.allclose(result[rows], y[rows] + x[rows] @ a[g].T @ b[g].T, atol=1e-3)
        assert not np.allclose(result[50:], y[50:] + x[50:] @ a[0].T @ b[0].T, atol=1e-3)


def test_the_kernels_of_a_model(tmp_path, monkeypatch):
    import models

    path, reference = models.mlp(tmp_path / "mlp.onnx")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    done = subprocess.run(["dlc", str(path), "-emit=kernel-library", "-target=host", "-name=mlplib", "-o", str(tmp_path / "out")],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "operations" in done.stderr, done.stderr
    monkeypatch.syspath_prepend(str(tmp_path / "out" / "python"))
    library = importlib.import_module("mlplib")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 33)).astype(np.float32)
    value = x
    for op in library.operations.values():  # in the model's order
        rest = [w for shape in [op.shape(t, [5]) for t in op.inputs[1:]] for w in weights.values() if w.shape == shape]
        assert op.kind == "kernel" and len(rest) == len(op.inputs) - 1, op
        value = op(value, *rest)
    expected = reference(x)
    assert np.abs(value - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert np.abs(value[::-1] - expected).max() > 1e-3


def test_budget(tmp_path):
    operation = {"op": "matmul", "layouts": ["nt"], "shapes": [{"n": [64, 96], "k": [32, 512]}]}
    manifest = {"schema_version": 1, "name": "tinylib", "operations": [operation]}
    full = build(str(tmp_path), manifest, "-target=x86:cpu=x86-64-v3")
    instances = lambda folder: json.load(open(os.path.join(folder, "share", "dlck", "tinylib.json")))["operations"][0]["instances"]
    sizes = {i["name"]: i["bytes"] for i in instances(full)}
    assert len(sizes) == 10 and "m1_n64_k32" in sizes and "m1" in sizes
    small = (tmp_path / "small")
    small.mkdir()
    budget = (sum(sizes.values()) - 1000) // 1000
    kept = instances(build(str(small), dict(manifest, budget=f"{budget} KB"), "-target=x86:cpu=x86-64-v3"))
    assert sum(i["bytes"] for i in kept) <= budget * 1000 and len(kept) == 9 and "any" in {i["name"] for i in kept}
    path = tmp_path / "none.json"
    path.write_text(json.dumps(dict(manifest, budget="1 KB")))
    done = subprocess.run(["dlc", str(path), "-emit=kernel-library", "-q", "-o", str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 1 and "$.budget: the general instances alone have" in done.stderr


def test_passes_keep_sums_near(tmp_path, monkeypatch):
    """Tasks of products in passes have so few columns that the sums which wait stay in the second-level cache."""
    out = build(str(tmp_path), {"schema_version": 1, "name": "passlib", "operations": [
        {"op": "matmul", "layouts": ["nn", "nt"], "dims": {"m": "@128", "n": "@1024", "k": "@1024"}}]},
        "-target=x86:cpu=x86-64-v3:threads=2")
    monkeypatch.syspath_prepend(os.path.join(out, "python"))
    library = importlib.import_module("passlib")
    counts = []
    task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, task, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def run_tasks(_context, function, frame, tasks, _workers):
        counts.append(tasks)
        for i in range(tasks):
            function(frame, i, 0)

    library._lib.passlib_set_parallel_for(run_tasks, None)
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 1000), (1000, 1024)))
    for layout, right in (("nn", b), ("nt", np.ascontiguousarray(b.T))):
        c = np.empty((40, 1024), np.float32)
        library.operations[f"matmul_{layout}_f32"].run([40, 1024, 1000], [a, right, c])
        np.testing.assert_allclose(c, a.astype(np.float64) @ b, atol=2e-3)
    assert counts == [4, 4]


def test_tuning(tmp_path):
    """A search leaves records, by which the same library is made again without measuring."""
    manifest = {"schema_version": 1, "name": "tunedlib", "cpus": ["host"], "operations": [
        {"op": "matmul", "layouts": ["nt"], "level": 0, "dims": {"m": 8, "n": 64, "k": 64}}]}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest))
    made = []
    for how in ("quick", "lookup"):
        out = tmp_path / how
        done = subprocess.run(["dlc", str(path), "-emit=kernel-library", "-target=x86", f"-tune={how}", f"-tuning-db={tmp_path}/db", "-o", str(out)],
                              capture_output=True, text=True)
        said = re.search(r"(\d) of 1 kernels of known sizes tuned", done.stderr)
        assert done.returncode == 0 and said, done.stderr
        made.append((said.group(1), (out / "lib" / "libtunedlib.a").read_bytes()))
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["transformer-small", "llama"])
def test_shipped_manifests_are_well_formed(name, tmp_path):
    """Their builds are utils/full/library.sh's; here only what is read before."""
    with open(os.path.join(ROOT, "examples", "kernel-library", name + ".json")) as file:
        manifest = json.load(file)
    done = subprocess.run(["dlc", os.path.join(ROOT, "examples", "kernel-library", name + ".json"), "-emit=kernel-library", "-q",
                           "-target=interp", "-o", str(tmp_path / "out")], capture_output=True, text=True)
    assert manifest["schema_version"] == 1 and done.returncode == 2 and "libraries are for x86, arm, host or cuda" in done.stderr
