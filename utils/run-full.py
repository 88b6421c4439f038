#!/usr/bin/env python3
"""Runs the full tier: run-full.py [--slice=k/n] [--list] [name ...], from utils/test.sh --full.

Each utils/full/NAME.sh is a group of units: `NAME.sh --list` prints its units, one a line, and `NAME.sh UNIT` runs one;
0 is passed, 77 is skipped, all else failed. A unit whose last line is `N passed, N failed, N skipped` counts with those
numbers, any other counts as one test. Outcome and log of a unit are kept in build/full/COMMIT, and a unit that passed is not
run again at the same commit, so that a run that was cut short goes on where it was. --slice=k/n runs every n-th unit,
starting with the k-th. The last line is the sum over the slice."""
import argparse
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


def tree_id():
    """The commit's id, and whether the tree differs from it (then nothing is taken from an earlier run)."""
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD"), bool(git("status", "--porcelain"))


def list_units(folder):
    """[(script, unit)] in a fixed order."""
    units = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".sh"):
            script = os.path.join(folder, name)
            listed = subprocess.run([script, "--list"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
            units += [(script, unit) for unit in listed.split()]
    return units


def run_unit(script, unit, log):
    """Runs one unit; its (passed, failed, skipped)."""
    with open(log, "w") as file:
        status = subprocess.run([script, unit], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT).returncode
    with open(log, errors="replace") as file:
        lines = file.read().strip().splitlines()
    counts = SUMMARY.match(lines[-1]) if lines else None
    if counts:
        passed, failed, skipped = map(int, counts.groups())
        return passed, max(failed, int(status != 0)), skipped
    return (1, 0, 0) if status == 0 else (0, 0, 1) if status == 77 else (0, 1, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", default="1/1")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--folder", default=os.path.join(ROOT, "utils", "full"), help="where the scripts are")
    parser.add_argument("--results", default=os.path.join(ROOT, "build", "full"), help="where the outcomes are kept")
    parser.add_argument("names", nargs="*", help="only these scripts or script:unit")
    arguments = parser.parse_args()
    match = re.fullmatch(r"(\d+)/(\d+)", arguments.slice)
    if not match or not 1 <= int(match.group(1)) <= int(match.group(2)):
        parser.error(f"--slice={arguments.slice}: expected k/n with 1 <= k <= n")
    first, step = int(match.group(1)), int(match.group(2))
    units = list_units(arguments.folder)[first - 1 :: step]
    label = lambda script, unit: os.path.basename(script)[:-3] + ":" + unit
    if arguments.names:
        units = [each for each in units if label(*each) in arguments.names or label(*each).split(":")[0] in arguments.names]
    if arguments.list:
        print("\n".join(label(*each) for each in units))
        return
    commit, changed = tree_id()
    results = os.path.join(arguments.results, commit + ("-changed" if changed else ""))
    os.makedirs(results, exist_ok=True)
    total = [0, 0, 0]
    for script, unit in units:
        name = label(script, unit)
        stem = os.path.join(results, name.replace(":", "."))
        counts, note = None, ""
        if not changed and os.path.exists(stem + ".json"):
            with open(stem + ".json") as file:
                kept = json.load(file)
            if not kept["failed"]:
                counts, note = (kept["passed"], 0, kept["skipped"]), "passed before"
        if counts is None:
            start = time.time()
            counts = run_unit(script, unit, stem + ".log")
            note = f"{time.time() - start:.0f} s"
            with open(stem + ".json", "w") as file:
                json.dump(dict(zip(("passed", "failed", "skipped"), counts), unit=name, seconds=round(time.time() - start, 1)), file)
        word = "FAILED" if counts[1] else "passed" if counts[0] else "skipped"
        print(f"{word:8s}{name} ({note})" + (f", log: {os.path.relpath(stem, ROOT)}.log" if counts[1] else ""), flush=True)
        total = [a + b for a, b in zip(total, counts)]
    print(f"full tier at {commit}{' with changes' if changed else ''}, slice {arguments.slice}: {len(units)} units")
    print("{} passed, {} failed, {} skipped".format(*total))
    sys.exit(1 if total[1] or not units else 0)


if __name__ == "__main__":
    main()
