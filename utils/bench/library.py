#!/usr/bin/env python3
"""A kernel library beside oneDNN (torch), onnxruntime and OpenBLAS (numpy), on a GPU beside cuBLAS and SDPA (torch): library.py [--groups=bf16,f32,...] [--threads=1] [--table]

Builds a library for this machine, times the instance that a call takes with the library's own profiler (all systems in turn in one
process, warm medians), and prints a row a group: how many calls, the geometric mean of best peer / dlc, its goal, the worst call. A
group's results are kept in --out as CSV; --table prints those that lie there and measures nothing, --all every call. --check: exit code 1 where a
goal is missed."""
import argparse
import csv
import importlib
import json
import math
import os
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
LEAST = 0.95  # of any call
HOPELESS = 10  # times the best peer: who takes so long is not asked again for more rows (torch's f16 products without AMX take minutes)
GOALS = {"bf16": 1.15, "f32": 1.08, "f16": 1.10, "one row": 0.97, "attention": 1.20, "rows": None}
FLOATS = ["f32", "bf16", "f16"]
LARGE, OPEN = {"n": 4096, "k": 4096}, {"n": 1024, "k": 1024}
ROWS = [16, 128, 512]
HEADS = {"heads": 32, "kv_heads": 32, "d": 128}

MANIFEST = {
    "schema_version": 1, "name": "benchlib", "cpus": ["host"], "operations": [
        {"op": "matmul", "layouts": ["nn", "nt"], "dtypes": FLOATS, "dims": {"m": "@128", "n": "@1024", "k": "@1024"}, "shapes": [LARGE]},
        {"op": "matmul", "layouts": ["nt"], "packed": True, "dtypes": FLOATS, "dims": {"m": "@128"}, "shapes": [LARGE]},
        {"op": "attention", "phase": "prefill", "layout": "tokens-first", "dtypes": FLOATS, "dims": {"tokens": "@512"}, "shapes": [HEADS]},
        {"op": "attention", "phase": "decode", "layout": "tokens-first", "dtypes": FLOATS, "dims": {"keys": "@1024"}, "shapes": [HEADS]},
        {"op": "softmax", "dtypes": FLOATS, "dims": {"rows": "@128", "columns": "@4096"}},
        {"op": "layer_norm", "dtypes": ["f32", "bf16"], "dims": {"rows": "@128", "columns": "@4096"}},
        {"op": "rms_norm", "dtypes": ["f32", "bf16"], "dims": {"rows": "@128", "columns": "@4096"}},
    ]}


def list_calls(group, is_device):
    """(operation, sizes by name) of a group. Products of 4096 have an instance, those of 1024 are any size's. A device gets more to do."""
    counts, lengths = (ROWS + [4096], (512, 2048)) if is_device else (ROWS, (128, 512))
    layouts = ["matmul_nn", "matmul_nt", "matmul_nt_packed"]
    products = lambda dtype, rows: [(f"{layout}_{dtype}", dict(shape, m=m)) for layout in layouts
                                    for shape in ([LARGE] if "packed" in layout else [LARGE, OPEN]) for m in rows]
    if group in FLOATS:
        return products(group, counts)
    if group == "one row":
        return [call for dtype in FLOATS for call in products(dtype, [1]) if call[1]["n"] == 4096]
    if group == "attention":
        return [(f"attention_prefill_{dtype}", dict(HEADS, batch=1, tokens=tokens)) for dtype in FLOATS for tokens in lengths] + [
            (f"attention_decode_{dtype}", dict(HEADS, batch=1, keys=1024)) for dtype in FLOATS]
    return [(f"{kind}_{dtype}", {"rows": 65536 if is_device else 128, "columns": columns}) for kind, dtypes in (
        ("softmax", FLOATS), ("layer_norm", FLOATS[:2]), ("rms_norm", FLOATS[:2])) for dtype in dtypes for columns in (512, 4096)]


