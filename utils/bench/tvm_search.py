#!/usr/bin/env python3
"""TVM's tuner beside dlc's on matrix products: tvm_search.py [128x768x768 ...] [--trials 64] [--keep FOLDER] [--measure]

Each case is x[m, k] . w[k, n] in float32 on one thread, w a constant (for TVM a buffer whose layout it may rewrite). Searches with
TVM's MetaSchedule and with `dlc-tune tune` (its shipped records and models included, as a user has them) for so many trials each,
and prints, for 1, 2, 4, ... trials, the GFLOP/s of the best of them by each tuner's own measurements. With --measure nothing is
searched: the best that each found in the folder and dlc's default run in turns, and what they reach is printed, with the trials
after which each tuner had 95 % of the best of all (own times are scaled to those measured together).

Runs in a Python that has TVM and what its tuner imports (`pip install apache-tvm cloudpickle psutil xgboost-cpu`), with dlc's programs in PATH. apache-tvm 0.27.0.post1 ends by a signal in ToJSONGraph with
the apache-tvm-ffi 0.1.15.post2 that its wheel asks for; with `pip install apache-tvm-ffi==0.1.14.post0` it runs."""
import argparse
import json
import os
import pathlib
import subprocess
import time

import numpy as np

CASES = ["128x768x768", "512x512x512", "77x1000x513"]  # rows, columns, depth


def sizes(case):
    return tuple(int(n) for n in case.split("x"))


def flops(case):
    m, n, k = sizes(case)
    return 2 * m * n * k


# --- TVM ---------------------------------------------------------------------


def tvm_module(case):
    import tvm
    from tvm import te

    m, n, k = sizes(case)
    x, w = te.placeholder((m, k), name="x"), te.placeholder((k, n), name="w")
    axis = te.reduce_axis((0, k), name="r")
    y = te.compute((m, n), lambda i, j: te.sum(x[i, axis] * w[axis, j], axis=axis), name="y")
    function = te.create_prim_func([x, w, y])
    return tvm.IRModule({"main": function.with_attr("layout_free_buffers", [1])})


def tvm_target():
    import tvm

    return tvm.target.Target({"kind": "llvm", "mcpu": os.environ.get("TVM_CPU", "znver5"), "num-cores": 1})


def tvm_database(folder):
    from tvm.s_tir import meta_schedule as ms

    return ms.database.JSONDatabase(str(folder / "workloads.json"), str(folder / "records.json"))


def search_tvm(case, folder, trials, workers):
    from tvm.s_tir import meta_schedule as ms

    folder.mkdir(parents=True, exist_ok=True)
    start = time.time()
    ms.tune_tir(tvm_module(case), tvm_target(), str(folder), trials, num_trials_per_iter=16, num_tuning_cores=1, seed=1,
                builder=ms.builder.LocalBuilder(max_workers=workers, timeout_sec=120), database=tvm_database(folder),
                runner=ms.runner.LocalRunner(timeout_sec=120, evaluator_config=ms.runner.EvaluatorConfig(number=3, repeat=1, min_repeat_ms=20)))
    (folder / "seconds").write_text(str(time.time() - start))


def tvm_times(folder):
    """Seconds of each trial, in their order; a failed one is infinite."""
    times = []
    for line in (folder / "records.json").read_text().splitlines():
        seconds = [float(s) for s in json.loads(line)[1][1] or []]
        times.append(min(seconds) if seconds and max(seconds) < 1e9 else np.inf)
    return times


class TvmModel:
    def __init__(self, case, folder):
        import tvm

        m, n, k = sizes(case)
        record = min((r for r in tvm_database(folder).get_all_tuning_records() if r.run_secs), key=lambda r: min(float(s) for s in r.run_secs))
        schedule = tvm.s_tir.Schedule(record.workload.mod)
        record.trace.apply_to_schedule(schedule, remove_postproc=False)
        # As in a trial: w is in the layout that was chosen, turning it is no part of a run.
        from tvm.s_tir.meta_schedule.builder.local_builder import default_build
        self.module = default_build(schedule.mod, tvm_target(), None)
        shapes = [[int(d) for d in info.shape] for info in record.args_info]
        rng = np.random.default_rng(1)
        device = tvm.cpu()
        self.arguments = [tvm.runtime.tensor(rng.random(s, np.float32), device) for s in shapes]

    def run(self):
        self.module["main"](*self.arguments)


# --- dlc ---------------------------------------------------------------------


def search_dlc(case, folder, trials):
    folder.mkdir(parents=True, exist_ok=True)
    start = time.time()
    subprocess.run(["dlc-tune", "tune", "-q", f"-matmul={case}", "-target=host:threads=1", f"-budget={trials}", "-seed=1", "-j1",
                    f"-store={folder / 'dlc.db'}"], check=True)
    (folder / "seconds").write_text(str(time.time() - start))


