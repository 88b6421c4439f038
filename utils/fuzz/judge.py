#!/usr/bin/env python3
"""Judges compiled random graphs (graphs.py): with fusion and without, strict and reassoc, beside the interpreter.

    judge.py [--families=mix,norms] [--seeds=1-5] [--ops=1000-2000] [--symbolic] [--controls] [--unfused] [--time] [--keep=FOLDER] [--json=FILE]

For each graph and each run of it:
- strict, fused: equal bits with `-fuse=off` and with the interpreter on the compiler's own functions (NaN payloads apart); and within
  the gate, or that of sums from left to right, which strict's are;
- reassoc, fused (--unfused: and not): within the gate of evaluate.py of the float64 evaluation; integers and bools equal. What is
  outside fused is compiled unfused too: the message says whether that is right.
A graph succeeds when all of this holds, Check refused none of the groups that were formed (the report's `fusion.refused`). `--controls` breaks each graph in four ways and asks the same judge: a fault that it does not see is a failure.
The last line is `N passed, N failed, N skipped`."""
import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from onnx import TensorProto

import controls
import evaluate
import graphs

TIMEOUT = 600
# A gate that is wider than this part of the values (which are near 1) sees no small fault; such outputs are counted.
SHARP = {TensorProto.FLOAT: 2.0**-9, TensorProto.DOUBLE: 2.0**-30, TensorProto.FLOAT16: 1.0, TensorProto.BFLOAT16: 4.0}


class Failure(Exception):
    """What is wrong with a graph; `kind` is one of compile, run, bits, gate, refused, controls."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def tool(name):
    found = shutil.which(name)
    if not found:
        sys.exit(f"{name} is not on PATH")
    return found


def call(command, kind, note=""):
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failure(kind, f"{note}no end after {TIMEOUT} s: {' '.join(command)}") from None
    if done.returncode:
        text = (done.stderr.strip() or "no message")[-600:]
        raise Failure(kind, f"{note}{os.path.basename(command[0])} ended with {done.returncode}: {text}")
    return done


def knows_fusion():
    """True when this dlc has -fuse."""
    return "-fuse" in subprocess.run([tool("dlc"), "-help"], capture_output=True, text=True).stdout


def load(path, type):
    array = np.load(path)
    if type == TensorProto.BFLOAT16:
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    return array


class Subject:
    """A model in a folder, its inputs as files, and what it is compiled to."""

    def __init__(self, case, folder):
        self.case, self.folder = case, folder
        self.runs = graphs.write(case, folder)
        self.model = os.path.join(folder, "model.onnx")
        self.types = [o.type.tensor_type.elem_type for o in case.model.graph.output]
        self.seconds = {}

    def compile(self, name, *options, model=None):
        """The artifact's path; its report lies beside it."""
        path = os.path.join(self.folder, name + ".so")
        start = time.time()
        call([tool("dlc"), model or self.model, "-q", "-o", path, "-emit=shared,report", *options], "compile", f"{name}: ")
        self.seconds[name] = time.time() - start
        return path

    def _collect(self, out, command, kind):
        os.makedirs(out, exist_ok=True)
        call(command, kind)
        return [load(os.path.join(out, f"output_{i}.npy"), t) for i, t in enumerate(self.types)]

    def run(self, artifact, number):
        out = artifact[:-3] + f"_out{number}"
        inputs = ["-inputs=" + ",".join(self.runs[number])] if self.runs[number] else []
        return self._collect(out, [tool("dlc-exec"), artifact, *inputs, "-outputs=" + out], "run")

    def interpret(self, number, *options):
        out = os.path.join(self.folder, f"interp{number}")
        inputs = ["-inputs=" + ",".join(self.runs[number])] if self.runs[number] else []
        return self._collect(out, [tool("dlc-run"), self.model, "-target=interp", "-math=dlc", *inputs, "-outputs=" + out, *options], "run")


# ---------------------------------------------------------------------------------------------- comparing
def as_bits(array):
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind in "fV" else array


