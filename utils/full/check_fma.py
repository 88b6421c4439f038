#!/usr/bin/env python3
"""What the main loops of f32 products on plain units, and of a convolution on tensor cores, are made of: check_fma.py

Large products, as they lie and turned, and convolutions for sm_80, sm_89 and sm_90a: tiles of 8 x 8 sums a thread. Of the main loop's
instructions at least 87 % are multiply-adds (80 % of convolutions', whose places come from tables), there are 16 of them a read of 16
bytes of shared memory (but for those of tables), none spills, and so many blocks fit a multiprocessor that a thread has 128 registers
at most. The control: tiles of 4 x 4 sums, by a schedule in the model's place, fail it. Needs ptxas and nvdisasm."""
import os
import re
import subprocess
import sys
import tempfile

import onnx
import onnx.parser
import sass

MOST_REGISTERS, MOST_PER_PRODUCT = 128, 20
TEXTS = {"plain": "g (float[{m}, {k}] a, float[{k}, {n}] b) => (float[{m}, {n}] y) {{ y = MatMul(a, b) }}",
         "turned": "g (float[{m}, {k}] a, float[{n}, {k}] b) => (float[{m}, {n}] y) {{ c = Transpose <perm = [1, 0]> (b) y = MatMul(a, c) }}"}


def convolution(channels, size, kernels, taps, stride=1):
    """A convolution of 32 images, padded to (or, with a stride, to a part of) their size."""
    pad, out = taps // 2, -(-size // stride)
    return (f"g (float[32, {channels}, {size}, {size}] x, float[{kernels}, {channels}, {taps}, {taps}] w) => (float[32, {kernels}, {out}, {out}] y) "
            f"{{ y = Conv <pads = [{pad}, {pad}, {pad}, {pad}], strides = [{stride}, {stride}]> (x, w) }}")


#: {name: (text, least share of multiply-adds, of them for each read of 16 bytes of shared memory)}
CASES = {**{name: (text.format(m=4096, n=4096, k=4096), 0.87, 16) for name, text in TEXTS.items()},
         "3x3 of 64 channels": (convolution(64, 56, 64, 3), 0.80, 14), "3x3 of 128": (convolution(128, 28, 128, 3), 0.80, 14),
         "3x3 of 128, stride 2": (convolution(128, 56, 128, 3, 2), 0.80, 14), "5x5": (convolution(64, 56, 128, 5), 0.80, 14),
         "7x7, stride 2": (convolution(3, 224, 64, 7, 2), 0.80, 14), "1x1": (convolution(256, 14, 1024, 1), 0.87, 16)}
#: Few tiles, of 4 x 4 sums a thread.
CONTROL = TEXTS["plain"].format(m=500, n=500, k=500), *CASES["plain"][1:]


def check(kernels, resources, least, products):
    """What is wrong of a product's only kernel."""
    loop = kernels[0].main_loop()
    total, fma = sum(loop.values()), loop["FFMA"]
    reads = sum(count for op, count in loop.items() if op.startswith("LDS.128"))
    wrong = []
    if fma < least * total:
        wrong.append(f"{fma} of {total} instructions are multiply-adds")
    if not reads or fma < products * reads:
        wrong.append(f"{reads} reads of 16 bytes for {fma} multiply-adds")
    registers = re.search(r'"registers": (\d+)', resources)[1]
    if int(registers) > MOST_REGISTERS or '"spill_store_bytes": 0' not in resources:
        wrong.append("registers: " + " ".join(re.findall(r'"(?:registers|spill_\w+)": \d+', resources)))
    print(f"  {fma / max(total, 1):.3f} of {total} instructions are multiply-adds, {reads} reads of shared memory, {registers} registers")
    return wrong


def check_tensor_cores(kernels):
    """A 3 x 3 convolution of f16: instructions of the main loop, a product of 16 x 8 x 16 at a time."""
    loop = kernels[0].main_loop()
    total, products = sum(loop.values()), sum(count for op, count in loop.items() if op.startswith("HMMA"))
    print(f"  {total} instructions for {products} products of tensor cores")
    return [] if products and total <= MOST_PER_PRODUCT * products else [f"{total} instructions for {products} products"]


def main():
    if not sass.find_nvdisasm():
        print("nvdisasm is not installed: utils/requirements-cuda.txt")
        sys.exit(77)
    failed = False
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "m")
        cases = [(name, sm, *case, True) for name, case in CASES.items() for sm in ("80", "89", "90a")] + [("control", "90a", *CONTROL, False)]
        cases += [("3x3 of f16", sm, convolution(64, 56, 64, 3).replace("float[", "float16["), None, None, True) for sm in ("80", "89", "90a")]
        for name, sm, text, least, products, good in cases:
            onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text), path + ".onnx")
            print(f"{name} sm_{sm}:")
            subprocess.run(["dlc", path + ".onnx", "-target=cuda:sm=" + sm, "-emit=cubin", "-o", path + ".cubin", "-q"], check=True)
            report = subprocess.run(["dlc", path + ".onnx", "-target=cuda:sm=" + sm, "-emit=report", "-o", "-", "-q"], check=True, capture_output=True,
                                    text=True).stdout
            kernels = sass.disassemble(path + ".cubin")
            wrong = check([k for k in kernels if k.main_loop()["FFMA"]], report, least, products) if least else check_tensor_cores(kernels)
            if bool(wrong) == good:
                failed = True
                print("  WRONG: " + ("; ".join(wrong) or "the control passes"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
