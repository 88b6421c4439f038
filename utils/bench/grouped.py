#!/usr/bin/env python3
"""A grouped product of 8 uneven segments beside one merged product of equal work: grouped.py [--threads=N] [--packed].

Builds a library with both, runs them in turn, warm, and prints a line a type: median times and their ratio (merged / grouped; 0.91
is within 10 %). --open: with code for any n and k, where the manifest says them else; --packed: both with matrices that were
packed before. (The segments' matrices are 8 times as many bytes, which come from memory.)"""
import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

SEGMENTS = [0.30, 0.02, 0.17, 0.11, 0.05, 0.21, 0.01, 0.13]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--k", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--dtypes", default="f32,bf16,f16")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dims = {"n": f"@{o.n}", "k": f"@{o.k}"} if o.open else {"n": o.n, "k": o.k}
        common = {"layouts": ["nt"], "dtypes": o.dtypes.split(","), "packed": o.packed}
        manifest = {"schema_version": 1, "name": "grouped", "operations": [
            {"op": "matmul", "dims": dict(dims, m=f"@{o.rows}"), **common},
            {"op": "grouped_matmul", "dims": dict(dims, rows=f"@{o.rows}"), **common}]}
        with open(os.path.join(folder, "m.json"), "w") as file:
            json.dump(manifest, file)
        subprocess.run(["dlc", os.path.join(folder, "m.json"), "-emit=kernel-library", "-target=x86:cpu=host", "-q", "-o",
                        os.path.join(folder, "out")], check=True)
        sys.path.insert(0, os.path.join(folder, "out", "python"))
        library = importlib.import_module("grouped")
        library.set_num_threads(o.threads)
        ends = np.round(np.cumsum([0] + SEGMENTS) * o.rows).astype(np.int64)
        ends[-1] = o.rows
        rng = np.random.default_rng(1)
        for dtype in o.dtypes.split(","):
            def array(*shape):
                x = rng.standard_normal(shape).astype(np.float32)
                return x if dtype == "f32" else x.astype(np.float16) if dtype == "f16" else (x.view(np.uint32) >> 16).astype(np.uint16)
            a, b = array(o.rows, o.k), array(len(SEGMENTS), o.n, o.k)
            c = np.empty((o.rows, o.n), library.DTYPES[dtype])
            name = f"matmul_nt{'_packed' * o.packed}_{dtype}"
            merged, grouped = library.operations[name], library.operations["grouped_" + name]
            one, many = (merged.pack(b[0]), grouped.pack(b)) if o.packed else (b, b)
            runs = {"merged": lambda: merged.run([o.rows, o.n, o.k], [a, one, c]),
                    "grouped": lambda: grouped.run([len(SEGMENTS), o.rows, o.n, o.k], [a, many, ends, c])}
            times = {name: [] for name in runs}
            for _ in range(o.runs + 1):
                for name, run in runs.items():
                    run()
                    start = time.perf_counter()
                    run()
                    times[name].append(time.perf_counter() - start)
            m, g = (statistics.median(times[name][1:]) for name in ("merged", "grouped"))
            print(f"{dtype}: merged {m * 1e3:.2f} ms, grouped {g * 1e3:.2f} ms, ratio {m / g:.3f}")


if __name__ == "__main__":
    main()