def is_nan(array):
    return np.isnan(array.astype(np.float64)) if array.dtype.kind in "fV" else np.zeros(array.shape, bool)


def same_bits(got, expected):
    """None, or how the first of the elements differs; NaNs are equal whatever their payload."""
    for number, (a, b) in enumerate(zip(got, expected)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {number} is {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}"
        wrong = (as_bits(a) != as_bits(b)) & ~(is_nan(a) & is_nan(b))
        if wrong.any():
            at = tuple(int(n) for n in np.argwhere(np.atleast_1d(wrong))[0])
            a, b = np.atleast_1d(a), np.atleast_1d(b)
            return f"output {number}: {np.count_nonzero(wrong)} of {a.size} elements differ, first {list(at)}: {a[at]!r}, expected {b[at]!r}"
    return None


def within_gate(got, reference, slack=1):
    """None, or the worst element that is outside its gate (times `slack`)."""
    for number, (a, (expected, gate)) in enumerate(zip(got, reference)):
        if a.shape != expected.shape:
            return f"output {number} has shape {list(a.shape)}, expected {list(expected.shape)}"
        if gate is None:
            if not np.array_equal(a, expected):
                return f"output {number}: {np.count_nonzero(a != expected)} of {a.size} integers differ"
            continue
        error, gate = np.abs(a.astype(np.float64) - expected), gate * slack
        wrong = ~(error <= gate)  # NaN is wrong
        if wrong.any():
            ratio = np.where(np.isnan(error), np.inf, error / gate)
            at = np.unravel_index(np.argmax(ratio), ratio.shape) if ratio.shape else ()
            return (f"output {number}: {np.count_nonzero(wrong)} of {a.size} elements are outside, worst {[int(n) for n in at]}: {float(a[at])!r}, "
                    f"expected {float(expected[at])!r} within {float(gate[at]):.3g}")
    return None


def sharpness(reference, types):
    """(widest gate beside max(|values|, 1/4), number of outputs whose gate is too wide to see a small fault)"""
    widest, blind = 0.0, 0
    for (expected, gate), type in zip(reference, types):
        if gate is None or not gate.size:
            continue
        ratio = float(gate.max() / max(np.abs(expected).max(), 0.25))
        widest = max(widest, ratio)
        blind += ratio > SHARP[type]
    return widest, blind


# ---------------------------------------------------------------------------------------------- judging
def describe_fusion(report):
    """What the report says of fusion: calls of kernels before and after, groups, their members, groups that Check refused, and edges between
    calls that could be fused by themselves, and were."""
    fusion = report.get("fusion") or {}
    names = ("calls_before", "calls", "groups", "members", "refused", "fusible_edges", "fused_edges", "grouping_seconds")
    return {name: fusion.get(name, 0) for name in names}


def measure(subject, artifacts, limit=1.02):
    """Time of the fused artifact beside the unfused one: runs in turn, the fastest of each; measured again up to three times while above `limit`."""
    inputs = ["-inputs=" + ",".join(subject.runs[0])] if subject.runs[0] else []

    def once(path):
        text = call([tool("dlc-exec"), path, *inputs, "-bench=20"], "run").stdout
        return float(text.split()[0])

    ratio = None
    for _ in range(4):
        best = [min(times) for times in zip(*[(once(artifacts["reassoc"]), once(artifacts["reassoc_off"])) for _ in range(4)])]
        ratio = min(ratio or 1e9, best[0] / best[1])
        if ratio <= limit:
            break
    return ratio


def references_of(case):
    return [evaluate.reference(case.model, feed) for feed in case.feeds]


def judge(case, folder, fusion, options=(), timed=False, references=None, unfused=True):
    """What was found out about one graph, a dict; raises Failure. `fusion`: compile with -fuse=on and -fuse=off;
    `unfused`: reassoc too. `references`: of the case, when they are known."""
    subject = Subject(case, folder)
    found = {"name": case.name, "ops": case.ops}
    variants = {"strict": ["-fp=strict"], "reassoc": ["-fp=reassoc"]}
    if fusion:
        variants = {name: [*flags, "-fuse=on"] for name, flags in variants.items()}
        variants.update(strict_off=["-fp=strict", "-fuse=off"])
        if unfused or timed:
            variants.update(reassoc_off=["-fp=reassoc", "-fuse=off"])
    references = references or references_of(case)
    artifacts = {name: subject.compile(name, *flags, *options) for name, flags in variants.items()}
    for number, feed in enumerate(case.feeds):
        results = {name: subject.run(path, number) for name, path in artifacts.items()}
        oracle = subject.interpret(number)
        where = f"run {number}, " if len(case.feeds) > 1 else ""
        for name in ("strict_off", "strict"):
            if name in results and (text := same_bits(results[name], oracle)):
                raise Failure("bits", f"{where}{name} against the interpreter: {text}")
        if fusion and (text := same_bits(results["strict"], results["strict_off"])):
            raise Failure("bits", f"{where}strict with fusion against without: {text}")
        reference = references[number]
        found["widest"], found["blind"] = sharpness(reference, subject.types)
        for name in ("strict", "reassoc_off", "reassoc"):
            if name in results and (text := within_gate(results[name], reference)):
                if name == "strict" and not within_gate(results[name], evaluate.reference(case.model, feed, ordered=True)):
                    continue
                if name == "reassoc" and fusion and "reassoc_off" not in results:
                    other = subject.run(subject.compile("reassoc_off", "-fp=reassoc", "-fuse=off", *options), number)
                    text += "; unfused " + (within_gate(other, reference) or "it is right")
                raise Failure("gate", f"{where}{name}: {text}")
    with open(artifacts["reassoc"][:-3] + ".json") as file:
        report = json.load(file)
    found["kernels"] = report["kernels_native"]
    found["fusion"] = describe_fusion(report)
    found["seconds"] = {name: round(s, 2) for name, s in subject.seconds.items()}
    if timed and fusion:
        found["time"] = measure(subject, artifacts)
    if found["fusion"]["refused"]:
        raise Failure("refused", f"{found['fusion']['refused']} groups were refused by the checker")
    return found


def judge_controls(case, reference=None):
    """(planted, missed): how many kinds of faults were planted into the model and asked the same comparisons, and which were not seen.

    The broken model is evaluated in its own precision. A fault that changes no value (a swap of equals) is not planted, nor one that even in
    float64 stays within twice the gate at every output, because the graph damps it: then the next place is tried, the last ones next to the
    outputs. So a gate that is too wide leaves nothing to plant; "all" is missed then. In bf16 and f16 the gate is a few roundings of 2^-8 or
    2^-11 wide: there only faults that change an f32 or integer output must be seen by it; small ones are left to strict's bits."""
    feed = case.feeds[0]
    reference = reference or evaluate.reference(case.model, feed)
    planted, missed = 0, []
    clean = controls.evaluate_single(case.model, feed)
    if text := within_gate(clean, reference):
        raise Failure("controls", f"the unbroken graph is outside the gate: {text}")
    wide = all(o.type.tensor_type.elem_type in (TensorProto.BFLOAT16, TensorProto.FLOAT16) for o in case.model.graph.output)
    changes = False
    for kind, places in controls.broken_models(case.model):
        for broken in places:
            try:
                results = controls.evaluate_single(broken, feed)
            except (ValueError, IndexError):  # the fault is in the arithmetic of shapes: there is no such model
                continue
            if same_bits(results, clean) is None:
                continue
            changes = True
            seen = within_gate(results, reference)
            if seen or within_gate([v.array for v in evaluate.Plan(broken).run(feed)], reference, 2):
                planted += 1
                missed += [] if seen or wide else [kind]
                break
    if changes and not planted and not wide:
        missed.append("all")
    return planted, missed


def work(task):
    family, seed, arguments, fusion = task
    name = f"{family} {seed}"
    folder = tempfile.mkdtemp(prefix=f"judge-{family}-{seed}-", dir=arguments.keep)
    found = {"name": name}
    try:
        low, _, high = arguments.ops.partition("-")
        ops = int(low) + seed * 97 % (int(high or low) - int(low) + 1)
        case = graphs.make(family, seed, ops, arguments.symbolic)
        references = references_of(case)
        found = judge(case, folder, fusion, timed=arguments.time, references=references, unfused=arguments.unfused)
        if arguments.controls:
            found["planted"], found["missed"] = judge_controls(case, references[0])
            if found["missed"]:
                raise Failure("controls", f"not seen: {', '.join(found['missed'])}")
    except Failure as failure:
        found.update(failure=str(failure), kind=failure.kind, folder=folder)
    except Exception as error:  # noqa: BLE001  a generator or evaluator that breaks is a failure of this graph, not of all
        found.update(failure=f"judge: {type(error).__name__}: {error}", kind="judge", folder=folder)
    if "failure" not in found or not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def line_of(found):
    if "failure" in found:
        return f"FAILED  {found['name']}: {found['failure']}"
    fusion = found["fusion"]
    share = f", {fusion['calls_before']} -> {fusion['calls']} calls in {fusion['groups']} groups" if fusion["calls_before"] else ""
    share += f", {found['time']:.3f} x the time" if "time" in found else ""
    control = f", {found['planted']} faults seen" if "planted" in found else ""
    blind = f", {found['blind']} outputs with a wide gate" if found["blind"] else ""
    return (f"passed  {found['name']}: {found['ops']} nodes, {found['kernels']} kernels{share}, gate {found['widest']:.1e}{blind}{control}, "
            f"compiled in {sum(found['seconds'].values()):.1f} s")


def parse_seeds(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(graphs.FAMILIES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--ops", default="1000", help="nodes, or a range from which the seed draws")
    parser.add_argument("--symbolic", action="store_true")
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--unfused", action="store_true", help="judge -fp=reassoc -fuse=off too")
    parser.add_argument("--time", action="store_true", help="measure fused beside unfused")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", help="a folder for the files of what failed")
    parser.add_argument("--json", help="append what was found, a line a graph")
    arguments = parser.parse_args()
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
    fusion = knows_fusion()
    tasks = [(family, seed, arguments, fusion) for family in arguments.families.split(",") for seed in parse_seeds(arguments.seeds)]
    results = []
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(work, tasks):
            results.append(found)
            print(line_of(found), flush=True)
            if arguments.json:
                with open(arguments.json, "a") as file:
                    file.write(json.dumps(found) + "\n")
    failed = [r for r in results if "failure" in r]
    good = [r for r in results if "failure" not in r]
    calls = [(r["fusion"]["calls_before"], r["fusion"]["calls"]) for r in good if r["fusion"]["calls_before"]]
    if calls:
        before, after = map(sum, zip(*calls))
        fusible, fused = (sum(r["fusion"][name] for r in good) for name in ("fusible_edges", "fused_edges"))
        print(f"{before} -> {after} calls, {100 * (1 - after / before):.1f} % fused away; {100 * fused / max(fusible, 1):.1f} % of {fusible} fusible edges "
              "are inside groups")
    times = [r["time"] for r in good if "time" in r]
    if times:
        print(f"{sum(t <= 1.02 for t in times)} of {len(times)} graphs take at most 1.02 x the unfused time, worst {max(times):.3f}, "
              f"geometric mean {np.exp(np.mean(np.log(times))):.3f}")
    wrong = sum(r["kind"] in ("bits", "gate", "run") for r in failed)
    print(f"success {100 * len(good) / max(len(results), 1):.1f} %, {wrong} wrong results" + ("" if fusion else " (this dlc has no -fuse: unfused only)"))
    print(f"{len(good)} passed, {len(failed)} failed, 0 skipped")
    sys.exit(1 if failed or not results else 0)


if __name__ == "__main__":
    main()
