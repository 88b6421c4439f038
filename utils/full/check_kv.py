#!/usr/bin/env python3
"""A decoder with its cache in few bits beside the same with its cache as it is: bytes, logits, best tokens (docs/llm.md).

    python utils/full/check_kv.py [model.onnx] [--bits=8] [--context=32768] [--steps=256]

Both are fed the same random tokens: `context` of them, then `steps` one at a time, whose logits are compared. Without a
model: a small decoder with random weights. Exit code 1 where a bound does not hold:
    bytes of the cache            int8 <= 0.30, int4 <= 0.16 of float32's
    max|a - b| / max|a|           int8 <= 1e-2, int4 <= 5e-2, of each step's logits
    the same best token           int8 >= 99 %, int4 >= 97 % of the steps whose two best logits are 1 %, 5 % of max|a| apart
"""

import argparse
import os
import sys
import time

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "examples", "llm"))
import decoder as decoders  # noqa: E402
import generate as llm  # noqa: E402

BOUNDS = {8: (0.30, 1e-2, 0.99, 0.01), 4: (0.16, 5e-2, 0.97, 0.05)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--bits", type=int, choices=BOUNDS, default=8)
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    proto = options.model or decoders.make_decoder(layers=2, heads=4, kv_heads=2, head_dim=128, hidden=256, inner=512, vocab=512, branch=0.5)
    longest = options.context + options.steps
    exact, few = (llm.Decoder(llm.compile_decoder(proto, longest, kv=kv)) for kv in ("asis", f"int{options.bits}"))
    vocabulary = exact.model.outputs[exact.logits]["shape"][2]
    ids = np.random.default_rng(options.seed).integers(0, vocabulary, (1, longest))
    for name, one in (("as is", exact), (f"int{options.bits}", few)):
        start = time.monotonic()
        one.prefill(ids[:, : options.context], options.chunk)
        print(f"{name}: {one.length} tokens in {time.monotonic() - start:.1f} s", flush=True)
    worst, decided, agreed, seconds = 0.0, 0, 0, [[], []]
    most, bound, share, gap = BOUNDS[options.bits]
    for i in range(options.context, longest):
        logits = []
        for one, times in zip((exact, few), seconds):
            start = time.monotonic()
            logits.append(one.feed(ids[:, i : i + 1])[0])
            times.append(time.monotonic() - start)
        want, have = logits
        largest = np.abs(want).max()
        worst = max(worst, float(np.abs(want - have).max() / largest))
        best = np.sort(want)[-2:]
        if best[1] - best[0] > gap * largest:
            decided += 1
            agreed += int(want.argmax() == have.argmax())
    ratio = few.model.state_bytes / exact.model.state_bytes
    print(f"int{options.bits}: {few.length} rows, bytes {ratio:.4f} (<= {most}), error {worst:.2e} (<= {bound:.0e}), best token {agreed} of {decided} "
          f"(>= {share:.0%}), step {np.median(seconds[1]) * 1e3:.2f} ms, as is {np.median(seconds[0]) * 1e3:.2f} ms")
    ok = ratio <= most and 0 < worst <= bound and decided and agreed >= share * decided
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
