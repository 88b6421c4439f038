#!/usr/bin/env python3
"""Compiles one case of utils/bench for CUDA and looks at the code, then runs it without a GPU:

    check_cuda.py CASE [--emulate | --random] [--fuse on,off]

Static gate, for sm_80, sm_89 and sm_90a: ptxas takes the kernels without remarks (wgmma that it serialises), none has more than 64 bytes of spills, and those that have some
are listed. nvdisasm, where it is installed, then reads the machine code (sass.py): nothing spilled in any loop, tensor cores and
asynchronous copies where the PTX has them. Without it kernels with a main loop (contractions, attentions) may spill nothing.
--emulate: the artifact runs on the emulated driver, and max|a-b| / max|b| of every output must be at most the limit of
check_model.py against the case's expected outputs; the work of the emulated device is put off, so that a missing wait is a wrong
result. Not run on hardware."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "utils", "bench"), os.path.dirname(os.path.abspath(__file__))]
import sass  # noqa: E402

ARCHITECTURES = ("80", "89", "90a")
MOST_SPILLS = 64  # bytes of a thread, outside of main loops


def gate(report, sees_loops=None):
    """(complaints, notes) about what ptxas says of the launches in a report; whether loops are looked into besides (default: with nvdisasm)."""
    wrong, notes = [], []
    if sees_loops is None:
        sees_loops = bool(sass.find_nvdisasm())
    # What else ptxas says, such as that it lets wgmma run one after the other.
    wrong += report.get("assembler_remarks", [])
    for kernel in report["kernels"]:
        for launch in kernel["launches"]:
            if "registers" not in launch:
                wrong.append(f"{launch['name']}: ptxas says nothing of it")
                continue
            spills = max(launch["spill_store_bytes"], launch["spill_load_bytes"])
            text = f"{launch['name']} ({kernel['nest']}): {spills} bytes of spills, {launch['registers']} registers"
            has_loop = kernel["nest"] in ("contraction", "attention")
            if spills > (0 if has_loop and not sees_loops else MOST_SPILLS):
                wrong.append(text)
            elif spills:
                notes.append(text)
    return wrong, notes


def gate_library(table):
    """The same for the operation table of a kernel library, whose machine code nobody reads, and how many launches there are."""
    kernels = [kernel for op in table["operations"] for instance in op["instances"] for kernel in instance["device_kernels"]]
    return *gate({"kernels": kernels}, sees_loops=False), sum(len(kernel["launches"]) for kernel in kernels)


def lint(report, folder):
    """(complaints, notes) about the machine code of folder/model.cubin; nothing without nvdisasm."""
    if not sass.find_nvdisasm():
        return [], []
    opaque = {launch["name"] for kernel in report["kernels"] for launch in kernel["launches"] if kernel["nest"] == "opaque"}
    with open(os.path.join(folder, "model.ptx")) as file:
        return sass.lint(sass.disassemble(os.path.join(folder, "model.cubin")), sass.ptx_kernels(file.read()), opaque)


def compile_case(path, folder, *options, emit="shared,report"):
    """The report of a compilation to folder/model.so."""
    library = os.path.join(folder, "model.so")
    subprocess.run(["dlc", path, "-o", library, "-emit=" + emit, "-q", *options], check=True)
    with open(os.path.join(folder, "model.json")) as file:
        return library, json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="a name of utils/bench, a folder with model.onnx, or a library's operation table (.json)")
    parser.add_argument("--emulate", action="store_true")
    parser.add_argument("--random", action="store_true", help="emulated beside the interpreter on random inputs, not the case's own results")
    parser.add_argument("--fuse", default="on", help="on, off or both: on,off")
    arguments = parser.parse_args()

    if arguments.case.endswith(".json"):
        with open(arguments.case) as file:
            table = json.load(file)
        wrong, notes, launches = gate_library(table)
        print(f"{table['name']}: {launches} launches, {len(wrong)} refused by the gate")
        for text in wrong + notes:
            print(f"  {'refused' if text in wrong else 'noted'}: {text}")
        sys.exit(1 if wrong or not launches else 0)
    folder = arguments.case
    if not os.path.isdir(folder):
        import compare as cases

        folder = os.path.join(ROOT, "cases", arguments.case)
        cases.make_cases([arguments.case], os.path.dirname(folder))
    path, name, failed = os.path.join(folder, "model.onnx"), os.path.basename(folder), False
    if not sass.find_nvdisasm():
        print("nvdisasm is not installed (utils/requirements-cuda.txt): the machine code is not read")
    with tempfile.TemporaryDirectory() as work:
        for fuse in arguments.fuse.split(","):
            for sm in ARCHITECTURES:
                _, report = compile_case(path, work, f"-target=cuda:sm={sm}", "-fuse=" + fuse, "-weights=external",
                                         emit="shared,report,ptx,cubin")
                wrong, notes = (a + b for a, b in zip(gate(report), lint(report, work), strict=True))
                launches = sum(len(kernel["launches"]) for kernel in report["kernels"])
                print(f"{name} sm_{sm} fuse={fuse}: {launches} launches, {len(wrong)} refused by the gate", flush=True)
                for text in wrong + notes:
                    print(f"  {'refused' if text in wrong else 'noted'}: {text}")
                failed |= bool(wrong)
    if arguments.emulate:
        failed |= not emulate(folder, name, arguments.fuse.split(","))
    if arguments.random:
        failed |= not compare(path, name, arguments.fuse.split(","))
    sys.exit(1 if failed else 0)


def compare(path, name, modes):
    """Whether the case agrees with the interpreter on random inputs."""
    os.environ["DLC_CUDA_DRIVER"] = os.path.join(ROOT, "build", "lib", "libdlc_emulated_cuda.so")
    right = True
    for fuse in modes:
        with tempfile.TemporaryDirectory() as work:
            library, _ = compile_case(path, work, "-target=cuda:sm=80:emulate=on", "-fuse=" + fuse)
            done = subprocess.run(["dlc-run", library, "-random=1", "-compare=" + path], capture_output=True, text=True)
            print(f"{name} fuse={fuse} on random inputs: {(done.stdout + done.stderr).strip()}", flush=True)
            right &= done.returncode == 0
    return right


def emulate(folder, name, modes):
    """Whether the case is right on the emulated driver."""
    import peers
    from check_model import judge_rejects_a_fault, largest_error

    import dlc

    os.environ["DLC_CUDA_DRIVER"] = os.path.join(ROOT, "build", "lib", "libdlc_emulated_cuda.so")
    case, right = peers.Case(folder), True
    narrow = case.meta["reference"].startswith("torch in float32")
    limit = case.meta["tolerance"] if narrow else min(case.meta["tolerance"], 1e-4)
    expected = case.outputs()
    if not judge_rejects_a_fault(expected, limit):
        sys.exit("the judge takes a planted fault for right")
    for fuse in modes:
        with tempfile.TemporaryDirectory() as work:
            library, _ = compile_case(case.path, work, "-target=cuda:sm=80:emulate=on", "-fuse=" + fuse)
            model, start = dlc.load(library), time.time()
            got = model.run(case.inputs())
            error = max(largest_error(a, b) for a, b in zip(got, expected, strict=True))
            print(f"{name} fuse={fuse}: max|a-b| / max|b| = {error:.2e} (limit {limit:.0e}) emulated in {time.time() - start:.0f} s", flush=True)
            right &= error <= limit
            del model
    return right


if __name__ == "__main__":
    main()