def dlc_times(folder):
    """Seconds of each trial in their order, the first is the default; times of all are scaled to one reference."""
    subprocess.run(["dlc-tune", "export", f"-store={folder / 'dlc.db'}", "-o", folder / "dlc.jsonl"], check=True, capture_output=True)
    records = [json.loads(line) for line in (folder / "dlc.jsonl").read_text().splitlines()]
    records = [r for r in records if not r["trial"]["attempt"]]
    records.sort(key=lambda r: (r["trial"]["round"], not r["trial"].get("default", False)))
    reference = min(min(r["trial"]["reference_ns"]) for r in records if r["trial"]["status"] == "ok")
    return [min(r["trial"]["samples_ns"]) / min(r["trial"]["reference_ns"]) * reference * 1e-9 if r["trial"]["status"] == "ok" else np.inf
            for r in records]


class DlcModel:
    def __init__(self, case, folder, options):
        import onnx
        from onnx import helper, numpy_helper

        m, n, k = sizes(case)
        f32 = onnx.TensorProto.FLOAT
        rng = np.random.default_rng(1)
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", f32, [m, k])],
                                  [helper.make_tensor_value_info("y", f32, [m, n])], [numpy_helper.from_array(rng.random((k, n), np.float32), "w")])
        model = folder / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), model)
        os.environ["DLC_NUM_THREADS"] = "1"
        import dlc

        self.model = dlc.compile(str(model), "host:threads=1", options=options)
        self.x = rng.random((m, k), np.float32)

    def run(self):
        self.model(self.x)


# --- tables ------------------------------------------------------------------


def after(times, counts):
    return [min(times[:n]) for n in counts]


def trials_to(times, goal):
    for i in range(len(times)):
        if min(times[: i + 1]) <= goal:
            return str(i + 1)
    return f"not in {len(times)}"


def measure(case, folder):
    models = [DlcModel(case, folder, []), DlcModel(case, folder, ["-tune=lookup", f"-tuning-db={folder / 'dlc' / 'dlc.db'}"]),
              TvmModel(case, folder / "tvm")]
    runs = max(3, int(0.01 / (flops(case) / 2e11)))
    best = np.full(len(models), np.inf)
    for model in models:
        model.run()
    for _ in range(25):
        for i, model in enumerate(models):
            start = time.perf_counter()
            for _ in range(runs):
                model.run()
            best[i] = min(best[i], (time.perf_counter() - start) / runs)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="of TVM's builder")
    parser.add_argument("--keep", default="tvm-search", help="folder of what was found")
    parser.add_argument("--measure", action="store_true")
    settings = parser.parse_args()
    if settings.measure:
        print("| case | dlc's default, GFLOP/s | dlc tuned | TVM tuned | trials to 95 % of the best: dlc | TVM | seconds of the search: dlc | TVM |\n" + "|---" * 8 + "|")
    for case in settings.cases:
        folder = pathlib.Path(settings.keep) / case
        folder.mkdir(parents=True, exist_ok=True)
        if not settings.measure:
            for name, search in (("dlc", lambda f: search_dlc(case, f, settings.trials)),
                                 ("tvm", lambda f: search_tvm(case, f, settings.trials, settings.workers))):
                if not (folder / name / "seconds").exists():
                    search(folder / name)
        times = {"dlc": dlc_times(folder / "dlc"), "tvm": tvm_times(folder / "tvm")}
        seconds = {name: float((folder / name / "seconds").read_text()) for name in times}
        if settings.measure:
            default, tuned, tvm = measure(case, folder)
            goal = min(default, tuned, tvm) / 0.95
            scaled = {"dlc": [t / times["dlc"][0] * default for t in times["dlc"]], "tvm": [t / min(times["tvm"]) * tvm for t in times["tvm"]]}
            rate = lambda t: f"{flops(case) / t * 1e-9:.0f}"
            print(f"| {case} | {rate(default)} | {rate(tuned)} | {rate(tvm)} | {trials_to(scaled['dlc'], goal)} | {trials_to(scaled['tvm'], goal)} | "
                  f"{seconds['dlc']:.0f} | {seconds['tvm']:.0f} |", flush=True)
            continue
        counts = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n <= settings.trials]
        for name in times:
            best = [f"{flops(case) / t * 1e-9:.0f}" for t in after(times[name], counts)]
            print(f"{case} {name}: GFLOP/s after {counts} trials: {', '.join(best)}; {seconds[name]:.0f} s, {len(times[name])} trials", flush=True)


if __name__ == "__main__":
    main()
