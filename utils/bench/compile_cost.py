#!/usr/bin/env python3
"""What compiling costs, against its limits: compile_cost.py [case ...] (default: the cases whose limits are promised)

Prints wall seconds, CPU seconds and peak memory of `dlc case -target=host -j2`, best of --runs, and exits 1 when a limit is
passed: ResNet-50 20 s, a one-node model 150 ms (the second compile on, with a warm disk cache), and for every case peak
memory of 2.5 times the weights + 400 MB."""
import argparse
import os
import shutil
import sys
import tempfile
import time

import onnx
import onnx.parser

import compare

ONE_NODE = '<ir_version: 10, opset_import: ["": 20]> one (float[64, 64] x) => (float[64, 64] y) { y = Relu(x) }'
SECONDS = {"one_node": 0.150, "resnet50": 20.0}
DEFAULT = ["one_node", "resnet50", "mobilenet_v2", "bert_base_s128"]


def compile_once(dlc, model, out):
    """(wall seconds, CPU seconds, peak bytes) of one compilation; exits when it fails."""
    start = time.perf_counter()
    child = os.posix_spawn(dlc, [dlc, model, "-target=host", "-j2", "-q", "-o", out], os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"compile_cost: dlc failed on {model} (wait status {status})")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def weight_bytes(model):
    """Bytes of a model file, external data included: what the memory limit counts as weights."""
    folder = os.path.dirname(model)
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)
               if os.path.join(folder, name) == model or name.endswith((".bin", ".data")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=DEFAULT)
    parser.add_argument("--dlc", default=shutil.which("dlc") or os.path.join(compare.ROOT, "build", "bin", "dlc"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", default=os.path.join(compare.ROOT, "cases"), help="folder of the cases")
    arguments = parser.parse_args()
    compare.make_cases([case for case in arguments.cases if case != "one_node"], arguments.folder)
    failed = False
    print("| case | wall s | limit | CPU s | peak MB | limit |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for case in arguments.cases:
            if case == "one_node":
                model = os.path.join(work, "one", "model.onnx")
                os.mkdir(os.path.dirname(model))
                onnx.save(onnx.parser.parse_model(ONE_NODE), model)
            else:
                model = os.path.join(arguments.folder, case, "model.onnx")
            if case == "one_node":
                compile_once(arguments.dlc, model, os.path.join(work, "model.so"))
            costs = [compile_once(arguments.dlc, model, os.path.join(work, "model.so")) for _ in range(arguments.runs)]
            wall, cpu, peak = (min(column) for column in zip(*costs))
            memory_limit = 2.5 * weight_bytes(model) + 400e6
            limit = SECONDS.get(case)
            failed |= peak > memory_limit or (limit is not None and wall > limit)
            print(f"| {case} | {wall:.3f} | {limit or '-'} | {cpu:.3f} | {peak / 1e6:.0f} | {memory_limit / 1e6:.0f} |", flush=True)
    if failed:
        sys.exit("compile_cost: a limit is passed")


if __name__ == "__main__":
    main()
