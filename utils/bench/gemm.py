#!/usr/bin/env python3
"""Matrix multiplication against the machine's peak: gemm.py [--size 1024] [--threads 1]

Measures y = x . w in float32 with a constant w and with both as inputs, with static M and with M as a symbol, all for the same
numbers, in turns. The peak is what a loop of vector FMAs reaches on the same CPU at the same time (peak.c). Prints GFLOP/s,
the fraction of the peak and dynamic / static time; exits 1 below --min-peak (static, constant w) or above --max-dynamic, or
when a product is wrong."""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import helper, numpy_helper

import compare


def make_model(path, rows, size, weights):
    """MatMul [rows, size] x [size, size]; weights None makes the second operand an input."""
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", float32, [rows, size])]
    constants = []
    if weights is None:
        inputs.append(helper.make_tensor_value_info("w", float32, [size, size]))
    else:
        constants.append(numpy_helper.from_array(weights, "w"))
    result = helper.make_tensor_value_info("y", float32, [rows, size])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "gemm", inputs, [result], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def peak_gflops(folder, threads):
    """Float32 GFLOP/s of the FMA loop of peak.c."""
    program = os.path.join(folder, "peak")
    if not os.path.exists(program):
        source = os.path.join(compare.HERE, "peak.c")
        subprocess.run(["cc", "-O3", "-march=native", "-funroll-loops", "-pthread", source, "-o", program], check=True)
    lines = subprocess.run([program, str(threads), "0"], check=True, capture_output=True, text=True).stdout.splitlines()
    return float(next(line for line in lines if "fp32 FMA" in line).split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--min-peak", type=float, default=0.80)
    parser.add_argument("--max-dynamic", type=float, default=1.03)
    arguments = parser.parse_args()
    os.environ["DLC_NUM_THREADS"] = str(arguments.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import dlc

    compiler = shutil.which("dlc") or os.path.join(compare.ROOT, "build", "bin", "dlc")
    size = arguments.size
    random = np.random.default_rng(3)
    x, w = (random.standard_normal((size, size), np.float32) for _ in range(2))
    expected = x.astype(np.float64) @ w
    runs = {}
    with tempfile.TemporaryDirectory() as work:
        for name, rows, weights in (("static, constant w", size, w), ("dynamic M, constant w", "m", w),
                                    ("static, both inputs", size, None), ("dynamic M, both inputs", "m", None)):
            model, library = os.path.join(work, "gemm.onnx"), os.path.join(work, f"gemm{len(runs)}.so")
            make_model(model, rows, size, weights)
            subprocess.run([compiler, model, "-target=host", "-o", library], check=True)
            feed = {"x": x} if weights is not None else {"x": x, "w": w}
            loaded = dlc.load(library)
            error = np.abs(loaded.run(feed)[0] - expected).max() / np.abs(expected).max()
            if not error < 1e-5:
                sys.exit(f"gemm: {name}: max|a-b| / max|b| = {error:.1e}")
            runs[name] = (lambda loaded=loaded, feed=feed: loaded.run(feed), [])
        peaks = []
        for turn in range(arguments.rounds):
            if turn % 10 == 0:
                peaks.append(peak_gflops(work, arguments.threads))
            for call, samples in runs.values():
                start = time.perf_counter()
                call()
                samples.append(time.perf_counter() - start)
    peak = max(peaks)
    print(f"{size}^3 float32, {arguments.threads} threads, peak {peak:.1f} GFLOP/s; times of run() from Python, best and median of {arguments.rounds}")
    best = {name: min(samples) for name, (_, samples) in runs.items()}
    for name, (_, samples) in runs.items():
        rate = 2 * size**3 / best[name] / 1e9
        print(f"{name:24s} {best[name] * 1e3:8.3f} ms (median {statistics.median(samples) * 1e3:.3f})  {rate:7.1f} GFLOP/s  {rate / peak:5.2f} of peak")
    fraction = 2 * size**3 / best["static, constant w"] / 1e9 / peak
    dynamic = best["dynamic M, constant w"] / best["static, constant w"]
    print(f"dynamic / static {dynamic:.3f} (limit {arguments.max_dynamic}), fraction of peak {fraction:.2f} (limit {arguments.min_peak})")
    sys.exit(0 if fraction >= arguments.min_peak and dynamic <= arguments.max_dynamic else 1)


if __name__ == "__main__":
    main()
