#!/usr/bin/env python3
"""Reads the machine code of CUDA kernels with nvdisasm and looks for what ptxas does not say:

    sass.py kernels.cubin [kernels.ptx]     a line a kernel, and what is wrong

Wrong in a kernel: an access of local memory (a spill, or an array that stayed in memory) inside a loop; tensor cores, ldmatrix or
asynchronous copies in its PTX and not in its machine code. Noted: subroutine calls inside a loop (exact divisions and roots), f64
arithmetic inside a loop. The main loop is that with the most multiplications."""
import collections
import os
import re
import shutil
import subprocess
import sys

INSTRUCTION = re.compile(r"/\*([0-9a-f]+)\*/\s+(?:@!?U?P[T\d]+\s+)?([A-Z][\w.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_x_\d+):")
KERNEL = re.compile(r"^\.text\.(\S+):")
TARGET = re.compile(r"`\((\.L_x_\d+)\)")
LOCAL, CALLS, F64 = ("LDL", "STL"), ("CALL",), ("DADD", "DMUL", "DFMA", "DSETP")
PRODUCTS = ("FFMA", "FMUL", "HMMA", "IMMA", "HGMMA", "IGMMA", "DFMA")
#: What a kernel's PTX has, and its machine code must have, too.
EXPECTED = {"mma.sync": ("HMMA", "IMMA"), "wgmma.mma_async": ("HGMMA", "IGMMA"), "ldmatrix": ("LDSM",), "cp.async": ("LDGSTS",)}


def find_nvdisasm():
    """The path of nvdisasm: of this Python's packages (nvidia-cuda-nvdisasm), of PATH, of /usr/local/cuda; None: there is none."""
    for folder in sys.path:
        path = os.path.join(folder, "nvidia", "cu13", "bin", "nvdisasm")
        if os.access(path, os.X_OK):
            return path
    return shutil.which("nvdisasm") or shutil.which("/usr/local/cuda/bin/nvdisasm")


class Kernel:
    """Instructions as (address, opcode), and loops as (first, last) address."""

    def __init__(self, name):
        self.name, self.code, self.loops = name, [], []

    def in_loops(self, opcodes):
        return [op for at, op in self.code if op.split(".")[0] in opcodes and any(a <= at <= b for a, b in self.loops)]

    def count(self, opcodes):
        return sum(op.split(".")[0] in opcodes for _, op in self.code)

    def main_loop(self):
        """What the loop with the most multiplications does, the shortest of such: {opcode: count}."""
        bodies = [collections.Counter(op for at, op in self.code if a <= at <= b) for a, b in self.loops]
        return max(bodies, key=lambda body: (sum(n for op, n in body.items() if op.split(".")[0] in PRODUCTS), -sum(body.values())),
                   default=collections.Counter())


def parse(text):
    """The kernels of nvdisasm's text. A branch to an earlier place ends a loop; the last one jumps to itself and is none."""
    kernels, labels, jumps = [], {}, []

    def finish():
        for at, label in jumps:
            if label in labels and labels[label] < at:
                kernels[-1].loops.append((labels[label], at))
        labels.clear()
        jumps.clear()

    waiting = []  # labels in front of the next instruction
    for line in text.splitlines():
        if match := KERNEL.match(line):
            if kernels:
                finish()
            kernels.append(Kernel(match[1]))
        elif match := LABEL.match(line):
            waiting.append(match[1])
        elif (match := INSTRUCTION.search(line)) and kernels:
            at = int(match[1], 16)
            labels.update((label, at) for label in waiting)
            waiting.clear()
            # A call of a place in the kernel itself is how ptxas leaves some loops.
            is_jump = match[2].startswith("CALL") and "$" not in match[3]
            kernels[-1].code.append((at, "BRA" if is_jump else match[2]))
            if match[2].startswith("BRA") and (target := TARGET.search(match[3])):
                jumps.append((at, target[1]))
    if kernels:
        finish()
    return kernels


def disassemble(cubin):
    return parse(subprocess.run([find_nvdisasm(), "-c", cubin], check=True, capture_output=True, text=True).stdout)


def ptx_kernels(ptx):
    """{kernel: its PTX text}."""
    parts = re.split(r"\.entry\s+(\S+?)\(", ptx)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def lint(kernels, ptx, may_use_memory=()):
    """(complaints, notes) of kernels whose PTX is `ptx`, by name. Local memory in loops of kernels named in `may_use_memory` is noted."""
    wrong, notes = [], []
    for kernel in kernels:
        if local := kernel.in_loops(LOCAL):
            (notes if kernel.name in may_use_memory else wrong).append(f"{kernel.name}: {len(local)} accesses of local memory in loops")
        for instruction, opcodes in EXPECTED.items():
            if instruction in ptx.get(kernel.name, "") and not kernel.count(opcodes):
                wrong.append(f"{kernel.name}: {instruction} in PTX, no {' or '.join(opcodes)} in machine code")
        for what, opcodes in (("calls", CALLS), ("f64 instructions", F64)):
            if found := kernel.in_loops(opcodes):
                notes.append(f"{kernel.name}: {len(found)} {what} in loops")
    missing = set(ptx) - {kernel.name for kernel in kernels}
    wrong += [f"{name}: not in the machine code" for name in sorted(missing)]
    return wrong, notes


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if not find_nvdisasm():
        sys.exit("nvdisasm is not installed: utils/requirements-cuda.txt")
    ptx = ptx_kernels(open(sys.argv[2]).read()) if len(sys.argv) > 2 else {}
    kernels = disassemble(sys.argv[1])
    for kernel in kernels:
        body = ", ".join(f"{n} {op}" for op, n in kernel.main_loop().most_common(8))
        print(f"{kernel.name}: {len(kernel.code)} instructions, {len(kernel.loops)} loops; main loop: {body}")
    wrong, notes = lint(kernels, ptx)
    print("\n".join([f"wrong: {text}" for text in wrong] + [f"note: {text}" for text in notes]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
