"""Tuning a model end to end: a search of a few trials, lookup, and what the database may and may not do to an artifact."""
import json
import os
import random
import signal
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tuning_store import import_records, records_of

M, N, K = 40, 48, 96


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One product with constant weights and a bias after it."""
    folder = tmp_path_factory.mktemp("tune")
    rng = np.random.default_rng(1)
    w, b = (rng.standard_normal(s).astype(np.float32) for s in ((K, N), (N,)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [M, K])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [M, N])],
                              [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")])
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    x = rng.standard_normal((M, K)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", (x.astype(np.float64) @ w + b).astype(np.float32))
    return folder


def dlc(*args, **kwargs):
    return subprocess.run(["dlc", *map(str, args)], check=True, capture_output=True, text=True, **kwargs)


def compile_model(model, out, *flags):
    """Compiles and runs the model beside the interpreter; returns (tuning part of the report, bytes of the kernel's object)."""
    dlc(model / "m.onnx", "-target=host:threads=1", "-emit=shared,report,asm", "-verify", "-q", "-o", out / "m.so", *flags)
    subprocess.run(["dlc-run", out / "m.so", f"-inputs={model / 'x.npy'}", f"-outputs={out}"], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(out / "output_0.npy"), np.load(model / "y.npy"), rtol=1e-4, atol=1e-4)
    report = json.loads((out / "m.json").read_text())
    return report.get("tuning"), (out / "m.so").read_bytes()


def test_search_then_lookup(model, tmp_path):
    db = tmp_path / "t.db"
    tuning, first = compile_model(model, tmp_path, "-tune", "-tune-budget=8", f"-tuning-db={db}")
    assert tuning["kernels"] == 1 and 8 <= tuning["measured"] <= 11 and tuning["failed"] == 0
    records = records_of(db, tmp_path / "r.jsonl")
    assert len(records) == tuning["measured"]
    assert {r["trial"]["status"] for r in records} == {"ok"}
    # The same again: nothing is measured, the same bytes; and so does lookup, as often as one likes.
    again, same = compile_model(model, tmp_path, "-tune", "-tune-budget=8", f"-tuning-db={db}")
    assert again["measured"] == 0 and same == first
    for _ in range(2):
        looked, bytes_ = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
        assert looked["measured"] == 0 and looked["tuned"] == tuning["tuned"]
        assert bytes_ == first


def test_lookup_takes_the_best_and_never_a_wrong_one(model, tmp_path):
    db, path = tmp_path / "t.db", tmp_path / "r.jsonl"
    dlc(model / "m.onnx", "-target=host:threads=1", "-q", "-o", tmp_path / "m.so", "-tune", "-tune-budget=8", f"-tuning-db={db}")
    _, default = compile_model(model, tmp_path)
    records = records_of(db, path)
    base = next(r for r in records if r["trial"]["round"] == 0 and r["trial"]["attempt"] == 0)
    # Someone else's run, in which a schedule unlike the default was fast.
    planted = json.loads(json.dumps(base))
    planted["schedule"].update(tile_rows=5, tile_vectors=1, unroll=1, task_row_tiles=2, task_column_steps=0,
                               block_column_steps=0, depth_per_pass=0)
    planted["trial"].update(run="planted", attempt=9, samples_ns=[10.0, 11.0], reference_ns=[1000.0, 1001.0])
    import_records(db, [planted], path)
    tuning, tuned = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
    assert tuning["tuned"] == 1 and tuned != default
    # The same schedule was once wrong: whatever its time, it is none.
    wrong = json.loads(json.dumps(planted))
    wrong["trial"] = {k: v for k, v in wrong["trial"].items() if k not in ("samples_ns", "reference_ns", "clock", "drift")}
    wrong["trial"].update(run="other", status="wrong", reason="planted")
    import_records(db, [wrong], path)
    _, after = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
    assert after != tuned
    # One that cannot be emitted is left, in words.
    illegal = json.loads(json.dumps(planted))
    illegal["schedule"]["tile_rows"] = 99
    illegal["trial"].update(run="illegal", attempt=10)
    import_records(db, [illegal], path)
    said = dlc(model / "m.onnx", "-target=host:threads=1", "-o", tmp_path / "m.so", "-tune=lookup", "-v", f"-tuning-db={db}").stderr
    assert "the schedule of the database does not fit: " in said


def test_a_surveyed_kernel_is_the_models(model, tmp_path):
    """dlc-tune survey keys a model's kernels as the compiler does: constants among their operands included."""
    db = tmp_path / "t.db"
    said = subprocess.run(["dlc-tune", "survey", model / "m.onnx", "-random=3", "-evolution=1", "-guided=1", "-samples=1", f"-store={db}"],
                          check=True, capture_output=True, text=True).stdout
    assert "5 trials" in said
    dlc(model / "m.onnx", "-target=host:threads=1", "-q", "-o", tmp_path / "m.so", "-tune", "-tune-budget=1", f"-tuning-db={db}")
    listed = subprocess.run(["dlc-tune", "list", f"-store={db}"], check=True, capture_output=True, text=True).stdout
    assert "trials of 1 kernels" in listed and "rhs constant" in listed


def test_old_records_are_renewed(tmp_path):
    """What a record of an older dlc lacks is computed from its kernel again; schedules that are the same code become one. Others' stay."""
    node = helper.make_node("Sqrt", ["x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 50]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    db = tmp_path / "t.db"
    subprocess.run(["dlc-tune", "survey", tmp_path / "m.onnx", "-random=1", "-evolution=1", "-guided=1", "-samples=1", f"-store={db}"],
                   check=True, capture_output=True)
    new = [r for r in records_of(db, tmp_path / "r.jsonl") if r["trial"].get("default")][:1]
    old = json.loads(json.dumps(new))
    for field in ("lanes", "lane_extent", "own_width", "task_rows"):
        del old[0]["workload"][field]
    old[0]["schedule"]["grain"] = 1 << 20  # more than there is: all
    other = json.loads(json.dumps(old))
    other[0]["workload"]["kernel"] = "0" * 64

    def renew(records):
        (tmp_path / "o.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        said = subprocess.run(["dlc-tune", "renew", tmp_path / "o.jsonl", tmp_path / "m.onnx", "-o", tmp_path / "n.jsonl"],
                              check=True, capture_output=True, text=True).stdout
        return said, [json.loads(line) for line in (tmp_path / "n.jsonl").read_text().splitlines()]

    said, renewed = renew(old)
    assert "1 records renewed" in said and renewed == new
    said, renewed = renew(other)
    assert "0 records renewed" in said and renewed == other


def test_no_records_is_the_default(model, tmp_path):
    db = tmp_path / "t.db"
    subprocess.run(["dlc-tune", "tune", "-q", "-matmul=8x16x8", "-budget=1", "-samples=1", "-model=none", f"-store={db}"],
                   check=True, capture_output=True)
    _, default = compile_model(model, tmp_path)
    tuning, looked = compile_model(model, tmp_path, "-tune=lookup", f"-tuning-db={db}")
    assert tuning["tuned"] == 0 and looked == default


def test_killed_searches_lose_nothing(model, tmp_path):
    """Two searches share a store and are killed at random instants; what they had stored stays, and a third one goes on."""
    db, path = tmp_path / "t.db", tmp_path / "r.jsonl"
    rng = random.Random(1)
    seen = {}
    for _ in range(3):
        searches = [subprocess.Popen(["dlc-tune", "tune", "-q", "-matmul=48x64x64", "-budget=400", "-samples=2", "-model=none",
                                      f"-seed={seed}", f"-store={db}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     start_new_session=True) for seed in (1, 2)]
        time.sleep(rng.uniform(0.5, 2.0))
        for search in searches:
            os.killpg(search.pid, signal.SIGKILL)
            search.wait()
        if not db.exists():
            continue
        now = {json.dumps([r["trial"]["run"], r["trial"]["attempt"], r["schedule"]], sort_keys=True): r
               for r in records_of(db, path)}
        for key, record in seen.items():
            assert now[key] == record
        seen = now
    done = subprocess.run(["dlc-tune", "tune", "-q", "-matmul=48x64x64", "-budget=16", "-samples=2", "-model=none", f"-store={db}"],
                          check=True, capture_output=True, text=True)
    assert "measurements" in done.stdout
    assert len(records_of(db, path)) >= len(seen)


def test_refusals(model, tmp_path):
    def said(*flags):
        done = subprocess.run(["dlc", model / "m.onnx", "-o", tmp_path / "m.so", *flags], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        return done.stderr
    assert "expected one of lookup, quick, static, off" in said("-tune=best")
    assert "-tune-budget= is for -tune" in said("-tune=lookup", "-tune-budget=3")
    assert "expected a number of trials, or a time" in said("-tune", "-tune-budget=soon")
    assert "-tune measures on this machine" in said("-tune", "-target=arm", f"-tuning-db={tmp_path / 'a.db'}")


def test_static_times_need_no_machine(model, tmp_path):
    """-tune=static searches for a CPU that is not here: estimates are recorded as such, lookup takes what they say, and gives the same bytes."""
    db = tmp_path / "t.db"
    weights = numpy_helper.from_array(np.ones((256, 192), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [96, 256])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [96, 192])], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    target = "-target=arm:cpu=neoverse-v2:threads=1"
    said = dlc(tmp_path / "m.onnx", target, "-tune=static", "-tune-budget=16", f"-tuning-db={db}", "-o", tmp_path / "a.so").stderr
    assert "candidates estimated, 0 failed" in said
    records = records_of(db, tmp_path / "r.jsonl")
    assert len(records) == 16 and {r["trial"]["clock"] for r in records} == {"static"}
    assert {r["target"]["cpu"] for r in records} == {"neoverse-v2"}
    times = [r["trial"]["samples_ns"][0] for r in records]
    # 128-bit vectors, four multiply-adds a cycle of 2.8 GHz: nothing is faster than the units.
    bound = 96 * 256 * 192 / 16 / 2.8
    assert bound < min(times) < 1.5 * bound and len({round(t) for t in times}) > 4
    # The same search again finds its trials and gives the same bytes. It takes what promises 10 % at least; lookup takes no estimate.
    taken = {}
    for name, how in (("b", "static"), ("c", "static"), ("d", "lookup")):
        (tmp_path / name).mkdir()
        budget = ["-tune-budget=16"] if how == "static" else []
        dlc(tmp_path / "m.onnx", target, f"-tune={how}", *budget, f"-tuning-db={db}", "-o", tmp_path / name / "m.so", "-emit=shared,report")
        taken[name] = json.loads((tmp_path / name / "m.json").read_text())["tuning"]["schedules"]
    assert len(records_of(db, tmp_path / "r.jsonl")) == 16
    assert (tmp_path / "b" / "m.so").read_bytes() == (tmp_path / "c" / "m.so").read_bytes()
    best = min(times) / next(r["trial"]["reference_ns"][0] for r in records)
    assert len(taken["b"]) == (best < 0.9) and not taken["d"]


def test_a_product_tuned_alone_is_found_in_a_model(tmp_path):
    """The key is what a kernel computes: dlc-tune's product of these sizes is the model's MatMul."""
    db, path = tmp_path / "t.db", tmp_path / "r.jsonl"
    w = np.random.default_rng(2).standard_normal((K, N)).astype(np.float32)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [M, K])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [M, N])], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    x = np.ones((M, K), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x @ w)
    for constant, found in (("none", 0), ("rhs", 1)):
        subprocess.run(["dlc-tune", "tune", "-q", f"-matmul={M}x{N}x{K}", f"-constant={constant}", "-budget=1", "-samples=1",
                        "-model=none", f"-store={db}"], check=True, capture_output=True)
        planted = records_of(db, path)
        for record in planted:
            record["schedule"].update(tile_rows=5, tile_vectors=1, task_row_tiles=2)
            record["trial"].update(run="planted", attempt=9, samples_ns=[10.0], reference_ns=[1000.0])
        import_records(db, planted, path)
        tuning, _ = compile_model(tmp_path, tmp_path, "-tune=lookup", f"-tuning-db={db}")
        assert tuning["tuned"] == found


def test_shipped_records_and_model(tmp_path):
    """What dlc comes with is readable, and a model of three quarters of its kernels ranks the schedules of the rest far better than chance."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tuning_db", "x86")
    done = subprocess.run(["dlc-tune", "eval", os.path.join(folder, "contraction.jsonl"), "-folds=4"], check=True,
                          capture_output=True, text=True).stdout
    share = {words[0]: [float(w) for w in words[1:]] for words in map(str.split, done.splitlines())
             if words and words[0] in ("model", "random")}
    top1, top5, _, pairs = share["model"]
    assert top1 > 0.9 and top5 > 0.96 and pairs > 0.75, done
    assert top1 > share["random"][0] + 0.05, done
    listed = subprocess.run(["dlc-tune", "list", os.path.join(folder, "loop.jsonl")], check=True, capture_output=True, text=True).stdout
    assert "row of" in listed and "map of" in listed
    # The model fits this dlc: a search begins with it, so that it is another run than one without.
    runs = {subprocess.run(["dlc-tune", "tune", "-q", "-matmul=8x16x8", "-target=x86:threads=1", "-budget=1", "-samples=1", *model,
                            f"-store={tmp_path / 't.db'}"], check=True, capture_output=True, text=True).stdout.split()[1]
            for model in ([], ["-model=none"], [f"-model={folder}/contraction.model.json"])}
    assert len(runs) == 2
