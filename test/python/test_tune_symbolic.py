"""Tuning models of symbolic sizes: kernels are tuned as they ship, for all sizes, at sizes that stand for them."""
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tuning_store import import_records, records_of

D, H, HEADS = 48, 80, 2


def save(path, nodes, inits, inputs, outputs):
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values.items()] for values in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *infos, [numpy_helper.from_array(v, k) for k, v in inits.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two products, a normalisation and a softmax of symbolic batch and sequence, and an attention: all nests but windows."""
    rng = np.random.default_rng(1)
    f = lambda *s: (0.2 * rng.standard_normal(s)).astype(np.float32)
    inits = {"w": f(D, H), "b": f(H), "v": f(H, D), "one": np.ones(D, np.float32), "zero": np.zeros(D, np.float32),
             "shape": np.array([0, 0, HEADS, D // HEADS], np.int64), "scale": np.array(0.2, np.float32)}
    n = helper.make_node
    nodes = [n("MatMul", ["x", "w"], ["p"]), n("Add", ["p", "b"], ["q"]), n("Relu", ["q"], ["r"]), n("MatMul", ["r", "v"], ["t"]), n("Add", ["t", "x"], ["u"]),
             n("LayerNormalization", ["u", "one", "zero"], ["l"]), n("Reshape", ["l", "shape"], ["h"]), n("Transpose", ["h"], ["a"], perm=[0, 2, 1, 3]),
             n("Transpose", ["h"], ["k"], perm=[0, 2, 3, 1]), n("MatMul", ["a", "k"], ["s"]), n("Mul", ["s", "scale"], ["m"]), n("Softmax", ["m"], ["e"]),
             n("MatMul", ["e", "a"], ["y"])]
    path = tmp_path_factory.mktemp("symbolic") / "m.onnx"
    save(path, nodes, inits, {"x": ["batch", "seq", D]}, {"y": ["batch", HEADS, "seq", D // HEADS]})
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Convolutions and a pooling of symbolic batch: contractions whose rows are fixed or not, and windows."""
    rng = np.random.default_rng(2)
    f = lambda *s: (0.2 * rng.standard_normal(s)).astype(np.float32)
    n = helper.make_node
    nodes = [n("Conv", ["x", "w"], ["c"], pads=[1] * 4, strides=[2, 2]), n("Relu", ["c"], ["r"]), n("Conv", ["r", "v"], ["d"], pads=[1] * 4, group=16),
             n("MaxPool", ["d"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)]
    path = tmp_path_factory.mktemp("images") / "m.onnx"
    save(path, nodes, {"w": f(16, 3, 3, 3), "v": f(16, 1, 3, 3)}, {"x": ["batch", 3, 20, 20]}, {"y": ["batch", 16, 5, 5]})
    return path


def compile_model(model, out, *flags):
    """(tuning part of the report, bytes of the artifact, what was said)"""
    said = subprocess.run(["dlc", model, "-target=host:threads=1", "-emit=shared,report", "-o", out / "m.so", *map(str, flags)], check=True, capture_output=True,
                          text=True).stderr
    return json.loads((out / "m.json").read_text()).get("tuning"), (out / "m.so").read_bytes(), said


def run(artifact, x, folder):
    np.save(folder / "x.npy", x)
    subprocess.run(["dlc-run", artifact, f"-inputs={folder / 'x.npy'}", f"-outputs={folder}"], check=True, capture_output=True)
    return np.load(folder / "output_0.npy")


def plant(records, kernels_of, knobs):
    """Someone's measurement in which another schedule than the default was ten times as fast, for each workload that `kernels_of` takes."""
    planted, seen = [], set()
    for record in records:
        key = json.dumps(record["workload"])
        if key in seen or record["trial"]["status"] != "ok" or not kernels_of(record["workload"]):
            continue
        seen.add(key)
        record = json.loads(json.dumps(record))
        record["schedule"].update(knobs)
        record["trial"].update(run="planted", attempt=9, samples_ns=[10.0, 11.0], reference_ns=[100.0, 101.0], elsewhere=[0.2, 0.1])
        planted.append(record)
    return planted


@pytest.mark.parametrize("which", ["model", "images"])
def test_search_then_lookup(which, request, tmp_path):
    model, db = request.getfixturevalue(which), tmp_path / "t.db"
    tuning, first, said = compile_model(model, tmp_path, "-tune", "-tune-budget=24", f"-tuning-db={db}", "-v")
    assert tuning["failed"] == 0 and "its sizes are symbolic" not in said
    records = records_of(db, tmp_path / "r.jsonl")
    assert all("symbolic" in r["workload"] and r["schema_version"] == 1 for r in records)
    assert {r["trial"]["status"] for r in records} == {"ok"}
    nests = {r["workload"]["nest"] for r in records}
    assert nests >= ({"contraction"} if which == "model" else {"contraction", "row"})
    # At other sizes than those that decide, twice where there is room.
    assert all(len(r["trial"]["elsewhere"]) >= 1 for r in records if r["workload"]["symbolic"] != [[1]])
    for _ in range(2):
        looked, bytes_, _ = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
        assert looked["measured"] == 0 and looked["tuned"] == tuning["tuned"] and looked["kernels"] == tuning["kernels"]
        assert bytes_ == first


def test_variants_have_schedules_of_their_own(model, tmp_path):
    """Schedules unlike the defaults are right at sizes of every variant, and a variant's is not its neighbour's."""
    db = tmp_path / "t.db"
    _, default, _ = compile_model(model, tmp_path)
    (tmp_path / "m.so").rename(tmp_path / "default.so")
    compile_model(model, tmp_path, "-tune=quick", f"-tuning-db={db}")
    records = records_of(db, tmp_path / "r.jsonl")
    products = [r["workload"] for r in records if r["workload"]["nest"] == "contraction"]
    ranges = {tuple(w["range"]) for w in products}
    assert len(ranges) >= 2 and any(len(r) == 2 for r in ranges), "few rows and many, the last without an end"
    many = plant(records, lambda w: w["nest"] == "contraction" and len(w["range"]) == 2,
                 {"tile_rows": 5, "tile_vectors": 1, "unroll": 1, "task_row_tiles": 2, "task_column_steps": 0, "block_column_steps": 0, "depth_per_pass": 0})
    loops = plant(records, lambda w: w["nest"] in ("map", "row"), {"width": 8, "grain": 1 << 14})
    assert many and loops
    import_records(db, many + loops, tmp_path / "p.jsonl")
    tuning, tuned, _ = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}", "-verify")
    assert tuned != default and tuning["tuned"] >= len(many)
    taken = {item["kernel"] for item in tuning["schedules"] if item["time_over_default"] < 0.11}
    assert len(taken) >= len(many + loops) and not any("_to" in name for name in taken)
    rng = np.random.default_rng(3)
    for batch, seq in ((1, 1), (1, 3), (1, 16), (1, 17), (1, 128), (2, 65), (3, 131)):
        x = rng.standard_normal((batch, seq, D)).astype(np.float32)
        np.testing.assert_allclose(run(tmp_path / "m.so", x, tmp_path), run(tmp_path / "default.so", x, tmp_path), rtol=1e-4, atol=1e-4)
    # One that was slower at another size is none, however fast it was where it was measured.
    for record in many + loops:
        record["trial"].update(run="slow", elsewhere=[0.2, 1.3])
    import_records(db, many + loops, tmp_path / "p.jsonl")
    _, after, _ = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
    assert after != tuned


def test_sizes_that_are_asked_for(model, tmp_path):
    """-tune-dim gives the sizes, -dim bounds and the typical one; keys differ, so that lookup needs the same."""
    def sizes(*flags):
        db = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        compile_model(model, tmp_path, "-tune", "-tune-budget=8", f"-tuning-db={db}", *flags)
        records = records_of(db, tmp_path / "r.jsonl")
        return [r["workload"]["symbolic"] for r in records], db
    asked, db = sizes("-tune-dim=batch=2", "-tune-dim=seq=40,70")
    assert any(len(s) == 2 for s in asked) and all(x <= 140 for s in asked for point in s for x in point)
    tuning, _, _ = compile_model(model, tmp_path, "-tune", "-tune-budget=8", f"-tuning-db={db}", "-tune-dim=batch=2", "-tune-dim=seq=40,70")
    assert tuning["measured"] == 0
    bounded, _ = sizes("-dim=batch=1..1", "-dim=seq=1..200@24")
    assert any(24 in point for s in bounded for point in s)
    for flags, words in ((["-tune-dim=none=3"], "the model has no free dim of this name"), (["-tune-dim=seq=0"], "expected <name>=<n>"),
                         (["-tune-dim=seq=300", "-dim=seq=1..200"], "is outside of -dim"), (["-tune-dim=seq=3", "-tune-dim=seq=4"], "given twice"),
                         (["-tune-dim=seq"], "expected <name>=<n>")):
        failed = subprocess.run(["dlc", model, "-tune=lookup", "-o", tmp_path / "e.so", *flags], capture_output=True, text=True)
        assert failed.returncode == 2 and words in failed.stderr, failed.stderr
