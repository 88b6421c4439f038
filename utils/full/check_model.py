#!/usr/bin/env python3
"""Compiles one case of utils/bench for the host and compares its outputs: check_model.py CASE [--no-interpreter]

max|a-b| / max|b| of every output must be at most min(the case's tolerance, 1e-4) against the expected outputs (onnxruntime's)
and against dlc's own interpreter; integer outputs must be equal. The artifact must hold no interpreter and no LLVM symbol."""
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
    limit = min(case.meta["tolerance"], 1e-4)
    failed = False
    with tempfile.TemporaryDirectory() as work:
        library = os.path.join(work, "model.so")
        subprocess.run(["dlc", case.path, "-target=host", "-o", library], check=True)
        symbols = forbidden_symbols(library)
        if symbols:
            print(f"the artifact holds {len(symbols)} symbols of LLVM or the interpreter: {symbols[:3]}")
            failed = True
        got = dlc.load(library).run(case.inputs())
        others = {"onnxruntime": case.outputs()}
        if not arguments.no_interpreter:
            others["interpreter"] = dlc.compile(case.path, target="interp").run(case.inputs())
        for name, expected in others.items():
            if len(got) != len(expected):
                sys.exit(f"{len(got)} outputs, {name} has {len(expected)}")
            error = max(largest_error(a, b) for a, b in zip(got, expected))
            print(f"{arguments.case}: max|a-b| / max|b| = {error:.2e} against {name} (limit {limit:.0e})")
            failed = failed or not error <= limit
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
