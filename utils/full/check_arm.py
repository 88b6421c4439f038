#!/usr/bin/env python3
"""Cross-compiles one model with symbolic dimensions for AArch64 and runs it under qemu at small sizes: check_arm.py CASE

One compilation; at each size max|a-b| / max|b| of every output must be at most 1e-4 against onnxruntime, which runs on this
machine. Sizes are small because the emulator is slow."""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.dirname(os.path.abspath(__file__))]
import dynamic  # noqa: E402
from check_dynamic import run_onnxruntime, worst  # noqa: E402

IMAGES = [dict(batch=1, height=64, width=64), dict(batch=2, height=32, width=48)]
SIZES = {"dyn_mobilenet_v2": IMAGES, "dyn_mobilenet_v3_large": IMAGES, "dyn_resnet50": IMAGES,
         "dyn_bert_base": [dict(batch=1, seq=9), dict(batch=2, seq=5)],
         "dyn_llama2_decode": [dict(batch=1, past=17), dict(batch=3, past=5)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=SIZES)
    arguments = parser.parse_args()
    case = dynamic.CASES[arguments.case]
    path = dynamic.write(arguments.case, os.path.join(ROOT, "cases"))
    reference, failed = run_onnxruntime(path), 0
    with tempfile.TemporaryDirectory() as work:
        library, out = os.path.join(work, "model.so"), os.path.join(work, "out")
        subprocess.run(["dlc", path, "-target=arm", "-o", library], check=True)
        os.mkdir(out)
        for sizes in SIZES[arguments.case]:
            arrays = case.inputs(sizes)
            files = [os.path.join(work, f"in{i}.npy") for i in range(len(arrays))]
            for file, array in zip(files, arrays):
                np.save(file, array)
            subprocess.run(["dlc-run", library, "-inputs=" + ",".join(files), "-outputs=" + out], check=True)
            expected = reference(arrays)
            got = [np.load(os.path.join(out, f"output_{i}.npy")) for i in range(len(expected))]
            error = worst(got, expected, case.tolerance)
            failed += not error <= case.tolerance
            text = ", ".join(f"{name} {value}" for name, value in sizes.items())
            print(f"{arguments.case} on aarch64: {text}: {error:.2e} against onnxruntime", flush=True)
    print(f"{arguments.case} on aarch64: {len(SIZES[arguments.case])} sizes from one compilation, {failed} failed (limit {case.tolerance:.0e})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
