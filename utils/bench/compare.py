#!/usr/bin/env python3
"""dlc beside its peers over the fixed rows: compare.py [class ...] [--threads 1] [--systems ort ov dlc] [--sample n]

By default a class is measured beside onnxruntime and OpenVINO, one of attentions beside torch's SDPA too, and one of bf16 beside OpenVINO's
bf16 instead of its f32; what a class is not measured beside has no figure in its rows.

Run by utils/bench-x86. Takes the rows of the given classes (default: all) from rows.txt, writes the cases that are not there
yet, measures every system on a row before it goes to the next row, and measures the first peer a second time at the row's end:
the ratio of its two figures (A/A) is what this machine cannot tell apart. Prints a Markdown table for
docs/performance.md: median milliseconds, best peer / dlc (above 1: dlc is faster), and the geometric mean of a class.
Exits 1 when dlc failed or was wrong on a row."""
import argparse
import json
import math
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")


def read_rows(classes, sample):
    """[(class, case)] of rows.txt for `classes` (all when empty), at most `sample` of a class when it is not 0."""
    with open(os.path.join(HERE, "rows.txt")) as file:
        rows = [tuple(line.split()) for line in file if line.strip() and not line.startswith("#")]
    unknown = set(classes) - {name for name, _ in rows}
    if unknown:
        sys.exit(f"compare: no class {', '.join(sorted(unknown))}; there are {', '.join(dict(rows))}")
    taken = []
    for name, case in rows:
        if (not classes or name in classes) and not (sample and sum(1 for c, _ in taken if c == name) >= sample):
            taken.append((name, case))
    return taken


def make_cases(cases, folder):
    """Writes the cases that `folder` lacks."""
    missing = [case for case in cases if not os.path.exists(os.path.join(folder, case, "meta.json"))]
    python = [sys.executable]
    real = [case for case in missing if case.startswith("real_")]
    wide = [case for case in missing if "_full_" in case]
    made = [case for case in missing if case not in real and case not in wide]
    if made:
        subprocess.run(python + [HERE + "/models.py", "--out", folder, "--only", *made], check=True)
    if wide:
        subprocess.run(python + [HERE + "/models.py", "--out", folder, "--full-width", "--only", *wide], check=True)
    if real:
        wheels = os.path.join(ROOT, "wheels")
        subprocess.run(python + [HERE + "/real_models.py", "--out", folder, "--cache", wheels, "--only", *real], check=True)


def systems_of(name, chosen):
    """The systems that class `name` is measured beside; `chosen` by the caller, or nothing."""
    if chosen:
        return chosen
    more = ["sdpa"] if name.startswith("attention") else []
    return ["ov-def", *more, "dlc"] if "bf16" in name else ["ort", "ov", *more, "dlc"]


def measure(case, systems, arguments, results, quiet=False):
    """{(system, threads): row} of one case, from peers.py; it prints each row as it is measured, unless `quiet`."""
    command = [sys.executable, HERE + "/peers.py", os.path.join(arguments.cases, case), "--systems", *systems]
    command += ["--threads", *map(str, arguments.threads), "--json", results, "--work", os.path.join(ROOT, "peers-work")]
    command += ["--budget", str(arguments.budget), "--dlc-cmd", arguments.dlc_cmd]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)
    if not os.path.exists(results):
        return {}
    with open(results) as file:
        return {(row["system"], row["threads"]): row for row in json.load(file) if row["case"] == case}


def cell(row):
    """A row's median in ms, or why there is none."""
    if row is None:
        return "-"
    if row.get("error"):
        return "failed"
    return f"{row['median_ms']:.3g}" + ("" if row["ok"] else " wrong")


def good(row):
    return row is not None and not row.get("error") and row["ok"]


def print_table(rows, found, systems, threads):
    """The Markdown table of one thread count; the number of rows where dlc is missing or wrong."""
    peers = [system for system in systems if system != "dlc"]
    print(f"\n### {threads} thread{'s' if threads > 1 else ''}: median ms\n")
    print("| class | case | " + " | ".join(systems) + " | A/A | best peer / dlc |")
    print("|---" * (len(systems) + 4) + "|")
    ratios, bad = {}, 0
    for name, case in rows:
        cells = {system: found[case].get((system, threads)) for system in systems}
        again, first = found[case]["control", threads]
        best = min((row["median_ms"] for system, row in cells.items() if system in peers and good(row)), default=None)
        ratio = best / cells["dlc"]["median_ms"] if best and good(cells.get("dlc")) else None
        if "dlc" in systems and not good(cells.get("dlc")):
            bad += 1
        if ratio:
            ratios.setdefault(name, []).append(ratio)
        control = again["median_ms"] / first["median_ms"] if good(again) and good(first) else None
        print(f"| {name} | {case} | " + " | ".join(cell(cells[system]) for system in systems)
              + f" | {f'{control:.2f}' if control else '-'} | {f'{ratio:.2f}' if ratio else '-'} |")
    for name, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        print(f"\n{name}: geometric mean of best peer / dlc {mean:.2f} over {len(values)} rows", end="")
    print()
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*")
    parser.add_argument("--systems", nargs="*", default=[])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--sample", type=int, default=0, help="at most this many rows of a class")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of timed runs for each measurement")
    parser.add_argument("--cases", default=os.path.join(ROOT, "cases"), help="folder of the cases")
    parser.add_argument("--dlc-cmd", default="dlc {model} -target=x86 -o {out}")
    parser.add_argument("--json", default=os.path.join(ROOT, "peers-work", "results.json"))
    arguments = parser.parse_args()
    rows = read_rows(arguments.classes, arguments.sample)
    os.makedirs(os.path.dirname(arguments.json), exist_ok=True)
    make_cases([case for _, case in rows], arguments.cases)
    found, systems = {}, []
    for name, case in rows:
        own = systems_of(name, arguments.systems)
        systems += [system for system in own if system not in systems]
        found[case] = measure(case, own, arguments, arguments.json)
        again = measure(case, own[:1], arguments, arguments.json.replace(".json", "") + ".control.json")
        for threads in arguments.threads:
            found[case]["control", threads] = again.get((own[0], threads)), found[case].get((own[0], threads))
    systems.sort(key="dlc".__eq__)
    bad = sum(print_table(rows, found, systems, threads) for threads in arguments.threads)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
