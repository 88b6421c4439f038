#!/usr/bin/env python3
"""What the main loops of f32 products on plain units are made of: check_fma.py

Large products, as they lie and turned, for sm_80, sm_89 and sm_90a: tiles of 128 x 128 with 8 x 8 sums a thread. Of the main loop's
instructions at least 87 % are multiply-adds, there are 16 of them a read of shared memory, none spills, and two blocks fit a
multiprocessor (128 registers, 48 KiB). The control: tiles of 4 x 4 sums, by a schedule in the model's place, fail it. Needs ptxas and nvdisasm."""
import os
import re
import subprocess
import sys
import tempfile

import onnx
import onnx.parser
import sass

LEAST_SHARE, MOST_REGISTERS = 0.87, 128
TEXTS = {"plain": "g (float[{m}, {k}] a, float[{k}, {n}] b) => (float[{m}, {n}] y) {{ y = MatMul(a, b) }}",
         "turned": "g (float[{m}, {k}] a, float[{n}, {k}] b) => (float[{m}, {n}] y) {{ c = Transpose <perm = [1, 0]> (b) y = MatMul(a, c) }}"}


def check(kernels, resources):
    """What is wrong of a product's only kernel."""
    loop = kernels[0].main_loop()
    total, fma = sum(loop.values()), loop["FFMA"]
    reads = sum(count for op, count in loop.items() if op.startswith("LDS.128"))
    wrong = []
    if fma < LEAST_SHARE * total:
        wrong.append(f"{fma} of {total} instructions are multiply-adds")
    if not reads or fma < 16 * reads:
        wrong.append(f"{reads} reads of 16 bytes for {fma} multiply-adds")
    if int(re.search(r'"registers": (\d+)', resources)[1]) > MOST_REGISTERS or '"spill_store_bytes": 0' not in resources:
        wrong.append("registers: " + " ".join(re.findall(r'"(?:registers|spill_\w+)": \d+', resources)))
    print(f"  {fma / max(total, 1):.3f} of {total} instructions are multiply-adds, {reads} reads of shared memory")
    return wrong


def main():
    if not sass.find_nvdisasm():
        print("nvdisasm is not installed: utils/requirements-cuda.txt")
        sys.exit(77)
    failed = False
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "m")
        cases = [(name, sm, 4096, True) for name in TEXTS for sm in ("80", "89", "90a")] + [("plain", "90a", 500, False)]
        for name, sm, size, good in cases:  # the last one has few tiles, of 4 x 4 sums a thread
            onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + TEXTS[name].format(m=size, n=size, k=size)), path + ".onnx")
            print(f"{name} {size} sm_{sm}:")
            subprocess.run(["dlc", path + ".onnx", "-target=cuda:sm=" + sm, "-emit=cubin", "-o", path + ".cubin", "-q"], check=True)
            report = subprocess.run(["dlc", path + ".onnx", "-target=cuda:sm=" + sm, "-emit=report", "-o", "-", "-q"], check=True, capture_output=True,
                                    text=True).stdout
            wrong = check([k for k in sass.disassemble(path + ".cubin") if k.main_loop()["FFMA"]], report)
            if bool(wrong) == good:
                failed = True
                print("  WRONG: " + ("; ".join(wrong) or "the control passes"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
