#!/usr/bin/env python3
"""One block of a decoder at long contexts, beside the same in numpy's float64 (docs/llm.md).

    python utils/full/check_long.py decode  [--context=1048576] [--kv=int4] [--steps=8]
    python utils/full/check_long.py prefill [--context=131072] [--kv=asis]

decode: the cache is filled with `context` tokens, then `steps` tokens are decoded against all of them. The model gives
the logits of its last token, so that filling costs one query a chunk.
prefill: `context` tokens in chunks, every token a query; tokens are drawn chunk by chunk and none is kept. The process
that runs the model has loaded nothing but the runtime and numpy.

Exit code 1 where a bound does not hold:
    logits, max|a - b| / max|a|   asis <= 1e-4, int8 <= 1e-2, int4 <= 5e-2
    bytes of the cache            int8 <= 0.30, int4 <= 0.16 of float32's; decode
    resident memory               below 2 GB; prefill
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "examples", "llm"))

SHAPE = dict(layers=1, heads=4, kv_heads=2, head_dim=128, hidden=256, inner=512, vocab=512, branch=0.5)
ERRORS = {"asis": 1e-4, "int8": 1e-2, "int4": 5e-2}
BYTES = {"int8": 0.30, "int4": 0.16}
MEMORY = 2e9


def tokens(seed, chunk, count):
    """The ids of chunk number `chunk`, int64 [1, count]."""
    return np.random.default_rng((seed, chunk)).integers(0, SHAPE["vocab"], (1, count))


def step_token(seed, step):
    """The id that is decoded as number `step`, int64 [1, 1]."""
    return np.random.default_rng((seed, 1, step)).integers(0, SHAPE["vocab"], (1, 1))


class Reference:
    """The block in float64, a chunk of keys at a time; queries are the tokens `ids` at the positions `at`."""

    def __init__(self, weights, at, ids):
        self.w = {name: value.astype(np.float64) for name, value in weights.items()}
        self.at, self.length = np.asarray(at), 0
        heads, width = SHAPE["heads"], SHAPE["head_dim"]
        self.x = self.w["embed"][ids]
        self.q = self.rotated(self.heads_of("q0", self.norm(self.x, "norm0")), self.at)
        self.most = np.full((len(at), heads), -np.inf)
        self.sum = np.zeros((len(at), heads))
        self.out = np.zeros((len(at), heads, width))

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.w[name]

    def rotated(self, x, positions):
        half = SHAPE["head_dim"] // 2
        angles = positions[:, None] * 10000.0 ** -(np.arange(half) / half)
        cos, sin = (np.concatenate([f(angles)] * 2, -1)[:, None] for f in (np.cos, np.sin))
        low, high = x[..., :half], x[..., half:]
        return x * cos + np.concatenate([-high, low], -1) * sin

    def heads_of(self, name, rows):
        return (rows @ self.w[name]).reshape(len(rows), -1, SHAPE["head_dim"])

    def feed(self, ids):
        """Appends tokens: int64 [n]."""
        positions = np.arange(self.length, self.length + len(ids))
        y = self.norm(self.w["embed"][ids], "norm0")
        k, v = self.rotated(self.heads_of("k0", y), positions), self.heads_of("v0", y)
        for i in np.nonzero(self.at >= self.length)[0]:
            count = min(len(ids), self.at[i] + 1 - self.length)
            for h in range(SHAPE["heads"]):
                head = h * SHAPE["kv_heads"] // SHAPE["heads"]
                s = k[:count, head] @ self.q[i, h] / np.sqrt(SHAPE["head_dim"])
                most = max(self.most[i, h], s.max())
                old, e = np.exp(self.most[i, h] - most), np.exp(s - most)
                self.sum[i, h] = self.sum[i, h] * old + e.sum()
                self.out[i, h] = self.out[i, h] * old + e @ v[:count, head]
                self.most[i, h] = most
        self.length += len(ids)

    def logits(self):
        """float64 [queries, vocab]."""
        x = self.x + (self.out / self.sum[..., None]).reshape(len(self.at), -1) @ self.w["o0"]
        y = self.norm(x, "norm0b")
        gate = y @ self.w["gate0"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ self.w["up0"])) @ self.w["down0"]
        return self.norm(x, "norm") * 3.0 @ self.w["head"]


def build(options, folder):
    """Compiles the block; returns its artifact, and its weights by name."""
    import decoder as decoders
    import generate as llm
    from onnx import numpy_helper

    proto = decoders.make_decoder(**SHAPE, last=options.unit == "decode")
    model = llm.compile_decoder(proto, options.context + options.steps, kv=options.kv, threads=options.threads, output=os.path.join(folder, "block.so"))
    del model
    return os.path.join(folder, "block.so"), {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}


def run(options, artifact):
    """In a process of its own: feeds the tokens; prints what it saw as JSON, the logits as lists."""
    import dlc
    import generate as llm

    decoder = llm.Decoder(dlc.load(artifact, threads=options.threads))
    start = time.monotonic()
    logits, seconds = {}, []
    for chunk in range(0, options.context // options.chunk):
        last = decoder.feed(tokens(options.seed, chunk, options.chunk))[0]
        logits[decoder.length - 1] = last.tolist()
        if chunk % 16 == 15:
            print(f"{decoder.length} tokens in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    filled = time.monotonic() - start
    for step in range(options.steps):
        ids = step_token(options.seed, step)
        begin = time.monotonic()
        last = decoder.feed(ids)[0]
        seconds.append(time.monotonic() - begin)
        logits[decoder.length - 1] = last.tolist()
    print(json.dumps({"logits": logits, "filled": filled, "seconds": seconds, "bytes": decoder.model.state_bytes, "rows": decoder.length,
                      "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unit", choices=("decode", "prefill"))
    parser.add_argument("--context", type=int)
    parser.add_argument("--kv", choices=ERRORS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plant", action="store_true", help="the reference takes another last token: must fail")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    decodes = options.unit == "decode"
    options.context = options.context or (1 << 20 if decodes else 1 << 17)
    options.kv = options.kv or ("int4" if decodes else "asis")
    options.steps = (8 if decodes else 0) if options.steps is None else options.steps
    options.chunk = options.chunk or (4096 if decodes else 512)
    if options.context % options.chunk:
        parser.error("the context is not whole chunks")
    if options.run:
        run(options, options.run)
        return

    with tempfile.TemporaryDirectory() as folder:
        artifact, weights = build(options, folder)
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], f"--run={artifact}"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the model's process failed: {done.returncode}")
    saw = json.loads(done.stdout)
    # Of a prefill, the ends of some chunks; the last one has seen everything.
    ends = [int(p) for p in saw["logits"]]
    at = ends[-options.steps :] if decodes else sorted({ends[0], ends[len(ends) // 3], ends[-1]})
    steps = [step_token(options.seed, step)[0] for step in range(options.steps)]
    last = {(c + 1) * options.chunk - 1: tokens(options.seed, c, options.chunk)[0, -1] for c in range(options.context // options.chunk)}
    last.update({options.context + i: ids[0] for i, ids in enumerate(steps)})
    known = np.array([last[p] for p in at])
    known[-1] = (known[-1] + options.plant) % SHAPE["vocab"]
    reference = Reference(weights, at, known)
    for chunk in range(options.context // options.chunk):
        reference.feed(tokens(options.seed, chunk, options.chunk)[0])
    for ids in steps:
        reference.feed(ids)
    worst = 0.0
    for position, want in zip(at, reference.logits()):
        have = np.array(saw["logits"][str(position)])
        worst = max(worst, float(np.abs(have - want).max() / np.abs(want).max()))
    rows = options.context + options.steps
    share = saw["bytes"] / (rows * SHAPE["kv_heads"] * SHAPE["head_dim"] * 2 * 4)
    ok = saw["rows"] == rows and 0 < worst <= ERRORS[options.kv]
    text = f"{options.unit} {options.kv}: {saw['rows']} rows in {saw['filled']:.1f} s, error {worst:.2e} (<= {ERRORS[options.kv]:.0e}), bytes {share:.4f} of float32's"
    if decodes:
        limit = BYTES.get(options.kv)
        ok = ok and (limit is None or share <= limit)
        text += f" (<= {limit}), step {np.median(saw['seconds']) * 1e3:.1f} ms"
    else:
        ok = ok and saw["resident"] < MEMORY
    print(f"{text}, resident {saw['resident'] / 1e9:.2f} GB" + ("" if decodes else f" (< {MEMORY / 1e9:.0f})"))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
