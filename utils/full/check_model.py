#!/usr/bin/env python3
"""Compiles one case of utils/bench for the host and compares its outputs: check_model.py CASE [--no-interpreter]

max|a-b| / max|b| of every output must be at most min(the case's tolerance, 1e-4) against the expected outputs (onnxruntime's, or
a float64 evaluation for random graphs) and against dlc's own interpreter; integer outputs must be equal. Models of 16-bit floats are
held to the case's tolerance against float32 values, since no two of them round alike, and are compared with onnxruntime as well
where it can run them. The artifact must hold no interpreter and no LLVM symbol."""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "utils", "bench"))
import compare  # noqa: E402
import peers  # noqa: E402


def largest_error(got, expected):
    """max|a-b| / max|b| over float arrays of equal shape; infinite where integers or shapes differ."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "biu":
        return 0.0 if np.array_equal(got, expected) else float("inf")
    if not expected.size:
        return 0.0
    a, b = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def judge_rejects_a_fault(expected, limit):
    """Whether `largest_error` finds one wrong element in each of these arrays, as it must."""
    for array in expected:
        if not array.size:
            continue
        wrong = np.array(array)
        place = np.unravel_index(np.argmax(np.abs(wrong.astype(np.float64))), wrong.shape)
        if wrong.dtype.kind in "biu":
            wrong[place] = not wrong[place] if wrong.dtype == bool else wrong[place] ^ 1
        elif wrong[place] == 0:
            wrong[place] = 1
        else:
            wrong[place] = wrong[place] * wrong.dtype.type(1 + 4 * max(limit, 2.0**-6 if wrong.dtype.itemsize < 4 else 0))
        if largest_error(wrong, array) <= limit:
            return False
    return True


def run_onnxruntime(case):
    """onnxruntime's outputs, or None where it cannot run the model or be fed."""
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(case.path, options, providers=["CPUExecutionProvider"])
        return session.run(None, case.inputs())
    except Exception as error:  # noqa: BLE001  it raises many kinds
        print(f"{case.name}: onnxruntime cannot: {str(error).splitlines()[0][:150]}")
        return None


def forbidden_symbols(library):
    """Symbols of a shared object that belong to LLVM, MLIR or the interpreter."""
    names = subprocess.run(["nm", "-D", "--demangle", library], check=True, capture_output=True, text=True).stdout
    names += subprocess.run(["nm", "--demangle", library], capture_output=True, text=True).stdout
    return sorted({line for line in names.splitlines() if any(word in line for word in ("llvm::", "mlir::", "LLVM", "nterpreter"))})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("--no-interpreter", action="store_true")
    arguments = parser.parse_args()
    import dlc

    folder = os.path.join(ROOT, "cases")
    compare.make_cases([arguments.case], folder)
    case = peers.Case(os.path.join(folder, arguments.case))
    is_narrow = case.meta["reference"].startswith("torch in float32")
    limit = case.meta["tolerance"] if is_narrow else min(case.meta["tolerance"], 1e-4)
    failed = False

    def judge(got, expected, name):
        """The largest error, printed; stops when the judge would take a planted fault for right."""
        if len(got) != len(expected):
            sys.exit(f"{len(got)} outputs, {name} has {len(expected)}")
        if not judge_rejects_a_fault(expected, limit):
            sys.exit("the judge takes a planted fault for right")
        error = max(largest_error(a, b) for a, b in zip(got, expected))
        print(f"{arguments.case}: max|a-b| / max|b| = {error:.2e} against {name} (limit {limit:.0e})", flush=True)
        return error

    def run_compiled(work, *options):
        library = os.path.join(work, "model.so")
        subprocess.run(["dlc", case.path, "-target=host", "-o", library, *options], check=True)
        return library, dlc.load(library).run(case.inputs())

    with tempfile.TemporaryDirectory() as work:
        library, got = run_compiled(work)
        symbols = forbidden_symbols(library)
        if symbols:
            print(f"the artifact holds {len(symbols)} symbols of LLVM or the interpreter: {symbols[:3]}")
            failed = True
        failed |= not judge(got, case.outputs(), case.meta["reference"]) <= limit
        if is_narrow and (outputs := run_onnxruntime(case)) is not None:
            failed |= not judge(got, outputs, "onnxruntime") <= limit
        if not arguments.no_interpreter:
            interpreted = dlc.compile(case.path, target="interp").run(case.inputs())
            if not judge(got, interpreted, "the interpreter") <= limit:
                # It adds up in the written order, which loses digits in sums of 100,000 terms. Where that alone takes it past
                # the limit, the comparison is with code that keeps the order.
                if judge(interpreted, case.outputs(), case.meta["reference"] + ", by the interpreter") <= limit:
                    failed = True
                else:
                    failed |= not judge(run_compiled(work, "-fp=strict")[1], interpreted, "the interpreter, compiled with -fp=strict") <= limit
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
