#!/usr/bin/env python3
"""Any ONNX models beside onnxruntime, on random inputs: check_zoo.py FOLDER|FILE... [--static] [--time] [--only=PREFIX].

A model is compiled once with its symbolic dims and run at two sets of sizes (SIZES, by the start of the file's name; other symbolic dims
are 1, and other models run once). --static: compiled for each set. What REFUSED lists must be refused in its words. A result is right within 1e-4 of the largest number, within 1e-6, or if
onnxruntime's optimised model is as far (a twentieth) from its unoptimised one. --time adds milliseconds on one thread. Last line: N passed, N failed, N skipped; skipped is what onnxruntime does not run."""
import argparse
import glob
import os
import sys
import time

import numpy as np
import onnx
import onnxruntime

import dlc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_model import judge_rejects_a_fault, largest_error  # noqa: E402

LIMIT = 1e-4
SIZES = {"320n": ([1, 3, 320, 320], [1, 3, 224, 256]), "PP-OCRv6_det": ([1, 3, 320, 480], [1, 3, 160, 224]), "PP-OCRv6_rec": ([1, 3, 48, 320], [2, 3, 48, 100]),
         "Run_": ([1, 3, 200, 160], [1, 3, 301, 160]), "ch_PP-OCRv4_det": ([1, 3, 320, 480], [2, 3, 96, 128]), "ch_PP-OCRv4_rec": ([1, 3, 48, 320], [3, 3, 48, 77]),
         "ch_ppocr_mobile": ([1, 3, 48, 192], [4, 3, 48, 192]), "common_det": ([1, 3, 416, 416],), "common": ([1, 1, 64, 200], [1, 1, 64, 131]),
         "embedding": ([1, 76, 32, 1], [5, 76, 32, 1]), "hey_mycroft": ([1, 16, 96], [3, 16, 96]), "melspec": ([1, 16000], [2, 12345]),
         "model_v8": ([1, 900, 120], [3, 900, 120]), "nmp": ([1, 43844, 1], [2, 43844, 1]), "open-nsfw": ([1, 224, 224, 3], [2, 224, 224, 3]),
         "plcmos": ([1, 1, 200, 257], [2, 1, 333, 257]), "rapid_orient": ([1, 3, 224, 224], [3, 3, 224, 224]), "sig_bak": ([1, 144160], [2, 144160]),
         "sig_": ([1, 901, 161], [2, 901, 161]), "bak_ovr": ([1, 901, 161], [2, 901, 161]), "silero_vad": ([1, 576], [3, 576])}

# What dlc says no to, by the start of the name: that the model has it with symbolic dims alone, and the words.
REFUSED = [("Run_", True, "a slice of a symbolic dim"), ("Run_", True, "without 'axes' a dim of 1 is squeezed"),
           ("plcmos", True, "without 'axes' a dim of 1 is squeezed"),
           ("silero_vad", True, "under a condition that only the run tells"), ("silero_vad", True, "a slice of a symbolic dim")]


def make_inputs(model, name, number):
    """{name: array} of set `number`, or None where there is none."""
    rng, weights, feed = np.random.default_rng(number + 1), {i.name for i in model.graph.initializer}, {}
    sizes = next((s for start, s in SIZES.items() if name.startswith(start)), None)
    batch = 1
    for value in (i for i in model.graph.input if i.name not in weights):
        tensor = value.type.tensor_type
        shape = [d.dim_value if d.dim_value > 0 else 0 for d in tensor.shape.dim]
        if not feed and sizes:
            if number >= len(sizes):
                return None
            shape, batch = sizes[number], sizes[number][0]
        elif not feed and number:
            return None
        shape = [n or batch for n in shape]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if value.name == "sr":
            feed[value.name] = np.array(16000, kind)
        elif kind == np.int64 and feed:  # a mask of tokens
            feed[value.name] = np.ones(shape, kind)
            feed[value.name][-1, shape[-1] * 2 // 3:] = 0
        elif np.issubdtype(kind, np.integer):
            feed[value.name] = rng.integers(1, 99, shape).astype(kind)
        else:
            feed[value.name] = rng.standard_normal(shape).astype(kind)
    return feed


def start_peer(path, optimized):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def is_near(actual, expected):
    """Within 1e-6: numbers next to nothing."""
    return actual.dtype.kind == "f" and actual.shape == expected.shape and np.allclose(actual, expected, rtol=0, atol=1e-6)


def measure(run):
    """The median of half a second of runs, in ms."""
    samples, end = [], time.perf_counter() + 0.5
    while len(samples) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return sorted(samples)[len(samples) // 2] * 1e3


def check(path, arguments):
    """[passed, failed, skipped] of a file; prints a line a set of sizes."""
    name, counts, compiled = os.path.basename(path)[:-5], [0, 0, 0], None
    model = onnx.load(path)
    for number in (0, 1):
        feed = make_inputs(model, name, number)
        if feed is None:
            continue
        try:
            peer = start_peer(path, True)
            expected, optimized = start_peer(path, False).run(None, feed), peer.run(None, feed)
        except Exception as e:  # noqa: BLE001 onnxruntime's own kinds
            print(f"skipped {name}: onnxruntime: {str(e)[:120]}".replace("\n", " "), flush=True)
            counts[2] += 1
            continue
        try:
            if compiled is None or arguments.static:
                start = time.perf_counter()
                compiled = dlc.compile(path, **({"shapes": {n: list(a.shape) for n, a in feed.items()}} if arguments.static else {}))
                seconds = time.perf_counter() - start
            actual = compiled.run(feed)
        except dlc.Error as e:
            known = any(name.startswith(start) and words in str(e) for start, symbolic, words in REFUSED if not (symbolic and arguments.static))
            print(f"{'refused' if known else 'failed '} {name} {number}: {type(e).__name__}: {str(e)[:200]}".replace("\n", " "), flush=True)
            counts[0 if known else 1] += 1
            continue
        if not judge_rejects_a_fault(expected, LIMIT):
            sys.exit("the judge takes a planted fault for right")
        right, worst, peers_worst = True, 0.0, 0.0
        for a, b, o in zip(map(np.asarray, actual), expected, optimized, strict=True):
            ours, theirs = largest_error(a, b), largest_error(o, b)
            right &= a.dtype == b.dtype and (ours <= max(LIMIT, 20 * theirs) or is_near(a, b))
            worst, peers_worst = max(worst, ours), max(peers_worst, theirs)
        counts[0 if right else 1] += 1
        line = f"{'passed ' if right else 'failed '} {name} {number}: {worst:.1e} ({peers_worst:.0e}), {seconds:.1f} s"
        if arguments.time:
            times = [[], []]
            for _ in range(2):  # in turns
                times[0].append(measure(lambda: peer.run(None, feed)))
                times[1].append(measure(lambda: compiled.run(feed)))
            theirs, ours = map(min, times)
            line += f", onnxruntime {theirs:.3f} ms, dlc {ours:.3f} ms, {theirs / ours:.2f}"
        print(line, flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    files = [f for p in arguments.paths for f in (sorted(glob.glob(os.path.join(p, "*.onnx"))) if os.path.isdir(p) else [p])]
    total = np.sum([[0, 0, 0]] + [check(f, arguments) for f in files if os.path.basename(f).startswith(arguments.only)], axis=0)
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return int(total[1] > 0)


if __name__ == "__main__":
    sys.exit(main())
