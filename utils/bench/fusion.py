#!/usr/bin/env python3
"""Fused code beside `-fuse=off`: fusion.py [class ...] [--threads 1] [--seconds 1.5]

Run by `utils/bench-x86 --fusion`. For each row of the classes (default: sub dag cnn) compiles the case with fusion, without, and
without once more (the control: what this machine cannot tell apart), and runs the three in turns. Prints a Markdown table
for docs/performance.md: kernels, fastest milliseconds, off / fused (above 1: fusion helps), off / control, and the
geometric mean of a class. Exits 1 when outputs differ by more than 1e-3 of their largest value, or Check refused a group."""
import argparse
import math
import os
import sys
import time

import numpy as np

import compare

VARIANTS = ("on", "off", "off")  # the last is the control


def load_inputs(folder, model):
    """{name: array} of a case; its bf16 files hold bit patterns."""
    feeds = {}
    for i, want in enumerate(model.inputs):
        array = np.load(os.path.join(folder, f"input_{i}.npy"))
        feeds[want["name"]] = array if array.dtype == want["dtype"] else array.view(want["dtype"])
    return feeds


def fastest(models, feeds, seconds):
    """The fastest milliseconds of each model, run in turns for `seconds` a model, and its outputs."""
    times, outputs = [math.inf] * len(models), [model.run(feeds) for model in models]
    stop = time.perf_counter() + seconds * len(models)
    while time.perf_counter() < stop:
        for i, model in enumerate(models):
            start = time.perf_counter()
            model.run(feeds)
            times[i] = min(times[i], (time.perf_counter() - start) * 1e3)
    return times, outputs


def differ(a, b):
    """The largest difference over the largest value."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b), initial=0), 1e-30))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", default=["sub", "dag", "cnn"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--sample", type=int, default=0, help="at most this many rows of a class")
    parser.add_argument("--cases", default=os.path.join(compare.ROOT, "cases"), help="folder of the cases")
    arguments = parser.parse_args()
    os.environ["DLC_NUM_THREADS"] = str(arguments.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import dlc

    rows = compare.read_rows(arguments.classes, arguments.sample)
    compare.make_cases([case for _, case in rows], arguments.cases)
    ratios, bad = {}, 0
    print("| class | case | kernels off -> on | off ms | fused ms | off / fused | A/A |\n|---|---|---|---|---|---|---|")
    for name, case in rows:
        folder = os.path.join(arguments.cases, case)
        models = [dlc.compile(os.path.join(folder, "model.onnx"), fuse=fuse) for fuse in VARIANTS]
        (on, off, again), outputs = fastest(models, load_inputs(folder, models[0]), arguments.seconds)
        kernels = models[0].report["fusion"]
        refused = kernels["refused"]
        wrong = max(differ(a, b) for a, b in zip(outputs[0], outputs[1]))
        bad += refused > 0 or wrong > 1e-3
        ratios.setdefault(name, []).append(off / on)
        remark = "".join((f" {refused} groups refused" if refused else "", f" differs by {wrong:.1e}" if wrong > 1e-3 else ""))
        print(f"| {name} | {case} | {kernels['calls_before']} -> {kernels['calls']} | {off:.3g} | {on:.3g} | "
              f"{off / on:.2f}{remark} | {off / again:.2f} |", flush=True)
    for name, values in ratios.items():
        print(f"\n{name}: geometric mean of off / fused {math.exp(sum(map(math.log, values)) / len(values)):.2f} over {len(values)} rows, "
              f"least {min(values):.2f}", end="")
    print()
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
