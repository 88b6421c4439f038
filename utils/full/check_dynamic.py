#!/usr/bin/env python3
"""Compiles one model with symbolic dimensions once and runs it at many sizes: check_dynamic.py CASE [--interpreter-seconds 60]

At each choice of sizes (utils/bench/dynamic.py) max|a-b| / max|b| of every output must be at most 1e-4 against onnxruntime, and
against dlc's interpreter until that has taken so many seconds (always at two choices at least); integer outputs must be equal."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.dirname(os.path.abspath(__file__))]
import dynamic  # noqa: E402
from check_model import largest_error, judge_rejects_a_fault  # noqa: E402


def run_onnxruntime(path):
    """A function of a list of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays)))


def worst(got, expected, limit):
    """The largest error over all outputs; stops when the judge would take a planted fault for right."""
    if len(got) != len(expected):
        return float("inf")
    if not judge_rejects_a_fault(expected, limit):
        sys.exit("the judge takes a planted fault for right")
    return max(largest_error(a, b) for a, b in zip(got, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("--interpreter-seconds", type=float, default=60)
    arguments = parser.parse_args()
    import dlc

    case = dynamic.CASES[arguments.case]
    path = dynamic.write(arguments.case, os.path.join(ROOT, "cases"))
    limit, failed, spent, interpreted = case.tolerance, [], 0.0, 0
    with tempfile.TemporaryDirectory() as work:
        library = os.path.join(work, "model.so")
        subprocess.run(["dlc", path, "-target=host", "-o", library], check=True)
        compiled, interpreter = dlc.load(library), dlc.compile(path, target="interp")
        reference = run_onnxruntime(path)
        # The smallest sizes first, so that the interpreter's seconds go a long way.
        for sizes in sorted(case.sizes, key=lambda sizes: np.prod(list(sizes.values()))):
            arrays = case.inputs(sizes)
            text = ", ".join(f"{name} {value}" for name, value in sizes.items())
            got = compiled.run(arrays)
            errors = {"onnxruntime": worst(got, reference(arrays), limit)}
            if spent < arguments.interpreter_seconds or interpreted < 2:
                start = time.time()
                errors["interpreter"] = worst(got, interpreter.run(arrays), limit)
                spent, interpreted = spent + time.time() - start, interpreted + 1
            print(f"{arguments.case}: {text}: " + ", ".join(f"{error:.2e} against {name}" for name, error in errors.items()), flush=True)
            failed += [text for error in errors.values() if not error <= limit]
    print(f"{arguments.case}: {len(case.sizes)} sizes from one compilation, {interpreted} of them on the interpreter, {len(failed)} failed (limit {limit:.0e})")
    sys.exit(1 if failed or len(case.sizes) < 5 else 0)


if __name__ == "__main__":
    main()
