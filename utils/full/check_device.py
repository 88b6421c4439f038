#!/usr/bin/env python3
"""Models on the GPU of this machine beside onnxruntime's CPU: check_device.py CASE ... [--jobs N] [--seconds S] [--json FILE]

A CASE is a folder with model.onnx and input_*.npy (utils/bench/models.py writes them), or such a folder's skeleton
(utils/bench/skeleton.py). It is compiled for the device's architecture, runs once from host tensors and then, timed, from device
tensors as a graph; max|a-b| / max|b| of every output of both runs must be at most --limit (of integers: equal), and the judge must
reject the results with one element changed. Compiling and the reference go on side by side, the timing is alone. Exit code 1 when
one is wrong or fails, 5 without a device."""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.join(ROOT, "test", "python")]
import cuda  # noqa: E402
import skeleton  # noqa: E402
from cuda_runtime import DeviceArray, Instance  # noqa: E402


def prepare(case, work, target, options):
    """Compiles a case and computes its outputs with onnxruntime: a dictionary, with "error" where that fails."""
    name = os.path.splitext(os.path.basename(case.rstrip("/")))[0]
    folder, work, found = case, tempfile.mkdtemp(dir=work), {"case": name}  # cases of one name are not each other's
    artifact = os.path.join(work, name + ".so")
    try:
        if case.endswith(".npz"):
            folder = skeleton.fill(case, os.path.join(work, name))
        model = os.path.join(folder, "model.onnx")
        start = time.perf_counter()
        done = subprocess.run(["dlc", model, "-target=" + target, "-o", artifact, "-q", "-j1", *options], capture_output=True, text=True)
        found["compile_s"] = time.perf_counter() - start
        if done.returncode:
            return {**found, "error": "dlc: " + done.stderr.strip()[-300:]}
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level, settings.intra_op_num_threads = 4, 4
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        feeds = [np.load(os.path.join(folder, f"input_{i}.npy")) for i in range(len(session.get_inputs()))]
        expected = session.run(None, {i.name: feed for i, feed in zip(session.get_inputs(), feeds)})
        return {**found, "artifact": artifact, "feeds": feeds, "expected": expected}
    except Exception as error:  # noqa: BLE001 - of onnxruntime, of many kinds
        return {**found, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def is_equal(got, expected, limit):
    """(whether every output is within the limit, the largest error)"""
    worst, right = 0.0, True
    for a, b in zip(got, expected):
        if b.dtype.kind in "biu":
            good, error = np.array_equal(a, b), float(not np.array_equal(a, b))
        else:
            good, error = cuda.is_right(a, b, limit) if b.size else (True, 0.0)
        right, worst = right and good, max(worst, error)
    return right, worst


def run(found, driver, stream, seconds, limit):
    """Runs what `prepare` made; adds time and error to it."""
    start = time.perf_counter()
    model = Instance(found["artifact"])
    if model.status:
        return {"error": model.text()}
    feeds, expected = [np.ascontiguousarray(x) for x in found["feeds"]], found["expected"]
    outputs = [np.zeros(x.shape, x.dtype) for x in expected]
    status, text = model.run(feeds, outputs)
    load = time.perf_counter() - start
    if status:
        return {"error": text}
    right, error = is_equal(outputs, expected, limit)
    device_inputs, device_outputs = [[DeviceArray(driver, x) for x in arrays] for arrays in (feeds, [np.zeros(x.shape, x.dtype) for x in expected])]
    bound = model.bind(device_inputs, device_outputs, stream=stream)

    def go():
        status, text = bound()
        if status:
            raise RuntimeError(text)

    spent = cuda.measure(go, lambda: driver.synchronize(stream), seconds)
    right_again, error_again = is_equal([x.read() for x in device_outputs], expected, limit)
    for array in device_inputs + device_outputs:
        array.free()
    model.close()
    return {"seconds": spent, "load_s": load, "error_max": max(error, error_again), "right": right and right_again}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--limit", type=float, default=1e-3)
    parser.add_argument("--driver", default="libcuda.so.1")
    parser.add_argument("--target", help="default: this device's")
    parser.add_argument("--option", action="append", default=[], help="of dlc; more than once for several")
    parser.add_argument("--json")
    o = parser.parse_args()
    driver = cuda.open_driver(o.driver)
    target, stream, figures = o.target or cuda.device_target(driver), driver.stream(), []
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(o.jobs) as pool:
        prepared = list(pool.map(lambda case: prepare(case, work, target, o.option), o.cases))
        for found in prepared:
            if "error" not in found:
                try:
                    found.update(run(found, driver, stream, o.seconds, o.limit))
                except (RuntimeError, AssertionError) as error:
                    found["error"] = str(error)
            found = {key: value for key, value in found.items() if key not in ("artifact", "feeds", "expected")}
            figures.append(found)
            print(f"{found['case']:34}", f"FAILED {found['error']}" if "error" in found else
                  f"{found['seconds'] * 1e3:9.3f} ms  first {found['load_s']:.2f} s  compile {found['compile_s']:.1f} s  error {found['error_max']:.1e}"
                  + ("" if found["right"] else " WRONG"), flush=True)
    if o.json:
        with open(o.json, "w") as file:
            json.dump(figures, file, indent=1)
    bad = sum(1 for f in figures if "error" in f or not f["right"])
    print(f"{len(figures) - bad} right, {bad} wrong or failed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
