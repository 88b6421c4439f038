#!/usr/bin/env python3
"""The demo: compile a real, trained text recogniser with dlc, read a line of text with it, time it beside onnxruntime.

    demo.py [text]          run by utils/demo.sh, which builds dlc and sets the paths

The model is PP-OCRv4's recogniser (a convolutional network with attention blocks, 10 MB, Apache-2.0), which ships in the
PyPI package rapidocr-onnxruntime. It is downloaded once, checked against a pinned checksum and kept in build/demo. The
picture is drawn here, so that nothing but text has to be believed: it goes in as float32
[1, 3, 48, 320] in [-1, 1], and comes out as float32 [1, 40, 6625], the probability of each character in 40 columns."""
import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "utils", "bench"))
import real_models  # noqa: E402

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
SHA256 = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
HEIGHT, WIDTH = 48, 320


def fetch_model(folder):
    """Path of the model in `folder`, downloaded on the first call. Exits when it is not the file that is pinned."""
    path = os.path.join(folder, os.path.basename(MODEL))
    if not os.path.exists(path):
        blob = real_models.wheel_member(PACKAGE, MODEL, folder)
        if hashlib.sha256(blob).hexdigest() != SHA256:
            sys.exit(f"demo: {MODEL} of {PACKAGE} is not the file that was pinned: sha256 {hashlib.sha256(blob).hexdigest()}")
        with open(path + ".part", "wb") as file:
            file.write(blob)
        os.replace(path + ".part", path)
    return path


def with_fixed_input(path, folder):
    """The same model with its symbolic input dims bound to one picture of HEIGHT x WIDTH; the path of the copy.

    Only what the graph declares of its input and outputs changes; the nodes stay as they are."""
    import onnx

    model = onnx.load(path)
    (source,) = [i for i in model.graph.input if i.name not in {w.name for w in model.graph.initializer}]
    for dim, size in zip(source.type.tensor_type.shape.dim, (1, 3, HEIGHT, WIDTH)):
        dim.dim_value = size
    for result in model.graph.output:
        result.type.tensor_type.ClearField("shape")
    fixed = os.path.join(folder, "recogniser.onnx")
    onnx.save(model, fixed)
    (characters,) = [entry.value for entry in model.metadata_props if entry.key == "character"]
    # Index 0 is CTC's blank; the space comes after the characters of the dictionary.
    return fixed, source.name, ["", *characters.split("\n"), " "]


def draw(text):
    """`text` drawn in black on white: float32 [1, 3, HEIGHT, WIDTH] in [-1, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    size = 32
    font = ImageFont.load_default(size)
    while pen.textlength(text, font) > WIDTH - 16 and size > 8:
        size -= 1
        font = ImageFont.load_default(size)
    pen.text((8, HEIGHT // 2), text, "black", font, anchor="lm")
    pixels = np.asarray(picture, np.float32) / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), picture


def read(scores, characters):
    """The text of scores [1, columns, characters]: the best of each column without repetitions and blanks (CTC), trimmed."""
    best = scores[0].argmax(-1)
    kept = [index for place, index in enumerate(best) if index and (place == 0 or index != best[place - 1])]
    return "".join(characters[index] for index in kept).strip()


def show(picture):
    """The picture in half-block characters, so that it can be seen in a terminal."""
    small = np.asarray(picture.convert("L").resize((100, 18))) < 140
    for top, bottom in zip(small[::2], small[1::2]):
        print("  " + "".join(" ▄▀█"[2 * t + b] for t, b in zip(top.astype(int), bottom.astype(int))).rstrip())


def median_ms(calls, blocks=4, runs=8):
    """Median milliseconds of each call. They take turns in blocks, so that all see the same load; a pause and two calls
    that do not count come first, because a system's worker threads spin for a while after their last run."""
    samples = [[] for _ in calls]
    for _ in range(blocks):
        for call, found in zip(calls, samples):
            time.sleep(0.1)
            for run in range(runs + 2):
                start = time.perf_counter()
                call()
                if run >= 2:
                    found.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(found) for found in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="Hello from dlc 2026")
    parser.add_argument("--folder", default=os.path.join(ROOT, "build", "demo"), help="where the model and the code go")
    parser.add_argument("--dlc", default=os.path.join(ROOT, "build", "bin", "dlc"), help="the compiler")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    os.environ["DLC_NUM_THREADS"] = str(arguments.threads)
    import dlc
    import onnxruntime

    print(f"model   {MODEL.rsplit('/', 1)[1]} from the package {PACKAGE}")
    model, name, characters = with_fixed_input(fetch_model(arguments.folder), arguments.folder)
    library = os.path.join(arguments.folder, "recogniser.so")
    command = [arguments.dlc, model, "-target=host", "-o", library]
    print("compile " + " ".join(os.path.relpath(part) if os.path.sep in part else part for part in command), flush=True)
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start

    pixels, picture = draw(arguments.text)
    print("input")
    show(picture)
    compiled = dlc.load(library)
    scores = compiled.run({name: pixels})[0]
    print(f"answer  {read(scores, characters)}")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {name: pixels})[0]
    error = float(np.abs(scores - expected).max() / np.abs(expected).max())
    ours, theirs = median_ms([lambda: compiled.run({name: pixels}), lambda: session.run(None, {name: pixels})])
    print(f"compare onnxruntime {onnxruntime.__version__} reads {read(expected, characters)!r}, max|a-b| / max|b| = {error:.1e}")
    print(f"time    dlc {ours:.2f} ms, onnxruntime {theirs:.2f} ms a picture ({arguments.threads} threads, median of 32)")
    print(f"        compiled in {seconds:.1f} s")
    if error > 1e-4:
        sys.exit("demo: dlc and onnxruntime differ by more than 1e-4")


if __name__ == "__main__":
    main()