def build(folder, target):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "benchlib.json")
    with open(path, "w") as file:
        json.dump({key: value for key, value in MANIFEST.items() if key != "cpus" or not target.startswith("cuda")}, file)
    subprocess.run(["dlc", path, "-emit=kernel-library", "-target=" + target, "-q", "-o", os.path.join(folder, "library")], check=True)


def measure(group, o):
    """Times a group's calls into its CSV."""
    sys.path.insert(0, os.path.join(o.out, "library", "python"))
    library, profile = importlib.import_module("benchlib"), importlib.import_module("benchlib.profile")
    np = importlib.import_module("numpy")
    library.set_num_threads(o.threads)
    options = argparse.Namespace(threads=o.threads, seconds=o.seconds, peers=o.peers.split(","))
    if "torch" in options.peers:
        importlib.import_module("torch").set_num_threads(o.threads)
    rows, peers, hopeless = [], options.peers, {}
    for name, sizes in list_calls(group, library.ON_DEVICE):
        options.peers = [peer for peer in peers if peer not in hopeless.setdefault(name, set())]
        op = library.operations[name]
        index = op.select(**sizes)
        times = profile.profile(op, index, [sizes[n] for n in op.names], options, np.random.default_rng(1))
        own = times.pop("dlc")
        best = min(times, key=times.get)
        hopeless[name].update(peer for peer, seconds in times.items() if seconds > HOPELESS * times[best])
        text = "x".join(str(sizes[n]) for n in op.names)
        rows.append([group, name, text, op.instances[index]["name"], f"{own * 1e6:.1f}", best, f"{times[best] * 1e6:.1f}", f"{times[best] / own:.3f}"])
    with open(os.path.join(o.out, f"{group.replace(' ', '-')}.csv"), "w") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def show(o, groups):
    """The table; the number of missed goals."""
    missed = 0
    print(f"| group | calls | geometric mean | goal | below {LEAST} | worst |\n|---|---|---|---|---|---|")
    for group in groups:
        path = os.path.join(o.out, f"{group.replace(' ', '-')}.csv")
        if not os.path.exists(path):
            continue
        with open(path) as file:
            rows = list(csv.reader(file))
        ratios = [float(row[-1]) for row in rows]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        goal, low = GOALS[group], sum(ratio < LEAST for ratio in ratios)
        worst = min(rows, key=lambda row: float(row[-1]))
        missed += low + (goal is not None and mean < goal)
        print(f"| {group} | {len(rows)} | {mean:.2f} | {goal or ''} | {low} | {worst[-1]}: {worst[1]} {worst[2]} ({worst[5]}) |")
        if o.all:
            for row in rows:
                print(f"| | {row[1]} {row[2]} | {row[-1]} | {row[4]} us | {row[5]} {row[6]} us | {row[3]} |")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default=",".join(GOALS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each call and system")
    parser.add_argument("--peers", default="numpy,torch,onnxruntime")
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench", "library"))
    parser.add_argument("--target", default="x86:cpu=host", help="of dlc; cuda:sm=90a is measured on device 0, beside torch alone")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--build", action="store_true", help="only that")
    parser.add_argument("--no-build", action="store_true", help="take the library that lies there")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    o = parser.parse_args()
    # OpenBLAS reads it when numpy is loaded.
    os.environ["OPENBLAS_NUM_THREADS"], os.environ["OPENBLAS_THREAD_TIMEOUT"] = str(o.threads), "4"
    groups = o.groups.split(",")
    unknown = [group for group in groups if group not in GOALS]
    if unknown:
        parser.error(f"no group {unknown[0]!r}; there are {', '.join(GOALS)}")
    if not o.table and not o.no_build:
        build(o.out, o.target)
    if not o.table and not o.build:
        for group in groups:
            measure(group, o)
    missed = 0 if o.build else show(o, groups)
    return 1 if o.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
